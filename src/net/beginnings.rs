//! Memory for frames that have not come whole. It is the engine's; of what it has, a share is given out for them, in turn: so each
//! that has got its part can become whole, whoever else waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::line::Line;
use super::tcp::News;
use crate::engine::Engine;

/// Up to so many bytes nobody waits for: it is what each connection may have.
const FEW: usize = 4096;

/// What is given out of the share, and who waits.
#[derive(Debug)]
pub(super) struct Beginnings {
    share: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    given: usize,
    line: Line,
}

impl Beginnings {
    pub(super) fn new(share: usize) -> Self {
        Beginnings { share, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a frame that a connection keeps.
pub(super) struct Beginning {
    all: Arc<Beginnings>,
    engine: Arc<Engine>,
    /// Told when it is worth another try.
    news: Arc<News>,
    /// Of the engine's memory.
    charged: usize,
    /// Of that, what nobody has to wait for: it is no more than a read of each connection.
    held: usize,
    given: usize,
    waits: bool,
}

impl Beginning {
    pub(super) fn new(all: Arc<Beginnings>, engine: Arc<Engine>, news: Arc<News>) -> Self {
        Beginning { all, engine, news, charged: 0, held: 0, given: 0, waits: false }
    }

    /// Whether there is too little for the rest, which is not to be read before there is more.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Takes what `kept` bytes of a frame need, and what all of it will, `need`, if that is there.
    pub(super) fn keep(&mut self, kept: usize, need: usize) {
        let whole = kept.max(need);
        self.waits = whole > FEW && !self.is_given(whole);
        self.charge(if self.waits { kept } else { whole });
    }

    fn is_given(&mut self, whole: usize) -> bool {
        let mut state = self.all.state();
        // A frame that is larger than the share has all of it.
        let is_enough = state.given == 0 || state.given + whole <= self.all.share;
        if self.given == 0 && !(state.line.is_first(&self.news) && is_enough) {
            state.line.join(&self.news);
            return false;
        }
        state.given = state.given - self.given + whole;
        self.given = whole;
        state.line.leave(&self.news);
        true
    }

    /// Gives back what it has: the frame is whole, or will never be.
    pub(super) fn end(&mut self) {
        if self.waits || self.given > 0 {
            let mut state = self.all.state();
            state.given -= std::mem::take(&mut self.given);
            state.line.leave(&self.news);
            state.line.call();
            self.waits = false;
        }
        self.charge(0);
    }

    fn charge(&mut self, bytes: usize) {
        let held = if self.given > 0 { 0 } else { bytes };
        if (bytes, held) != (self.charged, self.held) {
            self.engine.recharge([self.charged, bytes], [self.held, held]);
            (self.charged, self.held) = (bytes, held);
        }
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.end();
    }
}
