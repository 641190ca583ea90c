//! YAML as a tree that knows where each part of it stands. What is read is a configuration: whoever makes the reader
//! do more than one needs is stopped.
// What it offers is for this crate's binary.
#![allow(missing_docs)]

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, MessageFormatter, Spanned, UserMessageFormatter};

pub mod fault;
pub mod meant;
pub mod quantity;
pub mod text;

pub use fault::{Fault, Place, Problem, Problems};

use quantity::show_size;
use text::harmless;

/// Bytes of the largest file.
pub const MAX_FILE: usize = 1 << 20;
/// Sections within sections, lists and all.
const MAX_DEPTH: usize = 16;
/// Keys, values, beginnings and ends, also those that aliases repeat.
const MAX_EVENTS: usize = 20_000;
/// Uses of anchors.
const MAX_ALIASES: usize = 64;

/// A part of a document.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    pub value: Value,
    /// From 1, as the column is; of an alias, where it is used.
    pub line: u64,
    pub column: u64,
}

/// What it is.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Nothing,
    Truth(bool),
    Integer(i128),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// Each key is there once.
    Map(Vec<(Node, Node)>),
}

impl Value {
    fn is_scalar(&self) -> bool {
        !matches!(self, Value::List(_) | Value::Map(_))
    }

    /// For a sentence that says what was found.
    pub fn describe(&self) -> String {
        match self {
            Value::Nothing => "nothing".into(),
            Value::Truth(truth) => format!("`{truth}`"),
            Value::Integer(number) => format!("`{number}`"),
            Value::Number(number) => format!("`{number:?}`"),
            Value::Text(text) => {
                let start: String = text.chars().take(60).collect();
                format!("\"{}\"{}", harmless(&start), if start.len() < text.len() { "…" } else { "" })
            }
            Value::List(nodes) if nodes.len() <= 8 && nodes.iter().all(|node| node.value.is_scalar()) => {
                let items: Vec<_> = nodes.iter().map(|node| node.value.describe().replace('`', "")).collect();
                format!("`[{}]`", items.join(", "))
            }
            Value::List(_) => "a list".into(),
            Value::Map(_) => "keys".into(),
        }
    }
}

/// Reads a document. An empty one is [`Value::Nothing`].
///
/// # Errors
///
/// What is wrong, its line and its column.
pub fn parse(text: &str) -> Result<Node, (Fault, u64, u64)> {
    if text.len() > MAX_FILE {
        return Err((Fault::Excess(format!("it is larger than {}", show_size(MAX_FILE))), 1, 1));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_events: MAX_EVENTS,
            max_nodes: MAX_EVENTS,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_recorded_anchor_events: MAX_EVENTS,
            max_recorded_anchor_bytes: MAX_FILE,
            max_merge_keys: MAX_ALIASES,
            max_total_scalar_bytes: MAX_FILE,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_EVENTS,
            max_replay_stack_depth: MAX_DEPTH,
            max_alias_expansions_per_anchor: MAX_ALIASES,
        },
        // `off` is a word of this configuration.
        strict_booleans: true,
        reject_unsupported_tags: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let (line, column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        (fault(error), line, column)
    })
}

fn fault(error: &Error) -> Fault {
    let message = harmless(&UserMessageFormatter.format_message(error));
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => fault(error),
        Error::DuplicateMappingKey { key, .. } => Fault::Twice { key: harmless(key.as_deref().unwrap_or("a key")) },
        Error::MultipleDocuments { .. } => Fault::Syntax("there is another document; a configuration is one".into()),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => Fault::Excess(message),
        _ => Fault::Syntax(message),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { value, line: referenced.line(), column: referenced.column() })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Truth(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u128<E: serde::de::Error>(self, number: u128) -> Result<Value, E> {
        i128::try_from(number).map(Value::Integer).map_err(|_| E::custom("no number here is so large"))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        while let Some(key) = map.next_key::<Node>()? {
            if !key.value.is_scalar() {
                return Err(A::Error::custom("a key is a word"));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}
