//! How others tell a flow that runs what to do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::flow::plan::{Plan, TaskId, TaskKind};
use crate::flow::supervisor::Event;

/// Tells a flow what to do, from any thread. After the flow's end it does nothing.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bell: OwnedFd,
    asked: Mutex<Vec<Event>>,
    names: Vec<(String, TaskId)>,
}

/// There is no node of that name.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
#[error("there is no node {0}")]
pub struct Unknown(pub String);

impl Handle {
    pub(super) fn new(plan: &Plan) -> io::Result<Self> {
        let names = plan.tasks.iter().enumerate().filter_map(|(index, task)| match &task.kind {
            TaskKind::Node(node) => Some((node.name.clone(), TaskId(index))),
            _ => None,
        });
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Handle(Arc::new(Shared { bell, asked: Mutex::default(), names: names.collect() })))
    }

    /// Stops the flow. The second time, everything is killed at once.
    pub fn stop(&self) {
        self.ask(Event::StopAsked);
    }

    /// Stops a node and starts it again. If it can't be done now, [`Told::Refused`](super::Told::Refused) says so.
    ///
    /// # Errors
    ///
    /// There is no such node.
    pub fn restart(&self, name: &str) -> Result<(), Unknown> {
        let task = self.find(name)?;
        self.ask(Event::RestartAsked { task });
        Ok(())
    }

    /// Stops a node, until it is told to restart. If it can't be done now, [`Told::Refused`](super::Told::Refused) says so.
    ///
    /// # Errors
    ///
    /// There is no such node.
    pub fn stop_node(&self, name: &str) -> Result<(), Unknown> {
        let task = self.find(name)?;
        self.ask(Event::StopNodeAsked { task });
        Ok(())
    }

    fn find(&self, name: &str) -> Result<TaskId, Unknown> {
        let found = self.0.names.iter().find(|(known, _)| known == name);
        found.map(|(_, task)| *task).ok_or_else(|| Unknown(name.into()))
    }

    fn ask(&self, event: Event) {
        self.asked().push(event);
        // Fails only if it has rung already.
        let _ = rustix::io::write(&self.0.bell, &1u64.to_ne_bytes());
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked for since.
    pub(super) fn take(&self) -> Vec<Event> {
        // Before the look: what is asked for after it rings again.
        let _ = rustix::io::read(&self.0.bell, &mut [0; 8]);
        std::mem::take(&mut *self.asked())
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }
}
