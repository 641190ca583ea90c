//! Queues of one producer, and of many.

use std::hint::black_box;

use conduit::{mpsc, spsc};

use crate::{BATCH, ROUNDS, counted};

type OneToOne = spsc::Queue<u64, 128>;
type ManyToOne = mpsc::Queue<u64, 128>;

counted! {
    fn spsc_push(producer: &mut spsc::Producer<'static, u64, 128>, message: u64) -> bool {
        producer.push(message).is_ok()
    }
    fn spsc_pop(consumer: &mut spsc::Consumer<'static, u64, 128>) -> Option<u64> {
        consumer.pop()
    }
    fn spsc_push_slice_64(producer: &mut spsc::Producer<'static, u64, 128>, messages: &[u64; BATCH]) -> usize {
        producer.push_slice(messages)
    }
    fn spsc_pop_batch_64(consumer: &mut spsc::Consumer<'static, u64, 128>) -> u64 {
        let mut sum = 0;
        consumer.pop_batch(BATCH, |message| sum ^= message);
        sum
    }
    fn mpsc_push(producer: &mpsc::Producer<'static, u64, 128>, message: u64) -> bool {
        producer.push(message).is_ok()
    }
    fn mpsc_pop(consumer: &mut mpsc::Consumer<'static, u64, 128>) -> Option<u64> {
        consumer.pop()
    }
    fn mpsc_pop_batch_64(consumer: &mut mpsc::Consumer<'static, u64, 128>) -> u64 {
        let mut sum = 0;
        consumer.pop_batch(BATCH, |message| sum ^= message);
        sum
    }
}

pub fn spsc() {
    static QUEUE: OneToOne = OneToOne::new();
    let (mut producer, mut consumer) = QUEUE.split().expect("not split yet");
    for round in 0..ROUNDS {
        for message in 0..BATCH as u64 {
            assert!(spsc_push(&mut producer, black_box(message)));
        }
        for message in 0..BATCH as u64 {
            assert_eq!(spsc_pop(&mut consumer), Some(message));
        }
        assert_eq!(spsc_push_slice_64(&mut producer, black_box(&[round; BATCH])), BATCH);
        black_box(spsc_pop_batch_64(&mut consumer));
    }
}

pub fn mpsc() {
    static QUEUE: ManyToOne = ManyToOne::new();
    let (producer, mut consumer) = QUEUE.split().expect("not split yet");
    for _ in 0..ROUNDS {
        for message in 0..BATCH as u64 {
            assert!(mpsc_push(&producer, black_box(message)));
        }
        for message in 0..BATCH as u64 {
            assert_eq!(mpsc_pop(&mut consumer), Some(message));
        }
        for message in 0..BATCH as u64 {
            assert!(mpsc_push(&producer, black_box(message)));
        }
        black_box(mpsc_pop_batch_64(&mut consumer));
    }
}
