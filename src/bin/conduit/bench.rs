//! `conduit bench`: what messages cost on this machine, beside what the machine itself costs.
//!
//! Each figure comes from processes of their own, pinned to processors, which meet in a memory that they share (`stage`).
//! Rounds of all cells are interleaved, and medians of the rounds are shown, so that what else the machine does falls on
//! all cells alike.

mod cells;
mod clock;
mod stage;

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::events::{Events, something_was_done};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, Table, note, print_json};
use crate::stats::median;
use crate::{Context, units};

use cells::{CELLS, Cell, Group};
pub use stage::WorkerArgs;

/// Measure latency, throughput and fan-out, beside the machine's own limits
#[derive(clap::Args)]
pub struct Args {
    /// What to measure [default: all]
    #[arg(value_enum)]
    what: Option<Group>,
    /// How often, to take the median
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long for each figure of each round
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = units::duration)]
    time: Duration,
    /// The two processors to use [default: two that are no halves of one core]
    #[arg(long, value_name = "A,B", value_parser = cpu_pair)]
    cpus: Option<(usize, usize)>,
}

fn cpu_pair(text: &str) -> std::result::Result<(usize, usize), String> {
    let pair = text.split_once(',').map(|(a, b)| (a.trim().parse(), b.trim().parse()));
    match pair {
        Some((Ok(a), Ok(b))) if a != b => Ok((a, b)),
        _ => Err("two different numbers are expected, such as 0,1".into()),
    }
}

/// How long a stuck cell may take to end after an interruption.
const GRACE: Duration = Duration::from_secs(2);

/// The figures of a cell, one set for each round.
type Rounds = Vec<Map<String, Value>>;

pub fn run(args: &Args, context: &Context) -> Result {
    let cpus = stage::choose(args.cpus)?;
    let mut events = Events::with_grace(GRACE)?;
    let domain = format!("bench-{}", std::process::id());
    let cells: Vec<&Cell> = CELLS.iter().filter(|cell| args.what.is_none_or(|what| cell.group == what)).collect();
    let mut figures: Vec<Rounds> = vec![Vec::new(); cells.len()];
    let tell = std::io::stderr().is_terminal();
    'rounds: for round in 1..=args.rounds {
        for (cell, figures) in cells.iter().zip(&mut figures) {
            if tell {
                eprint!("\r\x1b[Kround {round} of {}: {}", args.rounds, cell.name);
            }
            match stage::play(cell, cpus, args.time, &domain, &mut events)? {
                Some(found) => figures.push(found),
                None => break 'rounds,
            }
        }
        something_was_done();
    }
    if tell {
        eprint!("\r\x1b[K");
    }
    if figures.iter().any(Vec::is_empty) {
        return Ok(Outcome::Interrupted);
    }
    let rounds = figures.iter().map(Vec::len).min().unwrap_or(0);
    if context.json {
        print_json(&json(&cells, &figures, cpus, rounds))?;
    } else {
        print(&cells, &figures, cpus, rounds)?;
    }
    let lost = |rounds: &Rounds| {
        rounds.iter().any(|figures| figures.get("lost").and_then(Value::as_f64).is_some_and(|lost| lost > 0.0))
    };
    Ok(if figures.iter().any(lost) { Outcome::Degraded } else { Outcome::Done })
}

/// The median over the rounds.
fn figure(rounds: &Rounds, name: &str) -> Option<f64> {
    let values: Vec<f64> = rounds.iter().filter_map(|figures| figures.get(name)?.as_f64()).collect();
    median(&values)
}

fn json(cells: &[&Cell], figures: &[Rounds], cpus: (usize, usize), rounds: usize) -> Value {
    let rows: Vec<_> = cells
        .iter()
        .zip(figures)
        .map(|(cell, rounds)| {
            let names = rounds.first().map(|figures| figures.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
            let medians: Map<_, _> =
                names.into_iter().map(|name| (name.clone(), figure(rounds, &name).into())).collect();
            json!({ "name": cell.name, "group": cell.group.name(), "limit": cell.is_limit, "figures": medians })
        })
        .collect();
    json!({ "cpus": [cpus.0, cpus.1], "rounds": rounds, "clock": clock::name(), "results": rows })
}

fn print(cells: &[&Cell], figures: &[Rounds], cpus: (usize, usize), rounds: usize) -> Result<()> {
    let mut out = Out::new();
    for group in [Group::Latency, Group::Throughput, Group::Fanout] {
        let columns = group.columns();
        let head: Vec<_> = std::iter::once(group.title()).chain(columns.iter().map(|(_, head, _)| *head)).collect();
        let mut table = Table::new(&head);
        let mut is_empty = true;
        for (cell, rounds) in cells.iter().zip(figures).filter(|(cell, _)| cell.group == group) {
            is_empty = false;
            let name = if cell.is_limit { format!("limit: {}", cell.name) } else { cell.name.into() };
            let cells = columns.iter().map(|(key, _, show)| figure(rounds, key).map_or("-".into(), show));
            table.row(std::iter::once(name).chain(cells).collect());
        }
        if !is_empty {
            table.print(&mut out)?;
            out.line("")?;
        }
    }
    out.flush()?;
    let clock = clock::name();
    let rounds = units::several(rounds as u64, "round", "rounds");
    note(format_args!("medians of {rounds}, on processors {} and {}, by the {clock}", cpus.0, cpus.1));
    Ok(())
}

pub fn work(args: &WorkerArgs, context: &Context) -> Result {
    let cell = CELLS.iter().find(|cell| cell.name == args.cell);
    let cell = cell.ok_or_else(|| Failure::Usage(format!("there is no cell {}", args.cell)))?;
    stage::work(cell, args, context)
}
