//! What stands in frames of each kind.

use super::{EncodeError, Encoding, Fault, Flags, Header, Kind, Priority, codes, u32_at, u64_at};
use crate::core::name::{MAX_TOPIC, topic_fault};

/// A message for a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Event<'a> {
    /// What its producer asks for.
    pub flags: Flags,
    /// Its number within its producer, from 1. 0: none, and no protection against duplicates.
    pub sequence: u64,
    /// When it was made, in nanoseconds since 1970. 0: the receiver stamps it.
    pub timestamp: u64,
    /// How much it matters.
    pub priority: Priority,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// The topic's name, as it came: see [`topic`](Event::topic).
    pub topic: &'a [u8],
    /// The message.
    pub payload: &'a [u8],
}

impl<'a> Event<'a> {
    /// The topic's name, checked. Not part of decoding, because whoever keeps topics by name knows the good ones already.
    ///
    /// # Errors
    ///
    /// [`Fault::Topic`].
    pub fn topic(&self) -> Result<&'a str, Fault> {
        match (topic_fault(self.topic), ::core::str::from_utf8(self.topic)) {
            (None, Ok(topic)) => Ok(topic),
            (reason, _) => Err(Fault::Topic(reason.unwrap_or("it is no UTF-8"))),
        }
    }

    /// Puts the event into `buffer` as a frame, with a checksum of the body if [`Flags::BODY_CRC`] is set. Returns the
    /// frame's length. [`decode`](super::decode) takes each frame that it makes, and finds the same event in it.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TopicLength`] if the topic has not 1 to 200 bytes (what they spell is left to who asks for the
    /// [`topic`](Event::topic)), [`EncodeError::TooLarge`] from 16 MiB on, [`EncodeError::NoRoom`].
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        let topic_len = match self.topic.len() {
            len @ 1..=MAX_TOPIC => len as u16,
            len => return Err(EncodeError::TopicLength(len)),
        };
        let header = Header {
            flags: self.flags,
            sequence: self.sequence,
            timestamp: self.timestamp,
            priority: self.priority,
            encoding: self.encoding,
            topic_len,
            ..Header::new(Kind::Event)
        };
        header.put(&[self.topic, self.payload], buffer)
    }
}

/// A client introduces itself. Layout: protocol version (u32), window (u32), producer (16 bytes), token (the rest).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// The highest version of the frame that the client speaks.
    pub version: u32,
    /// How many events it would like to have on their way at a time.
    pub window: u32,
    /// Who it is, across connections.
    pub producer: [u8; 16],
    /// What it may do, for servers that ask.
    pub token: &'a [u8],
}

/// Longest token, in bytes.
pub(super) const MAX_TOKEN: usize = 1024;

impl Hello<'_> {
    /// Puts it into `buffer` as a frame; returns the frame's length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TokenLength`] if the token is longer than 1024 bytes, [`EncodeError::NoRoom`].
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        if self.token.len() > MAX_TOKEN {
            return Err(EncodeError::TokenLength(self.token.len()));
        }
        let parts: [&[u8]; 4] = [&self.version.to_le_bytes(), &self.window.to_le_bytes(), &self.producer, self.token];
        Header::new(Kind::Hello).put(&parts, buffer)
    }
}

codes! {
    /// What an answer of [`Durable`](crate::ack::Status::Durable) says: what a written event survives.
    Durability {
        /// Nothing: the server keeps no events, and never gives that answer.
        None = 0,
        /// The end of the server's process. After a loss of power it may be gone.
        Written = 1,
        /// A loss of power, once the time between two syncs is over.
        Interval = 2,
        /// A loss of power: the disk had it before the answer was given.
        Synced = 3,
    }
}

/// A server answers. Layout: session (u64), last sequence (u64), largest frame (u32), credit (u32), version (u32),
/// durability (u8), and three bytes that are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Welcome {
    /// This connection.
    pub session: u64,
    /// The highest sequence that was ever taken from this producer; it sends again what is above. 0: none.
    pub last_sequence: u64,
    /// The largest frame that is taken.
    pub max_len: u32,
    /// How many events may be on their way at a time.
    pub credit: u32,
    /// The version of the frame that is spoken from here on.
    pub version: u32,
    /// What an event that is answered as durable survives.
    pub durability: Durability,
}

impl Welcome {
    /// Puts it into `buffer` as a frame; returns the frame's length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NoRoom`].
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        let parts: [&[u8]; 6] = [
            &self.session.to_le_bytes(),
            &self.last_sequence.to_le_bytes(),
            &self.max_len.to_le_bytes(),
            &self.credit.to_le_bytes(),
            &self.version.to_le_bytes(),
            &[self.durability as u8, 0, 0, 0],
        ];
        Header::new(Kind::Welcome).put(&parts, buffer)
    }
}

impl Header {
    /// The body of a frame of this header as an event.
    ///
    /// # Errors
    ///
    /// [`Fault::Kind`] if it is none; [`Fault::TopicLength`] if `body` is not the one that came with the header.
    #[inline]
    pub fn event<'a>(&self, body: &'a [u8]) -> Result<Event<'a>, Fault> {
        self.expect(Kind::Event)?;
        let (topic, payload) =
            body.split_at_checked(self.topic_len.into()).ok_or(Fault::TopicLength(self.topic_len))?;
        Ok(Event {
            flags: self.flags,
            sequence: self.sequence,
            timestamp: self.timestamp,
            priority: self.priority,
            encoding: self.encoding,
            topic,
            payload,
        })
    }

    /// The body of a frame of this header as a greeting.
    ///
    /// # Errors
    ///
    /// [`Fault::Kind`], [`Fault::Body`].
    pub fn hello<'a>(&self, body: &'a [u8]) -> Result<Hello<'a>, Fault> {
        self.expect(Kind::Hello)?;
        let Some((fixed, token)) = body.split_first_chunk::<24>() else { return Err(Fault::Body(Kind::Hello)) };
        let mut producer = [0; 16];
        producer.copy_from_slice(&fixed[8..]);
        if token.len() > MAX_TOKEN {
            return Err(Fault::Body(Kind::Hello));
        }
        Ok(Hello { version: u32_at(fixed, 0), window: u32_at(fixed, 4), producer, token })
    }

    /// The body of a frame of this header as the answer to a greeting.
    ///
    /// # Errors
    ///
    /// [`Fault::Kind`], [`Fault::Body`].
    pub fn welcome(&self, body: &[u8]) -> Result<Welcome, Fault> {
        self.expect(Kind::Welcome)?;
        // Later versions may add to it.
        let Some(fixed) = body.first_chunk::<32>() else { return Err(Fault::Body(Kind::Welcome)) };
        Ok(Welcome {
            durability: Durability::from_code(fixed[28]).ok_or(Fault::Body(Kind::Welcome))?,
            session: u64_at(fixed, 0),
            last_sequence: u64_at(fixed, 8),
            max_len: u32_at(fixed, 16),
            credit: u32_at(fixed, 20),
            version: u32_at(fixed, 24),
        })
    }

    /// That the frame is of `kind`.
    pub(crate) fn expect(&self, kind: Kind) -> Result<(), Fault> {
        if self.kind == kind { Ok(()) } else { Err(Fault::Kind(self.kind as u8)) }
    }
}
