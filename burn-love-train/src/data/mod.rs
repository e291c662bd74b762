//! Reader for data in Ref-AVS's layout.
//!
//! ```text
//! metadata.csv                              vid,uid,split,fid,exp
//! media/{key}/audio.wav
//! media/{key}/frames/{0..}.jpg              one frame a second
//! gt_mask/{key}/fid_{fid}/0000{0..}.png     foreground > 0
//! ```
//!
//! `key` is the row's `uid` without its last two `_` parts. It differs from `vid` for null rows, whose expression refers
//! to nothing and which need not have masks.

mod error;
mod files;
mod frame_files;
mod reader;
mod row;
mod sound_file;
mod split;
mod validate;

pub use error::DataError;
pub(crate) use files::{read_image, size_text};
pub use frame_files::FrameFiles;
pub use reader::RefAvs;
pub use row::Row;
pub use sound_file::SoundFile;
pub use split::{Split, UnknownSplit};
pub use validate::{BadSample, CLIP_TOLERANCE_SECONDS, Validation};
