//! Records that are made, or read, where they are.

use ::core::ops::{Deref, DerefMut};
use ::core::slice;

use super::{Consumer, Found, Memory, Place, Producer, ReadError, TrustedMemory, WriteError, word_of};

/// Room for a record, to be filled in place. What it holds before is what an older record left there. Dropped, it puts
/// nothing in.
#[derive(Debug)]
#[must_use = "nothing is put in without `commit`"]
pub struct WriteGrant<'p, M: Memory> {
    producer: &'p mut Producer<M>,
    place: Place,
    len: usize,
}

impl<M: TrustedMemory> Producer<M> {
    /// Room for a record of up to `len` bytes, in one piece that begins at a multiple of the word's size.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    #[inline]
    pub fn grant(&mut self, len: usize) -> Result<WriteGrant<'_, M>, WriteError> {
        let place = self.find(len)?;
        Ok(WriteGrant { producer: self, place, len })
    }
}

impl<M: TrustedMemory> WriteGrant<'_, M> {
    /// Puts the first `len` bytes in as a record.
    ///
    /// # Panics
    ///
    /// If more were asked for than granted.
    #[inline]
    pub fn commit(self, len: usize) {
        assert!(len <= self.len, "more than was granted");
        // SAFETY: the place was found for this grant, which borrows the producer, for as many bytes or more.
        unsafe { self.producer.announce(self.place, len, word_of(len)) };
    }
}

impl<M: TrustedMemory> Deref for WriteGrant<'_, M> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: see `bytes`; the producer is borrowed, and these words are its own until it announces them.
        unsafe { slice::from_raw_parts(bytes(&self.producer.memory, self.place.at), self.len) }
    }
}

impl<M: TrustedMemory> DerefMut for WriteGrant<'_, M> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the grant is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(bytes(&self.producer.memory, self.place.at), self.len) }
    }
}

/// The first byte of the record behind the word at `at`. As many bytes as a place was found for, or a record was found to
/// have, lie within the words; they are initialised, as all words are, and may be written, as atomics may.
#[inline(always)]
fn bytes<M: Memory>(memory: &M, at: usize) -> *mut u8 {
    memory.words().as_ptr().wrapping_add(at + 1).cast_mut().cast()
}

/// A record, to be read in place. Dropped, it takes nothing: the record is there for the next call.
#[derive(Debug)]
#[must_use = "the record stays where it is without `release`"]
pub struct Record<'c, M: Memory> {
    consumer: &'c mut Consumer<M>,
    found: Found,
}

impl<M: TrustedMemory> Consumer<M> {
    /// The next record.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    #[inline]
    pub fn read(&mut self) -> Result<Record<'_, M>, ReadError> {
        // SAFETY: `at` is below the number of words.
        let found = unsafe { self.find(self.at) }?;
        Ok(Record { consumer: self, found })
    }

    /// Takes up to `limit` records, oldest first, and gives their room back together. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`], if that comes first. No record is not an error here.
    #[inline]
    pub fn read_batch(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> Result<usize, ReadError> {
        let mut batch = Taken { at: self.at, head: self.head, consumer: self };
        for taken in 0..limit {
            // SAFETY: `at` is the consumer's or lies behind a record, below the number of words.
            let found = match unsafe { batch.consumer.find(batch.at) } {
                Ok(found) => found,
                Err(ReadError::Corrupt) if taken == 0 => return Err(ReadError::Corrupt),
                Err(_) => return Ok(taken),
            };
            (batch.at, batch.head) = (batch.consumer.behind(found), batch.head.wrapping_add(found.words as u64));
            // SAFETY: see `bytes`; these words are the consumer's until it gives them back.
            each(unsafe { slice::from_raw_parts(bytes(&batch.consumer.memory, found.at), found.len) });
        }
        Ok(limit)
    }
}

#[cfg(feature = "std")]
impl<M: Memory> Consumer<M> {
    /// Where the next record lies, which stays there: no other call is needed for that, and none may take it meanwhile.
    ///
    /// It is for the caller to know that the other end does not write there, as an end of this crate does not until the record is
    /// given back.
    #[inline]
    pub(crate) fn peek(&self) -> Result<::core::ptr::NonNull<[u8]>, ReadError> {
        // SAFETY: `at` is below the number of words.
        let found = unsafe { self.find(self.at) }?;
        let first = bytes(&self.memory, found.at);
        // SAFETY: within the words, which are somewhere.
        Ok(::core::ptr::NonNull::slice_from_raw_parts(unsafe { ::core::ptr::NonNull::new_unchecked(first) }, found.len))
    }
}

/// A batch on its way out; its room is given back also when whoever reads it panics.
struct Taken<'c, M: Memory> {
    consumer: &'c mut Consumer<M>,
    head: u64,
    at: usize,
}

impl<M: Memory> Drop for Taken<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if self.head != self.consumer.head {
            (self.consumer.at, self.consumer.head) = (self.at, self.head);
            self.consumer.give_back();
        }
    }
}

impl<M: TrustedMemory> Record<'_, M> {
    /// Takes the record: its room is the producer's again.
    #[inline]
    pub fn release(self) {
        self.consumer.release(self.found);
    }
}

impl<M: TrustedMemory> Deref for Record<'_, M> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: see `bytes`; the consumer is borrowed, and these words are its own until it gives them back.
        unsafe { slice::from_raw_parts(bytes(&self.consumer.memory, self.found.at), self.found.len) }
    }
}
