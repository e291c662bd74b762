//! The learning rate of every optimizer step against DeepSpeed's `WarmupDecayLR`: both kinds of warm-up, a lowest rate, a
//! warm-up of one step (two in DeepSpeed), and one that is longer than the run.

use burn_love_tests::Fixture;
use burn_love_train::training::{WarmupDecayConfig, WarmupType};

/// Rates are recorded as f32.
const BOUND: f64 = 2e-7;

#[test]
fn every_step_runs_at_deepspeeds_rate() {
    let fixture = Fixture::load("schedule");
    for name in ["paper", "log", "lifted", "lifted_log", "one_step", "cut_short"] {
        let values = |kind: &str| -> Vec<f64> { fixture.data(&format!("{kind}.{name}")).iter().collect() };
        let case = values("case");
        let config = WarmupDecayConfig {
            min_lr: case[0],
            max_lr: case[1],
            warmup_steps: case[2] as usize,
            warmup_type: if case[3] > 0.0 {
                WarmupType::Log
            } else {
                WarmupType::Linear
            },
            total_steps: case[4] as usize,
        };
        let schedule = config.init();
        for (step, expected) in values("rates").into_iter().enumerate() {
            let lr = schedule.at(step);
            assert!(
                (lr - expected).abs() <= BOUND * config.max_lr,
                "{name}, step {step}: {lr:e} against {expected:e}"
            );
        }
    }
}
