//! One door per numeric: every operation that backends get wrong, slow or not at all.
//!
//! Signatures are plain `B: Backend`. Inside, a known backend may take a faster road (feature `flex`: the CPU
//! backend; features `cuda` and `wgpu`: the GPU backends; all with and without autodiff); each fast road of the
//! CPU is tested against the plain one, those of the GPUs against the CPU (tests/parity/roads.rs).

mod add;
mod attention;
mod constants;
mod conv;
mod gelu;
mod layer_norm;
mod linear;
mod matmul;
mod permute;
mod pieces;
mod precision;
mod resize;
mod rotate;
mod round;
mod sums;

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "cube", feature = "flex"))]
mod roads;

pub use add::add_to_each;
pub use attention::{attention, causal_attention};
pub use constants::constant;
pub use conv::{conv1x1, conv2d_channels_last, max_pool_channels_last};
pub use gelu::{gelu, quick_gelu};
pub use layer_norm::{LayerNorm, LayerNorm2d, LayerNorm2dConfig, LayerNormConfig, layer_norm};
pub(crate) use linear::linear_in_parts;
pub use linear::{linear, linear_gelu};
pub use matmul::matmul;
pub use permute::{contiguous, permute};
pub(crate) use pieces::{MAX_BUFFER, in_bands, in_pieces};
pub use precision::{ProductPrecision, product_precision, set_product_precision};
pub use resize::{resize_bicubic, resize_bilinear, resize_bilinear_antialias};
pub use rotate::rotate_pairs;
pub use round::round_to_bf16;
pub use sums::{mean_rows, sum_rows};
