//! Tracking without interaction: a batch of objects, each prompted on the first frame of its video, carried forward by
//! memory. It has gradients; SAM2-LOVE trains and infers with it.
//!
//! SAM 2, `sam2_base.py: track_step`, for prompts on the first frame and forward propagation. The
//! [`VideoSession`](super::VideoSession) does the rest.

use burn::prelude::*;

use super::{
    mask_decoder::MaskSelection,
    memory_bank::{Direction, FrameMemory, MemoryBank, Viewpoint},
    model::{ImageFeatures, MaskAsOutput, Sam2, SamHeadsOutput},
    prompt_encoder::{Points, PromptEmbeddings},
};
use crate::ops::round_to_bf16;

/// Choices of a [`Tracker`]. Tracked frames follow the model's config in all else.
#[derive(Config, Debug, PartialEq)]
pub struct TrackerConfig {
    /// Prompted frame: take the candidate with the best predicted IoU rather than the single mask.
    #[config(default = false)]
    pub prompted_multimask: bool,
    /// Prompted frame, single mask: fall back to the best candidate where the mask is unstable.
    #[config(default = false)]
    pub prompted_stability: bool,
    /// Prompted frame: an object score of 0 or less empties the mask. If off, the object is taken as present, in
    /// memory too.
    #[config(default = true)]
    pub prompted_object_gate: bool,
    /// Tracked frames: an object score of 0 or less empties the mask.
    #[config(default = true)]
    pub tracked_object_gate: bool,
    /// Whether the memory of the prompted frame is made from the binarised mask.
    #[config(default = true)]
    pub binarize_prompted: bool,
    /// Whether stored spatial memories are rounded to bf16, as upstream stores them.
    #[config(default = true)]
    pub round_memory: bool,
    /// Length of the video in frames, if known beforehand.
    pub frames: Option<usize>,
}

/// What names the object on the first frame.
#[derive(Clone, Debug)]
pub enum Prompt<B: Backend> {
    /// Tokens from outside, `[B, n, D]`, taken as they are.
    Tokens(Tensor<B, 3>),
    /// Points or box corners, in pixels of the model's input image.
    Points(Points<B>),
    /// A mask that is taken as the truth, `[B, 1, S, S]` with `S = config.image_size`, 1 inside and 0 outside: the mask
    /// decoder has no say in the first frame.
    Mask(Tensor<B, 4>),
}

/// Starts tracking sessions.
#[derive(Clone, Debug)]
pub struct Tracker<'a, B: Backend> {
    model: &'a Sam2<B>,
    config: TrackerConfig,
}

/// One object in one video, between frames. Dropping it frees its memory.
#[derive(Clone, Debug)]
pub struct TrackSession<'a, B: Backend> {
    tracker: Tracker<'a, B>,
    bank: MemoryBank<B>,
    next: usize,
}

/// The object in one frame.
#[derive(Clone, Debug)]
pub struct FrameOutput<B: Backend> {
    /// Mask logits at a quarter of the image's resolution, `[B, 1, h, w]`.
    pub low_res_logits: Tensor<B, 4>,
    /// Logit of the object being there, `[B, 1]`.
    pub object_score: Tensor<B, 2>,
    /// Predicted IoU of the mask, `[B, 1]`.
    pub iou: Tensor<B, 2>,
}

/// A frame's result and how it is remembered.
struct Remembered<B: Backend> {
    output: FrameOutput<B>,
    memory: FrameMemory<B>,
}

impl<'a, B: Backend> Tracker<'a, B> {
    /// A tracker that uses `model`.
    pub fn new(model: &'a Sam2<B>, config: TrackerConfig) -> Self {
        Self { model, config }
    }

    /// Segments the prompted object on the first frame and begins to track it.
    ///
    /// # Shapes
    /// - `features`: of `B` first frames (of one video, `B` is 1)
    pub fn start(
        &self,
        features: &ImageFeatures<B>,
        prompt: Prompt<B>,
    ) -> (TrackSession<'a, B>, FrameOutput<B>) {
        let frame = match prompt {
            Prompt::Tokens(tokens) => self.prompted(features, self.model.sam_prompt_encoder.tokens(tokens)),
            Prompt::Points(points) => {
                let encoder = &self.model.sam_prompt_encoder;
                let prompt = encoder.forward(Some(points), None, self.model.config.image_size);
                self.prompted(features, prompt)
            }
            Prompt::Mask(mask) => self.given(features, mask),
        };
        let mut bank = MemoryBank::default();
        bank.condition(0, frame.memory);
        let session = TrackSession {
            tracker: self.clone(),
            bank,
            next: 1,
        };
        (session, frame.output)
    }

    /// The first frame, segmented as a prompt says.
    fn prompted(&self, features: &ImageFeatures<B>, prompt: PromptEmbeddings<B>) -> Remembered<B> {
        let (model, config) = (self.model, &self.config);
        let selection = match (config.prompted_multimask, config.prompted_stability) {
            (true, _) => MaskSelection::Candidates,
            (false, true) => MaskSelection::StableSingle,
            (false, false) => MaskSelection::Single,
        };
        let heads = model.decode(model.unconditioned(features), features, prompt, selection);
        self.remember(
            features,
            heads,
            config.prompted_object_gate,
            config.binarize_prompted,
        )
    }

    /// The first frame with a mask that is taken as the truth.
    fn given(&self, features: &ImageFeatures<B>, mask: Tensor<B, 4>) -> Remembered<B> {
        let MaskAsOutput {
            low_res_logits,
            object_score,
            pointer,
        } = self.model.mask_as_output(features, mask);
        let present = object_score.clone().greater_elem(0.0).float();
        let spatial = self.spatial(features, &low_res_logits, present, self.config.binarize_prompted);
        Remembered {
            memory: FrameMemory { spatial, pointer },
            output: FrameOutput {
                low_res_logits,
                iou: object_score.ones_like(),
                object_score,
            },
        }
    }

    /// Gates the mask and encodes the frame's memory.
    fn remember(
        &self,
        features: &ImageFeatures<B>,
        heads: SamHeadsOutput<B>,
        gate: bool,
        binarize: bool,
    ) -> Remembered<B> {
        let (logits, present) = if gate {
            (heads.gated_logits(), heads.present())
        } else {
            (heads.low_res_logits, heads.object_score.ones_like())
        };
        Remembered {
            memory: FrameMemory {
                spatial: self.spatial(features, &logits, present.clone(), binarize),
                pointer: self.model.object_pointer(heads.mask_token, present),
            },
            output: FrameOutput {
                low_res_logits: logits,
                object_score: heads.object_score,
                iou: heads.iou,
            },
        }
    }

    /// The frame's spatial memory, as it is stored.
    fn spatial(
        &self,
        features: &ImageFeatures<B>,
        logits: &Tensor<B, 4>,
        present: Tensor<B, 2>,
        binarize: bool,
    ) -> Tensor<B, 3> {
        let embedding = features.neck.stride16.clone();
        let spatial = self
            .model
            .encode_memory(embedding, logits.clone(), present, binarize);
        if self.config.round_memory {
            round_to_bf16(spatial)
        } else {
            spatial
        }
    }
}

impl<B: Backend> TrackSession<'_, B> {
    /// Finds the object in the next frame and remembers it.
    pub fn step(&mut self, features: &ImageFeatures<B>) -> FrameOutput<B> {
        let model = self.tracker.model;
        let [batch, _, _, _] = features.neck.stride16.dims();
        let at = Viewpoint {
            frame: self.next,
            direction: Direction::Forward,
            frames: self.tracker.config.frames,
        };
        let embedding = model.conditioned(features, self.bank.memories(model, at));
        let selection = if model.config.memory.multimask_tracking {
            MaskSelection::Candidates
        } else {
            MaskSelection::StableSingle
        };
        let encoder = &model.sam_prompt_encoder;
        let prompt = encoder.tokens(encoder.no_points(batch));
        let heads = model.decode(embedding, features, prompt, selection);
        let gate = self.tracker.config.tracked_object_gate;
        let frame = self.tracker.remember(features, heads, gate, false);
        self.bank.track(self.next, frame.memory);
        self.next += 1;
        self.bank.forget_far_from(&[self.next], &model.config.memory);
        frame.output
    }

    /// Index of the frame that [`step`](Self::step) takes next; the prompted one has index 0.
    pub fn next_frame(&self) -> usize {
        self.next
    }
}
