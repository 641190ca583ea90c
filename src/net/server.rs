//! The server: its options, its threads, its counts.

use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use super::beginnings::Beginnings;
use super::line::Held;
use super::{Error, http, tcp, udp};
use crate::ack::Policy;
use crate::engine::{Engine, Stats};
use crate::frame;

/// How to start a [`Server`]: made by [`Server::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `start`"]
pub struct ServerOptions {
    tcp: Option<String>,
    udp: Option<String>,
    pub(super) token: Option<String>,
    pub(super) max_connections: usize,
    pub(super) idle_timeout: Duration,
    pub(super) frame_timeout: Duration,
    pub(super) max_frame: usize,
    pub(super) window: u32,
    pub(super) acks: Policy,
    pub(super) threads: usize,
    pub(super) poll: Duration,
    metrics: Option<String>,
}

impl ServerOptions {
    /// Listens for connections at this address, such as `127.0.0.1:9000`. Port 0 takes any that is free.
    pub fn tcp(mut self, address: &str) -> Self {
        self.tcp = Some(address.into());
        self
    }

    /// Listens for datagrams at this address, such as `127.0.0.1:9001`.
    pub fn udp(mut self, address: &str) -> Self {
        self.udp = Some(address.into());
        self
    }

    /// What clients have to send when they introduce themselves: needed where other machines can reach the address. It and all
    /// else is sent as it is: put a proxy with TLS in front where others can listen. Older frames cannot carry it, and are
    /// refused then.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How many connections there are at most; further ones are closed at once and counted. Default 10,000.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most;
        self
    }

    /// After how long without a byte a connection is closed. Default 5 minutes; clients send pings.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// After how long a connection is closed that has not sent the rest of a frame, or does not read its answers. Default 30 s.
    pub fn frame_timeout(mut self, timeout: Duration) -> Self {
        self.frame_timeout = timeout;
        self
    }

    /// The largest frame that is taken. Default 1 MiB; at most 16 MiB - 1.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// How many events a client may have on their way, if it does not want less: up to 1,024, which is the default.
    pub fn window(mut self, events: u32) -> Self {
        self.window = events;
        self
    }

    /// When answers are sent. Default: [`Policy::Immediate`], once for all that was read at a time.
    pub fn acks(mut self, policy: Policy) -> Self {
        self.acks = policy;
        self
    }

    /// How many threads read connections. Default: half of the processors, 1 to 4.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// How long a thread that reads looks for more bytes before it sleeps: it takes a processor meanwhile, and is not late for
    /// want of a wake-up. [`Duration::MAX`]: it never sleeps. Default: not at all.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// Answers HTTP requests for `/metrics` at this address, such as `127.0.0.1:9464`: whoever reaches it can read them, and
    /// nothing else. Default: nowhere.
    pub fn metrics(mut self, address: &str) -> Self {
        self.metrics = Some(address.into());
        self
    }

    /// Starts the server, in front of `engine`.
    ///
    /// # Errors
    ///
    /// [`Error`]; the engine is stopped then.
    pub fn start(self, engine: Engine) -> Result<Server, Error> {
        Server::start(self, engine)
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |option, reason: &str| Err(Error::InvalidOption { option, reason: reason.into() });
        if !(64..=frame::MAX_LEN).contains(&self.max_frame) {
            return invalid("max_frame", "a frame has 64 bytes to 16 MiB - 1");
        }
        if !(1..=1024).contains(&self.window) {
            return invalid("window", "it is 1 to 1,024");
        }
        if !(1..=64).contains(&self.threads) {
            return invalid("threads", "there are 1 to 64");
        }
        if self.token.as_ref().is_some_and(|token| token.is_empty() || token.len() > 1024) {
            return invalid("token", "it has 1 to 1,024 bytes");
        }
        Ok(())
    }
}

/// Takes events over TCP and UDP for an [`Engine`]. Dropped, it stops as [`stop`](Server::stop) does, with a patience of 5 s.
#[derive(Debug)]
pub struct Server {
    /// `None` once it was stopped.
    engine: Option<Arc<Engine>>,
    shared: Arc<Shared>,
    tcp: Option<SocketAddr>,
    udp: Option<SocketAddr>,
    http: Option<SocketAddr>,
    stage: watch::Sender<Stage>,
    threads: Vec<JoinHandle<()>>,
}

/// How far the server is from its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Stage {
    /// Everything is read.
    Open,
    /// Nothing more is read; answers are sent.
    Draining,
    /// What is left to be sent is sent, if it can be, and connections are closed.
    Closed,
}

/// What all connections have in common.
pub(super) struct Shared {
    pub(super) options: ServerOptions,
    pub(super) counts: Counts,
    pub(super) held: Arc<Held>,
    pub(super) beginnings: Arc<Beginnings>,
    pub(super) sessions: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}

/// Counted by any thread, once for each read or less often; they order nothing.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) open: AtomicUsize,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) closed: [AtomicU64; CloseReason::ALL.len()],
    pub(super) bytes: AtomicU64,
    pub(super) bad_bodies: AtomicU64,
    pub(super) datagrams: AtomicU64,
    pub(super) bad_datagrams: AtomicU64,
    pub(super) unauthorized_datagrams: AtomicU64,
    pub(super) datagrams_lost: AtomicU64,
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> NetStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetStats {
            connections: self.open.load(Ordering::Relaxed),
            accepted: get(&self.accepted),
            refused: get(&self.refused),
            closed: self.closed.each_ref().map(get),
            bytes: get(&self.bytes),
            bad_bodies: get(&self.bad_bodies),
            datagrams: get(&self.datagrams),
            bad_datagrams: get(&self.bad_datagrams),
            unauthorized_datagrams: get(&self.unauthorized_datagrams),
            datagrams_lost: get(&self.datagrams_lost),
        }
    }
}

/// Why a connection was closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum CloseReason {
    /// Its client did, between two frames.
    Client = 0,
    /// Its client did, or was gone, in the middle of a frame.
    Cut = 1,
    /// A frame was none.
    BadFrame = 2,
    /// No byte came for too long.
    Idle = 3,
    /// The rest of a frame did not come.
    SlowFrame = 4,
    /// Its client does not read its answers.
    Unread = 5,
    /// Its client may not send events.
    Unauthorized = 6,
    /// The server stopped.
    Stopped = 7,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [CloseReason; 8] = [
        CloseReason::Client,
        CloseReason::Cut,
        CloseReason::BadFrame,
        CloseReason::Idle,
        CloseReason::SlowFrame,
        CloseReason::Unread,
        CloseReason::Unauthorized,
        CloseReason::Stopped,
    ];

    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            CloseReason::Client => "client",
            CloseReason::Cut => "cut",
            CloseReason::BadFrame => "bad_frame",
            CloseReason::Idle => "idle",
            CloseReason::SlowFrame => "slow_frame",
            CloseReason::Unread => "unread",
            CloseReason::Unauthorized => "unauthorized",
            CloseReason::Stopped => "stopped",
        }
    }
}

/// What the server has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct NetStats {
    /// Connections that are open.
    pub connections: usize,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were closed at once, as there were as many as there may be.
    pub refused: u64,
    /// Connections that were closed, by [`CloseReason`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Bytes that were read.
    pub bytes: u64,
    /// Events whose body was not as it was sent.
    pub bad_bodies: u64,
    /// Datagrams that were received.
    pub datagrams: u64,
    /// Datagrams of which a part, or all, was no frame.
    pub bad_datagrams: u64,
    /// Datagrams without the token.
    pub unauthorized_datagrams: u64,
    /// What the kernel dropped, as it came faster than it was read: datagrams, or several that it had put together.
    pub datagrams_lost: u64,
}

impl Server {
    /// Options to start with.
    pub fn options() -> ServerOptions {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        ServerOptions {
            tcp: None,
            udp: None,
            token: None,
            max_connections: 10_000,
            idle_timeout: Duration::from_secs(300),
            frame_timeout: Duration::from_secs(30),
            max_frame: frame::DEFAULT_MAX_LEN,
            window: 1024,
            acks: Policy::Immediate,
            threads: (processors / 2).clamp(1, 4),
            poll: Duration::ZERO,
            metrics: None,
        }
    }

    fn start(options: ServerOptions, engine: Engine) -> Result<Self, Error> {
        options.check()?;
        let has_token = options.token.is_some();
        let tcp =
            options.tcp.as_deref().map(|address| listen("tcp", address, has_token, TcpListener::bind)).transpose()?;
        let udp =
            options.udp.as_deref().map(|address| listen("udp", address, has_token, UdpSocket::bind)).transpose()?;
        // Those who reach the metrics can only read them.
        let metrics =
            options.metrics.as_deref().map(|address| listen("http", address, true, TcpListener::bind)).transpose()?;
        if options.max_frame > engine.memory_limit() / 4 {
            let reason =
                format!("a frame is at most a quarter of the engine's memory, {} bytes", engine.memory_limit());
            return Err(Error::InvalidOption { option: "max_frame", reason });
        }
        let engine = Arc::new(engine);
        let shared = Arc::new(Shared {
            options,
            counts: Counts::default(),
            held: Arc::default(),
            // A frame is no longer than that.
            beginnings: Arc::new(Beginnings::new(engine.memory_limit() / 4)),
            sessions: AtomicU64::new(0),
        });
        let held = shared.held.clone();
        engine.on_room(move || held.call());
        let (stage, watched) = watch::channel(Stage::Open);
        let mut server = Server {
            engine: Some(engine.clone()),
            shared: shared.clone(),
            tcp: None,
            udp: None,
            http: None,
            stage,
            threads: Vec::new(),
        };
        if let Some(listener) = tcp {
            let failed = |what| move |source| Error::System { what, source };
            listener.set_nonblocking(true).map_err(failed("set up a socket"))?;
            server.tcp = listener.local_addr().ok();
            let mut readers = Vec::new();
            for number in 0..shared.options.threads {
                let (to_reader, connections) = mpsc::unbounded_channel();
                readers.push(to_reader);
                let (engine, shared, watched) = (engine.clone(), shared.clone(), watched.clone());
                server.spawn(&format!("conduit-tcp-{number}"), move |runtime| {
                    tcp::read(runtime, connections, &engine, &shared, watched);
                })?;
            }
            let (shared, watched) = (shared.clone(), watched.clone());
            server
                .spawn("conduit-accept", move |runtime| tcp::accept(runtime, listener, &readers, &shared, watched))?;
        }
        if let Some(listener) = metrics {
            listener.set_nonblocking(true).map_err(|source| Error::System { what: "set up a socket", source })?;
            server.http = listener.local_addr().ok();
            let (engine, shared, watched) = (engine.clone(), shared.clone(), watched.clone());
            server.spawn("conduit-http", move |runtime| http::serve(runtime, listener, engine, shared, watched))?;
        }
        if let Some(socket) = udp {
            server.udp = socket.local_addr().ok();
            let shared = server.shared.clone();
            server.spawn("conduit-udp", move |runtime| udp::receive(runtime, socket, &engine, &shared, watched))?;
        }
        Ok(server)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(Runtime) + Send + 'static) -> Result<(), Error> {
        // One turn for tasks, one look at the sockets: few tasks are ready at a time, and each does much.
        let runtime = Builder::new_current_thread().event_interval(1).enable_all().build();
        let runtime = runtime.map_err(|source| Error::System { what: "look at sockets", source })?;
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(runtime));
        self.threads.push(thread.map_err(|source| Error::System { what: "start a thread", source })?);
        Ok(())
    }

    /// Where connections are listened for.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Where datagrams are listened for.
    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.udp
    }

    /// Where metrics are.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is there until the server is stopped")
    }

    /// What it has done so far.
    pub fn stats(&self) -> NetStats {
        self.shared.counts.stats()
    }

    /// Stops: nothing more is read, what was taken goes through the [engine](Engine::stop), clients get their last answers, and
    /// connections are closed. Whoever doesn't read its answers, and a store that fails, are waited for up to `patience`.
    pub fn stop(mut self, patience: Duration) -> Stats {
        self.end(patience);
        let engine = self.engine.take().expect("it is there until now");
        engine.stats()
    }

    fn end(&mut self, patience: Duration) {
        let Some(engine) = &self.engine else { return };
        let _ = self.stage.send(Stage::Draining);
        engine.end(patience);
        let _ = self.stage.send(Stage::Closed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the server panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Duration::from_secs(5));
    }
}

/// Listens at the first address that it can of those that `address` stands for.
fn listen<S>(
    protocol: &'static str,
    address: &str,
    has_token: bool,
    bind: impl Fn(SocketAddr) -> std::io::Result<S>,
) -> Result<S, Error> {
    let failed = |source| Error::Listen { protocol, address: address.into(), source };
    let mut last = std::io::Error::other("no such address");
    for found in address.to_socket_addrs().map_err(failed)? {
        if !found.ip().is_loopback() && !has_token {
            return Err(Error::TokenMissing { address: found });
        }
        match bind(found) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Whether a client sent the token that it has to, in a time that doesn't tell how much of it was right.
pub(super) fn is_authorized(expected: Option<&str>, token: &[u8]) -> bool {
    let Some(expected) = expected.map(str::as_bytes) else { return true };
    let differences = expected.iter().zip(token).fold(0, |differences, (a, b)| differences | (a ^ b));
    expected.len() == token.len() && std::hint::black_box(differences) == 0
}

/// Waits until the server is as near to its end, or gone.
pub(super) async fn reached(stage: &mut watch::Receiver<Stage>, end: Stage) {
    let _ = stage.wait_for(|stage| *stage >= end).await.map(drop);
}

/// Runs `future` on this thread.
pub(super) fn run(runtime: Runtime, what: &str, future: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = runtime.block_on(future) {
        tracing::error!(%error, "cannot {what}");
    }
}
