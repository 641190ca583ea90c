//! How an engine is started.

use std::collections::BinaryHeap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

use super::committer::{Committer, LogQueue};
use super::dispatch::Dispatch;
use super::handler::Handler;
use super::keeper::{Keeper, LetterQueue};
use super::lanes::{LOWER, REALTIME, Storage};
use super::shared::Shared;
use super::stats::{DispatchCounts, WorkerCounts};
use super::stores::{DeadLetters, DurableLog, StoreError};
use super::topics::{TopicIndex, TopicLimits, Topics};
use super::worker::{Feed, Hander, Handing, Retries, Worker};
use super::{Engine, Threads};
use crate::Publisher;
use crate::backpressure::{State, Thresholds};
use crate::dedup::Producers;
use crate::frame::Durability;
use crate::lanes::Lane;
use crate::topic::{Pattern, Schema};

/// How to start an [`Engine`]: made by [`Engine::options`].
#[must_use = "options do nothing until `start`"]
pub struct EngineOptions {
    domain: Option<String>,
    topics: TopicLimits,
    handlers: Vec<(Pattern, Arc<dyn Handler>)>,
    workers: usize,
    cpus: Vec<usize>,
    confined: Vec<usize>,
    poll: Duration,
    retries: Retries,
    thresholds: Thresholds,
    targets: [Duration; 3],
    capacities: [usize; 3],
    memory: usize,
    hold: Duration,
    credit: u32,
    log: Option<Box<dyn DurableLog>>,
    letters: Option<Box<dyn DeadLetters>>,
}

impl std::fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineOptions")
            .field("workers", &self.workers)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An option has a value that cannot work.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// What the durable log holds cannot be read.
    #[error("cannot read the durable log: {0}")]
    Log(#[source] StoreError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl EngineOptions {
    pub(super) fn new() -> Self {
        EngineOptions {
            domain: None,
            topics: TopicLimits::default(),
            handlers: Vec::new(),
            workers: 2,
            cpus: Vec::new(),
            confined: Vec::new(),
            poll: Duration::ZERO,
            retries: Retries::default(),
            thresholds: Thresholds::default(),
            targets: [Duration::from_micros(100), Duration::from_millis(1), Duration::from_millis(10)],
            capacities: [REALTIME, LOWER, LOWER],
            memory: 256 << 20,
            hold: Duration::from_secs(1),
            credit: 1024,
            log: None,
            letters: None,
        }
    }

    /// The domain of the topics. Default: the environment's `CONDUIT_DOMAIN`, or the one without a name.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Which topics events may make, and what those are like.
    pub fn topics(mut self, limits: TopicLimits) -> Self {
        self.topics = limits;
        self
    }

    /// Gives the events of all topics that match `pattern` to `handler`, after they were published. Handlers get an event in the
    /// order in which they were added here.
    pub fn handler(mut self, pattern: &str, handler: impl Handler + 'static) -> Self {
        self.handlers.push((Pattern::new(pattern), Arc::new(handler)));
        self
    }

    /// How many workers there are. One has all lanes; of several the first has the realtime lane and nothing else, and the
    /// topics of the other lanes are shared out among the rest. Default 2.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Which processor each worker runs on, one after the other; beyond them, anywhere. Memory that a worker is the first to
    /// touch is near it then. Default: none.
    pub fn pin(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.cpus = cpus.into_iter().collect();
        self
    }

    /// Which processors workers run on that have none of their [own](EngineOptions::pin), such as those of a NUMA node. Default:
    /// any.
    pub fn confine(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.confined = cpus.into_iter().collect();
        self
    }

    /// How long a worker looks for events before it sleeps: it takes a processor meanwhile, and is not late for want of a
    /// wake-up. [`Duration::MAX`]: it never sleeps. Default: not at all.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// What becomes of events at which handlers fail.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// Where the states of lanes begin.
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// How long an event of a lane may take from being read to its processing; what takes longer is counted as late. Default
    /// 100 us, 1 ms and 10 ms.
    pub fn target(mut self, lane: Lane, target: Duration) -> Self {
        self.targets[lane as usize] = target;
        self
    }

    /// How many events may wait in a lane: up to 16,384 in the realtime lane and 65,536 in the others, which is the default.
    pub fn capacity(mut self, lane: Lane, events: usize) -> Self {
        self.capacities[lane as usize] = events;
        self
    }

    /// How many bytes the events in the engine may keep, and those that a server is reading. From three quarters on, only
    /// critical and high priority is taken. Default 256 MiB.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// How long a stream without answers is [held](super::Progress::Held), as its lane has no room, before its events of medium
    /// priority and lower become dead letters, so that urgent ones behind them get through. Default 1 s.
    pub fn hold(mut self, patience: Duration) -> Self {
        self.hold = patience;
        self
    }

    /// How many events a producer may have on their way, as answers say it: at most 1024, as far as duplicates are known.
    /// Default 1024.
    pub fn credit(mut self, events: u32) -> Self {
        self.credit = events;
        self
    }

    /// Where events are kept whose producers ask for that. Default: nowhere, and nobody is told that an event is durable.
    pub fn durable_log(mut self, log: impl DurableLog + 'static) -> Self {
        self.log = Some(Box::new(log));
        self
    }

    /// Where events are kept that could not be processed. Default: nowhere, they are dropped and counted.
    pub fn dead_letters(mut self, store: impl DeadLetters + 'static) -> Self {
        self.letters = Some(Box::new(store));
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    ///
    /// [`StartError`]: nothing runs then.
    pub fn start(mut self) -> Result<Engine, StartError> {
        self.check()?;
        let mut taken = boxed_producers();
        let mut logged = boxed_producers();
        let durability = self.log.as_ref().map_or(Durability::None, |log| log.durability());
        if let Some(log) = &mut self.log {
            let mut seen = |producer: &_, sequence| {
                taken.record(producer, sequence);
                logged.record(producer, sequence);
            };
            log.recover(&mut seen).map_err(StartError::Log)?;
        }
        let hands = self.workers.saturating_sub(2);
        let hands = if hands > 0 { hands + 1 } else { 0 };
        // SAFETY: the ends are here, below this, in `Dispatch`, a field of `Shared` before the storage, and in threads, each with
        // an `Arc` of that `Shared` behind the ends that it has.
        let storage = Arc::new(unsafe { Storage::new(hands) });
        let queues = storage.queues();
        let (mut dispatcher, drain) = queues.lanes.split().expect("split once");
        let (to_log, from_log) = queues.log.split().expect("split once");
        let (to_letters, from_letters) = queues.letters.split().expect("split once");
        for lane in Lane::ALL {
            dispatcher.set_thresholds(lane, self.thresholds).expect("they were checked");
            dispatcher.set_capacity(lane, self.capacities[lane as usize]);
        }
        let topics =
            Arc::new(Topics::new(self.domain.clone(), self.topics.clone(), std::mem::take(&mut self.handlers)));
        let counts: Vec<_> = (0..self.workers).map(|_| Arc::new(WorkerCounts::default())).collect();
        let shared = Arc::new(Shared {
            dispatch: Mutex::new(Dispatch {
                lanes: dispatcher,
                topics: TopicIndex::new(topics.clone()),
                taken,
                logged,
                log: self.log.is_some().then_some(LogQueue { queue: to_log }),
                letters: None,
                counts: DispatchCounts::default(),
                states: [State::Running; 3],
                untold: [None; 3],
                is_closed: false,
            }),
            made: Condvar::new(),
            sleepers: Default::default(),
            memory: Arc::default(),
            memory_limit: self.memory,
            is_broken: AtomicBool::new(false),
            hold: u64::try_from(self.hold.as_nanos()).unwrap_or(u64::MAX),
            topics,
            targets: self.targets.map(|target| u64::try_from(target.as_nanos()).unwrap_or(u64::MAX)),
            capacities: self.capacities,
            is_pressed: AtomicBool::new(false),
            end: AtomicU64::new(u64::MAX),
            hooks: Mutex::default(),
            rooms: Mutex::default(),
            room: Condvar::new(),
            state_changes: Default::default(),
            states_topic: Mutex::new(self.states_topic()),
            workers: counts.clone(),
            log_counts: Arc::default(),
            letter_counts: Arc::default(),
            storage: storage.clone(),
        });
        let engine = Engine {
            shared: shared.clone(),
            durability,
            credit: self.credit,
            threads: Mutex::default(),
            stop_handers: Arc::default(),
            stop_workers: Arc::default(),
            stop_stores: Arc::default(),
        };
        let mut threads = engine.threads.lock().expect("nobody else has it yet");
        if let Some(log) = self.log.take() {
            let (counts, stop) = (shared.log_counts.clone(), engine.stop_stores.clone());
            let committer = Committer { queue: from_log, log, counts, stop, shared: shared.clone() };
            let thread = spawn("conduit-log", self.confined.clone(), &shared, move || committer.run())?;
            let _ = shared.sleepers.log.set(thread.thread().clone());
            threads.stores.push(thread);
        }
        let mut letters = None;
        if let Some(store) = self.letters.take() {
            let (counts, stop) = (shared.letter_counts.clone(), engine.stop_stores.clone());
            let is_full = Arc::new(AtomicBool::new(false));
            let keeper =
                Keeper { queue: from_letters, store, is_full: is_full.clone(), counts, stop, shared: shared.clone() };
            let thread = spawn("conduit-letters", self.confined.clone(), &shared, move || keeper.run())?;
            letters = Some(LetterQueue { queue: to_letters, is_full, thread: thread.thread().clone() });
            threads.stores.push(thread);
        }
        self.start_workers(&engine, &mut threads, drain, &letters, &counts)?;
        shared.dispatch().letters = letters;
        drop(threads);
        Ok(engine)
    }

    /// Whoever drops `engine` stops those that were started.
    fn start_workers(
        &self,
        engine: &Engine,
        threads: &mut Threads,
        drain: super::lanes::Drain,
        letters: &Option<LetterQueue>,
        counts: &[Arc<WorkerCounts>],
    ) -> Result<(), StartError> {
        let shared = engine.shared.clone();
        let stop = engine.stop_workers.clone();
        let worker = |number: usize, feed| {
            let worker = Worker {
                feed,
                letters: letters.clone(),
                counts: counts[number].clone(),
                retries: self.retries,
                poll: u64::try_from(self.poll.as_nanos()).unwrap_or(u64::MAX),
                stop: stop.clone(),
                waiting: BinaryHeap::new(),
                shared: shared.clone(),
            };
            let cpus = self.cpus.get(number).map_or_else(|| self.confined.clone(), |&cpu| vec![cpu]);
            spawn(&format!("conduit-work-{number}"), cpus, &shared, move || worker.run())
        };
        let of = &shared.sleepers;
        if self.workers == 1 {
            let thread = worker(0, Feed::All(Box::new(drain)))?;
            let _ = of.realtime.set(thread.thread().clone());
            let _ = of.lower.set(thread.thread().clone());
            threads.workers.push(thread);
        } else {
            let (realtime, lower) = drain.into_parts();
            let thread = worker(0, Feed::Realtime(realtime))?;
            let _ = of.realtime.set(thread.thread().clone());
            threads.workers.push(thread);
            if self.workers == 2 {
                let thread = worker(1, Feed::Lower(lower))?;
                let _ = of.lower.set(thread.thread().clone());
                threads.workers.push(thread);
            } else {
                let handing = Arc::new(Handing::default());
                let mut hands = Vec::new();
                for (place, queue) in shared.storage.queues().hands.iter().enumerate() {
                    let (to_worker, from_hander) = queue.split().expect("split once");
                    let thread = worker(1 + place, Feed::Hand(from_hander, handing.clone()))?;
                    hands.push((to_worker, thread.thread().clone()));
                    threads.workers.push(thread);
                }
                let (own, stop) = (shared.clone(), engine.stop_handers.clone());
                let hander = Hander { lanes: lower, hands, handing: handing.clone(), stop, shared: own };
                let thread = spawn("conduit-hand", self.confined.clone(), &shared, move || hander.run())?;
                let _ = handing.thread.set(thread.thread().clone());
                let _ = of.lower.set(thread.thread().clone());
                // Joined before the workers that it hands to.
                threads.handers.push(thread);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), StartError> {
        let invalid = |option, reason: String| Err(StartError::InvalidOption { option, reason });
        if !(1..=64).contains(&self.workers) {
            return invalid("workers", format!("{}: an engine has 1 to 64", self.workers));
        }
        for (lane, most) in Lane::ALL.into_iter().zip([REALTIME, LOWER, LOWER]) {
            let events = self.capacities[lane as usize];
            if !(16..=most).contains(&events) {
                return invalid(
                    "capacity",
                    format!("{events} events in the {} lane: it has 16 to {most}", lane.name()),
                );
            }
        }
        if !self.thresholds.are_sound() {
            return invalid("thresholds", "they have to grow, up to 100, by more than the hysteresis".into());
        }
        if !(1..=1024).contains(&self.credit) {
            return invalid("credit", format!("{}: it is 1 to 1024", self.credit));
        }
        if self.topics.max == 0 || self.topics.depth == 0 || self.topics.max_len == 0 {
            return invalid("topics", "there is room for a topic, with a message, of a byte".into());
        }
        if self.retries.attempts == 0 {
            return invalid("retries", "a handler is given an event at least once".into());
        }
        if self.memory < 1 << 20 {
            return invalid("memory", format!("{} bytes: at least 1 MiB", self.memory));
        }
        Ok(())
    }

    fn states_topic(&self) -> Option<Publisher<[u8]>> {
        let schema = Schema { message_encoding: "json".into(), ..Schema::default() };
        let options = Publisher::<[u8]>::options().depth(64).max_len(256).latched(true).schema(schema);
        let options = match &self.domain {
            Some(domain) => options.domain(domain),
            None => options,
        };
        let opened = options.open(STATES);
        opened.inspect_err(|error| tracing::warn!(%error, "the states of the lanes are not published")).ok()
    }
}

/// The topic on which changes of the lanes' states are published, as JSON.
pub const STATES: &str = "conduit/lanes";

fn boxed_producers<const N: usize>() -> Box<Producers<N>> {
    // Too large for the stacks of some threads.
    let make = || Box::new(Producers::<N>::new(seed()));
    let thread = std::thread::Builder::new().stack_size(4 * size_of::<Producers<N>>() + (1 << 20)).spawn(make);
    thread.expect("a thread for a moment").join().expect("it only allocates")
}

/// Random, so that nobody can choose producers that are found slowly.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// Starts a thread of the engine. One that panics has the engine take nothing any more, as it would not be processed.
fn spawn(
    name: &str,
    allowed: Vec<usize>,
    shared: &Arc<Shared>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let (name, shared) = (name.to_string(), shared.clone());
    let builder = std::thread::Builder::new().name(name.clone());
    let run = move || {
        if !allowed.is_empty() {
            let mut cpus = CpuSet::new();
            allowed.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| cpus.set(cpu));
            if let Err(error) = sched_setaffinity(None, &cpus) {
                tracing::warn!(?allowed, %error, "a worker could not be pinned");
            }
        }
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            tracing::error!(thread = name, "a thread of the engine panicked: nothing more is taken");
            shared.is_broken.store(true, Ordering::Relaxed);
            shared.dispatch().is_closed = true;
            shared.tell_of_room();
            shared.sleepers.wake_all();
        }
    };
    builder.spawn(run).map_err(StartError::Thread)
}
