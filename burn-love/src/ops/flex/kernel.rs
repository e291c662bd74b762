//! A product of matrices for processors with AVX2: tiles of 6 × 16 sums in registers, the right side packed in the order in
//! which they read it (after Goto and van de Geijn, 2008). Elsewhere `gemm` multiplies.
//!
//! An element is the same sum, whatever the tile, the piece and the thread that it falls to.

use rayon::prelude::*;

use super::matrix::Matrix;

/// Rows of a tile: with two vectors of columns, as many sums as there are registers for.
pub(super) const HEIGHT: usize = 6;
/// Columns of a tile: two vectors.
pub(super) const WIDTH: usize = 16;
/// Panels that are packed together: a row's part of them lies in a few cache lines one behind the other.
const TOGETHER: usize = 8;
/// Columns in a vector.
const LANES: usize = 8;
/// The most terms that are summed in registers: a panel of so many rows about fills a core's first cache.
const DEPTH: usize = 512;
/// Rows that meet a panel before the next one does: so many, [`DEPTH`] wide, lie in the second cache.
pub(super) const ROWS: usize = 96;

/// Whether this processor has what the kernel needs.
#[cfg(target_arch = "x86_64")]
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn available() -> bool {
    false
}

/// The right side of a product, packed: blocks of some rows, in each of them panels of [`WIDTH`] columns, the last one filled
/// up with zeros.
pub(super) struct Panels {
    values: Vec<f32>,
    rows: usize,
    pub columns: usize,
    /// Rows of a block; the last one may have fewer.
    depth: usize,
}

impl Panels {
    /// Packs `factor·right` into `buffer`, whose content is dropped; by all threads if `shared`.
    pub fn pack(right: Matrix<'_>, factor: f32, mut buffer: Vec<f32>, shared: bool) -> Self {
        let blocks = right.rows.div_ceil(DEPTH).max(1);
        let depth = right.rows.div_ceil(blocks).max(1);
        let width = right.columns.next_multiple_of(WIDTH);
        let size = right.rows * width;
        if buffer.len() < size {
            buffer.clear();
            buffer.resize(size, 0.0);
        }
        for (start, values) in (0..right.rows)
            .step_by(depth)
            .zip(buffer[..size].chunks_mut(depth * width))
        {
            let rows = right.rows(start..right.rows.min(start + depth));
            let pack = |(i, panels): (usize, &mut [f32])| {
                let first = i * TOGETHER * WIDTH;
                pack_panels(
                    rows.columns(first..right.columns.min(first + TOGETHER * WIDTH)),
                    factor,
                    panels,
                );
            };
            let some = rows.rows * WIDTH * TOGETHER;
            if shared {
                values.par_chunks_mut(some).enumerate().for_each(pack);
            } else {
                values.chunks_mut(some).enumerate().for_each(pack);
            }
        }
        Self {
            values: buffer,
            rows: right.rows,
            columns: right.columns,
            depth,
        }
    }

    /// The buffer, to be used again.
    pub fn into_buffer(self) -> Vec<f32> {
        self.values
    }

    /// The panels of the block of `depth` rows that begins with row `start`, and how many columns each has.
    fn block(&self, start: usize, depth: usize) -> impl Iterator<Item = (&[f32], usize)> {
        let width = self.columns.next_multiple_of(WIDTH);
        self.values[start * width..(start + depth) * width]
            .chunks_exact(depth * WIDTH)
            .enumerate()
            .map(|(panel, values)| (values, WIDTH.min(self.columns - panel * WIDTH)))
    }
}

/// `factor·right`, a few panels wide.
fn pack_panels(right: Matrix<'_>, factor: f32, panels: &mut [f32]) {
    let size = right.rows * WIDTH;
    let columns = |panel: usize| panel * WIDTH..right.columns.min((panel + 1) * WIDTH);
    if right.column_stride == 1 {
        // Row by row, as they lie in memory.
        for row in 0..right.rows {
            let values = &right.storage[row * right.row_stride..][..right.columns];
            for (panel, out) in panels.chunks_exact_mut(size).enumerate() {
                let out = &mut out[row * WIDTH..][..WIDTH];
                let values = &values[columns(panel)];
                if let Ok(values) = <&[f32; WIDTH]>::try_from(values) {
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = factor * value;
                    }
                } else {
                    let (out, rest) = out.split_at_mut(values.len());
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = factor * value;
                    }
                    rest.fill(0.0);
                }
            }
        }
        return;
    }
    for (panel, out) in panels.chunks_exact_mut(size).enumerate() {
        let columns = columns(panel);
        if columns.len() < WIDTH {
            out.fill(0.0);
        }
        for (i, column) in columns.enumerate() {
            let values = &right.storage[column * right.column_stride..];
            for (row, out) in out[i..].iter_mut().step_by(WIDTH).enumerate() {
                *out = factor * values[row * right.row_stride];
            }
        }
    }
}

/// `out = left·right`, or `out += left·right`, by this thread alone, from column `first` on of an `out` of `width` columns. The
/// elements of a row lie one behind the other in `left`, and so do the rows in `out`.
///
/// # Panics
/// Unless the kernel is [`available`] and the sizes fit.
pub(super) fn multiply(
    left: Matrix<'_>,
    right: &Panels,
    out: &mut [f32],
    [first, width]: [usize; 2],
    add: bool,
) {
    assert!(available());
    assert_eq!(left.columns, right.rows);
    assert_eq!(left.rows.checked_mul(width), Some(out.len()));
    assert!(first + right.columns <= width && left.columns > 0);
    if out.is_empty() {
        return;
    }
    for start in (0..left.columns).step_by(right.depth) {
        let depth = right.depth.min(left.columns - start);
        let left = left.columns(start..start + depth);
        for (i, out) in out.chunks_mut(ROWS * width).enumerate() {
            for (panel, (values, columns)) in right.block(start, depth).enumerate() {
                for (j, out) in out.chunks_mut(HEIGHT * width).enumerate() {
                    let row = i * ROWS + j * HEIGHT;
                    let left = left.rows(row..row + out.len() / width);
                    let out = &mut out[first + panel * WIDTH..];
                    tile(left, values, out, width, columns, add || start > 0);
                }
            }
        }
    }
}

/// One tile of the product, into the first `columns` of rows that are `stride` apart.
fn tile(left: Matrix<'_>, right: &[f32], out: &mut [f32], stride: usize, columns: usize, add: bool) {
    let vectors = columns.div_ceil(LANES);
    if columns == vectors * LANES {
        return sums(left, right, out, stride, vectors, add);
    }
    let mut whole = [0.0; HEIGHT * WIDTH];
    sums(left, right, &mut whole, WIDTH, vectors, false);
    let rows = out.chunks_mut(stride).zip(whole.chunks_exact(WIDTH));
    for (out, sums) in rows.take(left.rows) {
        for (out, sum) in out.iter_mut().zip(&sums[..columns]) {
            *out = if add { *out + sum } else { *sum };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sums(_: Matrix<'_>, _: &[f32], _: &mut [f32], _: usize, _: usize, _: bool) {
    unreachable!("`multiply` asserts that the kernel is available");
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of AVX2")]
fn sums(left: Matrix<'_>, right: &[f32], out: &mut [f32], stride: usize, vectors: usize, add: bool) {
    assert!(left.fits() && left.column_stride == 1);
    assert_eq!(right.len(), left.columns * WIDTH);
    assert!(out.len() >= (left.rows - 1) * stride + vectors * LANES);
    let run = match (left.rows, vectors) {
        (1, 1) => avx2::sums::<1, 1>,
        (2, 1) => avx2::sums::<2, 1>,
        (3, 1) => avx2::sums::<3, 1>,
        (4, 1) => avx2::sums::<4, 1>,
        (5, 1) => avx2::sums::<5, 1>,
        (6, 1) => avx2::sums::<6, 1>,
        (1, 2) => avx2::sums::<1, 2>,
        (2, 2) => avx2::sums::<2, 2>,
        (3, 2) => avx2::sums::<3, 2>,
        (4, 2) => avx2::sums::<4, 2>,
        (5, 2) => avx2::sums::<5, 2>,
        (6, 2) => avx2::sums::<6, 2>,
        _ => unreachable!("a tile has {HEIGHT} rows and {WIDTH} columns at most"),
    };
    // SAFETY: the processor has AVX2 and FMA, as `multiply` asserts; all sides are as long as asserted above.
    unsafe {
        let (from, depth) = (left.storage.as_ptr(), left.columns);
        run(
            depth,
            from,
            left.row_stride,
            right.as_ptr(),
            out.as_mut_ptr(),
            stride,
            add,
        );
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of AVX2")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{LANES, WIDTH};

    /// `H` rows of `V` vectors: sums of `depth` columns of `left` times rows of `right`.
    ///
    /// # Safety
    /// The processor has AVX2 and FMA. `left` has `H` rows of `depth` elements, `left_stride` apart; `right` has `depth` rows of
    /// `WIDTH`, one behind the other; `out` has `H` rows of `V` vectors, `stride` apart.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn sums<const H: usize, const V: usize>(
        depth: usize,
        left: *const f32,
        left_stride: usize,
        right: *const f32,
        out: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let mut sums = [[_mm256_setzero_ps(); V]; H];
        for row in 0..H {
            // The output is needed at the end.
            let row = out.wrapping_add(row * stride);
            _mm_prefetch::<_MM_HINT_T0>(row.cast());
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(LANES * V - 1).cast());
        }
        // Two bases reach six rows by multiples of the stride that an address can hold.
        let bases = [left, left.wrapping_add(3 * left_stride)];
        // SAFETY: `step` is below `depth`.
        let mut term = |step: usize| unsafe {
            let mut row = [_mm256_setzero_ps(); V];
            for (i, row) in row.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(right.add(step * WIDTH + LANES * i));
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let left = bases[i / 3].add(i % 3 * left_stride + step);
                let left = _mm256_broadcast_ss(&*left);
                for (sum, right) in sums.iter_mut().zip(row) {
                    *sum = _mm256_fmadd_ps(left, right, *sum);
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
                // SAFETY: a row of `out` has `V` vectors.
                unsafe {
                    let out = out.add(row * stride + LANES * i);
                    let sum = if add {
                        _mm256_add_ps(*sum, _mm256_loadu_ps(out))
                    } else {
                        *sum
                    };
                    _mm256_storeu_ps(out, sum);
                }
            }
        }
    }
}
