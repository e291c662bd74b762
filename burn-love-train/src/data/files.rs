//! Reading single image files, with errors that name them.

use std::{
    fs::{self, File},
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use burn_love::preprocess::{PreprocessError, decode_image, is_whole_jpeg};
use image::{DynamicImage, ImageFormat, ImageReader};

use super::DataError;

const JPEG_END: [u8; 2] = [0xff, 0xd9];

/// Decodes an image whatever its extension says.
pub(crate) fn read_image(path: &Path, expected: &str) -> Result<DynamicImage, DataError> {
    let bytes = fs::read(path).map_err(|e| DataError::from_io(path, expected, e))?;
    decode_image(&bytes).map_err(|error| match error {
        PreprocessError::NotImage(found) => DataError::content(path, expected, found),
        other => DataError::content(path, expected, other.to_string()),
    })
}

/// Reads only the size (width, height) of an image, and looks whether a JPEG has its end.
pub(super) fn image_size(path: &Path, expected: &str) -> Result<(u32, u32), DataError> {
    let file = File::open(path).map_err(|e| DataError::from_io(path, expected, e))?;
    let reader = guess(path, ImageReader::new(BufReader::new(file)))?;
    if reader.format() == Some(ImageFormat::Jpeg) {
        let io = |source| DataError::Io {
            path: PathBuf::from(path),
            source,
        };
        if !ends_as_jpeg(path).map_err(io)? && !is_whole_jpeg(&fs::read(path).map_err(io)?) {
            return Err(DataError::content(path, expected, "a truncated JPEG"));
        }
    }
    reader
        .into_dimensions()
        .map_err(|error| DataError::content(path, expected, error.to_string()))
}

/// A size (width, height) for a message.
pub(crate) fn size_text((width, height): (u32, u32)) -> String {
    format!("{width}×{height}")
}

fn guess<R: std::io::BufRead + Seek>(
    path: &Path,
    reader: ImageReader<R>,
) -> Result<ImageReader<R>, DataError> {
    reader.with_guessed_format().map_err(|source| DataError::Io {
        path: path.into(),
        source,
    })
}

fn ends_as_jpeg(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < 2 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-2))?;
    let mut end = [0; 2];
    file.read_exact(&mut end)?;
    Ok(end == JPEG_END)
}
