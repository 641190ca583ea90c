//! Sleeping until something wants attention: a signal, topics that come and go, another thread, a descriptor, the time.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::outcome::{Failure, Outcome, Result};
use crate::output::note;

/// How long a command that was interrupted has to end by itself. It is only ever used up by one that is stuck, such as
/// in writing to a program that does not read.
const GRACE: Duration = Duration::from_millis(250);
/// Within how long after an interruption another one is the same.
const DOUBLE: Duration = Duration::from_secs(1);
/// How often to look for topics where the system has no watch to spare.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The exit code of a command that is interrupted and does not end by itself.
static FORCED_CODE: AtomicU8 = AtomicU8::new(Outcome::Interrupted as u8);

/// What there is to say then.
static FORCED_NOTE: OnceLock<&'static str> = OnceLock::new();

/// What a command that is interrupted from now on has to say for itself.
pub fn something_was_done() {
    FORCED_CODE.store(Outcome::Done as u8, Ordering::Relaxed);
}

/// How a command ends that is interrupted from now on and does not end by itself.
#[cfg(feature = "tank")]
pub fn if_forced(code: u8, reason: &'static str) {
    FORCED_CODE.store(code, Ordering::Relaxed);
    FORCED_NOTE.get_or_init(|| reason);
}

/// What ended a sleep. Several things may have.
#[derive(Default, Debug)]
pub struct Woken {
    /// SIGINT or SIGTERM. Stays true.
    pub interrupted: bool,
    /// A topic may have come, gone or lost its publisher.
    pub topics: bool,
    /// Which of the descriptors are readable, or closed at their other end.
    pub ready: Vec<usize>,
}

/// What a command sleeps on.
pub struct Events {
    bell: Bell,
    interrupted: Arc<AtomicBool>,
    watch: Watch,
    /// A device or a file is never closed from the other side.
    output_may_close: bool,
}

enum Watch {
    Off,
    On(OwnedFd),
    /// The system has no watch to spare.
    Interval(Instant),
}

/// Ends the sleep of the command's main thread.
#[derive(Clone)]
pub struct Bell(Arc<OwnedFd>);

impl Bell {
    pub fn ring(&self) {
        // Fails only if it has rung already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Events {
    /// From now on SIGINT and SIGTERM end the sleep of the main thread, and no longer the process. Call this before
    /// there are other threads.
    pub fn new() -> Result<Self> {
        Self::with_grace(GRACE)
    }

    /// [`new`](Events::new) for a command that may take until `grace` to clean up after an interruption.
    pub fn with_grace(grace: Duration) -> Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed("make an eventfd"))?;
        let bell = Bell(Arc::new(bell));
        let interrupted = Arc::new(AtomicBool::new(false));
        let signals = block_signals();
        let (ring, flag) = (bell.clone(), interrupted.clone());
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                wait_for(&signals, None);
                flag.store(true, Ordering::Release);
                ring.ring();
                // Some send a signal twice: to the program and to its group.
                let began = Instant::now();
                let deaf = DOUBLE.min(grace);
                while wait_for(&signals, Some(grace.saturating_sub(began.elapsed()))) && began.elapsed() < deaf {}
                if let Some(reason) = FORCED_NOTE.get() {
                    say_if_possible(reason);
                }
                std::process::exit(FORCED_CODE.load(Ordering::Relaxed).into());
            })
            .map_err(|error| Failure::Failed(format!("cannot start a thread for signals: {error}")))?;
        let output = rustix::fs::fstat(io::stdout()).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
        let output_may_close = !matches!(output, Ok(rustix::fs::FileType::RegularFile));
        Ok(Events { bell, interrupted, watch: Watch::Off, output_may_close })
    }

    /// For a command that goes on without standard output.
    pub fn without_output(self) -> Self {
        Events { output_may_close: false, ..self }
    }

    /// Hears of topics from now on. Look for topics after this call.
    pub fn watch_topics(&mut self) -> Result<()> {
        let watch = || {
            let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            let what = WatchFlags::CREATE
                | WatchFlags::MOVED_TO
                | WatchFlags::MOVED_FROM
                | WatchFlags::DELETE
                | WatchFlags::CLOSE_WRITE;
            inotify::add_watch(&watch, "/dev/shm", what)?;
            Ok(watch)
        };
        self.watch = match watch() {
            Ok(watch) => Watch::On(watch),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOSPC) => {
                note(format_args!(
                    "no inotify watch to spare, so looking every {LOOK_INTERVAL:?} (fs.inotify.max_user_instances)"
                ));
                Watch::Interval(Instant::now() + LOOK_INTERVAL)
            }
            Err(error) => return Err(failed("watch /dev/shm")(error)),
        };
        Ok(())
    }

    /// Sleeps on when topics come and go.
    pub fn ignore_topics(&mut self) {
        self.watch = Watch::Off;
    }

    /// For other threads to end the sleep.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// Becomes true with an interruption, for those who look at it elsewhere.
    pub fn interruption(&self) -> Arc<AtomicBool> {
        self.interrupted.clone()
    }

    /// Sleeps until something wants attention, or until `deadline`.
    ///
    /// [`Failure::OutputClosed`] if nobody reads standard output any longer.
    pub fn wait(&mut self, descriptors: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<Woken> {
        let mut deadline = deadline;
        if let Watch::Interval(next) = self.watch {
            deadline = Some(deadline.map_or(next, |deadline| deadline.min(next)));
        }
        let stdout = io::stdout();
        let mut fds = vec![PollFd::new(&self.bell.0, PollFlags::IN)];
        let output_at = self.output_may_close.then(|| {
            // Asked for nothing, poll still tells of errors and hang-ups.
            fds.push(PollFd::new(&stdout, PollFlags::empty()));
            fds.len() - 1
        });
        let watch_at = match &self.watch {
            Watch::On(watch) => {
                fds.push(PollFd::new(watch, PollFlags::IN));
                Some(fds.len() - 1)
            }
            _ => None,
        };
        let first = fds.len();
        fds.extend(descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed("poll")(error)),
        }
        if output_at.is_some_and(|at| fds[at].revents().intersects(PollFlags::ERR | PollFlags::HUP)) {
            return Err(Failure::OutputClosed);
        }
        let ready =
            fds[first..].iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(at, _)| at).collect();
        let mut topics = watch_at.is_some_and(|at| !fds[at].revents().is_empty());
        drop(fds);
        // Empties the bell; what it rang for is looked at after this.
        let _ = rustix::io::read(&self.bell.0, &mut [0; 8]);
        match &mut self.watch {
            Watch::On(watch) if topics => drain(watch.as_fd()),
            Watch::Interval(next) if *next <= Instant::now() => {
                *next = Instant::now() + LOOK_INTERVAL;
                topics = true;
            }
            _ => {}
        }
        Ok(Woken { interrupted: self.is_interrupted(), topics, ready })
    }
}

/// Reads what the watch has told. Only that it did matters: what it told of may have changed since.
fn drain(watch: BorrowedFd<'_>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    while let Ok(event) = reader.next() {
        debug_assert!(!event.events().contains(ReadFlags::UNMOUNT), "/dev/shm is gone");
    }
}

fn failed(what: &'static str) -> impl Fn(Errno) -> Failure {
    move |error| Failure::Failed(format!("cannot {what}: {error}"))
}

/// Keeps SIGINT and SIGTERM from ending the process: of this thread and those that it starts.
pub fn block_signals() -> libc::sigset_t {
    // SAFETY: a C struct of integers that `sigemptyset` fills; the calls read and write only what they are given.
    unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGINT);
        libc::sigaddset(&mut signals, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut());
        signals
    }
}

/// Says something on standard error, unless whoever reads there keeps it waiting: the program is to end now.
fn say_if_possible(text: &str) {
    let stderr = io::stderr();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    if poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(&stderr, format!("conduit: {text}\n").as_bytes());
    }
}

/// Sleeps until one of `signals`, which are blocked, or until `timeout`; returns whether one came.
pub fn wait_for(signals: &libc::sigset_t, timeout: Option<Duration>) -> bool {
    let until = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            libc::timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ }
        });
        let timespec = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: reads the set and the time, which may be null; tells of the signal nowhere.
        let signal = unsafe { libc::sigtimedwait(signals, std::ptr::null_mut(), timespec) };
        // Anything but a signal of another kind: it came, or the time is over.
        if signal > 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return signal > 0;
        }
    }
}
