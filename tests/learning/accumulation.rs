//! A window of micro-batches is one batch of as many rows.

use std::sync::Arc;

use burn::{
    backend::Autodiff,
    data::dataloader::DataLoader,
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::{GradientsAccumulator, GradientsParams, Optimizer, SgdConfig},
    prelude::*,
    tensor::backend::AutodiffBackend,
};
use burn_flex::Flex;
use burn_love_train::{
    data::Split,
    samples::Preparer,
    training::{Cursor, LoveLearner, LoveLoader, Objective, Rows, Shown, SyntheticNulls, average_and_clip},
};
use burn_train::TrainStep;

use crate::data::{alone, config, few_clips};

type B = Autodiff<Flex>;

/// Rows of a window, and of the batch.
const ROWS: usize = 4;

/// Norm to which gradients are clipped.
const CLIP: f64 = 0.5;

/// What a window of micro-batches leaves: averaged gradients, clipped where asked.
fn window(learner: &LoveLearner<B>, rows: Rows) -> (GradientsParams, f64, f64) {
    let loader = LoveLoader::<B>::new(Arc::new(rows), Arc::new(Cursor::default()), Default::default());
    let mut accumulator = GradientsAccumulator::new();
    let (mut count, mut loss) = (0, 0.0);
    for batch in loader.iter() {
        let output = TrainStep::step(learner, batch);
        accumulator.accumulate(learner, output.grads);
        loss += output.item.loss;
        count += 1;
    }
    let mut grads = accumulator.grads();
    let norm = average_and_clip::<B, _>(learner, &mut grads, count, CLIP);
    (grads, norm, loss / count as f64)
}

/// Moves every weight by its last bit, in turns up and down: what gradients then change by is their rounding.
struct Nudge;

impl ModuleMapper<B> for Nudge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|weight| {
            let data = weight.to_data();
            let learns = weight.is_require_grad();
            let nudged = data.iter::<f32>().enumerate().map(|(i, x)| {
                if i % 2 == 0 {
                    x * (1.0 + f32::EPSILON)
                } else {
                    x * (1.0 - f32::EPSILON)
                }
            });
            let nudged = TensorData::new(nudged.collect::<Vec<_>>(), data.shape.clone());
            Tensor::from_data(nudged, &weight.device()).set_require_grad(learns)
        })
    }
}

/// Collects the largest difference of gradients, relative to each tensor's largest, and to what may be.
struct Compare<'a> {
    one: &'a GradientsParams,
    other: &'a GradientsParams,
    /// `other` with nudged weights.
    nudged: &'a GradientsParams,
    seen: usize,
    worst: f64,
}

type Inner = <B as AutodiffBackend>::InnerBackend;

impl ModuleVisitor<B> for Compare<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let (one, other) = (
            self.one.get::<Inner, D>(param.id),
            self.other.get::<Inner, D>(param.id),
        );
        assert_eq!(one.is_some(), other.is_some());
        let (Some(one), Some(other)) = (one, other) else {
            return;
        };
        let size = other.clone().abs().max().into_scalar();
        let nudged = self.nudged.get::<Inner, D>(param.id).expect("as the other");
        let rounding = (nudged - other.clone()).abs().max().into_scalar() / size;
        let difference = (one - other).abs().max().into_scalar();
        assert!(size.is_finite() && difference.is_finite());
        // Below this a gradient is nothing but rounding (keys' biases, which attention does not see).
        if size > 1e-7 {
            self.seen += 1;
            // The gradient of the memory is what is left of much larger terms, so a last bit may change its fourth digit.
            assert!(rounding < 1e-2, "rounding of {rounding:.1e}");
            let bound = (4.0 * rounding).max(1e-5);
            self.worst = self.worst.max(f64::from(difference / size / bound));
        }
    }
}

/// The largest difference of parameters, relative to each tensor's largest.
struct Values(Vec<Vec<f32>>);

impl ModuleVisitor<B> for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push(param.val().into_data().to_vec().unwrap());
    }
}

fn values(learner: &LoveLearner<B>) -> Vec<Vec<f32>> {
    let mut values = Values(Vec::new());
    learner.visit(&mut values);
    values.0
}

#[test]
fn a_window_of_four_is_a_batch_of_four() {
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let data = few_clips(&root.path().join("data"), 2, (64, 48));
    let config = config(&["sam2.model.image_size=64", "train.tracked_frames=1"]);
    let device = Default::default();
    Flex::seed(&device, 3);
    let learner = LoveLearner::<B> {
        model: config.model.init(&device),
        objective: Objective::new(&config.train),
        trainable: config.train.trainable,
        threshold_logit: 0.0,
    };
    let rows = |batch_size| Rows {
        data: data.clone(),
        rows: data.split(Split::Train).into_iter().take(ROWS).cloned().collect(),
        preparer: Preparer::new(&config).unwrap(),
        batch_size,
        shown: Shown::all(2),
        first: (0, Shown::all(2)),
        nulls: SyntheticNulls::default(),
        shuffle: None,
        features: None,
    };
    let (small, small_norm, small_loss) = window(&learner, rows(1));
    let (large, large_norm, large_loss) = window(&learner, rows(ROWS));
    let (nudged, ..) = window(&learner.clone().map(&mut Nudge), rows(ROWS));
    assert!(
        (small_loss / large_loss - 1.0).abs() < 1e-6,
        "{small_loss} {large_loss}"
    );
    assert!(
        (small_norm / large_norm - 1.0).abs() < 1e-5,
        "{small_norm} {large_norm}"
    );
    assert!(large_norm > CLIP, "clipping has a say: {large_norm}");
    let mut compared = Compare {
        one: &small,
        other: &large,
        nudged: &nudged,
        seen: 0,
        worst: 0.0,
    };
    learner.visit(&mut compared);
    assert!(compared.seen > 200, "{} gradients", compared.seen);
    assert!(
        compared.worst < 1.0,
        "gradients differ by {:.1} times what they may",
        compared.worst
    );

    let stepped = |grads| {
        let mut sgd = SgdConfig::new().init::<B, LoveLearner<B>>();
        values(&sgd.step(0.1, learner.clone(), grads))
    };
    let (before, small, large) = (values(&learner), stepped(small), stepped(large));
    let mut moved = 0;
    for ((before, small), large) in before.iter().zip(&small).zip(&large) {
        let size = large.iter().fold(0.0f32, |size, x| size.max(x.abs()));
        let apart = |a: &[f32]| {
            a.iter()
                .zip(large)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max)
        };
        assert!(
            apart(small) <= 1e-6 * size.max(1e-3),
            "parameters differ by {:.1e} of {size:.1e}",
            apart(small)
        );
        moved += usize::from(apart(before) > 0.0);
    }
    assert!(moved > 200, "{moved} tensors moved");
}
