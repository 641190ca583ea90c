//! A clock that is cheap enough to be read between messages.
//!
//! On x86-64 with an invariant time stamp counter it is that counter, scaled by the monotonic clock; elsewhere it is the
//! monotonic clock. Readings are compared within one process only.

use std::sync::OnceLock;

use crate::hz::monotonic_now;

/// A reading, in units of the clock.
#[inline(always)]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if has_counter() {
        // SAFETY: every x86-64 processor has this instruction; it touches no memory.
        return unsafe { core::arch::x86_64::_rdtsc() };
    }
    monotonic_now()
}

/// Nanoseconds in a unit. The first call measures it, which takes 20 ms.
pub fn unit() -> f64 {
    static UNIT: OnceLock<f64> = OnceLock::new();
    *UNIT.get_or_init(|| {
        if !has_counter() {
            return 1.0;
        }
        let (from, start) = (now(), monotonic_now());
        while monotonic_now() - start < 20_000_000 {}
        let (to, end) = (now(), monotonic_now());
        (end - start) as f64 / (to - from) as f64
    })
}

pub fn name() -> &'static str {
    if has_counter() { "time stamp counter" } else { "monotonic clock" }
}

/// Whether the counter runs at one rate and never stops: leaf 0x8000_0007, EDX bit 8.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn has_counter() -> bool {
    use core::arch::x86_64::__cpuid;
    static INVARIANT: OnceLock<bool> = OnceLock::new();
    #[allow(unused_unsafe)] // Safe since Rust 1.94.
    // SAFETY: every x86-64 processor has `cpuid`.
    *INVARIANT
        .get_or_init(|| unsafe { __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0 })
}

#[cfg(not(target_arch = "x86_64"))]
fn has_counter() -> bool {
    false
}
