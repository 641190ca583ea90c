//! What all threads of an engine have in common.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::batch::{Batch, Handle, Memory, split_sparse};
use super::dispatch::{Dispatch, Sleepers, StateChange};
use super::lanes::Storage;
use super::source::SourceInfo;
use super::stats::{StoreCounts, WorkerCounts};
use super::topics::{Topic, Topics};
use crate::Publisher;
use crate::backpressure::State;
use crate::frame::Encoding;
use crate::lanes::Lane;
use crate::std::futex::now;

pub(super) struct Shared {
    // Before `storage`, which has its queues: it is dropped first.
    pub(super) dispatch: Mutex<Dispatch>,
    /// With that mutex: somebody is done with making a topic.
    pub(super) made: Condvar,
    pub(super) sleepers: Sleepers,
    pub(super) memory: Arc<Memory>,
    pub(super) memory_limit: usize,
    /// How long a source is held before what is not urgent gives way, in nanoseconds.
    pub(super) hold: u64,
    /// Set when a thread of the engine has panicked, by that thread: nothing more is taken, and nobody waits for it.
    pub(super) is_broken: AtomicBool,
    pub(super) topics: Arc<Topics>,
    /// By lane, in nanoseconds.
    pub(super) targets: [u64; 3],
    pub(super) capacities: [usize; 3],
    /// Whether a lane takes less than everything, or a source is held. Set by the dispatcher, who looks at the lane again behind
    /// a fence; read by workers behind a fence behind having taken something out; taken back by whoever relieves.
    pub(super) is_pressed: AtomicBool,
    /// When stores are no longer waited for, in nanoseconds of the monotonic clock. Written by whoever stops the engine.
    pub(super) end: AtomicU64,
    pub(super) hooks: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    /// How often there was room again.
    pub(super) rooms: Mutex<u64>,
    pub(super) room: Condvar,
    pub(super) state_changes: [AtomicU64; 3],
    pub(super) states_topic: Mutex<Option<Publisher<[u8]>>>,
    pub(super) workers: Vec<Arc<WorkerCounts>>,
    pub(super) log_counts: Arc<StoreCounts>,
    pub(super) letter_counts: Arc<StoreCounts>,
    pub(super) storage: Arc<Storage>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("capacities", &self.capacities).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn dispatch(&self) -> MutexGuard<'_, Dispatch> {
        // It has no state in between that a panic could leave, as nothing foreign is called under it.
        self.dispatch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the lock for `f`, and tells of the states that it found changed when the lock is given back.
    pub(super) fn with_dispatch<R>(&self, f: impl FnOnce(&mut Dispatch) -> R) -> R {
        let mut dispatch = self.dispatch();
        let result = f(&mut dispatch);
        let has_untold = dispatch.has_untold();
        drop(dispatch);
        if has_untold {
            self.tell_of_states();
        }
        result
    }

    /// Makes a topic that an event lacks, in the time of whoever has the event, and without the lock, so that no other event
    /// waits for that. If somebody else makes it, that is waited for.
    #[cold]
    pub(super) fn make_topic(&self, name: &[u8], encoding: Encoding, now: u64) {
        let waiting = self.made.wait_while(self.dispatch(), |dispatch| dispatch.topics.is_claimed(name));
        let is_claimed = waiting.unwrap_or_else(PoisonError::into_inner).topics.claim(name, now);
        if is_claimed {
            let mut claim = Claim { shared: self, name, now, made: None };
            claim.made = self.topics.make(name, encoding);
        }
    }

    /// Makes a batch one that threads share, together with those that its lanes have for themselves.
    pub(super) fn share(
        &self,
        batch: &mut Batch,
        info: &Arc<SourceInfo>,
        read_at: u64,
        received: u64,
    ) -> [Option<Handle>; 4] {
        assert!(batch.is_whole(), "the buffer is as it was when events were added");
        let handle = |batch| Handle::new(batch, info.clone(), read_at, received, self.memory.clone());
        let [realtime, transactional, lowest] = split_sparse(batch).map(|part| part.map(handle));
        [Some(handle(std::mem::take(batch))), realtime, transactional, lowest]
    }

    /// Whether stores that fail are no longer waited for.
    pub(super) fn is_past_the_end(&self) -> bool {
        now() >= self.end.load(Ordering::Relaxed)
    }

    /// After something was taken out of a lane, or memory was freed: has the states looked at, and those told who wait for room,
    /// if there may be some.
    /// `lanes` are those that something was taken out of, or may have been.
    #[inline]
    pub(super) fn relieve_if_pressed(&self, lanes: &[Lane]) {
        // With the fence of the dispatcher: see `is_pressed`.
        fence(Ordering::SeqCst);
        if self.is_pressed.load(Ordering::Relaxed) {
            self.relieve(lanes);
        }
    }

    #[cold]
    fn relieve(&self, lanes: &[Lane]) {
        let there_is_room = self.with_dispatch(|dispatch| {
            self.is_pressed.store(false, Ordering::Relaxed);
            dispatch.look_at_states(self);
            let there_is_room = lanes.iter().any(|&lane| dispatch.states[lane as usize] <= State::Paused)
                && self.memory.pressing() < self.memory_limit / 4 * 3;
            if !there_is_room {
                self.is_pressed.store(true, Ordering::Relaxed);
            }
            there_is_room
        });
        if there_is_room {
            self.tell_of_room();
        }
    }

    /// Has everybody try again who waits for room.
    pub(super) fn tell_of_room(&self) {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|hook| hook());
        *self.rooms.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.room.notify_all();
    }

    /// How often there was room again, to be [waited](Shared::wait_for_room) on: read before what is refused is tried.
    pub(super) fn rooms(&self) -> u64 {
        *self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until there was room since, or for as long as a source is held.
    pub(super) fn wait_for_room(&self, seen: u64) {
        let rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.room.wait_timeout_while(rooms, Duration::from_nanos(self.hold), |rooms| *rooms == seen));
    }

    /// Tells of the states that changed, each lane's in their order. If somebody does that, they do it for this one, too: nobody
    /// waits for another's log.
    fn tell_of_states(&self) {
        loop {
            let mut topic = match self.states_topic.try_lock() {
                Ok(topic) => topic,
                Err(TryLockError::Poisoned(broken)) => broken.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let changes = std::mem::take(&mut self.dispatch().untold);
            for (lane, change) in Lane::ALL.into_iter().zip(changes) {
                if let Some(change) = change.filter(|change| change.before != change.state) {
                    self.tell_of_state(lane, change, topic.as_mut());
                }
            }
            drop(topic);
            // Whoever came meanwhile has left theirs here.
            if !self.dispatch().has_untold() {
                return;
            }
        }
    }

    fn tell_of_state(&self, lane: Lane, change: StateChange, topic: Option<&mut Publisher<[u8]>>) {
        let (lane_name, capacity) = (lane.name(), self.capacities[lane as usize]);
        let StateChange { before, state, depth, time } = change;
        let (before, state) = (before.name(), state.name());
        tracing::info!(lane = lane_name, before, state, depth, capacity, "a lane's state changed");
        let text = format!(
            r#"{{"lane":"{lane_name}","before":"{before}","state":"{state}","depth":{depth},"capacity":{capacity},"time":{time}}}"#
        );
        if let Some(Err(error)) = topic.map(|topic| topic.publish(text.as_bytes())) {
            tracing::warn!(%error, "a lane's state could not be published");
        }
    }
}

/// That a topic is being made: over when it is dropped, whatever comes of it.
struct Claim<'c> {
    shared: &'c Shared,
    name: &'c [u8],
    now: u64,
    made: Option<Topic>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.shared.dispatch().topics.settle(self.name, self.made.take(), self.now);
        self.shared.made.notify_all();
    }
}
