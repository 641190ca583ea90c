//! The admission gate: joiners, leavers and slow readers against a writer that must not overwrite.

use std::sync::Arc;

use loom::thread;

use crate::core::ring::{
    EventCount, FrameReader, FrameWriter, ReadError, Start, WordReader, WordWriter, WriteError, sweep_member,
};
use crate::memory::{CheckedFrames, CheckedWords, Frames, Words, fill_frame, publish_frame, publish_words};
use crate::model;

fn writer(ring: &Words, batch: usize) -> WordWriter<Words> {
    // SAFETY: each model has one writer at a time.
    unsafe { WordWriter::with_gate(ring.clone(), batch) }
}

fn member(ring: &Words, bit: u32, start: Start, stride: usize) -> CheckedWords {
    // SAFETY: each model gives a bit to one reader at a time.
    CheckedWords::new(unsafe { WordReader::join(ring.clone(), bit, start, stride) })
}

/// A reader that joins beside a writer loses nothing from its first message on.
fn join_beside_writer(capacity: usize, batch: usize, before: u64, start: Start) {
    model(2, move || {
        let ring = Words::lossless(capacity);
        let mut writer = writer(&ring, batch);
        for _ in 0..before {
            publish_words(&mut writer, 1).unwrap();
        }
        let writing = thread::spawn(move || {
            for _ in 0..3 {
                match publish_words(&mut writer, 1) {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error, WriteError::Full),
                }
            }
            writer.next_sequence()
        });
        let mut reader = member(&ring, 0, start, 1);
        let _ = reader.read();
        let published = writing.join().unwrap();
        reader.drain_to(published);
        assert_eq!(reader.lost, 0, "a member lost a message");
    });
}

#[test]
fn who_joins_beside_the_writer_loses_nothing_from_then_on() {
    join_beside_writer(1, 1, 1, Start::Oldest);
    join_beside_writer(2, 1, 2, Start::Oldest);
    join_beside_writer(2, 1, 1, Start::New);
}

#[test]
fn who_joins_a_writer_that_goes_by_batches_loses_nothing_from_then_on() {
    join_beside_writer(4, 2, 4, Start::Oldest);
    join_beside_writer(2, 2, 2, Start::Latest);
}

#[test]
fn a_bit_that_was_used_before_protects_its_next_owner() {
    model(2, || {
        let ring = Words::lossless(2);
        let mut writer = writer(&ring, 1);
        // It leaves its cursor far ahead of where the next one joins.
        let mut former = member(&ring, 0, Start::Sequence(100), 1);
        former.reader.leave();
        publish_words(&mut writer, 1).unwrap();
        let writing = thread::spawn(move || {
            while publish_words(&mut writer, 1).is_ok() && writer.next_sequence() < 4 {}
            writer.next_sequence()
        });
        let mut reader = member(&ring, 0, Start::Oldest, 1);
        let published = writing.join().unwrap();
        reader.drain_to(published);
        assert_eq!(reader.lost, 0);
    });
}

#[test]
fn a_full_ring_destroys_nothing() {
    model(2, || {
        let ring = Words::lossless(2);
        let mut reader = member(&ring, 0, Start::New, 1);
        let writing = thread::spawn(move || {
            let mut writer = writer(&ring, 1);
            let full = (0..4).filter(|_| publish_words(&mut writer, 1) == Err(WriteError::Full)).count();
            (writer.next_sequence(), full)
        });
        let _ = reader.read();
        let (published, full) = writing.join().unwrap();
        assert_eq!(published + full as u64, 4);
        assert!(published >= 2);
        reader.drain_to(published);
        assert_eq!(reader.lost, 0);
    });
}

#[test]
fn who_leaves_frees_the_writer() {
    model(2, || {
        let ring = Words::lossless(1);
        let mut reader = member(&ring, 0, Start::New, 1);
        let mut writer = writer(&ring, 1);
        publish_words(&mut writer, 1).unwrap();
        let leaving = thread::spawn(move || {
            let read = reader.read();
            reader.reader.leave();
            assert!(reader.reader.take_moved());
            assert!(read == Ok(0) && reader.lost == 0);
        });
        let _ = publish_words(&mut writer, 1);
        leaving.join().unwrap();
        for _ in 0..2 {
            publish_words(&mut writer, 1).unwrap();
        }
    });
}

#[test]
fn a_dead_member_that_was_swept_frees_the_writer() {
    model(2, || {
        let ring = Words::lossless(1);
        let dead = member(&ring, 0, Start::New, 1);
        let mut writer = writer(&ring, 1);
        publish_words(&mut writer, 1).unwrap();
        assert_eq!((publish_words(&mut writer, 1), writer.slowest_member()), (Err(WriteError::Full), Some(0)));
        let sweeper = ring.clone();
        drop(dead);
        // SAFETY: the one who had the bit is gone.
        let sweeping = thread::spawn(move || unsafe { sweep_member(&sweeper, 0) });
        let _ = publish_words(&mut writer, 1);
        sweeping.join().unwrap();
        publish_words(&mut writer, 1).unwrap();
    });
}

/// A writer that found the ring full and sleeps on `space` until a reader has moved.
fn blocked_writer(reading: fn(&Words, &EventCount)) {
    model(2, move || {
        let ring = Words::lossless(1);
        let space = Arc::new(EventCount::new());
        let mut writer = writer(&ring, 1);
        publish_words(&mut writer, 1).unwrap();
        // Full for a member that joins at the oldest message or has joined.
        let (shared, bell) = (ring.clone(), space.clone());
        let reader = thread::spawn(move || reading(&shared, &bell));
        let mut asleep = None;
        if publish_words(&mut writer, 1).is_err() {
            let ticket = space.prepare();
            asleep = publish_words(&mut writer, 1).is_err().then_some(ticket);
        }
        reader.join().unwrap();
        let woken = asleep.is_none_or(|ticket| space.word().load(loom::sync::atomic::Ordering::Relaxed) != ticket);
        assert!(woken || publish_words(&mut writer, 1).is_err(), "there is room, and the writer sleeps on");
    });
}

fn tell_if_moved(reader: &mut WordReader<Words>, space: &EventCount) {
    if reader.take_moved() {
        space.notify();
    }
}

#[test]
fn a_blocked_writer_is_woken_by_a_reader_that_reads() {
    blocked_writer(|ring, space| {
        let mut reader = member(ring, 0, Start::Oldest, 1);
        tell_if_moved(&mut reader.reader, space);
        while reader.read().is_ok() {
            tell_if_moved(&mut reader.reader, space);
        }
        tell_if_moved(&mut reader.reader, space);
    });
}

#[test]
fn a_blocked_writer_is_woken_by_a_reader_that_tells_late() {
    blocked_writer(|ring, space| {
        let mut reader = member(ring, 0, Start::Oldest, 9);
        tell_if_moved(&mut reader.reader, space);
        while reader.read().is_ok() {}
        tell_if_moved(&mut reader.reader, space);
    });
}

#[test]
fn a_blocked_writer_is_woken_by_a_reader_that_only_joins() {
    blocked_writer(|ring, space| {
        let mut reader = member(ring, 0, Start::Sequence(0), 1);
        tell_if_moved(&mut reader.reader, space);
        // From here on it sleeps for ever, which is its right from where it was promised everything.
    });
}

#[test]
fn a_blocked_writer_is_woken_by_a_reader_that_leaves() {
    blocked_writer(|ring, space| {
        let mut reader = member(ring, 0, Start::Oldest, 1);
        reader.reader.leave();
        tell_if_moved(&mut reader.reader, space);
    });
}

#[test]
fn a_member_of_a_ring_of_frames_loses_nothing_from_when_it_joined() {
    model(2, || {
        let ring = Frames::lossless(2);
        // SAFETY: the only writer.
        let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
        publish_frame(&mut writer, 1).unwrap();
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                let _ = publish_frame(&mut writer, 1);
            }
            writer
        });
        // SAFETY: the only reader.
        let mut reader = CheckedFrames::new(unsafe { FrameReader::join(ring.clone(), 0, Start::Oldest, 1) });
        let _ = reader.read();
        let mut writer = writing.join().unwrap();
        while reader.read() != Err(ReadError::Empty) {}
        reader.drain_after_one_more(&mut writer);
        assert_eq!(reader.lost, 0, "a member lost a message");
    });
}

#[test]
fn a_frame_that_is_held_and_received_costs_a_skip_and_no_message() {
    model(2, || {
        let ring = Frames::lossless(2);
        // SAFETY: the only writer.
        let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
        // SAFETY: the only reader.
        let mut reader = CheckedFrames::new(unsafe { FrameReader::join(ring.clone(), 0, Start::New, 1) });
        publish_frame(&mut writer, 1).unwrap();
        let held = reader.pin().unwrap();
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                let _ = publish_frame(&mut writer, 1);
            }
            writer
        });
        let _ = reader.read();
        held.check();
        reader.reader.unpin(held.index);
        let mut writer = writing.join().unwrap();
        while reader.read() != Err(ReadError::Empty) {}
        let _ = fill_frame(&mut writer, 1);
        while reader.read() != Err(ReadError::Empty) {}
        reader.drain_after_one_more(&mut writer);
        assert_eq!(reader.lost, 0);
    });
}

/// A member that reads what it is lent beside a writer that goes round the ring.
fn lend_beside_writer(start: Start, joins_late: bool) {
    model(2, move || {
        let ring = Frames::lossless(2);
        // SAFETY: the only writer.
        let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
        publish_frame(&mut writer, 1).unwrap();
        // SAFETY: the only reader.
        let join = |ring: &Frames| CheckedFrames::new(unsafe { FrameReader::join(ring.clone(), 0, start, 1) });
        let early = (!joins_late).then(|| join(&ring));
        let writing = thread::spawn(move || {
            for _ in 0..3 {
                let _ = publish_frame(&mut writer, 1);
            }
            writer
        });
        let mut reader = early.unwrap_or_else(|| join(&ring));
        for _ in 0..2 {
            reader.lend();
        }
        let mut writer = writing.join().unwrap();
        while reader.read() != Err(ReadError::Empty) {}
        reader.drain_after_one_more(&mut writer);
        assert!(reader.lost == 0 || joins_late, "a member lost a message");
    });
}

#[test]
fn a_frame_that_is_lent_without_a_pin_is_never_written_while_it_is_read() {
    lend_beside_writer(Start::Oldest, false);
    lend_beside_writer(Start::Oldest, true);
}

#[test]
fn a_frame_before_the_promise_is_lent_under_a_pin() {
    lend_beside_writer(Start::Sequence(0), true);
}

#[test]
fn a_frame_that_was_lent_to_a_member_that_leaves_is_written_after_it_was_read() {
    model(2, || {
        let ring = Frames::lossless(2);
        // SAFETY: the only writer.
        let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
        publish_frame(&mut writer, 1).unwrap();
        // SAFETY: the only reader. It tells the writer of its progress late, and so by leaving.
        let mut reader = CheckedFrames::new(unsafe { FrameReader::join(ring.clone(), 0, Start::Oldest, 2) });
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                let _ = publish_frame(&mut writer, 1);
            }
        });
        reader.lend();
        reader.reader.leave();
        writing.join().unwrap();
    });
}

/// Why the cursor moves behind a message only after it was read.
#[test]
#[should_panic]
fn a_frame_that_is_read_after_it_was_lent_may_be_written_meanwhile() {
    model(2, || {
        let ring = Frames::lossless(2);
        // SAFETY: the only writer.
        let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
        publish_frame(&mut writer, 1).unwrap();
        // SAFETY: the only reader.
        let mut reader = unsafe { FrameReader::join(ring.clone(), 0, Start::Oldest, 1) };
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                let _ = publish_frame(&mut writer, 1);
            }
        });
        if let Some(pin) = reader.lend_ready(|pin| pin) {
            ring.cell(pin.index).with(|_| ());
        }
        writing.join().unwrap();
    });
}
