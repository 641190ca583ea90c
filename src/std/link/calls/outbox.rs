//! What is yet to be sent: calls, answers, and what is said about them, in one order, so that whoever receives never waits for room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::Waker;

use super::codec::{FOREVER, HEADER};
use super::error::CallError;
use crate::core::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::std::futex;
use crate::std::link::outgoing::Refused;
use crate::std::link::shared::{For, Shared, Unsent};
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
    shared: Arc<Shared>,
    queue: Mutex<Queue>,
    /// Cancellations, grants and refusals on their way into the queue. Locked for moments, and by whoever has the queue, too.
    posted: Mutex<VecDeque<Vec<u8>>>,
    /// Whether the queue is to be looked at once more by whoever has it. Set by those who find it locked, before they find
    /// that; cleared by whoever has it, and looked at behind that. Either those see the lock let go, or that one sees this set: it is a
    /// store before a load on both sides, which a lock does not order, and so with a fence between them on both.
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
    pub(super) fn new(shared: Arc<Shared>, sender: Sender, key: Key) -> Self {
        Outbox {
            shared,
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
        self.shared.check_fork()?;
        let mut queue = self.queue();
        if queue.entries.is_empty() && self.posted().is_empty() {
            let Err(unsent) = attempt(&mut queue.sender, &bytes) else { return Ok(true) };
            drop(queue);
            match self.shared.refuse(unsent, bytes.len()) {
                Error::WouldBlock => {}
                error => return Err(error.into()),
            }
            queue = self.queue();
        }
        queue.entries.push_back(Entry { bytes, whom });
        Ok(false)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn posted(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
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
        let mut queue = self.queue();
        let found = queue.entries.iter().position(|entry| is_it(&entry.whom));
        found.and_then(|at| queue.entries.remove(at)).is_some()
    }

    /// Sends what there is room for, unless somebody is at it, who then looks again. `waker` is for when there is more room.
    pub(super) fn flush(&self, waker: &Waker, settled: &mut Vec<Settled>) {
        // What this one knows of room, and of what is queued, whoever clears it knows, too.
        self.again.swap(true, Ordering::AcqRel);
        self.flush_again(waker, settled);
    }

    /// What whoever had the queue does when it is free again.
    pub(super) fn flush_again(&self, waker: &Waker, settled: &mut Vec<Settled>) {
        if self.shared.check_fork().is_err() {
            return;
        }
        loop {
            // Behind the store of whoever sets it, and behind the letting go of the lock of whoever had it: see `again`.
            fence(Ordering::SeqCst);
            if !self.again.load(Ordering::Relaxed) {
                return;
            }
            let mut queue = match self.queue.try_lock() {
                Ok(queue) => queue,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.again.swap(false, Ordering::Acquire);
            let outcome = self.send(&mut queue, waker, settled);
            drop(queue);
            if let Err(unsent) = outcome {
                // Tells the program. What is queued waits for another connection, or finds that there will be none.
                self.shared.refuse(unsent, 0);
                self.again.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Sends what there is room for.
    ///
    /// # Errors
    ///
    /// The connection is to be ended, by whoever has let the queue go, and the rest is to be looked at again then.
    fn send(&self, queue: &mut Queue, waker: &Waker, settled: &mut Vec<Settled>) -> Result<(), Unsent> {
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
                    true => match attempt(&mut queue.sender, bytes) {
                        Err(unsent) if matches!(unsent.refused, Refused::Ended(_)) => return Err(unsent),
                        // Of the other reasons nobody is told.
                        outcome => match outcome.map_err(|unsent| self.shared.refuse(unsent, bytes.len())) {
                            Err(Error::WouldBlock) => break true,
                            outcome => outcome.map_err(CallError::from),
                        },
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
                return Ok(());
            }
        }
    }
}

/// Sends a message, and leaves it to its caller to end the connection, of which the program is told.
fn attempt(sender: &mut Sender, bytes: &[u8]) -> Result<(), Unsent> {
    // SAFETY: the sender, or one of several, which nobody else has meanwhile.
    let mut outgoing = unsafe { sender.handle.sending() };
    match outgoing.send_quickly(bytes) {
        Some(_) => Ok(()),
        None => outgoing.send(bytes).map(drop).map_err(|refused| Unsent::over(&outgoing, refused)),
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock, mpsc};
    use std::thread;
    use std::time::Duration;

    use crate::core::atomic::Ordering;
    use crate::std::link::calls::{Call, CallError, Caller};
    use crate::std::link::shared::Shared;
    use crate::std::link::{Event, Fault, Link, MIN_SIZE};

    const SOON: Duration = Duration::from_secs(60);

    /// Says that more was given back of the ring to the other end than there is in it.
    fn scribble(shared: &Shared) {
        let connection = shared.connection().unwrap();
        connection.region.as_ref().unwrap().written()[1][0].store(1 << 40, Ordering::Relaxed);
    }

    /// Calls until the ring is full, or the link at its end.
    fn fill(caller: &Caller) -> (Vec<Call>, Option<CallError>) {
        let mut calls = Vec::new();
        for _ in 0..100 {
            match caller.start("", &[0; 500], SOON) {
                Ok(call) => calls.push(call),
                Err(error) => return (calls, Some(error)),
            }
        }
        (calls, None)
    }

    /// What comes of a call that the callback begins, and of the one that has found the fault.
    fn told(address: &str, fills_before: bool) -> (CallError, CallError) {
        let caller = Arc::new(OnceLock::<Caller>::new());
        let (heard, events) = mpsc::channel();
        // What the link keeps must not keep the link.
        let known = Arc::downgrade(&caller);
        let options = Link::options().size(MIN_SIZE).on_event(move |event| {
            let Some(known) = known.upgrade() else { return };
            if let (Event::Disconnected(_), Some(caller)) = (event, known.get()) {
                let _ = heard.send(caller.start("", b"", SOON));
            }
        });
        let mut listener = Link::options().size(MIN_SIZE).listen(address).unwrap();
        let name = address.to_owned();
        let connecting = thread::spawn(move || options.connect(&name).unwrap());
        let other = listener.accept().unwrap();
        let (sender, _receiver) = other.split();
        let caller = caller.get_or_init(|| connecting.join().unwrap().into_caller());
        let mut calls = Vec::new();
        if fills_before {
            calls.extend(fill(caller).0);
        }
        scribble(&sender.handle);
        let (more, error) = fill(caller);
        calls.extend(more);
        let error = error.unwrap_or_else(|| calls.pop().unwrap().wait().unwrap_err());
        let begun = events.recv_timeout(SOON).unwrap();
        (begun.and_then(Call::wait).unwrap_err(), error)
    }

    #[test]
    fn a_callback_that_is_told_of_the_end_of_a_connection_may_begin_a_call() {
        for fills_before in [false, true] {
            let address = format!("@conduit-outbox-{}-{fills_before}", std::process::id());
            let (done, outcome) = mpsc::channel();
            thread::spawn(move || done.send(told(&address, fills_before)));
            let (in_callback, outside) = outcome.recv_timeout(SOON).expect("no lock is held that it takes");
            for error in [in_callback, outside] {
                assert_eq!(error, CallError::Closed(Fault::Memory.into()));
            }
        }
    }
}
