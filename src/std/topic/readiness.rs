//! Receiving in async code and in epoll loops: one thread a process sleeps on behalf of all who asked.

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::event::{EventfdFlags, eventfd};

use super::multi_wait::{Bell, MultiWait};
use super::subscriber::Attachment;
use super::{Error, Payload, Sample, Subscriber};
use crate::std::fork::PerProcess;

/// A [`Subscriber`] for async code, with any runtime.
///
/// ```
/// # use std::future::Future;
/// use conduit::{Publisher, Subscriber};
/// # let domain = format!("doc-async-{}", std::process::id());
/// # let mut publisher = Publisher::<[u8]>::options().domain(&domain).open("t")?;
/// let mut subscriber = Subscriber::<[u8]>::options().domain(&domain).open("t")?.into_async();
///
/// let receive = async move {
///     let sample = subscriber.recv().await?;
///     Ok::<_, conduit::Error>(sample.to_vec())
/// };
/// # publisher.publish(b"hello")?;
/// # let mut receive = std::pin::pin!(receive);
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # assert!(matches!(receive.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(v)) if v == b"hello"));
/// # publisher.remove()?;
/// # Ok::<(), conduit::Error>(())
/// ```
#[derive(Debug)]
pub struct AsyncSubscriber<T: Payload + ?Sized> {
    subscriber: Subscriber<T>,
    interest: Interest,
}

/// A [`Subscriber`] with a descriptor that is readable while there may be something to receive: for `epoll`, `poll`, or
/// an event loop that takes descriptors.
///
/// When the descriptor is readable, call [`try_recv`](PollSubscriber::try_recv) until it answers `None`, which makes it
/// unreadable until there is more.
#[derive(Debug)]
pub struct PollSubscriber<T: Payload + ?Sized> {
    subscriber: Subscriber<T>,
    interest: Interest,
    descriptor: Arc<OwnedFd>,
}

impl<T: Payload + ?Sized> Subscriber<T> {
    /// This subscriber, for async code.
    pub fn into_async(self) -> AsyncSubscriber<T> {
        AsyncSubscriber { subscriber: self, interest: Interest::new() }
    }

    /// This subscriber, with a descriptor that tells when there is something to receive. The descriptor is readable at
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if there is no descriptor to be had.
    pub fn into_pollable(self) -> Result<PollSubscriber<T>, Error> {
        let failed = |source: rustix::io::Errno| Error::System {
            action: "make a descriptor for",
            path: "a subscriber".into(),
            source: source.into(),
        };
        let descriptor = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?;
        Ok(PollSubscriber { subscriber: self, interest: Interest::new(), descriptor: Arc::new(descriptor) })
    }
}

impl<T: Payload + ?Sized> AsyncSubscriber<T> {
    /// The next message. Cancel safe: a message is only taken when the future is ready.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::try_recv`].
    pub async fn recv(&mut self) -> Result<Sample<T>, Error> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// The next message, or `Pending`; then the task is woken when there may be one.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::try_recv`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<Sample<T>, Error>> {
        if let Some(sample) = self.subscriber.try_recv()? {
            return Poll::Ready(Ok(sample));
        }
        self.interest.arm(&self.subscriber, Target::Task(context.waker().clone()))?;
        Poll::Pending
    }

    /// The subscriber, for blocking calls.
    pub fn into_inner(self) -> Subscriber<T> {
        self.subscriber
    }
}

impl<T: Payload + ?Sized> PollSubscriber<T> {
    /// The next message, if there is one; if there is none, the descriptor becomes unreadable until there is.
    ///
    /// # Errors
    ///
    /// As [`Subscriber::try_recv`].
    pub fn try_recv(&mut self) -> Result<Option<Sample<T>>, Error> {
        if let Some(sample) = self.subscriber.try_recv()? {
            return Ok(Some(sample));
        }
        // Empty it first: what is armed next may fill it at once.
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        self.interest.arm(&self.subscriber, Target::Descriptor(self.descriptor.clone()))?;
        Ok(None)
    }

    /// The subscriber, for blocking calls.
    pub fn into_inner(self) -> Subscriber<T> {
        self.subscriber
    }
}

impl<T: Payload + ?Sized> AsFd for PollSubscriber<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl<T: Payload + ?Sized> AsRawFd for PollSubscriber<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

macro_rules! is_a_subscriber {
    ($($name:ident),*) => {$(
        impl<T: Payload + ?Sized> Deref for $name<T> {
            type Target = Subscriber<T>;
            fn deref(&self) -> &Subscriber<T> {
                &self.subscriber
            }
        }
        impl<T: Payload + ?Sized> DerefMut for $name<T> {
            fn deref_mut(&mut self) -> &mut Subscriber<T> {
                &mut self.subscriber
            }
        }
    )*};
}
is_a_subscriber!(AsyncSubscriber, PollSubscriber);

/// Whom to tell, once, that there is something to receive.
#[derive(Debug)]
enum Target {
    Task(Waker),
    Descriptor(Arc<OwnedFd>),
}

impl Target {
    fn tell(self) {
        match self {
            Target::Task(waker) => waker.wake(),
            // Full means readable already.
            Target::Descriptor(descriptor) => drop(rustix::io::write(&descriptor, &1u64.to_ne_bytes())),
        }
    }
}

/// A subscriber's place in the thread's list; taken out on drop.
#[derive(Debug)]
struct Interest {
    key: u64,
}

/// The list of those who wait, and the bell of the thread that waits for them.
#[derive(Debug)]
struct Service {
    bell: Arc<Bell>,
    armed: Vec<(u64, Arc<Attachment>, Target)>,
}

/// `None` until somebody waits. A forked child begins without one.
static SERVICE: PerProcess<Mutex<Option<Service>>> = PerProcess::new();

fn service() -> MutexGuard<'static, Option<Service>> {
    SERVICE.get().lock().unwrap_or_else(PoisonError::into_inner)
}

impl Interest {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Interest { key: NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) }
    }

    /// Has `target` told once there is something for `subscriber`. Replaces what was armed before.
    fn arm<T: Payload + ?Sized>(&self, subscriber: &Subscriber<T>, target: Target) -> Result<(), Error> {
        let place = subscriber.shared().lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut guard = service();
        let service = Service::running(&mut guard)?;
        service.armed.retain(|(key, ..)| *key != self.key);
        service.armed.push((self.key, place, target));
        service.bell.ring();
        Ok(())
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if let Some(service) = service().as_mut() {
            let before = service.armed.len();
            service.armed.retain(|(key, ..)| *key != self.key);
            if service.armed.len() != before {
                service.bell.ring();
            }
        }
    }
}

impl Service {
    /// The service of this process.
    fn running(guard: &mut Option<Service>) -> Result<&mut Service, Error> {
        if guard.is_none() {
            let mut waiter = MultiWait::default();
            let bell = waiter.bell().clone();
            std::thread::Builder::new().name("conduit-ready".into()).spawn(move || serve(&mut waiter)).map_err(
                |source| Error::System { action: "start a thread to wait for", path: "subscribers".into(), source },
            )?;
            return Ok(guard.insert(Service { bell, armed: Vec::new() }));
        }
        Ok(guard.as_mut().expect("checked above"))
    }
}

/// The thread: sleeps until somebody who is armed has something to receive, or the list changes.
fn serve(waiter: &mut MultiWait) {
    loop {
        let ticket = waiter.ticket();
        let places: Vec<_> = match service().as_ref() {
            Some(service) => service.armed.iter().map(|(_, place, _)| place.clone()).collect(),
            None => Vec::new(),
        };
        // Without descriptors to watch for successors with, those whose topic was replaced are told at once: their next
        // call meets the same error and reports it.
        let ready = waiter.wait(&places, ticket, None, None).unwrap_or_else(|_| (0..places.len()).collect());
        let mut told = Vec::new();
        if let Some(service) = service().as_mut() {
            for place in ready.into_iter().map(|at| &places[at]) {
                while let Some(at) = service.armed.iter().position(|(_, armed, _)| Arc::ptr_eq(armed, place)) {
                    told.push(service.armed.swap_remove(at).2);
                }
            }
        }
        told.into_iter().for_each(Target::tell);
    }
}
