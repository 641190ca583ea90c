//! The event engine: events come in, each is answered, and goes by its priority to its topic, to handlers and to stores.

mod event;
mod stores;

pub use event::{Event, Origin};
pub use stores::{DeadLetter, DeadLetters, DeadReason, DurableLog, StoreError};
