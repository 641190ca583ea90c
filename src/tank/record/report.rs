//! What became of the messages: the sum that has to come out even.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::PathBuf;
use std::time::Duration;

use crate::tank::Error;

/// What became of a topic's messages since the recorder joined it, or within a file:
/// `published = recorded + lost + paused + expired`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// In a file.
    pub recorded: u64,
    /// Overwritten before they were received, or received when there was no memory for them, or not written because the disk
    /// failed.
    pub lost: u64,
    /// Published while the recorder was paused.
    pub paused: u64,
    /// Kept for a snapshot until they were older than it reaches back.
    pub expired: u64,
}

impl Counts {
    /// All of them.
    pub fn published(&self) -> u64 {
        self.recorded + self.lost + self.paused + self.expired
    }

    /// As it stands in a file's loss record.
    pub(super) fn to_json(self) -> String {
        let Counts { recorded, lost, paused, expired } = self;
        let published = self.published();
        format!(
            r#"{{"published":{published},"recorded":{recorded},"lost":{lost},"paused":{paused},"expired":{expired}}}"#
        )
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.recorded += other.recorded;
        self.lost += other.lost;
        self.paused += other.paused;
        self.expired += other.expired;
    }
}

/// What a recording came to.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "it tells what was lost"]
pub struct Report {
    /// Each topic's counts, by name.
    pub topics: BTreeMap<String, Counts>,
    /// The files that are there now, in order.
    pub files: Vec<PathBuf>,
    /// Bytes of all files that were written.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
    /// Topics that could not be recorded, or not to the end, and why.
    pub failed: BTreeMap<String, String>,
    /// Why the recording ended of itself, if it did.
    pub fault: Option<Error>,
}

impl Report {
    /// The sum over all topics.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counts in self.topics.values() {
            total += *counts;
        }
        total
    }
}
