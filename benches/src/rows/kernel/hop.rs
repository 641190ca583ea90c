//! One message at a time from core to core, with time between them.

use super::super::{Limit::*, Row, Unit::*};
use super::queue::{DEPTH, Inlet, Outlet, Queue, hop, message};
use super::{leak, mpsc, spsc};
use crate::message::Message;
use conduit::ring::{Start, WordRing, WordRingReader, WordRingWriter};
use std::sync::atomic::{AtomicU64, Ordering::*};

pub fn rows() -> Vec<Row> {
    let row = Row::new("one hop, paced", "from stamp to receipt, a message each 2 µs; both ends poll")
        .column("p50", "p50", Time)
        .column("p99", "p99", Time)
        .cell("cache line", hop::<CacheLine>)
        .cell("conduit spsc", hop::<spsc::Conduit>)
        .cell("conduit mpsc", hop::<mpsc::Conduit>)
        .cell("conduit word ring", hop::<Words>)
        .cell("rtrb", hop::<spsc::Rtrb>)
        .cell("ringbuf", hop::<spsc::Ringbuf>)
        .cell("disruptor", hop::<spsc::Disruptor>)
        .cell("disruptor, many producers", hop::<mpsc::Disruptor>);
    let ours = ["conduit spsc", "conduit mpsc", "conduit word ring"];
    vec![ours.into_iter().fold(row, |row, who| row.target(who, "p50", &["cache line"], AtMost(1.2)))]
}

/// A word, and nothing around it.
struct CacheLine;

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

struct Stamps(&'static Line);
struct Seen {
    line: &'static Line,
    last: u64,
}

impl Queue<1> for CacheLine {
    type In = Stamps;
    type Out = Seen;

    fn open() -> (Stamps, Seen) {
        let line: &Line = leak(Line::default());
        (Stamps(line), Seen { line, last: 0 })
    }
}

impl Inlet<1> for Stamps {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.0.0.store(number, Release);
        true
    }
}

impl Outlet<1> for Seen {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<1>)) -> bool {
        let now = self.line.0.load(Acquire);
        if now == self.last {
            return false;
        }
        self.last = now;
        each(&Message([now]));
        true
    }
}

struct Words;

impl Queue<1> for Words {
    type In = WordRingWriter<'static, [u64; 1], DEPTH>;
    type Out = WordRingReader<'static, [u64; 1], DEPTH>;

    fn open() -> (Self::In, Self::Out) {
        let (writer, readers) = leak(WordRing::new()).split().expect("the first split");
        (writer, readers.reader(Start::New))
    }
}

impl Inlet<1> for WordRingWriter<'static, [u64; 1], DEPTH> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.publish(&message::<1>(number).0);
        true
    }
}

impl Outlet<1> for WordRingReader<'static, [u64; 1], DEPTH> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<1>)) -> bool {
        self.read().map(|received| each(&Message(*received))).is_ok()
    }
}
