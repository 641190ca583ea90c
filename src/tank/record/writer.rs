//! From chunks into files: which file, what each begins and ends with, and what to do when the disk cannot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::control::{Control, Request, add, lock};
use super::feed::Channel;
use super::load::{Buffers, Latched, Load};
use super::rotation::{Filled, Rotation};
use super::sync::{SyncFile, Syncer};
use super::{RecorderOptions, SyncPolicy};
use crate::std::futex;
use crate::tank::file::{FileWriter, LIBRARY};
use crate::tank::format::Compression;
use crate::tank::format::chunk::{OpenChunk, SealedChunk, Sealer};
use crate::tank::storage::Storage;
use crate::tank::{Counts, Error};

/// Where files come from.
pub(super) trait Shelf: Send + 'static {
    type Storage: Storage + Send;
    /// Makes the file of this number.
    fn create(&mut self, part: u32) -> Result<(PathBuf, Self::Storage, SyncFile), Error>;
    /// Removes a file that was finished.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// How often at most a file is told of losses while they go on.
const LOSS_INTERVAL: u64 = 1_000_000_000;

pub(super) struct Writer<S: Shelf> {
    options: Arc<RecorderOptions>,
    control: Arc<Control>,
    buffers: Arc<Buffers>,
    shelf: S,
    syncer: Option<Syncer>,
    file: Option<Part<S::Storage>>,
    part: u32,
    /// Each channel of the recording; its place is its number.
    channels: Vec<Arc<Channel>>,
    /// The topic of each account.
    topics: Vec<String>,
    /// The last message of each latched topic that is in a file, and its channel, by account.
    latched: BTreeMap<usize, (u16, Latched)>,
    /// What is kept for a snapshot.
    kept: VecDeque<Kept>,
    /// What became of messages that are in no chunk, since the last one that is kept, by account.
    untold: BTreeMap<usize, Counts>,
    kept_bytes: usize,
    pub counts: Vec<Counts>,
    pub files: VecDeque<PathBuf>,
    pub bytes: u64,
}

/// A file that is being written.
struct Part<S> {
    path: PathBuf,
    writer: FileWriter<S>,
    sync: SyncFile,
    /// Channels that are in it.
    channels: BTreeSet<u16>,
    /// Whether what the latched topics said last is in it.
    has_begun: bool,
    /// The time of its first message.
    first: Option<u64>,
    counts: BTreeMap<usize, Counts>,
    /// Whether it has been told of what was lost, and when.
    told: bool,
    told_at: u64,
    /// What is said of its messages at its end, once that waits to be written.
    last_told: Option<BTreeMap<String, String>>,
}

/// A chunk that is kept for a snapshot.
struct Kept {
    chunk: SealedChunk,
    latched: BTreeMap<u16, Latched>,
    /// What became of messages before it that are in no chunk, by account.
    tallies: BTreeMap<usize, Counts>,
}

impl Kept {
    /// Bytes of memory.
    fn bytes(&self) -> usize {
        self.chunk.bytes().len() + self.latched.values().map(|latched| latched.bytes.len()).sum::<usize>()
    }
}

impl<S: Shelf> Writer<S> {
    /// Makes the first file, unless files are made on demand.
    pub fn new(
        options: Arc<RecorderOptions>,
        control: Arc<Control>,
        buffers: Arc<Buffers>,
        shelf: S,
        syncer: Option<Syncer>,
    ) -> Result<Self, Error> {
        let mut writer = Writer {
            options,
            control,
            buffers,
            shelf,
            syncer,
            file: None,
            part: 0,
            channels: Vec::new(),
            topics: Vec::new(),
            latched: BTreeMap::new(),
            kept: VecDeque::new(),
            untold: BTreeMap::new(),
            kept_bytes: 0,
            counts: Vec::new(),
            files: VecDeque::new(),
            bytes: 0,
        };
        if writer.options.snapshot.is_none() {
            writer.begin()?;
        }
        Ok(writer)
    }

    /// Writes what comes, in order, until nobody sends any more; then finishes the file.
    pub fn run(mut self, loads: &Receiver<Load<SealedChunk>>) -> Self {
        let mut early = BTreeMap::new();
        let mut next = 0;
        while let Ok(load) = loads.recv() {
            early.insert(load.number, load);
            while let Some(load) = early.remove(&next) {
                next += 1;
                let cost = load.cost;
                self.take(load);
                self.control.release(cost);
            }
        }
        // Whose predecessors went with a thread that panicked: nothing is written any more then.
        early.into_values().for_each(|load| self.take(load));
        self.expire(Duration::ZERO);
        if let Err(error) = self.end() {
            self.fail(error);
            if let Err(error) = self.end() {
                tracing::warn!(%error, "the recording has no end; `conduit tank recover` gives it one");
            }
        }
        self.bytes += self.file.as_ref().map_or(0, |file| file.writer.written());
        if let Some(syncer) = self.syncer.take() {
            syncer.finish();
        }
        self
    }

    fn take(&mut self, load: Load<SealedChunk>) {
        for channel in load.channels {
            if self.topics.len() <= channel.account {
                self.topics.resize(channel.account + 1, String::new());
            }
            self.topics[channel.account].clone_from(&channel.topic);
            self.channels.push(channel);
        }
        for (account, counts) in load.tallies {
            self.count(account, counts);
            if self.options.snapshot.is_some() {
                *self.untold.entry(account).or_default() += counts;
            }
        }
        if let Some(chunk) = load.chunk {
            match self.options.snapshot {
                _ if self.control.has_failed() => self.lose(chunk),
                Some(time) => {
                    let tallies = std::mem::take(&mut self.untold);
                    let kept = Kept { chunk: chunk.shrunk(), latched: load.latched, tallies };
                    self.kept_bytes += kept.bytes();
                    self.kept.push_back(kept);
                    self.expire(time);
                }
                None => self.write_or_fail(chunk, load.latched),
            }
        }
        let answered = match load.request {
            _ if self.control.has_failed() => Ok(()),
            Some(Request::Split) if self.options.snapshot.is_none() => self.split(),
            Some(Request::Trigger) if self.options.snapshot.is_some() => self.snapshot(),
            _ => Ok(()),
        };
        if let Err(error) = answered {
            self.fail(error);
        }
    }

    fn count(&mut self, account: usize, counts: Counts) {
        if self.counts.len() <= account {
            self.counts.resize(account + 1, Counts::default());
        }
        self.counts[account] += counts;
        if let Some(file) = &mut self.file {
            file.count(&self.topics, account, counts);
        }
    }

    /// Counts each message of a chunk as `as_what` says.
    fn count_chunk(&mut self, chunk: &SealedChunk, as_what: impl Fn(u64) -> Counts) {
        for &(channel, messages) in chunk.counts() {
            self.count(self.channels[usize::from(channel)].account, as_what(messages));
        }
    }

    fn write_or_fail(&mut self, chunk: SealedChunk, latched: BTreeMap<u16, Latched>) {
        let rotation = Rotation {
            size: self.options.split_size,
            time: self.options.split_time.map(|time| time.as_nanos() as u64),
        };
        let filled =
            self.file.as_ref().and_then(|file| file.first.map(|first| Filled { bytes: file.writer.len(), first }));
        let is_due = rotation.is_due(filled, chunk.bytes().len() as u64, chunk.index().end_time);
        let split = if is_due { self.split() } else { Ok(()) };
        match split.and_then(|()| self.write(&chunk)) {
            Ok(()) => {
                self.remember(latched);
                self.buffers.give_back(chunk.into_bytes());
                if let Err(error) = self.after_write() {
                    self.fail(error);
                }
            }
            Err(error) => {
                self.lose(chunk);
                self.fail(error);
            }
        }
    }

    fn lose(&mut self, chunk: SealedChunk) {
        let messages = chunk.counts().iter().map(|(_, messages)| messages).sum();
        self.count_chunk(&chunk, |lost| Counts { lost, ..Counts::default() });
        add(&self.control.progress.lost, messages);
        self.buffers.give_back(chunk.into_bytes());
    }

    /// Appends a chunk to the file that is open, and what has to stand before it.
    fn write(&mut self, chunk: &SealedChunk) -> Result<(), Error> {
        self.write_latched(chunk.index().start_time)?;
        let Some(file) = &mut self.file else { return Ok(()) };
        for &(channel, _) in chunk.counts() {
            file.add_channel(&self.channels, channel)?;
        }
        let now = futex::now();
        if !file.told && now.saturating_sub(file.told_at) >= LOSS_INTERVAL {
            let counts = file.telling(&self.topics);
            let told = file.writer.add_metadata(Counts::METADATA, &counts);
            told.map_err(|source| Error::write(&file.path, source))?;
            (file.told, file.told_at) = (true, now);
        }
        let before = file.writer.len();
        file.writer.append(chunk).map_err(|source| Error::write(&file.path, source))?;
        file.first.get_or_insert(chunk.index().start_time);
        let written = file.writer.len() - before;
        add(&self.control.progress.written, written);
        self.count_chunk(chunk, |recorded| Counts { recorded, ..Counts::default() });
        Ok(())
    }

    /// What a chunk that is written brings with it: it is to reach the disk, which has less room now.
    fn after_write(&self) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        self.sync(&file.sync).map_err(|source| Error::write(&file.path, source))?;
        // Where nobody can tell, the disk says it when it is full.
        let Ok(free) = file.writer.free() else { return Ok(()) };
        self.control.progress.free.store(free, Relaxed);
        let min_free = self.options.min_free;
        if free < min_free { Err(Error::DiskFull { path: file.path.clone(), free, min_free }) } else { Ok(()) }
    }

    fn sync(&self, file: &SyncFile) -> io::Result<()> {
        match (self.options.sync, &self.syncer) {
            (SyncPolicy::Chunk, _) => file(),
            (SyncPolicy::Every(time), Some(syncer)) => {
                syncer.written(file, time);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), Error> {
        let (path, storage, sync) = self.shelf.create(self.part)?;
        let begun = FileWriter::begin(storage, PROFILE, LIBRARY);
        let mut writer = begun.map_err(|source| {
            // Whoever tries again is not to find that it exists already.
            let _ = self.shelf.remove(&path);
            Error::write(&path, source)
        })?;
        let mut about = vec![(RECORDING, super::about(self.part))];
        if !self.options.metadata.is_empty() {
            about.push(("conduit.user", self.options.metadata.clone()));
        }
        for (name, entries) in about {
            writer.add_metadata(name, &entries).map_err(|source| {
                let _ = self.shelf.remove(&path);
                Error::write(&path, source)
            })?;
        }
        self.part += 1;
        self.files.push_back(path.clone());
        lock(&self.control.file).clone_from(&path);
        add(&self.control.progress.files, 1);
        self.file = Some(Part {
            path,
            writer,
            sync,
            channels: BTreeSet::new(),
            has_begun: false,
            first: None,
            counts: BTreeMap::new(),
            told: true,
            told_at: 0,
            last_told: None,
        });
        Ok(())
    }

    /// Finishes the file that is open, which it stays if that fails.
    fn end(&mut self) -> Result<(), Error> {
        self.write_latched(futex::real_now())?;
        let Some(mut file) = self.file.take() else { return Ok(()) };
        // It may wait to be written already, where that has failed.
        let counts = file.telling(&self.topics);
        if file.last_told.as_ref() != Some(&counts) {
            file.writer.add_last_metadata(Counts::METADATA, &counts);
            file.last_told = Some(counts);
        }
        match file.writer.finish() {
            Ok(len) => self.bytes += len,
            Err(source) => {
                let error = Error::write(&file.path, source);
                self.file = Some(file);
                return Err(error);
            }
        }
        match (self.options.sync, &self.syncer) {
            (SyncPolicy::Chunk, _) => (file.sync)().map_err(|source| Error::write(&file.path, source))?,
            (SyncPolicy::Every(_), Some(syncer)) => syncer.done(file.sync),
            _ => {}
        }
        Ok(())
    }

    /// Goes on in another file.
    fn split(&mut self) -> Result<(), Error> {
        self.end()?;
        self.remove_old();
        self.begin()
    }

    fn remove_old(&mut self) {
        let Some(keep) = self.options.keep else { return };
        // The file that follows is one of them.
        while self.files.len() >= keep {
            let Some(path) = self.files.pop_front() else { return };
            if let Err(error) = self.shelf.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old part of the recording");
            }
        }
    }

    /// Has the file begin with what the latched topics said last, so that it stands alone, unless it has begun already. These
    /// messages are not counted: they are in the file before, too. Whenever they were published, they are recorded when the file
    /// begins.
    fn write_latched(&mut self, begins: u64) -> Result<(), Error> {
        let has_begun = self.file.as_mut().is_none_or(|file| std::mem::replace(&mut file.has_begun, true));
        if has_begun || self.latched.is_empty() {
            return Ok(());
        }
        let mut chunk = OpenChunk::with_capacity(1 << 12);
        for (channel, Latched { sequence, time, bytes }) in self.latched.values() {
            chunk.add_message(*channel, *sequence, begins.max(*time), *time, [bytes, &[]]);
        }
        let mut sealer =
            Sealer::new(Compression::None).map_err(|source| Error::System { what: "lay out a chunk", source })?;
        let (sealed, _) = sealer.seal(chunk, Vec::new);
        let Some(file) = &mut self.file else { return Ok(()) };
        for (channel, _) in self.latched.values() {
            file.add_channel(&self.channels, *channel)?;
        }
        file.writer.append(&sealed).map_err(|source| Error::write(&file.path, source))
    }

    /// Keeps what latched topics said last, which a topic may have done on another channel than before.
    fn remember(&mut self, latched: BTreeMap<u16, Latched>) {
        for (channel, latched) in latched {
            let account = self.channels[usize::from(channel)].account;
            if self.latched.get(&account).is_none_or(|(_, before)| before.time <= latched.time) {
                self.latched.insert(account, (channel, latched));
            }
        }
    }

    /// Lets go of what a snapshot need not reach back to; and of what there is no memory for, which is a loss.
    fn expire(&mut self, time: Duration) {
        let newest = self.kept.back().map_or(0, |kept| kept.chunk.index().end_time);
        let oldest = newest.saturating_sub(time.as_nanos() as u64);
        while let Some(kept) = self.kept.front() {
            let is_old = kept.chunk.index().end_time < oldest || time.is_zero();
            if !is_old && self.kept_bytes <= self.options.memory {
                break;
            }
            self.kept_bytes -= kept.bytes();
            let Some(Kept { chunk, latched, .. }) = self.kept.pop_front() else { break };
            self.remember(latched);
            if is_old {
                self.count_chunk(&chunk, |expired| Counts { expired, ..Counts::default() });
            } else {
                self.lose(chunk);
            }
        }
    }

    /// Writes what is kept to a file of its own.
    fn snapshot(&mut self) -> Result<(), Error> {
        self.remove_old();
        self.begin()?;
        while let Some(kept) = self.kept.pop_front() {
            self.kept_bytes -= kept.bytes();
            let Kept { chunk, latched, tallies } = kept;
            self.count_in_file(tallies);
            if let Err(error) = self.write(&chunk) {
                self.lose(chunk);
                return Err(error);
            }
            self.remember(latched);
            self.after_write()?;
        }
        let untold = std::mem::take(&mut self.untold);
        self.count_in_file(untold);
        self.end()
    }

    /// Counts for the file that is open what was counted when none was.
    fn count_in_file(&mut self, tallies: BTreeMap<usize, Counts>) {
        let Some(file) = &mut self.file else { return };
        tallies.into_iter().for_each(|(account, counts)| file.count(&self.topics, account, counts));
    }

    /// Nothing is written any more but the end of the file, once it is known what was lost.
    fn fail(&mut self, error: Error) {
        self.kept_bytes = 0;
        for Kept { chunk, .. } in std::mem::take(&mut self.kept) {
            self.lose(chunk);
        }
        if let Some(file) = &mut self.file {
            if let Err(error) = file.writer.cut_back() {
                tracing::warn!(%error, path = %file.path.display(), "cannot remove what a failed write left");
            }
        }
        self.control.fail(error);
    }
}

impl<S: Storage> Part<S> {
    /// `topics` are the names of all accounts.
    fn count(&mut self, topics: &[String], account: usize, counts: Counts) {
        let sum = self.counts.entry(account).or_insert_with(|| {
            // For what the end of the file says of it.
            self.writer.set_aside(LONGEST_COUNTS + topics.get(account).map_or(0, String::len));
            Counts::default()
        });
        *sum += counts;
        // Of what is in the file it tells itself. Of a pause, too: gaps that nobody explains are taken for losses.
        self.told &= counts.lost == 0 && counts.paused == 0;
    }

    fn add_channel(&mut self, channels: &[Arc<Channel>], id: u16) -> Result<(), Error> {
        if self.channels.contains(&id) {
            return Ok(());
        }
        let channel = &channels[usize::from(id)];
        let added = self.writer.add_topic(id, &channel.topic, &channel.schema, channel.metadata());
        added.map_err(|source| Error::write(&self.path, source))?;
        self.channels.insert(id);
        Ok(())
    }

    /// What the file says of what became of each topic's messages so far.
    fn telling(&self, topics: &[String]) -> BTreeMap<String, String> {
        let counts = self.counts.iter();
        counts.filter_map(|(&account, counts)| Some((topics.get(account)?.clone(), counts.to_string()))).collect()
    }
}

/// No less than an entry of the metadata takes beside the topic's name.
const LONGEST_COUNTS: usize = 192;
const PROFILE: &str = "ros2";
/// The name of the metadata that makes a file a recording of topics, in which gaps between numbers are losses.
pub(crate) const RECORDING: &str = "conduit.recording";
