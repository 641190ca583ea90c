//! What a file holds, from its data: for files that nobody finished, or whose summary is none.

use std::collections::BTreeMap;

use super::block::{Block, Loader};
use super::resync;
use super::source::Source;
use super::walk::{Place, Stop, Walk};
use crate::tank::format::parse::{self, Fault, Message, MessageIndex, Records};
use crate::tank::format::summary::{AttachmentIndex, ChunkIndex, MetadataIndex, Summary};
use crate::tank::format::{MAGIC, op};

/// Chunks whose messages were recorded this long before the last one, in nanoseconds, or later, are decompressed and
/// compared with their checksums: what a loss of power may have torn. The last chunk is in any case.
const VERIFIED: u64 = 10_000_000_000;
/// Messages outside of chunks are read this many bytes at a time.
const RUN: u64 = 1 << 20;
/// Enough of an attachment's beginning, unless its name is longer than any that people give.
const ATTACHMENT_PREFIX: u64 = 4096;

/// Damaged pieces that are told one by one; the others are counted.
const TOLD: usize = 1000;

/// What is known of a channel's messages, or of those in a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    pub messages: u64,
    /// Sequences of the first and the last one, where they were looked at.
    pub sequences: Option<(u32, u32)>,
}

/// What is known of the messages in a chunk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Contents {
    pub channels: BTreeMap<u16, Tally>,
    /// Earliest and latest log time.
    pub times: Option<(u64, u64)>,
}

impl Contents {
    pub(crate) fn add(&mut self, message: &Message<'_>) {
        let tally = self.channels.entry(message.channel_id).or_insert(Tally { messages: 0, sequences: None });
        tally.messages += 1;
        tally.sequences = Some((tally.sequences.map_or(message.sequence, |(first, _)| first), message.sequence));
        self.span(message.log_time, message.log_time);
    }

    fn span(&mut self, start: u64, end: u64) {
        self.times = Some(self.times.map_or((start, end), |(first, last)| (first.min(start), last.max(end))));
    }

    pub(crate) fn messages(&self) -> u64 {
        self.channels.values().map(|tally| tally.messages).sum()
    }
}

/// A chunk that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FoundChunk {
    pub index: ChunkIndex,
    pub contents: Contents,
    /// Whether it was decompressed.
    pub verified: bool,
    indexes: Vec<Place>,
}

impl FoundChunk {
    pub(crate) fn place(&self) -> Place {
        Place { offset: self.index.offset, opcode: op::CHUNK, len: self.index.len - parse::HEAD as u64 }
    }

    /// Whether each channel with messages in it has an index behind it.
    pub(crate) fn is_indexed(&self) -> bool {
        self.contents.channels.keys().eq(self.index.message_index_offsets.keys())
    }
}

/// A record that is whole, and not what it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bad {
    pub place: Place,
    /// The indexes of a chunk.
    pub indexes: Vec<Place>,
    /// How many messages it has by its indexes.
    pub messages: u64,
    pub fault: Fault,
}

/// How the data ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// With the record that says so.
    Marked { offset: u64, crc: u32 },
    /// With the file, or where the footer is.
    Unmarked,
    /// In the middle of something.
    Fault { offset: u64, fault: Fault },
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Scan {
    pub profile: String,
    pub library: String,
    /// What is good, but for its chunks and statistics.
    pub summary: Summary,
    pub chunks: Vec<FoundChunk>,
    pub loose: Vec<Block>,
    pub loose_contents: Contents,
    pub bad: Vec<Bad>,
    /// How many there are beside those.
    pub more_bad: u64,
    /// Bytes that are no records, with records behind them.
    pub gaps: Vec<Place>,
    /// How much more may look like a chunk and be none where one is searched.
    tries: u32,
    /// What would have taken more memory than is allowed: that it is not read does not mean that it is damaged.
    pub too_large: Option<Stop>,
    /// Where the last good record ends; 0 if there is none.
    pub good: u64,
    pub end: End,
    source: Source,
    limit: u64,
    loader: Loader,
    records: Vec<u8>,
    /// Whether schemas and channels are never in chunks, so that what a chunk holds is what its indexes say.
    pub is_own: bool,
    /// Bytes of the schemas and channels.
    kept: u64,
}

impl Scan {
    /// Goes through the data of a file that begins with the magic bytes.
    pub(crate) fn of(source: &Source, limit: u64) -> Result<Self, Stop> {
        let mut scan = Scan {
            profile: String::new(),
            library: String::new(),
            summary: Summary::default(),
            chunks: Vec::new(),
            loose: Vec::new(),
            loose_contents: Contents::default(),
            bad: Vec::new(),
            more_bad: 0,
            gaps: Vec::new(),
            tries: resync::TRIES,
            too_large: None,
            good: 0,
            end: End::Unmarked,
            source: source.clone(),
            limit,
            loader: Loader::new(source.clone()),
            records: Vec::new(),
            is_own: false,
            kept: 0,
        };
        let mut walk = Walk::new(source.clone(), MAGIC.len() as u64, source.len(), limit);
        scan.end = match scan.header(&mut walk) {
            Ok(()) => scan.all_data(walk)?,
            Err(Stop::Fault { offset, fault }) => End::Fault { offset, fault },
            Err(error) => return Err(error),
        };
        scan.verify_the_last()?;
        scan.count();
        Ok(scan)
    }

    fn header(&mut self, walk: &mut Walk) -> Result<(), Stop> {
        let begin = MAGIC.len() as u64;
        let none = Stop::Fault { offset: begin, fault: Fault::Torn { missing: parse::HEAD as u64 } };
        let place = walk.next()?.ok_or(none)?;
        if place.opcode != op::HEADER {
            return Err(place.fault(Fault::Misplaced { opcode: place.opcode }));
        }
        let header = parse::Header::parse(walk.body(place)?).map_err(|fault| place.fault(fault))?;
        self.profile = header.profile.into();
        self.library = header.library.into();
        self.is_own = header.library.starts_with("conduit");
        self.good = place.end();
        Ok(())
    }

    /// Goes through the data, and over what is damaged, as long as there is a whole chunk behind it.
    fn all_data(&mut self, mut walk: Walk) -> Result<End, Stop> {
        loop {
            let (offset, fault) = match self.data(&mut walk) {
                Err(Stop::Fault { offset, fault }) => (offset, fault),
                end => return end,
            };
            let next = match resync::is_torn_chunk(&self.source, offset)? {
                true => None,
                false => self.next_chunk(offset, self.source.len())?,
            };
            match next {
                Some(next) => self.skip(&mut walk, offset, next, fault),
                None => return Ok(End::Fault { offset, fault }),
            }
        }
    }

    /// The next whole chunk that begins behind what begins at `offset`, and before `until`.
    fn next_chunk(&mut self, offset: u64, until: u64) -> Result<Option<u64>, Stop> {
        resync::next_chunk(&self.source, offset + parse::HEAD as u64, until, self.limit, &mut self.tries)
    }

    /// A chunk within what a chunk takes up by its length, which is wrong then.
    fn swallowed(&mut self, walk: &mut Walk, place: Place) -> Result<Option<u64>, Stop> {
        let prefix = walk.prefix(place, parse::Chunk::PREFIX as u64)?;
        if resync::is_exact(prefix, place.len) {
            return Ok(None);
        }
        self.next_chunk(place.offset, place.end())
    }

    /// Goes on at `next`, and has what is before it from `offset` on be a gap.
    fn skip(&mut self, walk: &mut Walk, offset: u64, next: u64, fault: Fault) {
        let place = Place { offset, opcode: op::GAP, len: next - offset - parse::HEAD as u64 };
        self.gaps.push(place);
        self.leave_out(Bad { place, indexes: Vec::new(), messages: 0, fault });
        walk.back_to(Place { offset: next, opcode: op::CHUNK, len: 0 });
    }

    fn data(&mut self, walk: &mut Walk) -> Result<End, Stop> {
        let mut run = None;
        loop {
            let place = match walk.next() {
                Ok(Some(place)) => place,
                Ok(None) => break,
                Err(stop) => {
                    self.loose.extend(run);
                    return Err(stop);
                }
            };
            match place.opcode {
                op::DATA_END => {
                    let crc = parse::data_end(walk.prefix(place, 4)?).map_err(|fault| place.fault(fault))?;
                    self.good = place.end();
                    self.loose.extend(run);
                    return Ok(End::Marked { offset: place.offset, crc });
                }
                op::FOOTER => break,
                op::MESSAGE => {}
                op::CHUNK | op::ATTACHMENT => self.loose.extend(run.take()),
                _ => {}
            }
            if place.opcode == op::CHUNK {
                if let Some(next) = self.swallowed(walk, place)? {
                    self.skip(walk, place.offset, next, Fault::Short { field: "records" });
                    continue;
                }
            }
            match self.record(walk, place, &mut run) {
                Ok(()) => self.good = self.good.max(place.end()),
                Err(Stop::Fault { fault, .. }) => {
                    self.loose.extend(run.take());
                    self.leave_out(Bad { place, indexes: Vec::new(), messages: 0, fault });
                }
                Err(error) => return Err(error),
            }
        }
        self.loose.extend(run);
        Ok(End::Unmarked)
    }

    fn record(&mut self, walk: &mut Walk, place: Place, run: &mut Option<Block>) -> Result<(), Stop> {
        let (offset, len) = (place.offset, place.end() - place.offset);
        let fault = |fault| place.fault(fault);
        match place.opcode {
            op::SCHEMA => self.schema(walk.body(place)?).map_err(fault)?,
            op::CHANNEL => self.channel(walk.body(place)?).map_err(fault)?,
            op::MESSAGE => {
                let message = Message::parse(walk.prefix(place, Message::LEN as u64)?).map_err(fault)?;
                if !self.summary.channels.contains_key(&message.channel_id) {
                    return Err(fault(Fault::UnknownChannel { id: message.channel_id }));
                }
                self.loose_contents.add(&message);
                self.loose.extend(run.take_if(|run| run.len >= RUN));
                extend(run, place, message.log_time);
            }
            op::CHUNK => self.chunk(walk, place)?,
            op::ATTACHMENT => {
                let prefix = walk.prefix(place, ATTACHMENT_PREFIX)?;
                let attachment = match parse::Attachment::parse(prefix, place.len) {
                    Err(Fault::Short { .. }) => parse::Attachment::parse(walk.prefix(place, place.len)?, place.len),
                    parsed => parsed,
                };
                let attachment = attachment.map_err(fault)?;
                self.summary.attachments.push(AttachmentIndex {
                    offset,
                    len,
                    log_time: attachment.log_time,
                    create_time: attachment.create_time,
                    data_size: attachment.data_len,
                    name: attachment.name.into(),
                    media_type: attachment.media_type.into(),
                });
            }
            op::METADATA => {
                let (name, _) = parse::metadata(walk.body(place)?).map_err(fault)?;
                self.summary.metadata.push(MetadataIndex { offset, len, name });
            }
            // Indexes without a chunk, what belongs in a summary, and what later versions and others bring.
            _ => {}
        }
        Ok(())
    }

    /// The first record of an id is the one that counts.
    fn schema(&mut self, body: &[u8]) -> Result<(), Fault> {
        let schema = parse::schema(body)?;
        if schema.id != 0 && !self.summary.schemas.contains_key(&schema.id) {
            self.keep(body)?;
            self.summary.schemas.insert(schema.id, schema);
        }
        Ok(())
    }

    fn channel(&mut self, body: &[u8]) -> Result<(), Fault> {
        let channel = parse::channel(body)?;
        if channel.schema_id != 0 && !self.summary.schemas.contains_key(&channel.schema_id) {
            return Err(Fault::UnknownSchema { id: channel.schema_id });
        }
        if !self.summary.channels.contains_key(&channel.id) {
            self.keep(body)?;
            self.summary.channels.insert(channel.id, channel);
        }
        Ok(())
    }

    /// Counts what is kept: chunks may be small and have much in them.
    fn keep(&mut self, body: &[u8]) -> Result<(), Fault> {
        let bytes = self.kept + body.len() as u64;
        if bytes > self.limit {
            return Err(Fault::TooLarge { bytes, limit: self.limit });
        }
        self.kept = bytes;
        Ok(())
    }

    fn leave_out(&mut self, bad: Bad) {
        if let Fault::TooLarge { .. } = bad.fault {
            self.too_large.get_or_insert(bad.place.fault(bad.fault.clone()));
        }
        if self.bad.len() < TOLD {
            self.bad.push(bad);
        } else {
            self.more_bad += 1;
        }
    }

    fn chunk(&mut self, walk: &mut Walk, place: Place) -> Result<(), Stop> {
        let prefix = walk.prefix(place, parse::Chunk::PREFIX as u64)?;
        let chunk = parse::Chunk::parse(prefix, place.len).map_err(|fault| place.fault(fault))?;
        let mut index = ChunkIndex {
            start_time: chunk.start_time,
            end_time: chunk.end_time,
            offset: place.offset,
            len: place.end() - place.offset,
            message_index_offsets: BTreeMap::new(),
            message_index_len: 0,
            compression: chunk.compression.into(),
            compressed_size: chunk.records_len,
            uncompressed_size: chunk.uncompressed_size,
        };
        let (contents, indexes, is_sound) = self.message_indexes(walk, &mut index)?;
        let mut found = FoundChunk { index, contents, verified: false, indexes };
        let decompressed = if is_sound && self.is_own { Ok(()) } else { self.verify(&mut found) };
        match decompressed {
            Ok(()) => {
                self.good = found.index.offset + found.index.len + found.index.message_index_len;
                self.chunks.push(found);
            }
            Err(Stop::Fault { fault, .. }) => self.set_aside(found, fault),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads the indexes that follow a chunk, and whether they say what may be so.
    fn message_indexes(&self, walk: &mut Walk, chunk: &mut ChunkIndex) -> Result<(Contents, Vec<Place>, bool), Stop> {
        let mut contents = Contents::default();
        let mut places = Vec::new();
        let mut is_sound = true;
        loop {
            // What is wrong behind the chunk is no fault of the chunk.
            let place = match walk.next() {
                Ok(Some(place)) if place.opcode == op::MESSAGE_INDEX => place,
                Ok(Some(other)) => {
                    walk.back_to(other);
                    break;
                }
                Ok(None) | Err(Stop::Fault { .. }) => break,
                Err(error) => return Err(error),
            };
            places.push(place);
            let body = match walk.body(place) {
                Ok(body) => body,
                Err(Stop::Fault { .. }) => {
                    is_sound = false;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Ok(index) = MessageIndex::parse(body) else {
                is_sound = false;
                continue;
            };
            is_sound &= self.summary.channels.contains_key(&index.channel_id);
            for (time, offset) in index.entries() {
                is_sound &= (chunk.start_time..=chunk.end_time).contains(&time) && offset < chunk.uncompressed_size;
                contents.span(time, time);
            }
            let tally = Tally { messages: index.len() as u64, sequences: None };
            is_sound &= contents.channels.insert(index.channel_id, tally).is_none();
            chunk.message_index_offsets.insert(index.channel_id, place.offset);
        }
        chunk.message_index_len = places.last().map_or(0, |last| last.end() - (chunk.offset + chunk.len));
        // An empty chunk has no index.
        is_sound &= !contents.channels.is_empty() || chunk.uncompressed_size == 0;
        Ok((contents, places, is_sound))
    }

    /// Decompresses a chunk, and finds out what is in it.
    fn verify(&mut self, found: &mut FoundChunk) -> Result<(), Stop> {
        let place = found.place();
        let mut records = std::mem::take(&mut self.records);
        let read = self.loader.chunk(place, self.limit, &mut records).and_then(|()| {
            found.contents = self.contents(&records).map_err(|fault| place.fault(fault))?;
            found.verified = true;
            Ok(())
        });
        self.records = records;
        read
    }

    fn contents(&mut self, records: &[u8]) -> Result<Contents, Fault> {
        let mut contents = Contents::default();
        for record in Records::new(records) {
            let record = record?;
            match record.opcode {
                op::SCHEMA => self.schema(record.body)?,
                op::CHANNEL => self.channel(record.body)?,
                op::MESSAGE => contents.add(&Message::parse(record.body)?),
                _ => {}
            }
        }
        match contents.channels.keys().find(|id| !self.summary.channels.contains_key(id)) {
            Some(&id) => Err(Fault::UnknownChannel { id }),
            None => Ok(contents),
        }
    }

    fn verify_the_last(&mut self) -> Result<(), Stop> {
        let ends = self.chunks.iter().filter_map(|chunk| Some(chunk.contents.times?.1));
        let since = ends.max().unwrap_or(0).saturating_sub(VERIFIED);
        let mut chunks = std::mem::take(&mut self.chunks);
        let mut good = Vec::with_capacity(chunks.len());
        let mut is_last = true;
        while let Some(mut chunk) = chunks.pop() {
            let is_due = is_last || chunk.contents.times.is_some_and(|(_, end)| end >= since);
            let verified = if is_due && !chunk.verified { self.verify(&mut chunk) } else { Ok(()) };
            match verified {
                Ok(()) => {
                    is_last = false;
                    good.push(chunk);
                }
                Err(Stop::Fault { fault, .. }) => self.set_aside(chunk, fault),
                Err(error) => return Err(error),
            }
        }
        good.reverse();
        self.chunks = good;
        Ok(())
    }

    fn set_aside(&mut self, chunk: FoundChunk, fault: Fault) {
        let (place, messages) = (chunk.place(), chunk.contents.messages());
        self.leave_out(Bad { place, indexes: chunk.indexes, messages, fault });
    }

    /// The records of a chunk.
    pub(crate) fn records(&mut self, chunk: &FoundChunk) -> Result<&[u8], Stop> {
        self.loader.chunk(chunk.place(), self.limit, &mut self.records)?;
        Ok(&self.records)
    }

    /// The bodies of the indexes behind a chunk.
    pub(crate) fn indexes(&self, chunk: &FoundChunk) -> Result<Vec<Vec<u8>>, Stop> {
        let mut walk = Walk::new(self.source.clone(), MAGIC.len() as u64, self.source.len(), self.limit);
        chunk.indexes.iter().map(|place| Ok(walk.body(*place)?.to_vec())).collect()
    }

    /// Makes the first and the last sequence of each channel known: decompresses the chunks that have them.
    pub(crate) fn look_at_sequences(&mut self) -> Result<(), Stop> {
        let mut ends: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
        for (at, chunk) in self.chunks.iter().enumerate() {
            for &channel in chunk.contents.channels.keys() {
                ends.entry(channel).or_insert((at, at)).1 = at;
            }
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        for at in ends.into_values().flat_map(|(first, last)| [first, last]) {
            if !chunks[at].verified {
                match self.verify(&mut chunks[at]) {
                    // What is damaged has no sequences that can be told.
                    Ok(()) | Err(Stop::Fault { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.chunks = chunks;
        Ok(())
    }

    /// All that is known of each channel's messages, in the order of the file.
    pub(crate) fn tallies(&self) -> BTreeMap<u16, Tally> {
        let mut all: BTreeMap<u16, Tally> = BTreeMap::new();
        for contents in self.chunks.iter().map(|chunk| &chunk.contents).chain([&self.loose_contents]) {
            for (&channel, tally) in &contents.channels {
                let sum = all.entry(channel).or_insert(Tally { messages: 0, sequences: tally.sequences });
                sum.messages += tally.messages;
                if let (Some((_, last)), Some((_, sum_last))) = (tally.sequences, sum.sequences.as_mut()) {
                    *sum_last = last;
                }
            }
        }
        all
    }

    /// Makes the statistics of what is good.
    fn count(&mut self) {
        let mut times = Contents { times: self.loose_contents.times, ..Contents::default() };
        for (start, end) in self.chunks.iter().filter_map(|chunk| chunk.contents.times) {
            times.span(start, end);
        }
        let (start_time, end_time) = times.times.unwrap_or((0, 0));
        let channel_messages: BTreeMap<_, _> =
            self.tallies().into_iter().map(|(channel, tally)| (channel, tally.messages)).collect();
        let summary = &mut self.summary;
        summary.chunks = self.chunks.iter().map(|chunk| chunk.index.clone()).collect();
        let statistics = &mut summary.statistics;
        statistics.messages = channel_messages.values().sum();
        statistics.schemas = summary.schemas.len() as u16;
        statistics.channels = summary.channels.len() as u32;
        statistics.attachments = summary.attachments.len() as u32;
        statistics.metadata = summary.metadata.len() as u32;
        statistics.chunks = summary.chunks.len() as u32;
        (statistics.start_time, statistics.end_time) = (start_time, end_time);
        statistics.channel_messages = channel_messages;
    }

    /// The pieces with messages in them.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let chunks = self.chunks.iter().map(|chunk| {
            let (start, end) = chunk.contents.times.unwrap_or((0, 0));
            let channels = Some(chunk.contents.channels.keys().copied().collect());
            Block { offset: chunk.index.offset, len: chunk.index.len, is_chunk: true, start, end, channels }
        });
        chunks.chain(self.loose.iter().cloned()).collect()
    }
}

/// Adds a message outside of chunks to those before it.
pub(crate) fn extend(run: &mut Option<Block>, place: Place, log_time: u64) {
    let run = run.get_or_insert(Block {
        offset: place.offset,
        len: 0,
        is_chunk: false,
        start: log_time,
        end: log_time,
        channels: None,
    });
    run.len = place.end() - run.offset;
    run.start = run.start.min(log_time);
    run.end = run.end.max(log_time);
}
