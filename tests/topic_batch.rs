//! Batches: many messages in one call.
#![cfg(feature = "std")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use conduit::msgs::Vector3;
use conduit::topic::{self, Overflow};
use support::{Domain, KINDS, LEN, PATIENCE, Stream, drain, eventually, in_time, is_asleep, message, thread_id};

#[test]
fn a_batch_is_as_many_messages_in_order() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).depth(64).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        let messages: Vec<_> = (0..60).map(|sequence| message(LEN, sequence)).collect();
        assert_eq!(publisher.publish_batch(messages.iter().map(|m| &m[..])).unwrap(), 60);
        assert_eq!(publisher.publish_batch([]).unwrap(), 0);
        let mut stream = Stream::from(0);
        let mut take = |message: topic::Received<'_, [u8]>| {
            stream.take(message.sequence(), message.lagged(), &message).unwrap();
        };
        assert_eq!(subscriber.recv_batch(7, &mut take).unwrap(), 7);
        assert_eq!(subscriber.recv_batch(0, &mut take).unwrap(), 0);
        assert_eq!(subscriber.recv_batch(usize::MAX, &mut take).unwrap(), 53);
        assert_eq!(subscriber.recv_batch(1, &mut take).unwrap(), 0);
        assert_eq!((stream.received, stream.lost), (60, 0));
        drop(subscriber);
        publisher.remove().unwrap();
    }
    let mut publisher = domain.publisher::<Vector3>().open("v").unwrap();
    let mut subscriber = domain.subscriber_of::<Vector3>().open("v").unwrap();
    let vectors: Vec<Vector3> = (0..10).map(|i| [f64::from(i), 0.5, -1.0].into()).collect();
    assert_eq!(publisher.publish_batch(&vectors).unwrap(), 10);
    assert_eq!(subscriber.iter().take(10).map(|sample| *sample).collect::<Vec<_>>(), vectors);
}

#[test]
fn a_batch_larger_than_the_ring_is_published_whole() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let messages: Vec<_> = (0..1000).map(|sequence| message(LEN, sequence)).collect();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        assert_eq!(publisher.publish_batch(messages.iter().map(|m| &m[..])).unwrap(), 1000);
        let mut stream = Stream::from(0);
        drain(&mut subscriber, &mut stream);
        assert_eq!(stream.received + stream.lost, 1000);
        drop(subscriber);
        publisher.remove().unwrap();
    }
}

/// A lossless topic that is exactly full behind a batch refuses nothing and waits for nobody.
#[test]
fn a_batch_that_exactly_fills_a_topic_is_published_at_once() {
    let domain = Domain::new();
    for slots in KINDS {
        for overflow in [Overflow::Block, Overflow::Reject] {
            let mut publisher = domain.publisher_of(slots, LEN).overflow(overflow).open("t").unwrap();
            let subscriber = domain.subscriber().open("t").unwrap();
            let messages: Vec<_> = (0..200).map(|sequence| message(LEN, sequence)).collect();
            // How much fits, which is more than the depth.
            let mut room = 0;
            while publisher.publish_timeout(&messages[room], Duration::ZERO).is_ok() {
                room += 1;
            }
            drop(subscriber);
            let rejected = |topic| topic::inspect(Some(domain.name()), topic).unwrap().rejected;
            let before = rejected("t");
            let mut subscriber = domain.subscriber().open("t").unwrap();
            let (publisher, mut stream) = in_time("a batch that fits", move || {
                // An iterator that doesn't know how many it has left.
                let fitting = messages[..room].iter().map(|m| &m[..]).filter(|_| true);
                assert_eq!(publisher.publish_batch(fitting).unwrap(), room);
                (publisher, Stream::default())
            });
            assert_eq!(rejected("t"), before);
            while let Some(sample) = subscriber.try_recv().unwrap() {
                stream.count(sample.sequence(), sample.lagged()).unwrap();
            }
            assert_eq!((stream.received, stream.lost), (room as u64, 0));
            drop(subscriber);
            publisher.remove().unwrap();
        }
    }
}

#[test]
fn a_batch_whose_iterator_panics_wakes_who_sleeps_for_what_it_published() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut sleeper = domain.subscriber().open("t").unwrap();
        let (sender, received) = channel();
        let thread = thread::spawn(move || {
            sender.send(thread_id()).unwrap();
            (0..3).for_each(|expected| assert_eq!(sleeper.recv().unwrap().sequence(), expected));
            sender.send(0).unwrap();
        });
        let tid = received.recv().unwrap();
        eventually("a sleeping thread", || is_asleep(tid));
        let messages: Vec<_> = (0..3).map(|sequence| message(LEN, sequence)).collect();
        let panics = std::iter::once_with(|| -> &[u8] { panic!("on purpose") });
        // The batch asks for one message more than it publishes.
        let batch = messages.iter().map(|m| &m[..]).chain([&messages[0][..]]).chain(panics);
        let ended = catch_unwind(AssertUnwindSafe(|| publisher.publish_batch(batch)));
        assert!(ended.is_err());
        assert_eq!(received.recv_timeout(PATIENCE), Ok(0));
        thread.join().unwrap();
        // And the publisher goes on.
        assert_eq!(publisher.publish(&message(LEN, 3)).unwrap(), 3);
        publisher.remove().unwrap();
    }
}
