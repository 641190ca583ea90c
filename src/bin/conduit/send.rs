//! `conduit send`: events to a server over TCP or UDP, and what became of them.

use std::io::{self, IsTerminal, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use conduit::frame::{Encoding, Event, Priority, legacy};
use conduit::net::{Acks, Client, ClientError, Fate, Report, Retry, UdpSender};
use serde_json::{Map, Value, json};

use crate::events::{Events, something_was_done};
use crate::lines::{Lines, Next};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, note};
use crate::{Context, completions, publish, units};

/// Send events to a server, over TCP or UDP, and say what became of them
///
/// Over TCP each event is sent until it is answered, also when the connection breaks, and taken once.
#[derive(clap::Args)]
pub struct Args {
    /// The topic
    #[arg(add = completions::topics())]
    topic: String,
    /// The payload
    #[arg(conflicts_with_all = ["stdin", "file"])]
    payload: Option<String>,
    /// Send each line of standard input
    #[arg(long, conflicts_with = "file")]
    stdin: bool,
    /// Send what is in a file, as one event
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// The server [default: 127.0.0.1:9000, or 127.0.0.1:9001 with --udp]
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9000",
        default_value_if("udp", "true", "127.0.0.1:9001"),
        hide_default_value = true
    )]
    to: String,
    /// Send datagrams, which are not answered
    #[arg(long)]
    udp: bool,
    /// How much the events matter
    #[arg(long, value_enum, default_value = "medium", value_name = "PRIORITY")]
    priority: PriorityArg,
    /// How the payload is to be read; cbor is told as JSON, but in a file it is what it is
    #[arg(long, value_enum, default_value = "raw", value_name = "ENCODING")]
    encoding: EncodingArg,
    /// What to wait for [default: accepted, or none where nothing is answered]
    #[arg(long, value_enum, value_name = "WHAT")]
    ack: Option<AckArg>,
    /// Stop after so many events [default: 1, or all lines, or no end with --rate]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Send so many a second
    #[arg(short, long, value_name = "HZ", value_parser = units::rate)]
    rate: Option<f64>,
    /// Who sends, as 32 hex digits: goes on behind what the server has seen of it [default: a new one]
    #[arg(long, value_name = "HEX", value_parser = producer)]
    producer: Option<[u8; 16]>,
    /// What the server asks for [env: CONDUIT_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Speak the older frame, which is not answered
    #[arg(long, conflicts_with_all = ["producer", "token", "encoding"])]
    legacy: bool,
    /// How long to wait for a connection, for a server that throttles, and for the last answers
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    timeout: Duration,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum PriorityArg {
    Critical,
    High,
    Medium,
    Low,
    Batch,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum EncodingArg {
    Raw,
    Json,
    Cbor,
    Protobuf,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum AckArg {
    /// Nothing
    None,
    /// That it is in a lane
    Accepted,
    /// That it is on disk
    Durable,
}

fn producer(text: &str) -> std::result::Result<[u8; 16], String> {
    let bytes = publish::hex(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "a producer is 32 hex digits".into())
}

/// What a server is told that asks for a token: that of the command line, or that of the environment.
pub fn token(argument: Option<&str>) -> Vec<u8> {
    let from_environment = || std::env::var_os("CONDUIT_TOKEN").map(std::os::unix::ffi::OsStringExt::into_vec);
    argument.map(|token| token.as_bytes().into()).or_else(from_environment).unwrap_or_default()
}

impl Args {
    fn priority(&self) -> Priority {
        match self.priority {
            PriorityArg::Critical => Priority::Critical,
            PriorityArg::High => Priority::High,
            PriorityArg::Medium => Priority::Medium,
            PriorityArg::Low => Priority::Low,
            PriorityArg::Batch => Priority::Batch,
        }
    }

    fn encoding(&self) -> Encoding {
        match self.encoding {
            EncodingArg::Raw => Encoding::Raw,
            EncodingArg::Json => Encoding::Json,
            EncodingArg::Cbor => Encoding::Cbor,
            EncodingArg::Protobuf => Encoding::Protobuf,
        }
    }

    /// What stands in an event for this text.
    fn encode(&self, text: Vec<u8>) -> Result<Vec<u8>> {
        if matches!(self.encoding, EncodingArg::Raw | EncodingArg::Protobuf)
            || self.encoding == EncodingArg::Cbor && self.file.is_some()
        {
            return Ok(text);
        }
        let value: Value = serde_json::from_slice(&text)
            .map_err(|error| Failure::Usage(format!("the payload is no JSON: {error}")))?;
        if self.encoding == EncodingArg::Json {
            return Ok(text);
        }
        let mut bytes = Vec::new();
        let written = ciborium::into_writer(&value, &mut bytes);
        written.map_err(|error| Failure::Failed(format!("cannot write the payload as CBOR: {error}")))?;
        Ok(bytes)
    }

    fn acks(&self) -> Result<Acks> {
        let silent = self.udp || self.legacy;
        match self.ack {
            Some(AckArg::Accepted | AckArg::Durable) if silent => {
                let what = if self.udp { "a datagram" } else { "the older frame" };
                Err(Failure::Usage(format!("{what} is not answered: leave out --ack")))
            }
            Some(AckArg::None) => Ok(Acks::None),
            Some(AckArg::Accepted) => Ok(Acks::Accepted),
            Some(AckArg::Durable) => Ok(Acks::Durable),
            None => Ok(if silent { Acks::None } else { Acks::Accepted }),
        }
    }
}

/// How long it may take to end after an interruption.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait for room before looking for an interruption.
const STEP: Duration = Duration::from_millis(100);

pub fn run(mut args: Args, context: &Context) -> Result {
    let acks = args.acks()?;
    let named = Event { topic: args.topic.as_bytes(), ..Event::default() };
    named.topic().map_err(|fault| Failure::Usage(format!("{}: {fault}", args.topic)))?;
    let mut events = Events::with_grace(GRACE)?.without_output();
    let mut source = Source::new(&mut args)?;
    let limit = match (&source, args.rate) {
        (Source::Same(_), None) => args.count.or(Some(1)),
        _ => args.count,
    };
    let interval = args.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
    let mut way = Way::open(&args, acks)?;
    let (mut sent, mut last, mut line) = (0, None, 0);
    let mut due = Instant::now();
    let mut lost = None;
    while limit.is_none_or(|limit| sent < limit) {
        let Some(payload) = source.next(&args, &mut events, &mut line)? else { break };
        if let Some(interval) = interval {
            while Instant::now() < due && !events.is_interrupted() {
                events.wait(&[], Some(due))?;
            }
            due += interval;
        }
        if events.is_interrupted() {
            break;
        }
        let timestamp =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let (priority, encoding) = (args.priority(), args.encoding());
        let topic = args.topic.as_bytes();
        let event = Event { timestamp, priority, encoding, topic, payload: &payload, ..Event::default() };
        // What nothing follows at once leaves now.
        let alone = interval.is_some() || !source.has_more();
        match way.send(&event, alone, &events) {
            Ok(Some(sequence)) => (sent, last) = (sent + 1, Some(sequence).filter(|sequence| *sequence > 0)),
            Ok(None) => break,
            // What was sent before has its outcomes, too.
            Err(failure @ Failure::Failed(_)) => {
                lost = Some(failure);
                break;
            }
            Err(failure) => return Err(source.at_line(line, failure)),
        }
        something_was_done();
    }
    if events.is_interrupted() && sent == 0 {
        return Ok(Outcome::Interrupted);
    }
    let wait = if events.is_interrupted() { args.timeout.min(GRACE / 2) } else { args.timeout };
    let mut told = way.finish(wait)?;
    let mut out = Out::new();
    if context.json {
        out.json(&json(&args, sent, last, &told))?;
    } else {
        out.line(line_of(&args, sent, &told))?;
    }
    out.flush()?;
    match lost.or(told.lost.take()) {
        Some(failure) => Err(failure),
        None if is_degraded(&told.report) => Ok(Outcome::Degraded),
        None if told.late => Ok(Outcome::TimedOut),
        None => Ok(Outcome::Done),
    }
}

/// Whether an event was not taken, or may be lost though the server answered.
fn is_degraded(report: &Report) -> bool {
    let perhaps = report.counts.unconfirmed + report.counts.collisions;
    report.failed() > report.unanswered || perhaps > 0
}

fn line_of(args: &Args, sent: u64, told: &Told) -> String {
    let report = &told.report;
    let mut parts = Vec::new();
    let mut part = |count: u64, what: &dyn std::fmt::Display| {
        if count > 0 {
            parts.push(format!("{} {what}", units::count(count)));
        }
    };
    part(report.accepted, &"accepted");
    part(report.durable, &"durable");
    part(report.duplicate, &"duplicate");
    part(report.sent, &"sent");
    for (status, count) in &report.refused {
        part(*count, &Fate::Answered(*status));
    }
    part(report.unanswered, &"unanswered");
    part(report.counts.collisions, &"of them lost, as another process sends as this producer");
    part(report.counts.unconfirmed, &"of them lost with a connection, perhaps");
    let mut line = format!("{} to {} at {}: ", units::several(sent, "event", "events"), args.topic, args.to);
    line.push_str(if parts.is_empty() { "nothing to send" } else { "" });
    line.push_str(&parts.join(", "));
    if report.retried > 0 {
        line.push_str(&format!(" ({} of them throttled at first)", units::count(report.retried)));
    }
    if let Some(datagrams) = told.datagrams {
        line.push_str(&format!(" in {}", units::several(datagrams, "datagram", "datagrams")));
    }
    line
}

fn json(args: &Args, sent: u64, last: Option<u64>, told: &Told) -> Value {
    let report = &told.report;
    let refused: Map<String, Value> = report
        .refused
        .iter()
        .map(|(status, count)| (Fate::Answered(*status).to_string().replace([' ', '-'], "_"), (*count).into()))
        .collect();
    json!({
        "topic": args.topic,
        "to": args.to,
        "events": sent,
        "last_sequence": last,
        "accepted": report.accepted,
        "durable": report.durable,
        "duplicate": report.duplicate,
        "sent": report.sent,
        "throttled_then_taken": report.retried,
        "refused": refused,
        "unanswered": report.unanswered,
        "unconfirmed": report.counts.unconfirmed,
        "collisions": report.counts.collisions,
        "connections": report.connections,
        "resent": report.counts.resent,
        "datagrams": told.datagrams,
    })
}

/// Where payloads come from.
enum Source {
    Same(Vec<u8>),
    Lines(Lines),
}

impl Source {
    fn new(args: &mut Args) -> Result<Self> {
        if args.stdin {
            if io::stdin().is_terminal() {
                note(format_args!("sending each line; end with Ctrl-D"));
            }
            return Ok(Source::Lines(Lines::default()));
        }
        let payload = match (&args.file, args.payload.take()) {
            (Some(path), _) => std::fs::read(path)
                .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?,
            (None, Some(payload)) => payload.into_bytes(),
            (None, None) => {
                let reason = "what is to be sent? Give PAYLOAD, --file or --stdin".into();
                return Err(Failure::Usage(reason));
            }
        };
        Ok(Source::Same(args.encode(payload)?))
    }

    /// The next payload; `None` if there is none, or at an interruption.
    fn next(&mut self, args: &Args, events: &mut Events, line: &mut u64) -> Result<Option<Vec<u8>>> {
        let text = match self {
            Source::Same(payload) => return Ok(Some(payload.clone())),
            Source::Lines(lines) => match lines.next(events)? {
                Next::Text(text) => text,
                Next::End | Next::Interrupted => return Ok(None),
            },
        };
        *line += 1;
        args.encode(text).map(Some).map_err(|failure| self.at_line(*line, failure))
    }

    /// Whether another payload follows without a wait.
    fn has_more(&self) -> bool {
        match self {
            Source::Same(_) => true,
            Source::Lines(lines) => lines.has_more(),
        }
    }

    /// Says at which line something went wrong, if there are lines.
    fn at_line(&self, line: u64, failure: Failure) -> Failure {
        match (failure, self) {
            (Failure::Usage(reason), Source::Lines(_)) => Failure::Usage(format!("line {line}: {reason}")),
            (failure, _) => failure,
        }
    }
}

/// What came of it.
#[derive(Default)]
struct Told {
    report: Report,
    datagrams: Option<u64>,
    /// Whether the time was over before all was answered.
    late: bool,
    /// Why no more answers come.
    lost: Option<Failure>,
}

/// How events get to the server.
enum Way {
    Tcp(Client),
    Udp(UdpSender),
    /// Frames that are not written yet, and how many were sent.
    Older(TcpStream, Vec<u8>, u64),
}

/// Bytes of older frames that are written at a time.
const BATCH: usize = 64 << 10;

impl Way {
    fn open(args: &Args, acks: Acks) -> Result<Self> {
        if args.udp {
            let options = UdpSender::options().token(token(args.token.as_deref()));
            let options = args.producer.into_iter().fold(options, |options, id| options.producer(id));
            let options = if args.legacy { options.older() } else { options };
            return Ok(Way::Udp(options.connect(&args.to)?));
        }
        if args.legacy {
            return Ok(Way::Older(connect(args)?, Vec::new(), 0));
        }
        let options = Client::options().acks(acks).token(token(args.token.as_deref())).connect_timeout(args.timeout);
        let options = options.retry(Retry { deadline: args.timeout, ..Retry::default() });
        let options = args.producer.into_iter().fold(options, |options, id| options.producer(id));
        Ok(Way::Tcp(options.connect(&args.to)?))
    }

    /// Sends an event, with all before it if it is `alone`; returns its sequence. `None` at an interruption.
    fn send(&mut self, event: &Event<'_>, alone: bool, events: &Events) -> Result<Option<u64>> {
        match self {
            Way::Tcp(client) => loop {
                if let Some(sequence) = client.send_timeout(event, STEP)? {
                    return Ok(Some(sequence));
                }
                if events.is_interrupted() {
                    return Ok(None);
                }
            },
            Way::Udp(sender) => {
                let sequence = sender.send(event)?;
                if alone {
                    sender.flush()?;
                }
                Ok(Some(sequence))
            }
            Way::Older(stream, frames, sent) => {
                let at = frames.len();
                frames.resize(at + 7 + event.topic.len() + event.payload.len(), 0);
                legacy::encode(event.priority, event.topic, event.payload, &mut frames[at..])
                    .map_err(|error| Failure::Usage(error.to_string()))?;
                *sent += 1;
                if alone || frames.len() >= BATCH {
                    stream.write_all(frames).map_err(broken)?;
                    frames.clear();
                }
                Ok(Some(0))
            }
        }
    }

    /// Waits for what is not answered.
    fn finish(self, timeout: Duration) -> Result<Told> {
        match self {
            Way::Tcp(mut client) => {
                let flushed = client.flush(timeout);
                let late = matches!(flushed, Err(ClientError::TimedOut { .. }));
                let lost = flushed.err().filter(|_| !late).map(Failure::from);
                Ok(Told { report: client.close(Duration::ZERO), late, lost, ..Told::default() })
            }
            Way::Udp(mut sender) => {
                sender.flush()?;
                let counts = sender.counts();
                if counts.unreachable > 0 {
                    return Err(Failure::Failed(format!("no event server at {} (UDP)", sender.addr())));
                }
                let mut told = Told { datagrams: Some(counts.datagrams), ..Told::default() };
                told.report.sent = counts.events;
                Ok(told)
            }
            Way::Older(mut stream, frames, sent) => {
                stream.write_all(&frames).and_then(|()| stream.shutdown(Shutdown::Write)).map_err(broken)?;
                // The server closes when it has read it all; one that does not is not waited for longer than that.
                let _ = stream.set_read_timeout(Some(timeout)).and_then(|()| stream.read(&mut [0; 64]));
                let mut told = Told::default();
                told.report.sent = sent;
                Ok(told)
            }
        }
    }
}

fn broken(error: io::Error) -> Failure {
    Failure::Failed(format!("the server takes no more: {error}"))
}

fn connect(args: &Args) -> Result<TcpStream> {
    let none = |error: io::Error| Failure::from(ClientError::Address(error.into()));
    let mut failed = Failure::Usage(format!("no address is named {}", args.to));
    for addr in args.to.to_socket_addrs().map_err(none)? {
        let stream = TcpStream::connect_timeout(&addr, args.timeout).and_then(|stream| {
            stream.set_write_timeout(Some(args.timeout))?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Failure::Failed(format!("no event server at {addr}: {error}")),
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_port_for_each_way() {
        for (more, to) in [
            (&[][..], "127.0.0.1:9000"),
            (&["--udp"], "127.0.0.1:9001"),
            (&["--legacy"], "127.0.0.1:9000"),
            (&["--udp", "--to", "robot:7"], "robot:7"),
        ] {
            let command = <Args as clap::Args>::augment_args(clap::Command::new("send"));
            let matches = command.try_get_matches_from([&["send", "t", "x"], more].concat()).unwrap();
            assert_eq!(matches.get_one::<String>("to").map(String::as_str), Some(to), "{more:?}");
        }
    }
}
