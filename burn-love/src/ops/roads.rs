//! What all fast roads share: a generic tensor is recognised by its type.

use std::any::Any;

use burn::{prelude::*, tensor::TensorPrimitive};

/// `value` as a `T` if that is what it is, without copying.
pub(super) fn cast<S: 'static, T: 'static>(value: S) -> Result<T, S> {
    let mut slot = Some(value);
    if let Some(found) = (&mut slot as &mut dyn Any).downcast_mut::<Option<T>>() {
        return Ok(found.take().expect("the slot was just filled"));
    }
    Err(slot.expect("a failed downcast leaves the slot filled"))
}

/// The tensor in its generic type again, which it had when it came.
pub(super) fn same_type<T, S>(cast: Result<T, S>) -> T {
    cast.unwrap_or_else(|_| unreachable!("the input had this type"))
}

pub(super) fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

pub(super) fn wrap<B: Backend, const D: usize>(primitive: B::FloatTensorPrimitive) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}
