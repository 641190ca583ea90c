//! Against a `VecDeque` of byte strings, with counters that start just below where they wrap; and with an end that stores
//! whatever it likes.

extern crate std;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::core::rounds::rounds;

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    /// A grant of so many, of which so many are committed.
    Grant(usize, usize),
    /// A grant that is dropped.
    Leave(usize),
    Pop,
    /// Into so few bytes.
    PopInto(usize),
    Read,
    /// Read, and left there.
    Look,
    Batch(usize),
    Mark,
    Skip,
    /// Taken, and not given back.
    Take,
    GiveBack,
}

fn op() -> impl Strategy<Value = Op> {
    let len = 0..80usize;
    prop_oneof![
        4 => len.clone().prop_map(Op::Push),
        2 => (len.clone(), len.clone()).prop_map(|(len, commit)| Op::Grant(len, commit.min(len))),
        1 => len.clone().prop_map(Op::Leave),
        2 => Just(Op::Pop),
        1 => len.prop_map(Op::PopInto),
        2 => Just(Op::Read),
        1 => Just(Op::Look),
        1 => (0..4usize).prop_map(Op::Batch),
        1 => Just(Op::Mark),
        1 => Just(Op::Skip),
        2 => Just(Op::Take),
        1 => Just(Op::GiveBack),
    ]
}

fn behaves_like_a_deque<const WORDS: usize>(start: u64, ops: &[Op]) {
    let ring = Ring::<WORDS>::starting_at(start);
    let (mut producer, mut consumer) = ring.split().unwrap();
    assert!(ring.split().is_none());
    // What is there, a mark as `None`; and what was taken and not given back.
    let mut model: VecDeque<Option<Vec<u8>>> = VecDeque::new();
    let mut held: Vec<Option<Vec<u8>>> = Vec::new();
    let mut given_back = consumer.head;
    let max = producer.max_len();
    let mut next = 0u8;
    let mut fresh = |len: usize| -> Vec<u8> {
        next = next.wrapping_add(1);
        (0..len).map(|at| next.wrapping_mul(31).wrapping_add(at as u8)).collect()
    };
    for op in ops {
        match *op {
            Op::Push(len) | Op::Grant(len, _) | Op::Leave(len) => {
                let record = fresh(len);
                let outcome = match *op {
                    Op::Grant(_, commit) => producer.grant(len).map(|mut grant| {
                        assert_eq!(grant.len(), len);
                        grant.copy_from_slice(&record);
                        grant.commit(commit);
                        Some(commit)
                    }),
                    Op::Leave(_) => producer.grant(len).map(|mut grant| {
                        grant.fill(0xEE);
                        None
                    }),
                    _ => producer.push(&record).map(|()| Some(len)),
                };
                match outcome {
                    Ok(len) => model.extend(len.map(|len| Some(record[..len].to_vec()))),
                    Err(WriteError::TooLarge { len: its, max: most }) => {
                        assert_eq!((its, most), (len, max));
                        assert!(len > max);
                    }
                    Err(WriteError::Full) => {
                        assert!(
                            len <= max && !(model.is_empty() && held.is_empty()),
                            "an empty ring has room for each record"
                        );
                        // In what is free, in one piece or two, there is none for the record and the word behind it.
                        let free = WORDS - (producer.tail.wrapping_sub(given_back)) as usize;
                        let pieces = if producer.at + free <= WORDS {
                            [free, 0]
                        } else {
                            [WORDS - producer.at, free - (WORDS - producer.at)]
                        };
                        let needed = size::<Native>(len);
                        assert!(pieces[0] < needed || free == needed, "{pieces:?} are free, {needed} needed");
                        assert!(pieces[1] < needed + 1, "{pieces:?} are free, {needed} and 1 needed");
                    }
                    Err(WriteError::Corrupt) => panic!("within one program"),
                }
            }
            Op::Pop | Op::Take => {
                let mut record = [0; 128];
                let taken = match op {
                    Op::Take => consumer.take(&mut record),
                    _ => consumer.pop(&mut record),
                };
                let expected = model.front().map(Option::as_deref);
                match taken {
                    Ok(len) => {
                        assert_eq!(Some(Some(&record[..len])), expected);
                        held.extend(model.pop_front());
                        if matches!(op, Op::Pop) {
                            held.clear();
                        }
                    }
                    Err(ReadError::Mark) => assert_eq!(expected, Some(None)),
                    Err(error) => assert_eq!((error, expected), (ReadError::Empty, None)),
                }
            }
            Op::PopInto(room) => {
                let mut record = [0; 128];
                let expected = match model.front() {
                    None => Err(ReadError::Empty),
                    Some(None) => Err(ReadError::Mark),
                    Some(Some(record)) if record.len() > room => Err(ReadError::TooLong { len: record.len() }),
                    Some(Some(record)) => Ok(record.len()),
                };
                assert_eq!(consumer.pop(&mut record[..room]), expected);
                if let Ok(len) = expected {
                    assert_eq!(Some(&record[..len]), model.pop_front().unwrap().as_deref());
                    held.clear();
                }
            }
            Op::Read | Op::Look => match consumer.read() {
                Ok(record) => {
                    assert_eq!(Some(Some(&*record)), model.front().map(Option::as_deref));
                    assert!(record.as_ptr().cast::<Native>().is_aligned());
                    if matches!(op, Op::Read) {
                        record.release();
                        model.pop_front();
                        held.clear();
                    }
                }
                Err(ReadError::Mark) => assert_eq!(model.front(), Some(&None)),
                Err(error) => assert_eq!((error, model.len()), (ReadError::Empty, 0)),
            },
            Op::Batch(limit) => {
                let count = model.iter().take(limit).take_while(|item| item.is_some()).count();
                let mut seen = Vec::new();
                assert_eq!(consumer.read_batch(limit, |record| seen.push(Some(record.to_vec()))), Ok(count));
                assert_eq!(seen, model.drain(..count).collect::<Vec<_>>());
                if count > 0 {
                    held.clear();
                }
            }
            Op::Mark => match producer.mark() {
                Ok(()) => model.push_back(None),
                Err(error) => assert_eq!(error, WriteError::Full),
            },
            Op::Skip => {
                let expected = model.pop_front();
                match consumer.skip() {
                    Ok(len) => {
                        assert_eq!(Some(len), expected.map(|item| item.map_or(0, |record| record.len())));
                        held.clear();
                    }
                    Err(error) => assert_eq!((error, expected), (ReadError::Empty, None)),
                }
            }
            Op::GiveBack => {
                consumer.give_back();
                held.clear();
            }
        }
        if held.is_empty() {
            given_back = consumer.head;
        }
        let used: usize =
            held.iter().chain(&model).map(|item| item.as_ref().map_or(1, |record| size::<Native>(record.len()))).sum();
        assert!(producer.room().unwrap() <= (WORDS - 1 - used) * Native::BYTES);
    }
    let mut remainder = producer.take_back().unwrap();
    for item in held.iter().chain(&model) {
        let mut record = [0; 128];
        match item {
            Some(expected) => {
                let len = remainder.take(&mut record).unwrap();
                assert_eq!(&record[..len], &expected[..]);
            }
            None => {
                assert_eq!(remainder.take(&mut record), Err(ReadError::Mark));
                remainder.skip().unwrap();
            }
        }
    }
    assert_eq!(remainder.take(&mut []), Err(ReadError::Empty));
}

proptest! {
    #![proptest_config(rounds(2000))]

    #[test]
    fn it_behaves_like_a_deque(below in 0..200u64, ops in proptest::collection::vec(op(), 0..120)) {
        let start = 0u64.wrapping_sub(below);
        behaves_like_a_deque::<8>(start, &ops);
        behaves_like_a_deque::<13>(start, &ops);
        behaves_like_a_deque::<32>(Native::truncate(start), &ops);
    }

    /// A ring in which all words are whatever a peer may have stored.
    #[test]
    fn whatever_the_other_end_stores_no_call_leaves_the_ring(
        words in proptest::collection::vec(
            prop_oneof![Just(0u64), Just(SKIP), Just(MARK), any::<u64>(), (0..40u64).prop_map(|len| len << 1 | RECORD)], 16),
        heads in proptest::collection::vec(any::<u64>(), 1..20),
    ) {
        let ring = Ring::<16>::new();
        let (mut producer, mut consumer) = ring.split().unwrap();
        for head in heads {
            for (word, value) in ring.words.iter().zip(&words) {
                Word::store(word, *value, Ordering::Relaxed);
            }
            Word::store(&*ring.head, head, Ordering::Relaxed);
            let mut copy = [0; 256];
            for _ in 0..20 {
                let _ = producer.push(&copy[..(head % 70) as usize]);
                let _ = producer.grant((head >> 8) as usize % 70).map(|grant| grant.iter().map(|&byte| u32::from(byte)).sum::<u32>());
                let _ = consumer.pop(&mut copy);
                let max = consumer.max_len();
                let _ = consumer.skip().map(|len| assert!(len <= max));
                let _ = consumer.read().map(|record| { assert!(record.len() <= max); record.release() });
                let _ = consumer.read_batch(3, |record| assert!(record.len() <= max));
                let _ = producer.mark();
                let _ = consumer.take(&mut copy);
                let _ = consumer.pass_by();
            }
        }
        // The other end gave back up to somewhere in the middle of a record.
        let mut copy = [0; 256];
        if let Ok(mut remainder) = producer.take_back() {
            for _ in 0..20 {
                let _ = remainder.take(&mut copy[..100]);
                let _ = remainder.skip();
            }
        }
    }
}

#[test]
fn a_peer_that_gives_back_what_it_never_had_is_found_out() {
    let ring = Ring::<16>::new();
    let (mut producer, _consumer) = ring.split().unwrap();
    producer.push(&[1; 8]).unwrap();
    for head in [1000, Native::truncate(u64::MAX)] {
        Word::store(&*ring.head, head, Ordering::Relaxed);
        assert_eq!(producer.room(), Err(WriteError::Corrupt));
    }
}

#[test]
fn a_panic_in_the_middle_of_a_batch_loses_and_repeats_nothing() {
    let ring = Ring::<32>::new();
    let (mut producer, mut consumer) = ring.split().unwrap();
    (0..5u8).for_each(|number| producer.push(&[number]).unwrap());
    let end = catch_unwind(AssertUnwindSafe(|| consumer.read_batch(9, |record| assert_ne!(record, [2], "on purpose"))));
    assert!(end.is_err());
    assert_eq!(&*consumer.read().unwrap(), [3]);
}

#[test]
fn records_go_through_in_order_and_whole_while_both_ends_run() {
    let ring = Ring::<64>::starting_at(Native::truncate(u64::MAX) - 20);
    let (mut producer, mut consumer) = ring.split().unwrap();
    const COUNT: usize = 20_000;
    let len = |number: usize| number % 97;
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for number in 0..COUNT {
                loop {
                    let pushed = if number % 2 == 0 {
                        producer.push(&[number as u8; 97][..len(number)])
                    } else {
                        producer.grant(97).map(|mut grant| {
                            grant.fill(number as u8);
                            grant.commit(len(number));
                        })
                    };
                    match pushed {
                        Ok(()) => break,
                        Err(error) => assert_eq!(error, WriteError::Full),
                    }
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < COUNT {
            let before = next;
            let mut take = |record: &[u8]| {
                assert_eq!(record, &[next as u8; 97][..len(next)]);
                next += 1;
            };
            let mut copy = [0; 97];
            match before % 3 {
                0 => consumer.pop(&mut copy).map(|len| take(&copy[..len])).unwrap_or(()),
                1 => drop(consumer.read_batch(3, take).unwrap()),
                _ => {
                    if let Ok(record) = consumer.read() {
                        take(&record);
                        record.release();
                    }
                }
            }
            if next == before {
                std::thread::yield_now();
            }
        }
    });
}
