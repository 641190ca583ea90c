//! What the sockets cost: a thread that reads as much as there is and looks at each frame's head where it lies.

use super::{Ask, Block, Broker, Client, Job, Wire, payload, place};
use crate::stage::{Stage, allow};
use conduit::frame::{Priority, legacy};
use std::net::TcpListener;

pub struct Raw;

/// The topic of a frame that asks how many there were.
const PING: &[u8] = b"?";
/// How many events there were so far, as it is answered.
const ANSWER: usize = 8;

fn frame(topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 16 + topic.len() + payload.len()];
    let len = legacy::encode(Priority::Medium, topic, payload, &mut frame).expect("a frame");
    frame.truncate(len);
    frame
}

impl Broker for Raw {
    type Client = Connection;

    fn serve(stage: &Stage, job: &Job) {
        allow(&job.cores);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        stage.put(place::PORT, listener.local_addr().expect("an address").port().into());
        stage.put(place::PROCESS, std::process::id().into());
        stage.meet();
        let mut wire = Wire::new(listener.accept().expect("a connection").0);
        let answers_each = job.ask != Ask::Nothing;
        let mut events = 0_u64;
        loop {
            let mut is_asked = answers_each;
            let is_open = wire.read(|bytes| match legacy::decode(bytes, 1 << 20).expect("a frame") {
                legacy::Decoded::Frame { topic, len, .. } => {
                    match topic == PING {
                        true => is_asked = true,
                        false => events += 1,
                    }
                    Some(len)
                }
                legacy::Decoded::Incomplete { .. } => None,
            });
            if !is_open {
                return;
            }
            if is_asked {
                wire.send(&events.to_le_bytes());
            }
        }
    }

    fn connect(port: u16, job: &Job) -> Connection {
        let block = Block::new(|_| frame(job.topic.as_bytes(), &payload(job.len)));
        Connection { wire: Wire::connect(port), block, posted: 0, answered: 0 }
    }
}

pub struct Connection {
    wire: Wire,
    block: Block,
    posted: u64,
    answered: u64,
}

impl Connection {
    /// Reads answers; returns how many events the last of them has.
    fn read(&mut self) -> u64 {
        let mut last = self.answered;
        let understand = |last: &mut u64, bytes: &[u8]| {
            *last = u64::from_le_bytes(*bytes.first_chunk::<ANSWER>()?);
            Some(ANSWER)
        };
        let before = self.answered;
        self.wire.until(&mut last, understand, |&last| last > before);
        last
    }
}

impl Client for Connection {
    fn post(&mut self, events: usize) {
        self.block.in_pieces(events, |bytes| self.wire.send(bytes));
        self.posted += events as u64;
    }

    fn block(&self) -> usize {
        self.block.events()
    }

    fn answered(&mut self) -> usize {
        let last = self.read();
        (last - std::mem::replace(&mut self.answered, last)) as usize
    }

    fn settle(&mut self) {
        if self.answered < self.posted {
            self.wire.send(&frame(PING, b""));
            while self.answered < self.posted {
                self.answered = self.read();
            }
        }
        assert_eq!(self.answered, self.posted, "each event is counted once");
    }
}
