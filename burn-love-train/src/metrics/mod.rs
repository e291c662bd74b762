//! Metrics of referring audio-visual segmentation.
//!
//! The `official` protocol is that of Ref-AVS (GeWu-Lab/Ref-AVS, `utils/metric/utility.py` and its test loop): scores
//! are taken per loader batch of four expressions at 256² and averaged over batches, so rows go in metadata order. The
//! `per-expression` protocol is the same code with batches of one at native resolution.

mod frame;
mod label;
mod official;

pub(crate) use frame::BETA_SQUARED;
pub use frame::{FrameCounts, PresenceCurve, iou};
pub(crate) use label::label_nearest;
pub use label::{LABEL_SIDE, label_256, label_256_colour, label_native};
pub use official::{ExpressionScore, NullScore, Official, OfficialNull, SeenScore};

/// Expressions in a batch of the `official` protocol.
pub const OFFICIAL_BATCH: usize = 4;
