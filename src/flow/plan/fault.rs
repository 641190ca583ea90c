//! What makes a flow no plan.

use std::fmt;

/// A part of a [`Flow`](crate::flow::model::Flow): places in its lists, and in those of its steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum At {
    /// A step of the startup.
    Step(usize),
    /// A node of a step; 0 for one that is no group.
    Node(usize, usize),
    /// What a node needs.
    Need(usize, usize, usize),
    /// A condition of a wait.
    Condition(usize, usize),
    /// A step of the shutdown.
    Stop(usize),
    /// A node of a step of the shutdown; 0 for one that is no group.
    StopNode(usize, usize),
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// With which part.
    pub at: At,
    /// What.
    pub reason: Reason,
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// There is no node of this name.
    Unknown {
        /// The name.
        name: String,
        /// One that it is near to.
        meant: Option<String>,
    },
    /// Another node has this name, or it is stopped before.
    Twice {
        /// The name.
        name: String,
    },
    /// Each needs the next, and the last is the first.
    Circle {
        /// Nodes, and waits by their steps.
        path: Vec<String>,
    },
    /// A group of none, or a wait for nothing.
    Empty,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Unknown { name, meant } => {
                write!(f, "there is no node `{name}`")?;
                meant.as_ref().map_or(Ok(()), |meant| write!(f, "; did you mean `{meant}`?"))
            }
            Reason::Twice { name } => write!(f, "`{name}` is there twice; remove or rename one"),
            Reason::Circle { path } => write!(f, "none of these can begin: {}", path.join(" needs ")),
            Reason::Empty => f.write_str("there is nothing in it"),
        }
    }
}
