//! `conduit flow run`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use conduit::flow::plan::Plan;
use conduit::flow::run::{Handle, Options, Orphans, Runner, Stream, Told};
use conduit::flow::supervisor::{self, Phase, Report};
use conduit::yaml::text::harmless;
use serde_json::{Value, json};

use super::{FlowArgs, find};
use crate::Context;
use crate::events::{block_signals, wait_for};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, harmless_lines, note, print_json};

/// Within how long after an interruption another one is the same: some send it to a program and to its group.
const DOUBLE: Duration = Duration::from_millis(100);

/// Start a flow, watch it, and stop it when asked to
///
/// What nodes write goes to standard output, behind their names; what becomes of them to standard error. An interruption stops the
/// flow in its order, a second one kills it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    flow: FlowArgs,
    /// Only print when what would begin and be done
    #[arg(long)]
    dry_run: bool,
    /// Write what each node writes to a file of its own in this directory, too
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    logs: Option<PathBuf>,
}

pub fn run(args: &Args, context: &Context) -> Result {
    if args.dry_run { dry_run(&find::read_good(&args.flow)?.1.plan, context) } else { run_it(args, context) }
}

fn run_it(args: &Args, context: &Context) -> Result {
    let (path, read) = find::read_absolute(&args.flow)?;
    let plan = read.plan;
    // Before there are other threads.
    let signals = block_signals();
    let options = Options {
        domain: (!context.domain.is_empty()).then(|| context.domain.clone()),
        working_dir: path.parent().map_or_else(|| "/".into(), PathBuf::from),
        // This program starts no others.
        orphans: Orphans::AdoptAll,
        logs: args.logs.clone(),
        ..Options::default()
    };
    let cannot =
        |error: conduit::flow::run::Error| Failure::Failed(format!("cannot run {}: {error}", harmless(&plan.name)));
    let runner = Runner::new(plan.clone(), options).map_err(cannot)?;
    let handle = runner.handle();
    let stop = handle.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || stop_when_asked(&signals, &stop))
        .map_err(|error| Failure::Failed(format!("cannot start a thread for signals: {error}")))?;
    let mut teller = Teller::new(&plan, context.json, handle);
    let outcome = runner.run(&mut |told| teller.tell(&told)).map_err(cannot)?;
    teller.end(&outcome)
}

fn stop_when_asked(signals: &libc::sigset_t, handle: &Handle) {
    let mut last: Option<Instant> = None;
    loop {
        if wait_for(signals, None) && last.is_none_or(|last| last.elapsed() > DOUBLE) {
            handle.stop();
            last = Some(Instant::now());
        }
    }
}

/// Prints what a flow tells.
struct Teller<'p> {
    plan: &'p Plan,
    json: bool,
    out: Out,
    /// Of the longest name.
    width: usize,
    /// Stops the flow when nobody reads any more.
    handle: Handle,
    is_closed: bool,
}

impl<'p> Teller<'p> {
    fn new(plan: &'p Plan, json: bool, handle: Handle) -> Self {
        let ids = (0..plan.tasks.len()).map(conduit::flow::plan::TaskId);
        let width = ids.map(|id| plan.label(id).chars().count()).max().unwrap_or(0).min(24);
        Teller { plan, json, out: Out::new(), width, handle, is_closed: false }
    }

    fn tell(&mut self, told: &Told<'_>) {
        if self.is_closed {
            return;
        }
        let told = if self.json { self.tell_json(told) } else { self.tell_people(told) };
        if told.and_then(|()| self.out.flush()).is_err() {
            self.is_closed = true;
            self.handle.stop();
        }
    }

    fn tell_people(&mut self, told: &Told<'_>) -> Result<()> {
        let width = self.width;
        match told {
            Told::Line { node, line, .. } => {
                self.out.line(format_args!("{:width$} | {}", harmless(node), harmless(line)))?;
            }
            Told::Report(Report::Task { task, state, why, pid, .. }) => {
                let pid = pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
                let name = self.plan.label(*task);
                note(format_args!("{}: {state} ({}){pid}", harmless(&name), harmless(&why.to_string())));
            }
            Told::Report(Report::Flow { phase, cause, .. }) => {
                let cause = cause.as_ref().map(|cause| format!(", as {}", self.describe(cause))).unwrap_or_default();
                match phase {
                    Phase::Starting | Phase::Over => {}
                    Phase::Up => note(format_args!("{} is up", harmless(&self.plan.name))),
                    Phase::Stopping => note(format_args!("{} stops{cause}", harmless(&self.plan.name))),
                }
            }
            Told::Status { node, status } => note(format_args!("{}: {}", harmless(node), harmless(status))),
            Told::Refused { node, refusal } => note(format_args!("{}: {refusal}", harmless(node))),
            Told::Trouble { node, what } => note(format_args!("{}: {}", harmless(node), harmless(what))),
            _ => {}
        }
        Ok(())
    }

    fn tell_json(&mut self, told: &Told<'_>) -> Result<()> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let value = match told {
            Told::Line { node, stream, line } => {
                let stream = if *stream == Stream::Out { "stdout" } else { "stderr" };
                json!({ "event": "line", "node": node, "stream": stream, "line": line })
            }
            Told::Report(Report::Task { task, at, state, why, pid }) => json!({
                "event": "task",
                "at_ns": nanoseconds(*at),
                "task": self.plan.label(*task),
                "state": state.to_string(),
                "why": why.to_string(),
                "pid": pid,
            }),
            Told::Report(Report::Flow { at, phase, cause }) => json!({
                "event": "flow",
                "at_ns": nanoseconds(*at),
                "phase": phase_name(*phase),
                "cause": cause.as_ref().map(|cause| self.describe(cause)),
            }),
            Told::Status { node, status } => json!({ "event": "status", "node": node, "status": status }),
            Told::Refused { node, refusal } => {
                json!({ "event": "refused", "node": node, "why": refusal.to_string() })
            }
            Told::Trouble { node, what } => json!({ "event": "trouble", "node": node, "what": what }),
            _ => return Ok(()),
        };
        self.out.json(&value)
    }

    /// How a flow ended, or what it stops for, in a few words.
    fn describe(&self, outcome: &supervisor::Outcome) -> String {
        use supervisor::Outcome;
        let name = |task| harmless(&self.plan.label(task)).to_string();
        match outcome {
            Outcome::Clean => "it was to".into(),
            Outcome::NodeFailed { task, why } => format!("{} failed: {}", name(*task), harmless(&why.to_string())),
            Outcome::Killed(tasks) => {
                let names: Vec<String> = tasks.iter().map(|task| name(*task)).collect();
                format!("{} had to be killed", names.join(", "))
            }
            Outcome::NotReady { task } => format!("{} was not ready in time", name(*task)),
            Outcome::GuardianLost => "the guardian was killed, and everything with it".into(),
        }
    }

    /// How the command ends.
    fn end(mut self, outcome: &supervisor::Outcome) -> Result {
        use supervisor::Outcome as Ended;
        if self.json && !self.is_closed {
            let how = match outcome {
                Ended::Clean => Value::Null,
                outcome => self.describe(outcome).into(),
            };
            self.out.json(&json!({ "event": "end", "code": outcome.code(), "why": how }))?;
            self.out.flush()?;
        }
        match outcome {
            Ended::Clean => Ok(Outcome::Done),
            Ended::Killed(_) => {
                note(format_args!("{}", self.describe(outcome)));
                Ok(Outcome::Degraded)
            }
            Ended::NotReady { .. } => {
                note(format_args!("{}", self.describe(outcome)));
                Ok(Outcome::TimedOut)
            }
            Ended::NodeFailed { .. } | Ended::GuardianLost => Err(Failure::Failed(self.describe(outcome))),
        }
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Up => "up",
        Phase::Stopping => "stopping",
        Phase::Over => "over",
    }
}

fn dry_run(plan: &Plan, context: &Context) -> Result {
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
