//! How to read a topic's messages, as its header says it.

use std::borrow::Cow;
use std::fmt;

use super::Payload;

/// Longest schema, in bytes.
pub(crate) const MAX_SCHEMA: usize = 1 << 20;
/// Longest schema name, in bytes.
pub(crate) const MAX_NAME: usize = 128;
/// Longest name of an encoding, in bytes.
pub(crate) const MAX_ENCODING: usize = 32;

/// How a topic's messages are to be read. Two schemas are the same if all four parts are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schema {
    /// Encoding of the messages, as the MCAP registry names it: `cdr`, `json`, `cbor`, `protobuf`; empty for opaque
    /// bytes.
    pub message_encoding: String,
    /// Encoding of the schema: `ros2msg`, `jsonschema`, `protobuf`; empty if there is none.
    pub schema_encoding: String,
    /// Name of the message type.
    pub name: String,
    /// The schema, at most 1 MiB.
    pub data: Vec<u8>,
}

impl Schema {
    /// A schema for messages that are opaque bytes.
    pub fn opaque() -> Self {
        Self::default()
    }

    /// How messages of this type are to be read: what their topics carry.
    ///
    /// ```
    /// use conduit::msgs::Pose;
    /// use conduit::topic::Schema;
    ///
    /// assert_eq!(Schema::of::<Pose>().name, "geometry_msgs/msg/Pose");
    /// ```
    pub fn of<T: Payload + ?Sized>() -> Self {
        T::schema()
    }

    /// Whether nothing is known about the messages.
    pub fn is_opaque(&self) -> bool {
        self == &Self::default()
    }

    /// FNV-1a, 64 bits, over the four parts, each preceded by its length as eight little-endian bytes.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::new();
        for part in [
            self.message_encoding.as_bytes(),
            self.schema_encoding.as_bytes(),
            self.name.as_bytes(),
            self.data.as_slice(),
        ] {
            hash.write(&(part.len() as u64).to_le_bytes());
            hash.write(part);
        }
        hash.finish()
    }
}

/// The schema's text, or what stands in its place.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_opaque() {
            return f.write_str("(opaque bytes)");
        }
        writeln!(f, "# {} ({} in {})", self.name, self.schema_encoding, self.message_encoding)?;
        match std::str::from_utf8(&self.data) {
            Ok(text) => f.write_str(text.trim_end()),
            Err(_) => write!(f, "({} bytes of binary schema)", self.data.len()),
        }
    }
}

/// FNV-1a with 64 bits.
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) const fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) const fn write(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            self.0 = (self.0 ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
    }

    pub(crate) const fn finish(self) -> u64 {
        self.0
    }
}

/// Collects the definition of a message type and of the types in its fields, in the `ros2msg` format.
#[derive(Debug, Default)]
pub struct SchemaBuilder {
    definitions: Vec<(Cow<'static, str>, String)>,
}

impl SchemaBuilder {
    /// Adds the definition of type `name` if it is not there yet; `fields` writes its lines.
    pub fn define(&mut self, name: impl Into<Cow<'static, str>>, fields: impl FnOnce(&mut Self) -> String) {
        let name = name.into();
        if self.definitions.iter().any(|(known, _)| *known == name) {
            return;
        }
        let at = self.definitions.len();
        self.definitions.push((name, String::new()));
        self.definitions[at].1 = fields(self);
    }

    /// The first definition, followed by those that it needs.
    pub(crate) fn finish(self) -> String {
        let mut text = String::new();
        for (at, (name, lines)) in self.definitions.iter().enumerate() {
            if at > 0 {
                text.push_str(&"=".repeat(80));
                text.push_str(&format!("\nMSG: {}\n", short_name(name)));
            }
            text.push_str(lines);
        }
        text
    }
}

/// `package/Type` for `package/msg/Type`: how fields refer to a type.
pub(crate) fn short_name(name: &str) -> String {
    name.replacen("/msg/", "/", 1)
}
