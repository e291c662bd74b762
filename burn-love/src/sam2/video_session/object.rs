//! One object of a video session: its prompts, its masks and its memory.

use std::collections::BTreeMap;

use burn::prelude::*;

use super::{
    ObjectId, VideoConfig,
    masks::{ObjectMask, fill_holes},
    prompt::{FramePoints, PointPrompt},
};
use crate::{
    ops::round_to_bf16,
    sam2::{
        MemoryConfig,
        memory_bank::{Direction, FrameMemory, MemoryBank},
        model::{ImageFeatures, Sam2, SamHeadsOutput},
    },
};

/// What followed from a prompt, until tracking makes a memory of it.
#[derive(Clone, Debug)]
pub(super) struct Pending<B: Backend> {
    /// Image embedding of the frame, `[1, D, H, W]`.
    pub embedding: Tensor<B, 4>,
    /// The object there.
    pub mask: ObjectMask<B>,
    /// Object pointer, `[1, D]`.
    pub pointer: Tensor<B, 2>,
    /// Whether it becomes a conditioning frame.
    pub conditioning: bool,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct ObjectTrack<B: Backend> {
    pub id: ObjectId,
    /// Points that count, by frame.
    pub prompts: BTreeMap<usize, FramePoints>,
    /// Frames that were prompted since the last tracking.
    pub pending: BTreeMap<usize, Pending<B>>,
    /// Memories of settled frames.
    pub bank: MemoryBank<B>,
    /// Frames that were tracked, and which way.
    pub tracked: BTreeMap<usize, Direction>,
    /// Masks of remembered frames.
    masks: BTreeMap<usize, ObjectMask<B>>,
}

impl<B: Backend> ObjectTrack<B> {
    pub fn new(id: ObjectId) -> Self {
        Self {
            id,
            prompts: BTreeMap::new(),
            pending: BTreeMap::new(),
            bank: MemoryBank::default(),
            tracked: BTreeMap::new(),
            masks: BTreeMap::new(),
        }
    }

    pub fn first_prompted_frame(&self) -> Option<usize> {
        let pending = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.conditioning)
            .map(|(frame, _)| *frame);
        pending.chain(self.bank.conditioning_frames()).min()
    }

    /// Which way the frame was tracked, if it was.
    pub fn was_tracked(&self, frame: usize) -> Option<Direction> {
        self.tracked.get(&frame).copied()
    }

    /// The points that count on the frame from now on.
    pub fn merge_points(&mut self, frame: usize, prompt: PointPrompt) -> FramePoints {
        let points = self.prompts.entry(frame).or_default();
        if !prompt.keep_previous {
            *points = FramePoints::default();
        }
        points.extend(prompt);
        points.clone()
    }

    /// The object on the frame, as last seen.
    pub fn latest(&self, frame: usize) -> Option<&ObjectMask<B>> {
        let pending = self.pending.get(&frame).map(|pending| &pending.mask);
        pending.or_else(|| self.masks.get(&frame))
    }

    pub fn latest_logits(&self, frame: usize) -> Option<Tensor<B, 4>> {
        self.latest(frame).map(|mask| mask.low_res_logits.clone())
    }

    /// Keeps a tracked frame: its mask, and its memory before holes are filled.
    pub fn remember(
        &mut self,
        model: &Sam2<B>,
        config: &VideoConfig,
        frame: usize,
        features: &ImageFeatures<B>,
        heads: SamHeadsOutput<B>,
    ) {
        let (logits, present) = (heads.gated_logits(), heads.present());
        let embedding = features.neck.stride16.clone();
        let spatial = model.encode_memory(embedding, logits.clone(), present.clone(), false);
        let memory = FrameMemory {
            spatial: rounded(spatial, config),
            pointer: model.object_pointer(heads.mask_token, present),
        };
        self.bank.track(frame, memory);
        let mask = ObjectMask {
            object: self.id,
            low_res_logits: fill_holes(logits, config.fill_hole_area),
            object_score: heads.object_score,
            iou: heads.iou,
        };
        self.masks.insert(frame, mask);
    }

    /// Makes memories of the frames that were prompted since the last tracking.
    pub fn settle(&mut self, model: &Sam2<B>, config: &VideoConfig) {
        for (frame, pending) in std::mem::take(&mut self.pending) {
            // A refined conditioning frame stays as it was, as in the reference.
            if !pending.conditioning && self.bank.is_conditioning(frame) {
                continue;
            }
            let mask = pending.mask;
            let present = mask.object_score.clone().greater_elem(0.0).float();
            let logits = mask.low_res_logits.clone();
            let spatial = model.encode_memory(pending.embedding, logits, present, config.binarize_prompted);
            let memory = FrameMemory {
                spatial: rounded(spatial, config),
                pointer: pending.pointer,
            };
            self.masks.insert(frame, mask);
            if pending.conditioning {
                self.bank.condition(frame, memory);
            } else {
                self.bank.track(frame, memory);
            }
        }
    }

    /// Takes the prompts on the frame back; what was settled there counts as tracked.
    pub fn clear_prompts(&mut self, frame: usize) {
        self.prompts.remove(&frame);
        self.pending.remove(&frame);
        if self.bank.is_conditioning(frame) {
            self.bank.release(frame);
            self.tracked.remove(&frame);
        }
    }

    /// Frames with prompts that count, whether they were settled or not.
    pub fn prompted_frames(&self) -> impl Iterator<Item = usize> + '_ {
        let pending = self.pending.keys().copied();
        pending.chain(self.bank.conditioning_frames())
    }

    /// Forgets frames that no frame tracked onwards from these looks at.
    pub fn forget_far_from(&mut self, frames: &[usize], config: &MemoryConfig) {
        self.bank.forget_far_from(frames, config);
        self.masks.retain(|frame, _| self.bank.remembers(*frame));
    }
}

fn rounded<B: Backend>(spatial: Tensor<B, 3>, config: &VideoConfig) -> Tensor<B, 3> {
    if config.round_memory {
        round_to_bf16(spatial)
    } else {
        spatial
    }
}
