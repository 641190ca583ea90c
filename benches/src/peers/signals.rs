//! The kernel's own ways to wake a process, with the message in one slot of shared memory beside them:
//! a futex word, which is the floor for anything that sleeps, and an eventfd.
//!
//! The slot holds one message, so whoever sends waits until all have read the last one.

use super::bare::Region;
use super::{Peer, Publisher, Setup, Subscriber};
use crate::message::Message;
use crate::stage::{Line, futex_wait, futex_wake, map_shared};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering::*};

#[repr(C)]
struct Slot<const N: usize> {
    /// How many messages were sent; what the futex sleeps on.
    count: Line<AtomicU32>,
    /// How often a message was read, by all subscribers together.
    reads: Line<AtomicU32>,
    message: Message<N>,
}

impl<const N: usize> Slot<N> {
    /// Writes the next message once `subscribers` have read all before it.
    fn write(this: *mut Self, message: &Message<N>, subscribers: u32) {
        // SAFETY: the slot is within the mapping; its last message has been read, and it is not
        // announced yet that there is another.
        unsafe {
            let sent = (*this).count.0.load(Relaxed);
            while (*this).reads.0.load(Acquire) != sent.wrapping_mul(subscribers) {}
            (&raw mut (*this).message).write(*message);
            (*this).count.0.store(sent.wrapping_add(1), Release);
        }
    }

    fn read(this: *mut Self, into: &mut Message<N>) {
        // SAFETY: whoever calls knows that a message is there, and it stays until it was read.
        unsafe {
            *into = (&raw const (*this).message).read();
            (*this).reads.0.fetch_add(1, Release);
        }
    }
}

fn slot<const N: usize>() -> Region {
    Region::new(map_shared(size_of::<Slot<N>>()), size_of::<Slot<N>>())
}

pub struct Futex;

pub struct FutexEnd<const N: usize> {
    slot: *mut Slot<N>,
    seen: u32,
    subscribers: u32,
}

impl<const N: usize> FutexEnd<N> {
    fn count(&self) -> &AtomicU32 {
        // SAFETY: the mapping outlives the participant.
        unsafe { &(*self.slot).count.0 }
    }
}

impl<const N: usize> Peer<N> for Futex {
    type Shared = Region;
    type Publisher = FutexEnd<N>;
    type Subscriber = FutexEnd<N>;

    fn prepare(_: &Setup) -> Region {
        slot::<N>()
    }

    fn publisher(shared: &Region, setup: &Setup) -> FutexEnd<N> {
        FutexEnd { slot: shared.base().cast(), seen: 0, subscribers: setup.subscribers as u32 }
    }

    fn subscriber(shared: &Region, setup: &Setup, _: usize) -> FutexEnd<N> {
        <Self as Peer<N>>::publisher(shared, setup)
    }
}

impl<const N: usize> Publisher<N> for FutexEnd<N> {
    fn send(&mut self, message: &Message<N>) {
        Slot::write(self.slot, message, self.subscribers);
        futex_wake(self.count(), i32::MAX);
    }
}

impl<const N: usize> Subscriber<N> for FutexEnd<N> {
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        let count = self.count().load(Acquire);
        if count == self.seen {
            return false;
        }
        self.seen = count;
        Slot::read(self.slot, into);
        true
    }

    fn wait(&mut self, into: &mut Message<N>) {
        while !self.receive(into) {
            futex_wait(self.count(), self.seen);
        }
    }
}

pub struct EventFd;

pub struct EventFdEnd<const N: usize> {
    slot: *mut Slot<N>,
    fd: OwnedFd,
}

impl<const N: usize> Peer<N> for EventFd {
    type Shared = (Region, OwnedFd);
    type Publisher = EventFdEnd<N>;
    type Subscriber = EventFdEnd<N>;

    const POLLS: bool = false;

    fn prepare(_: &Setup) -> Self::Shared {
        // SAFETY: a new descriptor, ours.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, 0)) };
        (slot::<N>(), fd)
    }

    fn publisher((region, fd): &Self::Shared, _: &Setup) -> EventFdEnd<N> {
        EventFdEnd { slot: region.base().cast(), fd: fd.try_clone().expect("a descriptor") }
    }

    fn subscriber(shared: &Self::Shared, setup: &Setup, _: usize) -> EventFdEnd<N> {
        <Self as Peer<N>>::publisher(shared, setup)
    }
}

impl<const N: usize> Publisher<N> for EventFdEnd<N> {
    fn send(&mut self, message: &Message<N>) {
        Slot::write(self.slot, message, 1);
        // SAFETY: eight bytes from a `u64`.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const ONE).cast(), 8) };
    }
}

static ONE: u64 = 1;

impl<const N: usize> Subscriber<N> for EventFdEnd<N> {
    fn receive(&mut self, _: &mut Message<N>) -> bool {
        unreachable!("an eventfd is waited for")
    }

    fn wait(&mut self, into: &mut Message<N>) {
        let mut count = 0u64;
        // SAFETY: eight bytes into a `u64`.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) };
        Slot::read(self.slot, into);
    }
}
