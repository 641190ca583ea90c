//! A log of events that outlives whoever writes it.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::channels::{Key, Kind, key, producer_of};
use super::journal::{Journal, Limits};
use super::read;
use super::series::{self, Kept, Series};
use super::sync::Syncer;
use crate::dedup::ProducerId;
use crate::engine::{DurableLog, Event, StoreError};
use crate::frame::Durability;
use crate::tank::{Compression, Error, Recording};

const STEM: &str = "events";
/// Files are looked through for old ones this often at most.
const LOOK: Duration = Duration::from_secs(60);

/// When the disk has events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EventSync {
    /// Before [`commit`](DurableLog::commit) returns: what is committed outlives a loss of power.
    #[default]
    Group,
    /// So long after they were committed at most, beside the writing: what is committed outlives the process at once.
    Interval(Duration),
    /// When a file is ended; before, when the system likes. What is committed outlives the process.
    None,
}

/// How an [`EventLog`] writes: made by [`EventLog::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open`"]
pub struct EventLogOptions {
    sync: EventSync,
    compression: Compression,
    file_bytes: u64,
    max_bytes: Option<u64>,
    max_age: Option<Duration>,
    limits: Limits,
}

impl EventLogOptions {
    /// When the disk has events. Default: [`EventSync::Group`].
    pub fn sync(mut self, sync: EventSync) -> Self {
        self.sync = sync;
        self
    }

    /// How groups are compressed, by whoever commits. Default: not at all.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How large a file becomes before another one is begun. Default 256 MiB.
    pub fn file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes;
        self
    }

    /// How many bytes the files have together, at most about: beyond that, the oldest are removed. At least those of two
    /// files. Default: all files are kept.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// How long files are kept after they were ended. Default: for ever.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Opens a directory, and makes it if there is none. What a killed process left there is taken over: every group that was
    /// committed is kept, and at most one torn one behind it is cut off. Then a new file is begun.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`]; [`Error::DirectoryInUse`] if another log has it; [`Error::Io`].
    pub fn open(self, directory: impl AsRef<Path>) -> Result<EventLog, Error> {
        let invalid = |option, reason: &str| Error::InvalidOption { option, reason: reason.into() };
        if self.file_bytes == 0 {
            return Err(invalid("file_bytes", "a file has at least one byte"));
        }
        if self.max_bytes.is_some_and(|bytes| bytes / 2 < self.file_bytes) {
            return Err(invalid("max_bytes", "there is to be room for two files of `file_bytes` each"));
        }
        let syncer = match self.sync {
            EventSync::Interval(interval) => Some(Syncer::start(interval)?),
            EventSync::Group | EventSync::None => None,
        };
        let (series, found) = Series::open(directory.as_ref(), STEM)?;
        let limits = Limits { bytes: self.file_bytes, ..self.limits };
        let mut log = EventLog {
            journal: Journal::new(series, self.compression, limits)?,
            options: self,
            syncer,
            files: found.files,
            looked: Instant::now(),
            counts: EventLogCounts {
                set_aside: found.set_aside,
                damaged_groups: found.damaged,
                ..EventLogCounts::default()
            },
        };
        log.remove_old();
        Ok(log)
    }
}

/// Events in a directory of recordings, for the [engine](crate::engine): what it committed is there after whatever befalls the
/// process.
///
/// A group is one write, and one wait for the disk if that is asked for. The files are MCAP: [`Recording`] reads them, also
/// while they are written, and so does every other reader. `docs/event-log.md` says what is where.
///
/// ```
/// use conduit::engine::{DurableLog, Event, Origin};
/// use conduit::frame::{Encoding, Priority};
/// use conduit::tank::{EventLog, Query, Recording};
///
/// # let directory = std::env::temp_dir().join(format!("doc-events-{}", std::process::id()));
/// # let directory = &directory;
/// let event = Event {
///     topic: "orders",
///     payload: br#"{"item":7}"#,
///     priority: Priority::High,
///     encoding: Encoding::Json,
///     producer: *b"sensor 1, boot 9",
///     sequence: 1,
///     timestamp: 1_700_000_000_000_000_000,
///     received: 1_700_000_000_000_001_000,
///     origin: Origin::Local,
/// };
/// let mut log = EventLog::open(directory)?;
/// log.append(&event)?;
/// log.commit()?; // from here on it is on the disk
/// drop(log);
///
/// let mut log = EventLog::open(directory)?;
/// let mut seen = Vec::new();
/// log.recover(&mut |producer, sequence| seen.push((*producer, sequence)))?;
/// assert_eq!(seen, [(*b"sensor 1, boot 9", 1)]);
///
/// let recording = Recording::open(&EventLog::files(directory)?[0])?;
/// let mut messages = recording.messages(Query::new())?;
/// assert_eq!(messages.next()?.unwrap().data, br#"{"item":7}"#);
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
///
/// A log that is dropped commits what was appended, and ends its file.
pub struct EventLog {
    journal: Journal<Series>,
    options: EventLogOptions,
    syncer: Option<Syncer>,
    /// Those that nothing more goes to, the oldest first.
    files: VecDeque<Kept>,
    looked: Instant,
    counts: EventLogCounts,
}

/// What an [`EventLog`] has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct EventLogCounts {
    /// Events that were appended.
    pub events: u64,
    /// Groups that were committed.
    pub groups: u64,
    /// Commits that failed, and were or are tried again.
    pub failed_commits: u64,
    /// Files that were removed because of their age, or because of the size of all.
    pub removed_files: u64,
    /// Bytes of those.
    pub removed_bytes: u64,
    /// Files that could not be read when the log was opened, and were given names that end in `.damaged`.
    pub set_aside: u64,
    /// Damaged pieces that were left out when the log was opened and read.
    pub damaged_groups: u64,
}

impl EventLog {
    /// Options to open a log with.
    pub fn options() -> EventLogOptions {
        EventLogOptions {
            sync: EventSync::Group,
            compression: Compression::None,
            file_bytes: 256 << 20,
            max_bytes: None,
            max_age: None,
            limits: Limits { bytes: 0, chunks: 1 << 16, channels: u16::MAX, group: 64 << 20 },
        }
    }

    /// Opens a log with the default options.
    ///
    /// # Errors
    ///
    /// As [`EventLogOptions::open`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        Self::options().open(directory)
    }

    /// The files of a log, the oldest first; also while it is written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be read.
    pub fn files(directory: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
        Ok(series::files(directory.as_ref(), STEM)?.into_iter().map(|(_, path)| path).collect())
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.journal.shelf().directory()
    }

    /// What it has done since it was opened.
    pub fn counts(&self) -> EventLogCounts {
        EventLogCounts { groups: self.journal.groups(), ..self.counts }
    }

    /// Commits what was appended, and ends the file: as dropping it, but that it says what went wrong.
    ///
    /// # Errors
    ///
    /// As [`commit`](DurableLog::commit): what was not committed is lost.
    pub fn finish(mut self) -> Result<(), Error> {
        self.write()
    }

    fn is_synced(&self) -> bool {
        self.options.sync == EventSync::Group
    }

    fn add(&mut self, event: &Event<'_>) -> Result<(), Error> {
        let Event { topic, payload, priority, encoding, producer, sequence, timestamp, received, origin: _ } = *event;
        if self.journal.is_full_with(payload.len()) {
            self.write()?;
        }
        let kind = Kind::Event { producer, high: (sequence >> 32) as u32, priority };
        let is_synced = self.is_synced();
        let [channel] = self.journal.channels([&Key { topic, encoding, kind }], is_synced)?;
        self.journal.append(channel, sequence as u32, (received, timestamp), payload);
        self.counts.events += 1;
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        let written = self.try_write();
        self.counts.failed_commits += u64::from(written.is_err());
        written
    }

    fn try_write(&mut self) -> Result<(), Error> {
        let has_some = self.journal.pending() > 0;
        if let Some(syncer) = &self.syncer {
            if let Some(source) = syncer.take_failure() {
                let path = self.journal.file().map_or(self.directory(), |(path, _)| path).to_owned();
                // The system may have forgotten what it could not write: nothing more goes there.
                self.journal.end_file();
                return Err(Error::Io { action: "sync", path, source });
            }
        }
        self.journal.commit(self.is_synced())?;
        if let Some(syncer) = &self.syncer {
            // Where each group is synced, nothing is left to be lost here.
            if let Some((path, source)) = self.journal.take_unsynced() {
                return Err(Error::Io { action: "sync", path, source });
            }
            if let Some((_, file)) = self.journal.file().filter(|_| has_some) {
                syncer.written(file);
            }
        }
        let ended = self.journal.take_ended();
        let is_due = !ended.is_empty() || self.options.max_age.is_some() && self.looked.elapsed() > LOOK;
        self.files.extend(ended.into_iter().map(Kept::ended));
        if is_due {
            self.remove_old();
        }
        Ok(())
    }

    /// Removes files that are too old, or too much.
    fn remove_old(&mut self) {
        self.looked = Instant::now();
        let mut total: u64 = self.files.iter().map(|file| file.bytes).sum::<u64>() + self.journal.file_len();
        // What the file that is being written may come to.
        let room = self.options.max_bytes.map(|bytes| bytes.saturating_sub(self.options.file_bytes));
        while let Some(file) = self.files.front() {
            let is_old = self.options.max_age.is_some_and(|age| file.is_older(age));
            if !is_old && room.is_none_or(|room| total <= room) {
                return;
            }
            if let Err(error) = std::fs::remove_file(&file.path) {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(%error, path = %file.path.display(), "cannot remove an old file of events");
                    return;
                }
            }
            tracing::info!(path = %file.path.display(), bytes = file.bytes, is_old, "removed an old file of events");
            total = total.saturating_sub(file.bytes);
            self.counts.removed_files += 1;
            self.counts.removed_bytes += file.bytes;
            self.files.pop_front();
        }
    }

    /// Tells of all events in the files, and how many groups are damaged.
    fn read(&mut self, seen: &mut dyn FnMut(&ProducerId, u64)) -> Result<(), Error> {
        for file in &self.files {
            let recording = Recording::open(&file.path)?;
            let mut numbered: Vec<Option<(ProducerId, u64)>> = Vec::new();
            for topic in recording.topics() {
                let said = |key: &str| topic.metadata.get(key).map(String::as_str);
                let producer = said(key::PRODUCER).and_then(producer_of).filter(|producer| *producer != [0; 16]);
                let high = said(key::SEQUENCE_HIGH).and_then(|high| high.parse::<u32>().ok());
                let id = usize::from(topic.id);
                numbered.resize(numbered.len().max(id + 1), None);
                numbered[id] = producer.zip(high.map(|high| u64::from(high) << 32));
            }
            let each = |topic: &crate::tank::Topic, message: &crate::tank::format::parse::Message<'_>| {
                if let Some((producer, high)) = numbered.get(usize::from(topic.id)).and_then(Option::as_ref) {
                    match high | u64::from(message.sequence) {
                        0 => {}
                        sequence => seen(producer, sequence),
                    }
                }
                true
            };
            let damaged = |error| {
                tracing::error!(%error, "a damaged group of events is left out");
                self.counts.damaged_groups += 1;
            };
            read::messages(&recording, each, damaged)?;
        }
        Ok(())
    }
}

impl DurableLog for EventLog {
    fn durability(&self) -> Durability {
        match self.options.sync {
            EventSync::Group => Durability::Synced,
            EventSync::Interval(_) => Durability::Interval,
            EventSync::None => Durability::Written,
        }
    }

    fn recover(&mut self, seen: &mut dyn FnMut(&ProducerId, u64)) -> Result<(), StoreError> {
        Ok(self.read(seen)?)
    }

    fn append(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        Ok(self.add(event)?)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(self.write()?)
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        if self.journal.pending() > 0 {
            if let Err(error) = self.write() {
                tracing::error!(%error, "events that were not committed are lost");
            }
        }
        self.journal.end_file();
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("directory", &self.directory()).field("counts", &self.counts()).finish()
    }
}

#[cfg(test)]
mod tests;
