//! What a link promises to two programs that keep to its rules.
#![cfg(feature = "std")]

mod links;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use conduit::ack::Policy;
use conduit::link::{Ending, Error, Event, Link, MAX_SIZE, MIN_SIZE, Transport};
use links::{Accepting, SOON, address, at_once, cut, ends, message};

#[test]
fn messages_arrive_in_order_both_ways() {
    let (mut server, client) = ends(Link::options(), Link::options());
    assert_eq!(server.metrics().transport, Some(Transport::SharedMemory));
    assert_eq!(client.metrics().transport, Some(Transport::SharedMemory));
    let echo = thread::spawn(move || {
        for _ in 0..20_000 {
            let message = server.recv().unwrap().to_vec();
            server.send(&message).unwrap();
        }
        server.close(SOON).unwrap();
    });
    let (mut sender, mut receiver) = client.split();
    let sending = thread::spawn(move || {
        for number in 0..20_000 {
            assert_eq!(sender.send(&message(number, number % 700)).unwrap(), number as u64 + 1);
        }
        sender
    });
    for number in 0..20_000 {
        assert_eq!(receiver.recv_timeout(SOON).unwrap(), message(number, number % 700));
    }
    drop(sending.join().unwrap());
    drop(receiver);
    echo.join().unwrap();
}

#[test]
fn a_message_longer_than_the_ring_comes_in_its_turn() {
    for size in [MIN_SIZE, 64 << 10] {
        let (mut server, client) = ends(Link::options().size(size), Link::options().size(MAX_SIZE));
        let (mut sender, receiver) = client.split();
        let lens = [1, 100_000, 3, 0, 2000, 2_100_000, 5, 70_000, 70_000, 1];
        let sending = thread::spawn(move || {
            for round in 0..5 {
                for (number, len) in lens.into_iter().enumerate() {
                    sender.send(&message(round + number, len)).unwrap();
                }
            }
            sender.flush(SOON).unwrap();
            sender.metrics()
        });
        for round in 0..5 {
            for (number, len) in lens.into_iter().enumerate() {
                assert_eq!(server.recv_timeout(SOON).unwrap(), message(round + number, len));
            }
        }
        server.ack().unwrap();
        let metrics = sending.join().unwrap();
        assert!(metrics.fallbacks >= 20, "{metrics:?}");
        assert_eq!(metrics.transport, Some(Transport::SharedMemory));
        drop(receiver);
    }
}

#[test]
fn without_shared_memory_the_same_goes_over_the_socket_and_both_ends_see_that() {
    for (server, client) in [(Transport::Socket, Transport::SharedMemory), (Transport::SharedMemory, Transport::Socket)]
    {
        let (tell, told) = mpsc::channel();
        let options = Link::options().transport(client).on_event(move |event| tell.send(event.clone()).unwrap());
        let (mut server, client) = ends(Link::options().transport(server), options);
        assert_eq!(server.metrics().transport, Some(Transport::Socket));
        assert_eq!(client.metrics().transport, Some(Transport::Socket));
        assert!(matches!(told.recv().unwrap(), Event::Transport { transport: Transport::Socket, .. }));
        let (mut sender, mut receiver) = client.split();
        let sending = thread::spawn(move || {
            for number in 0..2000 {
                sender.send(&message(number, number % 300)).unwrap();
            }
            sender.send(&message(7, 3_000_000)).unwrap();
            sender.flush(SOON).unwrap();
            sender
        });
        for number in 0..2000 {
            assert_eq!(server.recv_timeout(SOON).unwrap(), message(number, number % 300));
        }
        assert_eq!(server.recv_timeout(SOON).unwrap(), message(7, 3_000_000));
        server.send(b"done").unwrap();
        assert_eq!(receiver.recv_timeout(SOON).unwrap(), b"done");
        drop(sending.join().unwrap());
    }
}

#[test]
fn the_way_can_be_changed_at_any_message_without_losing_or_overtaking_one() {
    let (mut server, client) = ends(Link::options().size(MIN_SIZE), Link::options().size(MIN_SIZE));
    let (mut sender, _receiver) = client.split();
    let sending = thread::spawn(move || {
        for number in 0..20_000 {
            if number % 7 == 0 {
                sender.prefer(if number % 2 == 0 { Transport::Socket } else { Transport::SharedMemory });
            }
            sender.send(&message(number, number % 900)).unwrap();
        }
        sender.flush(SOON).unwrap();
    });
    for number in 0..20_000 {
        assert_eq!(server.recv_timeout(SOON).unwrap(), message(number, number % 900));
    }
    server.ack().unwrap();
    sending.join().unwrap();
}

#[test]
fn a_full_link_says_so_waits_or_times_out() {
    let (mut server, mut client) = ends(Link::options(), Link::options().size(MIN_SIZE));
    let mut sent = 0;
    let refused = loop {
        match client.sender().try_send(&[7; 100]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::WouldBlock), "{refused}");
    assert!(client.metrics().bytes_available < 128 && sent > 20, "{sent}");
    let error = client.sender().send_timeout(&[7; 100], Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, Error::TimedOut), "{error}");
    let waiting = thread::spawn(move || client.sender().send(&[8; 100]).map(|_| client));
    for _ in 0..sent {
        assert_eq!(server.recv_timeout(SOON).unwrap(), [7; 100]);
    }
    assert_eq!(server.recv_timeout(SOON).unwrap(), [8; 100]);
    waiting.join().unwrap().unwrap();
}

#[test]
fn a_window_bounds_what_is_not_acknowledged() {
    let server = Link::options().acks(Policy::Deferred);
    let (mut server, mut client) = ends(server, Link::options().window(3));
    for _ in 0..3 {
        client.sender().try_send(b"x").unwrap();
    }
    assert!(matches!(client.sender().try_send(b"x"), Err(Error::WouldBlock)));
    for _ in 0..3 {
        server.recv_timeout(SOON).unwrap();
    }
    assert_eq!(server.metrics().pending_acks, 3);
    assert!(matches!(client.sender().try_send(b"x"), Err(Error::WouldBlock)), "received, and not acknowledged");
    server.ack().unwrap();
    client.sender().try_send(b"x").unwrap();
    assert_eq!((client.metrics().unacknowledged, server.metrics().ack_flushes), (1, 1));
}

#[test]
fn acknowledgements_come_at_once_in_batches_or_in_time() {
    let (mut server, mut client) = ends(Link::options().acks(Policy::Immediate), Link::options());
    client.send(b"x").unwrap();
    server.recv_timeout(SOON).unwrap();
    assert_eq!((client.metrics().unacknowledged, server.metrics().ack_flushes), (0, 1));

    let long = Policy::Batch { events: 4, age: SOON.as_nanos() as u64 };
    let (mut server, mut client) = ends(Link::options().acks(long), Link::options());
    for _ in 0..5 {
        client.send(b"x").unwrap();
    }
    for _ in 0..5 {
        server.recv_timeout(SOON).unwrap();
    }
    assert_eq!((client.metrics().unacknowledged, server.metrics().pending_acks), (1, 1));

    // Received, and then nothing more is asked for: it is time that acknowledges.
    let (mut server, mut client) = ends(Link::options(), Link::options());
    client.send(b"x").unwrap();
    server.recv_timeout(SOON).unwrap();
    client.sender().flush(SOON).unwrap();
    assert_eq!(server.metrics().pending_acks, 0);
}

#[test]
fn who_closes_is_heard_after_all_that_was_sent() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let (mut server, mut client) = ends(Link::options().transport(transport), Link::options());
        for number in 0..10 {
            client.send(&message(number, 50)).unwrap();
        }
        drop(client);
        for number in 0..10 {
            assert_eq!(server.recv_timeout(SOON).unwrap(), message(number, 50));
        }
        let error = server.recv_timeout(SOON).unwrap_err();
        assert!(matches!(error, Error::Closed(Ending::ByPeer)), "{error}");
        assert!(matches!(server.send(b"x"), Err(Error::Closed(Ending::ByPeer))));
    }
}

#[test]
fn sizes_out_of_range_and_addresses_that_are_none_are_errors_that_say_what_to_do() {
    for size in [MIN_SIZE - 1, MAX_SIZE + 1] {
        let error = Link::options().size(size).listen(&address()).unwrap_err();
        assert!(matches!(error, Error::Size { bytes } if bytes == size));
    }
    for address in ["", "@", &"x".repeat(200)] {
        assert!(matches!(Link::connect(address), Err(Error::Address { .. })), "{address}");
    }
    let error = Link::connect(&address()).unwrap_err();
    assert!(error.to_string().contains("connect to"), "{error}");
}

#[test]
fn a_message_longer_than_the_peer_takes_is_refused_and_nothing_else() {
    // Whether it is too long for the ring as well, or not.
    for max in [100_000, 1000] {
        let (mut server, mut client) = ends(Link::options().max_message(max), Link::options());
        let error = client.send(&vec![0; max + 1]).unwrap_err();
        assert!(matches!(error, Error::TooLarge { len, max: most } if len == max + 1 && most == max), "{error}");
        client.send(&message(1, max)).unwrap();
        assert_eq!(server.recv_timeout(SOON).unwrap(), message(1, max));
    }
}

#[test]
fn what_a_program_sent_that_closes_at_once_arrives() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let address = address();
        let mut listener = Link::options().transport(transport).listen(&address).unwrap();
        let connecting = thread::spawn(move || {
            for _ in 0..50 {
                Link::connect(&address).unwrap().send(b"the only one").unwrap();
            }
        });
        for _ in 0..50 {
            let mut server = listener.accept_timeout(SOON).unwrap();
            assert_eq!(server.recv_timeout(SOON).unwrap(), b"the only one");
            assert!(matches!(server.recv_timeout(SOON), Err(Error::Closed(Ending::ByPeer))));
        }
        connecting.join().unwrap();
    }
}

#[test]
fn whoever_waits_for_room_hears_of_it_also_where_another_thread_reads_the_socket() {
    let options = || Link::options().transport(Transport::Socket).acks(Policy::Immediate);
    let (mut server, client) = ends(options(), options().window(1));
    let count = 5000;
    let (mut sender, mut receiver) = client.split();
    thread::scope(|threads| {
        // Answers, so that the client's receiver has the socket in hand when acknowledgements come.
        threads.spawn(|| {
            for _ in 0..count {
                let len = server.recv_timeout(SOON).unwrap().len();
                server.send(&vec![0; len]).unwrap();
            }
        });
        threads.spawn(|| {
            for _ in 0..count {
                sender.send_timeout(b"x", SOON).unwrap();
                sender.flush(SOON).unwrap();
            }
        });
        for _ in 0..count {
            receiver.recv_timeout(SOON).unwrap();
        }
    });
}

#[test]
fn what_was_sent_is_received_though_the_sender_was_dropped_behind_it() {
    for transport in [Transport::Socket, Transport::SharedMemory] {
        let options = || Link::options().transport(transport);
        let (mut server, mut client) = ends(options(), options());
        // More than a socket's buffer takes.
        client.send(&message(1, 4 << 20)).unwrap();
        drop(client);
        assert_eq!(server.recv_timeout(SOON).unwrap(), message(1, 4 << 20));
        let error = server.recv_timeout(SOON).unwrap_err();
        assert!(matches!(error, Error::Closed(Ending::ByPeer)), "{error}");
    }
}

#[test]
fn a_link_without_a_connection_says_so() {
    let (mut server, client) = ends(Link::options(), Link::options());
    assert_eq!(client.metrics().transport, Some(Transport::SharedMemory));
    server.send(b"x").unwrap();
    drop(server);
    let mut client = client;
    while client.recv_timeout(SOON).is_ok() {}
    let metrics = client.metrics();
    assert_eq!((metrics.transport, metrics.bytes_available), (None, 0));
}

#[test]
fn too_long_a_message_is_told_of_also_when_there_is_no_room() {
    let (_server, mut client) = ends(Link::options().max_message(10_000), Link::options().window(1));
    client.sender().try_send(b"x").unwrap();
    assert!(matches!(client.sender().try_send(b"x"), Err(Error::WouldBlock)));
    assert!(matches!(client.sender().try_send(&[0; 10_001]), Err(Error::TooLarge { len: 10_001, max: 10_000 })));
}

#[test]
fn a_message_can_be_read_where_it_lies_and_is_received_once() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let options = || Link::options().size(4096).transport(transport);
        let (mut server, mut client) = ends(options(), options());
        let sending = thread::spawn(move || {
            for number in 0..2000 {
                // Now and then too long for the ring.
                let len = if number % 50 == 49 { 5000 } else { number % 900 };
                client.send(&message(number, len)).unwrap();
            }
            client.close(SOON).unwrap();
        });
        for number in 0..2000 {
            let len = if number % 50 == 49 { 5000 } else { number % 900 };
            let is_right = |bytes: &[u8]| bytes == message(number, len);
            // By turns, as they are one stream.
            let was_right = match number % 3 {
                0 => is_right(server.recv_timeout(SOON).unwrap()),
                // SAFETY: the peer is this process, and does nothing else with the memory.
                _ => unsafe { server.recv_in_place(is_right) }.unwrap(),
            };
            assert!(was_right, "{number}");
        }
        assert!(matches!(server.recv_timeout(SOON), Err(Error::Closed(Ending::ByPeer))));
        sending.join().unwrap();
    }
}

#[test]
fn a_message_stays_readable_where_it_lies_while_its_connection_is_lost() {
    let address = address();
    let accepting = Accepting::start(Link::options().reconnect(at_once()), &address);
    let mut client = Link::options().reconnect(at_once()).connect(&address).unwrap();
    let mut server = accepting.link();
    for number in 0..20 {
        client.send(&message(number, 700)).unwrap();
        client.send(&message(number, 300)).unwrap();
        // SAFETY: the peer is this process, and does nothing else with the memory.
        let result = unsafe {
            server.recv_in_place(|bytes| {
                let connections = client.metrics().connections;
                cut(&address);
                let until = Instant::now() + SOON;
                while client.metrics().connections == connections && Instant::now() < until {
                    thread::yield_now();
                }
                bytes == message(number, 700)
            })
        };
        assert!(result.unwrap());
        assert_eq!(server.recv_timeout(SOON).unwrap(), message(number, 300));
    }
}
