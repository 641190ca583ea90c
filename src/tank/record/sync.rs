//! Hands what was written to the disk, beside the writing.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io, mem};

use super::control::{Control, lock};
use crate::std::futex;

/// Hands a file's contents to the disk.
pub(super) type SyncFile = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// A thread that syncs files: the one that is being written so long after something was written to it, and each that is done.
pub(super) struct Syncer {
    work: Arc<(Mutex<Work>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Work {
    control: Arc<Control>,
    /// The file that something was written to, and when it is due.
    written: Option<(SyncFile, Instant)>,
    /// Files that are finished.
    done: Vec<SyncFile>,
    stop: bool,
}

impl fmt::Debug for Syncer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syncer").finish_non_exhaustive()
    }
}

impl Syncer {
    /// `failed` is called with what the disk answered.
    pub fn start(control: Arc<Control>, failed: impl Fn(io::Error) + Send + 'static) -> io::Result<Self> {
        let work = Work { control, written: None, done: Vec::new(), stop: false };
        let work = Arc::new((Mutex::new(work), Condvar::new()));
        let shared = work.clone();
        let run = move || {
            while let Some(files) = next(&shared) {
                let began = futex::now();
                let errors: Vec<_> = files.iter().filter_map(|sync| sync().err()).collect();
                if let Some(error) = errors.into_iter().next() {
                    failed(error);
                    continue;
                }
                let work = lock(&shared.0);
                // What was written while it ran may not be there.
                work.control.progress.unsynced_since.store(if work.written.is_some() { began } else { 0 }, Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name("tank-sync".into()).spawn(run)?;
        Ok(Syncer { work, thread: Some(thread) })
    }

    /// Something was written that is to be on the disk after `time`.
    pub fn written(&self, file: &SyncFile, time: Duration) {
        let mut work = lock(&self.work.0);
        let _ = work.control.progress.unsynced_since.compare_exchange(0, futex::now(), Relaxed, Relaxed);
        if work.written.is_none() {
            // One that is too far off for any clock comes with the end of the file.
            let Some(due) = Instant::now().checked_add(time) else { return };
            work.written = Some((file.clone(), due));
            self.work.1.notify_one();
        }
    }

    /// Nothing more will be written to this file.
    pub fn done(&self, file: SyncFile) {
        let mut work = lock(&self.work.0);
        work.written = None;
        work.done.push(file);
        self.work.1.notify_one();
    }

    /// Syncs what is left.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        lock(&self.work.0).stop = true;
        self.work.1.notify_one();
        if let Some(thread) = self.thread.take() {
            // It panics only where a file's sync does, which is a system call.
            let _ = thread.join();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sleeps until files are due; `None` at the end.
fn next((work, changed): &(Mutex<Work>, Condvar)) -> Option<Vec<SyncFile>> {
    let mut work = lock(work);
    loop {
        let now = Instant::now();
        let mut files = mem::take(&mut work.done);
        let due = work.written.as_ref().map(|(_, due)| *due);
        let is_due = due.is_some_and(|due| work.stop || due <= now);
        if is_due {
            files.extend(work.written.take().map(|(file, _)| file));
        }
        if !files.is_empty() {
            return Some(files);
        }
        if work.stop {
            return None;
        }
        work = match due {
            Some(due) => changed.wait_timeout(work, due - now).unwrap_or_else(PoisonError::into_inner).0,
            None => changed.wait(work).unwrap_or_else(PoisonError::into_inner),
        };
    }
}
