//! What the end of a file says about the rest of it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{MAGIC, encode, op};

/// How messages of a type are to be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Schema {
    /// Never 0.
    pub id: u16,
    pub name: String,
    pub encoding: String,
    pub data: Vec<u8>,
}

impl Schema {
    /// No less than it takes at the end of a file.
    pub(crate) fn room(&self) -> usize {
        64 + self.name.len() + self.encoding.len() + self.data.len()
    }
}

/// A stream of messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Channel {
    pub id: u16,
    /// 0 if there is none.
    pub schema_id: u16,
    pub topic: String,
    pub message_encoding: String,
    pub metadata: BTreeMap<String, String>,
}

impl Channel {
    /// No less than it takes at the end of a file, its count of messages included, and what is said there of what was lost of it.
    pub(crate) fn room(&self) -> usize {
        let metadata: usize = self.metadata.iter().map(|(key, value)| 8 + key.len() + value.len()).sum();
        256 + 2 * self.topic.len() + self.message_encoding.len() + metadata
    }
}

/// Where a chunk is, and what is in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ChunkIndex {
    pub start_time: u64,
    pub end_time: u64,
    pub offset: u64,
    /// Of the whole record.
    pub len: u64,
    /// Where each channel's index is.
    pub message_index_offsets: BTreeMap<u16, u64>,
    pub message_index_len: u64,
    pub compression: String,
    pub compressed_size: u64,
    pub uncompressed_size: u64,
}

impl ChunkIndex {
    /// No less than it takes at the end of a file.
    pub(crate) fn room(&self) -> usize {
        128 + 10 * self.message_index_offsets.len()
    }
}

/// Where an attachment is, and what it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct AttachmentIndex {
    pub offset: u64,
    /// Of the whole record.
    pub len: u64,
    pub log_time: u64,
    pub create_time: u64,
    pub data_size: u64,
    pub name: String,
    pub media_type: String,
}

impl AttachmentIndex {
    /// No less than it takes at the end of a file.
    pub(crate) fn room(&self) -> usize {
        96 + self.name.len() + self.media_type.len()
    }
}

/// Where a metadata record is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MetadataIndex {
    pub offset: u64,
    /// Of the whole record.
    pub len: u64,
    pub name: String,
}

impl MetadataIndex {
    /// No less than it takes at the end of a file.
    pub(crate) fn room(&self) -> usize {
        64 + self.name.len()
    }
}

/// How much of everything there is. The numbers of schemas and so on are those of the lists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Statistics {
    pub messages: u64,
    pub schemas: u16,
    pub channels: u32,
    pub attachments: u32,
    pub metadata: u32,
    pub chunks: u32,
    /// 0 if there are no messages, as is the next one.
    pub start_time: u64,
    pub end_time: u64,
    pub channel_messages: BTreeMap<u16, u64>,
}

impl Statistics {
    /// Counts messages of one chunk, or one by itself.
    pub(crate) fn add(&mut self, counts: &[(u16, u64)], start_time: u64, end_time: u64) {
        let messages: u64 = counts.iter().map(|(_, messages)| messages).sum();
        if messages == 0 {
            return;
        }
        let is_first = self.messages == 0;
        self.start_time = if is_first { start_time } else { self.start_time.min(start_time) };
        self.end_time = self.end_time.max(end_time);
        self.messages += messages;
        for &(channel, messages) in counts {
            *self.channel_messages.entry(channel).or_default() += messages;
        }
    }
}

/// What is known of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Summary {
    pub schemas: BTreeMap<u16, Schema>,
    pub channels: BTreeMap<u16, Channel>,
    pub chunks: Vec<ChunkIndex>,
    pub attachments: Vec<AttachmentIndex>,
    pub metadata: Vec<MetadataIndex>,
    pub statistics: Statistics,
}

/// What of it is written at the end of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SummaryOptions {
    pub schemas: bool,
    pub channels: bool,
    pub statistics: bool,
    pub chunk_index: bool,
    pub attachment_index: bool,
    pub metadata_index: bool,
    pub offsets: bool,
}

impl Default for SummaryOptions {
    fn default() -> Self {
        SummaryOptions {
            schemas: true,
            channels: true,
            statistics: true,
            chunk_index: true,
            attachment_index: true,
            metadata_index: true,
            offsets: true,
        }
    }
}

impl Summary {
    /// The end of a file: from its data-end record, which stands at `at`, to the last byte.
    pub(crate) fn end(&self, at: u64, data_crc: u32, options: SummaryOptions) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.room());
        encode::data_end(&mut out, data_crc);
        let start = out.len();
        let mut groups: Vec<(u8, Range<usize>)> = Vec::new();
        let mut group = |out: &mut Vec<u8>, wanted: bool, opcode: u8, write: &dyn Fn(&mut Vec<u8>)| {
            let begin = out.len();
            if wanted {
                write(out);
            }
            if out.len() > begin {
                groups.push((opcode, begin..out.len()));
            }
        };
        group(&mut out, options.schemas, op::SCHEMA, &|out| {
            self.schemas.values().for_each(|schema| encode::schema(out, schema));
        });
        group(&mut out, options.channels, op::CHANNEL, &|out| {
            self.channels.values().for_each(|channel| encode::channel(out, channel));
        });
        group(&mut out, options.statistics, op::STATISTICS, &|out| encode::statistics(out, &self.counted()));
        group(&mut out, options.chunk_index, op::CHUNK_INDEX, &|out| {
            self.chunks.iter().for_each(|chunk| encode::chunk_index(out, chunk));
        });
        group(&mut out, options.attachment_index, op::ATTACHMENT_INDEX, &|out| {
            self.attachments.iter().for_each(|attachment| encode::attachment_index(out, attachment));
        });
        group(&mut out, options.metadata_index, op::METADATA_INDEX, &|out| {
            self.metadata.iter().for_each(|metadata| encode::metadata_index(out, metadata));
        });
        let offsets = out.len();
        if options.offsets {
            for (opcode, range) in &groups {
                encode::summary_offset(&mut out, *opcode, at + range.start as u64, range.len() as u64);
            }
        }
        let summary_start = if offsets > start { at + start as u64 } else { 0 };
        let offset_start = if out.len() > offsets { at + offsets as u64 } else { 0 };
        encode::footer(&mut out, start, summary_start, offset_start);
        out.extend_from_slice(&MAGIC);
        out
    }

    /// The statistics with the numbers of everything that is listed.
    pub(crate) fn counted(&self) -> Statistics {
        Statistics {
            schemas: self.schemas.len() as u16,
            channels: self.channels.len() as u32,
            attachments: self.attachments.len() as u32,
            metadata: self.metadata.len() as u32,
            chunks: self.chunks.len() as u32,
            ..self.statistics.clone()
        }
    }

    /// No less than the end of the file takes.
    pub(crate) fn room(&self) -> usize {
        let schemas: usize = self.schemas.values().map(Schema::room).sum();
        let channels: usize = self.channels.values().map(Channel::room).sum();
        let chunks: usize = self.chunks.iter().map(ChunkIndex::room).sum();
        let attachments: usize = self.attachments.iter().map(AttachmentIndex::room).sum();
        let metadata: usize = self.metadata.iter().map(MetadataIndex::room).sum();
        512 + schemas + channels + chunks + attachments + metadata
    }
}
