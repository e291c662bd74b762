//! The parity cases on WGPU: the same functions as on the CPU, with a bound of their own.
//!
//! Whatever shape a kernel has, a software adapter compiles it for seconds; so each module has one case here. Trunk and
//! neck see one image only: with two, their first products have 512 rows of 8 channels or more, and CubeCL 0.10 gets
//! `[M, 8] · [8, N]` wrong from M = 512 on where the right side is a transposed view and N is at most 32 (seen on a
//! software Vulkan device at the minimal tuning level; K = 4, 12 or 16 is right, and so is N = 64, and so is a right side
//! that is not a view). Both a loaded `Linear` and a 1×1 convolution make such products; no width of a published model is
//! 8.

use burn_love_tests::wgpu::{Gpu, alone, device};

use crate::{hiera, mask_decoder, memory_attention, memory_encoder, neck, prompt_encoder};

/// Largest error of a single module: drivers may fuse and reorder f32 sums, and approximate exp and sin.
const MODULE: f64 = 1e-4;

#[test]
fn hiera_agrees() {
    let _alone = alone();
    let Some(gpu) = device() else { return };
    hiera::check::<Gpu>("hiera", hiera::config(), 1, &gpu, MODULE);
}

#[test]
fn neck_agrees() {
    let _alone = alone();
    let Some(gpu) = device() else { return };
    neck::check::<Gpu>(1, &gpu, MODULE);
}

#[test]
fn prompt_encoder_agrees() {
    let _alone = alone();
    let Some(gpu) = device() else { return };
    prompt_encoder::check::<Gpu>(&gpu, MODULE);
}

#[test]
fn mask_decoder_agrees() {
    let _alone = alone();
    let Some(gpu) = device() else { return };
    mask_decoder::check::<Gpu>(&gpu, MODULE);
}

#[test]
fn memory_attention_agrees() {
    let _alone = alone();
    let Some(gpu) = device() else { return };
    memory_attention::check::<Gpu>(&[(1, 0), (7, 6)], &gpu, MODULE);
}

#[test]
fn memory_encoder_agrees() {
    let _alone = alone();
    let Some(gpu) = device() else { return };
    memory_encoder::check::<Gpu>(&gpu, MODULE);
}
