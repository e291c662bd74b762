//! A product of matrices for processors with AVX2: tiles of 6 × 16 sums in registers, the right side packed in the order in
//! which they read it (after Goto and van de Geijn, 2008). Elsewhere `gemm` multiplies.
//!
//! An element is the same sum, whatever the tile, the piece and the thread that it falls to.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::matrix::Matrix;

/// Rows of a tile: with two vectors of columns, as many sums as there are registers for.
pub(super) const HEIGHT: usize = 6;
/// Columns of a tile: two vectors.
pub(super) const WIDTH: usize = 16;
/// Panels that are packed together: a row's part of them lies in a few cache lines one behind the other.
const TOGETHER: usize = 8;
/// Rows that are fetched before they are packed: large weights lie in memory, each row in another page.
const AHEAD: usize = 8;
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
            fetch(right, row + AHEAD);
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

/// Asks for a row, which need not exist, to be brought into the cache.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the instruction takes any address")]
fn fetch(matrix: Matrix<'_>, row: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    /// Elements in a line of the cache.
    const LINE: usize = 16;
    let values = matrix.storage.as_ptr().wrapping_add(row * matrix.row_stride);
    for column in (0..matrix.columns).step_by(LINE) {
        // SAFETY: x86-64 has the instruction, and it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.wrapping_add(column).cast()) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn fetch(_: Matrix<'_>, _: usize) {}

/// What the sums of a product begin with.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// Nothing.
    Zero,
    /// What the output holds.
    Output,
    /// A value for each column.
    Row(&'a [f32]),
}

impl Start<'_> {
    /// That of columns `first` on.
    fn from(self, first: usize) -> Self {
        match self {
            Self::Row(row) => Self::Row(&row[first..]),
            start => start,
        }
    }
}

/// `out = start + left·right` by this thread alone, from column `first` on of an `out` of `width` columns. The elements of a row
/// lie one behind the other in `left`, and so do the rows in `out`.
///
/// # Panics
/// Unless the kernel is [`available`] and the sizes fit.
///
/// # Safety
/// With [`Start::Output`], `out` holds values.
#[allow(unsafe_code, reason = "writes memory that was just allocated")]
pub(super) unsafe fn multiply(
    left: Matrix<'_>,
    right: &Panels,
    out: &mut [MaybeUninit<f32>],
    [first, width]: [usize; 2],
    begin: Start<'_>,
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
        let begin = if start > 0 {
            Start::Output
        } else {
            begin.from(first)
        };
        for (i, out) in out.chunks_mut(ROWS * width).enumerate() {
            for (panel, (values, columns)) in right.block(start, depth).enumerate() {
                let begin = begin.from(panel * WIDTH);
                for (j, out) in out.chunks_mut(HEIGHT * width).enumerate() {
                    let row = i * ROWS + j * HEIGHT;
                    let left = left.rows(row..row + out.len() / width);
                    let out = &mut out[first + panel * WIDTH..];
                    // SAFETY: the first block of rows of `right` has written all there is, if the caller has not.
                    unsafe { tile(left, values, out, width, columns, begin) };
                }
            }
        }
    }
}

/// [`multiply`] with an output that holds values, which the product is added to or replaces.
#[allow(unsafe_code, reason = "see `multiply`")]
pub(super) fn multiply_into(left: Matrix<'_>, right: &Panels, out: &mut [f32], place: [usize; 2], add: bool) {
    let begin = if add { Start::Output } else { Start::Zero };
    // SAFETY: `out` holds values, and nothing but values is written.
    unsafe { multiply(left, right, maybe(out), place, begin) };
}

/// Values as memory that need not hold any.
///
/// # Safety
/// Nothing but values is written.
#[allow(unsafe_code, reason = "see `multiply`")]
pub(super) unsafe fn maybe(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: the same memory, of the same layout.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}

/// One tile of the product, into the first `columns` of rows that are `stride` apart.
///
/// # Safety
/// With [`Start::Output`], those hold values.
#[allow(unsafe_code, reason = "see `multiply`")]
unsafe fn tile(
    left: Matrix<'_>,
    right: &[f32],
    out: &mut [MaybeUninit<f32>],
    stride: usize,
    columns: usize,
    begin: Start<'_>,
) {
    let vectors = columns.div_ceil(LANES);
    if columns == vectors * LANES {
        // SAFETY: the caller's.
        return unsafe { sums(left, right, out, stride, vectors, begin) };
    }
    let mut whole = [MaybeUninit::new(0.0); HEIGHT * WIDTH];
    // SAFETY: nothing is read.
    unsafe { sums(left, right, &mut whole, WIDTH, vectors, Start::Zero) };
    let rows = out.chunks_mut(stride).zip(whole.chunks_exact(WIDTH));
    for (out, sums) in rows.take(left.rows) {
        for (column, (out, sum)) in out.iter_mut().zip(&sums[..columns]).enumerate() {
            // SAFETY: all of `whole` holds values, and so does `out` where the caller says so.
            unsafe {
                let sum = sum.assume_init();
                out.write(match begin {
                    Start::Zero => sum,
                    Start::Output => out.assume_init() + sum,
                    Start::Row(row) => row[column] + sum,
                });
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "see `multiply`")]
unsafe fn sums(_: Matrix<'_>, _: &[f32], _: &mut [MaybeUninit<f32>], _: usize, _: usize, _: Start<'_>) {
    unreachable!("`multiply` asserts that the kernel is available");
}

/// A tile of whole vectors.
///
/// # Safety
/// With [`Start::Output`], `out` holds values.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of AVX2")]
unsafe fn sums(
    left: Matrix<'_>,
    right: &[f32],
    out: &mut [MaybeUninit<f32>],
    stride: usize,
    vectors: usize,
    begin: Start<'_>,
) {
    assert!(left.fits() && left.column_stride == 1);
    assert_eq!(right.len(), left.columns * WIDTH);
    assert!(out.len() >= (left.rows - 1) * stride + vectors * LANES);
    let out = out.as_mut_ptr().cast::<f32>();
    let begin = match begin {
        Start::Zero => None,
        Start::Output => Some((out.cast_const(), stride)),
        Start::Row(row) => {
            assert!(row.len() >= vectors * LANES);
            Some((row.as_ptr(), 0))
        }
    };
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
        run(depth, from, left.row_stride, right.as_ptr(), out, stride, begin);
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of AVX2")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{LANES, WIDTH};

    /// `H` rows of `V` vectors: sums of `depth` columns of `left` times rows of `right`, and `begin`, if there is one.
    ///
    /// # Safety
    /// The processor has AVX2 and FMA. `left` has `H` rows of `depth` elements, `left_stride` apart; `right` has `depth` rows of
    /// `WIDTH`, one behind the other; `out` has `H` rows of `V` vectors, `stride` apart, and so has `begin`, by its own stride.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn sums<const H: usize, const V: usize>(
        depth: usize,
        left: *const f32,
        left_stride: usize,
        right: *const f32,
        out: *mut f32,
        stride: usize,
        begin: Option<(*const f32, usize)>,
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
                // SAFETY: a row has `V` vectors.
                unsafe {
                    let sum = match begin {
                        Some((begin, stride)) => {
                            _mm256_add_ps(*sum, _mm256_loadu_ps(begin.add(row * stride + LANES * i)))
                        }
                        None => *sum,
                    };
                    _mm256_storeu_ps(out.add(row * stride + LANES * i), sum);
                }
            }
        }
    }
}
