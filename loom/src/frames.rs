//! Frames slots: pins against claims, joiners against the writer, sweepers against both.

use loom::thread;

use crate::core::atomic::Ordering;
use crate::core::ring::{FrameObserver, FrameReader, FrameWriter, ReadError, Start, Word, WriteError, sweep_pins};
use crate::memory::{CheckedFrames, Frames, fill_frame, publish_frame};
use crate::model;

fn writer(ring: &Frames) -> FrameWriter<Frames> {
    // SAFETY: each model has one writer at a time.
    unsafe { FrameWriter::new(ring.clone(), 1) }
}

fn reader(ring: &Frames, bit: u32, start: Start) -> CheckedFrames {
    // SAFETY: each model gives a bit to one reader at a time.
    CheckedFrames::new(unsafe { FrameReader::join(ring.clone(), bit, start, 1) })
}

/// Puts messages without a `finish`, which would claim the slot of the oldest.
fn put(writer: &mut FrameWriter<Frames>, messages: u64) {
    for _ in 0..messages {
        fill_frame(writer, 1).unwrap();
        writer.put(8, 1000 + writer.next_sequence());
    }
}

/// A ring that holds `before` messages; a writer that adds up to `messages`, and a reader of all that makes `attempts`
/// at the same time.
fn race(capacity: usize, before: u64, messages: u64, attempts: usize) {
    model(2, move || {
        let ring = Frames::new(capacity);
        let mut reader = reader(&ring, 0, Start::New);
        let mut writer = writer(&ring);
        put(&mut writer, before);
        let writing = thread::spawn(move || {
            for sequence in before..before + messages {
                match publish_frame(&mut writer, 1) {
                    Ok(published) => assert_eq!(published, sequence),
                    // The reader held each slot just when the writer came to it.
                    Err(error) => {
                        assert_eq!(error, WriteError::AllPinned);
                        break;
                    }
                }
            }
            writer
        });
        for _ in 0..attempts {
            let _ = reader.read();
        }
        reader.drain_after_one_more(&mut writing.join().unwrap());
    });
}

#[test]
fn a_frame_of_a_ring_of_one_is_never_written_while_it_is_read() {
    race(1, 0, 2, 2);
    race(1, 1, 1, 1);
}

#[test]
fn a_frame_of_a_ring_of_two_is_never_written_while_it_is_read() {
    race(2, 0, 2, 2);
    race(2, 2, 1, 2);
}

#[test]
fn two_readers_of_one_slot_both_keep_the_writer_away() {
    model(3, || {
        let ring = Frames::new(1);
        let mut writer = writer(&ring);
        // Without the next claim, which would wipe it out.
        put(&mut writer, 1);
        let readers: Vec<_> = (0..2)
            .map(|bit| {
                let mut reader = reader(&ring, bit, Start::Oldest);
                thread::spawn(move || {
                    let _ = reader.read();
                })
            })
            .collect();
        let _ = fill_frame(&mut writer, 1);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_slot_that_two_readers_let_go_is_written_after_both() {
    model(3, || {
        let ring = Frames::new(2);
        let mut writer = writer(&ring);
        publish_frame(&mut writer, 1).unwrap();
        let readers: Vec<_> = (0..2)
            .map(|bit| {
                let mut reader = reader(&ring, bit, Start::Oldest);
                let held = reader.pin().unwrap();
                thread::spawn(move || {
                    held.check();
                    reader.reader.unpin(held.index);
                })
            })
            .collect();
        // Position 1 is free. Position 2 is in the slot of the two.
        publish_frame(&mut writer, 1).unwrap();
        fill_frame(&mut writer, 1).unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_frame_may_be_held_while_the_writer_goes_round_it() {
    model(2, || {
        let ring = Frames::new(2);
        let mut writer = writer(&ring);
        let mut reader = reader(&ring, 0, Start::New);
        publish_frame(&mut writer, 1).unwrap();
        let first = reader.pin().unwrap();
        let writing = thread::spawn(move || {
            // The reader may hold the other slot, too, when the writer comes to it.
            let error = (0..2).find_map(|_| publish_frame(&mut writer, 1).err());
            assert!(error.is_none_or(|error| error == WriteError::AllPinned));
            writer
        });
        // A second sample of the held slot is never given out: its position is skipped.
        if let Ok(second) = reader.pin() {
            assert_ne!(second.index, first.index);
            first.check();
            reader.reader.unpin(first.index);
            second.check();
            reader.reader.unpin(second.index);
        } else {
            first.check();
            reader.reader.unpin(first.index);
        }
        reader.drain_after_one_more(&mut writing.join().unwrap());
    });
}

#[test]
fn a_writer_that_finds_every_slot_held_goes_on_when_one_is_let_go() {
    model(2, || {
        let ring = Frames::new(2);
        let mut writer = writer(&ring);
        let mut reader = reader(&ring, 0, Start::New);
        put(&mut writer, 2);
        let held = [reader.pin().unwrap(), reader.pin().unwrap()];
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                match publish_frame(&mut writer, 1) {
                    Ok(sequence) => {
                        assert_eq!(sequence, 2);
                        break;
                    }
                    Err(error) => assert_eq!(error, WriteError::AllPinned),
                }
            }
            writer
        });
        for held in held {
            held.check();
            reader.reader.unpin(held.index);
        }
        let _ = reader.read();
        reader.drain_after_one_more(&mut writing.join().unwrap());
    });
}

/// A joiner beside a writer that adds two messages to `before`: the number it starts to count from is that of the
/// message it starts at.
fn join_beside_writer(start: Start, before: u64, check: fn(u64)) {
    model(2, move || {
        let ring = Frames::new(2);
        let mut writer = writer(&ring);
        for _ in 0..before {
            publish_frame(&mut writer, 1).unwrap();
        }
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                publish_frame(&mut writer, 1).unwrap();
            }
            writer
        });
        let mut reader = reader(&ring, 0, start);
        if let Some(next) = reader.next {
            check(next);
            // Without skips the two are the same, unless all messages between them are gone already.
            assert!(matches!(start, Start::Sequence(_)) || reader.reader.position() <= next, "a loss made up");
        }
        reader.drain_after_one_more(&mut writing.join().unwrap());
    });
}

#[test]
fn who_joins_a_ring_that_has_just_begun_counts_from_its_place() {
    join_beside_writer(Start::New, 0, |next| assert!(next <= 2));
    join_beside_writer(Start::Latest, 0, |next| assert!(next <= 1));
    join_beside_writer(Start::Oldest, 0, |next| assert!(next <= 1));
}

#[test]
fn who_joins_beside_a_writer_starts_at_a_message_that_head_counts() {
    join_beside_writer(Start::New, 1, |next| assert!((1..=3).contains(&next)));
    join_beside_writer(Start::Latest, 1, |next| assert!(next <= 2));
    join_beside_writer(Start::Oldest, 1, |next| assert!(next <= 2));
}

#[test]
fn who_joins_beside_a_batch_of_a_lap_counts_from_its_place() {
    for start in [Start::New, Start::Latest, Start::Oldest] {
        model(2, move || {
            let ring = Frames::new(2);
            let mut writer = writer(&ring);
            let writing = thread::spawn(move || {
                put(&mut writer, 2);
                writer
            });
            let mut reader = reader(&ring, 0, start);
            assert!(reader.next.is_none_or(|next| reader.reader.position() <= next), "a loss made up");
            reader.drain_after_one_more(&mut writing.join().unwrap());
        });
    }
}

#[test]
fn who_asks_for_a_number_is_told_of_all_that_is_missing_from_it() {
    join_beside_writer(Start::Sequence(0), 1, |next| assert_eq!(next, 0));
    join_beside_writer(Start::Sequence(2), 1, |next| assert_eq!(next, 2));
}

#[test]
fn who_joins_while_skips_wipe_out_the_last_message_counts_from_the_next() {
    model(2, || {
        let ring = Frames::new(2);
        let mut writer = writer(&ring);
        let mut holder = reader(&ring, 1, Start::New);
        put(&mut writer, 2);
        let held = [holder.pin().unwrap(), holder.pin().unwrap()];
        let writing = thread::spawn(move || {
            // A lap of skips.
            assert_eq!(writer.claim(), Err(WriteError::AllPinned));
            writer
        });
        let mut reader = reader(&ring, 0, Start::New);
        assert!(reader.next.is_none_or(|next| next == 2));
        let mut writer = writing.join().unwrap();
        for held in held {
            held.check();
            holder.reader.unpin(held.index);
        }
        reader.drain_after_one_more(&mut writer);
        assert_eq!(reader.lost, 0, "who joins after all messages has nothing to lose");
    });
}

#[test]
fn the_bit_of_a_dead_reader_is_swept_and_used_again_beside_the_writer() {
    model(2, || {
        let ring = Frames::new(2);
        let mut writer = writer(&ring);
        publish_frame(&mut writer, 1).unwrap();
        // It dies with a pin on slot 0.
        reader(&ring, 0, Start::Oldest).pin().unwrap();
        let writing = thread::spawn(move || {
            publish_frame(&mut writer, 1).unwrap();
            let _ = fill_frame(&mut writer, 1);
            writer
        });
        // SAFETY: the one who had the bit is gone.
        unsafe { sweep_pins(&ring, 0) };
        let mut heir = reader(&ring, 0, Start::Oldest);
        let _ = heir.read();
        heir.drain_after_one_more(&mut writing.join().unwrap());
    });
}

/// Why the bit has to be owned by who sweeps: what the lock bytes are for.
#[test]
#[should_panic]
fn a_sweeper_that_does_not_own_the_bit_frees_a_slot_under_its_new_reader() {
    model(3, || {
        let ring = Frames::new(2);
        let mut writer = writer(&ring);
        let mut heir = reader(&ring, 0, Start::New);
        let late = {
            let ring = ring.clone();
            thread::spawn(move || unsafe { sweep_pins(&ring, 0) })
        };
        publish_frame(&mut writer, 1).unwrap();
        let writing = thread::spawn(move || {
            publish_frame(&mut writer, 1).unwrap();
            publish_frame(&mut writer, 1).unwrap();
        });
        let _ = heir.read();
        late.join().unwrap();
        writing.join().unwrap();
    });
}

#[test]
fn an_observer_believes_no_copy_that_was_overwritten_meanwhile() {
    model(2, || {
        let ring = Frames::new(2);
        let mut writer = writer(&ring);
        publish_frame(&mut writer, 1).unwrap();
        let mut observer = FrameObserver::new(ring.clone(), Start::Oldest);
        let writing = thread::spawn(move || {
            publish_frame(&mut writer, 1).unwrap();
            fill_frame(&mut writer, 1).unwrap();
            writer.put(8, 1000 + writer.next_sequence());
        });
        let mut next = 0;
        let mut look = || {
            let mut copy = 0;
            let meta = observer.read(|index, length| {
                assert_eq!(length, 8);
                copy = Word::load(ring.shadow(index), Ordering::Relaxed);
                true
            });
            if let Ok(meta) = meta {
                assert_eq!(meta.sequence, next + meta.lost, "a hole, a duplicate or a wrong count");
                assert_eq!((copy, meta.timestamp), (1000 + meta.sequence, 1000 + meta.sequence), "torn");
                next = meta.sequence + 1;
            }
            meta.map(|meta| meta.sequence)
        };
        let _ = look();
        writing.join().unwrap();
        while !matches!(look(), Ok(2)) {}
    });
}

#[test]
fn a_frame_that_was_announced_is_there() {
    use loom::sync::atomic::AtomicBool;
    model(2, || {
        let ring = Frames::new(2);
        let announced = std::sync::Arc::new(AtomicBool::new(false));
        let mut reader = reader(&ring, 0, Start::New);
        let flag = announced.clone();
        let writing = thread::spawn(move || {
            publish_frame(&mut writer(&ring), 1).unwrap();
            flag.store(true, Ordering::Release);
        });
        let early = !announced.load(Ordering::Acquire);
        match reader.read() {
            Ok(0) => {}
            Err(ReadError::Empty) => assert!(early),
            other => panic!("{other:?}"),
        }
        writing.join().unwrap();
    });
}
