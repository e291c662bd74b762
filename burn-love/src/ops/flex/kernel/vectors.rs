//! What computes a tile, for each sort of vectors.

#![allow(unsafe_code, reason = "vectors of the processor")]

use super::{
    super::matrix::Matrix,
    Kernel, SUMS, Sums, Tile, fetch, nothing,
    panels::{TOGETHER, pack},
};

pub(super) use avx2::KERNEL as AVX2;
pub(super) use avx512::KERNEL as AVX512;

/// Rows of a panel that are fetched from the second cache before they are needed.
const AHEAD: usize = 8;

/// A kernel: rows of vectors of so many lanes, with some features of the processor.
macro_rules! kernel {
    (
        $name:ident, $features:literal, lanes $lanes:literal, rows $heights:tt, vectors $counts:tt,
        $zero:ident, $load:ident, $store:ident, $each:ident, $multiply_add:ident, $add:ident
    ) => {
        mod $name {
            use std::arch::x86_64::*;

            use super::*;

            const LANES: usize = $lanes;
            const WIDTH: usize = LANES * $counts.len();
            const HEIGHT: usize = $heights.len();
            /// Rows that a base reaches by multiples of the stride that an address can hold.
            const REACH: usize = 3;

            pub static KERNEL: Kernel = Kernel {
                name: stringify!($name),
                height: HEIGHT,
                width: WIDTH,
                register: [1, LANES],
                least: 0,
                terms: 1,
                halves: 2,
                sums: choose,
                pack: pack_here,
                left: None,
                switch: [nothing, nothing],
            };
            const _: () = assert!(HEIGHT * WIDTH <= SUMS && TOGETHER.is_multiple_of(WIDTH));

            #[target_feature(enable = $features)]
            fn pack_here(right: Matrix<'_>, factor: f32, panels: &mut [f32]) {
                pack::<WIDTH>(right, factor, panels);
            }

            fn choose(rows: usize, columns: usize) -> Sums {
                let vectors = columns / LANES;
                choose!(rows, vectors, $heights, $counts)
            }

            /// `H` rows of `V` vectors.
            ///
            /// # Safety
            /// The processor has the features. The left side has `H` rows of `depth` elements; the right side `depth` rows of
            /// `WIDTH`, one behind the other; the output `H` rows of `V` vectors, and so has `begin`, by its own stride.
            #[target_feature(enable = $features)]
            unsafe fn sums<const H: usize, const V: usize>(tile: Tile) {
                let Tile {
                    depth,
                    left,
                    left_stride,
                    right,
                    out,
                    stride,
                    begin,
                    ..
                } = tile;
                let mut sums = [[$zero(); V]; H];
                for row in 0..H {
                    // The output is needed at the end.
                    fetch::row::<{ fetch::NEAREST }>(out.wrapping_add(row * stride), LANES * V);
                }
                let bases: [_; HEIGHT.div_ceil(REACH)] =
                    std::array::from_fn(|i| left.wrapping_add(REACH * i * left_stride));
                // SAFETY: `step` is below `depth`.
                let mut term = |step: usize| unsafe {
                    let mut row = [$zero(); V];
                    for (i, row) in row.iter_mut().enumerate() {
                        let right = right.add(step * WIDTH + LANES * i);
                        fetch::line::<{ fetch::NEAREST }>(right.wrapping_add(AHEAD * WIDTH));
                        *row = $load(right);
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let left = bases[i / REACH].add(i % REACH * left_stride + step);
                        let left = $each(*left);
                        for (sum, right) in sums.iter_mut().zip(row) {
                            *sum = $multiply_add(left, right, *sum);
                        }
                    }
                };
                let whole = depth - depth % 4;
                for step in (0..whole).step_by(4) {
                    term(step);
                    term(step + 1);
                    term(step + 2);
                    term(step + 3);
                }
                for step in whole..depth {
                    term(step);
                }
                for (row, sums) in sums.iter().enumerate() {
                    for (i, sum) in sums.iter().enumerate() {
                        // SAFETY: a row has `V` vectors.
                        unsafe {
                            let sum = match begin {
                                Some((begin, stride)) => {
                                    $add(*sum, $load(begin.add(row * stride + LANES * i)))
                                }
                                None => *sum,
                            };
                            $store(out.add(row * stride + LANES * i), sum);
                        }
                    }
                }
            }
        }
    };
}

/// The function for so many rows and vectors.
macro_rules! choose {
    ($rows:ident, $vectors:ident, [$($height:literal),*], $counts:tt) => {
        match $rows {
            $($height => choose!(of $height, $vectors, $counts),)*
            _ => unreachable!("a tile has {HEIGHT} rows at most"),
        }
    };
    (of $height:literal, $vectors:ident, [$($count:literal),*]) => {
        match $vectors {
            $($count => sums::<$height, $count>,)*
            _ => unreachable!("a tile has {WIDTH} columns at most"),
        }
    };
}

kernel!(
    avx2, "avx2,fma", lanes 8, rows [1, 2, 3, 4, 5, 6], vectors [1, 2],
    _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps
);

kernel!(
    avx512, "avx512f", lanes 16, rows [1, 2, 3, 4, 5, 6, 7, 8], vectors [1, 2, 3],
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps
);
