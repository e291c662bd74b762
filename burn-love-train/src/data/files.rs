//! Reading single image files, with errors that name them.

use std::{
    fs::{self, File},
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use burn_love::preprocess::{PreprocessError, decode_image, is_whole_jpeg};
use image::{DynamicImage, ImageFormat, ImageReader};

use super::DataError;

const JPEG_END: &[u8] = &[0xff, 0xd9];

/// What a PNG begins with.
const PNG_SIGNATURE: usize = 8;

/// The chunk that ends a PNG: no bytes, its name, its checksum.
const PNG_END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// Decodes an image whatever its extension says.
pub(crate) fn read_image(path: &Path, expected: &str) -> Result<DynamicImage, DataError> {
    let bytes = fs::read(path).map_err(|e| DataError::from_io(path, expected, e))?;
    decode(path, &bytes, expected)
}

/// Decodes the content of an image file.
pub(super) fn decode(path: &Path, bytes: &[u8], expected: &str) -> Result<DynamicImage, DataError> {
    decode_image(bytes).map_err(|error| match error {
        PreprocessError::NotImage(found) => DataError::content(path, expected, found),
        other => DataError::content(path, expected, other.to_string()),
    })
}

/// Reads only the size (width, height) of an image, and looks whether a JPEG has its end and a PNG is undamaged.
pub(super) fn image_size(path: &Path, expected: &str) -> Result<(u32, u32), DataError> {
    let file = File::open(path).map_err(|e| DataError::from_io(path, expected, e))?;
    let reader = guess(path, ImageReader::new(BufReader::new(file)))?;
    let io = |source| DataError::Io {
        path: PathBuf::from(path),
        source,
    };
    // Bytes behind the end are no fault: then the whole file is looked at.
    match reader.format() {
        Some(ImageFormat::Jpeg)
            if !ends_with(path, JPEG_END).map_err(io)? && !is_whole_jpeg(&fs::read(path).map_err(io)?) =>
        {
            return Err(DataError::content(path, expected, "a truncated JPEG"));
        }
        Some(ImageFormat::Png) => {
            if let Err(found) = check_png(&fs::read(path).map_err(io)?) {
                return Err(DataError::content(path, expected, found));
            }
        }
        _ => {}
    }
    reader
        .into_dimensions()
        .map_err(|error| DataError::content(path, expected, error.to_string()))
}

/// Whether a PNG reaches its end chunk, and every chunk up to it has the checksum that it should; bytes behind it are
/// allowed.
fn check_png(bytes: &[u8]) -> Result<(), &'static str> {
    let mut at = PNG_SIGNATURE;
    while let Some(&[a, b, c, d]) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let end = at.saturating_add(length).saturating_add(12); // length, name, checksum
        if end > bytes.len() {
            break;
        }
        let (named, checksum) = bytes[at + 4..end].split_at(length + 4);
        if crc32fast::hash(named).to_be_bytes() != checksum {
            return Err("a damaged PNG");
        }
        if bytes[at..end] == *PNG_END {
            return Ok(());
        }
        at = end;
    }
    Err("a truncated PNG")
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

fn ends_with(path: &Path, end: &[u8]) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < end.len() as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-(end.len() as i64)))?;
    let mut found = Vec::with_capacity(end.len());
    file.read_to_end(&mut found)?;
    Ok(found == end)
}
