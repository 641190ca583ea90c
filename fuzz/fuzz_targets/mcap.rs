//! Any bytes as a recording: read, and everything in it looked at. Memory is bounded, and nothing panics.

#![no_main]

use conduit::tank::{Query, Recording};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(recording) = Recording::options().memory(1 << 20).read(bytes) else { return };
    let mut read = 0;
    for attachment in recording.attachments() {
        let _ = recording.copy_attachment(&attachment, &mut std::io::sink());
    }
    let _ = recording.metadata();
    let _ = recording.counts();
    let Ok(mut messages) = recording.messages(Query::new()) else { return };
    loop {
        match messages.next() {
            Ok(Some(message)) => read += message.data.len(),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    // A chunk of zstd or lz4 can hold a thousand times its length, and a file the same chunk more than once.
    assert!(read < 1 << 32);
});
