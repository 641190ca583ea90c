//! The processes of a demo: one publishes, the others subscribe. Each reports on its standard output, one JSON object a
//! line, and does what it is told on its standard input: a line means that the demo ends, the end of the input that it is
//! over, however it came to that.

use std::io::{BufRead, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use conduit::topic::{Start, inspect};
use conduit::{Publisher, Sample, Subscriber};
use serde_json::{Value, json};

use super::scan::Scan;
use super::{DEPTH, Part, TOPIC};
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

/// Time between two reports.
const INTERVAL: Duration = Duration::from_millis(100);
/// The slow one's naps, which are longer than the topic remembers, and how many messages it takes between them.
const NAP: Duration = Duration::from_millis(400);
const BETWEEN_NAPS: u64 = 100;
/// Which of its messages the steady one keeps to the end.
const KEPT: u64 = 10;

pub fn run(args: &Args, context: &Context) -> Result {
    // Ctrl-C reaches all processes of a terminal; the demo ends its own in order.
    block_signals();
    match args.part {
        Part::Publisher => publish(args.rate, context, &Orders::listen(|| {})?),
        // Nobody is interested in what a subscriber would still do.
        part => subscribe(part, context, &Orders::listen(|| std::process::exit(0))?),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Order {
    GoOn,
    /// Publish the last message; take no more naps.
    Stop,
    /// Leave nothing behind.
    Over,
}

/// What the demo has said so far.
struct Orders(Arc<(Mutex<Order>, Condvar)>);

impl Orders {
    /// Starts a thread that reads them, and calls `over` at their end.
    fn listen(over: fn()) -> Result<Self> {
        let orders = Orders(Arc::new((Mutex::new(Order::GoOn), Condvar::new())));
        let told = Orders(orders.0.clone());
        let listen = move || {
            for line in std::io::stdin().lock().lines() {
                if line.is_err() {
                    break;
                }
                told.set(Order::Stop);
            }
            told.set(Order::Over);
            over();
        };
        let thread = std::thread::Builder::new().name("orders".into()).spawn(listen);
        thread.map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        Ok(orders)
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, order: Order) {
        *self.lock() = order;
        self.0.1.notify_all();
    }

    /// Sleeps until there is `order`, or one after it, or until `until`; returns whether there is.
    fn wait(&self, order: Order, until: Option<Instant>) -> bool {
        let mut told = self.lock();
        while *told < order {
            told = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.0.1.wait(told).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return false,
                Some(left) => self.0.1.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        true
    }
}

fn say(report: &Value) -> Result<()> {
    // Whole lines are written at once.
    Ok(writeln!(std::io::stdout(), "{report}")?)
}

/// Where the topic's file is mapped in this process, so that an address can be turned into a place in the file.
struct Place {
    inode: u64,
    maps: Vec<Map>,
}

impl Place {
    fn find(context: &Context) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let path = inspect(Some(&context.domain), TOPIC)?.path;
        let file = std::fs::metadata(&path);
        let file = file.map_err(|error| Failure::Failed(format!("cannot inspect {}: {error}", path.display())))?;
        let maps = maps("self").ok_or_else(|| Failure::Failed("cannot read /proc/self/maps".into()))?;
        Ok(Place { inode: file.ino(), maps: maps.into_iter().filter(|map| map.inode == file.ino()).collect() })
    }

    /// The mapping of the topic's file that a message lies in, and its offset in the file.
    fn of(&self, message: &Scan) -> Option<(&Map, u64)> {
        let start = std::ptr::from_ref(message).addr();
        let end = start + size_of::<Scan>();
        let map = self.maps.iter().find(|map| map.start <= start && end <= map.end)?;
        Some((map, (map.offset + (start - map.start)) as u64))
    }
}

fn publish(rate: f64, context: &Context, orders: &Orders) -> Result {
    let options = Publisher::<Scan>::options().domain(&context.domain).depth(DEPTH).subscribers(8).samples(2);
    let mut publisher = options.open(TOPIC)?;
    let result = publish_until_told(&mut publisher, rate, context, orders);
    if result.is_ok() {
        orders.wait(Order::Over, None);
    }
    // Also if nobody hears its reports any more.
    publisher.remove()?;
    result
}

fn publish_until_told(publisher: &mut Publisher<Scan>, rate: f64, context: &Context, orders: &Orders) -> Result {
    let place = Place::find(context)?;
    say(&json!({ "ready": true, "pid": std::process::id() }))?;
    let interval = Duration::from_secs_f64(1.0 / rate);
    let mut due = Instant::now();
    let mut report_due = due + INTERVAL;
    let mut published = 0u64;
    loop {
        let last = orders.wait(Order::Stop, Some(due));
        let mut loan = publisher.loan()?;
        let (_, offset) = place.of(&loan).ok_or_else(|| Failure::Failed("the loan lies outside the topic".into()))?;
        loan.fill(published, place.inode, offset, last);
        let address = std::ptr::from_ref::<Scan>(&loan).addr();
        loan.commit();
        published += 1;
        if last {
            say(&json!({ "final": true, "published": published, "offset": offset, "address": address }))?;
            return Ok(Outcome::Done);
        }
        due += interval;
        if Instant::now() >= report_due {
            report_due += INTERVAL;
            say(&json!({ "published": published }))?;
        }
    }
}

/// What a subscriber has seen.
struct Account {
    received: u64,
    lost: u64,
    first: u64,
    last: u64,
    /// Messages that were published before it joined.
    history: u64,
    in_place: u64,
    /// Messages whose content does not match their checksum.
    torn: u64,
    recent: Histogram,
    total: Histogram,
    /// Of the last message: its address here, its offset in the file, and whether it could be written here.
    seen_at: (usize, u64, bool),
}

impl Account {
    fn new() -> Self {
        Account {
            received: 0,
            lost: 0,
            first: 0,
            last: 0,
            history: 0,
            in_place: 0,
            torn: 0,
            recent: Histogram::new(),
            total: Histogram::new(),
            seen_at: (0, 0, false),
        }
    }

    fn take(&mut self, sample: &Sample<Scan>, place: &Place, joined: u64) {
        let arrived = monotonic_now();
        let published = sample.timestamp().map_or(0, |timestamp| timestamp.as_nanos() as u64);
        if self.received == 0 {
            self.first = sample.sequence();
        } else {
            self.lost += sample.lagged();
        }
        self.received += 1;
        self.last = sample.sequence();
        if published < joined {
            self.history += 1;
        } else {
            self.recent.add(arrived.saturating_sub(published));
        }
        self.torn += u64::from(!sample.is_whole());
        if let Some((map, offset)) = place.of(sample) {
            let same_place = (place.inode, offset) == (sample.inode, sample.offset);
            self.in_place += u64::from(sample.is_in_place() && same_place && !map.writable);
            self.seen_at = (std::ptr::from_ref::<Scan>(sample).addr(), offset, map.writable);
        }
    }

    fn report(&mut self) -> Value {
        let latency = json!({
            "p50": self.recent.percentile(0.5),
            "p99": self.recent.percentile(0.99),
            "max": self.recent.max(),
        });
        self.total.merge(&self.recent);
        self.recent.clear();
        json!({ "received": self.received, "lost": self.lost, "latency_ns": latency })
    }

    fn total(mut self) -> Value {
        let mut report = self.report();
        let (address, offset, writable) = self.seen_at;
        report["latency_ns"] = json!({
            "p50": self.total.percentile(0.5),
            "p99": self.total.percentile(0.99),
            "p99.9": self.total.percentile(0.999),
            "max": self.total.max(),
        });
        report["final"] = true.into();
        report["first"] = self.first.into();
        report["last"] = self.last.into();
        report["history"] = self.history.into();
        report["in_place"] = self.in_place.into();
        report["torn"] = self.torn.into();
        report["seen_at"] = json!({ "address": address, "offset": offset, "writable": writable });
        report
    }
}

fn subscribe(part: Part, context: &Context, orders: &Orders) -> Result {
    let start = if part == Part::Late { Start::Oldest } else { Start::New };
    let joined = monotonic_now();
    let mut subscriber = Subscriber::<Scan>::options().domain(&context.domain).start(start).open(TOPIC)?;
    let place = Place::find(context)?;
    let slots = u64::from(subscriber.geometry().capacity);
    say(&json!({ "ready": true, "pid": std::process::id() }))?;
    let mut account = Account::new();
    let mut kept: Option<(Sample<Scan>, Box<Scan>)> = None;
    let mut report_due = Instant::now() + INTERVAL;
    loop {
        let sample = subscriber.recv()?;
        account.take(&sample, &place, joined);
        if sample.last != 0 {
            break;
        }
        if part == Part::Steady && account.received == KEPT {
            let copy = Box::new(*sample);
            kept = Some((sample, copy));
        }
        if part == Part::Slow && account.received % BETWEEN_NAPS == 0 {
            orders.wait(Order::Stop, Some(Instant::now() + NAP));
        }
        if Instant::now() >= report_due {
            report_due = Instant::now() + INTERVAL;
            say(&account.report())?;
        }
    }
    let last = account.last;
    let mut total = account.total();
    if let Some((sample, copy)) = kept {
        let meanwhile = last - sample.sequence();
        total["kept"] = json!({
            "sequence": sample.sequence(),
            "published_meanwhile": meanwhile,
            "laps": meanwhile / slots,
            "unchanged": *sample == *copy && sample.is_whole(),
        });
    }
    say(&total)?;
    Ok(Outcome::Done)
}
