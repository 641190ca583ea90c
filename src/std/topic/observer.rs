//! Looking at a topic without taking part in it.

use std::time::Duration;

use super::layout::SlotKind;
use super::name::Name;
use super::options::default_domain;
use super::region::{FrameView, Region, Role, WordView};
use super::subscriber::writer_state;
use super::{Error, Geometry, Schema, Start, WriterState, watch};
use crate::core::atomic::Ordering;
use crate::core::ring::{FrameObserver, Meta, ReadError, WordReader, is_pending};
use crate::std::futex::{self, Deadline};
#[cfg(feature = "tank")]
use crate::std::lock;

/// How often an observer looks that may not write the page that sleepers announce themselves on.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Reads a topic without taking a subscriber's place: it cannot slow the publisher down, and it can read what a dead
/// process left.
///
/// Messages are copied out, and checked to be whole after that: those in Words slots with atomic loads, those in Frames
/// slots by the kernel, one `pread` each.
#[derive(Debug)]
pub struct Observer {
    region: Region,
    reader: Reader,
    buffer: Vec<u8>,
    unreported: u64,
    can_sleep: bool,
}

#[derive(Debug)]
enum Reader {
    Words(WordReader<WordView>),
    Frames(FrameObserver<FrameView>),
}

/// A message that was copied out.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The message's number.
    pub sequence: u64,
    /// When it was published, on the monotonic clock; `None` on a topic without timestamps.
    pub timestamp: Option<Duration>,
    /// How many messages were overwritten between the one before and this one.
    pub lagged: u64,
    /// The message.
    pub data: &'a [u8],
}

impl Observer {
    /// Opens a topic of the default domain, starting at `start`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::System`].
    pub fn open(topic: &str, start: Start) -> Result<Self, Error> {
        Self::open_in(&default_domain(), topic, start)
    }

    /// Opens a topic of `domain`.
    ///
    /// # Errors
    ///
    /// As [`open`](Observer::open).
    pub fn open_in(domain: &str, topic: &str, start: Start) -> Result<Self, Error> {
        let name = Name::new(domain, topic)?;
        let region = open_region(&name)?.ok_or_else(|| Error::NotFound { topic: name.to_string() })?;
        Ok(Self::of(region, start))
    }

    fn of((region, role): (Region, Role), start: Start) -> Self {
        let view = region.view();
        let reader = match region.geometry().slots {
            SlotKind::Words => Reader::Words(WordReader::new(WordView(view), start)),
            SlotKind::Frames => Reader::Frames(FrameObserver::new(FrameView(view), start)),
        };
        let buffer = vec![0; region.geometry().max_len as usize];
        Observer { region, reader, buffer, unreported: 0, can_sleep: role == Role::Observer }
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`]; [`Error::Corrupt`] and others if the topic was replaced and what replaced it cannot be opened.
    pub fn try_next(&mut self) -> Result<Option<Observed<'_>>, Error> {
        Ok(self.read()?.map(|meta| self.observed(meta)))
    }

    /// The next message; sleeps until there is one, or `timeout` is over: then `None`.
    ///
    /// # Errors
    ///
    /// As [`try_next`](Observer::try_next).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Observed<'_>>, Error> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(meta) = self.read()? {
                return Ok(Some(self.observed(meta)));
            }
            if deadline.has_passed() {
                return Ok(None);
            }
            self.sleep_until(deadline)?;
        }
    }

    /// Copies the next message to the buffer.
    fn read(&mut self) -> Result<Option<Meta>, Error> {
        self.region.check_ours()?;
        loop {
            // Before the look that finds nothing: what was published before the region was over is read first.
            let is_over = self.region.is_superseded();
            let read = match &mut self.reader {
                Reader::Words(reader) => reader.read(&mut self.buffer),
                Reader::Frames(reader) => {
                    let (region, buffer) = (&self.region, &mut self.buffer);
                    reader.read(|slot, len| region.copy_payload(slot, &mut buffer[..len]))
                }
            };
            match read {
                Ok(meta) => {
                    let lost = meta.lost.wrapping_add(std::mem::take(&mut self.unreported));
                    return Ok(Some(Meta { lost, ..meta }));
                }
                Err(ReadError::Lapped(lost)) => {
                    self.unreported = self.unreported.wrapping_add(lost);
                    return Ok(None);
                }
                Err(_) if is_over && self.follow()? => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// The message in the buffer.
    fn observed(&self, meta: Meta) -> Observed<'_> {
        Observed {
            sequence: meta.sequence,
            timestamp: (meta.timestamp != 0).then(|| Duration::from_nanos(meta.timestamp)),
            lagged: meta.lost,
            data: &self.buffer[..meta.length.min(self.buffer.len())],
        }
    }

    /// Sleeps until there may be something new. May return early.
    fn sleep_until(&self, deadline: Deadline) -> Result<(), Error> {
        let messages = &self.region.wait_page().messages;
        if self.region.is_superseded() {
            let known = self.region.identity();
            let moved = || Ok(Region::stat(&self.region.name).ok().flatten().filter(|named| *named != known));
            watch::wait_until(Some(deadline), moved)?;
        } else if self.can_sleep {
            let sleep = self.region.prepare_to_sleep();
            if !self.is_ready() && !self.region.is_superseded() {
                futex::wait(sleep.word, sleep.ticket, futex::earlier(Some(deadline), sleep.limit));
            }
        } else {
            let ticket = messages.word().load(Ordering::Relaxed);
            if !self.is_ready() {
                let look = Deadline::after(LOOK_INTERVAL);
                futex::wait(messages.word(), ticket, futex::earlier(Some(deadline), Some(look)));
            }
        }
        Ok(())
    }

    /// Whether the observer sleeps until there is something new, or, without the right to write the topic's wait page,
    /// looks every 20 ms.
    pub fn can_sleep(&self) -> bool {
        self.can_sleep
    }

    /// What was decided when the topic was created.
    pub fn geometry(&self) -> &Geometry {
        self.region.geometry()
    }

    /// How the topic's messages are to be read.
    pub fn schema(&self) -> &Schema {
        &self.region.schema
    }

    /// Whether the topic has a live publisher. Meaningless in a forked child, where this handle cannot know.
    pub fn publisher(&self) -> WriterState {
        writer_state(&self.region)
    }

    /// What to add to a timestamp to get a time since 1970, by the publisher's last pair of clock readings; `None` if there
    /// is none.
    pub fn clock_offset(&self) -> Option<i128> {
        self.region.clock_offset()
    }

    /// The living subscribers that are here, and have not moved on to a region that took the topic's name since: how many, and
    /// how many of them have not received all of it.
    #[cfg(feature = "tank")]
    pub(crate) fn subscribers(&self) -> (u32, u32) {
        let head = self.region.writer_page().ring.head.load(Ordering::Relaxed);
        let mut count = (0, 0);
        for bit in 0..self.region.geometry().subscribers {
            let entry = self.region.entry(bit);
            // One that is gone may have left samples that are still held.
            let is_there = entry.samples.load(Ordering::Relaxed) != 0;
            if is_there && lock::is_locked(self.region.file(), bit).unwrap_or(false) {
                count.0 += 1;
                count.1 += u32::from(head.wrapping_sub(entry.position.load(Ordering::Relaxed)) as i64 > 0);
            }
        }
        count
    }

    fn is_ready(&self) -> bool {
        match &self.reader {
            Reader::Words(reader) => is_pending(reader.memory(), reader.position()),
            Reader::Frames(reader) => reader.is_ready(),
        }
    }

    /// Moves on to the region that has taken the topic's name, at its beginning. `false` if there is none yet.
    fn follow(&mut self) -> Result<bool, Error> {
        match open_region(&self.region.name)? {
            Some((region, role)) if region.identity() != self.region.identity() => {
                let unreported = self.unreported;
                let expected = match &self.reader {
                    Reader::Words(reader) => Some(reader.next_sequence()),
                    Reader::Frames(reader) => reader.next_sequence(),
                };
                let start = region.start_for(expected);
                *self = Self::of((region, role), start);
                self.unreported = unreported;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Opens a region to look at, with the right to sleep if that can be had.
fn open_region(name: &Name) -> Result<Option<(Region, Role)>, Error> {
    match Region::open(name, Role::Observer, true) {
        Err(Error::System { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Ok(Region::open(name, Role::Onlooker, true)?.map(|region| (region, Role::Onlooker)))
        }
        result => Ok(result?.map(|region| (region, Role::Observer))),
    }
}
