//! The scene graph that lies beside each clip in `lavs/{key}.json`.

use serde::{Deserialize, Serialize};

use super::{
    class::Colour,
    language::{Kind, Meaning},
    motion::Path,
    plan::NullCause,
    raster,
    scene::{Item, Voice},
    unnamed::{Unnamed, outline},
};
use crate::data::Split;

/// Everything there is to know about a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SceneGraph {
    /// The clip's folder in `media`.
    pub key: String,
    /// The clip that it belongs to: another key for null rows.
    pub vid: String,
    /// Where its rows belong.
    pub split: Split,
    /// Width of a frame, in pixels.
    pub width: u32,
    /// Height of a frame, in pixels.
    pub height: u32,
    /// What is seen. A later object is painted over an earlier one.
    pub objects: Vec<ObjectGraph>,
    /// What is heard.
    pub sounds: Vec<SoundGraph>,
    /// The clip with the same frames and texts and another sound, whose rows refer to other objects.
    pub twin: Option<String>,
    /// The clip with the same frames and its own sound, if this one's was taken away or replaced.
    pub whole: Option<String>,
    /// Whether the sound was taken away.
    pub muted: bool,
    /// Whether the sound is another clip's.
    pub swapped: bool,
    /// The expressions about the clip.
    pub rows: Vec<RowGraph>,
}

/// An object of a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectGraph {
    /// Its `fid`, from 1.
    pub id: u32,
    /// Shape, surface and colour.
    #[serde(flatten)]
    pub item: Item,
    /// What it has instead of its shape or its surface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<Unnamed>,
    /// Where it goes.
    pub motion: Path,
    /// What is seen of it in each frame.
    pub frames: Vec<ObjectFrame>,
}

/// What is seen of an object in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ObjectFrame {
    /// Visible pixels, as a share of the frame.
    pub area: f64,
    /// Visible pixels, as a share of the object.
    pub visibility: f64,
    /// The object's pixels, seen or not, as a share of the frame.
    pub full_area: f64,
}

/// A sound of a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SoundGraph {
    /// Spectrum, modulation, level, pitch and times.
    #[serde(flatten)]
    pub voice: Voice,
    /// The object that it belongs to, if that is seen.
    pub object: Option<u32>,
}

/// What a row is an example of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// Refers to an object by looks.
    Vision,
    /// Refers to an object by level or presence of sound.
    Audio,
    /// Refers to an object by a look and presence of sound.
    AudioVision,
    /// Refers to an object by duration of sound.
    Time,
    /// Refers to an object by order of sounds.
    Order,
    /// Refers to nothing: nothing looks like that.
    NullAbsent,
    /// Refers to nothing: what looks like that is not heard as stated.
    NullSilent,
    /// Refers to nothing, because the sound was taken away.
    NullMuted,
    /// Refers to nothing, because the sound is another clip's.
    NullSwapped,
}

impl RowKind {
    /// From what an expression is about and why it refers to nothing.
    pub fn new(kind: Kind, null: Option<NullCause>) -> Self {
        match (null, kind) {
            (Some(NullCause::Absent), _) => Self::NullAbsent,
            (Some(NullCause::Silent), _) => Self::NullSilent,
            (Some(NullCause::Muted), _) => Self::NullMuted,
            (Some(NullCause::Swapped), _) => Self::NullSwapped,
            (None, Kind::Vision) => Self::Vision,
            (None, Kind::Audio) => Self::Audio,
            (None, Kind::AudioVision) => Self::AudioVision,
            (None, Kind::Time) => Self::Time,
            (None, Kind::Order) => Self::Order,
        }
    }
}

/// An expression about a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowGraph {
    /// Its uid in `metadata.csv`.
    pub uid: String,
    /// What it is an example of.
    pub kind: RowKind,
    /// What it says.
    pub expression: String,
    /// What it states.
    pub meaning: Meaning,
    /// The `fid` that it refers to.
    pub target: Option<u32>,
}

impl SceneGraph {
    /// Looks of the objects.
    pub fn items(&self) -> Vec<Item> {
        self.objects.iter().map(|object| object.item).collect()
    }

    /// Sounds, whether or not they belong to an object.
    pub fn voices(&self) -> Vec<Voice> {
        self.sounds.iter().map(|sound| sound.voice.clone()).collect()
    }

    /// The index of the uppermost object at each pixel of frame `t`, row by row: the masks of all objects.
    pub fn owners(&self, t: u32) -> Vec<Option<usize>> {
        let outlines = self
            .objects
            .iter()
            .map(|object| outline(&object.item, object.unnamed));
        let outlines: Vec<_> = outlines.collect();
        let paths: Vec<Path> = self.objects.iter().map(|object| object.motion.clone()).collect();
        raster::owners(&outlines, &paths, t, self.width, self.height)
    }

    /// Colours of the objects, bottom up.
    pub fn colours(&self) -> Vec<Colour> {
        self.objects.iter().map(|object| object.item.colour).collect()
    }
}
