//! Sums with what all entries of a batch share.

use burn::prelude::*;

/// `x + shared`, where all entries of a batch get the same, such as a position encoding: as one row that is added to rows,
/// which backends do fast.
///
/// # Shapes
/// - `x`, output: `[B, ..]`; `shared`: `[1, ..]`
pub fn add_to_each<B: Backend, const D: usize>(x: Tensor<B, D>, shared: Tensor<B, D>) -> Tensor<B, D> {
    let dims = x.dims();
    assert!(
        shared.dims()[0] == 1 && dims[1..] == shared.dims()[1..],
        "entries of {dims:?} cannot share {:?}",
        shared.dims()
    );
    if dims[0] == 1 {
        return x + shared;
    }
    let size = shared.shape().num_elements();
    let rows: Tensor<B, 2> = x.reshape([dims[0], size]) + shared.reshape([1, size]);
    rows.reshape(dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;
    use burn_flex::Flex;

    #[test]
    fn it_is_a_sum() {
        for batch in [1, 3] {
            let x = Tensor::<Flex, 3>::random([batch, 4, 5], Distribution::Default, &Default::default());
            let shared = Tensor::random([1, 4, 5], Distribution::Default, &Default::default());
            let sum = add_to_each(x.clone(), shared.clone()).into_data();
            sum.assert_eq(&(x + shared).into_data(), true);
        }
    }
}
