//! What is done with events beside publishing them.

use std::error::Error;
use std::fmt;

use super::event::Event;

/// Does something with events: by [`EngineOptions::handler`](super::EngineOptions::handler) those of some topics. Closures are
/// handlers.
///
/// Called by the engine's workers, of which two may have events of the same topic at a time: one those of critical and high
/// priority, one the others.
pub trait Handler: Send + Sync {
    /// Handles an event. A panic is contained: it counts as [`Failure::Reject`].
    ///
    /// # Errors
    ///
    /// What is to become of the event.
    fn handle(&self, event: &Event<'_>) -> Result<(), Failure>;
}

impl<F: Fn(&Event<'_>) -> Result<(), Failure> + Send + Sync> Handler for F {
    fn handle(&self, event: &Event<'_>) -> Result<(), Failure> {
        self(event)
    }
}

impl fmt::Debug for dyn Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

/// Why a handler did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// It may work later: the event is tried again, and then kept with the dead letters.
    Retry(Box<dyn Error + Send + Sync>),
    /// It will not work: the event is kept with the dead letters.
    Reject(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure that may be over later.
    pub fn retry(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Failure::Retry(error.into())
    }

    /// A failure for good.
    pub fn reject(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Failure::Reject(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Retry(error) | Failure::Reject(error)) = self;
        error.fmt(f)
    }
}
