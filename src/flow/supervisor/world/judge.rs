//! What the world knows by itself, and whether the supervisor keeps to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::*;
use super::ms;
use crate::flow::model::{Alive, Condition, Node, Policy, Then};
use crate::flow::plan::StopKind;

/// What each step of a shutdown may take in addition to its times: a spawn, reports, deaths and late ticks.
const SLACK: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Known {
    told: Option<State>,
    since: Time,
    done: bool,
    ended_well: bool,
    ready: bool,
    life: Option<Life>,
    emptied: Time,
    beat: Time,
    begun: bool,
    /// Restarts by policy, since the last on request.
    restarts: Vec<Time>,
    requested: bool,
    last_end: Option<End>,
    held: BTreeSet<usize>,
}

struct Lived {
    task: usize,
    spawned: bool,
    gone: bool,
    exited: Option<End>,
    shown: bool,
    signals: Vec<(Time, i32)>,
}

pub(super) struct Judge {
    pub plan: Plan,
    tasks: Vec<Known>,
    lives: BTreeMap<Life, Lived>,
    /// Those that were not forgotten and did not end.
    probes: BTreeMap<ProbeId, (usize, Option<Life>, Watch)>,
    phase: Phase,
    stopping: Option<Time>,
    stop_asked: u32,
    killed_at: Option<Time>,
    guardian_lost: bool,
    failed: bool,
    had_to_kill: bool,
    finished: Option<Outcome>,
}

impl Judge {
    pub fn new(plan: Plan) -> Self {
        Self {
            tasks: plan.tasks.iter().map(|_| Known::default()).collect(),
            plan,
            lives: BTreeMap::new(),
            probes: BTreeMap::new(),
            phase: Phase::Starting,
            stopping: None,
            stop_asked: 0,
            killed_at: None,
            guardian_lost: false,
            failed: false,
            had_to_kill: false,
            finished: None,
        }
    }

    pub fn kind(&self, life: Life) -> &TaskKind {
        &self.plan.tasks[self.lives[&life].task].kind
    }

    pub fn watched(&self, probe: ProbeId) -> bool {
        self.probes.contains_key(&probe)
    }

    fn node(&self, task: usize) -> Option<&Node> {
        match &self.plan.tasks[task].kind {
            TaskKind::Node(node) => Some(node),
            TaskKind::Run(_) | TaskKind::Wait(_) => None,
        }
    }

    fn program(&self, task: usize) -> &Node {
        match &self.plan.tasks[task].kind {
            TaskKind::Node(node) | TaskKind::Run(node) => node,
            TaskKind::Wait(_) => panic!("a wait is no program"),
        }
    }

    /// What is about to be handed in.
    pub fn event(&mut self, now: Time, event: &Event, flow: &Supervisor) {
        if self.finished.is_some() {
            return;
        }
        match event {
            Event::Spawned { life, .. } => {
                self.lives.get_mut(life).unwrap().spawned = true;
                self.look_for_done(*life);
            }
            Event::SpawnFailed { life, .. } => self.gone(now, *life),
            Event::Exited { life, end } => {
                let lived = self.lives.get_mut(life).unwrap();
                let known = &mut self.tasks[lived.task];
                if lived.exited.is_none() && !lived.gone {
                    lived.exited = Some(*end);
                    known.last_end = Some(*end);
                    let by_itself = matches!(known.told, Some(State::Ready | State::Running));
                    known.ended_well |= by_itself && *end == End::Code(0);
                }
            }
            Event::Emptied { life } => {
                let lived = &self.lives[life];
                let run = matches!(self.plan.tasks[lived.task].kind, TaskKind::Run(_));
                if run && !lived.gone && self.tasks[lived.task].ended_well {
                    self.tasks[lived.task].done = true;
                }
                self.gone(now, *life);
            }
            Event::Holds { probe } => {
                if let Some((task, life, what)) = self.probes.remove(probe) {
                    match life {
                        Some(life) => {
                            self.lives.get_mut(&life).expect("looks are answered later").shown = true;
                            self.look_for_done(life);
                        }
                        None => self.hold(task, &what),
                    }
                }
            }
            Event::Fails { probe } => {
                self.probes.remove(probe);
            }
            Event::Beat { probe } => {
                if let Some((task, _, _)) = self.probes.get(probe) {
                    self.tasks[*task].beat = now;
                }
            }
            Event::StopAsked => {
                self.stop_asked += 1;
                if self.stop_asked == 2 {
                    self.killed_at = Some(now);
                }
            }
            Event::RestartAsked { task } => {
                if flow.restartable(*task).is_ok() {
                    self.tasks[task.0].requested = true;
                    self.tasks[task.0].restarts.clear();
                }
            }
            Event::StopNodeAsked { task } => self.tasks[task.0].requested = false,
            Event::GuardianLost => self.guardian_lost = true,
        }
    }

    fn gone(&mut self, now: Time, life: Life) {
        let lived = self.lives.get_mut(&life).unwrap();
        if !lived.gone {
            lived.gone = true;
            self.tasks[lived.task].life = None;
            self.tasks[lived.task].emptied = now;
        }
    }

    fn look_for_done(&mut self, life: Life) {
        let lived = &self.lives[&life];
        let starting = self.tasks[lived.task].told == Some(State::Starting);
        if let Some(node) = self.node(lived.task) {
            if starting && !lived.gone && lived.spawned && (node.ready.is_none() || lived.shown) {
                self.tasks[lived.task].done = true;
            }
        }
    }

    fn hold(&mut self, task: usize, what: &Watch) {
        let TaskKind::Wait(wait) = &self.plan.tasks[task].kind else { panic!("a node's look has a life") };
        for (index, condition) in wait.conditions.iter().enumerate() {
            let same = matches!(
                (condition, what),
                (Condition::Topic(_), Watch::Topic { .. }) | (Condition::File(_), Watch::File(_))
            );
            if same && self.tasks[task].held.insert(index) {
                break;
            }
        }
    }

    /// What is to be carried out.
    pub fn action(&mut self, now: Time, action: &Action) {
        assert_eq!(self.finished, None, "{action:?} after the end");
        match action {
            Action::Spawn { life, task } => self.spawn(now, *life, *task),
            Action::Signal { life, signal } => self.signal(now, *life, *signal),
            Action::Watch { probe, task, life, what } => {
                let coming = life.is_some_and(|life| !self.lives.contains_key(&life));
                assert!(coming || self.tasks[task.0].life == *life, "a look for another life");
                assert!(self.probes.insert(*probe, (task.0, *life, what.clone())).is_none(), "{probe:?} again");
                self.tasks[task.0].beat = now;
            }
            Action::Forget { probe } => {
                assert!(self.probes.remove(probe).is_some(), "{probe:?} is not looked at");
            }
            Action::Tell(Report::Task { task, at, state, why, pid }) => {
                assert_eq!(*at, now);
                self.told(now, task.0, *state, why, *pid);
            }
            Action::Tell(Report::Flow { at, phase, cause }) => {
                assert_eq!(*at, now);
                assert_ne!(*phase, self.phase, "told twice");
                self.phase = *phase;
                match phase {
                    Phase::Stopping => {
                        assert!(self.stop_asked > 0 || cause.is_some(), "it stops for nothing");
                        self.stopping = Some(now);
                    }
                    Phase::Up => assert!(self.tasks.iter().all(|task| task.done), "it is not up"),
                    _ => panic!("not to be told"),
                }
            }
            Action::Finish(outcome) => self.finish(now, outcome),
        }
    }

    fn spawn(&mut self, now: Time, life: Life, task: TaskId) {
        assert_eq!(self.stopping, None, "a spawn while the flow stops");
        let needs = &self.plan.tasks[task.0].needs;
        assert!(needs.iter().all(|need| self.tasks[need.0].done), "{task:?} needs what is not done");
        let policy = self.program(task.0).restart.clone();
        let known = &mut self.tasks[task.0];
        assert_eq!(known.life, None, "two lives of {task:?}");
        known.life = Some(life);
        if known.begun && !std::mem::take(&mut known.requested) {
            assert_ne!(policy.policy, Policy::Never);
            assert!(now >= known.emptied + policy.backoff.0, "too soon");
            known.restarts.push(now);
            let recent = known.restarts.iter().filter(|restart| **restart + policy.window > now).count();
            assert!(recent <= policy.max as usize, "{recent} restarts within the window");
        }
        known.begun = true;
        let lived =
            Lived { task: task.0, spawned: false, gone: false, exited: None, shown: false, signals: Vec::new() };
        assert!(self.lives.insert(life, lived).is_none(), "{life:?} again");
    }

    fn signal(&mut self, now: Time, life: Life, signal: i32) {
        let task = self.lives[&life].task;
        let stop = self.program(task).stop;
        let lived = self.lives.get_mut(&life).unwrap();
        assert!(lived.spawned && !lived.gone, "a signal to what does not run");
        let hurried = self.killed_at.is_some() && signal == libc::SIGKILL;
        match lived.signals.last() {
            None => assert!(signal == stop.signal || hurried, "{signal} first"),
            Some((_, last)) if *last == stop.signal && *last != libc::SIGTERM && *last != libc::SIGKILL => {
                assert!(signal == libc::SIGTERM || hurried, "{signal} after {last}");
            }
            Some((_, last)) => {
                assert_eq!((*last, signal), (if hurried { *last } else { libc::SIGTERM }, libc::SIGKILL));
                assert_ne!(*last, libc::SIGKILL, "killed twice");
            }
        }
        if let Some((at, _)) = lived.signals.last() {
            assert!(hurried || now >= *at + stop.timeout, "{signal} too soon");
        }
        lived.signals.push((now, signal));
        self.had_to_kill |= signal == libc::SIGKILL && stop.signal != libc::SIGKILL;
    }

    fn told(&mut self, now: Time, task: usize, state: State, why: &Why, pid: Option<u32>) {
        let node = self.node(task).cloned();
        let (TaskKind::Node(Node { restart, .. }) | TaskKind::Run(Node { restart, .. })) = &self.plan.tasks[task].kind
        else {
            return self.told_wait(now, task, state);
        };
        let then = restart.then;
        let known = &mut self.tasks[task];
        assert_ne!(known.told, Some(state), "told twice");
        if known.told == Some(State::Ready) {
            if let (Why::NotAlive(time), Some(Alive::Topic { .. } | Alive::Notify { .. })) =
                (why, node.as_ref().and_then(|node| node.alive.as_ref()))
            {
                assert!(now >= known.beat + *time, "it was alive");
            }
        }
        if matches!(state, State::Stopping(_)) && *why == Why::FlowStops && self.killed_at.is_none() {
            Self::assert_turn(&self.plan, &self.lives, task);
        }
        match state {
            State::Ready => {
                assert!(known.done && pid.is_some(), "it is not ready");
                known.ready = true;
            }
            State::Failed => {
                let lost = *why == Why::GuardianLost;
                known.done |= then == Then::Ignore && !lost;
            }
            State::Stopping(_) => {
                let lived = &self.lives[&known.life.expect("it lives")];
                let by_itself = !matches!(why, Why::Asked | Why::AskedTwice | Why::FlowStops | Why::StillThere(_));
                self.failed |= by_itself && lived.exited != Some(End::Code(0)) && then == Then::StopFlow;
            }
            _ => {}
        }
        if matches!(why, Why::SpawnFailed(_)) || matches!(why, Why::Ended(_)) {
            self.failed |= then == Then::StopFlow;
        }
        if matches!(state, State::Exited | State::Failed | State::Stopped | State::BackingOff) {
            assert!(known.life.is_none() || self.guardian_lost, "something is left");
        }
        known.told = Some(state);
        known.since = now;
    }

    /// All nodes that are stopped before it are gone.
    fn assert_turn(plan: &Plan, lives: &BTreeMap<Life, Lived>, task: usize) {
        let mut before: Vec<_> = (0..plan.stops.len())
            .filter(|stop| plan.stops[*stop].kind == StopKind::Node(TaskId(task)))
            .flat_map(|stop| plan.stops[stop].after.clone())
            .collect();
        while let Some(stop) = before.pop() {
            before.extend(&plan.stops[stop].after);
            if let StopKind::Node(TaskId(other)) = plan.stops[stop].kind {
                assert!(lives.values().all(|lived| lived.task != other || lived.gone), "not its turn to be stopped");
            }
        }
    }

    fn told_wait(&mut self, now: Time, task: usize, state: State) {
        assert_ne!(self.tasks[task].told, Some(state), "told twice");
        let TaskKind::Wait(wait) = &self.plan.tasks[task].kind else { return };
        match state {
            State::Running => {
                let needs = &self.plan.tasks[task].needs;
                assert!(needs.iter().all(|need| self.tasks[need.0].done), "it needs what is not done");
            }
            State::Done => {
                for (index, condition) in wait.conditions.iter().enumerate() {
                    let by_name = |name: &str| &self.tasks[name[1..].parse::<usize>().unwrap()];
                    assert!(match condition {
                        Condition::Time(time) => now >= self.tasks[task].since + *time,
                        Condition::Topic(_) | Condition::File(_) => self.tasks[task].held.contains(&index),
                        Condition::NodeReady(name) => by_name(name).ready || by_name(name).ended_well,
                        Condition::NodeExited(name) => by_name(name).ended_well,
                    });
                }
                self.tasks[task].done = true;
            }
            State::Failed => self.failed = true,
            _ => {}
        }
        self.tasks[task].told = Some(state);
        self.tasks[task].since = now;
    }

    fn finish(&mut self, now: Time, outcome: &Outcome) {
        self.finished = Some(outcome.clone());
        assert_eq!(self.probes, BTreeMap::new(), "looks that were not forgotten");
        assert_eq!(*outcome == Outcome::GuardianLost, self.guardian_lost);
        if self.guardian_lost {
            return;
        }
        assert!(self.lives.values().all(|lived| lived.gone), "something runs at the end");
        let steps = self.plan.stops.len() as u32 + 2;
        if let Some(stopping) = self.stopping {
            let bound = super::super::stops::bound(&self.plan);
            assert!(now <= stopping + bound + SLACK * steps, "stopping took too long");
        }
        if let Some(killed) = self.killed_at {
            assert!(now <= killed + SLACK, "killing took too long");
        }
        match outcome {
            Outcome::Clean => assert!(!self.had_to_kill),
            Outcome::Killed(tasks) => assert!(self.had_to_kill && !tasks.is_empty()),
            Outcome::NodeFailed { .. } | Outcome::NotReady { .. } => assert!(self.failed && self.stopping.is_some()),
            Outcome::GuardianLost => {}
        }
    }

    /// All that was to be done is done.
    pub fn settled(&self, flow: &Supervisor) {
        for (status, known) in flow.status().zip(&self.tasks) {
            assert_eq!(status.state, known.told.unwrap_or(State::Waiting), "not told");
            assert_eq!(status.last_end, known.last_end);
        }
        if self.stopping.is_none() && !self.guardian_lost {
            for (task, known) in self.plan.tasks.iter().zip(&self.tasks) {
                let turn = task.needs.iter().all(|need| self.tasks[need.0].done);
                assert!(!turn || known.told.is_some(), "it is its turn");
                let active = known.told.is_some_and(State::is_active) && known.told != Some(State::BackingOff);
                assert!(!known.requested || active, "someone asked for it");
            }
            let active = self.tasks.iter().any(|known| known.told.is_some_and(State::is_active));
            assert_ne!(active, self.finished.is_some(), "it is over when nothing goes on");
        }
    }

    /// Nothing is due.
    pub fn ticked(&self, now: Time, late: Duration) {
        if self.finished.is_some() {
            return;
        }
        for (index, known) in self.tasks.iter().enumerate() {
            let Some(node) = self.node(index) else { continue };
            if let (Some(State::Ready), Some(Alive::Topic { within, .. } | Alive::Notify { within })) =
                (known.told, &node.alive)
            {
                assert!(now <= known.beat + *within + late, "it shows no sign of life");
            }
            if let (Some(State::Starting), Some(ready)) = (known.told, &node.ready) {
                assert!(now <= known.since + ready.timeout + late + ms(100), "it is not ready");
            }
        }
    }

    pub fn end(self) {
        assert!(self.finished.is_some(), "it never ended");
    }
}
