//! The ring of records, of 64 bytes: copied in and out, and made and read where they are.

use std::hint::black_box;

use conduit::records::{Consumer, Producer, Ring};

use crate::{BATCH, ROUNDS, counted};

type Records = Ring<1024>;

counted! {
    fn records_push_64(producer: &mut Producer<&'static Records>, record: &[u8]) -> bool {
        producer.push(record).is_ok()
    }
    fn records_pop_64(consumer: &mut Consumer<&'static Records>, into: &mut [u8]) -> usize {
        consumer.pop(into).unwrap_or(0)
    }
    fn records_grant_and_commit_64(producer: &mut Producer<&'static Records>, number: u64) -> bool {
        producer.grant(64).map(|mut grant| {
            grant[..8].copy_from_slice(&number.to_ne_bytes());
            grant.commit(64);
        }).is_ok()
    }
    fn records_read_and_release(consumer: &mut Consumer<&'static Records>) -> u64 {
        consumer.read().map_or(0, |record| {
            let number = record.first_chunk().map_or(0, |first| u64::from_ne_bytes(*first));
            record.release();
            number
        })
    }
}

pub fn run() {
    static RING: Records = Ring::new();
    let (mut producer, mut consumer) = RING.split().expect("not split yet");
    let mut into = [0; 64];
    for _ in 0..ROUNDS {
        for number in 0..BATCH as u8 {
            assert!(records_push_64(&mut producer, &black_box([number; 64])));
        }
        for number in 0..BATCH as u8 {
            assert_eq!(records_pop_64(&mut consumer, black_box(&mut into)), 64);
            assert_eq!(into, [number; 64]);
        }
        for number in 0..BATCH as u64 {
            assert!(records_grant_and_commit_64(&mut producer, black_box(number)));
        }
        for number in 0..BATCH as u64 {
            assert_eq!(records_read_and_release(&mut consumer), number);
        }
    }
}
