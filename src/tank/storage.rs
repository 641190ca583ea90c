//! The bytes of a file, without a thought of what is in them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatvfs};
use rustix::io::Errno;

use super::Error;

/// Where a file's bytes go. A call that fails may have written a part.
pub(crate) trait Storage {
    /// Writes `bytes` at `offset`, which is the end.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Forgets everything from `len` on.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Sets room aside for the bytes from one offset to another, which the file does not grow by. Where that is not possible,
    /// nothing happens.
    fn reserve(&mut self, from: u64, to: u64) -> io::Result<()>;
    /// Bytes that are left for others to use.
    fn free(&self) -> io::Result<u64>;
}

/// A file on a disk.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: Arc<File>,
}

impl DiskFile {
    /// Makes a file, which must not exist. As long as it is open, others can tell that somebody writes to it.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path: path.into() },
            _ => Error::write(path, source),
        };
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(failed)?;
        // Where there are no locks it is only taken for a leftover meanwhile.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        // Its entry in the directory has to outlive a power failure, too.
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            Ok(()) => {}
            // Some file systems have nothing to sync there.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
            Err(error) => {
                let _ = std::fs::remove_file(path);
                return Err(failed(error));
            }
        }
        Ok(DiskFile { file: Arc::new(file) })
    }

    /// One that is there.
    pub(crate) fn of(file: Arc<File>) -> Self {
        DiskFile { file }
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }
}

impl Storage for DiskFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&mut self, from: u64, to: u64) -> io::Result<()> {
        loop {
            match fallocate(&self.file, FallocateFlags::KEEP_SIZE, from, to.saturating_sub(from)) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                result => return Ok(result?),
            }
        }
    }

    fn free(&self) -> io::Result<u64> {
        let disk = fstatvfs(&self.file)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}
