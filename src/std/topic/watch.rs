//! Hearing of topics that come and publishers that go: one inotify instance a process, read by one thread.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::Error;
use super::error::WATCH;
use super::region::Region;
use crate::std::fork::PerProcess;
use crate::std::futex::{self, Deadline};
use crate::std::shm;

/// How often to look where the system has no watch to spare.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// From the report that a file is closed until its locks are gone: how soon, and how often at least, to look; and for
/// how long, after which it must have been closed by somebody else than the publisher.
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LAST_PAUSE: Duration = Duration::from_millis(200);
const SUSPICION: Duration = Duration::from_secs(60);

/// Counts what happened to topics since the watch began. Incremented by the watching thread; others sleep on it.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// The inotify instance, once there is one. A forked child begins without: it has neither the thread nor the say over what
/// the parent watches.
static INSTANCE: PerProcess<Mutex<Option<Arc<Watch>>>> = PerProcess::new();

#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    /// How often a file was closed by somebody who may have written it, by watch descriptor.
    closings: Mutex<HashMap<i32, u32>>,
}

/// The watch descriptor of the report that others were lost.
const OVERFLOW: i32 = -1;

impl Watch {
    fn closings(&self) -> MutexGuard<'_, HashMap<i32, u32>> {
        self.closings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes whenever `file` may have been closed.
fn closings_of(closings: &HashMap<i32, u32>, file: i32) -> u32 {
    let of = |descriptor| closings.get(&descriptor).copied().unwrap_or(0);
    of(file).wrapping_add(of(OVERFLOW))
}

/// The word that changes whenever a topic may have come or gone, once [`start`] was called.
pub(crate) fn changes() -> &'static AtomicU32 {
    &CHANGES
}

/// Starts watching, if this process does not watch already. Look at what you wait for after this call, not before.
pub(super) fn start() -> Result<Arc<Watch>, Error> {
    let mut instance = INSTANCE.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(watch) = &*instance {
        return Ok(watch.clone());
    }
    let failed = |source: Errno| Error::System { action: WATCH, path: shm::DIRECTORY.into(), source: source.into() };
    let inotify = inotify::init(CreateFlags::CLOEXEC).map_err(failed)?;
    inotify::add_watch(&inotify, shm::DIRECTORY, WatchFlags::CREATE | WatchFlags::MOVED_TO).map_err(failed)?;
    let watch = Arc::new(Watch { inotify, closings: Mutex::default() });
    let read = watch.clone();
    std::thread::Builder::new()
        .name("conduit-watch".into())
        .spawn(move || listen(&read))
        .map_err(|source| Error::System { action: "start a thread to watch", path: shm::DIRECTORY.into(), source })?;
    *instance = Some(watch.clone());
    Ok(watch)
}

/// [`start`] for those who can do without: when to look again, where there is nothing to watch with. Call it before
/// each sleep, as there may be a watch to spare by then.
pub(crate) fn start_or_look() -> Option<Deadline> {
    start().err().map(|_| Deadline::after(LOOK_INTERVAL))
}

/// Hears of topics that may have come or gone.
#[cfg(feature = "tank")]
#[derive(Debug)]
pub(crate) struct News {
    /// The changes that were looked at.
    heard: u32,
}

#[cfg(feature = "tank")]
impl News {
    /// Whatever changes from now on is news.
    pub(crate) fn new() -> Self {
        start_or_look();
        News { heard: CHANGES.load(Ordering::Acquire) }
    }

    /// Sleeps until there is news. May return early.
    pub(crate) fn wait(&mut self) {
        futex::wait(&CHANGES, self.heard, start_or_look());
        self.heard = CHANGES.load(Ordering::Acquire);
    }

    /// Ends the wait of everybody in this process who waits for news.
    pub(crate) fn spread() {
        CHANGES.fetch_add(1, Ordering::Release);
        futex::wake_all(&CHANGES);
    }
}

/// Sleeps until `done` answers something, asking again whenever a topic came or went. `None` once `deadline` has passed.
pub(super) fn wait_until<R>(
    deadline: Option<Deadline>,
    mut done: impl FnMut() -> Result<Option<R>, Error>,
) -> Result<Option<R>, Error> {
    loop {
        let look = start_or_look();
        let ticket = CHANGES.load(Ordering::Acquire);
        if let Some(result) = done()? {
            return Ok(Some(result));
        }
        if deadline.is_some_and(Deadline::has_passed) {
            return Ok(None);
        }
        futex::wait(&CHANGES, ticket, futex::earlier(deadline, look));
    }
}

/// Sleeps until the region has no publisher, or `deadline` has passed; returns whether it has none.
pub(super) fn wait_publisher_gone(region: &Region, deadline: Deadline) -> Result<bool, Error> {
    let mut vigil = None;
    loop {
        if vigil.is_none() {
            vigil = Vigil::start(region);
        }
        let ticket = CHANGES.load(Ordering::Acquire);
        if !region.has_publisher() {
            return Ok(true);
        }
        if deadline.has_passed() {
            return Ok(false);
        }
        let look = match &mut vigil {
            Some(vigil) => vigil.next_look(),
            None => Some(Deadline::after(LOOK_INTERVAL)),
        };
        futex::wait(&CHANGES, ticket, futex::earlier(Some(deadline), look));
    }
}

/// Watching a region's file for being closed.
///
/// The kernel reports a file closed before it drops the file's locks: a moment before, or longer if the dying process
/// gets no time. Of the locks it reports nothing. So after each report they are looked at for a while, less and less
/// often.
#[derive(Debug)]
struct Vigil<'r> {
    region: &'r Region,
    watch: Arc<Watch>,
    file: i32,
    /// The reports that were heard.
    heard: u32,
    /// The publisher that the last of them may have been about.
    epoch: u32,
    pause: Duration,
    until: Deadline,
}

impl<'r> Vigil<'r> {
    /// `None` if there is nothing to watch with.
    fn start(region: &'r Region) -> Option<Self> {
        let watch = start().ok()?;
        let (file, heard) = {
            // No report is counted meanwhile, so none is taken for one that was heard before.
            let closings = watch.closings();
            // The file itself, whatever has its name by now.
            let path = shm::proc_path(region.file());
            let file = inotify::add_watch(&watch.inotify, path, WatchFlags::CLOSE_WRITE).ok()?;
            (file, closings_of(&closings, file))
        };
        let mut vigil =
            Vigil { region, watch, file, heard, epoch: 0, pause: FIRST_PAUSE, until: Deadline::after(Duration::ZERO) };
        // The publisher's end may have been reported just before anybody listened.
        vigil.suspect(LAST_PAUSE);
        Some(vigil)
    }

    fn suspect(&mut self, time: Duration) {
        self.epoch = self.epoch_now();
        self.pause = FIRST_PAUSE;
        self.until = Deadline::after(time);
    }

    fn epoch_now(&self) -> u32 {
        self.region.writer_page().epoch.load(Ordering::Relaxed)
    }

    /// When to look at the lock again, which was held just now, even if nothing more is heard. `None` for no need to:
    /// whoever closed the file lives on without it, or the next publisher has taken over from who closed it.
    fn next_look(&mut self) -> Option<Deadline> {
        let heard = closings_of(&self.watch.closings(), self.file);
        if heard != self.heard {
            self.heard = heard;
            self.suspect(SUSPICION);
        }
        if self.until.has_passed() || self.epoch != self.epoch_now() {
            return None;
        }
        let look = Deadline::after(self.pause);
        self.pause = (2 * self.pause).min(LAST_PAUSE);
        Some(look)
    }
}

fn listen(watch: &Watch) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch.inotify.as_fd(), &mut buffer);
    loop {
        match reader.next() {
            // The end of a watch is the end of a topic's file, of which its publisher told.
            Ok(event) if event.events() == ReadFlags::IGNORED => {
                watch.closings().remove(&event.wd());
            }
            Ok(event) => {
                // Before the change is announced: who wakes up for it looks here.
                if event.events().intersects(ReadFlags::CLOSE_WRITE | ReadFlags::QUEUE_OVERFLOW) {
                    let mut closings = watch.closings();
                    let count = closings.entry(event.wd()).or_default();
                    *count = count.wrapping_add(1);
                }
                CHANGES.fetch_add(1, Ordering::Release);
                futex::wake_all(&CHANGES);
            }
            Err(Errno::INTR) => {}
            // The descriptor is this thread's own, so reading it does not fail; if it did, spinning would not help.
            Err(_) => return,
        }
    }
}
