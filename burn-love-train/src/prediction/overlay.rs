//! Pictures of masks over frames.

use image::{GrayImage, Rgb, RgbImage, imageops};

/// Colour of predicted objects.
pub const OBJECT_COLOUR: [u8; 3] = [255, 45, 85];

/// Colour of the outline of labels.
pub const TRUTH_COLOUR: [u8; 3] = [255, 255, 255];

/// Share of the colour inside a mask.
const TINT: f32 = 0.45;

/// Pixels between the frames of a contact sheet.
const GAP: u32 = 4;

/// A frame with the mask (above 0) tinted, and its rim drawn in full colour inside and dark outside.
///
/// # Panics
/// When frame and mask differ in size.
pub fn overlay(frame: &RgbImage, mask: &GrayImage, colour: [u8; 3]) -> RgbImage {
    assert_eq!(
        frame.dimensions(),
        mask.dimensions(),
        "a mask of the frame's size"
    );
    RgbImage::from_fn(frame.width(), frame.height(), |x, y| {
        let pixel = frame.get_pixel(x, y).0;
        let inside = is_set(mask, x, y);
        let rim = touches(mask, x, y, !inside);
        match (inside, rim) {
            (true, true) => Rgb(colour),
            (true, false) => blend(pixel, colour, TINT),
            (false, true) => blend(pixel, [0; 3], 0.7),
            (false, false) => Rgb(pixel),
        }
    })
}

/// Draws the rim of a mask (above 0), without touching its inside.
///
/// # Panics
/// When frame and mask differ in size.
pub fn outline(frame: &mut RgbImage, mask: &GrayImage, colour: [u8; 3]) {
    assert_eq!(
        frame.dimensions(),
        mask.dimensions(),
        "a mask of the frame's size"
    );
    for (x, y, pixel) in frame.enumerate_pixels_mut() {
        if is_set(mask, x, y) && touches(mask, x, y, false) {
            *pixel = Rgb(colour);
        }
    }
}

/// Frames beside each other, row by row with `columns` in each, on white.
///
/// # Panics
/// When there are no columns, or the frames differ in size.
pub fn contact_sheet(frames: &[RgbImage], columns: usize) -> RgbImage {
    assert!(columns > 0, "a contact sheet has columns");
    let Some((w, h)) = frames.first().map(RgbImage::dimensions) else {
        return RgbImage::new(0, 0);
    };
    let columns = columns.min(frames.len()) as u32;
    let lines = frames.len().div_ceil(columns as usize) as u32;
    let side = |length: u32, count: u32| length * count + GAP * (count - 1);
    let mut sheet = RgbImage::from_pixel(side(w, columns), side(h, lines), Rgb([255; 3]));
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(frame.dimensions(), (w, h), "frames of one size");
        let (column, line) = (i as u32 % columns, i as u32 / columns);
        let (x, y) = (column * (w + GAP), line * (h + GAP));
        imageops::replace(&mut sheet, frame, i64::from(x), i64::from(y));
    }
    sheet
}

fn is_set(mask: &GrayImage, x: u32, y: u32) -> bool {
    mask.get_pixel(x, y).0[0] > 0
}

/// Whether one of the four neighbours within the image is `value`.
fn touches(mask: &GrayImage, x: u32, y: u32, value: bool) -> bool {
    let (w, h) = mask.dimensions();
    let left = (x > 0).then(|| (x - 1, y));
    let right = (x + 1 < w).then_some((x + 1, y));
    let above = (y > 0).then(|| (x, y - 1));
    let below = (y + 1 < h).then_some((x, y + 1));
    [left, right, above, below]
        .into_iter()
        .flatten()
        .any(|(x, y)| is_set(mask, x, y) == value)
}

fn blend(pixel: [u8; 3], colour: [u8; 3], share: f32) -> Rgb<u8> {
    let mix = |i: usize| f32::from(pixel[i]) * (1.0 - share) + f32::from(colour[i]) * share;
    Rgb([0, 1, 2].map(|i| mix(i).round() as u8))
}
