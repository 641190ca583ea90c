//! Messages that are made, or read, where they are.

use ::core::marker::PhantomData;
use ::core::mem::MaybeUninit;
use ::core::ptr;
use ::core::slice;

use super::{Consumer, Producer};
use crate::core::cells::Slot;

/// The `count` slots from number `at` on, in the one or two pieces in which they stand. `count` is at most `N`: a larger one,
/// which no end of a queue ever comes to, is taken for `N`, rather than to have a way to panic in an interrupt handler.
fn pieces<T, const N: usize>(slots: &[Slot<T>; N], at: usize, count: usize) -> (&[Slot<T>], &[Slot<T>]) {
    let (before, from) = slots.split_at(at & (N - 1));
    match from.split_at_checked(count) {
        Some((all, _)) => (all, &[]),
        None => (from, before.get(..count - from.len()).unwrap_or(before)),
    }
}

/// Slots to be filled in place. Dropped, it pushes nothing.
#[derive(Debug)]
#[must_use = "nothing is pushed without `commit`"]
pub struct WriteGrant<'p, 'a, T, const N: usize> {
    producer: &'p mut Producer<'a, T, N>,
    count: usize,
}

impl<'a, T, const N: usize> Producer<'a, T, N> {
    /// Up to `limit` empty slots, as many as there is room for; perhaps none.
    ///
    /// ```
    /// use conduit::spsc::Queue;
    ///
    /// let queue = Queue::<u32, 4>::new();
    /// let (mut producer, mut consumer) = queue.split().unwrap();
    /// let mut grant = producer.grant(3);
    /// let (slots, wrapped) = grant.slots();
    /// for (n, slot) in slots.iter_mut().chain(wrapped).enumerate() {
    ///     slot.write(n as u32);
    /// }
    /// // SAFETY: all three were written.
    /// unsafe { grant.commit(3) };
    /// let grant = consumer.grant(usize::MAX);
    /// assert_eq!(grant.messages(), (&[0, 1, 2][..], &[][..]));
    /// grant.release(2);
    /// assert_eq!(consumer.pop(), Some(2));
    /// ```
    #[inline]
    pub fn grant(&mut self, limit: usize) -> WriteGrant<'_, 'a, T, N> {
        let seen = self.room_to.wrapping_sub(self.tail);
        let count = if seen < limit { self.look() } else { seen }.min(limit);
        WriteGrant { producer: self, count }
    }

    /// Copies messages from the beginning of `messages`, as many as there is room for; returns how many.
    #[inline]
    pub fn push_slice(&mut self, messages: &[T]) -> usize
    where
        T: Copy,
    {
        let mut grant = self.grant(messages.len());
        let count = grant.len();
        let (slots, wrapped) = grant.slots();
        // SAFETY: the two pieces are `count` slots, and there are as many messages, which lie elsewhere; initialised is what
        // the slots are then.
        unsafe {
            ptr::copy_nonoverlapping(messages.as_ptr(), slots.as_mut_ptr().cast(), slots.len());
            ptr::copy_nonoverlapping(messages.as_ptr().add(slots.len()), wrapped.as_mut_ptr().cast(), wrapped.len());
            grant.commit(count);
        }
        count
    }
}

impl<T, const N: usize> WriteGrant<'_, '_, T, N> {
    /// How many slots there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there was no room at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The slots, in order: those up to the end of the queue's memory, and those from its beginning.
    #[inline]
    pub fn slots(&mut self) -> (&mut [MaybeUninit<T>], &mut [MaybeUninit<T>]) {
        let (one, other) = pieces(&self.producer.queue.slots, self.producer.tail, self.count);
        // SAFETY: there is room for `count` messages, so these slots are the producer's, which is borrowed; the two pieces
        // don't overlap.
        unsafe {
            (
                slice::from_raw_parts_mut(Slot::values(one), one.len()),
                slice::from_raw_parts_mut(Slot::values(other), other.len()),
            )
        }
    }

    /// Pushes the first `count` messages.
    ///
    /// # Safety
    ///
    /// The first `count` slots were written.
    ///
    /// # Panics
    ///
    /// If there are fewer slots.
    #[inline]
    pub unsafe fn commit(self, count: usize) {
        assert!(count <= self.count, "more than was granted");
        self.producer.announce(self.producer.tail.wrapping_add(count));
    }
}

/// Messages to be read in place. Dropped, it takes nothing: they are there for the next call.
///
/// Threads share it only if they may share messages:
///
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<conduit::spsc::ReadGrant<'_, '_, std::cell::Cell<u8>, 4>>();
/// ```
#[derive(Debug)]
#[must_use = "the messages stay where they are without `release`"]
pub struct ReadGrant<'c, 'a, T, const N: usize> {
    consumer: &'c mut Consumer<'a, T, N>,
    count: usize,
    /// A shared grant lends shared messages, so only what threads may share makes it shareable; a queue asks for less.
    messages: PhantomData<&'c mut [T]>,
}

impl<'a, T, const N: usize> Consumer<'a, T, N> {
    /// The oldest messages, up to `limit`, as many as there are; perhaps none.
    #[inline]
    pub fn grant(&mut self, limit: usize) -> ReadGrant<'_, 'a, T, N> {
        let seen = self.there_to.wrapping_sub(self.head);
        let count = if seen < limit { self.look() } else { seen }.min(limit);
        ReadGrant { consumer: self, count, messages: PhantomData }
    }

    /// Moves messages to the beginning of `messages`, as many as there are; returns how many.
    #[inline]
    pub fn pop_slice(&mut self, messages: &mut [T]) -> usize
    where
        T: Copy,
    {
        let grant = self.grant(messages.len());
        let (one, other) = grant.messages();
        let count = grant.len();
        // SAFETY: the two pieces are `count` messages, and there is room for as many, elsewhere.
        unsafe {
            ptr::copy_nonoverlapping(one.as_ptr(), messages.as_mut_ptr(), one.len());
            ptr::copy_nonoverlapping(other.as_ptr(), messages.as_mut_ptr().add(one.len()), other.len());
        }
        grant.release(count);
        count
    }
}

impl<T, const N: usize> ReadGrant<'_, '_, T, N> {
    /// How many messages there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there was none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The messages, in order: those up to the end of the queue's memory, and those from its beginning.
    #[inline]
    pub fn messages(&self) -> (&[T], &[T]) {
        let (one, other) = self.pieces();
        // SAFETY: `count` messages are there, so these slots are the consumer's, which is borrowed, and full.
        unsafe {
            (
                slice::from_raw_parts(Slot::values(one).cast(), one.len()),
                slice::from_raw_parts(Slot::values(other).cast(), other.len()),
            )
        }
    }

    /// [`messages`](ReadGrant::messages), to be changed in place.
    #[inline]
    pub fn messages_mut(&mut self) -> (&mut [T], &mut [T]) {
        let (one, other) = self.pieces();
        // SAFETY: as in `messages`; the grant is borrowed mutably, and the two pieces don't overlap.
        unsafe {
            (
                slice::from_raw_parts_mut(Slot::values(one).cast(), one.len()),
                slice::from_raw_parts_mut(Slot::values(other).cast(), other.len()),
            )
        }
    }

    /// Drops the first `count` messages where they are, and gives their slots back.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[inline]
    pub fn release(self, count: usize) {
        assert!(count <= self.count, "more than was granted");
        let ReadGrant { consumer, .. } = self;
        let (one, other) = pieces(&consumer.queue.slots, consumer.head, count);
        // Given back also when a destructor panics: what it leaves is leaked rather than dropped twice.
        let head = consumer.head.wrapping_add(count);
        let _release = super::Popped { consumer, head };
        // SAFETY: these slots are the consumer's, and full; they are given back, so nobody looks at them again.
        unsafe {
            ptr::drop_in_place(ptr::slice_from_raw_parts_mut(Slot::values(one).cast::<T>(), one.len()));
            ptr::drop_in_place(ptr::slice_from_raw_parts_mut(Slot::values(other).cast::<T>(), other.len()));
        }
    }

    #[inline(always)]
    fn pieces(&self) -> (&[Slot<T>], &[Slot<T>]) {
        pieces(&self.consumer.queue.slots, self.consumer.head, self.count)
    }
}
