//! Events over UDP, handed to the kernel many at a time, which it cuts into datagrams (generic segmentation offload).

use super::{figures, leave, place, time};
use crate::clock::{ns, span, ticks};
use crate::peers::brokers::{PATIENCE, conduit::processed, cpu_of};
use crate::rows::{Context, Limit::*, Outcome, Row, Unit::*};
use crate::stage::{Stage, allow, role};
use conduit::engine::{Engine, Stats};
use conduit::frame::Event;
use conduit::net::Server;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The kernel takes no more in one call.
const DATAGRAMS: usize = 64;
/// Of each: 32 of the header, 4 of the topic, 64 of the payload.
const LEN: usize = 100;
/// How far a sender who doesn't want to lose anything is ahead: as many datagrams as the socket has room for.
const LEAD: u64 = 40_000;
const FLOODED: &str = "conduit, flooded";
const AHEAD: &str = "conduit, not overrun";
/// Where the server says how many datagrams it has received.
const RECEIVED: usize = 5;
const SOL_UDP: libc::c_int = 17;
const UDP_SEGMENT: libc::c_int = 103;

pub fn row() -> Row {
    let note = "one sender, 64 datagrams of one event a call, as fast as the kernel takes them, or no more than 40,000 ahead of \
                the server; all may use both cores. Lost is what the kernel had no room for, dropped what the engine had none for";
    Row::new("UDP 64 B with GSO", note)
        .column("rate", "accepted/s", Rate)
        .column("received", "received/s", Rate)
        .column("sent", "sent/s", Rate)
        .column("gone", "lost, %", Count)
        .column("dropped", "dropped, %", Count)
        .column("cpu", "server's CPU time, each received", Time)
        .cell(FLOODED, run::<true>)
        .cell(AHEAD, run::<false>)
        .target(FLOODED, "rate", &[], AtLeast(5e6))
        .target(AHEAD, "rate", &[], AtLeast(5e6))
        .target(AHEAD, "gone", &[], AtMost(0.0))
}

fn run<const FLOODS: bool>(context: &Context) -> Outcome {
    let (stage, time, cores) = (context.stage, time(context), context.cores);
    let domain = context.topic(1).name;
    let sender = || {
        allow(&cores);
        stage.meet();
        let socket = connect(stage.get(place::PORT) as u16);
        let block = block();
        let start = ticks();
        let mut sent = 0;
        while ticks() < start + span(time) {
            if !FLOODS && sent > stage.get(RECEIVED) + LEAD {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            match socket.send(&block) {
                Ok(len) => sent += (len / LEN) as u64,
                Err(error) => panic!("datagrams cannot be sent: {error}"),
            }
        }
        let took = ticks() - start;
        stage.put(place::SENT, sent);
        stage.stop();
        while stage.get(place::END) == 0 {
            std::thread::sleep(Duration::from_micros(20));
        }
        // What came in after the sender was done is no more than a few milliseconds' worth.
        let seconds = ns(stage.get(place::END) - start) * 1e-9;
        let (received, accepted) = (stage.get(place::FIGURES), stage.get(place::FIGURES + 1));
        let dropped = received - accepted;
        let share = |part: u64| (1000.0 * part as f64 / sent as f64).round() / 10.0;
        leave(
            stage,
            &[
                accepted as f64 / seconds,
                received as f64 / seconds,
                sent as f64 / (ns(took) * 1e-9),
                share(sent - received),
                share(dropped),
                stage.get(place::CPU) as f64 / received as f64,
            ],
        );
    };
    let server = || {
        allow(&cores);
        serve(stage, &domain);
    };
    let played = context.play(vec![role(cores[0], sender), role(cores[1], server)]);
    let _ = conduit::topic::clean(Some(&domain), false);
    played?;
    figures(stage, &["rate", "received", "sent", "gone", "dropped", "cpu"])
}

fn serve(stage: &Stage, domain: &str) {
    let engine = Engine::options().domain(domain).start().expect("an engine");
    let server = Server::options().udp("127.0.0.1:0").start(engine).expect("a server");
    let own = || cpu_of(std::process::id().into());
    let before = own();
    stage.put(place::PORT, server.udp_addr().expect("an address").port().into());
    stage.meet();
    while !stage.is_stopped() {
        stage.put(RECEIVED, server.stats().datagrams);
        std::thread::sleep(Duration::from_micros(500));
    }
    let sent = stage.get(place::SENT);
    // All that is to come is there when nothing more comes.
    let (mut seen, mut end, deadline) = ((0, 0), ticks(), Instant::now() + PATIENCE);
    let mut quiet = 0;
    while quiet < 20 && Instant::now() < deadline {
        let now = (server.stats().datagrams, processed(&server.engine().stats()));
        quiet = if now == seen { quiet + 1 } else { 0 };
        if quiet == 0 {
            (seen, end) = (now, ticks());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let cpu = own() - before;
    let net = server.stats();
    let stats = server.stop(PATIENCE);
    check(&stats, net.datagrams);
    assert_eq!((net.bad_datagrams, net.bad_bodies, net.unauthorized_datagrams), (0, 0, 0), "{net:?}");
    assert!(net.datagrams <= sent, "no more is received than was sent");
    stage.put(place::FIGURES, net.datagrams);
    stage.put(place::FIGURES + 1, processed(&stats));
    stage.put(place::CPU, cpu);
    stage.put(place::END, end);
}

/// Whether each event that was received was taken and published, or dropped and counted.
fn check(stats: &Stats, received: u64) {
    let all = |counts: &[u64]| counts.iter().sum::<u64>();
    let (accepted, dropped) = (all(&stats.accepted), all(stats.dropped.as_flattened()));
    assert_eq!(all(&stats.received), received, "{stats:?}");
    assert_eq!((accepted + dropped, processed(stats)), (received, accepted), "{stats:?}");
}

fn connect(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(("127.0.0.1", port)).expect("connected");
    socket.set_write_timeout(Some(PATIENCE)).expect("a limit");
    let len = LEN as libc::c_int;
    // SAFETY: the value is an int, of this length, that lives until the call is over.
    let set = unsafe {
        let (value, bytes) = ((&raw const len).cast(), size_of_val(&len) as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), SOL_UDP, UDP_SEGMENT, value, bytes)
    };
    assert_eq!(set, 0, "this kernel does not cut datagrams: {}", std::io::Error::last_os_error());
    socket
}

fn block() -> Vec<u8> {
    let event = Event { topic: b"gso1", payload: &[b'a'; 64], ..Event::default() };
    let mut frame = [0; LEN];
    assert_eq!(event.encode(&mut frame), Ok(LEN));
    frame.repeat(DATAGRAMS)
}
