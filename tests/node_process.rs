//! Nodes as processes: signals, death, forks, rights, and files that are no node's.
#![cfg(feature = "std")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use conduit::Error;
use conduit::node::{self, Node, Priority, Threads};
use support::{Domain, Noise, Process, eventually, hear, rounds, run_role, say};

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[
        ("runner", runner),
        ("stuck", stuck),
        ("forker", forker),
        ("handler", handler),
        ("ignorer", ignorer),
        ("two_nodes", two_nodes),
        ("urgent", urgent),
    ]);
}

/// A node that says what it receives, and when it has ended.
fn runner(args: &[&str]) {
    let [domain, threads] = args else { panic!("domain and threads") };
    let threads = if *threads == "each" { Threads::Each } else { Threads::One };
    let mut node = Node::options().domain(domain).threads(threads).build("runner").unwrap();
    let mut own = node.advertise::<[u8]>("own").unwrap();
    node.subscribe::<[u8]>("t", move |message| {
        own.publish(&message).unwrap();
        say(format_args!("got {}", message[0]));
    })
    .unwrap();
    node.subscribe::<[u8]>("awaited", |_| {}).unwrap();
    node.every(Duration::from_secs(3600), |_| {}).unwrap();
    let mut started = false;
    node.every(Duration::from_millis(1), move |_| {
        if !std::mem::replace(&mut started, true) {
            say("runs");
        }
    })
    .unwrap();
    let report = node.run().unwrap();
    say(format_args!("ended by {:?} after {}", report.signal, report.subscriptions[0].messages));
    while hear().is_some() {}
}

#[test]
fn a_node_ends_in_an_orderly_way_by_sigint_and_by_sigterm_and_gives_the_signals_back() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        for threads in ["one", "each"] {
            let domain = Domain::new();
            let mut publisher = domain.bytes().open("t").unwrap();
            let mut process = Process::start("runner", &[domain.name(), threads]);
            process.expect("runs");
            publisher.publish(&[7]).unwrap();
            process.expect("got 7");
            process.signal(signal);
            process.expect(&format!("ended by Some({signal}) after 1"));
            let own = conduit::topic::inspect(Some(domain.name()), "own").unwrap();
            assert_eq!(own.writer, conduit::topic::WriterState::Closed);
            assert_eq!(node::list(Some(domain.name())).unwrap(), []);
            // The process goes on, and the signal does what it did before.
            process.signal(signal);
            assert_eq!(process.end().signal(), Some(signal));
        }
    }
}

/// A node whose callback does not end.
fn stuck(args: &[&str]) {
    let mut node = Node::options().domain(args[0]).build("stuck").unwrap();
    node.every(Duration::from_millis(1), |_| {
        say("stuck");
        loop {
            std::thread::park();
        }
    })
    .unwrap();
    node.run().unwrap();
    say("ended");
}

#[test]
fn a_second_signal_ends_a_process_whose_node_does_not_end() {
    for second in [libc::SIGINT, libc::SIGTERM] {
        let domain = Domain::new();
        let mut process = Process::start("stuck", &[domain.name()]);
        process.expect("stuck");
        process.signal(libc::SIGINT);
        // The first has come to its handler, as none is pending any more.
        eventually("the signal is handled", || !is_pending(process.id(), libc::SIGINT));
        process.signal(second);
        assert_eq!(process.end().signal(), Some(second));
        assert_eq!(process.line_now(), None);
        assert_eq!(node::clean(Some(domain.name()), false).unwrap().len(), 1);
    }
}

/// Whether a signal waits for a process or its first thread.
fn is_pending(pid: u32, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    masks.into_iter().any(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1)
}

/// A callback that forks. The child sleeps until a signal; its node is the parent's.
fn forker(args: &[&str]) {
    let mut node = Node::options().domain(args[0]).build("forker").unwrap();
    let mut is_forked = false;
    node.every(Duration::from_millis(1), move |_| {
        if std::mem::replace(&mut is_forked, true) {
            return;
        }
        // SAFETY: the child makes system calls only, and ends without returning.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: takes nothing. In the end the child goes, too, whatever happens.
                unsafe {
                    libc::alarm(120);
                    libc::pause();
                }
            },
            pid => say(pid),
        }
    })
    .unwrap();
    let report = node.run().unwrap();
    say(format_args!("ended by {:?}", report.signal));
}

#[test]
fn a_signal_ends_a_forked_child_and_not_its_parents_node() {
    let domain = Domain::new();
    let mut process = Process::start("forker", &[domain.name()]);
    let child: i32 = process.line().parse().unwrap();
    // SAFETY: takes integers only.
    assert_eq!(unsafe { libc::kill(child, libc::SIGINT) }, 0);
    // A zombie, as its parent does not wait for it.
    eventually("the child is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.is_empty() || stat.rsplit(')').next().unwrap().trim_start().starts_with('Z')
    });
    assert!(node::inspect(Some(domain.name()), "forker").unwrap().alive);
    process.signal(libc::SIGTERM);
    process.expect("ended by Some(15)");
    process.finish();
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Has the signal do `what` from now on.
fn set_action(signal: i32, what: libc::sighandler_t) {
    // SAFETY: the handler only counts.
    assert_ne!(unsafe { libc::signal(signal, what) }, libc::SIG_ERR);
}

fn raise(signal: i32) {
    // SAFETY: takes an integer.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// Has a handler of its own before and after the node runs, and puts another in place while a second one runs.
fn handler(args: &[&str]) {
    let counter = count as extern "C" fn(i32) as libc::sighandler_t;
    set_action(libc::SIGINT, counter);
    let run = |in_callback: fn()| {
        let mut node = Node::options().domain(args[0]).build("n").unwrap();
        let stopper = node.stopper();
        node.every(Duration::from_millis(1), move |_| {
            in_callback();
            stopper.stop();
        })
        .unwrap();
        node.run().unwrap().signal
    };
    let handled = || HANDLED.load(Ordering::Relaxed);
    // Raised in the node's thread, it is the node's.
    assert_eq!((run(|| raise(libc::SIGINT)), handled()), (Some(libc::SIGINT), 0));
    raise(libc::SIGINT);
    assert_eq!(handled(), 1);
    // What the application does meanwhile is not undone.
    set_action(libc::SIGTERM, libc::SIG_DFL);
    let replace = || set_action(libc::SIGTERM, count as extern "C" fn(i32) as libc::sighandler_t);
    assert_eq!(run(replace), None);
    raise(libc::SIGTERM);
    assert_eq!(handled(), 2);
    say("done");
}

#[test]
fn a_handler_of_the_applications_is_there_again_after_the_node() {
    let domain = Domain::new();
    let mut process = Process::start("handler", &[domain.name()]);
    process.expect("done");
    process.finish();
}

fn ignorer(args: &[&str]) {
    set_action(libc::SIGINT, libc::SIG_IGN);
    runner(&[args[0], "one"]);
}

#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let domain = Domain::new();
    let mut publisher = domain.bytes().open("t").unwrap();
    let mut process = Process::start("ignorer", &[domain.name()]);
    process.expect("runs");
    process.signal(libc::SIGINT);
    publisher.publish(&[1]).unwrap();
    process.expect("got 1");
    process.signal(libc::SIGTERM);
    process.expect("ended by Some(15) after 1");
    process.finish();
}

/// Two nodes of one process: the second has to do without the signals.
fn two_nodes(args: &[&str]) {
    let make = |name: &str, signals| {
        let mut node = Node::options().domain(args[0]).signals(signals).build(name).unwrap();
        let name = name.to_string();
        let mut started = false;
        node.every(Duration::from_millis(1), move |_| {
            if !std::mem::replace(&mut started, true) {
                say(format_args!("{name} runs"));
            }
        })
        .unwrap();
        node
    };
    std::thread::scope(|scope| {
        let first = make("first", true);
        let first = scope.spawn(move || first.run().unwrap());
        assert_eq!(hear().as_deref(), Some("next"));
        let error = make("greedy", true).run().unwrap_err();
        assert!(matches!(&error, Error::SignalsTaken { node } if node == "greedy"), "{error}");
        let second = make("second", false);
        let stopper = second.stopper();
        let second = scope.spawn(move || second.run().unwrap());
        assert_eq!(first.join().unwrap().signal, Some(libc::SIGINT));
        say("first ended");
        assert!(!second.is_finished());
        stopper.stop();
        assert_eq!(second.join().unwrap().signal, None);
        // Now they are to be had again.
        let last = make("last", true);
        last.stopper().stop();
        last.run().unwrap();
        say("done");
    });
}

#[test]
fn one_node_of_a_process_has_the_signals_and_others_are_told_so() {
    let domain = Domain::new();
    let mut process = Process::start("two_nodes", &[domain.name()]);
    process.expect("first runs");
    process.tell("next");
    process.expect("second runs");
    process.signal(libc::SIGINT);
    process.expect("first ended");
    process.expect("done");
    process.finish();
}

#[test]
fn a_node_that_was_killed_is_seen_as_dead_and_makes_way_for_the_next() {
    let domain = Domain::new();
    let mut publisher = domain.bytes().open("t").unwrap();
    for round in 0..3 {
        let mut process = Process::start("runner", &[domain.name(), "one"]);
        process.expect("runs");
        publisher.publish(&[round]).unwrap();
        process.expect(&format!("got {round}"));
        let info = node::inspect(Some(domain.name()), "runner").unwrap();
        assert_eq!((info.alive, info.pid, info.threads), (true, process.id(), Threads::One));
        assert_eq!(info.publications, ["own"]);
        assert_eq!((info.subscriptions[0].messages, info.timers.len()), (1, 2));
        let thread = info.subscriptions[0].thread;
        let comm = std::fs::read_to_string(format!("/proc/{}/task/{thread}/comm", info.pid)).unwrap();
        assert_eq!(comm, "runner\n");
        assert!(node::clean(Some(domain.name()), false).unwrap().is_empty(), "it lives");
        process.kill();
        let info = node::inspect(Some(domain.name()), "runner").unwrap();
        assert_eq!((info.alive, info.uptime, info.subscriptions[0].messages), (false, None, 1));
    }
    let would = node::clean(Some(domain.name()), true).unwrap();
    assert_eq!((would.len(), would[0].node.as_str(), would[0].bytes), (1, "runner", 4096));
    assert_eq!(node::clean(Some(domain.name()), false).unwrap(), would);
    assert_eq!(node::list(Some(domain.name())).unwrap(), []);
    let error = node::inspect(Some(domain.name()), "runner").unwrap_err();
    assert!(matches!(error, Error::NodeNotFound { .. }), "{error}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Rights

/// Asks for more than everybody may.
fn urgent(args: &[&str]) {
    let mut node = Node::options().domain(args[0]).priority(Priority::Fifo(10)).build("n").unwrap();
    let stopper = node.stopper();
    node.every(Duration::from_millis(1), move |_| {
        // SAFETY: takes an integer.
        let policy = unsafe { libc::sched_getscheduler(0) };
        say(format_args!("called with {policy:x}"));
        stopper.stop();
    })
    .unwrap();
    match node.run() {
        Ok(_) => say("ended"),
        Err(error) => say(error),
    }
}

#[test]
fn a_priority_without_the_right_to_it_is_an_error_that_says_what_to_do() {
    let domain = Domain::new();
    let wrapper = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", "prlimit", "--rtprio=0"];
    if !Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no setpriv, or no right to give a right up");
        return;
    }
    let command = Process::wrapped(&wrapper, "urgent", &[domain.name()]);
    let mut process = Process::spawn("urgent", command);
    let error = process.line();
    assert!(error.contains("SCHED_FIFO 10") && error.contains("thread n") && error.contains("setcap"), "{error}");
    process.finish();
}

/// Where the right is there, so is the priority.
#[test]
fn a_priority_is_the_threads() {
    let domain = Domain::new();
    let mut process = Process::start("urgent", &[domain.name()]);
    let line = process.line();
    if line.contains("setcap") {
        eprintln!("skipped: no right to SCHED_FIFO");
        return;
    }
    assert_eq!(line, format!("called with {:x}", libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK));
    process.expect("ended");
    process.finish();
}

// ---------------------------------------------------------------------------------------------------------------------
// Files that are no node's

/// The file of node `n`, as it was while the node ran.
fn specimen(domain: &Domain) -> (String, Vec<u8>) {
    let path = format!("/dev/shm/conduit-node_{}@n", domain.name());
    let mut node = Node::options().domain(domain.name()).signals(false).build("n").unwrap();
    node.subscribe::<[u8]>("t", |_| {}).unwrap();
    let (stopper, file) = (node.stopper(), path.clone());
    let (send, bytes) = std::sync::mpsc::channel();
    node.every(Duration::from_millis(1), move |_| {
        send.send(std::fs::read(&file).unwrap()).unwrap();
        stopper.stop();
    })
    .unwrap();
    node.run().unwrap();
    (path, bytes.recv().unwrap())
}

fn inspect(domain: &Domain) -> Result<node::NodeInfo, Error> {
    assert_eq!(node::list(Some(domain.name())).unwrap(), [(domain.name().to_string(), "n".to_string())]);
    node::inspect(Some(domain.name()), "n")
}

#[test]
fn whatever_bytes_a_nodes_file_has_it_is_read_or_refused_and_can_be_cleaned_and_replaced() {
    let domain = Domain::new();
    let (path, whole) = specimen(&domain);
    let plant = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
    plant(&whole);
    assert_eq!(inspect(&domain).unwrap().subscriptions[0].topic, "t", "the whole file is a node's");
    for len in [0, 1, 8, 100, 295, 296, 320, 959, 960, 4095] {
        plant(&whole[..len]);
        let error = inspect(&domain).unwrap_err();
        assert!(matches!(error, Error::CorruptNode { .. }), "{len}: {error}");
    }
    let mut noise = Noise::seeded("hostile bytes");
    let mut refused = 0;
    let count = rounds(20_000);
    for _ in 0..count {
        let mut bytes = whole.clone();
        for _ in 0..=noise.below(3) {
            let at = noise.below(1000) as usize;
            bytes[at] = noise.below(256) as u8;
        }
        plant(&bytes);
        match inspect(&domain) {
            Ok(_) => {}
            Err(Error::CorruptNode { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > count / 10 && refused < count, "{refused}");
    // Another node's file, and one that is too long to be looked at.
    let copy = format!("/dev/shm/conduit-node_{}@m", domain.name());
    std::fs::rename(&path, &copy).unwrap();
    std::fs::write(&copy, &whole).unwrap();
    let error = node::inspect(Some(domain.name()), "m").unwrap_err();
    assert!(error.to_string().contains("it is node n"), "{error}");
    std::fs::OpenOptions::new().write(true).open(&copy).unwrap().set_len(1 << 40).unwrap();
    let error = node::inspect(Some(domain.name()), "m").unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
    assert_eq!(node::clean(Some(domain.name()), false).unwrap().len(), 1);
    plant(b"garbage");
    specimen(&domain);
    assert_eq!(domain.files(), [""; 0], "a node made way for itself, and is gone");
}

#[test]
fn what_is_no_regular_file_is_not_followed() {
    let domain = Domain::new();
    let (path, whole) = specimen(&domain);
    let target = format!("{}/{}", env!("CARGO_TARGET_TMPDIR"), domain.name());
    std::fs::write(&target, &whole).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(matches!(inspect(&domain), Err(Error::CorruptNode { .. })));
    let removed = node::clean(Some(domain.name()), false).unwrap();
    assert!(removed[0].error.as_ref().is_some_and(|error| error.contains("no regular file")), "{removed:?}");
    assert_eq!(std::fs::read(&target).unwrap(), whole);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&target).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(inspect(&domain), Err(Error::CorruptNode { .. } | Error::System { .. })));
    std::fs::remove_dir(&path).unwrap();
}

/// Several want the same name at the same time, which a dead one left or garbage has: one gets it, and the others are told.
#[test]
fn of_nodes_that_want_the_same_name_one_has_it() {
    const RACERS: u64 = 4;
    for round in 0..rounds(300) {
        let domain = Domain::new();
        let (path, whole) = specimen(&domain);
        if round % 2 == 0 {
            std::fs::write(&path, &whole).unwrap();
        }
        let (refused, start) = (AtomicU64::new(0), Barrier::new(RACERS as usize));
        let won: u32 = std::thread::scope(|scope| {
            let race = || {
                let mut node = Node::options().domain(domain.name()).signals(false).build("n").unwrap();
                let (stopper, refused) = (node.stopper(), &refused);
                node.every(Duration::from_micros(100), move |_| {
                    if refused.load(Ordering::Relaxed) == RACERS - 1 {
                        stopper.stop();
                    }
                })
                .unwrap();
                start.wait();
                match node.run() {
                    Ok(_) => 1,
                    Err(Error::NodeExists { .. }) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        0
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!((won, domain.files().len()), (1, 0));
    }
}
