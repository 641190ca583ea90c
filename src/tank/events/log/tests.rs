//! Directories of one process after the other.

use std::collections::BTreeMap;

use super::*;
use crate::engine::Event;
use crate::frame::Encoding;
use crate::tank::events::DeadLetterStore;
use crate::tank::events::tests::{Directory, SENSOR, event, sound};
use crate::tank::read::Query;
use crate::tank::small_disk::{fill, with_small_disk};

fn recovered(log: &mut EventLog) -> Vec<(ProducerId, u64)> {
    let mut seen = Vec::new();
    log.recover(&mut |producer, sequence| seen.push((*producer, sequence))).unwrap();
    seen
}

#[test]
fn each_event_is_told_once_by_its_producer_and_all_of_its_sequence() {
    let directory = Directory::new();
    let sequences = [1, 2, u64::from(u32::MAX), 1 << 32, (1 << 32) + 1, (7 << 32) + 5, u64::MAX];
    for round in 0..3u64 {
        let mut log = EventLog::options().file_bytes(700).open(&directory.0).unwrap();
        let expected: Vec<_> = (0..round).flat_map(|_| sequences.map(|sequence| (SENSOR, sequence))).collect();
        assert_eq!(recovered(&mut log), expected);
        for sequence in sequences {
            log.append(&event(sequence)).unwrap();
            log.commit().unwrap();
        }
        // These have no number, or nobody who gave it.
        log.append(&event(0)).unwrap();
        log.append(&Event { producer: [0; 16], ..event(9) }).unwrap();
        log.commit().unwrap();
        assert_eq!((log.counts().events, log.counts().groups), (9, 8));
    }
    let files = EventLog::files(&directory.0).unwrap();
    assert!(files.len() > 3, "{files:?}");
    sound(&files);
}

#[test]
fn everything_about_an_event_but_its_origin_is_in_the_log() {
    let directory = Directory::new();
    let mut log = EventLog::open(&directory.0).unwrap();
    let sequence = (3 << 32) + 4;
    for (at, code) in (0..4).enumerate() {
        let encoding = Encoding::from_code(code).unwrap();
        log.append(&Event { encoding, received: at as u64, ..event(sequence) }).unwrap();
    }
    log.commit().unwrap();
    // As the log has it, which is still open.
    let recording = Recording::open(&EventLog::files(&directory.0).unwrap()[0]).unwrap();
    let mut messages = recording.messages(Query::new()).unwrap();
    for (at, (said, mcap)) in
        [("raw", ""), ("json", "json"), ("cbor", "cbor"), ("protobuf", "protobuf")].into_iter().enumerate()
    {
        let message = messages.next().unwrap().unwrap();
        assert_eq!(message.topic.name, "orders/new");
        assert_eq!(message.topic.schema.message_encoding, mcap);
        let expected = BTreeMap::from(
            [
                ("conduit.producer", "73656e736f7220312c20626f6f742039"),
                ("conduit.sequence_high", "3"),
                ("conduit.priority", "high"),
                ("conduit.encoding", said),
            ]
            .map(|(key, value)| (key.into(), value.into())),
        );
        assert_eq!(message.topic.metadata, expected);
        assert_eq!((message.sequence, message.log_time, message.publish_time), (4, at as u64, sequence * 10));
        assert_eq!(message.data, event(0).payload);
    }
}

#[test]
fn a_directory_is_one_processs_at_a_time() {
    let directory = Directory::new();
    let log = EventLog::open(&directory.0).unwrap();
    let letters = DeadLetterStore::open(&directory.0).unwrap();
    assert!(matches!(EventLog::open(&directory.0), Err(Error::DirectoryInUse { path }) if path == directory.0));
    assert!(matches!(DeadLetterStore::open(&directory.0), Err(Error::DirectoryInUse { .. })));
    drop((log, letters));
    EventLog::open(&directory.0).unwrap();
    DeadLetterStore::open(&directory.0).unwrap();
}

#[test]
fn a_torn_group_is_cut_and_those_before_it_are_kept_wherever_it_is_torn() {
    let directory = Directory::new();
    let whole = {
        let mut log = EventLog::open(&directory.0).unwrap();
        for group in 0..3 {
            for event_in_group in 1..4 {
                log.append(&event(group * 3 + event_in_group)).unwrap();
            }
            log.commit().unwrap();
        }
        let file = EventLog::files(&directory.0).unwrap().remove(0);
        let bytes = std::fs::read(&file).unwrap();
        let ends: Vec<_> = Recording::open(&file).unwrap().chunks().map(|c| c.offset + 49 + c.compressed).collect();
        (bytes, ends)
    };
    let (bytes, ends) = whole;
    for len in (0..=bytes.len()).step_by(7).chain([bytes.len()]) {
        std::fs::remove_dir_all(&directory.0).unwrap();
        std::fs::create_dir(&directory.0).unwrap();
        std::fs::write(directory.0.join("events-0000000001.mcap"), &bytes[..len]).unwrap();
        let mut log = EventLog::open(&directory.0).unwrap();
        let groups = ends.iter().filter(|end| **end <= len as u64).count() as u64;
        let expected: Vec<_> = (1..=groups * 3).map(|sequence| (SENSOR, sequence)).collect();
        assert_eq!(recovered(&mut log), expected, "cut at {len}");
        assert_eq!(log.counts().set_aside, u64::from(len > 0 && log.files_set_aside(&directory.0)), "cut at {len}");
        log.append(&event(100)).unwrap();
        log.finish().unwrap();
        let files = EventLog::files(&directory.0).unwrap();
        assert!(files.last().unwrap().ends_with("events-0000000002.mcap"), "{files:?}");
        sound(&files);
    }
}

impl EventLog {
    fn files_set_aside(&self, directory: &Path) -> bool {
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        names.into_iter().any(|path| path.extension().is_some_and(|extension| extension == "damaged"))
    }
}

#[test]
fn a_damaged_group_is_counted_and_the_others_are_told() {
    let directory = Directory::new();
    let mut log = EventLog::open(&directory.0).unwrap();
    for sequence in 1..4 {
        log.append(&event(sequence)).unwrap();
        log.commit().unwrap();
    }
    log.finish().unwrap();
    let file = EventLog::files(&directory.0).unwrap().remove(0);
    let second = Recording::open(&file).unwrap().chunks().nth(1).unwrap().offset;
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[second as usize + 49 + 35] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut log = EventLog::open(&directory.0).unwrap();
    assert_eq!(recovered(&mut log), [(SENSOR, 1), (SENSOR, 3)]);
    assert_eq!(log.counts().damaged_groups, 1);
}

#[test]
fn old_files_are_removed_by_size_and_counted() {
    let directory = Directory::new();
    let options = EventLog::options().file_bytes(1000).max_bytes(5000);
    let mut log = options.clone().open(&directory.0).unwrap();
    for sequence in 1..200 {
        log.append(&event(sequence)).unwrap();
        log.commit().unwrap();
    }
    let removed = log.counts().removed_files;
    assert!(removed > 10 && log.counts().removed_bytes > removed * 1000, "{:?}", log.counts());
    log.finish().unwrap();
    let mut log = options.open(&directory.0).unwrap();
    let there = recovered(&mut log);
    assert!(!there.is_empty() && there.len() < 60, "{}", there.len());
    let last: Vec<_> = (200 - there.len() as u64..200).map(|sequence| (SENSOR, sequence)).collect();
    assert_eq!(there, last, "the newest ones stay");
    drop(log);
    // By age: all of them are.
    let log = EventLog::options().max_age(Duration::from_nanos(1)).open(&directory.0).unwrap();
    assert!(log.counts().removed_files > 0);
    assert_eq!(EventLog::files(&directory.0).unwrap(), Vec::<PathBuf>::new());
    let absurd = EventLog::options().max_bytes(1000).open(&directory.0);
    assert!(matches!(absurd, Err(Error::InvalidOption { option: "max_bytes", .. })));
}

#[test]
fn each_way_to_sync_promises_what_it_keeps() {
    for (sync, durability) in [
        (EventSync::Group, Durability::Synced),
        (EventSync::Interval(Duration::from_millis(1)), Durability::Interval),
        (EventSync::None, Durability::Written),
    ] {
        let directory = Directory::new();
        let mut log = EventLog::options().sync(sync).open(&directory.0).unwrap();
        assert_eq!(log.durability(), durability);
        for sequence in 1..100 {
            log.append(&event(sequence)).unwrap();
            log.commit().unwrap();
        }
        log.finish().unwrap();
        let mut log = EventLog::open(&directory.0).unwrap();
        assert_eq!(recovered(&mut log).len(), 99);
    }
}

#[test]
fn a_full_disk_keeps_the_group_and_takes_it_when_there_is_room() {
    // More than is set aside at once.
    with_small_disk(20 << 20, |disk| {
        let mut log = EventLog::open(disk.join("log")).unwrap();
        let big = vec![7; 1 << 20];
        log.append(&Event { payload: &big, ..event(1) }).unwrap();
        log.commit().unwrap();
        fill(disk);
        let mut sequence = 1;
        while log.commit().is_ok() {
            sequence += 1;
            log.append(&Event { payload: &big, ..event(sequence) }).unwrap();
        }
        assert!(log.commit().is_err());
        assert!(log.counts().failed_commits >= 2);
        std::fs::remove_file(disk.join("other")).unwrap();
        log.commit().unwrap();
        log.finish().unwrap();
        sound(&EventLog::files(disk.join("log")).unwrap());
        let mut log = EventLog::open(disk.join("log")).unwrap();
        let expected: Vec<_> = (1..=sequence).map(|sequence| (SENSOR, sequence)).collect();
        assert_eq!(recovered(&mut log), expected);
        drop(log);
        std::fs::remove_dir_all(disk.join("log")).unwrap();
    });
}
