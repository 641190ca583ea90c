//! Files that are played as one.

use crate::tank::Error;
use crate::tank::read::{Messages, Query, Recording};

/// The messages of several files, in order of their log time.
pub(super) struct Reel<'r> {
    strips: Vec<Strip<'r>>,
    /// The strip that the last frame was of.
    current: Option<usize>,
    /// Damaged pieces that were left out.
    pub damaged: u64,
}

/// A file, and the next message of it.
struct Strip<'r> {
    messages: Messages<'r>,
    state: State,
    frame: Frame,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its first message comes no sooner than this.
    New(u64),
    /// There is one in the frame.
    Ready,
    Over,
}

/// A message that is copied out of its file.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// The file's number.
    pub file: usize,
    /// The number of its channel in the file.
    pub channel: u16,
    pub sequence: u32,
    pub log_time: u64,
    pub publish_time: u64,
    pub data: Vec<u8>,
}

impl<'r> Reel<'r> {
    /// `wanted` are each file's channels.
    pub fn new(files: &'r [Recording], wanted: &[Vec<u16>], start: u64, end: Option<u64>) -> Result<Self, Error> {
        let mut strips = Vec::new();
        for (file, (recording, wanted)) in files.iter().zip(wanted).enumerate() {
            let query = Query::new().topics(wanted.iter().copied()).start(start);
            let query = match end {
                Some(end) => query.end(end),
                None => query,
            };
            let state = recording.times().map_or(State::Over, |(first, _)| State::New(first.max(start)));
            strips.push(Strip {
                messages: recording.messages(query)?,
                state,
                frame: Frame { file, ..Frame::default() },
            });
        }
        Ok(Reel { strips, current: None, damaged: 0 })
    }

    /// The next message.
    pub fn next(&mut self) -> Option<&Frame> {
        if let Some(strip) = self.current.take() {
            self.damaged += self.strips[strip].advance();
        }
        loop {
            let times = self.strips.iter().enumerate().filter_map(|(at, strip)| match strip.state {
                State::New(time) => Some((time, at)),
                State::Ready => Some((strip.frame.log_time, at)),
                State::Over => None,
            });
            // Of the same time, the file that was named first.
            let (_, at) = times.min()?;
            if self.strips[at].state == State::Ready {
                self.current = Some(at);
                return Some(&self.strips[at].frame);
            }
            self.damaged += self.strips[at].advance();
        }
    }
}

impl Strip<'_> {
    /// Copies the next message into the frame; returns how many damaged pieces there were before it.
    fn advance(&mut self) -> u64 {
        let mut damaged = 0;
        loop {
            match self.messages.next() {
                Ok(Some(message)) => {
                    let frame = &mut self.frame;
                    (frame.channel, frame.sequence) = (message.topic.id, message.sequence);
                    (frame.log_time, frame.publish_time) = (message.log_time, message.publish_time);
                    frame.data.clear();
                    frame.data.extend_from_slice(message.data);
                    self.state = State::Ready;
                    return damaged;
                }
                Ok(None) => {
                    self.state = State::Over;
                    return damaged;
                }
                Err(error) => {
                    tracing::warn!(%error, "a piece of a recording is left out");
                    damaged += 1;
                }
            }
        }
    }
}
