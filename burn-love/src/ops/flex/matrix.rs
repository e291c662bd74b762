//! Matrices inside storages, and their products by a kernel of our own or by `gemm`.

use std::{cell::Cell, mem::MaybeUninit, ops::Range};

use burn::tensor::{TensorData, TensorMetadata};
use burn_flex::FlexTensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::{
    CHUNK,
    kernel::{self, Panels, Start},
    of_rows, zeros,
};

/// Multiplications from which a product is shared between threads.
const PARALLEL: usize = 192 * 192 * 192;

/// Rows of a piece of a shared product: enough that packing the right matrix for each piece costs little.
const ROWS: usize = 256;

/// Rows of a product from which it pays to pack the right matrix: one that lies in the second cache, or a larger one.
const FEW: [usize; 2] = [16, 96];
/// Elements of the former.
const NEAR: usize = 64 * 1024;

/// Multiplications from which it pays to pack.
const SMALL: usize = 64 * 64 * 64;

/// Terms of a piece of a deep product's sums.
const TERMS: usize = 512;
/// The most elements of its output: `gemm` shares larger ones well between threads, but not those with little output.
const NARROW: usize = 64 * 1024;
/// The most pieces.
const PIECES: usize = 64;

/// Elements of the right matrix that are packed at once.
const PACKED: usize = 4 * 1024 * 1024;

thread_local! {
    /// What panels were packed into last.
    static BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

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

/// `out = factor·left·right`, or `out += factor·left·right`, by this thread alone; `out` has its rows one behind the other.
pub(super) fn product(left: Matrix<'_>, right: Matrix<'_>, factor: f32, out: &mut [f32], add: bool) {
    multiply(left, right, factor, out, add, Parallelism::None);
}

/// As [`product`], by all threads where it is large: in pieces of rows, of terms where there are many for little output (such
/// as a weight's gradient), or of whatever `gemm` chooses. How sums are split does not depend on the number of threads, which
/// therefore changes nothing.
#[allow(unsafe_code, reason = "see `packed_product`")]
pub(super) fn shared_product(left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32], add: bool) {
    assert_eq!(left.columns, right.rows);
    assert_eq!(left.rows.checked_mul(right.columns), Some(out.len()));
    if packs(left, right) {
        let begin = if add { Start::Output } else { Start::Zero };
        // SAFETY: `out` holds values, and nothing but values is written.
        return unsafe { packed_product(left, right, kernel::maybe(out), begin, None) };
    }
    if multiplications(left, right) < PARALLEL {
        return product(left, right, 1.0, out, add);
    }
    if left.columns >= 2 * TERMS && out.len() <= NARROW {
        return deep_product(left, right, out, add);
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

/// A product in pieces of its terms, which are added up in their order.
fn deep_product(left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32], add: bool) {
    let depth = left.columns;
    let terms = depth.div_ceil((depth / TERMS).min(PIECES));
    let pieces: Vec<Vec<f32>> = (0..depth.div_ceil(terms))
        .into_par_iter()
        .map(|i| {
            let terms = i * terms..depth.min((i + 1) * terms);
            let mut piece = vec![0.0; out.len()];
            product(
                left.columns(terms.clone()),
                right.rows(terms),
                1.0,
                &mut piece,
                false,
            );
            piece
        })
        .collect();
    if !add {
        out.fill(0.0);
    }
    for piece in &pieces {
        out.iter_mut().zip(piece).for_each(|(out, sum)| *out += sum);
    }
}

/// What is done to the elements of a product while they are near.
pub(super) type Then = fn(&mut [f32]);

/// `then(bias + left·right)` as a tensor, by all threads where it is large.
#[allow(
    unsafe_code,
    reason = "memory that was just allocated is written once, not twice"
)]
pub(super) fn fresh_product(
    left: Matrix<'_>,
    right: Matrix<'_>,
    bias: Option<&[f32]>,
    then: Option<Then>,
) -> FlexTensor {
    let dims = [left.rows, right.columns];
    assert!(bias.is_none_or(|bias| bias.len() == right.columns));
    if packs(left, right) {
        let count = left.rows * right.columns;
        let mut values = Vec::with_capacity(count);
        let begin = bias.map_or(Start::Zero, Start::Row);
        // SAFETY: there is room for so many, and a product that begins with anything but its output writes each.
        unsafe {
            packed_product(
                left,
                right,
                &mut values.spare_capacity_mut()[..count],
                begin,
                then,
            );
            values.set_len(count);
        }
        return FlexTensor::from_data(TensorData::new(values, dims));
    }
    let mut out = match bias {
        Some(bias) => of_rows(dims, right.columns, |_| bias),
        None => zeros(dims),
    };
    let values = out.storage_mut();
    shared_product(left, right, values, bias.is_some());
    if let Some(then) = then {
        values.par_chunks_mut(CHUNK).for_each(then);
    }
    out
}

/// Whether a product is the kernel's.
fn packs(left: Matrix<'_>, right: Matrix<'_>) -> bool {
    let few = FEW[usize::from(right.rows * right.columns > NEAR)];
    left.column_stride == 1
        && left.rows >= few
        && multiplications(left, right) >= SMALL
        && kernel::available()
}

fn multiplications(left: Matrix<'_>, right: Matrix<'_>) -> usize {
    left.rows
        .saturating_mul(left.columns)
        .saturating_mul(right.columns)
}

/// A product with the right matrix packed once for all pieces of rows, some columns at a time.
///
/// # Safety
/// With [`Start::Output`], `out` holds values.
#[allow(unsafe_code, reason = "see `kernel::multiply`")]
unsafe fn packed_product(
    left: Matrix<'_>,
    right: Matrix<'_>,
    out: &mut [MaybeUninit<f32>],
    begin: Start<'_>,
    then: Option<Then>,
) {
    assert!(right.fits());
    assert_eq!(left.rows.checked_mul(right.columns), Some(out.len()));
    let shared = multiplications(left, right) >= PARALLEL;
    let width = right.columns;
    let step = (PACKED / right.rows).max(1).next_multiple_of(kernel::WIDTH);
    // Some pieces for each thread, so that none waits for long; but of rows enough for each panel that is fetched.
    let threads = rayon::current_num_threads();
    let pieces = threads * (left.rows / (threads * kernel::ROWS)).clamp(1, 4);
    let rows = left.rows.div_ceil(pieces).next_multiple_of(kernel::HEIGHT);
    let rows = rows.min(2 * kernel::ROWS);
    let mut buffer = BUFFER.take();
    for first in (0..width).step_by(step) {
        let columns = first..width.min(first + step);
        let panels = Panels::pack(right.columns(columns.clone()), 1.0, buffer, shared);
        let multiply = |(i, out): (usize, &mut [MaybeUninit<f32>])| {
            let left = left.rows(i * rows..i * rows + out.len() / width);
            // SAFETY: these columns of `out` hold values behind the product, and before it where the caller says so.
            unsafe {
                kernel::multiply(left, &panels, out, [first, width], begin);
                for row in out.chunks_exact_mut(width) {
                    let Some(then) = then else { break };
                    let row = &mut row[columns.clone()];
                    then(std::slice::from_raw_parts_mut(row.as_mut_ptr().cast(), row.len()));
                }
            }
        };
        if shared {
            out.par_chunks_mut(rows * width).enumerate().for_each(multiply);
        } else {
            out.chunks_mut(rows * width).enumerate().for_each(multiply);
        }
        buffer = panels.into_buffer();
    }
    BUFFER.set(buffer);
}

/// The right side of several products: `factor·matrix`.
pub(super) enum Right<'a> {
    Plain(Matrix<'a>, f32),
    Packed(Panels),
}

impl<'a> Right<'a> {
    /// `packed` where many rows in all come from the left, each with its elements one behind the other.
    pub fn new(matrix: Matrix<'a>, factor: f32, packed: bool) -> Self {
        if packed && kernel::available() {
            assert!(matrix.fits());
            Self::Packed(Panels::pack(matrix, factor, Vec::new(), false))
        } else {
            Self::Plain(matrix, factor)
        }
    }

    /// `out = left·self`, or `out += left·self`, by this thread alone.
    pub fn multiply(&self, left: Matrix<'_>, out: &mut [f32], add: bool) {
        match self {
            Self::Plain(right, factor) => product(left, *right, *factor, out, add),
            Self::Packed(panels) => {
                let width = panels.columns;
                kernel::multiply_into(left, panels, out, [0, width], add);
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 that follow no simple pattern.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .take(count)
        .collect()
    }

    #[test]
    fn products_of_all_sizes_and_orders_are_sums_of_products() {
        let sizes = [
            [1, 1, 1],
            [16, 64, 256],
            [17, 300, 65],
            [23, 257, 71],
            [96, 512, 40],
            [97, 513, 17],
            [205, 33, 129],
            [1100, 70, 96],
            [2000, 24, 24],
            [40, 3000, 1500],
            [700, 24, 500],
            [48, 1024, 160],
            [70, 20_001, 33],
        ];
        for [rows, depth, columns] in sizes {
            let (a, b, start) = (
                numbers(rows * depth, 1),
                numbers(depth * columns, 2),
                numbers(rows * columns, 3),
            );
            // Terms up to 1: the sum grows with the root of their number, and so does what its last bit is worth.
            let rounding = 1e-6 * (depth as f64).sqrt().max(1.0);
            for (across, add) in [(false, false), (true, false), (false, true), (true, true)] {
                let of = |values, rows, columns| {
                    if across {
                        Matrix::dense(values, columns, rows).transposed()
                    } else {
                        Matrix::dense(values, rows, columns)
                    }
                };
                let (left, right) = (of(&a[..], rows, depth), of(&b[..], depth, columns));
                let mut out = start.clone();
                shared_product(left, right, &mut out, add);
                let mut alone = start.clone();
                rayon::ThreadPoolBuilder::new()
                    .num_threads(1)
                    .build()
                    .unwrap()
                    .install(|| shared_product(left, right, &mut alone, add));
                assert_eq!(out, alone, "threads change {rows}·{depth}·{columns}");
                for (i, found) in out.iter().enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let terms = (0..depth).map(|k| {
                        let at = |matrix: Matrix<'_>, row, column| {
                            f64::from(matrix.storage[row * matrix.row_stride + column * matrix.column_stride])
                        };
                        at(left, row, k) * at(right, k, column)
                    });
                    let expected = terms.sum::<f64>() + if add { f64::from(start[i]) } else { 0.0 };
                    assert!(
                        (f64::from(*found) - expected).abs() < rounding,
                        "{rows}·{depth}·{columns}, across {across}, add {add}, [{row}, {column}]: {found}, not {expected}"
                    );
                }
            }
        }
    }
}
