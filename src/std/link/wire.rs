//! What goes over the socket: frames of 8 bytes and a body, the same for each message that does not go through the ring, and
//! those of a handshake. Pure: bytes in, values out.
//!
//! | bytes | |
//! |---|---|
//! | 0 to 3 | length of the body, little-endian |
//! | 4 | kind |
//! | 5 | flags, of a message |
//! | 6, 7 | `C5 4C` |
//! | 8 | body |

use thiserror::Error;

use crate::core::frame::codes;

/// Bytes before the body.
pub(super) const HEADER: usize = 8;
/// The version of all that two ends of a link have to agree on.
pub(super) const VERSION: u16 = 1;
/// How an end of a link is known to the other one, over one connection after the other.
pub(super) type Identity = [u8; 16];

const MAGIC: [u8; 2] = [0xC5, 0x4C];
/// No sequence is as high.
const LAST: u64 = 1 << 62;
/// The longest body but a message's.
const SHORT: u32 = 256;

/// What was wrong with what the peer said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Its bytes are no frame.
    #[error("it sent what is no frame")]
    Frame,
    /// A frame has no body of that length.
    #[error("it sent a frame of {len} bytes, and {max} is the most")]
    Length {
        /// Its length in bytes.
        len: usize,
        /// The most that one of its kind may have.
        max: usize,
    },
    /// It takes shorter messages than the process in whose place it has come, for which one was kept.
    #[error("it takes {max} bytes at most, and a message of {len} is kept for it")]
    TakesLess {
        /// The message's length in bytes.
        len: usize,
        /// The most that it takes.
        max: usize,
    },
    /// A frame that has no place there.
    #[error("it sent a frame out of turn")]
    Turn,
    /// The words or records of the shared memory cannot be right.
    #[error("it wrote into the shared memory what cannot be right")]
    Memory,
    /// Over one connection after the other, more than fits, without a look at what was acknowledged.
    #[error("it sent more than it may before it is received")]
    TooMuch,
    /// A sequence that cannot be right.
    #[error("it acknowledged, or asked for, messages that it cannot have")]
    Sequence,
    /// The shared memory that it offered is not what it should be.
    #[error("the memory that it offered is not sealed, or has the wrong size")]
    Offer,
    /// It speaks another version.
    #[error("it speaks version {theirs} of links, and this is {VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
}

/// What one end of a link says of itself in a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Hello {
    /// The link, which a new process may take up again.
    pub(super) session: Identity,
    /// This end, for as long as its process has it.
    pub(super) incarnation: Identity,
    /// The other end, as far as this one has heard from it; zeros: never.
    pub(super) peer: Identity,
    /// The last message received from `peer`.
    pub(super) received: u64,
    /// The sequence of the first message that is kept for the other end, or of the next one.
    pub(super) first: u64,
    /// The size of a ring, in bytes, that is asked for, or agreed on; 0: no shared memory.
    pub(super) ring: u32,
    /// The longest message that this end takes.
    pub(super) max_message: u32,
    /// Whether this end must be able to write the memory that it only reads: 64-bit words are loaded without on 64-bit machines alone.
    pub(super) maps_writable: bool,
}

/// Why a server does not take a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It speaks another version of links.
    #[error("it speaks another version of links")]
    Version,
    /// It takes no more links.
    #[error("it has as many links as it takes")]
    Full,
    /// Anything that was no greeting.
    #[error("it did not understand the greeting")]
    Greeting,
}

codes! {
    /// Why an end closes the connection.
    Bye {
        /// It is done.
        Closed = 0,
        /// The other end did what it must not.
        Fault = 1,
        /// There is another connection for the same link.
        Replaced = 2,
    }
}

codes! {
    /// What a frame is for.
    Kind {
        /// A client introduces itself.
        Hello = 1,
        /// A server answers.
        Welcome = 2,
        /// A server says no.
        Refused = 3,
        /// This end has what it needs.
        Ready = 4,
        /// A message.
        Message = 5,
        /// Up to where messages are acknowledged.
        Ack = 6,
        /// There is something to look at.
        Wake = 7,
        /// The last one.
        Bye = 8,
    }
}

/// In a message's flags: it is announced by a mark in the ring.
pub(super) const MARKED: u8 = 1;
/// In a message's flags: what comes behind it does not come by the way that this one was announced by.
pub(super) const SWITCH: u8 = 2;

/// A frame's first bytes, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) len: usize,
}

impl Header {
    pub(super) fn new(kind: Kind, len: usize) -> Self {
        Header { kind, flags: 0, len }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let [a, b, c, d] = (self.len as u32).to_le_bytes();
        [a, b, c, d, self.kind as u8, self.flags, MAGIC[0], MAGIC[1]]
    }

    /// The header at the beginning of `bytes`, of a frame that may have a message of `max_message` bytes.
    pub(super) fn from_bytes(bytes: &[u8; HEADER], max_message: usize) -> Result<Self, Fault> {
        let [a, b, c, d, kind, flags, magic @ ..] = *bytes;
        let kind = Kind::from_code(kind).ok_or(Fault::Frame)?;
        let known = if kind == Kind::Message { MARKED | SWITCH } else { 0 };
        if magic != MAGIC || flags & !known != 0 {
            return Err(Fault::Frame);
        }
        let max = if kind == Kind::Message { max_message } else { SHORT as usize };
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len > max { Err(Fault::Length { len, max }) } else { Ok(Header { kind, flags, len }) }
    }
}

/// A whole frame that is no message.
pub(super) fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    [&Header::new(kind, body.len()).to_bytes()[..], body].concat()
}

const HELLO_LEN: usize = 2 + 3 * 16 + 2 * 8 + 2 * 4 + 1;

impl Hello {
    /// As the body of a HELLO or WELCOME.
    pub(super) fn to_bytes(self) -> [u8; HELLO_LEN] {
        let mut bytes = [0; HELLO_LEN];
        let parts: [&[u8]; 9] = [
            &VERSION.to_le_bytes(),
            &self.session,
            &self.incarnation,
            &self.peer,
            &self.received.to_le_bytes(),
            &self.first.to_le_bytes(),
            &self.ring.to_le_bytes(),
            &self.max_message.to_le_bytes(),
            &[u8::from(self.maps_writable)],
        ];
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let mut rest = Fields(bytes);
        // The version alone is where it is in each version.
        let theirs = u16::from_le_bytes(rest.take(Fault::Frame)?);
        if theirs != VERSION {
            return Err(Fault::Version { theirs });
        }
        let hello = Hello {
            session: rest.take(Fault::Frame)?,
            incarnation: rest.take(Fault::Frame)?,
            peer: rest.take(Fault::Frame)?,
            received: u64::from_le_bytes(rest.take(Fault::Frame)?),
            first: u64::from_le_bytes(rest.take(Fault::Frame)?),
            ring: u32::from_le_bytes(rest.take(Fault::Frame)?),
            max_message: u32::from_le_bytes(rest.take(Fault::Frame)?),
            maps_writable: match rest.take(Fault::Frame)? {
                [0] => false,
                [1] => true,
                _ => return Err(Fault::Frame),
            },
        };
        // No end has sent so many that its sequences come near their end.
        let is_possible = (1..LAST).contains(&hello.first) && hello.received < LAST;
        let is_valid = rest.0.is_empty() && is_possible && hello.incarnation != Identity::default();
        if is_valid { Ok(hello) } else { Err(Fault::Frame) }
    }
}

/// What is left of a body, or of another message.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    /// The next bytes, or what is wrong if there are no more.
    pub(super) fn take<const N: usize, E>(&mut self, short: E) -> Result<[u8; N], E> {
        let (field, rest) = self.0.split_first_chunk().ok_or(short)?;
        self.0 = rest;
        Ok(*field)
    }
}

impl Refusal {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Refusal::Version => 1,
            Refusal::Full => 2,
            Refusal::Greeting => 3,
        }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        match bytes {
            [1] => Ok(Refusal::Version),
            [2] => Ok(Refusal::Full),
            [3] => Ok(Refusal::Greeting),
            _ => Err(Fault::Frame),
        }
    }
}

/// The body of a BYE.
pub(super) fn bye(bytes: &[u8]) -> Result<Bye, Fault> {
    match bytes {
        [code] => Bye::from_code(*code).ok_or(Fault::Frame),
        _ => Err(Fault::Frame),
    }
}

/// Whether the client can use the memory that it was given: the body of a READY.
pub(super) fn ready(bytes: &[u8]) -> Result<bool, Fault> {
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Fault::Frame),
    }
}

/// The last sequence that an ACK speaks of.
pub(super) fn acked(bytes: &[u8]) -> Result<u64, Fault> {
    Fields(bytes).take(Fault::Frame).map(u64::from_le_bytes)
}
