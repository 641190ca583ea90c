//! What topics do: an observer of each counts in a thread of its own, and who subscribes is looked up when it is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use conduit::Error;
use conduit::topic::{Start, TopicInfo, inspect};

use crate::follow::Follow;
use crate::hz::{Sample, observe_in_thread};
use crate::outcome::Result;
use crate::{Context, describe};

pub struct Topics {
    follow: Follow,
    domain: String,
    counted: BTreeMap<String, Counted>,
}

struct Counted {
    counts: Arc<Mutex<Counts>>,
    /// When they were looked at last.
    since: Instant,
}

/// What came since the last look.
#[derive(Clone, Copy, Default)]
struct Counts {
    seen: u64,
    bytes: u64,
    /// Messages that the observer was too slow for.
    missed: u64,
    ended: bool,
}

impl Counts {
    fn add(&mut self, sample: Option<Sample>) {
        match sample {
            Some(sample) => {
                self.seen += 1;
                self.bytes += sample.bytes;
                self.missed = self.missed.saturating_add(sample.lost);
            }
            None => self.ended = true,
        }
    }

    /// Messages a second, and bytes: those of messages that were missed are as those of the others.
    fn rates(&self, span: Duration) -> (f64, f64) {
        let seconds = span.as_secs_f64();
        if self.seen == 0 || seconds <= 0.0 {
            return (0.0, 0.0);
        }
        let all = (self.seen + self.missed) as f64;
        (all / seconds, self.bytes as f64 * (all / self.seen as f64) / seconds)
    }
}

/// What a topic did since the last look, and how it is.
pub struct TopicRow {
    pub topic: String,
    /// `None` if it cannot be read.
    pub rates: Option<(f64, f64)>,
    pub missed: u64,
    /// What it is like, or what is wrong with it.
    pub state: std::result::Result<TopicState, String>,
}

pub struct TopicState {
    pub published: u64,
    pub publisher: &'static str,
    pub subscribers: usize,
    /// Of the subscriber that is the farthest behind.
    pub lag: u64,
    /// By all subscribers that there are.
    pub lost: u64,
}

impl TopicState {
    fn of(info: &TopicInfo) -> Self {
        TopicState {
            published: info.published,
            publisher: describe::state(info.writer),
            subscribers: info.subscribers.len(),
            lag: info.subscribers.iter().map(|subscriber| subscriber.lag).max().unwrap_or(0),
            lost: info.subscribers.iter().fold(0, |sum, subscriber| sum.saturating_add(subscriber.lost)),
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Topics {
    /// Those that match, or all of the domain.
    pub fn new(wanted: &[String], context: &Context) -> Result<Self> {
        let all = ["**".to_string()];
        let follow = Follow::new(if wanted.is_empty() { &all } else { wanted }, context);
        let mut topics = Topics { follow, domain: context.domain.clone(), counted: BTreeMap::new() };
        topics.open()?;
        if !wanted.is_empty() {
            topics.follow.say_what_is_awaited(context);
        }
        Ok(topics)
    }

    /// Counts from now on what has come to match.
    pub fn open(&mut self) -> Result<()> {
        for (topic, observer) in self.follow.open(Start::New)? {
            let counts = Arc::new(Mutex::new(Counts::default()));
            let there = counts.clone();
            observe_in_thread(observer, topic.clone(), move |sample| lock(&there).add(sample))?;
            self.counted.insert(topic, Counted { counts, since: Instant::now() });
        }
        Ok(())
    }

    /// An error if there is nothing to look at and nothing to wait for.
    pub fn check(&self) -> Result<()> {
        self.follow.check(self.counted.values().filter(|counted| lock(&counted.counts).ended).count())
    }

    /// What each did since the last look; those that are gone are left out.
    pub fn look(&mut self) -> Result<Vec<TopicRow>> {
        let mut rows = Vec::new();
        for (topic, counted) in &mut self.counted {
            let now = Instant::now();
            let counts = {
                let mut counts = lock(&counted.counts);
                let kept = Counts { ended: counts.ended, ..Counts::default() };
                std::mem::replace(&mut *counts, kept)
            };
            let span = now.saturating_duration_since(std::mem::replace(&mut counted.since, now));
            let state = match inspect(Some(&self.domain), topic) {
                Ok(info) => Ok(TopicState::of(&info)),
                Err(Error::NotFound { .. }) => continue,
                Err(error) => Err(error.to_string()),
            };
            let rates = (!counts.ended).then(|| counts.rates(span));
            rows.push(TopicRow { topic: topic.clone(), rates, missed: counts.missed, state });
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_counts_as_if_it_were_as_long_as_the_rest() {
        let mut counts = Counts::default();
        let sample = |bytes, lost| Some(Sample { arrived: 0, published: None, bytes, lost });
        assert_eq!(counts.rates(Duration::from_secs(1)), (0.0, 0.0));
        counts.add(sample(100, 0));
        counts.add(sample(300, 2));
        assert_eq!(counts.rates(Duration::from_secs(2)), (2.0, 400.0));
        assert_eq!(counts.rates(Duration::ZERO), (0.0, 0.0));
        counts.add(None);
        assert!(counts.ended);
    }
}
