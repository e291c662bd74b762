//! `sam2`: SAM 2 alone, without a sentence or sound.

mod everything;
pub mod image;
mod model;
