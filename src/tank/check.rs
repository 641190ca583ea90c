//! Whether a file is all that it should be.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use super::format::MAGIC;
use super::format::parse::{Fault, Message, MessageIndex, Records};
use super::format::summary::Summary;
use super::format::{op, parse};
use super::read::scan::{End, FoundChunk, Scan};
use super::read::source::Source;
use super::read::walk::{Stop, Walk};
use super::read::{self, summary};
use super::{Counts, Error, Recording};

/// The most memory that is taken for a chunk.
const LIMIT: u64 = 1 << 30;
/// Findings that are told one by one; the others are counted.
const TOLD: usize = 1000;

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// Where in the file.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// What a [`check`] came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Checked {
    /// What is wrong, in the order of the file: the first thousand that were found.
    pub findings: Vec<Finding>,
    /// How much more is wrong.
    pub more_findings: u64,
    /// Messages that are whole.
    pub messages: u64,
    /// Chunks that are whole.
    pub chunks: u64,
    /// What the recorder said became of each topic's messages. Empty if it said nothing, or nobody who counts wrote the file.
    pub counts: BTreeMap<String, Counts>,
    /// Whether its recorder was killed and it was recovered, so that nobody knows of losses behind its last message.
    pub is_recovered: bool,
}

impl Checked {
    /// Whether nothing is wrong with the file. It may still say that messages were lost before they got into it.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many messages were lost before they got into the file, as far as it says.
    pub fn lost(&self) -> u64 {
        self.counts.values().fold(0, |lost, counts| lost.saturating_add(counts.lost))
    }

    fn add(&mut self, offset: u64, what: impl Into<String>) {
        if self.findings.len() < TOLD {
            self.findings.push(Finding { offset, what: what.into() });
        } else {
            self.more_findings += 1;
        }
    }
}

/// Reads all of a file, and compares everything that is said in it twice: checksums, lengths, indexes, statistics, and what the
/// recorder said of lost messages.
///
/// ```no_run
/// let checked = conduit::tank::check("run.mcap")?;
/// for finding in &checked.findings {
///     println!("byte {}: {}", finding.offset, finding.what);
/// }
/// # Ok::<(), conduit::tank::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::NotMcap`], [`Error::Io`]. What is wrong with the file is no error.
pub fn check(path: impl AsRef<Path>) -> Result<Checked, Error> {
    let path = path.as_ref();
    let failed = |source| Error::Io { action: "open", path: path.into(), source };
    let source = File::open(path).and_then(Source::file).map_err(failed)?;
    read::check_magic(&source, path)?;
    let mut checked = Checked::default();
    check_source(&source, &mut checked).map_err(|stop| read::error(path, stop))?;
    let recording = Recording::open(path)?;
    for attachment in recording.attachments() {
        match recording.copy_attachment(&attachment, &mut io::sink()) {
            Ok(()) => {}
            Err(Error::Damaged { offset, fault, .. }) => {
                checked.add(offset, format!("attachment {}: {fault}", attachment.name));
            }
            Err(error) => return Err(error),
        }
    }
    checked.counts = recording.counts()?;
    checked.is_recovered = recording.is_recovered();
    check_counts(&recording, &mut checked);
    checked.findings.sort_by_key(|finding| finding.offset);
    Ok(checked)
}

fn check_source(source: &Source, checked: &mut Checked) -> Result<(), Stop> {
    let said = match summary::read(source, LIMIT) {
        Ok(said) => said,
        Err(Stop::Fault { offset, fault }) => {
            checked.add(offset, format!("summary: {fault}"));
            None
        }
        Err(error) => return Err(error),
    };
    let mut scan = Scan::of(source, LIMIT)?;
    match &scan.end {
        End::Marked { offset, crc } if *crc != 0 => {
            let mut hash = crc32fast::Hasher::new();
            source.pieces(0, *offset, |piece| hash.update(piece))?;
            let found = hash.finalize();
            if found != *crc {
                checked.add(*offset, format!("data: {}", Fault::Checksum { recorded: *crc, found }));
            }
        }
        End::Marked { .. } => {}
        End::Unmarked => checked.add(scan.good, "the data has no end record: its recorder did not finish it"),
        End::Fault { offset, fault } => checked.add(*offset, format!("{fault}: its recorder did not finish it")),
    }
    for bad in &scan.bad {
        checked.add(bad.place.offset, format!("{}, with {} messages", bad.fault, bad.messages));
    }
    checked.more_findings += scan.more_bad;
    let chunks = scan.chunks.clone();
    for chunk in &chunks {
        check_chunk(&mut scan, chunk, checked)?;
    }
    checked.messages += scan.loose_contents.messages();
    match summary::footer(source)? {
        None => checked.add(source.len(), "it does not end as a finished file does"),
        Some((place, footer)) => {
            let summary = if footer.summary_start == 0 { place.offset } else { footer.summary_start };
            if matches!(scan.end, End::Marked { .. }) && scan.good != summary {
                checked.add(scan.good, "the summary does not begin where the data ends");
            }
            check_offsets(source, footer.summary_start, footer.summary_offset_start, place.offset, checked)?;
            if let Some(said) = said {
                compare(&said.summary, &scan.summary, footer.summary_start, checked);
            }
        }
    }
    Ok(())
}

/// Decompresses a chunk, and compares its records with its indexes and its times.
fn check_chunk(scan: &mut Scan, chunk: &FoundChunk, checked: &mut Checked) -> Result<(), Stop> {
    let offset = chunk.index.offset;
    let mut entries = BTreeMap::<u16, Vec<(u64, u64)>>::new();
    let mut times = None;
    let records = match scan.records(chunk) {
        Ok(records) => records,
        Err(Stop::Fault { fault, .. }) => {
            checked.add(offset, format!("chunk: {fault}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for record in Records::new(records) {
        let message = match record {
            Ok(record) if record.opcode == op::MESSAGE => {
                Message::parse(record.body).map(|message| (record.at, message))
            }
            Ok(_) => continue,
            Err(fault) => Err(fault),
        };
        match message {
            Ok((at, message)) => {
                entries.entry(message.channel_id).or_default().push((message.log_time, at as u64));
                let (first, last) = times.unwrap_or((message.log_time, message.log_time));
                times = Some((first.min(message.log_time), last.max(message.log_time)));
                checked.messages += 1;
            }
            Err(fault) => checked.add(offset, format!("within the chunk: {fault}")),
        }
    }
    checked.chunks += 1;
    if times.unwrap_or((0, 0)) != (chunk.index.start_time, chunk.index.end_time) {
        checked.add(offset, "the chunk's times are not those of its messages");
    }
    let mut indexed = BTreeMap::new();
    for body in scan.indexes(chunk)? {
        match MessageIndex::parse(&body) {
            Ok(index) => drop(indexed.insert(index.channel_id, index.entries().collect::<Vec<_>>())),
            Err(fault) => checked.add(offset, format!("an index behind the chunk: {fault}")),
        }
    }
    // A file may do without indexes.
    if !indexed.is_empty() {
        // Some writers have the entries in the order of time, some in that of the chunk.
        entries.values_mut().chain(indexed.values_mut()).for_each(|entries| entries.sort_unstable());
        if indexed != entries {
            checked.add(offset, "the indexes behind the chunk are not those of its messages");
        }
    }
    Ok(())
}

/// Whether each group of the summary is where the offsets say.
fn check_offsets(source: &Source, start: u64, offsets: u64, end: u64, checked: &mut Checked) -> Result<(), Stop> {
    if start == 0 || start < MAGIC.len() as u64 || start > end {
        return Ok(());
    }
    let mut walk = Walk::new(source.clone(), start, end, LIMIT);
    let mut groups = Vec::<(u8, u64, u64)>::new();
    let mut said = Vec::new();
    loop {
        let place = match walk.next() {
            Ok(Some(place)) => place,
            Ok(None) => break,
            Err(Stop::Fault { offset, fault }) => {
                checked.add(offset, format!("summary: {fault}"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let len = place.end() - place.offset;
        if place.opcode == op::SUMMARY_OFFSET {
            match parse::summary_offset(walk.body(place)?) {
                Ok(offset) => said.push(offset),
                Err(fault) => checked.add(place.offset, format!("summary offset: {fault}")),
            }
            if offsets == 0 || place.offset < offsets {
                checked.add(place.offset, "a summary offset before where the footer says that they begin");
            }
            continue;
        }
        match groups.last_mut() {
            Some((opcode, _, group)) if *opcode == place.opcode => *group += len,
            _ => groups.push((place.opcode, place.offset, len)),
        }
    }
    let mut seen: Vec<u8> = groups.iter().map(|(opcode, ..)| *opcode).collect();
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        checked.add(start, "records of the summary are not grouped by kind");
    }
    // Some writers tell of groups that have no records.
    said.retain(|(_, _, len)| *len > 0);
    said.sort_by_key(|(_, start, _)| *start);
    if !said.is_empty() && said != groups {
        checked.add(offsets, "the summary offsets are not where the groups of the summary are");
    }
    Ok(())
}

/// What the summary says, against what is there.
fn compare(said: &Summary, found: &Summary, at: u64, checked: &mut Checked) {
    let mut differ = |what: &str, is_other: bool| {
        if is_other {
            checked.add(at, format!("the summary's {what} are not what is in the data"));
        }
    };
    differ("schemas", said.schemas != found.schemas);
    differ("channels", said.channels != found.channels);
    differ("chunk indexes", said.chunks != found.chunks);
    differ("attachment indexes", said.attachments != found.attachments);
    differ("metadata indexes", said.metadata != found.metadata);
    differ("statistics", said.statistics != found.statistics);
}

/// What the recorder said it recorded, against what is there.
fn check_counts(recording: &Recording, checked: &mut Checked) {
    let mut there = BTreeMap::<&str, u64>::new();
    let mut latched = BTreeMap::<&str, bool>::new();
    for topic in recording.topics() {
        *there.entry(&topic.name).or_default() += topic.messages;
        let is_latched = topic.metadata.get("conduit.latched").is_some_and(|latched| latched == "true");
        *latched.entry(&topic.name).or_default() |= is_latched;
    }
    for (topic, counts) in checked.counts.clone() {
        let there = there.get(topic.as_str()).copied().unwrap_or(0);
        // A file may begin with the last message of a latched topic, which was counted in the file before.
        let repeated = u64::from(latched.get(topic.as_str()).copied().unwrap_or(false));
        if !(counts.recorded..=counts.recorded.saturating_add(repeated)).contains(&there) {
            checked.add(0, format!("topic {topic}: {} messages were recorded, and {there} are there", counts.recorded));
        }
    }
}
