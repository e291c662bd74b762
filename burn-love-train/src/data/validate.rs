//! Checks every row of some splits before any work starts on them.

use std::collections::HashMap;

use burn_love::preprocess::Waveform;
use rayon::prelude::*;

use super::{
    DataError, RefAvs, Row, SoundFile, Split,
    files::{image_size, read_image},
    reader::expect_size,
};

/// How much shorter than its frames' seconds a clip's sound may be.
pub const CLIP_TOLERANCE_SECONDS: f64 = 0.5;

/// A row that cannot be used, and why.
#[derive(Debug)]
pub struct BadSample {
    /// Index into [`RefAvs::rows`].
    pub index: usize,
    /// The row's uid.
    pub uid: String,
    /// What is wrong with it.
    pub error: DataError,
}

/// What a check of the files found.
#[derive(Debug, Default)]
pub struct Validation {
    /// How many rows were looked at.
    pub checked: usize,
    /// The unusable ones, in metadata order.
    pub bad: Vec<BadSample>,
}

impl Validation {
    /// The first problem as an error.
    ///
    /// # Errors
    /// When a row is bad.
    pub fn into_result(self) -> Result<(), DataError> {
        match self.bad.into_iter().next() {
            Some(first) => Err(first.error),
            None => Ok(()),
        }
    }
}

/// What the clip of a key looks like, shared by its rows.
#[derive(Clone, Copy)]
struct Clip {
    frames: usize,
    size: (u32, u32),
}

impl RefAvs {
    /// Reads the files of every row of `splits`, on all cores: frames are decoded and have one size, masks have it too
    /// and are whole (of a PNG by its checksums), and the sound can be read and is as long as the clip.
    pub fn validate(&self, splits: &[Split]) -> Validation {
        let rows: Vec<(usize, &Row)> = self
            .rows()
            .iter()
            .enumerate()
            .filter(|(_, row)| splits.contains(&row.split))
            .collect();
        let firsts: HashMap<&str, &Row> = rows.iter().rev().map(|(_, row)| (row.key(), *row)).collect();
        let clips: HashMap<&str, Clip> = firsts
            .into_par_iter()
            .filter_map(|(key, row)| Some((key, self.check_clip(row).ok()?)))
            .collect();
        let bad = rows.par_iter().filter_map(|(index, row)| {
            let clip = match clips.get(row.key()) {
                Some(clip) => Ok(*clip),
                // Once more, for what is wrong with it.
                None => self.check_clip(row),
            };
            let error = clip.and_then(|clip| self.check_masks(row, clip)).err()?;
            Some(BadSample {
                index: *index,
                uid: row.uid.clone(),
                error,
            })
        });
        Validation {
            bad: bad.collect(),
            checked: rows.len(),
        }
    }

    fn check_clip(&self, row: &Row) -> Result<Clip, DataError> {
        let paths = self.frame_paths(row)?;
        let expected = "a decodable frame";
        let size = image_size(&paths[0], expected)?;
        for path in &paths {
            expect_size(path, "as frame 0", size, image_size(path, expected)?)?;
            read_image(path, expected)?;
        }
        let clip = Clip {
            frames: paths.len(),
            size,
        };
        self.check_audio(row, clip.frames)?;
        Ok(clip)
    }

    fn check_masks(&self, row: &Row, clip: Clip) -> Result<(), DataError> {
        if row.is_null() && !self.mask_folder(row).is_dir() {
            return Ok(());
        }
        for t in 0..clip.frames {
            let path = self.mask_path(row, t);
            expect_size(&path, "as the frame", clip.size, image_size(&path, "a mask")?)?;
        }
        Ok(())
    }

    fn check_audio(&self, row: &Row, seconds: usize) -> Result<(), DataError> {
        let path = self.audio_path(row);
        let file =
            SoundFile::open(&path).map_err(|error| DataError::from_io(&path, "the clip's sound", error))?;
        let sound = |source| DataError::Sound {
            path: path.clone(),
            source,
        };
        let found = Waveform::wav_seconds(file).map_err(sound)?;
        if found + CLIP_TOLERANCE_SECONDS < seconds as f64 {
            let expected = format!("at least {seconds} s of sound, one per frame");
            return Err(DataError::content(&path, expected, format!("{found:.2} s")));
        }
        let file =
            SoundFile::open(&path).map_err(|error| DataError::from_io(&path, "the clip's sound", error))?;
        Waveform::read_wav_start(file, seconds as f64)
            .map(drop)
            .map_err(sound)
    }
}
