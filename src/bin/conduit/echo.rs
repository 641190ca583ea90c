//! `conduit echo`: shows messages as they come.
//!
//! A thread observes each topic; the main thread sleeps until topics come, the time is over, or a thread has something to
//! say. Threads print lines; a plot they only add to, and the main thread draws it when it is due. Observers take no
//! subscriber's place and cannot slow a publisher down.

pub mod board;
pub mod decoder;
pub mod fields;
pub mod plot;
pub mod printer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use conduit::topic::{Observer, Start};

use crate::events::{Bell, Events, something_was_done};
use crate::follow::Follow;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::note;
use crate::{Context, completions, units};

use board::Board;
use fields::Fields;
use printer::{Message, Printer};

/// Show messages as they come
///
/// Waits for topics that do not exist yet. Exits with 3 if messages were overwritten before they could be shown.
///
/// On a terminal, fields that are numbers or truth values are plotted, a line each: the last value, the lowest and the
/// highest, and blocks on the scale between these two, the newest at the right. A column is a message; messages published
/// within 50 ms share one, which is as high as their mean, and all of them count for the lowest and the highest. NaN leaves a
/// gap. From the first message on that has something else in such a field, messages are lines.
#[derive(clap::Args)]
pub struct Args {
    /// Topics, or patterns
    #[arg(required = true, value_name = "TOPIC", add = completions::topics())]
    topics: Vec<String>,
    /// Stop after so many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Give up when nothing has come for so long
    #[arg(short, long, value_name = "TIME", value_parser = units::duration)]
    timeout: Option<Duration>,
    /// Only this field, such as pose.position.x or joints[2]; may be given several times
    #[arg(short, long = "field", value_name = "PATH", add = completions::fields())]
    fields: Vec<String>,
    /// A line for each message on a terminal, too, with all digits. Nobody has to ask for plots: what can be plotted is
    #[arg(long)]
    no_plot: bool,
    /// Show at most so many messages a second of each topic
    #[arg(short, long, value_name = "HZ", value_parser = units::rate)]
    rate: Option<f64>,
    /// How to show them; --json is short for json
    #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "json")]
    format: Format,
    /// Begin with the messages that are still there; those of latched topics begin with the last one in any case
    #[arg(long)]
    history: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One field a line; bytes in quotes if they are text, else as hex
    Text,
    /// One object a line
    Json,
    /// One row a message
    Csv,
    /// The bytes, and what they are in ASCII
    Hex,
    /// The bytes themselves, one message behind the other
    Raw,
}

/// What the threads share.
struct Shared {
    fields: Vec<String>,
    format: Format,
    /// Time between two messages of a topic that are shown.
    interval: Option<Duration>,
    started: Instant,
    /// When the last message came, in nanoseconds since `started`. Written by readers, Relaxed.
    last: AtomicU64,
    state: Mutex<State>,
    bell: Bell,
}

/// How far it is.
struct State {
    /// Shows messages as long as there is one.
    board: Option<Board>,
    printer: Printer,
    shown: u64,
    lost: u64,
    limit: Option<u64>,
    /// Why not to go on.
    end: Option<Failure>,
    /// Topics that cannot be read any more.
    ended: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_done(&self) -> bool {
        self.end.is_some() || self.limit.is_some_and(|limit| self.shown >= limit)
    }

    /// From now on messages are lines.
    fn end_plot(&mut self) -> Result<()> {
        self.board.take().map_or(Ok(()), Board::end)
    }

    /// Shows a message. True if there is something to draw now and was nothing before.
    fn show(&mut self, message: &Message<'_>, fields: &[String]) -> Result<bool> {
        if let Some(board) = &mut self.board {
            let was_drawn = board.due().is_none();
            if board.take(message, fields) {
                return Ok(was_drawn);
            }
            self.end_plot()?;
        }
        self.printer.message(message, fields)?;
        Ok(false)
    }
}

pub fn run(args: Args, context: &Context) -> Result {
    let format = if context.json { Format::Json } else { args.format };
    if !args.fields.is_empty() && matches!(format, Format::Hex | Format::Raw) {
        return Err(Failure::Usage("--field shows a decoded value: use the format text, json or csv".into()));
    }
    let may_plot = format == Format::Text && !args.fields.is_empty() && !args.no_plot;
    let mut events = Events::new()?;
    let shared = Arc::new(Shared {
        fields: args.fields,
        format,
        interval: args.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
        started: Instant::now(),
        last: AtomicU64::new(0),
        state: Mutex::new(State {
            board: if may_plot { Board::new() } else { None },
            printer: Printer::new(format),
            shown: 0,
            lost: 0,
            limit: args.count,
            end: None,
            ended: 0,
        }),
        bell: events.bell(),
    });
    events.watch_topics()?;
    let mut topics = Follow::new(&args.topics, context);
    for (topic, observer) in topics.open_with(|geometry| match (args.history, geometry.latched) {
        (true, _) => Start::Oldest,
        // As its subscribers do.
        (false, true) => Start::Latest,
        (false, false) => Start::New,
    })? {
        read_in_thread(observer, topic, shared.clone())?;
    }
    topics.say_what_is_awaited(context);
    loop {
        if !topics.may_find_more() {
            // What others do with their topics is no reason to wake.
            events.ignore_topics();
        }
        let quiet_since = shared.started + Duration::from_nanos(shared.last.load(Ordering::Relaxed));
        let mut deadline = args.timeout.map(|timeout| quiet_since + timeout);
        {
            let mut state = shared.state();
            if state.is_done() {
                return end(&mut state, Outcome::Done);
            }
            if let Err(failure) = topics.check(state.ended) {
                state.end = Some(failure);
                return end(&mut state, Outcome::Done);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return end(&mut state, Outcome::TimedOut);
            }
            if let Some(board) = &mut state.board {
                if board.due().is_some_and(|due| due <= Instant::now()) {
                    board.draw()?;
                }
                deadline = [deadline, board.due()].into_iter().flatten().min();
            }
        }
        let woken = events.wait(&[], deadline)?;
        if woken.interrupted {
            let mut state = shared.state();
            let outcome = if state.shown > 0 { Outcome::Done } else { Outcome::Interrupted };
            return end(&mut state, outcome);
        }
        if woken.topics {
            // Whatever is published on a topic that has just come came after this command.
            for (topic, observer) in topics.open(Start::Oldest)? {
                read_in_thread(observer, topic, shared.clone())?;
            }
        }
    }
}

/// What a run has come to; holding the state, so that no thread prints any more.
fn end(state: &mut State, outcome: Outcome) -> Result {
    state.limit = Some(0);
    let drawn = state.end_plot();
    if let Some(failure) = state.end.take() {
        return Err(failure);
    }
    drawn?;
    state.printer.flush()?;
    if outcome == Outcome::TimedOut {
        note(format_args!("timed out after {}", units::several(state.shown, "message", "messages")));
        return Ok(outcome);
    }
    if state.lost > 0 {
        note(format_args!("lost {}", units::several(state.lost, "message", "messages")));
        return Ok(Outcome::Degraded);
    }
    Ok(outcome)
}

fn read_in_thread(mut observer: Observer, topic: String, shared: Arc<Shared>) -> Result<()> {
    let read = move || {
        let result = read(&mut observer, &topic, &shared);
        let mut state = shared.state();
        match result {
            Ok(()) => {}
            // What is wrong with one topic is no reason to stop reading the others.
            Err(Failure::Failed(reason)) => {
                note(format_args!("{topic}: {reason}"));
                state.ended += 1;
            }
            Err(failure) => {
                state.end.get_or_insert(failure);
            }
        }
        drop(state);
        shared.bell.ring();
    };
    let thread = std::thread::Builder::new().name("echo".into()).spawn(read);
    thread.map(drop).map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))
}

/// Shows messages of one topic until there are enough.
fn read(observer: &mut Observer, topic: &str, shared: &Shared) -> Result<()> {
    const LONG: Duration = Duration::from_secs(3600);
    let mut fields = Fields::new(observer.schema(), &shared.fields, shared.format)?;
    let mut bytes = Vec::new();
    let mut due = Instant::now();
    let (mut untold, mut told) = (0, None);
    loop {
        let observed = match observer.try_next()? {
            Some(observed) => observed,
            None => {
                shared.state().printer.flush()?;
                match observer.next_timeout(LONG)? {
                    Some(observed) => observed,
                    None => continue,
                }
            }
        };
        let (sequence, timestamp, lost) = (observed.sequence, observed.timestamp, observed.lagged);
        bytes.clear();
        bytes.extend_from_slice(observed.data);
        if fields.schema() != observer.schema() {
            fields = Fields::new(observer.schema(), &shared.fields, shared.format)?;
        }
        shared.last.store(shared.started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        let now = Instant::now();
        let is_due = shared.interval.is_none() || now >= due;
        let mut state = shared.state();
        if state.is_done() {
            return Ok(());
        }
        state.lost += lost;
        untold += lost;
        // A fast topic would drown whatever else is said.
        if untold > 0 && told.is_none_or(|told: Instant| now.duration_since(told) >= Duration::from_secs(1)) {
            note(format_args!("{topic}: lost {} before {sequence}", units::several(untold, "message", "messages")));
            (untold, told) = (0, Some(now));
        }
        if !is_due {
            continue;
        }
        due = shared.interval.map_or(now, |interval| (due + interval).max(now + interval / 2));
        let offset = observer.clock_offset();
        let time = timestamp.and_then(|timestamp| Some(offset? + timestamp.as_nanos() as i128));
        let body = fields.decode(&bytes);
        let message = Message { topic, sequence, timestamp, time, lost, bytes: &bytes, body: &body };
        if state.show(&message, &shared.fields)? {
            shared.bell.ring();
        }
        state.shown += 1;
        something_was_done();
        if state.is_done() {
            return Ok(());
        }
    }
}
