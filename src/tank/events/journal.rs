//! A row of files to which messages are appended in groups.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::channels::{Channels, Key};
use crate::tank::file::{FileWriter, LIBRARY};
use crate::tank::format::chunk::{MESSAGE_HEAD, OpenChunk, SealedChunk, Sealer};
use crate::tank::storage::Storage;
use crate::tank::{Compression, Error};
use crate::topic::Schema;

/// Hands a file's contents to the disk.
pub(super) type SyncFile = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Where files come from.
pub(super) trait Shelf {
    type Storage: Storage;
    /// Makes the next file.
    fn create(&mut self) -> Result<(PathBuf, Self::Storage, SyncFile), Error>;
}

/// When a file is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub bytes: u64,
    /// What is known of each chunk stays in memory until the end of the file.
    pub chunks: u32,
    /// At most `u16::MAX`.
    pub channels: u16,
    /// A group that is larger goes to the file before it is committed.
    pub group: usize,
}

/// A file that nothing more goes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    pub path: PathBuf,
    pub bytes: u64,
}

/// Gathers messages into a group in memory, and writes it as one chunk when it is committed. What could not be written stays,
/// and is written by the next commit.
pub(super) struct Journal<H: Shelf> {
    shelf: H,
    limits: Limits,
    /// Numbers of channels, which are those in the file, or in the one that is begun next.
    channels: Channels,
    /// How often those were given anew.
    generation: u64,
    sealer: Sealer,
    open: OpenChunk,
    messages: u64,
    /// A group that could not be written, or not be synced.
    stuck: Option<SealedChunk>,
    /// The memory of the last chunk that was compressed.
    spare: Vec<u8>,
    file: Option<Part<H::Storage>>,
    ended: Vec<Ended>,
    /// A file that was ended, and may not be on the disk.
    unsynced: Option<(PathBuf, io::Error)>,
    /// Groups that are in files.
    groups: u64,
}

struct Part<S> {
    path: PathBuf,
    writer: FileWriter<S>,
    sync: SyncFile,
    /// Which channels the file has.
    declared: Vec<bool>,
    chunks: u32,
}

/// Memory of a group that is kept for the next one, whatever that is.
const KEPT: usize = 4 << 20;

impl<H: Shelf> Journal<H> {
    pub fn new(shelf: H, compression: Compression, limits: Limits) -> Result<Self, Error> {
        let sealer =
            Sealer::new(compression).map_err(|source| Error::System { what: "set up a compressor", source })?;
        Ok(Journal {
            shelf,
            limits,
            channels: Channels::new(),
            generation: 0,
            sealer,
            open: OpenChunk::reusing(Vec::new()),
            messages: 0,
            stuck: None,
            spare: Vec::new(),
            file: None,
            ended: Vec::new(),
            unsynced: None,
            groups: 0,
        })
    }

    pub fn shelf(&self) -> &H {
        &self.shelf
    }

    /// Bytes that are in memory.
    pub fn pending(&self) -> usize {
        self.open.len() + self.stuck.as_ref().map_or(0, |chunk| chunk.bytes().len())
    }

    /// Bytes of the file that is being written.
    pub fn file_len(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.writer.len())
    }

    /// The file that is being written, and how to sync it.
    pub fn file(&self) -> Option<(&Path, &SyncFile)> {
        self.file.as_ref().map(|file| (&*file.path, &file.sync))
    }

    /// How often channels were given other numbers, as happens with each file.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// The files that were ended since this was asked last.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        mem::take(&mut self.ended)
    }

    /// A file that was ended since this was asked last, and may not be on the disk but for what was synced before.
    pub fn take_unsynced(&mut self) -> Option<(PathBuf, io::Error)> {
        self.unsynced.take()
    }

    /// The channels of these keys, good until the next call or commit. If the file has no more, what was appended is
    /// committed, and the file ended.
    #[inline]
    pub fn channels<const N: usize>(&mut self, keys: [&Key<'_>; N], sync: bool) -> Result<[u16; N], Error> {
        let mut ids = [0; N];
        for (id, key) in ids.iter_mut().zip(keys) {
            match self.channels.find(key) {
                Some(known) => *id = known,
                None => return self.add_channels(keys, sync),
            }
        }
        Ok(ids)
    }

    #[cold]
    fn add_channels<const N: usize>(&mut self, keys: [&Key<'_>; N], sync: bool) -> Result<[u16; N], Error> {
        if self.channels.len() + N > usize::from(self.limits.channels) {
            self.commit(sync)?;
            self.end_file();
        }
        Ok(keys.map(|key| self.channels.find(key).unwrap_or_else(|| self.channels.add(key))))
    }

    /// Appends a message to the group. If that would become too large, it is committed before.
    #[inline]
    pub fn append(&mut self, channel: u16, sequence: u32, times: (u64, u64), data: &[u8]) {
        let (log_time, publish_time) = times;
        self.open.add_message(channel, sequence, log_time, publish_time, [data, &[]]);
        self.messages += 1;
    }

    /// Whether so many bytes more would make the group larger than it is to be.
    #[inline]
    pub fn is_full_with(&self, bytes: usize) -> bool {
        self.messages > 0 && self.open.len() + MESSAGE_HEAD + bytes > self.limits.group
    }

    /// Writes what was appended, and has the disk have it if `sync` says so. Ends the file if it is full.
    pub fn commit(&mut self, sync: bool) -> Result<(), Error> {
        while self.stuck.is_some() || self.messages > 0 {
            let chunk = match self.stuck.take() {
                Some(chunk) => chunk,
                None => self.seal(),
            };
            if let Err(error) = self.put(&chunk, sync) {
                self.stuck = Some(chunk);
                return Err(error);
            }
            self.groups += 1;
            self.reuse(chunk);
        }
        let Limits { bytes, chunks, .. } = self.limits;
        if self.file.as_ref().is_some_and(|file| file.writer.len() >= bytes || file.chunks >= chunks) {
            self.end_file();
        }
        Ok(())
    }

    fn seal(&mut self) -> SealedChunk {
        let chunk = mem::replace(&mut self.open, OpenChunk::reusing(Vec::new()));
        let (sealed, left) = self.sealer.seal(chunk, || mem::take(&mut self.spare));
        left.into_iter().for_each(|bytes| self.open = OpenChunk::reusing(bytes));
        self.messages = 0;
        sealed
    }

    /// Takes the memory of a chunk that is written.
    fn reuse(&mut self, chunk: SealedChunk) {
        let (is_compressed, bytes) = (!chunk.index().compression.is_empty(), chunk.into_bytes());
        let bytes = if bytes.capacity() > KEPT { Vec::new() } else { bytes };
        if is_compressed {
            self.spare = bytes;
        } else if self.messages == 0 {
            self.open = OpenChunk::reusing(bytes);
        }
    }

    fn put(&mut self, chunk: &SealedChunk, sync: bool) -> Result<(), Error> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(begin(&mut self.shelf)?),
        };
        let failed = |path: &Path, source| Error::write(path, source);
        for &(id, _) in chunk.counts() {
            file.declare(id, &self.channels).map_err(|source| failed(&file.path, source))?;
        }
        let before = file.writer.written();
        if let Err(source) = file.writer.append(chunk) {
            // If that fails, too, the next write goes over what is left there.
            let _ = file.writer.cut_back();
            return Err(failed(&file.path, source));
        }
        file.chunks += 1;
        if sync {
            if let Err(source) = (file.sync)() {
                let error = failed(&file.path, source);
                self.give_up(before);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Leaves the file, whose disk has not taken what is behind `len`: what the system has of that may be gone, and a second
    /// try to sync would not say so. The group goes to another file.
    fn give_up(&mut self, len: u64) {
        let Some(Part { path, writer, sync, .. }) = self.file.take() else { return };
        tracing::error!(path = %path.display(), "the disk has not taken what was written: going on in another file");
        if let Err(error) = writer.give_up(len).and_then(|()| sync()) {
            tracing::warn!(%error, path = %path.display(), "a group that failed may be there a second time");
        }
        self.ended.push(Ended { path, bytes: len });
    }

    /// Ends the file. What is left in memory goes to the next one. If that fails, the file is left as it is, and gets an end
    /// when the directory is opened next.
    pub fn end_file(&mut self) {
        // What is left has numbers of channels, which the next file has to have, too.
        if self.messages == 0 && self.stuck.is_none() {
            self.channels.clear();
            self.generation += 1;
        }
        let Some(Part { path, mut writer, sync, .. }) = self.file.take() else { return };
        if let Err(error) = writer.finish() {
            tracing::warn!(%error, path = %path.display(), "a file got no end, which it gets when it is opened next");
            let _ = writer.cut_back();
        }
        if let Err(error) = sync() {
            tracing::error!(%error, path = %path.display(), "the disk has not taken all of a file");
            self.unsynced = Some((path.clone(), error));
        }
        self.ended.push(Ended { bytes: writer.written(), path });
    }
}

fn begin<H: Shelf>(shelf: &mut H) -> Result<Part<H::Storage>, Error> {
    let (path, storage, sync) = shelf.create()?;
    match FileWriter::begin(storage, "", LIBRARY) {
        Ok(writer) => Ok(Part { path, writer, sync, declared: Vec::new(), chunks: 0 }),
        Err(source) => {
            // There is nothing in it.
            let _ = std::fs::remove_file(&path);
            Err(Error::write(&path, source))
        }
    }
}

impl<S: Storage> Part<S> {
    /// Has the file say what a channel is, unless it has.
    #[inline]
    fn declare(&mut self, id: u16, channels: &Channels) -> io::Result<()> {
        match self.declared.get(usize::from(id)) {
            Some(true) => Ok(()),
            _ => self.add(id, channels),
        }
    }

    fn add(&mut self, id: u16, channels: &Channels) -> io::Result<()> {
        let Some((topic, encoding, metadata)) = channels.describe(id) else { return Ok(()) };
        let schema = Schema { message_encoding: encoding.into(), ..Schema::default() };
        self.writer.add_topic(id, topic, &schema, metadata)?;
        if self.declared.len() <= usize::from(id) {
            self.declared.resize(usize::from(id) + 1, false);
        }
        self.declared[usize::from(id)] = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
