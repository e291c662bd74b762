//! Settings of the generator, and what it made.

use serde::{Deserialize, Serialize};

use super::SynthError;
use crate::data::Split;

/// Most expressions a clip can have: sounds alone offer twins no more that are always different.
const MOST_EXPRESSIONS: usize = 4;

/// Smallest frame in which the smallest objects still show their shape, in pixels.
const SMALLEST: [u32; 2] = [48, 32];

/// Largest side of a frame, in pixels.
const LARGEST: u32 = 4096;

/// What to generate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthConfig {
    /// Same seed, same bytes.
    pub seed: u64,
    /// Clips of the train split.
    pub train: usize,
    /// Clips of the val split.
    pub val: usize,
    /// Clips of the test split on seen classes.
    pub test_seen: usize,
    /// Clips of the test split on held-out classes.
    pub test_unseen: usize,
    /// Clips of the test split whose expressions refer to nothing.
    pub test_null: usize,
    /// Width of the frames, in pixels.
    pub width: u32,
    /// Height of the frames, in pixels.
    pub height: u32,
    /// Expressions of a clip, 1 to 4.
    pub expressions_per_clip: usize,
    /// Whether a tenth of the expressions is about the order of sounds ("the first sounding object"), which a model
    /// without positions on its audio tokens cannot tell.
    pub order_expressions: bool,
    /// Of a hundred objects of the train split that can lose the name of their shape or surface, as no expression states it and
    /// none beside them would be taken for them, how many have a look without a name, and a sound to match.
    pub unnamed_percent: u32,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            train: 600,
            val: 60,
            test_seen: 100,
            test_unseen: 100,
            test_null: 60,
            width: 224,
            height: 128,
            expressions_per_clip: 4,
            order_expressions: false,
            unnamed_percent: 0,
        }
    }
}

impl SynthConfig {
    /// Clips of a split.
    pub fn clips(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Val => self.val,
            Split::TestS => self.test_seen,
            Split::TestU => self.test_unseen,
            Split::TestN => self.test_null,
        }
    }

    /// Clips of all splits.
    pub fn total(&self) -> usize {
        Split::ALL.into_iter().map(|split| self.clips(split)).sum()
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// When frames are too small or large, or there are too many or no expressions.
    pub fn validate(&self) -> Result<(), SynthError> {
        let within = |name, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(SynthError::Config {
                name,
                expected: format!("{least} to {most}"),
                found: value.to_string(),
            }),
        };
        within(
            "width",
            self.width as usize,
            SMALLEST[0] as usize,
            LARGEST as usize,
        )?;
        within(
            "height",
            self.height as usize,
            SMALLEST[1] as usize,
            LARGEST as usize,
        )?;
        within(
            "expressions_per_clip",
            self.expressions_per_clip,
            1,
            MOST_EXPRESSIONS,
        )?;
        within("unnamed_percent", self.unnamed_percent as usize, 0, 100)?;
        // Objects of 3 % and more must fit beside each other.
        let (wide, high) = (self.width, self.height);
        if wide > 3 * high || high > 2 * wide {
            return Err(SynthError::Config {
                name: "width",
                expected: "between half and three times the height".into(),
                found: format!("{wide}×{high}"),
            });
        }
        if self.total() == 0 {
            return Err(SynthError::Config {
                name: "train",
                expected: "at least one clip".into(),
                found: "0".into(),
            });
        }
        Ok(())
    }
}

/// What was generated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SynthSummary {
    /// Clips, as configured.
    pub clips: usize,
    /// Media folders; null rows have folders of their own.
    pub folders: usize,
    /// Rows of `metadata.csv`.
    pub rows: usize,
    /// Rows that refer to nothing.
    pub nulls: usize,
    /// Pairs of twins.
    pub twins: usize,
    /// Bytes of all files.
    pub bytes: u64,
}
