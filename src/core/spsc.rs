//! A bounded queue from one producer to one consumer.
//!
//! Each message goes to exactly one place, in order, and is moved, not copied: any type that is `Send` will do. Full is an
//! answer, and the message comes back with it. Loads and stores only: it runs on targets without compare-and-swap, and
//! either end may be an interrupt handler.
//!
//! Each end remembers how far the other one was when it last looked, and only looks again when that no longer suffices
//! (as in rigtorp's and Lee's queues); so in a stream the two indices travel between the cores now and then instead of with
//! every message. Batches move many messages for one such look and one announcement; grants have them made, or read, where
//! they are.

use super::atomic::{Apart, AtomicUsize, Ordering};
use super::cells::{Slot, array, const_fn};
use super::once::Once;

#[cfg(not(loom))]
mod grant;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(not(loom))]
pub use grant::{ReadGrant, WriteGrant};

/// A queue of up to `N` messages, a power of two.
///
/// ```
/// use conduit::spsc::Queue;
///
/// static COMMANDS: Queue<[u8; 8], 16> = Queue::new();
///
/// let (mut producer, mut consumer) = COMMANDS.split().expect("nobody else split it");
/// producer.push([1; 8]).expect("there is room for 16");
/// assert_eq!(consumer.pop(), Some([1; 8]));
/// assert_eq!(consumer.pop(), None);
/// ```
#[derive(Debug)]
pub struct Queue<T, const N: usize> {
    /// How many messages were ever pushed, modulo the word. Stored by the producer (Release) behind the messages; loaded by
    /// the consumer (Acquire) before it takes them.
    tail: Apart<AtomicUsize>,
    /// How many messages were ever taken. Stored by the consumer (Release) behind the taking; loaded by the producer
    /// (Acquire) before it uses their slots again.
    head: Apart<AtomicUsize>,
    /// Slot `i % N` holds message `i`, from `head` up to `tail`: these are the consumer's, the others the producer's.
    slots: [Slot<T>; N],
    once: Once,
}

impl<T, const N: usize> Queue<T, N> {
    const MASK: usize = {
        assert!(N.is_power_of_two() && N <= usize::MAX / 4, "the capacity of a queue is a power of two");
        N - 1
    };

    const_fn! {
        /// An empty queue.
        pub fn new() -> Self {
            Self::starting_at(0)
        }
    }

    const_fn! {
        /// An empty queue that counts its messages from `start`: for tests that want the counters to wrap soon.
        pub fn starting_at(start: usize) -> Self {
            let _ = Self::MASK;
            Queue {
                tail: Apart(AtomicUsize::new(start)),
                head: Apart(AtomicUsize::new(start)),
                slots: array![Slot::new()],
                once: Once::new(),
            }
        }
    }

    /// The two ends. `None` if the queue was split before.
    pub fn split(&self) -> Option<(Producer<'_, T, N>, Consumer<'_, T, N>)> {
        self.once.take().then(|| {
            let start = self.head.load(Ordering::Relaxed);
            (
                Producer { queue: self, tail: start, room_to: start.wrapping_add(N) },
                Consumer { queue: self, head: start, there_to: start },
            )
        })
    }

    #[inline(always)]
    fn slot(&self, at: usize) -> &Slot<T> {
        &self.slots[at & Self::MASK]
    }
}

impl<T, const N: usize> Default for Queue<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Drop for Queue<T, N> {
    fn drop(&mut self) {
        // Relaxed: both ends are gone, in a way that let their owner have it back.
        let (mut head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        while head != tail {
            // SAFETY: nobody else has the queue, and slots from head to tail are full.
            drop(unsafe { self.slot(head).take() });
            head = head.wrapping_add(1);
        }
    }
}

/// The end that messages go into.
#[derive(Debug)]
pub struct Producer<'a, T, const N: usize> {
    queue: &'a Queue<T, N>,
    /// `Queue::tail`, which nobody else stores. A copy, because the line of that one is often with the other core.
    tail: usize,
    /// Messages below this number have a slot, as far as `Queue::head` was seen.
    room_to: usize,
}

impl<T, const N: usize> Producer<'_, T, N> {
    /// Puts a message at the end.
    ///
    /// # Errors
    ///
    /// Full: the message comes back.
    #[inline]
    pub fn push(&mut self, message: T) -> Result<(), T> {
        if self.tail == self.room_to && self.look() == 0 {
            return Err(message);
        }
        // SAFETY: there is room, so the slot is the producer's, and empty.
        unsafe { self.queue.slot(self.tail).put(message) };
        self.announce(self.tail.wrapping_add(1));
        Ok(())
    }

    /// Puts messages at the end as long as there are some and there is room, and announces them together. Returns how many;
    /// a message is only taken from `messages` when there is room for it.
    #[inline]
    pub fn push_batch(&mut self, messages: impl IntoIterator<Item = T>) -> usize {
        let mut messages = messages.into_iter();
        let mut batch = Pushed { tail: self.tail, producer: self };
        let before = batch.tail;
        while batch.tail != batch.producer.room_to || batch.producer.look_from(batch.tail) != 0 {
            let Some(message) = messages.next() else { break };
            // SAFETY: there is room, so the slot is the producer's, and empty.
            unsafe { batch.producer.queue.slot(batch.tail).put(message) };
            batch.tail = batch.tail.wrapping_add(1);
        }
        batch.tail.wrapping_sub(before)
    }

    /// How many messages there is certainly room for. The consumer may have made more by the time this returns.
    pub fn room(&mut self) -> usize {
        self.look()
    }

    /// How many messages were in the queue when the producer last looked at the other end, and those pushed since: at least
    /// as many as there are. Looks at nothing shared.
    pub const fn len_at_most(&self) -> usize {
        N - self.room_to.wrapping_sub(self.tail)
    }

    /// How many messages the queue holds at most.
    pub const fn capacity(&self) -> usize {
        N
    }

    #[inline(always)]
    fn announce(&mut self, tail: usize) {
        self.tail = tail;
        // Release: pairs with the consumer's Acquire load, so that it finds the messages.
        self.queue.tail.store(tail, Ordering::Release);
    }

    /// Looks how far the consumer is; returns how much room there is.
    fn look(&mut self) -> usize {
        self.look_from(self.tail)
    }

    #[inline(always)]
    fn look_from(&mut self, tail: usize) -> usize {
        // Acquire: pairs with the consumer's Release store: it is done with the slots of what it took.
        self.room_to = self.queue.head.load(Ordering::Acquire).wrapping_add(N);
        self.room_to.wrapping_sub(tail)
    }
}

/// A batch on its way in; announced also when the iterator panics.
struct Pushed<'p, 'a, T, const N: usize> {
    producer: &'p mut Producer<'a, T, N>,
    tail: usize,
}

impl<T, const N: usize> Drop for Pushed<'_, '_, T, N> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.tail != self.producer.tail {
            self.producer.announce(self.tail);
        }
    }
}

/// The end that messages come out of.
#[derive(Debug)]
pub struct Consumer<'a, T, const N: usize> {
    queue: &'a Queue<T, N>,
    /// `Queue::head`, which nobody else stores. A copy, as the producer's.
    head: usize,
    /// Messages below this number are there, as far as `Queue::tail` was seen.
    there_to: usize,
}

impl<T, const N: usize> Consumer<'_, T, N> {
    /// Takes the oldest message.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.there_to && self.look() == 0 {
            return None;
        }
        // SAFETY: the message is there, so the slot is the consumer's, and full.
        let message = unsafe { self.queue.slot(self.head).take() };
        self.release(self.head.wrapping_add(1));
        Some(message)
    }

    /// Takes up to `limit` messages, oldest first, and gives their slots back together. Returns how many there were.
    #[inline]
    pub fn pop_batch(&mut self, limit: usize, mut each: impl FnMut(T)) -> usize {
        let count = if self.there_to.wrapping_sub(self.head) < limit { self.look() } else { limit }.min(limit);
        let mut batch = Popped { head: self.head, consumer: self };
        for _ in 0..count {
            // SAFETY: the message is there, so the slot is the consumer's, and full.
            let message = unsafe { batch.consumer.queue.slot(batch.head).take() };
            batch.head = batch.head.wrapping_add(1);
            each(message);
        }
        count
    }

    /// How many messages are certainly there. The producer may have added more by the time this returns.
    pub fn len(&mut self) -> usize {
        self.look()
    }

    /// Whether no message was there.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// How many messages the queue holds at most.
    pub const fn capacity(&self) -> usize {
        N
    }

    #[inline(always)]
    fn release(&mut self, head: usize) {
        self.head = head;
        // Release: pairs with the producer's Acquire load, so that it fills the slots after they were emptied.
        self.queue.head.store(head, Ordering::Release);
    }

    /// Looks how far the producer is; returns how many messages are there.
    #[inline(always)]
    fn look(&mut self) -> usize {
        // Acquire: pairs with the producer's Release store behind the messages.
        self.there_to = self.queue.tail.load(Ordering::Acquire);
        self.there_to.wrapping_sub(self.head)
    }
}

/// A batch on its way out; its slots are given back also when whoever takes the messages panics.
struct Popped<'c, 'a, T, const N: usize> {
    consumer: &'c mut Consumer<'a, T, N>,
    head: usize,
}

impl<T, const N: usize> Drop for Popped<'_, '_, T, N> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.head != self.consumer.head {
            self.consumer.release(self.head);
        }
    }
}
