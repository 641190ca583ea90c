//! The one place where events are looked for among those seen before, admitted, and put into lanes.
//!
//! A role and not a thread: whoever has events takes the lock and plays it for a batch. So an event changes threads once, on its
//! way to a worker, and still each lane has one producer at a time.

use std::sync::OnceLock;
use std::sync::atomic::{Ordering, fence};
use std::thread::Thread;

use super::batch::{Entry, Handle, Item};
use super::committer::{Entry as LogEntry, LogQueue};
use super::keeper::{Letter, LetterQueue};
use super::lanes::Dispatcher;
use super::shared::Shared;
use super::source::{SourceInfo, WhenFull, add};
use super::stats::{DispatchCounts, DropReason};
use super::stores::DeadReason;
use super::topics::{NoTopic, TopicIndex};
use crate::ack::{Range, Status};
use crate::backpressure::State;
use crate::dedup::{ProducerId, Producers, Seen, Window};
use crate::frame::{Flags, Priority};
use crate::lanes::{Lane, Reason};
use crate::std::futex::real_now;

/// How many producers are remembered.
pub(super) const PRODUCERS: usize = 4096;

/// What the dispatcher works with.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) lanes: Dispatcher,
    pub(super) topics: TopicIndex,
    /// What was taken, and so is a duplicate when it comes again.
    pub(super) taken: Box<Producers<PRODUCERS>>,
    /// What was given to the durable log.
    pub(super) logged: Box<Producers<PRODUCERS>>,
    pub(super) log: Option<LogQueue>,
    pub(super) letters: Option<LetterQueue>,
    pub(super) counts: DispatchCounts,
    pub(super) states: [State; 3],
    /// Changes of the lanes' states that nobody was told of yet: several of a lane are one.
    pub(super) untold: [Option<StateChange>; 3],
    pub(super) is_closed: bool,
}

/// That a lane's state is another.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateChange {
    pub(super) before: State,
    pub(super) state: State,
    pub(super) depth: usize,
    /// Since 1970.
    pub(super) time: u64,
}

/// Whom to wake when there is something for them: known once all have been started, before there are sources.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    pub(super) realtime: OnceLock<Thread>,
    pub(super) lower: OnceLock<Thread>,
    pub(super) log: OnceLock<Thread>,
}

impl Sleepers {
    pub(super) fn wake_all(&self) {
        self.wake(&Touched { lanes: [true; 3], log: true });
    }

    pub(super) fn wake(&self, touched: &Touched) {
        let of = |thread: &OnceLock<Thread>, is_touched| {
            thread.get().into_iter().filter(move |_| is_touched).for_each(Thread::unpark)
        };
        of(&self.realtime, touched.lanes[Lane::Realtime as usize]);
        of(&self.lower, touched.lanes[Lane::Transactional as usize] || touched.lanes[Lane::Batch as usize]);
        of(&self.log, touched.log);
    }
}

/// How far the dispatcher got with a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// The next event of the batch.
    next: usize,
    /// The next one of the batches that the lanes have for themselves.
    in_part: [usize; 3],
}

impl Held {
    /// Which event is next.
    pub(super) fn next(&self) -> usize {
        self.next
    }
}

/// What is to become of an event.
enum Verdict {
    Taken {
        lane: Lane,
        less_credit: bool,
    },
    /// Its answer comes when it is durable, and not before.
    TakenSilently,
    Duplicate,
    TooOld,
    BadTopic,
    /// Not now.
    Later {
        lane: Lane,
        cause: DropReason,
        retry_after_ms: u32,
    },
    DeadLetter {
        lane: Lane,
        reason: DeadReason,
    },
    Dropped {
        lane: Lane,
        cause: DropReason,
    },
}

/// How much of the memory is in use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pressure {
    None,
    /// What is not urgent is to come later.
    High,
    /// Everything is.
    Full,
}

/// A source's batch at the dispatcher.
pub(super) struct Taking<'t> {
    pub(super) shared: &'t Shared,
    pub(super) info: &'t SourceInfo,
    /// The batch, and those of its lanes that have one of their own.
    pub(super) handles: &'t [Option<Handle>; 4],
    pub(super) held: &'t mut Held,
    /// Whether what is not urgent gives way where there is no room.
    pub(super) gives_up: bool,
    pub(super) touched: &'t mut Touched,
    pub(super) answers: &'t mut Vec<Range>,
}

/// Why the dispatcher is done with a batch, or stopped at an event of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    All,
    /// There is no room for the next one.
    Held,
    /// The next one's topic is to be made first.
    TopicUnmade,
}

/// An event, and what its producer asks for.
struct Asking<'e> {
    entry: &'e Entry,
    lane: Lane,
    /// 0 if it tells nothing.
    sequence: u64,
    /// That it is answered.
    answer: bool,
    /// That it is logged.
    log: bool,
}

/// What the events of a batch have in common.
struct Common<'c> {
    producer: &'c ProducerId,
    /// Of one producer for all of the batch: taken out, so that each event costs a look at a bit.
    taken: Window,
    pressure: Pressure,
    touched: &'c mut Touched,
}

impl Dispatch {
    /// Takes the events of a batch from where it is held. Wakes the realtime lane's worker, and leaves it to the caller to wake
    /// the others.
    pub(super) fn take(&mut self, taking: Taking<'_>) -> Taken {
        let Taking { shared, info, handles, held, gives_up, touched, answers } = taking;
        let [Some(main), parts @ ..] = handles else { return Taken::All };
        let batch = main.shared();
        let mut whole = main.reserve(batch.entries().len() - held.next);
        let mut part = 0;
        let mut parts = parts.each_ref().map(|handle| {
            let used = held.in_part[part];
            part += 1;
            handle.as_ref().map(|handle| handle.reserve(handle.shared().entries().len() - used))
        });
        let numbered = info.producer != [0; 16];
        let taken = if numbered { self.taken.window(&info.producer) } else { Window::new() };
        let mut common = Common { producer: &info.producer, taken, pressure: shared.pressure(), touched };
        let (mut outcome, mut looked_again) = (Taken::All, None);
        while let Some(entry) = batch.entries().get(held.next) {
            let lane = Lane::of(entry.priority);
            let answer = entry.sequence != 0
                && (entry.flags.has(Flags::ACK_REQUESTED) || entry.flags.has(Flags::ACK_WHEN_DURABLE));
            let sequence = if numbered { entry.sequence } else { 0 };
            let log = answer && entry.flags.has(Flags::ACK_WHEN_DURABLE) && self.log.is_some();
            let asking = Asking { entry, lane, sequence, answer, log };
            let mut item = |topic| match &mut parts[lane as usize] {
                Some(part) => part.item(held.in_part[lane as usize], topic),
                None => whole.item(held.next, topic),
            };
            let verdict = match common.taken.look(sequence) {
                Seen::New if self.is_closed => Verdict::Dropped { lane, cause: DropReason::Stopped },
                Seen::TooOld => Verdict::TooOld,
                Seen::Duplicate if !log || self.is_closed => Verdict::Duplicate,
                seen => match self.topics.find(batch.topic(held.next), batch.read_at) {
                    Err(NoTopic::Unmade) => {
                        outcome = Taken::TopicUnmade;
                        break;
                    }
                    Err(_) => Verdict::BadTopic,
                    Ok(_) if log && self.log.as_mut().is_some_and(|log| log.room() == 0) => {
                        Verdict::Later { lane, cause: DropReason::LogFull, retry_after_ms: 10 }
                    }
                    Ok(topic) if seen == Seen::New => self.admit(&asking, item(topic), &mut common),
                    Ok(topic) => self.log_again(&asking, item(topic), &mut common),
                },
            };
            let verdict = match verdict {
                Verdict::Later { lane, cause, .. } if !answer => match info.when_full {
                    WhenFull::Drop => Verdict::Dropped { lane, cause },
                    WhenFull::Hold if gives_up && entry.priority <= Priority::Medium => {
                        Verdict::DeadLetter { lane, reason: DeadReason::HeldTooLong }
                    }
                    WhenFull::Hold => {
                        // With the fence of a worker that looks for somebody to tell before it sleeps: either it sees that
                        // somebody waits, or the look at the lane below sees what it took out.
                        if looked_again == Some(held.next) {
                            outcome = Taken::Held;
                            break;
                        }
                        looked_again = Some(held.next);
                        shared.is_pressed.store(true, Ordering::Relaxed);
                        fence(Ordering::SeqCst);
                        common.pressure = shared.pressure();
                        continue;
                    }
                },
                verdict => verdict,
            };
            let verdict = match verdict {
                Verdict::DeadLetter { lane, reason } => {
                    let topic = self.topics.find(batch.topic(held.next), batch.read_at);
                    let kept = match (topic, &self.letters) {
                        (Ok(topic), Some(letters)) => letters.send(Letter::refused(item(topic), reason)),
                        _ => false,
                    };
                    if kept {
                        common.taken.record(sequence);
                        Verdict::DeadLetter { lane, reason }
                    } else {
                        Verdict::Dropped { lane, cause: DropReason::DeadLettersFull }
                    }
                }
                verdict => verdict,
            };
            self.counts.received[entry.priority as usize] += 1;
            self.settle(&asking, verdict, info.credit, answers);
            held.next += 1;
            if parts[lane as usize].is_some() {
                held.in_part[lane as usize] += 1;
            }
        }
        drop((whole, parts));
        self.taken.put(&info.producer, common.taken);
        if std::mem::take(&mut touched.lanes[Lane::Realtime as usize]) {
            shared.sleepers.realtime.get().into_iter().for_each(Thread::unpark);
        }
        self.look_at_states(shared);
        outcome
    }

    /// Counts events that nobody will go on with.
    pub(super) fn give_up(&mut self, handle: &Handle, held: &Held) {
        for entry in &handle.shared().entries()[held.next..] {
            self.counts.received[entry.priority as usize] += 1;
            self.counts.dropped[DropReason::Stopped as usize][entry.priority as usize] += 1;
        }
    }

    /// Puts an event into its lane, if it is let in, and has it logged.
    #[inline]
    fn admit(&mut self, asking: &Asking<'_>, item: Item, common: &mut Common<'_>) -> Verdict {
        let &Asking { entry, lane, sequence, .. } = asking;
        let pressure = common.pressure;
        if pressure == Pressure::Full || pressure == Pressure::High && entry.priority <= Priority::Medium {
            return Verdict::Later { lane, cause: DropReason::Memory, retry_after_ms: 100 };
        }
        let for_log = asking.log.then(|| item.another());
        match self.lanes.offer(entry.priority, item) {
            Ok(accepted) => {
                common.touched.lanes[lane as usize] = true;
                common.taken.record(sequence);
                if let (Some(item), Some(log)) = (for_log, &mut self.log) {
                    log.push(LogEntry::Event(item));
                    self.logged.record(common.producer, sequence);
                    common.touched.log = true;
                }
                Verdict::Taken { lane, less_credit: accepted.less_credit }
            }
            Err(refused) => match refused.reason {
                Reason::Throttled => Verdict::Later {
                    lane,
                    cause: DropReason::Throttled,
                    retry_after_ms: retry_after(self.states[lane as usize]),
                },
                Reason::Full => Verdict::Later { lane, cause: DropReason::LaneFull, retry_after_ms: 100 },
                Reason::DeadLettered => Verdict::DeadLetter { lane, reason: DeadReason::Backpressure },
                Reason::Dropped => Verdict::Dropped { lane, cause: DropReason::Backpressure },
            },
        }
    }

    /// A duplicate whose producer wants to know when it is durable: it is logged if the first copy was not, and answered when
    /// all that was given to the log before is durable.
    fn log_again(&mut self, asking: &Asking<'_>, item: Item, common: &mut Common<'_>) -> Verdict {
        let Some(log) = &mut self.log else { return Verdict::Duplicate };
        log.push(match self.logged.look(common.producer, asking.sequence) {
            Seen::New => LogEntry::Event(item),
            Seen::Duplicate | Seen::TooOld => LogEntry::Again(item),
        });
        self.logged.record(common.producer, asking.sequence);
        common.touched.log = true;
        self.counts.duplicates += 1;
        Verdict::TakenSilently
    }

    /// Counts what became of an event, and answers it.
    #[inline]
    fn settle(&mut self, asking: &Asking<'_>, verdict: Verdict, full_credit: u32, answers: &mut Vec<Range>) {
        let entry = asking.entry;
        let priority = entry.priority as usize;
        let (status, lane, retry_after_ms, credit) = match verdict {
            Verdict::Taken { lane, less_credit } => {
                self.counts.accepted[priority] += 1;
                let logged = self.log.is_some() && entry.flags.has(Flags::ACK_WHEN_DURABLE);
                if logged && !entry.flags.has(Flags::ACK_REQUESTED) {
                    return;
                }
                let credit = if less_credit { full_credit.div_ceil(2) } else { full_credit };
                (Status::Accepted, lane, 0, credit)
            }
            Verdict::TakenSilently => return,
            Verdict::Duplicate => {
                self.counts.duplicates += 1;
                (Status::Duplicate, Lane::of(entry.priority), 0, full_credit)
            }
            Verdict::TooOld => {
                self.counts.too_old += 1;
                (Status::Expired, Lane::of(entry.priority), 0, full_credit)
            }
            Verdict::BadTopic => {
                self.counts.bad_topic += 1;
                (Status::BadTopic, Lane::of(entry.priority), 0, full_credit)
            }
            Verdict::Later { lane, retry_after_ms, .. } => {
                self.counts.throttled[priority] += 1;
                (Status::Throttled, lane, retry_after_ms, full_credit.div_ceil(2))
            }
            Verdict::DeadLetter { lane, reason } => {
                self.counts.dead_lettered[reason as usize] += 1;
                (Status::DeadLettered, lane, 0, full_credit.div_ceil(2))
            }
            Verdict::Dropped { lane, cause } => {
                self.counts.dropped[cause as usize][priority] += 1;
                (Status::Dropped, lane, 0, full_credit.div_ceil(2))
            }
        };
        if asking.answer {
            let mut answer = Range::of(entry.sequence, status);
            (answer.lane, answer.retry_after_ms, answer.credit) = (lane as u8, retry_after_ms, credit);
            add(answers, answer);
        }
    }

    /// Looks how full the lanes are. Of a state that changed, whoever has the lock tells when it is given back.
    pub(super) fn look_at_states(&mut self, shared: &Shared) {
        let states = Lane::ALL.map(|lane| self.lanes.look(lane));
        for lane in Lane::ALL.into_iter().filter(|&lane| states[lane as usize] != self.states[lane as usize]) {
            shared.state_changes[lane as usize].fetch_add(1, Ordering::Relaxed);
            let untold = &mut self.untold[lane as usize];
            let before = untold.map_or(self.states[lane as usize], |change| change.before);
            let (state, depth) = (states[lane as usize], self.lanes.depth(lane));
            *untold = Some(StateChange { before, state, depth, time: real_now() });
        }
        self.states = states;
        if states.iter().any(|&state| state != State::Running) {
            shared.is_pressed.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn has_untold(&self) -> bool {
        self.untold.iter().any(Option::is_some)
    }
}

/// When to send again what a lane in this state throttled, in milliseconds.
fn retry_after(state: State) -> u32 {
    match state {
        State::Running | State::Paused => 20,
        State::Draining => 50,
        State::Dropping | State::Emergency => 100,
    }
}

/// What got something to do.
#[derive(Debug, Default)]
pub(super) struct Touched {
    lanes: [bool; 3],
    log: bool,
}

impl Touched {
    pub(super) fn is_any(&self) -> bool {
        self.log || self.lanes.contains(&true)
    }
}

impl Shared {
    fn pressure(&self) -> Pressure {
        match self.memory.pressing() {
            used if used >= self.memory_limit => Pressure::Full,
            used if used >= self.memory_limit / 4 * 3 => Pressure::High,
            _ => Pressure::None,
        }
    }
}
