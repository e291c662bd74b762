//! LAVS-Synth: synthetic language-aided audio-visual scenes in Ref-AVS's layout.
//!
//! A look predicts a sound: the shape of an object decides the spectrum of its sound, its surface the amplitude
//! modulation. Six combinations are held out for the unseen test split. Expressions are minimal (without any of their
//! predicates at least two objects would be meant), twins share frames and text but not the sound, and rows that refer
//! to nothing use the same templates and words as the others, so each of the three modalities is needed. The symbolic
//! solvers behind [`ceilings`] measure how far one gets without sound or text.
//!
//! Beside the layout, `lavs/{key}.json` holds the [`SceneGraph`] of each clip.
//!
//! Every clip has a seed of its own, made from (seed, split, clip), so the files do not depend on the thread count.

mod cast;
mod class;
mod compose;
mod config;
mod error;
mod generate;
mod graph;
mod language;
mod motion;
mod outline;
mod paint;
mod plan;
mod raster;
mod scene;
mod shares;
mod solver;
mod sound;
#[cfg(test)]
mod tests;
mod unnamed;

pub use class::{Class, Colour, Shape, Surface};
pub use config::{SynthConfig, SynthSummary};
pub use error::SynthError;
pub use generate::{generate, scenes};
pub use graph::{ObjectFrame, ObjectGraph, RowGraph, RowKind, SceneGraph, SoundGraph};
pub use language::{Hear, Kind, Look, Meaning, Template};
pub use motion::{Late, Path, Pose};
pub use plan::NullCause;
pub use scene::{AT_ONCE, Item, LEVELS, SECONDS, Voice};
pub use solver::{Ceiling, Ceilings, ceilings, ceilings_of, read_graphs};
pub use sound::{BACKGROUND_DBFS, SAMPLE_RATE, background};
pub use unnamed::{Attribute, Unnamed};
