//! Products of f32 by AMX, whose tiles multiply bf16: a number is the sum of three of those, exactly, and of the nine products of
//! two numbers' parts the six largest are summed, in f32. What is left out is below 2⁻²⁴ of the product, as its rounding is (after
//! Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype", 2019).
//!
//! Parts, products and sums below f32's normal range count as zero, so that digits are lost already in numbers below 2⁻¹⁰². An
//! infinite number, or one from 3.396·10³⁸ upwards, makes sums that are not numbers.

#![allow(unsafe_code, reason = "registers of the processor")]

use std::{
    arch::{
        asm,
        x86_64::{__cpuid, __cpuid_count, _mm512_add_ps, _mm512_loadu_ps, _mm512_storeu_ps},
    },
    mem::MaybeUninit,
    sync::OnceLock,
};

use super::{
    Kernel, LINE, PackLeft, SUMS, Sums, Tile, fetch,
    panels::{STEP, TOGETHER},
};

mod pack;

/// Rows or columns of a register, and pairs of terms.
const SIDE: usize = 16;
/// Parts of a number, the lowest first.
const PARTS: usize = 3;
/// Words of a register.
const REGISTER: usize = SIDE * SIDE;
/// Rows or columns of a tile of sums: two registers each way, and the other four for both sides.
const TILE: usize = 2 * SIDE;

pub(super) static KERNEL: Kernel = Kernel {
    name: "amx",
    height: TILE,
    width: TILE,
    register: [SIDE, SIDE],
    least: TILE,
    terms: STEP,
    halves: PARTS,
    sums: choose,
    pack: pack::right,
    left: Some(PackLeft {
        rows: 4 * TILE,
        pack: pack::left,
    }),
    switch: [configure, release],
};
const _: () = assert!(
    PARTS == 3 && STEP == 2 * SIDE && TILE * TILE <= SUMS && TOGETHER.is_multiple_of(TILE) && SIDE == LINE
);

/// Whether the processor has AMX for bf16, with the vectors that pack its sides, and the system lets this process use it.
pub(super) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| {
        const LEAF: u32 = 7;
        const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
        let vectors = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        // SAFETY: every x86-64 has the instruction.
        #[allow(unused_unsafe, reason = "unsafe until Rust 1.94")]
        let features = unsafe {
            if __cpuid(0).eax < LEAF {
                return false;
            }
            __cpuid_count(LEAF, 0).edx
        };
        vectors && features & BF16_AND_TILES == BF16_AND_TILES && permitted()
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

/// Instructions that change the tiles' registers.
macro_rules! tiles {
    ($($code:tt)*) => {
        asm!(
            $($code)*,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            out("tmm4") _,
            out("tmm5") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        )
    };
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
    unsafe { tiles!("ldtilecfg [{shapes}]", shapes = in(reg) &raw const SHAPES) }
}

/// Gives the registers back: threads are switched faster without them.
///
/// # Safety
/// The processor has AMX.
unsafe fn release() {
    // SAFETY: the caller's.
    unsafe { tiles!("tilerelease") }
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
        fetch::row::<{ fetch::NEAREST }>(out.wrapping_add(row * stride), V * SIDE);
    }
    #[repr(align(64))]
    #[allow(dead_code, reason = "written and read by pointers")]
    struct Near([[f32; TILE]; TILE]);
    let mut near = MaybeUninit::<Near>::uninit();
    let (to, to_stride) = if begin.is_some() {
        (near.as_mut_ptr().cast(), TILE)
    } else {
        (out, stride)
    };
    // SAFETY: a step of both sides is two registers of each part, low, middle and high; the rest is the caller's.
    unsafe {
        tiles!(
            ".macro burn_love_left part",
            "tileloadd tmm4, [{left} + {line} + {part} * \\part]",
            ".if {h} > 1",
            "tileloadd tmm5, [{left} + {line} + {part} * \\part + {register}]",
            ".endif",
            ".endm",
            ".macro burn_love_right part",
            "tileloadd tmm6, [{right} + {line} + {part} * \\part]",
            ".if {v} > 1",
            "tileloadd tmm7, [{right} + {line} + {part} * \\part + {register}]",
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
            "prefetcht0 [\\side + {step} + {part} * \\part + \\first + \\line]",
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
            "add {left}, {step}",
            "add {right}, {step}",
            "add {ahead}, 3 * 512",
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
            register = const REGISTER * size_of::<f32>(),
            part = const 2 * REGISTER * size_of::<f32>(),
            step = const PARTS * 2 * REGISTER * size_of::<f32>(),
            h = const H,
            v = const V,
            line = in(reg) 64_usize,
            out = in(reg) to,
            out_below = in(reg) to.wrapping_add(SIDE * to_stride),
            stride = in(reg) to_stride * size_of::<f32>(),
            left = inout(reg) left => _,
            right = inout(reg) right => _,
            ahead = inout(reg) ahead => _,
            steps = inout(reg) depth.div_ceil(STEP) => _
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
