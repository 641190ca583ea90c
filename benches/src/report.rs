//! The tables: Markdown with aligned columns, so that what a terminal shows can be pasted as it is.

use crate::rows::{Cell, Limit, Outcome, Row, Target, Unit};
use crate::stats::median;
use std::fmt::Write;

/// What one candidate said in one round, or why it said nothing.
pub struct Answer {
    pub outcome: Outcome,
    /// What a cache line took from core to core around that time, the slower of before and after.
    pub distance: f64,
    /// Whether that is too far from the usual for this answer to be compared with others.
    pub apart: bool,
}

pub type Answers = Vec<Answer>;

/// Marks the answers taken while the cores were half as far apart again as in the best tenth.
/// Returns the usual distance, and how many were marked.
pub fn mark_apart(answers: &mut [Vec<Answers>]) -> (f64, usize) {
    let each = || answers.iter().flatten().flatten().map(|a| a.distance);
    let mut distances: Vec<f64> = each().collect();
    distances.sort_unstable_by(f64::total_cmp);
    let usual = distances.get(distances.len() / 10).copied().unwrap_or(0.0);
    let mut marked = 0;
    for answer in answers.iter_mut().flatten().flatten() {
        answer.apart = answer.distance > 1.5 * usual;
        marked += usize::from(answer.apart);
    }
    (usual, marked)
}

/// A row with the answers of its cells, in the same order.
pub struct Results<'a> {
    pub row: &'a Row,
    pub answers: Vec<Answers>,
}

impl Results<'_> {
    fn cells(&self) -> impl Iterator<Item = (&Cell, &Answers)> {
        self.row.cells.iter().zip(&self.answers)
    }

    fn of(&self, who: &str) -> Option<&Answers> {
        self.cells().find(|(cell, _)| cell.who == who).map(|(_, a)| a)
    }
}

fn figure(answer: &Answer, key: &str) -> Option<f64> {
    let figures = answer.outcome.as_ref().ok()?;
    figures.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
}

/// The median over the rounds that have the figure, without those taken while the cores were apart
/// unless there are no others. Losses are added up instead: one is one too many.
fn middle(answers: &Answers, key: &str) -> Option<f64> {
    let values = |apart: bool| -> Vec<f64> {
        let wanted = answers.iter().filter(|a| apart || !a.apart);
        wanted.filter_map(|a| figure(a, key)).collect()
    };
    match key {
        "lost" => Some(values(true)).filter(|v| !v.is_empty()).map(|v| v.iter().sum()),
        _ => median(&values(false)).or_else(|| median(&values(true))),
    }
}

/// The median over rounds of one round's ratio, because both were measured within seconds of each
/// other; again without those taken while the cores were apart.
fn ratio(ours: &Answers, theirs: &Answers, key: &str) -> Option<f64> {
    let ratios = |apart: bool| -> Vec<f64> {
        let both = ours.iter().zip(theirs).filter(|(a, b)| apart || !(a.apart || b.apart));
        both.filter_map(|(a, b)| Some(figure(a, key)? / figure(b, key)?)).collect()
    };
    median(&ratios(false)).or_else(|| median(&ratios(true)))
}

pub fn rows(results: &[Results]) -> String {
    let mut out = String::new();
    for result in results {
        let row = result.row;
        let titles = row.columns.iter().map(|c| c.title.to_string());
        let mut table = vec![std::iter::once(String::new()).chain(titles).collect()];
        for (cell, answers) in result.cells() {
            let mut line = vec![cell.who.to_string()];
            for column in &row.columns {
                let shown = middle(answers, column.key).map(|v| show(v, column.unit));
                line.push(shown.unwrap_or_else(|| "–".into()));
            }
            table.push(line);
        }
        let _ = writeln!(out, "### {}\n\n{}.\n", row.name, row.note);
        out += &aligned(&table);
        for (cell, answers) in result.cells() {
            let mut failures = answers.iter().filter_map(|a| a.outcome.as_ref().err());
            if let Some(why) = failures.next() {
                let rounds = failures.count() + 1;
                let _ = writeln!(out, "\n{} failed in {rounds} rounds: {why}", cell.who);
            }
        }
        out.push('\n');
    }
    out
}

pub fn targets(results: &[Results]) -> String {
    let head = ["row", "candidate", "figure", "compared with", "ratio", "target", ""];
    let mut table = vec![head.map(String::from).to_vec()];
    for result in results {
        for target in &result.row.targets {
            table.extend(verdict(result, target));
        }
    }
    match table.len() {
        1 => String::new(),
        _ => format!("### Targets\n\n{}", aligned(&table)),
    }
}

/// The peer of a target with the best figure: the least where Conduit's has to be at most so much. By the medians of all
/// rounds; the best of each round would be the one that was lucky.
fn best<'a>(result: &'a Results, target: &Target) -> Option<(&'static str, &'a Answers)> {
    let peers = target.against.iter().filter_map(|&peer| Some((peer, result.of(peer)?)));
    let cost = |answers| match (middle(answers, target.key), target.limit) {
        (None, _) => f64::INFINITY,
        (Some(figure), Limit::AtMost(_)) => figure,
        (Some(figure), Limit::AtLeast(_)) => -figure,
    };
    peers.min_by(|a, b| cost(a.1).total_cmp(&cost(b.1)))
}

fn verdict(result: &Results, target: &Target) -> Option<Vec<String>> {
    let ours = result.of(target.who)?;
    let column = result.row.columns.iter().find(|c| c.key == target.key)?;
    let value = middle(ours, target.key);
    let (compared, ratio, judged) = if target.against.is_empty() {
        ("–".into(), "–".into(), value)
    } else {
        let (peer, theirs) = best(result, target)?;
        let ratio = ratio(ours, theirs, target.key);
        let figure = middle(theirs, target.key).map_or("–".into(), |v| show(v, column.unit));
        let shown = ratio.map_or("–".into(), |r| format!("{r:.2}x"));
        (format!("{peer}: {figure}"), shown, ratio)
    };
    let bound = |v: f64| if target.against.is_empty() { show(v, column.unit) } else { format!("{v}x") };
    let (wanted, met) = match target.limit {
        Limit::AtMost(most) => (format!("at most {}", bound(most)), judged.map(|v| v <= most)),
        Limit::AtLeast(least) => (format!("at least {}", bound(least)), judged.map(|v| v >= least)),
    };
    Some(vec![
        format!("{}, {}", result.row.name, column.title),
        target.who.to_string(),
        value.map_or("–".into(), |v| show(v, column.unit)),
        compared,
        ratio,
        wanted,
        met.map_or("?", |met| if met { "✓" } else { "✗" }).to_string(),
    ])
}

/// One object a line: a candidate's medians in a row.
pub fn json(results: &[Results]) -> String {
    let mut out = String::new();
    for result in results {
        for (cell, answers) in result.cells() {
            let rounds = answers.iter().filter(|a| a.outcome.is_ok()).count();
            let _ = write!(out, r#"{{"row":"{}","candidate":"{}","rounds":{rounds}"#, result.row.name, cell.who);
            for column in &result.row.columns {
                if let Some(value) = middle(answers, column.key) {
                    let _ = write!(out, r#","{}":{value:.3}"#, column.key);
                }
            }
            out += "}\n";
        }
    }
    out
}

fn show(value: f64, unit: Unit) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let fits = |&&(size, _): &&(f64, &str)| value >= size;
        let last = steps.len() - 1;
        let (size, name) = steps.iter().find(fits).unwrap_or(&steps[last]);
        match value / size {
            v if v < 9.995 => format!("{v:.2} {name}"),
            v if v < 99.95 => format!("{v:.1} {name}"),
            v => format!("{v:.0} {name}"),
        }
    };
    match unit {
        Unit::Time => scaled(&[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")]),
        Unit::Rate => scaled(&[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]),
        Unit::Count => format!("{value}"),
    }
}

/// A Markdown table whose first row is its head; figures to the right, all columns of one width.
fn aligned(table: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = table.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    let mut out = String::new();
    for (at, line) in table.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(out, "| {cell:<width$} "),
                _ => write!(out, "| {cell:>width$} "),
            };
        }
        out += "|\n";
        if at == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                let _ = match column {
                    0 => write!(out, "| {dashes}- "),
                    _ => write!(out, "| {dashes}: "),
                };
            }
            out += "|\n";
        }
    }
    out
}
