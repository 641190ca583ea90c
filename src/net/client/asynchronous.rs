//! The client for programs on tokio: one task has the connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep_until, timeout};

use super::blocking::{READ, WRITES, patient};
use super::error::{Break, ClientError, closed_by_server, no_welcome};
use super::exchange::Exchange;
use super::options::ClientOptions;
use super::outbox::{Fate, Outcome};
use super::report::Report;
use crate::frame::Event;
use crate::std::random;

/// [`Client`](super::Client) for programs on tokio. Clones share the connection; when the last one is
/// dropped it closes at once.
///
/// No future of it loses anything when it is dropped: an event is taken as a whole, at the moment in which
/// [`send`](AsyncClient::send) returns its receipt, or not at all.
///
/// ```no_run
/// use conduit::frame::Event;
/// use conduit::net::AsyncClient;
///
/// # async fn example() -> Result<(), conduit::net::ClientError> {
/// let client = AsyncClient::options().connect_async("127.0.0.1:9000").await?;
/// let receipt = client.send(&Event { topic: b"sensors/imu", payload: b"hello", ..Event::default() }).await?;
/// assert!(receipt.await.fate.is_success());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncClient {
    handle: Arc<Handle>,
}

/// What all clones have: the last one ends the task.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.work.notify_one();
    }
}

/// Tells what became of an event. Whoever does not want to know drops it.
#[derive(Debug)]
pub struct Receipt {
    sequence: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Receipt {
    /// The event's number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let unanswered = Outcome { sequence: self.sequence, fate: Fate::Unanswered, retries: 0 };
        // The task told all that it had to, or was ended by its runtime.
        Pin::new(&mut self.outcome).poll(context).map(|outcome| outcome.unwrap_or(unanswered))
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is room, the server welcomes, or it is over.
    changed: Notify,
    /// There is something for the task to do.
    work: Notify,
    began: Instant,
}

#[derive(Debug)]
struct State {
    exchange: Exchange,
    receipts: HashMap<u64, oneshot::Sender<Outcome>>,
    /// Whether the task waits for work, or is about to.
    asleep: bool,
    /// Whether there was a welcome ever.
    welcomed: bool,
    closing: bool,
    end: Option<ClientError>,
}

impl State {
    fn settle(&mut self, told: &[Outcome]) {
        for outcome in told {
            if let Some(receipt) = self.receipts.remove(&outcome.sequence) {
                // Nobody may want to know.
                let _ = receipt.send(*outcome);
            }
        }
    }
}

impl Shared {
    /// Held for moments, and never while something is awaited.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Waits until `look` has something to say.
    async fn when<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // What changes from here on is heard of.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl AsyncClient {
    /// How it is to be; [`connect_async`](ClientOptions::connect_async) makes it.
    pub fn options() -> ClientOptions {
        ClientOptions::default()
    }

    pub(super) async fn connect(options: ClientOptions, addresses: Vec<SocketAddr>) -> Result<Self, ClientError> {
        let exchange = options.exchange(true)?;
        let (stream, addr) = connect(&addresses, options.connect_timeout)
            .await
            .map_err(|(addr, error)| ClientError::Connect { addr, source: Arc::new(error) })?;
        let receipts = HashMap::new();
        let state = State { exchange, receipts, asleep: false, welcomed: false, closing: false, end: None };
        let (changed, work, began) = (Notify::new(), Notify::new(), Instant::now());
        let shared = Arc::new(Shared { state: Mutex::new(state), changed, work, began });
        let client = AsyncClient { handle: Arc::new(Handle(shared.clone())) };
        let connection = Connection { shared: shared.clone(), addresses, options, told: Vec::new() };
        tokio::spawn(connection.run(stream, addr));
        let welcomed = |state: &mut State| match &state.end {
            Some(end) => Some(Err(end.clone())),
            None => state.welcomed.then_some(Ok(())),
        };
        shared.when(welcomed).await?;
        Ok(client)
    }

    /// Takes an event, whatever its flags and sequence say. Waits while as many events as may are not answered, also for a
    /// connection that is to come back.
    ///
    /// # Errors
    ///
    /// [`ClientError::Event`] if this one is not taken. Otherwise the client came to its end: [`ClientError::Lost`],
    /// [`ClientError::Server`].
    pub async fn send(&self, event: &Event<'_>) -> Result<Receipt, ClientError> {
        self.handle.0.when(|state| self.take(state, event).transpose()).await
    }

    /// [`send`](AsyncClient::send) without waiting: `None` if there is no room.
    ///
    /// # Errors
    ///
    /// As of [`send`](AsyncClient::send).
    pub fn try_send(&self, event: &Event<'_>) -> Result<Option<Receipt>, ClientError> {
        self.take(&mut self.handle.0.lock(), event)
    }

    fn take(&self, state: &mut State, event: &Event<'_>) -> Result<Option<Receipt>, ClientError> {
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        let Some((sequence, ready)) = state.exchange.push(event)? else { return Ok(None) };
        let (told, outcome) = oneshot::channel();
        state.receipts.insert(sequence, told);
        if ready && std::mem::take(&mut state.asleep) {
            self.handle.0.work.notify_one();
        }
        Ok(Some(Receipt { sequence, outcome }))
    }

    /// Waits until each event has its outcome; with [`Acks::None`](super::outbox::Acks::None) until the server says that it has
    /// read them all.
    ///
    /// # Errors
    ///
    /// What brought the client to its end.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let shared = &self.handle.0;
        shared.lock().exchange.confirm();
        shared.work.notify_one();
        let done = |state: &mut State| match &state.end {
            _ if state.exchange.is_done() => Some(Ok(())),
            Some(end) => Some(Err(end.clone())),
            None => None,
        };
        shared.when(done).await
    }

    /// What came of its events so far.
    pub fn report(&self) -> Report {
        self.handle.0.lock().exchange.report()
    }

    /// Waits until each event has its outcome, but no longer than `limit`; then closes the connection, for all clones. What
    /// has no outcome by then is unanswered in the report.
    pub async fn close(self, limit: Duration) -> Report {
        // The report tells what came of it.
        let _ = timeout(limit, self.flush()).await;
        let shared = &self.handle.0;
        shared.lock().closing = true;
        shared.work.notify_one();
        shared.when(|state| state.end.is_some().then_some(())).await;
        self.report()
    }
}

/// The task of a connection.
struct Connection {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    options: ClientOptions,
    told: Vec<Outcome>,
}

impl Connection {
    async fn run(mut self, mut stream: TcpStream, mut addr: SocketAddr) {
        let mut attempts = 0;
        loop {
            let (before, since) = (self.shared.lock().exchange.settled(), Instant::now());
            let Err(broken) = self.serve(&stream).await;
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
                let wait = self.options.reconnect.delay(attempts, random::chance());
                if timeout(wait, closing(&self.shared)).await.is_ok() {
                    return self.end(ClientError::Closed);
                }
                attempts += 1;
                let attempt = tokio::select! {
                    attempt = connect(&self.addresses, self.options.connect_timeout) => attempt,
                    () = closing(&self.shared) => return self.end(ClientError::Closed),
                };
                match attempt {
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
    async fn serve(&mut self, stream: &TcpStream) -> Result<Infallible, Break> {
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
                    state.settle(&self.told);
                    if wire.is_empty() {
                        let welcomed = state.exchange.outbox.server().is_some();
                        until = if welcomed { state.exchange.outbox.next_due() } else { Some(greeted) };
                        break;
                    }
                }
                match stream.try_write(&wire[written..]) {
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
            let interest = if full { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let due = until.map(|until| (shared.began + Duration::from_nanos(until)).into());
            tokio::select! {
                ready = stream.ready(interest) => drop(ready?),
                () = shared.work.notified() => {}
                () = sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {}
                () = std::future::ready(()), if broken.is_some() => {}
            }
            match stream.try_read(&mut input) {
                Ok(0) => return Err(broken.unwrap_or_else(closed_by_server).into()),
                Ok(count) => {
                    let mut state = shared.lock();
                    let taken = state.exchange.receive(&input[..count], shared.now(), &mut self.told);
                    state.welcomed |= state.exchange.outbox.server().is_some();
                    state.settle(&self.told);
                    drop(state);
                    shared.changed.notify_waiters();
                    taken?;
                }
                Err(error) if broken.is_some() => return Err(broken.unwrap_or(error).into()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
            let state = shared.lock();
            if state.closing {
                return Err(Break::Closed);
            }
            if state.exchange.outbox.server().is_none() && shared.now() >= greeted {
                return Err(no_welcome().into());
            }
        }
    }

    fn end(&mut self, end: ClientError) {
        {
            let mut state = self.shared.lock();
            state.exchange.abandon(&mut self.told);
            state.settle(&self.told);
            state.receipts.clear();
            state.end = Some(end);
        }
        self.tell();
    }

    /// Tells the callback what the receipts were told, and everybody that something changed.
    fn tell(&mut self) {
        self.shared.changed.notify_waiters();
        for outcome in self.told.drain(..) {
            if let Some(callback) = &mut self.options.on_outcome {
                callback(&outcome);
            }
        }
    }
}

impl Drop for Connection {
    /// A panic of the callback, or the end of the runtime, leaves nobody waiting.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.end.is_none() {
            state.exchange.abandon(&mut self.told);
            state.settle(&self.told);
            state.receipts.clear();
            state.end = Some(ClientError::Closed);
            self.shared.changed.notify_waiters();
        }
    }
}

/// Returns when the client is closed.
async fn closing(shared: &Shared) {
    while !shared.lock().closing {
        shared.work.notified().await;
    }
}

/// Connects to the first address that answers; else tells of the last one.
async fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), (SocketAddr, io::Error)> {
    let mut failed = (SocketAddr::from(([0; 4], 0)), io::ErrorKind::NotFound.into());
    for &addr in addresses {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        let stream = timeout(limit, TcpStream::connect(addr)).await.unwrap_or_else(|_| Err(late()));
        match stream.and_then(|stream| patient(&stream).map(|()| stream)) {
            Ok(stream) => return Ok((stream, addr)),
            Err(error) => failed = (addr, error),
        }
    }
    Err(failed)
}
