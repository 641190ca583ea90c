//! Against a `VecDeque`, with counters that start just below where they wrap.

extern crate std;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::vec::Vec;

use proptest::prelude::*;

use super::Queue;
use crate::core::rounds::rounds;

fn behaves_like_a_deque<const N: usize>(start: usize, ops: &[Option<usize>]) {
    let queue = Queue::<usize, N>::starting_at(start);
    let (producer, mut consumer) = queue.split().unwrap();
    let other = producer;
    let mut model = VecDeque::new();
    for (number, op) in ops.iter().enumerate() {
        match *op {
            None => {
                let fits = model.len() < N;
                let from = if number % 2 == 0 { producer } else { other };
                assert_eq!(from.push(number), if fits { Ok(()) } else { Err(number) });
                model.extend(fits.then_some(number));
            }
            Some(1) => assert_eq!(consumer.pop(), model.pop_front()),
            Some(limit) => {
                let mut messages = Vec::new();
                let count = consumer.pop_batch(limit, |message| messages.push(message));
                assert_eq!(count, limit.min(model.len()));
                assert_eq!(messages, model.drain(..count).collect::<Vec<_>>());
            }
        }
        assert_eq!((producer.len(), consumer.len()), (model.len(), model.len()));
        assert_eq!((producer.is_empty(), consumer.is_empty()), (model.is_empty(), model.is_empty()));
    }
}

proptest! {
    #![proptest_config(rounds(2000))]

    #[test]
    fn it_behaves_like_a_deque(below in 0..20usize, ops in proptest::collection::vec(proptest::option::of(0..6usize), 0..80)) {
        let start = 0usize.wrapping_sub(below);
        behaves_like_a_deque::<2>(start, &ops);
        behaves_like_a_deque::<8>(start, &ops);
    }
}

#[test]
fn what_is_left_in_a_queue_is_dropped_with_it_and_once() {
    let message = Arc::new(());
    let queue = Queue::<Arc<()>, 4>::starting_at(usize::MAX - 1);
    let (producer, mut consumer) = queue.split().unwrap();
    assert!(queue.split().is_none());
    for _ in 0..4 {
        producer.push(message.clone()).unwrap();
    }
    drop(producer.push(message.clone()).unwrap_err());
    drop(consumer.pop());
    assert_eq!(Arc::strong_count(&message), 4);
    drop(queue);
    assert_eq!(Arc::strong_count(&message), 1);
}

#[test]
fn a_panic_in_the_middle_of_a_batch_loses_and_repeats_nothing() {
    let queue = Queue::<usize, 8>::new();
    let (producer, mut consumer) = queue.split().unwrap();
    (0..5).for_each(|n| producer.push(n).unwrap());
    let end = catch_unwind(AssertUnwindSafe(|| consumer.pop_batch(8, |n| assert!(n != 2, "on purpose"))));
    assert!(end.is_err());
    assert_eq!((consumer.len(), consumer.pop()), (2, Some(3)));
}

#[test]
fn messages_of_each_producer_arrive_once_and_in_its_order() {
    const COUNT: usize = 10_000;
    let queue = Queue::<(usize, usize), 8>::starting_at(usize::MAX - 3);
    let (producer, mut consumer) = queue.split().unwrap();
    std::thread::scope(|threads| {
        for who in 0..3 {
            threads.spawn(move || {
                for number in 0..COUNT {
                    while producer.push((who, number)).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut next = [0; 3];
        while next != [COUNT; 3] {
            let took = consumer.pop_batch(5, |(who, number)| {
                assert_eq!(number, next[who]);
                next[who] += 1;
            });
            if took == 0 {
                std::thread::yield_now();
            }
        }
    });
}
