//! The model as burn-train sees it: a step, its values, and the metrics shown.

use std::sync::{Arc, Mutex, PoisonError};

use burn::{prelude::*, tensor::backend::AutodiffBackend};
use burn_love::{
    love::{FramesOutput, Sam2Love, Trainable},
    ops::{resize_bilinear, sum_rows},
};
use burn_train::{
    InferenceStep, ItemLazy, TrainOutput, TrainStep,
    metric::{
        Adaptor, Metric, MetricAttributes, MetricMetadata, Numeric, NumericAttributes, NumericEntry,
        SerializedEntry,
        state::{FormatOptions, NumericMetricState},
    },
};

use serde::{Deserialize, Serialize};

use super::{LoveBatch, Objective};
use crate::metrics::BETA_SQUARED;

/// A model with what it is trained for.
#[derive(Module, Debug)]
pub struct LoveLearner<B: Backend> {
    /// The model.
    pub model: Sam2Love<B>,
    /// The loss.
    #[module(skip)]
    pub objective: Objective,
    /// The parts that learn.
    #[module(skip)]
    pub trainable: Trainable,
    /// Logit above which a pixel counts as masked, in the running J.
    #[module(skip)]
    pub threshold_logit: f64,
}

/// What a step is judged by, averaged over its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StepValues {
    /// The loss.
    pub loss: f64,
    /// BCE of the masks, unweighted.
    pub bce: f64,
    /// DICE of the masks, unweighted.
    pub dice: f64,
    /// BCE of the object scores, unweighted.
    pub object: f64,
    /// Cross-entropy of where the prompts point, unweighted.
    #[serde(default)]
    pub pointing: f64,
    /// Cross-entropy of where the fusion finds the object, unweighted; nothing where it has no weight.
    #[serde(default)]
    pub grounding: Option<f64>,
    /// Mean IoU of the first frame over the rows that show the object there.
    pub j: f64,
    /// Mean F-measure of precision and recall (β² = 0.3) of the first frame over the same rows, at the same threshold.
    pub f: f64,
    /// Rows.
    pub rows: usize,
    /// Rows that show the object in the first frame.
    pub present: usize,
}

impl StepValues {
    /// Adds another step's values to a sum that begins at the default. Sums are weighted by rows: see
    /// [`mean`](Self::mean).
    pub fn add(&mut self, values: &Self) {
        let (rows, present) = (values.rows as f64, values.present as f64);
        self.loss += values.loss * rows;
        self.bce += values.bce * rows;
        self.dice += values.dice * rows;
        self.object += values.object * rows;
        self.pointing += values.pointing * present;
        if let Some(grounding) = values.grounding {
            *self.grounding.get_or_insert_default() += grounding * rows;
        }
        self.j += values.j * present;
        self.f += values.f * present;
        self.rows += values.rows;
        self.present += values.present;
    }

    /// The mean of a sum.
    pub fn mean(self) -> Self {
        let (rows, present) = (self.rows.max(1) as f64, self.present.max(1) as f64);
        Self {
            loss: self.loss / rows,
            bce: self.bce / rows,
            dice: self.dice / rows,
            object: self.object / rows,
            pointing: self.pointing / present,
            grounding: self.grounding.map(|sum| sum / rows),
            j: self.j / present,
            f: self.f / present,
            ..self
        }
    }
}

impl ItemLazy for StepValues {
    type ItemSync = Self;

    fn sync(self) -> Self {
        self
    }
}

impl Adaptor<StepValues> for StepValues {
    fn adapt(&self) -> StepValues {
        *self
    }
}

impl<B: Backend> LoveLearner<B> {
    /// The loss as a tensor, and all values read back.
    fn judge(&self, output: &FramesOutput<B>, batch: &LoveBatch<B>) -> (Tensor<B, 1>, StepValues) {
        let labels = batch.labels();
        let [b, _, h, w] = labels.dims();
        let losses = self
            .objective
            .losses(output, labels.clone(), batch.visible_patches());
        let first = |x: Tensor<B, 4>| x.narrow(1, 0, 1);
        let predicted = resize_bilinear(first(output.logits.clone()).detach(), [h, w]);
        let predicted = predicted
            .greater_elem(self.threshold_logit)
            .float()
            .reshape([b, h * w]);
        let labels = first(labels).reshape([b, h * w]);
        let both = sum_rows(predicted.clone() * labels.clone());
        let area = sum_rows(labels);
        let either = sum_rows(predicted) + area.clone() - both.clone();
        let parts = [
            losses.total.clone(),
            losses.bce,
            losses.dice,
            losses.object,
            losses.pointing,
        ];
        let grounded = losses.grounding.is_some();
        let parts = parts.into_iter().chain(losses.grounding);
        let mut all: Vec<Tensor<B, 1>> = parts.map(Tensor::detach).collect();
        let scalars = all.len();
        all.extend([both, either, area].map(|x| x.reshape([b])));
        let values = Tensor::cat(all, 0).into_data().convert::<f64>();
        let values = values.as_slice::<f64>().expect("just converted");
        let (scalars, counts) = values.split_at(scalars);
        let (mut j, mut f, mut present) = (0.0, 0.0, 0u32);
        for i in (0..b).filter(|i| counts[2 * b + i] > 0.0) {
            let [both, either, area] = [counts[i], counts[b + i], counts[2 * b + i]];
            let found = either + both - area;
            j += both / either;
            f += (1.0 + BETA_SQUARED) * both / (BETA_SQUARED * area + found);
            present += 1;
        }
        let shown = f64::from(present.max(1));
        let values = StepValues {
            loss: scalars[0],
            bce: scalars[1],
            dice: scalars[2],
            object: scalars[3],
            pointing: scalars[4],
            grounding: grounded.then(|| scalars[5]),
            j: j / shown,
            f: f / shown,
            rows: b,
            present: present as usize,
        };
        (losses.total, values)
    }
}

impl<B: AutodiffBackend> TrainStep for LoveLearner<B> {
    type Input = LoveBatch<B>;
    type Output = StepValues;

    fn step(&self, batch: LoveBatch<B>) -> TrainOutput<StepValues> {
        let (features, neck) = batch.features_in_training(&self.model, &self.trainable);
        let grounded = self.objective.grounding > 0.0;
        let output = self
            .model
            .forward_features(features, neck, batch.mask_frames(), grounded);
        let (loss, values) = self.judge(&output, &batch);
        TrainOutput::new(self, loss.backward(), values)
    }
}

impl<B: Backend> InferenceStep for LoveLearner<B> {
    type Input = LoveBatch<B>;
    type Output = StepValues;

    fn step(&self, batch: LoveBatch<B>) -> StepValues {
        let (features, neck) = batch.features(&self.model, &self.trainable);
        let grounded = self.objective.grounding > 0.0;
        let output = self
            .model
            .forward_features(features, neck, batch.mask_frames(), grounded);
        self.judge(&output, &batch).1
    }
}

/// Reads one number and the rows it stands for out of a step's values.
type Pick = Arc<dyn Fn(&StepValues) -> (f64, usize) + Send + Sync>;

/// One of a step's values, or of its [`Gauges`], as a metric of burn-train.
#[derive(Clone)]
pub struct ValueMetric {
    name: Arc<String>,
    pick: Pick,
    higher_is_better: bool,
    state: NumericMetricState,
}

/// What is known of an optimizer step and not of a micro-batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gauge {
    /// Norm of the gradients before clipping, of the last step that was taken.
    pub norm: f64,
    /// Steps that were not taken.
    pub skipped: usize,
    /// Rows per second.
    pub rows_per_second: f64,
    /// Resident memory of the process, in bytes.
    pub memory: usize,
}

/// The [`Gauge`] of the last step, shared by the loop and the metrics that show it.
#[derive(Debug, Clone, Default)]
pub struct Gauges(Arc<Mutex<Gauge>>);

impl Gauges {
    /// Replaces the gauge.
    pub fn set(&self, gauge: Gauge) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = gauge;
    }

    /// The last gauge.
    pub fn get(&self) -> Gauge {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ValueMetric {
    fn new(
        name: &str,
        higher_is_better: bool,
        pick: impl Fn(&StepValues) -> (f64, usize) + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: Arc::new(name.into()),
            pick: Arc::new(pick),
            higher_is_better,
            state: NumericMetricState::default(),
        }
    }

    /// The loss.
    pub fn loss() -> Self {
        Self::new("Loss", false, |values| (values.loss, values.rows))
    }

    /// BCE of the masks.
    pub fn bce() -> Self {
        Self::new("BCE", false, |values| (values.bce, values.rows))
    }

    /// DICE of the masks.
    pub fn dice() -> Self {
        Self::new("DICE", false, |values| (values.dice, values.rows))
    }

    /// BCE of the object scores.
    pub fn object() -> Self {
        Self::new("Object score", false, |values| (values.object, values.rows))
    }

    /// Mean IoU of the first frame.
    pub fn j() -> Self {
        Self::new("J (frame 0)", true, |values| (values.j, values.present))
    }

    /// Mean F-measure of the first frame.
    pub fn f() -> Self {
        Self::new("F (frame 0)", true, |values| (values.f, values.present))
    }

    /// Norm of the gradients before clipping.
    pub fn norm(gauges: &Gauges) -> Self {
        let gauges = gauges.clone();
        Self::new("Gradient norm", false, move |_| (gauges.get().norm, 1))
    }

    /// Steps that were not taken, because a loss or gradient was not a number.
    pub fn skipped(gauges: &Gauges) -> Self {
        let gauges = gauges.clone();
        Self::new("Skipped steps", false, move |_| (gauges.get().skipped as f64, 1))
    }

    /// Rows per second.
    pub fn rows_per_second(gauges: &Gauges) -> Self {
        let gauges = gauges.clone();
        Self::new("Rows per second", true, move |_| {
            (gauges.get().rows_per_second, 1)
        })
    }

    /// Resident memory in GB.
    pub fn memory(gauges: &Gauges) -> Self {
        let gauges = gauges.clone();
        Self::new("Memory (GB)", false, move |_| {
            (gauges.get().memory as f64 / 1e9, 1)
        })
    }
}

impl Metric for ValueMetric {
    type Input = StepValues;

    fn name(&self) -> Arc<String> {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: self.higher_is_better,
        }
        .into()
    }

    fn update(&mut self, values: &StepValues, _metadata: &MetricMetadata) -> SerializedEntry {
        let (value, count) = (self.pick)(values);
        self.state
            .update(value, count, FormatOptions::new(self.name()).precision(4))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for ValueMetric {
    fn value(&self) -> NumericEntry {
        self.state.current_value()
    }

    fn running_value(&self) -> NumericEntry {
        self.state.running_value()
    }
}
