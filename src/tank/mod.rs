//! Recordings: topics in MCAP files, which outlive whoever writes them.
//!
//! | to | use |
//! |---|---|
//! | write messages that are in no topic | [`Writer`] |
//! | record topics | [`Recorder`] |
//! | publish what was recorded | [`Player`] |
//! | read what was recorded, by whomever | [`Recording`] |
//! | find what killed recorders left, and give it an end | [`leftovers`], [`recover`] |
//! | know whether a file is all that it should be | [`check`] |
//! | keep events beyond the end of the process | [`EventLog`] |
//! | keep what could not be processed, and look at it | [`DeadLetterStore`], [`DeadLetterBox`] |
//!
//! The files are MCAP, which other tools read, too. What a recording promises is in `docs/guarantees.md`.

mod check;
mod error;
mod events;
mod file;
mod format;
mod loss;
mod play;
mod read;
mod record;
mod recover;
#[cfg(test)]
mod small_disk;
mod storage;
mod write;

pub use self::write::{ChannelId, Writer, WriterOptions};

pub use self::check::{Checked, Finding, check};
pub use self::error::Error;
pub use self::events::*;
pub use self::format::Compression;
pub use self::format::parse::Fault;
pub use self::loss::{Counts, NoCounts};
pub use self::play::{PlayProgress, PlayReport, Played, Player, PlayerOptions};
pub use self::read::*;
pub use self::record::{Progress, Recorder, RecorderOptions, Report, SyncPolicy, leftovers};
pub use self::recover::{Recovered, recover};
