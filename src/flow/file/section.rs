//! Reading the parts of a document, and remembering what is wrong with them.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::yaml::meant::nearest;
use crate::yaml::quantity::{duration, show_duration};
use crate::yaml::{self, Fault, Node, Place, Problem, Value};

/// Problems that are kept. Who has more has given another kind of file.
const MAX_PROBLEMS: usize = 200;

/// From when on nothing is as short as it seems: a time that no flow waits.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A file's text and what is wrong with it.
pub struct Reader<'a> {
    pub file: &'a str,
    lines: Vec<&'a str>,
    pub problems: Vec<Problem>,
}

/// A mapping whose keys are known.
pub struct Section<'n> {
    pub node: &'n Node,
    pub path: String,
    entries: Vec<(&'static str, &'n Node)>,
}

impl<'n> Section<'n> {
    /// `None` also for a key without a value.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(name, node)| *name == key && node.value != Value::Nothing).map(|(_, node)| *node)
    }

    /// The path of one of its keys.
    pub fn path(&self, key: &str) -> String {
        below(&self.path, key)
    }
}

pub fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Reader { file, lines: text.lines().collect(), problems: Vec::new() }
    }

    pub fn place(&self, node: &Node) -> Place {
        Place::File { name: self.file.into(), line: node.line, column: node.column }
    }

    pub fn problem(&mut self, node: &Node, key: &str, fault: Fault) {
        if self.problems.len() < MAX_PROBLEMS {
            let place = self.place(node);
            self.problems.push(Problem { place, key: key.into(), fault });
        }
    }

    pub fn wrong(&mut self, node: &Node, key: &str, expected: impl Into<String>) {
        self.problem(node, key, Fault::Wrong { expected: expected.into(), found: node.value.describe() });
    }

    pub fn conflict(&mut self, node: &Node, key: &str, reason: impl Into<String>) {
        self.problem(node, key, Fault::Conflict(reason.into()));
    }

    /// A mapping with some of these keys.
    pub fn section<'n>(&mut self, node: &'n Node, path: &str, keys: &'static [&'static str]) -> Option<Section<'n>> {
        let Value::Map(map) = &node.value else {
            self.wrong(node, path, format!("a mapping with some of {}", keys.join(", ")));
            return None;
        };
        let mut entries = Vec::new();
        for (name, value) in map {
            let word = match &name.value {
                // Longer ones are none that there are.
                Value::Text(text) => text.chars().take(80).collect(),
                other => other.describe(),
            };
            match keys.iter().find(|key| **key == word) {
                Some(key) => entries.push((*key, value)),
                None => {
                    let meant = nearest(&word, keys.iter().copied()).map(String::from);
                    let word = yaml::text::harmless(&word);
                    self.problem(name, &below(path, &word), Fault::Unknown { meant });
                }
            }
        }
        Some(Section { node, path: path.into(), entries })
    }

    /// The items of a list; of a single value, that.
    pub fn items<'n>(&self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(nodes) => nodes,
            _ => std::slice::from_ref(node),
        }
    }

    /// Text. A number is taken where it stands as it would be written: `1.50` and `0x10` have to be quoted.
    pub fn text(&mut self, node: &Node, key: &str, expected: &str) -> Option<String> {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Truth(truth) => truth.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Number(number) => format!("{number:?}"),
            Value::Nothing | Value::List(_) | Value::Map(_) => {
                self.wrong(node, key, expected);
                return None;
            }
        };
        if !matches!(node.value, Value::Text(_)) && !self.is_written(node, &text) {
            self.wrong(node, key, format!("{expected}, in quotes as it is no plain number"));
            return None;
        }
        if text.contains('\0') {
            self.conflict(node, key, "it contains a zero byte");
            return None;
        }
        Some(text)
    }

    /// Whether this text is what the file has there.
    fn is_written(&self, node: &Node, text: &str) -> bool {
        let (line, column) = (node.line as usize, node.column as usize);
        let Some(line) = line.checked_sub(1).and_then(|line| self.lines.get(line)) else { return false };
        let mut rest = line.chars().skip(column.saturating_sub(1));
        text.chars().all(|c| rest.next() == Some(c))
            && rest.next().is_none_or(|c| c.is_whitespace() || ",]}".contains(c))
    }

    /// Text that is not empty.
    pub fn word(&mut self, node: &Node, key: &str, expected: &str) -> Option<String> {
        let text = self.text(node, key, expected)?;
        if text.is_empty() {
            self.wrong(node, key, expected);
            return None;
        }
        Some(text)
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&mut self, node: &Node, key: &str, words: &[(&str, T)]) -> Option<T> {
        if let Value::Text(text) = &node.value {
            if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
                return Some(*value);
            }
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let expected = names.join(", ");
        let near = match &node.value {
            Value::Text(text) => nearest(text, names.into_iter()),
            _ => None,
        };
        let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let found = format!("{}{meant}", node.value.describe());
        self.problem(node, key, Fault::Wrong { expected: format!("one of {expected}"), found });
        None
    }

    /// What a variable stands for is text at first: here it is a number or a truth again.
    fn plain(node: &Node) -> Value {
        match &node.value {
            Value::Text(text) if text.len() < 64 => yaml::parse(text).map_or(Value::Nothing, |node| node.value),
            other => other.clone(),
        }
    }

    pub fn whole(&mut self, node: &Node, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = match Self::plain(node) {
            Value::Integer(number) => u32::try_from(number).ok().filter(|number| range.contains(number)),
            _ => None,
        };
        if number.is_none() {
            self.wrong(node, key, format!("a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    pub fn rate(&mut self, node: &Node, key: &str) -> Option<f64> {
        let hertz = match Self::plain(node) {
            Value::Integer(number) => Some(number as f64),
            Value::Number(number) => Some(number),
            _ => None,
        };
        let hertz = hertz.filter(|hertz| (1e-3..=1e6).contains(hertz));
        if hertz.is_none() {
            self.wrong(node, key, "messages a second, from 0.001 to 1000000");
        }
        hertz
    }

    /// That it is `true`.
    pub fn truth(&mut self, node: &Node, key: &str) -> Option<()> {
        if Self::plain(node) == Value::Truth(true) {
            return Some(());
        }
        self.wrong(node, key, "true, or no such key");
        None
    }

    pub fn time(&mut self, node: &Node, key: &str) -> Option<Duration> {
        let expected =
            || format!("a time such as 500ms or 5s (ns, us, ms, s, m, h), at most {}", show_duration(LONGEST));
        let reason = match &node.value {
            Value::Text(text) => match duration(text) {
                Ok(time) if time <= LONGEST => return Some(time),
                _ => expected(),
            },
            Value::Integer(number) => format!("{}; write {number}s or {number}ms", expected()),
            _ => expected(),
        };
        self.wrong(node, key, reason);
        None
    }

    /// The name of a topic, by the rule of all topics.
    pub fn topic(&mut self, node: &Node, key: &str) -> Option<String> {
        let topic = self.word(node, key, "the name of a topic")?;
        self.check_topic(node, key, &topic).then_some(topic)
    }

    pub fn check_topic(&mut self, node: &Node, key: &str, topic: &str) -> bool {
        let fault = crate::core::name::topic_fault(topic.as_bytes());
        if let Some(reason) = fault {
            self.conflict(node, key, format!("{} cannot be a topic: {reason}", Value::Text(topic.into()).describe()));
        }
        fault.is_none()
    }
}
