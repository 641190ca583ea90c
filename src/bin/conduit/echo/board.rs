//! Fields that are numbers, plotted on a terminal: a line each, drawn anew in place.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::decoder::Body;
use super::plot::{self, History, Layout, Line, Row};
use super::printer::Message;
use crate::hz::monotonic_now;
use crate::outcome::Result;
use crate::output::{Out, Style, harmless, terminal_size};

/// Least time between two drawings: often enough to look at, and little work at any rate of messages.
const INTERVAL: Duration = Duration::from_millis(50);

pub struct Board {
    out: Out,
    topics: BTreeMap<String, Vec<Plotted>>,
    layout: Layout,
    /// When it was drawn last.
    drawn: Option<Instant>,
    /// Whether something has come since.
    is_new: bool,
}

struct Plotted {
    field: String,
    last: String,
    history: History,
}

impl Board {
    /// `None` where nothing can be drawn in place.
    pub fn new() -> Option<Self> {
        let out = Out::new();
        out.style.in_place.then(|| Board {
            out,
            topics: BTreeMap::new(),
            layout: Layout::default(),
            drawn: None,
            is_new: false,
        })
    }

    /// Takes a message whose fields are numbers, all of them.
    pub fn take(&mut self, message: &Message<'_>, fields: &[String]) -> bool {
        let topic = message.topic;
        let is_known = self.topics.contains_key(topic);
        let number = |value: &Value| match value {
            // What JSON has no number for, or leaves out now and then. A field that was never there may be misspelt.
            Value::Null if is_known => Some(f64::NAN),
            value => number(value),
        };
        let values: Vec<(&String, &Value)> = match (message.body, fields) {
            (Body::Decoded(value), [field]) => vec![(field, value)],
            (Body::Decoded(Value::Object(values)), _) => values.iter().collect(),
            _ => return false,
        };
        let Some(numbers) = values.iter().map(|(_, value)| number(value)).collect::<Option<Vec<f64>>>() else {
            return false;
        };
        if !is_known {
            let plotted = |(field, _): &(&String, _)| Plotted {
                field: (*field).clone(),
                last: String::new(),
                history: History::default(),
            };
            self.topics.insert(topic.into(), values.iter().map(plotted).collect());
        }
        let at = message.timestamp.unwrap_or_else(|| Duration::from_nanos(monotonic_now()));
        let plotted = self.topics.get_mut(topic).into_iter().flatten();
        for ((plotted, (_, value)), number) in plotted.zip(values).zip(numbers) {
            let is_float = value.is_f64() || value.is_string();
            plotted.last = if is_float { plot::figure(number) } else { value.to_string() };
            plotted.history.push(at, number);
        }
        self.is_new = true;
        true
    }

    /// When to draw it; `None` if nothing has come since it was drawn.
    pub fn due(&self) -> Option<Instant> {
        self.is_new.then(|| self.drawn.map_or_else(Instant::now, |drawn| drawn + INTERVAL))
    }

    pub fn draw(&mut self) -> Result<()> {
        let names_topics = self.topics.len() > 1;
        let rows = self.topics.iter().flat_map(|(topic, plotted)| {
            plotted.iter().map(move |plotted| {
                let field = harmless(&plotted.field);
                let name = if names_topics { format!("{topic} {field}") } else { field };
                Row { name, last: &plotted.last, history: &plotted.history }
            })
        });
        let mut rows: Vec<Row<'_>> = rows.collect();
        // The size as it is now: the terminal may have changed it.
        let (width, height) = terminal_size();
        // The cursor has the last line. What has scrolled away could not be drawn anew.
        let most = height.saturating_sub(1).max(1);
        let hidden = if rows.len() > most { rows.len() - (most - 1) } else { 0 };
        rows.truncate(rows.len() - hidden);
        let style = self.out.style;
        let mut lines: Vec<_> = self.layout.lines(&rows, width).iter().map(|line| text(line, style)).collect();
        if hidden > 0 {
            lines.push(format!("... {hidden} more").chars().take(width - 1).collect());
        }
        (self.drawn, self.is_new) = (Some(Instant::now()), false);
        self.out.draw(lines)
    }

    /// Draws it a last time, over the `^C` that ended it if one did, and leaves it where it is.
    pub fn end(mut self) -> Result<()> {
        let drawn = if self.topics.is_empty() { Ok(()) } else { self.draw() };
        self.out.leave();
        drawn
    }
}

fn text(line: &Line, style: Style) -> String {
    let Line { name, last, range, blocks } = line;
    let range = range
        .as_ref()
        .map_or(String::new(), |(min, max)| format!("  {} {min}  {} {max}", style.dim("min"), style.dim("max")));
    format!("{name}  {}{range}  {blocks}", style.bold(last))
}

/// What a scalar is as a number. Floats that JSON has no numbers for come as their names.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(value) => Some(u8::from(*value).into()),
        Value::Number(number) => number.as_f64(),
        Value::String(name) => match name.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_truth_values_and_floats_without_a_number_are_plotted() {
        for (value, expected) in [(json!(7), 7.0), (json!(-0.5), -0.5), (json!(true), 1.0), (json!(false), 0.0)] {
            assert_eq!(number(&value), Some(expected));
        }
        assert_eq!(number(&json!("-Infinity")), Some(f64::NEG_INFINITY));
        assert!(number(&json!("NaN")).is_some_and(f64::is_nan));
        for other in [json!("7"), json!([7]), json!({ "x": 7 }), json!(null)] {
            assert_eq!(number(&other), None, "{other}");
        }
    }
}
