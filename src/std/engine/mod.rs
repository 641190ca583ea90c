//! The event engine: events come in, each is answered, and goes by its priority to its topic, to handlers and to stores.

mod counter;
mod event;
mod histogram;
mod stores;

pub use counter::Counter;
pub use event::{Event, Origin};
pub use histogram::{Histogram, Snapshot};
pub use stores::{DeadLetter, DeadLetters, DeadReason, DurableLog, StoreError};
