//! The right side of a product, packed.

use std::ops::Range;

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::fetch;
use super::{super::matrix::Matrix, Kernel, aligned};

/// Columns that are packed together: a row's part of them lies in a few cache lines one behind the other. Whole tiles of each
/// kernel.
pub(super) const TOGETHER: usize = 96;
/// Rows that are fetched before they are packed: large weights lie in memory, each row in another page.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8;
/// The most terms that are summed in registers.
const DEPTH: usize = 512;
/// What the number of terms of all blocks but the last one is a multiple of: each kernel's.
pub(super) const STEP: usize = 32;

/// The terms of a product, in blocks that are summed in registers.
pub(in super::super) fn blocks(terms: usize) -> impl Iterator<Item = Range<usize>> {
    let depth = depth(terms);
    (0..terms)
        .step_by(depth)
        .map(move |start| start..terms.min(start + depth))
}

/// How many terms a block of them has; the last one may have fewer.
fn depth(terms: usize) -> usize {
    let blocks = terms.div_ceil(DEPTH).max(1);
    terms.div_ceil(blocks).next_multiple_of(STEP).max(STEP)
}

/// The right side of a product, packed for a kernel: blocks of some rows, in each of them panels as wide as a tile, the last
/// one filled up with zeros.
pub(in super::super) struct Panels {
    kernel: &'static Kernel,
    buffer: Vec<f32>,
    /// The packed words in it: they begin with a line of the cache, so that a vector of AVX-512 is fetched at once.
    words: Range<usize>,
    pub rows: usize,
    pub columns: usize,
}

impl Panels {
    /// Packs `factor·right` into `buffer`, whose content is dropped; by all threads if `shared`.
    #[allow(unsafe_code, reason = "vectors of the processor")]
    pub fn pack(
        kernel: &'static Kernel,
        right: Matrix<'_>,
        factor: f32,
        mut buffer: Vec<f32>,
        shared: bool,
    ) -> Self {
        let width = right.columns.next_multiple_of(kernel.width);
        let words = aligned(&mut buffer, kernel.room(right.rows, width));
        let panels = buffer[words.clone()].chunks_mut(kernel.room(depth(right.rows), width).max(1));
        for (rows, words) in blocks(right.rows).zip(panels) {
            let rows = right.rows(rows);
            // One thread alone takes whole rows.
            let together = if shared { TOGETHER } else { width };
            let pack = |(i, panels): (usize, &mut [f32])| {
                let columns = i * together..right.columns.min((i + 1) * together);
                // SAFETY: the processor has what it takes, as only `Kernel::usable` gives kernels.
                unsafe { (kernel.pack)(rows.columns(columns), factor, panels) };
            };
            let some = kernel.room(rows.rows, together);
            if shared {
                words.par_chunks_mut(some).enumerate().for_each(pack);
            } else {
                words.chunks_mut(some).enumerate().for_each(pack);
            }
        }
        Self {
            kernel,
            buffer,
            words,
            rows: right.rows,
            columns: right.columns,
        }
    }

    /// What it is packed for.
    pub(super) fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    /// The buffer, to be used again.
    pub fn into_buffer(self) -> Vec<f32> {
        self.buffer
    }

    /// The panels of a block of rows.
    pub(super) fn block(&self, rows: Range<usize>) -> impl Iterator<Item = &[f32]> {
        let Self { kernel, .. } = self;
        let width = self.columns.next_multiple_of(kernel.width);
        let before = kernel.room(rows.start, width);
        let words = &self.buffer[self.words.clone()][before..][..kernel.room(rows.len(), width)];
        words.chunks_exact(kernel.room(rows.len(), kernel.width).max(1))
    }
}

/// `factor·right`, a few panels of `WIDTH` columns; compiled anew for each kernel.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn pack<const WIDTH: usize>(right: Matrix<'_>, factor: f32, panels: &mut [f32]) {
    let size = right.rows * WIDTH;
    let columns = |panel: usize| panel * WIDTH..right.columns.min((panel + 1) * WIDTH);
    if right.column_stride == 1 {
        // Row by row, as they lie in memory.
        for row in 0..right.rows {
            let values = &right.storage[row * right.row_stride..][..right.columns];
            let later = right
                .storage
                .as_ptr()
                .wrapping_add((row + AHEAD) * right.row_stride);
            fetch::row::<{ fetch::NEAREST }>(later, right.columns);
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
