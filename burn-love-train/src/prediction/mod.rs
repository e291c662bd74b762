//! Prediction: one expression about one clip, from frames and sound to masks on disk.

mod frames;
mod overlay;
mod predict;
#[cfg(test)]
mod tests;
mod write;

pub use frames::{FrameFolder, read_frames};
pub use overlay::{OBJECT_COLOUR, TRUTH_COLOUR, contact_sheet, outline, overlay};
pub use predict::{FramePrediction, PredictRequest, Prediction, Timings, predict};
pub use write::Format;
