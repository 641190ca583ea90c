//! Lossless topics: publishers that wait, or are told that there is no room.
#![cfg(feature = "std")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use conduit::Error;
use conduit::topic::{self, Overflow, SlotKind, Start, WriterState};
use support::{
    Domain, KINDS, LEN, Noise, PATIENCE, Stream, drain, eventually, in_time, is_asleep, message, publish, rounds,
    thread_id,
};

#[test]
fn a_blocking_topic_loses_nothing_however_slow_its_subscribers_are() {
    let domain = Domain::new();
    for slots in KINDS {
        for (depth, batch) in [(1, 1), (16, 1), (16, 5), (64, 200)] {
            let options = domain.publisher_of(slots, LEN).overflow(Overflow::Block).depth(depth);
            let mut publisher = options.subscribers(4).samples(2).open("t").unwrap();
            let count = u64::from(rounds(100_000)).next_multiple_of(batch);
            let readers: Vec<_> = (0..3)
                .map(|reader| {
                    let mut subscriber = domain.subscriber().open("t").unwrap();
                    thread::spawn(move || {
                        let mut noise = Noise::new(reader);
                        let mut stream = Stream::from(0);
                        while stream.received < count {
                            let sample = subscriber.recv().unwrap();
                            stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
                            if noise.below(1000) == 0 {
                                thread::sleep(Duration::from_micros(noise.below(200)));
                            }
                        }
                        assert_eq!((stream.lost, subscriber.lost()), (0, 0));
                    })
                })
                .collect();
            let publisher = in_time("publishing", move || {
                for first in (0..count).step_by(batch as usize) {
                    if batch == 1 {
                        assert_eq!(publisher.publish(&message(LEN, first)).unwrap(), first);
                    } else {
                        let messages: Vec<_> = (first..first + batch).map(|n| message(LEN, n)).collect();
                        let published = publisher.publish_batch(messages.iter().map(|m| &m[..])).unwrap();
                        assert_eq!(published as u64, batch);
                    }
                }
                publisher
            });
            readers.into_iter().for_each(|reader| reader.join().unwrap());
            publisher.remove().unwrap();
        }
    }
}

#[test]
fn a_blocking_publisher_waits_for_a_subscriber_that_never_reads_and_can_stop_waiting() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).overflow(Overflow::Block).open("t").unwrap();
        let capacity = u64::from(publisher.geometry().capacity);
        // Without subscribers there is nobody to wait for.
        publish(&mut publisher, 3 * capacity);
        let mut never = domain.subscriber().open("t").unwrap();
        let mut reads = domain.subscriber().open("t").unwrap();
        let mut stream = Stream::from(3 * capacity);
        let mut taken = 0;
        let error = loop {
            let next = publisher.next_sequence();
            match publisher.publish_timeout(&message(LEN, next), Duration::ZERO) {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
            drain(&mut reads, &mut stream);
        };
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        assert!((16..=capacity).contains(&taken), "{taken}");
        for timeout in [1, 50, 250].map(Duration::from_millis) {
            let start = Instant::now();
            let result = publisher.publish_timeout(&message(LEN, 3 * capacity + taken), timeout);
            assert!(matches!(result, Err(Error::TimedOut { .. })));
            assert!(start.elapsed() >= timeout);
        }
        let info = topic::inspect(Some(domain.name()), "t").unwrap();
        assert_eq!((info.rejected, info.published), (4, 3 * capacity + taken));
        assert!(info.blocked >= 4);
        // Once it reads, all is there, and the publisher goes on.
        let mut late = Stream::from(3 * capacity);
        drain(&mut never, &mut late);
        assert_eq!((late.received, late.lost), (taken, 0));
        publish(&mut publisher, 1);
        // Gone, it holds nobody up.
        drop(never);
        for _ in 0..2 * capacity {
            publish(&mut publisher, 1);
            drain(&mut reads, &mut stream);
        }
        assert_eq!(stream.lost, 0);
        drop(reads);
        publisher.remove().unwrap();
    }
}

#[test]
fn a_publisher_that_is_told_to_stop_waits_no_longer_and_closes_its_topic() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).overflow(Overflow::Block).open("t").unwrap();
        let subscriber = domain.subscriber().open("t").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        publisher.stop_waiting_when(stop.clone());
        let (sender, received) = channel();
        let publishing = thread::spawn(move || {
            sender.send(thread_id()).unwrap();
            let result = (0..).find_map(|sequence| publisher.publish(&message(LEN, sequence)).err()).unwrap();
            // So does every other way, and at once.
            let next = publisher.next_sequence();
            let stopped =
                |result: Result<(), Error>| assert!(matches!(result, Err(Error::Stopped { .. })), "{result:?}");
            stopped(publisher.publish_timeout(&message(LEN, next), PATIENCE).map(drop));
            stopped(publisher.publish_batch([&message(LEN, next)[..]]).map(drop));
            stopped(publisher.loan(LEN).map(drop));
            (result, publisher.next_sequence())
        });
        let info = || topic::inspect(Some(domain.name()), "t").unwrap();
        let tid = received.recv().unwrap();
        eventually("it sleeps until there is room", || info().blocked > 0 && is_asleep(tid));
        stop.store(true, Ordering::Release);
        let (error, published) = in_time("a publisher that was told to stop", || publishing.join().unwrap());
        assert!(matches!(error, Error::Stopped { .. }), "{error}");
        assert_eq!((info().published, info().rejected), (published, 0), "what was given up was not refused");
        assert_eq!(subscriber.publisher(), WriterState::Closed);
    }
}

#[test]
fn a_rejecting_topic_says_that_it_is_full_and_overwrites_nothing() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).overflow(Overflow::Reject).open("t").unwrap();
        let capacity = u64::from(publisher.geometry().capacity);
        publish(&mut publisher, 2 * capacity);
        let mut subscriber = domain.subscriber().open("t").unwrap();
        let mut stream = Stream::from(2 * capacity);
        for _ in 0..10 {
            let first = publisher.next_sequence();
            let mut taken = 0;
            let error = loop {
                match publisher.publish(&message(LEN, first + taken)) {
                    Ok(_) => taken += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, Error::Full { subscriber: 0, .. }), "{error}");
            assert!((16..=capacity).contains(&taken), "{taken}");
            assert!(matches!(publisher.loan(LEN), Err(Error::Full { .. })));
            assert!(matches!(publisher.publish_batch([&message(LEN, 0)[..]]), Err(Error::Full { .. })));
            assert_eq!(publisher.next_sequence(), first + taken);
            drain(&mut subscriber, &mut stream);
            assert_eq!((stream.expected, stream.lost), (Some(first + taken), 0));
        }
        // A batch is published as far as there is room.
        let messages: Vec<_> = (0..200).map(|on| message(LEN, publisher.next_sequence() + on)).collect();
        let taken = publisher.publish_batch(messages.iter().map(|m| &m[..])).unwrap() as u64;
        assert!((16..=capacity).contains(&taken), "{taken}");
        drain(&mut subscriber, &mut stream);
        assert_eq!(stream.expected, Some(publisher.next_sequence()));
        assert!(topic::inspect(Some(domain.name()), "t").unwrap().rejected >= 30);
        drop(subscriber);
        publisher.remove().unwrap();
    }
}

/// One subscriber has received everything and sleeps. Another one holds each message just when the publisher wants its
/// slot again, so the publisher steps over slot after slot, a whole lap, until it is one lap ahead of the sleeper: who has
/// to hear of the steps, for nothing was published that would wake it.
#[test]
fn a_subscriber_asleep_at_slots_that_are_stepped_over_holds_nobody_up() {
    let domain = Domain::new();
    for overflow in [Overflow::Reject, Overflow::Block] {
        let options = domain.publisher_of(SlotKind::Frames, LEN).overflow(overflow).depth(2).subscribers(2).samples(1);
        let mut publisher = options.open("t").unwrap();
        let capacity = u64::from(publisher.geometry().capacity);
        let mut sleeper = domain.subscriber().samples(1).open("t").unwrap();
        let mut holder = domain.subscriber().samples(1).open("t").unwrap();
        let (sender, received) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            sender.send(support::thread_id()).unwrap();
            for expected in 0..=capacity {
                assert_eq!(sleeper.recv().unwrap().sequence(), expected);
                sender.send(expected).unwrap();
            }
        });
        let tid = received.recv().unwrap();
        publish(&mut publisher, capacity);
        while received.recv_timeout(PATIENCE).unwrap() != capacity - 1 {}
        support::eventually("a sleeping thread", || support::is_asleep(tid));
        let mut try_publish = |timeout| publisher.publish_timeout(&message(LEN, capacity), timeout);
        for sequence in 0..capacity {
            let held = holder.recv().unwrap();
            assert_eq!(held.sequence(), sequence);
            assert!(matches!(try_publish(Duration::ZERO), Err(Error::TimedOut { .. })));
        }
        assert!(holder.try_recv().unwrap().is_none());
        assert_eq!(try_publish(PATIENCE).unwrap(), capacity);
        assert_eq!(received.recv_timeout(PATIENCE), Ok(capacity));
        thread.join().unwrap();
        assert_eq!(holder.recv().unwrap().sequence(), capacity);
        drop(holder);
        publisher.remove().unwrap();
    }
}

#[test]
fn a_subscriber_that_joins_a_lossless_topic_late_loses_nothing_after_its_first_message() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher =
            domain.publisher_of(slots, LEN).overflow(Overflow::Block).depth(4).subscribers(2).open("t").unwrap();
        let joins = rounds(2000);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                publish(&mut publisher, 1);
            }
            publisher
        });
        for join in 0..joins {
            let start = [Start::New, Start::Latest, Start::Oldest][join as usize % 3];
            let mut subscriber = domain.subscriber().start(start).open("t").unwrap();
            let mut stream = Stream::default();
            for _ in 0..20 {
                let sample = subscriber.recv().unwrap();
                assert!(stream.received > 0 || sample.lagged() == 0);
                stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
            }
            assert_eq!(stream.lost, 0, "{slots:?} {start:?}");
        }
        stop.store(true, Ordering::Relaxed);
        in_time("publishing", move || thread.join().unwrap()).remove().unwrap();
    }
}
