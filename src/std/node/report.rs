//! What became of a node.

use std::time::Duration;

/// What a node did until it ended: returned by [`Node::run`](super::Node::run).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Its subscriptions, in the order in which they were made.
    pub subscriptions: Vec<SubscriptionReport>,
    /// Its timers, in the order in which they were made.
    pub timers: Vec<TimerReport>,
    /// The signal that came while it ran, if one did; also if the node had been stopped otherwise just before.
    pub signal: Option<i32>,
}

/// What became of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SubscriptionReport {
    /// The topic.
    pub topic: String,
    /// Messages that the callback was called with.
    pub messages: u64,
    /// Messages that were lost, of those published while the node was subscribed.
    pub lost: u64,
    /// How often the callback panicked.
    pub panics: u64,
    /// Why the topic cannot be had as it is now, if it cannot.
    pub refused: Option<String>,
}

/// What became of a timer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TimerReport {
    /// From one deadline to the next.
    pub period: Duration,
    /// How often the callback was called.
    pub ticks: u64,
    /// Ticks that were skipped because they were late by a period or more.
    pub overruns: u64,
    /// How often the callback panicked.
    pub panics: u64,
}
