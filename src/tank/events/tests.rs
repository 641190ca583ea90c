//! Disks that fail as planned, and files of one process after the other.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::channels::{Key, Kind};
use super::journal::{Journal, Limits, Shelf, SyncFile};
use super::*;
use crate::dedup::ProducerId;
use crate::engine::{DeadLetter, DeadLetters, DeadReason, DurableLog, Event, Origin};
use crate::frame::{Durability, Encoding, Priority};
use crate::tank::read::{Query, Recording};
use crate::tank::small_disk::{fill, with_small_disk};
use crate::tank::storage::Storage;
use crate::tank::{Compression, Error, check};
use crate::topic::Pattern;

// ---------------------------------------------------------------------------------------------------------------------
// A disk in memory

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<Vec<u8>>,
    /// Steps until one fails: each write, each sync and each new file is one. A write that fails leaves a half.
    good: Option<u64>,
    /// How many fail then.
    bad: u64,
    errno: i32,
    /// Whether what a failed write left stays there.
    sticks: bool,
    syncs: u64,
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        match self.good {
            Some(0) if self.bad > 0 => {
                self.bad -= 1;
                Err(io::Error::from_raw_os_error(self.errno))
            }
            Some(good) => {
                self.good = Some(good.saturating_sub(1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

struct InMemory(Disk, usize);

impl Storage for InMemory {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.0.0.lock().unwrap();
        let done = state.step();
        let len = if done.is_err() { bytes.len() / 2 } else { bytes.len() };
        let (file, offset) = (&mut state.files[self.1], offset as usize);
        assert!(offset <= file.len(), "a hole");
        file.resize(file.len().max(offset + len), 0);
        file[offset..offset + len].copy_from_slice(&bytes[..len]);
        done
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let state = &mut *self.0.0.lock().unwrap();
        if state.sticks && state.good == Some(0) {
            return Err(io::Error::from_raw_os_error(state.errno));
        }
        state.files[self.1].truncate(len as usize);
        Ok(())
    }

    fn reserve(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(0)
    }
}

impl Shelf for Disk {
    type Storage = InMemory;

    fn create(&mut self) -> Result<(PathBuf, InMemory, SyncFile), Error> {
        let state = &mut *self.0.lock().unwrap();
        let path = PathBuf::from("memory");
        state.step().map_err(|source| Error::write(&path, source))?;
        state.files.push(Vec::new());
        let (disk, file) = (self.clone(), state.files.len() - 1);
        let sync = move || {
            let state = &mut *disk.0.lock().unwrap();
            state.syncs += 1;
            state.step()
        };
        Ok((path, InMemory(self.clone(), file), Arc::new(sync)))
    }
}

impl Disk {
    /// The numbers of all messages, in the order of the files.
    fn read(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for file in &self.0.lock().unwrap().files {
            // One that failed before anything was written to it.
            let Ok(recording) = Recording::options().read(file.clone()) else { continue };
            let mut messages = recording.messages(Query::new()).unwrap();
            while let Some(message) = messages.next().unwrap() {
                assert_eq!(message.data, message.sequence.to_le_bytes());
                assert_eq!(message.topic.name, topic_of(message.sequence));
                found.push(message.sequence);
            }
        }
        found
    }
}

fn topic_of(number: u32) -> String {
    format!("t{}", number % 5)
}

const LIMITS: Limits = Limits { bytes: 2000, chunks: 5, channels: 3, group: 1 << 20 };

fn append(journal: &mut Journal<Disk>, number: u32) -> Result<(), Error> {
    let topic = topic_of(number);
    let kind = Kind::Event { producer: [7; 16], high: 0, priority: Priority::Low };
    let [channel] = journal.channels([&Key { topic: &topic, encoding: Encoding::Raw, kind }], true)?;
    journal.append(channel, number, (number.into(), 0), &number.to_le_bytes());
    Ok(())
}

/// Every place at which a disk can fail: a write, a sync, a new file; once or for a while; full or broken.
#[test]
fn a_disk_that_fails_anywhere_costs_no_event_and_repeats_none() {
    for good in 0..70 {
        let compression = if good % 7 == 3 { Compression::Lz4 } else { Compression::None };
        for (bad, errno, sticks) in [(1, libc::EIO, false), (3, libc::ENOSPC, false), (2, libc::EIO, true)] {
            let disk = Disk::default();
            {
                let state = &mut *disk.0.lock().unwrap();
                (state.good, state.bad, state.errno, state.sticks) = (Some(good), bad, errno, sticks);
            }
            let mut journal = Journal::new(disk.clone(), compression, LIMITS).unwrap();
            let (mut taken, mut committed, mut failures) = (0, 0, 0);
            while committed < 36 {
                let done = if taken < committed + 3 { append(&mut journal, taken) } else { journal.commit(true) };
                match done {
                    Ok(()) if taken < committed + 3 => taken += 1,
                    Ok(()) => committed = taken,
                    Err(Error::Io { source, .. }) => {
                        assert_eq!(source.raw_os_error(), Some(errno));
                        failures += 1;
                        let mut there = disk.read();
                        assert!(there.len() as u32 >= committed, "{there:?}: {committed} are committed");
                        if sticks {
                            // What a failed sync left, and could not be removed, is there again in the next file.
                            there.sort_unstable();
                            there.dedup();
                        }
                        assert_eq!(there, (0..there.len() as u32).collect::<Vec<_>>(), "{good} {bad}");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            journal.end_file();
            let mut there = disk.read();
            if sticks {
                there.sort_unstable();
                there.dedup();
            }
            assert_eq!(there, (0..36).collect::<Vec<_>>(), "after {good} steps {bad} failed");
            let state = disk.0.lock().unwrap();
            // But for those that nobody waits for: the end of a file is one.
            assert!(
                failures > 0 || state.bad == bad || bad < 3,
                "after {good} steps {bad} failed, and nobody was told"
            );
            assert!(state.files.len() > 5, "{} files", state.files.len());
        }
    }
}

#[test]
fn a_commit_is_one_write_and_one_sync() {
    let disk = Disk::default();
    let mut journal = Journal::new(disk.clone(), Compression::None, Limits { bytes: 1 << 20, ..LIMITS }).unwrap();
    for number in 0..3 {
        append(&mut journal, number).unwrap();
    }
    journal.commit(true).unwrap();
    // A new file, its beginning, the group, the sync.
    let mut state = disk.0.lock().unwrap();
    assert_eq!(state.syncs, 1);
    state.good = Some(2);
    drop(state);
    for number in [5, 6] {
        append(&mut journal, number).unwrap();
    }
    journal.commit(true).unwrap();
    let state = disk.0.lock().unwrap();
    assert_eq!((state.good, state.syncs, state.files.len()), (Some(0), 2, 1));
}

// ---------------------------------------------------------------------------------------------------------------------
// Directories

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Directory(std::env::temp_dir().join(format!("conduit-events-{}-{number}", std::process::id())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SENSOR: ProducerId = *b"sensor 1, boot 9";

fn event(sequence: u64) -> Event<'static> {
    Event {
        topic: "orders/new",
        payload: b"{\"item\":7}",
        priority: Priority::High,
        encoding: Encoding::Json,
        producer: SENSOR,
        sequence,
        timestamp: sequence.saturating_mul(10),
        received: 1_000_000_000 + sequence % 1000,
        origin: Origin::Tcp("10.0.0.7:4242".parse().unwrap()),
    }
}

fn recovered(log: &mut EventLog) -> Vec<(ProducerId, u64)> {
    let mut seen = Vec::new();
    log.recover(&mut |producer, sequence| seen.push((*producer, sequence))).unwrap();
    seen
}

fn sound(files: &[PathBuf]) {
    for file in files {
        let checked = check(file).unwrap();
        assert!(checked.is_sound(), "{}: {:?}", file.display(), checked.findings);
    }
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
    assert_eq!(EventLog::files(&directory.0).unwrap(), [PathBuf::new(); 0]);
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

// ---------------------------------------------------------------------------------------------------------------------
// Letters

fn letter(number: u64) -> DeadLetter<'static> {
    let reason = DeadReason::ALL[number as usize % 7];
    let priority = Priority::from_code((number % 5) as u8).unwrap();
    let topic = if number % 2 == 0 { "orders/new" } else { "orders/gone" };
    let event = Event { topic, priority, ..event((number << 32) + number) };
    DeadLetter { event, reason, attempts: number as u32, detail: "no \"such\"\nitem \u{1b}[31m" }
}

fn read(letters: &DeadLetterBox, filter: LetterFilter) -> Vec<Letter> {
    letters.letters(filter).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn everything_about_a_letter_is_read_again_also_while_more_are_written() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    for round in 1..4 {
        for number in (round - 1) * 50..round * 50 {
            assert!(store.has_room());
            store.keep(&letter(number)).unwrap();
        }
        store.flush().unwrap();
        let found = read(&letters, LetterFilter::new());
        assert_eq!(found.len() as u64, round * 50);
        for (number, found) in found.iter().enumerate() {
            assert_eq!(found.letter(), letter(number as u64));
            assert_eq!(letters.get(found.id).unwrap().as_ref(), Some(found));
        }
    }
    let ids: Vec<_> = read(&letters, LetterFilter::new()).iter().map(|letter| letter.id).collect();
    drop(store);
    sound(&files(&directory.0));
    let again: Vec<_> = read(&letters, LetterFilter::new()).iter().map(|letter| letter.id).collect();
    assert_eq!(ids, again, "names stay");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    super::series::files(directory, "dead-letters").unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn letters_are_found_by_what_is_asked_for() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    (0..140).for_each(|number| store.keep(&letter(number)).unwrap());
    drop(store);
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    let count = |filter: LetterFilter| read(&letters, filter).len();
    assert_eq!(count(LetterFilter::new()), 140);
    assert_eq!(count(LetterFilter::new().topic(Pattern::new("orders/g*"))), 70);
    assert_eq!(count(LetterFilter::new().reason(DeadReason::Panicked)), 20);
    assert_eq!(count(LetterFilter::new().priority(Priority::Critical)), 28);
    assert_eq!(count(LetterFilter::new().since(1_000_000_100)), 140 - (0..140u64).filter(|n| late(*n) < 100).count());
    let both = LetterFilter::new().reason(DeadReason::Panicked).topic(Pattern::new("orders/new"));
    assert_eq!(count(both), 10);
    assert_eq!(letters.get(LetterId { file: 1, place: 200 }).unwrap(), None);
}

fn late(number: u64) -> u64 {
    letter(number).event.received - 1_000_000_000
}

#[test]
fn what_is_cleared_is_gone_and_nothing_else() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::options().max_bytes(16 * 10_000).open(&directory.0).unwrap();
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    for number in 0..200 {
        store.keep(&letter(number)).unwrap();
        store.flush().unwrap();
    }
    let file_count = files(&directory.0).len();
    assert!(file_count > 3, "{file_count}");
    let cleared = letters.clear(&LetterFilter::new().reason(DeadReason::Rejected)).unwrap();
    assert_eq!((cleared.letters, cleared.files), ((0..200).filter(|number| number % 7 == 2).count() as u64, 0));
    let left: Vec<_> = (0..200).filter(|number| number % 7 != 2).collect();
    assert_eq!(read(&letters, LetterFilter::new()).iter().map(|l| u64::from(l.attempts)).collect::<Vec<_>>(), left);
    // One by its name.
    let first = read(&letters, LetterFilter::new()).remove(0);
    assert_eq!(letters.clear(&LetterFilter::new().ids([first.id])).unwrap().letters, 1);
    assert_eq!(letters.get(first.id).unwrap(), None);
    assert_eq!(letters.clear(&LetterFilter::new().ids([first.id])).unwrap(), Cleared::default());
    // All: those of the file that is being written are marked; the others go.
    let cleared = letters.clear(&LetterFilter::new()).unwrap();
    assert_eq!(cleared.letters, left.len() as u64 - 1);
    assert_eq!(cleared.files, file_count as u64 - 1);
    assert_eq!(read(&letters, LetterFilter::new()), []);
    // What comes behind it is seen.
    store.keep(&letter(7)).unwrap();
    store.flush().unwrap();
    let found = read(&letters, LetterFilter::new());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].letter(), letter(7));
    drop(store);
    assert_eq!(letters.clear(&LetterFilter::new()).unwrap().files, 1);
    assert_eq!(files(&directory.0), [PathBuf::new(); 0]);
    // A name is given once.
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    store.keep(&letter(8)).unwrap();
    drop(store);
    let found = read(&letters, LetterFilter::new());
    assert!(found[0].id.file as usize > file_count, "{}", found[0].id);
}

#[test]
fn a_store_that_is_full_has_room_again_when_it_is_cleared() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::options().max_bytes(64 << 10).open(&directory.0).unwrap();
    let mut kept = 0;
    while store.has_room() {
        store.keep(&letter(kept)).unwrap();
        store.flush().unwrap();
        kept += 1;
    }
    let on_disk: u64 = files(&directory.0).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    assert!((60 << 10..70 << 10).contains(&on_disk), "{on_disk} bytes");
    // A few may be on their way.
    store.keep(&letter(kept)).unwrap();
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    assert!(letters.clear(&LetterFilter::new()).unwrap().bytes > 50 << 10);
    let start = std::time::Instant::now();
    while !store.has_room() {
        assert!(start.elapsed() < Duration::from_secs(40));
        std::thread::yield_now();
    }
    store.flush().unwrap();
    let found = read(&letters, LetterFilter::new());
    assert_eq!(found.len(), 1, "what had not been written was not cleared");
    assert_eq!(found[0].letter(), letter(kept));
}

#[test]
fn letters_are_removed_when_their_file_is_too_old() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    (0..10).for_each(|number| store.keep(&letter(number)).unwrap());
    drop(store);
    let store = DeadLetterStore::options().max_age(Duration::from_nanos(1)).open(&directory.0).unwrap();
    assert_eq!((store.counts().removed_files, store.bytes()), (1, 0));
    assert_eq!(files(&directory.0), [PathBuf::new(); 0]);
}

#[test]
fn letters_of_more_topics_than_a_file_can_have_go_to_another() {
    let directory = Directory::new();
    let mut store = DeadLetterStore::open(&directory.0).unwrap();
    let topics: Vec<String> = (0..70_000).map(|number| format!("t{number}")).collect();
    for topic in &topics {
        let event = Event { topic, payload: b"", ..event(1) };
        store.keep(&DeadLetter { event, ..letter(1) }).unwrap();
    }
    drop(store);
    assert_eq!(files(&directory.0).len(), 2);
    let letters = DeadLetterBox::open(&directory.0).unwrap();
    let found = letters.letters(LetterFilter::new()).unwrap().map(|letter| letter.unwrap().topic);
    assert!(found.eq(topics));
}

#[test]
fn what_a_killed_store_left_is_taken_over_and_can_be_cleared_before() {
    for clear in [false, true] {
        let directory = Directory::new();
        let mut store = DeadLetterStore::open(&directory.0).unwrap();
        (0..10).for_each(|number| store.keep(&letter(number)).unwrap());
        store.flush().unwrap();
        let file = files(&directory.0).remove(0);
        let bytes = std::fs::read(&file).unwrap();
        drop(store);
        std::fs::write(&file, &bytes).unwrap();
        // Torn behind the group.
        OpenOptions::new()
            .append(true)
            .open(&file)
            .and_then(|mut file| io::Write::write_all(&mut file, b"\x06abc"))
            .unwrap();
        let letters = DeadLetterBox::open(&directory.0).unwrap();
        assert_eq!(read(&letters, LetterFilter::new()).len(), 10);
        if clear {
            assert_eq!(letters.clear(&LetterFilter::new()).unwrap().files, 1);
        }
        let mut store = DeadLetterStore::open(&directory.0).unwrap();
        store.keep(&letter(11)).unwrap();
        drop(store);
        sound(&files(&directory.0));
        assert_eq!(read(&letters, LetterFilter::new()).len(), if clear { 1 } else { 11 });
    }
}
