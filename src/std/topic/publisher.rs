//! The writing end of a topic.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::layout::{CLOSED, Overflow, SlotKind, Timestamps};
use super::message::{Aligned, Message, Payload, bytes_of};
use super::options::PublisherOptions;
use super::region::{FrameView, Region, WordView, system_error};
use super::takeover::take_topic;
use super::{Error, Geometry, MAX_READERS, Schema};
use crate::core::atomic::Ordering;
use crate::core::ring::{FrameWriter, Notifier, WordWriter, WriteError};
use crate::std::futex::{self, Deadline, Spin, barrier};
use crate::std::shm;

/// How often a publisher that finds no room asks whether the subscriber that holds it up still lives.
const LIFE_CHECK: Duration = Duration::from_millis(100);

/// The one publisher of a topic.
///
/// Publishing never waits for subscribers, unless the topic was opened with [`Overflow::Block`], and costs the same for
/// any number of them. It makes no system call while nobody sleeps. Dropped, the publisher closes the topic; what it
/// published stays for late subscribers, and the next publisher goes on behind it.
#[derive(Debug)]
pub struct Publisher<T: Payload + ?Sized> {
    end: WritingEnd,
    payload: PhantomData<fn(&T)>,
}

/// What a publisher is, whatever it publishes.
#[derive(Debug)]
struct WritingEnd {
    writer: Writer,
    region: Region,
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
    stop: Option<Arc<AtomicBool>>,
}

#[derive(Debug)]
enum Writer {
    /// With room for a message on loan, which is copied when it is committed.
    Words(WordWriter<WordView>, Vec<Aligned<u64>>),
    Frames(FrameWriter<FrameView>),
}

impl<T: Payload + ?Sized> Publisher<T> {
    /// Creates the topic with the default options, or takes it over from a publisher that is gone.
    ///
    /// # Errors
    ///
    /// [`Error::PublisherExists`]; [`Error::InvalidTopic`]; [`Error::System`].
    pub fn open(topic: &str) -> Result<Self, Error> {
        Self::options().open(topic)
    }

    /// Options to open the topic with.
    pub fn options() -> PublisherOptions<T> {
        PublisherOptions::new()
    }

    pub(super) fn open_with(topic: &str, options: PublisherOptions<T>) -> Result<Self, Error> {
        let wanted = options.wanted(topic)?;
        let region = take_topic(&wanted, options.permissions, options.any_owner, options.memory_lock)?;
        Ok(Publisher { end: WritingEnd::new(region), payload: PhantomData })
    }

    /// What was decided when the topic was created.
    pub fn geometry(&self) -> &Geometry {
        self.end.region.geometry()
    }

    /// How the topic's messages are to be read.
    pub fn schema(&self) -> &Schema {
        &self.end.region.schema
    }

    /// The sequence that the next message will have.
    pub fn next_sequence(&self) -> u64 {
        self.end.next_sequence()
    }

    /// Has a wait for room end with [`Error::Full`] once `stop` is true, within about 100 ms; the message does not count as
    /// refused. For a program that is told to end, so that it can close a topic with [`Overflow::Block`] whose subscribers
    /// do not read.
    ///
    /// ```
    /// # use std::sync::{Arc, atomic::AtomicBool};
    /// # use conduit::{Error, Publisher, Subscriber, topic::Overflow};
    /// # let domain = format!("doc-stop-{}", std::process::id());
    /// let mut publisher = Publisher::<[u8]>::options().domain(&domain).overflow(Overflow::Block).open("t")?;
    /// let subscriber = Subscriber::<[u8]>::options().domain(&domain).open("t")?;
    /// // Such as a signal handler sets.
    /// let stop = Arc::new(AtomicBool::new(true));
    /// publisher.stop_waiting_on(stop);
    /// while publisher.publish(b"message").is_ok() {}
    /// # publisher.remove()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn stop_waiting_on(&mut self, stop: Arc<AtomicBool>) {
        self.end.stop = Some(stop);
    }

    /// Closes the topic and removes its name: what was published is gone, and subscribers wait for a new topic of the
    /// name.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`], [`Error::System`].
    pub fn remove(self) -> Result<(), Error> {
        let region = &self.end.region;
        region.check_ours()?;
        region.supersede();
        if region.is_current()? {
            // Only the holder of the writer's byte removes the name, so nothing comes between.
            shm::unlink(region.name.path()).map_err(|source| system_error("remove", &region.name, source))?;
        }
        Ok(())
    }
}

impl<T: Message> Publisher<T> {
    /// Publishes a copy of `message`; returns its sequence number.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] on a topic with [`Overflow::Reject`], [`Error::AllPinned`], [`Error::Forked`]. Nothing was
    /// published then.
    #[inline]
    pub fn publish(&mut self, message: &T) -> Result<u64, Error> {
        self.end.send(bytes_of(message), None, Patience::OfTopic)
    }

    /// [`publish`](Publisher::publish) that on a lossless topic waits for subscribers up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], and as [`publish`](Publisher::publish).
    pub fn publish_timeout(&mut self, message: &T, timeout: Duration) -> Result<u64, Error> {
        self.end.send(bytes_of(message), None, Patience::Until(Deadline::after(timeout)))
    }

    /// [`publish`](Publisher::publish) with a timestamp of the caller's, in nanoseconds of the monotonic clock.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] on a topic that was not opened with [`Timestamps::Given`]; as
    /// [`publish`](Publisher::publish).
    pub fn publish_at(&mut self, message: &T, timestamp: u64) -> Result<u64, Error> {
        self.end.send(bytes_of(message), Some(timestamp), Patience::OfTopic)
    }

    /// Publishes messages in order, with one timestamp and one look at the sleepers for all; much faster than one by one.
    /// Returns how many were published: all, unless the topic is full ([`Overflow::Reject`]).
    ///
    /// # Errors
    ///
    /// As [`publish`](Publisher::publish), if not even the first could be published.
    #[inline]
    pub fn publish_batch(&mut self, messages: &[T]) -> Result<usize, Error> {
        self.end.send_batch(&mut messages.iter().map(bytes_of))
    }

    /// The next slot, to be filled in place and committed. It holds an old message or zeros; dropped, it publishes
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`publish`](Publisher::publish).
    #[inline]
    pub fn loan(&mut self) -> Result<Loan<'_, T>, Error> {
        let data = self.end.claim(size_of::<T>(), Patience::OfTopic)?;
        Ok(Loan { end: &mut self.end, data, len: size_of::<T>(), payload: PhantomData })
    }
}

impl Publisher<[u8]> {
    /// Publishes a copy of `message`; returns its sequence number.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`], [`Error::WrongLength`] (Words slots), [`Error::Full`] on a topic with [`Overflow::Reject`],
    /// [`Error::AllPinned`], [`Error::Forked`]. Nothing was published then.
    #[inline]
    pub fn publish(&mut self, message: &[u8]) -> Result<u64, Error> {
        self.end.send(message, None, Patience::OfTopic)
    }

    /// [`publish`](Publisher::publish) that on a lossless topic waits for subscribers up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], and as [`publish`](Publisher::publish).
    pub fn publish_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<u64, Error> {
        self.end.send(message, None, Patience::Until(Deadline::after(timeout)))
    }

    /// [`publish`](Publisher::publish) with a timestamp of the caller's, in nanoseconds of the monotonic clock.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] on a topic that was not opened with [`Timestamps::Given`]; as
    /// [`publish`](Publisher::publish).
    pub fn publish_at(&mut self, message: &[u8], timestamp: u64) -> Result<u64, Error> {
        self.end.send(message, Some(timestamp), Patience::OfTopic)
    }

    /// Publishes messages in order, with one timestamp and one look at the sleepers for all. Returns how many were
    /// published: all, unless the topic is full ([`Overflow::Reject`]) or a message has a length that doesn't fit.
    ///
    /// # Errors
    ///
    /// As [`publish`](Publisher::publish), if not even the first could be published.
    #[inline]
    pub fn publish_batch<'m>(&mut self, messages: impl IntoIterator<Item = &'m [u8]>) -> Result<usize, Error> {
        let geometry = *self.geometry();
        let mut misfit = None;
        let mut messages = messages.into_iter();
        let mut fitting = || {
            let message = messages.next()?;
            misfit = (!geometry.fits(message.len())).then_some(message.len());
            misfit.is_none().then_some(message)
        };
        let next = fitting();
        let count = self.end.send_batch(&mut OneAhead { next, rest: fitting })?;
        match misfit {
            Some(len) if count == 0 => Err(self.end.bad_len(len)),
            _ => Ok(count),
        }
    }

    /// The next slot, to be filled in place with `len` bytes and committed. It holds old bytes or zeros; dropped, it
    /// publishes nothing.
    ///
    /// # Errors
    ///
    /// As [`publish`](Publisher::publish).
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Loan<'_, [u8]>, Error> {
        let data = self.end.claim(len, Patience::OfTopic)?;
        Ok(Loan { end: &mut self.end, data, len, payload: PhantomData })
    }
}

/// Messages of which the next is known, so that nobody waits for room when there is none.
struct OneAhead<M, F> {
    next: Option<M>,
    rest: F,
}

impl<M, F: FnMut() -> Option<M>> Iterator for OneAhead<M, F> {
    type Item = M;

    #[inline(always)]
    fn next(&mut self) -> Option<M> {
        let next = self.next.take()?;
        self.next = (self.rest)();
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.next.is_some() { (1, None) } else { (0, Some(0)) }
    }
}

/// A message that is being written where subscribers will read it.
///
/// On a topic with Words slots it is written to memory of the publisher's own, and copied when it is committed.
#[derive(Debug)]
pub struct Loan<'p, T: Payload + ?Sized> {
    end: &'p mut WritingEnd,
    data: NonNull<u8>,
    len: usize,
    payload: PhantomData<&'p mut T>,
}

// SAFETY: a loan is an exclusive borrow of its publisher, which is Send, and of bytes that only that publisher writes.
unsafe impl<T: Payload + ?Sized> Send for Loan<'_, T> {}

impl<T: Payload + ?Sized> Loan<'_, T> {
    /// Publishes the message; returns its sequence number. In a forked child, where the message is the parent's, nothing is
    /// published.
    #[inline]
    pub fn commit(self) -> u64 {
        let timestamp = self.end.timestamp();
        self.end.commit(self.len, timestamp)
    }

    /// [`commit`](Loan::commit) with a timestamp of the caller's, in nanoseconds of the monotonic clock.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] on a topic that was not opened with [`Timestamps::Given`].
    pub fn commit_at(self, timestamp: u64) -> Result<u64, Error> {
        let timestamp = self.end.given(Some(timestamp))?;
        Ok(self.end.commit(self.len, timestamp))
    }
}

impl Loan<'_, [u8]> {
    /// Shortens the message to its first `len` bytes; longer than it is, nothing happens. On a topic with Words slots all
    /// messages have one length, and nothing happens either.
    pub fn truncate(&mut self, len: usize) {
        if matches!(self.end.writer, Writer::Frames(_)) {
            self.len = self.len.min(len);
        }
    }
}

impl<T: Payload + ?Sized> Deref for Loan<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `data` has `len` initialised bytes, aligned to 8, that only this loan reads or writes while it lives.
        unsafe { T::view(self.data.as_ptr(), self.len) }
    }
}

impl<T: Message> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; T is valid for every bit pattern, so whatever is there is a T.
        unsafe { self.data.cast().as_mut() }
    }
}

impl DerefMut for Loan<'_, [u8]> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

/// How long to wait for room.
#[derive(Clone, Copy)]
enum Patience {
    /// As the topic's overflow mode says.
    OfTopic,
    Until(Deadline),
}

impl WritingEnd {
    /// The caller holds the writer's byte of `region`.
    fn new(region: Region) -> Self {
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
    fn send(&mut self, bytes: &[u8], timestamp: Option<u64>, patience: Patience) -> Result<u64, Error> {
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
    fn send_batch<'m>(&mut self, messages: &mut impl Iterator<Item = &'m [u8]>) -> Result<usize, Error> {
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
    fn claim(&mut self, len: usize, patience: Patience) -> Result<NonNull<u8>, Error> {
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
    fn commit(&mut self, len: usize, timestamp: u64) -> u64 {
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

    fn next_sequence(&self) -> u64 {
        match &self.writer {
            Writer::Words(writer, _) => writer.next_sequence(),
            Writer::Frames(writer) => writer.next_sequence(),
        }
    }

    /// The timestamp of a message that is published now.
    #[inline(always)]
    fn timestamp(&self) -> u64 {
        if self.timestamps == Timestamps::None { 0 } else { futex::now() }
    }

    #[inline(always)]
    fn given(&self, timestamp: Option<u64>) -> Result<u64, Error> {
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
    fn bad_len(&self, len: usize) -> Error {
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
            if self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Acquire)) {
                return Err(self.full());
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
        match error {
            WriteError::Full => {
                page.rejected.fetch_add(1, Ordering::Relaxed);
                self.full()
            }
            WriteError::AllPinned => {
                page.all_pinned.fetch_add(1, Ordering::Relaxed);
                Error::AllPinned { topic: self.region.name.to_string() }
            }
        }
    }

    fn full(&self) -> Error {
        let subscriber = self.slowest_member().unwrap_or_default();
        Error::Full { topic: self.region.name.to_string(), subscriber }
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
