//! `dlq retry`: letters go to a server again, and from here once it has said that it took them.
#![cfg(all(feature = "cli", feature = "net", feature = "tank"))]

mod cli;
mod event_server;
mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use cli::Cli;
use cli::daemon::Daemon;
use conduit::ack::Status;
use conduit::engine::{DeadLetter, DeadLetters, DeadReason, DurableLog, Engine, Event, Failure, Origin};
use conduit::frame::{Encoding, Priority};
use conduit::lanes::Lane;
use conduit::net::Server;
use conduit::tank::{DeadLetterBox, DeadLetterStore, EventLog, LetterFilter, LetterId};
use conduit::topic::Start;
use event_server::Manners;
use serde_json::json;
use support::{Directory, PATIENCE, eventually};

const ME: [u8; 16] = *b"who made them up";

/// As many letters, every third for another topic.
fn store(directory: &Path, count: u64) {
    let mut store = DeadLetterStore::open(directory).unwrap();
    for at in 0..count {
        let event = Event {
            topic: if at % 3 == 0 { "refused/new" } else { "orders/new" },
            payload: &at.to_le_bytes(),
            priority: if at % 2 == 0 { Priority::High } else { Priority::Batch },
            encoding: Encoding::Cbor,
            producer: ME,
            sequence: 1 + at,
            timestamp: 1_700_000_000_000_000_000 + at,
            received: 1_700_000_001_000_000_000 + at,
            origin: Origin::Tcp("10.0.0.7:4242".parse().unwrap()),
        };
        store.keep(&DeadLetter { event, reason: DeadReason::Backpressure, attempts: 0, detail: "" }).unwrap();
    }
    store.flush().unwrap();
}

fn ids(directory: &Path) -> BTreeSet<LetterId> {
    let letters = DeadLetterBox::open(directory).unwrap().letters(LetterFilter::new()).unwrap();
    letters.map(|letter| letter.unwrap().id).collect()
}

#[test]
fn letters_are_on_their_topic_again_and_gone_from_the_store() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("letters");
    store(&at, 9);
    let daemon = Daemon::start(&cli, &[]);
    let to = daemon.tcp.to_string();
    let retry =
        |args: &[&str]| cli.run(&[&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to], args].concat());
    // Once more although its sequence was seen: it is another producer's.
    let kept = retry(&["1-1", "--keep"]).code(0);
    assert_eq!(kept.out, format!("1 letter to {to}: 1 accepted, 0 left, all kept here\n"));
    let json = retry(&["--topic", "orders/*", "--priority", "high", "--json"]).code(0).json();
    let expected = json!({
        "to": to, "letters": 3, "accepted": 3, "fates": { "accepted": 3 }, "left": 0, "cleared": 3,
        "copies_cleared": 0,
    });
    assert_eq!(json, expected);
    let told = retry(&[]).code(0);
    assert_eq!(told.out, format!("6 letters to {to}: 6 accepted, 0 left\n"));
    assert_eq!(ids(&at), BTreeSet::new());
    assert_eq!(retry(&[]).code(0).out, format!("0 letters to {to}: 0 left\n"));
    assert!(retry(&["1-1"]).code(1).err.contains("there is no letter 1-1"));
    let mut got = Vec::new();
    let mut orders = cli.domain.subscriber().start(Start::Oldest).wait(PATIENCE).open("orders/new").unwrap();
    while got.len() < 7 {
        got.push(u64::from_le_bytes(orders.recv_timeout(PATIENCE).unwrap().unwrap()[..].try_into().unwrap()));
    }
    got.sort_unstable();
    assert_eq!(got, [1, 1, 2, 4, 5, 7, 8]);
    daemon.running.signal(libc::SIGTERM);
    daemon.running.end().code(0);
}

#[test]
fn an_event_is_as_it_was_and_one_that_fails_again_is_a_letter_again() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("letters");
    store(&at, 6);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let handler = move |event: &Event<'_>| {
        let Event { payload, priority, encoding, timestamp, .. } = *event;
        assert_ne!(event.producer, ME);
        sees.lock().unwrap().push((payload.to_vec(), priority, encoding, timestamp));
        if event.topic.starts_with("refused") { Err(Failure::reject("not again")) } else { Ok(()) }
    };
    let engine = Engine::options().domain(cli.domain.name()).handler("**", handler);
    // The store of the server that the letters are sent to, which goes on writing.
    let engine = engine.dead_letters(DeadLetterStore::open(&at).unwrap()).start().unwrap();
    let server = Server::options().tcp("127.0.0.1:0").start(engine).unwrap();
    let to = server.tcp_addr().unwrap().to_string();
    let before = ids(&at);
    cli.run(&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to]).code(0);
    server.stop(PATIENCE);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_by_key(|(payload, ..)| payload.clone());
    let expected: Vec<_> = (0..6u64)
        .map(|at| {
            let priority = if at % 2 == 0 { Priority::High } else { Priority::Batch };
            (at.to_le_bytes().to_vec(), priority, Encoding::Cbor, 1_700_000_000_000_000_000 + at)
        })
        .collect();
    assert_eq!(seen, expected);
    let letters = DeadLetterBox::open(&at).unwrap().letters(LetterFilter::new()).unwrap();
    let again: Vec<_> = letters.map(Result::unwrap).collect();
    assert_eq!(again.len(), 2);
    for letter in again {
        assert!(!before.contains(&letter.id) && letter.producer != ME);
        assert_eq!((&letter.topic[..], letter.reason), ("refused/new", DeadReason::Rejected));
    }
}

#[test]
fn what_has_no_room_again_is_there_once_and_as_it_was() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("letters");
    store(&at, 200);
    let before = ids(&at);
    // Held until all is answered.
    let held = Arc::new(Mutex::new(()));
    let (waits, hold) = (held.clone(), held.lock().unwrap());
    let handler = move |_: &Event<'_>| {
        drop(waits.lock().unwrap());
        Ok::<(), Failure>(())
    };
    let engine = Engine::options().domain(cli.domain.name()).capacity(Lane::Realtime, 16).handler("**", handler);
    let engine = engine.dead_letters(DeadLetterStore::open(&at).unwrap()).start().unwrap();
    let server = Server::options().tcp("127.0.0.1:0").start(engine).unwrap();
    let to = server.tcp_addr().unwrap().to_string();
    let retry = ["dlq", "--dir", at.to_str().unwrap(), "retry", "-p", "high", "--to", &to, "--timeout", "1s", "--json"];
    let told = cli.run(&retry).code(3).json();
    drop(hold);
    server.stop(PATIENCE);
    let dead = &told["fates"]["dead_lettered"];
    assert!(dead.as_u64().unwrap() > 0 && told["copies_cleared"] == *dead, "{told}");
    let after = ids(&at);
    assert!(after.is_subset(&before), "{told}");
    assert_eq!(after.len() as u64, 200 - told["accepted"].as_u64().unwrap(), "{told}");
}

#[test]
fn what_the_server_refuses_stays() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("letters");
    store(&at, 9);
    let server = event_server::Server::start(Manners { refuses_with: Status::DeadLettered, ..Manners::default() });
    let to = server.addr.to_string();
    let told = cli.run(&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to]).code(3);
    assert_eq!(told.out, format!("9 letters to {to}: 6 accepted, 3 dead-lettered, 3 left\n"));
    assert_eq!((server.taken().len(), ids(&at).len()), (6, 3));
    let asks = event_server::Server::start(Manners { token: b"secret".into(), ..Manners::default() });
    let to = asks.addr.to_string();
    cli.run(&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to]).code(1);
    assert_eq!(ids(&at).len(), 3);
    cli.run(&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to, "--token", "secret", "-p", "batch"]).code(3);
}

#[test]
fn where_no_server_is_all_letters_stay() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("letters");
    store(&at, 3);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ended = cli.run(&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &nobody]).code(1);
    assert!(ended.err.contains("no event server at 127.0.0.1:"), "{ended:?}");
    assert_eq!(ids(&at).len(), 3);
    // A server that keeps nothing cannot say that it did.
    let daemon = Daemon::start(&cli, &[]);
    let to = daemon.tcp.to_string();
    cli.run(&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to, "--ack", "durable"]).code(1);
    assert_eq!(ids(&at).len(), 3);
}

#[test]
fn who_is_interrupted_keeps_what_was_not_taken() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let at = directory.file("letters");
    store(&at, 3);
    let server = event_server::Server::start(Manners { throttles: 100, ..Manners::default() });
    let to = server.addr.to_string();
    let running = cli.start(&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to, "--json", "--timeout", "1h"]);
    eventually("it is connected", || server.connections.load(Ordering::Relaxed) > 0);
    running.signal(libc::SIGINT);
    let told = running.end().code(3).json();
    assert_eq!((&told["left"], &told["cleared"], ids(&at).len()), (&json!(3), &json!(0), 3));
}

/// Passes on what a client says until that is so many bytes, and what the server says to it; then neither, to anybody.
fn cut_after(bytes: usize, server: SocketAddr) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cut = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        drop(listener);
        let mut upstream = TcpStream::connect(server).unwrap();
        let (mut answers, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let (mut buffer, mut passed) = ([0; 4096], 0);
        while passed < bytes {
            let count = client.read(&mut buffer).unwrap();
            assert!(count > 0, "all that was sent is {passed} bytes");
            upstream.write_all(&buffer[..count]).unwrap();
            passed += count;
        }
    });
    (address, cut)
}

#[test]
fn a_server_that_is_killed_leaves_the_letters_that_it_has_not_answered() {
    const LETTERS: u64 = 5000;
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let (at, log) = (directory.file("letters"), directory.file("log"));
    store(&at, LETTERS);
    let daemon = Daemon::start(&cli, &[("CONDUIT__DURABLE__DIR", log.to_str().unwrap())]);
    let (to, cut) = cut_after(128 << 10, daemon.tcp);
    let to = to.to_string();
    let retry = ["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to, "--ack", "durable", "--timeout", "1s"];
    let retrying = cli.start(&[&retry[..], &["--json"]].concat());
    cut.join().unwrap();
    daemon.running.signal(libc::SIGKILL);
    daemon.running.end();
    let json = retrying.end().code(3).json();
    let (taken, left) = (json["accepted"].as_u64().unwrap(), json["left"].as_u64().unwrap());
    assert!(taken + left == LETTERS && left > 0 && json["cleared"] == taken, "{json}");
    assert_eq!(ids(&at).len() as u64, left);
    let mut logged = 0;
    EventLog::open(&log).unwrap().recover(&mut |_, _| logged += 1).unwrap();
    assert!(logged >= taken, "{logged} are on disk, {taken} went");
    // The next server gets the rest.
    let daemon = Daemon::start(&cli, &[("CONDUIT__DURABLE__DIR", log.to_str().unwrap())]);
    let to = daemon.tcp.to_string();
    cli.run(&["dlq", "--dir", at.to_str().unwrap(), "retry", "--to", &to, "--ack", "durable"]).code(0);
    eventually("none is left", || ids(&at).is_empty());
}
