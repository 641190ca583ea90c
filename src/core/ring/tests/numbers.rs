//! Positions, stamps and distances, at both widths and where they wrap.

use proptest::prelude::*;

use super::super::super::atomic::{AtomicU32, AtomicU64};
use super::super::{BUSY, Found, NO_STAMP, READY, SKIPPED, Word, find, stamp};

/// Positions at which something wraps, or nearly.
pub const STARTS: [u64; 8] =
    [0, 5, (1 << 30) - 3, (1 << 31) - 2, (1 << 32) - 9, (1 << 61) - 1, (1 << 62) - 4, u64::MAX - 6];

fn a_stamp_tells_where_its_slot_stands<W: Word>(position: u64, ahead: i64) {
    let other = position.wrapping_add(ahead as u64);
    let found = |tag| find::<W>(stamp::<W>(other, tag), position);
    if ahead > 0 {
        for tag in [0, BUSY, SKIPPED, READY] {
            assert_eq!(found(tag), Found::Later(other));
        }
    } else if ahead == 0 {
        assert_eq!(found(READY), Found::Ready);
        assert_eq!(found(SKIPPED), Found::Skipped);
        assert_eq!(found(BUSY), Found::Nothing);
        assert_eq!(found(0), Found::Nothing);
    } else {
        for tag in [0, BUSY, SKIPPED, READY] {
            assert_eq!(found(tag), Found::Nothing);
        }
    }
}

fn a_counter_is_extended_to_what_is_nearest<W: Word>(near: u64, away: i64) {
    let value = near.wrapping_add(away as u64);
    assert_eq!(W::extend(W::truncate(value), near), value);
    assert_eq!(W::distance(W::truncate(value), W::truncate(near)), away);
    assert_eq!(W::new(value).load(super::super::Ordering::Relaxed), W::truncate(value));
}

proptest! {
    #![proptest_config(super::rounds(5000))]

    #[test]
    fn narrow_and_wide_stamps_tell_where_their_slot_stands(
        position in prop_oneof![any::<u64>(), proptest::sample::select(&STARTS[..])],
        near in -20i64..20,
        far in -(1i64 << 61) + 1..(1i64 << 61) - 1,
    ) {
        for ahead in [near, far >> 32] {
            a_stamp_tells_where_its_slot_stands::<AtomicU32>(position, ahead);
        }
        for ahead in [near, far] {
            a_stamp_tells_where_its_slot_stands::<AtomicU64>(position, ahead);
        }
    }

    #[test]
    fn narrow_and_wide_counters_are_extended_to_what_is_nearest(near in any::<u64>(), away in any::<i64>()) {
        a_counter_is_extended_to_what_is_nearest::<AtomicU32>(near, away >> 32);
        a_counter_is_extended_to_what_is_nearest::<AtomicU64>(near, away);
    }

    #[test]
    fn bytes_keep_their_order_in_memory(bytes in any::<[u8; 9]>()) {
        fn check<W: Word>(bytes: &[u8; 9]) {
            let mut copy = [0u8; 9];
            // SAFETY: a word's bytes at offset 1, which is not aligned, lie within both arrays.
            unsafe { W::write_bytes(W::read_bytes(bytes.as_ptr().add(1)), copy.as_mut_ptr().add(1)) };
            assert_eq!(copy[1..1 + W::BYTES], bytes[1..1 + W::BYTES]);
        }
        check::<AtomicU32>(&bytes);
        check::<AtomicU64>(&bytes);
    }
}

#[test]
fn no_stamp_is_a_stamp() {
    for position in STARTS.into_iter().flat_map(|start| (0..40u64).map(move |on| start.wrapping_add(on))) {
        for tag in [BUSY, SKIPPED, READY] {
            assert!(stamp::<AtomicU32>(position, tag) != NO_STAMP && stamp::<AtomicU64>(position, tag) != NO_STAMP);
        }
    }
    assert_ne!(NO_STAMP, 0);
}
