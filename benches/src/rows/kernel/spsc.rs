//! From one producer to one consumer.

use super::super::{Limit::*, Row, Unit::*};
use super::leak;
use super::queue::{BATCH, DEPTH, Inlet, Outlet, Queue, message, push_pop, stream};
use crate::message::Message;
use conduit::spsc;
use disruptor::{BusySpin, EventPoller, Producer as _, SingleConsumerBarrier, SingleProducer, SingleProducerBarrier};
use ringbuf::traits::{Consumer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};

const STREAM: &str = "a message of a stream from core 0 to core 1, made, moved and checked";
const BATCHES: &str = "the same, up to 64 messages a call";

const PEERS: &[&str] = &["heapless", "rtrb", "ringbuf", "disruptor"];
/// By what a batch call takes: messages that are made one by one in their places, or an array of them.
const ITERATORS: &[&str] = &["heapless", "rtrb", "disruptor"];
const SLICES: &[&str] = &["rtrb, slices", "ringbuf, slices"];

pub fn rows() -> Vec<Row> {
    vec![
        row("spsc 8 B, push and pop", "on one thread")
            .cell("conduit", push_pop::<1, Conduit>)
            .cell("heapless", push_pop::<1, Heapless>)
            .cell("rtrb", push_pop::<1, Rtrb>)
            .cell("ringbuf", push_pop::<1, Ringbuf>)
            .cell("disruptor", push_pop::<1, Disruptor>)
            .target("conduit", "each", PEERS, AtMost(1.0)),
        row("spsc 8 B, stream", STREAM)
            .cell("conduit", stream::<1, false, Conduit>)
            .cell("heapless", stream::<1, false, Heapless>)
            .cell("rtrb", stream::<1, false, Rtrb>)
            .cell("ringbuf", stream::<1, false, Ringbuf>)
            .cell("disruptor", stream::<1, false, Disruptor>)
            .target("conduit", "each", PEERS, AtMost(1.0)),
        batches::<1>("spsc 8 B, stream of batches"),
        batches::<8>("spsc 64 B, stream of batches"),
    ]
}

fn row(name: &'static str, note: &'static str) -> Row {
    Row::new(name, note).column("each", "each", Time)
}

fn batches<const N: usize>(name: &'static str) -> Row {
    row(name, BATCHES)
        .cell("conduit", stream::<N, true, Conduit>)
        .cell("conduit, slices", stream::<N, true, Slices>)
        .cell("heapless", stream::<N, true, Heapless>)
        .cell("rtrb", stream::<N, true, Rtrb>)
        .cell("rtrb, slices", stream::<N, true, RtrbSlices>)
        .cell("ringbuf, slices", stream::<N, true, Ringbuf>)
        .cell("disruptor", stream::<N, true, Disruptor>)
        .target("conduit", "each", ITERATORS, AtMost(1.0))
        .target("conduit, slices", "each", SLICES, AtMost(1.0))
}

/// Up to a batch of messages, the first of this number.
#[inline(always)]
fn messages<const N: usize>(number: u64) -> impl Iterator<Item = Message<N>> {
    (number..number + BATCH as u64).map(message)
}

pub struct Conduit;

impl<const N: usize> Queue<N> for Conduit {
    type In = spsc::Producer<'static, Message<N>, DEPTH>;
    type Out = spsc::Consumer<'static, Message<N>, DEPTH>;

    fn open() -> (Self::In, Self::Out) {
        leak(spsc::Queue::new()).split().expect("the first split")
    }
}

impl<const N: usize> Inlet<N> for spsc::Producer<'static, Message<N>, DEPTH> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.push(message(number)).is_ok()
    }
    #[inline(always)]
    fn push_batch(&mut self, number: u64) -> u64 {
        self.push_batch(messages(number)) as u64
    }
}

impl<const N: usize> Outlet<N> for spsc::Consumer<'static, Message<N>, DEPTH> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<N>)) -> bool {
        self.pop().inspect(&mut each).is_some()
    }
    #[inline(always)]
    fn pop_batch(&mut self, mut each: impl FnMut(&Message<N>)) -> bool {
        self.pop_batch(BATCH, |message| each(&message)) > 0
    }
}

/// Conduit's and rtrb's slice calls: messages are made in an array and copied.
struct Slices;
struct RtrbSlices;
struct Sliced<Q>(Q);

impl<const N: usize> Queue<N> for Slices {
    type In = Sliced<<Conduit as Queue<N>>::In>;
    type Out = Sliced<<Conduit as Queue<N>>::Out>;

    fn open() -> (Self::In, Self::Out) {
        let (inlet, outlet) = Conduit::open();
        (Sliced(inlet), Sliced(outlet))
    }
}

impl<const N: usize> Inlet<N> for Sliced<spsc::Producer<'static, Message<N>, DEPTH>> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        Inlet::push(&mut self.0, number)
    }
    #[inline(always)]
    fn push_batch(&mut self, number: u64) -> u64 {
        self.0.push_slice(&made(number)) as u64
    }
}

impl<const N: usize> Outlet<N> for Sliced<spsc::Consumer<'static, Message<N>, DEPTH>> {
    #[inline(always)]
    fn pop(&mut self, each: impl FnMut(&Message<N>)) -> bool {
        Outlet::pop(&mut self.0, each)
    }
    #[inline(always)]
    fn pop_batch(&mut self, each: impl FnMut(&Message<N>)) -> bool {
        let mut into = [Message([0; N]); BATCH];
        let popped = self.0.pop_slice(&mut into);
        into[..popped].iter().for_each(each);
        popped > 0
    }
}

#[inline(always)]
fn made<const N: usize>(number: u64) -> [Message<N>; BATCH] {
    std::array::from_fn(|at| message(number + at as u64))
}

impl<const N: usize> Queue<N> for RtrbSlices {
    type In = Sliced<rtrb::Producer<Message<N>>>;
    type Out = Sliced<rtrb::Consumer<Message<N>>>;

    fn open() -> (Self::In, Self::Out) {
        let (inlet, outlet) = Rtrb::open();
        (Sliced(inlet), Sliced(outlet))
    }
}

impl<const N: usize> Inlet<N> for Sliced<rtrb::Producer<Message<N>>> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        Inlet::push(&mut self.0, number)
    }
    #[inline(always)]
    fn push_batch(&mut self, number: u64) -> u64 {
        self.0.push_partial_slice(&made(number)).0.len() as u64
    }
}

impl<const N: usize> Outlet<N> for Sliced<rtrb::Consumer<Message<N>>> {
    #[inline(always)]
    fn pop(&mut self, each: impl FnMut(&Message<N>)) -> bool {
        Outlet::pop(&mut self.0, each)
    }
    #[inline(always)]
    fn pop_batch(&mut self, each: impl FnMut(&Message<N>)) -> bool {
        let mut into = [Message([0; N]); BATCH];
        let (popped, _) = self.0.pop_partial_slice(&mut into);
        popped.iter().for_each(each);
        !popped.is_empty()
    }
}

struct Heapless;

impl<const N: usize> Queue<N> for Heapless {
    type In = heapless::spsc::Producer<'static, Message<N>>;
    type Out = heapless::spsc::Consumer<'static, Message<N>>;

    fn open() -> (Self::In, Self::Out) {
        leak(heapless::spsc::Queue::<_, DEPTH>::new()).split()
    }
}

impl<const N: usize> Inlet<N> for heapless::spsc::Producer<'static, Message<N>> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.enqueue(message(number)).is_ok()
    }
}

impl<const N: usize> Outlet<N> for heapless::spsc::Consumer<'static, Message<N>> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<N>)) -> bool {
        self.dequeue().inspect(&mut each).is_some()
    }
}

/// Its batch calls are chunks that are filled from an iterator and iterated over.
pub struct Rtrb;

impl<const N: usize> Queue<N> for Rtrb {
    type In = rtrb::Producer<Message<N>>;
    type Out = rtrb::Consumer<Message<N>>;

    fn open() -> (Self::In, Self::Out) {
        rtrb::RingBuffer::new(DEPTH)
    }
}

impl<const N: usize> Inlet<N> for rtrb::Producer<Message<N>> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.push(message(number)).is_ok()
    }
    #[inline(always)]
    fn push_batch(&mut self, number: u64) -> u64 {
        // The whole batch, or what there is room for, with one look at the other end.
        let chunk = match self.write_chunk_uninit(BATCH) {
            Ok(chunk) => chunk,
            Err(rtrb::chunks::ChunkError::TooFewSlots(0)) => return 0,
            Err(rtrb::chunks::ChunkError::TooFewSlots(some)) => self.write_chunk_uninit(some).expect("they were there"),
        };
        chunk.fill_from_iter(messages(number)) as u64
    }
}

impl<const N: usize> Outlet<N> for rtrb::Consumer<Message<N>> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<N>)) -> bool {
        self.pop().inspect(&mut each).is_ok()
    }
    #[inline(always)]
    fn pop_batch(&mut self, mut each: impl FnMut(&Message<N>)) -> bool {
        let chunk = match self.read_chunk(BATCH) {
            Ok(chunk) => chunk,
            Err(rtrb::chunks::ChunkError::TooFewSlots(0)) => return false,
            Err(rtrb::chunks::ChunkError::TooFewSlots(some)) => self.read_chunk(some).expect("they were there"),
        };
        chunk.into_iter().for_each(|message| each(&message));
        true
    }
}

/// Its batch calls are slices.
pub struct Ringbuf;

impl<const N: usize> Queue<N> for Ringbuf {
    type In = HeapProd<Message<N>>;
    type Out = HeapCons<Message<N>>;

    fn open() -> (Self::In, Self::Out) {
        HeapRb::new(DEPTH).split()
    }
}

impl<const N: usize> Inlet<N> for HeapProd<Message<N>> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.try_push(message(number)).is_ok()
    }
    #[inline(always)]
    fn push_batch(&mut self, number: u64) -> u64 {
        self.push_slice(&made(number)) as u64
    }
}

impl<const N: usize> Outlet<N> for HeapCons<Message<N>> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<N>)) -> bool {
        self.try_pop().inspect(&mut each).is_some()
    }
    #[inline(always)]
    fn pop_batch(&mut self, each: impl FnMut(&Message<N>)) -> bool {
        let mut into = [Message([0; N]); BATCH];
        let popped = self.pop_slice(&mut into);
        into[..popped].iter().for_each(each);
        popped > 0
    }
}

/// Messages are made and read in place. Its consumer polls for all that there are, as it is meant to.
pub struct Disruptor;

impl<const N: usize> Queue<N> for Disruptor {
    type In = SingleProducer<Message<N>, SingleConsumerBarrier>;
    type Out = EventPoller<Message<N>, SingleProducerBarrier>;

    fn open() -> (Self::In, Self::Out) {
        let builder = disruptor::build_single_producer(DEPTH, || Message([0; N]), BusySpin);
        let (poller, builder) = builder.new_event_poller();
        (builder.build(), poller)
    }
}

impl<const N: usize> Inlet<N> for SingleProducer<Message<N>, SingleConsumerBarrier> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.try_publish(|message| message.number(number)).is_ok()
    }
    #[inline(always)]
    fn push_batch(&mut self, number: u64) -> u64 {
        // All or nothing is what it offers; the room is there soon.
        let slots = self.try_batch_publish(BATCH, |slots| {
            slots.zip(number..).for_each(|(slot, number)| slot.number(number));
        });
        if slots.is_ok() { BATCH as u64 } else { 0 }
    }
}

impl<const N: usize> Outlet<N> for EventPoller<Message<N>, SingleProducerBarrier> {
    #[inline(always)]
    fn pop(&mut self, each: impl FnMut(&Message<N>)) -> bool {
        self.poll().map(|mut messages| (&mut messages).for_each(each)).is_ok()
    }
}
