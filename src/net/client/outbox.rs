//! What a client still has to say: the heart of it, without a socket.
//!
//! An [`Outbox`] numbers events, keeps each as a frame until its fate is known, and says which bytes go onto the connection
//! next. Whoever has the socket carries bytes there and answers back. Time is handed in, in nanoseconds of any clock that only
//! goes forward.
//!
//! ```
//! use conduit::ack::{Range, Status};
//! use conduit::frame::{Durability, Event, Welcome};
//! use conduit::net::outbox::{Fate, Outbox, Settings};
//!
//! let mut outbox = Outbox::new(Settings { producer: *b"sensor 1, boot 9", ..Settings::default() })?;
//! let mut wire = Vec::new();
//! outbox.connected();
//! outbox.transmit(0, &mut wire, usize::MAX); // HELLO
//! let welcome = Welcome {
//!     session: 1, last_sequence: 41, max_len: 1 << 20, credit: 8, version: 1, durability: Durability::None,
//! };
//! outbox.welcome(&welcome)?;
//! let sequence = outbox.push(&Event { topic: b"sensors/imu", payload: b"hello", ..Event::default() })?;
//! assert_eq!(sequence, 42, "behind the last that the server has seen");
//! outbox.transmit(0, &mut wire, usize::MAX);
//! let mut accepted = Range::of(42, Status::Accepted);
//! accepted.credit = 8;
//! outbox.answer(&accepted, 1_000)?;
//! assert_eq!(outbox.next_outcome().map(|outcome| outcome.fate), Some(Fate::Answered(Status::Accepted)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::ack::{NO_LANE, Range, Status};
use crate::frame::{self, Durability, Event, Flags, Hello, Welcome};

mod outcome;
mod settings;
#[cfg(test)]
mod tests;

pub use outcome::{Counts, Fate, Fault, Outcome, Refused};
pub use settings::{Acks, First, MAX_WINDOW, Retry, Settings};

/// How often a frame is sent that arrives damaged. More than that is no accident.
const DAMAGED_TRIES: u32 = 3;
/// The first wait where the server names none, and the longest that repeated refusals grow to.
const BACKOFF: (u64, u64) = (1_000_000, 1_000_000_000);
/// What is kept of a buffer that is no longer needed.
const SPARE: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// To be sent.
    Queued,
    /// On its way; `accepted` if it was, and is to be durable, too.
    InFlight { accepted: bool },
    /// Refused: to be sent again at `until`.
    Backoff { until: u64 },
    /// Its outcome is told.
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its frame begins, counted from the first byte ever.
    start: u64,
    len: u32,
    state: State,
    /// Whether it was sent more than once, or over more than one connection.
    again: bool,
    /// How often it was refused.
    refusals: u32,
    /// When it was refused first.
    since: u64,
}

/// Events that are to be sent, or whose fate is not known.
#[derive(Debug)]
pub struct Outbox {
    settings: Settings,
    /// Frames end to end, those of `entries`.
    frames: Vec<u8>,
    /// The place of the first byte of `frames`, counted from the first byte ever.
    origin: u64,
    /// Of consecutive sequences. The first one is not settled.
    entries: VecDeque<Entry>,
    /// The sequence of the first entry. 0: not known yet.
    base: u64,
    /// No entry before this sequence is queued.
    cursor: u64,
    in_flight: u32,
    /// When entries in backoff are due. One that is not in backoff until then any more stays here until it is found.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    greeted: bool,
    welcome: Option<Welcome>,
    /// What the server had seen when it was reached first.
    seen_at_first: Option<u64>,
    /// With [`Acks::None`]: what the server is known to have, or counted as unconfirmed.
    confirmed: u64,
    /// The last sequence sent before each ping that is not answered.
    pings: VecDeque<u64>,
    outcomes: VecDeque<Outcome>,
    counts: Counts,
}

impl Outbox {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// [`Fault::Window`], [`Fault::First`], [`Fault::Greeting`]: settings that cannot work.
    pub fn new(settings: Settings) -> Result<Self, Fault> {
        if !(1..=MAX_WINDOW).contains(&settings.window) {
            return Err(Fault::Window(settings.window));
        }
        let base = match settings.first {
            First::BehindLast => 0,
            First::At(0) => return Err(Fault::First),
            First::At(first) => first,
        };
        let outbox = Outbox {
            settings,
            frames: Vec::new(),
            origin: 0,
            entries: VecDeque::new(),
            base,
            cursor: base,
            in_flight: 0,
            due: BinaryHeap::new(),
            greeted: true,
            welcome: None,
            seen_at_first: None,
            confirmed: base.saturating_sub(1),
            pings: VecDeque::new(),
            outcomes: VecDeque::new(),
            counts: Counts::default(),
        };
        outbox.hello(&mut Vec::new())?;
        Ok(outbox)
    }

    /// Takes an event, whatever its flags and sequence say, and gives it the next sequence.
    ///
    /// # Errors
    ///
    /// [`Refused`]. Nothing of it was taken.
    pub fn push(&mut self, event: &Event<'_>) -> Result<u64, Refused> {
        let checksum = if self.settings.checksum { Flags::BODY_CRC } else { Flags::default() };
        let flags = match self.settings.acks {
            Acks::None => checksum,
            Acks::Accepted => checksum.and(Flags::ACK_REQUESTED),
            Acks::Durable => checksum.and(Flags::ACK_REQUESTED).and(Flags::ACK_WHEN_DURABLE),
        };
        let crc = if self.settings.checksum { 4 } else { 0 };
        let len = frame::HEADER_LEN + event.topic.len() + event.payload.len() + crc;
        let max = self.welcome.map_or(frame::MAX_LEN, |welcome| welcome.max_len as usize).min(frame::MAX_LEN);
        if len > max {
            return Err(Refused::TooLarge { len, max });
        }
        let waiting = self.frames.len() - self.dead();
        let full = self.entries.len() >= self.settings.window as usize
            || !self.entries.is_empty() && waiting + len > self.settings.max_bytes;
        if self.base == 0 || full {
            return Err(Refused::Full);
        }
        let sequence = self.next().ok_or(Refused::Exhausted)?;
        let at = self.frames.len();
        self.frames.resize(at + len, 0);
        if let Err(error) = (Event { flags, sequence, ..*event }).encode(&mut self.frames[at..]) {
            self.frames.truncate(at);
            return Err(error.into());
        }
        let start = self.origin + at as u64;
        // No frame reaches 16 MiB.
        self.entries.push_back(Entry {
            start,
            len: len as u32,
            state: State::Queued,
            again: false,
            refusals: 0,
            since: 0,
        });
        Ok(sequence)
    }

    /// There is a connection, and nothing was sent over it. What was on its way over the last one is sent again.
    pub fn connected(&mut self) {
        (self.greeted, self.welcome) = (false, None);
        for entry in &mut self.entries {
            if let State::InFlight { .. } = entry.state {
                (entry.state, entry.again) = (State::Queued, true);
                self.counts.resent += 1;
            }
        }
        (self.cursor, self.in_flight) = (self.base, 0);
        self.pings.clear();
    }

    /// Puts onto `wire` what can be sent at `now`, in whole frames, until `wire` has at least `enough` bytes: a greeting first,
    /// and events once it is answered. Nothing if nothing can be sent. What is put there is on its way.
    pub fn transmit(&mut self, now: u64, wire: &mut Vec<u8>, enough: usize) {
        if !self.greeted {
            // It was made before, when the settings were looked at.
            self.greeted = self.hello(wire).is_ok();
        }
        if self.welcome.is_none() {
            return;
        }
        self.wake(now);
        let limit = self.credit();
        let forget = self.settings.acks == Acks::None;
        // Neighbours are copied at once.
        let mut run = 0..0;
        while let Some(entry) = self.entries.get_mut(self.cursor.wrapping_sub(self.base) as usize) {
            if entry.state == State::Queued {
                if self.in_flight >= limit || wire.len() + run.len() >= enough {
                    break;
                }
                let start = (entry.start - self.origin) as usize;
                if run.end != start {
                    wire.extend_from_slice(&self.frames[run]);
                    run = start..start;
                }
                run.end += entry.len as usize;
                if forget {
                    entry.state = State::Settled;
                    self.outcomes.push_back(Outcome { sequence: self.cursor, fate: Fate::Sent, retries: 0 });
                } else {
                    entry.state = State::InFlight { accepted: false };
                    self.in_flight += 1;
                }
            }
            self.cursor = self.cursor.saturating_add(1);
        }
        wire.extend_from_slice(&self.frames[run]);
        if forget {
            self.trim();
        }
    }

    /// Whether [`transmit`](Outbox::transmit) has something to send at `now`.
    pub fn has_work(&self, now: u64) -> bool {
        if self.welcome.is_none() {
            return !self.greeted;
        }
        let behind = self.entries.get(self.cursor.wrapping_sub(self.base) as usize).is_some();
        (behind || self.next_due().is_some_and(|due| due <= now)) && self.in_flight < self.credit()
    }

    /// When an event that was refused is to be sent again: what a timer is to be set to.
    pub fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((until, _))| *until)
    }

    /// Puts a PING onto `wire`, behind all that was sent: its answer says that the server has read it all.
    pub fn ping(&mut self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(&frame::Header::new(frame::Kind::Ping).encode());
        self.pings.push_back(self.cursor.saturating_sub(1));
    }

    /// Takes the answer to the oldest ping; one that answers none is counted.
    pub fn pong(&mut self) {
        match self.pings.pop_front() {
            Some(sent) => self.confirmed = self.confirmed.max(sent),
            None => self.counts.stray_answers += 1,
        }
    }

    /// How many pings of this connection are not answered.
    pub fn pings(&self) -> usize {
        self.pings.len()
    }

    /// Takes the answer to the greeting. From now on events can be sent.
    ///
    /// # Errors
    ///
    /// [`Fault::Version`], [`Fault::NotDurable`], [`Fault::Shared`]: there is no way to go on with this server.
    pub fn welcome(&mut self, welcome: &Welcome) -> Result<(), Fault> {
        if welcome.version != u32::from(frame::VERSION) {
            return Err(Fault::Version(welcome.version));
        }
        if self.settings.acks == Acks::Durable && welcome.durability == Durability::None {
            return Err(Fault::NotDurable);
        }
        let last = welcome.last_sequence;
        let seen_at_first = *self.seen_at_first.get_or_insert(last);
        if self.base == 0 {
            self.base = last.saturating_add(1);
            (self.cursor, self.confirmed) = (self.base, last);
        }
        let given = self.base.saturating_sub(1).saturating_add(self.entries.len() as u64);
        if last > given.max(seen_at_first) {
            return Err(Fault::Shared { last, given });
        }
        if self.settings.acks == Acks::None && self.welcome.is_none() {
            // All before `base` was sent.
            let sent = self.base.saturating_sub(1);
            self.counts.unconfirmed += sent.saturating_sub(self.confirmed.max(last));
            self.confirmed = sent;
        }
        self.welcome = Some(*welcome);
        for at in 0..self.entries.len() {
            let Entry { state, len, .. } = self.entries[at];
            let waits = matches!(state, State::Queued | State::Backoff { .. });
            if waits && len > welcome.max_len {
                self.settle(at, Fate::Answered(Status::TooLarge));
            }
        }
        self.trim();
        Ok(())
    }

    /// Takes the server's word on a range of events, and how many may be on their way from now on. What is not on its way is
    /// counted as stray.
    ///
    /// # Errors
    ///
    /// [`Fault::Unauthorized`] if the answer is to the client as such: of [`NO_LANE`], or to the sequence 0.
    pub fn answer(&mut self, range: &Range, now: u64) -> Result<(), Fault> {
        // Where a lane is missing, the sequence is a place in the stream.
        let of_none = range.lane == NO_LANE || range.last() == 0;
        if of_none && range.status == Status::Unauthorized {
            return Err(Fault::Unauthorized);
        }
        if range.status == Status::BadFrame {
            self.counts.bad_frames += 1;
        }
        // Who could not read a frame knows nothing of credit.
        let says = if of_none { range.status.is_success() } else { range.status != Status::BadFrame };
        if let Some(welcome) = self.welcome.as_mut().filter(|_| says) {
            welcome.credit = range.credit;
        }
        if of_none {
            return Ok(());
        }
        let end = self.base.saturating_add(self.entries.len() as u64);
        let (first, past) = (range.first().max(self.base), range.last().saturating_add(1).min(end));
        let mut strays = (range.last() - range.first()).saturating_add(1);
        for sequence in first..past {
            if self.answer_one((sequence - self.base) as usize, range, now) {
                strays -= 1;
            }
        }
        self.counts.stray_answers = self.counts.stray_answers.saturating_add(strays);
        self.trim();
        Ok(())
    }

    /// The next outcome that was not told yet.
    pub fn next_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// Gives up: what has no outcome yet is [`Fate::Unanswered`].
    pub fn abandon(&mut self) {
        for at in 0..self.entries.len() {
            if self.entries[at].state != State::Settled {
                self.settle(at, Fate::Unanswered);
            }
        }
        self.trim();
    }

    /// How many events have no outcome yet, and those between them.
    pub fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// How many events are on their way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What the server said last of itself, on this connection.
    pub fn server(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// What else happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many events may be on their way. Who asks for no answers is slowed by the connection instead.
    fn credit(&self) -> u32 {
        match (self.settings.acks, &self.welcome) {
            (Acks::None, _) => u32::MAX,
            (_, Some(welcome)) => welcome.credit.min(self.settings.window),
            (_, None) => 0,
        }
    }

    /// The next event's sequence; `None` if there are none left.
    fn next(&self) -> Option<u64> {
        // The last one is left out, so that what is behind each is a number.
        self.base.checked_add(self.entries.len() as u64).filter(|next| *next < u64::MAX)
    }

    fn hello(&self, wire: &mut Vec<u8>) -> Result<(), Fault> {
        let Settings { window, producer, token, .. } = &self.settings;
        let hello = Hello { version: frame::VERSION.into(), window: *window, producer: *producer, token };
        let at = wire.len();
        wire.resize(at + frame::HEADER_LEN + 24 + token.len(), 0);
        hello.encode(&mut wire[at..]).map(drop).map_err(|error| {
            wire.truncate(at);
            Fault::Greeting(error)
        })
    }

    /// Queues again what is due.
    fn wake(&mut self, now: u64) {
        while let Some(&Reverse((until, sequence))) = self.due.peek().filter(|Reverse((until, _))| *until <= now) {
            self.due.pop();
            let entry = sequence.checked_sub(self.base).and_then(|at| self.entries.get_mut(at as usize));
            if let Some(entry) = entry.filter(|entry| entry.state == State::Backoff { until }) {
                (entry.state, entry.again) = (State::Queued, true);
                self.counts.resent += 1;
                self.cursor = self.cursor.min(sequence);
            }
        }
    }

    /// Takes the word on one entry; returns whether it was on its way.
    fn answer_one(&mut self, at: usize, range: &Range, now: u64) -> bool {
        let entry = &mut self.entries[at];
        let State::InFlight { accepted } = entry.state else { return false };
        match range.status {
            Status::Accepted if self.settings.acks == Acks::Durable => {
                entry.state = State::InFlight { accepted: true };
                return !accepted;
            }
            Status::Throttled | Status::BadFrame => {
                if entry.refusals == 0 {
                    entry.since = now;
                }
                entry.refusals = entry.refusals.saturating_add(1);
                // Grows by itself where the server goes on refusing: no answer may have a frame sent in a tight loop.
                let backoff = (BACKOFF.0 << (entry.refusals - 1).min(16)).min(BACKOFF.1);
                let wait = (u64::from(range.retry_after_ms) * 1_000_000).max(backoff);
                let until = now.saturating_add(wait);
                let Retry { tries, deadline } = self.settings.retry;
                let tries = if range.status == Status::BadFrame { tries.min(DAMAGED_TRIES) } else { tries };
                let last = entry.since.saturating_add(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
                if entry.refusals >= tries || until > last {
                    self.settle(at, Fate::Answered(range.status));
                } else {
                    entry.state = State::Backoff { until };
                    self.due.push(Reverse((until, self.base + at as u64)));
                    self.in_flight -= 1;
                }
            }
            status => {
                if status == Status::Duplicate && !entry.again && self.settings.first == First::BehindLast {
                    self.counts.collisions += 1;
                }
                self.settle(at, Fate::Answered(status));
            }
        }
        true
    }

    fn settle(&mut self, at: usize, fate: Fate) {
        let entry = &mut self.entries[at];
        let retries = match fate {
            // The last refusal was not followed by another try.
            Fate::Answered(Status::Throttled | Status::BadFrame) => entry.refusals.saturating_sub(1),
            _ => entry.refusals,
        };
        if let State::InFlight { .. } = entry.state {
            self.in_flight -= 1;
        }
        entry.state = State::Settled;
        self.outcomes.push_back(Outcome { sequence: self.base + at as u64, fate, retries });
    }

    /// Bytes before the first entry's frame.
    fn dead(&self) -> usize {
        self.entries.front().map_or(self.frames.len(), |entry| (entry.start - self.origin) as usize)
    }

    /// Lets go of what is settled at the front.
    fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.state == State::Settled) {
            self.entries.pop_front();
            self.base += 1;
        }
        self.cursor = self.cursor.max(self.base);
        let dead = self.dead();
        if dead == self.frames.len() || dead > SPARE.max(self.frames.len() / 2) {
            self.frames.drain(..dead);
            self.origin += dead as u64;
            self.frames.shrink_to(SPARE);
        }
        if self.entries.is_empty() {
            self.due.clear();
        }
    }
}
