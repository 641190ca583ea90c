//! A ring of bytes for records of any length, from one producer to one consumer.
//!
//! Records lie one behind the other, each in one piece, so they are written and read where they are: a grant lends the
//! bytes, and nothing is copied unless it is to be. A record that would not fit before the end of the ring begins at its
//! beginning. Full is an answer. Loads and stores only: it runs on targets without compare-and-swap, and either end may be
//! an interrupt handler.
//!
//! There is no index for the consumer to look at: each record has a word before it that says that it is there. So a record
//! that fits a cache line with its word comes over in one line, not in two.
//!
//! The ends are generic over [`Memory`], so that the same code carries records within a program ([`Ring`]) and between two,
//! of 32 and 64 bits. They trust the other end with nothing but bytes: what it stores is looked at once and checked before it
//! becomes a place or a length. Against an end that may write while it must not, use the calls that copy
//! ([`Producer::push`], [`Consumer::pop`]): they touch the ring only by atomic words.

use super::atomic::{CachePadded, Native, Ordering, Word, native};
#[cfg(loom)]
use super::cells::Guarded;
use super::cells::{array, const_fn, load_bytes, store_bytes};
use super::once::Once;

#[cfg(not(loom))]
mod grant;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(not(loom))]
pub use grant::{Record, WriteGrant};

/// The word before a record that is not there yet.
const NOTHING: u64 = 0;
/// The word where the ring is left unused up to its end.
const SKIP: u64 = 2;
/// Set in the word before a record; above it, the record's length.
const RECORD: u64 = 1;
/// The word that is a mark.
const MARK: u64 = 4;

/// Bytes of a cache line: what goes from core to core at a time, or half or twice that.
const LINE: usize = 64;
/// From here on it pays to store a record's first line last.
const SEVERAL_LINES: usize = 2 * LINE;

/// Where a ring keeps its records.
///
/// # Safety
///
/// Each call returns the same words, at least 8 and less than 2^28 of them, which stay where they are and are touched only
/// by the ring's ends. Those of the ring are zero when the first end is made, and `head` stays as it is until both are made.
/// The producer only loads `head`, and the consumer the ring, relaxed: either may be memory that it cannot write.
///
/// An end in another program that is not trusted may break that: it can make the other one read and write nothing but
/// these words, as long as only the calls that copy are used.
pub unsafe trait Memory {
    /// What the ring is made of.
    type Word: Word;

    /// The ring. A word is atomic while it stands before a record or is touched by a call that copies, otherwise plain bytes
    /// of whichever end it belongs to.
    fn words(&self) -> &[Self::Word];

    /// How many words the consumer has given back, modulo the word: stored by it (Release) when it is done with them, loaded by
    /// the producer (Acquire) before it uses them again.
    fn head(&self) -> &Self::Word;

    /// What fails the model when both ends are in a word at a time.
    #[cfg(loom)]
    fn guard(&self, word: usize) -> &Guarded<()>;
}

/// Memory whose ends can be trusted to keep to the protocol, so that records may be plain bytes to be read and written in place.
///
/// # Safety
///
/// Nobody touches the words but the ring's ends, and both of them are this crate's: within one program, or in programs that
/// trust each other.
pub unsafe trait TrustedMemory: Memory {}

/// A ring within one program, of `WORDS` native words of 8 or 4 bytes.
///
/// ```
/// use conduit::records::{ReadError, Ring};
///
/// static LOG: Ring<1024> = Ring::new();
///
/// let (mut producer, mut consumer) = LOG.split().expect("nobody else split it");
/// producer.push(b"a record").expect("there is room");
///
/// let mut grant = producer.grant(100).expect("there is room");
/// grant.copy_from_slice(&[7; 100]);
/// grant.commit(42); // as much as it has become
///
/// let record = consumer.read().expect("two are there");
/// assert_eq!(&*record, b"a record");
/// record.release();
/// let mut copy = [0; 100];
/// assert_eq!(consumer.pop(&mut copy), Ok(42));
/// assert_eq!(consumer.pop(&mut copy), Err(ReadError::Empty));
/// ```
pub struct Ring<const WORDS: usize> {
    head: CachePadded<Native>,
    words: CachePadded<[Native; WORDS]>,
    once: Once,
    #[cfg(loom)]
    guards: [Guarded<()>; WORDS],
}

impl<const WORDS: usize> Ring<WORDS> {
    const_fn! {
        /// An empty ring.
        pub fn new() -> Self {
            Self::starting_at(0)
        }
    }

    const_fn! {
        /// An empty ring that counts its words from `start`: for tests that want the count to wrap soon.
        pub fn starting_at(start: u64) -> Self {
            const { assert!(WORDS >= 8 && WORDS < 1 << 28, "a ring of records has 8 words, and less than 2^28") };
            Ring {
                head: CachePadded(native(start)),
                words: CachePadded(array![native(0); WORDS]),
                once: Once::new(),
                #[cfg(loom)]
                guards: array![Guarded::new(())],
            }
        }
    }

    /// The two ends. `None` if the ring was split before.
    pub fn split(&self) -> Option<(Producer<&Self>, Consumer<&Self>)> {
        // SAFETY: the words are the ring's own and touched by nothing else; it is split once, so these are its only ends.
        self.once.take().then(|| unsafe { (Producer::new(self), Consumer::new(self)) })
    }
}

/// Without the words, which may be lent.
impl<const WORDS: usize> ::core::fmt::Debug for Ring<WORDS> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.debug_struct("Ring").field("words", &WORDS).field("head", &self.head.0).finish_non_exhaustive()
    }
}

impl<const WORDS: usize> Default for Ring<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: words in one place, for the ring's ends alone, which are made together; the words are zero then, and as many as
// `starting_at` checks.
unsafe impl<const WORDS: usize> Memory for &Ring<WORDS> {
    type Word = Native;
    fn words(&self) -> &[Native] {
        &self.words.0
    }
    fn head(&self) -> &Native {
        &self.head
    }
    #[cfg(loom)]
    fn guard(&self, word: usize) -> &Guarded<()> {
        &self.guards[word]
    }
}

// SAFETY: `split` makes the only two ends.
unsafe impl<const WORDS: usize> TrustedMemory for &Ring<WORDS> {}

/// Why a record was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WriteError {
    /// There is no room until the consumer has taken some.
    Full,
    /// It is longer than any record of this ring may be.
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The longest.
        max: usize,
    },
    /// The other end gave back what it cannot have had. Never within one program.
    Corrupt,
}

impl ::core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self {
            WriteError::Full => f.write_str("no room is left until records are taken"),
            WriteError::TooLarge { len, max } => write!(f, "it has {len} bytes, and a record here has at most {max}"),
            WriteError::Corrupt => {
                f.write_str("the consumer gave back more than there was; the ring is of no more use")
            }
        }
    }
}

impl ::core::error::Error for WriteError {}

/// Why there is no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReadError {
    /// None is there yet.
    Empty,
    /// The next one has so many bytes, more than there is room for. It stays where it is.
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Here stands a [mark](Producer::mark), and stays until it is [skipped](Consumer::skip).
    Mark,
    /// The other end stored what is no record. Never within one program.
    Corrupt,
}

impl ::core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self {
            ReadError::Empty => f.write_str("no record is there yet"),
            ReadError::TooLong { len } => write!(f, "the next record has {len} bytes, more than there is room for"),
            ReadError::Mark => f.write_str("a mark stands before the next record"),
            ReadError::Corrupt => f.write_str("the producer stored what is no record; the ring is of no more use"),
        }
    }
}

impl ::core::error::Error for ReadError {}

/// Stores a record so that the cache line which it begins in comes last: the consumer may be looking at the word before the record,
/// and take that line away each time; so it goes over once.
fn store_first_line_last<W: Word>(words: &[W], record: &[u8]) {
    let beside = LINE - (words.as_ptr().addr() % LINE);
    match (words.split_at_checked(beside / W::BYTES), record.split_at_checked(beside)) {
        (Some((first_words, last_words)), Some((first, last))) => {
            store_bytes(last_words, last);
            store_bytes(first_words, first);
        }
        _ => store_bytes(words, record),
    }
}

/// How many words a record of `len` bytes takes with the one before it.
#[inline(always)]
fn size<W: Word>(len: usize) -> usize {
    1 + len.div_ceil(W::BYTES)
}

/// The word before a record of `len` bytes.
#[inline(always)]
fn word_of(len: usize) -> u64 {
    (len as u64) << 1 | RECORD
}

/// The longest record of a ring of so many words. It fits an empty ring wherever that is empty.
fn max_len<W: Word>(words: usize) -> usize {
    (words / 2 - 1) * W::BYTES
}

/// The end that records go into.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    /// How many words were ever used, modulo 2^64.
    tail: u64,
    /// The word that stands before the next record; it holds `NOTHING`. Below the number of words.
    at: usize,
    /// `Memory::head` as last seen, and what it cannot be below.
    head: u64,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Words left unused up to the end of the ring, or 0.
    skipped: usize,
    /// The word before the record.
    at: usize,
}

impl<M: Memory> Producer<M> {
    /// The producer of a ring that nothing was put into yet.
    ///
    /// # Safety
    ///
    /// It is the only one.
    pub unsafe fn new(memory: M) -> Self {
        let head = memory.head().load(Ordering::Relaxed);
        Producer { memory, tail: head, at: 0, head }
    }

    /// Copies a record in, by atomic words.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: nothing was put in.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Result<(), WriteError> {
        let place = self.find(record.len())?;
        let end = place.at + size::<M::Word>(record.len());
        #[cfg(loom)]
        (place.at..end).for_each(|word| self.memory.guard(word).with_mut(|_| ()));
        // SAFETY: a place was found for the record, so it ends before the ring does.
        let words = unsafe { self.memory.words().get_unchecked(place.at + 1..end) };
        match record.len() {
            SEVERAL_LINES.. => store_first_line_last(words, record),
            _ => store_bytes(words, record),
        }
        // SAFETY: the place was found for as many bytes.
        unsafe { self.announce(place, record.len(), word_of(record.len())) };
        Ok(())
    }

    /// Puts in a mark: no record, but a place between two of them that the consumer is told of as [`ReadError::Mark`], such as
    /// for one that goes another way because it is too long.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: nothing was put in.
    pub fn mark(&mut self) -> Result<(), WriteError> {
        let place = self.find(0)?;
        #[cfg(loom)]
        self.memory.guard(place.at).with_mut(|_| ());
        // SAFETY: the place was found for no bytes.
        unsafe { self.announce(place, 0, MARK) };
        Ok(())
    }

    /// Ends the ring: what the consumer has not given back can be taken here, if it will not do so any more.
    ///
    /// # Errors
    ///
    /// [`WriteError::Corrupt`].
    pub fn take_back(mut self) -> Result<Remainder<M>, WriteError> {
        self.look()?;
        let words = self.memory.words().len();
        // Places count like the words used, but for where they began.
        let at = (self.at + words - self.used()) % words;
        Ok(Remainder(Consumer { memory: self.memory, head: self.head, at }))
    }

    /// The length of the longest record, in bytes: a little less than half of the ring.
    pub fn max_len(&self) -> usize {
        max_len::<M::Word>(self.memory.words().len())
    }

    /// Finds room for a record of `len` bytes, the word before it, and the one behind it.
    #[inline]
    fn find(&mut self, len: usize) -> Result<Place, WriteError> {
        let words = self.memory.words().len();
        let max = max_len::<M::Word>(words);
        if len > max {
            return Err(WriteError::TooLarge { len, max });
        }
        let size = size::<M::Word>(len);
        let to_end = words - self.at;
        let place = if size <= to_end { Place { skipped: 0, at: self.at } } else { Place { skipped: to_end, at: 0 } };
        let needed = place.skipped + size + 1;
        if words - self.used() < needed {
            self.look()?;
            if words - self.used() < needed {
                return Err(WriteError::Full);
            }
        }
        Ok(place)
    }

    /// How many words the consumer had not given back at the last look; no more than there are.
    #[inline(always)]
    fn used(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    /// Looks how far the consumer is.
    fn look(&mut self) -> Result<(), WriteError> {
        // Pairs with the consumer's Release store: it is done with the words.
        let head = M::Word::extend(self.memory.head().load_acquire(), self.head);
        if head.wrapping_sub(self.head) > self.used() as u64 {
            return Err(WriteError::Corrupt);
        }
        self.head = head;
        Ok(())
    }

    /// Says by `word` that a record of `len` bytes is there, or a mark.
    ///
    /// # Safety
    ///
    /// Its place was found for as many or more, since the last call.
    #[inline]
    unsafe fn announce(&mut self, place: Place, len: usize, word: u64) {
        let words = self.memory.words();
        let size = size::<M::Word>(len);
        let next = if place.at + size == words.len() { 0 } else { place.at + size };
        #[cfg(loom)]
        self.memory.guard(next).with_mut(|_| ());
        // SAFETY: a place that was found ends no later than the ring, `next` is 0 where it ends there, and `at` is below the
        // number of words.
        let (next_word, record_word, first_word) =
            unsafe { (words.get_unchecked(next), words.get_unchecked(place.at), words.get_unchecked(self.at)) };
        // Before the record, so that the consumer finds nothing behind it until there is something.
        next_word.store(NOTHING, Ordering::Relaxed);
        // Release: pairs with the consumer's Acquire load, so that it finds the record and what was stored before.
        if place.skipped == 0 {
            record_word.store(word, Ordering::Release);
        } else {
            record_word.store(word, Ordering::Relaxed);
            first_word.store(SKIP, Ordering::Release);
        }
        self.tail = self.tail.wrapping_add((place.skipped + size) as u64);
        self.at = next;
    }

    /// How many bytes there are room for, those before each record and what may be left unused at the end included.
    ///
    /// # Errors
    ///
    /// [`WriteError::Corrupt`].
    pub fn room(&mut self) -> Result<usize, WriteError> {
        self.look()?;
        Ok((self.memory.words().len() - self.used() - 1) * M::Word::BYTES)
    }
}

/// The end that records come out of.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    /// `Memory::head`, which nobody else stores.
    head: u64,
    /// The word that stands before the next record, below the number of words.
    at: usize,
}

/// A record that is there, and was checked.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// The word before it.
    at: usize,
    /// Its length in bytes, which ends before the ring does.
    len: usize,
    /// Words up to its end from where the last one ended.
    words: usize,
}

impl<M: Memory> Consumer<M> {
    /// The consumer of a ring that nothing was taken from yet.
    ///
    /// # Safety
    ///
    /// It is the only one.
    pub unsafe fn new(memory: M) -> Self {
        let head = memory.head().load(Ordering::Relaxed);
        Consumer { memory, head, at: 0 }
    }

    /// Takes the next record and copies it to the beginning of `into`, by atomic words; returns its length.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: nothing was taken.
    #[inline]
    pub fn pop(&mut self, into: &mut [u8]) -> Result<usize, ReadError> {
        let len = self.take(into)?;
        self.give_back();
        Ok(len)
    }

    /// As [`pop`](Consumer::pop), but the producer does not learn of it: its room stays used until it is
    /// [given back](Consumer::give_back), together with others'.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: nothing was taken.
    #[inline]
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, ReadError> {
        // SAFETY: `at` is below the number of words.
        let found = unsafe { self.find(self.at) }?;
        let Some(into) = into.get_mut(..found.len) else { return Err(ReadError::TooLong { len: found.len }) };
        #[cfg(loom)]
        (found.at..=found.at + into.len().div_ceil(M::Word::BYTES))
            .for_each(|word| self.memory.guard(word).with(|_| ()));
        let end = found.at + size::<M::Word>(into.len());
        // SAFETY: a record that was found ends before the ring does, and `into` is writable for its length.
        unsafe { load_bytes(self.memory.words().get_unchecked(found.at + 1..end), into.as_mut_ptr(), into.len()) };
        self.pass(found);
        Ok(found.len)
    }

    /// Gives back the room of all that was taken. Costs a store.
    #[inline]
    pub fn give_back(&mut self) {
        // Release: pairs with the producer's Acquire load, so that it uses the words after they were read.
        self.memory.head().store(self.head, Ordering::Release);
    }

    /// How many bytes of the ring are taken and not given back. More than the ring has: the other end has made a circle of it.
    pub fn held(&self) -> u64 {
        let given_back = M::Word::extend(self.memory.head().load(Ordering::Relaxed), self.head);
        self.head.wrapping_sub(given_back).wrapping_mul(M::Word::BYTES as u64)
    }

    /// Takes the next record without looking at it, such as one that is too long, or a mark; returns its length.
    ///
    /// # Errors
    ///
    /// [`ReadError`], but no [mark](ReadError::Mark).
    pub fn skip(&mut self) -> Result<usize, ReadError> {
        let len = self.pass_by()?;
        self.give_back();
        Ok(len)
    }

    /// As [`skip`](Consumer::skip), but the room stays used until it is [given back](Consumer::give_back).
    ///
    /// # Errors
    ///
    /// As [`skip`](Consumer::skip).
    pub fn pass_by(&mut self) -> Result<usize, ReadError> {
        // SAFETY: `at` is below the number of words.
        let found = match unsafe { self.find(self.at) } {
            Err(ReadError::Mark) => self.find_mark(),
            found => found?,
        };
        self.pass(found);
        Ok(found.len)
    }

    /// The length of the longest record, in bytes.
    pub fn max_len(&self) -> usize {
        max_len::<M::Word>(self.memory.words().len())
    }

    /// Looks for a record behind the word at `at`.
    ///
    /// # Safety
    ///
    /// `at` is below the number of words.
    #[inline]
    unsafe fn find(&self, at: usize) -> Result<Found, ReadError> {
        let words = self.memory.words();
        // SAFETY: says the caller, and a ring has 8 words.
        let (word, first) = unsafe { (words.get_unchecked(at), words.get_unchecked(0)) };
        // Pairs with the producer's Release store behind the record.
        let mut word = word.load_acquire();
        let mut found = Found { at, len: 0, words: 0 };
        if word == SKIP {
            found = Found { at: 0, len: 0, words: words.len() - at };
            word = first.load(Ordering::Relaxed);
            if word == NOTHING {
                return Err(ReadError::Corrupt);
            }
        }
        if word & RECORD == 0 {
            return Err(match word {
                NOTHING => ReadError::Empty,
                MARK => ReadError::Mark,
                _ => ReadError::Corrupt,
            });
        }
        let max = max_len::<M::Word>(words.len()) as u64;
        if word >> 1 > max {
            return Err(ReadError::Corrupt);
        }
        found.len = (word >> 1) as usize;
        let size = size::<M::Word>(found.len);
        found.words += size;
        if size > words.len() - found.at { Err(ReadError::Corrupt) } else { Ok(found) }
    }

    /// The mark that `find` has found.
    #[cold]
    fn find_mark(&self) -> Found {
        // What stands there is the other end's to change; either way it is a place within the ring.
        if self.memory.words()[self.at].load(Ordering::Relaxed) == SKIP {
            Found { at: 0, len: 0, words: self.memory.words().len() - self.at + 1 }
        } else {
            Found { at: self.at, len: 0, words: 1 }
        }
    }

    /// Where the record behind one that was found has its word: below the number of words.
    #[inline(always)]
    fn behind(&self, found: Found) -> usize {
        let end = found.at + size::<M::Word>(found.len);
        if end == self.memory.words().len() { 0 } else { end }
    }

    /// Goes on behind a record that was found.
    #[inline(always)]
    fn pass(&mut self, found: Found) {
        self.at = self.behind(found);
        self.head = self.head.wrapping_add(found.words as u64);
    }

    /// Gives back a record that was found, and all before it.
    #[inline]
    fn release(&mut self, found: Found) {
        self.pass(found);
        self.give_back();
    }
}

/// What the consumer of a ring did not give back, in the order in which it was put in.
#[derive(Debug)]
pub struct Remainder<M>(Consumer<M>);

impl<M: Memory> Remainder<M> {
    /// Copies the next record to the beginning of `into`; returns its length.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: nothing was taken. Corrupt, if the consumer gave back what was no record's end.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, ReadError> {
        self.0.take(into)
    }

    /// Goes on behind a record, or a mark.
    ///
    /// # Errors
    ///
    /// As [`Consumer::skip`].
    pub fn skip(&mut self) -> Result<usize, ReadError> {
        self.0.pass_by()
    }
}
