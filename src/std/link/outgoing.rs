//! What a link sends: by the ring or over the socket, in one order, and kept until it is acknowledged.
//!
//! What goes through the ring is kept by the ring: the other end gives its room back with the acknowledgement. What goes over the
//! socket is kept here. In the ring, a mark stands for each message that goes over the socket while the ring is the way.

use std::collections::VecDeque;
use std::sync::Arc;

use super::connection::Connection;
use super::region::{Bell, Region, Ring};
use super::wire::{Fault, Hello, Identity, MARKED, SWITCH};
use super::{Ending, Transport};
use crate::core::atomic::{Ordering, fence};
use crate::core::records::{Producer, ReadError, WriteError};
use crate::core::ring::Notifier;
use crate::std::futex::{self, barrier};

/// How many rings' worth of messages are kept that the peer has received over connections before and not acknowledged.
const CARRIED: usize = 4;

/// A message that is kept here.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    sequence: u64,
    /// Whether the peer has received it over a connection before.
    carried: bool,
    /// Whether a mark in the ring stands for it.
    marked: bool,
    bytes: Vec<u8>,
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// There is no room, or no connection.
    Full,
    /// It is longer than the peer takes.
    TooLarge { max: usize },
    /// The connection is to be ended.
    Ended(Ending),
}

#[cfg(any(fuzzing, test))]
impl Refused {
    /// Whether the connection is to be ended.
    pub(super) fn ends(self) -> bool {
        matches!(self, Refused::Ended(_))
    }
}

impl<E: Into<Ending>> From<E> for Refused {
    fn from(ending: E) -> Self {
        Refused::Ended(ending.into())
    }
}

/// The ring, and the way to whoever waits at its other end.
#[derive(Debug)]
struct ToRing {
    region: Arc<Region>,
    producer: Producer<Ring>,
    notifier: Notifier,
    max_len: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outgoing {
    connection: Option<Arc<Connection>>,
    ring: Option<ToRing>,
    /// Whether the next message goes through the ring, or has a mark there.
    in_ring: bool,
    /// The way that is wished for.
    wish: Transport,
    window: u64,
    /// The last sequence that was given to a message.
    sent: u64,
    /// The last sequence that went to the connection, or to one before it. What is between it and `sent` is in `backlog`.
    placed: u64,
    /// The last sequence that is known to be acknowledged.
    acked: u64,
    /// On their way, and not acknowledged, in order; what the ring keeps is not among them.
    kept: VecDeque<Kept>,
    /// Bytes of those that went over this connection, and of the others.
    kept_bytes: usize,
    carried_bytes: usize,
    /// To be sent once more, over a new connection.
    backlog: VecDeque<Kept>,
    /// Messages over the socket while there was a ring.
    pub(super) by_socket: u64,
    /// How many were sent again.
    pub(super) resent: u64,
}

impl Outgoing {
    pub(super) fn new(wish: Transport, window: u32) -> Self {
        Outgoing {
            connection: None,
            ring: None,
            in_ring: false,
            wish,
            window: u64::from(window),
            sent: 0,
            placed: 0,
            acked: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            carried_bytes: 0,
            backlog: VecDeque::new(),
            by_socket: 0,
            resent: 0,
        }
    }

    pub(super) fn connection(&self) -> Option<&Arc<Connection>> {
        self.connection.as_ref()
    }

    /// Sends a message through the ring, and returns its sequence, if nothing else has to be looked at: what is returned fits
    /// registers. A larger answer is written and read back, which here means to wait until what was written to the ring has
    /// reached the other core.
    #[inline(always)]
    pub(super) fn send_quickly(&mut self, bytes: &[u8]) -> Option<u64> {
        let ring = self.ring.as_mut()?;
        let is_clear = self.in_ring
            && self.wish == Transport::SharedMemory
            && self.backlog.is_empty()
            && self.sent - self.acked < self.window
            && self.carried_bytes == 0
            && bytes.len() <= ring.max_len;
        if !is_clear || self.connection.as_ref()?.has_ended() || ring.producer.push(bytes).is_err() {
            return None;
        }
        Self::ring_peer(ring, self.connection.as_deref());
        self.sent += 1;
        self.placed = self.sent;
        Some(self.sent)
    }

    /// Sends a message, and returns its sequence.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<u64, Refused> {
        let max = match &self.connection {
            Some(connection) if !connection.has_ended() => connection.max_message,
            _ => return Err(Refused::Full),
        };
        if bytes.len() > max {
            return Err(Refused::TooLarge { max });
        }
        if !self.backlog.is_empty() {
            self.send_backlog()?;
            if !self.backlog.is_empty() {
                return Err(Refused::Full);
            }
        }
        if !self.has_window() {
            self.look()?;
            if !self.has_window() {
                return Err(Refused::Full);
            }
        }
        let sequence = self.sent + 1;
        if !self.goes_by_ring(bytes)? {
            self.send_by_socket(sequence, bytes)?;
        }
        (self.sent, self.placed) = (sequence, sequence);
        Ok(sequence)
    }

    /// Whether one more may be on its way.
    #[inline]
    fn has_window(&self) -> bool {
        let most = self.connection.as_ref().map_or(0, |connection| CARRIED * connection.size);
        self.sent - self.acked < self.window && self.carried_bytes <= most
    }

    /// Puts a message into the ring, if that is its way.
    fn goes_by_ring(&mut self, bytes: &[u8]) -> Result<bool, Refused> {
        let Some(ring) = self.ring.as_mut().filter(|_| self.in_ring && self.wish == Transport::SharedMemory) else {
            return Ok(false);
        };
        if bytes.len() > ring.max_len {
            return Ok(false);
        }
        match ring.producer.push(bytes) {
            Ok(()) => {}
            Err(WriteError::Full) => return Err(Refused::Full),
            Err(_) => return Err(Fault::Memory.into()),
        }
        Self::ring_peer(ring, self.connection.as_deref());
        Ok(true)
    }

    /// Wakes the peer, if it sleeps until something comes.
    #[inline]
    fn ring_peer(ring: &mut ToRing, connection: Option<&Connection>) {
        let [messages, _] = ring.region.bells(ring.region.side().other());
        if ring.notifier.notify(&messages.event, &ring.region.own().elided) {
            futex::wake_all(messages.event.word());
            // The fence is back: a task that finds it so relies on the message being in front of the look that follows.
            fence(Ordering::SeqCst);
        }
        if messages.by_socket.load(Ordering::Relaxed) != 0 {
            wake_by_socket(messages, connection);
        }
    }

    /// Sends a message over the socket, and keeps it.
    fn send_by_socket(&mut self, sequence: u64, bytes: &[u8]) -> Result<(), Refused> {
        let Some(connection) = self.connection.clone() else { return Err(Refused::Full) };
        let max = connection.max_message;
        if bytes.len() > max {
            return Err(Refused::TooLarge { max });
        }
        self.look()?;
        if self.kept_bytes > 0 && self.kept_bytes + bytes.len() > connection.size {
            return Err(Refused::Full);
        }
        let marked = self.in_ring;
        let wishes_ring = self.ring.is_some() && self.wish == Transport::SharedMemory;
        let flags = if marked { MARKED } else { 0 } | if marked == wishes_ring { 0 } else { SWITCH };
        if let Some(ring) = self.ring.as_mut().filter(|_| marked) {
            match ring.producer.mark() {
                Ok(()) => {}
                Err(WriteError::Full) => return Err(Refused::Full),
                Err(_) => return Err(Fault::Memory.into()),
            }
        }
        self.by_socket += u64::from(self.ring.is_some());
        self.in_ring = wishes_ring;
        self.kept_bytes += bytes.len();
        self.kept.push_back(Kept { sequence, carried: false, marked, bytes: bytes.to_vec() });
        connection.send_message(flags, bytes);
        if let Some(ring) = self.ring.as_mut().filter(|_| marked) {
            Self::ring_peer(ring, Some(&connection));
        }
        Ok(())
    }

    /// Sends what was on its way when the last connection ended, as far as there is room.
    #[cold]
    pub(super) fn send_backlog(&mut self) -> Result<(), Refused> {
        while let Some(next) = self.backlog.pop_front() {
            let outcome = match self.goes_by_ring(&next.bytes) {
                Ok(true) => Ok(()),
                Ok(false) => self.send_by_socket(next.sequence, &next.bytes),
                Err(refused) => Err(refused),
            };
            match outcome {
                Ok(()) => {
                    self.placed = next.sequence;
                    self.resent += 1;
                }
                Err(Refused::Full) => {
                    self.backlog.push_front(next);
                    return Ok(());
                }
                // This peer takes less than the one that it was meant for.
                Err(Refused::TooLarge { max }) => {
                    return Err(Fault::TakesLess { len: next.bytes.len(), max }.into());
                }
                Err(ended) => {
                    self.backlog.push_front(next);
                    return Err(ended);
                }
            }
        }
        Ok(())
    }

    /// Looks what the peer has acknowledged.
    pub(super) fn look(&mut self) -> Result<(), Fault> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let acked = connection.acked();
        if acked > self.placed {
            return Err(Fault::Sequence);
        }
        self.acked = self.acked.max(acked);
        while let Some(first) = self.kept.front().filter(|first| first.sequence <= self.acked) {
            let bytes = if first.carried { &mut self.carried_bytes } else { &mut self.kept_bytes };
            *bytes -= first.bytes.len();
            self.kept.pop_front();
        }
        Ok(())
    }

    /// The last sequence sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many messages are sent and not acknowledged, as last seen.
    pub(super) fn pending(&self) -> u64 {
        self.sent - self.acked
    }

    /// Whether something waits to be sent again.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Bytes that there is room for.
    pub(super) fn room(&mut self) -> usize {
        match (&mut self.ring, &self.connection) {
            (Some(ring), _) if self.in_ring => ring.producer.room().unwrap_or(0),
            (_, Some(connection)) => connection.size.saturating_sub(self.kept_bytes),
            (_, None) => 0,
        }
    }

    /// The way that the next message goes.
    pub(super) fn transport(&self) -> Option<Transport> {
        self.connection.as_ref()?;
        let by_ring = self.ring.is_some() && self.wish == Transport::SharedMemory;
        Some(if by_ring { Transport::SharedMemory } else { Transport::Socket })
    }

    /// Has messages from the next one on go another way, if there are two.
    pub(super) fn prefer(&mut self, transport: Transport) {
        self.wish = transport;
    }

    /// Leaves the connection: what was not acknowledged is to be sent again.
    ///
    /// # Errors
    ///
    /// What the peer has written does not fit what was sent.
    pub(super) fn suspend(&mut self) -> Result<(), Fault> {
        let mut items = Vec::new();
        if let Some(ring) = self.ring.take() {
            let mut remainder = ring.producer.take_back().map_err(|_| Fault::Memory)?;
            let mut bytes = vec![0; ring.max_len];
            // From a place that the peer has made up, what is in the messages may be taken for records, and make a circle.
            let mut found = 0;
            loop {
                found += size_of::<u64>();
                if found > ring.region.ring_len() {
                    return Err(Fault::Memory);
                }
                match remainder.take(&mut bytes) {
                    Ok(len) => {
                        found += len;
                        items.push(Some(bytes[..len].to_vec()));
                    }
                    Err(ReadError::Mark) => {
                        remainder.skip().map_err(|_| Fault::Memory)?;
                        items.push(None);
                    }
                    Err(ReadError::Empty) => break,
                    Err(_) => return Err(Fault::Memory),
                }
            }
        }
        // Behind the ring, as the peer acknowledges before it gives back.
        self.look()?;
        self.connection = None;
        let kept = std::mem::take(&mut self.kept);
        (self.kept_bytes, self.carried_bytes) = (0, 0);
        let unacknowledged = in_order(self.acked, self.placed, kept, items).ok_or(Fault::Memory)?;
        for message in unacknowledged.into_iter().rev() {
            self.backlog.push_front(message);
        }
        self.placed = self.acked;
        Ok(())
    }

    /// The sequence of the first message that is kept, or of the next one.
    pub(super) fn first(&self) -> u64 {
        self.acked + 1
    }

    /// Goes on over another connection, with a peer that has said `hello`.
    ///
    /// # Errors
    ///
    /// The peer cannot have received what it says.
    pub(super) fn resume(
        &mut self,
        connection: Arc<Connection>,
        producer: Option<(Arc<Region>, Producer<Ring>)>,
        hello: &Hello,
        own: Identity,
    ) -> Result<(), Fault> {
        if hello.peer == own {
            if hello.received > self.sent || hello.received < self.acked {
                return Err(Fault::Sequence);
            }
            // It has them, but has not acknowledged them: its successor may ask for them.
            let received = self.backlog.iter().take_while(|message| message.sequence <= hello.received).count();
            for message in self.backlog.drain(..received) {
                self.carried_bytes += message.bytes.len();
                self.kept.push_back(Kept { carried: true, marked: false, ..message });
            }
            self.placed = hello.received;
        }
        self.in_ring = producer.is_some();
        self.ring = producer.map(|(region, producer)| {
            let notifier = Notifier::new(&region.own().elided, barrier::register());
            // What is longer than the peer takes is refused where it would go over the socket.
            let max_len = producer.max_len().min(connection.max_message);
            ToRing { region, producer, notifier, max_len }
        });
        self.connection = Some(connection);
        Ok(())
    }
}

/// Sends a frame to a peer that wants one to be woken by.
#[cold]
pub(super) fn wake_by_socket(bell: &Bell, connection: Option<&Connection>) {
    // AcqRel: pairs with the RMW by which the peer has said so.
    if bell.by_socket.swap(0, Ordering::AcqRel) != 0 {
        if let Some(connection) = connection {
            connection.send_wake();
        }
    }
}

/// The messages behind `acked`, up to `last`, of what was kept and of what was found in the ring: records, and marks.
/// `None` if they don't fit together.
fn in_order(acked: u64, last: u64, mut kept: VecDeque<Kept>, items: Vec<Option<Vec<u8>>>) -> Option<VecDeque<Kept>> {
    let mut found = VecDeque::new();
    // From the last one on, as there may be more in the ring than was not acknowledged.
    let mut sequence = last;
    let unmarked = |sequence: &mut u64, kept: &mut VecDeque<Kept>, found: &mut VecDeque<Kept>| {
        while kept.back().is_some_and(|last| last.sequence == *sequence && !last.marked) {
            found.extend(kept.pop_back());
            *sequence -= 1;
        }
    };
    for item in items.into_iter().rev() {
        unmarked(&mut sequence, &mut kept, &mut found);
        if sequence <= acked {
            break;
        }
        let is_kept = kept.back().is_some_and(|last| last.sequence == sequence);
        match (item, is_kept) {
            (None, true) => found.extend(kept.pop_back()),
            (Some(bytes), false) => found.push_back(Kept { sequence, carried: false, marked: false, bytes }),
            _ => return None,
        }
        sequence -= 1;
    }
    unmarked(&mut sequence, &mut kept, &mut found);
    if sequence > acked {
        return None;
    }
    found.retain(|message| message.sequence > acked);
    found.make_contiguous().reverse();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(sequence: u64, marked: bool) -> Kept {
        Kept { sequence, carried: false, marked, bytes: vec![sequence as u8] }
    }

    fn sequences(acked: u64, last: u64, kept: Vec<Kept>, items: Vec<Option<u8>>) -> Option<Vec<u64>> {
        let items = items.into_iter().map(|item| item.map(|byte| vec![byte])).collect();
        let found = in_order(acked, last, kept.into(), items)?;
        assert!(found.iter().all(|message| message.bytes == [message.sequence as u8]));
        Some(found.iter().map(|message| message.sequence).collect())
    }

    #[test]
    fn what_was_not_acknowledged_is_found_in_order_whichever_way_it_went() {
        assert_eq!(sequences(0, 0, vec![], vec![]), Some(vec![]));
        assert_eq!(sequences(2, 5, vec![], vec![Some(3), Some(4), Some(5)]), Some(vec![3, 4, 5]));
        // The ring was given back later than the last one was acknowledged.
        assert_eq!(sequences(4, 5, vec![], vec![Some(3), Some(4), Some(5)]), Some(vec![5]));
        // 3 and 4 from a connection before, 6 too long for the ring, 7 over the socket alone, 8 through the ring again.
        let kept = vec![kept(3, false), kept(4, false), kept(6, true), kept(7, false)];
        assert_eq!(sequences(2, 8, kept, vec![Some(5), None, Some(8)]), Some(vec![3, 4, 5, 6, 7, 8]));
        assert_eq!(
            sequences(5, 7, vec![super::tests::kept(6, false), super::tests::kept(7, false)], vec![]),
            Some(vec![6, 7])
        );
    }

    #[test]
    fn a_ring_that_a_peer_gave_back_wrongly_is_found_out() {
        assert_eq!(sequences(2, 5, vec![], vec![Some(4), Some(5)]), None);
        assert_eq!(sequences(2, 3, vec![kept(3, true)], vec![Some(3)]), None);
        assert_eq!(sequences(2, 3, vec![], vec![None]), None);
    }
}
