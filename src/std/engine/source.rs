//! Where events come from: who hands them in, and learns what became of them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Engine;
use super::batch::{Batch, Handle};
use super::dispatch::Held;
use super::event::Origin;
use super::shared::Shared;
use crate::ack::Range;
use crate::dedup::ProducerId;
use crate::frame;
use crate::std::futex::{now, real_now};

/// One connection, or one thread of this program, from which events come.
///
/// A source is told at once what became of each event that asked for it, and later, by [`take_answers`](Source::take_answers),
/// when events are durable.
#[derive(Debug)]
pub struct Source {
    engine: Arc<Shared>,
    info: Arc<SourceInfo>,
    held: Option<Waiting>,
}

/// Events that were handed in and not all taken.
#[derive(Debug)]
struct Waiting {
    /// The batch, and those of its lanes that have one of their own.
    handles: [Option<Handle>; 4],
    /// Which event is next, of the first batch, and of each of the others.
    held: Held,
    since: u64,
    /// When an event of it was last taken.
    progress: u64,
}

impl Waiting {
    /// Whether what is not urgent has to give way: nothing of it was taken for too long, or something urgent waits behind it.
    fn gives_up(&self, now: u64) -> bool {
        let is_over = |since: u64| now >= since.saturating_add(Source::PATIENCE);
        let urgent_waits =
            || self.handles[0].as_ref().is_some_and(|all| all.shared().has_urgent_from(self.held.next()));
        is_over(self.progress) || is_over(self.since) && urgent_waits()
    }
}

/// What the engine knows of a source, as long as an event of it is there.
pub(super) struct SourceInfo {
    pub(super) origin: Origin,
    pub(super) producer: ProducerId,
    pub(super) when_full: WhenFull,
    answers: Mutex<Vec<Range>>,
    /// Called after an answer was added where there was none.
    notify: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for SourceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceInfo")
            .field("origin", &self.origin)
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}

/// What becomes of events whose lane has no room for them, and whose producer didn't ask to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// They, and all behind them, wait until there is room: for a stream, which is not read meanwhile.
    Hold,
    /// They are dropped and counted: for datagrams.
    Drop,
}

/// How far the engine got with a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "events may wait"]
pub enum Progress {
    /// Each event was taken or answered.
    Done,
    /// The rest waits until there is room: [`resume`](Source::resume) when the engine [says](Engine::on_room) that there may be
    /// some, and a second after it was handed in, when events of medium priority and lower become dead letters so that urgent
    /// ones behind them get through.
    Held,
}

impl SourceInfo {
    /// Adds an answer, by any thread.
    pub(super) fn answer(&self, range: Range) {
        let mut answers = self.answers();
        let was_empty = answers.is_empty();
        add(&mut answers, range);
        drop(answers);
        if was_empty {
            (self.notify)();
        }
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Range>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds an answer to those before, in as few ranges as can be.
#[inline]
pub(super) fn add(answers: &mut Vec<Range>, answer: Range) {
    if !answers.last_mut().is_some_and(|last| last.merge(&answer)) {
        answers.push(answer);
    }
}

/// How to make a [`Source`]: see [`Engine::source`].
#[must_use = "options do nothing until `open`"]
pub struct SourceOptions {
    engine: Arc<Shared>,
    info: SourceInfo,
}

impl fmt::Debug for SourceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

impl Engine {
    /// A source of events that come this way. Without a producer their sequences mean nothing to the engine, and nothing
    /// protects against duplicates.
    pub fn source(&self, origin: Origin) -> SourceOptions {
        let info = SourceInfo {
            origin,
            producer: [0; 16],
            when_full: WhenFull::Hold,
            answers: Mutex::default(),
            notify: Box::new(|| {}),
        };
        SourceOptions { engine: self.shared.clone(), info }
    }
}

impl SourceOptions {
    /// Who makes the events, across connections. All zeros: nobody says.
    pub fn producer(mut self, producer: ProducerId) -> Self {
        self.info.producer = producer;
        self
    }

    /// What becomes of events for which there is no room. Default: [`WhenFull::Hold`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.info.when_full = when_full;
        self
    }

    /// Has `notify` called, by a thread of the engine, when there are answers to [take](Source::take_answers).
    pub fn notify(mut self, notify: impl Fn() + Send + Sync + 'static) -> Self {
        self.info.notify = Box::new(notify);
        self
    }

    /// Makes the source.
    pub fn open(self) -> Source {
        Source { engine: self.engine, info: Arc::new(self.info), held: None }
    }
}

impl Source {
    /// An empty batch with room for so many bytes, out of those that the engine is done with.
    pub fn batch(&self, bytes: usize) -> Batch {
        self.engine.memory.batch(bytes)
    }

    /// Hands events in: all of the batch, which is empty afterwards. What became of those that asked for it is added to
    /// `answers`, in their order.
    ///
    /// # Panics
    ///
    /// What was handed in before is [held](Progress::Held).
    pub fn dispatch(&mut self, batch: &mut Batch, answers: &mut Vec<Range>) -> Progress {
        assert!(self.held.is_none(), "resume comes before more events");
        if batch.is_empty() {
            return Progress::Done;
        }
        let (read_at, received) = (now(), real_now());
        let handles = self.engine.share(batch, &self.info, read_at, received);
        self.held = Some(Waiting { handles, held: Held::default(), since: read_at, progress: read_at });
        self.resume(answers)
    }

    /// Goes on with what is held.
    pub fn resume(&mut self, answers: &mut Vec<Range>) -> Progress {
        let Some(waiting) = &mut self.held else { return Progress::Done };
        let gives_up = waiting.gives_up(now());
        let before = waiting.held.next();
        let mut dispatch = self.engine.dispatch();
        let done = dispatch.take(&self.engine, &self.info, &waiting.handles, &mut waiting.held, gives_up, answers);
        drop(dispatch);
        if !done {
            if waiting.held.next() > before {
                waiting.progress = now();
            }
            return Progress::Held;
        }
        self.held = None;
        Progress::Done
    }

    /// How long a source is held before what is not urgent gives way, in nanoseconds.
    const PATIENCE: u64 = 1_000_000_000;

    /// Hands in a copy of one event; returns what became of it, if it was asked for. Waits as long as it is held.
    pub fn submit(&mut self, event: &frame::Event<'_>) -> Option<Range> {
        let mut batch = Batch::with_capacity(event.topic.len() + event.payload.len());
        batch.push(event);
        let mut answers = Vec::new();
        let mut progress = self.dispatch(&mut batch, &mut answers);
        while progress == Progress::Held {
            self.engine.wait_for_room(Self::PATIENCE);
            progress = self.resume(&mut answers);
        }
        answers.pop()
    }

    /// The answers that came since the last call, moved into `answers`.
    pub fn take_answers(&self, answers: &mut Vec<Range>) {
        answers.append(&mut self.info.answers());
    }

    /// Who makes the events.
    pub fn producer(&self) -> &ProducerId {
        &self.info.producer
    }
}
