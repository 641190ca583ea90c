//! The demo's recording: made while it goes on, played again at the end, and compared message by message.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use conduit::tank::{Player, Query, Recorder, Recording};
use conduit::topic::{Overflow, Subscriber, clean_some};

use super::TOPIC;
use crate::outcome::{Failure, Result};

/// What is played goes to a topic of its own.
const REPLAYED: &str = "replayed";
/// How long the next message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A recording of the demo's topic. Dropped, its file is gone.
pub struct Tape {
    domain: String,
    path: PathBuf,
    recorder: Option<Recorder>,
}

/// What a recording came to.
pub struct Taped {
    pub recorded: u64,
    pub lost: u64,
    pub bytes: u64,
    /// Messages that came again from the file, and were the same as those in it.
    pub same: u64,
    /// How long they took.
    pub took: Duration,
}

impl Tape {
    pub fn start(domain: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("conduit-{domain}.mcap"));
        let recorder = Recorder::options().domain(domain).topics([TOPIC]).start(&path)?;
        Ok(Tape { domain: domain.into(), path, recorder: Some(recorder) })
    }

    /// Ends the recording, plays it, and compares what comes with what is in the file.
    pub fn finish(mut self) -> Result<Taped> {
        let Some(report) = self.recorder.take().map(Recorder::stop) else {
            return Err(Failure::Failed("the recording has ended already".into()));
        };
        if let Some(fault) = report.fault {
            return Err(fault.into());
        }
        let counts = report.topics.get(TOPIC).copied().unwrap_or_default();
        let mut taped =
            Taped { recorded: counts.recorded, lost: counts.lost, bytes: report.bytes, same: 0, took: Duration::ZERO };
        if taped.recorded > 0 {
            self.replay(&mut taped)?;
        }
        Ok(taped)
    }

    fn replay(&self, taped: &mut Taped) -> Result<()> {
        let recording = Recording::open(&self.path)?;
        let mut messages = recording.messages(Query::new())?;
        let began = Instant::now();
        let player = Player::options()
            .domain(&self.domain)
            .remap(TOPIC, REPLAYED)
            .overflow(Overflow::Block)
            .wait_for_subscribers(PATIENCE)
            .as_fast_as_possible()
            .start([&self.path])?;
        let mut subscriber = Subscriber::<[u8]>::options().domain(&self.domain).open(REPLAYED)?;
        while let Some(message) = messages.next()? {
            // A CDR message in a file begins with four bytes that one in memory does without.
            let expected = message.data.get(4..);
            match subscriber.recv_timeout(PATIENCE)? {
                Some(again) if Some(&*again) == expected => taped.same += 1,
                Some(_) => {}
                None => break,
            }
        }
        taped.took = began.elapsed();
        drop(subscriber);
        player.finish()?;
        clean_some(Some(&self.domain), false, |topic| topic == REPLAYED)?;
        Ok(())
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        drop(self.recorder.take());
        // It may never have been made.
        let _ = std::fs::remove_file(&self.path);
    }
}
