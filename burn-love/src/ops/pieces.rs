//! Layers on more rows than their widest buffer may hold.

use burn::prelude::*;

/// Largest buffer, in elements: 128 MiB of f32, WebGPU's default binding limit.
pub(crate) const MAX_BUFFER: usize = 32 * 1024 * 1024;

/// `f` of `x`, whose entries along the first dimension have nothing to do with each other: of so many at a time that a
/// buffer of `widest` elements for each is no larger than [`MAX_BUFFER`].
///
/// # Shapes
/// - `x`: `[N, …]`; output: `[N, …]`, as `f` gives it
pub(crate) fn in_pieces<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    widest: usize,
    f: impl Fn(Tensor<B, D>) -> Tensor<B, D>,
) -> Tensor<B, D> {
    let n = x.dims()[0];
    let step = (MAX_BUFFER / widest.max(1)).max(1);
    if n <= step {
        return f(x);
    }
    let pieces = (0..n).step_by(step);
    let pieces = pieces.map(|start| f(x.clone().narrow(0, start, step.min(n - start))));
    Tensor::cat(pieces.collect(), 0)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use std::cell::RefCell;

    #[test]
    fn pieces_are_as_large_as_they_may_be_and_come_in_order() {
        let x = Tensor::<Flex, 1, Int>::arange(0..10, &Default::default()).float();
        let seen = RefCell::new(Vec::new());
        let y = in_pieces(x.clone(), MAX_BUFFER / 4, |x| {
            seen.borrow_mut().push(x.dims()[0]);
            x * 2.0
        });
        assert_eq!(*seen.borrow(), [4, 4, 2]);
        y.into_data().assert_eq(&(x * 2.0).into_data(), true);
    }
}
