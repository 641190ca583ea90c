//! Redis: a stream of about the length that a topic has, to which events are added. Each is answered.

use super::{Block, Broker, Client, Job, Program, Wire, line, payload, shown};

pub struct Redis;

impl Broker for Redis {
    type Client = Connection;

    fn start(job: &Job) -> Result<Option<Program>, String> {
        let log = if job.ask.keeps() { "yes" } else { "no" };
        let directory = job.directory.display();
        // The file is not rewritten in the middle of a measurement.
        let configuration = |port| {
            format!(
                "bind 127.0.0.1\nport {port}\ndir {directory}\ndaemonize no\nsave \"\"\n\
                 appendonly {log}\nappendfsync everysec\nauto-aof-rewrite-percentage 0\n"
            )
        };
        let arguments = |path: &std::path::Path| vec![path.display().to_string()];
        Program::start("redis-server", "redis-server", job, configuration, arguments).map(Some)
    }

    fn connect(port: u16, job: &Job) -> Connection {
        let command = ["XADD", job.topic, "MAXLEN", "~", "1024", "*", "d"];
        let mut head = format!("*{}\r\n", command.len() + 1);
        command.iter().for_each(|word| head += &format!("${}\r\n{word}\r\n", word.len()));
        head += &format!("${}\r\n", job.len);
        let block = Block::new(|_| [head.as_bytes(), &payload(job.len), b"\r\n"].concat());
        Connection { wire: Wire::connect(port), block }
    }
}

#[derive(Default)]
struct Heard {
    entries: usize,
    pongs: usize,
}

/// Takes in the first answer.
fn understand(heard: &mut Heard, bytes: &[u8]) -> Option<usize> {
    let (head, mut used) = line(bytes)?;
    match head {
        // The new entry's name: its length, and then the name.
        [b'$', len @ ..] => {
            let len: usize = shown(len).parse().expect("a length");
            bytes.get(used..used + len + 2)?;
            heard.entries += 1;
            used += len + 2;
        }
        b"+PONG" => heard.pongs += 1,
        other => panic!("Redis says {}", shown(other)),
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
        self.wire.until(&mut heard, understand, |heard| heard.entries > 0);
        heard.entries
    }

    fn settle(&mut self) {
        self.wire.send(b"*1\r\n$4\r\nPING\r\n");
        self.wire.until(&mut Heard::default(), understand, |heard| heard.pongs == 1);
    }
}
