//! What connections cost that have nothing to say, in a process of its own, whose memory nobody else changes.
#![cfg(feature = "net")]

mod support;
mod wire;

use conduit::ack::Status;
use conduit::frame::Priority;
use support::{Domain, eventually};
use wire::{SHORTLY, Wire, encoded, event, server};

/// Bytes that this process may write to, whether it has or not.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmData:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn an_idle_connection_keeps_no_buffer() {
    let domain = Domain::new();
    let server = server(&domain, |options| options);
    let connected = |n: u32| {
        let mut wire = Wire::introduced(server.tcp_addr().unwrap(), u128::from(n + 1).to_le_bytes());
        wire.send(&encoded(&event("t", 1, Priority::Medium, b"x")));
        wire.until(|wire| wire.count(Status::Accepted) == 1);
        wire
    };
    // With what there is of each thread, and of buffers that are free.
    let mut wires: Vec<_> = (0..40).map(connected).collect();
    let before = memory();
    wires.extend((40..440).map(connected));
    // Were a buffer of 256 KiB kept for each, it would be 100 MiB.
    eventually("they keep a tenth of that", || memory() < before + (10 << 20));
    assert_eq!(server.stats().connections, 440);
    server.stop(SHORTLY);
}
