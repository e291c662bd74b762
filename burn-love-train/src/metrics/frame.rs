//! What one frame contributes: its IoU and its curve of F-measures.

/// Thresholds of the F-measure.
const THRESHOLDS: usize = 255;

/// β² of the F-measure.
pub(crate) const BETA_SQUARED: f64 = 0.3;

/// Added to the union, in the reference.
const IOU_EPSILON: f64 = 1e-7;

/// IoU of a binary prediction and a label; an empty label scores the share of pixels left background.
pub fn iou(prediction: &[bool], label: &[bool]) -> f64 {
    let pairs = || prediction.iter().zip(label);
    FrameCounts {
        pixels: label.len(),
        intersection: pairs().filter(|(p, l)| **p && **l).count(),
        predicted: prediction.iter().filter(|p| **p).count(),
        labelled: label.iter().filter(|l| **l).count(),
    }
    .iou()
}

/// Pixel counts of one frame at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameCounts {
    /// Pixels of the frame.
    pub pixels: usize,
    /// Pixels that are predicted and labelled.
    pub intersection: usize,
    /// Pixels that are predicted.
    pub predicted: usize,
    /// Pixels that are labelled.
    pub labelled: usize,
}

impl FrameCounts {
    /// IoU; for an empty label the share of pixels that are not predicted.
    pub fn iou(self) -> f64 {
        let (agreed, union) = match self.labelled {
            0 => (self.pixels - self.predicted, self.pixels),
            labelled => (self.intersection, self.predicted + labelled - self.intersection),
        };
        agreed as f64 / (union as f64 + IOU_EPSILON)
    }
}

/// How many pixels, and labelled pixels, pass each of the 255 thresholds linspace(0, 1 − 1e-10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceCurve {
    predicted: Vec<usize>,
    intersection: Vec<usize>,
    labelled: usize,
}

impl PresenceCurve {
    /// Sorts the probabilities of one frame between the thresholds.
    pub fn new(probabilities: &[f32], label: &[bool]) -> Self {
        let thresholds = thresholds();
        // Bin k holds the pixels that pass the first k thresholds.
        let (mut predicted, mut intersection) = (vec![0; THRESHOLDS + 1], vec![0; THRESHOLDS + 1]);
        for (p, l) in probabilities.iter().zip(label) {
            let bin = passed(*p, &thresholds);
            predicted[bin] += 1;
            intersection[bin] += usize::from(*l);
        }
        for counts in [&mut predicted, &mut intersection] {
            for k in (0..THRESHOLDS).rev() {
                counts[k] += counts[k + 1];
            }
            counts.remove(0);
        }
        Self {
            predicted,
            intersection,
            labelled: label.iter().filter(|l| **l).count(),
        }
    }

    /// The F-measure (β² = 0.3) at each threshold; `None` for an empty label, which the metric skips.
    pub fn f_measures(&self) -> Option<Vec<f64>> {
        if self.labelled == 0 {
            return None;
        }
        let score = |(predicted, intersection): (&usize, &usize)| {
            if *intersection == 0 {
                return 0.0;
            }
            let precision = *intersection as f64 / *predicted as f64;
            let recall = *intersection as f64 / self.labelled as f64;
            (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
        };
        Some(self.predicted.iter().zip(&self.intersection).map(score).collect())
    }
}

/// `torch.linspace(0, 1 - 1e-10, 255)` in f32: filled from both ends with fused multiply-adds, as PyTorch does on CPUs
/// that have them.
fn thresholds() -> Vec<f32> {
    let step = 1.0f32 / (THRESHOLDS - 1) as f32;
    let value = |i: usize| match i < THRESHOLDS / 2 {
        true => step * i as f32,
        false => (-step).mul_add((THRESHOLDS - 1 - i) as f32, 1.0),
    };
    (0..THRESHOLDS).map(value).collect()
}

/// How many thresholds a probability is not below. NaN passes none.
fn passed(p: f32, thresholds: &[f32]) -> usize {
    if p.is_nan() {
        return 0;
    }
    // The guess is off by one at most where the product rounds.
    let guess = (p * (THRESHOLDS - 1) as f32).clamp(0.0, (THRESHOLDS - 1) as f32) as usize;
    let from = guess.saturating_sub(1);
    from + thresholds[from..].iter().take(3).take_while(|t| p >= **t).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_on_a_threshold_passes_it_and_one_ulp_below_does_not() {
        let thresholds = thresholds();
        assert_eq!((thresholds[0], thresholds[254]), (0.0, 1.0));
        for (i, t) in thresholds.iter().enumerate() {
            assert_eq!(passed(*t, &thresholds), i + 1);
            if *t > 0.0 {
                assert_eq!(passed(t.next_down(), &thresholds), i);
            }
        }
        assert_eq!([passed(f32::NAN, &thresholds), passed(-1.0, &thresholds)], [0, 0]);
    }

    #[test]
    fn an_empty_label_rewards_silence() {
        let nothing = [false; 8];
        let half: Vec<bool> = (0..8).map(|i| i < 4).collect();
        assert!((iou(&nothing, &nothing) - 1.0).abs() < 1e-7);
        assert!((iou(&half, &nothing) - 0.5).abs() < 1e-7);
        assert_eq!(iou(&nothing, &half), 0.0);
        assert!((iou(&[true; 8], &half) - 0.5).abs() < 1e-7);
    }
}
