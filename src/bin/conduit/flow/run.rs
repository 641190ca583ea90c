//! `conduit flow run`.

use serde_json::json;

use super::{FlowArgs, find};
use crate::Context;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, harmless_lines, print_json};

/// Start a flow, watch it, and stop it when asked to
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    flow: FlowArgs,
    /// Only print when what would begin and be done
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &Args, context: &Context) -> Result {
    let (_, read) = find::read_good(&args.flow)?;
    if !args.dry_run {
        return Err(Failure::Usage("this version runs no flows yet: `--dry-run` prints what would be done".into()));
    }
    let plan = read.plan;
    if !context.json {
        let mut out = Out::new();
        out.bytes(harmless_lines(&plan.dry_run()).as_bytes())?;
        out.flush()?;
        return Ok(Outcome::Done);
    }
    let timeline = plan.timeline();
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let step = |entry: &conduit::flow::plan::Entry| {
        json!({
            "task": plan.label(entry.task),
            "earliest_ns": nanoseconds(entry.start),
            "deadline_ns": entry.deadline.map(nanoseconds),
        })
    };
    print_json(&json!({
        "flow": plan.name,
        "steps": timeline.entries.iter().map(step).collect::<Vec<_>>(),
        "up_ns": nanoseconds(timeline.up),
        "deadline_ns": timeline.deadline.map(nanoseconds),
        "shutdown_ns": nanoseconds(timeline.shutdown),
    }))?;
    Ok(Outcome::Done)
}
