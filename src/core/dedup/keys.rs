//! Keys that any number of threads insert, each of which one of them is told is new.

use super::mix;
use crate::core::atomic::{AtomicU64, CachePadded, Ordering};
use crate::core::cells::{array, const_fn};
use crate::core::once::Once;

/// 2^64 divided by the golden ratio, made odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Words of a line that belong to one of two generations.
const HALF: usize = if cfg!(loom) { 2 } else { 4 };
/// How many lines a chain may reach over.
const REACH: usize = if cfg!(loom) { 2 } else { 32 };
/// How many times the generation advances while all lines are swept once.
const SWEEPS: usize = 16;

/// The generation's bits of a word, 1 to 63; 0 in a word that was never used.
const TAG: u64 = 63;
/// The bit of a word whose key was taken back.
const GONE: u64 = 64;
/// The bit of a word that nobody of its generation may use any more: by itself it ends a chain, with `GONE` it keeps a key that
/// was taken back away from its place.
const CLOSED: u64 = 128;
/// Bits of a word that are not the key's.
const KEY_SHIFT: u32 = 8;

/// Keys of 64 bits that were seen lately: `4 * LINES` for each of two generations, in `LINES` cache lines, a power of two.
///
/// A key is remembered from the call that inserts it until the generation has advanced twice since that call began, so for
/// between one and two of whatever time lies between two advances. Of all calls for the same key within that time exactly
/// one is told [`Insertion::New`], whatever the threads do. No call waits for another one: it begins again only when the
/// generation has advanced meanwhile.
///
/// Who was told so and can't take what the key stands for after all takes the key back by [`remove`](Keys::remove): of the calls
/// that follow again one is told that it is new.
///
/// ```
/// use conduit::dedup::{Insertion, KeySet, hash};
///
/// static SEEN: KeySet<1024> = KeySet::new(0x5EED);
///
/// let (keys, mut ager) = SEEN.split().expect("nobody else split it");
/// let id = hash(1, b"3f2b8c1e-9d0a-4f6e-8a47-1c5d7e9b2a60");
/// assert_eq!(keys.insert(id), Insertion::New);
/// assert_eq!(keys.insert(id), Insertion::Duplicate);
/// ager.advance(); // once a minute, say
/// assert_eq!(keys.insert(id), Insertion::Duplicate);
/// ager.advance();
/// assert_eq!(keys.insert(id), Insertion::New);
/// ```
///
/// # Limits
///
/// * A generation of more keys than `2 * LINES` makes calls slower; from about `3 * LINES` on some are
///   [refused](Insertion::Full).
/// * From 8,192 lines on no two keys are ever mistaken for each other. In a smaller set a new key is taken for another one
///   with a chance of less than 2^-48, as a word keeps 56 bits of a key and the place of the word not always says the rest.
/// * The seed decides where a key goes. Take a random one where keys come from outside, so that nobody can choose many that
///   all go to the same place.
/// * Nothing is promised of a call that is stopped while the generation advances 28 times.
#[derive(Debug)]
pub struct KeySet<const LINES: usize> {
    /// The present generation, as an [`Epoch`]. Stored by the ager, loaded by who inserts; Relaxed, as what those of two
    /// generations must know of each other they find in the words.
    epoch: CachePadded<AtomicU64>,
    /// How many insertions were refused. Raised by each, Relaxed.
    refused: CachePadded<AtomicU64>,
    /// Made of the seed, and odd: what keys are multiplied by before they are mixed.
    multiplier: u64,
    lines: [Line; LINES],
    once: Once,
}

/// The words of even generations and those of odd ones.
///
/// A key's *chain* in a generation is the words of its half, from the first of the key's home line on. A word is free for a
/// generation unless it carries its tag, so a generation begins with all words free and never frees one: those who insert
/// agree on the first that is free. A key that is taken back leaves its word to itself alone, so that it has one word of a
/// generation at most, and the same one when it comes again.
///
/// Each word is only ever exchanged by comparison: for a key (Release) by who inserts it into the present generation, at the
/// first free word or the key's own; for the same with `GONE` (Relaxed) by who takes it back; for one that is `CLOSED` (Release)
/// by who looked in vain for a key in the generation before, at the key's own word or else at the free one that ends its chain,
/// so that no call that is still of that generation can put it there afterwards; for 0 (Release) by the ager, where it carries a
/// tag so old that what was inserted by those who closed by it is forgotten, too. Loaded (Acquire) by who inserts: a word that
/// only who knows a later `epoch` may have written makes it known.
#[derive(Debug)]
#[repr(C, align(64))]
struct Line([[AtomicU64; HALF]; 2]);

/// Which generation it is: the tags of the two whose keys are remembered, each at the place of its half of the lines, and
/// which half is the present one's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl Epoch {
    const FIRST: Epoch = Epoch(1 | TAG << 8);

    /// The tag of the generation in a half.
    #[inline(always)]
    fn tag(self, half: usize) -> u64 {
        self.0 >> (8 * half) & TAG
    }

    /// The present generation's half.
    #[inline(always)]
    pub(super) fn half(self) -> usize {
        (self.0 >> 16) as usize
    }

    pub(super) fn now(self) -> u64 {
        self.tag(self.half())
    }

    fn next(self) -> Self {
        let next = if self.now() == TAG { 1 } else { self.now() + 1 };
        let half = self.half();
        Epoch((half as u64 ^ 1) << 16 | self.now() << (8 * half) | next << (8 * (half ^ 1)))
    }

    /// How many generations ago the tag of a word was the present one, of the last 63; more than 31 are taken for a later
    /// one than this. None for a word that was never used.
    fn age(self, word: u64) -> Option<u64> {
        match word & TAG {
            0 => None,
            tag => Some((self.now() + TAG - tag) % TAG),
        }
    }

    fn is_later(self, word: u64) -> bool {
        self.age(word).is_some_and(|age| age > TAG / 2)
    }
}

/// What became of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "a duplicate is to be left out"]
pub enum Insertion {
    /// It was not there, and is now.
    New,
    /// It was there.
    Duplicate,
    /// It was not there, and there is no room where it would have to go: it is not remembered. Counted.
    Full,
}

/// How a walk along a chain ends.
pub(super) enum Step {
    /// The key is there.
    Found,
    /// It was not, and is now, or can't be any more.
    Done,
    /// The chain is as long as it may be, and the key is not in it.
    Full,
    /// The generation is over.
    Over,
}

impl<const LINES: usize> KeySet<LINES> {
    const REACH: usize = if LINES < REACH { LINES } else { REACH };

    const_fn! {
        /// An empty set.
        pub fn new(seed: u64) -> Self {
            const { assert!(LINES.is_power_of_two(), "the number of lines is a power of two") };
            KeySet {
                epoch: CachePadded(AtomicU64::new(Epoch::FIRST.0)),
                refused: CachePadded(AtomicU64::new(0)),
                // Not of the seed as it is: that may be 0, of which `mix` makes 0.
                multiplier: mix(seed ^ GOLDEN) | 1,
                lines: array![Line([array![AtomicU64::new(0); HALF], array![AtomicU64::new(0); HALF]]); LINES],
                once: Once::new(),
            }
        }
    }

    /// The end that keys go into, which may be copied, and the one that lets them age. `None` if it was split before.
    pub fn split(&self) -> Option<(Keys<'_, LINES>, Ager<'_, LINES>)> {
        self.once.take().then_some((Keys(self), Ager { set: self, swept: 0 }))
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn line(&self, at: usize) -> &Line {
        // SAFETY: the number of lines is a power of two, so what is left is below it.
        unsafe { self.lines.get_unchecked(at & (LINES - 1)) }
    }

    /// Looks for a key in the generation before, and closes its chain there if it is not in it.
    #[inline(always)]
    pub(super) fn find_or_close(&self, key: u64, home: usize, epoch: Epoch) -> Step {
        let half = epoch.half() ^ 1;
        let tag = epoch.tag(half);
        let wanted = key << KEY_SHIFT | tag;
        for at in home..home + Self::REACH {
            for slot in &self.line(at).0[half] {
                let mut word = slot.load(Ordering::Acquire);
                loop {
                    if word & TAG == tag {
                        if word == wanted {
                            return Step::Found;
                        }
                        if is_of_another(word, wanted) {
                            break;
                        }
                        // The end of the chain, or the key's own word: somebody has closed it already.
                        if word & CLOSED != 0 {
                            return Step::Done;
                        }
                    } else if epoch.is_later(word) && self.epoch() != epoch {
                        return Step::Over;
                    }
                    let closed = CLOSED | if word == wanted | GONE { word } else { tag };
                    match slot.compare_exchange(word, closed, Ordering::Release, Ordering::Acquire) {
                        Ok(_) => return Step::Done,
                        Err(now) => word = now,
                    }
                }
            }
        }
        Step::Full
    }

    /// Looks for a key in the present generation, and inserts it if it is not there.
    #[inline(always)]
    pub(super) fn find_or_insert(&self, key: u64, home: usize, epoch: Epoch) -> Step {
        let tag = epoch.now();
        let wanted = key << KEY_SHIFT | tag;
        for at in home..home + Self::REACH {
            for slot in &self.line(at).0[epoch.half()] {
                let mut word = slot.load(Ordering::Acquire);
                loop {
                    // Closed, or used again: who did that knows a later generation, and so does who sees it.
                    let is_over = if word & TAG == tag {
                        if word == wanted {
                            return Step::Found;
                        }
                        if is_of_another(word, wanted) {
                            break;
                        }
                        word & CLOSED != 0
                    } else {
                        epoch.is_later(word)
                    };
                    if is_over && self.epoch() != epoch {
                        return Step::Over;
                    }
                    match slot.compare_exchange(word, wanted, Ordering::Release, Ordering::Acquire) {
                        Ok(_) => return Step::Done,
                        Err(now) => word = now,
                    }
                }
            }
        }
        Step::Full
    }

    /// Takes a key back from the generation of a half, if it is in it.
    pub(super) fn take_back(&self, wanted: u64, home: usize, half: usize) -> bool {
        for at in home..home + Self::REACH {
            for slot in &self.line(at).0[half] {
                // Relaxed: who inserted the key has seen that the words before it are those of others.
                let word = slot.load(Ordering::Relaxed);
                if word == wanted {
                    // Relaxed: who sees it learns nothing of a generation. Where it fails the key is gone already.
                    return slot.compare_exchange(wanted, wanted | GONE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
                }
                if !is_of_another(word, wanted) {
                    return false;
                }
            }
        }
        false
    }

    /// What is left to do where the key is not in its home line: a function of its own, which leaves the short one short.
    #[inline(never)]
    fn insert(&self, key: u64, home: usize, mut epoch: Epoch) -> Insertion {
        loop {
            match self.find_or_close(key, home, epoch) {
                Step::Found => return Insertion::Duplicate,
                // Where a chain is as long as it may be, nobody can put the key there any more either.
                Step::Done | Step::Full => match self.find_or_insert(key, home, epoch) {
                    Step::Done => return Insertion::New,
                    Step::Found => return Insertion::Duplicate,
                    Step::Over => {}
                    Step::Full => {
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        return Insertion::Full;
                    }
                },
                Step::Over => {}
            }
            epoch = self.epoch();
        }
    }
}

/// Whether a word of the same generation as `wanted`, a key's, is another key's, be that there or taken back.
#[inline(always)]
fn is_of_another(word: u64, wanted: u64) -> bool {
    let tag = wanted & TAG;
    word & TAG == tag && word != CLOSED | tag && (word ^ wanted) >> KEY_SHIFT != 0
}

impl Line {
    /// Whether the line has the key in one of the two generations. Any word of theirs with the key will do.
    #[inline(always)]
    fn has(&self, key: u64, epoch: Epoch) -> bool {
        // All of them without a branch, as which one it is cannot be foretold: the least difference. (Of ones and zeros the
        // compiler makes branches.)
        let [even, odd] = [0, 1].map(|half| {
            let wanted = key << KEY_SHIFT | epoch.tag(half);
            self.0[half].iter().map(|word| word.load(Ordering::Relaxed) ^ wanted).fold(u64::MAX, u64::min)
        });
        even.min(odd) == 0
    }
}

/// The end that keys go into.
#[derive(Debug)]
pub struct Keys<'a, const LINES: usize>(&'a KeySet<LINES>);

impl<const LINES: usize> Clone for Keys<'_, LINES> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<const LINES: usize> Copy for Keys<'_, LINES> {}

impl<const LINES: usize> Keys<'_, LINES> {
    /// Inserts a key, if it is not there.
    ///
    /// # Cost
    ///
    /// Of a duplicate: one cache line, nothing written. Of a new key: one exchange on the same line, and another one by the
    /// first that comes to a line in a generation.
    #[inline]
    pub fn insert(&self, key: u64) -> Insertion {
        let set = self.0;
        let (key, home) = self.find(key);
        let epoch = set.epoch();
        if set.line(home).has(key, epoch) { Insertion::Duplicate } else { set.insert(key, home, epoch) }
    }

    /// Whether a key is there. It may come, or be forgotten, before the answer is used.
    #[inline]
    pub fn contains(&self, key: u64) -> bool {
        let set = self.0;
        let (key, home) = self.find(key);
        let epoch = set.epoch();
        // The first that is not another key's is this one's, or there is no more behind it.
        let is_in = |half| {
            let wanted = key << KEY_SHIFT | epoch.tag(half);
            let words = (home..home + KeySet::<LINES>::REACH).flat_map(|at| &set.line(at).0[half]);
            words.map(|word| word.load(Ordering::Relaxed)).find(|&word| !is_of_another(word, wanted)) == Some(wanted)
        };
        set.line(home).has(key, epoch) || is_in(0) || is_in(1)
    }

    /// Takes a key back that this caller was told is [new](Insertion::New): what it stands for was refused, and may come again.
    /// Whether it was there. To be called once for each such answer, and before the generation has advanced twice since:
    /// afterwards the key may be another caller's.
    ///
    /// Who was told meanwhile that the key is a duplicate is not told otherwise.
    ///
    /// ```
    /// use conduit::dedup::{Insertion, KeySet};
    ///
    /// static SEEN: KeySet<1024> = KeySet::new(0x5EED);
    ///
    /// let (keys, _ager) = SEEN.split().expect("nobody else split it");
    /// assert_eq!(keys.insert(7), Insertion::New);
    /// // No lane had room for it.
    /// assert!(keys.remove(7));
    /// assert_eq!(keys.insert(7), Insertion::New, "it is sent again");
    /// ```
    ///
    /// # Cost
    ///
    /// One exchange, on the line where the key is. The key's word stays set aside for it as long as its generation lasts.
    pub fn remove(&self, key: u64) -> bool {
        let set = self.0;
        let (key, home) = self.find(key);
        let epoch = set.epoch();
        let remove_from = |half| set.take_back(key << KEY_SHIFT | epoch.tag(half), home, half);
        remove_from(epoch.half()) || remove_from(epoch.half() ^ 1)
    }

    /// How many keys of one generation there are words for; it is best to use half of them.
    pub const fn capacity(&self) -> usize {
        LINES * HALF
    }

    /// How many insertions were refused for want of room.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// How many keys are remembered, as far as can be told while others insert. Looks at every word.
    pub fn count(&self) -> usize {
        let epoch = self.0.epoch();
        let is_key = |word: &AtomicU64| {
            let tag = word.load(Ordering::Relaxed) & (TAG | GONE | CLOSED);
            tag == epoch.tag(0) || tag == epoch.tag(1)
        };
        self.0.lines.iter().flat_map(|line| line.0.iter().flatten()).filter(|word| is_key(word)).count()
    }

    /// A key with its bits mixed, and its home line: the first bits of that. Different keys stay different, and those that
    /// differ in few bits or by equal steps end up anywhere.
    #[inline(always)]
    pub(super) fn find(&self, key: u64) -> (u64, usize) {
        let product = key.wrapping_mul(self.0.multiplier);
        let key = (product ^ product >> 32).wrapping_mul(GOLDEN);
        (key, ((u128::from(key) * LINES as u128) >> 64) as usize)
    }
}

/// The end that lets keys age.
#[derive(Debug)]
pub struct Ager<'a, const LINES: usize> {
    set: &'a KeySet<LINES>,
    /// The line that is swept next, below `LINES`.
    swept: usize,
}

impl<const LINES: usize> Ager<'_, LINES> {
    /// Begins a new generation: what was inserted in the one before the present one is forgotten.
    ///
    /// # Cost
    ///
    /// One store, and a look at one of 16 lines, so that no word keeps its tag until that comes round again.
    pub fn advance(&mut self) {
        self.sweep();
        self.set.epoch.store(self.set.epoch().next().0, Ordering::Relaxed);
    }

    /// Clears the old words of some lines.
    pub(super) fn sweep(&mut self) {
        let epoch = self.set.epoch();
        for _ in 0..LINES.div_ceil(SWEEPS) {
            for slot in self.set.lines[self.swept].0.iter().flatten() {
                let word = slot.load(Ordering::Relaxed);
                // A word of two generations ago is free for this one, but it may keep somebody who is late by two from
                // inserting a key that was inserted in the generation between, and is remembered still.
                if epoch.age(word).is_some_and(|age| age > 2) {
                    // Release: pairs with the Acquire load of who is later still, who then knows the present generation.
                    // Where it fails, somebody has used the word.
                    let _ = slot.compare_exchange(word, 0, Ordering::Release, Ordering::Relaxed);
                }
            }
            self.swept = (self.swept + 1) & (LINES - 1);
        }
    }
}
