//! The wire frame, version 1, and the older frame that the same ports take: see `docs/frame.md`.
//!
//! Decoding borrows its input and copies nothing. It can be given a part of a frame, says how much is needed before it is
//! worth another try, and then begins again at the same place: it keeps no state. The header has a checksum of its own, so
//! that a length is trusted before it is used.
//!
//! ```
//! use conduit::frame::{self, Decoded, Event, Priority};
//!
//! let mut buffer = [0; 128];
//! let event = Event { sequence: 7, priority: Priority::High, topic: b"sensors/imu", payload: b"hello", ..Event::default() };
//! let len = event.encode(&mut buffer).expect("it fits");
//!
//! // What has come so far is not enough.
//! assert_eq!(frame::decode(&buffer[..20], frame::DEFAULT_MAX_LEN), Ok(Decoded::Incomplete { need: 32 }));
//! let Ok(Decoded::Frame { header, body, len: used }) = frame::decode(&buffer, frame::DEFAULT_MAX_LEN) else { panic!() };
//! assert_eq!((header.sequence, used), (7, len));
//! assert_eq!(header.event(body), Ok(event));
//! ```

use super::crc32c::crc32c;
use super::name;

mod body;
pub mod legacy;
#[cfg(all(test, not(loom)))]
mod tests;

pub use body::{Durability, Event, Hello, Welcome};

/// What a frame begins with.
pub const MAGIC: [u8; 2] = [0xC5, 0x4E];
/// The version that this module speaks.
pub const VERSION: u8 = 1;
/// Bytes of a header.
pub const HEADER_LEN: usize = 32;
/// The largest frame unless agreed otherwise, header and all.
pub const DEFAULT_MAX_LEN: usize = 1 << 20;
/// The largest frame that can be agreed on: less than 16 MiB, so that an older frame's first byte is 0.
pub const MAX_LEN: usize = (1 << 24) - 1;
/// Bytes of the checksum behind a body that has one.
const CRC_LEN: usize = 4;

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$case_meta:meta])* $case:ident = $code:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[repr(u8)]
        pub enum $name {
            $($(#[$case_meta])* $case = $code),+
        }

        impl $name {
            /// The one with this number on the wire.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some($name::$case),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use codes;

codes! {
    /// What a frame is for.
    Kind {
        /// A message for a topic.
        Event = 0,
        /// What became of events.
        Ack = 1,
        /// A client introduces itself.
        Hello = 2,
        /// A server answers.
        Welcome = 3,
        /// Are you there?
        Ping = 4,
        /// I am.
        Pong = 5,
    }
}

codes! {
    /// How much an event matters, from what can wait to what must not.
    Priority {
        /// Whenever there is time.
        Batch = 0,
        /// Below the usual.
        Low = 1,
        /// The usual.
        Medium = 2,
        /// Soon.
        High = 3,
        /// At once, whatever else is going on.
        Critical = 4,
    }
}

codes! {
    /// How a payload is to be read.
    Encoding {
        /// As its topic says, or as bytes.
        Raw = 0,
        /// JSON.
        Json = 1,
        /// CBOR.
        Cbor = 2,
        /// Protocol buffers.
        Protobuf = 3,
    }
}

impl Default for Priority {
    /// [`Priority::Medium`].
    fn default() -> Self {
        Priority::Medium
    }
}

impl Default for Encoding {
    /// [`Encoding::Raw`].
    fn default() -> Self {
        Encoding::Raw
    }
}

/// What a producer asks for; a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Flags(u8);

impl Flags {
    /// Tell me what became of it.
    pub const ACK_REQUESTED: Flags = Flags(1);
    /// Tell me when it is on disk.
    pub const ACK_WHEN_DURABLE: Flags = Flags(2);
    /// The body ends with a checksum of itself.
    pub const BODY_CRC: Flags = Flags(4);
    const KNOWN: u8 = 7;

    /// Whether all of `flags` are set.
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// With those of `flags`, too.
    #[must_use]
    pub const fn and(self, flags: Flags) -> Flags {
        Flags(self.0 | flags.0)
    }
}

/// What stands before a frame's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// What the frame is for.
    pub kind: Kind,
    /// What its producer asks for.
    pub flags: Flags,
    /// Bytes behind the header.
    pub body_len: u32,
    /// The event's number within its producer, from 1. 0: none, and no protection against duplicates.
    pub sequence: u64,
    /// When it was made, in nanoseconds since 1970. 0: the receiver stamps it.
    pub timestamp: u64,
    /// How much it matters.
    pub priority: Priority,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// Bytes of the topic, at the beginning of an event's body; 0 in other frames.
    pub topic_len: u16,
}

impl Header {
    /// The header of a frame of `kind` without a body.
    pub const fn new(kind: Kind) -> Self {
        Header {
            kind,
            flags: Flags(0),
            body_len: 0,
            sequence: 0,
            timestamp: 0,
            priority: Priority::Medium,
            encoding: Encoding::Raw,
            topic_len: 0,
        }
    }

    /// Reads a header. The checksum is right, and every field has a value that means something.
    ///
    /// # Errors
    ///
    /// A [`Fault`] that says what is wrong.
    #[inline]
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Fault> {
        if bytes[..2] != MAGIC {
            return Err(Fault::Magic);
        }
        if crc32c(&bytes[..28]) != u32_at(bytes, 28) {
            return Err(Fault::HeaderCrc);
        }
        // From here on it is what somebody meant.
        if bytes[2] >> 4 != VERSION {
            return Err(Fault::Version(bytes[2] >> 4));
        }
        let kind = Kind::from_code(bytes[2] & 15).ok_or(Fault::Kind(bytes[2] & 15))?;
        if bytes[3] & !Flags::KNOWN != 0 {
            return Err(Fault::Flags(bytes[3]));
        }
        let header = Header {
            kind,
            flags: Flags(bytes[3]),
            body_len: u32_at(bytes, 4),
            sequence: u64_at(bytes, 8),
            timestamp: u64_at(bytes, 16),
            priority: Priority::from_code(bytes[24]).ok_or(Fault::Priority(bytes[24]))?,
            encoding: Encoding::from_code(bytes[25]).ok_or(Fault::Encoding(bytes[25]))?,
            topic_len: u16::from_le_bytes([bytes[26], bytes[27]]),
        };
        let topic = usize::from(header.topic_len);
        let expected = if kind == Kind::Event { 1..=name::MAX_TOPIC } else { 0..=0 };
        if !expected.contains(&topic) || header.body_len < header.least_body() {
            return Err(Fault::TopicLength(header.topic_len));
        }
        Ok(header)
    }

    fn least_body(&self) -> u32 {
        u32::from(self.topic_len) + if self.flags.has(Flags::BODY_CRC) { CRC_LEN as u32 } else { 0 }
    }

    /// The header as it goes onto the wire, checksum and all: of a frame without a body, the whole frame. Its fields are not
    /// looked at: a topic that does not fit the kind or the body is refused by who [decodes](Header::decode) it.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION << 4 | self.kind as u8;
        bytes[3] = self.flags.0;
        bytes[4..8].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.timestamp.to_le_bytes());
        bytes[24] = self.priority as u8;
        bytes[25] = self.encoding as u8;
        bytes[26..28].copy_from_slice(&self.topic_len.to_le_bytes());
        let crc = crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Bytes of the whole frame; `usize::MAX` for one that no memory of this target could hold.
    pub const fn frame_len(&self) -> usize {
        HEADER_LEN.saturating_add(self.body_len as usize)
    }

    /// Puts a frame of this header and a body of `parts` into `buffer`, with `body_len` and the checksums as they have to
    /// be. Returns its length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoRoom`], [`EncodeError::TooLarge`].
    fn put(self, parts: &[&[u8]], buffer: &mut [u8]) -> Result<usize, EncodeError> {
        self.put_all(parts.iter().map(|part| part.len()).sum(), parts.iter(), buffer)
    }

    /// [`put`](Header::put) of parts of `payload` bytes together.
    pub(crate) fn put_all(
        mut self,
        payload: usize,
        parts: impl Iterator<Item = impl AsRef<[u8]>>,
        buffer: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let crc = if self.flags.has(Flags::BODY_CRC) { CRC_LEN } else { 0 };
        let len = HEADER_LEN + payload + crc;
        if len > MAX_LEN {
            return Err(EncodeError::TooLarge { len, max: MAX_LEN });
        }
        let no_room = EncodeError::NoRoom { need: len };
        let Some(frame) = buffer.get_mut(..len) else { return Err(no_room) };
        self.body_len = (payload + crc) as u32;
        // Each split succeeds, for this is how `len` and `payload` came about. They are checked and don't panic, as events are
        // encoded by interrupt handlers, too.
        let Some((header, body)) = frame.split_first_chunk_mut() else { return Err(no_room) };
        *header = self.encode();
        let Some((payload, crc)) = body.split_at_mut_checked(payload) else { return Err(no_room) };
        let mut rest = &mut *payload;
        for part in parts {
            let part = part.as_ref();
            let Some((into, behind)) = rest.split_at_mut_checked(part.len()) else { return Err(no_room) };
            into.copy_from_slice(part);
            rest = behind;
        }
        if let Some(crc) = crc.first_chunk_mut() {
            *crc = crc32c(payload).to_le_bytes();
        }
        Ok(len)
    }
}

/// What the beginning of some input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Decoded<'a> {
    /// A frame.
    Frame {
        /// Its header.
        header: Header,
        /// What is behind the header, without the checksum of a body that has one.
        body: &'a [u8],
        /// Bytes of the whole frame: where the next one begins.
        len: usize,
    },
    /// The beginning of one.
    Incomplete {
        /// How many bytes there must be, from the same place on, before it is worth another try.
        need: usize,
    },
}

/// Reads the frame that `input` begins with. No frame may be longer than `max_len`, nor than [`MAX_LEN`].
///
/// # Errors
///
/// A [`Fault`] that says what is wrong. On a stream nothing behind it can be trusted, except by [`find`], or behind a frame
/// of which only the body is wrong: [`Fault::BodyCrc`] says how long it is.
#[inline]
pub fn decode(input: &[u8], max_len: usize) -> Result<Decoded<'_>, Fault> {
    let Some((header, rest)) = input.split_first_chunk() else {
        // What cannot become a frame is told of at once.
        let begun = input.len().min(MAGIC.len());
        if input[..begun] != MAGIC[..begun] {
            return Err(Fault::Magic);
        }
        return Ok(Decoded::Incomplete { need: HEADER_LEN });
    };
    let header = Header::decode(header)?;
    let len = header.frame_len();
    let max = max_len.min(MAX_LEN);
    if len > max {
        return Err(Fault::TooLarge { len, max });
    }
    let Some(mut body) = rest.get(..header.body_len as usize) else { return Ok(Decoded::Incomplete { need: len }) };
    if header.flags.has(Flags::BODY_CRC) {
        let sequence = if header.kind == Kind::Event { header.sequence } else { 0 };
        let fault = Fault::BodyCrc { sequence, len };
        // It is there: the header was checked for that.
        let Some((payload, crc)) = body.split_last_chunk() else { return Err(fault) };
        if crc32c(payload) != u32::from_le_bytes(*crc) {
            return Err(fault);
        }
        body = payload;
    }
    Ok(Decoded::Frame { header, body, len })
}

/// Where in `input` the next frame may begin: the first place at which a whole header is right, or which lacks the bytes to
/// tell. `input.len()` if there is none.
pub fn find(input: &[u8]) -> usize {
    let may_begin = |at: &usize| match input[*at..].split_first_chunk() {
        Some((header, _)) => Header::decode(header).is_ok(),
        None => input[*at..].iter().zip(&MAGIC).all(|(found, expected)| found == expected),
    };
    (0..input.len()).find(may_begin).unwrap_or(input.len())
}

/// Which of the two frames a connection or a datagram speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Dialect {
    /// Version 1: this module.
    Version1,
    /// The older frame: [`legacy`].
    Legacy,
}

impl Dialect {
    /// By the first byte; `None` if it is neither.
    pub const fn of(first: u8) -> Option<Self> {
        match first {
            0 => Some(Dialect::Legacy),
            first if first == MAGIC[0] => Some(Dialect::Version1),
            _ => None,
        }
    }
}

/// What is wrong with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Fault {
    /// It does not begin as a frame does.
    Magic,
    /// The header's checksum is wrong.
    HeaderCrc,
    /// It is of this other version.
    Version(u8),
    /// No kind has this number.
    Kind(u8),
    /// A flag is set that means nothing.
    Flags(u8),
    /// No priority has this number.
    Priority(u8),
    /// No encoding has this number.
    Encoding(u8),
    /// The topic's length is none that it can have, or the body is shorter than that.
    TopicLength(u16),
    /// It is longer than agreed.
    TooLarge {
        /// Its length.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The body's checksum is wrong; the header's is right.
    BodyCrc {
        /// The event's number, to tell its producer that this one has to come again. 0 if it has none, or is no event.
        sequence: u64,
        /// Bytes of the whole frame: where the next one begins.
        len: usize,
    },
    /// The topic's name is none.
    Topic(&'static str),
    /// The body is not that of a frame of its kind.
    Body(Kind),
}

impl ::core::fmt::Display for Fault {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self {
            Fault::Magic => f.write_str("it does not begin with C5 4E"),
            Fault::HeaderCrc => f.write_str("the header's checksum is wrong"),
            Fault::Version(version) => write!(f, "it is of version {version}, not {VERSION}"),
            Fault::Kind(kind) => write!(f, "no kind of frame has number {kind}"),
            Fault::Flags(flags) => write!(f, "its flags are {flags:#04x}, of which some mean nothing"),
            Fault::Priority(priority) => write!(f, "priority {priority} is not 0 to 4"),
            Fault::Encoding(encoding) => write!(f, "encoding {encoding} is not 0 to 3"),
            Fault::TopicLength(len) => write!(f, "a topic of {len} bytes does not fit the frame, or its kind"),
            Fault::TooLarge { len, max } => write!(f, "it has {len} bytes, and at most {max} are allowed"),
            Fault::BodyCrc { sequence, len } => {
                write!(f, "the checksum of the body is wrong, in a frame of {len} bytes with sequence {sequence}")
            }
            Fault::Topic(reason) => write!(f, "its topic is no topic name: {reason}"),
            Fault::Body(kind) => write!(f, "its body is none of a frame of kind {kind:?}"),
        }
    }
}

impl ::core::error::Error for Fault {}

/// Why a frame was not written. Nothing of it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EncodeError {
    /// The buffer is too short.
    NoRoom {
        /// Bytes of the frame.
        need: usize,
    },
    /// No frame may be so long.
    TooLarge {
        /// Its length.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// No topic has so many bytes.
    TopicLength(usize),
    /// No token has so many bytes.
    TokenLength(usize),
}

impl ::core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self {
            EncodeError::NoRoom { need } => write!(f, "the buffer is too short: the frame has {need} bytes"),
            EncodeError::TooLarge { len, max } => write!(f, "the frame has {len} bytes, and at most {max} are allowed"),
            EncodeError::TopicLength(len) => write!(f, "a topic of {len} bytes fits no frame: shorten it"),
            EncodeError::TokenLength(len) => {
                write!(f, "a token of {len} bytes is longer than {} bytes", body::MAX_TOKEN)
            }
        }
    }
}

impl ::core::error::Error for EncodeError {}

/// Inlined, so that no check of a constant place is left.
#[inline(always)]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
