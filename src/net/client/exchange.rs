//! What passes between a client and its server, as bytes: the outbox, what the server says, and what came of it all.

use super::error::Break;
use super::outbox::{Acks, Fault, Outbox, Outcome, Refused};
use super::replies::{Replies, Reply};
use super::report::Report;
use crate::frame::{Event, Header, Kind};

/// Bytes that are written at a time.
const CHUNK: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) outbox: Outbox,
    replies: Replies,
    report: Report,
    /// Pings of the server that are not answered.
    pongs: u32,
    /// Whether all that was sent is to be confirmed by an answered ping.
    confirm: bool,
    /// Whether outcomes are kept for whoever asks for them.
    tells: bool,
}

impl Exchange {
    pub(super) fn new(outbox: Outbox, tells: bool) -> Self {
        let (replies, report) = Default::default();
        Exchange { outbox, replies, report, pongs: 0, confirm: false, tells }
    }

    /// There is a connection.
    pub(super) fn connected(&mut self) {
        self.outbox.connected();
        self.replies.reset();
        self.pongs = 0;
        self.report.connections += 1;
    }

    /// Takes an event; returns its sequence, and whether it can be sent at once. `None` if there is no room.
    pub(super) fn push(&mut self, event: &Event<'_>) -> Result<Option<(u64, bool)>, Refused> {
        match self.outbox.push(event) {
            // What becomes due in the course of time needs nobody to say so.
            Ok(sequence) => Ok(Some((sequence, self.outbox.has_work(0)))),
            Err(Refused::Full) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// Puts onto `wire` what is to be written now.
    pub(super) fn transmit(&mut self, now: u64, wire: &mut Vec<u8>, told: &mut Vec<Outcome>) {
        for _ in 0..std::mem::take(&mut self.pongs) {
            wire.extend_from_slice(&Header::new(Kind::Pong).encode());
        }
        self.outbox.transmit(now, wire, CHUNK);
        if self.confirm && self.outbox.waiting() == 0 && self.outbox.server().is_some() {
            self.confirm = false;
            self.outbox.ping(wire);
        }
        self.tell(told);
    }

    /// Takes what the server said.
    pub(super) fn receive(&mut self, bytes: &[u8], now: u64, told: &mut Vec<Outcome>) -> Result<(), Break> {
        let Exchange { outbox, replies, pongs, .. } = self;
        let taken = replies.take(bytes, |reply| -> Result<(), Break> {
            match reply {
                Reply::Welcome(welcome) => outbox.welcome(&welcome)?,
                Reply::Answer(range) => outbox.answer(&range, now)?,
                // One answer is enough for who asks faster than it reads.
                Reply::Ping => *pongs = (*pongs + 1).min(16),
                Reply::Pong => outbox.pong(),
            }
            Ok(())
        });
        self.tell(told);
        taken
    }

    /// Has the server say that it has read all that was sent, if it is not asked for answers.
    pub(super) fn confirm(&mut self) {
        self.confirm = self.outbox.settings().acks == Acks::None;
    }

    /// Whether each event has its outcome, and what was to be confirmed is.
    pub(super) fn is_done(&self) -> bool {
        self.outbox.waiting() == 0 && !self.confirm && self.outbox.pings() == 0
    }

    /// A connection is gone: what was to be confirmed over it has to be asked for again.
    pub(super) fn broken(&mut self) {
        self.confirm |= self.outbox.pings() > 0;
    }

    /// Gives up.
    pub(super) fn abandon(&mut self, told: &mut Vec<Outcome>) {
        self.outbox.abandon();
        self.confirm = false;
        self.tell(told);
    }

    /// What came of it so far.
    pub(super) fn report(&self) -> Report {
        Report { counts: self.outbox.counts(), waiting: self.outbox.waiting() as u64, ..self.report.clone() }
    }

    /// How many events have their outcome: what a connection is good for.
    pub(super) fn settled(&self) -> u64 {
        self.report.succeeded() + self.report.failed()
    }

    fn tell(&mut self, told: &mut Vec<Outcome>) {
        while let Some(outcome) = self.outbox.next_outcome() {
            self.report.add(outcome);
            if self.tells {
                told.push(outcome);
            }
        }
    }
}

impl From<Fault> for Break {
    fn from(fault: Fault) -> Self {
        Break::ForGood(fault)
    }
}
