//! The files of a directory, which one process at a time adds to.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::cleared;
use super::journal::{Ended, Shelf, SyncFile};
use crate::tank::format::MAGIC;
use crate::tank::storage::DiskFile;
use crate::tank::{Error, recover};

/// How long somebody who has a directory is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Files `STEM-0000000001.mcap` and so on in a directory.
#[derive(Debug)]
pub(super) struct Series {
    directory: PathBuf,
    stem: &'static str,
    /// The number of the next file.
    next: u32,
    /// Held as long as this process adds files. Says the number of the last one, so that none is given twice.
    lock: File,
}

/// A file that nobody adds to.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub path: PathBuf,
    pub bytes: u64,
    /// When something was written to it last.
    pub modified: SystemTime,
}

impl Kept {
    fn of(path: PathBuf) -> Result<Self, Error> {
        let failed = |source| Error::read(&path, source);
        let metadata = std::fs::metadata(&path).map_err(failed)?;
        let modified = metadata.modified().map_err(failed)?;
        Ok(Kept { bytes: metadata.len(), modified, path })
    }

    /// What a file is that was ended just now.
    pub fn ended(Ended { path, bytes }: Ended) -> Self {
        Kept { path, bytes, modified: SystemTime::now() }
    }

    pub fn is_older(&self, age: Duration) -> bool {
        self.modified.elapsed().is_ok_and(|since| since > age)
    }
}

/// What a directory held when it was opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files that are whole now, the oldest first.
    pub files: VecDeque<Kept>,
    /// Files that were none, and were given another name.
    pub set_aside: u64,
    /// Damaged pieces of files that were given an end.
    pub damaged: u64,
}

impl Series {
    /// Makes the directory if there is none, takes it for this process, and gives those files an end whose writers were
    /// killed.
    pub fn open(directory: &Path, stem: &'static str) -> Result<(Self, Found), Error> {
        make(directory)?;
        let lock = lock_soon(directory, stem)?.ok_or_else(|| Error::DirectoryInUse { path: directory.into() })?;
        let mut found = Found::default();
        let files = files(directory, stem)?;
        let last = files.last().map_or(0, |(number, _)| *number);
        let next = last.max(last_number(&lock)).checked_add(1).ok_or_else(|| no_number(directory))?;
        for (number, path) in files {
            // The end of the last one may be there only in part: a loss of power leaves what it likes.
            let is_whole = number < last && is_ended(&path).map_err(|source| Error::read(&path, source))?;
            if is_whole || take_over(&path, &mut found)? {
                found.files.push_back(Kept::of(path)?);
            }
        }
        Ok((Series { directory: directory.into(), stem, next, lock }, found))
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Shelf for Series {
    type Storage = DiskFile;

    fn create(&mut self) -> Result<(PathBuf, DiskFile, SyncFile), Error> {
        loop {
            let (path, number) = (path_of(&self.directory, self.stem, self.next), self.next);
            self.next = number.checked_add(1).ok_or_else(|| no_number(&self.directory))?;
            let said = self.lock.write_all_at(format!("{number:010}\n").as_bytes(), 0);
            let created = said.map_err(|source| Error::write(&path, source)).and_then(|()| DiskFile::create(&path));
            match created {
                Ok(file) => {
                    // What a process did not get to remove that cleared a file of this number.
                    let _ = std::fs::remove_file(cleared::path_of(&path));
                    let synced = file.file().clone();
                    return Ok((path, file, Arc::new(move || synced.sync_data())));
                }
                // Somebody has put it there meanwhile.
                Err(Error::Exists { .. }) => {}
                Err(error) => {
                    self.next = number;
                    return Err(error);
                }
            }
        }
    }
}

fn no_number(directory: &Path) -> Error {
    let source = io::Error::new(ErrorKind::StorageFull, "all numbers of files are used: move them elsewhere");
    Error::Io { action: "begin a file in", path: directory.into(), source }
}

/// The number that was given last, if the lock's file says one.
fn last_number(lock: &File) -> u32 {
    let mut digits = [0; 10];
    let read = lock.read_exact_at(&mut digits, 0);
    let number = std::str::from_utf8(&digits).ok().filter(|_| read.is_ok()).and_then(|digits| digits.parse().ok());
    number.unwrap_or(0)
}

/// Makes a directory that is nobody else's: what is sent is nobody else's business.
fn make(directory: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| Error::Io { action: "make the directory", path: directory.into(), source })
}

/// As [`lock`], but that one who gives it back soon is waited for: who clears letters, or a process that was just killed.
fn lock_soon(directory: &Path, stem: &str) -> Result<Option<File>, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match lock(directory, stem)? {
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            taken => return Ok(taken),
        }
    }
}

/// Takes the right to add files; `None` if somebody else has it.
pub(super) fn lock(directory: &Path, stem: &str) -> Result<Option<File>, Error> {
    let path = directory.join(format!("{stem}.lock"));
    let failed = |source| Error::Io { action: "lock", path: path.clone(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
}

fn path_of(directory: &Path, stem: &str, number: u32) -> PathBuf {
    directory.join(format!("{stem}-{number:010}.mcap"))
}

/// The number of a file of this stem.
fn number_of(name: &str, stem: &str) -> Option<u32> {
    let digits = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(".mcap")?;
    (digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The files of a directory by their numbers, the oldest first.
pub(super) fn files(directory: &Path, stem: &str) -> Result<Vec<(u32, PathBuf)>, Error> {
    let failed = |source| Error::read(directory, source);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        files.extend(entry.file_name().to_str().and_then(|name| number_of(name, stem)).map(|n| (n, entry.path())));
    }
    files.sort_unstable();
    Ok(files)
}

/// Whether a file ends as one does that was finished.
pub(super) fn is_ended(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let Some(at) = file.metadata()?.len().checked_sub(MAGIC.len() as u64).filter(|at| *at > 0) else {
        return Ok(false);
    };
    let mut magic = [0; MAGIC.len()];
    file.read_exact_at(&mut magic, at)?;
    Ok(magic == MAGIC)
}

/// Gives a file an end that has none. `false` if nothing is left of it under its name.
fn take_over(path: &Path, found: &mut Found) -> Result<bool, Error> {
    let failed = |action| move |source| Error::Io { action, path: path.into(), source };
    match recover(path) {
        Ok(recovered) if recovered.was_complete => Ok(true),
        Ok(recovered) if recovered.messages() == 0 && recovered.damaged == 0 => {
            std::fs::remove_file(path).map_err(failed("remove"))?;
            Ok(false)
        }
        Ok(recovered) => {
            let (messages, cut, damaged) = (recovered.messages(), recovered.cut, recovered.damaged);
            tracing::info!(path = %path.display(), messages, cut, damaged, "took over what was not finished");
            found.damaged += damaged;
            Ok(true)
        }
        // Nothing was written to it.
        Err(_) if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) => {
            std::fs::remove_file(path).map_err(failed("remove"))?;
            Ok(false)
        }
        Err(error @ (Error::NotMcap { .. } | Error::Damaged { .. })) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".damaged");
            std::fs::rename(path, &aside).map_err(failed("rename"))?;
            found.set_aside += 1;
            tracing::error!(%error, aside = %Path::new(&aside).display(), "a file that cannot be read was set aside");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
