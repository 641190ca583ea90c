//! `kill -9` at random points: the survivors go on, no message is ever torn, nothing has to be cleaned up.
//!
//! Each round kills a process while it is in the middle of whatever it does; where that is, is left to chance.
#![cfg(feature = "std")]

mod support;

use std::time::{Duration, Instant};

use conduit::topic::{Overflow, SlotKind, Start};
use conduit::{Error, Publisher, Subscriber};
use support::{Domain, KINDS, Noise, Process, Stream, fill, in_time, kind_name, kind_of, overflow_name, overflow_of};
use support::{number, rounds, say};

const LEN: usize = 200;

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[("publisher", publisher), ("subscriber", subscriber), ("sleeper", sleeper)]);
}

/// Publishes as fast as it can, for ever: copies, loans and batches. Says the first sequence it will publish.
fn publisher(args: &[&str]) {
    let [kind, overflow, domain] = args else { panic!("kind, overflow, domain") };
    let mut publisher = open(kind_of(kind), overflow_of(overflow), domain);
    say(publisher.next_sequence());
    let mut messages = [[0; LEN]; 3];
    loop {
        for message in &mut messages {
            let sequence = publisher.next_sequence();
            fill(message, sequence);
            assert_eq!(publisher.publish(message).unwrap(), sequence);
        }
        let sequence = publisher.next_sequence();
        let mut loan = publisher.loan(LEN).unwrap();
        fill(&mut loan, sequence);
        assert_eq!(loan.commit(), sequence);
        let first = publisher.next_sequence();
        for (message, sequence) in messages.iter_mut().zip(first..) {
            fill(message, sequence);
        }
        assert_eq!(publisher.publish_batch(messages.iter().map(|message| &message[..])).unwrap(), messages.len());
    }
}

fn open(kind: SlotKind, overflow: Overflow, domain: &str) -> Publisher<[u8]> {
    let options = Publisher::<[u8]>::options().domain(domain).slots(kind).overflow(overflow).max_len(LEN);
    let deadline = Instant::now() + support::PATIENCE;
    loop {
        match options.clone().open("t") {
            Ok(publisher) => return publisher,
            // The one that was killed is waited for already, but the kernel drops its locks when it likes.
            Err(Error::PublisherExists { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Receives for ever, holding a sample as often as not.
fn subscriber(args: &[&str]) {
    let [domain] = args else { panic!("domain") };
    let mut subscriber = Subscriber::<[u8]>::options().domain(domain).start(Start::New).open("t").unwrap();
    say("ready");
    let mut stream = Stream::default();
    let mut held = None;
    for turn in 0u64.. {
        let sample = subscriber.recv().unwrap();
        if let Err(error) = stream.take(sample.sequence(), sample.lagged(), &sample) {
            say(error);
            return;
        }
        held = (turn % 3 == 0).then_some(sample).or(held.filter(|_| turn % 7 != 0));
    }
}

/// Says each message it gets from its sleep.
fn sleeper(args: &[&str]) {
    let [domain] = args else { panic!("domain") };
    let mut subscriber = Subscriber::<[u8]>::options().domain(domain).start(Start::New).open("t").unwrap();
    say("ready");
    loop {
        let sample = subscriber.recv().unwrap();
        say(number(&sample).unwrap());
    }
}

/// Lets a moment pass in which the others get somewhere; how far is the test's chance, and nothing depends on it.
fn random_moment(noise: &mut Noise) {
    let until = Instant::now() + Duration::from_micros(noise.below(3000));
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

/// Receives a few messages, at least one; what is received must be whole, in order, and counted.
fn receive_some(subscriber: &mut Subscriber<[u8]>, stream: &mut Stream, at_least: u64) {
    let goal = stream.received + at_least;
    while stream.received < goal {
        let sample = subscriber.recv_timeout(support::PATIENCE).unwrap().expect("the topic is silent");
        stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
    }
}

#[test]
fn subscribers_outlive_any_number_of_killed_publishers() {
    let mut noise = Noise::seeded("subscribers_outlive_any_number_of_killed_publishers");
    for kind in KINDS {
        for overflow in [Overflow::Overwrite, Overflow::Block] {
            let domain = Domain::new();
            let args = [kind_name(kind), overflow_name(overflow), domain.name()];
            let mut publisher = Process::start("publisher", &args);
            publisher.expect("0");
            let mut subscriber = domain.subscriber().start(Start::New).open("t").unwrap();
            let mut stream = Stream::default();
            for round in 0..rounds(500).div_ceil(4) {
                receive_some(&mut subscriber, &mut stream, 1 + noise.below(200));
                random_moment(&mut noise);
                publisher.kill();
                publisher = Process::start("publisher", &args);
                let first: u64 = publisher.line().parse().unwrap();
                let seen = stream.expected.unwrap();
                assert!(first >= seen, "round {round}: {first} comes next, and {seen} was received already");
            }
            receive_some(&mut subscriber, &mut stream, 1000);
            if overflow == Overflow::Block {
                assert_eq!(stream.lost, 0, "a lossless topic lost messages");
            }
            // One file, whatever was killed.
            assert_eq!(domain.files().len(), 1);
            publisher.kill();
        }
    }
}

#[test]
fn publishers_outlive_any_number_of_killed_subscribers() {
    let mut noise = Noise::seeded("publishers_outlive_any_number_of_killed_subscribers");
    for kind in KINDS {
        for overflow in [Overflow::Overwrite, Overflow::Block] {
            let domain = Domain::new();
            let mut publisher = Process::start("publisher", &[kind_name(kind), overflow_name(overflow), domain.name()]);
            publisher.expect("0");
            let mut witness = domain.subscriber().start(Start::New).open("t").unwrap();
            let mut stream = Stream::default();
            for _ in 0..rounds(500).div_ceil(4) {
                let mut victims: Vec<_> = (0..2).map(|_| Process::start("subscriber", &[domain.name()])).collect();
                for victim in &mut victims {
                    // A blocked publisher goes on only while its witness receives.
                    while victim.line_now().is_none_or(|line| {
                        assert_eq!(line, "ready");
                        false
                    }) {
                        receive_some(&mut witness, &mut stream, 1);
                    }
                }
                receive_some(&mut witness, &mut stream, 1 + noise.below(200));
                random_moment(&mut noise);
                for mut victim in victims {
                    assert_eq!(victim.line_now(), None, "a subscriber has something to complain of");
                    victim.kill();
                }
            }
            receive_some(&mut witness, &mut stream, 1000);
            if overflow == Overflow::Block {
                assert_eq!(stream.lost, 0, "a lossless topic lost messages");
            }
            publisher.kill();
        }
    }
}

#[test]
fn sleepers_wake_for_the_next_publisher() {
    for kind in KINDS {
        let domain = Domain::new();
        drop(open(kind, Overflow::Overwrite, domain.name()));
        let mut sleepers: Vec<_> = (0..4).map(|_| Process::start("sleeper", &[domain.name()])).collect();
        sleepers.iter_mut().for_each(|sleeper| sleeper.expect("ready"));
        for _ in 0..rounds(100) {
            let mut publisher = open(kind, Overflow::Overwrite, domain.name());
            let sequence = publisher.next_sequence();
            publisher.publish(&support::message(LEN, sequence)).unwrap();
            sleepers.iter_mut().for_each(|sleeper| sleeper.expect(&sequence.to_string()));
        }
        sleepers.into_iter().for_each(Process::kill);
    }
}

#[test]
fn places_and_samples_of_the_dead_are_given_to_the_living() {
    let mut noise = Noise::seeded("places_and_samples_of_the_dead_are_given_to_the_living");
    for kind in KINDS {
        let domain = Domain::new();
        // Two places, and samples for two: without a sweep the third subscriber would not get in.
        let options = domain.publisher_of(kind, LEN).subscribers(2).samples(2);
        let mut publisher = options.open("t").unwrap();
        for _ in 0..rounds(100) {
            let mut victims: Vec<_> = (0..2).map(|_| Process::start("subscriber", &[domain.name()])).collect();
            victims.iter_mut().for_each(|victim| victim.expect("ready"));
            for _ in 0..noise.below(100) {
                let sequence = publisher.next_sequence();
                publisher.publish(&support::message(LEN, sequence)).unwrap();
            }
            victims.into_iter().for_each(Process::kill);
        }
        let mut subscriber = in_time("joining", {
            let options = domain.subscriber();
            move || options.open("t").unwrap()
        });
        let sequence = publisher.next_sequence();
        publisher.publish(&support::message(LEN, sequence)).unwrap();
        assert_eq!(subscriber.recv().unwrap().sequence(), sequence);
    }
}

#[test]
fn the_check_for_torn_messages_finds_a_torn_one() {
    let mut torn = support::message(LEN, 7);
    torn[LEN / 2..].copy_from_slice(&support::message(LEN, 8)[LEN / 2..]);
    assert!(Stream::default().take(7, 0, &torn).is_err());
    assert!(Stream::from(6).take(7, 0, &support::message(LEN, 7)).is_err(), "a loss that nobody counted");
    assert!(Stream::from(8).take(7, 0, &support::message(LEN, 7)).is_err(), "a message that comes twice");
    assert!(Stream::from(7).take(7, 0, &support::message(LEN, 7)).is_ok());
}
