//! Recordings: topics in MCAP files, which outlive whoever writes them.
//!
//! | to | use |
//! |---|---|
//! | write messages that are in no topic | [`Writer`] |
//! | record topics | [`Recorder`] |
//! | find what killed recorders left | [`leftovers`] |

mod error;
mod file;
mod format;
mod loss;
mod play;
mod read;
mod record;
mod storage;
mod write;

pub use self::write::{ChannelId, Writer, WriterOptions};

pub use self::error::Error;
pub use self::format::Compression;
pub use self::format::parse::Fault;
pub use self::loss::{Counts, NoCounts};
pub use self::play::{PlayProgress, PlayReport, Played, Player, PlayerOptions};
pub use self::read::*;
pub use self::record::{Progress, Recorder, RecorderOptions, Report, SyncPolicy, leftovers};
