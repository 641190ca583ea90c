//! Has the disk take what was written at intervals, beside the writing.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::journal::SyncFile;
use crate::tank::Error;

/// A thread that syncs a file so long after something was written to it.
pub(super) struct Syncer {
    work: Arc<(Mutex<Work>, Condvar)>,
    interval: Duration,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Work {
    /// The file that something was written to, and when it is due.
    written: Option<(SyncFile, Instant)>,
    /// What the disk answered, until somebody asks.
    failed: Option<io::Error>,
    stop: bool,
}

fn locked(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Syncer {
    pub fn start(interval: Duration) -> Result<Self, Error> {
        let work = Arc::new((Mutex::new(Work::default()), Condvar::new()));
        let shared = work.clone();
        let run = move || {
            while let Some(sync) = next(&shared) {
                if let Err(error) = sync() {
                    locked(&shared.0).failed = Some(error);
                }
            }
        };
        let thread = Builder::new().name("event-sync".into()).spawn(run);
        let thread = thread.map_err(|source| Error::System { what: "start a thread", source })?;
        Ok(Syncer { work, interval, thread: Some(thread) })
    }

    /// Something was written to this file; what was written to others is synced.
    pub fn written(&self, file: &SyncFile) {
        let mut work = locked(&self.work.0);
        match &mut work.written {
            Some((written, _)) => *written = file.clone(),
            none => {
                // One that is too far off for any clock comes with the end of the file.
                let Some(due) = Instant::now().checked_add(self.interval) else { return };
                *none = Some((file.clone(), due));
                self.work.1.notify_one();
            }
        }
    }

    /// What went wrong since this was asked last.
    pub fn take_failure(&self) -> Option<io::Error> {
        locked(&self.work.0).failed.take()
    }
}

/// Ends without a sync: whoever has the file ends it.
impl Drop for Syncer {
    fn drop(&mut self) {
        locked(&self.work.0).stop = true;
        self.work.1.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing that panics.
            let _ = thread.join();
        }
    }
}

/// Sleeps until a file is due; `None` at the end.
fn next((work, changed): &(Mutex<Work>, Condvar)) -> Option<SyncFile> {
    let mut work = locked(work);
    loop {
        if work.stop {
            return None;
        }
        let left = work.written.as_ref().map(|(_, due)| due.saturating_duration_since(Instant::now()));
        work = match left {
            None => changed.wait(work).unwrap_or_else(PoisonError::into_inner),
            Some(Duration::ZERO) => return work.written.take().map(|(file, _)| file),
            Some(left) => changed.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(40);

    #[test]
    fn what_was_written_is_synced_once_and_a_failure_is_told_once() {
        let syncer = Syncer::start(Duration::from_millis(1)).unwrap();
        let (done, synced) = channel();
        let good: SyncFile = Arc::new(move || done.send(()).map_err(io::Error::other));
        syncer.written(&good);
        synced.recv_timeout(PATIENCE).unwrap();
        assert!(syncer.take_failure().is_none());
        drop(synced);
        syncer.written(&good);
        let start = Instant::now();
        while syncer.take_failure().is_none() {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        assert!(syncer.take_failure().is_none());
    }

    #[test]
    fn what_is_not_due_does_not_hold_up_the_end() {
        let (done, synced) = channel();
        let file: SyncFile = Arc::new(move || done.send(()).map_err(io::Error::other));
        for interval in [Duration::from_secs(3600), Duration::MAX] {
            let syncer = Syncer::start(interval).unwrap();
            syncer.written(&file);
            drop(syncer);
            assert!(synced.try_recv().is_err(), "it was not due");
        }
    }
}
