//! A ring of records both ends of which are used while the fuzzer stores into its words, as a hostile peer would: errors and
//! other records than were pushed, never an access outside the ring, a hang or a record too long. Until the first such store,
//! each call answers as a queue of byte strings would.
#![no_main]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use conduit::records::{Consumer, Memory, Producer, ReadError, WriteError};
use conduit::ring::Word;
use libfuzzer_sys::fuzz_target;

/// Each in an allocation of its own, so that the sanitizer sees what is beside it.
struct Shared<W> {
    head: Box<W>,
    words: Box<[W]>,
}

// SAFETY: words in one place, from 8 to 47 of them; zero, as is `head`, when the ends are made. Others store into them by atomics
// alone, and so do the calls that copy, which are all that is made.
unsafe impl<W: Word> Memory for &Shared<W> {
    type Word = W;
    fn words(&self) -> &[W] {
        &self.words
    }
    fn head(&self) -> &W {
        &self.head
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&shape, steps)) = input.split_first() else { return };
    let words = 8 + usize::from(shape >> 1) % 40;
    if shape & 1 == 0 { run::<AtomicU64>(words, steps) } else { run::<AtomicU32>(words, steps) }
});

fn run<W: Word>(words: usize, steps: &[u8]) {
    let shared = Shared { head: Box::new(W::new(0)), words: (0..words).map(|_| W::new(0)).collect() };
    // SAFETY: the only ones, of a ring that nothing was put into.
    let (mut producer, mut consumer) = unsafe { (Producer::new(&shared), Consumer::new(&shared)) };
    let max = producer.max_len();
    let mut model = Some(VecDeque::new());

    // Each step: what to do, where or how much, and with which value.
    for (number, step) in (0u8..).zip(steps.chunks_exact(6).take(250)) {
        let at = usize::from(step[1]);
        let value = u64::from(u32::from_le_bytes([step[2], step[3], step[4], step[5]]));
        match step[0] % 8 {
            0 | 1 => {
                let record = vec![number; at];
                match (producer.push(&record), &mut model) {
                    (Err(WriteError::TooLarge { len, max: most }), _) => assert!(len == at && at > max && most == max),
                    (Err(WriteError::Full), Some(model)) => assert!(at <= max && !model.is_empty()),
                    (Err(WriteError::Corrupt), Some(_)) => panic!("nobody stored anything"),
                    (Err(_), None) => assert!(at <= max),
                    (Ok(()), model) => {
                        assert!(at <= max);
                        model.iter_mut().for_each(|model| model.push_back(record.clone()));
                    }
                }
            }
            // With room for all, for some, and for none.
            2 => pop(&mut consumer, &mut vec![0; max], max, &mut model),
            3 => pop(&mut consumer, &mut vec![0; at], max, &mut model),
            4 => match producer.room() {
                Ok(room) => assert!(room < words * W::BYTES),
                Err(error) => assert!(error == WriteError::Corrupt && model.is_none()),
            },
            kind => {
                model = None;
                // What a word may be, or nearly so; or anything.
                let value = match kind {
                    5 => value % 256,
                    6 => value,
                    _ => 0u64.wrapping_sub(value),
                };
                let target = shared.words.get(at % (words + 1)).unwrap_or(&*shared.head);
                target.store(W::truncate(value), Ordering::Relaxed);
            }
        }
    }
}

fn pop<W: Word>(
    consumer: &mut Consumer<&Shared<W>>,
    into: &mut [u8],
    max: usize,
    model: &mut Option<VecDeque<Vec<u8>>>,
) {
    match (consumer.pop(into), model) {
        (Ok(len), model) => {
            assert!(len <= max);
            if let Some(model) = model {
                assert_eq!(Some(&into[..len]), model.pop_front().as_deref());
            }
        }
        (Err(ReadError::TooLong { len }), model) => {
            assert!(len > into.len() && len <= max);
            assert!(model.as_ref().is_none_or(|model| model.front().is_some_and(|record| record.len() == len)));
        }
        (Err(ReadError::Empty), model) => assert!(model.as_ref().is_none_or(VecDeque::is_empty)),
        // Only the other end's doing makes a mark here.
        (Err(ReadError::Mark | ReadError::Corrupt), model) => assert!(model.is_none(), "nobody stored anything"),
    }
}
