//! What a recording came to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::tank::{Counts, Error};

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
