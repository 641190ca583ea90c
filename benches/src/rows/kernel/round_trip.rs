//! Rings between two threads of one process, there and back.

use super::super::latency::{figures, measure};
use super::super::{Context, Limit::*, Outcome, Row, Unit::*};
use super::{alone, leak};
use crate::message::Message;
use crate::stage::pin;
use conduit::ring::{FrameRing, Start, WordRing};

const DEPTH: usize = 16;

pub fn rows() -> Vec<Row> {
    let row = |name| {
        Row::new(name, "half a round trip between two threads; each side writes the whole message and copies it out")
            .column("p50", "p50", Time)
            .column("mean", "trimmed mean", Time)
            .column("p99", "p99", Time)
            .cell("cache line", super::super::latency::line)
    };
    // One way took 75 ns where a line took 34; a kernel that is as good stays within 15 % of that.
    vec![
        row("kernel, one way 56 B").cell("word ring", |c| played(c, word_ring::<7>)).target(
            "word ring",
            "p50",
            &["cache line"],
            AtMost(2.54),
        ),
        row("kernel, one way 64 B")
            .cell("word ring", |c| played(c, word_ring::<8>))
            .cell("frame ring", |c| played(c, frame_ring::<8>))
            .target("word ring", "p50", &["cache line"], AtMost(2.54))
            .target("frame ring", "p50", &["cache line"], AtMost(2.54)),
    ]
}

fn word_ring<const N: usize>(context: &Context) {
    let [there, back] = [(); 2].map(|()| leak(WordRing::<[u64; N], DEPTH>::new()));
    let (mut to, there) = there.split().expect("the first split");
    let (mut reply, back) = back.split().expect("the first split");
    let mut requests = there.reader(Start::New);
    let mut replies = back.reader(Start::New);
    ping_pong(
        context,
        |message| _ = to.publish(&message.0),
        |message| match replies.read() {
            Ok(received) => {
                message.0 = *received;
                true
            }
            Err(_) => false,
        },
        |message| match requests.read() {
            Ok(received) => {
                message.0 = *received;
                true
            }
            Err(_) => false,
        },
        |message| _ = reply.publish(&message.0),
    )
}

fn frame_ring<const N: usize>(context: &Context) {
    let [there, back] = [(); 2].map(|()| leak(FrameRing::<[u64; N], DEPTH, 1>::new()));
    let (mut to, there) = there.split().expect("the first split");
    let (mut reply, back) = back.split().expect("the first split");
    let mut requests = there.reader(Start::New, 1).expect("a reader");
    let mut replies = back.reader(Start::New, 1).expect("a reader");
    ping_pong(
        context,
        |message| _ = to.publish(&message.0).expect("a slot"),
        |message| match replies.read() {
            Ok(sample) => {
                message.0 = *sample;
                true
            }
            Err(_) => false,
        },
        |message| match requests.read() {
            Ok(sample) => {
                message.0 = *sample;
                true
            }
            Err(_) => false,
        },
        |message| _ = reply.publish(&message.0).expect("a slot"),
    )
}

/// Runs a ping-pong in a participant of its own.
fn played(context: &Context, both: fn(&Context)) -> Outcome {
    alone(context, both)?;
    figures(context.stage)
}

fn ping_pong<const N: usize>(
    context: &Context,
    mut send: impl FnMut(&Message<N>),
    mut receive: impl FnMut(&mut Message<N>) -> bool,
    mut receive_there: impl FnMut(&mut Message<N>) -> bool + Send,
    mut send_back: impl FnMut(&Message<N>) + Send,
) {
    let stage = context.stage;
    let core = context.cores[1];
    std::thread::scope(|threads| {
        threads.spawn(move || {
            pin(core);
            let mut message = Message::blank();
            let mut reply = Message::blank();
            for number in 0.. {
                while !receive_there(&mut message) {}
                message.check(number);
                if stage.is_stopped() {
                    break;
                }
                reply.number(number);
                send_back(&reply);
            }
        });
        let mut message = Message::blank();
        let mut reply = Message::blank();
        measure(stage, context.time(), |number| {
            message.number(number);
            send(&message);
            while !receive(&mut reply) {}
            reply.check(number);
        });
        stage.stop();
        message.number(stage.get(0));
        send(&message);
    });
}
