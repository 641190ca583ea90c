//! Hearing of topics that come and publishers that go: one inotify instance a process, read by one thread.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::Error;
use super::name::Name;
use super::region::system_error;
use crate::std::futex::{self, Deadline};
use crate::std::{fork, shm};

/// Counts what happened to topics since the watch began. Incremented by the watching thread; others sleep on it.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// The inotify instance, and the process generation that its thread belongs to.
static INSTANCE: Mutex<Option<(u32, std::sync::Arc<OwnedFd>)>> = Mutex::new(None);

/// The word that changes whenever a topic may have come or gone, once [`start`] was called.
pub(super) fn changes() -> &'static AtomicU32 {
    &CHANGES
}

/// Starts watching, if this process does not watch already. Look at what you wait for after this call, not before.
pub(super) fn start(name: &Name) -> Result<std::sync::Arc<OwnedFd>, Error> {
    let mut instance = INSTANCE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((generation, watch)) = &*instance {
        if *generation == fork::generation() {
            return Ok(watch.clone());
        }
    }
    let failed = |source| system_error("watch for", name, source);
    let watch = std::sync::Arc::new(inotify::init(CreateFlags::CLOEXEC).map_err(failed)?);
    inotify::add_watch(&watch, shm::DIRECTORY, WatchFlags::CREATE | WatchFlags::MOVED_TO).map_err(failed)?;
    let read = watch.clone();
    std::thread::Builder::new()
        .name("conduit-watch".into())
        .spawn(move || listen(&read))
        .map_err(|source| Error::System { action: "start a thread to watch for", path: name.to_string(), source })?;
    *instance = Some((fork::generation(), watch.clone()));
    Ok(watch)
}

/// Also hears when somebody closes the topic's file, as a publisher does that dies.
pub(super) fn watch_closes(name: &Name) -> Result<(), Error> {
    let watch = start(name)?;
    match inotify::add_watch(&watch, name.path(), WatchFlags::CLOSE_WRITE) {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(source) => Err(system_error("watch", name, source)),
    }
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
