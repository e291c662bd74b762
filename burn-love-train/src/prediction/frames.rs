//! Frames from a folder, in natural order; one by one or all at once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::RgbImage;

use crate::{
    data::{DataError, read_image, size_text},
    samples::SampleError,
};

/// The `.jpg`, `.jpeg` and `.png` files of a folder as frames of one clip, decoded when they are asked for. Numbers in
/// names count as numbers, so `2.jpg` comes before `10.jpg`.
#[derive(Debug, Clone)]
pub struct FrameFolder {
    paths: Vec<PathBuf>,
    size: (u32, u32),
}

impl FrameFolder {
    /// Lists the folder and decodes the first frame.
    ///
    /// # Errors
    /// If the folder is missing or holds no frames, or the first one cannot be decoded; the error names the file.
    pub fn open(folder: &Path) -> Result<Self, SampleError> {
        let mut paths = frame_files(folder)?;
        if paths.is_empty() {
            return Err(wrong(folder, ".jpg or .png frames", "none"));
        }
        paths.sort_by_cached_key(|path| natural(path));
        let size = decode(&paths[0])?.dimensions();
        Ok(Self { paths, size })
    }

    /// How many frames there are; at least one.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Width and height of every frame, in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Looks at the size of every frame without decoding it.
    ///
    /// # Errors
    /// If a file is no image or of another size than the first; the error names the file.
    pub fn check_sizes(&self) -> Result<(), SampleError> {
        for path in &self.paths {
            // What the header does not say is found when the frame is decoded.
            let Ok(size) = image::image_dimensions(path) else {
                decode(path)?;
                continue;
            };
            let turned = (size.1, size.0); // EXIF may turn it
            if size != self.size && turned != self.size {
                return Err(self.other_size(path, size));
            }
        }
        Ok(())
    }

    fn other_size(&self, path: &Path, found: (u32, u32)) -> SampleError {
        let expected = format!("{} pixels, as in the first frame", size_text(self.size));
        wrong(path, expected, size_text(found))
    }

    /// Decodes a frame.
    ///
    /// # Errors
    /// If it cannot be decoded or is of another size than the first; the error names the file.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn read(&self, index: usize) -> Result<RgbImage, SampleError> {
        let path = &self.paths[index];
        let frame = decode(path)?;
        if frame.dimensions() != self.size {
            return Err(self.other_size(path, frame.dimensions()));
        }
        Ok(frame)
    }
}

/// All frames of a [`FrameFolder`].
///
/// # Errors
/// If the folder is missing or holds no frames, or a frame cannot be decoded or is of another size than the first; the
/// error names the file.
pub fn read_frames(folder: &Path) -> Result<Vec<RgbImage>, SampleError> {
    let folder = FrameFolder::open(folder)?;
    (0..folder.len()).map(|index| folder.read(index)).collect()
}

fn frame_files(folder: &Path) -> Result<Vec<PathBuf>, SampleError> {
    if !folder.is_dir() {
        let found = if folder.exists() { "a file" } else { "nothing" };
        return Err(wrong(folder, "a folder of frames", found));
    }
    let io = |source| SampleError::Io {
        path: folder.into(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
        if matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png")) && path.is_file() {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn decode(path: &Path) -> Result<RgbImage, SampleError> {
    let image = read_image(path, "a decodable frame").map_err(|error| match error {
        DataError::Content {
            path,
            expected,
            found,
        } => SampleError::Frames {
            path,
            expected,
            found,
        },
        other => other.into(),
    })?;
    if image.width() == 0 || image.height() == 0 {
        return Err(wrong(path, "a frame with pixels", "an empty one"));
    }
    Ok(image.to_rgb8())
}

fn wrong(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> SampleError {
    SampleError::Frames {
        path: path.into(),
        expected: expected.into(),
        found: found.into(),
    }
}

/// A part of a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Digits without leading zeros, compared by length first.
    Number(usize, String),
    Text(String),
}

/// Sorts as a person would: digits by value; the name itself decides between equals.
fn natural(path: &Path) -> (Vec<Part>, String) {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let characters: Vec<char> = stem.chars().collect();
    let parts = characters
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
        .map(|run| {
            let text: String = run.iter().collect();
            if !run[0].is_ascii_digit() {
                return Part::Text(text);
            }
            let digits = text.trim_start_matches('0').to_owned();
            Part::Number(digits.len(), digits)
        })
        .collect();
    (parts, name)
}
