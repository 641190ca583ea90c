//! Giving a recording an end that has none.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::file::FileWriter;
use super::format::chunk::Sealer;
use super::format::parse::HEAD;
use super::format::{Compression, op};
use super::read;
use super::read::scan::{End, FoundChunk, Scan, Tally};
use super::read::source::Source;
use super::read::walk::Stop;
use super::record::RECORDING;
use super::storage::DiskFile;
use super::{Counts, Error, Recording};

/// The name of the metadata of a file that was recovered.
pub(super) const RECOVERED: &str = "conduit.recovered";
/// The most memory that is taken for a chunk.
const LIMIT: u64 = 1 << 30;

/// What a file came to that was recovered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// Whether it had an end already: then nothing was done.
    pub was_complete: bool,
    /// Bytes behind the last good record, which are gone.
    pub cut: u64,
    /// Damaged pieces before that, which stay in the file and are read by nobody.
    pub damaged: u64,
    /// What is there of each topic. What is lost of it, as far as gaps in its sequence tell: those behind the last message
    /// nobody knows of.
    pub topics: BTreeMap<String, Counts>,
    /// Log times of the earliest and the latest message, in nanoseconds. `None` if there is none.
    pub times: Option<(u64, u64)>,
}

impl Recovered {
    /// How many messages are there.
    pub fn messages(&self) -> u64 {
        self.topics.values().map(|counts| counts.recorded).sum()
    }
}

/// Gives a recording an end whose recorder was killed, in place: cuts off what is not whole, and appends what readers look
/// for at the end. Bytes that are no records, with whole chunks behind them, as a bad sector leaves them, become a record that
/// readers skip; nothing behind them is cut. A file that has an end stays as it is. If this is interrupted, the file can be recovered again.
///
/// Reads where chunks are and what their indexes say; the chunks themselves are read only at the end, where a failure of power
/// may have torn them, and where they have no index.
///
/// ```no_run
/// let recovered = conduit::tank::recover("run.mcap")?;
/// println!("{} messages", recovered.messages());
/// # Ok::<(), conduit::tank::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::NotMcap`], [`Error::Damaged`] if it ends before its first record does or has a chunk of more than 1 GiB,
/// [`Error::InUse`], [`Error::Io`].
pub fn recover(path: impl AsRef<Path>) -> Result<Recovered, Error> {
    let path = path.as_ref();
    let failed = |source| Error::Io { action: "open", path: path.into(), source };
    let file = Arc::new(OpenOptions::new().read(true).write(true).open(path).map_err(failed)?);
    if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK) {
        return Err(Error::InUse { path: path.into() });
    }
    let source = Source::file(file.try_clone().map_err(failed)?).map_err(failed)?;
    read::check_magic(&source, path)?;
    let stopped = |stop| read::error(path, stop);
    let recording = Recording::open(path)?;
    if recording.is_complete() {
        return complete(&recording);
    }
    let mut scan = Scan::of(&source, LIMIT).map_err(stopped)?;
    if let (0, End::Fault { offset, fault }) = (scan.good, &scan.end) {
        return Err(stopped(Stop::Fault { offset: *offset, fault: fault.clone() }));
    }
    // It may be whole, and must not be cut off.
    if let Some(stop) = scan.too_large.take() {
        return Err(stopped(stop));
    }
    scan.look_at_sequences().map_err(stopped)?;
    let mut end = match scan.end {
        // It is written anew.
        End::Marked { offset, .. } => offset,
        _ => scan.good,
    };
    // The indexes of the last chunk may be torn: then all of them are made again.
    let mut again = None;
    if let Some(last) = scan.chunks.last().cloned() {
        let behind = last.index.offset + last.index.len + last.index.message_index_len;
        if !last.is_indexed() && behind == end {
            let records = scan.records(&last).map_err(stopped)?;
            let mut sealer = Sealer::new(Compression::None).map_err(failed)?;
            again = Some(sealer.index_again(records));
            end = last.index.offset + last.index.len;
        }
    }
    let topics = counts(&scan, &recording.counts()?);
    let write = |source| Error::write(path, source);
    let cut = source.len().saturating_sub(end);
    let statistics = &scan.summary.statistics;
    let recovered = Recovered {
        was_complete: false,
        cut,
        damaged: scan.bad.len() as u64 + scan.more_bad,
        topics,
        times: (statistics.messages > 0).then_some((statistics.start_time, statistics.end_time)),
    };
    let is_own = is_recording(&scan);
    let is_indexed =
        |chunk: &FoundChunk| chunk.is_indexed() || again.is_some() && chunk.index.offset + chunk.index.len == end;
    // Some readers refuse an index of chunks that have no indexes themselves, and go through the data without one: not where
    // they would come upon damage.
    let is_gone_through = recovered.damaged == 0 && !scan.chunks.iter().all(is_indexed);
    // Before the end is written: whoever comes upon a gap reads over it from here on.
    for gap in &scan.gaps {
        let mut head = [op::GAP; HEAD];
        head[1..].copy_from_slice(&gap.len.to_le_bytes());
        file.write_all_at(&head, gap.offset).map_err(write)?;
    }
    let mut writer = FileWriter::resume(DiskFile::of(file.clone()), end, scan.summary);
    writer.cut_back().map_err(write)?;
    if is_gone_through {
        writer.without_chunk_index();
    }
    if let Some((records, offsets)) = again {
        writer.index_last(&records, &offsets);
    }
    let entries = [("cut_bytes", cut), ("damaged", recovered.damaged)];
    writer.add_last_metadata(RECOVERED, &entries.map(|(key, value)| (key.into(), value.to_string())).into());
    if is_own {
        let counts = recovered.topics.iter().map(|(topic, counts)| (topic.clone(), counts.to_string()));
        writer.add_last_metadata(Counts::METADATA, &counts.collect());
    }
    writer.finish().map_err(write)?;
    file.sync_data().map_err(write)?;
    Ok(recovered)
}

/// What there is to say of a recording that has an end.
fn complete(recording: &Recording) -> Result<Recovered, Error> {
    let mut topics = recording.counts()?;
    topics.values_mut().for_each(|counts| counts.recorded = 0);
    for topic in recording.topics() {
        topics.entry(topic.name.clone()).or_default().recorded += topic.messages;
    }
    Ok(Recovered { was_complete: true, cut: 0, damaged: 0, topics, times: recording.times() })
}

/// Whether the numbers of its messages are those of topics.
fn is_recording(scan: &Scan) -> bool {
    scan.is_own && scan.summary.metadata.iter().any(|metadata| metadata.name == RECORDING)
}

/// What is there of each topic, and what is not.
fn counts(scan: &Scan, known: &BTreeMap<String, Counts>) -> BTreeMap<String, Counts> {
    let mut topics = BTreeMap::<String, Counts>::new();
    for (channel, Tally { messages, sequences }) in scan.tallies() {
        let Some(channel) = scan.summary.channels.get(&channel) else { continue };
        let counts = topics.entry(channel.topic.clone()).or_default();
        counts.recorded += messages;
        // A file may begin with the last message of a latched topic, however old that is.
        let is_latched = channel.metadata.get("conduit.latched").is_some_and(|latched| latched == "true");
        // Sequences have 32 bits, which may have wrapped around; a publisher that begins again makes them smaller. What others
        // mean by them nobody knows.
        let is_numbered = is_recording(scan) && !is_latched;
        let span =
            sequences.map(|(first, last)| last.wrapping_sub(first)).filter(|span| *span < 1 << 31 && is_numbered);
        counts.lost += span.map_or(0, |span| (u64::from(span) + 1).saturating_sub(messages));
    }
    for (topic, known) in known {
        let counts = topics.entry(topic.clone()).or_default();
        // What is known to have been left out is no loss, however the numbers jump.
        (counts.paused, counts.expired) = (known.paused, known.expired);
        counts.lost = counts.lost.saturating_sub(known.paused.saturating_add(known.expired)).max(known.lost);
    }
    topics
}
