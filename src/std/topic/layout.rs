//! The bytes of a topic's file: what stands where. `docs/shm-layout.md` describes the same for other languages.

use std::mem::{offset_of, size_of};
use std::ops::Range;

use super::clock::ClockPair;
use super::schema::{Fnv, MAX_ENCODING, MAX_NAME, MAX_SCHEMA, Schema};
use super::{Error, MAX_DOMAIN, MAX_TOPIC};
use crate::core::atomic::{AtomicU32, AtomicU64};
use crate::core::ring::{CachePadded, Control, EventCount, FrameHeader, MAX_READERS};

/// `conduit` and a zero byte.
pub(super) const MAGIC: u64 = u64::from_ne_bytes(*b"conduit\0");
/// Reads as itself only in the byte order of whoever wrote it.
pub(super) const ENDIAN: u32 = 0x0102_0304;
/// Version of the layout and of the protocol.
pub(super) const ABI: u32 = 1;

/// How the slots of a topic hold their messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum SlotKind {
    /// Messages of one fixed length, at most 256 bytes, copied out. Subscribers cost the publisher nothing.
    Words = 1,
    /// Messages of up to the topic's largest length, read in place.
    Frames = 2,
}

/// What happens to a message that a subscriber has not received when its slot is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum Overflow {
    /// It is overwritten; the subscriber learns how many it lost.
    #[default]
    Overwrite = 1,
    /// The publisher waits for the subscriber, but never for a dead one.
    Block = 2,
    /// The publisher gets [`Error::Full`](super::Error::Full).
    Reject = 3,
}

/// Where the timestamps of a topic's messages come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Timestamps {
    /// There are none.
    None = 1,
    /// The publisher hands them in, in nanoseconds of the monotonic clock.
    Given = 2,
    /// `CLOCK_MONOTONIC` when the message is published; one reading for a batch.
    Clock = 3,
}

/// What was decided when the topic was created. Two publishers with the same geometry and schema share a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// How slots hold messages.
    pub slots: SlotKind,
    /// What happens to messages that were not received.
    pub overflow: Overflow,
    /// Where timestamps come from.
    pub timestamps: Timestamps,
    /// How many of the last messages a late subscriber finds, at least.
    pub depth: u32,
    /// How many slots there are.
    pub capacity: u32,
    /// Largest message in bytes; with [`SlotKind::Words`] the length of every message.
    pub max_len: u64,
    /// Most subscribers.
    pub subscribers: u32,
    /// Most samples that all subscribers together may declare; 0 with [`SlotKind::Words`], where samples are copies.
    pub samples: u32,
    /// Whether a new subscriber begins with the last message.
    pub latched: bool,
}

/// Longest message in Words slots.
pub(super) const MAX_WORDS_LEN: u64 = super::message::MAX_INLINE as u64;
const MAX_CAPACITY: u64 = 1 << 28;
/// Largest region; what a 64-bit process can map with ease.
const MAX_FILE: u64 = 1 << 46;

impl Geometry {
    /// Works out the number of slots: what is asked for, what may be held, one that is being written, one claimed ahead,
    /// and in a lossless topic some slack, so that neither side tells the other of every single message.
    pub(super) fn with_capacity(mut self) -> Result<Self, Error> {
        let depth = u64::from(self.depth);
        let slack = if self.overflow == Overflow::Overwrite { 0 } else { depth / 4 };
        let capacity = (depth + slack + u64::from(self.samples) + 2).next_power_of_two();
        if capacity > MAX_CAPACITY {
            let samples = if self.samples == 0 { String::new() } else { format!(" and {} samples", self.samples) };
            let option = if u64::from(self.samples) > depth { "samples" } else { "depth" };
            return Err(invalid(
                option,
                format!("{depth} messages{samples} take {capacity} slots, of which a topic has at most {MAX_CAPACITY}"),
            ));
        }
        self.capacity = capacity as u32;
        // What is left to be wrong is the size of it all.
        self.check().map_err(|reason| invalid("max_len", reason))?;
        Ok(self)
    }

    /// What a header must fulfil before anything is done by it.
    fn check(&self) -> Result<(), String> {
        let needed = u64::from(self.depth) + u64::from(self.samples) + 2;
        if !self.capacity.is_power_of_two() || u64::from(self.capacity) > MAX_CAPACITY {
            return Err(format!("{} slots are no power of two up to {MAX_CAPACITY}", self.capacity));
        }
        if self.depth == 0 || needed > u64::from(self.capacity) {
            return Err(format!(
                "{} slots cannot hold {} messages and {} samples",
                self.capacity, self.depth, self.samples
            ));
        }
        if self.subscribers == 0 || self.subscribers > MAX_READERS {
            return Err(format!("{} subscribers: a topic has 1 to {MAX_READERS}", self.subscribers));
        }
        if self.slots == SlotKind::Words && self.max_len > MAX_WORDS_LEN {
            return Err(format!("Words slots hold up to {MAX_WORDS_LEN} bytes, not {}", self.max_len));
        }
        let slots = || u64::from(self.capacity).checked_mul(self.stride());
        if self.max_len > MAX_FILE || slots().is_none_or(|bytes| bytes > MAX_FILE) {
            return Err(format!(
                "{} slots for messages of {} bytes are more than a topic can have, 64 TiB",
                self.capacity, self.max_len
            ));
        }
        Ok(())
    }

    /// Whether a message of `len` bytes can be published.
    #[inline(always)]
    pub(super) fn fits(&self, len: usize) -> bool {
        match self.slots {
            SlotKind::Words => len as u64 == self.max_len,
            SlotKind::Frames => len as u64 <= self.max_len,
        }
    }

    /// Bytes from one slot to the next.
    pub(super) fn stride(&self) -> u64 {
        match self.slots {
            SlotKind::Words => self.words_at() + self.max_len.next_multiple_of(8),
            SlotKind::Frames => (self.max_len + CDR_HEADER.len() as u64).next_multiple_of(64),
        }
    }

    /// Where the payload words of a Words slot begin: behind stamp and timestamp.
    pub(super) fn words_at(&self) -> u64 {
        if self.timestamps == Timestamps::None { 8 } else { 16 }
    }

    /// How far the writer's announcements and the readers' cursors may run ahead and behind without costing a promise:
    /// (batch, stride).
    pub(super) fn slack(&self) -> (usize, usize) {
        let spare = self.capacity - self.depth - self.samples - 1;
        (spare.max(1) as usize, spare.min(self.depth / 4).max(1) as usize)
    }
}

fn invalid(option: &'static str, reason: String) -> Error {
    Error::InvalidOption { option, reason }
}

/// What precedes a message in CDR: XCDR1 in the byte order of this machine, no options.
pub(super) const CDR_HEADER: [u8; 4] = [0, cfg!(target_endian = "little") as u8, 0, 0];

/// The first bytes of the file, written once at creation. Integers in native byte order, which `endian` tells.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) magic: u64,
    pub(super) endian: u32,
    pub(super) abi: u32,
    pub(super) layout: u64,
    pub(super) file_len: u64,
    pub(super) page: u32,
    pub(super) slots: u32,
    pub(super) overflow: u32,
    pub(super) timestamps: u32,
    pub(super) depth: u32,
    pub(super) capacity: u32,
    pub(super) subscribers: u32,
    pub(super) samples: u32,
    pub(super) max_len: u64,
    pub(super) created: u64,
    pub(super) schema_hash: u64,
    pub(super) schema_len: u32,
    pub(super) schema_name_len: u32,
    pub(super) message_encoding_len: u32,
    pub(super) schema_encoding_len: u32,
    pub(super) domain_len: u32,
    pub(super) topic_len: u32,
    pub(super) latched: u32,
    pub(super) reserved: u32,
    pub(super) schema_name: [u8; MAX_NAME],
    pub(super) message_encoding: [u8; MAX_ENCODING],
    pub(super) schema_encoding: [u8; MAX_ENCODING],
    pub(super) domain: [u8; MAX_DOMAIN],
    pub(super) topic: [u8; MAX_TOPIC],
}

/// What the writer writes and everybody reads; its own pages.
#[repr(C)]
#[derive(Debug)]
pub(super) struct WriterPage {
    pub(super) ring: Control<AtomicU64>,
    /// `CLOSED` while the last publisher has closed the topic in an orderly way, `SUPERSEDED` once another region has
    /// taken the name. Written under the writer's lock, read by all.
    pub(super) state: AtomicU32,
    /// How many publishers the region has had. Written under the writer's lock.
    pub(super) epoch: AtomicU32,
    /// 1 while the publisher runs no fence between a message and its look at the sleepers, so that each sleeper must run a
    /// barrier. Written by the publisher, loaded (Acquire) by sleepers after they have announced themselves.
    pub(super) fence_elided: AtomicU32,
    /// The publisher's process, for people to read; decides nothing.
    pub(super) pid: AtomicU32,
    pub(super) clock: ClockPair,
    /// Messages refused because a subscriber had not taken the oldest (`Reject`, or a timeout). A statistic of the
    /// writer's, Relaxed, as are the next two.
    pub(super) rejected: AtomicU64,
    /// How often the publisher had to wait for a subscriber.
    pub(super) blocked: AtomicU64,
    /// Messages refused because subscribers held every slot.
    pub(super) all_pinned: AtomicU64,
}

pub(super) const CLOSED: u32 = 1;
pub(super) const SUPERSEDED: u32 = 2;

/// What sleepers sleep on; its own page, writable by all, observers too.
#[repr(C)]
#[derive(Debug)]
pub(super) struct WaitPage {
    /// Notified by the publisher after each message, and by whoever changes `WriterPage::state`.
    pub(super) messages: CachePadded<EventCount>,
    /// Notified by subscribers of a blocking topic after they move their cursor.
    pub(super) space: CachePadded<EventCount>,
}

/// One subscriber; owned by who holds the lock byte of its bit.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Entry {
    /// First position still wanted, in a lossless topic; see `Memory::cursor`. On a line that changes with it alone: a
    /// publisher that waits for room looks at it again and again.
    pub(super) cursor: CachePadded<AtomicU64>,
    /// Position of the next message to receive, for people to read.
    pub(super) position: AtomicU64,
    /// Messages lost so far, for people to read.
    pub(super) lost: AtomicU64,
    /// When it joined, `CLOCK_REALTIME` in nanoseconds.
    pub(super) joined: AtomicU64,
    /// How many samples it declared; 0 while the entry is free.
    pub(super) samples: AtomicU32,
    /// Its process, for people to read. Stored once it has joined, 0 once it has left.
    pub(super) pid: AtomicU32,
}

/// What subscribers write; its own pages.
#[repr(C)]
#[derive(Debug)]
pub(super) struct SubscriberPages {
    /// The members of a lossless topic; see `Memory::members`.
    pub(super) members: CachePadded<AtomicU64>,
    pub(super) entries: [Entry; MAX_READERS as usize],
}

const _: () = {
    assert!(size_of::<Header>() == 544);
    assert!(offset_of!(Header, schema_name) == 120);
    assert!(size_of::<Control<AtomicU64>>() == 192);
    assert!(offset_of!(WriterPage, state) == 192);
    assert!(offset_of!(WriterPage, clock) == 208);
    assert!(offset_of!(WriterPage, rejected) == 232);
    assert!(size_of::<WaitPage>() == 128);
    assert!(size_of::<Entry>() == 128);
    assert!(offset_of!(Entry, position) == 64);
    assert!(size_of::<SubscriberPages>() == 129 * 64);
    assert!(size_of::<FrameHeader<AtomicU64>>() == 128);
    assert!(offset_of!(FrameHeader<AtomicU64>, length) == 24);
    assert!(offset_of!(FrameHeader<AtomicU64>, pins) == 64);
};

/// Tells layouts apart that the version number doesn't.
pub(super) const LAYOUT: u64 = {
    let mut hash = Fnv::new();
    hash.write(b"header writer wait subscribers headers slots schema; words: stamp timestamp payload, packed");
    hash.write(&(size_of::<Header>() as u64).to_le_bytes());
    hash.write(&(size_of::<WriterPage>() as u64).to_le_bytes());
    hash.write(&(size_of::<WaitPage>() as u64).to_le_bytes());
    hash.write(&(size_of::<Entry>() as u64).to_le_bytes());
    hash.write(&(size_of::<FrameHeader<AtomicU64>>() as u64).to_le_bytes());
    hash.write(&(MAX_READERS as u64).to_le_bytes());
    hash.finish()
};

/// Where the parts of a file begin. Parts with different rights lie on different pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) writer: Range<usize>,
    pub(super) wait: Range<usize>,
    pub(super) subscribers: Range<usize>,
    /// Frames only; empty for Words.
    pub(super) headers: Range<usize>,
    /// Where slot 0 begins; with Frames its payload, just behind its CDR header.
    pub(super) slot_0: usize,
    pub(super) slots: Range<usize>,
    pub(super) schema: Range<usize>,
    pub(super) len: usize,
}

impl Parts {
    /// `None` if the file would be larger than this process can address.
    pub(super) fn new(geometry: &Geometry, page: usize, schema_len: usize) -> Option<Self> {
        let mut end = size_of::<Header>() as u64;
        let mut part = |len: u64| {
            let start = end.next_multiple_of(page as u64);
            end = start.checked_add(len)?;
            Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        let capacity = u64::from(geometry.capacity);
        let writer = part(size_of::<WriterPage>() as u64)?;
        let wait = part(size_of::<WaitPage>() as u64)?;
        let subscribers = part(size_of::<SubscriberPages>() as u64)?;
        let frames = geometry.slots == SlotKind::Frames;
        let headers = part(if frames { capacity * size_of::<FrameHeader<AtomicU64>>() as u64 } else { 0 })?;
        // Frames: a line for the CDR header of slot 0; those of the others fit behind the payload before.
        let lead = if frames { 64 } else { 0 };
        let slots = part(capacity.checked_mul(geometry.stride())?.checked_add(lead)?)?;
        let schema = part(schema_len as u64)?;
        let len = usize::try_from(end.next_multiple_of(page as u64)).ok()?;
        isize::try_from(len).ok()?;
        let slot_0 = slots.start + lead as usize;
        Some(Parts { writer, wait, subscribers, headers, slot_0, slots, schema, len })
    }

    /// A part, and the rest of its last page.
    pub(super) fn pages(part: &Range<usize>, page: usize) -> Range<usize> {
        part.start..part.end.next_multiple_of(page)
    }
}

impl Header {
    pub(super) fn new(
        geometry: &Geometry,
        schema: &Schema,
        domain: &str,
        topic: &str,
        page: usize,
        len: usize,
    ) -> Self {
        Header {
            magic: MAGIC,
            endian: ENDIAN,
            abi: ABI,
            layout: LAYOUT,
            file_len: len as u64,
            page: page as u32,
            slots: geometry.slots as u32,
            overflow: geometry.overflow as u32,
            timestamps: geometry.timestamps as u32,
            depth: geometry.depth,
            capacity: geometry.capacity,
            subscribers: geometry.subscribers,
            samples: geometry.samples,
            max_len: geometry.max_len,
            created: crate::std::futex::real_now(),
            schema_hash: schema.hash(),
            schema_len: schema.data.len() as u32,
            schema_name_len: schema.name.len() as u32,
            message_encoding_len: schema.message_encoding.len() as u32,
            schema_encoding_len: schema.schema_encoding.len() as u32,
            domain_len: domain.len() as u32,
            topic_len: topic.len() as u32,
            latched: geometry.latched.into(),
            reserved: 0,
            schema_name: text(&schema.name),
            message_encoding: text(&schema.message_encoding),
            schema_encoding: text(&schema.schema_encoding),
            domain: text(domain),
            topic: text(topic),
        }
    }

    /// Reads and checks the first bytes of a file that anybody may have written. What it returns can be relied on to
    /// describe a file of `file_len` bytes; `Err` says what is wrong.
    pub(super) fn parse(bytes: &[u8; size_of::<Header>()], file_len: u64, page: usize) -> Result<Parsed, String> {
        // SAFETY: the header is made of integers and bytes, without padding (asserted above by its size).
        let header: Header = unsafe { std::mem::transmute_copy(bytes) };
        if header.magic != MAGIC {
            return Err("it does not begin as a topic does".into());
        }
        if header.endian != ENDIAN {
            return Err("it was written by a machine of another byte order".into());
        }
        if header.abi != ABI || header.layout != LAYOUT {
            return Err(format!(
                "it has layout {}-{:x}, this program reads {ABI}-{LAYOUT:x}: another version of Conduit made it (once nobody \
                 uses it, `conduit clean` or the next publisher removes it)",
                header.abi, header.layout
            ));
        }
        if header.file_len != file_len || header.page as usize != page {
            return Err(format!(
                "it says {} bytes in pages of {}, and is {file_len} bytes in pages of {page}",
                header.file_len, header.page
            ));
        }
        let geometry = Geometry {
            slots: match header.slots {
                1 => SlotKind::Words,
                2 => SlotKind::Frames,
                other => return Err(format!("unknown kind of slots {other}")),
            },
            overflow: match header.overflow {
                1 => Overflow::Overwrite,
                2 => Overflow::Block,
                3 => Overflow::Reject,
                other => return Err(format!("unknown overflow mode {other}")),
            },
            timestamps: match header.timestamps {
                1 => Timestamps::None,
                2 => Timestamps::Given,
                3 => Timestamps::Clock,
                other => return Err(format!("unknown kind of timestamps {other}")),
            },
            depth: header.depth,
            capacity: header.capacity,
            max_len: header.max_len,
            subscribers: header.subscribers,
            samples: header.samples,
            latched: match header.latched {
                0 => false,
                1 => true,
                other => return Err(format!("latched is 0 or 1, not {other}")),
            },
        };
        geometry.check()?;
        let schema_len = header.schema_len as usize;
        if schema_len > MAX_SCHEMA {
            return Err(format!("a schema of {schema_len} bytes"));
        }
        let parts = Parts::new(&geometry, page, schema_len).ok_or("it is too large for this process")?;
        if parts.len as u64 != file_len {
            return Err(format!("its slots need {} bytes, it has {file_len}", parts.len));
        }
        Ok(Parsed {
            geometry,
            parts,
            schema: Schema {
                message_encoding: untext(&header.message_encoding, header.message_encoding_len)?,
                schema_encoding: untext(&header.schema_encoding, header.schema_encoding_len)?,
                name: untext(&header.schema_name, header.schema_name_len)?,
                data: Vec::new(),
            },
            schema_hash: header.schema_hash,
            domain: untext(&header.domain, header.domain_len)?,
            topic: untext(&header.topic, header.topic_len)?,
            created: header.created,
        })
    }
}

/// A header that was checked. The schema's data is read from its own part.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) geometry: Geometry,
    pub(super) parts: Parts,
    pub(super) schema: Schema,
    pub(super) schema_hash: u64,
    pub(super) domain: String,
    pub(super) topic: String,
    pub(super) created: u64,
}

fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

fn untext(bytes: &[u8], len: u32) -> Result<String, String> {
    let bytes = bytes.get(..len as usize).ok_or_else(|| format!("a name of {len} bytes"))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name that is no text".into())
}
