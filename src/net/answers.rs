//! Answers on their way to a client: gathered, and put into frames when they are due. No sockets; time is handed in.

use crate::ack::{self, Policy, Range};
use crate::frame::{HEADER_LEN, Header, Kind, Welcome};

/// Most ranges of a frame, so that a client's buffer need not be large.
const RANGES: usize = 512;
/// Bytes of a range.
const RANGE_LEN: usize = 32;

/// What is to be sent to one client.
#[derive(Debug)]
pub(super) struct Answers {
    policy: Policy,
    ranges: Vec<Range>,
    /// When the first of them came, in nanoseconds.
    since: u64,
    /// Frames, of which the first `sent` bytes are.
    frames: Vec<u8>,
    sent: usize,
}

impl Answers {
    pub(super) fn new(policy: Policy) -> Self {
        Answers { policy, ranges: Vec::new(), since: 0, frames: Vec::new(), sent: 0 }
    }

    /// Where answers are added, those that were given by now.
    pub(super) fn ranges(&mut self, now: u64) -> &mut Vec<Range> {
        if self.ranges.is_empty() {
            self.since = now;
        }
        &mut self.ranges
    }

    /// Puts answers into frames if they are due.
    pub(super) fn settle(&mut self, now: u64) {
        let is_due = !self.ranges.is_empty()
            && match self.policy {
                Policy::Immediate => true,
                Policy::Batch { events, age } => {
                    now.saturating_sub(self.since) >= age || self.events() >= u64::from(events)
                }
                Policy::Deferred => self.ranges.len() >= RANGES,
            };
        if is_due {
            self.flush();
        }
    }

    /// When they are due if nothing else happens.
    pub(super) fn due_at(&self) -> Option<u64> {
        match self.policy {
            Policy::Batch { age, .. } if !self.ranges.is_empty() => Some(self.since.saturating_add(age)),
            _ => None,
        }
    }

    fn events(&self) -> u64 {
        self.ranges.iter().fold(0, |sum, range| (range.last() - range.first()).saturating_add(1).saturating_add(sum))
    }

    /// Puts all answers into frames.
    pub(super) fn flush(&mut self) {
        for ranges in self.ranges.chunks(RANGES) {
            let encode = |buffer: &mut [u8]| ack::encode(ranges, buffer);
            Self::append(&mut self.frames, HEADER_LEN + ranges.len() * RANGE_LEN, encode);
        }
        self.ranges.clear();
    }

    pub(super) fn welcome(&mut self, welcome: &Welcome) {
        self.flush();
        Self::append(&mut self.frames, 2 * HEADER_LEN, |buffer| welcome.encode(buffer));
    }

    pub(super) fn pong(&mut self) {
        self.flush();
        self.frames.extend_from_slice(&Header::new(Kind::Pong).encode());
    }

    fn append<E>(frames: &mut Vec<u8>, room: usize, encode: impl FnOnce(&mut [u8]) -> Result<usize, E>) {
        let at = frames.len();
        frames.resize(at + room, 0);
        let len = encode(&mut frames[at..]).unwrap_or(0);
        frames.truncate(at + len);
    }

    /// What is to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.frames[self.sent..]
    }

    /// So much of it was.
    pub(super) fn was_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.frames.len() {
            self.frames.clear();
            self.sent = 0;
        } else if self.sent >= 64 << 10 {
            self.frames.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Bytes that a client leaves unread, or will.
    pub(super) fn backlog(&self) -> usize {
        self.unsent().len() + self.ranges.len() * RANGE_LEN
    }
}
