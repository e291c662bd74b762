//! What training minimises: BCE and DICE on masks, BCE on the object score, where the prompt points, and which patches the
//! fusion finds the object at.

use burn::{
    prelude::*,
    tensor::{
        activation::{log_softmax, relu, sigmoid},
        module::adaptive_avg_pool2d,
    },
};
use burn_love::{
    love::FramesOutput,
    ops::{mean_rows, resize_bilinear, sum_rows},
};

use super::batch::upload;
use crate::config::TrainConfig;

/// Keeps DICE of two empty masks finite.
const DICE_EPSILON: f64 = 1e-6;
/// Less than a pixel covers of a cell.
const SMALLEST: f64 = 1e-6;

/// Weights of the parts of the loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// Weight of the masks' BCE.
    pub bce: f64,
    /// Weight of the masks' DICE.
    pub dice: f64,
    /// Weight of the object score's BCE.
    pub object: f64,
    /// Weight of the pointing's cross-entropy.
    pub pointing: f64,
    /// Weight of the grounding's cross-entropy.
    pub grounding: f64,
    /// Divisor inside DICE.
    pub dice_scale: f64,
}

/// The patches of a frame that the fusion is shown.
#[derive(Debug, Clone)]
pub struct VisiblePatches {
    /// Patches that a frame has, a square of them.
    pub total: usize,
    /// Those that are shown, in order.
    pub indices: Vec<usize>,
}

impl VisiblePatches {
    /// Those that are shown, `[P]`.
    pub(super) fn indices<B: Backend>(&self, device: &B::Device) -> Tensor<B, 1, Int> {
        upload(&self.indices, device)
    }
}

/// The loss and its parts, unweighted, each `[1]`.
#[derive(Debug, Clone)]
pub struct Losses<B: Backend> {
    /// The weighted sum.
    pub total: Tensor<B, 1>,
    /// BCE of the masks.
    pub bce: Tensor<B, 1>,
    /// DICE of the masks.
    pub dice: Tensor<B, 1>,
    /// BCE of the object scores.
    pub object: Tensor<B, 1>,
    /// Cross-entropy of where the prompts point.
    pub pointing: Tensor<B, 1>,
    /// Cross-entropy of the patches that the fusion finds, where it was asked for them.
    pub grounding: Option<Tensor<B, 1>>,
}

impl Objective {
    /// The objective of a config.
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            bce: config.lambda_bce,
            dice: config.lambda_dice,
            object: config.lambda_object,
            pointing: config.lambda_pointing,
            grounding: config.lambda_grounding,
            dice_scale: config.dice_scale,
        }
    }

    /// The loss of predictions, at the labels' resolution. `visible` are the patches that the fusion was shown, if not all.
    ///
    /// # Shapes
    /// - `labels`: `[B, K, H, W]`, 0 or 1
    ///
    /// # Panics
    /// If the prompt points into no square of cells, or a frame has no square of patches.
    pub fn losses<B: Backend>(
        &self,
        output: &FramesOutput<B>,
        labels: Tensor<B, 4>,
        visible: Option<&VisiblePatches>,
    ) -> Losses<B> {
        let [b, k, h, w] = labels.dims();
        let device = labels.device();
        let first = labels.clone().narrow(1, 0, 1);
        let [_, cells] = output.pointing.dims();
        let pointing = soft_cross_entropy(output.pointing.clone(), covered(first.clone(), cells));
        let grounding = output.grounding.clone().map(|found| {
            let covered = match visible {
                Some(patches) => covered(first, patches.total).select(1, patches.indices(&device)),
                None => covered(first, found.dims()[1]),
            };
            soft_cross_entropy_or_none(found, covered)
        });
        let logits = resize_bilinear(output.logits.clone(), [h, w]).reshape([b * k, h * w]);
        let labels = labels.reshape([b * k, h * w]);
        let present = labels.clone().max_dim(1); // [B·K, 1]
        let bce = bce_with_logits(logits.clone(), labels.clone());
        let dice = dice(sigmoid(logits), labels, self.dice_scale);
        let object = bce_with_logits(output.object_score.clone().reshape([b * k, 1]), present);
        let mut total = bce.clone() * self.bce + dice.clone() * self.dice + object.clone() * self.object;
        if self.pointing > 0.0 {
            total = total + pointing.clone() * self.pointing;
        }
        if self.grounding > 0.0
            && let Some(grounding) = &grounding
        {
            total = total + grounding.clone() * self.grounding;
        }
        Losses {
            total,
            bce,
            dice,
            object,
            pointing,
            grounding,
        }
    }
}

/// How much of each of a square of cells an object covers, in cells.
///
/// # Shapes
/// - `labels`: `[B, 1, H, W]`, 0 or 1; output: `[B, cells]`
fn covered<B: Backend>(labels: Tensor<B, 4>, cells: usize) -> Tensor<B, 2> {
    let [b, ..] = labels.dims();
    let side = cells.isqrt();
    assert_eq!(side * side, cells, "expected a square of cells");
    adaptive_avg_pool2d(labels, [side, side]).reshape([b, cells])
}

/// Cross-entropy with the cells that objects cover, each by its share: the mean over rows that show an object there.
///
/// # Shapes
/// - `logits`, `covered`: `[B, N]`; output: `[1]`
fn soft_cross_entropy<B: Backend>(logits: Tensor<B, 2>, covered: Tensor<B, 2>) -> Tensor<B, 1> {
    let area = covered.clone().sum_dim(1); // [B, 1], in cells
    let shares = covered / area.clone().clamp_min(SMALLEST);
    let each = (log_softmax(logits, 1) * shares).sum_dim(1).neg();
    let present = area.greater_elem(0.0).float();
    (each.sum_dim(0) / present.sum_dim(0).clamp_min(1.0)).reshape([1])
}

/// [`soft_cross_entropy`] with a further cell for "no object", whose logit is 0: the mean over all rows.
fn soft_cross_entropy_or_none<B: Backend>(logits: Tensor<B, 2>, covered: Tensor<B, 2>) -> Tensor<B, 1> {
    let absent = covered.clone().sum_dim(1).lower_equal_elem(0.0).float(); // [B, 1]
    let none = absent.zeros_like();
    soft_cross_entropy(
        Tensor::cat(vec![logits, none], 1),
        Tensor::cat(vec![covered, absent], 1),
    )
}

/// Binary cross-entropy: mean over each row, then over rows (a fixed order of summation).
///
/// # Shapes
/// - `logits`, `labels`: `[N, P]`; output: `[1]`
pub fn bce_with_logits<B: Backend>(logits: Tensor<B, 2>, labels: Tensor<B, 2>) -> Tensor<B, 1> {
    let softplus = logits.clone().abs().neg().exp().log1p(); // log(1 + e^−|x|)
    let loss = relu(logits.clone()) - logits * labels + softplus;
    mean_rows(loss).mean_dim(0).reshape([1])
}

/// [`dice_rows`], mean over rows.
///
/// # Shapes
/// - `probabilities`, `labels`: `[N, P]`; output: `[1]`
pub fn dice<B: Backend>(probabilities: Tensor<B, 2>, labels: Tensor<B, 2>, scale: f64) -> Tensor<B, 1> {
    dice_rows(probabilities, labels, scale).mean_dim(0).reshape([1])
}

/// `1 − (2·Σpt/s + ε) / (Σp/s + Σt/s + ε)` of each row.
///
/// # Shapes
/// - `probabilities`, `labels`: `[N, P]`; output: `[N, 1]`
pub fn dice_rows<B: Backend>(probabilities: Tensor<B, 2>, labels: Tensor<B, 2>, scale: f64) -> Tensor<B, 2> {
    let both = sum_rows(probabilities.clone() * labels.clone()) * (2.0 / scale) + DICE_EPSILON;
    let either = (sum_rows(probabilities) + sum_rows(labels)) / scale + DICE_EPSILON;
    (both / either).neg() + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    type B = burn_flex::Flex;

    fn rows(values: [[f64; 4]; 2]) -> Tensor<B, 2> {
        Tensor::from_data(values, &Default::default())
    }

    /// PyTorch 2.15: `binary_cross_entropy_with_logits`, and the DICE formula evaluated in f64.
    #[test]
    fn values_are_pytorchs() {
        let logits = rows([[-2.0, 0.0, 1.0, 30.0], [0.5, -0.5, -40.0, 3.0]]);
        let labels = rows([[0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]);
        let bce = bce_with_logits(logits.clone(), labels.clone()).into_scalar();
        let expected = (0.126_928 + std::f64::consts::LN_2 + 0.313_262 + 0.0) / 8.0
            + (0.474_077 + 0.474_077 + 0.0 + 3.048_587) / 8.0;
        assert!(
            (f64::from(bce) - expected).abs() < 1e-5,
            "{bce} against {expected}"
        );
        let loss = dice(sigmoid(logits), labels, 1000.0).into_scalar();
        let one = |p: [f64; 4], t: [f64; 4]| {
            let both: f64 = p.iter().zip(&t).map(|(p, t)| p * t).sum();
            let either: f64 = p.iter().sum::<f64>() + t.iter().sum::<f64>();
            1.0 - (2.0 * both / 1000.0 + 1e-6) / (either / 1000.0 + 1e-6)
        };
        let expected = (one([0.119_203, 0.5, 0.731_059, 1.0], [0.0, 1.0, 1.0, 1.0])
            + one([0.622_459, 0.377_541, 0.0, 0.952_574], [1.0, 0.0, 0.0, 0.0]))
            / 2.0;
        assert!(
            (f64::from(loss) - expected).abs() < 1e-5,
            "{loss} against {expected}"
        );
    }

    #[test]
    fn a_perfect_mask_costs_nothing() {
        let labels = Tensor::<B, 4>::from_data([[[[1.0, 0.0], [0.0, 1.0]]]], &Default::default());
        let output = FramesOutput {
            logits: labels.clone() * 200.0 - 100.0,
            object_score: Tensor::from_data([[50.0]], &Default::default()),
            pointing: Tensor::zeros([1, 4], &Default::default()),
            grounding: Some(Tensor::zeros([1, 4], &Default::default())),
        };
        let objective = Objective {
            bce: 1.0,
            dice: 1.0,
            object: 1.0,
            // It costs at least the entropy of the cells that the object covers.
            pointing: 0.0,
            grounding: 0.0,
            dice_scale: 1000.0,
        };
        assert!(objective.losses(&output, labels, None).total.into_scalar() < 1e-5);
    }

    #[test]
    fn prompts_are_to_point_at_what_objects_cover() {
        let device = Default::default();
        // Four cells of four pixels: a quarter of the object lies in the second, the rest in the fourth; nothing in row two.
        let labels = Tensor::<B, 4>::from_data(
            [
                [[
                    [0.0, 0.0, 1.0, 0.0],
                    [0.0; 4],
                    [0.0, 0.0, 1.0, 1.0],
                    [0.0, 0.0, 1.0, 0.0],
                ]],
                [[[0.0; 4]; 4]],
            ],
            &device,
        );
        let logits = Tensor::<B, 2>::from_data([[0.0, 1.0, 0.0, 2.0], [9.0, 0.0, 0.0, 0.0]], &device);
        let found = f64::from(soft_cross_entropy(logits, covered(labels, 4)).into_scalar());
        let total = (2.0 + 1f64.exp() + 2f64.exp()).ln();
        let expected = 0.25 * (total - 1.0) + 0.75 * (total - 2.0);
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn labels_of_any_size_are_pointed_at() {
        let device = Default::default();
        // Cells of 1.5 rows by 2.5 columns: the middle row and column count for both their cells.
        let mut labels = vec![0.0; 15];
        labels[5..10].fill(1.0);
        let labels = Tensor::<B, 1>::from_floats(labels.as_slice(), &device).reshape([1, 1, 3, 5]);
        let logits = Tensor::<B, 2>::from_data([[0.0, 1.0, 0.0, 2.0]], &device);
        let found = f64::from(soft_cross_entropy(logits, covered(labels, 4)).into_scalar());
        let expected = (2.0 + 1f64.exp() + 2f64.exp()).ln() - 0.75;
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        // Fewer pixels than cells, and an object of one pixel.
        let one = Tensor::<B, 4>::ones([1, 1, 1, 1], &device);
        let found = soft_cross_entropy(Tensor::<B, 2>::zeros([1, 4], &device), covered(one, 4)).into_scalar();
        assert!((f64::from(found) - 4f64.ln()).abs() < 1e-5, "{found}");
    }

    #[test]
    fn only_patches_that_are_shown_count() {
        let device = Default::default();
        // The object covers the upper half; of its two patches the second is shown, of the others the third.
        let labels = Tensor::<B, 4>::from_data([[[[1.0, 1.0], [0.0, 0.0]]]], &device);
        let output = FramesOutput {
            logits: labels.clone() * 200.0 - 100.0,
            object_score: Tensor::from_data([[50.0]], &device),
            pointing: Tensor::zeros([1, 4], &device),
            grounding: Some(Tensor::from_data([[2.0, 1.0]], &device)),
        };
        let objective = |grounding| Objective {
            bce: 0.0,
            dice: 0.0,
            object: 0.0,
            pointing: 0.0,
            grounding,
            dice_scale: 1.0,
        };
        let loss = |grounding, indices: [usize; 2]| {
            let indices = indices.to_vec();
            let visible = VisiblePatches { total: 4, indices };
            let losses = objective(grounding).losses(&output, labels.clone(), Some(&visible));
            f64::from(losses.total.into_scalar())
        };
        let softmax = |logit: f64| (2f64.exp() + 1f64.exp() + 1.0).ln() - logit;
        assert!((loss(3.0, [1, 2]) - 3.0 * softmax(2.0)).abs() < 1e-5);
        assert!((loss(3.0, [2, 1]) - 3.0 * softmax(1.0)).abs() < 1e-5);
        // Neither of these shows the object.
        assert!((loss(3.0, [2, 3]) - 3.0 * softmax(0.0)).abs() < 1e-5);
        assert_eq!(loss(0.0, [1, 2]), 0.0);
        // Rows with an object and without one count alike.
        let logits = Tensor::<B, 2>::from_data([[2.0, 1.0], [2.0, 1.0]], &device);
        let covered = Tensor::<B, 2>::from_data([[1.0, 0.0], [0.0, 0.0]], &device);
        let mean = f64::from(soft_cross_entropy_or_none(logits, covered).into_scalar());
        assert!((mean - (softmax(2.0) + softmax(0.0)) / 2.0).abs() < 1e-5);
    }
}
