//! One writer, many readers: a broadcast ring in which nobody waits for anybody.
//!
//! The writer publishes into the next slot whatever the readers do; a reader that falls a whole ring behind
//! loses messages, learns exactly how many, and goes on. With an [admission gate](Memory::members) the
//! ring is lossless instead: the writer is told [`WriteError::Full`] while a reader still wants the slot.
//!
//! Two kinds of slots, for two sizes of message:
//!
//! | | Words | Frames |
//! |---|---|---|
//! | types | [`WordWriter`], [`WordReader`], [`WordRing`] | [`FrameWriter`], [`FrameReader`], [`FrameRing`] |
//! | payload | atomic words, copied out between two looks at the stamp | plain bytes, read in place under a pin |
//! | a reader costs the writer | nothing | one skipped position a lap for each pin it holds |
//! | compare-and-swap | not needed | needed |
//! | best for | up to 256 bytes | from 1 KiB |
//!
//! [`WordRing`] and [`FrameRing`] live in a `static` or behind a reference. The readers and
//! writers themselves are generic over [`Memory`], so that the same protocol runs over shared memory and
//! under a model checker.
//!
//! # The protocol in short
//!
//! A *position* is a place in the ring and is used once: positions only grow. A slot's *stamp* is
//! `4 * position + {1 busy, 2 skipped, 3 ready}`; 0 in the low bits means the slot was never used at that
//! position. *Sequence* numbers count messages. In Words slots a sequence is its position plus a constant;
//! in Frames slots the writer may skip a position that a reader has pinned, which leaves no hole in the
//! sequence.
//!
//! A reader never trusts `head` to tell whether a message is there; the stamp of the slot says so. What is
//! loaded from memory that somebody else may have corrupted never becomes an index, a length or a loop bound
//! without a check.

#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
mod event;
mod frames;
mod gate;
#[cfg(not(loom))]
mod local;
mod observe;
#[cfg(all(test, not(loom)))]
mod tests;
mod words;

pub use super::atomic::{CachePadded, Native, Rmw, Word};
pub use super::plain::Plain;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
pub use event::EventCount;
#[cfg(any(loom, feature = "std"))]
pub use event::Notifier;
#[cfg(feature = "std")]
pub(crate) use frames::unpin;
pub use frames::{FrameReader, FrameWriter, Pin, sweep_pins};
pub use gate::sweep_member;
#[cfg(all(not(loom), any(target_has_atomic = "ptr", feature = "portable-atomic")))]
pub use local::frames::{FrameLoan, FrameRing, FrameRingReader, FrameRingReaders, FrameRingWriter, FrameSample};
#[cfg(not(loom))]
pub use local::words::{Received, WordRing, WordRingReader, WordRingReaders, WordRingWriter};
pub use observe::{FrameObserver, Meta};
pub use words::{WordReader, WordWriter};

use super::atomic::Ordering;

/// Most readers that can hold pins or cursors: the bits of a 64-bit word.
pub const MAX_READERS: u32 = 64;

/// The slot is being written; nothing in it may be read.
pub(crate) const BUSY: u64 = 1;
/// The writer stepped over the slot because a reader still held it.
pub(crate) const SKIPPED: u64 = 2;
/// The slot holds a message.
pub(crate) const READY: u64 = 3;

/// `4 * position + tag`, cut to the word's width.
#[inline(always)]
pub(crate) fn stamp<W: Word>(position: u64, tag: u64) -> u64 {
    W::truncate(position.wrapping_mul(4) | tag)
}

/// What a stamp says to a reader that wants `position`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// Not published yet.
    Nothing,
    /// The message.
    Ready,
    /// Step over it.
    Skipped,
    /// The writer is a ring or more ahead: the slot now belongs to this later position.
    Later(u64),
}

/// Reads a stamp for a reader that wants `position`. 32-bit stamps compare by wrapping difference, which is
/// exact while the reader is less than 2^29 positions away.
#[inline(always)]
pub(crate) fn find<W: Word>(found: u64, position: u64) -> Found {
    if found == stamp::<W>(position, READY) {
        return Found::Ready;
    }
    let ahead = W::distance(found & !3, position.wrapping_mul(4)) >> 2;
    if ahead > 0 {
        Found::Later(position.wrapping_add(ahead as u64))
    } else if ahead == 0 && found & 3 == SKIPPED {
        Found::Skipped
    } else {
        Found::Nothing
    }
}

/// The words that the writer alone writes and everybody may read.
#[repr(C)]
#[derive(Debug)]
pub struct Control<W> {
    /// The next position to publish: every position below has been ready or skipped. Stored (Release) after
    /// the stamps, at the end of each publish or batch and whenever slot 0 comes next; loaded (Acquire) by joiners, by
    /// readers that were lapped, and by a writer that takes over. A writer that died between the stores leaves it
    /// behind, but by less than a lap.
    pub head: CachePadded<W>,
    /// One more than the highest position the writer has said it might claim, in a ring with a gate. Stored before
    /// the writer looks at the members, loaded by a joiner after it became one; Relaxed, as they meet in `members`.
    pub limit: CachePadded<W>,
    /// In a Frames ring, the sequence of the next message as it was when slot 0 last came next. Stored (Release)
    /// before `head`; loaded (Acquire) by joiners and takers-over that find no message whose number would tell.
    pub next_sequence: W,
    /// The sequence of position 0, modulo the word's width. Constant once the ring is in use.
    pub base: W,
    /// Positions skipped because a reader held the slot. A statistic: Relaxed.
    pub skips: W,
}

impl<W: Word> Control<W> {
    /// The words of a ring whose first message has position `start` and sequence `start + base`.
    pub fn new(start: u64, base: u64) -> Self {
        Control {
            head: CachePadded(W::new(start)),
            limit: CachePadded(W::new(start)),
            next_sequence: W::new(start.wrapping_add(base)),
            base: W::new(base),
            skips: W::new(0),
        }
    }
}

/// Where the words of a ring live: a handle that is cheap to clone, such as a reference. The clone is the same memory.
///
/// Readers and writers clone it for each call, so that the compiler knows that nothing they store changes it.
///
/// # Safety
///
/// For the life of the value: every method returns the same word for the same arguments, no two words
/// overlap, [`capacity`](Memory::capacity) is a constant power of two, and every index below it is accepted.
/// The implementer must not derive an address from anything that another process can write.
pub unsafe trait Memory: Clone {
    /// The word that stamps, counters and pins are made of.
    type Word: Word;

    /// Number of slots; a power of two.
    fn capacity(&self) -> usize;
    /// The writer's words.
    fn control(&self) -> &Control<Self::Word>;
    /// The stamp of slot `index`: written by the writer, read by all.
    fn stamp(&self, index: usize) -> &Self::Word;

    /// The members of a lossless ring, one bit for each reader that must not lose a message; `None` where
    /// old messages are overwritten. Set and cleared by the owner of the bit, or by who proved it dead.
    #[inline(always)]
    fn members(&self) -> Option<&Self::Word> {
        None
    }
    /// The first position that reader `bit` still wants. Stored (Release) by the reader, loaded (Acquire) by
    /// the writer. Only called where [`members`](Memory::members) is `Some`.
    #[inline(always)]
    fn cursor(&self, bit: u32) -> Option<&Self::Word> {
        let _ = bit;
        None
    }
}

/// Memory with Words slots.
///
/// # Safety
///
/// As [`Memory`]; [`words`](WordMemory::words) has the same length for every slot.
pub unsafe trait WordMemory: Memory {
    /// The payload of slot `index`: written by the writer, copied out by readers, all Relaxed.
    fn words(&self, index: usize) -> &[Self::Word];
    /// The timestamp of slot `index`, where the ring keeps timestamps. Part of the payload's protocol.
    #[inline(always)]
    fn timestamp(&self, index: usize) -> Option<&Self::Word> {
        let _ = index;
        None
    }
}

/// What a Frames slot says about its message, and who reads it: two lines, so that a reader can have the second to
/// itself before the message is there.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct FrameHeader<W> {
    /// Written by the writer alone, read by all.
    pub stamp: W,
    /// The message's number. Written under `stamp` like the payload (Relaxed), as are the next two.
    pub sequence: W,
    /// When it was published, in nanoseconds.
    pub timestamp: W,
    /// Length of the payload in bytes.
    pub length: W,
    /// One bit for each reader that is reading the payload in place. Only ever changed by read-modify-write:
    /// a reader sets and clears its own bit, the writer exchanges 0 for 0 to claim the slot, and who holds a
    /// dead reader's lock clears that reader's bit.
    pub pins: CachePadded<W>,
}

impl<W: Word> FrameHeader<W> {
    /// The header of a slot that holds nothing, stamped `stamp`.
    pub fn new(stamp: u64) -> Self {
        FrameHeader {
            stamp: W::new(stamp),
            sequence: W::new(0),
            timestamp: W::new(0),
            length: W::new(0),
            pins: CachePadded(W::new(0)),
        }
    }
}

/// Memory with Frames slots.
///
/// # Safety
///
/// As [`Memory`]; `header(i).stamp` is `stamp(i)`, and [`payload`](FrameMemory::payload) points to
/// [`payload_len`](FrameMemory::payload_len) bytes that are touched through this ring only.
pub unsafe trait FrameMemory: Memory<Word: Rmw> {
    /// The header of slot `index`.
    fn header(&self, index: usize) -> &FrameHeader<Self::Word>;
    /// The payload of slot `index`. Written by the writer between claim and commit, read under a pin.
    fn payload(&self, index: usize) -> *mut u8;
    /// Length of each payload in bytes.
    fn payload_len(&self) -> usize;
}

/// Where a new reader starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Start {
    /// The first message published after the reader joined.
    #[default]
    New,
    /// The last message that was published, then on; [`New`](Start::New) if there is none.
    Latest,
    /// Everything the ring still holds. Nothing is reported lost before it.
    Oldest,
    /// The message with this sequence number. One that is not published yet is waited for; one that the ring
    /// no longer holds is counted as lost, with everything up to the first message that is still there.
    Sequence(u64),
}

/// Why there is no slot to write to. Nothing was published and nothing was overwritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WriteError {
    /// A lossless reader still wants the message in the next slot.
    Full,
    /// Readers hold every slot of the ring. The next attempt looks again.
    AllPinned,
}

impl ::core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str(match self {
            WriteError::Full => "the ring is full: a reader has not taken the oldest message yet",
            WriteError::AllPinned => "readers hold every slot of the ring: drop samples, or make it deeper",
        })
    }
}

impl ::core::error::Error for WriteError {}

/// Why there is no message to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReadError {
    /// Nothing new is published.
    Empty,
    /// The writer lapped the reader again and again during the call. This many messages are newly known
    /// to be lost (0 if not even they could be counted: the next call does); the next call goes on behind them.
    Lapped(u64),
    /// The reader already holds as many samples as it declared. Drop one first.
    TooManySamples,
}

impl ::core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        match self {
            ReadError::Empty => f.write_str("no new message"),
            ReadError::Lapped(lost) => write!(f, "{lost} messages were overwritten before they could be read"),
            ReadError::TooManySamples => {
                f.write_str("the reader holds all the samples it declared: drop one, or declare more")
            }
        }
    }
}

impl ::core::error::Error for ReadError {}

/// What a reader sees at a glance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Glance {
    /// A message.
    Ready,
    /// What the last read saw that found nothing, so that another one would find nothing, too.
    Idle,
    /// Something else: read to learn what.
    Changed,
}

/// Equal to no stamp: the only one without a tag is 0, which a slot has that was never used.
const NO_STAMP: u64 = 4;

/// How often a read that is lapped starts again before it gives the loss back to its caller.
const LAPPED_TRIES: u32 = if cfg!(loom) { 2 } else { 4 };

/// How often one read has begun anew: it ends, whatever a fast writer or corrupt memory does.
#[derive(Debug, Default)]
pub struct Tries(u32);

impl Tries {
    /// What a lap counts, compared with a message that was there and gone, or not wanted.
    const LAP: u32 = if cfg!(loom) { 1 } else { 1024 };

    /// Whether to look again, where that may well find the message.
    #[inline]
    fn another(&mut self) -> bool {
        self.0 += 1;
        self.0 < LAPPED_TRIES * Self::LAP
    }

    /// Whether to look again after a lap.
    #[inline]
    fn another_lap(&mut self) -> bool {
        self.0 += Self::LAP;
        self.0 < LAPPED_TRIES * Self::LAP
    }
}

/// Where a reader that was lapped goes on: a quarter of the ring behind the oldest slot, so that it is not lapped
/// again at once. `seen` is a position that the writer has been seen at, for `head` may lag behind it. A member that
/// asked for a sequence before its promise goes on at the promise.
fn resume_after_lap<M: Memory>(memory: &M, next: u64, seen: u64, cursor: Option<&gate::Cursor>) -> u64 {
    let promised = cursor.map_or(next, gate::Cursor::promised_from);
    if promised.wrapping_sub(next) as i64 > 0 {
        return promised;
    }
    let capacity = memory.capacity() as u64;
    // Relaxed: where to look next is a guess that the stamp there proves.
    let head = M::Word::extend(memory.control().head.load(Ordering::Relaxed), seen);
    let front = if head.wrapping_sub(seen) as i64 > 0 { head } else { seen };
    let resumed = front.wrapping_sub(capacity - capacity / 4);
    if resumed.wrapping_sub(next) as i64 > 0 { resumed } else { next.wrapping_add(1) }
}

/// The newest position that holds a message, looking back from `head` over the whole ring.
fn last_ready<M: Memory>(memory: &M, head: u64) -> Option<u64> {
    (1..=memory.capacity() as u64).map(|back| head.wrapping_sub(back)).find(|&p| is_ready(memory, p))
}

/// The oldest position that holds a message, looking on from a ring before `head`.
fn first_ready<M: Memory>(memory: &M, head: u64) -> Option<u64> {
    let capacity = memory.capacity() as u64;
    (0..capacity).map(|on| head.wrapping_sub(capacity).wrapping_add(on)).find(|&p| is_ready(memory, p))
}

/// Whether a reader that stands at `position` would find a message, a skipped slot or a loss there.
#[inline]
pub fn is_pending<M: Memory>(memory: &M, position: u64) -> bool {
    let index = position as usize & (memory.capacity() - 1);
    // Relaxed: whoever goes on to read looks again.
    find::<M::Word>(memory.stamp(index).load(Ordering::Relaxed), position) != Found::Nothing
}

/// Whether the slot holds the message of `position`. Nothing is read on the strength of it (Relaxed): its callers have
/// loaded `head` or the like with Acquire, and look again.
#[inline]
fn is_ready<M: Memory>(memory: &M, position: u64) -> bool {
    let index = position as usize & (memory.capacity() - 1);
    memory.stamp(index).load(Ordering::Relaxed) == stamp::<M::Word>(position, READY)
}

/// Marks slot `index` as being written. The fence keeps every later store to the slot behind the mark, for
/// those who copy out between two looks at the stamp.
#[inline(always)]
fn mark_busy<M: Memory>(memory: &M, index: usize, position: u64) {
    memory.stamp(index).store(stamp::<M::Word>(position, BUSY), Ordering::Relaxed);
    super::atomic::fence(Ordering::Release);
}
