//! The lossless mode: a writer that looks at its readers' cursors, but only once in a while.

use super::super::atomic::Ordering;
use super::{Memory, Rmw, Word};

/// The writer's side: which positions it may use before it must look at the cursors again.
#[derive(Debug)]
pub(super) struct Gate {
    /// The first position that may not be claimed yet.
    open_until: u64,
    /// How many positions the writer announces at a time. More means fewer looks at the cursors, and less
    /// history for a reader that joins.
    batch: u64,
    /// The member that held the writer up when it last looked, and its cursor then.
    slowest: Option<(u32, u64)>,
}

impl Gate {
    /// The gate of a writer that stands at `next`. In a ring without members it is open for ever.
    pub(super) fn new<M: Memory>(memory: &M, next: u64, batch: u64) -> Self {
        let capacity = memory.capacity() as u64;
        Gate {
            open_until: if memory.members().is_some() { next } else { next.wrapping_add(i64::MAX as u64) },
            batch: batch.clamp(1, capacity),
            slowest: None,
        }
    }

    /// Whether `position` may be claimed, as far as is known without looking.
    #[inline(always)]
    pub(super) fn is_open(&self, position: u64) -> bool {
        (self.open_until.wrapping_sub(position) as i64) > 0
    }

    /// How many positions from `position` on may be claimed, as far as is known without looking.
    #[inline(always)]
    pub(super) fn room(&self, position: u64) -> u64 {
        (self.open_until.wrapping_sub(position) as i64).max(0) as u64
    }

    /// Whether `position`, the writer's next, may be claimed, after a look at the cursors if need be.
    pub(super) fn admit<M: Memory<Word: Rmw>>(&mut self, memory: &M, position: u64) -> bool {
        if self.is_open(position) {
            return true;
        }
        let Some(members) = memory.members() else {
            self.open_until = position.wrapping_add(i64::MAX as u64);
            return true;
        };
        let capacity = memory.capacity() as u64;
        let announced = position.wrapping_add(self.batch);
        // Published by the RMW below.
        memory.control().limit.store(announced, Ordering::Relaxed);
        // AcqRel: writer and joiner meet here. A joiner whose bit is in `present` stored its cursor before;
        // one whose bit is not comes later in the modification order and sees `announced`.
        let mut present = members.fetch_add(0, Ordering::AcqRel);
        let mut slowest = announced.wrapping_sub(capacity);
        self.slowest = None;
        while present != 0 {
            let bit = present.trailing_zeros();
            present &= present - 1;
            let Some(cursor) = memory.cursor(bit) else { continue };
            // Acquire: pairs with the Release store in `Cursor::flush`; what the reader copied out, it copied before.
            // A cursor that makes no sense only closes the gate, or leaves it to the others.
            let wanted = M::Word::extend(cursor.load(Ordering::Acquire), position);
            if (wanted.wrapping_sub(slowest) as i64) < 0 {
                slowest = wanted;
                self.slowest = Some((bit, wanted));
            }
        }
        self.open_until = slowest.wrapping_add(capacity);
        self.is_open(position)
    }

    /// Whether the member that held the writer up at the last look has not moved its cursor since: for those who spin, as it
    /// disturbs nobody else. One that left or died may still hold the gate here: look in earnest now and then.
    #[inline]
    pub(super) fn is_held<M: Memory>(&self, memory: &M) -> bool {
        self.slowest.is_some_and(|(bit, wanted)| {
            // Relaxed: whoever goes on looks again.
            memory.cursor(bit).is_some_and(|cursor| M::Word::distance(cursor.load(Ordering::Relaxed), wanted) == 0)
        })
    }
}

/// The member whose cursor holds the writer up at `position`: the one to look at when asking who is alive.
pub(super) fn slowest_member<M: Memory>(memory: &M, position: u64) -> Option<u32> {
    // Relaxed, as below: a hint whom to look at.
    let mut present = memory.members()?.load(Ordering::Relaxed);
    let mut slowest = None;
    while present != 0 {
        let bit = present.trailing_zeros();
        present &= present - 1;
        let behind = position.wrapping_sub(M::Word::extend(memory.cursor(bit)?.load(Ordering::Relaxed), position));
        if slowest.is_none_or(|(_, most)| behind as i64 > most) {
            slowest = Some((bit, behind as i64));
        }
    }
    slowest.map(|(bit, _)| bit)
}

/// The reader's side: a cursor that the writer may look at.
#[derive(Debug)]
pub(super) struct Cursor {
    bit: u32,
    /// What the shared cursor says.
    stored: u64,
    /// How far the reader may go on before it tells. 1 stores at each message, more than the capacity is never.
    stride: i64,
}

impl Cursor {
    /// Becomes a member that wants everything from `wanted` on; returns the position from which the writer
    /// promises it everything. If that is another one, the shared cursor moved, and a writer may have seen it where
    /// it was.
    ///
    /// The caller owns `bit`.
    pub(super) fn join<M: Memory<Word: Rmw>>(memory: &M, bit: u32, wanted: u64, stride: u64) -> Option<(Self, u64)> {
        let (members, cursor) = (memory.members()?, memory.cursor(bit)?);
        let capacity = memory.capacity() as u64;
        // Published by the RMW below.
        cursor.store(wanted, Ordering::Relaxed);
        // AcqRel: see `Gate::admit`.
        members.fetch_or(1 << bit, Ordering::AcqRel);
        let limit = M::Word::extend(memory.control().limit.load(Ordering::Relaxed), wanted);
        let safe = limit.wrapping_sub(capacity);
        let from = if (safe.wrapping_sub(wanted) as i64) > 0 { safe } else { wanted };
        // Nothing was read yet that a writer who sees it could overwrite.
        cursor.store(from, Ordering::Relaxed);
        Some((Cursor { bit, stored: from, stride: stride.clamp(1, capacity) as i64 }, from))
    }

    /// The position from which the writer keeps everything for this reader.
    pub(super) fn promised_from(&self) -> u64 {
        self.stored
    }

    /// Whether the writer leaves the slot of `position`, the reader's next, alone until the cursor moves behind it.
    #[inline(always)]
    pub(super) fn keeps(&self, position: u64) -> bool {
        position.wrapping_sub(self.stored) as i64 >= 0
    }

    /// How many messages from `next` on the reader may take before it must tell the writer.
    #[inline(always)]
    pub(super) fn untold(&self, next: u64) -> u64 {
        (self.stride - next.wrapping_sub(self.stored) as i64).max(1) as u64
    }

    /// Tells the writer that everything below `next` has been received, if that is far enough ahead of what it
    /// knows. Returns whether the shared cursor moved.
    #[inline(always)]
    pub(super) fn advance<M: Memory>(&mut self, memory: &M, next: u64) -> bool {
        next.wrapping_sub(self.stored) as i64 >= self.stride && self.flush(memory, next)
    }

    /// Tells the writer now. Returns whether the shared cursor moved.
    #[inline]
    pub(super) fn flush<M: Memory>(&mut self, memory: &M, next: u64) -> bool {
        // Behind it while a reader that asked for a sequence before the promise takes what is still there.
        if next.wrapping_sub(self.stored) as i64 <= 0 {
            return false;
        }
        self.stored = next;
        if let Some(cursor) = memory.cursor(self.bit) {
            // Release: pairs with the Acquire load in `Gate::admit`; the copies made so far stay before it.
            cursor.store(next, Ordering::Release);
        }
        true
    }

    /// Stops being a member.
    pub(super) fn leave<M: Memory<Word: Rmw>>(&self, memory: &M) {
        // SAFETY: the bit is this cursor's, which goes with the call.
        unsafe { sweep_member(memory, self.bit) };
    }
}

/// Ends the membership of reader `bit`, so that the writer waits no longer for it.
///
/// # Safety
///
/// The caller owns `bit`, and the reader that had it before reads no more.
pub unsafe fn sweep_member<M: Memory<Word: Rmw>>(memory: &M, bit: u32) {
    if let Some(members) = memory.members() {
        // Release: what was read stays before the bit goes; pairs with the RMW in `Gate::admit`.
        members.fetch_and(!(1 << bit), Ordering::Release);
    }
}
