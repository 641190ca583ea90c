//! What becomes of events, and of those who sent them, where things meet that seldom do.
#![cfg(feature = "net")]

mod logging;
mod support;
mod wire;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use conduit::ack::Status;
use conduit::engine::{DropReason, Engine, EngineOptions, Event as Handled, Failure};
use conduit::frame::{self, Flags, Header, Kind, Priority};
use conduit::lanes::Lane;
use conduit::net::CloseReason;
use logging::Logged;
use support::{Domain, PATIENCE, eventually};
use wire::{SHORTLY, Wire, encoded, event, hello, server, server_with};

const ME: [u8; 16] = *b"a test's client!";

#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn engine(&self, domain: &Domain) -> EngineOptions {
        let gate = self.0.clone();
        let handler = move |_: &Handled<'_>| {
            // By itself in the end, so that a test that failed ends.
            let (mut open, timeout) =
                gate.1.wait_timeout_while(gate.0.lock().unwrap(), PATIENCE, |open| !*open).unwrap();
            *open |= timeout.timed_out();
            Ok::<(), Failure>(())
        };
        Engine::options().domain(domain.name()).handler("**", handler)
    }
}

fn silent(sequence: u64, priority: Priority, payload: &[u8]) -> Vec<u8> {
    encoded(&frame::Event { flags: Flags::default(), ..event("t", sequence, priority, payload) })
}

/// Exactly what is read at a time: 1,024 frames of 256 bytes.
#[test]
fn a_window_that_fills_a_read_to_the_last_byte_is_answered() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let mut wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    for round in 0..30 {
        let window = 1024 * round + 1..=1024 * (round + 1);
        let frames: Vec<u8> = window.flat_map(|n| encoded(&event("t", n, Priority::Medium, &[7; 223]))).collect();
        assert_eq!(frames.len(), 256 << 10);
        wire.send(&frames);
        wire.until(|wire| wire.answers.len() as u64 == 1024 * (round + 1));
    }
    server.stop(SHORTLY);
}

#[test]
fn a_greeting_that_was_changed_spoils_its_datagram_and_no_other_senders_events() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let at = server.udp_addr().unwrap();
    let mut changed = hello(ME, 0, b"");
    // As if it had a checksum, which it lacks: its last bytes are taken for one.
    let header = Header { flags: Flags::BODY_CRC, body_len: changed.len() as u32 - 32, ..Header::new(Kind::Hello) };
    changed[..32].copy_from_slice(&header.encode());
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    b.send_to(&[changed, silent(2, Priority::High, b"b")].concat(), at).unwrap();
    a.set_read_timeout(Some(PATIENCE)).unwrap();
    let frames: Vec<u8> = (1..=2).flat_map(|n| encoded(&event("t", n, Priority::High, b"a"))).collect();
    a.send_to(&[hello(ME, 0, b""), frames].concat(), at).unwrap();
    let mut answer = [0; 256];
    let len = a.recv(&mut answer).unwrap();
    let Ok(frame::Decoded::Frame { header, body, .. }) = frame::decode(&answer[..len], 256) else { panic!("no frame") };
    let ranges: Vec<_> = conduit::ack::decode(&header, body).unwrap().collect();
    assert_eq!((ranges.len(), ranges[0].last(), ranges[0].status), (1, 2, Status::Accepted));
    assert_eq!((server.stats().bad_datagrams, server.stop(SHORTLY).received[3]), (1, 2));
}

/// The clock that a slow client is measured by stands still while it is not read.
#[test]
fn who_is_not_read_is_not_blamed_for_it() {
    let domain = Domain::new();
    let gate = Gate::default();
    let soon = Duration::from_millis(400);
    let options = |options: conduit::net::ServerOptions| options.frame_timeout(soon).idle_timeout(soon * 2);
    let server = server_with(gate.engine(&domain), options);
    let mut stream = TcpStream::connect(server.tcp_addr().unwrap()).unwrap();
    let frames = silent(0, Priority::Medium, &[7; 1000]).repeat(4000);
    let writer = thread::spawn(move || {
        stream.write_all(&frames).unwrap();
        stream
    });
    let mut before = 0;
    eventually("no more is read", || {
        let read = server.stats().bytes;
        read > 1 << 20 && std::mem::replace(&mut before, read) == read
    });
    // Nothing to wait for: it is that nothing happens.
    thread::sleep(soon * 3);
    assert_eq!(server.stats().connections, 1, "{:?}", server.stats());
    gate.open();
    writer.join().unwrap();
    eventually("all have come", || server.engine().stats().accepted[2] == 4000);
    server.stop(SHORTLY);
}

#[test]
fn what_is_held_when_its_connection_ends_is_taken_or_counted() {
    let domain = Domain::new();
    for (end, closed) in [
        (&b"no frame"[..], Some(CloseReason::BadFrame)),
        (&hello(ME, 0, b"")[..], Some(CloseReason::BadFrame)),
        (b"", None),
    ] {
        let gate = Gate::default();
        let engine = gate.engine(&domain).capacity(Lane::Realtime, 16).hold(PATIENCE * 100);
        let server = server_with(engine, |options| options);
        let mut stream = TcpStream::connect(server.tcp_addr().unwrap()).unwrap();
        stream.write_all(&[&silent(0, Priority::Critical, b"x").repeat(1000)[..], end].concat()).unwrap();
        eventually("no room is left", || server.engine().stats().lanes[0].depth == 16);
        let stats = if let Some(closed) = closed {
            gate.open();
            eventually("the connection ends", || server.stats().closed[closed as usize] == 1);
            server.stop(SHORTLY)
        } else {
            let stopping = thread::spawn(move || server.stop(SHORTLY));
            gate.open();
            stopping.join().unwrap()
        };
        let dropped = stats.dropped[DropReason::Stopped as usize][4];
        assert_eq!((stats.received[4], stats.accepted[4] + dropped), (1000, 1000));
        assert!(closed.is_none() || dropped == 0, "there was room for them in the end");
    }
}

#[test]
fn no_answer_gives_more_credit_than_was_agreed() {
    let domain = Domain::new();
    let server = server(&domain, |options| options.window(100));
    for (wanted, agreed) in [(16, 16), (0, 100), (5000, 100)] {
        let mut wire = Wire::connect(server.tcp_addr().unwrap());
        wire.send(&hello([wanted as u8; 16], wanted, b""));
        wire.send(&encoded(&event("t", 1, Priority::High, b"x")));
        wire.until(|wire| wire.status(1).is_some());
        assert_eq!((wire.welcome.unwrap().credit, wire.answers[&1].0.credit), (agreed, agreed));
    }
}

#[test]
fn who_asks_for_metrics_and_does_not_read_them_keeps_nobody_from_stopping() {
    let domain = Domain::new();
    let server = server(&domain, |options| options.metrics("127.0.0.1:0"));
    let at = server.metrics_addr().unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let greedy: Vec<_> = (0..70)
        .map(|_| {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            while stream.write_all(&request).is_ok() && stream.take_error().unwrap().is_none() {
                stream.set_nonblocking(false).unwrap();
                if stream.write(&request).is_err() {
                    break;
                }
            }
            stream
        })
        .collect();
    let stopping = thread::spawn(move || server.stop(SHORTLY));
    eventually("it stops", || stopping.is_finished());
    drop(greedy);
}

#[test]
fn strangers_have_no_room_for_more_than_a_greeting() {
    let domain = Domain::new();
    let server = server(&domain, |options| options.token("s3cret"));
    let mut stream = TcpStream::connect(server.tcp_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&silent(0, Priority::High, &[7; 1 << 19])[..1000]).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    eventually("it is refused at its header", || server.stats().closed[CloseReason::BadFrame as usize] == 1);
}

/// The makers of two of many topics wait until what is asked of them has happened: whatever the urgent event has to wait for,
/// the second of them would wait for it in vain.
#[test]
fn an_urgent_event_waits_for_no_more_than_one_of_many_topics_to_be_made() {
    let domain = Domain::new();
    let ((begin, begun), (go, going)) = (mpsc::channel(), mpsc::channel::<()>());
    let going = Mutex::new(going);
    let logged = Logged(move |said: &str, topic: &str| {
        if said == "made the topic" && (topic == "many/100" || topic == "many/110") {
            let _ = begin.send(());
            let _ = going.lock().unwrap().recv_timeout(PATIENCE);
        }
    });
    tracing::subscriber::set_global_default(logged).unwrap();
    let server = server(&domain, |options| options.threads(1));
    let mut urgent = Wire::introduced(server.tcp_addr().unwrap(), ME);
    urgent.send(&encoded(&event("alarm", 1, Priority::Critical, b"x")));
    urgent.until(|wire| wire.count(Status::Accepted) == 1);
    let mut stream = Wire::introduced(server.tcp_addr().unwrap(), [2; 16]);
    let topics: Vec<_> = (1..=1000).map(|n| format!("many/{n}")).collect();
    let frames = (1..).zip(&topics).flat_map(|(n, topic)| encoded(&event(topic, n, Priority::Batch, b"x")));
    stream.send(&[frames.collect::<Vec<_>>(), Header::new(Kind::Ping).encode().to_vec()].concat());
    begun.recv_timeout(PATIENCE).unwrap();
    urgent.send(&encoded(&event("alarm", 2, Priority::Critical, b"x")));
    go.send(()).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    urgent.until(|wire| wire.count(Status::Accepted) == 2);
    assert!(server.engine().stats().topics <= 111);
    go.send(()).unwrap();
    stream.until(|wire| wire.pongs == 1);
    assert_eq!(stream.count(Status::Accepted), 1000, "the pong comes behind all answers");
    assert_eq!(server.stop(SHORTLY).accepted, [1000, 0, 0, 0, 2]);
}

#[test]
fn a_stranger_is_told_nothing_of_its_events() {
    let domain = Domain::new();
    let server = server(&domain, |options| options.token("s3cret"));
    let with_crc =
        frame::Event { flags: Flags::ACK_REQUESTED.and(Flags::BODY_CRC), ..event("t", 7, Priority::High, b"x") };
    let mut changed = encoded(&with_crc);
    *changed.last_mut().unwrap() ^= 1;
    let mut wire = Wire::connect(server.tcp_addr().unwrap());
    wire.send(&changed);
    wire.until_closed();
    assert_eq!((&wire.faults[..], wire.answers.len()), (&[(Status::Unauthorized, 0)][..], 0));
    drop(wire);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&changed, server.udp_addr().unwrap()).unwrap();
    eventually("its datagram is refused", || server.stats().unauthorized_datagrams == 1);
    eventually("and its connection", || server.stats().closed[CloseReason::Unauthorized as usize] == 1);
    assert_eq!(server.stats().bad_bodies, 0);
}

/// Four stop in the middle, with all that there is for beginnings; the others' frames are as large.
#[test]
fn the_beginnings_of_frames_are_within_the_memory_and_who_stalls_keeps_the_others_for_a_while_alone() {
    let domain = Domain::new();
    let limit = 16 << 20;
    let engine = Engine::options().domain(domain.name()).memory(limit);
    let server = server_with(engine, |options| options.frame_timeout(Duration::from_secs(3)));
    let address = server.tcp_addr().unwrap();
    let frame = encoded(&event("t", 1, Priority::High, &[7; 1_000_000]));
    let memory = || server.engine().stats().memory;
    let mut stalled: Vec<_> = (1..=4).map(|n| Wire::introduced(address, [n; 16])).collect();
    stalled.iter_mut().for_each(|wire| wire.send(&frame[..600_000]));
    eventually("they have what they need", || memory() >= 4 * 1_000_000);
    thread::scope(|scope| {
        let others: Vec<_> = (5..=24)
            .map(|n| {
                let mut wire = Wire::introduced(address, [n; 16]);
                let frame = &frame;
                scope.spawn(move || {
                    wire.send(frame);
                    wire.until(|wire| wire.status(1).is_some());
                    wire.status(1)
                })
            })
            .collect();
        while !others.iter().all(|other| other.is_finished()) {
            let memory = memory();
            assert!(memory <= limit, "{memory}");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(others.into_iter().all(|other| other.join().unwrap() == Some(Status::Accepted)));
    });
    eventually("who stalled is closed", || server.stats().closed[CloseReason::SlowFrame as usize] == 4);
    assert_eq!(server.stop(SHORTLY).memory, 0);
}

#[test]
fn streams_that_are_held_go_on_in_their_order_and_none_is_forgotten() {
    let domain = Domain::new();
    let (step, steps) = mpsc::sync_channel::<()>(0);
    let steps = Mutex::new(steps);
    let handled = Arc::new(Mutex::new(Vec::new()));
    let log = handled.clone();
    let handler = move |event: &Handled<'_>| {
        let _ = steps.lock().unwrap().recv_timeout(PATIENCE);
        log.lock().unwrap().push(event.payload[0]);
        Ok::<(), Failure>(())
    };
    let engine = Engine::options().domain(domain.name()).handler("**", handler);
    let engine = engine.capacity(Lane::Realtime, 16).hold(PATIENCE * 100);
    let server = server_with(engine, |options| options.threads(1));
    let mut streams: Vec<_> = (0..10)
        .map(|n| {
            let mut stream = TcpStream::connect(server.tcp_addr().unwrap()).unwrap();
            let before = server.stats().bytes;
            let frames = silent(0, Priority::Critical, &[n]).repeat(100);
            stream.write_all(&frames).unwrap();
            // The thread that reads is at one connection until its events are held.
            eventually("it was read", || server.stats().bytes == before + frames.len() as u64);
            eventually("there is no room, nor will be", || {
                let stats = server.engine().stats();
                stats.lanes[0].processed == 1 && stats.lanes[0].depth == 16
            });
            Some(stream)
        })
        .collect();
    for _ in 0..50 {
        step.send(()).unwrap();
    }
    // Those who wait in the middle and as the last go: what they sent is taken all the same.
    (streams[4], streams[9]) = (None, None);
    drop(step);
    eventually("all are handled", || handled.lock().unwrap().len() == 1000);
    // Who goes looks for room once more, and may find what the first in line was just told of.
    let (gone, stayed): (Vec<u8>, Vec<u8>) = handled.lock().unwrap().iter().partition(|n| [4, 9].contains(n));
    assert_eq!((gone.len(), stayed.is_sorted()), (200, true), "{stayed:?}");
    server.stop(SHORTLY);
}
