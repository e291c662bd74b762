//! Layer norm's kernels: 32 threads hold a row, eight rows share a cube.

use cubecl::prelude::*;

use super::{
    WIDE,
    lanes::{LANES, ROWS, sum_of_lanes},
};

/// Rows of one partial sum of the parameters' gradients.
pub(super) const SUMMED: usize = 64;

/// The sum over a vector.
#[cube]
fn sum_of_elements<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..WIDE {
        sum += vector[i];
    }
    sum
}

/// Normalises rows of `vectors`; `moments` gets mean and reciprocal standard deviation where they are kept.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "a kernel's bindings")]
pub(super) fn normalise<N: Size>(
    x: &Array<Vector<f32, N>>,
    weight: &Array<Vector<f32, N>>,
    bias: &Array<Vector<f32, N>>,
    y: &mut Array<Vector<f32, N>>,
    moments: &mut Array<f32>,
    rows: u32,
    epsilon: f32,
    #[comptime] vectors: usize,
    #[comptime] kept: bool,
) {
    let lane = UNIT_POS_X as usize;
    let slot = UNIT_POS_Y as usize;
    let row = CUBE_POS * ROWS + slot;
    let there = row < rows as usize;
    let chunks = comptime!(vectors.div_ceil(LANES));
    let mut shared = SharedMemory::<f32>::new(comptime!(LANES * ROWS));

    let mut values = Array::<Vector<f32, N>>::new(chunks);
    let mut sum = 0.0f32;
    #[unroll]
    for c in 0..chunks {
        let d = lane + c * LANES;
        let mut value = Vector::new(0.0f32);
        if there && d < vectors {
            value = x[row * vectors + d];
        }
        values[c] = value;
        sum += sum_of_elements::<N>(value);
    }
    let width = comptime!((vectors * WIDE) as f32);
    let mean = sum_of_lanes(sum, &mut shared, lane, slot) / width;
    let mut squares = 0.0f32;
    #[unroll]
    for c in 0..chunks {
        let d = lane + c * LANES;
        if d < vectors {
            let away = values[c] - Vector::new(mean);
            squares += sum_of_elements::<N>(away * away);
        }
    }
    let variance = sum_of_lanes(squares, &mut shared, lane, slot) / width;
    let scale = 1.0f32 / (variance + epsilon).sqrt();
    if there {
        #[unroll]
        for c in 0..chunks {
            let d = lane + c * LANES;
            if d < vectors {
                let normal = (values[c] - Vector::new(mean)) * Vector::new(scale);
                y[row * vectors + d] = normal * weight[d] + bias[d];
            }
        }
        if comptime!(kept) && lane == 0 {
            moments[row * 2] = mean;
            moments[row * 2 + 1] = scale;
        }
    }
}

/// The gradient of rows before their norm.
#[cube(launch_unchecked)]
pub(super) fn differentiate<N: Size>(
    x: &Array<Vector<f32, N>>,
    weight: &Array<Vector<f32, N>>,
    moments: &Array<f32>,
    grad: &Array<Vector<f32, N>>,
    dx: &mut Array<Vector<f32, N>>,
    rows: u32,
    #[comptime] vectors: usize,
) {
    let lane = UNIT_POS_X as usize;
    let slot = UNIT_POS_Y as usize;
    let row = CUBE_POS * ROWS + slot;
    let there = row < rows as usize;
    let chunks = comptime!(vectors.div_ceil(LANES));
    let mut shared = SharedMemory::<f32>::new(comptime!(LANES * ROWS));

    let mut mean = 0.0f32;
    let mut scale = 0.0f32;
    if there {
        mean = moments[row * 2];
        scale = moments[row * 2 + 1];
    }
    let mut normals = Array::<Vector<f32, N>>::new(chunks);
    let mut slopes = Array::<Vector<f32, N>>::new(chunks);
    let mut direct = 0.0f32;
    let mut along = 0.0f32;
    #[unroll]
    for c in 0..chunks {
        let d = lane + c * LANES;
        let mut normal = Vector::new(0.0f32);
        let mut slope = Vector::new(0.0f32);
        if there && d < vectors {
            normal = (x[row * vectors + d] - Vector::new(mean)) * Vector::new(scale);
            slope = grad[row * vectors + d] * weight[d];
        }
        normals[c] = normal;
        slopes[c] = slope;
        direct += sum_of_elements::<N>(slope);
        along += sum_of_elements::<N>(slope * normal);
    }
    let width = comptime!((vectors * WIDE) as f32);
    let direct = sum_of_lanes(direct, &mut shared, lane, slot) / width;
    let along = sum_of_lanes(along, &mut shared, lane, slot) / width;
    if there {
        #[unroll]
        for c in 0..chunks {
            let d = lane + c * LANES;
            if d < vectors {
                let slope = slopes[c] - Vector::new(direct) - normals[c] * Vector::new(along);
                dx[row * vectors + d] = slope * Vector::new(scale);
            }
        }
    }
}

/// Partial sums, over [`SUMMED`] rows, of the gradients of weight and of bias.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "a kernel's bindings")]
pub(super) fn sum_parameters<N: Size>(
    x: &Array<Vector<f32, N>>,
    moments: &Array<f32>,
    grad: &Array<Vector<f32, N>>,
    sums: &mut Array<Vector<f32, N>>,
    rows: u32,
    parts: u32,
    #[comptime] vectors: usize,
) {
    let lane = UNIT_POS_X as usize;
    let slot = UNIT_POS_Y as usize;
    let columns = comptime!(vectors.div_ceil(LANES));
    let part = CUBE_POS / columns;
    let d = (CUBE_POS % columns) * LANES + lane;
    let mut of_weight = Vector::new(0.0f32);
    let mut of_bias = Vector::new(0.0f32);
    if d < vectors {
        for i in 0..comptime!(SUMMED / ROWS) {
            let row = part * SUMMED + i * ROWS + slot;
            if row < rows as usize {
                let slope = grad[row * vectors + d];
                let away = x[row * vectors + d] - Vector::new(moments[row * 2]);
                of_weight += slope * away * Vector::new(moments[row * 2 + 1]);
                of_bias += slope;
            }
        }
    }
    let mut weights = SharedMemory::<Vector<f32, N>>::new(comptime!(LANES * ROWS));
    let mut biases = SharedMemory::<Vector<f32, N>>::new(comptime!(LANES * ROWS));
    weights[slot * LANES + lane] = of_weight;
    biases[slot * LANES + lane] = of_bias;
    sync_cube();
    if slot == 0 && d < vectors && part < parts as usize {
        #[unroll]
        for i in 1..ROWS {
            of_weight += weights[i * LANES + lane];
            of_bias += biases[i * LANES + lane];
        }
        sums[part * 2 * vectors + d] = of_weight;
        sums[part * 2 * vectors + vectors + d] = of_bias;
    }
}
