//! Rings that live within one program: in a `static`, on a stack, in a `Box`.

#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
pub(super) mod frames;
pub(super) mod words;

use super::Native;

/// The most slots a ring may have: positions of 32-bit words compare within 2^29.
const MAX_CAPACITY: usize = 1 << 28;

/// Called in a `const` block, so that what is wrong is an error of the build wherever a ring is made; `readers` is 0 where any
/// number may read.
const fn check(capacity: usize, readers: usize) {
    assert!(capacity.is_power_of_two() && capacity <= MAX_CAPACITY, "the capacity of a ring is a power of two");
    assert!(readers <= size_of::<Native>() * 8, "a ring has at most as many readers as its word has bits");
}

/// [`Control::new`](super::Control::new) for a `static`, of words that `$native` makes: sequence and position are the
/// same number.
macro_rules! in_program {
    ($native:path, $start:expr) => {
        Control {
            head: CachePadded($native($start)),
            limit: CachePadded($native($start)),
            next_sequence: $native($start),
            base: $native(0),
            skips: $native(0),
        }
    };
}
use in_program;

/// The stamp that slot `index` has before its first use, in a ring that starts at `start`.
const fn unused_stamp(start: u64, capacity: usize, index: usize) -> u64 {
    // The position of this slot in the lap before `start`, marked skipped: behind every reader.
    let mask = capacity as u64 - 1;
    let before = start.wrapping_sub(1).wrapping_sub(start.wrapping_sub(1).wrapping_sub(index as u64) & mask);
    before.wrapping_mul(4) | super::SKIPPED
}
