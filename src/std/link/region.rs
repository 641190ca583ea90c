//! The memory of a link: two files without a name, sealed so that they keep their size, one for each end to write.
//!
//! `down` is the server's: its page of words and the ring to the client. `up` is the client's: a page that both write, to sleep
//! and to wake by, the client's page of words, and the ring to the server. Each end maps what the other one writes for reading
//! alone, and `down` is sealed so that a client can't do otherwise. The server, which makes both files, could: what a client has to
//! send again is in its server's reach, if that is hostile.

use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{self, SealFlags};
use rustix::io::Errno;

use super::wire::Fault;
use crate::core::atomic::{AtomicU32, AtomicU64, CachePadded, Word};
use crate::core::records;
use crate::core::ring::EventCount;
use crate::std::shm::{self, Mapping};

/// Whether this process can load words of memory that it cannot write: what wider atomic loads than a register's compile to,
/// nobody promises.
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
    /// The last sequence that this end has acknowledged. Written by this end (Release), before `head`; read by the other's sender.
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
    page: usize,
    down: Mapping,
    up: Mapping,
}

/// What a server hands to its client.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) down: OwnedFd,
    pub(super) up: OwnedFd,
}

/// Where the parts are, in files that begin so.
#[derive(Clone, Copy)]
struct Layout {
    ring: usize,
    page: usize,
}

impl Layout {
    fn down_len(self) -> usize {
        self.page + self.ring
    }

    fn up_len(self) -> usize {
        2 * self.page + self.ring
    }
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

impl Region {
    /// Makes the memory on the server's side, with rings of `ring` bytes, a multiple of the page's size. A client that
    /// `maps_writable` can write to all of it.
    pub(super) fn create(ring: usize, maps_writable: bool) -> Result<(Self, Files), Errno> {
        let page = rustix::param::page_size();
        let layout = Layout { ring, page };
        let create = |name, len| shm::create_private(name, len as u64);
        let files =
            Files { down: create("conduit-down", layout.down_len())?, up: create("conduit-up", layout.up_len())? };
        let region = Region::map(Side::Server, layout, files.down.as_fd(), files.up.as_fd())?;
        let seals = if maps_writable { SEALS } else { SEALS | SealFlags::FUTURE_WRITE };
        // Behind the mapping, which the last seal would forbid.
        fs::fcntl_add_seals(&files.down, seals)?;
        fs::fcntl_add_seals(&files.up, SEALS)?;
        Ok((region, files))
    }

    /// Maps on the client's side what the server says has rings of `ring` bytes.
    pub(super) fn open(ring: usize, files: &Files) -> Result<Result<Self, Errno>, Fault> {
        let page = rustix::param::page_size();
        let layout = Layout { ring, page };
        let is_right = |file: BorrowedFd<'_>, len: usize| {
            let wanted = SealFlags::SHRINK | SealFlags::GROW;
            // The seals first: sealed, it keeps the size that it is found to have.
            let sealed = fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(wanted));
            sealed && fs::fstat(file).is_ok_and(|stat| stat.st_size as u64 == len as u64)
        };
        let aligned = ring % page == 0 && ring > 0;
        if !aligned || !is_right(files.down.as_fd(), layout.down_len()) || !is_right(files.up.as_fd(), layout.up_len())
        {
            return Err(Fault::Offer);
        }
        Ok(Region::map(Side::Client, layout, files.down.as_fd(), files.up.as_fd()))
    }

    fn map(side: Side, layout: Layout, down: BorrowedFd<'_>, up: BorrowedFd<'_>) -> Result<Self, Errno> {
        let Layout { ring, page } = layout;
        let (down_len, up_len) = (layout.down_len(), layout.up_len());
        // Both whole for whoever could not load from memory that it cannot write.
        let (down_written, up_written) = match side {
            _ if !LOADS_READ_ONLY => (0..down_len, 0..up_len),
            Side::Server => (0..down_len, 0..page),
            Side::Client => (0..0, 0..up_len),
        };
        Ok(Region {
            side,
            ring,
            page,
            down: Mapping::new(down, down_len, &[down_written], true)?,
            up: Mapping::new(up, up_len, &[up_written], true)?,
        })
    }

    fn at<T>(mapping: &Mapping, offset: usize) -> &T {
        const { assert!(size_of::<WaitPage>() <= 4096 && size_of::<Words>() <= 4096) };
        assert!(offset + size_of::<T>() <= mapping.len() && offset % 64 == 0);
        // SAFETY: within the mapping, which keeps its size because its file is sealed; a multiple of 64 from the beginning
        // of a page, which is enough for any of these types; made of atomics alone, for which any bits are a value.
        unsafe { mapping.start().add(offset).cast::<T>().as_ref() }
    }

    fn words_of(&self, side: Side) -> &Words {
        match side {
            Side::Server => Self::at(&self.down, 0),
            Side::Client => Self::at(&self.up, self.page),
        }
    }

    /// What this end writes.
    pub(super) fn own(&self) -> &Words {
        self.words_of(self.side)
    }

    /// What the other end writes.
    pub(super) fn peers(&self) -> &Words {
        self.words_of(self.side.other())
    }

    /// By what `side` waits: first for messages, second for room.
    pub(super) fn bells(&self, side: Side) -> [&Bell; 2] {
        let page: &WaitPage = Self::at(&self.up, 0);
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

    /// The ring that `side` sends through.
    fn ring_of(&self, side: Side) -> &[AtomicU64] {
        let (mapping, offset) = match side {
            Side::Server => (&self.down, self.page),
            Side::Client => (&self.up, 2 * self.page),
        };
        let first: NonNull<AtomicU64> = NonNull::from(Self::at::<AtomicU64>(mapping, offset));
        // SAFETY: the mapping is as long as the layout says, of which the ring is the last part; a whole number of words.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), self.ring / size_of::<AtomicU64>()) }
    }

    /// The two ends of the rings that this end of the link has.
    ///
    /// # Safety
    ///
    /// Called once for each region.
    pub(super) unsafe fn ends(self: &Arc<Self>) -> (records::Producer<Ring>, records::Consumer<Ring>) {
        let ring = |from: Side| Ring {
            words: NonNull::from(self.ring_of(from)),
            // Given back by whoever reads.
            head: NonNull::from(&self.words_of(from.other()).head),
            _region: self.clone(),
        };
        // SAFETY: the only ones on this side, says the caller. What the other side does with its own is what `records` bears of
        // an end that is not trusted.
        unsafe { (records::Producer::new(ring(self.side)), records::Consumer::new(ring(self.side.other()))) }
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
