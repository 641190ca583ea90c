//! Where events come from: who hands them in, and learns what became of them.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Engine;
#[cfg(doc)]
use super::EngineOptions;
use super::batch::{Batch, Handle};
use super::dispatch::{Held, Taken, Taking, Touched};
use super::event::Origin;
use super::shared::Shared;
use crate::ack::Range;
use crate::dedup::ProducerId;
use crate::frame;
#[cfg(feature = "net")]
use crate::frame::Priority;
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
    /// Who is to be woken for the events that were put into lanes.
    touched: Touched,
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
    /// Whether its memory is counted as held.
    is_held: bool,
}

impl Waiting {
    fn set_held(&mut self, held: bool) {
        if self.is_held != held {
            self.handles.iter().flatten().for_each(|handle| handle.set_held(held));
            self.is_held = held;
        }
    }

    /// Makes the topic of the next event.
    #[cold]
    fn make_topic(&self, engine: &Shared) {
        if let Some(handle) = &self.handles[0] {
            let (batch, next) = (handle.shared(), self.held.next());
            engine.make_topic(batch.topic(next), batch.entries()[next].encoding(), batch.read_at);
        }
    }

    /// Whether what is not urgent has to give way: nothing of it was taken for too long, or something urgent waits behind it.
    fn gives_up(&self, now: u64, patience: u64) -> bool {
        let is_over = |since: u64| now >= since.saturating_add(patience);
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
    /// How many events its producer may have on their way, as answers say it.
    pub(super) credit: u32,
    answers: Mutex<Vec<Range>>,
    /// Called after an answer was added where there was none, and after the source has become no more
    /// [ahead](Source::is_ahead).
    notify: Box<dyn Fn() + Send + Sync>,
    /// Bytes that its events in the engine keep. Added to by the source, taken from by whoever frees a batch; who brings it
    /// below [`SourceInfo::AHEAD`] notifies.
    under_way: AtomicUsize,
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
    /// some, and a second after it was handed in (or as [told](EngineOptions::hold)), when events of medium priority and lower
    /// become dead letters so that urgent ones behind them get through.
    Held,
}

/// How far the engine got with a batch in one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    Done,
    /// As [`Progress::Held`].
    Held,
    /// A topic was made: the rest is to be [gone on](Source::go_on) with when others had a turn.
    MadeTopic,
}

impl SourceInfo {
    /// How many bytes of events a stream has under way before it is not read on: more are no faster, as they fall out of the
    /// processor's caches before they are processed.
    const AHEAD: usize = 2 << 20;

    /// Its events keep so many bytes more.
    pub(super) fn charge(&self, bytes: usize) {
        self.under_way.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes are free again.
    pub(super) fn discharge(&self, bytes: usize) {
        let before = self.under_way.fetch_sub(bytes, Ordering::Relaxed);
        if before >= Self::AHEAD && before - bytes < Self::AHEAD {
            (self.notify)();
        }
    }

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
            credit: self.credit,
            answers: Mutex::default(),
            notify: Box::new(|| {}),
            under_way: AtomicUsize::new(0),
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

    /// How many events its producer may have on their way, as answers say it. Default: as the engine was
    /// [told](EngineOptions::credit).
    pub fn credit(mut self, events: u32) -> Self {
        self.info.credit = events;
        self
    }

    /// Has `notify` called, by a thread of the engine, when there are answers to [take](Source::take_answers).
    pub fn notify(mut self, notify: impl Fn() + Send + Sync + 'static) -> Self {
        self.info.notify = Box::new(notify);
        self
    }

    /// Makes the source.
    pub fn open(self) -> Source {
        Source { engine: self.engine, info: Arc::new(self.info), held: None, touched: Touched::default() }
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
    /// What was handed in before is [held](Progress::Held), or the buffer was cut after events in it were added.
    pub fn dispatch(&mut self, batch: &mut Batch, answers: &mut Vec<Range>) -> Progress {
        let turn = self.hand_in(batch, answers);
        self.finish(turn, answers)
    }

    /// Goes on with what is held.
    pub fn resume(&mut self, answers: &mut Vec<Range>) -> Progress {
        let turn = self.go_on(answers);
        self.finish(turn, answers)
    }

    fn finish(&mut self, mut turn: Turn, answers: &mut Vec<Range>) -> Progress {
        while turn == Turn::MadeTopic {
            turn = self.go_on(answers);
        }
        self.wake();
        if turn == Turn::Held { Progress::Held } else { Progress::Done }
    }

    /// [`dispatch`](Source::dispatch) that makes one topic at most, wakes the worker of the realtime lane, but leaves the others
    /// to [`wake`](Source::wake), so that answers are on their way before another thread wants the processor.
    pub(crate) fn hand_in(&mut self, batch: &mut Batch, answers: &mut Vec<Range>) -> Turn {
        assert!(self.held.is_none(), "resume comes before more events");
        if batch.is_empty() {
            return Turn::Done;
        }
        let (read_at, received) = (now(), real_now());
        let handles = self.engine.share(batch, &self.info, read_at, received);
        self.held = Some(Waiting { handles, held: Held::default(), since: read_at, progress: read_at, is_held: false });
        self.go_on(answers)
    }

    /// [`resume`](Source::resume), as [`hand_in`](Source::hand_in).
    pub(crate) fn go_on(&mut self, answers: &mut Vec<Range>) -> Turn {
        let Some(waiting) = &mut self.held else { return Turn::Done };
        let gives_up = waiting.gives_up(now(), self.engine.hold);
        let before = waiting.held.next();
        let taking = Taking {
            shared: &self.engine,
            info: &self.info,
            handles: &waiting.handles,
            held: &mut waiting.held,
            gives_up,
            touched: &mut self.touched,
            answers,
        };
        let taken = self.engine.with_dispatch(|dispatch| dispatch.take(taking));
        waiting.set_held(taken == Taken::Held);
        if taken == Taken::All {
            self.held = None;
            return Turn::Done;
        }
        if waiting.held.next() > before {
            waiting.progress = now();
        }
        if taken == Taken::TopicUnmade {
            let touched = std::mem::take(&mut self.touched);
            self.engine.sleepers.wake(&touched);
            waiting.make_topic(&self.engine);
            return Turn::MadeTopic;
        }
        Turn::Held
    }

    /// Wakes those who have something to do.
    pub(crate) fn wake(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_any() {
            self.engine.sleepers.wake(&touched);
        }
    }

    /// Takes back a batch that is not needed.
    #[cfg(feature = "net")]
    pub(crate) fn give_back(&self, batch: Batch) {
        self.engine.memory.recycle(batch);
    }

    /// Whether events of it are in the engine.
    #[cfg(feature = "net")]
    pub(crate) fn is_under_way(&self) -> bool {
        self.info.under_way.load(Ordering::Relaxed) > 0
    }

    /// When what is held is to be gone on with though nobody said that there is room, in nanoseconds from now.
    #[cfg(feature = "net")]
    pub(crate) fn hold(&self) -> u64 {
        self.engine.hold
    }

    /// The priority of the event that is held, and of none if none is.
    #[cfg(feature = "net")]
    pub(crate) fn held_for(&self) -> Option<Priority> {
        let waiting = self.held.as_ref()?;
        let all = waiting.handles[0].as_ref()?.shared().entries();
        all.get(waiting.held.next()).map(|entry| entry.priority)
    }

    /// Whether so many bytes of its events are under way that no more should be read. Its `notify` is called when that is over.
    #[cfg(feature = "net")]
    pub(crate) fn is_ahead(&self) -> bool {
        self.info.under_way.load(Ordering::Relaxed) >= SourceInfo::AHEAD
    }

    /// Hands in a copy of one event; returns what became of it, if it was asked for. Waits as long as it is held.
    pub fn submit(&mut self, event: &frame::Event<'_>) -> Option<Range> {
        let mut batch = Batch::with_capacity(event.topic.len() + event.payload.len());
        batch.push(event);
        let mut answers = Vec::new();
        let mut seen = self.engine.rooms();
        let mut progress = self.dispatch(&mut batch, &mut answers);
        while progress == Progress::Held {
            self.engine.wait_for_room(seen);
            seen = self.engine.rooms();
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

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(mut waiting) = self.held.take() {
            if let Some(handle) = &waiting.handles[0] {
                self.engine.dispatch().give_up(handle, &waiting.held);
            }
            waiting.set_held(false);
        }
        self.wake();
    }
}
