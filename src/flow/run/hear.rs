//! What is heard of the nodes, the guardian and those who hold a handle.

use std::io;

use super::lives::{AT_ONCE, Got, Living, Source};
use super::logs::Log;
use super::{Owner, Runner, Stream, Teller, Told, name};
use crate::flow::guardian::{self, Report, Status};
use crate::flow::supervisor::{End, Event, Life};

/// Reports that are heard in one wake-up, before others have their turn.
const REPORTS: usize = 256;

impl Runner {
    pub(super) fn hear(&mut self, source: Source, told: &mut Teller<'_>) {
        match source {
            // Heard already.
            Source::Guardian | Source::Handle => {}
            Source::Files => self.probes.hear(),
            Source::Output(life, stream) => {
                self.with(life, stream, told, |living, stream, room, each| {
                    let _: Got = living.read(stream, room, each);
                });
            }
            Source::Notify(life) => self.hear_notices(life, told),
        }
    }

    /// Reads from a life, and has its lines told, logged and looked at.
    fn with(
        &mut self,
        life: Life,
        stream: Stream,
        told: &mut Teller<'_>,
        read: impl FnOnce(&mut Living, Stream, &mut [u8; AT_ONCE], &mut dyn FnMut(&str)),
    ) {
        let Runner { supervisor, options, lives, probes, logs, events, room, .. } = self;
        let Some(living) = lives.get_mut(&life) else { return };
        let (task, node) = (living.task, name(supervisor.plan(), living.task));
        let logs = options.logs.as_ref().map(|directory| (directory, logs));
        let mut log = logs.map(|(directory, logs)| logs.entry(task).or_insert_with(|| Log::new(directory, node)));
        read(living, stream, room, &mut |line| {
            told(Told::Line { node, stream, line });
            if let Some(log) = &mut log {
                log.line(line);
            }
            probes.line(life, line, events);
        });
    }

    fn hear_notices(&mut self, life: Life, told: &mut Teller<'_>) {
        let Some(living) = self.lives.get(&life) else { return };
        let Some(socket) = &living.socket else { return };
        let mut notices = Vec::new();
        socket.of.hear(&mut |notice| notices.push(notice));
        let task = living.task;
        for notice in notices {
            if let Some(status) = &notice.status {
                told(Told::Status { node: self.name(task), status });
            }
            self.probes.notice(life, &notice, &mut self.events);
        }
    }

    pub(super) fn hear_handle(&mut self, told: &mut Teller<'_>) {
        for event in self.handle.take() {
            if let Event::RestartAsked { task } | Event::StopNodeAsked { task } = event {
                if let Err(refusal) = self.supervisor.restartable(task) {
                    told(Told::Refused { node: self.name(task), refusal });
                    continue;
                }
            }
            self.events.push_back(event);
        }
    }

    pub(super) fn hear_guardian(&mut self, told: &mut Teller<'_>) {
        for _ in 0..REPORTS {
            match self.guardian.receive() {
                Ok(Some(report)) => self.hear_report(report, told),
                Ok(None) => return,
                // Whatever it is: what the guardian tells can't be heard any more.
                Err(_) => {
                    self.note(guardian::Error::Lost);
                    return;
                }
            }
        }
    }

    fn hear_report(&mut self, report: Report, told: &mut Teller<'_>) {
        match self.owners.get(&report.id()).copied() {
            Some(Owner::Life(life)) => self.hear_of_life(life, report, told),
            Some(Owner::Probe(probe)) => {
                let id = report.id();
                let is_over = matches!(report, Report::Emptied { .. } | Report::SpawnFailed { .. });
                if is_over {
                    self.owners.remove(&id);
                } else if matches!(report, Report::Exited { .. }) || !self.probes.has(probe) {
                    // What the command left, or one that nobody waits for.
                    self.signal(id, libc::SIGKILL);
                }
                let answer = match report {
                    Report::Exited { status: Status::Code(0), .. } => Event::Holds { probe },
                    Report::Exited { .. } | Report::SpawnFailed { .. } => Event::Fails { probe },
                    _ => return,
                };
                if self.probes.remove(probe).is_some() {
                    self.events.push_back(answer);
                }
            }
            None => {}
        }
    }

    fn hear_of_life(&mut self, life: Life, report: Report, told: &mut Teller<'_>) {
        let event = match report {
            Report::Spawned { pid, .. } => Event::Spawned { life, pid: pid as u32 },
            Report::SpawnFailed { step, errno, .. } => {
                self.bury(life, told);
                let error = io::Error::from_raw_os_error(errno);
                Event::SpawnFailed { life, error: format!("cannot {step}: {error}") }
            }
            Report::Exited { status, .. } => {
                // Its last words came before.
                self.hear_notices(life, told);
                for stream in [Stream::Out, Stream::Err] {
                    self.with(life, stream, told, Living::catch_up);
                }
                let end = match status {
                    Status::Code(code) => End::Code(code),
                    Status::Signal(signal) => End::Signal(signal),
                };
                Event::Exited { life, end }
            }
            Report::Emptied { .. } => {
                self.bury(life, told);
                Event::Emptied { life }
            }
        };
        self.events.push_back(event);
    }

    /// Nothing is left of it but what it wrote.
    pub(super) fn bury(&mut self, life: Life, told: &mut Teller<'_>) {
        for stream in [Stream::Out, Stream::Err] {
            self.with(life, stream, told, Living::end);
        }
        if let Some(living) = self.lives.remove(&life) {
            self.owners.remove(&living.id);
        }
    }
}
