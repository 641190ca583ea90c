//! Files that Conduit writes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conduit::engine::{DurableLog, Event, Origin};
use conduit::frame::{Encoding, Priority};
use conduit::msgs::Imu;
use conduit::tank::{
    Compression, EventLog, EventSync, Query, Recorder, RecorderOptions, Recording, Report, SyncPolicy, Writer, recover,
};
use conduit::topic::{self, Overflow, PublisherOptions, Schema, Timestamps};
use conduit::{Publisher, Subscriber};

use crate::Failure;
use crate::messages::{self, Field, Kinds};
use crate::truth::{Channel, Message, Truth};

/// How many messages of each topic there are in a file, or in each of two.
const EACH: u64 = 400;
/// The one that is another one where something is to be wrong.
const ALTERED: u64 = 5;
/// So small that a file has many.
const CHUNK: usize = 16 << 10;
/// Longest time that anything may take. Nobody waits that long.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub fn all(directory: &Path, is_altered: bool) -> Result<(), Failure> {
    let kinds = [("none", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd { level: 1 })];
    for (name, compression) in kinds {
        let mut stage = Stage::new(name, is_altered)?;
        let path = directory.join(name).with_extension("mcap");
        let recorder = stage.recorder().compression(compression).start(&path)?;
        stage.publish(0..EACH)?;
        sound(recorder.stop())?;
        stage.truth.write(&path)?;
    }
    split(directory, is_altered)?;
    killed(directory, is_altered)?;
    written(directory, is_altered)?;
    events(directory, is_altered)
}

/// In two files, the second of which begins with what the latched topic said last.
fn split(directory: &Path, is_altered: bool) -> Result<(), Failure> {
    let mut stage = Stage::new("split", is_altered)?;
    let recorder = stage.recorder().split_time(Duration::from_secs(3600)).start(directory.join("split.mcap"))?;
    stage.publish(0..EACH)?;
    let first = std::mem::take(&mut stage.truth.messages);
    eventually("all is taken", || recorder.progress().messages == first.len() as u64)?;
    recorder.split();
    eventually("there is another file", || recorder.progress().files == 2)?;
    stage.truth.messages.extend(first.iter().rfind(|message| message.topic == "json").cloned());
    stage.publish(EACH..2 * EACH)?;
    let files = sound(recorder.stop())?;
    let [one, other] = &files[..] else { return Err(format!("two files, not {files:?}").into()) };
    // It is recorded when the file begins: when exactly is for the recorder to say, but not before it was published, nor after
    // what came behind it.
    let behind = stage.truth.messages.iter().filter(|message| message.topic == "json").nth(1).map(|next| next.log_time);
    if let Some(repeated) = stage.truth.messages.first_mut() {
        let recording = Recording::open(other)?;
        let mut messages = recording.messages(Query::new())?;
        let said = loop {
            let message = messages.next()?.ok_or("the latched topic's last message is not repeated")?;
            if message.topic.name == "json" {
                break message.log_time;
            }
        };
        if said < repeated.log_time || behind.is_some_and(|behind| said > behind) {
            return Err(
                format!("it is repeated at {said}, which is not between {} and {behind:?}", repeated.log_time).into()
            );
        }
        repeated.log_time = said;
    }
    stage.truth.messages.sort_by_key(|message| message.log_time);
    stage.truth.write(other)?;
    stage.truth.messages = first;
    stage.truth.write(one)
}

/// By a process that is killed, and then recovered: how much was in the file by then, recovery says. What was in the file
/// before is there in any case.
fn killed(directory: &Path, is_altered: bool) -> Result<(), Failure> {
    let mut stage = Stage::new("killed", is_altered)?;
    let path = directory.join("killed.mcap");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("record-until-killed").arg(&path).arg(&stage.domain.0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("it was asked for")?).read_line(&mut line)?;
    if line.trim() != "records" {
        return Err(format!("the recorder that is to be killed says {line:?}").into());
    }
    stage.publish(0..EACH)?;
    let safe = stage.truth.messages.len() as u64;
    let in_file = || Recording::open(&path).map_or(0, |recording| recording.message_count());
    eventually("all is in the file", || in_file() == safe)?;
    stage.publish(EACH..2 * EACH)?;
    child.kill()?;
    child.wait()?;
    let recovered = recover(&path)?;
    if recovered.was_complete || recovered.topics.values().any(|counts| counts.recorded < EACH) {
        return Err(format!("killed, and then {recovered:?}").into());
    }
    let mut left = recovered.topics;
    stage.truth.messages.retain(|message| {
        let is_there = left.get_mut(&message.topic).filter(|counts| counts.recorded > 0);
        is_there.map(|counts| counts.recorded -= 1).is_some()
    });
    stage.truth.write(&path)
}

pub fn until_killed(path: &Path, domain: &str) -> Result<(), Failure> {
    let options = options(domain).compression(Compression::Lz4).chunk_time(Duration::from_millis(20));
    let _recorder = options.start(path)?;
    println!("records");
    // Ends with whoever started it, if not before.
    Ok(std::io::stdin().read_to_end(&mut Vec::new()).map(drop)?)
}

/// Of messages that were in no topic, out of order by fours.
fn written(directory: &Path, is_altered: bool) -> Result<(), Failure> {
    let stage = Stage::new("written", is_altered)?;
    let path = directory.join("writer.mcap");
    let options = Writer::options().compression(Compression::Zstd { level: 1 }).chunk_bytes(CHUNK).profile("ros2");
    let mut writer = options.create(&path)?;
    let json = Schema {
        message_encoding: "json".into(),
        schema_encoding: "jsonschema".into(),
        name: "Note".into(),
        data: br#"{"type":"object"}"#.into(),
    };
    let topics = [("imu", stage.imu.schema().clone()), ("kinds", stage.kinds.schema().clone()), ("json", json)];
    let mut truth = Truth::default();
    let mut ids = Vec::new();
    for (topic, schema) in topics {
        ids.push(writer.add_topic(topic, &schema, &[("source", "written"), ("empty", "")])?);
        let metadata = [("source", "written"), ("empty", "")].map(|(key, value)| (key.into(), value.into()));
        truth.channels.push(Channel { topic: topic.into(), schema, metadata: Some(metadata.into()) });
    }
    for number in 0..EACH {
        let (imu, kinds) = (messages::imu(number), messages::kinds(number));
        let contents = [
            (messages::cdr(&imu), message_of("imu", &altered_imu(imu, number, is_altered))),
            (messages::cdr(&kinds), message_of("kinds", &kinds)),
            (
                messages::json(number),
                Message { topic: "json".into(), data: messages::json(number), ..Message::default() },
            ),
        ];
        for (at, (data, said)) in contents.into_iter().enumerate() {
            let log_time = 1_700_000_000_000_000_000 + (number ^ 3) * 1_000_000 + at as u64;
            let sequence = u32::MAX - number as u32;
            writer.write(ids[at], sequence, log_time, &data)?;
            truth.messages.push(Message { sequence: Some(sequence), log_time, publish_time: Some(log_time), ..said });
        }
    }
    writer.finish()?;
    truth.messages.sort_by_key(|message| message.log_time);
    truth.write(&path)
}

/// Events in the order of their numbers, made before they were received.
fn events(directory: &Path, is_altered: bool) -> Result<(), Failure> {
    let (beside, path) = (directory.join("events"), directory.join("events.mcap"));
    let mut log = EventLog::options().sync(EventSync::None).open(&beside)?;
    let mut truth = Truth::default();
    for (topic, encoding) in [("json", "json"), ("bytes", "")] {
        let said = if encoding.is_empty() { "raw" } else { encoding };
        let metadata = [
            ("conduit.producer", "73656e736f7220312c20626f6f742039"),
            ("conduit.sequence_high", "3"),
            ("conduit.priority", "high"),
            ("conduit.encoding", said),
        ];
        let metadata = metadata.map(|(key, value)| (key.into(), value.into()));
        let schema = Schema { message_encoding: encoding.into(), ..Schema::default() };
        truth.channels.push(Channel { topic: topic.into(), schema, metadata: Some(metadata.into()) });
    }
    for number in 0..EACH {
        let contents =
            [("json", Encoding::Json, messages::json(number)), ("bytes", Encoding::Raw, messages::bytes(number))];
        for (topic, encoding, data) in contents {
            let received = 1_700_000_000_000_000_000 + truth.messages.len() as u64 * 1000;
            let event = Event {
                topic,
                payload: &data,
                priority: Priority::High,
                encoding,
                producer: *b"sensor 1, boot 9",
                sequence: (3 << 32) + number,
                timestamp: received - 500,
                received,
                origin: Origin::Local,
            };
            log.append(&event).map_err(|error| -> Failure { error })?;
            let mut data = data;
            if is_altered && number == ALTERED {
                data.iter_mut().for_each(|byte| *byte ^= 1);
            }
            let (sequence, publish_time) = (Some(number as u32), Some(received - 500));
            let topic = topic.into();
            truth.messages.push(Message { topic, sequence, log_time: received, publish_time, data, fields: None });
        }
        if number % 16 == 0 {
            log.commit().map_err(|error| -> Failure { error })?;
        }
    }
    log.finish()?;
    let files = EventLog::files(&beside)?;
    let [file] = &files[..] else { return Err(format!("one file, not {files:?}").into()) };
    std::fs::rename(file, &path)?;
    std::fs::remove_dir_all(&beside)?;
    truth.write(&path)
}

/// A domain that nobody else uses. Its topics go with it, if nobody has them any more.
pub struct Domain(pub String);

impl Domain {
    pub fn new(name: &str) -> Self {
        Domain(format!("interop-{}-{name}", std::process::id()))
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // What is left, `conduit clean` finds.
        let _ = topic::clean(Some(&self.0), false);
    }
}

/// Topics, and what was published on them.
struct Stage {
    imu: Publisher<Imu>,
    kinds: Publisher<Kinds>,
    bytes: Publisher<[u8]>,
    json: Publisher<[u8]>,
    /// What makes a publisher's times those since 1970, topic by topic.
    offsets: [i128; 4],
    is_altered: bool,
    truth: Truth,
    domain: Domain,
}

impl Stage {
    fn new(name: &str, is_altered: bool) -> Result<Self, Failure> {
        let domain = Domain::new(name);
        let json = Schema { message_encoding: "json".into(), ..Schema::default() };
        let bytes = Publisher::<[u8]>::options().max_len(512);
        let imu = lossless(Publisher::<Imu>::options(), &domain.0).open("imu")?;
        let kinds = lossless(Publisher::<Kinds>::options(), &domain.0).open("kinds")?;
        let json = lossless(bytes.clone(), &domain.0).schema(json).latched(true).open("json")?;
        let bytes = lossless(bytes, &domain.0).open("bytes")?;
        let mut truth = Truth::default();
        let mut offsets = [0; 4];
        let schemas =
            [("imu", imu.schema()), ("kinds", kinds.schema()), ("bytes", bytes.schema()), ("json", json.schema())];
        for ((topic, schema), offset) in schemas.into_iter().zip(&mut offsets) {
            truth.channels.push(Channel { topic: topic.into(), schema: schema.clone(), metadata: None });
            let subscriber = Subscriber::<[u8]>::options().domain(&domain.0).open(topic)?;
            *offset = subscriber.clock_offset().ok_or("a publisher that takes times says what they are")?;
        }
        Ok(Stage { imu, kinds, bytes, json, offsets, is_altered, truth, domain })
    }

    fn recorder(&self) -> RecorderOptions {
        options(&self.domain.0)
    }

    /// Publishes these messages on each topic, and notes what they are.
    fn publish(&mut self, numbers: std::ops::Range<u64>) -> Result<(), Failure> {
        for number in numbers {
            let time = |at: u64| number * 1_000_000 + at * 1000;
            let (imu, kinds) = (messages::imu(number), messages::kinds(number));
            let (bytes, json) = (messages::bytes(number), messages::json(number));
            let sequences = [
                self.imu.publish_at(&imu, time(0))?,
                self.kinds.publish_at(&kinds, time(1))?,
                self.bytes.publish_at(&bytes, time(2))?,
                self.json.publish_at(&json, time(3))?,
            ];
            let said = [
                message_of("imu", &altered_imu(imu, number, self.is_altered)),
                message_of("kinds", &kinds),
                Message { topic: "bytes".into(), data: bytes, ..Message::default() },
                Message { topic: "json".into(), data: json, ..Message::default() },
            ];
            for (at, said) in said.into_iter().enumerate() {
                let log_time = u64::try_from(i128::from(time(at as u64)) + self.offsets[at])?;
                let sequence = Some(sequences[at] as u32);
                self.truth.messages.push(Message { sequence, log_time, publish_time: Some(log_time), ..said });
            }
        }
        Ok(())
    }
}

fn lossless<T: topic::Payload + ?Sized>(options: PublisherOptions<T>, domain: &str) -> PublisherOptions<T> {
    options.domain(domain).depth(64).overflow(Overflow::Block).timestamps(Timestamps::Given)
}

fn options(domain: &str) -> RecorderOptions {
    Recorder::options().domain(domain).sync(SyncPolicy::None).chunk_bytes(CHUNK)
}

/// What there is to say of a message, but for its number and its time.
fn message_of(topic: &str, message: &impl Field) -> Message {
    let fields = Some(message.value());
    Message { topic: topic.into(), data: messages::cdr(message), fields, ..Message::default() }
}

/// What is said to have been published: another message, where something is to be wrong.
fn altered_imu(mut imu: Imu, number: u64, is_altered: bool) -> Imu {
    if is_altered && number == ALTERED {
        let x = &mut imu.angular_velocity.x;
        *x = f64::from_bits(x.to_bits() ^ 1);
    }
    imu
}

/// The files of a recording that lost nothing.
fn sound(report: Report) -> Result<Vec<PathBuf>, Failure> {
    let lost = report.total().lost;
    if lost == 0 && report.fault.is_none() && report.failed.is_empty() {
        Ok(report.files)
    } else {
        Err(format!("not all was recorded: {report:?}").into())
    }
}

/// Looks until something has happened that nothing else tells of.
fn eventually(what: &str, mut has_happened: impl FnMut() -> bool) -> Result<(), Failure> {
    let begin = Instant::now();
    while !has_happened() {
        if begin.elapsed() > PATIENCE {
            return Err(format!("never: {what}").into());
        }
        std::thread::yield_now();
    }
    Ok(())
}
