//! Events over the network, beside servers that take them too: how many, how soon they are answered, and what each costs.

mod datagrams;
mod disk;
mod handler;

use super::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::clock::{ns, span, ticks};
use crate::peers::brokers::{Ask, Broker, Client, Directory, Job, Program, cpu_of, place};
use crate::peers::brokers::{conduit::Conduit, mosquitto::Mosquitto, nats::Nats, raw::Raw, redis::Redis};
use crate::stage::{Stage, allow, role};
use crate::stats::summary;
use std::time::Duration;

const RAW: &str = "raw sink";
const NATS: &str = "nats";
const JETSTREAM: &str = "nats jetstream";
const REDIS: &str = "redis";
const MOSQUITTO: &str = "mosquitto";
const CONDUIT: &str = "conduit";
/// As the others keep events: what is answered outlives the process, and a loss of power after a second.
const RELAXED: &str = "conduit, synced each second";

const STREAM: &str = "one connection that is never answered but at the end; redis with a window of 512. What is sent was made \
                      before; all may use both cores";
const ACKED: &str = "one connection, each event answered, at most 64 on their way; p50 and p99 from the write to the answer. Conduit \
                     may ask for an event again, when its lane is full";
const DURABLE: &str = "one connection, each event answered when it is kept, at most 512 on their way. Conduit alone answers when \
                       it is on the disk; redis syncs each second, JetStream every two minutes";

pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("ingest 64 B", STREAM)
            .cell(RAW, stream::<Raw, 64>)
            .cell(NATS, stream::<Nats, 64>)
            .cell(REDIS, |context| window::<Redis>(context, 64, Ask::Nothing, 512))
            .cell(MOSQUITTO, stream::<Mosquitto, 64>)
            .cell(CONDUIT, stream::<Conduit, 64>)
            .target(CONDUIT, "rate", &[NATS], AtLeast(1.3)),
        row("ingest 1 KiB", STREAM)
            .cell(RAW, stream::<Raw, 1024>)
            .cell(NATS, stream::<Nats, 1024>)
            .cell(REDIS, |context| window::<Redis>(context, 1024, Ask::Nothing, 512))
            .cell(MOSQUITTO, stream::<Mosquitto, 1024>)
            .cell(CONDUIT, stream::<Conduit, 1024>)
            .target(CONDUIT, "rate", &[NATS], AtLeast(1.1)),
        answered("ingest 64 B, each acked, window 64", ACKED)
            .cell(RAW, |context| window::<Raw>(context, 64, Ask::Taken, 64))
            .cell(REDIS, |context| window::<Redis>(context, 64, Ask::Taken, 64))
            .cell(MOSQUITTO, |context| window::<Mosquitto>(context, 64, Ask::Taken, 64))
            .cell(CONDUIT, |context| window::<Conduit>(context, 64, Ask::Taken, 64))
            .target(CONDUIT, "rate", &[REDIS], AtLeast(1.8))
            .target(CONDUIT, "p99", &[RAW], AtMost(1.4)),
        answered("ingest 64 B, durable, window 512", DURABLE)
            .cell(JETSTREAM, |context| window::<Nats>(context, 64, Ask::Durable, 512))
            .cell(REDIS, |context| window::<Redis>(context, 64, Ask::Durable, 512))
            .cell(disk::WHO, disk::run)
            .cell(CONDUIT, |context| window::<Conduit>(context, 64, Ask::Durable, 512))
            .cell(RELAXED, |context| window::<Conduit>(context, 64, Ask::Kept, 512))
            .target(CONDUIT, "rate", &[JETSTREAM], AtLeast(1.5))
            .target(RELAXED, "rate", &[JETSTREAM], AtLeast(1.5)),
    ];
    rows.extend([handler::row(), datagrams::row()]);
    rows
}

fn row(name: &'static str, note: &'static str) -> Row {
    let row = Row::new(name, note).column("rate", "events/s", Rate).column("cpu", "server's CPU time, each", Time);
    row.column("client", "client's share of a core, %", Count)
}

fn answered(name: &'static str, note: &'static str) -> Row {
    row(name, note).column("p50", "p50", Time).column("p99", "p99", Time).column("again", "sent again", Count)
}

/// A cell's directory, and a job for its server and client in it.
fn job(context: &Context, len: usize, ask: Ask) -> Result<(Directory, Job), String> {
    let name = context.topic(1).name;
    let directory = Directory::new(&name)?;
    let topic = if len == 64 { "t64" } else { "t1024" };
    let job = Job { len, ask, topic, name, directory: directory.0.clone(), cores: context.cores };
    Ok((directory, job))
}

/// How long a cell measures: longer than others, as servers have more to do beside.
fn time(context: &Context) -> Duration {
    context.time() * 6
}

fn stream<B: Broker, const LEN: usize>(context: &Context) -> Outcome {
    let (_directory, job) = job(context, LEN, Ask::Nothing)?;
    play::<B>(context, &job, |client, time| {
        let mut events = 0;
        let deadline = ticks() + span(time);
        while ticks() < deadline {
            client.post(client.block());
            events += client.block();
        }
        (events, Vec::new())
    })?;
    figures(context.stage, &["rate", "cpu", "client"])
}

fn window<B: Broker>(context: &Context, len: usize, ask: Ask, window: usize) -> Outcome {
    let (_directory, job) = job(context, len, ask)?;
    play::<B>(context, &job, |client, time| {
        let (mut posted, mut answered, mut samples) = (0, 0, Vec::with_capacity(1 << 21));
        let mut when = vec![0; window];
        let deadline = ticks() + span(time);
        loop {
            if ticks() < deadline {
                let now = ticks();
                let more = window - (posted - answered);
                client.post(more);
                for event in posted..posted + more {
                    when[event % window] = now;
                }
                posted += more;
            } else if posted == answered {
                break;
            }
            let more = client.answered();
            let now = ticks();
            assert!(more <= posted - answered, "more answers than events");
            samples.extend((answered..answered + more).map(|event| ns(now - when[event % window])));
            answered += more;
        }
        (posted, samples)
    })?;
    match ask {
        Ask::Nothing => figures(context.stage, &["rate", "cpu", "client"]),
        _ => figures(context.stage, &["rate", "cpu", "client", "p50", "p99", "again"]),
    }
}

/// Starts a server and has `run` post events for a while, which returns how many, and how long each took to be answered if it
/// was. Once to warm up, and once for the figures, which are left on the stage.
fn play<B: Broker>(
    context: &Context,
    job: &Job,
    run: impl Fn(&mut B::Client, Duration) -> (usize, Vec<f64>),
) -> Result<(), String> {
    let (stage, time) = (context.stage, time(context));
    let program = B::start(job)?;
    let client = || {
        allow(&job.cores);
        let (port, server) = reach(stage, program.as_ref());
        let mut client = B::connect(port, job);
        let (warmed, _) = run(&mut client, time / 4);
        client.settle();
        // What is still in lanes after that is not to be paid for below.
        std::thread::sleep(Duration::from_millis(20));
        let (theirs, own) = (cpu_of(server), cpu_of(std::process::id().into()));
        let start = ticks();
        let (events, mut samples) = run(&mut client, time);
        client.settle();
        let mut end = ticks();
        let own = cpu_of(std::process::id().into()) - own;
        let answered = ns(end - start);
        stage.put(place::SENT, (warmed + events) as u64);
        stage.stop();
        let theirs = if B::SETTLES {
            while stage.get(place::END) == 0 {
                std::thread::sleep(Duration::from_micros(20));
            }
            end = stage.get(place::END);
            stage.get(place::CPU) - theirs
        } else {
            cpu_of(server) - theirs
        };
        let times = summary(&mut samples);
        let figures = [
            events as f64 / (ns(end - start) * 1e-9),
            theirs as f64 / events as f64,
            (100.0 * own as f64 / answered).round(),
            times.as_ref().map_or(0.0, |times| times.p50),
            times.as_ref().map_or(0.0, |times| times.p99),
            client.sent_again() as f64,
        ];
        leave(stage, &figures);
    };
    let mut roles = vec![role(job.cores[0], client)];
    if program.is_none() {
        roles.push(role(job.cores[1], || B::serve(stage, job)));
    }
    let played = context.play(roles);
    let _ = conduit::topic::clean(Some(&job.name), false);
    played
}

/// The port and the process number of the server.
fn reach(stage: &Stage, program: Option<&Program>) -> (u16, u64) {
    match program {
        Some(program) => (program.port, program.process()),
        None => {
            stage.meet();
            (stage.get(place::PORT) as u16, stage.get(place::PROCESS))
        }
    }
}

/// Leaves figures on the stage.
fn leave(stage: &Stage, figures: &[f64]) {
    for (at, figure) in figures.iter().enumerate() {
        stage.put(place::FIGURES + at, figure.to_bits());
    }
}

/// Those that were left, in their order.
fn figures(stage: &Stage, keys: &[&'static str]) -> Outcome {
    let figure = |(at, key): (usize, &&'static str)| (*key, f64::from_bits(stage.get(place::FIGURES + at)));
    Ok(keys.iter().enumerate().map(figure).collect())
}
