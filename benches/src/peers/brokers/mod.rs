//! Servers that take events over TCP, each spoken to in its own protocol over one connection, from blocks of events that were
//! made before: so that what is measured is the server.
//!
//! A server is a program of its own, or a participant of this one. Whoever misses one finds the package's name in the report.

pub mod conduit;
pub mod mosquitto;
pub mod nats;
mod program;
pub mod raw;
pub mod redis;

pub use program::{Directory, Program};

use crate::stage::Stage;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// Nothing is waited for longer than this: who answers later has failed.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// About how much is written at a time.
const BLOCK: usize = 64 << 10;

/// What a server and its client are to do.
#[derive(Clone)]
pub struct Job {
    /// Bytes of an event.
    pub len: usize,
    pub ask: Ask,
    /// The topic's name, or whatever comes closest.
    pub topic: &'static str,
    /// Unique to the cell: for names of which the machine has one set.
    pub name: String,
    /// Made for the cell, and removed after it.
    pub directory: PathBuf,
    pub cores: [usize; 2],
}

/// What the client wants to hear of each event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Nothing,
    Taken,
    /// That it is kept, as the server does it, and Conduit best.
    Durable,
    /// The same, but that Conduit syncs each second.
    Kept,
}

impl Ask {
    pub fn keeps(self) -> bool {
        matches!(self, Ask::Durable | Ask::Kept)
    }
}

pub trait Broker {
    type Client: Client;

    /// Whether a participant leaves in [`stage`](place) when it was done with everything, and what that took.
    const SETTLES: bool = false;

    /// Starts the server as a program. `None` if it is a participant, which [serves](Broker::serve).
    fn start(_: &Job) -> Result<Option<Program>, String> {
        Ok(None)
    }

    /// Leaves its port and its process number on the stage, meets the client there, and serves it.
    fn serve(_: &Stage, _: &Job) {
        unreachable!("it is a program")
    }

    fn connect(port: u16, job: &Job) -> Self::Client;
}

pub trait Client {
    /// Sends so many events in as few writes as their blocks allow.
    fn post(&mut self, events: usize);

    /// How many events a block has.
    fn block(&self) -> usize;

    /// Waits for answers to events, about in the order of the events; returns to how many more.
    fn answered(&mut self) -> usize;

    /// Waits until the server says that it has taken all there was before.
    fn settle(&mut self);

    /// How many events had to be sent again, as the server had no room for them then.
    fn sent_again(&self) -> u64 {
        0
    }
}

/// Which of the stage's values is what.
pub mod place {
    pub const PORT: usize = 0;
    pub const PROCESS: usize = 1;
    /// How many events were sent; there before the stage is stopped.
    pub const SENT: usize = 2;
    /// When the last event was done with, in ticks, and the server's processor time until then, in nanoseconds: that first.
    pub const CPU: usize = 3;
    pub const END: usize = 4;
    /// From here on, the client's figures.
    pub const FIGURES: usize = 8;
}

/// Events of one length, one behind the other.
pub struct Block {
    pub bytes: Vec<u8>,
    each: usize,
}

impl Block {
    /// As many events as a write should have, each made of its number. All have to be of one length.
    pub fn new(mut event: impl FnMut(usize) -> Vec<u8>) -> Self {
        let mut bytes = event(0);
        let each = bytes.len();
        for number in 1..BLOCK / each {
            bytes.extend(event(number));
        }
        let events = (BLOCK / each).max(1);
        assert_eq!(bytes.len(), each * events, "all have one length");
        Block { bytes, each }
    }

    pub fn events(&self) -> usize {
        self.bytes.len() / self.each
    }

    /// The bytes of these events.
    pub fn of(&self, events: Range<usize>) -> &[u8] {
        &self.bytes[events.start * self.each..events.end * self.each]
    }

    /// Calls `send` with the bytes of events of this block until there were so many.
    pub fn in_pieces(&self, mut events: usize, mut send: impl FnMut(&[u8])) {
        while events > 0 {
            let now = events.min(self.events());
            send(self.of(0..now));
            events -= now;
        }
    }
}

/// A payload of this length that no protocol takes for something else.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + (at % 26) as u8).collect()
}

/// One connection, and what came back on it and was not understood yet.
pub struct Wire {
    stream: TcpStream,
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Wire {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection to the server");
        Self::new(stream)
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a limit");
        Wire { stream, bytes: vec![0; 256 << 10].into(), from: 0, to: 0 }
    }

    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Reads once. Then gives all that is there to `take`, again and again until it returns `None`: it returns how long the
    /// first answer is, once all of it is there. `false` if the other side has closed the connection.
    pub fn read(&mut self, mut take: impl FnMut(&[u8]) -> Option<usize>) -> bool {
        if self.from > 0 {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        assert!(self.to < self.bytes.len(), "an answer of such a length was not expected");
        let read = self.stream.read(&mut self.bytes[self.to..]).expect("received in time");
        self.to += read;
        while let Some(used) = take(&self.bytes[self.from..self.to]) {
            self.from += used;
        }
        read > 0
    }

    /// Reads until `done` does not wait for more. What it is given is all that is there, and what it returns is as in
    /// [`read`](Wire::read).
    fn until<T>(&mut self, state: &mut T, take: impl Fn(&mut T, &[u8]) -> Option<usize>, done: impl Fn(&T) -> bool) {
        while !done(state) {
            let is_open = self.read(|bytes| take(state, bytes));
            assert!(is_open || done(state), "the server has closed the connection");
        }
    }
}

/// The first line, without its end, and how long it is with it.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((&bytes[..end], end + 2))
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The processor time of a process so far, all of its threads and in the kernel too, in nanoseconds.
pub fn cpu_of(process: u64) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write to what they are given, which lives.
    unsafe {
        let mut clock = 0;
        let found = libc::clock_getcpuclockid(process as libc::pid_t, &mut clock);
        assert_eq!(found, 0, "the server is gone");
        assert_eq!(libc::clock_gettime(clock, &mut time), 0, "the server is gone");
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
