//! `conduit play`: recordings on topics again.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use conduit::tank::{PlayProgress, PlayReport, Player};
use serde_json::{Map, Value, json};

use crate::events::{Events, something_was_done};
use crate::keys::Keys;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, Table, harmless, note, print_json};
use crate::{Context, completions, units};

/// Publish what was recorded, spaced as it was
///
/// Topics are as they were when they were recorded. Keys on a terminal: space pauses, the right arrow or . publishes the next
/// message, the arrows up and down or + and - change the rate, q ends.
#[derive(clap::Args)]
pub struct Args {
    /// Recordings; several are played as one
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How fast time passes
    #[arg(short, long, value_name = "R", default_value = "1", value_parser = rate)]
    rate: f64,
    /// As fast as it goes
    #[arg(long, conflicts_with = "rate")]
    max: bool,
    /// Begin again at the end
    #[arg(short, long = "loop")]
    again: bool,
    /// Begin so long after the first message
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    start: Option<Duration>,
    /// End so long after the first message
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    end: Option<Duration>,
    /// Only these topics, or those that match; several by commas
    #[arg(short, long, value_name = "PATTERN", value_delimiter = ',')]
    topics: Vec<String>,
    /// Not these topics
    #[arg(short = 'x', long, value_name = "PATTERN", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Publish what was recorded from one topic to another
    #[arg(long, value_name = "FROM:=TO", value_parser = remap, add = completions::topics())]
    remap: Vec<(String, String)>,
    /// Begin paused
    #[arg(short, long)]
    paused: bool,
    /// Begin once each topic has a subscriber, within this time
    #[arg(short, long, value_name = "TIME", value_parser = units::duration)]
    wait: Option<Duration>,
    /// Wait for subscribers rather than overwrite what they have not received
    #[arg(long)]
    lossless: bool,
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1e-6..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number from 0.000001 to 1000000".into()),
    }
}

fn remap(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once(":=") {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((from.into(), to.into())),
        _ => Err("write FROM:=TO".into()),
    }
}

pub fn run(args: &Args, context: &Context) -> Result {
    if args.end.is_some_and(|end| end <= args.start.unwrap_or_default()) {
        return Err(Failure::Usage("--end has to come after --start".into()));
    }
    let mut events = Events::new()?.without_output();
    let mut options = Player::options()
        .domain(&context.domain)
        .topics(args.topics.iter().map(String::as_str))
        .exclude(args.exclude.iter().map(String::as_str))
        .rounds((!args.again).then_some(1))
        .from(args.start.unwrap_or_default())
        .paused(args.paused);
    options = if args.max { options.as_fast_as_possible() } else { options.rate(args.rate) };
    for (from, to) in &args.remap {
        options = options.remap(from, to);
    }
    if let Some(end) = args.end {
        options = options.to(end);
    }
    if let Some(timeout) = args.wait {
        options = options.wait_for_subscribers(timeout);
    }
    if args.lossless {
        options = options.overflow(conduit::topic::Overflow::Block);
    }
    let player = options.start(&args.files)?;
    let ended = follow(&player, &mut events)?;
    let report = match if ended { player.finish() } else { player.stop() } {
        Err(error @ conduit::tank::Error::NoSubscriber { .. }) => {
            note(format_args!("{error}"));
            return Ok(Outcome::TimedOut);
        }
        report => report?,
    };
    tell(&report, context)?;
    let (mut published, mut refused) = (0, 0);
    for played in report.topics.values() {
        (published, refused) = (published + played.published, refused + played.refused);
    }
    if !ended && published == 0 {
        return Ok(Outcome::Interrupted);
    }
    let is_whole = refused == 0 && report.damaged == 0 && report.problems.is_empty();
    Ok(if is_whole { Outcome::Done } else { Outcome::Degraded })
}

/// Until it ends of itself: then `true`.
fn follow(player: &Player, events: &mut Events) -> Result<bool> {
    let mut keys = Keys::new();
    let mut line = Line { due: io::stderr().is_terminal().then(Instant::now), shown: false, has_keys: keys.is_some() };
    loop {
        let progress = player.progress();
        if progress.published > 0 {
            something_was_done();
        }
        let due = line.show(&progress);
        let stdin = io::stdin();
        let mut descriptors = vec![player.as_fd()];
        descriptors.extend(keys.as_ref().map(|_| stdin.as_fd()));
        let woken = events.wait(&descriptors, due)?;
        if woken.ready.contains(&0) {
            return Ok(true);
        }
        if woken.interrupted {
            return Ok(false);
        }
        if woken.ready.contains(&1) {
            match keys.as_ref().and_then(Keys::read) {
                Some(pressed) if press(&pressed, player) => return Ok(false),
                Some(_) => line.now(),
                None => keys = None,
            }
        }
    }
}

/// Whether one of them ends it.
fn press(mut keys: &[u8], player: &Player) -> bool {
    let faster = |factor: f64| player.set_rate(player.progress().rate.map(|rate| rate * factor));
    while let [key, rest @ ..] = keys {
        keys = rest;
        // Arrows come as three bytes.
        let key = match (key, rest) {
            (0x1b, [b'[', arrow, rest @ ..]) => {
                keys = rest;
                match arrow {
                    b'A' => b'+',
                    b'B' => b'-',
                    b'C' => b'.',
                    _ => 0,
                }
            }
            (key, _) => *key,
        };
        match key {
            b' ' if player.progress().paused => player.resume(),
            b' ' => player.pause(),
            b'.' => player.step(),
            b'+' => faster(2.0),
            b'-' => faster(0.5),
            b'q' => return true,
            _ => {}
        }
    }
    false
}

const INTERVAL: Duration = Duration::from_millis(200);

/// The line on a terminal that shows how far it is; gone once this is dropped.
struct Line {
    /// `None` where there is no terminal.
    due: Option<Instant>,
    shown: bool,
    has_keys: bool,
}

impl Line {
    fn now(&mut self) {
        self.due = self.due.map(|_| Instant::now());
    }

    /// Shows it, if it is time to; returns when it is next.
    fn show(&mut self, progress: &PlayProgress) -> Option<Instant> {
        let now = Instant::now();
        if self.due? > now {
            return self.due;
        }
        let state = if progress.paused { "paused" } else { "play" };
        let rate = progress.rate.map_or("max".into(), |rate| format!("x{rate}"));
        let keys = if self.has_keys { "  [space pause, . step, + - rate, q quit]" } else { "" };
        let (position, duration) = (progress.position.as_secs_f64(), progress.duration.as_secs_f64());
        let messages = units::several(progress.published, "message", "messages");
        // Nothing can be done about a standard error that is closed.
        let _ = write!(io::stderr(), "\r{state} {position:.1} of {duration:.1} s  {rate}  {messages}{keys}\x1b[K");
        self.shown = true;
        self.due = Some(now + INTERVAL);
        self.due
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn tell(report: &PlayReport, context: &Context) -> Result<()> {
    for (file, problem) in &report.problems {
        let file = file.display();
        note(format_args!("{file}: {problem}; `conduit tank recover {file}` gives it an end"));
    }
    if report.damaged > 0 {
        note(format_args!("{} left out", units::several(report.damaged, "damaged piece was", "damaged pieces were")));
    }
    if context.json {
        let topics = report.topics.iter().map(|(topic, played)| {
            let counts = json!({
                "published": played.published, "refused": played.refused, "repeated": played.repeated,
            });
            (topic.clone(), counts)
        });
        return print_json(&json!({
            "topics": topics.collect::<Map<String, Value>>(), "damaged": report.damaged, "ended": report.ended,
            "latest_seconds": report.latest.as_secs_f64(),
        }));
    }
    let mut out = Out::new();
    let has_refused = report.topics.values().any(|played| played.refused > 0);
    let mut head = vec!["TOPIC", "PUBLISHED"];
    head.extend(has_refused.then_some("REFUSED"));
    let mut table = Table::new(&head);
    for (topic, played) in &report.topics {
        let mut row = vec![harmless(topic), units::count(played.published)];
        row.extend(has_refused.then(|| units::count(played.refused)));
        table.row(row);
    }
    table.print(&mut out)?;
    out.flush()?;
    Ok(())
}
