//! Telling a node to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::std::topic::Bell;

/// Rung when any node of this process is told to stop, and when a signal comes: the threads that run nodes sleep on it, and
/// look whether they were meant. One for all, and never freed, so that a signal handler may ring it.
pub(super) static ENDS: Bell = Bell::new();

/// Ends a node: from any thread, from its callbacks, before it runs or while it does. Cheap to clone.
///
/// Not for signal handlers: a node hears of SIGINT and SIGTERM by itself.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Stop>);

#[derive(Debug)]
struct Stop {
    /// Set once (Release), by whoever stops the node; read (Acquire) by its threads after each callback and before each
    /// sleep, and by its publishers that wait for room.
    stopped: Arc<AtomicBool>,
    /// What ends the sleep of each thread of the node. Filled before the threads start.
    bells: Mutex<Vec<Arc<Bell>>>,
}

impl Stopper {
    pub(super) fn new() -> Self {
        Stopper(Arc::new(Stop { stopped: Arc::default(), bells: Mutex::default() }))
    }

    /// Has the node end: callbacks that run are finished, no other begins, and [`Node::run`](super::Node::run) returns.
    /// Doesn't wait for that. Called again, it does nothing.
    pub fn stop(&self) {
        if self.0.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        self.0.bells.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|bell| bell.ring());
        ENDS.ring();
    }

    /// Whether the node was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Becomes true with the stop, for those who look at it elsewhere.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        self.0.stopped.clone()
    }

    /// Has the bell rung with the stop, or now if that has come already.
    pub(super) fn ring_with(&self, bell: Arc<Bell>) {
        self.0.bells.lock().unwrap_or_else(PoisonError::into_inner).push(bell.clone());
        if self.is_stopped() {
            bell.ring();
        }
    }
}

/// Stops the node when it is dropped: a thread of it that ends, however it does, ends it all.
pub(super) struct StopOnDrop<'s>(pub(super) &'s Stopper);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
