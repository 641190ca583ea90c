//! What is yet to be sent: calls, answers, and what is said about them, in one order, so that whoever receives never waits for room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use super::codec::{FOREVER, HEADER};
use super::error::CallError;
use crate::core::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::std::futex;
use crate::std::link::shared::For;
use crate::std::link::wakers::Key;
use crate::std::link::{Error, Sender};

/// How many messages that nobody waits for may wait for room.
const POSTED: usize = 4096;

/// How an answer that waits for room has fared.
#[derive(Debug, Default)]
pub(super) struct Ticket(OnceLock<Result<(), CallError>>);

impl Ticket {
    pub(super) fn outcome(&self) -> Option<Result<(), CallError>> {
        self.0.get().cloned()
    }
}

/// Whom it matters to that a message is sent.
#[derive(Clone, Debug)]
pub(super) enum Whom {
    /// A request, until then.
    Call { id: u64, deadline: u64 },
    /// Whoever sends it waits for that.
    Waiter { number: u64, ticket: Arc<Ticket> },
    /// Nobody.
    Nobody,
}

#[derive(Debug)]
struct Entry {
    bytes: Vec<u8>,
    whom: Whom,
}

/// What became of a message that was not sent at once.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) whom: Whom,
    pub(super) outcome: Result<(), CallError>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Cancellations, grants and refusals on their way into the queue. Locked for moments, and by whoever has the queue, too.
    posted: Mutex<VecDeque<Vec<u8>>>,
    /// Whether the queue is to be looked at once more by whoever has it. Set by those who find it locked, before they find
    /// that (SeqCst with the lock in between), cleared by whoever has it.
    again: AtomicBool,
    /// Those that there was no room for (Relaxed: a count).
    pub(super) unsent: AtomicU64,
    key: Key,
}

#[derive(Debug)]
struct Queue {
    sender: Sender,
    entries: VecDeque<Entry>,
}

impl Outbox {
    pub(super) fn new(sender: Sender, key: Key) -> Self {
        Outbox {
            queue: Mutex::new(Queue { sender, entries: VecDeque::new() }),
            posted: Mutex::default(),
            again: AtomicBool::new(false),
            unsent: AtomicU64::new(0),
            key,
        }
    }

    /// Sends a message, or has it wait for its turn. Returns whether it is sent.
    ///
    /// # Errors
    ///
    /// It cannot be sent.
    pub(super) fn offer(&self, bytes: Vec<u8>, whom: Whom) -> Result<bool, CallError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.entries.is_empty() && self.posted().is_empty() {
            match queue.sender.try_send(&bytes) {
                Ok(_) => return Ok(true),
                Err(Error::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
        }
        queue.entries.push_back(Entry { bytes, whom });
        Ok(false)
    }

    fn posted(&self) -> std::sync::MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a message sent behind all others, if there is room for it to wait. Never waits. To be followed by a flush.
    pub(super) fn post(&self, bytes: Vec<u8>) {
        let mut posted = self.posted();
        if posted.len() < POSTED {
            posted.push_back(bytes);
        } else {
            self.unsent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a request back that is still here. Returns whether it was.
    pub(super) fn withdraw(&self, is_it: impl Fn(&Whom) -> bool) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let found = queue.entries.iter().position(|entry| is_it(&entry.whom));
        found.and_then(|at| queue.entries.remove(at)).is_some()
    }

    /// Sends what there is room for, unless somebody is at it, who then looks again. `waker` is for when there is more room.
    pub(super) fn flush(&self, waker: &Waker, settled: &mut Vec<Settled>) {
        self.again.store(true, Ordering::SeqCst);
        self.flush_again(waker, settled);
    }

    /// What whoever had the queue does when it is free again.
    pub(super) fn flush_again(&self, waker: &Waker, settled: &mut Vec<Settled>) {
        while self.again.load(Ordering::SeqCst) {
            let Ok(mut queue) = self.queue.try_lock() else { return };
            self.again.store(false, Ordering::SeqCst);
            self.send(&mut queue, waker, settled);
        }
    }

    fn send(&self, queue: &mut Queue, waker: &Waker, settled: &mut Vec<Settled>) {
        let mut has_asked = false;
        loop {
            let room = POSTED.saturating_sub(queue.entries.len());
            let mut posted = self.posted();
            let count = posted.len().min(room);
            let moved: Vec<_> = posted.drain(..count).map(|bytes| Entry { bytes, whom: Whom::Nobody }).collect();
            drop(posted);
            queue.entries.extend(moved);
            let is_full = loop {
                let Some(Entry { bytes, whom }) = queue.entries.front_mut() else { break false };
                let outcome = match is_in_time(bytes, whom) {
                    true => match queue.sender.try_send(bytes) {
                        Err(Error::WouldBlock) => break true,
                        outcome => outcome.map(drop).map_err(CallError::from),
                    },
                    false => Err(CallError::DeadlinePassed),
                };
                let Some(Entry { whom, .. }) = queue.entries.pop_front() else { break false };
                if let Whom::Waiter { ticket, .. } = &whom {
                    // It is told once.
                    let _ = ticket.0.set(outcome.clone());
                }
                if !matches!(whom, Whom::Nobody) {
                    settled.push(Settled { whom, outcome });
                }
            };
            if is_full && !has_asked {
                queue.sender.handle.register(For::Room, self.key, waker);
                // Room that there was before is not told of: another look.
                has_asked = true;
            } else if is_full || self.posted().is_empty() {
                return;
            }
        }
    }
}

/// Whether anybody will wait for the answer, as a request is told once more, which has waited here.
fn is_in_time(bytes: &mut [u8], whom: &Whom) -> bool {
    let Whom::Call { deadline, .. } = *whom else { return true };
    if deadline == FOREVER {
        return true;
    }
    let remaining = deadline.saturating_sub(futex::now());
    if let Some(place) = bytes.get_mut(HEADER..HEADER + size_of::<u64>()) {
        place.copy_from_slice(&remaining.to_le_bytes());
    }
    remaining > 0
}
