//! Both sides of a product as AMX's tiles read them: numbers in three parts each.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_loadu_si512, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_permutex2var_epi16, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_shuffle_i32x4, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_sub_ps,
    _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

use super::{
    super::{super::matrix::Matrix, fetch},
    PARTS, REGISTER, SIDE, STEP, TILE,
};

/// Where a word has its bf16.
const UPPER_HALF: i32 = !0xffff;

/// The left side: tiles of rows, in each the steps of terms, in each the parts, in each two registers of 16 rows, of 32 terms
/// one behind the other.
///
/// # Safety
/// The processor has AVX-512 with bytes and words.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn left(left: Matrix<'_>, tiles: &mut [f32]) {
    let steps = left.columns.div_ceil(STEP);
    for (i, tile) in tiles.chunks_exact_mut(steps * PARTS * TILE * SIDE).enumerate() {
        for half in 0..2 {
            let first = i * TILE + half * SIDE;
            if first >= left.rows {
                continue; // of no row that is asked for
            }
            let rows = left.rows(first..left.rows.min(first + SIDE));
            for (step, out) in tile.chunks_exact_mut(PARTS * TILE * SIDE).enumerate() {
                let terms = step * STEP..left.columns.min((step + 1) * STEP);
                pack(rows.columns(terms), 1.0, Order::Lines, half, out);
            }
        }
    }
}

/// The right side: panels of columns, in each the steps of terms, in each the parts, in each two registers of 16 pairs of terms,
/// of 16 columns.
///
/// # Safety
/// The processor has AVX-512 with bytes and words.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn right(right: Matrix<'_>, factor: f32, panels: &mut [f32]) {
    let steps = right.rows.div_ceil(STEP);
    let right = right.transposed();
    let size = PARTS * TILE * SIDE;
    for step in 0..steps {
        let terms = right.columns(step * STEP..right.columns.min((step + 1) * STEP));
        for (i, panel) in panels.chunks_exact_mut(steps * size).enumerate() {
            let out = &mut panel[step * size..][..size];
            for half in 0..2 {
                let first = i * TILE + half * SIDE;
                let columns = if first < terms.rows {
                    terms.rows(first..terms.rows.min(first + SIDE))
                } else {
                    Matrix { rows: 0, ..terms }
                };
                pack(columns, factor, Order::Pairs, half, out);
            }
        }
    }
}

/// What lies one behind the other in a register's line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The terms of one row.
    Lines,
    /// A pair of terms of each column.
    Pairs,
}

/// `factor` times 16 lines of 32 terms, or fewer, which are filled up with zeros: a register for each part.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pack(lines: Matrix<'_>, factor: f32, order: Order, half: usize, out: &mut [f32]) {
    assert!(lines.rows <= SIDE && lines.columns <= STEP && lines.fits());
    assert_eq!(out.len(), PARTS * TILE * SIDE);
    let mut near;
    let lines = if lines.row_stride == 1 || lines.column_stride == 1 {
        lines
    } else {
        near = [0.0; SIDE * STEP];
        for (row, near) in (0..lines.rows).zip(near.chunks_exact_mut(STEP)) {
            for (column, near) in (0..lines.columns).zip(near) {
                *near = lines.storage[row * lines.row_stride + column * lines.column_stride];
            }
        }
        let [rows, columns] = [lines.rows, lines.columns];
        Matrix {
            rows,
            columns,
            ..Matrix::dense(&near, SIDE, STEP)
        }
    };
    let found = if lines.column_stride == 1 {
        Order::Lines
    } else {
        Order::Pairs
    };
    let mut put = |i: usize, part: usize, words: __m512i| {
        let start = (2 * part + half) * REGISTER + i * SIDE;
        let out = &mut out[start..start + SIDE];
        // SAFETY: a line has 16 words.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) };
    };
    let line = |i: usize| match found {
        Order::Lines => row(lines, factor, i),
        Order::Pairs => pair(lines, factor, i),
    };
    if found == order {
        for i in 0..SIDE {
            for (part, words) in line(i).into_iter().enumerate() {
                put(i, part, words);
            }
        }
        return;
    }
    let mut parts = [[_mm512_set1_epi32(0); SIDE]; PARTS];
    for i in 0..SIDE {
        for (part, words) in parts.iter_mut().zip(line(i)) {
            part[i] = words;
        }
    }
    for (part, words) in parts.into_iter().enumerate() {
        for (i, words) in transposed(words).into_iter().enumerate() {
            put(i, part, words);
        }
    }
}

/// The parts of the terms of a row, one behind the other; zeros if there is no such row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn row(lines: Matrix<'_>, factor: f32, row: usize) -> [__m512i; PARTS] {
    /// The upper halves of one vector, then those of another one.
    const UPPER: [u16; STEP] = {
        let mut upper = [0; STEP];
        let mut i = 0;
        while i < STEP {
            upper[i] = 2 * i as u16 + 1;
            i += 1;
        }
        upper
    };
    if row >= lines.rows {
        return [_mm512_set1_epi32(0); PARTS];
    }
    let values = &lines.storage[row * lines.row_stride..][..lines.columns];
    let later = &values[values.len().min(SIDE)..];
    let earlier = split(load(values, factor));
    let later = split(load(later, factor));
    // SAFETY: as many words as a vector has.
    let upper = unsafe { _mm512_loadu_si512(UPPER.as_ptr().cast()) };
    std::array::from_fn(|part| _mm512_permutex2var_epi16(earlier[part], upper, later[part]))
}

/// The parts of a pair of terms of each row; zeros if there are no such terms.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pair(lines: Matrix<'_>, factor: f32, pair: usize) -> [__m512i; PARTS] {
    let term = |term: usize| {
        if term >= lines.columns {
            return [_mm512_set1_epi32(0); PARTS];
        }
        let start = term * lines.column_stride;
        let values = &lines.storage[start..start + lines.rows];
        let next = values.as_ptr().wrapping_add(STEP * lines.column_stride);
        fetch::line::<{ fetch::SECOND }>(next);
        split(load(values, factor))
    };
    let (earlier, later) = (term(2 * pair), term(2 * pair + 1));
    // The lower half of a part is zero, unless it is below f32's normal range or no number.
    const A_OR_B_AND_C: i32 = 0xf8;
    let upper = _mm512_set1_epi32(UPPER_HALF);
    std::array::from_fn(|part| {
        let earlier = _mm512_srli_epi32::<16>(earlier[part]);
        _mm512_ternarylogic_epi32::<A_OR_B_AND_C>(earlier, later[part], upper)
    })
}

/// `factor` times the first 16 values, or those that there are, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(values: &[f32], factor: f32) -> __m512 {
    let there: __mmask16 = if values.len() < SIDE {
        (1 << values.len()) - 1
    } else {
        !0
    };
    // SAFETY: only values that are there are read.
    let values = unsafe { _mm512_maskz_loadu_ps(there, values.as_ptr()) };
    _mm512_mul_ps(values, _mm512_set1_ps(factor))
}

/// Three numbers each, the lowest first, that add up to it; their lower halves are zero, but for those below f32's
/// normal range and what is no number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn split(x: __m512) -> [__m512i; PARTS] {
    let upper = |x| {
        let rounded = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(1 << 15));
        _mm512_and_si512(rounded, _mm512_set1_epi32(UPPER_HALF))
    };
    let high = upper(x);
    let rest = _mm512_sub_ps(x, _mm512_castsi512_ps(high));
    let middle = upper(rest);
    let low = _mm512_sub_ps(rest, _mm512_castsi512_ps(middle));
    [_mm512_castps_si512(low), middle, high]
}

/// Words of 16 lines, the first ones of each in the first line, and so on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(lines: [__m512i; SIDE]) -> [__m512i; SIDE] {
    // Squares of 2 by 2 words, then of 4 by 4 within each quarter of a vector; then quarters change places.
    let mut squares = lines;
    for i in (0..SIDE).step_by(2) {
        squares[i] = _mm512_unpacklo_epi32(lines[i], lines[i + 1]);
        squares[i + 1] = _mm512_unpackhi_epi32(lines[i], lines[i + 1]);
    }
    let mut quarters = squares;
    for i in (0..SIDE).step_by(4) {
        let [a, b, c, d] = [squares[i], squares[i + 1], squares[i + 2], squares[i + 3]];
        quarters[i] = _mm512_unpacklo_epi64(a, c);
        quarters[i + 1] = _mm512_unpackhi_epi64(a, c);
        quarters[i + 2] = _mm512_unpacklo_epi64(b, d);
        quarters[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    let mut out = lines;
    for i in 0..4 {
        let [a, b, c, d] = [quarters[i], quarters[i + 4], quarters[i + 8], quarters[i + 12]];
        let [ab, cd] = [
            _mm512_shuffle_i32x4::<0x88>(a, b),
            _mm512_shuffle_i32x4::<0x88>(c, d),
        ];
        out[i] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
        out[i + 8] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
        let [ab, cd] = [
            _mm512_shuffle_i32x4::<0xdd>(a, b),
            _mm512_shuffle_i32x4::<0xdd>(c, d),
        ];
        out[i + 4] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
        out[i + 12] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
    }
    out
}
