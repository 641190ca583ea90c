//! NATS: core without a subscriber, which answers nothing but a ping; JetStream, which answers each event.

use super::{Block, Broker, Client, Job, Program, Wire, line, payload, shown};

pub struct Nats;

const INBOX: &str = "_INBOX.bench";

impl Broker for Nats {
    type Client = Connection;

    fn start(job: &Job) -> Result<Option<Program>, String> {
        let stream = match job.ask.keeps() {
            true => format!("jetstream {{ store_dir: \"{}\" }}\n", job.directory.display()),
            false => String::new(),
        };
        let configuration = |port| format!("listen: 127.0.0.1:{port}\n{stream}");
        let arguments = |path: &std::path::Path| vec!["-c".into(), path.display().to_string()];
        Program::start("nats-server", "nats-server", job, configuration, arguments).map(Some)
    }

    fn connect(port: u16, job: &Job) -> Connection {
        let mut wire = Wire::connect(port);
        wire.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
        let reply = if job.ask.keeps() {
            make_stream(&mut wire, job.topic);
            format!(" {INBOX}.ack")
        } else {
            String::new()
        };
        let head = format!("PUB {}{reply} {}\r\n", job.topic, job.len);
        let block = Block::new(|_| [head.as_bytes(), &payload(job.len), b"\r\n"].concat());
        Connection { wire, block }
    }
}

fn make_stream(wire: &mut Wire, topic: &str) {
    let stream = format!(r#"{{"name":"BENCH","subjects":["{topic}"],"storage":"file","retention":"limits"}}"#);
    let len = stream.len();
    wire.send(format!("SUB {INBOX}.* 1\r\n").as_bytes());
    wire.send(format!("PUB $JS.API.STREAM.CREATE.BENCH {INBOX}.made {len}\r\n{stream}\r\n").as_bytes());
    wire.until(&mut Heard::default(), understand, |heard| heard.messages == 1);
}

#[derive(Default)]
struct Heard {
    pongs: usize,
    messages: usize,
}

/// Takes in the first thing that the server said.
fn understand(heard: &mut Heard, bytes: &[u8]) -> Option<usize> {
    let (head, mut used) = line(bytes)?;
    if head.starts_with(b"MSG ") {
        // Subject, subscription, bytes.
        let len: usize = shown(head).rsplit(' ').next()?.parse().expect("a length");
        let message = bytes.get(used..used + len + 2)?;
        assert!(!message.windows(7).any(|part| part == b"\"error\""), "JetStream says {}", shown(message));
        heard.messages += 1;
        used += len + 2;
    } else if head == b"PONG" {
        heard.pongs += 1;
    } else {
        // A ping is not answered: there are minutes until the server minds.
        assert!(head.starts_with(b"INFO") || head == b"PING", "NATS says {}", shown(head));
    }
    Some(used)
}

pub struct Connection {
    wire: Wire,
    block: Block,
}

impl Client for Connection {
    fn post(&mut self, events: usize) {
        self.block.in_pieces(events, |bytes| self.wire.send(bytes));
    }

    fn block(&self) -> usize {
        self.block.events()
    }

    fn answered(&mut self) -> usize {
        let mut heard = Heard::default();
        self.wire.until(&mut heard, understand, |heard| heard.messages > 0);
        heard.messages
    }

    fn settle(&mut self) {
        self.wire.send(b"PING\r\n");
        self.wire.until(&mut Heard::default(), understand, |heard| heard.pongs == 1);
    }
}
