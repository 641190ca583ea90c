//! What is promised of playing: what was recorded is published again, as it was.
#![cfg(feature = "tank")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use conduit::Subscriber;
use conduit::tank::{Error, Player, PlayerOptions, Recorder, SyncPolicy, Writer};
use conduit::topic::{Overflow, Schema, SlotKind, Timestamps};
use support::{Directory, Domain, LEN, PATIENCE, eventually, message, rounds};

/// Where a recording's times begin: any time will do.
const BEGIN: u64 = 1_000_000_000_000;

fn player(domain: &Domain) -> PlayerOptions {
    Player::options().domain(domain.name()).wait_for_subscribers(PATIENCE)
}

/// Records so many messages on each topic, a millisecond apart, each of which says its number.
fn record(path: &Path, topics: &[(&str, SlotKind)], each: u64) -> Vec<PathBuf> {
    record_with(path, topics, each, |options| options)
}

fn record_with(
    path: &Path,
    topics: &[(&str, SlotKind)],
    each: u64,
    how: impl FnOnce(conduit::tank::RecorderOptions) -> conduit::tank::RecorderOptions,
) -> Vec<PathBuf> {
    let domain = Domain::new();
    let mut publishers: Vec<_> = topics
        .iter()
        .map(|(topic, kind)| {
            let options = domain.publisher_of(*kind, LEN).overflow(Overflow::Block).latched(*topic == "map");
            options.timestamps(Timestamps::Given).depth(100).open(topic).unwrap()
        })
        .collect();
    let recorder = how(Recorder::options().domain(domain.name()).sync(SyncPolicy::None)).start(path).unwrap();
    for at in 0..each {
        for publisher in &mut publishers {
            publisher.publish_at(&message(LEN, at), BEGIN + at * 1_000_000).unwrap();
        }
    }
    let report = recorder.stop();
    assert_eq!(report.total().recorded, each * topics.len() as u64);
    report.files
}

fn subscribe(domain: &Domain, topic: &str) -> Subscriber<[u8]> {
    domain.subscriber().wait(PATIENCE).open(topic).unwrap()
}

/// Receives messages until one has the last number.
fn receive(subscriber: &mut Subscriber<[u8]>, last: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message comes");
        assert_eq!(message.lagged(), 0);
        numbers.push(support::number(&message).unwrap());
    }
    numbers
}

#[test]
fn what_is_played_is_what_was_recorded_on_topics_as_they_were() {
    for _ in 0..rounds(50) {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let path = directory.file("run.mcap");
        record(&path, &[("words", SlotKind::Words), ("a/frames", SlotKind::Frames)], 1000);
        let player = player(&domain).as_fast_as_possible().start([&path]).unwrap();
        let (mut words, mut frames) = (subscribe(&domain, "words"), subscribe(&domain, "a/frames"));
        let words_received = std::thread::spawn(move || {
            let numbers = receive(&mut words, 999);
            (numbers, *words.geometry())
        });
        let all: Vec<u64> = (0..1000).collect();
        assert_eq!(receive(&mut frames, 999), all);
        let (numbers, geometry) = words_received.join().unwrap();
        assert_eq!(numbers, all);
        assert_eq!(
            (geometry.slots, geometry.overflow, geometry.depth, geometry.max_len),
            (SlotKind::Words, Overflow::Block, 100, LEN as u64)
        );
        let report = player.finish().unwrap();
        assert!(report.ended);
        assert_eq!(report.topics["words"].published, 1000);
        assert_eq!(report.topics["a/frames"].published, 1000);
    }
}

#[test]
fn no_message_comes_before_it_is_due() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    record(&path, &[("t", SlotKind::Words)], 100);
    for rate in [1.0, 4.0] {
        let player = player(&domain).rate(rate).start([&path]).unwrap();
        let mut subscriber = subscribe(&domain, "t");
        let mut first = None;
        for at in 0..100u32 {
            let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message comes");
            let time = message.timestamp().unwrap();
            let first = *first.get_or_insert(time);
            let due = Duration::from_millis(1).mul_f64(f64::from(at) / rate);
            // The first itself may have been late, and so have come too close to the second; it is late by no more than it
            // says.
            assert!(time - first + Duration::from_millis(1) >= due, "message {at} at rate {rate}: {:?}", time - first);
        }
        let report = player.finish().unwrap();
        assert!(report.ended && report.topics["t"].published == 100);
    }
}

#[test]
fn a_player_stays_where_it_is_while_paused_and_steps_one_message_at_a_time() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    record(&path, &[("t", SlotKind::Words)], 50);
    let player = player(&domain).paused(true).start([&path]).unwrap();
    let mut subscriber = subscribe(&domain, "t");
    for step in 0..10 {
        player.step();
        let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a step is a message");
        assert_eq!(support::number(&message).unwrap(), step);
        assert!(subscriber.try_recv().unwrap().is_none(), "and no more than one");
    }
    eventually("each is counted", || player.progress().published == 10);
    assert!(player.progress().paused);
    player.resume();
    assert_eq!(receive(&mut subscriber, 49), (10..50).collect::<Vec<_>>());
    player.finish().unwrap();
}

#[test]
fn a_player_that_is_stopped_says_so_and_one_that_waits_can_be_stopped() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    record(&path, &[("t", SlotKind::Words)], 50);
    // A thousand years to the second message.
    let player = player(&domain).rate(1e-6).start([&path]).unwrap();
    let mut subscriber = subscribe(&domain, "t");
    assert!(subscriber.recv_timeout(PATIENCE).unwrap().is_some());
    eventually("the first is counted", || player.progress().published == 1);
    player.set_rate(Some(1e6));
    assert_eq!(receive(&mut subscriber, 49).len(), 49, "a new rate holds for the message that is waited for");
    let report = player.finish().unwrap();
    assert!(report.ended);
    let player = Player::options().domain(domain.name()).rate(1e-6).start([&path]).unwrap();
    eventually("the first is published", || player.progress().published == 1);
    let report = player.stop().unwrap();
    assert!(!report.ended);
    assert_eq!(report.topics["t"].published, 1);
}

#[test]
fn topics_are_chosen_renamed_and_cut_and_played_again() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    record(&path, &[("a/x", SlotKind::Words), ("a/y", SlotKind::Words), ("b", SlotKind::Words)], 100);
    let player = player(&domain)
        .topics(["a/*"])
        .exclude(["*/y"])
        .remap("a/x", "replay/x")
        .from(Duration::from_millis(10))
        .to(Duration::from_millis(20))
        .rounds(Some(3))
        .as_fast_as_possible()
        .start([&path])
        .unwrap();
    let mut subscriber = subscribe(&domain, "replay/x");
    for _ in 0..3 {
        assert_eq!(receive(&mut subscriber, 19), (10..20).collect::<Vec<_>>());
    }
    let report = player.finish().unwrap();
    assert_eq!(report.topics.len(), 1);
    assert_eq!(report.topics["replay/x"].published, 30);
    let topics = conduit::topic::list(Some(domain.name())).unwrap();
    assert_eq!(topics.len(), 1, "{topics:?}");
}

#[test]
fn parts_of_a_recording_are_played_as_one_and_what_is_in_two_of_them_once() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let files = record_with(
        &directory.file("run.mcap"),
        &[("map", SlotKind::Frames), ("t", SlotKind::Words)],
        1000,
        |options| options.chunk_bytes(4 << 10).split_size(16 << 10),
    );
    assert!(files.len() > 3);
    let player = player(&domain).as_fast_as_possible().start(files.iter().rev()).unwrap();
    let (mut map, mut t) = (subscribe(&domain, "map"), subscribe(&domain, "t"));
    let map = std::thread::spawn(move || receive(&mut map, 999));
    let all: Vec<u64> = (0..1000).collect();
    assert_eq!(receive(&mut t, 999), all);
    assert_eq!(map.join().unwrap(), all);
    let report = player.finish().unwrap();
    assert_eq!(report.topics["map"].repeated, files.len() as u64 - 1);
}

#[test]
fn topics_of_others_whose_names_begin_with_a_slash_are_played_without_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rosbags.mcap");
    let domain = Domain::new();
    let player = player(&domain).as_fast_as_possible().start([path]).unwrap();
    let mut force = subscribe(&domain, "force");
    for at in 0..10 {
        let message = force.recv_timeout(PATIENCE).unwrap().expect("a message comes");
        assert_eq!(message[..8], f64::from(at).to_le_bytes());
    }
    assert_eq!(player.finish().unwrap().topics["force"].published, 10);
    // Another name can be any other.
    let player = self::player(&domain).remap("/force", "robot/force").as_fast_as_possible().start([path]).unwrap();
    let mut force = subscribe(&domain, "robot/force");
    assert!(force.recv_timeout(PATIENCE).unwrap().is_some());
    player.finish().unwrap();
}

#[test]
fn a_message_longer_than_its_topic_takes_makes_the_topic_anew_and_no_subscriber_of_a_lossless_one_loses_any() {
    for _ in 0..rounds(50) {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let path = directory.file("run.mcap");
        let mut writer = Writer::create(&path).unwrap();
        let topic = writer.add_topic("t", &Schema::opaque(), &[]).unwrap();
        for at in 0..500 {
            let len = if at == 20 { 10_000 } else { LEN };
            writer.write(topic, at, BEGIN + u64::from(at), &message(len, at.into())).unwrap();
        }
        writer.finish().unwrap();
        let options = player(&domain).overflow(Overflow::Block).depth(64).as_fast_as_possible().paused(true);
        let player = options.start([&path]).unwrap();
        let mut subscribers = [subscribe(&domain, "t"), subscribe(&domain, "t")];
        player.resume();
        // They come late to what takes the topic's place.
        eventually("the long one is next", || player.progress().published >= 20);
        std::thread::scope(|scope| {
            for subscriber in &mut subscribers {
                scope.spawn(|| assert_eq!(receive(subscriber, 499), (0..500).collect::<Vec<_>>()));
            }
        });
        assert_eq!(player.finish().unwrap().topics["t"].published, 500);
    }
}

#[test]
fn a_topic_that_nobody_comes_to_is_named_in_the_error() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    record(&path, &[("t", SlotKind::Words)], 1);
    let options = Player::options().domain(domain.name()).wait_for_subscribers(Duration::from_millis(1));
    let error = options.start([&path]).unwrap().finish().unwrap_err();
    assert!(matches!(&error, Error::NoSubscriber { topic } if topic == "t"), "{error}");
    let none: [&Path; 0] = [];
    for wrong in [
        Player::options().rate(0.0).start([&path]),
        Player::options().rate(f64::NAN).start([&path]),
        Player::options().rounds(Some(0)).start([&path]),
        Player::options().from(Duration::from_secs(2)).to(Duration::from_secs(1)).start([&path]),
        Player::options().start(none),
    ] {
        assert!(matches!(wrong, Err(Error::InvalidOption { .. })));
    }
    assert!(matches!(Player::options().start(["/nonexistent"]), Err(Error::Io { .. })));
}

/// Two files of somebody else, whose messages have no numbers, and whose times meet.
#[test]
fn what_looks_the_same_is_played_as_often_as_it_is_there() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let files = ["a.mcap", "b.mcap"].map(|name| directory.file(name));
    for file in &files {
        let mut writer = Writer::create(file).unwrap();
        let topic = writer.add_topic("t", &Schema::opaque(), &[]).unwrap();
        for _ in 0..3 {
            writer.write(topic, 0, BEGIN, file.to_str().unwrap().as_bytes()).unwrap();
        }
        writer.finish().unwrap();
    }
    let playing = player(&domain).as_fast_as_possible().start(&files).unwrap();
    let mut subscriber = subscribe(&domain, "t");
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(subscriber.recv_timeout(PATIENCE).unwrap().expect("each is played").to_vec());
    }
    assert_eq!(seen.iter().filter(|data| data.ends_with(b"a.mcap")).count(), 3);
    let counts = playing.finish().unwrap().topics["t"];
    assert_eq!((counts.published, counts.repeated), (6, 0));
}

#[test]
fn a_player_that_waits_for_subscribers_ends_when_it_is_told_to() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let files = record(&directory.file("run.mcap"), &[("t", SlotKind::Words)], 3);
    let playing = player(&domain).wait_for_subscribers(Duration::MAX).start(&files).unwrap();
    let report = playing.stop().unwrap();
    assert_eq!((report.topics["t"].published, report.ended), (0, false));
    drop(player(&domain).wait_for_subscribers(Duration::MAX).start(&files).unwrap());
}

#[test]
fn what_no_file_has_is_an_error_that_says_what_they_have() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let files = record(&directory.file("run.mcap"), &[("imu", SlotKind::Words), ("map", SlotKind::Words)], 1);
    for options in [
        player(&domain).topics(["imu", "lidar"]),
        player(&domain).topics(["sensors/*"]),
        player(&domain).remap("lidar", "radar"),
    ] {
        let error = options.start(&files).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
        assert!(error.to_string().contains("imu, map"), "{error}");
    }
}

/// What was refused is not in the file; what is there is not to be refused now.
#[test]
fn a_topic_that_refused_messages_is_played_by_one_that_waits() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let recorded = Domain::new();
    let options = recorded.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Reject).depth(4);
    let mut publisher = options.open("t").unwrap();
    let recorder = Recorder::options().domain(recorded.name()).start(&path).unwrap();
    for at in 0..100 {
        eventually("there is room", || publisher.publish(&message(LEN, at)).is_ok());
    }
    assert_eq!(recorder.stop().total().recorded, 100);
    let playing = player(&domain).as_fast_as_possible().start([&path]).unwrap();
    let mut subscriber = subscribe(&domain, "t");
    assert_eq!(receive(&mut subscriber, 99), (0..100).collect::<Vec<_>>());
    assert_eq!(playing.finish().unwrap().topics["t"].refused, 0);
}

/// As one that a file asks for which wants the machine to run out of memory.
#[test]
fn a_file_that_asks_for_a_huge_topic_gets_one_of_a_bounded_size() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut writer = Writer::create(&path).unwrap();
    let metadata = [("conduit.depth", "4000000000"), ("conduit.max_len", "10000000"), ("conduit.subscribers", "64")];
    let topic = writer.add_topic("t", &Schema::opaque(), &metadata).unwrap();
    writer.write(topic, 0, BEGIN, b"small").unwrap();
    writer.finish().unwrap();
    let playing = player(&domain).start([&path]).unwrap();
    let size = std::fs::metadata(domain.file("t")).unwrap().len();
    assert!(size < 1 << 30, "{size} bytes");
    let mut subscriber = subscribe(&domain, "t");
    assert_eq!(&*subscriber.recv_timeout(PATIENCE).unwrap().unwrap(), b"small");
    assert_eq!(playing.finish().unwrap().topics["t"].published, 1);
}

/// A subscriber that is gone, but for a message that is still held, keeps nobody waiting when the topic is made anew.
#[test]
fn nobody_waits_for_a_subscriber_that_will_not_move_on() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut writer = Writer::create(&path).unwrap();
    let topic = writer.add_topic("t", &Schema::opaque(), &[("conduit.overflow", "block")]).unwrap();
    writer.write(topic, 0, BEGIN, b"short").unwrap();
    writer.write(topic, 1, BEGIN + 1, &[7; 20_000]).unwrap();
    writer.finish().unwrap();
    let playing = player(&domain).paused(true).start([&path]).unwrap();
    let mut subscriber = subscribe(&domain, "t");
    // One that has received everything, and looks no more.
    let mut idle = subscribe(&domain, "t");
    playing.step();
    let held = subscriber.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(&*idle.recv_timeout(PATIENCE).unwrap().unwrap(), b"short");
    drop(subscriber);
    playing.resume();
    assert_eq!(playing.finish().unwrap().topics["t"].published, 2);
    assert_eq!(&*held, b"short");
    drop((held, idle));
}
