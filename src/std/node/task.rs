//! What a node does when something comes: its subscriptions and timers, with what is counted of each.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::options::Placement;
use super::page::{Joined, Line};
use super::report::{SubscriptionReport, TimerReport};
use super::schedule::{Schedule, Throttle, Tick};
use crate::std::futex;
use crate::std::topic::{Attachment, Error, Name, Payload, Received, Subscriber, SubscriberOptions};

/// Callbacks of a subscription.
pub(super) type OnMessage<'env, T> = Box<dyn FnMut(Received<'_, T>) + Send + 'env>;
/// Callbacks of a timer.
pub(super) type OnTick<'env> = Box<dyn FnMut(Tick) + Send + 'env>;

/// What subscriptions and timers have in common: whose they are, where they run, and how often their callback panicked.
#[derive(Debug)]
pub(super) struct Account {
    node: Arc<str>,
    /// The topic, or the timer's period.
    pub(super) name: String,
    pub(super) placement: Placement,
    /// Where others see what is counted, once the node runs.
    pub(super) line: Option<Line>,
    panics: u64,
    panic_events: Throttle,
}

impl Account {
    pub(super) fn new(node: Arc<str>, name: String) -> Self {
        Account {
            node,
            name,
            placement: Placement::default(),
            line: None,
            panics: 0,
            panic_events: Throttle::default(),
        }
    }

    fn show_count(&self, count: u64) {
        if let Some(line) = &self.line {
            line.live().count.store(count, Ordering::Relaxed);
        }
    }

    fn show_missed(&self, missed: u64) {
        if let Some(line) = &self.line {
            line.live().missed.store(missed, Ordering::Relaxed);
        }
    }

    fn show_joined(&self, joined: Joined) {
        if let Some(line) = &self.line {
            line.set_joined(joined);
        }
    }

    /// Has others see which thread it is that calls back: this one.
    pub(super) fn show_thread(&self) {
        if let Some(line) = &self.line {
            line.live().thread.store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Ordering::Relaxed);
        }
    }

    /// Counts and tells of what a callback, or what was dropped with it, panicked with.
    #[cold]
    fn panicked(&mut self, payload: Box<dyn Any + Send>) {
        self.panics += 1;
        if let Some(line) = &self.line {
            line.live().panics.store(self.panics, Ordering::Relaxed);
        }
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        if let Some(held_back) = self.panic_events.pass(futex::now()) {
            tracing::error!(
                target: "conduit::node", node = &*self.node, callback = self.name, panics = self.panics, held_back,
                "a callback panicked: {}", text.unwrap_or("with something that is no text"),
            );
        }
        // What it panicked with may panic when it is dropped, too; that has no end.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(payload);
        }
    }

    /// Drops a callback with all that it owns.
    fn let_go(&mut self, callback: impl Sized) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(callback))) {
            self.panicked(payload);
        }
    }
}

/// A subscription, whatever it receives.
pub(super) trait Receive: Send {
    fn account(&mut self) -> &mut Account;

    /// Has others see where it stands.
    fn start(&mut self);

    /// The topic, if it is still to come.
    fn awaited(&self) -> Option<&Name>;

    /// Joins the topic, if it is there.
    fn join(&mut self);

    /// Where to wait for messages, once it has joined.
    fn place(&self) -> Option<&Arc<Attachment>>;

    /// Calls back with the next message, if there is one; returns whether there was.
    fn receive(&mut self) -> bool;

    /// Leaves the topic and drops the callback.
    fn end(self: Box<Self>) -> SubscriptionReport;
}

pub(super) struct Subscription<'env, T: Payload + ?Sized> {
    account: Account,
    name: Name,
    options: SubscriberOptions<T>,
    /// `None` while there is no topic that it could join.
    subscriber: Option<Subscriber<T>>,
    callback: OnMessage<'env, T>,
    messages: u64,
    /// By the subscribers before this one.
    lost_before: u64,
    /// Why it could not join what there is.
    refused: Option<String>,
}

impl<'env, T: Payload + ?Sized> Subscription<'env, T> {
    /// Joins the topic if there is one.
    pub(super) fn new(
        node: Arc<str>,
        topic: &str,
        options: SubscriberOptions<T>,
        callback: OnMessage<'env, T>,
    ) -> Result<Self, Error> {
        let name = options.name(topic)?;
        let subscriber = match options.clone().open(topic) {
            Ok(subscriber) => Some(subscriber),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Subscription {
            account: Account::new(node, topic.into()),
            name,
            options,
            subscriber,
            callback,
            messages: 0,
            lost_before: 0,
            refused: None,
        })
    }

    /// Leaves what cannot be used, for whatever comes next.
    #[cold]
    fn refuse(&mut self, error: &Error) {
        if let Some(subscriber) = self.subscriber.take() {
            self.lost_before = self.lost_before.wrapping_add(subscriber.lost());
        }
        let reason = error.to_string();
        if self.refused.as_ref() != Some(&reason) {
            tracing::error!(
                target: "conduit::node", node = &*self.account.node, topic = self.account.name,
                "cannot subscribe to the topic as it is: {reason}"
            );
        }
        self.account.show_joined(Joined::Refused);
        self.refused = Some(reason);
    }

    fn lost(&self) -> u64 {
        // Corrupt memory can make any loss up: it must not overflow.
        self.lost_before.wrapping_add(self.subscriber.as_ref().map_or(0, Subscriber::lost))
    }
}

impl<T: Payload + ?Sized> Receive for Subscription<'_, T> {
    fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    fn start(&mut self) {
        self.account.show_thread();
        if self.subscriber.is_some() {
            self.account.show_joined(Joined::Yes);
        }
    }

    fn awaited(&self) -> Option<&Name> {
        self.subscriber.is_none().then_some(&self.name)
    }

    fn join(&mut self) {
        match Subscriber::open_awaited(&self.name, &self.options) {
            Ok(None) => {}
            Ok(Some(subscriber)) => {
                tracing::debug!(
                    target: "conduit::node", node = &*self.account.node, topic = self.account.name, "the topic came"
                );
                self.account.show_joined(Joined::Yes);
                self.subscriber = Some(subscriber);
                self.refused = None;
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn place(&self) -> Option<&Arc<Attachment>> {
        self.subscriber.as_ref().map(Subscriber::place)
    }

    fn receive(&mut self) -> bool {
        let Self { account, subscriber, callback, messages, lost_before, .. } = self;
        let Some(subscriber) = subscriber else { return false };
        let lost = subscriber.lost();
        let received = subscriber.recv_batch(1, |message| {
            *messages += 1;
            account.show_count(*messages);
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| callback(message))) {
                account.panicked(payload);
            }
        });
        if subscriber.lost() != lost {
            account.show_missed(lost_before.wrapping_add(subscriber.lost()));
        }
        match received {
            Ok(count) => count > 0,
            Err(error) => {
                self.refuse(&error);
                false
            }
        }
    }

    fn end(self: Box<Self>) -> SubscriptionReport {
        let lost = self.lost();
        let Self { mut account, callback, messages, refused, .. } = *self;
        account.let_go(callback);
        SubscriptionReport { topic: account.name, messages, lost, panics: account.panics, refused }
    }
}

pub(super) struct Timer<'env> {
    pub(super) account: Account,
    pub(super) period: Duration,
    schedule: Schedule,
    callback: OnTick<'env>,
    ticks: u64,
    overruns: u64,
    overrun_events: Throttle,
}

impl<'env> Timer<'env> {
    pub(super) fn new(node: Arc<str>, period: Duration, callback: OnTick<'env>) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::InvalidOption { option: "period", reason: reason.into() };
        let nanoseconds = match u64::try_from(period.as_nanos()) {
            Ok(0) => return Err(invalid("a timer has time between its ticks")),
            Ok(nanoseconds) => nanoseconds,
            Err(_) => return Err(invalid("longer than 584 years is not possible")),
        };
        Ok(Timer {
            account: Account::new(node, format!("{period:?}")),
            period,
            schedule: Schedule::new(nanoseconds, 0),
            callback,
            ticks: 0,
            overruns: 0,
            overrun_events: Throttle::default(),
        })
    }

    /// Begins to count periods now.
    pub(super) fn start(&mut self, now: u64) {
        // It fits: checked when it was made.
        self.schedule = Schedule::new(self.period.as_nanos() as u64, now);
        self.account.show_thread();
    }

    /// The next deadline.
    pub(super) fn next(&self) -> u64 {
        self.schedule.next()
    }

    /// Calls back if it is due.
    pub(super) fn run(&mut self, now: u64) {
        let Some(tick) = self.schedule.take(now) else { return };
        self.ticks += 1;
        if tick.missed() > 0 {
            self.overran(tick, now);
        }
        self.account.show_count(self.ticks);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (self.callback)(tick))) {
            self.account.panicked(payload);
        }
    }

    #[cold]
    fn overran(&mut self, tick: Tick, now: u64) {
        self.overruns = self.overruns.saturating_add(tick.missed());
        self.account.show_missed(self.overruns);
        if let Some(held_back) = self.overrun_events.pass(now) {
            tracing::warn!(
                target: "conduit::node", node = &*self.account.node, timer = self.account.name, missed = tick.missed(),
                overruns = self.overruns, held_back, "a timer skipped ticks, as it was late by a period or more"
            );
        }
    }

    /// Drops the callback.
    pub(super) fn end(self) -> TimerReport {
        let Timer { mut account, period, callback, ticks, overruns, .. } = self;
        account.let_go(callback);
        TimerReport { period, ticks, overruns, panics: account.panics }
    }
}
