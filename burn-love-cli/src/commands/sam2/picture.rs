//! Pictures from files, and the colours that masks are drawn in.

use std::{fs, io::Cursor, path::Path};

use image::{DynamicImage, ImageReader};

use crate::error::CliError;

/// Colours of masks, in turn.
pub const COLOURS: [[u8; 3]; 8] = [
    [255, 45, 85],
    [10, 132, 255],
    [48, 209, 88],
    [255, 159, 10],
    [191, 90, 242],
    [100, 210, 255],
    [255, 214, 10],
    [172, 142, 104],
];

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
