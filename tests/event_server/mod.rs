//! A small event server over real sockets, and a proxy that breaks connections in front of any server.
#![allow(dead_code)] // Each test program uses a part of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range as Span;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use conduit::ack::{self, Range, Status};
use conduit::dedup::{ProducerId, Producers, Seen};
use conduit::frame::{self, Decoded, Dialect, Durability, Flags, Header, Kind, Welcome, legacy};

use crate::support::Noise;

/// What a server is like.
#[derive(Clone)]
pub struct Manners {
    pub deduplicates: bool,
    /// In per cent.
    pub throttles: u64,
    /// What is said instead of taking an event of the topic that begins with `refused`.
    pub refuses_with: Status,
    pub credit: Span<u32>,
    pub token: Vec<u8>,
    pub greets: bool,
    pub seed: u64,
}

impl Default for Manners {
    fn default() -> Self {
        Manners {
            deduplicates: true,
            throttles: 0,
            refuses_with: Status::Dropped,
            credit: 1024..1025,
            token: Vec::new(),
            greets: true,
            seed: 1,
        }
    }
}

/// An event that was taken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Taken {
    pub producer: ProducerId,
    pub sequence: u64,
    pub topic: String,
    pub payload: Vec<u8>,
}

/// A server on TCP and UDP, on a port of its own.
pub struct Server {
    pub addr: SocketAddr,
    pub connections: Arc<AtomicU64>,
    engine: Arc<Engine>,
    stop: Arc<AtomicBool>,
}

struct Engine {
    manners: Manners,
    producers: Mutex<Box<Producers<16>>>,
    taken: Mutex<Vec<Taken>>,
}

impl Server {
    pub fn start(manners: Manners) -> Self {
        // The port is free on UDP, too, at the first try or a later one.
        let (listener, datagrams) = (0..100)
            .find_map(|_| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let datagrams = UdpSocket::bind(listener.local_addr().unwrap()).ok()?;
                Some((listener, datagrams))
            })
            .unwrap();
        let addr = listener.local_addr().unwrap();
        let producers = Mutex::new(Box::new(Producers::new(manners.seed)));
        let engine = Arc::new(Engine { manners, producers, taken: Mutex::default() });
        let (connections, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (accepting, count, ended) = (engine.clone(), connections.clone(), stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let number = count.fetch_add(1, Ordering::Relaxed);
                let engine = accepting.clone();
                thread::spawn(move || engine.serve(stream.unwrap(), number));
            }
        });
        let (receiving, ended) = (engine.clone(), stop.clone());
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((len, _)) = datagrams.recv_from(&mut buffer) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                receiving.datagram(&buffer[..len]);
            }
        });
        Server { addr, connections, engine, stop }
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.engine.taken.lock().unwrap().clone()
    }

    /// Which payloads were taken more than once.
    pub fn twice(&self) -> Vec<Vec<u8>> {
        let mut counts = BTreeMap::new();
        for taken in self.taken() {
            *counts.entry((taken.producer, taken.payload)).or_insert(0) += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > 1).map(|((_, payload), _)| payload).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the two that wait.
        let _ = TcpStream::connect(self.addr);
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[], self.addr));
    }
}

impl Engine {
    fn take(&self, producer: &ProducerId, event: &frame::Event<'_>, noise: &mut Noise) -> Range {
        let (sequence, durable) = (event.sequence, event.flags.has(Flags::ACK_WHEN_DURABLE));
        let mut producers = self.producers.lock().unwrap();
        match producers.look(producer, sequence) {
            Seen::New => {}
            _ if !self.manners.deduplicates => {}
            Seen::Duplicate if durable => return Range::of(sequence, Status::Durable),
            Seen::Duplicate => return Range::of(sequence, Status::Duplicate),
            Seen::TooOld => return Range::of(sequence, Status::Expired),
        }
        if noise.below(100) < self.manners.throttles {
            let mut range = Range::of(sequence, Status::Throttled);
            range.retry_after_ms = noise.below(4) as u32;
            return range;
        }
        let Ok(topic) = event.topic() else { return Range::of(sequence, Status::BadTopic) };
        if topic.starts_with("refused") {
            return Range::of(sequence, self.manners.refuses_with);
        }
        producers.record(producer, sequence);
        let (producer, topic, payload) = (*producer, topic.into(), event.payload.to_vec());
        self.taken.lock().unwrap().push(Taken { producer, sequence, topic, payload });
        Range::of(sequence, Status::Accepted)
    }

    fn datagram(&self, mut datagram: &[u8]) {
        let (mut producer, mut noise) = ([0; 16], Noise::new(self.manners.seed));
        while let Some(first) = datagram.first() {
            if Dialect::of(*first) == Some(Dialect::Legacy) {
                datagram = &datagram[self.older(datagram).expect("datagrams hold whole frames")..];
                continue;
            }
            let Ok(Decoded::Frame { header, body, len }) = frame::decode(datagram, frame::DEFAULT_MAX_LEN) else {
                panic!("datagrams hold whole frames")
            };
            match header.kind {
                Kind::Hello => producer = header.hello(body).unwrap().producer,
                _ => drop(self.take(&producer, &header.event(body).unwrap(), &mut noise)),
            }
            datagram = &datagram[len..];
        }
    }

    /// Takes an older frame; returns its length, or `None` if it is not whole.
    fn older(&self, input: &[u8]) -> Option<usize> {
        let decoded = legacy::decode(input, frame::DEFAULT_MAX_LEN).unwrap();
        let legacy::Decoded::Frame { topic, payload, len, .. } = decoded else { return None };
        let (topic, payload) = (String::from_utf8(topic.to_vec()).unwrap(), payload.to_vec());
        self.taken.lock().unwrap().push(Taken { producer: [0; 16], sequence: 0, topic, payload });
        Some(len)
    }

    fn serve(&self, mut stream: TcpStream, number: u64) {
        let mut noise = Noise::new(self.manners.seed + number);
        let mut input = Vec::new();
        let mut answers: Vec<Range> = Vec::new();
        let (mut producer, mut welcomed) = ([0; 16], false);
        let mut buffer = [0; 1 << 16];
        loop {
            // Answers wait for company, but not for long.
            let wait = if answers.is_empty() { None } else { Some(Duration::from_millis(1)) };
            stream.set_read_timeout(wait).unwrap();
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => input.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            let (mut used, mut replies) = (0, Vec::new());
            while let Some(first) = input.get(used) {
                if Dialect::of(*first) == Some(Dialect::Legacy) {
                    let Some(len) = self.older(&input[used..]) else { break };
                    used += len;
                    continue;
                }
                let decoded = frame::decode(&input[used..], frame::DEFAULT_MAX_LEN).unwrap();
                let Decoded::Frame { header, body, len } = decoded else { break };
                used += len;
                match header.kind {
                    Kind::Hello if !self.manners.greets => {}
                    Kind::Hello => {
                        let hello = header.hello(body).unwrap();
                        if hello.token != self.manners.token {
                            say(&mut replies, &[Range::of(0, Status::Unauthorized)]);
                            let _ = stream.write_all(&replies);
                            return;
                        }
                        (producer, welcomed) = (hello.producer, true);
                        let welcome = Welcome {
                            session: number,
                            last_sequence: self.producers.lock().unwrap().newest(&producer),
                            max_len: 1 << 20,
                            credit: self.credit(&mut noise).max(1),
                            version: 1,
                            durability: Durability::Written,
                        };
                        let mut frame = [0; 64];
                        let len = welcome.encode(&mut frame).unwrap();
                        replies.extend(&frame[..len]);
                    }
                    Kind::Ping => replies.extend(Header::new(Kind::Pong).encode()),
                    _ => {
                        assert!(welcomed, "events come behind a greeting");
                        let event = header.event(body).unwrap();
                        let answer = self.take(&producer, &event, &mut noise);
                        if event.flags.has(Flags::ACK_REQUESTED) {
                            answers.push(answer);
                            if answer.status == Status::Accepted && event.flags.has(Flags::ACK_WHEN_DURABLE) {
                                answers.push(Range::of(event.sequence, Status::Durable));
                            }
                        }
                    }
                }
            }
            // Some are given now, in any order, and some later.
            let keep = if used == 0 { 0 } else { noise.below(answers.len() as u64 + 1) as usize };
            while answers.len() > keep {
                let mut range = answers.swap_remove(noise.below(answers.len() as u64) as usize);
                // Credit is never taken away for good.
                range.credit = self.credit(&mut noise).max(u32::from(answers.len() == keep));
                say(&mut replies, &[range]);
            }
            input.drain(..used);
            if stream.write_all(&replies).is_err() {
                return;
            }
        }
    }

    fn credit(&self, noise: &mut Noise) -> u32 {
        let Span { start, end } = self.manners.credit;
        start + noise.below(u64::from(end - start)) as u32
    }
}

fn say(replies: &mut Vec<u8>, ranges: &[Range]) {
    let mut frame = [0; 64];
    let len = ack::encode(ranges, &mut frame).unwrap();
    replies.extend(&frame[..len]);
}

/// Stands before a server and breaks each connection after so many bytes.
pub struct Proxy {
    pub addr: SocketAddr,
    pub broken: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    pub fn start(server: SocketAddr, seed: u64, bytes: Span<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (broken, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (broken.clone(), stop.clone());
        thread::spawn(move || {
            let mut noise = Noise::new(seed);
            for client in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (client, upstream) = (client.unwrap(), TcpStream::connect(server).unwrap());
                for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let left = bytes.start + noise.below(bytes.end - bytes.start);
                    let count = count.clone();
                    thread::spawn(move || {
                        if pass(&from, &to, left) {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Proxy { addr, broken, stop }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

/// Passes on so many bytes; returns whether it was that many.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut left: u64) -> bool {
    let mut buffer = [0; 4096];
    while left > 0 {
        let most = buffer.len().min(left as usize);
        let Ok(count @ 1..) = from.read(&mut buffer[..most]) else { return false };
        if to.write_all(&buffer[..count]).is_err() {
            return false;
        }
        left -= count as u64;
    }
    true
}
