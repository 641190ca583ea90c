//! A topic's file whose beginning is the fuzzer's: opening it is an error or a topic, and never more memory than the file.
#![no_main]

use std::sync::LazyLock;

use conduit::topic::{self, Observer, SlotKind, Start};
use conduit::{Publisher, Subscriber};
use libfuzzer_sys::fuzz_target;

/// A domain of this process, and a whole topic as bytes.
static SPECIMEN: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| {
    let domain = format!("fuzz-header-{}", std::process::id());
    let options = Publisher::<[u8]>::options().domain(&domain).slots(SlotKind::Frames).depth(1).max_len(64);
    let mut publisher = options.samples(1).subscribers(1).open("t").expect("a topic");
    publisher.publish(b"message").expect("room");
    let bytes = std::fs::read(file(&domain)).expect("its file");
    publisher.remove().expect("nobody else has it");
    (domain, bytes)
});

fn file(domain: &str) -> String {
    format!("/dev/shm/conduit_{domain}@t")
}

fuzz_target!(|input: &[u8]| {
    let (domain, whole) = &*SPECIMEN;
    // The first two bytes say how much of the file there is; the rest is laid over its beginning.
    let Some((cut, patch)) = input.split_first_chunk::<2>() else { return };
    let mut bytes = whole.clone();
    let patch = &patch[..patch.len().min(bytes.len())];
    for (byte, patch) in bytes.iter_mut().zip(patch) {
        *byte ^= patch;
    }
    bytes.truncate(bytes.len().saturating_sub(usize::from(u16::from_le_bytes(*cut))));
    std::fs::write(file(domain), &bytes).expect("room in /dev/shm");

    let _ = topic::inspect(Some(domain), "t");
    if let Ok(mut observer) = Observer::open_in(domain, "t", Start::Oldest) {
        let _ = observer.try_next();
    }
    if let Ok(mut subscriber) = Subscriber::<[u8]>::options().domain(domain).start(Start::Oldest).open("t") {
        let _ = subscriber.try_recv();
    }
    // A publisher takes over, or puts a topic of its own in its place.
    let publisher = Publisher::<[u8]>::options().domain(domain).open("t").expect("whatever was there");
    publisher.remove().expect("nobody else has it");
});
