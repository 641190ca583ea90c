//! The halves of a link for async code and for event loops: nobody sleeps for them. They have the peer wake this end over the
//! socket, and the one thread that watches the sockets wakes them.

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};

use super::halves::{self, Link, Receiver, Sender};
use super::shared::{For, Look, Shared};
use super::wakers::Key;
use super::{Error, address::Address};

/// A place among those that wait on a link, given up on drop.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    key: Key,
}

impl Place {
    fn new(shared: &Arc<Shared>) -> Self {
        Place { shared: shared.clone(), key: Key::new() }
    }

    /// Tries, and has the waker woken when it is worth another try.
    fn poll<T>(
        &self,
        what: For,
        waker: &Waker,
        mut attempt: impl FnMut(&Arc<Shared>, Look) -> Result<Option<T>, Error>,
    ) -> Poll<Result<T, Error>> {
        self.shared.check_fork()?;
        if let Some(found) = attempt(&self.shared, Look::First)? {
            return Poll::Ready(Ok(found));
        }
        self.shared.register(what, self.key, waker);
        // What came before the peer could see that it is to tell of it.
        attempt(&self.shared, Look::BeforeSleep)?.map_or(Poll::Pending, |found| Poll::Ready(Ok(found)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a forked child the list may be locked by a thread that it does not have.
        if self.shared.check_fork().is_ok() {
            self.shared.unregister(self.key);
        }
    }
}

/// A [`Sender`] for async code, with any runtime. Clones of it may send at the same time, each from a task of its own.
///
/// ```
/// use conduit::link::Link;
///
/// # let address = format!("@conduit-doc-async-{}", std::process::id());
/// # let mut listener = Link::options().listen(&address)?;
/// # let other = std::thread::spawn(move || Link::connect(&address).unwrap());
/// # let (here, mut there) = (listener.accept()?, other.join().unwrap());
/// let (mut sender, mut receiver) = here.into_async();
/// let talk = async move {
///     sender.send(b"how are you?").await?;
///     receiver.recv().await.map(<[u8]>::to_vec)
/// };
/// # let other = std::thread::spawn(move || {
/// #     assert_eq!(there.recv().unwrap(), b"how are you?");
/// #     there.send(b"fine").unwrap();
/// #     there
/// # });
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// assert_eq!(runtime.block_on(talk)?, b"fine");
/// # drop(other.join());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncSender {
    sender: Sender,
    place: Place,
}

/// A [`Receiver`] for async code, with any runtime. See [`AsyncSender`] for an example.
#[derive(Debug)]
pub struct AsyncReceiver {
    receiver: Receiver,
    place: Place,
}

/// A [`Receiver`] with a descriptor that is readable while there may be something to receive: for `epoll`, `poll`, or an event loop
/// that takes descriptors.
///
/// When the descriptor is readable, call [`try_recv`](PollReceiver::try_recv) until it answers [`Error::WouldBlock`], which makes
/// it unreadable until there is more.
///
/// ```
/// use conduit::link::{Error, Link};
/// use std::os::fd::AsFd;
///
/// # let address = format!("@conduit-doc-pollable-{}", std::process::id());
/// # let mut listener = Link::options().listen(&address)?;
/// # let other = std::thread::spawn(move || Link::connect(&address).unwrap());
/// # let (here, mut there) = (listener.accept()?, other.join().unwrap());
/// let (_sender, receiver) = here.split();
/// let mut receiver = receiver.into_pollable()?;
/// assert!(matches!(receiver.try_recv(), Err(Error::WouldBlock)));
/// there.send(b"news")?;
/// let mut descriptors = [rustix::event::PollFd::new(&receiver, rustix::event::PollFlags::IN)];
/// rustix::event::poll(&mut descriptors, None)?;
/// assert_eq!(receiver.try_recv()?, b"news");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PollReceiver {
    receiver: Receiver,
    place: Place,
    descriptor: Arc<Descriptor>,
    waker: Waker,
}

#[derive(Debug)]
struct Descriptor(OwnedFd);

impl Wake for Descriptor {
    fn wake(self: Arc<Self>) {
        // Full means readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Link {
    /// The two halves, for async code. The link is closed when both are dropped.
    pub fn into_async(self) -> (AsyncSender, AsyncReceiver) {
        let (sender, receiver) = self.split();
        (sender.into_async(), receiver.into_async())
    }
}

impl Sender {
    /// This sender, for async code.
    pub fn into_async(self) -> AsyncSender {
        AsyncSender { place: Place::new(&self.handle), sender: self }
    }
}

impl Clone for AsyncSender {
    fn clone(&self) -> Self {
        self.sender.clone().into_async()
    }
}

impl Receiver {
    /// This receiver, for async code.
    pub fn into_async(self) -> AsyncReceiver {
        AsyncReceiver { place: Place::new(&self.handle), receiver: self }
    }

    /// This receiver, with a descriptor that tells when there may be something to receive. The descriptor is readable at first.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if there is no descriptor to be had.
    pub fn into_pollable(self) -> Result<PollReceiver, Error> {
        let made = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let descriptor = made.map_err(Address::failed(&self.handle.address, "make a descriptor for"))?;
        let descriptor = Arc::new(Descriptor(descriptor));
        let waker = Waker::from(descriptor.clone());
        Ok(PollReceiver { place: Place::new(&self.handle), receiver: self, descriptor, waker })
    }
}

impl AsyncSender {
    /// Sends a message; waits for room, also while the connection is being made anew. Returns its sequence. Cancel safe: what
    /// is dropped before it is ready was not sent.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<u64, Error> {
        poll_fn(|context| self.poll_send(context, message)).await
    }

    /// Sends a message, or `Pending`; then it is not sent, and the task is woken when it is worth another try.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn poll_send(&mut self, context: &mut Context<'_>, message: &[u8]) -> Poll<Result<u64, Error>> {
        self.place.poll(For::Room, context.waker(), |shared, _| {
            // SAFETY: the place is the sender's, which is borrowed mutably.
            unsafe { halves::try_send(shared, message) }
        })
    }

    /// Waits until all that was sent is acknowledged. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Forked`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Whether all that was sent is acknowledged, or `Pending`; then the task is woken when that may be so.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], [`Error::Forked`].
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.place.poll(For::Room, context.waker(), |shared, _| {
            // SAFETY: as in `poll_send`.
            unsafe { halves::try_flush(shared) }
        })
    }

    /// The sender, for blocking calls.
    pub fn into_inner(self) -> Sender {
        self.sender
    }
}

impl AsyncReceiver {
    /// The next message, also while the connection is being made anew. Cancel safe: a message is only taken when the future is ready.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<&[u8], Error> {
        let len = poll_fn(|context| self.poll_len(context)).await?;
        Ok(&self.receiver.buffer[..len])
    }

    /// The next message, or `Pending`; then the task is woken when there may be one.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<&[u8], Error>> {
        match self.poll_len(context) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map(|len| &self.receiver.buffer[..len])),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_len(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let buffer = &mut self.receiver.buffer;
        self.place.poll(For::Messages, context.waker(), |shared, look| {
            // SAFETY: the place is the receiver's, which is borrowed mutably.
            unsafe { halves::attempt_from(shared, buffer, look) }.map(|(len, _)| len)
        })
    }

    /// The receiver, for blocking calls.
    pub fn into_inner(self) -> Receiver {
        self.receiver
    }
}

impl PollReceiver {
    /// The next message, if there is one; if there is none, the descriptor becomes unreadable until there may be.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if there is none, and as [`Receiver::recv`].
    pub fn try_recv(&mut self) -> Result<&[u8], Error> {
        let (buffer, descriptor) = (&mut self.receiver.buffer, &self.descriptor.0);
        let polled = self.place.poll(For::Messages, &self.waker, |shared, look| {
            // SAFETY: the place is the receiver's, which is borrowed mutably.
            let found = unsafe { halves::attempt_from(shared, buffer, look) }.map(|(len, _)| len);
            if look == Look::First && matches!(found, Ok(None)) {
                // Emptied in front of what is waited for next, which may fill it at once.
                let _ = rustix::io::read(descriptor, &mut [0; 8]);
            }
            found
        });
        match polled {
            Poll::Ready(outcome) => outcome.map(|len| &self.receiver.buffer[..len]),
            Poll::Pending => Err(Error::WouldBlock),
        }
    }

    /// The receiver, for blocking calls.
    pub fn into_inner(self) -> Receiver {
        self.receiver
    }
}

impl AsFd for PollReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.0.as_fd()
    }
}

impl AsRawFd for PollReceiver {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.0.as_raw_fd()
    }
}

macro_rules! is_a_half {
    ($($name:ident, $field:ident: $half:ident;)*) => {$(
        impl Deref for $name {
            type Target = $half;
            fn deref(&self) -> &$half {
                &self.$field
            }
        }
        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut $half {
                &mut self.$field
            }
        }
    )*};
}
is_a_half! {
    AsyncSender, sender: Sender;
    AsyncReceiver, receiver: Receiver;
    PollReceiver, receiver: Receiver;
}
