//! What goes from the intake to the file: chunks, and what has to happen between them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::control::{Request, lock};
use super::feed::Channel;
use crate::tank::Counts;

/// A chunk on its way to the file, numbered so that what is compressed side by side is written in order.
#[derive(Debug)]
pub(super) struct Load<C> {
    pub number: u64,
    pub chunk: Option<C>,
    /// The memory that was set aside for it.
    pub cost: usize,
    /// Channels that are met for the first time.
    pub channels: Vec<Arc<Channel>>,
    /// The last message of each latched topic in the chunk, by channel.
    pub latched: BTreeMap<u16, Latched>,
    /// What became of messages that are in no chunk, since the load before, by account.
    pub tallies: BTreeMap<usize, Counts>,
    /// Done after the chunk.
    pub request: Option<Request>,
}

impl<C> Load<C> {
    pub fn map<D>(self, change: impl FnOnce(C) -> D) -> Load<D> {
        let Load { number, chunk, cost, channels, latched, tallies, request } = self;
        Load { number, chunk: chunk.map(change), cost, channels, latched, tallies, request }
    }
}

/// A message that each file begins with, so that it stands alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Latched {
    pub sequence: u32,
    pub time: u64,
    pub bytes: Vec<u8>,
}

impl Latched {
    pub fn set(&mut self, sequence: u32, time: u64, parts: [&[u8]; 2]) {
        (self.sequence, self.time) = (sequence, time);
        self.bytes.clear();
        parts.into_iter().for_each(|part| self.bytes.extend_from_slice(part));
    }
}

/// The memory of chunks, which goes around: to get it anew from the system takes longer than to fill it.
#[derive(Debug)]
pub(super) struct Buffers {
    chunk_bytes: usize,
    /// What a chunk takes in memory, compressed or on its way to be.
    cost: usize,
    /// How many are kept.
    most: usize,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    pub fn new(chunk_bytes: usize, memory: usize, is_compressed: bool) -> Self {
        // Compressed, there are both for a moment.
        let cost = if is_compressed { 2 * chunk_bytes } else { chunk_bytes };
        Buffers { chunk_bytes, cost, most: memory / chunk_bytes, spare: Mutex::default() }
    }

    /// What is set aside for a chunk.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// What a chunk of so many bytes takes, at least what was set aside.
    pub fn cost_of(&self, bytes: usize) -> usize {
        self.cost / self.chunk_bytes * bytes.max(self.chunk_bytes)
    }

    pub fn take(&self) -> Vec<u8> {
        // Room for the last batch, and for the indexes.
        lock(&self.spare).pop().unwrap_or_else(|| Vec::with_capacity(self.chunk_bytes + self.chunk_bytes / 2))
    }

    pub fn give_back(&self, bytes: Vec<u8>) {
        // What had to hold a large message is not kept for small ones.
        if (self.chunk_bytes..=2 * self.chunk_bytes).contains(&bytes.capacity()) {
            let mut spare = lock(&self.spare);
            if spare.len() < self.most {
                spare.push(bytes);
            }
        }
    }
}
