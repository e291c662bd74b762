//! Mask decoder: image embedding and prompt tokens become mask logits, their predicted IoU and an object score.
//!
//! SAM 2, `sam/mask_decoder.py`. Checkpoint keys: `sam_mask_decoder.*`. Inside, the image is channels-last: the
//! transposed convolutions have stride = kernel, so each is one matrix product whose columns are the pixels of
//! a 2×2 block.

use burn::{
    module::Module,
    nn::{
        Embedding, EmbeddingConfig,
        conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig},
    },
    prelude::*,
};

use super::{
    fpn_neck::NeckFeatures,
    mlp::{Mlp, MlpConfig},
    two_way_transformer::{TokensAndImage, TwoWayTransformer, TwoWayTransformerConfig},
};
use crate::ops::{LayerNorm, LayerNormConfig, conv1x1, gelu, matmul, permute};

/// Sizes and choices of a [`MaskDecoder`].
#[derive(Config, Debug, PartialEq)]
pub struct MaskDecoderConfig {
    /// Blocks of the two-way transformer.
    #[config(default = 2)]
    pub depth: usize,
    /// Attention heads.
    #[config(default = 8)]
    pub heads: usize,
    /// Hidden width of the transformer's MLPs.
    #[config(default = 2048)]
    pub mlp_width: usize,
    /// Candidate masks beside the single one.
    #[config(default = 3)]
    pub multimask_outputs: usize,
    /// Linear layers of the IoU head.
    #[config(default = 3)]
    pub iou_head_depth: usize,
    /// Hidden width of the IoU head.
    #[config(default = 256)]
    pub iou_head_width: usize,
    /// Whether predicted IoUs go through a sigmoid.
    #[config(default = true)]
    pub iou_sigmoid: bool,
    /// Whether the object pointer of a multimask frame comes from the chosen candidate's token.
    #[config(default = true)]
    pub multimask_token_for_pointer: bool,
    /// Stability compares the mask's area at logits above +delta and above −delta.
    #[config(default = 0.05)]
    pub stability_delta: f64,
    /// Below this stability the best candidate replaces the single mask.
    #[config(default = 0.98)]
    pub stability_threshold: f64,
}

/// Two doublings of the image embedding.
#[derive(Module, Debug)]
pub struct OutputUpscaling<B: Backend> {
    /// D → D/4 channels, 2×2.
    pub conv1: ConvTranspose2d<B>,
    /// Norm over the channels after it.
    pub norm: LayerNorm<B>,
    /// D/4 → D/8 channels, 2×2.
    pub conv2: ConvTranspose2d<B>,
}

/// The decoder. See the [module docs](self).
#[derive(Module, Debug)]
pub struct MaskDecoder<B: Backend> {
    /// Transformer between tokens and image.
    pub transformer: TwoWayTransformer<B>,
    /// Token that predicts the masks' IoU.
    pub iou_token: Embedding<B>,
    /// One token per mask: the single one, then the candidates.
    pub mask_tokens: Embedding<B>,
    /// Token that predicts whether the object is there.
    pub obj_score_token: Embedding<B>,
    /// Two doublings of the image embedding.
    pub output_upscaling: OutputUpscaling<B>,
    /// Projection of the neck's stride-4 map.
    pub conv_s0: Conv2d<B>,
    /// Projection of the neck's stride-8 map.
    pub conv_s1: Conv2d<B>,
    /// One MLP per mask token: its output weighs the channels of the enlarged image.
    pub output_hypernetworks_mlps: Vec<Mlp<B>>,
    /// IoU of each mask.
    pub iou_prediction_head: Mlp<B>,
    /// Object score.
    pub pred_obj_score_head: Mlp<B>,
    /// Whether candidates' tokens make object pointers.
    pub multimask_token_for_pointer: bool,
    /// Logit margin of the stability score.
    pub stability_delta: f64,
    /// Least stability of the single mask.
    pub stability_threshold: f64,
}

/// Which of the decoder's masks to return.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum MaskSelection {
    /// The single mask.
    Single,
    /// The single mask where it is stable, otherwise the candidate with the best predicted IoU.
    StableSingle,
    /// All candidates.
    Candidates,
}

/// The neck's fine maps, projected for the decoder.
#[derive(Clone, Debug)]
pub struct HighResFeatures<B: Backend> {
    /// `[B, D/8, H/4, W/4]`.
    pub stride4: Tensor<B, 4>,
    /// `[B, D/4, H/8, W/8]`.
    pub stride8: Tensor<B, 4>,
}

/// What the decoder reads. `h`, `w` is the size of the image embedding, `L = h·w`.
#[derive(Clone, Debug)]
pub struct MaskDecoderInput<B: Backend> {
    /// Image embedding with the dense prompt added, `[B, L, D]`.
    pub image: Tensor<B, 3>,
    /// Position encoding of the image embedding, `[1, L, D]`.
    pub image_position: Tensor<B, 3>,
    /// Prompt tokens, `[B, n, D]`, if any.
    pub sparse: Option<Tensor<B, 3>>,
    /// Fine maps of the image.
    pub high_res: HighResFeatures<B>,
}

/// Masks and what the decoder says about them.
#[derive(Clone, Debug)]
pub struct MaskDecoderOutput<B: Backend> {
    /// Logits, `[B, M, 4h, 4w]`.
    pub masks: Tensor<B, 4>,
    /// Predicted IoU of each mask, `[B, M]`.
    pub iou: Tensor<B, 2>,
    /// Output tokens for object pointers: one per mask, or one in all, `[B, M or 1, D]`.
    pub tokens: Tensor<B, 3>,
    /// Logit of the object being there, `[B, 1]`.
    pub object_score: Tensor<B, 2>,
}

impl MaskDecoderConfig {
    /// Builds the decoder with fresh weights; `width` is the width of image and tokens.
    pub fn init<B: Backend>(&self, width: usize, device: &B::Device) -> MaskDecoder<B> {
        let masks = self.multimask_outputs + 1;
        let double = |from, to| {
            ConvTranspose2dConfig::new([from, to], [2, 2])
                .with_stride([2, 2])
                .init(device)
        };
        let project = |to| Conv2dConfig::new([width, to], [1, 1]).init(device);
        MaskDecoder {
            transformer: TwoWayTransformerConfig::new(width)
                .with_depth(self.depth)
                .with_heads(self.heads)
                .with_mlp_width(self.mlp_width)
                .init(device),
            iou_token: EmbeddingConfig::new(1, width).init(device),
            mask_tokens: EmbeddingConfig::new(masks, width).init(device),
            obj_score_token: EmbeddingConfig::new(1, width).init(device),
            output_upscaling: OutputUpscaling {
                conv1: double(width, width / 4),
                norm: LayerNormConfig::new(width / 4).with_epsilon(1e-6).init(device),
                conv2: double(width / 4, width / 8),
            },
            conv_s0: project(width / 8),
            conv_s1: project(width / 4),
            output_hypernetworks_mlps: (0..masks)
                .map(|_| MlpConfig::new(width, width, width / 8, 3).init(device))
                .collect(),
            iou_prediction_head: MlpConfig::new(width, self.iou_head_width, masks, self.iou_head_depth)
                .with_sigmoid_output(self.iou_sigmoid)
                .init(device),
            pred_obj_score_head: MlpConfig::new(width, width, 1, 3).init(device),
            multimask_token_for_pointer: self.multimask_token_for_pointer,
            stability_delta: self.stability_delta,
            stability_threshold: self.stability_threshold,
        }
    }
}

impl<B: Backend> MaskDecoder<B> {
    /// Projects the neck's fine maps: once per image, however many prompts follow.
    pub fn high_res_features(&self, neck: &NeckFeatures<B>) -> HighResFeatures<B> {
        HighResFeatures {
            stride4: conv1x1(&self.conv_s0, neck.stride4.clone()),
            stride8: conv1x1(&self.conv_s1, neck.stride8.clone()),
        }
    }

    /// Decodes masks.
    ///
    /// # Shapes
    /// - `input`: see [`MaskDecoderInput`]
    /// - output: `M` is 1 unless `selection` asks for the candidates
    pub fn forward(&self, input: MaskDecoderInput<B>, selection: MaskSelection) -> MaskDecoderOutput<B> {
        let all = self.predict_masks(input);
        let [b, masks, h, w] = all.masks.dims();
        let part = |range: std::ops::Range<usize>| MaskDecoderOutput {
            masks: all.masks.clone().slice([0..b, range.clone(), 0..h, 0..w]),
            iou: all.iou.clone().slice([0..b, range.clone()]),
            tokens: all.tokens.clone().slice([0..b, range]),
            object_score: all.object_score.clone(),
        };
        let single = part(0..1);
        match selection {
            MaskSelection::Single => single,
            MaskSelection::StableSingle => {
                let best = part(1..masks).best();
                let stable = self.is_stable(single.masks.clone()); // [B, 1]
                let stable4 = stable.clone().reshape([b, 1, 1, 1]).expand([b, 1, h, w]);
                MaskDecoderOutput {
                    masks: best.masks.mask_where(stable4, single.masks),
                    iou: best.iou.mask_where(stable, single.iou),
                    ..single
                }
            }
            MaskSelection::Candidates => {
                let candidates = part(1..masks);
                let tokens = if self.multimask_token_for_pointer {
                    candidates.tokens
                } else {
                    single.tokens
                };
                MaskDecoderOutput { tokens, ..candidates }
            }
        }
    }

    /// All masks: the single one, then the candidates.
    fn predict_masks(&self, input: MaskDecoderInput<B>) -> MaskDecoderOutput<B> {
        let MaskDecoderInput {
            image,
            image_position,
            sparse,
            high_res,
        } = input;
        let [images, length, width] = image.dims();
        // One image may serve many prompts.
        let b = sparse
            .as_ref()
            .map_or(images, |sparse| sparse.dims()[0].max(images));
        let [_, _, h8, w8] = high_res.stride8.dims();
        let (h, w) = (h8 / 2, w8 / 2);
        assert_eq!(
            length,
            h * w,
            "the image embedding does not match the high-resolution maps"
        );
        let masks = self.output_hypernetworks_mlps.len();

        let own = Tensor::cat(
            vec![
                self.obj_score_token.weight.val(),
                self.iou_token.weight.val(),
                self.mask_tokens.weight.val(),
            ],
            0,
        );
        let own = own.unsqueeze::<3>().expand([b, masks + 2, width]);
        let out = self.transformer.forward(
            TokensAndImage {
                tokens: match sparse {
                    Some(sparse) => Tensor::cat(vec![own, sparse], 1),
                    None => own,
                },
                image: image.expand([b, length, width]),
            },
            image_position,
        );
        let token = |range: std::ops::Range<usize>| out.tokens.clone().slice([0..b, range]);
        let mask_tokens = token(2..2 + masks);

        let up = &self.output_upscaling;
        let image = out.image.reshape([b, h, w, width]);
        let image = double(&up.conv1, image) + permute(high_res.stride8, [0, 2, 3, 1]); // BCHW → BHWC
        let image = gelu(up.norm.forward(image));
        let image = double(&up.conv2, image) + permute(high_res.stride4, [0, 2, 3, 1]); // BCHW → BHWC
        let image = gelu(image); // [B, 4h, 4w, D/8]

        let weights = self
            .output_hypernetworks_mlps
            .iter()
            .enumerate()
            .map(|(i, mlp)| mlp.forward(mask_tokens.clone().slice([0..b, i..i + 1])))
            .collect();
        let weights = Tensor::cat(weights, 1); // [B, masks, D/8]
        let pixels = image.reshape([b, 16 * length, width / 8]).swap_dims(1, 2);
        MaskDecoderOutput {
            masks: matmul(weights, pixels).reshape([b, masks, 4 * h, 4 * w]),
            iou: self.iou_prediction_head.forward(token(1..2)).reshape([b, masks]),
            tokens: mask_tokens,
            object_score: self.pred_obj_score_head.forward(token(0..1)).reshape([b, 1]),
        }
    }

    /// Whether a mask hardly changes when its logits are shifted by the margin.
    ///
    /// # Shapes
    /// - `masks`: `[B, 1, H, W]`
    /// - output: `[B, 1]`
    fn is_stable(&self, masks: Tensor<B, 4>) -> Tensor<B, 2, Bool> {
        let [b, _, h, w] = masks.dims();
        let logits: Tensor<B, 2> = masks.reshape([b, h * w]);
        let area = |threshold: f64| logits.clone().greater_elem(threshold).float().sum_dim(1);
        let (inner, outer) = (area(self.stability_delta), area(-self.stability_delta));
        // inner / outer ≥ threshold, and an empty mask is stable.
        inner.greater_equal(outer * self.stability_threshold)
    }
}

impl<B: Backend> MaskDecoderOutput<B> {
    /// Keeps the mask with the best predicted IoU, and its token.
    ///
    /// # Shapes
    /// - output: `M = 1`
    pub fn best(self) -> Self {
        let [b, m, h, w] = self.masks.dims();
        if m == 1 {
            return self;
        }
        let device = self.iou.device();
        let best = self.iou.clone().argmax(1).expand([b, m]);
        let chosen = Tensor::<B, 1, Int>::arange(0..m as i64, &device)
            .unsqueeze::<2>()
            .expand([b, m])
            .equal(best)
            .float(); // one 1 per row: products and sums select without reading back
        let masks = (self.masks * chosen.clone().reshape([b, m, 1, 1])).sum_dim(1);
        let tokens = if self.tokens.dims()[1] == m {
            (self.tokens * chosen.clone().reshape([b, m, 1])).sum_dim(1)
        } else {
            self.tokens
        };
        Self {
            masks: masks.reshape([b, 1, h, w]),
            iou: (self.iou * chosen).sum_dim(1),
            tokens,
            object_score: self.object_score,
        }
    }
}

/// Transposed convolution with a 2×2 kernel and stride 2, channels last.
///
/// # Shapes
/// - `x`: `[B, H, W, C]`
/// - output: `[B, 2H, 2W, C_out]`
fn double<B: Backend>(conv: &ConvTranspose2d<B>, x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [b, h, w, c] = x.dims();
    let weight = conv.weight.val(); // [C, C_out, 2, 2]
    let out = weight.dims()[1];
    let blocks = matmul(x.reshape([b * h * w, c]), weight.reshape([c, out * 4]));
    let blocks = blocks.reshape([b, h, w, out, 2, 2]);
    let grid = permute(blocks, [0, 1, 4, 2, 5, 3]) // [B, H, 2, W, 2, C_out]
        .reshape([b, 2 * h, 2 * w, out]);
    match &conv.bias {
        Some(bias) => grid + bias.val().unsqueeze(),
        None => grid,
    }
}
