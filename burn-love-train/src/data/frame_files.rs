//! The frame files of a clip, each of them read when it is asked for.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Cursor, ErrorKind, Seek},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use image::{ImageError, ImageReader, RgbImage};

use super::{DataError, files::decode, reader::expect_size};

const EXPECTED: &str = "a decodable frame";

/// A clip's frame files in numeric order, at least one. Each is read once, when it is first asked for.
#[derive(Debug, Clone)]
pub struct FrameFiles {
    files: Vec<(PathBuf, OnceLock<Vec<u8>>)>,
}

impl FrameFiles {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            files: paths.into_iter().map(|path| (path, OnceLock::new())).collect(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Where frame `t` lies.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn path(&self, t: usize) -> &Path {
        &self.files[t].0
    }

    /// The content of frame `t`'s file.
    ///
    /// # Errors
    /// When it cannot be read.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn content(&self, t: usize) -> Result<&[u8], DataError> {
        let (path, content) = &self.files[t];
        if let Some(bytes) = content.get() {
            return Ok(bytes);
        }
        let bytes = fs::read(path).map_err(|error| DataError::from_io(path, EXPECTED, error))?;
        Ok(content.get_or_init(|| bytes))
    }

    /// Size (width, height) of the first frame, of which no more than the header is read for it.
    ///
    /// # Errors
    /// When the file cannot be read, or is no image.
    pub fn size(&self) -> Result<(u32, u32), DataError> {
        let (path, content) = &self.files[0];
        let size = match content.get() {
            Some(bytes) => size_of(Cursor::new(bytes)),
            None => {
                let file = File::open(path).map_err(|error| DataError::from_io(path, EXPECTED, error))?;
                size_of(BufReader::new(file))
            }
        };
        size.map_err(|error| match error {
            ImageError::IoError(error) if error.kind() != ErrorKind::UnexpectedEof => {
                DataError::from_io(path, EXPECTED, error)
            }
            other => DataError::content(path, EXPECTED, other.to_string()),
        })
    }

    /// Frame `t`.
    ///
    /// # Errors
    /// When it cannot be read or decoded.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn frame(&self, t: usize) -> Result<RgbImage, DataError> {
        Ok(decode(self.path(t), self.content(t)?, EXPECTED)?.to_rgb8())
    }

    /// All frames.
    ///
    /// # Errors
    /// When one cannot be read or decoded, or is of another size than the first.
    pub fn frames(&self) -> Result<Vec<RgbImage>, DataError> {
        let mut frames: Vec<RgbImage> = Vec::with_capacity(self.count());
        for t in 0..self.count() {
            let frame = self.frame(t)?;
            if let Some(first) = frames.first() {
                expect_size(self.path(t), "as frame 0", first.dimensions(), frame.dimensions())?;
            }
            frames.push(frame);
        }
        Ok(frames)
    }
}

fn size_of(content: impl BufRead + Seek) -> Result<(u32, u32), ImageError> {
    ImageReader::new(content).with_guessed_format()?.into_dimensions()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_cut_off_frame_is_named_with_what_was_expected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.png");
        RgbImage::new(20, 10).save(&path).unwrap();
        let files = || FrameFiles::new(vec![path.clone()]);
        assert_eq!(files().size().unwrap(), (20, 10));
        assert_eq!(files().frames().unwrap()[0].dimensions(), (20, 10));
        let whole = fs::read(&path).unwrap();
        let told = |error: DataError| {
            let error = error.to_string();
            assert!(error.contains("0.png: expected a decodable frame"), "{error}");
        };
        for length in [0, 4, 12, 20] {
            fs::write(&path, &whole[..length]).unwrap();
            told(files().size().unwrap_err());
            told(files().frames().unwrap_err());
            // With the content at hand, too.
            let read = files();
            read.content(0).unwrap();
            told(read.size().unwrap_err());
        }
        fs::remove_file(&path).unwrap();
        told(files().size().unwrap_err());
        told(files().content(0).unwrap_err());
    }
}
