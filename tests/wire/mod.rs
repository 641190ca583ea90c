//! A client of the wire, byte for byte: it does what a test says, also what no client should.
#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use conduit::ack::{self, Range, Status};
use conduit::engine::{Engine, EngineOptions};
use conduit::frame::{self, Decoded, Event, Flags, Header, Hello, Kind, Priority, Welcome};
use conduit::net::{Server, ServerOptions};

use crate::support::{Domain, PATIENCE};

/// A server at free ports, in front of an engine of a domain of its own.
pub fn server(domain: &Domain, options: impl FnOnce(ServerOptions) -> ServerOptions) -> Server {
    server_with(Engine::options().domain(domain.name()), options)
}

pub fn server_with(engine: EngineOptions, options: impl FnOnce(ServerOptions) -> ServerOptions) -> Server {
    options(Server::options().tcp("127.0.0.1:0").udp("127.0.0.1:0")).start(engine.start().unwrap()).unwrap()
}

/// An event that asks what became of it.
pub fn event<'a>(topic: &'a str, sequence: u64, priority: Priority, payload: &'a [u8]) -> Event<'a> {
    Event { flags: Flags::ACK_REQUESTED, topic: topic.as_bytes(), sequence, priority, payload, ..Event::default() }
}

pub fn encoded(event: &Event<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 300 + event.payload.len()];
    let len = event.encode(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

pub fn hello(producer: [u8; 16], window: u32, token: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let len = Hello { version: 1, window, producer, token }.encode(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

pub struct Wire {
    pub stream: TcpStream,
    bytes: Vec<u8>,
    /// The latest answer to each sequence, and how many there were.
    pub answers: BTreeMap<u64, (Range, u32)>,
    pub welcome: Option<Welcome>,
    pub pongs: u32,
    /// Answers to no sequence: what was wrong, and at which byte of the stream.
    pub faults: Vec<(Status, u64)>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire { stream, bytes: Vec::new(), answers: BTreeMap::new(), welcome: None, pongs: 0, faults: Vec::new() }
    }

    /// Connected, and introduced as this producer.
    pub fn introduced(address: SocketAddr, producer: [u8; 16]) -> Self {
        let mut wire = Wire::connect(address);
        wire.send(&hello(producer, 0, b""));
        wire.until(|wire| wire.welcome.is_some());
        wire
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn ping(&mut self) {
        let before = self.pongs;
        self.send(&Header::new(Kind::Ping).encode());
        self.until(|wire| wire.pongs > before);
    }

    /// Reads until `done`; panics if the server closes the connection before, or is silent for too long.
    pub fn until(&mut self, mut done: impl FnMut(&Wire) -> bool) {
        while !done(self) {
            assert!(self.read(), "the server closed the connection: {:?}", self.faults);
        }
    }

    /// Reads until the server closes the connection.
    pub fn until_closed(&mut self) {
        while self.read() {}
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0; 1 << 16];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
            Err(error) => panic!("nothing came: {error}"),
        }
        let bytes = std::mem::take(&mut self.bytes);
        let mut at = 0;
        while let Decoded::Frame { header, body, len } = frame::decode(&bytes[at..], frame::MAX_LEN).unwrap() {
            at += len;
            match header.kind {
                Kind::Welcome => self.welcome = Some(header.welcome(body).unwrap()),
                Kind::Pong => self.pongs += 1,
                Kind::Ack => ack::decode(&header, body).unwrap().for_each(|range| self.take(range)),
                other => panic!("no server sends {other:?}"),
            }
        }
        self.bytes = bytes[at..].to_vec();
        true
    }

    fn take(&mut self, range: Range) {
        if range.lane == 255 {
            self.faults.push((range.status, range.first()));
            return;
        }
        for sequence in range.first()..=range.last() {
            let answer = self.answers.entry(sequence).or_insert((range, 0));
            *answer = (range, answer.1 + 1);
        }
    }

    /// How many sequences have this as their latest answer.
    pub fn count(&self, status: Status) -> usize {
        self.answers.values().filter(|(range, _)| range.status == status).count()
    }

    pub fn status(&self, sequence: u64) -> Option<Status> {
        self.answers.get(&sequence).map(|(range, _)| range.status)
    }
}

pub const SHORTLY: Duration = Duration::from_secs(1);
