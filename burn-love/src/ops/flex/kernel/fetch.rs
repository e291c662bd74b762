//! Brings memory into the caches before it is needed.

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

use super::LINE;

/// Into all caches.
pub(super) const NEAREST: i32 = _MM_HINT_T0;
/// Into the second cache.
pub(super) const SECOND: i32 = _MM_HINT_T1;

/// The line of an address, which need not exist.
#[inline(always)]
#[allow(unsafe_code, reason = "the instruction takes any address")]
pub(super) fn line<const CACHE: i32>(address: *const f32) {
    // SAFETY: x86-64 has the instruction, and it never faults.
    unsafe { _mm_prefetch::<CACHE>(address.cast()) };
}

/// All lines of so many elements.
#[inline(always)]
pub(super) fn row<const CACHE: i32>(start: *const f32, elements: usize) {
    for element in (0..elements).step_by(LINE) {
        line::<CACHE>(start.wrapping_add(element));
    }
    line::<CACHE>(start.wrapping_add(elements).wrapping_sub(1));
}
