//! The queue from one producer to one consumer. A slot fails the model when both ends are in it at a time.

use std::sync::Arc;

use loom::thread;

use crate::core::spsc::{Consumer, Producer, Queue};
use crate::model;

/// A queue of `N` and a thread that pushes; the caller pops at the same time. All arrive in order, and are there in the
/// end.
fn race<const N: usize>(
    push: fn(&mut Producer<'_, Box<u64>, N>, u64) -> u64,
    pop: fn(&mut Consumer<'_, Box<u64>, N>, &mut Vec<u64>),
    attempts: usize,
) {
    model(2, move || {
        // Leaked for the threads' sake, and freed below: the model checker looks for what is left.
        let queue: &'static Queue<Box<u64>, N> = Box::leak(Box::new(Queue::starting_at(usize::MAX)));
        let (mut producer, mut consumer) = queue.split().unwrap();
        let pushing = thread::spawn(move || {
            let mut next = 0;
            for _ in 0..attempts {
                next += push(&mut producer, next);
            }
            next
        });
        let mut received = Vec::new();
        for _ in 0..attempts {
            pop(&mut consumer, &mut received);
        }
        let pushed = pushing.join().unwrap();
        while let Some(message) = consumer.pop() {
            received.push(*message);
        }
        assert_eq!(received, (0..pushed).collect::<Vec<_>>());
        // SAFETY: both ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(queue).cast_mut()) });
    });
}

fn push<const N: usize>(producer: &mut Producer<'_, Box<u64>, N>, next: u64) -> u64 {
    u64::from(producer.push(Box::new(next)).is_ok())
}

fn pop<const N: usize>(consumer: &mut Consumer<'_, Box<u64>, N>, received: &mut Vec<u64>) {
    received.extend(consumer.pop().map(|message| *message));
}

#[test]
fn messages_go_one_by_one_and_in_order() {
    race::<1>(push, pop, 3);
    race::<2>(push, pop, 3);
}

#[test]
fn messages_go_in_batches_and_in_order() {
    fn push_batch(producer: &mut Producer<'_, Box<u64>, 2>, next: u64) -> u64 {
        producer.push_batch((next..next + 2).map(Box::new)) as u64
    }
    fn pop_batch(consumer: &mut Consumer<'_, Box<u64>, 2>, received: &mut Vec<u64>) {
        consumer.pop_batch(2, |message| received.push(*message));
    }
    race::<2>(push_batch, pop_batch, 2);
    race::<2>(push_batch, pop, 2);
    race::<2>(push, pop_batch, 3);
}

#[test]
fn what_is_left_is_dropped_with_the_queue() {
    model(2, || {
        let message = Arc::new(());
        let queue: &'static Queue<Arc<()>, 2> = Box::leak(Box::new(Queue::new()));
        let (mut producer, mut consumer) = queue.split().unwrap();
        let its = message.clone();
        let pushing = thread::spawn(move || {
            for _ in 0..2 {
                let _ = producer.push(its.clone());
            }
        });
        drop(consumer.pop());
        pushing.join().unwrap();
        // SAFETY: both ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(queue).cast_mut()) });
        assert_eq!(Arc::strong_count(&message), 1);
    });
}
