//! Sending events.

pub mod outbox;
