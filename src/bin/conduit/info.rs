//! `conduit info`: everything about a topic.

use std::time::SystemTime;

use conduit::Error;
use conduit::topic::{Overflow, SlotKind, TopicInfo, WriterState, inspect};
use serde_json::Value;

use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, Table, harmless, harmless_lines};
use crate::patterns::{self, Pattern, not_found};
use crate::{Context, completions, describe, units};

/// Show everything about a topic
#[derive(clap::Args)]
pub struct Args {
    /// The topic, or a pattern
    #[arg(add = completions::topics())]
    topic: String,
    /// Show how its messages are to be read, too
    #[arg(long)]
    schema: bool,
}

pub fn run(args: &Args, context: &Context) -> Result {
    let pattern = Pattern::new(&args.topic);
    let topics = patterns::expand(&pattern, &context.domain)?;
    if topics.is_empty() {
        return Err(Failure::Failed(format!("no topic matches {}{}", args.topic, context.in_domain())));
    }
    let mut out = Out::new();
    for (at, topic) in topics.iter().enumerate() {
        let info = match inspect(Some(&context.domain), topic) {
            Ok(info) => info,
            Err(Error::NotFound { .. }) if matches!(pattern, Pattern::Glob(_)) => continue,
            Err(Error::NotFound { .. }) => return Err(Failure::Failed(not_found(&context.domain, topic))),
            Err(error) => return Err(error.into()),
        };
        if context.json {
            out.json(&json(&info, args.schema))?;
        } else {
            if at > 0 {
                out.line("")?;
            }
            print(&info, args.schema, &mut out)?;
        }
    }
    out.flush()?;
    Ok(Outcome::Done)
}

fn json(info: &TopicInfo, schema: bool) -> Value {
    let mut json = describe::json(info);
    if schema {
        json["type"]["schema"] = match std::str::from_utf8(&info.schema.data) {
            Ok(text) => text.into(),
            Err(_) => info.schema.data.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        };
    }
    json
}

fn print(info: &TopicInfo, schema: bool, out: &mut Out) -> Result<()> {
    let geometry = &info.geometry;
    let mut line = |name: &str, value: String| {
        let name = out.style.dim(format!("{name:12}"));
        out.line(format_args!("{name}  {value}"))
    };
    line("topic", info.topic.clone())?;
    if !info.domain.is_empty() {
        line("domain", info.domain.clone())?;
    }
    line("file", format!("{}, {}", info.path.display(), units::memory(info.bytes)))?;
    line("type", kind(info))?;
    let length = match geometry.slots {
        SlotKind::Words => format!("words: messages of {} B, copied out", geometry.max_len),
        SlotKind::Frames => format!("frames: messages of up to {} B, read in place", geometry.max_len),
    };
    line("slots", length)?;
    line(
        "depth",
        format!("{} messages in {} slots, {}", geometry.depth, geometry.capacity, when_full(geometry.overflow)),
    )?;
    let latched = if geometry.latched { "yes: a new subscriber begins with the last message" } else { "no" };
    line("latched", latched.into())?;
    line("timestamps", describe::timestamps(geometry.timestamps).into())?;
    let age = SystemTime::now().duration_since(info.created).unwrap_or_default();
    let created = units::utc(units::since_1970(info.created));
    line("created", format!("{created}, {} ago", units::time(age.as_nanos() as f64)))?;
    line("publisher", publisher(info))?;
    line("published", units::several(info.published, "message", "messages"))?;
    line("history", format!("{} held", units::several(info.held, "message", "messages")))?;
    line("lost", format!("{} by subscribers", units::several(describe::lost(info), "message", "messages")))?;
    for (number, why) in [(info.rejected, "a subscriber was behind"), (info.all_pinned, "all slots were held")] {
        if number > 0 {
            line("refused", format!("{} because {why}", units::several(number, "message", "messages")))?;
        }
    }
    if info.skips + info.blocked > 0 {
        let (skips, waits) =
            (units::several(info.skips, "slot", "slots"), units::several(info.blocked, "time", "times"));
        line("held up", format!("stepped over {skips}, waited {waits}"))?;
    }
    line("subscribers", format!("{} of {}", info.subscribers.len(), geometry.subscribers))?;
    if !info.subscribers.is_empty() {
        let mut table = Table::new(&["  PLACE", "PROCESS", "LAG", "LOST", "SAMPLES", "JOINED"]);
        for subscriber in &info.subscribers {
            table.row(vec![
                format!("  {}", subscriber.place),
                describe::process(subscriber.pid, info),
                units::count(subscriber.lag),
                units::count(subscriber.lost),
                subscriber.samples.to_string(),
                units::utc(units::since_1970(subscriber.joined)),
            ]);
        }
        table.print(out)?;
    }
    if schema {
        let text =
            match (info.schema.is_opaque(), info.schema.schema_encoding.is_empty() && info.schema.data.is_empty()) {
                (true, _) => "(opaque bytes)".into(),
                (false, true) => format!("(any {}: there is no schema)", harmless(&info.schema.message_encoding)),
                (false, false) => harmless_lines(&info.schema.to_string()),
            };
        out.line("")?;
        out.line(text)?;
    }
    Ok(())
}

fn kind(info: &TopicInfo) -> String {
    let schema = &info.schema;
    if schema.is_opaque() {
        return "opaque bytes".into();
    }
    let how = match schema.schema_encoding.as_str() {
        "" => harmless(&schema.message_encoding),
        encoding => harmless(&format!("{}, schema in {encoding}", schema.message_encoding)),
    };
    format!("{} ({how}, {:016x})", describe::type_name(schema), schema.hash())
}

fn when_full(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Overwrite => "the oldest is overwritten",
        Overflow::Block => "lossless: the publisher waits",
        Overflow::Reject => "lossless: the publisher is refused",
    }
}

fn publisher(info: &TopicInfo) -> String {
    let process = describe::process(info.writer_pid, info);
    let nth = if info.epoch > 1 { format!(", number {} of this topic", info.epoch) } else { String::new() };
    match info.writer {
        WriterState::Alive => format!("process {process}{nth}"),
        WriterState::Closed => format!("none: process {} closed the topic{nth}", info.writer_pid),
        WriterState::Gone => format!("none: process {} died{nth}", info.writer_pid),
    }
}
