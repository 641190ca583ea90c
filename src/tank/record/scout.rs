//! Finds the topics to record: those that are there, and those that come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::RecorderOptions;
use super::control::{Control, lock};
use super::feed::Feed;
use crate::std::topic::News;
use crate::topic::{self, Error, Pattern, Subscriber};

pub(super) struct Scout {
    pub options: Arc<RecorderOptions>,
    pub domain: String,
    pub control: Arc<Control>,
    /// Topics that are recorded; their subscribers follow them whatever becomes of them.
    known: BTreeSet<String>,
    news: News,
}

impl Scout {
    pub fn new(options: Arc<RecorderOptions>, domain: String, control: Arc<Control>) -> Self {
        Scout { options, domain, control, known: BTreeSet::new(), news: News::new() }
    }

    /// Joins the topics that are there, to be recorded from now on.
    pub fn begin(&mut self) -> Result<(), Error> {
        self.look(false)
    }

    /// Joins topics as they come, to be recorded from their first message on, until the recorder is stopped.
    pub fn run(mut self) {
        while !self.control.is_stopped() {
            if let Err(error) = self.look(true) {
                tracing::warn!(%error, "cannot look for topics to record");
            }
            self.news.wait();
        }
    }

    fn look(&mut self, from_first: bool) -> Result<(), Error> {
        let is_name = |pattern: &Pattern| matches!(pattern, Pattern::Name(_));
        let only_names = !self.options.topics.is_empty() && self.options.topics.iter().all(is_name);
        if only_names && self.known.len() == self.options.topics.len() {
            return Ok(());
        }
        for (_, topic) in topic::list(Some(&self.domain))? {
            if self.known.contains(&topic) || !self.options.wants(&topic) {
                continue;
            }
            let mut failed = lock(&self.control.failed);
            // What could not be joined before lost messages that nobody can count.
            let from_first = from_first && !failed.contains_key(&topic);
            let options = Subscriber::options().domain(&self.domain);
            let options = if from_first { options.all_is_new() } else { options };
            match options.open(&topic) {
                Ok(subscriber) => {
                    failed.remove(&topic);
                    tracing::info!(topic, "recording");
                    self.known.insert(topic.clone());
                    self.control.add_feed(Feed::new(topic, subscriber));
                }
                // Gone between the list and here; or not there yet.
                Err(Error::NotFound { .. }) => {}
                Err(error) => {
                    let error = error.to_string();
                    if failed.insert(topic.clone(), error.clone()).as_ref() != Some(&error) {
                        tracing::warn!(topic, error, "cannot record a topic");
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        self.control.end_scouting();
    }
}
