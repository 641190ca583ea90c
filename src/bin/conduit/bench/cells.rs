//! What is measured.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use conduit::topic::{Message, Overflow, PublisherOptions, SlotKind, Timestamps};
use conduit::{Publisher, Subscriber};
use serde_json::{Map, Value};

use super::clock;
use super::stage::Stage;
use crate::hz::monotonic_now;
use crate::outcome::{Failure, Result};
use crate::stats::Histogram;
use crate::units;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// How long a message takes
    Latency,
    /// How many messages a second
    Throughput,
    /// What further subscribers cost
    Fanout,
}

/// Figure, head, and how to write it.
type Column = (&'static str, &'static str, fn(f64) -> String);

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Group::Latency => "latency",
            Group::Throughput => "throughput",
            Group::Fanout => "fanout",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Group::Latency => "ONE WAY",
            Group::Throughput => "LOSSLESS, WRITTEN AND READ",
            Group::Fanout => "FAN-OUT",
        }
    }

    pub fn columns(self) -> Vec<Column> {
        let rate: Column = ("rate", "MESSAGES/S", |rate| units::hertz(rate).replace("Hz", "/s"));
        match self {
            Group::Latency => vec![
                ("p50", "P50", units::time),
                ("p90", "P90", units::time),
                ("p99", "P99", units::time),
                ("p99.9", "P99.9", units::time),
            ],
            Group::Throughput => vec![
                rate,
                ("bytes", "BYTES/S", |bytes| format!("{}/s", units::bytes(bytes))),
                ("lost", "LOST", |lost| format!("{lost:.0}")),
            ],
            Group::Fanout => {
                vec![
                    ("call", "PUBLISH CALL", |time| format!("{time:.1} ns")),
                    rate,
                    ("lost", "LOST", |lost| format!("{lost:.0}")),
                ]
            }
        }
    }
}

/// One line of the table.
pub struct Cell {
    pub name: &'static str,
    pub group: Group,
    /// The machine's own cost, with no topic in it.
    pub is_limit: bool,
    pub processes: usize,
    /// What each process does. One of them returns the figures.
    pub play: fn(&Part<'_>) -> Result<Option<Figures>>,
}

pub type Figures = Map<String, Value>;

/// A process of a cell.
pub struct Part<'a> {
    pub stage: &'a Stage,
    pub role: usize,
    pub time: Duration,
    pub domain: &'a str,
}

const fn cell(
    name: &'static str,
    group: Group,
    processes: usize,
    play: fn(&Part<'_>) -> Result<Option<Figures>>,
) -> Cell {
    Cell { name, group, is_limit: false, processes, play }
}

const fn limit(
    name: &'static str,
    group: Group,
    processes: usize,
    play: fn(&Part<'_>) -> Result<Option<Figures>>,
) -> Cell {
    Cell { name, group, is_limit: true, processes, play }
}

use Group::{Fanout, Latency, Throughput};

pub const CELLS: &[Cell] = &[
    limit("a cache line, both polling", Latency, 2, line),
    cell("64 B, both polling", Latency, 2, words_there_and_back),
    cell("4 KiB, both polling", Latency, 2, |part| frames_there_and_back(part, 4096, 4096)),
    cell("1 MiB handed over, both polling", Latency, 2, |part| frames_there_and_back(part, 1 << 20, 8)),
    limit("a futex sleeper woken", Latency, 2, futex_wake),
    cell("64 B, subscriber asleep", Latency, 2, sleeper_woken),
    cell("64 B", Throughput, 2, |part| words_stream(part, 1)),
    cell("64 B, in batches of 32", Throughput, 2, |part| words_stream(part, 32)),
    cell("1 KiB", Throughput, 2, |part| frames_stream(part, 1 << 10, 1024)),
    cell("64 KiB", Throughput, 2, |part| frames_stream(part, 1 << 16, 32)),
    cell("1 MiB", Throughput, 2, |part| frames_stream(part, 1 << 20, 8)),
    limit("copying 64 KiB on one processor", Throughput, 1, |part| copy(part, 1 << 16)),
    limit("copying 1 MiB on one processor", Throughput, 1, |part| copy(part, 1 << 20)),
    cell("64 B, no subscriber", Fanout, 1, |part| publish_call(part, 0)),
    cell("64 B, 1 subscriber that does not read", Fanout, 2, |part| publish_call(part, 1)),
    cell("64 B, 4 subscribers that do not read", Fanout, 2, |part| publish_call(part, 4)),
    cell("64 B, 16 subscribers that do not read", Fanout, 2, |part| publish_call(part, 16)),
    cell("64 B, 4 subscribers that get all", Fanout, 5, |part| words_stream(part, 1)),
];

conduit::message! {
    /// 64 bytes.
    struct Eight: "conduit_bench/msg/Eight" {
        words: [u64; 8],
    }
}

/// Numbers the last message.
const LAST: u64 = u64::MAX;
/// How long processes wait for each other's topics.
const PATIENCE: Duration = Duration::from_secs(10);
/// Part of the time that is spent before anything is recorded.
const WARM_UP: u32 = 10;
/// Times that are recorded at least, on a machine that is busy with other things.
const FEWEST: u64 = 100;

impl Part<'_> {
    fn publisher<T: Message>(&self) -> PublisherOptions<T> {
        Publisher::<T>::options().domain(self.domain).timestamps(Timestamps::None)
    }

    fn bytes(&self, len: usize, depth: u32) -> PublisherOptions<[u8]> {
        let options = Publisher::<[u8]>::options().domain(self.domain);
        options.slots(SlotKind::Frames).max_len(len).depth(depth).subscribers(2)
    }

    fn subscriber<T: Message>(&self, topic: &str) -> Result<Subscriber<T>> {
        Ok(Subscriber::<T>::options().domain(self.domain).wait(PATIENCE).open(topic)?)
    }

    fn byte_subscriber(&self, topic: &str) -> Result<Subscriber<[u8]>> {
        Ok(Subscriber::<[u8]>::options().domain(self.domain).wait(PATIENCE).open(topic)?)
    }

    /// Times round trips until the time is over; reports half of each. `trip` is told when it is the last.
    fn time_trips(&self, mut trip: impl FnMut(u64) -> Result<()>) -> Result<Figures> {
        let unit = clock::unit();
        let mut halves = Histogram::new();
        let span = |time: Duration| (time.as_nanos() as f64 / unit) as u64;
        let start = clock::now();
        let (record, end) = (start + span(self.time / WARM_UP), start + span(self.time));
        let (mut number, mut before) = (0, start);
        while before < end || halves.count() < FEWEST {
            trip(number)?;
            number += 1;
            let now = clock::now();
            if before >= record {
                // Tenths of a nanosecond, one way.
                halves.add(((now - before) as f64 * unit * 5.0) as u64);
            }
            before = now;
        }
        trip(LAST)?;
        Ok(percentiles(&halves, 0.1))
    }
}

/// Figures of times that are counted in `unit` nanoseconds.
fn percentiles(times: &Histogram, unit: f64) -> Figures {
    let shares = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    let figure = |share| times.percentile(share).map_or(Value::Null, |time| (time as f64 * unit).into());
    shares.into_iter().map(|(name, share)| (name.to_string(), figure(share))).collect()
}

fn rates(messages: u64, bytes: u64, time: Duration, lost: u64) -> Figures {
    let seconds = time.as_secs_f64();
    let rate = messages as f64 / seconds;
    let figures = [("rate", rate), ("bytes", bytes as f64 / seconds), ("lost", lost as f64)];
    figures.into_iter().map(|(name, figure)| (name.to_string(), figure.into())).collect()
}

fn wrong(number: u64, found: u64) -> Failure {
    Failure::Failed(format!("message {found} came where {number} was expected"))
}

/// Two lines with one writer each: what any message between two processors has to pay.
fn line(part: &Part<'_>) -> Result<Option<Figures>> {
    let [there, back] = &part.stage.lines;
    part.stage.meet();
    if part.role == 0 {
        let trip = |number: u64| {
            let number = number.wrapping_add(1);
            there.0.store(number, Ordering::Release);
            while back.0.load(Ordering::Acquire) != number {
                spin_loop();
            }
            Ok(())
        };
        return part.time_trips(trip).map(Some);
    }
    let mut seen = 0;
    loop {
        let now = there.0.load(Ordering::Acquire);
        if now != seen {
            back.0.store(now, Ordering::Release);
            seen = now;
            // `LAST`, and one.
            if now == 0 {
                return Ok(None);
            }
        }
        spin_loop();
    }
}

/// Messages are written and copied out whole on both ways.
fn words_there_and_back(part: &Part<'_>) -> Result<Option<Figures>> {
    let [mine, other] = if part.role == 0 { ["there", "back"] } else { ["back", "there"] };
    let mut publisher = part.publisher::<Eight>().open(mine)?;
    let mut subscriber = part.subscriber::<Eight>(other)?;
    part.stage.meet();
    let mut receive = || loop {
        if let Some(sample) = subscriber.try_recv()? {
            let copy = black_box(*sample);
            return Ok::<u64, Failure>(copy.words[0]);
        }
        spin_loop();
    };
    let mut send = |number| publisher.publish(&Eight { words: [number; 8] }).map(drop).map_err(Failure::from);
    answer(part, &mut receive, &mut send)
}

/// As [`words_there_and_back`], with `touched` bytes of `len`.
fn frames_there_and_back(part: &Part<'_>, len: usize, touched: usize) -> Result<Option<Figures>> {
    let [mine, other] = if part.role == 0 { ["there", "back"] } else { ["back", "there"] };
    let mut publisher = part.bytes(len, 4).open(mine)?;
    let mut subscriber = part.byte_subscriber(other)?;
    let mut copy = vec![0; touched];
    part.stage.meet();
    let mut receive = || loop {
        if let Some(sample) = subscriber.try_recv()? {
            copy.copy_from_slice(&sample[..touched]);
            return Ok::<u64, Failure>(word(black_box(&copy)));
        }
        spin_loop();
    };
    let mut send = |number: u64| {
        let mut loan = publisher.loan(len)?;
        fill(&mut loan[..touched], number);
        loan.commit();
        Ok(())
    };
    answer(part, &mut receive, &mut send)
}

fn fill(bytes: &mut [u8], number: u64) {
    bytes.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&number.to_ne_bytes()));
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
}

/// Role 0 sends and times, role 1 sends back.
fn answer(
    part: &Part<'_>,
    receive: &mut impl FnMut() -> Result<u64>,
    send: &mut impl FnMut(u64) -> Result<()>,
) -> Result<Option<Figures>> {
    if part.role == 0 {
        let figures = part.time_trips(|number| {
            send(number)?;
            let found = receive()?;
            if found == number { Ok(()) } else { Err(wrong(number, found)) }
        })?;
        part.stage.meet();
        return Ok(Some(figures));
    }
    loop {
        let number = receive()?;
        send(number)?;
        if number == LAST {
            break;
        }
    }
    part.stage.meet();
    Ok(None)
}

/// Time between two messages to somebody who sleeps.
const PACE: Duration = Duration::from_micros(100);

/// Calls `send` at the pace until the time is over.
fn pace(time: Duration, mut send: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let (mut due, mut sent) = (start + PACE * 20, 0);
    while start.elapsed() < time || sent < FEWEST {
        while Instant::now() < due {
            spin_loop();
        }
        send()?;
        sent += 1;
        due = Instant::now() + PACE;
    }
    Ok(())
}

fn futex_wake(part: &Part<'_>) -> Result<Option<Figures>> {
    let (stage, note) = (part.stage, &part.stage.note.0);
    stage.meet();
    if part.role == 0 {
        pace(part.time, || {
            note.store(monotonic_now(), Ordering::Relaxed);
            stage.wake();
            Ok(())
        })?;
        note.store(LAST, Ordering::Relaxed);
        stage.wake();
        return Ok(None);
    }
    let (mut times, mut seen) = (Histogram::new(), 0);
    loop {
        seen = stage.sleep(seen);
        let sent = note.load(Ordering::Relaxed);
        if sent == LAST {
            return Ok(Some(percentiles(&times, 1.0)));
        }
        times.add(monotonic_now().saturating_sub(sent));
    }
}

fn sleeper_woken(part: &Part<'_>) -> Result<Option<Figures>> {
    const TOPIC: &str = "wake";
    if part.role == 0 {
        let mut publisher = part.publisher::<Eight>().depth(1024).open(TOPIC)?;
        part.stage.meet();
        pace(part.time, || {
            publisher.publish(&Eight { words: [monotonic_now(); 8] })?;
            Ok(())
        })?;
        publisher.publish(&Eight { words: [LAST; 8] })?;
        part.stage.meet();
        return Ok(None);
    }
    let mut subscriber = part.subscriber::<Eight>(TOPIC)?;
    part.stage.meet();
    let mut times = Histogram::new();
    loop {
        let sent = subscriber.recv()?.words[0];
        if sent == LAST {
            break;
        }
        times.add(monotonic_now().saturating_sub(sent));
    }
    part.stage.meet();
    Ok(Some(percentiles(&times, 1.0)))
}

/// As many messages as all subscribers can take, in batches of `batch`.
fn words_stream(part: &Part<'_>, batch: usize) -> Result<Option<Figures>> {
    const TOPIC: &str = "stream";
    if part.role == 0 {
        let mut publisher = part.publisher::<Eight>().depth(3000).overflow(Overflow::Block).open(TOPIC)?;
        part.stage.meet();
        let mut messages = vec![Eight::default(); batch];
        let (start, mut number) = (Instant::now(), 0);
        let end = start + part.time;
        loop {
            // The clock costs as much as some messages.
            for _ in 0..256 / batch {
                for message in &mut messages {
                    message.words = [number; 8];
                    number += 1;
                }
                match batch {
                    1 => drop(publisher.publish(&messages[0])?),
                    _ => drop(publisher.publish_batch(&messages)?),
                }
            }
            if Instant::now() >= end {
                break;
            }
        }
        publisher.publish(&Eight { words: [LAST; 8] })?;
        // The subscribers are done, too, before the time is taken.
        part.stage.meet();
        let time = start.elapsed();
        let lost = part.stage.note.0.load(Ordering::Relaxed);
        return Ok(Some(rates(number, number * 64, time, lost)));
    }
    let mut subscriber = part.subscriber::<Eight>(TOPIC)?;
    part.stage.meet();
    let (mut expected, mut last) = (0, false);
    let mut failure = None;
    while !last {
        let take = |message: conduit::topic::Received<'_, Eight>| {
            let words = black_box(message.words);
            last = words[0] == LAST;
            if !last && words[7] != expected {
                failure.get_or_insert(wrong(expected, words[7]));
            }
            expected += 1;
        };
        if subscriber.recv_batch(batch.max(32), take)? == 0 {
            // Whoever shares the processor may have something to do.
            std::thread::yield_now();
        }
    }
    part.stage.note.0.fetch_add(subscriber.lost(), Ordering::Relaxed);
    part.stage.meet();
    failure.map_or(Ok(None), Err)
}

/// Messages that are written whole and copied out whole.
fn frames_stream(part: &Part<'_>, len: usize, depth: u32) -> Result<Option<Figures>> {
    const TOPIC: &str = "stream";
    if part.role == 0 {
        let mut publisher = part.bytes(len, depth).overflow(Overflow::Block).open(TOPIC)?;
        part.stage.meet();
        let (start, mut number) = (Instant::now(), 0);
        let end = start + part.time;
        while Instant::now() < end {
            let mut loan = publisher.loan(len)?;
            fill(&mut loan, number);
            loan.commit();
            number += 1;
        }
        let mut loan = publisher.loan(len)?;
        fill(&mut loan, LAST);
        loan.commit();
        part.stage.meet();
        let lost = part.stage.note.0.load(Ordering::Relaxed);
        return Ok(Some(rates(number, number * len as u64, start.elapsed(), lost)));
    }
    let mut subscriber = part.byte_subscriber(TOPIC)?;
    let mut copy = vec![0; len];
    part.stage.meet();
    for expected in 0.. {
        let sample = loop {
            if let Some(sample) = subscriber.try_recv()? {
                break sample;
            }
            spin_loop();
        };
        copy.copy_from_slice(&sample);
        let (first, last) = (word(black_box(&copy)), word(&copy[len - 8..]));
        if first == LAST {
            break;
        }
        if (first, last) != (expected, expected) {
            return Err(wrong(expected, last));
        }
    }
    part.stage.note.0.fetch_add(subscriber.lost(), Ordering::Relaxed);
    part.stage.meet();
    Ok(None)
}

fn copy(part: &Part<'_>, len: usize) -> Result<Option<Figures>> {
    let (from, mut to) = (vec![1u8; len], vec![0u8; len]);
    let (start, mut number) = (Instant::now(), 0);
    while start.elapsed() < part.time {
        black_box(&mut to[..]).copy_from_slice(black_box(&from));
        number += 1;
    }
    let mut figures = rates(number, number * len as u64, start.elapsed(), 0);
    figures.remove("lost");
    Ok(Some(figures))
}

/// The cost of a call while `subscribers` are there, who neither read nor sleep.
fn publish_call(part: &Part<'_>, subscribers: usize) -> Result<Option<Figures>> {
    const TOPIC: &str = "calls";
    const CALLS: u64 = 256;
    if part.role > 0 {
        let open: Result<Vec<_>> = (0..subscribers).map(|_| part.subscriber::<Eight>(TOPIC)).collect();
        let open = open?;
        part.stage.meet();
        part.stage.sleep(0);
        drop(open);
        return Ok(None);
    }
    let mut publisher = part.publisher::<Eight>().open(TOPIC)?;
    part.stage.meet();
    let unit = clock::unit();
    let mut blocks = Histogram::new();
    let (start, mut number) = (Instant::now(), 0u64);
    while start.elapsed() < part.time {
        let before = clock::now();
        for _ in 0..CALLS {
            publisher.publish(black_box(&Eight { words: [number; 8] }))?;
            number += 1;
        }
        blocks.add(((clock::now() - before) as f64 * unit) as u64);
    }
    part.stage.wake();
    let call = blocks.percentile(0.5).map_or(Value::Null, |block| (block as f64 / CALLS as f64).into());
    Ok(Some([("call".to_string(), call)].into_iter().collect()))
}
