//! The calls in flight at one end of a link, both ways. Pure: messages and the time are handed in, and what is to be done comes out.

use std::collections::{HashMap, VecDeque};

use super::codec::{Body, FOREVER, Malformed, Message, Reason};
use super::error::{CallError, Stopped};
use super::metrics::Metrics;
use crate::std::link::Ending;

/// What a part counts for beside its bytes, so that empty ones are not for nothing.
pub(super) const OVERHEAD: u64 = 64;

/// Names a call of the other end, also behind its end: a number may be given anew once another peer is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Served {
    pub(super) era: u64,
    pub(super) id: u64,
}

/// What a message asks for.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Effect<'a> {
    Nothing,
    /// Whoever waits for this call has something.
    Ours(u64),
    /// Whoever works on this call may go on, or has to stop.
    Theirs(Served),
    /// To be worked on.
    Request {
        served: Served,
        deadline: u64,
        window: u32,
        method: &'a str,
        payload: &'a [u8],
    },
    /// To be answered so.
    Refuse {
        id: u64,
        reason: Reason,
    },
}

/// What there is of a call.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A part, and how many bytes of others may come in the place of those that were taken, once that is worth a message.
    Part(Vec<u8>, Option<u32>),
    /// The end. The call is no more.
    End(Result<Vec<u8>, CallError>),
    /// The time is over, which the other end is to be told. The call is no more.
    Overdue,
}

/// A call of this end.
#[derive(Debug)]
struct Ours {
    deadline: u64,
    window: u64,
    /// Bytes of parts that were asked for, and that have come; each with what a part costs beside.
    granted: u64,
    received: u64,
    /// Taken by the caller and not granted anew.
    taken: u64,
    parts: VecDeque<Vec<u8>>,
    outcome: Option<Result<Vec<u8>, CallError>>,
}

/// A call of the other end.
#[derive(Debug)]
struct Theirs {
    deadline: u64,
    /// Bytes of its request.
    len: usize,
    is_stream: bool,
    granted: u64,
    sent: u64,
    is_cancelled: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    own: u64,
    peer: u64,
    /// How many peers there were before.
    era: u64,
    next: u64,
    max_ours: usize,
    /// 0: nobody works on them.
    max_theirs: usize,
    /// Bytes of the requests of all of them, and how many they may be.
    bytes: usize,
    max_bytes: usize,
    ours: HashMap<u64, Ours>,
    theirs: HashMap<u64, Theirs>,
    closed: Option<CallError>,
    counts: Metrics,
}

impl Table {
    pub(super) fn new(own: u64, peer: u64, max_ours: usize) -> Self {
        Table {
            own,
            peer,
            era: 0,
            next: 0,
            max_ours,
            max_theirs: 0,
            bytes: 0,
            max_bytes: 0,
            ours: HashMap::new(),
            theirs: HashMap::new(),
            closed: None,
            counts: Metrics::default(),
        }
    }

    /// Takes so many calls of the other end at a time from now on, with so many bytes.
    pub(super) fn serve(&mut self, max: usize, max_bytes: usize) {
        (self.max_theirs, self.max_bytes) = (max, max_bytes);
    }

    /// Whether one more might be refused.
    pub(super) fn is_full(&self) -> bool {
        self.theirs.len() >= self.max_theirs || self.bytes >= self.max_bytes
    }

    pub(super) fn counts(&mut self) -> &mut Metrics {
        self.counts.calling = self.ours.len();
        self.counts.serving = self.theirs.len();
        &mut self.counts
    }

    pub(super) fn peer(&self) -> u64 {
        self.peer
    }

    /// Why nothing comes any more, if so.
    pub(super) fn closed(&self) -> Option<&CallError> {
        self.closed.as_ref()
    }

    /// A new call, to be sent to the peer that is named. With a window of 0 there are to be no parts.
    pub(super) fn begin(&mut self, deadline: u64, window: u32) -> Result<(u64, u64), CallError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if self.ours.len() >= self.max_ours {
            return Err(CallError::TooMany { max: self.max_ours });
        }
        self.next += 1;
        self.counts.called += 1;
        let window = u64::from(window);
        let ours =
            Ours { deadline, window, granted: window, received: 0, taken: 0, parts: VecDeque::new(), outcome: None };
        self.ours.insert(self.next, ours);
        Ok((self.next, self.peer))
    }

    /// What there is of a call; `None`: nothing yet.
    pub(super) fn step(&mut self, id: u64, now: u64) -> Option<Step> {
        let Some(ours) = self.ours.get_mut(&id) else {
            // Its end was told already.
            return Some(Step::End(Err(CallError::Cancelled)));
        };
        if let Some(part) = ours.parts.pop_front() {
            ours.taken += part.len() as u64 + OVERHEAD;
            let is_worth_it = ours.taken >= ours.window.div_ceil(2) && ours.outcome.is_none();
            let grant = is_worth_it.then(|| u32::try_from(ours.taken).unwrap_or(u32::MAX));
            if let Some(grant) = grant {
                ours.taken -= u64::from(grant);
                ours.granted += u64::from(grant);
            }
            return Some(Step::Part(part, grant));
        }
        let Some(outcome) = ours.outcome.take() else {
            if now < ours.deadline {
                return None;
            }
            self.ours.remove(&id);
            self.counts.overdue += 1;
            return Some(Step::Overdue);
        };
        self.ours.remove(&id);
        match &outcome {
            Ok(_) => self.counts.answered += 1,
            Err(CallError::DeadlinePassed) => self.counts.overdue += 1,
            Err(CallError::PeerReplaced) => self.counts.replaced += 1,
            Err(_) => self.counts.failed += 1,
        }
        Some(Step::End(outcome))
    }

    /// When nobody waits for a call any more.
    pub(super) fn deadline(&self, id: u64) -> Option<u64> {
        self.ours.get(&id).map(|ours| ours.deadline)
    }

    /// Nobody waits for a call any more. Returns whether the other end is to be told.
    pub(super) fn abandon(&mut self, id: u64) -> bool {
        let Some(ours) = self.ours.remove(&id) else { return false };
        self.counts.cancelled += 1;
        ours.outcome.is_none() && self.closed.is_none()
    }

    /// A call that was not to be sent.
    pub(super) fn forget(&mut self, id: u64) {
        if self.ours.remove(&id).is_some() {
            self.counts.failed += 1;
        }
    }

    /// A call that could not be sent.
    pub(super) fn fail(&mut self, id: u64, error: CallError) {
        if let Some(ours) = self.ours.get_mut(&id) {
            ours.outcome.get_or_insert(Err(error));
        }
    }

    /// What the other end says.
    pub(super) fn take_in<'a>(&mut self, bytes: &'a [u8], now: u64) -> Result<Effect<'a>, Malformed> {
        let Message { to, id, body } = Message::from_bytes(bytes).inspect_err(|_| self.counts.malformed += 1)?;
        if to != self.own {
            self.counts.stale += 1;
            return Ok(Effect::Nothing);
        }
        Ok(match body {
            Body::Request { remaining, window, method, payload } => {
                return Ok(self.request(id, remaining, window, method, payload, now));
            }
            Body::Answer(payload) => self.end(id, || Ok(payload.to_vec())),
            Body::Failed { reason, code, text } => self.end(id, || Err(CallError::of(reason, code, text))),
            Body::Part(payload) => self.part(id, payload),
            Body::Cancel => self.hear(id, |theirs| theirs.is_cancelled = true),
            Body::Grant { bytes } => {
                self.hear(id, |theirs| theirs.granted = theirs.granted.saturating_add(u64::from(bytes)))
            }
        })
    }

    fn request<'a>(
        &mut self,
        id: u64,
        remaining: u64,
        window: u32,
        method: &'a str,
        payload: &'a [u8],
        now: u64,
    ) -> Effect<'a> {
        if self.max_theirs == 0 {
            self.counts.unserved += 1;
            return Effect::Refuse { id, reason: Reason::NoHandler };
        }
        if self.theirs.contains_key(&id) {
            self.counts.reused += 1;
            return Effect::Nothing;
        }
        let len = method.len() + payload.len();
        let is_too_long = self.bytes + len > self.max_bytes && !self.theirs.is_empty();
        if self.theirs.len() >= self.max_theirs || is_too_long {
            self.counts.refused += 1;
            return Effect::Refuse { id, reason: Reason::Busy };
        }
        self.counts.served += 1;
        let deadline = if remaining == FOREVER { FOREVER } else { now.saturating_add(remaining) };
        let (is_stream, granted) = (window > 0, u64::from(window));
        self.bytes += len;
        self.theirs.insert(id, Theirs { deadline, len, is_stream, granted, sent: 0, is_cancelled: false });
        Effect::Request { served: Served { era: self.era, id }, deadline, window, method, payload }
    }

    fn end<'a>(&mut self, id: u64, outcome: impl FnOnce() -> Result<Vec<u8>, CallError>) -> Effect<'a> {
        match self.ours.get_mut(&id).filter(|ours| ours.outcome.is_none()) {
            Some(ours) => {
                ours.outcome = Some(outcome());
                Effect::Ours(id)
            }
            None => self.stray(),
        }
    }

    fn part<'a>(&mut self, id: u64, payload: &[u8]) -> Effect<'a> {
        let Some(ours) = self.ours.get_mut(&id).filter(|ours| ours.outcome.is_none()) else { return self.stray() };
        // One part may go beyond what was granted, or a long one could never be sent.
        if ours.received >= ours.granted {
            self.counts.overruns += 1;
            ours.outcome = Some(Err(CallError::Overrun));
        } else {
            ours.received += payload.len() as u64 + OVERHEAD;
            ours.parts.push_back(payload.to_vec());
        }
        Effect::Ours(id)
    }

    fn hear<'a>(&mut self, id: u64, news: impl FnOnce(&mut Theirs)) -> Effect<'a> {
        match self.theirs.get_mut(&id) {
            Some(theirs) => {
                news(theirs);
                Effect::Theirs(Served { era: self.era, id })
            }
            None => self.stray(),
        }
    }

    fn stray<'a>(&mut self) -> Effect<'a> {
        self.counts.strays += 1;
        Effect::Nothing
    }

    /// Whether a call of the other end is still to be worked on.
    pub(super) fn check(&self, served: Served, now: u64) -> Result<(), Stopped> {
        self.live(served, now).map(drop)
    }

    fn live(&self, served: Served, now: u64) -> Result<&Theirs, Stopped> {
        let found = self.theirs.get(&served.id).filter(|_| served.era == self.era && self.closed.is_none());
        let theirs = found.filter(|theirs| !theirs.is_cancelled).ok_or(Stopped::Cancelled)?;
        if now >= theirs.deadline { Err(Stopped::DeadlinePassed) } else { Ok(theirs) }
    }

    /// Whether a part may be sent to the peer that is named; `None`: not yet. It counts as sent then.
    pub(super) fn spend(&mut self, served: Served, len: usize, now: u64) -> Result<Option<u64>, Stopped> {
        let theirs = self.live(served, now)?;
        if !theirs.is_stream {
            return Err(Stopped::NotAStream);
        }
        if theirs.sent >= theirs.granted {
            return Ok(None);
        }
        if let Some(theirs) = self.theirs.get_mut(&served.id) {
            theirs.sent += len as u64 + OVERHEAD;
        }
        Ok(Some(self.peer))
    }

    /// The work on a call is at its end. Returns to whom the answer goes, if anybody waits for it.
    pub(super) fn finish(&mut self, served: Served, now: u64) -> Option<u64> {
        let outcome = self.check(served, now);
        if served.era == self.era {
            self.bytes -= self.theirs.remove(&served.id).map_or(0, |theirs| theirs.len);
        }
        outcome.map_err(|stopped| self.unanswered(stopped)).ok().map(|()| self.peer)
    }

    /// The answer to a call of the other end was not sent.
    pub(super) fn unanswered(&mut self, stopped: Stopped) {
        match stopped {
            Stopped::DeadlinePassed => self.counts.expired += 1,
            _ => self.counts.dropped += 1,
        }
    }

    /// Whether whoever made a call can still be reached.
    pub(super) fn is_present(&self, served: Served) -> bool {
        served.era == self.era && self.closed.is_none()
    }

    /// Another peer is there: it is asked for nothing that the one before was asked for, and is told nothing that was that one's.
    pub(super) fn replace(&mut self, peer: u64) {
        self.peer = peer;
        self.era += 1;
        self.theirs.clear();
        self.bytes = 0;
        self.fail_all(&CallError::PeerReplaced);
    }

    /// Nothing comes any more.
    pub(super) fn close(&mut self, error: CallError) {
        if self.closed.is_none() {
            self.fail_all(&error);
            self.closed = Some(error);
        }
    }

    fn fail_all(&mut self, error: &CallError) {
        for ours in self.ours.values_mut() {
            ours.outcome.get_or_insert_with(|| Err(error.clone()));
        }
    }
}

impl From<Ending> for CallError {
    fn from(ending: Ending) -> Self {
        CallError::Closed(ending)
    }
}

#[cfg(test)]
mod tests;
