//! Pictures of any kind that PNG, JPEG and GIF have.
//!
//! What becomes of the less usual ones when `to_rgb8` is called on them:
//! - grey: three equal channels; alpha: dropped, as Pillow's `convert("RGB")` does
//! - 16 bits a channel: scaled to 8 and rounded (Pillow cuts the lower byte off, and clips grey pictures)
//! - CMYK (JPEG): converted without a colour profile
//! - a rotation in EXIF: ignored, as Pillow and Hugging Face's processors do unless told otherwise
//! - more than 512 MiB decoded: an error

use std::io::Cursor;

use ::image::{DynamicImage, ImageError, ImageFormat, ImageReader};

use super::PreprocessError;

/// Decodes the content of a picture's file, whatever it is called. The [module docs](self) list unusual kinds.
///
/// # Errors
/// If it is no picture, damaged or truncated, or too large.
pub fn decode_image(content: &[u8]) -> Result<DynamicImage, PreprocessError> {
    let wrong = |error: ImageError| PreprocessError::NotImage(error.to_string());
    let reader = ImageReader::new(Cursor::new(content))
        .with_guessed_format()
        .map_err(|error| wrong(error.into()))?;
    // Decoders fill what is missing at the end of a JPEG with grey.
    if reader.format() == Some(ImageFormat::Jpeg) && !is_whole_jpeg(content) {
        return Err(PreprocessError::NotImage("a truncated JPEG".into()));
    }
    let picture = reader.decode().map_err(wrong)?;
    if picture.width() == 0 || picture.height() == 0 {
        return Err(PreprocessError::NotImage("a picture without pixels".into()));
    }
    Ok(picture)
}

/// Whether a JPEG reaches its end marker; bytes behind it are allowed.
pub fn is_whole_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END: u8 = 0xd9;
    // Markers without a segment: fill bytes, TEM, restarts. In a scan, 0xff00 stands for 0xff.
    let restarts = 0xd0..=0xd7;
    let in_scan = |next: u8| next == 0 || next == 0xff || restarts.contains(&next);
    let mut at = 2;
    while let Some([0xff, marker]) = bytes.get(at..at + 2) {
        match *marker {
            END => return true,
            0xff => at += 1,
            0x01 => at += 2,
            marker if restarts.contains(&marker) => at += 2,
            marker => {
                let Some([high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
                if marker == START_OF_SCAN {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let next = rest
                        .windows(2)
                        .position(|pair| pair[0] == 0xff && !in_scan(pair[1]));
                    let Some(length) = next else { return false };
                    at += length;
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use ::image::{Rgb, RgbImage};

    use super::*;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut content = Cursor::new(Vec::new());
        let picture = RgbImage::from_pixel(16, 16, Rgb([200, 30, 60]));
        picture.write_to(&mut content, format).unwrap();
        content.into_inner()
    }

    fn refusal(content: &[u8]) -> String {
        decode_image(content).unwrap_err().to_string()
    }

    #[test]
    fn damage_is_named() {
        let jpeg = encoded(ImageFormat::Jpeg);
        assert!(decode_image(&jpeg).is_ok());
        assert!(refusal(&jpeg[..jpeg.len() - 20]).ends_with("found: a truncated JPEG"));
        let png = encoded(ImageFormat::Png);
        for content in [&png[..png.len() / 2], b"", b"no picture"] {
            assert!(refusal(content).starts_with("expected a picture (PNG, JPEG or GIF), found: "));
        }
    }

    #[test]
    fn bytes_behind_a_jpeg_are_allowed() {
        let mut jpeg = encoded(ImageFormat::Jpeg);
        jpeg.extend([0xff, 0xda, 0, 1, 2, 3]);
        assert!(decode_image(&jpeg).is_ok());
    }

    #[test]
    fn a_huge_picture_is_refused_before_memory_is_taken() {
        let mut png = encoded(ImageFormat::Png);
        // IHDR: length, type, width, height, five bytes, checksum.
        png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let checksum = crc32fast::hash(&png[12..29]);
        png[29..33].copy_from_slice(&checksum.to_be_bytes());
        let words = refusal(&png).to_lowercase();
        assert!(words.contains("memory limit"), "{words}");
    }
}
