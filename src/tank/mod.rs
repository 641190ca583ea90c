//! Recordings: topics in MCAP files, which outlive whoever writes them.
//!
//! | to | use |
//! |---|---|
//! | record topics | [`Recorder`] |
//! | find what killed recorders left | [`leftovers`] |

mod error;
mod file;
mod format;
mod record;
mod storage;

pub use self::error::Error;
pub use self::format::Compression;
pub use self::record::{Counts, Progress, Recorder, RecorderOptions, Report, SyncPolicy, leftovers};
