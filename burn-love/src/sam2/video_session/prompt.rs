//! Points and boxes in pixels of the video.

use burn::prelude::*;

use super::VideoError;
use crate::sam2::prompt_encoder::{PointLabel, Points};

/// Points and a box on one frame, in pixels of the video.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PointPrompt {
    /// (x, y) of each point and what it means.
    pub points: Vec<([f32; 2], PointLabel)>,
    /// Left, top, right, bottom.
    pub bounds: Option<[f32; 4]>,
    /// Whether earlier points on the frame still count.
    pub keep_previous: bool,
}

impl PointPrompt {
    /// No points.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a point at (x, y).
    pub fn point(mut self, at: [f32; 2], label: PointLabel) -> Self {
        self.points.push((at, label));
        self
    }

    /// Adds a box: left, top, right, bottom.
    pub fn bounds(mut self, bounds: [f32; 4]) -> Self {
        self.bounds = Some(bounds);
        self
    }

    /// Adds to the earlier points on the frame rather than replacing them.
    pub fn keep_previous(mut self) -> Self {
        self.keep_previous = true;
        self
    }

    pub(super) fn check(&self) -> Result<(), VideoError> {
        let coordinates = self
            .points
            .iter()
            .flat_map(|(at, _)| at)
            .chain(self.bounds.iter().flatten());
        if let Some(found) = coordinates.copied().find(|value| !value.is_finite()) {
            return Err(VideoError::Coordinate { found });
        }
        match (self.points.is_empty(), self.bounds, self.keep_previous) {
            (true, None, _) => Err(VideoError::EmptyPrompt),
            (_, Some(_), true) => Err(VideoError::LateBox),
            _ => Ok(()),
        }
    }
}

/// All points that count on a frame, the corners of a box first.
#[derive(Debug, Clone, Default)]
pub(super) struct FramePoints(Vec<([f32; 2], PointLabel)>);

impl FramePoints {
    pub(super) fn extend(&mut self, prompt: PointPrompt) {
        if let Some([left, top, right, bottom]) = prompt.bounds {
            self.0.push(([left, top], PointLabel::BoxTopLeft));
            self.0.push(([right, bottom], PointLabel::BoxBottomRight));
        }
        self.0.extend(prompt.points);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// In pixels of the model's image. `size` is the video's height and width.
    pub(super) fn encode<B: Backend>(&self, size: [usize; 2], image: usize, device: &B::Device) -> Points<B> {
        let [h, w] = size.map(|side| side as f32);
        let image = image as f32;
        let coordinates: Vec<f32> = self
            .0
            .iter()
            .flat_map(|([x, y], _)| [x / w * image, y / h * image])
            .collect();
        let labels: Vec<i32> = self.0.iter().map(|(_, label)| *label as i32).collect();
        let n = self.0.len();
        Points {
            coordinates: Tensor::from_data(TensorData::new(coordinates, [1, n, 2]), device),
            labels: Tensor::from_data(TensorData::new(labels, [1, n]), device),
        }
    }
}
