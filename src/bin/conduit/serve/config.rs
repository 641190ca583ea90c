//! What the daemon does, as its configuration file and the environment have it.
//!
//! A value comes from the environment (`CONDUIT__SERVER__TCP_PORT=9000`), else from the file, else it is the default. There is
//! one [table of keys](keys::KEYS): what a value may be, how it is written, and where it goes is said once, for all of them.
//! Whatever is wrong is found at once and told with its place.

mod check;
mod keys;
mod kinds;
mod print;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use conduit::ack;
use conduit::backpressure::Thresholds;
use conduit::topic::Pattern;
use conduit::yaml::{self, Node, Value};

pub use check::Machine;
pub use conduit::yaml::{Fault, MAX_FILE, Place, Problem, Problems};

use keys::{KEYS, Key};
use kinds::{Domain, Kind};

/// Everything. Times that can be turned off are `None` then.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The group of topics that events go to; empty for the one without a name.
    pub domain: String,
    /// Bytes that the events under way may take.
    pub memory: usize,
    /// How long the end waits for stores that fail and for clients that do not read.
    pub drain_timeout: Duration,
    pub server: Server,
    pub acks: Acks,
    pub topics: Topics,
    pub queues: Queues,
    pub numa: Numa,
    pub workers: Workers,
    /// The only part that is taken over without a restart.
    pub backpressure: Thresholds,
    pub durable: Durable,
    pub dead_letters: DeadLetters,
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            domain: String::new(),
            memory: 256 << 20,
            drain_timeout: Duration::from_secs(30),
            server: Server::default(),
            acks: Acks::default(),
            topics: Topics::default(),
            queues: Queues::default(),
            numa: Numa::default(),
            workers: Workers::default(),
            backpressure: Thresholds::default(),
            durable: Durable::default(),
            dead_letters: DeadLetters::default(),
            metrics: Metrics::default(),
        }
    }
}

/// Who may send, and how.
#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    /// 0 for any that is free.
    pub tcp_port: Option<u16>,
    /// 0 for any that is free.
    pub udp_port: Option<u16>,
    /// Of TCP and UDP. One that others reach asks for a token.
    pub bind: IpAddr,
    /// What clients have to know.
    pub token: Option<Secret>,
    /// Where that is kept, without the end of its line.
    pub token_file: Option<PathBuf>,
    pub max_connections: u32,
    /// A connection that sends nothing for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// Bytes of the largest frame, header and all.
    pub max_frame: usize,
    /// Credit: how many events a client may send that are not answered yet.
    pub window: u32,
    /// How long a thread looks at its sockets before it sleeps.
    pub busy_poll: Option<Duration>,
    pub threads: usize,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            tcp_port: Some(9000),
            udp_port: Some(9001),
            bind: Ipv4Addr::LOCALHOST.into(),
            token: None,
            token_file: None,
            max_connections: 10_000,
            idle_timeout: Some(Duration::from_secs(300)),
            max_frame: conduit::frame::DEFAULT_MAX_LEN,
            window: 1024,
            busy_poll: None,
            threads: 1,
        }
    }
}

/// When events are answered.
#[derive(Clone, PartialEq, Debug)]
pub struct Acks {
    pub policy: AckPolicy,
    /// With [`AckPolicy::Batch`]: when so many are answered.
    pub events: u32,
    /// With [`AckPolicy::Batch`]: when the oldest answer is so old.
    pub age: Duration,
}

impl Default for Acks {
    fn default() -> Self {
        Acks { policy: AckPolicy::Immediate, events: 32, age: Duration::from_millis(5) }
    }
}

impl Acks {
    /// As connections have it.
    pub fn policy(&self) -> ack::Policy {
        match self.policy {
            AckPolicy::Immediate => ack::Policy::Immediate,
            AckPolicy::Batch => ack::Policy::Batch { events: self.events, age: self.age.as_nanos() as u64 },
            AckPolicy::Deferred => ack::Policy::Deferred,
        }
    }
}

kinds::words! {
    /// See [`ack::Policy`].
    AckPolicy { Immediate = "immediate", Batch = "batch", Deferred = "deferred" }
}

/// The topics that events go to.
#[derive(Clone, PartialEq, Debug)]
pub struct Topics {
    /// Most of them.
    pub max: u32,
    /// How many events each keeps.
    pub depth: u32,
    /// How long an event of a topic is at first: a longer one has the topic made anew.
    pub max_len: usize,
    /// Those that events may be for.
    pub allow: Vec<Pattern>,
    /// Bytes of shared memory that all of them take.
    pub memory: usize,
}

impl Default for Topics {
    fn default() -> Self {
        Topics { max: 1024, depth: 256, max_len: 256, allow: vec![Pattern::new("**")], memory: 256 << 20 }
    }
}

/// The three lanes.
#[derive(Clone, PartialEq, Debug)]
pub struct Queues {
    pub realtime: Queue,
    pub transactional: Queue,
    pub batch: Queue,
}

/// A lane.
#[derive(Clone, PartialEq, Debug)]
pub struct Queue {
    pub kind: QueueKind,
    /// A power of two.
    pub capacity: usize,
    /// How long an event is to wait at most: longer ones are counted.
    pub target: Duration,
}

impl Default for Queues {
    fn default() -> Self {
        let queue = |kind, capacity, target| Queue { kind, capacity, target: Duration::from_micros(target) };
        Queues {
            realtime: queue(QueueKind::Spsc, 16_384, 100),
            transactional: queue(QueueKind::Mpsc, 65_536, 1_000),
            batch: queue(QueueKind::Mpsc, 65_536, 10_000),
        }
    }
}

kinds::words! {
    /// How many may push to a queue: one or any number. Each lane has a kind of its own, which the file may say.
    QueueKind { Spsc = "spsc", Mpsc = "mpsc" }
}

/// Whose memory is used.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Numa {
    pub enabled: bool,
    pub node: u32,
}

/// Who processes events.
#[derive(Clone, PartialEq, Debug)]
pub struct Workers {
    pub count: usize,
    /// The CPU of each; empty for wherever there is room.
    pub cpu_affinity: Vec<usize>,
    /// How long a worker looks for events before it sleeps.
    pub poll: Option<Duration>,
    pub retries: Retries,
}

impl Default for Workers {
    fn default() -> Self {
        Workers { count: 2, cpu_affinity: Vec::new(), poll: None, retries: Retries::default() }
    }
}

/// What becomes of an event whose handler failed.
#[derive(Clone, PartialEq, Debug)]
pub struct Retries {
    /// How often it is tried, with the first time.
    pub attempts: u32,
    /// How long until the second try; each further wait is twice as long.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { attempts: 4, backoff: Duration::from_millis(10), max_backoff: Duration::from_secs(1) }
    }
}

/// Events that outlive the process.
#[derive(Clone, PartialEq, Debug)]
pub struct Durable {
    /// `None`: none do.
    pub dir: Option<PathBuf>,
    pub sync: Sync,
    /// With [`Sync::Interval`].
    pub interval: Duration,
    /// Bytes of a file before the next is begun.
    pub split_size: usize,
    /// Bytes of all files: the oldest are removed for more. `None`: all are kept.
    pub max_size: Option<usize>,
    /// The oldest are removed after so long. `None`: all are kept.
    pub max_age: Option<Duration>,
}

impl Default for Durable {
    fn default() -> Self {
        Durable {
            dir: None,
            sync: Sync::Group,
            interval: Duration::from_millis(100),
            split_size: 256 << 20,
            max_size: None,
            max_age: None,
        }
    }
}

kinds::words! {
    /// When durable events are on disk: before they are answered, many at once; every so often; or when the kernel likes.
    Sync { Group = "group", Interval = "interval", None = "none" }
}

/// Events that could not be processed.
#[derive(Clone, PartialEq, Debug)]
pub struct DeadLetters {
    /// `None`: they are dropped and counted.
    pub dir: Option<PathBuf>,
    pub max_size: usize,
    /// The oldest are removed after so long.
    pub max_age: Option<Duration>,
}

impl Default for DeadLetters {
    fn default() -> Self {
        DeadLetters { dir: None, max_size: 256 << 20, max_age: Some(Duration::from_secs(7 * 24 * 3600)) }
    }
}

/// Where metrics are read.
#[derive(Clone, PartialEq, Debug)]
pub struct Metrics {
    /// 0 for any that is free.
    pub port: Option<u16>,
    pub bind: IpAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        // The port that exporters of OpenTelemetry have.
        Metrics { port: Some(9464), bind: Ipv4Addr::LOCALHOST.into() }
    }
}

/// Text that is shown to nobody.
#[derive(Clone, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// What one is, for an error.
    pub const EXPECTED: &str = "8 to 256 visible ASCII characters";

    /// `None` if it is so short that it would be found by trying, or cannot be typed.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (8..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Secret(text.into()))
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A configuration that makes sense, and where it comes from.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Loaded {
    pub config: Config,
    /// Of keys that are not as by default.
    places: BTreeMap<&'static str, Place>,
}

impl Loaded {
    /// Reads a configuration from a file (its name and text) and the environment.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub fn new(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        machine: &Machine,
    ) -> Result<Self, Problems> {
        let mut loading = Loading::default();
        if let Some((name, text)) = file {
            match yaml::parse(text) {
                Ok(document) => loading.section(name, "", &document),
                Err((fault, line, column)) => {
                    let place = Place::File { name: name.into(), line, column };
                    loading.problems.push(Problem { place, key: String::new(), fault });
                }
            }
        }
        let mut variables: Vec<_> = environment.into_iter().collect();
        variables.sort();
        variables.into_iter().for_each(|(name, value)| loading.variable(name, value));
        let Loading { loaded, mut problems } = loading;
        // Values that are wrong by themselves say nothing about each other.
        if problems.is_empty() {
            problems = check::together(&loaded, machine);
        }
        if problems.is_empty() { Ok(loaded) } else { Err(Problems(problems)) }
    }

    /// Has events go to the topics of this domain, whatever else was said.
    ///
    /// # Errors
    ///
    /// It is no name of one.
    pub fn set_domain(&mut self, domain: &str) -> Result<(), Problem> {
        let place = Place::CommandLine { option: "--domain or CONDUIT_DOMAIN".into() };
        match Domain.take(&Value::Text(domain.into())) {
            Ok(domain) => self.config.domain = domain,
            Err(fault) => return Err(Problem { place, key: "domain".into(), fault }),
        }
        self.places.insert("domain", place);
        Ok(())
    }

    /// Where the value of this key comes from.
    pub fn place(&self, key: &str) -> &Place {
        self.places.get(key).unwrap_or(&Place::Default)
    }
}

impl Config {
    /// The keys that `new` has other values for and that a running daemon does not take over.
    pub fn restart_needed(&self, new: &Config) -> Vec<&'static str> {
        KEYS.iter().filter(|key| !key.is_reloaded && !(key.is_same)(self, new)).map(|key| key.path).collect()
    }
}

#[derive(Default)]
struct Loading {
    loaded: Loaded,
    problems: Vec<Problem>,
}

impl Loading {
    /// Takes over the section at `path` of the file; that is empty for the whole of it.
    fn section(&mut self, file: &str, path: &str, node: &Node) {
        let at = |node: &Node| Place::File { name: file.into(), line: node.line, column: node.column };
        let entries = match &node.value {
            Value::Map(entries) => entries,
            // All of its keys are commented out.
            Value::Nothing => return,
            other => {
                let expected = format!("{} below it", keys::names_in(path));
                let fault = Fault::Wrong { expected, found: other.describe() };
                self.problems.push(Problem { place: at(node), key: path.into(), fault });
                return;
            }
        };
        for (name, value) in entries {
            let name_of = match &name.value {
                // Longer ones are none that there are.
                Value::Text(text) => text.chars().take(80).collect(),
                other => other.describe(),
            };
            let path = if path.is_empty() { name_of } else { format!("{path}.{name_of}") };
            if let Some(key) = Key::find(&path) {
                self.value(key, at(value), &value.value);
            } else if keys::is_section(&path) {
                self.section(file, &path, value);
            } else {
                let fault = Fault::Unknown { meant: keys::meant(&path) };
                self.problems.push(Problem { place: at(name), key: path, fault });
            }
        }
    }

    fn value(&mut self, key: &'static Key, place: Place, value: &Value) {
        match (key.set)(&mut self.loaded.config, value) {
            Ok(()) => {
                self.loaded.places.insert(key.path, place);
            }
            Err(fault) => self.problems.push(Problem { place, key: key.path.into(), fault }),
        }
    }

    fn variable(&mut self, name: OsString, value: OsString) {
        let shown = name.to_string_lossy().into_owned();
        if !shown.starts_with(keys::PREFIX) {
            return;
        }
        let place = Place::Environment { variable: shown.clone() };
        let Some(key) = KEYS.iter().find(|key| key.variable() == shown) else {
            let fault = Fault::Unknown { meant: keys::meant_variable(&shown) };
            self.problems.push(Problem { place, key: String::new(), fault });
            return;
        };
        let Ok(text) = value.into_string() else {
            self.problems.push(Problem { place, key: key.path.into(), fault: Fault::NotText });
            return;
        };
        // Text as it is, where a text will do: a token of digits is no number. Anything else as in a file.
        let raw = Value::Text(text.clone());
        if (key.set)(&mut self.loaded.config, &raw).is_ok() {
            self.loaded.places.insert(key.path, place);
            return;
        }
        let value = yaml::parse(&text).map_or(raw, |node| node.value);
        self.value(key, place, &value);
    }
}
