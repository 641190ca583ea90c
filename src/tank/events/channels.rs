//! Which channel of a file a message goes to.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use crate::dedup::{ProducerId, hash};
use crate::frame::{Encoding, Priority};

/// What channels say of themselves in their metadata.
pub(super) mod key {
    pub const PRODUCER: &str = "conduit.producer";
    pub const SEQUENCE_HIGH: &str = "conduit.sequence_high";
    pub const ENCODING: &str = "conduit.encoding";
    pub const PRIORITY: &str = "conduit.priority";
    /// The version of what is said of dead letters: only their own channel has it.
    pub const DEAD_LETTERS: &str = "conduit.dead_letters";
}

/// What all messages of a channel have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key<'a> {
    pub topic: &'a str,
    pub encoding: Encoding,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Events of an [`EventLog`](super::EventLog).
    Event { producer: ProducerId, high: u32, priority: Priority },
    /// What dead letters say.
    Payload,
    /// What is said of dead letters.
    Facts,
}

/// A channel's key, which it keeps.
#[derive(Debug)]
struct Channel {
    topic: Box<str>,
    encoding: Encoding,
    kind: Kind,
    /// Another one of the same hash.
    next: Option<u16>,
}

impl Channel {
    #[inline]
    fn is(&self, key: &Key<'_>) -> bool {
        self.kind == key.kind && self.encoding == key.encoding && *self.topic == *key.topic
    }
}

/// The channels of a file, by what they have in common. The last one that was asked for is found without a look-up.
#[derive(Debug)]
pub(super) struct Channels {
    seed: u64,
    by_hash: HashMap<u64, u16, BuildHasherDefault<AsItIs>>,
    channels: Vec<Channel>,
    last: u16,
}

impl Channels {
    pub fn new() -> Self {
        // Nobody can choose topics that all have the same hash.
        let seed = RandomState::new().hash_one(0);
        Channels { seed, by_hash: HashMap::default(), channels: Vec::new(), last: 0 }
    }

    pub fn len(&self) -> usize {
        self.channels.len()
    }

    pub fn clear(&mut self) {
        self.by_hash.clear();
        self.channels.clear();
    }

    /// The channel of this key, if it has one.
    #[inline]
    pub fn find(&mut self, key: &Key<'_>) -> Option<u16> {
        if self.channels.get(usize::from(self.last)).is_some_and(|channel| channel.is(key)) {
            return Some(self.last);
        }
        let mut next = self.by_hash.get(&self.hash(key)).copied();
        while let Some(id) = next {
            let channel = self.channels.get(usize::from(id))?;
            if channel.is(key) {
                self.last = id;
                return Some(id);
            }
            next = channel.next;
        }
        None
    }

    /// Gives a key that has none a channel. There are less than `u16::MAX`.
    pub fn add(&mut self, key: &Key<'_>) -> u16 {
        let id = self.channels.len() as u16;
        let next = self.by_hash.insert(self.hash(key), id);
        self.channels.push(Channel { topic: key.topic.into(), encoding: key.encoding, kind: key.kind, next });
        self.last = id;
        id
    }

    /// Name, encoding and metadata of a channel.
    pub fn describe(&self, id: u16) -> Option<(&str, &'static str, BTreeMap<String, String>)> {
        let Channel { topic, encoding, kind, .. } = self.channels.get(usize::from(id))?;
        Some((topic, message_encoding(*encoding), metadata(*encoding, kind)))
    }

    fn hash(&self, key: &Key<'_>) -> u64 {
        let mut rest = [0; 24];
        rest[0] = key.encoding as u8;
        match key.kind {
            Kind::Event { producer, high, priority } => {
                rest[1] = priority as u8;
                rest[4..8].copy_from_slice(&high.to_le_bytes());
                rest[8..].copy_from_slice(&producer);
            }
            Kind::Payload => rest[2] = 1,
            Kind::Facts => rest[2] = 2,
        }
        hash(hash(self.seed, &rest), key.topic.as_bytes())
    }
}

fn metadata(encoding: Encoding, kind: &Kind) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    let mut say = |key: &str, value: String| drop(metadata.insert(key.into(), value));
    match kind {
        Kind::Event { producer, high, priority } => {
            say(key::PRODUCER, hex(producer));
            say(key::SEQUENCE_HIGH, high.to_string());
            say(key::PRIORITY, priority_name(*priority).into());
            say(key::ENCODING, encoding_name(encoding).into());
        }
        Kind::Payload => say(key::ENCODING, encoding_name(encoding).into()),
        Kind::Facts => say(key::DEAD_LETTERS, "1".into()),
    }
    metadata
}

/// A hash as its own hash.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// As MCAP names it: of bytes, whose topic says how they are to be read, nothing is known here.
fn message_encoding(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Raw => "",
        other => encoding_name(other),
    }
}

pub(super) const fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Raw => "raw",
        Encoding::Json => "json",
        Encoding::Cbor => "cbor",
        Encoding::Protobuf => "protobuf",
    }
}

pub(super) const fn priority_name(priority: Priority) -> &'static str {
    match priority {
        Priority::Batch => "batch",
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
        Priority::Critical => "critical",
    }
}

/// The priority with this code up to the largest one, by name.
pub(super) fn priority_of(name: &str) -> Option<Priority> {
    (0..=u8::MAX).map_while(Priority::from_code).find(|priority| priority_name(*priority) == name)
}

pub(super) fn encoding_of(name: &str) -> Option<Encoding> {
    (0..=u8::MAX).map_while(Encoding::from_code).find(|encoding| encoding_name(*encoding) == name)
}

pub(super) fn hex(producer: &ProducerId) -> String {
    format!("{:032x}", u128::from_be_bytes(*producer))
}

pub(super) fn producer_of(text: &str) -> Option<ProducerId> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_hex).map(u128::to_be_bytes)
}
