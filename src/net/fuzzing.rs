//! What the fuzzer needs to get at the [session](super::session), which is nobody else's: `cfg(fuzzing)`, set by `fuzz/run` alone.

use super::session::{self, Sink};
use crate::frame::Event;

/// A session.
#[derive(Debug)]
pub struct Session(session::Session);

/// What stopped a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// There have to be so many bytes before it is worth another try.
    Incomplete(usize),
    /// Anything that it goes on behind, in words.
    Frame(String),
    /// Nothing behind this can be trusted, in words.
    Fault(String),
}

struct Told<F>(F);

impl<F: FnMut(usize, &Event<'_>)> Sink for Told<F> {
    fn add(&mut self, at: usize, event: &Event<'_>) {
        self.0(at, event);
    }
}

impl Session {
    /// Of frames of at most so many bytes.
    pub fn new(max_len: usize) -> Self {
        Session(session::Session::new(max_len))
    }

    /// Bytes of the stream that were understood.
    pub fn offset(&self) -> u64 {
        self.0.offset()
    }

    /// Reads frames from byte `at` of the buffer on, as the server does; tells of each event, and where its topic is.
    pub fn read(&mut self, bytes: &[u8], at: &mut usize, each: impl FnMut(usize, &Event<'_>)) -> Stop {
        match self.0.read(bytes, at, &mut Told(each)) {
            session::Stop::Incomplete { need } => Stop::Incomplete(need),
            fault @ session::Stop::Fault { .. } => Stop::Fault(format!("{fault:?}")),
            frame => Stop::Frame(format!("{frame:?}")),
        }
    }
}
