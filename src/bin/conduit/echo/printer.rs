//! Writing messages in the format that is asked for.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Format;
use super::decoder::Body;
use crate::outcome::{Failure, Result};
use crate::output::{Out, harmless};
use crate::units;

/// Elements of an array that are shown in text.
const MOST_ELEMENTS: usize = 64;

/// A message to be shown.
pub struct Message<'a> {
    pub topic: &'a str,
    pub sequence: u64,
    /// On the monotonic clock.
    pub timestamp: Option<Duration>,
    /// Nanoseconds since 1970.
    pub time: Option<i128>,
    pub lost: u64,
    pub bytes: &'a [u8],
    pub body: &'a Body,
}

pub struct Printer {
    out: Out,
    format: Format,
    /// Of the first row, for all rows.
    columns: Option<Vec<String>>,
}

impl Printer {
    pub fn new(format: Format) -> Self {
        Printer { out: Out::new(), format, columns: None }
    }

    pub fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }

    /// `fields` are those that its body has; none if it has all of the message.
    pub fn message(&mut self, message: &Message<'_>, fields: &[String]) -> Result<()> {
        match self.format {
            Format::Raw => self.out.bytes(message.bytes),
            Format::Json => self.json(message),
            Format::Csv => self.csv(message, fields),
            Format::Hex => {
                self.head(message)?;
                dump(&mut self.out, message.bytes)
            }
            Format::Text => match message.body {
                Body::Decoded(value) if fields.len() == 1 && !value.is_object() => self.out.line(inline(value)),
                Body::Decoded(Value::Object(values)) if fields.len() > 1 => self.several(message, values),
                Body::Decoded(value) => {
                    self.head(message)?;
                    self.text(value)
                }
                Body::Text(text) => {
                    self.head(message)?;
                    self.out.line(safe(text))
                }
                Body::Opaque => {
                    self.head(message)?;
                    dump(&mut self.out, message.bytes)
                }
            },
        }
    }

    /// On one line, if each value is.
    fn several(&mut self, message: &Message<'_>, values: &Map<String, Value>) -> Result<()> {
        if values.values().any(Value::is_object) {
            self.head(message)?;
            return values.iter().try_for_each(|(path, value)| self.field("", &harmless(path), value, 0));
        }
        let values: Vec<_> =
            values.iter().map(|(path, value)| format!("{}: {}", harmless(path), inline(value))).collect();
        self.out.line(values.join("  "))
    }

    fn head(&mut self, message: &Message<'_>) -> Result<()> {
        let mut head = format!("--- {} #{}", message.topic, message.sequence);
        if let Some(time) = message.time {
            head.push_str(&format!("  {}", units::utc(time)));
        }
        head.push_str(&format!("  {} B", message.bytes.len()));
        if message.lost > 0 {
            head.push_str(&format!("  after {} lost", message.lost));
        }
        self.out.line(self.out.style.dim(head))
    }

    fn json(&mut self, message: &Message<'_>) -> Result<()> {
        let mut object = json!({
            "topic": message.topic,
            "sequence": message.sequence,
            "time": message.time.map(units::utc),
            "timestamp": message.timestamp.map(|timestamp| timestamp.as_nanos() as u64),
            "lost": message.lost,
            "size": message.bytes.len(),
        });
        match message.body {
            Body::Decoded(value) => object["data"] = value.clone(),
            Body::Text(text) => {
                object["hex"] = hex(message.bytes).into();
                object["text"] = text.as_str().into();
            }
            Body::Opaque => object["hex"] = hex(message.bytes).into(),
        }
        self.out.json(&object)
    }

    fn csv(&mut self, message: &Message<'_>, fields: &[String]) -> Result<()> {
        let mut cells = Vec::new();
        match (message.body, fields) {
            (Body::Decoded(value), [field]) => flatten(value, field.clone(), &mut cells),
            (Body::Decoded(value), _) if !value.is_object() => flatten(value, "value".into(), &mut cells),
            // The paths of several fields are its keys.
            (Body::Decoded(value), _) => flatten(value, String::new(), &mut cells),
            (Body::Text(_) | Body::Opaque, _) => cells.push(("hex".into(), hex(message.bytes))),
        }
        // A file gets what is there.
        let terminal = self.out.style.terminal;
        let quoted = |cell: &str| if terminal { quoted(&harmless(cell)) } else { quoted(cell) };
        let names: Vec<_> = cells.iter().map(|(name, _)| name.clone()).collect();
        match &self.columns {
            None => {
                let head: Vec<_> = names.iter().map(|name| quoted(name)).collect();
                self.out.line(format_args!("topic,sequence,time,lost,{}", head.join(",")))?;
                self.columns = Some(names);
            }
            Some(columns) if *columns == names => {}
            Some(_) => {
                return Err(Failure::Usage(format!(
                    "{} has other columns than the messages before: show one topic, or --field, or --format json",
                    message.topic
                )));
            }
        }
        let time = message.time.map(units::utc).unwrap_or_default();
        let cells: Vec<_> = cells.iter().map(|(_, cell)| quoted(cell)).collect();
        let (topic, sequence, lost) = (message.topic, message.sequence, message.lost);
        self.out.line(format_args!("{topic},{sequence},{time},{lost},{}", cells.join(",")))
    }

    fn text(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Object(fields) => self.fields(fields, 0, ""),
            value => self.out.line(inline(value)),
        }
    }

    /// Writes fields one a line; the first line begins with `lead`, which is as wide as the indentation.
    fn fields(&mut self, fields: &Map<String, Value>, indent: usize, lead: &str) -> Result<()> {
        for (at, (name, value)) in fields.iter().enumerate() {
            let lead = if at == 0 && !lead.is_empty() { lead.into() } else { " ".repeat(indent) };
            self.field(&lead, &plain_name(name), value, indent)?;
        }
        Ok(())
    }

    fn field(&mut self, lead: &str, name: &str, value: &Value, indent: usize) -> Result<()> {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                self.out.line(format_args!("{lead}{name}:"))?;
                self.fields(inner, indent + 2, "")
            }
            Value::Array(elements) if elements.iter().any(is_deep) => {
                self.out.line(format_args!("{lead}{name}:"))?;
                self.elements(elements, indent)
            }
            value => self.out.line(format_args!("{lead}{name}: {}", inline(value))),
        }
    }

    fn elements(&mut self, elements: &[Value], indent: usize) -> Result<()> {
        let lead = format!("{}- ", " ".repeat(indent));
        for element in elements.iter().take(MOST_ELEMENTS) {
            match element {
                Value::Object(fields) if !fields.is_empty() => self.fields(fields, indent + 2, &lead)?,
                value => self.out.line(format_args!("{lead}{}", inline(value)))?,
            }
        }
        if elements.len() > MOST_ELEMENTS {
            self.out.line(format_args!("{lead}... ({} in all)", elements.len()))?;
        }
        Ok(())
    }
}

/// Offset, sixteen bytes, and what they are in ASCII. Lines that repeat the one before become one `*`.
pub fn dump(out: &mut Out, bytes: &[u8]) -> Result<()> {
    let mut before: Option<&[u8]> = None;
    let mut skipping = false;
    for (at, row) in bytes.chunks(16).enumerate() {
        if before == Some(row) && (at + 1) * 16 < bytes.len() {
            if !skipping {
                out.line("*")?;
            }
            skipping = true;
            continue;
        }
        (before, skipping) = (Some(row), false);
        let mut digits = String::new();
        for (at, byte) in row.iter().enumerate() {
            digits.push_str(if at == 8 { "  " } else { " " });
            digits.push_str(&format!("{byte:02x}"));
        }
        let ascii = row.iter().map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '.' });
        out.line(format_args!("{:08x} {digits:49}  |{}|", at * 16, ascii.collect::<String>()))?;
    }
    Ok(())
}

fn is_deep(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Array(_))
}

/// A value on one line. Strings keep their quotation marks and escapes, so that none can reach into the terminal, however
/// deep it is.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(elements) if elements.len() > MOST_ELEMENTS => {
            let shown: Vec<_> = elements.iter().take(MOST_ELEMENTS).map(inline).collect();
            format!("[{}, ... ({} in all)]", shown.join(", "), elements.len())
        }
        Value::Array(elements) => format!("[{}]", elements.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::String(text) => safe(text),
        value => harmless(&value.to_string()),
    }
}

/// A string in quotation marks, with what is harmful escaped.
fn safe(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    harmless(&quoted)
}

fn plain_name(name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_plain { name.into() } else { safe(name) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The numbers, words and truth values of a message, each with its path.
fn flatten(value: &Value, path: String, cells: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(value, path, cells);
            }
        }
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(at, value)| flatten(value, format!("{path}[{at}]"), cells));
        }
        Value::Null => cells.push((path, String::new())),
        Value::String(text) => cells.push((path, text.clone())),
        value => cells.push((path, value.to_string())),
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.into() }
}
