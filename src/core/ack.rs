//! What became of events: ranges of sequences with one answer each, and when to send them.
//!
//! One acknowledgement covers all that was read at a time; what went otherwise is a range of its own. Pure: time is handed
//! in, in nanoseconds of any clock that only goes forward.

use super::frame::{EncodeError, Fault, Header, Kind, codes};

#[cfg(all(test, not(loom)))]
mod tests;

codes! {
    /// What became of an event.
    Status {
        /// It is in a lane.
        Accepted = 0,
        /// It is on disk, as the server's policy says.
        Durable = 1,
        /// It was seen before. As good as accepted.
        Duplicate = 2,
        /// It was not taken: send it again after a while.
        Throttled = 16,
        /// It was not taken, and is not kept.
        Dropped = 17,
        /// It is kept with the dead letters, with the reason.
        DeadLettered = 18,
        /// The frame was none.
        BadFrame = 32,
        /// The topic's name is none, or it may not be published there.
        BadTopic = 33,
        /// The frame was longer than agreed.
        TooLarge = 34,
        /// This client may not do that.
        Unauthorized = 35,
        /// It came too late to be of use.
        Expired = 36,
    }
}

impl Status {
    /// Whether the event needs no more of its producer.
    pub const fn is_success(self) -> bool {
        matches!(self, Status::Accepted | Status::Durable | Status::Duplicate)
    }
}

impl From<Fault> for Status {
    /// What the sender of a frame is told.
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLarge { .. } => Status::TooLarge,
            Fault::Topic(_) => Status::BadTopic,
            _ => Status::BadFrame,
        }
    }
}

/// The lane in an answer to no event, behind which the connection ends: its sequence is the place in the stream at which
/// something was wrong, in bytes, or 0 for a client that may not do this at all.
pub const NO_LANE: u8 = 255;

/// Consecutive sequences with the same answer: one at least.
///
/// ```
/// use conduit::ack::{Range, Status};
///
/// let mut range = Range::through(1, 9, Status::Accepted).expect("1 is not above 9");
/// range.credit = 64;
/// assert_eq!((range.first(), range.last()), (1, 9));
/// assert_eq!(Range::through(9, 1, Status::Accepted), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Range {
    first: u64,
    /// Not below `first`.
    last: u64,
    /// What became of them.
    pub status: Status,
    /// The number of the lane that they are in, or would have been; [`NO_LANE`] if this is about no event.
    pub lane: u8,
    /// When to send them again, in milliseconds, if they were throttled.
    pub retry_after_ms: u32,
    /// How many more events may be on their way.
    pub credit: u32,
}

/// Bytes of a range in a frame.
const RANGE_LEN: usize = 32;

impl Range {
    /// One event's answer, with nothing to say about retries and credit.
    pub const fn of(sequence: u64, status: Status) -> Self {
        Range { first: sequence, last: sequence, status, lane: 0, retry_after_ms: 0, credit: 0 }
    }

    /// One answer for all from `first` to `last`, with nothing to say about retries and credit. `None` if `first` is above
    /// `last`.
    pub const fn through(first: u64, last: u64, status: Status) -> Option<Self> {
        if first > last { None } else { Some(Range { last, ..Range::of(first, status) }) }
    }

    /// The first sequence.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// The last sequence, not below the first.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Takes `next` in, if it goes on where this one ends, with the same answer.
    pub(crate) fn merge(&mut self, next: &Range) -> bool {
        let same = (self.status, self.lane) == (next.status, next.lane) && self.last.checked_add(1) == Some(next.first);
        if same {
            self.last = next.last;
            self.credit = next.credit;
            self.retry_after_ms = self.retry_after_ms.max(next.retry_after_ms);
        }
        same
    }

    fn to_bytes(self) -> [u8; RANGE_LEN] {
        let mut bytes = [0; RANGE_LEN];
        bytes[..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.last.to_le_bytes());
        bytes[16] = self.status as u8;
        bytes[17] = self.lane;
        bytes[20..24].copy_from_slice(&self.retry_after_ms.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.credit.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; RANGE_LEN]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let range = Range::through(long(0), long(8), Status::from_code(bytes[16])?)?;
        Some(Range { lane: bytes[17], retry_after_ms: word(20), credit: word(24), ..range })
    }
}

/// Puts ranges into `buffer` as an ACK frame; returns the frame's length.
///
/// ```
/// use conduit::ack::{self, Range, Status};
/// use conduit::frame::{self, Decoded};
///
/// let accepted = Range::through(1, 9, Status::Accepted).expect("1 is not above 9");
/// let ranges = [accepted, Range::of(10, Status::Throttled)];
/// let mut buffer = [0; 128];
/// let len = ack::encode(&ranges, &mut buffer).expect("it fits");
/// let Ok(Decoded::Frame { header, body, .. }) = frame::decode(&buffer[..len], 1024) else { panic!() };
/// assert!(ack::decode(&header, body)?.eq(ranges));
/// # Ok::<(), frame::Fault>(())
/// ```
///
/// # Errors
///
/// [`EncodeError::NoRoom`]; [`EncodeError::TooLarge`] of more than 524,286 ranges.
pub fn encode(ranges: &[Range], buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let parts = ranges.iter().map(|range| range.to_bytes());
    Header::new(Kind::Ack).put_all(ranges.len() * RANGE_LEN, parts, buffer)
}

/// The ranges in the body of an ACK frame. All were checked: what is in them means something.
///
/// # Errors
///
/// [`Fault::Kind`] if it is another frame, [`Fault::Body`] if a range is none.
pub fn decode<'a>(header: &Header, body: &'a [u8]) -> Result<impl Iterator<Item = Range> + Clone + 'a, Fault> {
    header.expect(Kind::Ack)?;
    let ranges = body.chunks(RANGE_LEN).map(|bytes| Range::from_bytes(bytes.try_into().ok()?));
    if ranges.clone().any(|range| range.is_none()) {
        return Err(Fault::Body(Kind::Ack));
    }
    Ok(ranges.flatten())
}

/// When answers are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Policy {
    /// Each at once.
    Immediate,
    /// When so many events are answered, or when the oldest answer is so old, in nanoseconds.
    Batch {
        /// Events.
        events: u32,
        /// Nanoseconds.
        age: u64,
    },
    /// When whoever collects them asks for them; those of a [`Batch`] also when it has no room for more. A link's end needs no room for
    /// them, and acknowledges when the program says so and never else.
    Deferred,
}

impl Default for Policy {
    /// 32 events or 5 ms.
    fn default() -> Self {
        Policy::Batch { events: 32, age: 5_000_000 }
    }
}

/// Collects answers until they are due: up to `N` ranges.
///
/// An answer is merged with the one added before it if it begins where that one ends (its first sequence is that one's last
/// and 1) and has the same status and lane. The range they become says the credit of the newer one, which takes the place of
/// what was said before, and the longer wait of the two. Any other answer is a range of its own, though it should fit one
/// that was added earlier, or say again what was said: the ranges tell of the events in the order in which they were answered.
///
/// ```
/// use conduit::ack::{Batch, Policy, Range, Status};
///
/// let mut batch = Batch::<16>::new(Policy::Batch { events: 3, age: 5_000_000 });
/// for sequence in 1..=3 {
///     batch.add(Range::of(sequence, Status::Accepted), 1000).expect("there is room");
/// }
/// assert!(batch.is_due(1000), "three events are answered");
/// assert_eq!(batch.ranges(), [Range::through(1, 3, Status::Accepted).expect("1 is not above 3")]);
/// batch.clear();
/// ```
#[derive(Clone, Debug)]
pub struct Batch<const N: usize> {
    policy: Policy,
    ranges: [Range; N],
    used: usize,
    /// Events in the ranges.
    events: u64,
    /// When the first answer was added.
    since: u64,
}

impl<const N: usize> Batch<N> {
    /// An empty one.
    pub const fn new(policy: Policy) -> Self {
        const { assert!(N > 0, "a batch has room for a range") };
        Batch { policy, ranges: [Range::of(0, Status::Accepted); N], used: 0, events: 0, since: 0 }
    }

    /// Adds an answer, given at `now`: to the last range, if the two [merge](Batch), or as a range of its own.
    ///
    /// # Errors
    ///
    /// The answer, if there is no room: send what is [there](Batch::ranges), [`clear`](Batch::clear), and add it again.
    pub fn add(&mut self, answer: Range, now: u64) -> Result<(), Range> {
        let merged = self.ranges[..self.used].last_mut().is_some_and(|last| last.merge(&answer));
        if !merged {
            if self.used == N {
                return Err(answer);
            }
            if self.used == 0 {
                self.since = now;
            }
            self.ranges[self.used] = answer;
            self.used += 1;
        }
        self.events = self.events.saturating_add((answer.last - answer.first).saturating_add(1));
        Ok(())
    }

    /// Whether the answers are to be sent at `now`.
    pub fn is_due(&self, now: u64) -> bool {
        if self.used == 0 {
            return false;
        }
        match self.policy {
            Policy::Immediate => true,
            _ if self.used == N => true,
            Policy::Batch { events, age } => self.events >= u64::from(events) || now.saturating_sub(self.since) >= age,
            Policy::Deferred => false,
        }
    }

    /// When the answers are due if nothing is added: what a timer is to be set to. `None` if no time makes them due.
    pub fn due_at(&self) -> Option<u64> {
        match self.policy {
            Policy::Batch { age, .. } if self.used > 0 => Some(self.since.saturating_add(age)),
            _ => None,
        }
    }

    /// The answers so far, in the order in which they were added.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges[..self.used]
    }

    /// How many events were answered since the last time that it was cleared.
    pub fn pending(&self) -> u64 {
        self.events
    }

    /// Forgets the answers: they were sent.
    pub fn clear(&mut self) {
        (self.used, self.events) = (0, 0);
    }
}
