//! From record to record through a file.

use std::io;

use super::source::{Source, Window};
use crate::tank::format::parse::{self, Fault, HEAD};

/// Why reading does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The system refused, or the file is shorter than it was.
    Io(io::Error),
    /// What is at `offset` is not what it should be.
    Fault { offset: u64, fault: Fault },
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub offset: u64,
    pub opcode: u8,
    /// Length of its body.
    pub len: u64,
}

impl Place {
    pub(crate) fn body(&self) -> u64 {
        self.offset + HEAD as u64
    }

    pub(crate) fn end(&self) -> u64 {
        self.body() + self.len
    }

    pub(crate) fn fault(&self, fault: Fault) -> Stop {
        Stop::Fault { offset: self.offset, fault }
    }
}

/// Goes through the records between two places of a source. Bodies are read when they are asked for.
#[derive(Debug)]
pub(crate) struct Walk {
    window: Window,
    at: u64,
    end: u64,
    /// Bytes that a body may take.
    limit: u64,
}

impl Walk {
    /// `end` is at most the length of the source.
    pub(crate) fn new(source: Source, start: u64, end: u64, limit: u64) -> Self {
        Walk { window: Window::new(source), at: start, end, limit }
    }

    /// The next record: all of it is there. `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Place>, Stop> {
        let rest = self.end.saturating_sub(self.at);
        if rest == 0 {
            return Ok(None);
        }
        let offset = self.at;
        let torn = |missing| Stop::Fault { offset, fault: Fault::Torn { missing } };
        let behind = rest.checked_sub(HEAD as u64).ok_or_else(|| torn(HEAD as u64 - rest))?;
        let bytes = self.window.bytes(offset, HEAD)?;
        let (opcode, len) = parse::head(bytes.try_into().unwrap_or_default());
        if opcode == 0 {
            return Err(Stop::Fault { offset, fault: Fault::NoRecord });
        }
        if len > behind {
            return Err(torn(len - behind));
        }
        let place = Place { offset, opcode, len };
        self.at = place.end();
        Ok(Some(place))
    }

    /// Has `place` be the next one again.
    pub(crate) fn back_to(&mut self, place: Place) {
        self.at = place.offset;
    }

    /// The body of a record.
    pub(crate) fn body(&mut self, place: Place) -> Result<&[u8], Stop> {
        if place.len > self.limit {
            return Err(place.fault(Fault::TooLarge { bytes: place.len, limit: self.limit }));
        }
        Ok(self.window.bytes(place.body(), place.len as usize)?)
    }

    /// The first bytes of a body, `len` if there are as many.
    pub(crate) fn prefix(&mut self, place: Place, len: u64) -> Result<&[u8], Stop> {
        Ok(self.window.bytes(place.body(), place.len.min(len).min(self.limit) as usize)?)
    }
}
