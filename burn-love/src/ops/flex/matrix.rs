//! Matrices inside storages.

use std::ops::Range;

use burn::tensor::TensorMetadata;
use burn_flex::FlexTensor;

/// A matrix inside a storage, by strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub storage: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
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

    pub fn columns(self, columns: Range<usize>) -> Self {
        self.transposed().rows(columns).transposed()
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
    pub fn fits(&self) -> bool {
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
