//! What is published is what is received: start modes, overflow modes, loans, samples, batches, timeouts, timestamps.
#![cfg(feature = "std")]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use conduit::msgs::{Imu, Vector3};
use conduit::topic::{self, Overflow, SlotKind, Start, Timestamps, WriterState};
use conduit::{Error, Publisher, Subscriber};
use support::{Domain, KINDS, LEN, Noise, PATIENCE, Stream, drain, fill, in_time, message, number, publish, rounds};

const OVERFLOWS: [Overflow; 3] = [Overflow::Overwrite, Overflow::Block, Overflow::Reject];

#[test]
fn the_oracle_sees_torn_repeated_backward_and_uncounted_messages() {
    let (old, new) = (message(LEN, 7), message(LEN, 7 + 32));
    assert_eq!(number(&old), Ok(7));
    for words in 1..LEN / 8 {
        let torn = [&new[..8 * words], &old[8 * words..]].concat();
        assert!(number(&torn).is_err(), "{words} words of the new one");
    }
    for at in 0..LEN {
        let mut bent = old.clone();
        bent[at] ^= 0x10;
        assert!(number(&bent).is_err(), "byte {at}");
    }
    assert!(number(&old[..LEN - 8]).is_err() && number(&[]).is_err());
    let after_seven = || {
        let mut stream = Stream::from(7);
        stream.take(7, 0, &message(LEN, 7)).unwrap();
        stream
    };
    assert!(after_seven().take(7, 0, &message(LEN, 7)).is_err());
    assert!(after_seven().take(6, 0, &message(LEN, 6)).is_err());
    assert!(after_seven().take(9, 0, &message(LEN, 9)).is_err());
    assert!(after_seven().take(9, 2, &message(LEN, 9)).is_err());
    assert!(after_seven().take(9, 1, &message(LEN, 8)).is_err());
    assert!(after_seven().take(9, 1, &message(LEN, 9)).is_ok());
}

#[test]
fn start_new_is_the_first_message_published_after_opening() {
    let domain = Domain::new();
    for (slots, overflow) in modes() {
        let mut publisher = domain.publisher_of(slots, LEN).overflow(overflow).open("t").unwrap();
        for before in [0, 1, 100] {
            publish(&mut publisher, before);
            let mut subscriber = domain.subscriber().open("t").unwrap();
            assert!(subscriber.try_recv().unwrap().is_none());
            let first = publisher.next_sequence();
            publish(&mut publisher, 2);
            for expected in [first, first + 1] {
                let sample = subscriber.try_recv().unwrap().unwrap();
                assert_eq!((sample.sequence(), sample.lagged()), (expected, 0));
                assert_eq!(number(&sample), Ok(expected));
            }
            assert!(subscriber.try_recv().unwrap().is_none());
        }
        publisher.remove().unwrap();
    }
}

#[test]
fn start_latest_is_the_last_message_then_on_and_new_where_there_is_none() {
    let domain = Domain::new();
    for (slots, overflow) in modes() {
        let mut publisher = domain.publisher_of(slots, LEN).overflow(overflow).open("t").unwrap();
        let mut early = domain.subscriber().start(Start::Latest).open("t").unwrap();
        assert!(early.try_recv().unwrap().is_none());
        publish(&mut publisher, 1);
        assert_eq!(early.try_recv().unwrap().unwrap().sequence(), 0);
        drop(early);
        publish(&mut publisher, 100);
        let mut late = domain.subscriber().start(Start::Latest).open("t").unwrap();
        publish(&mut publisher, 1);
        for expected in [100, 101] {
            let sample = late.try_recv().unwrap().unwrap();
            assert_eq!((sample.sequence(), sample.lagged()), (expected, 0));
        }
        drop(late);
        publisher.remove().unwrap();
    }
}

#[test]
fn start_oldest_is_at_least_depth_messages_with_no_loss_before_them() {
    let domain = Domain::new();
    for (slots, overflow) in modes() {
        for depth in [1, 2, 16, 100] {
            let options = domain.publisher_of(slots, LEN).overflow(overflow).depth(depth).subscribers(2).samples(3);
            let mut publisher = options.open("t").unwrap();
            publish(&mut publisher, 3);
            let published = u64::from(publisher.geometry().capacity) * 2 + 5;
            for round in 0..2 {
                let mut subscriber = domain.subscriber().start(Start::Oldest).open("t").unwrap();
                let mut stream = Stream::default();
                drain(&mut subscriber, &mut stream);
                let held = publisher.next_sequence().min(u64::from(depth));
                assert!(stream.received >= held, "{slots:?} {overflow:?} depth {depth}: {stream:?}");
                assert_eq!((stream.lost, stream.expected), (0, Some(publisher.next_sequence())));
                drop(subscriber);
                if round == 0 {
                    publish(&mut publisher, published);
                }
            }
            publisher.remove().unwrap();
        }
    }
}

#[test]
fn start_at_a_sequence_waits_for_it_or_counts_what_is_gone() {
    let domain = Domain::new();
    for (slots, overflow) in modes() {
        let mut publisher = domain.publisher_of(slots, LEN).overflow(overflow).open("t").unwrap();
        publish(&mut publisher, 1000);
        let open = |sequence| domain.subscriber().start(Start::Sequence(sequence)).open("t").unwrap();
        // Held: that message.
        let sample = open(990).try_recv().unwrap().unwrap();
        assert_eq!((sample.sequence(), sample.lagged()), (990, 0));
        drop(sample);
        // Gone: the loss from there on.
        for wanted in [0, 1, 500] {
            let mut subscriber = open(wanted);
            let sample = subscriber.recv().unwrap();
            assert_eq!(sample.sequence(), wanted + sample.lagged());
            assert!(sample.lagged() > 0);
            assert_eq!(subscriber.lost(), sample.lagged());
        }
        // Not published yet: waited for; what comes before is not wanted, and so not lost.
        let mut subscriber = open(1003);
        publish(&mut publisher, 3);
        assert!(subscriber.try_recv().unwrap().is_none());
        publish(&mut publisher, 2);
        for expected in [1003, 1004] {
            let sample = subscriber.try_recv().unwrap().unwrap();
            assert_eq!((sample.sequence(), sample.lagged()), (expected, 0));
        }
        drop(subscriber);
        publisher.remove().unwrap();
    }
}

fn modes() -> impl Iterator<Item = (SlotKind, Overflow)> {
    KINDS.into_iter().flat_map(|slots| OVERFLOWS.map(|overflow| (slots, overflow)))
}

/// However publishing and receiving interleave: received + lost = published, and each loss is told with the next message.
#[test]
fn every_loss_is_counted() {
    let domain = Domain::new();
    let mut noise = Noise::seeded("every_loss_is_counted");
    for slots in KINDS {
        for round in 0..rounds(100) {
            let depth = 1 + noise.below(30) as u32;
            let topic = format!("t{round}");
            let mut publisher = domain.publisher_of(slots, LEN).depth(depth).subscribers(2).open(&topic).unwrap();
            let before = noise.below(100);
            publish(&mut publisher, before);
            let mut subscriber = domain.subscriber().open(&topic).unwrap();
            let mut stream = Stream::from(before);
            let mut kept = Vec::new();
            for _ in 0..50 {
                let most = 2 * u64::from(publisher.geometry().capacity);
                publish(&mut publisher, noise.below(most));
                for _ in 0..noise.below(40) {
                    if kept.len() == 2 {
                        kept.swap_remove(noise.below(2) as usize);
                    }
                    let Some(sample) = subscriber.try_recv().unwrap() else { continue };
                    stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
                    kept.push(sample);
                }
            }
            kept.clear();
            // The last message is there in any case, so nothing can be missing behind it.
            publish(&mut publisher, 1);
            drain(&mut subscriber, &mut stream);
            assert_eq!(stream.expected, Some(publisher.next_sequence()));
            assert_eq!(subscriber.lost(), stream.lost);
            assert_eq!(before + stream.received + stream.lost, publisher.next_sequence());
            drop(subscriber);
            publisher.remove().unwrap();
        }
    }
}

/// The same while the publisher runs on in another thread and laps the subscribers at every point of a read.
#[test]
fn every_loss_is_counted_beside_a_running_publisher() {
    let domain = Domain::new();
    for slots in KINDS {
        let count = u64::from(rounds(2_000_000));
        let mut publisher = domain.publisher_of(slots, LEN).depth(2).subscribers(3).samples(1).open("t").unwrap();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let mut subscriber = domain.subscriber().samples(1).open("t").unwrap();
                thread::spawn(move || {
                    let mut stream = Stream::from(0);
                    while stream.expected != Some(count) {
                        let sample = subscriber.recv_timeout(PATIENCE).unwrap();
                        // Lapped again and again: a loss without a message.
                        let Some(sample) = sample else { continue };
                        stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
                    }
                    assert_eq!(subscriber.lost(), stream.lost);
                    stream
                })
            })
            .collect();
        let mut bytes = [0; LEN];
        for sequence in 0..count {
            fill(&mut bytes, sequence);
            assert_eq!(publisher.publish(&bytes).unwrap(), sequence);
        }
        for reader in readers {
            let stream = reader.join().unwrap();
            assert_eq!(stream.received + stream.lost, count, "{slots:?}");
        }
        publisher.remove().unwrap();
    }
}

#[test]
fn a_loan_that_is_dropped_publishes_nothing() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        for sequence in 0..100 {
            for _ in 0..2 {
                let mut loan = publisher.loan(LEN).unwrap();
                loan.fill(0xee);
            }
            assert!(subscriber.try_recv().unwrap().is_none());
            let mut loan = publisher.loan(LEN).unwrap();
            fill(&mut loan, sequence);
            assert_eq!(number(&loan), Ok(sequence));
            assert_eq!(loan.commit(), sequence);
            let sample = subscriber.try_recv().unwrap().unwrap();
            assert_eq!((sample.sequence(), sample.lagged(), number(&sample)), (sequence, 0, Ok(sequence)));
            assert_eq!(sample.is_in_place(), slots == SlotKind::Frames);
        }
        drop(subscriber);
        publisher.remove().unwrap();
    }
}

#[test]
fn a_loan_of_bytes_may_be_shorter_than_the_slot() {
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Frames, 1000).open("t").unwrap();
    let mut subscriber = domain.subscriber().open("t").unwrap();
    for len in [0, 1, 7, 8, 999, 1000] {
        publisher.publish(&vec![0xff; 1000]).unwrap();
        let mut loan = publisher.loan(len).unwrap();
        loan.fill(len as u8);
        loan.commit();
        let mut loan = publisher.loan(1000).unwrap();
        loan.fill(len as u8);
        loan.truncate(len);
        loan.truncate(1001);
        assert_eq!(loan.len(), len);
        loan.commit();
        assert_eq!(subscriber.recv().unwrap().len(), 1000);
        for _ in 0..2 {
            assert_eq!(*subscriber.recv().unwrap(), *vec![len as u8; len]);
        }
    }
    drop(subscriber);
    publisher.remove().unwrap();
}

#[test]
fn lengths_that_do_not_fit_are_refused_and_nothing_is_published() {
    let domain = Domain::new();
    let mut frames = domain.publisher_of(SlotKind::Frames, 100).open("frames").unwrap();
    let mut words = domain.publisher_of(SlotKind::Words, 100).open("words").unwrap();
    for len in [101, 128, 4096, usize::MAX >> 8] {
        assert!(matches!(frames.loan(len), Err(Error::TooLong { max: 100, len: l, .. }) if l == len));
    }
    for len in [0, 99, 101] {
        let error = words.publish(&vec![1; len]).unwrap_err();
        assert!(matches!(error, Error::WrongLength { expected: 100, len: l, .. } if l == len), "{error}");
    }
    let text = frames.publish(&[0; 101]).unwrap_err().to_string();
    assert!(
        text.contains("101") && text.contains("100") && text.contains("frames") && text.contains("max_len"),
        "{text}"
    );
    // A batch stops before the message that does not fit.
    assert_eq!(frames.publish_batch([&[1; 100][..], &[2; 50], &[3; 101], &[4; 1]]).unwrap(), 2);
    assert!(frames.publish_batch([&[3; 101][..]]).is_err());
    assert_eq!((frames.next_sequence(), words.next_sequence()), (2, 0));
}

#[test]
fn a_subscriber_holds_as_many_samples_as_it_declared_and_they_stay_whole() {
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Frames, LEN).subscribers(3).samples(4).open("t").unwrap();
    let mut subscriber = domain.subscriber().samples(5).open("t").unwrap();
    let mut beside = domain.subscriber().samples(1).open("t").unwrap();
    publish(&mut publisher, 6);
    let mut held: Vec<_> = (0..5).map(|_| subscriber.recv().unwrap()).collect();
    for _ in 0..3 {
        let error = subscriber.try_recv().unwrap_err();
        assert!(matches!(error, Error::TooManySamples { declared: 5, .. }), "{error}");
    }
    assert!(error_names(&subscriber.recv().unwrap_err(), &["5", "samples", "t"]));
    // Dropped anywhere, it makes room.
    let first = held.remove(0);
    thread::spawn(move || drop(first)).join().unwrap();
    held.push(subscriber.recv().unwrap());
    assert_eq!(held.last().unwrap().sequence(), 5);
    let before = topic::inspect(Some(domain.name()), "t").unwrap().skips;
    let mut stream = Stream::from(0);
    for _ in 0..10 * u64::from(publisher.geometry().capacity) {
        publish(&mut publisher, 1);
        drain(&mut beside, &mut stream);
    }
    assert_eq!(stream.lost, 0, "slots that are stepped over are no loss");
    let info = topic::inspect(Some(domain.name()), "t").unwrap();
    assert!(info.skips >= before + 5 * 9, "each held slot is stepped over once a lap: {}", info.skips);
    for (sample, sequence) in held.iter().zip(1..) {
        assert_eq!((sample.sequence(), number(sample)), (sequence, Ok(sequence)));
    }
    // Samples outlive their subscriber, and the topic.
    drop(subscriber);
    publisher.remove().unwrap();
    drop(beside);
    for sample in thread::spawn(move || held).join().unwrap() {
        assert_eq!(number(&sample), Ok(sample.sequence()));
    }
}

fn error_names(error: &Error, words: &[&str]) -> bool {
    words.iter().all(|word| error.to_string().contains(word))
}

#[test]
fn samples_of_words_slots_are_copies_without_limit() {
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).open("t").unwrap();
    let mut subscriber = domain.subscriber().samples(1).open("t").unwrap();
    let mut held = Vec::new();
    for _ in 0..1000 {
        publish(&mut publisher, 1);
        held.push(subscriber.recv().unwrap());
    }
    drop(subscriber);
    publisher.remove().unwrap();
    for (sample, sequence) in held.iter().zip(0..) {
        assert_eq!((sample.sequence(), number(sample)), (sequence, Ok(sequence)));
        assert!(!sample.is_in_place());
    }
}

#[test]
fn every_length_of_words_message_arrives_whole() {
    let domain = Domain::new();
    for len in (1..=256).filter(|len| len % 8 < 2 || len % 8 == 7) {
        for timestamps in [Timestamps::None, Timestamps::Clock] {
            let options = domain.publisher_of(SlotKind::Words, len).timestamps(timestamps);
            let mut publisher = options.open("t").unwrap();
            let mut subscriber = domain.subscriber().open("t").unwrap();
            for round in 0..40u8 {
                let bytes: Vec<_> = (0..len).map(|at| at as u8 ^ round).collect();
                publisher.publish(&bytes).unwrap();
                assert_eq!(*subscriber.recv().unwrap(), *bytes);
            }
            drop(subscriber);
            publisher.remove().unwrap();
        }
    }
}

#[test]
fn timestamps_are_none_given_or_the_clock() {
    let domain = Domain::new();
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes the struct it is given.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    for slots in KINDS {
        for timestamps in [Timestamps::None, Timestamps::Given, Timestamps::Clock] {
            let mut publisher = domain.publisher_of(slots, LEN).timestamps(timestamps).open("t").unwrap();
            let mut subscriber = domain.subscriber().open("t").unwrap();
            let before = now();
            publish(&mut publisher, 1);
            publisher.loan(LEN).unwrap().commit();
            publisher.publish_batch([&[1; LEN][..], &[2; LEN]]).unwrap();
            let after = now();
            let read: Vec<_> = (0..4).map(|_| subscriber.recv().unwrap().timestamp()).collect();
            match timestamps {
                Timestamps::None => assert_eq!(read, [None; 4]),
                _ => {
                    assert!(read.iter().all(|time| (before..=after).contains(&time.unwrap())), "{read:?}");
                    assert!(read.is_sorted() && read[2] == read[3]);
                }
            }
            let given = publisher.publish_at(&[3; LEN], 12345);
            let commit = publisher.loan(LEN).unwrap().commit_at(54321);
            if timestamps == Timestamps::Given {
                assert_eq!((given.unwrap(), commit.unwrap()), (4, 5));
                for expected in [12345, 54321] {
                    assert_eq!(subscriber.recv().unwrap().timestamp(), Some(Duration::from_nanos(expected)));
                }
            } else {
                for error in [given.unwrap_err(), commit.unwrap_err()] {
                    assert!(matches!(error, Error::InvalidOption { option: "timestamps", .. }), "{error}");
                }
                assert!(subscriber.try_recv().unwrap().is_none());
            }
            drop(subscriber);
            publisher.remove().unwrap();
        }
    }
}

#[test]
fn a_wait_ends_with_its_timeout_and_not_before() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        for timeout in [0, 1, 30].map(Duration::from_millis) {
            let start = Instant::now();
            assert!(subscriber.recv_timeout(timeout).unwrap().is_none());
            assert!(start.elapsed() >= timeout);
        }
        // The longest is no mistake either.
        publish(&mut publisher, 1);
        assert_eq!(subscriber.recv_timeout(Duration::MAX).unwrap().unwrap().sequence(), 0);
        let waiting = thread::spawn(move || subscriber.recv_timeout(Duration::MAX).unwrap().unwrap().sequence());
        thread::sleep(Duration::from_millis(5));
        publish(&mut publisher, 1);
        assert_eq!(in_time("a wait", move || waiting.join().unwrap()), 1);
        publisher.remove().unwrap();
    }
}

/// Over and over: the subscriber goes to sleep at any point of the publisher's call, and always wakes.
#[test]
fn no_wake_up_is_lost() {
    let domain = Domain::new();
    for slots in KINDS {
        let rounds = u64::from(rounds(200_000));
        let mut there = domain.publisher_of(slots, LEN).open("there").unwrap();
        let mut back = domain.publisher_of(slots, LEN).open("back").unwrap();
        let mut here = domain.subscriber().open("there").unwrap();
        let mut echo = domain.subscriber().open("back").unwrap();
        let thread = thread::spawn(move || {
            for _ in 0..rounds {
                let sample = here.recv().unwrap();
                back.publish(&sample).unwrap();
            }
            back
        });
        in_time("ping-pong", move || {
            for sequence in 0..rounds {
                there.publish(&message(LEN, sequence)).unwrap();
                assert_eq!(number(&echo.recv().unwrap()), Ok(sequence));
            }
            there.remove().unwrap();
        });
        thread.join().unwrap().remove().unwrap();
    }
}

#[test]
fn handles_and_samples_move_between_threads() {
    fn moves<T: Send + 'static>() {}
    moves::<Publisher<[u8]>>();
    moves::<Subscriber<Imu>>();
    moves::<topic::Sample<Imu>>();
    moves::<topic::AsyncSubscriber<Imu>>();
    moves::<topic::PollSubscriber<[u8]>>();
    moves::<topic::WaitSet>();
    moves::<topic::Observer>();
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        for sequence in 0..20 {
            publisher = thread::spawn(move || {
                publish(&mut publisher, 1);
                publisher
            })
            .join()
            .unwrap();
            let sample;
            (subscriber, sample) = thread::spawn(move || {
                let sample = subscriber.recv().unwrap();
                (subscriber, sample)
            })
            .join()
            .unwrap();
            assert_eq!(number(&sample), Ok(sequence));
        }
        drop(subscriber);
        publisher.remove().unwrap();
    }
}

#[test]
fn typed_messages_keep_every_field_and_bytes_subscribers_see_the_same() {
    let domain = Domain::new();
    for slots in [SlotKind::Frames, SlotKind::Words] {
        let mut publisher = domain.publisher::<Vector3>().slots(slots).open("v").unwrap();
        let mut typed = domain.subscriber_of::<Vector3>().open("v").unwrap();
        let mut bytes = domain.subscriber().open("v").unwrap();
        let vector = Vector3 { x: 1.5, y: -0.0, z: f64::MAX };
        publisher.publish(&vector).unwrap();
        let mut loan = publisher.loan().unwrap();
        *loan = vector;
        loan.commit();
        for _ in 0..2 {
            assert_eq!(*typed.recv().unwrap(), vector);
            let expected = [1.5f64, -0.0, f64::MAX].map(f64::to_ne_bytes).concat();
            assert_eq!(*bytes.recv().unwrap(), *expected);
        }
        assert!(typed.recv_timeout(Duration::ZERO).unwrap().is_none());
        assert_eq!(typed.publisher(), WriterState::Alive);
        drop((typed, bytes));
        publisher.remove().unwrap();
    }
    let mut publisher = domain.publisher::<Imu>().open("imu").unwrap();
    assert_eq!(publisher.geometry().slots, SlotKind::Frames, "an Imu is larger than 256 bytes");
    let mut subscriber = domain.subscriber_of::<Imu>().open("imu").unwrap();
    let imu = Imu { linear_acceleration_covariance: [0.25; 9], ..Imu::default() };
    publisher.publish(&imu).unwrap();
    let sample = subscriber.recv().unwrap();
    assert_eq!(*sample, imu);
    assert!(sample.is_in_place() && sample.timestamp().is_some());
    assert!(format!("{sample:?}").contains("sequence: 0"));
}

conduit::message! {
    /// A field with the name of a keyword.
    pub struct Keyword: "test_msgs/msg/Keyword" {
        pub r#type: u64,
    }
}

#[test]
fn a_field_is_called_in_the_schema_as_it_is_called_elsewhere() {
    let domain = Domain::new();
    let publisher = domain.publisher::<Keyword>().open("t").unwrap();
    assert_eq!(String::from_utf8_lossy(&publisher.schema().data).trim(), "uint64 type");
}
