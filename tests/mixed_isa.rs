//! Processes of different word sizes share a topic.
//!
//! The other process is this program again. `CONDUIT_PEER` is the command that runs one built for another architecture (an
//! emulator and the program, say); without it the peer is of this architecture, and only the test is tested.
#![cfg(feature = "std")]

mod support;

use std::process::Command;

use conduit::topic::{Overflow, SlotKind, Start, Timestamps};
use conduit::{Publisher, Subscriber};
use support::{Domain, KINDS, Process, Stream, fill, hear, kind_name, kind_of, rounds, say};

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[("publish", publish), ("subscribe", subscribe)]);
}

/// Waits for a line, then publishes messages that carry a checksum.
fn publish(args: &[&str]) {
    let [kind, domain, count] = args else { panic!("kind, domain, count") };
    let options = Publisher::<[u8]>::options().domain(domain).slots(kind_of(kind)).max_len(120);
    let mut publisher = options.overflow(Overflow::Block).timestamps(Timestamps::Clock).open("t").unwrap();
    say(usize::BITS);
    hear();
    let mut message = [0; 120];
    for sequence in 0..count.parse().unwrap() {
        fill(&mut message, sequence);
        publisher.publish(&message).unwrap();
    }
    // Until the other end has seen everything.
    hear();
}

/// Receives messages, checks them, and says how many came and how many were lost.
fn subscribe(args: &[&str]) {
    let [_, domain, count] = args else { panic!("kind, domain, count") };
    let count: u64 = count.parse().unwrap();
    let mut subscriber = Subscriber::<[u8]>::options().domain(domain).start(Start::Oldest).open("t").unwrap();
    say(usize::BITS);
    let mut stream = Stream::from(0);
    while stream.received < count {
        let sample = subscriber.recv().unwrap();
        stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
    }
    say(format_args!("received {} lost {}", stream.received, stream.lost));
}

/// A peer that runs `role`, once it is ready.
fn peer(role: &str, kind: SlotKind, domain: &Domain, count: u64) -> Process {
    let count = count.to_string();
    let args = [kind_name(kind), domain.name(), &count];
    let Ok(prefix) = std::env::var("CONDUIT_PEER") else {
        let mut peer = Process::start(role, &args);
        peer.expect(&usize::BITS.to_string());
        return peer;
    };
    let mut words = prefix.split_whitespace();
    let mut command = Command::new(words.next().expect("CONDUIT_PEER is a command"));
    command.args(words);
    Process::arguments(&mut command, role, &args);
    let mut peer = Process::spawn(role, command);
    assert_ne!(peer.line(), usize::BITS.to_string(), "CONDUIT_PEER is to be of another word size");
    peer
}

#[test]
fn messages_from_another_architecture_arrive_whole_and_counted() {
    for kind in KINDS {
        let domain = Domain::new();
        let count = u64::from(rounds(200_000));
        let mut peer = peer("publish", kind, &domain, count);
        let mut subscriber = domain.subscriber().start(Start::Oldest).open("t").unwrap();
        assert_eq!((subscriber.geometry().slots, subscriber.geometry().overflow), (kind, Overflow::Block));
        peer.tell("go");
        let mut stream = Stream::from(0);
        while stream.received < count {
            let sample = subscriber.recv().unwrap();
            assert!(sample.timestamp().is_some());
            stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
        }
        assert_eq!(stream.lost, 0);
        peer.finish();
    }
}

#[test]
fn messages_to_another_architecture_arrive_whole_and_counted() {
    for kind in KINDS {
        let domain = Domain::new();
        let count = u64::from(rounds(200_000));
        let options = domain.publisher_of(kind, 120).overflow(Overflow::Block).timestamps(Timestamps::Clock);
        let mut publisher = options.open("t").unwrap();
        let mut peer = peer("subscribe", kind, &domain, count);
        let mut message = [0; 120];
        for sequence in 0..count {
            fill(&mut message, sequence);
            publisher.publish(&message).unwrap();
        }
        peer.expect(&format!("received {count} lost 0"));
        peer.finish();
    }
}
