//! The end that is called.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::caller::Caller;
use super::codec::{FOREVER, Reason};
use super::engine::{Engine, Job, Want};
use super::error::{Failure, Stopped};
use super::metrics::Metrics;
use super::options::Options;
use crate::std::futex;
use crate::std::link::Link;

/// What works on calls. A closure is one.
pub trait Handler: Send + Sync + 'static {
    /// Works on a call. What it returns is the answer, or the end of a stream whose parts were [sent](Request::send).
    ///
    /// It may take as long as [`Request::remaining`] says; after that, and once [`Request::is_cancelled`], nobody waits for it.
    /// A panic is answered with [`CallError::Panicked`](super::CallError::Panicked), and counted.
    ///
    /// # Errors
    ///
    /// What the caller is told instead of an answer.
    fn handle(&self, request: &mut Request<'_>) -> Result<Vec<u8>, Failure>;
}

impl<F> Handler for F
where
    F: Fn(&mut Request<'_>) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
{
    fn handle(&self, request: &mut Request<'_>) -> Result<Vec<u8>, Failure> {
        self(request)
    }
}

/// A handler for each of several methods, by name; what has none is answered with
/// [`CallError::NoSuchMethod`](super::CallError::NoSuchMethod).
///
/// ```
/// use conduit::link::calls::Methods;
///
/// let methods = Methods::new()
///     .on("ping", |_| Ok(b"pong".to_vec()))
///     .on("len", |request| Ok(request.payload().len().to_string().into_bytes()));
/// ```
#[derive(Default)]
pub struct Methods {
    handlers: HashMap<String, Box<dyn Handler>>,
}

impl Methods {
    /// None yet.
    pub fn new() -> Self {
        Methods::default()
    }

    /// Has `handler` work on calls of the method of this name, and no other one.
    #[must_use]
    pub fn on<F>(mut self, name: &str, handler: F) -> Self
    where
        F: Fn(&mut Request<'_>) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
    {
        self.handlers.insert(name.into(), Box::new(handler));
        self
    }
}

impl std::fmt::Debug for Methods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl Handler for Methods {
    fn handle(&self, request: &mut Request<'_>) -> Result<Vec<u8>, Failure> {
        match self.handlers.get(request.method()) {
            Some(handler) => handler.handle(request),
            None => Err(Failure::no_such_method()),
        }
    }
}

/// A call to be worked on.
#[derive(Debug)]
pub struct Request<'a> {
    engine: &'a Arc<Engine>,
    job: Job,
}

impl Request<'_> {
    /// Which method is called. Empty if the caller has named none.
    pub fn method(&self) -> &str {
        &self.job.method
    }

    /// What it is called with.
    pub fn payload(&self) -> &[u8] {
        &self.job.payload
    }

    /// How long the caller still waits, by this end's clock; `None`: for ever.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.job.deadline.saturating_sub(futex::now());
        (self.job.deadline != FOREVER).then(|| Duration::from_nanos(left))
    }

    /// Whether nobody waits for the answer any more: the caller has cancelled the call, is gone, or its time is over; or this
    /// service is to stop. Where no other thread receives, this looks into the link.
    pub fn is_cancelled(&self) -> bool {
        self.check().is_err()
    }

    /// As [`is_cancelled`](Request::is_cancelled), with the reason, for a `?`.
    ///
    /// # Errors
    ///
    /// [`Stopped::Cancelled`], [`Stopped::DeadlinePassed`].
    pub fn check(&self) -> Result<(), Stopped> {
        self.engine.look(Want::Theirs(self.job.served), |_| true);
        let state = self.engine.state();
        if state.stopping { Err(Stopped::Cancelled) } else { state.table.check(self.job.served, futex::now()) }
    }

    /// Whether the caller takes parts.
    pub fn is_stream(&self) -> bool {
        self.job.window > 0
    }

    /// Sends a part of the answer; waits while the caller has as many as it has room for.
    ///
    /// # Errors
    ///
    /// [`Stopped`]: it was not sent. [`Stopped::NotAStream`], passed on with a `?`, tells the caller what to call
    /// instead. For all but [`Stopped::TooLarge`] no other one will be, either.
    pub fn send(&mut self, part: &[u8]) -> Result<(), Stopped> {
        self.engine.send_part(self.job.served, self.job.deadline, part)
    }
}

/// Works on the calls of the other end of a link, until the link comes to its end or this is dropped. That waits for handlers that are
/// at work, which find themselves [cancelled](Request::is_cancelled).
///
/// Each call is worked on once at most, also where the connection is lost and comes back: to the same process, all goes on; of
/// another one nothing is taken that was not meant for this one.
#[derive(Debug)]
pub struct Service {
    caller: Caller,
    engine: Arc<Engine>,
    workers: Vec<JoinHandle<()>>,
}

impl Link {
    /// Has `handler` work on calls of the other end, with [`calls::Options`](Options) as they are by default: one thread.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub fn serve(self, handler: impl Handler) -> std::io::Result<Service> {
        Options::default().serve(self, handler)
    }
}

impl Service {
    pub(super) fn new(link: Link, options: &Options, handler: impl Handler) -> std::io::Result<Self> {
        let engine = Engine::new(link, options.max_calls);
        engine.state().table.serve(options.queue, options.memory);
        let caller = Caller::of(engine.clone(), options);
        let mut service = Service { caller, engine, workers: Vec::new() };
        let handler = Arc::new(handler);
        for number in 0..options.workers {
            let (engine, handler) = (service.engine.clone(), handler.clone());
            let worker = move || work(number, &engine, &*handler);
            service.workers.push(std::thread::Builder::new().name("conduit-calls".into()).spawn(worker)?);
        }
        Ok(service)
    }

    /// Makes calls the other way. Handlers may, too; a clone that outlives the service keeps the link, on which nothing is served then.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What is known of the calls of this end of the link.
    pub fn metrics(&self) -> Metrics {
        self.engine.metrics()
    }

    /// Waits until the link has come to its end.
    pub fn join(mut self) {
        for worker in std::mem::take(&mut self.workers) {
            // Handlers' panics are caught.
            let _ = worker.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.engine.check_fork().is_err() {
            return;
        }
        {
            let mut state = self.engine.state();
            state.stopping = true;
            state.table.serve(0, 0);
        }
        self.engine.stir();
        let own = std::thread::current().id();
        for worker in std::mem::take(&mut self.workers) {
            // A handler that drops its own service cannot wait for itself.
            if worker.thread().id() != own {
                let _ = worker.join();
            }
        }
    }
}

/// What a worker does.
fn work(number: usize, engine: &Arc<Engine>, handler: &dyn Handler) {
    let want = Want::Work(number);
    // `None`: to be done no more.
    while let Some(job) = engine.wait(want, None, |state| {
        let is_over = state.stopping || state.table.closed().is_some();
        state.jobs.pop_front().map(Some).or(is_over.then_some(None))
    }) {
        // What is left when it is over is answered, or counted, before.
        let Some(job) = job else { return };
        // A cancellation may be right behind it.
        engine.look(want, |state| !state.table.is_full());
        let (served, deadline) = (job.served, job.deadline);
        let is_wanted = {
            let state = engine.state();
            !state.stopping && state.table.check(served, futex::now()).is_ok()
        };
        let outcome = if is_wanted {
            let mut request = Request { engine, job };
            catch_unwind(AssertUnwindSafe(|| handler.handle(&mut request))).unwrap_or_else(|_| {
                engine.state().table.counts().panicked += 1;
                Err(Failure::because(Reason::Panicked))
            })
        } else {
            // Not begun, and not to be.
            Err(Failure::because(Reason::NoHandler))
        };
        engine.answer(served, deadline, outcome);
    }
}
