//! Pictures from files.

use std::{fs, io::Cursor, path::Path};

use image::{DynamicImage, ImageReader};

use crate::error::CliError;

/// Reads a picture.
pub fn read(path: &Path) -> Result<DynamicImage, CliError> {
    let content = fs::read(path).map_err(|error| {
        // A folder or a file without permission is as much the caller's matter as one that is not there.
        CliError::input(format!("{}: {error}", path.display()))
    })?;
    let decoded = ImageReader::new(Cursor::new(content))
        .with_guessed_format()
        .map_err(image::ImageError::from)
        .and_then(ImageReader::decode);
    decoded.map_err(|error| {
        let message = format!(
            "{}: expected a picture (PNG, JPEG or GIF), found: {error}",
            path.display()
        );
        CliError::input(message)
    })
}
