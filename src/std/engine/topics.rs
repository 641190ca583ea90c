//! The topics that events are published on: made by the first event, and kept.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// Whether one could not be made; it orders nothing.
    has_failed: AtomicBool,
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
        Topics { domain, limits, handlers, made, taken: AtomicUsize::new(0), has_failed: AtomicBool::new(false) }
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

    fn no_room(&self, taken: usize, bytes: usize) -> Error {
        let memory = self.limits.memory;
        let reason = format!("topics have {taken} of {memory} bytes, and this one would take {bytes}");
        Error::InvalidOption { option: "topics.memory", reason }
    }

    fn open(&self, name: &str, max_len: usize, encoding: Encoding) -> Result<Publisher<[u8]>, Error> {
        let schema = Schema { message_encoding: encoding_name(encoding).into(), ..Schema::default() };
        let Size { depth, subscribers, bytes } = self.size(max_len);
        let add = |taken: usize| Some(taken + bytes).filter(|&all| all <= self.limits.memory);
        let added = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        added.map_err(|taken| self.no_room(taken, bytes))?;
        let options = Publisher::<[u8]>::options().depth(depth).max_len(max_len).schema(schema);
        let options = options.subscribers(subscribers).samples(1);
        let options = match &self.domain {
            Some(domain) => options.domain(domain),
            None => options,
        };
        options.open(name).inspect_err(|_| _ = self.taken.fetch_sub(bytes, Ordering::Relaxed))
    }

    /// The topic of a name that was checked; `None` if it belongs to another process, or could not be made.
    pub(super) fn make(&self, name: &[u8], encoding: Encoding) -> Option<Topic> {
        let name = std::str::from_utf8(name).ok()?;
        let max_len = self.limits.max_len;
        let opened = self.open(name, max_len, encoding).inspect_err(|error| {
            // Names are a stranger's: many are told of once, and not so loudly.
            if self.has_failed.swap(true, Ordering::Relaxed) {
                tracing::debug!(topic = name, %error, "events cannot be published on this topic");
            } else {
                tracing::warn!(topic = name, %error, "events cannot be published on this topic");
            }
        });
        let handlers = self.handlers.iter().filter(|(pattern, _)| pattern.matches(name));
        Some(Topic {
            name: name.into(),
            handlers: handlers.map(|(_, handler)| handler.clone()).collect(),
            outlet: Mutex::new(Outlet { publisher: Some(opened.ok()?), max_len, encoding }),
        })
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
                let (taken, bytes) = (self.taken.load(Ordering::Relaxed), self.size(max_len).bytes);
                if taken - gives + bytes > self.limits.memory {
                    return Err((done, self.no_room(taken, bytes)));
                }
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
    /// Names whose topics are being made, by one source each.
    claimed: Vec<Box<[u8]>>,
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
    /// It may be made, and was not yet.
    Unmade,
}

impl TopicIndex {
    /// How long it is believed that a topic cannot be had, in nanoseconds.
    const BELIEVED: u64 = 1_000_000_000;

    pub(super) fn new(topics: Arc<Topics>) -> Self {
        TopicIndex {
            topics,
            numbers: HashMap::default(),
            last: Last { len: 0, name: [0; MAX_TOPIC], number: 0 },
            claimed: Vec::new(),
            taken: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of the topic of this name.
    #[inline]
    pub(super) fn find(&mut self, name: &[u8], now: u64) -> Result<u32, NoTopic> {
        if self.last.name[..self.last.len] == *name && !name.is_empty() {
            return Ok(self.last.number);
        }
        let Some(&number) = self.numbers.get(name) else { return Err(self.why_not(name, now)) };
        self.last.name[..name.len()].copy_from_slice(name);
        (self.last.len, self.last.number) = (name.len(), number);
        Ok(number)
    }

    #[cold]
    fn why_not(&self, name: &[u8], now: u64) -> NoTopic {
        let event = crate::frame::Event { topic: name, ..Default::default() };
        let Ok(text) = event.topic() else { return NoTopic::Name };
        if !self.topics.limits.allow.iter().any(|pattern| pattern.matches(text)) {
            NoTopic::NotAllowed
        } else if self.taken.get(name).is_some_and(|&until| now < until) {
            NoTopic::Unavailable
        } else if !self.is_claimed(name) && self.numbers.len() + self.claimed.len() >= self.topics.made.len() {
            NoTopic::TooMany
        } else {
            NoTopic::Unmade
        }
    }

    pub(super) fn is_claimed(&self, name: &[u8]) -> bool {
        self.claimed.iter().any(|claimed| **claimed == *name)
    }

    /// Has the caller make the topic of this name, which nobody else does meanwhile; `false` if it is not to be made.
    pub(super) fn claim(&mut self, name: &[u8], now: u64) -> bool {
        let is_free = self.find(name, now) == Err(NoTopic::Unmade) && !self.is_claimed(name);
        if is_free {
            self.claimed.push(name.into());
        }
        is_free
    }

    /// Ends a claim, with the topic if it could be made.
    pub(super) fn settle(&mut self, name: &[u8], made: Option<Topic>, now: u64) {
        self.claimed.retain(|claimed| **claimed != *name);
        match made {
            Some(topic) => {
                let number = self.numbers.len();
                // Numbers are given out here, so the place is free.
                let _ = self.topics.made[number].set(topic);
                self.numbers.insert(name.into(), number as u32);
            }
            None => {
                if self.taken.len() >= self.topics.made.len() {
                    self.taken.clear();
                }
                self.taken.insert(name.into(), now + Self::BELIEVED);
            }
        }
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
