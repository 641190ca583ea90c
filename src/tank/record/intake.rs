//! From topics into chunks: one thread that never waits for the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::RecorderOptions;
use super::control::{Control, Request, add, lock};
use super::feed::{Channel, Channels, Feed, encapsulation};
use super::load::{Buffers, Latched, Load};
use crate::std::futex;
use crate::tank::Counts;
use crate::tank::format::chunk::OpenChunk;
use crate::topic::{Error, WaitSet};

/// Most messages that are taken from a topic at a time. Between two batches a chunk may be closed.
const BATCH: usize = 256;
/// A nap that is shorter is not worth the system call.
const SHORTEST_NAP: u64 = 50_000;

pub(super) struct Intake {
    pub options: Arc<RecorderOptions>,
    pub control: Arc<Control>,
    pub out: Sender<Load<OpenChunk>>,
    pub buffers: Arc<Buffers>,
    /// What it sleeps on: all topics; nothing, while messages flow; the lossless ones, while there is no memory.
    pub awake: WaitSet,
    pub nap: WaitSet,
    pub doze: WaitSet,
    pub feeds: Vec<(Feed, Arc<Channel>)>,
    pub channels: Channels,
    pub open: Option<Open>,
    /// Messages found no memory for in this round.
    pub is_starving: bool,
    /// What became of messages that are in no chunk, since the last load, by account.
    pub tallies: BTreeMap<usize, Counts>,
    /// The last message of each latched topic in the open chunk, by channel.
    pub latched: BTreeMap<u16, Latched>,
    pub number: u64,
    /// When the recording began, in nanoseconds since 1970.
    pub began: u64,
}

/// A chunk that is being filled.
pub(super) struct Open {
    chunk: OpenChunk,
    /// When it is closed, however little there is in it: from its first message on.
    due: Option<u64>,
}

/// What is done with the messages of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Recorded,
    Paused,
    /// There is no memory, and the publisher must not be kept waiting; or the recording has ended of itself.
    Dropped,
}

impl Intake {
    /// Takes messages until the recorder is stopped, and then those that were published until then. Returns the topics in
    /// the order of their accounts.
    pub fn run(mut self) -> Vec<String> {
        while !self.control.is_stopped() {
            self.join_new();
            let came = self.round();
            self.answer();
            self.close_if_due();
            self.sleep(came);
        }
        self.end()
    }

    fn join_new(&mut self) {
        for mut feed in self.control.take_feeds() {
            let channel = match self.channels.of(&feed) {
                Ok(channel) => channel,
                Err(error) => {
                    self.fail(&feed.topic, &error.to_string());
                    continue;
                }
            };
            self.awake.attach(&feed.subscriber);
            feed.settle_in(&mut self.doze);
            // What a latched topic says, others may be read by: it comes first.
            let at = if channel.geometry.latched { 0 } else { self.feeds.len() };
            self.feeds.insert(at, (feed, channel));
            add(&self.control.progress.topics, 1);
        }
    }

    /// Takes what is there, of each topic no more than it holds, so that none has to wait for another that never ends.
    /// Returns whether there was anything.
    fn round(&mut self) -> bool {
        self.is_starving = false;
        let mut came = false;
        let mut at = 0;
        while at < self.feeds.len() {
            let most = self.feeds[at].1.geometry.capacity.into();
            match self.take(at, most) {
                Ok(messages) => {
                    self.feeds[at].0.pace.came(messages, futex::now());
                    came |= messages > 0;
                    at += 1;
                }
                Err(error) => {
                    let (feed, channel) = self.feeds.swap_remove(at);
                    self.settle(&feed, &channel);
                    self.fail(&feed.topic, &error.to_string());
                }
            }
        }
        came
    }

    /// The topic can be recorded no further.
    fn fail(&mut self, topic: &str, reason: &str) {
        tracing::warn!(topic, reason, "recording of a topic ended");
        lock(&self.control.failed).insert(topic.into(), reason.into());
    }

    /// Counts the losses that no message has told of.
    fn settle(&mut self, feed: &Feed, channel: &Channel) {
        let untold = feed.subscriber.lost().wrapping_sub(feed.told);
        if untold > 0 {
            self.tallies.entry(channel.account).or_default().lost += untold;
            add(&self.control.progress.lost, untold);
        }
    }

    /// Takes up to `most` messages of a topic; returns how many there were.
    fn take(&mut self, at: usize, most: u64) -> Result<u64, Error> {
        let mut taken = 0;
        while taken < most {
            let fate = if self.control.is_paused() {
                Fate::Paused
            } else if self.control.has_failed() {
                Fate::Dropped
            } else if self.open.is_some() || self.open_chunk() {
                Fate::Recorded
            } else if self.feeds[at].0.is_lossless() {
                Fate::Dropped
            } else {
                // Where they are is the best place for them: the topic counts what it loses.
                break;
            };
            let messages = self.batch(at, usize::try_from(most - taken).unwrap_or(BATCH).min(BATCH), fate)?;
            taken += messages;
            if self.open.as_ref().is_some_and(|open| open.chunk.len() >= self.options.chunk_bytes) {
                self.close(None);
            }
            if messages == 0 && !self.follow(at)? {
                break;
            }
        }
        Ok(taken)
    }

    fn batch(&mut self, at: usize, limit: usize, fate: Fate) -> Result<u64, Error> {
        let (feed, channel) = &mut self.feeds[at];
        let mut lost = 0;
        let before = self.open.as_ref().map_or(0, |open| open.chunk.len());
        let messages = match (&mut self.open, fate) {
            (Some(Open { chunk, .. }), Fate::Recorded) => {
                // So that a chunk gets no larger than twice what it should be.
                let largest = usize::try_from(channel.geometry.max_len).unwrap_or(usize::MAX).saturating_add(31);
                let limit = limit.min((self.options.chunk_bytes / largest).max(1));
                fill(feed, channel, chunk, limit, &mut self.latched, self.began, &mut lost)?
            }
            _ => feed.subscriber.recv_batch_here(limit, |message| lost += message.lagged())? as u64,
        };
        let bytes = self.open.as_ref().map_or(0, |open| open.chunk.len()) - before;
        if let (true, Some(open)) = (bytes > 0, &mut self.open) {
            open.due.get_or_insert_with(|| futex::now() + self.options.chunk_time.as_nanos() as u64 / 2);
        }
        feed.told += lost;
        if fate == Fate::Recorded && lost == 0 {
            add(&self.control.progress.messages, messages);
            add(&self.control.progress.bytes, bytes as u64);
            return Ok(messages);
        }
        let tally = self.tallies.entry(channel.account).or_default();
        tally.lost += lost;
        match fate {
            Fate::Recorded => {
                add(&self.control.progress.messages, messages);
                add(&self.control.progress.bytes, bytes as u64);
            }
            Fate::Paused => tally.paused += messages,
            Fate::Dropped => {
                tally.lost += messages;
                lost += messages;
            }
        }
        add(&self.control.progress.lost, lost);
        Ok(messages)
    }

    /// `false` if there is no memory for a chunk.
    fn open_chunk(&mut self) -> bool {
        if !self.control.reserve(self.buffers.cost(), self.options.memory) {
            self.is_starving = true;
            return false;
        }
        self.open = Some(Open { chunk: OpenChunk::reusing(self.buffers.take()), due: None });
        true
    }

    fn close_if_due(&mut self) {
        if self.due().is_some_and(|due| due <= futex::now()) {
            self.close(None);
        }
    }

    fn due(&self) -> Option<u64> {
        self.open.as_ref()?.due
    }

    /// Sends on what there is.
    fn close(&mut self, request: Option<Request>) {
        // One without a message is kept for the next.
        let open = self.open.take_if(|open| open.chunk.len() > 0);
        let cost = open.as_ref().map_or(0, |open| {
            // A large message makes a chunk larger than what was set aside for it: the next chunk waits for all of it.
            let cost = self.buffers.cost_of(open.chunk.len());
            self.control.reserve_more(cost - self.buffers.cost());
            cost
        });
        let load = Load {
            number: self.number,
            chunk: open.map(|open| open.chunk),
            cost,
            channels: self.channels.take_new(),
            latched: std::mem::take(&mut self.latched),
            tallies: std::mem::take(&mut self.tallies),
            request,
        };
        self.number += 1;
        // Nobody receives only after the others have panicked, which ends the recording.
        let _ = self.out.send(load);
    }

    /// What is asked for happens between two chunks.
    fn answer(&mut self) {
        for request in self.control.take_requests() {
            self.close(Some(request));
        }
    }

    fn sleep(&mut self, came: bool) {
        let now = futex::now();
        let due = self.due();
        let slept = if self.is_starving {
            self.doze.wait().map(drop)
        } else if came {
            let back = self.feeds.iter().map(|(feed, _)| feed.pace.until()).chain(due).min().unwrap_or(now);
            match back.saturating_sub(now) {
                0..SHORTEST_NAP => Ok(()),
                nap => self.nap.wait_timeout(Duration::from_nanos(nap)).map(drop),
            }
        } else {
            match due {
                Some(due) => self.awake.wait_timeout(Duration::from_nanos(due.saturating_sub(now))).map(drop),
                None => self.awake.wait().map(drop),
            }
        };
        if let Err(error) = slept {
            self.control.fail(error.into());
        }
    }

    /// Takes what was published until now, and sends it on.
    fn end(mut self) -> Vec<String> {
        while self.control.is_scouting() {
            if let Err(error) = self.nap.wait() {
                self.control.fail(error.into());
                break;
            }
        }
        self.join_new();
        let left: Vec<u64> = self.feeds.iter().map(|(feed, _)| feed.subscriber.lag()).collect();
        for (at, left) in left.into_iter().enumerate() {
            if let Err(error) = self.take_last(at, left) {
                let topic = self.feeds[at].0.topic.clone();
                self.fail(&topic, &error.to_string());
            }
        }
        self.answer();
        for (feed, channel) in std::mem::take(&mut self.feeds) {
            self.settle(&feed, &channel);
        }
        self.close(None);
        self.channels.topics()
    }

    /// Takes what is left of a topic, and all of those that have taken its place since.
    fn take_last(&mut self, at: usize, mut left: u64) -> Result<(), Error> {
        loop {
            self.is_starving = false;
            let messages = if left > 0 { self.take(at, left)? } else { 0 };
            left = left.saturating_sub(messages);
            if messages == 0 && self.is_starving {
                self.nap.wait()?;
            } else if messages == 0 || left == 0 {
                if !self.follow(at)? {
                    return Ok(());
                }
                left = self.feeds[at].0.subscriber.lag();
            }
        }
    }

    /// Goes on with what has taken the topic's place, if something has and all before it is taken.
    fn follow(&mut self, at: usize) -> Result<bool, Error> {
        let (feed, channel) = &mut self.feeds[at];
        let followed = feed.subscriber.follow_on()?;
        if followed {
            *channel = self.channels.of(feed)?;
            feed.settle_in(&mut self.doze);
        }
        Ok(followed)
    }
}

/// Puts up to `limit` messages into the chunk; returns how many.
fn fill(
    feed: &mut Feed,
    channel: &Channel,
    chunk: &mut OpenChunk,
    limit: usize,
    latched: &mut BTreeMap<u16, Latched>,
    began: u64,
    lost: &mut u64,
) -> Result<u64, Error> {
    let (id, is_latched) = (channel.id, channel.geometry.latched);
    let prefix = encapsulation(&channel.schema);
    let clock = feed.clock();
    let mut before = feed.before;
    let messages = feed.subscriber.recv_batch_here(limit, |message| {
        *lost += message.lagged();
        let time = clock.time(message.timestamp_ns());
        // A recording has 32 bits for the number: whoever reads it sees gaps by differences.
        let sequence = message.sequence() as u32;
        // What was there before is recorded when the recording begins, whenever it was published.
        let log_time = if before > 0 { time.max(began) } else { time };
        before = before.saturating_sub(1);
        if is_latched {
            latched.entry(id).or_default().set(sequence, time, [prefix, &message]);
        }
        chunk.add_message(id, sequence, log_time, time, [prefix, &message]);
    })?;
    feed.before = before;
    Ok(messages as u64)
}
