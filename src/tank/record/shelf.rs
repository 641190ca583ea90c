//! The recorder's files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::rotation::{is_part, part_path};
use super::sync::SyncFile;
use super::writer::Shelf;
use crate::tank::Error;
use crate::tank::format::MAGIC;
use crate::tank::storage::DiskFile;

/// Files of one name, numbered if there are several.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Whether the first has a number, too.
    numbered: bool,
    /// Numbers that others have taken meanwhile.
    skipped: u32,
}

impl Directory {
    /// Fails if there are numbered files of this name: of two recordings, nobody could tell which belong together.
    pub fn new(path: &Path, numbered: bool) -> Result<Self, Error> {
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // One that cannot be read may still take files.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if numbered && is_part(path, &entry.file_name().to_string_lossy()) {
                return Err(Error::Exists { path: entry.path() });
            }
        }
        Ok(Directory { path: path.into(), numbered, skipped: 0 })
    }
}

impl Shelf for Directory {
    type Storage = DiskFile;

    fn create(&mut self, part: u32) -> Result<(PathBuf, DiskFile, SyncFile), Error> {
        let (path, file) = loop {
            let path = match part {
                0 if !self.numbered => self.path.clone(),
                part => part_path(&self.path, part + self.skipped),
            };
            match DiskFile::create(&path) {
                // Not in the middle of a recording.
                Err(Error::Exists { .. }) if part > 0 => self.skipped += 1,
                file => break (path, file?),
            }
        };
        let synced: Arc<File> = file.file().clone();
        Ok((path, file, Arc::new(move || synced.sync_data())))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// The recordings in `directory` that have no end, and that nobody writes to: what a recorder left that was killed.
/// [`recover`](crate::tank::recover) gives them an end.
///
/// # Errors
///
/// [`Error::Io`] if the directory cannot be read.
pub fn leftovers(directory: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
    let directory = directory.as_ref();
    let failed = |source| Error::read(directory, source);
    let mut leftovers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // What cannot be opened is somebody else's.
        if path.extension().is_some_and(|extension| extension == "mcap") && is_leftover(&path).unwrap_or(false) {
            leftovers.push(path);
        }
    }
    leftovers.sort();
    Ok(leftovers)
}

fn is_leftover(path: &Path) -> io::Result<bool> {
    // Without waiting for whoever writes to it, if it is a pipe.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != MAGIC || flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
        return Ok(false);
    }
    let len = file.seek(SeekFrom::End(0))?;
    if len < 2 * MAGIC.len() as u64 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-(MAGIC.len() as i64)))?;
    file.read_exact(&mut magic)?;
    Ok(magic != MAGIC)
}
