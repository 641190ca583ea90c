//! What is promised of files that are not what they say, and of those that others wrote.
#![cfg(feature = "tank")]

mod support;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use conduit::tank::{Problem, Recording, check, recover};
use support::{Directory, Domain};

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn record(opcode: u8, body: &[u8]) -> Vec<u8> {
    [&[opcode][..], &(body.len() as u64).to_le_bytes(), body].concat()
}

fn file(records: &[Vec<u8>]) -> Vec<u8> {
    let header = record(1, &[text(""), text("another")].concat());
    [&b"\x89MCAP0\r\n"[..], &header, &records.concat()].concat()
}

fn channel(id: u16, topic: &str) -> Vec<u8> {
    record(4, &[&id.to_le_bytes()[..], &[0; 2], &text(topic), &text(""), &[0; 4]].concat())
}

fn message(channel: u16, sequence: u32, time: u64) -> Vec<u8> {
    let times = [time.to_le_bytes(), time.to_le_bytes()].concat();
    record(5, &[&channel.to_le_bytes()[..], &sequence.to_le_bytes(), &times, b"data"].concat())
}

#[test]
fn a_file_of_others_that_has_an_end_stays_as_it_is() {
    let domain = Domain::new();
    let directory = Directory::in_memory(&domain);
    for name in ["none", "lz4", "zstd", "crc", "unchunked", "unindexed", "bare", "rosbags"] {
        let path = directory.file("copy.mcap");
        let bytes = std::fs::read(Path::new("tests/data").join(format!("{name}.mcap"))).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let recovered = recover(&path).unwrap();
        assert_eq!((recovered.was_complete, recovered.cut), (true, 0), "{name}");
        assert_eq!(recovered.messages(), if name == "rosbags" { 10 } else { 40 }, "{name}");
        assert!(std::fs::read(&path).unwrap() == bytes, "{name}");
    }
}

#[test]
fn numbers_that_others_give_their_messages_tell_of_no_loss() {
    let domain = Domain::new();
    let directory = Directory::in_memory(&domain);
    for name in ["none", "lz4", "zstd", "crc", "unchunked", "unindexed", "bare"] {
        let path = directory.file("cut.mcap");
        let bytes = std::fs::read(Path::new("tests/data").join(format!("{name}.mcap"))).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
        let recovered = recover(&path).unwrap();
        assert!(!recovered.was_complete);
        assert_eq!(recovered.messages(), 40, "{name}");
        assert!(recovered.topics.values().all(|counts| counts.lost == 0), "{name}: {:?}", recovered.topics);
        let checked = check(&path).unwrap();
        assert!(checked.is_sound(), "{name}: {:?}", checked.findings);
        assert!(recover(&path).unwrap().was_complete, "{name}");
    }
}

#[test]
fn a_recovery_that_is_interrupted_anywhere_can_be_done_again() {
    let domain = Domain::new();
    let directory = Directory::in_memory(&domain);
    let path = directory.file("again.mcap");
    let whole = std::fs::read("tests/data/zstd.mcap").unwrap();
    let cut = &whole[..whole.len() / 3];
    std::fs::write(&path, cut).unwrap();
    let once = recover(&path).unwrap();
    assert!(!once.was_complete && once.messages() > 0 && once.messages() < 40, "{once:?}");
    let recovered = std::fs::read(&path).unwrap();
    let kept = cut.len() - once.cut as usize;
    assert_eq!(recovered[..kept], cut[..kept]);
    // It has cut off what is not whole, and written as much of the rest as it came to.
    for len in kept..recovered.len() {
        std::fs::write(&path, &recovered[..len]).unwrap();
        let again = recover(&path).unwrap();
        assert_eq!((&again.topics, again.times, again.damaged), (&once.topics, once.times, 0), "at {len}");
        let checked = check(&path).unwrap();
        assert!(checked.is_sound() && checked.messages == once.messages(), "at {len}: {checked:?}");
    }
}

#[test]
fn the_messages_of_a_topic_with_two_channels_are_counted_together() {
    let domain = Domain::new();
    let directory = Directory::in_memory(&domain);
    let path = directory.file("two.mcap");
    std::fs::write(
        &path,
        file(&[channel(1, "t"), message(1, 0, 5), channel(2, "t"), message(2, 1, 6), message(2, 2, 7)]),
    )
    .unwrap();
    for was_complete in [false, true] {
        let recovered = recover(&path).unwrap();
        assert_eq!((recovered.was_complete, recovered.messages()), (was_complete, 3));
        assert_eq!(recovered.topics["t"].recorded, 3);
    }
}

#[test]
fn counts_that_cannot_be_added_are_no_panic() {
    let domain = Domain::new();
    let directory = Directory::in_memory(&domain);
    let path = directory.file("counts.mcap");
    let most = u64::MAX;
    let counts = [text("t"), text(&format!("recorded={most} lost={most} paused={most} expired={most}"))].concat();
    let metadata = record(12, &[text("conduit.loss"), (counts.len() as u32).to_le_bytes().to_vec(), counts].concat());
    let latched = [text("conduit.latched"), text("true")].concat();
    let head = [&1u16.to_le_bytes()[..], &[0; 2], &text("t"), &text("")].concat();
    let channel = record(4, &[head, (latched.len() as u32).to_le_bytes().to_vec(), latched].concat());
    std::fs::write(&path, file(&[channel, message(1, 0, 5), metadata])).unwrap();
    assert!(!check(&path).unwrap().is_sound());
    recover(&path).unwrap();
    assert_eq!(check(&path).unwrap().counts["t"].recorded, most);
}

/// Runs `with` and returns how many bytes more it took than there were before, at most. One at a time: the kernel counts for
/// the whole process.
fn memory_of<T>(with: impl FnOnce() -> T) -> (T, u64) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = |name| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    let before = bytes("VmRSS:");
    // Has the peak begin anew.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let done = with();
    (done, bytes("VmHWM:").saturating_sub(before))
}

#[test]
fn what_is_damaged_is_counted_and_not_listed_without_end() {
    // Messages that are too short to be any.
    let bytes: Arc<[u8]> = file(&vec![record(5, &[]); 4_000_000]).into();
    let (recording, memory) = memory_of(|| Recording::options().memory(1 << 20).read(bytes).unwrap());
    assert!(memory < 16 << 20, "{} MB", memory >> 20);
    assert!(recording.problems().len() < 2000, "{}", recording.problems().len());
    let more = Problem::More { records: 4_000_000 - 1000 };
    assert_eq!(recording.problems().last(), Some(&more));
}

#[test]
fn channels_that_are_packed_tight_take_no_more_than_is_allowed() {
    let zeros = "x".repeat(4 << 20);
    let chunk = |id: u16| {
        let records = channel(id, &zeros);
        let packed = lz4(&records);
        let size = (records.len() as u64).to_le_bytes();
        record(6, &[&[0; 16][..], &size, &[0; 4], &text("lz4"), &(packed.len() as u64).to_le_bytes(), &packed].concat())
    };
    let bytes: Arc<[u8]> = file(&(1..50).map(chunk).collect::<Vec<_>>()).into();
    let (recording, memory) = memory_of(|| Recording::options().memory(8 << 20).read(bytes).unwrap());
    assert!(memory < 64 << 20, "{} MB", memory >> 20);
    assert_eq!((recording.topics().len(), recording.is_complete()), (1, false));
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
