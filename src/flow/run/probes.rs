//! What is looked for, and how it is looked at.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex_lite::Regex;

use super::files::Files;
use super::notify::Notice;
use super::rate::Rate;
use crate::flow::supervisor::{Event, Life, ProbeId, Time};
use crate::std::shm;
use crate::topic::{self, WriterState};

/// How often to look where the system tells of nothing: not of what comes with a mount, in `/sys` or by another machine.
const FILE_INTERVAL: Duration = Duration::from_millis(250);
/// A topic's file that is there gets a publisher by a lock, of which the system tells nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// Looks within the time in which a topic has to move.
const LOOKS: u32 = 5;

#[derive(Debug)]
pub(super) enum Kind {
    Log(Regex),
    Notify,
    Watchdog,
    /// The guardian's number of the command.
    Exec(u32),
    File(PathBuf),
    Topic(Topic),
    Moves(Moves),
}

#[derive(Debug)]
pub(super) struct Topic {
    domain: String,
    topic: String,
    rate: Option<Rate>,
    pause: Duration,
}

impl Topic {
    pub fn new(domain: String, topic: String, hz: Option<f64>) -> Self {
        Topic { domain, topic, rate: hz.and_then(Rate::new), pause: FIRST_PAUSE }
    }

    /// Whether it is as it should be; if not, when to look again.
    fn look(&mut self, now: Time, files: &mut Files) -> Result<(), Option<Time>> {
        let is_watched = files.watch(Path::new(shm::DIRECTORY));
        let info = topic::inspect(Some(&self.domain), &self.topic);
        let published = info.as_ref().ok().filter(|info| info.writer == WriterState::Alive).map(|info| info.published);
        match (published, &mut self.rate) {
            (Some(_), None) => Ok(()),
            (Some(published), Some(rate)) => {
                if rate.count(now, published) {
                    Ok(())
                } else {
                    Err(Some(now + rate.interval()))
                }
            }
            (None, rate) => {
                if let Some(rate) = rate {
                    rate.reset();
                }
                if is_watched && matches!(info, Err(topic::Error::NotFound { .. })) {
                    self.pause = FIRST_PAUSE;
                    return Err(None);
                }
                let pause = self.pause;
                self.pause = (2 * pause).min(LAST_PAUSE);
                Err(Some(now + pause))
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Moves {
    domain: String,
    topic: String,
    within: Duration,
    published: Option<u64>,
}

impl Moves {
    pub fn new(domain: String, topic: String, within: Duration) -> Self {
        let mut moves = Moves { domain, topic, within, published: None };
        moves.look();
        moves
    }

    /// Whether something was published since the last look.
    fn look(&mut self) -> bool {
        let Ok(info) = topic::inspect(Some(&self.domain), &self.topic) else { return false };
        let before = self.published.replace(info.published);
        before != Some(info.published) && (before.is_some() || info.published > 0)
    }

    fn interval(&self) -> Duration {
        (self.within / LOOKS).max(Duration::from_millis(1))
    }
}

#[derive(Debug)]
struct Probe {
    life: Option<Life>,
    kind: Kind,
    /// When to look, whatever is told.
    next: Option<Time>,
}

/// All that is looked for.
#[derive(Debug)]
pub(super) struct Probes {
    all: BTreeMap<ProbeId, Probe>,
    pub files: Files,
    /// Something came in a directory.
    has_news: bool,
}

impl Probes {
    pub fn new() -> Self {
        Probes { all: BTreeMap::new(), files: Files::new(), has_news: false }
    }

    /// Begins to look. What looks by itself does so the next time.
    pub fn add(&mut self, probe: ProbeId, life: Option<Life>, kind: Kind, now: Time) {
        let next = match &kind {
            Kind::File(_) | Kind::Topic(_) => Some(now),
            Kind::Moves(moves) => Some(now + moves.interval()),
            _ => None,
        };
        self.all.insert(probe, Probe { life, kind, next });
    }

    /// Looks no longer; the command that is still to be ended.
    pub fn remove(&mut self, probe: ProbeId) -> Option<u32> {
        let removed = self.all.remove(&probe);
        self.rest();
        match removed?.kind {
            Kind::Exec(id) => Some(id),
            _ => None,
        }
    }

    /// Whether somebody waits for it.
    pub fn has(&self, probe: ProbeId) -> bool {
        self.all.contains_key(&probe)
    }

    pub fn due(&self) -> Option<Time> {
        self.all.values().filter_map(|probe| probe.next).min()
    }

    /// A line of a life's output.
    pub fn line(&mut self, life: Life, line: &str, events: &mut VecDeque<Event>) {
        self.hold(life, events, |kind| matches!(kind, Kind::Log(regex) if regex.is_match(line)));
    }

    /// A message of a life.
    pub fn notice(&mut self, life: Life, notice: &Notice, events: &mut VecDeque<Event>) {
        if notice.watchdog {
            for (probe, _) in
                self.all.iter().filter(|(_, of)| of.life == Some(life) && matches!(of.kind, Kind::Watchdog))
            {
                events.push_back(Event::Beat { probe: *probe });
            }
        }
        if notice.ready {
            self.hold(life, events, |kind| matches!(kind, Kind::Notify));
        }
    }

    fn hold(&mut self, life: Life, events: &mut VecDeque<Event>, holds: impl Fn(&Kind) -> bool) {
        self.all.retain(|probe, of| {
            let held = of.life == Some(life) && holds(&of.kind);
            if held {
                events.push_back(Event::Holds { probe: *probe });
            }
            !held
        });
    }

    /// Something came in a directory: to be looked at the next time.
    pub fn hear(&mut self) {
        self.files.hear();
        self.has_news = true;
    }

    /// Looks at what it is time for, or at everything.
    pub fn look(&mut self, now: Time, everything: bool, events: &mut VecDeque<Event>) {
        let has_news = std::mem::take(&mut self.has_news);
        let files = &mut self.files;
        self.all.retain(|id, probe| {
            let is_due = everything || probe.next.is_some_and(|next| next <= now);
            let held = match &mut probe.kind {
                Kind::File(path) if is_due || has_news => {
                    probe.next = Some(now + FILE_INTERVAL);
                    files.look(path) == Some(true) || path.exists()
                }
                Kind::Topic(topic) if is_due || has_news => {
                    if has_news {
                        topic.pause = FIRST_PAUSE;
                    }
                    let looked = topic.look(now, files);
                    probe.next = looked.err().flatten();
                    looked.is_ok()
                }
                Kind::Moves(moves) if is_due => {
                    probe.next = Some(now + moves.interval());
                    if moves.look() {
                        events.push_back(Event::Beat { probe: *id });
                    }
                    false
                }
                _ => false,
            };
            if held {
                events.push_back(Event::Holds { probe: *id });
            }
            !held
        });
        self.rest();
    }

    /// Hears of no files that nobody waits for.
    fn rest(&mut self) {
        if !self.all.values().any(|probe| matches!(probe.kind, Kind::File(_) | Kind::Topic(_))) {
            self.files.rest();
        }
    }
}
