//! One door per numeric: every operation that backends get wrong, slow or not at all.
//!
//! Signatures are plain `B: Backend`. Inside, a known backend may take a faster road (feature `flex`: the CPU
//! backend, with and without autodiff); each fast road is tested against the plain one.

mod attention;
mod constants;
mod gelu;
mod layer_norm;
mod resize;
mod round;

#[cfg(feature = "flex")]
mod flex;

pub use attention::{attention, causal_attention};
pub use constants::constant;
pub use gelu::{gelu, quick_gelu};
pub use layer_norm::{LayerNorm, LayerNorm2d, LayerNorm2dConfig, LayerNormConfig, layer_norm};
pub use resize::{resize_bicubic, resize_bilinear, resize_bilinear_antialias};
pub use round::round_to_bf16;
