//! Hearing of topics that come and publishers that go: one inotify instance a process, read by one thread.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::Error;
use super::name::Name;
use super::region::{Region, system_error};
use crate::std::fork::PerProcess;
use crate::std::futex::{self, Deadline};
use crate::std::shm;

/// Counts what happened to topics since the watch began. Incremented by the watching thread; others sleep on it.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// The inotify instance, once there is one. A forked child begins without: it has neither the thread nor the say over what
/// the parent watches.
static INSTANCE: PerProcess<Mutex<Option<Arc<OwnedFd>>>> = PerProcess::new();

/// The word that changes whenever a topic may have come or gone, once [`start`] was called.
pub(super) fn changes() -> &'static AtomicU32 {
    &CHANGES
}

/// Starts watching, if this process does not watch already. Look at what you wait for after this call, not before.
pub(super) fn start(name: &Name) -> Result<Arc<OwnedFd>, Error> {
    let mut instance = INSTANCE.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(watch) = &*instance {
        return Ok(watch.clone());
    }
    let failed = |source| system_error("watch for", name, source);
    let watch = Arc::new(inotify::init(CreateFlags::CLOEXEC).map_err(failed)?);
    inotify::add_watch(&watch, shm::DIRECTORY, WatchFlags::CREATE | WatchFlags::MOVED_TO).map_err(failed)?;
    let read = watch.clone();
    std::thread::Builder::new()
        .name("conduit-watch".into())
        .spawn(move || listen(&read))
        .map_err(|source| Error::System { action: "start a thread to watch for", path: name.to_string(), source })?;
    *instance = Some(watch.clone());
    Ok(watch)
}

/// Sleeps until `done` answers something, asking again whenever a topic came or went. `None` once `deadline` has passed.
pub(super) fn wait_until<R>(
    name: &Name,
    deadline: Option<Deadline>,
    mut done: impl FnMut() -> Result<Option<R>, Error>,
) -> Result<Option<R>, Error> {
    start(name)?;
    loop {
        let ticket = CHANGES.load(Ordering::Acquire);
        if let Some(result) = done()? {
            return Ok(Some(result));
        }
        if deadline.is_some_and(Deadline::has_passed) {
            return Ok(None);
        }
        futex::wait(&CHANGES, ticket, deadline);
    }
}

/// Sleeps until the region has no publisher, or `deadline` has passed; returns whether it has none.
pub(super) fn wait_publisher_gone(region: &Region, deadline: Deadline) -> Result<bool, Error> {
    let watch = start(&region.name)?;
    // The file itself, whatever has its name by now.
    inotify::add_watch(&watch, shm::proc_path(region.file()), WatchFlags::CLOSE_WRITE)
        .map_err(|source| system_error("watch", &region.name, source))?;
    let mut heard = CHANGES.load(Ordering::Acquire);
    // The kernel reports a file closed a moment before it drops the file's locks, so after each report it is asked a few
    // times, less and less often.
    let mut pause = None;
    loop {
        let ticket = CHANGES.load(Ordering::Acquire);
        if !region.has_publisher() {
            return Ok(true);
        }
        if deadline.has_passed() {
            return Ok(false);
        }
        if ticket != heard {
            heard = ticket;
            pause = Some(FIRST_PAUSE);
        }
        futex::wait(&CHANGES, ticket, futex::earlier(Some(deadline), pause.map(Deadline::after)));
        pause = pause.map(|pause| 2 * pause).filter(|pause| *pause < LAST_PAUSE);
    }
}

/// How long it takes at least, and at most, from the report that a file is closed until its locks are gone.
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LAST_PAUSE: Duration = Duration::from_millis(200);

fn listen(watch: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch.as_fd(), &mut buffer);
    loop {
        match reader.next() {
            // The end of a watch is the end of a topic's file, of which its publisher told.
            Ok(event) if event.events() == ReadFlags::IGNORED => {}
            Ok(_) => {
                CHANGES.fetch_add(1, Ordering::Release);
                futex::wake_all(&CHANGES);
            }
            Err(Errno::INTR) => {}
            // The descriptor is this thread's own, so reading it does not fail; if it did, spinning would not help.
            Err(_) => return,
        }
    }
}
