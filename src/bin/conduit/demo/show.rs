//! What a demo shows: figures as it goes, and what came of it.

use std::time::{Duration, Instant};

use conduit::topic::TopicInfo;
use serde_json::{Value, json};

use super::cast::{Cast, Fate, Member};
use super::scan::Scan;
#[cfg(feature = "tank")]
use super::tape::Taped;
use crate::outcome::Result;
use crate::output::{COLUMNS, Out, terminal_size, wrap};
use crate::units;

/// On a terminal the figures are renewed in place; elsewhere they are lines.
pub struct Show {
    out: Out,
    json: bool,
    /// When the figures were shown, and how much each process had done by then.
    before: Option<(Instant, Vec<u64>)>,
}

impl Show {
    pub fn new(json: bool) -> Self {
        Show { out: Out::new(), json, before: None }
    }

    fn in_place(&self) -> bool {
        self.out.style.in_place && !self.json
    }

    /// Time between two looks at the figures.
    pub fn interval(&self, duration: Duration) -> Duration {
        if self.in_place() { Duration::from_millis(200) } else { (duration / 5).min(Duration::from_secs(1)) }
    }

    pub fn begin(&mut self, cast: &Cast, info: &TopicInfo) -> Result<()> {
        let pid = |member: &Member| format!("{} ({})", member.name, member.pid);
        if self.json {
            let processes = cast.members.iter().map(|member| json!({ "name": member.name, "pid": member.pid }));
            let processes: Vec<_> = processes.collect();
            self.out.json(&json!({ "event": "started", "file": info.path, "processes": processes }))?;
        } else {
            let subscribers: Vec<_> = cast.subscribers().iter().map(pid).collect();
            self.out.line(format_args!(
                "Process {} publishes {} B a thousand times a second.",
                cast.publisher().pid,
                size_of::<Scan>(),
            ))?;
            self.out.line(format_args!("{} receive, each a process.", subscribers.join(", ")))?;
            self.out.line("")?;
        }
        self.out.flush()
    }

    /// Something that happened.
    pub fn event(&mut self, start: Instant, event: &str, text: &str) -> Result<()> {
        if self.json {
            self.out.json(&json!({ "event": event, "at_s": seconds(start) }))?;
        } else {
            self.out.erase()?;
            let text = self.out.style.bold(format!("{:5.1} s  {text}", start.elapsed().as_secs_f64()));
            self.out.line(text)?;
        }
        self.out.flush()
    }

    pub fn progress(&mut self, start: Instant, cast: &Cast) -> Result<()> {
        let now = Instant::now();
        let done: Vec<u64> = cast.members.iter().map(|member| member.figure(counted(member))).collect();
        let rates: Vec<f64> = match &self.before {
            Some((then, before)) => {
                let past = now.duration_since(*then).as_secs_f64();
                let before = before.iter().copied().chain(std::iter::repeat(0));
                done.iter().zip(before).map(|(now, before)| now.saturating_sub(before) as f64 / past).collect()
            }
            None => done.iter().map(|done| *done as f64 / start.elapsed().as_secs_f64()).collect(),
        };
        self.before = Some((now, done));
        if self.json {
            let member = |(member, rate): (&Member, &f64)| {
                let mut json = json!({ "name": member.name, "pid": member.pid, "rate": rate, "killed": member.fate == Fate::Killed });
                for name in ["published", "received", "lost", "latency_ns"] {
                    if !member.report[name].is_null() {
                        json[name] = member.report[name].clone();
                    }
                }
                json
            };
            let processes: Vec<_> = cast.members.iter().zip(&rates).map(member).collect();
            self.out.json(&json!({ "event": "progress", "at_s": seconds(start), "processes": processes }))?;
            return self.out.flush();
        }
        let at = start.elapsed().as_secs_f64();
        let lines: Vec<_> = cast.members.iter().zip(&rates).map(|(member, rate)| row(at, member, *rate)).collect();
        if self.in_place() {
            let (width, _) = terminal_size();
            return self.out.draw(lines.iter().map(|line| line.chars().take(width - 1).collect()).collect());
        }
        for (line, _) in lines.iter().zip(&cast.members).filter(|(_, member)| member.fate == Fate::Playing) {
            self.out.line(line)?;
        }
        self.out.flush()
    }

    pub fn summary(&mut self, summary: &Summary, cast: &Cast) -> Result<()> {
        self.out.erase()?;
        if self.json {
            self.out.json(&summary.json(cast))?;
        } else {
            self.out.line("")?;
            for (title, lines) in summary.chapters(cast) {
                self.out.line(self.out.style.bold(title))?;
                for (name, text) in lines {
                    self.entry(name, &text)?;
                }
                self.out.line("")?;
            }
        }
        self.out.flush()
    }

    fn entry(&mut self, name: &str, text: &str) -> Result<()> {
        const INDENT: usize = 14;
        let style = self.out.style;
        for (at, line) in wrap(text, COLUMNS - INDENT).iter().enumerate() {
            let name = format!("{:10}", if at == 0 { name } else { "" });
            let name = match name.trim_end() {
                PASS => style.good(name),
                FAIL => style.warning(name),
                _ => name,
            };
            self.out.line(format_args!("  {name}  {line}"))?;
        }
        Ok(())
    }
}

/// Verdicts.
const PASS: &str = "PASS";
const FAIL: &str = "FAIL";

fn seconds(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

/// What a process's work is measured in.
fn counted(member: &Member) -> &'static str {
    if member.name == "publisher" { "published" } else { "received" }
}

fn row(at: f64, member: &Member, rate: f64) -> String {
    let head = format!("{at:5.1} s  {:9}", member.name);
    if member.fate == Fate::Killed {
        return format!("{head}  killed");
    }
    let count = units::count(member.figure(counted(member)));
    if member.name == "publisher" {
        let bytes = units::bytes(rate * size_of::<Scan>() as f64);
        return format!("{head} {:>9}  {bytes}/s, {count} published", units::hertz(rate));
    }
    let time = |name: &str| member.report["latency_ns"][name].as_f64().map_or("-".into(), units::time);
    // At most 79 columns, or terminals would wrap it.
    format!(
        "{head} {:>9}  p50 {:>7} p99 {:>7} max {:>7}  {} lost",
        units::hertz(rate),
        time("p50"),
        time("p99"),
        time("max"),
        units::count(member.figure("lost"))
    )
}

/// What came of a demo.
pub struct Summary {
    pub info: TopicInfo,
    pub duration: Duration,
    pub killed_at: Option<Duration>,
    pub joined_at: Option<Duration>,
    /// What should have held and did not.
    pub problems: Vec<String>,
    /// Messages lost by subscribers that take no naps.
    pub lost_by_the_quick: u64,
    in_place: u64,
    received: u64,
    #[cfg(feature = "tank")]
    taped: Option<Taped>,
}

type Chapter = (&'static str, Vec<(&'static str, String)>);

impl Summary {
    pub fn new(info: TopicInfo) -> Self {
        Summary {
            info,
            duration: Duration::ZERO,
            killed_at: None,
            joined_at: None,
            problems: Vec::new(),
            lost_by_the_quick: 0,
            in_place: 0,
            received: 0,
            #[cfg(feature = "tank")]
            taped: None,
        }
    }

    pub fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// Checks the reports against each other.
    pub fn account_for(&mut self, cast: &Cast) {
        let published = cast.publisher().figure("published");
        for member in cast.subscribers().iter().filter(|member| member.total.is_some()) {
            let name = member.name;
            let [received, lost, in_place, torn] =
                ["received", "lost", "in_place", "torn"].map(|figure| member.figure(figure));
            let (first, last) = (member.figure("first"), member.figure("last"));
            self.check(torn == 0, || format!("{name} received {torn} torn messages"));
            self.check(in_place == received, || format!("{name} read {} messages elsewhere", received - in_place));
            self.check(received + lost == last + 1 - first, || {
                format!("{name} received {received} and lost {lost} of {}", last + 1 - first)
            });
            self.check(last + 1 == published, || format!("{name} ended with message {last} of {published}"));
            self.in_place += in_place;
            self.received += received;
            if name != "slow" {
                self.lost_by_the_quick += lost;
            }
        }
        let kept = self.kept(cast).map(|kept| kept["unchanged"] == true);
        self.check(kept != Some(false), || "a message changed while it was held".into());
    }

    /// Checks that what was recorded came again as it was.
    #[cfg(feature = "tank")]
    pub fn account_for_tape(&mut self, taped: Taped) {
        self.check(taped.same == taped.recorded, || {
            format!("of {} recorded messages, {} came again as they were", taped.recorded, taped.same)
        });
        self.lost_by_the_quick += taped.lost;
        self.taped = Some(taped);
    }

    /// What is to be said of the recording.
    #[cfg(feature = "tank")]
    fn tape(&self) -> String {
        let Some(Taped { recorded, lost, bytes, took, .. }) = &self.taped else { return "was not made".into() };
        let lost = if *lost == 0 { "none lost".into() } else { format!("{} lost", units::count(*lost)) };
        format!(
            "took {} into an MCAP file of {}, {lost}; played again in {}, each came as it was",
            units::several(*recorded, "message", "messages"),
            units::memory(*bytes),
            units::time(took.as_nanos() as f64),
        )
    }

    #[cfg(not(feature = "tank"))]
    fn tape(&self) -> String {
        "left out: this program was built without the feature `tank`".into()
    }

    fn kept<'c>(&self, cast: &'c Cast) -> Option<&'c Value> {
        cast.member("steady")?.total.as_ref()?.get("kept")
    }

    fn json(&self, cast: &Cast) -> Value {
        let subscribers = cast.subscribers().iter().map(|member| match &member.total {
            Some(total) => {
                let mut total = total.clone();
                total["name"] = member.name.into();
                total["pid"] = member.pid.into();
                total
            }
            None => json!({ "name": member.name, "pid": member.pid, "killed": true }),
        });
        #[cfg(feature = "tank")]
        let recording = self.taped.as_ref().map(|taped| {
            json!({ "recorded": taped.recorded, "lost": taped.lost, "bytes": taped.bytes, "came_again": taped.same })
        });
        #[cfg(not(feature = "tank"))]
        let recording = Value::Null;
        json!({
            "event": "summary",
            "recording": recording,
            "ok": self.problems.is_empty(),
            "problems": self.problems,
            "duration_s": self.duration.as_secs_f64(),
            "published": cast.publisher().figure("published"),
            "message_bytes": size_of::<Scan>(),
            "skipped_slots": self.info.skips,
            "in_place": { "samples": self.in_place, "of": self.received, "file": self.info.path, "written_at": cast.publisher().figure("offset") },
            "subscribers": subscribers.collect::<Vec<_>>(),
        })
    }

    fn chapters(&self, cast: &Cast) -> Vec<Chapter> {
        let lines = |lines: &[(&'static str, &str)]| lines.iter().map(|&(name, text)| (name, text.into())).collect();
        vec![
            ("What happened", self.what_happened(cast)),
            ("In place, without a copy", self.proof(cast)),
            ("Verdict", vec![self.verdict(cast)]),
            (
                "Try next",
                lines(&[
                    ("install", "cargo install --locked --path . --features full"),
                    ("terminal 1", "conduit echo greetings"),
                    ("terminal 2", "conduit pub greetings 'hello, world'"),
                    ("typed", "conduit pub imu -t imu --rate 100 '{\"angular_velocity\": {\"z\": 1}}'"),
                    ("meanwhile", "conduit hz imu"),
                    ("", "conduit info imu --schema"),
                    ("", "conduit echo imu --field angular_velocity.z"),
                    ("measure", "conduit bench"),
                    ("in Rust", "cargo run --release --features std --example typed"),
                ]),
            ),
        ]
    }

    /// What was shown, or what should have held and did not.
    fn verdict(&self, cast: &Cast) -> (&'static str, String) {
        if !self.problems.is_empty() {
            return (FAIL, self.problems.join("; "));
        }
        let samples = units::several(self.received, "sample", "samples");
        let mut shown = vec![format!("{samples} whole and read where they were written"), "every loss counted".into()];
        if self.killed_at.is_some() {
            shown.push("the place of a subscriber that was killed free again".into());
        }
        if self.kept(cast).is_some() {
            shown.push("a held message that stayed as it was".into());
        }
        shown.push("no file left in /dev/shm".into());
        let mut verdict = shown.join(", ");
        if self.lost_by_the_quick > 0 {
            let lost = units::several(self.lost_by_the_quick, "message", "messages");
            verdict.push_str(&format!("; but the machine stood still for so long that {lost} were overwritten unread"));
        }
        (PASS, verdict)
    }

    fn what_happened(&self, cast: &Cast) -> Vec<(&'static str, String)> {
        let published = units::several(cast.publisher().figure("published"), "message", "messages");
        let mut lines = vec![("publisher", format!("published {published} of {} B", size_of::<Scan>()))];
        for member in cast.subscribers() {
            lines.push((member.name, self.story(member)));
        }
        lines.push(("recorder", self.tape()));
        lines
    }

    fn story(&self, member: &Member) -> String {
        let Some(total) = &member.total else {
            let after = self.killed_at.unwrap_or_default().as_nanos() as f64;
            return format!(
                "was killed with -9 after {} while it held a message: its place was free at once, nobody waited for it",
                units::time(after)
            );
        };
        let (received, lost, history) = (member.figure("received"), member.figure("lost"), member.figure("history"));
        let time = |name: &str| total["latency_ns"][name].as_f64().map_or("-".into(), units::time);
        let mut story = String::new();
        if member.name == "late" {
            let after = units::time(self.joined_at.unwrap_or_default().as_nanos() as f64);
            story = format!("joined after {after}, found {} waiting, ", units::several(history, "message", "messages"));
        }
        let received = units::count(received);
        if lost == 0 {
            story.push_str(&format!("received all {received} since it joined"));
        } else {
            let why = if member.name == "slow" { "took naps: " } else { "" };
            story.push_str(&format!(
                "{why}received {received}, lost {}: together exactly what was published since it joined",
                units::count(lost)
            ));
        }
        if member.name != "slow" {
            story.push_str(&format!("; latency p50 {}, p99 {}, max {}", time("p50"), time("p99"), time("max")));
        }
        story
    }

    fn proof(&self, cast: &Cast) -> Vec<(&'static str, String)> {
        let mut lines = vec![("file", self.info.path.display().to_string())];
        let publisher = cast.publisher();
        if let Some(total) = &publisher.total {
            let (address, offset) = (total["address"].as_u64().unwrap_or(0), total["offset"].as_u64().unwrap_or(0));
            lines.push((
                "written",
                format!("by publisher ({}) at {address:#x}: {offset:#x} in that file", publisher.pid),
            ));
        }
        for member in cast.subscribers() {
            let Some(seen) = member.total.as_ref().map(|total| &total["seen_at"]) else { continue };
            let (address, offset) = (seen["address"].as_u64().unwrap_or(0), seen["offset"].as_u64().unwrap_or(0));
            let access = if seen["writable"] == true { "writable" } else { "mapped read-only" };
            lines.push(("read", format!("by {} ({}) at {address:#x}: {offset:#x}, {access}", member.name, member.pid)));
        }
        lines.push((
            "all",
            format!(
                "{} of {} were read where they were written, as each reader's /proc/self/maps says",
                units::count(self.in_place),
                units::several(self.received, "sample", "samples")
            ),
        ));
        if let Some(kept) = self.kept(cast) {
            let figure = |name: &str| units::count(kept[name].as_u64().unwrap_or(0));
            lines.push((
                "held",
                format!(
                    "steady kept message {} while {} more were published, {} times round the ring: the publisher stepped \
                     over it {} times, and not a byte of it changed",
                    figure("sequence"),
                    figure("published_meanwhile"),
                    figure("laps"),
                    units::count(self.info.skips)
                ),
            ));
        }
        lines
    }
}
