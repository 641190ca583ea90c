//! Disks that fail as planned.

use std::sync::Mutex;

use super::*;
use crate::frame::{Encoding, Priority};
use crate::tank::events::channels::Kind;
use crate::tank::read::{Query, Recording};

/// A disk in memory.
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
