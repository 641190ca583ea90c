//! Conduit's own server, in a process of its own, with every event numbered by a producer that has introduced itself: so that
//! duplicates are looked for.

use super::{Ask, Block, Broker, Client, Job, PATIENCE, Wire, cpu_of, payload, place};
use crate::clock::ticks;
use crate::stage::{Stage, allow};
use conduit::ack::{self, Status};
use conduit::engine::{Engine, Stats};
use conduit::frame::{self, Decoded, Event, Flags, HEADER_LEN, Header, Hello, Kind, VERSION};
use conduit::net::Server;
use conduit::tank::{EventLog, EventSync};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

pub struct Conduit;

impl Broker for Conduit {
    type Client = Connection;

    const SETTLES: bool = true;

    fn serve(stage: &Stage, job: &Job) {
        allow(&job.cores);
        let mut engine = Engine::options().domain(&job.name);
        if job.ask.keeps() {
            let each_second = EventSync::Interval(Duration::from_secs(1));
            let log = EventLog::options().sync(if job.ask == Ask::Durable { EventSync::Group } else { each_second });
            engine = engine.durable_log(log.open(job.directory.join("events")).expect("a log"));
        }
        let engine = engine.start().expect("an engine");
        let server = Server::options().tcp("127.0.0.1:0").start(engine).expect("a server");
        stage.put(place::PORT, server.tcp_addr().expect("an address").port().into());
        stage.put(place::PROCESS, std::process::id().into());
        stage.meet();
        stage.sleep_until_stopped();
        // All was answered. It is over when the last event was published.
        let sent = stage.get(place::SENT);
        let deadline = Instant::now() + PATIENCE;
        while processed(&server.engine().stats()) < sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(20));
        }
        let end = ticks();
        stage.put(place::CPU, cpu_of(std::process::id().into()));
        stage.put(place::END, end);
        let stats = server.stop(PATIENCE);
        check(&stats, sent);
        if job.ask.keeps() {
            assert_eq!(stats.logged, sent, "each event is in the log once");
        }
    }

    fn connect(port: u16, job: &Job) -> Connection {
        let mut wire = Wire::connect(port);
        let hello = Hello { version: VERSION.into(), window: 0, producer: *b"the benches are1", token: b"" };
        let mut buffer = [0; 128];
        let len = hello.encode(&mut buffer).expect("a hello");
        wire.send(&buffer[..len]);
        wire.until(&mut Heard::default(), understand, |heard| heard.welcomes == 1);
        let flags = match job.ask {
            Ask::Nothing => Flags::default(),
            Ask::Taken => Flags::ACK_REQUESTED,
            Ask::Durable | Ask::Kept => Flags::ACK_WHEN_DURABLE,
        };
        let payload = payload(job.len);
        let event = Event { flags, topic: job.topic.as_bytes(), payload: &payload, ..Event::default() };
        let mut one = vec![0; 64 + job.topic.len() + job.len];
        let len = event.encode(&mut one).expect("an event");
        let header = Header::decode(one.first_chunk().expect("a header")).expect("a header");
        let block = Block::new(|_| one[..len].to_vec());
        let wanted = if job.ask.keeps() { Status::Durable } else { Status::Accepted };
        Connection { wire, block, header, wanted, posted: 0, again: 0 }
    }
}

pub fn processed(stats: &Stats) -> u64 {
    stats.lanes.iter().map(|lane| lane.processed).sum()
}

/// Whether each of so many events was taken and published once, and all that was not taken was sent again.
pub fn check(stats: &Stats, sent: u64) {
    let all = |counts: &[u64]| counts.iter().sum::<u64>();
    let taken = all(&stats.received) - all(&stats.throttled);
    assert_eq!((taken, all(&stats.accepted), processed(stats)), (sent, sent, sent), "{stats:?}");
    let lost = all(stats.dropped.as_flattened()) + all(&stats.dead_lettered) + all(&stats.failed);
    let refused = stats.duplicates + stats.too_old + stats.bad_topic;
    assert_eq!((lost, refused, stats.failed_and_lost), (0, 0, 0), "{stats:?}");
}

#[derive(Default)]
struct Heard {
    welcomes: usize,
    pongs: usize,
    /// Events that became what was wanted.
    events: usize,
    wanted: Option<Status>,
    /// Those that have to be sent again, and after how many milliseconds.
    again: Vec<RangeInclusive<u64>>,
    after: u32,
}

/// Takes in the first frame.
fn understand(heard: &mut Heard, bytes: &[u8]) -> Option<usize> {
    let Decoded::Frame { header, body, len } = frame::decode(bytes, frame::DEFAULT_MAX_LEN).expect("a frame") else {
        return None;
    };
    match header.kind {
        Kind::Welcome => heard.welcomes += 1,
        Kind::Pong => heard.pongs += 1,
        Kind::Ack => {
            for range in ack::decode(&header, body).expect("an ack") {
                let sequences = range.first()..=range.last();
                if Some(range.status) == heard.wanted {
                    heard.events += sequences.count();
                } else {
                    assert_eq!(range.status, Status::Throttled, "{range:?}");
                    heard.again.push(sequences);
                    heard.after = heard.after.max(range.retry_after_ms);
                }
            }
        }
        kind => panic!("a {kind:?} was not expected"),
    }
    Some(len)
}

pub struct Connection {
    wire: Wire,
    block: Block,
    /// Of each event, but for the sequence.
    header: Header,
    wanted: Status,
    posted: u64,
    again: u64,
}

impl Connection {
    fn send(&mut self, sequences: RangeInclusive<u64>) {
        let (mut next, last) = sequences.into_inner();
        while next <= last {
            let events = self.block.events().min((last - next + 1) as usize);
            let each = self.block.bytes.len() / self.block.events();
            for frame in self.block.bytes.chunks_exact_mut(each).take(events) {
                let header = Header { sequence: next, ..self.header };
                frame[..HEADER_LEN].copy_from_slice(&header.encode());
                next += 1;
            }
            self.wire.send(self.block.of(0..events));
        }
    }
}

impl Client for Connection {
    fn post(&mut self, events: usize) {
        let first = self.posted + 1;
        self.posted += events as u64;
        self.send(first..=self.posted);
    }

    fn block(&self) -> usize {
        self.block.events()
    }

    fn answered(&mut self) -> usize {
        loop {
            let mut heard = Heard { wanted: Some(self.wanted), ..Heard::default() };
            self.wire.until(&mut heard, understand, |heard| heard.events > 0 || !heard.again.is_empty());
            if !heard.again.is_empty() {
                std::thread::sleep(Duration::from_millis(heard.after.into()));
                for sequences in heard.again {
                    self.again += sequences.end() - sequences.start() + 1;
                    self.send(sequences);
                }
            }
            if heard.events > 0 {
                return heard.events;
            }
        }
    }

    fn settle(&mut self) {
        self.wire.send(&Header::new(Kind::Ping).encode());
        self.wire.until(&mut Heard::default(), understand, |heard| heard.pongs == 1);
    }

    fn sent_again(&self) -> u64 {
        self.again
    }
}
