//! What to play, and how.

use std::path::Path;
use std::time::Duration;

use super::Player;
use crate::tank::Error;
use crate::topic::{Overflow, Pattern};

/// What to play, and how: made by [`Player::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `start`"]
pub struct PlayerOptions {
    pub(super) domain: Option<String>,
    pub(super) topics: Vec<Pattern>,
    pub(super) exclude: Vec<Pattern>,
    pub(super) remap: Vec<(String, String)>,
    /// `None`: as fast as it goes.
    pub(super) rate: Option<f64>,
    pub(super) rounds: Option<u64>,
    pub(super) from: Duration,
    pub(super) to: Option<Duration>,
    pub(super) paused: bool,
    pub(super) wait_for: Option<Duration>,
    pub(super) overflow: Option<Overflow>,
    pub(super) depth: Option<u32>,
}

impl PlayerOptions {
    pub(super) fn new() -> Self {
        PlayerOptions {
            domain: None,
            topics: Vec::new(),
            exclude: Vec::new(),
            remap: Vec::new(),
            rate: Some(1.0),
            rounds: Some(1),
            from: Duration::ZERO,
            to: None,
            paused: false,
            wait_for: None,
            overflow: None,
            depth: None,
        }
    }

    /// The group of topics to publish in. Default: the environment's `CONDUIT_DOMAIN`, or the domain without a name.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Which topics: names, and patterns as [`Pattern`] has them. Default: all.
    pub fn topics<'a>(mut self, topics: impl IntoIterator<Item = &'a str>) -> Self {
        self.topics = topics.into_iter().map(Pattern::new).collect();
        self
    }

    /// Which of them not.
    pub fn exclude<'a>(mut self, topics: impl IntoIterator<Item = &'a str>) -> Self {
        self.exclude = topics.into_iter().map(Pattern::new).collect();
        self
    }

    /// Publishes what was recorded from one topic to another.
    pub fn remap(mut self, from: &str, to: &str) -> Self {
        self.remap.push((from.into(), to.into()));
        self
    }

    /// How fast time passes: 2 is twice as fast as it was recorded. Default 1.
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = Some(rate);
        self
    }

    /// As fast as it goes.
    pub fn as_fast_as_possible(mut self) -> Self {
        self.rate = None;
        self
    }

    /// Begins again at the end, until it was played so often; `None` is for ever. Default: once.
    pub fn rounds(mut self, rounds: Option<u64>) -> Self {
        self.rounds = rounds;
        self
    }

    /// Begins so long after the first message.
    pub fn from(mut self, time: Duration) -> Self {
        self.from = time;
        self
    }

    /// Ends so long after the first message.
    pub fn to(mut self, time: Duration) -> Self {
        self.to = Some(time);
        self
    }

    /// Begins paused: [`Player::step`] and [`Player::resume`] go on.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// Begins once each topic has a subscriber, and is an error if that takes longer than `timeout`.
    pub fn wait_for_subscribers(mut self, timeout: Duration) -> Self {
        self.wait_for = Some(timeout);
        self
    }

    /// What happens to messages that a subscriber has not received. Default: as when they were recorded, but that a topic
    /// which refused messages when it was full has its publisher wait instead.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }

    /// How many of the last messages a topic holds, as far as there is room for them in 256 MiB. Default: as when they were recorded.
    pub fn depth(mut self, messages: u32) -> Self {
        self.depth = Some(messages);
        self
    }

    /// Starts to play files, in the order of their times; those that overlap, together.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`], also for topics that are in no file; what opening a [`Recording`](crate::tank::Recording) returns, and [`Error::Topic`] if a topic
    /// cannot be published: it has a publisher, or a name that none can have.
    pub fn start<P: AsRef<Path>>(self, files: impl IntoIterator<Item = P>) -> Result<Player, Error> {
        let invalid = |option, reason: &str| Err(Error::InvalidOption { option, reason: reason.into() });
        if self.rate.is_some_and(|rate| !(1e-6..=1e6).contains(&rate)) {
            return invalid("rate", "0.000001 to 1000000 is possible");
        }
        if self.rounds == Some(0) {
            return invalid("rounds", "at least one");
        }
        if self.to.is_some_and(|to| to <= self.from) {
            return invalid("to", "it has to come after the beginning");
        }
        let files: Vec<_> = files.into_iter().map(|file| file.as_ref().to_path_buf()).collect();
        if files.is_empty() {
            return invalid("files", "there is nothing to play");
        }
        Player::start(self, files)
    }

    pub(super) fn wants(&self, topic: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| is_meant(pattern, topic));
        (self.topics.is_empty() || any(&self.topics)) && !any(&self.exclude)
    }

    /// The topic that what was recorded from `topic` goes to.
    pub(super) fn target<'a>(&'a self, topic: &'a str) -> &'a str {
        let bare = topic.strip_prefix('/').unwrap_or(topic);
        // By the name in the file before the other.
        let to = |name: &str| self.remap.iter().find(|(from, _)| from == name).map(|(_, to)| to.as_str());
        to(topic).or_else(|| to(bare)).unwrap_or(bare)
    }
}

/// Whether a topic that was recorded is one of the pattern's, by the name in the file or the one that it is played under.
pub(super) fn is_meant(pattern: &Pattern, topic: &str) -> bool {
    pattern.matches(topic) || topic.strip_prefix('/').is_some_and(|topic| pattern.matches(topic))
}
