//! What is known of the calls of a link.

/// What is known of the calls of one end of a link, since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Calls of this end that are under way.
    pub calling: usize,
    /// Calls of the other end that are worked on, or wait to be.
    pub serving: usize,
    /// Calls that this end has made.
    pub called: u64,
    /// Of those, answered.
    pub answered: u64,
    /// Of those, failed: as the other end said.
    pub failed: u64,
    /// Of those, not answered in time.
    pub overdue: u64,
    /// Of those, given up before there was an answer.
    pub cancelled: u64,
    /// Of those, lost because another process has taken the place of the one that was called.
    pub replaced: u64,
    /// Calls that the other end has made.
    pub served: u64,
    /// Of those, refused because there were too many.
    pub refused: u64,
    /// Of those, refused because nobody serves here.
    pub unserved: u64,
    /// Of those, not answered, or not worked on, because their time was over.
    pub expired: u64,
    /// Of those, not answered, or not worked on, because the other end has cancelled them or is gone.
    pub dropped: u64,
    /// Of those, ended by a panic of the handler.
    pub panicked: u64,
    /// Messages that were none of calls.
    pub malformed: u64,
    /// Messages that were meant for the process that had this end of the link before. They were not acted on.
    pub stale: u64,
    /// Messages about calls that are not, or no more, under way: the other end could not know yet, or has made them up.
    pub strays: u64,
    /// Calls with the number of one that is under way. They were not acted on.
    pub reused: u64,
    /// Parts that nobody has asked for. Their calls have failed.
    pub overruns: u64,
    /// Cancellations, grants and refusals that there was no room for: the other end does not read what it is sent.
    pub unsent: u64,
}
