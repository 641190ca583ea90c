//! `conduit clean`: removes what nobody uses any more.

use conduit::Error;
use conduit::node;
use conduit::topic::{self, check_file, clean_some, list};
use serde_json::json;

use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, note, print_json};
use crate::patterns::{self, Pattern, not_found};
use crate::{Context, completions, units};

/// Remove topics that have neither a publisher nor a subscriber, and what killed nodes left
///
/// Nothing ever needs this: the next publisher, or node, takes over what is there. It sets memory free.
#[derive(clap::Args)]
pub struct Args {
    /// Only these topics, or those that match [default: all, and nodes]
    #[arg(value_name = "TOPIC", add = completions::topics())]
    topics: Vec<String>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Topics and nodes of all domains
    #[arg(long, conflicts_with = "domain")]
    all_domains: bool,
}

pub fn run(args: &Args, context: &Context) -> Result {
    let domain = (!args.all_domains).then_some(context.domain.as_str());
    let patterns = patterns::all(&args.topics);
    let is_meant = |topic: &str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(topic));
    let found = clean_some(domain, args.dry_run, is_meant)?;
    let missed = args.topics.iter().filter(|name| matches!(Pattern::new(name), Pattern::Name(_)));
    let missed = missed.filter(|name| found.iter().all(|found| found.topic != **name)).collect::<Vec<_>>();
    let (removed, failed): (Vec<_>, Vec<_>) = found.into_iter().partition(|removed| removed.error.is_none());
    let found_nodes = if patterns.is_empty() { node::clean(domain, args.dry_run)? } else { Vec::new() };
    let (nodes, failed_nodes): (Vec<_>, Vec<_>) = found_nodes.into_iter().partition(|node| node.error.is_none());
    let bytes: u64 = removed.iter().map(|removed| removed.bytes).chain(nodes.iter().map(|node| node.bytes)).sum();
    if context.json {
        let describe = |what: &str, name: &str, domain: &str, bytes: u64, error: &Option<String>| {
            let mut json = json!({ what: name, "domain": domain, "bytes": bytes });
            if let Some(error) = error {
                json["error"] = error.as_str().into();
            }
            json
        };
        let all = |topics: &[topic::Removed], nodes: &[node::Removed]| {
            let topics = topics.iter().map(|it| describe("topic", &it.topic, &it.domain, it.bytes, &it.error));
            let nodes = nodes.iter().map(|it| describe("node", &it.node, &it.domain, it.bytes, &it.error));
            topics.chain(nodes).collect::<Vec<_>>()
        };
        print_json(&json!({
            "dry_run": args.dry_run,
            "removed": all(&removed, &nodes),
            "failed": all(&failed, &failed_nodes),
            "bytes": bytes,
        }))?;
    } else {
        let mut out = Out::new();
        let place = |domain: &str| if domain.is_empty() { String::new() } else { format!(" (domain {domain})") };
        for removed in &removed {
            out.line(format_args!("{}{}  {}", removed.topic, place(&removed.domain), units::memory(removed.bytes)))?;
        }
        for node in &nodes {
            out.line(format_args!("node {}{}  {}", node.node, place(&node.domain), units::memory(node.bytes)))?;
        }
        out.flush()?;
        let mut topics = units::several(removed.len() as u64, "topic", "topics");
        if !nodes.is_empty() {
            topics = format!("{topics}, {}", units::several(nodes.len() as u64, "node", "nodes"));
        }
        let verb = if args.dry_run { "would remove" } else { "removed" };
        note(format_args!("{verb} {topics}, {}", units::memory(bytes)));
    }
    for failed in &failed {
        note(format_args!("{}: {}", failed.topic, failed.error.as_deref().unwrap_or_default()));
    }
    for failed in &failed_nodes {
        note(format_args!("node {}: {}", failed.node, failed.error.as_deref().unwrap_or_default()));
    }
    if !missed.is_empty() {
        let there = list(domain)?;
        let place = if args.all_domains { String::new() } else { context.in_domain() };
        let mut reasons = Vec::new();
        for name in missed {
            if let Err(error @ Error::InvalidTopic { .. }) = check_file(Some(&context.domain), name) {
                return Err(error.into());
            }
            reasons.push(if there.iter().any(|(_, topic)| topic == name) {
                format!("topic {name}{place} is in use")
            } else if args.all_domains {
                format!("topic {name} does not exist in any domain")
            } else {
                not_found(&context.domain, name)
            });
        }
        return Err(Failure::Failed(reasons.join("\n")));
    }
    Ok(if failed.is_empty() && failed_nodes.is_empty() { Outcome::Done } else { Outcome::Degraded })
}
