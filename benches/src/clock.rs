//! A clock that is cheap enough to read around a single publish, and that two processes read alike.
//!
//! On x86-64 with an invariant time stamp counter it is that counter, scaled against the monotonic
//! clock once, before any participant is forked. Everywhere else it is the monotonic clock itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

static COUNTER: AtomicBool = AtomicBool::new(false);
/// Nanoseconds a tick, as the bits of an `f64`.
static SCALE: AtomicU64 = AtomicU64::new(0x3ff0_0000_0000_0000);

/// Chooses the clock and measures its rate. Call it once, before the first fork.
pub fn calibrate() {
    #[cfg(target_arch = "x86_64")]
    if invariant_counter() {
        COUNTER.store(true, Relaxed);
        let (from, start) = (ticks(), Instant::now());
        while start.elapsed() < Duration::from_millis(100) {}
        let (to, elapsed) = (ticks(), start.elapsed());
        let scale = elapsed.as_nanos() as f64 / (to - from) as f64;
        SCALE.store(scale.to_bits(), Relaxed);
    }
}

/// What the clock is, for the report's first lines.
pub fn describe() -> String {
    if COUNTER.load(Relaxed) {
        format!("time stamp counter, {:.2} GHz", 1.0 / scale())
    } else {
        "monotonic clock".into()
    }
}

#[inline(always)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if COUNTER.load(Relaxed) {
        // SAFETY: every x86-64 processor has this instruction; it touches no memory.
        return unsafe { core::arch::x86_64::_rdtsc() };
    }
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Ticks as nanoseconds.
pub fn ns(ticks: u64) -> f64 {
    ticks as f64 * scale()
}

/// A span of time as ticks.
pub fn span(time: Duration) -> u64 {
    (time.as_nanos() as f64 / scale()) as u64
}

fn scale() -> f64 {
    f64::from_bits(SCALE.load(Relaxed))
}

/// Whether the counter runs at one rate and never stops: leaf 0x8000_0007, EDX bit 8.
#[cfg(target_arch = "x86_64")]
fn invariant_counter() -> bool {
    use core::arch::x86_64::__cpuid;
    #[allow(unused_unsafe)] // safe since Rust 1.94
    // SAFETY: `cpuid` exists on every x86-64 processor.
    unsafe {
        __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0
    }
}
