//! The threads that take events out of the lanes, publish them, and give them to handlers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

use super::batch::Item;
use super::handler::Failure;
use super::keeper::{Letter, LetterQueue};
use super::lanes::{Drain, HAND, LowerLanes, Realtime};
use super::shared::Shared;
use super::stats::WorkerCounts;
use super::stores::DeadReason;
use super::topics::Topic;
use crate::lanes::Lane;
use crate::spsc;
use crate::std::futex::now;

/// What becomes of events at which a handler [failed](Failure::Retry).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retries {
    /// How often a handler is given an event, at most. Default 4.
    pub attempts: u32,
    /// How long the first pause is. Each next one is twice as long. Default 10 ms.
    pub backoff: Duration,
    /// How long a pause is at most. Default 1 s.
    pub max_backoff: Duration,
    /// How many events may wait for their next try, for each worker. Default 1,024.
    pub waiting: usize,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { attempts: 4, backoff: Duration::from_millis(10), max_backoff: Duration::from_secs(1), waiting: 1024 }
    }
}

/// Where a worker's events come from.
#[derive(Debug)]
pub(super) enum Feed {
    Realtime(Realtime),
    Lower(LowerLanes),
    All(Box<Drain>),
    /// One of several workers of the lower lanes, and the thread that hands them over.
    Hand(spsc::Consumer<'static, Item, HAND>, Arc<Handing>),
}

impl Feed {
    /// How many events are taken at a time, at most: few where urgent ones may come meanwhile.
    fn limit(&self) -> usize {
        match self {
            Feed::Realtime(_) | Feed::All(_) => 64,
            Feed::Lower(_) | Feed::Hand(..) => 256,
        }
    }

    /// Which lanes they were in.
    fn lanes(&self) -> &'static [Lane] {
        match self {
            Feed::Realtime(_) => &Lane::ALL[..1],
            Feed::Lower(_) | Feed::Hand(..) => &Lane::ALL[1..],
            Feed::All(_) => &Lane::ALL,
        }
    }

    fn take(&mut self, items: &mut Vec<Item>) {
        let limit = self.limit();
        match self {
            Feed::Realtime(lane) => lane.pop_batch(limit, |item| items.push(item)),
            Feed::Lower(lanes) => lanes.pop_batch(limit, |_, item| items.push(item)),
            Feed::All(lanes) => lanes.pop_batch(limit, |_, item| items.push(item)),
            Feed::Hand(hand, handing) => {
                let taken = hand.pop_batch(limit, |item| items.push(item));
                handing.there_is_room();
                taken
            }
        };
    }
}

pub(super) struct Worker {
    // Before `shared`, which has the queues: it is dropped first.
    pub(super) feed: Feed,
    pub(super) letters: Option<LetterQueue>,
    pub(super) counts: Arc<WorkerCounts>,
    pub(super) retries: Retries,
    /// How long it looks for events before it sleeps, in nanoseconds.
    pub(super) poll: u64,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) waiting: BinaryHeap<Reverse<Waiting>>,
    pub(super) shared: Arc<Shared>,
}

/// An event that a handler is given again.
pub(super) struct Waiting {
    due: u64,
    item: Item,
    handler: usize,
    attempts: u32,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

impl Worker {
    pub(super) fn run(mut self) {
        let mut items = Vec::with_capacity(self.feed.limit());
        let mut idle_since = None;
        loop {
            // Read before the lanes are: what was pushed before it was set is seen then.
            let is_last = self.stop.load(Ordering::Acquire);
            self.feed.take(&mut items);
            let next = self.retry_those_due(is_last && items.is_empty());
            if !items.is_empty() {
                // There is room in the lane, however long these take.
                self.shared.relieve_if_pressed(self.feed.lanes());
                self.process(&mut items);
                self.shared.relieve_if_pressed(self.feed.lanes());
                idle_since = None;
                continue;
            }
            if is_last {
                return;
            }
            self.shared.relieve_if_pressed(self.feed.lanes());
            if self.poll > 0 && now() - *idle_since.get_or_insert_with(now) < self.poll {
                std::hint::spin_loop();
                continue;
            }
            match next {
                Some(due) => std::thread::park_timeout(Duration::from_nanos(due.saturating_sub(now()))),
                None => std::thread::park(),
            }
        }
    }

    fn process(&mut self, items: &mut Vec<Item>) {
        // Events of one topic together, so that they are published together. Those of the realtime lane come first as they did,
        // and those of one topic and lane keep their order.
        let key = |item: &Item| (lane_of(item) != Lane::Realtime, item.topic);
        if !items.is_sorted_by_key(key) {
            items.sort_by_key(key);
        }
        let shared = self.shared.clone();
        for run in items.chunk_by(|a, b| key(a) == key(b)) {
            self.process_run(shared.topics.get(run[0].topic), run);
        }
        Item::release_all(items.drain(..));
    }

    /// Counts events that begin to be processed now, and how long that took.
    fn measure(&self, run: &[Item]) {
        for together in run.chunk_by(|a, b| a.is_beside(b) && lane_of(a) == lane_of(b)) {
            let lane = lane_of(&together[0]) as usize;
            let (latency, count) = (now().saturating_sub(together[0].shared().read_at), together.len() as u64);
            self.counts.latency[lane].record_n(latency, count);
            self.counts.processed[lane].add(count);
            if latency > self.shared.targets[lane] {
                self.counts.late[lane].add(count);
            }
        }
    }

    /// Publishes events of a topic, and gives those to its handlers that are published.
    fn process_run(&mut self, topic: &Topic, mut run: &[Item]) {
        let is_handled = !topic.handlers.is_empty();
        if !is_handled {
            self.measure(run);
        }
        loop {
            let failed = self.shared.topics.publish(topic, run.iter().map(Item::payload)).err();
            let published = failed.as_ref().map_or(run.len(), |(done, _)| *done);
            for item in run[..published].iter().filter(|_| is_handled) {
                self.measure(std::slice::from_ref(item));
                for handler in 0..topic.handlers.len() {
                    self.handle(topic, item, handler, 1, false);
                }
            }
            let Some((_, error)) = failed else { return };
            let (unpublished, rest) = run[published..].split_at(1);
            if is_handled {
                self.measure(unpublished);
            }
            let reason = DeadReason::Unpublished;
            self.bury(Letter::failed(unpublished[0].another(), reason, 0, error.to_string()), reason);
            run = rest;
        }
    }

    /// Gives an event to a handler, for the `attempts`th time.
    fn handle(&mut self, topic: &Topic, item: &Item, handler: usize, attempts: u32, is_last: bool) {
        let event = item.event(&topic.name);
        // A handler that panicked may have broken what it shares with others, but nothing of the engine. What it says of a
        // failure is its code, too.
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let failed = topic.handlers[handler].handle(&event).err();
            failed.map(|failure| (matches!(failure, Failure::Retry(_)), failure.to_string()))
        }));
        let is_last = is_last || attempts >= self.retries.attempts;
        let (reason, detail) = match handled {
            Ok(None) => {
                self.counts.handled.add(1);
                return;
            }
            Ok(Some((true, _))) if !is_last && self.waiting.len() < self.retries.waiting => {
                let due = now().saturating_add(self.backoff(attempts));
                self.waiting.push(Reverse(Waiting { due, item: item.another(), handler, attempts }));
                return;
            }
            Ok(Some((true, text))) => {
                (if is_last { DeadReason::RetriesExhausted } else { DeadReason::RetriesFull }, text)
            }
            Ok(Some((false, text))) => (DeadReason::Rejected, text),
            Err(panic) => {
                self.counts.panicked.add(1);
                let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                (DeadReason::Panicked, text.unwrap_or_default())
            }
        };
        self.bury(Letter::failed(item.another(), reason, attempts, detail), reason);
    }

    fn backoff(&self, attempts: u32) -> u64 {
        let first = self.retries.backoff.as_nanos() as u64;
        let longest = self.retries.max_backoff.as_nanos() as u64;
        first.saturating_mul(1u64.checked_shl(attempts - 1).unwrap_or(u64::MAX)).min(longest)
    }

    /// Gives events whose pause is over to their handlers again, or all; returns when the next one's is.
    fn retry_those_due(&mut self, all: bool) -> Option<u64> {
        let shared = self.shared.clone();
        let limit = self.waiting.len();
        for _ in 0..limit {
            let Some(Reverse(first)) = self.waiting.peek() else { break };
            if !all && first.due > now() {
                break;
            }
            let Some(Reverse(Waiting { item, handler, attempts, .. })) = self.waiting.pop() else { break };
            self.counts.retried.add(1);
            // There is no next time if the engine stops.
            self.handle(shared.topics.get(item.topic), &item, handler, attempts + 1, all);
        }
        self.waiting.peek().map(|Reverse(first)| first.due)
    }

    fn bury(&self, letter: Letter, reason: DeadReason) {
        if self.letters.as_ref().is_some_and(|letters| letters.send(letter)) {
            self.counts.dead_lettered[reason as usize].add(1);
        } else {
            self.counts.lost.add(1);
        }
    }
}

fn lane_of(item: &Item) -> Lane {
    Lane::of(item.shared().entries()[item.entry as usize].priority)
}

/// Hands the events of the lower lanes to several workers, those of one topic always to the same.
pub(super) struct Hander {
    // Before `shared`, which has the queues: they are dropped first.
    pub(super) lanes: LowerLanes,
    pub(super) hands: Vec<(spsc::Producer<'static, Item, HAND>, Thread)>,
    pub(super) handing: Arc<Handing>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) shared: Arc<Shared>,
}

/// How a worker tells the one that hands over that it has room.
#[derive(Debug, Default)]
pub(super) struct Handing {
    /// Whether the thread that hands over sleeps until a worker has room. Set by it before it looks for room a last time,
    /// taken back by a worker behind having made some; a fence on both sides has one of them see the other.
    waits: AtomicBool,
    pub(super) thread: std::sync::OnceLock<Thread>,
}

impl Handing {
    fn there_is_room(&self) {
        fence(Ordering::SeqCst);
        if self.waits.load(Ordering::Relaxed) && self.waits.swap(false, Ordering::Relaxed) {
            self.thread.get().into_iter().for_each(Thread::unpark);
        }
    }
}

impl Hander {
    /// How many events may be set aside for a worker that is behind, before the others wait with it.
    const ASIDE: usize = 4096;

    pub(super) fn run(mut self) {
        let mut aside: Vec<VecDeque<Item>> = self.hands.iter().map(|_| VecDeque::new()).collect();
        loop {
            // Read before the lanes are: what was pushed before it was set is seen then.
            let is_last = self.stop.load(Ordering::Acquire);
            let workers = self.hands.len();
            let mut taken = 0;
            if aside.iter().all(|aside| aside.len() < Self::ASIDE) {
                taken = self.lanes.pop_batch(256, |_, item| aside[item.topic as usize % workers].push_back(item));
            }
            let handed = self.hand_over(&mut aside);
            self.shared.relieve_if_pressed(&Lane::ALL[1..]);
            if taken > 0 || handed > 0 {
                continue;
            }
            let is_empty = aside.iter().all(VecDeque::is_empty);
            // A worker that has panicked takes nothing any more.
            if is_last && is_empty || self.shared.is_broken.load(Ordering::Relaxed) {
                return;
            }
            if !is_empty {
                self.handing.waits.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                if self.hand_over(&mut aside) > 0 {
                    continue;
                }
            }
            std::thread::park();
        }
    }

    /// Hands over what there is room for; returns how much that was.
    fn hand_over(&mut self, aside: &mut [VecDeque<Item>]) -> usize {
        let mut handed = 0;
        for ((queue, thread), aside) in self.hands.iter_mut().zip(aside) {
            let room = queue.room().min(aside.len());
            if room > 0 {
                handed += queue.push_batch(aside.drain(..room));
                thread.unpark();
            }
        }
        handed
    }
}
