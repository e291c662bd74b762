//! SAM2-LOVE: what is heard, said and seen becomes one token that prompts SAM 2.
//!
//! The paper's whole model (arXiv 2506.01558): frozen encoders, [fusion](crate::fusion), SAM 2. [`Sam2Love`] trains on
//! the first frame; a [`LoveSession`] tracks the object through the clip.

mod config;
mod model;
mod session;
mod training;

pub use config::{EncodersConfig, LoveConfig, Sam2Section};
pub use model::{ClipFeatures, ClipInput, Encoders, Sam2Love, encode};
pub use session::LoveSession;
pub use training::{FramesOutput, Trainable};
