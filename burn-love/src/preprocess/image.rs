//! Frames: squashed to a square, or its middle cut out, and normalised per channel.

use ::image::RgbImage;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer, images::TypedImage, pixels::F32x3};

use super::resample::{Axis, Resampling, resample};
use crate::encoders::{VisionConfig, VisionKind};

/// Mean and standard deviation per channel, of values in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by.
    pub std: [f32; 3],
}

impl Normalization {
    /// ImageNet's statistics, as SAM 2 uses them.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    /// The statistics of CLIP's training images.
    pub const CLIP: Self = Self {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };
    /// −1 to 1, as Hugging Face's ViT uses it.
    pub const HALF: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
    };
}

/// A frame as SAM 2's video loader prepares it: bicubic, ImageNet's statistics.
///
/// # Shapes
/// - output: `[3, size, size]`, row by row
pub fn sam2_pixels(frame: &RgbImage, size: usize) -> Vec<f32> {
    normalised_pixels(frame, size, Resampling::Bicubic, Normalization::IMAGENET)
}

/// An image as SAM 2's image predictor prepares it: bilinear, ImageNet's statistics.
///
/// Unlike a frame of a video it is resampled in floating point: torchvision resizes the tensor, not the picture.
///
/// # Shapes
/// - output: `[3, size, size]`, row by row
///
/// # Panics
/// If the image or `size` is empty.
pub fn sam2_image_pixels(image: &RgbImage, size: usize) -> Vec<f32> {
    let (width, height) = image.dimensions();
    assert!(
        width > 0 && height > 0 && size > 0,
        "cannot resize {width}×{height} to {size}²"
    );
    let unit = |byte: u8| f32::from(byte) / 255.0;
    let pixel = |rgb: &[u8]| F32x3::new([unit(rgb[0]), unit(rgb[1]), unit(rgb[2])]);
    let pixels = image.as_raw().chunks_exact(3).map(pixel).collect();
    let source = TypedImage::from_pixels(width, height, pixels).expect("an RgbImage holds all its pixels");
    let mut target = TypedImage::new(size as u32, size as u32);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new()
        .resize_typed(&source, &mut target, &options)
        .expect("neither image is empty");
    let values: Vec<f32> = target.pixels().iter().flat_map(|pixel| pixel.0).collect();
    planes(&values, size, Normalization::IMAGENET)
}

/// A frame as Hugging Face's ViT processor prepares it: bilinear, −1 to 1.
///
/// # Shapes
/// - output: `[3, size, size]`, row by row
pub fn vit_pixels(frame: &RgbImage, size: usize) -> Vec<f32> {
    normalised_pixels(frame, size, Resampling::Bilinear, Normalization::HALF)
}

/// A frame as Hugging Face's CLIP processor prepares it: the shorter side becomes `size`, the middle is cut out.
///
/// What lies outside the middle square is not seen: of a frame of 16:9, 44 %.
///
/// # Shapes
/// - output: `[3, size, size]`, row by row
///
/// # Panics
/// If the frame or `size` is empty.
pub fn clip_pixels(frame: &RgbImage, size: usize) -> Vec<f32> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let shorter = width.min(height);
    assert!(
        shorter > 0 && size > 0,
        "cannot cut {size}² out of {width}×{height}"
    );
    // Sides and offsets are rounded down.
    let middle = |length: usize| {
        let whole = length * size / shorter;
        Axis {
            whole,
            start: (whole - size) / 2,
            length: size,
        }
    };
    let resized = resample(frame, middle(width), middle(height), Resampling::Bicubic);
    planes(&unit(&resized), size, Normalization::CLIP)
}

/// A frame as the processor that belongs to a vision encoder prepares it: [`vit_pixels`] or [`clip_pixels`].
///
/// # Shapes
/// - output: `[3, V, V]`, row by row
pub fn vision_pixels(frame: &RgbImage, config: &VisionConfig) -> Vec<f32> {
    match config.kind {
        VisionKind::Vit => vit_pixels(frame, config.image_size),
        VisionKind::Clip => clip_pixels(frame, config.image_size),
    }
}

/// Squashes a frame to a square and normalises it.
///
/// # Shapes
/// - output: `[3, size, size]`, row by row
///
/// # Panics
/// If the frame or `size` is empty.
pub fn normalised_pixels(
    frame: &RgbImage,
    size: usize,
    resampling: Resampling,
    normalization: Normalization,
) -> Vec<f32> {
    let side = Axis::all(size);
    let resized = resample(frame, side, side, resampling);
    planes(&unit(&resized), size, normalization)
}

/// Bytes as values in 0..=1.
fn unit(bytes: &[u8]) -> Vec<f32> {
    bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect()
}

/// From interleaved values in 0..=1 to normalised planes.
fn planes(values: &[f32], size: usize, normalization: Normalization) -> Vec<f32> {
    let mut pixels = vec![0.0; 3 * size * size];
    for (c, plane) in pixels.chunks_exact_mut(size * size).enumerate() {
        let (mean, std) = (normalization.mean[c], normalization.std[c]);
        for (pixel, rgb) in plane.iter_mut().zip(values.chunks_exact(3)) {
            *pixel = (rgb[c] - mean) / std;
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::Rgb;

    #[test]
    fn channels_come_apart_and_are_normalised() {
        let frame = RgbImage::from_pixel(10, 6, Rgb([255, 0, 51]));
        let pixels = vit_pixels(&frame, 4);
        assert_eq!(pixels.len(), 48);
        for (c, expected) in [1.0, -1.0, -0.6].into_iter().enumerate() {
            assert!(
                pixels[c * 16..][..16]
                    .iter()
                    .all(|pixel| (pixel - expected).abs() < 1e-6)
            );
        }
    }

    /// Pillow 13: `Image.fromarray(ramp).resize((2, 2), …)` of a ramp 0, 40, 80, 120, 160, 200 along x.
    #[test]
    fn resampling_is_pillows() {
        let frame = RgbImage::from_fn(6, 2, |x, _| Rgb([x as u8 * 40; 3]));
        let levels = |resampling| {
            let unit = Normalization {
                mean: [0.0; 3],
                std: [1.0; 3],
            };
            let pixels = normalised_pixels(&frame, 2, resampling, unit);
            [
                (pixels[0] * 255.0).round() as u8,
                (pixels[1] * 255.0).round() as u8,
            ]
        };
        assert_eq!(levels(Resampling::Bilinear), BILINEAR);
        assert_eq!(levels(Resampling::Bicubic), BICUBIC);
    }
    const BILINEAR: [u8; 2] = [50, 150];
    const BICUBIC: [u8; 2] = [45, 155];
}
