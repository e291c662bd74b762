//! What a training would do, before it does it: parts and parameters, memory, steps, and the learning rate.

use std::{collections::BTreeMap, fmt};

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    prelude::*,
};
use burn_love::{
    fusion::Strategy,
    love::{LoveConfig, Trainable},
};

use super::{WarmupDecay, WarmupDecayConfig, parts};
use crate::config::{Config, TrainConfig};

/// Bytes of a value.
const F32: usize = 4;

/// Values that are kept for one that learns: its gradient and two moments.
const STATE_OF_LEARNING: usize = 3;

/// Columns of the schedule's plot.
const COLUMNS: usize = 60;

/// A part of the model and its size, in values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSize {
    /// Its name, as in `train.lr_scale`.
    pub name: &'static str,
    /// All of it.
    pub total: usize,
    /// What learns of it.
    pub trainable: usize,
}

/// A training, described.
#[derive(Debug, Clone)]
pub struct TrainPlan {
    /// The model's parts.
    pub parts: Vec<PartSize>,
    /// Rows to learn from.
    pub rows: usize,
    /// Optimizer steps.
    pub steps: usize,
    /// Bytes of weights, gradients and moments.
    pub state_bytes: usize,
    /// Bytes that the fusion transformer keeps for its backward pass.
    pub activation_bytes: usize,
    train: TrainConfig,
    schedule: WarmupDecay,
}

impl TrainPlan {
    /// The plan of a config on `rows` rows of clips with `frames` frames. Builds the model without its weights.
    pub fn new<B: Backend>(config: &Config, rows: usize, frames: usize, device: &B::Device) -> Self {
        let model = config.model.init::<B>(device);
        let mut sizes = Sizes(BTreeMap::new());
        model.visit(&mut sizes);
        let parts: Vec<PartSize> = parts(&model, &config.train)
            .into_iter()
            .map(|part| {
                let total = part.ids.iter().filter_map(|id| sizes.0.get(id)).sum();
                PartSize {
                    name: part.name,
                    total,
                    trainable: if learns(&config.train.trainable, part.name) {
                        total
                    } else {
                        0
                    },
                }
            })
            .collect();
        let steps = config.train.total_steps(rows);
        let values: usize = parts
            .iter()
            .map(|part| part.total + STATE_OF_LEARNING * part.trainable)
            .sum();
        Self {
            parts,
            rows,
            steps,
            state_bytes: F32 * values,
            activation_bytes: F32 * config.train.batch_size * fusion_values(&config.model, frames),
            train: config.train.clone(),
            schedule: WarmupDecayConfig::new(&config.train, steps).init(),
        }
    }

    /// The learning rate over the run, as a line of bars.
    fn bars(&self) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let columns = COLUMNS.min(self.steps).max(1);
        let highest = self.train.lr.max(f64::MIN_POSITIVE);
        (0..columns)
            .map(|column| {
                let step = column * self.steps.saturating_sub(1) / (columns - 1).max(1);
                let level = self.schedule.at(step) / highest * (BARS.len() - 1) as f64;
                BARS[(level.round() as usize).min(BARS.len() - 1)]
            })
            .collect()
    }
}

/// Values that the fusion transformer keeps for one clip: ten widths and two hidden layers a token, and its attention.
fn fusion_values(model: &LoveConfig, frames: usize) -> usize {
    let (fusion, vision) = (&model.fusion, &model.encoders.vision);
    let patches = (vision.image_size / vision.patch_size).pow(2);
    let frames = fusion.fused(frames).len();
    let shared = fusion.seg_tokens + frames + 2 + model.encoders.text.max_tokens;
    let (sequences, length) = match fusion.strategy {
        Strategy::Learnable if fusion.accumulation => (frames, shared + patches + frames),
        Strategy::Learnable => (frames, shared + patches),
        Strategy::Mean => (1, shared - fusion.seg_tokens + frames * patches),
    };
    let of_token = (10 + 2 * fusion.mlp_ratio) * fusion.width + fusion.heads * length;
    fusion.layers * sequences * length * of_token
}

impl fmt::Display for TrainPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = |values: usize| values as f64 / 1e6;
        let gigabytes = |bytes: usize| bytes as f64 / 1e9;
        writeln!(f, "{:16} {:>12} {:>12}", "part", "parameters", "that learn")?;
        let mut sum = (0, 0);
        for PartSize {
            name,
            total,
            trainable,
        } in &self.parts
        {
            sum = (sum.0 + total, sum.1 + trainable);
            let (total, trainable) = (millions(*total), millions(*trainable));
            writeln!(f, "{name:16} {total:>10.3} M {trainable:>10.3} M")?;
        }
        writeln!(
            f,
            "{:16} {:>10.3} M {:>10.3} M",
            "all",
            millions(sum.0),
            millions(sum.1)
        )?;
        writeln!(
            f,
            "memory: {:.2} GB of weights, gradients and moments; {:.2} GB that the fusion keeps for its gradients; \
             SAM 2 and the encoders come on top",
            gigabytes(self.state_bytes),
            gigabytes(self.activation_bytes)
        )?;
        let train = &self.train;
        writeln!(
            f,
            "{} optimizer steps on {} rows, each of {} rows ({} × {})",
            self.steps,
            self.rows,
            train.batch_size * train.accumulation,
            train.accumulation,
            train.batch_size
        )?;
        writeln!(
            f,
            "learning rate {:e} → {:e} → {:e}, {} steps of warm-up:",
            train.min_lr, train.lr, train.min_lr, train.warmup_steps
        )?;
        write!(f, "{}", self.bars())
    }
}

/// Whether a part learns; the fusion always does.
fn learns(trainable: &Trainable, part: &str) -> bool {
    match part {
        "mask_decoder" => trainable.mask_decoder,
        "prompt_encoder" => trainable.prompt_encoder,
        "image_encoder" => trainable.image_encoder,
        "memory" => trainable.memory,
        "audio_encoder" => trainable.audio_encoder,
        "vision_encoder" => trainable.vision_encoder,
        "text_encoder" => trainable.text_encoder,
        _ => true,
    }
}

/// Values of each parameter, which need not be there yet.
struct Sizes(BTreeMap<ParamId, usize>);

impl<B: Backend> ModuleVisitor<B> for Sizes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.insert(param.id, param.lazy_shape().num_elements());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, resolve};

    type B = burn_flex::Flex;

    fn plan(sets: &[&str]) -> TrainPlan {
        let sources: Vec<_> = sets.iter().map(|set| Source::Set((*set).into())).collect();
        TrainPlan::new::<B>(&resolve(&sources).unwrap(), 100, 10, &Default::default())
    }

    #[test]
    fn parts_are_the_whole_model_and_freezing_shows() {
        let config = Config::nano();
        let model = config.model.init::<B>(&Default::default());
        let sum = |plan: &TrainPlan, of: fn(&PartSize) -> usize| -> usize { plan.parts.iter().map(of).sum() };
        let all = plan(&[]);
        assert_eq!(sum(&all, |part| part.total), model.num_params());
        assert_eq!(sum(&all, |part| part.trainable), model.num_params());
        let frozen = plan(&["train.image_encoder=false", "train.memory=false"]);
        for part in &frozen.parts {
            let expected = match part.name {
                "image_encoder" | "memory" => 0,
                _ => part.total,
            };
            assert_eq!(part.trainable, expected, "{}", part.name);
            assert!(part.total > 0, "{}", part.name);
        }
        assert_eq!(all.state_bytes, 16 * model.num_params());
    }

    #[test]
    fn the_plot_rises_and_falls() {
        let text = plan(&["train.steps=600", "train.warmup_steps=300"]).to_string();
        let bars: Vec<char> = text.lines().last().unwrap().chars().collect();
        assert_eq!((bars.len(), bars[0], bars[30], bars[59]), (60, '▁', '█', '▁'));
        assert!(text.contains("600 optimizer steps on 100 rows"), "{text}");
        let short = plan(&["train.steps=1"]).to_string();
        assert_eq!(short.lines().last().unwrap().chars().count(), 1);
    }
}
