//! Unix sockets that keep messages apart (`SOCK_SEQPACKET`), one pair for each subscriber.

use super::{Peer, Publisher, Setup, Subscriber};
use crate::message::Message;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub struct Socket;

pub struct Pairs(Vec<[OwnedFd; 2]>);

pub struct Sending(Vec<OwnedFd>);

pub struct Receiving(OwnedFd);

impl<const N: usize> Peer<N> for Socket {
    type Shared = Pairs;
    type Publisher = Sending;
    type Subscriber = Receiving;

    const POLLS: bool = false;

    fn prepare(setup: &Setup) -> Pairs {
        Pairs((0..setup.subscribers).map(|_| pair()).collect())
    }

    fn publisher(shared: &Pairs, _: &Setup) -> Sending {
        Sending(shared.0.iter().map(|pair| own(&pair[0])).collect())
    }

    fn subscriber(shared: &Pairs, _: &Setup, index: usize) -> Receiving {
        Receiving(own(&shared.0[index][1]))
    }
}

fn pair() -> [OwnedFd; 2] {
    let mut ends = [0; 2];
    // SAFETY: `ends` is room for two descriptors, which are new and ours.
    unsafe {
        let made = libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, ends.as_mut_ptr());
        assert!(made == 0, "socketpair: {}", std::io::Error::last_os_error());
        ends.map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

fn own(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().expect("a descriptor")
}

impl<const N: usize> Publisher<N> for Sending {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        for fd in &self.0 {
            let bytes = message.bytes();
            // SAFETY: a valid buffer of that length.
            let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            assert_eq!(sent, bytes.len() as isize, "send");
        }
    }
}

impl Receiving {
    #[inline(always)]
    fn read<const N: usize>(&self, into: &mut Message<N>, flags: i32) -> bool {
        let bytes = into.bytes_mut();
        // SAFETY: a valid buffer of that length.
        let received = unsafe { libc::recv(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) };
        received == bytes.len() as isize
    }
}

impl<const N: usize> Subscriber<N> for Receiving {
    #[inline(always)]
    fn receive(&mut self, into: &mut Message<N>) -> bool {
        self.read(into, libc::MSG_DONTWAIT)
    }

    #[inline(always)]
    fn wait(&mut self, into: &mut Message<N>) {
        assert!(self.read(into, 0), "recv");
    }
}
