//! Conduit carries messages from an interrupt handler to an AI agent, and never lies about what happened to them.
//!
//! Everything is a *topic*: a named stream of messages. A small kernel moves them; each layer above is a Cargo feature.
//!
//! | layer | feature | for | start at |
//! |---|---|---|---|
//! | kernel | none: `no_std`, no `alloc`, no dependency | firmware, threads of one program | the table below |
#![cfg_attr(
    feature = "std",
    doc = "| topics | `std` (Linux) | processes of one machine | [`topic`], [`Publisher`], [`Subscriber`] |"
)]
#![cfg_attr(not(feature = "std"), doc = "| topics | `std` (Linux) | processes of one machine | `topic` |")]
#![cfg_attr(
    feature = "std",
    doc = "| messages | `std`; `serde` for JSON and CBOR | what topics carry | [`msgs`], [`message!`] |"
)]
#![cfg_attr(not(feature = "std"), doc = "| messages | `std`; `serde` for JSON and CBOR | what topics carry | `msgs` |")]
#![cfg_attr(feature = "std", doc = "| nodes | `std` (Linux) | programs of callbacks and timers | [`node`], [`Node`] |")]
#![cfg_attr(not(feature = "std"), doc = "| nodes | `std` (Linux) | programs of callbacks and timers | `node` |")]
#![cfg_attr(feature = "std", doc = "| links | `std` (Linux) | two processes that do not trust each other | [`link`] |")]
#![cfg_attr(
    not(feature = "std"),
    doc = "| links | `std` (Linux) | two processes that do not trust each other | `link` |"
)]
#![cfg_attr(
    feature = "tank",
    doc = "| recordings | `tank` | whoever wants to know what happened | [`tank`]: [`tank::Recorder`], [`tank::Player`] |"
)]
#![cfg_attr(not(feature = "tank"), doc = "| recordings | `tank` | whoever wants to know what happened | `tank` |")]
#![cfg_attr(
    feature = "net",
    doc = "| events over a network | `net` | producers on other machines | [`net`]: [`net::Server`], [`net::Client`] |"
)]
#![cfg_attr(not(feature = "net"), doc = "| events over a network | `net` | producers on other machines | `net` |")]
#![cfg_attr(
    feature = "flow",
    doc = "| flows | `flow` | systems of processes from one file | [`mod@flow`]: [`flow::file::read`], [`flow::run::Runner`] |"
)]
#![cfg_attr(not(feature = "flow"), doc = "| flows | `flow` | systems of processes from one file | `flow` |")]
//! | command line | `cli` | people and scripts | `conduit demo`, `conduit --help` |
//!
//! The kernel's types live in a `static`, in a leaked box, or behind a reference that outlives the threads that use them (as in
//! `std::thread::scope`); what has ends hands them out once, and they borrow it:
//!
//! ```
//! use conduit::ring::{Start, WordRing};
//!
//! static SAMPLES: WordRing<[u32; 3], 16> = WordRing::new();
//!
//! let (mut writer, readers) = SAMPLES.split().expect("split once"); // the writer may live in an interrupt handler
//! let mut reader = readers.reader(Start::New);
//! writer.publish(&[1, 2, 3]);
//! let sample = reader.read().expect("a message is there");
//! assert_eq!((*sample, sample.lagged()), ([1, 2, 3], 0)); // `lagged`: how many it lost before this one
//! ```
//!
//! | to carry | from | to | use |
//! |---|---|---|---|
//! | the latest value | one | any number | [`seqlock`] |
//! | each message, to one place | one | one | [`spsc`] |
//! | each message, to one place | any number | one | [`mpsc`] |
//! | each message, to all, the slow lose some and know how many | one | up to 64 | [`ring`] |
//! | records of any length, in place | one | one | [`records`] |
//! | events by priority, what is urgent first | any number | one or two | [`lanes`] |
//!
//! | to | use |
//! |---|---|
//! | put events somewhere and pass on 16 bytes | [`pool`] |
//! | know what was seen before: by number within a producer, or by key | [`dedup`] |
//! | say what is still taken when a lane fills up; pure | [`backpressure`] |
//! | speak over a wire: frames and what became of them; pure, with bytes and time handed in | [`frame`], [`ack`] |
//! | share a value instead of sending it | [`lock`] |
//!
//! Nothing of it allocates, blocks or makes a system call. A full queue or pool is an answer, and what was to go in comes back
//! with it.
//!
//! Processors without compare-and-swap (Cortex-M0, RISC-V without the A extension) have no [`mpsc`], [`lanes`] and [`pool`],
//! no `FrameRing`, no `EventCount`, and of [`lock`] only the flag. With the feature `portable-atomic` they have: each
//! read-modify-write is a critical section then, or runs with interrupts disabled, as the final binary chooses by that crate's
//! own features, `critical-section` and `unsafe-assume-single-core`. Elsewhere, and for the rest of the kernel, it changes
//! nothing. A `KeySet` needs 64-bit atomics, which no feature brings.
//!
//! With the feature `defmt` the kernel's errors and small values implement `defmt::Format`.
//!
//! What it never does: wait for a reader unless told to, lose a message without counting it, poll, or leave something
//! behind that has to be cleaned up. What it cannot promise is said in `docs/guarantees.md`.
//!
//! Topics need Linux. Elsewhere the kernel is all there is: turning on `std` is a compile error that says so.
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(all(feature = "std", not(target_os = "linux")))]
compile_error!(
    "conduit: the feature `std` (topics in shared memory) needs Linux; the kernel alone (no features) runs anywhere"
);

mod core;
#[cfg(all(feature = "flow", target_os = "linux"))]
pub mod flow;
#[cfg(all(feature = "net", target_os = "linux"))]
pub mod net;
#[cfg(all(feature = "std", target_os = "linux"))]
mod std;
#[cfg(all(feature = "tank", target_os = "linux"))]
pub mod tank;
#[cfg(all(any(feature = "flow", feature = "cli"), target_os = "linux"))]
#[doc(hidden)]
pub mod yaml;

pub use crate::core::{ack, backpressure, dedup, frame, lock, records, ring, seqlock, spsc};
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
pub use crate::core::{lanes, mpsc, pool};
#[cfg(all(feature = "std", target_os = "linux"))]
pub use crate::std::engine;
#[cfg(all(feature = "std", target_os = "linux"))]
pub use crate::std::link;
#[cfg(all(feature = "std", target_os = "linux"))]
pub use crate::std::msgs;
#[cfg(all(feature = "std", target_os = "linux"))]
pub use crate::std::node::{self, Node};
#[cfg(all(feature = "std", target_os = "linux"))]
pub use crate::std::sync;
#[cfg(all(feature = "std", target_os = "linux"))]
pub use crate::std::topic::{self, Error, Message, Publisher, Sample, Subscriber, WaitSet};
#[cfg(all(feature = "std", target_os = "linux"))]
pub use topic::Loan;
