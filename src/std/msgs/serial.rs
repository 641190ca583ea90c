//! Any type that serde knows as a message: as JSON or as CBOR, with a JSON Schema.

use std::any::type_name;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::topic::message::{Payload, Varying, sealed};
use crate::topic::{Error, Loan, Publisher, Schema};

/// A message in one of the encodings below was none of its type.
#[derive(Debug)]
pub struct DecodeError {
    encoding: &'static str,
    expected: &'static str,
    source: Box<dyn StdError + Send + Sync>,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message is no {} in {}: {}", self.expected, self.encoding, self.source)
    }
}

impl StdError for DecodeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

/// The room for a message, and how much of it is needed, which may be more than there is.
struct Room<'a> {
    left: &'a mut [u8],
    needed: usize,
}

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.needed += bytes.len();
        // What does not fit is counted, so that whoever is told that it does not can be told of how much would.
        if bytes.len() <= self.left.len() {
            let (room, left) = std::mem::take(&mut self.left).split_at_mut(bytes.len());
            room.copy_from_slice(bytes);
            self.left = left;
        } else {
            self.left = &mut [];
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has `write` put a message where subscribers will read it, and publishes it.
fn publish<T: Payload + ?Sized>(
    publisher: &mut Publisher<T>,
    commit: impl FnOnce(Loan<'_, [u8]>) -> Result<u64, Error>,
    write: impl FnOnce(&mut Room<'_>) -> Result<(), String>,
) -> Result<u64, Error> {
    let max = publisher.geometry().max_len as usize;
    let mut loan = publisher.loan_bytes(max)?;
    let mut room = Room { left: &mut loan, needed: 0 };
    let written = write(&mut room);
    let len = room.needed;
    let failed = match written {
        Ok(()) if len <= max => {
            loan.truncate(len);
            return commit(loan);
        }
        Ok(()) => None,
        Err(reason) => Some(reason),
    };
    let topic = publisher.topic();
    Err(match failed {
        None => Error::TooLong { topic, len, max },
        Some(reason) => Error::Unserializable { topic, reason },
    })
}

/// The same text for the same schema, whatever order this build of `serde_json` keeps keys in.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(elements) => elements.into_iter().map(sorted).collect(),
        value => value,
    }
}

/// One value, and nothing behind it.
fn from_cbor<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, Box<dyn StdError + Send + Sync>> {
    let value = ciborium::from_reader(&mut bytes)?;
    if bytes.is_empty() { Ok(value) } else { Err(format!("{} bytes follow the value", bytes.len()).into()) }
}

macro_rules! serial {
    (
        $(#[$doc:meta])*
        $name:ident: $message_encoding:literal, $encoding:literal,
        |$write_to:ident, $value:ident| $write:expr, |$bytes:ident| $read:expr
    ) => {
        $(#[$doc])*
        #[repr(transparent)]
        pub struct $name<T> {
            value: PhantomData<fn() -> T>,
            bytes: [u8],
        }

        impl<T> $name<T> {
            /// The message as it was published.
            pub fn as_bytes(&self) -> &[u8] {
                &self.bytes
            }
        }

        impl<T: DeserializeOwned> $name<T> {
            /// Reads the message.
            ///
            /// # Errors
            ///
            /// [`DecodeError`]: it is something else.
            pub fn get(&self) -> Result<T, DecodeError> {
                let $bytes = &self.bytes;
                $read.map_err(|error| DecodeError {
                    encoding: $encoding,
                    expected: type_name::<T>(),
                    source: error.into(),
                })
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(b\"{}\")", stringify!($name), self.bytes.escape_ascii())
            }
        }

        impl<T> sealed::Sealed for $name<T> {}

        impl<T: JsonSchema + 'static> Payload for $name<T> {
            type Inline = [u64; 8];
            const LEN: Option<usize> = None;
            const IS_TYPED: bool = true;

            fn schema() -> Schema {
                Schema {
                    message_encoding: $message_encoding.into(),
                    schema_encoding: "jsonschema".into(),
                    name: T::schema_name().into_owned(),
                    data: sorted(schemars::schema_for!(T).to_value()).to_string().into_bytes(),
                }
            }

            /// What says nothing of its type is taken for this one, and each message looked at when it is read.
            fn accepts(found: &Schema) -> bool {
                let says_nothing = found.message_encoding == $message_encoding && found.schema_encoding.is_empty();
                says_nothing || *found == Self::schema()
            }

            #[inline(always)]
            unsafe fn view<'a>(data: *const u8, len: usize) -> &'a Self {
                let bytes: *const [u8] = std::ptr::slice_from_raw_parts(data, len);
                // SAFETY: the caller promises `len` readable bytes and quiet; the type is a transparent wrapper of them.
                unsafe { &*(bytes as *const Self) }
            }
        }

        impl<T: JsonSchema + 'static> Varying for $name<T> {}

        impl<T: Serialize + JsonSchema + 'static> Publisher<$name<T>> {
            /// Publishes `value`, which is written where subscribers will read it; returns its sequence number.
            ///
            /// # Errors
            ///
            /// [`Error::TooLong`], [`Error::Unserializable`], [`Error::Full`] on a topic with
            /// [`Overflow::Reject`](crate::topic::Overflow::Reject), [`Error::Stopped`], [`Error::AllPinned`],
            /// [`Error::Forked`]. Nothing was published then.
            pub fn publish(&mut self, value: &T) -> Result<u64, Error> {
                publish(self, |loan| Ok(loan.commit()), Self::writes(value))
            }

            /// [`publish`](Publisher::publish) with a timestamp of the caller's, in nanoseconds of the monotonic clock.
            ///
            /// # Errors
            ///
            /// [`Error::InvalidOption`] on a topic that was not opened with
            /// [`Timestamps::Given`](crate::topic::Timestamps::Given); as [`publish`](Publisher::publish).
            pub fn publish_at(&mut self, value: &T, timestamp: u64) -> Result<u64, Error> {
                publish(self, |loan| loan.commit_at(timestamp), Self::writes(value))
            }

            fn writes($value: &T) -> impl FnOnce(&mut Room<'_>) -> Result<(), String> {
                move |$write_to| $write.map_err(|error| error.to_string())
            }
        }
    };
}

serial! {
    /// A message in JSON, of any type that serde and schemars know. The topic carries its JSON Schema, and subscribers of
    /// another type are refused; those that say nothing of their type are taken for any.
    ///
    /// ```
    /// use conduit::{Publisher, Subscriber, msgs::Json};
    /// use std::collections::BTreeMap;
    ///
    /// type Levels = Json<BTreeMap<String, u8>>;
    ///
    /// # let domain = format!("doc-json-{}", std::process::id());
    /// let mut publisher = Publisher::<Levels>::options().domain(&domain).max_len(1000).open("levels")?;
    /// let mut subscriber = Subscriber::<Levels>::options().domain(&domain).open("levels")?;
    /// publisher.publish(&BTreeMap::from([("battery".into(), 80)]))?;
    /// let message = subscriber.recv()?;
    /// assert_eq!(message.as_bytes(), br#"{"battery":80}"#);
    /// assert_eq!(message.get()?["battery"], 80);
    /// # publisher.remove()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Your own types derive `serde::Serialize`, `serde::Deserialize` and `schemars::JsonSchema` (schemars 1). Messages differ in
    /// length: set the longest by `max_len`, 4096 bytes unless told.
    Json: "json", "JSON",
    |to, value| serde_json::to_writer(to, value), |bytes| serde_json::from_slice(bytes)
}

serial! {
    /// As [`Json`], in CBOR (RFC 8949): shorter, and bytes need no text to stand for them.
    ///
    /// ```
    /// use conduit::{Publisher, Subscriber, msgs::Cbor};
    ///
    /// # let domain = format!("doc-cbor-{}", std::process::id());
    /// let mut publisher = Publisher::<Cbor<(u32, String)>>::options().domain(&domain).open("names")?;
    /// let mut subscriber = Subscriber::<Cbor<(u32, String)>>::options().domain(&domain).open("names")?;
    /// publisher.publish(&(7, "seven".into()))?;
    /// assert_eq!(subscriber.recv()?.get()?, (7, "seven".into()));
    /// # publisher.remove()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Cbor: "cbor", "CBOR",
    |to, value| ciborium::into_writer(value, to), |bytes| from_cbor(bytes)
}
