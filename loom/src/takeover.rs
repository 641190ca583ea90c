//! A writer that dies after each of its stores, and the next one that takes over, both beside a reader.
//!
//! The lock that proves the death orders the two writers; here they run one after the other in one thread.

use loom::thread;

use crate::core::ring::{FrameReader, FrameWriter, ReadError, Start, WordReader, WordWriter, WriteError};
use crate::memory::{
    CheckedFrames, CheckedWords, Dying, Frames, Words, fill_frame, is_dead, message, publish_frame, publish_words,
};
use crate::{full_size, model_within};

/// Runs a model of two threads once for each store at which the writer may die, until it survives them all.
fn at_each_store(body: impl Fn(usize) + Copy + Send + Sync + 'static) {
    let preemptions = if full_size() { 2 } else { 1 };
    for stores in 0..100 {
        model_within(Some(preemptions), move || body(stores));
        if !is_dead() {
            return;
        }
    }
    panic!("the writer makes more stores than that");
}

/// A ring of two Words slots after `before` messages, a writer that dies, and an heir that publishes one more.
fn words(before: u64, dies: fn(&mut WordWriter<Dying<Words>>)) {
    at_each_store(move |stores| {
        let ring = Words::new(2);
        let mut reader = CheckedWords::new(WordReader::new(ring.clone(), Start::New));
        for _ in 0..before {
            // SAFETY: the only writer.
            publish_words(&mut unsafe { WordWriter::new(ring.clone()) }, 1).unwrap();
        }
        let reading = thread::spawn(move || {
            let _ = reader.read();
            reader
        });
        // SAFETY: the only writer.
        dies(&mut unsafe { WordWriter::new(Dying::new(ring.clone(), stores)) });
        // SAFETY: the only writer that is alive.
        let mut heir = unsafe { WordWriter::new(ring) };
        // After a batch the reader has enough to see.
        let early = (before > 0).then(|| publish_words(&mut heir, 2).unwrap());
        let mut reader = reading.join().unwrap();
        let last = early.unwrap_or_else(|| publish_words(&mut heir, 2).unwrap());
        reader.drain_to(last + 1);
        assert_eq!(reader.last_by, 2, "the heir used a number again that was taken");
    });
}

#[test]
fn a_writer_of_words_that_dies_at_any_store_leaves_no_hole_and_no_duplicate() {
    words(1, |writer| {
        publish_words(writer, 1).unwrap();
    });
}

#[test]
fn a_writer_of_words_that_dies_in_a_batch_of_more_than_a_lap_is_followed() {
    words(0, |writer| {
        for sequence in 0..3 {
            writer.claim().unwrap();
            writer.put(&message(1, sequence), 1000 + sequence);
            if is_dead() {
                return;
            }
        }
    });
}

/// A ring of Frames after `before` messages of which the first `hold` are held until the heir has come; a writer that
/// dies, and an heir that publishes two messages.
fn frames(capacity: usize, before: usize, hold: usize, dies: fn(&mut FrameWriter<Dying<Frames>>)) {
    at_each_store(move |stores| {
        let ring = Frames::new(capacity);
        // SAFETY: one reader for each bit.
        let join = |bit| CheckedFrames::new(unsafe { FrameReader::join(ring.clone(), bit, Start::New, 1) });
        let (mut reader, mut holder) = (join(0), join(1));
        let mut held = Vec::new();
        {
            // SAFETY: the only writer.
            let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
            for message in 0..before {
                fill_frame(&mut writer, 1).unwrap();
                writer.put(8, 1000 + writer.next_sequence());
                if message < hold {
                    held.push(holder.pin().unwrap());
                }
            }
        }
        let reading = thread::spawn(move || {
            let _ = reader.read();
            reader
        });
        // SAFETY: the only writer that is alive.
        dies(&mut unsafe { FrameWriter::new(Dying::new(ring.clone(), stores), 1) });
        // SAFETY: the only writer that is alive.
        let mut heir = unsafe { FrameWriter::new(ring.clone(), 1) };
        if hold == capacity {
            assert_eq!(heir.claim(), Err(WriteError::AllPinned));
        }
        for held in held {
            held.check();
            holder.reader.unpin(held.index);
        }
        // After a lap of skips the reader has enough to see. A ring of one may be held by it just now.
        assert!(hold == capacity || publish_frame(&mut heir, 2).is_ok() || capacity == 1);
        let mut reader = reading.join().unwrap();
        reader.drain_after_one_more(&mut heir);
    });
}

#[test]
fn a_writer_of_frames_that_dies_at_any_store_leaves_no_hole_and_no_duplicate() {
    frames(2, 1, 0, |writer| {
        let _ = publish_frame(writer, 1);
    });
}

#[test]
fn a_writer_of_frames_that_dies_among_held_slots_leaves_no_hole_and_no_duplicate() {
    // More than ten minutes; the models around it hold one slot fewer, or claim and publish apart.
    if crate::full_size() {
        frames(2, 2, 1, |writer| {
            let _ = publish_frame(writer, 1);
        });
    }
}

/// In order, so that it is quick; with a reader beside them in the model before.
#[test]
fn a_position_that_the_dead_writer_skipped_is_not_used_again() {
    model_within(Some(1), || {
        let ring = Frames::new(4);
        // SAFETY: each bit has one owner.
        let join = |bit| CheckedFrames::new(unsafe { FrameReader::join(ring.clone(), bit, Start::New, 1) });
        let (mut reader, mut holder) = (join(0), join(1));
        // SAFETY: the only writer.
        let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
        publish_frame(&mut writer, 1).unwrap();
        let held = holder.pin().unwrap();
        // One message lies behind the skipped slot, and head before it.
        assert_eq!(reader.read(), Ok(0));
        for sequence in 1..5 {
            fill_frame(&mut writer, 1).unwrap();
            writer.put(8, 1000 + sequence);
            assert_eq!(reader.read(), Ok(sequence));
        }
        // SAFETY: the only writer that is alive.
        let mut heir = unsafe { FrameWriter::new(ring.clone(), 1) };
        holder.reader.unpin(held.index);
        reader.drain_after_one_more(&mut heir);
        assert_eq!(reader.lost, 0);
    });
}

#[test]
fn a_writer_that_dies_while_it_steps_over_a_lap_of_held_slots_is_followed() {
    frames(2, 2, 2, |writer| {
        let _ = writer.claim();
    });
}

#[test]
fn a_writer_of_a_ring_of_one_frame_that_dies_is_followed() {
    frames(1, 1, 0, |writer| {
        let _ = publish_frame(writer, 1);
    });
}

#[test]
fn a_writer_of_frames_that_dies_in_a_batch_of_more_than_a_lap_is_followed() {
    frames(2, 0, 0, |writer| {
        for _ in 0..3 {
            if fill_frame(writer, 1).is_err() || is_dead() {
                return;
            }
            writer.put(8, 1000 + writer.next_sequence());
            if is_dead() {
                return;
            }
        }
    });
}

#[test]
fn a_member_loses_nothing_when_the_writer_dies_at_any_store() {
    at_each_store(|stores| {
        let ring = Words::lossless(2);
        // SAFETY: the only reader.
        let mut reader = CheckedWords::new(unsafe { WordReader::join(ring.clone(), 0, Start::New, 1) });
        let shared = ring.clone();
        let writing = thread::spawn(move || {
            // SAFETY: the only writer.
            let mut writer = unsafe { WordWriter::with_gate(Dying::new(shared.clone(), stores), 1) };
            for _ in 0..2 {
                let _ = publish_words(&mut writer, 1);
                if is_dead() {
                    return;
                }
            }
        });
        let _ = reader.read();
        writing.join().unwrap();
        // SAFETY: the only writer that is alive.
        let mut heir = unsafe { WordWriter::with_gate(ring.clone(), 1) };
        let mut published = heir.next_sequence();
        for _ in 0..3 {
            published += u64::from(publish_words(&mut heir, 2).is_ok());
        }
        reader.drain_to(published);
        assert_eq!(reader.lost, 0, "a member lost a message");
        assert_eq!(reader.read(), Err(ReadError::Empty));
    });
}

#[test]
fn who_joins_after_a_takeover_finds_what_the_dead_writer_published() {
    at_each_store(|stores| {
        let ring = Words::new(4);
        let shared = ring.clone();
        let writing = thread::spawn(move || {
            // SAFETY: one after the other.
            publish_words(&mut unsafe { WordWriter::new(Dying::new(shared.clone(), stores)) }, 1).unwrap();
            unsafe { WordWriter::new(shared) };
        });
        // A head that counts the message, and no message: it would start behind it.
        assert_eq!(CheckedWords::new(WordReader::new(ring, Start::Oldest)).next, 0);
        writing.join().unwrap();
    });
}

#[test]
fn who_joins_frames_after_a_takeover_finds_what_the_dead_writer_published() {
    at_each_store(|stores| {
        let ring = Frames::new(4);
        let shared = ring.clone();
        let writing = thread::spawn(move || {
            // SAFETY: one after the other.
            let _ = publish_frame(&mut unsafe { FrameWriter::new(Dying::new(shared.clone(), stores), 1) }, 1);
            unsafe { FrameWriter::new(shared, 1) };
        });
        // SAFETY: the only reader.
        let reader = unsafe { FrameReader::join(ring, 0, Start::Oldest, 1) };
        assert!(reader.position() == 0 || reader.next_sequence().is_none());
        writing.join().unwrap();
    });
}
