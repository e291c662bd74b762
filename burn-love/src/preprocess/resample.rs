//! Resampling of 8-bit pictures, exactly as Pillow did it when the published models were trained.
//!
//! Pillow up to 12, `Resample.c`: antialiased, columns before rows, weights of 22 bits, rounded to 8 bits behind each of the
//! two. Pillow 13 takes rows first where that is cheaper, and torchvision has weights of fewer bits: both are within a
//! level of 8 bits, which is far more than a model's own error.

use ::image::RgbImage;

/// How pixels are resampled; both are antialiased and round to 8 bits, as Pillow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// Bilinear.
    Bilinear,
    /// Bicubic with a = −0.5.
    Bicubic,
}

impl Resampling {
    /// Distance from which on the weight is 0.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// One axis of a resized picture: how long it becomes, and the part of it that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    /// Length of the whole axis.
    pub whole: usize,
    /// First position wanted.
    pub start: usize,
    /// Positions wanted.
    pub length: usize,
}

impl Axis {
    /// A whole axis.
    pub fn all(length: usize) -> Self {
        Self {
            whole: length,
            start: 0,
            length,
        }
    }
}

/// Bits behind the point of a weight; 8 bits of pixel, a sign and one of overshoot fit beside them.
const PRECISION: u32 = 32 - 8 - 2;

/// Half of the last place, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// Pixels that make up one resampled pixel.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    /// For each wanted position on `axis`, of `from` pixels.
    fn of(from: usize, axis: Axis, resampling: Resampling) -> Vec<Self> {
        let scale = from as f64 / axis.whole as f64;
        let stretch = scale.max(1.0);
        let support = resampling.support() * stretch;
        let at = |i: usize| {
            let centre = (i as f64 + 0.5) * scale;
            // Casts cut negative numbers off at 0.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let weight = |x: usize| resampling.weight((x as f64 - centre + 0.5) * (1.0 / stretch));
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: &f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
            Self {
                first,
                weights: weights.iter().map(fixed).collect(),
            }
        };
        (axis.start..axis.start + axis.length).map(at).collect()
    }
}

fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The wanted part of a resized picture, RGB, row by row.
///
/// # Panics
/// If the picture or an axis is empty.
pub(super) fn resample(picture: &RgbImage, columns: Axis, rows: Axis, resampling: Resampling) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    assert!(
        width > 0 && height > 0 && columns.whole > 0 && rows.whole > 0,
        "cannot resize {width}×{height} to {}×{}",
        columns.whole,
        rows.whole
    );
    let vertical = Taps::of(height, rows, resampling);
    // Only rows that take part are made narrower.
    let first = vertical.first().map_or(0, |taps| taps.first);
    let end = vertical.last().map_or(0, |taps| taps.first + taps.weights.len());
    let pitch = 3 * columns.length;
    let source = &picture.as_raw()[3 * width * first..3 * width * end];
    let mut narrow = Vec::with_capacity(pitch * (end - first));
    let horizontal = Taps::of(width, columns, resampling);
    for row in source.chunks_exact(3 * width) {
        for taps in &horizontal {
            let mut sums = [HALF; 3];
            let pixels = row[3 * taps.first..].chunks_exact(3);
            for (weight, pixel) in taps.weights.iter().zip(pixels) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(*value);
                }
            }
            narrow.extend(sums.map(byte));
        }
    }
    let mut resized = Vec::with_capacity(pitch * rows.length);
    let mut sums = vec![HALF; pitch];
    for taps in &vertical {
        sums.fill(HALF);
        let lines = narrow[pitch * (taps.first - first)..].chunks_exact(pitch);
        for (weight, line) in taps.weights.iter().zip(lines) {
            for (sum, value) in sums.iter_mut().zip(line) {
                *sum += weight * i32::from(*value);
            }
        }
        resized.extend(sums.iter().map(|sum| byte(*sum)));
    }
    resized
}

#[cfg(test)]
mod tests {
    use ::image::Rgb;

    use super::*;

    #[test]
    fn the_same_size_is_the_same_picture() {
        let picture = RgbImage::from_fn(7, 5, |x, y| Rgb([x as u8 * 36, y as u8 * 50, 255]));
        for resampling in [Resampling::Bilinear, Resampling::Bicubic] {
            let same = resample(&picture, Axis::all(7), Axis::all(5), resampling);
            assert_eq!(&same, picture.as_raw());
        }
    }

    #[test]
    fn a_part_is_what_the_whole_has_there() {
        let picture = RgbImage::from_fn(37, 23, |x, y| Rgb([(x * x) as u8, (y * 11) as u8, (x * y) as u8]));
        let (columns, rows) = (Axis::all(20), Axis::all(30));
        let whole = resample(&picture, columns, rows, Resampling::Bicubic);
        let [columns, rows] = [(columns, 4, 9), (rows, 11, 15)].map(|(axis, start, length)| Axis {
            start,
            length,
            ..axis
        });
        let part = resample(&picture, columns, rows, Resampling::Bicubic);
        for (y, row) in part.chunks_exact(3 * 9).enumerate() {
            assert_eq!(row, &whole[3 * (20 * (11 + y) + 4)..][..3 * 9], "row {y}");
        }
    }

    #[test]
    fn one_pixel_fills_any_size() {
        let picture = RgbImage::from_pixel(1, 1, Rgb([3, 200, 77]));
        let large = resample(&picture, Axis::all(9), Axis::all(4), Resampling::Bicubic);
        assert!(large.chunks_exact(3).all(|pixel| pixel == [3, 200, 77]));
    }
}
