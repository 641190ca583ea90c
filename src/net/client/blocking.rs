//! The client for programs of threads: one thread has the connection, and sleeps when there is nothing to do.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use super::error::{Break, ClientError, closed_by_server, no_welcome};
use super::exchange::Exchange;
use super::options::ClientOptions;
use super::outbox::Outcome;
use super::report::Report;
use crate::frame::Event;
use crate::std::random;

/// How much is read at a time: some 2000 answers.
pub(super) const READ: usize = 64 << 10;
/// How often in a row is written before the answers are looked at.
pub(super) const WRITES: usize = 16;
/// How long the other side's system may leave bytes unconfirmed, or a probe of a silent connection.
const SILENCE: Duration = Duration::from_secs(30);

/// A connection to an event server that comes back by itself, for programs of threads.
///
/// Events are numbered, written many at a time, and sent again after a reconnect until they are answered; the server leaves out
/// what it has. So each is taken once, and has one [`Outcome`], of which the [`report`](Client::report) tells.
///
/// ```no_run
/// use conduit::frame::Event;
/// use conduit::net::{Acks, Client};
/// use std::time::Duration;
///
/// let mut client = Client::options().acks(Acks::Durable).connect("127.0.0.1:9000")?;
/// client.send(&Event { topic: b"sensors/imu", payload: b"hello", ..Event::default() })?;
/// client.flush(Duration::from_secs(5))?;
/// let report = client.close(Duration::from_secs(5));
/// assert_eq!((report.durable, report.failed()), (1, 0));
/// # Ok::<(), conduit::net::ClientError>(())
/// ```
///
/// Dropped, it closes the connection at once: [`close`](Client::close) waits for what is not answered yet.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is room, the server welcomes, or it is over.
    changed: Condvar,
    /// Ends the sleep of the connection's thread.
    bell: OwnedFd,
    began: Instant,
}

#[derive(Debug)]
struct State {
    exchange: Exchange,
    /// Whether the connection's thread sleeps until the bell rings, or is about to.
    asleep: bool,
    /// Whether there was a welcome ever.
    welcomed: bool,
    closing: bool,
    end: Option<ClientError>,
    /// How many threads wait for a change.
    waits: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics with it, but whoever gave the allocator its orders.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        // 584 years.
        self.began.elapsed().as_nanos() as u64
    }

    fn ring(&self) {
        // Fails only if it has rung already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Waits for a change, or until `deadline`.
    fn wait<'a>(&self, mut state: MutexGuard<'a, State>, deadline: Option<Instant>) -> MutexGuard<'a, State> {
        state.waits += 1;
        let mut state = match deadline {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.waits -= 1;
        state
    }

    fn notify(&self, state: &State) {
        if state.waits > 0 {
            self.changed.notify_all();
        }
    }
}

impl Client {
    /// How it is to be; [`connect`](ClientOptions::connect) makes it.
    pub fn options() -> ClientOptions {
        ClientOptions::default()
    }

    pub(super) fn connect(options: ClientOptions, addresses: Vec<SocketAddr>) -> Result<Self, ClientError> {
        let exchange = options.exchange(false)?;
        let (stream, addr) = connect(&addresses, options.connect_timeout)
            .map_err(|(addr, error)| ClientError::Connect { addr, source: Arc::new(error) })?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| ClientError::system("make an eventfd")(error.into()))?;
        let state = State { exchange, asleep: false, welcomed: false, closing: false, end: None, waits: 0 };
        let (changed, began) = (Condvar::new(), Instant::now());
        let shared = Arc::new(Shared { state: Mutex::new(state), changed, bell, began });
        let connection = Connection { shared: shared.clone(), addresses, options, told: Vec::new() };
        let thread = std::thread::Builder::new()
            .name("events".into())
            .spawn(move || connection.run(stream, addr))
            .map_err(ClientError::system("start a thread for the connection"))?;
        let mut client = Client { shared, thread: Some(thread) };
        let mut state = client.shared.lock();
        while !state.welcomed && state.end.is_none() {
            state = client.shared.wait(state, None);
        }
        if let Some(end) = state.end.clone() {
            drop(state);
            client.end();
            return Err(end);
        }
        drop(state);
        Ok(client)
    }

    /// Takes an event, whatever its flags and sequence say, and returns the sequence that it has. Waits while as many events
    /// as may are not answered, also for a connection that is to come back.
    ///
    /// # Errors
    ///
    /// [`ClientError::Event`] if this one is not taken. Otherwise the client came to its end: [`ClientError::Lost`],
    /// [`ClientError::Server`].
    pub fn send(&mut self, event: &Event<'_>) -> Result<u64, ClientError> {
        let mut state = self.shared.lock();
        loop {
            match self.take(state, event)? {
                Ok(sequence) => return Ok(sequence),
                Err(full) => state = self.shared.wait(full, None),
            }
        }
    }

    /// [`send`](Client::send) without waiting: `None` if there is no room.
    ///
    /// # Errors
    ///
    /// As of [`send`](Client::send).
    pub fn try_send(&mut self, event: &Event<'_>) -> Result<Option<u64>, ClientError> {
        Ok(self.take(self.shared.lock(), event)?.ok())
    }

    /// [`send`](Client::send) that waits no longer than `timeout`: `None` if there was no room until then.
    ///
    /// # Errors
    ///
    /// As of [`send`](Client::send).
    pub fn send_timeout(&mut self, event: &Event<'_>, timeout: Duration) -> Result<Option<u64>, ClientError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.lock();
        loop {
            match self.take(state, event)? {
                Ok(sequence) => return Ok(Some(sequence)),
                Err(_) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return Ok(None),
                Err(full) => state = self.shared.wait(full, deadline),
            }
        }
    }

    /// The state comes back if there is no room.
    #[allow(clippy::type_complexity)]
    fn take<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        event: &Event<'_>,
    ) -> Result<Result<u64, MutexGuard<'a, State>>, ClientError> {
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        let Some((sequence, ready)) = state.exchange.push(event)? else { return Ok(Err(state)) };
        let ring = ready && std::mem::take(&mut state.asleep);
        drop(state);
        if ring {
            self.shared.ring();
        }
        Ok(Ok(sequence))
    }

    /// Waits until each event has its outcome; with [`Acks::None`](super::outbox::Acks::None) until the server says that it has
    /// read them all. What is called for [outcomes](crate::net::ClientOptions::on_outcome) may still be told of the last ones behind this; before
    /// [`close`](Client::close) returns it has been.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`], or what brought the client to its end.
    pub fn flush(&mut self, timeout: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.shared.lock();
        state.exchange.confirm();
        state.asleep = false;
        self.shared.ring();
        loop {
            if state.exchange.is_done() {
                return Ok(());
            }
            if let Some(end) = &state.end {
                return Err(end.clone());
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(ClientError::TimedOut { waiting: state.exchange.outbox.waiting() });
            }
            state = self.shared.wait(state, deadline);
        }
    }

    /// What came of its events so far.
    pub fn report(&self) -> Report {
        self.shared.lock().exchange.report()
    }

    /// Waits until each event has its outcome, but no longer than `timeout`; then closes the connection. What has no outcome by
    /// then is unanswered in the report.
    pub fn close(mut self, timeout: Duration) -> Report {
        // The report tells what came of it.
        let _ = self.flush(timeout);
        self.end();
        self.report()
    }

    /// Ends the thread, which may be connecting: within the timeout for that.
    fn end(&mut self) {
        self.shared.lock().closing = true;
        self.shared.ring();
        if let Some(thread) = self.thread.take() {
            // It panics only if a callback did, and has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread of a connection.
struct Connection {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    options: ClientOptions,
    /// Outcomes for the callback.
    told: Vec<Outcome>,
}

impl Connection {
    fn run(mut self, mut stream: TcpStream, mut addr: SocketAddr) {
        let mut attempts = 0;
        loop {
            let (before, since) = (self.shared.lock().exchange.settled(), Instant::now());
            let Err(broken) = self.serve(&stream);
            self.tell();
            let (welcomed, after) = {
                let mut state = self.shared.lock();
                state.exchange.broken();
                (state.welcomed, state.exchange.settled())
            };
            // One that was good for something, or for a while: a server may close what is idle.
            if after > before || welcomed && since.elapsed() >= self.options.reconnect.cap {
                attempts = 0;
            }
            let mut source = match broken {
                Break::Closed => return self.end(ClientError::Closed),
                Break::ForGood(fault) => return self.end(ClientError::Server { addr, fault }),
                Break::ForNow(error) if !welcomed => {
                    return self.end(ClientError::Connect { addr, source: Arc::new(error) });
                }
                Break::ForNow(error) => error,
            };
            tracing::warn!(%addr, reason = %source, "the connection to the event server broke");
            stream = loop {
                if attempts >= self.options.reconnect.attempts {
                    return self.end(ClientError::Lost { addr, attempts, source: Arc::new(source) });
                }
                if self.sleep(self.options.reconnect.delay(attempts, random::chance())) {
                    return self.end(ClientError::Closed);
                }
                attempts += 1;
                match connect(&self.addresses, self.options.connect_timeout) {
                    Ok((stream, at)) => {
                        addr = at;
                        break stream;
                    }
                    Err((at, error)) => (addr, source) = (at, error),
                }
            };
        }
    }

    /// Speaks with the server until the connection ends.
    fn serve(&mut self, stream: &TcpStream) -> Result<Infallible, Break> {
        let shared = self.shared.clone();
        let greeted = shared.now().saturating_add(self.options.connect_timeout.as_nanos() as u64);
        shared.lock().exchange.connected();
        let (mut wire, mut written) = (Vec::new(), 0);
        let mut input = vec![0; READ];
        let mut broken = None;
        loop {
            let mut until = Some(0);
            for _ in 0..if broken.is_none() { WRITES } else { 0 } {
                if written == wire.len() {
                    wire.clear();
                    written = 0;
                    let mut state = shared.lock();
                    if state.closing {
                        return Err(Break::Closed);
                    }
                    state.exchange.transmit(shared.now(), &mut wire, &mut self.told);
                    state.asleep = wire.is_empty();
                    // What needs no answer makes room by being sent.
                    shared.notify(&state);
                    if wire.is_empty() {
                        let welcomed = state.exchange.outbox.server().is_some();
                        until = if welcomed { state.exchange.outbox.next_due() } else { Some(greeted) };
                        break;
                    }
                }
                match (&*stream).write(&wire[written..]) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        until = None;
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        // What it said before it went is still there.
                        broken = Some(error);
                        break;
                    }
                }
            }
            self.tell();
            let full = written < wire.len();
            let readable = broken.is_some() || wait(&shared, Some((stream, full)), until)?;
            {
                let state = shared.lock();
                if state.closing {
                    return Err(Break::Closed);
                }
                if !readable && shared.now() >= greeted && state.exchange.outbox.server().is_none() {
                    return Err(no_welcome().into());
                }
            }
            if !readable {
                continue;
            }
            match (&*stream).read(&mut input) {
                Ok(0) => return Err(broken.unwrap_or_else(closed_by_server).into()),
                Ok(count) => {
                    let mut state = shared.lock();
                    let taken = state.exchange.receive(&input[..count], shared.now(), &mut self.told);
                    state.welcomed |= state.exchange.outbox.server().is_some();
                    shared.notify(&state);
                    drop(state);
                    taken?;
                }
                Err(error) if broken.is_some() => return Err(broken.unwrap_or(error).into()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sleeps for so long; returns whether the client is closed in between.
    fn sleep(&self, time: Duration) -> bool {
        let until = self.shared.now().saturating_add(time.as_nanos() as u64);
        loop {
            if self.shared.lock().closing {
                return true;
            }
            if self.shared.now() >= until {
                return false;
            }
            // If the system cannot even wait, there is no better time than now.
            if wait(&self.shared, None, Some(until)).is_err() {
                return false;
            }
        }
    }

    fn end(&mut self, end: ClientError) {
        {
            let mut state = self.shared.lock();
            state.exchange.abandon(&mut self.told);
            state.end = Some(end);
            self.shared.notify(&state);
        }
        self.tell();
    }

    fn tell(&mut self) {
        for outcome in self.told.drain(..) {
            if let Some(callback) = &mut self.options.on_outcome {
                callback(&outcome);
            }
        }
    }
}

impl Drop for Connection {
    /// A panic of the callback leaves nobody waiting.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.end.is_none() {
            state.exchange.abandon(&mut self.told);
            state.end = Some(ClientError::Closed);
            self.shared.notify(&state);
        }
    }
}

/// Sleeps until the bell rings, or `until`, or until there is something to read, or room to write if that is what a stream
/// waits for. Returns whether there is something to read.
fn wait(shared: &Shared, stream: Option<(&TcpStream, bool)>, until: Option<u64>) -> io::Result<bool> {
    let mut fds = vec![PollFd::new(&shared.bell, PollFlags::IN)];
    if let Some((stream, full)) = stream {
        fds.push(PollFd::new(stream, if full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }));
    }
    let timeout = until.map(|until| {
        let left = Duration::from_nanos(until.saturating_sub(shared.now()));
        Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ }
    });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let readable = PollFlags::IN | PollFlags::ERR | PollFlags::HUP;
    let ready = fds.get(1).is_some_and(|fd| fd.revents().intersects(readable));
    if !fds[0].revents().is_empty() {
        // What it rang for is looked at after this.
        let _ = rustix::io::read(&shared.bell, &mut [0; 8]);
    }
    Ok(ready)
}

/// Connects to the first address that answers; else tells of the last one.
fn connect(addresses: &[SocketAddr], timeout: Duration) -> Result<(TcpStream, SocketAddr), (SocketAddr, io::Error)> {
    let mut failed = (SocketAddr::from(([0; 4], 0)), io::ErrorKind::NotFound.into());
    for &addr in addresses {
        match TcpStream::connect_timeout(&addr, timeout).and_then(prepared) {
            Ok(stream) => return Ok((stream, addr)),
            Err(error) => failed = (addr, error),
        }
    }
    Err(failed)
}

fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    patient(&stream)?;
    Ok(stream)
}

/// Has small writes leave at once, and a peer that is gone without a word found out.
pub(super) fn patient(stream: &impl std::os::fd::AsFd) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_user_timeout(stream, SILENCE.as_millis() as u32)?;
    Ok(())
}
