//! Lines of standard input, one at a time, until there are no more or somebody interrupts.

use std::os::fd::AsFd;

use crate::events::Events;
use crate::outcome::{Failure, Result};

#[derive(Default)]
pub struct Lines {
    buffer: Vec<u8>,
    ended: bool,
}

pub enum Next {
    Text(Vec<u8>),
    End,
    Interrupted,
}

impl Lines {
    /// Whether the next line is there already.
    #[cfg(feature = "net")]
    pub fn has_more(&self) -> bool {
        self.buffer.contains(&b'\n')
    }

    /// The next line, without its end; waits for it.
    pub fn next(&mut self, events: &mut Events) -> Result<Next> {
        let stdin = std::io::stdin();
        let mut seen = 0;
        loop {
            if let Some(end) = self.buffer[seen..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=seen + end).collect();
                line.pop();
                return Ok(Next::Text(line));
            }
            seen = self.buffer.len();
            if self.ended {
                return Ok(if self.buffer.is_empty() {
                    Next::End
                } else {
                    Next::Text(std::mem::take(&mut self.buffer))
                });
            }
            if events.is_interrupted() {
                return Ok(Next::Interrupted);
            }
            if !events.wait(&[stdin.as_fd()], None)?.ready.is_empty() {
                self.buffer.resize(seen + (1 << 16), 0);
                let count = rustix::io::read(&stdin, &mut self.buffer[seen..])
                    .map_err(|error| Failure::Failed(format!("cannot read standard input: {error}")))?;
                self.buffer.truncate(seen + count);
                self.ended = count == 0;
            }
        }
    }
}
