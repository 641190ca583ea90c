//! Reading Frames slots without a pin: copies, checked by the stamp before and after.

use super::super::atomic::{Ordering, fence};
use super::frames::locate;
use super::{
    Found, FrameMemory, LAPPED_TRIES, READY, ReadError, Start, Word, find, is_pending, resume_after_lap, stamp,
};

/// What is known about a message that was copied out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
/// It leaves the copying of payloads to its caller, who must use a way that may read what somebody else is writing (a
/// system call, say), and believes the copy only if the stamp is the same before and after.
#[derive(Debug)]
pub struct FrameObserver<M: FrameMemory> {
    memory: M,
    next: u64,
    expected: Option<u64>,
}

impl<M: FrameMemory> FrameObserver<M> {
    /// An observer that starts at `start`.
    pub fn new(memory: M, start: Start) -> Self {
        let (next, expected) = locate(&memory, start);
        FrameObserver { memory, next, expected }
    }

    /// Has `copy` copy the payload of the next message, given its slot and its length (at most a payload's), and returns
    /// what is known about the message. `copy` answers whether it could; it may be called more than once, and only what
    /// the last call copied counts.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`], [`ReadError::Lapped`].
    pub fn read(&mut self, mut copy: impl FnMut(usize, usize) -> bool) -> Result<Meta, ReadError> {
        let mut tries = LAPPED_TRIES;
        for _ in 0..=self.memory.capacity() {
            let position = self.next;
            let index = position as usize & (self.memory.capacity() - 1);
            let header = self.memory.header(index);
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
                    let copied = length <= self.memory.payload_len() && copy(index, length);
                    // Acquire fence: as in `peek`, for the payload too.
                    fence(Ordering::Acquire);
                    let again = header.stamp.load(Ordering::Relaxed);
                    match find::<M::Word>(again, position) {
                        Found::Ready => {
                            self.next = position.wrapping_add(1);
                            let expected = self.expected.unwrap_or(sequence);
                            let lost = M::Word::distance(sequence, expected);
                            // What could not be copied counts as lost with the next message.
                            if lost < 0 || !copied {
                                continue;
                            }
                            let sequence = expected.wrapping_add(lost as u64);
                            self.expected = Some(sequence.wrapping_add(1));
                            return Ok(Meta { sequence, timestamp, length, lost: lost as u64 });
                        }
                        Found::Later(seen) => seen,
                        Found::Nothing | Found::Skipped => continue,
                    }
                }
            };
            self.next = resume_after_lap(&self.memory, position, seen, None);
            tries -= 1;
            if tries == 0 {
                break;
            }
        }
        Err(ReadError::Lapped(0))
    }

    /// Whether a call of [`read`](FrameObserver::read) would find anything.
    pub fn is_ready(&self) -> bool {
        is_pending(&self.memory, self.next)
    }

    /// The sequence of the next message, if it is known.
    pub fn next_sequence(&self) -> Option<u64> {
        self.expected
    }
}
