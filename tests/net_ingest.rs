//! Events over the network: taken, answered, published; and what broken or hostile clients get.
#![cfg(feature = "net")]

mod support;
mod wire;

use std::collections::HashSet;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use conduit::Subscriber;
use conduit::ack::{Policy, Status};
use conduit::engine::{Engine, Event as Handled, Failure, TopicLimits};
use conduit::frame::{Flags, Priority, legacy};
use conduit::lanes::Lane;
use conduit::net::CloseReason;
use conduit::topic::{Pattern, Start};
use support::{Domain, Noise, PATIENCE, eventually, rounds};
use wire::{SHORTLY, Wire, encoded, event, hello, server, server_with};

const ME: [u8; 16] = *b"a test's client!";

fn subscriber(domain: &Domain, topic: &str) -> Subscriber<[u8]> {
    domain.subscriber().start(Start::Oldest).wait(PATIENCE).open(topic).unwrap()
}

fn receive(subscriber: &mut Subscriber<[u8]>) -> Vec<u8> {
    subscriber.recv_timeout(PATIENCE).unwrap().expect("a message").to_vec()
}

#[test]
fn what_is_sent_over_tcp_is_on_its_topic_and_answered() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let mut wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    for sequence in 1..=3 {
        wire.send(&encoded(&event("sensors/imu", sequence, Priority::High, &[sequence as u8; 9])));
    }
    wire.until(|wire| wire.count(Status::Accepted) == 3);
    let mut subscriber = subscriber(&domain, "sensors/imu");
    for sequence in 1..=3 {
        assert_eq!(receive(&mut subscriber), [sequence; 9]);
    }
    let stats = server.stop(SHORTLY);
    assert_eq!((stats.received[3], stats.accepted[3], stats.lanes[0].processed), (3, 3, 3));
}

#[test]
fn what_is_sent_over_udp_is_on_its_topic_and_answered() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.udp_addr().unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let frames: Vec<_> = (1..=2).flat_map(|n| encoded(&event("u", n, Priority::Low, &[n as u8]))).collect();
    let datagram = [hello(ME, 0, b""), frames].concat();
    for expected in [Status::Accepted, Status::Duplicate] {
        socket.send(&datagram).unwrap();
        let mut answer = [0; 2048];
        let len = socket.recv(&mut answer).unwrap();
        let Ok(conduit::frame::Decoded::Frame { header, body, .. }) = conduit::frame::decode(&answer[..len], 2048)
        else {
            panic!("no frame")
        };
        let ranges: Vec<_> = conduit::ack::decode(&header, body).unwrap().collect();
        assert_eq!((ranges.len(), ranges[0].first(), ranges[0].last(), ranges[0].status), (1, 1, 2, expected));
    }
    let mut subscriber = subscriber(&domain, "u");
    assert_eq!((receive(&mut subscriber), receive(&mut subscriber)), (vec![1], vec![2]));
    assert_eq!(server.stop(SHORTLY).duplicates, 2);
}

/// As a program of another language writes it that knows nothing but the layout.
#[test]
fn the_older_frame_from_a_few_lines_of_python_works_on_both_ports() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let script = r#"
import socket, struct, sys
def frame(priority, topic, payload):
    body = struct.pack(">BH", priority, len(topic)) + topic + payload
    return struct.pack(">I", len(body)) + body
tcp = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
tcp.sendall(frame(4, b"alarms/door", b"open") + frame(2, b"log", b'{"ok": true}'))
tcp.close()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.sendto(frame(0, b"bulk", b"a datagram"), ("127.0.0.1", int(sys.argv[2])))
"#;
    let ports = [server.tcp_addr(), server.udp_addr()].map(|address| address.unwrap().port().to_string());
    let status = Command::new("python3").args(["-c", script]).args(ports).status().expect("python3 is installed");
    assert!(status.success());
    for (topic, payload) in [("alarms/door", &b"open"[..]), ("log", br#"{"ok": true}"#), ("bulk", b"a datagram")] {
        assert_eq!(receive(&mut subscriber(&domain, topic)), payload, "{topic}");
    }
    assert_eq!(server.stop(SHORTLY).received, [1, 0, 1, 0, 1]);
}

#[test]
fn a_frame_that_comes_byte_by_byte_or_a_megabyte_long_is_taken() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let mut wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    for byte in encoded(&event("t", 1, Priority::Medium, b"slowly")) {
        wire.send(&[byte]);
    }
    let long = vec![7; (1 << 20) - 40];
    wire.send(&encoded(&event("t", 2, Priority::Medium, &long)));
    wire.send(&encoded(&event("t", 3, Priority::Medium, b"behind it")));
    wire.until(|wire| wire.count(Status::Accepted) == 3);
    // The topic was made anew for the long one, so what it had before is behind.
    let mut subscriber = subscriber(&domain, "t");
    let mut messages = vec![receive(&mut subscriber)];
    while messages.last().unwrap() != b"behind it" {
        messages.push(receive(&mut subscriber));
    }
    assert!(messages.contains(&long));
    server.stop(SHORTLY);
}

#[test]
fn an_event_that_is_sent_again_is_a_duplicate_also_over_another_connection() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let frames: Vec<_> = (1..=100).flat_map(|n| encoded(&event("t", n, Priority::Medium, b"x"))).collect();
    let mut wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    assert_eq!(wire.welcome.unwrap().last_sequence, 0);
    wire.send(&frames);
    wire.until(|wire| wire.count(Status::Accepted) == 100);
    drop(wire);
    let mut wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    assert_eq!(wire.welcome.unwrap().last_sequence, 100);
    wire.send(&frames);
    wire.until(|wire| wire.count(Status::Duplicate) == 100);
    let mut other = Wire::introduced(server.tcp_addr().unwrap(), [9; 16]);
    other.send(&frames);
    other.until(|wire| wire.count(Status::Accepted) == 100);
    let stats = server.stop(SHORTLY);
    assert_eq!((stats.accepted[2], stats.duplicates, stats.lanes[1].processed), (200, 100, 200));
}

#[test]
fn a_topic_that_cannot_be_had_is_told() {
    let domain = Domain::new();
    let limits =
        TopicLimits { max: 2, allow: vec![Pattern::new("ok/*"), Pattern::new("taken")], ..TopicLimits::default() };
    let _owner = domain.bytes().open("taken").unwrap();
    let server = server_with(Engine::options().domain(domain.name()).topics(limits), |options| options);
    let mut wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    for (n, topic) in (1..).zip(["ok/1", "forbidden", "taken", "ok/..", "ok/2", "ok/3", "ok/1"]) {
        wire.send(&encoded(&event(topic, n, Priority::Medium, b"x")));
    }
    wire.until(|wire| wire.answers.len() == 7);
    use Status::{Accepted, BadTopic};
    let statuses: Vec<_> = (1..=7).map(|n| wire.status(n).unwrap()).collect();
    assert_eq!(statuses, [Accepted, BadTopic, BadTopic, BadTopic, Accepted, BadTopic, Accepted]);
    assert_eq!(server.stop(SHORTLY).bad_topic, 4);
}

#[test]
fn answers_are_batched_as_told() {
    let domain = Domain::new();
    let policy = Policy::Batch { events: 10, age: 3_600_000_000_000 };
    let batched = server(&domain, |options| options.acks(policy));
    let mut wire = Wire::introduced(batched.tcp_addr().unwrap(), ME);
    for n in 1..=9 {
        wire.send(&encoded(&event("t", n, Priority::Medium, b"x")));
    }
    eventually("nine are taken", || batched.engine().stats().accepted[2] == 9);
    assert!(wire.answers.is_empty());
    wire.send(&encoded(&event("t", 10, Priority::Medium, b"x")));
    wire.until(|wire| wire.count(Status::Accepted) == 10);
    wire.send(&encoded(&event("t", 11, Priority::Medium, b"x")));
    wire.ping();
    assert_eq!(wire.status(11), Some(Status::Accepted), "a ping asks for what is there");
    drop(batched);
    let deferred = server(&domain, |options| options.acks(Policy::Deferred));
    let mut wire = Wire::introduced(deferred.tcp_addr().unwrap(), ME);
    wire.send(&encoded(&event("t", 1, Priority::Medium, b"x")));
    wire.ping();
    assert_eq!(wire.status(1), Some(Status::Accepted));
}

#[test]
fn only_who_has_the_token_may_send() {
    let domain = Domain::new();
    let server = server(&domain, |options| options.token("s3cret"));
    let address = server.tcp_addr().unwrap();
    for (opening, closes_as) in [(hello(ME, 0, b"guess!"), 1), (encoded(&event("t", 1, Priority::High, b"x")), 2)] {
        let mut wire = Wire::connect(address);
        wire.send(&opening);
        wire.until_closed();
        assert_eq!(wire.faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [Status::Unauthorized]);
        eventually("it is counted", || server.stats().closed[CloseReason::Unauthorized as usize] == closes_as);
    }
    let mut older = TcpStream::connect(address).unwrap();
    older.write_all(b"\0\0\0\x05\x02\0\x01tx").unwrap();
    eventually("the older frame has none", || server.stats().closed[CloseReason::Unauthorized as usize] == 3);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&encoded(&event("t", 1, Priority::High, b"x")), server.udp_addr().unwrap()).unwrap();
    eventually("nor has the datagram", || server.stats().unauthorized_datagrams == 1);
    let mut wire = Wire::connect(address);
    wire.send(&[hello(ME, 0, b"s3cret"), encoded(&event("t", 1, Priority::High, b"x"))].concat());
    wire.until(|wire| wire.status(1) == Some(Status::Accepted));
    assert_eq!(server.stop(SHORTLY).received, [0, 0, 0, 1, 0]);
}

#[test]
fn without_a_token_only_this_machine_is_listened_to() {
    let domain = Domain::new();
    let engine = Engine::options().domain(domain.name()).start().unwrap();
    let error = conduit::net::Server::options().tcp("0.0.0.0:0").start(engine).unwrap_err();
    assert!(matches!(error, conduit::net::Error::TokenMissing { .. }), "{error}");
}

/// 10,000 at full size: each closes its own connection, or its own datagram, and nothing else.
#[test]
fn malformed_frames_harm_nobody_else() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let (tcp, udp) = (server.tcp_addr().unwrap(), server.udp_addr().unwrap());
    let bad = u64::from(rounds(10_000));
    let good = thread::spawn(move || {
        let mut wire = Wire::introduced(tcp, ME);
        for n in 1..=bad {
            wire.send(&encoded(&event("good", n, Priority::Medium, &n.to_le_bytes())));
            wire.until(|wire| n - wire.answers.len() as u64 <= 256);
        }
        wire.until(|wire| wire.count(Status::Accepted) as u64 == bad);
    });
    let mut noise = Noise::seeded("malformed frames");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let frame = encoded(&event("bad", 0, Priority::Low, b"payload"));
    let (mut refused, mut garbage, mut datagrams) = (0, 0, 0);
    for _ in 0..bad {
        let mut broken = frame.clone();
        // Any bit of the header but of its checksum's own bytes, where it would not be known what else is wrong.
        let bit = noise.below(28 * 8) as usize;
        broken[bit / 8] ^= 1 << (bit % 8);
        if noise.below(2) == 0 {
            socket.send_to(&broken, udp).unwrap();
            datagrams += 1;
        } else {
            let mut wire = Wire::connect(tcp);
            if noise.below(4) == 0 {
                // Not even the beginning of a frame.
                let bytes: Vec<u8> = (0..1 + noise.below(300)).map(|_| noise.next() as u8 | 1).collect();
                if bytes[0] == 0xC5 {
                    continue;
                }
                wire.send(&bytes);
                wire.until_closed();
                garbage += 1;
                continue;
            }
            wire.send(&[&frame[..], &broken].concat());
            wire.until_closed();
            // It says at which byte; but a first byte that is none, is no frame of this kind to answer to.
            assert_eq!(wire.faults, [(Status::BadFrame, frame.len() as u64)]);
            refused += 1;
        }
    }
    good.join().unwrap();
    eventually("each is counted", || {
        let stats = server.stats();
        stats.closed[CloseReason::BadFrame as usize] == refused + garbage
            && stats.bad_datagrams + stats.datagrams_lost == datagrams
    });
    let stats = server.stop(SHORTLY);
    assert_eq!((stats.accepted[2], stats.received[1]), (bad, refused), "those before a bad one were frames");
}

#[test]
fn a_body_that_was_changed_spoils_its_own_event_alone() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let mut wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    let with_crc = |n, payload: &'static [u8]| {
        let event = event("t", n, Priority::Medium, payload);
        encoded(&conduit::frame::Event { flags: event.flags.and(Flags::BODY_CRC), ..event })
    };
    let mut changed = with_crc(2, b"changed");
    changed[40] ^= 1;
    wire.send(&[with_crc(1, b"a"), changed, with_crc(3, b"b")].concat());
    wire.until(|wire| wire.answers.len() == 3);
    let statuses: Vec<_> = (1..=3).map(|n| wire.status(n).unwrap()).collect();
    assert_eq!(statuses, [Status::Accepted, Status::BadFrame, Status::Accepted]);
    assert_eq!(server.stats().bad_bodies, 1);
}

#[test]
fn connections_that_stall_are_closed_and_the_reason_is_counted() {
    let domain = Domain::new();
    let soon = Duration::from_millis(100);
    let server = server(&domain, |options| options.idle_timeout(soon * 4).frame_timeout(soon));
    let mut slow = Wire::connect(server.tcp_addr().unwrap());
    slow.send(&encoded(&event("t", 1, Priority::Medium, b"half of it"))[..20]);
    let mut idle = Wire::connect(server.tcp_addr().unwrap());
    slow.until_closed();
    idle.until_closed();
    let cut = {
        let mut wire = Wire::connect(server.tcp_addr().unwrap());
        wire.send(&[0xC5]);
        wire
    };
    drop(cut);
    eventually("each is counted", || {
        let closed = server.stats().closed;
        [CloseReason::SlowFrame, CloseReason::Idle, CloseReason::Cut].map(|reason| closed[reason as usize]) == [1, 1, 1]
    });
}

#[test]
fn who_does_not_read_its_answers_is_not_read_and_then_closed() {
    let domain = Domain::new();
    let server = server(&domain, |options| options.frame_timeout(Duration::from_millis(300)));
    let wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    let mut stream = wire.stream.try_clone().unwrap();
    // Every other sequence, so that no two answers become one.
    let mut sequence = 1;
    loop {
        let mut frames = Vec::new();
        for _ in 0..1000 {
            frames.extend(encoded(&event("t", sequence, Priority::Medium, b"")));
            sequence += 2;
        }
        if stream.write_all(&frames).is_err() {
            break;
        }
    }
    eventually("it is closed", || server.stats().closed[CloseReason::Unread as usize] == 1);
    assert!(server.engine().stats().memory < 64 << 20);
}

#[test]
fn as_many_connections_as_may_be_are_served_and_no_more() {
    let domain = Domain::new();
    let most = 1000;
    let server = server(&domain, |options| options.max_connections(most));
    let address = server.tcp_addr().unwrap();
    let mut wires: Vec<_> = (0..most)
        .map(|n| Wire::introduced(address, [n as u8, (n >> 8) as u8, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]))
        .collect();
    let mut one_more = Wire::connect(address);
    one_more.until_closed();
    for wire in &mut wires {
        wire.send(&encoded(&event("t", 1, Priority::Medium, b"x")));
    }
    for wire in &mut wires {
        wire.until(|wire| wire.status(1) == Some(Status::Accepted));
    }
    assert_eq!((server.stats().connections, server.stats().refused), (most, 1));
    drop(wires);
    eventually("all are closed", || server.stats().connections == 0);
    assert_eq!(server.stop(SHORTLY).accepted[2], most as u64);
}

/// A handler that is let go on event by event.
fn gated(domain: &Domain) -> (conduit::engine::EngineOptions, mpsc::SyncSender<()>, Arc<AtomicU64>) {
    let (gate, opened) = mpsc::sync_channel(0);
    let opened = Mutex::new(opened);
    let handled = Arc::new(AtomicU64::new(0));
    let count = handled.clone();
    let handler = move |_: &Handled<'_>| {
        // Whoever holds the gate lets one event through, or all once it is dropped.
        let _ = opened.lock().unwrap().recv();
        count.fetch_add(1, Ordering::Relaxed);
        Ok::<(), Failure>(())
    };
    (Engine::options().domain(domain.name()).handler("**", handler), gate, handled)
}

#[test]
fn a_stream_without_acks_is_held_and_loses_nothing() {
    let domain = Domain::new();
    let (engine, gate, handled) = gated(&domain);
    let engine = engine.capacity(Lane::Transactional, 64).hold(PATIENCE * 100);
    let server = server_with(engine, |options| options);
    let count = 5_000;
    let mut block = Vec::new();
    for n in 0..count {
        let mut frame = [0; 64];
        let len = legacy::encode(Priority::Medium, b"t", &u64::to_le_bytes(n), &mut frame).unwrap();
        block.extend_from_slice(&frame[..len]);
    }
    let mut stream = TcpStream::connect(server.tcp_addr().unwrap()).unwrap();
    stream.write_all(&block).unwrap();
    drop(stream);
    eventually("the lane takes no more", || {
        server.engine().stats().lanes[1].state > conduit::backpressure::State::Paused
    });
    drop(gate);
    eventually("all are handled", || handled.load(Ordering::Relaxed) == count);
    let stats = server.stop(SHORTLY);
    assert_eq!(stats.accepted[2], count);
    assert_eq!(stats.dropped.iter().flatten().sum::<u64>() + stats.dead_lettered.iter().sum::<u64>(), 0);
}

/// What each client was told is what happened, event by event, however much too much comes: for 30 s at full size, at five
/// times what the handlers can do and more.
#[test]
fn under_overload_each_answer_is_true_and_nothing_critical_is_lost() {
    let domain = Domain::new();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let log = seen.clone();
    let handler = move |event: &Handled<'_>| {
        // Slower than events come, without sleeping.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(40) {
            std::hint::spin_loop();
        }
        assert!(log.lock().unwrap().insert((event.producer, event.sequence)), "an event is handled once");
        Ok::<(), Failure>(())
    };
    let limit = 16 << 20;
    let engine = Engine::options().domain(domain.name()).handler("**", handler).memory(limit);
    let engine = Lane::ALL.into_iter().fold(engine, |engine, lane| engine.capacity(lane, 512));
    let server = server_with(engine, |options| options);
    let address = server.tcp_addr().unwrap();
    let end = Instant::now() + Duration::from_millis(u64::from(rounds(30_000)));
    let client = |number: u8| {
        let mut wire = Wire::introduced(address, [number + 1; 16]);
        let mut noise = Noise::seeded("overload");
        let (mut priorities, mut sent) = (Vec::new(), 0);
        while Instant::now() < end {
            let mut frames = Vec::new();
            for _ in 0..64 {
                sent += 1;
                let priority = Priority::from_code(noise.below(5) as u8).unwrap();
                priorities.push(priority);
                frames.extend(encoded(&event(["b", "l", "m", "h", "c"][priority as usize], sent, priority, &[0; 64])));
            }
            wire.send(&frames);
            wire.until(|wire| sent - (wire.answers.len() as u64) < 512);
        }
        wire.until(|wire| wire.answers.len() as u64 == sent);
        (number, priorities, wire.answers)
    };
    let told: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..2).map(|number| scope.spawn(move || client(number))).collect();
        while !clients.iter().all(|client| client.is_finished()) {
            assert!(server.engine().stats().memory <= limit, "memory stays bounded");
            thread::sleep(Duration::from_millis(1));
        }
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let stats = server.stop(PATIENCE);
    let seen = seen.lock().unwrap();
    let (mut refused, mut answered) = (0, 0);
    for (number, priorities, answers) in told {
        answered += answers.len() as u64;
        for (sequence, (answer, times)) in answers {
            let handled = seen.contains(&([number + 1; 16], sequence));
            assert_eq!(times, 1, "each is answered once");
            assert_eq!(handled, answer.status == Status::Accepted, "{sequence} was answered {:?}", answer.status);
            refused += u64::from(!handled);
            let critical = priorities[sequence as usize - 1] == Priority::Critical;
            assert!(!critical || matches!(answer.status, Status::Accepted | Status::Throttled), "{:?}", answer.status);
        }
    }
    let not_taken = stats.throttled.iter().chain(stats.dropped.iter().flatten()).sum::<u64>();
    let accepted = stats.accepted.iter().sum::<u64>();
    assert_eq!((accepted + not_taken, not_taken), (answered, refused));
    assert!(answered >= 5 * accepted, "{answered} came, {accepted} could be handled: that is less than it should be");
}

/// Datagrams come faster than they can be processed: each is accepted, or dropped by a name, or the kernel says that it lost
/// some.
#[test]
fn a_flood_of_datagrams_is_accounted_for() {
    let domain = Domain::new();
    let slow = |_: &Handled<'_>| {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
        Ok::<(), Failure>(())
    };
    let engine = Engine::options().domain(domain.name()).handler("**", slow).capacity(Lane::Transactional, 256);
    let server = server_with(engine, |options| options);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.udp_addr().unwrap()).unwrap();
    let frame =
        encoded(&conduit::frame::Event { flags: Flags::default(), ..event("t", 0, Priority::Medium, &[0; 64]) });
    let datagram: Vec<u8> = frame.iter().copied().cycle().take(frame.len() * 10).collect();
    let sent = u64::from(rounds(200_000));
    for _ in 0..sent {
        socket.send(&datagram).unwrap();
    }
    // What comes behind all of it, again and again, as it may be lost, too.
    let last = encoded(&conduit::frame::Event { flags: Flags::default(), ..event("end", 0, Priority::Critical, b"") });
    let mut ends = 0;
    eventually("what there is was received", || {
        ends += socket.send(&last).map_or(0, |_| 1);
        server.engine().stats().accepted[4] > 0
    });
    let mut net = server.stats();
    eventually("each that came is counted", || {
        let received = server.engine().stats().received;
        net = server.stats();
        net.datagrams * 10 == received[2] + received[4] * 10
    });
    let stats = server.stop(PATIENCE);
    let dropped: u64 = stats.dropped.iter().map(|by_priority| by_priority[2]).sum();
    let came = stats.received[2] / 10;
    assert_eq!((stats.accepted[2] + dropped, net.bad_datagrams), (came * 10, 0));
    assert!(dropped > 0 && stats.lanes[1].processed == stats.accepted[2]);
    assert!(came == sent || net.datagrams_lost > 0, "{net:?} of {sent} and {ends}");
}

#[test]
fn what_was_taken_is_processed_before_the_server_stops() {
    let domain = Domain::new();
    let (engine, gate, handled) = gated(&domain);
    let server = server_with(engine, |options| options);
    let mut wire = Wire::introduced(server.tcp_addr().unwrap(), ME);
    for n in 1..=500 {
        wire.send(&encoded(&event("t", n, Priority::Medium, b"x")));
    }
    wire.until(|wire| wire.count(Status::Accepted) == 500);
    let stopped = thread::spawn(move || server.stop(SHORTLY));
    drop(gate);
    assert_eq!(stopped.join().unwrap().lanes[1].processed, 500);
    assert_eq!(handled.load(Ordering::Relaxed), 500);
    wire.until_closed();
}
