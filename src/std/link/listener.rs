//! Where links arrive: sockets that introduce themselves, all at a time, so that one that says nothing keeps nobody waiting.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{self, SocketFlags};

use super::address::{Address, Bound};
use super::handshake::{self, Broken, Offer, Talk};
use super::options::Options;
use super::shared::Shared;
use super::wire::{self, Fault, Hello, Identity, Kind, Refusal};
use super::{Ending, Error, Event, Link};
use crate::std::futex::{self, Deadline};
use crate::std::random;

/// How many sockets may be introducing themselves at a time.
const ARRIVALS: usize = 128;
/// How long nothing is accepted when there are no descriptors left: nobody says when there are some again.
const EXHAUSTED: Duration = Duration::from_millis(20);

/// Waits for links at an address. Dropped, it leaves nothing there; links that it has made go on, but can't come back.
///
/// ```
/// use conduit::link::{Link, Listener};
///
/// let address = format!("@conduit-doc-{}", std::process::id());
/// let mut listener = Link::options().listen(&address)?;
/// let client = std::thread::spawn(move || {
///     let mut link = Link::options().connect(&address)?;
///     link.send(b"hello")?;
///     link.recv().map(<[u8]>::to_vec)
/// });
/// let mut link = listener.accept()?;
/// assert_eq!(link.recv()?, b"hello");
/// link.send(b"welcome")?;
/// assert_eq!(client.join().unwrap()?, b"welcome");
/// # Ok::<(), conduit::link::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    options: Options,
    address: Address,
    bound: Bound,
    arrivals: Vec<Arrival>,
    links: HashMap<Identity, Weak<Shared>>,
    /// Until when nothing is accepted.
    exhausted: Option<Deadline>,
}

/// A socket that introduces itself.
#[derive(Debug)]
struct Arrival {
    talk: Talk,
    deadline: Deadline,
    /// Once it has greeted.
    offer: Option<(Arc<Shared>, Offer)>,
}

impl Listener {
    pub(super) fn bind(mut options: Options, address: &str) -> Result<Self, Error> {
        options.check()?;
        let address = Address::new(address)?;
        let bound = address.listen(ARRIVALS as u32)?;
        Ok(Listener { options, address, bound, arrivals: Vec::new(), links: HashMap::new(), exhausted: None })
    }

    /// Waits for the next link. A peer that comes back to a link it has is taken in here, too, without an answer: keep
    /// calling this for as long as links are to survive their connections.
    ///
    /// # Errors
    ///
    /// [`Error::System`]. What a peer does wrong is told to [`Options::on_event`] alone.
    pub fn accept(&mut self) -> Result<Link, Error> {
        self.accept_until(None)
    }

    /// As [`accept`](Listener::accept), for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::System`].
    pub fn accept_timeout(&mut self, timeout: Duration) -> Result<Link, Error> {
        self.accept_until(Some(Deadline::after(timeout)))
    }

    fn accept_until(&mut self, deadline: Option<Deadline>) -> Result<Link, Error> {
        loop {
            if !self.bound.socket.is_ours() {
                return Err(Error::Forked);
            }
            self.take_in()?;
            if let Some(shared) = self.advance() {
                return Ok(Link::new(shared));
            }
            if deadline.is_some_and(Deadline::has_passed) {
                return Err(Error::TimedOut);
            }
            let mut until = self.arrivals.iter().map(|arrival| arrival.deadline).min();
            until = futex::earlier(futex::earlier(until, deadline), self.exhausted);
            let mut sockets = Vec::with_capacity(self.arrivals.len() + 1);
            sockets.extend(self.arrivals.iter().map(|arrival| PollFd::new(&arrival.talk.socket, PollFlags::IN)));
            if self.arrivals.len() < ARRIVALS && self.exhausted.is_none() {
                sockets.push(PollFd::new(&self.bound.socket, PollFlags::IN));
            }
            handshake::wait_for_input(&mut sockets, until).map_err(self.address.failed("wait at"))?;
            self.exhausted = self.exhausted.filter(|until| !until.has_passed());
        }
    }

    /// Accepts whoever is there.
    fn take_in(&mut self) -> Result<(), Error> {
        // As many as are refused in a row, at most.
        for _ in 0..ARRIVALS {
            if self.arrivals.len() == ARRIVALS || self.exhausted.is_some() {
                break;
            }
            match net::accept_with(&self.bound.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => match self.address.check_peer(socket.as_fd(), &self.options.allow) {
                    Ok(()) => self.arrivals.push(Arrival {
                        talk: Talk::new(socket),
                        deadline: Deadline::after(self.options.handshake),
                        offer: None,
                    }),
                    Err(error) => self.tell(error.to_string()),
                },
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.tell(format!("cannot take in whoever waits at {}: {errno}", self.address));
                    self.exhausted = Some(Deadline::after(EXHAUSTED));
                }
                Err(errno) => return Err(self.address.failed("accept at")(errno)),
            }
        }
        Ok(())
    }

    fn tell(&self, what: String) {
        self.options.tell(&self.address.to_string(), &Event::Error(what));
    }

    /// Goes on with each arrival as far as it has said something, up to the first that is a new link.
    fn advance(&mut self) -> Option<Arc<Shared>> {
        let mut at = 0;
        while at < self.arrivals.len() {
            let arrival = &mut self.arrivals[at];
            let outcome = match arrival.talk.try_read() {
                Ok(Some(frame)) => Ok(frame),
                Ok(None) if arrival.deadline.has_passed() => Err(Errno::TIMEDOUT.into()),
                Ok(None) => {
                    at += 1;
                    continue;
                }
                Err(broken) => Err(broken),
            };
            let mut arrival = self.arrivals.swap_remove(at);
            let result = outcome.and_then(|(kind, body)| match (kind, arrival.offer.take()) {
                (Kind::Hello, None) => {
                    arrival.offer = Some(self.greet(&arrival.talk, &body)?);
                    self.arrivals.push(arrival);
                    Ok(None)
                }
                (Kind::Ready, Some((shared, offer))) => {
                    let greeted = offer.confirm(arrival.talk, wire::ready(&body)?, &self.options)?;
                    let is_new = greeted.greeting.connections == 0;
                    shared.resume(greeted, 0)?;
                    Ok(Some(shared).filter(|_| is_new))
                }
                _ => Err(Fault::Turn.into()),
            });
            match result {
                Ok(Some(shared)) => return Some(shared),
                Ok(None) => {}
                Err(broken) => self.tell(broken.at(&self.address.to_string()).to_string()),
            }
        }
        None
    }

    /// Answers a greeting.
    fn greet(&mut self, talk: &Talk, body: &[u8]) -> Result<(Arc<Shared>, Offer), Broken> {
        let refuse = |refusal: Refusal| talk.write(Kind::Refused, &[refusal.to_byte()], &[]);
        let hello = match Hello::from_bytes(body) {
            Ok(hello) => hello,
            Err(fault) => {
                let refusal = if let Fault::Version { .. } = fault { Refusal::Version } else { Refusal::Greeting };
                let _ = refuse(refusal);
                return Err(fault.into());
            }
        };
        let known = self.links.get(&hello.session).and_then(Weak::upgrade);
        if let Some((shared, connection)) = known.as_ref().and_then(|shared| Some((shared, shared.connection()?))) {
            // It may have ended the link with its last word, which nobody has read yet: once for that, and once for its being the last.
            shared.serve(&connection, false, false);
            shared.serve(&connection, false, false);
        }
        self.links.retain(|_, shared| shared.upgrade().is_some_and(|shared| shared.is_open()));
        let known = known.filter(|shared| shared.is_open());
        if known.is_none() && self.links.len() >= self.options.max_links {
            let _ = refuse(Refusal::Full);
            return Err(Errno::USERS.into());
        }
        let shared = match known {
            Some(shared) => {
                if let Some(connection) = shared.connection() {
                    shared.lost(&connection, Ending::Replaced);
                }
                shared
            }
            None => {
                let incarnation = random::bytes()?;
                let (options, address) = (self.options.clone(), self.address.clone());
                let shared = Shared::new(options, address, hello.session, incarnation, false, true);
                let shared = Arc::new(shared.map_err(|_| Errno::NOMEM)?);
                self.links.insert(hello.session, shared.downgrade());
                shared
            }
        };
        let offer = handshake::answer(talk, &shared, hello)?;
        Ok((shared, offer))
    }

    /// Where it listens, as given.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Readable when [`accept`](Listener::accept) has something to do, for `epoll` and `poll`: a socket that has connected. It then
/// introduces itself, for which an `accept` is to wait a moment.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.socket.as_fd()
    }
}

/// The server's end of a pair, until its peer has introduced itself.
#[derive(Debug)]
pub struct Expected {
    options: Options,
    talk: Talk,
}

impl Expected {
    pub(super) fn new(options: Options, socket: OwnedFd) -> Self {
        Expected { talk: Talk::new(socket), options }
    }

    /// Waits until the other end has introduced itself, for as long as [`Options::handshake_timeout`] says.
    ///
    /// # Errors
    ///
    /// [`Error::System`], [`Error::Handshake`].
    pub fn accept(mut self) -> Result<Link, Error> {
        let address = Address::pair();
        let deadline = Deadline::after(self.options.handshake);
        let shake = |talk: &mut Talk| {
            let (Kind::Hello, body) = talk.read(deadline)? else { return Err(Fault::Turn.into()) };
            let hello = Hello::from_bytes(&body)?;
            let incarnation = random::bytes()?;
            let shared = Shared::new(self.options.clone(), address.clone(), hello.session, incarnation, false, false);
            let shared = Arc::new(shared.map_err(|_| Errno::NOMEM)?);
            let offer = handshake::answer(talk, &shared, hello)?;
            let (Kind::Ready, body) = talk.read(deadline)? else { return Err(Fault::Turn.into()) };
            Ok((shared, offer, wire::ready(&body)?))
        };
        let failed = |broken: Broken| broken.at(&address.to_string());
        let (shared, offer, uses_memory) = shake(&mut self.talk).map_err(failed)?;
        let greeted = offer.confirm(self.talk, uses_memory, &shared.options).map_err(failed)?;
        shared.resume(greeted, 0)?;
        Ok(Link::new(shared))
    }
}
