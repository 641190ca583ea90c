//! `conduit flow graph` and `conduit flow list`.

use std::path::{Path, PathBuf};

use conduit::flow::plan::{StopKind, TaskId, TaskKind};
use serde_json::json;

use super::{FlowArgs, find};
use crate::Context;
use crate::outcome::{Outcome, Result};
use crate::output::{Out, Table, harmless, harmless_lines, note, print_json};

#[derive(clap::Args)]
pub struct GraphArgs {
    #[command(flatten)]
    flow: FlowArgs,
    /// As Mermaid draws it
    #[arg(long, conflicts_with = "dot")]
    mermaid: bool,
    /// As Graphviz draws it
    #[arg(long)]
    dot: bool,
}

pub fn graph(args: &GraphArgs, context: &Context) -> Result {
    let (_, read) = find::read_good(&args.flow)?;
    let plan = read.plan;
    if context.json {
        let task = |(id, task): (usize, &conduit::flow::plan::Task)| {
            let kind = match task.kind {
                TaskKind::Node(_) => "node",
                TaskKind::Run(_) => "run",
                TaskKind::Wait(_) => "wait",
            };
            let needs: Vec<usize> = task.needs.iter().map(|need| need.0).collect();
            json!({ "id": id, "kind": kind, "task": plan.label(TaskId(id)), "needs": needs })
        };
        let stop = |stop: &conduit::flow::plan::StopTask| match stop.kind {
            StopKind::Node(id) => json!({ "stop": id.0, "after": stop.after }),
            StopKind::Wait(time) => json!({ "wait_ns": time.as_nanos() as u64, "after": stop.after }),
        };
        print_json(&json!({
            "flow": plan.name,
            "tasks": plan.tasks.iter().enumerate().map(task).collect::<Vec<_>>(),
            "stops": plan.stops.iter().map(stop).collect::<Vec<_>>(),
        }))?;
        return Ok(Outcome::Done);
    }
    let text = match (args.mermaid, args.dot) {
        (true, _) => plan.mermaid(),
        (_, true) => plan.dot(),
        _ => plan.text(),
    };
    let mut out = Out::new();
    out.bytes(harmless_lines(&text).as_bytes())?;
    out.flush()?;
    Ok(Outcome::Done)
}

/// List the flows there are
#[derive(clap::Args)]
pub struct ListArgs {
    /// Look for flows here first
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

pub fn list(dir: Option<&Path>, context: &Context) -> Result {
    let flows = find::all(dir);
    if context.json {
        let flow = |found: &find::Found| json!({ "name": found.name, "path": found.path.to_string_lossy(), "description": found.description });
        print_json(&flows.iter().map(flow).collect())?;
        return Ok(Outcome::Done);
    }
    if flows.is_empty() {
        let looked: Vec<_> = find::directories(dir).iter().map(|path| path.display().to_string()).collect();
        note(format_args!("there are no flows (NAME.flow.yaml) in {}", harmless(&looked.join(", "))));
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["NAME", "PATH", "DESCRIPTION"]);
    for found in flows {
        let path = found.path.display().to_string();
        table.row(vec![harmless(&found.name), harmless(&path), harmless(&found.description)]);
    }
    let mut out = Out::new();
    table.print(&mut out)?;
    out.flush()?;
    Ok(Outcome::Done)
}
