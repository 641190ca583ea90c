//! How two ends agree on a connection: the client greets, the server answers and hands over the memory, and the client says
//! whether it can use it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    self, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::connection::{Connection, Reader};
use super::options::{MAX_SIZE, MIN_SIZE, Options};
use super::region::{Files, Region};
use super::shared::Shared;
use super::wire::{self, Fault, Hello, Kind, Refusal};
use super::{Ending, Error, Transport};
use crate::std::futex::Deadline;

/// What this end has said of itself, and after how many connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting {
    pub(super) hello: Hello,
    pub(super) connections: u64,
}

/// A connection that both ends agree on.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) connection: Arc<Connection>,
    /// What the other end has said of itself.
    pub(super) hello: Hello,
    pub(super) greeting: Greeting,
    /// Why there is no shared memory, if there is none.
    pub(super) why_socket: Option<String>,
}

/// A socket on which a handshake is under way.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) socket: OwnedFd,
    reader: Reader,
    /// Read behind a frame's end.
    rest: Vec<u8>,
    files: Vec<OwnedFd>,
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(super) enum Broken {
    Fault(Fault),
    System(Errno),
    Ended(Ending),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Broken::Fault(fault)
    }
}

impl From<Errno> for Broken {
    fn from(errno: Errno) -> Self {
        Broken::System(errno)
    }
}

impl From<Ending> for Broken {
    fn from(ending: Ending) -> Self {
        Broken::Ended(ending)
    }
}

impl Broken {
    pub(super) fn at(self, address: &str) -> Error {
        match self {
            Broken::Fault(fault) => Error::Handshake { address: address.into(), fault },
            Broken::System(errno) => {
                Error::System { action: "shake hands with the peer at", address: address.into(), source: errno.into() }
            }
            Broken::Ended(ending) => ending.into(),
        }
    }
}

impl Talk {
    pub(super) fn new(socket: OwnedFd) -> Self {
        // No messages yet: a stranger takes no more memory than a greeting has.
        Talk { socket, reader: Reader::new(0), rest: Vec::new(), files: Vec::new() }
    }

    /// The next frame, if it is there.
    pub(super) fn try_read(&mut self) -> Result<Option<(Kind, Vec<u8>)>, Broken> {
        loop {
            let rest = std::mem::take(&mut self.rest);
            let (taken, frame) = self.reader.feed(&rest)?;
            self.rest = rest[taken..].to_vec();
            if let Some((header, body)) = frame {
                return Ok(Some((header.kind, body)));
            }
            if !self.rest.is_empty() {
                continue;
            }
            let mut bytes = [0; 512];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            match net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
                Ok(message) => {
                    for message in ancillary.drain() {
                        if let RecvAncillaryMessage::ScmRights(files) = message {
                            self.files.extend(files);
                        }
                    }
                    // Descriptors that nobody asked for are closed, and are a reason to leave.
                    if self.files.len() > 2 {
                        return Err(Fault::Turn.into());
                    }
                    if message.bytes == 0 {
                        return Err(Errno::CONNRESET.into());
                    }
                    self.rest = bytes[..message.bytes].to_vec();
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next frame, waited for until `deadline`.
    pub(super) fn read(&mut self, deadline: Deadline) -> Result<(Kind, Vec<u8>), Broken> {
        loop {
            if let Some(frame) = self.try_read()? {
                return Ok(frame);
            }
            if deadline.has_passed() {
                return Err(Errno::TIMEDOUT.into());
            }
            wait_for_input(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(deadline))?;
        }
    }

    /// Sends a frame that the socket's buffer has room for, as it has for each of a handshake.
    pub(super) fn write(&self, kind: Kind, body: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), Broken> {
        let frame = wire::frame(kind, body);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(files));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match net::sendmsg(&self.socket, &[IoSlice::new(&frame)], &mut ancillary, flags) {
                Ok(sent) if sent == frame.len() => return Ok(()),
                Ok(_) => return Err(Errno::AGAIN.into()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The connection, once both ends agree.
    fn connect(self, region: Option<Region>, hello: &Hello, options: &Options) -> Connection {
        let size = region.as_ref().map_or(options.size, Region::ring_len);
        let max_message = hello.max_message as usize;
        let reader = Reader::new(options.max_message);
        let connection = Connection::new(self.socket, region.map(Arc::new), reader, max_message, size);
        // A client may go on right behind its READY.
        connection.take_in_first(&self.rest);
        connection
    }
}

/// Sleeps until one of them has something, or until `deadline`.
pub(super) fn wait_for_input(sockets: &mut [PollFd<'_>], deadline: Option<Deadline>) -> Result<(), Errno> {
    match poll(sockets, deadline.map(Deadline::left).as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Connects, and shakes hands as a client.
pub(super) fn connect(shared: &Arc<Shared>) -> Result<Greeted, Error> {
    let socket = shared.address.connect(&shared.options.allow, shared.options.handshake)?;
    greet(shared, socket)
}

/// Shakes hands as a client.
pub(super) fn greet(shared: &Arc<Shared>, socket: OwnedFd) -> Result<Greeted, Error> {
    let address = shared.address.to_string();
    let deadline = Deadline::after(shared.options.handshake);
    let greeting = shared.greeting()?;
    let mut talk = Talk::new(socket);
    let mut answer = || {
        talk.write(Kind::Hello, &greeting.hello.to_bytes(), &[])?;
        talk.read(deadline)
    };
    let hello = match answer().map_err(|broken| broken.at(&address))? {
        (Kind::Welcome, body) => Hello::from_bytes(&body),
        (Kind::Refused, body) => match Refusal::from_bytes(&body) {
            Ok(refusal) => return Err(Error::Refused { address, refusal }),
            Err(fault) => Err(fault),
        },
        _ => Err(Fault::Turn),
    };
    let finish = |mut talk: Talk| {
        let hello = hello?;
        let (region, why_socket) = open(&mut talk, &hello, &shared.options)?;
        talk.write(Kind::Ready, &[u8::from(region.is_some())], &[])?;
        let connection = Arc::new(talk.connect(region, &hello, &shared.options));
        Ok(Greeted { connection, hello, greeting, why_socket })
    };
    finish(talk).map_err(|broken: Broken| broken.at(&address))
}

/// Opens the memory that the server has handed over, if it has; or says why there is none.
fn open(talk: &mut Talk, hello: &Hello, options: &Options) -> Result<(Option<Region>, Option<String>), Fault> {
    let mut files = std::mem::take(&mut talk.files).into_iter();
    match (files.next(), files.next()) {
        (None, None) if options.transport == Transport::Socket => Ok((None, None)),
        (None, None) if hello.ring == 0 => Ok((None, Some("the server offers no shared memory".into()))),
        // The kernel leaves out what there are no descriptors for.
        (_, None) if hello.ring > 0 => Ok((None, Some("there are no descriptors left for the shared memory".into()))),
        (Some(down), Some(up)) if (MIN_SIZE..=MAX_SIZE).contains(&(hello.ring as usize)) => {
            match Region::open(hello.ring as usize, &Files { down, up })? {
                Ok(region) => Ok((Some(region), None)),
                Err(errno) => Ok((None, Some(format!("the shared memory cannot be mapped: {errno}")))),
            }
        }
        _ => Err(Fault::Offer),
    }
}

/// A server's answer that is not confirmed yet.
#[derive(Debug)]
pub(super) struct Offer {
    region: Option<Region>,
    why_socket: Option<String>,
    hello: Hello,
    greeting: Greeting,
}

/// Answers as a server to a client that has said `hello`.
pub(super) fn answer(talk: &Talk, shared: &Arc<Shared>, hello: Hello) -> Result<Offer, Broken> {
    let mut greeting = shared.greeting()?;
    let wishes = greeting.hello.ring.min(hello.ring) as usize;
    let (made, why_socket) = match (greeting.hello.ring, hello.ring) {
        (0, _) => (None, None),
        (_, 0) => (None, Some("the client wants no shared memory".into())),
        _ if !(MIN_SIZE..=MAX_SIZE).contains(&wishes) => return Err(Fault::Offer.into()),
        _ => match Region::create(wishes.next_multiple_of(rustix::param::page_size()), hello.maps_writable) {
            Ok(made) => (Some(made), None),
            Err(errno) => (None, Some(format!("there is no shared memory to be had: {errno}"))),
        },
    };
    greeting.hello.ring = made.as_ref().map_or(0, |(region, _)| region.ring_len() as u32);
    let welcome = greeting.hello.to_bytes();
    match &made {
        Some((_, files)) => talk.write(Kind::Welcome, &welcome, &[files.down.as_fd(), files.up.as_fd()])?,
        None => talk.write(Kind::Welcome, &welcome, &[])?,
    }
    Ok(Offer { region: made.map(|(region, _)| region), why_socket, hello, greeting })
}

impl Offer {
    /// The client has said whether it can use the memory.
    pub(super) fn confirm(self, talk: Talk, uses_memory: bool, options: &Options) -> Result<Greeted, Broken> {
        if uses_memory && self.region.is_none() {
            return Err(Fault::Turn.into());
        }
        let why_socket = match &self.region {
            Some(_) if !uses_memory => Some("the client cannot map the shared memory".into()),
            _ => self.why_socket,
        };
        let region = self.region.filter(|_| uses_memory);
        let connection = Arc::new(talk.connect(region, &self.hello, options));
        Ok(Greeted { connection, hello: self.hello, greeting: self.greeting, why_socket })
    }
}
