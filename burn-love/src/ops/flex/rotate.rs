//! Rotation of pairs in one pass, for inference.

use burn::tensor::TensorMetadata;
use multiversion::multiversion;

use super::*;

type Inputs<B> = (Tensor<B, 4>, Tensor<B, 2>, Tensor<B, 2>);

/// Turns pairs on the fast road, or hands the inputs back.
pub(in super::super) fn rotate_pairs<B: Backend>(
    x: Tensor<B, 4>,
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
    count: usize,
) -> Result<Tensor<B, 4>, Inputs<B>> {
    let single = x.dtype() == DType::F32 && cos.dtype() == DType::F32 && sin.dtype() == DType::F32;
    if !single || x.shape().num_elements() == 0 {
        return Err((x, cos, sin));
    }
    let (x, cos, sin) = cast::<Inputs<B>, Inputs<Flex>>((x, cos, sin))?;
    let [x, cos, sin] = [primitive(x), primitive(cos), primitive(sin)]
        .map(|tensor| contiguous(tensor).expect("the dtype was checked"));
    let [_, _, length, width] = x.shape().dims::<4>();
    let grid = cos.shape()[0];
    let mut y = zeros(x.shape());
    let rows = (CHUNK / width).max(1);
    y.storage_mut::<f32>()
        .par_chunks_mut(rows * width)
        .zip(slice(&x).par_chunks(rows * width))
        .enumerate()
        .for_each(|(chunk, (out, x))| {
            for (i, (out, x)) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).enumerate() {
                let row = (chunk * rows + i) % length;
                if row < count {
                    let angle = row % grid * width..(row % grid + 1) * width;
                    turn(x, &slice(&cos)[angle.clone()], &slice(&sin)[angle], out);
                } else {
                    out.copy_from_slice(x);
                }
            }
        });
    Ok(same_type(cast(wrap::<Flex, 4>(y))))
}

#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn turn(x: &[f32], cos: &[f32], sin: &[f32], out: &mut [f32]) {
    let tables = cos.chunks_exact(2).zip(sin.chunks_exact(2));
    for ((out, x), (cos, sin)) in out.chunks_exact_mut(2).zip(x.chunks_exact(2)).zip(tables) {
        out[0] = x[0] * cos[0] + x[1] * sin[0];
        out[1] = x[1] * cos[1] + x[0] * sin[1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rotate::plain;
    use burn::tensor::{Distribution, Tolerance};

    #[test]
    fn it_equals_the_plain_road() {
        let random =
            |dims| Tensor::<Flex, 4>::random(dims, Distribution::Normal(0.0, 1.0), &Default::default());
        let (cos, sin) = (
            random([1, 1, 6, 8]).reshape([6, 8]),
            random([1, 1, 6, 8]).reshape([6, 8]),
        );
        for (length, count) in [(6, 6), (12, 12), (17, 12), (700, 600)] {
            let x = random([2, length, 3, 8]).swap_dims(1, 2);
            let fast = rotate_pairs(x.clone(), cos.clone(), sin.clone(), count).expect("f32 on the CPU");
            let plain = plain(x, cos.clone(), sin.clone(), count);
            fast.into_data()
                .assert_approx_eq::<f32>(&plain.into_data(), Tolerance::absolute(1e-6));
        }
    }
}
