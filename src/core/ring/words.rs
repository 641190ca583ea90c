//! Words slots: the payload is atomic words, copied out between two looks at the stamp (a seqlock for each slot).

use ::core::mem::MaybeUninit;

use super::super::atomic::{Ordering, fence};
use super::super::cells::{load_bytes, store_bytes};
use super::gate::{Cursor, Gate};
use super::{
    Found, Glance, NO_STAMP, READY, ReadError, Rmw, Start, Tries, Word, WordMemory, WriteError, find, first_ready,
    is_ready, mark_busy, resume_after_lap, stamp,
};

/// The one writer of a ring with Words slots.
#[derive(Debug)]
pub struct WordWriter<M: WordMemory> {
    memory: M,
    /// The position of the next message.
    next: u64,
    /// Whether the slot of `next` is already marked busy.
    claimed: bool,
    gate: Gate,
    /// `Gate::admit`, or on targets without read-modify-writes a gate that is always open.
    admit: fn(&mut Gate, &M, u64) -> bool,
}

impl<M: WordMemory> WordWriter<M> {
    /// The writer of a ring without members. It takes over where the last writer stopped, wherever that was.
    ///
    /// # Safety
    ///
    /// No other writer of this memory is in use, nor will be while this one is.
    pub unsafe fn new(memory: M) -> Self {
        Self::resume(memory, 1, |_, _, _| true)
    }

    fn resume(memory: M, batch: u64, admit: fn(&mut Gate, &M, u64) -> bool) -> Self {
        // Relaxed: who makes a new writer knows that the last one is done, and so sees what it wrote.
        let mut next = memory.control().head.load(Ordering::Relaxed);
        // The last writer may have died between messages and their head, which is less than a lap; at most one lap, as
        // the memory may be corrupt. A slot that it left busy was never readable: it is written again, which leaves no hole.
        for _ in 0..memory.capacity() {
            if !is_ready(&memory, next) {
                break;
            }
            next = next.wrapping_add(1);
        }
        memory.control().head.store(next, Ordering::Release);
        let gate = Gate::new(&memory, next, batch);
        WordWriter { memory, next, claimed: false, gate, admit }
    }

    /// Publishes `bytes`; returns the sequence of the message. The rest of the slot is zeroed.
    ///
    /// Never waits, and costs the same for any number of readers.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`] in a ring with members of which one still wants the slot: nothing is overwritten.
    ///
    /// # Panics
    ///
    /// If `bytes` is longer than a slot.
    #[inline]
    pub fn publish(&mut self, bytes: &[u8], timestamp: u64) -> Result<u64, WriteError> {
        self.claim()?;
        let sequence = self.put(bytes, timestamp);
        self.finish();
        Ok(sequence)
    }

    /// Publishes messages one after the other and moves `head` once (once a lap). Returns how many were published, and why
    /// no more were: `None` if there are no more (as far as `size_hint` tells, if the ring is full behind the last). A message
    /// is only taken from `messages` when there is room for it.
    #[inline]
    pub fn publish_batch<'a>(
        &mut self,
        messages: &mut impl Iterator<Item = &'a [u8]>,
        timestamp: u64,
    ) -> (usize, Option<WriteError>) {
        let memory = self.memory.clone();
        let capacity = memory.capacity();
        let mut count = 0;
        let end = loop {
            if let Err(error) = self.claim() {
                // Full behind the last message is as it should be.
                break (messages.size_hint().1 != Some(0)).then_some(error);
            }
            // As far as the gate is open, and to the end of the lap. At least 1: the next slot is claimed.
            let run = self.gate.room(self.next).clamp(1, (capacity - self.index()) as u64) as usize;
            // In a register: the fences below would have each step of `self.next` written to memory.
            let mut batch = Batch { next: self.next, writer: self };
            let mut left = run;
            while left > 0 {
                let Some(message) = messages.next() else { break };
                let index = batch.next as usize & (capacity - 1);
                mark_busy(&memory, index, batch.next);
                copy_in(&memory, index, batch.next, message, timestamp);
                batch.next = batch.next.wrapping_add(1);
                left -= 1;
            }
            drop(batch);
            count += run - left;
            if left > 0 {
                break None;
            }
        };
        if count > 0 {
            self.finish();
        }
        (count, end)
    }

    /// The sequence that the next message will have.
    #[inline]
    pub fn next_sequence(&self) -> u64 {
        self.next.wrapping_add(self.memory.control().base.load(Ordering::Relaxed))
    }

    /// The memory of the ring.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The position of the next message, for whoever asks which reader holds the writer up.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Claims the next slot. Nothing is published until [`put`](WordWriter::put).
    ///
    /// # Errors
    ///
    /// As [`publish`](WordWriter::publish).
    #[inline(always)]
    pub fn claim(&mut self) -> Result<(), WriteError> {
        if self.claimed {
            return Ok(());
        }
        let position = self.next;
        if !self.gate.is_open(position) && !(self.admit)(&mut self.gate, &self.memory, position) {
            return Err(WriteError::Full);
        }
        mark_busy(&self.memory, self.index(), position);
        self.claimed = true;
        Ok(())
    }

    /// Writes `bytes` to the claimed slot and makes it ready: readers see the message, but a writer that takes over and
    /// readers that join count on [`finish`](WordWriter::finish), which must follow the last one. Returns the sequence
    /// of the message.
    ///
    /// # Panics
    ///
    /// If no slot is claimed, or `bytes` is longer than a slot.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8], timestamp: u64) -> u64 {
        assert!(self.claimed, "put without a claim");
        let position = self.next;
        copy_in(&self.memory.clone(), self.index(), position, bytes, timestamp);
        self.step_to(position.wrapping_add(1));
        position.wrapping_add(self.memory.control().base.load(Ordering::Relaxed))
    }

    /// Goes on to position `next`, which is not claimed.
    #[inline(always)]
    fn step_to(&mut self, next: u64) {
        self.next = next;
        self.claimed = false;
        // Once a lap: a writer that takes over looks one lap ahead of `head`.
        if self.index() == 0 {
            self.memory.control().head.store(next, Ordering::Release);
        }
    }

    /// Moves `head` behind what was put and claims the next slot, so that a reader that polls its stamp sees the
    /// line change once, when the message is there.
    #[inline(always)]
    pub fn finish(&mut self) {
        self.memory.control().head.store(self.next, Ordering::Release);
        if !self.claimed && self.gate.is_open(self.next) {
            mark_busy(&self.memory, self.index(), self.next);
            self.claimed = true;
        }
    }

    #[inline(always)]
    fn index(&self) -> usize {
        self.next as usize & (self.memory.capacity() - 1)
    }
}

impl<M: WordMemory<Word: Rmw>> WordWriter<M> {
    /// [`new`](WordWriter::new) for a ring that may have members. The writer announces `batch` positions at a time
    /// (at least 1): a reader that joins is promised the last `capacity - batch` messages.
    ///
    /// # Safety
    ///
    /// As [`new`](WordWriter::new).
    pub unsafe fn with_gate(memory: M, batch: usize) -> Self {
        Self::resume(memory, batch as u64, Gate::admit::<M>)
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
}

/// A writer within a batch, which stands at `next`; also when the iterator that makes the messages panics.
struct Batch<'w, M: WordMemory> {
    writer: &'w mut WordWriter<M>,
    next: u64,
}

impl<M: WordMemory> Drop for Batch<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.next != self.writer.next {
            self.writer.step_to(self.next);
        }
    }
}

/// Writes the message of `position`, whose slot `index` is marked busy, and makes it ready.
///
/// # Panics
///
/// If `bytes` is longer than a slot.
#[inline(always)]
fn copy_in<M: WordMemory>(memory: &M, index: usize, position: u64, bytes: &[u8], timestamp: u64) {
    let words = memory.words(index);
    assert!(bytes.len() <= words.len() * M::Word::BYTES, "longer than a slot");
    if let Some(word) = memory.timestamp(index) {
        word.store(timestamp, Ordering::Relaxed);
    }
    store_bytes(words, bytes);
    // Release: pairs with the Acquire load of the stamp by whoever reads the message.
    memory.stamp(index).store(stamp::<M::Word>(position, READY), Ordering::Release);
}

/// One reader of a ring with Words slots. It writes nothing that the writer or another reader reads, except
/// its cursor in a ring with members.
#[derive(Debug)]
pub struct WordReader<M: WordMemory> {
    memory: M,
    /// The position of the next message to read.
    next: u64,
    /// The sequence of position 0: `Control::base`.
    base: u64,
    cursor: Option<Cursor>,
    moved: bool,
    /// Messages that are known to be lost, and that nobody was told of yet.
    lost: u64,
    /// The stamp behind which the last full look found nothing, after it had told the writer of the cursor; `NO_STAMP`
    /// once a message was read since.
    idle: u64,
}

impl<M: WordMemory> WordReader<M> {
    /// A reader that the writer pays no heed to.
    pub fn new(memory: M, start: Start) -> Self {
        let next = locate(&memory, start);
        let base = memory.control().base.load(Ordering::Relaxed);
        WordReader { memory, next, base, cursor: None, moved: false, lost: 0, idle: NO_STAMP }
    }

    /// Copies the next message to `target` (at most its length) and returns what is known about it.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`], [`ReadError::Lapped`].
    #[inline]
    pub fn read(&mut self, target: &mut [u8]) -> Result<super::Meta, ReadError> {
        let room = self.memory.words(0).len() * M::Word::BYTES;
        // SAFETY: the slice is writable for its length.
        unsafe { self.read_raw(target.as_mut_ptr(), target.len().min(room)) }
    }

    /// [`read`](WordReader::read) into memory that may be uninitialised; on success `len` bytes are written.
    ///
    /// # Panics
    ///
    /// If `len` is more than a slot holds.
    ///
    /// # Safety
    ///
    /// `target` must be writable for `len` bytes.
    #[inline(always)]
    pub unsafe fn read_raw(&mut self, target: *mut u8, len: usize) -> Result<super::Meta, ReadError> {
        let mut tries = Tries::default();
        loop {
            // SAFETY: handed on from the caller.
            if let Some(meta) = unsafe { self.read_ready(target, len) } {
                return Ok(meta);
            }
            // Not given the target, which so can stay in registers where the caller takes it apart.
            self.find_out(&mut tries)?;
        }
    }

    /// The next message as [`read_raw`](WordReader::read_raw) copies it, if it is there. If not,
    /// [`find_out`](WordReader::find_out) tells why, and may make it be there.
    ///
    /// # Panics
    ///
    /// If `len` is more than a slot holds.
    ///
    /// # Safety
    ///
    /// `target` must be writable for `len` bytes.
    #[inline(always)]
    pub unsafe fn read_ready(&mut self, target: *mut u8, len: usize) -> Option<super::Meta> {
        // SAFETY: handed on from the caller.
        let timestamp = unsafe { try_copy(&self.memory.clone(), self.next, target, len) }?;
        let sequence = self.next.wrapping_add(self.base);
        self.step_to(self.next.wrapping_add(1));
        Some(super::Meta { sequence, timestamp, length: len, lost: self.take_lost() })
    }

    /// Calls `each` with up to `limit` messages that are there, one after the other: the first `len` bytes of each, copied to
    /// a `C`. Returns how many there were. Much cheaper than one [`read_ready`](WordReader::read_ready) each.
    ///
    /// # Panics
    ///
    /// If `len` is more than a slot or a `C` holds.
    #[inline(always)]
    pub fn read_batch<C>(
        &mut self,
        limit: usize,
        len: usize,
        mut each: impl FnMut(&MaybeUninit<C>, super::Meta),
    ) -> usize {
        assert!(len <= size_of::<C>());
        let memory = self.memory.clone();
        let base = self.base;
        let mut count = 0;
        while count < limit {
            let untold = self.cursor.as_ref().map_or(u64::MAX, |cursor| cursor.untold(self.next));
            let run = untold.min((limit - count) as u64) as usize;
            let mut lost = self.take_lost();
            // In a register: the fences below would have each step of `self.next` written to memory.
            let mut step = Step { next: self.next, reader: self };
            let mut left = run;
            while left > 0 {
                let mut copy = MaybeUninit::<C>::uninit();
                // SAFETY: the copy has room for `len` bytes.
                let timestamp = unsafe { try_copy(&memory, step.next, copy.as_mut_ptr().cast(), len) };
                let Some(timestamp) = timestamp else { break };
                let sequence = step.next.wrapping_add(base);
                step.next = step.next.wrapping_add(1);
                left -= 1;
                each(&copy, super::Meta { sequence, timestamp, length: len, lost: ::core::mem::take(&mut lost) });
            }
            drop(step);
            self.lost = lost;
            count += run - left;
            if left > 0 {
                break;
            }
        }
        count
    }

    /// Steps over messages that were copied, as far as `next`.
    #[inline(always)]
    fn step_to(&mut self, next: u64) {
        self.next = next;
        self.idle = NO_STAMP;
        if let Some(cursor) = &mut self.cursor {
            self.moved |= cursor.advance(&self.memory, next);
        }
    }

    /// What was lost before the message that is told next.
    #[inline(always)]
    fn take_lost(&mut self) -> u64 {
        if self.lost == 0 { 0 } else { ::core::mem::take(&mut self.lost) }
    }

    /// Has the next message tell of messages that [`ReadError::Lapped`] told of in vain.
    #[inline]
    pub fn tell_later(&mut self, lost: u64) {
        self.lost = self.lost.wrapping_add(lost);
    }

    /// Finds out why there was no message, and goes on behind what is lost. `Ok`: look again.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`], [`ReadError::Lapped`].
    #[inline(never)]
    pub fn find_out(&mut self, tries: &mut Tries) -> Result<(), ReadError> {
        let position = self.next;
        // Relaxed: `try_copy` looks again.
        let found = self.memory.stamp(self.index()).load(Ordering::Relaxed);
        let goes_on = match find::<M::Word>(found, position) {
            Found::Nothing => {
                self.flush();
                self.idle = found;
                return Err(match self.take_lost() {
                    0 => ReadError::Empty,
                    lost => ReadError::Lapped(lost),
                });
            }
            // It is there by now.
            Found::Ready => tries.another(),
            Found::Later(_) if found & 3 == 0 => {
                // No message was ever here: the reader stands before the first.
                let head = M::Word::extend(self.memory.control().head.load_acquire(), position);
                let first = first_ready(&self.memory, head).unwrap_or(head);
                // Corrupt memory must not lead back.
                self.next = if first.wrapping_sub(position) as i64 > 0 { first } else { position.wrapping_add(1) };
                self.lost = self.lost.wrapping_add(self.next.wrapping_sub(position));
                tries.another_lap()
            }
            Found::Later(seen) => {
                self.next = resume_after_lap(&self.memory, position, seen, self.cursor.as_ref());
                // Corrupt memory can make any loss up: it must not overflow.
                self.lost = self.lost.wrapping_add(self.next.wrapping_sub(position));
                tries.another_lap()
            }
            // A Words writer never skips: only corruption looks like it, and stepping over it is a loss.
            Found::Skipped => {
                self.next = position.wrapping_add(1);
                self.lost = self.lost.wrapping_add(1);
                tries.another()
            }
        };
        if goes_on { Ok(()) } else { Err(ReadError::Lapped(self.take_lost())) }
    }

    #[inline(always)]
    fn index(&self) -> usize {
        self.next as usize & (self.memory.capacity() - 1)
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

    /// Whether a call of [`read`](WordReader::read) would find a message or a loss.
    #[inline]
    pub fn is_ready(&self) -> bool {
        super::is_pending(&self.memory, self.next)
    }

    /// The position of the next message to read.
    #[inline]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The sequence of the next message to read.
    #[inline]
    pub fn next_sequence(&self) -> u64 {
        self.next.wrapping_add(self.base)
    }

    /// How many messages are published and not read yet.
    #[inline]
    pub fn lag(&self) -> u64 {
        let head = M::Word::extend(self.memory.control().head.load(Ordering::Relaxed), self.next);
        (head.wrapping_sub(self.next) as i64).max(0) as u64
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

    /// The memory of the ring.
    pub fn memory(&self) -> &M {
        &self.memory
    }
}

impl<M: WordMemory<Word: Rmw>> WordReader<M> {
    /// A reader that in a ring with members becomes one of them. Its cursor follows it in steps of at most
    /// `stride` messages, and at once when it finds nothing more. Ask [`take_moved`](WordReader::take_moved) after
    /// this call too: joining may hold a writer up for a moment.
    ///
    /// # Safety
    ///
    /// The caller owns `bit`: no other reader uses it.
    pub unsafe fn join(memory: M, bit: u32, start: Start, stride: usize) -> Self {
        let wanted = locate(&memory, start);
        match Cursor::join(&memory, bit, wanted, stride as u64) {
            Some((cursor, from)) => {
                // A named sequence takes what is still there before the promise; the rest start at the promise.
                let next = if matches!(start, Start::Sequence(_)) { wanted } else { from };
                let base = memory.control().base.load(Ordering::Relaxed);
                WordReader { memory, next, base, cursor: Some(cursor), moved: from != wanted, lost: 0, idle: NO_STAMP }
            }
            None => {
                let base = memory.control().base.load(Ordering::Relaxed);
                WordReader { memory, next: wanted, base, cursor: None, moved: false, lost: 0, idle: NO_STAMP }
            }
        }
    }

    /// Stops being a member, so that the writer waits no longer for this reader.
    pub fn leave(&mut self) {
        if let Some(cursor) = self.cursor.take() {
            cursor.leave(&self.memory);
            self.moved = true;
        }
    }
}

/// A reader within a batch, which stands at `next`; also when whoever is called with a message panics.
struct Step<'r, M: WordMemory> {
    reader: &'r mut WordReader<M>,
    next: u64,
}

impl<M: WordMemory> Drop for Step<'_, M> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.next != self.reader.next {
            self.reader.step_to(self.next);
        }
    }
}

/// The position at which a reader starts.
fn locate<M: WordMemory>(memory: &M, start: Start) -> u64 {
    let head = memory.control().head.load_acquire();
    let found = match start {
        Start::New => head,
        Start::Latest if is_ready(memory, head.wrapping_sub(1)) => head.wrapping_sub(1),
        Start::Latest => head,
        Start::Oldest => first_ready(memory, head).unwrap_or(head),
        Start::Sequence(sequence) => {
            let wanted = sequence.wrapping_sub(memory.control().base.load(Ordering::Relaxed));
            // Further away than stamps compare, any place that far is as good.
            let reach = (1 << (M::Word::BITS - 3)) - 1;
            let away = M::Word::distance(wanted, head);
            let near = away.clamp(-reach, reach);
            return if near == away { wanted } else { head.wrapping_add(near as u64) };
        }
    };
    // What lies before a narrow word's 0 would otherwise get a number near 2^64.
    M::Word::truncate(found)
}

/// Copies the first `len` bytes of the message at `position` out of its slot; returns its timestamp. `None` if the slot
/// does not hold it, or not to the end.
///
/// # Safety
///
/// `target` must be writable for `len` bytes.
#[inline(always)]
unsafe fn try_copy<M: WordMemory>(memory: &M, position: u64, target: *mut u8, len: usize) -> Option<u64> {
    let index = position as usize & (memory.capacity() - 1);
    let ready = stamp::<M::Word>(position, READY);
    if memory.stamp(index).load_acquire() != ready {
        return None;
    }
    let timestamp = memory.timestamp(index).map_or(0, |word| word.load(Ordering::Relaxed));
    // SAFETY: the caller lends `len` bytes.
    unsafe { load_bytes(memory.words(index), target, len) };
    // Acquire fence: if any word came from a later write, so does the stamp that is loaded next. Pairs with the
    // Release fence in `mark_busy`.
    fence(Ordering::Acquire);
    (memory.stamp(index).load(Ordering::Relaxed) == ready).then_some(timestamp)
}
