//! What goes into a supervisor and what comes out of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::flow::plan::TaskId;

/// Since the flow began, by a clock that only goes forward.
pub type Time = Duration;

/// One life of a node, from [`Action::Spawn`] until nothing is left of it. No two have the same number, so that a late report of
/// one says nothing about the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Life(pub u64);

/// One look at something, from [`Action::Watch`] to its end. No two have the same number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProbeId(pub u64);

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
        }
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The process of this life runs.
    Spawned {
        /// Whose.
        life: Life,
        /// Its number.
        pid: u32,
    },
    /// There is no process of this life, and there will be none.
    SpawnFailed {
        /// Whose.
        life: Life,
        /// Why, for people.
        error: String,
    },
    /// The process that was spawned has ended. What it started itself may still run.
    Exited {
        /// Whose.
        life: Life,
        /// How.
        end: End,
    },
    /// Nothing is left of this life: neither its process nor any that came of it.
    Emptied {
        /// Whose.
        life: Life,
    },
    /// What is looked for is there. For [`Watch::Exec`]: the command ended with 0. Ends the look.
    Holds {
        /// The look.
        probe: ProbeId,
    },
    /// For [`Watch::Exec`]: the command ended otherwise, or could not be run. Ends the look.
    Fails {
        /// The look.
        probe: ProbeId,
    },
    /// For [`Watch::Moves`] and [`Watch::Watchdog`]: a sign of life.
    Beat {
        /// The look.
        probe: ProbeId,
    },
    /// Someone wants the flow to stop. The second time: everything is killed at once.
    StopAsked,
    /// Someone wants the node to be stopped and started again. Its dependents are left alone, and it is no failure: its restarts
    /// are counted from the beginning. Does nothing where [`Supervisor::restartable`](super::Supervisor::restartable) says so.
    RestartAsked {
        /// Which.
        task: TaskId,
    },
    /// Someone wants the node to be stopped, and to stay so until it is told to restart; the flow goes on.
    StopNodeAsked {
        /// Which.
        task: TaskId,
    },
    /// What spawns and watches processes is gone, and everything that ran dies with it.
    GuardianLost,
}

/// What is to be done, in the order given.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Start the task's program. One of [`Event::Spawned`] and [`Event::SpawnFailed`] has to follow.
    Spawn {
        /// What the reports of it go by.
        life: Life,
        /// Whose program.
        task: TaskId,
    },
    /// Send the signal to all that is left of the life. To be ignored if nothing is, which may be not yet known here.
    Signal {
        /// Whose.
        life: Life,
        /// Its number.
        signal: i32,
    },
    /// Begin to look.
    Watch {
        /// What the answers go by.
        probe: ProbeId,
        /// For whom.
        task: TaskId,
        /// In which life; none if the task is a wait.
        life: Option<Life>,
        /// For what.
        what: Watch,
    },
    /// Look no longer; a command that still runs is to be killed. Never follows an answer that ended the look.
    Forget {
        /// The look.
        probe: ProbeId,
    },
    /// News for people and programs.
    Tell(Report),
    /// The flow is over: nothing runs, and nothing comes after this.
    Finish(Outcome),
}

/// What to look for.
#[derive(Clone, PartialEq, Debug)]
pub enum Watch {
    /// Holds when the topic has a live publisher and, with a rate, as many messages a second, counted since the look began.
    Topic {
        /// Its name.
        topic: String,
        /// Messages a second, at least.
        hz: Option<f64>,
    },
    /// Holds when a line of the life's output matches the regular expression. The look begins before the process.
    Log(String),
    /// Holds when the file is there.
    File(PathBuf),
    /// Holds when the life says `READY=1`. The look begins before the process.
    Notify,
    /// One run of a command. Answered once, by [`Event::Holds`] or [`Event::Fails`]; when to run it again, and how long it may
    /// take, is decided here.
    Exec(String),
    /// Beats when a message was published on the topic since the last look; to be looked at several times within the time.
    Moves {
        /// Its name.
        topic: String,
        /// The longest time between two.
        within: Duration,
    },
    /// Beats when the life says `WATCHDOG=1`.
    Watchdog {
        /// The longest time between two.
        within: Duration,
    },
}

/// Where a task stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It was not its turn yet. If the flow stops before it is, it stays so.
    Waiting,
    /// To be spawned, or not ready yet.
    Starting,
    /// A run that has not ended, or a wait that is not over.
    Running,
    /// A node that does its work.
    Ready,
    /// A node or a run that failed, and is started again after a while.
    BackingOff,
    /// It ended or is told to; something may be left of it.
    Stopping(Rung),
    /// A node or a run that ended by itself, with 0, and stays so.
    Exited,
    /// A wait that is over.
    Done,
    /// It failed and is not started again.
    Failed,
    /// It was stopped.
    Stopped,
}

impl State {
    /// Whether something goes on that ends by itself or by being stopped.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Ready | Self::BackingOff | Self::Stopping(_))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::BackingOff => "backing off",
            Self::Stopping(Rung::Left) => "ending",
            Self::Stopping(Rung::First) => "stopping",
            Self::Stopping(Rung::Term) => "stopping (SIGTERM)",
            Self::Stopping(Rung::Kill) => "stopping (SIGKILL)",
            Self::Exited => "exited",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}

/// How far the stopping of a life got. Each rung lasts until nothing is left, or for [`Stop::timeout`]; the last one without end.
///
/// [`Stop::timeout`]: crate::flow::model::Stop::timeout
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rung {
    /// Its process ended by itself, and what it left has a moment to follow.
    Left,
    /// It got its own signal.
    First,
    /// It got SIGTERM.
    Term,
    /// It got SIGKILL.
    Kill,
}

/// Why a task's state changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// All that it needs is done.
    Turn,
    /// Its process runs, and nothing more was to be shown.
    Spawned,
    /// What was looked for is there.
    Shown,
    /// Its process ended by itself.
    Ended(End),
    /// It could not be spawned.
    SpawnFailed(String),
    /// Nothing is left of it, and nobody saw its process end.
    Vanished,
    /// It was not ready in time, or did not hold in time.
    NotReady(Duration),
    /// It did not show for so long that it is alive.
    NotAlive(Duration),
    /// Its check of being alive failed.
    CheckFailed,
    /// It did not end in time at the signal before.
    StillThere(Duration),
    /// It is started again after so long.
    Again(Duration),
    /// It is started again for this time, the first being 1.
    Restart(u32),
    /// It was restarted too often.
    Exhausted {
        /// As often as it may be.
        restarts: u32,
        /// Within this time.
        within: Duration,
    },
    /// Someone asked for it.
    Asked,
    /// Someone asked twice for the flow to stop.
    AskedTwice,
    /// The flow stops.
    FlowStops,
    /// Nothing is left of it.
    Gone,
    /// What spawns and watches processes is gone.
    GuardianLost,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => write!(f, "its turn"),
            Self::Spawned => write!(f, "started"),
            Self::Shown => write!(f, "holds"),
            Self::Ended(end) => write!(f, "{end}"),
            Self::SpawnFailed(error) => write!(f, "cannot be started: {error}"),
            Self::Vanished => write!(f, "vanished"),
            Self::NotReady(time) => write!(f, "not ready within {time:?}"),
            Self::NotAlive(time) => write!(f, "no sign of life for {time:?}"),
            Self::CheckFailed => write!(f, "the check of being alive failed"),
            Self::StillThere(time) => write!(f, "still there after {time:?}"),
            Self::Again(time) => write!(f, "starts again in {time:?}"),
            Self::Restart(restart) => write!(f, "restart {restart}"),
            Self::Exhausted { restarts, within } => write!(f, "restarted {restarts} times within {within:?}"),
            Self::Asked => write!(f, "on request"),
            Self::AskedTwice => write!(f, "on second request"),
            Self::FlowStops => write!(f, "the flow stops"),
            Self::Gone => write!(f, "nothing is left of it"),
            Self::GuardianLost => write!(f, "the guardian is gone"),
        }
    }
}

/// Where a flow stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Not all of the startup is done.
    Starting,
    /// All of it is.
    Up,
    /// It stops.
    Stopping,
    /// Nothing runs any more.
    Over,
}

/// What is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// A task's state changed. Each change is told once.
    Task {
        /// Whose.
        task: TaskId,
        /// When.
        at: Time,
        /// What it is now.
        state: State,
        /// Why.
        why: Why,
        /// The process that it has.
        pid: Option<u32>,
    },
    /// The flow's phase changed. Each change is told once; that it is over, by [`Action::Finish`].
    Flow {
        /// When.
        at: Time,
        /// What it is now.
        phase: Phase,
        /// What it stops for; `None` if it was asked to, or does not stop.
        cause: Option<Outcome>,
    },
}

/// How a flow ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// As it was asked to, or because all that it had ended by itself.
    Clean,
    /// A node or a run failed, and its policy stopped the flow.
    NodeFailed {
        /// Which.
        task: TaskId,
        /// How, the last time.
        why: Why,
    },
    /// As [`Outcome::Clean`], but these did not end at their own signal and SIGTERM, or were not given the time. Whose own signal
    /// is SIGKILL is not among them.
    Killed(Vec<TaskId>),
    /// A node was not ready in time, or a wait did not hold in time.
    NotReady {
        /// Which.
        task: TaskId,
    },
    /// What spawns and watches processes is gone.
    GuardianLost,
}

impl Outcome {
    /// The exit code of the command line.
    pub fn code(&self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::NodeFailed { .. } | Self::GuardianLost => 1,
            Self::Killed(_) => 3,
            Self::NotReady { .. } => 4,
        }
    }
}

/// What is known of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Which.
    pub task: TaskId,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// The process that it has.
    pub pid: Option<u32>,
    /// How often it was started again, be it for a failure or on request.
    pub restarts: u32,
    /// How its last process ended.
    pub last_end: Option<End>,
}

/// Why a node cannot be restarted or stopped on request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The task is no node.
    NoNode,
    /// It was not its turn yet.
    NotBegun,
    /// The flow stops or is over.
    FlowStops,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNode => "it is no node",
            Self::NotBegun => "it is not its turn yet",
            Self::FlowStops => "the flow stops",
        })
    }
}

/// The time, where actions go, and the next numbers.
pub(super) struct Context<'a> {
    pub now: Time,
    pub actions: &'a mut Vec<Action>,
    pub numbers: Numbers,
}

impl Context<'_> {
    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub fn watch(&mut self, task: TaskId, life: Option<Life>, what: Watch) -> ProbeId {
        self.numbers.probes += 1;
        let probe = ProbeId(self.numbers.probes);
        self.act(Action::Watch { probe, task, life, what });
        probe
    }

    pub fn next_life(&mut self) -> Life {
        self.numbers.lives += 1;
        Life(self.numbers.lives)
    }

    pub fn tell(&mut self, task: TaskId, state: State, why: Why, pid: Option<u32>) {
        self.act(Action::Tell(Report::Task { task, at: self.now, state, why, pid }));
    }
}

/// Each was given.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Numbers {
    lives: u64,
    probes: u64,
}
