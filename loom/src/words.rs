//! Words slots: a seqlock for each slot.

use loom::thread;

use crate::core::ring::{ReadError, Start, WordReader, WordWriter};
use crate::memory::{CheckedWords, Words, message, publish_words};
use crate::model;

/// Puts messages without a `finish`, which would claim the slot of the oldest.
fn put(writer: &mut WordWriter<Words>, messages: u64) {
    for _ in 0..messages {
        let sequence = writer.next_sequence();
        writer.claim().unwrap();
        assert_eq!(writer.put(&message(1, sequence), 1000 + sequence), sequence);
    }
}

fn publish(writer: &mut WordWriter<Words>, messages: u64) {
    for _ in 0..messages {
        publish_words(writer, 1).unwrap();
    }
}

/// A ring that holds `before` messages; a writer that adds `messages`, and a reader of all that makes `attempts` at the
/// same time. Few steps and much overlap find more than the reverse.
fn race(capacity: usize, before: u64, messages: u64, attempts: usize, add: fn(&mut WordWriter<Words>, u64)) {
    model(2, move || {
        let ring = Words::new(capacity);
        let mut reader = CheckedWords::new(WordReader::new(ring.clone(), Start::New));
        // SAFETY: the only writer.
        let mut writer = unsafe { WordWriter::new(ring) };
        put(&mut writer, before);
        let writing = thread::spawn(move || add(&mut writer, messages));
        for _ in 0..attempts {
            let _ = reader.read();
        }
        writing.join().unwrap();
        reader.drain_to(before + messages);
    });
}

#[test]
fn a_message_of_a_ring_of_one_is_read_whole_or_counted_as_lost() {
    race(1, 0, 2, 2, publish);
    race(1, 1, 1, 1, publish);
}

#[test]
fn a_message_of_a_ring_of_two_is_read_whole_or_counted_as_lost() {
    race(2, 0, 2, 2, publish);
    race(2, 2, 1, 2, publish);
}

/// Such as one that waited for its topic: it was opened before the first message, and comes to it later.
#[test]
fn who_stands_before_the_first_message_gets_it_if_it_is_there() {
    model(2, || {
        let ring = Words::new(4);
        let mut reader = WordReader::new(ring.clone(), Start::Sequence(u64::MAX));
        // SAFETY: the only writer.
        let mut writer = unsafe { WordWriter::new(ring) };
        let writing = thread::spawn(move || publish(&mut writer, 2));
        let mut read = || reader.read(&mut [0; 16]);
        match (read(), read()) {
            (Ok(first), Ok(second)) => {
                assert_eq!((first.sequence, first.lost, second.sequence, second.lost), (0, 1, 1, 0))
            }
            (Ok(first), _) => assert_eq!((first.sequence, first.lost), (0, 1)),
            // It stands at the first by then, and the number before it was never there.
            (Err(ReadError::Lapped(lost)), Ok(first)) => assert_eq!((lost, first.sequence, first.lost), (1, 0, 0)),
            (_, Ok(first)) => assert_eq!((first.sequence, first.lost), (0, 1)),
            _ => {}
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_message_of_a_batch_is_read_whole_or_counted_as_lost() {
    race(2, 0, 3, 1, put);
    race(2, 2, 2, 1, put);
}

#[test]
fn who_joins_at_the_latest_gets_the_last_message_that_head_counts() {
    model(2, || {
        let ring = Words::new(2);
        // SAFETY: the only writer.
        let mut writer = unsafe { WordWriter::new(ring.clone()) };
        let writer = thread::spawn(move || publish_words(&mut writer, 1).unwrap());
        let mut reader = CheckedWords::new(WordReader::new(ring, Start::Latest));
        assert_eq!(reader.next, 0, "head was seen, the stamp before it was not");
        let _ = reader.read();
        writer.join().unwrap();
        reader.drain_to(1);
        assert_eq!(reader.lost, 0);
    });
}

#[test]
fn who_joins_beside_a_batch_of_a_lap_starts_at_a_message() {
    model(2, || {
        let ring = Words::new(2);
        // SAFETY: the only writer.
        let mut writer = unsafe { WordWriter::new(ring.clone()) };
        let writing = thread::spawn(move || put(&mut writer, 2));
        // Head counts none of them, or both.
        let reader = CheckedWords::new(WordReader::new(ring, Start::Latest));
        assert!(reader.next <= 1, "head was seen, the stamp before it was not");
        writing.join().unwrap();
    });
}

#[test]
fn who_joins_at_the_oldest_gets_all_that_head_counts() {
    model(2, || {
        let ring = Words::new(4);
        // SAFETY: the only writer.
        let mut writer = unsafe { WordWriter::new(ring.clone()) };
        publish_words(&mut writer, 1).unwrap();
        let writer = thread::spawn(move || publish_words(&mut writer, 1).unwrap());
        let mut reader = CheckedWords::new(WordReader::new(ring, Start::Oldest));
        assert_eq!(reader.next, 0);
        let _ = reader.read();
        writer.join().unwrap();
        reader.drain_to(2);
        assert_eq!(reader.lost, 0);
    });
}

#[test]
fn a_message_that_was_announced_is_there() {
    use loom::sync::atomic::{AtomicBool, Ordering};
    model(2, || {
        let ring = Words::new(2);
        let announced = std::sync::Arc::new(AtomicBool::new(false));
        let mut reader = CheckedWords::new(WordReader::new(ring.clone(), Start::New));
        let flag = announced.clone();
        let writer = thread::spawn(move || {
            // SAFETY: the only writer.
            publish_words(&mut unsafe { WordWriter::new(ring) }, 1).unwrap();
            flag.store(true, Ordering::Release);
        });
        let early = !announced.load(Ordering::Acquire);
        let lag = reader.reader.lag();
        let ready = reader.reader.is_ready();
        assert!(early || (lag == 1 && ready));
        match reader.read() {
            Ok(0) => {}
            Err(ReadError::Empty) => assert!(early && !ready),
            other => panic!("{other:?}"),
        }
        writer.join().unwrap();
    });
}

#[test]
fn two_readers_do_not_disturb_each_other() {
    model(3, || {
        let ring = Words::new(1);
        // SAFETY: the only writer.
        let mut writer = unsafe { WordWriter::new(ring.clone()) };
        put(&mut writer, 1);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut reader = CheckedWords::new(WordReader::new(ring.clone(), Start::Oldest));
                thread::spawn(move || {
                    let _ = reader.read();
                    reader
                })
            })
            .collect();
        put(&mut writer, 1);
        for reader in readers {
            reader.join().unwrap().drain_to(2);
        }
    });
}
