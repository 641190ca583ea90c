//! `conduit flow check`: what is wrong with a flow, by itself and on this machine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use conduit::flow::file::Read;
use conduit::flow::model::{Node, Step};
use conduit::flow::plan::At;
use conduit::yaml::{Fault, Place, Problem};
use serde_json::{Value as Json, json};

use super::{FlowArgs, find};
use crate::Context;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, harmless, print_json};
use crate::units;

pub fn run(args: &FlowArgs, context: &Context) -> Result {
    let (path, read) = find::read(args)?;
    let shown = path.display().to_string();
    let (problems, tasks) = match read {
        Ok(read) => (on_this_machine(&read), read.plan.tasks.len()),
        Err(problems) => (problems.0, 0),
    };
    if context.json {
        let problems: Vec<Json> = problems.iter().map(as_json).collect();
        print_json(&json!({ "file": shown, "ok": problems.is_empty(), "problems": problems }))?;
    }
    if problems.is_empty() {
        if !context.json {
            let mut out = Out::new();
            out.line(format_args!(
                "{}: {}, as it should be",
                harmless(&shown),
                units::several(tasks as u64, "step", "steps")
            ))?;
            out.flush()?;
        }
        return Ok(Outcome::Done);
    }
    let number = units::several(problems.len() as u64, "problem", "problems");
    if !context.json {
        for problem in &problems {
            eprint_line(&problem.to_string());
        }
    }
    Err(Failure::Usage(format!("{}: {number}", harmless(&shown))))
}

/// Nothing can be done about a standard error that is closed.
fn eprint_line(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{}", harmless(line));
}

fn as_json(problem: &Problem) -> Json {
    let mut json = match &problem.place {
        Place::File { name, line, column } => json!({ "file": name, "line": line, "column": column }),
        place => json!({ "option": place.to_string() }),
    };
    if !problem.key.is_empty() {
        json["key"] = problem.key.as_str().into();
    }
    json["problem"] = problem.fault.to_string().into();
    json
}

/// What it needs and this machine has not.
fn on_this_machine(read: &Read) -> Vec<Problem> {
    let search: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut problems = Vec::new();
    let mut check = |at: At, node: &Node| {
        let mut wrong = |key: &str, reason: String| {
            let unknown = || Place::File { name: read.flow.name.clone(), line: 1, column: 1 };
            let place = read.place(at).cloned().unwrap_or_else(unknown);
            problems.push(Problem { place, key: format!("{}.{key}", node.name), fault: Fault::Conflict(reason) });
        };
        let path = node.env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path);
        let own: Option<Vec<PathBuf>> = path.map(|path| std::env::split_paths(path).collect());
        if let Some(directory) = node.working_dir.as_deref().filter(|path| !path.is_dir()) {
            wrong("working_dir", format!("there is no directory {}", directory.display()));
        } else if let Some(reason) =
            fault_of(&node.program, node.working_dir.as_deref(), own.as_ref().unwrap_or(&search))
        {
            wrong("exec", reason);
        }
        let set = rustix::thread::sched_getaffinity(None);
        for cpu in &node.cpu {
            let is_there = *cpu < rustix::thread::CpuSet::MAX_CPU && set.as_ref().map_or(true, |set| set.is_set(*cpu));
            if !is_there {
                wrong("cpu", format!("there is no CPU {cpu} that this process may use"));
            }
        }
    };
    for (index, step) in read.flow.startup.iter().enumerate() {
        match step {
            Step::Node(node) | Step::Run(node) => check(At::Node(index, 0), node),
            Step::Group(nodes) => {
                nodes.iter().enumerate().for_each(|(place, node)| check(At::Node(index, place), node))
            }
            Step::Wait(_) => {}
        }
    }
    problems
}

/// Why this program cannot be started.
fn fault_of(program: &str, directory: Option<&Path>, search: &[PathBuf]) -> Option<String> {
    let is_executable = |path: &Path| {
        let file = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
        file.map(|file| file.permissions().mode() & 0o111 != 0)
    };
    let hint = if program.contains(' ') { "; arguments go to `args`" } else { "" };
    if program.contains('/') {
        let path = directory.unwrap_or(Path::new("")).join(program);
        return match is_executable(&path) {
            Some(true) => None,
            Some(false) => Some(format!("{} is not executable: chmod +x it", path.display())),
            None => Some(format!("there is no file {}{hint}", path.display())),
        };
    }
    let there = |directory: &PathBuf| is_executable(&directory.join(program)) == Some(true);
    (!search.iter().any(there)).then(|| {
        let beside = directory.unwrap_or(Path::new(".")).join(program);
        let meant = if beside.is_file() { format!("; did you mean `./{program}`?") } else { String::new() };
        format!("there is no program {program} in PATH{hint}{meant}")
    })
}
