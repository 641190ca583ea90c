//! Events over TCP and UDP. The frames are told of in `docs/frame.md`.

mod client;

pub use client::outbox;
