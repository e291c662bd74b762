//! What the words alone say about whether an expression refers to nothing.

use super::*;

/// AUC on val and test rows of a logistic regression from the words of train rows to whether they refer to nothing.
pub fn bag_of_words_auc(graphs: &[SceneGraph]) -> f64 {
    let mut vocabulary: HashMap<&str, usize> = HashMap::new();
    for word in rows(graphs).flat_map(|(_, row)| row.expression.split(' ')) {
        let next = vocabulary.len();
        vocabulary.entry(word).or_insert(next);
    }
    let features = |row: &RowGraph| -> Vec<usize> {
        row.expression
            .split(' ')
            .map(|word| vocabulary[word])
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    };
    let (train, held): (Vec<_>, Vec<_>) = rows(graphs).partition(|(graph, _)| graph.split == Split::Train);
    let prepare = |set: Vec<(&SceneGraph, &RowGraph)>| -> Vec<(Vec<usize>, bool)> {
        set.into_iter()
            .map(|(_, row)| (features(row), is_null(row)))
            .collect()
    };
    let (train, held) = (prepare(train), prepare(held));
    let mut weights = vec![0.0f64; vocabulary.len() + 1];
    let bias = vocabulary.len();
    let score =
        |weights: &[f64], words: &[usize]| words.iter().map(|w| weights[*w]).sum::<f64>() + weights[bias];
    for _ in 0..400 {
        let mut gradient = vec![0.0; weights.len()];
        for (words, null) in &train {
            let error = 1.0 / (1.0 + (-score(&weights, words)).exp()) - f64::from(u8::from(*null));
            words.iter().chain([&bias]).for_each(|w| gradient[*w] += error);
        }
        for (weight, slope) in weights.iter_mut().zip(gradient) {
            *weight -= 1.0 * slope / train.len() as f64;
        }
    }
    let of = |wanted: bool| -> Vec<f64> {
        held.iter()
            .filter(|(_, null)| *null == wanted)
            .map(|(words, _)| score(&weights, words))
            .collect()
    };
    let (nulls, others) = (of(true), of(false));
    let above = |n: &f64| {
        others
            .iter()
            .map(|o| {
                if n > o {
                    1.0
                } else {
                    f64::from(u8::from(n == o)) / 2.0
                }
            })
            .sum::<f64>()
    };
    nulls.iter().map(above).sum::<f64>() / (nulls.len() * others.len()) as f64
}
