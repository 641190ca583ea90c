//! A file for what each node writes, and two older ones. What cannot be written is counted: no disk stops a flow.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes after which a file is set aside.
const FULL: u64 = 10 << 20;
/// How many files there are, the one that is written included.
const FILES: u32 = 3;

/// Whether the file is set aside before `more` bytes are written to `size` that it has.
fn is_full(size: u64, more: u64) -> bool {
    size > 0 && size + more > FULL
}

/// The file's name for a node: no node's is another's, and none leads out of the directory.
pub(super) fn file_name(node: &str) -> String {
    let mut name = String::new();
    for char in node.chars() {
        match char {
            '/' | '%' | '\0' => name.push_str(&format!("%{:02X}", char as u32)),
            '.' if name.is_empty() => name.push_str("%2E"),
            _ => name.push(char),
        }
    }
    name + ".log"
}

/// One node's files.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    /// What is to be written.
    waiting: Vec<u8>,
    /// Lines of it.
    lines: u64,
    /// Lines that could not be written.
    pub lost: u64,
    is_told: bool,
}

impl Log {
    pub fn new(directory: &Path, node: &str) -> Self {
        let path = directory.join(file_name(node));
        Log { path, file: None, size: 0, waiting: Vec::new(), lines: 0, lost: 0, is_told: false }
    }

    /// To be written with the next [`flush`](Self::flush).
    pub fn line(&mut self, line: &str) {
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
        self.lines += 1;
    }

    /// Writes what is there. The first time that this fails: why.
    pub fn flush(&mut self) -> Option<io::Error> {
        if self.waiting.is_empty() {
            return None;
        }
        let error = self.write().err();
        self.waiting.clear();
        let lines = std::mem::take(&mut self.lines);
        if error.is_some() {
            self.lost += lines;
            // Opened anew the next time: it may be another one by then.
            self.file = None;
        }
        error.filter(|_| !std::mem::replace(&mut self.is_told, true))
    }

    fn write(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.open()?;
        }
        if is_full(self.size, self.waiting.len() as u64) {
            self.file = None;
            self.set_aside();
            self.open()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&self.waiting)?;
        self.size += self.waiting.len() as u64;
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        // A name that leads elsewhere, or to a pipe that nobody reads, is no log.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(&self.path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other(format!("{} is no file", self.path.display())));
        }
        self.size = about.len();
        self.file = Some(file);
        Ok(())
    }

    fn set_aside(&self) {
        // If one is not there, or can't be moved, the next one takes its place or is written on.
        for number in (0..FILES - 1).rev() {
            let _ = std::fs::rename(self.older(number), self.older(number + 1));
        }
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        if number > 0 {
            path.push(format!(".{number}"));
        }
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_set_aside_when_it_is_full() {
        assert!(!is_full(0, FULL + 1), "an empty one can't be helped");
        assert!(!is_full(FULL - 1, 1));
        assert!(is_full(FULL, 1));
    }

    #[test]
    fn no_nodes_file_is_anothers() {
        assert_eq!(file_name("camera-1.left"), "camera-1.left.log");
        assert_eq!(file_name("../x/y"), "%2E.%2Fx%2Fy.log");
        assert_ne!(file_name("a/b"), file_name("a%2Fb"));
    }

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("conduit-logs-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn there_are_three_files_and_the_oldest_goes() {
        let directory = directory("three");
        let mut log = Log::new(&directory, "node");
        let line = "x".repeat((FULL - 1) as usize);
        for number in 0..5 {
            log.line(&format!("{number}{}", &line[1..]));
            assert!(log.flush().is_none());
        }
        let first = |name: &str| std::fs::read(directory.join(name)).map(|bytes| (bytes[0], bytes.len() as u64));
        assert_eq!(first("node.log").unwrap(), (b'4', FULL));
        assert_eq!(first("node.log.1").unwrap(), (b'3', FULL));
        assert_eq!(first("node.log.2").unwrap(), (b'2', FULL));
        assert!(first("node.log.3").is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_full_disk_is_told_once_and_lines_are_counted() {
        let directory = directory("full");
        let mut log = Log::new(&directory, "node");
        for _ in 0..3 {
            // Where every write fails as on a full disk.
            log.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
            log.line("one");
            log.line("two");
            let is_first = log.lost == 0;
            assert_eq!(log.flush().map(|error| error.kind()), is_first.then_some(io::ErrorKind::StorageFull));
        }
        assert_eq!(log.lost, 6);
        log.line("there is room again");
        assert!(log.flush().is_none());
        assert_eq!(std::fs::read_to_string(directory.join("node.log")).unwrap(), "there is room again\n");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_no_file_is_not_written() {
        let directory = directory("no-file");
        std::os::unix::fs::symlink("/dev/null", directory.join("link.log")).unwrap();
        std::fs::create_dir(directory.join("directory.log")).unwrap();
        for name in ["link", "directory"] {
            let mut log = Log::new(&directory, name);
            log.line("x");
            assert!(log.flush().is_some());
            assert_eq!(log.lost, 1);
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
