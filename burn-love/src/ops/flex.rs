//! Fast roads for the CPU backend `Flex`, forward and (under `Autodiff<Flex>`) backward.
//!
//! A generic tensor is recognised by its type; its storage is read as one slice, rows are spread over rayon's
//! threads, and inner loops are compiled for AVX2 where the machine has it. Sums over rows are two-stage with a
//! fixed order, so results do not depend on the number of threads.

use std::any::Any;

use burn::{
    prelude::*,
    tensor::{DType, TensorPrimitive},
};
use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

mod gelu;
mod layer_norm;

pub(super) use gelu::gelu;
pub(super) use layer_norm::layer_norm;

/// The CPU backend with autodiff, as training uses it.
type AutodiffFlex = Autodiff<Flex, NoCheckpointing>;

/// Elements one task works on: small enough to share, large enough to be worth a task.
const CHUNK: usize = 16 * 1024;

/// `value` as a `T` if that is what it is, without copying.
fn cast<S: 'static, T: 'static>(value: S) -> Result<T, S> {
    let mut slot = Some(value);
    if let Some(found) = (&mut slot as &mut dyn Any).downcast_mut::<Option<T>>() {
        return Ok(found.take().expect("the slot was just filled"));
    }
    Err(slot.expect("a failed downcast leaves the slot filled"))
}

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

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn wrap<B: Backend, const D: usize>(primitive: B::FloatTensorPrimitive) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("contiguous f32, by construction")
}
