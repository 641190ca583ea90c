//! Who may open what, how, and what happens to a topic when its publishers come, go and change their minds.
#![cfg(feature = "std")]

mod support;

use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use conduit::topic::{self, Imu, Overflow, PublisherOptions, Schema, SlotKind, Start, Timestamps, WriterState};
use conduit::{Error, Publisher, Subscriber};
use support::{
    Domain, KINDS, PATIENCE, Process, Stream, eventually, fill, hear, in_time, is_asleep, message, run_role, say,
    thread_id,
};

const LEN: usize = 64;

conduit::message! {
    /// Same size as the next, another name.
    pub struct Left: "test_msgs/msg/Left" {
        pub value: f64,
    }
    /// Same size as the one before, another name.
    pub struct Right: "test_msgs/msg/Right" {
        pub value: f64,
    }
}

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[
        ("hold", hold),
        ("as_user", as_user),
        ("wait_for_it", wait_for_it),
        ("wait_for_its_end", wait_for_its_end),
        ("open_in_default_domain", open_in_default_domain),
    ]);
}

fn publish(publisher: &mut Publisher<[u8]>, count: u64) {
    for _ in 0..count {
        let sequence = publisher.next_sequence();
        assert_eq!(publisher.publish(&message(LEN, sequence)).unwrap(), sequence);
    }
}

fn next(subscriber: &mut Subscriber<[u8]>, stream: &mut Stream) {
    let sample = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message");
    stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
}

// ---------------------------------------------------------------------------------------------------------------------
// Options

#[test]
fn the_defaults_are_what_the_documentation_says() {
    let domain = Domain::new();
    let bytes = domain.bytes().open("bytes").unwrap();
    let geometry = *bytes.geometry();
    assert_eq!((geometry.slots, geometry.overflow), (SlotKind::Frames, Overflow::Overwrite));
    assert_eq!((geometry.timestamps, geometry.depth, geometry.max_len), (Timestamps::None, 16, 4096));
    assert_eq!((geometry.subscribers, geometry.samples, geometry.capacity), (16, 32, 64));
    assert!(bytes.schema().is_opaque());
    let typed = domain.publisher::<Left>().open("typed").unwrap();
    let geometry = *typed.geometry();
    assert_eq!((geometry.slots, geometry.timestamps, geometry.max_len), (SlotKind::Words, Timestamps::Clock, 8));
    assert_eq!((geometry.samples, geometry.capacity), (0, 32), "copies need no slots");
    assert_eq!(typed.schema().name, "test_msgs/msg/Left");
    let imu = domain.publisher::<Imu>().open("imu").unwrap();
    assert_eq!((imu.geometry().slots, imu.geometry().max_len), (SlotKind::Frames, size_of::<Imu>() as u64));
    for topic in ["bytes", "typed", "imu"] {
        let file = std::fs::metadata(domain.file(topic)).unwrap();
        assert_eq!(file.permissions().mode() & 0o7777, 0o600);
        assert!(file.blocks() * 512 >= file.len(), "memory is set aside when a topic is created");
    }
}

#[test]
fn options_that_cannot_work_are_refused_with_the_option_named() {
    let domain = Domain::new();
    type Change = fn(PublisherOptions<[u8]>) -> PublisherOptions<[u8]>;
    let wrong: [(&str, Change); 12] = [
        ("depth", |o| o.depth(0)),
        ("depth", |o| o.depth(u32::MAX)),
        ("depth", |o| o.depth(1 << 28)),
        ("depth", |o| o.max_len(1 << 45)),
        ("depth", |o| o.max_len(usize::MAX)),
        ("max_len", |o| o.max_len(0)),
        ("slots", |o| o.slots(SlotKind::Words).max_len(257)),
        ("subscribers", |o| o.subscribers(0)),
        ("subscribers", |o| o.subscribers(65)),
        ("samples", |o| o.samples(0)),
        ("permissions", |o| o.permissions(0o755)),
        ("schema", |o| o.schema(Schema { data: vec![0; (1 << 20) + 1], ..Schema::opaque() })),
    ];
    for (at, (option, change)) in wrong.into_iter().enumerate() {
        match change(domain.bytes()).open("t") {
            Err(Error::InvalidOption { option: named, reason }) => {
                assert_eq!(named, option, "case {at}: {reason}");
                assert!(!reason.is_empty());
            }
            other => panic!("case {at}, {option}: {other:?}"),
        }
    }
    assert!(matches!(domain.bytes().samples(u32::MAX).open("t"), Err(Error::InvalidOption { .. })));
    let none = domain.subscriber().samples(0).open("t").unwrap_err();
    assert!(matches!(none, Error::InvalidOption { option: "samples", .. }), "{none}");
    assert_eq!(domain.files(), [""; 0], "nothing was created");
}

#[test]
fn the_largest_schema_and_the_longest_names_are_kept() {
    let domain = Domain::new();
    let schema = Schema {
        message_encoding: "m".repeat(32),
        schema_encoding: "s".repeat(32),
        name: "n".repeat(128),
        data: (0..1 << 20).map(|at| at as u8).collect(),
    };
    let long = format!("{}/{}", "a".repeat(99), "b".repeat(100));
    let _publisher = domain.bytes().schema(schema.clone()).open(&long).unwrap();
    assert_eq!(*domain.subscriber().open(&long).unwrap().schema(), schema);
    assert_eq!(topic::inspect(Some(domain.name()), &long).unwrap().schema, schema);
    assert_eq!(topic::list(Some(domain.name())).unwrap(), [(domain.name().into(), long)]);
}

#[test]
fn a_name_too_long_for_a_file_says_so() {
    let domain = Domain::new();
    let slashes = ["a"; 100].join("/");
    assert_eq!(slashes.len(), 199);
    let error = domain.bytes().open(&slashes).unwrap_err();
    assert!(matches!(error, Error::InvalidTopic { .. }), "{error}");
    assert!(error.to_string().contains('/'), "{error}");
}

#[test]
fn the_domain_comes_from_the_environment_unless_it_is_given() {
    let domain = Domain::new();
    let mut command = Process::command("hold", &["", "env/topic"]);
    command.env("CONDUIT_DOMAIN", domain.name());
    let mut process = Process::spawn("hold", command);
    process.expect("open");
    assert_eq!(topic::list(Some(domain.name())).unwrap(), [(domain.name().into(), "env/topic".into())]);
    domain.subscriber().open("env/topic").unwrap();
    process.finish();
}

/// It is no reason to use the default domain, where nobody would look.
#[test]
fn a_domain_from_the_environment_that_is_no_text_is_refused() {
    let mut command = Process::command("open_in_default_domain", &[]);
    command.env("CONDUIT_DOMAIN", std::ffi::OsStr::from_bytes(b"robot\xff"));
    let mut process = Process::spawn("open_in_default_domain", command);
    for _ in 0..4 {
        process.expect("robot\u{fffd}");
    }
    process.finish();
}

/// Opens a topic in every way, and says which domain was refused.
fn open_in_default_domain(_: &[&str]) {
    let errors = [
        Publisher::<[u8]>::open("t").map(drop),
        Subscriber::<[u8]>::open("t").map(drop),
        topic::Observer::open("t", Start::New).map(drop),
        topic::inspect(None, "t").map(drop),
    ];
    for result in errors {
        match result {
            Err(Error::InvalidDomain { domain, .. }) => say(domain),
            other => say(format!("{other:?}")),
        }
    }
}

#[test]
fn memory_may_be_locked() {
    let domain = Domain::new();
    let locked = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = locked();
    let publisher = domain.bytes().memory_lock(true).open("t").unwrap();
    assert!(locked() > before);
    drop(publisher);
}

// ---------------------------------------------------------------------------------------------------------------------
// Places

#[test]
fn there_is_room_for_64_subscribers_and_the_65th_is_told_so() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).subscribers(64).open("t").unwrap();
        let mut subscribers: Vec<_> = (0..64).map(|_| domain.subscriber().open("t").unwrap()).collect();
        let error = domain.subscriber().open("t").unwrap_err();
        assert!(matches!(error, Error::TooManySubscribers { limit: 64, .. }), "{error}");
        assert!(error.to_string().contains("64") && error.to_string().contains('t'), "{error}");
        publish(&mut publisher, 3);
        for subscriber in &mut subscribers {
            let mut stream = Stream::from(0);
            (0..3).for_each(|_| next(subscriber, &mut stream));
        }
        let info = topic::inspect(Some(domain.name()), "t").unwrap();
        assert_eq!(info.subscribers.len(), 64);
        assert!(info.subscribers.iter().all(|s| s.pid == std::process::id() && s.lost == 0 && s.lag == 0));
        // An observer needs no place, and a place that is given back is there at once.
        topic::Observer::open_in(domain.name(), "t", Start::New).unwrap();
        for at in [0, 31, 62] {
            subscribers.remove(at);
            subscribers.push(domain.subscriber().open("t").unwrap());
        }
        assert!(domain.subscriber().open("t").is_err());
        drop(subscribers);
        publisher.remove().unwrap();
    }
}

#[test]
fn more_samples_than_there_are_slots_for_cannot_be_declared() {
    let domain = Domain::new();
    let _publisher = domain.bytes().subscribers(4).samples(2).open("t").unwrap();
    let five = domain.subscriber().samples(5).open("t").unwrap();
    let error = domain.subscriber().samples(4).open("t").unwrap_err();
    assert!(matches!(error, Error::TooManySamplesDeclared { wanted: 4, left: 3, .. }), "{error}");
    assert!(error.to_string().contains("samples"), "{error}");
    // Who was refused holds nothing.
    let three = domain.subscriber().samples(3).open("t").unwrap();
    assert!(matches!(
        domain.subscriber().samples(1).open("t"),
        Err(Error::TooManySamplesDeclared { wanted: 1, left: 0, .. })
    ));
    drop(five);
    domain.subscriber().samples(5).open("t").unwrap();
    drop(three);
    domain.subscriber().samples(8).open("t").unwrap();
}

#[test]
fn a_topic_has_one_publisher_and_says_who() {
    let domain = Domain::new();
    let first = domain.bytes().open("t").unwrap();
    let error = domain.bytes().open("t").unwrap_err();
    let Error::PublisherExists { pid, .. } = error else { panic!("{error}") };
    assert_eq!(pid, std::process::id());
    // Nor may another shape take it, while it lives.
    assert!(matches!(domain.bytes().depth(99).open("t"), Err(Error::PublisherExists { .. })));
    drop(first);
    let mut process = Process::start("hold", &[domain.name(), "t"]);
    process.expect("open");
    let error = domain.bytes().open("t").unwrap_err();
    assert!(matches!(error, Error::PublisherExists { pid, .. } if pid == process.id()), "{error}");
    process.kill();
    domain.bytes().open("t").unwrap();
}

/// Opens a topic as its publisher until the parent has enough.
fn hold(args: &[&str]) {
    let mut options = Publisher::<[u8]>::options();
    if !args[0].is_empty() {
        options = options.domain(args[0]);
    }
    let _publisher = options.open(args[1]).unwrap();
    say("open");
    while hear().is_some() {}
}

// ---------------------------------------------------------------------------------------------------------------------
// Types

#[test]
fn a_type_that_does_not_match_is_refused_and_both_are_shown() {
    let domain = Domain::new();
    let _left = domain.publisher::<Left>().open("t").unwrap();
    let error = domain.subscriber_of::<Right>().open("t").unwrap_err();
    let Error::SchemaMismatch { expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!((&*expected.name, &*found.name), ("test_msgs/msg/Right", "test_msgs/msg/Left"));
    let text = error.to_string();
    assert!(text.contains("test_msgs/msg/Right") && text.contains("test_msgs/msg/Left"), "{text}");
    assert_eq!(text.matches("float64 value").count(), 2, "{text}");
    domain.subscriber_of::<Left>().open("t").unwrap();
    domain.subscriber().open("t").unwrap();
    let _opaque = domain.bytes().open("opaque").unwrap();
    let error = domain.subscriber_of::<Left>().open("opaque").unwrap_err();
    assert!(error.to_string().contains("opaque bytes") && error.to_string().contains("float64 value"), "{error}");
}

// ---------------------------------------------------------------------------------------------------------------------
// Before and after the publisher

#[test]
fn a_subscriber_before_its_publisher_is_told_or_waits_as_it_asked() {
    let domain = Domain::new();
    let error = domain.subscriber().open("t").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("publisher") && error.to_string().contains("wait"), "{error}");
    let timeout = Duration::from_millis(30);
    let start = Instant::now();
    let error = domain.subscriber().wait(timeout).open("t").unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(start.elapsed() >= timeout);
    assert!(matches!(domain.subscriber().wait(Duration::ZERO).open("t"), Err(Error::TimedOut { .. })));
    assert_eq!(domain.files(), [""; 0]);
    for wait in [true, false] {
        let mut process = Process::start("wait_for_it", &[domain.name(), if wait { "wait" } else { "forever" }]);
        process.expect("waiting");
        let mut publisher = domain.bytes().open("t").unwrap();
        process.expect("open");
        publisher.publish(b"hello").unwrap();
        process.expect("hello");
        process.finish();
        publisher.remove().unwrap();
    }
}

fn wait_for_it(args: &[&str]) {
    let options = Subscriber::<[u8]>::options().domain(args[0]);
    let options = if args[1] == "wait" { options.wait(PATIENCE) } else { options.wait_forever() };
    say("waiting");
    let mut subscriber = options.open("t").unwrap();
    say("open");
    say(String::from_utf8_lossy(&subscriber.recv().unwrap()));
}

/// A process that may have no inotify instance, as if all were in use.
fn unwatched(role: &str, args: &[&str]) -> Option<Process> {
    let limit = "echo 0 > /proc/sys/user/max_inotify_instances";
    let start = format!("{limit} && exec \"$0\" \"$@\"");
    let unshare = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c"];
    let tried = Command::new(unshare[0]).args(&unshare[1..]).arg(limit).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: cannot forbid inotify here");
        return None;
    }
    let wrapper = [&unshare[..], &[start.as_str()]].concat();
    Some(Process::spawn(role, Process::wrapped(&wrapper, role, args)))
}

#[test]
fn who_waits_without_a_watch_looks_now_and_then() {
    let domain = Domain::new();
    for how in ["wait", "forever"] {
        let Some(mut process) = unwatched("wait_for_it", &[domain.name(), how]) else { return };
        process.expect("waiting");
        let mut publisher = domain.bytes().open("t").unwrap();
        process.expect("open");
        publisher.publish(b"hello").unwrap();
        process.expect("hello");
        process.finish();
        publisher.remove().unwrap();
    }
    let publisher = domain.bytes().open("t").unwrap();
    let Some(mut process) = unwatched("wait_for_its_end", &[domain.name()]) else { return };
    process.expect("waiting");
    drop(publisher);
    process.expect("gone: true");
    process.finish();
}

fn wait_for_its_end(args: &[&str]) {
    let subscriber = Subscriber::<[u8]>::options().domain(args[0]).open("t").unwrap();
    say("waiting");
    say(format!("gone: {}", subscriber.wait_publisher_gone(PATIENCE).unwrap()));
}

/// The subscriber begins to wait at any point of the creation of its topic.
#[test]
fn a_topic_that_comes_while_it_is_waited_for_is_never_missed() {
    let domain = Domain::new();
    let (ask, asked) = channel::<String>();
    let (answer, answered) = channel();
    let options = domain.subscriber().wait_forever();
    let waiter = thread::spawn(move || {
        for topic in asked {
            let subscriber = options.clone().open(&topic).unwrap();
            answer.send(subscriber.publisher()).unwrap();
        }
    });
    for round in 0..support::rounds(1000) {
        let topic = format!("t{round}");
        ask.send(topic.clone()).unwrap();
        let publisher = domain.bytes().open(&topic).unwrap();
        assert_eq!(answered.recv_timeout(PATIENCE), Ok(WriterState::Alive), "{topic} was missed");
        publisher.remove().unwrap();
    }
    drop(ask);
    waiter.join().unwrap();
}

#[test]
fn the_next_publisher_of_the_same_shape_continues_the_sequence_in_the_same_region() {
    let domain = Domain::new();
    for slots in KINDS {
        for overflow in [Overflow::Overwrite, Overflow::Block] {
            let open = || domain.publisher_of(slots, LEN).overflow(overflow).open("t").unwrap();
            let mut publisher = open();
            let inode = std::fs::metadata(domain.file("t")).unwrap().ino();
            let mut subscriber = domain.subscriber().open("t").unwrap();
            let mut stream = Stream::from(0);
            for epoch in 1..=50 {
                publish(&mut publisher, 3);
                // Half of the time the next one comes while messages of the last are unread.
                if epoch % 2 == 0 {
                    (0..3).for_each(|_| next(&mut subscriber, &mut stream));
                }
                let loan = publisher.loan(LEN).unwrap();
                let _ = loan;
                drop(publisher);
                assert_eq!(subscriber.publisher(), WriterState::Closed);
                publisher = open();
                assert_eq!(subscriber.publisher(), WriterState::Alive);
                assert_eq!(publisher.next_sequence(), 3 * epoch);
                if epoch % 2 != 0 {
                    (0..3).for_each(|_| next(&mut subscriber, &mut stream));
                }
                assert_eq!(topic::inspect(Some(domain.name()), "t").unwrap().epoch, epoch as u32 + 1);
            }
            assert_eq!((stream.lost, stream.received), (0, 150));
            assert_eq!(std::fs::metadata(domain.file("t")).unwrap().ino(), inode);
            drop(subscriber);
            publisher.remove().unwrap();
        }
    }
}

#[test]
fn late_subscribers_find_what_a_closed_topic_holds() {
    let domain = Domain::new();
    for slots in KINDS {
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        publish(&mut publisher, 100);
        drop(publisher);
        let mut subscriber = domain.subscriber().start(Start::Oldest).open("t").unwrap();
        assert_eq!(subscriber.publisher(), WriterState::Closed);
        let mut stream = Stream::default();
        while let Some(sample) = subscriber.try_recv().unwrap() {
            stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
        }
        assert!(stream.received >= 16 && stream.expected == Some(100), "{stream:?}");
        drop(subscriber);
        domain.publisher_of(slots, LEN).open("t").unwrap().remove().unwrap();
    }
}

/// Any change of shape: a new region takes the name, subscribers follow, and the numbers go on without a gap.
#[test]
fn a_publisher_of_another_shape_takes_over_with_its_subscribers_and_the_sequence() {
    let domain = Domain::new();
    let shapes: Vec<PublisherOptions<[u8]>> = vec![
        domain.publisher_of(SlotKind::Frames, LEN),
        domain.publisher_of(SlotKind::Frames, LEN).depth(64),
        domain.publisher_of(SlotKind::Words, LEN),
        domain.publisher_of(SlotKind::Words, LEN).timestamps(Timestamps::Clock),
        domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block),
        domain.publisher_of(SlotKind::Frames, LEN).overflow(Overflow::Block),
        domain.publisher_of(SlotKind::Frames, 4 * LEN).overflow(Overflow::Reject),
        domain.publisher_of(SlotKind::Frames, LEN).schema(Schema { name: "other".into(), ..Schema::opaque() }),
        domain.publisher_of(SlotKind::Frames, LEN).subscribers(5),
    ];
    let mut publisher = shapes[0].clone().open("t").unwrap();
    let mut reads = domain.subscriber().open("t").unwrap();
    let mut lags = domain.subscriber().open("t").unwrap();
    let (mut stream, mut late) = (Stream::from(0), Stream::from(0));
    let mut noise = support::Noise::seeded("another shape");
    let mut last = shapes[0].clone();
    for round in 0..support::rounds(500).max(2 * shapes.len() as u32) {
        let at = round as usize % (2 * shapes.len());
        let shape = if at < shapes.len() { &shapes[at] } else { &shapes[noise.below(shapes.len() as u64) as usize] };
        let _ = std::mem::replace(&mut last, shape.clone());
        let published = publisher.next_sequence();
        drop(publisher);
        publisher = shape.clone().open("t").unwrap();
        assert_eq!(publisher.next_sequence(), published);
        let messages = 1 + noise.below(10);
        publish(&mut publisher, messages);
        while stream.expected != Some(publisher.next_sequence()) {
            next(&mut reads, &mut stream);
        }
        assert_eq!(reads.geometry(), publisher.geometry());
        if noise.below(3) == 0 {
            next(&mut lags, &mut late);
        }
    }
    while late.expected != stream.expected {
        next(&mut lags, &mut late);
    }
    assert_eq!(stream.lost, 0);
    assert_eq!(late.received + late.lost, publisher.next_sequence(), "what the old regions held is received or lost");
    drop((reads, lags));
    publisher.remove().unwrap();
}

#[test]
fn samples_of_a_region_that_was_replaced_stay_good() {
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Frames, LEN).open("t").unwrap();
    let mut subscriber = domain.subscriber().samples(2).open("t").unwrap();
    publish(&mut publisher, 2);
    let held: Vec<_> = (0..2).map(|_| subscriber.recv().unwrap()).collect();
    drop(publisher);
    let mut publisher = domain.publisher_of(SlotKind::Frames, LEN).depth(50).open("t").unwrap();
    publish(&mut publisher, 200);
    let old = held.iter().map(|sample| support::number(sample).unwrap()).collect::<Vec<_>>();
    assert_eq!(old, [0, 1]);
    drop(held);
    let mut stream = Stream::from(2);
    while stream.expected != Some(202) {
        next(&mut subscriber, &mut stream);
    }
}

#[test]
fn sleepers_wake_and_go_on_when_a_topic_is_replaced_or_removed_and_made_anew() {
    let domain = Domain::new();
    for (slots, other) in [(KINDS[0], KINDS[1]), (KINDS[1], KINDS[0])] {
        let publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        let (sender, received) = channel();
        let thread = thread::spawn(move || {
            for _ in 0..3 {
                let sample = subscriber.recv().unwrap();
                sender.send((sample.sequence(), sample.lagged())).unwrap();
            }
        });
        drop(publisher);
        // Other shape.
        let mut publisher = domain.publisher_of(other, LEN).open("t").unwrap();
        publish(&mut publisher, 1);
        assert_eq!(received.recv_timeout(PATIENCE), Ok((0, 0)));
        // Removed and made anew: a stream of its own, from its beginning.
        publisher.remove().unwrap();
        assert_eq!(domain.files(), [""; 0]);
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        publish(&mut publisher, 1);
        assert_eq!(received.recv_timeout(PATIENCE), Ok((0, 0)));
        // Removed twice while it sleeps.
        publisher.remove().unwrap();
        domain.publisher_of(slots, LEN).open("t").unwrap().remove().unwrap();
        let mut publisher = domain.publisher_of(slots, LEN).open("t").unwrap();
        publish(&mut publisher, 1);
        assert_eq!(received.recv_timeout(PATIENCE), Ok((0, 0)));
        in_time("the subscriber", move || thread.join().unwrap());
        publisher.remove().unwrap();
    }
}

#[test]
fn a_subscriber_that_cannot_follow_says_what_replaced_its_topic() {
    let domain = Domain::new();
    let left = domain.publisher::<Left>().open("t").unwrap();
    let mut subscriber = domain.subscriber_of::<Left>().open("t").unwrap();
    let mut bytes = domain.subscriber().open("t").unwrap();
    drop(left);
    let mut right = domain.publisher::<Right>().open("t").unwrap();
    right.publish(&Right { value: 1.0 }).unwrap();
    for _ in 0..2 {
        let error = subscriber.recv().unwrap_err();
        assert!(matches!(error, Error::Superseded { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("test_msgs/msg/Right") && text.contains("test_msgs/msg/Left"), "{text}");
    }
    assert_eq!(*bytes.recv().unwrap(), 1f64.to_ne_bytes());
    // What replaces that, it can.
    drop(right);
    let mut left = domain.publisher::<Left>().open("t").unwrap();
    left.publish(&Left { value: 2.0 }).unwrap();
    let sample = subscriber.recv().unwrap();
    assert_eq!((sample.value, sample.sequence(), sample.lagged()), (2.0, 1, 1));
}

#[test]
fn a_new_shape_without_room_for_a_subscriber_says_so() {
    let domain = Domain::new();
    let publisher = domain.publisher_of(SlotKind::Frames, LEN).subscribers(2).samples(4).open("t").unwrap();
    let mut greedy = domain.subscriber().samples(6).open("t").unwrap();
    let mut modest = domain.subscriber().samples(1).open("t").unwrap();
    drop(publisher);
    let mut publisher = domain.publisher_of(SlotKind::Frames, LEN).subscribers(1).samples(1).open("t").unwrap();
    publish(&mut publisher, 1);
    let error = greedy.recv().unwrap_err();
    assert!(matches!(error, Error::TooManySamplesDeclared { wanted: 6, left: 1, .. }), "{error}");
    assert_eq!(modest.recv().unwrap().sequence(), 0);
    let error = greedy.recv().unwrap_err();
    assert!(matches!(error, Error::TooManySubscribers { limit: 1, .. }), "{error}");
}

/// Whoever looks at the name while the shape changes again and again finds a topic, never a gap.
#[test]
fn a_name_is_never_gone_while_a_topic_is_replaced() {
    let domain = Domain::new();
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).open("t").unwrap();
    publish(&mut publisher, 1);
    let rounds = support::rounds(2000);
    let name = domain.name().to_owned();
    let (stop, stopped) = channel::<()>();
    let watcher = thread::spawn(move || {
        let mut looks = 0u64;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            topic::inspect(Some(&name), "t").unwrap();
            looks += 1;
        }
        looks
    });
    for round in 0..rounds {
        let published = publisher.next_sequence();
        drop(publisher);
        publisher = domain.publisher_of(KINDS[round as usize % 2], LEN).open("t").unwrap();
        assert_eq!(publisher.next_sequence(), published);
        publish(&mut publisher, 1);
    }
    drop(stop);
    assert!(watcher.join().unwrap() > 0);
    publisher.remove().unwrap();
}

#[test]
fn who_asks_is_woken_when_the_publisher_goes() {
    let domain = Domain::new();
    let publisher = domain.bytes().open("t").unwrap();
    let subscriber = domain.subscriber().open("t").unwrap();
    let start = Instant::now();
    assert!(!subscriber.wait_publisher_gone(Duration::from_millis(20)).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(20));
    drop(publisher);
    assert!(subscriber.wait_publisher_gone(Duration::ZERO).unwrap());
    for round in 0..support::rounds(200) {
        let mut process = Process::start("hold", &[domain.name(), "t"]);
        process.expect("open");
        assert_eq!(subscriber.publisher(), WriterState::Alive);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| subscriber.wait_publisher_gone(PATIENCE).unwrap());
            // Now and then the wait begins before, at, or after the end.
            thread::sleep(Duration::from_micros(u64::from(round) % 5 * 100));
            let killed = round % 2 == 0;
            if killed {
                process.kill()
            } else {
                process.finish()
            }
            let start = Instant::now();
            assert!(waiter.join().unwrap());
            assert!(start.elapsed() < PATIENCE / 10, "noticed after {:?}", start.elapsed());
            assert_eq!(subscriber.publisher(), if killed { WriterState::Gone } else { WriterState::Closed });
        });
    }
}

/// The kernel tells that a dying process's file is closed before it drops the locks, and may leave it at that for long.
#[test]
fn a_publisher_whose_lock_goes_late_is_missed_soon_after() {
    let domain = Domain::new();
    drop(domain.bytes().open("t").unwrap());
    let subscriber = domain.subscriber().open("t").unwrap();
    // What is left of the publisher: an open file with a lock.
    let open = || std::fs::File::options().read(true).write(true).open(domain.file("t")).unwrap();
    let dying = open();
    lock_writer(&dying, libc::F_WRLCK);
    assert_eq!(subscriber.publisher(), WriterState::Alive);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| subscriber.wait_publisher_gone(PATIENCE).unwrap());
        thread::sleep(Duration::from_millis(500));
        // The report, and much later, of which nothing is reported, the lock.
        drop(open());
        thread::sleep(Duration::from_millis(1000));
        assert!(!waiter.is_finished());
        lock_writer(&dying, libc::F_UNLCK);
        let start = Instant::now();
        assert!(waiter.join().unwrap());
        assert!(start.elapsed() < PATIENCE / 10, "noticed after {:?}", start.elapsed());
    });
}

/// Takes the publisher's byte (docs/shm-layout.md), or gives it back.
fn lock_writer(file: &std::fs::File, kind: i32) {
    // SAFETY: a C struct of integers, for which zero is a value; the call reads it, for an open file.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = kind as _;
        lock.l_start = 64;
        lock.l_len = 1;
        assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock), 0);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

#[test]
fn what_is_no_file_of_ours_is_refused_with_a_reason() {
    let domain = Domain::new();
    let outside = std::env::temp_dir().join(format!("{}-outside", domain.name()));
    std::fs::write(&outside, "precious").unwrap();
    symlink(&outside, domain.file("link")).unwrap();
    symlink("/nowhere/at/all", domain.file("dangling")).unwrap();
    std::fs::create_dir(domain.file("directory")).unwrap();
    let fifo = std::ffi::CString::new(domain.file("fifo")).unwrap();
    // SAFETY: the name is a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    for topic in ["link", "dangling", "directory", "fifo"] {
        let errors = [
            domain.bytes().open(topic).unwrap_err(),
            domain.subscriber().open(topic).unwrap_err(),
            topic::Observer::open_in(domain.name(), topic, Start::New).unwrap_err(),
            topic::inspect(Some(domain.name()), topic).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Corrupt { .. }), "{topic}: {error:?}");
            assert!(error.to_string().contains("no regular file"), "{topic}: {error}");
        }
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");
    // `clean` says what it cannot remove.
    let removed = topic::clean(Some(domain.name()), false).unwrap();
    assert!(removed.iter().all(|removed| removed.error.is_some()), "{removed:?}");
    std::fs::remove_dir(domain.file("directory")).unwrap();
    for topic in ["link", "dangling", "fifo"] {
        std::fs::remove_file(domain.file(topic)).unwrap();
    }
    std::fs::remove_file(outside).unwrap();
}

#[test]
fn a_publisher_replaces_a_file_that_is_no_topic() {
    let domain = Domain::new();
    for garbage in [&b""[..], b"x", &[0; 100], &[0xff; 100_000]] {
        std::fs::write(domain.file("t"), garbage).unwrap();
        assert!(matches!(domain.subscriber().open("t"), Err(Error::Corrupt { .. })));
        let mut publisher = domain.bytes().open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        publisher.publish(b"hello").unwrap();
        assert_eq!(*subscriber.recv().unwrap(), *b"hello");
        drop(subscriber);
        publisher.remove().unwrap();
    }
    std::fs::write(domain.file("t"), "nobody's").unwrap();
    assert_eq!(topic::clean(Some(domain.name()), true).unwrap().len(), 1);
    assert_eq!(topic::clean(Some(domain.name()), false).unwrap()[0].bytes, 8);
    assert_eq!(domain.files(), [""; 0]);
}

#[test]
fn the_topics_mode_is_what_was_asked_for_whatever_the_umask() {
    let domain = Domain::new();
    for mode in [0o600, 0o644, 0o660, 0o666] {
        let publisher = domain.bytes().permissions(mode).open("t").unwrap();
        assert_eq!(std::fs::metadata(domain.file("t")).unwrap().permissions().mode() & 0o7777, mode);
        publisher.remove().unwrap();
    }
}

const STRANGER: u32 = 54321;
const OTHER: u32 = 54322;

fn is_root() -> bool {
    // SAFETY: no memory involved.
    unsafe { libc::geteuid() == 0 }
}

/// Opens topic `args[2]` of domain `args[1]` as user `args[0]` in every way, and says how that went.
fn as_user(args: &[&str]) {
    let user = args[0].parse().unwrap();
    // SAFETY: no memory involved.
    assert_eq!(unsafe { libc::setgid(user) | libc::setuid(user) }, 0);
    let result = |error: Option<Error>| match error {
        None => "ok".to_owned(),
        Some(Error::ForeignOwner { owner, .. }) => format!("owner {owner}"),
        Some(Error::System { source, .. }) => format!("{:?}", source.kind()),
        Some(other) => other.to_string(),
    };
    let publisher = |any| Publisher::<[u8]>::options().domain(args[1]).any_owner(any);
    let subscriber = |any| Subscriber::<[u8]>::options().domain(args[1]).any_owner(any);
    while let Some(how) = hear() {
        let opened = match how.as_str() {
            "publish" => publisher(false).open(args[2]).err(),
            "publish any" => publisher(true).open(args[2]).err(),
            "subscribe" => subscriber(false).open(args[2]).err(),
            "subscribe any" => subscriber(true).open(args[2]).err(),
            "inspect" => topic::inspect(Some(args[1]), args[2]).err(),
            "observe" => match topic::Observer::open_in(args[1], args[2], Start::Oldest) {
                Ok(mut observer) => {
                    let text = observer.next_timeout(PATIENCE).unwrap().map(|seen| seen.data.to_vec());
                    let sleeps = if observer.can_sleep() { "sleeping" } else { "looking" };
                    say(format!("{} {sleeps}", String::from_utf8(text.unwrap()).unwrap()));
                    continue;
                }
                Err(error) => Some(error),
            },
            other => panic!("{other}"),
        };
        say(result(opened));
    }
}

#[test]
fn topics_of_others_are_refused_unless_asked_for_and_permissions_hold() {
    if !is_root() {
        eprintln!("skipped: needs root, to be several users");
        return;
    }
    let domain = Domain::new();
    let user = |user: u32, topic: &str| Process::start("as_user", &[&user.to_string(), domain.name(), topic]);
    // One user's topic, open to all, seen by another and by root.
    let mut stranger = user(STRANGER, "theirs");
    assert_eq!(stranger.ask("publish"), "ok");
    std::fs::set_permissions(domain.file("theirs"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let refused = format!("owner {STRANGER}");
    let mut other = user(OTHER, "theirs");
    for (how, expected) in
        [("subscribe", &*refused), ("publish", &*refused), ("subscribe any", "ok"), ("publish any", "ok")]
    {
        assert_eq!(other.ask(how), expected, "{how}");
    }
    assert_eq!(other.ask("inspect"), "ok");
    let error = domain.subscriber().open("theirs").unwrap_err();
    assert!(matches!(error, Error::ForeignOwner { owner: STRANGER, .. }), "{error}");
    assert!(error.to_string().contains("any_owner"), "{error}");
    domain.subscriber().any_owner(true).open("theirs").unwrap();
    assert_eq!(stranger.ask("subscribe"), "ok");
    // Root's topics, which all trust, as far as their modes allow.
    for (mode, publish, subscribe, observe) in [
        (0o600, "PermissionDenied", "PermissionDenied", "PermissionDenied"),
        (0o644, "PermissionDenied", "PermissionDenied", "hello looking"),
        (0o666, "PublisherExists", "ok", "hello sleeping"),
    ] {
        let mut publisher = domain.bytes().permissions(mode).open("ours").unwrap();
        publisher.publish(b"hello").unwrap();
        let mut stranger = user(STRANGER, "ours");
        if publish != "PublisherExists" {
            assert_eq!(stranger.ask("publish"), publish, "{mode:o}");
        } else {
            assert!(stranger.ask("publish").contains("already has a publisher"));
        }
        assert_eq!(stranger.ask("subscribe"), subscribe, "{mode:o}");
        assert_eq!(stranger.ask("observe"), observe, "{mode:o}");
        stranger.finish();
        publisher.remove().unwrap();
    }
    other.finish();
    stranger.finish();
    // A stranger's file is not root's to remove unasked.
    let removed = topic::clean(Some(domain.name()), false).unwrap();
    assert!(removed[0].error.as_ref().unwrap().contains("belongs to user"), "{removed:?}");
    std::fs::remove_file(domain.file("theirs")).unwrap();
}

#[test]
fn clean_removes_what_nobody_uses_and_nothing_else() {
    let domain = Domain::new();
    let list = || topic::list(Some(domain.name())).unwrap().into_iter().map(|(_, topic)| topic).collect::<Vec<_>>();
    let published = domain.bytes().open("a/published").unwrap();
    let subscribed = domain.bytes().open("b/subscribed").unwrap();
    let subscriber = domain.subscriber().open("b/subscribed").unwrap();
    drop(subscribed);
    drop(domain.bytes().open("c/stale").unwrap());
    let mut process = Process::start("hold", &[domain.name(), "d/killed"]);
    process.expect("open");
    process.kill();
    assert_eq!(list(), ["a/published", "b/subscribed", "c/stale", "d/killed"]);
    let stale = |topic| topic::inspect(Some(domain.name()), topic).unwrap().is_stale();
    assert_eq!(list().iter().map(|topic| stale(topic)).collect::<Vec<_>>(), [false, false, true, true]);
    let would = topic::clean(Some(domain.name()), true).unwrap();
    assert_eq!(list().len(), 4, "a dry run removes nothing");
    let did = topic::clean(Some(domain.name()), false).unwrap();
    assert_eq!(would, did);
    assert_eq!(did.iter().map(|removed| &*removed.topic).collect::<Vec<_>>(), ["c/stale", "d/killed"]);
    assert!(did.iter().all(|removed| removed.bytes > 0 && removed.error.is_none()));
    assert_eq!(list(), ["a/published", "b/subscribed"]);
    drop(subscriber);
    drop(published);
    assert_eq!(topic::clean(Some(domain.name()), false).unwrap().len(), 2);
    assert_eq!(domain.files(), [""; 0]);
}

/// `clean` runs all the time while topics are created, used and closed: it never takes one from somebody.
#[test]
fn clean_beside_everybody_takes_nothing_away() {
    let domain = Domain::new();
    let name = domain.name().to_owned();
    let (stop, stopped) = channel::<()>();
    let cleaner = thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            for removed in topic::clean(Some(&name), false).unwrap() {
                assert_eq!(removed.error, None);
            }
        }
    });
    for round in 0..support::rounds(2000) {
        // `clean` may hold the publisher's place for a moment.
        let mut publisher = loop {
            match domain.publisher_of(KINDS[round as usize % 2], LEN).open("t") {
                Err(Error::PublisherExists { .. }) => thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        let mut subscriber = domain.subscriber().open("t").unwrap();
        let first = publisher.next_sequence();
        publish(&mut publisher, 1);
        assert_eq!(subscriber.recv().unwrap().sequence(), first);
    }
    drop(stop);
    cleaner.join().unwrap();
    topic::clean(Some(domain.name()), false).unwrap();
    eventually("an empty domain", || domain.files().is_empty());
}

#[test]
fn a_topic_costs_each_handle_two_descriptors_at_most_and_nothing_afterwards() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = |domain: &Domain| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains(domain.name())).count()
    };
    // Other tests of this program run at the same time, so count in a process of its own.
    let _ = descriptors;
    let domain = Domain::new();
    let mut bytes = [0; LEN];
    fill(&mut bytes, 0);
    for _ in 0..10 {
        let mut publisher = domain.bytes().open("t").unwrap();
        let mut subscriber = domain.subscriber().open("t").unwrap();
        publisher.publish(&bytes).unwrap();
        drop(subscriber.recv().unwrap());
        assert!(maps(&domain) > 0);
    }
    assert_eq!(maps(&domain), 0);
}

#[test]
fn who_waited_for_a_topic_misses_none_of_its_messages() {
    for kind in KINDS {
        let domain = Domain::new();
        let waiting = domain.subscriber().wait_forever();
        let (sender, receiver) = channel();
        let thread = thread::spawn(move || {
            sender.send(thread_id()).unwrap();
            let mut subscriber = waiting.open("t").unwrap();
            [(); 3].map(|()| subscriber.recv().unwrap().sequence())
        });
        let tid = receiver.recv().unwrap();
        eventually("a subscriber that waits", || is_asleep(tid));
        let mut publisher = domain.publisher_of(kind, LEN).open("t").unwrap();
        for sequence in 0..3 {
            publisher.publish(&message(LEN, sequence)).unwrap();
        }
        assert_eq!(thread.join().unwrap(), [0, 1, 2]);
    }
}
