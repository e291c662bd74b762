//! Constants that depend on a resolution only: computed once per device, then shared.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use burn::prelude::*;

type Key = (TypeId, String, &'static str, Vec<usize>);
type Cache = Mutex<HashMap<Key, Box<dyn Any + Send>>>;

/// Tensors kept at most; resolutions in use at a time are few.
const CAPACITY: usize = 256;

/// The constant `name` for `sizes` on `device`, built by `data` the first time it is asked for.
///
/// `name` and `sizes` must determine the values completely. Position encodings, RoPE tables and resize weights
/// depend on a resolution only, so a video pays for them once.
///
/// # Shapes
/// - output: the shape of what `data` returns, which has rank `D`
pub fn constant<B: Backend, const D: usize>(
    name: &'static str,
    sizes: &[usize],
    device: &B::Device,
    data: impl FnOnce() -> TensorData,
) -> Tensor<B, D> {
    static CACHE: OnceLock<Cache> = OnceLock::new();
    let cache = CACHE.get_or_init(Cache::default);
    let key = (
        TypeId::of::<Tensor<B, D>>(),
        format!("{device:?}"),
        name,
        sizes.to_vec(),
    );
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tensor) = cache
        .get(&key)
        .and_then(|entry| entry.downcast_ref::<Tensor<B, D>>())
    {
        return tensor.clone();
    }
    let tensor = Tensor::<B, D>::from_data(data(), device);
    if cache.len() >= CAPACITY {
        cache.clear();
    }
    cache.insert(key, Box::new(tensor.clone()));
    tensor
}

#[cfg(test)]
mod tests {
    use super::*;
    type B = burn_flex::Flex;

    #[test]
    fn a_constant_is_computed_once_per_size() {
        let device = Default::default();
        let mut built = 0;
        for size in [3, 3, 4] {
            let tensor = constant::<B, 1>("test/once", &[size], &device, || {
                built += 1;
                TensorData::new(vec![1.0f32; size], [size])
            });
            assert_eq!(tensor.dims(), [size]);
        }
        assert_eq!(built, 2);
    }
}
