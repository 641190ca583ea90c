//! What the threads of a recorder share.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::feed::Feed;
use crate::topic::Waker;

/// What is asked of the recorder, in the order in which it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// Goes on in another file.
    Split,
    /// Writes the snapshot.
    Trigger,
}

/// What the threads of a recorder share: wishes for the intake, and how things are for whoever asks.
#[derive(Debug)]
pub(super) struct Control {
    /// Set once by whoever ends the recording; read by the intake and the scout.
    stop: AtomicBool,
    /// Whether topics may still come. Cleared once by the scout, at its end; read by the intake.
    scouting: AtomicBool,
    /// Set and cleared by the recorder's owner; read by the intake, which then takes messages and drops them.
    paused: AtomicBool,
    /// Bytes of chunks that are not written yet. Added to by the intake; subtracted from by the writer.
    in_flight: AtomicUsize,
    /// Whether the intake waits for memory. Set by the intake, cleared by the writer, which then wakes it.
    starving: AtomicBool,
    /// Statistics for [`Progress`](super::Progress): each is written by one thread and read by whoever asks.
    pub progress: Counters,
    requests: Mutex<Vec<Request>>,
    inbox: Mutex<Vec<Feed>>,
    /// Topics that cannot be recorded, and why.
    pub failed: Mutex<BTreeMap<String, String>>,
    /// The file that is being written.
    pub file: Mutex<PathBuf>,
    /// Why writing ended before anybody asked.
    pub fault: Mutex<Option<crate::tank::Error>>,
    wakers: [Waker; 3],
    /// Becomes readable when the recorder ends of itself.
    pub ended: OwnedFd,
}

/// Of a thread of the recorder, without which the others would wait for ever.
pub(super) struct Guard(Arc<Control>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let source = std::io::Error::other("a thread of the recorder panicked");
            self.0.fail(crate::tank::Error::System { what: "go on recording", source });
        }
    }
}

/// Statistics, each written by one thread and read by whoever asks; nothing else depends on them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// By the intake.
    pub topics: AtomicU64,
    /// By the intake: messages put into a chunk, and the bytes of them.
    pub messages: AtomicU64,
    pub bytes: AtomicU64,
    /// By the intake, and by the writer if the disk fails.
    pub lost: AtomicU64,
    /// By the writer.
    pub written: AtomicU64,
    pub files: AtomicU64,
    pub free: AtomicU64,
    /// When what the disk does not have yet was written first, at the latest, on the monotonic clock; 0 if it has everything.
    /// Set by the writer, set and cleared by whoever syncs, both while they hold the lock of their common work.
    pub unsynced_since: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// What a thread left that panicked is as good as any: every change to these is a single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    pub fn new(wakers: [Waker; 3], ended: OwnedFd, paused: bool) -> Self {
        Control {
            stop: AtomicBool::new(false),
            scouting: AtomicBool::new(true),
            paused: AtomicBool::new(paused),
            in_flight: AtomicUsize::new(0),
            starving: AtomicBool::new(false),
            progress: Counters::default(),
            requests: Mutex::default(),
            inbox: Mutex::default(),
            failed: Mutex::default(),
            file: Mutex::default(),
            fault: Mutex::default(),
            wakers,
            ended,
        }
    }

    /// Ends the sleep of the intake, whatever it sleeps on.
    fn wake(&self) {
        self.wakers.iter().for_each(Waker::wake);
    }

    pub fn stop(&self) {
        // Release: whoever sees it sees what was asked for before.
        self.stop.store(true, Ordering::Release);
        self.wake();
        crate::std::topic::News::spread();
    }

    pub fn is_stopped(&self) -> bool {
        // Acquire: pairs with the Release in `stop`.
        self.stop.load(Ordering::Acquire)
    }

    /// No topic comes any more.
    pub fn end_scouting(&self) {
        // Release: whoever sees it finds all feeds.
        self.scouting.store(false, Ordering::Release);
        self.wake();
    }

    pub fn is_scouting(&self) -> bool {
        // Acquire: pairs with the Release in `end_scouting`.
        self.scouting.load(Ordering::Acquire)
    }

    /// Whether the recording ended of itself.
    pub fn has_failed(&self) -> bool {
        lock(&self.fault).is_some()
    }

    /// The recording cannot go on: tells the intake and the owner.
    pub fn fail(&self, error: crate::tank::Error) {
        lock(&self.fault).get_or_insert(error);
        self.stop();
        // Fails only if it was told already.
        let _ = rustix::io::write(&self.ended, &1u64.to_ne_bytes());
    }

    /// Has the recording end if the calling thread panics while it has this.
    pub fn guard(self: &Arc<Self>) -> Guard {
        Guard(self.clone())
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.wake();
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub fn request(&self, request: Request) {
        lock(&self.requests).push(request);
        self.wake();
    }

    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.requests))
    }

    pub fn add_feed(&self, feed: Feed) {
        lock(&self.inbox).push(feed);
        self.wake();
    }

    pub fn take_feeds(&self) -> Vec<Feed> {
        std::mem::take(&mut lock(&self.inbox))
    }

    /// Sets memory aside for a chunk. `false` if there is none left: the intake is woken once there may be.
    pub fn reserve(&self, bytes: usize, limit: usize) -> bool {
        let fits = || self.in_flight.load(Ordering::Acquire) + bytes <= limit;
        if !fits() {
            // Sequentially consistent, as is what `release` does: either this sees the memory that was given back, or
            // `release` sees that somebody waits for it.
            self.starving.store(true, Ordering::SeqCst);
            if self.in_flight.load(Ordering::SeqCst) + bytes > limit {
                return false;
            }
            self.starving.store(false, Ordering::Relaxed);
        }
        self.in_flight.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// A chunk has taken more than was set aside for it.
    pub fn reserve_more(&self, bytes: usize) {
        self.in_flight.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives a chunk's memory back.
    pub fn release(&self, bytes: usize) {
        self.in_flight.fetch_sub(bytes, Ordering::SeqCst);
        if self.starving.load(Ordering::SeqCst) && self.starving.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }
}
