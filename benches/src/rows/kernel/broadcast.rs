//! From one publisher to every reader: published and read on one thread, which leaves nothing but the work.

use super::super::{Context, Limit::*, Outcome, Row, Unit::*};
use super::leak;
use super::queue::{DEPTH, message};
use super::timing::cost;
use crate::message::Message;
use conduit::ring::{FrameRing, Start, WordRing};
use disruptor::{BusySpin, Producer as _};
use std::hint::black_box;

type Payload = Message<8>;

/// The others wait for readers, or refuse, where these overwrite as Conduit does.
const LOSSY: &[&str] = &["async-broadcast, overflow", "tokio broadcast"];

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("broadcast 64 B", "a publish and a read by one reader, on one thread; written and checked")
            .column("each", "each", Time)
            .cell("conduit word ring", words)
            .cell("conduit frame ring", frames)
            .cell("async-broadcast, overflow", async_broadcast)
            .cell("tokio broadcast", tokio)
            .cell("disruptor, lossless", lossless_disruptor)
            .cell("bus, lossless", bus)
            .cell("multiqueue2, lossless", multiqueue)
            .target("conduit word ring", "each", LOSSY, AtMost(0.4))
            .target("conduit frame ring", "each", LOSSY, AtMost(0.5))
            .target("conduit word ring", "each", &["disruptor, lossless"], AtMost(1.0)),
    ]
}

#[inline(always)]
fn payload(number: u64) -> Payload {
    message(black_box(number))
}

fn words(context: &Context) -> Outcome {
    let (mut writer, readers) = leak(WordRing::<[u64; 8], DEPTH>::new()).split().expect("the first split");
    let mut reader = readers.reader(Start::New);
    cost(context, |number| {
        writer.publish(&payload(number).0);
        Message(*reader.read().expect("a message")).check(number);
    })
}

/// Written and read in place.
fn frames(context: &Context) -> Outcome {
    let (mut writer, readers) = leak(FrameRing::<[u64; 8], DEPTH, 1>::new()).split().expect("the first split");
    let mut reader = readers.reader(Start::New, 1).expect("a reader");
    cost(context, |number| {
        let mut loan = writer.loan().expect("a slot");
        *loan = payload(number).0;
        loan.commit();
        Message(*reader.read().expect("a message")).check(number);
    })
}

fn async_broadcast(context: &Context) -> Outcome {
    let (mut sender, mut receiver) = async_broadcast::broadcast(DEPTH);
    sender.set_overflow(true);
    cost(context, |number| {
        sender.try_broadcast(payload(number)).expect("a receiver");
        receiver.try_recv().expect("a message").check(number);
    })
}

fn tokio(context: &Context) -> Outcome {
    let (sender, mut receiver) = tokio::sync::broadcast::channel(DEPTH);
    cost(context, |number| {
        sender.send(payload(number)).expect("a receiver");
        receiver.try_recv().expect("a message").check(number);
    })
}

/// Written and read in place.
fn lossless_disruptor(context: &Context) -> Outcome {
    let builder = disruptor::build_single_producer(DEPTH, || Message([0; 8]), BusySpin);
    let (mut poller, builder) = builder.new_event_poller();
    let mut producer = builder.build();
    cost(context, |number| {
        producer.publish(|slot: &mut Payload| slot.number(black_box(number)));
        let Ok(mut messages) = poller.poll() else { panic!("a message") };
        (&mut messages).for_each(|message| message.check(number));
    })
}

fn bus(context: &Context) -> Outcome {
    let mut bus = bus::Bus::new(DEPTH);
    let mut reader = bus.add_rx();
    cost(context, |number| {
        bus.try_broadcast(payload(number)).expect("room");
        reader.try_recv().expect("a message").check(number);
    })
}

fn multiqueue(context: &Context) -> Outcome {
    let (sender, receiver) = multiqueue2::broadcast_queue(DEPTH as u64);
    let receiver = receiver.into_single().map_err(|_| "another reader")?;
    cost(context, |number| {
        sender.try_send(payload(number)).map_err(|_| ()).expect("room");
        receiver.try_recv().expect("a message").check(number);
    })
}
