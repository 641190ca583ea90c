//! One node or run: its lives, one after the other.

use std::time::Duration;

use super::policy::{self, Budget};
use super::types::{Action, Context, End, Life, Outcome, ProbeId, Refusal, Rung, State, Status, Time, Watch, Why};
use super::wait::Facts;
use crate::flow::model::{Alive, Check, Node, Policy, Then};
use crate::flow::plan::TaskId;

/// How long what a process left has to follow it, before it is told to. What is connected to it by pipes or sockets does.
pub(super) const LINGER: Duration = Duration::from_millis(100);
/// From a command's end to its next try, while its node is not ready.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// A node or a run.
#[derive(Clone, Debug)]
pub(super) struct Process {
    task: TaskId,
    node: Node,
    is_run: bool,
    state: State,
    since: Time,
    /// When the state ends at the latest.
    deadline: Option<Time>,
    /// From the spawn on.
    life: Option<Life>,
    /// It is known that its process runs or ran: it can be signalled.
    spawned: bool,
    pid: Option<u32>,
    /// The life's process has ended.
    ended: bool,
    /// What shows that it is ready came before the news that it was spawned.
    shown: bool,
    look: Look,
    /// What becomes of it when nothing is left of the life.
    after: After,
    budget: Budget,
    restarts: u32,
    last_end: Option<End>,
    done: bool,
    ended_well: bool,
    had_to_be_killed: bool,
    /// The flow stops: it is not started again.
    retired: bool,
    /// What the flow is to stop for.
    verdict: Option<Outcome>,
}

/// What is looked at, to see that it is ready or alive.
#[derive(Clone, Copy, Default, Debug)]
struct Look {
    probe: Option<ProbeId>,
    /// With a probe, the time at which the answer is late; without, the time to look.
    at: Option<Time>,
}

#[derive(Clone, PartialEq, Debug)]
enum After {
    BackOff(Duration),
    Again,
    Fail(Why),
    Exit,
    Stop,
}

impl Process {
    pub fn new(task: TaskId, node: Node, is_run: bool) -> Self {
        Self {
            task,
            node,
            is_run,
            state: State::Waiting,
            since: Time::ZERO,
            deadline: None,
            life: None,
            spawned: false,
            pid: None,
            ended: false,
            shown: false,
            look: Look::default(),
            after: After::Stop,
            budget: Budget::default(),
            restarts: 0,
            last_end: None,
            done: false,
            ended_well: false,
            had_to_be_killed: false,
            retired: false,
            verdict: None,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn life(&self) -> Option<Life> {
        self.life
    }

    pub fn looks_by(&self, probe: ProbeId) -> bool {
        self.look.probe == Some(probe)
    }

    /// What needs it can begin.
    pub fn is_done(&self) -> bool {
        self.done
    }

    pub fn facts(&self) -> Facts {
        Facts {
            name: self.node.name.clone(),
            ready: matches!(self.state, State::Ready | State::Exited),
            ended_well: self.ended_well,
        }
    }

    pub fn had_to_be_killed(&self) -> bool {
        self.had_to_be_killed
    }

    pub fn take_verdict(&mut self) -> Option<Outcome> {
        self.verdict.take()
    }

    pub fn status(&self) -> Status {
        Status {
            task: self.task,
            state: self.state,
            since: self.since,
            pid: self.pid,
            restarts: self.restarts,
            last_end: self.last_end,
        }
    }

    pub fn due(&self) -> Option<Time> {
        self.deadline.into_iter().chain(self.look.at).min()
    }

    pub fn begin(&mut self, why: Why, cx: &mut Context<'_>) {
        let life = cx.next_life();
        self.life = Some(life);
        self.spawned = false;
        self.ended = false;
        self.shown = false;
        self.to(State::Starting, why, cx);
        // A line or a message of the process is heard only by who listens before it runs.
        if matches!(self.check(), Some(Check::Log(_) | Check::Notify)) {
            self.look_for_ready(cx);
        }
        cx.act(Action::Spawn { life, task: self.task });
    }

    pub fn spawned(&mut self, pid: u32, cx: &mut Context<'_>) {
        if self.spawned {
            return;
        }
        self.spawned = true;
        self.pid = Some(pid);
        match self.state {
            State::Stopping(rung) => self.send(rung, cx),
            _ if self.is_run => self.to(State::Running, Why::Spawned, cx),
            _ => match &self.node.ready {
                None => self.become_ready(Why::Spawned, cx),
                Some(_) if self.shown => self.become_ready(Why::Shown, cx),
                Some(ready) => {
                    self.deadline = Some(cx.now.saturating_add(ready.timeout));
                    if self.look.probe.is_none() {
                        self.look_for_ready(cx);
                    }
                }
            },
        }
    }

    pub fn spawn_failed(&mut self, error: String, cx: &mut Context<'_>) {
        if self.spawned {
            return;
        }
        self.life = None;
        match self.state {
            State::Stopping(_) => self.finish(cx),
            _ => self.fail(Why::SpawnFailed(error), cx),
        }
    }

    pub fn exited(&mut self, end: End, cx: &mut Context<'_>) {
        if self.ended {
            return;
        }
        self.spawned = true;
        self.ended = true;
        self.last_end = Some(end);
        if matches!(self.state, State::Stopping(_)) {
            return;
        }
        let well = end == End::Code(0) && (self.is_run || self.state == State::Ready);
        self.ended_well |= well;
        let always = !self.is_run && self.node.restart.policy == Policy::Always && !self.retired;
        if well && !always {
            self.after = After::Exit;
            self.leave(Why::Ended(end), cx);
        } else {
            self.fail(Why::Ended(end), cx);
        }
    }

    pub fn emptied(&mut self, cx: &mut Context<'_>) {
        self.life = None;
        match self.state {
            State::Stopping(_) => self.finish(cx),
            _ => self.fail(Why::Vanished, cx),
        }
    }

    pub fn holds(&mut self, cx: &mut Context<'_>) {
        match (self.state, &self.node.alive) {
            (State::Starting, _) => {
                self.look = Look::default();
                if self.spawned {
                    self.become_ready(Why::Shown, cx);
                } else {
                    self.shown = true;
                }
            }
            (State::Ready, Some(Alive::Exec { every, .. })) => {
                self.look = Look { probe: None, at: Some(cx.now.saturating_add(*every)) };
            }
            _ => {}
        }
    }

    pub fn fails(&mut self, cx: &mut Context<'_>) {
        match (self.state, &self.node.alive) {
            (State::Starting, _) if matches!(self.check(), Some(Check::Exec(_))) => {
                self.look = Look { probe: None, at: Some(cx.now.saturating_add(RETRY)) };
            }
            (State::Ready, Some(Alive::Exec { .. })) => {
                self.look = Look::default();
                self.fail(Why::CheckFailed, cx);
            }
            _ => {}
        }
    }

    pub fn beat(&mut self, now: Time) {
        if let (State::Ready, Some(Alive::Topic { within, .. } | Alive::Notify { within })) =
            (self.state, &self.node.alive)
        {
            self.look.at = Some(now.saturating_add(*within));
        }
    }

    /// Does what is due; false: nothing was.
    pub fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        if self.deadline.is_some_and(|at| at <= cx.now) {
            self.deadline = None;
            match self.state {
                State::Starting => {
                    let time = self.node.ready.as_ref().map_or(Duration::ZERO, |ready| ready.timeout);
                    self.fail(Why::NotReady(time), cx);
                }
                State::BackingOff => {
                    self.budget.count(cx.now);
                    self.begin_again(cx);
                }
                State::Stopping(rung) => {
                    if let Some(next) = policy::next(rung, &self.node.stop) {
                        let time = if rung == Rung::Left { LINGER } else { self.node.stop.timeout };
                        self.climb(next, Why::StillThere(time), cx);
                    }
                }
                _ => {}
            }
            return true;
        }
        if self.look.at.is_some_and(|at| at <= cx.now) {
            self.look.at = None;
            match (self.state, self.node.alive.clone()) {
                (State::Starting, _) => self.look_for_ready(cx),
                (State::Ready, Some(Alive::Exec { command, timeout, .. })) if self.look.probe.is_none() => {
                    self.look_for_alive(Watch::Exec(command), timeout, cx);
                }
                (State::Ready, Some(Alive::Exec { timeout, .. })) => self.fail(Why::NotAlive(timeout), cx),
                (State::Ready, Some(Alive::Topic { within, .. } | Alive::Notify { within })) => {
                    self.fail(Why::NotAlive(within), cx);
                }
                _ => {}
            }
            return true;
        }
        false
    }

    /// Stops it, if anything of it runs. What follows a process that ended is given its moment nevertheless: mostly there is
    /// nothing left, and the news of it is under way.
    pub fn stop(&mut self, why: Why, cx: &mut Context<'_>) {
        if matches!(self.after, After::BackOff(_) | After::Again) {
            self.after = After::Stop;
        }
        match self.state {
            State::Starting | State::Running | State::Ready => {
                self.after = After::Stop;
                self.climb(policy::first(&self.node.stop), why, cx);
            }
            State::BackingOff => self.to(State::Stopped, why, cx),
            _ => {}
        }
    }

    /// Kills it at once, if anything of it runs.
    pub fn kill(&mut self, cx: &mut Context<'_>) {
        if self.life.is_some() && self.state != State::Stopping(Rung::Kill) {
            if !matches!(self.state, State::Stopping(_)) {
                self.after = After::Stop;
            }
            self.climb(Rung::Kill, Why::AskedTwice, cx);
        }
    }

    /// It is not started again, whatever becomes of it.
    pub fn retire(&mut self, cx: &mut Context<'_>) {
        self.retired = true;
        if matches!(self.after, After::BackOff(_) | After::Again) {
            self.after = After::Stop;
        }
        if self.state == State::BackingOff {
            self.to(State::Stopped, Why::FlowStops, cx);
        }
    }

    /// Whether it can be stopped or restarted on request.
    pub fn controllable(&self) -> Result<(), Refusal> {
        match self.state {
            _ if self.is_run => Err(Refusal::NoNode),
            _ if self.retired => Err(Refusal::FlowStops),
            State::Waiting => Err(Refusal::NotBegun),
            _ => Ok(()),
        }
    }

    pub fn restart(&mut self, cx: &mut Context<'_>) {
        self.budget = Budget::default();
        match self.state {
            State::Starting | State::Running | State::Ready => {
                self.climb(policy::first(&self.node.stop), Why::Asked, cx);
                self.after = After::Again;
            }
            State::Stopping(_) => self.after = After::Again,
            _ => self.begin_again(cx),
        }
    }

    pub fn lose_guardian(&mut self, cx: &mut Context<'_>) {
        self.retired = true;
        self.life = None;
        self.pid = None;
        if self.state.is_active() {
            self.to(State::Failed, Why::GuardianLost, cx);
        }
    }

    fn check(&self) -> Option<&Check> {
        self.node.ready.as_ref().filter(|_| !self.is_run).map(|ready| &ready.check)
    }

    fn begin_again(&mut self, cx: &mut Context<'_>) {
        self.restarts = self.restarts.saturating_add(1);
        self.begin(Why::Restart(self.restarts), cx);
    }

    fn become_ready(&mut self, why: Why, cx: &mut Context<'_>) {
        self.to(State::Ready, why, cx);
        self.done = true;
        match self.node.alive.clone() {
            None => {}
            Some(Alive::Topic { topic, within }) => self.look_for_alive(Watch::Moves { topic, within }, within, cx),
            Some(Alive::Notify { within }) => self.look_for_alive(Watch::Watchdog { within }, within, cx),
            Some(Alive::Exec { command, timeout, .. }) => self.look_for_alive(Watch::Exec(command), timeout, cx),
        }
    }

    fn look_for_ready(&mut self, cx: &mut Context<'_>) {
        let what = match self.check().cloned() {
            None => return,
            Some(Check::Topic { topic, hz }) => Watch::Topic { topic, hz },
            Some(Check::Log(pattern)) => Watch::Log(pattern),
            Some(Check::Exec(command)) => Watch::Exec(command),
            Some(Check::Notify) => Watch::Notify,
            Some(Check::File(path)) => Watch::File(path),
        };
        self.look = Look { probe: Some(cx.watch(self.task, self.life, what)), at: None };
    }

    fn look_for_alive(&mut self, what: Watch, within: Duration, cx: &mut Context<'_>) {
        let probe = cx.watch(self.task, self.life, what);
        self.look = Look { probe: Some(probe), at: Some(cx.now.saturating_add(within)) };
    }

    fn to(&mut self, state: State, why: Why, cx: &mut Context<'_>) {
        if let Some(probe) = std::mem::take(&mut self.look).probe {
            cx.act(Action::Forget { probe });
        }
        self.state = state;
        self.since = cx.now;
        self.deadline = None;
        cx.tell(self.task, state, why, self.pid);
    }

    /// It ended or does not do what it should, by itself.
    fn fail(&mut self, why: Why, cx: &mut Context<'_>) {
        let policy = &self.node.restart;
        if self.state == State::Ready {
            self.budget.was_ready(cx.now.saturating_sub(self.since), policy);
        }
        let restartable = !self.retired && policy.policy != Policy::Never;
        self.after = match restartable.then(|| self.budget.again(cx.now, policy)) {
            Some(Some(backoff)) => After::BackOff(backoff),
            Some(None) => After::Fail(Why::Exhausted { restarts: policy.max, within: policy.window }),
            None => After::Fail(why.clone()),
        };
        if !self.retired && policy.then == Then::StopFlow && matches!(self.after, After::Fail(_)) {
            self.verdict = Some(match why {
                Why::NotReady(_) => Outcome::NotReady { task: self.task },
                _ => Outcome::NodeFailed { task: self.task, why: why.clone() },
            });
        }
        self.leave(why, cx);
    }

    /// Gets rid of what is left of it.
    fn leave(&mut self, why: Why, cx: &mut Context<'_>) {
        if self.life.is_none() {
            self.finish_for(Some(why), cx);
        } else if self.ended {
            self.climb(Rung::Left, why, cx);
        } else {
            self.climb(policy::first(&self.node.stop), why, cx);
        }
    }

    fn climb(&mut self, rung: Rung, why: Why, cx: &mut Context<'_>) {
        self.to(State::Stopping(rung), why, cx);
        // Otherwise it follows as soon as it is known that there is something to be signalled.
        if self.spawned {
            self.send(rung, cx);
        }
    }

    fn send(&mut self, rung: Rung, cx: &mut Context<'_>) {
        let (Some(life), stop) = (self.life, &self.node.stop) else { return };
        if let Some(signal) = policy::signal(rung, stop) {
            cx.act(Action::Signal { life, signal });
        }
        let time = if rung == Rung::Left { LINGER } else { stop.timeout };
        self.deadline = (rung != Rung::Kill).then(|| cx.now.saturating_add(time));
        self.had_to_be_killed |= rung == Rung::Kill && policy::first(stop) != Rung::Kill;
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        self.finish_for(None, cx);
    }

    /// Nothing is left of the life.
    fn finish_for(&mut self, why: Option<Why>, cx: &mut Context<'_>) {
        self.pid = None;
        self.spawned = false;
        match std::mem::replace(&mut self.after, After::Stop) {
            After::BackOff(backoff) => {
                // Who reads of a spawn that failed should not miss why, and there was no state in between that told.
                self.to(State::BackingOff, why.unwrap_or(Why::Again(backoff)), cx);
                self.deadline = Some(cx.now.saturating_add(backoff));
            }
            After::Again => self.begin_again(cx),
            After::Fail(because) => {
                self.to(State::Failed, why.unwrap_or(because), cx);
                self.done |= self.node.restart.then == Then::Ignore;
            }
            After::Exit => {
                self.done = true;
                self.to(State::Exited, Why::Gone, cx);
            }
            After::Stop => self.to(State::Stopped, Why::Gone, cx),
        }
    }
}
