//! The memory of a link: three files without a name, sealed so that they keep their size.
//!
//! Each end makes one for itself to write, with its page of words and the ring to the other end, and seals it so that the other
//! one can map it for reading alone: what an end has to send again is in nobody else's reach. The third is a page that both write, to
//! sleep and to wake by; the server makes it.

use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{self, SealFlags};
use rustix::io::Errno;

use crate::core::atomic::{AtomicU32, AtomicU64, CachePadded, Word};
use crate::core::records;
use crate::core::ring::EventCount;
use crate::std::shm::{self, Mapping};

/// Whether this process can load words of memory that it cannot write: what wider atomic loads than a register's compile to,
/// nobody promises. Two ends share memory if it is the same for both: where it is not so, each can write what the other one sends,
/// and an end that can do without does not agree to that because its peer says so.
pub(super) const LOADS_READ_ONLY: bool = cfg!(target_pointer_width = "64");

/// Which end of a link this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Server,
    Client,
}

/// What one end writes for the other to read. Begins a page.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Words {
    /// How much of the other end's ring this one has given back, in words. Written by this end's consumer (Release), read by the
    /// other's producer.
    head: AtomicU64,
    /// The last sequence that this end has acknowledged. Written by this end, before `head`; read by the other's sender. Relaxed:
    /// what it frees is looked at by `head`.
    pub(super) acked: AtomicU64,
    /// Whether whoever sleeps until this end sends must run a barrier: see [`Notifier`](crate::core::ring::Notifier).
    pub(super) elided: CachePadded<AtomicU32>,
}

/// One reason to sleep.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Bell {
    /// Slept on by whoever waits for it.
    pub(super) event: EventCount,
    /// 1: whoever waits for it wants a frame on the socket, because it sleeps on that. Set by the end that waits, cleared
    /// by the other one, which then sends the frame. RMWs only, but for a look before.
    pub(super) by_socket: AtomicU32,
}

impl Bell {
    pub(super) const fn new() -> Self {
        Bell { event: EventCount::new(), by_socket: AtomicU32::new(0) }
    }
}

/// The page that both ends write. What a peer makes of it can keep this end from being woken by it, as if it sent nothing, or wake
/// it for nothing: no more.
#[repr(C)]
#[derive(Debug)]
struct WaitPage {
    /// The client waits for messages, or for room: rung by the server.
    client: [CachePadded<Bell>; 2],
    server: [CachePadded<Bell>; 2],
}

/// A memory that both ends have mapped.
#[derive(Debug)]
pub(super) struct Region {
    side: Side,
    /// The size of a ring in bytes.
    ring: usize,
    /// What this end writes.
    own: Mapping,
    /// What the other end writes.
    peers: Mapping,
    waits: Mapping,
}

/// What a server hands to its client.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) down: OwnedFd,
    pub(super) waits: OwnedFd,
}

/// The server's part of a memory, until it has the client's.
#[derive(Debug)]
pub(super) struct Half {
    ring: usize,
    own: Mapping,
    waits: Mapping,
}

/// Why memory of a peer's is not used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is not what it should be.
    Wrong,
    /// It cannot be mapped.
    System(Errno),
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// The length of the file that an end makes, with a ring of so many bytes.
fn file_len(ring: usize) -> usize {
    rustix::param::page_size() + ring
}

/// Makes what one end writes.
fn make_own(name: &str, ring: usize) -> Result<(Mapping, OwnedFd), Errno> {
    let len = file_len(ring);
    let file = shm::create_private(name, len as u64)?;
    let written = 0..len;
    let mapping = Mapping::new(file.as_fd(), len, &[written], true)?;
    // Behind the mapping, which the last seal would forbid.
    fs::fcntl_add_seals(&file, if LOADS_READ_ONLY { SEALS | SealFlags::FUTURE_WRITE } else { SEALS })?;
    Ok((mapping, file))
}

/// Maps what the other end has made, once it is known to keep its size and to be there when it is read;
/// `written` by both ends or not.
fn map_theirs(file: BorrowedFd<'_>, len: usize, written: bool) -> Result<Mapping, Unusable> {
    let wanted = if written || !LOADS_READ_ONLY { SEALS } else { SEALS | SealFlags::FUTURE_WRITE };
    // The seals first: sealed, it keeps the size that it is found to have.
    let is_sealed = fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(wanted));
    let is_as_long = || fs::fstat(file).is_ok_and(|stat| stat.st_size as u64 == len as u64);
    // A huge page that is not to be had is a signal to whoever reads there.
    let is_of_pages = || fs::fstatfs(file).is_ok_and(|system| system.f_type == TMPFS);
    if !is_sealed || !is_as_long() || !is_of_pages() {
        return Err(Unusable::Wrong);
    }
    let written = if written || !LOADS_READ_ONLY { 0..len } else { 0..0 };
    Mapping::new(file, len, &[written], true).map_err(Unusable::System)
}

/// The kind of file system that an ordinary memfd is in.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

impl Half {
    /// Makes the server's part, with rings of `ring` bytes, a multiple of the page's size.
    pub(super) fn create(ring: usize) -> Result<(Self, Files), Errno> {
        let page = rustix::param::page_size();
        let (own, down) = make_own("conduit-down", ring)?;
        let file = shm::create_private("conduit-waits", page as u64)?;
        let written = 0..page;
        let waits = Mapping::new(file.as_fd(), page, &[written], true)?;
        fs::fcntl_add_seals(&file, SEALS)?;
        Ok((Half { ring, own, waits }, Files { down, waits: file }))
    }

    /// The size of a ring in bytes.
    pub(super) fn ring_len(&self) -> usize {
        self.ring
    }

    /// The whole, with what the client has made.
    pub(super) fn complete(self, up: BorrowedFd<'_>) -> Result<Region, Unusable> {
        let Half { ring, own, waits } = self;
        let peers = map_theirs(up, file_len(ring), false)?;
        Ok(Region { side: Side::Server, ring, own, peers, waits })
    }
}

impl Region {
    /// Maps on the client's side what the server says has rings of `ring` bytes, and makes the client's part, for the server to map.
    pub(super) fn open(ring: usize, files: &Files) -> Result<(Self, OwnedFd), Unusable> {
        let page = rustix::param::page_size();
        if ring % page != 0 || ring == 0 {
            return Err(Unusable::Wrong);
        }
        let peers = map_theirs(files.down.as_fd(), file_len(ring), false)?;
        let waits = map_theirs(files.waits.as_fd(), page, true)?;
        let (own, up) = make_own("conduit-up", ring).map_err(Unusable::System)?;
        Ok((Region { side: Side::Client, ring, own, peers, waits }, up))
    }

    fn at<T>(mapping: &Mapping, offset: usize) -> &T {
        const { assert!(size_of::<WaitPage>() <= 4096 && size_of::<Words>() <= 4096) };
        assert!(offset + size_of::<T>() <= mapping.len() && offset % 64 == 0);
        // SAFETY: within the mapping, which keeps its size because its file is sealed; a multiple of 64 from the beginning
        // of a page, which is enough for any of these types; made of atomics alone, for which any bits are a value.
        unsafe { mapping.start().add(offset).cast::<T>().as_ref() }
    }

    /// What this end writes.
    pub(super) fn own(&self) -> &Words {
        Self::at(&self.own, 0)
    }

    /// What the other end writes.
    pub(super) fn peers(&self) -> &Words {
        Self::at(&self.peers, 0)
    }

    /// By what `side` waits: first for messages, second for room.
    pub(super) fn bells(&self, side: Side) -> [&Bell; 2] {
        let page: &WaitPage = Self::at(&self.waits, 0);
        let [messages, room] = match side {
            Side::Server => &page.server,
            Side::Client => &page.client,
        };
        [messages, room]
    }

    /// The size of a ring in bytes.
    pub(super) fn ring_len(&self) -> usize {
        self.ring
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// The ring that whoever has made `mapping` sends through.
    fn ring_in<'a>(&self, mapping: &'a Mapping) -> &'a [AtomicU64] {
        let first = NonNull::from(Self::at::<AtomicU64>(mapping, rustix::param::page_size()));
        // SAFETY: behind its page the mapping has the ring; a whole number of words.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.ring / size_of::<AtomicU64>()) }
    }

    /// All that this end may write: the page to wait by, and its own words and ring.
    #[cfg(any(fuzzing, test))]
    pub(super) fn written(&self) -> [&[AtomicU64]; 2] {
        [&self.waits, &self.own].map(|mapping| {
            // SAFETY: page-aligned, as long as the mapping, which is kept; for tests that do with it what nobody may.
            unsafe { std::slice::from_raw_parts(mapping.start().as_ptr().cast(), mapping.len() / 8) }
        })
    }

    /// The two ends of the rings that this end of the link has.
    ///
    /// # Safety
    ///
    /// Called once for each region.
    pub(super) unsafe fn ends(self: &Arc<Self>) -> (records::Producer<Ring>, records::Consumer<Ring>) {
        // Given back by whoever reads.
        let ring = |from: &Mapping, reader: &Words| Ring {
            words: NonNull::from(self.ring_in(from)),
            head: NonNull::from(&reader.head),
            _region: self.clone(),
        };
        let (to, from) = (ring(&self.own, self.peers()), ring(&self.peers, self.own()));
        // SAFETY: the only ones on this side, says the caller. What the other side does with its own is what `records` bears of
        // an end that is not trusted.
        unsafe { (records::Producer::new(to), records::Consumer::new(from)) }
    }
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Side::Server => Side::Client,
            Side::Client => Side::Server,
        }
    }
}

/// The ring that messages from one of the sides go through.
#[derive(Debug)]
pub(super) struct Ring {
    words: NonNull<[AtomicU64]>,
    head: NonNull<AtomicU64>,
    /// What both are in.
    _region: Arc<Region>,
}

// SAFETY: atomics, in a mapping that is kept.
unsafe impl Send for Ring {}
// SAFETY: as for Send.
unsafe impl Sync for Ring {}

// SAFETY: the same words for the life of the region, as many as a page's size or more and less than 2^28, as sizes are limited;
// zeros when the region is made, as new files are. A peer that writes what it must not is what `records` allows for where only
// the calls that copy are used, and no others are here.
unsafe impl records::Memory for Ring {
    type Word = AtomicU64;

    #[inline(always)]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: in the region, which is kept.
        unsafe { self.words.as_ref() }
    }

    #[inline(always)]
    fn head(&self) -> &AtomicU64 {
        // SAFETY: as for the words.
        unsafe { self.head.as_ref() }
    }
}

const _: () = {
    assert!(offset_of!(Words, head) == 0 && offset_of!(Words, acked) == 8);
    assert!(size_of::<CachePadded<Bell>>() == size_of::<CachePadded<u64>>());
    assert!(<AtomicU64 as Word>::BITS == 64);
};
