//! The crate `mcap`: what it reads of Conduit's files, and files that it writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use conduit::topic::Schema;
use mcap::records::MessageHeader;
use mcap::sans_io::{IndexedReadEvent, IndexedReader};
use mcap::{Compression, MessageStream, Summary, WriteOptions};

use crate::truth::{Channel, Difference, Message, Truth, same};
use crate::{Failure, messages};

/// Reads a file from beginning to end, and by its index.
pub fn read(path: &Path, truth: &Truth) -> Result<Result<(), Difference>, Failure> {
    let bytes = std::fs::read(path)?;
    let mut streamed = Vec::new();
    for message in MessageStream::new(&bytes)? {
        let mcap::Message { channel, sequence, log_time, publish_time, data } = message?;
        streamed.push(message_of(&channel.topic, sequence, log_time, publish_time, &data));
    }
    streamed.sort_by_key(|message| message.log_time);

    let summary = Summary::read(&bytes)?.ok_or("there is no summary")?;
    let channels = summary.channels.values().map(|channel| Channel {
        topic: channel.topic.clone(),
        schema: Schema {
            message_encoding: channel.message_encoding.clone(),
            schema_encoding: channel.schema.as_ref().map(|schema| schema.encoding.clone()).unwrap_or_default(),
            name: channel.schema.as_ref().map(|schema| schema.name.clone()).unwrap_or_default(),
            data: channel.schema.as_ref().map(|schema| schema.data.to_vec()).unwrap_or_default(),
        },
        metadata: Some(channel.metadata.clone()),
    });
    let mut indexed = Vec::new();
    let mut reader = IndexedReader::new(&summary)?;
    while let Some(event) = reader.next_event() {
        match event? {
            IndexedReadEvent::ReadChunkRequest { offset, length } => {
                let chunk = bytes.get(offset as usize..).and_then(|rest| rest.get(..length));
                reader
                    .insert_chunk_record_data(offset, chunk.ok_or("a chunk is said to be where the file has ended")?)?;
            }
            IndexedReadEvent::Message { header, data } => {
                let MessageHeader { channel_id, sequence, log_time, publish_time } = header;
                let topic = &summary.channels.get(&channel_id).ok_or("a channel is not in the summary")?.topic;
                indexed.push(message_of(topic, sequence, log_time, publish_time, data));
            }
        }
    }
    let counted = summary.stats.as_ref().map_or(0, |statistics| statistics.message_count);
    Ok(truth
        .compare_channels(channels.collect())
        .and_then(|()| truth.compare(&streamed))
        .and_then(|()| truth.compare(&indexed))
        .and_then(|()| same("messages as the summary counts them", &(truth.messages.len() as u64), &counted)))
}

fn message_of(topic: &str, sequence: u32, log_time: u64, publish_time: u64, data: &[u8]) -> Message {
    let (sequence, publish_time) = (Some(sequence), Some(publish_time));
    Message { topic: topic.into(), sequence, log_time, publish_time, data: data.into(), fields: None }
}

pub fn write_all(directory: &Path) -> Result<(), Failure> {
    for (name, compression) in [("none", None), ("lz4", Some(Compression::Lz4)), ("zstd", Some(Compression::Zstd))] {
        write(&directory.join(format!("crate-{name}.mcap")), compression)?;
    }
    Ok(())
}

/// Writes messages of fixed and of variable length, with and without a schema, out of order by fours.
fn write(path: &Path, compression: Option<Compression>) -> Result<(), Failure> {
    let schema = |message_encoding: &str, schema_encoding: &str, name: &str, data: &str| Schema {
        message_encoding: message_encoding.into(),
        schema_encoding: schema_encoding.into(),
        name: name.into(),
        data: data.into(),
    };
    let topics = [
        ("/point", schema("cdr", "ros2msg", "interop_msgs/msg/Corner", "float32 x\nfloat32 y\n")),
        ("/text", schema("cdr", "ros2msg", "std_msgs/msg/String", "string data\n")),
        ("json", schema("json", "jsonschema", "Note", r#"{"type":"object"}"#)),
        ("bytes", schema("", "", "", "")),
    ];
    let options = WriteOptions::new().compression(compression).chunk_size(Some(4096)).profile("ros2");
    let mut writer = options.create(BufWriter::new(File::create(path)?))?;
    let mut truth = Truth::default();
    let mut ids = Vec::new();
    let metadata = BTreeMap::from([("source".to_string(), "crate".to_string())]);
    for (topic, schema) in topics {
        let schema_id = match schema.name.as_str() {
            "" => 0,
            name => writer.add_schema(name, &schema.schema_encoding, &schema.data)?,
        };
        ids.push(writer.add_channel(schema_id, topic, &schema.message_encoding, &metadata)?);
        truth.channels.push(Channel { topic: topic.into(), schema, metadata: Some(metadata.clone()) });
    }
    for number in 0..400 {
        let corner = messages::Corner { x: number as f32, y: -0.5 };
        // One is longer than topics are that are made for any length.
        let text = "wörter ".repeat(if number == 200 { 2000 } else { number as usize % 50 });
        let contents = [messages::cdr(&corner), string(&text), messages::json(number), messages::bytes(number)];
        for (at, data) in contents.into_iter().enumerate() {
            let topic = &truth.channels[at].topic;
            let log_time = 1_700_000_000_000_000_000 + (number ^ 3) * 1_000_000 + at as u64;
            let message = message_of(topic, number as u32 * 2, log_time, log_time - 7, &data);
            let header = MessageHeader {
                channel_id: ids[at],
                sequence: number as u32 * 2,
                log_time,
                publish_time: log_time - 7,
            };
            writer.write_to_known_channel(&header, &data)?;
            truth.messages.push(message);
        }
    }
    writer.finish()?;
    truth.write(path)
}

/// A message that is a string, in CDR: its length with the zero behind it, and both.
fn string(text: &str) -> Vec<u8> {
    [&[0, 1, 0, 0], &(text.len() as u32 + 1).to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}
