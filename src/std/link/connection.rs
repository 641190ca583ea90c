//! One connection: a socket, and the memory beside it if there is one. What comes over the socket waits here until it is
//! asked for, and what could not be sent until it can be.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown};

use super::Ending;
use super::reactor::Registration;
use super::region::{Bell, Region};
use super::wire::{self, Bye, Fault, HEADER, Header, Kind};
use crate::core::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::std::fork::UnsharedFile;
use crate::std::futex;

/// How much is read at a time.
const CHUNK: usize = 64 << 10;
/// What a message takes beside its bytes.
const OVERHEAD: usize = 64;

/// A message that came over the socket.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) flags: u8,
    pub(super) bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnsharedFile,
    pub(super) region: Option<Arc<Region>>,
    /// In the place of the region's, where there is none: by which this end waits for messages, and for room.
    bells: [Bell; 2],
    reader: Mutex<Reader>,
    writer: Mutex<Writer>,
    /// The last sequence that the peer has acknowledged over the socket. Written by whoever reads the socket (Relaxed: it is
    /// looked at after a bell).
    acked: AtomicU64,
    registration: Registration,
    /// Whether something was read, but a message, since this was asked. Written with `reader` locked (Relaxed: it is read by
    /// whoever has read the socket).
    stirred: AtomicBool,
    /// Whether nothing more is to be sent. Set once by whoever ends it (Relaxed: what is sent meanwhile is kept as all is).
    has_ended: AtomicBool,
    /// The longest message that the peer takes.
    pub(super) max_message: usize,
    /// How many bytes a ring has, or what stands for it in the socket: the window in bytes.
    pub(super) size: usize,
}

/// A frame of the socket.
pub(super) type Frame = (Header, Vec<u8>);

/// What is read of the socket.
#[derive(Debug)]
pub(super) struct Reader {
    /// A frame's beginning: its header, and what there is of the body.
    header: Vec<u8>,
    body: Option<Frame>,
    chunk: Vec<u8>,
    inbox: VecDeque<Parcel>,
    inbox_bytes: usize,
    max_message: usize,
    /// Whether nothing is read until some of the inbox is taken.
    paused: bool,
    /// How the socket ended.
    end: Option<Ending>,
}

impl Reader {
    /// For messages of up to so many bytes.
    pub(super) fn new(max_message: usize) -> Self {
        Reader {
            header: Vec::with_capacity(HEADER),
            body: None,
            chunk: Vec::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            max_message,
            paused: false,
            end: None,
        }
    }

    fn is_full(&self) -> bool {
        self.inbox_bytes > self.max_message + CHUNK
    }

    /// Takes the next bytes of the stream up to the end of a frame; returns how many, and the frame if it is whole.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Frame>), Fault> {
        let mut taken = 0;
        if self.body.is_none() {
            taken = bytes.len().min(HEADER - self.header.len());
            self.header.extend_from_slice(&bytes[..taken]);
            let Some(header) = self.header.first_chunk() else { return Ok((taken, None)) };
            self.body = Some((Header::from_bytes(header, self.max_message)?, Vec::new()));
            self.header.clear();
        }
        if let Some((header, body)) = &mut self.body {
            let more = (header.len - body.len()).min(bytes.len() - taken);
            // Grows with what comes, not with what is promised.
            body.extend_from_slice(&bytes[taken..taken + more]);
            taken += more;
            if body.len() == header.len {
                return Ok((taken, self.body.take()));
            }
        }
        Ok((taken, None))
    }
}

/// What is yet to be written to the socket.
#[derive(Debug, Default)]
struct Writer {
    queue: VecDeque<u8>,
    /// An acknowledgement that follows the queue: the last one alone.
    ack: Option<u64>,
    /// A frame that wakes follows the queue.
    wake: bool,
    /// Whether the socket takes no more.
    blocked: bool,
    /// Whether a goodbye follows all that, and the end.
    bye: bool,
}

impl Connection {
    pub(super) fn new(
        socket: UnsharedFile,
        region: Option<Arc<Region>>,
        reader: Reader,
        max_message: usize,
        size: usize,
    ) -> Self {
        Connection {
            socket,
            region,
            bells: [Bell::new(), Bell::new()],
            reader: Mutex::new(reader),
            writer: Mutex::default(),
            acked: AtomicU64::new(0),
            registration: Registration::new(),
            stirred: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            max_message,
            size,
        }
    }

    /// Whether nothing more is to be sent.
    #[inline(always)]
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    pub(super) fn registration(&self) -> &Registration {
        &self.registration
    }

    /// By what this end waits: first for messages, second for room.
    pub(super) fn own_bells(&self) -> [&Bell; 2] {
        match &self.region {
            Some(region) => region.bells(region.side()),
            None => [&self.bells[0], &self.bells[1]],
        }
    }

    /// Whether whoever waits on this end has to run a barrier.
    pub(super) fn peer_elides(&self) -> bool {
        self.region.as_ref().is_some_and(|region| region.peers().elided.0.load(Ordering::Relaxed) != 0)
    }

    /// Wakes whoever waits on this end, in whichever process that is.
    pub(super) fn ring_own(&self) {
        for bell in self.own_bells() {
            bell.event.announce();
            futex::wake_all(bell.event.word());
        }
    }

    /// The last sequence that the peer has acknowledged, as it says.
    pub(super) fn acked(&self) -> u64 {
        match &self.region {
            // Relaxed: what it frees is told by `head`, and is looked at by whoever takes it.
            Some(region) => region.peers().acked.load(Ordering::Relaxed),
            None => self.acked.load(Ordering::Relaxed),
        }
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what there is, as much as the inbox takes, or, of a peer that has hung up, all: what is left of it is in the socket's
    /// own buffer. Says whether anything came that somebody may wait for.
    ///
    /// # Errors
    ///
    /// How the socket has ended. What came before is in the inbox.
    pub(super) fn pump(&self, has_hung_up: bool) -> Result<bool, Ending> {
        let mut reader = self.reader();
        let mut news = false;
        loop {
            if let Some(end) = reader.end {
                return if news { Ok(true) } else { Err(end) };
            }
            if reader.is_full() && !has_hung_up {
                if !reader.paused {
                    reader.paused = true;
                    self.registration.wants(Some(false), None, self.socket.as_fd());
                }
                return Ok(news);
            }
            let mut chunk = std::mem::take(&mut reader.chunk);
            chunk.resize(CHUNK, 0);
            let outcome = match net::recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => Err(Ending::Lost),
                Ok((len, _)) => self.take_in(&mut reader, &chunk[..len]).map(Some),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => Ok(Some(false)),
                Err(_) => Err(Ending::Lost),
            };
            reader.chunk = chunk;
            match outcome {
                Ok(Some(any)) => news |= any,
                Ok(None) => return Ok(news),
                Err(end) => reader.end = Some(end),
            }
        }
    }

    /// Takes what was read of the socket before there was a connection. Whatever end that has is found by whoever reads on.
    pub(super) fn take_in_first(&self, bytes: &[u8]) {
        let mut reader = self.reader();
        reader.end = self.take_in(&mut reader, bytes).err();
    }

    /// Whether something was read since the last call that others than whoever receives may wait for.
    pub(super) fn take_stirred(&self) -> bool {
        self.stirred.load(Ordering::Relaxed) && self.stirred.swap(false, Ordering::Relaxed)
    }

    /// Sorts what was read; returns whether anybody who waits has to look.
    fn take_in(&self, reader: &mut Reader, mut bytes: &[u8]) -> Result<bool, Ending> {
        let mut any = false;
        while !bytes.is_empty() {
            let (taken, frame) = reader.feed(bytes)?;
            bytes = &bytes[taken..];
            let Some((header, body)) = frame else { continue };
            any = true;
            match header.kind {
                Kind::Message => {
                    reader.inbox_bytes += body.len() + OVERHEAD;
                    reader.inbox.push_back(Parcel { flags: header.flags, bytes: body });
                }
                Kind::Ack => {
                    self.acked.store(wire::acked(&body)?, Ordering::Relaxed);
                    self.stirred.store(true, Ordering::Relaxed);
                }
                Kind::Wake => self.stirred.store(true, Ordering::Relaxed),
                Kind::Bye => {
                    return Err(match wire::bye(&body)? {
                        Bye::Closed => Ending::ByPeer,
                        Bye::Fault => Ending::Blamed,
                        Bye::Replaced => Ending::Replaced,
                    });
                }
                Kind::Hello | Kind::Welcome | Kind::Refused | Kind::Ready => return Err(Fault::Turn.into()),
            }
        }
        Ok(any)
    }

    /// The next message that came over the socket, if it is there.
    pub(super) fn next_parcel(&self) -> Option<Parcel> {
        let mut reader = self.reader();
        let parcel = reader.inbox.pop_front()?;
        reader.inbox_bytes -= parcel.bytes.len() + OVERHEAD;
        if reader.paused && !reader.is_full() {
            reader.paused = false;
            self.registration.wants(Some(true), None, self.socket.as_fd());
        }
        Some(parcel)
    }

    /// Sends a message, or keeps it to be sent.
    pub(super) fn send_message(&self, flags: u8, bytes: &[u8]) {
        let header = Header { flags, ..Header::new(Kind::Message, bytes.len()) };
        let mut writer = self.writer();
        writer.queue.extend(header.to_bytes());
        writer.queue.extend(bytes);
        self.flush_locked(&mut writer);
    }

    /// Acknowledges over the socket.
    pub(super) fn send_ack(&self, sequence: u64) {
        let mut writer = self.writer();
        writer.ack = Some(sequence);
        self.flush_locked(&mut writer);
    }

    /// Wakes a peer that sleeps on the socket.
    pub(super) fn send_wake(&self) {
        let mut writer = self.writer();
        writer.wake = true;
        self.flush_locked(&mut writer);
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&self) {
        self.flush_locked(&mut self.writer());
    }

    /// A socket that fails is shut down: whoever reads it finds its end, and what was sent is kept until it is acknowledged.
    fn flush_locked(&self, writer: &mut Writer) {
        loop {
            // A frame's end is the only place for what has no place of its own.
            if writer.queue.is_empty() {
                if let Some(sequence) = writer.ack.take() {
                    writer.queue.extend(wire::frame(Kind::Ack, &sequence.to_le_bytes()));
                } else if std::mem::take(&mut writer.wake) {
                    writer.queue.extend(wire::frame(Kind::Wake, &[]));
                } else if std::mem::take(&mut writer.bye) {
                    writer.queue.extend(wire::frame(Kind::Bye, &[Bye::Closed as u8]));
                }
            }
            let (bytes, _) = writer.queue.as_slices();
            if bytes.is_empty() {
                return self.set_blocked(writer, false);
            }
            match net::send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(writer.queue.drain(..sent)),
                Err(Errno::AGAIN) => return self.set_blocked(writer, true),
                Err(Errno::INTR) => {}
                Err(_) => {
                    *writer = Writer { blocked: writer.blocked, ..Writer::default() };
                    let _ = net::shutdown(&self.socket, Shutdown::Both);
                    return;
                }
            }
        }
    }

    fn set_blocked(&self, writer: &mut Writer, blocked: bool) {
        if writer.blocked != blocked {
            writer.blocked = blocked;
            self.registration.wants(None, Some(blocked), self.socket.as_fd());
        }
    }

    /// Has a goodbye sent behind all that waits to be sent.
    pub(super) fn say_goodbye(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        let mut writer = self.writer();
        writer.bye = true;
        self.flush_locked(&mut writer);
    }

    /// Sends what waits, as far as the socket takes it; returns whether nothing waits any more, because all went or none ever will.
    pub(super) fn flush_all(&self) -> bool {
        let mut writer = self.writer();
        self.flush_locked(&mut writer);
        writer.queue.is_empty()
    }

    /// Says goodbye, if there is anything to say and the socket takes it, and hangs up. What the peer has sent can still be read.
    pub(super) fn hang_up(&self, bye: Option<Bye>) {
        self.has_ended.store(true, Ordering::Relaxed);
        let mut writer = self.writer();
        if let Some(bye) = bye {
            self.flush_locked(&mut writer);
            if writer.queue.is_empty() {
                let bye = wire::frame(Kind::Bye, &[bye as u8]);
                let _ = net::send(&self.socket, &bye, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            }
        }
        let _ = net::shutdown(&self.socket, Shutdown::Both);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
