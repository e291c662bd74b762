//! Position encodings: sine over a grid, sine over time, and random Fourier features of coordinates.
//!
//! SAM 2, `position_encoding.py: PositionEmbeddingSine, PositionEmbeddingRandom` and
//! `sam2_utils.py: get_1d_sine_pe`. Checkpoint key: `sam_prompt_encoder.pe_layer.*`. The sine tables depend on
//! sizes only: they are computed on the host, once per resolution.

use std::f64::consts::TAU;

use burn::{
    module::{Initializer, Module, Param},
    prelude::*,
};

use crate::ops::constant;

/// Base of the geometric series of wavelengths.
const TEMPERATURE: f32 = 10000.0;

/// Sine position encoding of a grid, one row of `width` channels per cell, row by row: half of the channels
/// tell y, half x, each as interleaved sines and cosines of positions scaled to (0, 2π].
///
/// # Shapes
/// - output: `[1, H·W, width]`
pub fn grid_sine<B: Backend>(width: usize, [h, w]: [usize; 2], device: &B::Device) -> Tensor<B, 3> {
    assert_eq!(width % 4, 0, "the width of a grid encoding is a multiple of 4");
    let half = width / 2;
    let axis = |side: usize| -> Vec<f32> {
        let mut rows = Vec::with_capacity(side * half);
        for i in 1..=side {
            let position = i as f32 / (side as f32 + 1e-6) * TAU as f32;
            for k in 0..half {
                let angle = position / wavelength(k, half);
                rows.push(if k % 2 == 0 { angle.sin() } else { angle.cos() });
            }
        }
        rows
    };
    let (rows, columns) = (axis(h), axis(w));
    let mut values = Vec::with_capacity(h * w * width);
    for y in rows.chunks(half) {
        for x in columns.chunks(half) {
            values.extend_from_slice(y);
            values.extend_from_slice(x);
        }
    }
    Tensor::from_data(TensorData::new(values, [1, h * w, width]), device)
}

/// Sine encoding of positions on a line: first all sines, then all cosines.
///
/// # Shapes
/// - output: `[positions, width]`
pub fn line_sine<B: Backend>(positions: &[f32], width: usize, device: &B::Device) -> Tensor<B, 2> {
    assert_eq!(width % 2, 0, "the width of a line encoding is even");
    let half = width / 2;
    let mut values = Vec::with_capacity(positions.len() * width);
    for position in positions {
        let angles = (0..half).map(|k| position / wavelength(k, half));
        values.extend(angles.clone().map(f32::sin));
        values.extend(angles.map(f32::cos));
    }
    Tensor::from_data(TensorData::new(values, [positions.len(), width]), device)
}

/// Wavelength of channel `k` of `count`; sine and cosine share one.
fn wavelength(k: usize, count: usize) -> f32 {
    TEMPERATURE.powf((2 * (k / 2)) as f32 / count as f32)
}

/// Random Fourier features of points: a fixed random matrix turns coordinates into angles.
#[derive(Module, Debug)]
pub struct RandomPositionEncoding<B: Backend> {
    /// The matrix, `[2, D/2]`: part of the checkpoint, never trained.
    pub positional_encoding_gaussian_matrix: Param<Tensor<B, 2>>,
}

impl<B: Backend> RandomPositionEncoding<B> {
    /// Draws a fresh matrix for encodings of `width` channels.
    pub fn new(width: usize, device: &B::Device) -> Self {
        let matrix = Initializer::Normal { mean: 0.0, std: 1.0 }.init([2, width / 2], device);
        Self {
            positional_encoding_gaussian_matrix: matrix.set_require_grad(false),
        }
    }

    /// Encodes points whose coordinates are fractions of the image's size.
    ///
    /// # Shapes
    /// - `points`: `[B, N, 2]`, (x, y) in 0..1
    /// - output: `[B, N, D]`
    pub fn forward(&self, points: Tensor<B, 3>) -> Tensor<B, 3> {
        let [b, n, _] = points.dims();
        let matrix = self.positional_encoding_gaussian_matrix.val();
        let half = matrix.dims()[1];
        let centred = points * 2.0 - 1.0;
        // Not a product of matrices, which some GPUs compute with fewer digits than an angle of many turns needs.
        let [x, y] = [0, 1].map(|axis| {
            let part = centred.clone().reshape([b * n, 2]).narrow(1, axis, 1);
            part * matrix.clone().narrow(0, axis, 1)
        });
        let angles = (x + y) * TAU;
        let angles = angles.reshape([b, n, half]);
        Tensor::cat(vec![angles.clone().sin(), angles.cos()], 2)
    }

    /// Encodes the centres of a grid's cells, row by row.
    ///
    /// # Shapes
    /// - output: `[1, H·W, D]`
    pub fn grid(&self, [h, w]: [usize; 2]) -> Tensor<B, 3> {
        let device = self.positional_encoding_gaussian_matrix.device();
        let centres = constant("sam2_cell_centres", &[h, w], &device, || {
            let centre = |i: usize, side: usize| (i as f32 + 0.5) / side as f32;
            let cells = (0..h * w).flat_map(|i| [centre(i % w, w), centre(i / w, h)]);
            TensorData::new(cells.collect::<Vec<f32>>(), [1, h * w, 2])
        });
        self.forward(centres)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    type B = burn_flex::Flex;

    #[test]
    fn rows_and_columns_of_a_square_grid_are_encoded_alike() {
        let table = grid_sine::<B>(8, [3, 3], &Default::default()).reshape([3, 3, 8]);
        let y = table.clone().slice([0..3, 0..3, 0..4]);
        let x = table.slice([0..3, 0..3, 4..8]).swap_dims(0, 1);
        x.into_data().assert_eq(&y.into_data(), true);
    }

    #[test]
    fn a_line_starts_at_sine_zero_and_cosine_one() {
        let table = line_sine::<B>(&[0.0], 6, &Default::default());
        table
            .into_data()
            .assert_eq(&TensorData::from([[0f32, 0., 0., 1., 1., 1.]]), true);
    }
}
