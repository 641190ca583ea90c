//! Messages in order of their time, from pieces of a file that overlap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::block::{Block, Loader};
use super::walk::Stop;
use super::{Recording, Topic};
use crate::tank::Error;
use crate::tank::format::op;
use crate::tank::format::parse::{Fault, HEAD, Message as Record, Records};
use crate::tank::record::CDR;
use crate::topic::Payload;

/// A message of a recording.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Message<'a> {
    /// The topic that it is of.
    pub topic: &'a Topic,
    /// Its number among those of the topic: the lower 32 bits.
    pub sequence: u32,
    /// When it was recorded, in nanoseconds: mostly since 1970.
    pub log_time: u64,
    /// When it was published, in nanoseconds.
    pub publish_time: u64,
    /// What it says, in the topic's encoding.
    pub data: &'a [u8],
}

impl Message<'_> {
    /// The message, if its topic is of this type: as whoever published it had it.
    pub fn get<T: crate::Message>(&self) -> Option<T> {
        // Of the encapsulation the last two bytes are options, which change nothing about how it is read.
        let (head, body) = self.data.split_first_chunk::<4>()?;
        if head[..2] != CDR[..2] || body.len() != size_of::<T>() || !T::accepts(&self.topic.schema) {
            return None;
        }
        // SAFETY: there are as many bytes as the type has, and it is valid for all of them.
        Some(unsafe { body.as_ptr().cast::<T>().read_unaligned() })
    }
}

/// Which messages to read: all, unless told otherwise.
#[derive(Clone, Debug, Default)]
pub struct Query {
    topics: Option<Vec<u16>>,
    start: u64,
    end: Option<u64>,
}

impl Query {
    /// All messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of these topics, by their [`id`](Topic::id).
    #[must_use]
    pub fn topics(mut self, ids: impl IntoIterator<Item = u16>) -> Self {
        self.topics = Some(ids.into_iter().collect());
        self
    }

    /// Only those with this log time or a later one.
    #[must_use]
    pub fn start(mut self, log_time: u64) -> Self {
        self.start = log_time;
        self
    }

    /// Only those with an earlier log time.
    #[must_use]
    pub fn end(mut self, log_time: u64) -> Self {
        self.end = Some(log_time);
        self
    }

    fn has(&self, log_time: u64) -> bool {
        log_time >= self.start && self.end.is_none_or(|end| log_time < end)
    }

    /// Whether it may have messages of this block.
    fn may_have(&self, block: &Block) -> bool {
        block.end >= self.start
            && self.end.is_none_or(|end| block.start < end)
            && match (&self.topics, &block.channels) {
                (Some(wanted), Some(there)) => there.iter().any(|id| wanted.contains(id)),
                _ => true,
            }
    }
}

/// Where a message is in the bytes of its block.
#[derive(Clone, Copy, Debug)]
struct Entry {
    log_time: u64,
    /// Of its body.
    at: u32,
    len: u32,
}

/// A block in memory.
#[derive(Debug, Default)]
struct Open {
    /// Where it is in the file, by which messages of the same time are ordered.
    rank: u64,
    bytes: Vec<u8>,
    /// What is wanted of it, in order.
    entries: Vec<Entry>,
    next: usize,
}

impl Open {
    /// What its next message comes after.
    fn key(&self) -> Option<(u64, u64)> {
        Some((self.entries.get(self.next)?.log_time, self.rank))
    }
}

/// The messages of a [`Recording`], in order of log time; those of the same time in the order of the file.
///
/// Blocks of messages are read when their time comes, and let go of when the last of their messages was read: there is as much
/// in memory as overlaps, up to the recording's [limit](super::RecordingOptions::memory).
#[derive(Debug)]
pub struct Messages<'r> {
    recording: &'r Recording,
    query: Query,
    /// By the id of a channel: whether it is wanted, and its topic.
    topics: Vec<Option<(bool, &'r Topic)>>,
    /// Not read yet, the last one first.
    blocks: Vec<&'r Block>,
    loader: Loader,
    open: Vec<Open>,
    /// Places in `open` that are free.
    free: Vec<usize>,
    /// Of the open blocks but the current one: what they are at.
    waiting: BinaryHeap<Reverse<((u64, u64), usize)>>,
    /// The block that the next message is of, as long as its messages come before `horizon`.
    current: Option<usize>,
    horizon: (u64, u64),
    /// Bytes of the open blocks.
    held: u64,
}

impl<'r> Messages<'r> {
    pub(super) fn new(recording: &'r Recording, query: Query) -> Result<Self, Error> {
        let last = recording.topics().iter().map(|topic| topic.id).max();
        let mut topics = vec![None; last.map_or(0, |id| usize::from(id) + 1)];
        for topic in recording.topics() {
            let wanted = query.topics.as_ref().is_none_or(|wanted| wanted.contains(&topic.id));
            topics[usize::from(topic.id)] = Some((wanted, topic));
        }
        let mut blocks: Vec<_> = recording.blocks()?.iter().filter(|block| query.may_have(block)).collect();
        blocks.sort_by_key(|block| Reverse((block.start, block.offset)));
        Ok(Messages {
            recording,
            query,
            topics,
            blocks,
            loader: recording.loader(),
            open: Vec::new(),
            free: Vec::new(),
            waiting: BinaryHeap::new(),
            current: None,
            horizon: (0, 0),
            held: 0,
        })
    }

    /// The next message; `None` after the last one.
    ///
    /// # Errors
    ///
    /// Where a block cannot be read, or is damaged. Its messages are missed, and the next call goes on with the others.
    #[allow(clippy::should_implement_trait)] // What it returns is valid until the next call.
    #[inline]
    pub fn next(&mut self) -> Result<Option<Message<'_>>, Error> {
        let slot = loop {
            if let Some(slot) = self.current {
                if self.open[slot].key().is_some_and(|key| key < self.horizon) {
                    break slot;
                }
            }
            if !self.turn()? {
                return Ok(None);
            }
        };
        let open = &mut self.open[slot];
        let entry = open.entries[open.next];
        open.next += 1;
        let body = &open.bytes[entry.at as usize..][..entry.len as usize];
        let Ok(record) = Record::parse(body) else { unreachable!("it was parsed when its block was opened") };
        let Some(&Some((_, topic))) = self.topics.get(usize::from(record.channel_id)) else {
            unreachable!("it was looked up when its block was opened")
        };
        let Record { sequence, log_time, publish_time, data, .. } = record;
        Ok(Some(Message { topic, sequence, log_time, publish_time, data }))
    }

    /// Finds the block that has the next message. `false` if there is none.
    #[cold]
    fn turn(&mut self) -> Result<bool, Error> {
        if let Some(slot) = self.current.take() {
            self.put_back(slot);
        }
        while let Some(block) = self.blocks.last().copied() {
            if self.waiting.peek().is_some_and(|Reverse(((log_time, _), _))| *log_time < block.start) {
                break;
            }
            self.blocks.pop();
            let slot = self.load(block)?;
            self.put_back(slot);
        }
        let Some(Reverse((_, slot))) = self.waiting.pop() else { return Ok(false) };
        self.current = Some(slot);
        let other = self.waiting.peek().map_or((u64::MAX, u64::MAX), |Reverse((key, _))| *key);
        let unread = self.blocks.last().map_or((u64::MAX, u64::MAX), |block| (block.start, 0));
        self.horizon = other.min(unread);
        Ok(true)
    }

    /// Has a block wait for its turn, or gives its place up if it is read.
    fn put_back(&mut self, slot: usize) {
        let open = &mut self.open[slot];
        match open.key() {
            Some(key) => self.waiting.push(Reverse((key, slot))),
            None => {
                self.held -= open.bytes.len() as u64;
                self.free.push(slot);
            }
        }
    }

    fn load(&mut self, block: &Block) -> Result<usize, Error> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.open.push(Open::default());
            self.open.len() - 1
        });
        let open = &mut self.open[slot];
        open.rank = block.offset;
        let (limit, topics, query) = (self.recording.limit() - self.held, &self.topics, &self.query);
        let loaded = self.loader.load(block, limit, &mut open.bytes).and_then(|()| {
            find(&open.bytes, topics, query, &mut open.entries)
                .map_err(|fault| Stop::Fault { offset: block.offset, fault })
        });
        open.next = 0;
        match loaded {
            Ok(()) => {
                self.held += open.bytes.len() as u64;
                Ok(slot)
            }
            Err(stop) => {
                self.free.push(slot);
                Err(self.recording.error(stop))
            }
        }
    }
}

/// Finds the messages that are wanted, and puts them in order.
fn find(bytes: &[u8], topics: &[Option<(bool, &Topic)>], query: &Query, entries: &mut Vec<Entry>) -> Result<(), Fault> {
    entries.clear();
    let mut is_sorted = true;
    let mut last = 0;
    for record in Records::new(bytes) {
        let record = record?;
        if record.opcode != op::MESSAGE {
            continue;
        }
        let message = Record::parse(record.body)?;
        let topic = topics.get(usize::from(message.channel_id)).copied().flatten();
        let (wanted, _) = topic.ok_or(Fault::UnknownChannel { id: message.channel_id })?;
        if !wanted || !query.has(message.log_time) {
            continue;
        }
        let too_large = |_| Fault::TooLarge { bytes: bytes.len() as u64, limit: u32::MAX.into() };
        let at = u32::try_from(record.at + HEAD).map_err(too_large)?;
        let len = u32::try_from(record.body.len()).map_err(too_large)?;
        is_sorted &= last <= message.log_time;
        last = message.log_time;
        entries.push(Entry { log_time: last, at, len });
    }
    if !is_sorted {
        entries.sort_by_key(|entry| entry.log_time);
    }
    Ok(())
}
