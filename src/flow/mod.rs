//! Flows: a system of processes that is started, watched and stopped from one file.

pub mod guardian;
pub mod model;
pub mod plan;
pub mod run;
pub mod supervisor;
