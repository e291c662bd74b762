//! Pictures from files, and the colours that masks are drawn in.

use std::{fs, path::Path};

use burn_love::preprocess::decode_image;
use image::DynamicImage;

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
    decode_image(&content).map_err(|error| CliError::input(format!("{}: {error}", path.display())))
}
