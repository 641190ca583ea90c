//! What an end of calls is made with.

use super::{Caller, Handler, Service};
use crate::std::link::Link;

/// What an end of calls is made with.
///
/// ```
/// use conduit::link::calls;
///
/// let options = calls::Options::default().workers(2).queue(100).max_calls(10).window(1 << 20);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) workers: usize,
    pub(super) queue: usize,
    pub(super) memory: usize,
    pub(super) max_calls: usize,
    pub(super) window: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { workers: 1, queue: 1024, memory: 64 << 20, max_calls: 4096, window: 64 << 10 }
    }
}

impl Options {
    /// How many threads work on calls, 1 at least. One thread receives and works, without handing over: the fastest for
    /// handlers that take no time. While it works, and does not itself wait for something of this end, nothing is received but
    /// for callers. Default: 1.
    pub fn workers(mut self, threads: usize) -> Self {
        self.workers = threads.max(1);
        self
    }

    /// How many calls of the other end may be worked on or wait to be, 1 at least. Workers leave further ones on the link; where
    /// something else receives, they are refused with [`CallError::Busy`](super::CallError::Busy). Default: 1024.
    pub fn queue(mut self, calls: usize) -> Self {
        self.queue = calls.max(1);
        self
    }

    /// How many bytes the requests of those calls may have together; one may always be there. Further ones are refused as those that
    /// are too many are. Default: 64 MiB.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// How many calls of this end may be under way. Default: 4096.
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.max_calls = calls;
        self
    }

    /// How many bytes of parts of one stream may be on their way, or not taken yet; each part counts 64 beside its own, and one
    /// may go beyond. It is what a stream that nobody reads takes in memory. Default: 64 KiB.
    pub fn window(mut self, bytes: u32) -> Self {
        self.window = bytes.max(1);
        self
    }

    /// This end calls, and serves nothing. There is no thread for it.
    pub fn caller(self, link: Link) -> Caller {
        Caller::new(link, &self)
    }

    /// This end works on calls, and can make some.
    ///
    /// # Errors
    ///
    /// The system has no thread.
    pub fn serve(self, link: Link, handler: impl Handler) -> std::io::Result<Service> {
        Service::new(link, &self, handler)
    }
}
