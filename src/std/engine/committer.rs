//! The thread that has the durable log: it commits what came while it committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::batch::Item;
use super::lanes::LOG;
use super::shared::Shared;
use super::stats::StoreCounts;
use super::stores::{DurableLog, StoreError};
use crate::ack::{Range, Status};
use crate::lanes::Lane;
use crate::spsc;

/// What the dispatcher gives to the log.
#[derive(Debug)]
pub(super) enum Entry {
    /// An event to be logged, and answered then.
    Event(Item),
    /// An event that was given before: it is only to be answered.
    Again(Item),
}

/// The dispatcher's end.
#[derive(Debug)]
pub(super) struct LogQueue {
    pub(super) queue: spsc::Producer<'static, Entry, LOG>,
}

impl LogQueue {
    pub(super) fn room(&mut self) -> usize {
        match LOG - self.queue.len_at_most() {
            0 => self.queue.room(),
            room => room,
        }
    }

    /// Gives it an entry, for which there is [room](LogQueue::room).
    pub(super) fn push(&mut self, entry: Entry) {
        let pushed = self.queue.push(entry);
        debug_assert!(pushed.is_ok(), "nobody else pushes, and there was room");
    }
}

/// How long a store that failed is left alone.
pub(super) const AFTER_FAILURE: Duration = Duration::from_millis(100);

pub(super) struct Committer {
    pub(super) queue: spsc::Consumer<'static, Entry, LOG>,
    pub(super) log: Box<dyn DurableLog>,
    pub(super) counts: Arc<StoreCounts>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) shared: Arc<Shared>,
}

impl Committer {
    /// Most events of a group.
    const GROUP: usize = 4096;

    pub(super) fn run(mut self) {
        let mut group = Vec::with_capacity(Self::GROUP);
        loop {
            // Read before the queue is: what was pushed before it was set is seen then.
            let is_last = self.stop.load(Ordering::Acquire);
            if self.queue.pop_batch(Self::GROUP, |entry| group.push(entry)) == 0 {
                if is_last {
                    return;
                }
                std::thread::park();
                continue;
            }
            if !self.commit(&group) {
                // Nobody was told that they are durable, so their producers will send them again.
                self.queue.pop_batch(usize::MAX, |entry| group.push(entry));
                tracing::error!(events = group.len(), "the durable log could not be written before the end");
                self.counts.lost.add(group.len() as u64);
                return;
            }
            self.answer(&group);
            Item::release_all(group.drain(..).map(|(Entry::Event(item) | Entry::Again(item))| item));
            self.shared.relieve_if_pressed(&Lane::ALL);
        }
    }

    /// Has a group survive, however long it takes; `false` if the engine stopped before.
    fn commit(&mut self, group: &[Entry]) -> bool {
        let mut events = 0;
        for entry in group {
            if let Entry::Event(item) = entry {
                let topic = self.shared.topics.get(item.topic);
                let event = item.event(&topic.name);
                while let Err(error) = self.log.append(&event) {
                    if !self.failed("take an event into", &error) {
                        return false;
                    }
                }
                events += 1;
            }
        }
        while let Err(error) = self.log.commit() {
            if !self.failed("commit", &error) {
                return false;
            }
        }
        self.counts.kept.add(events);
        self.counts.groups.add(1);
        true
    }

    /// Waits after a failure; `false` if it is no use any more.
    fn failed(&self, what: &str, error: &StoreError) -> bool {
        self.counts.failures.add(1);
        tracing::warn!(%error, "cannot {what} the durable log: it is tried again");
        std::thread::park_timeout(AFTER_FAILURE);
        !self.shared.is_past_the_end()
    }

    fn answer(&self, group: &[Entry]) {
        for Entry::Event(item) | Entry::Again(item) in group {
            let entry = &item.shared().entries()[item.entry as usize];
            let mut answer = Range::of(entry.sequence, Status::Durable);
            (answer.lane, answer.credit) = (Lane::of(entry.priority) as u8, item.shared().source.credit);
            item.shared().source.answer(answer);
        }
    }
}
