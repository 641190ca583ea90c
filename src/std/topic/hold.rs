//! Who keeps a place among a topic's subscribers: the subscriber, and each sample that it gave out.

use std::ptr::NonNull;
use std::sync::Arc;

use super::subscriber::Attachment;
use crate::core::atomic::{AtomicU32, Ordering, fence};

/// A place, and for how many it is kept; the last one gives it up.
#[derive(Debug)]
struct Place {
    attachment: Arc<Attachment>,
    /// The samples in use and the subscriber's spare holds. The subscriber adds, many at a time; whoever drops a sample takes
    /// one away, and a subscriber that goes takes its spare ones.
    owners: AtomicU32,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.attachment.release();
    }
}

/// A subscriber's own hold on its place, and those that it is about to give to samples: counted in advance, so that giving
/// one away is no read-modify-write.
#[derive(Debug)]
pub(super) struct Holder {
    place: NonNull<Place>,
    /// At least 1, the subscriber's own.
    spare: u32,
}

// SAFETY: what it points to is Send and Sync, and is counted by an atomic.
unsafe impl Send for Holder {}
// SAFETY: as for Send; a shared reference only reads.
unsafe impl Sync for Holder {}

/// Holds that are counted at once.
const SUPPLY: u32 = 1 << 16;

impl Holder {
    pub(super) fn new(attachment: Arc<Attachment>) -> Self {
        let place = Box::new(Place { attachment, owners: AtomicU32::new(SUPPLY) });
        Holder { place: NonNull::from(Box::leak(place)), spare: SUPPLY }
    }

    /// How many samples are in use.
    #[inline(always)]
    pub(super) fn samples(&self) -> u32 {
        // SAFETY: the spare holds keep it.
        let samples = unsafe { self.place.as_ref() }.owners.load(Ordering::Relaxed) - self.spare;
        // Acquire: pairs with the Release with which a sample is let go: its slot was let go before.
        fence(Ordering::Acquire);
        samples
    }

    /// A hold for a sample.
    #[inline(always)]
    pub(super) fn give(&mut self) -> Hold {
        if self.spare == 1 {
            self.count_more();
        }
        self.spare -= 1;
        Hold(self.place)
    }

    #[cold]
    fn count_more(&mut self) {
        // SAFETY: the spare hold keeps it. Relaxed: nobody learns anything from a count that grows.
        unsafe { self.place.as_ref() }.owners.fetch_add(SUPPLY, Ordering::Relaxed);
        self.spare += SUPPLY;
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: the spare holds are this subscriber's, and go with it.
        unsafe { let_go(self.place, self.spare) }
    }
}

/// A sample's hold on its subscriber's place. Not dropped but [released](Hold::release): a sample that lends nobody a
/// reference to a part of itself can stay in registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold(NonNull<Place>);

impl Hold {
    /// The place. The hold is not released yet.
    #[inline(always)]
    pub(super) fn attachment(&self) -> &Attachment {
        // SAFETY: this hold was counted.
        unsafe { &self.0.as_ref().attachment }
    }

    /// Gives it back.
    ///
    /// # Safety
    ///
    /// Called once, and neither this nor a copy of it is used again.
    #[inline(always)]
    pub(super) unsafe fn release(self) {
        // SAFETY: handed on from the caller.
        unsafe { let_go(self.0, 1) }
    }
}

/// # Safety
///
/// The caller has as many holds, and uses none of them again.
#[inline(always)]
unsafe fn let_go(place: NonNull<Place>, holds: u32) {
    // SAFETY: the holds keep it until the count says otherwise. Release: see `Holder::samples`, and below.
    if unsafe { place.as_ref() }.owners.fetch_sub(holds, Ordering::Release) == holds {
        give_up(place);
    }
}

/// Nobody holds the place.
#[cold]
#[inline(never)]
fn give_up(place: NonNull<Place>) {
    // Pairs with the Release of all who let go before: what they did is over.
    fence(Ordering::Acquire);
    // SAFETY: it was a box, and the count, which never grows again from 0, says that this is the last who has it.
    drop(unsafe { Box::from_raw(place.as_ptr()) });
}
