//! Events in datagrams: nothing waits, nothing is sent again.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::error::ClientError;
use super::options::found;
use super::outbox::Refused;
use super::packer::{LONGEST, Packer, Send};
use crate::dedup::ProducerId;
use crate::frame::{self, Event, Flags, Hello, legacy};
use crate::std::random;

/// Fits an Ethernet frame by IPv4 and by IPv6, with something to spare for tunnels.
const DATAGRAM: usize = 1400;
/// How many bytes are collected before they are sent by themselves.
const BATCH: usize = 256 << 10;
/// Sends of one system call.
const MOST_SENDS: usize = 64;

/// How a [`UdpSender`] is to be.
#[derive(Clone)]
pub struct UdpOptions {
    /// `None`: nobody.
    producer: Option<ProducerId>,
    anonymous: bool,
    token: Vec<u8>,
    first: u64,
    datagram: usize,
    older: bool,
}

impl std::fmt::Debug for UdpOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the token.
        f.debug_struct("UdpOptions").field("producer", &self.producer).field("datagram", &self.datagram).finish()
    }
}

impl Default for UdpOptions {
    fn default() -> Self {
        let token = Vec::new();
        UdpOptions { producer: None, anonymous: false, token, first: 1, datagram: DATAGRAM, older: false }
    }
}

impl UdpOptions {
    /// Who sends. By default a random id, which no other process has. The server leaves out what it has of this producer, also
    /// what the network brings twice.
    #[must_use]
    pub fn producer(self, id: ProducerId) -> Self {
        UdpOptions { producer: Some(id), anonymous: false, ..self }
    }

    /// Sends as nobody, and without sequences: what the network brings twice is taken twice.
    #[must_use]
    pub fn anonymous(self) -> Self {
        UdpOptions { anonymous: true, ..self }
    }

    /// What a server may ask for, up to 1024 bytes. It is in every datagram.
    #[must_use]
    pub fn token(self, token: impl Into<Vec<u8>>) -> Self {
        UdpOptions { token: token.into(), ..self }
    }

    /// The number of the first event, 1 by default. A producer that is used again has to go on behind what it sent: there is
    /// no answer that would say so.
    #[must_use]
    pub fn first(self, sequence: u64) -> Self {
        UdpOptions { first: sequence, ..self }
    }

    /// How long a datagram becomes that carries several events: 1400 bytes by default, up to 65,507. An event that is longer
    /// has a datagram of its own.
    #[must_use]
    pub fn datagram(self, bytes: usize) -> Self {
        UdpOptions { datagram: bytes, ..self }
    }

    /// Speaks the older frame, which has no producer, sequence, timestamp and encoding.
    #[must_use]
    pub fn older(self) -> Self {
        UdpOptions { older: true, ..self }
    }

    /// Looks the address up, and makes a socket. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`ClientError::InvalidOption`], [`ClientError::Address`], [`ClientError::Connect`], [`ClientError::System`].
    pub fn connect(self, addr: impl ToSocketAddrs) -> Result<UdpSender, ClientError> {
        let addresses = found(addr.to_socket_addrs().map(Iterator::collect))?;
        UdpSender::connect(self, &addresses)
    }
}

/// What was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UdpCounts {
    /// Events that were taken.
    pub events: u64,
    /// Datagrams that the system took.
    pub datagrams: u64,
    /// How often the other side's system said that nobody listens there. Each time at least a datagram was lost.
    pub unreachable: u64,
}

/// Sends events in datagrams, many at a time, and hears nothing of them. What is lost on the way is lost; what comes twice is
/// left out by the server, as long as it knows the producer.
///
/// ```no_run
/// use conduit::frame::Event;
/// use conduit::net::UdpSender;
///
/// let mut sender = UdpSender::options().connect("127.0.0.1:9000")?;
/// for reading in 0..1000u32 {
///     sender.send(&Event { topic: b"sensors/imu", payload: &reading.to_le_bytes(), ..Event::default() })?;
/// }
/// sender.flush()?;
/// # Ok::<(), conduit::net::ClientError>(())
/// ```
#[derive(Debug)]
pub struct UdpSender {
    socket: UdpSocket,
    addr: SocketAddr,
    packer: Packer,
    /// The number of the next event; 0 if they have none.
    next: u64,
    older: bool,
    /// Whether the system cuts a long send into datagrams by itself.
    segments: bool,
    counts: UdpCounts,
}

impl UdpSender {
    /// How it is to be; [`connect`](UdpOptions::connect) makes it.
    pub fn options() -> UdpOptions {
        UdpOptions::default()
    }

    fn connect(options: UdpOptions, addresses: &[SocketAddr]) -> Result<Self, ClientError> {
        let invalid = |option, reason: String| ClientError::InvalidOption { option, reason };
        if !(1..=LONGEST).contains(&options.datagram) {
            return Err(invalid("datagram", format!("{} bytes are not 1 to {LONGEST}", options.datagram)));
        }
        if options.first == 0 {
            return Err(invalid("first", "events are numbered from 1, not from 0".into()));
        }
        let mut opening = Vec::new();
        if !options.anonymous && !options.older {
            let producer = match options.producer {
                Some(id) => id,
                None => random::bytes()
                    .map_err(io::Error::from)
                    .map_err(ClientError::system("get random numbers for a producer id"))?,
            };
            let hello = Hello { version: frame::VERSION.into(), window: 0, producer, token: &options.token };
            opening.resize(frame::HEADER_LEN + 24 + options.token.len(), 0);
            hello.encode(&mut opening).map_err(|error| invalid("token", error.to_string()))?;
        }
        let mut failed = None;
        for &addr in addresses {
            let here: SocketAddr = if addr.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
            match UdpSocket::bind(here).and_then(|socket| socket.connect(addr).map(|()| socket)) {
                Ok(socket) => {
                    let next = if opening.is_empty() { 0 } else { options.first };
                    let packer = Packer::new(opening, options.datagram);
                    let counts = UdpCounts::default();
                    return Ok(UdpSender { socket, addr, packer, next, older: options.older, segments: true, counts });
                }
                Err(error) => failed = Some(ClientError::Connect { addr, source: Arc::new(error) }),
            }
        }
        Err(failed.unwrap_or_else(|| ClientError::Address(Arc::new(io::ErrorKind::NotFound.into()))))
    }

    /// Takes an event, whatever its flags and sequence say; returns the sequence that it has, or 0. It is sent with others, when
    /// there are enough of them, or by [`flush`](UdpSender::flush).
    ///
    /// # Errors
    ///
    /// [`ClientError::Event`] if this one is not taken; [`ClientError::System`] as of [`flush`](UdpSender::flush): it is taken,
    /// and tried again by the next call.
    pub fn send(&mut self, event: &Event<'_>) -> Result<u64, ClientError> {
        let sequence = self.next;
        if sequence == u64::MAX {
            return Err(Refused::Exhausted.into());
        }
        if self.older {
            let len = 7 + event.topic.len() + event.payload.len();
            let encode = |buffer: &mut [u8]| legacy::encode(event.priority, event.topic, event.payload, buffer);
            self.packer.add(len, encode)?;
        } else {
            let event = Event { flags: Flags::default(), sequence, ..*event };
            let len = frame::HEADER_LEN + event.topic.len() + event.payload.len();
            self.packer.add(len, |buffer| event.encode(buffer))?;
            self.next += u64::from(sequence > 0);
        }
        self.counts.events += 1;
        if self.packer.len() >= BATCH {
            self.flush()?;
        }
        Ok(sequence)
    }

    /// Sends what there is. Waits while the system has no room.
    ///
    /// # Errors
    ///
    /// [`ClientError::System`]: what was not sent stays, and is tried again by the next call.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        let mut unreachable = 0;
        while self.packer.len() > 0 {
            let sends = self.packer.sends(self.segments);
            let sends = &sends[..sends.len().min(MOST_SENDS)];
            match send_many(&self.socket, self.packer.bytes(), sends) {
                Ok(count) => {
                    self.counts.datagrams += sends[..count].iter().map(|send| send.datagrams as u64).sum::<u64>();
                    self.packer.sent(sends[..count].last().map_or(0, |send| send.end));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It tells of a datagram before; this one was not sent, and gets its try.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && unreachable < 3 => {
                    unreachable += 1;
                    self.counts.unreachable += 1;
                }
                // A device that cannot, or a kernel before 4.18.
                Err(_) if self.segments && sends.iter().any(|send| send.datagrams > 1) => self.segments = false,
                Err(error) => return Err(ClientError::system("send a datagram")(error)),
            }
        }
        // Of a machine that is near it is known by now.
        if self.socket.take_error().is_ok_and(|error| error.is_some()) {
            self.counts.unreachable += 1;
        }
        Ok(())
    }

    /// Where it sends to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What was sent so far.
    pub fn counts(&self) -> UdpCounts {
        self.counts
    }
}

impl Drop for UdpSender {
    fn drop(&mut self) {
        // Who wants to know calls it.
        let _ = self.flush();
    }
}

/// Room for a control message of two bytes, aligned as one has to be.
type Control = [u64; 4];

/// Sends these parts of `bytes`; returns how many. At least one, unless there is an error.
fn send_many(socket: &UdpSocket, bytes: &[u8], sends: &[Send]) -> io::Result<usize> {
    let mut parts: Vec<libc::iovec> = sends
        .iter()
        .map(|send| {
            let part = &bytes[send.start..send.end];
            libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
        })
        .collect();
    let mut controls: Vec<Control> = sends.iter().map(|send| segment_size(send.size as u16)).collect();
    let control_len = CONTROL_LEN;
    let mut messages: Vec<libc::mmsghdr> = Vec::with_capacity(sends.len());
    for ((send, part), control) in sends.iter().zip(&mut parts).zip(&mut controls) {
        // SAFETY: a C struct of integers and pointers, for which all zeros mean nothing.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        if send.datagrams > 1 {
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = control_len as _;
        }
        messages.push(message);
    }
    // SAFETY: each header points to one part and to a control message of the length that it says, which live until the end of
    // this function; the parts are only read.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as _, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

// SAFETY: computes with numbers.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE(2) } as usize;

/// The control message that has the system cut what is sent into datagrams of so many bytes.
fn segment_size(size: u16) -> Control {
    const { assert!(CONTROL_LEN <= size_of::<Control>()) };
    let mut control: Control = [0; 4];
    let header: *mut libc::cmsghdr = control.as_mut_ptr().cast();
    // SAFETY: there is room for a header and two bytes behind it, as was asserted, aligned for both; `CMSG_DATA` is the place
    // behind the header.
    unsafe {
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
    }
    control
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Decoded;

    /// Both ways of sending bring the same datagrams.
    #[test]
    fn the_system_cuts_a_send_into_datagrams_or_gets_them_one_by_one() {
        for segments in [true, false] {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut sender = UdpSender::options().datagram(500).connect(receiver.local_addr().unwrap()).unwrap();
            sender.segments = segments;
            for _ in 0..41 {
                sender.send(&Event { topic: b"t", payload: &[7; 100], ..Event::default() }).unwrap();
            }
            assert_eq!(sender.packer.sends(segments).len(), if segments { 1 } else { 14 });
            sender.flush().unwrap();
            let (mut sequences, mut buffer) = (Vec::new(), [0; 2000]);
            for _ in 0..14 {
                let len = receiver.recv(&mut buffer).unwrap();
                let mut rest = &buffer[..len];
                while let Ok(Decoded::Frame { header, len, .. }) = frame::decode(rest, 2000) {
                    sequences.extend(Some(header.sequence).filter(|sequence| *sequence > 0));
                    rest = &rest[len..];
                }
                assert!(rest.is_empty(), "whole frames");
            }
            assert!(sequences.into_iter().eq(1..=41));
            assert_eq!(sender.counts(), UdpCounts { events: 41, datagrams: 14, unreachable: 0 });
            if segments && !sender.segments {
                eprintln!("this system does not cut sends into datagrams");
            }
        }
    }
}
