//! A store of what could not be processed.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::channels::{Key, Kind};
use super::journal::{Journal, Limits};
use super::series::{Kept, Series};
use super::{cleared, facts};
use crate::engine::{DeadLetter, DeadLetters, StoreError};
use crate::frame::Encoding;
use crate::tank::{Compression, Error};

pub(super) const STEM: &str = "dead-letters";
/// The topic of what is said of letters.
pub(super) const FACTS: Key<'static> =
    Key { topic: "conduit.dead_letters", encoding: Encoding::Json, kind: Kind::Facts };
/// A full store looks this often whether it was cleared, and any other whether files have become old.
const LOOK_WHEN_FULL: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(60);
/// Files of a store, about: what is cleared and what is too old goes by files.
const FILES: u32 = 16;
/// Letters that are gathered in memory before they are written.
const GROUP: usize = 256 << 10;
/// Beyond that many bytes in memory, which cannot be written, there is no room.
const MOST_PENDING: usize = 4 << 20;

/// How a [`DeadLetterStore`] keeps letters: made by [`DeadLetterStore::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open`"]
pub struct DeadLetterStoreOptions {
    max_bytes: u64,
    max_age: Duration,
}

impl DeadLetterStoreOptions {
    /// How many bytes all files have together, at most about: beyond that there is no room, until letters are cleared or too
    /// old. At least 64 KiB. Default 256 MiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long letters are kept: files whose last one is older than that are removed. Default 7 days.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Opens a directory, and makes it if there is none. What a killed process left there is taken over.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`]; [`Error::DirectoryInUse`] if another store has it; [`Error::Io`].
    pub fn open(self, directory: impl AsRef<Path>) -> Result<DeadLetterStore, Error> {
        if self.max_bytes < 64 << 10 {
            return Err(Error::InvalidOption { option: "max_bytes", reason: "at least 64 KiB are needed".into() });
        }
        let (series, found) = Series::open(directory.as_ref(), STEM)?;
        let bytes = self.max_bytes / u64::from(FILES);
        let limits = Limits { bytes, chunks: 1 << 16, channels: u16::MAX, group: GROUP };
        let mut store = DeadLetterStore {
            journal: Journal::new(series, Compression::None, limits)?,
            options: self,
            files: found.files,
            others: 0,
            looked: Instant::now(),
            generation: 0,
            place: 0,
            began: Instant::now(),
            text: String::new(),
            counts: LetterCounts { set_aside: found.set_aside, ..LetterCounts::default() },
        };
        store.look();
        Ok(store)
    }
}

/// Dead letters in a directory of recordings: where the [engine](crate::engine) puts what could not be processed.
///
/// All that is known of a letter is kept, and its payload stands as it was on its topic's channel, so that every reader of
/// MCAP shows it. [`DeadLetterBox`](super::DeadLetterBox) reads and clears them, also while they are written.
///
/// ```
/// use conduit::engine::{DeadLetter, DeadLetters, DeadReason, Event, Origin};
/// use conduit::frame::{Encoding, Priority};
/// use conduit::tank::{DeadLetterBox, DeadLetterStore, LetterFilter};
///
/// # let directory = std::env::temp_dir().join(format!("doc-letters-{}", std::process::id()));
/// # let directory = &directory;
/// let mut store = DeadLetterStore::open(directory)?;
/// let event = Event {
///     topic: "orders",
///     payload: b"7 of them",
///     priority: Priority::High,
///     encoding: Encoding::Raw,
///     producer: *b"sensor 1, boot 9",
///     sequence: 1,
///     timestamp: 1_700_000_000_000_000_000,
///     received: 1_700_000_000_000_001_000,
///     origin: Origin::Local,
/// };
/// assert!(store.has_room());
/// store.keep(&DeadLetter { event, reason: DeadReason::Rejected, attempts: 1, detail: "no such item" })?;
/// store.flush()?;
///
/// let letters = DeadLetterBox::open(directory)?;
/// let letter = letters.letters(LetterFilter::new().reason(DeadReason::Rejected))?.next().unwrap()?;
/// assert_eq!(letter.event(), event);
/// assert_eq!(letter.detail, "no such item");
/// # drop(store);
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
///
/// A store that is dropped writes what it was given, and ends its file.
pub struct DeadLetterStore {
    journal: Journal<Series>,
    options: DeadLetterStoreOptions,
    /// Those that nothing more goes to, the oldest first.
    files: VecDeque<Kept>,
    /// Bytes of what stands beside them.
    others: u64,
    looked: Instant,
    /// Of the journal's files: the one that `place` counts in.
    generation: u64,
    /// The next letter's place in its file.
    place: u32,
    /// When the first letter came that is in the file that is being written.
    began: Instant,
    text: String,
    counts: LetterCounts,
}

/// What a [`DeadLetterStore`] has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LetterCounts {
    /// Letters that were taken.
    pub letters: u64,
    /// Writes that failed, and were or are tried again.
    pub failed_writes: u64,
    /// Files that were removed because of their age.
    pub removed_files: u64,
    /// Bytes of those.
    pub removed_bytes: u64,
    /// Files that could not be read when the store was opened, and were given names that end in `.damaged`.
    pub set_aside: u64,
}

impl DeadLetterStore {
    /// Options to open a store with.
    pub fn options() -> DeadLetterStoreOptions {
        DeadLetterStoreOptions { max_bytes: 256 << 20, max_age: Duration::from_secs(7 * 24 * 3600) }
    }

    /// Opens a store with the default options.
    ///
    /// # Errors
    ///
    /// As [`DeadLetterStoreOptions::open`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        Self::options().open(directory)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.journal.shelf().directory()
    }

    /// What it has done since it was opened.
    pub fn counts(&self) -> LetterCounts {
        self.counts
    }

    /// Bytes of all files, and of what is still in memory.
    pub fn bytes(&self) -> u64 {
        let files: u64 = self.files.iter().map(|file| file.bytes).sum();
        files + self.others + self.journal.file_len() + self.journal.pending() as u64
    }

    fn is_full(&self) -> bool {
        self.bytes() >= self.options.max_bytes || self.journal.pending() > MOST_PENDING
    }

    fn add(&mut self, letter: &DeadLetter<'_>) -> Result<(), Error> {
        let event = &letter.event;
        self.text.clear();
        facts::write(&mut self.text, letter);
        if self.journal.is_full_with(self.text.len() + event.payload.len()) {
            self.write()?;
        }
        let payload = Key { topic: event.topic, encoding: event.encoding, kind: Kind::Payload };
        let [facts, payload] = self.journal.channels([&FACTS, &payload], false)?;
        if self.generation != self.journal.generation() || self.counts.letters == 0 {
            self.generation = self.journal.generation();
            self.place = 0;
            self.began = Instant::now();
        }
        let times = (event.received, event.timestamp);
        self.journal.append(facts, self.place, times, self.text.as_bytes());
        self.journal.append(payload, event.sequence as u32, times, event.payload);
        self.place += 1;
        self.counts.letters += 1;
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        if let Err(error) = self.journal.commit(false) {
            self.counts.failed_writes += 1;
            return Err(error);
        }
        // One file for weeks would be as old as its last letter.
        if self.journal.file().is_some() && self.began.elapsed() > self.options.max_age / FILES {
            self.journal.end_file();
        }
        self.files.extend(self.journal.take_ended().into_iter().map(Kept::ended));
        Ok(())
    }

    /// Looks what is there, as others clear letters; and removes what is too old.
    fn look(&mut self) {
        self.looked = Instant::now();
        let age = self.options.max_age;
        let (counts, others) = (&mut self.counts, &mut self.others);
        *others = 0;
        self.files.retain_mut(|file| {
            let Ok(metadata) = std::fs::metadata(&file.path) else { return false };
            file.bytes = metadata.len();
            let beside = cleared::path_of(&file.path);
            if !file.is_older(age) {
                *others += std::fs::metadata(beside).map_or(0, |beside| beside.len());
                return true;
            }
            if let Err(error) = std::fs::remove_file(&file.path) {
                tracing::warn!(%error, path = %file.path.display(), "cannot remove a file of old dead letters");
                return error.kind() != std::io::ErrorKind::NotFound;
            }
            let _ = std::fs::remove_file(beside);
            tracing::info!(path = %file.path.display(), bytes = file.bytes, "removed a file of old dead letters");
            counts.removed_files += 1;
            counts.removed_bytes += file.bytes;
            false
        });
    }
}

impl DeadLetters for DeadLetterStore {
    fn has_room(&mut self) -> bool {
        let due = if self.is_full() { LOOK_WHEN_FULL } else { LOOK };
        if self.looked.elapsed() >= due {
            self.look();
        }
        !self.is_full()
    }

    fn keep(&mut self, letter: &DeadLetter<'_>) -> Result<(), StoreError> {
        Ok(self.add(letter)?)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(self.write()?)
    }
}

impl Drop for DeadLetterStore {
    fn drop(&mut self) {
        if self.journal.pending() > 0 {
            if let Err(error) = self.write() {
                tracing::error!(%error, "dead letters that could not be written are lost");
            }
        }
        self.journal.end_file();
    }
}

impl fmt::Debug for DeadLetterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterStore").field("directory", &self.directory()).field("counts", &self.counts).finish()
    }
}

#[cfg(test)]
mod tests;
