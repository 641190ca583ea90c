//! Observing the topics that arguments stand for, and those that come to match them.

use std::collections::HashSet;

use conduit::Error;
use conduit::topic::{Geometry, Observer, Start};

use crate::Context;
use crate::outcome::{Failure, Result};
use crate::output::note;
use crate::patterns::{self, Pattern, topics_of};
use crate::units;

/// Which topics are wanted, and which of them were found.
pub struct Follow {
    domain: String,
    patterns: Vec<Pattern>,
    known: HashSet<String>,
    /// Topics that could not be opened.
    failed: usize,
}

impl Follow {
    pub fn new(topics: &[String], context: &Context) -> Self {
        Follow { domain: context.domain.clone(), patterns: patterns::all(topics), known: HashSet::new(), failed: 0 }
    }

    /// Opens each topic that is wanted, there, and new. What is wrong with one is said, and keeps no other from being
    /// opened.
    pub fn open(&mut self, start: Start) -> Result<Vec<(String, Observer)>> {
        self.open_with(|_| start)
    }

    /// [`open`](Follow::open) where it begins depends on what the topic is like.
    pub fn open_with(&mut self, start: impl Fn(&Geometry) -> Start) -> Result<Vec<(String, Observer)>> {
        let mut opened = Vec::new();
        if !self.may_find_more() {
            return Ok(opened);
        }
        let has_globs = self.patterns.iter().any(|pattern| matches!(pattern, Pattern::Glob(_)));
        let there = if has_globs { topics_of(&self.domain)? } else { Vec::new() };
        for pattern in &self.patterns {
            let wanted: Vec<&String> = match pattern {
                Pattern::Name(name) => vec![name],
                glob => there.iter().filter(|topic| glob.matches(topic)).collect(),
            };
            for topic in wanted {
                if self.known.contains(topic) {
                    continue;
                }
                let opened_at_end = Observer::open_in(&self.domain, topic, Start::New);
                match opened_at_end.and_then(|observer| match start(observer.geometry()) {
                    Start::New => Ok(observer),
                    start => Observer::open_in(&self.domain, topic, start),
                }) {
                    Ok(observer) => {
                        if !observer.can_sleep() {
                            note(format_args!(
                                "{topic}: looking every 20 ms, as sleeping on it takes the right to write its file"
                            ));
                        }
                        opened.push((topic.clone(), observer));
                    }
                    Err(Error::NotFound { .. }) => continue,
                    Err(error @ (Error::InvalidTopic { .. } | Error::InvalidDomain { .. })) => return Err(error.into()),
                    Err(error) => {
                        note(format_args!("{error}"));
                        self.failed += 1;
                    }
                }
                self.known.insert(topic.clone());
            }
        }
        Ok(opened)
    }

    /// Whether there are topics that would be opened if they came.
    pub fn may_find_more(&self) -> bool {
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Name(name) => !self.known.contains(name),
            Pattern::Glob(_) => true,
        })
    }

    pub fn say_what_is_awaited(&self, context: &Context) {
        for pattern in &self.patterns {
            match pattern {
                Pattern::Name(name) if !self.known.contains(name) => {
                    note(format_args!("waiting for topic {name}{}", context.in_domain()));
                }
                Pattern::Glob(glob) if !self.known.iter().any(|topic| pattern.matches(topic)) => {
                    note(format_args!("waiting for topics that match {glob}{}", context.in_domain()));
                }
                _ => {}
            }
        }
    }

    /// An error if there is nothing to read and nothing to wait for. `ended` topics could be opened and cannot be read any
    /// more.
    pub fn check(&self, ended: usize) -> Result<()> {
        let failed = self.failed + ended;
        if failed > 0 && failed == self.known.len() && !self.may_find_more() {
            return Err(Failure::Failed(format!(
                "could not read {}",
                units::several(failed as u64, "topic", "topics")
            )));
        }
        Ok(())
    }
}
