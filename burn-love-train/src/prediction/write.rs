//! A prediction as files.

use std::{
    fmt,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    str::FromStr,
};

use image::{
    Delay, Frame, RgbImage, RgbaImage,
    codecs::gif::{GifEncoder, Repeat},
    imageops,
};
use serde_json::json;

use super::{OBJECT_COLOUR, Prediction, contact_sheet, outline, overlay, overlay::TRUTH_COLOUR};
use crate::{evaluation::UnknownName, samples::SampleError};

/// How long a frame of the GIF stands, in milliseconds.
const GIF_DELAY: u32 = 500;

/// Longest side of the GIF; larger frames are shrunk.
const GIF_SIDE: u32 = 640;

/// What a prediction can be written as, besides `result.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `masks/{frame:05}.png`: 0 and 255, at the frames' resolution.
    Png,
    /// `overlays/{frame:05}.png`: masks over the frames.
    Overlay,
    /// `overlay.gif`: the overlays as an animation.
    Gif,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Png, Self::Overlay, Self::Gif];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Overlay => "overlay",
            Self::Gif => "gif",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| UnknownName {
            found: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

impl Prediction {
    /// The frames with their masks drawn over them.
    pub fn overlays(&self) -> Vec<RgbImage> {
        self.frames
            .iter()
            .zip(&self.found)
            .map(|(frame, found)| overlay(frame, &found.mask, OBJECT_COLOUR))
            .collect()
    }

    /// All overlays side by side, with the outlines of labels where they are given.
    ///
    /// # Panics
    /// When there are no columns, or a label is of another size than its frame.
    pub fn contact_sheet(&self, columns: usize, labels: Option<&[image::GrayImage]>) -> RgbImage {
        let mut overlays = self.overlays();
        for (frame, label) in overlays.iter_mut().zip(labels.unwrap_or_default()) {
            outline(frame, label, TRUTH_COLOUR);
        }
        contact_sheet(&overlays, columns)
    }

    /// Writes `result.json` and the formats into `out`, which is made where it is not there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, out: &Path, formats: &[Format]) -> Result<(), SampleError> {
        make(out)?;
        let overlays = match formats.iter().any(|format| *format != Format::Png) {
            true => self.overlays(),
            false => Vec::new(),
        };
        for format in formats {
            match format {
                Format::Png => {
                    let folder = make(&out.join("masks"))?;
                    for (t, frame) in self.found.iter().enumerate() {
                        let path = folder.join(format!("{t:05}.png"));
                        frame.mask.save(&path).map_err(image_error(&path))?;
                    }
                }
                Format::Overlay => {
                    let folder = make(&out.join("overlays"))?;
                    for (t, frame) in overlays.iter().enumerate() {
                        let path = folder.join(format!("{t:05}.png"));
                        frame.save(&path).map_err(image_error(&path))?;
                    }
                }
                Format::Gif => write_gif(&overlays, &out.join("overlay.gif"))?,
            }
        }
        let path = out.join("result.json");
        let json = serde_json::to_string_pretty(&self.to_json()).expect("plain values") + "\n";
        fs::write(&path, json).map_err(io_error(&path))
    }

    /// The result as `result.json` holds it.
    pub fn to_json(&self) -> serde_json::Value {
        let (width, height) = self.frames.first().map_or((0, 0), RgbImage::dimensions);
        let frames = self
            .found
            .iter()
            .enumerate()
            .map(|(t, frame)| json!({"frame": t, "presence": frame.presence, "area": frame.area}));
        let timings = &self.timings;
        json!({
            "text": self.text,
            "found": self.is_found(),
            "width": width,
            "height": height,
            "frames": frames.collect::<Vec<_>>(),
            "audio": self.audio.as_ref().map(|path| path.display().to_string()),
            "model": self.model,
            "device": self.device,
            "timings": {
                "prepare_seconds": timings.prepare.as_secs_f64(),
                "prompt_seconds": timings.prompt.as_secs_f64(),
                "track_seconds": timings.track.as_secs_f64(),
            },
        })
    }
}

fn write_gif(overlays: &[RgbImage], path: &Path) -> Result<(), SampleError> {
    let file = BufWriter::new(File::create(path).map_err(io_error(path))?);
    let mut encoder = GifEncoder::new_with_speed(file, 10);
    encoder.set_repeat(Repeat::Infinite).map_err(image_error(path))?;
    for overlay in overlays {
        let longest = overlay.width().max(overlay.height());
        let shrunk = |side: u32| (side * GIF_SIDE / longest).max(1);
        let frame: RgbaImage = match longest > GIF_SIDE {
            true => {
                let size = (shrunk(overlay.width()), shrunk(overlay.height()));
                let small = imageops::resize(overlay, size.0, size.1, imageops::FilterType::Triangle);
                image::DynamicImage::from(small).to_rgba8()
            }
            false => image::DynamicImage::from(overlay.clone()).to_rgba8(),
        };
        let frame = Frame::from_parts(frame, 0, 0, Delay::from_numer_denom_ms(GIF_DELAY, 1));
        encoder.encode_frame(frame).map_err(image_error(path))?;
    }
    Ok(())
}

fn make(folder: &Path) -> Result<PathBuf, SampleError> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    Ok(folder.into())
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> SampleError + use<> {
    let path = path.to_path_buf();
    move |source| SampleError::Io { path, source }
}

fn image_error(path: &Path) -> impl FnOnce(image::ImageError) -> SampleError + use<> {
    let path = path.to_path_buf();
    move |error| SampleError::Io {
        path,
        source: match error {
            image::ImageError::IoError(source) => source,
            other => std::io::Error::other(other),
        },
    }
}
