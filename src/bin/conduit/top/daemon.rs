//! What a daemon tells of itself in metrics, and what it did between two looks at them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use conduit::net::openmetrics::{Sample, samples};

use super::http;
use crate::events::Bell;
use crate::outcome::{Failure, Result};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many lanes are shown, whatever is told, and buckets of each looked at.
const MOST_LANES: usize = 16;
const MOST_BUCKETS: usize = 64;

/// What is counted, and the metric that is it: the sum of all its samples.
pub const RATES: [(&str, &str); 6] = [
    ("received", "conduit_events_received_total"),
    ("accepted", "conduit_events_accepted_total"),
    ("throttled", "conduit_events_throttled_total"),
    // Also what a handler failed at and nothing kept.
    ("dropped", "events_dropped_total"),
    ("dead_lettered", "conduit_events_dead_lettered_total"),
    ("duplicate", "conduit_events_duplicate_total"),
];

/// What a daemon does; rates are `None` at the first look, and when the daemon was another one at the last.
#[derive(Debug)]
pub struct Daemon {
    pub lanes: Vec<Lane>,
    /// Of [`RATES`], each second.
    pub rates: [Option<f64>; RATES.len()],
    pub connections: u64,
    pub memory: u64,
}

#[derive(PartialEq, Debug)]
pub struct Lane {
    pub name: String,
    pub depth: u64,
    pub capacity: u64,
    pub state: Option<String>,
    /// Events a second that were taken out.
    pub rate: Option<f64>,
    /// The part of them that was late.
    pub late: Option<f64>,
    /// What half of the latencies, and 99 %, do not exceed.
    pub latency: [Option<Bound>; 2],
}

/// A bound of a bucket in nanoseconds: what lies in the bucket is not known any closer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    AtMost(f64),
    Above(f64),
}

/// Asks a daemon for its metrics in a thread of its own, so that one that is slow keeps no key waiting.
pub struct Scraper {
    ask: Sender<()>,
    answers: Receiver<std::result::Result<Snapshot, String>>,
    last: Option<Snapshot>,
}

impl Scraper {
    pub fn start(address: &str, bell: Bell) -> Result<Self> {
        let (ask, asked) = channel();
        let (answer, answers) = channel();
        let address = address.to_string();
        let scrape = move || {
            while asked.recv().is_ok() {
                let text = http::get(&address, "/metrics", PATIENCE);
                if answer.send(text.and_then(|text| Snapshot::of(&text, Instant::now()))).is_err() {
                    return;
                }
                bell.ring();
            }
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(scrape);
        thread.map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Scraper { ask, answers, last: None })
    }

    /// The bell rings when there is an answer.
    pub fn ask(&mut self) {
        // The thread goes on as long as this does.
        let _ = self.ask.send(());
    }

    /// The answer, if it has come: what the daemon did since the last one, or why there is nothing to tell.
    pub fn answer(&mut self) -> Option<std::result::Result<Daemon, String>> {
        let answer = self.answers.try_recv().ok()?;
        let last = self.last.take();
        Some(answer.map(|snapshot| {
            let daemon = snapshot.since(last.as_ref());
            self.last = Some(snapshot);
            daemon
        }))
    }
}

/// Metrics of a moment.
#[derive(Debug)]
struct Snapshot {
    at: Instant,
    lanes: Vec<LaneCounts>,
    totals: [f64; RATES.len()],
    connections: f64,
    memory: f64,
}

#[derive(Default, Debug)]
struct LaneCounts {
    name: String,
    depth: f64,
    capacity: f64,
    state: Option<String>,
    processed: f64,
    late: f64,
    /// Bounds in seconds, and how many latencies do not exceed them.
    buckets: Vec<(f64, f64)>,
}

impl Snapshot {
    fn of(text: &str, at: Instant) -> std::result::Result<Self, String> {
        let (lanes, totals) = (Vec::new(), [0.0; RATES.len()]);
        let mut snapshot = Snapshot { at, lanes, totals, connections: 0.0, memory: 0.0 };
        for sample in samples(text) {
            snapshot.take(&sample.map_err(|error| format!("no metrics: {error}"))?);
        }
        if snapshot.lanes.is_empty() { Err("its metrics tell of no lanes".into()) } else { Ok(snapshot) }
    }

    fn take(&mut self, sample: &Sample<'_>) {
        let value = sample.value.as_f64();
        if let Some(at) = RATES.iter().position(|(_, metric)| *metric == sample.name) {
            self.totals[at] += value;
            return;
        }
        match (sample.name, sample.label("lane")) {
            ("conduit_connections", _) => self.connections = value,
            ("conduit_memory_bytes", _) => self.memory = value,
            (name, Some(lane)) if name.starts_with("conduit_lane_") => {
                if let Some(lane) = self.lane(lane) {
                    lane.take(name, value, sample);
                }
            }
            _ => {}
        }
    }

    /// The lane of that name; `None` if there are too many.
    fn lane(&mut self, name: &str) -> Option<&mut LaneCounts> {
        let at = self.lanes.iter().position(|lane| lane.name == name);
        let at = at.unwrap_or(self.lanes.len());
        if at == self.lanes.len() && at < MOST_LANES {
            self.lanes.push(LaneCounts { name: name.into(), ..LaneCounts::default() });
        }
        self.lanes.get_mut(at)
    }

    fn since(&self, before: Option<&Snapshot>) -> Daemon {
        let seconds = before.map(|before| self.at.saturating_duration_since(before.at).as_secs_f64());
        let rate = |now: f64, before: Option<f64>| {
            let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
            Some(grown(now, before?)? / seconds)
        };
        let lane = |lane: &LaneCounts| {
            let before = before.and_then(|before| before.lanes.iter().find(|other| other.name == lane.name));
            let done = before.and_then(|before| grown(lane.processed, before.processed));
            let late = before.and_then(|before| grown(lane.late, before.late));
            let buckets = before.map(|before| lane.buckets_since(before)).unwrap_or_default();
            Lane {
                name: lane.name.clone(),
                depth: lane.depth as u64,
                capacity: lane.capacity as u64,
                state: lane.state.clone(),
                rate: rate(lane.processed, before.map(|before| before.processed)),
                late: done.filter(|done| *done > 0.0).and_then(|done| Some((late? / done).min(1.0))),
                latency: [0.5, 0.99].map(|share| percentile(&buckets, share)),
            }
        };
        let mut rates = [None; RATES.len()];
        for (at, found) in rates.iter_mut().enumerate() {
            *found = rate(self.totals[at], before.map(|before| before.totals[at]));
        }
        let lanes = self.lanes.iter().map(lane).collect();
        Daemon { lanes, rates, connections: self.connections as u64, memory: self.memory as u64 }
    }
}

impl LaneCounts {
    fn take(&mut self, metric: &str, value: f64, sample: &Sample<'_>) {
        match metric {
            "conduit_lane_depth" => self.depth = value,
            "conduit_lane_capacity" => self.capacity = value,
            "conduit_lane_state" if value == 1.0 => self.state = sample.label("state").map(Into::into),
            "conduit_lane_processed_total" => self.processed = value,
            "conduit_lane_late_total" => self.late = value,
            "conduit_lane_latency_seconds_bucket" if self.buckets.len() < MOST_BUCKETS => {
                let bound = sample.label("le").and_then(|bound| bound.parse().ok());
                self.buckets.extend(bound.map(|bound: f64| (bound, value)));
            }
            _ => {}
        }
    }

    /// How many latencies since then do not exceed each bound; none if the bounds were others.
    fn buckets_since(&self, before: &LaneCounts) -> Vec<(f64, f64)> {
        let same = self.buckets.len() == before.buckets.len();
        let pairs = self.buckets.iter().zip(&before.buckets).filter(|_| same);
        let since = pairs.map(|(now, then)| (now.0 == then.0).then(|| Some((now.0, grown(now.1, then.1)?)))?);
        since.collect::<Option<_>>().unwrap_or_default()
    }
}

/// How much a counter has grown; `None` if it has begun anew.
fn grown(now: f64, before: f64) -> Option<f64> {
    Some(now - before).filter(|grown| grown.is_finite() && *grown >= 0.0)
}

/// The bucket that `share` of all are in or below.
fn percentile(buckets: &[(f64, f64)], share: f64) -> Option<Bound> {
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let rank = (all * share).ceil();
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let nanoseconds = |at: usize| buckets.get(at).map(|(bound, _)| bound * 1e9).filter(|bound| bound.is_finite());
    nanoseconds(at).map(Bound::AtMost).or_else(|| nanoseconds(at.checked_sub(1)?).map(Bound::Above))
}

#[cfg(test)]
mod tests {
    use conduit::engine::Stats;
    use conduit::lanes::Lane as Of;
    use conduit::net::{NetStats, metrics};

    use super::*;

    fn text(processed: u64, late: u64, buckets: [u64; 3]) -> String {
        let [a, b, all] = buckets;
        format!(
            "conduit_events_received_total{{priority=\"high\"}} {processed}\n\
             conduit_events_received_total{{priority=\"low\"}} 1\n\
             conduit_lane_depth{{lane=\"realtime\"}} 3\n\
             conduit_lane_state{{lane=\"realtime\",state=\"running\"}} 0\n\
             conduit_lane_state{{lane=\"realtime\",state=\"paused\"}} 1\n\
             conduit_lane_processed_total{{lane=\"realtime\"}} {processed}\n\
             conduit_lane_late_total{{lane=\"realtime\"}} {late}\n\
             conduit_lane_latency_seconds_bucket{{lane=\"realtime\",le=\"1e-6\"}} {a}\n\
             conduit_lane_latency_seconds_bucket{{lane=\"realtime\",le=\"0.001\"}} {b}\n\
             conduit_lane_latency_seconds_bucket{{lane=\"realtime\",le=\"+Inf\"}} {all}\n# EOF\n"
        )
    }

    #[test]
    fn what_a_daemon_did_is_the_difference_of_two_looks() {
        let begin = Instant::now();
        let first = Snapshot::of(&text(100, 10, [50, 60, 100]), begin).unwrap();
        let second = Snapshot::of(&text(300, 60, [150, 258, 300]), begin + Duration::from_secs(2)).unwrap();
        let alone = first.since(None);
        assert_eq!((alone.rates[0], alone.lanes[0].rate, alone.lanes[0].depth), (None, None, 3));
        let daemon = second.since(Some(&first));
        assert_eq!((daemon.rates[0], daemon.rates[1]), (Some(100.0), Some(0.0)));
        let lane = &daemon.lanes[0];
        assert_eq!((lane.state.as_deref(), lane.rate, lane.late), (Some("paused"), Some(100.0), Some(0.25)));
        assert_eq!(lane.latency, [Some(Bound::AtMost(1000.0)), Some(Bound::AtMost(1e6))]);
        // One that has begun anew.
        let again = first.since(Some(&second));
        assert_eq!((again.rates[0], again.lanes[0].rate, again.lanes[0].latency), (None, None, [None; 2]));
    }

    #[test]
    fn what_is_above_all_bounds_is_known_to_be_that() {
        let buckets = [(1e-6, 1.0), (f64::INFINITY, 100.0)];
        assert_eq!(percentile(&buckets, 0.5), Some(Bound::Above(1000.0)));
        assert_eq!(percentile(&buckets, 0.01), Some(Bound::AtMost(1000.0)));
        assert_eq!(percentile(&[(f64::INFINITY, 1.0)], 0.5), None);
        assert_eq!((percentile(&[], 0.5), percentile(&[(1.0, 0.0)], 0.5)), (None, None));
        assert_eq!(percentile(&[(f64::NAN, f64::NAN)], 0.5), None);
    }

    #[test]
    fn a_hostile_text_makes_no_more_of_itself_than_a_screen_holds() {
        let lanes: String = (0..1000).map(|n| format!("conduit_lane_depth{{lane=\"{n}\"}} NaN\n")).collect();
        let buckets: String =
            (0..1000).map(|n| format!("conduit_lane_latency_seconds_bucket{{lane=\"0\",le=\"{n}\"}} -1\n")).collect();
        let snapshot = Snapshot::of(&format!("{lanes}{buckets}# EOF\n"), Instant::now()).unwrap();
        assert_eq!((snapshot.lanes.len(), snapshot.lanes[0].buckets.len()), (MOST_LANES, MOST_BUCKETS));
        let daemon = snapshot.since(Some(&snapshot));
        assert_eq!((daemon.lanes[0].depth, daemon.lanes[0].rate), (0, None));
        let cut = Snapshot::of(&lanes, Instant::now()).unwrap_err();
        assert_eq!(cut, "no metrics: line 1001: the text ends without `# EOF`");
        assert_eq!(Snapshot::of("up 1\n# EOF\n", Instant::now()).unwrap_err(), "its metrics tell of no lanes");
    }

    #[test]
    fn what_this_version_tells_is_understood() {
        let engine = conduit::engine::Engine::options().domain(&format!("top-{}", std::process::id())).start().unwrap();
        let stats: Stats = engine.stats();
        let text = metrics(&stats, &NetStats::default());
        let snapshot = Snapshot::of(&text, Instant::now()).unwrap();
        assert!(snapshot.lanes.iter().map(|lane| &lane.name[..]).eq(Of::ALL.iter().map(|lane| lane.name())));
        for lane in &snapshot.lanes {
            assert!(lane.capacity > 0.0 && lane.state.as_deref() == Some("running") && lane.buckets.len() > 10);
        }
        let told: Vec<_> = samples(&text).map(|sample| sample.unwrap().name).collect();
        for metric in RATES.map(|(_, metric)| metric).iter().chain(&["conduit_connections", "conduit_memory_bytes"]) {
            assert!(told.contains(metric), "{metric}");
        }
    }
}
