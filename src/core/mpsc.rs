//! A bounded queue from many producers to one consumer.
//!
//! Vyukov's bounded queue, with the consumer's half made cheaper by there being only one: it needs no read-modify-write.
//! Each slot carries a stamp that says whose turn it is, so producers that meet contend for one word and for nothing else.
//!
//! Messages of one producer arrive in its order. **A producer that is stopped in the middle of a push holds up what was
//! pushed behind it** (by others, too) until it goes on: the queue is not lock-free in the strict sense. So let no interrupt
//! handler wait for a message, and don't kill a producer. Nothing is ever lost for it: full is an answer, and the message
//! comes back with it.

use super::atomic::{AtomicUsize, CachePadded, Ordering, rmw};
use super::cells::{Slot, const_fn};
use super::once::Once;

#[cfg(all(test, not(loom)))]
mod tests;

/// A queue of up to `N` messages, a power of two and at least 2.
///
/// ```
/// use conduit::mpsc::Queue;
///
/// static EVENTS: Queue<u32, 64> = Queue::new();
///
/// let (producer, mut consumer) = EVENTS.split().expect("nobody else split it");
/// std::thread::scope(|threads| {
///     for number in 1..=2 {
///         threads.spawn(move || producer.push(number).expect("there is room for 64"));
///     }
/// });
/// let mut sum = 0;
/// assert_eq!(consumer.pop_batch(64, |number| sum += number), 2);
/// assert_eq!(sum, 3);
/// ```
#[derive(Debug)]
pub struct Queue<T, const N: usize> {
    /// The number of the next message to be pushed. Exchanged by producers for one more, which claims the slot (Relaxed:
    /// the stamps say what is in a slot).
    tail: CachePadded<rmw::AtomicUsize>,
    /// How many messages were ever taken: stored by the consumer, for those who ask how full it is. Relaxed.
    head: CachePadded<AtomicUsize>,
    cells: [Cell<T>; N],
    once: Once,
}

#[derive(Debug)]
struct Cell<T> {
    /// For message `n` in slot `n % N`: `n`, the slot is free for it; `n + 1`, it is there. Stored by the producer that
    /// claimed `n` (`n + 1`, Release) and by the consumer (`n + N`, Release); each loads it (Acquire) before it touches the
    /// slot.
    stamp: AtomicUsize,
    slot: Slot<T>,
}

impl<T, const N: usize> Queue<T, N> {
    const MASK: usize = {
        assert!(
            N.is_power_of_two() && N >= 2 && N <= usize::MAX / 4,
            "the capacity of a queue is a power of two from 2"
        );
        N - 1
    };

    const_fn! {
        /// An empty queue.
        pub fn new() -> Self {
            Self::starting_at(0)
        }
    }

    /// An empty queue that counts its messages from `start`: for tests that want the counters to wrap soon.
    #[cfg(not(loom))]
    pub const fn starting_at(start: usize) -> Self {
        let mut cells = [const { Cell { stamp: AtomicUsize::new(0), slot: Slot::new() } }; N];
        let mut at = 0;
        while at < N {
            let number = start.wrapping_add(at);
            cells[number & Self::MASK].stamp = AtomicUsize::new(number);
            at += 1;
        }
        Self::of(cells, start)
    }

    /// As for the others, with the model checker's atomics, which are no constants.
    #[cfg(loom)]
    pub fn starting_at(start: usize) -> Self {
        let number = |at: usize| start.wrapping_add(at.wrapping_sub(start) & Self::MASK);
        let cell = |at| Cell { stamp: AtomicUsize::new(number(at)), slot: Slot::new() };
        Self::of(::core::array::from_fn(cell), start)
    }

    const_fn! {
        fn of(cells: [Cell<T>; N], start: usize) -> Self {
            Queue {
                tail: CachePadded(rmw::AtomicUsize::new(start)),
                head: CachePadded(AtomicUsize::new(start)),
                cells,
                once: Once::new(),
            }
        }
    }

    /// A producer, which may be copied, and the consumer. `None` if the queue was split before.
    pub fn split(&self) -> Option<(Producer<'_, T, N>, Consumer<'_, T, N>)> {
        self.once.take().then(|| (Producer(self), Consumer { queue: self, head: self.head.load(Ordering::Relaxed) }))
    }

    #[inline(always)]
    fn cell(&self, number: usize) -> &Cell<T> {
        &self.cells[number & Self::MASK]
    }

    /// How many messages are in it or on their way into it, as far as can be told while others push and pop.
    fn len(&self) -> usize {
        let head = self.head.load(Ordering::Relaxed);
        let between = self.tail.load(Ordering::Relaxed).wrapping_sub(head);
        // Nothing orders the two loads, so the head may be newer than the tail, and past it.
        if between as isize > 0 { between.min(N) } else { 0 }
    }
}

impl<T, const N: usize> Default for Queue<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Drop for Queue<T, N> {
    fn drop(&mut self) {
        let mut head = self.head.load(Ordering::Relaxed);
        while self.cell(head).stamp.load(Ordering::Relaxed) == head.wrapping_add(1) {
            // SAFETY: nobody else has the queue, and the stamp says that the message is there.
            drop(unsafe { self.cell(head).slot.take() });
            head = head.wrapping_add(1);
        }
    }
}

/// An end that messages go into.
#[derive(Debug)]
pub struct Producer<'a, T, const N: usize>(&'a Queue<T, N>);

impl<T, const N: usize> Clone for Producer<'_, T, N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, const N: usize> Copy for Producer<'_, T, N> {}

impl<T, const N: usize> Producer<'_, T, N> {
    /// Puts a message at the end.
    ///
    /// # Errors
    ///
    /// Full: the message comes back.
    #[inline]
    pub fn push(&self, message: T) -> Result<(), T> {
        let queue = self.0;
        let mut tail = queue.tail.load(Ordering::Relaxed);
        loop {
            let cell = queue.cell(tail);
            // Acquire: pairs with the consumer's Release store: it is done with the slot.
            let stamp = cell.stamp.load(Ordering::Acquire);
            if stamp == tail {
                // Relaxed: who claims a number gets nothing but the number by it.
                match queue.tail.compare_exchange_weak(tail, tail.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
                {
                    Ok(_) => {
                        // SAFETY: this number is claimed once, and the stamp said that its slot is empty.
                        unsafe { cell.slot.put(message) };
                        // Release: pairs with the consumer's Acquire load, so that it finds the message.
                        cell.stamp.store(tail.wrapping_add(1), Ordering::Release);
                        return Ok(());
                    }
                    Err(now) => tail = now,
                }
            } else {
                // Behind: the slot still has the message of a lap ago. Ahead: somebody else claimed this number.
                let now = queue.tail.load(Ordering::Relaxed);
                if (stamp.wrapping_sub(tail) as isize) < 0 && now == tail {
                    return Err(message);
                }
                tail = now;
            }
        }
    }

    /// How many messages the queue holds or is about to, as far as can be told while others push and pop.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many messages were ever pushed, or are about to be, modulo the word.
    pub(crate) fn pushed(&self) -> usize {
        self.0.tail.load(Ordering::Relaxed)
    }

    /// How many messages were ever taken, modulo the word.
    pub(crate) fn taken(&self) -> usize {
        self.0.head.load(Ordering::Relaxed)
    }

    /// Whether none was there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages the queue holds at most.
    pub const fn capacity(&self) -> usize {
        N
    }
}

/// The end that messages come out of.
#[derive(Debug)]
pub struct Consumer<'a, T, const N: usize> {
    queue: &'a Queue<T, N>,
    /// The number of the next message: `Queue::head`, which nobody else stores.
    head: usize,
}

impl<T, const N: usize> Consumer<'_, T, N> {
    /// Takes the oldest message. `None` if there is none, or its producer has not finished pushing it.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let message = take(self.queue, self.head)?;
        self.head = self.head.wrapping_add(1);
        self.queue.head.store(self.head, Ordering::Relaxed);
        Some(message)
    }

    /// Takes up to `limit` messages, oldest first; returns how many there were.
    #[inline]
    pub fn pop_batch(&mut self, limit: usize, mut each: impl FnMut(T)) -> usize {
        let mut batch = Popped { head: self.head, consumer: self };
        let before = batch.head;
        while batch.head.wrapping_sub(before) < limit {
            let Some(message) = take(batch.consumer.queue, batch.head) else { break };
            batch.head = batch.head.wrapping_add(1);
            each(message);
        }
        batch.head.wrapping_sub(before)
    }

    /// How many messages the queue holds or is about to, as far as can be told while others push.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none was there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages the queue holds at most.
    pub const fn capacity(&self) -> usize {
        N
    }
}

/// Takes message `number`, the next one, if it is there, and gives its slot back.
#[inline(always)]
fn take<T, const N: usize>(queue: &Queue<T, N>, number: usize) -> Option<T> {
    let cell = queue.cell(number);
    // Acquire: pairs with the Release store of its producer.
    if cell.stamp.load(Ordering::Acquire) != number.wrapping_add(1) {
        return None;
    }
    // SAFETY: the message is there, and only the one consumer, which asks for each number once, takes any.
    let message = unsafe { cell.slot.take() };
    // Release: pairs with the Acquire load of the producer that uses the slot next.
    cell.stamp.store(number.wrapping_add(N), Ordering::Release);
    Some(message)
}

/// A batch on its way out; what was taken is known also when whoever gets the messages panics.
struct Popped<'c, 'a, T, const N: usize> {
    consumer: &'c mut Consumer<'a, T, N>,
    head: usize,
}

impl<T, const N: usize> Drop for Popped<'_, '_, T, N> {
    #[inline(always)]
    fn drop(&mut self) {
        self.consumer.head = self.head;
        self.consumer.queue.head.store(self.head, Ordering::Relaxed);
    }
}
