//! A step that waits.

use super::types::{Action, Context, Outcome, ProbeId, State, Status, Time, Watch, Why};
use crate::flow::model::{Condition, Wait};
use crate::flow::plan::TaskId;

/// A wait.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    task: TaskId,
    wait: Wait,
    state: State,
    since: Time,
    /// By when all has to hold.
    deadline: Option<Time>,
    /// One for each condition.
    conditions: Vec<Held>,
    verdict: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Held {
    Yes,
    At(Time),
    Shown(ProbeId),
    /// By a node's state.
    Told,
}

/// What waits want to know of a node.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub name: String,
    /// It does its work, or did it and ended with 0.
    pub ready: bool,
    /// It ended by itself as it should, at least once.
    pub ended_well: bool,
}

impl Waiting {
    pub fn new(task: TaskId, wait: Wait) -> Self {
        let conditions = vec![Held::Told; wait.conditions.len()];
        Self { task, wait, state: State::Waiting, since: Time::ZERO, deadline: None, conditions, verdict: None }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn looks_by(&self, probe: ProbeId) -> bool {
        self.conditions.contains(&Held::Shown(probe))
    }

    pub fn take_verdict(&mut self) -> Option<Outcome> {
        self.verdict.take()
    }

    pub fn status(&self) -> Status {
        Status { task: self.task, state: self.state, since: self.since, pid: None, restarts: 0, last_end: None }
    }

    pub fn due(&self) -> Option<Time> {
        if self.state != State::Running {
            return None;
        }
        let times = self.conditions.iter().filter_map(|held| if let Held::At(at) = held { Some(*at) } else { None });
        times.chain(self.deadline).min()
    }

    pub fn begin(&mut self, cx: &mut Context<'_>) {
        self.to(State::Running, Why::Turn, cx);
        let mut longest = Time::ZERO;
        for (condition, held) in self.wait.conditions.iter().zip(&mut self.conditions) {
            *held = match condition {
                Condition::Time(time) => {
                    longest = longest.max(*time);
                    Held::At(cx.now.saturating_add(*time))
                }
                Condition::Topic(topic) => {
                    Held::Shown(cx.watch(self.task, None, Watch::Topic { topic: topic.clone(), hz: None }))
                }
                Condition::File(path) => Held::Shown(cx.watch(self.task, None, Watch::File(path.clone()))),
                Condition::NodeReady(_) | Condition::NodeExited(_) => Held::Told,
            };
        }
        self.deadline = Some(cx.now.saturating_add(longest).saturating_add(self.wait.timeout));
    }

    pub fn holds(&mut self, probe: ProbeId) {
        for held in self.conditions.iter_mut().filter(|held| **held == Held::Shown(probe)) {
            *held = Held::Yes;
        }
    }

    /// Looks at what changed by time and at nodes: each condition has to have held once. True: the wait is over.
    pub fn settle(&mut self, facts: &[Facts], cx: &mut Context<'_>) -> bool {
        if self.state != State::Running {
            return false;
        }
        let of = |name: &str| facts.iter().find(|facts| facts.name == name);
        for (condition, held) in self.wait.conditions.iter().zip(&mut self.conditions) {
            let now = match (condition, *held) {
                (Condition::Time(_), Held::At(at)) => at <= cx.now,
                (Condition::NodeReady(name), _) => of(name).is_some_and(|node| node.ready),
                (Condition::NodeExited(name), _) => of(name).is_some_and(|node| node.ended_well),
                _ => false,
            };
            if now {
                *held = Held::Yes;
            }
        }
        if self.conditions.iter().all(|held| *held == Held::Yes) {
            self.to(State::Done, Why::Shown, cx);
            return true;
        }
        false
    }

    /// Fails if it is late; false: it is not.
    pub fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        if self.state != State::Running || self.deadline.is_none_or(|at| at > cx.now) {
            return false;
        }
        self.verdict = Some(Outcome::NotReady { task: self.task });
        let time = cx.now.saturating_sub(self.since);
        self.end(State::Failed, Why::NotReady(time), cx);
        true
    }

    /// Waits no longer.
    pub fn end(&mut self, state: State, why: Why, cx: &mut Context<'_>) {
        if self.state == State::Running {
            self.to(state, why, cx);
            for held in &self.conditions {
                if let Held::Shown(probe) = *held {
                    cx.act(Action::Forget { probe });
                }
            }
        }
    }

    fn to(&mut self, state: State, why: Why, cx: &mut Context<'_>) {
        self.state = state;
        self.since = cx.now;
        cx.tell(self.task, state, why, None);
    }
}
