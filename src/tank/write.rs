//! Writing messages to a file that come from no topic.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::file::{FileWriter, LIBRARY};
use super::format::chunk::{MESSAGE_HEAD, OpenChunk, SealedChunk, Sealer};
use super::record::CDR;
use super::storage::{DiskFile, Storage};
use super::{Compression, Error};
use crate::topic::message::bytes_of;
use crate::topic::{Message, Schema};

/// Writes messages to an MCAP file, wherever they come from. For topics there is the [`Recorder`](super::Recorder).
///
/// Messages are gathered in memory, and go to the file as chunks: see [`WriterOptions`]. Whatever happens, the file is a
/// valid beginning of one and at most one torn write behind it, which [`recover`](super::recover) gives an end.
///
/// A write that fails is undone. Messages that were taken before stay in memory, and are written by the next call that
/// writes, so that whoever calls may make room and try again.
///
/// ```
/// use conduit::tank::{Compression, Query, Recording, Writer};
/// use conduit::topic::Schema;
///
/// # let path = std::env::temp_dir().join(format!("doc-writer-{}.mcap", std::process::id()));
/// # let path = &path;
/// let mut writer = Writer::options().compression(Compression::Lz4).create(path)?;
/// let schema = Schema { message_encoding: "json".into(), ..Schema::default() };
/// let log = writer.add_topic("log", &schema, &[("source", "arm")])?;
/// writer.write(log, 1, 1_700_000_000_000_000_000, br#"{"ok":true}"#)?;
/// writer.finish()?;
///
/// let recording = Recording::open(path)?;
/// assert!(recording.is_complete());
/// let mut messages = recording.messages(Query::new())?;
/// assert_eq!(messages.next()?.unwrap().data, br#"{"ok":true}"#);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    file: ChunkWriter<DiskFile>,
    disk: Arc<File>,
    /// Whether it was told to finish.
    ended: bool,
}

/// A channel of the file of a [`Writer`], which has to be told it with each message: of that writer, as another one's are other
/// topics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChannelId(u16);

impl ChannelId {
    /// Its number in the file, as [`Topic::id`](super::Topic::id) says it.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// How a [`Writer`] writes: made by [`Writer::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `create`"]
pub struct WriterOptions {
    compression: Compression,
    chunk_bytes: usize,
    chunk_time: Duration,
    profile: String,
}

impl WriterOptions {
    /// How chunks are compressed, in the thread that writes. Default: not at all.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How many bytes of messages, with 31 for each, a chunk has at most before it is compressed and indexed, but that a message
    /// larger than that has one of its own. Default 1 MiB.
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes;
        self
    }

    /// How much time the messages of a chunk span at most. Default 1 s.
    pub fn chunk_time(mut self, time: Duration) -> Self {
        self.chunk_time = time;
        self
    }

    /// What the file says of its use, such as `ros2`: see the
    /// [registry](https://mcap.dev/spec/registry#well-known-profiles). Default: nothing.
    pub fn profile(mut self, profile: &str) -> Self {
        self.profile = profile.into();
        self
    }

    /// Makes a file.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`]; [`Error::Exists`] if there is such a file; [`Error::Io`].
    pub fn create(self, path: impl AsRef<Path>) -> Result<Writer, Error> {
        let path = path.as_ref();
        if self.chunk_bytes == 0 || self.chunk_bytes > 1 << 30 {
            return Err(invalid("chunk_bytes", "a chunk has 1 byte to 1 GiB"));
        }
        let file = DiskFile::create(path)?;
        let disk = file.file().clone();
        let file = ChunkWriter::begin(path, file, self).inspect_err(|_| _ = std::fs::remove_file(path))?;
        Ok(Writer { file, disk, ended: false })
    }
}

impl Writer {
    /// Options to write with.
    pub fn options() -> WriterOptions {
        WriterOptions {
            compression: Compression::None,
            chunk_bytes: 1 << 20,
            chunk_time: Duration::from_secs(1),
            profile: String::new(),
        }
    }

    /// Makes a file with the default options.
    ///
    /// # Errors
    ///
    /// As [`WriterOptions::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::options().create(path)
    }

    /// Adds a topic: its name, how its messages are to be read, and what else is to be said about it. It is written together
    /// with the next messages, whichever those are of, or with the end of the file.
    ///
    /// The same name again is another channel of the same topic.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] if there are 65,535 already; [`Error::Io`] if the disk has no room for it: nothing has changed
    /// then.
    pub fn add_topic(&mut self, name: &str, schema: &Schema, metadata: &[(&str, &str)]) -> Result<ChannelId, Error> {
        self.file.add_topic(name, schema, metadata)
    }

    /// Takes a message, in the encoding that its topic says; CDR with the four bytes before it. `log_time` is in
    /// nanoseconds since 1970, where readers are to show a date, and need not grow from message to message.
    ///
    /// Copies the bytes into a chunk. If that is full, or its first message older by the chunk time, it is written before.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the message was not taken, those before it are kept. [`Error::InvalidOption`]: the file has no such
    /// channel.
    #[inline]
    pub fn write(&mut self, channel: ChannelId, sequence: u32, log_time: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file.write(channel, sequence, log_time, bytes)
    }

    /// Takes a message of a type that [`message!`](crate::message) declares, in a topic with its [schema](Schema::of).
    ///
    /// ```
    /// use conduit::msgs::Vector3;
    /// use conduit::tank::{Query, Recording, Writer};
    /// use conduit::topic::Schema;
    ///
    /// # let path = std::env::temp_dir().join(format!("doc-typed-{}.mcap", std::process::id()));
    /// # let path = &path;
    /// let mut writer = Writer::create(path)?;
    /// let command = writer.add_topic("command", &Schema::of::<Vector3>(), &[])?;
    /// writer.write_message(command, 0, 1_700_000_000_000_000_000, &Vector3::from([1.0, 2.0, 3.0]))?;
    /// writer.finish()?;
    ///
    /// let recording = Recording::open(path)?;
    /// let mut messages = recording.messages(Query::new())?;
    /// let message = messages.next()?.expect("there is one");
    /// assert_eq!(message.get::<Vector3>(), Some([1.0, 2.0, 3.0].into()));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_message<T: Message>(
        &mut self,
        channel: ChannelId,
        sequence: u32,
        log_time: u64,
        message: &T,
    ) -> Result<(), Error> {
        self.file.write_parts(channel, sequence, log_time, [CDR, bytes_of(message)])
    }

    /// Adds a metadata record, before the messages that are not written yet.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the disk has no room for it: nothing has changed then.
    pub fn add_metadata(&mut self, name: &str, entries: &[(&str, &str)]) -> Result<(), Error> {
        let ChunkWriter { file, path, .. } = &mut self.file;
        file.add_metadata(name, &texts(entries)).map_err(|source| Error::write(path, source))
    }

    /// Writes the messages that are still in memory if the first of them is as old as the chunk time: for when none follow
    /// that would have them written. `now` is by the clock of the log times.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn flush_if_due(&mut self, now: u64) -> Result<(), Error> {
        self.file.flush_if_due(now)
    }

    /// Writes everything that is still in memory: then it outlives the process.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: everything is kept.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.file.flush()
    }

    /// As [`flush`](Self::flush), and waits until the disk has it: then it outlives a loss of power.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.disk.sync_data().map_err(|source| Error::write(&self.file.path, source))
    }

    /// Bytes of the file so far, without what is still in memory.
    pub fn file_len(&self) -> u64 {
        self.file.file.written()
    }

    /// Writes what is left and the end of the file, and waits until the disk has them; returns the file's length. A writer
    /// that is dropped does the same without waiting for the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Unwritten`] if messages could not be written, but the end could; [`Error::Io`] if that could not either: then
    /// [`recover`](super::recover) can end the file.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.ended = true;
        let finished = self.file.finish();
        // What could not be written is no reason to risk the rest.
        self.disk.sync_data().map_err(|source| Error::write(&self.file.path, source))?;
        finished
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Err(error) = self.file.finish() {
            tracing::error!(%error, "not all was written, and nobody asked about it");
        }
    }
}

fn texts(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

fn invalid(option: &'static str, reason: impl Into<String>) -> Error {
    Error::InvalidOption { option, reason: reason.into() }
}

/// Gathers messages into chunks, and writes those.
#[derive(Debug)]
struct ChunkWriter<S> {
    path: PathBuf,
    file: FileWriter<S>,
    channels: u16,
    chunk_bytes: usize,
    chunk_time: u64,
    sealer: Sealer,
    chunk: OpenChunk,
    /// The log time from which the chunk is closed.
    due: u64,
    /// How many messages are in memory.
    messages: u64,
    /// What could not be written. As long as there is such a chunk, the open one is empty.
    stuck: Option<SealedChunk>,
    /// The memory of the last chunk that was compressed.
    spare: Vec<u8>,
}

impl<S: Storage> ChunkWriter<S> {
    fn begin(path: &Path, storage: S, options: WriterOptions) -> Result<Self, Error> {
        let sealer =
            Sealer::new(options.compression).map_err(|source| Error::System { what: "set up a compressor", source })?;
        let file =
            FileWriter::begin(storage, &options.profile, LIBRARY).map_err(|source| Error::write(path, source))?;
        Ok(ChunkWriter {
            path: path.into(),
            file,
            channels: 0,
            chunk_bytes: options.chunk_bytes,
            chunk_time: u64::try_from(options.chunk_time.as_nanos()).unwrap_or(u64::MAX),
            sealer,
            chunk: OpenChunk::reusing(Vec::new()),
            due: 0,
            messages: 0,
            stuck: None,
            spare: Vec::new(),
        })
    }

    fn add_topic(&mut self, name: &str, schema: &Schema, metadata: &[(&str, &str)]) -> Result<ChannelId, Error> {
        if self.channels == u16::MAX {
            return Err(invalid("topic", format!("a file has at most {} topics", self.channels)));
        }
        let id = self.channels;
        let added = self.file.add_topic(id, name, schema, texts(metadata));
        added.map_err(|source| Error::write(&self.path, source))?;
        self.channels += 1;
        Ok(ChannelId(id))
    }

    #[inline]
    fn write(&mut self, channel: ChannelId, sequence: u32, log_time: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_parts(channel, sequence, log_time, [bytes, &[]])
    }

    #[inline]
    fn write_parts(
        &mut self,
        channel: ChannelId,
        sequence: u32,
        log_time: u64,
        parts: [&[u8]; 2],
    ) -> Result<(), Error> {
        let len = parts[0].len() + parts[1].len();
        if channel.0 >= self.channels {
            return Err(invalid("channel", format!("the file has no channel {}", channel.0)));
        }
        let is_full = self.chunk.len() + MESSAGE_HEAD + len > self.chunk_bytes;
        if self.messages > 0 && (is_full || log_time >= self.due || self.stuck.is_some()) {
            self.flush()?;
        }
        if self.messages == 0 {
            self.due = log_time.saturating_add(self.chunk_time);
        }
        self.chunk.add_message(channel.0, sequence, log_time, log_time, parts);
        self.messages += 1;
        Ok(())
    }

    fn flush_if_due(&mut self, now: u64) -> Result<(), Error> {
        if self.messages > 0 && now >= self.due { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.messages > 0 && self.stuck.is_none() {
            let chunk = mem::replace(&mut self.chunk, OpenChunk::reusing(Vec::new()));
            let (sealed, left) = self.sealer.seal(chunk, || mem::take(&mut self.spare));
            self.stuck = Some(sealed);
            left.into_iter().for_each(|bytes| self.chunk = OpenChunk::reusing(bytes));
        }
        let written = match &self.stuck {
            Some(chunk) => self.file.append(chunk),
            None => self.file.flush(),
        };
        written.map_err(|source| self.undo(source))?;
        self.messages = 0;
        if let Some(chunk) = self.stuck.take() {
            // What was compressed was elsewhere, and is free already.
            if chunk.index().compression.is_empty() {
                self.chunk = OpenChunk::reusing(chunk.into_bytes());
            } else {
                self.spare = chunk.into_bytes();
            }
        }
        Ok(())
    }

    fn undo(&mut self, source: io::Error) -> Error {
        // If that fails, too, the next write goes over what is left there.
        let _ = self.file.cut_back();
        Error::write(&self.path, source)
    }

    fn finish(&mut self) -> Result<u64, Error> {
        let flushed = self.flush();
        let len = self.file.finish().map_err(|source| Error::write(&self.path, source))?;
        match flushed {
            Err(Error::Io { source, .. }) if self.messages > 0 => {
                Err(Error::Unwritten { path: self.path.clone(), messages: mem::take(&mut self.messages), source })
            }
            // There was room for it at the end.
            Ok(()) | Err(Error::Io { .. }) => Ok(len),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
