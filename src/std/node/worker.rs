//! A thread of a node: one sleep for all that it does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::options::Placement;
use super::report::{SubscriptionReport, TimerReport};
use super::stop::Stopper;
use super::task::{Receive, Timer};
use crate::std::futex::{self, Deadline};
use crate::std::topic::{Attachment, Bell, Error, MultiWait, watch};

/// Messages of one topic before the next has its turn.
const TURN: usize = 16;

/// What one thread does.
pub(super) struct Worker<'env> {
    /// Of the thread.
    pub(super) name: String,
    placement: Placement,
    subscriptions: Vec<Box<dyn Receive + 'env>>,
    timers: Vec<Timer<'env>>,
    waiter: MultiWait,
}

/// What a thread did.
pub(super) struct Ended {
    pub(super) subscriptions: Vec<SubscriptionReport>,
    pub(super) timers: Vec<TimerReport>,
    pub(super) result: Result<(), Error>,
}

impl<'env> Worker<'env> {
    pub(super) fn new(name: String, placement: Placement) -> Self {
        Worker { name, placement, subscriptions: Vec::new(), timers: Vec::new(), waiter: MultiWait::default() }
    }

    pub(super) fn with(self, subscriptions: Vec<Box<dyn Receive + 'env>>, timers: Vec<Timer<'env>>) -> Self {
        Worker { subscriptions, timers, ..self }
    }

    /// What ends its sleep.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        self.waiter.bell()
    }

    /// Readies the calling thread, before any callback is called.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        if !self.timers.is_empty() {
            // SAFETY: takes integers only. Sleeps end when they should, and not within the 50 us after that.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        }
        self.placement.apply(&self.name)
    }

    /// Calls back until it is told to stop; then lets go of everything.
    pub(super) fn run(mut self, stopper: &Stopper) -> Ended {
        self.subscriptions.iter_mut().for_each(|subscription| subscription.start());
        let now = futex::now();
        self.timers.iter_mut().for_each(|timer| timer.start(now));
        let result = self.work(stopper);
        Ended {
            subscriptions: self.subscriptions.into_iter().map(|subscription| subscription.end()).collect(),
            timers: self.timers.into_iter().map(Timer::end).collect(),
            result,
        }
    }

    fn work(&mut self, stopper: &Stopper) -> Result<(), Error> {
        // As of when the topics that are still to come were last looked for, and when to look again where nobody can tell.
        let mut looked = None;
        let mut look_again: Option<Deadline> = None;
        loop {
            let ticket = self.waiter.ticket();
            let awaited = self.awaited();
            let look = if awaited > 0 { watch::start_or_look() } else { None };
            let changes = (awaited > 0).then(|| watch::changes().load(Ordering::Acquire));
            let is_due = look.is_some() && look_again.is_none_or(Deadline::has_passed);
            if is_due || look.is_none() {
                look_again = look;
            }
            if changes.is_some() && (changes != looked || is_due) {
                looked = changes;
                let awaiting = self.subscriptions.iter_mut().filter(|subscription| subscription.awaited().is_some());
                awaiting.for_each(|subscription| subscription.join());
            }
            let received = self.turn(stopper);
            if stopper.is_stopped() {
                return Ok(());
            }
            // What has just been refused may have a successor already, of which nobody tells any more.
            if received || self.awaited() > awaited {
                continue;
            }
            let tick = self.timers.iter().map(Timer::next).min().map(Deadline::at);
            let places: Vec<Arc<Attachment>> =
                self.subscriptions.iter().filter_map(|subscription| subscription.place().cloned()).collect();
            self.waiter.wait(&places, ticket, changes, futex::earlier(look_again, tick))?;
        }
    }

    /// How many topics are still to come.
    fn awaited(&self) -> usize {
        self.subscriptions.iter().filter(|subscription| subscription.awaited().is_some()).count()
    }

    /// One turn for each topic; a timer that is due waits for one callback at most. Returns whether there were messages.
    fn turn(&mut self, stopper: &Stopper) -> bool {
        let Worker { subscriptions, timers, .. } = self;
        let mut received = false;
        for subscription in subscriptions {
            for _ in 0..TURN {
                run_timers(timers, stopper);
                if stopper.is_stopped() || !subscription.receive() {
                    break;
                }
                received = true;
            }
        }
        run_timers(timers, stopper);
        received
    }
}

fn run_timers(timers: &mut [Timer<'_>], stopper: &Stopper) {
    for timer in timers {
        if stopper.is_stopped() {
            return;
        }
        timer.run(futex::now());
    }
}
