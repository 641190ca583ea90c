//! What is promised of a file that was cut off or damaged: what is whole is kept, what is not is found.
#![cfg(feature = "tank")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use conduit::tank::{Compression, Error, Query, Recorder, Recording, SyncPolicy, Writer, check, recover};
use conduit::topic::{Overflow, Schema, SlotKind};
use support::{Directory, Domain, LEN, message, number, rounds};

/// Records two topics into a small file of several chunks.
fn record(path: &Path, domain: &Domain, compression: Compression) {
    let open = |topic| domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block).open(topic).unwrap();
    let (mut a, mut b) = (open("a"), open("b"));
    let recorder = Recorder::options()
        .domain(domain.name())
        .compression(compression)
        .sync(SyncPolicy::None)
        .chunk_bytes(500)
        .metadata("robot", "r2")
        .start(path)
        .unwrap();
    for at in 0..20 {
        a.publish(&message(LEN, at)).unwrap();
        b.publish(&message(LEN, at)).unwrap();
    }
    let report = recorder.stop();
    assert_eq!(report.total().recorded, 40);
    a.remove().unwrap();
    b.remove().unwrap();
}

/// As [`record`], but that both topics come at the beginning, so that the rest of the file does without telling of them.
fn record_both_at_once(path: &Path, domain: &Domain, compression: Compression) {
    let open = |topic| domain.publisher_of(SlotKind::Words, LEN).overflow(Overflow::Block).open(topic).unwrap();
    let (mut a, mut b) = (open("a"), open("b"));
    let options = Recorder::options().domain(domain.name()).compression(compression).sync(SyncPolicy::None);
    let recorder = options.chunk_bytes(500).start(path).unwrap();
    for at in 0..20 {
        a.publish(&message(LEN, at)).unwrap();
        b.publish(&message(LEN, at)).unwrap();
        support::eventually("both are taken", || recorder.progress().messages == 2 * (at + 1));
    }
    assert_eq!(recorder.stop().total().recorded, 40);
    a.remove().unwrap();
    b.remove().unwrap();
}

fn read(path: &Path) -> BTreeMap<String, Vec<u64>> {
    let recording = Recording::open(path).unwrap();
    assert!(recording.is_complete(), "{:?}", recording.problems());
    let mut numbers = BTreeMap::<String, Vec<u64>>::new();
    let mut messages = recording.messages(Query::new()).unwrap();
    while let Some(message) = messages.next().unwrap() {
        numbers.entry(message.topic.name.clone()).or_default().push(number(message.data).unwrap());
    }
    numbers
}

/// Where each chunk of a file ends, and how many messages there are up to there.
fn chunk_ends(path: &Path) -> Vec<(u64, u64)> {
    let bytes = std::fs::read(path).unwrap();
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut ends = vec![];
    let (mut at, mut messages) = (8, 0);
    while bytes[at] != 0x0f {
        let end = at + 9 + u64_at(at + 1) as usize;
        match bytes[at] {
            0x06 => ends.push((end as u64, 0)),
            // An index: its entries are the messages of the chunk.
            0x07 => {
                messages += u64::from(u32::from_le_bytes(bytes[at + 11..at + 15].try_into().unwrap())) / 16;
                ends.last_mut().unwrap().1 = messages;
            }
            _ => {}
        }
        at = end;
    }
    ends
}

#[test]
fn a_file_that_is_cut_at_any_byte_keeps_the_messages_of_each_chunk_that_is_whole() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd { level: 1 }] {
        let domain = Domain::new();
        let directory = Directory::in_memory(&domain);
        let (whole, cut) = (directory.file("whole.mcap"), directory.file("cut.mcap"));
        record(&whole, &domain, compression);
        let bytes = std::fs::read(&whole).unwrap();
        let ends = chunk_ends(&whole);
        assert!(ends.len() > 2 && ends.last().unwrap().1 == 40, "{ends:?}");
        let step = (bytes.len() / rounds(bytes.len() as u32) as usize).max(1);
        for len in (0..bytes.len()).step_by(step) {
            std::fs::write(&cut, &bytes[..len]).unwrap();
            let expected = ends.iter().filter(|(end, _)| *end <= len as u64).map(|(_, messages)| *messages).max();
            match recover(&cut) {
                Err(Error::NotMcap { .. } | Error::Damaged { .. }) => {
                    assert!(len < 100, "cut at {len}: it was not recovered");
                    assert_eq!(std::fs::read(&cut).unwrap(), bytes[..len], "what cannot be recovered stays as it is");
                    continue;
                }
                Err(error) => panic!("cut at {len}: {error}"),
                Ok(recovered) => {
                    assert_eq!(recovered.messages(), expected.unwrap_or(0), "cut at {len}");
                    assert!(!recovered.was_complete);
                }
            }
            let checked = check(&cut).unwrap();
            assert!(checked.is_sound(), "cut at {len}: {:?}", checked.findings);
            assert_eq!(checked.messages, expected.unwrap_or(0));
            for numbers in read(&cut).values() {
                assert_eq!(*numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "cut at {len}");
            }
            let again = std::fs::read(&cut).unwrap();
            assert!(recover(&cut).unwrap().was_complete);
            assert_eq!(std::fs::read(&cut).unwrap(), again, "a file that has an end stays as it is");
        }
    }
}

#[test]
fn a_byte_that_is_changed_is_found_wherever_it_matters() {
    for compression in [Compression::None, Compression::Zstd { level: 1 }] {
        let domain = Domain::new();
        let directory = Directory::in_memory(&domain);
        let (whole, changed) = (directory.file("whole.mcap"), directory.file("changed.mcap"));
        record(&whole, &domain, compression);
        let bytes = std::fs::read(&whole).unwrap();
        assert!(check(&whole).unwrap().is_sound());
        // What nobody else says, and no checksum covers: who wrote the file, and what is written about it.
        let (mut uncovered, mut kinds) = (Vec::new(), Vec::new());
        let (mut at, mut kind) = (8, 0x01);
        while at < bytes.len() - 8 && kind != 0x02 {
            kind = bytes[at];
            let end = at + 9 + u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
            if matches!(kind, 0x01 | 0x0c) {
                uncovered.push(at + 9..end);
            }
            kinds.push((kind, at..end));
            at = end;
        }
        let step = (bytes.len() / rounds(bytes.len() as u32) as usize).max(1);
        for at in (8..bytes.len()).step_by(step) {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            std::fs::write(&changed, &other).unwrap();
            let found = check(&changed).map_or(true, |checked| !checked.is_sound());
            let is_covered = !uncovered.iter().any(|range| range.contains(&at));
            let within = || kinds.iter().find(|(_, range)| range.contains(&at));
            // Compressed, the same can be said in more than one way.
            let is_same = || compression != Compression::None && read(&changed) == read(&whole);
            assert!(
                found || !is_covered || is_same(),
                "byte {at} was changed from {:#x}, and nobody noticed: in {:x?}",
                bytes[at],
                within()
            );
        }
    }
}

#[test]
fn a_file_that_is_being_written_is_left_to_its_recorder() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut publisher = domain.bytes().open("t").unwrap();
    let recorder = Recorder::options().domain(domain.name()).start(&path).unwrap();
    publisher.publish(b"a").unwrap();
    assert!(matches!(recover(&path), Err(Error::InUse { .. })));
    let report = recorder.stop();
    assert_eq!(report.total().recorded, 1);
    assert!(recover(&path).unwrap().was_complete);
}

#[test]
fn what_a_killed_recorder_lost_is_told_by_the_gaps_in_its_numbers() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    for (is_recording, lost) in [(true, 15), (false, 0)] {
        let path = directory.file(&format!("run{is_recording}.mcap"));
        // What a recorder leaves that lost messages and was killed before it could say so.
        let mut writer = Writer::options().chunk_bytes(1).create(&path).unwrap();
        if is_recording {
            writer.add_metadata("conduit.recording", &[("part", "0")]).unwrap();
        }
        let topic = writer.add_topic("t", &Schema::opaque(), &[]).unwrap();
        for at in (0..10).chain(25..30) {
            writer.write(topic, at, u64::from(at), b"x").unwrap();
        }
        writer.finish().unwrap();
        let (end, _) = *chunk_ends(&path).last().unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end).unwrap();
        let recovered = recover(&path).unwrap();
        // In files of others the numbers mean whatever they mean.
        assert_eq!((recovered.topics["t"].recorded, recovered.topics["t"].lost), (15, lost));
        let counts = Recording::open(&path).unwrap().counts().unwrap();
        assert!(!is_recording || counts == recovered.topics, "{counts:?}");
    }
}

#[test]
fn what_was_left_out_on_purpose_is_no_loss_after_a_kill_either() {
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let path = directory.file("run.mcap");
    let mut publisher = domain.publisher_of(SlotKind::Words, LEN).depth(16).open("t").unwrap();
    let recorder =
        Recorder::options().domain(domain.name()).sync(SyncPolicy::None).chunk_bytes(100).start(&path).unwrap();
    let mut publish = |numbers: std::ops::Range<u64>| {
        for at in numbers {
            publisher.publish(&message(LEN, at)).unwrap();
            let lag = || conduit::topic::inspect(Some(domain.name()), "t").unwrap().subscribers[0].lag;
            support::eventually("it is taken", || lag() == 0);
        }
    };
    publish(0..10);
    recorder.pause();
    publish(10..25);
    recorder.resume();
    publish(25..30);
    let report = recorder.stop();
    assert_eq!((report.topics["t"].recorded, report.topics["t"].paused), (15, 15));
    let (end, _) = *chunk_ends(&path).last().unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end).unwrap();
    let counts = recover(&path).unwrap().topics["t"];
    assert_eq!((counts.recorded, counts.lost, counts.paused), (15, 0, 15));
}

/// A bad sector, wherever it is: what it has hit is gone, and nothing else.
#[test]
fn what_is_behind_damage_is_recovered_too() {
    for compression in [Compression::None, Compression::Lz4] {
        let domain = Domain::new();
        let directory = Directory::in_memory(&domain);
        let (whole, damaged) = (directory.file("whole.mcap"), directory.file("damaged.mcap"));
        record_both_at_once(&whole, &domain, compression);
        let bytes = std::fs::read(&whole).unwrap();
        let ends = chunk_ends(&whole);
        // As a recorder leaves it that was killed: without an end.
        let killed = &bytes[..ends.last().unwrap().0 as usize];
        let all = |path: &Path| -> BTreeSet<(String, u64)> {
            read(path)
                .into_iter()
                .flat_map(|(topic, numbers)| numbers.into_iter().map(move |n| (topic.clone(), n)))
                .collect()
        };
        // What there is up to the end of each chunk.
        let up_to: Vec<_> = ends
            .iter()
            .map(|(end, _)| {
                std::fs::write(&damaged, &bytes[..*end as usize]).unwrap();
                recover(&damaged).unwrap();
                all(&damaged)
            })
            .collect();
        let everything = up_to.last().unwrap();
        // From where both topics are known.
        let begin = up_to.iter().position(|known| known.contains(&("b".into(), 0))).unwrap();
        let step = (killed.len() / rounds(killed.len() as u32) as usize).max(1);
        for (len, filler) in [(1, 0xff), (9, 0), (100, 0xa5)] {
            for at in (ends[begin].0 as usize..killed.len() - len).step_by(step) {
                let mut other = killed.to_vec();
                other[at..at + len].fill(filler);
                std::fs::write(&damaged, &other).unwrap();
                recover(&damaged).unwrap();
                let found = all(&damaged);
                // Gone are at most the chunks that were hit, and the one that follows, whose beginning the walk may miss.
                let before = ends.iter().rposition(|(end, _)| *end <= at as u64).unwrap();
                let behind = ends.iter().position(|(end, _)| *end >= (at + len) as u64).unwrap();
                let behind = (behind + 1).min(ends.len() - 1);
                let lost: Vec<_> = everything.difference(&found).collect();
                let may_be_lost =
                    |message: &&(String, u64)| !up_to[before].contains(*message) && up_to[behind].contains(*message);
                assert!(lost.iter().all(may_be_lost), "{len} bytes at {at}: {lost:?} are lost");
                assert!(found.is_subset(everything), "{len} bytes at {at}");
                let again = std::fs::read(&damaged).unwrap();
                assert!(recover(&damaged).unwrap().was_complete);
                assert_eq!(std::fs::read(&damaged).unwrap(), again);
            }
        }
    }
}
