//! SAM 2's loss: focal and DICE on the best of the masks, the predicted IoU of all, and the object score.
//!
//! `sam2/training/loss_fns.py: MultiStepMultiMasksAndIous`. Masks and IoUs count where the object is there.

use burn::{
    prelude::*,
    tensor::activation::{relu, sigmoid},
};
use burn_love::ops::{mean_rows, resize_bilinear, sum_rows};

use crate::{
    config::TrainConfig,
    training::{bce_with_logits, dice_rows},
};

/// Weight of pixels of the object in the focal loss.
const ALPHA: f64 = 0.25;

/// What the model says of a batch of targets.
#[derive(Debug, Clone)]
pub struct Predicted<B: Backend> {
    /// Logits of all masks, `[B, M, h, w]`.
    pub logits: Tensor<B, 4>,
    /// Their predicted IoUs, `[B, M]`.
    pub iou: Tensor<B, 2>,
    /// Logits of the object being there, `[B, 1]`.
    pub object_score: Tensor<B, 2>,
}

/// The loss and what it is made of.
#[derive(Debug, Clone)]
pub struct MaskLoss<B: Backend> {
    /// The weighted sum, `[1]`.
    pub total: Tensor<B, 1>,
    /// Focal and DICE, weighted, `[1]`.
    pub mask: Tensor<B, 1>,
    /// |predicted − true IoU|, `[1]`.
    pub iou: Tensor<B, 1>,
    /// BCE of the object score, `[1]`.
    pub object: Tensor<B, 1>,
    /// True IoU of the mask with the best predicted one, where the object is there and 0 elsewhere, `[B]`.
    pub j: Tensor<B, 1>,
    /// 1 where the object is there, `[B]`.
    pub present: Tensor<B, 1>,
    /// 1 where the object score says rightly whether the object is there, `[B]`.
    pub right: Tensor<B, 1>,
}

/// The loss of predictions at the labels' resolution.
///
/// # Shapes
/// - `labels`: `[B, S·S]`, 0 or 1
pub fn mask_loss<B: Backend>(
    predicted: Predicted<B>,
    labels: Tensor<B, 2>,
    side: usize,
    config: &TrainConfig,
) -> MaskLoss<B> {
    let [b, m, _, _] = predicted.logits.dims();
    let pixels = side * side;
    let present = labels.clone().max_dim(1); // [B, 1]
    let logits = resize_bilinear(predicted.logits, [side; 2]).reshape([b * m, pixels]);
    let labels: Tensor<B, 2> = labels
        .unsqueeze_dim::<3>(1)
        .expand([b, m, pixels])
        .reshape([b * m, pixels]);
    let focal = focal_rows(logits.clone(), labels.clone()) * config.lambda_bce;
    let dice = dice_rows(sigmoid(logits.clone()), labels.clone(), config.dice_scale) * config.lambda_dice;
    let each = (focal + dice).reshape([b, m]);

    let found = logits.detach().greater_elem(0.0).float();
    let both = sum_rows(found.clone() * labels.clone());
    let either = sum_rows(found) + sum_rows(labels) - both.clone();
    let true_iou = (both / (either + 1e-6)).reshape([b, m]);

    let mean = |rows: Tensor<B, 2>| {
        let weighted = (rows * present.clone()).sum_dim(0);
        (weighted / (present.clone().sum_dim(0) + 1e-6)).reshape([1])
    };
    let mask = mean(chosen(each.clone(), each.detach().argmin(1)));
    let iou = mean((predicted.iou.clone() - true_iou.clone()).abs().mean_dim(1));
    let object = bce_with_logits(predicted.object_score.clone(), present.clone());
    let j = chosen(true_iou, predicted.iou.detach().argmax(1)) * present.clone();
    let says = predicted.object_score.detach().greater_elem(0.0).float();
    MaskLoss {
        total: mask.clone() + iou.clone() + object.clone() * config.lambda_object,
        mask,
        iou,
        object,
        j: j.reshape([b]),
        right: ((says - present.clone()).abs().neg() + 1.0).reshape([b]),
        present: present.reshape([b]),
    }
}

/// One value of each row.
///
/// # Shapes
/// - `rows`: `[B, M]`; `at`: `[B, 1]`; output: `[B, 1]`
fn chosen<B: Backend>(rows: Tensor<B, 2>, at: Tensor<B, 2, Int>) -> Tensor<B, 2> {
    rows.gather(1, at)
}

/// Focal loss (γ = 2, α = 0.25), mean over each row.
///
/// # Shapes
/// - `logits`, `labels`: `[N, P]`; output: `[N, 1]`
fn focal_rows<B: Backend>(logits: Tensor<B, 2>, labels: Tensor<B, 2>) -> Tensor<B, 2> {
    let softplus = logits.clone().abs().neg().exp().log1p(); // log(1 + e^−|x|)
    let bce = relu(logits.clone()) - logits.clone() * labels.clone() + softplus;
    // 1 − p of the true side: p + t − 2pt.
    let p = sigmoid(logits);
    let off = p.clone() + labels.clone() - p * labels.clone() * 2.0;
    let alpha = labels * (2.0 * ALPHA - 1.0) + (1.0 - ALPHA);
    mean_rows(bce * off.clone() * off * alpha)
}

#[cfg(test)]
mod tests {
    use super::*;
    type B = burn_flex::Flex;

    /// torchvision 0.20's `sigmoid_focal_loss(alpha=0.25, gamma=2)` of these logits and labels, evaluated in f64.
    #[test]
    fn focal_values_are_torchvisions() {
        let device = Default::default();
        let logits = Tensor::<B, 2>::from_data([[2.0, -1.0], [0.5, 3.0]], &device);
        let labels = Tensor::<B, 2>::from_data([[1.0, 0.0], [0.0, 0.0]], &device);
        let found = focal_rows(logits, labels).into_data().convert::<f64>();
        let one = |x: f64, t: f64| {
            let p = 1.0 / (1.0 + (-x).exp());
            let (pt, alpha) = if t > 0.0 { (p, 0.25) } else { (1.0 - p, 0.75) };
            -alpha * (1.0 - pt) * (1.0 - pt) * pt.ln()
        };
        let expected = [
            (one(2.0, 1.0) + one(-1.0, 0.0)) / 2.0,
            (one(0.5, 0.0) + one(3.0, 0.0)) / 2.0,
        ];
        for (found, expected) in found.as_slice::<f64>().unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn the_best_mask_counts_and_absent_objects_have_none() {
        let device = Default::default();
        let config = crate::config::Config::nano().train;
        // Two targets: the second mask of the first is right; the second object is absent.
        let right = [[-9.0, 9.0], [9.0, -9.0]];
        let wrong = [[9.0, -9.0], [-9.0, 9.0]];
        let predicted = Predicted::<B> {
            logits: Tensor::from_data([[wrong, right], [wrong, wrong]], &device),
            iou: Tensor::from_data([[0.0, 1.0], [0.3, 0.6]], &device),
            object_score: Tensor::from_data([[9.0], [9.0]], &device),
        };
        let labels = Tensor::from_data([[0.0, 1.0, 1.0, 0.0], [0.0; 4]], &device);
        let loss = mask_loss(predicted, labels, 2, &config);
        let scalar = |x: Tensor<B, 1>| f64::from(x.into_scalar());
        assert!(scalar(loss.mask) < 1e-3, "the wrong mask counts too");
        assert!(scalar(loss.iou) < 1e-4);
        assert!(
            scalar(loss.object) > 4.0,
            "the absent object's score is not judged"
        );
        let values = |x: Tensor<B, 1>| x.into_data().to_vec::<f32>().unwrap();
        assert_eq!(
            (values(loss.present), values(loss.right)),
            (vec![1.0, 0.0], vec![1.0, 0.0])
        );
        assert!((values(loss.j)[0] - 1.0).abs() < 1e-5);
    }
}
