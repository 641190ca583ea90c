//! Links beside what the kernel has between two processes, and beside a ring of bytes with nothing around it.

use super::latency::written;
use super::throughput::single;
use super::wake::woken;
use super::{Limit::*, Row, Unit::*};
use crate::peers::bytes::Bytes;
use crate::peers::link::{Fallback, Polled, Slept};
use crate::peers::signals::Futex;
use crate::peers::socket::{Pipe, Socket, Stream};

const LINK: &str = "conduit link";

pub fn rows() -> Vec<Row> {
    vec![
        streamed::<32>("link 256 B", 15.0),
        streamed::<128>("link 1 KiB", 8.0),
        streamed::<512>("link 4 KiB", 3.0),
        Row::new(
            "link there and back, polling",
            "half a round trip of 256 B; both ends of the link and of the bare ring poll, the others sleep",
        )
        .column("p50", "p50", Time)
        .column("mean", "trimmed mean", Time)
        .column("p99", "p99", Time)
        .cell(LINK, written::<32, Polled>)
        .cell("bare byte ring", written::<32, Bytes>)
        .cell("unix stream", written::<32, Stream>)
        .cell("seqpacket", written::<32, Socket>)
        .cell("pipe", written::<32, Pipe>)
        .target(LINK, "p50", &["unix stream"], AtMost(0.1)),
        Row::new(
            "link sleeper woken",
            "64 B every 100 µs to a receiver asleep on the other core; from before the send to after the receive",
        )
        .column("p50", "p50", Time)
        .column("p99", "p99", Time)
        .column("send", "send call p50", Time)
        .column("lost", "lost", Count)
        .cell("futex word", woken::<1, Futex>)
        .cell(LINK, woken::<1, Slept>)
        .cell("seqpacket", woken::<1, Socket>)
        .target(LINK, "lost", &[], AtMost(0.0))
        .target(LINK, "p50", &["futex word"], AtMost(1.05)),
    ]
}

fn streamed<const N: usize>(name: &'static str, sockets: f64) -> Row {
    Row::new(name, "one way, as fast as none is lost, from core 0 to core 1; written whole, copied out and checked; rings of 256 KiB")
        .column("rate", "messages/s", Rate)
        .column("bytes", "bytes/s", Rate)
        .column("lost", "lost", Count)
        .cell(LINK, single::<N, Polled>)
        .cell("conduit link, asleep", single::<N, Slept>)
        .cell("conduit link over its socket", single::<N, Fallback>)
        .cell("bare byte ring", single::<N, Bytes>)
        .cell("unix stream", single::<N, Stream>)
        .cell("seqpacket", single::<N, Socket>)
        .cell("pipe", single::<N, Pipe>)
        .target(LINK, "lost", &[], AtMost(0.0))
        .target(LINK, "rate", &["unix stream"], AtLeast(sockets))
        .target(LINK, "rate", &["bare byte ring"], AtLeast(0.9))
}
