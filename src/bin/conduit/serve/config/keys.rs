//! The table of keys.

use std::time::Duration;

use conduit::yaml::meant::{distance, nearest};
use conduit::yaml::{Fault, Value};
use serde_json::Value as Json;

use super::Config;
use super::kinds::{
    Address, Directory, Domain, Fraction, Kind, Optional, Patterns, PowerOfTwo, Size, Time, Token, Truth, Whole,
    Wholes, word,
};

/// What the names of variables begin with.
pub const PREFIX: &str = "CONDUIT__";

/// A value of the configuration.
pub struct Key {
    /// The keys from the outermost one on, with dots between.
    pub path: &'static str,
    /// Whether a running daemon takes it over.
    pub is_reloaded: bool,
    pub set: fn(&mut Config, &Value) -> Result<(), Fault>,
    /// As it is written in a file.
    pub show: fn(&Config) -> Json,
    pub is_same: fn(&Config, &Config) -> bool,
}

impl Key {
    pub fn find(path: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// The variable that sets it.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    /// Its last part.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

macro_rules! keys {
    ($($path:literal => $($field:ident).+, $kind:expr;)+) => {
        /// All of them; those of a section together.
        pub const KEYS: &[Key] = &[$(Key {
            path: $path,
            is_reloaded: begins_with($path, "backpressure."),
            set: |config, value| {
                config.$($field).+ = $kind.take(value)?;
                Ok(())
            },
            show: |config| $kind.show(&config.$($field).+),
            is_same: |one, other| one.$($field).+ == other.$($field).+,
        }),+];
    };
}

const fn begins_with(text: &str, start: &str) -> bool {
    let (text, start) = (text.as_bytes(), start.as_bytes());
    let mut at = 0;
    while at < start.len() {
        if at == text.len() || text[at] != start[at] {
            return false;
        }
        at += 1;
    }
    true
}

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
/// Or what there can be at all.
const HALF_TIB: usize = GIB.saturating_mul(512);
/// Places of a lane, at most as many as the engine has.
const REALTIME: PowerOfTwo = PowerOfTwo(16..=16_384);
const LOWER: PowerOfTwo = PowerOfTwo(16..=65_536);

keys! {
    "domain" => domain, Domain;
    "memory" => memory, Size(MIB..=HALF_TIB);
    "drain_timeout" => drain_timeout, Time(MS..=HOUR);
    "server.tcp_port" => server.tcp_port, Optional(Whole(0..=65_535));
    "server.udp_port" => server.udp_port, Optional(Whole(0..=65_535));
    "server.bind" => server.bind, Address;
    "server.token" => server.token, Optional(Token);
    "server.token_file" => server.token_file, Optional(Directory);
    "server.max_connections" => server.max_connections, Whole(1..=1_000_000);
    "server.idle_timeout" => server.idle_timeout, Optional(Time(MS..=24 * HOUR));
    "server.max_frame" => server.max_frame, Size(KIB..=conduit::frame::MAX_LEN);
    "server.window" => server.window, Whole(1..=1024);
    "server.busy_poll" => server.busy_poll, Optional(Time(US..=SECOND));
    "server.threads" => server.threads, Whole(1..=64);
    "acks.policy" => acks.policy, word();
    "acks.events" => acks.events, Whole(1..=65_536);
    "acks.age" => acks.age, Time(US..=HOUR);
    "topics.max" => topics.max, Whole(1..=1_000_000);
    "topics.depth" => topics.depth, Whole(1..=1_048_576);
    "topics.max_len" => topics.max_len, Size(1..=conduit::frame::MAX_LEN);
    "topics.allow" => topics.allow, Patterns;
    "topics.memory" => topics.memory, Size(MIB..=HALF_TIB);
    "queues.realtime.type" => queues.realtime.kind, word();
    "queues.realtime.capacity" => queues.realtime.capacity, REALTIME;
    "queues.realtime.target" => queues.realtime.target, Time(US..=HOUR);
    "queues.transactional.type" => queues.transactional.kind, word();
    "queues.transactional.capacity" => queues.transactional.capacity, LOWER;
    "queues.transactional.target" => queues.transactional.target, Time(US..=HOUR);
    "queues.batch.type" => queues.batch.kind, word();
    "queues.batch.capacity" => queues.batch.capacity, LOWER;
    "queues.batch.target" => queues.batch.target, Time(US..=HOUR);
    "numa.enabled" => numa.enabled, Truth;
    "numa.node" => numa.node, Whole(0..=1023);
    "workers.count" => workers.count, Whole(1..=64);
    "workers.cpu_affinity" => workers.cpu_affinity, Wholes;
    "workers.poll" => workers.poll, Optional(Time(US..=SECOND));
    "workers.retries.attempts" => workers.retries.attempts, Whole(1..=1000);
    "workers.retries.backoff" => workers.retries.backoff, Time(US..=HOUR);
    "workers.retries.max_backoff" => workers.retries.max_backoff, Time(US..=24 * HOUR);
    "backpressure.pause_threshold" => backpressure.paused, Fraction;
    "backpressure.drain_threshold" => backpressure.draining, Fraction;
    "backpressure.drop_threshold" => backpressure.dropping, Fraction;
    "backpressure.emergency_threshold" => backpressure.emergency, Fraction;
    "durable.dir" => durable.dir, Optional(Directory);
    "durable.sync" => durable.sync, word();
    "durable.interval" => durable.interval, Time(MS..=HOUR);
    "durable.split_size" => durable.split_size, Size(64 * KIB..=HALF_TIB);
    "durable.max_size" => durable.max_size, Optional(Size(64 * KIB..=HALF_TIB));
    "durable.max_age" => durable.max_age, Optional(Time(SECOND..=YEARS));
    "dead_letters.dir" => dead_letters.dir, Optional(Directory);
    "dead_letters.max_size" => dead_letters.max_size, Size(64 * KIB..=HALF_TIB);
    "dead_letters.max_age" => dead_letters.max_age, Optional(Time(SECOND..=YEARS));
    "metrics.port" => metrics.port, Optional(Whole(0..=65_535));
    "metrics.bind" => metrics.bind, Address;
}

/// Whether there are keys below this one.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The names right below a section, or the outermost ones below the empty one.
fn names(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let rest = if section.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.and_then(|rest| rest.split('.').next());
        if let Some(name) = name.filter(|name| !names.contains(name)) {
            names.push(name);
        }
    }
    names
}

/// The names right below a section, for an error.
pub fn names_in(section: &str) -> String {
    names(section).join(", ")
}

/// What an unknown key was meant to be: one of the same section, or one of that name elsewhere.
pub fn meant(path: &str) -> Option<String> {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let near = nearest(name, names(section).into_iter());
    near.map(String::from).or_else(|| {
        let elsewhere = KEYS.iter().filter(|key| key.name() == name).map(|key| key.path);
        elsewhere.min_by_key(|known| distance(path, known)).map(String::from)
    })
}

/// What an unknown variable was meant to be.
pub fn meant_variable(variable: &str) -> Option<String> {
    let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
    // A single underscore where there have to be two is one mistake.
    nearest(&variable.to_ascii_uppercase(), known.iter().map(String::as_str)).map(String::from)
}
