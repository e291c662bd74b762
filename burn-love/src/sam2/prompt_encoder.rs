//! Prompt encoder: points, boxes and masks become tokens and a dense map.
//!
//! SAM 2, `sam/prompt_encoder.py`. Checkpoint keys: `sam_prompt_encoder.*`. A token from outside (SAM2-LOVE's
//! `[seg]`) takes the place of the sparse tokens as it is: without a position, a label or a padding point.

use burn::{
    module::Module,
    nn::{
        Embedding, EmbeddingConfig,
        conv::{Conv2d, Conv2dConfig},
    },
    prelude::*,
};

use super::{model::map_to_rows, position_encoding::RandomPositionEncoding};
use crate::ops::{LayerNorm2d, LayerNorm2dConfig, gelu};

/// Sizes of a [`PromptEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct PromptEncoderConfig {
    /// Channels of the mask's encoding before the last projection.
    #[config(default = 16)]
    pub mask_channels: usize,
}

/// What a point means: the values of a point's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointLabel {
    /// No point: fills up a batch.
    Padding = -1,
    /// The object is not here.
    Negative = 0,
    /// The object is here.
    Positive = 1,
    /// Top left corner of the object's box.
    BoxTopLeft = 2,
    /// Bottom right corner of the object's box.
    BoxBottomRight = 3,
}

/// Strided convolutions over a mask prompt.
#[derive(Module, Debug)]
pub struct MaskDownscaling<B: Backend> {
    /// 1 → `mask_channels / 4` channels, half the size.
    pub conv1: Conv2d<B>,
    /// Norm after it.
    pub norm1: LayerNorm2d<B>,
    /// `mask_channels / 4` → `mask_channels`, half the size.
    pub conv2: Conv2d<B>,
    /// Norm after it.
    pub norm2: LayerNorm2d<B>,
    /// `mask_channels` → D.
    pub conv3: Conv2d<B>,
}

/// The encoder. See the [module docs](self).
#[derive(Module, Debug)]
pub struct PromptEncoder<B: Backend> {
    /// Encoding of coordinates.
    pub pe_layer: RandomPositionEncoding<B>,
    /// One embedding per label: negative, positive, top left, bottom right.
    pub point_embeddings: Vec<Embedding<B>>,
    /// Embedding of the padding point.
    pub not_a_point_embed: Embedding<B>,
    /// Encoder of mask prompts.
    pub mask_downscaling: MaskDownscaling<B>,
    /// Dense embedding in the absence of a mask.
    pub no_mask_embed: Embedding<B>,
}

/// Points in pixels of the model's input image, with their labels.
#[derive(Clone, Debug)]
pub struct Points<B: Backend> {
    /// `[B, N, 2]` as (x, y).
    pub coordinates: Tensor<B, 3>,
    /// `[B, N]`, values of [`PointLabel`].
    pub labels: Tensor<B, 2, Int>,
}

/// A prompt as the mask decoder reads it.
#[derive(Clone, Debug)]
pub struct PromptEmbeddings<B: Backend> {
    /// Tokens of points, boxes or an outside model, `[B, n, D]`; none beside a lone mask.
    pub sparse: Option<Tensor<B, 3>>,
    /// Added to the image embedding, `[B, H·W, D]` or `[1, 1, D]` (no mask).
    pub dense: Tensor<B, 3>,
}

impl PromptEncoderConfig {
    /// Builds the encoder with fresh weights; `width` is the decoder's width.
    pub fn init<B: Backend>(&self, width: usize, device: &B::Device) -> PromptEncoder<B> {
        let embedding = || EmbeddingConfig::new(1, width).init(device);
        let channels = self.mask_channels;
        let halve = |from, to| {
            Conv2dConfig::new([from, to], [2, 2])
                .with_stride([2, 2])
                .init(device)
        };
        PromptEncoder {
            pe_layer: RandomPositionEncoding::new(width, device),
            point_embeddings: (0..4).map(|_| embedding()).collect(),
            not_a_point_embed: embedding(),
            mask_downscaling: MaskDownscaling {
                conv1: halve(1, channels / 4),
                norm1: LayerNorm2dConfig::new(channels / 4).init(device),
                conv2: halve(channels / 4, channels),
                norm2: LayerNorm2dConfig::new(channels).init(device),
                conv3: Conv2dConfig::new([channels, width], [1, 1]).init(device),
            },
            no_mask_embed: embedding(),
        }
    }
}

impl<B: Backend> PromptEncoder<B> {
    /// Tokens of points (a box counts as two), followed by one padding point.
    ///
    /// # Shapes
    /// - `points`: `N` points
    /// - `image_size`: side of the model's input image, in pixels
    /// - output: `[B, N + 1, D]`
    pub fn points(&self, points: Points<B>, image_size: usize) -> Tensor<B, 3> {
        let [b, n, _] = points.coordinates.dims();
        // Pixel centres, as fractions of the image.
        let position = self
            .pe_layer
            .forward((points.coordinates + 0.5) / image_size as f64);
        let width = position.dims()[2];
        let is = |label: PointLabel| {
            let mask = points.labels.clone().equal_elem(label as i32).float();
            mask.reshape([b, n, 1])
        };
        let padding = is(PointLabel::Padding);
        let placed = position * (padding.clone().neg() + 1.0);
        let mut tokens = placed + padding * self.not_a_point_embed.weight.val().unsqueeze();
        let labels = [
            PointLabel::Negative,
            PointLabel::Positive,
            PointLabel::BoxTopLeft,
            PointLabel::BoxBottomRight,
        ];
        for (label, embedding) in labels.into_iter().zip(&self.point_embeddings) {
            tokens = tokens + is(label) * embedding.weight.val().unsqueeze();
        }
        let end = self.padding(b, 1, width);
        Tensor::cat(vec![tokens, end], 1)
    }

    /// Embeds any combination of points (a box counts as two) and a mask.
    ///
    /// # Shapes
    /// - `points`: `[B, N]` points
    /// - `mask`: `[B, 1, 4H, 4W]`, logits on the decoder's output grid
    pub fn forward(
        &self,
        points: Option<Points<B>>,
        mask: Option<Tensor<B, 4>>,
        image_size: usize,
    ) -> PromptEmbeddings<B> {
        PromptEmbeddings {
            sparse: points.map(|points| self.points(points, image_size)),
            dense: match mask {
                Some(mask) => map_to_rows(self.mask(mask)),
                None => self.no_mask(),
            },
        }
    }

    /// The embeddings of tokens from outside, beside no mask.
    ///
    /// # Shapes
    /// - `tokens`: `[B, n, D]`
    pub fn tokens(&self, tokens: Tensor<B, 3>) -> PromptEmbeddings<B> {
        PromptEmbeddings {
            sparse: Some(tokens),
            dense: self.no_mask(),
        }
    }

    /// Tokens of a frame without a prompt: a missing point and the padding that follows points.
    ///
    /// # Shapes
    /// - output: `[B, 2, D]`
    pub fn no_points(&self, batch: usize) -> Tensor<B, 3> {
        let width = self.not_a_point_embed.weight.dims()[1];
        self.padding(batch, 2, width)
    }

    /// Dense embedding of a mask prompt.
    ///
    /// # Shapes
    /// - `mask`: `[B, 1, 4H, 4W]`, logits on the decoder's output grid
    /// - output: `[B, D, H, W]`
    pub fn mask(&self, mask: Tensor<B, 4>) -> Tensor<B, 4> {
        let layers = &self.mask_downscaling;
        let x = gelu(layers.norm1.forward(layers.conv1.forward(mask)));
        let x = gelu(layers.norm2.forward(layers.conv2.forward(x)));
        layers.conv3.forward(x)
    }

    /// Dense embedding in the absence of a mask; it broadcasts over batch and space.
    ///
    /// # Shapes
    /// - output: `[1, 1, D]`
    pub fn no_mask(&self) -> Tensor<B, 3> {
        self.no_mask_embed.weight.val().unsqueeze()
    }

    /// Position encoding of the image embedding's cells.
    ///
    /// # Shapes
    /// - output: `[1, H·W, D]`
    pub fn dense_position(&self, size: [usize; 2]) -> Tensor<B, 3> {
        self.pe_layer.grid(size)
    }

    fn padding(&self, batch: usize, count: usize, width: usize) -> Tensor<B, 3> {
        self.not_a_point_embed
            .weight
            .val()
            .unsqueeze::<3>()
            .expand([batch, count, width])
    }
}
