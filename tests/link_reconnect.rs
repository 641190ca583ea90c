//! What a link promises when its connection is lost.
#![cfg(feature = "std")]

mod links;
mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use conduit::ack::Policy;
use conduit::link::{Ending, Error, Event, Link, MIN_SIZE, Options, Receiver, Reconnect, Sender, Transport};
use links::{Accepting, SOON, address, at_once, cut, cut_accepted, message, while_cutting};
use support::rounds;

fn options(size: usize, transport: Transport) -> Options {
    Link::options().size(size).transport(transport).reconnect(at_once())
}

/// A length for a message: mostly short, and now and then longer than the ring.
fn len(number: usize, size: usize) -> usize {
    if number % 97 == 96 { size + number % 1000 } else { number * 7 % 600 }
}

fn nothing_is_lost_or_repeated(size: usize, transport: Transport, policy: Policy) {
    let count = rounds(30_000) as usize;
    let address = address();
    let accepting = Accepting::start(options(size, transport).acks(policy), &address);
    let (mut sends, mut receives) = options(size, transport).acks(policy).connect(&address).unwrap().split();
    let (mut answers, mut asks) = accepting.link().split();
    let send = move |sender: &mut Sender| {
        for number in 0..count {
            let sequence = sender.send_timeout(&message(number, len(number, size)), SOON).unwrap();
            assert_eq!(sequence, number as u64 + 1);
        }
    };
    let receive = move |receiver: &mut Receiver| {
        for number in 0..count {
            let received = receiver.recv_timeout(SOON).unwrap();
            assert!(received == message(number, len(number, size)), "message {number} is another one");
            if policy == Policy::Deferred && number % 5 == 0 {
                let _ = receiver.ack();
            }
        }
        let _ = receiver.ack();
    };
    while_cutting(&address, || {
        thread::scope(|threads| {
            threads.spawn(|| send(&mut sends));
            threads.spawn(|| send(&mut answers));
            threads.spawn(|| receive(&mut asks));
            threads.spawn(|| receive(&mut receives));
        });
    });
    // Whoever closes while there is no connection can tell nobody. What is too long for the ring shows that there is one.
    sends.send_timeout(&message(0, 2 * size), SOON).unwrap();
    assert_eq!(asks.recv_timeout(SOON).unwrap(), message(0, 2 * size));
    let metrics = sends.metrics();
    assert!(metrics.connections > 1, "{metrics:?}");
    drop((sends, receives));
    assert!(matches!(asks.recv_timeout(SOON), Err(Error::Closed(Ending::ByPeer))), "there is more than was sent");
}

#[test]
fn through_the_ring_nothing_is_lost_or_repeated_when_the_connection_is_cut() {
    nothing_is_lost_or_repeated(MIN_SIZE, Transport::SharedMemory, Policy::default());
    nothing_is_lost_or_repeated(64 << 10, Transport::SharedMemory, Policy::Immediate);
}

#[test]
fn over_the_socket_nothing_is_lost_or_repeated_when_the_connection_is_cut() {
    nothing_is_lost_or_repeated(16 << 10, Transport::Socket, Policy::default());
}

#[test]
fn what_was_received_and_not_acknowledged_is_not_sent_again_to_the_same_process() {
    nothing_is_lost_or_repeated(16 << 10, Transport::SharedMemory, Policy::Deferred);
}

#[test]
fn what_happens_to_the_connection_is_told_in_order() {
    let address = address();
    let accepting = Accepting::start(Link::options(), &address);
    let (tell, told) = mpsc::channel();
    let options = Link::options().reconnect(at_once()).on_event(move |event| tell.send(event.clone()).unwrap());
    let mut client = options.connect(&address).unwrap();
    let mut server = accepting.link();
    assert_eq!(cut(&address), 1);
    assert_eq!(told.recv_timeout(SOON).unwrap(), Event::Disconnected(Ending::Lost));
    assert_eq!(told.recv_timeout(SOON).unwrap(), Event::Reconnected { attempts: 1, same_peer: true });
    client.send(b"back").unwrap();
    assert_eq!(server.recv_timeout(SOON).unwrap(), b"back");
}

#[test]
fn it_is_tried_as_often_as_said_and_then_given_up() {
    let address = address();
    let accepting = Accepting::start(Link::options(), &address);
    let (tell, told) = mpsc::channel();
    let reconnect = Reconnect { attempts: 3, delay: Duration::from_millis(5), ..Reconnect::default() };
    let options = Link::options().reconnect(reconnect).on_event(move |event| tell.send(event.clone()).unwrap());
    let (mut sender, mut receiver) = options.connect(&address).unwrap().split();
    let _server = accepting.link();
    drop(accepting);
    let waiting = thread::spawn(move || receiver.recv().map(<[u8]>::to_vec));
    assert_eq!(cut(&address), 1);
    assert_eq!(told.recv_timeout(SOON).unwrap(), Event::Disconnected(Ending::Lost));
    for _ in 0..3 {
        assert!(matches!(told.recv_timeout(SOON).unwrap(), Event::Error(_)));
    }
    assert_eq!(told.recv_timeout(SOON).unwrap(), Event::GaveUp { attempts: 3 });
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed(Ending::GaveUp { attempts: 3 })), "{error}");
    assert!(matches!(sender.send(b"x"), Err(Error::Closed(Ending::GaveUp { .. }))));
}

#[test]
fn a_listener_keeps_a_link_for_as_long_as_its_peer_may_take_to_come_back() {
    let address = address();
    let patience = Reconnect { attempts: 1, ..Reconnect::default() };
    let server = Link::options().reconnect(patience).handshake_timeout(Duration::from_millis(50));
    let accepting = Accepting::start(server, &address);
    let client = Link::options().reconnect(Reconnect::NEVER).connect(&address).unwrap();
    let mut server = accepting.link();
    let start = Instant::now();
    assert_eq!(cut(&address), 1);
    let error = server.recv_timeout(SOON).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(50), "the peer was not waited for");
    assert!(matches!(error, Error::Closed(Ending::GaveUp { .. })), "{error}");
    drop(client);
}

#[test]
fn another_process_takes_a_link_up_by_its_session_and_gets_what_was_not_acknowledged() {
    let address = address();
    let accepting = Accepting::start(options(16 << 10, Transport::SharedMemory), &address);
    let session = *b"a robot's arm, 1";
    let connect = || {
        let options = Link::options().session(session).acks(Policy::Deferred).reconnect(Reconnect::NEVER);
        options.connect(&address).unwrap()
    };
    let mut first = connect();
    let mut server = accepting.link();
    for number in 0..10 {
        server.send(&message(number, 30)).unwrap();
    }
    first.send(b"from the first").unwrap();
    for number in 0..4 {
        assert_eq!(first.recv_timeout(SOON).unwrap(), message(number, 30));
    }
    first.ack().unwrap();
    for number in 4..7 {
        assert_eq!(first.recv_timeout(SOON).unwrap(), message(number, 30));
    }
    // As a process that dies does, it says nothing.
    assert_eq!(cut(&address), 1);
    let mut second = connect();
    second.send(b"from the second").unwrap();
    for number in 4..10 {
        assert_eq!(second.recv_timeout(SOON).unwrap(), message(number, 30));
    }
    assert_eq!(server.recv_timeout(SOON).unwrap(), b"from the first");
    // Acknowledged to nobody: the second has sent something else with the same sequence.
    server.ack().unwrap();
    assert!(matches!(second.sender().flush(Duration::from_millis(20)), Err(Error::TimedOut)));
    assert_eq!(server.recv_timeout(SOON).unwrap(), b"from the second");
    second.sender().flush(SOON).unwrap();
    second.ack().unwrap();
    server.sender().flush(SOON).unwrap();
}

#[test]
fn what_there_is_no_room_for_when_a_link_is_taken_up_follows_with_the_acknowledgements() {
    let address = address();
    let session = *b"another arm's, 2";
    let accepting = Accepting::start(options(MIN_SIZE, Transport::SharedMemory), &address);
    let client = |transport| {
        let options = Link::options().size(MIN_SIZE).transport(transport).session(session);
        options.acks(Policy::Batch { events: 8, age: 1_000_000 }).reconnect(Reconnect::NEVER).connect(&address)
    };
    let first = client(Transport::SharedMemory).unwrap();
    let mut server = accepting.link();
    // Half of it through the ring, up to room for a mark, and half over the socket.
    let mut sent = 0;
    while server.metrics().bytes_available > 256 {
        server.send(&message(sent, 50)).unwrap();
        sent += 1;
    }
    server.sender().prefer(Transport::Socket);
    while server.sender().try_send(&message(sent, 50)).is_ok() {
        sent += 1;
    }
    assert!(sent > 90, "{sent}: no more than there is room for at once");
    assert_eq!(cut(&address), 1);
    drop(first);
    let mut second = client(Transport::Socket).unwrap();
    for number in 0..sent {
        assert_eq!(second.recv_timeout(SOON).unwrap(), message(number, 50), "of {sent}");
    }
}

#[test]
fn of_two_with_one_session_the_last_one_keeps_the_link() {
    let address = address();
    let accepting = Accepting::start(Link::options().reconnect(at_once()), &address);
    let options = || Link::options().session([5; 16]).reconnect(at_once());
    let mut first = options().connect(&address).unwrap();
    let mut server = accepting.link();
    let mut second = options().connect(&address).unwrap();
    let error = first.recv_timeout(SOON).unwrap_err();
    assert!(matches!(error, Error::Closed(Ending::Replaced)), "{error}");
    second.send(b"mine").unwrap();
    assert_eq!(server.recv_timeout(SOON).unwrap(), b"mine");
    assert_eq!(second.metrics().connections, 1);
}

#[test]
fn a_session_that_was_closed_is_another_link_when_it_comes_back() {
    let address = address();
    let accepting = Accepting::start(Link::options(), &address);
    for round in 0..rounds(500) {
        let mut session = [6; 16];
        session[..4].copy_from_slice(&round.to_le_bytes());
        let connect = || Link::options().session(session).connect(&address).unwrap();
        drop(connect());
        let _second = connect();
        let (mut old, _new) = (accepting.link(), accepting.link());
        let error = old.recv_timeout(SOON).unwrap_err();
        assert!(matches!(error, Error::Closed(Ending::ByPeer)), "{error}");
    }
}

#[test]
fn a_server_that_accepts_and_hangs_up_is_not_asked_without_end() {
    let address = address();
    let mut listener = Link::options().reconnect(Reconnect::NEVER).listen(&address).unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let accepted = count.clone();
    let accepting = thread::spawn(move || {
        while let Ok(link) = listener.accept_timeout(Duration::from_secs(2)) {
            accepted.fetch_add(1, Ordering::Relaxed);
            cut_accepted(&listener.address());
            drop(link);
        }
    });
    // At once for the first time, and then after a time that this test does not live to see.
    let wait =
        Reconnect { delay: Duration::from_secs(600), max_delay: Duration::from_secs(600), ..Reconnect::default() };
    let link = Link::options().session([7; 16]).reconnect(wait).connect(&address).unwrap();
    accepting.join().unwrap();
    assert!(count.load(Ordering::Relaxed) <= 2, "{count:?}");
    drop(link);
}
