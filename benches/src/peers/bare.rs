//! What the machine allows: a seqlock ring with nothing around it, in memory that forks share.
//!
//! It has no names, no liveness and no checks, and copies bytes that another process may be writing,
//! which no Rust program should do. It is the limit, not a peer.

use super::{Peer, Publisher, Setup, Subscriber};
use crate::message::Message;
use crate::stage::{Line, futex_wait, futex_wake, map_shared};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};

/// The ring with slots that start on a cache line of their own, or `packed` one after the other.
pub struct Ring<Align>(PhantomData<Align>);

pub type Bare = Ring<OnLines>;
pub type Packed = Ring<u64>;

#[repr(align(64))]
pub struct OnLines;

const READERS: usize = 16;

/// `2 * position + 1` while the message is written, `2 * position + 2` once it is there.
#[repr(C)]
struct Slot<const N: usize, Align> {
    align: [Align; 0],
    stamp: AtomicU64,
    message: Message<N>,
}

#[repr(C)]
struct Control {
    /// How many messages each subscriber has taken; the lossless publisher stays within reach of it.
    taken: [Line<AtomicU64>; READERS],
    wakes: Line<AtomicU32>,
    asleep: Line<AtomicU32>,
}

pub struct End<const N: usize, Align> {
    control: &'static Control,
    slots: *mut Slot<N, Align>,
    mask: u64,
    at: u64,
    gate: u64,
    index: usize,
    setup: Setup,
}

impl<const N: usize, Align> End<N, Align> {
    fn new(base: *mut u8, setup: &Setup, index: usize) -> Self {
        let depth = setup.depth as u64;
        End {
            // SAFETY: `prepare` mapped a zeroed control block there, followed by the slots.
            control: unsafe { &*base.cast::<Control>() },
            slots: base.wrapping_add(size_of::<Control>()).cast(),
            mask: depth - 1,
            at: 0,
            gate: if setup.lossless { depth } else { u64::MAX },
            index,
            setup: setup.clone(),
        }
    }

    #[inline(always)]
    fn slot(&self) -> *mut Slot<N, Align> {
        self.slots.wrapping_add((self.at & self.mask) as usize)
    }

    #[cold]
    fn wait_for_room(&mut self) {
        while self.at == self.gate {
            let taken = &self.control.taken[..self.setup.subscribers];
            let slowest = taken.iter().map(|t| t.0.load(Acquire)).min().unwrap_or(0);
            self.gate = slowest + self.mask + 1;
            std::hint::spin_loop();
        }
    }
}

impl<const N: usize, Align> Publisher<N> for End<N, Align> {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        if self.at == self.gate {
            self.wait_for_room();
        }
        let slot = self.slot();
        // SAFETY: the slot is within the mapping, and this is its only writer. Readers may copy it
        // at the same time and then drop what the stamp disowns.
        unsafe {
            (*slot).stamp.store(2 * self.at + 1, Relaxed);
            fence(Release);
            std::ptr::copy_nonoverlapping(message, &raw mut (*slot).message, 1);
            (*slot).stamp.store(2 * self.at + 2, Release);
        }
        self.at += 1;
        if self.setup.sleepers {
            fence(SeqCst);
            if self.control.asleep.0.load(Relaxed) != 0 {
                self.control.asleep.0.store(0, Relaxed);
                self.control.wakes.0.fetch_add(1, Release);
                futex_wake(&self.control.wakes.0, i32::MAX);
            }
        }
    }
}

impl<const N: usize, Align> Subscriber<N> for End<N, Align> {
    #[inline(always)]
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        let slot = self.slot();
        let wanted = 2 * self.at + 2;
        // SAFETY: as in `send`.
        unsafe {
            let stamp = (*slot).stamp.load(Acquire);
            if stamp != wanted {
                assert!(stamp < wanted, "overtaken");
                return false;
            }
            std::ptr::copy_nonoverlapping(&raw const (*slot).message, into, 1);
            fence(Acquire);
            assert!((*slot).stamp.load(Relaxed) == wanted, "overtaken");
        }
        self.at += 1;
        // Eight times a lap is enough for the publisher, and keeps it off this side's lines.
        if self.setup.lossless && self.at & (self.mask >> 3) == 0 {
            self.control.taken[self.index].0.store(self.at, Release);
        }
        true
    }

    fn wait(&mut self, into: &mut Message<N>) {
        while !self.receive(into) {
            let seen = self.control.wakes.0.load(Acquire);
            self.control.asleep.0.store(1, Relaxed);
            fence(SeqCst);
            if self.receive(into) {
                return;
            }
            futex_wait(&self.control.wakes.0, seen);
        }
    }
}

/// The mapping, given back when the cell is over.
pub struct Region {
    base: *mut u8,
    bytes: usize,
}

impl Region {
    pub fn new(base: *mut u8, bytes: usize) -> Self {
        Region { base, bytes }
    }

    pub fn base(&self) -> *mut u8 {
        self.base
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `prepare`, and the participants have exited.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

impl<const N: usize, Align> Peer<N> for Ring<Align> {
    type Shared = Region;
    type Publisher = End<N, Align>;
    type Subscriber = End<N, Align>;

    fn prepare(setup: &Setup) -> Region {
        assert!(setup.depth.is_power_of_two() && setup.subscribers <= READERS);
        let bytes = size_of::<Control>() + setup.depth * size_of::<Slot<N, Align>>();
        Region::new(map_shared(bytes), bytes)
    }

    fn publisher(shared: &Region, setup: &Setup) -> End<N, Align> {
        End::new(shared.base, setup, 0)
    }

    fn subscriber(shared: &Region, setup: &Setup, index: usize) -> End<N, Align> {
        End::new(shared.base, setup, index)
    }
}
