//! The kernel: no `std`, no `alloc`, no dependency. Memory and time are handed in.

pub mod ack;
pub(crate) mod atomic;
pub mod backpressure;
mod cells;
mod crc32c;
pub mod dedup;
pub mod frame;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
pub mod lanes;
pub mod lock;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
pub mod mpsc;
pub(crate) mod name;
mod once;
pub mod plain;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
pub mod pool;
pub mod records;
pub mod ring;
#[cfg(all(test, not(loom)))]
pub(crate) mod rounds;
pub mod seqlock;
pub mod spsc;
