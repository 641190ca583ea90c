//! Several fields of a message, or all of it.

use conduit::topic::Schema;
use serde_json::{Map, Value};

use super::Format;
use super::decoder::{Body, Decoder};
use crate::outcome::Result;

/// Reads fields from the messages of one schema.
pub struct Fields {
    /// Each reads one; without a path, all of the message.
    decoders: Vec<(Option<String>, Decoder)>,
}

impl Fields {
    /// All of the message if there are no `paths`.
    pub fn new(schema: &Schema, paths: &[String], shown: Format) -> Result<Self> {
        let decoder = |path: Option<&String>| {
            let decoder = Decoder::new(schema, path.map(String::as_str), shown)?;
            Ok((path.cloned(), decoder))
        };
        let decoders = match paths {
            [] => vec![decoder(None)?],
            paths => paths.iter().map(|path| decoder(Some(path))).collect::<Result<_>>()?,
        };
        Ok(Fields { decoders })
    }

    pub fn schema(&self) -> &Schema {
        self.decoders[0].1.schema()
    }

    /// One field as what it is; several as an object of paths and values.
    pub fn decode(&self, bytes: &[u8]) -> Body {
        if let [(_, decoder)] = &self.decoders[..] {
            return decoder.decode(bytes);
        }
        let mut object = Map::new();
        for (path, decoder) in &self.decoders {
            match decoder.decode(bytes) {
                Body::Decoded(value) => object.insert(path.clone().unwrap_or_default(), value),
                body => return body,
            };
        }
        Body::Decoded(Value::Object(object))
    }
}
