//! Flows: a system of processes that is started, watched and stopped from one file.
//!
//! [`mod@file`] reads what a file says into a [`model`], of which [`plan`] makes a graph. [`run`] runs it: [`supervisor`] decides, and
//! [`guardian`] starts processes and leaves none behind.

pub mod file;
pub mod guardian;
pub mod model;
pub mod plan;
pub mod run;
pub mod supervisor;
