//! Nodes: what is called back, in which order, and what ends them.
#![cfg(feature = "std")]

mod support;

use std::time::Duration;

use conduit::Node;
use support::{Domain, in_time};

#[test]
fn messages_and_ticks_are_called_back_until_a_callback_stops_the_node() {
    let domain = Domain::new();
    let mut publisher = domain.bytes().open("t").unwrap();
    let report = in_time("run", {
        let name = domain.name().to_string();
        move || {
            let mut seen = Vec::new();
            let mut node = Node::options().domain(&name).signals(false).build("n").unwrap();
            let stopper = node.stopper();
            node.subscribe::<[u8]>("t", |bytes| {
                seen.push((bytes.sequence(), bytes.to_vec()));
            })
            .unwrap();
            publisher.publish(b"one").unwrap();
            node.every(Duration::from_millis(1), move |tick| {
                if tick.number() > 5 {
                    stopper.stop();
                }
            })
            .unwrap();
            let report = node.run().unwrap();
            assert_eq!(seen, [(0, b"one".to_vec())]);
            report
        }
    });
    assert_eq!(report.subscriptions[0].messages, 1);
    assert!(report.timers[0].ticks + report.timers[0].overruns > 5);
}
