//! Each kind of record, appended to bytes.

use std::collections::BTreeMap;

use super::op;
use super::summary::{AttachmentIndex, Channel, ChunkIndex, MetadataIndex, Schema, Statistics};

/// Appends a record whose body `write` appends.
pub(crate) fn record(out: &mut Vec<u8>, opcode: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(opcode);
    let len = out.len();
    out.extend_from_slice(&[0; 8]);
    write(out);
    let body = (out.len() - len - 8) as u64;
    out[len..len + 8].copy_from_slice(&body.to_le_bytes());
}

fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Bytes after their length. What is kept here is far from 4 GiB, which is what the format can say.
fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn texts(out: &mut Vec<u8>, entries: &BTreeMap<String, String>) {
    u32(out, entries.iter().map(|(key, value)| 8 + key.len() + value.len()).sum::<usize>() as u32);
    for (key, value) in entries {
        counted(out, key.as_bytes());
        counted(out, value.as_bytes());
    }
}

fn numbers(out: &mut Vec<u8>, entries: &BTreeMap<u16, u64>) {
    u32(out, 10 * entries.len() as u32);
    for (&key, &value) in entries {
        u16(out, key);
        u64(out, value);
    }
}

pub(crate) fn header(out: &mut Vec<u8>, profile: &str, library: &str) {
    record(out, op::HEADER, |out| {
        counted(out, profile.as_bytes());
        counted(out, library.as_bytes());
    });
}

/// `summary` is where in `out` the summary begins, which the checksum covers.
pub(crate) fn footer(out: &mut Vec<u8>, summary: usize, summary_start: u64, offset_start: u64) {
    record(out, op::FOOTER, |out| {
        u64(out, summary_start);
        u64(out, offset_start);
        u32(out, 0);
    });
    // The head of the record counts, too, but for the checksum itself.
    let crc = out.len() - 4;
    let sum = crc32fast::hash(&out[summary..crc]);
    out[crc..].copy_from_slice(&sum.to_le_bytes());
}

pub(crate) fn schema(out: &mut Vec<u8>, schema: &Schema) {
    record(out, op::SCHEMA, |out| {
        u16(out, schema.id);
        counted(out, schema.name.as_bytes());
        counted(out, schema.encoding.as_bytes());
        counted(out, &schema.data);
    });
}

pub(crate) fn channel(out: &mut Vec<u8>, channel: &Channel) {
    record(out, op::CHANNEL, |out| {
        u16(out, channel.id);
        u16(out, channel.schema_id);
        counted(out, channel.topic.as_bytes());
        counted(out, channel.message_encoding.as_bytes());
        texts(out, &channel.metadata);
    });
}

#[cfg(test)]
pub(crate) fn attachment(out: &mut Vec<u8>, index: &AttachmentIndex, data: &[u8]) {
    record(out, op::ATTACHMENT, |out| {
        let begin = out.len();
        u64(out, index.log_time);
        u64(out, index.create_time);
        counted(out, index.name.as_bytes());
        counted(out, index.media_type.as_bytes());
        u64(out, data.len() as u64);
        out.extend_from_slice(data);
        let sum = crc32fast::hash(&out[begin..]);
        u32(out, sum);
    });
}

pub(crate) fn metadata(out: &mut Vec<u8>, name: &str, entries: &BTreeMap<String, String>) {
    record(out, op::METADATA, |out| {
        counted(out, name.as_bytes());
        texts(out, entries);
    });
}

pub(crate) fn data_end(out: &mut Vec<u8>, crc: u32) {
    record(out, op::DATA_END, |out| u32(out, crc));
}

pub(crate) fn statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    record(out, op::STATISTICS, |out| {
        u64(out, statistics.messages);
        u16(out, statistics.schemas);
        u32(out, statistics.channels);
        u32(out, statistics.attachments);
        u32(out, statistics.metadata);
        u32(out, statistics.chunks);
        u64(out, statistics.start_time);
        u64(out, statistics.end_time);
        numbers(out, &statistics.channel_messages);
    });
}

pub(crate) fn chunk_index(out: &mut Vec<u8>, index: &ChunkIndex) {
    record(out, op::CHUNK_INDEX, |out| {
        u64(out, index.start_time);
        u64(out, index.end_time);
        u64(out, index.offset);
        u64(out, index.len);
        numbers(out, &index.message_index_offsets);
        u64(out, index.message_index_len);
        counted(out, index.compression.as_bytes());
        u64(out, index.compressed_size);
        u64(out, index.uncompressed_size);
    });
}

pub(crate) fn attachment_index(out: &mut Vec<u8>, index: &AttachmentIndex) {
    record(out, op::ATTACHMENT_INDEX, |out| {
        u64(out, index.offset);
        u64(out, index.len);
        u64(out, index.log_time);
        u64(out, index.create_time);
        u64(out, index.data_size);
        counted(out, index.name.as_bytes());
        counted(out, index.media_type.as_bytes());
    });
}

pub(crate) fn metadata_index(out: &mut Vec<u8>, index: &MetadataIndex) {
    record(out, op::METADATA_INDEX, |out| {
        u64(out, index.offset);
        u64(out, index.len);
        counted(out, index.name.as_bytes());
    });
}

pub(crate) fn summary_offset(out: &mut Vec<u8>, opcode: u8, start: u64, len: u64) {
    record(out, op::SUMMARY_OFFSET, |out| {
        out.push(opcode);
        u64(out, start);
        u64(out, len);
    });
}
