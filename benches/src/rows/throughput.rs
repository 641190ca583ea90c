//! Messages a second when none may be lost, from core 0 to core 1.

use super::latency::get_ready;
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
use crate::stage::{Role, Stage, role};

/// Messages in a batch call.
const BATCH: usize = 32;
/// Calls between two looks at the clock.
const CALLS: u64 = 16;
/// Numbers a topic's last message.
const LAST: u64 = 1 << 63;

const NOTE: &str = "publisher on core 0, subscriber on core 1; each message written whole, copied out and checked";

pub fn rows() -> Vec<Row> {
    vec![
        row("throughput 56 B, single calls")
            .cell("bare ring", single::<7, Bare>)
            .cell("conduit words", single::<7, Words>)
            .cell("ringfire", single::<7, Ringfire>)
            .cell("iceoryx2", single::<7, Iceoryx2>)
            .target("conduit words", "lost", &[], AtMost(0.0))
            .target("conduit words", "rate", &["bare ring"], AtLeast(0.8))
            .target("conduit words", "rate", &["ringfire"], AtLeast(2.0)),
        row("throughput 56 B, batches of 32")
            .cell("bare ring", batch::<7, Bare>)
            .cell("conduit words", batch::<7, Words>)
            .cell("ringfire", batch::<7, Ringfire>)
            .target("conduit words", "lost", &[], AtMost(0.0))
            .target("conduit words", "rate", &["bare ring"], AtLeast(0.8))
            .target("conduit words", "rate", &["ringfire"], AtLeast(2.0)),
        row("throughput 64 B, single calls")
            .cell("bare ring", single::<8, Bare>)
            .cell("bare ring, packed", single::<8, Packed>)
            .cell("conduit words", single::<8, Words>)
            .cell("conduit frames", single::<8, Frames>)
            .cell("ringfire", single::<8, Ringfire>)
            .cell("iceoryx2", single::<8, Iceoryx2>)
            .cell("seqpacket, blocking", single::<8, Socket>)
            .target("conduit words", "lost", &[], AtMost(0.0))
            .target("conduit words", "rate", &["bare ring"], AtLeast(0.8))
            .target("conduit words", "rate", &["ringfire"], AtLeast(2.0)),
        row("throughput 64 B, batches of 32")
            .cell("bare ring", batch::<8, Bare>)
            .cell("bare ring, packed", batch::<8, Packed>)
            .cell("conduit words", batch::<8, Words>)
            .cell("conduit frames", batch::<8, Frames>)
            .cell("ringfire", batch::<8, Ringfire>)
            .target("conduit words", "lost", &[], AtMost(0.0))
            .target("conduit words", "rate", &["bare ring"], AtLeast(0.8))
            .target("conduit words", "rate", &["ringfire"], AtLeast(2.0)),
        row("throughput 1 KiB")
            .cell("bare ring", single::<128, Bare>)
            .cell("conduit frames", single::<128, Frames>)
            .cell("ringfire", single::<128, Ringfire>)
            .cell("iceoryx2", single::<128, Iceoryx2>)
            .cell("seqpacket, blocking", single::<128, Socket>)
            .target("conduit frames", "lost", &[], AtMost(0.0))
            .target("conduit frames", "rate", &["bare ring"], AtLeast(0.9)),
        row("throughput 64 KiB")
            .cell("bare ring", single::<8192, Bare>)
            .cell("conduit frames", single::<8192, Frames>)
            .cell("iceoryx2", single::<8192, Iceoryx2>)
            .target("conduit frames", "lost", &[], AtMost(0.0))
            .target("conduit frames", "rate", &["bare ring"], AtLeast(0.9)),
        row("throughput 1 MiB")
            .cell("bare ring", single::<131072, Bare>)
            .cell("conduit frames", single::<131072, Frames>)
            .cell("iceoryx2", single::<131072, Iceoryx2>)
            .target("conduit frames", "lost", &[], AtMost(0.0))
            .target("conduit frames", "rate", &["bare ring"], AtLeast(0.9)),
    ]
}

fn row(name: &'static str) -> Row {
    Row::new(name, NOTE)
        .column("rate", "messages/s", Rate)
        .column("bytes", "bytes/s", Rate)
        .column("lost", "lost", Count)
}

/// Slots enough to hide a hiccup, few enough to stay near the cores.
pub fn depth(bytes: usize) -> usize {
    match bytes {
        0..=256 => 4096,
        257..=4096 => 1024,
        4097..=65536 => 32,
        _ => 8,
    }
}

pub fn single<const N: usize, P: Peer<N>>(context: &Context) -> Outcome {
    stream::<N, P>(context, 1, send_singly::<N, P>, receive_singly::<N, P>)
}

fn batch<const N: usize, P: Peer<N>>(context: &Context) -> Outcome {
    stream::<N, P>(context, 1, send_batches::<N, P>, receive_batches::<N, P>)
}

/// One publisher on core 0 to `readers` subscribers on core 1, as fast as all of them get everything.
pub fn stream<const N: usize, P: Peer<N>>(
    context: &Context,
    readers: usize,
    send: fn(&mut P::Publisher, u64) -> u64,
    receive: fn(&mut P::Subscriber, bool, &mut Tally<N>),
) -> Outcome {
    let stage = context.stage;
    let mut setup = context.topic(depth(N * 8));
    setup.lossless = true;
    setup.subscribers = readers;
    let shared = P::prepare(&setup);
    let (setup, shared) = (&setup, &shared);
    let mut roles: Vec<Role> = vec![role(context.cores[0], move || {
        let mut out = P::publisher(shared, setup);
        stage.meet();
        stage.meet();
        let start = ticks();
        let sent = send(&mut out, start + span(context.time()));
        stage.put(0, start);
        stage.put(1, sent);
        stage.meet();
    })];
    roles.extend((0..readers).map(|index| {
        role(context.cores[1], move || {
            let mut inlet = P::subscriber(shared, setup, index);
            let mut tally = Tally::new();
            get_ready::<N, P>(stage, &mut inlet, &mut tally.message);
            receive(&mut inlet, readers > 1, &mut tally);
            stage.put(2 + index, ticks());
            stage.put(8 + index, tally.lost);
            stage.meet();
        })
    }));
    context.play(roles)?;
    Ok(figures::<N>(stage, readers))
}

fn figures<const N: usize>(stage: &Stage, readers: usize) -> super::Figures {
    let end = (0..readers).map(|i| stage.get(2 + i)).max().unwrap_or(0);
    let lost: u64 = (0..readers).map(|i| stage.get(8 + i)).sum();
    let rate = stage.get(1) as f64 / ns(end - stage.get(0)) * 1e9;
    vec![("rate", rate), ("bytes", rate * (N * 8) as f64), ("lost", lost as f64)]
}

/// What a subscriber has seen.
pub struct Tally<const N: usize> {
    message: Message<N>,
    expected: u64,
    lost: u64,
}

impl<const N: usize> Tally<N> {
    fn new() -> Self {
        Tally { message: Message::blank(), expected: 0, lost: 0 }
    }

    /// What became of messages when the one that came is not the next. True if it was the last.
    #[cold]
    #[inline(never)]
    fn surprise(&mut self, got: &Message<N>) -> bool {
        if got.claimed() == LAST {
            return true;
        }
        got.check(got.claimed());
        assert!(got.claimed() > self.expected, "a message came twice");
        self.lost += got.claimed() - self.expected;
        self.expected = got.claimed() + 1;
        false
    }
}

pub fn send_singly<const N: usize, P: Peer<N>>(out: &mut P::Publisher, until: u64) -> u64 {
    let mut message = Message::blank();
    let mut number = 0;
    while ticks() < until {
        for _ in 0..CALLS {
            message.number(number);
            out.send(&message);
            number += 1;
        }
    }
    message.number(LAST);
    out.send(&message);
    number
}

pub fn receive_singly<const N: usize, P: Peer<N>>(inlet: &mut P::Subscriber, shared_core: bool, tally: &mut Tally<N>) {
    let mut message = Message::blank();
    loop {
        if !P::POLLS {
            inlet.wait(&mut message);
        } else if !inlet.receive(&mut message) {
            give_way(shared_core);
            continue;
        }
        if message.is(tally.expected) {
            tally.expected += 1;
        } else if tally.surprise(&message) {
            return;
        }
    }
}

fn send_batches<const N: usize, P: Peer<N>>(out: &mut P::Publisher, until: u64) -> u64 {
    let mut messages = [Message::<N>::blank(); BATCH];
    let mut number = 0;
    while ticks() < until {
        for _ in 0..CALLS {
            for message in &mut messages {
                message.number(number);
                number += 1;
            }
            out.send_batch(&messages);
        }
    }
    messages[0].number(LAST);
    out.send(&messages[0]);
    number
}

fn receive_batches<const N: usize, P: Peer<N>>(inlet: &mut P::Subscriber, shared_core: bool, tally: &mut Tally<N>) {
    let mut messages = [Message::<N>::blank(); BATCH];
    loop {
        let received = inlet.receive_batch(&mut messages);
        if received == 0 {
            give_way(shared_core);
        }
        for message in &messages[..received] {
            if message.is(tally.expected) {
                tally.expected += 1;
            } else if tally.surprise(message) {
                return;
            }
        }
    }
}

/// Subscribers that share a core let each other run when they find nothing.
#[inline(always)]
fn give_way(shared_core: bool) {
    if shared_core {
        // SAFETY: no arguments, no memory.
        unsafe { libc::sched_yield() };
    }
}
