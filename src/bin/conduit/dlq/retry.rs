//! `conduit dlq retry`: dead letters are sent to a server again, and go from here once it has them.
//!
//! A letter is cleared after the server has answered that it took the event, never before: who is killed between the two sends
//! it once more the next time, and loses none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use conduit::ack::Status;
use conduit::dedup::ProducerId;
use conduit::frame::Event;
use conduit::net::outbox::Outcome as Answer;
use conduit::net::{Acks, Client, ClientError, Fate, Retry};
use conduit::tank::{DeadLetterBox, Letter, LetterFilter, LetterId};
use serde_json::{Map, Value, json};

use super::{Filter, no_letter};
use crate::events::{Events, if_forced};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, harmless, note};
use crate::{Context, send, units};

/// Send them to a server again, and clear those that it took
///
/// They are new events, of a producer of their own: topic, payload, priority, encoding and time are as they were. What the
/// server did not take stays. Without names and filters all are meant.
#[derive(clap::Args)]
pub struct Args {
    /// Only these
    #[arg(value_name = "ID")]
    ids: Vec<LetterId>,
    #[command(flatten)]
    filter: Filter,
    /// The server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9000")]
    to: String,
    /// Leave those here that it took, too
    #[arg(long)]
    keep: bool,
    /// What to wait for
    #[arg(long, value_enum, value_name = "WHAT", default_value = "accepted")]
    ack: AckArg,
    /// What the server asks for [env: CONDUIT_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// How long to wait for a connection, for a server that throttles, and for the last answers
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    timeout: Duration,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum AckArg {
    /// That it is in a lane
    Accepted,
    /// That it is on disk
    Durable,
}

/// How long it may take to end after an interruption.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait for room before looking for an interruption.
const STEP: Duration = Duration::from_millis(100);
/// How often to look for letters that the server may keep elsewhere.
const LOOKS: u32 = 4;

pub fn run(args: &Args, letters: Option<&DeadLetterBox>, context: &Context) -> Result {
    let events = Events::with_grace(GRACE)?.without_output();
    let mut tally = Tally::default();
    let wanted = wanted(args, letters, &mut tally)?;
    tally.letters = wanted.len() as u64;
    let lost = match letters.filter(|_| !wanted.is_empty()) {
        Some(letters) => {
            if_forced(Outcome::Degraded as u8, "ended before all letters were answered: those are here still");
            retry(args, letters, wanted, &events, &mut tally)?
        }
        None => None,
    };
    let mut out = Out::new();
    if context.json {
        out.json(&tally.json(args))?;
    } else {
        out.line(tally.line(args))?;
    }
    out.flush()?;
    match lost {
        Some(failure) => Err(failure),
        None if tally.left() > 0 || tally.is_damaged => Ok(Outcome::Degraded),
        None => Ok(Outcome::Done),
    }
}

/// The names of those that are meant, as they are now: what the server makes dead letters of meanwhile is not sent again.
fn wanted(args: &Args, letters: Option<&DeadLetterBox>, tally: &mut Tally) -> Result<BTreeSet<LetterId>> {
    let mut filter = args.filter.of();
    if !args.ids.is_empty() {
        filter = filter.ids(args.ids.iter().copied());
    }
    let mut wanted = BTreeSet::new();
    for letter in letters.map(|letters| letters.letters(filter)).transpose()?.into_iter().flatten() {
        match letter {
            Ok(letter) => {
                wanted.insert(letter.id);
            }
            Err(error) => {
                note(format_args!("{error}"));
                tally.is_damaged = true;
            }
        }
    }
    match args.ids.iter().find(|id| !wanted.contains(id)) {
        Some(id) if args.filter.is_all() => Err(no_letter(*id)),
        _ => Ok(wanted),
    }
}

/// Sends them file by file, and clears of each file what was taken before the next: no more than one is in memory, or sent in
/// vain if this is killed. Returns what kept it from sending all.
fn retry(
    args: &Args,
    letters: &DeadLetterBox,
    wanted: BTreeSet<LetterId>,
    events: &Events,
    tally: &mut Tally,
) -> Result<Option<Failure>> {
    let mut files = BTreeMap::<u32, BTreeSet<LetterId>>::new();
    for id in wanted {
        files.entry(id.file).or_default().insert(id);
    }
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut producer = ProducerId::default();
    rustix::rand::getrandom(&mut producer, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::Failed(format!("cannot get random numbers for a producer: {error}")))?;
    let mut sending = Sending { client: connect(args, producer, answers.clone())?, waiting: BTreeMap::new() };
    let clear = |taken: Vec<LetterId>, tally: &mut Tally| -> Result<()> {
        if !args.keep && !taken.is_empty() {
            tally.cleared += letters.clear(&LetterFilter::new().ids(taken))?.letters;
        }
        Ok(())
    };
    let mut end = Ok(true);
    for ids in files.into_values() {
        end = sending.file(args, letters, ids, events, tally);
        let taken = settle(&answers, &mut sending.waiting, tally);
        end = clear(taken, tally).and(end);
        if !matches!(end, Ok(true)) {
            break;
        }
    }
    let Sending { client, mut waiting } = sending;
    // Once its thread has ended, all answers that came were told.
    client.close(Duration::ZERO);
    let taken = settle(&answers, &mut waiting, tally);
    end = clear(taken, tally).and(end);
    if !waiting.is_empty() {
        *tally.fates.entry(Fate::Unanswered.to_string()).or_default() += waiting.len() as u64;
    }
    end = clear_copies(letters, &producer, tally).and(end);
    Ok(end.err())
}

/// An event that is answered as dead-lettered is a letter of the server's. If that keeps them in this very store, each such
/// answer would leave two of one: the one that was sent stays, with what is told of its first failure, and its copy goes.
fn clear_copies(letters: &DeadLetterBox, producer: &ProducerId, tally: &mut Tally) -> Result<()> {
    let mut awaited = std::mem::take(&mut tally.dead_lettered);
    for look in 0..LOOKS {
        if awaited.is_empty() {
            break;
        }
        if look > 0 {
            // The server writes them when no more come.
            std::thread::sleep(STEP);
        }
        let mut copies = Vec::new();
        for letter in letters.letters(LetterFilter::new())?.flatten() {
            if letter.producer == *producer && awaited.remove(&letter.sequence) {
                copies.push(letter.id);
            }
        }
        if !copies.is_empty() {
            tally.copies_cleared += letters.clear(&LetterFilter::new().ids(copies))?.letters;
        }
    }
    Ok(())
}

type Answers = Arc<Mutex<Vec<Answer>>>;

fn connect(args: &Args, producer: ProducerId, answers: Answers) -> Result<Client> {
    let acks = match args.ack {
        AckArg::Accepted => Acks::Accepted,
        AckArg::Durable => Acks::Durable,
    };
    // A producer of its own: what it was sent as, the server has seen, or thinks so.
    let options = Client::options()
        .producer(producer)
        .acks(acks)
        .token(send::token(args.token.as_deref()))
        .connect_timeout(args.timeout);
    let options = options.retry(Retry { deadline: args.timeout, ..Retry::default() });
    let tell = move |answer: &Answer| answers.lock().unwrap_or_else(PoisonError::into_inner).push(*answer);
    Ok(options.on_outcome(tell).connect(&args.to)?)
}

struct Sending {
    client: Client,
    /// The letters that were sent and not settled, by the sequence that they were sent with.
    waiting: BTreeMap<u64, LetterId>,
}

impl Sending {
    /// Sends the letters of a file and waits for the answers. Whether to go on.
    fn file(
        &mut self,
        args: &Args,
        letters: &DeadLetterBox,
        ids: BTreeSet<LetterId>,
        events: &Events,
        tally: &mut Tally,
    ) -> Result<bool> {
        let mut is_whole = true;
        for letter in letters.letters(LetterFilter::new().ids(ids))? {
            let Ok(letter) = letter else {
                // Told when they were counted.
                tally.is_damaged = true;
                continue;
            };
            match self.send(&letter, args.timeout, events) {
                Ok(Some(sequence)) => {
                    self.waiting.insert(sequence, letter.id);
                }
                Ok(None) => {
                    is_whole = false;
                    break;
                }
                Err(ClientError::Event(refused)) => {
                    note(format_args!("{} for {}: {refused}", letter.id, harmless(&letter.topic)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut until = Instant::now() + args.timeout;
        let mut is_hurried = false;
        loop {
            if events.is_interrupted() && !is_hurried {
                // What was sent is answered soon, or would be sent once more the next time.
                until = until.min(Instant::now() + GRACE / 2);
                is_hurried = true;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.client.flush(left.min(STEP)) {
                Ok(()) => return Ok(is_whole && !events.is_interrupted()),
                Err(ClientError::TimedOut { .. }) if !left.is_zero() => {}
                Err(ClientError::TimedOut { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The letter's sequence; `None` at an interruption, or if there is no room for too long.
    fn send(
        &mut self,
        letter: &Letter,
        timeout: Duration,
        events: &Events,
    ) -> std::result::Result<Option<u64>, ClientError> {
        let Letter { timestamp, priority, encoding, topic, payload, .. } = letter;
        let event = Event {
            timestamp: *timestamp,
            priority: *priority,
            encoding: *encoding,
            topic: topic.as_bytes(),
            payload,
            ..Event::default()
        };
        let until = Instant::now() + timeout;
        while !events.is_interrupted() && Instant::now() < until {
            if let Some(sequence) = self.client.send_timeout(&event, STEP)? {
                return Ok(Some(sequence));
            }
        }
        Ok(None)
    }
}

/// Counts what was answered, and is not waited for any more; returns the letters that the server took.
fn settle(answers: &Answers, waiting: &mut BTreeMap<u64, LetterId>, tally: &mut Tally) -> Vec<LetterId> {
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    let mut taken = Vec::new();
    for Answer { sequence, fate, .. } in answers {
        let Some(id) = waiting.remove(&sequence) else { continue };
        *tally.fates.entry(fate.to_string()).or_default() += 1;
        if fate.is_success() {
            tally.accepted += 1;
            taken.push(id);
        } else if fate == Fate::Answered(Status::DeadLettered) {
            tally.dead_lettered.insert(sequence);
        }
    }
    taken
}

/// What became of the letters.
#[derive(Default)]
struct Tally {
    letters: u64,
    accepted: u64,
    /// All outcomes, in words.
    fates: BTreeMap<String, u64>,
    cleared: u64,
    /// Sequences of those that the server made dead letters of, and how many of its letters were cleared again.
    dead_lettered: BTreeSet<u64>,
    copies_cleared: u64,
    /// Whether some could not be read.
    is_damaged: bool,
}

impl Tally {
    /// Those that are still to be taken.
    fn left(&self) -> u64 {
        self.letters - self.accepted
    }

    fn line(&self, args: &Args) -> String {
        let some = units::several(self.letters, "letter", "letters");
        let mut parts: Vec<_> =
            self.fates.iter().map(|(fate, count)| format!("{} {fate}", units::count(*count))).collect();
        parts.push(format!("{} left", units::count(self.left())));
        if args.keep && self.accepted > 0 {
            parts.push("all kept here".into());
        }
        format!("{some} to {}: {}", args.to, parts.join(", "))
    }

    fn json(&self, args: &Args) -> Value {
        let fates: Map<String, Value> =
            self.fates.iter().map(|(fate, count)| (fate.replace([' ', '-'], "_"), (*count).into())).collect();
        json!({
            "to": args.to, "letters": self.letters, "accepted": self.accepted,
            "fates": fates, "left": self.left(), "cleared": self.cleared,
            "copies_cleared": self.copies_cleared,
        })
    }
}
