//! A received message.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::message::Payload;
use super::region::FrameView;
use super::subscriber::Attachment;
use crate::core::atomic::{Ordering, fence};
use crate::core::ring::{FrameMemory, Meta, Pin, unpin};

/// A received message: dereferences to the message, wherever it is.
///
/// On a topic with Frames slots the message stays where the publisher wrote it; the publisher steps over its slot until
/// the sample is dropped. On a topic with Words slots the sample is a copy. Samples may be kept, sent to other threads,
/// and outlive their subscriber. In a forked child a sample is only good while the parent keeps its own.
pub struct Sample<T: Payload + ?Sized> {
    place: Place,
    copy: MaybeUninit<T::Inline>,
    len: usize,
    sequence: u64,
    timestamp: u64,
    lagged: u64,
    payload: PhantomData<fn() -> Box<T>>,
}

/// Where the message is.
enum Place {
    /// In the sample itself.
    Inline,
    /// A copy that does not fit there.
    Heap(Box<[u64]>),
    /// Where the publisher wrote it.
    Slot(Held),
}

/// A pinned slot.
struct Held {
    hold: Arc<Hold>,
    index: usize,
}

/// What each sample in place holds, and its subscriber: the count of its owners is the count of samples, plus 1. The last
/// one gives up the place among the subscribers.
#[derive(Debug)]
pub(super) struct Hold(pub(super) Arc<Attachment>);

impl Hold {
    /// How many samples are in use.
    #[inline(always)]
    pub(super) fn samples(this: &Arc<Self>) -> usize {
        let samples = Arc::strong_count(this) - 1;
        // Acquire: pairs with the Release with which a dropped sample gives up its count: its slot is let go.
        fence(Ordering::Acquire);
        samples
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<T: Payload + ?Sized> Sample<T> {
    #[inline(always)]
    pub(super) fn copied(copy: MaybeUninit<T::Inline>, len: usize, meta: Meta) -> Self {
        Sample::new(Place::Inline, copy, len, meta.sequence, meta.timestamp, meta.lost)
    }

    pub(super) fn on_heap(copy: Box<[u64]>, len: usize, meta: Meta) -> Self {
        Sample::new(Place::Heap(copy), MaybeUninit::uninit(), len, meta.sequence, meta.timestamp, meta.lost)
    }

    #[inline(always)]
    fn new(place: Place, copy: MaybeUninit<T::Inline>, len: usize, sequence: u64, timestamp: u64, lagged: u64) -> Self {
        Sample { place, copy, len, sequence, timestamp, lagged, payload: PhantomData }
    }

    /// The caller has pinned the slot for the owner of `hold`.
    #[inline(always)]
    pub(super) fn pinned(hold: Arc<Hold>, pin: Pin) -> Self {
        let place = Place::Slot(Held { hold, index: pin.index });
        Sample::new(place, MaybeUninit::uninit(), pin.length, pin.sequence, pin.timestamp, pin.lost)
    }

    /// The message's number: each message of a topic has one more than the one before.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When the message was published, on the monotonic clock; `None` on a topic without timestamps.
    pub fn timestamp(&self) -> Option<Duration> {
        (self.timestamp != 0).then(|| Duration::from_nanos(self.timestamp))
    }

    /// How many messages this subscriber lost between the one it received before and this one.
    pub fn lagged(&self) -> u64 {
        self.lagged
    }

    /// Whether the message is read where the publisher wrote it, rather than from a copy.
    pub fn is_in_place(&self) -> bool {
        matches!(self.place, Place::Slot(_))
    }
}

impl<T: Payload + ?Sized> Deref for Sample<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        let data = match &self.place {
            Place::Slot(held) => FrameView(held.hold.0.region.view()).payload(held.index).cast_const(),
            Place::Inline => self.copy.as_ptr().cast(),
            Place::Heap(copy) => copy.as_ptr().cast(),
        };
        // SAFETY: the pin keeps the publisher away, and a copy is this sample's own; either has `len` initialised bytes,
        // which is the length that T has if it has one, aligned to 8.
        unsafe { T::view(data, self.len) }
    }
}

impl<T: Payload + ?Sized> AsRef<T> for Sample<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: Payload + ?Sized + std::fmt::Debug> std::fmt::Debug for Sample<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sample")
            .field("sequence", &self.sequence)
            .field("timestamp", &self.timestamp())
            .field("lagged", &self.lagged)
            .field("message", &&**self)
            .finish()
    }
}

impl Drop for Held {
    #[inline(always)]
    fn drop(&mut self) {
        let attachment = &self.hold.0;
        if attachment.region.is_ours() {
            // Before the count goes down, with the field: see `Hold::samples`.
            unpin(&FrameView(attachment.region.view()), self.index, attachment.bit);
        }
    }
}
