//! The ring of records of any length, by each way in and out. Nothing is lost: who finds it full tries again.

use conduit::records::{Consumer, Producer, ReadError, Ring, WriteError};

use crate::queues::met;
use crate::threads::{Patience, rounds, threads};

/// Room for three records or more.
const WORDS: usize = 37;
const LONGEST: usize = 67;

type Its<'r> = &'r Ring<WORDS>;

pub fn run() {
    race("records", push, pop);
    race("records, grants", fill, read);
    race("records, batches", fill, read_batch);
}

/// Fills the beginning of `bytes` with record number `n`; returns its length. Both are functions of the number.
fn record(n: u64, bytes: &mut [u8]) -> usize {
    let len = (n * 31) as usize % (LONGEST + 1);
    for (k, chunk) in (0..).zip(bytes[..len].chunks_mut(8)) {
        chunk.copy_from_slice(&(n * 8 + k).to_ne_bytes()[..chunk.len()]);
    }
    len
}

fn push(producer: &mut Producer<Its<'_>>, n: u64) -> Result<(), WriteError> {
    let mut bytes = [0; LONGEST];
    let len = record(n, &mut bytes);
    producer.push(&bytes[..len])
}

fn fill(producer: &mut Producer<Its<'_>>, n: u64) -> Result<(), WriteError> {
    producer.grant(LONGEST).map(|mut grant| {
        let len = record(n, &mut grant);
        grant.commit(len);
    })
}

fn pop(consumer: &mut Consumer<Its<'_>>, take: &mut dyn FnMut(&[u8])) -> Result<usize, ReadError> {
    let mut bytes = [0; LONGEST];
    consumer.pop(&mut bytes).map(|len| take(&bytes[..len])).map(|()| 1)
}

fn read(consumer: &mut Consumer<Its<'_>>, take: &mut dyn FnMut(&[u8])) -> Result<usize, ReadError> {
    consumer.read().map(|record| {
        take(&record);
        record.release();
        1
    })
}

fn read_batch(consumer: &mut Consumer<Its<'_>>, take: &mut dyn FnMut(&[u8])) -> Result<usize, ReadError> {
    consumer.read_batch(3, take)
}

fn race(
    what: &str,
    push: impl Fn(&mut Producer<Its<'_>>, u64) -> Result<(), WriteError>,
    pop: impl Fn(&mut Consumer<Its<'_>>, &mut dyn FnMut(&[u8])) -> Result<usize, ReadError>,
) {
    let ring = Ring::starting_at(u64::MAX - 7);
    let (mut producer, mut consumer) = ring.split().expect("split once");
    let (mut full, mut empty) = (Patience::default(), Patience::default());
    let mut received = 0;
    threads(&mut [
        &mut || {
            let mut n = 0;
            while n < rounds() {
                let pushed = push(&mut producer, n);
                assert!(matches!(pushed, Ok(()) | Err(WriteError::Full)), "{what}: {pushed:?}");
                n += u64::from(pushed.is_ok());
                full.saw(pushed.is_ok());
            }
        },
        &mut || {
            while received < rounds() {
                let popped = pop(&mut consumer, &mut |record_got| {
                    let mut bytes = [0; LONGEST];
                    let len = record(received, &mut bytes);
                    assert_eq!(record_got, &bytes[..len], "{what}: record {received}");
                    received += 1;
                });
                assert!(matches!(popped, Ok(_) | Err(ReadError::Empty)), "{what}: {popped:?}");
                empty.saw(popped.is_ok_and(|count| count > 0));
            }
        },
    ]);
    assert_eq!(consumer.pop(&mut []), Err(ReadError::Empty), "{what}: there is more than was pushed");
    met(what, received, &full, &empty);
}
