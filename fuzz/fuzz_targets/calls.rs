//! The messages of calls over a link, from a peer that sends what it likes.
#![no_main]

use conduit::link::fuzzing::call;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| call(bytes));
