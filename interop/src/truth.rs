//! What is in a file, as its writer says: `NAME.jsonl` beside `NAME.mcap`, a line for each topic and then one for each message.
//!
//! ```json
//! {"channel":"imu","message_encoding":"cdr","schema_name":"..","schema_encoding":"ros2msg","schema":"..","metadata":{}}
//! {"topic":"imu","sequence":0,"log_time":"17..","publish_time":"17..","data":"00010000..","fields":{"x":0.5}}
//! ```
//!
//! Messages are in the order of their log times. Numbers of 64 bits are text, because not all JSON readers have them; bytes are
//! hexadecimal. What a writer doesn't tell, such as metadata, a sequence or fields, is not compared.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use conduit::topic::Schema;
use serde_json::{Map, Value, json};

use crate::Failure;

/// What is in a file.
#[derive(Clone, Default)]
pub struct Truth {
    pub channels: Vec<Channel>,
    pub messages: Vec<Message>,
}

#[derive(Clone)]
pub struct Channel {
    pub topic: String,
    pub schema: Schema,
    pub metadata: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default)]
pub struct Message {
    pub topic: String,
    pub sequence: Option<u32>,
    pub log_time: u64,
    pub publish_time: Option<u64>,
    /// As it is in the file: CDR with the four bytes before it.
    pub data: Vec<u8>,
    pub fields: Option<Value>,
}

/// What is wrong with a file.
pub struct Difference(String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Difference {
    pub fn new(what: impl fmt::Display, expected: &impl fmt::Debug, found: &impl fmt::Debug) -> Self {
        Difference(format!("{what}: expected {expected:?}, found {found:?}"))
    }
}

/// An error unless both are the same.
pub fn same<T: PartialEq + fmt::Debug>(what: impl fmt::Display, expected: &T, found: &T) -> Result<(), Difference> {
    if expected == found { Ok(()) } else { Err(Difference::new(what, expected, found)) }
}

impl Truth {
    /// Says beside a file what is in it.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        let mut lines = String::new();
        for Channel { topic, schema, metadata } in &self.channels {
            let mut line = json!({
                "channel": topic,
                "message_encoding": schema.message_encoding,
                "schema_name": schema.name,
                "schema_encoding": schema.schema_encoding,
                "schema": std::str::from_utf8(&schema.data)?,
            });
            if let Some(metadata) = metadata {
                line["metadata"] = json!(metadata);
            }
            lines.push_str(&format!("{line}\n"));
        }
        for Message { topic, sequence, log_time, publish_time, data, fields } in &self.messages {
            let mut line = json!({"topic": topic, "log_time": log_time.to_string(), "data": hex(data)});
            if let Some(sequence) = sequence {
                line["sequence"] = json!(sequence);
            }
            if let Some(publish_time) = publish_time {
                line["publish_time"] = json!(publish_time.to_string());
            }
            if let Some(fields) = fields {
                line["fields"] = fields.clone();
            }
            lines.push_str(&format!("{line}\n"));
        }
        Ok(std::fs::write(file.with_extension("jsonl"), lines)?)
    }

    /// What is said beside a file.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let path = file.with_extension("jsonl");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut truth = Truth::default();
        for (at, line) in text.lines().enumerate() {
            let failed = |error: Failure| format!("{}:{}: {error}", path.display(), at + 1);
            truth.add(serde_json::from_str(line)?).map_err(failed)?;
        }
        truth.messages.sort_by_key(|message| message.log_time);
        Ok(truth)
    }

    fn add(&mut self, line: Map<String, Value>) -> Result<(), Failure> {
        let text = |key: &str| match line.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            other => Err(format!("{key} is no text, but {other:?}")),
        };
        if line.contains_key("channel") {
            let schema = Schema {
                message_encoding: text("message_encoding")?,
                schema_encoding: text("schema_encoding")?,
                name: text("schema_name")?,
                data: text("schema")?.into_bytes(),
            };
            let metadata = line.get("metadata").map(|metadata| serde_json::from_value(metadata.clone())).transpose()?;
            self.channels.push(Channel { topic: text("channel")?, schema, metadata });
        } else {
            let sequence = line.get("sequence").map(|sequence| serde_json::from_value(sequence.clone())).transpose()?;
            let publish_time = line.contains_key("publish_time").then(|| text("publish_time")).transpose()?;
            self.messages.push(Message {
                topic: text("topic")?,
                sequence,
                log_time: text("log_time")?.parse()?,
                publish_time: publish_time.map(|time| time.parse()).transpose()?,
                data: bytes(&text("data")?)?,
                fields: line.get("fields").cloned(),
            });
        }
        Ok(())
    }

    /// Expects another last byte of a message in the middle.
    pub fn alter(&mut self) {
        let middle = self.messages.len() / 2;
        let data = self.messages.iter_mut().skip(middle).find_map(|message| message.data.last_mut());
        *data.expect("there is a message with bytes") ^= 1;
    }

    /// An error unless the file has these topics.
    pub fn compare_channels(&self, mut found: Vec<Channel>) -> Result<(), Difference> {
        let mut expected = self.channels.clone();
        expected.sort_by(|a, b| a.topic.cmp(&b.topic));
        found.sort_by(|a, b| a.topic.cmp(&b.topic));
        let topics = |channels: &[Channel]| channels.iter().map(|channel| channel.topic.clone()).collect::<Vec<_>>();
        same("topics", &topics(&expected), &topics(&found))?;
        for (expected, found) in expected.iter().zip(&found) {
            same(format!("schema of {}", expected.topic), &expected.schema, &found.schema)?;
            if expected.metadata.is_some() {
                same(format!("metadata of {}", expected.topic), &expected.metadata, &found.metadata)?;
            }
        }
        Ok(())
    }

    /// An error unless these are the messages.
    pub fn compare(&self, found: &[Message]) -> Result<(), Difference> {
        for (at, (expected, found)) in self.messages.iter().zip(found).enumerate() {
            let what = |what| format!("message {at}, {} {:?}: {what}", expected.topic, expected.sequence);
            same(what("topic"), &expected.topic, &found.topic)?;
            same(what("sequence"), &expected.sequence, &expected.sequence.and(found.sequence))?;
            same(what("log time"), &expected.log_time, &found.log_time)?;
            same(what("publish time"), &expected.publish_time, &expected.publish_time.and(found.publish_time))?;
            same(what("data"), &hex(&expected.data), &hex(&found.data))?;
        }
        same("number of messages", &self.messages.len(), &found.len())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Result<Vec<u8>, Failure> {
    let digit = |digit: u8| char::from(digit).to_digit(16).ok_or("no hexadecimal digit");
    hex.as_bytes().chunks(2).map(|pair| Ok((digit(pair[0])? << 4 | digit(*pair.get(1).unwrap_or(&0))?) as u8)).collect()
}
