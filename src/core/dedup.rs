//! What was seen before: events that producers number, and keys that come from elsewhere.
//!
//! | events have | use | threads |
//! |---|---|---|
//! | a number within their producer, from 1 | [`Window`], or [`Producers`] for many | one |
//! | an id of their own: a UUID, a hash, another system's key | [`KeySet`] | any number, lock-free |
//!
//! Both are bounded, and say what that costs: a producer that is forgotten is counted, and a key for which there is no room
//! is refused, never silently let through.
//!
//! Windows are looked at and recorded in two steps. Record an event only when it was accepted or kept: what was refused may
//! come again, and is no duplicate then. A [`KeySet`] looks and records in one step, as several threads use it at a time: take the
//! key of an event that is refused behind it back by [`remove`](Keys::remove).

#[cfg(any(loom, target_has_atomic = "64"))]
mod keys;
mod producers;
#[cfg(all(test, not(loom)))]
mod tests;
mod window;

#[cfg(any(loom, target_has_atomic = "64"))]
pub use keys::{Ager, Insertion, KeySet, Keys};
pub use producers::{ProducerId, Producers};
pub use window::{Seen, Window};

/// A 64-bit hash of `bytes`, such as a foreign id, for a [`KeySet`]. Who does not know the seed finds no two that have the
/// same but by chance; it is no cryptographic promise. Two of `n` ids share a hash with a chance of `n * n / 2^65`.
///
/// Each 16 bytes go through one 64 by 64 bit multiplication whose halves are folded together, as in wyhash.
///
/// ```
/// use conduit::dedup::hash;
///
/// assert_ne!(hash(7, b"3f2b8c1e"), hash(7, b"3f2b8c1f"));
/// assert_ne!(hash(7, b"3f2b8c1e"), hash(8, b"3f2b8c1e"));
/// ```
#[inline]
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    // Fractional digits of pi.
    const ODD: [u64; 2] = [0x2437_0734_4A40_9382, 0x082E_FA98_EC4E_6C89];
    let mut state = mix(seed ^ bytes.len() as u64);
    for block in bytes.chunks(16) {
        let mut padded = [0; 16];
        padded[..block.len()].copy_from_slice(block);
        let both = u128::from_le_bytes(padded);
        state = fold(both as u64 ^ state ^ ODD[0], (both >> 64) as u64 ^ state.rotate_left(32) ^ ODD[1]);
    }
    mix(state)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Spreads each bit over all of them; different values stay different. The last step of MurmurHash3 (A. Appleby).
#[inline(always)]
const fn mix(mut value: u64) -> u64 {
    value = (value ^ value >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    value = (value ^ value >> 33).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    value ^ value >> 33
}
