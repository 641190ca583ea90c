use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::tank::format::chunk::{OpenChunk, Sealer};
use crate::tank::format::{Compression, op};

/// Bytes in memory, of which only so many fit.
#[derive(Clone, Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
    room: Option<usize>,
}

impl Storage for Memory {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset, self.bytes.len() as u64, "a write that is not at the end");
        let fit = self.room.map_or(bytes.len(), |room| bytes.len().min(room - self.bytes.len()));
        self.bytes.extend_from_slice(&bytes[..fit]);
        if fit < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.bytes.truncate(len as usize);
        Ok(())
    }

    fn reserve(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// The kinds of records of a file, outside of chunks, and where each begins. Written for this test alone, so that it finds
/// out what the writer believes in.
fn records(bytes: &[u8]) -> Vec<(u8, usize)> {
    let mut records = Vec::new();
    let mut at = MAGIC.len();
    while at + 9 <= bytes.len() && bytes[at..] != MAGIC {
        records.push((bytes[at], at));
        at += 9 + u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
    }
    assert!(at == bytes.len() || bytes[at..] == MAGIC, "a record reaches past the end");
    records
}

const DATA: [u8; 3] = [1, 2, 3];
const TEN_TIMES: [u64; 10] = [0, 2, 1, 3, 3, 5, 4, 7, 8, 9];

/// What the conformance suite has a writer write.
fn write_case(what: &str, features: &[&str]) -> Vec<u8> {
    let has = |feature| features.contains(&feature);
    let mut writer = FileWriter::begin(Memory::default(), "", "").unwrap();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&writer.storage.bytes);
    writer.crc = Some(crc);
    writer.options = SummaryOptions {
        schemas: has("rsh"),
        channels: has("rch"),
        statistics: has("st"),
        chunk_index: has("chx"),
        attachment_index: has("ax"),
        metadata_index: has("mdx"),
        offsets: has("sum"),
    };
    let schema = Schema { id: 1, name: "Example".into(), encoding: "c".into(), data: vec![4, 5, 6] };
    let channel = |schema_id, encoding: &str, metadata| Channel {
        id: 1,
        schema_id,
        topic: "example".into(),
        message_encoding: encoding.into(),
        metadata,
    };
    let entries = BTreeMap::from([("foo".to_string(), "bar".to_string())]);
    let (schema, channel, messages): (_, _, Vec<(u32, u64, u64)>) = match what {
        "NoData" => (None, None, vec![]),
        "OneMetadata" => {
            writer.add_metadata("myMetadata", &entries).unwrap();
            (None, None, vec![])
        }
        "OneAttachment" => {
            writer.add_attachment("myFile", "application/octet-stream", 2, 1, &DATA).unwrap();
            (None, None, vec![])
        }
        "OneMessage" => (Some(schema), Some(channel(1, "a", entries)), vec![(10, 2, 1)]),
        "OneSchemalessMessage" => (None, Some(channel(0, "text", BTreeMap::new())), vec![(10, 2, 1)]),
        "TenMessages" => {
            let times = TEN_TIMES.iter().enumerate().map(|(at, &time)| (at as u32, time, time));
            (Some(schema), Some(channel(1, "a", entries)), times.collect())
        }
        _ => panic!("an unknown case: {what}"),
    };
    let mut chunk = OpenChunk::with_capacity(0);
    if let Some(schema) = schema {
        if has("ch") {
            chunk.add_schema(&schema);
            writer.summary.schemas.insert(schema.id, schema);
        } else {
            writer.add_schema(&schema);
        }
    }
    if let Some(channel) = channel {
        if has("ch") {
            chunk.add_channel(&channel);
            writer.summary.channels.insert(channel.id, channel);
        } else {
            writer.add_channel(&channel);
        }
    }
    for (sequence, log_time, publish_time) in messages {
        if has("ch") {
            chunk.add_message(1, sequence, log_time, publish_time, [&DATA, &[]]);
        } else {
            encode::record(&mut writer.pending, op::MESSAGE, |out| {
                out.extend_from_slice(&1u16.to_le_bytes());
                out.extend_from_slice(&sequence.to_le_bytes());
                out.extend_from_slice(&log_time.to_le_bytes());
                out.extend_from_slice(&publish_time.to_le_bytes());
                out.extend_from_slice(&DATA);
            });
            writer.summary.statistics.add(&[(1, 1)], log_time, log_time);
        }
    }
    if chunk.len() > 0 {
        let mut sealer = Sealer::new(Compression::None).unwrap();
        sealer.message_index = has("mx");
        writer.append(&sealer.seal(chunk, Vec::new).0).unwrap();
    }
    writer.finish().unwrap();
    writer.storage.bytes
}

#[test]
fn each_writer_case_of_the_conformance_suite_is_written_byte_for_byte() {
    let sums = include_str!("../../../tests/mcap_conformance/SHA256SUMS");
    let directory = std::env::temp_dir().join(format!("conduit-conformance-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for line in sums.lines() {
        let (_, name) = line.split_once("  ").unwrap();
        let mut parts = name.strip_suffix(".mcap").unwrap().split('-');
        let what = parts.next().unwrap();
        std::fs::write(directory.join(name), write_case(what, &parts.collect::<Vec<_>>())).unwrap();
    }
    let mut check = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet"])
        .current_dir(&directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(sums.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(sums.lines().count(), 208);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Whatever is added, in whatever order.
#[derive(Clone, Debug)]
enum Step {
    Chunk(Vec<(u16, u64, Vec<u8>)>),
    Metadata(String),
    Attachment(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let message = (0..4u16, any::<u64>(), prop::collection::vec(any::<u8>(), 0..40));
    let step = prop_oneof![
        4 => prop::collection::vec(message, 0..20).prop_map(Step::Chunk),
        1 => "[a-z]{0,10}".prop_map(Step::Metadata),
        1 => prop::collection::vec(any::<u8>(), 0..30).prop_map(Step::Attachment),
    ];
    prop::collection::vec(step, 0..12)
}

fn take(writer: &mut FileWriter<Memory>, step: &Step) -> io::Result<()> {
    match step {
        Step::Chunk(messages) => {
            let mut chunk = OpenChunk::with_capacity(64);
            for (at, (channel, time, data)) in messages.iter().enumerate() {
                chunk.add_message(
                    *channel,
                    at as u32,
                    *time,
                    *time,
                    [&data[..data.len() / 2], &data[data.len() / 2..]],
                );
            }
            writer.append(&Sealer::new(Compression::None)?.seal(chunk, Vec::new).0)
        }
        Step::Metadata(name) => {
            writer.add_metadata(name, &BTreeMap::new()).unwrap();
            Ok(())
        }
        Step::Attachment(data) => writer.add_attachment("a", "b", 1, 2, data),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever the disk is full, what was written before is whole, and the file can be ended once there is room for that.
    #[test]
    fn a_disk_that_is_full_at_any_byte_leaves_a_valid_beginning_that_can_be_ended(steps in steps(), room in 0usize..2000) {
        let storage = Memory { bytes: Vec::new(), room: Some(room) };
        let Ok(mut writer) = FileWriter::begin(storage, "", "test") else { return Ok(()) };
        let mut good = 0;
        for step in &steps {
            let chunks = writer.summary.chunks.len();
            if take(&mut writer, step).is_err() {
                writer.cut_back().unwrap();
                prop_assert_eq!(writer.summary.chunks.len(), chunks, "a chunk that was not written is not listed");
                break;
            }
            good += 1;
        }
        let end = writer.summary.end(writer.at(), 0, writer.options).len();
        prop_assert!(end <= writer.end, "the end takes {} bytes, for which {} are set aside", end, writer.end);
        let before = records(&writer.storage.bytes);
        writer.storage.room = None;
        writer.finish().unwrap();
        let after = records(&writer.storage.bytes);
        prop_assert!(after.starts_with(&before));
        prop_assert!(writer.storage.bytes.ends_with(&MAGIC));
        let chunks: Vec<_> = after.iter().filter(|(opcode, _)| *opcode == op::CHUNK).map(|(_, at)| *at as u64).collect();
        let listed: Vec<_> = writer.summary.chunks.iter().map(|chunk| chunk.offset).collect();
        prop_assert_eq!(&chunks, &listed);
        let wanted = steps[..good].iter().filter(|step| matches!(step, Step::Chunk(_))).count();
        prop_assert_eq!(chunks.len(), wanted);
    }

    /// Each index entry leads to its message, each index to its channel's.
    #[test]
    fn an_index_leads_to_each_message(messages in prop::collection::vec((0..5u16, any::<u64>()), 1..60), kind in 0..3usize) {
        let compression = [Compression::None, Compression::Lz4, Compression::Zstd { level: 1 }][kind];
        let mut chunk = OpenChunk::with_capacity(0);
        for (at, (channel, time)) in messages.iter().enumerate() {
            chunk.add_message(*channel, at as u32, *time, *time, [&[0, 1], &vec![7; at]]);
        }
        let plain = Sealer::new(Compression::None).unwrap().seal(OpenChunk::reusing(Vec::new()), Vec::new).0;
        prop_assert_eq!(plain.counts(), &[]);
        let mut sealer = Sealer::new(compression).unwrap();
        let (sealed, _) = sealer.seal(chunk, Vec::new);
        let bytes = sealed.bytes();
        let mut seen = 0;
        for (&channel, &at) in &sealed.index().message_index_offsets {
            let at = at as usize;
            prop_assert_eq!(bytes[at], op::MESSAGE_INDEX);
            prop_assert_eq!(u16::from_le_bytes(bytes[at + 9..at + 11].try_into().unwrap()), channel);
            let len = u32::from_le_bytes(bytes[at + 11..at + 15].try_into().unwrap()) as usize;
            let of_channel: Vec<_> = messages.iter().enumerate().filter(|(_, (other, _))| *other == channel).collect();
            prop_assert_eq!(len, 16 * of_channel.len());
            for (entry, (number, (_, time))) in bytes[at + 15..at + 15 + len].chunks(16).zip(of_channel) {
                prop_assert_eq!(u64::from_le_bytes(entry[..8].try_into().unwrap()), *time);
                let offset = (0..number).map(|before| 31 + 2 + before as u64).sum::<u64>();
                prop_assert_eq!(u64::from_le_bytes(entry[8..].try_into().unwrap()), offset);
                seen += 1;
            }
        }
        prop_assert_eq!(seen, messages.len());
        prop_assert_eq!(sealed.index().start_time, messages.iter().map(|(_, time)| *time).min().unwrap());
        prop_assert_eq!(sealed.index().end_time, messages.iter().map(|(_, time)| *time).max().unwrap());
    }
}
