//! What the supervisor wants to be done.

use regex_lite::Regex;

use super::lives::Living;
use super::notify::Socket;
use super::probes::{Kind, Moves, Topic};
use super::{Owner, Runner, Teller, Told, programs};
use crate::flow::guardian;
use crate::flow::plan::TaskId;
use crate::flow::supervisor::{Action, Event, Life, Outcome, ProbeId, Watch};

impl Runner {
    /// Does it; the outcome at the end.
    pub(super) fn act(&mut self, action: Action, told: &mut Teller<'_>) -> Option<Outcome> {
        match action {
            Action::Spawn { life, task } => self.spawn(life, task),
            Action::Signal { life, signal } => {
                if let Some(id) = self.lives.get(&life).map(|living| living.id) {
                    self.signal(id, signal);
                }
            }
            Action::Watch { probe, task, life, what } => self.watch(probe, task, life, what, told),
            Action::Forget { probe } => {
                if let Some(id) = self.probes.remove(probe) {
                    self.signal(id, libc::SIGKILL);
                }
            }
            Action::Tell(report) => told(Told::Report(&report)),
            Action::Finish(outcome) => return Some(outcome),
        }
        None
    }

    fn id(&mut self, owner: Owner) -> u32 {
        while self.owners.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.owners.insert(id, owner);
        id
    }

    fn spawn(&mut self, life: Life, task: TaskId) {
        if let Err(error) = self.try_spawn(life, task) {
            if let Some(living) = self.lives.remove(&life) {
                self.owners.remove(&living.id);
            }
            self.events.push_back(Event::SpawnFailed { life, error });
        }
    }

    /// Asks the guardian to start it, which reports what comes of it; or says why that can't be.
    fn try_spawn(&mut self, life: Life, task: TaskId) -> Result<(), String> {
        let Some(node) = self.node(task) else { return Err("there is no such program".into()) };
        let socket = if programs::notifies(node) {
            Some(Socket::new().map_err(|error| format!("cannot make a socket for its messages: {error}"))?)
        } else {
            None
        };
        let name = socket.as_ref().map(|socket| socket.name.as_str());
        let program =
            programs::program(node, &self.options, name).map_err(|error| format!("{}: {error}", node.program))?;
        let id = self.id(Owner::Life(life));
        let living = Living::new(task, id, life, socket, &self.epoll);
        let (living, [out, err]) = living.map_err(|error| {
            self.owners.remove(&id);
            format!("cannot make pipes for its output: {error}")
        })?;
        self.lives.insert(life, living);
        let spawned = self.guardian.spawn(id, &program, out, err);
        spawned.map_err(|error| self.note(error).to_string())
    }

    /// Signals one that may be gone.
    pub(super) fn signal(&mut self, id: u32, signal: i32) {
        if let Err(error) = self.guardian.signal(id, signal) {
            self.note(error);
        }
    }

    /// If it means that the guardian is lost, that is an event.
    pub(super) fn note(&mut self, error: guardian::Error) -> guardian::Error {
        let is_lost = matches!(error, guardian::Error::Lost | guardian::Error::Stuck);
        if is_lost && !std::mem::replace(&mut self.is_lost, true) {
            self.events.push_back(Event::GuardianLost);
        }
        error
    }

    fn watch(&mut self, probe: ProbeId, task: TaskId, life: Option<Life>, what: Watch, told: &mut Teller<'_>) {
        let domain = programs::domain(self.node(task), &self.options);
        let kind = match what {
            Watch::Log(pattern) => match Regex::new(&pattern) {
                Ok(regex) => Kind::Log(regex),
                Err(error) => {
                    let what = format!("`{pattern}` is no regular expression: {error}");
                    return told(Told::Trouble { node: self.name(task), what: &what });
                }
            },
            Watch::Notify => Kind::Notify,
            Watch::Watchdog { .. } => Kind::Watchdog,
            Watch::File(path) => Kind::File(programs::working_dir(self.node(task), &self.options).join(path)),
            Watch::Topic { topic, hz } => Kind::Topic(Topic::new(domain, topic, hz)),
            Watch::Moves { topic, within } => Kind::Moves(Moves::new(domain, topic, within)),
            Watch::Exec(command) => {
                let program = programs::command(&command, self.node(task), &self.options);
                let id = self.id(Owner::Probe(probe));
                if let Err(error) = self.guardian.spawn(id, &program, &self.null, &self.null) {
                    self.owners.remove(&id);
                    self.note(error);
                    return self.events.push_back(Event::Fails { probe });
                }
                Kind::Exec(id)
            }
        };
        let now = self.begun.elapsed();
        self.probes.add(probe, life, kind, now);
    }

    /// Writes what there is to be written.
    pub(super) fn flush_logs(&mut self, told: &mut Teller<'_>) {
        let mut logs = std::mem::take(&mut self.logs);
        for (task, log) in &mut logs {
            if let Some(error) = log.flush() {
                let what = format!("cannot write its log: {error}");
                told(Told::Trouble { node: self.name(*task), what: &what });
            }
        }
        self.logs = logs;
    }
}
