//! What a link's peer can do that keeps to no rules: nothing but lose the link, with a reason.
#![cfg(feature = "std")]

mod links;
mod support;

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use conduit::link::{Ending, Error, Event, Fault, Link, Options, Reconnect, Transport};
use links::{Accepting, Place, address};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use support::{Noise, PATIENCE, Process, eventually, is_asleep, rounds, say, thread_id};

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[("scribbler", scribbler), ("writer", writer), ("leaver", leaver)]);
}

/// Where a link's memory is in this process, by the name of its file: address, length, and rights.
fn mapped(name: &str) -> (usize, usize, String) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains(name)).unwrap();
    let mut words = line.split_whitespace();
    let (from, to) = words.next().unwrap().split_once('-').unwrap();
    let [from, to] = [from, to].map(|word| usize::from_str_radix(word, 16).unwrap());
    (from, to - from, words.next().unwrap().to_owned())
}

/// Writes over all of the memory that it can write, again and again, while it uses the link; or over its ring alone, and does
/// nothing else.
fn scribbler(args: &[&str]) {
    let [address, seed, what] = args else { panic!("address, seed, what") };
    let mut link = Link::options().size(4096).connect(address).unwrap();
    let page = rustix::param::page_size();
    let ring_alone = *what == "ring";
    let [own, waits] = ["conduit-up", "conduit-waits"].map(|name| {
        let (start, len, rights) = mapped(name);
        assert!(rights.starts_with("rw"));
        (start, len)
    });
    let parts = if ring_alone { vec![(own.0 + page, own.1 - page)] } else { vec![waits, (own.0, page), own] };
    say("connected");
    let mut noise = Noise::new(seed.parse().unwrap());
    loop {
        let (start, len) = parts[noise.below(parts.len() as u64) as usize];
        let place = noise.below(len as u64 / 8) as usize * 8;
        let value = match noise.below(3) {
            0 => noise.below(64),
            1 => noise.below(1 << 20),
            _ => u64::MAX - noise.below(64),
        };
        // SAFETY: in the mapping. It may well be what nobody in this process allows for: that is what the process is for.
        unsafe { (start as *mut u64).byte_add(place).write_volatile(value) };
        if !ring_alone && noise.below(4) == 0 {
            let message = [value as u8; 100];
            let _ = link.sender().try_send(&message[..noise.below(100) as usize]);
            let _ = link.try_recv();
        }
    }
}

#[test]
fn a_peer_that_writes_over_all_it_can_loses_its_link_with_a_reason_and_harms_nobody_else() {
    let address = address();
    let mut listener = Link::options().size(4096).listen(&address).unwrap();
    let target = address.clone();
    let connecting = thread::spawn(move || Link::connect(&target).unwrap());
    let mut good = listener.accept_timeout(PATIENCE).unwrap();
    let mut other_end = connecting.join().unwrap();
    for seed in 0..rounds(200) {
        let ring_alone = seed % 2 == 1;
        let what = if ring_alone { "ring" } else { "all" };
        let mut process = Process::start("scribbler", &[&address, &seed.to_string(), what]);
        let mut link = listener.accept_timeout(PATIENCE).unwrap();
        process.expect("connected");
        let start = Instant::now();
        let ending = loop {
            assert!(start.elapsed() < PATIENCE, "it keeps its link");
            // Whatever came, it came from there.
            match link.recv_timeout(Duration::from_millis(1)) {
                Ok(message) => assert!(message.len() < 2048),
                Err(Error::TimedOut) => {}
                Err(Error::Closed(ending)) => break ending,
                Err(error) => panic!("{error}"),
            }
            match link.sender().try_send(&[1; 500]) {
                Ok(_) | Err(Error::WouldBlock) => {}
                Err(Error::Closed(ending)) => break ending,
                Err(error) => panic!("{error}"),
            }
        };
        // It may be the one that finds first that nothing fits any more, but for what it has written into its ring.
        let found = match ending {
            Ending::Fault(Fault::Memory) => true,
            Ending::Fault(Fault::Sequence | Fault::Turn) | Ending::Blamed | Ending::Lost => !ring_alone,
            _ => false,
        };
        assert!(found, "{ending}");
        good.send(b"still here").unwrap();
        assert_eq!(other_end.recv_timeout(PATIENCE).unwrap(), b"still here");
    }
}

/// Tries to write what its peer has sent: the other end of a link that it is the named end of.
fn writer(args: &[&str]) {
    let [side, address] = args else { panic!("side, address") };
    let (mut link, theirs) = match *side {
        "client" => (Link::connect(address).unwrap(), "conduit-down"),
        _ => {
            let mut listener = Link::options().listen(address).unwrap();
            say("listens");
            (listener.accept().unwrap(), "conduit-up")
        }
    };
    link.recv().unwrap();
    let (start, len, rights) = mapped(theirs);
    // SAFETY: a whole mapping of this process, asked for rights that it must not get.
    let outcome = unsafe { libc::mprotect(start as *mut _, len, libc::PROT_READ | libc::PROT_WRITE) };
    say(format!("{rights} {outcome}"));
    loop {
        thread::park();
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn neither_end_can_write_what_the_other_has_sent() {
    let address = address();
    let mut listener = Link::options().listen(&address).unwrap();
    let mut client = Process::start("writer", &["client", &address]);
    let mut link = listener.accept_timeout(PATIENCE).unwrap();
    link.send(b"look").unwrap();
    client.expect("r--s -1");
    drop((link, listener));
    let mut server = Process::start("writer", &["server", &address]);
    server.expect("listens");
    let mut link = Link::connect(&address).unwrap();
    link.send(b"look").unwrap();
    server.expect("r--s -1");
}

/// A frame of the handshake, and of what follows: length, kind, flags, and two bytes that are always the same.
fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], &[kind, flags, 0xC5, 0x4C], body].concat()
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const READY: u8 = 4;
const MESSAGE: u8 = 5;
const ACK: u8 = 6;
const WAKE: u8 = 7;

/// What a peer says of itself that has a ring of so many bytes, or none.
fn hello(ring: u32) -> Vec<u8> {
    let mut body = 1u16.to_le_bytes().to_vec();
    body.extend([7; 16]); // session
    body.extend([8; 16]); // incarnation
    body.extend([0; 16]); // whom it knows
    body.extend(0u64.to_le_bytes()); // received
    body.extend(1u64.to_le_bytes()); // first
    body.extend(ring.to_le_bytes());
    body.extend((1u32 << 20).to_le_bytes()); // longest message
    body.push(0);
    body
}

fn read_frame(stream: &mut UnixStream) -> (u8, Vec<u8>) {
    let mut header = [0; 8];
    stream.read_exact(&mut header).unwrap();
    let len = u32::from_le_bytes(header[..4].try_into().unwrap());
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body).unwrap();
    (header[4], body)
}

/// What is told of a client that says `words` instead of shaking hands.
fn refused_for(words: &[u8]) -> String {
    let place = Place::new();
    let (tell, told) = mpsc::channel();
    let options = Link::options().on_event(move |event| tell.send(event.clone()).unwrap());
    let mut listener = options.listen(&place.socket()).unwrap();
    let mut client = UnixStream::connect(place.socket()).unwrap();
    client.write_all(words).unwrap();
    let accepting = thread::spawn(move || listener.accept_timeout(Duration::from_millis(300)).map(drop));
    let Event::Error(error) = told.recv_timeout(PATIENCE).unwrap() else { panic!("no error") };
    assert!(matches!(accepting.join().unwrap(), Err(Error::TimedOut)), "it was taken in");
    error
}

#[test]
fn a_greeting_that_cannot_be_is_refused_before_it_is_used() {
    let with = |at: usize, bytes: &[u8]| {
        let mut body = hello(4096);
        body[at..at + bytes.len()].copy_from_slice(bytes);
        refused_for(&frame(HELLO, 0, &body))
    };
    let highest = u64::MAX.to_le_bytes();
    for (at, bytes) in [(50, &highest[..]), (58, &highest), (58, &[0; 8]), (18, &[0; 16]), (74, &[2])] {
        assert!(with(at, bytes).contains("no frame"), "{at}");
    }
    assert!(with(0, &[9, 0]).contains("version 9"));
    assert!(with(66, &[1, 0, 0, 0]).contains("size"));
    // Nothing as long as a message may be is kept of a stranger.
    assert!(refused_for(&frame(MESSAGE, 0, &[0; 1000])).contains("1000 bytes, and 0 is the most"));
    assert!(refused_for(&frame(READY, 0, &[1])).contains("out of turn"));
}

/// A server's link to a client that has shaken hands and wants no ring, and the client's socket.
fn link_and_client(options: Options) -> (Link, UnixStream) {
    let place = Place::new();
    let mut listener = options.listen(&place.socket()).unwrap();
    let mut client = UnixStream::connect(place.socket()).unwrap();
    client.write_all(&frame(HELLO, 0, &hello(0))).unwrap();
    let accepting = thread::spawn(move || listener.accept_timeout(PATIENCE).unwrap());
    assert_eq!(read_frame(&mut client).0, WELCOME);
    client.write_all(&frame(READY, 0, &[0])).unwrap();
    (accepting.join().unwrap(), client)
}

/// How a server's link ends to a client that says `words`.
fn ends_by(options: Options, words: &[u8]) -> Ending {
    let (mut link, mut client) = link_and_client(options);
    client.write_all(words).unwrap();
    loop {
        match link.recv_timeout(PATIENCE) {
            Ok(_) => {}
            Err(Error::Closed(ending)) => return ending,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_client_that_says_what_it_must_not_is_disconnected_with_the_reason() {
    let small = || Link::options().max_message(1000);
    let faults = [
        (b"\0\0\0\0\x63\0\xC5\x4C".to_vec(), Fault::Frame),
        (b"\0\0\0\0\x05\0\0\0".to_vec(), Fault::Frame),
        (frame(MESSAGE, 0x80, b"x"), Fault::Frame),
        (frame(MESSAGE, 0, &[0; 1001]), Fault::Length { len: 1001, max: 1000 }),
        (frame(HELLO, 0, &hello(0)), Fault::Turn),
        (frame(READY, 0, &[1]), Fault::Turn),
        // As if there were a ring.
        (frame(MESSAGE, 1, b"x"), Fault::Turn),
        (frame(MESSAGE, 2, b"x"), Fault::Turn),
        (frame(ACK, 0, b"short"), Fault::Frame),
    ];
    for (words, fault) in faults {
        assert_eq!(ends_by(small(), &words), Ending::Fault(fault), "{words:?}");
    }
    // What was right before it arrived before it.
    let words = [frame(MESSAGE, 0, b"a"), frame(WAKE, 0, b""), frame(MESSAGE, 0, b"b"), vec![0xFF; 20]].concat();
    assert!(matches!(ends_by(small(), &words), Ending::Fault(_)));
}

#[test]
fn a_client_that_acknowledges_what_it_was_never_sent_is_disconnected() {
    let (mut link, mut client) = link_and_client(Link::options());
    client.write_all(&frame(ACK, 0, &5u64.to_le_bytes())).unwrap();
    let error = loop {
        match link.sender().flush(PATIENCE).and_then(|()| link.send(b"x")) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Closed(Ending::Fault(Fault::Sequence))), "{error}");
}

#[test]
fn what_a_client_sends_without_being_received_is_held_up_and_not_collected() {
    let options = Link::options().transport(Transport::Socket).max_message(10_000);
    let (mut link, mut client) = link_and_client(options);
    client.set_nonblocking(true).unwrap();
    // No honest client sends that much at a time. It gets rid of what this process takes, and of what the socket has room for.
    let message = frame(MESSAGE, 0, &[9; 8000]);
    let mut sent = 0;
    let mut idle = 0;
    while idle < 50 {
        match client.write(&message) {
            Ok(len) => (sent, idle) = (sent + len, 0),
            Err(_) => {
                thread::sleep(Duration::from_millis(1));
                idle += 1;
            }
        }
        assert!(sent < 8 << 20, "it takes whatever comes");
    }
    for _ in 0..sent / message.len() {
        assert_eq!(link.recv_timeout(PATIENCE).unwrap(), [9; 8000], "and goes on when it is received");
    }
    // Whoever sleeps until there is more is woken, too. With a timeout it would find it in the end, woken or not.
    let (tell, told) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || {
        tell.send(thread_id()).unwrap();
        answer.send(link.recv().map(<[u8]>::to_vec)).unwrap();
    });
    let thread = told.recv().unwrap();
    eventually("it sleeps", || is_asleep(thread));
    client.write_all(&message[sent % message.len()..]).unwrap();
    assert_eq!(answered.recv_timeout(PATIENCE).unwrap().unwrap(), [9; 8000]);
}

/// Sends a frame of the handshake, and files with it.
fn send_with(stream: &UnixStream, frame: &[u8], files: &[OwnedFd]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    sendmsg(stream, &[IoSlice::new(frame)], &mut ancillary, SendFlags::empty()).unwrap();
}

/// A file of so many bytes, sealed so.
fn memory(len: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, len).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

/// How the page that both ends write is sealed, and how what one of them writes.
const SHARED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
const OWN: SealFlags = if cfg!(target_pointer_width = "64") { SHARED.union(SealFlags::FUTURE_WRITE) } else { SHARED };

/// What cannot be the memory that an end of a link has made, which would have so many bytes.
fn wrong(len: u64) -> [OwnedFd; 6] {
    [
        memory(len, SealFlags::empty()),
        memory(len, OWN.difference(SealFlags::SHRINK)),
        memory(len, OWN.difference(SealFlags::GROW)),
        memory(len - 1, OWN),
        memory(2 * len, OWN),
        fs::File::open("/dev/zero").unwrap().into(),
    ]
}

/// A server that offers these files as a link's memory; how its client takes it.
fn offer(files: [OwnedFd; 2], ring: u32, last: u8) -> Result<Option<Transport>, Error> {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(read_frame(&mut stream).0, HELLO);
        let mut body = hello(ring);
        body[74] = last;
        send_with(&stream, &frame(WELCOME, 0, &body), &files);
        let mut ready = [0; 9];
        if stream.read_exact(&mut ready).is_ok() && ready[8] == 1 {
            send_with(&stream, &frame(READY, 0, &[1]), &[]);
        }
        // Until it is hung up on.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let outcome = Link::options().reconnect(Reconnect::NEVER).connect(&place.socket());
    let outcome = outcome.map(|link| link.metrics().transport);
    serving.join().unwrap();
    fs::remove_file(place.socket()).unwrap();
    outcome
}

#[test]
fn a_client_takes_no_memory_that_could_be_taken_away_from_under_it() {
    let page = rustix::param::page_size() as u64;
    let (len, ring) = (17 * page, 16 * page as u32);
    let last = u8::from(cfg!(target_pointer_width = "32"));
    let refused = |files, ring| {
        let error = offer(files, ring, last).unwrap_err();
        assert!(matches!(error, Error::Handshake { fault: Fault::Offer, .. }), "{error}");
    };
    for down in wrong(len) {
        refused([down, memory(page, SHARED)], ring);
    }
    for waits in wrong(page) {
        refused([memory(len, OWN), waits], ring);
    }
    refused([memory(len, OWN), memory(page, SHARED)], 1 << 30);
    let taken = offer([memory(len, OWN), memory(page, SHARED)], ring, last).unwrap();
    assert_eq!(taken, Some(Transport::SharedMemory));
    // A peer that says that it must be able to write what it reads is none to share memory with, unless both have to.
    let taken = offer([memory(len, OWN), memory(page, SHARED)], ring, 1 - last).unwrap();
    assert_eq!(taken, Some(Transport::Socket));
}

/// A client that says `last` and hands over `up` behind its READY; what the server answers, and whether the link uses memory.
fn hand_over(up: &[OwnedFd], last: u8) -> Result<(Vec<u8>, Option<Transport>), Error> {
    let place = Place::new();
    let mut listener = Link::options().size(4096).listen(&place.socket()).unwrap();
    let mut client = UnixStream::connect(place.socket()).unwrap();
    let mut body = hello(1 << 16);
    body[74] = last;
    client.write_all(&frame(HELLO, 0, &body)).unwrap();
    let accepting = thread::spawn(move || {
        let link = listener.accept_timeout(Duration::from_millis(300));
        link.map(|link| (link.metrics().transport, link))
    });
    let (kind, welcome) = read_frame(&mut client);
    assert_eq!(kind, WELCOME);
    let uses_memory = welcome[66..70] != [0; 4];
    send_with(&client, &frame(READY, 0, &[u8::from(uses_memory)]), up);
    let (transport, _link) = accepting.join().unwrap()?;
    let answer = if uses_memory { read_frame(&mut client).1 } else { Vec::new() };
    Ok((answer, transport))
}

#[test]
fn a_server_takes_no_memory_that_could_be_taken_away_from_under_it() {
    let page = rustix::param::page_size() as u64;
    let len = page + 4096_u64.next_multiple_of(page);
    let last = u8::from(cfg!(target_pointer_width = "32"));
    for up in wrong(len) {
        assert!(matches!(hand_over(&[up], last), Err(Error::TimedOut)), "it was taken in");
    }
    let (answer, transport) = hand_over(&[memory(len, OWN)], last).unwrap();
    assert_eq!((&answer[..], transport), (&[1][..], Some(Transport::SharedMemory)));
    // What the kernel could not hand over is a reason to use the socket.
    let (answer, transport) = hand_over(&[], last).unwrap();
    assert_eq!((&answer[..], transport), (&[0][..], Some(Transport::Socket)));
    let (answer, transport) = hand_over(&[], 1 - last).unwrap();
    assert_eq!((&answer[..], transport), (&[][..], Some(Transport::Socket)));
    assert!(matches!(hand_over(&[memory(len, OWN)], 1 - last), Err(Error::TimedOut)), "what nobody asked for");
}

#[test]
fn a_client_that_comes_back_again_and_again_fills_no_more_than_a_bound() {
    let address = address();
    let small = || Link::options().size(4096).max_message(4096);
    let accepting = Accepting::start(small(), &address);
    let connect = || small().session([1; 16]).reconnect(Reconnect::NEVER).connect(&address);
    let mut first = None;
    let mut clients = Vec::new();
    // Until its session is at an end, and is another link.
    for round in 0.. {
        assert!(round < 100, "it takes whatever comes");
        if let Ok(mut client) = connect() {
            while client.sender().try_send(&[7; 500]).is_ok() {}
            clients.push(client);
        }
        let link = if first.is_none() { Some(accepting.link()) } else { accepting.links.try_recv().ok() };
        if link.is_some() && first.is_some() {
            break;
        }
        first = first.or(link);
    }
    let mut link = first.unwrap();
    let mut received = 0;
    let error = loop {
        match link.recv_timeout(PATIENCE) {
            Ok(message) => received += message.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Closed(Ending::Fault(Fault::TooMuch))), "{error}");
    // What was there is handed out.
    assert!((8 * 4096..8 * 3 * 4096).contains(&received), "{received}");
}

/// Drops a link to a peer that takes nothing and goes on sending; tells whether waiting for that has kept it busy.
fn leaver(_: &[&str]) {
    let (mut link, mut client) = link_and_client(Link::options());
    // More than the socket's buffer takes.
    link.send(&vec![1; 1 << 20]).unwrap();
    drop(link);
    client.write_all(&frame(WAKE, 0, &[])).unwrap();
    // The end alone is waited for.
    let timeout = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as _, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&client, PollFlags::empty())], Some(&timeout)).unwrap();
    let busy = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    say(if ended == 1 && busy.tv_sec == 0 { "idle".into() } else { format!("{ended} {busy:?}") });
}

#[test]
fn a_peer_that_takes_nothing_keeps_what_is_left_of_a_link_for_a_while_and_nobody_busy() {
    Process::start("leaver", &[]).expect("idle");
}
