//! `conduit topics`: which topics there are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use conduit::Error;
use conduit::topic::{TopicInfo, WriterState, check_file, inspect, list};
use serde_json::{Value, json};

use crate::events::{Events, something_was_done};
use crate::outcome::{Outcome, Result};
use crate::output::{Out, Table, note, print_json};
use crate::patterns::Pattern;
use crate::{Context, completions, describe, units};

/// List topics
///
/// A name stands for that topic and for all below it: `conduit topics sensors` lists `sensors/imu`, too.
#[derive(clap::Args)]
pub struct Args {
    /// Only topics of this name, below it, or that match
    #[arg(add = completions::topics())]
    pattern: Option<String>,
    /// Type, publisher's process, subscribers of those there may be, messages, whether they are latched, memory, age
    #[arg(short, long)]
    long: bool,
    /// Go on, and tell what comes, changes and goes
    #[arg(short, long)]
    watch: bool,
    /// Only topics that have neither a publisher nor a subscriber
    #[arg(long)]
    stale: bool,
    /// Topics of all domains
    #[arg(long, conflicts_with = "domain")]
    all_domains: bool,
}

/// Time for a burst of changes to be over before it is told of.
const SETTLE: Duration = Duration::from_millis(10);

/// Domain and topic.
type Key = (String, String);

pub fn run(args: &Args, context: &Context) -> Result {
    if args.watch {
        return watch(args, context);
    }
    let names = names(args, context)?;
    if !args.long && !args.stale && !context.json {
        let mut out = Out::new();
        if names.is_empty() {
            nothing(args, context);
        }
        for key in &names {
            match check_file(Some(&key.0), &key.1) {
                Err(Error::NotFound { .. }) => continue,
                // Not on standard output, where others read names.
                Err(error @ Error::Corrupt { .. }) => note(format_args!("{error}")),
                _ => {}
            }
            out.line(full_name(key, args))?;
        }
        out.flush()?;
        return Ok(Outcome::Done);
    }
    let found: Vec<_> = look_at(names).into_iter().filter(|(_, found)| is_wanted(found, args)).collect();
    if context.json {
        let topics: Vec<_> = found.iter().map(|(key, found)| topic_json(key, found)).collect();
        print_json(&json!({ "topics": topics }))?;
        return Ok(Outcome::Done);
    }
    let mut out = Out::new();
    if found.is_empty() {
        nothing(args, context);
    } else if args.long {
        let mut table = Table::new(&["TOPIC", "TYPE", "PUBLISHER", "SUBS", "PUBLISHED", "MEMORY", "AGE"]);
        for (key, found) in &found {
            let name = full_name(key, args);
            table.row(match found {
                Ok(info) => row(name, info),
                Err(error) => vec![name, unusable(error)],
            });
        }
        table.print(&mut out)?;
    } else {
        for (key, found) in &found {
            if let Err(error @ Error::Corrupt { .. }) = found {
                note(format_args!("{error}"));
            }
            out.line(full_name(key, args))?;
        }
    }
    out.flush()?;
    Ok(Outcome::Done)
}

fn names(args: &Args, context: &Context) -> Result<Vec<Key>> {
    let domain = (!args.all_domains).then_some(context.domain.as_str());
    let pattern = args.pattern.as_deref().map(Pattern::new);
    let is_wanted = |topic: &str| match &pattern {
        None => true,
        Some(pattern @ Pattern::Glob(_)) => pattern.matches(topic),
        Some(Pattern::Name(name)) => {
            topic.strip_prefix(name.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    Ok(list(domain)?.into_iter().filter(|(_, topic)| is_wanted(topic)).collect())
}

/// What each topic looks like; those that have gone meanwhile are left out.
fn look_at(names: Vec<Key>) -> BTreeMap<Key, std::result::Result<TopicInfo, Error>> {
    let looks = names.into_iter().map(|key| {
        let found = inspect(Some(&key.0), &key.1);
        (key, found)
    });
    looks.filter(|(_, found)| !matches!(found, Err(Error::NotFound { .. }))).collect()
}

fn is_wanted(found: &std::result::Result<TopicInfo, Error>, args: &Args) -> bool {
    !args.stale || found.as_ref().map_or(true, TopicInfo::is_stale)
}

fn nothing(args: &Args, context: &Context) {
    let what = match (&args.pattern, args.stale) {
        (Some(pattern), _) => format!("no topic matches {pattern}"),
        (None, true) => "no stale topics".into(),
        (None, false) => "no topics".into(),
    };
    let place = if args.all_domains { String::new() } else { context.in_domain() };
    note(format_args!("{what}{place}"));
}

fn full_name((domain, topic): &Key, args: &Args) -> String {
    if args.all_domains && !domain.is_empty() { format!("{topic} (domain {domain})") } else { topic.clone() }
}

fn topic_json((domain, topic): &Key, found: &std::result::Result<TopicInfo, Error>) -> Value {
    match found {
        Ok(info) => describe::json(info),
        Err(error) => json!({ "topic": topic, "domain": domain, "error": error.to_string() }),
    }
}

fn row(name: String, info: &TopicInfo) -> Vec<String> {
    let age = SystemTime::now().duration_since(info.created).unwrap_or_default();
    vec![
        name,
        describe::type_name(&info.schema),
        match info.writer {
            WriterState::Alive => info.writer_pid.to_string(),
            state => describe::state(state).into(),
        },
        format!("{}/{}", info.subscribers.len(), info.geometry.subscribers),
        published(info),
        units::memory(info.bytes),
        units::time(age.as_nanos() as f64),
    ]
}

/// Most topics are not latched: a column of its own would be too wide for what it says.
fn published(info: &TopicInfo) -> String {
    let latched = if info.geometry.latched { ", latched" } else { "" };
    format!("{}{latched}", units::count(info.published))
}

fn publisher(info: &TopicInfo) -> String {
    match info.writer {
        WriterState::Alive => format!("process {}", info.writer_pid),
        state => describe::state(state).into(),
    }
}

/// What stands behind the name of a topic that cannot be used.
fn unusable(error: &Error) -> String {
    match error {
        // Without the file's name, which says no more than the topic's.
        Error::Corrupt { reason, .. } => format!("unusable: {reason}"),
        error => format!("unusable: {error}"),
    }
}

/// What is told of a topic when it changes.
#[derive(PartialEq)]
struct Seen {
    line: String,
    json: Value,
}

fn seen(key: &Key, found: &std::result::Result<TopicInfo, Error>, args: &Args) -> Seen {
    let name = full_name(key, args);
    let line = match found {
        Ok(info) if args.long => {
            let kind = describe::type_name(&info.schema);
            let receivers = units::several(info.subscribers.len() as u64, "subscriber", "subscribers");
            let latched = if info.geometry.latched { ", latched" } else { "" };
            format!("{name}  {kind}, publisher {}, {receivers}{latched}", publisher(info))
        }
        Ok(info) => format!("{name}  publisher {}", publisher(info)),
        Err(error) => format!("{name}  {}", unusable(error)),
    };
    let json = match found {
        Ok(info) => json!({
            "topic": key.1,
            "domain": key.0,
            "type": info.schema.name,
            "publisher": { "state": describe::state(info.writer), "pid": info.writer_pid, "epoch": info.epoch },
            "subscribers": info.subscribers.len(),
            "stale": info.is_stale(),
            "latched": info.geometry.latched,
        }),
        found => topic_json(key, found),
    };
    Seen { line, json }
}

fn watch(args: &Args, context: &Context) -> Result {
    let mut events = Events::new()?;
    events.watch_topics()?;
    let mut out = Out::new();
    let mut known: BTreeMap<Key, Seen> = BTreeMap::new();
    let mut due = Some(Instant::now());
    loop {
        if due.is_some_and(|due| due <= Instant::now()) {
            due = None;
            let found = look_at(names(args, context)?).into_iter().filter(|(_, found)| is_wanted(found, args));
            let now: BTreeMap<Key, Seen> = found.map(|(key, found)| (key.clone(), seen(&key, &found, args))).collect();
            for (key, old) in known.iter().filter(|(key, _)| !now.contains_key(*key)) {
                tell(&mut out, context, "-", "gone", &full_name(key, args), &old.json)?;
            }
            for (key, new) in &now {
                match known.get(key) {
                    None => tell(&mut out, context, "+", "new", &new.line, &new.json)?,
                    Some(old) if old != new => tell(&mut out, context, "~", "changed", &new.line, &new.json)?,
                    Some(_) => {}
                }
            }
            out.flush()?;
            known = now;
            something_was_done();
        }
        let woken = events.wait(&[], due)?;
        if woken.interrupted {
            return Ok(Outcome::Done);
        }
        if woken.topics && due.is_none() {
            due = Some(Instant::now() + SETTLE);
        }
    }
}

fn tell(out: &mut Out, context: &Context, sign: &str, event: &str, line: &str, json: &Value) -> Result<()> {
    if !context.json {
        return out.line(format_args!("{sign} {line}"));
    }
    let mut object = json!({ "event": event });
    if let (Value::Object(object), Value::Object(json)) = (&mut object, json) {
        object.extend(json.clone());
    }
    out.json(&object)
}
