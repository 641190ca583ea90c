//! The reading end of a topic.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::hold::Holder;
use super::layout::{CLOSED, Overflow, SlotKind};
use super::message::{Aligned, Inline, MAX_INLINE, Payload};
use super::name::Name;
use super::options::{Patience, SubscriberOptions};
use super::region::{FrameView, Region, Role, WordView, system_error};
use super::sample::{Received, Sample};
use super::{Error, Geometry, Schema, WriterState, watch};
use crate::core::atomic::{AtomicU64, Ordering, fence};
use crate::core::ring::{FrameMemory, FrameReader, Glance, Meta, Pin, ReadError, Start, Tries, WordReader, is_pending};
use crate::std::futex::{self, Deadline, Spin};
use crate::std::lock;

/// A subscriber of a topic.
///
/// It receives messages in order, each at most once, and learns of each one that it missed
/// ([`Sample::lagged`], [`lost`](Subscriber::lost)). It outlives its publisher: a sleeping
/// [`recv`](Subscriber::recv) goes on with the next one.
#[derive(Debug)]
pub struct Subscriber<T: Payload + ?Sized> {
    attachment: Arc<Attachment>,
    /// Counts the samples in place.
    holder: Holder,
    /// `attachment` again, for whoever waits on the subscriber's behalf.
    shared: Arc<Mutex<Arc<Attachment>>>,
    reader: Reader,
    losses: Losses,
    /// The position where it last found no more messages.
    drained: u64,
    spin: Spin,
    samples: u32,
    any_owner: bool,
    payload: PhantomData<fn() -> Box<T>>,
}

/// A place among the subscribers of a region, which a [`Holder`] keeps. Whoever waits on the subscriber's behalf has the
/// memory for as long as they look at it, and the place no longer than the subscriber and its samples.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(super) region: Region,
    pub(super) bit: u32,
    /// The position of the next message, for whoever waits on the subscriber's behalf. Written by the subscriber.
    next: AtomicU64,
}

#[derive(Debug)]
enum Reader {
    Words(WordReader<WordView>),
    Frames(FrameReader<FrameView>),
}

/// A subscriber that finds no more after so many messages is about as fast as its publisher, and more will follow at once. After
/// a single one it may be an exchange of messages, where nothing may come between; after more, the publisher is far ahead.
const BURST: Range<u64> = 2..64;
/// For how many spin-loop hints it then leaves the publisher alone. Measured: from 4 on, single messages go twice as fast; from
/// 64 on, no faster still.
const BREATH: u32 = 16;

/// What was lost, and told.
#[derive(Debug, Default)]
struct Losses {
    total: u64,
    /// Those that no message has told of yet.
    untold: u64,
}

impl<T: Payload + ?Sized> Subscriber<T> {
    /// Joins an existing topic with the default options: messages that are published from now on.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::SchemaMismatch`], [`Error::TooManySubscribers`], and what
    /// [`SubscriberOptions::open`] names.
    pub fn open(topic: &str) -> Result<Self, Error> {
        Self::options().open(topic)
    }

    /// Options to join the topic with.
    pub fn options() -> SubscriberOptions<T> {
        SubscriberOptions::new()
    }

    pub(super) fn open_with(topic: &str, options: SubscriberOptions<T>) -> Result<Self, Error> {
        let name = options.name(topic)?;
        let find = || find(&name, options.any_owner, None);
        let deadline = match options.patience {
            Patience::Until(timeout) => Some(Deadline::after(timeout)),
            _ => None,
        };
        match find()? {
            Some(region) if options.from_first => Self::enter_new(region, &options),
            Some(region) => Self::enter(region, options.start, &options),
            None if options.patience == Patience::None => Err(Error::NotFound { topic: name.to_string() }),
            None => {
                let came = watch::wait_until(deadline, find)?;
                let region = came.ok_or_else(|| Error::TimedOut { topic: name.to_string() })?;
                Self::enter_new(region, &options)
            }
        }
    }

    /// Joins a topic that was waited for, if it is there by now.
    pub(crate) fn open_awaited(name: &Name, options: &SubscriberOptions<T>) -> Result<Option<Self>, Error> {
        find(name, options.any_owner, None)?.map(|region| Self::enter_new(region, options)).transpose()
    }

    /// To who waited for the topic, all of its messages are new.
    fn enter_new(region: Region, options: &SubscriberOptions<T>) -> Result<Self, Error> {
        let first = region.writer_page().ring.base.load(Ordering::Relaxed);
        let start = if options.start == Start::New { Start::Sequence(first) } else { options.start };
        Self::enter(region, start, options)
    }

    fn enter(region: Region, start: Start, options: &SubscriberOptions<T>) -> Result<Self, Error> {
        check_type::<T>(&region)?;
        let start = if start == Start::New && region.geometry().latched { Start::Latest } else { start };
        let (attachment, reader) = join(region, start, options.samples, T::LEN)?;
        Ok(Subscriber {
            shared: Arc::new(Mutex::new(attachment.clone())),
            holder: Holder::new(attachment.clone()),
            attachment,
            reader,
            losses: Losses::default(),
            drained: 0,
            spin: Spin::new(),
            samples: options.samples,
            any_owner: options.any_owner,
            payload: PhantomData,
        })
    }

    /// The next message, if there is one. Never waits.
    ///
    /// # Errors
    ///
    /// [`Error::TooManySamples`]; [`Error::Forked`]; [`Error::Superseded`] and others if a new publisher has replaced the
    /// topic by one that this subscriber cannot join.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Sample<T>>, Error> {
        self.attachment.region.check_ours()?;
        let mut tries = Tries::default();
        loop {
            if let Some(sample) = self.take_ready() {
                return Ok(Some(sample));
            }
            if self.is_idle() || !self.find_out(&mut tries, Follows::Yes)? {
                return Ok(None);
            }
        }
    }

    /// The next message; sleeps until there is one, however long it takes and however often the publisher changes.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    #[inline]
    pub fn recv(&mut self) -> Result<Sample<T>, Error> {
        loop {
            if let Some(sample) = self.recv_until(None)? {
                return Ok(sample);
            }
        }
    }

    /// The next message; sleeps until there is one, or `timeout` is over: then `None`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Sample<T>>, Error> {
        if let Some(sample) = self.try_recv()? {
            return Ok(Some(sample));
        }
        self.recv_until(Some(Deadline::after(timeout)))
    }

    /// Calls `each` with up to `limit` messages that are there already; returns how many there were. Never waits.
    ///
    /// Much cheaper than one [`try_recv`](Subscriber::try_recv) each: a message is lent for the length of a call, and keeps
    /// nothing alive. On a lossless topic with Frames slots it is read in place without so much as a pin. If `each` forks,
    /// the child must not return from it: what is lent is lent to the parent.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Subscriber::try_recv), if there was no message before it.
    #[inline(always)]
    pub fn recv_batch(&mut self, limit: usize, mut each: impl FnMut(Received<'_, T>)) -> Result<usize, Error> {
        self.attachment.region.check_ours()?;
        let mut tries = Tries::default();
        let mut count = 0;
        while count < limit {
            let received = self.take_batch(limit - count, &mut each);
            count += received;
            if received == 0 {
                if self.is_idle() {
                    break;
                }
                match self.find_out(&mut tries, Follows::Yes) {
                    Ok(true) => {}
                    Err(error) if count == 0 => return Err(error),
                    Ok(false) | Err(_) => break,
                }
            }
        }
        Ok(count)
    }

    /// [`recv_batch`](Subscriber::recv_batch) that ends where the topic's region does: all messages of the batch are to be
    /// read as [`schema`](Subscriber::schema) and [`geometry`](Subscriber::geometry) said before it.
    /// [`follow_on`](Subscriber::follow_on) goes on from there.
    #[cfg(feature = "tank")]
    #[inline(always)]
    pub(crate) fn recv_batch_here(
        &mut self,
        limit: usize,
        mut each: impl FnMut(Received<'_, T>),
    ) -> Result<usize, Error> {
        self.attachment.region.check_ours()?;
        let mut tries = Tries::default();
        let mut count = 0;
        while count < limit {
            let received = self.take_batch(limit - count, &mut each);
            count += received;
            if received == 0 && (self.is_idle() || self.is_over() || !self.find_out(&mut tries, Follows::No)?) {
                break;
            }
        }
        Ok(count)
    }

    /// Moves on to the region that has taken the topic's name, if all of this one is received. Returns whether it did.
    #[cfg(feature = "tank")]
    pub(crate) fn follow_on(&mut self) -> Result<bool, Error> {
        Ok(self.is_over() && self.follow()?)
    }

    /// Whether no message will come from this region any more.
    #[cfg(feature = "tank")]
    fn is_over(&self) -> bool {
        // In this order: what was published before the region was over is received first.
        self.attachment.region.is_superseded() && !self.attachment.is_ready()
    }

    /// An iterator over all messages to come, which sleeps between them and ends at the first error; the next call of
    /// [`recv`](Subscriber::recv) returns that error again.
    pub fn iter(&mut self) -> impl Iterator<Item = Sample<T>> + '_ {
        std::iter::from_fn(move || self.recv().ok())
    }

    /// How many messages this subscriber has lost since it joined.
    pub fn lost(&self) -> u64 {
        self.losses.total
    }

    /// How many messages are published and not received yet; on a topic with Frames slots, skipped slots count too.
    pub fn lag(&self) -> u64 {
        match &self.reader {
            Reader::Words(reader) => reader.lag(),
            Reader::Frames(reader) => reader.lag(),
        }
    }

    /// What was decided when the topic was created.
    pub fn geometry(&self) -> &Geometry {
        self.attachment.region.geometry()
    }

    /// How the topic's messages are to be read.
    pub fn schema(&self) -> &Schema {
        &self.attachment.region.schema
    }

    /// What to add to a timestamp to get nanoseconds since 1970, by the publisher's last pair of clock readings; `None` if there
    /// is none.
    pub fn clock_offset(&self) -> Option<i128> {
        self.attachment.region.clock_offset()
    }

    /// Whether the topic has a live publisher. Meaningless in a forked child, where this handle cannot know.
    pub fn publisher(&self) -> WriterState {
        writer_state(&self.attachment.region)
    }

    /// Sleeps until the topic has no live publisher, or `timeout` is over; returns whether it has none.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`], [`Error::System`].
    pub fn wait_publisher_gone(&self, timeout: Duration) -> Result<bool, Error> {
        let region = &self.attachment.region;
        region.check_ours()?;
        watch::wait_publisher_gone(region, Deadline::after(timeout))
    }

    /// The place that this subscriber has now, wherever it moves on to.
    pub(super) fn shared(&self) -> &Arc<Mutex<Arc<Attachment>>> {
        &self.shared
    }

    /// The place that it has now, for its owner to wait at.
    pub(crate) fn place(&self) -> &Arc<Attachment> {
        &self.attachment
    }

    /// The next message, if it is there. Otherwise [`find_out`](Self::find_out) tells why not.
    #[inline(always)]
    fn take_ready(&mut self) -> Option<Sample<T>> {
        let Self { reader, attachment, losses, .. } = self;
        match reader {
            Reader::Words(reader) => {
                let len = word_len::<T>(attachment);
                if len <= T::Inline::LEN {
                    let mut copy = MaybeUninit::<Aligned<T::Inline>>::uninit();
                    // SAFETY: the copy has room for `len` bytes.
                    let meta = unsafe { reader.read_ready(copy.as_mut_ptr().cast(), len) }?;
                    attachment.moved(reader.position(), reader.take_moved());
                    Some(Sample::copied(copy, len, Meta { lost: losses.tell(attachment, meta.lost), ..meta }))
                } else {
                    let (copy, meta) = copy_to_heap(reader, len)?;
                    attachment.moved(reader.position(), reader.take_moved());
                    Some(Sample::on_heap(copy, len, Meta { lost: losses.tell(attachment, meta.lost), ..meta }))
                }
            }
            Reader::Frames(reader) => {
                // Before the pin: see the protocol of the ring.
                if self.holder.samples() >= self.samples {
                    return None;
                }
                let pin = reader.pin_ready()?;
                attachment.moved(reader.position(), reader.take_moved());
                let lost = losses.tell(attachment, pin.lost);
                Some(Sample::pinned(self.holder.give(), Pin { lost, ..pin }))
            }
        }
    }

    /// Hands out up to `limit` messages as far as they are there; returns how many.
    #[inline(always)]
    fn take_batch(&mut self, limit: usize, each: &mut impl FnMut(Received<'_, T>)) -> usize {
        let Self { reader, attachment, losses, .. } = self;
        match reader {
            Reader::Words(reader) => {
                let len = word_len::<T>(attachment);
                let mut lend = |data: *const u8, meta: Meta| {
                    // SAFETY: `data` is a copy of `len` bytes, which is the length that T has if it has one, aligned to 8.
                    let message = unsafe { T::view(data, len) };
                    each(Received::new(message, Meta { lost: losses.tell(attachment, meta.lost), ..meta }));
                };
                let count = if len <= T::Inline::LEN {
                    reader.read_batch::<Aligned<T::Inline>>(limit, len, |copy, meta| lend(copy.as_ptr().cast(), meta))
                } else {
                    reader.read_batch::<Longest>(limit, len, |copy, meta| lend(copy.as_ptr().cast(), meta))
                };
                attachment.moved(reader.position(), reader.take_moved());
                count
            }
            Reader::Frames(reader) => {
                // What is lent may be a pin, too.
                if self.holder.samples() >= self.samples {
                    return 0;
                }
                let view = FrameView(attachment.region.view());
                let mut lend = |pin: Pin| {
                    let Pin { sequence, timestamp, length, lost, .. } = pin;
                    // SAFETY: the publisher leaves the slot alone until this call returns. It holds `length` initialised
                    // bytes, checked against the slot, and not less than a T has (`join`), aligned to 64.
                    let message = unsafe { T::view(view.payload(pin.index), length) };
                    let lost = losses.tell(attachment, lost);
                    each(Received::new(message, Meta { sequence, timestamp, length, lost }));
                };
                let count = (0..limit).take_while(|_| reader.lend_ready(&mut lend).is_some()).count();
                attachment.moved(reader.position(), reader.take_moved());
                count
            }
        }
    }

    /// Whether the reader has seen all there is, so that a look would find nothing.
    #[inline(always)]
    fn is_idle(&self) -> bool {
        let glance = match &self.reader {
            Reader::Words(reader) => reader.glance(),
            Reader::Frames(reader) => reader.glance(),
        };
        glance == Glance::Idle && !self.attachment.region.is_superseded()
    }

    /// Finds out why there was no message: whether to look again.
    #[cold]
    #[inline(never)]
    fn find_out(&mut self, tries: &mut Tries, follows: Follows) -> Result<bool, Error> {
        let (found, position, cursor_moved) = match &mut self.reader {
            Reader::Words(reader) => (reader.find_out(tries), reader.position(), reader.take_moved()),
            Reader::Frames(_) if self.holder.samples() >= self.samples => return Err(self.too_many_samples()),
            Reader::Frames(reader) => (reader.find_out(tries), reader.position(), reader.take_moved()),
        };
        // Whoever waits on the reader's behalf must look where it looks.
        self.attachment.moved(position, cursor_moved);
        match found {
            Ok(()) => Ok(true),
            Err(ReadError::TooManySamples) => Err(self.too_many_samples()),
            Err(ReadError::Lapped(lost)) => {
                self.losses.untold = self.losses.count(&self.attachment, lost);
                Ok(false)
            }
            Err(ReadError::Empty) => {
                let read = position.wrapping_sub(std::mem::replace(&mut self.drained, position));
                if BURST.contains(&read) {
                    // A publisher in full flow goes faster if each of its messages is not looked for as soon as it is there.
                    (0..BREATH).for_each(|_| std::hint::spin_loop());
                    return Ok(true);
                }
                // What was published before the region was over is read first.
                Ok(self.attachment.region.is_superseded()
                    && (self.attachment.is_ready() || follows == Follows::Yes && self.follow()?))
            }
        }
    }

    fn too_many_samples(&self) -> Error {
        Error::TooManySamples { topic: self.attachment.region.name.to_string(), declared: self.samples }
    }

    /// Sleeps until a message comes or `deadline` passes.
    fn recv_until(&mut self, deadline: Option<Deadline>) -> Result<Option<Sample<T>>, Error> {
        loop {
            if let Some(sample) = self.try_recv()? {
                return Ok(Some(sample));
            }
            // Also when there is something that is no message: a loss, or corruption.
            if deadline.is_some_and(Deadline::has_passed) {
                return Ok(None);
            }
            let attachment = &self.attachment;
            if self.spin.until(|| attachment.is_ready()) {
                continue;
            }
            if attachment.region.is_superseded() {
                self.wait_for_successor(deadline)?;
                continue;
            }
            let sleep = attachment.region.prepare_to_sleep();
            if attachment.is_ready() || attachment.region.is_superseded() {
                continue;
            }
            futex::wait(sleep.word, sleep.ticket, futex::earlier(deadline, sleep.limit));
        }
    }

    /// Sleeps until another region has the topic's name, or `deadline` passes.
    fn wait_for_successor(&mut self, deadline: Option<Deadline>) -> Result<(), Error> {
        let region = &self.attachment.region;
        let successor = || Ok(find(&region.name, self.any_owner, Some(region))?.map(drop));
        watch::wait_until(deadline, successor).map(drop)
    }

    /// Moves on to the region that has taken the topic's name. `false` if there is none yet.
    fn follow(&mut self) -> Result<bool, Error> {
        let old = &self.attachment.region;
        let Some(region) = find(&old.name, self.any_owner, Some(old))? else { return Ok(false) };
        check_type::<T>(&region).map_err(|error| match error {
            Error::SchemaMismatch { .. } => {
                Error::Superseded { topic: region.name.to_string(), reason: error.to_string() }
            }
            error => error,
        })?;
        let expected = match &self.reader {
            Reader::Words(reader) => Some(reader.next_sequence()),
            Reader::Frames(reader) => reader.next_sequence(),
        };
        let start = region.start_for(expected);
        let (attachment, reader) = join(region, start, self.samples, T::LEN)?;
        let topic = &attachment.region.name;
        tracing::info!(target: "conduit::topic", %topic, "a publisher replaced the topic: its subscriber moves on");
        self.leave();
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = attachment.clone();
        self.holder = Holder::new(attachment.clone());
        (self.attachment, self.reader) = (attachment, reader);
        Ok(true)
    }

    /// Gives up this subscriber's claim to messages; its samples stay good.
    fn leave(&mut self) {
        if !self.attachment.region.is_ours() {
            return;
        }
        let moved = match &mut self.reader {
            Reader::Words(reader) => {
                reader.leave();
                reader.take_moved()
            }
            Reader::Frames(reader) => {
                reader.leave();
                reader.take_moved()
            }
        };
        self.attachment.tell_space(moved);
    }
}

impl<T: Payload + ?Sized> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Attachment {
    /// Whether the subscriber would find something new.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        match self.region.geometry().slots {
            SlotKind::Words => is_pending(&WordView(self.region.view()), next),
            SlotKind::Frames => is_pending(&FrameView(self.region.view()), next),
        }
    }

    /// Whether another region has taken this one's name, so that the subscriber would move on to it.
    pub(super) fn has_successor(&self) -> bool {
        self.region.is_superseded() && self.region.has_successor()
    }

    /// Tells of the reader's position: whoever waits on the subscriber's behalf, people, and a publisher that waits. Before
    /// there is a sample: one that had to be dropped if this panicked could not stay in registers.
    #[inline(always)]
    fn moved(&self, position: u64, cursor_moved: bool) {
        self.next.store(position, Ordering::Relaxed);
        self.region.entry(self.bit).position.store(position, Ordering::Relaxed);
        if cursor_moved {
            self.tell_space(true);
        }
    }

    /// Gives up the place. Neither the subscriber nor a sample is left, so no pin is.
    pub(super) fn release(&self) {
        if self.region.is_ours() {
            let entry = self.region.entry(self.bit);
            entry.pid.store(0, Ordering::Relaxed);
            entry.samples.store(0, Ordering::Release);
            lock::unlock(self.region.file(), self.bit);
        }
    }

    /// Wakes a publisher that waits for this subscriber.
    fn tell_space(&self, moved: bool) {
        let space = &self.region.wait_page().space;
        if moved && self.region.geometry().overflow != Overflow::Overwrite && space.notify() {
            futex::wake_all(space.word());
        }
    }
}

impl Losses {
    /// Counts what was lost before a message; returns what that one is to tell of.
    #[inline(always)]
    fn tell(&mut self, attachment: &Attachment, lost: u64) -> u64 {
        if lost | self.untold == 0 { 0 } else { self.count(attachment, lost) }
    }

    /// Counts what was lost; returns what is to be told.
    #[cold]
    #[inline(never)]
    fn count(&mut self, attachment: &Attachment, lost: u64) -> u64 {
        // Corrupt memory can make any loss up: it must not overflow.
        self.total = self.total.wrapping_add(lost);
        attachment.region.entry(attachment.bit).lost.store(self.total, Ordering::Relaxed);
        lost.wrapping_add(std::mem::take(&mut self.untold))
    }
}

/// Whether a look for messages goes on in the region that has taken the topic's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    #[cfg_attr(not(feature = "tank"), allow(dead_code))]
    No,
    Yes,
}

/// A copy of whatever a Words slot holds.
type Longest = [Aligned<u64>; MAX_INLINE / 8];

/// The length of the messages of a topic with Words slots.
#[inline(always)]
fn word_len<T: Payload + ?Sized>(attachment: &Attachment) -> usize {
    T::LEN.unwrap_or(attachment.region.geometry().max_len as usize)
}

/// Copies the next message out of a Words slot, where it is too long for the sample itself.
fn copy_to_heap(reader: &mut WordReader<WordView>, len: usize) -> Option<(Box<[Aligned<u64>]>, Meta)> {
    let mut copy: Longest = [Aligned(0); MAX_INLINE / 8];
    // SAFETY: the copy has room for as much as a Words slot holds, and `len` is no more.
    let meta = unsafe { reader.read_ready(copy.as_mut_ptr().cast(), len) }?;
    Some((copy[..len.div_ceil(8)].into(), meta))
}

/// The region of this name, unless it is the one that is known already, or over.
fn find(name: &Name, any_owner: bool, known: Option<&Region>) -> Result<Option<Region>, Error> {
    let region = Region::open(name, Role::Subscriber, any_owner)?;
    Ok(region
        .filter(|region| !region.is_superseded() && known.is_none_or(|known| known.identity() != region.identity())))
}

fn check_type<T: Payload + ?Sized>(region: &Region) -> Result<(), Error> {
    if !T::accepts(&region.schema) {
        return Err(Error::SchemaMismatch {
            topic: region.name.to_string(),
            expected: Box::new(T::schema()),
            found: Box::new(region.schema.clone()),
        });
    }
    match T::LEN {
        Some(len) if region.geometry().max_len != len as u64 => {
            let reason = format!("its messages have {} bytes, the type has {len}", region.geometry().max_len);
            Err(Error::Corrupt { path: region.name.path().to_string_lossy().into_owned(), reason })
        }
        _ => Ok(()),
    }
}

/// Takes a place among the subscribers of a region whose messages all have length `len`, if there is one.
fn join(region: Region, start: Start, samples: u32, len: Option<usize>) -> Result<(Arc<Attachment>, Reader), Error> {
    let geometry = *region.geometry();
    let bit = (0..geometry.subscribers)
        .find_map(|bit| match lock::try_lock(region.file(), bit) {
            Ok(true) => Some(Ok(bit)),
            Ok(false) => None,
            Err(source) => Some(Err(system_error("lock", &region.name, source))),
        })
        .ok_or_else(|| Error::TooManySubscribers { topic: region.name.to_string(), limit: geometry.subscribers })??;
    // What the last owner of the bit left, if it died.
    region.sweep(bit);
    let entry = region.entry(bit);
    // From here on this entry is the subscriber's; until then dropping the region undoes everything.
    entry.samples.store(samples, Ordering::SeqCst);
    if geometry.slots == SlotKind::Frames {
        let left = spare_samples(&region, bit);
        if samples > left {
            entry.samples.store(0, Ordering::Release);
            return Err(Error::TooManySamplesDeclared { topic: region.name.to_string(), wanted: samples, left });
        }
    }
    entry.lost.store(0, Ordering::Relaxed);
    entry.joined.store(futex::real_now(), Ordering::Relaxed);
    let view = region.view();
    let (_, stride) = geometry.slack();
    // SAFETY: the bit's lock byte is this region's, and its last owner was swept.
    let (reader, position) = unsafe {
        match geometry.slots {
            SlotKind::Words => {
                let reader = WordReader::join(WordView(view), bit, start, stride);
                let position = reader.position();
                (Reader::Words(reader), position)
            }
            SlotKind::Frames => {
                let reader = FrameReader::join(FrameView(view), bit, start, stride).at_least(len.unwrap_or(0));
                let position = reader.position();
                (Reader::Frames(reader), position)
            }
        }
    };
    entry.position.store(position, Ordering::Relaxed);
    // Release: pairs with the Acquire load in `Region::subscribers`. Whoever counts it publishes to it.
    entry.pid.store(std::process::id(), Ordering::Release);
    // A publisher may wait for somebody to come.
    let space = &region.wait_page().space;
    if space.notify() {
        futex::wake_all(space.word());
    }
    let attachment = Attachment { region, bit, next: AtomicU64::new(position) };
    Ok((Arc::new(attachment), reader))
}

/// How many samples subscriber `bit` may declare: what the topic has room for, less what the living others declared.
fn spare_samples(region: &Region, bit: u32) -> u32 {
    let count = || {
        fence(Ordering::SeqCst);
        (0..region.geometry().subscribers)
            .filter(|&other| other != bit)
            .map(|other| region.entry(other).samples.load(Ordering::SeqCst))
            .fold(0, u32::saturating_add)
    };
    let room = region.geometry().samples;
    let mine = region.entry(bit).samples.load(Ordering::Relaxed);
    if count() > room.saturating_sub(mine) {
        for other in (0..region.geometry().subscribers).filter(|&other| other != bit) {
            if region.entry(other).samples.load(Ordering::Relaxed) != 0 {
                region.sweep_if_dead(other);
            }
        }
    }
    room.saturating_sub(count())
}

/// Whether a live publisher has the topic, and how the last one went.
pub(super) fn writer_state(region: &Region) -> WriterState {
    if region.has_publisher() {
        WriterState::Alive
    } else if region.writer_page().state.load(Ordering::Acquire) & CLOSED != 0 {
        WriterState::Closed
    } else {
        WriterState::Gone
    }
}
