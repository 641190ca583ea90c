//! A link's peer that writes what it likes: into the memory that both have, and onto the socket beside it.
#![no_main]

use conduit::link::fuzzing::{frames, scribble};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    frames(bytes);
    scribble(bytes);
});
