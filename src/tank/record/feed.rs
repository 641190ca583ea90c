//! A topic that is recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pace::Pace;
use crate::std::futex;
use crate::topic::{Error, Geometry, Key, Overflow, Schema, Subscriber, Timestamps, WaitSet};

/// What a recording knows of a topic for as long as its geometry and schema stay the same. It has one channel in each file.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its number in every file.
    pub id: u16,
    /// The topic's place among the accounts.
    pub account: usize,
    pub topic: String,
    pub schema: Schema,
    pub geometry: Geometry,
}

impl Channel {
    /// What a player needs to make the topic as it was.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let Geometry { slots, overflow, timestamps, depth, max_len, subscribers, latched, .. } = self.geometry;
        let entries = [
            ("conduit.slots", format!("{slots:?}").to_lowercase()),
            ("conduit.overflow", format!("{overflow:?}").to_lowercase()),
            ("conduit.timestamps", format!("{timestamps:?}").to_lowercase()),
            ("conduit.depth", depth.to_string()),
            ("conduit.max_len", max_len.to_string()),
            ("conduit.subscribers", subscribers.to_string()),
            ("conduit.latched", latched.to_string()),
        ];
        entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
    }
}

/// What stands before the bytes of a topic's messages in a file: they are CDR as they stand in memory, but for this.
pub(crate) fn encapsulation(schema: &Schema) -> &'static [u8] {
    if schema.message_encoding == "cdr" { CDR } else { &[] }
}

/// Little-endian XCDR1 without options.
pub(crate) const CDR: &[u8] = &[0, 1, 0, 0];

/// A topic that is recorded.
#[derive(Debug)]
pub(super) struct Feed {
    pub topic: String,
    pub subscriber: Subscriber<[u8]>,
    /// Losses that a message told of.
    pub told: u64,
    pub pace: Pace,
    /// How many messages come first that were there before the recorder: the last one of a latched topic.
    pub before: u64,
    /// Its place in what the intake sleeps on while there is no memory, if it is lossless.
    pub doze: Option<Key>,
}

impl Feed {
    pub fn new(topic: String, subscriber: Subscriber<[u8]>) -> Self {
        let pace = Pace::new(subscriber.geometry().depth, futex::now());
        let before = if subscriber.geometry().latched { subscriber.lag() } else { 0 };
        Feed { topic, subscriber, told: 0, pace, before, doze: None }
    }

    /// Has the intake sleep on it as it is now.
    pub fn settle_in(&mut self, doze: &mut WaitSet) {
        self.pace = Pace::new(self.subscriber.geometry().depth, futex::now());
        match (self.is_lossless(), self.doze) {
            (true, None) => self.doze = Some(doze.attach(&self.subscriber)),
            (false, Some(key)) => {
                doze.detach(key);
                self.doze = None;
            }
            _ => {}
        }
    }

    /// Whether the publisher waits for the recorder or is refused because of it, so that it must never be left behind.
    pub fn is_lossless(&self) -> bool {
        self.subscriber.geometry().overflow != Overflow::Overwrite
    }

    /// How the times of its messages become times since 1970.
    pub fn clock(&self) -> Clock {
        match self.subscriber.geometry().timestamps {
            Timestamps::None => Clock::Received(futex::real_now()),
            // The pair is there before the first message. If its writer died with the pair half written, this process's own
            // clocks are as good.
            _ => Clock::Published(
                self.subscriber
                    .clock_offset()
                    .unwrap_or_else(|| i128::from(futex::real_now()) - i128::from(futex::now())),
            ),
        }
    }
}

/// Where the time of a message comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    /// What to add to its timestamp.
    Published(i128),
    /// It has none; this is when it was received.
    Received(u64),
}

impl Clock {
    /// Nanoseconds since 1970.
    pub fn time(self, timestamp: u64) -> u64 {
        match self {
            Clock::Published(offset) => u64::try_from(i128::from(timestamp) + offset).unwrap_or(0),
            Clock::Received(time) => time,
        }
    }
}

/// Gives each topic its account, and each (topic, geometry, schema) its channel.
#[derive(Debug, Default)]
pub(super) struct Channels {
    accounts: BTreeMap<String, usize>,
    channels: Vec<Arc<Channel>>,
    /// How many of them were handed out by [`take_new`](Channels::take_new).
    taken: usize,
}

impl Channels {
    /// The channel of a feed as its topic is now.
    pub fn of(&mut self, feed: &Feed) -> Result<Arc<Channel>, Error> {
        let (schema, geometry) = (feed.subscriber.schema(), feed.subscriber.geometry());
        let known = |channel: &&Arc<Channel>| {
            channel.topic == feed.topic && channel.geometry == *geometry && channel.schema == *schema
        };
        if let Some(channel) = self.channels.iter().find(known) {
            return Ok(channel.clone());
        }
        let accounts = self.accounts.len();
        let channel = Arc::new(Channel {
            id: self.next_id()?,
            account: *self.accounts.entry(feed.topic.clone()).or_insert(accounts),
            topic: feed.topic.clone(),
            schema: schema.clone(),
            geometry: *geometry,
        });
        self.channels.push(channel.clone());
        Ok(channel)
    }

    fn next_id(&self) -> Result<u16, Error> {
        // 0 is a channel like any other. The last number is left out, so that there is one more schema number, of which 0 is
        // none.
        match u16::try_from(self.channels.len()) {
            Ok(id) if id < u16::MAX => Ok(id),
            _ => Err(Error::InvalidOption {
                option: "topics",
                reason: format!("a recording has {} channels at most: record fewer topics", u16::MAX),
            }),
        }
    }

    /// Those that came since the last call.
    pub fn take_new(&mut self) -> Vec<Arc<Channel>> {
        let new = self.channels[self.taken..].to_vec();
        self.taken = self.channels.len();
        new
    }

    /// The topics, in the order of their accounts.
    pub fn topics(&self) -> Vec<String> {
        let mut topics = vec![String::new(); self.accounts.len()];
        for (topic, &account) in &self.accounts {
            topics[account].clone_from(topic);
        }
        topics
    }
}
