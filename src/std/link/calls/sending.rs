//! What an end says: calls, answers, and what is said about them.

use std::sync::Arc;
use std::task::Waker;

use super::codec::{self, Body, FOREVER, Message};
use super::engine::{Engine, State, Want};
use super::error::{CallError, Failure, Stopped};
use super::outbox::{Settled, Ticket, Whom};
use super::table::Served;
use crate::core::atomic::Ordering;
use crate::std::futex::{self, Deadline};

impl Engine {
    /// Sends a request, or has it wait for room.
    pub(super) fn begin(
        self: &Arc<Self>,
        method: &str,
        payload: &[u8],
        deadline: Deadline,
        window: u32,
    ) -> Result<u64, CallError> {
        self.check_fork()?;
        if method.len() > usize::from(u8::MAX) {
            return Err(CallError::Method { len: method.len() });
        }
        // What came back is looked at first, so that the call is for whoever is there now.
        let connections = self.shared.connections();
        if self.seen.swap(connections, Ordering::Relaxed) != connections {
            self.look(Want::Tasks, |_| true);
        }
        let is_for_ever = deadline >= Deadline::at(u64::MAX);
        let deadline = if is_for_ever { FOREVER } else { deadline.nanoseconds() };
        let remaining = if is_for_ever { FOREVER } else { deadline.saturating_sub(futex::now()) };
        let (id, to) = self.state().table.begin(deadline, window)?;
        let bytes = codec::request(to, id, remaining, window, method, payload);
        match self.offer(bytes, Whom::Call { id, deadline }) {
            Ok(_) => Ok(id),
            Err(error) => {
                self.state().table.forget(id);
                Err(error)
            }
        }
    }

    /// Nobody waits for a call any more: says so to the other end, if it has heard of the call.
    pub(super) fn abandon(&self, id: u64, is_overdue: bool) {
        let mut state = self.state();
        state.tasks.remove(&id);
        let tells = is_overdue || state.table.abandon(id);
        let to = state.table.peer();
        drop(state);
        if tells && !self.withdraw(|whom| matches!(whom, Whom::Call { id: of, .. } if *of == id)) {
            self.post(Message { to, id, body: Body::Cancel }.to_bytes());
        }
    }

    /// Says that so many bytes of parts may follow.
    pub(super) fn grant(&self, id: u64, bytes: u32) {
        let to = self.state().table.peer();
        self.post(Message { to, id, body: Body::Grant { bytes } }.to_bytes());
    }

    /// Waits until a part may be sent, and sends it.
    pub(super) fn send_part(self: &Arc<Self>, served: Served, deadline: u64, part: &[u8]) -> Result<(), Stopped> {
        let until = until(deadline);
        let spend = |state: &mut State| match state.stopping {
            true => Some(Err(Stopped::Cancelled)),
            false => state.table.spend(served, part.len(), futex::now()).transpose(),
        };
        let to = self.wait(Want::Theirs(served), until, spend).unwrap_or(Err(Stopped::DeadlinePassed))?;
        self.say(Message { to, id: served.id, body: Body::Part(part) }, served, until)
    }

    /// Answers a call.
    pub(super) fn answer(self: &Arc<Self>, served: Served, deadline: u64, outcome: Result<Vec<u8>, Failure>) {
        let Some(to) = self.state().table.finish(served, futex::now()) else { return };
        let failed = |failure: &Failure| self.say(failed(to, served.id, failure), served, until(deadline));
        let said = match &outcome {
            Ok(payload) => {
                let message = Message { to, id: served.id, body: Body::Answer(payload) };
                match self.say(message, served, until(deadline)) {
                    Err(stopped @ Stopped::TooLarge { .. }) => failed(&stopped.into()),
                    said => said,
                }
            }
            Err(failure) => failed(failure),
        };
        if let Err(stopped) = said {
            self.state().table.unanswered(stopped);
        }
    }

    /// Sends something to whoever waits for it, and waits until it is sent.
    fn say(self: &Arc<Self>, message: Message<'_>, served: Served, until: Option<Deadline>) -> Result<(), Stopped> {
        let (number, ticket) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::<Ticket>::default());
        let outcome = match self.offer(message.to_bytes(), Whom::Waiter { number, ticket: ticket.clone() }) {
            Ok(true) => return Ok(()),
            Ok(false) => self.wait(Want::Sent(number), until, |state| {
                let is_over = state.stopping || !state.table.is_present(served);
                ticket.outcome().or_else(|| is_over.then_some(Err(CallError::Cancelled)))
            }),
            Err(error) => Some(Err(error)),
        };
        match outcome {
            Some(Ok(())) => Ok(()),
            Some(Err(CallError::TooLarge { len, max })) => Err(Stopped::TooLarge { len, max }),
            failed => {
                self.withdraw(|whom| matches!(whom, Whom::Waiter { number: of, .. } if *of == number));
                Err(if failed.is_some() { Stopped::Cancelled } else { Stopped::DeadlinePassed })
            }
        }
    }

    fn offer(&self, bytes: Vec<u8>, whom: Whom) -> Result<bool, CallError> {
        let outcome = self.outbox.offer(bytes, whom);
        match outcome {
            Ok(false) => self.flush(),
            _ => self.flush_again(),
        }
        outcome
    }

    fn withdraw(&self, is_it: impl Fn(&Whom) -> bool) -> bool {
        let was_here = self.outbox.withdraw(is_it);
        self.flush_again();
        was_here
    }

    /// Sends something that nobody waits for. Never waits.
    pub(super) fn post(&self, bytes: Vec<u8>) {
        self.outbox.post(bytes);
        self.flush();
    }

    pub(super) fn flush(&self) {
        let mut settled = Vec::new();
        self.outbox.flush(&self.waker, &mut settled);
        self.settle(settled);
    }

    fn flush_again(&self) {
        let mut settled = Vec::new();
        self.outbox.flush_again(&self.waker, &mut settled);
        self.settle(settled);
    }

    /// Tells those to whom it matters what became of what they have sent.
    fn settle(&self, settled: Vec<Settled>) {
        if settled.is_empty() {
            return;
        }
        let mut woken = Vec::new();
        let mut state = self.state();
        for Settled { whom, outcome } in settled {
            match (whom, outcome) {
                (Whom::Call { id, .. }, Err(error)) => {
                    state.table.fail(id, error);
                    state.tell(Want::Ours(id), &mut woken);
                }
                (Whom::Waiter { number, .. }, _) => state.tell(Want::Sent(number), &mut woken),
                _ => {}
            }
        }
        let is_led = state.leader.is_some();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        if is_led {
            self.kick();
        }
    }
}

pub(super) fn failed(to: u64, id: u64, failure: &Failure) -> Message<'_> {
    let Failure { reason, code, ref text } = *failure;
    Message { to, id, body: Body::Failed { reason, code, text } }
}

fn until(deadline: u64) -> Option<Deadline> {
    (deadline != FOREVER).then(|| Deadline::at(deadline))
}
