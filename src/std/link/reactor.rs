//! The thread that a process has for its links: it reads the sockets that nobody reads at the moment, writes what a socket would
//! not take, and keeps time. It is started with the first link and sleeps while there is nothing to do.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::connection::Connection;
use super::shared::Shared;
use super::wakers::Key;
use crate::core::atomic::{AtomicU64, Ordering};
use crate::std::fork::PerProcess;
use crate::std::futex::{self, Deadline};

/// What epoll says of the eventfd.
const BELL: u64 = 0;

/// A link's place with the reactor.
type Entry = (Weak<Shared>, Weak<Connection>);

#[derive(Debug)]
pub(super) struct Reactor {
    epoll: OwnedFd,
    /// Written when a timer is to go off before all others.
    bell: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    links: HashMap<u64, Entry>,
    /// When, and who: each once for a time.
    timers: BTreeMap<(u64, Whom), Called>,
    /// When a key's timer goes off, of which it has one.
    keys: HashMap<Key, u64>,
    /// Connections of links that are closed, which still have something to send, and until when they may.
    lingering: HashMap<u64, (Arc<Connection>, Deadline)>,
    /// Of links.
    next: u64,
}

/// Whom a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Whom {
    /// By where it is, which is nobody else's while the timer has a weak reference to it.
    Link(usize),
    Key(Key),
}

#[derive(Debug)]
enum Called {
    Link(Weak<Shared>),
    Key(Waker),
}

/// Nanoseconds between two times at which a link is called, so that one that asks all the time has so many timers and no more.
const GRAIN: u64 = 1 << 17;

/// `None` until there is a link. A forked child begins without one.
static REACTOR: PerProcess<Mutex<Option<Arc<Reactor>>>> = PerProcess::new();

/// What the reactor watches a socket for.
#[derive(Debug)]
pub(super) struct Registration {
    /// 0: not registered.
    token: AtomicU64,
    wants: Mutex<(bool, bool)>,
}

impl Registration {
    pub(super) fn new() -> Self {
        Registration { token: AtomicU64::new(0), wants: Mutex::new((true, false)) }
    }

    /// Watches for something to read, or for room to write.
    pub(super) fn wants(&self, read: Option<bool>, write: Option<bool>, socket: BorrowedFd<'_>) {
        let mut wants = self.wants.lock().unwrap_or_else(PoisonError::into_inner);
        *wants = (read.unwrap_or(wants.0), write.unwrap_or(wants.1));
        let token = self.token.load(Ordering::Relaxed);
        if let Some(reactor) = running().as_ref().filter(|_| token != 0) {
            // Fails only for a socket that is not watched any more.
            let _ = epoll::modify(&reactor.epoll, socket, EventData::new_u64(token), flags(*wants));
        }
    }
}

fn flags((read, write): (bool, bool)) -> EventFlags {
    let read = if read { EventFlags::IN } else { EventFlags::empty() };
    if write { read | EventFlags::OUT } else { read }
}

fn running() -> MutexGuard<'static, Option<Arc<Reactor>>> {
    REACTOR.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reactor of this process, started if need be.
pub(super) fn get() -> io::Result<Arc<Reactor>> {
    let mut running = running();
    if let Some(reactor) = running.as_ref() {
        return Ok(reactor.clone());
    }
    let reactor = Arc::new(Reactor {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        state: Mutex::default(),
    });
    epoll::add(&reactor.epoll, &reactor.bell, EventData::new_u64(BELL), EventFlags::IN)?;
    let serve = reactor.clone();
    std::thread::Builder::new().name("conduit-link".into()).spawn(move || serve.run())?;
    Ok(running.insert(reactor).clone())
}

impl Reactor {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a link's socket.
    pub(super) fn add(&self, shared: &Arc<Shared>, connection: &Arc<Connection>) -> io::Result<()> {
        let registration = connection.registration();
        let wants = registration.wants.lock().unwrap_or_else(PoisonError::into_inner);
        let token = {
            let mut state = self.state();
            state.next += 1;
            let token = state.next;
            state.links.insert(token, (Arc::downgrade(shared), Arc::downgrade(connection)));
            token
        };
        registration.token.store(token, Ordering::Relaxed);
        epoll::add(&self.epoll, connection.as_fd(), EventData::new_u64(token), flags(*wants)).inspect_err(|_| {
            self.state().links.remove(&token);
            registration.token.store(0, Ordering::Relaxed);
        })?;
        Ok(())
    }

    /// Watches it no more.
    pub(super) fn remove(&self, connection: &Connection) {
        // Locked as in `add`: there is no moment at which it is watched and has no entry.
        let _wants = connection.registration().wants.lock().unwrap_or_else(PoisonError::into_inner);
        let token = connection.registration().token.swap(0, Ordering::Relaxed);
        if token != 0 {
            self.state().links.remove(&token);
            let _ = epoll::delete(&self.epoll, connection.as_fd());
        }
    }

    /// Has what the connection of a closed link still has to send sent, until `until`.
    pub(super) fn linger(&self, connection: &Arc<Connection>, until: Deadline) {
        let registration = connection.registration();
        let token = {
            let _wants = registration.wants.lock().unwrap_or_else(PoisonError::into_inner);
            let token = registration.token.load(Ordering::Relaxed);
            if token != 0 {
                let mut state = self.state();
                state.links.remove(&token);
                state.lingering.insert(token, (connection.clone(), until));
            }
            token
        };
        if token == 0 {
            return connection.hang_up(None);
        }
        // Nobody reads what comes, and it would be told of for ever.
        registration.wants(Some(false), None, connection.as_fd());
        // Its time may be the next one.
        self.ring();
    }

    /// Goes on with a lingering connection, and lets go of it when it has nothing more to send, or `is_over`.
    fn serve_lingering(&self, token: u64, is_over: bool) {
        let Some((connection, _)) = self.state().lingering.get(&token).cloned() else { return };
        if connection.flush_all() || is_over {
            connection.hang_up(None);
            self.remove(&connection);
            self.state().lingering.remove(&token);
        }
    }

    /// Has the link called at `due`, on the monotonic clock, or a little later.
    pub(super) fn call_at(&self, due: u64, shared: &Weak<Shared>) {
        let due = due.div_ceil(GRAIN).saturating_mul(GRAIN);
        let whom = Whom::Link(shared.as_ptr() as usize);
        let mut state = self.state();
        if state.timers.contains_key(&(due, whom)) {
            return;
        }
        let is_first = state.insert(due, whom, Called::Link(shared.clone()));
        drop(state);
        if is_first {
            self.ring();
        }
    }

    /// Wakes at `due`, on the monotonic clock. Replaces the time that `key` had before.
    fn wake_at(&self, due: u64, key: Key, waker: &Waker) {
        let mut state = self.state();
        // Dropped once nothing is locked, as it may do anything.
        let replaced = state.remove(key);
        state.keys.insert(key, due);
        let is_first = state.insert(due, Whom::Key(key), Called::Key(waker.clone()));
        drop(state);
        drop(replaced);
        if is_first {
            self.ring();
        }
    }

    fn ring(&self) {
        // Full means that it rings already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    fn run(&self) {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 64];
        loop {
            let due = {
                let state = self.state();
                let timer = state.timers.first_key_value().map(|((due, _), _)| Deadline::at(*due));
                futex::earlier(timer, state.lingering.values().map(|(_, until)| *until).min())
            };
            let timeout = due.map(Deadline::left);
            let ready = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Ok((ready, _)) => ready,
                Err(Errno::INTR) => continue,
                // The program has closed what is not its own: links go on as far as their own threads take them.
                Err(errno) => {
                    return tracing::error!(%errno, "the thread that looks after links has lost its descriptor");
                }
            };
            for event in ready.iter() {
                let (flags, data) = (event.flags, event.data);
                if data.u64() == BELL {
                    let _ = rustix::io::read(&self.bell, &mut [0; 8]);
                    continue;
                }
                let entry = self.state().links.get(&data.u64()).cloned();
                if entry.is_none() {
                    self.serve_lingering(data.u64(), flags.intersects(EventFlags::HUP | EventFlags::ERR));
                }
                if let Some((shared, connection)) = entry {
                    if let (Some(shared), Some(connection)) = (shared.upgrade(), connection.upgrade()) {
                        let has_hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
                        shared.serve(&connection, flags.contains(EventFlags::OUT), has_hung_up);
                    }
                }
            }
            self.tell_time();
        }
    }

    fn tell_time(&self) {
        let is_over = |(token, (_, until)): (&u64, &(_, Deadline))| until.has_passed().then_some(*token);
        let over: Vec<u64> = self.state().lingering.iter().filter_map(is_over).collect();
        over.into_iter().for_each(|token| self.serve_lingering(token, true));
        let now = futex::now();
        let mut due = Vec::new();
        let mut state = self.state();
        while let Some(first) = state.timers.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, whom), called) = first.remove_entry();
            if let Whom::Key(key) = whom {
                state.keys.remove(&key);
            }
            due.push(called);
        }
        drop(state);
        // Who asks to be called again at once is, after the sockets.
        for called in due {
            match called {
                Called::Link(shared) => {
                    if let Some(shared) = shared.upgrade() {
                        shared.tick(now);
                    }
                }
                Called::Key(waker) => waker.wake(),
            }
        }
    }
}

impl State {
    /// Returns whether it is to go off before all others.
    fn insert(&mut self, due: u64, whom: Whom, called: Called) -> bool {
        let is_first = self.timers.first_key_value().is_none_or(|((first, _), _)| due < *first);
        self.timers.insert((due, whom), called);
        is_first
    }

    fn remove(&mut self, key: Key) -> Option<Called> {
        let due = self.keys.remove(&key)?;
        self.timers.remove(&(due, Whom::Key(key)))
    }
}

/// Wakes at `due`, on the monotonic clock, from the reactor's thread. Replaces the time that `key` had before.
pub(super) fn wake_at(due: u64, key: Key, waker: &Waker) {
    // None in a forked child, which waits for nothing of its parent's.
    let reactor = running().clone();
    if let Some(reactor) = reactor {
        reactor.wake_at(due, key, waker);
    }
}

/// Wakes no more.
pub(super) fn forget(key: Key) {
    let reactor = running().clone();
    if let Some(reactor) = reactor {
        let removed = reactor.state().remove(key);
        drop(removed);
    }
}

/// How many timers there are, of all links of this process.
#[cfg(test)]
pub(super) fn timers() -> usize {
    running().as_ref().map_or(0, |reactor| reactor.state().timers.len())
}
