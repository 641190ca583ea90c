//! What a link promises to async code and to event loops.
#![cfg(feature = "std")]

mod links;
mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use conduit::ack::Policy;
use conduit::link::{Ending, Error, Link, MIN_SIZE, Transport};
use links::{Accepting, SOON, address, at_once, ends, message, while_cutting};
use rustix::event::{PollFd, PollFlags, poll};
use support::rounds;

/// Runs on a runtime of its own; whoever sleeps for too long has missed being woken.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(SOON, future).await.expect("woken in time") })
}

#[test]
fn tasks_talk_to_tasks_and_to_threads_over_both_ways() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let count = rounds(20_000) as usize;
        let (server, client) = ends(Link::options().transport(transport), Link::options());
        let (mut to_client, mut from_client) = server.into_async();
        let echo = thread::spawn(move || {
            run(async move {
                for _ in 0..2 * count {
                    let message = from_client.recv().await.unwrap().to_vec();
                    to_client.send(&message).await.unwrap();
                }
                to_client.flush().await.unwrap();
            });
        });
        let (mut to_server, mut from_server) = client.into_async();
        let (to_server, from_server) = run(async move {
            for number in 0..count {
                to_server.send(&message(number, number % 300)).await.unwrap();
                assert_eq!(from_server.recv().await.unwrap(), message(number, number % 300));
            }
            (to_server, from_server)
        });
        let (mut to_server, mut from_server) = (to_server.into_inner(), from_server.into_inner());
        for number in 0..count {
            to_server.send(&message(number, 40)).unwrap();
            assert_eq!(from_server.recv_timeout(SOON).unwrap(), message(number, 40));
        }
        echo.join().unwrap();
    }
}

/// The sender has long stopped to run fences for sleepers that never came, and then one comes.
#[test]
fn a_task_that_sleeps_after_a_long_time_without_sleepers_is_woken() {
    let (server, client) = ends(Link::options().size(1 << 20), Link::options().size(1 << 20));
    let (_keep, mut receiver) = server.into_async();
    let (mut sender, _receiver) = client.split();
    let (tell, told) = mpsc::channel();
    let rounds = rounds(200);
    let sending = thread::spawn(move || {
        for _ in 0..rounds {
            for number in 0..5000 {
                sender.send(&message(number, 8)).unwrap();
            }
            let () = told.recv_timeout(SOON).unwrap();
            sender.send(b"last").unwrap();
        }
        sender
    });
    run(async move {
        for _ in 0..rounds {
            for number in 0..5000 {
                assert_eq!(receiver.recv().await.unwrap(), message(number, 8));
            }
            tell.send(()).unwrap();
            assert_eq!(receiver.recv().await.unwrap(), b"last");
        }
    });
    drop(sending.join().unwrap());
}

#[test]
fn all_tasks_that_wait_for_room_get_some() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let count = rounds(5000) as usize;
        let (mut server, client) = ends(Link::options().size(MIN_SIZE).transport(transport), Link::options());
        let (sender, _receiver) = client.into_async();
        let sending = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let tasks: Vec<_> = (0..8u8)
                    .map(|task| {
                        let mut sender = sender.clone();
                        tokio::spawn(async move {
                            for _ in 0..count {
                                sender.send(&[task; 500]).await.unwrap();
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    tokio::time::timeout(SOON, task).await.expect("woken in time").unwrap();
                }
            });
        });
        let mut of = [0; 8];
        for _ in 0..8 * count {
            of[usize::from(server.recv_timeout(SOON).unwrap()[0])] += 1;
        }
        assert_eq!(of, [count; 8]);
        sending.join().unwrap();
    }
}

#[test]
fn what_is_given_up_before_it_is_ready_is_neither_sent_nor_lost() {
    let (server, client) = ends(Link::options().size(MIN_SIZE), Link::options());
    let (_keep, mut receiver) = server.into_async();
    let (mut sender, _receiver) = client.into_async();
    let mut context = Context::from_waker(Waker::noop());
    let mut sent = 0;
    for number in 0..2000 {
        let bytes = message(number, 300);
        let mut future = pin!(sender.send(&bytes));
        if let Poll::Ready(sequence) = future.as_mut().poll(&mut context) {
            sent += 1;
            assert_eq!(sequence.unwrap(), sent);
        }
        if number % 20 == 0 {
            let mut future = pin!(receiver.recv());
            let _ = future.as_mut().poll(&mut context).map(|message| assert_eq!(message.unwrap().len(), 300));
        }
    }
    let taken = receiver.metrics().received;
    assert!(taken < sent && sent < 1000, "{taken} of {sent}");
    run(async move {
        for _ in taken..sent {
            let _ = receiver.recv().await.unwrap();
        }
        assert!(matches!(receiver.try_recv(), Err(Error::WouldBlock)));
    });
}

#[test]
fn tasks_that_wait_learn_of_the_end() {
    let (server, client) = ends(Link::options().size(MIN_SIZE), Link::options());
    let (mut sender, mut receiver) = client.into_async();
    run(async move {
        while sender.try_send(&[0; 400]).is_ok() {}
        let mut also = sender.clone();
        let close = async {
            tokio::task::yield_now().await;
            drop(server);
        };
        let waits = async { tokio::join!(sender.send(&[0; 400]), also.flush(), receiver.recv()) };
        let ((sent, flushed, received), ()) = tokio::join!(waits, close);
        assert!(matches!(sent, Err(Error::Closed(Ending::ByPeer))), "{sent:?}");
        assert!(matches!(flushed, Err(Error::Closed(Ending::ByPeer))), "{flushed:?}");
        assert!(matches!(received, Err(Error::Closed(Ending::ByPeer))), "{received:?}");
    });
}

#[test]
fn tasks_are_woken_over_all_connections_that_come_and_go() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let count = rounds(20_000) as usize;
        let options = || Link::options().size(MIN_SIZE).transport(transport).reconnect(at_once());
        let address = address();
        let accepting = Accepting::start(options().acks(Policy::Immediate), &address);
        let (mut to_server, mut from_server) = options().connect(&address).unwrap().into_async();
        let (mut to_client, mut from_client) = accepting.link().into_async();
        let echo = thread::spawn(move || {
            run(async move {
                for _ in 0..count {
                    let message = from_client.recv().await.unwrap().to_vec();
                    to_client.send(&message).await.unwrap();
                }
                (to_client, from_client)
            })
        });
        let talk = async move {
            let send = async {
                for number in 0..count {
                    to_server.send(&message(number, number % 700)).await.unwrap();
                }
            };
            let receive = async {
                for number in 0..count {
                    assert_eq!(from_server.recv().await.unwrap(), message(number, number % 700), "{number}");
                }
            };
            tokio::join!(send, receive);
        };
        while_cutting(&address, || run(talk));
        drop(echo.join().unwrap());
    }
}

#[test]
fn a_descriptor_is_readable_while_there_is_something() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let (server, client) = ends(Link::options().transport(transport), Link::options());
        let (mut sender, receiver) = client.split();
        let (keep, from_client) = server.split();
        let mut from_client = from_client.into_pollable().unwrap();
        let is_readable = |receiver: &conduit::link::PollReceiver, timeout: Duration| {
            let mut descriptors = [PollFd::new(receiver, PollFlags::IN)];
            poll(&mut descriptors, Some(&timeout.try_into().unwrap())).unwrap() == 1
        };
        assert!(is_readable(&from_client, Duration::ZERO), "at first");
        for number in 0..rounds(5000) as usize {
            assert!(matches!(from_client.try_recv(), Err(Error::WouldBlock)));
            for _ in 0..number % 3 + 1 {
                sender.send(&message(number, 20)).unwrap();
            }
            let mut left = number % 3 + 1;
            while left > 0 {
                assert!(is_readable(&from_client, SOON), "in time");
                while let Ok(received) = from_client.try_recv() {
                    assert_eq!(received, message(number, 20));
                    left -= 1;
                }
            }
        }
        assert!(!is_readable(&from_client, Duration::ZERO), "nothing is there");
        drop((sender, receiver));
        assert!(is_readable(&from_client, SOON), "the end is news");
        let ended = from_client.try_recv().map(<[u8]>::to_vec);
        assert!(matches!(ended, Err(Error::Closed(Ending::ByPeer))), "{ended:?}");
        drop(keep);
    }
}

#[test]
fn who_waits_no_more_is_woken_no_more() {
    #[derive(Default)]
    struct Counted(AtomicUsize);
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (server, mut client) = ends(Link::options(), Link::options());
    let (_keep, mut receiver) = server.into_async();
    let counted = Arc::new(Counted::default());
    let waker = Waker::from(counted.clone());
    assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    let mut receiver = receiver.into_inner();
    client.send(b"x").unwrap();
    assert_eq!(receiver.recv_timeout(SOON).unwrap(), b"x");
    assert_eq!(Arc::strong_count(&counted), 2, "kept here and in `waker`, and nowhere else");
}
