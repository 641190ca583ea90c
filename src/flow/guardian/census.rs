//! Who descends from whom, and the end of those that are to end.

use std::io;

use super::proc::{self, Process};
use super::table::Table;

/// More processes than a machine has.
const PROCESSES: usize = 1 << 18;
/// The kernel's greatest `pid_max`.
const NUMBERS: usize = 1 << 22;
/// How often to look for new ones before something else gets its turn.
const ROUNDS: usize = 32;

/// Whose a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// Nobody's that matters here.
    Nobody,
    /// The flow's, of which node is not known.
    Stray,
    /// A node's.
    Node(usize),
}

impl Owner {
    fn pack(self) -> u32 {
        match self {
            Owner::Nobody => 1,
            Owner::Stray => 2,
            Owner::Node(at) => (at as u32).saturating_add(3),
        }
    }

    fn unpack(number: u32) -> Self {
        match number {
            0 | 1 => Owner::Nobody,
            2 => Owner::Stray,
            number => Owner::Node(number as usize - 3),
        }
    }
}

/// All processes, as they were when they were looked at.
pub(super) struct Census {
    processes: Table<Process>,
    len: usize,
    /// Of each process, packed; 0 if not known yet.
    owners: Table<u32>,
    /// For each number which process with it was sent a signal that nothing comes back from.
    marks: Table<u32>,
}

/// Which process with that number, as well as 32 bits can say; never 0.
fn mark(process: &Process) -> u32 {
    (process.start as u32) << 1 | 1
}

impl Census {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Census {
            processes: Table::new(PROCESSES)?,
            len: 0,
            owners: Table::new(PROCESSES)?,
            marks: Table::new(NUMBERS)?,
        })
    }

    /// Looks at all processes. `test` says whose one is, or that it is its parent's owner's, by `None`.
    pub(super) fn take(&mut self, mut test: impl FnMut(&Process) -> Option<Owner>) {
        self.len = 0;
        proc::for_each_process(|pid| {
            if let (Some(process), Some(place)) = (proc::process(pid), self.processes.get_mut(self.len)) {
                *place = process;
                self.len += 1;
            }
        });
        for (process, owner) in self.processes.iter().zip(self.owners.iter_mut()).take(self.len) {
            *owner = test(process).map_or(0, Owner::pack);
        }
        for at in 0..self.len {
            let owner = self.inherited(at);
            // Again along the way, so that nobody's ancestors are looked up twice.
            let mut next = Some(at);
            while let Some(place) = next.and_then(|at| self.owners.get_mut(at)).filter(|owner| **owner == 0) {
                *place = owner;
                next = next.and_then(|at| self.parent(at));
            }
        }
    }

    /// The owner of the nearest ancestor that has one.
    fn inherited(&self, at: usize) -> u32 {
        let mut next = Some(at);
        // Numbers that are used again could make it look like a circle.
        for _ in 0..self.len {
            match next.and_then(|at| self.owners.get(at)) {
                Some(0) => next = next.and_then(|at| self.parent(at)),
                Some(owner) => return *owner,
                None => break,
            }
        }
        Owner::Nobody.pack()
    }

    fn parent(&self, at: usize) -> Option<usize> {
        let parent = self.processes.get(at)?.parent;
        // They were read in the order of their numbers.
        self.processes.get(..self.len)?.binary_search_by_key(&parent, |process| process.pid).ok()
    }

    /// Those that live, and whose they are.
    pub(super) fn living(&self) -> impl Iterator<Item = (&Process, Owner)> {
        let all = self.processes.iter().zip(self.owners.iter()).take(self.len);
        all.filter(|(process, _)| !process.is_dead()).map(|(process, owner)| (process, Owner::unpack(*owner)))
    }

    /// Those that ended and were not waited for.
    pub(super) fn dead(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().take(self.len).filter(|process| process.is_dead())
    }

    /// Whether it was sent its end.
    pub(super) fn is_marked(&self, process: &Process) -> bool {
        self.marks.get(process.pid as usize) == Some(&mark(process))
    }

    /// Ends all whose owner is `wanted`, and calls `ended` for each that was not ended before. Returns whether none was left
    /// in the last look: then nobody is left to start another one.
    ///
    /// With `freeze`, none is ended before all are stopped: a process whose parent died is no longer known by it.
    ///
    /// `context` is what the others look at, and what `ended` may change.
    pub(super) fn kill<C>(
        &mut self,
        me: i32,
        freeze: bool,
        context: &mut C,
        test: impl Fn(&C, &Process) -> Option<Owner>,
        wanted: impl Fn(&C, Owner) -> bool,
        mut ended: impl FnMut(&mut C, &Process, Owner),
    ) -> bool {
        let mut is_settled = false;
        for _ in 0..ROUNDS {
            self.take(|process| test(context, process));
            is_settled = true;
            let all = self.processes.iter().zip(self.owners.iter()).take(self.len);
            for (process, owner) in all.filter(|(process, _)| !process.is_dead()) {
                let owner = Owner::unpack(*owner);
                let Some(place) = self.marks.get_mut(process.pid as usize) else { continue };
                // Who starts a process is not done with it before it sees that a signal is there, and then does not start it.
                if wanted(context, owner) && *place != mark(process) {
                    *place = mark(process);
                    send(process, me, if freeze { libc::SIGSTOP } else { libc::SIGKILL });
                    ended(context, process, owner);
                    is_settled = false;
                }
            }
            if is_settled {
                break;
            }
        }
        if freeze {
            for (process, owner) in self.living() {
                if wanted(context, owner) {
                    send(process, me, libc::SIGKILL);
                }
            }
        }
        is_settled
    }
}

/// Sends a signal to that process and to no other that got its number since.
pub(super) fn send(process: &Process, me: i32, signal: i32) {
    // SAFETY: numbers in, a descriptor out, which is closed here and was nobody else's.
    unsafe {
        // A child keeps its number until this process has waited for it.
        let fd = if process.parent == me { -1 } else { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) as i32 };
        if fd < 0 {
            libc::kill(process.pid, signal);
            return;
        }
        if proc::process(process.pid).is_some_and(|now| now.start == process.start) {
            libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0);
        }
        libc::close(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(processes: &[(i32, i32)]) -> Census {
        let mut census = Census::new().unwrap();
        for (at, (pid, parent)) in processes.iter().enumerate() {
            census.processes[at] = Process { pid: *pid, parent: *parent, state: b'S', ..Process::default() };
            census.owners[at] = 0;
        }
        census.len = processes.len();
        census
    }

    #[test]
    fn a_process_is_its_nearest_owned_ancestors() {
        let mut census = census(&[(1, 0), (5, 1), (6, 5), (7, 20), (20, 6), (30, 1)]);
        census.owners[1] = Owner::Node(3).pack();
        let owners: Vec<_> = (0..6).map(|at| Owner::unpack(census.inherited(at))).collect();
        let node = Owner::Node(3);
        assert_eq!(owners, [Owner::Nobody, node, node, node, node, Owner::Nobody]);
        census.owners[4] = Owner::Stray.pack();
        assert_eq!(Owner::unpack(census.inherited(3)), Owner::Stray);
    }

    #[test]
    fn a_circle_has_an_end() {
        let census = census(&[(5, 6), (6, 5)]);
        assert_eq!(Owner::unpack(census.inherited(0)), Owner::Nobody);
    }

    #[test]
    fn a_look_finds_this_process_and_its_children() {
        let me = std::process::id() as i32;
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut census = Census::new().unwrap();
        census.take(|process| (process.pid == me).then_some(Owner::Stray));
        let found: Vec<_> = census.living().filter(|(_, owner)| *owner == Owner::Stray).map(|(p, _)| p.pid).collect();
        assert!(found.contains(&me) && found.contains(&(child.id() as i32)), "{found:?}");
        assert!(!found.contains(&1));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
