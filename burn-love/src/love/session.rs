//! Inference: SAM 2 carries the prompted object through the clip.

use burn::prelude::*;

use super::Sam2Love;
use crate::sam2::{
    FrameOutput, ImageFeatures, NO_OBJECT_LOGIT, Prompt, TrackSession, Tracker, TrackerConfig,
};

/// One expression on one clip, between frames. Memory does not grow with the clip; dropping the session frees it.
#[derive(Debug, Clone)]
pub struct LoveSession<'a, B: Backend> {
    model: &'a Sam2Love<B>,
    config: TrackerConfig,
    prompt: Tensor<B, 3>,
    session: Option<TrackSession<'a, B>>,
    /// Where the first frame decides whether there is an object: its score there, `[B, 1]`.
    first_score: Option<Tensor<B, 2>>,
}

impl<'a, B: Backend> LoveSession<'a, B> {
    pub(super) fn new(model: &'a Sam2Love<B>, prompt: Tensor<B, 3>, config: TrackerConfig) -> Self {
        let threshold = model.config.sam2.clip_gate_threshold;
        assert!(
            threshold > 0.0 && threshold < 1.0,
            "expected 0 < clip_gate_threshold < 1, found {threshold}"
        );
        Self {
            model,
            config,
            prompt,
            session: None,
            first_score: None,
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
        let output = match &mut self.session {
            Some(session) => session.step(features),
            None => {
                let tracker = Tracker::new(&self.model.sam2, self.config.clone());
                let (session, output) = tracker.start(features, Prompt::Tokens(self.prompt.clone()));
                self.session = Some(session);
                if self.model.config.sam2.clip_gate {
                    self.first_score = Some(output.object_score.clone());
                }
                output
            }
        };
        match &self.first_score {
            Some(first) => {
                let threshold = self.model.config.sam2.clip_gate_threshold;
                gated(output, first.clone(), (threshold / (1.0 - threshold)).ln())
            }
            None => output,
        }
    }
}

/// Empties the masks, and takes over the score, where the `first` one, `[B, 1]`, is not above `threshold`.
fn gated<B: Backend>(output: FrameOutput<B>, first: Tensor<B, 2>, threshold: f64) -> FrameOutput<B> {
    let absent = first.clone().lower_equal_elem(threshold); // [B, 1]
    let masks = absent
        .clone()
        .reshape([-1, 1, 1, 1])
        .expand(output.low_res_logits.dims());
    FrameOutput {
        low_res_logits: output.low_res_logits.mask_fill(masks, NO_OBJECT_LOGIT),
        object_score: output.object_score.mask_where(absent, first),
        ..output
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::love::LoveConfig;
    type B = burn_flex::Flex;

    #[test]
    fn what_is_not_in_the_first_frame_is_in_none() {
        let device = Default::default();
        let output = FrameOutput::<B> {
            low_res_logits: Tensor::ones([2, 1, 1, 2], &device),
            object_score: Tensor::from_data([[3.0], [4.0]], &device),
            iou: Tensor::ones([2, 1], &device),
        };
        let first = Tensor::from_data([[-1.0], [0.5]], &device);
        let values = |x: TensorData| x.to_vec::<f32>().unwrap();
        for (threshold, masks, scores) in [
            (-2.0, [1.0, 1.0, 1.0, 1.0], [3.0, 4.0]),
            (0.0, [-1024.0, -1024.0, 1.0, 1.0], [-1.0, 4.0]),
            (0.5, [-1024.0; 4], [-1.0, 0.5]),
        ] {
            let gated = gated(output.clone(), first.clone(), threshold);
            assert_eq!(values(gated.low_res_logits.into_data()), masks);
            assert_eq!(values(gated.object_score.into_data()), scores);
        }
    }

    #[test]
    fn the_first_frame_alone_decides_where_the_config_says_so() {
        let device = Default::default();
        let mut config = LoveConfig::nano();
        config.sam2.object_gate = false;
        config.sam2.model.image_size = 64;
        let mut model = config.init::<B>(&device);
        let frames = [0, 1].map(|_| {
            let pixels = Tensor::random([1, 3, 64, 64], Distribution::Normal(0.0, 1.0), &device);
            model.sam2.forward_image(pixels)
        });
        let prompt = Tensor::random([1, 1, 128], Distribution::Normal(0.0, 1.0), &device);
        let track = |model: &Sam2Love<B>| {
            let mut session = model.track(prompt.clone(), Some(2));
            frames.each_ref().map(|frame| session.next_features(frame))
        };
        let scores = |outputs: [FrameOutput<B>; 2]| outputs.map(|output| output.object_score.into_scalar());
        let [first, second] = scores(track(&model));
        assert!((first - second).abs() > 1e-5, "{first} and {second} are alike");
        // Between the two, so that one is above 0 and the other is not.
        let head = &mut model.sam2.sam_mask_decoder.pred_obj_score_head;
        let last = head.layers.last_mut().unwrap();
        last.bias = last
            .bias
            .take()
            .map(|bias| bias.map(|bias| bias - (first + second) / 2.0));
        model.config.sam2.clip_gate = true;
        let outputs = track(&model);
        let empty = outputs.each_ref().map(|output| {
            let largest = output.low_res_logits.clone().max().into_scalar();
            f64::from(largest) == NO_OBJECT_LOGIT
        });
        assert_eq!(empty, [first < second; 2]);
        assert!(first > second || scores(outputs).iter().all(|score| *score < 0.0));
        // The first score is by half of their difference above 0, or below it.
        let presence = f64::from(1.0 / (1.0 + (-(first - second) / 2.0).exp()));
        for (threshold, absent) in [(presence - 1e-3, false), (presence + 1e-3, true)] {
            model.config.sam2.clip_gate_threshold = threshold;
            let [first, _] = track(&model);
            let largest = f64::from(first.low_res_logits.max().into_scalar());
            assert_eq!(largest == NO_OBJECT_LOGIT, absent, "{threshold}");
        }
    }
}
