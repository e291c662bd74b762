//! Products of f32 by AMX, whose tiles multiply bf16: a number is the sum of three of those, exactly, and of the nine products of
//! two numbers' parts the six largest are summed, in f32. What is left out is below 2⁻²⁴ of the product, as its rounding is (after
//! Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype", 2019).
//!
//! Numbers below f32's normal range count as zero; an infinite one, or one above 3.39·10³⁸, makes sums that are not numbers.

#![allow(unsafe_code, reason = "registers of the processor")]

use std::{
    arch::{
        asm,
        x86_64::{
            __cpuid, __cpuid_count, __m512, __m512i, __mmask16, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch,
            _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
            _mm512_loadu_ps, _mm512_loadu_si512, _mm512_maskz_loadu_ps, _mm512_mul_ps,
            _mm512_permutex2var_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_shuffle_i32x4,
            _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
            _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
            _mm512_unpacklo_epi64,
        },
    },
    mem::MaybeUninit,
    sync::OnceLock,
};

use super::{
    super::matrix::Matrix,
    Kernel, LINE, PackLeft, SUMS, Sums, Tile,
    panels::{TERMS, TOGETHER},
};

/// Rows or columns of a register, and pairs of terms.
const SIDE: usize = 16;
/// Parts of a number, the lowest first.
const PARTS: usize = 3;
/// Words of a register.
const REGISTER: usize = SIDE * SIDE;
/// Where a word has its bf16.
const UPPER_HALF: i32 = !0xffff;
/// Rows or columns of a tile of sums: two registers each way, and the other four for both sides.
const TILE: usize = 2 * SIDE;

pub(super) static KERNEL: Kernel = Kernel {
    height: TILE,
    width: TILE,
    grain: [SIDE, SIDE],
    least: TILE,
    terms: TERMS,
    halves: PARTS,
    sums: choose,
    pack: pack_right,
    left: Some(PackLeft {
        rows: 4 * TILE,
        pack: pack_left,
    }),
    around: [configure, release],
};
const _: () =
    assert!(TERMS == 2 * SIDE && TILE * TILE <= SUMS && TOGETHER.is_multiple_of(TILE) && SIDE == LINE);

/// Whether the processor has AMX for bf16, with the vectors that pack its sides, and the system lets this process use it.
pub(super) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| {
        const LEAF: u32 = 7;
        const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
        let vectors = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        vectors
            && __cpuid(0).eax >= LEAF
            && __cpuid_count(LEAF, 0).edx & BF16_AND_TILES == BF16_AND_TILES
            && permitted()
    })
}

/// Asks Linux for the registers' room in this process's state; older ones, and those that do not know the registers, refuse.
fn permitted() -> bool {
    const REQUEST_PERMISSION: libc::c_long = 0x1023; // ARCH_REQ_XCOMP_PERM
    const TILE_DATA: libc::c_long = 18; // the state's number, XFEATURE_XTILEDATA
    // SAFETY: the call touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

/// What the registers hold: 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Gives this thread's registers their shapes.
///
/// # Safety
/// The processor has AMX, and the system lets this process use it.
unsafe fn configure() {
    static SHAPES: Shapes = Shapes {
        palette: 1,
        start: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    // SAFETY: the caller's; the shapes are as the first palette has them.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly, preserves_flags)) }
}

/// Gives the registers back: threads are switched faster without them.
///
/// # Safety
/// The processor has AMX.
unsafe fn release() {
    // SAFETY: the caller's.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
}

fn choose(rows: usize, columns: usize) -> Sums {
    match [rows / SIDE, columns / SIDE] {
        [1, 1] => sums::<1, 1>,
        [1, 2] => sums::<1, 2>,
        [2, 1] => sums::<2, 1>,
        [2, 2] => sums::<2, 2>,
        _ => unreachable!("a tile has {TILE} rows and columns at most"),
    }
}

/// `H` by `V` registers of sums.
///
/// # Safety
/// The registers have their shapes. Both sides are packed, of `depth` terms and whole tiles; the output has `H` times 16 rows of
/// `V` times 16 columns, and so has `begin`, by its own stride.
#[target_feature(enable = "avx512f")]
unsafe fn sums<const H: usize, const V: usize>(tile: Tile) {
    let Tile {
        depth,
        left,
        right,
        out,
        stride,
        begin,
        ahead,
        ..
    } = tile;
    for row in 0..H * SIDE {
        // The output is needed at the end.
        let row = out.wrapping_add(row * stride);
        for i in 0..V {
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(i * SIDE).cast());
        }
        _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(V * SIDE - 1).cast());
    }
    let mut near = MaybeUninit::<[[f32; TILE]; TILE]>::uninit();
    let (to, to_stride) = if begin.is_some() {
        (near.as_mut_ptr().cast(), TILE)
    } else {
        (out, stride)
    };
    // SAFETY: a step of both sides is two registers of each part, low, middle and high; the rest is the caller's.
    unsafe {
        asm!(
            ".macro burn_love_left part",
            "tileloadd tmm4, [{left} + {line} + 2048 * \\part]",
            ".if {h} > 1",
            "tileloadd tmm5, [{left} + {line} + 2048 * \\part + 1024]",
            ".endif",
            ".endm",
            ".macro burn_love_right part",
            "tileloadd tmm6, [{right} + {line} + 2048 * \\part]",
            ".if {v} > 1",
            "tileloadd tmm7, [{right} + {line} + 2048 * \\part + 1024]",
            ".endif",
            ".endm",
            ".macro burn_love_multiply",
            "tdpbf16ps tmm0, tmm4, tmm6",
            ".if {v} > 1",
            "tdpbf16ps tmm1, tmm4, tmm7",
            ".endif",
            ".if {h} > 1",
            "tdpbf16ps tmm2, tmm5, tmm6",
            ".if {v} > 1",
            "tdpbf16ps tmm3, tmm5, tmm7",
            ".endif",
            ".endif",
            ".endm",
            // The next step's part of a side.
            ".macro burn_love_fetch side part",
            ".irp first, 0, 512, 1024, 1536",
            ".irp line, 0, 64, 128, 192, 256, 320, 384, 448",
            "prefetcht0 [\\side + 6144 + 2048 * \\part + \\first + \\line]",
            ".endr",
            ".endr",
            ".endm",
            // What later tiles read, a third of what a step fetches.
            ".macro burn_love_ahead third",
            ".irp line, 0, 64, 128, 192, 256, 320, 384, 448",
            "prefetcht1 [{ahead} + 512 * \\third + \\line]",
            ".endr",
            ".endm",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "burn_love_left 0",
            "burn_love_right 2",
            "burn_love_multiply",
            "burn_love_fetch {left} 0",
            "burn_love_left 1",
            "burn_love_multiply",
            "burn_love_fetch {right} 2",
            "burn_love_ahead 0",
            "burn_love_right 1",
            "burn_love_multiply",
            "burn_love_fetch {left} 1",
            "burn_love_left 2",
            "burn_love_multiply",
            "burn_love_fetch {right} 1",
            "burn_love_ahead 1",
            "burn_love_right 0",
            "burn_love_multiply",
            "burn_love_fetch {left} 2",
            "burn_love_right 2",
            "burn_love_multiply",
            "burn_love_fetch {right} 0",
            "burn_love_ahead 2",
            "add {left}, 6144",
            "add {right}, 6144",
            "add {ahead}, 1536",
            "dec {steps}",
            "jnz 2b",
            ".purgem burn_love_left",
            ".purgem burn_love_right",
            ".purgem burn_love_multiply",
            ".purgem burn_love_fetch",
            ".purgem burn_love_ahead",
            "tilestored [{out} + {stride}], tmm0",
            ".if {v} > 1",
            "tilestored [{out} + {stride} + 64], tmm1",
            ".endif",
            ".if {h} > 1",
            "tilestored [{out_below} + {stride}], tmm2",
            ".if {v} > 1",
            "tilestored [{out_below} + {stride} + 64], tmm3",
            ".endif",
            ".endif",
            h = const H,
            v = const V,
            line = in(reg) 64_usize,
            out = in(reg) to,
            out_below = in(reg) to.wrapping_add(SIDE * to_stride),
            stride = in(reg) to_stride * size_of::<f32>(),
            left = inout(reg) left => _,
            right = inout(reg) right => _,
            ahead = inout(reg) ahead => _,
            steps = inout(reg) depth.div_ceil(TERMS) => _,
            options(nostack),
        );
    }
    let Some((begin, begin_stride)) = begin else {
        return;
    };
    let near: *const f32 = near.as_ptr().cast();
    for row in 0..H * SIDE {
        for i in (0..V * SIDE).step_by(SIDE) {
            // SAFETY: the sums are in `near`; output and `begin` are as the caller says.
            unsafe {
                let sum = _mm512_loadu_ps(near.add(row * TILE + i));
                let begin = _mm512_loadu_ps(begin.add(row * begin_stride + i));
                _mm512_storeu_ps(out.add(row * stride + i), _mm512_add_ps(sum, begin));
            }
        }
    }
}

/// The left side: tiles of rows, in each the steps of terms, in each the parts, in each two registers of 16 rows, of 32 terms
/// one behind the other.
///
/// # Safety
/// The processor has AVX-512 with bytes and words.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_left(left: Matrix<'_>, tiles: &mut [f32]) {
    let steps = left.columns.div_ceil(TERMS);
    for (i, tile) in tiles.chunks_exact_mut(steps * PARTS * TILE * SIDE).enumerate() {
        for half in 0..2 {
            let first = i * TILE + half * SIDE;
            if first >= left.rows {
                continue; // of no row that is asked for
            }
            let rows = left.rows(first..left.rows.min(first + SIDE));
            for (step, out) in tile.chunks_exact_mut(PARTS * TILE * SIDE).enumerate() {
                let terms = step * TERMS..left.columns.min((step + 1) * TERMS);
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
unsafe fn pack_right(right: Matrix<'_>, factor: f32, panels: &mut [f32]) {
    let steps = right.rows.div_ceil(TERMS);
    let right = right.transposed();
    let size = PARTS * TILE * SIDE;
    for step in 0..steps {
        let terms = right.columns(step * TERMS..right.columns.min((step + 1) * TERMS));
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
    assert!(lines.rows <= SIDE && lines.columns <= TERMS && lines.fits());
    assert_eq!(out.len(), PARTS * TILE * SIDE);
    let mut near = [0.0; SIDE * TERMS];
    let lines = if lines.row_stride == 1 || lines.column_stride == 1 {
        lines
    } else {
        for (row, near) in (0..lines.rows).zip(near.chunks_exact_mut(TERMS)) {
            for (column, near) in (0..lines.columns).zip(near) {
                *near = lines.storage[row * lines.row_stride + column * lines.column_stride];
            }
        }
        let [rows, columns] = [lines.rows, lines.columns];
        Matrix {
            rows,
            columns,
            ..Matrix::dense(&near, SIDE, TERMS)
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
    const UPPER: [u16; TERMS] = {
        let mut upper = [0; TERMS];
        let mut i = 0;
        while i < TERMS {
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
        let next = values.as_ptr().wrapping_add(TERMS * lines.column_stride);
        _mm_prefetch::<_MM_HINT_T1>(next.cast());
        split(load(values, factor))
    };
    let (earlier, later) = (term(2 * pair), term(2 * pair + 1));
    // The lower half of a part is zero, unless it is below f32's normal range.
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

/// Three numbers each, the lowest first, that add up to it; their lower halves are zero, but for those below f32's normal range.
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
