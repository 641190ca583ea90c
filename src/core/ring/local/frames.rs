//! A ring of large messages within one program, read in place.

use ::core::cell::UnsafeCell;
use ::core::mem::MaybeUninit;
use ::core::ops::{Deref, DerefMut};

use super::super::frames::unpin;
use super::super::{
    CachePadded, Control, FrameHeader, FrameMemory, FrameReader, FrameWriter, Memory, Ordering, Plain, ReadError, Rmw,
    Start, Tries, Word, WriteError,
};
use super::words::{Received, bytes_of};
use super::{check, in_program, unused_stamp};
use crate::core::atomic::rmw::{Native, native};
use crate::core::once::Once;

/// `N` slots (a power of two) of `T`, read in place by up to `R` readers; one writer.
///
/// The writer never waits. It steps over a slot that a reader holds; so that it always finds one, `N` should be at
/// least the number of samples that all readers together hold, plus 2. [`lossless`](FrameRing::lossless) makes a ring
/// that refuses to overwrite what a reader has not received.
///
/// ```
/// use conduit::ring::{FrameRing, Start};
///
/// static IMAGES: FrameRing<[u8; 1024], 4, 1> = FrameRing::new();
///
/// let (mut writer, readers) = IMAGES.split().expect("nobody else split it");
/// let mut reader = readers.reader(Start::New, 1).expect("one reader is allowed");
/// let mut image = writer.loan()?;
/// image[0] = 7;
/// image.commit();
/// let image = reader.read().unwrap();
/// assert_eq!((image[0], image.sequence()), (7, 0));
/// # Ok::<(), conduit::ring::WriteError>(())
/// ```
///
/// Another number of slots than a power of two, or more than 2^28, is an error of the build, and so are more readers than a
/// word has bits:
///
/// ```compile_fail,E0080
/// let ring = conduit::ring::FrameRing::<u64, 6, 1>::new();
/// ```
/// ```compile_fail,E0080
/// let ring = conduit::ring::FrameRing::<u64, 4, 65>::new();
/// ```
#[derive(Debug)]
pub struct FrameRing<T: Plain, const N: usize, const R: usize> {
    control: Control<Native>,
    headers: [FrameHeader<Native>; N],
    payloads: [Payload<T>; N],
    /// Readers that must not lose a message; stays 0 in a ring that overwrites.
    members: CachePadded<Native>,
    cursors: [CachePadded<Native>; R],
    /// Which bits are taken: set by who makes a reader, cleared by the last of its handles to go.
    joined: Native,
    /// For each bit, its reader (1 while it lives) and the samples that it gave out. Whoever takes it to 0 frees the bit.
    handles: [Native; R],
    lossless: bool,
    once: Once,
}

#[repr(C, align(64))]
#[derive(Debug)]
struct Payload<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: a payload is written by the writer alone while its slot is claimed and read under a pin, by the ring's protocol.
unsafe impl<T: Plain, const N: usize, const R: usize> Sync for FrameRing<T, N, R> {}

impl<T: Plain, const N: usize, const R: usize> FrameRing<T, N, R> {
    /// An empty ring that overwrites its oldest message.
    pub const fn new() -> Self {
        Self::build(0, false)
    }

    /// An empty ring in which [`loan`](FrameRingWriter::loan) fails while a reader has not received the oldest message.
    pub const fn lossless() -> Self {
        Self::build(0, true)
    }

    /// An empty ring whose first message has this position and sequence number: for tests that want the counters to
    /// wrap soon.
    pub const fn starting_at(start: u64) -> Self {
        Self::build(start, false)
    }

    const fn build(start: u64, lossless: bool) -> Self {
        const { check(N, R) };
        let mut headers = [const {
            FrameHeader {
                stamp: native(0),
                pins: CachePadded(native(0)),
                sequence: native(0),
                timestamp: native(0),
                length: native(0),
            }
        }; N];
        let mut index = 0;
        while start != 0 && index < N {
            headers[index].stamp = native(unused_stamp(start, N, index));
            index += 1;
        }
        FrameRing {
            control: in_program!(native, start),
            headers,
            payloads: [const { Payload(UnsafeCell::new(MaybeUninit::zeroed())) }; N],
            members: CachePadded(native(0)),
            cursors: [const { CachePadded(native(0)) }; R],
            joined: native(0),
            handles: [const { native(0) }; R],
            lossless,
            once: Once::new(),
        }
    }

    /// The writer and the source of readers. `None` if the ring was split before.
    pub fn split(&self) -> Option<(FrameRingWriter<'_, T, N, R>, FrameRingReaders<'_, T, N, R>)> {
        self.once.take().then(|| {
            // SAFETY: `take` succeeds once, so this is the only writer.
            (FrameRingWriter(unsafe { FrameWriter::new(Slots(self), 1) }), FrameRingReaders(self))
        })
    }

    /// The word that counts the handles of reader `bit`, which is below `R`; found without a way to panic.
    #[inline(always)]
    fn handles(&self, bit: u32) -> Option<&Native> {
        self.handles.get(bit as usize)
    }

    /// Drops one handle of reader `bit`; the last one frees the bit.
    fn release(&self, bit: u32) {
        // AcqRel: the next owner of the bit comes after everything that the last one did.
        let last = |handles| Rmw::fetch_add(handles, u64::MAX, Ordering::AcqRel) == 1;
        if self.handles(bit).is_some_and(last) {
            Rmw::fetch_and(&self.joined, !(1 << bit), Ordering::Release);
        }
    }
}

impl<T: Plain, const N: usize, const R: usize> Default for FrameRing<T, N, R> {
    fn default() -> Self {
        Self::new()
    }
}

/// The ring as its readers and its writer see it: private, so that nobody else can reach the words.
#[derive(Debug)]
struct Slots<'a, T: Plain, const N: usize, const R: usize>(&'a FrameRing<T, N, R>);

impl<T: Plain, const N: usize, const R: usize> Clone for Slots<'_, T, N, R> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Plain, const N: usize, const R: usize> Copy for Slots<'_, T, N, R> {}

// SAFETY: the words are fields of the ring, which stays where it is while it is borrowed; N is a power of two.
unsafe impl<T: Plain, const N: usize, const R: usize> Memory for Slots<'_, T, N, R> {
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
        &self.0.headers[index & (N - 1)].stamp
    }
    fn members(&self) -> Option<&Native> {
        self.0.lossless.then_some(&self.0.members)
    }
    fn cursor(&self, bit: u32) -> Option<&Native> {
        self.0.cursors.get(bit as usize).map(|padded| &padded.0)
    }
}

// SAFETY: as for Memory; a payload holds a T and belongs to the ring alone.
unsafe impl<T: Plain, const N: usize, const R: usize> FrameMemory for Slots<'_, T, N, R> {
    #[inline(always)]
    fn header(&self, index: usize) -> &FrameHeader<Native> {
        &self.0.headers[index & (N - 1)]
    }
    #[inline(always)]
    fn payload(&self, index: usize) -> *mut u8 {
        self.0.payloads[index & (N - 1)].0.get().cast()
    }
    #[inline(always)]
    fn payload_len(&self) -> usize {
        size_of::<T>()
    }
}

/// The one writer of a [`FrameRing`].
#[derive(Debug)]
pub struct FrameRingWriter<'a, T: Plain, const N: usize, const R: usize>(FrameWriter<Slots<'a, T, N, R>>);

impl<'a, T: Plain, const N: usize, const R: usize> FrameRingWriter<'a, T, N, R> {
    /// The next slot, to be filled and committed. It holds an old message; dropped, it publishes nothing.
    ///
    /// # Errors
    ///
    /// [`WriteError::AllPinned`]; in a lossless ring also [`WriteError::Full`].
    #[inline]
    pub fn loan(&mut self) -> Result<FrameLoan<'_, 'a, T, N, R>, WriteError> {
        let index = self.0.claim()?;
        Ok(FrameLoan { writer: &mut self.0, index })
    }

    /// Copies a message into the next slot and publishes it; returns its sequence number.
    ///
    /// # Errors
    ///
    /// As [`loan`](FrameRingWriter::loan).
    #[inline]
    pub fn publish(&mut self, message: &T) -> Result<u64, WriteError> {
        let mut loan = self.loan()?;
        *loan = *message;
        Ok(loan.commit())
    }

    /// Copies messages into slots in order; readers that poll see each one at once, joiners count on the last. Returns how many
    /// were published: all, unless the ring is full.
    ///
    /// # Errors
    ///
    /// As [`loan`](FrameRingWriter::loan), if not even the first could be published.
    #[inline]
    pub fn publish_batch(&mut self, messages: &[T]) -> Result<usize, WriteError> {
        match self.0.publish_batch(&mut messages.iter().map(bytes_of), 0) {
            (0, Some(error)) => Err(error),
            (count, _) => Ok(count),
        }
    }

    /// How many positions were skipped because a reader held the slot.
    pub fn skips(&self) -> u64 {
        self.0.skips()
    }
}

/// A slot that is being filled.
#[derive(Debug)]
pub struct FrameLoan<'w, 'a, T: Plain, const N: usize, const R: usize> {
    writer: &'w mut FrameWriter<Slots<'a, T, N, R>>,
    index: usize,
}

impl<T: Plain, const N: usize, const R: usize> FrameLoan<'_, '_, T, N, R> {
    /// Publishes the message; returns its sequence number.
    #[inline]
    pub fn commit(self) -> u64 {
        // SAFETY: a loan is made when a slot is claimed, and borrows the writer from then on; the payload is a T.
        unsafe { self.writer.commit_claimed(size_of::<T>(), 0) }
    }
}

impl<T: Plain, const N: usize, const R: usize> Deref for FrameLoan<'_, '_, T, N, R> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the claimed payload is this writer's alone until it commits, and the writer is borrowed by this
        // loan; it is initialised, and T is valid for every bit pattern.
        unsafe { &*self.writer.payload(self.index).cast::<T>() }
    }
}

impl<T: Plain, const N: usize, const R: usize> DerefMut for FrameLoan<'_, '_, T, N, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.writer.payload(self.index).cast::<T>() }
    }
}

/// Makes readers of a [`FrameRing`].
#[derive(Debug)]
pub struct FrameRingReaders<'a, T: Plain, const N: usize, const R: usize>(&'a FrameRing<T, N, R>);

impl<T: Plain, const N: usize, const R: usize> Clone for FrameRingReaders<'_, T, N, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Plain, const N: usize, const R: usize> Copy for FrameRingReaders<'_, T, N, R> {}

impl<'a, T: Plain, const N: usize, const R: usize> FrameRingReaders<'a, T, N, R> {
    /// A new reader that holds at most `samples` messages at a time. `None` if `R` readers exist, counting those that
    /// are gone but whose samples are not.
    pub fn reader(&self, start: Start, samples: u32) -> Option<FrameRingReader<'a, T, N, R>> {
        let ring = self.0;
        // AcqRel: pairs with the Release in `release`; the bit's last owner is done.
        let bit =
            (0..R as u32).find(|bit| Rmw::fetch_or(&ring.joined, 1 << bit, Ordering::AcqRel) & (1 << bit) == 0)?;
        Word::store(&ring.handles[bit as usize], 1, Ordering::Relaxed);
        // SAFETY: the bit was free, which it only is once its last owner and all its pins are gone.
        let reader = unsafe { FrameReader::join(Slots(ring), bit, start, 1) };
        Some(FrameRingReader { reader, samples })
    }
}

/// A reader of a [`FrameRing`].
#[derive(Debug)]
pub struct FrameRingReader<'a, T: Plain, const N: usize, const R: usize> {
    reader: FrameReader<Slots<'a, T, N, R>>,
    samples: u32,
}

impl<'a, T: Plain, const N: usize, const R: usize> FrameRingReader<'a, T, N, R> {
    /// The next message, to be read in place.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`] if there is none, [`ReadError::TooManySamples`] if this reader's samples are all in use,
    /// [`ReadError::Lapped`] if the writer is faster than this call.
    #[inline]
    pub fn read(&mut self) -> Result<FrameSample<'a, T, N, R>, ReadError> {
        let ring = self.reader.memory().0;
        let bit = self.reader.bit();
        self.check_samples()?;
        let pin = self.reader.pin()?;
        if let Some(handles) = ring.handles(bit) {
            Rmw::fetch_add(handles, 1, Ordering::Relaxed);
        }
        Ok(FrameSample { ring, bit, index: pin.index, sequence: pin.sequence, lost: pin.lost })
    }

    /// Lends up to `limit` messages to `each`, in place, one after the other; returns how many there were. Fewer if nothing
    /// more is published. Cheaper than one [`read`](FrameRingReader::read) each: in a lossless ring it takes no pin.
    ///
    /// # Errors
    ///
    /// [`ReadError::TooManySamples`] if this reader's samples are all in use.
    #[inline]
    pub fn read_batch(&mut self, limit: usize, mut each: impl FnMut(Received<&T>)) -> Result<usize, ReadError> {
        self.check_samples()?;
        let ring = self.reader.memory().0;
        let mut tries = Tries::default();
        let mut count = 0;
        while count < limit {
            let lent = self.reader.lend_ready(|pin| {
                // SAFETY: the writer leaves the slot alone until this call returns; T is valid for every bit pattern.
                let message = unsafe { &*Slots(ring).payload(pin.index).cast::<T>() };
                each(Received::new(message, pin.sequence, pin.lost));
            });
            match lent {
                Some(()) => count += 1,
                None => match self.reader.find_out(&mut tries) {
                    Ok(()) => {}
                    Err(ReadError::Lapped(lost)) => {
                        self.reader.tell_later(lost);
                        break;
                    }
                    Err(_) => break,
                },
            }
        }
        Ok(count)
    }

    /// Only this reader adds to its samples, so the bound holds although some may be dropped elsewhere at the same time.
    #[inline]
    fn check_samples(&self) -> Result<(), ReadError> {
        let ring = self.reader.memory().0;
        // Acquire: pairs with the AcqRel of a sample that was dropped: its slot was let go before.
        match ring.handles(self.reader.bit()).map(|handles| Word::load(handles, Ordering::Acquire)) {
            Some(handles) if handles <= u64::from(self.samples) => Ok(()),
            _ => Err(ReadError::TooManySamples),
        }
    }

    /// How many positions are published and not read yet.
    #[inline]
    pub fn lag(&self) -> u64 {
        self.reader.lag()
    }
}

impl<T: Plain, const N: usize, const R: usize> Drop for FrameRingReader<'_, T, N, R> {
    fn drop(&mut self) {
        self.reader.leave();
        self.reader.memory().0.release(self.reader.bit());
    }
}

/// A message that is read in place. While it lives, the writer steps over its slot.
#[derive(Debug)]
pub struct FrameSample<'a, T: Plain, const N: usize, const R: usize> {
    ring: &'a FrameRing<T, N, R>,
    bit: u32,
    index: usize,
    sequence: u64,
    lost: u64,
}

impl<T: Plain, const N: usize, const R: usize> FrameSample<'_, T, N, R> {
    /// The message's number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many messages were lost between the one before and this one.
    pub fn lagged(&self) -> u64 {
        self.lost
    }
}

impl<T: Plain, const N: usize, const R: usize> Deref for FrameSample<'_, T, N, R> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the pin keeps the writer away until this sample is dropped; T is valid for every bit pattern.
        unsafe { &*Slots(self.ring).payload(self.index).cast::<T>() }
    }
}

impl<T: Plain, const N: usize, const R: usize> Drop for FrameSample<'_, T, N, R> {
    fn drop(&mut self) {
        unpin(&Slots(self.ring), self.index, self.bit);
        self.ring.release(self.bit);
    }
}
