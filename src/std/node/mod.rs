//! Nodes: callbacks for topics and timers, and the threads that call them.
//!
//! ```
//! use std::time::Duration;
//! use conduit::Node;
//! use conduit::msgs::{Imu, Vector3};
//!
//! # let domain = format!("doc-node-{}", std::process::id());
//! # let mut imus = conduit::Publisher::<Imu>::options().domain(&domain).open("imu")?;
//! let mut node = Node::new("balance")?;
//! # let mut node = Node::options().domain(&domain).build("balance")?;
//! # let stopper = node.stopper();
//! let mut command = node.advertise::<Vector3>("command")?;
//! node.subscribe::<Imu>("imu", move |imu| {
//!     let rate = imu.angular_velocity;
//!     command.publish(&Vector3 { x: -rate.x, y: -rate.y, z: 0.0 }).expect("the topic takes it");
//! #   stopper.stop();
//! })?;
//! # imus.publish(&Imu::default())?;
//! node.every(Duration::from_secs(1), |tick| println!("{} s", tick.number()))?;
//! let report = node.run()?; // until SIGINT, SIGTERM, or a `Stopper`
//! println!("{report:?}");
//! # conduit::topic::clean(Some(&domain), false)?;
//! # imus.remove()?;
//! # Ok::<(), conduit::Error>(())
//! ```

mod options;
mod page;
mod registry;
mod report;
mod schedule;
mod signals;
mod stop;
mod task;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

pub use options::{NodeOptions, Placement, Priority, Threads};
pub use page::{Joined, MAX_NODE};
pub use registry::{NodeInfo, NodeSubscription, NodeTimer, Removed, clean, inspect, list};
pub use report::{Report, SubscriptionReport, TimerReport};
pub use schedule::Tick;
pub use stop::Stopper;

use crate::std::futex;
use crate::std::topic::{Error, Payload, Publisher, PublisherOptions, Received, Subscriber, SubscriberOptions};
use page::{Card, Kind};
use registry::Registration;
use signals::Signals;
use stop::{ENDS, StopOnDrop};
use task::{Account, Receive, Subscription, Timer};
use worker::{Ended, Worker};

/// Callbacks for topics and timers, and the threads that call them: see the [module](self).
///
/// Callbacks own what is moved into them, and may borrow what was declared before the node (`'env`), such as a `Mutex` that
/// several of them share. A callback is called by one thread, never by two at a time,
/// and with [`Threads::One`] no callback is called while another is.
///
/// A callback that panics is contained: the panic is counted, told by `tracing` (and by the panic hook, which prints it
/// unless the application says otherwise), and the node goes on. The message or tick counts as called back. What the
/// callback owns stays as the panic left it; a `Mutex` that it had locked is poisoned for those who lock it next. Where
/// panics abort (`panic = "abort"`), they do here.
///
/// A callback that forks must not return in the child.
pub struct Node<'env> {
    name: Arc<str>,
    domain: String,
    options: NodeOptions,
    stopper: Stopper,
    subscriptions: Vec<Box<dyn Receive + 'env>>,
    timers: Vec<Timer<'env>>,
    publications: Vec<String>,
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl<'env> Node<'env> {
    /// A node with the default options; nothing runs yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidNode`], [`Error::InvalidDomain`].
    pub fn new(name: &str) -> Result<Self, Error> {
        Self::options().build(name)
    }

    /// Options to make the node with.
    pub fn options() -> NodeOptions {
        NodeOptions::new()
    }

    fn with(name: &str, domain: String, options: NodeOptions) -> Self {
        Node {
            name: name.into(),
            domain,
            options,
            stopper: Stopper::new(),
            subscriptions: Vec::new(),
            timers: Vec::new(),
            publications: Vec::new(),
        }
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the node, from wherever it is called.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Has `callback` called with each message of `topic` from now on. If there is no such topic yet, it waits for it, and
    /// begins with the topic's first message; other subscriptions and timers don't wait for that.
    ///
    /// What is received is lent for the length of the call, in place where the topic's slots allow it.
    ///
    /// With [`Threads::Each`], the [`Placement`] that is returned is the thread's.
    ///
    /// # Errors
    ///
    /// What [`SubscriberOptions::open`] names, but no [`Error::NotFound`]. A topic that comes later and cannot be
    /// subscribed to is told of by `tracing` and in the [`Report`], and the subscription waits for what replaces it.
    pub fn subscribe<T: Payload + ?Sized + 'env>(
        &mut self,
        topic: &str,
        callback: impl FnMut(Received<'_, T>) + Send + 'env,
    ) -> Result<&mut Placement, Error> {
        self.subscribe_with(topic, Subscriber::options(), callback)
    }

    /// [`subscribe`](Node::subscribe) with options; their domain is the node's.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Node::subscribe).
    pub fn subscribe_with<T: Payload + ?Sized + 'env>(
        &mut self,
        topic: &str,
        options: SubscriberOptions<T>,
        callback: impl FnMut(Received<'_, T>) + Send + 'env,
    ) -> Result<&mut Placement, Error> {
        let options = options.domain(&self.domain);
        let subscription = Subscription::new(self.name.clone(), topic, options, Box::new(callback))?;
        self.subscriptions.push(Box::new(subscription));
        let at = self.subscriptions.len() - 1;
        Ok(&mut self.subscriptions[at].account().placement)
    }

    /// Has `callback` called each `period`. Deadlines are absolute: the n-th tick is due n periods after the node began to
    /// run, however late those before it were. A tick that is late by a period or more is skipped, counted as an overrun, and
    /// the next one is [told](Tick::missed) of it.
    ///
    /// With [`Threads::Each`], the [`Placement`] that is returned is the thread's.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] if the period is 0, or longer than 584 years.
    pub fn every(
        &mut self,
        period: Duration,
        callback: impl FnMut(Tick) + Send + 'env,
    ) -> Result<&mut Placement, Error> {
        self.timers.push(Timer::new(self.name.clone(), period, Box::new(callback))?);
        let at = self.timers.len() - 1;
        Ok(&mut self.timers[at].account.placement)
    }

    /// A publisher for the node's callbacks: its domain is the node's, and waits for room end when the node stops
    /// ([`Publisher::stop_waiting_when`]). Closed when whoever owns it drops it, as a callback does that it was moved into.
    ///
    /// # Errors
    ///
    /// As [`Publisher::open`].
    pub fn advertise<T: Payload + ?Sized>(&mut self, topic: &str) -> Result<Publisher<T>, Error> {
        self.advertise_with(topic, Publisher::options())
    }

    /// [`advertise`](Node::advertise) with options; their domain is the node's.
    ///
    /// # Errors
    ///
    /// As [`PublisherOptions::open`].
    pub fn advertise_with<T: Payload + ?Sized>(
        &mut self,
        topic: &str,
        options: PublisherOptions<T>,
    ) -> Result<Publisher<T>, Error> {
        let mut publisher = options.domain(&self.domain).open(topic)?;
        publisher.stop_waiting_when(self.stopper.flag());
        self.publications.push(topic.into());
        Ok(publisher)
    }

    /// Calls back until a signal (SIGINT, SIGTERM) comes or a [`Stopper`] says so. Then the callbacks that run are finished,
    /// no other begins, subscriptions and callbacks are dropped, each by the thread that called them, and with the callbacks
    /// the publishers that they own.
    ///
    /// The signals are handled as before once it returns. A second one while it stops ends the process, as does each by
    /// default. One that the process ignores stays ignored.
    ///
    /// # Errors
    ///
    /// Before any callback is called: [`Error::NodeExists`] if a node of this name runs in the domain; [`Error::SignalsTaken`];
    /// [`Error::InvalidOption`] if something of a node with [`Threads::One`] has a placement of its own; [`Error::System`] if a
    /// thread cannot be started or placed, or the node's file cannot be made. Later: [`Error::System`] if the system refuses to
    /// wait.
    pub fn run(mut self) -> Result<Report, Error> {
        self.check_placements()?;
        let signals = match self.options.signals {
            true => Some(Signals::take().ok_or_else(|| Error::SignalsTaken { node: self.name.to_string() })?),
            false => None,
        };
        let registration = self.register()?;
        let workers = self.workers();
        let (name, stopper) = (&*self.name, &self.stopper);
        tracing::info!(target: "conduit::node", node = name, domain = self.domain, "runs");
        let result = run_all(workers, stopper, signals.as_ref());
        drop(registration);
        let signal = signals.and_then(Signals::give_back);
        match &result {
            Ok(_) => tracing::info!(target: "conduit::node", node = name, signal, "has ended"),
            Err(error) => tracing::error!(target: "conduit::node", node = name, "has ended: {error}"),
        }
        Ok(Report { signal, ..result? })
    }

    fn accounts(&mut self) -> impl Iterator<Item = (Kind, &mut Account)> {
        let subscriptions = self.subscriptions.iter_mut().map(|task| (Kind::Subscription, task.account()));
        subscriptions.chain(self.timers.iter_mut().map(|timer| (Kind::Timer(timer.period), &mut timer.account)))
    }

    fn check_placements(&mut self) -> Result<(), Error> {
        let threads = self.options.threads;
        for (_, account) in self.accounts().filter(|(_, account)| !account.placement.is_default()) {
            account.placement.check()?;
            if threads == Threads::One {
                let name = &account.name;
                let reason = format!("{name} has a placement of its own, but no thread: `Threads::Each` gives it one");
                return Err(Error::InvalidOption { option: "threads", reason });
            }
        }
        Ok(())
    }

    /// Has others see the node, and what is counted of each subscription and timer.
    fn register(&mut self) -> Result<Registration, Error> {
        let mut entries: Vec<_> = self.accounts().map(|(kind, account)| (kind, account.name.clone())).collect();
        entries.extend(self.publications.iter().map(|topic| (Kind::Publication, topic.clone())));
        let registration = Registration::new(&Card {
            domain: self.domain.clone(),
            name: self.name.to_string(),
            pid: std::process::id(),
            threads: self.options.threads,
            started_real: futex::real_now(),
            started: futex::now(),
            entries,
        })?;
        for ((_, account), line) in self.accounts().zip(registration.lines()) {
            account.line = Some(line);
        }
        Ok(registration)
    }

    /// What each of its threads is to do.
    fn workers(&mut self) -> Vec<Worker<'env>> {
        let (name, common) = (self.name.clone(), self.options.placement);
        let (subscriptions, timers) = (std::mem::take(&mut self.subscriptions), std::mem::take(&mut self.timers));
        if self.options.threads == Threads::One {
            let is_needed = !(subscriptions.is_empty() && timers.is_empty());
            let worker = Worker::new(name.to_string(), common).with(subscriptions, timers);
            return is_needed.then_some(worker).into_iter().collect();
        }
        let worker_of =
            |account: &Account| Worker::new(format!("{name}/{}", account.name), account.placement.or(common));
        let subscriptions = subscriptions.into_iter().map(|mut subscription| {
            let worker = worker_of(subscription.account());
            worker.with(vec![subscription], Vec::new())
        });
        let timers = timers.into_iter().map(|timer| worker_of(&timer.account).with(Vec::new(), vec![timer]));
        subscriptions.chain(timers).collect()
    }
}

/// Has each worker run in a thread of its own until the node is to end.
fn run_all(workers: Vec<Worker<'_>>, stopper: &Stopper, signals: Option<&Signals>) -> Result<Report, Error> {
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(stopper);
        // A thread says that it is ready, and begins when it is told to; it is not if this ends before.
        let (ready, prepared) = channel();
        let mut threads = Vec::with_capacity(workers.len());
        for worker in workers {
            let ready = ready.clone();
            let (begin, told) = channel::<()>();
            stopper.ring_with(worker.bell().clone());
            let name = worker.name.clone();
            let body = move || {
                let _stop = StopOnDrop(stopper);
                let result = worker.prepare();
                let is_ready = result.is_ok();
                // Fails if nobody waits for it any more.
                let _ = ready.send(result);
                (is_ready && told.recv().is_ok()).then(|| worker.run(stopper))
            };
            let thread = std::thread::Builder::new().name(name.clone()).spawn_scoped(scope, body);
            let thread = thread.map_err(|source| Error::System { action: "start a thread for", path: name, source })?;
            threads.push((thread, begin));
        }
        drop(ready);
        prepared.iter().take(threads.len()).collect::<Result<(), Error>>()?;
        let threads: Vec<_> = threads
            .into_iter()
            .map(|(thread, begin)| {
                // It waits for this, unless it has ended.
                let _ = begin.send(());
                thread
            })
            .collect();
        wait_for_the_end(stopper, signals);
        let mut report = Report::default();
        let mut failed = None;
        for thread in threads {
            match thread.join() {
                Ok(Some(Ended { subscriptions, timers, result })) => {
                    report.subscriptions.extend(subscriptions);
                    report.timers.extend(timers);
                    failed = failed.or(result.err());
                }
                Ok(None) => {}
                // Not a callback's, which are contained.
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        failed.map_or(Ok(report), Err)
    })
}

fn wait_for_the_end(stopper: &Stopper, signals: Option<&Signals>) {
    loop {
        let ticket = ENDS.ticket();
        if signals.is_some_and(|signals| signals.came().is_some()) {
            stopper.stop();
        }
        if stopper.is_stopped() {
            return;
        }
        ENDS.wait(ticket);
    }
}
