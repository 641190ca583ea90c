//! Against a `VecDeque`, with counters that start just below where they wrap.

extern crate std;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::vec::Vec;

use proptest::prelude::*;

use super::Queue;
use crate::core::rounds::rounds;

#[derive(Clone, Debug)]
enum Op {
    Push,
    Batch(usize),
    Slice(usize),
    /// A grant of so many, of which so many are committed.
    Write(usize, usize),
    Pop,
    PopBatch(usize),
    PopSlice(usize),
    /// A grant of so many, of which so many are released.
    Read(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let few = 0..11usize;
    prop_oneof![
        Just(Op::Push),
        few.clone().prop_map(Op::Batch),
        few.clone().prop_map(Op::Slice),
        (few.clone(), few.clone()).prop_map(|(limit, commit)| Op::Write(limit, commit)),
        Just(Op::Pop),
        few.clone().prop_map(Op::PopBatch),
        few.clone().prop_map(Op::PopSlice),
        (few.clone(), few).prop_map(|(limit, release)| Op::Read(limit, release)),
    ]
}

fn behaves_like_a_deque<const N: usize>(start: usize, ops: &[Op]) {
    let queue = Queue::<u32, N>::starting_at(start);
    let (mut producer, mut consumer) = queue.split().unwrap();
    let mut model = VecDeque::new();
    let mut next = 0u32;
    let mut fresh = |count: usize| -> Vec<u32> {
        next += count as u32;
        (next - count as u32..next).collect()
    };
    for op in ops {
        let room = N - model.len();
        match *op {
            Op::Push => {
                let message = fresh(1)[0];
                assert_eq!(producer.push(message), if room > 0 { Ok(()) } else { Err(message) });
                model.extend((room > 0).then_some(message));
            }
            Op::Batch(count) => {
                let messages = fresh(count);
                let mut left = messages.iter().copied();
                let pushed = producer.push_batch(&mut left);
                assert_eq!(pushed, count.min(room));
                assert_eq!(left.len(), count - pushed, "what did not fit was not taken");
                model.extend(&messages[..pushed]);
            }
            Op::Slice(count) => {
                let messages = fresh(count);
                assert_eq!(producer.push_slice(&messages), count.min(room));
                model.extend(&messages[..count.min(room)]);
            }
            Op::Write(limit, commit) => {
                let mut grant = producer.grant(limit);
                assert_eq!((grant.len(), grant.is_empty()), (limit.min(room), limit.min(room) == 0));
                let commit = commit.min(grant.len());
                let messages = fresh(grant.len());
                let (one, other) = grant.slots();
                for (slot, message) in one.iter_mut().chain(other).zip(&messages) {
                    slot.write(*message);
                }
                // SAFETY: all were written.
                unsafe { grant.commit(commit) };
                model.extend(&messages[..commit]);
            }
            Op::Pop => assert_eq!(consumer.pop(), model.pop_front()),
            Op::PopBatch(limit) => {
                let mut messages = Vec::new();
                let count = consumer.pop_batch(limit, |message| messages.push(message));
                assert_eq!(count, limit.min(model.len()));
                assert_eq!(messages, model.drain(..count).collect::<Vec<_>>());
            }
            Op::PopSlice(limit) => {
                let mut messages = [u32::MAX; 16];
                let count = consumer.pop_slice(&mut messages[..limit]);
                assert_eq!(count, limit.min(model.len()));
                assert_eq!(messages[..count], model.drain(..count).collect::<Vec<_>>());
            }
            Op::Read(limit, release) => {
                let mut grant = consumer.grant(limit);
                let count = limit.min(model.len());
                assert_eq!((grant.len(), grant.is_empty()), (count, count == 0));
                let (one, other) = grant.messages();
                assert_eq!([one, other].concat(), model.iter().take(count).copied().collect::<Vec<_>>());
                let (one, other) = grant.messages_mut();
                one.iter_mut().chain(other).for_each(|message| *message |= 1 << 31);
                model.iter_mut().take(count).for_each(|message| *message |= 1 << 31);
                grant.release(release.min(count));
                model.drain(..release.min(count));
            }
        }
        assert_eq!((producer.room(), consumer.len()), (N - model.len(), model.len()));
    }
}

proptest! {
    #![proptest_config(rounds(2000))]

    #[test]
    fn it_behaves_like_a_deque(below in 0..20usize, ops in proptest::collection::vec(op(), 0..60)) {
        let start = 0usize.wrapping_sub(below);
        behaves_like_a_deque::<1>(start, &ops);
        behaves_like_a_deque::<2>(start, &ops);
        behaves_like_a_deque::<8>(start, &ops);
    }
}

#[test]
fn what_is_left_in_a_queue_is_dropped_with_it_and_once() {
    let message = Rc::new(());
    let queue = Queue::<Rc<()>, 8>::starting_at(usize::MAX - 2);
    let (mut producer, mut consumer) = queue.split().unwrap();
    assert_eq!(producer.push_batch((0..20).map(|_| message.clone())), 8);
    assert_eq!(Rc::strong_count(&message), 9);
    drop(consumer.pop());
    assert_eq!(consumer.pop_batch(2, drop), 2);
    assert_eq!(Rc::strong_count(&message), 6);
    consumer.grant(5).release(2);
    let _ = consumer.grant(5);
    assert_eq!((Rc::strong_count(&message), consumer.len()), (4, 3));
    drop(queue);
    assert_eq!(Rc::strong_count(&message), 1);
}

#[test]
fn a_queue_is_split_once() {
    let queue = Queue::<u8, 1>::new();
    assert!(queue.split().is_some());
    assert!(queue.split().is_none());
}

#[test]
fn a_panic_in_the_middle_of_a_batch_loses_and_repeats_nothing() {
    let queue = Queue::<usize, 8>::new();
    let (mut producer, mut consumer) = queue.split().unwrap();
    let messages = (0..8).inspect(|&n| assert!(n != 5, "on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(|| producer.push_batch(messages))).is_err());
    assert_eq!(consumer.len(), 5);
    let mut seen = Vec::new();
    let end = catch_unwind(AssertUnwindSafe(|| {
        consumer.pop_batch(8, |n| {
            seen.push(n);
            assert!(n != 2, "on purpose");
        })
    }));
    assert!(end.is_err());
    assert_eq!((seen, consumer.pop()), (std::vec![0, 1, 2], Some(3)));
}

#[test]
fn a_panic_in_a_destructor_drops_nothing_twice() {
    struct Bomb(#[allow(dead_code, reason = "is counted")] Rc<()>, bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.1, "on purpose");
        }
    }
    let count = Rc::new(());
    let queue = Queue::<Bomb, 4>::new();
    let (mut producer, mut consumer) = queue.split().unwrap();
    producer.push_batch([false, true, false].map(|bomb| Bomb(count.clone(), bomb)));
    assert!(catch_unwind(AssertUnwindSafe(|| consumer.grant(3).release(3))).is_err());
    assert!(consumer.pop().is_none());
    drop(queue);
    assert_eq!(Rc::strong_count(&count), 1);
}

#[test]
fn messages_go_through_in_order_while_both_ends_run() {
    let queue = Queue::<u64, 8>::starting_at(usize::MAX - 3);
    let (mut producer, mut consumer) = queue.split().unwrap();
    const COUNT: u64 = 20_000;
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let mut next = 0;
            while next < COUNT {
                let pushed = match next % 3 {
                    0 => u64::from(producer.push(next).is_ok()),
                    1 => producer.push_batch(next..COUNT.min(next + 5)) as u64,
                    _ => producer.push_slice(&[next, next + 1][..COUNT.min(next + 2).abs_diff(next) as usize]) as u64,
                };
                next += pushed;
                if pushed == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < COUNT {
            let before = next;
            let mut take = |message| {
                assert_eq!(message, next);
                next += 1;
            };
            match before % 3 {
                0 => consumer.pop().into_iter().for_each(take),
                1 => drop(consumer.pop_batch(6, take)),
                _ => {
                    let grant = consumer.grant(6);
                    let (one, other) = grant.messages();
                    one.iter().chain(other).copied().for_each(&mut take);
                    let count = grant.len();
                    grant.release(count);
                }
            }
            if next == before {
                std::thread::yield_now();
            }
        }
    });
}
