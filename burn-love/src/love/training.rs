//! The training forward: masks of the first frames, and which parts learn.

use burn::{prelude::*, tensor::backend::AutodiffBackend};
use serde::{Deserialize, Serialize};

use super::{ClipFeatures, ClipInput, Sam2Love};
use crate::{
    fusion::FusionOutput,
    ops::matmul,
    sam2::{NeckFeatures, Prompt, Tracker},
};

/// Which parts learn. The fusion always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trainable {
    /// SAM 2's mask decoder.
    pub mask_decoder: bool,
    /// SAM 2's prompt encoder.
    pub prompt_encoder: bool,
    /// SAM 2's image encoder.
    pub image_encoder: bool,
    /// SAM 2's memory attention, memory encoder and object pointers.
    pub memory: bool,
    /// The audio encoder.
    pub audio_encoder: bool,
    /// The vision encoder.
    pub vision_encoder: bool,
    /// The text encoder.
    pub text_encoder: bool,
}

impl Trainable {
    /// The paper's choice.
    pub const PAPER: Self = Self {
        mask_decoder: true,
        prompt_encoder: true,
        image_encoder: false,
        memory: false,
        audio_encoder: false,
        vision_encoder: false,
        text_encoder: false,
    };

    /// No part, as in evaluation.
    pub const NOTHING: Self = Self {
        mask_decoder: false,
        prompt_encoder: false,
        image_encoder: false,
        memory: false,
        audio_encoder: false,
        vision_encoder: false,
        text_encoder: false,
    };

    /// Everything, for models without pre-trained parts.
    pub const ALL: Self = Self {
        mask_decoder: true,
        prompt_encoder: true,
        image_encoder: true,
        memory: true,
        audio_encoder: true,
        vision_encoder: true,
        text_encoder: true,
    };
}

impl Trainable {
    /// Whether the parameter called `key` in a weights file of the whole model learns.
    ///
    /// ```
    /// use burn_love::love::Trainable;
    ///
    /// assert!(Trainable::PAPER.learns("fusion.seg"));
    /// assert!(!Trainable::PAPER.learns("sam2.image_encoder.trunk.pos_embed"));
    /// ```
    pub fn learns(&self, key: &str) -> bool {
        let parts = [
            ("fusion.", true),
            ("encoders.audio.", self.audio_encoder),
            ("encoders.vision.", self.vision_encoder),
            ("encoders.text.", self.text_encoder),
            ("sam2.sam_mask_decoder.", self.mask_decoder),
            ("sam2.sam_prompt_encoder.", self.prompt_encoder),
            ("sam2.image_encoder.", self.image_encoder),
            ("sam2.", self.memory),
        ];
        let part = parts.iter().find(|(prefix, _)| key.starts_with(prefix));
        part.is_some_and(|(_, learns)| *learns)
    }
}

/// Masks of the first frames of a batch of clips.
#[derive(Debug, Clone)]
pub struct FramesOutput<B: Backend> {
    /// Mask logits, `[B, K, h, w]` at a quarter of SAM 2's resolution, never gated.
    pub logits: Tensor<B, 4>,
    /// Logits of the object being there, `[B, K]`.
    pub object_score: Tensor<B, 2>,
    /// Where the prompt points: its product with each cell of the first frame's image embedding, over √C, `[B, h·w]`.
    pub pointing: Tensor<B, 2>,
    /// For each patch of the first frame that the fusion is shown a logit of showing the object, `[B, P]`
    /// ([`FusionOutput::grounding`]), where they are asked for.
    pub grounding: Option<Tensor<B, 2>>,
}

impl<B: Backend> Sam2Love<B> {
    /// Masks of the prompted frame and of the frames tracked from it: the training forward.
    ///
    /// # Shapes
    /// - `frames`: `[B, K, 3, S, S]`, the prompted frame first
    pub fn forward_frames(&self, clip: ClipInput<B>, frames: Tensor<B, 5>) -> FramesOutput<B> {
        let [b, k, c, h, w] = frames.dims();
        let neck = self.sam2.image_encoder.forward(frames.reshape([b * k, c, h, w]));
        self.forward_features(self.encoders.encode(clip), neck, k, true)
    }

    /// As [`forward_frames`](Self::forward_frames), from what encoders and SAM 2's image encoder say. Frozen ones are
    /// best asked on the inner backend (`encoder.valid()`, then [`Tensor::from_inner`]): there is no graph, and what they
    /// say can be kept.
    ///
    /// Gates have no gradient: the logits are as the decoder gives them.
    ///
    /// # Shapes
    /// - `neck`: of `B·k` frames, the `k` frames of a clip in a row
    ///
    /// `grounded` asks for [`FramesOutput::grounding`] as well.
    pub fn forward_features(
        &self,
        features: ClipFeatures<B>,
        neck: NeckFeatures<B>,
        k: usize,
        grounded: bool,
    ) -> FramesOutput<B> {
        let (prompt, grounding) = if grounded {
            let FusionOutput { prompt, grounding } = self.fusion.forward_grounded(features);
            (prompt, Some(grounding))
        } else {
            (self.fusion.forward(features), None)
        };
        let [b, ..] = prompt.dims();
        let config = self
            .config
            .tracker(Some(k))
            .with_prompted_object_gate(false)
            .with_tracked_object_gate(false);
        let tracker = Tracker::new(&self.sam2, config);
        let pointing = pointing(prompt.clone(), neck.frame(b, k, 0).stride16);
        let frame = |i| self.sam2.project_features(neck.frame(b, k, i));
        if k == 1 {
            // A single frame needs no memory.
            let heads = self
                .sam2
                .forward_sam_heads(&frame(0), prompt, self.config.sam2.multimask);
            return FramesOutput {
                logits: heads.low_res_logits,
                object_score: heads.object_score,
                pointing,
                grounding,
            };
        }
        let (mut session, first) = tracker.start(&frame(0), Prompt::Tokens(prompt));
        let mut outputs = vec![first];
        outputs.extend((1..k).map(|i| session.step(&frame(i))));
        FramesOutput {
            logits: Tensor::cat(
                outputs
                    .iter()
                    .map(|output| output.low_res_logits.clone())
                    .collect(),
                1,
            ),
            object_score: Tensor::cat(outputs.into_iter().map(|output| output.object_score).collect(), 1),
            pointing,
            grounding,
        }
    }
}

/// The product of a prompt with each cell of an image embedding.
///
/// # Shapes
/// - `prompt`: `[B, 1, C]`; `embedding`: `[B, C, h, w]`; output: `[B, h·w]`
fn pointing<B: Backend>(prompt: Tensor<B, 3>, embedding: Tensor<B, 4>) -> Tensor<B, 2> {
    let [b, c, h, w] = embedding.dims();
    let products = matmul(prompt, embedding.reshape([b, c, h * w]));
    (products / (c as f64).sqrt()).reshape([b, h * w])
}

impl<B: AutodiffBackend> Sam2Love<B> {
    /// Stops gradients at the parts that do not learn.
    pub fn freeze(mut self, trainable: &Trainable) -> Self {
        fn keep<B: Backend, M: Module<B>>(module: M, learns: bool) -> M {
            if learns { module } else { module.no_grad() }
        }
        let sam2 = &mut self.sam2;
        sam2.image_encoder = keep(sam2.image_encoder.clone(), trainable.image_encoder);
        sam2.sam_prompt_encoder = keep(sam2.sam_prompt_encoder.clone(), trainable.prompt_encoder);
        sam2.sam_mask_decoder = keep(sam2.sam_mask_decoder.clone(), trainable.mask_decoder);
        if !trainable.memory {
            sam2.memory_attention = sam2.memory_attention.clone().no_grad();
            sam2.memory_encoder = sam2.memory_encoder.clone().no_grad();
            sam2.obj_ptr_proj = sam2.obj_ptr_proj.clone().no_grad();
            sam2.obj_ptr_tpos_proj = sam2.obj_ptr_tpos_proj.clone().no_grad();
            sam2.mask_downsample = sam2.mask_downsample.clone().no_grad();
            sam2.maskmem_tpos_enc = sam2.maskmem_tpos_enc.clone().no_grad();
            sam2.no_mem_embed = sam2.no_mem_embed.clone().no_grad();
            sam2.no_mem_pos_enc = sam2.no_mem_pos_enc.clone().no_grad();
            sam2.no_obj_ptr = sam2.no_obj_ptr.clone().no_grad();
            sam2.no_obj_embed_spatial = sam2.no_obj_embed_spatial.clone().no_grad();
        }
        let encoders = &mut self.encoders;
        encoders.audio = keep(encoders.audio.clone(), trainable.audio_encoder);
        encoders.vision = keep(encoders.vision.clone(), trainable.vision_encoder);
        encoders.text = keep(encoders.text.clone(), trainable.text_encoder);
        self
    }
}
