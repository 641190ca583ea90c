//! Any bytes as a recording: read, checked and recovered. Memory is bounded, nothing panics, and what was recovered is complete.
#![no_main]

use conduit::tank::{Error, Fault, Problem, Query, Recording, check, recover};
use libfuzzer_sys::fuzz_target;

const MEMORY: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(recording) = Recording::options().memory(MEMORY).read(bytes) else { return };
    let mut read = 0;
    for attachment in recording.attachments() {
        let _ = recording.copy_attachment(&attachment, &mut std::io::sink());
    }
    let _ = recording.metadata();
    let _ = recording.counts();
    if let Ok(mut messages) = recording.messages(Query::new()) {
        loop {
            match messages.next() {
                Ok(Some(message)) => read += message.data.len(),
                Ok(None) => break,
                Err(_) => {}
            }
        }
    }
    // A chunk of zstd or lz4 can hold a thousand times its length, and a file the same chunk more than once.
    assert!(read < 1 << 32);

    // These take as much as a chunk says, up to their own limit.
    let is_too_large = |problem: &Problem| match problem {
        Problem::Summary { fault, .. } | Problem::Skipped { fault, .. } => matches!(fault, Fault::TooLarge { .. }),
        _ => false,
    };
    if recording.chunks().any(|chunk| chunk.uncompressed > MEMORY) || recording.problems().iter().any(is_too_large) {
        return;
    }
    let path = format!("/dev/shm/conduit-fuzz-{}.mcap", std::process::id());
    std::fs::write(&path, bytes).expect("room in /dev/shm");
    check(&path).map(drop).or_else(is_damaged).expect("it is damaged at worst");
    match recover(&path) {
        Ok(recovered) => {
            let again = Recording::open(&path).expect("it was recovered");
            assert!(again.is_complete(), "{:?}", again.problems());
            assert!(recovered.was_complete || again.message_count() == recovered.messages());
        }
        Err(error) => is_damaged(error).expect("it is damaged at worst"),
    }
    std::fs::remove_file(&path).expect("it is there");
});

fn is_damaged(error: Error) -> Result<(), Error> {
    match error {
        Error::Damaged { .. } => Ok(()),
        error => Err(error),
    }
}
