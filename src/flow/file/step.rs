//! The steps of the startup and of the shutdown.

use std::path::PathBuf;

use super::document::Files;
use super::keys;
use super::node::{self, Defaults, TIMEOUT};
use super::section::{Reader, below};
use crate::flow::model::{Condition, Node, Policy, Step, StopStep, Wait};
use crate::flow::plan::At;
use crate::yaml::meant::nearest;
use crate::yaml::quantity::duration;
use crate::yaml::{self, Fault, Value};

/// Nodes of a flow, and steps.
const MAX_STEPS: usize = 1000;

const CONDITION: &str =
    "500ms, topic:NAME, file:PATH, node:NAME=ready or node:NAME=exited, without a space behind the colon";

impl Files<'_> {
    pub fn startup(&mut self, reader: &mut Reader<'_>, list: &yaml::Node, defaults: &Defaults) {
        let Value::List(steps) = &list.value else {
            reader.wrong(list, "startup", "a list of steps");
            self.is_whole = false;
            return;
        };
        if steps.is_empty() {
            self.places.entry(At::Step(self.startup.len())).or_insert(reader.place(list));
        }
        for (at, item) in steps.iter().enumerate() {
            if self.startup.len() >= MAX_STEPS {
                reader.problem(item, "startup", Fault::Excess(format!("more than {MAX_STEPS} steps")));
                return;
            }
            let step = self.step(reader, item, &format!("startup[{at}]"), defaults);
            self.places.insert(At::Step(self.startup.len()), reader.place(item));
            match step {
                Some(step) => self.startup.push(step),
                None => self.is_whole = false,
            }
        }
    }

    fn step(&mut self, reader: &mut Reader<'_>, item: &yaml::Node, path: &str, defaults: &Defaults) -> Option<Step> {
        let Value::Map(entries) = &item.value else {
            return self.node(reader, item, path, 0, defaults).map(Step::Node);
        };
        let has = |key: &str| entries.iter().any(|(name, _)| name.value == Value::Text(key.into()));
        if has("wait") {
            let section = reader.section(item, path, keys::WAIT)?;
            let timeout = section.get("timeout").and_then(|node| reader.time(node, &section.path("timeout")));
            let Some(list) = section.get("wait") else {
                reader.wrong(item, &section.path("wait"), CONDITION);
                return None;
            };
            let mut conditions = Vec::new();
            for node in reader.items(list) {
                let condition = self.condition(reader, node, &section.path("wait"), defaults);
                let at = At::Condition(self.startup.len(), conditions.len());
                if let Some(condition) = condition {
                    self.places.insert(at, reader.place(node));
                    conditions.push(condition);
                }
            }
            // What is wrong with all of them was said.
            if conditions.is_empty() && !reader.items(list).is_empty() {
                return None;
            }
            return Some(Step::Wait(Wait { conditions, timeout: timeout.unwrap_or(TIMEOUT) }));
        }
        if has("group") {
            let section = reader.section(item, path, keys::GROUP)?;
            let list = section.get("group").unwrap_or(item);
            let needs = section.get("needs").map(|node| (node::needs(reader, node, &section.path("needs")), node));
            let Value::List(members) = &list.value else {
                reader.wrong(list, &section.path("group"), "a list of nodes");
                return None;
            };
            let mut nodes = Vec::new();
            for (at, member) in members.iter().take(MAX_STEPS).enumerate() {
                let path = format!("{}[{at}]", section.path("group"));
                let place = nodes.len();
                let Some(mut node) = self.node(reader, member, &path, place, defaults) else {
                    self.is_whole = false;
                    continue;
                };
                if let (None, Some((needs, list))) = (&node.needs, &needs) {
                    self.need_places(reader, list, place);
                    node.needs = Some(needs.clone());
                }
                nodes.push(node);
            }
            return Some(Step::Group(nodes));
        }
        if has("run") {
            let section = reader.section(item, path, keys::RUN)?;
            self.places.insert(At::Node(self.startup.len(), 0), reader.place(item));
            if let Some(list) = section.get("needs") {
                self.need_places(reader, list, 0);
            }
            let mut node = node::full(reader, &section, "run", defaults)?;
            if node.restart.policy == Policy::Always {
                match section.get("restart") {
                    Some(node) => reader.conflict(node, &section.path("restart"), "what is run once is not run always"),
                    None => node.restart.policy = Policy::OnFailure,
                }
            }
            return Some(Step::Run(node));
        }
        self.node(reader, item, path, 0, defaults).map(Step::Node)
    }

    fn node(
        &mut self,
        reader: &mut Reader<'_>,
        item: &yaml::Node,
        path: &str,
        place: usize,
        defaults: &Defaults,
    ) -> Option<Node> {
        self.places.insert(At::Node(self.startup.len(), place), reader.place(item));
        if !matches!(item.value, Value::Map(_)) {
            return node::plain(reader, item, path, defaults);
        }
        let section = reader.section(item, path, keys::NODE)?;
        if let Some(list) = section.get("needs") {
            self.need_places(reader, list, place);
        }
        node::full(reader, &section, "exec", defaults)
    }

    fn need_places(&mut self, reader: &Reader<'_>, list: &yaml::Node, place: usize) {
        for (need, node) in reader.items(list).iter().enumerate() {
            self.places.insert(At::Need(self.startup.len(), place, need), reader.place(node));
        }
    }

    fn condition(
        &mut self,
        reader: &mut Reader<'_>,
        node: &yaml::Node,
        key: &str,
        defaults: &Defaults,
    ) -> Option<Condition> {
        let Value::Text(text) = &node.value else {
            if matches!(node.value, Value::Integer(_)) {
                return reader.time(node, key).map(Condition::Time);
            }
            reader.wrong(node, key, CONDITION);
            return None;
        };
        let Some((kind, rest)) = text.split_once(':') else {
            if duration(text).is_err() {
                reader.wrong(node, key, CONDITION);
                return None;
            }
            return reader.time(node, key).map(Condition::Time);
        };
        match kind {
            "topic" => reader.check_topic(node, key, rest).then(|| Condition::Topic(rest.into())),
            "file" if !rest.is_empty() && !rest.contains('\0') => {
                let path: PathBuf = defaults.directory.join(rest);
                Some(Condition::File(path))
            }
            "node" => match rest.split_once('=') {
                Some((name, "ready")) => Some(Condition::NodeReady(name.into())),
                Some((name, "exited")) => Some(Condition::NodeExited(name.into())),
                _ => {
                    reader.wrong(node, key, "node:NAME=ready or node:NAME=exited");
                    None
                }
            },
            _ => {
                let near = nearest(kind, ["topic", "file", "node"].into_iter());
                let meant = near.map(|near| format!("; did you mean `{near}:`?")).unwrap_or_default();
                let found = format!("{}{meant}", node.value.describe());
                reader.problem(node, key, Fault::Wrong { expected: CONDITION.into(), found });
                None
            }
        }
    }

    pub fn shutdown(&mut self, reader: &mut Reader<'_>, list: &yaml::Node) {
        let Value::List(items) = &list.value else {
            reader.wrong(list, "shutdown", "a list of nodes, groups and waits");
            return;
        };
        let mut steps: Vec<StopStep> = Vec::new();
        for (index, item) in items.iter().take(2 * MAX_STEPS).enumerate() {
            let path = format!("shutdown[{index}]");
            let at = steps.len();
            self.places.insert(At::Stop(at), reader.place(item));
            self.places.insert(At::StopNode(at, 0), reader.place(item));
            if !matches!(item.value, Value::Map(_)) {
                steps.extend(reader.word(item, &path, "the name of a node").map(StopStep::Node));
                continue;
            }
            let Some(section) = reader.section(item, &path, keys::STOPPING) else { continue };
            match (section.get("group"), section.get("wait")) {
                (Some(list), None) => {
                    let mut names = Vec::new();
                    for node in reader.items(list) {
                        self.places.insert(At::StopNode(at, names.len()), reader.place(node));
                        names.extend(reader.word(node, &below(&path, "group"), "the name of a node"));
                    }
                    steps.push(StopStep::Group(names));
                }
                (None, Some(node)) => {
                    steps.extend(reader.time(node, &below(&path, "wait")).map(StopStep::Wait));
                }
                _ => reader.wrong(item, &path, "the name of a node, `group` or `wait`"),
            }
        }
        self.shutdown = Some(steps);
    }
}
