//! Inference: SAM 2 carries the prompted object through the clip.

use burn::prelude::*;

use super::Sam2Love;
use crate::sam2::{FrameOutput, ImageFeatures, Prompt, TrackSession, Tracker, TrackerConfig};

/// One expression on one clip, between frames. Memory does not grow with the clip; dropping the session frees it.
#[derive(Debug, Clone)]
pub struct LoveSession<'a, B: Backend> {
    model: &'a Sam2Love<B>,
    config: TrackerConfig,
    prompt: Tensor<B, 3>,
    session: Option<TrackSession<'a, B>>,
}

impl<'a, B: Backend> LoveSession<'a, B> {
    pub(super) fn new(model: &'a Sam2Love<B>, prompt: Tensor<B, 3>, config: TrackerConfig) -> Self {
        Self {
            model,
            config,
            prompt,
            session: None,
        }
    }

    /// The object in the next frame; the first call prompts, later ones track.
    ///
    /// # Shapes
    /// - `pixels`: `[B, 3, S, S]`, normalised, at SAM 2's size
    pub fn next_frame(&mut self, pixels: Tensor<B, 4>) -> FrameOutput<B> {
        let features = self.model.sam2.forward_image(pixels);
        self.next_features(&features)
    }

    /// As [`next_frame`](Self::next_frame), for a frame whose features are at hand: several expressions about one
    /// clip share them.
    ///
    /// # Shapes
    /// - `features`: of `B` images
    pub fn next_features(&mut self, features: &ImageFeatures<B>) -> FrameOutput<B> {
        match &mut self.session {
            Some(session) => session.step(features),
            None => {
                let tracker = Tracker::new(&self.model.sam2, self.config.clone());
                let (session, output) = tracker.start(features, Prompt::Tokens(self.prompt.clone()));
                self.session = Some(session);
                output
            }
        }
    }
}
