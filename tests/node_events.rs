//! What `tracing` is told of nodes and topics; a program of its own, as whoever listens does so for the whole process.
#![cfg(feature = "std")]

mod support;

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conduit::Node;
use support::{Domain, Left};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the events of the crate as lines of text.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<(Level, String)>>>);

impl Listener {
    /// The events with `text` in them.
    fn with(&self, text: &str) -> Vec<(Level, String)> {
        self.0.lock().unwrap().iter().filter(|(_, line)| line.contains(text)).cloned().collect()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("conduit::")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().into());
        event.record(&mut line);
        self.0.lock().unwrap().push((*event.metadata().level(), line.0));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn what_happens_is_told_and_what_happens_often_is_told_once_a_second() {
    let listener = Listener::default();
    tracing::subscriber::set_global_default(listener.clone()).unwrap();
    let domain = Domain::new();
    let mut publisher = domain.publisher::<Left>().open("t").unwrap();
    let mut node = Node::options().domain(domain.name()).signals(false).build("told").unwrap();
    node.subscribe::<Left>("t", |message| assert!(message.value < 0.0, "on purpose {}", message.value)).unwrap();
    let stopper = node.stopper();
    let told = listener.clone();
    node.every(Duration::from_nanos(1), move |tick| {
        // Each is late by more than a period; there are some within the first second. The subscription has moved on once all
        // before is received.
        if tick.number() > 1_000_000 && told.with("its subscriber moves on").len() == 1 {
            stopper.stop();
        }
    })
    .unwrap();
    for _ in 0..3 {
        publisher.publish(&Left { value: 1.0 }).unwrap();
    }
    // Another shape, which the subscription moves on to.
    drop(publisher);
    let _publisher = domain.publisher::<Left>().depth(99).open("t").unwrap();
    let report = node.run().unwrap();
    assert_eq!(report.subscriptions[0].panics, 3);
    assert!(report.timers[0].overruns > 1 && report.timers[0].ticks > 1, "{report:?}");

    assert_eq!(listener.with("message=runs").len(), 1);
    let ends = listener.with("has ended");
    assert!(ends.len() == 1 && ends[0].0 == Level::INFO && ends[0].1.contains("node=\"told\""), "{ends:?}");
    let panics = listener.with("panicked");
    assert!(panics[0].0 == Level::ERROR && panics[0].1.contains("a callback panicked: on purpose 1"), "{panics:?}");
    let seconds = 1 + report.timers[0].overruns / 1_000_000_000;
    assert!(panics.len() as u64 <= seconds, "{panics:?}");
    let overruns = listener.with("skipped ticks");
    assert!(overruns[0].0 == Level::WARN && (1..=seconds + 1).contains(&(overruns.len() as u64)), "{overruns:?}");
    assert_eq!(listener.with("made the topic").len(), 1);
    assert_eq!(listener.with("replaced what had the name").len(), 1);
    assert_eq!(listener.with("its subscriber moves on").len(), 1);
}
