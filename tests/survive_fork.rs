//! Processes that fork while they have handles: what the parent has, and what the child may do.
#![cfg(feature = "std")]

mod support;

use std::io::Error as IoError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use conduit::link::{self, Link};
use conduit::topic::{self, Observer, SlotKind, Start, WaitSet, WriterState};
use conduit::{Error, Subscriber};
use support::{
    Domain, KINDS, LEN, PATIENCE, Process, Stream, block_on, eventually, hear, kind_name, message, number, options,
    publish, receive, rounds, run_role, say,
};

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[("forker", forker), ("fork_storm", fork_storm)]);
}

/// Forks; the child runs `child` and ends. What that owns, the parent keeps until it ends, too.
fn fork(child: impl FnOnce()) -> i32 {
    // SAFETY: the child runs code of its own only, and ends without unwinding into the parent's.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: no memory involved. In the end it goes, too, whatever happens: 2 minutes is longer than any test.
            unsafe { libc::alarm(120) };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends this process without running the parent's handlers.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        -1 => panic!("{}", IoError::last_os_error()),
        pid => {
            std::mem::forget(child);
            pid
        }
    }
}

/// Forks, and waits for the end of the child.
fn fork_status(child: impl FnOnce()) -> i32 {
    let pid = fork(child);
    let mut status = 0;
    // SAFETY: the kernel writes the status.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

#[track_caller]
fn is_forked<T>(result: Result<T, Error>) {
    match result {
        Err(Error::Forked { .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("an inherited handle works"),
    }
}

/// Has every kind of handle, and forks. The child finds that none of them is its own, lets go of them when told, and
/// opens the topic for itself.
fn forker(args: &[&str]) {
    let (domain, kind) = (args[0], args[1]);
    let open = || Subscriber::<[u8]>::options().domain(domain).open("t").unwrap();
    let mut publisher = options(domain, kind).open("t").unwrap();
    let mut subscriber = open();
    let mut holding = open();
    publish(&mut publisher, 1);
    let sample = holding.recv().unwrap();
    assert!(subscriber.recv().is_ok());
    let mut set = WaitSet::new();
    set.attach(&subscriber);
    set.attach(&holding);
    assert_eq!(set.wait_timeout(Duration::from_millis(5)).unwrap(), []);
    let mut pollable = open().into_pollable().unwrap();
    assert!(pollable.try_recv().unwrap().is_none());
    let mut asynchronous = open().into_async();
    let mut context = Context::from_waker(Waker::noop());
    assert!(asynchronous.poll_recv(&mut context).is_pending());
    let mut observer = Observer::open_in(domain, "t", Start::New).unwrap();
    assert!(!subscriber.wait_publisher_gone(Duration::from_millis(1)).unwrap());
    // A message that is half written belongs to the parent.
    let loan = publisher.loan(LEN).unwrap();
    if fork_status(|| _ = loan.commit()) != 0 {
        panic!("a child that commits");
    }
    assert!(subscriber.try_recv().unwrap().is_none(), "a child published");
    fork(move || {
        is_forked(publisher.publish(&message(LEN, 0)));
        is_forked(publisher.publish_batch([&message(LEN, 0)[..]]));
        is_forked(publisher.publish_timeout(&message(LEN, 0), Duration::ZERO));
        is_forked(publisher.loan(LEN));
        is_forked(subscriber.try_recv());
        is_forked(subscriber.recv());
        is_forked(subscriber.recv_timeout(PATIENCE));
        is_forked(subscriber.recv_batch(9, |_| ()));
        is_forked(subscriber.wait_publisher_gone(PATIENCE));
        is_forked(set.wait());
        is_forked(set.wait_timeout(PATIENCE));
        is_forked(pollable.try_recv());
        assert!(matches!(asynchronous.poll_recv(&mut context), Poll::Ready(Err(Error::Forked { .. }))));
        is_forked(observer.try_next().map(drop));
        is_forked(observer.next_timeout(PATIENCE).map(drop));
        assert_eq!(number(&sample), Ok(0), "while the parent keeps it");
        say("child");
        assert_eq!(hear().as_deref(), Some("drop"));
        drop((sample, set, pollable, asynchronous, subscriber, holding, observer));
        drop(publisher);
        say("dropped");
        assert_eq!(hear().as_deref(), Some("open"));
        let mut subscriber = open();
        let mut set = WaitSet::new();
        set.attach(&subscriber);
        say("open");
        assert_eq!(set.wait().unwrap().len(), 1);
        say(number(&subscriber.recv().unwrap()).unwrap());
        // The child's own waiting thread, and its own watch.
        let mut subscriber = subscriber.into_async();
        let sequence = block_on(subscriber.recv()).unwrap().sequence();
        say(sequence);
        let mut late = Subscriber::<[u8]>::options().domain(domain).wait_forever().open("late").unwrap();
        say("late");
        say(number(&late.recv().unwrap()).unwrap());
        assert!(hear().is_none());
    });
    say("parent");
    loop {
        // Until it is killed: what it hears is the child's.
        thread::park();
    }
}

#[test]
fn a_child_that_outlives_its_parent_keeps_nothing_of_it() {
    for no_waitv in [false, true] {
        for kind in KINDS {
            let domain = Domain::new();
            let mut command = Process::command("forker", &[domain.name(), kind_name(kind)]);
            if no_waitv {
                // Then wait sets have threads, which the child does not have.
                command.env("CONDUIT_NO_WAITV", "1");
            }
            let mut process = Process::spawn("forker", command);
            let mut lines = [process.line(), process.line()];
            lines.sort();
            assert_eq!(lines, ["child", "parent"]);
            let inspect = || topic::inspect(Some(domain.name()), "t").unwrap();
            assert_eq!((inspect().writer, inspect().subscribers.len()), (WriterState::Alive, 4));
            let witness = domain.subscriber().open("t").unwrap();
            // The parent dies, and the child has handles that it was born with.
            process.signal(libc::SIGKILL);
            assert!(witness.wait_publisher_gone(PATIENCE).unwrap());
            eventually("the parent's places are free", || inspect().subscribers.len() == 1);
            assert_eq!(inspect().writer, WriterState::Gone);
            let mut publisher = domain.publisher_of(kind, LEN).open("t").unwrap();
            let mut subscribers: Vec<_> = (0..4).map(|_| domain.subscriber().open("t").unwrap()).collect();
            let mut streams: Vec<_> = (0..4).map(|_| Stream::from(1)).collect();
            publish(&mut publisher, 1);
            let held: Vec<_> = subscribers.iter_mut().map(|subscriber| subscriber.recv().unwrap()).collect();
            // It lets go of what it never had: nothing of ours may change.
            let before = inspect();
            process.tell("drop");
            process.expect("dropped");
            assert_eq!((inspect().writer, inspect().subscribers.len()), (WriterState::Alive, 5));
            assert_eq!(inspect().subscribers[1].pid, before.subscribers[1].pid);
            assert!(matches!(domain.publisher_of(kind, LEN).open("t"), Err(Error::PublisherExists { .. })));
            for (sample, stream) in held.iter().zip(&mut streams) {
                stream.take(sample.sequence(), sample.lagged(), sample).unwrap();
            }
            for _ in 0..200 {
                publish(&mut publisher, 1);
                for (subscriber, stream) in subscribers.iter_mut().zip(&mut streams) {
                    receive(subscriber, stream);
                }
            }
            assert!(held.iter().all(|sample| number(sample) == Ok(1)), "held slots were let go by the child");
            drop(held);
            // It can take part for itself, and wait in every way.
            process.tell("open");
            process.expect("open");
            for _ in 0..2 {
                let sequence = publish(&mut publisher, 1);
                process.expect(&sequence.to_string());
            }
            let mut late = domain.bytes().open("late").unwrap();
            process.expect("late");
            late.publish(&message(LEN, 0)).unwrap();
            process.expect("0");
            process.end();
            assert_eq!(process.try_line(), None, "until the child has ended, too");
        }
    }
}

/// Threads wait in every way while the process forks and forks; each child waits for itself.
fn fork_storm(args: &[&str]) {
    let (domain, forks) = (args[0], args[1].parse().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..3)
        .map(|at| {
            let (stop, domain) = (stop.clone(), domain.to_owned());
            thread::spawn(move || {
                let open = || Subscriber::<[u8]>::options().domain(&domain).open("t").unwrap();
                let mut context = Context::from_waker(Waker::noop());
                while !stop.load(Ordering::Relaxed) {
                    if at == 0 {
                        let mut subscriber = open().into_async();
                        let _ = subscriber.poll_recv(&mut context).is_pending();
                    } else if at == 1 {
                        let patient = Subscriber::<[u8]>::options().domain(&domain).wait(Duration::from_micros(50));
                        assert!(patient.open("never").is_err());
                    } else {
                        let subscriber = open();
                        let mut set = WaitSet::new();
                        set.attach(&subscriber);
                        let _ = set.wait_timeout(Duration::from_micros(50)).unwrap();
                    }
                }
            })
        })
        .collect();
    for _ in 0..forks {
        let status = fork_status(|| {
            let open = || Subscriber::<[u8]>::options().domain(domain).start(Start::Latest).open("t").unwrap();
            assert_eq!(block_on(open().into_async().recv()).unwrap().sequence(), 0);
            let mut context = Context::from_waker(Waker::noop());
            let mut subscriber = Subscriber::<[u8]>::options().domain(domain).open("t").unwrap().into_async();
            assert!(subscriber.poll_recv(&mut context).is_pending());
            let patient = Subscriber::<[u8]>::options().domain(domain).wait(Duration::from_micros(50));
            assert!(patient.open("never").is_err());
        });
        assert_eq!(status, 0, "a child failed");
        say("forked");
    }
    stop.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    say("done");
}

#[test]
fn a_child_can_wait_whatever_its_parent_was_in_the_middle_of() {
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).subscribers(64).open("t").unwrap();
    publish(&mut publisher, 1);
    let forks = rounds(1000);
    let mut process = Process::start("fork_storm", &[domain.name(), &forks.to_string()]);
    for _ in 0..forks {
        process.expect("forked");
    }
    process.expect("done");
    process.finish();
}

#[test]
fn a_forked_child_keeps_nobody_from_listening_where_its_parent_did() {
    let address = format!("@conduit-fork-{}", std::process::id());
    let mut listener = Link::options().listen(&address).unwrap();
    let pid = fork(|| {
        loop {
            thread::park();
        }
    });
    assert_eq!(fork_status(|| assert!(matches!(listener.accept(), Err(link::Error::Forked)))), 0);
    drop(listener);
    Link::options().listen(&address).unwrap();
    // SAFETY: a child of this process, which is there until it is waited for; the kernel writes the status.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &mut 0, 0);
    }
}
