//! Waiting for files, by inotify.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Changes on the way to a file that are followed within one look.
const CHANGES: usize = 16;

/// Hears of files that come.
#[derive(Debug)]
pub(super) struct Files {
    /// `None` if the system has none to spare.
    inotify: Option<OwnedFd>,
    watches: Vec<i32>,
}

impl Files {
    pub fn new() -> Self {
        Files { inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(), watches: Vec::new() }
    }

    pub fn fd(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref()
    }

    /// Hears of what comes in the directory from now on; false: it can't.
    pub fn watch(&mut self, directory: &Path) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let Ok(watch) = inotify::add_watch(inotify, directory, flags) else { return false };
        if !self.watches.contains(&watch) {
            self.watches.push(watch);
        }
        true
    }

    /// Whether the file is there. If not, there will be news when that changes; or `None`: there won't.
    pub fn look(&mut self, path: &Path) -> Option<bool> {
        for _ in 0..CHANGES {
            let directory = nearest(path);
            let is_watched = self.watch(&directory);
            if path.exists() {
                return Some(true);
            }
            if !is_watched {
                return None;
            }
            // Otherwise the next one on the way came before anybody listened.
            if nearest(path) == directory {
                return Some(false);
            }
        }
        None
    }

    /// What was told, which is only that it is time to look.
    pub fn hear(&self) {
        let Some(inotify) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify.as_fd(), &mut buffer);
        while reader.next().is_ok() {}
    }

    /// Nobody waits for a file.
    pub fn rest(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        for watch in self.watches.drain(..) {
            // Fails if the directory is gone.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }
}

/// The directory where something has to come first for the file to be there.
fn nearest(path: &Path) -> PathBuf {
    let directories = path.ancestors().skip(1);
    directories.filter(|path| !path.as_os_str().is_empty()).find(|path| path.is_dir()).unwrap_or(Path::new("/")).into()
}
