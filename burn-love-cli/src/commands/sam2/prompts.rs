//! The prompts of `sam2 video`: a JSON list, one entry per object and frame.

use std::path::{Path, PathBuf};

use burn_love::sam2::{ObjectId, PointLabel, PointPrompt};
use image::GrayImage;
use serde::Deserialize;

use crate::error::CliError;

/// How a prompts file looks.
const EXAMPLE: &str = r#"like [{"frame": 0, "object": 1, "points": [[120, 80]], "labels": [1]}, {"frame": 0, "object": 2, "box": [10, 20, 90, 80]}]"#;

/// An entry of the file, in pixels of the video.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    frame: usize,
    object: ObjectId,
    #[serde(default)]
    points: Vec<[f32; 2]>,
    #[serde(default)]
    labels: Vec<u8>,
    #[serde(rename = "box")]
    bounds: Option<[f32; 4]>,
    mask: Option<PathBuf>,
}

/// What an entry says of its object.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Points and a box.
    Points(PointPrompt),
    /// A mask of the video's size, above 127 inside.
    Mask(GrayImage),
}

/// A prompt and where it belongs.
#[derive(Debug, Clone)]
pub struct FramePrompt {
    /// Index of the frame.
    pub frame: usize,
    /// Which object.
    pub object: ObjectId,
    /// What is said of it.
    pub prompt: Prompt,
}

/// Reads and checks a prompts file for a video of `frames` frames of `size` (width, height). Paths of masks are relative
/// to the file.
pub fn read(path: &Path, frames: usize, size: (u32, u32)) -> Result<Vec<FramePrompt>, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::input(format!("{}: {error}", path.display())).hint(EXAMPLE))?;
    let entries: Vec<Entry> = serde_json::from_str(&text).map_err(|error| {
        CliError::input(format!(
            "{}: expected a list of prompts, found: {error}",
            path.display()
        ))
        .hint(EXAMPLE)
    })?;
    if entries.is_empty() {
        let message = format!("{}: expected at least one prompt, found none", path.display());
        return Err(CliError::input(message).hint(EXAMPLE));
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut prompts = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let wrong =
            |expected: String| CliError::input(format!("{}: prompt {index}: {expected}", path.display()));
        if entry.frame >= frames {
            return Err(wrong(format!(
                "expected a frame below {frames}, found {}",
                entry.frame
            )));
        }
        let (frame, object) = (entry.frame, entry.object);
        let prompt = match (&entry.mask, entry.points.is_empty() && entry.bounds.is_none()) {
            (Some(_), false) => return Err(wrong("expected a mask or points and a box, found both".into())),
            (None, true) => return Err(wrong("expected points, a box or a mask, found none".into())),
            (Some(mask), true) => Prompt::Mask(read_mask(&folder.join(mask), size)?),
            (None, false) => Prompt::Points(points(&entry).map_err(wrong)?),
        };
        prompts.push(FramePrompt {
            frame,
            object,
            prompt,
        });
    }
    Ok(prompts)
}

fn points(entry: &Entry) -> Result<PointPrompt, String> {
    let (points, labels) = (entry.points.len(), entry.labels.len());
    if points != labels {
        return Err(format!(
            "expected one label a point, found {points} points and {labels} labels"
        ));
    }
    let mut prompt = PointPrompt::new();
    for (at, label) in entry.points.iter().zip(&entry.labels) {
        let label = match label {
            0 => PointLabel::Negative,
            1 => PointLabel::Positive,
            other => {
                return Err(format!(
                    "expected labels of 1 (object) or 0 (not the object), found {other}"
                ));
            }
        };
        prompt = prompt.point(*at, label);
    }
    if let Some(bounds) = entry.bounds {
        if bounds[0] >= bounds[2] || bounds[1] >= bounds[3] {
            return Err(format!(
                "expected a box [left, top, right, bottom], found {bounds:?}"
            ));
        }
        prompt = prompt.bounds(bounds);
    }
    Ok(prompt)
}

fn read_mask(path: &Path, (width, height): (u32, u32)) -> Result<GrayImage, CliError> {
    let mask = super::picture::read(path)?.to_luma8();
    if mask.dimensions() != (width, height) {
        let (w, h) = mask.dimensions();
        let message = format!(
            "{}: expected a mask of the video's size, {width}×{height}, found {w}×{h}",
            path.display()
        );
        return Err(CliError::input(message));
    }
    Ok(mask)
}
