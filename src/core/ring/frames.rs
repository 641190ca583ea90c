//! Frames slots: the payload is plain bytes, read in place under a pin.
//!
//! Reader and writer of a slot meet in the modification order of its `pins` word. If the reader's `fetch_or` comes
//! first, the writer's exchange of 0 for 0 fails and it steps over the slot. If the exchange comes first, the
//! `fetch_or` reads from its release sequence, so the reader's second look at the stamp sees `busy` and it lets
//! go. That only holds while nobody ever *stores* to `pins`.

use super::super::atomic::{Ordering, fence, prefetch_for_read, prefetch_for_write};
use super::gate::{Cursor, Gate};
use super::{
    BUSY, Found, FrameHeader, FrameMemory, Glance, NO_STAMP, READY, ReadError, Rmw, SKIPPED, Start, Tries, Word,
    WriteError, find, first_ready, is_ready, last_ready, mark_busy, observe, resume_after_lap, stamp,
};

/// The one writer of a ring with Frames slots.
///
/// [`claim`](FrameWriter::claim) a slot, write its payload, [`commit`](FrameWriter::commit). A claim that is not
/// committed publishes nothing; the next claim returns the same slot.
#[derive(Debug)]
pub struct FrameWriter<M: FrameMemory> {
    memory: M,
    /// The position to be claimed or claimed already.
    next: u64,
    /// The sequence of the next message.
    sequence: u64,
    /// Whether the slot of `next` is marked busy and was free of pins when it was: it is the writer's alone.
    claimed: bool,
    skips: u64,
    gate: Gate,
}

impl<M: FrameMemory> FrameWriter<M> {
    /// The writer of a ring. It takes over where the last writer stopped, wherever that was, and announces `batch`
    /// positions at a time (at least 1): a reader that joins a ring with members is promised the last
    /// `capacity - batch` positions.
    ///
    /// # Safety
    ///
    /// No other writer of this memory is in use, nor will be while this one is.
    pub unsafe fn new(memory: M, batch: usize) -> Self {
        let control = memory.control();
        // Relaxed, as is all below: who makes a new writer knows that the last one is done, and so sees what it wrote.
        let head = control.head.load(Ordering::Relaxed);
        let mut next = head;
        // What lies before head was ready or skipped and is never used again, nor is what stands ready or skipped
        // behind it, less than a lap. A slot that the last writer left busy was never readable: it is written again,
        // which leaves no hole.
        for _ in 0..memory.capacity() {
            let index = next as usize & (memory.capacity() - 1);
            let found = memory.stamp(index).load(Ordering::Relaxed);
            if found != stamp::<M::Word>(next, READY) && found != stamp::<M::Word>(next, SKIPPED) {
                break;
            }
            next = next.wrapping_add(1);
        }
        let stored = control.next_sequence.load(Ordering::Relaxed);
        let sequence = match last_ready(&memory, next).and_then(|p| observe::peek(&memory, p)) {
            // The stored number is older unless skips have wiped out the last message since.
            Some(last) if M::Word::distance(stored, last.wrapping_add(1)) <= 0 => last.wrapping_add(1),
            _ => stored,
        };
        let skips = control.skips.load(Ordering::Relaxed);
        control.head.store(next, Ordering::Release);
        let gate = Gate::new(&memory, next, batch as u64);
        FrameWriter { memory, next, sequence, claimed: false, skips, gate }
    }

    /// Claims the next slot that no reader holds; its payload is the caller's to write until
    /// [`commit`](FrameWriter::commit). Returns its index.
    ///
    /// Never waits: each slot that a reader holds costs one skipped position, at most one lap of them.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`] in a ring with members of which one still wants the slot: nothing is overwritten.
    /// [`WriteError::AllPinned`] if readers held each slot when the writer came to it.
    ///
    /// A call that fails may have stepped over slots (see [`skips`](FrameWriter::skips)). In a ring with members, wake
    /// its readers then: one that sleeps at such a slot would hold the writer up without knowing.
    #[inline]
    pub fn claim(&mut self) -> Result<usize, WriteError> {
        if self.claimed { Ok(self.index()) } else { self.claim_slow() }
    }

    fn claim_slow(&mut self) -> Result<usize, WriteError> {
        for _ in 0..self.memory.capacity() {
            if !self.gate.is_open(self.next) && !self.gate.admit(&self.memory, self.next) {
                return Err(WriteError::Full);
            }
            if self.try_claim() {
                return Ok(self.index());
            }
        }
        Err(WriteError::AllPinned)
    }

    /// Claims the slot of `next`, or marks it skipped and goes on to the one behind.
    #[inline(always)]
    fn try_claim(&mut self) -> bool {
        let position = self.next;
        let header = self.memory.header(self.index());
        mark_busy(&self.memory, self.index(), position);
        // Acquire: pairs with the Release `fetch_and` of a reader that let go, so its reads are over. After the Release
        // fence in `mark_busy`, a reader whose `fetch_or` comes later sees the busy stamp.
        self.claimed = header.pins.compare_exchange(0, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !self.claimed {
            self.skip();
        }
        self.claimed
    }

    #[cold]
    fn skip(&mut self) {
        self.skips = self.skips.wrapping_add(1);
        self.memory.control().skips.store(self.skips, Ordering::Relaxed);
        // Nothing is read on the strength of this stamp.
        self.memory.stamp(self.index()).store(stamp::<M::Word>(self.next, SKIPPED), Ordering::Relaxed);
        self.step();
    }

    /// Goes on to the next position, and once a lap tells where that is: a writer that takes over looks one lap ahead
    /// of `head`, and by then a run of skips may have wiped out the last message.
    #[inline(always)]
    fn step(&mut self) {
        self.next = self.next.wrapping_add(1);
        if self.index() == 0 {
            let control = self.memory.control();
            // Release: who sees the number sees the stamps of the messages that it counts (`locate`).
            control.next_sequence.store(self.sequence, Ordering::Release);
            control.head.store(self.next, Ordering::Release);
            // Who sees the slot of the next position claimed sees the number.
            fence(Ordering::Release);
        }
    }

    /// Publishes the claimed slot with the first `length` bytes of its payload; returns the sequence of the message.
    ///
    /// # Panics
    ///
    /// If no slot is claimed, or `length` is longer than a payload.
    #[inline]
    pub fn commit(&mut self, length: usize, timestamp: u64) -> u64 {
        let sequence = self.put(length, timestamp);
        self.finish();
        sequence
    }

    /// [`commit`](FrameWriter::commit) without a way to panic, for interrupt handlers.
    ///
    /// # Safety
    ///
    /// A slot is claimed, and its payload has `length` bytes.
    #[cfg(all(not(loom), any(target_has_atomic = "ptr", feature = "portable-atomic")))]
    #[inline]
    pub(super) unsafe fn commit_claimed(&mut self, length: usize, timestamp: u64) -> u64 {
        // SAFETY: says the caller.
        unsafe { ::core::hint::assert_unchecked(self.claimed && length <= self.memory.payload_len()) };
        self.commit(length, timestamp)
    }

    /// [`commit`](FrameWriter::commit) within a batch: readers see the message, but a writer that takes over and
    /// readers that join count on [`finish`](FrameWriter::finish), which must follow the last one.
    #[inline(always)]
    pub fn put(&mut self, length: usize, timestamp: u64) -> u64 {
        assert!(self.claimed && length <= self.memory.payload_len(), "commit without a claim, or longer than it");
        let header = self.memory.header(self.index());
        header.sequence.store(self.sequence, Ordering::Relaxed);
        header.timestamp.store(timestamp, Ordering::Relaxed);
        header.length.store(length as u64, Ordering::Relaxed);
        // Release: pairs with the Acquire load of the stamp by whoever reads the message.
        header.stamp.store(stamp::<M::Word>(self.next, READY), Ordering::Release);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.claimed = false;
        self.step();
        sequence
    }

    /// Moves `head` behind what was put and claims the next slot, so that a reader that polls its stamp sees the
    /// line change once, when the message is there.
    #[inline(always)]
    pub fn finish(&mut self) {
        self.memory.control().head.store(self.next, Ordering::Release);
        if !self.claimed && self.gate.is_open(self.next) {
            self.try_claim();
        }
    }

    /// Copies messages into slots one after the other and moves `head` once. Returns how many were published, and why no
    /// more were: `None` if there are no more (as far as `size_hint` tells, if the ring is full behind the last). A
    /// message is only taken from `messages` when there is room for it.
    ///
    /// # Panics
    ///
    /// If a message is longer than a payload.
    #[inline]
    pub fn publish_batch<'a>(
        &mut self,
        messages: &mut impl Iterator<Item = &'a [u8]>,
        timestamp: u64,
    ) -> (usize, Option<WriteError>) {
        let mut count = 0;
        let end = loop {
            let index = match self.claim() {
                Ok(index) => index,
                // Full behind the last message is as it should be.
                Err(error) => break (messages.size_hint().1 != Some(0)).then_some(error),
            };
            let Some(message) = messages.next() else { break None };
            self.fill(index, message);
            self.put(message.len(), timestamp);
            count += 1;
        };
        if count > 0 {
            self.finish();
        }
        (count, end)
    }

    /// Copies `bytes` to the beginning of the claimed slot `index`.
    ///
    /// # Panics
    ///
    /// If no slot is claimed, or `bytes` is longer than a payload.
    #[inline(always)]
    pub fn fill(&mut self, index: usize, bytes: &[u8]) {
        assert!(
            self.claimed && bytes.len() <= self.memory.payload_len(),
            "fill without a claim, or more than it holds"
        );
        debug_assert_eq!(index, self.index());
        // SAFETY: the payload of the claimed slot is this writer's alone, and long enough.
        unsafe { ::core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.payload(self.index()), bytes.len()) };
    }

    /// The payload of the claimed slot `index`.
    #[inline]
    pub fn payload(&self, index: usize) -> *mut u8 {
        self.memory.payload(index)
    }

    /// The sequence that the next message will have.
    #[inline]
    pub fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// How many positions were skipped in the life of the ring because a reader held the slot.
    #[inline]
    pub fn skips(&self) -> u64 {
        self.skips
    }

    /// The position of the next message, for whoever asks which reader holds the writer up.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether the member that held the writer up when it last found the ring full has not moved since. Cheaper than another
    /// attempt, for those who spin; but a member that is gone may seem not to move.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.gate.is_held(&self.memory)
    }

    /// The member that holds the writer up, if one does.
    pub fn slowest_member(&self) -> Option<u32> {
        super::gate::slowest_member(&self.memory, self.next)
    }

    /// The memory of the ring.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    #[inline(always)]
    fn index(&self) -> usize {
        self.next as usize & (self.memory.capacity() - 1)
    }
}

/// A message that a reader holds in place: the writer leaves the slot alone until [`FrameReader::unpin`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin {
    /// The slot.
    pub index: usize,
    /// The message's number.
    pub sequence: u64,
    /// When it was published, in nanoseconds.
    pub timestamp: u64,
    /// Length of the payload in bytes; checked against the slot.
    pub length: usize,
    /// How many messages were lost between the one before and this one.
    pub lost: u64,
}

/// One reader of a ring with Frames slots.
#[derive(Debug)]
pub struct FrameReader<M: FrameMemory> {
    memory: M,
    bit: u32,
    /// The position to look at next.
    next: u64,
    /// The sequence of the next message, where known: what the loss is counted from. Messages below are not
    /// delivered ([`Start::Sequence`]).
    expected: Option<u64>,
    cursor: Option<Cursor>,
    moved: bool,
    /// The shortest message there can be.
    least: usize,
    /// The stamp behind which the last full look found nothing, after it had told the writer of the cursor; `NO_STAMP`
    /// once a message was read since.
    idle: u64,
}

impl<M: FrameMemory> FrameReader<M> {
    /// A reader that pins with `bit`; in a ring with members it becomes one of them, with a cursor that follows it
    /// in steps of at most `stride` positions. Ask [`take_moved`](FrameReader::take_moved) after this call too: joining
    /// may hold a writer up for a moment.
    ///
    /// # Safety
    ///
    /// The caller owns `bit`: no other reader uses it, and it is clear in all pins.
    pub unsafe fn join(memory: M, bit: u32, start: Start, stride: usize) -> Self {
        let (wanted, mut expected) = locate(&memory, start);
        let (mut next, mut cursor, mut moved) = (wanted, None, false);
        if let Some((member, from)) = Cursor::join(&memory, bit, wanted, stride as u64) {
            (cursor, moved) = (Some(member), from != wanted);
            // A named sequence takes what is still there before the promise; the rest start at the promise.
            if moved && !matches!(start, Start::Sequence(_)) {
                (next, expected) = (from, None);
            }
        }
        FrameReader { memory, bit, next, expected, cursor, moved, least: 0, idle: NO_STAMP }
    }

    /// Takes a message of less than `length` bytes for corruption, which counts as lost.
    pub fn at_least(mut self, length: usize) -> Self {
        self.least = length;
        self
    }

    /// Pins the next message so that it can be read in place.
    ///
    /// The payload is readable until [`unpin`](FrameReader::unpin). Limit how many pins are held at a time: each one
    /// takes a slot away from the writer.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`], [`ReadError::Lapped`]; [`ReadError::TooManySamples`] if a pin of this reader already
    /// holds the slot, which cannot happen unless the memory was tampered with.
    #[inline(always)]
    pub fn pin(&mut self) -> Result<Pin, ReadError> {
        let mut tries = Tries::default();
        loop {
            if let Some(pin) = self.pin_ready() {
                return Ok(pin);
            }
            self.find_out(&mut tries)?;
        }
    }

    /// [`pin`](FrameReader::pin)s the next message if it is there. If not, [`find_out`](FrameReader::find_out) tells why, and
    /// may make it be there.
    #[inline(always)]
    pub fn pin_ready(&mut self) -> Option<Pin> {
        let memory = self.memory.clone();
        let position = self.next;
        let index = position as usize & (memory.capacity() - 1);
        let ready = stamp::<M::Word>(position, READY);
        let header = memory.header(index);
        if header.stamp.load_acquire() != ready {
            return None;
        }
        // The pin is a full barrier on many targets: the first line of the payload may travel meanwhile.
        prefetch_for_read(memory.payload(index));
        self.set_pin(header).ok()?;
        let pin = if header.stamp.load(Ordering::Relaxed) == ready { self.accept(position, index) } else { None };
        match pin {
            Some(_) => self.advance(),
            None => self.unpin(index),
        }
        pin
    }

    /// Lends the next message to `read`, in place, for as long as that call takes, if it is there. If not,
    /// [`find_out`](FrameReader::find_out) tells why, and may make it be there.
    ///
    /// Cheaper than a pin: in a ring with members the reader's cursor stays in front of the message meanwhile, which keeps
    /// the writer away as well. Elsewhere it is a pin that ends with the call.
    #[inline(always)]
    pub fn lend_ready<R>(&mut self, read: impl FnOnce(Pin) -> R) -> Option<R> {
        let position = self.next;
        if !self.cursor.as_ref().is_some_and(|cursor| cursor.keeps(position)) {
            let pin = self.pin_ready()?;
            let _end = Unpin(self, pin.index);
            return Some(read(pin));
        }
        let index = self.index();
        let memory = self.memory.clone();
        if memory.stamp(index).load_acquire() != stamp::<M::Word>(position, READY) {
            return None;
        }
        let pin = self.accept(position, index)?;
        let result = read(pin);
        // Not before: the writer may use the slot once it knows.
        self.advance();
        Some(result)
    }

    /// Sets this reader's bit, unless it is set already.
    #[inline(always)]
    fn set_pin(&self, header: &FrameHeader<M::Word>) -> Result<(), ReadError> {
        // Acquire: pairs with the writer's exchange; if that came first, the next load of the stamp sees busy.
        let mine = 1 << self.bit;
        if header.pins.fetch_or(mine, Ordering::Acquire) & mine == 0 { Ok(()) } else { Err(ReadError::TooManySamples) }
    }

    /// Has the next message tell of messages that [`ReadError::Lapped`] told of in vain.
    #[inline]
    pub fn tell_later(&mut self, lost: u64) {
        self.expected = self.expected.map(|expected| expected.wrapping_sub(lost));
    }

    /// Finds out why there was no message, and goes on behind what is skipped or lost. `Ok`: look again.
    ///
    /// # Errors
    ///
    /// As [`pin`](FrameReader::pin).
    #[inline(never)]
    pub fn find_out(&mut self, tries: &mut Tries) -> Result<(), ReadError> {
        for _ in 0..=self.memory.capacity() {
            let position = self.next;
            let header = self.memory.header(self.index());
            // Relaxed: `pin_ready` looks again.
            let found = header.stamp.load(Ordering::Relaxed);
            let goes_on = match find::<M::Word>(found, position) {
                Found::Skipped => {
                    self.next = position.wrapping_add(1);
                    continue;
                }
                Found::Ready if header.pins.load(Ordering::Relaxed) & (1 << self.bit) != 0 => {
                    return Err(ReadError::TooManySamples);
                }
                Found::Ready => tries.another(),
                Found::Nothing => {
                    if found == stamp::<M::Word>(position, BUSY) {
                        // The writer is done with the pins of this slot until the next lap.
                        prefetch_for_write(&header.pins);
                    }
                    self.flush();
                    self.idle = found;
                    return Err(ReadError::Empty);
                }
                Found::Later(seen) => {
                    self.next = resume_after_lap(&self.memory, position, seen, self.cursor.as_ref());
                    tries.another_lap()
                }
            };
            if goes_on {
                return Ok(());
            }
            break;
        }
        Err(ReadError::Lapped(self.count_lost()))
    }

    /// Steps over the message of `position`, which the writer leaves alone, and says what is known about it. `None` if it
    /// is not wanted. [`advance`](Self::advance) follows when it is the reader's, or has been read.
    #[inline(always)]
    fn accept(&mut self, position: u64, index: usize) -> Option<Pin> {
        let header = self.memory.header(index);
        let length = header.length.load(Ordering::Relaxed) as usize;
        let sequence = header.sequence.load(Ordering::Relaxed);
        self.next = position.wrapping_add(1);
        let expected = self.expected.unwrap_or(sequence);
        let lost = M::Word::distance(sequence, expected);
        // A length that no slot has is corruption: the message counts as lost.
        if lost < 0 || length < self.least || length > self.memory.payload_len() {
            return None;
        }
        let sequence = expected.wrapping_add(lost as u64);
        self.expected = Some(sequence.wrapping_add(1));
        self.idle = NO_STAMP;
        let timestamp = header.timestamp.load(Ordering::Relaxed);
        Some(Pin { index, sequence, timestamp, length, lost: lost as u64 })
    }

    /// Tells the writer of a ring with members how far this reader is, now and then.
    #[inline(always)]
    fn advance(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            self.moved |= cursor.advance(&self.memory, self.next);
        }
    }

    #[inline(always)]
    fn index(&self) -> usize {
        self.next as usize & (self.memory.capacity() - 1)
    }

    /// Counts what is known to be lost, from the first message behind `next` that stands still long enough to
    /// tell its sequence.
    #[cold]
    fn count_lost(&mut self) -> u64 {
        let Some(expected) = self.expected else { return 0 };
        for on in 0..self.memory.capacity() as u64 {
            let position = self.next.wrapping_add(on);
            if let Some(sequence) = observe::peek(&self.memory, position) {
                let lost = M::Word::distance(sequence, expected).max(0) as u64;
                self.expected = Some(expected.wrapping_add(lost));
                return lost;
            }
        }
        0
    }

    /// Lets go of slot `index`, whose payload the caller reads no more.
    #[inline(always)]
    pub fn unpin(&self, index: usize) {
        unpin(&self.memory, index & (self.memory.capacity() - 1), self.bit);
    }

    /// A look at the next slot that costs next to nothing: for those who poll.
    #[inline(always)]
    pub fn glance(&self) -> Glance {
        let memory = &self.memory;
        // Relaxed: whoever goes on to read looks again.
        let found = memory.stamp(self.next as usize & (memory.capacity() - 1)).load(Ordering::Relaxed);
        if found == stamp::<M::Word>(self.next, READY) {
            Glance::Ready
        } else if found == self.idle {
            Glance::Idle
        } else {
            Glance::Changed
        }
    }

    /// Whether a call of [`pin`](FrameReader::pin) would find a message, a loss or a skipped slot.
    #[inline]
    pub fn is_ready(&self) -> bool {
        super::is_pending(&self.memory, self.next)
    }

    /// The position to look at next.
    #[inline]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The sequence of the next message, if it is known.
    #[inline]
    pub fn next_sequence(&self) -> Option<u64> {
        self.expected
    }

    /// How many positions are published and not read yet.
    #[inline]
    pub fn lag(&self) -> u64 {
        let head = M::Word::extend(self.memory.control().head.load(Ordering::Relaxed), self.next);
        (head.wrapping_sub(self.next) as i64).max(0) as u64
    }

    /// The bit this reader pins with.
    #[inline]
    pub fn bit(&self) -> u32 {
        self.bit
    }

    /// Whether the shared cursor moved since the last call, so that a writer may be waiting to hear of it.
    #[inline(always)]
    pub fn take_moved(&mut self) -> bool {
        ::core::mem::take(&mut self.moved)
    }

    /// Tells the writer of a ring with members how far this reader is, at once.
    #[inline]
    pub fn flush(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            self.moved |= cursor.flush(&self.memory, self.next);
        }
    }

    /// Stops being a member, so that the writer waits no longer for this reader. Pins stay.
    pub fn leave(&mut self) {
        if let Some(cursor) = self.cursor.take() {
            cursor.leave(&self.memory);
            self.moved = true;
        }
    }

    /// The memory of the ring.
    pub fn memory(&self) -> &M {
        &self.memory
    }
}

/// Ends a pin, also when whoever reads under it panics.
struct Unpin<'r, M: FrameMemory>(&'r FrameReader<M>, usize);

impl<M: FrameMemory> Drop for Unpin<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.unpin(self.1);
    }
}

/// Ends the pin of reader `bit` on slot `index`. Whoever calls it has finished reading the payload.
#[inline(always)]
pub(crate) fn unpin<M: FrameMemory>(memory: &M, index: usize, bit: u32) {
    // Release: pairs with the Acquire exchange of the writer that claims the slot next.
    memory.header(index).pins.fetch_and(!(1 << bit), Ordering::Release);
}

/// Clears the pins that a dead reader left. Harmless when there are none, and when it is cut short and run again.
///
/// # Safety
///
/// The caller owns `bit`, and the reader that had it before can never run again.
pub unsafe fn sweep_pins<M: FrameMemory>(memory: &M, bit: u32) {
    for index in 0..memory.capacity() {
        // The look first keeps lines that hold no such pin out of the sweeper's cache.
        if memory.header(index).pins.load(Ordering::Relaxed) & (1 << bit) != 0 {
            unpin(memory, index, bit);
        }
    }
}

/// How often a reader that joins looks again when the writer overtook its look.
const LOCATE_TRIES: usize = if cfg!(loom) { 2 } else { 64 };

/// The position and, where known, the sequence at which a reader starts.
pub(super) fn locate<M: FrameMemory>(memory: &M, start: Start) -> (u64, Option<u64>) {
    // A writer may run on between the looks below: start again from the new head, but not for ever, and not often from
    // one that stands still, which in corrupt memory may be anywhere.
    let (mut last, mut still) = (None, 0);
    for _ in 0..LOCATE_TRIES {
        let head = memory.control().head.load_acquire();
        still = if last == Some(head) { still + 1 } else { 0 };
        if still > 8 {
            break;
        }
        last = Some(head);
        let fresh = || next_of_empty(memory).map(|sequence| (head, Some(sequence)));
        let known = |p: u64| observe::peek(memory, p).map(|sequence| (p, Some(sequence)));
        let found = match start {
            Start::New => match last_ready(memory, head) {
                Some(p) => known(p).map(|(p, s)| (p.wrapping_add(1), s.map(|s| s.wrapping_add(1)))),
                None => fresh(),
            },
            Start::Latest => last_ready(memory, head).map_or_else(fresh, known),
            Start::Oldest => first_ready(memory, head).map_or_else(fresh, known),
            Start::Sequence(wanted) => {
                let capacity = memory.capacity() as u64;
                let from = (0..capacity).map(|on| head.wrapping_sub(capacity).wrapping_add(on)).find(|&p| {
                    is_ready(memory, p) && observe::peek(memory, p).is_some_and(|s| M::Word::distance(s, wanted) >= 0)
                });
                Some((from.unwrap_or(head), Some(wanted)))
            }
        };
        if let Some(found) = found {
            return found;
        }
    }
    // The count begins with the first message that is received.
    (memory.control().head.load_acquire(), None)
}

/// The sequence of the next message of a ring that holds none: because none was published yet, or because skips have
/// wiped out the last one. `None` if it holds one, or the writer goes on meanwhile.
fn next_of_empty<M: FrameMemory>(memory: &M) -> Option<u64> {
    let stored = &memory.control().next_sequence;
    // Acquire: a message that this number counts already is seen below.
    let sequence = stored.load_acquire();
    let is_empty = (0..memory.capacity()).all(|index| memory.stamp(index).load_acquire() & 3 != READY);
    // A message that it doesn't count was only wiped out after the number was stored anew, which is seen now.
    (is_empty && stored.load(Ordering::Relaxed) == sequence).then_some(sequence)
}
