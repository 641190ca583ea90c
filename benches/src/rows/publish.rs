//! What a publish costs whoever publishes, with subscribers that are connected and never look.

use super::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::clock::{ns, span, ticks};
use crate::message::Message;
use crate::peers::conduit::{Frames, Stamped, Words};
use crate::peers::{Peer, Publisher};
use crate::peers::{bare::Bare, iceoryx2::Iceoryx2, ringfire::Ringfire};
use crate::stage::{Role, role};
use crate::stats::summary;

const DEPTH: usize = 256;
/// Messages between two looks at the clock.
const BLOCK: u64 = 256;
/// Blocks to record however long it takes.
const FEWEST: usize = 32;

pub fn rows() -> Vec<Row> {
    vec![
        row::<0>("publish 64 B, no subscriber").cell("conduit words, clock", publish::<0, Words<Stamped>>),
        row::<1>("publish 64 B, 1 subscriber"),
        row::<4>("publish 64 B, 4 subscribers"),
        row::<16>("publish 64 B, 16 subscribers"),
    ]
}

fn row<const SUBSCRIBERS: usize>(name: &'static str) -> Row {
    Row::new(
        name,
        "time of one call, from blocks of 256; subscribers are connected, never drain, and none is in a wait",
    )
    .column("p50", "p50", Time)
    .column("mean", "trimmed mean", Time)
    .column("p99", "p99", Time)
    .cell("bare ring", publish::<SUBSCRIBERS, Bare>)
    .cell("conduit words", publish::<SUBSCRIBERS, Words>)
    .cell("conduit frames", publish::<SUBSCRIBERS, Frames>)
    .cell("ringfire", publish::<SUBSCRIBERS, Ringfire>)
    .cell("iceoryx2", publish::<SUBSCRIBERS, Iceoryx2>)
    .target("conduit words", "p50", &[], AtMost(5.0))
    .target("conduit frames", "p50", &[], AtMost(10.0))
}

fn publish<const SUBSCRIBERS: usize, P: Peer<8>>(context: &Context) -> Outcome {
    let stage = context.stage;
    let mut setup = context.topic(DEPTH);
    setup.subscribers = SUBSCRIBERS;
    let shared = P::prepare(&setup);
    let (setup, shared) = (&setup, &shared);
    let mut roles: Vec<Role> = vec![role(context.cores[0], move || {
        let mut out = P::publisher(shared, setup);
        let samples = stage.lane(0);
        stage.meet();
        let mut message = Message::blank();
        let (mut number, mut last) = (0, ticks());
        let warm = last + span(context.time() / 4);
        let deadline = last + span(context.time());
        let mut at = 0;
        while (last < deadline || at < FEWEST) && at < samples.len() {
            for _ in 0..BLOCK {
                message.number(number);
                out.send(&message);
                number += 1;
            }
            let now = ticks();
            if last > warm {
                samples[at] = now - last;
                at += 1;
            }
            last = now;
        }
        stage.stop();
        stage.meet();
    })];
    roles.extend((0..SUBSCRIBERS).map(|index| {
        role(context.cores[1], move || {
            let inlet = P::subscriber(shared, setup, index);
            stage.meet();
            stage.sleep_until_stopped();
            stage.meet();
            drop(inlet);
        })
    }));
    context.play(roles)?;
    let taken = stage.recorded(0).iter().take_while(|&&t| t > 0);
    let mut call: Vec<f64> = taken.map(|&t| ns(t) / BLOCK as f64).collect();
    let times = summary(&mut call).ok_or("no block was recorded")?;
    Ok(vec![("p50", times.p50), ("mean", times.mean), ("p99", times.p99)])
}
