//! The frame files of a clip, read but not yet decoded.

use std::{io::Cursor, path::PathBuf};

use image::{ImageReader, RgbImage};

use super::{DataError, files::decode, reader::expect_size};

const EXPECTED: &str = "a decodable frame";

/// The contents of a clip's frame files, in numeric order, at least one.
#[derive(Debug, Clone)]
pub struct FrameFiles {
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
}

impl FrameFiles {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// The content of each file.
    pub fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(|(_, bytes)| bytes.as_slice())
    }

    /// Size (width, height) of the first frame, which is not decoded for it.
    ///
    /// # Errors
    /// When the file is no image.
    pub fn size(&self) -> Result<(u32, u32), DataError> {
        let (path, bytes) = &self.files[0];
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let size = reader
            .map_err(image::ImageError::from)
            .and_then(ImageReader::into_dimensions);
        size.map_err(|error| DataError::content(path, EXPECTED, error.to_string()))
    }

    /// Frame `t`.
    ///
    /// # Errors
    /// When it cannot be decoded.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn frame(&self, t: usize) -> Result<RgbImage, DataError> {
        let (path, bytes) = &self.files[t];
        Ok(decode(path, bytes, EXPECTED)?.to_rgb8())
    }

    /// All frames.
    ///
    /// # Errors
    /// When one cannot be decoded, or is of another size than the first.
    pub fn frames(&self) -> Result<Vec<RgbImage>, DataError> {
        let mut frames: Vec<RgbImage> = Vec::with_capacity(self.count());
        for (t, (path, _)) in self.files.iter().enumerate() {
            let frame = self.frame(t)?;
            if let Some(first) = frames.first() {
                expect_size(path, "as frame 0", first.dimensions(), frame.dimensions())?;
            }
            frames.push(frame);
        }
        Ok(frames)
    }
}
