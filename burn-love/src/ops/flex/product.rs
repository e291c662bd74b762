//! Products of matrices, by a kernel of our own or by `gemm`.

use std::{cell::Cell, mem::MaybeUninit};

use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use gemm::Parallelism;
use multiversion::multiversion;
use rayon::prelude::*;

use super::{
    CHUNK,
    kernel::{self, Kernel, Output, Panels, Start, blocks},
    matrix::Matrix,
    of_rows, zeros,
};

/// Multiplications from which a product is shared between threads.
const PARALLEL: usize = 192 * 192 * 192;

/// Rows of a piece of a shared product: enough that packing the right matrix for each piece costs little.
const ROWS: usize = 256;

/// Rows of a product from which it pays to pack the right matrix.
const FEW: usize = 16;
/// Rows up to which the left matrix stays near while columns of the right one come and go.
const LOW: usize = 512;
/// Words of the right matrix that are packed and multiplied at once where rows are few: the second cache holds them.
const WIDE: usize = 256 * 1024;
/// Elements of a piece of rows, as deep as a block of terms. Where they are not packed they stay in the second cache while all
/// columns come and go.
const PIECE: usize = 192 * 1024;

/// Multiplications from which it pays to pack.
const SMALL: usize = 64 * 64 * 64;

/// Multiplications from which the product of one row is shared.
const STRIPES: usize = 256 * 256;
/// Columns of its pieces.
const STRIPE: usize = 512;

/// Terms of a piece of a deep product's sums.
const TERMS: usize = 512;
/// The most elements of its output: `gemm` shares larger ones well between threads, but not those with little output.
const NARROW: usize = 64 * 1024;
/// The most pieces.
const PIECES: usize = 64;

/// Words of the right matrix that are packed at once.
const PACKED: usize = 4 * 1024 * 1024;

thread_local! {
    /// What panels were packed into last.
    static BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `out = factor·left·right`, or `out += factor·left·right`, by this thread alone; `out` has its rows one behind the other.
pub(super) fn product(left: Matrix<'_>, right: Matrix<'_>, factor: f32, out: &mut [f32], add: bool) {
    let Some(kernel) = packs(left, right).filter(|kernel| kernel.packs_left()) else {
        return multiply(left, right, factor, out, add, Parallelism::None);
    };
    assert!(right.fits());
    let panels = Panels::pack(kernel, right, factor, BUFFER.take(), false);
    kernel::multiply_into(left, &panels, out, add);
    BUFFER.set(panels.into_buffer());
}

/// As [`product`], by all threads where it is large: in pieces of rows, of terms where there are many for little output (such
/// as a weight's gradient), or of whatever `gemm` chooses. How sums are split does not depend on the number of threads, which
/// therefore changes nothing.
#[allow(unsafe_code, reason = "see `packed_product`")]
pub(super) fn shared_product(left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32], add: bool) {
    assert_eq!(left.columns, right.rows);
    assert_eq!(left.rows.checked_mul(right.columns), Some(out.len()));
    if let Some(kernel) = shares(left, right) {
        let begin = if add { Start::Output } else { Start::Zero };
        // SAFETY: `out` holds values, and nothing but values is written.
        return unsafe { packed_product(kernel, left, right, kernel::maybe(out), begin, None) };
    }
    if left.rows == 1 && right.column_stride == 1 && multiplications(left, right) >= STRIPES {
        return row_product(left, right, out, add);
    }
    if multiplications(left, right) < PARALLEL {
        return product(left, right, 1.0, out, add);
    }
    if deep(left, right) {
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

/// The product of one row, in stripes of columns: memory is what it takes.
fn row_product(left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32], add: bool) {
    out.par_chunks_mut(STRIPE).enumerate().for_each(|(i, out)| {
        if !add {
            out.fill(0.0);
        }
        let columns = i * STRIPE..i * STRIPE + out.len();
        add_rows(left, right.columns(columns), out);
    });
}

/// `out += left·right`, where `left` is one row and the elements of `right`'s rows lie one behind the other.
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma", "aarch64+neon"))]
fn add_rows(left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32]) {
    const TOGETHER: usize = 4;
    let factor = |term: usize| left.storage[term * left.column_stride];
    let row = |term: usize| &right.storage[term * right.row_stride..][..right.columns];
    let whole = right.rows - right.rows % TOGETHER;
    for term in (0..whole).step_by(TOGETHER) {
        let [a, b, c, d] = std::array::from_fn(|i| factor(term + i));
        let [x, y, z, w] = std::array::from_fn(|i| row(term + i));
        for ((((out, x), y), z), w) in out.iter_mut().zip(x).zip(y).zip(z).zip(w) {
            *out += (a * x + b * y) + (c * z + d * w);
        }
    }
    for term in whole..right.rows {
        let a = factor(term);
        out.iter_mut().zip(row(term)).for_each(|(out, x)| *out += a * x);
    }
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
    if let Some(kernel) = shares(left, right) {
        let count = left.rows * right.columns;
        let mut values = Vec::with_capacity(count);
        let begin = bias.map_or(Start::Zero, Start::Row);
        // SAFETY: there is room for so many, and a product that begins with anything but its output writes each.
        unsafe {
            packed_product(
                kernel,
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

/// The kernel, if a product is to be its.
fn packs(left: Matrix<'_>, right: Matrix<'_>) -> Option<&'static Kernel> {
    let large = left.rows >= FEW && multiplications(left, right) >= SMALL;
    Kernel::best(right.rows, right.columns)
        .filter(|kernel| large && (left.column_stride == 1 || kernel.packs_left()))
}

/// The kernel, if a product is to be its, by all threads in pieces of rows or columns. Where the left side is transposed, a deep
/// one is not: its few rows and columns would make pieces for few threads, and packing both sides is much of the work.
fn shares(left: Matrix<'_>, right: Matrix<'_>) -> Option<&'static Kernel> {
    packs(left, right).filter(|_| left.column_stride == 1 || !deep(left, right))
}

/// Whether a product has many terms for little output, such as a weight's gradient: its terms are what is shared.
fn deep(left: Matrix<'_>, right: Matrix<'_>) -> bool {
    let narrow = left.rows.saturating_mul(right.columns) <= NARROW;
    left.columns >= 2 * TERMS && narrow && multiplications(left, right) >= PARALLEL
}

fn multiplications(left: Matrix<'_>, right: Matrix<'_>) -> usize {
    left.rows
        .saturating_mul(left.columns)
        .saturating_mul(right.columns)
}

/// A product by the kernel.
///
/// # Safety
/// With [`Start::Output`], `out` holds values.
#[allow(unsafe_code, reason = "see `kernel::multiply`")]
unsafe fn packed_product(
    kernel: &'static Kernel,
    left: Matrix<'_>,
    right: Matrix<'_>,
    out: &mut [MaybeUninit<f32>],
    begin: Start<'_>,
    then: Option<Then>,
) {
    assert!(right.fits());
    assert_eq!(left.rows.checked_mul(right.columns), Some(out.len()));
    let shared = multiplications(left, right) >= PARALLEL;
    let threads = if shared { rayon::current_num_threads() } else { 1 };
    let product = Packed {
        kernel,
        left,
        right,
        out: Output::new(out, right.columns),
        begin,
        then,
        threads,
    };
    // SAFETY: the caller's, and `out` is borrowed here alone.
    unsafe {
        if left.rows <= LOW && right.columns >= 2 * parts(left.rows) * threads * kernel.width {
            product.low();
        } else {
            product.high(PACKED);
        }
    }
}

/// Parts of the columns, at least, that each thread has of a product of few rows. With more of them none waits for long; but the
/// fewer the rows, the more counts memory, which is fast where it is read in long rows.
fn parts(rows: usize) -> usize {
    if rows < 64 { 2 } else { 4 }
}

/// A product by the kernel, and by so many threads.
#[derive(Clone, Copy)]
struct Packed<'a> {
    kernel: &'static Kernel,
    left: Matrix<'a>,
    right: Matrix<'a>,
    out: Output<'a>,
    begin: Start<'a>,
    then: Option<Then>,
    threads: usize,
}

impl Packed<'_> {
    /// A product of few rows: some columns of the right matrix are packed and multiplied at once, while they are near.
    ///
    /// # Safety
    /// Nothing else uses the output meanwhile, and with [`Start::Output`] it holds values.
    #[allow(unsafe_code, reason = "see `kernel::multiply`")]
    unsafe fn low(self) {
        let Self { kernel, right, .. } = self;
        let panels = right.columns.div_ceil(kernel.width);
        let near = (WIDE / kernel.room(depth(right), kernel.width)).max(1);
        let parts = panels
            .div_ceil(near)
            .next_multiple_of(parts(self.left.rows) * self.threads)
            .min(panels);
        // As many panels for each as can be.
        let start = |part: usize| right.columns.min(part * panels / parts * kernel.width);
        self.each(parts, |part| {
            let columns = start(part)..start(part + 1);
            let out = self.out.columns(columns.clone());
            let mut buffer = BUFFER.take();
            for terms in blocks(right.rows) {
                let begin = if terms.start > 0 {
                    Start::Output
                } else {
                    self.begin.columns(columns.clone())
                };
                let some = right.rows(terms.clone()).columns(columns.clone());
                let panels = Panels::pack(kernel, some, 1.0, buffer, false);
                // SAFETY: only this part writes these columns; the first terms give them values, if the caller does not.
                unsafe { kernel::multiply(self.left.columns(terms), &panels, out, begin) };
                buffer = panels.into_buffer();
            }
            BUFFER.set(buffer);
            // SAFETY: the same, and now all of them hold values.
            unsafe { follow(out, self.then) };
        });
    }

    /// A product of many rows: the right matrix is packed once for all pieces of them, at most about `packed` words
    /// at a time.
    ///
    /// # Safety
    /// Nothing else uses the output meanwhile, and with [`Start::Output`] it holds values.
    #[allow(unsafe_code, reason = "see `kernel::multiply`")]
    unsafe fn high(self, packed: usize) {
        let Self {
            kernel, left, right, ..
        } = self;
        let step = (packed / kernel.room(right.rows, 1))
            .max(1)
            .next_multiple_of(kernel.width);
        // As many for each thread, two at least, so that none waits for long.
        let pieces = self.threads * (left.rows * depth(right)).div_ceil(PIECE * self.threads).max(2);
        let rows = left.rows.div_ceil(pieces).next_multiple_of(kernel.height);
        let mut buffer = BUFFER.take();
        for first in (0..right.columns).step_by(step) {
            let columns = first..right.columns.min(first + step);
            let some = right.columns(columns.clone());
            let panels = Panels::pack(kernel, some, 1.0, buffer, self.threads > 1);
            self.each(left.rows.div_ceil(rows), |piece| {
                let rows = piece * rows..left.rows.min((piece + 1) * rows);
                let out = self.out.rows(rows.clone()).columns(columns.clone());
                let begin = self.begin.columns(columns.clone());
                // SAFETY: only this piece writes these rows; they hold values behind the product.
                unsafe {
                    kernel::multiply(left.rows(rows), &panels, out, begin);
                    follow(out, self.then);
                }
            });
            buffer = panels.into_buffer();
        }
        BUFFER.set(buffer);
    }

    /// Does what is to be done for each of `count`.
    fn each(self, count: usize, work: impl Fn(usize) + Sync + Send) {
        if self.threads > 1 {
            (0..count).into_par_iter().for_each(work);
        } else {
            (0..count).for_each(work);
        }
    }
}

/// Terms of a block of them.
fn depth(right: Matrix<'_>) -> usize {
    blocks(right.rows).next().map_or(1, |terms| terms.len())
}

/// Does what is to be done to an output's values.
///
/// # Safety
/// It holds values, and nothing else uses it meanwhile.
#[allow(unsafe_code, reason = "see `kernel::multiply`")]
unsafe fn follow(out: Output<'_>, then: Option<Then>) {
    let Some(then) = then else { return };
    for row in 0..out.rows {
        // SAFETY: the caller's.
        unsafe {
            let row = out.row(row);
            then(std::slice::from_raw_parts_mut(row.as_mut_ptr().cast(), row.len()));
        }
    }
}

/// The right side of several products: `factor·matrix`.
pub(super) enum Right<'a> {
    Plain(Matrix<'a>, f32),
    Packed(Panels),
}

impl<'a> Right<'a> {
    /// `packed` where many rows in all come from the left, each with its elements one behind the other.
    pub fn new(matrix: Matrix<'a>, factor: f32, packed: bool) -> Self {
        match Kernel::best(matrix.rows, matrix.columns).filter(|_| packed) {
            Some(kernel) => {
                assert!(matrix.fits());
                Self::Packed(Panels::pack(kernel, matrix, factor, Vec::new(), false))
            }
            None => Self::Plain(matrix, factor),
        }
    }

    /// `out = left·self`, or `out += left·self`, by this thread alone.
    pub fn multiply(&self, left: Matrix<'_>, out: &mut [f32], add: bool) {
        match self {
            Self::Plain(right, factor) => product(left, *right, *factor, out, add),
            Self::Packed(panels) => kernel::multiply_into(left, panels, out, add),
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
    use super::{super::kernel::tests::numbers, *};

    #[test]
    #[allow(unsafe_code, reason = "see `Packed::high`")]
    #[allow(clippy::print_stderr, reason = "a test that skips itself says so")]
    fn columns_in_several_passes_give_the_same() {
        let Some(kernel) = Kernel::best(530, 200) else {
            eprintln!("skipped: this processor has no kernel");
            return;
        };
        let (a, b, bias) = (numbers(600 * 530, 1), numbers(530 * 200, 2), numbers(200, 3));
        let (left, right) = (Matrix::dense(&a, 600, 530), Matrix::dense(&b, 530, 200));
        let then: Then = |row| row.iter_mut().for_each(|x| *x = 2.0 * *x + 1.0);
        let in_passes = |packed: usize| {
            let mut out = vec![f32::NAN; 600 * 200];
            // SAFETY: `out` is borrowed here alone.
            unsafe {
                let product = Packed {
                    kernel,
                    left,
                    right,
                    out: Output::new(kernel::maybe(&mut out), 200),
                    begin: Start::Row(&bias),
                    then: Some(then),
                    threads: 2,
                };
                product.high(packed);
            }
            out
        };
        let at_once = in_passes(PACKED);
        assert_eq!(at_once, in_passes(1));
        assert_eq!(at_once, in_passes(100 * 530));
        let whole = fresh_product(left, right, Some(&bias), Some(then));
        assert_eq!(at_once, whole.storage::<f32>());
    }

    #[test]
    fn products_of_all_sizes_and_orders_are_sums_of_products() {
        let sizes = [
            [1, 1, 1],
            [1, 301, 1100],
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
