//! The latest value, and nothing else: one writer replaces it, any number of readers copy it out.
//!
//! A sensor's last reading, the state of a controller, a clock pair: what matters is the newest, and who looks late has
//! missed nothing. Where each message matters, use a [`ring`](crate::ring).
//!
//! Writing is wait-free and never looks at the readers. Reading writes nothing at all, so any number of readers share the
//! line. Loads and stores only: it runs on targets without compare-and-swap, and its writer may be an interrupt handler.
//!
//! Unlike the usual seqlock it copies the value as atomic words, so that a read which overlaps a write is a wrong guess
//! and not undefined behaviour (H.-J. Boehm, "Can seqlocks get along with programming language memory models?", 2012).

use ::core::mem::MaybeUninit;

use super::atomic::{Native, Ordering, Word, fence, settle};
use super::cells::{WordCells, const_fn, load_bytes, store_bytes};
use super::once::Once;
use super::plain::Plain;

/// How often [`Reader::read`] looks before it gives up. A writer would have to come between as often.
const TRIES: usize = if cfg!(loom) { 2 } else { 64 };

/// The latest value of type `T`.
///
/// ```
/// use conduit::seqlock::{ReadError, SeqLock};
///
/// static ATTITUDE: SeqLock<[f32; 4]> = SeqLock::new();
///
/// let (mut writer, reader) = ATTITUDE.split().expect("nobody else split it");
/// assert_eq!(reader.read(), Err(ReadError::Empty));
/// writer.write(&[1.0, 0.0, 0.0, 0.0]);
/// assert_eq!(reader.read(), Ok([1.0, 0.0, 0.0, 0.0]));
/// ```
///
/// # Limits
///
/// On 32-bit targets a reader that is stopped inside one look for exactly a multiple of 2^31 writes takes a torn value for
/// a whole one.
#[derive(Debug)]
pub struct SeqLock<T: Plain> {
    /// Twice the number of writes so far, and 1 more during a write. 0: nothing was ever written. Stored by the writer
    /// alone: odd (Relaxed, with a Release fence behind it) before it touches the value, even (Release) after it. Loaded by
    /// readers before the value (Acquire) and after it (Relaxed, with an Acquire fence before it).
    stamp: Native,
    /// Stored by the writer and loaded by readers, Relaxed.
    value: WordCells<T>,
    once: Once,
}

impl<T: Plain> SeqLock<T> {
    const_fn! {
        /// One that was never written.
        pub fn new() -> Self {
            SeqLock { stamp: super::atomic::native(0), value: WordCells::new(), once: Once::new() }
        }
    }

    const_fn! {
        /// One that counts its writes from `writes`, and above 0 reads as zeros until the first: for tests that want the count
        /// to wrap soon.
        pub fn starting_at(writes: u64) -> Self {
            SeqLock { stamp: super::atomic::native(writes.wrapping_mul(2)), value: WordCells::new(), once: Once::new() }
        }
    }

    /// As a [`Word`], whose values are `u64` whatever its width.
    #[inline(always)]
    fn stamp(&self) -> &impl Word {
        &self.stamp
    }

    /// The writer and a reader, which may be copied. `None` if it was split before.
    pub fn split(&self) -> Option<(Writer<'_, T>, Reader<'_, T>)> {
        self.once.take().then_some((Writer(self), Reader(self)))
    }
}

impl<T: Plain> Default for SeqLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The one that replaces the value.
#[derive(Debug)]
pub struct Writer<'a, T: Plain>(&'a SeqLock<T>);

impl<T: Plain> Writer<'_, T> {
    /// Replaces the value. Never waits, and costs the same for any number of readers.
    #[inline]
    pub fn write(&mut self, value: &T) {
        let stamp = self.0.stamp();
        // Relaxed: nobody else stores it.
        let before = stamp.load(Ordering::Relaxed);
        // A writer that does nothing else would have the value being written at nearly all times, and a line taken from it
        // would nearly always say so: for a moment, let readers have what was written before.
        settle();
        stamp.store(before.wrapping_add(1), Ordering::Relaxed);
        // Release: pairs with the Acquire fence of a reader that loads any of the words below; it then sees the odd stamp.
        fence(Ordering::Release);
        // SAFETY: a plain type has no padding, so each of its bytes is initialised.
        let bytes = unsafe { ::core::slice::from_raw_parts(::core::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) };
        store_bytes(self.0.value.words(), bytes);
        // 0 says that nothing was ever written.
        let after = match Native::truncate(before.wrapping_add(2)) {
            0 => 2,
            after => after,
        };
        // Release: pairs with the Acquire load of a reader that sees this stamp first.
        stamp.store(after, Ordering::Release);
    }
}

/// One that copies the value out.
#[derive(Debug)]
pub struct Reader<'a, T: Plain>(&'a SeqLock<T>);

impl<T: Plain> Clone for Reader<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Plain> Copy for Reader<'_, T> {}

impl<T: Plain> Reader<'_, T> {
    /// The latest value, in at most 64 looks.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`] if nothing was written yet; [`ReadError::Contended`] if each look overlapped a write.
    #[inline]
    pub fn read(&self) -> Result<T, ReadError> {
        for _ in 0..TRIES {
            match self.try_read() {
                Err(ReadError::Contended) => ::core::hint::spin_loop(),
                result => return result,
            }
        }
        Err(ReadError::Contended)
    }

    /// The latest value, in one look: what an interrupt handler calls that may have interrupted the writer.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`] if nothing was written yet; [`ReadError::Contended`] if the look overlapped a write.
    #[inline]
    pub fn try_read(&self) -> Result<T, ReadError> {
        let stamp = self.0.stamp();
        // Acquire: pairs with the Release store of the even stamp, so that the words are at least as new.
        let before = stamp.load_acquire();
        if before & 1 != 0 {
            return Err(ReadError::Contended);
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: room for a T.
        unsafe { load_bytes(self.0.value.words(), value.as_mut_ptr().cast(), size_of::<T>()) };
        // Acquire: if any word came from a later write, so does the stamp that is loaded next.
        fence(Ordering::Acquire);
        if stamp.load(Ordering::Relaxed) != before {
            return Err(ReadError::Contended);
        }
        if before == 0 {
            return Err(ReadError::Empty);
        }
        // SAFETY: each byte was loaded, and a plain type is valid for every bit pattern.
        Ok(unsafe { value.assume_init() })
    }

    /// How many writes were completed so far, modulo half the word's range: whoever remembers it knows whether there is
    /// something new.
    #[inline]
    pub fn writes(&self) -> u64 {
        self.0.stamp().load(Ordering::Relaxed) / 2
    }
}

/// Why there is no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReadError {
    /// Nothing was written yet.
    Empty,
    /// A write came between. The next look may succeed.
    Contended,
}

impl ::core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str(match self {
            ReadError::Empty => "nothing was written yet",
            ReadError::Contended => "a write came between: look again",
        })
    }
}

impl ::core::error::Error for ReadError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_latest_value_is_read_whole_by_all_as_often_as_they_like() {
        let lock = SeqLock::<[u8; 13]>::new();
        let (mut writer, reader) = lock.split().unwrap();
        assert!(lock.split().is_none());
        let other = reader;
        assert_eq!((reader.read(), reader.try_read()), (Err(ReadError::Empty), Err(ReadError::Empty)));
        for n in 1..=100 {
            writer.write(&[n; 13]);
            assert_eq!((reader.read(), other.try_read(), reader.writes()), (Ok([n; 13]), Ok([n; 13]), u64::from(n)));
            assert_eq!(reader.read(), Ok([n; 13]));
        }
    }

    #[test]
    fn a_look_during_a_write_is_contended_and_says_nothing() {
        let lock = SeqLock::<u64>::new();
        let (mut writer, reader) = lock.split().unwrap();
        writer.write(&7);
        lock.stamp().store(lock.stamp().load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        assert_eq!((reader.try_read(), reader.read()), (Err(ReadError::Contended), Err(ReadError::Contended)));
        assert_eq!(reader.writes(), 1);
    }

    #[test]
    fn the_count_of_writes_may_wrap() {
        let lock = SeqLock::<u32>::starting_at(u64::MAX / 2 - 1);
        let (mut writer, reader) = lock.split().unwrap();
        let mut before = reader.writes();
        for n in 0..5 {
            writer.write(&n);
            assert_eq!(reader.read(), Ok(n));
            assert_ne!(reader.writes(), before);
            before = reader.writes();
        }
    }
}
