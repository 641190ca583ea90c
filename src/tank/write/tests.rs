//! Disks that fail at any byte, which no file can be made to do, and one that is full.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::tank::read::{Query, Recording};
use crate::tank::small_disk::{fill, with_small_disk};

/// A disk in memory, whose writes fail as planned.
#[derive(Clone, Debug, Default)]
struct Disk(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// What goes wrong next, the last first.
    plan: Vec<Fault>,
}

/// After so many more bytes a write stops, for this reason.
#[derive(Clone, Copy, Debug)]
struct Fault {
    after: usize,
    errno: i32,
    /// Whether what it left cannot be removed either.
    sticks: bool,
}

impl Disk {
    fn of(plan: Vec<Fault>) -> Self {
        Disk(Rc::new(RefCell::new(State { bytes: Vec::new(), plan })))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }
}

impl Storage for Disk {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        let offset = offset as usize;
        assert!(offset <= state.bytes.len(), "a hole");
        let fault = state.plan.last_mut().filter(|fault| fault.after < bytes.len());
        let len = fault.as_ref().map_or(bytes.len(), |fault| fault.after);
        let (errno, fails) = fault.map_or((0, false), |fault| (fault.errno, true));
        let end = state.bytes.len().max(offset + len);
        state.bytes.resize(end, 0);
        state.bytes[offset..offset + len].copy_from_slice(&bytes[..len]);
        if !fails {
            state.plan.last_mut().into_iter().for_each(|fault| fault.after -= len);
            return Ok(());
        }
        if !state.plan.last().is_some_and(|fault| fault.sticks) {
            state.plan.pop();
        }
        Err(io::Error::from_raw_os_error(errno))
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let state = &mut *self.0.borrow_mut();
        match state.plan.last().copied() {
            Some(Fault { errno, sticks: true, .. }) => {
                state.plan.pop();
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => {
                state.bytes.truncate(len as usize);
                Ok(())
            }
        }
    }

    fn reserve(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// Whatever somebody does with a writer.
#[derive(Clone, Debug)]
enum Step {
    Topic,
    Message { channel: usize, later: u64, data: Vec<u8> },
    Metadata,
    Flush,
    Due,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = prop::collection::vec(any::<u8>(), 0..60);
    let message = (any::<usize>(), 0..40u64, data);
    let step = prop_oneof![
        1 => Just(Step::Topic),
        8 => message.prop_map(|(channel, later, data)| Step::Message { channel, later, data }),
        1 => Just(Step::Metadata),
        1 => Just(Step::Flush),
        1 => Just(Step::Due),
    ];
    prop::collection::vec(step, 0..60)
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let errno = prop_oneof![Just(libc::ENOSPC), Just(libc::EIO)];
    let fault = (0..600usize, errno, prop::bool::weighted(0.2));
    let fault = fault.prop_map(|(after, errno, sticks)| Fault { after, errno, sticks });
    prop::collection::vec(fault, 0..5)
}

type Taken = (u16, u32, u64, Vec<u8>);

/// What a reader finds in a file.
fn read(bytes: Vec<u8>) -> Option<(bool, Vec<Taken>)> {
    let recording = Recording::options().read(bytes).ok()?;
    let mut messages = recording.messages(Query::new()).unwrap();
    let mut found = Vec::new();
    while let Some(message) = messages.next().unwrap() {
        found.push((message.topic.id, message.sequence, message.log_time, message.data.to_vec()));
    }
    Some((recording.is_complete(), found))
}

fn options(kind: usize) -> WriterOptions {
    let compression = [Compression::None, Compression::Lz4, Compression::Zstd { level: 1 }][kind];
    Writer::options().compression(compression).chunk_bytes(300).chunk_time(Duration::from_nanos(100))
}

fn schema(number: usize) -> Schema {
    // Every third is like one before, and the first is none.
    let name = if number % 3 == 0 { String::new() } else { format!("schema{}", number % 3) };
    Schema { message_encoding: "x".into(), schema_encoding: name.clone(), name, data: vec![] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whenever the disk fails, and however often: at any moment the file holds the first of the messages that were taken, and
    /// at least those that were flushed; at its end, all but those that it is said to lack.
    #[test]
    fn a_disk_that_fails_at_any_byte_costs_no_message_that_was_taken(
        steps in steps(), plan in faults(), kind in 0..3usize,
    ) {
        let disk = Disk::of(plan);
        let Ok(mut writer) = ChunkWriter::begin(Path::new("memory"), disk.clone(), options(kind)) else { return Ok(()) };
        let mut taken: Vec<Taken> = Vec::new();
        let (mut flushed, mut time) = (0, 0);
        for (number, step) in steps.iter().enumerate() {
            let done = match step {
                Step::Topic => writer.add_topic("t", &schema(number), &[("k", "v")]).map(drop),
                Step::Message { channel, later, data } => {
                    if writer.channels == 0 {
                        continue;
                    }
                    time += later + 1;
                    let channel = (channel % usize::from(writer.channels)) as u16;
                    let sequence = taken.len() as u32;
                    writer.write(ChannelId(channel), sequence, time, data).map(|()| {
                        taken.push((channel, sequence, time, data.clone()));
                    })
                }
                Step::Metadata => {
                    let added = writer.file.add_metadata("m", &texts(&[("a", "b")]));
                    added.map_err(|source| Error::write(Path::new("memory"), source))
                }
                Step::Flush => writer.flush().map(|()| flushed = taken.len()),
                Step::Due => writer.flush_if_due(time),
            };
            prop_assert!(matches!(done, Ok(()) | Err(Error::Io { .. })), "{:?}", done);
            if done.is_ok() && !matches!(step, Step::Flush) {
                continue;
            }
            let (is_complete, found) = read(disk.bytes()).expect("a beginning");
            prop_assert!(!is_complete);
            prop_assert!(found.len() >= flushed);
            prop_assert_eq!(&found[..], &taken[..found.len()]);
        }
        let finished = writer.finish();
        let (is_complete, found) = read(disk.bytes()).expect("a beginning");
        prop_assert_eq!(&found[..], &taken[..found.len()]);
        match finished {
            Ok(len) => {
                prop_assert!(is_complete);
                prop_assert_eq!(len, disk.bytes().len() as u64);
                prop_assert_eq!(found.len(), taken.len());
            }
            Err(Error::Unwritten { messages, .. }) => {
                prop_assert!(is_complete);
                prop_assert_eq!(found.len() + messages as usize, taken.len());
            }
            Err(_) => prop_assert!(found.len() >= flushed),
        }
    }
}

/// A disk with little left, of which others take whatever becomes free.
#[derive(Clone, Debug, Default)]
struct FullDisk {
    bytes: Rc<RefCell<Vec<u8>>>,
    /// Up to where the file has room.
    has: usize,
    free: usize,
}

impl FullDisk {
    fn take(&mut self, to: usize) -> io::Result<()> {
        let more = to.saturating_sub(self.has);
        self.free = self.free.checked_sub(more).ok_or(io::Error::from_raw_os_error(libc::ENOSPC))?;
        self.has += more;
        Ok(())
    }
}

impl Storage for FullDisk {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset as usize, self.bytes.borrow().len());
        self.take(offset as usize + bytes.len())?;
        self.bytes.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.has = len as usize;
        self.bytes.borrow_mut().truncate(self.has);
        Ok(())
    }

    fn reserve(&mut self, from: u64, to: u64) -> io::Result<()> {
        assert!(from as usize <= self.has.max(self.bytes.borrow().len()), "a hole");
        self.take(to as usize)
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.free as u64)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_little_the_disk_has_left_the_file_gets_its_end(
        free in 66_500..3_000_000usize, most_topics in 1..400usize, schema_bytes in 0..40_000usize,
    ) {
        let disk = FullDisk { free, ..FullDisk::default() };
        let mut writer = ChunkWriter::begin(Path::new("memory"), disk.clone(), options(0)).unwrap();
        let (mut topics, mut taken) = (0, 0);
        loop {
            if topics < most_topics {
                // What has no room is not there, and the file as good as before.
                let large = Schema { data: vec![7; schema_bytes], ..schema(topics) };
                match writer.add_topic(&format!("topic{topics}"), &large, &[("key", "value")]) {
                    Ok(_) => topics += 1,
                    Err(Error::Io { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            let metadata = writer.file.add_metadata("m", &texts(&[("a", &"b".repeat(schema_bytes / 10))]));
            let channel = ChannelId((taken as usize % topics) as u16);
            if metadata.is_err() || writer.write(channel, taken, taken.into(), &[7; 50]).is_err() {
                break;
            }
            taken += 1;
        }
        let lost = match writer.finish() {
            Ok(_) => 0,
            Err(Error::Unwritten { messages, .. }) => messages,
            Err(error) => panic!("the file has no end: {error}"),
        };
        let (is_complete, found) = read(disk.bytes.borrow().clone()).unwrap();
        prop_assert!(is_complete);
        prop_assert_eq!(found.len() as u64 + lost, u64::from(taken));
    }
}

/// The end of the file has room that was set aside for it, and keeps it until then.
#[test]
fn a_file_on_a_disk_that_others_have_filled_gets_its_end() {
    with_small_disk(40 << 20, |disk| {
        let path = disk.join("run.mcap");
        let mut writer = Writer::options().chunk_bytes(10_000).create(&path).unwrap();
        let topics: Vec<_> =
            (0..100).map(|at| writer.add_topic(&format!("topic{at}"), &schema(at), &[]).unwrap()).collect();
        let mut taken = 0;
        let error = loop {
            let topic = topics[taken as usize % 100];
            match writer.write(topic, taken, taken.into(), &[7; 1000]) {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
            if taken == 1000 {
                fill(disk);
            }
        };
        assert!(matches!(&error, Error::Io { source, .. } if source.raw_os_error() == Some(libc::ENOSPC)), "{error}");
        fill(disk);
        let finished = writer.finish();
        let Err(Error::Unwritten { messages, .. }) = finished else { panic!("{finished:?}") };
        let (is_complete, found) = read(std::fs::read(&path).unwrap()).unwrap();
        assert!(is_complete);
        assert!(found.len() > 1000);
        assert_eq!(found.len() as u64 + messages, u64::from(taken));
    });
}
