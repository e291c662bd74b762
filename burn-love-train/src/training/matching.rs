//! What is heard of what is seen: a loss on how well projected patches and sounds go together.
//!
//! As in ALBEF, modalities are aligned before they are fused; here expressions say which objects sound. Without that, an
//! object that should be silent is told from one that sounds only where both are there to be compared.

use burn::{prelude::*, tensor::activation::relu};

use super::nulls::stated_sound;
use crate::data::Row;

/// Share of a patch that an object covers at least, to be what the patch shows.
const SHOWN: f64 = 0.5;

/// Whose sounds are heard in a batch, and what the expressions say of them, row by row.
#[derive(Debug, Clone, Default)]
pub struct Hearing(Vec<Heard>);

#[derive(Debug, Clone)]
struct Heard {
    /// The video that is seen.
    seen: String,
    /// The video that is heard, if any is.
    heard: Option<String>,
    /// Whether the row's object sounds, where its expression says so.
    sounds: Option<bool>,
}

impl Hearing {
    /// Adds a row that is heard with the sound of the clip of another, or its own, or with none.
    pub(super) fn push(&mut self, row: &Row, sound: Option<&Row>) {
        self.0.push(Heard {
            seen: row.vid.clone(),
            heard: sound.map(|row| row.vid.clone()),
            sounds: stated_sound(&row.expression),
        });
    }

    /// Binary cross-entropy of what patches show being heard: means over the patches of objects that sound, over those of
    /// silent ones, and over all of them with the sounds of other clips, the latter two by half. Rows that show nothing do
    /// not count, nor do their own sounds where the expression does not say whether the object sounds.
    ///
    /// # Shapes
    /// - `logits`: `[B, P, B]`, patches of each row with the sounds of each; `covered`: `[B, P]`, in patches; output: `[1]`
    pub(super) fn loss<B: Backend>(&self, logits: Tensor<B, 3>, covered: Tensor<B, 2>) -> Tensor<B, 1> {
        let [b, ..] = logits.dims();
        let shown = covered.greater_equal_elem(SHOWN).float().unsqueeze_dim::<3>(2); // [B, P, 1]
        let softplus = relu(logits.clone()) + logits.clone().abs().neg().exp().log1p();
        let no = softplus.clone(); // −log(1 − p)
        let yes = softplus - logits; // −log p
        let mean = |losses: Tensor<B, 3>, counts: &dyn Fn(usize, usize) -> bool| {
            let pairs = (0..b * b).map(|i| f32::from(u8::from(counts(i / b, i % b))));
            let data = TensorData::new(pairs.collect::<Vec<_>>(), [b, 1, b]);
            let pairs = Tensor::<B, 3>::from_data(data, &losses.device()) * shown.clone(); // [B, P, B]
            (losses * pairs.clone()).sum() / pairs.sum().clamp_min(1.0)
        };
        let own = |i: usize, j: usize, sounds: bool| i == j && self.0[i].sounds == Some(sounds);
        let other = |i: usize, j: usize| i != j && self.0[j].heard.as_ref() != Some(&self.0[i].seen);
        let sounding = mean(yes, &|i, j| own(i, j, true));
        let silent = mean(no.clone(), &|i, j| own(i, j, false));
        let others = mean(no, &other);
        sounding + (silent + others) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;
    type B = burn_flex::Flex;

    fn row(vid: &str, expression: &str) -> Row {
        Row {
            vid: vid.into(),
            uid: format!("{vid}_thing_1"),
            split: Split::Train,
            fid: "1".into(),
            expression: expression.into(),
        }
    }

    #[test]
    fn objects_match_the_sounds_that_they_are_said_to_make() {
        let device = Default::default();
        let rows = [
            row("a", "the sounding star"),
            row("b", "the silent star"),
            row("c", "the red star"),
            row("a", "the loudest object"),
        ];
        let mut hearing = Hearing::default();
        for (row, sound) in rows.iter().zip([Some(0), Some(1), Some(2), None]) {
            hearing.push(row, sound.map(|i: usize| &rows[i]));
        }
        // Two patches, of which objects cover the first; the last row is a null and shows none.
        let covered = Tensor::<B, 2>::from_data([[0.9, 0.1], [0.5, 0.0], [1.0, 0.4], [0.0, 0.0]], &device);
        let logits: Vec<f32> = (0..32).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let at = |i: usize, j: usize| f64::from(logits[i * 8 + j]);
        let yes = |x: f64| (1.0 + (-x).exp()).ln();
        let no = |x: f64| (1.0 + x.exp()).ln();
        // The fourth row hears nothing, which matches no object; no row is heard in the clip of the first but itself.
        let pairs = [
            (0, 1),
            (0, 2),
            (0, 3),
            (1, 0),
            (1, 2),
            (1, 3),
            (2, 0),
            (2, 1),
            (2, 3),
        ];
        let others = pairs.iter().map(|(i, j)| no(at(*i, *j))).sum::<f64>() / pairs.len() as f64;
        let expected = yes(at(0, 0)) + (no(at(1, 1)) + others) / 2.0;
        let tensor = Tensor::<B, 1>::from_floats(logits.as_slice(), &device).reshape([4, 2, 4]);
        let found = f64::from(hearing.loss(tensor.clone(), covered.clone()).into_scalar());
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");

        // A row that is heard with the first one's sound is no other clip to it.
        hearing.0[3].heard = Some("a".into());
        let others: f64 = pairs
            .iter()
            .filter(|pair| **pair != (0, 3))
            .map(|(i, j)| no(at(*i, *j)))
            .sum();
        let expected = yes(at(0, 0)) + (no(at(1, 1)) + others / 8.0) / 2.0;
        let found = f64::from(hearing.loss(tensor.clone(), covered.clone()).into_scalar());
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        assert_eq!(hearing.loss(tensor, covered.zeros_like()).into_scalar(), 0.0);
    }
}
