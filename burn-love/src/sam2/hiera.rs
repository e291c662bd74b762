//! Hiera, the hierarchical vision transformer that reads the frames.
//!
//! SAM 2, `backbones/hieradet.py: Hiera`. Checkpoint keys: `image_encoder.trunk.*`. Four stages, each with
//! half the resolution and twice the channels of the one before; tokens stay channels-last between blocks.
//! The position embedding is a small grid enlarged bicubically plus one window repeated over the image.

use burn::{
    module::{Initializer, Module, Param},
    nn::{
        PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    prelude::*,
};

use super::hiera_block::{HieraBlock, HieraBlockConfig};
use crate::ops::{add_to_each, conv2d_channels_last, permute, resize_bicubic};

/// Pixels per token side after the patch embedding.
pub const PATCH_STRIDE: usize = 4;

/// Sizes of a [`Hiera`] trunk.
#[derive(Config, Debug, PartialEq)]
pub struct HieraConfig {
    /// Channels of the first stage; each later stage doubles them.
    #[config(default = 96)]
    pub width: usize,
    /// Attention heads of the first stage; each later stage doubles them.
    #[config(default = 1)]
    pub heads: usize,
    /// Blocks per stage.
    #[config(default = "[1, 2, 7, 2]")]
    pub stages: [usize; 4],
    /// Side of the attention windows per stage, in tokens. The first block of a stage still uses the window
    /// of the stage before, and pools it.
    #[config(default = "[8, 4, 14, 7]")]
    pub windows: [usize; 4],
    /// Indices of the blocks that attend globally.
    #[config(default = "vec![5, 7, 9]")]
    pub global_blocks: Vec<usize>,
    /// Size of the background position embedding, in tokens.
    #[config(default = "[7, 7]")]
    pub position_background: [usize; 2],
    /// Hidden width of the MLPs as a multiple of the stage's channels.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
}

/// Convolution that turns 4×4 pixels (with context) into a token.
#[derive(Module, Debug)]
pub struct PatchEmbed<B: Backend> {
    /// 7×7 convolution with stride 4.
    pub proj: Conv2d<B>,
}

/// The trunk. See the [module docs](self).
#[derive(Module, Debug)]
pub struct Hiera<B: Backend> {
    /// Pixels to tokens.
    pub patch_embed: PatchEmbed<B>,
    /// Background position embedding, `[1, C, h, w]`.
    pub pos_embed: Param<Tensor<B, 4>>,
    /// Position embedding of one window, `[1, C, window, window]`.
    pub pos_embed_window: Param<Tensor<B, 4>>,
    /// All blocks of all stages.
    pub blocks: Vec<HieraBlock<B>>,
    /// Index of the last block of each stage.
    pub stage_ends: [usize; 4],
    /// The position embedding at one resolution, `[1, H, W, C]`; see [`Hiera::cache_position`].
    pub position: Option<Tensor<B, 4>>,
}

impl HieraConfig {
    /// Channels of each stage's output, high resolution first.
    pub fn channels(&self) -> [usize; 4] {
        std::array::from_fn(|stage| self.width << stage)
    }

    /// Builds the trunk with fresh weights.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Hiera<B> {
        let mut blocks = Vec::new();
        let mut width = self.width;
        for (stage, &depth) in self.stages.iter().enumerate() {
            for i in 0..depth {
                let first = i == 0 && stage > 0;
                let width_out = self.width << stage;
                let window = if self.global_blocks.contains(&blocks.len()) {
                    0
                } else {
                    self.windows[if first { stage - 1 } else { stage }]
                };
                let block = HieraBlockConfig::new(width, width_out, self.heads << stage)
                    .with_window(window)
                    .with_pool(if first { 2 } else { 1 })
                    .with_mlp_ratio(self.mlp_ratio);
                blocks.push(block.init(device));
                width = width_out;
            }
        }
        let mut end = 0;
        let stage_ends = self.stages.map(|depth| {
            end += depth;
            end - 1
        });

        let position = |[h, w]: [usize; 2]| {
            Initializer::Normal { mean: 0.0, std: 0.02 }.init([1, self.width, h, w], device)
        };
        Hiera {
            patch_embed: PatchEmbed {
                proj: Conv2dConfig::new([3, self.width], [7, 7])
                    .with_stride([PATCH_STRIDE, PATCH_STRIDE])
                    .with_padding(PaddingConfig2d::Explicit(3, 3, 3, 3))
                    .init(device),
            },
            pos_embed: position(self.position_background),
            pos_embed_window: position([self.windows[0]; 2]),
            blocks,
            stage_ends,
            position: None,
        }
    }
}

impl<B: Backend> Hiera<B> {
    /// Encodes images; returns one map per stage, high resolution first.
    ///
    /// # Shapes
    /// - `images`: `[B, 3, H, W]`, normalised pixels
    /// - output `i`: `[B, C·2ⁱ, H / 2ⁱ⁺², W / 2ⁱ⁺²]`
    pub fn forward(&self, images: Tensor<B, 4>) -> Vec<Tensor<B, 4>> {
        let images = images.permute([0, 2, 3, 1]); // BCHW → BHWC
        let x = conv2d_channels_last(&self.patch_embed.proj, images);
        let [_, h, w, _] = x.dims();
        let mut x = add_to_each(x, self.position_embedding([h, w]));
        let mut maps = Vec::with_capacity(self.stage_ends.len());
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            if self.stage_ends.contains(&i) {
                maps.push(x.clone().permute([0, 3, 1, 2])); // BHWC → BCHW
            }
        }
        maps
    }

    /// Keeps the position embedding of a grid of `size` tokens, so that [`forward`](Self::forward) need not
    /// enlarge it for every frame. For inference with final weights: call it again after loading others. A
    /// trunk that is being trained ignores it.
    pub fn cache_position(&mut self, size: [usize; 2]) {
        self.position = None;
        self.position = Some(self.position_embedding(size));
    }

    /// The position embedding of a grid of `size` tokens.
    ///
    /// # Shapes
    /// - output: `[1, H, W, C]`
    fn position_embedding(&self, size: [usize; 2]) -> Tensor<B, 4> {
        let background = self.pos_embed.val();
        if let Some(position) = &self.position {
            let [_, h, w, _] = position.dims();
            if [h, w] == size && !background.is_require_grad() {
                return position.clone();
            }
        }
        let window = self.pos_embed_window.val();
        let [_, c, wh, ww] = window.dims();
        let [h, w] = size;
        assert!(
            h % wh == 0 && w % ww == 0,
            "a grid of {h}×{w} tokens is not a whole number of {wh}×{ww} windows"
        );
        // `repeat` would read the same, but Burn 0.21 sums its gradient over neighbours instead of over copies.
        let tiled = window
            .reshape([c, 1, wh, 1, ww])
            .expand([c, h / wh, wh, w / ww, ww])
            .reshape([1, c, h, w]);
        permute(resize_bicubic(background, size) + tiled, [0, 2, 3, 1]) // BCHW → BHWC
    }
}
