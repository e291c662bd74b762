//! Linear warm-up, then linear decay to zero: DeepSpeed's `WarmupDecayLR`, in optimizer steps.

use burn::{lr_scheduler::LrScheduler, prelude::*};

/// The schedule. Step k (from 0) runs at `peak · γ(k − 1)`, as current DeepSpeed does: its scheduler lags one
/// step behind the optimizer and starts at zero, so the first two steps leave the weights as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct WarmupDecay {
    peak: f64,
    warmup: usize,
    total: usize,
    step: usize,
}

impl WarmupDecay {
    /// A schedule over `total` optimizer steps, of which `warmup` warm up.
    pub fn new(peak: f64, warmup: usize, total: usize) -> Self {
        Self {
            peak,
            warmup,
            total,
            step: 0,
        }
    }

    /// The learning rate of optimizer step `step`, from 0.
    pub fn at(&self, step: usize) -> f64 {
        let Some(k) = step.checked_sub(1) else { return 0.0 };
        let factor = if k < self.warmup {
            k as f64 / self.warmup as f64
        } else {
            let decay = self.total.saturating_sub(self.warmup).max(1) as f64;
            ((self.total as f64 - k as f64) / decay).max(0.0)
        };
        self.peak * factor
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

    /// By hand from the formula of `WarmupDecayLR(total_num_steps=10, warmup_max_lr=1, warmup_num_steps=4,
    /// warmup_type="linear")`, not recorded from a run of DeepSpeed:
    /// the rate in force at each optimizer step.
    #[test]
    fn rates_follow_deepspeeds_formula() {
        let mut schedule = WarmupDecay::new(1.0, 4, 10);
        let expected = [
            0.0,
            0.0,
            0.25,
            0.5,
            0.75,
            1.0,
            5.0 / 6.0,
            4.0 / 6.0,
            3.0 / 6.0,
            2.0 / 6.0,
            1.0 / 6.0,
            0.0,
            0.0,
        ];
        for (step, expected) in expected.into_iter().enumerate() {
            let lr = schedule.step();
            assert!(
                (lr - expected).abs() < 1e-12,
                "step {step}: {lr} against {expected}"
            );
        }
    }

    #[test]
    fn a_record_resumes_where_it_was_taken() {
        let mut schedule = WarmupDecay::new(1e-3, 3, 20);
        for _ in 0..7 {
            schedule.step();
        }
        let mut resumed = WarmupDecay::new(1e-3, 3, 20).load_record::<B>(schedule.to_record::<B>());
        (0..20).for_each(|_| assert_eq!(resumed.step(), schedule.step()));
    }
}
