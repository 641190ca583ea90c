//! When what happens, as far as the file says.

use std::time::Duration;

use super::{Plan, StopKind, TaskId, TaskKind};
use crate::flow::model::Condition;

/// When a task begins and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The task.
    pub task: TaskId,
    /// When it begins, if every node is ready and every condition holds at once.
    pub start: Duration,
    /// When it is done at the latest, as the flow is stopped else. `None`: nothing bounds what it needs.
    pub deadline: Option<Duration>,
}

/// The times of a startup, and the longest that a shutdown takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeline {
    /// By when they begin.
    pub entries: Vec<Entry>,
    /// From the end of the last task: when everything is up at the earliest.
    pub up: Duration,
    /// When everything is up at the latest.
    pub deadline: Option<Duration>,
    /// The longest way through the shutdown, with every node taking all of its timeouts.
    pub shutdown: Duration,
}

impl Plan {
    /// When what happens at the earliest and at the latest.
    pub fn timeline(&self) -> Timeline {
        let mut ends: Vec<(Duration, Option<Duration>)> = Vec::new();
        let mut entries = Vec::new();
        for (id, task) in self.tasks.iter().enumerate() {
            let needs = || task.needs.iter().map(|need| ends[need.0]);
            let start = needs().map(|(earliest, _)| earliest).max().unwrap_or_default();
            let latest = needs().try_fold(Duration::ZERO, |latest, (_, end)| Some(latest.max(end?)));
            let (least, most) = match &task.kind {
                TaskKind::Node(node) => {
                    (Duration::ZERO, Some(node.ready.as_ref().map_or(Duration::ZERO, |ready| ready.timeout)))
                }
                TaskKind::Run(_) => (Duration::ZERO, None),
                TaskKind::Wait(wait) => {
                    let time = wait.conditions.iter().filter_map(|condition| match condition {
                        Condition::Time(time) => Some(*time),
                        _ => None,
                    });
                    let time = time.max().unwrap_or_default();
                    let is_time = wait.conditions.iter().all(|it| matches!(it, Condition::Time(_)));
                    (time, Some(if is_time { time } else { time.saturating_add(wait.timeout) }))
                }
            };
            let deadline = latest.zip(most).map(|(latest, most)| latest.saturating_add(most));
            ends.push((start.saturating_add(least), deadline));
            entries.push(Entry { task: TaskId(id), start, deadline });
        }
        entries.sort_by_key(|entry| entry.start);
        Timeline {
            entries,
            up: ends.iter().map(|(earliest, _)| *earliest).max().unwrap_or_default(),
            deadline: ends.iter().try_fold(Duration::ZERO, |latest, (_, end)| Some(latest.max((*end)?))),
            shutdown: self.shutdown_bound(),
        }
    }

    /// The longest that a shutdown takes: what its critical path's timeouts and waits come to.
    pub fn shutdown_bound(&self) -> Duration {
        let mut ends: Vec<Duration> = Vec::new();
        for stop in &self.stops {
            let start = stop.after.iter().map(|after| ends[*after]).max().unwrap_or_default();
            let takes = match stop.kind {
                StopKind::Wait(time) => time,
                StopKind::Node(TaskId(id)) => match &self.tasks[id].kind {
                    TaskKind::Node(node) | TaskKind::Run(node) => node.stop.timeout.saturating_mul(2),
                    TaskKind::Wait(_) => Duration::ZERO,
                },
            };
            ends.push(start.saturating_add(takes));
        }
        ends.into_iter().max().unwrap_or_default()
    }
}
