//! Who may open what, and how.
#![cfg(feature = "std")]

mod support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::mpsc::channel;
use std::thread;

use conduit::msgs::Imu;
use conduit::topic::{self, Overflow, PublisherOptions, Schema, SlotKind, Start, Timestamps};
use conduit::{Error, Publisher, Subscriber};
use support::{
    Domain, KINDS, LEN, Left, PATIENCE, Process, Right, Stream, eventually, fill, hear, hold, publish, receive,
    run_role, say,
};

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[("hold", hold), ("as_user", as_user), ("open_in_default_domain", open_in_default_domain)]);
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
    let wrong: [(&str, Change); 13] = [
        ("depth", |o| o.depth(0)),
        ("depth", |o| o.depth(u32::MAX)),
        ("depth", |o| o.depth(1 << 28)),
        ("max_len", |o| o.max_len(1 << 45)),
        ("max_len", |o| o.max_len(usize::MAX)),
        ("samples", |o| o.samples(1 << 28)),
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
            (0..3).for_each(|_| receive(subscriber, &mut stream));
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
