//! One way between two polling processes: half of a round trip between core 0 and core 1.

use super::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::clock::{ns, span, ticks};
use crate::message::Message;
use crate::peers::conduit::{Frames, Words};
use crate::peers::{Peer, Publisher, Subscriber};
use crate::peers::{
    bare::{Bare, Packed},
    iceoryx2::Iceoryx2,
    ringfire::Ringfire,
    socket::Socket,
};
use crate::stage::{LANE, Stage, role};
use crate::stats::summary;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

const DEPTH: usize = 16;
/// Round trips before the clock runs; the first of them are checked word by word.
const WARM_UP: u64 = 2000;

const WRITTEN: &str = "half a round trip; each side writes the whole message and copies it out";
const UNTOUCHED: &str = "half a round trip; a loan is committed and received, and nobody looks at it";

pub fn rows() -> Vec<Row> {
    #[cfg_attr(not(feature = "zenoh"), allow(unused_mut))]
    let mut rows = vec![
        row("one way 64 B", WRITTEN)
            .cell("cache line", line)
            .cell("bare ring", written::<8, Bare>)
            .cell("bare ring, packed", written::<8, Packed>)
            .cell("conduit words", written::<8, Words>)
            .cell("conduit frames", written::<8, Frames>)
            .cell("ringfire", written::<8, Ringfire>)
            .cell("iceoryx2", written::<8, Iceoryx2>)
            .cell("seqpacket, blocking", written::<8, Socket>)
            .target("conduit words", "p50", &["iceoryx2"], AtMost(0.25))
            .target("conduit words", "p50", &["ringfire"], AtMost(0.85)),
        row("one way 4 KiB", WRITTEN)
            .cell("bare ring", written::<512, Bare>)
            .cell("conduit frames", written::<512, Frames>)
            .cell("ringfire", written::<512, Ringfire>)
            .cell("iceoryx2", written::<512, Iceoryx2>)
            .cell("seqpacket, blocking", written::<512, Socket>)
            .target("conduit frames", "p50", &["iceoryx2"], AtMost(0.75)),
        loan::<8>("loan 64 B"),
        loan::<512>("loan 4 KiB"),
        loan::<8192>("loan 64 KiB"),
        loan::<131072>("loan 1 MiB"),
    ];
    #[cfg(feature = "zenoh")]
    {
        use crate::peers::zenoh::Zenoh;
        rows[0].also("zenoh, blocking", written::<8, Zenoh>);
        rows[1].also("zenoh, blocking", written::<512, Zenoh>);
    }
    rows
}

fn row(name: &'static str, note: &'static str) -> Row {
    Row::new(name, note).column("p50", "p50", Time).column("mean", "trimmed mean", Time).column("p99", "p99", Time)
}

fn loan<const N: usize>(name: &'static str) -> Row {
    row(name, UNTOUCHED)
        .cell("conduit frames", untouched::<N, Frames>)
        .cell("iceoryx2", untouched::<N, Iceoryx2>)
        .target("conduit frames", "p50", &["iceoryx2"], AtMost(0.35))
}

/// Waits for the next message: polls if the transport can, else sleeps.
#[inline(always)]
pub fn next<const N: usize, P: Peer<N>>(from: &mut P::Subscriber, into: &mut Message<N>) {
    if P::POLLS {
        while !from.receive(into) {}
    } else {
        from.wait(into);
    }
}

pub fn written<const N: usize, P: Peer<N>>(context: &Context) -> Outcome {
    ping_pong::<N, P>(
        context,
        #[inline(always)]
        |to, number, message| {
            message.number(number);
            to.send(message);
        },
        #[inline(always)]
        |from, number, message| {
            next::<N, P>(from, message);
            if number < 64 {
                message.check_all(number);
            } else {
                message.check(number);
            }
        },
    )
}

fn untouched<const N: usize, P: Peer<N>>(context: &Context) -> Outcome {
    ping_pong::<N, P>(
        context,
        #[inline(always)]
        |to, number, _| to.hand_over((number < WARM_UP).then_some(number)),
        #[inline(always)]
        |from, number, _| {
            let look = number < WARM_UP;
            let word = loop {
                if let Some(word) = from.take(look) {
                    break word;
                }
            };
            assert!(!look || word == number, "message {number} expected");
        },
    )
}

fn ping_pong<const N: usize, P: Peer<N>>(
    context: &Context,
    send: impl Fn(&mut P::Publisher, u64, &mut Message<N>),
    receive: impl Fn(&mut P::Subscriber, u64, &mut Message<N>),
) -> Outcome {
    let stage = context.stage;
    let [there, back] = [context.topic(DEPTH), context.topic(DEPTH)];
    let (a, b) = (P::prepare(&there), P::prepare(&back));
    let first = || {
        let mut out = P::publisher(&a, &there);
        let mut inlet = P::subscriber(&b, &back, 0);
        let mut message = Message::blank();
        let mut reply = Message::blank();
        get_ready::<N, P>(stage, &mut inlet, &mut reply);
        measure(stage, context.time(), |number| {
            send(&mut out, number, &mut message);
            receive(&mut inlet, number, &mut reply);
        });
        // The other side learns that this was all by one more message.
        stage.stop();
        send(&mut out, stage.get(0), &mut message);
        stage.meet();
    };
    let second = || {
        let mut out = P::publisher(&b, &back);
        let mut inlet = P::subscriber(&a, &there, 0);
        let mut message = Message::blank();
        let mut reply = Message::blank();
        get_ready::<N, P>(stage, &mut inlet, &mut message);
        for number in 0.. {
            receive(&mut inlet, number, &mut message);
            if stage.is_stopped() {
                break;
            }
            send(&mut out, number, &mut reply);
        }
        stage.meet();
    };
    context.play(vec![role(context.cores[0], first), role(context.cores[1], second)])?;
    figures(stage)
}

/// Meets the others once everything is open, and once more after a first look at the topic: some
/// transports connect a subscriber only when it receives.
pub fn get_ready<const N: usize, P: Peer<N>>(stage: &Stage, inlet: &mut P::Subscriber, message: &mut Message<N>) {
    stage.meet();
    if P::POLLS {
        assert!(!inlet.receive(message), "nothing was sent yet");
    }
    stage.meet();
}

/// Warms up, then records round trips until the time or the lane is used up. Leaves in value 0 how many
/// there were in all.
pub fn measure(stage: &Stage, time: Duration, mut round_trip: impl FnMut(u64)) {
    let samples = stage.lane(0);
    // A transport that sleeps is a hundred times slower, and warm as soon.
    let enough = ticks() + span(time / 4);
    let mut number = 0;
    while number < WARM_UP && (number < 100 || ticks() < enough) {
        round_trip(number);
        number += 1;
    }
    let mut last = ticks();
    let deadline = last + span(time);
    for sample in samples.iter_mut().take(LANE) {
        round_trip(number);
        number += 1;
        let now = ticks();
        *sample = now - last;
        last = now;
        if now > deadline {
            break;
        }
    }
    stage.put(0, number);
}

pub fn figures(stage: &Stage) -> Outcome {
    let taken = stage.recorded(0).iter().take_while(|&&t| t > 0);
    let mut one_way: Vec<f64> = taken.map(|&t| ns(t) / 2.0).collect();
    let times = summary(&mut one_way).ok_or("no round trip was recorded")?;
    Ok(vec![("p50", times.p50), ("mean", times.mean), ("p99", times.p99)])
}

/// Two cache lines with one writer each: what any message between two cores has to pay.
pub fn line(context: &Context) -> Outcome {
    play_line(context, context.time())?;
    figures(context.stage)
}

/// The same in under a millisecond: how far apart the two cores are just now. On a virtual machine
/// that changes, because the host may move them to different parts of a processor.
pub fn distance(context: &Context) -> Option<f64> {
    play_line(context, Duration::from_micros(500)).ok()?;
    let figures = figures(context.stage).ok()?;
    Some(figures[0].1)
}

fn play_line(context: &Context, time: Duration) -> Result<(), String> {
    let stage = context.stage;
    let [there, back] = &stage.lines;
    let first = || {
        stage.meet();
        measure(stage, time, |number| {
            there.0.store(number + 1, Release);
            while back.0.load(Acquire) != number + 1 {}
        });
        there.0.store(u64::MAX, Release);
    };
    let second = || {
        stage.meet();
        let mut seen = 0;
        while seen != u64::MAX {
            let now = there.0.load(Acquire);
            if now != seen {
                seen = now;
                back.0.store(now, Release);
            }
        }
    };
    let [core, other] = context.cores;
    context.play(vec![role(core, first), role(other, second)])
}
