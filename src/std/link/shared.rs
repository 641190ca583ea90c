//! What the two halves of a link share with the threads that look after it: the connection that it has, or how it comes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::address::Address;
use super::biased::{Biased, Guard};
use super::connection::Connection;
use super::handshake::{Greeted, Greeting};
use super::incoming::Incoming;
use super::options::Options;
use super::outgoing::{Outgoing, Refused};
use super::reactor::{self, Reactor};
use super::region::Bell;
use super::wakers::{Key, Wakers};
use super::wire::{Bye, Hello, Identity};
use super::{Ending, Error, Event, Transport, redial};
use crate::core::ack::Policy;
use crate::core::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::std::fork;
use crate::std::futex::{self, Deadline, Spin, barrier};

/// What a half waits for, and which bell rings for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum For {
    Messages = 0,
    Room = 1,
}

/// Which look it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    First,
    /// Whoever looks in vain goes to sleep.
    BeforeSleep,
}

/// Why a message was not sent, and over which connection, if that must end for it.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) refused: Refused,
    connection: Option<Arc<Connection>>,
}

impl Unsent {
    pub(super) fn over(outgoing: &Outgoing, refused: Refused) -> Self {
        let connection = outgoing.connection().filter(|_| matches!(refused, Refused::Ended(_))).cloned();
        Unsent { refused, connection }
    }
}

/// How a link is at the moment.
#[derive(Debug)]
enum Life {
    Connected(Arc<Connection>),
    /// Until it is back, or until then.
    Away {
        until: Deadline,
    },
    Closed(Ending),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) address: Address,
    pub(super) session: Identity,
    pub(super) incarnation: Identity,
    /// Whether this end makes the connection anew when it is lost.
    redials: bool,
    /// Whether the connection can come back at all.
    comes_back: bool,
    generation: u32,
    outgoing: Biased<Outgoing>,
    incoming: Biased<Incoming>,
    life: Mutex<Life>,
    /// Whether `life` is closed, which it stays. Stored with `life` locked.
    has_ended: AtomicBool,
    /// Rung when there is a connection again, or never more: what is waited on while there is none.
    change: [Bell; 2],
    wakers: Wakers,
    reactor: Arc<Reactor>,
    /// Connections that there were. Written with `life` locked.
    connections: AtomicU64,
    /// When the last one was made, on the monotonic clock. Written and read with `life` locked.
    since: AtomicU64,
    /// How often messages had to go over the socket: from the beginning, from a change on, or each too long for the ring.
    pub(super) fallbacks: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked was a callback; what is in there is whole between calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        options: Options,
        address: Address,
        session: Identity,
        incarnation: Identity,
        redials: bool,
        comes_back: bool,
    ) -> Result<Self, Error> {
        let reactor = reactor::get().map_err(|source| Error::System {
            action: "start the thread that looks after",
            address: address.to_string(),
            source,
        })?;
        Ok(Shared {
            outgoing: Biased::new(Outgoing::new(options.transport, options.window)),
            incoming: Biased::new(Incoming::new(options.acks, options.max_message)),
            // As long as it takes to be connected for the first time.
            life: Mutex::new(Life::Away { until: Deadline::after(Duration::MAX) }),
            has_ended: AtomicBool::new(false),
            change: [Bell::new(), Bell::new()],
            wakers: Wakers::default(),
            reactor,
            connections: AtomicU64::new(0),
            since: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            generation: fork::generation(),
            comes_back: comes_back && options.reconnect.attempts > 0,
            options,
            address,
            session,
            incarnation,
            redials,
        })
    }

    /// What is sent, for whoever is not the [`Sender`](super::Sender).
    pub(super) fn outgoing(&self) -> Guard<'_, Outgoing> {
        self.outgoing.enter()
    }

    /// What is received, for whoever is not the [`Receiver`](super::Receiver).
    pub(super) fn incoming(&self) -> Guard<'_, Incoming> {
        self.incoming.enter()
    }

    /// What is sent.
    ///
    /// # Safety
    ///
    /// The caller has the link's sender to itself, or the senders are [several](Shared::share_sending).
    #[inline(always)]
    pub(super) unsafe fn sending(&self) -> Guard<'_, Outgoing> {
        // SAFETY: says the caller.
        unsafe { self.outgoing.own() }
    }

    /// What is received.
    ///
    /// # Safety
    ///
    /// The caller has the link's receiver, of which there is one, to itself.
    #[inline(always)]
    pub(super) unsafe fn receiving(&self) -> Guard<'_, Incoming> {
        // SAFETY: says the caller.
        unsafe { self.incoming.own() }
    }

    /// From now on there are several senders.
    pub(super) fn share_sending(&self) {
        self.outgoing.share();
    }

    fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    pub(super) fn check_fork(&self) -> Result<(), Error> {
        if self.is_ours() { Ok(()) } else { Err(Error::Forked) }
    }

    /// Tells the program.
    pub(super) fn tell(&self, event: &Event) {
        self.options.tell(&self.address.to_string(), event);
    }

    /// How the link has ended, if it has.
    #[inline]
    pub(super) fn ending(&self) -> Option<Ending> {
        // Acquire: pairs with the Release stores where it ends: what came before that is there.
        if !self.has_ended.load(Ordering::Acquire) {
            return None;
        }
        match &*lock(&self.life) {
            Life::Closed(ending) => Some(*ending),
            _ => None,
        }
    }

    /// The connection that it has.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        match &*lock(&self.life) {
            Life::Connected(connection) => Some(connection.clone()),
            _ => None,
        }
    }

    /// How often it was connected.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// What this end says of itself when it greets the other one, once all of the last connection was looked at.
    ///
    /// # Errors
    ///
    /// What came over the last connection, or what was acknowledged over it, was not right: the link is at its end.
    pub(super) fn greeting(&self) -> Result<Greeting, Ending> {
        let mut outgoing = self.outgoing();
        let mut incoming = self.incoming();
        let outcome = incoming.suspend().and(outgoing.suspend().map_err(Ending::from));
        outcome.inspect_err(|ending| self.close(*ending))?;
        let (peer, received) = incoming.received();
        let hello = Hello {
            session: self.session,
            incarnation: self.incarnation,
            peer,
            received,
            first: outgoing.first(),
            ring: if self.options.transport == Transport::Socket { 0 } else { self.options.size as u32 },
            max_message: self.options.max_message as u32,
            maps_writable: !super::region::LOADS_READ_ONLY,
        };
        Ok(Greeting { hello, connections: self.connections() })
    }

    /// Goes on over a new connection.
    ///
    /// # Errors
    ///
    /// The link has ended, or there is another connection, or this was the first and could not be used.
    pub(super) fn resume(self: &Arc<Self>, greeted: Greeted, attempts: u32) -> Result<(), Ending> {
        let Greeted { connection, hello, greeting, why_socket } = greeted;
        let mut outgoing = self.outgoing();
        let mut incoming = self.incoming();
        let is_first = {
            let mut life = lock(&self.life);
            match &*life {
                Life::Closed(ending) => return Err(*ending),
                Life::Away { .. } => {}
                Life::Connected(_) => return Err(Ending::Replaced),
            }
            // What was said of this end when it greeted is not true any more.
            if greeting.connections != self.connections() {
                return Err(Ending::Replaced);
            }
            self.connections.store(greeting.connections + 1, Ordering::Relaxed);
            self.since.store(futex::now(), Ordering::Relaxed);
            *life = Life::Connected(connection.clone());
            greeting.connections == 0
        };
        let same_peer = greeting.hello.peer == hello.incarnation;
        let (producer, consumer) = match &connection.region {
            // SAFETY: each connection has its own region, and comes here once.
            Some(region) => {
                let (producer, consumer) = unsafe { region.ends() };
                (Some((region.clone(), producer)), Some(consumer))
            }
            None => (None, None),
        };
        let outcome = outgoing.resume(connection.clone(), producer, &hello, self.incarnation);
        incoming.resume(connection.clone(), consumer, &hello);
        let outcome = outcome.map_err(Refused::from).and_then(|()| outgoing.send_backlog());
        let transport = outgoing.transport().unwrap_or(Transport::Socket);
        let wants_room = outgoing.has_backlog();
        drop((outgoing, incoming));
        let mut outcome = match outcome {
            Err(Refused::Ended(ending)) => Err(ending),
            _ => self.reactor.add(self, &connection).map_err(|_| Ending::Lost),
        };
        if wants_room && outcome.is_ok() {
            outcome = self.serve_backlog().map_err(|(_, ending)| ending);
        }
        match outcome {
            Ok(()) => {}
            // Nobody has the link yet.
            Err(ending) if is_first => {
                self.close(ending);
                return Err(ending);
            }
            // There was a connection, and it is lost as any other.
            Err(ending) => {
                self.lost(&connection, ending);
                return Ok(());
            }
        }
        if transport == Transport::Socket {
            self.fallbacks.fetch_add(u64::from(why_socket.is_some()), Ordering::Relaxed);
            self.tell(&Event::Transport { transport, why: why_socket });
        }
        if !is_first {
            self.tell(&Event::Reconnected { attempts, same_peer });
        }
        self.ring();
        Ok(())
    }

    /// Wakes all who wait on this end.
    fn ring(&self) {
        self.ring_threads();
        self.wakers.wake();
    }

    /// Has all threads that sleep on this end look again.
    pub(super) fn ring_threads(&self) {
        if let Some(connection) = self.connection() {
            connection.ring_own();
        }
        for bell in &self.change {
            bell.event.announce();
            futex::wake_all(bell.event.word());
        }
    }

    /// The connection has ended, so: says so, and has it made anew, if it is to be. Called with neither half locked.
    pub(super) fn lost(self: &Arc<Self>, connection: &Arc<Connection>, ending: Ending) {
        // Whoever connects as this end has the link now: two of them would take it away from each other for ever.
        let is_passing = ending == Ending::Lost || ending == Ending::Replaced && !self.redials;
        let closes = !self.comes_back || !is_passing;
        let was_brief;
        {
            let mut life = lock(&self.life);
            match &*life {
                Life::Connected(current) if Arc::ptr_eq(current, connection) => {}
                _ => return,
            }
            let until = Deadline::after(self.options.reconnect.patience(self.options.handshake));
            *life = if closes { Life::Closed(ending) } else { Life::Away { until } };
            self.has_ended.store(closes, Ordering::Release);
            if !closes && !self.redials {
                self.reactor.call_at(until.nanoseconds(), &Arc::downgrade(self));
            }
            let lasted = futex::now().saturating_sub(self.since.load(Ordering::Relaxed));
            was_brief = Duration::from_nanos(lasted) < self.options.reconnect.delay;
        }
        connection.hang_up(match ending {
            Ending::Fault(_) => Some(Bye::Fault),
            Ending::Replaced => Some(Bye::Replaced),
            _ => None,
        });
        self.reactor.remove(connection);
        connection.ring_own();
        self.tell(&Event::Disconnected(ending));
        if !closes && self.redials {
            redial::start(self, was_brief);
        }
        self.ring();
    }

    /// The link is at its end.
    pub(super) fn close(&self, ending: Ending) {
        let before = {
            let mut life = lock(&self.life);
            if matches!(*life, Life::Closed(_)) {
                return;
            }
            self.has_ended.store(true, Ordering::Release);
            std::mem::replace(&mut *life, Life::Closed(ending))
        };
        if let Life::Connected(connection) = before {
            if ending == Ending::Here {
                connection.say_goodbye();
            }
            if ending == Ending::Here && !connection.flush_all() {
                self.reactor.linger(&connection, Deadline::after(LINGER));
            } else {
                connection.hang_up(matches!(ending, Ending::Fault(_)).then_some(Bye::Fault));
                self.reactor.remove(&connection);
            }
            connection.ring_own();
        }
        self.ring();
    }

    /// It was tried as often as it was to be.
    pub(super) fn give_up(&self, attempts: u32) {
        self.close(Ending::GaveUp { attempts });
        self.tell(&Event::GaveUp { attempts });
    }

    /// Called by the reactor when the socket has something, or room.
    pub(super) fn serve(self: &Arc<Self>, connection: &Arc<Connection>, can_write: bool, has_hung_up: bool) {
        if can_write {
            connection.flush();
        }
        // What is read may be the acknowledgement that the backlog waits for.
        let outcome = connection.pump(has_hung_up).map_err(|ending| (connection.clone(), ending));
        match outcome.and_then(|_| self.serve_backlog()) {
            Ok(()) => {
                connection.ring_own();
                self.wakers.wake();
            }
            Err((connection, ending)) => {
                // Also one that was lost before it was watched: its end would be told of for ever.
                self.reactor.remove(&connection);
                self.lost(&connection, ending);
            }
        }
    }

    /// Whoever receives has read from the socket what others wait for, of which the reactor learns no more.
    #[cold]
    pub(super) fn pass_on(self: &Arc<Self>) {
        match self.serve_backlog() {
            Ok(()) => {
                if let Some(connection) = self.connection() {
                    connection.ring_own();
                }
                self.wakers.wake();
            }
            Err((connection, ending)) => self.lost(&connection, ending),
        }
    }

    /// Sends what waits to be sent again, as far as there is room, and has the peer say so when there is more; or says which
    /// connection must end.
    fn serve_backlog(&self) -> Result<(), (Arc<Connection>, Ending)> {
        let mut outgoing = self.outgoing();
        let mut has_asked = false;
        while outgoing.has_backlog() {
            if let Err(Refused::Ended(ending)) =
                outgoing.look().map_err(Refused::from).and_then(|()| outgoing.send_backlog())
            {
                // Without one nothing is sent, and nothing goes wrong.
                return outgoing.connection().map_or(Ok(()), |connection| Err((connection.clone(), ending)));
            }
            let Some(connection) = outgoing.connection().filter(|_| outgoing.has_backlog() && !has_asked) else {
                break;
            };
            // Room that there was before the peer could see the wish is not told of: another look.
            self.wants(connection, For::Room);
            has_asked = true;
        }
        Ok(())
    }

    /// Called by the reactor when a time is there that it was asked for.
    pub(super) fn tick(self: &Arc<Self>, now: u64) {
        let overdue = matches!(&*lock(&self.life), Life::Away { until } if until.has_passed());
        if overdue && !self.redials {
            self.give_up(0);
        }
        self.wakers.wake_due(now);
        let mut incoming = self.incoming();
        if !incoming.is_timed {
            return;
        }
        incoming.is_timed = false;
        match incoming.due_at() {
            Some(due) if due <= now => incoming.acknowledge(),
            Some(due) => {
                incoming.is_timed = true;
                self.reactor.call_at(due, &Arc::downgrade(self));
            }
            None => {}
        }
    }

    /// Has the reactor acknowledge in time what was handed out.
    #[inline]
    pub(super) fn time_acknowledgements(self: &Arc<Self>, incoming: &mut Incoming) {
        if !incoming.is_timed && matches!(self.options.acks, Policy::Batch { .. }) {
            if let Some(due) = incoming.due_at() {
                incoming.is_timed = true;
                self.reactor.call_at(due, &Arc::downgrade(self));
            }
        }
    }

    /// Has the peer send a frame over the socket when there is something for this end. Look again after this. Returns whether
    /// that look is sure to see what the peer does not tell of.
    fn wants(&self, connection: &Connection, what: For) -> bool {
        let bell = connection.own_bells()[what as usize];
        // AcqRel: pairs with the swap by which the peer takes the wish: what it has done before is seen by a look after this.
        bell.by_socket.fetch_or(1, Ordering::AcqRel);
        // Store before load, as in `EventCount::prepare`: of the ring, and of whether the peer runs a fence.
        fence(Ordering::SeqCst);
        // Room is never told of without a fence.
        what == For::Room || !connection.peer_elides() || barrier::run()
    }

    /// Has a task woken when there may be something. Look again after this.
    pub(super) fn register(self: &Arc<Self>, what: For, key: Key, waker: &Waker) {
        self.wakers.add(what, key, waker);
        if let Some(connection) = self.connection() {
            if !self.wants(&connection, what) {
                self.wake_at(futex::now().saturating_add(UNFENCED.as_nanos() as u64), key, waker);
            }
        }
    }

    /// Has a task woken at a time on the monotonic clock. Replaces the time that it asked for before.
    pub(super) fn wake_at(self: &Arc<Self>, due: u64, key: Key, waker: &Waker) {
        self.wakers.add_alarm(key, due, waker);
        self.reactor.call_at(due, &Arc::downgrade(self));
    }

    /// Has a task woken no more.
    pub(super) fn unregister(&self, key: Key) {
        self.wakers.remove(key);
    }

    /// Tries until it succeeds or the deadline has passed, and sleeps in between until there may be something.
    pub(super) fn wait<T>(
        self: &Arc<Self>,
        what: For,
        deadline: Option<Deadline>,
        spin: &mut Spin,
        mut attempt: impl FnMut(&Arc<Self>, Look) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        loop {
            let mut found = None;
            let mut is_ready = || {
                found = attempt(self, Look::First).transpose();
                found.is_some()
            };
            if is_ready() || spin.until(is_ready) {
                if let Some(found) = found {
                    return found;
                }
            }
            let connection = self.connection();
            let bells =
                connection.as_ref().map_or([&self.change[0], &self.change[1]], |connection| connection.own_bells());
            let event = &bells[what as usize].event;
            let ticket = event.prepare();
            let mut until = deadline;
            if connection.as_ref().is_some_and(|connection| connection.region.is_some()) {
                until = futex::earlier(until, Some(Deadline::after(LAST_LOOK)));
            }
            if connection.as_ref().is_some_and(|connection| connection.peer_elides()) && !barrier::run() {
                until = futex::earlier(until, Some(Deadline::after(UNFENCED)));
            }
            if let Some(found) = attempt(self, Look::BeforeSleep)? {
                return Ok(found);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(Error::TimedOut);
            }
            // Whoever takes the connection away rings its bells afterwards.
            let is_current = match (&connection, &*lock(&self.life)) {
                (Some(ours), Life::Connected(current)) => Arc::ptr_eq(ours, current),
                (None, Life::Away { .. }) => true,
                _ => false,
            };
            if is_current {
                let before = Instant::now();
                futex::wait(event.word(), ticket, until);
                spin.slept(before.elapsed());
            }
        }
    }

    /// Ends the connection, if a half has found that it must.
    pub(super) fn refuse(self: &Arc<Self>, unsent: Unsent, len: usize) -> Error {
        match unsent.refused {
            Refused::Full => match self.ending() {
                Some(ending) => ending.into(),
                None => Error::WouldBlock,
            },
            Refused::TooLarge { max } => Error::TooLarge { len, max },
            Refused::Ended(ending) => {
                if let Some(connection) = unsent.connection {
                    self.lost(&connection, ending);
                }
                match self.ending() {
                    Some(ending) => ending.into(),
                    None => Error::WouldBlock,
                }
            }
        }
    }

    /// This link as a weak reference, for those who look after it from outside.
    pub(super) fn downgrade(self: &Arc<Self>) -> Weak<Self> {
        Arc::downgrade(self)
    }

    /// Whether the link may be taken up by a peer that comes back.
    pub(super) fn is_open(&self) -> bool {
        self.ending().is_none()
    }
}

/// How long what a link had still to send when it was closed may take.
const LINGER: Duration = Duration::from_secs(5);

/// How long to sleep at most beside memory that the peer writes, too: it could put the word back by which a thread of this process
/// wakes another.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// How long to sleep at most where a publisher runs no fence, and no barrier can take its place.
const UNFENCED: Duration = Duration::from_millis(10);

impl Drop for Shared {
    fn drop(&mut self) {
        // A forked child has a copy of it all, and none of it is its own to end.
        if self.is_ours() {
            self.close(Ending::Here);
        }
    }
}
