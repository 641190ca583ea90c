//! Bytes at a place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What is read: a file, or bytes in memory.
///
/// A file is read and not mapped, so that one which is cut in the meantime is an error and not a signal.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File {
        file: Arc<File>,
        /// When it was opened.
        len: u64,
    },
    Bytes(Arc<[u8]>),
}

impl Source {
    pub(crate) fn file(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Source::File { file: Arc::new(file), len })
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Source::File { len, .. } => *len,
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }

    pub(crate) fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Source::File { file, .. } => file.read_exact_at(buffer, offset),
            Source::Bytes(bytes) => {
                let start = usize::try_from(offset).ok();
                let found = start.and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
                buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// Calls with the bytes from `start` to `end`, a piece at a time.
    pub(crate) fn pieces(&self, start: u64, end: u64, mut with: impl FnMut(&[u8])) -> io::Result<()> {
        let mut window = Window::new(self.clone());
        let mut at = start;
        while at < end {
            let len = (end - at).min(PIECE);
            with(window.bytes(at, len as usize)?);
            at += len;
        }
        Ok(())
    }
}

/// How much is read at once of what is gone through in order.
const PIECE: u64 = 1 << 18;
/// How much is read at once of what is looked at here and there.
const GLANCE: u64 = 1 << 12;

/// A piece of a source in memory, which goes along with who reads on.
#[derive(Debug)]
pub(crate) struct Window {
    source: Source,
    start: u64,
    bytes: Vec<u8>,
    /// How much to read: more each time that it is what comes next.
    ahead: u64,
}

impl Window {
    pub(crate) fn new(source: Source) -> Self {
        Window { source, start: 0, bytes: Vec::new(), ahead: GLANCE }
    }

    /// `len` bytes at `offset`, which the caller has compared with the length of the source and with what it may take.
    pub(crate) fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let within = |window: &Self| {
            let from = usize::try_from(offset.checked_sub(window.start)?).ok()?;
            let to = from.checked_add(len)?;
            (to <= window.bytes.len()).then_some(from..to)
        };
        let range = match within(self) {
            Some(range) => range,
            None => {
                let goes_on = (self.start..=self.start + self.bytes.len() as u64).contains(&offset);
                self.ahead = if goes_on { (self.ahead * 2).min(PIECE) } else { GLANCE };
                let rest = self.source.len().saturating_sub(offset);
                let len = (len as u64).max(self.ahead.min(rest));
                self.fill(offset, len as usize)?;
                within(self).ok_or(io::ErrorKind::UnexpectedEof)?
            }
        };
        Ok(&self.bytes[range])
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        // Not what a record of unusual length took.
        if self.bytes.capacity() > len.max(1 << 22) * 2 {
            self.bytes = Vec::new();
        }
        self.bytes.resize(len, 0);
        self.start = offset;
        let read = self.source.read_exact_at(offset, &mut self.bytes);
        if read.is_err() {
            self.bytes.clear();
        }
        read
    }
}
