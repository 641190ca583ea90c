//! What calls over a link promise where the other end goes, comes back, is another one, or lies.
#![cfg(feature = "std")]

mod links;
mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use conduit::link::calls::{self, CallError, Methods};
use conduit::link::{Ending, Link, MIN_SIZE, Options, Reconnect, Transport};
use links::{Accepting, SOON, address, at_once, cut, ends, while_cutting};
use support::rounds;

fn options() -> Options {
    Link::options().size(MIN_SIZE).reconnect(at_once())
}

#[test]
fn over_connections_that_are_cut_each_call_is_answered_and_executed_once() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let address = address();
        let accepting = Accepting::start(options().transport(transport), &address);
        let client = options().connect(&address).unwrap();
        let executed = Arc::new(Mutex::new(HashMap::<Vec<u8>, usize>::new()));
        let counted = executed.clone();
        let methods = move || {
            let counted = counted.clone();
            Methods::new()
                .on("once", move |request| {
                    *counted.lock().unwrap().entry(request.payload().to_vec()).or_default() += 1;
                    Ok([request.payload(), &[7; 300]].concat())
                })
                .on("parts", |request| {
                    (0..50u8).try_for_each(|number| request.send(&[number; 40]))?;
                    Ok(Vec::new())
                })
        };
        let services = [
            calls::Options::default().workers(2).serve(accepting.link(), methods()).unwrap(),
            calls::Options::default().workers(1).window(500).serve(client, methods()).unwrap(),
        ];
        let count = rounds(3000) as usize;
        let call = |thread: u8| {
            let caller = services[usize::from(thread) % 2].caller();
            for number in 0..count {
                let request = [&[thread][..], &number.to_le_bytes()].concat();
                let answer = caller.call("once", &request, SOON).unwrap();
                assert_eq!(answer, [&request[..], &[7; 300]].concat());
                if number % 10 == 0 {
                    let parts: Vec<_> = caller.stream("parts", b"", SOON).unwrap().collect();
                    let expected: Vec<_> = (0..50u8).map(|number| Ok(vec![number; 40])).collect();
                    assert_eq!(parts, expected);
                }
            }
        };
        while_cutting(&address, || {
            thread::scope(|threads| (0..4u8).for_each(|thread| drop(threads.spawn(move || call(thread)))));
        });
        let executed = executed.lock().unwrap();
        assert_eq!(executed.len(), 4 * count);
        assert!(executed.values().all(|times| *times == 1), "executed twice");
        for service in &services {
            let metrics = service.metrics();
            assert_eq!((metrics.replaced, metrics.stale, metrics.overruns), (0, 0, 0), "{metrics:?}");
        }
    }
}

/// The first process dies with calls that it may have executed; the second one takes the link up by the session's name.
#[test]
fn a_process_that_comes_in_the_place_of_another_is_asked_nothing_that_the_other_one_was() {
    for transport in [Transport::SharedMemory, Transport::Socket] {
        let address = address();
        let accepting = Accepting::start(options().transport(transport), &address);
        let worker = || options().session(*b"a worker, and 1!").reconnect(Reconnect::NEVER).connect(&address).unwrap();
        let first = worker();
        let caller = accepting.link().into_caller();
        let mut calls: Vec<_> = (0..3).map(|_| caller.start("count", b"old", SOON).unwrap()).collect();
        let stream = caller.stream("count", b"old", SOON).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| caller.call("count", b"old", SOON));
            while caller.metrics().called < 5 {
                thread::yield_now();
            }
            assert_eq!(cut(&address), 1);
            drop(first);
            let executed = Arc::new(AtomicUsize::new(0));
            let counted = executed.clone();
            let methods = Methods::new().on("count", move |request| {
                assert_eq!(request.payload(), b"new");
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(Vec::new())
            });
            let second = worker().serve(methods).unwrap();
            assert_eq!(waiting.join().unwrap(), Err(CallError::PeerReplaced));
            assert_eq!(caller.call("count", b"new", SOON), Ok(Vec::new()));
            for call in calls.drain(..) {
                assert_eq!(call.wait(), Err(CallError::PeerReplaced));
            }
            assert_eq!(stream.collect::<Vec<_>>(), [Err(CallError::PeerReplaced)]);
            let metrics = second.metrics();
            assert_eq!((executed.load(Ordering::Relaxed), metrics.served, metrics.panicked), (1, 1, 0));
            assert_eq!(metrics.stale, 5, "what the link had kept for the first one came, and was not acted on");
            assert_eq!((caller.metrics().replaced, caller.metrics().answered), (5, 1));
        });
    }
}

/// The one that calls is replaced: nothing is told to the next one, and handlers hear that nobody waits.
#[test]
fn handlers_hear_that_the_process_that_called_is_gone() {
    let address = address();
    let accepting = Accepting::start(options(), &address);
    let asker = || options().session(*b"one who asks, 1!").reconnect(Reconnect::NEVER).connect(&address).unwrap();
    let first = asker().into_caller();
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let methods = Methods::new().on("echo", |request| Ok(request.payload().to_vec())).on("work", move |request| {
        tell.lock().unwrap().send(()).unwrap();
        while !request.is_cancelled() {
            thread::yield_now();
        }
        tell.lock().unwrap().send(()).unwrap();
        Ok(b"for the first".to_vec())
    });
    let service = accepting.link().serve(methods).unwrap();
    let call = first.start("work", b"", SOON).unwrap();
    told.recv_timeout(SOON).unwrap();
    assert_eq!(cut(&address), 1);
    assert!(matches!(call.wait(), Err(CallError::Closed(Ending::Lost))));
    drop(first);
    let second = asker().into_caller();
    told.recv_timeout(SOON).unwrap();
    assert_eq!(second.call("echo", b"mine", SOON).unwrap(), b"mine");
    assert_eq!((second.metrics().strays, second.metrics().stale), (0, 0));
    assert_eq!(service.metrics().dropped, 1);
}

/// Speaks the protocol by hand: see the table in `codec.rs`.
struct Liar {
    link: Link,
    to: [u8; 8],
}

impl Liar {
    fn say(&mut self, kind: u8, value: u32, id: u64, body: &[u8]) {
        let bytes = self.message([1, kind, u8::from(kind == 4), 0], value, id, body);
        self.link.sender().send_timeout(&bytes, SOON).unwrap();
    }

    fn message(&self, beginning: [u8; 4], value: u32, id: u64, body: &[u8]) -> Vec<u8> {
        [&beginning[..], &value.to_le_bytes(), &self.to, &id.to_le_bytes(), body].concat()
    }

    fn request(&mut self, id: u64, method: &str) {
        let body = [&u64::MAX.to_le_bytes()[..], &[method.len() as u8], method.as_bytes()].concat();
        self.say(1, 0, id, &body);
    }

    /// The next message's kind, reason, and call.
    fn hear(&mut self) -> (u8, u8, u64) {
        let message = self.link.recv_timeout(SOON).unwrap();
        (message[1], message[2], u64::from_le_bytes(message[16..24].try_into().unwrap()))
    }
}

fn liar(server: Options) -> (Link, Liar) {
    let (server, link) = ends(server, Link::options());
    let to = *link.peer().first_chunk().unwrap();
    (server, Liar { link, to })
}

#[test]
fn what_has_no_place_is_counted_and_nothing_else_comes_of_it() {
    let (here, mut liar) = liar(Link::options());
    let (gate, hold) = mpsc::channel::<()>();
    let hold = Mutex::new(hold);
    let methods = Methods::new().on("echo", |request| Ok(request.payload().to_vec())).on("hold", move |_| {
        let _ = hold.lock().unwrap().recv();
        Ok(Vec::new())
    });
    let service = calls::Options::default().workers(2).queue(4).serve(here, methods).unwrap();
    // Dropped before the service, whatever happens, so that the handler that waits for it has an end.
    let gate = gate;
    // Nothing of calls at all; then each thing wrong with what could be one.
    for len in [0, 1, 23, 24, 1000] {
        liar.link.send(&vec![0xA5; len]).unwrap();
    }
    for (beginning, value, body) in [
        ([2, 1, 0, 0], 0, &[0; 20][..]),
        ([1, 9, 0, 0], 0, &[]),
        ([1, 2, 1, 0], 0, &[]),
        ([1, 5, 0, 0], 1, &[]),
        ([1, 4, 99, 0], 0, &[]),
        ([1, 4, 1, 0], 0, &[0xFF]),
        ([1, 1, 0, 0], 0, &[0xFF; 9]),
    ] {
        let bytes = liar.message(beginning, value, 1, body);
        liar.link.send(&bytes).unwrap();
    }
    // Answers, parts and failures of calls that there are not, and news of calls that it has not made.
    for id in [0, 1, 77, u64::MAX] {
        (2..=6).for_each(|kind| liar.say(kind, 0, id, b""));
    }
    // For somebody else.
    let own = std::mem::replace(&mut liar.to, [9; 8]);
    liar.request(5, "echo");
    liar.to = own;
    liar.request(6, "echo");
    assert_eq!(liar.hear(), (2, 0, 6));
    let metrics = service.metrics();
    assert_eq!((metrics.malformed, metrics.strays, metrics.stale), (12, 20, 1), "{metrics:?}");
    assert_eq!((metrics.served, metrics.calling, metrics.serving), (1, 0, 0));

    // One number twice while it is under way, and more than there is room for.
    liar.request(7, "hold");
    liar.request(7, "hold");
    for id in 8..100 {
        liar.request(id, "echo");
    }
    for _ in 8..100 {
        let (kind, reason, id) = liar.hear();
        assert!((8..100).contains(&id) && (kind, reason) == (2, 0) || (kind, reason) == (4, 6), "{kind} {reason} {id}");
    }
    assert_eq!(service.metrics().reused, 1);
    drop(gate);
    assert_eq!(liar.hear(), (2, 0, 7));
}

#[test]
fn a_flood_that_is_not_read_takes_a_bounded_place_and_is_counted() {
    let (here, mut liar) = liar(Link::options().size(MIN_SIZE));
    // Nobody serves: each request is refused, and no refusal is read.
    let caller = here.into_caller();
    let done = Arc::new(AtomicBool::new(false));
    let calling = {
        let (caller, done) = (caller.clone(), done.clone());
        thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                // It receives while it waits, and has its own end.
                assert_eq!(caller.call("no", b"", Duration::from_millis(50)), Err(CallError::DeadlinePassed));
            }
        })
    };
    let count = 30_000;
    for id in 0..count {
        liar.request(id, "echo");
        liar.say(5, 0, id, b"");
    }
    liar.link.sender().flush(SOON).unwrap();
    done.store(true, Ordering::Relaxed);
    calling.join().unwrap();
    let metrics = caller.metrics();
    assert_eq!((metrics.unserved, metrics.strays), (count, count), "{metrics:?}");
    assert!(metrics.unsent > count / 2, "{metrics:?}");
    assert_eq!(metrics.calling, 0);
}

#[test]
fn a_stream_that_sends_more_than_it_may_is_ended() {
    let (here, mut liar) = liar(Link::options());
    let caller = calls::Options::default().window(1000).caller(here);
    let mut stream = caller.stream("more", b"", SOON).unwrap();
    let (kind, _, id) = liar.hear();
    assert_eq!(kind, 1);
    for _ in 0..100 {
        liar.say(3, 0, id, &[1; 100]);
    }
    // Whoever waits for something else receives them all, while nobody takes them.
    assert_eq!(caller.call("other", b"", Duration::from_millis(50)), Err(CallError::DeadlinePassed));
    let mut parts: Vec<_> = stream.by_ref().collect();
    assert_eq!(parts.pop(), Some(Err(CallError::Overrun)));
    assert_eq!(parts, vec![Ok(vec![1; 100]); 1000 / 164 + 1]);
    assert_eq!(caller.metrics().strays, 100 - 1 - parts.len() as u64);
    assert!(caller.metrics().overruns == 1 && caller.metrics().failed == 1);
    // Parts for a call that takes none.
    let call = caller.start("none", b"", SOON).unwrap();
    let id = loop {
        // Behind the other call and its cancellation.
        if let (1, _, last) = liar.hear() {
            if last > id + 1 {
                break last;
            }
        }
    };
    liar.say(3, 0, id, b"");
    assert_eq!(call.wait(), Err(CallError::Overrun));
}
