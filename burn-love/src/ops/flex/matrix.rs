//! Matrices inside storages, and their products by `gemm`.

use std::ops::Range;

use burn::tensor::TensorMetadata;
use burn_flex::FlexTensor;
use gemm::Parallelism;
use rayon::prelude::*;

/// Multiplications from which a product is shared between threads.
const PARALLEL: usize = 192 * 192 * 192;

/// Rows of a piece of a shared product: enough that packing the right matrix for each piece costs little.
const ROWS: usize = 256;

/// A matrix inside a storage, by strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    storage: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Head `h` of batch entry `b` of a `[B, heads, rows, columns]`.
    pub fn head(tensor: &'a FlexTensor, b: usize, h: usize) -> Self {
        let [_, _, rows, columns] = tensor.shape().dims();
        let layout = tensor.layout();
        let stride = |dim: usize| layout.strides()[dim] as usize;
        Self {
            storage: &tensor.storage()[layout.start_offset() + b * stride(0) + h * stride(1)..],
            rows,
            columns,
            row_stride: stride(2),
            column_stride: stride(3),
        }
    }

    /// A `[rows, columns]` without negative strides.
    pub fn of(tensor: &'a FlexTensor) -> Self {
        let [rows, columns] = tensor.shape().dims();
        let layout = tensor.layout();
        Self {
            storage: &tensor.storage()[layout.start_offset()..],
            rows,
            columns,
            row_stride: layout.strides()[0] as usize,
            column_stride: layout.strides()[1] as usize,
        }
    }

    /// The matrix that begins at the start of `storage`.
    pub fn strided(storage: &'a [f32], [rows, columns]: [usize; 2], strides: [usize; 2]) -> Self {
        Self {
            storage,
            rows,
            columns,
            row_stride: strides[0],
            column_stride: strides[1],
        }
    }

    /// Rows one behind the other.
    pub fn dense(storage: &'a [f32], rows: usize, columns: usize) -> Self {
        Self {
            storage,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    pub fn rows(self, rows: Range<usize>) -> Self {
        Self {
            storage: &self.storage[rows.start * self.row_stride..],
            rows: rows.len(),
            ..self
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Product of a row with one of `other`.
    pub fn dot(&self, row: usize, other: &Self, other_row: usize) -> f32 {
        let at = |matrix: &Self, row: usize, column: usize| {
            matrix.storage[row * matrix.row_stride + column * matrix.column_stride]
        };
        (0..self.columns)
            .map(|column| at(self, row, column) * at(other, other_row, column))
            .sum()
    }

    /// Whether all elements lie in the storage.
    fn fits(&self) -> bool {
        if self.rows == 0 || self.columns == 0 {
            return true;
        }
        let steps = |count: usize, stride: usize| (count - 1).checked_mul(stride);
        steps(self.rows, self.row_stride)
            .zip(steps(self.columns, self.column_stride))
            .and_then(|(down, right)| down.checked_add(right))
            .is_some_and(|last| last < self.storage.len())
    }
}

/// `out = factor·left·right`, or `out += factor·left·right`, by this thread alone; `out` has its rows one behind the other.
pub(super) fn product(left: Matrix<'_>, right: Matrix<'_>, factor: f32, out: &mut [f32], add: bool) {
    multiply(left, right, factor, out, add, Parallelism::None);
}

/// As [`product`], by all threads where it is large: in pieces of rows, or of whatever `gemm` chooses where rows are few.
/// No sum is split, so the number of threads changes nothing.
pub(super) fn shared_product(left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32], add: bool) {
    let size = left
        .rows
        .saturating_mul(left.columns)
        .saturating_mul(right.columns);
    if size < PARALLEL {
        return product(left, right, 1.0, out, add);
    }
    if left.rows < 4 * ROWS {
        return multiply(left, right, 1.0, out, add, Parallelism::Rayon(0));
    }
    out.par_chunks_mut(ROWS * right.columns)
        .enumerate()
        .for_each(|(i, out)| {
            let rows = i * ROWS..i * ROWS + out.len() / right.columns;
            product(left.rows(rows), right, 1.0, out, add);
        });
}

#[allow(unsafe_code, reason = "gemm takes pointers; what they reach is checked")]
fn multiply(
    left: Matrix<'_>,
    right: Matrix<'_>,
    factor: f32,
    out: &mut [f32],
    add: bool,
    parallelism: Parallelism,
) {
    assert_eq!(left.columns, right.rows);
    assert_eq!(left.rows.checked_mul(right.columns), Some(out.len()));
    assert!(left.fits() && right.fits());
    // SAFETY: both inputs lie in their storages and the output is as long as the product, as asserted above; the output
    // is borrowed exclusively, so it overlaps neither.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            right.columns as isize,
            add,
            left.storage.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.storage.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}
