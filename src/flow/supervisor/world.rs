//! A supervisor in a world of nodes that exit, hang, ignore signals, leave something behind, are never ready or fall silent, and
//! of reports that take their time and come twice. What it does is checked against what the world knows itself.

mod judge;
mod plans;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use judge::Judge;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Choices, one after the other; when they are used up, the first of each, which is the harmless one.
pub(super) struct Tape(std::vec::IntoIter<u16>);

impl Tape {
    pub fn pick(&mut self, of: u64) -> u64 {
        u64::from(self.0.next().unwrap_or(0)) % of
    }

    pub fn one_in(&mut self, of: u64) -> bool {
        self.pick(of) == of - 1
    }

    pub fn of<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.pick(among.len() as u64) as usize]
    }

    /// What a report, a signal or a death takes.
    fn moment(&mut self) -> Duration {
        ms(self.pick(20))
    }
}

/// What happens in the world.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Happens {
    Report(Event),
    Spawns(Life),
    Signalled(Life, i32),
    MainEnds(Life, End),
    RestEnds(Life),
    Beats(ProbeId, Duration, Time),
    RequestRestart(TaskId),
    RequestStop(TaskId),
}

/// What there is of a life.
struct Being {
    main: bool,
    rest: bool,
    /// By which signals its process and what it leaves are ended, besides SIGKILL.
    heeds: [bool; 2],
    rest_heeds: [bool; 2],
    /// When the last report of it comes: they keep their order.
    reported: Time,
}

struct World {
    tape: Tape,
    flow: Supervisor,
    judge: Judge,
    now: Time,
    late: Duration,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, Happens>,
    beings: BTreeMap<Life, Being>,
}

impl World {
    fn new(choices: Vec<u16>) -> Self {
        let mut tape = Tape(choices.into_iter());
        let plan = plans::plan(&mut tape);
        let mut world = Self {
            judge: Judge::new(plan.clone()),
            flow: Supervisor::new(plan),
            now: Time::ZERO,
            late: ms(tape.pick(4)),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            beings: BTreeMap::new(),
            tape,
        };
        let asked = ms(world.tape.of(&[6000, 0, 10, 50, 200, 1000, 3000]));
        world.later(asked, Happens::Report(Event::StopAsked));
        if world.tape.one_in(3) {
            let again = ms(world.tape.of(&[1, 10, 100, 1000]));
            world.later(asked + again, Happens::Report(Event::StopAsked));
        }
        if world.tape.one_in(10) {
            let at = ms(world.tape.of(&[1, 10, 100, 1000, 5000]));
            world.later(at, Happens::Report(Event::GuardianLost));
        }
        for _ in 0..world.tape.pick(4) {
            let task = TaskId(world.tape.pick(world.judge.plan.tasks.len() as u64) as usize);
            let at = ms(world.tape.pick(3000));
            let what = if world.tape.one_in(3) { Happens::RequestStop(task) } else { Happens::RequestRestart(task) };
            world.later(at, what);
        }
        world
    }

    fn later(&mut self, after: Duration, what: Happens) {
        let number = self.happenings.last_key_value().map_or(0, |(number, _)| number + 1);
        self.happenings.insert(number, what);
        self.queue.push(Reverse((self.now + after, number)));
    }

    fn report(&mut self, life: Life, event: Event) {
        let moment = self.tape.moment();
        let being = self.beings.get_mut(&life).expect("it was spawned");
        being.reported = being.reported.max(self.now + moment);
        let after = being.reported - self.now;
        if self.tape.one_in(8) {
            let more = ms(self.tape.pick(100));
            self.later(after + more, Happens::Report(event.clone()));
        }
        self.later(after, Happens::Report(event));
    }

    fn run(mut self) {
        let mut actions = Vec::new();
        self.flow.start(self.now, &mut actions);
        self.carry_out(actions);
        for _ in 0..200_000 {
            let tick = self.flow.due().map(|due| (due + self.late).max(self.now));
            let next = self.queue.peek().map(|Reverse((at, number))| (*at, *number));
            let mut actions = Vec::new();
            match (tick, next) {
                (tick, Some((at, number))) if tick.is_none_or(|tick| at <= tick) => {
                    self.queue.pop();
                    self.now = at;
                    let what = self.happenings.remove(&number).expect("it is there");
                    if let Some(event) = self.happens(what) {
                        self.judge.event(self.now, &event, &self.flow);
                        self.flow.handle(self.now, event, &mut actions);
                    }
                    self.carry_out(actions);
                }
                (Some(tick), _) => {
                    self.now = tick;
                    self.flow.tick(self.now, &mut actions);
                    self.carry_out(actions);
                    assert!(self.flow.due().is_none_or(|due| due > self.now), "the time it waits for is over");
                    self.judge.ticked(self.now, self.late);
                }
                (None, _) => return self.judge.end(),
            }
        }
        panic!("it does not end");
    }

    /// What the supervisor gets to know of it.
    fn happens(&mut self, what: Happens) -> Option<Event> {
        match what {
            Happens::Report(event) => return Some(event),
            Happens::RequestRestart(task) => return Some(Event::RestartAsked { task }),
            Happens::RequestStop(task) => return Some(Event::StopNodeAsked { task }),
            Happens::Beats(probe, every, until) => {
                if self.now < until && self.judge.watched(probe) {
                    self.later(every, Happens::Beats(probe, every, until));
                }
                return Some(Event::Beat { probe });
            }
            Happens::Spawns(life) => {
                let being = self.beings.get_mut(&life).expect("it is there");
                being.main = true;
                being.rest = self.tape.one_in(4);
                self.report(life, Event::Spawned { life, pid: life.0 as u32 });
                if let Some(lasts) = self.tape.of(&[None, None, Some(0), Some(30), Some(300), Some(3000)]) {
                    let end = self.tape.of(&[End::Code(0), End::Code(1), End::Signal(11)]);
                    let more = self.tape.moment();
                    self.later(ms(lasts) + more, Happens::MainEnds(life, end));
                } else if matches!(self.judge.kind(life), TaskKind::Run(_)) {
                    let end = self.tape.of(&[End::Code(0), End::Code(0), End::Code(2)]);
                    self.later(ms(60), Happens::MainEnds(life, end));
                }
            }
            Happens::Signalled(life, signal) => {
                let moment = self.tape.moment();
                let being = &self.beings[&life];
                let heeded = |heeds: [bool; 2]| match signal {
                    libc::SIGKILL => true,
                    libc::SIGTERM => heeds[1],
                    _ => heeds[0],
                };
                let (main, rest) = (heeded(being.heeds), heeded(being.rest_heeds));
                let gently = signal != libc::SIGKILL && self.tape.pick(2) == 0;
                let end = if gently { End::Code(0) } else { End::Signal(signal) };
                if main {
                    self.later(moment, Happens::MainEnds(life, end));
                }
                if rest {
                    let moment = self.tape.moment();
                    self.later(moment, Happens::RestEnds(life));
                }
            }
            Happens::MainEnds(life, end) => {
                let being = self.beings.get_mut(&life).expect("it is there");
                if std::mem::take(&mut being.main) {
                    let rest = being.rest;
                    self.report(life, Event::Exited { life, end });
                    if !rest {
                        self.report(life, Event::Emptied { life });
                    } else if self.tape.one_in(2) {
                        let more = ms(self.tape.pick(400));
                        self.later(more, Happens::RestEnds(life));
                    }
                }
            }
            Happens::RestEnds(life) => {
                let being = self.beings.get_mut(&life).expect("it is there");
                if std::mem::take(&mut being.rest) && !being.main {
                    self.report(life, Event::Emptied { life });
                }
            }
        }
        None
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.judge.action(self.now, &action);
            match action {
                Action::Spawn { life, .. } => {
                    let mut heeds = || [!self.tape.one_in(4), !self.tape.one_in(4)];
                    let (heeds, rest_heeds) = (heeds(), heeds());
                    let being = Being { main: false, rest: false, heeds, rest_heeds, reported: self.now };
                    self.beings.insert(life, being);
                    let moment = self.tape.moment();
                    if self.tape.one_in(10) {
                        self.report(life, Event::SpawnFailed { life, error: "no such file".into() });
                    } else {
                        self.later(moment, Happens::Spawns(life));
                    }
                }
                Action::Signal { life, signal } => {
                    let moment = self.tape.moment();
                    self.later(moment, Happens::Signalled(life, signal));
                }
                Action::Watch { probe, what, .. } => self.look(probe, what),
                Action::Forget { .. } | Action::Tell(_) | Action::Finish(_) => {}
            }
        }
        self.judge.settled(&self.flow);
    }

    fn look(&mut self, probe: ProbeId, what: Watch) {
        let after = ms(5 + self.tape.pick(60));
        match what {
            Watch::Moves { within, .. } | Watch::Watchdog { within } => {
                let until = self.now + ms(self.tape.of(&[100_000, 0, 100, 1000]));
                let every = (within / 2).max(ms(5));
                self.later(every, Happens::Beats(probe, every, until));
            }
            Watch::Exec(_) => match self.tape.pick(5) {
                4 => {}
                3 => self.later(after, Happens::Report(Event::Fails { probe })),
                _ => self.later(after, Happens::Report(Event::Holds { probe })),
            },
            _ if self.tape.one_in(8) => {}
            _ => {
                if self.tape.one_in(4) {
                    self.later(after + ms(30), Happens::Report(Event::Holds { probe }));
                }
                self.later(after, Happens::Report(Event::Holds { probe }));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_flow_keeps_its_promises_whatever_its_nodes_do(choices in vec(any::<u16>(), 0..600)) {
        World::new(choices).run();
    }
}

/// `CONDUIT_ROUNDS` is in per cent.
fn cases() -> u32 {
    let rounds = std::env::var("CONDUIT_ROUNDS").ok().and_then(|rounds| rounds.parse::<u32>().ok());
    rounds.map_or(2000, |rounds| (rounds * 200).max(1))
}
