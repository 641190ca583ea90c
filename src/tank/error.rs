//! What can go wrong with a recording, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value that cannot work.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// There is a file where one was to be made.
    #[error("{} exists already, and no recording is overwritten: choose another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The disk has less space left than it must keep.
    #[error(
        "the disk of {} has {:.1} MiB left, and is to keep {:.1}: the recording ended there, complete",
        path.display(), *free as f64 / 1_048_576.0, *min_free as f64 / 1_048_576.0
    )]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// Bytes that are left.
        free: u64,
        /// Bytes that must be left.
        min_free: u64,
    },
    /// Messages could not be written, and are lost.
    #[error("{messages} messages could not be written to {}, which goes without them: {source}", path.display())]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// How many.
        messages: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The system could not read or write a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody writes to the file.
    #[error("{} is being written: wait until its recorder is done", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Another process has the directory.
    #[error("{} is another process's: stop that, or choose another directory", path.display())]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
    },
    /// What is said of a dead letter cannot be read.
    #[error("{}: letter {id} is none that this version can read", path.display())]
    Letter {
        /// The file.
        path: PathBuf,
        /// The letter.
        id: crate::tank::LetterId,
    },
    /// It does not begin as an MCAP file does.
    #[error("{} is no MCAP file", path.display())]
    NotMcap {
        /// The file.
        path: PathBuf,
    },
    /// A place in the file is not as it should be.
    #[error("{}, byte {offset}: {fault}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        fault: crate::tank::Fault,
    },
    /// The system could not do something that has no file.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody has come to receive a topic that is to be played.
    #[error("topic {topic} has no subscriber: start it, or play without waiting for one")]
    NoSubscriber {
        /// The topic.
        topic: String,
    },
    /// A topic cannot be used.
    #[error(transparent)]
    Topic(#[from] crate::topic::Error),
}

impl Error {
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Error::Io { action: "write", path: path.into(), source }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Error::Io { action: "read", path: path.into(), source }
    }
}
