//! What calls over a link promise to two programs that keep to the rules.
#![cfg(feature = "std")]

mod links;
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use conduit::link::calls::{self, CallError, Caller, Failure, Methods, Request, Service, Stopped};
use conduit::link::{Ending, Link, MIN_SIZE, Transport};
use links::{SOON, ends};
use support::rounds;

const WAYS: [Transport; 2] = [Transport::SharedMemory, Transport::Socket];

fn echo() -> Methods {
    Methods::new().on("echo", |request| Ok(request.payload().to_vec()))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(SOON, future).await.expect("woken in time") })
}

#[test]
fn many_threads_call_at_once_and_each_has_its_own_answer() {
    for (transport, workers) in WAYS.into_iter().flat_map(|way| [(way, 1), (way, 3)]) {
        let (here, there) = ends(Link::options().transport(transport), Link::options());
        let service = calls::Options::default().workers(workers).serve(here, echo()).unwrap();
        let caller = there.into_caller();
        let count = rounds(10_000);
        thread::scope(|scope| {
            for thread in 0..8u32 {
                let caller = caller.clone();
                scope.spawn(move || {
                    for number in 0..count {
                        let request = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                        assert_eq!(caller.call("echo", &request, SOON).unwrap(), request);
                    }
                });
            }
        });
        let (called, served) = (caller.metrics(), service.metrics());
        assert_eq!((called.called, called.answered, called.strays), (8 * u64::from(count), 8 * u64::from(count), 0));
        assert_eq!((served.served, served.serving, called.calling), (8 * u64::from(count), 0, 0));
    }
}

#[test]
fn a_plain_call_of_a_method_that_answers_in_parts_is_told_to_ask_for_a_stream() {
    let (here, there) = ends(Link::options(), Link::options());
    let parts = |request: &mut Request<'_>| {
        assert_eq!(request.send(b"part").err(), (!request.is_stream()).then_some(Stopped::NotAStream));
        request.send(b"part")?;
        Ok(b"end".to_vec())
    };
    let _service = here.serve(Methods::new().on("parts", parts)).unwrap();
    let caller = there.into_caller();
    let error = caller.call("parts", b"", SOON).unwrap_err();
    assert_eq!(error, CallError::NeedsStream);
    assert!(error.to_string().contains("Caller::stream"), "{error}");
    let mut stream = caller.stream("parts", b"", SOON).unwrap();
    assert_eq!(stream.by_ref().collect::<Result<Vec<_>, _>>().unwrap(), [b"part", b"part"]);
    assert_eq!(stream.end(), Some(&b"end"[..]));
}

#[test]
fn errors_say_what_was_wrong() {
    let (here, there) = ends(Link::options().max_message(100_000), Link::options());
    let methods = echo()
        .on("fail", |request| Err(Failure::new(7, String::from_utf8_lossy(request.payload()))))
        .on("panic", |_| panic!("as asked for"))
        .on("long", |_| Ok(vec![0; 200_000]));
    let service = here.serve(methods).unwrap();
    let caller = calls::Options::default().max_calls(2).caller(there);
    let call = |method: &str, request: &[u8]| caller.call(method, request, SOON);
    assert_eq!(call("fail", "näh".as_bytes()), Err(CallError::Failed { code: 7, text: "näh".into() }));
    assert_eq!(call("no", b""), Err(CallError::NoSuchMethod));
    assert_eq!(call("panic", b""), Err(CallError::Panicked));
    assert_eq!(call("long", b"").unwrap().len(), 200_000, "this end takes more than the other one");
    assert!(matches!(call("echo", &vec![0; 100_000]), Err(CallError::TooLarge { max: 100_000, .. })));
    assert_eq!(call(&"x".repeat(256), b""), Err(CallError::Method { len: 256 }));
    // The other way: nobody serves here.
    let waiting = caller.start("echo", b"", SOON).unwrap();
    let back = service.caller().start("echo", b"", SOON).unwrap();
    waiting.wait().unwrap();
    thread::scope(|scope| {
        let back = scope.spawn(move || back.wait());
        while !back.is_finished() {
            call("echo", b"").unwrap();
        }
        assert_eq!(back.join().unwrap(), Err(CallError::NoHandler));
    });
    assert_eq!((service.metrics().panicked, caller.metrics().unserved), (1, 1));
    let (_first, _second) = (caller.start("echo", b"", SOON), caller.start("echo", b"", SOON));
    assert_eq!(call("echo", b""), Err(CallError::TooMany { max: 2 }));
    drop((_first, _second));
    assert_eq!(call("echo", b"still").unwrap(), b"still");
    drop(service);
    let error = call("echo", b"").unwrap_err();
    assert_eq!(error, CallError::Closed(Ending::ByPeer));
}

#[test]
fn an_answer_longer_than_the_caller_takes_is_a_failure_that_says_so() {
    let (here, there) = ends(Link::options(), Link::options().max_message(1000));
    let _service = here.serve(Methods::new().on("long", |_| Ok(vec![0; 2000]))).unwrap();
    let error = there.into_caller().call("long", b"", SOON).unwrap_err();
    assert!(matches!(&error, CallError::Failed { text, .. } if text.contains("1000")), "{error}");
}

/// What is known once the last handler is done with the last call.
fn settled(service: &Service) -> calls::Metrics {
    while service.metrics().serving > 0 {
        thread::yield_now();
    }
    service.metrics()
}

/// A handler that works until nobody waits, and tells when it begins and why it stops.
fn until_stopped(tell: mpsc::Sender<Result<Duration, Stopped>>) -> Methods {
    let tell = Mutex::new(tell);
    echo().on("work", move |request: &mut Request<'_>| {
        let say = |what| tell.lock().unwrap().send(what).unwrap();
        say(Ok(request.remaining().unwrap_or(Duration::MAX)));
        loop {
            if let Err(stopped) = request.check() {
                say(Err(stopped));
                return Err(stopped.into());
            }
            thread::yield_now();
        }
    })
}

#[test]
fn a_call_has_a_time_and_the_handler_knows_how_much_of_it_there_is() {
    for workers in [1, 2] {
        let (tell, told) = mpsc::channel();
        let (here, there) = ends(Link::options(), Link::options());
        let service = calls::Options::default().workers(workers).serve(here, until_stopped(tell)).unwrap();
        let caller = there.into_caller();
        let (time, start) = (Duration::from_millis(60), Instant::now());
        assert_eq!(caller.call("work", b"", time), Err(CallError::DeadlinePassed));
        assert!(start.elapsed() >= time && start.elapsed() < SOON);
        let remaining = told.recv_timeout(SOON).unwrap().unwrap();
        assert!(remaining <= time && remaining > Duration::ZERO, "{remaining:?}");
        // By its own clock, or because the caller says that it waits no more.
        told.recv_timeout(SOON).unwrap().unwrap_err();
        assert_eq!(caller.call("echo", b"next", SOON).unwrap(), b"next");
        assert_eq!(caller.metrics().overdue, 1);
        let metrics = settled(&service);
        assert_eq!(metrics.expired + metrics.dropped, 1);
    }
}

#[test]
fn a_call_that_is_dropped_stops_the_handler() {
    for workers in [1, 2] {
        let (tell, told) = mpsc::channel();
        let (here, there) = ends(Link::options(), Link::options());
        let service = calls::Options::default().workers(workers).serve(here, until_stopped(tell)).unwrap();
        let caller = there.into_caller();
        let call = caller.start("work", b"", Duration::MAX).unwrap();
        assert_eq!(told.recv_timeout(SOON).unwrap(), Ok(Duration::MAX));
        call.cancel();
        assert_eq!(told.recv_timeout(SOON).unwrap(), Err(Stopped::Cancelled));
        assert_eq!(caller.call("echo", b"next", SOON).unwrap(), b"next");
        assert_eq!((caller.metrics().cancelled, settled(&service).dropped), (1, 1));
    }
}

#[test]
fn a_call_that_is_given_up_before_it_is_begun_is_not_begun() {
    let (here, there) = ends(Link::options(), Link::options());
    let begun = Arc::new(AtomicUsize::new(0));
    let (hold, held) = (Arc::new(Barrier::new(2)), begun.clone());
    let gate = hold.clone();
    let methods = echo()
        .on("hold", move |_| {
            gate.wait();
            gate.wait();
            Ok(Vec::new())
        })
        .on("count", move |_| {
            held.fetch_add(1, Ordering::Relaxed);
            Ok(Vec::new())
        });
    let service = here.serve(methods).unwrap();
    let caller = there.into_caller();
    let first = caller.start("hold", b"", SOON).unwrap();
    hold.wait();
    for _ in 0..10 {
        caller.start("count", b"", SOON).unwrap().cancel();
    }
    let overdue = caller.call("count", b"", Duration::from_millis(5));
    assert_eq!(overdue, Err(CallError::DeadlinePassed));
    hold.wait();
    first.wait().unwrap();
    caller.call("echo", b"", SOON).unwrap();
    // The first of them may have been taken up before what is behind it was seen.
    assert!(begun.load(Ordering::Relaxed) <= 1, "{begun:?}");
    assert!(service.metrics().dropped >= 10, "{:?}", service.metrics());
}

fn counting(sent: Arc<AtomicUsize>, tell: mpsc::Sender<Stopped>) -> Methods {
    let tell = Mutex::new(tell);
    echo().on("count", move |request: &mut Request<'_>| {
        let count = u32::from_le_bytes(request.payload().try_into().unwrap());
        for number in 0..count {
            let part = vec![number as u8; number as usize % 100];
            if let Err(stopped) = request.send(&part) {
                tell.lock().unwrap().send(stopped).unwrap();
                return Err(stopped.into());
            }
            sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(count.to_le_bytes().to_vec())
    })
}

fn whole(parts: impl Iterator<Item = Result<Vec<u8>, CallError>>) -> usize {
    let is_right = |(number, part): (usize, Result<Vec<u8>, CallError>)| {
        assert_eq!(part.unwrap(), vec![number as u8; number % 100]);
    };
    parts.enumerate().map(is_right).count()
}

#[test]
fn a_stream_that_nobody_reads_waits_and_keeps_no_other_call_back() {
    for (transport, workers) in WAYS.into_iter().flat_map(|way| [(way, 2), (way, 4)]) {
        let (here, there) = ends(Link::options().transport(transport).size(MIN_SIZE), Link::options());
        let (tell, told) = mpsc::channel();
        let sent = Arc::new(AtomicUsize::new(0));
        let methods = counting(sent.clone(), tell);
        let _service = calls::Options::default().workers(workers).serve(here, methods).unwrap();
        let caller = calls::Options::default().window(1000).caller(there);
        let count = rounds(20_000);
        let mut slow = caller.stream("count", &count.to_le_bytes(), SOON).unwrap();
        let mut quick = caller.stream("count", &count.to_le_bytes(), SOON).unwrap();
        for number in 0..10u8 {
            if workers > 2 || number == 0 {
                assert_eq!(whole(quick.by_ref()), if number == 0 { count as usize } else { 0 });
                assert_eq!(caller.call("echo", &[number], SOON).unwrap(), [number]);
            }
        }
        assert_eq!(quick.end(), Some(&count.to_le_bytes()[..]));
        assert!(sent.load(Ordering::Relaxed) <= count as usize + 1000 / 64 + 1, "{sent:?}");
        assert_eq!(whole(slow.by_ref()), count as usize);
        assert_eq!(slow.end(), Some(&count.to_le_bytes()[..]));
        // Dropped in the middle, it stops the handler.
        let mut dropped = caller.stream("count", &u32::MAX.to_le_bytes(), SOON).unwrap();
        dropped.next().unwrap().unwrap();
        drop(dropped);
        assert_eq!(told.recv_timeout(SOON).unwrap(), Stopped::Cancelled);
        // And so does its time.
        let late = caller.stream("count", &u32::MAX.to_le_bytes(), Duration::from_millis(30)).unwrap();
        told.recv_timeout(SOON).unwrap();
        let last = late.last().unwrap();
        assert_eq!(last, Err(CallError::DeadlinePassed));
        assert_eq!((caller.metrics().overruns, caller.metrics().calling), (0, 0));
    }
}

/// Each handler calls back until the number is used up: two ends, each with one thread that works.
#[test]
fn both_ends_call_and_serve_also_from_within_a_handler() {
    for transport in WAYS {
        let (here, there) = ends(Link::options().transport(transport), Link::options());
        let callers: [Arc<Mutex<Option<Caller>>>; 2] = Default::default();
        let methods = |own: &Arc<Mutex<Option<Caller>>>| {
            let own = own.clone();
            echo().on("down", move |request: &mut Request<'_>| match request.payload() {
                [0] => Ok(vec![0]),
                [number] => {
                    let caller = own.lock().unwrap().clone().unwrap();
                    let below = caller.call("down", &[number - 1], SOON);
                    let [below] = below.map_err(|error| Failure::new(1, error.to_string()))?[..] else { panic!() };
                    Ok(vec![below + 1])
                }
                _ => Err(Failure::new(2, "a number was asked for")),
            })
        };
        let services = [here.serve(methods(&callers[0])).unwrap(), there.serve(methods(&callers[1])).unwrap()];
        for (caller, service) in callers.iter().zip(&services) {
            *caller.lock().unwrap() = Some(service.caller().clone());
        }
        // Deeper than one, a thread that works is needed for each: there is one.
        assert_eq!(services[0].caller().call("down", &[1], SOON).unwrap(), [1]);
        thread::scope(|scope| {
            for service in &services {
                for _ in 0..3 {
                    scope.spawn(move || {
                        for number in 0..rounds(5000) {
                            let request = number.to_le_bytes();
                            assert_eq!(service.caller().call("echo", &request, SOON).unwrap(), request);
                        }
                    });
                }
            }
        });
        callers.iter().for_each(|caller| *caller.lock().unwrap() = None);
    }
}

#[test]
fn two_ends_that_both_send_more_than_there_is_room_for_do_not_wait_for_each_other() {
    for transport in WAYS {
        let (here, there) = ends(Link::options().size(MIN_SIZE).transport(transport), Link::options());
        let services = [here.serve(echo()).unwrap(), there.serve(echo()).unwrap()];
        thread::scope(|scope| {
            for (end, service) in services.iter().enumerate() {
                for thread in 0..3 {
                    scope.spawn(move || {
                        for number in 0..rounds(1000) as usize {
                            let len = [100, 1500, 60_000][(number + thread) % 3];
                            let request = vec![(end * 100 + thread * 10 + number) as u8; len];
                            assert!(service.caller().call("echo", &request, SOON).unwrap() == request);
                        }
                    });
                }
            }
        });
        assert_eq!((services[0].metrics().unsent, services[1].metrics().unsent), (0, 0));
    }
}

#[test]
fn tasks_call_beside_threads_with_times_of_their_own() {
    for transport in WAYS {
        let (tell, told) = mpsc::channel();
        let (here, there) = ends(Link::options().transport(transport), Link::options());
        let methods = until_stopped(tell).on("parts", |request| {
            for byte in request.payload().to_vec() {
                request.send(&[byte])?;
            }
            Ok(b"end".to_vec())
        });
        let _service = calls::Options::default().workers(2).serve(here, methods).unwrap();
        let caller = there.into_caller();
        let count = rounds(3000) as usize;
        let beside = {
            let caller = caller.clone();
            thread::spawn(move || {
                for number in 0..count {
                    let request = number.to_le_bytes();
                    assert_eq!(caller.call("echo", &request, SOON).unwrap(), request);
                    if number % 16 == 0 {
                        // Then only tasks wait.
                        thread::sleep(Duration::from_micros(200));
                    }
                }
            })
        };
        run(async {
            let talk = |task: usize| {
                let caller = caller.clone();
                async move {
                    for number in 0..count / 4 {
                        let request = [task.to_le_bytes(), number.to_le_bytes()].concat();
                        assert_eq!(caller.start("echo", &request, SOON).unwrap().await.unwrap(), request);
                    }
                    let mut stream = caller.stream("parts", b"abcdefgh", SOON).unwrap();
                    let mut got = Vec::new();
                    while let Some(part) = stream.next_part().await {
                        got.extend(part.unwrap());
                    }
                    assert_eq!((&got[..], stream.end()), (&b"abcdefgh"[..], Some(&b"end"[..])));
                }
            };
            tokio::join!(talk(0), talk(1), talk(2), talk(3));
            // Nobody but the link tells them the time.
            let (short, long) = (Duration::from_millis(30), Duration::from_millis(60));
            let late = |time| caller.start("work", b"", time).unwrap();
            let (first, second) = (late(long), late(short));
            let (first, second) = tokio::join!(first, second);
            assert_eq!((first, second), (Err(CallError::DeadlinePassed), Err(CallError::DeadlinePassed)));
        });
        beside.join().unwrap();
        // Now no thread receives for them.
        run(async {
            for number in 0..count {
                let request = number.to_le_bytes();
                assert_eq!(caller.start("echo", &request, SOON).unwrap().await.unwrap(), request);
            }
        });
        assert_eq!(told.try_iter().filter(Result::is_ok).count(), 2);
        assert_eq!((caller.metrics().calling, caller.metrics().strays), (0, 0));
    }
}

#[test]
fn a_service_that_stops_answers_nothing_more_and_waits_for_its_handlers() {
    let (tell, told) = mpsc::channel();
    let (here, there) = ends(Link::options(), Link::options());
    let service = here.serve(until_stopped(tell)).unwrap();
    let keeps = service.caller().clone();
    let caller = there.into_caller();
    let at_work = caller.start("work", b"", SOON).unwrap();
    told.recv_timeout(SOON).unwrap().unwrap();
    drop(service);
    assert_eq!(told.try_recv(), Ok(Err(Stopped::Cancelled)), "before the drop has returned");
    assert_eq!(at_work.wait(), Err(CallError::Cancelled));
    thread::scope(|scope| {
        // Somebody has to receive to refuse.
        let back = scope.spawn(|| keeps.call("no", b"", SOON));
        assert_eq!(caller.call("echo", b"", SOON), Err(CallError::NoHandler));
        drop(caller);
        assert!(matches!(back.join().unwrap(), Err(CallError::NoHandler | CallError::Closed(Ending::ByPeer))));
    });
}
