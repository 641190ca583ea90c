//! How soon a handler has an urgent event: from the moment when its frame was understood, and from before it was sent.

use super::{figures, leave};
use crate::clock::{ns, span, ticks};
use crate::peers::brokers::{PATIENCE, Wire, conduit::check};
use crate::rows::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::stage::{allow, role};
use crate::stats::summary;
use conduit::engine::{Engine, Event, Failure};
use conduit::frame;
use conduit::net::Server;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn row() -> Row {
    let note = "1,000 critical events a second over TCP, all in one process; until the handler has it, its topic has it too. \
                Polling, its one worker has a core, and the sender and the thread that reads have the other";
    Row::new("from frame parsed to handler started", note)
        .column("p50", "p50", Time)
        .column("p99", "p99", Time)
        .column("sent50", "p50 from the write", Time)
        .column("sent99", "p99 from the write", Time)
        .cell("parked", run::<false>)
        .cell("polling", run::<true>)
        .target("parked", "p99", &[], AtMost(100e3))
        .target("polling", "p99", &[], AtMost(2e3))
}

/// The clock by which events are stamped when they are received: to the nanosecond, and nobody sets it in so short a time.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}

fn run<const POLLS: bool>(context: &Context) -> Outcome {
    let stage = context.stage;
    let domain = context.topic(1).name;
    let count = if context.quick { 500 } else { 3000 };
    let act = || {
        if !POLLS {
            allow(&context.cores);
        }
        // Of each event: from the frame, from the write.
        let samples = Arc::new(Mutex::new(Vec::with_capacity(count)));
        let taken = samples.clone();
        let handler = move |event: &Event<'_>| {
            let (wall, now) = (wall_clock(), ticks());
            let sent = u64::from_le_bytes(event.payload.try_into().map_err(Failure::reject)?);
            let since = wall.checked_sub(event.received).ok_or_else(|| Failure::reject("the clock was set"))?;
            taken.lock().expect("no panic").push((since as f64, ns(now - sent)));
            Ok(())
        };
        let poll = if POLLS { Duration::MAX } else { Duration::ZERO };
        let mut engine = Engine::options().domain(&domain).handler("*", handler).poll(poll);
        if POLLS {
            engine = engine.workers(1).pin([context.cores[1]]);
        }
        let server = Server::options().tcp("127.0.0.1:0").poll(poll);
        let server = server.start(engine.start().expect("an engine")).expect("a server");
        let mut wire = Wire::connect(server.tcp_addr().expect("an address").port());
        let apart = span(Duration::from_millis(1));
        let mut due = ticks();
        for _ in 0..count {
            due += apart;
            std::thread::sleep(Duration::from_nanos(ns(due.saturating_sub(ticks())) as u64));
            let mut buffer = [0; 64];
            let payload = ticks().to_le_bytes();
            let event = frame::Event {
                priority: frame::Priority::Critical,
                topic: b"urgent",
                payload: &payload,
                ..Default::default()
            };
            let len = event.encode(&mut buffer).expect("a frame");
            wire.send(&buffer[..len]);
        }
        // The last one may still be on its way.
        std::thread::sleep(Duration::from_millis(20));
        let stats = server.stop(PATIENCE);
        check(&stats, count as u64);
        let samples = samples.lock().expect("no panic");
        assert_eq!((samples.len(), stats.handled), (count, count as u64), "each event was handled once");
        // The first makes the topic.
        let (mut parsed, mut sent): (Vec<_>, Vec<_>) = samples[count / 10..].iter().copied().unzip();
        let (parsed, sent) = (summary(&mut parsed).expect("some"), summary(&mut sent).expect("some"));
        leave(stage, &[parsed.p50, parsed.p99, sent.p50, sent.p99]);
    };
    let played = context.play(vec![role(context.cores[0], act)]);
    let _ = conduit::topic::clean(Some(&domain), false);
    played?;
    figures(stage, &["p50", "p99", "sent50", "sent99"])
}
