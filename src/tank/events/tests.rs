//! What tests of events on disk share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::dedup::ProducerId;
use crate::engine::{Event, Origin};
use crate::frame::{Encoding, Priority};
use crate::tank::check;

/// A directory that goes with the test.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Directory(std::env::temp_dir().join(format!("conduit-events-{}-{number}", std::process::id())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub const SENSOR: ProducerId = *b"sensor 1, boot 9";

/// An event with this number.
pub fn event(sequence: u64) -> Event<'static> {
    Event {
        topic: "orders/new",
        payload: b"{\"item\":7}",
        priority: Priority::High,
        encoding: Encoding::Json,
        producer: SENSOR,
        sequence,
        timestamp: sequence.saturating_mul(10),
        received: 1_000_000_000 + sequence % 1000,
        origin: Origin::Tcp("10.0.0.7:4242".parse().unwrap()),
    }
}

/// Nothing is wrong with any of the files.
pub fn sound(files: &[PathBuf]) {
    for file in files {
        let checked = check(file).unwrap();
        assert!(checked.is_sound(), "{}: {:?}", file.display(), checked.findings);
    }
}
