//! The queue from many producers to one consumer. A slot fails the model when two threads are in it at a time.

use std::sync::Arc;

use loom::thread;

use crate::core::atomic::{AtomicUsize, Ordering};
use crate::core::mpsc::Queue;
use crate::model;

/// A word that each thread changes before each of its operations. The model checker remembers only the last access to an
/// atomic: a producer's own look at a stamp makes it forget that the consumer looked before, and so it would not try the
/// one before the other. Relaxed, so that it orders nothing.
#[derive(Clone)]
struct Turn(Arc<AtomicUsize>);

impl Turn {
    fn new() -> Self {
        Turn(Arc::new(AtomicUsize::new(0)))
    }

    fn take(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Producers that push up to `each` message at the same time, beside a consumer that makes `attempts` to take `batch`.
fn race<const N: usize>(producers: usize, each: usize, attempts: usize, batch: usize) {
    model(producers + 1, move || {
        // Leaked for the threads' sake, and freed below: the model checker looks for what is left.
        let queue: &'static Queue<Box<(usize, usize)>, N> = Box::leak(Box::new(Queue::starting_at(usize::MAX)));
        let (producer, mut consumer) = queue.split().unwrap();
        let turn = Turn::new();
        let pushing: Vec<_> = (0..producers)
            .map(|who| {
                let turn = turn.clone();
                thread::spawn(move || {
                    let push = |&number: &usize| {
                        turn.take();
                        producer.push(Box::new((who, number))).is_ok()
                    };
                    // Full, it is full for good, as far as this model goes.
                    (0..each).take_while(push).count()
                })
            })
            .collect();
        let mut received = vec![0; producers];
        let mut take = |message: Box<(usize, usize)>| {
            let (who, number) = *message;
            assert_eq!(number, received[who], "in order, and once");
            received[who] += 1;
        };
        for _ in 0..attempts {
            turn.take();
            consumer.pop_batch(batch, &mut take);
        }
        let pushed: Vec<_> = pushing.into_iter().map(|thread| thread.join().unwrap()).collect();
        while let Some(message) = consumer.pop() {
            take(message);
        }
        assert_eq!(received, pushed);
        assert!(consumer.is_empty());
        // SAFETY: all ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(queue).cast_mut()) });
    });
}

#[test]
fn messages_of_one_producer_arrive_in_its_order() {
    race::<2>(1, 3, 3, 1);
    race::<2>(1, 3, 2, 2);
}

#[test]
fn messages_of_two_producers_arrive_once_each() {
    race::<2>(2, 1, 1, 1);
    race::<2>(2, 2, 1, 2);
}

#[test]
fn a_full_queue_takes_nothing_and_has_room_again_for_what_was_taken() {
    model(2, || {
        let queue: &'static Queue<usize, 2> = Box::leak(Box::new(Queue::new()));
        let (producer, mut consumer) = queue.split().unwrap();
        (0..2).for_each(|number| producer.push(number).unwrap());
        let turn = Turn::new();
        let its = turn.clone();
        let pushing = thread::spawn(move || {
            its.take();
            producer.push(2)
        });
        turn.take();
        let first = consumer.pop();
        let pushed = pushing.join().unwrap();
        assert_eq!((first, consumer.pop()), (Some(0), Some(1)));
        assert_eq!(consumer.pop(), pushed.is_ok().then_some(2));
        (0..2).for_each(|number| producer.push(number).expect("two slots are free again"));
        // SAFETY: both ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(queue).cast_mut()) });
    });
}

#[test]
fn nobody_is_told_of_more_than_there_was() {
    model(2, || {
        let queue: &'static Queue<usize, 2> = Box::leak(Box::new(Queue::new()));
        let (producer, mut consumer) = queue.split().unwrap();
        let moving = thread::spawn(move || {
            producer.push(0).unwrap();
            assert_eq!(consumer.pop(), Some(0));
        });
        assert!(producer.len() <= 1);
        moving.join().unwrap();
        assert!(producer.is_empty());
        // SAFETY: both ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(queue).cast_mut()) });
    });
}
