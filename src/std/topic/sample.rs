//! A received message.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::Duration;

use super::hold::Hold;
use super::message::{Aligned, Payload};
use super::region::FrameView;
use crate::core::ring::{FrameMemory, Meta, Pin, unpin};

/// A received message: dereferences to the message, wherever it is.
///
/// On a topic with Frames slots the message stays where the publisher wrote it; the publisher steps over its slot until
/// the sample is dropped. On a topic with Words slots the sample is a copy. Samples may be kept, sent to other threads,
/// and outlive their subscriber. In a forked child a sample is only good while the parent keeps its own.
pub struct Sample<T: Payload + ?Sized> {
    copy: MaybeUninit<Aligned<T::Inline>>,
    place: Place,
    len: usize,
    sequence: u64,
    timestamp: u64,
    lagged: u64,
    payload: PhantomData<fn() -> Box<T>>,
}

/// Where the message is. What it names is the sample's, which lets go of it by value: see [`Hold`].
#[derive(Clone, Copy)]
enum Place {
    /// In the sample itself.
    Inline,
    /// In a boxed slice, as it is too long for that.
    Heap(NonNull<Aligned<u64>>),
    /// Where the publisher wrote it, pinned.
    Slot { hold: Hold, index: usize },
}

// SAFETY: the message, wherever it is, is plain bytes, which are Send and Sync; the hold is counted by an atomic.
unsafe impl<T: Payload + ?Sized> Send for Sample<T> {}
// SAFETY: as for Send; a shared reference only reads.
unsafe impl<T: Payload + ?Sized> Sync for Sample<T> {}

impl<T: Payload + ?Sized> Sample<T> {
    #[inline(always)]
    pub(super) fn copied(copy: MaybeUninit<Aligned<T::Inline>>, len: usize, meta: Meta) -> Self {
        Sample::new(Place::Inline, copy, len, meta.sequence, meta.timestamp, meta.lost)
    }

    pub(super) fn on_heap(copy: Box<[Aligned<u64>]>, len: usize, meta: Meta) -> Self {
        let place = Place::Heap(NonNull::from(Box::leak(copy)).cast());
        Sample::new(place, MaybeUninit::uninit(), len, meta.sequence, meta.timestamp, meta.lost)
    }

    #[inline(always)]
    fn new(
        place: Place,
        copy: MaybeUninit<Aligned<T::Inline>>,
        len: usize,
        sequence: u64,
        timestamp: u64,
        lagged: u64,
    ) -> Self {
        Sample { place, copy, len, sequence, timestamp, lagged, payload: PhantomData }
    }

    /// The caller has pinned the slot for the subscriber that gave `hold`.
    #[inline(always)]
    pub(super) fn pinned(hold: Hold, pin: Pin) -> Self {
        let place = Place::Slot { hold, index: pin.index };
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
        matches!(self.place, Place::Slot { .. })
    }
}

/// A message that is lent for the length of a call: dereferences to the message, wherever it is.
#[derive(Debug)]
pub struct Received<'a, T: Payload + ?Sized> {
    message: &'a T,
    sequence: u64,
    timestamp: u64,
    lagged: u64,
}

impl<'a, T: Payload + ?Sized> Received<'a, T> {
    #[inline(always)]
    pub(super) fn new(message: &'a T, meta: Meta) -> Self {
        Received { message, sequence: meta.sequence, timestamp: meta.timestamp, lagged: meta.lost }
    }

    /// As [`Sample::sequence`].
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// As [`Sample::timestamp`].
    pub fn timestamp(&self) -> Option<Duration> {
        (self.timestamp != 0).then(|| Duration::from_nanos(self.timestamp))
    }

    /// As [`Sample::lagged`].
    pub fn lagged(&self) -> u64 {
        self.lagged
    }

    /// [`timestamp`](Received::timestamp) in nanoseconds; 0 for none.
    #[cfg(feature = "tank")]
    #[inline(always)]
    pub(crate) fn timestamp_ns(&self) -> u64 {
        self.timestamp
    }
}

impl<T: Payload + ?Sized> Deref for Received<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.message
    }
}

impl<T: Payload + ?Sized> Deref for Sample<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        let data = match &self.place {
            Place::Slot { hold, index } => FrameView(hold.attachment().region.view()).payload(*index).cast_const(),
            Place::Inline => self.copy.as_ptr().cast(),
            Place::Heap(copy) => copy.as_ptr().cast::<u8>().cast_const(),
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

impl<T: Payload + ?Sized> Drop for Sample<T> {
    #[inline(always)]
    fn drop(&mut self) {
        match self.place {
            Place::Inline => {}
            Place::Heap(copy) => free(copy, self.len),
            Place::Slot { hold, index } => {
                let attachment = hold.attachment();
                if attachment.region.is_ours() {
                    // Before the hold goes: see `Holder::samples`.
                    unpin(&FrameView(attachment.region.view()), index, attachment.bit);
                }
                // SAFETY: the sample's own, which goes with it.
                unsafe { hold.release() }
            }
        }
    }
}

/// Frees the copy that [`Sample::on_heap`] took.
#[inline(never)]
fn free(copy: NonNull<Aligned<u64>>, len: usize) {
    // SAFETY: it was a box of so many words.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(copy.as_ptr(), len.div_ceil(8))) });
}
