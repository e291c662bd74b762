//! Sums over many numbers, by all threads of a GPU: CubeCL's own, untuned, take one thread for each result.

use burn::prelude::*;

/// The sum of each row.
///
/// # Shapes
/// - `x`: `[N, P]`; output: `[N, 1]`
pub fn sum_rows<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    #[cfg(feature = "cube")]
    if super::cube::is_gpu::<B>() {
        let [n, p] = x.dims();
        return in_stages(x.reshape([n, p, 1])).sum_dim(1).reshape([n, 1]);
    }
    x.sum_dim(1)
}

/// The mean of each row.
///
/// # Shapes
/// - `x`: `[N, P]`; output: `[N, 1]`
pub fn mean_rows<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let [_, p] = x.dims();
    sum_rows(x) / p as f64
}

/// The sum of each column, on a GPU.
///
/// # Shapes
/// - `x`: `[P, N]`; output: `[1, N]`
#[cfg(feature = "cube")]
pub(super) fn sum_columns<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let [p, n] = x.dims();
    in_stages(x.reshape([1, p, n])).sum_dim(1).reshape([1, n])
}

/// Fewest numbers that are worth another launch.
#[cfg(feature = "cube")]
const FEW: usize = 64;

/// Fewest and most numbers that one thread sums.
#[cfg(feature = "cube")]
const PART: [usize; 2] = [4, 128];

/// Sums of numbers that lie far apart, so that neighbouring threads read neighbours, until few are left.
///
/// # Shapes
/// - `x`: `[N, P, W]`; output: `[N, P / …, W]`
#[cfg(feature = "cube")]
fn in_stages<B: Backend>(mut x: Tensor<B, 3>) -> Tensor<B, 3> {
    loop {
        let [n, p, w] = x.dims();
        let part = (PART[0]..=PART[1]).rev().find(|part| p.is_multiple_of(*part));
        let Some(part) = part.filter(|_| p > FEW) else {
            return x;
        };
        x = x
            .reshape([n, part, p / part * w])
            .sum_dim(1)
            .reshape([n, p / part, w]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;
    use burn_flex::Flex;

    fn counting(dims: [usize; 3]) -> Tensor<Flex, 3> {
        let count = dims.iter().product::<usize>() as i64;
        Tensor::arange(0..count, &Default::default())
            .float()
            .reshape(dims)
    }

    #[test]
    fn rows_are_summed() {
        let x = counting([1, 3, 4]).reshape([3, 4]);
        sum_rows(x.clone())
            .into_data()
            .assert_eq(&TensorData::from([[6.0f32], [22.0], [38.0]]), true);
        mean_rows(x)
            .into_data()
            .assert_eq(&TensorData::from([[1.5f32], [5.5], [9.5]]), true);
    }

    #[cfg(feature = "cube")]
    #[test]
    fn stages_sum_all_of_every_length() {
        for dims in [
            [2, 64, 3],
            [2, 65, 3],
            [1, 67, 2],
            [3, 1024, 1],
            [1, 1936, 5],
            [2, 509 * 4, 1],
        ] {
            let x = counting(dims) / 1000.0;
            let stages = in_stages(x.clone()).sum_dim(1).into_data();
            stages.assert_approx_eq::<f32>(&x.sum_dim(1).into_data(), Tolerance::relative(1e-4));
        }
    }
}
