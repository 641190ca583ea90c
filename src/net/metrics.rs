//! What is counted, as metrics.

use super::openmetrics::Text;
use super::server::{CloseReason, NetStats};
use crate::backpressure::State;
use crate::engine::{DeadReason, DropReason, Stats};
use crate::lanes::Lane;

/// Priorities by number.
const PRIORITIES: [&str; 5] = ["batch", "low", "medium", "high", "critical"];
/// Bounds of the buckets of a latency, in nanoseconds: 1 us to 10 s, with those of the lanes' usual targets.
const BOUNDS: [u64; 15] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
];

/// What an engine and the server in front of it have done, as OpenMetrics text.
///
/// Some families are there twice: under the plain names by which dashboards for this kind of engine know them
/// (`events_received`, `events_processed`, `events_dropped`, `queue_depth`, `latency_ns`, `dedup_hits`), and under `conduit_`, with
/// labels and in base units.
///
/// ```
/// use conduit::engine::Engine;
/// use conduit::net::{NetStats, metrics};
///
/// let engine = Engine::options().domain(&format!("doc-metrics-{}", std::process::id())).start()?;
/// let text = metrics(&engine.stats(), &NetStats::default());
/// assert!(text.contains("\nevents_received_total 0\n") && text.ends_with("# EOF\n"));
/// # Ok::<(), conduit::engine::StartError>(())
/// ```
pub fn metrics(engine: &Stats, net: &NetStats) -> String {
    let mut text = Text::new();
    plain(&mut text, engine);
    events(&mut text, engine);
    lanes(&mut text, engine);
    stores(&mut text, engine);
    sockets(&mut text, net);
    text.finish()
}

fn plain(text: &mut Text, stats: &Stats) {
    let processed: u64 = stats.lanes.iter().map(|lane| lane.processed).sum();
    let dropped: u64 = stats.dropped.iter().flatten().sum::<u64>() + stats.failed_and_lost + stats.letters_lost;
    text.counter("events_received", "Events that came in.").sample(&[], stats.received.iter().sum::<u64>());
    text.counter("events_processed", "Events that were taken out of a lane and done with.").sample(&[], processed);
    text.counter("events_dropped", "Events that are kept nowhere.").sample(&[], dropped);
    let depth: usize = stats.lanes.iter().map(|lane| lane.depth).sum();
    text.gauge("queue_depth", "Events that wait in lanes.").sample(&[], depth as u64);
    text.counter("dedup_hits", "Events that had come before.").sample(&[], stats.duplicates);
    let mut family = text.histogram("latency_ns", "From an event's read to the beginning of its processing.");
    let latency = stats.lanes[1..].iter().fold(stats.lanes[0].latency.clone(), |all, lane| all.and(&lane.latency));
    let buckets = BOUNDS.into_iter().map(|bound| bound as f64).zip(latency.cumulative(&BOUNDS));
    family.sample(&[], buckets, latency.count(), latency.sum() as f64);
}

fn events(text: &mut Text, stats: &Stats) {
    let families: [(&str, &str, &[u64; 5]); 3] = [
        ("conduit_events_received", "Events that came in and were answered.", &stats.received),
        ("conduit_events_accepted", "Events that were put into a lane.", &stats.accepted),
        ("conduit_events_throttled", "Events whose producers were told to send them again.", &stats.throttled),
    ];
    for (name, help, by_priority) in families {
        let mut family = text.counter(name, help);
        for (priority, count) in PRIORITIES.iter().zip(by_priority) {
            family.sample(&[("priority", priority)], *count);
        }
    }
    let mut family = text.counter("conduit_events_dropped", "Events that were not taken and not kept.");
    for reason in DropReason::ALL {
        for (priority, count) in PRIORITIES.iter().zip(stats.dropped[reason as usize]) {
            family.sample(&[("reason", reason.name()), ("priority", priority)], count);
        }
    }
    let mut family = text.counter("conduit_events_dead_lettered", "Events that were given to the dead letters.");
    for reason in DeadReason::ALL {
        let count = stats.dead_lettered[reason as usize] + stats.failed[reason as usize];
        family.sample(&[("reason", reason.name())], count);
    }
    text.counter("conduit_events_duplicate", "Events that had come before.").sample(&[], stats.duplicates);
    text.counter("conduit_events_expired", "Events too far behind their producer's newest.").sample(&[], stats.too_old);
    text.counter("conduit_events_bad_topic", "Events for topics that cannot be had.").sample(&[], stats.bad_topic);
    text.counter("conduit_handler_calls", "Calls of handlers that did what they should.").sample(&[], stats.handled);
    text.counter("conduit_handler_retries", "Calls of handlers after the first for an event.")
        .sample(&[], stats.retried);
    text.counter("conduit_handler_panics", "Panics of handlers.").sample(&[], stats.panicked);
    text.counter("conduit_failed_events_lost", "Events at which a handler failed, and that are kept nowhere.")
        .sample(&[], stats.failed_and_lost);
    text.gauge("conduit_topics", "Topics that events are published on.").sample(&[], stats.topics as u64);
    text.gauge("conduit_producers", "Producers that are remembered.").sample(&[], stats.producers as u64);
    text.counter("conduit_producers_evicted", "Producers that were forgotten for others.")
        .sample(&[], stats.producers_evicted);
    text.gauge("conduit_memory_bytes", "Memory that events keep, in the engine and while they are read.")
        .sample(&[], stats.memory as u64);
}

fn lanes(text: &mut Text, stats: &Stats) {
    for lane in Lane::ALL {
        let of = &stats.lanes[lane as usize];
        let label = [("lane", lane.name())];
        text.gauge("conduit_lane_depth", "Events that wait in a lane.").sample(&label, of.depth as u64);
        text.gauge("conduit_lane_capacity", "Events that may wait in a lane.").sample(&label, of.capacity as u64);
        for state in State::ALL {
            let label = [("lane", lane.name()), ("state", state.name())];
            let is_it = u64::from(state == of.state);
            text.gauge("conduit_lane_state", "1 for the state that a lane is in.").sample(&label, is_it);
        }
        text.counter("conduit_lane_state_changes", "Changes of a lane's state.").sample(&label, of.state_changes);
        text.counter("conduit_lane_processed", "Events that were taken out of a lane.").sample(&label, of.processed);
        text.counter("conduit_lane_late", "Of those, begun later than the lane's target.").sample(&label, of.late);
        let buckets = BOUNDS.into_iter().map(|bound| bound as f64 / 1e9).zip(of.latency.cumulative(&BOUNDS));
        text.histogram("conduit_lane_latency_seconds", "From an event's read to the beginning of its processing.")
            .sample(&label, buckets, of.latency.count(), of.latency.sum() as f64 / 1e9);
    }
}

fn stores(text: &mut Text, stats: &Stats) {
    text.counter("conduit_log_events", "Events in the durable log.").sample(&[], stats.logged);
    text.counter("conduit_log_commits", "Groups of events that were committed.").sample(&[], stats.commits);
    text.counter("conduit_log_lost", "Events that the log did not take before the engine stopped.")
        .sample(&[], stats.log_lost);
    text.counter("conduit_log_failures", "Tries of the durable log that failed.").sample(&[], stats.log_failures);
    text.counter("conduit_dead_letters", "Letters that were given to the store.").sample(&[], stats.letters);
    text.counter("conduit_dead_letter_failures", "Tries of the store that failed.").sample(&[], stats.letter_failures);
    text.counter("conduit_dead_letters_lost", "Letters that could not be kept before the engine stopped.")
        .sample(&[], stats.letters_lost);
}

fn sockets(text: &mut Text, net: &NetStats) {
    text.gauge("conduit_connections", "Connections that are open.").sample(&[], net.connections as u64);
    text.counter("conduit_connections_accepted", "Connections that were accepted.").sample(&[], net.accepted);
    text.counter("conduit_connections_refused", "Connections beyond as many as there may be.").sample(&[], net.refused);
    let mut family = text.counter("conduit_connections_closed", "Connections that were closed.");
    for reason in CloseReason::ALL {
        family.sample(&[("reason", reason.name())], net.closed[reason as usize]);
    }
    text.counter("conduit_received_bytes", "Bytes that were read.").sample(&[], net.bytes);
    text.counter("conduit_bad_bodies", "Events whose body was not as it was sent.").sample(&[], net.bad_bodies);
    text.counter("conduit_datagrams", "Datagrams that were received.").sample(&[], net.datagrams);
    text.counter("conduit_datagrams_bad", "Datagrams that were no frames.").sample(&[], net.bad_datagrams);
    text.counter("conduit_datagrams_unauthorized", "Datagrams without the token.")
        .sample(&[], net.unauthorized_datagrams);
    text.counter("conduit_datagrams_lost", "What the kernel dropped: datagrams, or several put together.")
        .sample(&[], net.datagrams_lost);
}
