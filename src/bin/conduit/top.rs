//! `conduit top`: what topics and the lanes of a daemon do now.

mod daemon;
mod http;
mod topics;
mod view;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::events::{Events, something_was_done};
use crate::keys::Keys;
use crate::outcome::{Outcome, Result};
use crate::output::Out;
use crate::{Context, completions, units};

use daemon::Scraper;
use topics::Topics;
use view::Frame;

/// Watch topics, and the lanes of a daemon
///
/// On a terminal it is drawn anew each second until q; elsewhere a table follows the other. Of topics: rate, bytes, subscribers,
/// how far the last of them is behind, and what they have lost. Of lanes: what waits, the state, rate, the share of events that
/// were begun later than they should, and times that half and 99 % of them did not exceed until they were begun.
#[derive(clap::Args)]
pub struct Args {
    /// Only these topics, or those that match
    #[arg(value_name = "TOPIC", add = completions::topics())]
    topics: Vec<String>,
    /// Where the daemon tells of itself; none may be there
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9464")]
    metrics: String,
    /// Time between two looks
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Stop after so many
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after one
    #[arg(long, conflicts_with = "count")]
    once: bool,
}

fn interval(text: &str) -> std::result::Result<Duration, String> {
    /// What is less says more about chance than about rates.
    const LEAST: Duration = Duration::from_millis(50);
    let interval = units::duration(text)?;
    if interval < LEAST { Err(format!("at least {LEAST:?}")) } else { Ok(interval) }
}

pub fn run(args: &Args, context: &Context) -> Result {
    let mut events = Events::new()?;
    events.watch_topics()?;
    let mut out = Out::new();
    let in_place = out.style.in_place && !context.json;
    let mut keys = if in_place { Keys::new() } else { None };
    let mut scraper = Scraper::start(&args.metrics, events.bell())?;
    let mut topics = Topics::new(&args.topics, context)?;
    let limit = if args.once { Some(1) } else { args.count };
    let mut shown = 0;
    // The first look is what the second is compared with.
    let mut due = Some(Instant::now());
    let mut is_first = true;
    loop {
        let stdin = io::stdin();
        let woken = events.wait(keys.as_ref().map(|_| stdin.as_fd()).as_slice(), due)?;
        let mut is_over = woken.interrupted;
        if !woken.ready.is_empty() {
            match keys.as_ref().and_then(Keys::read) {
                Some(pressed) => is_over |= pressed.contains(&b'q'),
                None => keys = None,
            }
        }
        if is_over {
            out.leave();
            let was_asked_to = shown > 0 || !woken.interrupted;
            return Ok(if was_asked_to { Outcome::Done } else { Outcome::Interrupted });
        }
        if woken.topics {
            topics.open()?;
        }
        topics.check()?;
        if due.is_some_and(|due| due <= Instant::now()) {
            due = None;
            scraper.ask();
        }
        let Some(daemon) = scraper.answer() else { continue };
        let topics = topics.look()?;
        due = Some(Instant::now() + args.interval);
        if std::mem::take(&mut is_first) {
            continue;
        }
        let frame = Frame { topics, daemon, metrics: &args.metrics, place: context.in_domain() };
        if context.json {
            out.json(&frame.json())?;
        } else if in_place {
            let is_last = limit.is_some_and(|limit| shown + 1 >= limit);
            let lines = frame.fitting(out.style, keys.is_some() && !is_last);
            out.draw(lines)?;
        } else {
            if shown > 0 {
                out.line("")?;
            }
            frame.lines(out.style).into_iter().try_for_each(|line| out.line(line))?;
        }
        out.flush()?;
        shown += 1;
        something_was_done();
        if limit.is_some_and(|limit| shown >= limit) {
            out.leave();
            return Ok(Outcome::Done);
        }
    }
}
