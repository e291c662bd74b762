//! What frozen parts of the model say, kept on disk.
//!
//! The audio, vision and text encoders and SAM 2's image encoder say the same of an input in every epoch while they do
//! not learn. A [`FeatureCache`] keeps it, in one file per input and part:
//!
//! ```text
//! {folder}/{part}-{fingerprint}/{ab}/{abcd…}.safetensors
//! ```
//!
//! The fingerprint is that of the part's weights and config and of the backend; the file is named by the content of the
//! input's own files. So nothing stale is ever read: what has changed has another name. (A run reads an input's files once
//! for that, as long as it is kept: what changes or vanishes while it goes on is noticed by the next one.) Each file
//! carries a checksum; a damaged one is computed again.
//!
//! | part | of | tensors |
//! |---|---|---|
//! | `audio` | a sound | `embedding` `[1, A, D]` |
//! | `vision` | a clip's frames | `patches` `[1, T, P, D]`, `cls` `[1, T, D]` |
//! | `text` | a sentence | `last_hidden_state` `[1, L, D]` |
//! | `sam2` | a frame | `stride4`, `stride8`, `stride16` `[1, D, h, w]`: the neck's maps, before the decoder's convolutions |
//!
//! Parts are always asked about one such input at a time, with the cache and without, so that results do not depend on
//! it.

mod cache;
mod entry;
mod key;
mod model;
mod recall;
#[cfg(test)]
mod tests;

pub use cache::{CacheError, CachePrecision, CacheReport, FeatureCache};
pub use key::{Fingerprint, Part};
pub use model::ModelFeatures;
pub(crate) use recall::{Asked, Slot, recall};
