//! Warm-up, then linear decay: DeepSpeed's `WarmupDecayLR`, in optimizer steps.

use burn::{lr_scheduler::LrScheduler, prelude::*};
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;

/// How the learning rate rises during the warm-up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmupType {
    /// By equal parts a step, as the paper's code base asks for.
    #[default]
    Linear,
    /// As the logarithm of the step: DeepSpeed's own default.
    Log,
}

/// What a [`WarmupDecay`] is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WarmupDecayConfig {
    /// Rate at the start and at the end.
    pub min_lr: f64,
    /// Rate at the end of the warm-up.
    pub max_lr: f64,
    /// Optimizer steps of warm-up: none, or at least two as in DeepSpeed.
    pub warmup_steps: usize,
    /// How the rate rises.
    pub warmup_type: WarmupType,
    /// Optimizer steps in all.
    pub total_steps: usize,
}

/// The schedule. Step k (from 0) runs at `min + (max − min) · γ(k − 1)`, as in DeepSpeed (0.19.8): its scheduler lags
/// one step behind the optimizer and begins at γ(0) = 0, so the first two steps run at the lowest rate.
///
/// DEVIATION: DeepSpeed refuses a warm-up of 0 steps; here it means none, and the first step runs at `max`.
#[derive(Debug, Clone, PartialEq)]
pub struct WarmupDecay {
    config: WarmupDecayConfig,
    step: usize,
}

impl WarmupDecayConfig {
    /// The schedule of a training of `total_steps`.
    pub fn new(config: &TrainConfig, total_steps: usize) -> Self {
        Self {
            min_lr: config.min_lr,
            max_lr: config.lr,
            warmup_steps: config.warmup_steps,
            warmup_type: config.warmup_type,
            total_steps,
        }
    }

    /// The schedule at its first step.
    pub fn init(self) -> WarmupDecay {
        self.at(0)
    }

    /// The schedule with `step` steps done.
    pub fn at(self, step: usize) -> WarmupDecay {
        WarmupDecay { config: self, step }
    }
}

impl WarmupDecay {
    /// The learning rate of optimizer step `step`, from 0.
    pub fn at(&self, step: usize) -> f64 {
        let WarmupDecayConfig { min_lr, max_lr, .. } = self.config;
        let gamma = match step.checked_sub(1) {
            Some(k) => self.gamma(k),
            None if self.config.warmup_steps == 0 => 1.0,
            None => 0.0,
        };
        min_lr + (max_lr - min_lr) * gamma
    }

    fn gamma(&self, k: usize) -> f64 {
        let WarmupDecayConfig {
            warmup_steps,
            warmup_type,
            total_steps,
            ..
        } = self.config;
        let warmup = if warmup_steps == 0 { 0 } else { warmup_steps.max(2) };
        if k < warmup {
            return match warmup_type {
                WarmupType::Linear => k as f64 / warmup as f64,
                WarmupType::Log => 1.0 / (warmup as f64).ln() * ((k + 1) as f64).ln(),
            };
        }
        let decay = total_steps.saturating_sub(warmup).max(1) as f64;
        ((total_steps as f64 - k as f64) / decay).max(0.0)
    }
}

impl LrScheduler for WarmupDecay {
    type Record<B: Backend> = usize;

    fn step(&mut self) -> f64 {
        let lr = self.at(self.step);
        self.step += 1;
        lr
    }

    fn to_record<B: Backend>(&self) -> usize {
        self.step
    }

    fn load_record<B: Backend>(mut self, record: usize) -> Self {
        self.step = record;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    type B = burn_flex::Flex;

    const SCHEDULE: WarmupDecayConfig = WarmupDecayConfig {
        min_lr: 0.0,
        max_lr: 1.0,
        warmup_steps: 4,
        warmup_type: WarmupType::Linear,
        total_steps: 10,
    };

    fn rates(config: WarmupDecayConfig) -> Vec<f64> {
        let mut schedule = config.init();
        (0..13).map(|_| schedule.step()).collect()
    }

    /// The parity case `schedule` has DeepSpeed's own values; this is the shape at a glance.
    #[test]
    fn it_lags_rises_falls_and_stays_at_the_end() {
        let sixth = |n: i32| f64::from(n) / 6.0;
        let expected = [
            0.0,
            0.0,
            0.25,
            0.5,
            0.75,
            1.0,
            sixth(5),
            sixth(4),
            sixth(3),
            sixth(2),
            sixth(1),
            0.0,
            0.0,
        ];
        for (step, (lr, expected)) in rates(SCHEDULE).into_iter().zip(expected).enumerate() {
            assert!(
                (lr - expected).abs() < 1e-12,
                "step {step}: {lr} against {expected}"
            );
        }
    }

    #[test]
    fn without_a_warm_up_it_begins_at_the_top() {
        let config = WarmupDecayConfig {
            warmup_steps: 0,
            min_lr: 0.5,
            ..SCHEDULE
        };
        let rates = rates(config);
        assert_eq!((rates[0], rates[1]), (1.0, 1.0));
        assert!(rates.windows(2).all(|pair| pair[1] <= pair[0]));
        assert_eq!(rates[11], 0.5);
    }

    #[test]
    fn a_record_resumes_where_it_was_taken() {
        let mut schedule = SCHEDULE.init();
        for _ in 0..7 {
            schedule.step();
        }
        let mut resumed = SCHEDULE.init().load_record::<B>(schedule.to_record::<B>());
        assert_eq!(resumed, SCHEDULE.at(7));
        (0..20).for_each(|_| assert_eq!(resumed.step(), schedule.step()));
    }
}
