//! Reading messages without their Rust type: by the schema that their topic carries.
//!
//! A [`Format`] is what a `ros2msg` definition says about the bytes of a *plain* message: a struct of numbers, of other
//! structs, and of arrays of fixed length, in which every byte belongs to a field. That is what
//! [`message!`](crate::message) declares, and what fits in a topic as it stands. Strings, arrays of changing length and
//! implicit padding are refused when the definition is read, with the line that is to blame.
//!
//! ```
//! use conduit::topic::decode::Format;
//!
//! let format = Format::parse("arm_msgs/msg/Joint", "float64 position\nfloat32[2] limits # radians\n")?;
//! let bytes = format.encode(r#"{"position": 0.5, "limits": [-1, 1]}"#)?;
//! assert_eq!(bytes.len(), format.size());
//!
//! let message = format.decode(&bytes)?;
//! assert_eq!(message.to_string(), r#"{"position":0.5,"limits":[-1.0,1.0]}"#);
//! let limit = format.field("limits[1]")?;
//! assert_eq!(format.decode_field(limit, &bytes)?.to_string(), "1.0");
//! # Ok::<(), conduit::topic::decode::FormatError>(())
//! ```
//!
//! Definitions come from whoever created a topic, and nothing in them is trusted: nesting, numbers of types and fields
//! and the size of a message have limits, and decoding takes no memory.

mod encode;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use super::Schema;

/// Deepest nesting of types.
pub const MAX_DEPTH: usize = 32;
/// Most types in a definition.
pub const MAX_TYPES: usize = 1024;
/// Most fields in a definition, over all of its types.
pub const MAX_FIELDS: usize = 1 << 16;
/// Largest message, in bytes.
pub const MAX_SIZE: usize = 1 << 30;

/// How the bytes of a plain message are to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    /// The message's type comes last, each other one before those that use it.
    types: Vec<Type>,
}

/// A struct.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Type {
    name: String,
    fields: Vec<Member>,
    size: usize,
    /// What its offset must be a multiple of: the largest of its primitives.
    align: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Member {
    name: String,
    shape: Shape,
    offset: usize,
}

/// A field's type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    kind: Kind,
    /// Elements of an array; `None` if it is none. Never 0.
    count: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Number(Number),
    /// An index into `Format::types`.
    Struct(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Number {
    Bool,
    /// As `U8`, but that an array of it is text.
    Char,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Number {
    fn size(self) -> usize {
        match self {
            Number::Bool | Number::Char | Number::U8 | Number::I8 => 1,
            Number::U16 | Number::I16 => 2,
            Number::U32 | Number::I32 | Number::F32 => 4,
            Number::U64 | Number::I64 | Number::F64 => 8,
        }
    }
}

/// Where a field of a [`Format`] is: what [`Format::field`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    shape: Shape,
    offset: usize,
}

/// A part of a message, or all of it. Displays as JSON; `NaN` and the infinities, which JSON has no numbers for, as
/// strings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// A `bool`; any byte but 0 is true.
    Bool(bool),
    /// An unsigned integer, `byte` and `char` among them.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// A `float32`.
    Float32(f32),
    /// A `float64`.
    Float64(f64),
    /// An array of `char` that is text in UTF-8, without the zeros behind it. What is none is an array.
    Text(&'a str),
    /// An array.
    Array(Array<'a>),
    /// A struct.
    Struct(Struct<'a>),
}

/// The elements of an array in a message.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Array<'a> {
    format: &'a Format,
    kind: Kind,
    bytes: &'a [u8],
}

/// The fields of a struct in a message, or of the message.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Struct<'a> {
    format: &'a Format,
    index: usize,
    bytes: &'a [u8],
}

/// Why a definition, a path, a message or its JSON does not do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The schema is not of the kind that is read here.
    #[error(
        "messages in `{message_encoding}` with a schema in `{schema_encoding}`: only `cdr` with `ros2msg` can be decoded"
    )]
    Encoding {
        /// The messages' encoding.
        message_encoding: String,
        /// The schema's.
        schema_encoding: String,
    },
    /// The definition cannot be read.
    #[error("line {line} of the definition: {reason}")]
    Definition {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The message has another length than its definition says.
    #[error("a message of {len} bytes, where {name} has {expected}")]
    WrongLength {
        /// The message's length.
        len: usize,
        /// The type.
        name: String,
        /// The type's length.
        expected: usize,
    },
    /// There is no such field.
    #[error("there is no field `{path}`: {reason}")]
    NoField {
        /// What was asked for.
        path: String,
        /// What there is.
        reason: String,
    },
    /// The JSON text is none, or no message of the type.
    #[error("{}{reason}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
    Json {
        /// The field; empty for the whole message.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Format {
    /// The format of a topic's messages.
    ///
    /// # Errors
    ///
    /// [`FormatError::Encoding`], [`FormatError::Definition`].
    pub fn of(schema: &Schema) -> Result<Self, FormatError> {
        if schema.message_encoding != "cdr" || schema.schema_encoding != "ros2msg" {
            return Err(FormatError::Encoding {
                message_encoding: schema.message_encoding.clone(),
                schema_encoding: schema.schema_encoding.clone(),
            });
        }
        let text = std::str::from_utf8(&schema.data).map_err(|error| FormatError::Definition {
            line: 1 + schema.data[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count(),
            reason: "it is no text".into(),
        })?;
        Self::parse(&schema.name, text)
    }

    /// The format that a `ros2msg` definition describes: of the type `name`, followed by those that it uses.
    ///
    /// # Errors
    ///
    /// [`FormatError::Definition`].
    pub fn parse(name: &str, definition: &str) -> Result<Self, FormatError> {
        parse::parse(name, definition)
    }

    fn root(&self) -> &Type {
        self.types.last().expect("a format has at least the type of its message")
    }

    /// The name of the message's type.
    pub fn name(&self) -> &str {
        &self.root().name
    }

    /// The length of a message in bytes.
    pub fn size(&self) -> usize {
        self.root().size
    }

    /// Reads a message. Nothing is copied: its parts are looked up when they are asked for.
    ///
    /// # Errors
    ///
    /// [`FormatError::WrongLength`].
    pub fn decode<'a>(&'a self, message: &'a [u8]) -> Result<Value<'a>, FormatError> {
        self.decode_field(Field { shape: self.whole(), offset: 0 }, message)
    }

    /// Reads one field of a message.
    ///
    /// # Errors
    ///
    /// [`FormatError::WrongLength`]; [`FormatError::NoField`] for a field of another format.
    pub fn decode_field<'a>(&'a self, field: Field, message: &'a [u8]) -> Result<Value<'a>, FormatError> {
        if message.len() != self.size() {
            return Err(FormatError::WrongLength {
                len: message.len(),
                name: self.name().into(),
                expected: self.size(),
            });
        }
        let end = self.size_of(field.shape).and_then(|size| field.offset.checked_add(size));
        let bytes = end.and_then(|end| message.get(field.offset..end)).ok_or_else(|| FormatError::NoField {
            path: format!("byte {}", field.offset),
            reason: format!("it is no field of {}", self.name()),
        })?;
        Ok(self.value(field.shape, bytes))
    }

    /// Finds the field that a path such as `pose.position.x` or `joints[2].effort` names.
    ///
    /// # Errors
    ///
    /// [`FormatError::NoField`], with the fields that there are.
    pub fn field(&self, path: &str) -> Result<Field, FormatError> {
        let no_field = |reason: String| FormatError::NoField { path: path.into(), reason };
        let mut field = Field { shape: self.whole(), offset: 0 };
        for segment in path.split('.') {
            let (name, indices) = segment.split_at(segment.find('[').unwrap_or(segment.len()));
            let (Kind::Struct(index), None) = (field.shape.kind, field.shape.count) else {
                return Err(no_field(format!("`{name}` cannot be looked up in {}", self.describe(field.shape))));
            };
            let of = &self.types[index];
            let member = of.fields.iter().find(|member| member.name == name).ok_or_else(|| {
                let known: Vec<_> = of.fields.iter().map(|member| member.name.as_str()).collect();
                no_field(format!("{} has {}", of.name, known.join(", ")))
            })?;
            field = Field { shape: member.shape, offset: field.offset + member.offset };
            let mut rest = indices;
            while !rest.is_empty() {
                let parsed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                let Some((Ok(at), behind)) = parsed.map(|(at, behind)| (at.parse::<usize>(), behind)) else {
                    return Err(no_field(format!("`{rest}` is no index such as [0]")));
                };
                let Some(count) = field.shape.count else {
                    return Err(no_field(format!("`{name}` is {}, no array", self.describe(field.shape))));
                };
                if at >= count {
                    return Err(no_field(format!("`{name}` has {count} elements, 0 to {}", count - 1)));
                }
                let shape = Shape { count: None, ..field.shape };
                field = Field { shape, offset: field.offset + at * self.size_of_kind(shape.kind).unwrap_or(0) };
                rest = behind;
            }
        }
        Ok(field)
    }

    /// The bytes of the message that a JSON object describes. Fields that it leaves out are zero; fields that the type
    /// does not have, numbers that don't fit and arrays of another length are errors. Floats may be the strings `"NaN"`,
    /// `"Infinity"` and `"-Infinity"`, and an array of `char` a string that fits.
    ///
    /// # Errors
    ///
    /// [`FormatError::Json`].
    pub fn encode(&self, json: &str) -> Result<Vec<u8>, FormatError> {
        encode::encode(self, json)
    }

    fn whole(&self) -> Shape {
        Shape { kind: Kind::Struct(self.types.len() - 1), count: None }
    }

    /// `None` for a shape of another format.
    fn size_of_kind(&self, kind: Kind) -> Option<usize> {
        match kind {
            Kind::Number(number) => Some(number.size()),
            Kind::Struct(index) => Some(self.types.get(index)?.size),
        }
    }

    fn size_of(&self, shape: Shape) -> Option<usize> {
        self.size_of_kind(shape.kind)?.checked_mul(shape.count.unwrap_or(1))
    }

    fn describe(&self, shape: Shape) -> String {
        let kind = match shape.kind {
            Kind::Number(Number::Bool) => "a bool",
            Kind::Number(Number::F32 | Number::F64) => "a float",
            Kind::Number(_) => "an integer",
            Kind::Struct(index) => self.types.get(index).map_or("a struct", |of| &of.name),
        };
        match shape.count {
            Some(count) => format!("an array of {count} (say which: [0] to [{}])", count - 1),
            None => kind.into(),
        }
    }

    /// `bytes` has the length of `shape`, which is one of this format.
    fn value<'a>(&'a self, shape: Shape, bytes: &'a [u8]) -> Value<'a> {
        match shape {
            Shape { kind, count: Some(_) } => {
                let text = (kind == Kind::Number(Number::Char)).then(|| as_text(bytes)).flatten();
                text.map_or(Value::Array(Array { format: self, kind, bytes }), Value::Text)
            }
            Shape { kind: Kind::Struct(index), count: None } => Value::Struct(Struct { format: self, index, bytes }),
            Shape { kind: Kind::Number(number), count: None } => number_of(number, bytes),
        }
    }
}

/// Text with nothing but zeros behind it.
fn as_text(bytes: &[u8]) -> Option<&str> {
    let (text, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    std::str::from_utf8(text).ok()
}

fn number_of<'a>(number: Number, bytes: &[u8]) -> Value<'a> {
    macro_rules! read {
        ($type:ty) => {
            <$type>::from_ne_bytes(bytes.try_into().unwrap_or_default())
        };
    }
    match number {
        Number::Bool => Value::Bool(read!(u8) != 0),
        Number::Char | Number::U8 => Value::Unsigned(read!(u8).into()),
        Number::U16 => Value::Unsigned(read!(u16).into()),
        Number::U32 => Value::Unsigned(read!(u32).into()),
        Number::U64 => Value::Unsigned(read!(u64)),
        Number::I8 => Value::Signed(read!(i8).into()),
        Number::I16 => Value::Signed(read!(i16).into()),
        Number::I32 => Value::Signed(read!(i32).into()),
        Number::I64 => Value::Signed(read!(i64)),
        Number::F32 => Value::Float32(read!(f32)),
        Number::F64 => Value::Float64(read!(f64)),
    }
}

impl<'a> Array<'a> {
    fn stride(&self) -> usize {
        // A kind of this format, and never of size 0.
        self.format.size_of_kind(self.kind).unwrap_or(1)
    }

    /// How many elements it has: at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.stride()
    }

    /// Element `at`, if there is one.
    pub fn get(&self, at: usize) -> Option<Value<'a>> {
        let start = at.checked_mul(self.stride())?;
        let bytes = self.bytes.get(start..start.checked_add(self.stride())?)?;
        Some(self.format.value(Shape { kind: self.kind, count: None }, bytes))
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let Array { format, kind, bytes } = *self;
        bytes.chunks_exact(self.stride()).map(move |bytes| format.value(Shape { kind, count: None }, bytes))
    }
}

impl<'a> Struct<'a> {
    fn of(&self) -> &'a Type {
        &self.format.types[self.index]
    }

    /// The name of its type.
    pub fn name(&self) -> &'a str {
        &self.of().name
    }

    /// Its fields in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let Struct { format, bytes, .. } = *self;
        self.of().fields.iter().map(move |member| {
            let size = format.size_of(member.shape).unwrap_or(0);
            (member.name.as_str(), format.value(member.shape, &bytes[member.offset..member.offset + size]))
        })
    }

    /// The field of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Unsigned(value) => write!(f, "{value}"),
            Value::Signed(value) => write!(f, "{value}"),
            // Debug writes the shortest text that reads back as the same float, with an exponent where that is shorter.
            Value::Float32(value) if value.is_finite() => write!(f, "{value:?}"),
            Value::Float64(value) if value.is_finite() => write!(f, "{value:?}"),
            Value::Float32(value) => write!(f, "\"{}\"", name_of(f64::from(*value))),
            Value::Float64(value) => write!(f, "\"{}\"", name_of(*value)),
            Value::Text(text) => {
                f.write_str("\"")?;
                for c in text.chars() {
                    match c {
                        '"' | '\\' => write!(f, "\\{c}")?,
                        '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(c))?,
                        c => write!(f, "{c}")?,
                    }
                }
                f.write_str("\"")
            }
            Value::Array(array) => {
                for (at, value) in array.iter().enumerate() {
                    write!(f, "{}{value}", if at == 0 { '[' } else { ',' })?;
                }
                f.write_str("]")
            }
            // A field's name has no character that JSON would escape.
            Value::Struct(fields) => {
                for (at, (name, value)) in fields.fields().enumerate() {
                    write!(f, "{}\"{name}\":{value}", if at == 0 { '{' } else { ',' })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// What JSON texts call a float that is no number.
fn name_of(float: f64) -> &'static str {
    match float {
        float if float.is_nan() => "NaN",
        float if float > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}
