//! `conduit nodes`: which nodes there are, and how they are.

use std::time::SystemTime;

use conduit::Error;
use conduit::node::{Joined, NodeInfo, NodeSubscription, NodeTimer, Threads, inspect, list};
use conduit::topic;
use serde_json::{Value, json};

use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, Table, note, print_json};
use crate::patterns::Pattern;
use crate::{Context, completions, describe, units};

/// List nodes, or show everything about one
///
/// A node that was killed is listed as gone until `conduit clean`, or until a node of its name starts.
#[derive(clap::Args)]
pub struct Args {
    /// The node, or a pattern: its topics, timers and threads
    #[arg(add = completions::nodes())]
    node: Option<String>,
    /// Nodes of all domains
    #[arg(long, conflicts_with = "domain")]
    all_domains: bool,
}

pub fn run(args: &Args, context: &Context) -> Result {
    let pattern = args.node.as_deref().map(Pattern::new);
    let names = list((!args.all_domains).then_some(context.domain.as_str()))?;
    let is_wanted = |node: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(node));
    let looks = names.into_iter().filter(|(_, node)| is_wanted(node)).map(|(domain, node)| {
        let found = inspect(Some(&domain), &node);
        (domain, node, found)
    });
    // Those that have ended meanwhile are left out.
    let found: Vec<Look> = looks.filter(|(.., found)| !matches!(found, Err(Error::NodeNotFound { .. }))).collect();
    let place = if args.all_domains { String::new() } else { context.in_domain() };
    match &pattern {
        Some(Pattern::Name(node)) if found.is_empty() => {
            // A name that none can have is wrong usage.
            match inspect(Some(&context.domain), node) {
                Err(Error::NodeNotFound { .. }) | Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            return Err(Failure::Failed(format!(
                "node {node} does not run{place}: `conduit nodes` lists those that do"
            )));
        }
        Some(Pattern::Glob(glob)) if found.is_empty() => {
            return Err(Failure::Failed(format!("no node matches {glob}{place}")));
        }
        Some(_) => details(&found, context)?,
        None if context.json => {
            print_json(&json!({ "nodes": found.iter().map(json_of).collect::<Vec<_>>() }))?;
        }
        None if found.is_empty() => note(format_args!("no nodes{place}")),
        None => overview(&found, args)?,
    }
    Ok(Outcome::Done)
}

/// Domain, node, and what it is like.
type Look = (String, String, std::result::Result<NodeInfo, Error>);

fn overview(found: &[Look], args: &Args) -> Result<()> {
    let mut out = Out::new();
    let head = ["NODE", "PROCESS", "UP", "THREADS", "SUBS", "PUBS", "TIMERS", "LOST", "OVERRUNS", "PANICS"];
    let mut table = Table::new(&head);
    for (domain, node, found) in found {
        let name =
            if args.all_domains && !domain.is_empty() { format!("{node} (domain {domain})") } else { node.clone() };
        table.row(match found {
            Ok(info) => vec![
                name,
                if info.alive { info.pid.to_string() } else { "gone".into() },
                info.uptime.map_or_else(|| "-".into(), |uptime| units::time(uptime.as_nanos() as f64)),
                threads(info).into(),
                info.subscriptions.len().to_string(),
                info.publications.len().to_string(),
                info.timers.len().to_string(),
                units::short(sum(info.subscriptions.iter().map(|subscription| subscription.lost))),
                units::short(sum(info.timers.iter().map(|timer| timer.overruns))),
                units::short(info.panics()),
            ],
            Err(error) => vec![name, unusable(error)],
        });
    }
    table.print(&mut out)?;
    out.flush()
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn threads(info: &NodeInfo) -> &'static str {
    match info.threads {
        Threads::One => "one",
        Threads::Each => "each",
    }
}

/// What stands behind the name of a node whose file cannot be used.
fn unusable(error: &Error) -> String {
    match error {
        // Without the file's name, which says no more than the node's.
        Error::CorruptNode { reason, .. } => format!("unusable: {reason}"),
        error => format!("unusable: {error}"),
    }
}

fn details(found: &[Look], context: &Context) -> Result<()> {
    let mut out = Out::new();
    for (at, look) in found.iter().enumerate() {
        if let (Err(error), 1) = (&look.2, found.len()) {
            return Err(Failure::Failed(error.to_string()));
        }
        if context.json {
            out.json(&json_of(look))?;
            continue;
        }
        if at > 0 {
            out.line("")?;
        }
        match &look.2 {
            Ok(info) => print(info, &mut out)?,
            Err(error) => note(format_args!("{error}")),
        }
    }
    out.flush()
}

fn print(info: &NodeInfo, out: &mut Out) -> Result<()> {
    let mut line = |name: &str, value: String| {
        let name = out.style.dim(format!("{name:12}"));
        out.line(format_args!("{name}  {value}"))
    };
    line("node", info.node.clone())?;
    if !info.domain.is_empty() {
        line("domain", info.domain.clone())?;
    }
    line("process", if info.alive { info.pid.to_string() } else { format!("none: process {} died", info.pid) })?;
    let ago = SystemTime::now().duration_since(info.started).unwrap_or_default();
    let started = units::utc(units::since_1970(info.started));
    line("started", format!("{started}, {} ago", units::time(info.uptime.unwrap_or(ago).as_nanos() as f64)))?;
    line(
        "threads",
        format!("{}{}", threads(info), if info.threads == Threads::One { " for all" } else { " its own" }),
    )?;
    line("panics", units::count(info.panics()))?;
    section(
        out,
        "subscribes",
        &["  TOPIC", "STATE", "MESSAGES", "LOST", "PANICS", "THREAD"],
        info.subscriptions.iter().map(|subscription| {
            let NodeSubscription { topic, messages, lost, panics, thread, .. } = subscription;
            vec![
                format!("  {topic}"),
                joined(subscription.joined).into(),
                units::count(*messages),
                units::count(*lost),
                units::count(*panics),
                thread.to_string(),
            ]
        }),
    )?;
    section(
        out,
        "timers",
        &["  PERIOD", "RATE", "TICKS", "OVERRUNS", "PANICS", "THREAD"],
        info.timers.iter().map(|timer| {
            let NodeTimer { period, ticks, overruns, panics, thread, .. } = timer;
            vec![
                format!("  {}", units::time(period.as_nanos() as f64)),
                units::hertz(1.0 / period.as_secs_f64()),
                units::count(*ticks),
                units::count(*overruns),
                units::count(*panics),
                thread.to_string(),
            ]
        }),
    )?;
    section(
        out,
        "publishes",
        &["  TOPIC", "TYPE", "PUBLISHER", "PUBLISHED", "SUBS"],
        info.publications.iter().map(|topic| match topic::inspect(Some(&info.domain), topic) {
            Ok(found) => vec![
                format!("  {topic}"),
                describe::type_name(&found.schema),
                if found.writer_pid == info.pid { describe::state(found.writer).into() } else { "another".into() },
                units::count(found.published),
                found.subscribers.len().to_string(),
            ],
            Err(Error::NotFound { .. }) => vec![format!("  {topic}"), "removed".into()],
            Err(error) => vec![format!("  {topic}"), error.to_string()],
        }),
    )
}

fn section(out: &mut Out, name: &str, head: &[&str], rows: impl ExactSizeIterator<Item = Vec<String>>) -> Result<()> {
    let title = out.style.dim(format!("{name:12}"));
    out.line(format_args!("{title}  {}", rows.len()))?;
    if rows.len() > 0 {
        let mut table = Table::new(head);
        rows.for_each(|row| table.row(row));
        table.print(out)?;
    }
    Ok(())
}

fn joined(joined: Joined) -> &'static str {
    match joined {
        Joined::Awaited => "awaited",
        Joined::Yes => "joined",
        Joined::Refused => "refused",
    }
}

fn json_of((domain, node, found): &Look) -> Value {
    let info = match found {
        Ok(info) => info,
        Err(error) => return json!({ "node": node, "domain": domain, "error": error.to_string() }),
    };
    json!({
        "node": node,
        "domain": domain,
        "file": info.path,
        "alive": info.alive,
        "pid": info.pid,
        "started": units::utc(units::since_1970(info.started)),
        "uptime_ns": info.uptime.map(|uptime| uptime.as_nanos() as u64),
        "threads": threads(info),
        "panics": info.panics(),
        "subscriptions": info.subscriptions.iter().map(|subscription| json!({
            "topic": subscription.topic,
            "state": joined(subscription.joined),
            "messages": subscription.messages,
            "lost": subscription.lost,
            "panics": subscription.panics,
            "thread": subscription.thread,
        })).collect::<Vec<_>>(),
        "timers": info.timers.iter().map(|timer| json!({
            "period_ns": timer.period.as_nanos() as u64,
            "rate": 1.0 / timer.period.as_secs_f64(),
            "ticks": timer.ticks,
            "overruns": timer.overruns,
            "panics": timer.panics,
            "thread": timer.thread,
        })).collect::<Vec<_>>(),
        "publications": info.publications.iter().map(|topic| {
            let mut json = json!({ "topic": topic });
            match topic::inspect(Some(domain), topic) {
                Ok(found) => {
                    json["published"] = found.published.into();
                    json["subscribers"] = found.subscribers.len().into();
                    json["publisher"] = json!({ "state": describe::state(found.writer), "pid": found.writer_pid });
                }
                Err(error) => json["error"] = error.to_string().into(),
            }
            json
        }).collect::<Vec<_>>(),
    })
}
