//! What the end of a file says about it, if that can be right.

use super::block::Block;
use super::scan::extend;
use super::source::Source;
use super::walk::{Place, Stop, Walk};
use crate::tank::format::decompress::check;
use crate::tank::format::parse::{self, Fault, Footer, HEAD, Header, Message, Records};
use crate::tank::format::summary::Summary;
use crate::tank::format::{MAGIC, op};

/// The end of a file: footer and magic bytes.
const TRAILER: usize = HEAD + Footer::LEN + MAGIC.len();
/// Messages outside of chunks are read this many bytes at a time.
const RUN: u64 = 1 << 20;

/// What a file says of itself.
pub(crate) struct Read {
    pub profile: String,
    pub library: String,
    pub summary: Summary,
}

/// The footer and where it is, if the file ends with one.
pub(crate) fn footer(source: &Source) -> Result<Option<(Place, Footer)>, Stop> {
    let Some(offset) = source.len().checked_sub(TRAILER as u64) else { return Ok(None) };
    let mut bytes = [0; TRAILER];
    source.read_exact_at(offset, &mut bytes)?;
    let record = Records::new(&bytes[..TRAILER - MAGIC.len()]).next();
    let is_end = bytes.ends_with(&MAGIC);
    Ok(match record {
        Some(Ok(record)) if is_end && record.opcode == op::FOOTER && record.body.len() == Footer::LEN => {
            let place = Place { offset, opcode: op::FOOTER, len: Footer::LEN as u64 };
            Footer::parse(record.body).ok().map(|footer| (place, footer))
        }
        _ => None,
    })
}

/// Reads header and summary. `None` if there is no summary, or one that does not say enough.
pub(crate) fn read(source: &Source, limit: u64) -> Result<Option<Read>, Stop> {
    let Some((place, footer)) = footer(source)? else { return Ok(None) };
    if footer.summary_start == 0 {
        return Ok(None);
    }
    let (start, end) = (footer.summary_start, place.offset);
    let misplaced = Stop::Fault { offset: end, fault: Fault::Summary { what: "place" } };
    if start < MAGIC.len() as u64 || start > end {
        return Err(misplaced);
    }
    let mut walk = Walk::new(source.clone(), MAGIC.len() as u64, start, limit);
    let Some(head) = walk.next()? else { return Err(misplaced) };
    let header = Header::parse(walk.body(head)?).map_err(|fault| head.fault(fault))?;
    let (profile, library) = (header.profile.into(), header.library.into());

    let checked = HEAD + Footer::CHECKED;
    let len = end - start + checked as u64;
    if len > limit {
        return Err(Stop::Fault { offset: start, fault: Fault::TooLarge { bytes: len, limit } });
    }
    let mut bytes = vec![0; len as usize];
    source.read_exact_at(start, &mut bytes)?;
    check(footer.summary_crc, &bytes).map_err(|fault| Stop::Fault { offset: start, fault })?;
    bytes.truncate((end - start) as usize);
    let Some(mut summary) = records(&bytes, start)? else { return Ok(None) };
    summary.chunks.sort_by_key(|chunk| chunk.offset);
    let wrong = |what| Stop::Fault { offset: start, fault: Fault::Summary { what } };
    is_possible(&summary, head.end(), start).map_err(wrong)?;
    Ok(says_enough(&summary).then_some(Read { profile, library, summary }))
}

/// `None` without statistics.
fn records(bytes: &[u8], start: u64) -> Result<Option<Summary>, Stop> {
    let mut summary = Summary::default();
    let mut statistics = None;
    let mut records = Records::new(bytes);
    loop {
        let offset = start + records.at() as u64;
        let fault = |fault| Stop::Fault { offset, fault };
        let Some(record) = records.next() else { break };
        let record = record.map_err(fault)?;
        match record.opcode {
            op::SCHEMA => {
                let schema = parse::schema(record.body).map_err(fault)?;
                summary.schemas.insert(schema.id, schema);
            }
            op::CHANNEL => {
                let channel = parse::channel(record.body).map_err(fault)?;
                summary.channels.insert(channel.id, channel);
            }
            op::CHUNK_INDEX => summary.chunks.push(parse::chunk_index(record.body).map_err(fault)?),
            op::ATTACHMENT_INDEX => summary.attachments.push(parse::attachment_index(record.body).map_err(fault)?),
            op::METADATA_INDEX => summary.metadata.push(parse::metadata_index(record.body).map_err(fault)?),
            op::STATISTICS => statistics = Some(parse::statistics(record.body).map_err(fault)?),
            _ => {}
        }
    }
    summary.schemas.remove(&0);
    Ok(statistics.map(|statistics| Summary { statistics, ..summary }))
}

/// Whether all that there is has a place in the data, and nothing the place of another. Otherwise: what is wrong.
fn is_possible(summary: &Summary, start: u64, end: u64) -> Result<(), &'static str> {
    let fits = |offset: u64, len: u64| offset >= start && offset.checked_add(len).is_some_and(|behind| behind <= end);
    let mut free = start;
    for chunk in &summary.chunks {
        let len = chunk.len.checked_add(chunk.message_index_len).ok_or("chunk index")?;
        if chunk.offset < free || chunk.len < HEAD as u64 || !fits(chunk.offset, len) {
            return Err("chunk index");
        }
        free = chunk.offset + len;
    }
    if !summary.attachments.iter().all(|index| fits(index.offset, index.len)) {
        return Err("attachment index");
    }
    // Each is read into memory: together they take no more than the file.
    let mut metadata: Vec<_> = summary.metadata.iter().map(|index| (index.offset, index.len)).collect();
    metadata.sort_unstable();
    let mut free = start;
    for (offset, len) in metadata {
        if offset < free || !fits(offset, len) {
            return Err("metadata index");
        }
        free = offset + len;
    }
    let counts = &summary.statistics.channel_messages;
    let sum = counts.values().try_fold(0, |sum: u64, count| sum.checked_add(*count));
    if !counts.is_empty() && sum != Some(summary.statistics.messages) {
        return Err("count of messages");
    }
    Ok(())
}

/// Whether it repeats and lists all that there is.
fn says_enough(summary: &Summary) -> bool {
    let Summary { schemas, channels, chunks, attachments, metadata, statistics } = summary;
    let is_known = |id: u16| id == 0 || schemas.contains_key(&id);
    statistics.chunks as usize == chunks.len()
        && statistics.attachments as usize == attachments.len()
        && statistics.metadata as usize == metadata.len()
        && statistics.channels as usize == channels.len()
        && channels.values().all(|channel| is_known(channel.schema_id))
        && (statistics.messages == 0 || !statistics.channel_messages.is_empty())
        && statistics.channel_messages.keys().all(|id| channels.contains_key(id))
}

/// The pieces of a file with messages in them: the chunks, and what messages lie between them.
pub(super) fn blocks(summary: &Summary, source: &Source, limit: u64) -> Result<Vec<Block>, Stop> {
    let mut blocks: Vec<_> = summary
        .chunks
        .iter()
        .map(|chunk| Block {
            offset: chunk.offset,
            len: chunk.len,
            is_chunk: true,
            start: chunk.start_time,
            end: chunk.end_time,
            channels: (!chunk.message_index_offsets.is_empty())
                .then(|| chunk.message_index_offsets.keys().copied().collect()),
        })
        .collect();
    let end = footer(source)?.map_or(source.len(), |(place, footer)| match footer.summary_start {
        0 => place.offset,
        start => start,
    });
    let mut at = MAGIC.len() as u64;
    let ends = summary.chunks.iter().map(|chunk| (chunk.offset, chunk.offset + chunk.len + chunk.message_index_len));
    for (start, behind) in ends.chain([(end, end)]) {
        between(source, at, start, limit, &mut blocks)?;
        at = behind;
    }
    Ok(blocks)
}

/// Finds messages outside of chunks.
fn between(source: &Source, start: u64, end: u64, limit: u64, blocks: &mut Vec<Block>) -> Result<(), Stop> {
    let mut walk = Walk::new(source.clone(), start, end, limit);
    let mut run: Option<Block> = None;
    let mut at = start;
    loop {
        let place = match walk.next() {
            Ok(Some(place)) if place.opcode == op::DATA_END => break,
            Ok(Some(place)) => place,
            Ok(None) => break,
            Err(Stop::Fault { .. }) => {
                // Whoever comes there finds out what is wrong.
                let channels = None;
                blocks.push(Block { offset: at, len: end - at, is_chunk: false, start: 0, end: u64::MAX, channels });
                break;
            }
            Err(error) => return Err(error),
        };
        at = place.end();
        match place.opcode {
            op::MESSAGE => {
                let message = Message::parse(walk.prefix(place, Message::LEN as u64)?);
                let log_time = message.map_or(0, |message| message.log_time);
                blocks.extend(run.take_if(|run| run.len >= RUN));
                extend(&mut run, place, log_time);
            }
            op::ATTACHMENT | op::CHUNK => blocks.extend(run.take()),
            _ => {}
        }
    }
    blocks.extend(run);
    Ok(())
}
