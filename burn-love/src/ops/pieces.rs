//! Layers on a part of their rows at a time: no buffer grows too large for the device, or, on a CPU, for its cache.

use burn::prelude::*;

/// Largest buffer, in elements: 128 MiB of f32, WebGPU's default binding limit.
pub(crate) const MAX_BUFFER: usize = 32 * 1024 * 1024;

/// Largest buffer of the CPU backend's inference, in elements: what was just written is read again from the cache.
#[cfg(feature = "flex")]
const CACHED: usize = 4 * 1024 * 1024;

/// Largest buffer on CUDA, in elements: 1 GiB of f32, since parts of a product leave a large GPU idle.
#[cfg(feature = "cuda")]
const WHOLE: usize = 256 * 1024 * 1024;

/// Elements that a buffer should have at most. In training, parts would cost more than they bring: the gradient of a part is
/// as large as the whole.
#[cfg_attr(
    not(any(feature = "cuda", feature = "flex")),
    allow(clippy::extra_unused_type_parameters, reason = "depends on the features")
)]
pub(super) fn largest<B: Backend>() -> usize {
    #[cfg(feature = "flex")]
    if std::any::TypeId::of::<B>() == std::any::TypeId::of::<burn_flex::Flex>() {
        return CACHED;
    }
    #[cfg(feature = "cuda")]
    if super::cube::is_cuda::<B>() {
        return WHOLE;
    }
    MAX_BUFFER
}

/// `f` of `x`, whose entries along the first dimension have nothing to do with each other: of so many at a time that a
/// buffer of `widest` elements for each does not grow too large.
///
/// # Shapes
/// - `x`: `[N, …]`; output: `[N, …]`, as `f` gives it
pub(crate) fn in_pieces<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    widest: usize,
    f: impl Fn(Tensor<B, D>) -> Tensor<B, D>,
) -> Tensor<B, D> {
    let n = x.dims()[0];
    let step = (largest::<B>() / widest.max(1)).max(1);
    if n <= step {
        return f(x);
    }
    let pieces = (0..n).step_by(step);
    let pieces = pieces.map(|start| f(x.clone().narrow(0, start, step.min(n - start))));
    join(pieces.collect())
}

fn join<B: Backend, const D: usize>(parts: Vec<Tensor<B, D>>) -> Tensor<B, D> {
    #[cfg(feature = "flex")]
    let parts = match super::flex::join(parts) {
        Ok(joined) => return joined,
        Err(parts) => parts,
    };
    Tensor::cat(parts, 0)
}

/// As [`in_pieces`], for grids that fall into bands of `band` rows that have nothing to do with each other; `widest` elements
/// for each cell. `f` may give a band fewer rows than it had; all bands of one grid together make the output's `H'`.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`; output: `[N, H', W', C']`, as `f` gives it
pub(crate) fn in_bands<B: Backend>(
    x: Tensor<B, 4>,
    band: usize,
    widest: usize,
    f: impl Fn(Tensor<B, 4>) -> Tensor<B, 4>,
) -> Tensor<B, 4> {
    let [n, h, w, c] = x.dims();
    if h <= band || widest * w * h <= largest::<B>() {
        return in_pieces(x, widest * w * h, f);
    }
    let step = (largest::<B>() / (widest * w * band).max(1)).max(1) * band;
    let rows: Tensor<B, 3> = x.reshape([n * h, w, c]);
    let mut bands = Vec::new();
    for image in 0..n {
        for start in (0..h).step_by(step) {
            let count = step.min(h - start);
            let band = rows
                .clone()
                .narrow(0, image * h + start, count)
                .reshape([1, count, w, c]);
            bands.push(f(band).squeeze_dim::<3>(0));
        }
    }
    let whole = join(bands); // [N·H', W', C']
    let [rows, w, c] = whole.dims();
    whole.reshape([n, rows / n, w, c])
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
        let y = in_pieces(x.clone(), CACHED / 4, |x| {
            seen.borrow_mut().push(x.dims()[0]);
            x * 2.0
        });
        assert_eq!(*seen.borrow(), [4, 4, 2]);
        y.into_data().assert_eq(&(x * 2.0).into_data(), true);
    }

    #[test]
    fn bands_come_in_order_and_none_is_cut() {
        let x = Tensor::<Flex, 1, Int>::arange(0..2 * 7 * 3 * 2, &Default::default()).float();
        let x = x.reshape([2, 7, 3, 2]);
        for (widest, expected) in [
            (1, vec![[2, 7]]),
            (CACHED / 21, vec![[1, 7]; 2]),
            (CACHED / 12, vec![[1, 4], [1, 3], [1, 4], [1, 3]]),
            (CACHED, [[[1, 2]; 3].to_vec(), vec![[1, 1]]].concat().repeat(2)),
        ] {
            let seen = RefCell::new(Vec::new());
            let y = in_bands(x.clone(), 2, widest, |x| {
                let [n, h, ..] = x.dims();
                seen.borrow_mut().push([n, h]);
                x * 2.0
            });
            assert_eq!(*seen.borrow(), expected, "{widest}");
            y.into_data().assert_eq(&(x.clone() * 2.0).into_data(), true);
        }
    }
}
