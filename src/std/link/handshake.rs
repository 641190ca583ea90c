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
use super::region::{Files, Half, LOADS_READ_ONLY, Region, Unusable};
use super::shared::Shared;
use super::wire::{self, Fault, Hello, Kind, Refusal};
use super::{Ending, Error, Transport};
use crate::std::fork::UnsharedFile;
use crate::std::futex::Deadline;

/// Why two ends of which one alone can load words of memory that it cannot write share none.
const WIDTHS: &str = "the peer cannot read shared memory without being able to write it, as on processors of 32 bits";

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
    pub(super) socket: UnsharedFile,
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
        Talk { socket: UnsharedFile::new(socket), reader: Reader::new(0), rest: Vec::new(), files: Vec::new() }
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
        let (mut region, mut why_socket) = (None, None);
        match open(&mut talk, &hello, &shared.options)? {
            Ok((made, up)) => {
                talk.write(Kind::Ready, &[1], &[up.as_fd()])?;
                let (Kind::Ready, body) = talk.read(deadline)? else { return Err(Fault::Turn.into()) };
                match wire::ready(&body)? {
                    true => region = Some(made),
                    false => why_socket = Some("the server cannot map the shared memory".into()),
                }
            }
            Err(why) => {
                why_socket = why;
                talk.write(Kind::Ready, &[0], &[])?;
            }
        }
        let connection = Arc::new(talk.connect(region, &hello, &shared.options));
        Ok(Greeted { connection, hello, greeting, why_socket })
    };
    finish(talk).map_err(|broken: Broken| broken.at(&address))
}

/// Opens the memory that the server has handed over, if it has, and makes the client's part; or says why there is none, if that
/// is not as it was wished.
fn open(talk: &mut Talk, hello: &Hello, options: &Options) -> Result<Result<(Region, OwnedFd), Option<String>>, Fault> {
    let mut files = std::mem::take(&mut talk.files).into_iter();
    match (files.next(), files.next()) {
        (None, None) if options.transport == Transport::Socket => Ok(Err(None)),
        _ if options.transport == Transport::Socket || hello.ring as usize > options.size => Err(Fault::Offer),
        (None, None) if hello.ring == 0 => Ok(Err(Some("the server offers no shared memory".into()))),
        // The kernel leaves out what there are no descriptors for.
        (_, None) if hello.ring > 0 => Ok(Err(Some("there are no descriptors left for the shared memory".into()))),
        _ if hello.maps_writable == LOADS_READ_ONLY => Ok(Err(Some(WIDTHS.into()))),
        (Some(down), Some(waits)) if (MIN_SIZE..=MAX_SIZE).contains(&(hello.ring as usize)) => {
            match Region::open(hello.ring as usize, &Files { down, waits }) {
                Ok(opened) => Ok(Ok(opened)),
                Err(Unusable::Wrong) => Err(Fault::Offer),
                Err(Unusable::System(errno)) => Ok(Err(Some(format!("the shared memory cannot be mapped: {errno}")))),
            }
        }
        _ => Err(Fault::Offer),
    }
}

/// A server's answer that is not confirmed yet.
#[derive(Debug)]
pub(super) struct Offer {
    half: Option<Half>,
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
        _ if hello.maps_writable == LOADS_READ_ONLY => (None, Some(WIDTHS.into())),
        _ if !(MIN_SIZE..=MAX_SIZE).contains(&wishes) => return Err(Fault::Offer.into()),
        _ => match Half::create(wishes.next_multiple_of(rustix::param::page_size())) {
            Ok(made) => (Some(made), None),
            Err(errno) => (None, Some(format!("there is no shared memory to be had: {errno}"))),
        },
    };
    greeting.hello.ring = made.as_ref().map_or(0, |(half, _)| half.ring_len() as u32);
    let welcome = greeting.hello.to_bytes();
    match &made {
        Some((_, files)) => talk.write(Kind::Welcome, &welcome, &[files.down.as_fd(), files.waits.as_fd()])?,
        None => talk.write(Kind::Welcome, &welcome, &[])?,
    }
    Ok(Offer { half: made.map(|(half, _)| half), why_socket, hello, greeting })
}

impl Offer {
    /// The client has said whether it can use the memory, and handed over its part.
    pub(super) fn confirm(self, mut talk: Talk, uses_memory: bool, options: &Options) -> Result<Greeted, Broken> {
        let files = std::mem::take(&mut talk.files);
        let (region, why_socket) = match (self.half, uses_memory, &files[..]) {
            (None, false, []) => (None, self.why_socket),
            (Some(_), false, []) => (None, Some("the client cannot use the shared memory".into())),
            // The kernel leaves out what there are no descriptors for.
            (Some(_), true, []) => (None, Some("there are no descriptors left for the shared memory".into())),
            (Some(half), true, [up]) => match half.complete(up.as_fd()) {
                Ok(region) => (Some(region), None),
                Err(Unusable::Wrong) => return Err(Fault::Offer.into()),
                Err(Unusable::System(errno)) => (None, Some(format!("the shared memory cannot be mapped: {errno}"))),
            },
            _ => return Err(Fault::Turn.into()),
        };
        if uses_memory {
            talk.write(Kind::Ready, &[u8::from(region.is_some())], &[])?;
        }
        let connection = Arc::new(talk.connect(region, &self.hello, options));
        Ok(Greeted { connection, hello: self.hello, greeting: self.greeting, why_socket })
    }
}
