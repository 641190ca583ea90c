//! How a node runs: its threads, where, and how urgently.

use std::io;

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Node;
use super::registry::check_name;
use crate::std::topic::{self, Error};

/// Which threads a node has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Threads {
    /// One for all subscriptions and timers: no callback runs while another does.
    #[default]
    One,
    /// One for each subscription and each timer: only callbacks of the same one wait for each other.
    Each,
}

/// How urgent a thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Among ordinary threads: -20, the most urgent, to 19.
    Nice(i32),
    /// Before all ordinary threads, until it sleeps (`SCHED_FIFO`): 1 to 99, the most urgent. Processes that a callback
    /// starts do not inherit it.
    Fifo(u8),
}

/// Where a thread runs and how urgently. What is not said stays as it is for the thread that runs the node.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Placement {
    cpu: Option<usize>,
    priority: Option<Priority>,
}

impl Placement {
    /// Keeps the thread on this CPU.
    pub fn cpu(&mut self, cpu: usize) -> &mut Self {
        self.cpu = Some(cpu);
        self
    }

    /// How urgent the thread is.
    pub fn priority(&mut self, priority: Priority) -> &mut Self {
        self.priority = Some(priority);
        self
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Placement::default()
    }

    /// What this says, and `other` where this says nothing.
    pub(super) fn or(self, other: Placement) -> Self {
        Placement { cpu: self.cpu.or(other.cpu), priority: self.priority.or(other.priority) }
    }

    /// Whether it can be at all, whoever asks.
    pub(super) fn check(&self) -> Result<(), Error> {
        let invalid = |option, reason| Err(Error::InvalidOption { option, reason });
        if let Some(cpu) = self.cpu.filter(|cpu| *cpu >= CpuSet::MAX_CPU) {
            return invalid("cpu", format!("{cpu}: CPUs are numbered from 0 to {}", CpuSet::MAX_CPU - 1));
        }
        match self.priority {
            Some(Priority::Nice(nice)) if !(-20..=19).contains(&nice) => {
                invalid("priority", format!("nice {nice}: from -20 to 19 is possible"))
            }
            Some(Priority::Fifo(level)) if !(1..=99).contains(&level) => {
                invalid("priority", format!("SCHED_FIFO {level}: from 1 to 99 is possible"))
            }
            _ => Ok(()),
        }
    }

    /// Puts the calling thread there. It was [checked](Placement::check).
    pub(super) fn apply(&self, thread: &str) -> Result<(), Error> {
        let failed = |action, what: String, source: io::Error| {
            Err(Error::System { action, path: format!("{what} for thread {thread}"), source })
        };
        if let Some(cpu) = self.cpu {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            if let Err(error) = sched_setaffinity(None, &cpus) {
                return failed(topic::PIN, format!("CPU {cpu}"), error.into());
            }
        }
        match self.priority {
            // Of a thread, on Linux.
            Some(Priority::Nice(nice)) => match setpriority_process(None, nice) {
                Ok(()) => Ok(()),
                Err(error) => failed(topic::PRIORITY, format!("nice {nice}"), error.into()),
            },
            Some(Priority::Fifo(level)) => match set_fifo(level) {
                Ok(()) => Ok(()),
                Err(error) => failed(topic::PRIORITY, format!("SCHED_FIFO {level}"), error),
            },
            None => Ok(()),
        }
    }
}

/// The system call itself: musl's function of the name refuses.
fn set_fifo(level: u8) -> io::Result<()> {
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    let level = libc::c_int::from(level);
    // SAFETY: the kernel reads a `struct sched_param`, which is one int.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const level) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How to make a [`Node`]: by [`Node::options`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `build`"]
pub struct NodeOptions {
    domain: Option<String>,
    pub(super) threads: Threads,
    pub(super) placement: Placement,
    pub(super) signals: bool,
}

impl NodeOptions {
    pub(super) fn new() -> Self {
        NodeOptions { domain: None, threads: Threads::default(), placement: Placement::default(), signals: true }
    }

    /// The group of topics and nodes it belongs to. Default: the environment's `CONDUIT_DOMAIN`, or the domain without a
    /// name.
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Which threads it has. Default: [`Threads::One`].
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// Keeps all of its threads on this CPU, but those that are [placed](Placement) otherwise.
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.placement.cpu(cpu);
        self
    }

    /// How urgent its threads are, but those that are [placed](Placement) otherwise.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.placement.priority(priority);
        self
    }

    /// Whether SIGINT and SIGTERM stop it. Default: yes. One node of a process at a time can have them; without, a node is
    /// ended by its [`Stopper`](super::Stopper).
    pub fn signals(mut self, signals: bool) -> Self {
        self.signals = signals;
        self
    }

    /// Makes the node; nothing runs yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidNode`], [`Error::InvalidDomain`], [`Error::InvalidOption`].
    pub fn build<'env>(self, name: &str) -> Result<Node<'env>, Error> {
        let domain = self.domain.clone().unwrap_or_else(topic::default_domain);
        check_name(&domain, name)?;
        self.placement.check()?;
        Ok(Node::with(name, domain, self))
    }
}
