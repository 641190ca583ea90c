//! Records, borrowed from bytes that nobody vouches for.
//!
//! No number in them is believed before it is compared with the bytes that are there: nothing is indexed, allocated or
//! repeated by it. Fields that a later version of the format adds at the end of a record are ignored.

use std::collections::BTreeMap;

use super::summary::{AttachmentIndex, Channel, ChunkIndex, MetadataIndex, Schema, Statistics};

/// Bytes before a record's body: its kind, and how long the body is.
pub(crate) const HEAD: usize = 9;

/// Why bytes are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A field reaches past the end of its record.
    #[error("the {field} reaches past the end of the record")]
    Short {
        /// Which field.
        field: &'static str,
    },
    /// A field that has to be text is none.
    #[error("the {field} is no UTF-8")]
    NotText {
        /// Which field.
        field: &'static str,
    },
    /// A list ends within an entry.
    #[error("the {field} ends within an entry")]
    Ragged {
        /// Which field.
        field: &'static str,
    },
    /// A record reaches past the end of what it is in.
    #[error("the record is cut off: {missing} bytes of it are missing")]
    Torn {
        /// How many bytes are not there.
        missing: u64,
    },
    /// No record begins here.
    #[error("no record begins here")]
    NoRecord,
    /// It takes more memory than is allowed.
    #[error("it takes {bytes} bytes, and {limit} are allowed")]
    TooLarge {
        /// What it takes.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A checksum is not that of the bytes.
    #[error("the checksum is {found:08x} where {recorded:08x} was recorded")]
    Checksum {
        /// What the file says.
        recorded: u32,
        /// What the bytes have.
        found: u32,
    },
    /// A kind of compression that is not known here.
    #[error("compressed by `{0}`, which is not known here: none, lz4 and zstd are")]
    UnknownCompression(
        /// Its name.
        String,
    ),
    /// Compressed bytes that cannot be decompressed.
    #[error("it cannot be decompressed: {0}")]
    Compressed(
        /// What the decompressor says.
        String,
    ),
    /// What comes out of a chunk is not as long as the chunk says.
    #[error("{found} bytes come out of it where {recorded} were recorded")]
    Length {
        /// What the file says.
        recorded: u64,
        /// How many came out: at least, if it is more.
        found: u64,
    },
    /// A channel that was not introduced before.
    #[error("there is no channel {id}")]
    UnknownChannel {
        /// Its number.
        id: u16,
    },
    /// A schema that was not introduced before.
    #[error("there is no schema {id}")]
    UnknownSchema {
        /// Its number.
        id: u16,
    },
    /// The summary does not fit the file.
    #[error("the summary's {what} cannot be right")]
    Summary {
        /// Which part of it.
        what: &'static str,
    },
    /// A record that may not be where it is.
    #[error("a record of kind {opcode:#04x} may not be here")]
    Misplaced {
        /// Its kind.
        opcode: u8,
    },
}

/// The fields of a record, from the first to the last.
#[derive(Clone, Debug)]
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(body: &'a [u8]) -> Self {
        Fields { rest: body }
    }

    fn bytes(&mut self, len: u64, field: &'static str) -> Result<&'a [u8], Fault> {
        let len = usize::try_from(len).map_err(|_| Fault::Short { field })?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Fault::Short { field })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Fault> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::Short { field })?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, Fault> {
        Ok(self.array::<1>(field)?[0])
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, Fault> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Bytes after their length.
    fn counted(&mut self, field: &'static str) -> Result<&'a [u8], Fault> {
        let len = self.u32(field)?;
        self.bytes(len.into(), field)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.counted(field)?).map_err(|_| Fault::NotText { field })
    }

    fn texts(&mut self, field: &'static str) -> Result<BTreeMap<String, String>, Fault> {
        let mut entries = Fields::new(self.counted(field)?);
        let mut texts = BTreeMap::new();
        while !entries.rest.is_empty() {
            texts.insert(entries.text(field)?.into(), entries.text(field)?.into());
        }
        Ok(texts)
    }

    fn numbers(&mut self, field: &'static str) -> Result<BTreeMap<u16, u64>, Fault> {
        let entries = self.counted(field)?;
        if entries.len() % 10 != 0 {
            return Err(Fault::Ragged { field });
        }
        let numbers = entries.chunks_exact(10).map(|entry| {
            let mut entry = Fields::new(entry);
            Ok((entry.u16(field)?, entry.u64(field)?))
        });
        numbers.collect()
    }
}

/// A record among others in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    /// Where it begins.
    pub at: usize,
    pub opcode: u8,
    pub body: &'a [u8],
}

impl Record<'_> {
    /// Its length with its head.
    pub(crate) fn len(&self) -> usize {
        HEAD + self.body.len()
    }
}

/// The kind of a record, and the length of its body.
pub(crate) fn head(bytes: [u8; HEAD]) -> (u8, u64) {
    let [opcode, len @ ..] = bytes;
    (opcode, u64::from_le_bytes(len))
}

/// Records one behind the other, as in a chunk or a summary. Ends after the first that is none.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Records { bytes, at: 0 }
    }

    /// Where the next one begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    fn read(&mut self) -> Result<Record<'a>, Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((bytes, behind)) = rest.split_first_chunk::<HEAD>() else {
            return Err(Fault::Torn { missing: (HEAD - rest.len()) as u64 });
        };
        let (opcode, len) = head(*bytes);
        if opcode == 0 {
            return Err(Fault::NoRecord);
        }
        let body = usize::try_from(len).ok().and_then(|len| behind.get(..len));
        let body = body.ok_or_else(|| Fault::Torn { missing: len - behind.len() as u64 })?;
        let record = Record { at: self.at, opcode, body };
        self.at += record.len();
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Fault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.bytes = &[];
        }
        Some(read)
    }
}

/// What a file says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header<'a> {
    pub profile: &'a str,
    pub library: &'a str,
}

impl<'a> Header<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        let mut fields = Fields::new(body);
        Ok(Header { profile: fields.text("profile")?, library: fields.text("library")? })
    }
}

/// Where the summary is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    /// 0 if there is none.
    pub summary_start: u64,
    /// 0 if there is none.
    pub summary_offset_start: u64,
    /// 0 if it was not taken.
    pub summary_crc: u32,
}

impl Footer {
    /// Length of its body, which no later version changes.
    pub(crate) const LEN: usize = 20;
    /// Bytes of the body that are part of the checksum, as is what is before them.
    pub(crate) const CHECKED: usize = 16;

    pub(crate) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::new(body);
        Ok(Footer {
            summary_start: fields.u64("start of the summary")?,
            summary_offset_start: fields.u64("start of the summary's offsets")?,
            summary_crc: fields.u32("checksum")?,
        })
    }
}

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message<'a> {
    pub channel_id: u16,
    pub sequence: u32,
    pub log_time: u64,
    pub publish_time: u64,
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// Length of what is before the data.
    pub(crate) const LEN: usize = 22;

    #[inline]
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        let Some((head, data)) = body.split_first_chunk::<{ Message::LEN }>() else {
            return Err(Fault::Short { field: "message's head" });
        };
        let [c0, c1, s0, s1, s2, s3, l0, l1, l2, l3, l4, l5, l6, l7, p0, p1, p2, p3, p4, p5, p6, p7] = *head;
        Ok(Message {
            channel_id: u16::from_le_bytes([c0, c1]),
            sequence: u32::from_le_bytes([s0, s1, s2, s3]),
            log_time: u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]),
            publish_time: u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]),
            data,
        })
    }
}

/// What is before the records of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk<'a> {
    pub start_time: u64,
    pub end_time: u64,
    pub uncompressed_size: u64,
    /// 0 if it was not taken.
    pub crc: u32,
    pub compression: &'a str,
    /// Where in the body the records begin.
    pub records_at: u64,
    pub records_len: u64,
}

impl<'a> Chunk<'a> {
    /// Enough of a chunk's beginning, unless the name of its compression is longer than any that is known.
    pub(crate) const PREFIX: usize = 256;

    /// Reads a chunk whose body has `len` bytes from the first few of them.
    pub(crate) fn parse(prefix: &'a [u8], len: u64) -> Result<Self, Fault> {
        let mut fields = Fields::new(prefix);
        let mut chunk = Chunk {
            start_time: fields.u64("start time")?,
            end_time: fields.u64("end time")?,
            uncompressed_size: fields.u64("uncompressed size")?,
            crc: fields.u32("checksum")?,
            compression: fields.text("compression")?,
            records_at: 0,
            records_len: fields.u64("records")?,
        };
        chunk.records_at = (prefix.len() - fields.rest.len()) as u64;
        match len.checked_sub(chunk.records_at) {
            Some(room) if room >= chunk.records_len => Ok(chunk),
            _ => Err(Fault::Short { field: "records" }),
        }
    }

    /// The records in the whole body.
    pub(crate) fn records<'b>(&self, body: &'b [u8]) -> Result<&'b [u8], Fault> {
        let mut fields = Fields::new(body);
        fields.bytes(self.records_at, "records")?;
        fields.bytes(self.records_len, "records")
    }
}

/// Where in a chunk the messages of a channel are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MessageIndex<'a> {
    pub channel_id: u16,
    entries: &'a [u8],
}

impl<'a> MessageIndex<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        let mut fields = Fields::new(body);
        let (channel_id, entries) = (fields.u16("channel's id")?, fields.counted("entries")?);
        if entries.len() % 16 != 0 {
            return Err(Fault::Ragged { field: "entries" });
        }
        Ok(MessageIndex { channel_id, entries })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() / 16
    }

    /// Log time, and offset in the uncompressed records.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        self.entries.chunks_exact(16).filter_map(|entry| {
            let (time, offset) = entry.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*time), u64::from_le_bytes(offset.try_into().ok()?)))
        })
    }
}

/// What is around the data of an attachment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attachment<'a> {
    pub log_time: u64,
    pub create_time: u64,
    pub name: &'a str,
    pub media_type: &'a str,
    /// Where in the body the data begins. The checksum is behind it.
    pub data_at: u64,
    pub data_len: u64,
}

impl<'a> Attachment<'a> {
    /// Reads an attachment whose body has `len` bytes from the first of them.
    pub(crate) fn parse(prefix: &'a [u8], len: u64) -> Result<Self, Fault> {
        let mut fields = Fields::new(prefix);
        let mut attachment = Attachment {
            log_time: fields.u64("log time")?,
            create_time: fields.u64("create time")?,
            name: fields.text("name")?,
            media_type: fields.text("media type")?,
            data_at: 0,
            data_len: fields.u64("data")?,
        };
        attachment.data_at = (prefix.len() - fields.rest.len()) as u64;
        match len.checked_sub(attachment.data_at + 4) {
            Some(room) if room >= attachment.data_len => Ok(attachment),
            _ => Err(Fault::Short { field: "data" }),
        }
    }
}

/// The checksum of all that is before the summary; 0 if it was not taken.
pub(crate) fn data_end(body: &[u8]) -> Result<u32, Fault> {
    Fields::new(body).u32("checksum")
}

pub(crate) fn schema(body: &[u8]) -> Result<Schema, Fault> {
    let mut fields = Fields::new(body);
    Ok(Schema {
        id: fields.u16("id")?,
        name: fields.text("name")?.into(),
        encoding: fields.text("encoding")?.into(),
        data: fields.counted("data")?.into(),
    })
}

pub(crate) fn channel(body: &[u8]) -> Result<Channel, Fault> {
    let mut fields = Fields::new(body);
    Ok(Channel {
        id: fields.u16("id")?,
        schema_id: fields.u16("schema's id")?,
        topic: fields.text("topic")?.into(),
        message_encoding: fields.text("message encoding")?.into(),
        metadata: fields.texts("metadata")?,
    })
}

/// The name of metadata, and what it says.
pub(crate) fn metadata(body: &[u8]) -> Result<(String, BTreeMap<String, String>), Fault> {
    let mut fields = Fields::new(body);
    Ok((fields.text("name")?.into(), fields.texts("metadata")?))
}

pub(crate) fn chunk_index(body: &[u8]) -> Result<ChunkIndex, Fault> {
    let mut fields = Fields::new(body);
    Ok(ChunkIndex {
        start_time: fields.u64("start time")?,
        end_time: fields.u64("end time")?,
        offset: fields.u64("offset")?,
        len: fields.u64("length")?,
        message_index_offsets: fields.numbers("offsets of message indexes")?,
        message_index_len: fields.u64("length of message indexes")?,
        compression: fields.text("compression")?.into(),
        compressed_size: fields.u64("compressed size")?,
        uncompressed_size: fields.u64("uncompressed size")?,
    })
}

pub(crate) fn attachment_index(body: &[u8]) -> Result<AttachmentIndex, Fault> {
    let mut fields = Fields::new(body);
    Ok(AttachmentIndex {
        offset: fields.u64("offset")?,
        len: fields.u64("length")?,
        log_time: fields.u64("log time")?,
        create_time: fields.u64("create time")?,
        data_size: fields.u64("size of the data")?,
        name: fields.text("name")?.into(),
        media_type: fields.text("media type")?.into(),
    })
}

pub(crate) fn metadata_index(body: &[u8]) -> Result<MetadataIndex, Fault> {
    let mut fields = Fields::new(body);
    Ok(MetadataIndex { offset: fields.u64("offset")?, len: fields.u64("length")?, name: fields.text("name")?.into() })
}

pub(crate) fn statistics(body: &[u8]) -> Result<Statistics, Fault> {
    let mut fields = Fields::new(body);
    Ok(Statistics {
        messages: fields.u64("messages")?,
        schemas: fields.u16("schemas")?,
        channels: fields.u32("channels")?,
        attachments: fields.u32("attachments")?,
        metadata: fields.u32("metadata")?,
        chunks: fields.u32("chunks")?,
        start_time: fields.u64("start time")?,
        end_time: fields.u64("end time")?,
        channel_messages: fields.numbers("messages of channels")?,
    })
}

/// The kind of the summary's records in a group, where the group starts, and its length.
pub(crate) fn summary_offset(body: &[u8]) -> Result<(u8, u64, u64), Fault> {
    let mut fields = Fields::new(body);
    Ok((fields.u8("kind")?, fields.u64("start")?, fields.u64("length")?))
}

#[cfg(test)]
mod tests;
