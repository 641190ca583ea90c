//! Reading Frames slots without a pin: copies, checked by the stamp before and after.

use super::super::atomic::{Ordering, fence};
use super::{FrameMemory, READY, Word, stamp};

/// What is known about a message that was copied out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// The message's number.
    pub sequence: u64,
    /// When it was published, in nanoseconds; 0 in a ring without timestamps.
    pub timestamp: u64,
    /// Length of the message in bytes.
    pub length: usize,
    /// How many messages were lost between the one before and this one.
    pub lost: u64,
}

/// The sequence of the message at `position`, if it stands there before and after the look.
pub(super) fn peek<M: FrameMemory>(memory: &M, position: u64) -> Option<u64> {
    let header = memory.header(position as usize & (memory.capacity() - 1));
    let ready = stamp::<M::Word>(position, READY);
    if header.stamp.load_acquire() != ready {
        return None;
    }
    let sequence = header.sequence.load(Ordering::Relaxed);
    // Acquire fence: if the sequence came from a later write, so does the stamp that is loaded next. Pairs with the
    // Release fence in `mark_busy`.
    fence(Ordering::Acquire);
    (header.stamp.load(Ordering::Relaxed) == ready).then_some(sequence)
}

/// A reader of Frames slots that takes no bit, writes nothing and so disturbs nobody.
///
/// It copies payloads that another program may be writing with plain stores. That is sound by the hardware's memory
/// model, not by Rust's, which ends at the process: observe a ring only from a process that does not also write it.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct FrameObserver<M: FrameMemory> {
    memory: M,
    next: u64,
    expected: Option<u64>,
}

#[cfg(not(loom))]
impl<M: FrameMemory> FrameObserver<M> {
    /// An observer that starts at `start`.
    ///
    /// # Safety
    ///
    /// While the observer reads, no writer of this memory runs in the same program.
    pub unsafe fn new(memory: M, start: super::Start) -> Self {
        let (next, expected) = super::frames::locate(&memory, start);
        FrameObserver { memory, next, expected }
    }

    /// Copies the next message to `target` and returns what is known about it; a longer message is cut, and
    /// [`Meta::length`] says how long it was.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`](super::ReadError::Empty), [`ReadError::Lapped`](super::ReadError::Lapped).
    pub fn read(&mut self, target: &mut [u8]) -> Result<Meta, super::ReadError> {
        use super::{Found, LAPPED_TRIES, ReadError, find, resume_after_lap};

        let mut tries = LAPPED_TRIES;
        for _ in 0..=self.memory.capacity() {
            let position = self.next;
            let header = self.memory.header(position as usize & (self.memory.capacity() - 1));
            let found = header.stamp.load_acquire();
            let seen = match find::<M::Word>(found, position) {
                Found::Nothing => return Err(ReadError::Empty),
                Found::Skipped => {
                    self.next = position.wrapping_add(1);
                    continue;
                }
                Found::Later(seen) => seen,
                Found::Ready => {
                    let length = header.length.load(Ordering::Relaxed) as usize;
                    let sequence = header.sequence.load(Ordering::Relaxed);
                    let timestamp = header.timestamp.load(Ordering::Relaxed);
                    let whole = length <= self.memory.payload_len();
                    if whole {
                        let index = position as usize & (self.memory.capacity() - 1);
                        let count = length.min(target.len());
                        // SAFETY: the slot has at least `count` bytes, aligned to a line.
                        unsafe { copy_shared(self.memory.payload(index), &mut target[..count]) };
                    }
                    fence(Ordering::Acquire);
                    let again = header.stamp.load(Ordering::Relaxed);
                    if again == found {
                        self.next = position.wrapping_add(1);
                        let expected = self.expected.unwrap_or(sequence);
                        let lost = M::Word::distance(sequence, expected);
                        if lost < 0 || !whole {
                            continue;
                        }
                        let sequence = expected.wrapping_add(lost as u64);
                        self.expected = Some(sequence.wrapping_add(1));
                        return Ok(Meta { sequence, timestamp, length, lost: lost as u64 });
                    }
                    match find::<M::Word>(again, position) {
                        Found::Later(seen) => seen,
                        _ => continue,
                    }
                }
            };
            self.next = resume_after_lap(&self.memory, position, seen);
            tries -= 1;
            if tries == 0 {
                break;
            }
        }
        Err(ReadError::Lapped(0))
    }

    /// Whether a call of [`read`](FrameObserver::read) would find anything.
    pub fn is_ready(&self) -> bool {
        super::is_pending(&self.memory, self.next)
    }

    /// The sequence of the next message, if it is known.
    pub fn next_sequence(&self) -> Option<u64> {
        self.expected
    }
}

/// Copies bytes that somebody else may be writing, word by word with atomic loads.
///
/// # Safety
///
/// `source` is readable for `target.len()` bytes rounded up to a word, and aligned to one.
#[cfg(not(loom))]
unsafe fn copy_shared(source: *const u8, target: &mut [u8]) {
    use super::Native;
    let width = size_of::<Native>();
    for (k, chunk) in target.chunks_mut(width).enumerate() {
        // SAFETY: word k begins within the bytes that the caller lends, and is aligned as they are.
        let word = unsafe { &*source.add(k * width).cast::<Native>() };
        let bytes = Native::load(word, Ordering::Relaxed).to_ne_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}
