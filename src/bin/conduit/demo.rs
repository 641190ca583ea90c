//! `conduit demo`: what Conduit is, in one run, with real processes.

mod cast;
mod scan;
mod show;
#[cfg(feature = "tank")]
mod tape;
pub mod worker;

use std::time::{Duration, Instant};

use conduit::topic::{TopicInfo, inspect, list};

use crate::events::{Events, something_was_done};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::note;
use crate::{Context, units};

use cast::Cast;
use show::{Show, Summary};

/// See processes publish and subscribe: rate, latency, loss, a kill, a late joiner
///
/// Starts a publisher process and subscriber processes in a domain of their own, and leaves nothing behind.
#[derive(clap::Args)]
pub struct Args {
    /// How long it takes
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    duration: Duration,
}

/// What the processes' topic is called.
const TOPIC: &str = "scan";
/// Messages that the topic holds: a quarter of a second.
const DEPTH: u32 = 256;
/// How long after an interruption the demo may take to end its processes.
const GRACE: Duration = Duration::from_secs(5);

/// What a process does.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Publisher,
    /// Takes every message, and keeps an early one to the end.
    Steady,
    /// Takes naps.
    Slow,
    /// Takes every message, beginning with those that are there.
    Late,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Publisher => "publisher",
            Part::Steady => "steady",
            Part::Slow => "slow",
            Part::Late => "late",
        }
    }
}

/// What happens when, as parts of the whole time.
const KILL_AT: f64 = 0.4;
const JOIN_AT: f64 = 0.6;

pub fn run(args: &Args, context: &Context) -> Result {
    if !context.domain.is_empty() {
        note(format_args!("the demo has a domain of its own, not {}", context.domain));
    }
    let mut events = Events::with_grace(GRACE)?;
    let mut cast = Cast::new(format!("demo-{}", std::process::id()));
    let mut show = Show::new(context.json);
    match play(args, &mut events, &mut cast, &mut show)? {
        Some(mut summary) => {
            cast.end();
            let left = list(Some(&cast.domain))?.len();
            summary.check(left == 0, || format!("{left} topics are left in /dev/shm"));
            show.summary(&summary, &cast)?;
            match summary.problems.as_slice() {
                [] if summary.lost_by_the_quick > 0 => Ok(Outcome::Degraded),
                [] => Ok(Outcome::Done),
                problems => Err(Failure::Failed(problems.join("; "))),
            }
        }
        None => Ok(Outcome::Interrupted),
    }
}

/// `None` if interrupted before there was anything to tell.
fn play(args: &Args, events: &mut Events, cast: &mut Cast, show: &mut Show) -> Result<Option<Summary>> {
    if !cast.start("publisher", Part::Publisher, events)? {
        return Ok(None);
    }
    #[cfg(feature = "tank")]
    let tape = tape::Tape::start(&cast.domain)?;
    for (name, part) in [("steady", Part::Steady), ("slow", Part::Slow), ("doomed", Part::Steady)] {
        if !cast.start(name, part, events)? {
            return Ok(None);
        }
    }
    let start = Instant::now();
    let mut summary = Summary::new(look(cast)?);
    show.begin(cast, &summary.info)?;
    something_was_done();
    let at = |share: f64| start + args.duration.mul_f64(share);
    let end = at(1.0);
    let (mut kill_at, mut join_at) = (Some(at(KILL_AT)), Some(at(JOIN_AT)));
    let mut due = start + show.interval(args.duration);
    loop {
        let next = [kill_at, join_at, Some(end), Some(due)].into_iter().flatten().min();
        cast.listen(events, next)?;
        let now = Instant::now();
        if events.is_interrupted() || now >= end {
            break;
        }
        if kill_at.is_some_and(|kill_at| kill_at <= now) {
            kill_at = None;
            cast.kill("doomed");
            let info = look(cast)?;
            let pid = cast.member("doomed").map_or(0, |doomed| doomed.pid);
            let is_out = info.subscribers.iter().all(|subscriber| subscriber.pid != pid);
            summary.check(is_out, || "a killed subscriber kept its place".into());
            summary.killed_at = Some(start.elapsed());
            show.event(start, "killed", &format!("doomed (process {pid}) was killed with -9 while it held a message"))?;
        }
        if join_at.is_some_and(|join_at| join_at <= now) {
            join_at = None;
            if !cast.start("late", Part::Late, events)? {
                break;
            }
            summary.joined_at = Some(start.elapsed());
            let pid = cast.member("late").map_or(0, |late| late.pid);
            show.event(start, "joined", &format!("late (process {pid}) joined, and begins with what the topic holds"))?;
        }
        if due <= now {
            show.progress(start, cast)?;
            due = now.max(due + show.interval(args.duration));
        }
    }
    cast.stop(events)?;
    summary.info = look(cast)?;
    summary.duration = start.elapsed();
    summary.account_for(cast);
    #[cfg(feature = "tank")]
    summary.account_for_tape(tape.finish()?);
    Ok(Some(summary))
}

fn look(cast: &Cast) -> Result<TopicInfo> {
    Ok(inspect(Some(&cast.domain), TOPIC)?)
}
