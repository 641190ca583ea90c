//! Flows, step by step.

use std::path::PathBuf;

use super::*;
use crate::flow::model::{Alive, Check, Condition, Node, Policy, Ready, Restart, Stop, Then, Wait};
use crate::flow::plan::{self, StopKind, StopTask};

const S: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// `policy`: never restarted, stopped by SIGINT with a second for each rung.
fn node(name: &str) -> Node {
    Node {
        name: name.into(),
        program: name.into(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        ready: None,
        alive: None,
        restart: Restart { policy: Policy::Never, backoff: (ms(100), S), max: 2, window: 60 * S, then: Then::StopFlow },
        stop: Stop { signal: libc::SIGINT, timeout: S },
        cpu: Vec::new(),
        needs: None,
    }
}

fn restarted(name: &str, policy: Policy) -> Node {
    let mut node = node(name);
    node.restart.policy = policy;
    node
}

fn ready(mut node: Node, check: Check) -> Node {
    node.ready = Some(Ready { check, timeout: 5 * S });
    node
}

/// One after the other, and stopped the other way round.
fn line(kinds: Vec<TaskKind>) -> Plan {
    let nodes: Vec<_> = (0..kinds.len()).filter(|at| matches!(kinds[*at], TaskKind::Node(_))).collect();
    let stops = nodes.iter().rev().enumerate().map(|(at, node)| StopTask {
        kind: StopKind::Node(TaskId(*node)),
        after: at.checked_sub(1).into_iter().collect(),
    });
    let stops = stops.collect();
    let task = |(at, kind)| plan::Task { kind, needs: usize::checked_sub(at, 1).map(TaskId).into_iter().collect() };
    Plan { name: "line".into(), tasks: kinds.into_iter().enumerate().map(task).collect(), stops }
}

/// A supervisor whose time is moved by hand, and what it did since it was last looked at.
struct Flow {
    supervisor: Supervisor,
    now: Time,
    actions: Vec<Action>,
}

impl Flow {
    fn of(plan: Plan) -> Self {
        let mut flow = Self { supervisor: Supervisor::new(plan), now: Time::ZERO, actions: Vec::new() };
        flow.supervisor.start(flow.now, &mut flow.actions);
        flow
    }

    fn nodes(nodes: Vec<Node>) -> Self {
        Self::of(line(nodes.into_iter().map(TaskKind::Node).collect()))
    }

    fn event(&mut self, event: Event) -> &mut Self {
        self.supervisor.handle(self.now, event, &mut self.actions);
        self
    }

    fn spawned(&mut self, life: u64) -> &mut Self {
        self.event(Event::Spawned { life: Life(life), pid: 1000 + life as u32 })
    }

    fn exited(&mut self, life: u64, end: End) -> &mut Self {
        self.event(Event::Exited { life: Life(life), end })
    }

    fn emptied(&mut self, life: u64) -> &mut Self {
        self.event(Event::Emptied { life: Life(life) })
    }

    fn holds(&mut self, probe: u64) -> &mut Self {
        self.event(Event::Holds { probe: ProbeId(probe) })
    }

    fn beat(&mut self, probe: u64) -> &mut Self {
        self.event(Event::Beat { probe: ProbeId(probe) })
    }

    fn asked_to_stop(&mut self) -> &mut Self {
        self.event(Event::StopAsked)
    }

    /// Lets time pass, and ticks whenever it has to.
    fn pass(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while let Some(due) = self.supervisor.due().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.supervisor.tick(self.now, &mut self.actions);
        }
        self.now = end;
        self
    }

    /// What it did that is more than talk, and the news that the flow is up or stops.
    fn did(&mut self) -> Vec<String> {
        let name = |task: TaskId| match &self.supervisor.plan().tasks[task.0].kind {
            TaskKind::Node(node) | TaskKind::Run(node) => node.name.clone(),
            TaskKind::Wait(_) => "wait".into(),
        };
        let lines = self.actions.iter().filter_map(|action| match action {
            Action::Spawn { life, task } => Some(format!("spawn {} as {}", name(*task), life.0)),
            Action::Signal { life, signal } => Some(format!("signal {} to {}", signal, life.0)),
            Action::Watch { probe, what, .. } => Some(format!("watch {} {what:?}", probe.0)),
            Action::Forget { probe } => Some(format!("forget {}", probe.0)),
            Action::Finish(outcome) => Some(format!("finish {}", outcome.code())),
            Action::Tell(Report::Flow { phase, .. }) => Some(format!("{phase:?}")),
            Action::Tell(Report::Task { .. }) => None,
        });
        let lines = lines.collect();
        self.actions.clear();
        lines
    }

    /// What was told of a task.
    fn told(&mut self, of: usize) -> Vec<String> {
        let lines = self.actions.iter().filter_map(|action| match action {
            Action::Tell(Report::Task { task, state, why, .. }) if task.0 == of => Some(format!("{state}: {why}")),
            _ => None,
        });
        let lines = lines.collect();
        self.actions.clear();
        lines
    }

    fn state(&self, task: usize) -> State {
        self.supervisor.status().nth(task).expect("it is there").state
    }
}

#[test]
fn a_task_begins_when_what_it_needs_is_ready_and_nodes_are_stopped_in_the_order_of_the_plan() {
    let mut flow = Flow::nodes(vec![node("a"), ready(node("b"), Check::File("/f".into())), node("c")]);
    assert_eq!(flow.did(), ["spawn a as 1"]);
    assert_eq!(flow.spawned(1).did(), ["spawn b as 2"]);
    assert_eq!(flow.spawned(2).did(), ["watch 1 File(\"/f\")"]);
    assert_eq!(flow.holds(1).did(), ["spawn c as 3"]);
    assert_eq!(flow.spawned(3).did(), ["Up"]);
    assert_eq!(flow.asked_to_stop().did(), ["Stopping", "signal 2 to 3"]);
    flow.exited(3, End::Signal(2));
    assert_eq!(flow.did(), [""; 0], "not before nothing is left");
    assert_eq!(flow.emptied(3).did(), ["signal 2 to 2"]);
    assert_eq!(flow.exited(2, End::Code(1)).emptied(2).did(), ["signal 2 to 1"]);
    assert_eq!(flow.exited(1, End::Code(0)).emptied(1).did(), ["finish 0"]);
    assert_eq!(flow.supervisor.due(), None);
}

#[test]
fn what_a_process_says_is_listened_to_before_it_runs() {
    for (check, watch) in [(Check::Notify, "watch 1 Notify"), (Check::Log("up".into()), "watch 1 Log(\"up\")")] {
        let mut flow = Flow::nodes(vec![ready(node("a"), check)]);
        assert_eq!(flow.did(), [watch, "spawn a as 1"]);
        assert_eq!(flow.holds(1).did(), [""; 0]);
        assert_eq!(flow.state(0), State::Starting);
        assert_eq!(flow.spawned(1).did(), ["Up"]);
        assert_eq!(flow.state(0), State::Ready);
    }
}

#[test]
fn a_node_that_is_not_ready_in_time_fails() {
    let mut flow = Flow::nodes(vec![ready(node("a"), Check::Notify), node("b")]);
    flow.spawned(1).pass(5 * S - ms(1)).did();
    assert_eq!(flow.pass(ms(1)).did(), ["forget 1", "signal 2 to 1", "Stopping"]);
    assert_eq!(flow.exited(1, End::Code(0)).emptied(1).did(), ["finish 4"]);

    let mut flow = Flow::nodes(vec![ready(restarted("a", Policy::OnFailure), Check::Notify)]);
    flow.spawned(1).pass(5 * S).exited(1, End::Code(0)).emptied(1).pass(ms(100));
    assert_eq!(flow.did()[3..], ["signal 2 to 1", "watch 2 Notify", "spawn a as 2"]);
    flow.spawned(2).holds(1);
    assert_eq!(flow.state(0), State::Starting, "the look of the life before");
    flow.holds(2);
    assert_eq!(flow.state(0), State::Ready);
}

#[test]
fn a_command_that_shows_readiness_is_run_again_until_it_ends_with_0() {
    let mut flow = Flow::nodes(vec![ready(node("a"), Check::Exec("ok".into()))]);
    assert_eq!(flow.did(), ["spawn a as 1"]);
    assert_eq!(flow.spawned(1).did(), ["watch 1 Exec(\"ok\")"]);
    assert_eq!(flow.event(Event::Fails { probe: ProbeId(1) }).did(), [""; 0]);
    assert_eq!(flow.pass(process::RETRY).did(), ["watch 2 Exec(\"ok\")"]);
    assert_eq!(flow.event(Event::Fails { probe: ProbeId(1) }).did(), [""; 0]);
    assert_eq!(flow.holds(2).did(), ["Up"]);
}

#[test]
fn a_run_is_done_when_it_ended_with_0_and_nothing_is_left_of_it() {
    let plan = || line(vec![TaskKind::Run(node("check")), TaskKind::Node(node("a"))]);
    let mut flow = Flow::of(plan());
    flow.spawned(1).exited(1, End::Code(0));
    assert_eq!(flow.did(), ["spawn check as 1"]);
    assert_eq!(flow.pass(process::LINGER).did(), ["signal 2 to 1"], "what it left behind");
    assert_eq!(flow.emptied(1).did(), ["spawn a as 2"]);

    let mut flow = Flow::of(plan());
    flow.spawned(1).exited(1, End::Code(3)).emptied(1);
    assert_eq!(flow.did(), ["spawn check as 1", "Stopping", "finish 1"]);
}

#[test]
fn a_wait_is_over_when_each_condition_held_once_and_fails_when_that_takes_too_long() {
    let wait = TaskKind::Wait(Wait {
        conditions: vec![
            Condition::Time(ms(500)),
            Condition::Topic("imu".into()),
            Condition::File(PathBuf::from("/f")),
            Condition::NodeReady("a".into()),
        ],
        timeout: S,
    });
    let mut flow = Flow::of(line(vec![TaskKind::Node(node("a")), wait, TaskKind::Node(node("b"))]));
    flow.spawned(1).did();
    flow.holds(2).pass(ms(400)).holds(1).pass(ms(99));
    assert_eq!(flow.did(), [""; 0]);
    assert_eq!(flow.pass(ms(1)).did(), ["spawn b as 2"]);

    let wait = TaskKind::Wait(Wait { conditions: vec![Condition::Topic("imu".into())], timeout: S });
    let mut flow = Flow::of(line(vec![TaskKind::Node(node("a")), wait]));
    flow.spawned(1).did();
    assert_eq!(flow.pass(S).did(), ["forget 1", "Stopping", "signal 2 to 1"]);
    assert_eq!(flow.exited(1, End::Signal(2)).emptied(1).did(), ["finish 4"]);
}

#[test]
fn a_wait_for_a_time_needs_no_timeout() {
    let wait = TaskKind::Wait(Wait { conditions: vec![Condition::Time(S)], timeout: Duration::ZERO });
    assert_eq!(Flow::of(line(vec![wait])).pass(S).did(), ["Up", "finish 0"]);
}

#[test]
fn a_wait_for_a_nodes_end_is_over_when_that_ended_with_0() {
    let wait = TaskKind::Wait(Wait { conditions: vec![Condition::NodeExited("a".into())], timeout: S });
    let mut flow = Flow::of(line(vec![TaskKind::Node(node("a")), wait]));
    flow.spawned(1).pass(ms(10));
    assert_eq!(flow.state(1), State::Running);
    flow.exited(1, End::Code(0)).emptied(1);
    assert_eq!(flow.did(), ["spawn a as 1", "Up", "finish 0"]);
}

#[test]
fn a_flow_is_over_when_all_its_nodes_ended_by_themselves() {
    let mut flow = Flow::nodes(vec![node("a"), node("b")]);
    flow.spawned(1).spawned(2).exited(1, End::Code(0)).emptied(1).did();
    assert_eq!((flow.state(0), flow.state(1)), (State::Exited, State::Ready));
    assert_eq!(flow.exited(2, End::Code(0)).emptied(2).did(), ["finish 0"]);
    assert_eq!(Flow::nodes(Vec::new()).did(), ["Up", "finish 0"]);
}

#[test]
fn a_node_that_fails_stops_the_flow_if_its_policy_says_so() {
    let mut flow = Flow::nodes(vec![node("a"), node("b")]);
    flow.spawned(1).spawned(2).did();
    assert_eq!(flow.exited(1, End::Signal(11)).did(), ["Stopping", "signal 2 to 2"]);
    assert_eq!(flow.emptied(1).exited(2, End::Signal(2)).emptied(2).did(), ["finish 1"]);

    let mut ignored = node("a");
    ignored.restart.then = Then::Ignore;
    let mut flow = Flow::nodes(vec![ignored, node("b")]);
    flow.event(Event::SpawnFailed { life: Life(1), error: "no such file".into() });
    assert_eq!(flow.did(), ["spawn a as 1", "spawn b as 2"], "what needs it goes on without");
    assert_eq!(flow.state(0), State::Failed);
}

#[test]
fn a_node_that_ends_before_it_is_ready_failed_whatever_its_code() {
    let mut flow = Flow::nodes(vec![ready(node("a"), Check::Notify)]);
    flow.spawned(1).exited(1, End::Code(0)).emptied(1);
    assert_eq!(flow.did()[2..], ["forget 1", "Stopping", "finish 1"]);
}

#[test]
fn a_node_is_restarted_after_a_growing_while_and_not_too_often() {
    let mut flow = Flow::nodes(vec![restarted("a", Policy::OnFailure)]);
    flow.spawned(1).exited(1, End::Code(1)).emptied(1).pass(ms(99)).did();
    assert_eq!(flow.pass(ms(1)).did(), ["spawn a as 2"]);
    flow.event(Event::SpawnFailed { life: Life(2), error: "no memory".into() }).pass(ms(199));
    assert_eq!(flow.did(), [""; 0]);
    assert_eq!(flow.pass(ms(1)).did(), ["spawn a as 3"]);
    flow.spawned(3).exited(3, End::Code(1)).emptied(3);
    assert_eq!(flow.did(), ["Stopping", "finish 1"]);
}

#[test]
fn restarts_are_counted_within_the_window() {
    let mut flow = Flow::nodes(vec![restarted("a", Policy::OnFailure)]);
    for life in 1..10 {
        flow.spawned(life).pass(40 * S).exited(life, End::Code(1)).emptied(life).pass(S);
        assert_eq!(flow.did().pop().as_deref(), Some(format!("spawn a as {}", life + 1).as_str()));
    }
    assert_eq!(flow.supervisor.status().next().expect("it is there").restarts, 9);
}

#[test]
fn a_clean_end_is_restarted_only_if_always() {
    let mut flow = Flow::nodes(vec![restarted("a", Policy::Always)]);
    flow.spawned(1).exited(1, End::Code(0)).emptied(1).pass(S);
    assert_eq!(flow.did(), ["spawn a as 1", "Up", "spawn a as 2"]);
    let mut flow = Flow::nodes(vec![restarted("a", Policy::OnFailure)]);
    flow.spawned(1).exited(1, End::Code(0)).emptied(1).pass(S);
    assert_eq!(flow.did(), ["spawn a as 1", "Up", "finish 0"]);
}

#[test]
fn a_node_is_not_restarted_before_what_it_left_is_gone() {
    let mut flow = Flow::nodes(vec![restarted("a", Policy::OnFailure)]);
    flow.spawned(1).exited(1, End::Signal(11)).did();
    assert_eq!(flow.pass(process::LINGER).did(), ["signal 2 to 1"]);
    assert_eq!(flow.pass(2 * S).did(), ["signal 15 to 1", "signal 9 to 1"]);
    assert_eq!(flow.pass(60 * S).did(), [""; 0]);
    assert_eq!(flow.emptied(1).pass(ms(100)).did(), ["spawn a as 2"]);
}

#[test]
fn a_node_that_falls_silent_is_stopped_and_failed() {
    for alive in [Alive::Topic { topic: "t".into(), within: ms(500) }, Alive::Notify { within: ms(500) }] {
        let mut watched = restarted("a", Policy::OnFailure);
        watched.alive = Some(alive);
        let mut flow = Flow::nodes(vec![watched]);
        flow.spawned(1).pass(ms(400)).beat(1).pass(ms(499)).beat(1).pass(ms(499)).did();
        assert_eq!(flow.pass(ms(1)).told(0), ["stopping: no sign of life for 500ms"]);
        flow.exited(1, End::Code(0)).emptied(1).pass(ms(100));
        assert_eq!(flow.did(), ["spawn a as 2"]);
        assert_eq!(flow.spawned(2).pass(ms(300)).beat(1).pass(ms(200)).did()[1..], ["forget 2", "signal 2 to 2"]);
    }
}

#[test]
fn a_command_that_shows_life_is_run_again_and_again_and_fails_when_it_does_or_is_late() {
    let mut watched = node("a");
    watched.alive = Some(Alive::Exec { command: "ok".into(), every: S, timeout: ms(200) });
    let mut flow = Flow::nodes(vec![watched]);
    assert_eq!(flow.spawned(1).did(), ["spawn a as 1", "watch 1 Exec(\"ok\")", "Up"]);
    flow.pass(ms(199)).holds(1).pass(S);
    assert_eq!(flow.did(), ["watch 2 Exec(\"ok\")"]);
    let mut late = Flow { supervisor: flow.supervisor.clone(), now: flow.now, actions: Vec::new() };
    assert_eq!(late.pass(ms(200)).did(), ["forget 2", "signal 2 to 1", "Stopping"]);
    assert_eq!(flow.event(Event::Fails { probe: ProbeId(2) }).did(), ["signal 2 to 1", "Stopping"]);
}

#[test]
fn what_does_not_stop_is_killed_and_the_outcome_says_so() {
    let mut flow = Flow::nodes(vec![node("a")]);
    flow.spawned(1).asked_to_stop().pass(S - ms(1)).did();
    assert_eq!(flow.pass(ms(1)).did(), ["signal 15 to 1"]);
    assert_eq!(flow.pass(S).did(), ["signal 9 to 1"]);
    assert_eq!(flow.supervisor.due(), None);
    assert_eq!(
        flow.exited(1, End::Signal(9)).emptied(1).actions.pop(),
        Some(Action::Finish(Outcome::Killed(vec![TaskId(0)])))
    );

    let mut to_be_killed = node("a");
    to_be_killed.stop.signal = libc::SIGKILL;
    let mut flow = Flow::nodes(vec![to_be_killed]);
    flow.spawned(1).asked_to_stop().exited(1, End::Signal(9)).emptied(1);
    assert_eq!(flow.did()[2..], ["Stopping", "signal 9 to 1", "finish 0"]);
}

#[test]
fn a_second_request_kills_all_at_once() {
    let mut plan = line(vec![TaskKind::Node(node("a")), TaskKind::Node(node("b")), TaskKind::Node(node("c"))]);
    plan.stops.push(StopTask { kind: StopKind::Wait(60 * S), after: Vec::new() });
    let mut flow = Flow::of(plan);
    flow.spawned(1).spawned(2).asked_to_stop().did();
    assert_eq!(flow.asked_to_stop().did(), ["signal 9 to 1", "signal 9 to 2"]);
    assert_eq!(flow.asked_to_stop().did(), [""; 0]);
    assert_eq!(flow.spawned(3).did(), ["signal 9 to 3"], "as soon as there is something to be killed");
    assert_eq!(flow.emptied(1).emptied(3).did(), [""; 0]);
    assert_eq!(flow.emptied(2).did(), ["finish 3"]);
}

#[test]
fn being_asked_to_stop_ends_the_startup() {
    let wait = TaskKind::Wait(Wait { conditions: vec![Condition::Topic("t".into())], timeout: S });
    let run = TaskKind::Run(node("run"));
    let mut plan = line(vec![TaskKind::Node(node("a")), wait, TaskKind::Node(node("b")), run]);
    plan.tasks[3].needs.clear();
    let mut flow = Flow::of(plan);
    flow.spawned(1).did();
    assert_eq!(flow.asked_to_stop().did(), ["Stopping", "forget 1", "signal 2 to 1"]);
    assert_eq!(flow.spawned(2).did(), ["signal 2 to 2"], "the run was on its way");
    flow.exited(1, End::Code(0)).emptied(1).exited(2, End::Code(0)).emptied(2);
    assert_eq!(flow.did(), ["finish 0"]);
    assert_eq!(flow.state(2), State::Waiting);
}

#[test]
fn a_node_that_waits_for_its_restart_is_not_restarted_when_the_flow_stops() {
    let mut flow = Flow::nodes(vec![restarted("a", Policy::Always)]);
    flow.spawned(1).exited(1, End::Code(1)).emptied(1).did();
    assert_eq!(flow.asked_to_stop().did(), ["Stopping", "finish 0"]);
}

#[test]
fn a_restart_on_request_is_no_failure_and_leaves_dependents_alone() {
    let mut flow = Flow::nodes(vec![node("a"), node("b")]);
    flow.spawned(1).spawned(2).did();
    assert_eq!(flow.event(Event::RestartAsked { task: TaskId(0) }).did(), ["signal 2 to 1"]);
    assert_eq!(flow.exited(1, End::Signal(2)).emptied(1).did(), ["spawn a as 3"]);
    assert_eq!(flow.spawned(3).did(), [""; 0]);
    flow.event(Event::StopNodeAsked { task: TaskId(1) }).exited(2, End::Code(0)).emptied(2);
    assert_eq!((flow.state(1), flow.did()), (State::Stopped, vec!["signal 2 to 2".into()]));
    assert_eq!(flow.event(Event::RestartAsked { task: TaskId(1) }).did(), ["spawn b as 4"]);
}

#[test]
fn what_cannot_be_restarted_says_why() {
    let mut flow = Flow::of(line(vec![TaskKind::Run(node("run")), TaskKind::Node(node("a"))]));
    assert_eq!(flow.supervisor.restartable(TaskId(0)), Err(Refusal::NoNode));
    assert_eq!(flow.supervisor.restartable(TaskId(1)), Err(Refusal::NotBegun));
    assert_eq!(flow.supervisor.restartable(TaskId(7)), Err(Refusal::NoNode));
    flow.spawned(1).exited(1, End::Code(0)).emptied(1);
    assert_eq!(flow.supervisor.restartable(TaskId(1)), Ok(()));
    flow.asked_to_stop();
    assert_eq!(flow.supervisor.restartable(TaskId(1)), Err(Refusal::FlowStops));
}

#[test]
fn reports_that_are_late_or_come_twice_do_nothing() {
    let mut flow = Flow::nodes(vec![restarted("a", Policy::OnFailure)]);
    flow.spawned(1).exited(1, End::Code(1)).exited(1, End::Code(0)).emptied(1).emptied(1).pass(ms(100));
    flow.spawned(2).actions.clear();
    assert_eq!(flow.supervisor.status().next().expect("it is there").last_end, Some(End::Code(1)));
    let before = format!("{:?}", flow.supervisor);
    flow.emptied(1).exited(1, End::Signal(9)).spawned(1).spawned(2).holds(9).beat(9);
    flow.event(Event::SpawnFailed { life: Life(2), error: String::new() });
    assert_eq!((format!("{:?}", flow.supervisor), flow.actions.len()), (before, 0));
}

#[test]
fn without_its_guardian_a_flow_is_over() {
    let mut flow = Flow::nodes(vec![restarted("a", Policy::Always), ready(node("b"), Check::Notify)]);
    flow.spawned(1).did();
    assert_eq!(flow.event(Event::GuardianLost).did(), ["forget 1", "finish 1"]);
    assert_eq!((flow.state(0), flow.state(1)), (State::Failed, State::Failed));
    assert_eq!(flow.exited(1, End::Signal(9)).emptied(1).asked_to_stop().pass(S).did(), [""; 0]);
}

#[test]
fn each_change_is_told_with_its_reason() {
    let mut flow = Flow::nodes(vec![restarted("a", Policy::OnFailure)]);
    flow.spawned(1).exited(1, End::Signal(11)).emptied(1).pass(ms(100)).spawned(2);
    flow.asked_to_stop().pass(S).exited(2, End::Signal(15)).emptied(2);
    let told = [
        "starting: its turn",
        "ready: started",
        "ending: ended by signal 11",
        "backing off: starts again in 100ms",
        "starting: restart 1",
        "ready: started",
        "stopping: the flow stops",
        "stopping (SIGTERM): still there after 1s",
        "stopped: nothing is left of it",
    ];
    assert_eq!(flow.told(0), told);
}

#[test]
fn the_bound_is_the_longest_way_through_the_shutdown() {
    let mut term = node("a");
    term.stop.signal = libc::SIGTERM;
    let mut plan = line(vec![TaskKind::Node(term), TaskKind::Node(node("b")), TaskKind::Run(node("run"))]);
    let moment = process::LINGER;
    assert_eq!(Supervisor::new(plan.clone()).stop_bound(), 3 * S + 2 * moment);
    plan.stops.push(StopTask { kind: StopKind::Wait(2 * S), after: vec![0] });
    assert_eq!(Supervisor::new(plan).stop_bound(), 4 * S + moment);
}

#[test]
fn a_wait_in_the_shutdown_takes_its_time() {
    let mut plan = line(vec![TaskKind::Node(node("a")), TaskKind::Node(node("b"))]);
    plan.stops[1].kind = StopKind::Wait(S);
    plan.stops.push(StopTask { kind: StopKind::Node(TaskId(0)), after: vec![1] });
    let mut flow = Flow::of(plan);
    flow.spawned(1).spawned(2).asked_to_stop().exited(2, End::Code(0)).emptied(2).pass(S - ms(1)).did();
    assert_eq!(flow.pass(ms(1)).did(), ["signal 2 to 1"]);
}

#[test]
fn what_ended_by_itself_has_a_moment_even_if_the_flow_stops() {
    let mut flow = Flow::nodes(vec![node("a")]);
    flow.spawned(1).exited(1, End::Code(1)).did();
    assert_eq!(flow.pass(process::LINGER - ms(1)).did(), [""; 0]);
    assert_eq!(flow.pass(ms(1)).did(), ["signal 2 to 1"]);
}
