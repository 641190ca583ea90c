//! Reading a flow from its file.
//!
//! | key | value |
//! |---|---|
//! | `version` | `1`, if it is there |
//! | `name` | what the flow goes by; else the file's name without `.flow.yaml` |
//! | `vars` | `{ name: value }`: `${name}` stands for it in every value below, `${name:-otherwise}` also if there is none |
//! | `env` | variables of the environment, for all nodes of the file and of those it includes |
//! | `defaults` | `stop` and `restart` for the same nodes |
//! | `include` | files, from where this one is: their startup comes before this one's |
//! | `startup` | a list of steps: a name, `name:`, `group:`, `run:` or `wait:` |
//! | `shutdown` | a list of names, `group:` and `wait:`; by default the reverse of the startup |
//!
//! A node has `exec` (by default its name), `args`, `env`, `working_dir`, `ready`, `alive`, `restart`, `stop`, `cpu` and `needs`.
//!
//! Times have a unit: `ns`, `us`, `ms`, `s`, `m`, `h`. What is not said is: `stop: { signal: SIGINT, timeout: 5s }`,
//! `restart: never`; of a mapping under `restart`: `{ policy: on-failure, backoff: 200ms..10s, max: 5, window: 1m, then: stop-flow }`;
//! `timeout: 30s` of `ready` and `wait`; of an `alive` by `exec`: `{ every: 5s, timeout: 5s }`.
//!
//! Paths are relative to the file that they stand in, but `exec`, which is looked up in `PATH` or, with a slash in it, from the
//! node's working directory, and a `ready` file, which is looked for from there, too.
//!
//! What is nearer to a node wins: its own `env` before the file's, and that before the one of the file that includes it. With
//! `vars` it is the other way round, as they are what a file is told by who includes it.

mod document;
mod keys;
mod node;
mod section;
mod signal;
mod step;
#[cfg(test)]
mod tests;
mod vars;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::model::Flow;
use super::plan::{At, Plan};
use crate::yaml::{Fault, Place, Problem, Problems};

pub use signal::name as signal_name;

/// Bytes of the largest file.
pub use crate::yaml::MAX_FILE;

/// The JSON Schema of a flow file, for editors.
pub const SCHEMA: &str = include_str!("schema.json");

/// A flow, its graph, and where each part of it was said.
#[derive(Clone, PartialEq, Debug)]
pub struct Read {
    /// What the file says.
    pub flow: Flow,
    /// The graph of it.
    pub plan: Plan,
    places: BTreeMap<At, Place>,
}

impl Read {
    /// Where a part of the flow was said.
    pub fn place(&self, at: At) -> Option<&Place> {
        self.places.get(&at)
    }
}

/// Reads a flow from the text of its file.
///
/// `include` is asked for the text of the files that are included, by their paths from where `path` starts. `overrides` are
/// values of variables, whatever the files say.
///
/// All paths in the flow can be used as `path` can: relative ones begin where that one does.
///
/// # Errors
///
/// All that is wrong with the files and with the [`Plan`] they make, each with its place. The number that is kept is bounded.
pub fn read(
    path: &Path,
    text: &str,
    include: &mut dyn FnMut(&Path) -> io::Result<String>,
    overrides: &[(String, String)],
) -> Result<Read, Problems> {
    let mut files = document::Files::new(include, overrides);
    let name = files.root(path, text);
    let document::Files { startup, shutdown, mut places, mut problems, is_whole, .. } = files;
    let flow = Flow { name, startup, shutdown };
    if flow.startup.is_empty() && problems.is_empty() {
        let place = places.remove(&At::Step(0)).unwrap_or_else(|| start_of(path));
        let fault = Fault::Conflict("there is nothing to start; list it under `startup`".into());
        problems.push(Problem { place, key: "startup".into(), fault });
    }
    // Where a step has no name, others may need it rightly.
    if is_whole {
        match Plan::new(&flow) {
            Ok(plan) if problems.is_empty() => return Ok(Read { flow, plan, places }),
            Ok(_) => {}
            Err(faults) => problems.extend(faults.into_iter().map(|fault| {
                let place = places.get(&fault.at).cloned().unwrap_or_else(|| start_of(path));
                let key = match fault.at {
                    At::Stop(_) | At::StopNode(..) => "shutdown",
                    _ => "startup",
                };
                Problem { place, key: key.into(), fault: Fault::Conflict(fault.reason.to_string()) }
            })),
        }
    }
    problems.sort_by_key(|problem| match &problem.place {
        Place::File { name, line, column } => (name.clone(), *line, *column),
        _ => (String::new(), 0, 0),
    });
    Err(Problems(problems))
}

fn start_of(path: &Path) -> Place {
    Place::File { name: path.display().to_string(), line: 1, column: 1 }
}
