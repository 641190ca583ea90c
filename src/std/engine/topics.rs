//! The topics that events are published on: made by the first event, and kept.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::handler::Handler;
use crate::dedup;
use crate::frame::Encoding;
use crate::topic::{Error, MAX_TOPIC, Pattern, Publisher, Schema};

/// Which topics events may make, and what they are like.
#[derive(Clone, Debug)]
pub struct TopicLimits {
    /// How many there are at most. Default 1,024.
    pub max: u32,
    /// How many of the last messages each keeps. Default 256.
    pub depth: u32,
    /// How long a message is at first; one that is longer has the topic made anew with more room. Default 256 bytes.
    pub max_len: usize,
    /// Which names are allowed. Default: all.
    pub allow: Vec<Pattern>,
    /// How many bytes of shared memory all of them take, about: what is beyond cannot be published. Default 256 MiB.
    pub memory: usize,
}

impl Default for TopicLimits {
    fn default() -> Self {
        TopicLimits { max: 1024, depth: 256, max_len: 256, allow: vec![Pattern::new("**")], memory: 256 << 20 }
    }
}

/// All topics: looked for by name by the dispatcher, by number by the workers.
#[derive(Debug)]
pub(super) struct Topics {
    domain: Option<String>,
    limits: TopicLimits,
    handlers: Vec<(Pattern, Arc<dyn Handler>)>,
    made: Box<[OnceLock<Topic>]>,
    /// Bytes that the topics take. Changed by whoever makes one, anew or not; it orders nothing.
    taken: AtomicUsize,
}

/// What a topic of messages of some length is like.
#[derive(Clone, Copy)]
struct Size {
    depth: u32,
    subscribers: u32,
    bytes: usize,
}

/// A topic that events were for.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) handlers: Vec<Arc<dyn Handler>>,
    /// Shared by the worker of the realtime lane and the one of the others, as the same topic may have events of both.
    outlet: Mutex<Outlet>,
}

#[derive(Debug)]
pub(super) struct Outlet {
    /// `None` if the topic could not be made anew.
    publisher: Option<Publisher<[u8]>>,
    max_len: usize,
    encoding: Encoding,
}

impl Topics {
    pub(super) fn new(domain: Option<String>, limits: TopicLimits, handlers: Vec<(Pattern, Arc<dyn Handler>)>) -> Self {
        let made = (0..limits.max).map(|_| OnceLock::new()).collect();
        Topics { domain, limits, handlers, made, taken: AtomicUsize::new(0) }
    }

    /// Long messages have fewer places: about a megabyte of them, 4 at least.
    fn size(&self, max_len: usize) -> Size {
        let depth = self.limits.depth.min(((1 << 20) / max_len.max(1)).max(4) as u32);
        let subscribers = if max_len > 1 << 16 { 4 } else { 16 };
        // As `PublisherOptions::depth` says it.
        let slots = (depth + 2 + subscribers).next_power_of_two() as usize;
        Size { depth, subscribers, bytes: slots * (max_len + 192) }
    }

    /// The topic of this number, which the dispatcher has given out.
    #[inline]
    pub(super) fn get(&self, number: u32) -> &Topic {
        self.made[number as usize].get().expect("a number is given out when the topic is there")
    }

    /// That there is room for a topic of so many bytes, once one of `gives` is gone.
    fn check_room(&self, bytes: usize, gives: usize) -> Result<(), Error> {
        let (taken, memory) = (self.taken.load(Ordering::Relaxed), self.limits.memory);
        if taken - gives + bytes <= memory {
            return Ok(());
        }
        let reason = format!("topics have {taken} of {memory} bytes, and this one would take {bytes}");
        Err(Error::InvalidOption { option: "topics.memory", reason })
    }

    fn open(&self, name: &str, max_len: usize, encoding: Encoding) -> Result<Publisher<[u8]>, Error> {
        let schema = Schema { message_encoding: encoding_name(encoding).into(), ..Schema::default() };
        let Size { depth, subscribers, bytes } = self.size(max_len);
        self.check_room(bytes, 0)?;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        let options = Publisher::<[u8]>::options().depth(depth).max_len(max_len).schema(schema);
        let options = options.subscribers(subscribers).samples(1);
        let options = match &self.domain {
            Some(domain) => options.domain(domain),
            None => options,
        };
        options.open(name).inspect_err(|_| _ = self.taken.fetch_sub(bytes, Ordering::Relaxed))
    }

    /// Publishes all of `payloads`, and makes the topic anew if one of them is longer than it takes.
    ///
    /// # Errors
    ///
    /// None of those from some place on was published; how many were comes with the error.
    pub(super) fn publish<'a>(
        &self,
        topic: &Topic,
        payloads: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), (usize, Error)> {
        let mut outlet = topic.outlet();
        let mut done = 0;
        loop {
            let mut rest = payloads.clone().skip(done).peekable();
            let Some(first) = rest.peek().map(|payload| payload.len()) else { return Ok(()) };
            if first > outlet.max_len || outlet.publisher.is_none() {
                let max_len = outlet.max_len.max(first.next_power_of_two());
                // Before those who subscribed have to move: a message that is too long may come as often as somebody likes.
                let gives = if outlet.publisher.is_some() { self.size(outlet.max_len).bytes } else { 0 };
                self.check_room(self.size(max_len).bytes, gives).map_err(|error| (done, error))?;
                // The name is free only when the old one is gone.
                outlet.publisher = None;
                self.taken.fetch_sub(gives, Ordering::Relaxed);
                let publisher = self.open(&topic.name, max_len, outlet.encoding);
                let Ok(publisher) = publisher else {
                    // As it was, for those that are not so long.
                    let failed = publisher.map(drop).expect_err("it was not opened");
                    outlet.publisher = self.open(&topic.name, outlet.max_len, outlet.encoding).ok();
                    return Err((done, failed));
                };
                tracing::info!(topic = topic.name, max_len, "a topic was made anew, for longer messages");
                (outlet.publisher, outlet.max_len) = (Some(publisher), max_len);
            }
            if let Some(publisher) = &mut outlet.publisher {
                done += publisher.publish_batch(rest).map_err(|error| (done, error))?;
            }
        }
    }
}

impl Topic {
    fn outlet(&self) -> MutexGuard<'_, Outlet> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Raw => "",
        Encoding::Json => "json",
        Encoding::Cbor => "cbor",
        Encoding::Protobuf => "protobuf",
    }
}

/// The dispatcher's look at the topics: numbers by name.
#[derive(Debug)]
pub(super) struct TopicIndex {
    topics: Arc<Topics>,
    numbers: HashMap<Box<[u8]>, u32, BuildHasherDefault<NameHasher>>,
    /// The name that was looked for last, and its number.
    last: Last,
    /// Names that belong to other processes, and until when that is believed.
    taken: HashMap<Box<[u8]>, u64>,
}

#[derive(Debug)]
struct Last {
    len: usize,
    name: [u8; MAX_TOPIC],
    number: u32,
}

/// Why an event has no topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoTopic {
    /// The name is none.
    Name,
    /// The name is not allowed.
    NotAllowed,
    /// There are as many as there may be.
    TooMany,
    /// It belongs to another process, or could not be made.
    Unavailable,
}

impl TopicIndex {
    /// How long it is believed that a topic cannot be had, in nanoseconds.
    const BELIEVED: u64 = 1_000_000_000;

    pub(super) fn new(topics: Arc<Topics>) -> Self {
        TopicIndex {
            topics,
            numbers: HashMap::default(),
            last: Last { len: 0, name: [0; MAX_TOPIC], number: 0 },
            taken: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of the topic of this name, which is made if there is none.
    #[inline]
    pub(super) fn find(&mut self, name: &[u8], encoding: Encoding, now: u64) -> Result<u32, NoTopic> {
        if self.last.name[..self.last.len] == *name && !name.is_empty() {
            return Ok(self.last.number);
        }
        let number = match self.numbers.get(name) {
            Some(&number) => number,
            None => self.make(name, encoding, now)?,
        };
        self.last.name[..name.len()].copy_from_slice(name);
        (self.last.len, self.last.number) = (name.len(), number);
        Ok(number)
    }

    #[cold]
    fn make(&mut self, name: &[u8], encoding: Encoding, now: u64) -> Result<u32, NoTopic> {
        let event = crate::frame::Event { topic: name, ..Default::default() };
        let text = event.topic().map_err(|_| NoTopic::Name)?;
        let topics = &self.topics;
        if !topics.limits.allow.iter().any(|pattern| pattern.matches(text)) {
            return Err(NoTopic::NotAllowed);
        }
        if self.numbers.len() >= topics.made.len() {
            return Err(NoTopic::TooMany);
        }
        if self.taken.get(name).is_some_and(|&until| now < until) {
            return Err(NoTopic::Unavailable);
        }
        let max_len = topics.limits.max_len;
        let publisher = match topics.open(text, max_len, encoding) {
            Ok(publisher) => publisher,
            Err(error) => {
                // Names are a stranger's: many are told of once, and not so loudly.
                if self.taken.is_empty() {
                    tracing::warn!(topic = text, %error, "events cannot be published on this topic");
                } else {
                    tracing::debug!(topic = text, %error, "events cannot be published on this topic");
                }
                if self.taken.len() >= topics.made.len() {
                    self.taken.clear();
                }
                self.taken.insert(name.into(), now + Self::BELIEVED);
                return Err(NoTopic::Unavailable);
            }
        };
        let handlers = topics.handlers.iter().filter(|(pattern, _)| pattern.matches(text));
        let topic = Topic {
            name: text.into(),
            handlers: handlers.map(|(_, handler)| handler.clone()).collect(),
            outlet: Mutex::new(Outlet { publisher: Some(publisher), max_len, encoding }),
        };
        let number = self.numbers.len() as u32;
        // Nobody else makes topics, so the place is free.
        let _ = topics.made[number as usize].set(topic);
        self.numbers.insert(name.into(), number);
        Ok(number)
    }
}

/// Hashes names as fast as they are short. The names that are there were checked, and there is a bounded number of them.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = dedup::hash(self.0, bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
