//! The processes of a demo: one publishes, the others subscribe. Each reports to the demo on its standard output, one
//! JSON object a line, and does what the demo tells it on its standard input: a line means that the demo ends, the end
//! of the input that it is over, however it came to that.

use std::io::{BufRead, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use conduit::topic::{Start, inspect};
use conduit::{Publisher, Sample, Subscriber};
use serde_json::{Value, json};

use super::{DEPTH, Scan, TOPIC};
use crate::Context;
use crate::describe::{Map, maps};
use crate::events::block_signals;
use crate::hz::monotonic_now;
use crate::outcome::{Failure, Outcome, Result};
use crate::stats::Histogram;

/// Take a part in a demo
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    part: Part,
    /// Messages a second
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Publisher,
    /// Takes every message, and keeps an early one to the end.
    Steady,
    /// Takes naps that are longer than the topic remembers.
    Slow,
    /// Takes every message, begins with those that are there.
    Late,
}

/// Time between two reports.
const INTERVAL: Duration = Duration::from_millis(100);
/// The slow one's naps, and how many messages it takes between them.
const NAP: Duration = Duration::from_millis(400);
const BETWEEN_NAPS: u64 = 100;
/// Which of its messages the steady one keeps.
const KEPT: u64 = 10;

pub fn run(args: &Args, context: &Context) -> Result {
    // Ctrl-C reaches all processes of a terminal; the demo ends its own in order.
    block_signals();
    let orders = Orders::listen()?;
    match args.part {
        Part::Publisher => publish(args.rate, context, &orders),
        part => subscribe(part, context, &orders),
    }
}

/// What the demo has said so far.
struct Orders(Arc<(Mutex<bool>, Condvar)>);

impl Orders {
    /// Starts a thread that reads them. At the end of the input nobody is interested any more: subscribers end at once,
    /// and the publisher, who has a topic to remove, before long.
    fn listen() -> Result<Self> {
        let told = Arc::new((Mutex::new(false), Condvar::new()));
        let tell = told.clone();
        let listen = move || {
            for line in std::io::stdin().lock().lines() {
                if line.is_err() {
                    break;
                }
                *tell.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                tell.1.notify_all();
            }
            OVER.store(true, std::sync::atomic::Ordering::Release);
            *tell.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            tell.1.notify_all();
            if !IS_PUBLISHER.load(std::sync::atomic::Ordering::Acquire) {
                std::process::exit(0);
            }
        };
        let thread = std::thread::Builder::new().name("orders".into()).spawn(listen);
        thread.map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Orders(told))
    }

    /// Sleeps until `until`, or until there is an order; returns whether there is.
    fn wait(&self, until: Instant) -> bool {
        let mut told = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if *told || left.is_zero() {
                return *told;
            }
            told = self.0.1.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
