//! A link's end against a peer that does whatever the fuzzer says, without a thread: what the fuzz target and the tests share.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{self, AddressFamily, SendFlags, SocketFlags, SocketType};

use super::Transport;
use super::connection::{Connection, Reader};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::region::{Half, Region, Ring};
use super::wire::{HEADER, Header, Hello, Kind};
use crate::core::ack::Policy;
use crate::core::atomic::Ordering;
use crate::core::records::Producer;
use crate::std::fork::UnsharedFile;

const RING: usize = 4096;
const MAX_MESSAGE: usize = 10_000;

/// What the peer has.
struct Peer {
    socket: OwnedFd,
    region: Arc<Region>,
    producer: Producer<Ring>,
}

/// A server's end and its peer.
fn ends() -> (Outgoing, Incoming, Peer) {
    let (half, files) = Half::create(RING).expect("memory");
    let (theirs, up) = Region::open(RING, &files).expect("as offered");
    let region = half.complete(up.as_fd()).expect("as offered");
    let theirs = Arc::new(theirs);
    // SAFETY: once for each.
    let (producer, _) = unsafe { theirs.ends() };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, socket) = net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("sockets");
    let region = Arc::new(region);
    // SAFETY: once for each.
    let (to, from) = unsafe { region.ends() };
    let reader = Reader::new(MAX_MESSAGE);
    let connection =
        Arc::new(Connection::new(UnsharedFile::new(ours), Some(region.clone()), reader, MAX_MESSAGE, RING));
    let hello = Hello { incarnation: [1; 16], first: 1, ..Hello::default() };
    let mut outgoing = Outgoing::new(Transport::SharedMemory, 1000);
    outgoing.resume(connection.clone(), Some((region, to)), &hello, [2; 16]).expect("nothing was sent");
    let mut incoming = Incoming::new(Policy::default(), MAX_MESSAGE);
    incoming.resume(connection, Some(from), &hello);
    (outgoing, incoming, Peer { socket, region: theirs, producer })
}

/// The next bytes as a number, or zeros.
fn word(bytes: &mut &[u8]) -> u64 {
    let mut word = [0; 8];
    let (now, rest) = bytes.split_at(bytes.len().min(8));
    word[..now.len()].copy_from_slice(now);
    *bytes = rest;
    u64::from_le_bytes(word)
}

/// Does what `bytes` say, and looks that whatever the peer writes, nothing is handed out that is too long, and no call leaves the
/// memory, panics, or goes on for ever.
pub fn scribble(mut bytes: &[u8]) {
    let (mut outgoing, mut incoming, mut peer) = ends();
    let mut buffer = Vec::new();
    while let Some((&what, rest)) = bytes.split_first() {
        bytes = rest;
        match what % 8 {
            0 => {
                let len = word(&mut bytes) as usize % 6000;
                if outgoing.send(&vec![what; len]).is_err_and(|refused| refused.ends()) {
                    break;
                }
            }
            1 => match incoming.next(&mut buffer) {
                Ok(len) => assert!(len.unwrap_or(0) <= MAX_MESSAGE && len.unwrap_or(0) <= buffer.len()),
                Err(_) => break,
            },
            2 => {
                let (at, value) = (word(&mut bytes) as usize, word(&mut bytes));
                let [waits, own] = peer.region.written();
                let at = at % (waits.len() + own.len());
                waits.get(at).unwrap_or_else(|| &own[at - waits.len()]).store(value, Ordering::Relaxed);
            }
            // The words that count, which chance hardly finds among so many.
            3 => {
                let page = rustix::param::page_size() / 8;
                let places = [0, 1, 8, page, page + 1, page + 2];
                let place = places[usize::from(what / 8) % places.len()];
                peer.region.written()[1][place].store(word(&mut bytes) % 2048, Ordering::Relaxed);
            }
            4 => {
                let len = (word(&mut bytes) as usize % 200).min(bytes.len());
                let _ = net::send(&peer.socket, &bytes[..len], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                bytes = &bytes[len..];
            }
            5 => {
                let _ = peer.producer.push(&vec![what; word(&mut bytes) as usize % 300]);
            }
            6 => {
                let len = word(&mut bytes) as usize % 500;
                let marked = what / 8 % 2;
                let header = Header { flags: marked | (what / 16 % 2 * 2), ..Header::new(Kind::Message, len) };
                let frame = [&header.to_bytes()[..], &vec![what; len]].concat();
                let _ = net::send(&peer.socket, &frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                if marked == 1 {
                    let _ = peer.producer.mark();
                }
            }
            _ => {
                incoming.acknowledge();
                if outgoing.look().is_err() {
                    break;
                }
            }
        }
    }
    let _ = incoming.suspend();
    let _ = outgoing.suspend();
}

/// Reads a stream of frames, at once and byte by byte: the same comes out.
pub fn frames(bytes: &[u8]) {
    let read = |step: usize| {
        let mut reader = Reader::new(MAX_MESSAGE);
        let mut came = Vec::new();
        for mut part in bytes.chunks(step.max(1)) {
            while !part.is_empty() {
                match reader.feed(part) {
                    Ok((taken, frame)) => {
                        assert!(taken > 0, "it would never end");
                        part = &part[taken..];
                        came.extend(frame.inspect(|(header, body)| assert_eq!(header.len, body.len())));
                    }
                    Err(fault) => return (came, Some(fault)),
                }
            }
        }
        (came, None)
    };
    let whole = read(bytes.len());
    assert_eq!(whole, read(1));
    assert_eq!(whole, read(HEADER + 1));
    let _ = Hello::from_bytes(bytes).map(|hello| assert_eq!(hello.to_bytes(), bytes));
}

/// Reads a message of calls: it is none, or what would have been written for what it says.
pub fn call(bytes: &[u8]) {
    super::calls::reads_as_written(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rounds::rounds;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(rounds(1000))]

        #[test]
        fn whatever_a_peer_writes_its_memory_is_all_it_can_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            scribble(&bytes);
        }

        #[test]
        fn a_message_of_calls_that_is_understood_is_the_one_that_would_have_been_written(
            kind in 0..8u8, bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            call(&bytes);
            call(&[&[1, kind, 0, 0, 0, 0, 0, 0][..], &bytes].concat());
        }

        #[test]
        fn a_stream_is_the_same_however_it_is_cut(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            frames(&bytes);
        }

        #[test]
        fn frames_are_read_as_they_were_written(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..5)) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| super::super::wire::frame(Kind::Message, body)).collect();
            let mut reader = Reader::new(MAX_MESSAGE);
            let (mut rest, mut read) = (&stream[..], Vec::new());
            while !rest.is_empty() {
                let (taken, frame) = reader.feed(rest).unwrap();
                rest = &rest[taken..];
                read.extend(frame.map(|(_, body)| body));
            }
            prop_assert_eq!(read, bodies);
        }
    }
}
