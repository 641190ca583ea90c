//! The order in which a flow is stopped.

use std::time::Duration;

use super::policy;
use super::process::LINGER;
use super::types::{Context, Time};
use crate::flow::plan::{Plan, StopKind, TaskId, TaskKind};

/// How far the stopping of a flow got: one state for each of [`Plan::stops`].
#[derive(Clone, Debug)]
pub(super) struct Stops(Vec<Stop>);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Stop {
    Pending,
    Node(TaskId),
    Wait(Time),
    Done,
}

impl Stops {
    pub fn new(plan: &Plan) -> Self {
        Self(vec![Stop::Pending; plan.stops.len()])
    }

    pub fn is_done(&self) -> bool {
        self.0.iter().all(|stop| *stop == Stop::Done)
    }

    pub fn due(&self) -> Option<Time> {
        self.0.iter().filter_map(|stop| if let Stop::Wait(until) = stop { Some(*until) } else { None }).min()
    }

    /// Goes on as far as it goes; false: it goes nowhere. `node` begins to stop a node, if it is told to, and says whether
    /// nothing is left of it; `waits` is whether waits take their time.
    pub fn advance(
        &mut self,
        plan: &Plan,
        waits: bool,
        cx: &mut Context<'_>,
        mut node: impl FnMut(TaskId, bool, &mut Context<'_>) -> bool,
    ) -> bool {
        let mut changed = false;
        for (index, task) in plan.stops.iter().enumerate() {
            let before = self.0[index];
            if before == Stop::Pending && task.after.iter().all(|&before| self.0[before] == Stop::Done) {
                self.0[index] = match task.kind {
                    StopKind::Node(id) => {
                        node(id, true, cx);
                        Stop::Node(id)
                    }
                    StopKind::Wait(time) => Stop::Wait(cx.now.saturating_add(time)),
                };
            }
            match self.0[index] {
                Stop::Node(id) if node(id, false, cx) => self.0[index] = Stop::Done,
                Stop::Wait(until) if until <= cx.now || !waits => self.0[index] = Stop::Done,
                _ => {}
            }
            changed |= self.0[index] != before;
        }
        changed
    }
}

/// Whether the plan says when the task is stopped.
pub(super) fn lists(plan: &Plan, task: TaskId) -> bool {
    plan.stops.iter().any(|stop| stop.kind == StopKind::Node(task))
}

/// See [`Supervisor::stop_bound`](super::Supervisor::stop_bound).
pub(super) fn bound(plan: &Plan) -> Duration {
    let node = |TaskId(task): TaskId| match &plan.tasks[task].kind {
        TaskKind::Node(node) | TaskKind::Run(node) => policy::longest(&node.stop).saturating_add(LINGER),
        TaskKind::Wait(_) => Duration::ZERO,
    };
    let mut ends: Vec<Duration> = Vec::new();
    for stop in &plan.stops {
        let begin = stop.after.iter().map(|&before| ends[before]).max().unwrap_or_default();
        ends.push(begin.saturating_add(match stop.kind {
            StopKind::Node(task) => node(task),
            StopKind::Wait(time) => time,
        }));
    }
    let rest = (0..plan.tasks.len()).map(TaskId).filter(|task| !lists(plan, *task)).map(node);
    ends.into_iter().chain(rest).max().unwrap_or_default()
}
