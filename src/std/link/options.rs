//! What a link is made with.

use std::sync::Arc;
use std::time::Duration;

use super::wire::Identity;
use super::{Error, Event, Link, Listener, Transport};
use crate::core::ack::Policy;

/// The smallest ring, in bytes.
pub const MIN_SIZE: usize = 4096;
/// The largest ring, in bytes.
pub const MAX_SIZE: usize = 16 << 20;
/// The size of a ring if nothing else is said.
pub const DEFAULT_SIZE: usize = 64 << 10;
/// The longest message that can be allowed, in bytes.
pub const MAX_MESSAGE: usize = 64 << 20;

/// How a connector comes back after a connection is lost, and for how long a listener keeps a link whose peer is gone.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reconnect {
    /// How often it is tried; 0: not at all.
    pub attempts: u32,
    /// How long to wait before the first attempt but one, which is made at once; before the first, too, of a connection that has
    /// lasted for no longer than that.
    pub delay: Duration,
    /// By what the wait grows from one attempt to the next. 1: it stays the same.
    pub factor: f64,
    /// The longest wait.
    pub max_delay: Duration,
    /// How much of each wait is left to chance, from 0 to 1, so that many that lost one server don't come back as one.
    pub jitter: f64,
}

impl Default for Reconnect {
    /// 5 attempts, 1 s apart, a tenth of it left to chance.
    fn default() -> Self {
        Reconnect {
            attempts: 5,
            delay: Duration::from_secs(1),
            factor: 1.0,
            max_delay: Duration::from_secs(30),
            jitter: 0.1,
        }
    }
}

impl Reconnect {
    /// Never.
    pub const NEVER: Reconnect =
        Reconnect { attempts: 0, delay: Duration::ZERO, factor: 1.0, max_delay: Duration::ZERO, jitter: 0.0 };

    /// How long to wait before attempt number `attempt`, counted from 0, with a `chance` from 0 to 1. The first is made at once.
    pub(super) fn wait(&self, attempt: u32, chance: f64) -> Duration {
        if attempt == 0 {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(attempt - 1).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let capped = seconds.min(self.max_delay.max(self.delay).as_secs_f64());
        // Half of the chance shortens the wait and half lengthens it.
        let jitter = self.jitter.clamp(0.0, 1.0) * (chance - 0.5);
        Duration::try_from_secs_f64(capped * (1.0 + jitter)).unwrap_or(self.max_delay)
    }

    /// How long all attempts take at most, the last one's handshake included.
    pub(super) fn patience(&self, handshake: Duration) -> Duration {
        let waits = (0..self.attempts.min(10_000)).map(|attempt| self.wait(attempt, 1.0) + handshake);
        waits.fold(Duration::ZERO, Duration::saturating_add)
    }
}

pub(super) type Callback = Arc<dyn Fn(&Event) + Send + Sync>;

/// Which user a peer may be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Allow {
    /// The user of this process, and root.
    #[default]
    Own,
    /// These users, by number.
    Users(Vec<u32>),
    /// Whoever can reach the socket.
    Anyone,
}

/// What a link is made with: made by [`Link::options`].
#[derive(Clone)]
pub struct Options {
    pub(super) size: usize,
    pub(super) transport: Transport,
    pub(super) window: u32,
    pub(super) max_message: usize,
    pub(super) acks: Policy,
    pub(super) reconnect: Reconnect,
    pub(super) allow: Allow,
    pub(super) handshake: Duration,
    pub(super) session: Option<Identity>,
    pub(super) max_links: usize,
    pub(super) callback: Option<Callback>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("size", &self.size)
            .field("transport", &self.transport)
            .field("window", &self.window)
            .field("max_message", &self.max_message)
            .field("acks", &self.acks)
            .field("reconnect", &self.reconnect)
            .field("allow", &self.allow)
            .field("handshake", &self.handshake)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            size: DEFAULT_SIZE,
            transport: Transport::SharedMemory,
            window: 1 << 16,
            max_message: 16 << 20,
            acks: Policy::default(),
            reconnect: Reconnect::default(),
            allow: Allow::default(),
            handshake: Duration::from_secs(5),
            session: None,
            max_links: 1024,
            callback: None,
        }
    }
}

impl Options {
    /// The size of the ring that messages are sent through, in bytes, from [`MIN_SIZE`] to [`MAX_SIZE`]; whole pages are
    /// taken. There are two of them, one each way, and the smaller wish of the two ends is followed. A message may have a little
    /// less than half of it; a longer one goes over the socket, in its turn. Default: [`DEFAULT_SIZE`].
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// By which way messages go. With [`Transport::Socket`] on one of the ends no shared memory is made. Default:
    /// shared memory, and the socket where that cannot be had.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// How many messages may be on their way, or not acknowledged. Default: 65,536. A ring may be full before.
    /// If it is smaller than the batch in which the other end [acknowledges](Options::acks), it waits for that batch's age.
    pub fn window(mut self, messages: u32) -> Self {
        self.window = messages;
        self
    }

    /// The longest message that this end takes, up to [`MAX_MESSAGE`]. Default: 16 MiB.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// When what was received is acknowledged. [`Policy::Deferred`]: when [`Receiver::ack`](super::Receiver::ack) says so, such
    /// as after a message was worked on; the room in the sender's ring stays used until then. Default: 32 messages or 5 ms.
    ///
    /// A [`window`](Options::window) of the other end that is smaller than the batch waits for the batch's age, or for this end
    /// to sleep: acknowledge after as many messages as the other end may have on their way, or fewer.
    pub fn acks(mut self, policy: Policy) -> Self {
        self.acks = policy;
        self
    }

    /// How a lost connection comes back. Default: 5 attempts, 1 s apart.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Which users a peer may be, by the kernel's word. Default: this process's own, and root.
    pub fn allow(mut self, allow: Allow) -> Self {
        self.allow = allow;
        self
    }

    /// How long a peer may take to introduce itself. Default: 5 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake = timeout;
        self
    }

    /// A name for the link that outlives this process: a later one that connects with it takes the link up where this one has
    /// left it, and is sent what was not acknowledged. Whoever knows it can do so: have it random. Default: one of its own.
    pub fn session(mut self, session: [u8; 16]) -> Self {
        self.session = Some(session);
        self
    }

    /// How many links a listener keeps at a time. Default: 1024.
    pub fn max_links(mut self, links: usize) -> Self {
        self.max_links = links;
        self
    }

    /// What to call when a connection is lost, is there again, or comes no more; when messages go another way; and when anything
    /// goes wrong that no call is there to be told of. Called by a thread of the link's; it may use the link, but not wait on it.
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.callback = Some(Arc::new(callback));
        self
    }

    /// Connects to a [`Listener`].
    ///
    /// # Errors
    ///
    /// [`Error`]. Nobody there is one, too: only a connection that was lost is tried again.
    pub fn connect(self, address: &str) -> Result<Link, Error> {
        Link::connect_with(self, address)
    }

    /// Listens for links.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn listen(self, address: &str) -> Result<Listener, Error> {
        Listener::bind(self, address)
    }

    /// Tells the program what has happened at an address.
    pub(super) fn tell(&self, address: &str, event: &Event) {
        if let Some(callback) = &self.callback {
            // A panic in there is the program's own affair, and not the end of the thread that looks after all links.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(event)));
        }
        tracing::debug!(address, ?event, "link");
    }

    pub(super) fn check(&mut self) -> Result<(), Error> {
        if !(MIN_SIZE..=MAX_SIZE).contains(&self.size) {
            return Err(Error::Size { bytes: self.size });
        }
        if !(1..=MAX_MESSAGE).contains(&self.max_message) {
            return Err(Error::MaxMessage { bytes: self.max_message });
        }
        if self.window == 0 {
            return Err(Error::Window);
        }
        self.size = self.size.next_multiple_of(rustix::param::page_size());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_vary_around_their_length() {
        let reconnect = Reconnect { factor: 2.0, max_delay: Duration::from_secs(5), ..Reconnect::default() };
        let waits: Vec<_> = (0..6).map(|attempt| reconnect.wait(attempt, 0.5).as_secs_f64()).collect();
        assert_eq!(waits, [0.0, 1.0, 2.0, 4.0, 5.0, 5.0]);
        assert_eq!(reconnect.wait(1, 0.0), Duration::from_millis(950));
        assert_eq!(reconnect.wait(1, 1.0), Duration::from_millis(1050));
        assert_eq!(Reconnect::default().wait(4_000_000_000, 0.5), Duration::from_secs(1));
    }

    #[test]
    fn a_size_out_of_range_names_the_range() {
        for bytes in [0, MIN_SIZE - 1, MAX_SIZE + 1] {
            let error = Options::default().size(bytes).check().unwrap_err();
            assert!(error.to_string().contains("4096") && error.to_string().contains("16777216"), "{error}");
        }
        let mut odd = Options::default().size(5000);
        odd.check().unwrap();
        assert_eq!(odd.size % rustix::param::page_size(), 0);
    }
}
