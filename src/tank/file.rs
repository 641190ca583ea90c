//! One MCAP file, from the first byte to the last.

use std::collections::BTreeMap;
use std::io;

use super::format::chunk::SealedChunk;
#[cfg(test)]
use super::format::summary::AttachmentIndex;
use super::format::summary::{Channel, ChunkIndex, MetadataIndex, Schema, Summary, SummaryOptions};
use super::format::{MAGIC, encode};
use super::storage::Storage;
use crate::topic;

/// Who writes, as files say.
pub(crate) const LIBRARY: &str = concat!("conduit ", env!("CARGO_PKG_VERSION"));

/// Room beyond the end of the file that is kept for its summary, beside what that takes now; and how much is set aside at a time.
const SPARE: u64 = 1 << 16;
const STEP: u64 = 8 << 20;

/// Writes a file in steps, each of which leaves it a valid beginning of one, or fails and can be [undone](Self::cut_back).
///
/// What stands between chunks is held back and goes out with the next one, in one write.
#[derive(Debug)]
pub(crate) struct FileWriter<S> {
    storage: S,
    /// Bytes that are written and good.
    len: u64,
    /// What goes before the next chunk.
    pending: Vec<u8>,
    summary: Summary,
    options: SummaryOptions,
    /// The checksum of all bytes that were written, if it is taken.
    crc: Option<crc32fast::Hasher>,
    /// What the end of the file takes, at most.
    end: usize,
    /// Up to where there is room for sure.
    reserved: u64,
    /// Whether there may be something behind the end.
    is_torn: bool,
}

impl<S: Storage> FileWriter<S> {
    /// Begins a file.
    pub(crate) fn begin(storage: S, profile: &str, library: &str) -> io::Result<Self> {
        let mut writer = FileWriter {
            storage,
            len: 0,
            pending: MAGIC.into(),
            summary: Summary::default(),
            options: SummaryOptions::default(),
            crc: None,
            end: Summary::default().room(),
            reserved: 0,
            is_torn: false,
        };
        encode::header(&mut writer.pending, profile, library);
        writer.flush()?;
        Ok(writer)
    }

    /// Goes on with a file that ends at `len`, once it is [cut back](Self::cut_back) to that, and holds what `summary` says.
    pub(crate) fn resume(storage: S, len: u64, summary: Summary) -> Self {
        FileWriter {
            storage,
            len,
            pending: Vec::new(),
            end: summary.room(),
            summary,
            options: SummaryOptions::default(),
            crc: None,
            reserved: 0,
            is_torn: true,
        }
    }

    /// Has the last chunk, at the end of the file, be followed by index records; where each is among them.
    pub(crate) fn index_last(&mut self, records: &[u8], offsets: &BTreeMap<u16, u64>) {
        let at = self.at();
        if let Some(chunk) = self.summary.chunks.last_mut() {
            chunk.message_index_offsets = offsets.iter().map(|(&channel, &offset)| (channel, at + offset)).collect();
            chunk.message_index_len = records.len() as u64;
            self.end += 10 * offsets.len();
            self.pending.extend_from_slice(records);
        }
    }

    /// Has readers go through the data, as they would in a file without a summary.
    pub(crate) fn without_chunk_index(&mut self) {
        self.options.chunk_index = false;
    }

    /// Where the next record goes.
    fn at(&self) -> u64 {
        self.len + self.pending.len() as u64
    }

    /// Bytes of the file so far, with what is held back.
    pub(crate) fn len(&self) -> u64 {
        self.at()
    }

    /// Bytes of the file that are written.
    pub(crate) fn written(&self) -> u64 {
        self.len
    }

    /// Bytes that are left on the disk for others to use.
    pub(crate) fn free(&self) -> io::Result<u64> {
        self.storage.free()
    }

    /// Adds a channel, and its schema unless the file has it. If there is no room for them, nothing has changed.
    pub(crate) fn add_topic(
        &mut self,
        id: u16,
        name: &str,
        topic::Schema { message_encoding, schema_encoding, name: schema, data }: &topic::Schema,
        metadata: BTreeMap<String, String>,
    ) -> io::Result<()> {
        let (pending, end) = (self.pending.len(), self.end);
        let schemas = &self.summary.schemas;
        let is_it =
            |known: &&Schema| known.name == *schema && known.encoding == *schema_encoding && known.data == *data;
        let mut new_schema = None;
        let schema_id = if schema.is_empty() && schema_encoding.is_empty() && data.is_empty() {
            // There is none.
            0
        } else if let Some(known) = schemas.values().find(is_it) {
            known.id
        } else {
            // There are no more schemas than channels, and one channel less than there are numbers.
            let id = schemas.last_key_value().map_or(1, |(last, _)| last + 1);
            let (name, encoding, data) = (schema.clone(), schema_encoding.clone(), data.clone());
            self.add_schema(&Schema { id, name, encoding, data });
            new_schema = Some(id);
            id
        };
        let (topic, message_encoding) = (name.into(), message_encoding.clone());
        self.add_channel(&Channel { id, schema_id, topic, message_encoding, metadata });
        self.reserve(self.pending.len()).inspect_err(|_| {
            self.pending.truncate(pending);
            self.end = end;
            self.summary.channels.remove(&id);
            new_schema.map(|schema| self.summary.schemas.remove(&schema));
        })
    }

    pub(crate) fn add_schema(&mut self, schema: &Schema) {
        encode::schema(&mut self.pending, schema);
        self.end += schema.room();
        self.summary.schemas.insert(schema.id, schema.clone());
    }

    pub(crate) fn add_channel(&mut self, channel: &Channel) {
        encode::channel(&mut self.pending, channel);
        self.end += channel.room();
        self.summary.channels.insert(channel.id, channel.clone());
    }

    /// Adds what there is to say. If there is no room for it, nothing has changed.
    pub(crate) fn add_metadata(&mut self, name: &str, entries: &BTreeMap<String, String>) -> io::Result<()> {
        let (pending, end) = (self.pending.len(), self.end);
        self.add_last_metadata(name, entries);
        self.reserve(self.pending.len()).inspect_err(|_| {
            self.pending.truncate(pending);
            self.end = end;
            self.summary.metadata.pop();
        })
    }

    /// Adds what there is to say at the end, in room that was [set aside](Self::set_aside).
    pub(crate) fn add_last_metadata(&mut self, name: &str, entries: &BTreeMap<String, String>) {
        let offset = self.at();
        encode::metadata(&mut self.pending, name, entries);
        let len = self.at() - offset;
        let index = MetadataIndex { offset, len, name: name.into() };
        self.end += index.room();
        self.summary.metadata.push(index);
    }

    /// Has room for so many bytes more at the end, if the disk has it.
    pub(crate) fn set_aside(&mut self, bytes: usize) {
        self.end += bytes;
        // Where it does not, it may by then.
        let _ = self.reserve(self.pending.len());
    }

    /// Adds a file within the file.
    #[cfg(test)]
    pub(crate) fn add_attachment(
        &mut self,
        name: &str,
        media_type: &str,
        log_time: u64,
        create_time: u64,
        data: &[u8],
    ) -> io::Result<()> {
        let offset = self.at();
        let mut index = AttachmentIndex {
            offset,
            len: 0,
            log_time,
            create_time,
            data_size: data.len() as u64,
            name: name.into(),
            media_type: media_type.into(),
        };
        encode::attachment(&mut self.pending, &index, data);
        index.len = self.at() - offset;
        self.end += index.room();
        self.summary.attachments.push(index);
        self.flush()
    }

    /// Appends a chunk, and what was held back before it.
    pub(crate) fn append(&mut self, chunk: &SealedChunk) -> io::Result<()> {
        let offset = self.at();
        let index = chunk.index();
        self.end += index.room();
        let held_back = self.pending.len();
        let written = if held_back == 0 {
            self.write(chunk.bytes())
        } else {
            let mut bytes = std::mem::take(&mut self.pending);
            bytes.extend_from_slice(chunk.bytes());
            let written = self.write(&bytes);
            if written.is_err() {
                bytes.truncate(held_back);
                self.pending = bytes;
            }
            written
        };
        if let Err(error) = written {
            self.end -= index.room();
            return Err(error);
        }
        self.summary.statistics.add(chunk.counts(), index.start_time, index.end_time);
        let offsets = index.message_index_offsets.iter().map(|(&channel, &at)| (channel, offset + at));
        self.summary.chunks.push(ChunkIndex { offset, message_index_offsets: offsets.collect(), ..index.clone() });
        Ok(())
    }

    /// Writes what is held back.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.pending);
        let written = self.write(&bytes);
        if written.is_err() {
            self.pending = bytes;
        }
        written
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // First, so that the end of the file has room when nothing else has any more.
        self.reserve(bytes.len())?;
        self.put(bytes)
    }

    /// Sets room aside for so many bytes, and for the end after them.
    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        let needed = self.len + (bytes + self.end) as u64 + SPARE;
        if needed > self.reserved {
            let from = self.reserved.max(self.len);
            let more = needed + STEP;
            self.reserved = match self.storage.reserve(from, more) {
                Ok(()) => more,
                Err(_) => self.storage.reserve(from, needed).map(|()| needed)?,
            };
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.is_torn = true;
        self.storage.write(self.len, bytes)?;
        self.is_torn = false;
        if let Some(crc) = &mut self.crc {
            crc.update(bytes);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Removes what a write left that failed. What was held back is held back again.
    pub(crate) fn cut_back(&mut self) -> io::Result<()> {
        // Where there was no room to write, nothing was: what is set aside for the end stays, which others would take.
        if self.is_torn {
            self.storage.truncate(self.len)?;
            (self.is_torn, self.reserved) = (false, 0);
            // Without it the end may still find room.
            let _ = self.reserve(self.pending.len());
        }
        Ok(())
    }

    /// Leaves the file as it was when `len` bytes were written, without an end.
    pub(crate) fn give_up(mut self, len: u64) -> io::Result<()> {
        self.storage.truncate(len)
    }

    /// Ends the file, in one write; returns its length.
    pub(crate) fn finish(&mut self) -> io::Result<u64> {
        let mut bytes = std::mem::take(&mut self.pending);
        let held_back = bytes.len();
        let crc = self.crc.clone().map_or(0, |mut crc| {
            crc.update(&bytes);
            crc.finalize()
        });
        bytes.extend_from_slice(&self.summary.end(self.len + held_back as u64, crc, self.options));
        match self.put(&bytes) {
            Ok(()) => {
                // What was set aside and not used goes back; where that fails, it stays behind a file that is complete.
                let _ = self.storage.truncate(self.len);
                Ok(self.len)
            }
            Err(error) => {
                bytes.truncate(held_back);
                self.pending = bytes;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
