//! The threads and locks around the table of calls.
//!
//! Nobody but whoever waits receives: the first that waits *leads*, which is to receive for all, and when it has what it waits for
//! it has the next one lead. So a single caller has its answer without another thread, and so has a handler that asks back. Where
//! only tasks wait, the reactor's thread receives for them.
//!
//! What is locked: `state` for moments, with nothing of the link's called meanwhile that may call back; `inbox` by whoever leads, `state` within
//! it. The outbox's queue is locked by whoever sends, with `state` not locked, and the program is told of nothing meanwhile: a callback may
//! begin a call.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::codec::FOREVER;
use super::error::{CallError, Failure};
use super::metrics::Metrics;
use super::outbox::Outbox;
use super::sending;
use super::table::{Effect, Served, Table};
use crate::core::ack::Policy;
use crate::core::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::std::futex::{self, Deadline};
use crate::std::link::shared::{For, Look, Shared};
use crate::std::link::wakers::Key;
use crate::std::link::wire::Identity;
use crate::std::link::{Error, Link, Receiver, halves, reactor};

/// How much is received at a time by a thread that has something else to do.
const TURN: usize = 64;

/// What a thread, or a task, waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Want {
    /// News of a call of this end.
    Ours(u64),
    /// News of a call of the other end.
    Theirs(Served),
    /// That an answer is sent.
    Sent(u64),
    /// Calls to work on.
    Work(usize),
    /// Whatever comes, for the tasks that wait.
    Tasks,
}

/// A call of the other end to be worked on.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) served: Served,
    pub(super) deadline: u64,
    pub(super) window: u32,
    pub(super) method: String,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) table: Table,
    /// Who leads.
    pub(super) leader: Option<Want>,
    /// Whether tasks want to be received for, while the reactor's thread is about to end that.
    pub(super) again: bool,
    /// Threads that follow, but workers.
    threads: HashMap<Want, Arc<Condvar>>,
    /// Workers that follow.
    idle: Vec<(usize, Arc<Condvar>)>,
    pub(super) tasks: HashMap<u64, Waker>,
    /// When the reactor is to see which tasks have waited for long enough. It goes on to be so when the task is gone whose time it is.
    pub(super) alarm: u64,
    pub(super) jobs: VecDeque<Job>,
    pub(super) stopping: bool,
}

/// What a receiver has in hand.
#[derive(Debug)]
struct Inbox {
    receiver: Receiver,
    /// Who the other end is, as far as its messages were taken.
    peer: Identity,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    inbox: Mutex<Inbox>,
    state: Mutex<State>,
    pub(super) outbox: Outbox,
    /// Set by whoever has something for the leader, which clears it (Relaxed: the bell that is rung between orders them).
    kicked: AtomicBool,
    /// Numbers of answers that wait to be sent (Relaxed: they are told apart).
    pub(super) next: AtomicU64,
    pub(super) waker: Waker,
    /// By which this waits: for the link's messages and room; for the time when tasks have waited for long enough; for its turn.
    pub(super) keys: [Key; 3],
    acks_itself: bool,
    /// How many connections the link had when a call was last begun (Relaxed: whoever is late fails with the calls of before).
    pub(super) seen: AtomicU64,
}

/// Wakes an engine.
struct Call(Weak<Engine>);

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        if let Some(engine) = self.0.upgrade() {
            engine.expire();
            engine.receive_for_tasks();
            engine.flush();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is whole between the calls that change it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a name on the link stands in messages.
pub(super) fn short(name: &Identity) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *name;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// What was received, if anything.
enum Received {
    /// A message of so many bytes.
    Message(usize),
    Nothing,
}

impl Engine {
    pub(super) fn new(link: Link, max_calls: usize) -> Arc<Self> {
        let (sender, receiver) = link.split();
        let shared: Arc<Shared> = Arc::clone(&sender.handle);
        let (peer, _) = shared.incoming().received();
        let keys = [(); 3].map(|()| Key::new());
        Arc::new_cyclic(|weak| Engine {
            inbox: Mutex::new(Inbox { receiver, peer }),
            state: Mutex::new(State {
                table: Table::new(short(&shared.incarnation), short(&peer), max_calls),
                leader: None,
                again: false,
                threads: HashMap::new(),
                idle: Vec::new(),
                tasks: HashMap::new(),
                alarm: FOREVER,
                jobs: VecDeque::new(),
                stopping: false,
            }),
            outbox: Outbox::new(shared.clone(), sender, keys[0]),
            kicked: AtomicBool::new(false),
            next: AtomicU64::new(0),
            waker: Waker::from(Arc::new(Call(weak.clone()))),
            keys,
            acks_itself: shared.options.acks == Policy::Deferred,
            seen: AtomicU64::new(0),
            shared,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn check_fork(&self) -> Result<(), CallError> {
        self.shared.check_fork().map_err(CallError::from)
    }

    pub(super) fn metrics(&self) -> Metrics {
        Metrics { unsent: self.outbox.unsent.load(Ordering::Relaxed), ..*self.state().table.counts() }
    }

    pub(super) fn link_metrics(&self) -> crate::std::link::Metrics {
        crate::std::link::Metrics::of(&self.shared)
    }

    /// Has all that wait look again, because there is something that no message has brought.
    pub(super) fn stir(&self) {
        let state = self.state();
        state.threads.values().for_each(|condvar| condvar.notify_all());
        state.idle.iter().for_each(|(_, condvar)| condvar.notify_all());
        drop(state);
        self.kick();
    }

    /// Has whoever leads look again.
    pub(super) fn kick(&self) {
        self.kicked.store(true, Ordering::Relaxed);
        self.shared.ring_threads();
    }

    /// Waits until there is what `ready` looks for; `None` if the deadline has passed before.
    pub(super) fn wait<T>(
        self: &Arc<Self>,
        want: Want,
        deadline: Option<Deadline>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state();
        let found = loop {
            if let Some(found) = ready(&mut state) {
                break Some(found);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                break None;
            }
            if state.leader.is_some() {
                state = self.follow(state, want, deadline);
                continue;
            }
            state.leader = Some(want);
            drop(state);
            let found = self.lead(deadline, &mut ready);
            state = self.state();
            state.leader = None;
            if found.is_some() {
                break found;
            }
        };
        self.leave(state);
        found
    }

    /// Receives for all, until there is what `ready` looks for.
    fn lead<T>(
        self: &Arc<Self>,
        deadline: Option<Deadline>,
        ready: &mut impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut inbox = lock(&self.inbox);
        loop {
            let received = self.receive(&mut inbox, deadline);
            if let Some(found) = self.take_in(&mut inbox, received, |state| ready(state)) {
                return Some(found);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return None;
            }
        }
    }

    /// Waits for a message, or for whatever makes it worth to look again.
    fn receive(&self, inbox: &mut Inbox, deadline: Option<Deadline>) -> Result<(Received, Option<Identity>), Error> {
        let Inbox { receiver, peer } = inbox;
        let Receiver { buffer, spin, .. } = receiver;
        let attempt = |shared: &Arc<Shared>, look| {
            let (what, from) = self.attempt(shared, buffer, look)?;
            let is_news = match what {
                Received::Message(_) => true,
                Received::Nothing => from.is_some_and(|from| from != *peer) || self.take_kick(),
            };
            Ok(is_news.then_some((what, from)))
        };
        match self.shared.wait(For::Messages, deadline, spin, attempt) {
            Err(Error::TimedOut) => Ok((Received::Nothing, None)),
            outcome => outcome,
        }
    }

    /// Takes the next message, for whoever has the inbox, whose buffer it is.
    fn attempt(
        &self,
        shared: &Arc<Shared>,
        buffer: &mut Vec<u8>,
        look: Look,
    ) -> Result<(Received, Option<Identity>), Error> {
        // SAFETY: the receiver is in the inbox, which its caller has locked.
        let (len, from) = unsafe { halves::attempt_from(shared, buffer, look) }?;
        if self.acks_itself && look == Look::BeforeSleep {
            // SAFETY: as above.
            unsafe { shared.receiving() }.acknowledge();
        }
        Ok((len.map_or(Received::Nothing, Received::Message), from))
    }

    fn take_kick(&self) -> bool {
        self.kicked.load(Ordering::Relaxed) && self.kicked.swap(false, Ordering::Relaxed)
    }

    /// Acts on what was received, and looks for something.
    fn take_in<T>(
        &self,
        inbox: &mut Inbox,
        received: Result<(Received, Option<Identity>), Error>,
        ready: impl FnOnce(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut woken = Vec::new();
        let mut post = None;
        let mut state = self.state();
        match received {
            Ok((what, from)) => {
                if let Some(from) = from.filter(|from| *from != inbox.peer) {
                    inbox.peer = from;
                    state.table.replace(short(&from));
                    state.wake_all(&mut woken);
                }
                if let Received::Message(len) = what {
                    post = state.sort(&inbox.receiver.buffer[..len], &mut woken);
                }
            }
            Err(error) => {
                state.table.close(error.into());
                state.wake_all(&mut woken);
            }
        }
        let found = ready(&mut state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        if let Some(bytes) = post {
            self.post(bytes);
        }
        found
    }

    /// Sleeps until whoever leads has something for this thread, or has it lead.
    fn follow<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        want: Want,
        deadline: Option<Deadline>,
    ) -> MutexGuard<'a, State> {
        // Used with the state of one engine after another, never of two at a time.
        thread_local!(static CONDVAR: Arc<Condvar> = Arc::default());
        let condvar = CONDVAR.with(Arc::clone);
        match want {
            Want::Work(worker) => state.idle.push((worker, condvar.clone())),
            want => drop(state.threads.insert(want, condvar.clone())),
        }
        let left = deadline.map(|deadline| deadline.nanoseconds().saturating_sub(futex::now()));
        let mut state = match left {
            None => condvar.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => {
                condvar.wait_timeout(state, Duration::from_nanos(left)).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match want {
            Want::Work(worker) => state.idle.retain(|(other, _)| *other != worker),
            want => drop(state.threads.remove(&want)),
        }
        state
    }

    /// Has the next one lead, if nobody does.
    pub(super) fn leave(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        if state.leader.is_some() {
            return;
        }
        if !state.have_one_lead() && !state.tasks.is_empty() {
            drop(state);
            self.receive_for_tasks();
        }
    }

    /// Receives what there is, as the leader that this thread has been made: up to [`TURN`] messages. Returns whether that is all.
    pub(super) fn drain(&self, look: Look, goes_on: impl Fn(&State) -> bool) -> bool {
        let mut inbox = lock(&self.inbox);
        for _ in 0..TURN {
            let received = self.attempt(&self.shared, &mut inbox.receiver.buffer, look);
            let is_last = !matches!(received, Ok((Received::Message(_), _)));
            let stop = self.take_in(&mut inbox, received, |state| (!goes_on(state)).then_some(()));
            if is_last {
                return true;
            }
            if stop.is_some() {
                return false;
            }
        }
        false
    }

    /// Takes in what there is if nobody leads: so a worker hears of cancellations, and whoever begins a call of another peer.
    pub(super) fn look(self: &Arc<Self>, want: Want, goes_on: impl Fn(&State) -> bool) {
        {
            let mut state = self.state();
            if state.leader.is_some() || !goes_on(&state) {
                return;
            }
            state.leader = Some(want);
        }
        self.drain(Look::First, goes_on);
        let mut state = self.state();
        state.leader = None;
        self.leave(state);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // In a forked child the list may be locked by a thread that it does not have.
        if self.check_fork().is_err() {
            return;
        }
        self.shared.unregister(self.keys[0]);
        self.keys[1..].iter().for_each(|key| reactor::forget(*key));
    }
}

impl State {
    /// Acts on a message. Returns what is to be answered.
    fn sort(&mut self, bytes: &[u8], woken: &mut Vec<Waker>) -> Option<Vec<u8>> {
        match self.table.take_in(bytes, futex::now()) {
            // What is none was counted.
            Err(_) | Ok(Effect::Nothing) => {}
            Ok(Effect::Ours(id)) => self.tell(Want::Ours(id), woken),
            Ok(Effect::Theirs(served)) => self.tell(Want::Theirs(served), woken),
            Ok(Effect::Request { served, deadline, window, method, payload }) => {
                let (method, payload) = (method.into(), payload.to_vec());
                self.jobs.push_back(Job { served, deadline, window, method, payload });
                // A worker that leads takes it itself.
                if !matches!(self.leader, Some(Want::Work(_))) || self.jobs.len() > 1 {
                    if let Some((_, condvar)) = self.idle.pop() {
                        condvar.notify_one();
                    }
                }
            }
            Ok(Effect::Refuse { id, reason }) => {
                return Some(sending::failed(self.table.peer(), id, &Failure::because(reason)).to_bytes());
            }
        }
        None
    }

    /// Has a thread that follows lead; returns whether there is one.
    pub(super) fn have_one_lead(&self) -> bool {
        // Workers first: the next call may be for them.
        let next = self.idle.last().map(|(_, condvar)| condvar).or_else(|| self.threads.values().next());
        next.inspect(|condvar| condvar.notify_one()).is_some()
    }

    pub(super) fn tell(&mut self, want: Want, woken: &mut Vec<Waker>) {
        if let Some(condvar) = self.threads.get(&want) {
            condvar.notify_one();
        }
        if let Want::Ours(id) = want {
            woken.extend(self.tasks.remove(&id));
        }
    }

    fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        self.threads.values().for_each(|condvar| condvar.notify_one());
        self.idle.iter().for_each(|(_, condvar)| condvar.notify_one());
        woken.extend(self.tasks.drain().map(|(_, waker)| waker));
    }
}
