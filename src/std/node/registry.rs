//! Which nodes there are: a node's file while it runs, looking at the files of others, and removing those of the dead.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Stat, fstat};
use rustix::io::{Errno, pread};

use super::options::Threads;
use super::page::{Card, Joined, Kind, Line, MAX_ENTRIES, max_file_len};
use crate::std::fork::UnsharedFile;
use crate::std::shm::{self, Access, Mapping};
use crate::std::topic::{Error, Name, check_domain, default_domain, file_name_parts, file_path};
use crate::std::{futex, lock};

/// What the name of every node's file begins with; no topic's does.
const PREFIX: &str = "conduit-node_";
/// Who may read it: as with topics.
const MODE: u32 = 0o600;

/// Nodes are called as topics may be.
pub(super) fn check_name(domain: &str, node: &str) -> Result<(), Error> {
    Name::new(domain, node).map(drop).map_err(|error| match error {
        Error::InvalidTopic { topic, reason } => Error::InvalidNode { node: topic, reason },
        error => error,
    })
}

/// The path of a node's file.
fn path(domain: &str, node: &str) -> Result<CString, Error> {
    check_name(domain, node)?;
    file_path(PREFIX, domain, node).map_err(|reason| Error::InvalidNode { node: node.into(), reason })
}

fn text(path: &CString) -> String {
    path.to_string_lossy().into_owned()
}

fn failed(action: &'static str, path: &CString) -> impl Fn(Errno) -> Error {
    let path = text(path);
    move |source| Error::System { action, path: path.clone(), source: source.into() }
}

/// The file that says that a node of this process runs. Removed when it is dropped; its lock is gone with the process.
#[derive(Debug)]
pub(super) struct Registration {
    path: CString,
    /// Has the lock; never mapped, so that the lock goes with it.
    file: UnsharedFile,
    stat: Stat,
    mapping: Arc<Mapping>,
    entries: usize,
}

impl Registration {
    /// Takes the node's name, from a dead one if need be.
    pub(super) fn new(card: &Card) -> Result<Self, Error> {
        if card.entries.len() > MAX_ENTRIES {
            let reason =
                format!("{} subscriptions, timers and publications: {MAX_ENTRIES} are possible", card.entries.len());
            return Err(Error::InvalidOption { option: "node", reason });
        }
        let path = path(&card.domain, &card.name)?;
        let page = rustix::param::page_size();
        let (bytes, len) = (card.bytes(page), card.file_len(page));
        let unnamed = shm::create_unnamed(MODE, len as u64).map_err(failed("create", &path))?;
        let file = UnsharedFile::new(shm::reopen(unnamed.as_fd()).map_err(failed("create", &path))?);
        // Nobody else can open an unnamed file, so the byte is free.
        lock::try_lock(file.as_fd(), lock::WRITER).map_err(failed("lock", &path))?;
        let all = 0..len;
        let mapping =
            Mapping::new(unnamed.as_fd(), len, std::slice::from_ref(&all), true).map_err(failed("map", &path))?;
        // SAFETY: the mapping is at least as long, and nobody else has it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), mapping.start().as_ptr(), bytes.len()) };
        let stat = fstat(&file).map_err(failed("inspect", &path))?;
        loop {
            match shm::link(file.as_fd(), &path) {
                Ok(()) => break,
                Err(Errno::EXIST) => remove_dead(&path, &card.name)?,
                Err(source) => return Err(failed("name", &path)(source)),
            }
        }
        Ok(Registration { path, file, stat, mapping: Arc::new(mapping), entries: card.entries.len() })
    }

    /// What changes of each entry, for the thread that changes it.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        Line::all(self.mapping.clone(), self.entries)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Only the holder of the lock removes the name, so nothing comes between. A file that is left is a dead node's.
        if self.file.is_ours() && is_current(&self.path, &self.stat).unwrap_or(false) {
            let _ = shm::unlink(&self.path);
        }
    }
}

/// Whether the path still stands for the file.
fn is_current(path: &CString, stat: &Stat) -> Result<bool, Errno> {
    Ok(shm::stat_name(path)?.is_some_and(|named| shm::is_same(&named, stat)))
}

/// Makes way for a node that takes the name.
fn remove_dead(path: &CString, node: &str) -> Result<(), Error> {
    let Some((file, stat)) = open(path, Access::ReadWrite)? else { return Ok(()) };
    let file = UnsharedFile::new(file);
    // Whoever cleans up has the lock for a moment, too, and nothing tells when it lets go.
    let mut tries = 0;
    while !lock::try_lock(file.as_fd(), lock::WRITER).map_err(failed("lock", path))? {
        tries += 1;
        if tries < 20 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let pid = read(path, file.as_fd(), &stat)
            .ok()
            .and_then(|bytes| Card::parse(&bytes).ok())
            .map_or(0, |(card, _)| card.pid);
        return Err(Error::NodeExists { node: node.into(), pid });
    }
    if is_current(path, &stat).map_err(failed("inspect", path))? {
        shm::unlink(path).map_err(failed("remove", path))?;
    }
    Ok(())
}

/// The file of this path, which is a regular one; `None` if there is none.
fn open(path: &CString, access: Access) -> Result<Option<(std::os::fd::OwnedFd, Stat)>, Error> {
    let not_regular = || Error::CorruptNode { path: text(path), reason: "it is no regular file".into() };
    let file = match shm::open(path, access) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(not_regular()),
        Err(source) => return Err(failed("open", path)(source)),
    };
    let stat = fstat(&file).map_err(failed("inspect", path))?;
    if shm::is_regular(&stat) { Ok(Some((file, stat))) } else { Err(not_regular()) }
}

/// A copy of the whole file. Not mapped: whoever may write it may cut it short, too.
fn read(path: &CString, file: BorrowedFd<'_>, stat: &Stat) -> Result<Vec<u8>, Error> {
    let len = stat.st_size as u64;
    let corrupt = |reason| Err(Error::CorruptNode { path: text(path), reason });
    if len > max_file_len(rustix::param::page_size()) as u64 {
        return corrupt(format!("it has {len} bytes, more than a node's file can have"));
    }
    let mut bytes = vec![0; len as usize];
    let mut done = 0;
    while done < bytes.len() {
        match pread(file, &mut bytes[done..], done as u64) {
            Ok(0) => return corrupt(format!("it was cut to {done} bytes")),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(source) => return Err(failed("read", path)(source)),
        }
    }
    Ok(bytes)
}

/// What can be seen of a node from outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeInfo {
    /// The domain; empty for the default one.
    pub domain: String,
    /// The node.
    pub node: String,
    /// Its file.
    pub path: PathBuf,
    /// Whether it runs. If not, it was killed, and the rest is how it was then.
    pub alive: bool,
    /// Its process, as numbered in its own PID namespace.
    pub pid: u32,
    /// Which threads it has.
    pub threads: Threads,
    /// When it began to run.
    pub started: SystemTime,
    /// How long ago that was, if it runs.
    pub uptime: Option<Duration>,
    /// What it subscribes to, in the order in which it did.
    pub subscriptions: Vec<NodeSubscription>,
    /// Its timers, in the order in which they were made.
    pub timers: Vec<NodeTimer>,
    /// The topics that it advertised, which [`topic::inspect`](crate::topic::inspect) tells more of.
    pub publications: Vec<String>,
}

/// What can be seen of a node's subscription from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodeSubscription {
    /// The topic.
    pub topic: String,
    /// Whether it receives.
    pub joined: Joined,
    /// Messages that the callback was called with.
    pub messages: u64,
    /// Messages lost.
    pub lost: u64,
    /// How often the callback panicked.
    pub panics: u64,
    /// The thread that calls back, as numbered in its own PID namespace; 0 before it runs.
    pub thread: u32,
}

/// What can be seen of a node's timer from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodeTimer {
    /// From one deadline to the next.
    pub period: Duration,
    /// How often the callback was called.
    pub ticks: u64,
    /// Ticks that were skipped.
    pub overruns: u64,
    /// How often the callback panicked.
    pub panics: u64,
    /// The thread that calls back, as numbered in its own PID namespace; 0 before it runs.
    pub thread: u32,
}

impl NodeInfo {
    /// How often callbacks panicked.
    pub fn panics(&self) -> u64 {
        let subscriptions = self.subscriptions.iter().map(|subscription| subscription.panics);
        subscriptions.chain(self.timers.iter().map(|timer| timer.panics)).fold(0, u64::saturating_add)
    }
}

/// The names of all nodes of `domain` (all domains if `None`) that run or were killed, as (domain, node), sorted.
///
/// # Errors
///
/// [`Error::InvalidDomain`]; [`Error::System`] if `/dev/shm` cannot be read.
pub fn list(domain: Option<&str>) -> Result<Vec<(String, String)>, Error> {
    if let Some(domain) = domain {
        check_domain(domain)?;
    }
    let failed = |source| Error::System { action: "read", path: shm::DIRECTORY.into(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(shm::DIRECTORY).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        let Some((of, node)) = file.to_str().and_then(|file| file_name_parts(PREFIX, file)) else { continue };
        if domain.is_none_or(|domain| domain == of) && check_name(of, &node).is_ok() {
            names.push((of.to_string(), node));
        }
    }
    names.sort();
    Ok(names)
}

/// Looks at a node of `domain` (the default one if `None`) without disturbing it.
///
/// # Errors
///
/// [`Error::NodeNotFound`], [`Error::CorruptNode`], [`Error::InvalidNode`], [`Error::System`].
pub fn inspect(domain: Option<&str>, node: &str) -> Result<NodeInfo, Error> {
    let domain = domain.map_or_else(default_domain, Into::into);
    let path = path(&domain, node)?;
    let (file, stat) = open(&path, Access::Read)?.ok_or_else(|| Error::NodeNotFound { node: node.into() })?;
    let alive = lock::is_locked(file.as_fd(), lock::WRITER).map_err(failed("inspect", &path))?;
    let wrong = |reason| Error::CorruptNode { path: text(&path), reason };
    let (card, live) = Card::parse(&read(&path, file.as_fd(), &stat)?).map_err(wrong)?;
    if (card.domain.as_str(), card.name.as_str()) != (&domain, node) {
        return Err(wrong(format!("it is node {} of domain `{}`", card.name, card.domain)));
    }
    let mut info = NodeInfo {
        domain: card.domain,
        node: card.name,
        path: text(&path).into(),
        alive,
        pid: card.pid,
        threads: card.threads,
        started: SystemTime::UNIX_EPOCH + Duration::from_nanos(card.started_real),
        uptime: alive.then(|| Duration::from_nanos(futex::now().saturating_sub(card.started))),
        subscriptions: Vec::new(),
        timers: Vec::new(),
        publications: Vec::new(),
    };
    for ((kind, name), live) in card.entries.into_iter().zip(live) {
        match kind {
            Kind::Subscription => info.subscriptions.push(NodeSubscription {
                topic: name,
                joined: live.joined,
                messages: live.count,
                lost: live.missed,
                panics: live.panics,
                thread: live.thread,
            }),
            Kind::Timer(period) => info.timers.push(NodeTimer {
                period,
                ticks: live.count,
                overruns: live.missed,
                panics: live.panics,
                thread: live.thread,
            }),
            Kind::Publication => info.publications.push(name),
        }
    }
    Ok(info)
}

/// A node's file that [`clean`] removed, or would.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The domain; empty for the default one.
    pub domain: String,
    /// The node.
    pub node: String,
    /// Bytes of memory set free.
    pub bytes: u64,
    /// Why it could not be removed, if it could not.
    pub error: Option<String>,
}

/// Removes what nodes of `domain` (all domains if `None`) left that were killed, and files of a node's name that are none.
/// With `dry_run` it only says which. Nothing needs this: the next node of the name makes way for itself.
///
/// # Errors
///
/// [`Error::InvalidDomain`]; [`Error::System`] if `/dev/shm` cannot be read. What cannot be removed is in the answer, with
/// the reason.
pub fn clean(domain: Option<&str>, dry_run: bool) -> Result<Vec<Removed>, Error> {
    let mut removed = Vec::new();
    for (domain, node) in list(domain)? {
        let (bytes, error) = match clean_one(&domain, &node, dry_run) {
            Ok(None) => continue,
            Ok(Some(bytes)) => (bytes, None),
            Err(error) => (0, Some(error.to_string())),
        };
        removed.push(Removed { domain, node, bytes, error });
    }
    Ok(removed)
}

/// Removes the file of a node that does not run; returns its size.
fn clean_one(domain: &str, node: &str, dry_run: bool) -> Result<Option<u64>, Error> {
    let path = path(domain, node)?;
    let Some((file, stat)) = open(&path, Access::ReadWrite)? else { return Ok(None) };
    let file = UnsharedFile::new(file);
    let is_free = if dry_run {
        !lock::is_locked(file.as_fd(), lock::WRITER).map_err(failed("inspect", &path))?
    } else {
        lock::try_lock(file.as_fd(), lock::WRITER).map_err(failed("lock", &path))?
    };
    if !is_free || !is_current(&path, &stat).map_err(failed("inspect", &path))? {
        return Ok(None);
    }
    if !dry_run {
        shm::unlink(&path).map_err(failed("remove", &path))?;
    }
    Ok(Some(stat.st_size as u64))
}
