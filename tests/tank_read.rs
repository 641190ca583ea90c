//! Other people's files: `tests/data/make.py` says who wrote them, and what is in them.
#![cfg(feature = "tank")]

mod support;

use std::path::PathBuf;

use conduit::tank::{Player, Query, Recording, check};
use support::{Domain, PATIENCE};

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", &format!("{name}.mcap")].iter().collect()
}

/// Those of PyPI `mcap`, with 40 messages each.
const OTHERS: [&str; 7] = ["none", "lz4", "zstd", "crc", "unchunked", "unindexed", "bare"];

#[test]
fn messages_come_in_the_order_of_their_time_whoever_wrote_the_file() {
    for name in OTHERS {
        let recording = Recording::open(file(name)).unwrap();
        let mut messages = recording.messages(Query::new()).unwrap();
        let mut numbers = Vec::new();
        while let Some(message) = messages.next().unwrap() {
            let i = u64::from(message.sequence) - 1;
            assert_eq!(message.log_time, 1000 + 10 * (i ^ 3), "{name}");
            assert_eq!(message.publish_time, message.log_time - 7);
            assert_eq!(message.data, format!("{{\"i\":{i}}}").as_bytes());
            assert_eq!(message.topic.name, if i % 2 == 0 { "even" } else { "odd" });
            assert_eq!(message.topic.schema.message_encoding, "json");
            numbers.push(message.log_time);
        }
        assert_eq!(numbers, (0..40).map(|at| 1000 + 10 * at).collect::<Vec<_>>(), "{name}");
        assert_eq!(recording.message_count(), 40);
        assert_eq!(recording.times(), Some((1000, 1390)));
        let of_even: Vec<_> = recording.topics().iter().filter(|topic| topic.name == "even").map(|t| t.id).collect();
        let mut some = recording.messages(Query::new().topics(of_even).start(1200).end(1300)).unwrap();
        let mut count = 0;
        while let Some(message) = some.next().unwrap() {
            assert!(message.topic.name == "even" && (1200..1300).contains(&message.log_time));
            count += 1;
        }
        assert_eq!(count, 5, "{name}");
    }
}

#[test]
fn a_sound_file_of_others_is_found_sound() {
    for name in OTHERS.into_iter().chain(["rosbags"]) {
        let checked = check(file(name)).unwrap();
        assert!(checked.is_sound(), "{name}: {:?}", checked.findings);
    }
}

#[test]
fn what_others_recorded_is_played_as_it_stands() {
    for name in OTHERS {
        let domain = Domain::new();
        let options = Player::options().domain(domain.name()).wait_for_subscribers(PATIENCE).as_fast_as_possible();
        let player = options.start([file(name)]).unwrap();
        let mut even = domain.subscriber().wait(PATIENCE).open("even").unwrap();
        let _odd = domain.subscriber().wait(PATIENCE).open("odd").unwrap();
        // Their times are those of 3, 2, 1, 0, 7, 6, ...
        for i in (0..40u64).map(|at| at ^ 3).filter(|i| i % 2 == 0) {
            let message = even.recv_timeout(PATIENCE).unwrap().expect("a message comes");
            assert_eq!(&*message, format!("{{\"i\":{i}}}").as_bytes(), "{name}");
        }
        assert_eq!(even.schema().name, "Number");
        let report = player.finish().unwrap();
        assert_eq!(report.topics["even"].published + report.topics["odd"].published, 40, "{name}");
    }
}
