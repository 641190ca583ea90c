//! How a topic is opened, where the defaults don't fit.

use std::marker::PhantomData;
use std::time::Duration;

use super::layout::{Geometry, Overflow, SlotKind, Timestamps};
use super::message::{MAX_INLINE, Varying};
use super::name::Name;
use super::schema::{MAX_ENCODING, MAX_NAME, MAX_SCHEMA, Schema};
use super::{Error, Payload, Publisher, Start, Subscriber};

/// The domain that handles are opened in unless told otherwise: `CONDUIT_DOMAIN`, or the one without a name.
pub(crate) fn default_domain() -> String {
    // What is no text keeps a mark that no domain may contain, and so is refused like any other name that is none. Taken
    // for nothing, it would put the topic where nobody looks for it.
    std::env::var_os("CONDUIT_DOMAIN").unwrap_or_default().to_string_lossy().into_owned()
}

/// How to open a [`Publisher`]: made by [`Publisher::options`].
#[derive(Debug)]
#[must_use = "options do nothing until `open`"]
pub struct PublisherOptions<T: Payload + ?Sized> {
    domain: Option<String>,
    depth: u32,
    max_len: usize,
    slots: Option<SlotKind>,
    overflow: Overflow,
    timestamps: Option<Timestamps>,
    subscribers: u32,
    samples: u32,
    latched: bool,
    pub(super) permissions: u32,
    schema: Option<Schema>,
    pub(super) memory_lock: bool,
    pub(super) any_owner: bool,
    payload: PhantomData<fn() -> Box<T>>,
}

// Derived, it would ask for payloads that can be cloned.
impl<T: Payload + ?Sized> Clone for PublisherOptions<T> {
    fn clone(&self) -> Self {
        PublisherOptions { domain: self.domain.clone(), schema: self.schema.clone(), ..*self }
    }
}

/// Everything about a topic that its creator decides.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: Name,
    pub(super) geometry: Geometry,
    pub(super) schema: Schema,
}

impl<T: Payload + ?Sized> PublisherOptions<T> {
    pub(super) fn new() -> Self {
        PublisherOptions {
            domain: None,
            depth: 16,
            max_len: T::LEN.unwrap_or(4096),
            slots: None,
            overflow: Overflow::default(),
            timestamps: None,
            subscribers: 16,
            samples: 2,
            latched: false,
            permissions: 0o600,
            schema: None,
            memory_lock: false,
            any_owner: false,
            payload: PhantomData,
        }
    }

    /// The group of topics this one belongs to: `[A-Za-z0-9_-]{1,32}`. Default: the environment's `CONDUIT_DOMAIN`, or
    /// the domain without a name.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// How many of the last messages a late subscriber finds, and a slow one may be behind, at least. Default 16.
    ///
    /// A topic has a power of two of slots: enough for `depth` messages, in lossless topics a quarter more, 2 that the
    /// publisher works with, and in Frames slots `samples` x `subscribers`. What rounding adds is used as depth. A Words slot
    /// takes the message rounded up to 8 bytes and 8 more, 16 with timestamps; a Frames slot 128 bytes and `max_len` + 4
    /// rounded up to 64. The topic sets all of that aside when it is created.
    pub fn depth(mut self, messages: u32) -> Self {
        self.depth = messages;
        self
    }

    /// How slots hold messages. Default: [`SlotKind::Words`] for message types of at most 256 bytes,
    /// [`SlotKind::Frames`] otherwise. Bytes in Words slots all have the length `max_len`.
    pub fn slots(mut self, slots: SlotKind) -> Self {
        self.slots = Some(slots);
        self
    }

    /// What happens to messages that a subscriber has not received when their slot is needed. Default:
    /// [`Overflow::Overwrite`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Where timestamps come from. Default: [`Timestamps::Clock`] for message types, [`Timestamps::None`] for bytes. A
    /// clock reading costs more than publishing a small message.
    pub fn timestamps(mut self, timestamps: Timestamps) -> Self {
        self.timestamps = Some(timestamps);
        self
    }

    /// Most subscribers, 1 to 64. Default 16.
    pub fn subscribers(mut self, most: u32) -> Self {
        self.subscribers = most;
        self
    }

    /// For how many samples there is room, times `subscribers`. Default 2. Each costs a slot; with Words slots, where
    /// samples are copies, it has no effect.
    pub fn samples(mut self, each: u32) -> Self {
        self.samples = each;
        self
    }

    /// Whether a subscriber that starts with [`Start::New`] begins with the last message that is there, as is fit for what
    /// changes seldom: a map, a calibration, a state. A recording repeats that message at the beginning of each file. Default:
    /// no.
    pub fn latched(mut self, latched: bool) -> Self {
        self.latched = latched;
        self
    }

    /// Who may open the topic: the mode of its file. Default `0o600`. Who may write it is trusted with the memory safety
    /// of its subscribers.
    pub fn permissions(mut self, mode: u32) -> Self {
        self.permissions = mode;
        self
    }

    /// Keeps the topic in memory (`mlock`).
    pub fn memory_lock(mut self, lock: bool) -> Self {
        self.memory_lock = lock;
        self
    }

    /// Takes over a topic whose file belongs to another user than this one or root.
    pub fn any_owner(mut self, allow: bool) -> Self {
        self.any_owner = allow;
        self
    }

    /// Creates the topic, or takes it over from a publisher that is gone.
    ///
    /// # Errors
    ///
    /// [`Error::PublisherExists`]; [`Error::InvalidTopic`] and its like for what cannot work; [`Error::System`].
    pub fn open(self, topic: &str) -> Result<Publisher<T>, Error> {
        Publisher::open_with(topic, self)
    }

    pub(super) fn wanted(&self, topic: &str) -> Result<Wanted, Error> {
        let name = Name::new(&self.domain.clone().unwrap_or_else(default_domain), topic)?;
        let slots = self.slots.unwrap_or(match T::LEN {
            Some(len) if len <= MAX_INLINE => SlotKind::Words,
            _ => SlotKind::Frames,
        });
        let invalid = |option, reason: String| Err(Error::InvalidOption { option, reason });
        if self.depth == 0 {
            return invalid("depth", "a topic holds at least 1 message".into());
        }
        if self.max_len == 0 && T::LEN.is_none() {
            return invalid("max_len", "a message has at least 1 byte".into());
        }
        if slots == SlotKind::Words && self.max_len > MAX_INLINE {
            return invalid(
                "slots",
                format!("Words slots take messages of up to {MAX_INLINE} bytes, not {}", self.max_len),
            );
        }
        if slots == SlotKind::Words && T::IS_TYPED && T::LEN.is_none() {
            return invalid("slots", "messages in Words slots have one length, those of this type have any".into());
        }
        if !(1..=64).contains(&self.subscribers) {
            return invalid("subscribers", format!("{}: a topic has 1 to 64", self.subscribers));
        }
        if self.samples == 0 {
            return invalid("samples", "a subscriber holds at least 1".into());
        }
        if self.permissions & !0o666 != 0 {
            return invalid("permissions", format!("{:o}: only read and write bits make sense", self.permissions));
        }
        let samples = match slots {
            SlotKind::Words => 0,
            SlotKind::Frames => self.subscribers.saturating_mul(self.samples),
        };
        let geometry = Geometry {
            slots,
            overflow: self.overflow,
            timestamps: self.timestamps.unwrap_or(match T::IS_TYPED {
                true => Timestamps::Clock,
                false => Timestamps::None,
            }),
            depth: self.depth,
            capacity: 0,
            max_len: self.max_len as u64,
            subscribers: self.subscribers,
            samples,
            latched: self.latched,
        };
        let schema = self.schema.clone().unwrap_or_else(T::schema);
        let too_long = [
            (schema.name.len(), MAX_NAME),
            (schema.message_encoding.len(), MAX_ENCODING),
            (schema.schema_encoding.len(), MAX_ENCODING),
            (schema.data.len(), MAX_SCHEMA),
        ];
        if let Some((len, most)) = too_long.into_iter().find(|(len, most)| len > most) {
            return invalid("schema", format!("a part of it has {len} bytes, at most {most} are kept"));
        }
        Ok(Wanted { name, geometry: geometry.with_capacity()?, schema })
    }
}

impl<T: Varying + ?Sized> PublisherOptions<T> {
    /// The longest message, in bytes. Default 4096.
    pub fn max_len(mut self, bytes: usize) -> Self {
        self.max_len = bytes;
        self
    }
}

impl PublisherOptions<[u8]> {
    /// How the bytes are to be read. Default: [`Schema::opaque`].
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(schema);
        self
    }
}

/// Whether a subscriber waits for a topic that does not exist yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    None,
    Until(Duration),
    Forever,
}

/// How to open a [`Subscriber`]: made by [`Subscriber::options`].
#[derive(Debug)]
#[must_use = "options do nothing until `open`"]
pub struct SubscriberOptions<T: Payload + ?Sized> {
    domain: Option<String>,
    pub(super) start: Start,
    pub(super) from_first: bool,
    pub(super) samples: u32,
    pub(super) patience: Patience,
    pub(super) any_owner: bool,
    payload: PhantomData<fn() -> Box<T>>,
}

// Derived, it would ask for payloads that can be cloned.
impl<T: Payload + ?Sized> Clone for SubscriberOptions<T> {
    fn clone(&self) -> Self {
        SubscriberOptions { domain: self.domain.clone(), ..*self }
    }
}

impl<T: Payload + ?Sized> SubscriberOptions<T> {
    pub(super) fn new() -> Self {
        SubscriberOptions {
            domain: None,
            start: Start::New,
            from_first: false,
            samples: 2,
            patience: Patience::None,
            any_owner: false,
            payload: PhantomData,
        }
    }

    /// The group of topics to look in. Default: the environment's `CONDUIT_DOMAIN`, or the domain without a name.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Where to start. Default: [`Start::New`], which on a latched topic is [`Start::Latest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How many samples this subscriber holds at a time, at most. Default 2. With Words slots, where samples are copies,
    /// there is no limit.
    pub fn samples(mut self, most: u32) -> Self {
        self.samples = most;
        self
    }

    /// Waits up to `timeout` for the topic, if it does not exist yet. If it waited, [`Start::New`] begins with the topic's
    /// first message, and counts it as lost if it is gone already.
    pub fn wait(mut self, timeout: Duration) -> Self {
        self.patience = Patience::Until(timeout);
        self
    }

    /// [`wait`](SubscriberOptions::wait) for as long as it takes.
    pub fn wait_forever(mut self) -> Self {
        self.patience = Patience::Forever;
        self
    }

    /// Opens the topic even if its file belongs to another user than this one or root, who could then corrupt this
    /// program's view of messages at any time.
    pub fn any_owner(mut self, allow: bool) -> Self {
        self.any_owner = allow;
        self
    }

    /// To this subscriber all of the topic's messages are new: those that are gone count as lost.
    #[cfg(feature = "tank")]
    pub(crate) fn all_is_new(mut self) -> Self {
        self.from_first = true;
        self
    }

    /// Joins the topic.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] (at once, unless told to [`wait`](SubscriberOptions::wait)), [`Error::TimedOut`],
    /// [`Error::SchemaMismatch`], [`Error::TooManySubscribers`], [`Error::TooManySamplesDeclared`], [`Error::Corrupt`],
    /// [`Error::ForeignOwner`], [`Error::System`].
    pub fn open(self, topic: &str) -> Result<Subscriber<T>, Error> {
        Subscriber::open_with(topic, self)
    }

    pub(crate) fn name(&self, topic: &str) -> Result<Name, Error> {
        if self.samples == 0 {
            return Err(Error::InvalidOption { option: "samples", reason: "a subscriber holds at least 1".into() });
        }
        Name::new(&self.domain.clone().unwrap_or_else(default_domain), topic)
    }
}
