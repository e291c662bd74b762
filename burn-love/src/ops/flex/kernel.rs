//! A product of matrices for processors with AVX2, AVX-512 or AMX: tiles of sums in registers, the right side packed in the
//! order in which they read it (after Goto and van de Geijn, 2008). Elsewhere `gemm` multiplies.
//!
//! An element is the same sum, whatever the tile, the piece and the thread that it falls to, and the same for AVX2 and AVX-512.

use std::{cell::Cell, marker::PhantomData, mem::MaybeUninit, ops::Range};

use super::matrix::Matrix;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod fetch;
mod panels;
#[cfg(target_arch = "x86_64")]
mod vectors;

pub(super) use panels::{Panels, blocks};

/// Words of panels that rows meet one behind the other before the next rows do: they stay in the second cache, and parts of an
/// output's row are written in a row.
const GROUP: usize = 96 * 1024;
/// The most sums in a tile.
const SUMS: usize = 32 * 32;
/// Words in a line of the cache.
const LINE: usize = 16;

thread_local! {
    /// What a left side was packed into last.
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// What multiplies tiles with some processors' registers.
#[derive(Debug)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "other processors have none")
)]
pub(super) struct Kernel {
    #[allow(dead_code, reason = "tests name the kernel that failed")]
    name: &'static str,
    /// Rows of a tile: with its columns, as many sums as the registers hold beside what they are made of.
    pub height: usize,
    /// Columns of a tile.
    pub width: usize,
    /// Rows and columns of a register: a tile that is not whole has multiples of them.
    register: [usize; 2],
    /// Terms and columns from which it is faster than the next kernel.
    least: usize,
    /// Terms of which a packed side has multiples.
    terms: usize,
    /// Half words that a number takes in a packed side: two of an f32, three of three bf16.
    halves: usize,
    /// What computes so many rows and columns.
    sums: fn(usize, usize) -> Sums,
    /// Packs a few panels of `factor·right`.
    pack: unsafe fn(Matrix<'_>, f32, &mut [f32]),
    /// How the left side is packed, if it is not read where it lies.
    left: Option<PackLeft>,
    /// What a thread does before it computes, and behind that: AMX has registers whose shapes are configured.
    switch: [unsafe fn(); 2],
}

/// # Safety
/// The processor has what the kernel takes, which is [`Ready`] in this thread, and the tile's sides are as long as it says.
type Sums = unsafe fn(Tile);

/// Sums of products, of whole registers.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "other processors have no kernel that reads them")
)]
struct Tile {
    /// Terms.
    depth: usize,
    left: *const f32,
    /// Of the left side's rows, unless it is packed.
    left_stride: usize,
    /// Packed.
    right: *const f32,
    out: *mut f32,
    /// Of the output's rows.
    stride: usize,
    /// What is added to the sums, and the stride of its rows.
    begin: Option<(*const f32, usize)>,
    /// What later tiles read: the second cache may fetch a few lines of it with each step of terms.
    ahead: *const f32,
}

/// How a left side is packed, tile by tile.
#[derive(Debug)]
struct PackLeft {
    /// Rows that are packed at once: they stay in the second cache, beside a group of panels.
    rows: usize,
    pack: unsafe fn(Matrix<'_>, &mut [f32]),
}

impl Kernel {
    /// The kernels that this processor has all it takes for, the best one first.
    #[cfg(target_arch = "x86_64")]
    pub fn usable() -> impl Iterator<Item = &'static Self> {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f");
        #[cfg(target_os = "linux")]
        let amx = amx::usable().then_some(&amx::KERNEL);
        #[cfg(not(target_os = "linux"))]
        let amx = None;
        let vectors = [avx512.then_some(&vectors::AVX512), avx2.then_some(&vectors::AVX2)];
        amx.into_iter().chain(vectors.into_iter().flatten())
    }

    /// None for other processors.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn usable() -> impl Iterator<Item = &'static Self> {
        std::iter::empty()
    }

    /// The best one for products of so many terms and columns, if there is any.
    pub fn best(terms: usize, columns: usize) -> Option<&'static Self> {
        Self::usable().find(|kernel| terms.min(columns) >= kernel.least)
    }

    /// Whether the left side may lie in memory as it likes, rather than with the elements of a row one behind the other.
    pub fn packs_left(&self) -> bool {
        self.left.is_some()
    }

    /// Words that `terms` of `lines` rows or columns take, packed.
    pub fn room(&self, terms: usize, lines: usize) -> usize {
        terms.next_multiple_of(self.terms) * lines * self.halves / 2
    }
}

/// Nothing before or behind.
#[cfg(target_arch = "x86_64")]
fn nothing() {}

/// A kernel that this thread may compute with.
struct Ready(&'static Kernel);

#[allow(unsafe_code, reason = "registers of the processor")]
impl Ready {
    fn new(kernel: &'static Kernel) -> Self {
        // SAFETY: the processor has what it takes, as only `Kernel::usable` gives kernels.
        unsafe { kernel.switch[0]() };
        Self(kernel)
    }
}

#[allow(unsafe_code, reason = "registers of the processor")]
impl Drop for Ready {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe { self.0.switch[1]() };
    }
}

/// The part of `buffer` that begins with a line of the cache and has `words` words; the buffer grows if need be.
fn aligned(buffer: &mut Vec<f32>, words: usize) -> Range<usize> {
    if buffer.len() < words + LINE {
        buffer.clear();
        buffer.resize(words + LINE, 0.0);
    }
    let skipped = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    skipped..skipped + words
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

/// `out = start + left·right` by this thread alone. Unless the kernel packs the left side, the elements of its rows lie one
/// behind the other.
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
    assert!(left.columns > 0 && left.fits());
    let kernel = right.kernel();
    let mut buffer = LEFT.take();
    let ready = Ready::new(kernel);
    for terms in blocks(left.columns) {
        let begin = if terms.start > 0 { Start::Output } else { begin };
        let left = left.columns(terms.clone());
        let panels: Vec<_> = right.block(terms).collect();
        let together = kernel.left.as_ref().map_or(left.rows, |left| left.rows).max(1);
        for first in (0..left.rows).step_by(together) {
            let rows = first..left.rows.min(first + together);
            let (left, out) = (left.rows(rows.clone()), out.rows(rows));
            let left = Left::new(kernel, left, &mut buffer);
            // SAFETY: the first block of terms has written all there is, if the caller has not.
            unsafe { rows_by_panels(&ready, left, &panels, out, begin) };
        }
    }
    LEFT.set(buffer);
}

/// The left side of a block of terms.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// Where it lies.
    Plain(Matrix<'a>),
    Packed {
        rows: usize,
        terms: usize,
        tiles: &'a [f32],
    },
}

impl<'a> Left<'a> {
    /// Packs it into `buffer`, if that is the kernel's way.
    #[allow(unsafe_code, reason = "registers of the processor")]
    fn new(kernel: &Kernel, matrix: Matrix<'a>, buffer: &'a mut Vec<f32>) -> Self {
        let Some(left) = &kernel.left else {
            return Self::Plain(matrix);
        };
        let rows = matrix.rows.next_multiple_of(kernel.height);
        let words = aligned(buffer, kernel.room(matrix.columns, rows));
        let tiles = &mut buffer[words];
        // SAFETY: the processor has what it takes, as only `Kernel::usable` gives kernels.
        unsafe { (left.pack)(matrix, tiles) };
        Self::Packed {
            rows: matrix.rows,
            terms: matrix.columns,
            tiles,
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Plain(matrix) => matrix.rows,
            Self::Packed { rows, .. } => *rows,
        }
    }

    fn terms(&self) -> usize {
        match self {
            Self::Plain(matrix) => matrix.columns,
            Self::Packed { terms, .. } => *terms,
        }
    }

    /// Rows of one tile.
    fn tile(self, kernel: &Kernel, rows: Range<usize>) -> Self {
        match self {
            Self::Plain(matrix) => Self::Plain(matrix.rows(rows)),
            Self::Packed { terms, tiles, .. } => {
                let words = kernel.room(terms, kernel.height);
                Self::Packed {
                    rows: rows.len(),
                    terms,
                    tiles: &tiles[rows.start / kernel.height * words..][..words],
                }
            }
        }
    }
}

/// A block of terms: rows meet a group of panels before the next rows do.
///
/// # Safety
/// Nothing else uses this part of the output meanwhile, and with [`Start::Output`] it holds values.
#[allow(unsafe_code, reason = "see `multiply`")]
unsafe fn rows_by_panels(
    ready: &Ready,
    left: Left<'_>,
    panels: &[&[f32]],
    out: Output<'_>,
    begin: Start<'_>,
) {
    let kernel = ready.0;
    let Kernel { height, width, .. } = *kernel;
    let words = kernel.room(left.terms(), width);
    let together = (GROUP / words).max(1);
    let tiles = left.rows().div_ceil(height);
    for (i, group) in panels.chunks(together).enumerate() {
        for (tile_row, row) in (0..left.rows()).step_by(height).enumerate() {
            let rows = row..left.rows().min(row + height);
            let (left, out) = (left.tile(kernel, rows.clone()), out.rows(rows));
            for (j, panel) in group.iter().enumerate() {
                let index = i * together + j;
                let columns = index * width..out.columns.min((index + 1) * width);
                let (out, begin) = (out.columns(columns.clone()), begin.columns(columns));
                // The same panel of the next group, or of the first one, a part of it for each row of tiles.
                let next = panels.get(index + together).unwrap_or(&panels[j]);
                let ahead = next.as_ptr().wrapping_add(tile_row * (words / tiles));
                // SAFETY: the caller's.
                unsafe { tile(ready, left, panel, ahead, out, begin) };
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
unsafe fn tile(
    ready: &Ready,
    left: Left<'_>,
    right: &[f32],
    ahead: *const f32,
    out: Output<'_>,
    begin: Start<'_>,
) {
    let kernel = ready.0;
    let [rows, columns] = kernel.register;
    if out.rows.is_multiple_of(rows) && out.columns.is_multiple_of(columns) {
        // SAFETY: the caller's.
        return unsafe { sums(ready, left, right, ahead, out, begin) };
    }
    let mut whole = [MaybeUninit::uninit(); SUMS];
    let rows = out.rows.next_multiple_of(rows);
    let whole = Output::new(&mut whole[..rows * kernel.width], kernel.width);
    // SAFETY: nothing is read.
    unsafe {
        let whole = whole.columns(0..out.columns.next_multiple_of(columns));
        sums(ready, left, right, ahead, whole, Start::Zero);
    }
    for i in 0..out.rows {
        // SAFETY: as many columns of `whole` as `out` has hold values, and so does `out` where the caller says so; nothing else
        // uses either.
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

/// A tile of whole registers.
///
/// # Safety
/// Nothing else uses this part of the output meanwhile, and with [`Start::Output`] it holds values.
#[allow(unsafe_code, reason = "registers of the processor")]
unsafe fn sums(
    ready: &Ready,
    left: Left<'_>,
    right: &[f32],
    ahead: *const f32,
    out: Output<'_>,
    begin: Start<'_>,
) {
    let kernel = ready.0;
    let [rows, columns] = kernel.register;
    assert!(out.rows.is_multiple_of(rows) && out.columns.is_multiple_of(columns));
    assert_eq!(out.rows, left.rows().next_multiple_of(rows));
    assert_eq!(right.len(), kernel.room(left.terms(), kernel.width));
    let (from, left_stride) = match left {
        Left::Plain(left) => {
            assert!(left.fits() && left.column_stride == 1);
            (left.storage.as_ptr(), left.row_stride)
        }
        Left::Packed { terms, tiles, .. } => {
            assert_eq!(tiles.len(), kernel.room(terms, kernel.height));
            (tiles.as_ptr(), 0)
        }
    };
    let begin = match begin {
        Start::Zero => None,
        Start::Output => Some((out.values.cast_const(), out.stride)),
        Start::Row(row) => {
            assert_eq!(row.len(), out.columns);
            Some((row.as_ptr(), 0))
        }
    };
    let run = (kernel.sums)(out.rows, out.columns);
    // SAFETY: the kernel is ready, so the processor has what it takes; all sides are as long as asserted above.
    unsafe {
        run(Tile {
            depth: left.terms(),
            left: from,
            left_stride,
            right: right.as_ptr(),
            out: out.values,
            stride: out.stride,
            begin,
            ahead,
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
