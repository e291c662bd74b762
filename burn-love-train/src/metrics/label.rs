//! Label preparation of the `official` protocol.
//!
//! The reference reads a mask as colour, resizes it to 256² with OpenCV's `INTER_LINEAR` on 8-bit values (no
//! antialiasing), converts it to grey and takes what is above 0. Every rounding is reproduced, since it decides which
//! pixels at an object's rim count.

use image::{GrayImage, RgbImage};

/// Side of the labels and predictions of the `official` protocol.
pub const LABEL_SIDE: usize = 256;

/// Fraction bits of OpenCV's interpolation weights.
const WEIGHT_BITS: u32 = 11;

/// Where one output coordinate reads from: two source indices and their weights.
#[derive(Clone, Copy)]
struct Tap {
    index: [usize; 2],
    weight: [i32; 2],
}

/// The label, row by row, `[256 × 256]`, of a mask whose colours are already reduced to 0 and 255.
pub fn label_256(mask: &GrayImage) -> Vec<bool> {
    // Equal channels give the same grey value back.
    let size = (mask.width() as usize, mask.height() as usize);
    resize(mask.as_raw(), size, 1)
        .into_iter()
        .map(|grey| grey > 0)
        .collect()
}

/// The label, row by row, `[256 × 256]`, of a mask file with its own colours.
pub fn label_256_colour(mask: &RgbImage) -> Vec<bool> {
    let resized = resize(mask.as_raw(), (mask.width() as usize, mask.height() as usize), 3);
    resized
        .chunks_exact(3)
        .map(|rgb| grey([rgb[0], rgb[1], rgb[2]]) > 0)
        .collect()
}

/// The label at the mask's own resolution, row by row.
pub fn label_native(mask: &GrayImage) -> Vec<bool> {
    mask.iter().map(|value| *value > 0).collect()
}

/// The label at `side` × `side`, row by row: of each pixel the one of the mask that its centre lies in.
pub(crate) fn label_nearest(mask: &GrayImage, side: usize) -> impl Iterator<Item = bool> {
    let at = move |i: usize, length: u32| ((2 * i + 1) * length as usize / (2 * side)) as u32;
    let (width, height) = mask.dimensions();
    (0..side).flat_map(move |y| (0..side).map(move |x| mask.get_pixel(at(x, width), at(y, height)).0[0] > 0))
}

/// OpenCV's 8-bit grey value, weights in 2⁻¹⁵.
fn grey([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 9798 + u32::from(g) * 19235 + u32::from(b) * 3735 + (1 << 14)) >> 15) as u8
}

fn resize(source: &[u8], (width, height): (usize, usize), channels: usize) -> Vec<u8> {
    if width == 0 || height == 0 {
        return vec![0; LABEL_SIDE * LABEL_SIDE * channels];
    }
    let (columns, rows) = (taps(width, true), taps(height, false));
    let across = |y: usize, column: &Tap, c: usize| -> i32 {
        let value = |i: usize| i32::from(source[(y * width + column.index[i]) * channels + c]);
        value(0) * column.weight[0] + value(1) * column.weight[1]
    };
    let mut resized = Vec::with_capacity(LABEL_SIDE * LABEL_SIDE * channels);
    for row in &rows {
        for column in &columns {
            for c in 0..channels {
                let part = |i: usize| (row.weight[i] * (across(row.index[i], column, c) >> 4)) >> 16;
                resized.push(((part(0) + part(1) + 2) >> 2) as u8);
            }
        }
    }
    resized
}

/// The taps of one axis. Beyond the border OpenCV drops the outer weight horizontally (`snap`) and repeats the border
/// row vertically.
fn taps(length: usize, snap: bool) -> Vec<Tap> {
    let scale = length as f64 / LABEL_SIDE as f64;
    let last = length as i64 - 1;
    let fixed = |weight: f32| (weight * (1 << WEIGHT_BITS) as f32).round_ties_even() as i32;
    (0..LABEL_SIDE)
        .map(|i| {
            let position = ((i as f64 + 0.5) * scale - 0.5) as f32;
            let mut first = position.floor() as i64;
            let mut fraction = position - first as f32;
            if snap && (first < 0 || first >= last) {
                (first, fraction) = (first.clamp(0, last), 0.0);
            }
            let clamp = |index: i64| index.clamp(0, last) as usize;
            Tap {
                index: [clamp(first), clamp(first + 1)],
                weight: [fixed(1.0 - fraction), fixed(fraction)],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Luma, Rgb};

    #[test]
    fn a_mask_of_the_labels_size_is_its_own_label() {
        let mask = GrayImage::from_fn(256, 256, |x, y| Luma([255 * u8::from((x * 7 + y * 3) % 5 == 0)]));
        assert_eq!(label_256(&mask), label_native(&mask));
    }

    #[test]
    fn halving_keeps_every_block_that_holds_foreground() {
        let mask = GrayImage::from_fn(512, 512, |x, y| Luma([255 * u8::from(x % 8 == 3 && y % 6 == 5)]));
        for (i, foreground) in label_256(&mask).into_iter().enumerate() {
            let (x, y) = (2 * (i % 256) as u32, 2 * (i / 256) as u32);
            let block = (0..4).any(|k| mask.get_pixel(x + k % 2, y + k / 2).0[0] > 0);
            assert_eq!(foreground, block);
        }
    }

    #[test]
    fn without_antialiasing_pixels_between_the_taps_vanish() {
        // At a quarter of the size only the two middle columns of each four are read.
        let column = |c: u32| GrayImage::from_fn(1024, 1024, move |x, _| Luma([255 * u8::from(x % 4 == c)]));
        assert!(label_256(&column(0)).iter().all(|v| !v));
        assert!(label_256(&column(1)).iter().all(|v| *v));
        assert!(label_256(&column(2)).iter().all(|v| *v));
        assert!(label_256(&column(3)).iter().all(|v| !v));
    }

    #[test]
    fn enlarging_widens_an_object_by_its_interpolated_rim() {
        let mask = GrayImage::from_fn(128, 64, |x, _| Luma([255 * u8::from(x >= 64)]));
        let row = &label_256(&mask)[..256];
        assert_eq!(row.iter().position(|v| *v), Some(127));
        assert!(row[127..].iter().all(|v| *v));
    }

    #[test]
    fn the_nearest_pixels_are_those_of_a_library() {
        use image::imageops::{FilterType, resize};
        for ((width, height), side) in [
            ((256, 256), 128),
            ((64, 48), 128),
            ((37, 111), 40),
            ((7, 3), 7),
            ((640, 480), 256),
        ] {
            let mask = GrayImage::from_fn(width, height, |x, y| Luma([u8::from((x * 7 + y * 3) % 5 == 0)]));
            let expected = resize(&mask, side, side, FilterType::Nearest);
            let found: Vec<bool> = label_nearest(&mask, side as usize).collect();
            assert_eq!(found, label_native(&expected), "{width}×{height} at {side}");
        }
    }

    #[test]
    fn a_faint_colour_counts_inside_and_may_round_away_at_the_rim() {
        assert_eq!(
            [grey([0; 3]), grey([255; 3]), grey([0, 0, 1]), grey([0, 0, 8])],
            [0, 255, 0, 1]
        );
        let blue = RgbImage::from_fn(128, 128, |x, _| Rgb([0, 0, 16 * u8::from(x >= 64)]));
        let white = RgbImage::from_fn(128, 128, |x, _| Rgb([255 * u8::from(x >= 64); 3]));
        let first = |label: Vec<bool>| label.iter().position(|v| *v).unwrap();
        assert_eq!(
            (first(label_256_colour(&white)), first(label_256_colour(&blue))),
            (127, 128)
        );
    }
}
