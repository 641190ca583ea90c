//! `conduit tank`: what is in recordings, whether they are sound, and an end for those that have none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use conduit::tank::{Checked, Counts, Query, Recording, Recovered, Topic, check, recover};
use conduit::topic::Pattern;
use serde_json::{Map, Value, json};

use crate::echo::Format;
use crate::echo::decoder::Body;
use crate::echo::fields::Fields;
use crate::echo::printer::{self, Printer};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, Table, harmless, note, print_json};
use crate::{Context, units};

/// Look at recordings, check them, and give those an end whose recorder was killed
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// What is in a recording
    Info {
        /// The recording
        file: PathBuf,
    },
    /// Compare everything that a recording says twice: checksums, indexes, statistics, counts
    Check {
        /// The recordings
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Give a recording an end whose recorder was killed: in place, unless told otherwise
    Recover {
        /// The recording
        file: PathBuf,
        /// Leave the recording as it is, and recover a copy of it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print messages, as a line each or as they are
    Cat {
        /// The recording
        file: PathBuf,
        /// Only these topics, or those that match; several by commas
        #[arg(short, long, value_name = "PATTERN", value_delimiter = ',')]
        topics: Vec<String>,
        /// Begin so long after the first message
        #[arg(long, value_name = "TIME", value_parser = units::duration)]
        start: Option<std::time::Duration>,
        /// End so long after the first message
        #[arg(long, value_name = "TIME", value_parser = units::duration)]
        end: Option<std::time::Duration>,
        /// Only this field, such as `pose.x` or `joints[2]`; may be given several times
        #[arg(short, long = "field", value_name = "PATH")]
        fields: Vec<String>,
        /// How to show messages
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
}

pub fn run(args: &Args, context: &Context) -> Result {
    match &args.command {
        Command::Info { file } => info(file, context),
        Command::Check { files } => match &files[..] {
            [file] => tell_check(&check(file)?, file, context),
            several => check_several(several, context),
        },
        Command::Recover { file, output } => {
            if let Some(copy) = output {
                copy_new(file, copy)?;
                let recovered = recover(copy).inspect_err(|_| _ = std::fs::remove_file(copy))?;
                return tell_recovery(&recovered, copy, context);
            }
            tell_recovery(&recover(file)?, file, context)
        }
        Command::Cat { file, topics, start, end, fields, format } => {
            let recording = open(file)?;
            let (first, _) = recording.times().unwrap_or((0, 0));
            let after =
                |time: &std::time::Duration| first.saturating_add(time.as_nanos().try_into().unwrap_or(u64::MAX));
            let wanted: Vec<_> = topics.iter().map(|topic| Pattern::new(topic)).collect();
            if let Some(none) =
                wanted.iter().find(|pattern| !recording.topics().iter().any(|topic| pattern.matches(&topic.name)))
            {
                let none = harmless(none.as_str());
                return Err(Failure::Usage(format!(
                    "nothing was recorded from {none}: `conduit tank info` lists topics"
                )));
            }
            let is_wanted =
                |topic: &&Topic| wanted.is_empty() || wanted.iter().any(|pattern| pattern.matches(&topic.name));
            let mut query = Query::new().topics(recording.topics().iter().filter(is_wanted).map(|topic| topic.id));
            query = query.start(start.as_ref().map_or(0, after));
            if let Some(end) = end {
                query = query.end(after(end));
            }
            let format = if context.json { Format::Json } else { *format };
            cat(&recording, query, fields, format)
        }
    }
}

/// Copies the contents of a file to one that is new: not its permissions, which may forbid to write.
fn copy_new(file: &Path, copy: &Path) -> Result<()> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::Failed(format!("{} exists already: choose another name", copy.display()))
        }
        _ => Failure::Failed(format!("cannot copy {} to {}: {error}", file.display(), copy.display())),
    };
    let mut from = File::open(file).map_err(failed)?;
    let mut to = File::create_new(copy).map_err(failed)?;
    io::copy(&mut from, &mut to).map(drop).map_err(|error| {
        let _ = std::fs::remove_file(copy);
        failed(error)
    })
}

/// How many messages were lost, as far as the file says.
fn known_lost(lost: u64, says_nothing: bool, is_ended: bool) -> String {
    match (says_nothing, is_ended) {
        (true, _) => "not known".into(),
        (false, true) => units::count(lost),
        (false, false) => format!("{} known, and not known behind its last message", units::count(lost)),
    }
}

/// A recording, and what is wrong with it said.
fn open(file: &Path) -> Result<Recording> {
    let recording = Recording::open(file)?;
    for problem in recording.problems() {
        note(format_args!("{}: {problem}", file.display()));
    }
    if !recording.is_complete() {
        note(format_args!("`conduit tank recover {}` gives it an end", file.display()));
    }
    Ok(recording)
}

/// Prints messages as `echo` does.
fn cat(recording: &Recording, query: Query, fields: &[String], format: Format) -> Result {
    let mut decoders = BTreeMap::new();
    let mut printer = Printer::new(format);
    let mut messages = recording.messages(query)?;
    let mut damaged = 0;
    loop {
        let message = match messages.next() {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(error) => {
                note(format_args!("{error}"));
                damaged += 1;
                continue;
            }
        };
        let decoder = match decoders.entry(message.topic.id) {
            Entry::Occupied(decoder) => decoder.into_mut(),
            Entry::Vacant(place) => place.insert(Fields::new(&message.topic.schema, fields, format)?),
        };
        // In memory the messages of topics are CDR without what CDR begins with.
        let is_cdr = message.topic.schema.message_encoding == "cdr";
        let body = if is_cdr { message.data.strip_prefix(&[0, 1, 0, 0]) } else { Some(message.data) };
        let body = body.map_or(Body::Opaque, |bytes| decoder.decode(bytes));
        let shown = printer::Message {
            topic: &message.topic.name,
            sequence: message.sequence.into(),
            timestamp: None,
            time: Some(message.log_time.into()),
            lost: 0,
            bytes: message.data,
            body: &body,
        };
        printer.message(&shown, fields)?;
    }
    printer.flush()?;
    if damaged > 0 || !recording.is_complete() { Ok(Outcome::Degraded) } else { Ok(Outcome::Done) }
}

fn info(file: &Path, context: &Context) -> Result {
    let recording = open(file)?;
    let counts = recording.counts()?;
    let lost = counts.values().fold(0, |lost: u64, counts| lost.saturating_add(counts.lost));
    let (first, last) = recording.times().unwrap_or((0, 0));
    let seconds = last.saturating_sub(first) as f64 / 1e9;
    let (compressed, uncompressed) = recording.chunks().fold((0u64, 0u64), |(compressed, uncompressed), chunk| {
        (compressed.saturating_add(chunk.compressed), uncompressed.saturating_add(chunk.uncompressed))
    });
    let kinds: std::collections::BTreeSet<&str> = recording.chunks().map(|chunk| chunk.compression).collect();
    if context.json {
        let topic = |topic: &Topic| {
            json!({
                "topic": topic.name, "channel": topic.id, "type": topic.schema.name,
                "message_encoding": topic.schema.message_encoding, "messages": topic.messages,
                "metadata": topic.metadata, "lost": counts.get(&topic.name).map(|counts| counts.lost),
            })
        };
        print_json(&json!({
            "file": file, "bytes": recording.len(), "complete": recording.is_complete(), "library": recording.library(),
            "profile": recording.profile(), "start_ns": first, "end_ns": last, "messages": recording.message_count(),
            "chunks": recording.chunks().len(), "compression": kinds, "compressed": compressed,
            "uncompressed": uncompressed, "topics": recording.topics().iter().map(topic).collect::<Vec<_>>(),
            "attachments": recording.attachments().map(|attachment| attachment.name).collect::<Vec<_>>(),
            "lost": lost,
        }))?;
    } else {
        let mut out = Out::new();
        let mut line = |name: &str, value: String| out.line(format_args!("{name:13} {value}"));
        line("file", file.display().to_string())?;
        line("size", units::memory(recording.len()))?;
        line("written by", harmless(recording.library()))?;
        if recording.message_count() > 0 {
            line("begins", units::utc(first.into()))?;
            line("ends", format!("{}, after {}", units::utc(last.into()), units::time(seconds * 1e9)))?;
        }
        line("messages", units::count(recording.message_count()))?;
        let kinds: Vec<_> =
            kinds.iter().map(|kind| if kind.is_empty() { "none" } else { kind }).map(harmless).collect();
        let ratio = if compressed > 0 { uncompressed as f64 / compressed as f64 } else { 1.0 };
        line("chunks", format!("{}, compression {} ({ratio:.2} to 1)", recording.chunks().len(), kinds.join(", ")))?;
        for attachment in recording.attachments() {
            line("attachment", format!("{}, {}", harmless(attachment.name), units::memory(attachment.len)))?;
        }
        let is_ended = recording.is_complete() && !recording.is_recovered();
        line("lost", known_lost(lost, counts.is_empty(), is_ended))?;
        out.line("")?;
        let mut table = Table::new(&["TOPIC", "TYPE", "ENCODING", "MESSAGES", "RATE", "LOST"]);
        for topic in recording.topics() {
            let rate = if seconds > 0.0 { units::hertz(topic.messages as f64 / seconds) } else { "-".into() };
            let or_dash = |text: &str| if text.is_empty() { "-".into() } else { harmless(text) };
            table.row(vec![
                harmless(&topic.name),
                or_dash(&topic.schema.name),
                or_dash(&topic.schema.message_encoding),
                units::count(topic.messages),
                rate,
                counts.get(&topic.name).map_or("-".into(), |counts| units::count(counts.lost)),
            ]);
        }
        table.print(&mut out)?;
        out.flush()?;
    }
    if !recording.is_complete() || lost > 0 { Ok(Outcome::Degraded) } else { Ok(Outcome::Done) }
}

/// Checks each, whatever is wrong with those before it.
fn check_several(files: &[PathBuf], context: &Context) -> Result {
    let (mut outcome, mut wrong) = (Outcome::Done, 0);
    for file in files {
        if !context.json {
            let mut out = Out::new();
            out.line(format_args!("{}", harmless(&file.display().to_string())))?;
            out.flush()?;
        }
        match check(file).map_err(Failure::from).and_then(|checked| tell_check(&checked, file, context)) {
            Ok(Outcome::Done) => {}
            Ok(other) => outcome = other,
            Err(Failure::Failed(reason)) => {
                note(format_args!("{reason}"));
                wrong += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
    if wrong > 0 {
        let all = units::count(files.len() as u64);
        return Err(Failure::Failed(format!("{} of {all} files are not sound", units::count(wrong))));
    }
    Ok(outcome)
}

fn tell_check(checked: &Checked, file: &Path, context: &Context) -> Result {
    if context.json {
        let findings = checked.findings.iter().map(|finding| json!({ "offset": finding.offset, "what": finding.what }));
        print_json(&json!({
            "file": file, "sound": checked.is_sound(), "findings": findings.collect::<Vec<_>>(),
            "more_findings": checked.more_findings, "recovered": checked.is_recovered, "messages": checked.messages, "chunks": checked.chunks, "lost": checked.lost(),
        }))?;
    } else {
        let mut out = Out::new();
        for finding in &checked.findings {
            out.line(format_args!("byte {}: {}", finding.offset, harmless(&finding.what)))?;
        }
        if checked.more_findings > 0 {
            out.line(format_args!("and {} more", units::count(checked.more_findings)))?;
        }
        let messages = units::several(checked.messages, "message", "messages");
        let chunks = units::several(checked.chunks, "chunk", "chunks");
        let lost = known_lost(checked.lost(), checked.counts.is_empty(), !checked.is_recovered);
        out.line(format_args!("{messages} in {chunks}; lost before they got there: {lost}"))?;
        out.flush()?;
    }
    match checked.findings.len() as u64 + checked.more_findings {
        0 if checked.lost() > 0 => Ok(Outcome::Degraded),
        0 => Ok(Outcome::Done),
        some => Err(Failure::Failed(format!(
            "{} is not sound: {}",
            file.display(),
            units::several(some, "finding", "findings")
        ))),
    }
}

fn tell_recovery(recovered: &Recovered, file: &Path, context: &Context) -> Result {
    let lost = recovered.topics.values().fold(0, |lost: u64, counts| lost.saturating_add(counts.lost));
    if context.json {
        print_json(&json!({
            "file": file, "was_complete": recovered.was_complete, "cut": recovered.cut, "damaged": recovered.damaged,
            "messages": recovered.messages(), "lost": lost, "topics": topics(&recovered.topics),
        }))?;
    } else {
        let mut out = Out::new();
        if recovered.was_complete {
            out.line(format_args!("{} is complete, and stays as it is", file.display()))?;
        } else {
            let mut table = Table::new(&["TOPIC", "RECOVERED", "KNOWN TO BE LOST"]);
            for (topic, counts) in &recovered.topics {
                table.row(vec![harmless(topic), units::count(counts.recorded), units::count(counts.lost)]);
            }
            table.print(&mut out)?;
            let messages = units::several(recovered.messages(), "message", "messages");
            out.line(format_args!("{}: {messages}; cut off {}", file.display(), units::memory(recovered.cut)))?;
        }
        out.flush()?;
    }
    if lost > 0 || recovered.damaged > 0 { Ok(Outcome::Degraded) } else { Ok(Outcome::Done) }
}

fn topics(counts: &BTreeMap<String, Counts>) -> Map<String, Value> {
    let topic = |(topic, counts): (&String, &Counts)| {
        (topic.clone(), json!({ "recorded": counts.recorded, "lost": counts.lost }))
    };
    counts.iter().map(topic).collect()
}
