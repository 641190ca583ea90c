//! Recording topics.
//!
//! ```text
//! topics --intake--> chunks --workers--> compressed --writer--> file --syncer--> disk
//!    ^ scout
//! ```
//!
//! The intake is one thread, which takes messages from all topics and never waits for what comes after it: where there is no
//! memory left, messages stay in their topics until they are overwritten there, which is counted. Workers compress side by
//! side; the writer puts chunks into order, and decides on files.

mod control;
mod feed;
mod intake;
mod load;
mod options;
mod pace;
mod report;
mod rotation;
mod scout;
mod seal;
mod shelf;
mod sync;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use self::control::{Control, Request, lock};
use self::feed::Channels;
use self::intake::Intake;
use self::load::Buffers;
use self::scout::Scout;
use self::shelf::Directory;
use self::sync::Syncer;
use self::writer::{Shelf, Writer};
use crate::std::futex;
use crate::tank::format::chunk::Sealer;
use crate::tank::{Compression, Counts, Error};
use crate::topic::WaitSet;

pub(crate) use self::feed::{CDR, encapsulation};
pub use self::options::{RecorderOptions, SyncPolicy};
pub use self::report::Report;
pub use self::shelf::leftovers;
pub(crate) use self::writer::RECORDING;

/// Records topics into MCAP files.
///
/// What it promises is in `docs/guarantees.md`: `published = recorded + lost + paused + expired`, for each topic; a crash of the
/// recorder loses no message that is older than the chunk time; and no publisher ever waits for the disk.
///
/// ```
/// use conduit::{Publisher, tank::Recorder};
///
/// # let domain = format!("doc-record-{}", std::process::id());
/// # let path = std::env::temp_dir().join(format!("{domain}.mcap"));
/// # let path = &path;
/// let mut publisher = Publisher::<[u8]>::options().domain(&domain).open("log")?;
/// let recorder = Recorder::options().domain(&domain).topics(["log"]).start(path)?;
/// publisher.publish(b"hello")?;
/// let report = recorder.stop();
/// assert_eq!((report.topics["log"].published(), report.topics["log"].recorded), (1, 1));
/// # std::fs::remove_file(path)?;
/// # publisher.remove()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// As a descriptor it becomes readable when the recording has ended of itself: then [`stop`](Recorder::stop) tells why.
#[derive(Debug)]
pub struct Recorder {
    control: Arc<Control>,
    started: Instant,
    threads: Option<Threads>,
}

#[derive(Debug)]
struct Threads {
    scout: JoinHandle<()>,
    intake: JoinHandle<Vec<String>>,
    workers: Vec<JoinHandle<()>>,
    writer: JoinHandle<Written>,
}

/// What the writer leaves.
#[derive(Debug)]
struct Written {
    counts: Vec<Counts>,
    files: Vec<PathBuf>,
    bytes: u64,
}

/// How a recording is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Since it began.
    pub elapsed: Duration,
    /// Topics that are recorded.
    pub topics: u64,
    /// Messages that were taken from them, and their bytes.
    pub messages: u64,
    /// Bytes of those messages, as they are before compression.
    pub bytes: u64,
    /// Messages lost.
    pub lost: u64,
    /// Bytes written to files.
    pub written: u64,
    /// Files that were begun.
    pub files: u64,
    /// The file that is being written, or was last.
    pub file: PathBuf,
    /// Bytes that the disk has left, when last looked at; 0 if it was not yet.
    pub free: u64,
    /// For how long there has been something written that the disk may not have yet.
    pub unsynced: Duration,
    /// Whether it is paused.
    pub paused: bool,
}

impl Recorder {
    /// Options to record with.
    pub fn options() -> RecorderOptions {
        RecorderOptions::new()
    }

    fn start(options: RecorderOptions, path: &Path) -> Result<Self, Error> {
        let directory = Directory::new(path, options.is_split())?;
        Self::start_on(options, directory)
    }

    fn start_on<S: Shelf>(options: RecorderOptions, shelf: S) -> Result<Self, Error> {
        let system = |what, source: std::io::Error| Error::System { what, source };
        let options = Arc::new(options);
        let (mut awake, mut nap, mut doze) = (WaitSet::new(), WaitSet::new(), WaitSet::new());
        let wakers = [awake.waker(), nap.waker(), doze.waker()];
        let ended = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| system("make an eventfd", error.into()))?;
        let control = Arc::new(Control::new(wakers, ended, options.paused));
        let domain = options.domain.clone().unwrap_or_else(crate::topic::default_domain);
        let mut scout = Scout::new(options.clone(), domain, control.clone());
        scout.begin()?;

        let thread = |error| system("start a thread", error);
        let syncer = match options.sync {
            SyncPolicy::Every(_) => {
                let failed = control.clone();
                let failed = move |source| failed.fail(Error::write(&lock(&failed.file), source));
                Some(Syncer::start(control.clone(), failed).map_err(thread)?)
            }
            _ => None,
        };
        let is_compressed = options.compression != Compression::None;
        let buffers = Arc::new(Buffers::new(options.chunk_bytes, options.memory, is_compressed));
        let writer = Writer::new(options.clone(), control.clone(), buffers.clone(), shelf, syncer)?;
        // Whatever of it runs ends if the rest cannot be started.
        let threads = Self::start_threads(&options, &control, buffers, writer, scout, [awake, nap, doze]);
        let threads = Some(threads.inspect_err(|_| control.stop())?);
        Ok(Recorder { control, started: Instant::now(), threads })
    }

    fn start_threads<S: Shelf>(
        options: &Arc<RecorderOptions>,
        control: &Arc<Control>,
        buffers: Arc<Buffers>,
        writer: Writer<S>,
        scout: Scout,
        [awake, nap, doze]: [WaitSet; 3],
    ) -> Result<Threads, Error> {
        let system = |what, source: std::io::Error| Error::System { what, source };
        let thread = |error| system("start a thread", error);
        let scout = Builder::new().name("tank-scout".into()).spawn({
            let guard = control.guard();
            move || {
                let _guard = guard;
                scout.run();
            }
        });
        let scout = scout.map_err(thread)?;
        let is_compressed = options.compression != Compression::None;
        let (fill, filled) = mpsc::channel();
        let (seal, sealed) = mpsc::channel();
        let filled = Arc::new(Mutex::new(filled));
        // Sealing without compression is a checksum, for which one is enough.
        let workers = if is_compressed { options.workers } else { 1 };
        let workers = (0..workers).map(|_| {
            let sealer = Sealer::new(options.compression).map_err(|source| system("set up a compressor", source))?;
            let (filled, seal, buffers) = (filled.clone(), seal.clone(), buffers.clone());
            let worker = Builder::new().name("tank-seal".into());
            let guard = control.guard();
            let work = move || {
                let _guard = guard;
                seal::work(sealer, &filled, &seal, &buffers);
            };
            worker.spawn(work).map_err(thread)
        });
        let workers = workers.collect::<Result<_, _>>()?;
        drop(seal);
        let guard = control.guard();
        let writer = Builder::new()
            .name("tank-write".into())
            .spawn(move || {
                let _guard = guard;
                let Writer { counts, files, bytes, .. } = writer.run(&sealed);
                Written { counts, files: files.into(), bytes }
            })
            .map_err(thread)?;
        let intake = Intake {
            options: options.clone(),
            control: control.clone(),
            out: fill,
            buffers,
            awake,
            nap,
            doze,
            feeds: Vec::new(),
            channels: Channels::default(),
            open: None,
            is_starving: false,
            tallies: BTreeMap::new(),
            latched: BTreeMap::new(),
            number: 0,
            began: futex::real_now(),
        };
        let guard = control.guard();
        let run = move || {
            let _guard = guard;
            intake.run()
        };
        let intake = Builder::new().name("tank-intake".into()).spawn(run).map_err(thread)?;
        Ok(Threads { scout, intake, workers, writer })
    }

    /// Drops what has not been taken from its topic yet and what is published from now on, until
    /// [`resume`](Recorder::resume), and counts it as paused.
    pub fn pause(&self) {
        self.control.set_paused(true);
    }

    /// Records again.
    pub fn resume(&self) {
        self.control.set_paused(false);
    }

    /// Goes on in another file, without a gap. Does nothing to a recording of snapshots.
    pub fn split(&self) {
        self.control.request(Request::Split);
    }

    /// Writes the snapshot. Does nothing to a recording without.
    pub fn trigger(&self) {
        self.control.request(Request::Trigger);
    }

    /// How it is doing.
    pub fn progress(&self) -> Progress {
        let counters = &self.control.progress;
        let unsynced = match counters.unsynced_since.load(Relaxed) {
            0 => 0,
            since => futex::now().saturating_sub(since),
        };
        Progress {
            elapsed: self.started.elapsed(),
            topics: counters.topics.load(Relaxed),
            messages: counters.messages.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            lost: counters.lost.load(Relaxed),
            written: counters.written.load(Relaxed),
            files: counters.files.load(Relaxed),
            file: lock(&self.control.file).clone(),
            free: counters.free.load(Relaxed),
            unsynced: Duration::from_nanos(unsynced),
            paused: self.control.is_paused(),
        }
    }

    /// Ends the recording: takes what was published until now, and finishes the file. Waits for the disk.
    pub fn stop(mut self) -> Report {
        self.end()
    }

    fn end(&mut self) -> Report {
        self.control.stop();
        let mut report = Report {
            topics: BTreeMap::new(),
            files: Vec::new(),
            bytes: 0,
            duration: self.started.elapsed(),
            failed: BTreeMap::new(),
            fault: None,
        };
        if let Some(Threads { scout, intake, workers, writer }) = self.threads.take() {
            // All of them, before what one has panicked with goes on here.
            let (scout, intake) = (scout.join(), intake.join());
            let workers: Vec<_> = workers.into_iter().map(JoinHandle::join).collect();
            let written = writer.join();
            resume(scout);
            workers.into_iter().for_each(resume);
            let (topics, written) = (resume(intake), resume(written));
            let counts = written.counts.into_iter().chain(std::iter::repeat(Counts::default()));
            report.topics = topics.into_iter().zip(counts).collect();
            (report.files, report.bytes) = (written.files, written.bytes);
        }
        report.failed = std::mem::take(&mut lock(&self.control.failed));
        report.fault = lock(&self.control.fault).take();
        report
    }
}

/// What a thread panicked with goes on where it is waited for.
fn resume<T>(ended: std::thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl AsFd for Recorder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.ended.as_fd()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The file gets its end all the same; a second panic would end the process.
            self.control.stop();
            if let Some(Threads { scout, intake, workers, writer }) = self.threads.take() {
                let _ = (scout.join(), intake.join(), writer.join());
                workers.into_iter().for_each(|worker| drop(worker.join()));
            }
        } else if self.threads.is_some() {
            let report = self.end();
            let lost = report.total().lost;
            if lost > 0 || report.fault.is_some() {
                tracing::error!(lost, fault = ?report.fault, "a recording ended that nobody asked about");
            }
        }
    }
}

/// What a file says of the recording that it is a part of.
fn about(part: u32) -> BTreeMap<String, String> {
    let uname = rustix::system::uname();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let entries = [
        ("part", part.to_string()),
        ("host", uname.nodename().to_string_lossy().into_owned()),
        ("boot_id", boot.trim().into()),
        ("pid", std::process::id().to_string()),
        ("monotonic_ns", futex::now().to_string()),
        ("real_ns", futex::real_now().to_string()),
    ];
    entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
}
