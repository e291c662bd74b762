//! Pre-training of the nano model's parts, one modality at a time, as ImageNet, AudioSet and SA-1B do for the large ones.
//!
//! | stage | learns | from |
//! |---|---|---|
//! | [`audio`] | the audio encoder | labels of what sounds in mixtures |
//! | [`vision`] | the vision encoder | labels of what single frames show |
//! | [`text`] | the text encoder | masked tokens of sentences |
//! | [`sam2`] | SAM 2 | masks of objects that clicks, boxes and masks point at, in images, then in short clips |
//!
//! No stage sees an image together with a sound or a sentence. Labels come from the synthetic scenes' own description
//! (`lavs/{key}.json`). A stage ends with measurements on clips that it never learned from ([`Gate`]), and with a file of
//! weights that `[weights]` of a training's config takes.

mod audio;
mod classes;
mod patches;
mod probe;
mod run;
mod sam2;
mod scenes;
mod stage;
mod task;
mod text;
mod vision;

pub use probe::{Labelled, probe};
pub use run::{PretrainPosition, PretrainRun, Pretrained};
pub use stage::Stage;
pub use task::Gate;
