//! What a stage of pre-training is made of.

use burn::{
    prelude::*,
    tensor::activation::{log_softmax, sigmoid},
};
use burn_love::weights::{State, WeightsError};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::{
    data::Split,
    training::{RunError, Values, bce_with_logits},
};

/// Distance below all other logits; f16 has room for it.
const NO_CHOICE: f64 = 1e4;

/// What a batch is drawn for: where it comes from, and how far the training has come.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// Where its samples come from: [`Split::Train`] to learn from, any other to be judged by.
    pub split: Split,
    /// Optimizer steps done, as a share of all.
    pub progress: f64,
}

/// The loss of a batch and what else is measured of it.
#[derive(Debug)]
pub struct Scored<B: Backend> {
    /// The loss, `[1]`.
    pub loss: Tensor<B, 1>,
    /// Values to average; `loss` is among them.
    pub values: Values,
}

/// Something that is measured at a stage's end, on what the training never saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// What is measured.
    pub name: String,
    /// Its value, a share of 1.
    pub value: f64,
    /// What it must reach before going on; `None` where it is only told.
    pub least: Option<f64>,
}

impl Gate {
    /// Whether the value is as high as it must be.
    pub fn passed(&self) -> bool {
        self.least.is_none_or(|least| self.value >= least)
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:.4}", self.name, self.value)?;
        match self.least {
            Some(least) if self.passed() => write!(f, "  (gate {least}: passed)"),
            Some(least) => write!(f, "  (gate {least}: missed)"),
            None => Ok(()),
        }
    }
}

/// A stage of pre-training: what learns, from what, and how it is judged.
pub trait Task: Sync {
    /// What learns: a part of the model, and heads that are thrown away.
    type Module<B: Backend>: Module<B>;
    /// Samples on the host.
    type Batch: Send;

    /// Clips, or sentences, to learn from and to be judged by.
    fn samples(&self) -> [usize; 2];

    /// The module with fresh weights, or, where a run `begins`, with those that the config names.
    ///
    /// # Errors
    /// If the weights cannot be used.
    fn init<B: Backend>(&self, device: &B::Device, begins: bool) -> Result<Self::Module<B>, WeightsError>;

    /// Draws samples.
    ///
    /// # Errors
    /// If one cannot be read.
    fn batch(&self, draw: Draw, rng: &mut ChaCha8Rng) -> Result<Self::Batch, RunError>;

    /// Judges a module by a batch.
    fn score<B: Backend>(
        &self,
        module: &Self::Module<B>,
        batch: Self::Batch,
        device: &B::Device,
    ) -> Scored<B>;

    /// What is measured at the end.
    ///
    /// # Errors
    /// If a sample cannot be read.
    fn gates<B: Backend>(&self, module: &Self::Module<B>, device: &B::Device) -> Result<Vec<Gate>, RunError>;

    /// The weights that the stage is for, under upstream names.
    fn state<B: Backend>(&self, module: &Self::Module<B>) -> State;
}

/// Values on a device.
pub(super) fn upload<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The values of scalars, read back at once.
pub(super) fn read<B: Backend, const N: usize>(scalars: [Tensor<B, 1>; N]) -> [f64; N] {
    let all = Tensor::cat(scalars.map(Tensor::detach).to_vec(), 0);
    let all = all.into_data().convert::<f64>();
    std::array::from_fn(|i| all.as_slice::<f64>().expect("just converted")[i])
}

/// What is added to logits of values that are no choice (0; 1 for those that are), so that no loss pulls at them.
///
/// # Shapes
/// - `choices`, output: `[N, C]`
pub(super) fn no_choice<B: Backend>(choices: Tensor<B, 2>) -> Tensor<B, 2> {
    (choices - 1.0) * NO_CHOICE
}

/// [`bce_with_logits`] of the values that are choices.
///
/// # Shapes
/// - `logits`, `labels`, `choices`: `[N, C]`; output: `[1]`
pub(super) fn bce_among<B: Backend>(
    logits: Tensor<B, 2>,
    labels: Tensor<B, 2>,
    choices: Tensor<B, 2>,
) -> Tensor<B, 1> {
    bce_with_logits(logits + no_choice(choices.clone()), labels * choices)
}

/// Cross-entropy with shares of classes: a mean over rows, weighted.
///
/// # Shapes
/// - `logits`, `shares`: `[N, C]`; `weights`: `[N, 1]`; output: `[1]`
pub(super) fn cross_entropy<B: Backend>(
    logits: Tensor<B, 2>,
    shares: Tensor<B, 2>,
    weights: Tensor<B, 2>,
) -> Tensor<B, 1> {
    let each = (log_softmax(logits, 1) * shares).sum_dim(1).neg() * weights.clone();
    (each.sum_dim(0) / (weights.sum_dim(0) + 1e-6)).reshape([1])
}

/// Mean squared distance of the logits' probabilities from values of 0 to 1.
///
/// # Shapes
/// - `logits`, `values`: `[N, C]`; output: `[1]`
pub(super) fn squared<B: Backend>(logits: Tensor<B, 2>, values: Tensor<B, 2>) -> Tensor<B, 1> {
    let off = sigmoid(logits) - values;
    (off.clone() * off).mean_dim(1).mean_dim(0).reshape([1])
}

/// Rows of `[N, C]` with a 1 at each label; rows without a label are empty.
pub(super) fn one_hot(labels: &[Option<usize>], classes: usize) -> Vec<f32> {
    let mut rows = vec![0.0; labels.len() * classes];
    for (row, label) in rows.chunks_exact_mut(classes).zip(labels) {
        if let Some(label) = label {
            row[*label] = 1.0;
        }
    }
    rows
}

/// Adds how often the largest logit is that of the label.
///
/// # Shapes
/// - `logits`: `[N, C]`
pub(super) fn put_accuracy<B: Backend>(
    values: &mut Values,
    name: &str,
    logits: Tensor<B, 2>,
    labels: &[Option<usize>],
) {
    let found = logits.detach().argmax(1).into_data().convert::<i64>();
    let found = found.as_slice::<i64>().expect("just converted");
    let labelled = || {
        found
            .iter()
            .zip(labels)
            .filter_map(|(i, label)| Some((*i, (*label)?)))
    };
    let hits = labelled().filter(|(i, label)| *i == *label as i64).count();
    let all = labelled().count();
    values.put(name, hits as f64 / all.max(1) as f64, all as f64);
}

/// Where a value is among others.
pub(super) fn index_of<T: PartialEq>(all: &[T], one: &T) -> Option<usize> {
    all.iter().position(|other| other == one)
}
