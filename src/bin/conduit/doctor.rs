//! `conduit doctor`: whether this machine is as topics want it, and what to do where it is not.

mod checks;

use serde_json::json;

use crate::Context;
use crate::outcome::{Outcome, Result};
use crate::output::{COLUMNS, Out, print_json, wrap};

/// Check this machine: shared memory, limits, kernel, clock, stale topics
///
/// Exits with 3 if something costs speed or safety.
#[derive(clap::Args)]
pub struct Args {}

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Worth knowing, and no trouble.
    Note,
    /// Costs speed or safety.
    Warning,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Good => "ok",
            Verdict::Note => "note",
            Verdict::Warning => "warning",
        }
    }
}

/// What was found about one thing.
struct Finding {
    name: &'static str,
    verdict: Verdict,
    value: String,
    /// What it means and what to do; empty if there is nothing to do. Commands are on lines of their own, which begin with
    /// a space and are never broken.
    advice: String,
}

impl Finding {
    fn new(name: &'static str, verdict: Verdict, value: impl Into<String>) -> Self {
        Finding { name, verdict, value: value.into(), advice: String::new() }
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

pub fn run(_: &Args, context: &Context) -> Result {
    let findings = checks::all();
    let degraded = findings.iter().filter(|finding| finding.verdict == Verdict::Warning).count();
    if context.json {
        let checks: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "check": finding.name,
                    "verdict": finding.verdict.name(),
                    "value": finding.value,
                    "advice": (!finding.advice.is_empty()).then(|| finding.advice.replace('\n', " ").replace("  ", " ")),
                })
            })
            .collect();
        print_json(&json!({ "healthy": degraded == 0, "checks": checks }))?;
    } else {
        let mut out = Out::new();
        let style = out.style;
        for finding in &findings {
            let mark = format!("{:7}", finding.verdict.name());
            let mark = match finding.verdict {
                Verdict::Good => style.good(mark),
                Verdict::Note => style.bold(mark),
                Verdict::Warning => style.warning(mark),
            };
            out.line(format_args!("{mark}  {:19}  {}", finding.name, finding.value))?;
            const INDENT: usize = 30;
            let lines = finding.advice.lines().flat_map(|line| match line.strip_prefix(' ') {
                Some(command) => vec![format!("  {command}")],
                None => wrap(line, COLUMNS - INDENT),
            });
            for line in lines {
                out.line(format_args!("{:INDENT$}{}", "", style.dim(line)))?;
            }
        }
        out.flush()?;
    }
    Ok(if degraded == 0 { Outcome::Done } else { Outcome::Degraded })
}
