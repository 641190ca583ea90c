//! What to record, and how.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Recorder;
use crate::tank::{Compression, Error};
use crate::topic::Pattern;

/// When what was written is handed to the disk, so that it outlives a power failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncPolicy {
    /// Whenever the system sees fit.
    None,
    /// Once in this time, beside the writing. A failure of power loses at most the chunk time and this.
    Every(Duration),
    /// After each chunk, before the next one is written. A failure of power loses at most the chunk time.
    Chunk,
}

/// What to record, and how: made by [`Recorder::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `start`"]
pub struct RecorderOptions {
    pub(super) domain: Option<String>,
    pub(super) topics: Vec<Pattern>,
    pub(super) exclude: Vec<Pattern>,
    pub(super) compression: Compression,
    pub(super) workers: usize,
    pub(super) chunk_bytes: usize,
    pub(super) chunk_time: Duration,
    pub(super) sync: SyncPolicy,
    pub(super) split_size: Option<u64>,
    pub(super) split_time: Option<Duration>,
    pub(super) keep: Option<usize>,
    pub(super) min_free: u64,
    pub(super) snapshot: Option<Duration>,
    pub(super) memory: usize,
    pub(super) paused: bool,
    pub(super) metadata: BTreeMap<String, String>,
}

impl RecorderOptions {
    pub(super) fn new() -> Self {
        RecorderOptions {
            domain: None,
            topics: Vec::new(),
            exclude: Vec::new(),
            compression: Compression::None,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            chunk_bytes: 1 << 20,
            chunk_time: Duration::from_millis(250),
            sync: SyncPolicy::Every(Duration::from_secs(1)),
            split_size: None,
            split_time: None,
            keep: None,
            min_free: 0,
            snapshot: None,
            memory: 256 << 20,
            paused: false,
            metadata: BTreeMap::new(),
        }
    }

    /// The group of topics to record from. Default: the environment's `CONDUIT_DOMAIN`, or the domain without a name.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Which topics: names, and patterns as [`Pattern`] has them. Default: all. Those that appear later are recorded from
    /// their first message on.
    pub fn topics<'a>(mut self, topics: impl IntoIterator<Item = &'a str>) -> Self {
        self.topics = topics.into_iter().map(Pattern::new).collect();
        self
    }

    /// Which of them not.
    pub fn exclude<'a>(mut self, topics: impl IntoIterator<Item = &'a str>) -> Self {
        self.exclude = topics.into_iter().map(Pattern::new).collect();
        self
    }

    /// How chunks are compressed. Default: not at all.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How many threads compress, each a chunk of its own. Default: one for each processor.
    pub fn workers(mut self, threads: usize) -> Self {
        self.workers = threads;
        self
    }

    /// How many bytes of messages a chunk has, about. Default 1 MiB.
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes;
        self
    }

    /// Within how long after it was published a message has been handed to the system, so that it outlives the recorder: a
    /// chunk is closed after half of this, and the other half is for what comes after that. Default 250 ms.
    pub fn chunk_time(mut self, time: Duration) -> Self {
        self.chunk_time = time;
        self
    }

    /// When what was written is handed to the disk. Default: once a second.
    pub fn sync(mut self, policy: SyncPolicy) -> Self {
        self.sync = policy;
        self
    }

    /// Begins another file before one gets larger than this.
    pub fn split_size(mut self, bytes: u64) -> Self {
        self.split_size = Some(bytes);
        self
    }

    /// Begins another file when one spans this much time.
    pub fn split_time(mut self, time: Duration) -> Self {
        self.split_time = Some(time);
        self
    }

    /// Of the files that were split off, keeps the last so many, and removes those before.
    pub fn keep(mut self, files: usize) -> Self {
        self.keep = Some(files);
        self
    }

    /// Stops when the disk has less space than this left. Default 0: when it has none.
    pub fn min_free(mut self, bytes: u64) -> Self {
        self.min_free = bytes;
        self
    }

    /// Keeps the last so much time in memory, and writes it whenever [`Recorder::trigger`] is called, each time to a file of
    /// its own.
    pub fn snapshot(mut self, time: Duration) -> Self {
        self.snapshot = Some(time);
        self
    }

    /// How much memory there is for messages between their topics and the disk; with [`snapshot`](Self::snapshot), as much
    /// again for what is kept. Messages that find none are lost, and counted. Default 256 MiB.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Begins paused.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// Adds an entry to the metadata record `conduit.user` of each file.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Starts to record into `path`. With any of the options that make several files of one recording, their names have a
    /// number before the extension: `run_0000.mcap`, `run_0001.mcap`.
    ///
    /// Topics that are there now are recorded from now on; a latched one, from its last message on.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`]; [`Error::Exists`] if there is such a file; [`Error::Io`]; [`Error::Topic`] if a domain or a
    /// topic's name is none.
    pub fn start(self, path: impl AsRef<Path>) -> Result<Recorder, Error> {
        self.check()?;
        Recorder::start(self, path.as_ref())
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |option, reason: &str| Err(Error::InvalidOption { option, reason: reason.into() });
        if self.chunk_bytes == 0 || self.chunk_bytes > 1 << 30 {
            return invalid("chunk_bytes", "a chunk has 1 byte to 1 GiB");
        }
        if self.chunk_time < Duration::from_millis(1) {
            return invalid("chunk_time", "a chunk takes at least 1 ms");
        }
        if self.memory < 2 * self.chunk_bytes {
            return invalid("memory", "there must be room for two chunks");
        }
        if self.workers == 0 {
            return invalid("workers", "somebody has to do the work");
        }
        if self.split_size.is_some_and(|size| size < self.chunk_bytes as u64) {
            let reason = format!(
                "a file holds at least one chunk of {} bytes: allow more, or make chunks smaller",
                self.chunk_bytes
            );
            return invalid("split_size", &reason);
        }
        if self.split_time.is_some_and(|time| time < self.chunk_time) {
            return invalid("split_time", "a file spans at least one chunk");
        }
        if self.keep == Some(0) {
            return invalid("keep", "at least the last file is kept");
        }
        if self.sync == SyncPolicy::Every(Duration::ZERO) {
            return invalid("sync", "once in no time at all is `chunk`");
        }
        if self.snapshot == Some(Duration::ZERO) {
            return invalid("snapshot", "nothing is kept for no time at all");
        }
        if self.snapshot.is_some() && (self.split_size.is_some() || self.split_time.is_some()) {
            return invalid("snapshot", "each snapshot is one file, so there is nothing to split");
        }
        Ok(())
    }

    /// Whether a topic is to be recorded.
    pub(super) fn wants(&self, topic: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(topic));
        (self.topics.is_empty() || any(&self.topics)) && !any(&self.exclude)
    }

    /// Whether there may be several files, so that their names are numbered from the first on.
    pub(super) fn is_split(&self) -> bool {
        self.split_size.is_some() || self.split_time.is_some() || self.keep.is_some() || self.snapshot.is_some()
    }
}
