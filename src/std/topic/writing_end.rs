//! What a publisher does, whatever it publishes: it puts messages, waits for room, wakes sleepers, and looks for the dead.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::layout::{CLOSED, Overflow, SlotKind, Timestamps};
use super::message::Aligned;
use super::region::{FrameView, Region, WordView};
use super::{Error, MAX_READERS};
use crate::core::atomic::Ordering;
use crate::core::ring::{FrameWriter, Notifier, WordWriter, WriteError};
use crate::std::futex::{self, Deadline, Spin, barrier};

/// How often a publisher that finds no room asks whether the subscriber that holds it up still lives.
const LIFE_CHECK: Duration = Duration::from_millis(100);

/// What a publisher is, whatever it publishes.
#[derive(Debug)]
pub(super) struct WritingEnd {
    pub(super) writer: Writer,
    pub(super) region: Region,
    timestamps: Timestamps,
    /// Tells sleepers of messages.
    notifier: Notifier,
    /// The timestamp from which on the clock pair is due.
    clock_due: u64,
    /// The position from which on skipped slots are a reason to look for dead subscribers.
    sweep_due: u64,
    /// Skips that a look for dead subscribers has followed.
    swept_skips: u64,
    spin: Spin,
    /// When to ask next whether the subscriber that holds the publisher up still lives.
    life_check: Deadline,
    /// Set by others (Release) to end waits for room.
    pub(super) stop: Option<Arc<AtomicBool>>,
}

#[derive(Debug)]
pub(super) enum Writer {
    /// With room for a message on loan, which is copied when it is committed.
    Words(WordWriter<WordView>, Vec<Aligned<u64>>),
    Frames(FrameWriter<FrameView>),
}

/// How long to wait for room.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// As the topic's overflow mode says.
    OfTopic,
    Until(Deadline),
}

impl WritingEnd {
    /// The caller holds the writer's byte of `region`.
    pub(super) fn new(region: Region) -> Self {
        let geometry = *region.geometry();
        let view = region.view();
        let (batch, _) = geometry.slack();
        // SAFETY: the writer's byte keeps other writers away for as long as `region` lives.
        let writer = unsafe {
            match geometry.slots {
                SlotKind::Words => Writer::Words(
                    WordWriter::with_gate(WordView(view), batch),
                    vec![Aligned(0); (geometry.max_len as usize).div_ceil(8)],
                ),
                SlotKind::Frames => Writer::Frames(FrameWriter::new(FrameView(view), batch)),
            }
        };
        let page = region.writer_page();
        let notifier = Notifier::new(&page.fence_elided, barrier::register());
        page.pid.store(std::process::id(), Ordering::Relaxed);
        page.clock.renew();
        page.epoch.fetch_add(1, Ordering::AcqRel);
        page.state.fetch_and(!CLOSED, Ordering::AcqRel);
        let end = WritingEnd {
            writer,
            timestamps: geometry.timestamps,
            notifier,
            clock_due: futex::now().saturating_add(1_000_000_000),
            sweep_due: 0,
            swept_skips: 0,
            spin: Spin::new(),
            life_check: Deadline::after(Duration::ZERO),
            stop: None,
            region,
        };
        end.sweep_dead();
        // The last publisher may have died between a message and the wake-up for it.
        end.region.wake_everybody();
        end
    }

    #[inline(always)]
    pub(super) fn send(&mut self, bytes: &[u8], timestamp: Option<u64>, patience: Patience) -> Result<u64, Error> {
        self.region.check_ours()?;
        let timestamp = self.given(timestamp)?;
        self.check_len(bytes.len())?;
        match self.put(bytes, timestamp) {
            Ok(sequence) => {
                self.finish(timestamp);
                Ok(sequence)
            }
            Err(error) => {
                self.wait_for_room(error, patience)?;
                let sequence = self.put(bytes, timestamp).map_err(|error| self.refuse(error))?;
                self.finish(timestamp);
                Ok(sequence)
            }
        }
    }

    #[inline(always)]
    pub(super) fn send_batch<'m>(&mut self, messages: &mut impl Iterator<Item = &'m [u8]>) -> Result<usize, Error> {
        self.region.check_ours()?;
        let timestamp = self.timestamp();
        let mut total = 0;
        loop {
            let before = self.next_sequence();
            // Also if the iterator panics: what was published by then is there, and whoever sleeps has to hear of it.
            let told = Told { end: self, before, timestamp };
            let (count, end) = match &mut told.end.writer {
                Writer::Words(writer, _) => writer.publish_batch(messages, timestamp),
                Writer::Frames(writer) => writer.publish_batch(messages, timestamp),
            };
            drop(told);
            total += count;
            match end {
                None => return Ok(total),
                Some(error) => match self.wait_for_room(error, Patience::OfTopic) {
                    Ok(()) => {}
                    Err(_) if total > 0 => return Ok(total),
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Puts a message into the next slot. [`finish`](Self::finish) follows the last one.
    #[inline(always)]
    fn put(&mut self, bytes: &[u8], timestamp: u64) -> Result<u64, WriteError> {
        match &mut self.writer {
            Writer::Words(writer, _) => {
                writer.claim()?;
                Ok(writer.put(bytes, timestamp))
            }
            Writer::Frames(writer) => {
                let index = writer.claim()?;
                writer.fill(index, bytes);
                Ok(writer.put(bytes.len(), timestamp))
            }
        }
    }

    /// What follows the last message that was put: readers that join count on it, and sleepers are woken.
    #[inline(always)]
    fn finish(&mut self, timestamp: u64) {
        match &mut self.writer {
            Writer::Words(writer, _) => writer.finish(),
            Writer::Frames(writer) => writer.finish(),
        }
        self.tell(timestamp);
    }

    /// Wakes who sleeps, and does what is due now and then.
    #[inline(always)]
    fn tell(&mut self, timestamp: u64) {
        if let Writer::Frames(writer) = &self.writer {
            if writer.skips() != self.swept_skips && writer.position() >= self.sweep_due {
                self.look_for_dead_readers();
            }
        }
        let messages = &self.region.wait_page().messages;
        if self.notifier.notify(messages, &self.region.writer_page().fence_elided) {
            futex::wake_all(messages.word());
        }
        if timestamp >= self.clock_due {
            self.clock_due = timestamp.saturating_add(1_000_000_000);
            self.region.writer_page().clock.renew();
        }
    }

    /// Claims room for `len` bytes that the caller fills before it commits.
    #[inline]
    pub(super) fn claim(&mut self, len: usize, patience: Patience) -> Result<NonNull<u8>, Error> {
        self.region.check_ours()?;
        self.check_len(len)?;
        match self.slot() {
            Ok(data) => Ok(data),
            Err(error) => {
                self.wait_for_room(error, patience)?;
                self.slot().map_err(|error| self.refuse(error))
            }
        }
    }

    #[inline(always)]
    fn slot(&mut self) -> Result<NonNull<u8>, WriteError> {
        match &mut self.writer {
            Writer::Words(writer, scratch) => {
                writer.claim()?;
                // SAFETY: a vector's pointer is never null.
                Ok(unsafe { NonNull::new_unchecked(scratch.as_mut_ptr().cast()) })
            }
            Writer::Frames(writer) => {
                let index = writer.claim()?;
                // SAFETY: a payload lies within a mapping.
                Ok(unsafe { NonNull::new_unchecked(writer.payload(index)) })
            }
        }
    }

    /// Publishes what was claimed and filled.
    #[inline]
    pub(super) fn commit(&mut self, len: usize, timestamp: u64) -> u64 {
        if !self.region.is_ours() {
            return self.next_sequence();
        }
        let sequence = match &mut self.writer {
            Writer::Frames(writer) => writer.put(len, timestamp),
            Writer::Words(writer, scratch) => {
                // SAFETY: the scratch words hold `len` bytes and more, all initialised.
                let bytes = unsafe { std::slice::from_raw_parts(scratch.as_ptr().cast::<u8>(), len) };
                writer.put(bytes, timestamp)
            }
        };
        self.finish(timestamp);
        sequence
    }

    pub(super) fn next_sequence(&self) -> u64 {
        match &self.writer {
            Writer::Words(writer, _) => writer.next_sequence(),
            Writer::Frames(writer) => writer.next_sequence(),
        }
    }

    /// The timestamp of a message that is published now.
    #[inline(always)]
    pub(super) fn timestamp(&self) -> u64 {
        if self.timestamps == Timestamps::None { 0 } else { futex::now() }
    }

    #[inline(always)]
    pub(super) fn given(&self, timestamp: Option<u64>) -> Result<u64, Error> {
        match timestamp {
            None => Ok(self.timestamp()),
            Some(timestamp) if self.timestamps == Timestamps::Given => Ok(timestamp),
            Some(_) => Err(self.no_given_timestamps()),
        }
    }

    #[cold]
    fn no_given_timestamps(&self) -> Error {
        let reason = format!("topic {} was not opened with `Timestamps::Given`", self.region.name);
        Error::InvalidOption { option: "timestamps", reason }
    }

    #[inline(always)]
    fn check_len(&self, len: usize) -> Result<(), Error> {
        if self.region.geometry().fits(len) { Ok(()) } else { Err(self.bad_len(len)) }
    }

    #[cold]
    pub(super) fn bad_len(&self, len: usize) -> Error {
        let geometry = self.region.geometry();
        let (topic, max) = (self.region.name.to_string(), geometry.max_len as usize);
        match geometry.slots {
            SlotKind::Words => Error::WrongLength { topic, len, expected: max },
            SlotKind::Frames => Error::TooLong { topic, len, max },
        }
    }

    /// Waits until a message may be put, as far as the topic and the caller allow.
    #[cold]
    fn wait_for_room(&mut self, mut error: WriteError, patience: Patience) -> Result<(), Error> {
        if error == WriteError::AllPinned || self.look_for_dead_members() {
            error = match self.look_for_room(error) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
        }
        let deadline = match patience {
            Patience::Until(deadline) => Some(deadline),
            Patience::OfTopic if self.region.geometry().overflow == Overflow::Block => None,
            Patience::OfTopic => return Err(self.refuse(error)),
        };
        if error == WriteError::AllPinned {
            return Err(self.refuse(error));
        }
        let page = self.region.writer_page();
        page.blocked.fetch_add(1, Ordering::Relaxed);
        let mut spin = self.spin;
        let mut room = Err(error);
        spin.until(|| {
            if !self.is_held() {
                room = self.has_room();
            }
            room != Err(WriteError::Full)
        });
        self.spin = spin;
        if room.is_ok() {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            let ticket = self.region.wait_page().space.prepare();
            match self.look_for_room(WriteError::Full) {
                Ok(()) => {
                    self.spin.slept(began.elapsed());
                    return Ok(());
                }
                Err(WriteError::Full) => self.tell_of_skipped_slots(),
                Err(error) => return Err(self.refuse(error)),
            }
            if self.is_stopped() {
                return Err(Error::Stopped { topic: self.region.name.to_string() });
            }
            if deadline.is_some_and(Deadline::has_passed) {
                self.region.writer_page().rejected.fetch_add(1, Ordering::Relaxed);
                return Err(Error::TimedOut { topic: self.region.name.to_string() });
            }
            let until = futex::earlier(deadline, Some(self.life_check));
            futex::wait(self.region.wait_page().space.word(), ticket, until);
            self.look_for_dead_members();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Acquire))
    }

    /// Sleeps until so many subscribers are there, or `deadline` has passed; returns whether they are.
    ///
    /// [`Error::Stopped`].
    pub(super) fn wait_for_subscribers(&self, count: u32, deadline: Deadline) -> Result<bool, Error> {
        let space = &self.region.wait_page().space;
        loop {
            let ticket = space.prepare();
            if self.region.subscribers() >= count {
                // Those that died are there until somebody looks.
                (0..self.region.geometry().subscribers).for_each(|bit| _ = self.region.sweep_if_dead(bit));
                if self.region.subscribers() >= count {
                    return Ok(true);
                }
            }
            if self.is_stopped() {
                return Err(Error::Stopped { topic: self.region.name.to_string() });
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            let look = self.stop.as_ref().map(|_| Deadline::after(LIFE_CHECK));
            futex::wait(space.word(), ticket, futex::earlier(Some(deadline), look));
        }
    }

    /// Asks whether the subscribers that hold the publisher up still live, unless it has asked just now. Returns whether
    /// it found a dead one, which holds it up no longer.
    fn look_for_dead_members(&mut self) -> bool {
        if !self.life_check.has_passed() {
            return false;
        }
        self.life_check = Deadline::after(LIFE_CHECK);
        let dead = |end: &Self| end.slowest_member().is_some_and(|bit| end.region.sweep_if_dead(bit));
        let found = dead(self);
        // One that lives ends the search; so does corrupt memory that never says so.
        let _ = found && (1..MAX_READERS).all(|_| dead(self));
        found
    }

    /// Wakes who sleeps after a look for room that found none. It may have stepped over slots, up to a whole lap of them: a
    /// subscriber that sleeps at the first has to hear of it, or both would wait for each other.
    fn tell_of_skipped_slots(&self) {
        let messages = &self.region.wait_page().messages;
        if messages.notify() {
            futex::wake_all(messages.word());
        }
    }

    /// Looks for room after a look that failed with `last`.
    fn look_for_room(&mut self, last: WriteError) -> Result<(), WriteError> {
        let found = if last == WriteError::Full { self.has_room() } else { Err(last) };
        if found != Err(WriteError::AllPinned) {
            return found;
        }
        // Perhaps by the dead; perhaps by readers who held each slot just when the writer came by. Once more round there is
        // nothing left for these to hold.
        self.look_for_dead_readers();
        self.has_room()
    }

    fn has_room(&mut self) -> Result<(), WriteError> {
        self.slot().map(drop)
    }

    fn is_held(&self) -> bool {
        match &self.writer {
            Writer::Words(writer, _) => writer.is_held(),
            Writer::Frames(writer) => writer.is_held(),
        }
    }

    fn slowest_member(&self) -> Option<u32> {
        match &self.writer {
            Writer::Words(writer, _) => writer.slowest_member(),
            Writer::Frames(writer) => writer.slowest_member(),
        }
    }

    /// Counts a message that is not published, and says why.
    #[cold]
    fn refuse(&self, error: WriteError) -> Error {
        self.tell_of_skipped_slots();
        let page = self.region.writer_page();
        let topic = self.region.name.to_string();
        match error {
            WriteError::Full => {
                page.rejected.fetch_add(1, Ordering::Relaxed);
                Error::Full { topic, subscriber: self.slowest_member().unwrap_or_default() }
            }
            WriteError::AllPinned => {
                page.all_pinned.fetch_add(1, Ordering::Relaxed);
                Error::AllPinned { topic }
            }
        }
    }

    /// Sweeps the pins of the dead after slots were skipped, at most once a lap.
    #[cold]
    fn look_for_dead_readers(&mut self) {
        if let Writer::Frames(writer) = &self.writer {
            self.swept_skips = writer.skips();
            self.sweep_due = writer.position().wrapping_add(u64::from(self.region.geometry().capacity));
        }
        self.sweep_dead();
    }

    fn sweep_dead(&self) {
        for bit in 0..self.region.geometry().subscribers {
            if self.region.entry(bit).samples.load(Ordering::Acquire) != 0 {
                self.region.sweep_if_dead(bit);
            }
        }
    }
}

/// A batch of which sleepers are told when it ends, one way or another.
struct Told<'e> {
    end: &'e mut WritingEnd,
    /// The sequence before it.
    before: u64,
    timestamp: u64,
}

impl Drop for Told<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.end.next_sequence() != self.before {
            self.end.finish(self.timestamp);
        }
    }
}

impl Drop for WritingEnd {
    fn drop(&mut self) {
        if self.region.is_ours() {
            self.region.writer_page().state.fetch_or(CLOSED, Ordering::AcqRel);
            self.region.wake_everybody();
        }
    }
}
