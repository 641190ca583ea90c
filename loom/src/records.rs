//! The ring of records. Its words are the model checker's atomics, so a record that is read before it is there is another one
//! than was pushed; and each word has a guard that fails the model when both ends are in it at a time.

use loom::thread;

use crate::core::records::{Consumer, Producer, ReadError, Ring, WriteError};
use crate::model;

/// Eight words: at most two records of one word at a time, or one of two.
type Small = Ring<8>;

/// A record of so many words that tells it from others in each of them.
fn record(number: u8, words: usize) -> Vec<u8> {
    (0..words * 8).map(|at| number * 16 + at as u8 / 8 + 1).collect()
}

/// A thread pushes records of so many words; the caller takes them at the same time.
fn race(lens: &'static [usize], attempts: usize, first: usize) {
    model(2, move || {
        // Leaked for the threads' sake, and freed below: the model checker looks for what is left.
        let ring: &'static Small = Box::leak(Box::new(Ring::starting_at(u64::MAX - 1)));
        let (mut producer, mut consumer) = ring.split().unwrap();
        // Moves both ends on, so that the records begin elsewhere in the ring.
        for _ in 0..first {
            producer.push(&record(9, 1)).unwrap();
            assert_eq!(take(&mut consumer), Some(record(9, 1)));
        }
        let push = move |producer: &mut Producer<&Small>, number: usize| match producer
            .push(&record(number as u8, lens[number]))
        {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error, WriteError::Full);
                false
            }
        };
        // Full, it is full for good, as far as this model goes.
        let pushing = thread::spawn(move || (0..lens.len()).take_while(|&number| push(&mut producer, number)).count());
        let mut taken = Vec::new();
        for _ in 0..attempts {
            taken.extend(take(&mut consumer));
        }
        let pushed = pushing.join().unwrap();
        while let Some(record) = take(&mut consumer) {
            taken.push(record);
        }
        let all: Vec<_> = (0..pushed).map(|number| record(number as u8, lens[number])).collect();
        assert_eq!(taken, all);
        // SAFETY: both ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(ring).cast_mut()) });
    });
}

fn take(consumer: &mut Consumer<&Small>) -> Option<Vec<u8>> {
    let mut copy = [0; 64];
    match consumer.pop(&mut copy) {
        Ok(len) => Some(copy[..len].to_vec()),
        Err(error) => {
            assert_eq!(error, ReadError::Empty);
            None
        }
    }
}

#[test]
fn records_arrive_in_order_and_whole() {
    race(&[1, 1, 1], 2, 0);
    race(&[2, 1], 2, 0);
}

#[test]
fn words_are_used_again_only_when_they_were_read() {
    race(&[1, 2, 1, 1], 2, 0);
    race(&[1, 1, 1, 1, 1], 3, 0);
    race(&[1, 2, 2, 1], 2, 0);
    // The word behind the last one is the last of the first.
    race(&[2, 1, 1, 0, 1], 2, 0);
}

#[test]
fn records_arrive_also_where_the_end_of_the_ring_is_left_unused() {
    race(&[1, 1], 2, 3);
    race(&[2, 1], 2, 3);
    race(&[2, 1], 2, 2);
}

/// Records and marks go in; what is taken is kept, and given back together; and then the producer takes back what was not.
#[test]
fn what_was_not_given_back_is_the_producers_to_take() {
    model(2, || {
        let ring: &'static Small = Box::leak(Box::new(Ring::starting_at(u64::MAX - 1)));
        let (mut producer, mut consumer) = ring.split().unwrap();
        let pushing = thread::spawn(move || {
            producer.push(&record(1, 1)).unwrap();
            producer.mark().unwrap();
            producer.push(&record(2, 1)).unwrap();
            // No more than what was given back is used again.
            let again = producer.push(&record(3, 1)).is_ok();
            (producer, again)
        });
        let mut copy = [0; 8];
        let taken = consumer.take(&mut copy);
        let marked = taken.is_ok() && consumer.take(&mut [0; 8]) == Err(ReadError::Mark);
        if taken.is_ok() {
            assert_eq!(copy[..], record(1, 1));
            if marked {
                consumer.pass_by().unwrap();
            }
            consumer.give_back();
        }
        let (producer, again) = pushing.join().unwrap();
        let mut remainder = producer.take_back().unwrap();
        if taken.is_err() {
            remainder.take(&mut copy).unwrap();
            assert_eq!(copy[..], record(1, 1));
        }
        if !marked {
            assert_eq!(remainder.take(&mut copy), Err(ReadError::Mark));
            remainder.skip().unwrap();
        }
        for number in [2, 3].into_iter().take(1 + usize::from(again)) {
            remainder.take(&mut copy).unwrap();
            assert_eq!(copy[..], record(number, 1));
        }
        assert_eq!(remainder.take(&mut copy), Err(ReadError::Empty));
        // SAFETY: both ends are used no more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(ring).cast_mut()) });
    });
}
