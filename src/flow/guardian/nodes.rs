//! What the guardian knows of its nodes: a fixed table, and what is still to be told of each, so that no queue can overflow.

use super::codec::{Report, Status, Step};
use super::table::Table;

/// How many nodes there may be at once.
pub(super) const MAX_NODES: usize = 16_384;

/// Its program runs, and that was not told.
const SPAWNED: u32 = 1;
/// Its process ended, and that was not told.
const EXITED: u32 = 2;
/// Nothing is left of it, and that was not told.
const EMPTIED: u32 = 4;

/// A node. Zeroes: none.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Slot {
    used: u32,
    pub id: u32,
    /// Its process and group; 0 if it could not be forked.
    pub pid: i32,
    /// One more than the descriptor that tells whether its program runs; 0 once that is known.
    pipe: i32,
    /// As `waitpid` has it.
    status: i32,
    /// What failed, as a [`Step`], and why.
    step: u32,
    errno: i32,
    /// How many of its processes were sent SIGKILL.
    pub killed: u32,
    /// Its process ended and was waited for.
    reaped: u32,
    /// Everything of it is to die.
    killing: u32,
    /// A child of the guardian is of it.
    present: u32,
    /// What to tell.
    to_tell: u32,
}

impl Slot {
    pub(super) fn is_used(&self) -> bool {
        self.used != 0
    }

    /// Whether its process was not waited for yet, so that its number is surely its own.
    pub(super) fn has_leader(&self) -> bool {
        self.is_used() && self.pid != 0 && self.reaped == 0
    }

    /// Whether its process is gone and what it left may be there.
    pub(super) fn is_ending(&self) -> bool {
        self.is_used() && self.reaped != 0 && self.to_tell & EMPTIED == 0
    }

    pub(super) fn is_killing(&self) -> bool {
        self.is_used() && self.killing != 0
    }

    pub(super) fn kill(&mut self) {
        self.killing = 1;
    }

    pub(super) fn set_present(&mut self, present: bool) {
        self.present = present.into();
    }

    pub(super) fn pipe(&self) -> Option<i32> {
        (self.is_used() && self.pipe != 0).then(|| self.pipe - 1)
    }

    /// It was forked.
    pub(super) fn started(&mut self, pid: i32, pipe: i32) {
        (self.pid, self.pipe) = (pid, pipe + 1);
    }

    /// It is not known to run; it ends or was never there.
    pub(super) fn failed(&mut self, step: Step, errno: i32) {
        (self.pipe, self.step, self.errno) = (0, step as u32, errno);
        if self.pid == 0 {
            (self.reaped, self.to_tell) = (1, EMPTIED);
        }
    }

    /// Its program runs, or did.
    pub(super) fn runs(&mut self) {
        self.pipe = 0;
        self.to_tell |= SPAWNED;
    }

    pub(super) fn ended(&mut self, status: i32) {
        (self.reaped, self.status) = (1, status);
        if self.step == 0 {
            self.to_tell |= EXITED;
        }
    }

    /// Nothing is left of it if no child of the guardian is of it.
    pub(super) fn check_empty(&mut self) {
        if self.is_ending() && self.present == 0 {
            self.to_tell |= EMPTIED;
        }
    }

    /// The next thing to tell.
    pub(super) fn report(&self) -> Option<Report> {
        let id = self.id;
        if self.to_tell & SPAWNED != 0 {
            return Some(Report::Spawned { id, pid: self.pid });
        }
        if self.to_tell & EXITED != 0 {
            let status = if libc::WIFSIGNALED(self.status) {
                Status::Signal(libc::WTERMSIG(self.status))
            } else {
                Status::Code(libc::WEXITSTATUS(self.status))
            };
            return Some(Report::Exited { id, status });
        }
        if self.to_tell & EMPTIED == 0 {
            return None;
        }
        Some(match Step::from_number(self.step) {
            Some(step) => Report::SpawnFailed { id, step, errno: self.errno },
            None => Report::Emptied { id, killed: self.killed },
        })
    }

    /// The next thing was told. After the last one the slot is free.
    pub(super) fn told(&mut self) {
        // The lowest bit is the next thing.
        let left = self.to_tell & self.to_tell.wrapping_sub(1);
        if self.to_tell & EMPTIED != 0 && left == 0 {
            *self = Slot::default();
        } else {
            self.to_tell = left;
        }
    }
}

/// All nodes. Those that are there are among the first `len`.
pub(super) struct Nodes {
    slots: Table<Slot>,
    len: usize,
}

impl Nodes {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Nodes { slots: Table::new(MAX_NODES)?, len: 0 })
    }

    /// A slot for a new node. `None` if there are too many, or one with that number.
    pub(super) fn add(&mut self, id: u32) -> Option<(usize, &mut Slot)> {
        if self.find(id).is_some() {
            return None;
        }
        let (at, slot) = self.slots.iter_mut().enumerate().find(|(_, slot)| !slot.is_used())?;
        *slot = Slot { used: 1, id, ..Slot::default() };
        self.len = self.len.max(at.saturating_add(1));
        Some((at, slot))
    }

    pub(super) fn find(&self, id: u32) -> Option<usize> {
        self.iter().position(|slot| slot.is_used() && slot.id == id)
    }

    /// Which node a child of the guardian is of, by what is certain: it is the node's process, or in its group.
    pub(super) fn by_process(&self, pid: i32, group: i32) -> Option<usize> {
        let leader = self.iter().position(|slot| slot.has_leader() && slot.pid == pid);
        leader.or_else(|| self.iter().position(|slot| slot.is_used() && slot.pid != 0 && slot.pid == group))
    }

    pub(super) fn get(&mut self, at: usize) -> Option<&mut Slot> {
        self.slots.get_mut(at).filter(|slot| slot.is_used())
    }

    pub(super) fn is_killing(&self, at: usize) -> bool {
        self.slots.get(at).is_some_and(Slot::is_killing)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().take(self.len)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().take(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(nodes: &mut Nodes, at: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        while let Some(report) = nodes.get(at).and_then(|slot| slot.report()) {
            reports.push(report);
            nodes.get(at).unwrap().told();
        }
        reports
    }

    #[test]
    fn what_happened_is_told_in_its_order_however_late() {
        let mut nodes = Nodes::new().unwrap();
        let (at, slot) = nodes.add(7).unwrap();
        slot.started(100, 5);
        assert_eq!(slot.pipe(), Some(5));
        slot.runs();
        slot.ended(3 << 8);
        slot.check_empty();
        let [spawned, exited] =
            [Report::Spawned { id: 7, pid: 100 }, Report::Exited { id: 7, status: Status::Code(3) }];
        assert_eq!(told(&mut nodes, at), [spawned, exited, Report::Emptied { id: 7, killed: 0 }]);
        assert!(nodes.find(7).is_none(), "its number is free again");
    }

    #[test]
    fn a_node_is_not_empty_before_its_process_was_waited_for_and_while_a_child_is_there() {
        let mut nodes = Nodes::new().unwrap();
        let (at, slot) = nodes.add(7).unwrap();
        slot.started(100, 5);
        slot.runs();
        slot.check_empty();
        assert_eq!(told(&mut nodes, at), [Report::Spawned { id: 7, pid: 100 }]);
        let slot = nodes.get(at).unwrap();
        slot.ended(libc::SIGKILL);
        slot.set_present(true);
        slot.check_empty();
        assert_eq!(told(&mut nodes, at), [Report::Exited { id: 7, status: Status::Signal(libc::SIGKILL) }]);
        let slot = nodes.get(at).unwrap();
        slot.set_present(false);
        slot.check_empty();
        assert_eq!(told(&mut nodes, at), [Report::Emptied { id: 7, killed: 0 }]);
    }

    #[test]
    fn a_start_that_failed_is_told_once_and_when_nothing_is_left() {
        let mut nodes = Nodes::new().unwrap();
        let (at, slot) = nodes.add(1).unwrap();
        slot.started(100, 0);
        slot.failed(Step::Exec, libc::ENOENT);
        assert_eq!(slot.report(), None);
        slot.ended(127 << 8);
        slot.check_empty();
        let failed = Report::SpawnFailed { id: 1, step: Step::Exec, errno: libc::ENOENT };
        assert_eq!(told(&mut nodes, at), [failed]);
        let (at, slot) = nodes.add(1).unwrap();
        slot.failed(Step::Fork, libc::EAGAIN);
        assert_eq!(told(&mut nodes, at), [Report::SpawnFailed { id: 1, step: Step::Fork, errno: libc::EAGAIN }]);
        assert!(nodes.find(1).is_none());
    }

    #[test]
    fn a_number_is_one_nodes_and_there_is_an_end_to_them() {
        let mut nodes = Nodes::new().unwrap();
        assert!(nodes.add(1).is_some() && nodes.add(1).is_none());
        nodes.len = MAX_NODES;
        nodes.slots.iter_mut().for_each(|slot| slot.used = 1);
        assert!(nodes.add(2).is_none());
    }
}
