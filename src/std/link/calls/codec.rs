//! What goes between two ends of calls: one message of the link for each of these. Pure: bytes in, values out.
//!
//! | bytes | |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | kind |
//! | 2 | of a failure: its reason; otherwise 0 |
//! | 3 | 0 |
//! | 4 to 7 | of a request: the window for parts, in bytes, 0 if there are to be none; of a failure: its code; of a grant: its bytes; otherwise 0 |
//! | 8 to 15 | whom it is for: the first 8 bytes of the name that the receiving end has on the link |
//! | 16 to 23 | the call, as numbered by the end that calls |
//! | 24 | body |
//!
//! The body of a request: how long its answer is waited for (8 bytes, in nanoseconds; all ones: for ever), the length of the method's
//! name (1 byte), the name, the payload. Of an answer and of a part: its payload. Of a failure: a text in UTF-8. Numbers are
//! little-endian.
//!
//! A message that is for somebody else was meant for the process that was there before: whoever finds one must not act on it.

use thiserror::Error;

use crate::core::frame::codes;
use crate::std::link::wire::Fields;

/// Bytes before the body.
pub(super) const HEADER: usize = 24;
/// Bytes of a request's body before the method's name.
pub(super) const REQUEST: usize = 9;
const VERSION: u8 = 1;
/// No end to the wait.
pub(super) const FOREVER: u64 = u64::MAX;

codes! {
    /// Why a call has come to nothing, as the end that was called says.
    Reason {
        /// The handler said so.
        Failed = 1,
        /// Nobody works on calls there.
        NoHandler = 2,
        /// Nobody works on calls of that method.
        NoSuchMethod = 3,
        /// The handler has stopped because nobody waits any more, or for another reason of its own.
        Cancelled = 4,
        /// There was no time left to work on it.
        Expired = 5,
        /// There is more to do than there is room for.
        Busy = 6,
        /// The handler has panicked.
        Panicked = 7,
        /// The handler answers in parts, and none were asked for.
        NeedsStream = 8,
    }
}

/// What is said about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body<'a> {
    Request { remaining: u64, window: u32, method: &'a str, payload: &'a [u8] },
    Answer(&'a [u8]),
    Part(&'a [u8]),
    Failed { reason: Reason, code: u32, text: &'a str },
    Cancel,
    Grant { bytes: u32 },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Message<'a> {
    pub(super) to: u64,
    pub(super) id: u64,
    pub(super) body: Body<'a>,
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum Malformed {
    #[error("it is too short")]
    Short,
    #[error("its version is {0}, and this is {VERSION}")]
    Version(u8),
    #[error("there is no kind, or no reason, of that number")]
    Number,
    #[error("what has to be zero, or empty, is not")]
    Rest,
    #[error("a name, or a text, is no UTF-8, or longer than the message")]
    Text,
}

/// The beginning of a request, with no place in it that is another's.
pub(super) fn request(to: u64, id: u64, remaining: u64, window: u32, method: &str, payload: &[u8]) -> Vec<u8> {
    Message { to, id, body: Body::Request { remaining, window, method, payload } }.to_bytes()
}

impl<'a> Message<'a> {
    /// A method's name of more than 255 bytes is cut, which whoever makes a request has to look after.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (kind, detail, value, len) = match self.body {
            Body::Request { window, method, payload, .. } => (1, 0, window, REQUEST + method.len() + payload.len()),
            Body::Answer(payload) => (2, 0, 0, payload.len()),
            Body::Part(payload) => (3, 0, 0, payload.len()),
            Body::Failed { reason, code, text } => (4, reason as u8, code, text.len()),
            Body::Cancel => (5, 0, 0, 0),
            Body::Grant { bytes } => (6, 0, bytes, 0),
        };
        let mut bytes = Vec::with_capacity(HEADER + len);
        bytes.extend([VERSION, kind, detail, 0]);
        bytes.extend(value.to_le_bytes());
        bytes.extend(self.to.to_le_bytes());
        bytes.extend(self.id.to_le_bytes());
        match self.body {
            Body::Request { remaining, method, payload, .. } => {
                let method = &method.as_bytes()[..method.len().min(usize::from(u8::MAX))];
                bytes.extend(remaining.to_le_bytes());
                bytes.push(method.len() as u8);
                bytes.extend_from_slice(method);
                bytes.extend_from_slice(payload);
            }
            Body::Answer(payload) | Body::Part(payload) => bytes.extend_from_slice(payload),
            Body::Failed { text, .. } => bytes.extend_from_slice(text.as_bytes()),
            Body::Cancel | Body::Grant { .. } => {}
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = Fields(bytes);
        let [version, kind, detail, zero] = rest.take(Malformed::Short)?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let value = u32::from_le_bytes(rest.take(Malformed::Short)?);
        let to = u64::from_le_bytes(rest.take(Malformed::Short)?);
        let id = u64::from_le_bytes(rest.take(Malformed::Short)?);
        let is_plain = zero == 0 && (detail == 0 || kind == 4) && (value == 0 || matches!(kind, 1 | 4 | 6));
        if !is_plain {
            return Err(Malformed::Rest);
        }
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Malformed::Text);
        let body = match kind {
            1 => {
                let remaining = u64::from_le_bytes(rest.take(Malformed::Short)?);
                let [len] = rest.take(Malformed::Short)?;
                let (method, payload) = rest.0.split_at_checked(usize::from(len)).ok_or(Malformed::Text)?;
                Body::Request { remaining, window: value, method: text(method)?, payload }
            }
            2 => Body::Answer(rest.0),
            3 => Body::Part(rest.0),
            4 => {
                let reason = Reason::from_code(detail).ok_or(Malformed::Number)?;
                Body::Failed { reason, code: value, text: text(rest.0)? }
            }
            5 | 6 if !rest.0.is_empty() => return Err(Malformed::Rest),
            5 => Body::Cancel,
            6 => Body::Grant { bytes: value },
            _ => return Err(Malformed::Number),
        };
        Ok(Message { to, id, body })
    }
}

/// Reads what a peer may have sent: whatever it is, it is no message, or the very one that would have been written for what it says.
#[cfg(any(fuzzing, test))]
pub(in crate::std::link) fn reads_as_written(bytes: &[u8]) {
    match Message::from_bytes(bytes) {
        Ok(message) => assert_eq!(message.to_bytes(), bytes, "{message:?}"),
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bodies() -> impl Strategy<Value = (u8, u32, u64, u8, String, Vec<u8>)> {
        (0..6u8, any::<u32>(), any::<u64>(), 1..9u8, "\\PC{0,60}", proptest::collection::vec(any::<u8>(), 0..100))
    }

    proptest! {
        #[test]
        fn what_was_said_comes_back((kind, value, remaining, reason, text, payload) in bodies(), to: u64, id: u64) {
            let body = match kind {
                0 => Body::Request { remaining, window: value, method: &text, payload: &payload },
                1 => Body::Answer(&payload),
                2 => Body::Part(&payload),
                3 => Body::Failed { reason: Reason::from_code(reason).unwrap(), code: value, text: &text },
                4 => Body::Cancel,
                _ => Body::Grant { bytes: value },
            };
            let message = Message { to, id, body };
            let bytes = message.to_bytes();
            prop_assert_eq!(Message::from_bytes(&bytes), Ok(message));
        }

        /// One meaning, one form: what is understood is what would have been written.
        #[test]
        fn any_bytes_are_a_message_or_say_why_not(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
            kind in 0..9u8,
            detail in 0..10u8,
            is_plain: bool,
        ) {
            if let Some(beginning) = bytes.first_chunk_mut::<8>() {
                let [a, b, c, d] = if is_plain { [0; 4] } else { [1, 0, 0, 0] };
                *beginning = [VERSION, kind, if kind == 4 { detail } else { 0 }, 0, a, b, c, d];
            }
            reads_as_written(&bytes);
        }
    }

    #[test]
    fn each_thing_wrong_has_its_name() {
        let good = request(7, 8, FOREVER, 0, "m", b"p");
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Message::from_bytes(&bytes).map(|message| message.id)
        };
        assert_eq!(with(0, 1), Ok(8));
        assert_eq!(with(0, 2), Err(Malformed::Version(2)));
        assert_eq!(with(1, 0), Err(Malformed::Number));
        assert_eq!(with(1, 7), Err(Malformed::Number));
        assert_eq!(with(2, 1), Err(Malformed::Rest));
        assert_eq!(with(3, 1), Err(Malformed::Rest));
        assert_eq!(with(HEADER + 8, 3), Err(Malformed::Text), "a name longer than the message");
        assert_eq!(with(HEADER + 9, 0xFF), Err(Malformed::Text));
        assert_eq!(Message::from_bytes(&good[..HEADER + 8]), Err(Malformed::Short));
        assert_eq!(Message::from_bytes(&good[..HEADER - 1]), Err(Malformed::Short));
        let failed = Message { to: 1, id: 2, body: Body::Failed { reason: Reason::Failed, code: 3, text: "x" } };
        let mut bytes = failed.to_bytes();
        bytes[2] = 9;
        assert_eq!(Message::from_bytes(&bytes), Err(Malformed::Number));
        let mut cancel = Message { to: 1, id: 2, body: Body::Cancel }.to_bytes();
        cancel.push(0);
        assert_eq!(Message::from_bytes(&cancel), Err(Malformed::Rest));
    }
}
