//! `conduit hz`: how often messages come, how evenly, how late, and how many are lost.
//!
//! A thread observes each topic and keeps what it saw; the main thread reports on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use conduit::Error;
use conduit::topic::{Observer, Start};
use serde_json::{Value, json};

use crate::events::{Events, something_was_done};
use crate::follow::Follow;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, note};
use crate::stats::{Histogram, Spread, percentile};
use crate::{Context, completions, units};

/// Measure rate, jitter, latency, bytes and loss
///
/// Rate and jitter are those of publishing where messages have timestamps, else those of their arrival here. Latency is
/// the time from publishing to here; GAP max is the longest time between two messages. The last lines are about the whole
/// time.
#[derive(clap::Args)]
pub struct Args {
    /// Topics, or patterns
    #[arg(required = true, value_name = "TOPIC", add = completions::topics())]
    topics: Vec<String>,
    /// Measure over the last so many messages [default: those since the last report]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    window: Option<u32>,
    /// Stop after this time
    #[arg(short, long, value_name = "TIME", value_parser = units::duration)]
    duration: Option<Duration>,
}

/// Time between two reports.
const INTERVAL: Duration = Duration::from_secs(1);

/// Messages kept for a report where no window is asked for.
const MOST_KEPT: usize = 1 << 20;

/// Of one message.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Of arrival, on the monotonic clock in nanoseconds.
    pub arrived: u64,
    pub published: Option<u64>,
    pub bytes: u64,
    /// Messages lost before this one.
    pub lost: u64,
}

impl Sample {
    fn time(&self) -> u64 {
        self.published.unwrap_or(self.arrived)
    }

    fn latency(&self) -> Option<u64> {
        Some(self.arrived.saturating_sub(self.published?))
    }

    /// Time since the message before; `None` if there were others between them, which are lost.
    fn interval(&self, before: &Sample) -> Option<f64> {
        (self.lost == 0).then(|| self.time().saturating_sub(before.time()) as f64)
    }
}

/// What a topic's thread has seen.
struct Seen {
    /// The last messages: as many as were asked for, or those since the last report and the one before.
    recent: VecDeque<Sample>,
    window: Option<usize>,
    fresh: u64,
    fresh_lost: u64,
    // Over the whole time:
    count: u64,
    bytes: u64,
    lost: u64,
    first: Option<Sample>,
    last: Option<Sample>,
    intervals: Spread,
    latencies: Histogram,
    ended: bool,
}

impl Seen {
    fn new(window: Option<u32>) -> Self {
        Seen {
            recent: VecDeque::new(),
            window: window.map(|window| window as usize),
            fresh: 0,
            fresh_lost: 0,
            count: 0,
            bytes: 0,
            lost: 0,
            first: None,
            last: None,
            intervals: Spread::default(),
            latencies: Histogram::new(),
            ended: false,
        }
    }

    fn add(&mut self, sample: Sample) {
        if let Some(interval) = self.last.as_ref().and_then(|last| sample.interval(last)) {
            self.intervals.add(interval);
        }
        if let Some(latency) = sample.latency() {
            self.latencies.add(latency);
        }
        if self.recent.len() == self.window.unwrap_or(MOST_KEPT) {
            self.recent.pop_front();
        }
        self.recent.push_back(sample);
        self.fresh += 1;
        self.fresh_lost += sample.lost;
        self.count += 1;
        self.bytes += sample.bytes;
        self.lost += sample.lost;
        self.first.get_or_insert(sample);
        self.last = Some(sample);
    }

    /// What has come since the last report, or the window.
    fn report(&mut self) -> Report {
        let mut report = Report { lost: std::mem::take(&mut self.fresh_lost), ..Report::default() };
        if std::mem::take(&mut self.fresh) == 0 {
            report.rate = Some(0.0);
            report.bytes = Some(0.0);
            return report;
        }
        for (before, after) in self.recent.iter().zip(self.recent.iter().skip(1)) {
            if let Some(interval) = after.interval(before) {
                report.intervals.add(interval);
            }
        }
        let mut latencies: Vec<u64> = self.recent.iter().filter_map(Sample::latency).collect();
        latencies.sort_unstable();
        report.latency = [0.5, 0.99, 1.0].map(|share| percentile(&latencies, share));
        report.count = self.recent.len() as u64;
        let later = || self.recent.iter().skip(1);
        let messages = later().map(|sample| 1 + sample.lost).sum();
        let bytes = later().map(|sample| sample.bytes).sum();
        report.set_rates(self.recent.front(), self.recent.back(), messages, bytes);
        if self.window.is_none() {
            self.recent.drain(..self.recent.len() - 1);
        }
        report
    }

    fn total(&self) -> Report {
        let mut report = Report { count: self.count, lost: self.lost, intervals: self.intervals, ..Report::default() };
        let (messages, bytes) = match &self.first {
            Some(first) => (self.count - 1 + self.lost - first.lost, self.bytes - first.bytes),
            None => (0, 0),
        };
        report.set_rates(self.first.as_ref(), self.last.as_ref(), messages, bytes);
        report.latency = [self.latencies.percentile(0.5), self.latencies.percentile(0.99), self.latencies.max()];
        report
    }
}

/// Figures about some messages.
#[derive(Default)]
struct Report {
    count: u64,
    lost: u64,
    rate: Option<f64>,
    bytes: Option<f64>,
    intervals: Spread,
    /// p50, p99, max.
    latency: [Option<u64>; 3],
}

impl Report {
    /// From the messages after the first: lost ones were published, too.
    fn set_rates(&mut self, first: Option<&Sample>, last: Option<&Sample>, messages: u64, bytes: u64) {
        let span = last.zip(first).and_then(|(last, first)| last.time().checked_sub(first.time()));
        if let Some(span) = span.filter(|span| *span > 0) {
            self.rate = Some(messages as f64 * 1e9 / span as f64);
            self.bytes = Some(bytes as f64 * 1e9 / span as f64);
        }
    }

    fn json(&self, topic: &str, total: bool) -> Value {
        json!({
            "topic": topic,
            "total": total,
            "messages": self.count,
            "lost": self.lost,
            "rate": self.rate,
            "bytes_per_second": self.bytes,
            "period_ns": {
                "mean": self.intervals.mean(),
                "min": self.intervals.min(),
                "max": self.intervals.max(),
                "jitter": self.intervals.deviation(),
            },
            "latency_ns": { "p50": self.latency[0], "p99": self.latency[1], "max": self.latency[2] },
        })
    }

    fn cells(&self) -> [String; 8] {
        let time = |value: Option<f64>| value.map_or("-".into(), units::time);
        let [p50, p99, max] = self.latency.map(|value| time(value.map(|value| value as f64)));
        [
            self.rate.map_or("-".into(), units::hertz),
            time(self.intervals.deviation()),
            time(self.intervals.max()),
            p50,
            p99,
            max,
            self.bytes.map_or("-".into(), units::bytes),
            // Five columns.
            if self.lost < 10_000 { units::count(self.lost) } else { units::short(self.lost) },
        ]
    }
}

/// Writes reports: JSON, or rows below a head.
struct Sheet {
    out: Out,
    json: bool,
    /// Of the column of topics below the last head; 0 before the first.
    width: usize,
}

impl Sheet {
    fn new(json: bool) -> Self {
        Sheet { out: Out::new(), json, width: 0 }
    }

    /// Rows of these topics follow: writes a head, unless there is one that fits them.
    fn head<'t>(&mut self, topics: impl Iterator<Item = &'t String>) -> Result<()> {
        const HEAD: [&str; 8] = ["RATE", "JITTER", "GAP max", "LAT p50", "LAT p99", "LAT max", "BYTES/s", "LOST"];
        // What the other columns leave of 80.
        const LEAST: usize = 11;
        let longest = topics.map(|topic| topic.chars().count()).max();
        let Some(width) = longest.map(|longest| longest.max(LEAST)).filter(|width| !self.json && *width > self.width)
        else {
            return Ok(());
        };
        self.width = width;
        let head = self.line("TOPIC", &HEAD.map(Into::into));
        self.out.line(self.out.style.bold(head))
    }

    fn report(&mut self, topic: &str, report: &Report) -> Result<()> {
        if self.json {
            return self.out.json(&report.json(topic, false));
        }
        let line = self.line(topic, &report.cells());
        self.out.line(line)
    }

    fn totals(&mut self, totals: &[(&String, Report)]) -> Result<()> {
        if self.json {
            return totals.iter().try_for_each(|(topic, total)| self.out.json(&total.json(topic, true)));
        }
        self.head(totals.iter().map(|(topic, _)| *topic))?;
        let messages = totals.iter().map(|(_, total)| total.count).sum();
        let title = format!("total of {}", units::several(messages, "message", "messages"));
        self.out.line(self.out.style.bold(title))?;
        for (topic, total) in totals {
            let line = self.line(topic, &total.cells());
            self.out.line(self.out.style.bold(line))?;
        }
        Ok(())
    }

    fn line(&self, topic: &str, cells: &[String; 8]) -> String {
        let [rate, jitter, gap, p50, p99, max, bytes, lost] = cells;
        let width = self.width;
        format!("{topic:width$} {rate:>8} {jitter:>8} {gap:>8} {p50:>8} {p99:>8} {max:>8} {bytes:>8} {lost:>5}")
    }
}

pub fn run(args: &Args, context: &Context) -> Result {
    let mut events = Events::new()?;
    events.watch_topics()?;
    let mut topics = Follow::new(&args.topics, context);
    let mut seen = BTreeMap::new();
    measure_new(&mut topics, &mut seen, args.window)?;
    topics.say_what_is_awaited(context);
    let start = Instant::now();
    let end = args.duration.map(|duration| start + duration);
    let mut due = start + INTERVAL;
    let mut sheet = Sheet::new(context.json);
    loop {
        let woken = events.wait(&[], Some(end.map_or(due, |end| end.min(due))))?;
        let now = Instant::now();
        let is_over = woken.interrupted || end.is_some_and(|end| end <= now);
        if woken.topics {
            measure_new(&mut topics, &mut seen, args.window)?;
        }
        if due <= now && !is_over {
            due = now.max(due + INTERVAL);
            sheet.head(seen.keys())?;
            for (topic, seen) in &seen {
                sheet.report(topic, &lock(seen).report())?;
                something_was_done();
            }
            sheet.out.flush()?;
        }
        if is_over {
            return sum_up(&seen, sheet, woken.interrupted);
        }
        topics.check(seen.values().filter(|seen| lock(seen).ended).count())?;
    }
}

type Shared = Arc<Mutex<Seen>>;

fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread for each topic that is new.
fn measure_new(topics: &mut Follow, seen: &mut BTreeMap<String, Shared>, window: Option<u32>) -> Result<()> {
    for (topic, observer) in topics.open(Start::New)? {
        let of_topic = Arc::new(Mutex::new(Seen::new(window)));
        let seen_there = of_topic.clone();
        observe_in_thread(observer, topic.clone(), move |sample| match sample {
            Some(sample) => lock(&seen_there).add(sample),
            None => lock(&seen_there).ended = true,
        })?;
        seen.insert(topic, of_topic);
    }
    Ok(())
}

fn sum_up(seen: &BTreeMap<String, Shared>, mut sheet: Sheet, interrupted: bool) -> Result {
    let totals: Vec<_> = seen.iter().map(|(topic, seen)| (topic, lock(seen).total())).collect();
    if !totals.is_empty() {
        sheet.totals(&totals)?;
    }
    sheet.out.flush()?;
    let sum = |figure: fn(&Report) -> u64| totals.iter().map(|(_, total)| figure(total)).sum::<u64>();
    let (messages, lost) = (sum(|total| total.count), sum(|total| total.lost));
    Ok(match (messages, lost) {
        (0, _) if interrupted => Outcome::Interrupted,
        (0, _) => {
            note(format_args!("no message came"));
            Outcome::TimedOut
        }
        (_, 0) => Outcome::Done,
        (_, _) => Outcome::Degraded,
    })
}

/// Observes a topic in a thread of its own, and has each message told; `None` at the end, if it cannot be read any more.
pub fn observe_in_thread(
    mut observer: Observer,
    topic: String,
    mut each: impl FnMut(Option<Sample>) + Send + 'static,
) -> Result<()> {
    let observe = move || {
        if let Err(error) = observe(&mut observer, &mut each) {
            note(format_args!("{topic}: {error}"));
            each(None);
        }
    };
    let thread = std::thread::Builder::new().name("observer".into()).spawn(observe);
    thread.map(drop).map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))
}

fn observe(observer: &mut Observer, each: &mut impl FnMut(Option<Sample>)) -> std::result::Result<(), Error> {
    const LONG: Duration = Duration::from_secs(3600);
    loop {
        let Some(observed) = observer.next_timeout(LONG)? else { continue };
        each(Some(Sample {
            arrived: monotonic_now(),
            published: observed.timestamp.map(|timestamp| timestamp.as_nanos() as u64),
            bytes: observed.data.len() as u64,
            lost: observed.lagged,
        }));
    }
}

/// The clock of timestamps, in nanoseconds.
pub fn monotonic_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
