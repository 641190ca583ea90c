//! Conduit carries messages from an interrupt handler to an AI agent, and never lies about what happened to them.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

mod core;

pub use crate::core::ring;
