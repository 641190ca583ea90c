//! The thread that a process has for its links: it reads the sockets that nobody reads at the moment, writes what a socket would
//! not take, and keeps time. It is started with the first link and sleeps while there is nothing to do.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::connection::Connection;
use super::shared::Shared;
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
    /// When, and who.
    timers: BinaryHeap<Reverse<(u64, u64)>>,
    sleepers: HashMap<u64, Weak<Shared>>,
    /// Connections of links that are closed, which still have something to send, and until when they may.
    lingering: HashMap<u64, (Arc<Connection>, Deadline)>,
    /// Of links and of timers.
    next: u64,
}

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
        let _wants = connection.registration().wants.lock().unwrap_or_else(PoisonError::into_inner);
        let token = connection.registration().token.load(Ordering::Relaxed);
        if token == 0 {
            return connection.hang_up(None);
        }
        {
            let mut state = self.state();
            state.links.remove(&token);
            state.lingering.insert(token, (connection.clone(), until));
        }
        // Its time may be the next one.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
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

    /// Has the link called at `due`, on the monotonic clock.
    pub(super) fn call_at(&self, due: u64, shared: &Weak<Shared>) {
        let is_first = {
            let mut state = self.state();
            state.next += 1;
            let key = state.next;
            state.sleepers.insert(key, shared.clone());
            let is_first = state.timers.peek().is_none_or(|Reverse((first, _))| due < *first);
            state.timers.push(Reverse((due, key)));
            is_first
        };
        if is_first {
            // Full means that it rings already.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    fn run(&self) {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 64];
        loop {
            let due = {
                let state = self.state();
                let timer = state.timers.peek().map(|Reverse((due, _))| Deadline::at(*due));
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
        loop {
            let now = futex::now();
            let called = {
                let mut state = self.state();
                match state.timers.peek() {
                    Some(Reverse((due, _))) if *due <= now => {}
                    _ => return,
                }
                state.timers.pop().and_then(|Reverse((_, key))| state.sleepers.remove(&key))
            };
            if let Some(shared) = called.and_then(|shared| shared.upgrade()) {
                shared.tick(now);
            }
        }
    }
}
