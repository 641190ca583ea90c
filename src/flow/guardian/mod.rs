//! The guardian: a process of its own between a flow's supervisor and its nodes, so that whichever of them dies, nothing of the
//! flow is left running.
//!
//! It is a fork of the supervisor that starts the nodes, each in its own process group, hears of their ends, and as a
//! `PR_SET_CHILD_SUBREAPER` gets every orphan among their descendants: also those that left their group and session.
//!
//! * **The supervisor dies**, in whatever way: the guardian kills all descendants, waits for each, and ends.
//! * **The guardian dies**: the kernel kills the nodes' processes (`PR_SET_PDEATHSIG`, which a set-user-ID program does without);
//!   their descendants are for [`Guardian::sweep`] to find: by the guardian's session, by [`COOKIE`] in their environment, and
//!   as orphans that came to the supervisor, if it wanted them: [`Orphans`].
//! * **A node dies**: [`Report::Exited`]. What it leaves behind is told signals like it, and [`Report::Emptied`] says that it is
//!   gone.
//!
//! Nodes are no session leaders: a serial port that one opens can't become its terminal and hang it up. They have a default
//! signal mask and default dispositions, and nothing as standard input.
//!
//! A process is known to be of a node by its parents; if they are gone, by its process group; if it left that, by the cookie.
//! Who left all three is killed when the whole flow is.
//!
//! ```no_run
//! use std::{env, io, path::PathBuf};
//! use conduit::flow::guardian::{Guardian, Orphans, Program, Report};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut guardian = Guardian::start(Orphans::Adopt)?;
//! let program = Program {
//!     file: PathBuf::from("/bin/sleep"),
//!     args: vec!["sleep".into(), "60".into()],
//!     env: env::vars_os().collect(),
//!     working_dir: PathBuf::from("/"),
//!     cpus: vec![],
//! };
//! guardian.spawn(0, &program, io::stdout(), io::stderr())?;
//! guardian.signal(0, libc::SIGTERM)?;
//! loop {
//!     match guardian.receive()? {
//!         Some(Report::Emptied { id, killed }) => break println!("nothing is left of {id}; {killed} had to be killed"),
//!         Some(report) => println!("{report:?}"),
//!         None => { /* wait until `guardian.as_fd()` is readable */ }
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod census;
mod codec;
mod exec;
mod keeper;
mod nodes;
mod proc;
mod resolve;
mod start;
mod sweep;
mod sys;
mod table;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown};
use rustix::time::Timespec;

use crate::std::fork::UnsharedFile;
use codec::Request;
pub use codec::{Report, Status, Step};
use nodes::MAX_NODES;
pub use proc::COOKIE;
use proc::Token;
pub use resolve::resolve;
pub use sweep::Swept;

/// How long a guardian that is dropped has to end everything, before it is ended itself.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of the nodes' descendants if the guardian is killed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Orphans {
    /// They are left to whoever gets orphans, and [`Guardian::sweep`] kills those that it knows.
    #[default]
    Leave,
    /// They come to this process, which becomes a `PR_SET_CHILD_SUBREAPER` and stays one. `sweep` waits for those that it
    /// knows.
    Adopt,
    /// As before, and `sweep` takes every child of this process that is no guardian for one of them. For programs that have no
    /// other children: those would be killed.
    AdoptAll,
}

/// What a node executes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Program {
    /// An absolute path: see [`resolve`].
    pub file: PathBuf,
    /// With the program's name as the first.
    pub args: Vec<OsString>,
    /// All of its environment, to which [`COOKIE`] is added.
    pub env: Vec<(OsString, OsString)>,
    /// An absolute path.
    pub working_dir: PathBuf,
    /// The CPUs that it may use; empty: those that this process may.
    pub cpus: Vec<usize>,
}

/// What can go wrong with a guardian.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// See [`Guardian::sweep`].
    #[error("the guardian is gone: what is left of its nodes has to be swept up")]
    Lost,
    /// It was stopped, or has a machine to itself that does not run it.
    #[error("the guardian does not answer")]
    Stuck,
    /// A node's number is its own until it is [`Report::Emptied`] or [`Report::SpawnFailed`].
    #[error("there is a node {0} already")]
    Exists(u32),
    /// It is gone already, or never was.
    #[error("there is no node {0}")]
    Unknown(u32),
    /// There is an end to them.
    #[error("there are {MAX_NODES} nodes already")]
    TooMany,
    /// No program can be told of it.
    #[error("a zero byte in the program's path, arguments, environment or working directory")]
    Nul,
    /// Paths are the guardian's to follow, and it is elsewhere.
    #[error("{0} is not an absolute path")]
    Relative(PathBuf),
    /// CPUs have small numbers.
    #[error("there is no CPU {0}")]
    Cpu(usize),
    /// There is no such signal.
    #[error("there is no signal {0}")]
    Signal(i32),
    /// Something is left that does not end, such as in the middle of a system call that hangs, or that may not be killed.
    #[error("{0} processes don't end")]
    Left(usize),
    /// The system refused something.
    #[error("cannot {0}: {1}")]
    System(&'static str, #[source] io::Error),
}

fn system(what: &'static str) -> impl Fn(Errno) -> Error {
    move |error| Error::System(what, error.into())
}

/// The supervisor's end of a guardian. Dropping it ends everything that was started by it.
#[derive(Debug)]
pub struct Guardian {
    socket: UnsharedFile,
    /// Its process.
    process: OwnedFd,
    pid: i32,
    token: Token,
    orphans: Orphans,
    /// Those that are there, as far as was told.
    nodes: HashSet<u32>,
    is_lost: bool,
    is_waited_for: bool,
}

impl Guardian {
    /// Starts it: a child of this process, as which it raises no SIGCHLD and is not waited for by those who wait for any child.
    pub fn start(orphans: Orphans) -> io::Result<Self> {
        start::start(orphans)
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Starts a node's program, with these as its standard output and error. Whether it could be started is reported.
    pub fn spawn(&mut self, id: u32, program: &Program, stdout: impl AsFd, stderr: impl AsFd) -> Result<(), Error> {
        if self.nodes.contains(&id) {
            return Err(Error::Exists(id));
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(Error::TooMany);
        }
        let block = self.block(id, program)?;
        let file = rustix::fs::memfd_create(c"conduit-program", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
        let file = file.map_err(system("make a file in memory"))?;
        let mut left = block.as_slice();
        while !left.is_empty() {
            let written = rustix::io::write(&file, left).map_err(system("describe the program"))?;
            left = &left[written..];
        }
        // It is mapped by another process, which must not find it shorter.
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(system("seal the program's description"))?;
        let fds = [file.as_fd(), stdout.as_fd(), stderr.as_fd()];
        self.send(Request::Spawn { id, block: block.len() as u64 }, &fds)?;
        self.nodes.insert(id);
        Ok(())
    }

    fn block(&self, id: u32, program: &Program) -> Result<Vec<u8>, Error> {
        for path in [&program.file, &program.working_dir] {
            if !path.is_absolute() {
                return Err(Error::Relative(path.clone()));
            }
        }
        if let Some(cpu) = program.cpus.iter().find(|cpu| **cpu >= 1 << 16) {
            return Err(Error::Cpu(*cpu));
        }
        let mut cookie = Vec::new();
        let mut env = Vec::with_capacity(program.env.len() + 1);
        for (key, value) in &program.env {
            if key == COOKIE {
                // A flow within a flow is still the outer one's.
                cookie = value.as_bytes().to_vec();
                cookie.push(b',');
            } else {
                env.push([key.as_os_str(), value].join(OsStr::new("=")));
            }
        }
        cookie.extend_from_slice(&self.token);
        cookie.extend_from_slice(format!(":{id}").as_bytes());
        env.push([OsStr::new(COOKIE), &OsString::from_vec(cookie)].join(OsStr::new("=")));
        let args: Vec<_> = program.args.iter().map(OsString::as_os_str).collect();
        codec::encode_block(program.file.as_os_str(), program.working_dir.as_os_str(), &args, &env, &program.cpus)
            .map_err(|codec::Nul| Error::Nul)
    }

    /// Sends a signal to the node's process group, and to those of its processes that left it and have no parent left.
    /// SIGKILL is for all of the node's processes, and those that they start until they end.
    pub fn signal(&mut self, id: u32, signal: i32) -> Result<(), Error> {
        if !self.nodes.contains(&id) {
            return Err(Error::Unknown(id));
        }
        if !(1..=64).contains(&signal) {
            return Err(Error::Signal(signal));
        }
        self.send(Request::Signal { id, signal }, &[])
    }

    /// SIGKILL for everything. The guardian stays.
    pub fn kill_all(&mut self) -> Result<(), Error> {
        self.send(Request::KillAll, &[])
    }

    fn send(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        if self.is_lost {
            return Err(Error::Lost);
        }
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !fds.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(fds));
            debug_assert!(fits, "room for three");
        }
        let message = request.encode();
        // Waits for room, which there is soon: the guardian never waits for this process.
        match rustix::net::sendmsg(&self.socket, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::INTR) => Err(Error::Stuck),
            Err(Errno::PIPE | Errno::CONNRESET) => {
                self.is_lost = true;
                Err(Error::Lost)
            }
            Err(error) => Err(system("ask the guardian")(error)),
        }
    }

    /// The next report, if there is one: without waiting. There is one when [`as_fd`](AsFd::as_fd) is readable.
    pub fn receive(&mut self) -> Result<Option<Report>, Error> {
        let mut bytes = [0; codec::MESSAGE + 1];
        let report = match rustix::net::recv(&self.socket, bytes.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => None,
            Ok((len, _)) => Report::decode(bytes.get(..len).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(system("hear the guardian")(error)),
        };
        match report {
            Some(report) => {
                if matches!(report, Report::Emptied { .. } | Report::SpawnFailed { .. }) {
                    self.nodes.remove(&report.id());
                }
                Ok(Some(report))
            }
            None => {
                self.is_lost = true;
                Err(Error::Lost)
            }
        }
    }

    /// Kills everything that is left, waits until it is gone and the guardian with it, and returns what it had still to tell.
    ///
    /// [`Error::Stuck`] if that takes longer than `patience`.
    pub fn close(mut self, patience: Duration) -> Result<Vec<Report>, Error> {
        let until = Instant::now() + patience;
        let mut reports = Vec::new();
        rustix::net::shutdown(&self.socket, Shutdown::Write).map_err(system("close the guardian's socket"))?;
        loop {
            match self.receive() {
                Ok(Some(report)) => reports.push(report),
                Ok(None) => wait_for(&[self.socket.as_fd(), self.process.as_fd()], until)?,
                Err(Error::Lost) => break,
                Err(error) => return Err(error),
            }
        }
        wait_for(&[self.process.as_fd()], until)?;
        if !self.has_ended_well() {
            // Swept up when this is dropped, now.
            return Err(Error::Lost);
        }
        self.wait();
        Ok(reports)
    }

    /// Kills and waits for what is left after [`Error::Lost`]: everything of this flow that can be known. The guardian, if it is
    /// not dead, first.
    pub fn sweep(&mut self, patience: Duration) -> Result<Swept, Error> {
        self.is_lost = true;
        // Fails if it is dead.
        let _ = rustix::process::pidfd_send_signal(&self.process, rustix::process::Signal::KILL);
        let until = Instant::now() + patience;
        wait_for(&[self.process.as_fd()], until)?;
        // Not waited for yet: so its number, which is its session's, is nobody else's.
        let swept = sweep::sweep(self.pid, &self.token, self.orphans, until)?;
        self.wait();
        self.nodes.clear();
        Ok(swept)
    }

    /// Whether its process, which has ended, did all that it had to do.
    fn has_ended_well(&self) -> bool {
        // SAFETY: integers; room for what is told of the process, which stays to be waited for.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
            // Fails if somebody else got its status: nothing is known then, not even whose its number is.
            libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut info, how) < 0
                || info.si_code == libc::CLD_EXITED && info.si_status() == 0
        }
    }

    /// Waits for the guardian's process, which has ended.
    fn wait(&mut self) {
        if !self.is_waited_for {
            // SAFETY: tells nothing. Its number is its own until here.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
            self.is_waited_for = true;
            start::forget(self.pid);
        }
    }
}

impl AsFd for Guardian {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // In a forked child it is the parent's.
        if self.is_waited_for || !self.socket.is_ours() {
            return;
        }
        // Fails if the other side is gone.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        let is_over = wait_for(&[self.process.as_fd()], Instant::now() + DROP_PATIENCE).is_ok();
        if is_over && self.has_ended_well() {
            self.wait();
        } else {
            // Nobody is left to be told if that fails.
            let _ = self.sweep(DROP_PATIENCE);
        }
    }
}

/// Waits until one of `fds` is readable.
fn wait_for(fds: &[BorrowedFd<'_>], until: Instant) -> Result<(), Error> {
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return Err(Error::Stuck),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(system("wait for the guardian")(error)),
        }
    }
}
