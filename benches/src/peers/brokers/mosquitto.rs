//! Mosquitto, by MQTT 3.1.1 without a subscriber: with quality of service 0, which answers nothing but a ping, or 1, which
//! answers each event.

use super::{Ask, Block, Broker, Client, Job, Program, Wire, payload, shown};

pub struct Mosquitto;

const CONNACK: u8 = 0x20;
const PUBACK: u8 = 0x40;
const PINGRESP: u8 = 0xD0;

impl Broker for Mosquitto {
    type Client = Connection;

    fn start(job: &Job) -> Result<Option<Program>, String> {
        // As root it would become a user who cannot read its configuration.
        let configuration = |port| {
            format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
                 log_type error\nuser root\n"
            )
        };
        let arguments = |path: &std::path::Path| vec!["-c".into(), path.display().to_string()];
        Program::start("mosquitto", "mosquitto", job, configuration, arguments).map(Some)
    }

    fn connect(port: u16, job: &Job) -> Connection {
        let mut wire = Wire::connect(port);
        // A clean session, pings at least each minute, and the client's name.
        wire.send(&packet(0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\x05bench"));
        wire.until(&mut Heard::default(), understand, |heard| heard.welcomes == 1);
        let topic = [&(job.topic.len() as u16).to_be_bytes(), job.topic.as_bytes()].concat();
        let payload = payload(job.len);
        let block = Block::new(|number| match job.ask {
            Ask::Nothing => packet(0x30, &[&topic[..], &payload].concat()),
            // Numbers come again with the block, which is longer than the window. 0 is none.
            _ => packet(0x32, &[&topic[..], &(number as u16 + 1).to_be_bytes(), &payload].concat()),
        });
        Connection { wire, block, at: 0 }
    }
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut len = body.len();
    loop {
        let more = if len > 127 { 128 } else { 0 };
        packet.push(len as u8 & 127 | more);
        len >>= 7;
        if len == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

#[derive(Default)]
struct Heard {
    welcomes: usize,
    acks: usize,
    pongs: usize,
}

/// Takes in the first packet: all that the server sends to us are of 2 or 4 bytes.
fn understand(heard: &mut Heard, bytes: &[u8]) -> Option<usize> {
    let [kind, len, ..] = *bytes else { return None };
    let used = 2 + usize::from(len);
    let packet = bytes.get(..used)?;
    match (kind, packet) {
        (CONNACK, [.., 0]) => heard.welcomes += 1,
        (PUBACK, _) => heard.acks += 1,
        (PINGRESP, _) => heard.pongs += 1,
        _ => panic!("Mosquitto says {}", shown(packet)),
    }
    Some(used)
}

pub struct Connection {
    wire: Wire,
    block: Block,
    /// The next event of the block.
    at: usize,
}

impl Client for Connection {
    fn post(&mut self, mut events: usize) {
        while events > 0 {
            let now = events.min(self.block.events() - self.at);
            self.wire.send(self.block.of(self.at..self.at + now));
            self.at = (self.at + now) % self.block.events();
            events -= now;
        }
    }

    fn block(&self) -> usize {
        self.block.events()
    }

    fn answered(&mut self) -> usize {
        let mut heard = Heard::default();
        self.wire.until(&mut heard, understand, |heard| heard.acks > 0);
        heard.acks
    }

    fn settle(&mut self) {
        self.wire.send(&[0xC0, 0]);
        self.wire.until(&mut Heard::default(), understand, |heard| heard.pongs == 1);
    }
}
