//! The processes of a demo, as the demo sees them.

use std::io::Read;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Part;
use crate::events::Events;
use crate::outcome::{Failure, Result};

/// How long a process has to say what is expected of it. It takes a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Playing,
    Killed,
    /// It has closed its output: it is done, or it failed.
    Ended,
}

/// A process that takes a part.
pub struct Member {
    pub name: &'static str,
    pub pid: u32,
    pub fate: Fate,
    /// Its last report; null before the first.
    pub report: Value,
    /// Its report on everything, once it has made one.
    pub total: Option<Value>,
    ready: bool,
    child: Child,
    orders: Option<ChildStdin>,
    reports: ChildStdout,
    unread: Vec<u8>,
}

impl Member {
    fn start(name: &'static str, part: Part, domain: &str) -> Result<Self> {
        let failed = |error| Failure::Failed(format!("cannot start a process for {name}: {error}"));
        // This very program, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.args(["demo-worker", part.name(), "--domain", domain]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (Some(orders), Some(reports)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::Failed(format!("{name} has no pipes")));
        };
        Ok(Member {
            name,
            pid: child.id(),
            fate: Fate::Playing,
            report: Value::Null,
            total: None,
            ready: false,
            child,
            orders: Some(orders),
            reports,
            unread: Vec::new(),
        })
    }

    /// Reads what it has said. Called when there is something to read.
    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        let count = self.reports.read(&mut bytes).unwrap_or(0);
        if count == 0 && self.fate == Fate::Playing {
            self.fate = Fate::Ended;
        }
        self.unread.extend_from_slice(&bytes[..count]);
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            match serde_json::from_slice::<Value>(&line) {
                Ok(report) if report["ready"] == true => self.ready = true,
                Ok(report) if report["final"] == true => self.total = Some(report),
                Ok(report) => self.report = report,
                Err(_) => {}
            }
        }
    }

    /// Its newest figure of this name, of the last report or the one on everything.
    pub fn figure(&self, name: &str) -> u64 {
        self.total.as_ref().unwrap_or(&self.report)[name].as_u64().unwrap_or(0)
    }
}

/// All processes of a demo. Dropped, they are gone, and so is what they left.
pub struct Cast {
    pub domain: String,
    /// The publisher first.
    pub members: Vec<Member>,
}

impl Cast {
    pub fn new(domain: String) -> Self {
        Cast { domain, members: Vec::new() }
    }

    pub fn publisher(&self) -> &Member {
        &self.members[0]
    }

    pub fn subscribers(&self) -> &[Member] {
        &self.members[1..]
    }

    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    pub fn member_mut(&mut self, name: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.name == name)
    }

    /// Starts a process and waits until it is ready. `false` if interrupted meanwhile.
    pub fn start(&mut self, name: &'static str, part: Part, events: &mut Events) -> Result<bool> {
        let member = Member::start(name, part, &self.domain)?;
        self.members.push(member);
        self.wait(events, Some(Instant::now() + PATIENCE), |cast| cast.member(name).is_some_and(|member| member.ready))
    }

    /// Kills a process as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self, name: &str) {
        if let Some(member) = self.member_mut(name) {
            member.fate = Fate::Killed;
            // Fails only if it is gone already.
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }

    /// Tells all that the demo ends, and waits for their reports on everything. `false` if interrupted meanwhile.
    pub fn stop(&mut self, events: &mut Events) -> Result<bool> {
        for orders in self.members.iter_mut().filter_map(|member| member.orders.as_mut()) {
            // Fails only if it is gone already, which is noticed below.
            let _ = orders.write_all(b"stop\n");
        }
        self.wait(events, Some(Instant::now() + PATIENCE), |cast| {
            cast.members.iter().all(|member| member.fate == Fate::Killed || member.total.is_some())
        })
    }

    /// Ends all of them: they have nothing to do any more, and the publisher removes its topic.
    pub fn end(&mut self) {
        for member in &mut self.members {
            member.orders = None;
        }
        for member in self.members.iter_mut().filter(|member| member.fate != Fate::Killed) {
            let deadline = Instant::now() + PATIENCE;
            while member.fate == Fate::Playing {
                if !wait_readable(member.reports.as_fd(), deadline) {
                    let _ = member.child.kill();
                }
                member.listen();
            }
            let _ = member.child.wait();
            member.fate = Fate::Killed;
        }
    }

    /// Reads reports until `done`, or until `deadline` if that is in the future of it: an error then, as it is if one of
    /// them ends that should not. `false` if interrupted meanwhile.
    fn wait(&mut self, events: &mut Events, deadline: Option<Instant>, done: impl Fn(&Self) -> bool) -> Result<bool> {
        let was_interrupted = events.is_interrupted();
        while !done(self) {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(Failure::Failed("a process of the demo does not answer".into()));
            }
            self.listen(events, deadline)?;
            if events.is_interrupted() && !was_interrupted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sleeps until there are reports, which are read, or until `deadline`.
    pub fn listen(&mut self, events: &mut Events, deadline: Option<Instant>) -> Result<()> {
        let playing: Vec<_> = (0..self.members.len()).filter(|&at| self.members[at].fate == Fate::Playing).collect();
        let fds: Vec<BorrowedFd<'_>> = playing.iter().map(|&at| self.members[at].reports.as_fd()).collect();
        let woken = events.wait(&fds, deadline)?;
        for at in woken.ready {
            self.members[playing[at]].listen();
        }
        match self.members.iter().find(|member| member.fate == Fate::Ended && member.total.is_none()) {
            Some(member) => {
                Err(Failure::Failed(format!("process {} ({}) of the demo ended too early", member.pid, member.name)))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        self.end();
        // The publisher has removed its topic, unless it was killed; then nobody uses it.
        let _ = conduit::topic::clean(Some(&self.domain), false);
    }
}

fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::time::Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.is_ok_and(|count| count > 0),
        }
    }
}
