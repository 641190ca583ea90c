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
        stop: Stop { signal: libc::SIGHUP, timeout: PATIENCE },
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
        let mut options = Options {
            domain: Some(self.domain.name().into()),
            working_dir: self.directory.0.clone(),
            ..Options::default()
        };
        options.env.push(("ORACLE".into(), self.directory.file("oracle").into()));
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
    let sleeper = |name| node(name, "trap 'echo bye; exit' HUP; echo hello; while :; do sleep 1000 & wait; done");
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
    let mut one = node("one", "trap 'echo bye; exit' HUP; echo ready; while :; do sleep 1000 & wait; done");
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
    // Who asks for a stop has it before each of them had its turn again.
    let stop = over.at(&Heard::Flow(Phase::Stopping));
    let between = over.heard[over.at(&line("last", "here"))..stop].len();
    assert!(between < 4 * (16 << 10), "{between} lines");
}

#[test]
fn every_line_of_a_node_that_ends_is_told_in_order() {
    let place = Place::new();
    let mut options = place.options();
    options.logs = Some(place.file("logs"));
    let over = place.run_with(plan([TaskKind::Run(node("one", "exec seq 200000"))]), options, |_, _| ());
    assert_eq!(over.outcome, Outcome::Clean);
    let lines = over.lines("one");
    assert_eq!(lines.len(), 200_000);
    assert!(lines.iter().zip(1..).all(|(line, number)| *line == number.to_string()));
    let log = std::fs::read_to_string(place.file("logs/one.log")).unwrap();
    assert!(log.lines().eq(lines));
}

#[test]
fn a_flow_that_is_dropped_in_the_middle_leaves_nothing() {
    let place = Place::new();
    let plan = nodes([node(
        "one",
        "trap '' INT TERM HUP; setsid sleep 1000 & echo ready; while :; do sleep 1000 & wait; done",
    )]);
    let runner = Runner::new(plan.clone(), place.options()).unwrap();
    let end = std::thread::spawn(move || {
        run(runner, &plan, |heard, _| {
            // As if the program had a bug.
            if *heard == line("one", "ready") {
                std::panic::resume_unwind(Box::new("a bug"));
            }
        })
        .outcome
    });
    assert!(end.join().is_err());
    assert!(place.is_empty());
}

#[test]
fn a_flow_at_rest_sleeps() {
    let place = Place::new();
    let mut one = node("one", "echo ready; exec sleep 1000");
    one.ready = ready(Check::Log("ready".into()));
    let plan = nodes([one]);
    let runner = Runner::new(plan.clone(), place.options()).unwrap();
    let handle = runner.handle();
    let (up, is_up) = std::sync::mpsc::channel();
    let flow = std::thread::spawn(move || {
        run(runner, &plan, |heard, _| {
            if *heard == Heard::Flow(Phase::Up) {
                up.send(support::thread_id()).unwrap();
            }
        })
    });
    let thread = is_up.recv_timeout(PATIENCE).unwrap();
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
        status.lines().find(|line| line.starts_with("voluntary")).unwrap().to_owned()
    };
    let mut before = String::new();
    support::eventually("it sleeps", || {
        let last = std::mem::replace(&mut before, switches());
        // The next look comes long after anything that was under way.
        std::thread::sleep(20 * MS);
        last == before && support::is_asleep(thread)
    });
    std::thread::sleep(support::watch_time());
    assert_eq!(switches(), before);
    handle.stop();
    assert_eq!(flow.join().unwrap().outcome, Outcome::Clean);
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

// ---------------------------------------------------------------------------------------------------------------------
// Being ready and being alive

/// A node that becomes ready by this check after what the script does, and is stopped then.
fn becomes_ready(place: &Place, script: &str, check: Check) -> Over {
    let mut one = node("one", script);
    one.ready = ready(check);
    let over = place.run(nodes([one]), stop_when_up);
    assert_eq!(over.outcome, Outcome::Clean);
    over.at(&task("one", State::Ready, Why::Shown));
    over
}

#[test]
fn a_node_is_ready_by_a_line_of_its_output() {
    let place = Place::new();
    let over =
        becomes_ready(&place, "echo no; echo 'listening on 80' >&2; exec sleep 1000", Check::Log(r"on \d+$".into()));
    over.in_order(&[line("one", "no"), task("one", State::Ready, Why::Shown)]);
}

#[test]
fn a_node_is_ready_by_a_file_and_be_its_directory_still_to_be_made() {
    let place = Place::new();
    let script = "mkdir -p made/deeper; echo > made/deeper/file; exec sleep 1000";
    becomes_ready(&place, script, Check::File("made/deeper/file".into()));
    becomes_ready(&place, "exec sleep 1000", Check::File("made/deeper/file".into()));
}

/// Says something at `$NOTIFY_SOCKET`.
fn notify(what: &str) -> String {
    let python = "import os,socket;s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);\
                  s.sendto(os.environ['SAY'].encode(),'\\0'+os.environ['NOTIFY_SOCKET'][1:])";
    format!("SAY='{what}' python3 -c \"{python}\"")
}

#[test]
fn a_node_is_ready_when_it_says_so() {
    let place = Place::new();
    let script = format!("{}; {}; exec sleep 1000", notify("STATUS=nearly"), notify("READY=1"));
    let over = becomes_ready(&place, &script, Check::Notify);
    over.in_order(&[Heard::Status("nearly".into()), task("one", State::Ready, Why::Shown)]);
}

#[test]
fn a_node_that_says_no_more_that_it_is_alive_is_stopped_and_restarted() {
    let place = Place::new();
    let beats = notify("WATCHDOG=1");
    let mut one = node(
        "one",
        &format!(
            "echo $WATCHDOG_USEC; {}; for i in 1 2 3; do {beats}; done; echo silent; exec sleep 1000",
            notify("READY=1")
        ),
    );
    one.ready = ready(Check::Notify);
    one.alive = Some(Alive::Notify { within: 2 * SECOND });
    one.restart = restart(Policy::OnFailure);
    let over = place.run(nodes([one]), |heard, handle| {
        if *heard == task("one", State::Starting, Why::Restart(1)) {
            handle.stop();
        }
    });
    over.in_order(&[
        line("one", "2000000"),
        task("one", State::Ready, Why::Shown),
        line("one", "silent"),
        task("one", State::Stopping(Rung::First), Why::NotAlive(2 * SECOND)),
        task("one", State::Starting, Why::Restart(1)),
    ]);
}

#[test]
fn a_node_is_ready_and_alive_by_a_command_that_is_tried_again() {
    let place = Place::new();
    let mut one = node("one", "echo > up; exec sleep 1000");
    one.ready = ready(Check::Exec("exec 9>\"$ORACLE\"; sleep 1000 & test -e up".into()));
    one.alive = Some(Alive::Exec { command: "! test -e down".into(), every: 10 * MS, timeout: PATIENCE });
    let down = place.file("down");
    let over = place.run(nodes([one]), move |heard, _| {
        if *heard == Heard::Flow(Phase::Up) {
            std::fs::write(&down, "").unwrap();
        }
    });
    assert_eq!(over.outcome, Outcome::NodeFailed { task: TaskId(0), why: Why::CheckFailed });
    over.at(&task("one", State::Ready, Why::Shown));
}

#[test]
fn a_command_that_hangs_is_killed_with_what_it_started() {
    let place = Place::new();
    let mut one = node("one", "exec sleep 1000");
    let command = "exec 9>\"$ORACLE\"; trap '' INT TERM; sleep 1000 & setsid sleep 1000";
    one.ready = Some(Ready { check: Check::Exec(command.into()), timeout: 300 * MS });
    let over = place.run(nodes([one]), |_, _| ());
    assert_eq!(over.outcome, Outcome::NotReady { task: TaskId(0) });
}

#[test]
fn a_node_is_ready_by_a_topic_that_has_a_publisher_and_a_rate() {
    for (hz, taken_over) in [(None, false), (None, true), (Some(50.0), false), (Some(50.0), true)] {
        let place = Place::new();
        let (name, file) = (place.domain.name().to_owned(), place.file("go"));
        if taken_over {
            // A topic that is there, and has no publisher.
            drop(place.domain.bytes().open("camera").unwrap());
        }
        let mut one = node("one", "exec sleep 1000");
        one.ready = ready(Check::Topic { topic: "camera".into(), hz });
        let publisher = std::thread::spawn({
            let file = file.clone();
            move || {
                support::eventually("it may publish", || file.exists());
                let mut publisher = conduit::Publisher::<[u8]>::options().domain(&name).open("camera").unwrap();
                while file.exists() {
                    publisher.publish(b"frame").unwrap();
                    std::thread::sleep(5 * MS);
                }
            }
        });
        let over = place.run(nodes([one]), {
            let file = file.clone();
            move |heard, handle| {
                if *heard == task("one", State::Starting, Why::Turn) {
                    std::fs::write(&file, "").unwrap();
                }
                stop_when_up(heard, handle);
            }
        });
        std::fs::remove_file(&file).unwrap();
        publisher.join().unwrap();
        assert_eq!(over.outcome, Outcome::Clean);
        over.at(&task("one", State::Ready, Why::Shown));
    }
}

#[test]
fn a_topic_that_is_too_slow_does_not_make_a_node_ready() {
    let place = Place::new();
    let (name, over) = (place.domain.name().to_owned(), place.file("over"));
    let publisher = std::thread::spawn(move || {
        let mut publisher = conduit::Publisher::<[u8]>::options().domain(&name).open("camera").unwrap();
        while !over.exists() {
            publisher.publish(b"frame").unwrap();
            std::thread::sleep(5 * MS);
        }
    });
    let mut one = node("one", "exec sleep 1000");
    one.ready = Some(Ready { check: Check::Topic { topic: "camera".into(), hz: Some(400.0) }, timeout: 2 * SECOND });
    let over = place.run(nodes([one]), |_, _| ());
    std::fs::write(place.file("over"), "").unwrap();
    publisher.join().unwrap();
    assert_eq!(over.outcome, Outcome::NotReady { task: TaskId(0) });
}

#[test]
fn a_node_whose_topic_does_not_move_is_stopped_and_restarted() {
    let place = Place::new();
    let (name, file) = (place.domain.name().to_owned(), place.file("moves"));
    let mut one = node("one", "echo begun; exec sleep 1000");
    one.ready = ready(Check::Topic { topic: "camera".into(), hz: None });
    one.alive = Some(Alive::Topic { topic: "camera".into(), within: SECOND });
    one.restart = restart(Policy::OnFailure);
    std::fs::write(&file, "").unwrap();
    let publisher = std::thread::spawn({
        let (moves, over) = (file.clone(), place.file("over"));
        move || {
            let mut publisher = conduit::Publisher::<[u8]>::options().domain(&name).open("camera").unwrap();
            while !over.exists() {
                if moves.exists() {
                    publisher.publish(b"frame").unwrap();
                }
                std::thread::sleep(5 * MS);
            }
        }
    });
    let begun = Instant::now();
    let mut up = 0;
    let over = place.run(nodes([one]), move |heard, handle| {
        // It moves for two seconds in the first life, stands, and is asked to stop in the second.
        if matches!(heard, Heard::Task(_, State::Ready, _)) {
            up += 1;
            if up == 1 {
                let moves = file.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(2 * SECOND);
                    std::fs::remove_file(moves).unwrap();
                });
            } else {
                handle.stop();
            }
        }
    });
    std::fs::write(place.file("over"), "").unwrap();
    publisher.join().unwrap();
    assert_eq!(over.outcome, Outcome::Clean);
    assert!(begun.elapsed() >= 2 * SECOND);
    over.in_order(&[
        task("one", State::Stopping(Rung::First), Why::NotAlive(SECOND)),
        task("one", State::Starting, Why::Restart(1)),
    ]);
    assert_eq!(over.count(|heard| matches!(heard, Heard::Task(_, State::Stopping(_), Why::NotAlive(_)))), 1);
}

#[test]
fn a_wait_holds_when_all_that_it_waits_for_is_there() {
    let place = Place::new();
    let publisher = place.domain.bytes().open("here").unwrap();
    let wait = Wait {
        conditions: vec![
            Condition::Time(50 * MS),
            Condition::Topic("here".into()),
            Condition::File("file".into()),
            Condition::NodeReady("one".into()),
        ],
        timeout: PATIENCE,
    };
    let one = node("one", "echo > new; mv new file; exec sleep 1000");
    let all = [TaskKind::Node(one), TaskKind::Wait(wait), TaskKind::Run(node("two", "exit 0"))];
    let over = place.run(plan(all), stop_when_up);
    drop(publisher);
    assert_eq!(over.outcome, Outcome::Clean);
    over.in_order(&[
        task("wait", State::Done, Why::Shown),
        task("two", State::Starting, Why::Turn),
        Heard::Flow(Phase::Up),
    ]);
}

#[test]
fn what_is_not_ready_in_time_stops_the_flow() {
    let place = Place::new();
    for check in [
        Check::Topic { topic: "nobody".into(), hz: Some(10.0) },
        Check::Log("never".into()),
        Check::Log("(".into()),
        Check::Notify,
        Check::File("nowhere".into()),
    ] {
        let mut one = node("one", "exec sleep 1000");
        one.ready = Some(Ready { check: check.clone(), timeout: 100 * MS });
        let over = place.run(nodes([one]), |_, _| ());
        assert_eq!(over.outcome, Outcome::NotReady { task: TaskId(0) });
        assert_eq!(
            over.count(|heard| matches!(heard, Heard::Trouble(_))),
            usize::from(check == Check::Log("(".into()))
        );
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Logs

#[test]
fn what_nodes_write_is_in_their_files() {
    let place = Place::new();
    let mut options = place.options();
    options.logs = Some(place.file("logs"));
    // Nothing can be written where a directory is.
    std::fs::create_dir_all(place.file("logs/b.log")).unwrap();
    let all = [node("a", "echo one; echo two >&2; exit 0"), node("b", "echo 1; echo 2; sleep 0.1; echo 3; exit 0")];
    let over = place.run_with(nodes(all), options, |_, _| ());
    assert_eq!(over.outcome, Outcome::Clean);
    let mut lines: Vec<_> =
        std::fs::read_to_string(place.file("logs/a.log")).unwrap().lines().map(String::from).collect();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    assert_eq!(over.lines("b"), ["1", "2", "3"]);
    let troubles: Vec<_> = over.heard.iter().filter(|heard| matches!(heard, Heard::Trouble(_))).collect();
    assert_eq!(troubles.len(), 2, "{troubles:?}");
    over.at(&Heard::Trouble("3 lines of its log were lost".into()));
}

// ---------------------------------------------------------------------------------------------------------------------
// All at once

/// Whether this process has no child, dead ones included.
fn has_no_child() -> bool {
    // SAFETY: tells nothing.
    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) == -1 }
}

/// What a node of the soak does.
fn mischief(noise: &mut support::Noise) -> String {
    let sleep = "sleep 1000";
    let wait = "while :; do sleep 1000 & wait; done";
    match noise.below(10) {
        0 => format!("exec {sleep}"),
        1 => format!("sleep 0.0{}; exit {}", noise.below(10), noise.below(3)),
        2 => "kill -SEGV $$".into(),
        3 => format!("trap '' INT TERM HUP; {wait}"),
        4 => format!("trap '' INT TERM; ({sleep} & {sleep}) & {wait}"),
        5 => format!("setsid sh -c '{sleep} & exec {sleep}' & exit 0"),
        6 => format!("setsid sh -c 'trap \"\" TERM INT; {wait}' & {wait}"),
        7 => "exec yes".into(),
        8 => format!("sh -c 'sleep 0.0{}; exit 1' & wait $!; exit 1", noise.below(10)),
        _ => "kill -STOP $$; exit 3".into(),
    }
}

fn soak(_: &[&str]) {
    let mut noise = support::Noise::seeded("soak");
    for round in 0..rounds(1000) {
        let place = Place::new();
        let all = (0..10).map(|number| {
            let mut one = node(&format!("n{number}"), &mischief(&mut noise));
            one.stop = Stop { signal: [libc::SIGINT, libc::SIGTERM][noise.below(2) as usize], timeout: 30 * MS };
            let policy = [Policy::Never, Policy::OnFailure, Policy::Always][noise.below(3) as usize];
            let then = if noise.below(4) == 0 { Then::StopFlow } else { Then::Ignore };
            one.restart = Restart { policy, backoff: (MS, 20 * MS), max: 3, window: SECOND, then };
            match noise.below(8) {
                0 => one.ready = Some(Ready { check: Check::Log("y".into()), timeout: 50 * MS }),
                1 => one.ready = Some(Ready { check: Check::Exec("sleep 1000 & exit 0".into()), timeout: SECOND }),
                2 => one.alive = Some(Alive::Notify { within: 50 * MS }),
                3 => one.program = "no-such-program".into(),
                _ => {}
            }
            one
        });
        let mut plan = nodes(all.collect::<Vec<_>>());
        if noise.below(2) == 0 {
            plan.tasks.iter_mut().for_each(|task| task.needs.clear());
        }
        let runner = Runner::new(plan.clone(), Options { orphans: Orphans::Adopt, ..place.options() }).unwrap();
        let (bound, handle, guardian) = (runner.stop_bound(), runner.handle(), runner.guardian());
        let (pause, how) = (noise.below(150) as u32 * MS, noise.below(6));
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let asks = std::thread::spawn(move || {
            let is_over = is_over.recv_timeout(pause) != Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            let asked = Instant::now();
            match how {
                _ if is_over => {}
                // SAFETY: no memory involved. If the flow is over in this moment, nobody has that number so soon.
                0 => _ = unsafe { libc::kill(guardian, libc::SIGKILL) },
                1 => (0..2).for_each(|_| handle.stop()),
                _ => handle.stop(),
            }
            asked
        });
        let outcome = run(runner, &plan, |_, _| ()).outcome;
        let ended = Instant::now();
        drop(over);
        let took = ended.saturating_duration_since(asks.join().unwrap());
        // In addition to the bound: what a busy machine takes to spawn and to let die.
        assert!(took < bound + 5 * SECOND, "round {round}: {took:?} of {bound:?}");
        assert!(place.is_empty(), "round {round}: somebody is left after {outcome:?}");
        assert!(has_no_child(), "round {round}: a zombie after {outcome:?}");
        support::say(round);
    }
}

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    support::run_role(&[("soak", soak)]);
}

#[test]
fn nothing_is_left_of_nodes_that_misbehave() {
    // By itself, so that its children are its own.
    let mut soak = support::Process::start("soak", &[]);
    for round in 0..rounds(1000) {
        soak.expect(&round.to_string());
    }
    soak.finish();
}
