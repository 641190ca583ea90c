//! The line that shows on a terminal how a recording is doing.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use conduit::tank::Progress;

use crate::output::COLUMNS;
use crate::units;

const INTERVAL: Duration = Duration::from_millis(500);

/// The line, renewed in place; gone once this is dropped.
pub struct Line {
    /// `None` where there is no terminal.
    due: Option<Instant>,
    last: Option<Progress>,
    has_keys: bool,
}

impl Line {
    pub fn new(has_keys: bool) -> Self {
        Line { due: super::has_terminal().then(Instant::now), last: None, has_keys }
    }

    /// Shows it, if it is time to; returns when it is next.
    pub fn show(&mut self, progress: &Progress) -> Option<Instant> {
        let due = self.due?;
        let now = Instant::now();
        let is_new =
            self.last.as_ref().is_some_and(|last| last.paused != progress.paused || last.files != progress.files);
        if now < due && !is_new {
            return self.due;
        }
        let text = text(progress, self.last.as_ref(), self.has_keys);
        let width =
            rustix::termios::tcgetwinsize(io::stderr()).map_or(COLUMNS, |size| usize::from(size.ws_col).max(20));
        let shown: String = text.chars().take(width - 1).collect();
        // Nothing can be done about a standard error that is closed.
        let _ = write!(io::stderr(), "\r{shown}\x1b[K");
        self.last = Some(progress.clone());
        self.due = Some(now + INTERVAL);
        self.due
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// `rec 00:01:02  8 topics  12.4 kHz  3.1 MB/s  1.24 GB  lost 0  disk 71 GB  sync 0.3 s`
fn text(now: &Progress, before: Option<&Progress>, has_keys: bool) -> String {
    let seconds = now.elapsed.as_secs();
    let (since, messages, written) = before.map_or((Duration::ZERO, 0, 0), |b| (b.elapsed, b.messages, b.written));
    let span = (now.elapsed.saturating_sub(since)).as_secs_f64().max(1e-3);
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / span;
    let state = if now.paused { "paused" } else { "rec" };
    let mut text = format!(
        "{state} {:02}:{:02}:{:02}  {}  {}  {}/s  {}  lost {}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        units::several(now.topics, "topic", "topics"),
        units::hertz(rate(now.messages, messages)),
        units::bytes(rate(now.written, written)),
        units::memory(now.written),
        units::count(now.lost),
    );
    if now.free > 0 {
        text.push_str(&format!("  disk {}", units::memory(now.free)));
    }
    text.push_str(&format!("  sync {:.1} s", now.unsynced.as_secs_f64()));
    if now.files > 1 {
        text.push_str(&format!("  file {}", now.files));
    }
    if has_keys {
        text.push_str("  [space pause, s split, t trigger, q quit]");
    }
    text
}
