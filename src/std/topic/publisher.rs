//! The writing end of a topic.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::message::{Message, Payload, bytes_of};
use super::options::PublisherOptions;
use super::region::system_error;
use super::takeover::take_topic;
use super::writing_end::{Patience, Writer, WritingEnd};
use super::{Error, Geometry, Schema};
#[cfg(feature = "tank")]
use super::{Observer, Start};
#[cfg(doc)]
use super::{Overflow, Timestamps};
use crate::std::futex::Deadline;
use crate::std::shm;

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

    /// The next slot, whatever is to be written there.
    #[inline]
    pub(crate) fn loan_bytes(&mut self, len: usize) -> Result<Loan<'_, [u8]>, Error> {
        let data = self.end.claim(len, Patience::OfTopic)?;
        Ok(Loan { end: &mut self.end, data, len, payload: PhantomData })
    }

    /// The topic's name, as errors tell it.
    #[cfg(feature = "serde")]
    pub(crate) fn topic(&self) -> String {
        self.end.region.name.to_string()
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

    /// Sleeps until the topic has `count` living subscribers, or `timeout` is over; returns whether it has.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`], [`Error::Forked`].
    pub fn wait_for_subscribers(&self, count: u32, timeout: Duration) -> Result<bool, Error> {
        self.wait_for_subscribers_until(count, Deadline::after(timeout))
    }

    /// How many subscribers there are.
    #[cfg(feature = "tank")]
    pub(crate) fn subscribers(&self) -> u32 {
        self.end.region.subscribers()
    }

    pub(crate) fn wait_for_subscribers_until(&self, count: u32, deadline: Deadline) -> Result<bool, Error> {
        self.end.region.check_ours()?;
        self.end.wait_for_subscribers(count, deadline)
    }

    /// Looks at the topic as it is now, also when another has taken its name.
    #[cfg(feature = "tank")]
    pub(crate) fn observer(&self) -> Result<Observer, Error> {
        let name = &self.end.region.name;
        Observer::open_in(&name.domain, &name.topic, Start::New)
    }

    /// Has waits for room and for subscribers end with [`Error::Stopped`] once `stop` is true (within about 100 ms), also those
    /// of [`publish_timeout`](Publisher::publish_timeout). The message is not published, and not counted as refused; a batch
    /// ends with what was published before. For a program that is told to end, so that it can close a topic with
    /// [`Overflow::Block`] whose subscribers do not read.
    ///
    /// ```
    /// # use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
    /// # use conduit::{Error, Publisher, Subscriber, topic::Overflow};
    /// # let domain = format!("doc-stop-{}", std::process::id());
    /// let mut publisher = Publisher::<[u8]>::options().domain(&domain).overflow(Overflow::Block).open("t")?;
    /// let subscriber = Subscriber::<[u8]>::options().domain(&domain).open("t")?;
    /// // Such as a signal handler sets.
    /// let stop = Arc::new(AtomicBool::new(false));
    /// publisher.stop_waiting_when(stop.clone());
    /// let signal = std::thread::spawn(move || stop.store(true, Ordering::Release));
    /// let end = loop {
    ///     if let Err(error) = publisher.publish(b"message") {
    ///         break error;
    ///     }
    /// };
    /// assert!(matches!(end, Error::Stopped { .. }));
    /// # signal.join().unwrap();
    /// # publisher.remove()?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn stop_waiting_when(&mut self, stop: Arc<AtomicBool>) {
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
    /// [`Error::Full`] on a topic with [`Overflow::Reject`], [`Error::Stopped`], [`Error::AllPinned`], [`Error::Forked`]. Nothing was
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
    /// Returns how many were published: all, unless the topic is full ([`Overflow::Reject`]) or the publisher was told to
    /// [stop](Publisher::stop_waiting_when).
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
    /// [`Error::Stopped`], [`Error::AllPinned`], [`Error::Forked`]. Nothing was published then.
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
    /// published: all, unless the topic is full ([`Overflow::Reject`]), the publisher was told to
    /// [stop](Publisher::stop_waiting_when), or a message has a length that doesn't fit.
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
        self.loan_bytes(len)
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
