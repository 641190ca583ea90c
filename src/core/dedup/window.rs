//! Which sequences of one producer were recorded.

/// Whether an event was seen before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "a duplicate is to be left out"]
pub enum Seen {
    /// It was not.
    New,
    /// It was.
    Duplicate,
    /// So far behind the producer's newest event that it is no longer known.
    TooOld,
}

/// How far behind the newest a sequence may be.
const REACH: u64 = 1024;
const WORDS: usize = REACH as usize / 64;

/// The newest sequence of a producer that was recorded, and which of the 1,023 before it were. 136 bytes; time plays no
/// part.
///
/// ```
/// use conduit::dedup::{Seen, Window};
///
/// let mut window = Window::new();
/// assert_eq!(window.look(2), Seen::New);
/// window.record(2);
/// assert_eq!((window.look(1), window.look(2)), (Seen::New, Seen::Duplicate));
/// window.record(5000);
/// assert_eq!((window.look(2), window.newest()), (Seen::TooOld, 5000));
/// ```
#[derive(Clone, Debug)]
pub struct Window {
    /// 0: none yet.
    newest: u64,
    /// Bit `s % 1024`: whether `s` was recorded, of the sequences from `newest` down to `newest - 1023`.
    recorded: [u64; WORDS],
}

impl Window {
    /// Nothing recorded.
    pub const fn new() -> Self {
        Window { newest: 0, recorded: [0; WORDS] }
    }

    /// Whether `sequence` was recorded. Sequence 0 is none, and always new.
    #[inline]
    pub fn look(&self, sequence: u64) -> Seen {
        let (word, bit) = place(sequence);
        if sequence > self.newest || sequence == 0 {
            Seen::New
        } else if self.newest - sequence >= REACH {
            Seen::TooOld
        } else if self.recorded[word] & bit != 0 {
            Seen::Duplicate
        } else {
            Seen::New
        }
    }

    /// Records `sequence`. One that is too old, and 0, change nothing.
    #[inline]
    pub fn record(&mut self, sequence: u64) {
        if sequence > self.newest {
            self.forget(sequence - self.newest);
            self.newest = sequence;
        } else if self.newest - sequence >= REACH || sequence == 0 {
            return;
        }
        let (word, bit) = place(sequence);
        self.recorded[word] |= bit;
    }

    /// Makes room for the `count` sequences behind the newest.
    fn forget(&mut self, count: u64) {
        if count >= REACH {
            self.recorded = [0; WORDS];
            return;
        }
        let (mut at, mut left) = (self.newest + 1, count);
        while left > 0 {
            let within = at % 64;
            let here = left.min(64 - within);
            self.recorded[place(at).0] &= !(u64::MAX >> (64 - here) << within);
            // Wraps behind the last sequence there is.
            (at, left) = (at.wrapping_add(here), left - here);
        }
    }

    /// The newest sequence that was recorded; 0 if there is none. What a producer is told when it comes back.
    pub const fn newest(&self) -> u64 {
        self.newest
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

/// The word and the bit of a sequence.
#[inline(always)]
fn place(sequence: u64) -> (usize, u64) {
    ((sequence / 64) as usize % WORDS, 1 << (sequence % 64))
}
