//! What processes do to each other short of `kill -9`: other PID namespaces, races for a topic, changes of shape,
//! processes that stop, never read, or keep what they got; a full `/dev/shm`; signals in the middle of a wait.
#![cfg(feature = "std")]

mod support;

use std::io::Error as IoError;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use conduit::topic::{self, Observer, Overflow, SlotKind, Start, WaitSet, WriterState};
use conduit::{Error, Publisher, Subscriber};
use support::{
    Domain, KINDS, LEN, Noise, PATIENCE, Process, Stream, block_on, eventually, hear, is_asleep, kind_name, message,
    number, options, overflow_of, publish, receive, rounds, run_role, say, thread_id,
};

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[
        ("talker", talker),
        ("listener", listener),
        ("racer", racer),
        ("shifter", shifter),
        ("holder", holder),
        ("little_memory", little_memory),
        ("interrupted", interrupted),
    ]);
}

/// Publishes a message for each line it hears, and says its number.
fn talker(args: &[&str]) {
    let mut publisher = options(args[0], args[1]).open("t").unwrap();
    say(format_args!("pid {} next {}", std::process::id(), publisher.next_sequence()));
    while hear().is_some() {
        say(publish(&mut publisher, 1));
    }
}

/// Says the number of each message.
fn listener(args: &[&str]) {
    let mut subscriber = Subscriber::<[u8]>::options().domain(args[0]).open("t").unwrap();
    say("ready");
    loop {
        let sample = subscriber.recv().unwrap();
        assert_eq!(sample.lagged(), 0);
        say(number(&sample).unwrap());
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// PID namespaces

const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Each process is number 1 of a namespace of its own, so their numbers say nothing about who is alive.
#[test]
fn processes_of_other_pid_namespaces_share_topics_and_their_deaths_are_seen() {
    match Command::new(UNSHARE[0]).args(&UNSHARE[1..]).arg("true").output() {
        Ok(output) if output.status.success() => {}
        other => {
            eprintln!("skipped: new PID namespaces are not permitted here: {other:?}");
            return;
        }
    }
    let apart = |role, args: &[&str]| Process::spawn(role, Process::wrapped(&UNSHARE, role, args));
    for kind in KINDS {
        let domain = Domain::new();
        let args = [domain.name(), kind_name(kind)];
        let mut talker = apart("talker", &args);
        talker.expect("pid 1 next 0");
        let mut listeners = [apart("listener", &args), apart("listener", &args), Process::start("listener", &args)];
        listeners.iter_mut().for_each(|listener| listener.expect("ready"));
        let mut own = domain.subscriber().open("t").unwrap();
        let mut sequence = 0;
        for _ in 0..rounds(50).max(3) {
            for _ in 0..3 {
                assert_eq!(talker.ask("publish"), sequence.to_string());
                listeners.iter_mut().for_each(|listener| listener.expect(&sequence.to_string()));
                assert_eq!(own.recv().unwrap().sequence(), sequence);
                sequence += 1;
            }
            // While it lives, nobody takes its topic, from whatever namespace: the number it is told means nothing here.
            let error = domain.publisher_of(kind, LEN).open("t").unwrap_err();
            assert!(matches!(error, Error::PublisherExists { pid: 1, .. }), "{error}");
            assert_eq!(topic::inspect(Some(domain.name()), "t").unwrap().subscribers.len(), 4);
            talker.kill();
            assert!(own.wait_publisher_gone(PATIENCE).unwrap());
            assert_eq!(own.publisher(), WriterState::Gone);
            // The next one has the same number as the one that died, and as those who live.
            talker = apart("talker", &args);
            talker.expect(&format!("pid 1 next {sequence}"));
        }
        listeners.into_iter().for_each(Process::kill);
        talker.kill();
        // What was killed is `unshare`, which takes the rest with it.
        let inspect = || topic::inspect(Some(domain.name()), "t").unwrap();
        eventually("the places of the dead are free", || inspect().subscribers.len() == 1);
        eventually("the topic is free", || inspect().writer == WriterState::Gone);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Races for a topic

/// Tries to become the publisher when told how.
fn racer(args: &[&str]) {
    let mut publisher = None;
    say("ready");
    while let Some(line) = hear() {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["open", kind, depth] => match options(args[0], kind).depth(depth.parse().unwrap()).open("t") {
                Ok(won) => say(format_args!("won {}", publisher.insert(won).next_sequence())),
                Err(Error::PublisherExists { .. }) => say("lost"),
                Err(error) => say(error),
            },
            ["publish"] => say(publish(publisher.as_mut().unwrap(), 1)),
            ["close"] => {
                publisher = None;
                say("closed");
            }
            _ => panic!("{line}"),
        }
    }
}

fn race(racers: usize, shape: fn(usize, u32) -> (&'static str, u32)) {
    let mut noise = Noise::seeded("race");
    let domain = Domain::new();
    let start = || {
        let mut racer = Process::start("racer", &[domain.name()]);
        racer.expect("ready");
        racer
    };
    let mut all: Vec<_> = (0..racers).map(|_| start()).collect();
    let mut witness = None;
    let mut stream = Stream::default();
    let mut published = 0;
    for round in 0..rounds(500) {
        for (at, racer) in all.iter_mut().enumerate() {
            let (kind, depth) = shape(at, round);
            racer.tell(&format!("open {kind} {depth}"));
        }
        let answers: Vec<_> = all.iter_mut().map(Process::line).collect();
        let won = format!("won {published}");
        assert_eq!(answers.iter().filter(|answer| **answer == won).count(), 1, "round {round}: {answers:?}");
        assert_eq!(answers.iter().filter(|answer| *answer == "lost").count(), racers - 1, "round {round}: {answers:?}");
        let winner = answers.iter().position(|answer| *answer == won).unwrap();
        let witness = witness.get_or_insert_with(|| domain.subscriber().open("t").unwrap());
        for _ in 0..=noise.below(3) {
            assert_eq!(all[winner].ask("publish"), published.to_string());
            published += 1;
            receive(witness, &mut stream);
        }
        assert_eq!((stream.expected, stream.lost), (Some(published), 0));
        if noise.below(4) == 0 {
            std::mem::replace(&mut all[winner], start()).kill();
        } else {
            assert_eq!(all[winner].ask("close"), "closed");
        }
        assert!(domain.files().len() <= 1, "{:?}", domain.files());
    }
    all.into_iter().for_each(Process::finish);
}

#[test]
fn of_two_publishers_that_race_for_a_topic_exactly_one_wins() {
    race(2, |_, _| ("frames", 16));
    race(2, |_, _| ("words", 16));
}

#[test]
fn of_eight_publishers_that_race_for_a_topic_exactly_one_wins() {
    race(8, |_, _| ("frames", 16));
}

#[test]
fn of_publishers_of_different_shapes_exactly_one_wins_and_the_sequence_goes_on() {
    race(2, |at, _| (if at == 0 { "frames" } else { "words" }, 16));
    race(8, |at, round| (if (at as u32 + round) % 2 == 0 { "frames" } else { "words" }, 16 + at as u32));
    // The old shape is nobody's, so whoever wins has to replace it.
    race(3, |_, round| ("frames", 16 + round));
}

/// Nobody has the topic yet: all of them try to create it.
#[test]
fn of_publishers_that_create_a_topic_at_once_exactly_one_wins() {
    let domain = Domain::new();
    for round in 0..rounds(500) {
        let barrier = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|at| {
                let barrier = barrier.clone();
                let options = domain.publisher_of(KINDS[at % 2], LEN).depth(8 << (at / 2));
                thread::spawn(move || {
                    barrier.wait();
                    options.open("t")
                })
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let mut winners = 0;
        for result in results {
            match result {
                Ok(publisher) => {
                    winners += 1;
                    publisher.remove().unwrap();
                }
                Err(Error::PublisherExists { .. }) => {}
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        assert_eq!(winners, 1, "round {round}");
    }
}

/// A publisher takes note of the sleepers, forgets them, and wakes them. If it dies before the last step, nobody is known
/// to sleep, and somebody does.
#[test]
fn a_wake_up_that_a_dead_publisher_still_owed_is_made_by_the_next() {
    use std::os::unix::fs::FileExt;

    for kind in KINDS {
        let domain = Domain::new();
        let mut process = Process::start("talker", &[domain.name(), kind_name(kind)]);
        process.line();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        let (sender, received) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            sender.send(thread_id()).unwrap();
            for _ in 0..2 {
                sender.send(subscriber.recv().unwrap().sequence()).unwrap();
            }
        });
        let tid = received.recv().unwrap();
        assert_eq!(process.ask("publish"), "0");
        assert_eq!(received.recv_timeout(PATIENCE), Ok(0));
        eventually("a sleeping subscriber", || is_asleep(tid));
        process.kill();
        // The wait page is the third; its second word says whether anybody may be asleep.
        let file = std::fs::OpenOptions::new().read(true).write(true).open(domain.file("t")).unwrap();
        let asleep = 2 * rustix::param::page_size() as u64 + 4;
        let mut word = [0; 4];
        eventually("a note of the sleeper", || {
            file.read_exact_at(&mut word, asleep).unwrap();
            u32::from_ne_bytes(word) == 1
        });
        file.write_all_at(&[0; 4], asleep).unwrap();
        let mut publisher = domain.publisher_of(kind, LEN).open("t").unwrap();
        assert_eq!(publish(&mut publisher, 1), 1);
        assert_eq!(received.recv_timeout(PATIENCE), Ok(1));
        thread.join().unwrap();
    }
}

/// Takes the topic over again and again, each time with another shape, and publishes a little.
fn shifter(args: &[&str]) {
    let mut noise = Noise::new(args[1].parse().unwrap());
    say("shifting");
    loop {
        let kind = kind_name(KINDS[noise.below(2) as usize]);
        // Sometimes the same shape as before.
        let mut publisher = options(args[0], kind).depth(8 + noise.below(3) as u32).open("t").unwrap();
        for _ in 0..noise.below(4) {
            publish(&mut publisher, 1);
        }
    }
}

#[test]
fn a_publisher_killed_while_it_changes_shape_leaves_a_topic_that_goes_on() {
    let mut noise = Noise::seeded("a_publisher_killed_while_it_changes_shape");
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).open("t").unwrap();
    let mut subscriber = domain.subscriber().open("t").unwrap();
    publish(&mut publisher, 1);
    drop(publisher);
    let mut stream = Stream::from(0);
    for _ in 0..rounds(500) {
        let mut shifter = Process::start("shifter", &[domain.name(), &noise.below(1 << 32).to_string()]);
        shifter.expect("shifting");
        let until = Instant::now() + Duration::from_micros(noise.below(4000));
        while Instant::now() < until {
            // There is always something to look at.
            topic::inspect(Some(domain.name()), "t").unwrap();
            if let Some(sample) = subscriber.try_recv().unwrap() {
                stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
            }
        }
        shifter.kill();
        // At most a file that has not taken the name yet is left beside the topic's, and it is not in the way.
        assert!(domain.files().len() <= 2, "{:?}", domain.files());
        let mut publisher = domain.publisher_of(KINDS[noise.below(2) as usize], LEN).depth(16).open("t").unwrap();
        let last = publish(&mut publisher, 1);
        while stream.expected != Some(last + 1) {
            receive(&mut subscriber, &mut stream);
        }
    }
    assert_eq!(stream.received + stream.lost, stream.expected.unwrap());
    // The last publisher may have taken a name over; then it has cleaned up, too.
    drop(domain.publisher_of(SlotKind::Frames, LEN).depth(99).open("t").unwrap());
    assert_eq!(domain.files().len(), 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Processes that stop, never read, or keep what they got

/// Takes as many messages as it is told, keeps them, and says when it has them.
fn holder(args: &[&str]) {
    let mut subscriber = Subscriber::<[u8]>::options().domain(args[0]).open("t").unwrap();
    let mut held = Vec::new();
    say("ready");
    while let Some(line) = hear() {
        match line.as_str() {
            "take" => {
                held.push(subscriber.recv().unwrap());
                say(held.last().unwrap().sequence());
            }
            "check" => {
                assert!(held.iter().all(|sample| number(sample) == Ok(sample.sequence())));
                say("whole");
            }
            "drain" => {
                held.clear();
                let mut lost = 0;
                let mut last = None;
                while subscriber.lag() > 0 {
                    while let Some(sample) = subscriber.try_recv().unwrap() {
                        assert_eq!(number(&sample), Ok(sample.sequence()));
                        lost += sample.lagged();
                        last = Some(sample.sequence());
                    }
                }
                say(format_args!("lost {lost} last {last:?}"));
            }
            _ => panic!("{line}"),
        }
    }
}

#[test]
fn a_stopped_subscriber_holds_nobody_up_where_messages_may_be_overwritten() {
    for kind in KINDS {
        let domain = Domain::new();
        let mut publisher = domain.publisher_of(kind, LEN).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        let mut stream = Stream::from(0);
        let mut holder = Process::start("holder", &[domain.name()]);
        holder.expect("ready");
        for expected in 0..2 {
            publish(&mut publisher, 1);
            assert_eq!(holder.ask("take"), expected.to_string());
        }
        holder.signal(libc::SIGSTOP);
        let count = u64::from(rounds(100_000));
        for _ in 0..count {
            publish(&mut publisher, 1);
            receive(&mut subscriber, &mut stream);
        }
        holder.signal(libc::SIGCONT);
        assert_eq!(holder.ask("check"), "whole");
        let answer = holder.ask("drain");
        let last = count + 1;
        let held = publisher.geometry().capacity;
        let lost: u64 = answer.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(answer.ends_with(&format!("last Some({last})")) && lost >= count - u64::from(held), "{answer}");
        // Killed while it is stopped and holds something, it costs no slot for long.
        publish(&mut publisher, 1);
        holder.ask("take");
        holder.signal(libc::SIGSTOP);
        holder.kill();
        let laps = |publisher: &mut Publisher<[u8]>| {
            for _ in 0..4 * u64::from(held) {
                publish(publisher, 1);
            }
            topic::inspect(Some(domain.name()), "t").unwrap().skips
        };
        let swept = laps(&mut publisher);
        assert_eq!(laps(&mut publisher), swept, "a dead subscriber's pins are still there");
    }
}

#[test]
fn a_blocking_publisher_waits_for_a_stopped_subscriber_and_not_for_a_killed_one() {
    for kind in KINDS {
        let domain = Domain::new();
        let mut publisher = domain.publisher_of(kind, LEN).overflow(Overflow::Block).open("t").unwrap();
        let mut quickest = Duration::MAX;
        for _ in 0..rounds(50).max(3) {
            let mut holder = Process::start("holder", &[domain.name()]);
            holder.expect("ready");
            let first = publish(&mut publisher, 1);
            assert_eq!(holder.ask("take"), first.to_string());
            holder.signal(libc::SIGSTOP);
            let mut timeout = Duration::ZERO;
            loop {
                let next = publisher.next_sequence();
                match publisher.publish_timeout(&message(LEN, next), timeout) {
                    Ok(_) => timeout = Duration::ZERO,
                    Err(Error::TimedOut { .. }) if timeout.is_zero() => timeout = Duration::from_millis(120),
                    Err(Error::TimedOut { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            // It goes on, and has lost nothing.
            holder.signal(libc::SIGCONT);
            let last = publisher.next_sequence() - 1;
            assert_eq!(holder.ask("drain"), format!("lost 0 last Some({last})"));
            for _ in 0..5 {
                publish(&mut publisher, 1);
            }
            holder.signal(libc::SIGSTOP);
            while publisher.publish_timeout(&message(LEN, publisher.next_sequence()), Duration::ZERO).is_ok() {}
            holder.kill();
            let start = Instant::now();
            publish(&mut publisher, 1);
            quickest = quickest.min(start.elapsed());
        }
        assert!(quickest < Duration::from_millis(250), "the dead were noticed after {quickest:?} at best");
    }
}

/// The same where the publisher does not wait itself: it is refused as long as the subscriber lives, and no longer.
#[test]
fn a_dead_subscriber_does_not_have_messages_refused() {
    for kind in KINDS {
        let domain = Domain::new();
        for overflow in [Overflow::Reject, Overflow::Block] {
            let mut publisher = domain.publisher_of(kind, LEN).overflow(overflow).open("t").unwrap();
            let mut try_publish = || {
                let message = message(LEN, publisher.next_sequence());
                match overflow {
                    Overflow::Reject => publisher.publish(&message),
                    // Shorter than the time between two looks at who lives.
                    _ => publisher.publish_timeout(&message, Duration::from_millis(1)),
                }
            };
            for dead in [1, 4] {
                let holders: Vec<_> = (0..dead)
                    .map(|_| {
                        let mut holder = Process::start("holder", &[domain.name()]);
                        holder.expect("ready");
                        holder
                    })
                    .collect();
                while try_publish().is_ok() {}
                holders.into_iter().for_each(Process::kill);
                eventually("the dead hold the publisher up", || try_publish().is_ok());
                for _ in 0..500 {
                    try_publish().unwrap();
                }
            }
            publisher.remove().unwrap();
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// A full /dev/shm

/// Has a `/dev/shm` of its own, of 1 MiB, and fills it in every way.
fn little_memory(_: &[&str]) {
    // SAFETY: only integers and C strings are handed in.
    let mounted = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
            && libc::mount(
                c"tmpfs".as_ptr(),
                c"/dev/shm".as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=1m,nr_inodes=12".as_ptr().cast(),
            ) == 0
    };
    if !mounted {
        say(format_args!("skipped: {}", IoError::last_os_error()));
        return;
    }
    let bytes = || Publisher::<[u8]>::options();
    let full = |result: Result<Publisher<[u8]>, Error>| {
        let error = result.expect_err("there is no room for it");
        assert!(matches!(error, Error::NoRoom { bytes: 1.., .. }), "{error}");
    };
    let files = || std::fs::read_dir("/dev/shm").unwrap().count();
    full(bytes().max_len(1 << 20).open("large"));
    assert_eq!(files(), 0, "what did not fit is gone");
    // What fits does, and goes on when everything else is full.
    let mut publisher = bytes().max_len(1000).open("small").unwrap();
    let mut subscriber = Subscriber::<[u8]>::options().open("small").unwrap();
    std::fs::write("/dev/shm/filler", vec![1; 1 << 20]).unwrap_err();
    full(bytes().open("another"));
    full(bytes().slots(SlotKind::Words).max_len(8).depth(1).subscribers(1).open("tiny"));
    let mut stream = Stream::from(0);
    for sequence in 0..1000 {
        publisher.publish(&message(1000, sequence)).unwrap();
        let sample = subscriber.recv().unwrap();
        stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
    }
    let mut late = Subscriber::<[u8]>::options().start(Start::Oldest).open("small").unwrap();
    assert!(late.recv().is_ok());
    // A larger shape does not fit beside the old one, which stays as it was.
    drop(publisher);
    full(bytes().max_len(2000).open("small"));
    let mut publisher = bytes().max_len(1000).open("small").unwrap();
    assert_eq!(publisher.next_sequence(), 1000);
    publisher.publish(&message(1000, 1000)).unwrap();
    assert_eq!(subscriber.recv().unwrap().sequence(), 1000);
    // Without room for a name.
    std::fs::remove_file("/dev/shm/filler").unwrap();
    let mut names = 0;
    while std::fs::write(format!("/dev/shm/name{names}"), []).is_ok() {
        names += 1;
    }
    assert!(names > 0);
    let tiny = || bytes().slots(SlotKind::Words).max_len(8).depth(1).subscribers(1);
    full(tiny().open("tiny"));
    (0..names).for_each(|name| std::fs::remove_file(format!("/dev/shm/name{name}")).unwrap());
    drop(tiny().open("tiny").unwrap());
    say("survived");
}

#[test]
fn a_full_dev_shm_is_an_error_of_open_and_never_a_signal_later() {
    let mut process = Process::start("little_memory", &[]);
    let answer = process.line();
    if answer.starts_with("skipped") {
        eprintln!("{answer}: a private /dev/shm needs root");
        return;
    }
    assert_eq!(answer, "survived");
    process.finish();
}

// ---------------------------------------------------------------------------------------------------------------------
// Signals

static INTERRUPTS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_interrupt(_: i32) {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
}

/// Waits in one of several ways, with a handler for SIGUSR1.
fn interrupted(args: &[&str]) {
    let [way, flags, kind, domain] = args else { panic!("way, flags, kind, domain") };
    // SAFETY: the handler only counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_interrupt as *const () as usize;
        action.sa_flags = if *flags == "restart" { libc::SA_RESTART } else { 0 };
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let mut publisher = options(domain, kind).overflow(overflow_of("block")).open("back").unwrap();
    let options = Subscriber::<[u8]>::options().domain(domain);
    let mut subscriber = options.clone().open("t").unwrap();
    say(thread_id());
    assert_eq!(hear().as_deref(), Some("go"));
    let sequence = match *way {
        "recv" => subscriber.recv().unwrap().sequence(),
        "timeout" => {
            // However often it is interrupted, it is neither too early nor for ever.
            let timeout = Duration::from_millis(300);
            let start = Instant::now();
            assert!(subscriber.recv_timeout(timeout).unwrap().is_none());
            assert!(start.elapsed() >= timeout);
            0
        }
        "set" => {
            let mut set = WaitSet::new();
            set.attach(&subscriber);
            assert_eq!(set.wait().unwrap().len(), 1);
            subscriber.recv().unwrap().sequence()
        }
        "async" => block_on(subscriber.into_async().recv()).unwrap().sequence(),
        "observer" => {
            let mut observer = Observer::open_in(domain, "t", Start::New).unwrap();
            observer.next_timeout(PATIENCE).unwrap().unwrap().sequence
        }
        "open" => options.wait_forever().open("later").unwrap().recv().unwrap().sequence(),
        "gone" => {
            assert!(subscriber.wait_publisher_gone(PATIENCE).unwrap());
            0
        }
        "publish" => loop {
            // Until somebody holds it up and lets it go on.
            let sequence = publish(&mut publisher, 1);
            if sequence == 500 {
                break 0;
            }
        },
        other => panic!("no way {other}"),
    };
    say(format_args!("{sequence} {}", INTERRUPTS.load(Ordering::Relaxed)));
}

#[test]
fn a_signal_in_the_middle_of_a_wait_changes_nothing() {
    for way in ["recv", "timeout", "set", "async", "observer", "open", "gone", "publish"] {
        for flags in ["restart", "no-restart"] {
            let kind = if flags == "restart" { SlotKind::Words } else { SlotKind::Frames };
            let domain = Domain::new();
            let mut publisher = domain.publisher_of(kind, LEN).open("t").unwrap();
            let mut process = Process::start("interrupted", &[way, flags, kind_name(kind), domain.name()]);
            let thread: i32 = process.line().parse().unwrap();
            let mut slow = (way == "publish").then(|| domain.subscriber().open("back").unwrap());
            process.tell("go");
            let signals = rounds(500).max(20);
            for _ in 0..signals {
                // SAFETY: no memory involved.
                let sent = unsafe { libc::syscall(libc::SYS_tgkill, process.id(), thread, libc::SIGUSR1) };
                assert_eq!(sent, 0, "{way}: it ended before its time");
                thread::sleep(Duration::from_micros(300));
                assert_eq!(process.line_now(), None, "{way}, {flags}: a signal ended the wait");
                if way == "timeout" && !is_waiting(process.id(), thread) {
                    break;
                }
            }
            match way {
                "open" => {
                    let mut later = domain.publisher_of(kind, LEN).open("later").unwrap();
                    eventually("the subscriber opens", || {
                        !topic::inspect(Some(domain.name()), "later").unwrap().subscribers.is_empty()
                    });
                    publish(&mut later, 1);
                    finish_interrupted(&mut process, way);
                }
                "gone" => drop(publisher),
                "publish" => {
                    let slow = slow.as_mut().unwrap();
                    let mut stream = Stream::default();
                    while stream.expected != Some(501) {
                        receive(slow, &mut stream);
                    }
                    assert_eq!(stream.lost, 0);
                }
                "timeout" => {}
                _ => drop(publish(&mut publisher, 1)),
            }
            if way != "open" {
                finish_interrupted(&mut process, way);
            }
        }
    }
}

fn is_waiting(process: u32, thread: i32) -> bool {
    std::path::Path::new(&format!("/proc/{process}/task/{thread}")).exists()
}

fn finish_interrupted(process: &mut Process, way: &str) {
    let answer = process.line();
    let (sequence, interrupts) = answer.split_once(' ').unwrap();
    assert_eq!(sequence, "0", "{way}");
    assert!(interrupts.parse::<u64>().unwrap() > 0, "{way}: the handler never ran");
}
