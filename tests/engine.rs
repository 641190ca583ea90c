//! The event engine by itself, without sockets: what handlers and stores are promised.
#![cfg(feature = "std")]

mod logging;
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use conduit::ack::{Range, Status};
use conduit::dedup::ProducerId;
use conduit::engine::{
    Batch, DeadLetter, DeadLetters, DeadReason, DurableLog, Engine, EngineOptions, Event, Failure, Origin, Progress,
    Retries, STATES, StoreError, WhenFull,
};
use conduit::frame::{self, Durability, Flags, Priority};
use conduit::lanes::Lane;
use conduit::topic::Start;
use logging::Logged;
use support::{Domain, Noise, PATIENCE, eventually};

const ME: ProducerId = *b"a test's program";
const SOON: Duration = Duration::from_secs(5);

fn options(domain: &Domain) -> EngineOptions {
    Engine::options().domain(domain.name())
}

fn event<'a>(topic: &'a str, sequence: u64, priority: Priority, payload: &'a [u8]) -> frame::Event<'a> {
    let flags = Flags::ACK_REQUESTED;
    frame::Event { flags, topic: topic.as_bytes(), sequence, priority, payload, ..frame::Event::default() }
}

fn durable(sequence: u64) -> frame::Event<'static> {
    frame::Event { flags: Flags::ACK_WHEN_DURABLE, ..event("t", sequence, Priority::Medium, b"x") }
}

/// Topic, sequence, reason, attempts, detail.
type Kept = (String, u64, DeadReason, u32, String);

/// Dead letters in memory.
#[derive(Clone, Default)]
struct Letters(Arc<LettersInner>);

#[derive(Default)]
struct LettersInner {
    kept: Mutex<Vec<Kept>>,
    flushed: AtomicU64,
    is_full: AtomicBool,
    fails: AtomicU32,
}

impl Letters {
    fn kept(&self) -> Vec<Kept> {
        self.0.kept.lock().unwrap().clone()
    }
}

impl DeadLetters for Letters {
    fn has_room(&mut self) -> bool {
        !self.0.is_full.load(Ordering::Relaxed)
    }

    fn keep(&mut self, letter: &DeadLetter<'_>) -> Result<(), StoreError> {
        if self.0.fails.load(Ordering::Relaxed) > 0 {
            self.0.fails.fetch_sub(1, Ordering::Relaxed);
            return Err("the disk is full".into());
        }
        let event = &letter.event;
        let kept = (event.topic.into(), event.sequence, letter.reason, letter.attempts, letter.detail.into());
        self.0.kept.lock().unwrap().push(kept);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let kept = self.kept().len() as u64;
        self.0.flushed.store(kept, Ordering::Relaxed);
        Ok(())
    }
}

/// A durable log in memory whose commits can be held, and fail.
#[derive(Clone, Default)]
struct Log(Arc<LogInner>);

#[derive(Default)]
struct LogInner {
    before: Vec<u64>,
    open: Mutex<Vec<u64>>,
    committed: Mutex<Vec<u64>>,
    fails: AtomicU32,
    is_held: Mutex<bool>,
    let_go: Condvar,
}

impl Log {
    fn hold(&self, hold: bool) {
        *self.0.is_held.lock().unwrap() = hold;
        self.0.let_go.notify_all();
    }

    fn committed(&self) -> Vec<u64> {
        self.0.committed.lock().unwrap().clone()
    }
}

impl DurableLog for Log {
    fn durability(&self) -> Durability {
        Durability::Synced
    }

    fn recover(&mut self, seen: &mut dyn FnMut(&ProducerId, u64)) -> Result<(), StoreError> {
        self.0.before.iter().for_each(|sequence| seen(&ME, *sequence));
        Ok(())
    }

    fn append(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        self.0.open.lock().unwrap().push(event.sequence);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        drop(self.0.let_go.wait_while(self.0.is_held.lock().unwrap(), |held| *held).unwrap());
        if self.0.fails.load(Ordering::Relaxed) > 0 {
            self.0.fails.fetch_sub(1, Ordering::Relaxed);
            return Err("no space left".into());
        }
        self.0.committed.lock().unwrap().append(&mut self.0.open.lock().unwrap());
        Ok(())
    }
}

#[test]
fn events_of_one_topic_and_lane_keep_their_order_with_any_number_of_workers() {
    for workers in [1, 2, 5] {
        let domain = Domain::new();
        let seen = Arc::new(Mutex::new(BTreeMap::<(String, Lane), Vec<u64>>::new()));
        let log = seen.clone();
        let handler = move |event: &Event<'_>| {
            let key = (event.topic.to_string(), Lane::of(event.priority));
            log.lock().unwrap().entry(key).or_default().push(event.sequence);
            Ok::<(), Failure>(())
        };
        let engine = options(&domain).workers(workers).handler("**", handler).start().unwrap();
        let mut source = engine.source(Origin::Local).producer(ME).open();
        let mut noise = Noise::new(workers as u64);
        let (mut batch, mut answers) = (Batch::default(), Vec::new());
        for sequence in 1..=20_000 {
            let topic = format!("t/{}", noise.below(7));
            let priority = Priority::from_code(noise.below(5) as u8).unwrap();
            let event = frame::Event { flags: Flags::default(), ..event(&topic, sequence, priority, b"payload") };
            batch.push(&event);
            if noise.below(300) == 0 || sequence == 20_000 {
                let mut progress = source.dispatch(&mut batch, &mut answers);
                while progress == Progress::Held {
                    thread::yield_now();
                    progress = source.resume(&mut answers);
                }
            }
        }
        let stats = engine.stop(SOON);
        let seen = seen.lock().unwrap();
        assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 20_000);
        assert!(seen.values().all(|sequences| sequences.is_sorted()), "with {workers} workers");
        assert_eq!((stats.memory, stats.handled), (0, 20_000));
    }
}

#[test]
fn a_handler_that_fails_is_tried_again_and_then_the_event_is_a_dead_letter_with_the_reason() {
    let domain = Domain::new();
    let letters = Letters::default();
    let tries = Arc::new(AtomicU32::new(0));
    let count = tries.clone();
    let handler = move |event: &Event<'_>| match event.topic {
        "later" if count.fetch_add(1, Ordering::Relaxed) < 2 => Err(Failure::retry("not yet")),
        "later" => Ok(()),
        "never" => Err(Failure::retry("the motor is off")),
        "wrong" => Err(Failure::reject("no such joint")),
        _ => panic!("a bug in a handler"),
    };
    let retries = Retries { attempts: 3, backoff: Duration::from_millis(1), ..Retries::default() };
    let engine =
        options(&domain).handler("**", handler).retries(retries).dead_letters(letters.clone()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    for (n, topic) in (1..).zip(["later", "never", "wrong", "panics"]) {
        assert_eq!(source.submit(&event(topic, n, Priority::High, b"x")).unwrap().status, Status::Accepted);
    }
    eventually("three are dead", || letters.kept().len() == 3);
    eventually("one worked", || engine.stats().handled == 1);
    let mut kept = letters.kept();
    kept.sort();
    let letter = |topic: &str, n, reason, attempts, detail: &str| (topic.into(), n, reason, attempts, detail.into());
    let expected = [
        letter("never", 2, DeadReason::RetriesExhausted, 3, "the motor is off"),
        letter("panics", 4, DeadReason::Panicked, 1, "a bug in a handler"),
        letter("wrong", 3, DeadReason::Rejected, 1, "no such joint"),
    ];
    assert_eq!(kept, expected);
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    let stats = engine.stop(SOON);
    assert_eq!((stats.panicked, stats.retried, stats.failed.iter().sum::<u64>(), stats.letters), (1, 4, 3, 3));
    assert_eq!(letters.0.flushed.load(Ordering::Relaxed), 3, "they are on disk before it ends");
}

#[test]
fn events_that_wait_for_their_next_try_when_the_engine_stops_get_it() {
    let domain = Domain::new();
    let letters = Letters::default();
    let handler = |_: &Event<'_>| Err(Failure::retry("not now"));
    let retries =
        Retries { backoff: Duration::from_secs(3600), max_backoff: Duration::from_secs(3600), ..Retries::default() };
    let engine =
        options(&domain).handler("**", handler).retries(retries).dead_letters(letters.clone()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    source.submit(&event("t", 1, Priority::Medium, b"x"));
    let stats = engine.stop(SOON);
    assert_eq!((stats.retried, letters.kept().len()), (1, 1));
}

#[test]
fn nobody_is_told_that_an_event_is_durable_before_it_is() {
    let domain = Domain::new();
    let log = Log::default();
    log.hold(true);
    log.0.fails.store(2, Ordering::Relaxed);
    let engine = options(&domain).durable_log(log.clone()).start().unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let count = told.clone();
    let source = engine.source(Origin::Local).producer(ME);
    let mut source = source.notify(move || _ = count.fetch_add(1, Ordering::Relaxed)).open();
    for sequence in 1..=5 {
        assert_eq!(source.submit(&durable(sequence)), None, "its answer comes later");
    }
    let mut answers = Vec::new();
    eventually("they are processed meanwhile", || engine.stats().lanes[1].processed == 5);
    source.take_answers(&mut answers);
    assert_eq!((answers.len(), told.load(Ordering::Relaxed)), (0, 0));
    log.hold(false);
    let durable = |answers: &[Range]| {
        let all = answers.iter().filter(|range| range.status == Status::Durable);
        all.map(|range| range.last() - range.first() + 1).sum::<u64>()
    };
    eventually("they are durable, though the first tries failed", || {
        source.take_answers(&mut answers);
        durable(&answers) == 5
    });
    assert_eq!(log.committed(), [1, 2, 3, 4, 5]);
    assert_eq!((engine.stats().log_failures, engine.stats().logged), (2, 5));
    assert!(told.load(Ordering::Relaxed) >= 1);
}

#[test]
fn what_the_log_held_when_the_engine_started_is_a_duplicate() {
    let domain = Domain::new();
    let log = Log(Arc::new(LogInner { before: vec![1, 2, 4], ..LogInner::default() }));
    let engine = options(&domain).durable_log(log.clone()).start().unwrap();
    assert_eq!(engine.newest(&ME), 4);
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let statuses = (1..=5).map(|n| source.submit(&event("t", n, Priority::Medium, b"x")).unwrap().status);
    use Status::{Accepted, Duplicate};
    assert_eq!(statuses.collect::<Vec<_>>(), [Duplicate, Duplicate, Accepted, Duplicate, Accepted]);
}

#[test]
fn a_log_that_fails_for_good_does_not_keep_the_engine_from_stopping() {
    let domain = Domain::new();
    let log = Log::default();
    log.0.fails.store(u32::MAX, Ordering::Relaxed);
    let engine = options(&domain).durable_log(log.clone()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    source.submit(&durable(1));
    let stats = engine.stop(Duration::from_millis(50));
    let mut answers = Vec::new();
    source.take_answers(&mut answers);
    assert_eq!((answers.len(), stats.logged, log.committed().len()), (0, 0, 0));
}

#[test]
fn a_full_dead_letter_store_has_events_dropped_and_counted_until_it_has_room() {
    let domain = Domain::new();
    let letters = Letters::default();
    letters.0.is_full.store(true, Ordering::Relaxed);
    let handler = |_: &Event<'_>| Err(Failure::reject("no"));
    let engine = options(&domain).handler("**", handler).dead_letters(letters.clone()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let mut sequence = 0;
    let mut send = || {
        sequence += 1;
        source.submit(&event("t", sequence, Priority::Medium, b"x"));
    };
    // The first is taken, and the store looked at behind it.
    eventually("it is known to be full", || {
        send();
        engine.stats().failed_and_lost > 0
    });
    letters.0.is_full.store(false, Ordering::Relaxed);
    let before = letters.kept().len();
    eventually("it has room again", || {
        send();
        letters.kept().len() > before
    });
    let stats = engine.stop(SOON);
    assert_eq!(stats.failed.iter().sum::<u64>() + stats.failed_and_lost, sequence);
    assert_eq!(letters.kept().len() as u64, stats.letters);
}

#[test]
fn a_dead_letter_store_that_fails_is_tried_until_it_works() {
    let domain = Domain::new();
    let letters = Letters::default();
    letters.0.fails.store(3, Ordering::Relaxed);
    let handler = |_: &Event<'_>| Err(Failure::reject("no"));
    let engine = options(&domain).handler("**", handler).dead_letters(letters.clone()).start().unwrap();
    engine.source(Origin::Local).producer(ME).open().submit(&event("t", 1, Priority::Medium, b"x"));
    let stats = engine.stop(SOON);
    assert_eq!((stats.letters, stats.letter_failures, stats.letters_lost), (1, 3, 0));
}

/// A handler that waits until it is let go on.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn handler(&self) -> impl Fn(&Event<'_>) -> Result<(), Failure> + use<> {
        let gate = self.0.clone();
        move |_| {
            // By itself in the end, so that a test that failed ends.
            let (mut open, timeout) =
                gate.1.wait_timeout_while(gate.0.lock().unwrap(), PATIENCE, |open| !*open).unwrap();
            *open |= timeout.timed_out();
            Ok(())
        }
    }
}

/// A large batch of which one event waits long must not keep the memory of all.
#[test]
fn an_event_that_waits_keeps_its_own_memory_alone() {
    let domain = Domain::new();
    let gate = Gate::default();
    let engine = options(&domain).handler("slow", gate.handler()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let mut answers = Vec::new();
    for round in 0..20 {
        let mut batch = Batch::with_capacity(1 << 20);
        for n in 1..=1000 {
            batch.push(&event("fast", round * 2000 + n, Priority::Critical, &[0; 900]));
        }
        batch.push(&event("slow", round * 2000 + 1001, Priority::Batch, b"waits"));
        let mut progress = source.dispatch(&mut batch, &mut answers);
        while progress == Progress::Held {
            thread::yield_now();
            progress = source.resume(&mut answers);
        }
    }
    eventually("what is fast is done", || engine.stats().lanes[0].processed == 20_000);
    eventually("and freed", || engine.stats().memory < 100_000);
    gate.open();
    assert_eq!(engine.stop(SOON).memory, 0);
}

#[test]
fn memory_stays_within_its_limit_and_what_is_urgent_has_the_last_quarter() {
    let domain = Domain::new();
    let gate = Gate::default();
    let engine = options(&domain).memory(4 << 20).handler("**", gate.handler()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let (mut sequence, payload) = (0, vec![0; 10_000]);
    let mut fill = |priority| {
        loop {
            sequence += 1;
            match source.submit(&event("t", sequence, priority, &payload)).unwrap().status {
                Status::Accepted => {}
                Status::Throttled => return engine.stats().memory,
                other => panic!("{other:?}"),
            }
        }
    };
    let lower = fill(Priority::Medium);
    assert!(((3 << 20) - 20_000..=3 << 20).contains(&lower), "{lower}");
    let all = fill(Priority::Critical);
    assert!(((4 << 20) - 20_000..=4 << 20).contains(&all), "{all}");
    gate.open();
    eventually("all of it is free again", || engine.stats().memory == 0);
    assert_eq!(source.submit(&event("t", u64::MAX, Priority::Medium, b"x")).unwrap().status, Status::Accepted);
}

#[test]
fn what_was_throttled_is_no_duplicate_when_it_comes_again() {
    let domain = Domain::new();
    let gate = Gate::default();
    let engine = options(&domain).capacity(Lane::Transactional, 16).handler("**", gate.handler()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let mut send = |n| source.submit(&event("t", n, Priority::Medium, b"x")).unwrap().status;
    let mut sequence = 1;
    while send(sequence) == Status::Accepted {
        sequence += 1;
    }
    gate.open();
    eventually("all before it are done", || engine.stats().lanes[1].processed == sequence - 1);
    assert_eq!([send(sequence), send(sequence)], [Status::Accepted, Status::Duplicate]);
    assert_eq!(engine.stop(SOON).throttled[2], 1);
}

#[test]
fn what_is_not_urgent_gives_way_when_it_is_held_for_too_long() {
    let domain = Domain::new();
    let (gate, letters) = (Gate::default(), Letters::default());
    let engine = options(&domain).capacity(Lane::Transactional, 16).handler("slow", gate.handler());
    let engine = engine.dead_letters(letters.clone()).start().unwrap();
    let mut source = engine.source(Origin::Tcp("127.0.0.1:1".parse().unwrap())).producer(ME).open();
    let (mut batch, mut answers) = (Batch::default(), Vec::new());
    let silent = |topic, n, priority| frame::Event { flags: Flags::default(), ..event(topic, n, priority, b"x") };
    (1..=600).for_each(|n| batch.push(&silent("slow", n, Priority::Medium)));
    batch.push(&silent("alarm", 601, Priority::Critical));
    let mut subscriber = None;
    let mut progress = source.dispatch(&mut batch, &mut answers);
    assert_eq!(progress, Progress::Held);
    eventually("the alarm gets through", || {
        if progress == Progress::Held {
            progress = source.resume(&mut answers);
        }
        subscriber = domain.subscriber().start(Start::Oldest).open("alarm").ok();
        subscriber.is_some() && engine.stats().lanes[0].processed == 1
    });
    gate.open();
    let stats = engine.stop(SOON);
    let dead = stats.dead_lettered[DeadReason::HeldTooLong as usize];
    assert_eq!((stats.accepted[2] + dead, stats.accepted[4]), (600, 1));
    assert_eq!(letters.kept().len() as u64, dead);
    assert!(dead > 0);
}

#[test]
fn datagrams_that_find_no_room_are_dropped_by_a_named_count() {
    let domain = Domain::new();
    let gate = Gate::default();
    let engine = options(&domain).capacity(Lane::Batch, 16).handler("**", gate.handler()).start().unwrap();
    let mut source = engine.source(Origin::Udp("127.0.0.1:1".parse().unwrap())).when_full(WhenFull::Drop).open();
    let (mut batch, mut answers) = (Batch::default(), Vec::new());
    (0..1000).for_each(|_| batch.push(&frame::Event { flags: Flags::default(), ..event("t", 0, Priority::Low, b"x") }));
    assert_eq!(source.dispatch(&mut batch, &mut answers), Progress::Done);
    gate.open();
    let stats = engine.stop(SOON);
    let dropped: u64 = stats.dropped.iter().flatten().sum();
    assert_eq!((stats.accepted[1] + dropped, answers.len()), (1000, 0));
    assert!(stats.dropped[conduit::engine::DropReason::Throttled as usize][1] > 0);
}

#[test]
fn a_change_of_a_lanes_state_is_published() {
    let domain = Domain::new();
    let gate = Gate::default();
    let engine = options(&domain).capacity(Lane::Transactional, 16).handler("**", gate.handler()).start().unwrap();
    let mut subscriber = domain.subscriber().start(Start::Oldest).wait(PATIENCE).open(STATES).unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let mut sequence = 0;
    while engine.stats().lanes[1].state_changes == 0 {
        sequence += 1;
        source.submit(&event("t", sequence, Priority::Medium, b"x"));
    }
    let mut next = || String::from_utf8(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().to_vec()).unwrap();
    assert!(next().starts_with(r#"{"lane":"transactional","before":"running","state":"paused","depth":1"#));
    gate.open();
    eventually("it is empty", || engine.stats().lanes[1].depth == 0);
    while !next().contains(r#""state":"running""#) {}
}

/// Has whoever logs this, of this topic, wait there: who is told when it is, and lets it go on once it is dropped.
fn stopped_at(message: &'static str, topic: &'static str) -> (impl tracing::Subscriber, Receiver<()>, Sender<()>) {
    let ((begin, begun), (go, going)) = (mpsc::channel(), mpsc::channel());
    let going = Mutex::new(going);
    let logged = Logged(move |said: &str, of: &str| {
        if (said, of) == (message, topic) && begin.send(()).is_ok() {
            let _: Result<(), _> = going.lock().unwrap().recv_timeout(PATIENCE);
        }
    });
    (logged, begun, go)
}

#[test]
fn no_event_waits_for_the_topic_of_another_to_be_made() {
    let domain = Domain::new();
    let engine = options(&domain).start().unwrap();
    let mut urgent = engine.source(Origin::Local).producer(ME).open();
    urgent.submit(&event("known", 1, Priority::Critical, b"x"));
    let (logged, begun, go) = stopped_at("made the topic", "first");
    let dispatched = |producer: u8, topics: [&str; 3]| {
        let mut source = engine.source(Origin::Local).producer([producer; 16]).open();
        let (mut batch, mut answers) = (Batch::default(), Vec::new());
        (1..).zip(topics).for_each(|(n, topic)| batch.push(&event(topic, n, Priority::Medium, b"x")));
        assert_eq!(source.dispatch(&mut batch, &mut answers), Progress::Done);
        answers.iter().map(|range| (range.first(), range.last(), range.status)).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let make = || dispatched(1, ["known", "first", "known"]);
        let maker = scope.spawn(move || tracing::subscriber::with_default(logged, make));
        begun.recv_timeout(PATIENCE).unwrap();
        eventually("what came before it is processed", || engine.stats().lanes[1].processed == 1);
        for (n, topic) in [(2, "known"), (3, "second")] {
            assert_eq!(urgent.submit(&event(topic, n, Priority::Critical, b"x")).unwrap().status, Status::Accepted);
        }
        eventually("others are processed", || engine.stats().lanes[0].processed == 3);
        let of_the_same = scope.spawn(|| dispatched(2, ["first"; 3]));
        assert!(!maker.is_finished() && engine.stats().topics == 2);
        drop((begun, go));
        let accepted = [(1, 3, Status::Accepted)];
        assert_eq!([maker.join().unwrap(), of_the_same.join().unwrap()], [accepted, accepted]);
    });
    assert_eq!((engine.stats().topics, engine.stop(SOON).lanes[1].processed), (3, 6));
}

#[test]
fn no_event_waits_for_a_lanes_state_to_be_told() {
    let domain = Domain::new();
    let gate = Gate::default();
    let engine = options(&domain).capacity(Lane::Transactional, 16).handler("t", gate.handler()).start().unwrap();
    let mut subscriber = domain.subscriber().start(Start::Oldest).wait(PATIENCE).open(STATES).unwrap();
    let mut urgent = engine.source(Origin::Local).open();
    urgent.submit(&event("t", 0, Priority::Medium, b"x"));
    eventually("the handler is at it", || engine.stats().lanes[1].processed == 1);
    let (logged, begun, go) = stopped_at("a lane's state changed", "");
    let fill = || {
        let mut source = engine.source(Origin::Local).producer(ME).open();
        (1..).find(|&n| source.submit(&event("t", n, Priority::Medium, b"x")).unwrap().status == Status::Throttled)
    };
    thread::scope(|scope| {
        let teller = scope.spawn(|| tracing::subscriber::with_default(logged, fill));
        begun.recv_timeout(PATIENCE).unwrap();
        assert_eq!(urgent.submit(&event("u", 1, Priority::Critical, b"x")).unwrap().status, Status::Accepted);
        eventually("it is processed", || engine.stats().lanes[0].processed == 1);
        assert!(!teller.is_finished());
        drop((begun, go));
        teller.join().unwrap();
    });
    gate.open();
    let mut state = "running".to_string();
    let mut told = 0;
    while told == 0 || state != "running" {
        let text = String::from_utf8(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().to_vec()).unwrap();
        assert!(text.contains(&format!(r#""before":"{state}""#)), "{text} behind {state}");
        state = text.split(r#""state":""#).nth(1).unwrap().split('"').next().unwrap().into();
        told += 1;
    }
    assert!(told > 2, "it was paused and draining in between");
}

/// What is held waits for memory, and must not wait for its own.
#[test]
fn sources_that_are_held_do_not_wait_for_each_other() {
    let domain = Domain::new();
    // However long it takes: nothing gives way.
    let engine = options(&domain).memory(1 << 20).capacity(Lane::Transactional, 16).hold(PATIENCE * 100);
    let engine = engine.start().unwrap();
    let silent = |n| frame::Event { flags: Flags::default(), ..event("t", n, Priority::Medium, &[7; 200]) };
    let sources: Vec<_> = (0..6)
        .map(|_| {
            let mut source = engine.source(Origin::Local).open();
            let mut batch = Batch::with_capacity(256 << 10);
            (0..1000).for_each(|n| batch.push(&silent(n)));
            let progress = source.dispatch(&mut batch, &mut Vec::new());
            (source, progress)
        })
        .collect();
    for (mut source, mut progress) in sources {
        eventually("each goes on", || {
            progress = source.resume(&mut Vec::new());
            progress == Progress::Done
        });
    }
    let stats = engine.stop(SOON);
    assert_eq!((stats.accepted[2], stats.lanes[1].processed), (6000, 6000));
}

#[test]
fn a_failure_that_cannot_even_be_told_is_contained() {
    #[derive(Debug)]
    struct Rude;
    impl std::fmt::Display for Rude {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("told nobody")
        }
    }
    impl std::error::Error for Rude {}
    let domain = Domain::new();
    let letters = Letters::default();
    let handler = |event: &Event<'_>| if event.sequence == 1 { Err(Failure::reject(Rude)) } else { Ok(()) };
    let engine = options(&domain).handler("**", handler).dead_letters(letters.clone()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    (1..=10).for_each(|n| _ = source.submit(&event("t", n, Priority::Medium, b"x")));
    let stats = engine.stop(SOON);
    assert_eq!((stats.handled, stats.panicked, letters.kept().len()), (9, 1, 1));
}

#[test]
fn after_the_engine_has_stopped_nothing_is_taken_and_nobody_waits() {
    let domain = Domain::new();
    let letters = Letters::default();
    let engine = options(&domain).dead_letters(letters.clone()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    engine.stop(SOON);
    for (n, priority) in (1..).zip([Priority::Critical, Priority::Medium, Priority::Batch]) {
        let asked = source.submit(&event("t", n, priority, b"x")).unwrap().status;
        let silent = source.submit(&frame::Event { flags: Flags::default(), ..event("t", 10 + n, priority, b"x") });
        assert_eq!((asked, silent), (Status::Dropped, None));
    }
    assert_eq!(letters.kept(), []);
}

#[test]
fn events_of_a_topic_that_is_stuck_do_not_keep_other_workers_idle() {
    let domain = Domain::new();
    let gate = Gate::default();
    let engine = options(&domain).workers(6).handler("stuck", gate.handler()).handler("free/*", |_: &Event<'_>| Ok(()));
    let engine = engine.start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    (1..=2000).for_each(|n| _ = source.submit(&event("stuck", n, Priority::Medium, b"x")));
    for n in 1..=100 {
        source.submit(&event(&format!("free/{}", n % 10), 2000 + n, Priority::Medium, b"x"));
    }
    // One in six of the topics has the worker that is stuck.
    eventually("the others are handled", || engine.stats().handled >= 80);
    gate.open();
    assert_eq!(engine.stop(SOON).handled, 2100);
}

#[test]
fn each_lane_counts_its_own_events_though_they_came_together() {
    let domain = Domain::new();
    let engine = options(&domain).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let mut batch = Batch::default();
    for n in 1..=100 {
        batch.push(&event("t", n, if n % 2 == 0 { Priority::Medium } else { Priority::Low }, b"x"));
    }
    assert_eq!(source.dispatch(&mut batch, &mut Vec::new()), Progress::Done);
    let stats = engine.stop(SOON);
    assert_eq!((stats.lanes[1].processed, stats.lanes[2].processed), (50, 50));
}

#[test]
fn what_a_log_did_not_take_before_the_end_is_counted() {
    let domain = Domain::new();
    let log = Log::default();
    log.0.fails.store(u32::MAX, Ordering::Relaxed);
    let engine = options(&domain).durable_log(log).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    (1..=10).for_each(|n| _ = source.submit(&durable(n)));
    assert_eq!(engine.stop(Duration::from_millis(20)).log_lost, 10);
}

#[test]
fn an_event_that_cannot_be_published_is_a_dead_letter_and_given_to_no_handler() {
    let domain = Domain::new();
    let letters = Letters::default();
    let given = Arc::new(Mutex::new(Vec::new()));
    let list = given.clone();
    let handler = move |event: &Event<'_>| {
        list.lock().unwrap().push(event.sequence);
        Ok::<(), Failure>(())
    };
    let limits = conduit::engine::TopicLimits { memory: 1 << 20, ..Default::default() };
    let engine = options(&domain).topics(limits).handler("**", handler).dead_letters(letters.clone()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let (long, mut batch) = (vec![7; 1 << 20], Batch::default());
    for (n, payload) in (1..).zip([&b"short"[..], &long, b"short", &long, &long, b"short"]) {
        batch.push(&event("t", n, Priority::Medium, payload));
    }
    assert_eq!(source.dispatch(&mut batch, &mut Vec::new()), Progress::Done);
    let stats = engine.stop(SOON);
    let dead: Vec<_> = letters.kept().iter().map(|letter| (letter.1, letter.2)).collect();
    assert_eq!(dead, [2, 4, 5].map(|n| (n, DeadReason::Unpublished)));
    assert_eq!((&given.lock().unwrap()[..], stats.handled, stats.lanes[1].processed), (&[1, 3, 6][..], 3, 6));
}

/// An event of a megabyte must not set aside hundreds of it.
#[test]
fn topics_take_no_more_shared_memory_than_they_may() {
    let domain = Domain::new();
    let letters = Letters::default();
    let limits = conduit::engine::TopicLimits { memory: 40 << 20, ..Default::default() };
    let engine = options(&domain).topics(limits).dead_letters(letters.clone()).start().unwrap();
    let mut source = engine.source(Origin::Local).producer(ME).open();
    let long = vec![7; 1_000_000];
    for n in 1..=5 {
        source.submit(&event(&format!("t/{n}"), n, Priority::Medium, &long));
    }
    eventually("each is published or a dead letter", || {
        engine.stats().lanes[1].processed == 5 && letters.kept().len() == 3
    });
    assert!(
        letters.kept().iter().all(|letter| letter.2 == DeadReason::Unpublished && letter.4.contains("topics.memory"))
    );
    let bytes: u64 = domain
        .files()
        .iter()
        .map(|file| std::fs::metadata(format!("/dev/shm/{file}")).map_or(0, |file| file.len()))
        .sum();
    assert!(bytes < 44 << 20, "{bytes}");
    // What is short goes where it always went.
    assert_eq!(source.submit(&event("t/5", 6, Priority::Medium, b"short")).unwrap().status, Status::Accepted);
    let mut subscriber = domain.subscriber().start(Start::Oldest).wait(PATIENCE).open("t/5").unwrap();
    assert_eq!(&*subscriber.recv_timeout(PATIENCE).unwrap().unwrap(), b"short");
}
