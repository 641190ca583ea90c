//! The older frame: length (u32, itself excluded), priority (u8), length of the topic (u16), topic, payload. Big-endian.
//!
//! It has no sequence, so no protection against duplicates, and no acknowledgements. Its first byte is 0, as it is shorter
//! than 16 MiB, which tells it from the newer one.

use super::{EncodeError, Fault, Priority};

/// Bytes before the topic.
const FIXED: usize = 7;
/// The longest frame whose first byte is 0.
const MAX_LEN: usize = 4 + (1 << 24) - 1;

/// What the beginning of some input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Decoded<'a> {
    /// A frame.
    Frame {
        /// How much it matters.
        priority: Priority,
        /// The topic's name, as it came.
        topic: &'a [u8],
        /// The message.
        payload: &'a [u8],
        /// Bytes of the whole frame: where the next one begins.
        len: usize,
    },
    /// The beginning of one.
    Incomplete {
        /// How many bytes there must be, from the same place on, before it is worth another try.
        need: usize,
    },
}

/// Reads the frame that `input` begins with. No frame may be longer than `max_len`, and none reaches 16 MiB.
///
/// ```
/// use conduit::frame::{Priority, legacy};
///
/// let input = [0, 0, 0, 7, 3, 0, 3, b'i', b'm', b'u', 42];
/// let decoded = legacy::decode(&input, 1024);
/// let frame = legacy::Decoded::Frame { priority: Priority::High, topic: b"imu", payload: &[42], len: 11 };
/// assert_eq!(decoded, Ok(frame));
/// ```
///
/// # Errors
///
/// [`Fault::Magic`], [`Fault::TooLarge`], [`Fault::Priority`], [`Fault::TopicLength`]. Nothing behind it can be trusted.
#[inline]
pub fn decode(input: &[u8], max_len: usize) -> Result<Decoded<'_>, Fault> {
    match input.first() {
        Some(0) | None => {}
        Some(_) => return Err(Fault::Magic),
    }
    let Some(length) = input.first_chunk() else { return Ok(Decoded::Incomplete { need: FIXED }) };
    // The first byte is 0, so this is far from overflowing.
    let len = 4 + u32::from_be_bytes(*length) as usize;
    if len > max_len {
        return Err(Fault::TooLarge { len, max: max_len });
    }
    if len < FIXED {
        return Err(Fault::TopicLength(0));
    }
    let Some(fixed) = input.first_chunk::<FIXED>() else { return Ok(Decoded::Incomplete { need: FIXED }) };
    let priority = Priority::from_code(fixed[4]).ok_or(Fault::Priority(fixed[4]))?;
    let topic_len = u16::from_be_bytes([fixed[5], fixed[6]]);
    if topic_len == 0 || FIXED + usize::from(topic_len) > len {
        return Err(Fault::TopicLength(topic_len));
    }
    let Some(frame) = input.get(..len) else { return Ok(Decoded::Incomplete { need: len }) };
    let (topic, payload) = frame[FIXED..].split_at(topic_len.into());
    Ok(Decoded::Frame { priority, topic, payload, len })
}

/// Puts a frame into `buffer`; returns its length. [`decode`] takes each frame that it makes, and finds the same in it.
///
/// # Errors
///
/// [`EncodeError::TopicLength`] if the topic has not 1 to 65,535 bytes, [`EncodeError::TooLarge`] if what follows the length
/// would reach 16 MiB, [`EncodeError::NoRoom`].
pub fn encode(priority: Priority, topic: &[u8], payload: &[u8], buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let topic_len = match u16::try_from(topic.len()) {
        Ok(len @ 1..) => len,
        _ => return Err(EncodeError::TopicLength(topic.len())),
    };
    let len = FIXED + topic.len() + payload.len();
    if len > MAX_LEN {
        return Err(EncodeError::TooLarge { len, max: MAX_LEN });
    }
    let Some(frame) = buffer.get_mut(..len) else { return Err(EncodeError::NoRoom { need: len }) };
    frame[..4].copy_from_slice(&((len - 4) as u32).to_be_bytes());
    frame[4] = priority as u8;
    frame[5..FIXED].copy_from_slice(&topic_len.to_be_bytes());
    let (into_topic, into_payload) = frame[FIXED..].split_at_mut(topic.len());
    into_topic.copy_from_slice(topic);
    into_payload.copy_from_slice(payload);
    Ok(len)
}
