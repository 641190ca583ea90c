//! What is promised of the event log when its process is killed: what was committed is there, once and in order.
#![cfg(feature = "tank")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use conduit::dedup::ProducerId;
use conduit::engine::{DurableLog, Event, Origin, StoreError};
use conduit::frame::{Durability, Encoding, Priority};
use conduit::tank::{Error, EventLog, EventSync, Query, Recording, check};
use support::{Directory, Domain, Noise, PATIENCE, Process, number, rounds, say};

const LEN: usize = 64;
/// Events of a group at most.
const GROUP: u64 = 40;
/// Where each producer begins, so that its sequences grow out of 32 bits.
const FIRST: u64 = (1 << 32) - 500;

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[("writer", writer), ("forgetful", forgetful)]);
}

/// Who made event `number`, and the number that it has there.
fn name(number: u64) -> (ProducerId, u64) {
    ([(number % 3) as u8 + 1; 16], FIRST + number / 3)
}

fn number_of(producer: &ProducerId, sequence: u64) -> u64 {
    (sequence - FIRST) * 3 + u64::from(producer[0]) - 1
}

fn event(number: u64, payload: &[u8]) -> Event<'_> {
    let (producer, sequence) = name(number);
    Event {
        topic: ["a", "b/c"][number as usize % 2],
        payload,
        priority: Priority::High,
        encoding: Encoding::Raw,
        producer,
        sequence,
        timestamp: number,
        received: number,
        origin: Origin::Local,
    }
}

fn open(directory: &Path, sync: EventSync) -> EventLog {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match EventLog::options().sync(sync).file_bytes(50_000).open(directory) {
            Ok(log) => return log,
            // The one that was killed is waited for already, but the kernel drops its locks when it likes.
            Err(Error::DirectoryInUse { .. } | Error::InUse { .. }) if Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Appends and commits for ever, from event `first` on; says after each commit how many there are then.
fn write(log: &mut dyn DurableLog, first: u64) {
    let mut noise = Noise::new(first);
    let mut next = first;
    say("begun");
    loop {
        for _ in 0..=noise.below(GROUP - 1) {
            log.append(&event(next, &support::message(LEN, next))).unwrap();
            next += 1;
        }
        log.commit().unwrap();
        say(next);
    }
}

fn writer(args: &[&str]) {
    let [directory, sync, first] = args else { panic!("directory, sync, first") };
    let sync = if *sync == "group" { EventSync::Group } else { EventSync::Interval(Duration::from_millis(1)) };
    write(&mut open(Path::new(directory), sync), first.parse().unwrap());
}

/// A log whose commits do nothing: what must be found.
struct Forgetful(EventLog);

impl DurableLog for Forgetful {
    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn recover(&mut self, seen: &mut dyn FnMut(&ProducerId, u64)) -> Result<(), StoreError> {
        self.0.recover(seen)
    }

    fn append(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        self.0.append(event)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn forgetful(args: &[&str]) {
    let [directory, first] = args else { panic!("directory, first") };
    write(&mut Forgetful(open(Path::new(directory), EventSync::Group)), first.parse().unwrap());
}

/// Kills a writer at some moment after it has begun to commit; returns how many events it said that it has committed.
fn kill_one(role: &str, args: &[&str], noise: &mut Noise) -> u64 {
    let mut process = Process::start(role, args);
    assert_eq!(process.line(), "begun");
    let mut committed: u64 = process.line().parse().unwrap();
    let until = Instant::now() + Duration::from_micros(noise.below(20_000));
    while Instant::now() < until {
        std::thread::yield_now();
    }
    process.signal(libc::SIGKILL);
    while let Some(line) = process.try_line() {
        // The last one may be cut short, and is a smaller number then.
        committed = committed.max(line.parse().unwrap_or(0));
    }
    committed
}

/// What is there after a kill: how many events, or what is wrong with them.
fn look(directory: &Path, committed: u64) -> Result<u64, String> {
    let mut log = open(directory, EventSync::Group);
    let mut there = Vec::new();
    log.recover(&mut |producer, sequence| there.push(number_of(producer, sequence))).unwrap();
    drop(log);
    if let Some((at, found)) = (0..).zip(&there).find(|(at, found)| at != *found) {
        return Err(format!("event {found} is where {at} should be"));
    }
    let there = there.len() as u64;
    // It may have died between a commit and saying so.
    if there < committed || there > committed + GROUP {
        return Err(format!("{committed} events were committed, and {there} are there"));
    }
    Ok(there)
}

/// All files as other readers see them.
fn read(directory: &Path) -> u64 {
    let mut next = 0;
    for file in EventLog::files(directory).unwrap() {
        let checked = check(&file).unwrap();
        assert!(checked.is_sound(), "{}: {:?}", file.display(), checked.findings);
        let recording = Recording::open(&file).unwrap();
        assert!(recording.is_complete(), "{:?}", recording.problems());
        let mut messages = recording.messages(Query::new()).unwrap();
        while let Some(message) = messages.next().unwrap() {
            assert_eq!(number(message.data).unwrap(), next);
            assert_eq!((message.log_time, message.sequence), (next, name(next).1 as u32));
            next += 1;
        }
    }
    next
}

#[test]
fn what_was_committed_is_there_once_after_a_kill() {
    let mut noise = Noise::seeded("what_was_committed_is_there_once_after_a_kill");
    for sync in ["group", "interval"] {
        let domain = Domain::new();
        let directory = Directory::new(&domain);
        let log = directory.file("log");
        let mut there = 0;
        for _ in 0..rounds(100) {
            let committed =
                kill_one("writer", &[log.to_str().unwrap(), sync, &there.to_string()], &mut noise).max(there);
            there = look(&log, committed).unwrap();
        }
        assert_eq!(read(&log), there);
        assert!(EventLog::files(&log).unwrap().len() >= rounds(100) as usize);
    }
}

#[test]
fn a_log_that_commits_nothing_is_found() {
    let mut noise = Noise::seeded("a_log_that_commits_nothing_is_found");
    let domain = Domain::new();
    let directory = Directory::new(&domain);
    let log = directory.file("log");
    let committed = kill_one("forgetful", &[log.to_str().unwrap(), "0"], &mut noise);
    let found = look(&log, committed);
    assert!(found.as_ref().is_err_and(|wrong| wrong.contains("were committed")), "{committed}: {found:?}");
}
