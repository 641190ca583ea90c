//! ringfire 0.5: one broadcast ring of typed slots in a file.

use super::{Peer, Publisher, Setup, Subscriber, files_in, prefix};
use crate::message::Message;
use ringfire::{FlowControl, FutexWait, RingConsumer, RingProducer, RingProducerBuilder};
use std::path::PathBuf;

pub struct Ringfire;

fn path(setup: &Setup) -> String {
    format!("/dev/shm/{}{}", prefix("ringfire"), setup.name)
}

impl<const N: usize> Peer<N> for Ringfire {
    type Shared = ();
    type Publisher = RingProducer<Message<N>>;
    type Subscriber = RingConsumer<Message<N>>;

    fn prepare(_: &Setup) {}

    fn publisher(_: &(), setup: &Setup) -> Self::Publisher {
        let flow = match setup.lossless {
            true => FlowControl::LosslessBackpressure,
            false => FlowControl::LossyLatestWins,
        };
        RingProducerBuilder::new(setup.depth as u64).flow_control(flow).build(path(setup)).expect("ringfire producer")
    }

    fn subscriber(_: &(), setup: &Setup, _: usize) -> Self::Subscriber {
        loop {
            // Fails until the producer has made the file.
            if let Ok(consumer) = RingConsumer::attach(path(setup)) {
                return consumer;
            }
            std::hint::spin_loop();
        }
    }

    fn files() -> Vec<PathBuf> {
        files_in("/dev/shm", &prefix("ringfire"))
    }
}

impl<const N: usize> Publisher<N> for RingProducer<Message<N>> {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        self.push(message);
    }

    #[inline(always)]
    fn send_batch(&mut self, messages: &[Message<N>]) {
        self.push_batch(messages);
    }
}

impl<const N: usize> Subscriber<N> for RingConsumer<Message<N>> {
    #[inline(always)]
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        match self.try_recv() {
            Some(message) => {
                *into = message;
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn receive_batch(&mut self, into: &mut [Message<N>]) -> usize {
        self.recv_batch(into)
    }

    fn wait(&mut self, into: &mut Message<N>) {
        *into = self.recv_blocking(&mut FutexWait::default());
    }
}
