//! The link that a program has in hand, and its two halves.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs;
use rustix::io::{Errno, FdFlags};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::address::Address;
use super::incoming::{Buffer, Missed};
use super::listener::Expected;
use super::metrics::Metrics;
use super::options::Options;
use super::region::Region;
use super::shared::{For, Look, Shared, Unsent};
use super::wire::Identity;
use super::{Ending, Error, Transport, handshake};
use crate::std::futex::{Deadline, Spin};
use crate::std::random;

/// The variable by which a child is told of the descriptor that it has inherited.
const VARIABLE: &str = "CONDUIT_LINK";

/// The last handle of a link closes it.
#[derive(Debug)]
pub(super) struct Handle(Arc<Shared>);

impl Deref for Handle {
    type Target = Arc<Shared>;
    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.0.check_fork().is_ok() {
            // Whoever waits until all is acknowledged learns of the last ones, too.
            self.0.incoming().acknowledge_before_sleep();
            self.0.close(Ending::Here);
        }
    }
}

/// One end of a link: messages of bytes, both ways, in order, each once.
///
/// See the [module](super) for what it guarantees. Dropped, it closes: what the other end has not received yet it still
/// receives. What the socket does not take at once follows for up to 5 s, as long as the process lives.
#[derive(Debug)]
pub struct Link {
    sender: Sender,
    receiver: Receiver,
}

/// The half that sends. Clones of it may send at the same time, each message as a whole.
#[derive(Debug)]
pub struct Sender {
    pub(super) handle: Arc<Handle>,
    spin: Spin,
}

/// The half that receives.
#[derive(Debug)]
pub struct Receiver {
    pub(super) handle: Arc<Handle>,
    pub(super) buffer: Vec<u8>,
    pub(super) spin: Spin,
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        // In a forked child, where nothing is sent any more, a thread of the parent's may have left the lock held.
        if self.handle.check_fork().is_ok() {
            self.handle.share_sending();
        }
        Sender { handle: self.handle.clone(), spin: Spin::new() }
    }
}

impl Link {
    /// What a link is made with.
    pub fn options() -> Options {
        Options::default()
    }

    /// Connects to whoever [listens](Options::listen) at `address`: the path of a socket, or an abstract name behind an `@`.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn connect(address: &str) -> Result<Self, Error> {
        Options::default().connect(address)
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let handle = Arc::new(Handle(shared));
        Link {
            sender: Sender { handle: handle.clone(), spin: Spin::new() },
            receiver: Receiver { handle, buffer: Vec::new(), spin: Spin::new() },
        }
    }

    pub(super) fn connect_with(options: Options, address: &str) -> Result<Self, Error> {
        let address = Address::new(address)?;
        let shared = Self::client(options, address, true)?;
        let greeted = handshake::connect(&shared)?;
        shared.resume(greeted, 0)?;
        Ok(Link::new(shared))
    }

    fn client(mut options: Options, address: Address, redials: bool) -> Result<Arc<Shared>, Error> {
        options.check()?;
        let random = || random::bytes().map_err(address.failed("find a random name for a link at"));
        let session = match options.session {
            Some(session) => session,
            None => random()?,
        };
        let incarnation = random()?;
        Shared::new(options, address, session, incarnation, redials, redials).map(Arc::new)
    }

    /// Over a descriptor that was inherited, or received, from the program that has made it with [`Options::pair`].
    ///
    /// # Errors
    ///
    /// [`Error`]. A link without an address does not come back when its connection is lost.
    pub fn from_socket(socket: OwnedFd, options: Options) -> Result<Self, Error> {
        let address = Address::inherited();
        rustix::io::ioctl_fionbio(&socket, true).map_err(address.failed("set the mode of"))?;
        let shared = Self::client(options, address, false)?;
        let greeted = handshake::greet(&shared, socket)?;
        shared.resume(greeted, 0)?;
        Ok(Link::new(shared))
    }

    /// Over the descriptor that a parent has [passed](Passed::spawn) to this process; `None` if there is none. The first call
    /// takes it.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn inherited(options: Options) -> Option<Result<Self, Error>> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let passed = std::env::var(VARIABLE).ok()?;
        let (number, file) = passed.split_once(':')?;
        let (number, file): (RawFd, u64) = (number.parse().ok().filter(|number| *number > 2)?, file.parse().ok()?);
        // The variable may be older than the process, or a stranger's: the number has to be that of the very file.
        // SAFETY: borrowed for the call; of a number that is no open file it answers with an error.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        if fs::fstat(borrowed).ok()?.st_ino != file || TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: it was passed to this process for nothing but this, and is taken once.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        let _ = rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC);
        Some(Self::from_socket(socket, options))
    }

    /// The two halves, for two threads. The link is closed when both are dropped.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Sends a message; waits for room. Returns its sequence.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::Closed`], [`Error::Forked`].
    pub fn send(&mut self, message: &[u8]) -> Result<u64, Error> {
        self.sender.send(message)
    }

    /// The next message; waits for it. See [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Forked`].
    pub fn recv(&mut self) -> Result<&[u8], Error> {
        self.receiver.recv()
    }

    /// The half that sends.
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// The half that receives.
    pub fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    /// Waits until all that was sent is acknowledged, and closes.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Closed`]: it was not, and how many are not is in [`Metrics::unacknowledged`] until then.
    pub fn close(mut self, timeout: Duration) -> Result<(), Error> {
        self.sender.flush(timeout)
    }
}

impl Options {
    /// A link to a process that is yet to be started: this process's end, and the descriptor for the other one.
    ///
    /// ```no_run
    /// use conduit::link::Link;
    ///
    /// let (expected, passed) = Link::options().pair()?;
    /// let mut child = std::process::Command::new("./worker");
    /// let child = passed.spawn(&mut child)?; // it calls `Link::inherited(Link::options())`
    /// let mut link = expected.accept()?;
    /// link.send(b"work")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::System`], and for options that cannot be.
    pub fn pair(mut self) -> Result<(Expected, Passed), Error> {
        self.check()?;
        let address = Address::pair();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let made = net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (ours, theirs) = made.map_err(address.failed("make a pair of sockets for"))?;
        Ok((Expected::new(self, ours), Passed(theirs)))
    }
}

/// The descriptor of a pair's other end.
#[derive(Debug)]
pub struct Passed(OwnedFd);

impl Passed {
    /// Starts `command`, which inherits the descriptor and finds its number in the variable `CONDUIT_LINK`. It can be started
    /// once. This process keeps no copy, so that it learns when the child dies.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    pub fn spawn(self, command: &mut Command) -> io::Result<Child> {
        let number = self.0.as_raw_fd();
        command.env(VARIABLE, format!("{number}:{}", fs::fstat(&self.0)?.st_ino));
        // Whether the descriptor is still there. Written here, read by children of this command (Relaxed: by copies of this thread).
        let is_there = Arc::new(AtomicBool::new(true));
        let keep = {
            let is_there = is_there.clone();
            move || {
                if !is_there.load(Ordering::Relaxed) {
                    return Err(Errno::BADF.into());
                }
                // SAFETY: open, as `self` is not dropped before `is_there` is false.
                let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
                Ok(rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?)
            }
        };
        // SAFETY: it makes a system call and nothing else, which a child may do between fork and exec.
        unsafe { command.pre_exec(keep) };
        let child = command.spawn();
        is_there.store(false, Ordering::Relaxed);
        child
    }

    /// The descriptor, to be handed over in another way; then [`Link::from_socket`].
    pub fn into_socket(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Passed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Sender {
    /// Sends a message; waits for room, also while the connection is being made anew. Returns its sequence, by 1 more than that of
    /// the one before.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::Closed`], [`Error::Forked`]: it was not sent.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<u64, Error> {
        match self.send_quickly(message) {
            Some(sequence) => Ok(sequence),
            None => self.send_until(message, None),
        }
    }

    #[inline(always)]
    fn send_quickly(&mut self, message: &[u8]) -> Option<u64> {
        if self.handle.check_fork().is_err() {
            return None;
        }
        // SAFETY: the one sender, or one of several.
        unsafe { self.handle.sending() }.send_quickly(message)
    }

    /// As [`send`](Sender::send), for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], and as [`send`](Sender::send).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<u64, Error> {
        match self.send_quickly(message) {
            Some(sequence) => Ok(sequence),
            None => self.send_until(message, Some(Deadline::after(timeout))),
        }
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`], and as [`send`](Sender::send).
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<u64, Error> {
        match self.send_quickly(message) {
            Some(sequence) => Ok(sequence),
            None => self.try_slowly(message),
        }
    }

    #[cold]
    fn try_slowly(&mut self, message: &[u8]) -> Result<u64, Error> {
        self.handle.check_fork()?;
        // SAFETY: as in `send_quickly`.
        unsafe { try_send(&self.handle, message) }?.ok_or(Error::WouldBlock)
    }

    #[cold]
    fn send_until(&mut self, message: &[u8], deadline: Option<Deadline>) -> Result<u64, Error> {
        self.handle.check_fork()?;
        // SAFETY: as in `send_quickly`: this is its handle.
        let attempt = |shared: &Arc<Shared>, _| unsafe { try_send(shared, message) };
        self.handle.wait(For::Room, deadline, &mut self.spin, attempt)
    }

    /// Waits until all that was sent is acknowledged.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Closed`], [`Error::Forked`].
    pub fn flush(&mut self, timeout: Duration) -> Result<(), Error> {
        self.handle.check_fork()?;
        // SAFETY: as in `send_quickly`: this is its handle.
        let attempt = |shared: &Arc<Shared>, _| unsafe { try_flush(shared) };
        self.handle.wait(For::Room, Some(Deadline::after(timeout)), &mut self.spin, attempt)
    }

    /// Has messages from the next one on go this way, if there are two: nothing is lost, repeated or overtaken by it. In a forked
    /// child it does nothing.
    pub fn prefer(&mut self, transport: Transport) {
        // There a thread of the parent's may be inside for ever.
        if self.handle.check_fork().is_ok() {
            self.handle.outgoing().prefer(transport);
        }
    }

    /// What is known of the link.
    pub fn metrics(&self) -> Metrics {
        Metrics::of(&self.handle)
    }
}

impl Receiver {
    /// The next message; waits for it, also while the connection is being made anew. It is a copy, out of the other end's reach.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], once all was received that was sent before; [`Error::Forked`].
    #[inline]
    pub fn recv(&mut self) -> Result<&[u8], Error> {
        let len = match quickly(&self.handle, &mut self.buffer) {
            Some(len) => len,
            None => self.recv_until(None)?,
        };
        Ok(&self.buffer[..len])
    }

    /// As [`recv`](Receiver::recv), for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], and as [`recv`](Receiver::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<&[u8], Error> {
        let len = match quickly(&self.handle, &mut self.buffer) {
            Some(len) => len,
            None => self.recv_until(Some(Deadline::after(timeout)))?,
        };
        Ok(&self.buffer[..len])
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if there is none, and as [`recv`](Receiver::recv).
    #[inline]
    pub fn try_recv(&mut self) -> Result<&[u8], Error> {
        let len = match quickly(&self.handle, &mut self.buffer) {
            Some(len) => len,
            None => attempt(&self.handle, &mut self.buffer, Look::First)?.ok_or(Error::WouldBlock)?,
        };
        Ok(&self.buffer[..len])
    }

    /// Copies the next message to the beginning of `into`, and returns its length; waits for it. What does not fit stays to be
    /// received.
    ///
    /// # Errors
    ///
    /// [`Error::TooShort`], and as [`recv`](Receiver::recv).
    #[inline]
    pub fn recv_into(&mut self, mut into: &mut [u8]) -> Result<usize, Error> {
        if let Some(len) = quickly(&self.handle, into) {
            return Ok(len);
        }
        self.handle.wait(For::Messages, None, &mut self.spin, |shared, look| attempt(shared, &mut into, look))
    }

    /// As [`recv_into`](Receiver::recv_into), if there is a message.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if there is none, and as [`recv_into`](Receiver::recv_into).
    #[inline]
    pub fn try_recv_into(&mut self, mut into: &mut [u8]) -> Result<usize, Error> {
        match quickly(&self.handle, into) {
            Some(len) => Ok(len),
            None => attempt(&self.handle, &mut into, Look::First)?.ok_or(Error::WouldBlock),
        }
    }

    /// Lends the next message to `read`, where it lies in the ring if it has come by that, else as a copy; waits for it. It saves the
    /// copy of a long message that is looked at once. If `read` panics, the message is received once more.
    ///
    /// # Errors
    ///
    /// As [`recv`](Receiver::recv).
    ///
    /// # Safety
    ///
    /// The peer is trusted: it runs this crate, and nothing in its process writes over what it has sent. Otherwise the bytes could
    /// change while they are read, which is undefined behaviour whatever `read` does with them. All other calls hand out copies.
    pub unsafe fn recv_in_place<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        enum Lent {
            InPlace(Arc<Region>, NonNull<[u8]>),
            Copied(usize),
        }
        let buffer = &mut self.buffer;
        let lent = self.handle.wait(For::Messages, None, &mut self.spin, |shared, look| {
            shared.check_fork()?;
            // SAFETY: this is the receiver.
            if let Some((region, message)) = unsafe { shared.receiving() }.peek() {
                return Ok(Some(Lent::InPlace(region, message)));
            }
            Ok(attempt(shared, buffer, look)?.map(Lent::Copied))
        })?;
        let (_region, message) = match lent {
            Lent::Copied(len) => return Ok(read(&self.buffer[..len])),
            Lent::InPlace(region, message) => (region, message),
        };
        // SAFETY: in the region, which is kept; the record was checked to end in it. Its room is given back by `pass`, at the earliest,
        // and until then a peer that can be trusted, as the caller says, does not write there.
        let result = read(unsafe { message.as_ref() });
        // SAFETY: this is the receiver. In the meantime the connection may have been lost: then the message waits among those that came
        // early, as the first, because nobody else receives.
        let mut incoming = unsafe { self.handle.receiving() };
        let (outcome, connection) = (incoming.pass(), incoming.connection().cloned());
        self.handle.time_acknowledgements(&mut incoming);
        drop(incoming);
        if let (Err(fault), Some(connection)) = (outcome, connection) {
            self.handle.lost(&connection, fault.into());
        }
        Ok(result)
    }

    fn recv_until(&mut self, deadline: Option<Deadline>) -> Result<usize, Error> {
        let buffer = &mut self.buffer;
        self.handle.wait(For::Messages, deadline, &mut self.spin, |shared, look| attempt(shared, buffer, look))
    }

    /// The name that the other end has on this link, for as long as its process has the link. Another one: another process has
    /// come in its place. Zeros in a forked child.
    pub fn peer(&self) -> [u8; 16] {
        match self.handle.check_fork() {
            Ok(()) => self.handle.incoming().received().0,
            // There a thread of the parent's may be inside for ever.
            Err(_) => [0; 16],
        }
    }

    /// Acknowledges all that was received, which with [`Policy::Deferred`](crate::ack::Policy::Deferred) nothing else does.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]: nobody is there to be told any more.
    pub fn ack(&mut self) -> Result<(), Error> {
        self.handle.check_fork()?;
        // SAFETY: this is the receiver.
        unsafe { self.handle.receiving() }.acknowledge();
        self.handle.ending().map_or(Ok(()), |ending| Err(ending.into()))
    }

    /// What is known of the link.
    pub fn metrics(&self) -> Metrics {
        Metrics::of(&self.handle)
    }
}

/// Takes the next message, for the receiver, whose handle it is, if that is there and comes through the ring.
#[inline(always)]
fn quickly(shared: &Arc<Shared>, into: &mut [u8]) -> Option<usize> {
    if shared.check_fork().is_err() {
        return None;
    }
    // SAFETY: called by methods of the receiver alone, which borrow it mutably.
    let mut incoming = unsafe { shared.receiving() };
    let len = incoming.next_quickly(into)?;
    shared.time_acknowledgements(&mut incoming);
    Some(len)
}

/// Sends a message, if there is room.
///
/// # Safety
///
/// It is the sender's handle, which the caller has to itself, or one of several senders'.
pub(super) unsafe fn try_send(shared: &Arc<Shared>, message: &[u8]) -> Result<Option<u64>, Error> {
    // SAFETY: says the caller.
    let mut outgoing = unsafe { shared.sending() };
    let outcome = outgoing.send(message).map_err(|refused| Unsent::over(&outgoing, refused));
    // The connection is ended with nothing locked.
    drop(outgoing);
    match outcome.map_err(|unsent| shared.refuse(unsent, message.len())) {
        Ok(sequence) => Ok(Some(sequence)),
        Err(Error::WouldBlock) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks whether all that was sent is acknowledged.
///
/// # Safety
///
/// As of [`try_send`].
pub(super) unsafe fn try_flush(shared: &Arc<Shared>) -> Result<Option<()>, Error> {
    let ending = shared.ending();
    // SAFETY: says the caller.
    let mut outgoing = unsafe { shared.sending() };
    let outcome = outgoing.look();
    let is_done = outgoing.pending() == 0;
    let outcome = outcome.map_err(|fault| Unsent::over(&outgoing, fault.into()));
    drop(outgoing);
    match (outcome, is_done) {
        (Err(unsent), _) => Err(shared.refuse(unsent, 0)),
        (Ok(()), true) => Ok(Some(())),
        (Ok(()), false) => ending.map_or(Ok(None), |ending| Err(ending.into())),
    }
}

/// Takes the next message, for the receiver, whose handle it is.
fn attempt<B: Buffer + ?Sized>(shared: &Arc<Shared>, buffer: &mut B, look: Look) -> Result<Option<usize>, Error> {
    // SAFETY: as in `quickly`.
    unsafe { attempt_from(shared, buffer, look) }.map(|(len, _)| len)
}

/// Takes the next message, and says whom it is from, or whom the next one will be from, if that is the present peer.
///
/// # Safety
///
/// It is the receiver's handle, which the caller has to itself.
pub(super) unsafe fn attempt_from<B: Buffer + ?Sized>(
    shared: &Arc<Shared>,
    buffer: &mut B,
    look: Look,
) -> Result<(Option<usize>, Option<Identity>), Error> {
    shared.check_fork()?;
    // SAFETY: says the caller.
    let mut incoming = unsafe { shared.receiving() };
    let from = incoming.next_from();
    let outcome = incoming.next(buffer);
    let is_stirred = std::mem::take(&mut incoming.is_stirred);
    let ended = match &outcome {
        Err(Missed::Ended(ending)) => incoming.connection().cloned().map(|connection| (connection, *ending)),
        _ => None,
    };
    if let Ok(Some(_)) = outcome {
        shared.time_acknowledgements(&mut incoming);
    } else if look == Look::BeforeSleep {
        incoming.acknowledge_before_sleep();
    }
    drop(incoming);
    if is_stirred {
        shared.pass_on();
    }
    match outcome {
        Ok(Some(len)) => Ok((Some(len), from)),
        Err(Missed::TooShort { len }) => Err(Error::TooShort { len }),
        _ => {
            if let Some((connection, ending)) = ended {
                shared.lost(&connection, ending);
            }
            Ok((nothing(shared, buffer)?, from))
        }
    }
}

/// There is no message: is there one still to come?
fn nothing<B: Buffer + ?Sized>(shared: &Arc<Shared>, buffer: &mut B) -> Result<Option<usize>, Error> {
    let Some(ending) = shared.ending() else { return Ok(None) };
    // What came before it was closed may have come since the look.
    // SAFETY: as in `attempt`.
    match unsafe { shared.receiving() }.next(buffer) {
        Ok(Some(len)) => Ok(Some(len)),
        _ => Err(ending.into()),
    }
}

impl Deref for Link {
    type Target = Receiver;
    fn deref(&self) -> &Receiver {
        &self.receiver
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut Receiver {
        &mut self.receiver
    }
}
