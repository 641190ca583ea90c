//! Events that came together: the bytes of one read, and where in them each event is.
//!
//! A hop and an allocation for each event would cost more than all the rest of the engine. So the bytes stay where they were
//! read, what goes through the lanes is an [`Item`] of 16 bytes, and whoever is done with the last event of a batch frees it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::event::Event;
use super::source::SourceInfo;
use crate::frame::{self, Encoding, Flags, Priority};
use crate::lanes::Lane;

/// Events to be handed to the engine together, and the bytes that they are in.
///
/// [`buffer`](Batch::buffer) is filled by whoever reads, then [`add`](Batch::add) says where in it an event is.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

/// Where an event is in the bytes of its batch, and what its header said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) timestamp: u64,
    topic_at: u32,
    payload_len: u32,
    topic_len: u8,
    pub(super) flags: Flags,
    pub(super) priority: Priority,
    encoding: Encoding,
}

impl Entry {
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes of topic and payload, which are next to each other.
    fn len(&self) -> usize {
        usize::from(self.topic_len) + self.payload_len as usize
    }
}

impl Batch {
    /// An empty one with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Batch { bytes: Vec::with_capacity(bytes), entries: Vec::new() }
    }

    /// The bytes. What is behind the last event that was added may be changed.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How many events were added.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets events and bytes, and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Adds an event whose topic begins at byte `at` of the buffer, with its payload behind it: of `event` only the lengths of
    /// the two are used, so they may be what was decoded from these very bytes.
    ///
    /// # Panics
    ///
    /// The topic is longer than 255 bytes, or the event ends behind the buffer: `at` is not where it is.
    #[inline]
    pub fn add(&mut self, at: usize, event: &frame::Event<'_>) {
        self.split().1.add(at, event);
    }

    /// The bytes, and where the events that are found in them are added.
    #[inline]
    pub(crate) fn split(&mut self) -> (&[u8], Entries<'_>) {
        (&self.bytes, Entries { entries: &mut self.entries, end: self.bytes.len() })
    }

    /// Adds a copy of an event.
    #[inline]
    pub fn push(&mut self, event: &frame::Event<'_>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(event.topic);
        self.bytes.extend_from_slice(event.payload);
        self.add(at, event);
    }

    /// How far it is, to be brought [back](Batch::truncate) to.
    #[cfg(feature = "net")]
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.entries.len())
    }

    /// Forgets what was added behind a mark.
    #[cfg(feature = "net")]
    pub(crate) fn truncate(&mut self, (bytes, entries): (usize, usize)) {
        self.bytes.truncate(bytes);
        self.entries.truncate(entries);
    }

    /// Whether all events are in the buffer, which may have been cut since they were added.
    pub(super) fn is_whole(&self) -> bool {
        self.entries.iter().all(|entry| entry.topic_at as usize + entry.len() <= self.bytes.len())
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

/// The events of a batch whose bytes somebody else looks at meanwhile.
#[derive(Debug)]
pub(crate) struct Entries<'b> {
    entries: &'b mut Vec<Entry>,
    /// Bytes of the buffer.
    end: usize,
}

impl Entries<'_> {
    /// As [`Batch::add`].
    #[inline]
    pub(crate) fn add(&mut self, at: usize, event: &frame::Event<'_>) {
        let (topic, payload) = (event.topic.len(), event.payload.len());
        let fits = at.checked_add(topic + payload).is_some_and(|end| end <= self.end && u32::try_from(end).is_ok());
        assert!(topic <= 255 && fits, "the event is in the buffer");
        self.entries.push(Entry {
            sequence: event.sequence,
            timestamp: event.timestamp,
            topic_at: at as u32,
            payload_len: payload as u32,
            topic_len: topic as u8,
            flags: event.flags,
            priority: event.priority,
            encoding: event.encoding,
        });
    }
}

/// A batch that is read by several threads, and changed by none.
#[derive(Debug)]
pub(super) struct Shared {
    /// How many items and [`Handle`]s there are. Written by whoever makes or drops one; who brings it to 0 frees the batch.
    references: AtomicU32,
    batch: Batch,
    pub(super) source: Arc<SourceInfo>,
    /// When the last byte of it was read, in nanoseconds of the monotonic clock.
    pub(super) read_at: u64,
    /// The same, since 1970.
    pub(super) received: u64,
    memory: Arc<Memory>,
    charged: usize,
}

/// How much memory the batches take that are in the engine, and a few that are free.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Bytes. Added to by whoever shares a batch or keeps what is to become one, taken from by whoever frees it; a gauge, which
    /// orders nothing.
    used: AtomicUsize,
    /// Bytes of those of them that are held, and so wait for others to be freed. Changed by sources and by who keeps what is to
    /// become a batch, a gauge as well.
    held: AtomicUsize,
    free: Mutex<Vec<Batch>>,
}

impl Memory {
    /// Least room of a batch that is worth keeping.
    const WORTH: usize = 32 << 10;
    /// Most room of one: larger ones are seldom needed.
    const MOST: usize = 1 << 20;
    /// How many are kept.
    const KEPT: usize = 32;

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    #[cfg(feature = "net")]
    pub(super) fn recharge(&self, [before, now]: [usize; 2], [held_before, held_now]: [usize; 2]) {
        self.used.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        self.held.fetch_add(held_now.wrapping_sub(held_before), Ordering::Relaxed);
    }

    /// How much of it others wait for: what is held itself is a read of each connection at most.
    pub(super) fn pressing(&self) -> usize {
        self.used().saturating_sub(self.held.load(Ordering::Relaxed))
    }

    /// An empty batch with room for so many bytes.
    pub(super) fn batch(&self, bytes: usize) -> Batch {
        let free = if bytes < Self::WORTH { None } else { self.free().pop() };
        let mut batch = free.unwrap_or_default();
        batch.bytes.reserve(bytes);
        batch
    }

    pub(super) fn recycle(&self, mut batch: Batch) {
        if (Self::WORTH..=Self::MOST).contains(&batch.bytes.capacity()) {
            batch.clear();
            let mut free = self.free();
            if free.len() < Self::KEPT {
                free.push(batch);
            }
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a batch alive for whoever gives out its items.
#[derive(Debug)]
pub(super) struct Handle {
    shared: NonNull<Shared>,
}

// SAFETY: a handle, like an item, is a counted reference to a `Shared`, of which nothing but atomics changes; all that is in it
// is Send and Sync.
unsafe impl Send for Handle {}

/// An event in a lane: the batch that it is in, which one it is there, and its topic's number.
#[derive(Debug)]
pub(super) struct Item {
    shared: NonNull<Shared>,
    pub(super) entry: u32,
    pub(super) topic: u32,
}

// SAFETY: as for `Handle`.
unsafe impl Send for Item {}
const _: () = assert!(size_of::<Item>() <= 16);
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Shared>();
};

impl Handle {
    /// Shares a batch.
    pub(super) fn new(batch: Batch, source: Arc<SourceInfo>, read_at: u64, received: u64, memory: Arc<Memory>) -> Self {
        let charged = batch.memory();
        memory.used.fetch_add(charged, Ordering::Relaxed);
        source.charge(charged);
        let references = AtomicU32::new(1);
        let shared = Box::new(Shared { references, batch, source, read_at, received, memory, charged });
        Handle { shared: NonNull::from(Box::leak(shared)) }
    }

    pub(super) fn shared(&self) -> &Shared {
        // SAFETY: it was a box, and lives as long as this counted reference does.
        unsafe { self.shared.as_ref() }
    }

    /// Counts what it keeps as held, or no more as that.
    pub(super) fn set_held(&self, held: bool) {
        let Shared { memory, charged, .. } = self.shared();
        if held {
            memory.held.fetch_add(*charged, Ordering::Relaxed);
        } else {
            memory.held.fetch_sub(*charged, Ordering::Relaxed);
        }
    }

    /// Counts `count` items at once, which [`item`](Handle::item) then gives out.
    pub(super) fn reserve(&self, count: usize) -> Reserved<'_> {
        // Relaxed: this reference keeps the batch alive meanwhile.
        self.shared().references.fetch_add(count as u32, Ordering::Relaxed);
        Reserved { handle: self, left: count as u32 }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: this is one counted reference, and gone behind this.
        unsafe { release(self.shared, 1) };
    }
}

/// Items that were counted and not given out yet.
pub(super) struct Reserved<'h> {
    handle: &'h Handle,
    left: u32,
}

impl Reserved<'_> {
    /// One of them; beyond those that were reserved, one more.
    #[inline]
    pub(super) fn item(&mut self, entry: usize, topic: u32) -> Item {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            // Relaxed: the handle keeps the batch alive meanwhile.
            None => _ = self.handle.shared().references.fetch_add(1, Ordering::Relaxed),
        }
        Item { shared: self.handle.shared, entry: entry as u32, topic }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            // SAFETY: so many were counted and not given out.
            unsafe { release(self.handle.shared, self.left) };
        }
    }
}

impl Item {
    #[inline]
    pub(super) fn shared(&self) -> &Shared {
        // SAFETY: it was a box, and lives as long as this counted reference does.
        unsafe { self.shared.as_ref() }
    }

    /// Whether the two are of one batch.
    #[inline]
    pub(super) fn is_beside(&self, other: &Item) -> bool {
        self.shared == other.shared
    }

    /// One more of the same event.
    pub(super) fn another(&self) -> Item {
        // Relaxed: this reference keeps the batch alive meanwhile.
        self.shared().references.fetch_add(1, Ordering::Relaxed);
        Item { shared: self.shared, entry: self.entry, topic: self.topic }
    }

    #[inline]
    pub(super) fn payload(&self) -> &[u8] {
        self.shared().payload(self.entry as usize)
    }

    /// The event, of the topic of this name.
    pub(super) fn event<'a>(&'a self, topic: &'a str) -> Event<'a> {
        let shared = self.shared();
        let entry = &shared.batch.entries[self.entry as usize];
        Event {
            topic,
            payload: self.payload(),
            priority: entry.priority,
            encoding: entry.encoding,
            producer: shared.source.producer,
            sequence: entry.sequence,
            timestamp: if entry.timestamp == 0 { shared.received } else { entry.timestamp },
            received: shared.received,
            origin: shared.source.origin,
        }
    }

    /// Drops all of `items`, with one look at the count for those that are of one batch and next to each other.
    pub(super) fn release_all(items: impl Iterator<Item = Item>) {
        let mut run: Option<(NonNull<Shared>, u32)> = None;
        for item in items {
            let shared = std::mem::ManuallyDrop::new(item).shared;
            run = match run {
                Some((of, count)) if of == shared => Some((of, count + 1)),
                before => {
                    if let Some((of, count)) = before {
                        // SAFETY: so many items of it were forgotten.
                        unsafe { release(of, count) };
                    }
                    Some((shared, 1))
                }
            };
        }
        if let Some((of, count)) = run {
            // SAFETY: as above.
            unsafe { release(of, count) };
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        // SAFETY: this is one counted reference, and gone behind this.
        unsafe { release(self.shared, 1) };
    }
}

/// Gives up `count` references.
///
/// # Safety
///
/// The caller had as many, and doesn't use them again.
unsafe fn release(shared: NonNull<Shared>, count: u32) {
    // SAFETY: the caller's references keep it alive up to here.
    let before = unsafe { shared.as_ref() }.references.fetch_sub(count, Ordering::Release);
    if before == count {
        // With the Release of everybody's `fetch_sub`: what they read was read before it is freed.
        fence(Ordering::Acquire);
        // SAFETY: it was made from a box, and nobody else has a reference any more.
        drop(unsafe { Box::from_raw(shared.as_ptr()) });
    }
}

impl Shared {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.batch.entries
    }

    /// Whether an event of critical or high priority is among those from `next` on.
    pub(super) fn has_urgent_from(&self, next: usize) -> bool {
        self.batch.entries[next..].iter().any(|entry| Lane::of(entry.priority) == Lane::Realtime)
    }

    #[inline]
    pub(super) fn topic(&self, entry: usize) -> &[u8] {
        let entry = &self.batch.entries[entry];
        &self.batch.bytes[entry.topic_at as usize..][..usize::from(entry.topic_len)]
    }

    #[inline]
    fn payload(&self, entry: usize) -> &[u8] {
        let entry = &self.batch.entries[entry];
        &self.batch.bytes[entry.topic_at as usize + usize::from(entry.topic_len)..][..entry.payload_len as usize]
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.charged, Ordering::Relaxed);
        self.source.discharge(self.charged);
        self.memory.recycle(std::mem::take(&mut self.batch));
    }
}

/// Has events keep no more memory than about four times what they are: a batch that is full goes on as it is, but the events
/// of a lane that are a small part of it go into a batch of their own, so that one that waits long doesn't keep all the others.
/// Returns which batch each event is in, in order, with the batch's number.
pub(super) fn split_sparse(batch: &mut Batch) -> [Option<Batch>; 3] {
    let mut bytes = [0; 3];
    for entry in &batch.entries {
        bytes[Lane::of(entry.priority) as usize] += entry.len() + size_of::<Entry>();
    }
    let most = batch.memory();
    let mut parts = [None, None, None];
    for lane in Lane::ALL {
        let in_lane = bytes[lane as usize];
        if in_lane > 0 && in_lane < most / 4 {
            let mut part = Batch::with_capacity(in_lane);
            let of_lane = batch.entries.iter().filter(|entry| Lane::of(entry.priority) == lane);
            part.entries.reserve_exact(of_lane.clone().count());
            for entry in of_lane {
                let topic_at = part.bytes.len() as u32;
                part.bytes.extend_from_slice(&batch.bytes[entry.topic_at as usize..][..entry.len()]);
                part.entries.push(Entry { topic_at, ..*entry });
            }
            parts[lane as usize] = Some(part);
        }
    }
    parts
}
