//! The end that calls.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::engine::{Engine, Want};
use super::error::CallError;
use super::metrics::Metrics;
use super::options::Options;
use super::table::Step;
use crate::std::futex::{self, Deadline};
use crate::std::link::{self, Link};

/// Makes calls over a link. Clones share the link, which is closed when the last of them is dropped, and all else that comes of them.
///
/// Any number of threads, and of tasks of any runtime, call at the same time; the answers come in any order. A thread that waits
/// for its answer receives for all others that wait meanwhile, so that a single one has its answer without the help of another thread.
///
/// ```
/// use std::time::Duration;
/// use conduit::link::{Link, calls};
///
/// # let address = format!("@conduit-doc-call-{}", std::process::id());
/// # let mut listener = Link::options().listen(&address)?;
/// # let other = std::thread::spawn(move || Link::connect(&address).unwrap());
/// # let (here, there) = (listener.accept()?, other.join().unwrap());
/// // In one process:
/// let service = there.serve(|request: &mut calls::Request| match request.method() {
///     "reverse" => Ok(request.payload().iter().rev().copied().collect()),
///     _ => Err(calls::Failure::no_such_method()),
/// })?;
/// // In the other one:
/// let caller = here.into_caller();
/// assert_eq!(caller.call("reverse", b"abc", Duration::from_secs(1))?, b"cba");
/// let error = caller.call("revert", b"abc", Duration::from_secs(1)).unwrap_err();
/// assert_eq!(error, calls::CallError::NoSuchMethod);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Caller {
    engine: Arc<Engine>,
    window: u32,
}

impl Link {
    /// Makes calls over this link, with [`calls::Options`](Options) as they are by default.
    pub fn into_caller(self) -> Caller {
        Options::default().caller(self)
    }
}

impl Caller {
    pub(super) fn new(link: Link, options: &Options) -> Self {
        Caller::of(Engine::new(link, options.max_calls), options)
    }

    pub(super) fn of(engine: Arc<Engine>, options: &Options) -> Self {
        Caller { engine, window: options.window }
    }

    /// Calls, and waits for the answer.
    ///
    /// The other end is told how long it may take; when the time is over it is told that nobody waits any more. Cost: a
    /// message each way, whose bytes are copied twice; no other thread, unless others wait as well.
    ///
    /// # Errors
    ///
    /// [`CallError`]; of those, [`DeadlinePassed`](CallError::DeadlinePassed), [`PeerReplaced`](CallError::PeerReplaced) and
    /// [`Closed`](CallError::Closed) leave open whether the call was executed, once or not at all.
    pub fn call(&self, method: &str, request: &[u8], timeout: Duration) -> Result<Vec<u8>, CallError> {
        self.start(method, request, timeout)?.wait()
    }

    /// Begins a call, whose answer is waited for later, by a thread or by a task. Never waits.
    ///
    /// # Errors
    ///
    /// Those of [`CallError`] that say that nothing was sent, and [`CallError::Closed`].
    pub fn start(&self, method: &str, request: &[u8], timeout: Duration) -> Result<Call, CallError> {
        Pending::begin(&self.engine, method, request, timeout, 0).map(Call)
    }

    /// Calls, and is answered in any number of parts and an end. Never waits: the parts are waited for.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use conduit::link::{Link, calls};
    /// # let address = format!("@conduit-doc-stream-{}", std::process::id());
    /// # let mut listener = Link::options().listen(&address)?;
    /// # let other = std::thread::spawn(move || Link::connect(&address).unwrap());
    /// # let (here, there) = (listener.accept()?, other.join().unwrap());
    /// let service = there.serve(|request: &mut calls::Request| {
    ///     for byte in request.payload().to_vec() {
    ///         request.send(&[byte])?;
    ///     }
    ///     Ok(b"done".to_vec())
    /// })?;
    /// let caller = here.into_caller();
    /// let mut stream = caller.stream("letters", b"abc", Duration::from_secs(1))?;
    /// let parts = stream.by_ref().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(parts.concat(), b"abc");
    /// assert_eq!(stream.end(), Some(&b"done"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start`](Caller::start).
    pub fn stream(&self, method: &str, request: &[u8], timeout: Duration) -> Result<Stream, CallError> {
        let pending = Pending::begin(&self.engine, method, request, timeout, self.window)?;
        Ok(Stream { pending, end: None })
    }

    /// What is known of the calls of this end of the link.
    pub fn metrics(&self) -> Metrics {
        self.engine.metrics()
    }

    /// What is known of the link.
    pub fn link_metrics(&self) -> link::Metrics {
        self.engine.link_metrics()
    }
}

/// What has come of a call.
enum Noted {
    Part(Vec<u8>),
    End(Result<Vec<u8>, CallError>),
}

/// A call under way, given up when it is dropped.
#[derive(Debug)]
struct Pending {
    engine: Arc<Engine>,
    id: u64,
    deadline: Deadline,
    has_ended: bool,
}

impl Pending {
    fn begin(
        engine: &Arc<Engine>,
        method: &str,
        request: &[u8],
        timeout: Duration,
        window: u32,
    ) -> Result<Self, CallError> {
        let deadline = Deadline::after(timeout);
        let id = engine.begin(method, request, deadline, window)?;
        Ok(Pending { engine: engine.clone(), id, deadline, has_ended: false })
    }

    /// Notes what came; the outcome, if that is it.
    fn note(&mut self, step: Step) -> Noted {
        match step {
            Step::Part(part, grant) => {
                if let Some(bytes) = grant {
                    self.engine.grant(self.id, bytes);
                }
                Noted::Part(part)
            }
            Step::End(outcome) => {
                self.has_ended = true;
                Noted::End(outcome)
            }
            Step::Overdue => {
                self.has_ended = true;
                self.engine.abandon(self.id, true);
                Noted::End(Err(CallError::DeadlinePassed))
            }
        }
    }

    fn wait(&mut self) -> Noted {
        loop {
            let id = self.id;
            let step =
                self.engine.wait(Want::Ours(id), Some(self.deadline), |state| state.table.step(id, futex::now()));
            // The table knows the same deadline, and says so.
            if let Some(step) = step {
                return self.note(step);
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Noted> {
        match self.engine.poll(self.id, context.waker()) {
            Some(step) => Poll::Ready(self.note(step)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.has_ended && self.engine.check_fork().is_ok() {
            self.engine.abandon(self.id, false);
        }
    }
}

/// A call that was begun: [wait](Call::wait) for its answer, or await it in async code of any runtime. Dropped, it is cancelled: the
/// other end is told, and its handler can look whether it is.
#[derive(Debug)]
#[must_use = "a call that is dropped is cancelled"]
pub struct Call(Pending);

impl Call {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`].
    pub fn wait(mut self) -> Result<Vec<u8>, CallError> {
        self.0.engine.check_fork()?;
        loop {
            // Parts that nobody has asked for are the other end's fault, and have an end.
            if let Noted::End(outcome) = self.0.wait() {
                return outcome;
            }
        }
    }

    /// Cancels it, as dropping it does.
    pub fn cancel(self) {}
}

/// As [`Call::wait`]. Polled by one task at a time; after it is ready it must not be polled again.
impl Future for Call {
    type Output = Result<Vec<u8>, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.engine.check_fork()?;
        loop {
            match self.0.poll(context) {
                Poll::Ready(Noted::End(outcome)) => return Poll::Ready(outcome),
                Poll::Ready(Noted::Part(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The parts of an answer, as they come. Dropped before the end, it is cancelled.
///
/// As an iterator it waits for each part; an error is its last item. Parts that are not taken stay where they are: the other end
/// sends no more than [`Options::window`] allows for, and other calls go on.
#[derive(Debug)]
#[must_use = "a stream that is dropped is cancelled"]
pub struct Stream {
    pending: Pending,
    end: Option<Vec<u8>>,
}

impl Stream {
    /// What the handler returned behind the last part; `None` before that, and if it has failed.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// The next part, in async code of any runtime; `None` after the end. Cancel safe.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`]. There is nothing after one.
    pub async fn next_part(&mut self) -> Option<Result<Vec<u8>, CallError>> {
        poll_fn(|context| self.poll_next_part(context)).await
    }

    /// As [`next_part`](Stream::next_part), as a poll.
    pub fn poll_next_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, CallError>>> {
        if self.pending.has_ended {
            return Poll::Ready(None);
        }
        if let Err(error) = self.pending.engine.check_fork() {
            self.pending.has_ended = true;
            return Poll::Ready(Some(Err(error)));
        }
        self.pending.poll(context).map(|noted| self.tell(noted))
    }

    fn tell(&mut self, noted: Noted) -> Option<Result<Vec<u8>, CallError>> {
        match noted {
            Noted::Part(part) => Some(Ok(part)),
            Noted::End(Ok(end)) => {
                self.end = Some(end);
                None
            }
            Noted::End(Err(error)) => Some(Err(error)),
        }
    }

    /// Cancels it, as dropping it does.
    pub fn cancel(self) {}
}

impl Iterator for Stream {
    type Item = Result<Vec<u8>, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.pending.has_ended {
            return None;
        }
        if let Err(error) = self.pending.engine.check_fork() {
            self.pending.has_ended = true;
            return Some(Err(error));
        }
        let noted = self.pending.wait();
        self.tell(noted)
    }
}
