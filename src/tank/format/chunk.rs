//! Chunks: messages as they are gathered, and as they stand in a file.

use std::collections::BTreeMap;
use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use zstd::bulk::Compressor;

use super::summary::ChunkIndex;
#[cfg(test)]
use super::summary::{Channel, Schema};
use super::{Compression, encode, op};

/// A message record before its data: opcode, length, channel, sequence, two times.
pub(crate) const MESSAGE_HEAD: usize = 1 + 8 + 2 + 4 + 8 + 8;
/// What a chunk record takes before its records, if it is not compressed: opcode, length, two times, size, checksum, no name,
/// length.
const CHUNK_HEAD: usize = 1 + 8 + 8 + 8 + 8 + 4 + 4 + 8;

/// Records that are gathered until the chunk is sealed.
#[derive(Debug)]
pub(crate) struct OpenChunk {
    /// Room for the head of the chunk, and the records.
    bytes: Vec<u8>,
}

impl OpenChunk {
    /// One that takes so many bytes of records without growing.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        OpenChunk::reusing(Vec::with_capacity(CHUNK_HEAD + bytes))
    }

    /// One in the memory of another.
    pub(crate) fn reusing(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(CHUNK_HEAD, 0);
        OpenChunk { bytes }
    }

    /// Bytes of its records.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - CHUNK_HEAD
    }

    /// Appends a message, whose data comes in two parts.
    #[inline]
    pub(crate) fn add_message(
        &mut self,
        channel: u16,
        sequence: u32,
        log_time: u64,
        publish_time: u64,
        parts: [&[u8]; 2],
    ) {
        let data = parts[0].len() + parts[1].len();
        let mut head = [0; MESSAGE_HEAD];
        head[0] = op::MESSAGE;
        head[1..9].copy_from_slice(&((MESSAGE_HEAD - 9 + data) as u64).to_le_bytes());
        head[9..11].copy_from_slice(&channel.to_le_bytes());
        head[11..15].copy_from_slice(&sequence.to_le_bytes());
        head[15..23].copy_from_slice(&log_time.to_le_bytes());
        head[23..31].copy_from_slice(&publish_time.to_le_bytes());
        self.bytes.reserve(MESSAGE_HEAD + data);
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(parts[0]);
        self.bytes.extend_from_slice(parts[1]);
    }

    /// Appends a schema.
    #[cfg(test)]
    pub(crate) fn add_schema(&mut self, schema: &Schema) {
        encode::schema(&mut self.bytes, schema);
    }

    /// Appends a channel.
    #[cfg(test)]
    pub(crate) fn add_channel(&mut self, channel: &Channel) {
        encode::channel(&mut self.bytes, channel);
    }
}

/// A chunk as it stands in a file, with the index records that follow it.
#[derive(Debug)]
pub(crate) struct SealedChunk {
    bytes: Vec<u8>,
    /// As if the chunk began the file.
    index: ChunkIndex,
    counts: Vec<(u16, u64)>,
}

impl SealedChunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As if the chunk began the file.
    pub(crate) fn index(&self) -> &ChunkIndex {
        &self.index
    }

    /// How many messages each channel has.
    pub(crate) fn counts(&self) -> &[(u16, u64)] {
        &self.counts
    }

    /// In as little memory as it takes.
    pub(crate) fn shrunk(mut self) -> Self {
        self.bytes.shrink_to_fit();
        self
    }

    /// Its memory, to be used again.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Seals chunks, one after the other, with what they have in common.
pub(crate) struct Sealer {
    compression: Compression,
    zstd: Option<Compressor<'static>>,
    /// Whether index records follow a chunk.
    pub(crate) message_index: bool,
    /// Each channel's place in `places`, and one more; 0 if it has none.
    place_of: Vec<u32>,
    places: Vec<Place>,
}

/// What is known of a channel while a chunk is sealed.
struct Place {
    channel: u16,
    messages: u64,
    /// Where its next index entry goes.
    next: usize,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl Sealer {
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        let zstd = match compression {
            Compression::Zstd { level } => Some(Compressor::new(level)?),
            _ => None,
        };
        Ok(Sealer { compression, zstd, message_index: true, place_of: vec![0; 1 << 16], places: Vec::new() })
    }

    /// Lays a chunk out, and hands back memory that is free now. Uncompressed, the records stay where they are; compressed,
    /// they go to `spare`. What the compressor finds no memory for stays uncompressed.
    pub(crate) fn seal(&mut self, chunk: OpenChunk, spare: impl FnOnce() -> Vec<u8>) -> (SealedChunk, Option<Vec<u8>>) {
        let records = &chunk.bytes[CHUNK_HEAD..];
        let (start_time, end_time) = self.count(records);
        let mut index =
            ChunkIndex { start_time, end_time, uncompressed_size: records.len() as u64, ..ChunkIndex::default() };
        let crc = crc32fast::hash(records);
        let (mut bytes, left) = match self.compression {
            Compression::None => (chunk.bytes, None),
            compression => {
                let mut bytes = spare();
                bytes.clear();
                bytes.resize(CHUNK_HEAD + compression.name().len(), 0);
                match self.compress(records, &mut bytes) {
                    Ok(()) => {
                        index.compression = compression.name().into();
                        (bytes, Some(chunk.bytes))
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a chunk could not be compressed and is written as it is");
                        (chunk.bytes, Some(bytes))
                    }
                }
            }
        };
        let len = bytes.len();
        index.len = len as u64;
        index.compressed_size = (len - CHUNK_HEAD - index.compression.len()) as u64;
        write_head(&mut bytes, &index, crc);
        if self.message_index {
            index.message_index_offsets = self.lay_out_indexes(&mut bytes);
            index.message_index_len = (bytes.len() - len) as u64;
            let (chunk, indexes) = bytes.split_at_mut(len);
            let records = left.as_deref().filter(|_| !index.compression.is_empty()).unwrap_or(chunk);
            self.fill_indexes(&records[CHUNK_HEAD..], indexes, len);
        }
        let counts = self.places.iter().map(|place| (place.channel, place.messages)).collect();
        (SealedChunk { bytes, index, counts }, left)
    }

    /// The index records of a chunk that has lost its own, from records that were checked; and where each is among them.
    pub(crate) fn index_again(&mut self, records: &[u8]) -> (Vec<u8>, BTreeMap<u16, u64>) {
        self.count(records);
        let mut bytes = Vec::new();
        let offsets = self.lay_out_indexes(&mut bytes);
        self.fill_indexes(records, &mut bytes, 0);
        (bytes, offsets)
    }

    /// Finds out which channels there are, in the order of their numbers, and how many messages of each; returns the
    /// earliest and the latest time.
    fn count(&mut self, records: &[u8]) -> (u64, u64) {
        for place in self.places.drain(..) {
            self.place_of[usize::from(place.channel)] = 0;
        }
        let (mut start, mut end) = (u64::MAX, 0);
        for (_, channel, time) in messages(records) {
            let place = &mut self.place_of[usize::from(channel)];
            if *place == 0 {
                self.places.push(Place { channel, messages: 0, next: 0 });
                *place = self.places.len() as u32;
            }
            self.places[*place as usize - 1].messages += 1;
            (start, end) = (start.min(time), end.max(time));
        }
        self.places.sort_unstable_by_key(|place| place.channel);
        for (at, place) in self.places.iter().enumerate() {
            self.place_of[usize::from(place.channel)] = at as u32 + 1;
        }
        if self.places.is_empty() { (0, 0) } else { (start, end) }
    }

    /// Appends an index record for each channel, with room for its entries; returns where each is.
    fn lay_out_indexes(&mut self, bytes: &mut Vec<u8>) -> BTreeMap<u16, u64> {
        let offsets = self.places.iter_mut().map(|place| {
            let offset = bytes.len() as u64;
            let len = 16 * place.messages;
            encode::record(bytes, op::MESSAGE_INDEX, |bytes| {
                bytes.extend_from_slice(&place.channel.to_le_bytes());
                bytes.extend_from_slice(&(len as u32).to_le_bytes());
                place.next = bytes.len();
                bytes.resize(bytes.len() + len as usize, 0);
            });
            (place.channel, offset)
        });
        offsets.collect()
    }

    /// Writes each message's entry to its place; `out` begins with byte `base` of what the places count from.
    fn fill_indexes(&mut self, records: &[u8], out: &mut [u8], base: usize) {
        for (offset, channel, time) in messages(records) {
            let place = &mut self.places[self.place_of[usize::from(channel)] as usize - 1];
            let entry = &mut out[place.next - base..][..16];
            entry[..8].copy_from_slice(&time.to_le_bytes());
            entry[8..].copy_from_slice(&(offset as u64).to_le_bytes());
            place.next += 16;
        }
    }

    /// Appends the compressed records.
    fn compress(&mut self, records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let begin = out.len();
        match (&mut self.zstd, self.compression) {
            (Some(zstd), _) => {
                out.resize(begin + zstd::zstd_safe::compress_bound(records.len()), 0);
                let len = zstd.compress_to_buffer(records, &mut out[begin..])?;
                out.truncate(begin + len);
            }
            (None, Compression::Lz4) => {
                let info = FrameInfo::new()
                    .content_size(Some(records.len() as u64))
                    .block_size(BlockSize::Max1MB)
                    .block_mode(BlockMode::Independent);
                let mut encoder = FrameEncoder::with_frame_info(info, out);
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            (None, _) => out.extend_from_slice(records),
        }
        Ok(())
    }
}

/// Writes the head of a chunk record to the beginning of `bytes`, where there is room for it.
fn write_head(bytes: &mut [u8], index: &ChunkIndex, crc: u32) {
    let name = index.compression.as_bytes();
    let mut rest = bytes;
    let mut put = |part: &[u8]| {
        let (to, after) = std::mem::take(&mut rest).split_at_mut(part.len());
        to.copy_from_slice(part);
        rest = after;
    };
    put(&[op::CHUNK]);
    put(&(index.len - 9).to_le_bytes());
    put(&index.start_time.to_le_bytes());
    put(&index.end_time.to_le_bytes());
    put(&index.uncompressed_size.to_le_bytes());
    put(&crc.to_le_bytes());
    put(&(name.len() as u32).to_le_bytes());
    put(name);
    put(&index.compressed_size.to_le_bytes());
}

/// Where each message begins, its channel and its time.
fn messages(records: &[u8]) -> impl Iterator<Item = (usize, u16, u64)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            // What is shorter than a message's head, at the end, is no message.
            let (head, _) = records.get(at..)?.split_first_chunk::<MESSAGE_HEAD>()?;
            let begin = at;
            let [opcode, len @ ..] = *head.first_chunk::<9>()?;
            at += 9 + u64::from_le_bytes(len) as usize;
            if opcode == op::MESSAGE {
                let channel = u16::from_le_bytes([head[9], head[10]]);
                let time = u64::from_le_bytes(*head[15..].first_chunk()?);
                return Some((begin, channel, time));
            }
        }
    })
}
