//! Conduit: one file a topic, a copy from small slots and a pin on large ones.

use super::{Peer, Publisher as Out, Setup, Subscriber as In, files_in, prefix};
use crate::message::Message;
use conduit::topic::{Message as Type, Overflow, SchemaBuilder, SlotKind, Timestamps};
use conduit::{Publisher, Subscriber};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

/// Small typed messages in Words slots; the marker says where timestamps come from.
pub struct Words<Stamps = Unstamped>(PhantomData<Stamps>);

/// Bytes in Frames slots, without timestamps, which is the default for bytes.
pub struct Frames;

pub trait Stamps {
    const FROM: Timestamps;
}

pub struct Unstamped;

impl Stamps for Unstamped {
    const FROM: Timestamps = Timestamps::None;
}

/// A clock reading for each message: the default for typed messages.
pub struct Stamped;

impl Stamps for Stamped {
    const FROM: Timestamps = Timestamps::Clock;
}

// SAFETY: plain words in a `repr(C)` struct: any bits will do, no padding, no pointers.
unsafe impl<const N: usize> conduit::ring::Plain for Message<N> {}

// SAFETY: as above, and the definition names its only field.
unsafe impl<const N: usize> Type for Message<N> {
    const NAME: &'static str = "bench/msg/Message";
    type Inline = [u64; N];

    fn define(builder: &mut SchemaBuilder) {
        builder.define(Self::NAME, |_| format!("uint64[{N}] words\n"));
    }
}

fn domain() -> String {
    prefix("c").trim_end_matches('_').into()
}

fn files() -> Vec<PathBuf> {
    files_in("/dev/shm", &format!("conduit_{}@", domain()))
}

/// The depth that fills as many slots as the other transports have: Conduit rounds up to a power of two what is asked
/// for, two slots that are being written, and slack where it is lossless.
fn depth(setup: &Setup) -> u32 {
    let depth = match setup.lossless {
        true => (setup.depth - 2) * 4 / 5,
        false => setup.depth - 2,
    };
    depth.max(1) as u32
}

fn overflow(setup: &Setup) -> Overflow {
    match setup.lossless {
        true => Overflow::Block,
        false => Overflow::Overwrite,
    }
}

fn subscribers(setup: &Setup) -> u32 {
    setup.subscribers.max(1) as u32
}

const PATIENCE: Duration = Duration::from_secs(10);

impl<const N: usize, S: Stamps> Peer<N> for Words<S> {
    type Shared = ();
    type Publisher = Publisher<Message<N>>;
    type Subscriber = Subscriber<Message<N>>;

    fn prepare(_: &Setup) {}

    fn publisher(_: &(), setup: &Setup) -> Self::Publisher {
        Publisher::options()
            .domain(&domain())
            .depth(depth(setup))
            .slots(SlotKind::Words)
            .timestamps(S::FROM)
            .overflow(overflow(setup))
            .subscribers(subscribers(setup))
            .open(&setup.name)
            .expect("a publisher")
    }

    fn subscriber(_: &(), setup: &Setup, _: usize) -> Self::Subscriber {
        Subscriber::options().domain(&domain()).wait(PATIENCE).open(&setup.name).expect("a subscriber")
    }

    fn files() -> Vec<PathBuf> {
        files()
    }
}

impl<const N: usize> Out<N> for Publisher<Message<N>> {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        self.publish(message).expect("published");
    }

    #[inline(always)]
    fn send_batch(&mut self, messages: &[Message<N>]) {
        let published = self.publish_batch(messages).expect("published");
        assert_eq!(published, messages.len());
    }
}

impl<const N: usize> In<N> for Subscriber<Message<N>> {
    #[inline(always)]
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        match self.try_recv().expect("received") {
            Some(sample) => {
                *into = *sample;
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn receive_batch(&mut self, into: &mut [Message<N>]) -> usize {
        let room = into.len();
        let mut slots = into.iter_mut();
        let each = |message: conduit::topic::Received<'_, Message<N>>| {
            if let Some(slot) = slots.next() {
                *slot = *message;
            }
        };
        self.recv_batch(room, each).expect("received")
    }

    fn wait(&mut self, into: &mut Message<N>) {
        *into = *self.recv().expect("received");
    }
}

impl<const N: usize> Peer<N> for Frames {
    type Shared = ();
    type Publisher = Publisher<[u8]>;
    type Subscriber = Subscriber<[u8]>;

    fn prepare(_: &Setup) {}

    fn publisher(_: &(), setup: &Setup) -> Self::Publisher {
        let samples = 2 * subscribers(setup);
        Publisher::<[u8]>::options()
            .domain(&domain())
            .depth(depth(setup).saturating_sub(samples).max(1))
            .max_len(N * 8)
            .slots(SlotKind::Frames)
            .overflow(overflow(setup))
            .subscribers(subscribers(setup))
            .open(&setup.name)
            .expect("a publisher")
    }

    fn subscriber(_: &(), setup: &Setup, _: usize) -> Self::Subscriber {
        Subscriber::options().domain(&domain()).wait(PATIENCE).open(&setup.name).expect("a subscriber")
    }

    fn files() -> Vec<PathBuf> {
        files()
    }
}

impl<const N: usize> Out<N> for Publisher<[u8]> {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        self.publish(message.bytes()).expect("published");
    }

    #[inline(always)]
    fn send_batch(&mut self, messages: &[Message<N>]) {
        let published = self.publish_batch(messages.iter().map(Message::bytes)).expect("published");
        assert_eq!(published, messages.len());
    }

    #[inline(always)]
    fn hand_over(&mut self, number: Option<u64>) {
        let mut loan = self.loan(N * 8).expect("a loan");
        if let Some(number) = number {
            loan[..8].copy_from_slice(&number.to_ne_bytes());
        }
        loan.commit();
    }
}

impl<const N: usize> In<N> for Subscriber<[u8]> {
    #[inline(always)]
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        match self.try_recv().expect("received") {
            Some(sample) => {
                into.bytes_mut().copy_from_slice(&sample);
                true
            }
            None => false,
        }
    }

    fn wait(&mut self, into: &mut Message<N>) {
        let sample = self.recv().expect("received");
        into.bytes_mut().copy_from_slice(&sample);
    }

    #[inline(always)]
    fn take(&mut self, look: bool) -> Option<u64> {
        let sample = self.try_recv().expect("received")?;
        assert_eq!(sample.len(), N * 8);
        let word = || u64::from_ne_bytes(sample[..8].try_into().expect("eight bytes"));
        Some(if look { word() } else { 0 })
    }
}
