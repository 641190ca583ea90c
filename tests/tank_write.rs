//! What is promised of files that are written by hand.
#![cfg(feature = "tank")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use conduit::tank::{ChannelId, Compression, Error, Query, Recording, Writer, WriterOptions, leftovers};
use conduit::topic::Schema;
use proptest::prelude::*;

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("conduit-write-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("run.mcap")
    }

    fn open(&self) -> Recording {
        Recording::open(self.file()).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn schema(name: &str) -> Schema {
    let data = format!("definition of {name}").into_bytes();
    Schema { message_encoding: "json".into(), schema_encoding: "jsonschema".into(), name: name.into(), data }
}

type Found = (String, u32, u64, Vec<u8>);

/// All messages in the order of their times.
fn read(recording: &Recording) -> Vec<Found> {
    let mut found = Vec::new();
    let mut messages = recording.messages(Query::new()).unwrap();
    while let Some(message) = messages.next().unwrap() {
        assert_eq!(message.publish_time, message.log_time);
        found.push((message.topic.name.clone(), message.sequence, message.log_time, message.data.to_vec()));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_written_is_read(
        messages in prop::collection::vec((0..5usize, 0..1000u64, prop::collection::vec(any::<u8>(), 0..200)), 0..80),
        kind in 0..3usize,
        chunk_bytes in 1..3000usize,
        chunk_time in 0..3000u64,
    ) {
        let directory = Directory::new();
        let compression = [Compression::None, Compression::Lz4, Compression::Zstd { level: 3 }][kind];
        let options = Writer::options().compression(compression).chunk_bytes(chunk_bytes).profile("test");
        let mut writer =
            options.chunk_time(Duration::from_nanos(chunk_time)).create(directory.file()).unwrap();
        let mut channels: Vec<Option<ChannelId>> = vec![None; 5];
        let mut written: Vec<Found> = Vec::new();
        for (sequence, (topic, time, data)) in messages.iter().enumerate() {
            let name = format!("topic{topic}");
            let id = *channels[*topic].get_or_insert_with(|| {
                writer.add_topic(&name, &schema(&format!("type{}", topic % 2)), &[("of", &name)]).unwrap()
            });
            writer.write(id, sequence as u32, *time, data).unwrap();
            written.push((name, sequence as u32, *time, data.clone()));
        }
        writer.add_metadata("note", &[("written", "yes")]).unwrap();
        let len = writer.finish().unwrap();
        let recording = directory.open();
        prop_assert!(recording.is_complete(), "{:?}", recording.problems());
        prop_assert_eq!(recording.len(), len);
        prop_assert_eq!(recording.profile(), "test");
        let metadata = recording.metadata().unwrap();
        prop_assert_eq!(&metadata[0].entries["written"], "yes");
        for topic in recording.topics() {
            let number: usize = topic.name["topic".len()..].parse().unwrap();
            prop_assert_eq!(Some(topic.id), channels[number].map(ChannelId::get));
            prop_assert_eq!(&topic.schema, &schema(&format!("type{}", number % 2)));
            prop_assert_eq!(&topic.metadata["of"], &topic.name);
        }
        // Equal times are read in the order of writing.
        written.sort_by_key(|(_, _, time, _)| *time);
        prop_assert_eq!(read(&recording), written);
        let times: Vec<_> = recording.chunks().map(|chunk| chunk.end - chunk.start).collect();
        if messages.windows(2).all(|pair| pair[0].1 <= pair[1].1) {
            prop_assert!(times.iter().all(|span| *span < chunk_time.max(1)), "{:?}", times);
        }
    }
}

fn options() -> WriterOptions {
    Writer::options().chunk_bytes(1000).chunk_time(Duration::from_nanos(100))
}

#[test]
fn a_chunk_is_written_before_it_gets_larger_or_longer_than_asked_for() {
    let directory = Directory::new();
    let mut writer = options().create(directory.file()).unwrap();
    let id = writer.add_topic("t", &Schema::opaque(), &[]).unwrap();
    let begin = writer.file_len();
    // A message takes 31 bytes more than its own.
    for at in 0..10 {
        writer.write(id, at, 0, &[0; 69]).unwrap();
        assert_eq!(writer.file_len(), begin, "{at}");
    }
    writer.write(id, 10, 99, &[0; 69]).unwrap();
    let full = writer.file_len();
    assert!(full > begin + 1000);
    writer.write(id, 11, 198, &[0; 69]).unwrap();
    assert_eq!(writer.file_len(), full);
    writer.write(id, 12, 199, &[0; 69]).unwrap();
    let late = writer.file_len();
    assert!(late > full);
    writer.flush_if_due(298).unwrap();
    assert_eq!(writer.file_len(), late);
    writer.flush_if_due(299).unwrap();
    assert!(writer.file_len() > late);
    // What is too large for any chunk has one of its own.
    writer.write(id, 13, 0, &[0; 5000]).unwrap();
    writer.finish().unwrap();
    let recording = directory.open();
    let messages: Vec<_> = recording.chunks().map(|chunk| chunk.uncompressed).collect();
    assert_eq!(messages, [1000, 200, 100, 5031]);
}

#[test]
fn what_was_flushed_is_there_for_others_to_read_and_the_file_is_no_leftover_yet() {
    let directory = Directory::new();
    let mut writer = Writer::create(directory.file()).unwrap();
    let id = writer.add_topic("t", &Schema::opaque(), &[]).unwrap();
    for (at, flush) in [Writer::flush, Writer::sync].into_iter().enumerate() {
        writer.write(id, at as u32, 0, b"x").unwrap();
        assert_eq!(directory.open().message_count(), at as u64);
        flush(&mut writer).unwrap();
        assert_eq!(directory.open().message_count(), at as u64 + 1);
    }
    assert!(leftovers(&directory.0).unwrap().is_empty());
    assert!(!directory.open().is_complete());
    drop(writer);
    assert!(directory.open().is_complete());
}

#[test]
fn topics_of_the_same_type_share_its_schema() {
    let directory = Directory::new();
    let mut writer = Writer::create(directory.file()).unwrap();
    for at in 0..u32::from(u16::MAX) {
        let schema = if at < 1000 { schema("same") } else { Schema::opaque() };
        let id = writer.add_topic(&at.to_string(), &schema, &[]).unwrap();
        assert_eq!(u32::from(id.get()), at);
        writer.write(id, at, 0, b"").unwrap();
    }
    assert!(matches!(writer.add_topic("one more", &schema("x"), &[]), Err(Error::InvalidOption { .. })));
    writer.finish().unwrap();
    let bytes = std::fs::read(directory.file()).unwrap();
    let definition = &schema("same").data;
    // Once among the messages and once at the end.
    assert_eq!(bytes.windows(definition.len()).filter(|window| window == definition).count(), 2);
    assert_eq!(directory.open().topics().len(), usize::from(u16::MAX));
}

#[test]
fn no_file_is_overwritten_and_no_message_without_a_channel_is_written() {
    let directory = Directory::new();
    let create = |options: WriterOptions| options.create(directory.file());
    assert!(matches!(create(options().chunk_bytes(0)), Err(Error::InvalidOption { .. })));
    let mut writer = create(options()).unwrap();
    assert!(matches!(create(options()), Err(Error::Exists { .. })));
    let other = Directory::new();
    let id = options().create(other.file()).unwrap().add_topic("t", &Schema::opaque(), &[]).unwrap();
    assert!(matches!(writer.write(id, 0, 0, b"x"), Err(Error::InvalidOption { .. })));
    writer.finish().unwrap();
    assert!(directory.open().is_complete());
    assert_eq!(directory.open().message_count(), 0);
}
