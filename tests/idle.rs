//! Idle is idle: who waits uses no CPU, and who publishes to nobody asleep makes no system call.
#![cfg(feature = "std")]

mod support;

use std::time::Duration;

use conduit::node::Threads;
use conduit::topic::{Observer, Start};
use conduit::{Node, Subscriber, WaitSet};
use support::{Domain, KINDS, Process, hear, kind_name, kind_of, rounds, say, settled, switches_of, watch_time};

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[("waiter", waiter), ("publisher", publisher), ("expectant", expectant), ("ticker", ticker)]);
}

/// Waits for messages in one of several ways, and says the first byte of each.
fn waiter(args: &[&str]) {
    let [way, domain] = args else { panic!("way and domain") };
    let open = || Subscriber::<[u8]>::options().domain(domain).open("t").unwrap();
    match *way {
        "recv" => {
            let mut subscriber = open();
            say("ready");
            loop {
                say(subscriber.recv().unwrap()[0]);
            }
        }
        "set" => {
            let mut subscriber = open();
            let mut set = WaitSet::new();
            set.attach(&subscriber);
            say("ready");
            loop {
                assert_eq!(set.wait().unwrap().len(), 1);
                while let Some(sample) = subscriber.try_recv().unwrap() {
                    say(sample[0]);
                }
            }
        }
        "descriptor" => {
            let mut subscriber = open().into_pollable().unwrap();
            say("ready");
            loop {
                while let Some(sample) = subscriber.try_recv().unwrap() {
                    say(sample[0]);
                }
                let mut polled = [rustix::event::PollFd::new(&subscriber, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut polled, None).unwrap();
            }
        }
        "observer" => {
            let mut observer = Observer::open_in(domain, "t", Start::New).unwrap();
            assert!(observer.can_sleep());
            say("ready");
            loop {
                if let Some(observed) = observer.next_timeout(Duration::from_secs(3600)).unwrap() {
                    say(observed.data[0]);
                }
            }
        }
        "node" | "node with a thread each" => {
            let threads = if *way == "node" { Threads::One } else { Threads::Each };
            let mut node = Node::options().domain(domain).threads(threads).build("idle").unwrap();
            node.subscribe::<[u8]>("t", |message| say(message[0])).unwrap();
            node.every(Duration::from_secs(3600), |_| {}).unwrap();
            say("ready");
            node.run().unwrap();
        }
        other => panic!("no way {other}"),
    }
}

fn sleeps_without_waking(way: &str) {
    for kind in KINDS {
        let domain = Domain::new();
        let mut publisher = domain.publisher_of(kind, 64).open("t").unwrap();
        let mut waiter = Process::start("waiter", &[way, domain.name()]);
        waiter.expect("ready");
        // It has slept and woken before: nothing is left over from that.
        publisher.publish(&[7; 64]).unwrap();
        waiter.expect("7");
        let before = settled(waiter.id());
        std::thread::sleep(watch_time());
        assert_eq!(switches_of(waiter.id()).0, before, "{way} woke up for nothing, {kind:?}");
        // And it was the topic that it slept on.
        publisher.publish(&[9; 64]).unwrap();
        waiter.expect("9");
        assert!(settled(waiter.id()) > before, "the count counts");
        waiter.kill();
    }
}

#[test]
fn a_blocked_receive_does_not_wake() {
    sleeps_without_waking("recv");
}

#[test]
fn a_blocked_wait_set_does_not_wake() {
    sleeps_without_waking("set");
}

#[test]
fn a_subscriber_in_a_poll_loop_does_not_wake() {
    sleeps_without_waking("descriptor");
}

#[test]
fn an_observer_does_not_wake() {
    sleeps_without_waking("observer");
}

#[test]
fn a_node_does_not_wake() {
    sleeps_without_waking("node");
    sleeps_without_waking("node with a thread each");
}

/// Alone with its `/dev/shm`, where nobody else's topics come and go: a node whose topic is still to come, and does when it
/// is told to make it.
fn expectant(_: &[&str]) {
    // SAFETY: only integers and C strings are handed in.
    let mounted = unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) == 0
            && libc::mount(c"tmpfs".as_ptr(), c"/dev/shm".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) == 0
    };
    if !mounted {
        say(format_args!("skipped: {}", std::io::Error::last_os_error()));
        return;
    }
    std::thread::spawn(|| {
        let mut node = Node::new("expectant").unwrap();
        node.subscribe::<[u8]>("awaited", |message| say(message[0])).unwrap();
        node.every(Duration::from_secs(3600), |_| {}).unwrap();
        say("ready");
        node.run().unwrap();
    });
    while let Some(number) = hear() {
        let mut publisher = conduit::Publisher::<[u8]>::open("awaited").unwrap();
        publisher.publish(&[number.parse().unwrap()]).unwrap();
    }
}

#[test]
fn a_node_whose_topic_is_still_to_come_does_not_wake() {
    let mut process = Process::start("expectant", &[]);
    let line = process.line();
    if line.starts_with("skipped") {
        eprintln!("{line}: a private /dev/shm needs root");
        return;
    }
    let before = settled(process.id());
    std::thread::sleep(watch_time());
    assert_eq!(switches_of(process.id()).0, before, "woke up for nothing");
    assert_eq!(process.ask("9"), "9");
    assert!(settled(process.id()) > before, "the count counts");
    process.kill();
}

/// Calls back as often as it is told, between two marks that can be seen from outside.
fn ticker(args: &[&str]) {
    let count: u32 = args[0].parse().unwrap();
    let mut node = Node::options().domain(args[1]).build("ticker").unwrap();
    let stopper = node.stopper();
    let mut calls = 0;
    node.every(Duration::from_millis(1), move |_| {
        calls += 1;
        // What a first tick has to do is over by then.
        if calls == 10 {
            mark();
        }
        if calls == 10 + count {
            mark();
            stopper.stop();
        }
    })
    .unwrap();
    node.run().unwrap();
    say("done");
}

#[test]
fn a_tick_of_a_timer_costs_one_sleep_and_no_other_system_call() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        eprintln!("skipped: there is no strace");
        return;
    }
    let domain = Domain::new();
    let trace = format!("{}/trace-{}", env!("CARGO_TARGET_TMPDIR"), domain.name());
    let count = rounds(500);
    let strace = ["strace", "-f", "-o", &trace, "-e", "trace=all"];
    let command = Process::wrapped(&strace, "ticker", &[&count.to_string(), domain.name()]);
    let mut process = Process::spawn("ticker", command);
    process.expect("done");
    process.finish();
    let calls = calls_between_marks(&trace);
    let is_sleep = |call: &String| call.contains("futex_waitv(") || call.contains("FUTEX_WAIT");
    assert!(calls.iter().all(is_sleep), "{:?}", calls.iter().find(|call| !is_sleep(call)));
    // One that is late by less than a period does not sleep at all.
    assert!((1..=count as usize).contains(&calls.len()), "{} for {count}", calls.len());
    std::fs::remove_file(trace).unwrap();
}

/// Publishes as many messages as it is told between two marks that can be seen from outside, over and over.
fn publisher(args: &[&str]) {
    let [kind, domain] = args else { panic!("kind and domain") };
    let options = conduit::Publisher::<[u8]>::options().domain(domain).slots(kind_of(kind)).max_len(64);
    let mut publisher = options.open("t").unwrap();
    say("ready");
    while let Some(count) = hear() {
        let count: u32 = count.parse().unwrap();
        mark();
        for _ in 0..count {
            publisher.publish(&[1; 64]).unwrap();
        }
        mark();
        say("done");
    }
}

/// A system call that nothing else makes.
fn mark() {
    // SAFETY: takes nothing.
    unsafe { libc::sched_yield() };
}

/// The system calls between the two last marks in what strace wrote.
fn calls_between_marks(trace: &str) -> Vec<String> {
    let lines = std::fs::read_to_string(trace).unwrap();
    let mut calls: Vec<&str> = lines.lines().collect();
    let end = calls.iter().rposition(|call| call.contains("sched_yield")).expect("a second mark");
    calls.truncate(end);
    let start = calls.iter().rposition(|call| call.contains("sched_yield")).expect("a first mark");
    calls[start + 1..].iter().map(|call| call.to_string()).collect()
}

#[test]
fn publishing_makes_no_system_call_while_nobody_sleeps() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        eprintln!("skipped: there is no strace");
        return;
    }
    for kind in KINDS {
        let domain = Domain::new();
        let trace = format!("{}/trace-{}-{}", env!("CARGO_TARGET_TMPDIR"), domain.name(), kind_name(kind));
        let strace = ["strace", "-f", "-o", &trace, "-e", "trace=all"];
        let command = Process::wrapped(&strace, "publisher", &[kind_name(kind), domain.name()]);
        let mut publisher = Process::spawn("publisher", command);
        publisher.expect("ready");
        let count = rounds(10_000).to_string();

        assert_eq!(publisher.ask(&count), "done");
        assert_eq!(calls_between_marks(&trace), [""; 0], "without subscribers, {kind:?}");

        // Somebody listens, but does not sleep.
        let polling = domain.subscriber().open("t").unwrap();
        assert_eq!(publisher.ask(&count), "done");
        assert_eq!(calls_between_marks(&trace), [""; 0], "with a subscriber that polls, {kind:?}");

        // A sleeper costs one call, and so does one that was killed in its sleep: once.
        let mut waiter = Process::start("waiter", &["recv", domain.name()]);
        waiter.expect("ready");
        settled(waiter.id());
        waiter.kill();
        assert_eq!(publisher.ask(&count), "done");
        let calls = calls_between_marks(&trace);
        assert!(calls.len() == 1 && calls[0].contains("FUTEX_WAKE"), "after a sleeper was killed, {kind:?}: {calls:?}");
        assert_eq!(publisher.ask(&count), "done");
        assert_eq!(calls_between_marks(&trace), [""; 0], "and once is enough, {kind:?}");

        drop(polling);
        publisher.finish();
        std::fs::remove_file(trace).unwrap();
    }
}
