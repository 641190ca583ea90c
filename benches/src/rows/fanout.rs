//! One publisher on core 0, four subscribers that poll and share core 1, nothing lost.

use super::throughput::{receive_singly, send_singly, stream};
use super::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::peers::Peer;
use crate::peers::conduit::{Frames, Words};
use crate::peers::{bare::Bare, iceoryx2::Iceoryx2, ringfire::Ringfire};

pub fn rows() -> Vec<Row> {
    vec![
        Row::new(
            "fan-out 1 to 4, 64 B",
            "messages published a second when each of four gets all; whoever finds nothing yields the core",
        )
        .column("rate", "messages/s", Rate)
        .column("lost", "lost", Count)
        .cell("bare ring", four::<Bare>)
        .cell("conduit words", four::<Words>)
        .cell("conduit frames", four::<Frames>)
        .cell("ringfire", four::<Ringfire>)
        .cell("iceoryx2", four::<Iceoryx2>)
        .target("conduit words", "lost", &[], AtMost(0.0))
        .target("conduit words", "rate", &["bare ring"], AtLeast(0.85)),
    ]
}

fn four<P: Peer<8>>(context: &Context) -> Outcome {
    stream::<8, P>(context, 4, send_singly::<8, P>, receive_singly::<8, P>)
}
