//! The daemon: what comes in is on topics and in metrics, what was accepted is processed before it ends, and what was answered
//! as durable is on disk, however it ends.
#![cfg(all(feature = "cli", feature = "net", feature = "tank"))]

mod cli;
mod support;
mod wire;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use conduit::ack::Status;
use conduit::engine::DurableLog;
use conduit::frame::{Durability, Event, Flags, Priority};
use conduit::tank::{DeadLetterBox, EventLog, LetterFilter};
use conduit::topic::Start;
use support::{Directory, Noise, PATIENCE, eventually, rounds};
use wire::{Wire, encoded, event};

use cli::daemon::{Daemon, get};
use cli::{Cli, Running};

const ME: [u8; 16] = *b"a test's client!";

#[test]
fn what_comes_in_is_on_its_topic_and_in_the_metrics() {
    let cli = Cli::new();
    let daemon = Daemon::start(&cli, &[]);
    let mut wire = Wire::introduced(daemon.tcp, ME);
    assert_eq!(wire.welcome.unwrap().durability, Durability::None);
    for n in 1..=3 {
        wire.send(&encoded(&event("sensors/imu", n, Priority::High, b"[1, 2]")));
    }
    wire.send(&encoded(&event("sensors/imu", 3, Priority::High, b"[1, 2]")));
    wire.until(|wire| wire.status(3) == Some(Status::Duplicate));
    let mut subscriber = cli.domain.subscriber().start(Start::Oldest).wait(PATIENCE).open("sensors/imu").unwrap();
    assert_eq!(&*subscriber.recv_timeout(PATIENCE).unwrap().unwrap(), b"[1, 2]");
    assert_eq!(daemon.metric("events_received_total"), 4.0);
    assert_eq!(daemon.metric("dedup_hits_total"), 1.0);
    assert_eq!(daemon.metric("events_dropped_total"), 0.0);
    assert_eq!(daemon.metric("conduit_events_accepted_total{priority=\"high\"}"), 3.0);
    eventually("all are processed", || daemon.metric("events_processed_total") == 3.0);
    assert_eq!((daemon.metric("latency_ns_count"), daemon.metric("queue_depth")), (3.0, 0.0));
    assert!(get(daemon.metrics, "/metrics").starts_with("HTTP/1.1 200"));
    assert!(get(daemon.metrics, "/elsewhere").starts_with("HTTP/1.1 404"));
    daemon.running.signal(libc::SIGTERM);
    let ended = daemon.running.end().code(0);
    assert!(ended.err.contains("4 events: 3 accepted") && ended.err.contains("1 duplicate"), "{ended:?}");
}

#[test]
fn a_page_of_some_site_gets_no_metrics() {
    let cli = Cli::new();
    let daemon = Daemon::start(&cli, &[]);
    let mut stream = TcpStream::connect(daemon.metrics).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    daemon.running.signal(libc::SIGTERM);
    daemon.running.end().code(0);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let cli = Cli::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = cli.command(&["serve"]);
    let ended = Running::start(command.env("CONDUIT__SERVER__TCP_PORT", &port)).end().code(1);
    assert!(ended.err.contains(&format!("cannot listen at tcp 127.0.0.1:{port}")), "{ended:?}");
}

#[test]
fn the_thresholds_are_read_again_when_it_is_told_to_and_the_supervisor_knows() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let (file, socket) = (directory.file("c.yaml"), directory.file("notify"));
    std::fs::write(&file, "backpressure: {pause_threshold: 0.5}\n").unwrap();
    let supervisor = UnixDatagram::bind(&socket).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut bytes = [0; 512];
        let len = supervisor.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    let mut command = cli.command(&["serve", "--config", file.to_str().unwrap()]);
    for key in ["SERVER__TCP_PORT", "SERVER__UDP_PORT", "METRICS__PORT"] {
        command.env(format!("CONDUIT__{key}"), "0");
    }
    let mut running = Running::start(command.env("NOTIFY_SOCKET", &socket));
    assert!(told().starts_with("READY=1\nSTATUS=serving 127.0.0.1:"));
    std::fs::write(&file, "backpressure: {pause_threshold: 0.4}\nworkers: {count: 1}\n").unwrap();
    running.signal(libc::SIGHUP);
    assert!(told().starts_with("RELOADING=1\n"));
    running.note("these wait for the next start: workers.count");
    running.note("the thresholds are as configured now");
    assert!(told().starts_with("READY=1"));
    std::fs::write(&file, "backpressure: {pause_threshold: 7}\n").unwrap();
    running.signal(libc::SIGHUP);
    running.note("the configuration stays as it is: ");
    assert!(told().starts_with("RELOADING=1\n") && told().starts_with("READY=1"));
    running.signal(libc::SIGTERM);
    assert!(told().starts_with("STOPPING=1\n"));
    running.end().code(0);
}

fn durable(sequence: u64) -> Vec<u8> {
    let event = Event {
        flags: Flags::ACK_REQUESTED.and(Flags::ACK_WHEN_DURABLE),
        sequence,
        topic: b"t",
        payload: &sequence.to_le_bytes(),
        ..Event::default()
    };
    encoded(&event)
}

/// How often each sequence is in the log.
fn logged(directory: &Path) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    let mut log = EventLog::open(directory).unwrap();
    log.recover(&mut |producer, sequence| {
        assert_eq!(*producer, ME);
        *counts.entry(sequence).or_default() += 1;
    })
    .unwrap();
    counts
}

#[test]
fn a_duplicate_that_is_to_be_durable_is_answered_when_the_first_copy_is() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("log");
    let daemon = Daemon::start(&cli, &[("CONDUIT__DURABLE__DIR", at.to_str().unwrap())]);
    let mut wire = Wire::introduced(daemon.tcp, ME);
    assert_eq!(wire.welcome.unwrap().durability, Durability::Synced);
    wire.send(&encoded(&event("t", 1, Priority::Medium, b"not logged at first")));
    wire.until(|wire| wire.status(1) == Some(Status::Accepted));
    for _ in 0..2 {
        wire.answers.clear();
        wire.send(&durable(1));
        wire.until(|wire| wire.status(1) == Some(Status::Durable));
    }
    assert_eq!(daemon.metric("events_processed_total"), 1.0, "it was published once");
    daemon.running.signal(libc::SIGTERM);
    daemon.running.end().code(0);
    assert_eq!(logged(&at), BTreeMap::from([(1, 1)]));
}

/// 50 rounds at full size.
#[test]
fn what_was_answered_as_durable_is_on_disk_once_however_often_the_daemon_is_killed() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("log");
    let environment = [("CONDUIT__DURABLE__DIR", at.to_str().unwrap())];
    let mut noise = Noise::seeded("a daemon that is killed");
    let mut told = BTreeMap::new();
    let mut next = 1;
    let mut sent_again = 0;
    for _ in 0..rounds(50).max(3) {
        let daemon = Daemon::start(&cli, &environment);
        let mut wire = Wire::introduced(daemon.tcp, ME);
        let newest = wire.welcome.unwrap().last_sequence;
        let highest = told.keys().next_back().copied().unwrap_or(0);
        assert!(newest >= highest, "{newest} after {highest} was answered as durable");
        // What has no answer yet comes again, whether or not the daemon has it.
        for sequence in (1..next).filter(|sequence| !told.contains_key(sequence)) {
            wire.send(&durable(sequence));
            sent_again += 1;
        }
        let end = Instant::now() + Duration::from_micros(noise.below(100_000));
        while Instant::now() < end {
            for _ in 0..=noise.below(63) {
                wire.send(&durable(next));
                next += 1;
            }
            wire.until(|wire| next as usize - 1 - told.len() - wire.count(Status::Durable) < 512);
        }
        // In the middle of whatever it does, with answers under way.
        daemon.running.signal(libc::SIGKILL);
        wire.until_closed();
        daemon.running.end();
        told.extend(
            wire.answers.iter().filter(|(_, (range, _))| range.status == Status::Durable).map(|(n, _)| (*n, ())),
        );
        let on_disk = logged(&at);
        assert!(on_disk.values().all(|&count| count == 1), "each is there once");
        let missing: Vec<_> = told.keys().filter(|sequence| !on_disk.contains_key(sequence)).collect();
        assert!(missing.is_empty(), "{missing:?} are not there");
    }
    // All of it, in the end.
    let daemon = Daemon::start(&cli, &environment);
    let mut wire = Wire::introduced(daemon.tcp, ME);
    (1..next).filter(|sequence| !told.contains_key(sequence)).for_each(|sequence| wire.send(&durable(sequence)));
    wire.until(|wire| told.len() + wire.count(Status::Durable) == next as usize - 1);
    daemon.running.signal(libc::SIGTERM);
    daemon.running.end().code(0);
    let on_disk = logged(&at);
    assert_eq!((on_disk.len() as u64, on_disk.values().copied().max()), (next - 1, Some(1)));
    assert!(sent_again > 0 && told.len() > 100, "{sent_again} were sent again, {} were durable", told.len());
}

#[test]
fn what_has_no_room_is_a_dead_letter_with_its_reason() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("letters");
    let environment = [
        ("CONDUIT__DEAD_LETTERS__DIR", at.to_str().unwrap()),
        // Fewer than come at a time.
        ("CONDUIT__QUEUES__REALTIME__CAPACITY", "16"),
    ];
    let daemon = Daemon::start(&cli, &environment);
    let mut wire = Wire::introduced(daemon.tcp, ME);
    let mut sequence = 0;
    while wire.count(Status::DeadLettered) == 0 {
        let mut frames = Vec::new();
        for _ in 0..200 {
            sequence += 1;
            frames.extend(encoded(&event("bulk", sequence, Priority::High, b"payload")));
        }
        wire.send(&frames);
        wire.until(|wire| wire.answers.len() as u64 == sequence);
    }
    let dead = wire.count(Status::DeadLettered);
    daemon.running.signal(libc::SIGTERM);
    daemon.running.end().code(0);
    let mut letters = DeadLetterBox::open(&at).unwrap().letters(LetterFilter::new()).unwrap();
    let mut found = 0;
    while let Some(letter) = letters.next().transpose().unwrap() {
        let (event, reason) = (letter.event(), letter.letter().reason);
        assert_eq!((event.topic, event.payload, reason.name()), ("bulk", &b"payload"[..], "backpressure"));
        assert_eq!(wire.status(event.sequence), Some(Status::DeadLettered));
        found += 1;
    }
    assert_eq!(found, dead);
}
