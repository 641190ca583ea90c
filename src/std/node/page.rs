//! The bytes of a node's file: what stands where. `docs/shm-layout.md` describes the same for other languages.

use std::mem::{offset_of, size_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::options::Threads;
use crate::core::atomic::AtomicU64;
use crate::std::shm::Mapping;
use crate::std::topic::{MAX_DOMAIN, MAX_TOPIC};

/// Longest name of a node, in bytes.
pub const MAX_NODE: usize = MAX_TOPIC;

/// Most subscriptions, timers and publications of a node together.
pub(super) const MAX_ENTRIES: usize = 4096;

const MAGIC: u64 = u64::from_ne_bytes(*b"condnode");
/// Reads as itself only in the byte order of whoever wrote it.
const ENDIAN: u32 = 0x0102_0304;
/// Version of the layout.
const ABI: u32 = 1;

/// The first bytes of the file. Written before the file has a name.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    magic: u64,
    endian: u32,
    abi: u32,
    file_len: u64,
    /// `CLOCK_REALTIME` and `CLOCK_MONOTONIC`, nanoseconds.
    started_real: u64,
    started: u64,
    pid: u32,
    threads: u32,
    entries: u32,
    domain_len: u32,
    name_len: u32,
    reserved: u32,
    domain: [u8; MAX_DOMAIN],
    name: [u8; MAX_NODE],
}

/// Where the entries begin.
const ENTRIES_AT: usize = 320;

/// A subscription, a timer or a publication. All but its [`Live`] is written before the file has a name.
#[repr(C, align(64))]
struct Entry {
    kind: u32,
    name_len: u32,
    /// Nanoseconds; of timers.
    period: u64,
    name: [u8; MAX_TOPIC],
    reserved: [u64; 5],
    live: Live,
}

/// What changes while the node runs. Written by the thread of the entry alone (Relaxed), for people to read; decides nothing.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Messages called back with, or ticks.
    pub(super) count: AtomicU64,
    /// Messages lost, or ticks skipped.
    pub(super) missed: AtomicU64,
    /// How often the callback panicked.
    pub(super) panics: AtomicU64,
    /// Of subscriptions: a [`Joined`].
    pub(super) joined: AtomicU32,
    /// The thread, as numbered in its own PID namespace; 0 before it runs.
    pub(super) thread: AtomicU32,
    reserved: [u64; 4],
}

const _: () = {
    assert!(size_of::<Header>() == 296);
    assert!(offset_of!(Header, domain) == 64);
    assert!(size_of::<Entry>() == 320);
    assert!(offset_of!(Entry, name) == 16);
    assert!(offset_of!(Entry, live) == 256);
    assert!(ENTRIES_AT >= size_of::<Header>() && ENTRIES_AT % 64 == 0);
};

/// Whether a subscription has its topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Joined {
    /// There is no topic of the name yet.
    Awaited = 0,
    /// It receives.
    Yes = 1,
    /// The topic cannot be had as it is: it carries another type, has no place left, or belongs to somebody else.
    Refused = 2,
}

/// What an entry is, as it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Subscription,
    Timer(Duration),
    Publication,
}

/// What a node's file says, apart from what changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Card {
    pub(super) domain: String,
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) threads: Threads,
    /// Nanoseconds since 1970.
    pub(super) started_real: u64,
    /// Nanoseconds of the monotonic clock.
    pub(super) started: u64,
    pub(super) entries: Vec<(Kind, String)>,
}

impl Card {
    /// The length of the file, in bytes; a multiple of `page`.
    pub(super) fn file_len(&self, page: usize) -> usize {
        file_len(self.entries.len(), page)
    }

    /// What the file begins with; what follows is zero.
    pub(super) fn bytes(&self, page: usize) -> Vec<u8> {
        let header = Header {
            magic: MAGIC,
            endian: ENDIAN,
            abi: ABI,
            file_len: self.file_len(page) as u64,
            started_real: self.started_real,
            started: self.started,
            pid: self.pid,
            threads: match self.threads {
                Threads::One => 1,
                Threads::Each => 2,
            },
            entries: self.entries.len() as u32,
            domain_len: self.domain.len() as u32,
            name_len: self.name.len() as u32,
            reserved: 0,
            domain: text(&self.domain),
            name: text(&self.name),
        };
        // SAFETY: the header is made of integers and bytes, without padding (asserted above by its size).
        let header: [u8; size_of::<Header>()] = unsafe { std::mem::transmute(header) };
        let mut bytes = vec![0; ENTRIES_AT + self.entries.len() * size_of::<Entry>()];
        bytes[..header.len()].copy_from_slice(&header);
        for ((kind, name), entry) in self.entries.iter().zip(bytes[ENTRIES_AT..].chunks_mut(size_of::<Entry>())) {
            let (kind, period) = match kind {
                Kind::Subscription => (1u32, 0),
                Kind::Timer(period) => (2, period.as_nanos() as u64),
                Kind::Publication => (3, 0),
            };
            entry[..4].copy_from_slice(&kind.to_ne_bytes());
            entry[4..8].copy_from_slice(&(name.len() as u32).to_ne_bytes());
            entry[8..16].copy_from_slice(&period.to_ne_bytes());
            entry[16..16 + name.len()].copy_from_slice(name.as_bytes());
        }
        bytes
    }

    /// Reads and checks a whole file that anybody may have written; with it, what changes of each entry. `Err` says what is
    /// wrong.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, Vec<LiveCopy>), String> {
        let Some(header) = bytes.first_chunk::<{ size_of::<Header>() }>() else {
            return Err(format!("it ends after {} bytes, within its header", bytes.len()));
        };
        // SAFETY: the header is made of integers and bytes, of which every pattern is valid, and as long as what it is made of.
        let header: Header = unsafe { std::mem::transmute_copy(header) };
        if header.magic != MAGIC {
            return Err("it does not begin as a node's file does".into());
        }
        if header.endian != ENDIAN {
            return Err("it was written by a machine of another byte order".into());
        }
        if header.abi != ABI {
            let version = header.abi;
            return Err(format!(
                "it has layout {version}, this program reads {ABI}: another version of Conduit made it"
            ));
        }
        let entries = header.entries as usize;
        let needed = ENTRIES_AT + entries.min(MAX_ENTRIES) * size_of::<Entry>();
        if header.file_len != bytes.len() as u64 || entries > MAX_ENTRIES || needed > bytes.len() {
            return Err(format!(
                "it says {} bytes with {entries} entries, and has {} bytes",
                header.file_len,
                bytes.len()
            ));
        }
        let threads = match header.threads {
            1 => Threads::One,
            2 => Threads::Each,
            other => return Err(format!("unknown kind of threads {other}")),
        };
        let mut card = Card {
            domain: untext(&header.domain, header.domain_len)?,
            name: untext(&header.name, header.name_len)?,
            pid: header.pid,
            threads,
            started_real: header.started_real,
            started: header.started,
            entries: Vec::with_capacity(entries),
        };
        let mut live = Vec::with_capacity(entries);
        for entry in bytes[ENTRIES_AT..needed].chunks_exact(size_of::<Entry>()) {
            let u32_at = |at: usize| u32::from_ne_bytes(*entry[at..].first_chunk().expect("within an entry"));
            let u64_at = |at: usize| u64::from_ne_bytes(*entry[at..].first_chunk().expect("within an entry"));
            let kind = match u32_at(0) {
                1 => Kind::Subscription,
                2 => Kind::Timer(Duration::from_nanos(u64_at(8))),
                3 => Kind::Publication,
                other => return Err(format!("an entry of unknown kind {other}")),
            };
            card.entries.push((kind, untext(&entry[16..16 + MAX_TOPIC], u32_at(4))?));
            let at = |field: usize| offset_of!(Entry, live) + field;
            live.push(LiveCopy {
                count: u64_at(at(offset_of!(Live, count))),
                missed: u64_at(at(offset_of!(Live, missed))),
                panics: u64_at(at(offset_of!(Live, panics))),
                joined: match u32_at(at(offset_of!(Live, joined))) {
                    1 => Joined::Yes,
                    2 => Joined::Refused,
                    _ => Joined::Awaited,
                },
                thread: u32_at(at(offset_of!(Live, thread))),
            });
        }
        Ok((card, live))
    }
}

/// The longest file of a node, in bytes.
pub(super) fn max_file_len(page: usize) -> usize {
    file_len(MAX_ENTRIES, page)
}

fn file_len(entries: usize, page: usize) -> usize {
    (ENTRIES_AT + entries * size_of::<Entry>()).next_multiple_of(page)
}

/// A copy of a [`Live`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LiveCopy {
    pub(super) count: u64,
    pub(super) missed: u64,
    pub(super) panics: u64,
    pub(super) joined: Joined,
    pub(super) thread: u32,
}

/// What changes of one entry of this process's own node, in its file.
#[derive(Debug)]
pub(super) struct Line {
    file: Arc<Mapping>,
    at: usize,
}

impl Line {
    /// Those of a file with the bytes of a card of `entries` entries.
    pub(super) fn all(file: Arc<Mapping>, entries: usize) -> impl Iterator<Item = Line> {
        assert!(file.len() >= ENTRIES_AT + entries * size_of::<Entry>());
        (0..entries).map(move |at| Line { file: file.clone(), at })
    }

    pub(super) fn live(&self) -> &Live {
        let at = ENTRIES_AT + self.at * size_of::<Entry>() + offset_of!(Entry, live);
        // SAFETY: within the mapping (asserted when this was made), aligned to 64, and made of atomics and unused bytes.
        unsafe { self.file.start().add(at).cast().as_ref() }
    }

    pub(super) fn set_joined(&self, joined: Joined) {
        self.live().joined.store(joined as u32, Ordering::Relaxed);
    }
}

fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

/// A name, which has nothing in it that a name of a topic or a timer hasn't.
fn untext(bytes: &[u8], len: u32) -> Result<String, String> {
    let bytes = bytes.get(..len as usize).ok_or_else(|| format!("a name of {len} bytes"))?;
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control));
    text.map(Into::into).ok_or_else(|| "a name that is no text".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: usize = 4096;

    fn card(entries: usize) -> Card {
        let kinds = [Kind::Subscription, Kind::Timer(Duration::from_millis(10)), Kind::Publication];
        Card {
            domain: "robot".into(),
            name: "arm/left".into(),
            pid: 7,
            threads: Threads::Each,
            started_real: 1,
            started: 2,
            entries: (0..entries).map(|at| (kinds[at % 3], format!("t/{at}"))).collect(),
        }
    }

    fn file(card: &Card) -> Vec<u8> {
        let mut bytes = card.bytes(PAGE);
        bytes.resize(card.file_len(PAGE), 0);
        bytes
    }

    #[test]
    fn a_card_is_read_as_it_was_written() {
        for entries in [0, 1, 12, MAX_ENTRIES] {
            let card = card(entries);
            let (read, live) = Card::parse(&file(&card)).unwrap();
            assert_eq!(read, card);
            assert_eq!(live.len(), entries);
            assert!(live.iter().all(|live| (live.count, live.joined) == (0, Joined::Awaited)));
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let whole = file(&card(3));
        let with = |at: usize, value: u32| {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            Card::parse(&bytes).unwrap_err()
        };
        for (at, value, reason) in [
            (0, 1, "begin"),
            (8, 0x0403_0201, "byte order"),
            (12, 2, "layout 2"),
            (16, 1, "says 1 bytes"),
            (44, 3, "threads"),
            (48, 13, "13 entries"),
            (48, u32::MAX, "entries"),
            (52, 33, "a name of 33"),
            (56, u32::MAX, "a name of"),
            (64, u32::MAX, "no text"),
            (96, 0x1b1b_1b1b, "no text"),
            (ENTRIES_AT, 4, "kind 4"),
            (ENTRIES_AT + 4, 201, "a name of 201"),
        ] {
            let error = with(at, value);
            assert!(error.contains(reason), "{at}: {error}");
        }
        for len in [0, 7, 295, 296, 320, whole.len() - 1] {
            Card::parse(&whole[..len]).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn no_bytes_lead_anywhere_but_to_an_error_or_a_card(
            changes in prop::collection::vec((0..4096usize, any::<u8>()), 0..40), len in 0..=4096usize,
        ) {
            let mut bytes = file(&card(4));
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok((card, live)) = Card::parse(&bytes[..len]) {
                prop_assert_eq!(card.entries.len(), live.len());
            }
        }
    }
}
