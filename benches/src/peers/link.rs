//! Conduit's links: a listener on the publisher's side, a connector on the subscriber's.

use super::{Peer, Publisher, Setup, Subscriber};
use crate::message::Message;
use conduit::link::{Link, Transport};
use std::thread::JoinHandle;

/// The size of a ring here, and of the bare one beside it.
pub const SIZE: usize = 256 << 10;

/// A link whose subscriber polls, or sleeps, through its ring; or over the socket.
pub struct Way<const POLLS: bool, const RING: bool>;

pub type Polled = Way<true, true>;
pub type Slept = Way<false, true>;
pub type Fallback = Way<false, false>;

/// Accepts beside what its owner does, so that two ends that each wait for the other's connection get along.
pub enum Sending {
    Accepting(Option<JoinHandle<Link>>),
    Connected(Link),
}

pub struct Receiving(Link);

fn options(ring: bool) -> conduit::link::Options {
    Link::options().size(SIZE).transport(if ring { Transport::SharedMemory } else { Transport::Socket })
}

fn address(setup: &Setup) -> String {
    format!("@conduit-bench-{}", setup.name)
}

impl<const N: usize, const POLLS: bool, const RING: bool> Peer<N> for Way<POLLS, RING> {
    type Shared = ();
    type Publisher = Sending;
    type Subscriber = Receiving;

    const POLLS: bool = POLLS;

    fn prepare(_: &Setup) {}

    fn publisher(_: &(), setup: &Setup) -> Sending {
        let mut listener = options(RING).listen(&address(setup)).expect("listen");
        Sending::Accepting(Some(std::thread::spawn(move || listener.accept().expect("accept"))))
    }

    fn subscriber(_: &(), setup: &Setup, _: usize) -> Receiving {
        loop {
            if let Ok(link) = options(RING).connect(&address(setup)) {
                return Receiving(link);
            }
            std::thread::yield_now();
        }
    }
}

impl Sending {
    #[cold]
    fn connect(&mut self) {
        if let Sending::Accepting(accepting) = self {
            let link = accepting.take().expect("once").join().expect("a link");
            *self = Sending::Connected(link);
        }
    }
}

impl<const N: usize> Publisher<N> for Sending {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        if let Sending::Accepting(_) = self {
            self.connect();
        }
        let Sending::Connected(link) = self else { unreachable!() };
        link.send(message.bytes()).expect("send");
    }
}

impl<const N: usize> Subscriber<N> for Receiving {
    #[inline(always)]
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        match self.0.try_recv_into(into.bytes_mut()) {
            Ok(len) => len == N * 8,
            Err(conduit::link::Error::WouldBlock) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[inline(always)]
    fn wait(&mut self, into: &mut Message<N>) {
        assert_eq!(self.0.recv_into(into.bytes_mut()).expect("recv"), N * 8);
    }
}
