//! A file and those that it includes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::keys;
use super::node::Defaults;
use super::section::{Reader, Section};
use super::vars::{Budget, Vars, is_name};
use crate::flow::model::{Step, StopStep};
use crate::flow::plan::At;
use crate::yaml::{self, Fault, Node, Place, Problem, Value};

/// Files within files.
const MAX_DEPTH: usize = 8;
/// Files of a flow.
const MAX_FILES: usize = 64;

/// What was read so far.
pub struct Files<'a> {
    include: &'a mut dyn FnMut(&Path) -> io::Result<String>,
    overrides: &'a [(String, String)],
    /// Names that somebody may give a value to.
    names: Vec<String>,
    budget: Budget,
    /// Those that are read, and those that are being read.
    seen: Vec<PathBuf>,
    open: Vec<PathBuf>,
    pub startup: Vec<Step>,
    pub shutdown: Option<Vec<StopStep>>,
    pub places: BTreeMap<At, Place>,
    pub problems: Vec<Problem>,
    /// Whether all nodes have names.
    pub is_whole: bool,
}

impl<'a> Files<'a> {
    pub fn new(include: &'a mut dyn FnMut(&Path) -> io::Result<String>, overrides: &'a [(String, String)]) -> Self {
        Files {
            include,
            overrides,
            names: Vec::new(),
            budget: Budget::new(),
            seen: Vec::new(),
            open: Vec::new(),
            startup: Vec::new(),
            shutdown: None,
            places: BTreeMap::new(),
            problems: Vec::new(),
            is_whole: true,
        }
    }

    /// Reads the outermost file and all others; returns the flow's name.
    pub fn root(&mut self, path: &Path, text: &str) -> String {
        let vars = Vars(self.overrides.iter().cloned().collect());
        let name = self.file(path, text, &vars, &Defaults::default());
        let known = Vars(self.names.iter().map(|name| (name.clone(), String::new())).collect());
        // An unreadable document has names that nobody knows.
        if self.is_whole {
            for (name, value) in self.overrides.iter().filter(|(name, _)| !known.0.contains_key(name)) {
                let place = Place::CommandLine { option: format!("-s {name}={value}") };
                self.problems.push(Problem { place, key: String::new(), fault: known.unknown(name) });
            }
        }
        name.unwrap_or_else(|| name_of(path))
    }

    fn file(&mut self, path: &Path, text: &str, told: &Vars, defaults: &Defaults) -> Option<String> {
        let shown = path.display().to_string();
        let mut reader = Reader::new(&shown, text);
        self.seen.push(normal(path));
        self.open.push(normal(path));
        let mut document = match yaml::parse(text) {
            Ok(document) => document,
            Err((fault, line, column)) => {
                let place = Place::File { name: shown, line, column };
                self.problems.push(Problem { place, key: String::new(), fault });
                self.is_whole = false;
                self.open.pop();
                return None;
            }
        };
        let vars = self.vars(&mut reader, &document, told);
        self.expand(&mut reader, &mut document, &vars, true);
        let mut name = None;
        if let Some(file) = reader.section(&document, "", keys::FILE) {
            if let Some(version) = file.get("version") {
                reader.whole(version, "version", 1..=1);
            }
            if let Some(node) = file.get("name") {
                name = super::node::name(&mut reader, node, "name");
            }
            let defaults = defaults.below(&mut reader, &file, path.parent().unwrap_or(Path::new("")));
            self.includes(&mut reader, &file, path, &vars, &defaults);
            if let Some(startup) = file.get("startup") {
                self.startup(&mut reader, startup, &defaults);
            }
            if let Some(shutdown) = file.get("shutdown") {
                if self.open.len() > 1 {
                    let reason = "an included file has none of its own; list its nodes in the outermost file's";
                    reader.conflict(shutdown, "shutdown", reason);
                } else {
                    self.shutdown(&mut reader, shutdown);
                }
            }
        } else {
            self.is_whole = false;
        }
        self.problems.append(&mut reader.problems);
        self.open.pop();
        name
    }

    /// The variables of a file: as they were told to it, else as it says.
    fn vars(&mut self, reader: &mut Reader<'_>, document: &Node, told: &Vars) -> Vars {
        let mut vars = told.clone();
        let Value::Map(entries) = &document.value else { return vars };
        let found = entries.iter().find(|(key, _)| key.value == Value::Text("vars".into()));
        let Some((_, node)) = found.filter(|(_, node)| node.value != Value::Nothing) else { return vars };
        let Value::Map(entries) = &node.value else {
            reader.wrong(node, "vars", "a mapping of names to values");
            return vars;
        };
        for (key, node) in entries {
            let Value::Text(name) = &key.value else {
                reader.wrong(key, "vars", "a name");
                continue;
            };
            if !is_name(name) {
                reader.wrong(key, "vars", "a name of letters, digits and _, no digit first, at most 64");
                continue;
            }
            self.names.push(name.clone());
            let path = format!("vars.{name}");
            let Some(text) = reader.text(node, &path, "text or a number") else { continue };
            match vars.expand(&text, &mut self.budget, &mut self.names) {
                Ok(text) => {
                    vars.0.entry(name.clone()).or_insert(text);
                }
                Err(fault) => reader.problem(node, &path, fault),
            }
        }
        vars
    }

    /// Puts values in the place of variables everywhere but in `vars`.
    fn expand(&mut self, reader: &mut Reader<'_>, node: &mut Node, vars: &Vars, is_file: bool) {
        let expanded = match &mut node.value {
            Value::List(nodes) => return nodes.iter_mut().for_each(|node| self.expand(reader, node, vars, false)),
            Value::Map(entries) => {
                // Those of `vars` have their values by now.
                let is_vars = |key: &Node| is_file && key.value == Value::Text("vars".into());
                for (_, node) in entries.iter_mut().filter(|(key, _)| !is_vars(key)) {
                    self.expand(reader, node, vars, false);
                }
                return;
            }
            Value::Text(text) if text.contains("${") => vars.expand(text, &mut self.budget, &mut self.names),
            _ => return,
        };
        match expanded {
            Ok(text) => node.value = Value::Text(text),
            Err(fault) => reader.problem(node, "", fault),
        }
    }

    fn includes(&mut self, reader: &mut Reader<'_>, file: &Section<'_>, path: &Path, vars: &Vars, defaults: &Defaults) {
        let Some(list) = file.get("include") else { return };
        for node in reader.items(list) {
            let Some(name) = reader.word(node, "include", "the path of a file") else { continue };
            let included = beside(path, Path::new(&name));
            let known = normal(&included);
            if self.open.contains(&known) {
                let shown: Vec<_> = self.open.iter().map(|path| path.display().to_string()).collect();
                let circle = format!("files include each other: {} -> {}", shown.join(" -> "), known.display());
                reader.conflict(node, "include", circle);
                continue;
            }
            // Twice would start everything twice.
            if self.seen.contains(&known) {
                continue;
            }
            if self.open.len() > MAX_DEPTH || self.seen.len() >= MAX_FILES {
                let reason = format!("more than {MAX_FILES} files, or more than {MAX_DEPTH} within each other");
                reader.problem(node, "include", Fault::Excess(reason));
                continue;
            }
            match (self.include)(&included) {
                Ok(text) => {
                    self.file(&included, &text, vars, defaults);
                }
                Err(error) => {
                    self.is_whole = false;
                    reader.conflict(node, "include", format!("cannot read {}: {error}", included.display()));
                }
            }
        }
    }
}

/// Where a path of a file leads.
pub fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

/// Without `.` and `..`, as far as that can be known.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(parts.components().next_back(), Some(Component::Normal(_))) => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

fn name_of(path: &Path) -> String {
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let endings = [".flow.yaml", ".flow.yml", ".yaml", ".yml"];
    let name = endings.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(&file);
    if name.is_empty() { "flow".into() } else { name.into() }
}
