//! Which topics there are, how they are, and removing those that nobody uses.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::name::{Name, check_domain};
use super::options::default_domain;
use super::region::{Candidate, FrameView, Region, Role, WordView, system_error};
use super::subscriber::writer_state;
use super::{Error, Geometry, MAX_READERS, Schema, SlotKind, Start};
use crate::core::atomic::Ordering;
use crate::core::ring::{FrameObserver, WordReader};
use crate::std::lock;
use crate::std::shm::{self, Access};

/// Whether a topic has a publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriterState {
    /// It has.
    Alive,
    /// The last one closed it.
    Closed,
    /// The last one died.
    Gone,
}

/// What can be seen of a topic from outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicInfo {
    /// The domain; empty for the default one.
    pub domain: String,
    /// The topic.
    pub topic: String,
    /// Its file.
    pub path: PathBuf,
    /// What was decided when it was created.
    pub geometry: Geometry,
    /// How its messages are to be read.
    pub schema: Schema,
    /// Bytes of memory.
    pub bytes: u64,
    /// When it was created.
    pub created: SystemTime,
    /// Whether it has a publisher.
    pub writer: WriterState,
    /// The publisher's process, as numbered in its own PID namespace; the last one's if there is none.
    pub writer_pid: u32,
    /// How many publishers it has had.
    pub epoch: u32,
    /// How many messages were ever published, counting the topics it replaced.
    pub published: u64,
    /// How many of them it still holds: what an [`Observer`](super::Observer) that starts with the oldest finds. While a
    /// publisher goes on, this may be a few too many.
    pub held: u64,
    /// Slots that the publisher stepped over because a subscriber held them.
    pub skips: u64,
    /// Messages refused because a subscriber had not taken the oldest.
    pub rejected: u64,
    /// How often the publisher waited for a subscriber.
    pub blocked: u64,
    /// Messages refused because subscribers held every slot.
    pub all_pinned: u64,
    /// Who receives its messages.
    pub subscribers: Vec<SubscriberInfo>,
}

/// What can be seen of a subscriber from outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriberInfo {
    /// Its place, 0 to 63.
    pub place: u32,
    /// Its process, as numbered in its own PID namespace.
    pub pid: u32,
    /// How many positions are published that it has not received.
    pub lag: u64,
    /// How many messages it has lost.
    pub lost: u64,
    /// How many samples it may hold.
    pub samples: u32,
    /// When it joined.
    pub joined: SystemTime,
}

impl TopicInfo {
    /// Whether nobody uses the topic: `clean` would remove it.
    pub fn is_stale(&self) -> bool {
        self.writer != WriterState::Alive && self.subscribers.is_empty()
    }
}

/// The names of all topics of `domain` (all domains if `None`), as (domain, topic), sorted.
///
/// # Errors
///
/// [`Error::InvalidDomain`]; [`Error::System`] if `/dev/shm` cannot be read.
pub fn list(domain: Option<&str>) -> Result<Vec<(String, String)>, Error> {
    let mut names: Vec<_> = names(domain)?.into_iter().map(|name| (name.domain, name.topic)).collect();
    names.sort();
    Ok(names)
}

fn names(domain: Option<&str>) -> Result<Vec<Name>, Error> {
    if let Some(domain) = domain {
        check_domain(domain)?;
    }
    names_by(domain, Name::from_file)
}

/// What the files of the directory stand for, as far as `name_of` knows.
fn names_by(domain: Option<&str>, name_of: impl Fn(&str) -> Option<Name>) -> Result<Vec<Name>, Error> {
    let failed = |source| Error::System { action: "read", path: shm::DIRECTORY.into(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(shm::DIRECTORY).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        if let Some(name) = file.to_str().and_then(&name_of) {
            if domain.is_none_or(|domain| domain == name.domain) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// Looks at a topic of `domain` (the default one if `None`) without disturbing it.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::Corrupt`], [`Error::System`].
pub fn inspect(domain: Option<&str>, topic: &str) -> Result<TopicInfo, Error> {
    let name = Name::new(&domain.map_or_else(default_domain, Into::into), topic)?;
    let region =
        Region::open(&name, Role::Onlooker, true)?.ok_or_else(|| Error::NotFound { topic: name.to_string() })?;
    Ok(look_at(&region))
}

/// Whether the file of a topic of `domain` is one that this version can use; much cheaper than [`inspect`].
///
/// # Errors
///
/// As [`inspect`].
pub fn check_file(domain: Option<&str>, topic: &str) -> Result<(), Error> {
    let name = Name::new(&domain.map_or_else(default_domain, Into::into), topic)?;
    match Candidate::open(&name, Access::Read, true)? {
        Some(candidate) => candidate.parse().map(drop),
        None => Err(Error::NotFound { topic: name.to_string() }),
    }
}

fn look_at(region: &Region) -> TopicInfo {
    let geometry = *region.geometry();
    let view = region.view();
    let page = region.writer_page();
    let head = page.ring.head.load(Ordering::Relaxed);
    let sequence = |start| match geometry.slots {
        SlotKind::Words => Some(WordReader::new(WordView(view), start).next_sequence()),
        SlotKind::Frames => FrameObserver::new(FrameView(view), start).next_sequence(),
    };
    let base = || page.ring.base.load(Ordering::Relaxed);
    // Before the first lap is over nothing is gone, and a search would touch each empty slot. The oldest is asked for
    // first, so that a publisher that goes on cannot overtake it.
    let in_first_lap = head < u64::from(geometry.capacity);
    let oldest = if in_first_lap { Some(base()) } else { sequence(Start::Oldest) };
    let published = if head == 0 { base() } else { sequence(Start::New).unwrap_or_default() };
    let held = oldest.map_or(0, |oldest| published.saturating_sub(oldest));
    let subscribers = (0..MAX_READERS.min(geometry.subscribers))
        .filter(|&bit| lock::is_locked(region.file(), bit).unwrap_or(false))
        .map(|bit| {
            let entry = region.entry(bit);
            SubscriberInfo {
                place: bit,
                pid: entry.pid.load(Ordering::Relaxed),
                lag: (head.wrapping_sub(entry.position.load(Ordering::Relaxed)) as i64).max(0) as u64,
                lost: entry.lost.load(Ordering::Relaxed),
                samples: entry.samples.load(Ordering::Relaxed),
                joined: time(entry.joined.load(Ordering::Relaxed)),
            }
        })
        .collect();
    TopicInfo {
        domain: region.name.domain.clone(),
        topic: region.name.topic.clone(),
        path: region.name.path().to_string_lossy().into_owned().into(),
        schema: region.schema.clone(),
        bytes: region.parsed.parts.len as u64,
        created: time(region.parsed.created),
        writer: writer_state(region),
        writer_pid: page.pid.load(Ordering::Relaxed),
        epoch: page.epoch.load(Ordering::Relaxed),
        published,
        held: held.min(u64::from(geometry.capacity)),
        skips: page.ring.skips.load(Ordering::Relaxed),
        rejected: page.rejected.load(Ordering::Relaxed),
        blocked: page.blocked.load(Ordering::Relaxed),
        all_pinned: page.all_pinned.load(Ordering::Relaxed),
        subscribers,
        geometry,
    }
}

fn time(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// A topic's file that [`clean`] removed, or would.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The domain; empty for the default one.
    pub domain: String,
    /// The topic.
    pub topic: String,
    /// Bytes of memory set free.
    pub bytes: u64,
    /// Why it could not be removed, if it could not.
    pub error: Option<String>,
}

/// Removes the topics of `domain` (all domains if `None`) that have neither a live publisher nor a live subscriber, and
/// files of a topic's name that are none. With `dry_run` it only says which.
///
/// # Errors
///
/// [`Error::InvalidDomain`]; [`Error::System`] if `/dev/shm` cannot be read. What cannot be removed is in the answer, with the reason.
pub fn clean(domain: Option<&str>, dry_run: bool) -> Result<Vec<Removed>, Error> {
    clean_some(domain, dry_run, |_| true)
}

/// [`clean`] of the topics whose names `is_meant` says yes to.
///
/// # Errors
///
/// As [`clean`].
pub fn clean_some(domain: Option<&str>, dry_run: bool, is_meant: impl Fn(&str) -> bool) -> Result<Vec<Removed>, Error> {
    let mut removed = Vec::new();
    // A publisher that dies while it replaces a topic may leave a second file.
    let leftovers = names_by(domain, Name::from_replacement_file)?;
    for name in names(domain)?.into_iter().chain(leftovers).filter(|name| is_meant(&name.topic)) {
        let (bytes, error) = match clean_one(&name, dry_run) {
            Ok(None) => continue,
            Ok(Some(bytes)) => (bytes, None),
            Err(error) => (0, Some(error.to_string())),
        };
        removed.push(Removed { domain: name.domain, topic: name.topic, bytes, error });
    }
    removed.sort_by(|a, b| (&a.domain, &a.topic).cmp(&(&b.domain, &b.topic)));
    Ok(removed)
}

/// Removes one topic if nobody uses it; returns its size. Only the holder of the writer's byte may.
fn clean_one(name: &Name, dry_run: bool) -> Result<Option<u64>, Error> {
    let Some(candidate) = Candidate::open(name, Access::ReadWrite, false)? else { return Ok(None) };
    if candidate.has_subscribers() || !candidate.lock_writer()? || !candidate.is_current()? {
        return Ok(None);
    }
    let bytes = candidate.len();
    if dry_run {
        return Ok(Some(bytes));
    }
    let held = match candidate.parse() {
        Ok(_) => match candidate.map(Role::Publisher)? {
            Some(region) => {
                // A subscriber that joined just now moves on to whatever comes next.
                region.supersede();
                Ok(region)
            }
            None => return Ok(None),
        },
        Err(Error::Corrupt { .. }) => Err(candidate),
        Err(error) => return Err(error),
    };
    shm::unlink(name.path()).map_err(|source| system_error("remove", name, source))?;
    drop(held);
    Ok(Some(bytes))
}
