//! The graph as text, and for programs that draw.

use std::fmt::Write;

use super::{Plan, StopKind, TaskId, TaskKind};
use crate::flow::model::{Check, Condition, Node, Wait};
use crate::yaml::quantity::show_duration;

impl Plan {
    /// What a task is called: a node by its name, a wait by what it waits for.
    pub fn label(&self, TaskId(id): TaskId) -> String {
        match self.tasks.get(id).map(|task| &task.kind) {
            Some(TaskKind::Node(node)) => node.name.clone(),
            Some(TaskKind::Run(node)) => format!("run {}", node.name),
            Some(TaskKind::Wait(wait)) => format!("wait {}", conditions(wait)),
            None => String::new(),
        }
    }

    /// For people: each task, what it needs and what it waits for, then the shutdown.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n\nstartup\n", self.name);
        let width = (0..self.tasks.len()).map(|id| self.label(TaskId(id)).chars().count()).max().unwrap_or(0).min(32);
        for (id, task) in self.tasks.iter().enumerate() {
            let needs: Vec<String> = task.needs.iter().map(|need| self.reference(*need)).collect();
            let mut line = format!("  {:>3}  {:width$}", id + 1, self.label(TaskId(id)));
            if !needs.is_empty() {
                let _ = write!(line, "  after {}", needs.join(", "));
            }
            if let TaskKind::Node(Node { ready: Some(ready), .. }) = &task.kind {
                let _ = write!(line, "  ready: {} within {}", check(&ready.check), show_duration(ready.timeout));
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out.push_str("\nshutdown\n");
        for (id, stop) in self.stops.iter().enumerate() {
            let after: Vec<String> = stop.after.iter().map(|after| self.stop_label(*after)).collect();
            let after = if after.is_empty() { String::new() } else { format!("  after {}", after.join(", ")) };
            let line = format!("  {:>3}  {:width$}{after}", id + 1, self.stop_label(id));
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let _ = writeln!(out, "  at most {}", show_duration(self.shutdown_bound()));
        out
    }

    /// As [Mermaid](https://mermaid.js.org) draws it.
    pub fn mermaid(&self) -> String {
        let mut out = String::from("flowchart TD\n");
        for (id, task) in self.tasks.iter().enumerate() {
            let label = entities(&self.label(TaskId(id)));
            let (open, close) = shape(&task.kind, ("[", "]"), ("[[", "]]"), ("([", "])"));
            let _ = writeln!(out, "    t{id}{open}\"{label}\"{close}");
        }
        for (id, task) in self.tasks.iter().enumerate() {
            task.needs.iter().for_each(|need| out.push_str(&format!("    t{} --> t{id}\n", need.0)));
        }
        out
    }

    /// As Graphviz draws it.
    pub fn dot(&self) -> String {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut out = format!("digraph \"{}\" {{\n", quoted(&self.name));
        for (id, task) in self.tasks.iter().enumerate() {
            let shape = shape(&task.kind, "box", "cds", "ellipse");
            let _ = writeln!(out, "    t{id} [label=\"{}\", shape={shape}];", quoted(&self.label(TaskId(id))));
        }
        for (id, task) in self.tasks.iter().enumerate() {
            task.needs.iter().for_each(|need| out.push_str(&format!("    t{} -> t{id};\n", need.0)));
        }
        out + "}\n"
    }

    /// The startup's tasks by when they begin at the earliest and are done at the latest, for people.
    pub fn dry_run(&self) -> String {
        let timeline = self.timeline();
        let at = |time: std::time::Duration| if time.is_zero() { "0s".into() } else { show_duration(time) };
        let mut out = String::from("earliest  deadline  step\n");
        for entry in &timeline.entries {
            let deadline = entry.deadline.map_or_else(|| "none".into(), at);
            let _ = writeln!(out, "{:>8}  {deadline:>8}  {}", at(entry.start), self.label(entry.task));
        }
        let deadline = timeline
            .deadline
            .map_or_else(|| "with no bound".into(), |time| format!("at the latest after {}", at(time)));
        let _ = writeln!(out, "\nup after {} if everything is ready at once, {deadline}", at(timeline.up));
        let _ = writeln!(out, "stopped after at most {}", at(timeline.shutdown));
        out
    }

    /// A wait has no name, so it goes by its number.
    fn reference(&self, id: TaskId) -> String {
        match &self.tasks[id.0].kind {
            TaskKind::Node(node) | TaskKind::Run(node) => node.name.clone(),
            TaskKind::Wait(_) => format!("wait {}", id.0 + 1),
        }
    }

    fn stop_label(&self, stop: usize) -> String {
        match self.stops[stop].kind {
            StopKind::Node(id) => self.reference(id),
            StopKind::Wait(time) => format!("wait {}", show_duration(time)),
        }
    }
}

fn shape<T>(kind: &TaskKind, node: T, run: T, wait: T) -> T {
    match kind {
        TaskKind::Node(_) => node,
        TaskKind::Run(_) => run,
        TaskKind::Wait(_) => wait,
    }
}

/// What would end a label, or be markup in it, by its number.
fn entities(text: &str) -> String {
    let escape = |c: char| if "\"#<>&".contains(c) { format!("#{};", u32::from(c)) } else { c.into() };
    text.chars().map(escape).collect()
}

fn check(check: &Check) -> String {
    match check {
        Check::Topic { topic, hz: None } => format!("topic {topic}"),
        Check::Topic { topic, hz: Some(hz) } => format!("topic {topic} at {hz} Hz"),
        Check::Log(expression) => format!("log {expression}"),
        Check::Exec(command) => format!("exec {command}"),
        Check::Notify => "notify".into(),
        Check::File(path) => format!("file {}", path.display()),
    }
}

fn conditions(wait: &Wait) -> String {
    let condition = |condition: &Condition| match condition {
        Condition::Time(time) => show_duration(*time),
        Condition::Topic(topic) => format!("topic:{topic}"),
        Condition::File(path) => format!("file:{}", path.display()),
        Condition::NodeReady(name) => format!("node:{name}=ready"),
        Condition::NodeExited(name) => format!("node:{name}=exited"),
    };
    wait.conditions.iter().map(condition).collect::<Vec<_>>().join(", ")
}
