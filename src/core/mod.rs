//! The kernel: no `std`, no `alloc`, no dependency. Memory and time are handed in.

pub(crate) mod atomic;
pub mod plain;
pub mod ring;
