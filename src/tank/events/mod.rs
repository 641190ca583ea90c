//! Events and dead letters on disk: what the [engine](crate::engine) keeps beyond topics, as directories of recordings. What
//! is where in them is in `docs/event-log.md`.

mod channels;
mod cleared;
mod facts;
mod journal;
mod letter_box;
mod letters;
mod log;
mod read;
mod series;
mod sync;
#[cfg(test)]
mod tests;

pub use self::letter_box::{Cleared, DeadLetterBox, Letter, LetterFilter, LetterId, Letters, ParseLetterIdError};
pub use self::letters::{DeadLetterStore, DeadLetterStoreOptions, LetterCounts};
pub use self::log::{EventLog, EventLogCounts, EventLogOptions, EventSync};
