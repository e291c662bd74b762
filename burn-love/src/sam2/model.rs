//! SAM 2 as a whole: image features, prompted masks, and the pieces a video needs.
//!
//! SAM 2, `sam2_base.py: SAM2Base`. Every switch that all published configs share is built in; the others are
//! in [`Sam2Config`].

use burn::{
    module::{Initializer, Module, Param},
    nn::{
        Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
    },
    prelude::*,
    tensor::activation::sigmoid,
};

use super::{
    config::Sam2Config,
    fpn_neck::{ImageEncoder, NeckFeatures, repeat_images},
    hiera::PATCH_STRIDE,
    mask_decoder::{HighResFeatures, MaskDecoder, MaskDecoderInput, MaskDecoderOutput, MaskSelection},
    memory_attention::{Memories, MemoryAttention},
    memory_encoder::MemoryEncoder,
    mlp::{Mlp, MlpConfig},
    position_encoding::grid_sine,
    prompt_encoder::{PromptEmbeddings, PromptEncoder},
    rope::RotaryTable,
};
use crate::ops::{permute, resize_bilinear, resize_bilinear_antialias, sum_rows};

/// Logit of every pixel of a frame in which the object is not.
pub const NO_OBJECT_LOGIT: f64 = -1024.0;

/// SAM 2. See the [module docs](self).
///
/// ```
/// use burn::tensor::Tensor;
/// use burn_flex::Flex;
/// use burn_love::sam2::{Sam2, Sam2Config};
///
/// let device = Default::default();
/// let config = Sam2Config::nano().with_image_size(64);
/// let sam2: Sam2<Flex> = config.init(&device);
/// let features = sam2.forward_image(Tensor::zeros([1, 3, 64, 64], &device));
/// let token = Tensor::zeros([1, 1, config.model_width], &device);
/// let output = sam2.forward_sam_heads(&features, token, false);
/// assert_eq!(output.low_res_logits.dims(), [1, 1, 16, 16]);
/// ```
#[derive(Module, Debug)]
pub struct Sam2<B: Backend> {
    /// Trunk and neck.
    pub image_encoder: ImageEncoder<B>,
    /// Brings a mask prompt to the resolution of the logits, when a pointer is made from it.
    pub mask_downsample: Conv2d<B>,
    /// Attention from a frame to the memories.
    pub memory_attention: MemoryAttention<B>,
    /// Encoder of memories.
    pub memory_encoder: MemoryEncoder<B>,
    /// Encoding of a memory's age, `[frames, 1, 1, C]`: last row the prompted frame, row `i` that of `i + 1`
    /// frames ago.
    pub maskmem_tpos_enc: Param<Tensor<B, 4>>,
    /// Added to the embedding of a frame without memories, `[1, 1, D]`.
    pub no_mem_embed: Param<Tensor<B, 3>>,
    /// Part of every checkpoint, `[1, 1, D]`; no published config uses it.
    pub no_mem_pos_enc: Param<Tensor<B, 3>>,
    /// Object pointer of frames without the object, `[1, D]`.
    pub no_obj_ptr: Param<Tensor<B, 2>>,
    /// Marks the memories of frames without the object, `[1, C]` (2.1).
    pub no_obj_embed_spatial: Option<Param<Tensor<B, 2>>>,
    /// The prompt encoder.
    pub sam_prompt_encoder: PromptEncoder<B>,
    /// The mask decoder.
    pub sam_mask_decoder: MaskDecoder<B>,
    /// Mask token to object pointer.
    pub obj_ptr_proj: Mlp<B>,
    /// Projection of an object pointer's time encoding (2.1).
    pub obj_ptr_tpos_proj: Option<Linear<B>>,
    /// Tables that depend on sizes only.
    pub tables: Tables<B>,
    /// What the model was built from.
    #[module(skip)]
    pub config: Sam2Config,
}

/// Position encodings of the configured resolution. They hold no weights, and are neither trained nor saved.
#[derive(Module, Debug)]
pub struct Tables<B: Backend> {
    /// Sine encoding of the embedding's cells, `[1, H·W, D]`.
    pub vision_position: Tensor<B, 3>,
    /// Sine encoding of a memory's cells, `[1, H·W, C]`.
    pub memory_position: Tensor<B, 3>,
    /// Rotary encoding of the embedding's grid.
    pub rotary: RotaryTable<B>,
    /// The prompt encoder's encoding of the embedding's cells, `[1, H·W, D]`, once cached.
    pub dense_position: Option<Tensor<B, 3>>,
}

/// A batch of encoded images.
#[derive(Clone, Debug)]
pub struct ImageFeatures<B: Backend> {
    /// The neck's maps, before `conv_s0` and `conv_s1`; `stride16` is the image embedding.
    pub neck: NeckFeatures<B>,
    /// The fine maps after `conv_s0` and `conv_s1`.
    pub high_res: HighResFeatures<B>,
}

/// What the mask decoder says about each prompt.
#[derive(Clone, Debug)]
pub struct SamHeadsOutput<B: Backend> {
    /// Logits of all returned masks, `[B, M, h, w]` at a quarter of the image's resolution.
    pub multimask_logits: Tensor<B, 4>,
    /// Predicted IoU of all returned masks, `[B, M]`.
    pub multimask_iou: Tensor<B, 2>,
    /// Logits of the mask with the best predicted IoU, `[B, 1, h, w]`.
    pub low_res_logits: Tensor<B, 4>,
    /// Its predicted IoU, `[B, 1]`.
    pub iou: Tensor<B, 2>,
    /// Logit of the object being there, `[B, 1]`. Nothing else here depends on it.
    pub object_score: Tensor<B, 2>,
    /// Output token of the mask, from which the object pointer is made, `[B, D]`.
    pub mask_token: Tensor<B, 2>,
}

/// What follows from a mask that is taken as the truth.
#[derive(Clone, Debug)]
pub struct MaskAsOutput<B: Backend> {
    /// Logits at a quarter of the image's resolution, `[B, 1, h, w]`.
    pub low_res_logits: Tensor<B, 4>,
    /// ±10, `[B, 1]`.
    pub object_score: Tensor<B, 2>,
    /// Object pointer, `[B, D]`.
    pub pointer: Tensor<B, 2>,
}

impl Sam2Config {
    /// Builds the model with fresh weights.
    ///
    /// # Panics
    /// If the sizes contradict each other, or the memory has no frame, no stride, or a limit of one prompted frame.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Sam2<B> {
        let (width, memory_width, memory) = (self.model_width, self.memory_width, &self.memory);
        assert_eq!(width % memory_width, 0, "the memories' width divides the model's");
        assert!(
            memory.frames > 0 && memory.temporal_stride > 0,
            "a memory has frames and a stride"
        );
        assert_ne!(
            memory.max_conditioning_frames, 1,
            "the limit of prompted frames is 2 or more, or 0 for none"
        );
        let size = self.embedding_size();
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let time_width = if memory.pointer_time_projection {
            width
        } else {
            memory_width
        };
        Sam2 {
            image_encoder: ImageEncoder::new(&self.hiera, &self.neck, width, device),
            mask_downsample: Conv2dConfig::new([1, 1], [PATCH_STRIDE; 2])
                .with_stride([PATCH_STRIDE; 2])
                .init(device),
            memory_attention: self.memory_attention.init(width, memory_width, device),
            memory_encoder: self.memory_encoder.init(width, memory_width, device),
            maskmem_tpos_enc: small.init([memory.frames, 1, 1, memory_width], device),
            no_mem_embed: small.init([1, 1, width], device),
            no_mem_pos_enc: small.init([1, 1, width], device),
            no_obj_ptr: small.init([1, width], device),
            no_obj_embed_spatial: memory
                .no_object_embedding
                .then(|| small.init([1, memory_width], device)),
            sam_prompt_encoder: self.prompt_encoder.init(width, device),
            sam_mask_decoder: self.mask_decoder.init(width, device),
            obj_ptr_proj: MlpConfig::new(width, width, width, 3).init(device),
            obj_ptr_tpos_proj: memory
                .pointer_time_projection
                .then(|| LinearConfig::new(time_width, memory_width).init(device)),
            tables: Tables {
                vision_position: grid_sine(width, size, device),
                memory_position: grid_sine(memory_width, size, device),
                rotary: self.memory_attention.rotary_table(width, size, device),
                dense_position: None,
            },
            config: self.clone(),
        }
    }
}

impl<B: Backend> Sam2<B> {
    /// Computes once what depends on weights and resolution but not on the image: the trunk's enlarged position
    /// embedding and the prompt encoder's grid. For inference with final weights: call it again after loading
    /// others. Without it everything works, a little slower.
    pub fn cache_constants(mut self) -> Self {
        let [h, w] = self.config.embedding_size();
        self.image_encoder.trunk.cache_position([4 * h, 4 * w]);
        self.tables.dense_position = Some(self.sam_prompt_encoder.dense_position([h, w]));
        self
    }

    /// Encodes images.
    ///
    /// # Shapes
    /// - `images`: `[B, 3, S, S]` with `S = config.image_size`, normalised pixels
    pub fn forward_image(&self, images: Tensor<B, 4>) -> ImageFeatures<B> {
        self.project_features(self.image_encoder.forward(images))
    }

    /// The second half of [`forward_image`](Self::forward_image): all that belongs to the mask decoder. The neck's
    /// maps may come from a frozen encoder or from a cache.
    pub fn project_features(&self, neck: NeckFeatures<B>) -> ImageFeatures<B> {
        let [_, _, h, w] = neck.stride16.dims();
        assert_eq!(
            [h, w],
            self.config.embedding_size(),
            "image features of another resolution"
        );
        ImageFeatures {
            high_res: self.sam_mask_decoder.high_res_features(&neck),
            neck,
        }
    }

    /// Predicts masks for prompt tokens on images without memories: the prompted frame, in training and in
    /// inference. Gradients reach the tokens, the mask decoder, `no_mask_embed` and, if tracked, the features.
    ///
    /// # Shapes
    /// - `features`: of `B` images, or of one image for all prompts
    /// - `sparse`: `[B, n, D]`, taken as they are
    /// - `multimask`: whether to return the candidates rather than the single mask
    pub fn forward_sam_heads(
        &self,
        features: &ImageFeatures<B>,
        sparse: Tensor<B, 3>,
        multimask: bool,
    ) -> SamHeadsOutput<B> {
        let selection = if multimask {
            MaskSelection::Candidates
        } else {
            MaskSelection::Single
        };
        let prompt = self.sam_prompt_encoder.tokens(sparse);
        self.decode(self.unconditioned(features), features, prompt, selection)
    }

    /// Predicts masks for a prompt on an embedding that may be conditioned on memories.
    ///
    /// # Shapes
    /// - `embedding`: `[B, H·W, D]`, or of one image for all prompts
    /// - `prompt`: of `B` prompts
    pub fn decode(
        &self,
        embedding: Tensor<B, 3>,
        features: &ImageFeatures<B>,
        prompt: PromptEmbeddings<B>,
        selection: MaskSelection,
    ) -> SamHeadsOutput<B> {
        let output = self.sam_mask_decoder.forward(
            MaskDecoderInput {
                image: embedding + prompt.dense,
                image_position: self.dense_position(),
                sparse: prompt.sparse,
                high_res: features.high_res.clone(),
            },
            selection,
        );
        SamHeadsOutput::new(output)
    }

    /// The embedding of a frame without memories.
    ///
    /// # Shapes
    /// - output: `[B, H·W, D]`
    pub fn unconditioned(&self, features: &ImageFeatures<B>) -> Tensor<B, 3> {
        map_to_rows(features.neck.stride16.clone()) + self.no_mem_embed.val()
    }

    /// The embedding of a frame conditioned on memories.
    ///
    /// # Shapes
    /// - output: `[B, H·W, D]`
    pub fn conditioned(&self, features: &ImageFeatures<B>, memories: Memories<B>) -> Tensor<B, 3> {
        self.memory_attention.forward(
            map_to_rows(features.neck.stride16.clone()),
            self.tables.vision_position.clone(),
            memories,
            &self.tables.rotary,
        )
    }

    /// Object pointer of a frame.
    ///
    /// # Shapes
    /// - `mask_token`, output: `[B, D]`
    /// - `present`: `[B, 1]`, 1 where the object is there and 0 where not
    pub fn object_pointer(&self, mask_token: Tensor<B, 2>, present: Tensor<B, 2>) -> Tensor<B, 2> {
        let pointer = self.obj_ptr_proj.forward(mask_token);
        self.pointer_if(present, pointer)
    }

    /// The pointer where `present` is 1, that of an absent object where it is 0.
    fn pointer_if(&self, present: Tensor<B, 2>, pointer: Tensor<B, 2>) -> Tensor<B, 2> {
        pointer * present.clone() + (present.neg() + 1.0) * self.no_obj_ptr.val()
    }

    /// Takes a mask as the truth about a frame: its logits are ±10, and the decoder only makes the object pointer.
    ///
    /// # Shapes
    /// - `mask`: `[B, 1, S, S]` with `S = config.image_size`, 1 inside and 0 outside
    pub fn mask_as_output(&self, features: &ImageFeatures<B>, mask: Tensor<B, 4>) -> MaskAsOutput<B> {
        const SCALE: f64 = 20.0;
        const BIAS: f64 = -10.0;
        let [b, _, h, w] = mask.dims();
        let encoder = &self.sam_prompt_encoder;
        let prompt = PromptEmbeddings {
            sparse: Some(encoder.no_points(b)),
            dense: map_to_rows(encoder.mask(self.mask_downsample.forward(mask.clone()))),
        };
        // As upstream, the embedding of a frame without memories is not marked as such here.
        let embedding = map_to_rows(features.neck.stride16.clone());
        let heads = self.decode(embedding, features, prompt, MaskSelection::Single);
        let pointer = self.object_pointer(heads.mask_token.clone(), heads.present());

        let area = sum_rows(mask.clone().reshape([b, h * w]));
        let present = area.greater_elem(0.0).float();
        let pointer = self.pointer_if(present.clone(), pointer);
        MaskAsOutput {
            low_res_logits: resize_bilinear_antialias(mask * SCALE + BIAS, [h / 4, w / 4]),
            object_score: present * SCALE + BIAS,
            pointer,
        }
    }

    /// Spatial memory of a frame.
    ///
    /// # Shapes
    /// - `embedding`: `[B, D, H, W]`, not conditioned on memories
    /// - `logits`: `[B, 1, h, w]`, low resolution
    /// - `present`: `[B, 1]`, 1 where the object is there and 0 where not
    /// - `binarize`: whether the mask is encoded as 0 and 1, as on prompted frames, or as a probability
    /// - output: `[B, H·W, C]`
    pub fn encode_memory(
        &self,
        embedding: Tensor<B, 4>,
        logits: Tensor<B, 4>,
        present: Tensor<B, 2>,
        binarize: bool,
    ) -> Tensor<B, 3> {
        let logits = resize_bilinear(logits, [self.config.image_size; 2]);
        let mask = if binarize {
            logits.greater_elem(0.0).float()
        } else {
            sigmoid(logits)
        };
        let mask = mask * self.config.memory.mask_scale + self.config.memory.mask_bias;
        let memory = self.memory_encoder.forward(embedding, mask);
        let memory = map_to_rows(memory);
        match &self.no_obj_embed_spatial {
            Some(absent) => {
                let mark = (present.neg() + 1.0) * absent.val(); // [B, C]
                memory + mark.unsqueeze_dim(1)
            }
            None => memory,
        }
    }

    /// The prompt encoder's encoding of the embedding's cells.
    fn dense_position(&self) -> Tensor<B, 3> {
        match &self.tables.dense_position {
            Some(position) => position.clone(),
            None => self
                .sam_prompt_encoder
                .dense_position(self.config.embedding_size()),
        }
    }
}

impl<B: Backend> ImageFeatures<B> {
    /// The features of each image `k` times in a row, for `k` prompts on each.
    pub fn repeat(&self, k: usize) -> Self {
        Self {
            neck: self.neck.repeat(k),
            high_res: HighResFeatures {
                stride4: repeat_images(self.high_res.stride4.clone(), k),
                stride8: repeat_images(self.high_res.stride8.clone(), k),
            },
        }
    }
}

impl<B: Backend> SamHeadsOutput<B> {
    fn new(output: MaskDecoderOutput<B>) -> Self {
        let (multimask_logits, multimask_iou) = (output.masks.clone(), output.iou.clone());
        let best = output.best();
        let [b, _, width] = best.tokens.dims();
        Self {
            multimask_logits,
            multimask_iou,
            low_res_logits: best.masks,
            iou: best.iou,
            object_score: best.object_score,
            mask_token: best.tokens.reshape([b, width]),
        }
    }

    /// 1 where the object score is above 0, otherwise 0, `[B, 1]`.
    pub fn present(&self) -> Tensor<B, 2> {
        self.object_score.clone().greater_elem(0.0).float()
    }

    /// The logits, filled with [`NO_OBJECT_LOGIT`] where the object score is not above 0, `[B, 1, h, w]`.
    pub fn gated_logits(&self) -> Tensor<B, 4> {
        let [b, m, h, w] = self.low_res_logits.dims();
        let absent = self.object_score.clone().lower_equal_elem(0.0);
        let absent = absent.reshape([b, 1, 1, 1]).expand([b, m, h, w]);
        self.low_res_logits.clone().mask_fill(absent, NO_OBJECT_LOGIT)
    }
}

/// Cells of a map as rows.
///
/// # Shapes
/// - `map`: `[B, C, H, W]`
/// - output: `[B, H·W, C]`
pub(super) fn map_to_rows<B: Backend>(map: Tensor<B, 4>) -> Tensor<B, 3> {
    let [b, c, h, w] = map.dims();
    permute(map, [0, 2, 3, 1]).reshape([b, h * w, c])
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
