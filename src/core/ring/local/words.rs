//! A ring of small messages within one program.

use ::core::mem::MaybeUninit;

use super::super::{
    CachePadded, Control, Memory, Native, Plain, ReadError, Start, Tries, Word, WordMemory, WordReader, WordWriter,
};
use super::{check, in_program, unused_stamp};
use crate::core::atomic::native;
use crate::core::cells::WordCells;
use crate::core::once::Once;

/// `N` slots (a power of two) of `T`, up to 256 bytes or so each; one writer, any number of readers, oldest messages
/// overwritten. Runs on targets without compare-and-swap, and its writer may be an interrupt handler.
///
/// ```
/// use conduit::ring::{ReadError, Start, WordRing};
///
/// static SAMPLES: WordRing<[u32; 3], 8> = WordRing::new();
///
/// let (mut writer, readers) = SAMPLES.split().expect("nobody else split it");
/// let mut reader = readers.reader(Start::New);
/// writer.publish(&[1, 2, 3]);
/// let message = reader.read().unwrap();
/// assert_eq!((*message, message.sequence(), message.lagged()), ([1, 2, 3], 0, 0));
/// assert_eq!(reader.read().unwrap_err(), ReadError::Empty);
/// ```
///
/// Another number of slots than a power of two, or more than 2^28, is an error of the build:
///
/// ```compile_fail,E0080
/// let ring = conduit::ring::WordRing::<u64, 6>::new();
/// ```
///
/// # Limits
///
/// On 32-bit targets a reader that is stopped inside one `read` for exactly a multiple of 2^30 messages takes a torn
/// message for a whole one, and one that stays away for more than 2^29 messages miscounts its loss.
#[derive(Debug)]
pub struct WordRing<T: Plain, const N: usize> {
    control: Control<Native>,
    slots: [Slot<T>; N],
    once: Once,
}

#[repr(C)]
#[derive(Debug)]
struct Slot<T> {
    stamp: Native,
    payload: WordCells<T>,
}

impl<T: Plain, const N: usize> WordRing<T, N> {
    /// An empty ring.
    pub const fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty ring whose first message has this position and sequence number: for tests that want the counters to
    /// wrap soon.
    pub const fn starting_at(start: u64) -> Self {
        const { check(N, 0) };
        let mut slots = [const { Slot { stamp: native(0), payload: WordCells::new() } }; N];
        let mut index = 0;
        while start != 0 && index < N {
            slots[index].stamp = native(unused_stamp(start, N, index));
            index += 1;
        }
        WordRing { control: in_program!(native, start), slots, once: Once::new() }
    }

    /// The writer and the source of readers. `None` if the ring was split before.
    pub fn split(&self) -> Option<(WordRingWriter<'_, T, N>, WordRingReaders<'_, T, N>)> {
        self.once.take().then(|| {
            // SAFETY: `take` succeeds once, so this is the only writer.
            (WordRingWriter(unsafe { WordWriter::new(Slots(self)) }), WordRingReaders(self))
        })
    }
}

impl<T: Plain, const N: usize> Default for WordRing<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The ring as its readers and its writer see it: private, so that nobody else can reach the words.
#[derive(Debug)]
struct Slots<'a, T: Plain, const N: usize>(&'a WordRing<T, N>);

impl<T: Plain, const N: usize> Clone for Slots<'_, T, N> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Plain, const N: usize> Copy for Slots<'_, T, N> {}

// SAFETY: the words are fields of the ring, which stays where it is while it is borrowed; N is a power of two.
unsafe impl<T: Plain, const N: usize> Memory for Slots<'_, T, N> {
    type Word = Native;
    #[inline(always)]
    fn capacity(&self) -> usize {
        N
    }
    #[inline(always)]
    fn control(&self) -> &Control<Native> {
        &self.0.control
    }
    #[inline(always)]
    fn stamp(&self, index: usize) -> &Native {
        &self.0.slots[index & (N - 1)].stamp
    }
}

// SAFETY: as for Memory.
unsafe impl<T: Plain, const N: usize> WordMemory for Slots<'_, T, N> {
    #[inline(always)]
    fn words(&self, index: usize) -> &[Native] {
        self.0.slots[index & (N - 1)].payload.words()
    }
}

/// The one writer of a [`WordRing`].
#[derive(Debug)]
pub struct WordRingWriter<'a, T: Plain, const N: usize>(WordWriter<Slots<'a, T, N>>);

impl<T: Plain, const N: usize> WordRingWriter<'_, T, N> {
    /// Publishes a message and returns its sequence number. Wait-free.
    #[inline]
    pub fn publish(&mut self, message: &T) -> u64 {
        // A ring without members is never full.
        self.0.publish(bytes_of(message), 0).unwrap_or_default()
    }

    /// Publishes messages in order; readers that poll see each one at once, joiners count on the last.
    #[inline]
    pub fn publish_batch(&mut self, messages: &[T]) {
        self.0.publish_batch(&mut messages.iter().map(bytes_of), 0);
    }
}

/// Makes readers of a [`WordRing`].
#[derive(Debug)]
pub struct WordRingReaders<'a, T: Plain, const N: usize>(&'a WordRing<T, N>);

impl<T: Plain, const N: usize> Clone for WordRingReaders<'_, T, N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Plain, const N: usize> Copy for WordRingReaders<'_, T, N> {}

impl<'a, T: Plain, const N: usize> WordRingReaders<'a, T, N> {
    /// A new reader. There may be any number: the writer doesn't know of them.
    pub fn reader(&self, start: Start) -> WordRingReader<'a, T, N> {
        WordRingReader(WordReader::new(Slots(self.0), start))
    }
}

/// A reader of a [`WordRing`].
#[derive(Debug)]
pub struct WordRingReader<'a, T: Plain, const N: usize>(WordReader<Slots<'a, T, N>>);

impl<T: Plain, const N: usize> WordRingReader<'_, T, N> {
    /// The next message, copied out.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`] if there is none; [`ReadError::Lapped`] if the writer is faster than this call.
    #[inline]
    pub fn read(&mut self) -> Result<Received<T>, ReadError> {
        let mut message = MaybeUninit::<T>::uninit();
        // SAFETY: the target has room for a T.
        let meta = unsafe { self.0.read_raw(message.as_mut_ptr().cast(), size_of::<T>()) }?;
        // SAFETY: `read_raw` wrote all of T, as the slot is at least as long; T is valid for every bit pattern.
        Ok(Received::new(unsafe { message.assume_init() }, meta.sequence, meta.lost))
    }

    /// Calls `each` with up to `limit` messages; returns how many there were. Fewer if nothing more is published. Cheaper than
    /// one [`read`](WordRingReader::read) each.
    #[inline]
    pub fn read_batch(&mut self, limit: usize, mut each: impl FnMut(Received<T>)) -> usize {
        let mut tries = Tries::default();
        let mut count = 0;
        while count < limit {
            count += self.0.read_batch::<T>(limit - count, size_of::<T>(), |copy, meta| {
                // SAFETY: `read_batch` wrote all of T; T is valid for every bit pattern, and Copy.
                each(Received::new(unsafe { copy.assume_init() }, meta.sequence, meta.lost));
            });
            if count < limit {
                match self.0.find_out(&mut tries) {
                    Ok(()) => {}
                    Err(ReadError::Lapped(lost)) => {
                        self.0.tell_later(lost);
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        count
    }

    /// How many messages are published and not read yet.
    #[inline]
    pub fn lag(&self) -> u64 {
        self.0.lag()
    }
}

/// A message that was copied out of a [`WordRing`], or that a [`FrameRing`](super::super::FrameRing) lends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Received<T> {
    message: T,
    sequence: u64,
    lost: u64,
}

impl<T> Received<T> {
    pub(super) fn new(message: T, sequence: u64, lost: u64) -> Self {
        Received { message, sequence, lost }
    }

    /// The message's number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many messages were lost between the one before and this one.
    pub fn lagged(&self) -> u64 {
        self.lost
    }
}

impl<T> ::core::ops::Deref for Received<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.message
    }
}

#[inline(always)]
pub(super) fn bytes_of<T: Plain>(message: &T) -> &[u8] {
    // SAFETY: T is plain, so each of its bytes is initialised.
    unsafe { ::core::slice::from_raw_parts((&raw const *message).cast(), size_of::<T>()) }
}

// The protocol keeps sequences of 32-bit words exact only within a window; make sure the alias is what it says.
const _: () = assert!(<Native as Word>::BYTES == size_of::<Native>());
