//! The order of it: what a flow's steps need of each other, as a graph without circles.

mod build;
mod fault;
mod render;
#[cfg(test)]
mod tests;
mod timeline;

use std::time::Duration;

use super::model::{Node, Wait};

pub use fault::{At, Fault, Reason};
pub use timeline::{Entry, Timeline};

/// Where a task stands in [`Plan::tasks`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TaskId(pub usize);

/// A flow as a graph.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// What the flow goes by.
    pub name: String,
    /// Each behind all that it needs.
    pub tasks: Vec<Task>,
    /// Each behind all that it comes after. Each node is in it once.
    pub stops: Vec<StopTask>,
}

/// Something that is done at startup.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    /// What it does.
    pub kind: TaskKind,
    /// What has to be done first; each below this one's place.
    pub needs: Vec<TaskId>,
}

/// What a task does.
#[derive(Clone, PartialEq, Debug)]
pub enum TaskKind {
    /// Starts a node. Done when that is ready.
    Node(Node),
    /// Starts a program. Done when that has ended with 0.
    Run(Node),
    /// Waits. Done when all conditions hold.
    Wait(Wait),
}

/// Something that is done at shutdown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopTask {
    /// What it does.
    pub kind: StopKind,
    /// Places in [`Plan::stops`] of what has to be done first; each below this one's.
    pub after: Vec<usize>,
}

/// What a stop task does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopKind {
    /// Stops a node. Done when nothing is left of it, or it does not run.
    Node(TaskId),
    /// Waits.
    Wait(Duration),
}
