//! The end that events come out of.

use super::Lane;
use crate::core::{mpsc, spsc};

/// How often each lane has its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Weights {
    /// So many realtime events may come in a row while others wait; then one of those has its turn. 0: any number, so that
    /// a realtime lane that is never empty keeps the others waiting for ever.
    pub realtime: u32,
    /// So many transactional events come in a row while batch events wait; at least 1.
    pub transactional: u32,
    /// So many batch events come in a row while transactional events wait; at least 1.
    pub batch: u32,
}

impl Default for Weights {
    /// 64, 8 and 1.
    fn default() -> Self {
        Weights { realtime: 64, transactional: 8, batch: 1 }
    }
}

impl Weights {
    /// Whether each of the lower lanes has a turn, and their two weights together are less than 2^32.
    pub const fn are_sound(&self) -> bool {
        self.transactional > 0 && self.batch > 0 && self.transactional.checked_add(self.batch).is_some()
    }
}

/// Takes events out of all three lanes.
///
/// The realtime lane is looked at before each event, so what is in it waits for at most one event of another lane, however
/// many of those there are. The batch lane has its turn, too: at least every 65 times 9 events, unless [told](Weights)
/// otherwise.
#[derive(Debug)]
pub struct Drain<'a, T, const R: usize, const M: usize, const B: usize> {
    realtime: spsc::Consumer<'a, T, R>,
    lower: LowerLanes<'a, T, M, B>,
    /// How many realtime events may come before another lane has its turn; 0: any number.
    row: u32,
    /// How many came.
    in_row: u32,
}

impl<'a, T, const R: usize, const M: usize, const B: usize> Drain<'a, T, R, M, B> {
    pub(super) fn new(realtime: spsc::Consumer<'a, T, R>, lower: LowerLanes<'a, T, M, B>) -> Self {
        Drain { realtime, lower, row: Weights::default().realtime, in_row: 0 }
    }

    /// Takes the event whose turn it is.
    #[inline]
    pub fn pop(&mut self) -> Option<(Lane, T)> {
        if self.row != 0 && self.in_row >= self.row {
            self.in_row = 0;
            if let Some(other) = self.lower.pop() {
                return Some(other);
            }
        }
        match self.realtime.pop() {
            Some(event) => {
                self.in_row = self.in_row.wrapping_add(1);
                Some((Lane::Realtime, event))
            }
            None => {
                self.in_row = 0;
                self.lower.pop()
            }
        }
    }

    /// Takes up to `limit` events, each when its turn has come; returns how many there were.
    #[inline]
    pub fn pop_batch(&mut self, limit: usize, mut each: impl FnMut(Lane, T)) -> usize {
        for taken in 0..limit {
            match self.pop() {
                Some((lane, event)) => each(lane, event),
                None => return taken,
            }
        }
        limit
    }

    /// Sets how often each lane has its turn.
    ///
    /// # Errors
    ///
    /// The weights are not [sound](Weights::are_sound): nothing is changed.
    pub fn set_weights(&mut self, weights: Weights) -> Result<(), Weights> {
        self.lower.set_weights(weights)?;
        self.row = weights.realtime;
        Ok(())
    }

    /// How many events wait in a lane.
    pub fn depth(&mut self, lane: Lane) -> usize {
        match lane {
            Lane::Realtime => self.realtime.len(),
            Lane::Transactional => self.lower.transactional.len(),
            Lane::Batch => self.lower.batch.len(),
        }
    }

    /// The realtime lane's end and that of the others, for a thread each: then nothing ever comes between realtime events.
    pub fn into_parts(self) -> (spsc::Consumer<'a, T, R>, LowerLanes<'a, T, M, B>) {
        (self.realtime, self.lower)
    }
}

/// Takes events out of the transactional and the batch lane, in turn by their weights.
#[derive(Debug)]
pub struct LowerLanes<'a, T, const M: usize, const B: usize> {
    transactional: mpsc::Consumer<'a, T, M>,
    batch: mpsc::Consumer<'a, T, B>,
    weights: Weights,
    /// The place in the round: below `weights.transactional`, the transactional lane's turn; then the batch lane's, below
    /// both weights together.
    turn: u32,
}

impl<'a, T, const M: usize, const B: usize> LowerLanes<'a, T, M, B> {
    pub(super) fn new(transactional: mpsc::Consumer<'a, T, M>, batch: mpsc::Consumer<'a, T, B>) -> Self {
        LowerLanes { transactional, batch, weights: Weights::default(), turn: 0 }
    }

    /// Takes the event whose turn it is.
    #[inline]
    pub fn pop(&mut self) -> Option<(Lane, T)> {
        let mut event = None;
        self.pop_batch(1, |lane, taken| event = Some((lane, taken)));
        event
    }

    /// Takes up to `limit` events, each when its turn has come; returns how many there were.
    #[inline]
    pub fn pop_batch(&mut self, limit: usize, mut each: impl FnMut(Lane, T)) -> usize {
        let Weights { transactional, batch, .. } = self.weights;
        let (mut taken, mut empty) = (0, 0);
        let round = transactional + batch;
        // A lane that has less than its turn gives the rest of it up.
        while taken < limit && empty < 2 {
            // Here and not below, as `each` may have panicked at the end of a round.
            if self.turn == round {
                self.turn = 0;
            }
            let (lane, end) = match self.turn < transactional {
                true => (Lane::Transactional, transactional),
                false => (Lane::Batch, round),
            };
            let most = (limit - taken).min((end - self.turn) as usize);
            let mut count = |event| {
                taken += 1;
                self.turn += 1;
                each(lane, event);
            };
            let came = match lane {
                Lane::Transactional => self.transactional.pop_batch(most, &mut count),
                _ => self.batch.pop_batch(most, &mut count),
            };
            empty = if came > 0 { 0 } else { empty + 1 };
            if came < most {
                self.turn = end;
            }
        }
        taken
    }

    /// Sets how often each lane has its turn; the realtime lane's weight means nothing here.
    ///
    /// # Errors
    ///
    /// The weights are not [sound](Weights::are_sound): nothing is changed.
    pub fn set_weights(&mut self, weights: Weights) -> Result<(), Weights> {
        if !weights.are_sound() {
            return Err(weights);
        }
        (self.weights, self.turn) = (weights, 0);
        Ok(())
    }

    /// How many events wait in a lane; the realtime lane is not known here.
    pub fn depth(&self, lane: Lane) -> Option<usize> {
        match lane {
            Lane::Realtime => None,
            Lane::Transactional => Some(self.transactional.len()),
            Lane::Batch => Some(self.batch.len()),
        }
    }
}
