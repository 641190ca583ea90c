//! Linux: memory that processes share, waiting without polling, and the topics that are made of both.

pub mod engine;
pub(crate) mod fork;
pub(crate) mod futex;
pub mod link;
mod lock;
pub mod msgs;
pub mod node;
pub(crate) mod random;
pub(crate) mod shm;
pub mod sync;
pub mod topic;
