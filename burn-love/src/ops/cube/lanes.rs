//! What kernels share whose 32 threads hold a row, eight rows to a cube.

use cubecl::prelude::*;

/// Threads of a cube along a row.
pub(super) const LANES: usize = 32;
/// Rows of a cube.
pub(super) const ROWS: usize = 8;

/// The sum over the lanes of a row.
#[cube]
pub(super) fn sum_of_lanes(partial: f32, shared: &mut SharedMemory<f32>, lane: usize, slot: usize) -> f32 {
    sync_cube();
    shared[slot * LANES + lane] = partial;
    sync_cube();
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..LANES {
        sum += shared[slot * LANES + i];
    }
    sum
}

/// The largest value over the lanes of a row.
#[cube]
pub(super) fn most_of_lanes(partial: f32, shared: &mut SharedMemory<f32>, lane: usize, slot: usize) -> f32 {
    sync_cube();
    shared[slot * LANES + lane] = partial;
    sync_cube();
    let mut most = shared[slot * LANES];
    #[unroll]
    for i in 1..LANES {
        most = max(most, shared[slot * LANES + i]);
    }
    most
}
