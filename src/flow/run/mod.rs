//! Running a flow: the loop that gives the [`Supervisor`] its hands. One thread that sleeps on epoll, and a guardian that starts
//! the nodes.
//!
//! ```no_run
//! use conduit::flow::file;
//! use conduit::flow::run::{Options, Runner, Told};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = std::path::absolute("robot.flow.yaml")?;
//! let text = std::fs::read_to_string(&path)?;
//! let read = file::read(&path, &text, &mut |include| std::fs::read_to_string(include), &[])?;
//! let runner = Runner::new(read.plan, Options::default())?;
//! let handle = runner.handle();
//! std::thread::spawn(move || {
//!     // Enter, or the end of the input.
//!     let _ = std::io::stdin().read_line(&mut String::new());
//!     handle.stop();
//! });
//! let outcome = runner.run(&mut |told| match told {
//!     Told::Line { node, line, .. } => println!("{node}: {line}"),
//!     other => eprintln!("{other:?}"),
//! })?;
//! std::process::exit(outcome.code().into());
//! # }
//! ```

mod act;
mod files;
mod handle;
mod hear;
mod lines;
mod lives;
mod logs;
mod notify;
mod probes;
mod programs;
mod rate;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::Timespec;

use self::lives::{AT_ONCE, Living, Source};
use self::logs::Log;
use self::probes::Probes;
pub use super::guardian::Orphans;
use super::guardian::{self, Guardian};
use super::model::Node;
use super::plan::{Plan, TaskId, TaskKind};
use super::supervisor::{Action, Event, Life, Outcome, ProbeId, Refusal, Report, Supervisor, Time};
pub use handle::{Handle, Unknown};

/// How long what is left at the end has to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is heard of in one wake-up.
const WOKEN: usize = 1024;

/// How a flow is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The domain of its topics, which its nodes are told as `CONDUIT_DOMAIN`. `None`: as the environment has it.
    pub domain: Option<String>,
    /// The environment that its nodes have in common.
    pub env: Vec<(OsString, OsString)>,
    /// That of the flow's file: where the nodes work that don't say otherwise, and where the flow's paths begin.
    pub working_dir: PathBuf,
    /// What becomes of the nodes' descendants if the guardian is killed.
    pub orphans: Orphans,
    /// Where each node has a file of its output. `None`: none has.
    pub logs: Option<PathBuf>,
}

impl Default for Options {
    /// This process' environment and working directory, and no log files.
    fn default() -> Self {
        Options {
            domain: None,
            env: std::env::vars_os().collect(),
            working_dir: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            orphans: Orphans::Leave,
            logs: None,
        }
    }
}

/// Where a node wrote a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stream {
    /// To its standard output.
    Out = 0,
    /// To its standard error.
    Err = 1,
}

/// What a flow tells while it runs. Whoever listens keeps it waiting meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Told<'a> {
    /// How the flow and its tasks are.
    Report(&'a Report),
    /// A node wrote a line. What is longer than 8 KiB comes as several, and what is no UTF-8 as U+FFFD.
    Line {
        /// Which.
        node: &'a str,
        /// Where.
        stream: Stream,
        /// Without its end.
        line: &'a str,
    },
    /// A node said `STATUS=` at `$NOTIFY_SOCKET`.
    Status {
        /// Which.
        node: &'a str,
        /// What it does, in its own words.
        status: &'a str,
    },
    /// What was asked for by a [`Handle`] can't be done now.
    Refused {
        /// Whose restart or stop.
        node: &'a str,
        /// Why.
        refusal: Refusal,
    },
    /// Something that the flow goes on without.
    Trouble {
        /// For which node, or which wait as the flow's own.
        node: &'a str,
        /// What, for people.
        what: &'a str,
    },
}

type Teller<'a> = dyn FnMut(Told<'_>) + 'a;

/// Why a flow can't be run.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system refused something.
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
    /// The flow is over, and something of it may be left.
    #[error(transparent)]
    Guardian(#[from] guardian::Error),
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::System(what, error.into())
}

/// Runs a flow from its beginning to its end.
///
/// # Errors
///
/// The system refuses what it takes to run any flow, or something is left at the end that doesn't.
pub fn run(plan: Plan, options: Options, told: &mut Teller<'_>) -> Result<Outcome, Error> {
    Runner::new(plan, options)?.run(told)
}

/// What the guardian's number of a process stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Life(Life),
    Probe(ProbeId),
}

/// A flow that has not begun. Dropping it ends everything that it started.
#[derive(Debug)]
pub struct Runner {
    options: Options,
    supervisor: Supervisor,
    begun: Instant,
    epoll: Arc<OwnedFd>,
    handle: Handle,
    probes: Probes,
    lives: BTreeMap<Life, Living>,
    owners: HashMap<u32, Owner>,
    next_id: u32,
    logs: BTreeMap<TaskId, Log>,
    /// What happened and was not handled yet.
    events: VecDeque<Event>,
    room: Box<[u8; AT_ONCE]>,
    null: File,
    is_lost: bool,
    /// Last, so that the pipes are closed before what wrote to them is waited for.
    guardian: Guardian,
}

impl Runner {
    /// Starts a guardian, and nothing else yet.
    ///
    /// # Errors
    ///
    /// The system refuses what it takes to run any flow.
    pub fn new(plan: Plan, mut options: Options) -> Result<Self, Error> {
        options.working_dir =
            std::path::absolute(&options.working_dir).map_err(system("find the working directory"))?;
        if let Some(directory) = &options.logs {
            std::fs::create_dir_all(directory).map_err(system("make the directory of logs"))?;
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("wait for several things"))?;
        let epoll = Arc::new(epoll);
        let handle = Handle::new(&plan).map_err(system("make a bell"))?;
        let probes = Probes::new();
        let null = File::options().read(true).write(true).open("/dev/null").map_err(system("open /dev/null"))?;
        let guardian = Guardian::start(options.orphans).map_err(system("start the guardian"))?;
        let waits = system("wait for the guardian");
        Source::Guardian.register(&epoll, &guardian).map_err(&waits)?;
        Source::Handle.register(&epoll, &handle).map_err(&waits)?;
        if let Some(inotify) = probes.files.fd() {
            Source::Files.register(&epoll, inotify).map_err(&waits)?;
        }
        Ok(Runner {
            options,
            supervisor: Supervisor::new(plan),
            begun: Instant::now(),
            epoll,
            handle,
            probes,
            lives: BTreeMap::new(),
            owners: HashMap::new(),
            next_id: 0,
            logs: BTreeMap::new(),
            events: VecDeque::new(),
            room: Box::new([0; AT_ONCE]),
            null,
            is_lost: false,
            guardian,
        })
    }

    /// Tells the flow what to do while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The guardian's process.
    pub fn guardian(&self) -> i32 {
        self.guardian.pid()
    }

    /// How long the flow takes at most from being asked to stop to the last SIGKILL: see [`Supervisor::stop_bound`].
    pub fn stop_bound(&self) -> Duration {
        self.supervisor.stop_bound()
    }

    /// Runs the flow to its end.
    ///
    /// # Errors
    ///
    /// The system refuses to wait, or something is left at the end that doesn't end.
    pub fn run(mut self, told: &mut Teller<'_>) -> Result<Outcome, Error> {
        self.begun = Instant::now();
        let mut actions = Vec::new();
        self.supervisor.start(Time::ZERO, &mut actions);
        let mut ready = Vec::new();
        let outcome = loop {
            if let Some(outcome) = self.settle(&mut actions, told) {
                break outcome;
            }
            self.flush_logs(told);
            self.wait(&mut ready)?;
            // These first, whatever else there is to hear: nobody's output keeps a stop waiting.
            self.hear_handle(told);
            self.hear_guardian(told);
            for source in ready.drain(..) {
                self.hear(source, told);
            }
            self.probes.look(self.now(), false, &mut self.events);
            if let Some(outcome) = self.settle(&mut actions, told) {
                break outcome;
            }
            if self.is_due() {
                // A sign of life that is there is seen before it is late.
                self.probes.look(self.now(), true, &mut self.events);
                if let Some(outcome) = self.settle(&mut actions, told) {
                    break outcome;
                }
                self.supervisor.tick(self.now(), &mut actions);
            }
        };
        self.finish(told)?;
        Ok(outcome)
    }

    fn now(&self) -> Time {
        self.begun.elapsed()
    }

    fn is_due(&self) -> bool {
        self.supervisor.due().is_some_and(|due| due <= self.now())
    }

    /// Carries out what is to be done and what comes of it, until there is nothing more.
    fn settle(&mut self, actions: &mut Vec<Action>, told: &mut Teller<'_>) -> Option<Outcome> {
        loop {
            for action in actions.drain(..) {
                if let Some(outcome) = self.act(action, told) {
                    return Some(outcome);
                }
            }
            let event = self.events.pop_front()?;
            self.supervisor.handle(self.now(), event, actions);
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self, ready: &mut Vec<Source>) -> Result<(), Error> {
        let due = self.supervisor.due().into_iter().chain(self.probes.due()).min();
        let timeout = due.map(|due| {
            let left = due.saturating_sub(self.now());
            Timespec { tv_sec: left.as_secs().min(1 << 30) as _, tv_nsec: left.subsec_nanos() as _ }
        });
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; WOKEN];
        match epoll::wait(&*self.epoll, &mut events, timeout.as_ref()) {
            Ok((woken, _)) => ready.extend(woken.iter().map(|event| {
                let data = event.data;
                Source::of(data.u64())
            })),
            Err(Errno::INTR) => {}
            Err(error) => return Err(system("wait")(error)),
        }
        Ok(())
    }

    /// Ends what nobody accounted for, hears the last of all.
    fn finish(mut self, told: &mut Teller<'_>) -> Result<(), Error> {
        let swept = if self.is_lost { Some(self.guardian.sweep(PATIENCE)) } else { None };
        for life in self.lives.keys().copied().collect::<Vec<_>>() {
            self.bury(life, told);
        }
        self.flush_logs(told);
        for (task, log) in std::mem::take(&mut self.logs) {
            if log.lost > 0 {
                let what = format!("{} lines of its log were lost", log.lost);
                told(Told::Trouble { node: self.name(task), what: &what });
            }
        }
        match swept {
            Some(swept) => drop(swept?),
            None => match self.guardian.close(PATIENCE) {
                // Killed in the end: swept up by now.
                Ok(_) | Err(guardian::Error::Lost) => {}
                Err(error) => return Err(error.into()),
            },
        }
        Ok(())
    }

    fn node(&self, task: TaskId) -> Option<&Node> {
        node(self.supervisor.plan(), task)
    }

    fn name(&self, task: TaskId) -> &str {
        name(self.supervisor.plan(), task)
    }
}

/// What the task starts.
fn node(plan: &Plan, task: TaskId) -> Option<&Node> {
    match &plan.tasks.get(task.0)?.kind {
        TaskKind::Node(node) | TaskKind::Run(node) => Some(node),
        TaskKind::Wait(_) => None,
    }
}

/// What the task goes by; what starts nothing, by the flow's name.
fn name(plan: &Plan, task: TaskId) -> &str {
    node(plan, task).map_or(&plan.name, |node| &node.name)
}
