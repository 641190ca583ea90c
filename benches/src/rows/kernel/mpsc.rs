//! From many producers to one consumer.

use super::super::{Limit::*, Row, Unit::*};
use super::leak;
use super::queue::{BATCH, DEPTH, Inlet, Outlet, Queue, many, message, push};
use crate::message::Message;
use concurrent_queue::ConcurrentQueue;
use conduit::mpsc;
use crossbeam_queue::ArrayQueue;
use disruptor::{BusySpin, EventPoller, MultiProducer, MultiProducerBarrier, Producer as _, SingleConsumerBarrier};
use std::sync::Arc;

/// kanal is not among them: it spins on a lock.
const LOCK_FREE: &[&str] = &["heapless mpmc", "crossbeam ArrayQueue", "concurrent-queue", "disruptor"];

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("mpsc 8 B, push", "by one producer, into a queue that is not full")
            .column("each", "each", Time)
            .cell("conduit", push::<Conduit>)
            .cell("heapless mpmc", push::<Heapless>)
            .cell("crossbeam ArrayQueue", push::<Shared<ArrayQueue<Message<1>>>>)
            .cell("concurrent-queue", push::<Shared<ConcurrentQueue<Message<1>>>>)
            .cell("disruptor", push::<Disruptor>)
            .cell("kanal, a spin lock", push::<Kanal>)
            .target("conduit", "each", LOCK_FREE, AtMost(1.0)),
        producers::<2>("mpsc 8 B, 2 producers").target("conduit", "each", LOCK_FREE, AtMost(0.6)),
        producers::<4>("mpsc 8 B, 4 producers").target("conduit", "each", LOCK_FREE, AtMost(0.75)),
    ]
}

fn producers<const P: usize>(name: &'static str) -> Row {
    Row::new(name, "a message from producers on both cores to a consumer on core 1; who can't go on gives way")
        .column("each", "each", Time)
        .cell("conduit", many::<P, false, Conduit>)
        .cell("conduit, batches out", many::<P, true, Conduit>)
        .cell("heapless mpmc", many::<P, false, Heapless>)
        .cell("crossbeam ArrayQueue", many::<P, false, Shared<ArrayQueue<Message<1>>>>)
        .cell("concurrent-queue", many::<P, false, Shared<ConcurrentQueue<Message<1>>>>)
        .cell("disruptor", many::<P, false, Disruptor>)
        .cell("kanal, a spin lock", many::<P, false, Kanal>)
}

pub struct Conduit;

impl Queue<1> for Conduit {
    type In = mpsc::Producer<'static, Message<1>, DEPTH>;
    type Out = mpsc::Consumer<'static, Message<1>, DEPTH>;

    fn open() -> (Self::In, Self::Out) {
        leak(mpsc::Queue::new()).split().expect("the first split")
    }
}

impl Inlet<1> for mpsc::Producer<'static, Message<1>, DEPTH> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        mpsc::Producer::push(self, message(number)).is_ok()
    }
}

impl Outlet<1> for mpsc::Consumer<'static, Message<1>, DEPTH> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<1>)) -> bool {
        self.pop().inspect(&mut each).is_some()
    }
    #[inline(always)]
    fn pop_batch(&mut self, mut each: impl FnMut(&Message<1>)) -> bool {
        self.pop_batch(BATCH, |message| each(&message)) > 0
    }
}

struct Heapless;

impl Queue<1> for Heapless {
    type In = &'static heapless::mpmc::Queue<Message<1>, DEPTH>;
    type Out = Self::In;

    #[allow(deprecated, reason = "it waits for a producer that was stopped, as most of these do")]
    fn open() -> (Self::In, Self::Out) {
        let queue: Self::In = leak(heapless::mpmc::Queue::new());
        (queue, queue)
    }
}

impl Inlet<1> for &'static heapless::mpmc::Queue<Message<1>, DEPTH> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.enqueue(message(number)).is_ok()
    }
}

impl Outlet<1> for &'static heapless::mpmc::Queue<Message<1>, DEPTH> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<1>)) -> bool {
        self.dequeue().inspect(&mut each).is_some()
    }
}

/// Queues that both ends hold by an `Arc`.
struct Shared<Q>(Q);

impl Queue<1> for Shared<ArrayQueue<Message<1>>> {
    type In = Arc<ArrayQueue<Message<1>>>;
    type Out = Self::In;

    fn open() -> (Self::In, Self::Out) {
        let queue = Arc::new(ArrayQueue::new(DEPTH));
        (queue.clone(), queue)
    }
}

impl Inlet<1> for Arc<ArrayQueue<Message<1>>> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        ArrayQueue::push(self, message(number)).is_ok()
    }
}

impl Outlet<1> for Arc<ArrayQueue<Message<1>>> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<1>)) -> bool {
        ArrayQueue::pop(self).inspect(&mut each).is_some()
    }
}

impl Queue<1> for Shared<ConcurrentQueue<Message<1>>> {
    type In = Arc<ConcurrentQueue<Message<1>>>;
    type Out = Self::In;

    fn open() -> (Self::In, Self::Out) {
        let queue = Arc::new(ConcurrentQueue::bounded(DEPTH));
        (queue.clone(), queue)
    }
}

impl Inlet<1> for Arc<ConcurrentQueue<Message<1>>> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        ConcurrentQueue::push(self, message(number)).is_ok()
    }
}

impl Outlet<1> for Arc<ConcurrentQueue<Message<1>>> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<1>)) -> bool {
        ConcurrentQueue::pop(self).inspect(&mut each).is_ok()
    }
}

/// Messages are made and read in place. Its consumer polls for all that there are, as it is meant to.
pub struct Disruptor;

impl Queue<1> for Disruptor {
    type In = MultiProducer<Message<1>, SingleConsumerBarrier>;
    type Out = EventPoller<Message<1>, MultiProducerBarrier>;

    fn open() -> (Self::In, Self::Out) {
        let builder = disruptor::build_multi_producer(DEPTH, || Message([0]), BusySpin);
        let (poller, builder) = builder.new_event_poller();
        (builder.build(), poller)
    }
}

impl Inlet<1> for MultiProducer<Message<1>, SingleConsumerBarrier> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.try_publish(|message| message.number(number)).is_ok()
    }
}

impl Outlet<1> for EventPoller<Message<1>, MultiProducerBarrier> {
    #[inline(always)]
    fn pop(&mut self, each: impl FnMut(&Message<1>)) -> bool {
        self.poll().map(|mut messages| (&mut messages).for_each(each)).is_ok()
    }
}

struct Kanal;

impl Queue<1> for Kanal {
    type In = kanal::Sender<Message<1>>;
    type Out = kanal::Receiver<Message<1>>;

    fn open() -> (Self::In, Self::Out) {
        kanal::bounded(DEPTH)
    }
}

impl Inlet<1> for kanal::Sender<Message<1>> {
    #[inline(always)]
    fn push(&mut self, number: u64) -> bool {
        self.try_send(message(number)).expect("the receiver is there")
    }
}

impl Outlet<1> for kanal::Receiver<Message<1>> {
    #[inline(always)]
    fn pop(&mut self, mut each: impl FnMut(&Message<1>)) -> bool {
        self.try_recv().expect("a sender is there").inspect(&mut each).is_some()
    }
}
