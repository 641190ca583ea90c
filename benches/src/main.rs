//! Conduit beside its peers and beside what the machine allows, in one interleaved run.
//!
//! Each row of the report asks one question. In each round every candidate of every row answers once,
//! in an order that turns from round to round; the tables show medians over the rounds. Participants
//! are forked for each answer and pinned to a core of their own, the publisher to the first.
//!
//! "Written" means filled by the publisher and copied out and checked by the subscriber; "untouched"
//! means that nobody looked at the payload.

mod clock;
mod message;
mod peers;
mod report;
mod rows;
mod stage;
mod stats;

use report::{Answer, Answers, Results};
use rows::{Context, Row, latency::distance};
use std::io::IsTerminal;
use std::process::ExitCode;

const USAGE: &str = "\
usage: conduit-benches [FILTER...] [--rounds N] [--quick] [--json] [--list]

Measures the rows whose name contains a filter; all without one. `loan@conduit`: only candidates whose name
contains what follows the @.
  --rounds N  how often each candidate answers; the medians are shown (default 15, with --quick 3)
  --quick     shorter measurements, fewer rounds
  --json      one object a line instead of tables
  --list      the rows and their candidates";

struct Options {
    filters: Vec<String>,
    rounds: usize,
    quick: bool,
    json: bool,
    list: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { filters: Vec::new(), rounds: 0, quick: false, json: false, list: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--json" => options.json = true,
            "--list" => options.list = true,
            "--rounds" => {
                let rounds = arguments.next().and_then(|n| n.parse().ok());
                options.rounds = rounds.filter(|&n| n > 0).ok_or("--rounds needs a number")?;
            }
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
            filter => options.filters.push(filter.to_lowercase()),
        }
    }
    if options.rounds == 0 {
        options.rounds = if options.quick { 3 } else { 15 };
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let rows = chosen(&options.filters);
    if options.list {
        for row in &rows {
            let who: Vec<_> = row.cells.iter().map(|cell| cell.who).collect();
            println!("{}: {}", row.name, who.join(", "));
        }
        return ExitCode::SUCCESS;
    }
    ExitCode::from(stage::ahead_of_others(|| run(&options, &rows)))
}

fn run(options: &Options, rows: &[Row]) -> u8 {
    let &[first, second] = &stage::cores()[..] else {
        eprintln!("every row but a few needs two cores, and this process may use only one: nothing measured");
        return 1;
    };
    clock::calibrate();
    peers::begin();
    let context = Context::new(stage::Stage::new(), [first, second], options.quick);
    let mut answers = measure(rows, &context, options.rounds);
    let (usual, apart) = report::mark_apart(&mut answers);
    let all = answers.iter().flatten().flatten().count();
    let results: Vec<_> = rows.iter().zip(answers).map(|(row, answers)| Results { row, answers }).collect();
    if options.json {
        print!("{}", report::json(&results));
    } else {
        println!("{}", heading(options, &context));
        println!(
            "A cache line took {usual:.0} ns from core to core; {apart} of {all} answers were taken while \
             it took half as long again, and are left out.\n"
        );
        print!("{}{}", report::rows(&results), report::targets(&results));
    }
    0
}

/// The rows that the filters name, each with the candidates they name.
fn chosen(filters: &[String]) -> Vec<Row> {
    let mut rows = rows::all();
    let named = |name: &str, part: &str| name.to_lowercase().contains(part);
    for row in rows.iter_mut().filter(|_| !filters.is_empty()) {
        let parts = filters.iter().map(|filter| filter.split_once('@').unwrap_or((filter, "")));
        let wanted: Vec<_> = parts.filter(|(part, _)| named(row.name, part)).collect();
        row.cells.retain(|cell| wanted.iter().any(|(_, who)| named(cell.who, who)));
    }
    rows.retain(|row| !row.cells.is_empty());
    rows
}

/// All rounds: for each row the answers of each of its cells.
fn measure(rows: &[Row], context: &Context, rounds: usize) -> Vec<Vec<Answers>> {
    let empty = |row: &Row| row.cells.iter().map(|_| Vec::new()).collect();
    let mut answers: Vec<Vec<Answers>> = rows.iter().map(empty).collect();
    let terminal = std::io::stderr().is_terminal();
    let distance = || distance(context).unwrap_or(f64::INFINITY);
    let mut before = distance();
    for round in 0..rounds {
        for (row, answers) in rows.iter().zip(&mut answers) {
            if terminal {
                eprint!("\r\x1b[Kround {} of {rounds}: {}", round + 1, row.name);
            }
            for turn in 0..row.cells.len() {
                let at = (turn + round) % row.cells.len();
                let failed = answers[at].iter().filter(|a| a.outcome.is_err()).count();
                let outcome = match failed {
                    0 | 1 => (row.cells[at].run)(context),
                    _ => Err("failed twice, not asked again".into()),
                };
                let after = distance();
                answers[at].push(Answer { outcome, distance: before.max(after), apart: false });
                before = after;
                peers::sweep();
            }
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
    answers
}

fn heading(options: &Options, context: &Context) -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{model}, Linux {}, cores {} and {}; {}; medians of {} rounds{}; load average at the end {}.\n",
        kernel.trim(),
        context.cores[0],
        context.cores[1],
        clock::describe(),
        options.rounds,
        if options.quick { " (quick)" } else { "" },
        load.split(' ').next().unwrap_or("unknown"),
    )
}
