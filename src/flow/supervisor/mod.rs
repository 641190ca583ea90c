//! What runs a flow, without its hands: events and the time go in, actions come out. It does no I/O, reads no clock and has no
//! threads.
//!
//! What drives it hands in each [`Event`] with the time, carries out each [`Action`] in the order given, and calls
//! [`Supervisor::tick`] when [`Supervisor::due`] has come, after all events that came before: a sign of life that waits to be
//! read must not be missed because its time is over.
//!
//! # What it promises
//!
//! * A task begins when all that it needs is done. A node is done once it was ready: at its spawn, or, if it says how that is
//!   shown, then. A run is done when it ended with 0 and nothing is left of it; a wait when each of its conditions has held
//!   once. A node or a run that failed for good with [`Then::Ignore`] counts as done.
//! * Failures are: to end otherwise than with 0, to end before being ready, a spawn that fails, not to be ready in time, and no
//!   sign of life in time. Each goes through the restart policy. No more than [`Restart::max`] restarts begin within any
//!   [`Restart::window`]; the wait before one doubles, and begins anew after the node was ready for a window. One that ends
//!   well and is always restarted is counted the same way.
//! * A node is not started before nothing is left of its life before. What a process leaves has a moment to follow it and is
//!   stopped then as the node is.
//! * Stopping is the node's own signal, SIGTERM and SIGKILL, each when the one before did not empty the life in time. It has
//!   no end if even SIGKILL does not.
//! * A wait or a node that failed for good with [`Then::StopFlow`] stops the flow, as does being asked to: the startup ends, runs
//!   are stopped at once, nodes in the order of the plan, and nothing is started again. That takes no longer than
//!   [`Supervisor::stop_bound`] and what the reports take. If nothing is active any more, the flow is over by itself.
//! * Asked a second time, it sends SIGKILL to all at once.
//! * A report that is late or comes twice does nothing.
//!
//! [`Then::Ignore`]: crate::flow::model::Then::Ignore
//! [`Then::StopFlow`]: crate::flow::model::Then::StopFlow
//! [`Restart::max`]: crate::flow::model::Restart::max
//! [`Restart::window`]: crate::flow::model::Restart::window

mod policy;
mod process;
mod stops;
#[cfg(test)]
mod tests;
mod types;
mod wait;
#[cfg(test)]
mod world;

use std::time::Duration;

use process::Process;
use stops::Stops;
pub use types::{
    Action, End, Event, Life, Outcome, Phase, ProbeId, Refusal, Report, Rung, State, Status, Time, Watch, Why,
};
use types::{Context, Numbers};
use wait::{Facts, Waiting};

use super::plan::{Plan, TaskId, TaskKind};

/// Runs a flow. See the [module](self).
#[derive(Clone, Debug)]
pub struct Supervisor {
    plan: Plan,
    tasks: Vec<Task>,
    stops: Stops,
    phase: Phase,
    cause: Option<Outcome>,
    stop_asked: bool,
    killing: bool,
    numbers: Numbers,
    now: Time,
}

#[derive(Clone, Debug)]
enum Task {
    Process(Box<Process>),
    Wait(Waiting),
}

impl Supervisor {
    /// A flow that has not begun.
    pub fn new(plan: Plan) -> Self {
        let tasks = plan.tasks.iter().enumerate().map(|(index, task)| match &task.kind {
            TaskKind::Node(node) => Task::Process(Box::new(Process::new(TaskId(index), node.clone(), false))),
            TaskKind::Run(node) => Task::Process(Box::new(Process::new(TaskId(index), node.clone(), true))),
            TaskKind::Wait(wait) => Task::Wait(Waiting::new(TaskId(index), wait.clone())),
        });
        Self {
            tasks: tasks.collect(),
            stops: Stops::new(&plan),
            plan,
            phase: Phase::Starting,
            cause: None,
            stop_asked: false,
            killing: false,
            numbers: Numbers::default(),
            now: Time::ZERO,
        }
    }

    /// Begins. To be called once, before anything else.
    pub fn start(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.act(now, actions, Self::settle);
    }

    /// Something happened.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        if self.phase != Phase::Over {
            self.act(now, actions, |flow, cx| {
                flow.react(event, cx);
                flow.settle(cx);
            });
        }
    }

    /// When [`tick`](Self::tick) has to be called next, if nothing happens before.
    pub fn due(&self) -> Option<Time> {
        if self.phase == Phase::Over {
            return None;
        }
        let tasks = self.tasks.iter().filter_map(|task| match task {
            Task::Process(process) => process.due(),
            Task::Wait(wait) => wait.due(),
        });
        tasks.chain(self.stops.due()).min()
    }

    /// Does what the time has come for. What is due afterwards lies ahead.
    pub fn tick(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.act(now, actions, |flow, cx| {
            loop {
                // First what holds by now, so that a wait for a time is not late at that time.
                flow.settle(cx);
                let mut ticked = false;
                for task in &mut flow.tasks {
                    ticked |= match task {
                        Task::Process(process) => process.tick(cx),
                        Task::Wait(wait) => wait.tick(cx),
                    };
                }
                if !ticked {
                    break;
                }
            }
        });
    }

    /// How each task is, in the order of the plan.
    pub fn status(&self) -> impl Iterator<Item = Status> + '_ {
        self.tasks.iter().map(|task| match task {
            Task::Process(process) => process.status(),
            Task::Wait(wait) => wait.status(),
        })
    }

    /// How the flow is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether [`Event::RestartAsked`] and [`Event::StopNodeAsked`] do something to it.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn restartable(&self, task: TaskId) -> Result<(), Refusal> {
        match self.tasks.get(task.0) {
            Some(Task::Process(process)) if self.phase != Phase::Over => process.controllable(),
            Some(Task::Process(_)) => Err(Refusal::FlowStops),
            _ => Err(Refusal::NoNode),
        }
    }

    /// How long it takes from being asked to stop to the last SIGKILL, if everything has to be killed: the timeouts and waits along
    /// the longest way through the shutdown, and for each node a moment. What is being spawned, and what takes its time to die,
    /// comes in addition.
    pub fn stop_bound(&self) -> Duration {
        stops::bound(&self.plan)
    }

    fn act(&mut self, now: Time, actions: &mut Vec<Action>, what: impl FnOnce(&mut Self, &mut Context<'_>)) {
        self.now = self.now.max(now);
        let mut cx = Context { now: self.now, actions, numbers: self.numbers };
        what(self, &mut cx);
        self.numbers = cx.numbers;
    }

    fn react(&mut self, event: Event, cx: &mut Context<'_>) {
        match event {
            Event::Spawned { life, pid } => {
                if let Some(process) = self.by_life(life) {
                    process.spawned(pid, cx);
                }
            }
            Event::SpawnFailed { life, error } => {
                if let Some(process) = self.by_life(life) {
                    process.spawn_failed(error, cx);
                }
            }
            Event::Exited { life, end } => {
                if let Some(process) = self.by_life(life) {
                    process.exited(end, cx);
                }
            }
            Event::Emptied { life } => {
                if let Some(process) = self.by_life(life) {
                    process.emptied(cx);
                }
            }
            Event::Holds { probe } => match self.by_probe(probe) {
                Some(Task::Process(process)) => process.holds(cx),
                Some(Task::Wait(wait)) => wait.holds(probe),
                None => {}
            },
            Event::Fails { probe } => {
                if let Some(Task::Process(process)) = self.by_probe(probe) {
                    process.fails(cx);
                }
            }
            Event::Beat { probe } => {
                if let Some(Task::Process(process)) = self.by_probe(probe) {
                    process.beat(cx.now);
                }
            }
            Event::StopAsked if self.stop_asked => self.kill(cx),
            Event::StopAsked => {
                self.stop_asked = true;
                self.stop(None, cx);
            }
            Event::RestartAsked { task } => {
                if let Some(process) = self.by_request(task) {
                    process.restart(cx);
                }
            }
            Event::StopNodeAsked { task } => {
                if let Some(process) = self.by_request(task) {
                    process.stop(Why::Asked, cx);
                }
            }
            Event::GuardianLost => self.lose_guardian(cx),
        }
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.tasks.iter_mut().filter_map(|task| match task {
            Task::Process(process) => Some(&mut **process),
            Task::Wait(_) => None,
        })
    }

    fn by_life(&mut self, life: Life) -> Option<&mut Process> {
        self.processes().find(|process| process.life() == Some(life))
    }

    fn by_probe(&mut self, probe: ProbeId) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| match task {
            Task::Process(process) => process.looks_by(probe),
            Task::Wait(wait) => wait.looks_by(probe),
        })
    }

    fn by_request(&mut self, task: TaskId) -> Option<&mut Process> {
        self.restartable(task).ok()?;
        match self.tasks.get_mut(task.0) {
            Some(Task::Process(process)) => Some(process),
            _ => None,
        }
    }

    fn to(&mut self, phase: Phase, cx: &mut Context<'_>) {
        self.phase = phase;
        cx.act(Action::Tell(Report::Flow { at: cx.now, phase, cause: self.cause.clone() }));
    }

    /// Begins to stop, if it does not yet.
    fn stop(&mut self, cause: Option<Outcome>, cx: &mut Context<'_>) {
        if !matches!(self.phase, Phase::Starting | Phase::Up) {
            return;
        }
        self.cause = cause;
        self.to(Phase::Stopping, cx);
        for (index, task) in self.tasks.iter_mut().enumerate() {
            match task {
                Task::Process(process) => {
                    process.retire(cx);
                    if !stops::lists(&self.plan, TaskId(index)) {
                        process.stop(Why::FlowStops, cx);
                    }
                }
                Task::Wait(wait) => wait.end(State::Stopped, Why::FlowStops, cx),
            }
        }
    }

    fn kill(&mut self, cx: &mut Context<'_>) {
        self.killing = true;
        for process in self.processes() {
            process.kill(cx);
        }
    }

    fn lose_guardian(&mut self, cx: &mut Context<'_>) {
        for task in &mut self.tasks {
            match task {
                Task::Process(process) => process.lose_guardian(cx),
                Task::Wait(wait) => wait.end(State::Stopped, Why::GuardianLost, cx),
            }
        }
        self.finish(Outcome::GuardianLost, cx);
    }

    fn finish(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        self.phase = Phase::Over;
        cx.act(Action::Finish(outcome));
    }

    /// Draws the conclusions until there is nothing more to be drawn.
    fn settle(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        loop {
            let verdict = self.tasks.iter_mut().find_map(|task| match task {
                Task::Process(process) => process.take_verdict(),
                Task::Wait(wait) => wait.take_verdict(),
            });
            if verdict.is_some() {
                self.stop(verdict, cx);
                continue;
            }
            let changed = match self.phase {
                Phase::Starting | Phase::Up => self.begin_tasks(cx) | self.settle_waits(cx),
                Phase::Stopping => self.advance_stops(cx),
                Phase::Over => false,
            };
            if !changed {
                break;
            }
        }
        if self.phase == Phase::Starting && self.tasks.iter().all(Task::is_done) {
            self.to(Phase::Up, cx);
        }
        let over = match self.phase {
            Phase::Stopping => self.stops.is_done() && !self.tasks.iter().any(Task::lives),
            _ => !self.tasks.iter().any(|task| task.state().is_active()),
        };
        if over {
            let killed: Vec<_> = (0..self.tasks.len()).map(TaskId).filter(|id| self.had_to_be_killed(*id)).collect();
            let well = if killed.is_empty() { Outcome::Clean } else { Outcome::Killed(killed) };
            let outcome = self.cause.take().unwrap_or(well);
            self.finish(outcome, cx);
        }
    }

    fn had_to_be_killed(&self, task: TaskId) -> bool {
        matches!(&self.tasks[task.0], Task::Process(process) if process.had_to_be_killed())
    }

    /// Begins what has its turn; false: nothing has.
    fn begin_tasks(&mut self, cx: &mut Context<'_>) -> bool {
        let mut begun = false;
        for index in 0..self.tasks.len() {
            let ready = self.plan.tasks[index].needs.iter().all(|need| self.tasks[need.0].is_done());
            if ready && self.tasks[index].state() == State::Waiting {
                match &mut self.tasks[index] {
                    Task::Process(process) => process.begin(Why::Turn, cx),
                    Task::Wait(wait) => wait.begin(cx),
                }
                begun = true;
            }
        }
        begun
    }

    fn settle_waits(&mut self, cx: &mut Context<'_>) -> bool {
        let facts: Vec<_> = self.tasks.iter().filter_map(Task::facts).collect();
        let mut changed = false;
        for task in &mut self.tasks {
            if let Task::Wait(wait) = task {
                changed |= wait.settle(&facts, cx);
            }
        }
        changed
    }

    fn advance_stops(&mut self, cx: &mut Context<'_>) -> bool {
        let tasks = &mut self.tasks;
        self.stops.advance(&self.plan, !self.killing, cx, |TaskId(task), begin, cx| match &mut tasks[task] {
            Task::Process(process) => {
                if begin {
                    process.stop(Why::FlowStops, cx);
                }
                process.life().is_none()
            }
            Task::Wait(_) => true,
        })
    }
}

impl Task {
    fn state(&self) -> State {
        match self {
            Self::Process(process) => process.state(),
            Self::Wait(wait) => wait.state(),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Process(process) => process.is_done(),
            Self::Wait(wait) => wait.state() == State::Done,
        }
    }

    fn lives(&self) -> bool {
        matches!(self, Self::Process(process) if process.life().is_some())
    }

    fn facts(&self) -> Option<Facts> {
        match self {
            Self::Process(process) => Some(process.facts()),
            Self::Wait(_) => None,
        }
    }
}
