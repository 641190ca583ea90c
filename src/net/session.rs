//! What a connection or a datagram says: bytes in, events and requests out. No sockets, no clock.

use crate::engine::Entries;
use crate::frame::{self, Decoded, Dialect, Event, Fault, Hello, Kind, legacy};

/// Where events go that are found.
pub(crate) trait Sink {
    /// Takes one whose topic is at byte `at` of what is read, with the payload behind it.
    fn add(&mut self, at: usize, event: &Event<'_>);
}

impl Sink for Entries<'_> {
    #[inline]
    fn add(&mut self, at: usize, event: &Event<'_>) {
        Entries::add(self, at, event);
    }
}

/// How far a stream of frames was understood.
#[derive(Debug)]
pub(crate) struct Session {
    dialect: Option<Dialect>,
    max_len: usize,
    /// Bytes of the stream that were understood.
    offset: u64,
}

/// What stopped the reading of frames.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop<'a> {
    /// There have to be so many bytes from here on before it is worth another try.
    Incomplete { need: usize },
    /// A client introduced itself. What it sends from here on is this producer's.
    Hello(Hello<'a>),
    /// A client wants to know whether somebody is there.
    Ping,
    /// An event whose body is not as it was sent. Its sequence, 0 if it has none.
    BadBody { sequence: u64 },
    /// Nothing behind this can be trusted.
    Fault { fault: Fault, offset: u64 },
}

impl Session {
    pub(crate) fn new(max_len: usize) -> Self {
        Session { dialect: None, max_len, offset: 0 }
    }

    /// Has frames be so long from here on.
    pub(crate) fn allow(&mut self, max_len: usize) {
        self.max_len = max_len;
    }

    /// Which frames come, once the first byte is there.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Bytes of the stream that were understood.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Understands frames from byte `at` of the buffer on, and adds the events among them to the batch; `at` is where the next
    /// frame begins, afterwards. Stops at what is no event.
    ///
    /// Inlined into the one place that reads: it is what an event costs.
    #[inline]
    pub(crate) fn read<'b>(&mut self, bytes: &'b [u8], at: &mut usize, events: &mut impl Sink) -> Stop<'b> {
        let begin = *at;
        let stop = self.read_frames(bytes, at, events);
        self.offset += (*at - begin) as u64;
        match stop {
            Stop::Fault { fault, .. } => Stop::Fault { fault, offset: self.offset },
            stop => stop,
        }
    }

    fn read_frames<'b>(&mut self, bytes: &'b [u8], at: &mut usize, events: &mut impl Sink) -> Stop<'b> {
        let dialect = match (self.dialect, bytes.get(*at)) {
            (Some(dialect), _) => dialect,
            (None, None) => return Stop::Incomplete { need: 1 },
            (None, Some(&first)) => match Dialect::of(first) {
                Some(dialect) => *self.dialect.insert(dialect),
                None => return Stop::Fault { fault: Fault::Magic, offset: 0 },
            },
        };
        match dialect {
            Dialect::Version1 => self.read_version_1(bytes, at, events),
            Dialect::Legacy => self.read_legacy(bytes, at, events),
        }
    }

    fn read_version_1<'b>(&self, bytes: &'b [u8], at: &mut usize, events: &mut impl Sink) -> Stop<'b> {
        loop {
            let (header, body, len) = match frame::decode(&bytes[*at..], self.max_len) {
                Ok(Decoded::Frame { header, body, len }) => (header, body, len),
                Ok(Decoded::Incomplete { need }) => return Stop::Incomplete { need },
                Err(Fault::BodyCrc { sequence, len }) => {
                    *at += len;
                    return Stop::BadBody { sequence };
                }
                Err(fault) => return Stop::Fault { fault, offset: 0 },
            };
            let body_at = *at + frame::HEADER_LEN;
            match header.kind {
                Kind::Event => match header.event(body) {
                    Ok(event) => events.add(body_at, &event),
                    Err(fault) => return Stop::Fault { fault, offset: 0 },
                },
                Kind::Hello => match header.hello(body) {
                    Ok(hello) => {
                        *at += len;
                        return Stop::Hello(hello);
                    }
                    Err(fault) => return Stop::Fault { fault, offset: 0 },
                },
                Kind::Ping => {
                    *at += len;
                    return Stop::Ping;
                }
                Kind::Pong => {}
                // Those are a server's to send.
                Kind::Ack | Kind::Welcome => {
                    return Stop::Fault { fault: Fault::Kind(header.kind as u8), offset: 0 };
                }
            }
            *at += len;
        }
    }

    fn read_legacy<'b>(&self, bytes: &'b [u8], at: &mut usize, events: &mut impl Sink) -> Stop<'b> {
        loop {
            match legacy::decode(&bytes[*at..], self.max_len) {
                Ok(legacy::Decoded::Frame { priority, topic, payload, len }) => {
                    let topic_at = *at + len - payload.len() - topic.len();
                    // One that is longer than any topic is refused later, as one that is no name.
                    let topic = &topic[..topic.len().min(u8::MAX.into())];
                    let event = Event { priority, topic, payload, ..Event::default() };
                    events.add(topic_at, &event);
                    *at += len;
                }
                Ok(legacy::Decoded::Incomplete { need }) => return Stop::Incomplete { need },
                Err(fault) => return Stop::Fault { fault, offset: 0 },
            }
        }
    }
}
