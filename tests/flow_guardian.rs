//! The guardian with real processes: whatever dies, nothing is left.
//!
//! A node's standard output is a pipe that all its descendants inherit. Its end says that all of them are dead.
#![cfg(feature = "flow")]

mod support;

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use conduit::flow::guardian::{COOKIE, Error, Guardian, Orphans, Program, Report, Status, Step, resolve};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::Timespec;
use support::{PATIENCE, Process, eventually, hear, rounds, run_role, say};

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[
        ("supervisor", supervisor),
        ("forking_supervisor", forking_supervisor),
        ("sweeper", sweeper),
        ("starter", starter),
    ]);
}

fn wait_readable(fd: impl AsFd) {
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as _, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1, "nothing happens");
}

/// What a node writes.
struct Output {
    from: std::fs::File,
    to: Option<OwnedFd>,
}

impl Output {
    fn new() -> Self {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        Output { from: from.into(), to: Some(to) }
    }

    /// The next line; `None` at the end, when nobody is left that could write.
    fn try_line(&mut self) -> Option<String> {
        self.to = None;
        let mut line = String::new();
        loop {
            let mut byte = [0];
            wait_readable(&self.from);
            match self.from.read(&mut byte).unwrap() {
                0 => return None,
                _ if byte == *b"\n" => return Some(line),
                _ => line.push(byte[0].into()),
            }
        }
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.try_line().as_deref(), Some(line));
    }

    /// All who could write are dead, whatever they have written.
    fn ends(mut self) {
        while self.try_line().is_some() {}
    }
}

fn program(script: &str) -> Program {
    Program {
        file: "/bin/sh".into(),
        args: ["sh", "-c", script].map(OsString::from).to_vec(),
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        working_dir: "/".into(),
        cpus: vec![],
    }
}

fn next(guardian: &mut Guardian) -> Report {
    loop {
        if let Some(report) = guardian.receive().unwrap() {
            return report;
        }
        wait_readable(&*guardian);
    }
}

fn start_node(guardian: &mut Guardian, id: u32, script: &str) -> Output {
    let output = Output::new();
    guardian.spawn(id, &program(script), output.to.as_ref().unwrap(), io::stderr()).unwrap();
    output
}

/// Node 0, once it has said that it is ready.
fn ready_node(guardian: &mut Guardian, script: &str) -> Output {
    let mut output = start_node(guardian, 0, script);
    spawned(guardian);
    output.expect("ready");
    output
}

fn spawned(guardian: &mut Guardian) -> i32 {
    match next(guardian) {
        Report::Spawned { pid, .. } => pid,
        other => panic!("{other:?}"),
    }
}

/// The node is gone, with as many killed.
fn emptied(guardian: &mut Guardian, id: u32) -> u32 {
    match next(guardian) {
        Report::Emptied { id: emptied, killed } if emptied == id => killed,
        other => panic!("{other:?}"),
    }
}

fn exited(id: u32, code: i32) -> Report {
    Report::Exited { id, status: Status::Code(code) }
}

fn killed(id: u32) -> Report {
    Report::Exited { id, status: Status::Signal(libc::SIGKILL) }
}

fn close(guardian: Guardian) {
    assert_eq!(guardian.close(PATIENCE).unwrap(), []);
}

/// SIGKILL for node 0 takes all of it, so many processes at least.
fn is_killed_whole(mut guardian: Guardian, output: Output, least: u32) {
    guardian.signal(0, libc::SIGKILL).unwrap();
    assert_eq!(next(&mut guardian), killed(0));
    assert!(emptied(&mut guardian, 0) >= least);
    output.ends();
    close(guardian);
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: no memory involved; the caller's own process.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// All children of this process, as `ps` has them.
fn children() -> String {
    let pid = std::process::id().to_string();
    let list = std::process::Command::new("ps").args(["-o", "pid,sid,stat,args", "--ppid", &pid]).output().unwrap();
    String::from_utf8_lossy(&list.stdout).into_owned()
}

/// Whether this process has no child, dead ones included.
fn has_no_child() -> bool {
    // SAFETY: tells nothing.
    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) == -1 }
}

// ---------------------------------------------------------------------------------------------------------------------
// Starts and ends

#[test]
fn a_node_gets_what_it_was_given_and_its_end_is_told() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let script =
        r#"pwd; echo "$0 $1 $A"; echo "$CONDUIT_FLOW"; cat; grep -i sigign /proc/self/status; ps -o pgid= $$; exit 3"#;
    let mut program = program(script);
    program.args = ["sh", "-c", script, "name", "a b"].map(OsString::from).to_vec();
    program.env.push(("A".into(), "x=y z".into()));
    program.env.push((COOKIE.into(), "outer:1".into()));
    program.working_dir = "/tmp".into();
    program.cpus = vec![0];
    let mut output = Output::new();
    guardian.spawn(7, &program, output.to.as_ref().unwrap(), io::stderr()).unwrap();
    output.expect("/tmp");
    output.expect("name a b x=y z");
    let cookie = output.try_line().unwrap();
    assert!(cookie.starts_with("outer:1,") && cookie.ends_with(":7"), "{cookie}");
    output.expect("SigIgn:\t0000000000000000");
    let pid = spawned(&mut guardian);
    assert_eq!(output.try_line().unwrap().trim(), pid.to_string(), "its group is its own");
    assert_eq!(output.try_line(), None);
    assert_eq!(next(&mut guardian), exited(7, 3));
    assert_eq!(emptied(&mut guardian, 7), 0);
    close(guardian);
}

#[test]
fn a_number_is_one_nodes_until_it_is_emptied() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let output = start_node(&mut guardian, 1, "exec sleep 1000");
    let again = guardian.spawn(1, &program(""), io::stderr(), io::stderr());
    assert!(matches!(again, Err(Error::Exists(1))), "{again:?}");
    assert!(matches!(guardian.signal(2, libc::SIGTERM), Err(Error::Unknown(2))));
    assert!(matches!(guardian.signal(1, 65), Err(Error::Signal(65))));
    spawned(&mut guardian);
    guardian.signal(1, libc::SIGTERM).unwrap();
    assert_eq!(next(&mut guardian), Report::Exited { id: 1, status: Status::Signal(libc::SIGTERM) });
    assert_eq!(emptied(&mut guardian, 1), 0);
    output.ends();
    start_node(&mut guardian, 1, "exit 0").ends();
    spawned(&mut guardian);
    assert_eq!(next(&mut guardian), exited(1, 0));
    assert_eq!(emptied(&mut guardian, 1), 0);
    close(guardian);
}

#[test]
fn a_program_that_is_not_there_is_a_failure_that_says_so() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let sh = program("exit 0");
    let cases = [
        (Program { file: "/no/such/program".into(), ..sh.clone() }, Step::Exec, libc::ENOENT),
        (Program { file: "/etc/passwd".into(), ..sh.clone() }, Step::Exec, libc::EACCES),
        (Program { working_dir: "/no/such/dir".into(), ..sh.clone() }, Step::WorkingDir, libc::ENOENT),
        (Program { cpus: vec![60_000], ..sh.clone() }, Step::Affinity, libc::EINVAL),
        (Program { args: vec!["x".repeat(1 << 20).into()], ..sh.clone() }, Step::Exec, libc::E2BIG),
    ];
    for (id, (program, step, errno)) in cases.into_iter().enumerate() {
        let id = id as u32;
        let output = Output::new();
        guardian.spawn(id, &program, output.to.as_ref().unwrap(), io::stderr()).unwrap();
        assert_eq!(next(&mut guardian), Report::SpawnFailed { id, step, errno });
        output.ends();
    }
    let relative = Program { file: "sh".into(), ..sh.clone() };
    assert!(matches!(guardian.spawn(0, &relative, io::stderr(), io::stderr()), Err(Error::Relative(_))));
    let zero = Program { args: vec!["a\0".into()], ..sh };
    assert!(matches!(guardian.spawn(0, &zero, io::stderr(), io::stderr()), Err(Error::Nul)));
    assert_eq!(resolve("sh".as_ref(), None, Path::new("/")).unwrap().file_name(), PathBuf::from("sh").file_name());
    close(guardian);
}

#[test]
fn a_megabyte_of_arguments_is_passed() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let mut program = program("echo $#");
    program.args.extend(std::iter::repeat_n(OsString::from("x".repeat(100_000)), 11));
    let mut output = Output::new();
    guardian.spawn(0, &program, output.to.as_ref().unwrap(), io::stderr()).unwrap();
    output.expect("10");
    close_after_end(guardian);
}

fn close_after_end(mut guardian: Guardian) {
    while !matches!(next(&mut guardian), Report::Emptied { .. }) {}
    close(guardian);
}

#[test]
fn reports_that_nobody_takes_keep_nobody_waiting_and_are_not_lost() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let count = rounds(3000);
    for id in 0..count {
        guardian.spawn(id, &program("exit 5"), io::stderr(), io::stderr()).unwrap();
    }
    let mut last = vec![0; count as usize];
    while last.iter().any(|told| *told < 3) {
        let report = next(&mut guardian);
        let told = &mut last[report.id() as usize];
        *told += 1;
        let place = match report {
            Report::Spawned { .. } => 1,
            Report::Exited { status: Status::Code(5), .. } => 2,
            Report::Emptied { killed: 0, .. } => 3,
            other => panic!("{other:?}"),
        };
        assert_eq!(*told, place);
    }
    close(guardian);
}

// ---------------------------------------------------------------------------------------------------------------------
// Those that don't want to end

#[test]
fn a_node_that_ignores_signals_is_killed() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let script = "trap 'echo int' INT; trap 'echo term' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let mut output = start_node(&mut guardian, 3, script);
    spawned(&mut guardian);
    output.expect("ready");
    guardian.signal(3, libc::SIGINT).unwrap();
    output.expect("int");
    guardian.signal(3, libc::SIGTERM).unwrap();
    output.expect("term");
    assert_eq!(guardian.receive().unwrap(), None);
    guardian.signal(3, libc::SIGKILL).unwrap();
    assert_eq!(next(&mut guardian), killed(3));
    assert!(emptied(&mut guardian, 3) >= 1);
    output.ends();
    close(guardian);
}

#[test]
fn grandchildren_die_with_their_node() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let script = "sh -c 'sh -c \"echo ready; sleep 1000\" & sleep 1000' & wait";
    let output = ready_node(&mut guardian, script);
    is_killed_whole(guardian, output, 3);
}

#[test]
fn who_is_left_behind_in_the_group_still_gets_its_signals() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let script = "sh -c 'echo ready; exec sleep 1000' & exit 0";
    let mut output = start_node(&mut guardian, 0, script);
    spawned(&mut guardian);
    assert_eq!(next(&mut guardian), exited(0, 0));
    output.expect("ready");
    assert_eq!(guardian.receive().unwrap(), None, "not empty");
    guardian.signal(0, libc::SIGTERM).unwrap();
    assert_eq!(emptied(&mut guardian, 0), 0);
    output.ends();
    close(guardian);
}

#[test]
fn who_escapes_by_setsid_is_found_and_killed() {
    // In this order: it has a parent; it has none, but the cookie; it has a parent, but not the cookie.
    for (escape, exits) in [("setsid", false), ("setsid", true), ("env -i setsid", false)] {
        let mut guardian = Guardian::start(Orphans::Leave).unwrap();
        let end = if exits { "exit 0" } else { "wait" };
        let script = format!("{escape} /bin/sh -c 'trap \"\" INT TERM; echo ready; /bin/sleep 1000' & {end}");
        let mut output = start_node(&mut guardian, 0, &script);
        // Others' nodes are not touched.
        let other = start_node(&mut guardian, 1, "exec sleep 1000");
        let mut other_pid = 0;
        let mut reports = vec![next(&mut guardian), next(&mut guardian)];
        if exits {
            reports.push(next(&mut guardian));
            assert!(reports.contains(&exited(0, 0)), "{reports:?}");
        }
        for report in reports {
            if let Report::Spawned { id: 1, pid } = report {
                other_pid = pid;
            }
        }
        output.expect("ready");
        guardian.signal(0, libc::SIGTERM).unwrap();
        if !exits {
            assert_eq!(next(&mut guardian), Report::Exited { id: 0, status: Status::Signal(libc::SIGTERM) });
        }
        guardian.signal(0, libc::SIGKILL).unwrap();
        if escape == "setsid" || exits {
            assert!(emptied(&mut guardian, 0) >= 1);
        } else {
            // Nothing says whose it was any more: it ends with the flow.
            assert_eq!(emptied(&mut guardian, 0), 0);
            signal(other_pid, 0);
            guardian.kill_all().unwrap();
        }
        output.ends();
        if exits || escape == "setsid" {
            signal(other_pid, libc::SIGKILL);
        }
        other.ends();
        assert_eq!(next(&mut guardian), killed(1));
        emptied(&mut guardian, 1);
        close(guardian);
    }
}

#[test]
fn who_escapes_without_a_trace_is_found_as_long_as_its_parents_live() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let script = "env -i setsid /bin/sh -c 'setsid /bin/sh -c \"echo ready; /bin/sleep 1000\" & wait' & wait";
    let output = ready_node(&mut guardian, script);
    is_killed_whole(guardian, output, 3);
}

#[test]
fn a_daemon_is_asked_to_end_before_it_is_killed() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let script =
        "setsid sh -c 'trap \"echo term; exit\" TERM; echo ready; while :; do sleep 1000 & wait; done' & exit 0";
    let mut output = start_node(&mut guardian, 0, script);
    spawned(&mut guardian);
    assert_eq!(next(&mut guardian), exited(0, 0));
    output.expect("ready");
    guardian.signal(0, libc::SIGTERM).unwrap();
    output.expect("term");
    // What it started is an orphan now, and of the node.
    guardian.signal(0, libc::SIGKILL).unwrap();
    emptied(&mut guardian, 0);
    output.ends();
    close(guardian);
}

#[test]
fn who_runs_from_process_to_process_is_caught() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    // Each starts the next one in a session of its own and ends.
    let script = "export R='setsid sh -c \"$R\" &'; echo ready; setsid sh -c \"$R\" & exit 0";
    let output = ready_node(&mut guardian, script);
    assert_eq!(next(&mut guardian), exited(0, 0));
    assert_eq!(guardian.receive().unwrap(), None, "not empty");
    guardian.signal(0, libc::SIGKILL).unwrap();
    assert!(emptied(&mut guardian, 0) >= 1);
    output.ends();
    close(guardian);
}

#[test]
fn all_are_killed_at_once_and_the_guardian_stays() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let outputs: Vec<_> = (0..8).map(|id| start_node(&mut guardian, id, "echo ready; sleep 1000 & wait")).collect();
    let mut outputs: Vec<_> = outputs;
    outputs.iter_mut().for_each(|output| output.expect("ready"));
    guardian.kill_all().unwrap();
    let mut left = 8;
    while left > 0 {
        left -= u32::from(matches!(next(&mut guardian), Report::Emptied { killed: 1.., .. }));
    }
    outputs.into_iter().for_each(Output::ends);
    start_node(&mut guardian, 0, "exit 0").ends();
    close_after_end(guardian);
}

// ---------------------------------------------------------------------------------------------------------------------
// Who dies first

/// What leaves its group, its session and its parents, and ignores what it is told.
const STUBBORN: &str = "trap '' INT TERM HUP; setsid sh -c 'trap \"\" TERM; setsid sleep 1000 & echo @ready; sleep 1000' & \
                        sh -c 'sleep 1000 & echo @ready; sleep 1000' & wait";

/// Starts stubborn nodes that write where this process does, and says its guardian's number.
fn supervisor(_: &[&str]) {
    let mut guardian = Guardian::start(Orphans::Adopt).unwrap();
    say(guardian.pid());
    for id in 0..3 {
        guardian.spawn(id, &program(STUBBORN), io::stdout(), io::stdout()).unwrap();
    }
    while hear().is_some() {}
    guardian.close(PATIENCE).unwrap();
    assert!(has_no_child());
}

#[test]
fn the_supervisors_death_by_kill_9_ends_every_descendant() {
    for _ in 0..rounds(20) {
        let mut supervisor = Process::start("supervisor", &[]);
        supervisor.line();
        (0..6).for_each(|_| supervisor.expect("ready"));
        supervisor.signal(libc::SIGKILL);
        assert_eq!(supervisor.try_line(), None, "the end of the last one's output");
    }
}

#[test]
fn the_supervisors_death_in_the_middle_of_starts_ends_every_descendant() {
    for round in 0..rounds(60) {
        let mut supervisor = Process::start("supervisor", &[]);
        supervisor.line();
        (0..round % 6).for_each(|_| supervisor.expect("ready"));
        supervisor.signal(libc::SIGKILL);
        while supervisor.try_line().is_some() {}
    }
}

#[test]
fn a_supervisor_that_ends_well_leaves_nothing() {
    let mut supervisor = Process::start("supervisor", &[]);
    supervisor.line();
    (0..6).for_each(|_| supervisor.expect("ready"));
    assert!(supervisor.end().success());
    assert_eq!(supervisor.try_line(), None);
}

/// A supervisor of which there is a copy that has all its descriptors but the output, and goes on.
fn forking_supervisor(_: &[&str]) {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    say("starts");
    // SAFETY: the child makes system calls only. Not `fork`, whose handlers close the guardian's socket.
    unsafe {
        if libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) == 0 {
            libc::close(1);
            libc::close(2);
            let mut byte = 0u8;
            // Until the test closes the other end.
            while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
            libc::_exit(0);
        }
    }
    guardian.spawn(0, &program(STUBBORN), io::stdout(), io::stdout()).unwrap();
    loop {
        next(&mut guardian);
    }
}

#[test]
fn the_supervisors_death_is_seen_although_a_copy_of_it_lives_on() {
    let mut supervisor = Process::start("forking_supervisor", &[]);
    supervisor.expect("starts");
    (0..2).for_each(|_| supervisor.expect("ready"));
    supervisor.signal(libc::SIGKILL);
    assert_eq!(supervisor.try_line(), None);
}

/// A supervisor that sweeps up after its guardian, which the test kills.
fn sweeper(args: &[&str]) {
    let orphans = if args[0] == "all" { Orphans::AdoptAll } else { Orphans::Adopt };
    let mut guardian = Guardian::start(orphans).unwrap();
    say(guardian.pid());
    let mut outputs = Vec::new();
    for id in 0..3 {
        let mut script = program(STUBBORN);
        if args[0] == "all" {
            script = program("env -i setsid /bin/sh -c 'echo @ready; /bin/sleep 1000' & echo @ready; exit 0");
        }
        let output = Output::new();
        guardian.spawn(id, &script, output.to.as_ref().unwrap(), io::stderr()).unwrap();
        outputs.push(output);
    }
    for output in &mut outputs {
        output.expect("@ready");
        output.expect("@ready");
    }
    say("ready");
    let lost = loop {
        match guardian.receive() {
            Ok(None) => wait_readable(&guardian),
            Ok(Some(_)) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(lost, Error::Lost), "{lost}");
    assert!(matches!(guardian.kill_all(), Err(Error::Lost)));
    if args[0] == "drop" {
        drop(guardian);
    } else {
        let swept = guardian.sweep(PATIENCE).unwrap();
        assert!(swept.killed >= 3, "{swept:?}");
    }
    outputs.into_iter().for_each(Output::ends);
    assert!(has_no_child(), "left: {}", children());
    say("swept");
}

#[test]
fn the_guardians_death_by_kill_9_ends_every_descendant() {
    for round in 0..rounds(40) {
        // The last ones leave no trace but that they become the supervisor's.
        let how = ["sweep", "drop", "all"][round as usize % 3];
        let mut sweeper = Process::start("sweeper", &[how]);
        let guardian: i32 = sweeper.line().parse().unwrap();
        sweeper.expect("ready");
        signal(guardian, libc::SIGKILL);
        sweeper.expect("swept");
        sweeper.finish();
    }
}

#[test]
fn a_nodes_own_process_dies_with_the_guardian_at_once() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let output = start_node(&mut guardian, 0, "exec sleep 1000");
    spawned(&mut guardian);
    signal(guardian.pid(), libc::SIGKILL);
    output.ends();
    wait_readable(&guardian);
    assert!(matches!(guardian.receive(), Err(Error::Lost)));
    guardian.sweep(PATIENCE).unwrap();
}

#[test]
fn a_dropped_guardian_takes_everything_along() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let mut output = start_node(&mut guardian, 0, STUBBORN);
    (0..2).for_each(|_| output.expect("@ready"));
    drop(guardian);
    output.ends();
}

#[test]
fn signals_of_a_terminal_are_nothing_to_the_guardian() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let pid = guardian.pid();
    // SAFETY: no memory involved.
    assert!(unsafe { libc::getsid(pid) == pid && libc::getpgid(pid) == pid });
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE, libc::SIGUSR1] {
        signal(pid, number);
    }
    let mut output = start_node(&mut guardian, 0, "grep -i sigblk /proc/self/status");
    output.expect("SigBlk:\t0000000000000000");
    close_after_end(guardian);
}

// ---------------------------------------------------------------------------------------------------------------------
// What is left

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// A process without other threads than those of the test.
fn starter(args: &[&str]) {
    let times: u32 = args[0].parse().unwrap();
    let once = || {
        let mut guardian = Guardian::start(Orphans::Leave).unwrap();
        start_node(&mut guardian, 0, "sleep 1000 & exit 0").expect_none_but_killed(&mut guardian);
        close(guardian);
    };
    once();
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let before = (count("/proc/self/fd"), maps());
    for _ in 0..times {
        once();
    }
    let after = (count("/proc/self/fd"), maps());
    assert!(after.0 == before.0 && after.1 <= before.1 + 2, "{before:?} {after:?}");
    assert!(has_no_child(), "a zombie");
    say("clean");
}

impl Output {
    fn expect_none_but_killed(self, guardian: &mut Guardian) {
        let _ = spawned(guardian);
        assert_eq!(next(guardian), exited(0, 0));
        guardian.signal(0, libc::SIGKILL).unwrap();
        emptied(guardian, 0);
        self.ends();
    }
}

#[test]
fn no_zombie_and_no_descriptor_is_left_after_many_starts() {
    let mut starter = Process::start("starter", &[&rounds(500).to_string()]);
    starter.expect("clean");
    starter.finish();
}

#[test]
fn no_zombie_and_no_descriptor_is_left_in_a_guardian_of_many_nodes() {
    let mut guardian = Guardian::start(Orphans::Leave).unwrap();
    let descriptors = format!("/proc/{}/fd", guardian.pid());
    let children = format!("/proc/{0}/task/{0}/children", guardian.pid());
    let before = count(&descriptors);
    for round in 0..rounds(1000) {
        let id = round % 7;
        let script = if round % 3 == 0 { "(setsid sleep 0.01 &) ; exit 1" } else { "sleep 0.01 & exit 1" };
        let mut program = program(script);
        if round % 5 == 4 {
            program.file = "/no/such/program".into();
        }
        guardian.spawn(id, &program, io::stderr(), io::stderr()).unwrap();
        while !matches!(next(&mut guardian), Report::Emptied { killed: 0, .. } | Report::SpawnFailed { .. }) {}
        assert_eq!(std::fs::read_to_string(&children).unwrap(), "", "round {round}: told empty, but is not");
    }
    eventually("the guardian's descriptors are closed", || count(&descriptors) == before);
    close(guardian);
}

#[test]
fn a_guardian_is_started_while_threads_allocate() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box((1..64).map(|len| vec![0u8; len * 100]).collect::<Vec<_>>());
                }
            });
        }
        for _ in 0..rounds(300) {
            let mut guardian = Guardian::start(Orphans::Leave).unwrap();
            start_node(&mut guardian, 0, "exit 0").ends();
            close_after_end(guardian);
        }
        stop.store(true, Ordering::Relaxed);
    });
}
