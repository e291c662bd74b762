//! Reading single image files, with errors that name them.

use std::{
    fs::{self, File},
    io::{BufReader, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageFormat, ImageReader};

use super::DataError;

const JPEG_START_OF_SCAN: [u8; 2] = [0xff, 0xda];
const JPEG_END: [u8; 2] = [0xff, 0xd9];

/// Decodes an image whatever its extension says.
pub(crate) fn read_image(path: &Path, expected: &str) -> Result<DynamicImage, DataError> {
    let bytes = fs::read(path).map_err(|e| DataError::from_io(path, expected, e))?;
    let reader = guess(path, ImageReader::new(Cursor::new(&bytes)))?;
    // Decoders fill what is missing at the end of a JPEG with grey.
    if reader.format() == Some(ImageFormat::Jpeg) && !is_whole_jpeg(&bytes) {
        return Err(truncated(path, expected));
    }
    reader
        .decode()
        .map_err(|error| DataError::content(path, expected, error.to_string()))
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
            return Err(truncated(path, expected));
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

fn truncated(path: &Path, expected: &str) -> DataError {
    DataError::content(path, expected, "a truncated JPEG")
}

/// Whether the end marker follows the last scan; bytes behind it are allowed.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let scan = bytes.windows(2).rposition(|pair| pair == JPEG_START_OF_SCAN);
    scan.is_some_and(|start| bytes[start..].windows(2).any(|pair| pair == JPEG_END))
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
