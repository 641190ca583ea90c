//! How a client is to be.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::asynchronous::AsyncClient;
use super::blocking::Client;
use super::error::ClientError;
use super::exchange::Exchange;
use super::outbox::{Acks, Fault, First, Outbox, Outcome, Retry, Settings};
use crate::dedup::ProducerId;
use crate::std::random;

/// How long a server is waited for: for a connection, and then for its welcome.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do when a connection breaks.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reconnect {
    /// How many attempts in a row before the client gives up: without an event answered between them, or a connection that
    /// lasted as long as the longest wait.
    pub attempts: u32,
    /// The wait before the first one; it doubles each time.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// Which part of each wait is left to chance, from 0 to 1, so that clients don't all come back at once.
    pub jitter: f64,
}

impl Default for Reconnect {
    /// 10 attempts within about 20 s: 50 ms, doubled up to 5 s, half of it left to chance.
    fn default() -> Self {
        Reconnect { attempts: 10, base: Duration::from_millis(50), cap: Duration::from_secs(5), jitter: 0.5 }
    }
}

impl Reconnect {
    /// The first break is the last.
    pub const NEVER: Reconnect = Reconnect { attempts: 0, base: Duration::ZERO, cap: Duration::ZERO, jitter: 0.0 };

    /// The wait before attempt number `attempt`, counted from 0, with any 64 bits as the chance.
    ///
    /// ```
    /// use conduit::net::Reconnect;
    /// use std::time::Duration;
    ///
    /// let reconnect = Reconnect { jitter: 0.0, ..Reconnect::default() };
    /// assert_eq!(reconnect.delay(0, 7), Duration::from_millis(50));
    /// assert_eq!(reconnect.delay(3, 7), Duration::from_millis(400));
    /// assert_eq!(reconnect.delay(100, 7), Duration::from_secs(5));
    /// ```
    pub fn delay(&self, attempt: u32, chance: u64) -> Duration {
        let whole = self.base.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(self.cap);
        let chance = (chance >> 11) as f64 / (1u64 << 53) as f64;
        whole.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * chance)
    }
}

type Callback = Box<dyn FnMut(&Outcome) + Send>;

/// How a [`Client`] or an [`AsyncClient`] is to be.
pub struct ClientOptions {
    settings: Settings,
    producer: Option<ProducerId>,
    pub(super) reconnect: Reconnect,
    pub(super) connect_timeout: Duration,
    pub(super) on_outcome: Option<Callback>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token.
        f.debug_struct("ClientOptions").field("producer", &self.producer).field("reconnect", &self.reconnect).finish()
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            settings: Settings::default(),
            producer: None,
            reconnect: Reconnect::default(),
            connect_timeout: CONNECT_TIMEOUT,
            on_outcome: None,
        }
    }
}

impl ClientOptions {
    /// Who sends, across connections and processes. By default a random id, which no other process has. One that is used
    /// again goes on behind what the server has seen of it. Two processes at a time must not have the same, nor may one begin
    /// before the server has read all that the one before sent, which a [`flush`](Client::flush) makes sure of: what comes of
    /// it otherwise is counted as [`collisions`](super::outbox::Counts::collisions).
    #[must_use]
    pub fn producer(self, id: ProducerId) -> Self {
        ClientOptions { producer: Some(id), ..self }
    }

    /// What a server may ask for, up to 1024 bytes.
    #[must_use]
    pub fn token(mut self, token: impl Into<Vec<u8>>) -> Self {
        self.settings.token = token.into();
        self
    }

    /// What to be told of each event. By default that it is accepted.
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// How many events may wait for their answers, 1 to 1024, which is the default. The server may allow less at a time.
    #[must_use]
    pub fn window(mut self, events: u32) -> Self {
        self.settings.window = events;
        self
    }

    /// How many bytes of events may wait for their answers. 64 MiB by default.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// The number of the first event.
    #[must_use]
    pub fn first(mut self, first: First) -> Self {
        self.settings.first = first;
        self
    }

    /// Whether each event's body gets a checksum of its own, for ways on which TCP's is not trusted.
    #[must_use]
    pub fn checksum(mut self, checksum: bool) -> Self {
        self.settings.checksum = checksum;
        self
    }

    /// How long an event that the server refuses for now is sent again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// What to do when a connection breaks. The first connection has to succeed at once.
    #[must_use]
    pub fn reconnect(self, reconnect: Reconnect) -> Self {
        ClientOptions { reconnect, ..self }
    }

    /// How long to wait for a connection, and then for the server's welcome. 5 s by default.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        ClientOptions { connect_timeout: timeout, ..self }
    }

    /// Has each outcome told, in the order in which they come, by the client's own thread or task: what takes long here keeps
    /// the connection waiting.
    #[must_use]
    pub fn on_outcome(self, callback: impl FnMut(&Outcome) + Send + 'static) -> Self {
        ClientOptions { on_outcome: Some(Box::new(callback)), ..self }
    }

    /// Connects, and waits for the server's welcome. The address is looked up once.
    ///
    /// # Errors
    ///
    /// [`ClientError::InvalidOption`], [`ClientError::Address`], [`ClientError::Connect`], [`ClientError::Server`].
    pub fn connect(self, addr: impl ToSocketAddrs) -> Result<Client, ClientError> {
        let addresses: io::Result<Vec<_>> = addr.to_socket_addrs().map(Iterator::collect);
        Client::connect(self, found(addresses)?)
    }

    /// [`connect`](ClientOptions::connect) for programs that run on tokio.
    ///
    /// # Errors
    ///
    /// As of [`connect`](ClientOptions::connect).
    pub async fn connect_async(self, addr: impl tokio::net::ToSocketAddrs) -> Result<AsyncClient, ClientError> {
        let addresses: io::Result<Vec<_>> = tokio::net::lookup_host(addr).await.map(Iterator::collect);
        AsyncClient::connect(self, found(addresses)?).await
    }

    /// Checks the options; `tells` if somebody wants each outcome besides the callback.
    pub(super) fn exchange(&self, tells: bool) -> Result<Exchange, ClientError> {
        let producer = match self.producer {
            Some(id) => id,
            None => random::bytes()
                .map_err(io::Error::from)
                .map_err(ClientError::system("get random numbers for a producer id"))?,
        };
        let invalid =
            |option, reason: &dyn fmt::Display| ClientError::InvalidOption { option, reason: reason.to_string() };
        if !(0.0..=1.0).contains(&self.reconnect.jitter) {
            return Err(invalid("reconnect", &"the jitter is a part of the wait, from 0 to 1"));
        }
        let outbox = Outbox::new(Settings { producer, ..self.settings.clone() }).map_err(|fault| match fault {
            Fault::Window(_) => invalid("window", &fault),
            Fault::First => invalid("first", &fault),
            fault => invalid("token", &fault),
        })?;
        Ok(Exchange::new(outbox, tells || self.on_outcome.is_some()))
    }
}

pub(super) fn found(addresses: io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>, ClientError> {
    let none = || io::Error::new(io::ErrorKind::NotFound, "no address has this name");
    let addresses = addresses.and_then(|found| if found.is_empty() { Err(none()) } else { Ok(found) });
    addresses.map_err(|error| ClientError::Address(Arc::new(error)))
}
