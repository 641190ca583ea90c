//! Words slots: the payload is atomic words, copied out between two looks at the stamp (a seqlock for each slot).

use super::super::atomic::{Ordering, fence};
use super::gate::{Cursor, Gate};
use super::{
    Found, LAPPED_TRIES, READY, ReadError, Rmw, Start, Word, WordMemory, WriteError, find, first_ready, is_ready,
    mark_busy, resume_after_lap, stamp,
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
        let mut next = memory.control().head.load_acquire();
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

    /// Publishes messages one after the other and moves `head` once (once a lap). Returns how many were published:
    /// fewer than there are only if the ring became full.
    #[inline]
    pub fn publish_batch<'a>(&mut self, messages: impl IntoIterator<Item = &'a [u8]>, timestamp: u64) -> usize {
        let mut count = 0;
        for message in messages {
            if self.claim().is_err() {
                break;
            }
            self.put(message, timestamp);
            count += 1;
        }
        if count > 0 {
            self.finish();
        }
        count
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
        let width = M::Word::BYTES;
        assert!(
            self.claimed && bytes.len() <= self.memory.words() * width,
            "put without a claim, or longer than a slot"
        );
        let position = self.next;
        let index = self.index();
        if let Some(word) = self.memory.timestamp(index) {
            word.store(timestamp, Ordering::Relaxed);
        }
        let whole = bytes.len() / width;
        for k in 0..whole {
            // SAFETY: word k lies within `bytes`, as k < len / width.
            let value = unsafe { M::Word::read_bytes(bytes.as_ptr().add(k * width)) };
            self.memory.word(index, k).store(value, Ordering::Relaxed);
        }
        let rest = &bytes[whole * width..];
        for k in whole..self.memory.words() {
            let mut tail = [0u8; 8];
            if k == whole {
                tail[..rest.len()].copy_from_slice(rest);
            }
            // SAFETY: the array holds the widest word.
            let value = unsafe { M::Word::read_bytes(tail.as_ptr()) };
            self.memory.word(index, k).store(value, Ordering::Relaxed);
        }
        // Release: pairs with the Acquire load of the stamp by whoever reads the message.
        self.memory.stamp(index).store(stamp::<M::Word>(position, READY), Ordering::Release);
        self.next = position.wrapping_add(1);
        self.claimed = false;
        // Once a lap: a writer that takes over looks one lap ahead of `head`.
        if self.index() == 0 {
            self.memory.control().head.store(self.next, Ordering::Release);
        }
        position.wrapping_add(self.memory.control().base.load(Ordering::Relaxed))
    }

    /// Moves `head` behind what was put and claims the next slot, so that a reader that polls its stamp sees the
    /// line change once, when the message is there.
    #[inline(always)]
    pub fn finish(&mut self) {
        self.memory.control().head.store(self.next, Ordering::Release);
        if self.gate.is_open(self.next) {
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

    /// The member that holds the writer up, if one does.
    pub fn slowest_member(&self) -> Option<u32> {
        super::gate::slowest_member(&self.memory, self.next)
    }
}

/// One reader of a ring with Words slots. It writes nothing that the writer or another reader reads, except
/// its cursor in a ring with members.
#[derive(Debug)]
pub struct WordReader<M: WordMemory> {
    memory: M,
    /// The position of the next message to read.
    next: u64,
    cursor: Option<Cursor>,
    moved: bool,
}

impl<M: WordMemory> WordReader<M> {
    /// A reader that the writer pays no heed to.
    pub fn new(memory: M, start: Start) -> Self {
        let next = locate(&memory, start);
        WordReader { memory, next, cursor: None, moved: false }
    }

    /// Copies the next message to `target` (at most its length) and returns what is known about it.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`], [`ReadError::Lapped`].
    #[inline]
    pub fn read(&mut self, target: &mut [u8]) -> Result<super::Meta, ReadError> {
        // SAFETY: the slice is writable for its length.
        unsafe { self.read_raw(target.as_mut_ptr(), target.len()) }
    }

    /// [`read`](WordReader::read) into memory that may be uninitialised; on success `len` bytes are written, or
    /// the slot's payload if that is less.
    ///
    /// # Safety
    ///
    /// `target` must be writable for `len` bytes.
    #[inline]
    pub unsafe fn read_raw(&mut self, target: *mut u8, len: usize) -> Result<super::Meta, ReadError> {
        let mut lost = 0;
        for _ in 0..LAPPED_TRIES {
            let position = self.next;
            // SAFETY: handed on from the caller.
            match unsafe { copy_out(&self.memory, position, target, len) } {
                Ok(timestamp) => {
                    self.next = position.wrapping_add(1);
                    if let Some(cursor) = &mut self.cursor {
                        self.moved |= cursor.advance(&self.memory, self.next);
                    }
                    let sequence = position.wrapping_add(self.memory.control().base.load(Ordering::Relaxed));
                    let length = len.min(self.memory.words() * M::Word::BYTES);
                    return Ok(super::Meta { sequence, timestamp, length, lost });
                }
                Err(Found::Later(seen)) => {
                    let promised = self.cursor.as_ref().map_or(position, Cursor::promised_from);
                    self.next = if promised.wrapping_sub(position) as i64 > 0 {
                        promised
                    } else {
                        resume_after_lap(&self.memory, position, seen)
                    };
                    lost += self.next.wrapping_sub(position);
                }
                // A Words writer never skips: only corruption looks like it, and stepping over it is a loss.
                Err(Found::Skipped) => {
                    self.next = position.wrapping_add(1);
                    lost += 1;
                }
                Err(Found::Nothing | Found::Ready) => {
                    self.flush();
                    return Err(if lost > 0 { ReadError::Lapped(lost) } else { ReadError::Empty });
                }
            }
        }
        Err(ReadError::Lapped(lost))
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
        self.next.wrapping_add(self.memory.control().base.load(Ordering::Relaxed))
    }

    /// How many messages are published and not read yet.
    #[inline]
    pub fn lag(&self) -> u64 {
        let head = M::Word::extend(self.memory.control().head.load_acquire(), self.next);
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
                // A named sequence keeps counting from where it was asked for; the rest start at the promise.
                let next = if matches!(start, Start::Sequence(_)) { wanted } else { from };
                WordReader { memory, next, cursor: Some(cursor), moved: from != wanted }
            }
            None => WordReader { memory, next: wanted, cursor: None, moved: false },
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

/// Copies the message at `position` out of its slot; `Err` says what stands there instead.
///
/// # Safety
///
/// `target` must be writable for `len` bytes.
#[inline(always)]
pub(super) unsafe fn copy_out<M: WordMemory>(
    memory: &M,
    position: u64,
    target: *mut u8,
    len: usize,
) -> Result<u64, Found> {
    let index = position as usize & (memory.capacity() - 1);
    let before = memory.stamp(index).load_acquire();
    match find::<M::Word>(before, position) {
        Found::Ready => {}
        other => return Err(other),
    }
    let width = M::Word::BYTES;
    let len = len.min(memory.words() * width);
    let timestamp = memory.timestamp(index).map_or(0, |word| word.load(Ordering::Relaxed));
    let whole = len / width;
    for k in 0..whole {
        let value = memory.word(index, k).load(Ordering::Relaxed);
        // SAFETY: word k lies within the `len` bytes that the caller lends.
        unsafe { M::Word::write_bytes(value, target.add(k * width)) };
    }
    if whole * width < len {
        let mut tail = [0u8; 8];
        let value = memory.word(index, whole).load(Ordering::Relaxed);
        // SAFETY: the array holds the widest word, and the rest of `target` is shorter than a word.
        unsafe {
            M::Word::write_bytes(value, tail.as_mut_ptr());
            ::core::ptr::copy_nonoverlapping(tail.as_ptr(), target.add(whole * width), len - whole * width);
        }
    }
    // Acquire fence: if any word came from a later write, so does the stamp that is loaded next. Pairs with the
    // Release fence in `mark_busy`.
    fence(Ordering::Acquire);
    let after = memory.stamp(index).load(Ordering::Relaxed);
    if after == before { Ok(timestamp) } else { Err(find::<M::Word>(after, position)) }
}
