//! The thread that has the dead letter store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use super::batch::Item;
use super::committer::AFTER_FAILURE;
use super::lanes::LETTERS;
use super::shared::Shared;
use super::stats::StoreCounts;
use super::stores::{DeadLetter, DeadLetters, DeadReason};
use crate::lanes::Lane;
use crate::mpsc;

/// An event on its way to the dead letters.
#[derive(Debug)]
pub(super) struct Letter {
    item: Item,
    reason: DeadReason,
    attempts: u32,
    detail: Option<Box<str>>,
}

impl Letter {
    /// Of an event that no handler was given.
    pub(super) fn refused(item: Item, reason: DeadReason) -> Self {
        Letter { item, reason, attempts: 0, detail: None }
    }

    /// Of an event that a handler, or publishing, failed at.
    pub(super) fn failed(item: Item, reason: DeadReason, attempts: u32, detail: String) -> Self {
        Letter { item, reason, attempts, detail: Some(detail.into()) }
    }
}

/// The end that letters go into.
#[derive(Clone, Debug)]
pub(super) struct LetterQueue {
    pub(super) queue: mpsc::Producer<'static, Letter, LETTERS>,
    /// Whether the store has no more room. Written by its thread; who sends sees it soon enough, as the store takes a few more.
    pub(super) is_full: Arc<AtomicBool>,
    pub(super) thread: Thread,
}

impl LetterQueue {
    /// Sends a letter; `false` if there is no room for it.
    pub(super) fn send(&self, letter: Letter) -> bool {
        let sent = !self.is_full.load(Ordering::Relaxed) && self.queue.push(letter).is_ok();
        if sent {
            self.thread.unpark();
        }
        sent
    }
}

pub(super) struct Keeper {
    pub(super) queue: mpsc::Consumer<'static, Letter, LETTERS>,
    pub(super) store: Box<dyn DeadLetters>,
    pub(super) is_full: Arc<AtomicBool>,
    pub(super) counts: Arc<StoreCounts>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) shared: Arc<Shared>,
}

impl Keeper {
    /// How long letters are in memory before they are written, when no more come.
    const QUIET: Duration = Duration::from_millis(250);
    /// How often a full store is asked whether it has room again: letters become too old, or somebody clears them.
    const FULL: Duration = Duration::from_secs(1);

    pub(super) fn run(mut self) {
        let mut is_flushed = true;
        loop {
            // Read before the queue is: what was pushed before it was set is seen then.
            let is_last = self.stop.load(Ordering::Acquire);
            if let Some(letter) = self.queue.pop() {
                self.keep(&letter);
                drop(letter);
                self.shared.relieve_if_pressed(&Lane::ALL);
                is_flushed = false;
            } else if !is_flushed {
                if !is_last {
                    std::thread::park_timeout(Self::QUIET);
                    if !self.queue.is_empty() {
                        continue;
                    }
                }
                is_flushed = self.flush();
            } else if is_last {
                return;
            } else if self.is_full.load(Ordering::Relaxed) {
                std::thread::park_timeout(Self::FULL);
                self.look_for_room();
            } else {
                std::thread::park();
            }
        }
    }

    fn look_for_room(&mut self) {
        let is_full = !self.store.has_room();
        if self.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            tracing::warn!("the dead letter store {}", if is_full { "is full" } else { "has room again" });
        }
    }

    fn keep(&mut self, letter: &Letter) {
        let topic = self.shared.topics.get(letter.item.topic);
        let dead = DeadLetter {
            event: letter.item.event(&topic.name),
            reason: letter.reason,
            attempts: letter.attempts,
            detail: letter.detail.as_deref().unwrap_or_default(),
        };
        while let Err(error) = self.store.keep(&dead) {
            self.counts.failures.add(1);
            tracing::warn!(%error, "cannot keep a dead letter: it is tried again");
            if self.shared.is_past_the_end() {
                self.counts.lost.add(1);
                return;
            }
            std::thread::park_timeout(AFTER_FAILURE);
        }
        self.counts.kept.add(1);
        self.look_for_room();
    }

    fn flush(&mut self) -> bool {
        match self.store.flush() {
            Ok(()) => {
                self.counts.groups.add(1);
                true
            }
            Err(error) => {
                self.counts.failures.add(1);
                tracing::warn!(%error, "cannot write dead letters: it is tried again");
                std::thread::park_timeout(AFTER_FAILURE);
                self.shared.is_past_the_end()
            }
        }
    }
}
