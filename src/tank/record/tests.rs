//! Disks that fail and disks that hang, which no file can be made to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::control::lock;
use super::sync::SyncFile;
use super::writer::Shelf;
use super::{Recorder, RecorderOptions, Report, SyncPolicy};
use crate::tank::read::{Query, Recording};
use crate::tank::small_disk::{fill, with_small_disk};
use crate::tank::storage::Storage;
use crate::tank::{Counts, Error};
use crate::topic::{Overflow, Publisher, SlotKind};

/// A disk in memory.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// How many writes succeed before one fails, half way; those after it succeed again.
    writes_left: Option<u64>,
    syncs_left: Option<u64>,
    hangs: bool,
    panics: bool,
    /// Whether somebody waits for it.
    is_waited_for: bool,
}

impl Disk {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.0.0));
        self.0.1.notify_all();
    }

    fn read(&self) -> Recording {
        Recording::options().read(lock(&self.0.0).bytes.clone()).unwrap()
    }
}

impl Storage for Disk {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.0.0);
        while state.hangs {
            state.is_waited_for = true;
            self.0.1.notify_all();
            state = self.0.1.wait(state).unwrap();
        }
        assert_eq!(offset, state.bytes.len() as u64);
        assert!(!state.panics, "as planned");
        let fails = state.writes_left == Some(0);
        state.writes_left = state.writes_left.and_then(|left| left.checked_sub(1));
        let len = if fails { bytes.len() / 2 } else { bytes.len() };
        state.bytes.extend_from_slice(&bytes[..len]);
        if fails { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        lock(&self.0.0).bytes.truncate(len as usize);
        Ok(())
    }

    fn reserve(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl Shelf for Disk {
    type Storage = Disk;

    fn create(&mut self, part: u32) -> Result<(PathBuf, Disk, SyncFile), Error> {
        assert_eq!(part, 0);
        let disk = self.clone();
        let sync = move || {
            let mut state = lock(&disk.0.0);
            let fails = state.syncs_left == Some(0);
            state.syncs_left = state.syncs_left.map(|left| left.saturating_sub(1));
            if fails { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
        };
        Ok((PathBuf::from("memory"), self.clone(), Arc::new(sync)))
    }

    fn remove(&mut self, _: &Path) -> io::Result<()> {
        panic!("there is one file")
    }
}

/// A topic with a lossless publisher, in a domain of its own.
fn topic() -> (Publisher<[u8]>, RecorderOptions) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let domain = format!("tank-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let options = Publisher::<[u8]>::options().domain(&domain).slots(SlotKind::Words).max_len(100).depth(64);
    let publisher = options.overflow(Overflow::Block).open("t").unwrap();
    let options = Recorder::options().domain(&domain).sync(SyncPolicy::None).chunk_time(Duration::from_millis(2));
    (publisher, options)
}

fn counts(report: &Report) -> Counts {
    report.topics["t"]
}

fn wait_for_end(recorder: &Recorder) {
    let mut fds = [rustix::event::PollFd::new(recorder, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
}

#[test]
fn a_disk_that_fails_ends_the_recording_with_a_finished_file_and_an_exact_count() {
    for good in 1..12 {
        let disk = Disk::default();
        disk.set(|state| state.writes_left = Some(good));
        let (mut publisher, options) = topic();
        let recorder = Recorder::start_on(options.chunk_bytes(1000).memory(100_000), disk.clone()).unwrap();
        // The first write is the beginning of the file; each of the others is at least a message.
        let each = 200;
        for _ in 0..each {
            publisher.publish(&[1; 100]).unwrap();
        }
        wait_for_end(&recorder);
        let report = recorder.stop();
        let Some(Error::Io { source, .. }) = &report.fault else { panic!("{:?}", report.fault) };
        assert_eq!(source.raw_os_error(), Some(libc::EIO));
        let recording = disk.read();
        assert!(recording.is_complete(), "{:?}", recording.problems());
        assert_eq!(recording.counts().unwrap()["t"].recorded, counts(&report).recorded);
        assert_eq!(counts(&report).recorded, recording.message_count(), "after {good} writes");
        assert!(counts(&report).published() <= each);
        assert!(counts(&report).lost > 0);
        publisher.remove().unwrap();
    }
}

/// There is more than the recorder has memory for when the disk fails: what is still in the topic then is lost, too.
#[test]
fn what_is_still_in_its_topic_when_the_recording_ends_of_itself_is_counted() {
    let disk = Disk::default();
    let (publisher, options) = topic();
    let domain = options.domain.clone().unwrap();
    let deep = Publisher::<[u8]>::options().domain(&domain).slots(SlotKind::Words).max_len(100).depth(1000);
    let mut deep = deep.open("deep").unwrap();
    let recorder = Recorder::start_on(options.chunk_bytes(1000).memory(3000), disk.clone()).unwrap();
    disk.set(|state| state.hangs = true);
    let each = 500;
    for _ in 0..each {
        deep.publish(&[1; 100]).unwrap();
    }
    {
        let state = lock(&disk.0.0);
        drop(disk.0.1.wait_while(state, |state| !state.is_waited_for).unwrap());
    }
    disk.set(|state| (state.hangs, state.writes_left) = (false, Some(0)));
    wait_for_end(&recorder);
    let report = recorder.stop();
    let counts = report.topics["deep"];
    assert_eq!((counts.published(), counts.recorded + counts.lost), (each, each));
    assert!(counts.lost > 100, "{counts:?}");
    let recording = disk.read();
    assert!(recording.is_complete());
    assert_eq!(recording.counts().unwrap()["deep"], counts);
    deep.remove().unwrap();
    publisher.remove().unwrap();
}

/// The file says it, too: the messages were lost while no file was open.
#[test]
fn a_snapshot_tells_what_was_lost_in_its_time() {
    let disk = Disk::default();
    let (publisher, options) = topic();
    let domain = options.domain.clone().unwrap();
    let small = Publisher::<[u8]>::options().domain(&domain).slots(SlotKind::Words).max_len(100).depth(4);
    let mut small = small.open("small").unwrap();
    let options = options.snapshot(Duration::from_secs(3600));
    let recorder = Recorder::start_on(options, disk.clone()).unwrap();
    let mut each = 0;
    while recorder.progress().lost == 0 {
        // More at a time than the topic holds.
        for _ in 0..100 {
            small.publish(&[1; 100]).unwrap();
            each += 1;
        }
    }
    // What comes behind the trigger is kept for the next one.
    while recorder.progress().messages + recorder.progress().lost < each {
        std::thread::yield_now();
    }
    recorder.trigger();
    let report = recorder.stop();
    let counts = report.topics["small"];
    assert_eq!((counts.published(), counts.expired), (each, 0));
    assert!(counts.lost > 0);
    assert_eq!(disk.read().counts().unwrap()["small"], counts);
    small.remove().unwrap();
    publisher.remove().unwrap();
}

/// A snapshot that is shorter than it should be, because there was no memory for more, says so.
#[test]
fn what_a_snapshot_has_no_memory_for_is_lost_and_not_expired() {
    let disk = Disk::default();
    let (mut publisher, options) = topic();
    let options = options.chunk_bytes(1000).memory(10_000).snapshot(Duration::from_secs(3600));
    let recorder = Recorder::start_on(options, disk.clone()).unwrap();
    let each = 500;
    for _ in 0..each {
        publisher.publish(&[1; 100]).unwrap();
    }
    recorder.trigger();
    let report = recorder.stop();
    let counts = counts(&report);
    assert_eq!((counts.published(), counts.expired), (each, 0));
    assert!(counts.recorded > 0 && counts.lost > 0, "{counts:?}");
    assert_eq!(disk.read().message_count(), counts.recorded);
    publisher.remove().unwrap();
}

/// What a snapshot was to hold and could not is not taken for what was let go of because nobody asked for it.
#[test]
fn a_snapshot_that_the_disk_fails_is_a_finished_file_and_what_is_not_in_it_is_lost() {
    for good in 1..6 {
        let disk = Disk::default();
        disk.set(|state| state.writes_left = Some(good));
        let (mut publisher, options) = topic();
        let options = options.chunk_bytes(1000).snapshot(Duration::from_secs(3600));
        let recorder = Recorder::start_on(options, disk.clone()).unwrap();
        let each = 200;
        for _ in 0..each {
            publisher.publish(&[1; 100]).unwrap();
        }
        while recorder.progress().messages < each {
            std::thread::yield_now();
        }
        recorder.trigger();
        wait_for_end(&recorder);
        let report = recorder.stop();
        assert!(matches!(report.fault, Some(Error::Io { .. })), "{:?}", report.fault);
        let counts = counts(&report);
        assert_eq!((counts.recorded + counts.lost, counts.expired), (each, 0), "after {good} writes");
        let recording = disk.read();
        assert!(recording.is_complete(), "{:?}", recording.problems());
        assert_eq!(recording.message_count(), counts.recorded);
        assert_eq!(recording.counts().unwrap()["t"], counts);
        publisher.remove().unwrap();
    }
}

#[test]
fn an_end_that_the_disk_fails_is_written_again() {
    let disk = Disk::default();
    disk.set(|state| state.writes_left = Some(1));
    let (publisher, options) = topic();
    let report = Recorder::start_on(options, disk.clone()).unwrap().stop();
    assert!(matches!(report.fault, Some(Error::Io { .. })), "{:?}", report.fault);
    assert!(disk.read().is_complete());
    publisher.remove().unwrap();
}

/// A storage that panics stands for any defect in the thread that writes.
#[test]
#[should_panic(expected = "as planned")]
fn a_thread_that_panics_is_told_of_where_the_recording_is_stopped() {
    let disk = Disk::default();
    let (publisher, options) = topic();
    let domain = options.domain.clone().unwrap();
    let deep = Publisher::<[u8]>::options().domain(&domain).slots(SlotKind::Words).max_len(100).depth(1000);
    let mut deep = deep.open("deep").unwrap();
    let recorder = Recorder::start_on(options.chunk_bytes(1000).memory(5000), disk.clone()).unwrap();
    disk.set(|state| state.panics = true);
    for _ in 0..2000 {
        deep.publish(&[1; 100]).unwrap();
    }
    // It ends of itself, and is not waited for in vain.
    wait_for_end(&recorder);
    deep.remove().unwrap();
    publisher.remove().unwrap();
    let _ = recorder.stop();
}

/// Its end has room that was set aside for it, which others cannot take.
#[test]
fn a_disk_that_others_fill_ends_the_recording_with_a_finished_file_and_an_exact_count() {
    with_small_disk(24 << 20, |disk| {
        let path = disk.join("run.mcap");
        let (mut publisher, options) = topic();
        let recorder =
            options.chunk_bytes(10_000).sync(SyncPolicy::Every(Duration::from_millis(5))).start(&path).unwrap();
        let mut each = 0;
        let mut publish = |count| {
            for _ in 0..count {
                publisher.publish(&[1; 100]).unwrap();
                each += 1;
            }
        };
        publish(1000);
        fill(disk);
        let mut ended = [rustix::event::PollFd::new(&recorder, rustix::event::PollFlags::IN)];
        let at_once = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        while rustix::event::poll(&mut ended, Some(&at_once)).unwrap() == 0 {
            publish(100);
        }
        fill(disk);
        let report = recorder.stop();
        let Some(Error::Io { source, .. }) = &report.fault else { panic!("{:?}", report.fault) };
        assert_eq!(source.raw_os_error(), Some(libc::ENOSPC));
        let counts = counts(&report);
        assert!(counts.recorded > 1000 && counts.published() <= each, "{counts:?} of {each}");
        let recording = Recording::open(&path).unwrap();
        assert!(recording.is_complete(), "{:?}", recording.problems());
        assert_eq!((recording.message_count(), recording.counts().unwrap()["t"]), (counts.recorded, counts));
        assert!(crate::tank::check(&path).unwrap().is_sound());
        publisher.remove().unwrap();
    });
}

#[test]
fn a_sync_that_fails_ends_the_recording() {
    for policy in [SyncPolicy::Chunk, SyncPolicy::Every(Duration::from_millis(1))] {
        let disk = Disk::default();
        disk.set(|state| state.syncs_left = Some(0));
        let (mut publisher, options) = topic();
        let recorder = Recorder::start_on(options.sync(policy), disk.clone()).unwrap();
        publisher.publish(&[1; 100]).unwrap();
        wait_for_end(&recorder);
        let report = recorder.stop();
        assert!(matches!(report.fault, Some(Error::Io { .. })), "{:?}", report.fault);
        assert_eq!(disk.read().message_count(), counts(&report).recorded);
        publisher.remove().unwrap();
    }
}

/// The publisher is lossless, so that it would be kept waiting for ever by a recorder that waits for the disk.
#[test]
fn a_disk_that_hangs_keeps_no_publisher_waiting_and_what_found_no_memory_is_counted() {
    let disk = Disk::default();
    let (mut publisher, options) = topic();
    let memory = 20_000;
    let recorder = Recorder::start_on(options.chunk_bytes(2000).memory(memory), disk.clone()).unwrap();
    disk.set(|state| state.hangs = true);
    publisher.publish(&[1; 100]).unwrap();
    {
        let state = lock(&disk.0.0);
        drop(disk.0.1.wait_while(state, |state| !state.is_waited_for).unwrap());
    }
    let each = 20_000u64;
    for _ in 1..each {
        publisher.publish(&[1; 100]).unwrap();
    }
    disk.set(|state| state.hangs = false);
    let report = recorder.stop();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    assert_eq!(counts(&report).published(), each, "{:?}", counts(&report));
    assert!(counts(&report).lost > 0, "the disk did not hang for long enough to show anything");
    let recording = disk.read();
    assert_eq!(recording.message_count(), counts(&report).recorded);
    assert_eq!(recording.counts().unwrap()["t"], counts(&report));
    let mut messages = recording.messages(Query::new()).unwrap();
    let mut before = None;
    while let Some(message) = messages.next().unwrap() {
        assert!(before < Some(message.sequence));
        before = Some(message.sequence);
    }
    publisher.remove().unwrap();
}

#[test]
fn a_topic_that_becomes_lossless_is_not_kept_waiting_either() {
    let disk = Disk::default();
    let (other, options) = topic();
    let domain = options.domain.clone().unwrap();
    let open = |overflow| {
        let options = Publisher::<[u8]>::options().domain(&domain).slots(SlotKind::Words).max_len(100).depth(64);
        options.overflow(overflow).open("changing").unwrap()
    };
    let mut publisher = open(Overflow::Overwrite);
    let recorder = Recorder::start_on(options.chunk_bytes(2000).memory(20_000), disk.clone()).unwrap();
    publisher.publish(&[1; 100]).unwrap();
    while recorder.progress().messages == 0 {
        std::thread::yield_now();
    }
    drop(publisher);
    disk.set(|state| state.hangs = true);
    let mut publisher = open(Overflow::Block);
    let each = 2000;
    for _ in 1..each {
        publisher.publish_timeout(&[1; 100], Duration::from_secs(40)).unwrap();
    }
    disk.set(|state| state.hangs = false);
    let report = recorder.stop();
    let counts = report.topics["changing"];
    assert_eq!(counts.published(), each);
    assert!(counts.lost > 0, "the disk did not hang for long enough to show anything");
    publisher.remove().unwrap();
    other.remove().unwrap();
}

/// Of a message that is larger than a chunk, as much counts as it takes: however many there are, few are in memory.
#[test]
fn large_messages_take_no_more_memory_than_small_ones() {
    let disk = Disk::default();
    let (publisher, options) = topic();
    let domain = options.domain.clone().unwrap();
    let large = Publisher::<[u8]>::options().domain(&domain).slots(SlotKind::Frames).max_len(10_000).depth(64);
    let mut large = large.overflow(Overflow::Block).open("large").unwrap();
    let memory = 50_000;
    let recorder = Recorder::start_on(options.chunk_bytes(1000).memory(memory), disk.clone()).unwrap();
    disk.set(|state| state.hangs = true);
    let each = 200;
    for _ in 0..each {
        large.publish(&[1; 10_000]).unwrap();
    }
    while recorder.progress().messages + recorder.progress().lost < each {
        std::thread::yield_now();
    }
    let in_memory = recorder.progress().messages;
    disk.set(|state| state.hangs = false);
    let report = recorder.stop();
    assert_eq!(report.topics["large"].published(), each);
    // One may be with the writer, and the last goes beyond.
    assert!(in_memory <= 7, "{in_memory} messages of 10 kB in {memory} bytes");
    large.remove().unwrap();
    publisher.remove().unwrap();
}
