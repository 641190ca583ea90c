//! `conduit link`: how fast a link is, between two processes of this machine.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueEnum};
use conduit::link::{DEFAULT_SIZE, Error, Link, MAX_SIZE, MIN_SIZE, Options, Reconnect};
use serde_json::{Value, json};

use crate::events::{Events, something_was_done};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, Table, note, print_json};
use crate::stats::Histogram;
use crate::{Context, units};

/// Measure links: messages between two processes over memory that nobody else can reach
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Send messages there and back, one at a time, and tell how long that takes
    Ping(Ping),
    /// Send messages as fast as they are received, and tell how many that are
    Bench(Bench),
    /// Be the other end of `ping` and `bench`, until interrupted
    Serve(Serve),
    /// Serve the link that was inherited, and end with it
    #[command(hide = true)]
    Inherited,
}

#[derive(clap::Args)]
struct Ping {
    /// Where `conduit link serve` listens: a path, or a name behind an @ [default: a process of its own]
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    address: Option<String>,
    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// How long each message is, up to 16MiB
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = message_size)]
    size: usize,
    /// How long to wait between two messages. Without a wait an end hardly ever sleeps for the next one, because it looks again and
    /// again for a while before it does: have it wait to measure how long waking takes [default: none]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    interval: Option<Duration>,
    /// The size of the ring, 4KiB to 16MiB [default: 64KiB, or what the messages need]
    #[arg(long, value_name = "BYTES", value_parser = ring_size)]
    ring: Option<usize>,
    /// By which way
    #[arg(long, value_enum, default_value_t = Transport::SharedMemory)]
    transport: Transport,
    /// Have both ends poll, which takes a processor each, instead of sleep
    #[arg(long)]
    poll: bool,
}

#[derive(clap::Args)]
struct Bench {
    /// Where `conduit link serve` listens: a path, or a name behind an @ [default: a process of its own]
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    address: Option<String>,
    /// How long each message is, up to 16MiB; may be given more than once [default: 256, 1024, 4096]
    #[arg(long, value_name = "BYTES", value_parser = message_size)]
    size: Vec<usize>,
    /// How long to measure each
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    time: Duration,
    /// The size of the ring, 4KiB to 16MiB
    #[arg(long, value_name = "BYTES", default_value = "256KiB", value_parser = ring_size)]
    ring: usize,
    /// By one way only [default: both, beside each other]
    #[arg(long, value_enum)]
    transport: Option<Transport>,
}

#[derive(clap::Args)]
struct Serve {
    /// Where to listen: a path, or a name behind an @
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    address: String,
}

/// The longest message that an end takes.
const MAX_LEN: usize = 16 << 20;

fn message_size(text: &str) -> std::result::Result<usize, String> {
    units::size_within(text, 1, MAX_LEN)
}

fn ring_size(text: &str) -> std::result::Result<usize, String> {
    units::size_within(text, MIN_SIZE, MAX_SIZE)
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    SharedMemory,
    Socket,
}

impl Transport {
    /// As it is given as an argument.
    fn name(self) -> &'static str {
        match self {
            Transport::SharedMemory => "shared-memory",
            Transport::Socket => "socket",
        }
    }

    /// The way that messages went over a link, all of one size.
    fn of(link: &Link) -> Self {
        let metrics = link.metrics();
        match metrics.transport {
            // Those too long for the ring went beside it. The first message of all, the task, is never one.
            Some(conduit::link::Transport::SharedMemory) if metrics.fallbacks == 0 => Transport::SharedMemory,
            _ => Transport::Socket,
        }
    }

    /// Says so if messages did not go by the way that was wished for.
    fn explain(self, wish: Transport, size: usize, ring: usize) {
        if self == wish {
            return;
        }
        let size = units::bytes(size as f64);
        match wish {
            Transport::SharedMemory => note(format_args!(
                "messages of {size} went over the socket: there is no shared memory, or its ring of {} is too small",
                units::memory(ring as u64)
            )),
            Transport::Socket => note(format_args!("messages of {size} went through shared memory")),
        }
    }
}

impl From<Transport> for conduit::link::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::SharedMemory => conduit::link::Transport::SharedMemory,
            Transport::Socket => conduit::link::Transport::Socket,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Size { .. } | Error::Address { .. } | Error::TooLarge { .. } => Failure::Usage(error.to_string()),
            error => Failure::Failed(error.to_string()),
        }
    }
}

// What the other end is to do with a link: its first message.
const ECHO: &[u8] = b"echo";
const ECHO_POLLING: &[u8] = b"echo, polling";
const SWALLOW: &[u8] = b"swallow";

/// How long the other end may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);
/// Within how long an interruption is seen while the other end takes its time: soon enough to tell what was measured.
const GLANCE: Duration = Duration::from_millis(20);

pub fn run(args: &Args, context: &Context) -> Result {
    match &args.command {
        Action::Ping(args) => ping(args, context),
        Action::Bench(args) => bench(args, context),
        Action::Serve(args) => serve(args),
        Action::Inherited => inherited(),
    }
}

/// A link to the other end, and that, if it is a process of this one's own.
struct Other {
    link: Link,
    child: Option<Child>,
}

impl Other {
    fn reach(address: Option<&str>, options: Options, task: &[u8]) -> Result<Self> {
        let mut other = match address {
            Some(address) => Other { link: options.connect(address)?, child: None },
            None => {
                let (expected, passed) = options.pair()?;
                let program =
                    std::env::current_exe().map_err(|error| Failure::Failed(format!("no program: {error}")))?;
                let mut command = Command::new(program);
                command.args(["link", "inherited"]);
                // Its interruption is the end of the link.
                command.process_group(0);
                let started = passed.spawn(&mut command);
                let child = started.map_err(|error| Failure::Failed(format!("cannot start the other end: {error}")))?;
                Other { link: expected.accept()?, child: Some(child) }
            }
        };
        other.link.send(task)?;
        Ok(other)
    }

    /// Ends both. After an interruption the other end is not asked for what it has received.
    fn close(self, is_interrupted: bool) -> Result<()> {
        match is_interrupted {
            true => drop(self.link),
            false => self.link.close(PATIENCE)?,
        }
        if let Some(mut child) = self.child {
            child.wait().map_err(|error| Failure::Failed(format!("cannot wait for the other end: {error}")))?;
        }
        Ok(())
    }
}

/// Tries again for as long as the other end may take; `None` when interrupted.
fn patiently<T>(
    interruption: &AtomicBool,
    mut attempt: impl FnMut(Duration) -> std::result::Result<T, Error>,
) -> Result<Option<T>> {
    for _ in 0..PATIENCE.as_millis() / GLANCE.as_millis() {
        match attempt(GLANCE) {
            Err(Error::TimedOut) if interruption.load(Ordering::Relaxed) => return Ok(None),
            Err(Error::TimedOut) => {}
            result => return Ok(Some(result?)),
        }
    }
    Err(stuck())
}

fn stuck() -> Failure {
    Failure::Failed(format!("the other end has not answered for {PATIENCE:?}"))
}

fn ping(args: &Ping, context: &Context) -> Result {
    let mut events = Events::new()?;
    let interruption = events.interruption();
    // Of which a message may have a little less than half.
    let needed = args.size.saturating_mul(2).saturating_add(MIN_SIZE).clamp(DEFAULT_SIZE, MAX_SIZE);
    let ring = args.ring.unwrap_or(needed);
    let options = options().transport(args.transport.into()).size(ring);
    let mut other = Other::reach(args.address.as_deref(), options, if args.poll { ECHO_POLLING } else { ECHO })?;
    let message = vec![0x5A; args.size];
    let mut times = Histogram::new();
    let mut least = u64::MAX;
    // The first ones find the pages and the threads cold.
    let cold = args.count.min(100);
    for number in 0..cold + args.count {
        if let (Some(interval), true) = (args.interval, number > cold) {
            let next = Instant::now() + interval;
            while !events.wait(&[], Some(next))?.interrupted && Instant::now() < next {}
        }
        if interruption.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        let sent = patiently(&interruption, |time| other.link.sender().send_timeout(&message, time))?;
        let len = match sent {
            None => None,
            Some(_) if args.poll => poll(&mut other.link, &interruption)?,
            Some(_) => patiently(&interruption, |time| other.link.recv_timeout(time).map(<[u8]>::len))?,
        };
        let time = start.elapsed().as_nanos() as u64;
        match len {
            None => break,
            Some(len) if len != args.size => {
                return Err(Failure::Failed(format!(
                    "{len} bytes came back of {}: whoever listens there is no `conduit link serve`",
                    args.size
                )));
            }
            Some(_) => {}
        }
        if number >= cold {
            times.add(time);
            least = least.min(time);
            something_was_done();
        }
    }
    let transport = Transport::of(&other.link);
    other.close(interruption.load(Ordering::Relaxed))?;
    if times.count() == 0 {
        return Ok(Outcome::Interrupted);
    }
    let figure = |share: f64| times.percentile(share).unwrap_or(0);
    let max = times.max().unwrap_or(0);
    if context.json {
        print_json(&json!({
            "wanted": args.transport.name(), "transport": transport.name(), "size": args.size, "polling": args.poll, "count": times.count(),
            "min_ns": least, "p50_ns": figure(0.5), "p99_ns": figure(0.99), "max_ns": max,
        }))?;
    } else {
        let mut out = Out::new();
        let [least, p50, p99, max] = [least, figure(0.5), figure(0.99), max].map(|time| units::time(time as f64));
        out.line(format_args!(
            "{} of {} there and back by {}: min {least}, p50 {p50}, p99 {p99}, max {max}",
            units::several(times.count(), "message", "messages"),
            units::bytes(args.size as f64),
            transport.name(),
        ))?;
        out.flush()?;
    }
    transport.explain(args.transport, args.size, ring);
    Ok(Outcome::Done)
}

/// Looks for the next message again and again; `None` when interrupted.
fn poll(link: &mut Link, interruption: &AtomicBool) -> Result<Option<usize>> {
    /// Between two looks at the clock, which takes longer than one at the ring.
    const LOOKS: u32 = 4096;
    let mut start = None;
    loop {
        for _ in 0..LOOKS {
            match link.try_recv() {
                Ok(message) => return Ok(Some(message.len())),
                Err(Error::WouldBlock) => std::hint::spin_loop(),
                Err(error) => return Err(error.into()),
            }
        }
        if interruption.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
            return Err(stuck());
        }
    }
}

fn bench(args: &Bench, context: &Context) -> Result {
    let interruption = Events::new()?.interruption();
    let sizes = if args.size.is_empty() { vec![256, 1024, 4096] } else { args.size.clone() };
    let transports =
        args.transport.map_or(vec![Transport::SharedMemory, Transport::Socket], |transport| vec![transport]);
    let mut rows = Vec::new();
    'all: for size in sizes {
        for &wish in &transports {
            let row = stream(args, size, wish, &interruption)?;
            if row.messages > 0 {
                something_was_done();
                rows.push((row, wish));
            }
            if interruption.load(Ordering::Relaxed) {
                break 'all;
            }
        }
    }
    if rows.is_empty() {
        return Ok(Outcome::Interrupted);
    }
    if context.json {
        print_json(&Value::from(rows.iter().map(|(row, wish)| row.to_json(*wish)).collect::<Vec<_>>()))?;
    } else {
        let mut table = Table::new(&["size", "wanted", "went by", "messages/s", "bytes/s"]);
        for (row, wish) in &rows {
            let bytes = units::bytes(row.rate * row.size as f64);
            let rate = units::count(row.rate as u64);
            let size = units::bytes(row.size as f64);
            table.row(vec![size, wish.name().into(), row.transport.name().into(), rate, bytes]);
        }
        let mut out = Out::new();
        table.print(&mut out)?;
        out.flush()?;
        note(format_args!("one way, from this process to another; the ring has {}", units::memory(args.ring as u64)));
    }
    for (row, wish) in &rows {
        row.transport.explain(*wish, row.size, args.ring);
    }
    Ok(Outcome::Done)
}

/// What a stream of messages has come to.
struct Streamed {
    size: usize,
    transport: Transport,
    messages: u64,
    rate: f64,
}

impl Streamed {
    fn to_json(&self, wish: Transport) -> Value {
        json!({
            "size": self.size, "wanted": wish.name(), "transport": self.transport.name(), "messages": self.messages,
            "messages_per_second": self.rate, "bytes_per_second": self.rate * self.size as f64,
        })
    }
}

/// Sends for a while, and until all of it is acknowledged. Interrupted, it counts what is by then.
fn stream(args: &Bench, size: usize, wish: Transport, interruption: &AtomicBool) -> Result<Streamed> {
    let options = options().transport(wish.into()).size(args.ring);
    let mut other = Other::reach(args.address.as_deref(), options, SWALLOW)?;
    let message = vec![0x5A; size];
    let (start, mut messages) = (Instant::now(), 0);
    'time: while start.elapsed() < args.time {
        // Between two looks at the clock.
        for _ in 0..64 {
            let sent = patiently(interruption, |time| other.link.sender().send_timeout(&message, time))?;
            if sent.is_none() || interruption.load(Ordering::Relaxed) {
                messages += u64::from(sent.is_some());
                break 'time;
            }
            messages += 1;
        }
    }
    let is_interrupted = interruption.load(Ordering::Relaxed);
    if is_interrupted || patiently(interruption, |time| other.link.sender().flush(time))?.is_none() {
        messages = messages.saturating_sub(other.link.metrics().unacknowledged);
    }
    let rate = messages as f64 / start.elapsed().as_secs_f64();
    let transport = Transport::of(&other.link);
    other.close(interruption.load(Ordering::Relaxed))?;
    Ok(Streamed { size, transport, messages, rate })
}

/// What both ends have in common. Whoever measures does not come back after a connection is lost, so nothing is kept for it.
fn options() -> Options {
    Link::options().max_message(MAX_LEN).reconnect(Reconnect::NEVER)
}

fn inherited() -> Result {
    let inherited = Link::inherited(options().size(MAX_SIZE));
    let link = inherited.ok_or_else(|| Failure::Usage("no link was inherited".into()))??;
    answer(link).map(|()| Outcome::Done)
}

fn serve(args: &Serve) -> Result {
    let address = &args.address;
    let mut events = Events::new()?.without_output();
    let mut listener = options().size(MAX_SIZE).listen(address)?;
    let file = SocketFile::at(address);
    note(format_args!("listening at {address}"));
    let (bell, (failed, failure)) = (events.bell(), channel());
    std::thread::spawn(move || {
        let error = loop {
            match listener.accept() {
                Ok(link) => drop(std::thread::spawn(move || {
                    if let Err(Failure::Failed(error) | Failure::Usage(error)) = answer(link) {
                        note(format_args!("a link ended: {error}"));
                    }
                })),
                Err(error) => break error,
            }
        };
        let _ = failed.send(error);
        bell.ring();
    });
    while !events.is_interrupted() {
        if let Ok(error) = failure.try_recv() {
            return Err(error.into());
        }
        events.wait(&[], None)?;
    }
    // The listener is in a thread that waits, and does not see to it any more.
    if let Some(file) = file {
        file.remove();
    }
    Ok(Outcome::Done)
}

/// The file of a listener's socket. A name behind an @ has none, though a file may be called the same.
struct SocketFile<'a> {
    path: &'a str,
    identity: (u64, u64),
}

impl<'a> SocketFile<'a> {
    fn at(address: &'a str) -> Option<Self> {
        let path = Some(address).filter(|address| !address.starts_with('@'))?;
        Self::identity(path).map(|identity| SocketFile { path, identity })
    }

    fn identity(path: &str) -> Option<(u64, u64)> {
        std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
    }

    /// Takes it away, if nobody has put another one in its place.
    fn remove(self) {
        if Self::identity(self.path) == Some(self.identity) {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

/// Does what the first message asks for, until the link is closed.
fn answer(mut link: Link) -> Result<()> {
    let task = link.recv_timeout(PATIENCE)?.to_vec();
    let polls = task == ECHO_POLLING;
    let echoes = polls || task == ECHO;
    if !echoes && task != SWALLOW {
        return Err(Failure::Failed("whoever is there is no `conduit link`".into()));
    }
    let (mut sender, mut receiver) = link.split();
    loop {
        let received = if polls { receiver.try_recv() } else { receiver.recv() };
        let answered = received.and_then(|message| if echoes { sender.send(message).map(|_| ()) } else { Ok(()) });
        match answered {
            Ok(()) => {}
            Err(Error::WouldBlock) => std::hint::spin_loop(),
            Err(Error::Closed(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
