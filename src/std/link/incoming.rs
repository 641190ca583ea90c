//! What a link receives: from the ring or from the socket, in one order, and when it is acknowledged.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Ending;
use super::connection::{Connection, Parcel};
use super::outgoing::wake_by_socket;
use super::region::Region;
use super::region::Ring;
use super::wire::{Fault, Hello, Identity, MARKED, SWITCH};
use crate::core::ack::{Batch, Policy, Range, Status};
use crate::core::atomic::Ordering;
use crate::core::records::{Consumer, ReadError};
use crate::std::futex;

/// Why there is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missed {
    /// The connection is to be ended. What came over it before was handed out.
    Ended(Ending),
    /// The next message has so many bytes, more than there is room for.
    TooShort { len: usize },
}

impl<E: Into<Ending>> From<E> for Missed {
    fn from(ending: E) -> Self {
        Missed::Ended(ending.into())
    }
}

/// What a message takes beside its bytes.
const OVERHEAD: usize = 64;
/// How many rings and longest messages may have come over connections that have ended: more than a sender sends that heeds what
/// is acknowledged.
const EARLY: usize = 8;

/// Where a message is copied to.
pub(super) trait Buffer {
    /// What there is room in.
    fn room(&mut self) -> &mut [u8];
    /// Makes room for so many bytes, if that can be.
    fn grow(&mut self, len: usize) -> bool;
}

impl Buffer for Vec<u8> {
    #[inline(always)]
    fn room(&mut self) -> &mut [u8] {
        self
    }

    fn grow(&mut self, len: usize) -> bool {
        self.resize(len.next_power_of_two().max(1024), 0);
        true
    }
}

impl Buffer for &mut [u8] {
    #[inline(always)]
    fn room(&mut self) -> &mut [u8] {
        self
    }

    fn grow(&mut self, _: usize) -> bool {
        false
    }
}

/// Copies `bytes` to the beginning of `buffer`.
fn put<B: Buffer + ?Sized>(bytes: &[u8], buffer: &mut B) -> Result<(), Missed> {
    let len = bytes.len();
    if buffer.room().len() < len && !buffer.grow(len) {
        return Err(Missed::TooShort { len });
    }
    buffer.room()[..len].copy_from_slice(bytes);
    Ok(())
}

/// See the module.
#[derive(Debug)]
pub(super) struct Incoming {
    connection: Option<Arc<Connection>>,
    ring: Option<Consumer<Ring>>,
    /// Whether the next message comes through the ring, or has a mark there.
    in_ring: bool,
    /// The next message, if it came over the socket and there was no room for it yet.
    parcel: Option<Parcel>,
    /// Received over connections that have ended, and not handed out, with their sequences; 0: there is nobody left to acknowledge
    /// it to.
    early: VecDeque<(u64, Vec<u8>)>,
    /// What those take.
    early_bytes: usize,
    /// The longest message that this end takes.
    max_message: usize,
    /// Who sends.
    peer: Identity,
    /// The last sequence received. What is in `early` is.
    received: u64,
    policy: Policy,
    /// The last sequence that was acknowledged to `peer`.
    acknowledged: u64,
    /// Handed out and not acknowledged: one range.
    unacknowledged: Batch<1>,
    /// What those take in the ring, about, and how much of it is enough to be given back.
    bytes: usize,
    enough: usize,
    /// Whether the reactor was asked to look after the age of `unacknowledged`.
    pub(super) is_timed: bool,
    /// How often acknowledgements were sent.
    pub(super) flushes: u64,
    /// Whether something was read that is for others than whoever receives.
    pub(super) is_stirred: bool,
}

impl Incoming {
    pub(super) fn new(policy: Policy, max_message: usize) -> Self {
        Incoming {
            connection: None,
            ring: None,
            in_ring: false,
            parcel: None,
            early: VecDeque::new(),
            early_bytes: 0,
            max_message,
            peer: Identity::default(),
            received: 0,
            acknowledged: 0,
            policy,
            unacknowledged: Batch::new(policy),
            bytes: 0,
            enough: usize::MAX,
            is_timed: false,
            flushes: 0,
            is_stirred: false,
        }
    }

    /// Copies the next message to the beginning of `into` and returns its length, if it comes through the ring, and nothing else has
    /// to be looked at: see `Outgoing::send_quickly`.
    #[inline(always)]
    pub(super) fn next_quickly(&mut self, into: &mut [u8]) -> Option<usize> {
        let ring = self.ring.as_mut()?;
        if !self.in_ring || !self.early.is_empty() {
            return None;
        }
        let len = ring.take(into).ok()?;
        self.received += 1;
        self.count(self.received, len);
        Some(len)
    }

    /// Copies the next message into `buffer` and returns its length; `None` if none is there.
    ///
    /// # Errors
    ///
    /// [`Missed`].
    pub(super) fn next<B: Buffer + ?Sized>(&mut self, buffer: &mut B) -> Result<Option<usize>, Missed> {
        if !self.early.is_empty() {
            return self.next_early(buffer);
        }
        let Some(len) = self.take(buffer)? else { return Ok(None) };
        self.received += 1;
        self.count(self.received, len);
        Ok(Some(len))
    }

    #[cold]
    fn next_early<B: Buffer + ?Sized>(&mut self, buffer: &mut B) -> Result<Option<usize>, Missed> {
        let Some((sequence, message)) = self.early.front() else { return Ok(None) };
        let (sequence, len) = (*sequence, message.len());
        put(message, buffer)?;
        self.early.pop_front();
        self.early_bytes -= len + OVERHEAD;
        if sequence > 0 {
            self.count(sequence, len);
        }
        Ok(Some(len))
    }

    /// The connection that it comes over.
    pub(super) fn connection(&self) -> Option<&Arc<Connection>> {
        self.connection.as_ref()
    }

    /// The next message where it lies in the ring, and what it is in, if it is there and has come by the ring. It stays the next one
    /// until it is [passed](Incoming::pass).
    pub(super) fn peek(&self) -> Option<(Arc<Region>, NonNull<[u8]>)> {
        let ring = self.ring.as_ref().filter(|_| self.in_ring && self.early.is_empty())?;
        let region = self.connection.as_ref()?.region.clone()?;
        Some((region, ring.peek().ok()?))
    }

    /// Goes on behind the next message, which was [peeked](Incoming::peek) at, wherever it is by now.
    pub(super) fn pass(&mut self) -> Result<(), Fault> {
        if let Some((sequence, message)) = self.early.pop_front() {
            self.early_bytes -= message.len() + OVERHEAD;
            if sequence > 0 {
                self.count(sequence, message.len());
            }
            return Ok(());
        }
        let Some(ring) = &mut self.ring else { return Ok(()) };
        let len = ring.pass_by().map_err(|_| Fault::Memory)?;
        self.received += 1;
        self.count(self.received, len);
        Ok(())
    }

    /// Takes the next message that the connection has.
    #[inline]
    fn take<B: Buffer + ?Sized>(&mut self, buffer: &mut B) -> Result<Option<usize>, Missed> {
        let Some(ring) = self.ring.as_mut().filter(|_| self.in_ring) else { return self.take_parcel(buffer) };
        loop {
            match ring.take(buffer.room()) {
                Ok(len) => return Ok(Some(len)),
                Err(ReadError::Empty) => return Ok(None),
                // No longer than half of the ring.
                Err(ReadError::TooLong { len }) if buffer.grow(len) => {}
                Err(ReadError::TooLong { len }) => return Err(Missed::TooShort { len }),
                Err(ReadError::Mark) => return self.take_parcel(buffer),
                Err(ReadError::Corrupt) => return Err(Fault::Memory.into()),
            }
        }
    }

    /// Takes the next message that came over the socket.
    #[cold]
    fn take_parcel<B: Buffer + ?Sized>(&mut self, buffer: &mut B) -> Result<Option<usize>, Missed> {
        let Some(connection) = &self.connection else { return Ok(None) };
        if self.parcel.is_none() {
            self.parcel = connection.next_parcel();
        }
        if self.parcel.is_none() {
            connection.pump(false)?;
            self.is_stirred |= connection.take_stirred();
            self.parcel = connection.next_parcel();
        }
        let Some(parcel) = &self.parcel else { return Ok(None) };
        if (parcel.flags & MARKED != 0) != self.in_ring {
            return Err(Fault::Turn.into());
        }
        put(&parcel.bytes, buffer)?;
        let (len, flags) = (parcel.bytes.len(), parcel.flags);
        self.parcel = None;
        if let Some(ring) = self.ring.as_mut().filter(|_| self.in_ring) {
            ring.pass_by().map_err(|_| Fault::Memory)?;
        }
        if flags & SWITCH != 0 {
            self.in_ring = !self.in_ring;
            if self.in_ring && self.ring.is_none() {
                return Err(Fault::Turn.into());
            }
        }
        Ok(Some(len))
    }

    /// Notes that a message of `len` bytes was handed out.
    #[inline]
    fn count(&mut self, sequence: u64, len: usize) {
        // The time is asked for once a batch.
        let is_first = self.unacknowledged.pending() == 0;
        let now = if is_first && matches!(self.policy, Policy::Batch { .. }) { futex::now() } else { 0 };
        // One after the other they are one range, for which there is room.
        let _ = self.unacknowledged.add(Range::of(sequence, Status::Accepted), now);
        self.bytes += len + size_of::<u64>();
        // The time that age is told from is not asked for here: a timer looks after that.
        let due = match self.policy {
            Policy::Immediate => true,
            Policy::Batch { events, .. } => {
                self.unacknowledged.pending() >= u64::from(events) || self.bytes >= self.enough
            }
            Policy::Deferred => false,
        };
        if due {
            self.acknowledge();
        }
    }

    /// When the acknowledgements are due by their age; `None` if there are none, or if nobody waits for them.
    pub(super) fn due_at(&self) -> Option<u64> {
        self.unacknowledged.due_at()
    }

    /// Acknowledges before a sleep what is not left to the program to acknowledge.
    pub(super) fn acknowledge_before_sleep(&mut self) {
        if self.policy != Policy::Deferred {
            self.acknowledge();
        }
    }

    /// Acknowledges all that was handed out.
    pub(super) fn acknowledge(&mut self) {
        let Some(last) = self.unacknowledged.ranges().first().map(Range::last) else { return };
        self.unacknowledged.clear();
        self.acknowledged = last;
        self.bytes = 0;
        self.flushes += 1;
        self.announce();
    }

    /// Tells the peer up to where all is acknowledged.
    fn announce(&mut self) {
        let Some(connection) = &self.connection else { return };
        let Some(region) = &connection.region else { return connection.send_ack(self.acknowledged) };
        // Before the room is given back, so that whoever takes the ring back knows more rather than less.
        region.own().acked.store(self.acknowledged, Ordering::Relaxed);
        if let Some(ring) = &mut self.ring {
            ring.give_back();
        }
        let [_, room] = region.bells(region.side().other());
        if room.event.notify() {
            futex::wake_all(room.event.word());
        }
        if room.by_socket.load(Ordering::Relaxed) != 0 {
            wake_by_socket(room, Some(connection));
        }
    }

    /// How many messages were handed out and not acknowledged.
    pub(super) fn pending(&self) -> u64 {
        self.unacknowledged.pending()
    }

    /// The last sequence received, and from whom.
    pub(super) fn received(&self) -> (Identity, u64) {
        (self.peer, self.received)
    }

    /// Whom the next message comes from, if it is from the present peer, or will be.
    #[inline]
    pub(super) fn next_from(&self) -> Option<Identity> {
        let is_formers = self.early.front().is_some_and(|(sequence, _)| *sequence == 0);
        (!is_formers).then_some(self.peer)
    }

    /// Leaves the connection, and keeps all that came over it.
    ///
    /// # Errors
    ///
    /// What came was not right. What came before is kept.
    pub(super) fn suspend(&mut self) -> Result<(), Ending> {
        let outcome = self.drain();
        (self.connection, self.ring) = (None, None);
        outcome
    }

    fn drain(&mut self) -> Result<(), Ending> {
        let Some(connection) = self.connection.clone() else { return Ok(()) };
        // How it ended is known.
        while connection.pump(true) == Ok(true) {}
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            match self.take(&mut buffer) {
                Ok(Some(len)) => {
                    self.received += 1;
                    self.early.push_back((self.received, buffer[..len].to_vec()));
                    self.early_bytes += len + OVERHEAD;
                    // Nothing is given back meanwhile.
                    if self.ring.as_ref().is_some_and(|ring| ring.held() > connection.size as u64) {
                        return Err(Fault::Memory.into());
                    }
                    if self.early_bytes > EARLY * (connection.size + self.max_message + OVERHEAD) {
                        return Err(Fault::TooMuch.into());
                    }
                }
                Ok(None) => return Ok(()),
                Err(Missed::Ended(fault @ Ending::Fault(_))) => return Err(fault),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Goes on over another connection, with a peer that has said `hello`.
    pub(super) fn resume(&mut self, connection: Arc<Connection>, ring: Option<Consumer<Ring>>, hello: &Hello) {
        if hello.incarnation != self.peer {
            // What the other one had sent is not for this one to be acknowledged.
            self.unacknowledged.clear();
            self.early.iter_mut().for_each(|(sequence, _)| *sequence = 0);
            (self.peer, self.received, self.acknowledged) = (hello.incarnation, hello.first - 1, hello.first - 1);
        }
        self.bytes = 0;
        self.enough = connection.size / 4;
        self.in_ring = ring.is_some();
        (self.connection, self.ring) = (Some(connection), ring);
        // What was acknowledged over the last connection may not have arrived.
        if self.acknowledged > 0 {
            self.announce();
        }
    }
}
