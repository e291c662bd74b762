//! Fast roads for the CPU backend `Flex`, forward and (under `Autodiff<Flex>`) backward.
//!
//! A generic tensor is recognised by its type; its storage is read as one slice, rows are spread over rayon's
//! threads, and inner loops are compiled for AVX2 and AVX-512 where the machine has them. Sums over rows are two-stage with a
//! fixed order, so results do not depend on the number of threads.

use std::mem::MaybeUninit;

use burn::{prelude::*, tensor::DType};
use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use super::roads::{cast, primitive, same_type, wrap};

mod attention;
mod conv;
mod conv_gradients;
mod gelu;
mod join;
mod kernel;
mod layer_norm;
mod linear;
mod matrix;
mod permute;
mod pool;
mod product;
mod rotate;

pub(super) use attention::attention;
pub(super) use conv::{conv1x1, conv2d_channels_last};
pub(super) use gelu::gelu;
pub(super) use join::join;
pub(super) use layer_norm::layer_norm;
pub(super) use linear::{linear, linear_gelu};
pub(super) use permute::permute;
pub(super) use pool::max_pool_channels_last;
pub(super) use rotate::rotate_pairs;

/// The CPU backend with autodiff, as training uses it.
type AutodiffFlex = Autodiff<Flex, NoCheckpointing>;

/// Elements one task works on: small enough to share, large enough to be worth a task.
const CHUNK: usize = 16 * 1024;

/// Independent sums in an inner loop, so that it vectorises.
const LANES: usize = 16;

/// The storage behind a tensor, contiguous from its start; `None` unless it is f32.
fn contiguous(tensor: FlexTensor) -> Option<FlexTensor> {
    (tensor.dtype() == DType::F32).then(|| {
        if tensor.is_contiguous() {
            tensor
        } else {
            tensor.to_contiguous()
        }
    })
}

/// A tensor of zeros. Burn's own is made of bytes, which are copied once more.
fn zeros(shape: impl Into<Shape>) -> FlexTensor {
    let shape = shape.into();
    FlexTensor::from_data(TensorData::new(vec![0.0f32; shape.num_elements()], shape))
}

/// A tensor of `shape` whose rows, as long as what `row` gives for their number, are just that.
#[allow(unsafe_code, reason = "see `initialised`")]
fn of_rows<'a>(shape: impl Into<Shape>, width: usize, row: impl Fn(usize) -> &'a [f32] + Sync) -> FlexTensor {
    // SAFETY: as many values are written as the row has elements, as asserted.
    unsafe {
        initialised(shape, width, |i, out| {
            let row = row(i);
            assert_eq!(row.len(), out.len());
            for (out, value) in out.iter_mut().zip(row) {
                out.write(*value);
            }
        })
    }
}

/// A tensor of `shape` whose rows of `width` elements all are what `value` gives for their number.
#[allow(unsafe_code, reason = "see `initialised`")]
fn constant_rows(shape: impl Into<Shape>, width: usize, value: impl Fn(usize) -> f32 + Sync) -> FlexTensor {
    // SAFETY: the whole row is filled.
    unsafe { initialised(shape, width, |i, out| out.fill(MaybeUninit::new(value(i)))) }
}

/// A tensor of `shape` whose rows of `width` elements all threads write.
///
/// # Safety
/// `write` writes each element of the row that it gets.
#[allow(
    unsafe_code,
    reason = "memory that was just allocated is written once, not twice"
)]
unsafe fn initialised(
    shape: impl Into<Shape>,
    width: usize,
    write: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> FlexTensor {
    let shape = shape.into();
    let count = shape.num_elements();
    assert!(width > 0 && count.is_multiple_of(width));
    let mut values = Vec::with_capacity(count);
    let rows = (CHUNK / width).max(1);
    values.spare_capacity_mut()[..count]
        .par_chunks_mut(rows * width)
        .enumerate()
        .for_each(|(i, chunk)| {
            for (j, row) in chunk.chunks_exact_mut(width).enumerate() {
                write(i * rows + j, row);
            }
        });
    // SAFETY: there is room for so many, rows fill them, as asserted, and `write` writes each element of a row.
    unsafe { values.set_len(count) };
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The tensor with strides that a product can follow.
fn positive(tensor: FlexTensor) -> FlexTensor {
    if tensor.layout().has_positive_strides() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous f32, by construction")
}

/// Whether a `multiversion`ed function that says it is compiled for a processor with fused multiply-adds; elsewhere they would
/// be calls.
macro_rules! fused {
    () => {
        multiversion::target::target_cfg_f!(any(
            target_feature = "fma",
            target_feature = "avx512f",
            target_arch = "aarch64"
        ))
    };
}
use fused;

/// `a·b + c`, rounded once if `FUSED`.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial of `x` with these coefficients, the last one that of the highest power.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let terms = coefficients.into_iter().rev();
    terms
        .reduce(|sum, coefficient| multiply_add::<FUSED>(sum, x, coefficient))
        .unwrap_or(0.0)
}

/// exp(x) for x ≤ 0; zero below f32's normal range, and not a number where x is none.
#[inline(always)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it leaves an integer in the mantissa
    const ONE: u32 = 127 << 23;
    let scaled = x * std::f32::consts::LOG2_E;
    let scaled = if scaled < -126.0 { -126.0 } else { scaled };
    let shifted = scaled + ROUND;
    let r = (scaled - (shifted - ROUND)) * std::f32::consts::LN_2;
    let poly = polynomial::<FUSED, 7>(
        r,
        [
            1.0,
            1.0,
            1.0 / 2.0,
            1.0 / 6.0,
            1.0 / 24.0,
            1.0 / 120.0,
            1.0 / 720.0,
        ],
    );
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(ONE)); // 2 to the integer
    if x < -87.0 { 0.0 } else { poly * power }
}
