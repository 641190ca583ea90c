//! The daemon: an engine with its stores, the server in front of it, and what it is told by signals.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use conduit::engine::{Engine, EngineOptions, Retries, Stats, TopicLimits};
use conduit::lanes::Lane;
use conduit::net::Server;

use super::config::{Config, Loaded, Secret};
use super::notify::Supervisor;
use crate::events::Events;
use crate::keys::Signals;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, harmless, note, print_json};
use crate::{Context, units};

/// How much longer than the engine's stores the end may take before the process is ended as it is.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until it is told to end. `reload` reads the configuration again.
pub fn serve(loaded: Loaded, token: Option<&Secret>, context: &Context, reload: impl Fn() -> Result<Loaded>) -> Result {
    // Before there are other threads.
    let signals = Signals::new(&[libc::SIGHUP])?;
    let mut config = loaded.config;
    let mut events = Events::with_grace(config.drain_timeout.saturating_add(GRACE))?.without_output();
    let mut supervisor = Supervisor::new();
    let server = start(&config, token)?;
    announce(&server, &config, context)?;
    supervisor.is_ready(&status(&server));
    loop {
        let next = supervisor.alive_every().map(|interval| Instant::now() + interval);
        let woken = events.wait(&[signals.as_fd()], next)?;
        supervisor.is_alive();
        if woken.interrupted {
            break;
        }
        let mut is_reload_wanted = false;
        while let Some(signal) = signals.next() {
            is_reload_wanted |= signal == libc::SIGHUP;
        }
        if is_reload_wanted {
            supervisor.is_reloading();
            match reload() {
                Ok(new) => take_over(&server, &mut config, new.config),
                // What it had is still right.
                Err(Failure::Failed(reason) | Failure::Usage(reason)) => {
                    note(format_args!("the configuration stays as it is: {reason}"));
                }
                Err(closed) => return Err(closed),
            }
            supervisor.is_ready(&status(&server));
        }
    }
    supervisor.is_stopping(config.drain_timeout.saturating_add(GRACE));
    farewell(&server.stop(config.drain_timeout))
}

fn start(config: &Config, token: Option<&Secret>) -> Result<Server> {
    let engine = stores(config, engine(config))?.start().map_err(|error| Failure::Failed(error.to_string()))?;
    let (from, metrics) = (&config.server, &config.metrics);
    let at = |address, port: Option<u16>| port.map(|port| SocketAddr::new(address, port).to_string());
    let forever = Duration::MAX;
    let mut options = Server::options()
        .max_connections(from.max_connections as usize)
        .idle_timeout(from.idle_timeout.unwrap_or(forever))
        .max_frame(from.max_frame)
        .window(from.window)
        .acks(config.acks.policy())
        .threads(from.threads)
        .poll(from.busy_poll.unwrap_or_default());
    if let Some(address) = at(from.bind, from.tcp_port) {
        options = options.tcp(&address);
    }
    if let Some(address) = at(from.bind, from.udp_port) {
        options = options.udp(&address);
    }
    if let Some(address) = at(metrics.bind, metrics.port) {
        options = options.metrics(&address);
    }
    if let Some(token) = token {
        options = options.token(token.reveal());
    }
    options.start(engine).map_err(|error| Failure::Failed(error.to_string()))
}

fn engine(config: &Config) -> EngineOptions {
    let workers = &config.workers;
    let retries = Retries {
        attempts: workers.retries.attempts,
        backoff: workers.retries.backoff,
        max_backoff: workers.retries.max_backoff,
        ..Retries::default()
    };
    let topics = TopicLimits {
        max: config.topics.max,
        depth: config.topics.depth,
        max_len: config.topics.max_len,
        allow: config.topics.allow.clone(),
        memory: config.topics.memory,
    };
    let lanes = [
        (Lane::Realtime, &config.queues.realtime),
        (Lane::Transactional, &config.queues.transactional),
        (Lane::Batch, &config.queues.batch),
    ];
    let options = Engine::options()
        .domain(&config.domain)
        .topics(topics)
        .workers(workers.count)
        .pin(workers.cpu_affinity.iter().copied())
        .poll(workers.poll.unwrap_or_default())
        .retries(retries)
        .thresholds(config.backpressure)
        .memory(config.memory)
        .credit(config.server.window);
    let options = lanes
        .into_iter()
        .fold(options, |options, (lane, queue)| options.capacity(lane, queue.capacity).target(lane, queue.target));
    if config.numa.enabled { options.confine(super::config::Machine::cpus_of(config.numa.node)) } else { options }
}

#[cfg(feature = "tank")]
fn stores(config: &Config, mut options: EngineOptions) -> Result<EngineOptions> {
    use super::config::Sync;
    use conduit::tank::{DeadLetterStore, EventLog, EventSync};

    if let Some(dir) = &config.durable.dir {
        let sync = match config.durable.sync {
            Sync::Group => EventSync::Group,
            Sync::Interval => EventSync::Interval(config.durable.interval),
            Sync::None => EventSync::None,
        };
        let mut log = EventLog::options().sync(sync).file_bytes(config.durable.split_size as u64);
        if let Some(bytes) = config.durable.max_size {
            log = log.max_bytes(bytes as u64);
        }
        if let Some(age) = config.durable.max_age {
            log = log.max_age(age);
        }
        options = options.durable_log(log.open(dir)?);
    }
    if let Some(dir) = &config.dead_letters.dir {
        let mut store = DeadLetterStore::options().max_bytes(config.dead_letters.max_size as u64);
        if let Some(age) = config.dead_letters.max_age {
            store = store.max_age(age);
        }
        options = options.dead_letters(store.open(dir)?);
    }
    Ok(options)
}

#[cfg(not(feature = "tank"))]
fn stores(config: &Config, options: EngineOptions) -> Result<EngineOptions> {
    for (key, dir) in [("durable.dir", &config.durable.dir), ("dead_letters.dir", &config.dead_letters.dir)] {
        if dir.is_some() {
            return Err(Failure::Usage(format!(
                "{key} takes the feature `tank`: build with `--features cli,net,tank`"
            )));
        }
    }
    Ok(options)
}

/// Says where it serves, and what it leaves out.
fn announce(server: &Server, config: &Config, context: &Context) -> Result<()> {
    let addresses = [("tcp", server.tcp_addr()), ("udp", server.udp_addr()), ("metrics", server.metrics_addr())];
    if context.json {
        let mut said = serde_json::Map::new();
        for (name, address) in addresses {
            said.insert(name.into(), address.map(|address| address.to_string()).into());
        }
        print_json(&said.into())?;
    } else {
        let shown = addresses.into_iter().filter_map(|(name, address)| {
            let address = address?;
            Some(if name == "metrics" {
                format!("metrics http://{address}/metrics")
            } else {
                format!("{name} {address}")
            })
        });
        let mut out = Out::new();
        out.bytes(format!("serving {}\n", shown.collect::<Vec<_>>().join(", ")).as_bytes())?;
        out.flush()?;
    }
    let missing: Vec<_> =
        config.workers.cpu_affinity.iter().filter(|cpu| !super::config::Machine::this().cpus.contains(cpu)).collect();
    if !missing.is_empty() {
        note(format_args!("workers.cpu_affinity: this process has no CPU {missing:?}: those workers run anywhere"));
    }
    for (kept, not, dir) in [
        ("durable events are kept", "no event is kept on disk (durable.dir)", &config.durable.dir),
        ("dead letters are kept", "dead letters are dropped (dead_letters.dir)", &config.dead_letters.dir),
    ] {
        match dir.as_deref().map(Path::display) {
            None => tracing::info!("{not}"),
            Some(dir) => tracing::info!(%dir, "{kept}"),
        }
    }
    Ok(())
}

/// Takes over what a running server can, and says what it cannot.
fn take_over(server: &Server, config: &mut Config, new: Config) {
    let restart = config.restart_needed(&new);
    if !restart.is_empty() {
        note(format_args!("these wait for the next start: {}", restart.join(", ")));
    }
    match server.engine().set_thresholds(new.backpressure) {
        Ok(()) => {
            config.backpressure = new.backpressure;
            note(format_args!("the thresholds are as configured now"));
        }
        Err(wrong) => note(format_args!("the thresholds stay as they are: {wrong:?} do not grow")),
    }
}

fn status(server: &Server) -> String {
    let shown: Vec<_> = [server.tcp_addr(), server.udp_addr()].into_iter().flatten().map(|at| at.to_string()).collect();
    format!("serving {}", shown.join(", "))
}

/// Says what it did.
fn farewell(stats: &Stats) -> Result {
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let (received, accepted) = (sum(&stats.received), sum(&stats.accepted));
    let dropped: u64 = stats.dropped.iter().flatten().sum();
    let dead = sum(&stats.dead_lettered) + sum(&stats.failed);
    let lost = stats.failed_and_lost + stats.letters_lost;
    note(format_args!(
        "{}",
        harmless(&format!(
            "{}: {} accepted, {} throttled, {} dropped, {}, {}",
            units::several(received, "event", "events"),
            units::count(accepted),
            units::count(sum(&stats.throttled)),
            units::count(dropped),
            units::several(dead, "dead letter", "dead letters"),
            units::several(stats.duplicates, "duplicate", "duplicates"),
        ))
    ));
    if stats.log_lost > 0 {
        note(format_args!("{} events could not be logged; nobody was told that they are durable", stats.log_lost));
    }
    if lost > 0 {
        note(format_args!("{lost} accepted events failed and could not be kept"));
    }
    Ok(if lost + stats.log_lost > 0 { Outcome::Degraded } else { Outcome::Done })
}
