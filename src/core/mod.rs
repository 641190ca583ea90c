//! The kernel: no `std`, no `alloc`, no dependency. Memory and time are handed in.

pub(crate) mod atomic;
mod cells;
#[cfg(any(loom, target_has_atomic = "ptr"))]
pub mod mpsc;
mod once;
pub mod plain;
pub mod ring;
#[cfg(all(test, not(loom)))]
mod rounds;
pub mod seqlock;
pub mod spsc;
