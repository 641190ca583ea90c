//! Bytes that nobody can guess.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// 16 of them, such as a name that nobody else has.
pub(crate) fn bytes() -> Result<[u8; 16], Errno> {
    let mut bytes = [0; 16];
    // Up to 256 bytes come whole, or not at all.
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}

/// A number, for what is left to chance; 0 where there are none, which makes everybody alike and nothing wrong.
pub(crate) fn chance() -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = bytes().unwrap_or_default();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
