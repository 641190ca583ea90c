//! `conduit pub`: publishes from the command line.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use conduit::msgs;
use conduit::topic::decode::Format;
use conduit::topic::{
    Geometry, MAX_READERS, Overflow, PublisherOptions, Schema, SlotKind, Timestamps, TopicInfo, inspect,
};
use conduit::{Error, Publisher};
use serde_json::{Value, json};

use crate::events::{Events, something_was_done};
use crate::lines::{Lines, Next};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{note, print_json};
use crate::{Context, completions, describe, units};

/// Publish messages
///
/// Text is published as the bytes it is. With a message type, or on a topic that has one, it is JSON:
/// `conduit pub imu --type imu '{"angular_velocity": {"z": 0.1}}'`.
#[derive(clap::Args)]
pub struct Args {
    /// The topic
    #[arg(add = completions::topics())]
    topic: String,
    /// The message; `-` publishes each line of standard input
    data: Option<String>,
    /// bytes, hex, json, cbor (told as JSON), or a message type such as imu, pose, odometry [default: the topic's]
    #[arg(short = 't', long = "type", value_name = "TYPE", add = clap_complete::engine::ArgValueCandidates::new(type_candidates))]
    kind: Option<String>,
    /// Publish so many a second: the message again and again, or the lines one by one
    #[arg(short, long, value_name = "HZ", value_parser = units::rate)]
    rate: Option<f64>,
    /// Stop after so many messages [default: 1, or all lines, or no end with --rate]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Longest message of a new topic [default: 4096, or what the first message needs]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    max_len: Option<usize>,
    /// Messages that a new topic holds [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    depth: Option<u32>,
    /// What a new topic does with messages that a subscriber has not received when their slot is needed
    /// [default: overwrite]
    #[arg(long, value_enum, value_name = "MODE")]
    overflow: Option<OverflowArg>,
    /// Most subscribers of a new topic, up to 64 [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_READERS.into()))]
    subscribers: Option<u32>,
    /// Have subscribers that join later begin with the last message, as is fit for a map or a state
    #[arg(long)]
    latched: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum OverflowArg {
    /// Overwrites them; the subscriber learns how many it lost
    Overwrite,
    /// Has the publisher wait for the subscriber
    Block,
    /// Refuses the publisher's message
    Reject,
}

impl From<OverflowArg> for Overflow {
    fn from(mode: OverflowArg) -> Self {
        match mode {
            OverflowArg::Overwrite => Overflow::Overwrite,
            OverflowArg::Block => Overflow::Block,
            OverflowArg::Reject => Overflow::Reject,
        }
    }
}

impl Args {
    /// Whether the topic is to be of a certain shape, whatever shape it has.
    fn asks_for_a_shape(&self) -> bool {
        self.max_len.is_some()
            || self.depth.is_some()
            || self.overflow.is_some()
            || self.subscribers.is_some()
            || self.latched
    }

    /// Why text is not taken as text, where nobody asked for anything else.
    fn explain(&self, failure: Failure, kind: &Kind) -> Failure {
        match failure {
            Failure::Usage(reason) if self.kind.is_none() => {
                let name = describe::type_name(&kind.schema());
                let topic = &self.topic;
                Failure::Usage(format!(
                    "{reason} (topic {topic} carries {name}: write it as JSON, or say --type bytes)"
                ))
            }
            failure => failure,
        }
    }
}

fn type_candidates() -> Vec<clap_complete::CompletionCandidate> {
    let others = ["bytes", "hex", "json", "cbor"].into_iter().map(String::from);
    others.chain(known_types().into_iter().map(|(name, _)| name)).map(clap_complete::CompletionCandidate::new).collect()
}

/// What the text of a message is.
enum Kind {
    Bytes,
    Hex,
    Json(Schema),
    /// Told as JSON.
    Cbor(Schema),
    Plain(Box<Format>, Schema),
}

/// The message types that come with the crate, by their short names.
fn known_types() -> Vec<(String, Schema)> {
    msgs::schemas()
        .into_iter()
        .map(|schema| (schema.name.rsplit('/').next().unwrap_or_default().to_lowercase(), schema))
        .collect()
}

impl Kind {
    /// What is asked for, or what the topic has.
    fn new(asked: Option<&str>, there: Option<&Schema>) -> Result<Self> {
        let Some(asked) = asked else {
            return match there {
                Some(schema) if schema.message_encoding == "json" => Ok(Kind::Json(schema.clone())),
                Some(schema) if schema.message_encoding == "cbor" => Ok(Kind::Cbor(schema.clone())),
                Some(schema) if schema.message_encoding == "cdr" => {
                    Self::plain(schema).map_err(|failure| match failure {
                        Failure::Usage(reason) => Failure::Usage(format!("{reason} (--type bytes publishes bytes)")),
                        failure => failure,
                    })
                }
                _ => Ok(Kind::Bytes),
            };
        };
        match asked {
            "bytes" => return Ok(Kind::Bytes),
            "hex" => return Ok(Kind::Hex),
            "json" => return Ok(Kind::Json(Schema { message_encoding: "json".into(), ..Schema::opaque() })),
            "cbor" => return Ok(Kind::Cbor(Schema { message_encoding: "cbor".into(), ..Schema::opaque() })),
            _ => {}
        }
        if let Some(schema) = there.filter(|schema| schema.name == asked) {
            return Self::plain(schema);
        }
        let known = known_types();
        let is_meant = |(name, schema): &&(String, Schema)| name.eq_ignore_ascii_case(asked) || schema.name == asked;
        match known.iter().find(is_meant) {
            Some((_, schema)) => Self::plain(schema),
            None => {
                let names: Vec<_> = known.iter().map(|(name, _)| name.as_str()).collect();
                Err(Failure::Usage(format!(
                    "no type `{asked}` is known: bytes, hex, json, cbor, {} are",
                    names.join(", ")
                )))
            }
        }
    }

    fn plain(schema: &Schema) -> Result<Self> {
        Ok(Kind::Plain(Box::new(Format::of(schema)?), schema.clone()))
    }

    fn schema(&self) -> Schema {
        match self {
            Kind::Bytes | Kind::Hex => Schema::opaque(),
            Kind::Json(schema) | Kind::Cbor(schema) | Kind::Plain(_, schema) => schema.clone(),
        }
    }

    fn encode(&self, text: &[u8]) -> Result<Vec<u8>> {
        let as_json = || -> Result<Value> {
            let value = serde_json::from_slice(text);
            value.map_err(|error| Failure::Usage(format!("the message is no JSON: {error}")))
        };
        let as_text = || std::str::from_utf8(text).map_err(|_| Failure::Usage("the message is no UTF-8 text".into()));
        match self {
            Kind::Bytes => Ok(text.to_vec()),
            Kind::Hex => hex(as_text()?),
            Kind::Plain(format, _) => Ok(format.encode(as_text()?)?),
            Kind::Json(_) => Ok(as_json()?.to_string().into_bytes()),
            Kind::Cbor(_) => {
                let mut bytes = Vec::new();
                let written = ciborium::into_writer(&as_json()?, &mut bytes);
                written.map_err(|error| Failure::Failed(format!("cannot write the message as CBOR: {error}")))?;
                Ok(bytes)
            }
        }
    }
}

pub fn hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let is_hex = digits.len() % 2 == 0 && digits.iter().all(u8::is_ascii_hexdigit);
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    bytes.filter(|_| is_hex).ok_or_else(|| Failure::Usage(format!("`{text}` is no sequence of pairs of hex digits")))
}

/// How long it may take to end after an interruption. A wait for room ends within 100 ms of it.
const GRACE: Duration = Duration::from_secs(5);

pub fn run(args: &Args, context: &Context) -> Result {
    let there = match inspect(Some(&context.domain), &args.topic) {
        Ok(info) => Some(info),
        // Garbage under the topic's name does not stop a publisher.
        Err(Error::NotFound { .. } | Error::Corrupt { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let kind = Kind::new(args.kind.as_deref(), there.as_ref().map(|info| &info.schema))?;
    let mut events = Events::with_grace(GRACE)?.without_output();
    let Some(mut source) = Source::new(args.data.as_deref())? else {
        return Err(Failure::Usage("what is to be published? Give DATA, or - for lines of standard input".into()));
    };
    let limit = match (&source, args.rate) {
        (Source::Text(_), None) => args.count.or(Some(1)),
        _ => args.count,
    };
    let interval = args.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
    let (mut published, mut last) = (0, None);
    let mut line = 0;
    let mut due = Instant::now();
    // Opened for the first message, whose length may be the topic's.
    let mut publisher: Option<Publisher<[u8]>> = None;
    let outcome = loop {
        if limit.is_some_and(|limit| published >= limit) {
            break Outcome::Done;
        }
        let text = match source.next(&mut events)? {
            Next::Text(text) => text,
            Next::End => break Outcome::Done,
            Next::Interrupted => break interrupted(published),
        };
        line += 1;
        let bytes = kind.encode(&text).map_err(|failure| source.at_line(line, args.explain(failure, &kind)))?;
        let publisher = match &mut publisher {
            Some(publisher) => publisher,
            none => {
                let mut opened = open(args, context, &kind, there.as_ref(), bytes.len())?;
                opened.stop_waiting_when(events.interruption());
                none.insert(opened)
            }
        };
        if let Some(interval) = interval {
            while Instant::now() < due && !events.is_interrupted() {
                events.wait(&[], Some(due))?;
            }
            due += interval;
        }
        if events.is_interrupted() {
            break interrupted(published);
        }
        match send(publisher, &bytes) {
            Ok(sequence) => (published, last) = (published + 1, Some(sequence)),
            Err(Error::Stopped { .. }) => break interrupted(published),
            Err(error) => return Err(source.at_line(line, misfit(error))),
        }
        something_was_done();
    };
    drop(publisher);
    let topic = &args.topic;
    if context.json {
        print_json(&json!({ "topic": topic, "published": published, "last_sequence": last }))?;
    } else if outcome != Outcome::Interrupted {
        let messages = units::several(published, "message", "messages");
        note(format_args!("published {messages} to {topic}{}", context.in_domain()));
    }
    Ok(outcome)
}

fn interrupted(published: u64) -> Outcome {
    if published > 0 { Outcome::Done } else { Outcome::Interrupted }
}

/// Opens the topic as it is, if it is there and the message fits, so that its subscribers stay.
fn open(args: &Args, context: &Context, kind: &Kind, there: Option<&TopicInfo>, len: usize) -> Result<Publisher<[u8]>> {
    let schema = kind.schema();
    let replaced = there.map(|info| &info.schema).filter(|replaced| **replaced != schema);
    let options = Publisher::<[u8]>::options().domain(&context.domain);
    let before = there.map(|info| &info.geometry);
    let fits = |geometry: &&Geometry| match geometry.slots {
        SlotKind::Words => geometry.max_len == len as u64,
        SlotKind::Frames => geometry.max_len >= len as u64,
    };
    let options = match before.filter(|_| !args.asks_for_a_shape()).filter(fits) {
        Some(geometry) => like(options, geometry),
        None => {
            // What is not asked for stays as it was.
            let overflow = args.overflow.map(Into::into).or(before.map(|geometry| geometry.overflow));
            let options = options
                .timestamps(before.map_or(Timestamps::Clock, |geometry| geometry.timestamps))
                .depth(args.depth.or(before.map(|geometry| geometry.depth)).unwrap_or(16))
                .overflow(overflow.unwrap_or_default())
                .subscribers(args.subscribers.or(before.map(|geometry| geometry.subscribers)).unwrap_or(16))
                .latched(args.latched || before.is_some_and(|geometry| geometry.latched));
            match kind {
                Kind::Plain(format, _) if format.size() <= 256 => options.slots(SlotKind::Words).max_len(format.size()),
                Kind::Plain(format, _) => options.max_len(format.size()),
                _ => options.max_len(args.max_len.unwrap_or(len.next_power_of_two().max(4096))),
            }
        }
    };
    let publisher = options.schema(schema).open(&args.topic)?;
    if let Some(replaced) = replaced {
        let (before, now) = (describe::type_name(replaced), describe::type_name(publisher.schema()));
        let another = if before == now { "another " } else { "" };
        let place = context.in_domain();
        note(format_args!(
            "{}{place} carried {before} and now carries {another}{now}: what it held is gone",
            args.topic
        ));
    }
    if replaced.is_none() && before.is_some_and(|before| before != publisher.geometry()) {
        note(format_args!("{}{} was made anew: what it held is gone", args.topic, context.in_domain()));
    }
    Ok(publisher)
}

fn like(options: PublisherOptions<[u8]>, geometry: &Geometry) -> PublisherOptions<[u8]> {
    options
        .slots(geometry.slots)
        .overflow(geometry.overflow)
        .timestamps(geometry.timestamps)
        .depth(geometry.depth)
        .max_len(geometry.max_len as usize)
        .subscribers(geometry.subscribers)
        .samples((geometry.samples / geometry.subscribers).max(1))
        .latched(geometry.latched)
}

/// Publishes as the topic says: one with `Overflow::Block` waits for its subscribers until an interruption.
fn send(publisher: &mut Publisher<[u8]>, bytes: &[u8]) -> std::result::Result<u64, Error> {
    match publisher.geometry().timestamps {
        Timestamps::Given => publisher.publish_at(bytes, crate::hz::monotonic_now()),
        _ => publisher.publish(bytes),
    }
}

fn misfit(error: Error) -> Failure {
    match error {
        Error::TooLong { .. } | Error::WrongLength { .. } => Failure::Failed(format!("{error} (--max-len)")),
        error => error.into(),
    }
}

/// Where messages come from.
enum Source {
    Text(Vec<u8>),
    Lines(Lines),
}

impl Source {
    fn new(data: Option<&str>) -> Result<Option<Self>> {
        Ok(match data {
            Some("-") => {
                if std::io::stdin().is_terminal() {
                    note(format_args!("publishing each line; end with Ctrl-D"));
                }
                Some(Source::Lines(Lines::default()))
            }
            Some(text) => Some(Source::Text(text.into())),
            None => None,
        })
    }

    /// Says at which line something went wrong, if there are lines.
    fn at_line(&self, line: u64, failure: Failure) -> Failure {
        match (failure, self) {
            (Failure::Usage(reason), Source::Lines(_)) => Failure::Usage(format!("line {line}: {reason}")),
            (Failure::Failed(reason), Source::Lines(_)) => Failure::Failed(format!("line {line}: {reason}")),
            (failure, _) => failure,
        }
    }

    fn next(&mut self, events: &mut Events) -> Result<Next> {
        match self {
            Source::Text(text) => {
                Ok(if events.is_interrupted() { Next::Interrupted } else { Next::Text(text.clone()) })
            }
            Source::Lines(lines) => lines.next(events),
        }
    }
}
