//! Where flows are, and reading them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use conduit::flow::file::{self, MAX_FILE, Read};
use conduit::yaml::Problems;
use conduit::yaml::meant::nearest;
use conduit::yaml::text::harmless;

use super::FlowArgs;
use crate::outcome::{Failure, Result};

const ENDING: &str = ".flow.yaml";

/// A flow that is there.
pub struct Found {
    pub name: String,
    pub path: PathBuf,
    /// The comment that the file begins with, its first line.
    pub description: String,
}

/// `NAME=VALUE`.
pub fn assignment(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no NAME=VALUE"))?;
    Ok((name.into(), value.into()))
}

/// Where flows are looked for, in this order.
pub fn directories(first: Option<&Path>) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = first.map(Path::to_path_buf).into_iter().collect();
    directories.extend([".".into(), "flows".into()]);
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set("CONDUIT_FLOW_PATH") {
        directories.extend(std::env::split_paths(&path).filter(|path| !path.as_os_str().is_empty()));
    }
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));
    directories.extend(config.map(|config| config.join("conduit/flows")));
    directories.push("/etc/conduit/flows".into());
    directories
}

/// The flows there are, by their names. Of those of the same name, the first is the one that is run.
pub fn all(first: Option<&Path>) -> Vec<Found> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for directory in directories(first) {
        // Most of the directories are not there.
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(file) = entry.file_name().into_string() else { continue };
            let Some(name) = file.strip_suffix(ENDING).filter(|name| !name.is_empty()) else { continue };
            let path = directory.join(&file);
            if path.is_file() && !found.contains_key(name) {
                let description = description(&path);
                found.insert(name.into(), Found { name: name.into(), path, description });
            }
        }
    }
    found.into_values().collect()
}

fn description(path: &Path) -> String {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
    let text = read.map(|_| String::from_utf8_lossy(&start).into_owned()).unwrap_or_default();
    let comment = text.lines().map_while(|line| line.trim().strip_prefix('#').map(str::trim));
    comment.into_iter().find(|line| !line.is_empty()).unwrap_or_default().to_string()
}

/// The file of a flow, by its name or its path.
pub fn path_of(flow: &str, first: Option<&Path>) -> Result<PathBuf> {
    if flow.contains('/') || [".yaml", ".yml"].iter().any(|ending| flow.ends_with(ending)) {
        return Ok(flow.into());
    }
    let directories = directories(first);
    let there =
        directories.iter().map(|directory| directory.join(format!("{flow}{ENDING}"))).find(|path| path.is_file());
    there.map(|path| path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path)).ok_or_else(|| {
        let all = all(first);
        let near = nearest(flow, all.iter().map(|found| found.name.as_str()));
        let meant = near.map(|near| format!("; did you mean {}?", harmless(near))).unwrap_or_default();
        let looked: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
        let looked = harmless(&looked.join(", "));
        Failure::Usage(format!("there is no flow {}{ENDING} in {looked}{meant}", harmless(flow)))
    })
}

/// What became of reading a flow: the flow, or what is wrong with it.
pub type Outcome = std::result::Result<Read, Problems>;

/// Finds and reads a flow; tells where it is.
pub fn read(args: &FlowArgs) -> Result<(PathBuf, Outcome)> {
    let path = path_of(&args.flow, args.dir.as_deref())?;
    let read = read_at(&path, args)?;
    Ok((path, read))
}

/// Finds and reads a flow that is right.
pub fn read_good(args: &FlowArgs) -> Result<(PathBuf, Read)> {
    let (path, read) = read(args)?;
    Ok((path, good(read)?))
}

/// As [`read_good`], with the flow's paths from the root of the file system on, so that they are the same wherever a node works.
pub fn read_absolute(args: &FlowArgs) -> Result<(PathBuf, Read)> {
    let path = path_of(&args.flow, args.dir.as_deref())?;
    let path = std::path::absolute(&path).map_err(|error| Failure::Failed(format!("no working directory: {error}")))?;
    let read = good(read_at(&path, args)?)?;
    Ok((path, read))
}

fn good(read: Outcome) -> Result<Read> {
    read.map_err(|problems| Failure::Usage(crate::output::harmless_lines(&problems.to_string())))
}

fn read_at(path: &Path, args: &FlowArgs) -> Result<Outcome> {
    let shown = harmless(&path.display().to_string());
    let text = text(path).map_err(|error| Failure::Usage(format!("cannot read {shown}: {error}")))?;
    Ok(file::read(path, &text, &mut text_of, &args.set))
}

fn text_of(path: &Path) -> io::Result<String> {
    text(path)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than there may be, so that it is seen.
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Completes the name of a flow, or its file.
pub fn completer() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let flows = all(None).into_iter().filter(|found| found.name.starts_with(current));
        let described = |found: Found| {
            let help = (!found.description.is_empty()).then(|| harmless(&found.description).into());
            CompletionCandidate::new(found.name).help(help)
        };
        flows.map(described).collect()
    })
}
