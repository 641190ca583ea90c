//! The rows of the report: each a question asked of several candidates, with what Conduit should answer.

pub mod command;
pub mod fanout;
pub mod ingest;
pub mod kernel;
pub mod latency;
pub mod limits;
pub mod links;
pub mod opening;
pub mod publish;
pub mod recording;
pub mod throughput;
pub mod wake;

use crate::peers::Setup;
use crate::stage::{Role, Stage};
use std::cell::Cell as Counter;
use std::time::Duration;

/// Figures by key: times in nanoseconds, rates in messages a second, or counts.
pub type Figures = Vec<(&'static str, f64)>;
pub type Outcome = Result<Figures, String>;

pub struct Row {
    pub name: &'static str,
    /// What was done, for whoever reads the table.
    pub note: &'static str,
    pub columns: Vec<Column>,
    pub cells: Vec<Cell>,
    pub targets: Vec<Target>,
}

pub struct Column {
    pub key: &'static str,
    pub title: &'static str,
    pub unit: Unit,
}

#[derive(Clone, Copy)]
pub enum Unit {
    Time,
    Rate,
    Count,
}

/// One candidate's answer to a row.
pub struct Cell {
    pub who: &'static str,
    pub run: fn(&Context) -> Outcome,
}

/// What Conduit's figure has to be: a limit by itself, or a ratio to the best of some peers' figures of the same key.
pub struct Target {
    pub who: &'static str,
    pub key: &'static str,
    pub against: &'static [&'static str],
    pub limit: Limit,
}

#[derive(Clone, Copy)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    pub fn new(name: &'static str, note: &'static str) -> Self {
        Row { name, note, columns: Vec::new(), cells: Vec::new(), targets: Vec::new() }
    }

    pub fn column(mut self, key: &'static str, title: &'static str, unit: Unit) -> Self {
        self.columns.push(Column { key, title, unit });
        self
    }

    pub fn cell(mut self, who: &'static str, run: fn(&Context) -> Outcome) -> Self {
        self.cells.push(Cell { who, run });
        self
    }

    /// A candidate that is there only with a feature of this crate.
    #[cfg(feature = "zenoh")]
    pub fn also(&mut self, who: &'static str, run: fn(&Context) -> Outcome) {
        self.cells.push(Cell { who, run });
    }

    pub fn target(
        mut self,
        who: &'static str,
        key: &'static str,
        against: &'static [&'static str],
        limit: Limit,
    ) -> Self {
        self.targets.push(Target { who, key, against, limit });
        self
    }
}

/// What a cell needs to run.
pub struct Context {
    pub stage: &'static Stage,
    pub cores: [usize; 2],
    pub quick: bool,
    topics: Counter<u32>,
}

impl Context {
    pub fn new(stage: &'static Stage, cores: [usize; 2], quick: bool) -> Self {
        let topics = Counter::new(0);
        Context { stage, cores, quick, topics }
    }

    /// A topic of a name that was never used before.
    pub fn topic(&self, depth: usize) -> Setup {
        self.topics.set(self.topics.get() + 1);
        Setup {
            name: format!("b{}-{}", std::process::id(), self.topics.get()),
            depth,
            lossless: false,
            sleepers: false,
            subscribers: 1,
        }
    }

    /// How long a cell measures.
    pub fn time(&self) -> Duration {
        Duration::from_millis(if self.quick { 60 } else { 150 })
    }

    pub fn play(&self, roles: Vec<Role>) -> Result<(), String> {
        self.stage.play(roles, Duration::from_secs(20))
    }
}

/// Every row, in the order of the report.
pub fn all() -> Vec<Row> {
    [
        limits::rows(),
        kernel::rows(),
        latency::rows(),
        publish::rows(),
        throughput::rows(),
        fanout::rows(),
        wake::rows(),
        opening::rows(),
        recording::rows(),
        links::rows(),
        ingest::rows(),
        command::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
