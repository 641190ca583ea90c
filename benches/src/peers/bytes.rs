//! A ring of bytes with nothing around it: a length before each record, two counters on lines of their own, and plain copies in
//! memory that forks share. It trusts the other end with all of it, wakes nobody and keeps nothing. It is a limit, not a peer.

use super::bare::Region;
use super::link::SIZE;
use super::{Peer, Publisher, Setup, Subscriber};
use crate::message::Message;
use crate::stage::{Line, map_shared};
use std::sync::atomic::{AtomicU64, Ordering::*};

pub struct Bytes;

#[repr(C)]
struct Control {
    /// Bytes written, and bytes read.
    tail: Line<AtomicU64>,
    head: Line<AtomicU64>,
}

pub struct End {
    control: &'static Control,
    ring: *mut u8,
    /// This end's own counter, and the other one's as last seen.
    own: u64,
    seen: u64,
    /// The reader's counter as last told.
    told: u64,
}

/// A record's length and its bytes, in whole words. One that would not fit before the end of the ring begins at its beginning.
const fn room(len: usize) -> usize {
    8 + len.next_multiple_of(8)
}

impl End {
    /// Where a record of `len` bytes goes, or is, from byte `at` on.
    #[inline(always)]
    fn place(at: u64, len: usize) -> u64 {
        let left = SIZE - at as usize % SIZE;
        if left < room(len) { at + left as u64 } else { at }
    }

    #[inline(always)]
    fn pointer(&self, at: u64) -> *mut u8 {
        self.ring.wrapping_add(at as usize % SIZE)
    }
}

impl<const N: usize> Peer<N> for Bytes {
    type Shared = Region;
    type Publisher = End;
    type Subscriber = End;

    fn prepare(_: &Setup) -> Region {
        let bytes = size_of::<Control>() + SIZE;
        Region::new(map_shared(bytes), bytes)
    }

    fn publisher(shared: &Region, _: &Setup) -> End {
        // SAFETY: `prepare` mapped a zeroed control block there, followed by the ring.
        let control = unsafe { &*shared.base().cast::<Control>() };
        End { control, ring: shared.base().wrapping_add(size_of::<Control>()), own: 0, seen: 0, told: 0 }
    }

    fn subscriber(shared: &Region, setup: &Setup, _: usize) -> End {
        <Self as Peer<N>>::publisher(shared, setup)
    }
}

impl<const N: usize> Publisher<N> for End {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        let at = Self::place(self.own, N * 8);
        let end = at + room(N * 8) as u64;
        while end - self.seen > SIZE as u64 {
            self.seen = self.control.head.0.load(Acquire);
        }
        let to = self.pointer(at);
        // SAFETY: within the ring, as placed, and given back by the reader.
        unsafe {
            to.cast::<u64>().write(N as u64 * 8);
            std::ptr::copy_nonoverlapping(message.bytes().as_ptr(), to.add(8), N * 8);
        }
        self.own = end;
        self.control.tail.0.store(end, Release);
    }
}

impl<const N: usize> Subscriber<N> for End {
    #[inline(always)]
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        if self.own == self.seen {
            self.seen = self.control.tail.0.load(Acquire);
            if self.own == self.seen {
                return false;
            }
        }
        let at = Self::place(self.own, N * 8);
        let from = self.pointer(at);
        // SAFETY: within the ring, and written before the counter was.
        unsafe {
            assert_eq!(from.cast::<u64>().read(), N as u64 * 8, "its length");
            std::ptr::copy_nonoverlapping(from.add(8), into.bytes_mut().as_mut_ptr(), N * 8);
        }
        self.own = at + room(N * 8) as u64;
        // A few times a lap is enough for the writer, and keeps it off this side's line.
        if self.own - self.told >= SIZE as u64 / 8 || self.own == self.seen {
            self.told = self.own;
            self.control.head.0.store(self.own, Release);
        }
        true
    }

    fn wait(&mut self, into: &mut Message<N>) {
        while !self.receive(into) {
            std::hint::spin_loop();
        }
    }
}
