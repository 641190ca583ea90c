//! `conduit record`: topics into a file, and what became of each message.

mod progress;

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use conduit::tank::{Compression, Recorder, Recording, Report, SyncPolicy, leftovers};
use serde_json::{Map, Value, json};

use crate::events::{self, Events};
use crate::keys::{Keys, Signals};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, Table, harmless, note, print_json};
use crate::patterns::{self, Pattern, topics_of};
use crate::{Context, completions, units};

use progress::Line;

/// Record topics into MCAP files
///
/// Ends on SIGINT or SIGTERM, with a file that is complete and an account of each topic: published = recorded + lost, and what was not wanted. What a
/// crash leaves loses at most the chunk time; `conduit tank recover` gives it an end. Keys on a terminal: space pauses,
/// s goes on in another file, t writes the snapshot, q ends. SIGUSR1 is t, SIGUSR2 is s.
#[derive(clap::Args)]
pub struct Args {
    /// Topics, or patterns; those that appear later, too
    #[arg(value_name = "TOPIC", add = completions::topics())]
    topics: Vec<String>,
    /// All topics
    #[arg(short, long, conflicts_with = "topics")]
    all: bool,
    /// The file [default: conduit_TIME.mcap]; several are FILE_0000.mcap and so on
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Not these topics
    #[arg(short = 'x', long, value_name = "PATTERN", add = completions::topics())]
    exclude: Vec<String>,
    /// none, lz4, zstd or zstd:LEVEL
    #[arg(short, long, default_value = "none")]
    compression: Compression,
    /// Within how long a message outlives a crash of the recorder
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = units::duration)]
    chunk_time: Duration,
    /// How large a chunk gets
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = units::size)]
    chunk_size: usize,
    /// Within how long after that it outlives a failure of power: a time, chunk (at once) or none
    #[arg(long, value_name = "WHEN", default_value = "1s", value_parser = sync_policy)]
    sync: SyncPolicy,
    /// Go on in another file before one gets larger
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    split_size: Option<usize>,
    /// Go on in another file when one is so long
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    split_time: Option<Duration>,
    /// Keep the last N files and remove those before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Stop when the disk has less left
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    min_free: Option<usize>,
    /// Keep the last so much time in memory, and write it on SIGUSR1 or the key t
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    snapshot: Option<Duration>,
    /// Memory for what is not written yet, and for what a snapshot keeps
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = units::size)]
    memory: usize,
    /// Stop after this time
    #[arg(short, long, value_name = "TIME", value_parser = units::duration)]
    duration: Option<Duration>,
    /// Begin paused
    #[arg(long)]
    paused: bool,
    /// An entry for the file's metadata
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = key_and_value)]
    metadata: Vec<(String, String)>,
}

/// How long after an interruption the recording may take to reach the disk.
const GRACE: Duration = Duration::from_secs(60);

fn key_and_value(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE".into()),
    }
}

fn sync_policy(text: &str) -> std::result::Result<SyncPolicy, String> {
    match text {
        "none" => Ok(SyncPolicy::None),
        "chunk" => Ok(SyncPolicy::Chunk),
        time => units::duration(time).map(SyncPolicy::Every).map_err(|error| format!("none, chunk or a time: {error}")),
    }
}

impl Args {
    fn path(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let now = units::utc(units::since_1970(SystemTime::now()));
            // To the second, and without what a file's name should not have.
            format!("conduit_{}.mcap", now[..19].replace(':', "-")).into()
        })
    }

    fn start(&self, path: &Path, context: &Context) -> Result<Recorder> {
        let mut options = Recorder::options()
            .domain(&context.domain)
            .topics(self.topics.iter().map(String::as_str))
            .exclude(self.exclude.iter().map(String::as_str))
            .compression(self.compression)
            .chunk_time(self.chunk_time)
            .chunk_bytes(self.chunk_size)
            .sync(self.sync)
            .memory(self.memory)
            .min_free(self.min_free.unwrap_or(0) as u64)
            .paused(self.paused);
        if let Some(size) = self.split_size {
            options = options.split_size(size as u64);
        }
        if let Some(time) = self.split_time {
            options = options.split_time(time);
        }
        if let Some(files) = self.keep {
            options = options.keep(files as usize);
        }
        if let Some(time) = self.snapshot {
            options = options.snapshot(time);
        }
        for (key, value) in &self.metadata {
            options = options.metadata(key, value);
        }
        Ok(options.start(path)?)
    }
}

pub fn run(args: &Args, context: &Context) -> Result {
    if args.topics.is_empty() && !args.all {
        return Err(Failure::Usage("say what to record: topics, patterns, or --all".into()));
    }
    let signals = Signals::new(&[libc::SIGUSR1, libc::SIGUSR2])?;
    let mut events = Events::with_grace(GRACE)?.without_output();
    let path = args.path();
    name_leftovers(&path);
    let recorder = args.start(&path, context)?;
    events::if_forced(
        1,
        "told to end for the second time, or the disk does not answer: the recording has no end, which \
        `conduit tank recover` gives it, and there is no account of what was lost",
    );
    let file = recorder.progress().file;
    if file.as_os_str().is_empty() {
        note(format_args!("recording for snapshots, which SIGUSR1 and the key t write{}", context.in_domain()));
    } else {
        note(format_args!("recording into {}{}", file.display(), context.in_domain()));
    }
    say_what_is_awaited(&args.topics, context)?;
    let end = args.duration.map(|duration| Instant::now() + duration);
    follow(&recorder, &mut events, &signals, end)?;
    let report = recorder.stop();
    tell(&report, context)?;
    match &report.fault {
        Some(fault @ conduit::tank::Error::Io { .. }) => {
            let ended =
                report.files.last().is_none_or(|file| Recording::open(file).is_ok_and(|file| file.is_complete()));
            let how =
                if ended { "the recording ended there, complete" } else { "it has no end: `conduit tank recover`" };
            Err(Failure::Failed(format!("{fault}: {how}")))
        }
        Some(fault) => Err(Failure::Failed(fault.to_string())),
        None if report.total().lost > 0 || !report.failed.is_empty() => Ok(Outcome::Degraded),
        None => Ok(Outcome::Done),
    }
}

fn say_what_is_awaited(topics: &[String], context: &Context) -> Result<()> {
    let there = topics_of(&context.domain)?;
    for pattern in patterns::all(topics).iter().filter(|pattern| !there.iter().any(|topic| pattern.matches(topic))) {
        match pattern {
            Pattern::Name(name) => note(format_args!("waiting for topic {name}")),
            Pattern::Glob(glob) => note(format_args!("waiting for topics that match {glob}")),
        }
    }
    Ok(())
}

fn name_leftovers(path: &Path) {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A directory that cannot be read may still be written to.
    for left in leftovers(directory).unwrap_or_default() {
        let left = left.display();
        note(format_args!("{left} has no end, its recorder was killed: `conduit tank recover {left}` gives it one"));
    }
}

/// Until the recording is to end, or has ended of itself.
fn follow(recorder: &Recorder, events: &mut Events, signals: &Signals, end: Option<Instant>) -> Result<()> {
    let mut keys = Keys::new();
    let mut line = Line::new(keys.is_some());
    loop {
        let due = line.show(&recorder.progress());
        let next = [due, end].into_iter().flatten().min();
        let stdin = io::stdin();
        let mut descriptors = vec![recorder.as_fd(), signals.as_fd()];
        descriptors.extend(keys.as_ref().map(|_| stdin.as_fd()));
        let woken = events.wait(&descriptors, next)?;
        while let Some(signal) = signals.next() {
            match signal {
                libc::SIGUSR1 => recorder.trigger(),
                _ => recorder.split(),
            }
        }
        let mut quit = woken.interrupted || woken.ready.contains(&0) || end.is_some_and(|end| end <= Instant::now());
        if woken.ready.contains(&2) {
            match keys.as_ref().and_then(Keys::read) {
                Some(pressed) => quit |= pressed.iter().any(|&key| press(key, recorder)),
                None => keys = None,
            }
        }
        if quit {
            return Ok(());
        }
    }
}

/// Whether it is the key that ends the recording.
fn press(key: u8, recorder: &Recorder) -> bool {
    match key {
        b' ' | b'p' if recorder.progress().paused => recorder.resume(),
        b' ' | b'p' => recorder.pause(),
        b's' => recorder.split(),
        b't' => recorder.trigger(),
        b'q' => return true,
        _ => {}
    }
    false
}

fn tell(report: &Report, context: &Context) -> Result<()> {
    let files: Vec<_> = report.files.iter().map(|file| file.display().to_string()).collect();
    for (topic, reason) in &report.failed {
        note(format_args!("{}: {reason}", harmless(topic)));
    }
    let total = report.total();
    if context.json {
        let topics: Map<String, Value> = report
            .topics
            .iter()
            .map(|(topic, counts)| {
                let counts = json!({
                    "published": counts.published(), "recorded": counts.recorded, "lost": counts.lost,
                    "paused": counts.paused, "expired": counts.expired,
                });
                (topic.clone(), counts)
            })
            .collect();
        return print_json(&json!({
            "files": files, "bytes": report.bytes, "seconds": report.duration.as_secs_f64(), "topics": topics,
            "recorded": total.recorded, "lost": total.lost, "failed": report.failed,
            "fault": report.fault.as_ref().map(ToString::to_string),
        }));
    }
    let mut out = Out::new();
    let others = |counts: &conduit::tank::Counts| counts.paused + counts.expired;
    let has_others = others(&total) > 0;
    let mut head = vec!["TOPIC", "PUBLISHED", "RECORDED", "LOST"];
    head.extend(has_others.then_some("NOT WANTED"));
    let mut table = Table::new(&head);
    for (topic, counts) in &report.topics {
        let mut row = vec![
            harmless(topic),
            units::count(counts.published()),
            units::count(counts.recorded),
            units::count(counts.lost),
        ];
        row.extend(has_others.then(|| units::count(others(counts))));
        table.row(row);
    }
    table.print(&mut out)?;
    out.line(format_args!(
        "{}, {}: {}",
        units::several(files.len() as u64, "file", "files"),
        units::memory(report.bytes),
        files.join(", ")
    ))?;
    out.flush()?;
    Ok(())
}

/// Whether there is somebody to show progress to.
fn has_terminal() -> bool {
    io::stderr().is_terminal()
}
