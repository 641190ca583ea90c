//! From nothing to the first message, and from a killed publisher to its successor's first message.

use super::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::clock::{ns, span, ticks};
use crate::message::Message;
use crate::peers::conduit::{Frames, Words};
use crate::peers::{Peer, Publisher, Subscriber};
use crate::peers::{iceoryx2::Iceoryx2, ringfire::Ringfire};
use crate::stage::{Stage, fork, join, kill, role};
use std::time::{Duration, Instant};

// Values the participants leave.
const START: usize = 0;
const PUBLISHER_OPEN: usize = 1;
const SUBSCRIBER_OPEN: usize = 2;
const RECEIVED: usize = 3;
const PUBLISHER_FDS: usize = 4;
const SUBSCRIBER_FDS: usize = 5;
const FILES: usize = 6;
const SUCCESSOR_START: usize = 7;

/// The successor's messages start here.
const SUCCESSOR: u64 = 1 << 32;

pub fn rows() -> Vec<Row> {
    let open = |name, note| {
        Row::new(name, note)
            .column("first", "first message", Time)
            .column("publisher", "publisher open", Time)
            .column("subscriber", "subscriber open", Time)
            .column("files", "files", Count)
            .column("fds", "descriptors, most of one side", Count)
    };
    vec![
        open("opening, 16 x 64 B", "both sides start at once, with nothing there; until the subscriber has a message")
            .cell("conduit words", opening::<8, 16, Words>)
            .cell("ringfire", opening::<8, 16, Ringfire>)
            .cell("iceoryx2", opening::<8, 16, Iceoryx2>)
            .target("conduit words", "first", &[], AtMost(1e6))
            .target("conduit words", "files", &[], AtMost(1.0))
            .target("conduit words", "fds", &[], AtMost(2.0)),
        open("opening, 256 x 3832 B", "as above, with as much payload as fits into a region of 1 MiB")
            .cell("conduit frames", opening::<479, 256, Frames>)
            .cell("ringfire", opening::<479, 256, Ringfire>)
            .cell("iceoryx2", opening::<479, 256, Iceoryx2>)
            .target("conduit frames", "first", &[], AtMost(1e6))
            .target("conduit frames", "files", &[], AtMost(1.0))
            .target("conduit frames", "fds", &[], AtMost(2.0)),
        Row::new(
            "restart after kill -9",
            "from the first instruction of the publisher's successor to its first message at a subscriber that stayed; \
             files there after the kill that an orderly end would have removed",
        )
        .column("first", "first message", Time)
        .column("left", "files left", Count)
        .cell("conduit words", restart::<Words>)
        .cell("iceoryx2", restart::<Iceoryx2>)
        .target("conduit words", "first", &["iceoryx2"], AtMost(0.3))
        .target("conduit words", "left", &[], AtMost(0.0)),
    ]
}

fn opening<const N: usize, const DEPTH: usize, P: Peer<N>>(context: &Context) -> Outcome {
    let stage = context.stage;
    let setup = context.topic(DEPTH);
    let shared = P::prepare(&setup);
    let publisher = || {
        let fds = descriptors();
        stage.meet();
        stage.put(START, ticks());
        let mut out = P::publisher(&shared, &setup);
        stage.put(PUBLISHER_OPEN, ticks());
        publish_until_stopped::<N, P>(stage, &mut out, 0, Duration::from_micros(5));
        stage.put(PUBLISHER_FDS, (descriptors() - fds) as u64);
        stage.put(FILES, P::files().len() as u64);
        stage.meet();
    };
    let subscriber = || {
        let fds = descriptors();
        let mut message = Message::blank();
        stage.meet();
        let mut inlet = P::subscriber(&shared, &setup, 0);
        stage.put(SUBSCRIBER_OPEN, ticks());
        while !inlet.receive(&mut message) {}
        stage.put(RECEIVED, ticks());
        message.check(message.claimed());
        stage.put(SUBSCRIBER_FDS, (descriptors() - fds) as u64);
        stage.stop();
        stage.meet();
    };
    let before = P::files().len() as u64;
    context.play(vec![role(context.cores[0], publisher), role(context.cores[1], subscriber)])?;
    let since = |at| ns(stage.get(at).saturating_sub(stage.get(START)));
    let fds = stage.get(PUBLISHER_FDS).max(stage.get(SUBSCRIBER_FDS));
    Ok(vec![
        ("first", since(RECEIVED)),
        ("publisher", since(PUBLISHER_OPEN)),
        ("subscriber", since(SUBSCRIBER_OPEN)),
        ("files", (stage.get(FILES) - before) as f64),
        ("fds", fds as f64),
    ])
}

fn publish_until_stopped<const N: usize, P: Peer<N>>(stage: &Stage, out: &mut P::Publisher, from: u64, pace: Duration) {
    let mut message = Message::blank();
    for number in from.. {
        message.number(number);
        out.send(&message);
        let due = ticks() + span(pace);
        while ticks() < due {
            if stage.is_stopped() {
                return;
            }
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn restart<P: Peer<8>>(context: &Context) -> Outcome {
    let orderly = successor::<P>(context, false)?;
    let killed = successor::<P>(context, true)?;
    let left = killed.files.saturating_sub(orderly.files);
    Ok(vec![("first", killed.first), ("left", left as f64)])
}

struct Succession {
    /// From the successor's start to its first message at the subscriber.
    first: f64,
    /// Files there when the first publisher was gone and the subscriber was not.
    files: usize,
}

/// A publisher goes, orderly or by `kill -9`, and another takes its place.
fn successor<P: Peer<8>>(context: &Context, killed: bool) -> Result<Succession, String> {
    let stage = context.stage;
    let [core, other] = context.cores;
    let limit = Duration::from_secs(10);
    let pace = Duration::from_micros(50);
    let setup = context.topic(16);
    let shared = P::prepare(&setup);
    stage.reset(1);
    let before = P::files().len();
    let first = fork(role(core, || {
        let mut out = P::publisher(&shared, &setup);
        publish_until_stopped::<8, P>(stage, &mut out, 0, pace);
    }));
    let subscriber = fork(role(other, || {
        let mut inlet = P::subscriber(&shared, &setup, 0);
        let mut message = Message::blank();
        let mut seen = 0;
        while message.claimed() < SUCCESSOR || seen == 0 {
            if inlet.receive(&mut message) {
                message.check(message.claimed());
                seen += 1;
                stage.put(SUBSCRIBER_OPEN, seen);
            }
        }
        stage.put(RECEIVED, ticks());
        stage.stop();
    }));
    let deadline = Instant::now() + limit;
    while stage.get(SUBSCRIBER_OPEN) < 100 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    if killed {
        kill(first);
    } else {
        stage.stop();
        join(&[first], limit)?;
        stage.reset(1);
    }
    let files = P::files().len() - before;
    let next = fork(role(core, || {
        stage.put(SUCCESSOR_START, ticks());
        let mut out = P::publisher(&shared, &setup);
        publish_until_stopped::<8, P>(stage, &mut out, SUCCESSOR, Duration::from_micros(5));
    }));
    join(&[subscriber, next], limit)?;
    let first = ns(stage.get(RECEIVED) - stage.get(SUCCESSOR_START));
    Ok(Succession { first, files })
}
