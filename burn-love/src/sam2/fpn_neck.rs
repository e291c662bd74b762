//! Feature pyramid over the trunk: every stage projected to the model's width, coarse added to fine.
//!
//! SAM 2, `backbones/image_encoder.py: FpnNeck, ImageEncoder`. Checkpoint keys: `image_encoder.neck.*`. All
//! published configs enlarge by nearest neighbour and fuse by a sum; that is what is built here.

use burn::{
    module::Module,
    nn::conv::{Conv2d, Conv2dConfig},
    prelude::*,
};

use super::hiera::{Hiera, HieraConfig};
use crate::ops::{contiguous, conv1x1};

/// Choices of an [`FpnNeck`].
#[derive(Config, Debug, PartialEq)]
pub struct FpnNeckConfig {
    /// Levels (0 is the finest) that receive the coarser level's features.
    #[config(default = "vec![2, 3]")]
    pub top_down_levels: Vec<usize>,
}

/// Projection of one level. Upstream wraps the convolution in a container.
#[derive(Module, Debug)]
pub struct Lateral<B: Backend> {
    /// 1×1 convolution.
    pub conv: Conv2d<B>,
}

/// The neck. See the [module docs](self).
#[derive(Module, Debug)]
pub struct FpnNeck<B: Backend> {
    /// One projection per level, **coarse first**, as in the checkpoint.
    pub convs: Vec<Lateral<B>>,
    /// Levels that receive the coarser level's features.
    pub top_down_levels: Vec<usize>,
}

/// The neck's maps that SAM 2 uses, before the mask decoder's `conv_s0` and `conv_s1`. The coarsest level
/// (stride 32) only feeds the one above it.
///
/// Everything up to here may be frozen while those two convolutions are trained.
#[derive(Clone, Debug)]
pub struct NeckFeatures<B: Backend> {
    /// `[B, D, H/4, W/4]`.
    pub stride4: Tensor<B, 4>,
    /// `[B, D, H/8, W/8]`.
    pub stride8: Tensor<B, 4>,
    /// `[B, D, H/16, W/16]`.
    pub stride16: Tensor<B, 4>,
}

/// Trunk and neck.
#[derive(Module, Debug)]
pub struct ImageEncoder<B: Backend> {
    /// The vision transformer.
    pub trunk: Hiera<B>,
    /// The feature pyramid.
    pub neck: FpnNeck<B>,
}

impl FpnNeckConfig {
    /// Builds the neck from maps of `channels` (high resolution first) to `width` channels.
    pub fn init<B: Backend>(&self, channels: &[usize], width: usize, device: &B::Device) -> FpnNeck<B> {
        FpnNeck {
            convs: channels
                .iter()
                .rev()
                .map(|&c| Lateral {
                    conv: Conv2dConfig::new([c, width], [1, 1]).init(device),
                })
                .collect(),
            top_down_levels: self.top_down_levels.clone(),
        }
    }
}

impl<B: Backend> FpnNeck<B> {
    /// Fuses the trunk's maps; both lists start with the highest resolution.
    ///
    /// # Shapes
    /// - `maps[i]`: `[B, C_i, H_i, W_i]`, each level half the size of the one before
    /// - output `i`: `[B, D, H_i, W_i]`
    pub fn forward(&self, maps: Vec<Tensor<B, 4>>) -> Vec<Tensor<B, 4>> {
        assert_eq!(maps.len(), self.convs.len(), "one map per level");
        let mut out: Vec<Tensor<B, 4>> = Vec::with_capacity(maps.len());
        for ((level, map), lateral) in maps.into_iter().enumerate().rev().zip(&self.convs) {
            let map = conv1x1(&lateral.conv, map);
            let fused = match out.last() {
                Some(coarser) if self.top_down_levels.contains(&level) => map + upsample(coarser.clone()),
                _ => map,
            };
            out.push(fused);
        }
        out.reverse();
        out
    }
}

impl<B: Backend> ImageEncoder<B> {
    /// Builds trunk and neck with fresh weights; the neck's maps have `width` channels.
    pub fn new(hiera: &HieraConfig, neck: &FpnNeckConfig, width: usize, device: &B::Device) -> Self {
        Self {
            trunk: hiera.init(device),
            neck: neck.init(&hiera.channels(), width, device),
        }
    }

    /// Encodes images.
    ///
    /// # Shapes
    /// - `images`: `[B, 3, H, W]`, normalised pixels
    pub fn forward(&self, images: Tensor<B, 4>) -> NeckFeatures<B> {
        let maps = self.neck.forward(self.trunk.forward(images));
        let [stride4, stride8, stride16, _] = maps.try_into().expect("the trunk has four stages");
        NeckFeatures {
            stride4,
            stride8,
            stride16,
        }
    }
}

impl<B: Backend> NeckFeatures<B> {
    /// Applies `f` to every map.
    pub fn map<B2: Backend>(self, f: impl Fn(Tensor<B, 4>) -> Tensor<B2, 4>) -> NeckFeatures<B2> {
        NeckFeatures {
            stride4: f(self.stride4),
            stride8: f(self.stride8),
            stride16: f(self.stride16),
        }
    }

    /// The features of frame `i` of each of `b` clips of `k` frames in a row.
    pub fn frame(&self, b: usize, k: usize, i: usize) -> Self {
        self.clone().map(|x| {
            let [_, c, h, w] = x.dims();
            x.reshape([b, k, c, h, w]).narrow(1, i, 1).reshape([b, c, h, w])
        })
    }

    /// The features of each image `k` times in a row.
    pub fn repeat(&self, k: usize) -> Self {
        self.clone().map(|x| repeat_images(x, k))
    }

    /// The features of images `range` of the batch.
    pub fn images(&self, range: std::ops::Range<usize>) -> Self {
        self.clone().map(|x| x.slice([range.clone()]))
    }
}

/// Each image `k` times in a row.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`; output: `[B·k, C, H, W]`
pub(super) fn repeat_images<B: Backend>(x: Tensor<B, 4>, k: usize) -> Tensor<B, 4> {
    let [b, c, h, w] = x.dims();
    x.unsqueeze_dim::<5>(1)
        .expand([b, k, c, h, w])
        .reshape([b * k, c, h, w])
}

/// Doubles height and width by repeating every value.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`
/// - output: `[B, C, 2H, 2W]`
fn upsample<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let [b, c, h, w] = x.dims();
    let x = x.reshape([b * c, h, 1, w, 1]).expand([b * c, h, 2, w, 2]);
    contiguous(x).reshape([b, c, 2 * h, 2 * w])
}
