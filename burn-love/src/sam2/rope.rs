//! Axial rotary position encoding: half of the channel pairs turn with x, half with y.
//!
//! SAM 2, `position_encoding.py: compute_axial_cis, apply_rotary_enc`. The table depends on sizes only and is
//! computed once per resolution. Written without complex numbers: a pair (a, b) turned by θ is
//! (a·cos θ − b·sin θ, b·cos θ + a·sin θ).

use burn::{module::Module, prelude::*};

use crate::ops::rotate_pairs;

/// Cosines and signed sines of one grid's positions. It holds no weights.
#[derive(Module, Debug)]
pub struct RotaryTable<B: Backend> {
    /// Cosines, `[H·W, D]`, each twice.
    pub cos: Tensor<B, 2>,
    /// Sines, `[H·W, D]`, as (−sin, +sin).
    pub sin: Tensor<B, 2>,
}

impl<B: Backend> RotaryTable<B> {
    /// Computes the table of a grid for heads of `width` channels.
    pub fn new(width: usize, [h, w]: [usize; 2], theta: f64, device: &B::Device) -> Self {
        assert_eq!(
            width % 4,
            0,
            "axial rotary encoding needs heads of a multiple of 4 channels"
        );
        let quarter = width / 4;
        let frequency = |i: usize| 1.0 / (theta as f32).powf((4 * i) as f32 / width as f32);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for y in 0..h {
            for x in 0..w {
                for pair in 0..2 * quarter {
                    let position = if pair < quarter { x } else { y };
                    let angle = position as f32 * frequency(pair % quarter);
                    cos.extend([angle.cos(), angle.cos()]);
                    sin.extend([-angle.sin(), angle.sin()]);
                }
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, [h * w, width]), device);
        Self {
            cos: table(cos),
            sin: table(sin),
        }
    }

    /// Turns the first `count` of the `L` rows, repeating the grid's table; the others pass unchanged.
    ///
    /// # Shapes
    /// - `x`, output: `[B, heads, L, D]`; `count` is a multiple of the grid's `H·W`
    pub fn rotate(&self, x: Tensor<B, 4>, count: usize) -> Tensor<B, 4> {
        rotate_pairs(x, self.cos.clone(), self.sin.clone(), count)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    type B = burn_flex::Flex;

    #[test]
    fn products_of_turned_rows_depend_on_their_distance_only() {
        let device = Default::default();
        let rotary = RotaryTable::<B>::new(8, [1, 4], 100.0, &device);
        let row = |seed: f64| {
            let row = Tensor::<B, 4>::random([1, 1, 1, 8], Distribution::Normal(seed, 1.0), &device);
            rotary.rotate(row.repeat(&[1, 1, 4, 1]), 4)
        };
        let products = row(0.1).matmul(row(0.7).transpose()).reshape([4, 4]);
        let products = products.into_data().to_vec::<f32>().unwrap();
        assert!((products[1] - products[4 + 2]).abs() < 1e-5);
        assert!((products[1] - products[8 + 3]).abs() < 1e-5);
    }

    #[test]
    fn rows_beyond_the_count_pass_unchanged() {
        let device = Default::default();
        let rotary = RotaryTable::<B>::new(4, [1, 2], 100.0, &device);
        let x = Tensor::<B, 4>::random([1, 1, 5, 4], Distribution::Default, &device);
        let turned = rotary.rotate(x.clone(), 4);
        let tail = |x: Tensor<B, 4>| x.slice([0..1, 0..1, 4..5]).into_data();
        tail(turned).assert_eq(&tail(x), true);
    }
}
