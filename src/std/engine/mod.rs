//! The event engine: events come in, each is answered, and goes by its priority to its topic, to handlers and to stores.
//!
//! ```text
//! sources ─▶ dispatcher ─▶ realtime lane ─▶ worker ─▶ topics, handlers
//!            (dedup,     ─▶ lower lanes   ─▶ workers ─┘     │ fail
//!             admission) ─▶ durable log                     ▼
//!                        ─▶ dead letters ◀──────────────────┘
//! ```
//!
//! It has no sockets and no files: whoever has events opens a [`Source`], and the stores are brought along. Its parts:
//!
//! * **Dedup** by producer and sequence: what was taken before is a duplicate when it comes again.
//! * **Admission** by how full the event's lane is ([`backpressure`](crate::backpressure)).
//! * **Lanes**: critical and high priority in one, medium in the second, low and batch in the third. Events of one producer,
//!   topic and lane keep their order. Across lanes they don't.
//! * **Workers** publish each event on its topic, where the tools for topics see it, and give it to [handlers](Handler).
//! * **Stores**: a [`DurableLog`] for events whose producers ask for that, and [`DeadLetters`] for those that failed.
//!
//! What is refused is answered and counted: [`Engine::stats`].
//!
//! ```
//! use conduit::engine::{Engine, Event, Failure, Origin};
//! use conduit::frame::{self, Priority};
//! use std::sync::mpsc;
//!
//! let (tell, told) = mpsc::channel();
//! let engine = Engine::options()
//!     .domain(&format!("doc-engine-{}", std::process::id()))
//!     .handler("alarms/*", move |event: &Event<'_>| tell.send(event.payload.to_vec()).map_err(Failure::reject))
//!     .start()?;
//! let mut source = engine.source(Origin::Local).open();
//! source.submit(&frame::Event { topic: b"alarms/door", payload: b"open", priority: Priority::Critical, ..Default::default() });
//! assert_eq!(told.recv()?, b"open");
//! engine.stop(std::time::Duration::from_secs(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod committer;
mod counter;
mod dispatch;
mod event;
mod handler;
mod histogram;
mod keeper;
mod lanes;
mod options;
mod shared;
mod source;
mod stats;
mod stores;
mod topics;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use batch::Batch;
#[cfg(feature = "net")]
pub(crate) use batch::Entries;
pub use counter::Counter;
pub use event::{Event, Origin};
pub use handler::{Failure, Handler};
pub use histogram::{Histogram, Snapshot};
pub use options::{EngineOptions, STATES, StartError};
#[cfg(feature = "net")]
pub(crate) use source::Turn;
pub use source::{Progress, Source, SourceOptions, WhenFull};
pub use stats::{DropReason, LaneStats, Stats};
pub use stores::{DeadLetter, DeadLetters, DeadReason, DurableLog, StoreError};
pub use topics::TopicLimits;
pub use worker::Retries;

use crate::backpressure::Thresholds;
use crate::dedup::ProducerId;
use crate::frame::Durability;
use crate::lanes::Lane;
use crate::std::futex::now;
use shared::Shared;

/// An engine that runs. Dropped, it stops as [`stop`](Engine::stop) does, with a patience of 5 s.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    durability: Durability,
    credit: u32,
    threads: Mutex<Threads>,
    stop_handers: Arc<AtomicBool>,
    stop_workers: Arc<AtomicBool>,
    stop_stores: Arc<AtomicBool>,
}

/// In the order in which they are stopped, so that each finds what those before had.
#[derive(Debug, Default)]
struct Threads {
    handers: Vec<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    stores: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Options to start with.
    pub fn options() -> EngineOptions {
        EngineOptions::new()
    }

    /// How many bytes the events in it may keep.
    #[cfg(feature = "net")]
    pub(crate) fn memory_limit(&self) -> usize {
        self.shared.memory_limit
    }

    /// Has somebody keep `now` bytes for events to come, and no more `before`; `held` is how much of each waits for others.
    #[cfg(feature = "net")]
    pub(crate) fn recharge(&self, [before, now]: [usize; 2], held: [usize; 2]) {
        self.shared.memory.recharge([before, now], held);
        if now - held[1] < before - held[0] {
            self.shared.relieve_if_pressed(&Lane::ALL);
        }
    }

    /// What events survive that are answered as durable.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The newest sequence of a producer that was taken; 0 if none was.
    pub fn newest(&self, producer: &ProducerId) -> u64 {
        self.shared.dispatch().taken.newest(producer)
    }

    /// Has `hook` called, by a thread of the engine, when there may be room again for sources that are [held](Progress::Held).
    pub fn on_room(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// Sets where the states of all lanes begin.
    ///
    /// # Errors
    ///
    /// They are not [sound](Thresholds::are_sound): nothing is changed.
    pub fn set_thresholds(&self, thresholds: Thresholds) -> Result<(), Thresholds> {
        let mut dispatch = self.shared.dispatch();
        Lane::ALL.into_iter().try_for_each(|lane| dispatch.lanes.set_thresholds(lane, thresholds))
    }

    /// What it has done so far, and how it is now.
    pub fn stats(&self) -> Stats {
        let (states, depths, counts, topics, producers, producers_evicted) = self.shared.with_dispatch(|dispatch| {
            dispatch.look_at_states(&self.shared);
            let depths = Lane::ALL.map(|lane| dispatch.lanes.depth(lane));
            let (topics, producers) = (dispatch.topics.len(), dispatch.taken.len());
            (dispatch.states, depths, dispatch.counts.clone(), topics, producers, dispatch.taken.evicted())
        });
        let workers = &self.shared.workers;
        let sum = |of: &dyn Fn(&stats::WorkerCounts) -> u64| workers.iter().map(|counts| of(counts)).sum::<u64>();
        let lanes = Lane::ALL.map(|lane| {
            let lane = lane as usize;
            let none = Snapshot::default();
            let latency = workers.iter().fold(none, |all, counts| all.and(&counts.latency[lane].snapshot()));
            LaneStats {
                depth: depths[lane],
                capacity: self.shared.capacities[lane],
                state: states[lane],
                state_changes: self.shared.state_changes[lane].load(Ordering::Relaxed),
                processed: sum(&|counts| counts.processed[lane].get()),
                late: sum(&|counts| counts.late[lane].get()),
                latency,
            }
        });
        Stats {
            received: counts.received,
            accepted: counts.accepted,
            throttled: counts.throttled,
            dropped: counts.dropped,
            dead_lettered: counts.dead_lettered,
            duplicates: counts.duplicates,
            too_old: counts.too_old,
            bad_topic: counts.bad_topic,
            lanes,
            topics,
            producers,
            producers_evicted,
            memory: self.shared.memory.used(),
            handled: sum(&|counts| counts.handled.get()),
            retried: sum(&|counts| counts.retried.get()),
            panicked: sum(&|counts| counts.panicked.get()),
            failed: DeadReason::ALL.map(|reason| sum(&|counts| counts.dead_lettered[reason as usize].get())),
            failed_and_lost: sum(&|counts| counts.lost.get()),
            durability: self.durability,
            logged: self.shared.log_counts.kept.get(),
            commits: self.shared.log_counts.groups.get(),
            log_failures: self.shared.log_counts.failures.get(),
            log_lost: self.shared.log_counts.lost.get(),
            letters: self.shared.letter_counts.kept.get(),
            letter_failures: self.shared.letter_counts.failures.get(),
            letters_lost: self.shared.letter_counts.lost.get(),
        }
    }

    /// Stops: nothing more is taken, everything that was taken is processed, and the stores have what is theirs. A store that
    /// fails is waited for as long as `patience` says, and then left, with what it didn't take counted. Handlers are always
    /// waited for. Returns what it did.
    pub fn stop(self, patience: Duration) -> Stats {
        self.end(patience);
        self.stats()
    }

    pub(crate) fn end(&self, patience: Duration) {
        self.shared.dispatch().is_closed = true;
        self.shared.tell_of_room();
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        self.shared.end.store(now().saturating_add(patience), Ordering::Relaxed);
        let mut running = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Threads { handers, workers, stores } = &mut *running;
        let stages = [(&self.stop_handers, handers), (&self.stop_workers, workers), (&self.stop_stores, stores)];
        for (flag, threads) in stages {
            // With the Acquire of each thread's look at it: what was pushed before is seen by the last look at its queue.
            flag.store(true, Ordering::Release);
            for thread in threads.drain(..) {
                thread.thread().unpark();
                // What it panicked with was told when it did.
                let _ = thread.join();
            }
        }
        let mut dispatch = self.shared.dispatch();
        (dispatch.log, dispatch.letters) = (None, None);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end(Duration::from_secs(5));
    }
}
