//! Subscribers that sleep: core 0 sends every 100 µs, and whoever sleeps on core 1 is woken.

use super::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::clock::{ns, span, ticks};
use crate::message::Message;
use crate::peers::conduit::Words;
use crate::peers::signals::{EventFd, Futex};
use crate::peers::{Peer, Publisher, Subscriber};
use crate::peers::{bare::Bare, iceoryx2::Iceoryx2, ringfire::Ringfire, socket::Socket};
use crate::stage::{Role, Stage, role};
use crate::stats::summary;
use std::time::Duration;

const PACE: Duration = Duration::from_micros(100);
/// A tenth of a second of messages, for a subscriber that the machine keeps waiting.
const DEPTH: usize = 1024;
/// Numbers a topic's last message.
const LAST: u64 = 1 << 63;

// Lanes: when each message was sent, how long the call took, and when each subscriber had it.
const SENT: usize = 0;
const CALL: usize = 1;
const GOT: usize = 2;

pub fn rows() -> Vec<Row> {
    let row = |name, note| {
        Row::new(name, note)
            .column("p50", "p50", Time)
            .column("p99", "p99", Time)
            .column("send", "send call p50", Time)
            .column("lost", "lost", Count)
    };
    #[cfg_attr(not(feature = "zenoh"), allow(unused_mut))]
    let mut rows = vec![
        row(
            "sleeper woken",
            "64 B every 100 µs to a subscriber asleep on the other core; from before the send to after the receive",
        )
        .cell("futex word", woken::<1, Futex>)
        .cell("eventfd", woken::<1, EventFd>)
        .cell("bare ring", woken::<1, Bare>)
        .cell("conduit words", woken::<1, Words>)
        .cell("ringfire", woken::<1, Ringfire>)
        .cell("iceoryx2", woken::<1, Iceoryx2>)
        .cell("seqpacket", woken::<1, Socket>)
        .target("conduit words", "lost", &[], AtMost(0.0))
        .target("conduit words", "p50", &["futex word"], AtMost(1.05))
        .target("conduit words", "send", &["ringfire"], AtMost(1.1)),
        row("4 sleepers woken", "as above, with four subscribers asleep on core 1; the slowest of the four")
            .cell("futex word", woken::<4, Futex>)
            .cell("bare ring", woken::<4, Bare>)
            .cell("conduit words", woken::<4, Words>)
            .cell("ringfire", woken::<4, Ringfire>)
            .cell("iceoryx2", woken::<4, Iceoryx2>)
            .cell("seqpacket", woken::<4, Socket>)
            .target("conduit words", "lost", &[], AtMost(0.0))
            .target("conduit words", "p50", &["bare ring"], AtMost(1.1)),
    ];
    #[cfg(feature = "zenoh")]
    rows[0].also("zenoh", woken::<1, crate::peers::zenoh::Zenoh>);
    rows
}

pub fn woken<const SLEEPERS: usize, P: Peer<8>>(context: &Context) -> Outcome {
    let stage = context.stage;
    let mut setup = context.topic(DEPTH);
    setup.sleepers = true;
    setup.subscribers = SLEEPERS;
    let messages = if context.quick { 600 } else { 2000 };
    let shared = P::prepare(&setup);
    let (setup, shared) = (&setup, &shared);
    let mut roles: Vec<Role> = vec![role(context.cores[0], move || {
        let mut out = P::publisher(shared, setup);
        let (sent, call) = (stage.lane(SENT), stage.lane(CALL));
        stage.meet();
        let mut message = Message::blank();
        let mut due = ticks() + span(20 * PACE);
        for number in 0..messages {
            while ticks() < due {}
            message.number(number as u64);
            let before = ticks();
            sent[number] = before;
            out.send(&message);
            call[number] = ticks() - before;
            due = before + span(PACE);
        }
        // Late enough that a transport of one slot does not overwrite the last message.
        std::thread::sleep(Duration::from_millis(5));
        message.number(LAST);
        out.send(&message);
        stage.meet();
    })];
    roles.extend((0..SLEEPERS).map(|index| {
        role(context.cores[1], move || {
            let mut inlet = P::subscriber(shared, setup, index);
            let got = stage.lane(GOT + index);
            let mut message = Message::blank();
            stage.meet();
            loop {
                inlet.wait(&mut message);
                let now = ticks();
                let number = message.claimed();
                if number == LAST {
                    break;
                }
                // A transport of one slot may show two halves to a subscriber that is late.
                if message.is(number) {
                    got[number as usize] = now;
                }
            }
            stage.meet();
        })
    }));
    context.play(roles)?;
    figures::<SLEEPERS>(stage, messages)
}

fn figures<const SLEEPERS: usize>(stage: &Stage, messages: usize) -> Outcome {
    let (sent, call) = (stage.recorded(SENT), stage.recorded(CALL));
    let mut slowest = Vec::new();
    let mut lost = 0;
    for (number, &sent) in sent.iter().enumerate().take(messages).skip(messages / 10) {
        let got = (0..SLEEPERS).map(|i| stage.recorded(GOT + i)[number]);
        match got.clone().min() {
            Some(0) => lost += got.filter(|&at| at == 0).count(),
            _ => slowest.extend(got.max().map(|at| ns(at - sent))),
        }
    }
    let mut calls: Vec<f64> = call[messages / 10..messages].iter().map(|&t| ns(t)).collect();
    let woken = summary(&mut slowest).ok_or("nobody was woken")?;
    let calls = summary(&mut calls).ok_or("nothing was sent")?;
    Ok(vec![("p50", woken.p50), ("p99", woken.p99), ("send", calls.p50), ("lost", lost as f64)])
}
