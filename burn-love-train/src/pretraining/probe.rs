//! A linear probe: how well a linear classifier reads a label from features.
//!
//! Softmax regression on standardised features, fitted by gradient descent with Nesterov's momentum on the whole set. It
//! sees the encoder's features only, and is judged by features of samples that neither encoder nor probe learned from.

use rayon::prelude::*;

/// Steps of the fit.
const STEPS: usize = 500;
/// Share of a step that the next one keeps.
const MOMENTUM: f64 = 0.9;
/// Pull of the weights towards 0, per sample.
const RIDGE: f64 = 1e-4;
/// Rows that are summed one after the other; sums do not depend on the number of threads.
const BLOCK: usize = 256;

/// Features with labels.
#[derive(Debug, Clone, Default)]
pub struct Labelled {
    /// Features, row by row.
    pub features: Vec<f32>,
    /// A label for each row.
    pub labels: Vec<usize>,
}

impl Labelled {
    /// Adds a row.
    pub fn push(&mut self, features: &[f32], label: usize) {
        self.features.extend(features);
        self.labels.push(label);
    }

    fn width(&self) -> usize {
        self.features.len() / self.labels.len().max(1)
    }
}

/// The share of `held_out` that a linear classifier gets right which was fitted to `train`; 0 where either is empty.
pub fn probe(train: &Labelled, held_out: &Labelled) -> f64 {
    if train.labels.is_empty() || held_out.labels.is_empty() {
        return 0.0;
    }
    let scale = Scale::of(train);
    let fitted = fit(&scale.apply(train), &train.labels, scale.mean.len() + 1);
    let rows = scale.apply(held_out);
    let pairs = rows.chunks_exact(scale.mean.len() + 1).zip(&held_out.labels);
    let hits = pairs.filter(|(row, label)| {
        let scores = fitted.scores(row);
        // A label that `train` lacks cannot be found.
        let Some(own) = scores.get(**label) else {
            return false;
        };
        scores
            .iter()
            .enumerate()
            .all(|(i, score)| i == **label || score < own)
    });
    hits.count() as f64 / held_out.labels.len() as f64
}

/// Mean and deviation of each feature.
struct Scale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scale {
    fn of(data: &Labelled) -> Self {
        let (width, n) = (data.width(), data.labels.len() as f64);
        let rows = || data.features.chunks_exact(width);
        let moment = |of: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; width];
            rows().for_each(|row| (0..width).for_each(|i| sums[i] += of(i, f64::from(row[i])) / n));
            sums
        };
        let mean = moment(&|_, x| x);
        let variance = moment(&|i, x| (x - mean[i]).powi(2));
        let deviation = variance.into_iter().map(|v| v.sqrt().max(1e-6)).collect();
        Self { mean, deviation }
    }

    /// Standardised rows, each with a 1 at its end.
    fn apply(&self, data: &Labelled) -> Vec<f64> {
        let rows = data.features.chunks_exact(self.mean.len());
        rows.flat_map(|row| {
            let scaled = row.iter().zip(self.mean.iter().zip(&self.deviation));
            scaled
                .map(|(x, (mean, deviation))| (f64::from(*x) - mean) / deviation)
                .chain([1.0])
        })
        .collect()
    }
}

/// One row of weights for each class.
struct Linear {
    weights: Vec<f64>,
    width: usize,
}

impl Linear {
    fn scores(&self, row: &[f64]) -> Vec<f64> {
        let dot = |weights: &[f64]| weights.iter().zip(row).map(|(w, x)| w * x).sum();
        self.weights.chunks_exact(self.width).map(dot).collect()
    }

    /// Sum of the loss's gradients over rows.
    fn gradient(&self, rows: &[f64], labels: &[usize]) -> Vec<f64> {
        let mut sum = vec![0.0; self.weights.len()];
        for (row, label) in rows.chunks_exact(self.width).zip(labels) {
            let mut scores = self.scores(row);
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            scores
                .iter_mut()
                .for_each(|score| *score = (*score - largest).exp());
            let all: f64 = scores.iter().sum();
            for (class, (score, sum)) in scores.iter().zip(sum.chunks_exact_mut(self.width)).enumerate() {
                let off = score / all - f64::from(u8::from(class == *label));
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += off * x);
            }
        }
        sum
    }
}

fn fit(rows: &[f64], labels: &[usize], width: usize) -> Linear {
    let classes = labels.iter().max().map_or(0, |most| most + 1);
    let n = labels.len() as f64;
    let mut linear = Linear {
        weights: vec![0.0; classes * width],
        width,
    };
    // The loss curves at most by half of the rows' mean square length: this step is safe, and momentum makes it fast.
    let rate = 2.0 / (rows.iter().map(|x| x * x).sum::<f64>() / n);
    let mut speed = vec![0.0; linear.weights.len()];
    for _ in 0..STEPS {
        let here = linear.weights.clone();
        linear
            .weights
            .iter_mut()
            .zip(&speed)
            .for_each(|(w, v)| *w += MOMENTUM * v);
        let blocks = rows.par_chunks(BLOCK * width).zip(labels.par_chunks(BLOCK));
        let sums: Vec<Vec<f64>> = blocks
            .map(|(rows, labels)| linear.gradient(rows, labels))
            .collect();
        for i in 0..speed.len() {
            let gradient = sums.iter().map(|sum| sum[i]).sum::<f64>() / n + RIDGE * linear.weights[i];
            speed[i] = MOMENTUM * speed[i] - rate * gradient;
            linear.weights[i] = here[i] + speed[i];
        }
    }
    linear
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// 24 features, the first two on a ring of `classes` places, the others noise. With `noise` the places overlap.
    fn ring(n: usize, classes: usize, noise: f64, seed: u64) -> Labelled {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut data = Labelled::default();
        for i in 0..n {
            let label = i % classes;
            let angle = std::f64::consts::TAU * label as f64 / classes as f64;
            let mut row: Vec<f32> = (0..24).map(|_| rng.random_range(-5.0..5.0)).collect();
            let mut blur = || rng.random_range(-noise..=noise);
            (row[0], row[1]) = (
                (angle.cos() + blur()) as f32,
                (angle.sin() + blur()) as f32 + 100.0,
            );
            data.push(&row, label);
        }
        data
    }

    #[test]
    fn what_is_linear_is_read_and_what_is_not_there_is_not() {
        let right = probe(&ring(1200, 6, 0.1, 1), &ring(600, 6, 0.1, 2));
        assert!(right > 0.99, "{right}");
        // Four places at the ends of two axes, two labels that take turns: no line parts them.
        let mut turns = [ring(800, 4, 0.1, 3), ring(400, 4, 0.1, 4)];
        turns
            .iter_mut()
            .for_each(|data| data.labels.iter_mut().for_each(|label| *label %= 2));
        let chance = probe(&turns[0], &turns[1]);
        assert!((0.3..0.7).contains(&chance), "{chance}");
        assert_eq!(probe(&Labelled::default(), &turns[1]), 0.0);
        // The probe never saw half of these labels.
        let half = probe(&turns[0], &ring(400, 4, 0.1, 4));
        assert!((0.0..0.5).contains(&half), "{half}");
    }
}
