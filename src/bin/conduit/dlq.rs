//! `conduit dlq`: events that could not be processed.

#[cfg(feature = "net")]
mod retry;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use conduit::engine::DeadReason;
use conduit::frame::{Encoding, Priority};
use conduit::tank::{DeadLetterBox, Letter, LetterFilter, LetterId};
use conduit::topic::Pattern;
use serde_json::{Value, json};

use crate::echo::printer::dump;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, Table, harmless, harmless_lines, is_harmful, note, print_json};
use crate::{Context, completions, units};

/// Look at events that could not be processed, send them again, and clear them
///
/// Works while a server adds to them: what that has still in memory is not seen, and not cleared.
#[derive(clap::Args)]
pub struct Args {
    /// Where they are [default: where CONDUIT__DEAD_LETTERS__DIR has the daemon keep them, else
    /// $XDG_STATE_HOME/conduit/dead-letters, or ~/.local/state/conduit/dead-letters]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List them, the newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many of each topic and reason there are
        #[arg(long)]
        summary: bool,
        /// Only the newest so many
        #[arg(short = 'n', long, value_name = "N", conflicts_with = "summary")]
        count: Option<usize>,
    },
    /// Everything about some of them
    Show {
        /// Their names, as `list` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<LetterId>,
    },
    /// Remove them for good
    Clear {
        /// Only these
        #[arg(value_name = "ID")]
        ids: Vec<LetterId>,
        #[command(flatten)]
        filter: Filter,
        /// All that there are
        #[arg(long, conflicts_with_all = ["ids", "topic", "reason", "priority", "since"])]
        all: bool,
    },
    #[cfg(feature = "net")]
    Retry(retry::Args),
    /// Send them to a server again (built without the feature `net`)
    #[cfg(not(feature = "net"))]
    Retry(crate::off::Anything),
}

/// Which ones are meant.
#[derive(clap::Args)]
struct Filter {
    /// Only those for this topic, or for those that match
    #[arg(short, long, value_name = "PATTERN", add = completions::topics())]
    topic: Option<String>,
    /// Only those that are here for this reason
    #[arg(short, long, value_name = "REASON", value_parser = reasons())]
    reason: Option<DeadReason>,
    /// Only those of this priority
    #[arg(short, long, value_name = "PRIORITY", value_parser = priorities())]
    priority: Option<Priority>,
    /// Only those that were received within this time
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    since: Option<Duration>,
}

const PRIORITIES: [(&str, Priority); 5] = [
    ("batch", Priority::Batch),
    ("low", Priority::Low),
    ("medium", Priority::Medium),
    ("high", Priority::High),
    ("critical", Priority::Critical),
];

fn priorities() -> impl TypedValueParser<Value = Priority> {
    let names = PossibleValuesParser::new(PRIORITIES.map(|(name, _)| name));
    names.try_map(|text| {
        PRIORITIES.into_iter().find(|(name, _)| *name == text).map(|(_, priority)| priority).ok_or("no priority")
    })
}

fn reasons() -> impl TypedValueParser<Value = DeadReason> {
    let names = PossibleValuesParser::new(DeadReason::ALL.map(DeadReason::name));
    names.try_map(|text| DeadReason::ALL.into_iter().find(|reason| reason.name() == text).ok_or("no reason"))
}

fn priority_name(priority: Priority) -> &'static str {
    PRIORITIES.into_iter().find(|(_, known)| *known == priority).map_or("?", |(name, _)| name)
}

fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Raw => "raw",
        Encoding::Json => "json",
        Encoding::Cbor => "cbor",
        Encoding::Protobuf => "protobuf",
    }
}

impl Filter {
    fn is_all(&self) -> bool {
        let Filter { topic, reason, priority, since } = self;
        topic.is_none() && reason.is_none() && priority.is_none() && since.is_none()
    }

    fn of(&self) -> LetterFilter {
        let mut filter = LetterFilter::new();
        if let Some(topic) = &self.topic {
            filter = filter.topic(Pattern::new(topic));
        }
        if let Some(reason) = self.reason {
            filter = filter.reason(reason);
        }
        if let Some(priority) = self.priority {
            filter = filter.priority(priority);
        }
        if let Some(since) = self.since {
            let from = units::since_1970(SystemTime::now()).saturating_sub_unsigned(since.as_nanos());
            filter = filter.since(u64::try_from(from).unwrap_or(0));
        }
        filter
    }
}

/// Where dead letters are unless somebody says otherwise; `None` where the environment names no home.
pub fn default_directory() -> Option<PathBuf> {
    if let Some(daemons) = std::env::var_os("CONDUIT__DEAD_LETTERS__DIR").filter(|dir| !dir.is_empty() && dir != "off")
    {
        return Some(daemons.into());
    }
    let of = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state")));
    state.map(|state| state.join("conduit/dead-letters"))
}

pub fn run(args: &Args, context: &Context) -> Result {
    let directory = args.dir.clone().or_else(default_directory);
    let directory = directory.ok_or_else(|| Failure::Usage("neither HOME nor --dir says where to look".into()))?;
    // Nobody has made it if nothing has failed so far.
    let is_missing = args.dir.is_none() && !directory.exists();
    if is_missing {
        let directory = harmless(&directory.display().to_string());
        note(format_args!("there is no {directory}: nothing was kept there; --dir names another directory"));
    }
    let letters = if is_missing { None } else { Some(DeadLetterBox::open(&directory)?) };
    match &args.command {
        Command::List { filter, summary, count } => {
            let (mut found, is_damaged) = find(letters.as_ref(), filter.of())?;
            if *summary {
                tell_summary(&found, context)?;
            } else {
                found.reverse();
                list(&found, count.unwrap_or(usize::MAX), context)?;
            }
            Ok(if is_damaged { Outcome::Degraded } else { Outcome::Done })
        }
        Command::Show { ids } => {
            let (found, _) = find(letters.as_ref(), LetterFilter::new().ids(ids.iter().copied()))?;
            for (at, id) in ids.iter().enumerate() {
                let letter = found.iter().find(|letter| letter.id == *id).ok_or_else(|| no_letter(*id))?;
                show(letter, at > 0, context)?;
            }
            Ok(Outcome::Done)
        }
        Command::Clear { ids, filter, all } => {
            if !all && ids.is_empty() && filter.is_all() {
                return Err(Failure::Usage("say which ones: names, --topic and so on, or --all".into()));
            }
            let mut wanted = filter.of();
            if !ids.is_empty() {
                wanted = wanted.ids(ids.iter().copied());
            }
            let cleared = letters.as_ref().map(|letters| letters.clear(&wanted)).transpose()?.unwrap_or_default();
            if context.json {
                let json = json!({ "cleared": cleared.letters, "files": cleared.files, "bytes": cleared.bytes });
                print_json(&json)?;
            } else {
                let some = units::several(cleared.letters, "letter", "letters");
                let mut out = Out::new();
                out.line(format_args!("cleared {some}; {} are free", units::memory(cleared.bytes)))?;
                out.flush()?;
            }
            Ok(Outcome::Done)
        }
        #[cfg(feature = "net")]
        Command::Retry(args) => retry::run(args, letters.as_ref(), context),
        #[cfg(not(feature = "net"))]
        Command::Retry(_) => crate::off::missing("dlq retry", "net,tank"),
    }
}

fn no_letter(id: LetterId) -> Failure {
    Failure::Failed(format!("there is no letter {id}: `conduit dlq list` names those that there are"))
}

/// The letters that are meant, and whether some could not be read.
fn find(letters: Option<&DeadLetterBox>, filter: LetterFilter) -> Result<(Vec<Letter>, bool)> {
    let (mut found, mut is_damaged) = (Vec::new(), false);
    for letter in letters.map(|letters| letters.letters(filter)).transpose()?.into_iter().flatten() {
        match letter {
            Ok(letter) => found.push(letter),
            Err(error) => {
                note(format_args!("{error}"));
                is_damaged = true;
            }
        }
    }
    Ok((found, is_damaged))
}

/// What a list shows of what a handler said.
const DETAIL: usize = 48;

fn list(letters: &[Letter], count: usize, context: &Context) -> Result<()> {
    let shown = &letters[..count.min(letters.len())];
    if context.json {
        let all: Vec<Value> = shown.iter().map(facts).collect();
        return print_json(&json!({ "letters": all, "count": letters.len() }));
    }
    let mut out = Out::new();
    if !shown.is_empty() {
        let mut table = Table::new(&["ID", "RECEIVED", "TOPIC", "REASON", "PRIORITY", "ATTEMPTS", "SIZE", "DETAIL"]);
        for letter in shown {
            let mut detail: String = harmless(&letter.detail).chars().take(DETAIL + 1).collect();
            if detail.chars().count() > DETAIL {
                detail = detail.chars().take(DETAIL - 3).chain("...".chars()).collect();
            }
            table.row(vec![
                letter.id.to_string(),
                units::utc(letter.received.into()).chars().take(19).collect(),
                harmless(&letter.topic),
                letter.reason.to_string(),
                priority_name(letter.priority).into(),
                units::count(letter.attempts.into()),
                units::memory(letter.payload.len() as u64),
                detail,
            ]);
        }
        table.print(&mut out)?;
    }
    let all = units::several(letters.len() as u64, "letter", "letters");
    let of =
        if shown.len() < letters.len() { format!("{} of ", units::count(shown.len() as u64)) } else { String::new() };
    out.line(format_args!("{of}{all}"))?;
    out.flush()
}

fn tell_summary(letters: &[Letter], context: &Context) -> Result<()> {
    let mut groups = BTreeMap::<(&str, DeadReason), (u64, u64, u64)>::new();
    for letter in letters {
        let (count, bytes, last) = groups.entry((&letter.topic, letter.reason)).or_default();
        *count += 1;
        *bytes += letter.payload.len() as u64;
        *last = letter.received.max(*last);
    }
    if context.json {
        let groups = groups.iter().map(|((topic, reason), (count, bytes, last))| {
            json!({ "topic": topic, "reason": reason.name(), "letters": count, "bytes": bytes, "last_ns": last })
        });
        return print_json(&json!({ "groups": groups.collect::<Vec<_>>(), "count": letters.len() }));
    }
    let mut out = Out::new();
    if !groups.is_empty() {
        let mut table = Table::new(&["TOPIC", "REASON", "LETTERS", "SIZE", "LAST"]);
        for ((topic, reason), (count, bytes, last)) in groups {
            table.row(vec![
                harmless(topic),
                reason.to_string(),
                units::count(count),
                units::memory(bytes),
                units::utc(last.into()).chars().take(19).collect(),
            ]);
        }
        table.print(&mut out)?;
    }
    out.line(units::several(letters.len() as u64, "letter", "letters"))?;
    out.flush()
}

/// Everything about a letter but its payload.
fn facts(letter: &Letter) -> Value {
    json!({
        "id": letter.id.to_string(), "topic": letter.topic, "reason": letter.reason.name(),
        "priority": priority_name(letter.priority), "encoding": encoding_name(letter.encoding),
        "producer": hex(&letter.producer), "sequence": letter.sequence, "timestamp_ns": letter.timestamp,
        "received_ns": letter.received, "origin": letter.origin.to_string(), "attempts": letter.attempts,
        "detail": letter.detail, "bytes": letter.payload.len(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn show(letter: &Letter, is_next: bool, context: &Context) -> Result<()> {
    let text = std::str::from_utf8(&letter.payload).ok();
    if context.json {
        let mut json = facts(letter);
        match text {
            Some(text) => json["payload"] = text.into(),
            None => json["payload_hex"] = hex(&letter.payload).into(),
        }
        return print_json(&json);
    }
    let mut out = Out::new();
    if is_next {
        out.line("")?;
    }
    let mut line = |name: &str, value: String| out.line(format_args!("{name:10} {value}"));
    line("letter", letter.id.to_string())?;
    line("topic", harmless(&letter.topic))?;
    line("reason", letter.reason.to_string())?;
    line("attempts", units::count(letter.attempts.into()))?;
    if !letter.detail.is_empty() {
        line("detail", harmless(&letter.detail))?;
    }
    line("priority", priority_name(letter.priority).into())?;
    line("producer", if letter.producer == [0; 16] { "-".into() } else { hex(&letter.producer) })?;
    line("sequence", if letter.sequence == 0 { "-".into() } else { letter.sequence.to_string() })?;
    line("made", units::utc(letter.timestamp.into()))?;
    line("received", units::utc(letter.received.into()))?;
    line("origin", letter.origin.to_string())?;
    line("encoding", encoding_name(letter.encoding).into())?;
    line("payload", units::memory(letter.payload.len() as u64))?;
    match text.filter(|text| text.chars().all(|c| matches!(c, '\n' | '\t') || !is_harmful(c))) {
        Some("") => {}
        Some(text) => out.line(harmless_lines(text.trim_end_matches('\n')))?,
        None => dump(&mut out, &letter.payload)?,
    }
    out.flush()
}
