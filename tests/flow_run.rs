//! Flows with real processes: what is promised of a flow is seen in its reports, its nodes' output and what is left of them.
//!
//! Every node keeps a named pipe open for writing that all its descendants inherit. That nobody is left who could write says that
//! all of them are dead.
#![cfg(feature = "flow")]

mod support;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use conduit::flow::model::{Alive, Check, Condition, Node, Policy, Ready, Restart, Stop, Then, Wait};
use conduit::flow::plan::{Plan, StopKind, StopTask, Task, TaskId, TaskKind};
use conduit::flow::run::{Handle, Options, Orphans, Runner, Stream, Told};
use conduit::flow::supervisor::{End, Outcome, Phase, Report, Rung, State, Why};
use support::{Directory, Domain, PATIENCE, in_time, rounds};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A node that runs this script, is ready at once and not restarted.
fn node(name: &str, script: &str) -> Node {
    Node {
        name: name.into(),
        program: "sh".into(),
        args: vec!["-c".into(), format!("exec 9>\"$ORACLE\"; {script}")],
        env: vec![],
        working_dir: None,
        ready: None,
        alive: None,
        restart: restart(Policy::Never),
        // What a shell starts in the background ignores SIGINT.
        stop: Stop { signal: libc::SIGTERM, timeout: PATIENCE },
        cpu: vec![],
        needs: None,
    }
}

fn restart(policy: Policy) -> Restart {
    Restart { policy, backoff: (10 * MS, 100 * MS), max: 5, window: 100 * SECOND, then: Then::StopFlow }
}

fn ready(check: Check) -> Option<Ready> {
    Some(Ready { check, timeout: PATIENCE })
}

/// One after the other, and stopped the other way round.
fn plan(kinds: impl IntoIterator<Item = TaskKind>) -> Plan {
    let mut plan = Plan { name: "test".into(), tasks: vec![], stops: vec![] };
    for (index, kind) in kinds.into_iter().enumerate() {
        plan.tasks.push(Task { kind, needs: index.checked_sub(1).map(TaskId).into_iter().collect() });
    }
    for index in (0..plan.tasks.len()).rev().filter(|index| matches!(plan.tasks[*index].kind, TaskKind::Node(_))) {
        let after = plan.stops.len().checked_sub(1).into_iter().collect();
        plan.stops.push(StopTask { kind: StopKind::Node(TaskId(index)), after });
    }
    plan
}

fn nodes(nodes: impl IntoIterator<Item = Node>) -> Plan {
    plan(nodes.into_iter().map(TaskKind::Node))
}

/// What was told, to keep.
#[derive(Clone, PartialEq, Debug)]
enum Heard {
    Task(String, State, Why),
    Flow(Phase),
    Line(String, Stream, String),
    Status(String),
    Refused(String),
    Trouble(String),
}

fn line(node: &str, line: &str) -> Heard {
    Heard::Line(node.into(), Stream::Out, line.into())
}

fn task(node: &str, state: State, why: Why) -> Heard {
    Heard::Task(node.into(), state, why)
}

/// Where flows run in a test.
struct Place {
    directory: Directory,
    domain: Domain,
    oracle: File,
}

impl Place {
    fn new() -> Self {
        let domain = Domain::new();
        let directory = Directory::in_memory(&domain);
        let path = directory.file("oracle");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let oracle = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        Place { directory, domain, oracle }
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        options.domain = Some(self.domain.name().into());
        options.env.push(("ORACLE".into(), self.directory.file("oracle").into()));
        options.working_dir = self.directory.0.clone();
        options
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.file(name)
    }

    /// Nobody of a flow is left.
    fn is_empty(&self) -> bool {
        let mut byte = [0];
        matches!((&self.oracle).read(&mut byte), Ok(0))
    }

    /// Runs a flow; what `react` does is up to what it hears.
    fn run(&self, plan: Plan, react: impl FnMut(&Heard, &Handle) + Send + 'static) -> Over {
        self.run_with(plan, self.options(), react)
    }

    fn run_with(&self, plan: Plan, options: Options, react: impl FnMut(&Heard, &Handle) + Send + 'static) -> Over {
        let runner = Runner::new(plan.clone(), options).unwrap();
        let over = in_time("the flow is over", move || run(runner, &plan, react));
        assert!(self.is_empty(), "somebody is left: {:?}", over.heard);
        over
    }
}

/// How a flow went.
struct Over {
    outcome: Outcome,
    heard: Vec<Heard>,
}

impl Over {
    fn at(&self, what: &Heard) -> usize {
        self.find(what).unwrap_or_else(|| panic!("{what:?} is not in {:#?}", self.heard))
    }

    fn find(&self, what: &Heard) -> Option<usize> {
        self.heard.iter().position(|heard| heard == what)
    }

    fn count(&self, is_it: impl Fn(&Heard) -> bool) -> usize {
        self.heard.iter().filter(|heard| is_it(heard)).count()
    }

    /// All in this order.
    fn in_order(&self, all: &[Heard]) {
        let places: Vec<_> = all.iter().map(|what| self.at(what)).collect();
        assert!(places.is_sorted(), "{all:#?} in {:#?}", self.heard);
    }

    fn lines(&self, node: &str) -> Vec<&str> {
        let of = |heard: &'_ Heard| matches!(heard, Heard::Line(name, ..) if name == node);
        let lines = self.heard.iter().filter(|heard| of(heard));
        lines.map(|heard| if let Heard::Line(_, _, line) = heard { line.as_str() } else { "" }).collect()
    }
}

fn run(runner: Runner, plan: &Plan, mut react: impl FnMut(&Heard, &Handle)) -> Over {
    let handle = runner.handle();
    let mut all = Vec::new();
    let name = |task: TaskId| match &plan.tasks[task.0].kind {
        TaskKind::Node(node) | TaskKind::Run(node) => node.name.clone(),
        TaskKind::Wait(_) => "wait".into(),
    };
    let outcome = runner.run(&mut |told| {
        let heard = match told {
            Told::Report(Report::Task { task, state, why, .. }) => Heard::Task(name(*task), *state, why.clone()),
            Told::Report(Report::Flow { phase, .. }) => Heard::Flow(*phase),
            Told::Line { node, stream, line } => Heard::Line(node.into(), stream, line.into()),
            Told::Status { status, .. } => Heard::Status(status.into()),
            Told::Refused { refusal, .. } => Heard::Refused(refusal.to_string()),
            Told::Trouble { what, .. } => Heard::Trouble(what.into()),
            other => panic!("{other:?}"),
        };
        react(&heard, &handle);
        all.push(heard);
    });
    Over { outcome: outcome.unwrap(), heard: all }
}

/// Stops the flow as soon as it is up.
fn stop_when_up(heard: &Heard, handle: &Handle) {
    if *heard == Heard::Flow(Phase::Up) {
        handle.stop();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Starts, ends and output

#[test]
fn nodes_start_in_order_and_stop_in_reverse() {
    let place = Place::new();
    let sleeper = |name| node(name, "trap 'echo bye; exit' TERM; echo hello; while :; do sleep 1000 & wait; done");
    let mut all = [sleeper("a"), sleeper("b"), sleeper("c")];
    for node in &mut all {
        node.ready = ready(Check::Log("^hello$".into()));
    }
    let over = place.run(nodes(all), stop_when_up);
    assert_eq!(over.outcome, Outcome::Clean);
    let mut order = Vec::new();
    for name in ["a", "b", "c"] {
        order.push(task(name, State::Starting, Why::Turn));
        order.push(line(name, "hello"));
        order.push(task(name, State::Ready, Why::Shown));
    }
    order.push(Heard::Flow(Phase::Up));
    order.push(Heard::Flow(Phase::Stopping));
    for name in ["c", "b", "a"] {
        order.push(task(name, State::Stopping(Rung::First), Why::FlowStops));
        order.push(line(name, "bye"));
        order.push(task(name, State::Stopped, Why::Gone));
    }
    over.in_order(&order);
}

#[test]
fn a_node_gets_its_arguments_environment_and_directory() {
    let place = Place::new();
    let directory = place.file("inner");
    std::fs::create_dir(&directory).unwrap();
    let mut one =
        node("one", r#"pwd; echo "$0 $A $B $CONDUIT_DOMAIN ${NOTIFY_SOCKET-none}"; echo err >&2; printf last"#);
    one.args.push("zero".into());
    one.env = vec![("A".into(), "own".into())];
    one.working_dir = Some("inner".into());
    let mut options = place.options();
    options.env.extend([("A".into(), "flow's".into()), ("B".into(), "flow's".into())]);
    options.env.push(("NOTIFY_SOCKET".into(), "the flow's own".into()));
    let over = place.run_with(plan([TaskKind::Run(one)]), options, |_, _| ());
    assert_eq!(over.outcome, Outcome::Clean);
    over.at(&line("one", directory.to_str().unwrap()));
    over.at(&line("one", &format!("zero own flow's {} none", place.domain.name())));
    over.at(&Heard::Line("one".into(), Stream::Err, "err".into()));
    // The end of what it wrote is a line, and comes before the news of its end.
    over.in_order(&[line("one", "last"), task("one", State::Stopping(Rung::Left), Why::Ended(End::Code(0)))]);
}

#[test]
fn a_flow_whose_nodes_have_all_ended_is_over() {
    let place = Place::new();
    let over = place.run(nodes([node("a", "exit 0"), node("b", "exit 0")]), |_, _| ());
    assert_eq!(over.outcome, Outcome::Clean);
    assert_eq!(place.run(nodes([]), |_, _| ()).outcome, Outcome::Clean);
}

#[test]
fn a_program_that_is_not_there_fails_its_node() {
    let place = Place::new();
    let cases: [fn(&mut Node); 4] = [
        |node| node.program = "no-such-program".into(),
        |node| node.program = "/etc/passwd".into(),
        |node| node.working_dir = Some("/no/such/directory".into()),
        |node| node.cpu = vec![60_000],
    ];
    for change in cases {
        let mut bad = node("bad", "");
        change(&mut bad);
        let over = place.run(nodes([node("good", "exec sleep 1000"), bad]), |_, _| ());
        assert!(
            matches!(&over.outcome, Outcome::NodeFailed { task: TaskId(1), why: Why::SpawnFailed(_) }),
            "{:?}",
            over.outcome
        );
        over.at(&task("good", State::Stopped, Why::Gone));
    }
}

#[test]
fn a_node_that_crashes_is_restarted_with_backoff_and_given_up() {
    let place = Place::new();
    let mut crashes = node("crashes", "echo begun; exit 7");
    crashes.restart = Restart { max: 3, ..restart(Policy::OnFailure) };
    let over = place.run(nodes([crashes]), |_, _| ());
    let why = Why::Ended(End::Code(7));
    assert_eq!(over.outcome, Outcome::NodeFailed { task: TaskId(0), why });
    assert_eq!(over.lines("crashes").len(), 4);
    let backoff = |time: u32| task("crashes", State::BackingOff, Why::Again(time * MS));
    let again = |restart| task("crashes", State::Starting, Why::Restart(restart));
    let failed = Why::Exhausted { restarts: 3, within: 100 * SECOND };
    over.in_order(&[
        backoff(10),
        again(1),
        backoff(20),
        again(2),
        backoff(40),
        again(3),
        task("crashes", State::Failed, failed),
    ]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Stops

#[test]
fn a_node_that_ignores_its_signal_is_terminated_and_one_that_ignores_both_is_killed() {
    let place = Place::new();
    let mut one =
        node("one", "trap 'echo int' INT; trap 'echo term' TERM; echo ready; while :; do sleep 1000 & wait; done");
    one.ready = ready(Check::Log("ready".into()));
    one.stop = Stop { signal: libc::SIGINT, timeout: 200 * MS };
    let mut two =
        node("two", "trap '' INT; trap 'echo term; exit' TERM; echo ready; while :; do sleep 1000 & wait; done");
    two.ready = ready(Check::Log("ready".into()));
    two.stop = Stop { signal: libc::SIGINT, timeout: 200 * MS };
    let over = place.run(nodes([one, two]), stop_when_up);
    assert_eq!(over.outcome, Outcome::Killed(vec![TaskId(0)]));
    over.in_order(&[
        task("two", State::Stopping(Rung::First), Why::FlowStops),
        task("two", State::Stopping(Rung::Term), Why::StillThere(200 * MS)),
        line("two", "term"),
        task("two", State::Stopped, Why::Gone),
        task("one", State::Stopping(Rung::First), Why::FlowStops),
        line("one", "int"),
        task("one", State::Stopping(Rung::Term), Why::StillThere(200 * MS)),
        line("one", "term"),
        task("one", State::Stopping(Rung::Kill), Why::StillThere(200 * MS)),
        task("one", State::Stopped, Why::Gone),
    ]);
}

#[test]
fn the_second_stop_kills_at_once() {
    let place = Place::new();
    let stubborn =
        "trap 'echo asked' INT; trap '' TERM; setsid sleep 1000 & echo ready; while :; do sleep 1000 & wait; done";
    let mut all = [node("a", stubborn), node("b", stubborn)];
    for node in &mut all {
        node.ready = ready(Check::Log("ready".into()));
        node.stop.signal = libc::SIGINT;
    }
    let begun = Instant::now();
    let over = place.run(nodes(all), |heard, handle| {
        if *heard == Heard::Flow(Phase::Up) || *heard == line("b", "asked") {
            handle.stop();
        }
    });
    assert_eq!(over.outcome, Outcome::Killed(vec![TaskId(0), TaskId(1)]));
    over.at(&task("a", State::Stopping(Rung::Kill), Why::AskedTwice));
    assert!(begun.elapsed() < PATIENCE / 2, "nobody waited for a timeout");
}

#[test]
fn a_node_is_restarted_and_stopped_on_request() {
    let place = Place::new();
    let mut one = node("one", "trap 'echo bye; exit' TERM; echo ready; while :; do sleep 1000 & wait; done");
    one.ready = ready(Check::Log("ready".into()));
    let mut restarts = 0;
    let over = place.run(nodes([one, node("two", "exec sleep 1000")]), move |heard, handle| {
        let is_ready = matches!(heard, Heard::Task(name, State::Ready, Why::Shown) if name == "one");
        if *heard == Heard::Flow(Phase::Up) || is_ready && restarts > 0 {
            assert!(handle.restart("three").is_err());
            if restarts == 2 {
                handle.stop_node("one").unwrap()
            } else {
                handle.restart("one").unwrap()
            }
            restarts += 1;
        }
        if *heard == task("one", State::Stopped, Why::Gone) {
            handle.stop();
            handle.restart("two").unwrap();
        }
    });
    assert_eq!(over.outcome, Outcome::Clean);
    assert_eq!(over.count(|heard| *heard == line("one", "bye")), 3);
    assert_eq!(over.count(|heard| matches!(heard, Heard::Task(name, State::Starting, _) if name == "two")), 1);
}

#[test]
fn a_flood_of_output_does_not_delay_a_stop() {
    let place = Place::new();
    let mut all: Vec<_> = ["a", "b", "c"].map(|name| node(name, "exec yes")).into();
    all.push(node("last", "echo here; exec sleep 1000"));
    let over = place.run(nodes(all), |heard, handle| {
        if *heard == line("last", "here") {
            handle.stop();
        }
    });
    assert_eq!(over.outcome, Outcome::Clean);
    let lines =
        over.heard[over.at(&Heard::Flow(Phase::Stopping))..].iter().filter(|heard| matches!(heard, Heard::Line(..)));
    // A pipe's worth or so for each: nobody wrote on for long.
    assert!(lines.count() < 2_000_000);
}

#[test]
fn kill_9_of_the_guardian_ends_everything() {
    for orphans in [Orphans::Leave, Orphans::Adopt] {
        let place = Place::new();
        let stubborn = "trap '' INT TERM HUP; setsid sh -c 'setsid sleep 1000 & exec sleep 1000' & echo ready; while :; do sleep 1000 & wait; done";
        let mut all = [node("a", stubborn), node("b", stubborn)];
        for node in &mut all {
            node.ready = ready(Check::Log("ready".into()));
        }
        let plan = nodes(all);
        let runner = Runner::new(plan.clone(), Options { orphans, ..place.options() }).unwrap();
        let guardian = runner.guardian();
        let over = in_time("the flow is over", move || {
            run(runner, &plan, |heard, _| {
                if *heard == Heard::Flow(Phase::Up) {
                    // SAFETY: no memory involved; the flow's own process.
                    assert_eq!(unsafe { libc::kill(guardian, libc::SIGKILL) }, 0);
                }
            })
        });
        assert_eq!(over.outcome, Outcome::GuardianLost);
        over.at(&task("a", State::Failed, Why::GuardianLost));
        assert!(place.is_empty(), "{orphans:?}");
    }
}
