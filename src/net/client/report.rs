//! What came of all events.

use std::collections::BTreeMap;

use super::outbox::{Counts, Fate, Outcome};
use crate::ack::Status;

/// How many failures are kept one by one.
const MOST_FAILURES: usize = 1024;

/// What came of a client's events so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Events that are in a lane.
    pub accepted: u64,
    /// Events that are on disk.
    pub durable: u64,
    /// Events that the server had taken before.
    pub duplicate: u64,
    /// Events that were sent without asking what became of them.
    pub sent: u64,
    /// Those of the above that were refused at first.
    pub retried: u64,
    /// Events that were not taken, by what the server said.
    pub refused: BTreeMap<Status, u64>,
    /// Events of which nobody knows whether they were taken.
    pub unanswered: u64,
    /// Events without an outcome yet, and those between them.
    pub waiting: u64,
    /// The first 1024 that were not taken, or of which nobody knows.
    pub failures: Vec<Outcome>,
    /// How often the server was reached.
    pub connections: u64,
    /// What else happened.
    pub counts: Counts,
}

impl Report {
    /// How many events were taken, as far as somebody asked.
    pub fn succeeded(&self) -> u64 {
        self.accepted + self.durable + self.duplicate + self.sent
    }

    /// How many were not, or may not have been.
    pub fn failed(&self) -> u64 {
        self.refused.values().sum::<u64>() + self.unanswered
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        let count = match outcome.fate {
            Fate::Answered(Status::Accepted) => &mut self.accepted,
            Fate::Answered(Status::Durable) => &mut self.durable,
            Fate::Answered(Status::Duplicate) => &mut self.duplicate,
            Fate::Answered(status) => self.refused.entry(status).or_default(),
            Fate::Sent => &mut self.sent,
            Fate::Unanswered => &mut self.unanswered,
        };
        *count += 1;
        if !outcome.fate.is_success() {
            if self.failures.len() < MOST_FAILURES {
                self.failures.push(outcome);
            }
        } else if outcome.retries > 0 {
            self.retried += 1;
        }
    }
}
