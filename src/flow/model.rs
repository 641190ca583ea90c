//! What a flow file says, once it was read: names, places and times, nothing of the machine that it runs on.

use std::path::PathBuf;
use std::time::Duration;

/// A system of processes: what is started, how it is watched, how it is stopped.
#[derive(Clone, PartialEq, Debug)]
pub struct Flow {
    /// What it goes by: the file's name without `.flow.yaml`, if nothing else is said.
    pub name: String,
    /// One after the other, where a node does not say what it needs.
    pub startup: Vec<Step>,
    /// `None`: the reverse of the startup, without its waits.
    pub shutdown: Option<Vec<StopStep>>,
}

/// A step of the startup.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Done when the node is ready.
    Node(Node),
    /// All at once; done when all are ready.
    Group(Vec<Node>),
    /// A program that has to end with 0; done when it has.
    Run(Node),
    /// Done when all of its conditions hold.
    Wait(Wait),
}

/// A step of the shutdown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StopStep {
    /// Done when nothing is left of the node.
    Node(String),
    /// All at once.
    Group(Vec<String>),
    /// A pause.
    Wait(Duration),
}

/// A program that is started.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Unlike any other's in the flow.
    pub name: String,
    /// A path, or a name that is looked up in `PATH`.
    pub program: String,
    /// What it is given.
    pub args: Vec<String>,
    /// In addition to the environment of the flow.
    pub env: Vec<(String, String)>,
    /// `None`: that of the flow's file.
    pub working_dir: Option<PathBuf>,
    /// `None`: ready as soon as it is started.
    pub ready: Option<Ready>,
    /// `None`: alive as long as its process is.
    pub alive: Option<Alive>,
    /// What to do when it ends by itself.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// The CPUs it may use; empty: all.
    pub cpu: Vec<usize>,
    /// The nodes that must be ready first. `None`: the step before it.
    pub needs: Option<Vec<String>>,
}

/// When a node is ready.
#[derive(Clone, PartialEq, Debug)]
pub struct Ready {
    /// What shows it.
    pub check: Check,
    /// How long it may take.
    pub timeout: Duration,
}

/// What shows that a node is ready.
#[derive(Clone, PartialEq, Debug)]
pub enum Check {
    /// The topic has a publisher and, with a rate, so many messages a second.
    Topic {
        /// Its name.
        topic: String,
        /// Messages a second, at least.
        hz: Option<f64>,
    },
    /// A line of its output that matches a regular expression.
    Log(String),
    /// A command that ends with 0; tried again until it does.
    Exec(String),
    /// `READY=1` at `$NOTIFY_SOCKET`, as sd_notify sends it.
    Notify,
    /// A file that is there.
    File(PathBuf),
}

/// What shows that a node which was ready goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alive {
    /// The topic gets a message at least so often.
    Topic {
        /// Its name.
        topic: String,
        /// The longest time between two.
        within: Duration,
    },
    /// `WATCHDOG=1` at `$NOTIFY_SOCKET`, at least so often; `$WATCHDOG_USEC` tells the node.
    Notify {
        /// The longest time between two.
        within: Duration,
    },
    /// A command that ends with 0.
    Exec {
        /// Run by `/bin/sh -c`.
        command: String,
        /// From one's end to the next one's beginning.
        every: Duration,
        /// How long it may take.
        timeout: Duration,
    },
}

/// What to do when a node ends by itself, or no longer shows that it is alive.
#[derive(Clone, PartialEq, Debug)]
pub struct Restart {
    /// Whether to start it again.
    pub policy: Policy,
    /// How long to wait before the first time and at most: it doubles from one to the other.
    pub backoff: (Duration, Duration),
    /// How many times within `window`.
    pub max: u32,
    /// See `max`.
    pub window: Duration,
    /// When it is not started again though it failed.
    pub then: Then,
}

/// Whether a node is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// However it ended, it stays so.
    Never,
    /// If it ended with another code than 0, by a signal, or for not being alive.
    OnFailure,
    /// However it ended.
    Always,
}

/// What becomes of the flow when a node failed for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// It is stopped.
    StopFlow,
    /// It goes on without.
    Ignore,
}

/// How a node is stopped: by a signal to its process group, and if that does not end all of it, by SIGTERM and SIGKILL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// The number of the first signal.
    pub signal: i32,
    /// From the first signal to SIGTERM, and from that to SIGKILL.
    pub timeout: Duration,
}

/// A step that waits.
#[derive(Clone, PartialEq, Debug)]
pub struct Wait {
    /// All of them.
    pub conditions: Vec<Condition>,
    /// How long it may take in addition to any [`Condition::Time`].
    pub timeout: Duration,
}

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// For so long.
    Time(Duration),
    /// Until the topic has a publisher.
    Topic(String),
    /// Until the file is there.
    File(PathBuf),
    /// Until the node is ready.
    NodeReady(String),
    /// Until the node has ended with 0.
    NodeExited(String),
}
