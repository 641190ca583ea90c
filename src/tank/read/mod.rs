//! Reading recordings.

pub(crate) mod block;
mod messages;
mod resync;
pub(crate) mod scan;
pub(crate) mod source;
pub(crate) mod summary;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::tank::Error;
use crate::tank::format::parse::{self, Fault};
use crate::tank::format::summary::Summary;
use crate::tank::format::{MAGIC, op};
use crate::tank::loss::Counts;
use crate::tank::recover::RECOVERED;
use crate::topic::Schema;

use block::{Block, Loader};
pub use messages::{Message, Messages, Query};
use scan::{End, Scan};
use source::Source;
use walk::{Place, Stop, Walk};

/// A recording, to be read: an MCAP file, whoever wrote it.
///
/// It is read by its summary if there is one that can be right. Otherwise, as after a crash of the recorder, all of the file
/// is gone through when it is opened, up to the last record that is whole; [`problems`](Self::problems) says so. The file may
/// be one that is being written: what has been written when it is opened is read.
///
/// Nothing in the file is trusted, and no more memory taken than the [limit](RecordingOptions::memory) for what is read, beside
/// lists of the file's chunks, attachments and metadata. The file is not mapped: one that is cut while it is read is an error.
///
/// ```
/// use conduit::tank::{Query, Recording};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/zstd.mcap");
/// let recording = Recording::open(path)?;
/// assert!(recording.is_complete());
/// let even: Vec<_> = recording.topics().iter().filter(|topic| topic.name == "even").map(|topic| topic.id).collect();
/// let mut messages = recording.messages(Query::new().topics(even).start(1_200))?;
/// while let Some(message) = messages.next()? {
///     assert_eq!(message.topic.schema.message_encoding, "json");
///     assert!(message.data.starts_with(br#"{"i":"#));
/// }
/// # Ok::<(), conduit::tank::Error>(())
/// ```
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    source: Source,
    limit: u64,
    profile: String,
    library: String,
    topics: Vec<Topic>,
    summary: Summary,
    problems: Vec<Problem>,
    /// Made when messages are first asked for, where the summary does not say all.
    blocks: OnceLock<Vec<Block>>,
}

/// A topic of a recording: in MCAP's words a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Topic {
    /// Its number in the file. A file may have more than one channel for the same topic.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// How its messages are to be read.
    pub schema: Schema,
    /// What else is said about it.
    pub metadata: BTreeMap<String, String>,
    /// How many messages there are.
    pub messages: u64,
}

/// A chunk of a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Chunk<'a> {
    /// Where in the file it is.
    pub offset: u64,
    /// The earliest log time in it.
    pub start: u64,
    /// The latest.
    pub end: u64,
    /// How it is compressed: nothing, `lz4` or `zstd`.
    pub compression: &'a str,
    /// What its records take in the file.
    pub compressed: u64,
    /// What they take in memory.
    pub uncompressed: u64,
}

/// A file within a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Attachment<'a> {
    /// Its name.
    pub name: &'a str,
    /// What kind of file it is.
    pub media_type: &'a str,
    /// When it was recorded, in nanoseconds.
    pub log_time: u64,
    /// When it was made, in nanoseconds; 0 if that is not known.
    pub create_time: u64,
    /// Its length.
    pub len: u64,
    offset: u64,
    record_len: u64,
}

/// Words that were written into a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Metadata {
    /// What they are about.
    pub name: String,
    /// What they say.
    pub entries: BTreeMap<String, String>,
}

/// Why a recording is not all that it could be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Its writer did not finish it, or it was cut.
    #[error(
        "it was not finished{}: {unread} bytes behind byte {end} are not read",
        fault.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default()
    )]
    Unfinished {
        /// Where what is read ends.
        end: u64,
        /// How many bytes there are behind that.
        unread: u64,
        /// What is wrong with them.
        fault: Option<Fault>,
    },
    /// The summary at its end is of no use; all of the file was gone through instead.
    #[error("byte {offset}: {fault}; the summary is not used")]
    Summary {
        /// Where.
        offset: u64,
        /// What is wrong there.
        fault: Fault,
    },
    /// A record is damaged, and left out.
    #[error("byte {offset}: {fault}; it is left out, with {messages} messages")]
    Skipped {
        /// Where.
        offset: u64,
        /// What is wrong there.
        fault: Fault,
        /// How many messages are left out, as far as that is known.
        messages: u64,
    },
    /// More records are damaged, and left out, than are told one by one.
    #[error("{records} more records are damaged; they are left out")]
    More {
        /// How many.
        records: u64,
    },
}

/// How to read a [`Recording`].
#[derive(Clone, Copy, Debug)]
pub struct RecordingOptions {
    memory: u64,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        RecordingOptions { memory: 1 << 30 }
    }
}

impl RecordingOptions {
    /// The most that is taken for each of what is read, in bytes: a record, a chunk, what comes out of it, and all of the chunks
    /// that overlap; together up to about three times as much. 1 GiB unless it is set. More is an error when it is read.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::NotMcap`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Recording, Error> {
        let path = path.as_ref();
        let source = File::open(path).and_then(Source::file).map_err(|source| system("open", path, source))?;
        Recording::of(source, path.into(), self)
    }

    /// Reads bytes as if they were a file.
    ///
    /// # Errors
    ///
    /// [`Error::NotMcap`].
    pub fn read(self, bytes: impl Into<Arc<[u8]>>) -> Result<Recording, Error> {
        Recording::of(Source::Bytes(bytes.into()), PathBuf::from("(bytes)"), self)
    }
}

impl Recording {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::NotMcap`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::options().open(path)
    }

    /// How to open one.
    pub fn options() -> RecordingOptions {
        RecordingOptions::default()
    }

    fn of(source: Source, path: PathBuf, options: RecordingOptions) -> Result<Self, Error> {
        let limit = options.memory;
        let failed = |stop| error(&path, stop);
        check_magic(&source, &path)?;
        let mut problems = Vec::new();
        match summary::read(&source, limit) {
            Ok(Some(read)) => {
                let topics = topics(&read.summary);
                let blocks = OnceLock::new();
                let summary::Read { profile, library, summary } = read;
                return Ok(Recording { path, source, limit, profile, library, topics, summary, problems, blocks });
            }
            Ok(None) => {}
            Err(Stop::Fault { offset, fault }) => problems.push(Problem::Summary { offset, fault }),
            Err(stop) => return Err(failed(stop)),
        }
        let is_finished = summary::footer(&source).map_err(failed)?.is_some();
        let mut scan = Scan::of(&source, limit).map_err(failed)?;
        let fault = match scan.end.clone() {
            End::Fault { fault, .. } => Some(fault),
            End::Marked { .. } | End::Unmarked => None,
        };
        if !is_finished || fault.is_some() {
            let unread = source.len().saturating_sub(scan.good);
            problems.push(Problem::Unfinished { end: scan.good, unread, fault });
        }
        let skipped = scan.bad.drain(..);
        problems.extend(skipped.map(|bad| Problem::Skipped {
            offset: bad.place.offset,
            fault: bad.fault,
            messages: bad.messages,
        }));
        if scan.more_bad > 0 {
            problems.push(Problem::More { records: scan.more_bad });
        }
        let blocks = OnceLock::from(scan.blocks());
        let topics = topics(&scan.summary);
        let Scan { profile, library, summary, .. } = scan;
        Ok(Recording { path, source, limit, profile, library, topics, summary, problems, blocks })
    }

    /// Whether it was finished and is read whole. What is damaged within a chunk shows only when that is read, or
    /// [checked](crate::tank::check).
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether its recorder was killed, and [`recover`](crate::tank::recover) gave it its end: nobody knows what was lost behind its
    /// last message.
    pub fn is_recovered(&self) -> bool {
        self.summary.metadata.iter().any(|metadata| metadata.name == RECOVERED)
    }

    /// Why it is not all that it could be.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The length of the file, when it was opened.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    /// What is promised of all its topics, such as `ros2`; mostly nothing.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// What it was written with.
    pub fn library(&self) -> &str {
        &self.library
    }

    /// Its topics, by their number.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    /// How many messages there are.
    pub fn message_count(&self) -> u64 {
        self.summary.statistics.messages
    }

    /// Log times of the earliest and the latest message, in nanoseconds. `None` if there is none.
    pub fn times(&self) -> Option<(u64, u64)> {
        let statistics = &self.summary.statistics;
        (statistics.messages > 0).then_some((statistics.start_time, statistics.end_time))
    }

    /// Its chunks, in the order of the file.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = Chunk<'_>> {
        self.summary.chunks.iter().map(|chunk| Chunk {
            offset: chunk.offset,
            start: chunk.start_time,
            end: chunk.end_time,
            compression: &chunk.compression,
            compressed: chunk.compressed_size,
            uncompressed: chunk.uncompressed_size,
        })
    }

    /// The files within it.
    pub fn attachments(&self) -> impl ExactSizeIterator<Item = Attachment<'_>> {
        self.summary.attachments.iter().map(|index| Attachment {
            name: &index.name,
            media_type: &index.media_type,
            log_time: index.log_time,
            create_time: index.create_time,
            len: index.data_size,
            offset: index.offset,
            record_len: index.len,
        })
    }

    /// Writes the contents of an attachment out.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it is not where the summary says, or has another checksum: that shows when all of it was written.
    /// [`Error::Io`].
    pub fn copy_attachment(&self, attachment: &Attachment<'_>, to: &mut impl Write) -> Result<(), Error> {
        let place = self.place(attachment.offset, attachment.record_len, op::ATTACHMENT)?;
        let fault = |fault| self.error(place.fault(fault));
        let io = |source| system("read", &self.path, source);
        // Numbers and names before the data, as long as the index says that they are.
        let head = 32 + attachment.name.len() + attachment.media_type.len();
        let mut prefix = vec![0; place.len.min(head as u64) as usize];
        self.source.read_exact_at(place.body(), &mut prefix).map_err(io)?;
        let found = parse::Attachment::parse(&prefix, place.len).map_err(fault)?;
        let mut hash = crc32fast::Hasher::new();
        hash.update(&prefix[..found.data_at as usize]);
        let start = place.body() + found.data_at;
        let mut written = Ok(());
        let pieces = self.source.pieces(start, start + found.data_len, |piece| {
            hash.update(piece);
            if written.is_ok() {
                written = to.write_all(piece);
            }
        });
        pieces.map_err(io)?;
        written.map_err(|source| Error::Io { action: "write", path: attachment.name.into(), source })?;
        let mut crc = [0; 4];
        self.source.read_exact_at(start + found.data_len, &mut crc).map_err(io)?;
        match (u32::from_le_bytes(crc), hash.finalize()) {
            (recorded, found) if recorded != 0 && recorded != found => Err(fault(Fault::Checksum { recorded, found })),
            _ => Ok(()),
        }
    }

    /// What was written about it.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn metadata(&self) -> Result<Vec<Metadata>, Error> {
        let mut found = Vec::new();
        self.each_metadata(|_| true, |metadata| found.push(metadata))?;
        Ok(found)
    }

    fn each_metadata(&self, wanted: impl Fn(&str) -> bool, mut each: impl FnMut(Metadata)) -> Result<(), Error> {
        for index in self.summary.metadata.iter().filter(|index| wanted(&index.name)) {
            let place = self.place(index.offset, index.len, op::METADATA)?;
            let mut walk = Walk::new(self.source.clone(), place.offset, place.end(), self.limit);
            let body = walk.body(place).map_err(|stop| self.error(stop))?;
            let (name, entries) = parse::metadata(body).map_err(|fault| self.error(place.fault(fault)))?;
            each(Metadata { name, entries });
        }
        Ok(())
    }

    /// What became of each topic's messages while the file was written, as far as the recorder wrote it down. A recorder that
    /// was killed had no time to write the last of it.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn counts(&self) -> Result<BTreeMap<String, Counts>, Error> {
        let mut counts = BTreeMap::new();
        // What was written later knows more.
        let is_wanted = |name: &str| name == Counts::METADATA;
        self.each_metadata(is_wanted, |metadata| counts.extend(Counts::of_entries(&metadata.entries)))?;
        Ok(counts)
    }

    /// The messages that are asked for, in order of log time; those of the same time in the order of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], where messages lie outside of chunks and have to be found.
    pub fn messages(&self, query: Query) -> Result<Messages<'_>, Error> {
        Messages::new(self, query)
    }

    pub(super) fn blocks(&self) -> Result<&[Block], Error> {
        if let Some(blocks) = self.blocks.get() {
            return Ok(blocks);
        }
        let blocks = summary::blocks(&self.summary, &self.source, self.limit).map_err(|stop| self.error(stop))?;
        Ok(self.blocks.get_or_init(|| blocks))
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn loader(&self) -> Loader {
        Loader::new(self.source.clone())
    }

    pub(super) fn error(&self, stop: Stop) -> Error {
        error(&self.path, stop)
    }

    /// The record that an index is about.
    fn place(&self, offset: u64, len: u64, opcode: u8) -> Result<Place, Error> {
        let mut walk = Walk::new(self.source.clone(), offset, self.source.len(), self.limit);
        let place = walk.next().map_err(|stop| self.error(stop))?;
        match place {
            Some(place) if place.opcode == opcode && place.end() - offset == len => Ok(place),
            _ => Err(self.error(Stop::Fault { offset, fault: Fault::NoRecord })),
        }
    }
}

fn topics(summary: &Summary) -> Vec<Topic> {
    let topic = |channel: &crate::tank::format::summary::Channel| {
        let schema = summary.schemas.get(&channel.schema_id);
        Topic {
            id: channel.id,
            name: channel.topic.clone(),
            schema: Schema {
                message_encoding: channel.message_encoding.clone(),
                schema_encoding: schema.map(|schema| schema.encoding.clone()).unwrap_or_default(),
                name: schema.map(|schema| schema.name.clone()).unwrap_or_default(),
                data: schema.map(|schema| schema.data.clone()).unwrap_or_default(),
            },
            metadata: channel.metadata.clone(),
            messages: summary.statistics.channel_messages.get(&channel.id).copied().unwrap_or(0),
        }
    };
    summary.channels.values().map(topic).collect()
}

/// An error unless the source begins as an MCAP file does.
pub(crate) fn check_magic(source: &Source, path: &Path) -> Result<(), Error> {
    let mut begin = [0; MAGIC.len()];
    match source.read_exact_at(0, &mut begin) {
        Ok(()) if begin == MAGIC => Ok(()),
        Ok(()) => Err(Error::NotMcap { path: path.into() }),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Error::NotMcap { path: path.into() }),
        Err(source) => Err(system("read", path, source)),
    }
}

fn system(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.into(), source }
}

pub(crate) fn error(path: &Path, stop: Stop) -> Error {
    match stop {
        Stop::Io(source) => system("read", path, source),
        Stop::Fault { offset, fault } => Error::Damaged { path: path.into(), offset, fault },
    }
}
