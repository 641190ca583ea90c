//! The outbox against a model of a server, over connections that break anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::dedup::{Producers, Seen};
use crate::frame::{Decoded, Durability, Header, Kind, decode};

const ID: [u8; 16] = *b"the one producer";
const MS: u64 = 1_000_000;

fn welcome(last_sequence: u64, credit: u32) -> Welcome {
    Welcome { session: 1, last_sequence, max_len: 1 << 20, credit, version: 1, durability: Durability::Interval }
}

fn outbox(settings: Settings) -> Outbox {
    let mut outbox = Outbox::new(Settings { producer: ID, ..settings }).unwrap();
    outbox.connected();
    outbox.transmit(0, &mut Vec::new(), usize::MAX);
    outbox
}

fn welcomed(settings: Settings) -> Outbox {
    let mut outbox = outbox(settings);
    outbox.welcome(&welcome(0, 1024)).unwrap();
    outbox
}

fn push(outbox: &mut Outbox) -> u64 {
    outbox.push(&Event { topic: b"t", payload: b"payload", ..Event::default() }).unwrap()
}

fn push_all(outbox: &mut Outbox, count: u64) {
    for _ in 0..count {
        push(outbox);
    }
}

fn with(range: Range, credit: u32, retry_after_ms: u32) -> Range {
    let mut range = range;
    (range.credit, range.retry_after_ms) = (credit, retry_after_ms);
    range
}

/// Sends what can be sent; returns the sequences.
fn sent(outbox: &mut Outbox, now: u64) -> Vec<u64> {
    let mut wire = Vec::new();
    outbox.transmit(now, &mut wire, usize::MAX);
    headers(&wire).iter().map(|header| header.sequence).collect()
}

fn headers(mut wire: &[u8]) -> Vec<Header> {
    let mut headers = Vec::new();
    while let Ok(Decoded::Frame { header, len, .. }) = decode(wire, usize::MAX) {
        headers.push(header);
        wire = &wire[len..];
    }
    assert!(wire.is_empty(), "whole frames");
    headers
}

fn say(outbox: &mut Outbox, first: u64, last: u64, status: Status, now: u64) {
    outbox.answer(&with(Range::through(first, last, status).unwrap(), 1024, 0), now).unwrap();
}

fn outcomes(outbox: &mut Outbox) -> Vec<(u64, Fate)> {
    std::iter::from_fn(|| outbox.next_outcome()).map(|outcome| (outcome.sequence, outcome.fate)).collect()
}

#[test]
fn a_fresh_process_goes_on_behind_what_the_server_has_seen() {
    let mut fresh = outbox(Settings::default());
    assert_eq!(
        fresh.push(&Event { topic: b"t", ..Event::default() }),
        Err(Refused::Full),
        "the number is not known yet"
    );
    fresh.welcome(&welcome(41, 10)).unwrap();
    assert_eq!(push(&mut fresh), 42);
    // Who numbers its events itself is believed.
    let mut own = outbox(Settings { first: First::At(7), ..Settings::default() });
    assert_eq!(push(&mut own), 7);
    own.welcome(&welcome(41, 10)).unwrap();
    assert_eq!((push(&mut own), sent(&mut own, 0)), (8, vec![7, 8]));
    // None is left.
    let mut last = outbox(Settings::default());
    last.welcome(&welcome(u64::MAX, 10)).unwrap();
    assert_eq!(last.push(&Event { topic: b"t", ..Event::default() }), Err(Refused::Exhausted));
}

#[test]
fn another_process_with_the_same_id_is_found_out() {
    let mut outbox = welcomed(Settings::default());
    push(&mut outbox);
    outbox.connected();
    assert_eq!(outbox.welcome(&welcome(2, 10)), Err(Fault::Shared { last: 2, given: 1 }));
}

#[test]
fn numbers_that_another_process_has_used_are_counted() {
    for (first, collisions) in [(First::BehindLast, 1), (First::At(1), 0)] {
        let mut outbox = welcomed(Settings { first, ..Settings::default() });
        push_all(&mut outbox, 2);
        assert_eq!(sent(&mut outbox, 0), [1, 2]);
        say(&mut outbox, 1, 1, Status::Duplicate, 0);
        outbox.connected();
        sent(&mut outbox, 0);
        outbox.welcome(&welcome(2, 1024)).unwrap();
        assert_eq!(sent(&mut outbox, 0), [2]);
        say(&mut outbox, 2, 2, Status::Duplicate, 0);
        assert_eq!(outbox.counts().collisions, collisions);
    }
}

#[test]
fn what_was_throttled_in_the_middle_is_sent_after_a_reconnect_though_the_server_has_seen_later_ones() {
    let mut outbox = welcomed(Settings::default());
    push_all(&mut outbox, 3);
    assert_eq!(sent(&mut outbox, 0), [1, 2, 3]);
    say(&mut outbox, 1, 1, Status::Accepted, 0);
    outbox.answer(&with(Range::of(2, Status::Throttled), 1024, 20), 0).unwrap();
    outbox.connected();
    assert_eq!(sent(&mut outbox, 0), [0], "the greeting alone");
    outbox.welcome(&welcome(3, 1024)).unwrap();
    assert_eq!(sent(&mut outbox, 0), [3], "its answer was lost");
    assert_eq!((outbox.next_due(), outbox.has_work(19 * MS), outbox.has_work(20 * MS)), (Some(20 * MS), false, true));
    assert_eq!(sent(&mut outbox, 20 * MS), [2], "when the server said");
    say(&mut outbox, 2, 2, Status::Accepted, 21 * MS);
    say(&mut outbox, 3, 3, Status::Duplicate, 21 * MS);
    let [accepted, duplicate] = [Status::Accepted, Status::Duplicate].map(Fate::Answered);
    assert_eq!(outcomes(&mut outbox), [(1, accepted), (2, accepted), (3, duplicate)]);
    assert_eq!((outbox.waiting(), outbox.in_flight(), outbox.counts().stray_answers), (0, 0, 0));
}

#[test]
fn no_more_is_on_its_way_than_the_server_allows() {
    let mut outbox = welcomed(Settings { window: 8, ..Settings::default() });
    push_all(&mut outbox, 8);
    assert_eq!(outbox.push(&Event { topic: b"t", ..Event::default() }), Err(Refused::Full), "the window");
    outbox.connected();
    outbox.transmit(0, &mut Vec::new(), usize::MAX);
    outbox.welcome(&welcome(0, 3)).unwrap();
    assert_eq!(sent(&mut outbox, 0), [1, 2, 3]);
    // A total, from now on.
    outbox.answer(&with(Range::of(2, Status::Accepted), 4, 0), 0).unwrap();
    assert_eq!(sent(&mut outbox, 0), [4, 5], "with 1 and 3 that makes four");
    outbox.answer(&with(Range::through(1, 5, Status::Accepted).unwrap(), 0, 0), 0).unwrap();
    assert!(!outbox.has_work(0) && sent(&mut outbox, 0).is_empty(), "until more is said");
    assert_eq!(outbox.counts().stray_answers, 1, "2 was answered before");
    outbox.answer(&with(Range::of(0, Status::Accepted), 9999, 0), 0).unwrap();
    assert_eq!(sent(&mut outbox, 0), [6, 7, 8]);
}

#[test]
fn an_answer_to_what_is_not_on_its_way_changes_nothing_and_is_counted() {
    let mut outbox = welcomed(Settings::default());
    push(&mut outbox);
    say(&mut outbox, 1, 1, Status::Accepted, 0);
    assert_eq!((outcomes(&mut outbox), outbox.counts().stray_answers), (vec![], 1), "not sent yet");
    assert_eq!(sent(&mut outbox, 0), [1]);
    say(&mut outbox, 1, 1, Status::Throttled, 0);
    say(&mut outbox, 1, 1, Status::Accepted, 0);
    assert_eq!((outcomes(&mut outbox), outbox.counts().stray_answers), (vec![], 2), "refused, and not sent again yet");
    assert_eq!(sent(&mut outbox, MS), [1]);
    say(&mut outbox, 0, u64::MAX, Status::Accepted, MS);
    say(&mut outbox, 1, 1, Status::Dropped, MS);
    assert_eq!(outcomes(&mut outbox), [(1, Fate::Answered(Status::Accepted))]);
    assert_eq!((outbox.counts().stray_answers, outbox.in_flight()), (u64::MAX, 0), "all others, and once more");
}

#[test]
fn a_place_in_the_stream_is_not_taken_for_a_sequence() {
    let mut outbox = welcomed(Settings::default());
    push_all(&mut outbox, 200);
    sent(&mut outbox, 0);
    let mut fault = Range::of(100, Status::TooLarge);
    fault.lane = NO_LANE;
    outbox.answer(&fault, 0).unwrap();
    assert_eq!((outcomes(&mut outbox), outbox.in_flight()), (vec![], 200));
    // Nor does the word on a damaged frame take the credit away.
    outbox.answer(&Range::of(100, Status::BadFrame), 0).unwrap();
    assert_eq!(sent(&mut outbox, MS), [100]);
    fault.status = Status::Unauthorized;
    assert_eq!(outbox.answer(&fault, 0), Err(Fault::Unauthorized));
}

#[test]
fn durable_is_not_asked_of_a_server_that_keeps_nothing() {
    let mut outbox = outbox(Settings { acks: Acks::Durable, ..Settings::default() });
    let keeps_nothing = Welcome { durability: Durability::None, ..welcome(0, 9) };
    assert_eq!(outbox.welcome(&keeps_nothing), Err(Fault::NotDurable));
}

#[test]
fn durable_means_durable() {
    let mut outbox = welcomed(Settings { acks: Acks::Durable, ..Settings::default() });
    push_all(&mut outbox, 3);
    let mut wire = Vec::new();
    outbox.transmit(0, &mut wire, usize::MAX);
    let asked = Flags::ACK_REQUESTED.and(Flags::ACK_WHEN_DURABLE);
    assert!(headers(&wire).iter().all(|header| header.flags == asked));
    say(&mut outbox, 1, 3, Status::Accepted, 0);
    assert_eq!((outcomes(&mut outbox), outbox.in_flight()), (vec![], 3));
    say(&mut outbox, 1, 2, Status::Durable, 0);
    say(&mut outbox, 3, 3, Status::Duplicate, 0);
    let told = |status| Fate::Answered(status);
    let expected = [(1, told(Status::Durable)), (2, told(Status::Durable)), (3, told(Status::Duplicate))];
    assert_eq!(outcomes(&mut outbox), expected);
}

#[test]
fn refusals_end_when_the_user_said_they_should() {
    let retry = |tries, ms| Retry { tries, deadline: Duration::from_millis(ms) };
    for (retry, status, tries) in [
        (retry(3, 60_000), Status::Throttled, 3),
        (retry(u32::MAX, 50), Status::Throttled, 5),
        (retry(u32::MAX, 60_000), Status::BadFrame, DAMAGED_TRIES),
    ] {
        let mut outbox = welcomed(Settings { retry, ..Settings::default() });
        push(&mut outbox);
        let mut now = 1000;
        for at in 1..=tries {
            assert_eq!(sent(&mut outbox, now), [1]);
            assert_eq!(outcomes(&mut outbox), []);
            outbox.answer(&with(Range::of(1, status), 9, 11), now).unwrap();
            assert_eq!(outbox.in_flight(), 0);
            now = if at < tries { outbox.next_due().unwrap() } else { now };
        }
        let outcome = outbox.next_outcome().unwrap();
        assert_eq!((outcome.fate, outcome.retries), (Fate::Answered(status), tries - 1));
        assert_eq!((outbox.waiting(), outbox.next_due()), (0, None));
    }
}

#[test]
fn a_server_that_names_no_time_is_not_asked_in_a_loop() {
    let mut outbox = welcomed(Settings::default());
    push(&mut outbox);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..40 {
        assert_eq!(sent(&mut outbox, now), [1]);
        say(&mut outbox, 1, 1, Status::Throttled, now);
        waits.push((outbox.next_due().unwrap() - now) / MS);
        now = outbox.next_due().unwrap();
    }
    assert_eq!((&waits[..4], waits[39]), (&[1, 2, 4, 8][..], 1000));
}

#[test]
fn each_refusal_that_is_final_is_a_failure_with_its_reason() {
    let mut outbox = welcomed(Settings::default());
    let reasons = [
        Status::Dropped,
        Status::DeadLettered,
        Status::BadTopic,
        Status::TooLarge,
        Status::Unauthorized,
        Status::Expired,
    ];
    for status in reasons {
        let sequence = push(&mut outbox);
        sent(&mut outbox, 0);
        say(&mut outbox, sequence, sequence, status, 0);
        assert_eq!(outcomes(&mut outbox), [(sequence, Fate::Answered(status))]);
        assert!(!Fate::Answered(status).is_success());
    }
    assert_eq!(
        outbox.answer(&Range::of(0, Status::Unauthorized), 0),
        Err(Fault::Unauthorized),
        "the greeting was meant"
    );
}

#[test]
fn an_event_that_the_next_server_would_not_read_is_not_sent_there() {
    let mut outbox = welcomed(Settings::default());
    let long = [0; 2000];
    outbox.push(&Event { topic: b"t", payload: &long, ..Event::default() }).unwrap();
    push(&mut outbox);
    assert_eq!(sent(&mut outbox, 0), [1, 2]);
    outbox.connected();
    sent(&mut outbox, 0);
    outbox.welcome(&Welcome { max_len: 1000, ..welcome(0, 9) }).unwrap();
    assert_eq!(outcomes(&mut outbox), [(1, Fate::Answered(Status::TooLarge))]);
    assert_eq!(sent(&mut outbox, 0), [2]);
    let refused = outbox.push(&Event { topic: b"t", payload: &long, ..Event::default() });
    assert_eq!(refused, Err(Refused::TooLarge { len: 2033, max: 1000 }));
}

#[test]
fn without_acks_events_are_forgotten_when_sent_and_counted_when_a_connection_swallowed_them() {
    let mut outbox = welcomed(Settings { acks: Acks::None, ..Settings::default() });
    for _ in 0..10 {
        push(&mut outbox);
    }
    let mut wire = Vec::new();
    outbox.transmit(0, &mut wire, usize::MAX);
    assert!(headers(&wire).iter().all(|header| header.flags == Flags::default() && header.sequence > 0));
    assert_eq!((outbox.waiting(), outcomes(&mut outbox).len()), (0, 10));
    outbox.ping(&mut Vec::new());
    outbox.pong();
    for _ in 0..5 {
        push(&mut outbox);
    }
    sent(&mut outbox, 0);
    outbox.connected();
    outbox.welcome(&welcome(12, 0)).unwrap();
    assert_eq!(outbox.counts().unconfirmed, 3, "of 15 the server has 12");
    outbox.connected();
    outbox.welcome(&welcome(0, 0)).unwrap();
    assert_eq!(outbox.counts().unconfirmed, 3, "none is counted twice");
}

#[test]
fn memory_is_bounded_and_given_back() {
    let mut outbox = welcomed(Settings { max_bytes: 1 << 20, ..Settings::default() });
    let payload = vec![0; 300_000];
    let event = Event { topic: b"t", payload: &payload, ..Event::default() };
    for round in 0..100 {
        while outbox.push(&event).is_ok() {}
        assert_eq!(outbox.waiting(), 3, "three fit into a megabyte");
        sent(&mut outbox, 0);
        say(&mut outbox, round + 1, round + 1, Status::Accepted, 0);
        assert!(outbox.frames.capacity() < 8 << 20);
    }
}

#[test]
fn giving_up_tells_of_each_event_once() {
    let mut outbox = welcomed(Settings::default());
    push_all(&mut outbox, 4);
    sent(&mut outbox, 0);
    say(&mut outbox, 2, 2, Status::Accepted, 0);
    say(&mut outbox, 3, 3, Status::Throttled, 0);
    outbox.abandon();
    outbox.abandon();
    let unanswered = |sequence| (sequence, Fate::Unanswered);
    assert_eq!(
        outcomes(&mut outbox),
        [(2, Fate::Answered(Status::Accepted)), unanswered(1), unanswered(3), unanswered(4)]
    );
}

/// What a step of the world is.
#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Transmit(usize),
    /// So many bytes reach the server, which deals with what is whole by then, and throttles if asked to.
    Reach(usize, bool),
    /// The answer at this place, of those that the server has to give, is given, with this credit.
    Answer(usize, u32),
    /// So many bytes reach the client.
    Return(usize),
    /// The connection breaks. What was on its way either way is gone.
    Cut,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let credit = prop_oneof![Just(0), 1..8u32, Just(1024), Just(u32::MAX)];
    prop_oneof![
        4 => (1..40u8).prop_map(Step::Push),
        6 => (1..3000usize).prop_map(Step::Transmit),
        6 => (1..3000usize, prop::bool::weighted(0.3)).prop_map(|(count, throttle)| Step::Reach(count, throttle)),
        12 => (any::<usize>(), credit).prop_map(|(which, credit)| Step::Answer(which, credit)),
        6 => (1..1000usize).prop_map(Step::Return),
        1 => Just(Step::Cut),
        3 => (1..100u64).prop_map(Step::Wait),
    ]
}

/// A server with one connection, and what the world must hold true.
struct World {
    outbox: Outbox,
    now: u64,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    // The server.
    deduplicates: bool,
    producers: Box<Producers<4>>,
    engine: Vec<u64>,
    answers: Vec<Range>,
    // What was seen on the wire and told.
    pushed: u64,
    on_way: BTreeSet<u64>,
    credit: u32,
    outcomes: BTreeMap<u64, Fate>,
}

impl World {
    fn new(acks: Acks, window: u32, deduplicates: bool) -> Self {
        let retry = Retry { deadline: Duration::MAX, ..Retry::default() };
        let settings = Settings { producer: ID, acks, window, retry, ..Settings::default() };
        let mut world = World {
            outbox: Outbox::new(settings).unwrap(),
            now: 0,
            to_server: Vec::new(),
            to_client: Vec::new(),
            deduplicates,
            producers: Box::new(Producers::new(7)),
            engine: Vec::new(),
            answers: Vec::new(),
            pushed: 0,
            on_way: BTreeSet::new(),
            credit: 0,
            outcomes: BTreeMap::new(),
        };
        world.outbox.connected();
        world
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Push(count) => {
                for _ in 0..*count {
                    let payload = (self.pushed + 1).to_le_bytes();
                    match self.outbox.push(&Event { topic: b"t", payload: &payload, ..Event::default() }) {
                        Ok(sequence) => {
                            self.pushed += 1;
                            assert_eq!(sequence, self.pushed);
                        }
                        Err(refused) => assert_eq!(refused, Refused::Full),
                    }
                }
            }
            Step::Transmit(enough) => {
                let at = self.to_server.len();
                let mut wire = Vec::new();
                self.outbox.transmit(self.now, &mut wire, *enough);
                self.to_server.extend(&wire);
                for header in headers(&self.to_server[at..]).iter().filter(|header| header.kind == Kind::Event) {
                    assert!(self.on_way.insert(header.sequence), "{} is on its way already", header.sequence);
                    assert!(self.on_way.len() <= self.credit.min(1024) as usize, "more than the credit");
                }
                assert_eq!(self.on_way.len(), self.outbox.in_flight() as usize);
            }
            Step::Reach(count, throttle) => self.reach(*count, *throttle),
            Step::Answer(which, credit) => {
                if !self.answers.is_empty() {
                    // What is accepted is durable later: nothing else keeps to an order.
                    let mut range = self.answers.swap_remove(which % self.answers.len());
                    if range.status == Status::Accepted && self.outbox.settings().acks == Acks::Durable {
                        self.answers.push(Range::of(range.first(), Status::Durable));
                    }
                    range.credit = *credit;
                    self.reply(&range);
                }
            }
            Step::Return(count) => self.give_back(*count),
            Step::Cut => {
                self.to_server.clear();
                self.to_client.clear();
                self.answers.clear();
                self.on_way.clear();
                self.outbox.connected();
            }
            Step::Wait(ms) => self.now += ms * MS,
        }
        while let Some(outcome) = self.outbox.next_outcome() {
            let before = self.outcomes.insert(outcome.sequence, outcome.fate);
            assert_eq!(before, None, "{} has two outcomes", outcome.sequence);
        }
    }

    fn reply(&mut self, range: &Range) {
        let mut buffer = [0; 64];
        let len = crate::ack::encode(&[*range], &mut buffer).unwrap();
        self.to_client.extend(&buffer[..len]);
    }

    /// The first `count` bytes reach the server; what is cut in the middle stays on the way.
    fn reach(&mut self, count: usize, throttle: bool) {
        let there = self.to_server[..count.min(self.to_server.len())].to_vec();
        let mut used = 0;
        while let Ok(Decoded::Frame { header, body, len }) = decode(&there[used..], 1 << 20) {
            used += len;
            if header.kind == Kind::Hello {
                let mut buffer = [0; 64];
                let newest = self.producers.newest(&header.hello(body).unwrap().producer);
                let len = welcome(newest, 5).encode(&mut buffer).unwrap();
                self.to_client.extend(&buffer[..len]);
                continue;
            }
            let event = header.event(body).unwrap();
            let sequence = event.sequence;
            assert_eq!(event.payload, sequence.to_le_bytes(), "a number stands for one event");
            let durable = event.flags.has(Flags::ACK_WHEN_DURABLE);
            let seen = if self.deduplicates { self.producers.look(&ID, sequence) } else { Seen::New };
            self.answers.push(match seen {
                Seen::New if throttle && sequence % 3 == 0 => with(Range::of(sequence, Status::Throttled), 0, 5),
                Seen::New => {
                    self.producers.record(&ID, sequence);
                    self.engine.push(sequence);
                    Range::of(sequence, Status::Accepted)
                }
                Seen::Duplicate if durable => Range::of(sequence, Status::Durable),
                Seen::Duplicate => Range::of(sequence, Status::Duplicate),
                Seen::TooOld => panic!("{sequence} is no longer known"),
            });
        }
        self.to_server.drain(..used);
    }

    fn give_back(&mut self, count: usize) {
        let there = self.to_client[..count.min(self.to_client.len())].to_vec();
        let mut used = 0;
        while let Ok(Decoded::Frame { header, body, len }) = decode(&there[used..], 1 << 20) {
            used += len;
            if header.kind == Kind::Welcome {
                let welcome = header.welcome(body).unwrap();
                self.credit = welcome.credit;
                self.outbox.welcome(&welcome).unwrap();
                continue;
            }
            for range in crate::ack::decode(&header, body).unwrap() {
                let durable = self.outbox.settings().acks == Acks::Durable;
                if !(durable && range.status == Status::Accepted) {
                    self.on_way.remove(&range.first());
                }
                self.credit = range.credit;
                self.outbox.answer(&range, self.now).unwrap();
            }
        }
        self.to_client.drain(..used);
    }

    /// From now on nothing goes wrong.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.outbox.waiting() == 0 {
                return;
            }
            self.take(&Step::Transmit(usize::MAX));
            self.take(&Step::Reach(usize::MAX, false));
            while !self.answers.is_empty() {
                self.take(&Step::Answer(0, 1024));
            }
            self.reply(&with(Range::of(0, Status::Accepted), 1024, 0));
            self.take(&Step::Return(usize::MAX));
            self.take(&Step::Wait(1000));
        }
        panic!("it never ends: {:?}", self.outbox);
    }

    /// Which events entered the engine more than once.
    fn twice(&self) -> Vec<u64> {
        let mut seen = BTreeSet::new();
        self.engine.iter().copied().filter(|sequence| !seen.insert(*sequence)).collect()
    }
}

proptest! {
    #[test]
    fn each_event_enters_once_and_has_one_outcome_whatever_connections_do(
        steps in vec(step(), 0..400),
        acks in prop_oneof![Just(Acks::Accepted), Just(Acks::Durable)],
        window in prop_oneof![1..20u32, Just(1024)],
    ) {
        let mut world = World::new(acks, window, true);
        steps.iter().for_each(|step| world.take(step));
        world.finish();
        prop_assert_eq!(world.twice(), Vec::<u64>::new());
        prop_assert_eq!(world.engine.len() as u64, world.pushed);
        prop_assert_eq!(world.outcomes.len() as u64, world.pushed);
        for (sequence, fate) in &world.outcomes {
            prop_assert!(fate.is_success(), "{}: {:?}", sequence, fate);
            prop_assert!(acks == Acks::Accepted || *fate == Fate::Answered(Status::Durable));
        }
        let Counts { stray_answers, collisions, .. } = world.outbox.counts();
        prop_assert_eq!((stray_answers, collisions), (0, 0));
        prop_assert!(world.outbox.frames.is_empty() && world.outbox.due.is_empty());
    }

    #[test]
    fn no_answer_of_a_hostile_server_does_harm(
        answers in vec((any::<u64>(), any::<u64>(), 0..64u8, any::<u32>(), any::<u32>(), any::<u64>()), 0..60),
        small in any::<bool>(),
    ) {
        let mut outbox = welcomed(Settings::default());
        let (mut pushed, mut told) = (0, 0);
        for (first, last, status, credit, retry_after_ms, now) in answers {
            while pushed < 50 + told && outbox.push(&Event { topic: b"t", ..Event::default() }).is_ok() {
                pushed += 1;
            }
            sent(&mut outbox, now);
            let (first, last) = if small { (first % 100, last % 100) } else { (first, last) };
            let Some(status) = Status::from_code(status) else { continue };
            let Some(range) = Range::through(first.min(last), first.max(last), status) else { continue };
            let _ = outbox.answer(&with(range, credit, retry_after_ms), now);
            told += outcomes(&mut outbox).len();
            prop_assert!(outbox.in_flight() <= 1024);
        }
        outbox.abandon();
        told += outcomes(&mut outbox).len();
        prop_assert_eq!(told, pushed);
    }
}

/// What the property rests on is found missing: the same check with a server that takes everything.
#[test]
fn a_server_that_does_not_look_for_duplicates_is_found_out() {
    let mut world = World::new(Acks::Accepted, 1024, false);
    for step in [Step::Transmit(100), Step::Reach(100, false), Step::Return(100), Step::Push(3), Step::Transmit(1000)] {
        world.take(&step);
    }
    world.take(&Step::Reach(1000, false));
    world.take(&Step::Cut);
    world.finish();
    assert_eq!(world.twice(), [1, 2, 3]);
}
