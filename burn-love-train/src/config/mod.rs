//! The one config of a run: model, training, data, evaluation.
//!
//! Presets are TOML files that name what differs from the defaults; a config file and `--set key=value` override them
//! in that order. A key that does not exist is an error that names the nearest one that does.

mod check;
mod presets;
mod resolve;

use std::path::PathBuf;

use burn_love::love::{LoveConfig, Trainable};
use serde::{Deserialize, Serialize};

pub use presets::{PRESETS, Preset, nano_scale};
pub use resolve::{ConfigError, Source, differing_keys, resolve, write_config};

use crate::{
    data::Row,
    training::{StepValues, WarmupType},
};

/// Version of the config's keys; a file of another version is refused.
pub const FORMAT_VERSION: u32 = 1;

/// The resolved config of a run, as `config.toml` holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Version of the keys.
    pub format_version: u32,
    /// What is learned, how, and for how long.
    pub train: TrainConfig,
    /// Which rows are used.
    pub data: DataConfig,
    /// How predictions are judged.
    pub eval: EvalConfig,
    /// Files of pre-trained parts.
    pub weights: WeightsConfig,
    /// The model.
    #[serde(flatten)]
    pub model: LoveConfig,
}

/// What is learned, how, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Optimizer steps; 0 stands for `epochs` epochs.
    pub steps: usize,
    /// Passes over the training rows, where `steps` is 0.
    pub epochs: usize,
    /// Rows in a micro-batch.
    pub batch_size: usize,
    /// Micro-batches whose gradients are averaged for one optimizer step.
    pub accumulation: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the start of the warm-up and at the end of the run.
    pub min_lr: f64,
    /// Optimizer steps of warm-up: none, or at least two.
    pub warmup_steps: usize,
    /// How the learning rate rises: `linear` or `log`.
    pub warmup_type: WarmupType,
    /// AdamW's weight decay; biases, norms and scales have none.
    pub weight_decay: f64,
    /// AdamW's first beta.
    pub beta_1: f64,
    /// AdamW's second beta.
    pub beta_2: f64,
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// Largest norm of all gradients together; 0 for no clipping.
    pub clip_norm: f64,
    /// Steps in a row whose loss or gradient is not a number, behind which the training stops.
    pub max_skipped_in_row: usize,
    /// Weight of the mask's binary cross-entropy.
    pub lambda_bce: f64,
    /// Weight of the mask's DICE loss.
    pub lambda_dice: f64,
    /// Weight of the object score's binary cross-entropy; the paper has none.
    pub lambda_object: f64,
    /// Weight of a loss that has the prompt point at the object in SAM 2's image embedding; the paper has none.
    #[serde(default)]
    pub lambda_pointing: f64,
    /// Weight of a loss that has the fused token find the object among the fused patches of the first frame, or none that
    /// shows it; the paper has none.
    #[serde(default)]
    pub lambda_grounding: f64,
    /// Divisor inside DICE; with 1000, an empty target has almost no gradient.
    pub dice_scale: f64,
    /// Frames behind the prompted one whose masks are learned too, by tracking; the paper has none.
    pub tracked_frames: usize,
    /// Frames of a clip that the fusion is shown in training: the first one and others at random, in order; 0 for all.
    #[serde(default)]
    pub fusion_frames: usize,
    /// Patches of a frame that the fusion is shown in training, drawn for each micro-batch; 0 for all.
    #[serde(default)]
    pub fusion_patches: usize,
    /// Optimizer steps at the start that have but a glance at each clip: the fusion is shown the first frame alone, and no
    /// frame is tracked.
    #[serde(default)]
    pub glance_steps: usize,
    /// Patches of that frame that the fusion is shown, drawn for each micro-batch; 0 for all.
    #[serde(default)]
    pub glance_patches: usize,
    /// Share of the training rows that speak of a sound to be heard without any, and to show nothing then; the paper has
    /// none.
    #[serde(default)]
    pub muted_nulls: f64,
    /// Share of them to be heard with the sound of another clip, and to show nothing then; the paper has none.
    #[serde(default)]
    pub swapped_nulls: f64,
    /// Seed of weights, order and dropout.
    pub seed: u64,
    /// Optimizer steps between checkpoints; 0 for one at the end only.
    pub checkpoint_every: usize,
    /// What the best checkpoint is best in at a validation: `j`, `f` or `loss`.
    #[serde(default)]
    pub best: BestMetric,
    /// Checkpoints kept besides the best one.
    pub keep_checkpoints: usize,
    /// Optimizer steps between validations; 0 for one per epoch.
    pub validate_every: usize,
    /// Validation rows drawn at every validation, one for each clip.
    pub overlays: usize,
    /// Optimizer steps between lines of the log.
    pub log_every: usize,
    /// Which parts of the model learn.
    #[serde(flatten)]
    pub trainable: Trainable,
    /// Factors of the learning rate, part by part.
    pub lr_scale: PartScales,
    /// Factors of the weight decay, part by part.
    pub weight_decay_scale: PartScales,
}

/// What decides which validation was the best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BestMetric {
    /// Mean IoU of the first frame.
    #[default]
    J,
    /// Mean F-measure of the first frame.
    F,
    /// The loss.
    Loss,
}

impl BestMetric {
    /// The metric's value at a validation.
    pub fn of(self, values: &StepValues) -> f64 {
        match self {
            Self::J => values.j,
            Self::F => values.f,
            Self::Loss => values.loss,
        }
    }

    /// Whether a value is better than another.
    pub fn improves(self, value: f64, best: f64) -> bool {
        match self {
            Self::J | Self::F => value > best,
            Self::Loss => value < best,
        }
    }
}

/// A factor for each part of the model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PartScales {
    /// `[seg]`, the projections, the fusion transformer, and the projection to the prompt.
    pub fusion: f64,
    /// SAM 2's mask decoder.
    pub mask_decoder: f64,
    /// SAM 2's prompt encoder.
    pub prompt_encoder: f64,
    /// SAM 2's image encoder.
    pub image_encoder: f64,
    /// SAM 2's memory attention, memory encoder and object pointers.
    pub memory: f64,
    /// The audio encoder.
    pub audio_encoder: f64,
    /// The vision encoder.
    pub vision_encoder: f64,
    /// The text encoder.
    pub text_encoder: f64,
}

impl PartScales {
    /// All parts alike.
    pub const ONE: Self = Self {
        fusion: 1.0,
        mask_decoder: 1.0,
        prompt_encoder: 1.0,
        image_encoder: 1.0,
        memory: 1.0,
        audio_encoder: 1.0,
        vision_encoder: 1.0,
        text_encoder: 1.0,
    };

    /// The factors with the parts' names.
    pub fn named(&self) -> [(&'static str, f64); 8] {
        [
            ("fusion", self.fusion),
            ("mask_decoder", self.mask_decoder),
            ("prompt_encoder", self.prompt_encoder),
            ("image_encoder", self.image_encoder),
            ("memory", self.memory),
            ("audio_encoder", self.audio_encoder),
            ("vision_encoder", self.vision_encoder),
            ("text_encoder", self.text_encoder),
        ]
    }
}

/// Which rows are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataConfig {
    /// Whether rows that name nothing are trained on.
    pub include_null: bool,
    /// How often each of them comes in an epoch; the paper's come once.
    #[serde(default = "once")]
    pub null_repeats: usize,
}

fn once() -> usize {
    1
}

impl DataConfig {
    /// How often a row comes in an epoch of training.
    pub fn times(&self, row: &Row) -> usize {
        match (row.is_null(), self.include_null) {
            (false, _) => 1,
            (true, true) => self.null_repeats,
            (true, false) => 0,
        }
    }
}

/// How predictions are judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalConfig {
    /// Probability above which a pixel counts for J.
    pub threshold: f64,
    /// Probability above which a pixel counts for S.
    pub null_threshold: f64,
    /// Rows in one of the protocol's batches.
    pub batch_size: usize,
}

/// Files of pre-trained parts; an empty path is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsConfig {
    /// SAM 2.
    pub sam2: PathBuf,
    /// ViT, or CLIP with its vision tower.
    pub vision: PathBuf,
    /// VGGish.
    pub audio: PathBuf,
    /// RoBERTa, or CLIP with its text tower.
    pub text: PathBuf,
    /// `tokenizer.json`; the embedded one if empty.
    pub tokenizer: PathBuf,
    /// A whole model, over the parts above: what `train --init-from` begins with.
    pub love: PathBuf,
}

impl Config {
    /// The config with the defaults of what inference and evaluation alone use, so that those of one training are equal.
    /// (`eval.threshold` is none of it: it decides which validation is the best.)
    pub fn as_trained(&self) -> Self {
        let default = Self::nano();
        let mut config = self.clone();
        config.eval = EvalConfig {
            threshold: config.eval.threshold,
            ..default.eval
        };
        config.model.sam2.object_gate = default.model.sam2.object_gate;
        config.model.sam2.clip_gate = default.model.sam2.clip_gate;
        config.model.sam2.clip_gate_threshold = default.model.sam2.clip_gate_threshold;
        config
    }

    /// The embedded default. It has no pre-trained parts, so everything learns, and tracking too.
    pub fn nano() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            train: TrainConfig {
                epochs: 4,
                batch_size: 8,
                accumulation: 1,
                lr: 3e-4,
                lambda_object: 0.5,
                dice_scale: 1.0,
                tracked_frames: 1,
                trainable: Trainable::ALL,
                ..TrainConfig::paper()
            },
            data: DataConfig {
                include_null: true,
                null_repeats: 1,
            },
            eval: EvalConfig {
                threshold: 0.4,
                null_threshold: 0.5,
                batch_size: 4,
            },
            weights: WeightsConfig::default(),
            model: LoveConfig::nano(),
        }
    }
}

impl TrainConfig {
    /// The paper's recipe, with the defaults of its code base where it is silent.
    pub fn paper() -> Self {
        Self {
            steps: 0,
            epochs: 10,
            batch_size: 8,
            accumulation: 2,
            lr: 1e-4,
            min_lr: 0.0,
            warmup_steps: 100,
            warmup_type: WarmupType::Linear,
            weight_decay: 0.0,
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            clip_norm: 1.0,
            max_skipped_in_row: 5,
            lambda_bce: 1.0,
            lambda_dice: 1.0,
            lambda_object: 0.0,
            lambda_pointing: 0.0,
            lambda_grounding: 0.0,
            dice_scale: 1000.0,
            tracked_frames: 0,
            fusion_frames: 0,
            fusion_patches: 0,
            glance_steps: 0,
            glance_patches: 0,
            muted_nulls: 0.0,
            swapped_nulls: 0.0,
            seed: 0,
            checkpoint_every: 500,
            best: BestMetric::J,
            keep_checkpoints: 2,
            validate_every: 0,
            overlays: 4,
            log_every: 10,
            trainable: Trainable::PAPER,
            lr_scale: PartScales::ONE,
            weight_decay_scale: PartScales::ONE,
        }
    }

    /// Optimizer steps of the whole run on `rows` rows: whole micro-batches, the last of an epoch possibly smaller.
    pub fn total_steps(&self, rows: usize) -> usize {
        if self.steps > 0 {
            return self.steps;
        }
        (self.epochs * rows.div_ceil(self.batch_size)).div_ceil(self.accumulation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;

    #[test]
    fn nulls_come_as_often_as_they_are_asked_for() {
        let row = |uid: &str| Row {
            vid: "a".into(),
            uid: uid.into(),
            split: Split::Train,
            fid: "1".into(),
            expression: "the red star".into(),
        };
        let (plain, null) = (row("a_star_1"), row("null_a_star_1"));
        for (include_null, null_repeats, times) in [(true, 1, 1), (true, 4, 4), (false, 4, 0)] {
            let config = DataConfig {
                include_null,
                null_repeats,
            };
            assert_eq!([config.times(&plain), config.times(&null)], [1, times]);
        }
    }
}
