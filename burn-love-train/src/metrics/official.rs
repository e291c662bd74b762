//! J and F on rows with an object, S on null rows, batch by batch.

use serde::{Deserialize, Serialize};

use super::{
    OFFICIAL_BATCH,
    frame::{FrameCounts, PresenceCurve},
};

/// A pixel counts for J above this probability.
const J_THRESHOLD: f32 = 0.4;

/// A pixel counts for S above this probability.
const S_THRESHOLD: f32 = 0.5;

/// The scores of one expression, as a batch of its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExpressionScore {
    /// Mean IoU of its frames.
    pub j: f64,
    /// Best threshold's mean F-measure over the frames with a label; 0 if there is none.
    pub f: f64,
}

/// Scores of a split whose expressions refer to something. Fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeenScore {
    /// Region similarity.
    pub j: f64,
    /// F-measure.
    pub f: f64,
    /// Mean of `j` and `f`.
    pub jf: f64,
    /// Expressions scored.
    pub n: usize,
    /// Each expression as a batch of its own, in the order of [`Official::push`].
    pub expressions: Vec<ExpressionScore>,
}

/// Score of a split whose expressions refer to nothing. Fraction, lower is better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NullScore {
    /// Square root of the share of pixels predicted.
    pub s: f64,
    /// Expressions scored.
    pub n: usize,
    /// Each expression as a batch of its own, in the order of [`OfficialNull::push`].
    pub expressions: Vec<f64>,
}

/// Sums over the frames of a batch.
#[derive(Debug, Clone, Default)]
struct Batch {
    iou: f64,
    frames: usize,
    curve: Vec<f64>,
    curve_frames: usize,
}

impl Batch {
    fn of(probabilities: &[f32], labels: &[bool], pixels: usize, threshold: f32) -> Self {
        let mut batch = Self::default();
        for (frame, label) in probabilities
            .chunks_exact(pixels)
            .zip(labels.chunks_exact(pixels))
        {
            let predicted = |p: &f32| *p > threshold;
            let counts = FrameCounts {
                pixels,
                intersection: frame
                    .iter()
                    .zip(label)
                    .filter(|(p, l)| predicted(p) && **l)
                    .count(),
                predicted: frame.iter().filter(|p| predicted(p)).count(),
                labelled: label.iter().filter(|l| **l).count(),
            };
            batch.iou += counts.iou();
            batch.frames += 1;
            if let Some(curve) = PresenceCurve::new(frame, label).f_measures() {
                batch.add_curve(&curve, 1);
            }
        }
        batch
    }

    fn add(&mut self, other: &Self) {
        self.iou += other.iou;
        self.frames += other.frames;
        self.add_curve(&other.curve, other.curve_frames);
    }

    fn add_curve(&mut self, curve: &[f64], frames: usize) {
        self.curve.resize(self.curve.len().max(curve.len()), 0.0);
        for (sum, value) in self.curve.iter_mut().zip(curve) {
            *sum += value;
        }
        self.curve_frames += frames;
    }

    fn score(&self) -> ExpressionScore {
        let best = self.curve.iter().copied().fold(0.0, f64::max);
        ExpressionScore {
            j: self.iou / self.frames.max(1) as f64,
            f: best / self.curve_frames.max(1) as f64,
        }
    }
}

/// Collects J and F over the rows of a split, in metadata order.
///
/// # Examples
/// ```
/// use burn_love_train::metrics::Official;
///
/// let mut official = Official::new();
/// official.push(&[0.9, 0.1, 0.2, 0.8], &[true, false, false, true], 1); // one frame of four pixels
/// let score = official.finish();
/// assert!((score.j - 1.0).abs() < 1e-6 && (score.f - 1.0).abs() < 1e-6);
/// ```
#[derive(Debug, Clone)]
pub struct Official {
    batch_size: usize,
    threshold: f32,
    batch: Batch,
    done: Vec<ExpressionScore>,
    expressions: Vec<ExpressionScore>,
}

impl Official {
    /// Batches of four expressions.
    pub fn new() -> Self {
        Self::with_batch(OFFICIAL_BATCH)
    }

    /// Batches of `batch_size` expressions; 1 is the `per-expression` protocol.
    ///
    /// # Panics
    /// When `batch_size` is 0.
    pub fn with_batch(batch_size: usize) -> Self {
        assert!(batch_size > 0, "a batch holds at least one expression");
        Self {
            batch_size,
            threshold: J_THRESHOLD,
            batch: Batch::default(),
            done: Vec::new(),
            expressions: Vec::new(),
        }
    }

    /// Counts a pixel for J above this probability instead of 0.4.
    pub fn with_threshold(self, threshold: f32) -> Self {
        Self { threshold, ..self }
    }

    /// Adds one expression and gives its own score.
    ///
    /// # Shapes
    /// - `probabilities`, `labels`: `[T, H, W]`, T = `frames`; probabilities are after the sigmoid
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of `frames`.
    pub fn push(&mut self, probabilities: &[f32], labels: &[bool], frames: usize) -> ExpressionScore {
        assert_eq!(
            probabilities.len(),
            labels.len(),
            "probabilities and labels differ in length"
        );
        let pixels = pixels_of(probabilities.len(), frames);
        let own = Batch::of(probabilities, labels, pixels, self.threshold);
        self.batch.add(&own);
        self.expressions.push(own.score());
        if self.expressions.len().is_multiple_of(self.batch_size) {
            self.done.push(std::mem::take(&mut self.batch).score());
        }
        own.score()
    }

    /// Means over the batches, a last partial one included. All 0 when nothing was pushed.
    pub fn finish(mut self) -> SeenScore {
        if self.batch.frames > 0 {
            self.done.push(self.batch.score());
        }
        let batches = self.done.len().max(1) as f64;
        let j = self.done.iter().map(|batch| batch.j).sum::<f64>() / batches;
        let f = self.done.iter().map(|batch| batch.f).sum::<f64>() / batches;
        SeenScore {
            j,
            f,
            jf: (j + f) / 2.0,
            n: self.expressions.len(),
            expressions: self.expressions,
        }
    }
}

impl Default for Official {
    fn default() -> Self {
        Self::new()
    }
}

/// Collects S over the null rows of a split, in metadata order.
#[derive(Debug, Clone)]
pub struct OfficialNull {
    batch_size: usize,
    threshold: f32,
    foreground: usize,
    pixels: usize,
    done: Vec<f64>,
    expressions: Vec<f64>,
}

impl OfficialNull {
    /// Batches of four expressions.
    pub fn new() -> Self {
        Self::with_batch(OFFICIAL_BATCH)
    }

    /// Batches of `batch_size` expressions; 1 is the `per-expression` protocol.
    ///
    /// # Panics
    /// When `batch_size` is 0.
    pub fn with_batch(batch_size: usize) -> Self {
        assert!(batch_size > 0, "a batch holds at least one expression");
        Self {
            batch_size,
            threshold: S_THRESHOLD,
            foreground: 0,
            pixels: 0,
            done: Vec::new(),
            expressions: Vec::new(),
        }
    }

    /// Counts a pixel above this probability instead of 0.5.
    pub fn with_threshold(self, threshold: f32) -> Self {
        Self { threshold, ..self }
    }

    /// Adds one expression and gives its own score.
    ///
    /// # Shapes
    /// - `probabilities`: `[T, H, W]`, after the sigmoid
    pub fn push(&mut self, probabilities: &[f32]) -> f64 {
        let foreground = probabilities.iter().filter(|p| **p > self.threshold).count();
        self.foreground += foreground;
        self.pixels += probabilities.len();
        let own = root_share(foreground, probabilities.len());
        self.expressions.push(own);
        if self.expressions.len().is_multiple_of(self.batch_size) {
            self.close();
        }
        own
    }

    /// Mean over the batches, a last partial one included. 0 when nothing was pushed.
    pub fn finish(mut self) -> NullScore {
        if self.pixels > 0 {
            self.close();
        }
        let s = self.done.iter().sum::<f64>() / self.done.len().max(1) as f64;
        NullScore {
            s,
            n: self.expressions.len(),
            expressions: self.expressions,
        }
    }

    fn close(&mut self) {
        self.done.push(root_share(self.foreground, self.pixels));
        (self.foreground, self.pixels) = (0, 0);
    }
}

impl Default for OfficialNull {
    fn default() -> Self {
        Self::new()
    }
}

fn root_share(foreground: usize, pixels: usize) -> f64 {
    (foreground as f64 / pixels.max(1) as f64).sqrt()
}

fn pixels_of(length: usize, frames: usize) -> usize {
    assert!(
        frames > 0 && length > 0 && length.is_multiple_of(frames),
        "{length} pixels do not make {frames} frames"
    );
    length / frames
}

#[cfg(test)]
#[path = "official_tests.rs"]
mod tests;
