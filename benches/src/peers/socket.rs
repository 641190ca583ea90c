//! What the kernel has between two processes: Unix sockets that keep messages apart (`SOCK_SEQPACKET`), one pair for each
//! subscriber; Unix sockets that don't (`SOCK_STREAM`), and pipes, for one.

use super::{Peer, Publisher, Setup, Subscriber};
use crate::message::Message;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub struct Socket;

pub struct Pairs(Vec<[OwnedFd; 2]>);

pub struct Sending(Vec<OwnedFd>);

pub struct Receiving(OwnedFd);

pub struct Stream;
pub struct Pipe;

/// Either end of a stream of bytes.
pub struct End(OwnedFd);

macro_rules! stream_of_bytes {
    ($name:ident, $make:expr) => {
        impl<const N: usize> Peer<N> for $name {
            type Shared = [OwnedFd; 2];
            type Publisher = End;
            type Subscriber = End;

            const POLLS: bool = false;

            fn prepare(_: &Setup) -> [OwnedFd; 2] {
                $make
            }

            fn publisher(shared: &[OwnedFd; 2], _: &Setup) -> End {
                End(own(&shared[1]))
            }

            fn subscriber(shared: &[OwnedFd; 2], _: &Setup, _: usize) -> End {
                End(own(&shared[0]))
            }
        }
    };
}
stream_of_bytes!(Stream, pair(libc::SOCK_STREAM));
stream_of_bytes!(Pipe, pipe());

impl<const N: usize> Publisher<N> for End {
    #[inline(always)]
    fn send(&mut self, message: &Message<N>) {
        let bytes = message.bytes();
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            // SAFETY: a valid buffer of that length.
            let more = unsafe { libc::write(self.0.as_raw_fd(), rest.as_ptr().cast(), rest.len()) };
            assert!(more > 0, "write");
            sent += more as usize;
        }
    }
}

impl<const N: usize> Subscriber<N> for End {
    fn receive(&mut self, _: &mut Message<N>) -> bool {
        unreachable!("it sleeps")
    }

    #[inline(always)]
    fn wait(&mut self, into: &mut Message<N>) {
        let bytes = into.bytes_mut();
        let mut got = 0;
        while got < bytes.len() {
            let rest = &mut bytes[got..];
            // SAFETY: a valid buffer of that length.
            let more = unsafe { libc::read(self.0.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len()) };
            assert!(more > 0, "read");
            got += more as usize;
        }
    }
}

impl<const N: usize> Peer<N> for Socket {
    type Shared = Pairs;
    type Publisher = Sending;
    type Subscriber = Receiving;

    const POLLS: bool = false;

    fn prepare(setup: &Setup) -> Pairs {
        Pairs((0..setup.subscribers).map(|_| pair(libc::SOCK_SEQPACKET)).collect())
    }

    fn publisher(shared: &Pairs, _: &Setup) -> Sending {
        Sending(shared.0.iter().map(|pair| own(&pair[0])).collect())
    }

    fn subscriber(shared: &Pairs, _: &Setup, index: usize) -> Receiving {
        Receiving(own(&shared.0[index][1]))
    }
}

fn pair(kind: i32) -> [OwnedFd; 2] {
    let mut ends = [0; 2];
    // SAFETY: `ends` is room for two descriptors, which are new and ours.
    unsafe {
        let made = libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr());
        assert!(made == 0, "socketpair: {}", std::io::Error::last_os_error());
        ends.map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

fn pipe() -> [OwnedFd; 2] {
    let mut ends = [0; 2];
    // SAFETY: `ends` is room for two descriptors, which are new and ours.
    unsafe {
        let made = libc::pipe(ends.as_mut_ptr());
        assert!(made == 0, "pipe: {}", std::io::Error::last_os_error());
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
