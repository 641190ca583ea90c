//! Reading dead letters, and clearing them.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::channels::key;
use super::cleared::{self, Places};
use super::facts::Facts;
use super::letters::STEM;
use super::{read, series};
use crate::dedup::ProducerId;
use crate::engine::{DeadLetter, DeadReason, Event, Origin};
use crate::frame::{Encoding, Priority};
use crate::tank::format::parse::Message;
use crate::tank::{Error, Recording, Topic};
use crate::topic::Pattern;

/// The dead letters in a directory, to be read and cleared, also while a [`DeadLetterStore`](super::DeadLetterStore) adds to
/// them. What that has still in memory is not seen.
///
/// ```
/// use conduit::tank::{DeadLetterBox, LetterFilter};
/// use conduit::topic::Pattern;
///
/// # let directory = std::env::temp_dir().join(format!("doc-box-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// let letters = DeadLetterBox::open(&directory)?;
/// let orders = LetterFilter::new().topic(Pattern::new("orders/*"));
/// for letter in letters.letters(orders.clone())? {
///     let letter = letter?;
///     println!("{} {}: {} after {} attempts", letter.id, letter.topic, letter.reason, letter.attempts);
/// }
/// assert_eq!(letters.clear(&orders)?.letters, 0);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetterBox {
    directory: PathBuf,
}

/// A letter's name: the number of its file, and its place there. It stays the same until the letter is gone, and is no other's
/// after that.
///
/// ```
/// use conduit::tank::LetterId;
///
/// let id: LetterId = "3-17".parse()?;
/// assert_eq!((id.file, id.place), (3, 17));
/// assert_eq!(id.to_string(), "3-17");
/// # Ok::<(), conduit::tank::ParseLetterIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LetterId {
    /// The number of its file.
    pub file: u32,
    /// Its place there, from 0.
    pub place: u32,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.file, self.place)
    }
}

/// A text that is no [`LetterId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no letter's name such as `3-17`")]
pub struct ParseLetterIdError;

impl FromStr for LetterId {
    type Err = ParseLetterIdError;

    fn from_str(text: &str) -> Result<Self, ParseLetterIdError> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let numbers = text.split_once('-').and_then(|(file, place)| number(file).zip(number(place)));
        numbers.map(|(file, place)| LetterId { file, place }).ok_or(ParseLetterIdError)
    }
}

/// A dead letter, as it was kept.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Letter {
    /// What it is called here.
    pub id: LetterId,
    /// The topic that it was for.
    pub topic: String,
    /// The message.
    pub payload: Vec<u8>,
    /// How much it matters.
    pub priority: Priority,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// Who made it; all zeros for who did not say.
    pub producer: ProducerId,
    /// Its number within its producer; 0 if it has none.
    pub sequence: u64,
    /// When it was made, in nanoseconds since 1970.
    pub timestamp: u64,
    /// When it was received, in nanoseconds since 1970.
    pub received: u64,
    /// Which way it came.
    pub origin: Origin,
    /// Why it is here.
    pub reason: DeadReason,
    /// How often a handler was given it.
    pub attempts: u32,
    /// What the handler said, if it was one.
    pub detail: String,
}

impl Letter {
    /// The event, as it came: to be sent again.
    pub fn event(&self) -> Event<'_> {
        Event {
            topic: &self.topic,
            payload: &self.payload,
            priority: self.priority,
            encoding: self.encoding,
            producer: self.producer,
            sequence: self.sequence,
            timestamp: self.timestamp,
            received: self.received,
            origin: self.origin,
        }
    }

    /// The letter, as the engine handed it over.
    pub fn letter(&self) -> DeadLetter<'_> {
        DeadLetter { event: self.event(), reason: self.reason, attempts: self.attempts, detail: &self.detail }
    }
}

/// Which letters are meant: all, unless told otherwise.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    ids: Option<BTreeSet<LetterId>>,
    topic: Option<Pattern>,
    reason: Option<DeadReason>,
    priority: Option<Priority>,
    since: u64,
}

impl LetterFilter {
    /// All letters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only these.
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = LetterId>) -> Self {
        self.ids = Some(ids.into_iter().collect());
        self
    }

    /// Only those for topics that match.
    #[must_use]
    pub fn topic(mut self, pattern: Pattern) -> Self {
        self.topic = Some(pattern);
        self
    }

    /// Only those that are here for this reason.
    #[must_use]
    pub fn reason(mut self, reason: DeadReason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Only those of this priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Only those that were received at this time or later, in nanoseconds since 1970.
    #[must_use]
    pub fn since(mut self, received: u64) -> Self {
        self.since = received;
        self
    }

    /// Whether all letters are meant.
    fn is_all(&self) -> bool {
        let LetterFilter { ids, topic, reason, priority, since } = self;
        ids.is_none() && topic.is_none() && reason.is_none() && priority.is_none() && *since == 0
    }

    fn has_some_in(&self, file: u32) -> bool {
        let range = LetterId { file, place: 0 }..=LetterId { file, place: u32::MAX };
        self.ids.as_ref().is_none_or(|ids| ids.range(range).next().is_some())
    }

    fn has(&self, id: LetterId, facts: &Facts, received: u64) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
            && self.topic.as_ref().is_none_or(|pattern| pattern.matches(&facts.topic))
            && self.reason.is_none_or(|reason| reason == facts.reason)
            && self.priority.is_none_or(|priority| priority == facts.priority)
            && received >= self.since
    }
}

/// What became of letters that were [cleared](DeadLetterBox::clear).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Cleared {
    /// Letters that are not there any more.
    pub letters: u64,
    /// Files that were removed, as no letter is left in them.
    pub files: u64,
    /// Bytes of those, which are free now. The others become free when all letters of their file are cleared, or too old.
    pub bytes: u64,
}

impl DeadLetterBox {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        let letters = DeadLetterBox { directory: directory.as_ref().into() };
        letters.files().map(|_| letters)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The letters that are meant, in the order in which they were kept.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be read.
    pub fn letters(&self, filter: LetterFilter) -> Result<Letters, Error> {
        let files = self.files()?.into_iter().filter(|(number, _)| filter.has_some_in(*number)).collect();
        Ok(Letters { files, filter, found: VecDeque::new() })
    }

    /// A letter; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Damaged`], [`Error::Letter`].
    pub fn get(&self, id: LetterId) -> Result<Option<Letter>, Error> {
        self.letters(LetterFilter::new().ids([id]))?.next().transpose()
    }

    /// Clears the letters that are meant. Those that are still to come, or in the memory of a store, are not. A file that has
    /// no letter left is removed, unless a store still writes to it; in the others letters are only marked, and seen no more.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: some may be cleared already.
    pub fn clear(&self, filter: &LetterFilter) -> Result<Cleared, Error> {
        let mut cleared = Cleared::default();
        for (number, path) in self.files()? {
            if filter.has_some_in(number) {
                clear_file(number, &path, filter, &mut cleared)?;
            }
        }
        Ok(cleared)
    }

    fn files(&self) -> Result<Vec<(u32, PathBuf)>, Error> {
        series::files(&self.directory, STEM)
    }
}

/// Letters in the order in which they were kept: what [`DeadLetterBox::letters`] returns. What is damaged is an error; the next
/// one goes on with the others.
#[derive(Debug)]
pub struct Letters {
    files: VecDeque<(u32, PathBuf)>,
    filter: LetterFilter,
    /// Of the file that was read last.
    found: VecDeque<Result<Letter, Error>>,
}

impl Iterator for Letters {
    type Item = Result<Letter, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.found.is_empty() {
            let (number, path) = self.files.pop_front()?;
            if let Err(error) = self.read(number, &path) {
                self.found.push_back(Err(error));
            }
        }
        self.found.pop_front()
    }
}

impl Letters {
    fn read(&mut self, number: u32, path: &Path) -> Result<(), Error> {
        let (found, filter) = (&mut self.found, &self.filter);
        // One can be both pushed to only by turns.
        let mut damaged = Vec::new();
        let each = |place: u32, facts: Option<Facts>, message: &Message<'_>| {
            let id = LetterId { file: number, place };
            let Some(facts) = facts else {
                found.push_back(Err(Error::Letter { path: path.into(), id }));
                return;
            };
            if filter.has(id, &facts, message.log_time) {
                let Facts { topic, reason, priority, encoding, producer, sequence, origin, attempts, detail } = facts;
                found.push_back(Ok(Letter {
                    id,
                    topic,
                    payload: message.data.into(),
                    priority,
                    encoding,
                    producer,
                    sequence,
                    timestamp: message.publish_time,
                    received: message.log_time,
                    origin,
                    reason,
                    attempts,
                    detail,
                }));
            }
        };
        each_letter(path, each, |error| damaged.push(Err(error)))?;
        found.extend(damaged);
        Ok(())
    }
}

/// Calls with the place of each letter of a file that is not cleared, what is said of it if that can be read, and its payload.
fn each_letter(
    path: &Path,
    mut each: impl FnMut(u32, Option<Facts>, &Message<'_>),
    damaged: impl FnMut(Error),
) -> Result<(), Error> {
    let recording = match Recording::open(path) {
        Ok(recording) => recording,
        // Somebody cleared it meanwhile.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
        // Somebody has begun it, and written nothing.
        Err(Error::NotMcap { .. }) if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) => return Ok(()),
        Err(error) => return Err(error),
    };
    let cleared = Places::read(path).map_err(|source| Error::read(&cleared::path_of(path), source))?;
    let mut said = None;
    let message = |topic: &Topic, message: &Message<'_>| {
        if topic.metadata.contains_key(key::DEAD_LETTERS) {
            said = Some((message.sequence, Facts::parse(message.data)));
        } else if let Some((place, facts)) = said.take() {
            if !cleared.has(place) {
                each(place, facts, message);
            }
        }
        true
    };
    read::messages(&recording, message, damaged)
}

fn clear_file(number: u32, path: &Path, filter: &LetterFilter, cleared: &mut Cleared) -> Result<(), Error> {
    let failed = |action| move |source| Error::Io { action, path: path.into(), source };
    // Before it is read: then all that it will ever have is read.
    let done = match is_done(path) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
        done => done?,
    };
    let (mut meant, mut letters, mut left) = (Places::default(), 0, 0);
    let each = |place: u32, facts: Option<Facts>, message: &Message<'_>| {
        let id = LetterId { file: number, place };
        let is_meant = facts.map_or(filter.is_all(), |facts| filter.has(id, &facts, message.log_time));
        if is_meant {
            meant.add(place);
            letters += 1;
        } else {
            left += 1;
        }
    };
    let mut damaged = 0;
    match each_letter(path, each, |_| damaged += 1) {
        // Who clears all means what cannot be read, too.
        Err(Error::NotMcap { .. } | Error::Damaged { .. }) if filter.is_all() => {}
        read => read?,
    }
    if done.is_some() && left == 0 && (damaged == 0 || filter.is_all()) {
        let len = std::fs::metadata(path).map_or(0, |file| file.len());
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove")(error)),
            _ => {}
        }
        let _ = std::fs::remove_file(cleared::path_of(path));
        cleared.files += 1;
        cleared.bytes += len;
    } else if !meant.is_empty() {
        meant.append(path).map_err(|source| Error::write(&cleared::path_of(path), source))?;
    }
    cleared.letters += letters;
    Ok(())
}

/// Something to hold as long as nobody is to add to the file; `None` if somebody may.
fn is_done(path: &Path) -> Result<Option<Option<File>>, Error> {
    let ended = series::is_ended(path).map_err(|source| Error::Io { action: "open", path: path.into(), source })?;
    match path.parent() {
        _ if ended => Ok(Some(None)),
        // A store that was killed left it: until it is taken over by another, which waits for this.
        Some(directory) => Ok(series::lock(directory, STEM)?.map(Some)),
        None => Ok(None),
    }
}
