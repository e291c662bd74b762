//! A product of matrices for processors with AVX2 or AVX-512: tiles of sums in registers, the right side packed in the order
//! in which they read it (after Goto and van de Geijn, 2008). Elsewhere `gemm` multiplies.
//!
//! An element is the same sum, whatever the kernel, the tile, the piece and the thread that it falls to.

use std::{marker::PhantomData, mem::MaybeUninit, ops::Range};

use super::matrix::Matrix;

mod panels;
#[cfg(target_arch = "x86_64")]
mod vectors;

pub(super) use panels::{Panels, blocks};

/// Elements of panels that rows meet one behind the other before the next rows do: they stay in the second cache, and parts of
/// an output's row are written in a row.
const GROUP: usize = 96 * 1024;
/// The most sums in a tile.
const SUMS: usize = 8 * 48;

/// What multiplies tiles with some processors' vectors.
#[derive(Debug)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "other processors have none")
)]
pub(super) struct Kernel {
    /// Rows of a tile: with its vectors of columns, nearly as many sums as there are registers.
    pub height: usize,
    /// Columns of a tile.
    pub width: usize,
    /// Columns in a vector.
    lanes: usize,
    /// What computes so many rows of so many vectors.
    sums: fn(usize, usize) -> Sums,
    /// Packs a few panels of `factor·right`.
    pack: unsafe fn(Matrix<'_>, f32, &mut [f32]),
}

/// Depth; the left side and the stride of its rows; the right side, packed; the output and the stride of its rows; what is
/// added to the sums, and its stride.
type Sums = unsafe fn(usize, *const f32, usize, *const f32, *mut f32, usize, Option<(*const f32, usize)>);

impl Kernel {
    /// The kernels that this processor has all it takes for, the best one first.
    #[cfg(target_arch = "x86_64")]
    pub fn usable() -> impl Iterator<Item = &'static Self> {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f");
        let avx512 = avx512.then_some(&vectors::AVX512);
        avx512.into_iter().chain(avx2.then_some(&vectors::AVX2))
    }

    /// None for other processors.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn usable() -> impl Iterator<Item = &'static Self> {
        std::iter::empty()
    }

    /// The best one, if there is any.
    pub fn best() -> Option<&'static Self> {
        Self::usable().next()
    }
}

/// What a product is added to.
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
    /// That of some columns.
    pub fn columns(self, columns: Range<usize>) -> Self {
        match self {
            Self::Row(row) => Self::Row(&row[columns]),
            start => start,
        }
    }
}

/// Some rows and columns of an output whose rows lie one behind the other; it need not hold values. Several threads may each
/// have a part.
#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    values: *mut f32,
    pub rows: usize,
    pub columns: usize,
    stride: usize,
    borrowed: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: it only says where. Who writes there promises that nobody else does.
#[allow(unsafe_code, reason = "threads write parts of one output")]
unsafe impl Send for Output<'_> {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "threads write parts of one output")]
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Rows of so many columns.
    pub fn new(values: &'a mut [MaybeUninit<f32>], columns: usize) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0); // none where there are no columns
        assert_eq!(values.len(), rows * columns);
        Self {
            values: values.as_mut_ptr().cast(),
            rows,
            columns,
            stride: columns,
            borrowed: PhantomData,
        }
    }

    pub fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        Self {
            values: self.values.wrapping_add(rows.start * self.stride),
            rows: rows.len(),
            ..self
        }
    }

    pub fn columns(self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.columns);
        Self {
            values: self.values.wrapping_add(columns.start),
            columns: columns.len(),
            ..self
        }
    }

    /// A row.
    ///
    /// # Safety
    /// Nothing else uses it as long as the result is used, and nothing but values is written.
    #[allow(unsafe_code, reason = "threads write parts of one output")]
    pub unsafe fn row(self, row: usize) -> &'a mut [MaybeUninit<f32>] {
        assert!(row < self.rows);
        let start = self.values.wrapping_add(row * self.stride);
        // SAFETY: these columns lie in what `new` borrowed, and the caller promises that nothing else uses them.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), self.columns) }
    }
}

/// `out = start + left·right` by this thread alone. The elements of a row lie one behind the other in `left`.
///
/// # Panics
/// Unless the sizes fit.
///
/// # Safety
/// Nothing else uses this part of the output meanwhile, and with [`Start::Output`] it holds values.
#[allow(unsafe_code, reason = "writes memory that was just allocated")]
pub(super) unsafe fn multiply(left: Matrix<'_>, right: &Panels, out: Output<'_>, begin: Start<'_>) {
    assert_eq!(left.columns, right.rows);
    assert_eq!([out.rows, out.columns], [left.rows, right.columns]);
    assert!(left.columns > 0);
    if out.columns == 0 {
        return;
    }
    let Kernel { height, width, .. } = *right.kernel();
    for terms in blocks(left.columns) {
        let begin = if terms.start > 0 { Start::Output } else { begin };
        let left = left.columns(terms.clone());
        let panels: Vec<_> = right.block(terms.clone()).collect();
        let together = (GROUP / (terms.len() * width)).max(1);
        for (i, panels) in panels.chunks(together).enumerate() {
            for row in (0..left.rows).step_by(height) {
                let rows = row..left.rows.min(row + height);
                let (left, out) = (left.rows(rows.clone()), out.rows(rows));
                for (j, panel) in panels.iter().enumerate() {
                    let first = (i * together + j) * width;
                    let columns = first..right.columns.min(first + width);
                    let (out, begin) = (out.columns(columns.clone()), begin.columns(columns));
                    // SAFETY: the first block of terms has written all there is, if the caller has not.
                    unsafe { tile(right.kernel(), left, panel, out, begin) };
                }
            }
        }
    }
}

/// [`multiply`] with an output that holds values, which the product is added to or replaces.
#[allow(unsafe_code, reason = "see `multiply`")]
pub(super) fn multiply_into(left: Matrix<'_>, right: &Panels, out: &mut [f32], add: bool) {
    let begin = if add { Start::Output } else { Start::Zero };
    assert_eq!(left.rows.checked_mul(right.columns), Some(out.len()));
    // SAFETY: `out` holds values, is borrowed here alone, and nothing but values is written.
    unsafe { multiply(left, right, Output::new(maybe(out), right.columns), begin) };
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

/// One tile of the product.
///
/// # Safety
/// Nothing else uses this part of the output meanwhile, and with [`Start::Output`] it holds values.
#[allow(unsafe_code, reason = "see `multiply`")]
unsafe fn tile(kernel: &Kernel, left: Matrix<'_>, right: &[f32], out: Output<'_>, begin: Start<'_>) {
    if out.columns.is_multiple_of(kernel.lanes) {
        // SAFETY: the caller's.
        return unsafe { sums(kernel, left, right, out, begin) };
    }
    let mut whole = [MaybeUninit::new(0.0); SUMS];
    let vectors = 0..out.columns.next_multiple_of(kernel.lanes);
    let whole = Output::new(&mut whole[..left.rows * kernel.width], kernel.width);
    // SAFETY: nothing is read.
    unsafe { sums(kernel, left, right, whole.columns(vectors), Start::Zero) };
    for i in 0..left.rows {
        // SAFETY: all of `whole` holds values, and so does `out` where the caller says so; nothing else uses either.
        unsafe {
            let sums = whole.row(i);
            for (column, (out, sum)) in out.row(i).iter_mut().zip(sums).enumerate() {
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

/// A tile of whole vectors.
///
/// # Safety
/// Nothing else uses this part of the output meanwhile, and with [`Start::Output`] it holds values.
#[allow(unsafe_code, reason = "vectors of the processor")]
unsafe fn sums(kernel: &Kernel, left: Matrix<'_>, right: &[f32], out: Output<'_>, begin: Start<'_>) {
    assert!(left.fits() && left.column_stride == 1);
    assert_eq!(right.len(), left.columns * kernel.width);
    assert!(out.rows == left.rows && out.columns.is_multiple_of(kernel.lanes));
    let begin = match begin {
        Start::Zero => None,
        Start::Output => Some((out.values.cast_const(), out.stride)),
        Start::Row(row) => {
            assert_eq!(row.len(), out.columns);
            Some((row.as_ptr(), 0))
        }
    };
    let run = (kernel.sums)(left.rows, out.columns / kernel.lanes);
    let (depth, from) = (left.columns, left.storage.as_ptr());
    // SAFETY: the processor has what it takes, as only `Kernel::usable` gives kernels; all sides are as long as asserted above.
    unsafe {
        run(
            depth,
            from,
            left.row_stride,
            right.as_ptr(),
            out.values,
            out.stride,
            begin,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fractions, whose sums depend on their order.
    fn numbers(count: usize, divisor: f32) -> Vec<f32> {
        let number = |i: usize| (i * 7919 % 41) as f32 - 20.0;
        (0..count).map(|i| number(i) / divisor).collect()
    }

    #[test]
    #[allow(unsafe_code, reason = "see `multiply`")]
    #[allow(clippy::print_stderr, reason = "says what was not compared")]
    fn every_kernel_gives_the_same_sums() {
        for [rows, depth, columns] in [[1, 1, 1], [5, 3, 16], [8, 70, 48], [17, 600, 131], [29, 1100, 97]] {
            let (a, b) = (numbers(rows * depth, 3.0), numbers(depth * columns, 7.0));
            let bias = numbers(columns, 11.0);
            for across in [false, true] {
                let right = if across {
                    Matrix::dense(&b, columns, depth).transposed()
                } else {
                    Matrix::dense(&b, depth, columns)
                };
                let left = Matrix::dense(&a, rows, depth);
                let product = |kernel| {
                    let panels = Panels::pack(kernel, right, 0.5, Vec::new(), false);
                    let mut out = numbers(rows * columns, 13.0);
                    multiply_into(left, &panels, &mut out, true);
                    let mut fresh = vec![f32::NAN; rows * columns];
                    // SAFETY: both hold values.
                    unsafe {
                        let out = Output::new(maybe(&mut fresh), columns);
                        multiply(left, &panels, out, Start::Row(&bias));
                    }
                    [out, fresh]
                };
                let products: Vec<_> = Kernel::usable().map(product).collect();
                if products.len() < 2 {
                    eprintln!(
                        "not compared: this processor has {} of the kernels",
                        products.len()
                    );
                }
                for other in products.windows(2) {
                    assert_eq!(other[0], other[1], "{rows}·{depth}·{columns}, across {across}");
                }
                for [out, fresh] in &products {
                    for (i, (out, fresh)) in out.iter().zip(fresh).enumerate() {
                        let (row, column) = (i / columns, i % columns);
                        let term = |k: usize| {
                            let at = k * right.row_stride + column * right.column_stride;
                            f64::from(a[row * depth + k]) * f64::from(0.5 * b[at])
                        };
                        let sum: f64 = (0..depth).map(term).sum();
                        let near = |found: f32, start: f32| {
                            (f64::from(found) - f64::from(start) - sum).abs() < 1e-3 * (depth as f64).sqrt()
                        };
                        assert!(near(*out, numbers(i + 1, 13.0)[i]) && near(*fresh, bias[column]));
                    }
                }
            }
        }
    }
}
