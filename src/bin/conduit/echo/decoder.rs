//! What a topic's bytes say, by its schema.

use conduit::topic::Schema;
use conduit::topic::decode::{self, Field, Format};
use serde_json::{Map, Value};

use super::Format as Shown;
use crate::outcome::{Failure, Result};
use crate::output::is_harmful;

/// What a message says.
pub enum Body {
    Decoded(Value),
    /// Nothing is known about its bytes, and they are text that can be shown.
    Text(String),
    /// Nothing is known about its bytes.
    Opaque,
}

/// Reads the messages of one schema.
pub struct Decoder {
    schema: Schema,
    how: How,
}

enum How {
    Plain(Box<Format>, Option<Field>),
    /// Something that describes itself, and how to make JSON of it.
    Itself(fn(&[u8]) -> Option<Value>, Option<String>),
    /// Perhaps it is text.
    Bytes,
    Opaque,
}

impl Decoder {
    pub fn new(schema: &Schema, field: Option<&str>, shown: Shown) -> Result<Self> {
        let how = match schema.message_encoding.as_str() {
            _ if matches!(shown, Shown::Hex | Shown::Raw) => How::Opaque,
            "json" => How::Itself(|bytes| serde_json::from_slice(bytes).ok(), field.map(Into::into)),
            "cbor" => How::Itself(from_cbor, field.map(Into::into)),
            _ => match (Format::of(schema), field) {
                (Ok(format), field) => {
                    let field = field.map(|path| format.field(path)).transpose()?;
                    How::Plain(Box::new(format), field)
                }
                (Err(_), None) if schema.is_opaque() => How::Bytes,
                (Err(_), None) => How::Opaque,
                (Err(error), Some(field)) if schema.is_opaque() => {
                    let _ = error;
                    return Err(Failure::Usage(format!("there is no field {field}: the topic carries opaque bytes")));
                }
                (Err(error), Some(field)) => {
                    return Err(Failure::Usage(format!("there is no field {field} to be had: {error}")));
                }
            },
        };
        Ok(Decoder { schema: schema.clone(), how })
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    pub fn decode(&self, bytes: &[u8]) -> Body {
        let decoded = match &self.how {
            How::Plain(format, field) => {
                let value = match field {
                    Some(field) => format.decode_field(*field, bytes),
                    None => format.decode(bytes),
                };
                value.ok().map(to_json)
            }
            How::Itself(read, field) => read(bytes).map(|value| match field {
                Some(path) => lookup(&value, path).cloned().unwrap_or_default(),
                None => value,
            }),
            How::Bytes => return as_text(bytes).map_or(Body::Opaque, Body::Text),
            How::Opaque => None,
        };
        decoded.map_or(Body::Opaque, Body::Decoded)
    }
}

/// Text in which nothing is harmful but line breaks and tabs.
fn as_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_printable = text.chars().all(|c| !is_harmful(c) || c == '\n' || c == '\t');
    is_printable.then(|| text.into())
}

/// CBOR as JSON: bytes as hex, keys that are no text by their text in JSON, tags left out.
fn from_cbor(mut bytes: &[u8]) -> Option<Value> {
    use ciborium::Value as Cbor;

    fn to_json(value: Cbor) -> Value {
        match value {
            Cbor::Bool(value) => value.into(),
            Cbor::Integer(value) => {
                let value = i128::from(value);
                i64::try_from(value)
                    .map(Value::from)
                    .or(u64::try_from(value).map(Value::from))
                    .unwrap_or_else(|_| value.to_string().into())
            }
            Cbor::Float(value) if value.is_nan() => "NaN".into(),
            Cbor::Float(value) if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
            Cbor::Float(value) => value.into(),
            Cbor::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
            Cbor::Text(text) => text.into(),
            Cbor::Tag(_, value) => to_json(*value),
            Cbor::Array(elements) => elements.into_iter().map(to_json).collect(),
            Cbor::Map(entries) => {
                let entries = entries.into_iter().map(|(key, value)| match to_json(key) {
                    Value::String(key) => (key, to_json(value)),
                    key => (key.to_string(), to_json(value)),
                });
                Value::Object(entries.collect())
            }
            _ => Value::Null,
        }
    }

    let value = ciborium::from_reader(&mut bytes).ok()?;
    bytes.is_empty().then(|| to_json(value))
}

fn to_json(value: decode::Value<'_>) -> Value {
    match value {
        decode::Value::Bool(value) => value.into(),
        decode::Value::Unsigned(value) => value.into(),
        decode::Value::Signed(value) => value.into(),
        // By their text: it is the shortest that means this float, and the names of those that JSON has no numbers for.
        decode::Value::Float32(_) | decode::Value::Float64(_) => {
            serde_json::from_str(&value.to_string()).unwrap_or_default()
        }
        decode::Value::Text(text) => text.into(),
        decode::Value::Array(array) => array.iter().map(to_json).collect(),
        decode::Value::Struct(fields) => {
            let fields = fields.fields().map(|(name, value)| (name.into(), to_json(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

/// What a path such as `pose.x` or `joints[2]` leads to.
fn lookup<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = value;
    for segment in path.split('.') {
        let (name, indices) = segment.split_at(segment.find('[').unwrap_or(segment.len()));
        value = value.get(name)?;
        for index in indices.split_terminator(']') {
            value = value.get(index.strip_prefix('[')?.parse::<usize>().ok()?)?;
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_into_json() {
        let value: Value = serde_json::from_str(r#"{"a": {"b": [1, [2, 3]]}, "c": 4}"#).unwrap();
        let found = |path| lookup(&value, path).map(Value::to_string);
        assert_eq!(found("c").as_deref(), Some("4"));
        assert_eq!(found("a.b[0]").as_deref(), Some("1"));
        assert_eq!(found("a.b[1][1]").as_deref(), Some("3"));
        for path in ["", "x", "c.d", "a.b[2]", "a.b[x]", "a.b0]", "c[0]"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn bytes_are_text_if_they_can_be_printed() {
        for text in ["", "hello, world", "two\n\tlines", "21 °C"] {
            assert_eq!(as_text(text.as_bytes()).as_deref(), Some(text));
        }
        for bytes in [&b"\x1b[2J"[..], b"a\0b", b"\xff", b"\x7f", "\u{9b}2J".as_bytes(), b"\r"] {
            assert_eq!(as_text(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn cbor_is_shown_as_the_json_that_comes_closest() {
        // {"a": [1, -2, h'00ff', 1.5, null], 3: NaN, "t": 0("x")}, after RFC 8949.
        let bytes = b"\xa3\x61a\x85\x01\x21\x42\x00\xff\xf9\x3e\x00\xf6\x03\xf9\x7e\x00\x61t\xc0\x61x";
        let value = from_cbor(bytes).unwrap();
        assert_eq!(value.to_string(), r#"{"a":[1,-2,"00ff",1.5,null],"3":"NaN","t":"x"}"#);
        for len in 0..bytes.len() {
            assert_eq!(from_cbor(&bytes[..len]), None, "{len}");
        }
        assert_eq!(from_cbor(b"\x01\x02"), None, "more follows");
    }

    #[test]
    fn single_precision_stays_as_short_as_it_was_written() {
        let format = Format::parse("t/T", "float32[3] x").unwrap();
        let bytes = format.encode(r#"{"x": [0.1, "NaN", 1e30]}"#).unwrap();
        assert_eq!(to_json(format.decode(&bytes).unwrap()).to_string(), r#"{"x":[0.1,"NaN",1e+30]}"#);
    }
}
