//! `sam2`: SAM 2 alone, without a sentence or sound.

mod everything;
pub mod image;
mod model;
mod picture;
mod prompts;
pub mod video;
mod video_file;
