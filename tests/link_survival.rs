//! What links survive: peers that are killed, or stopped, or have no descriptors or memory left, and that many come and go.
#![cfg(feature = "std")]

mod links;
mod support;

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use conduit::ack::Policy;
use conduit::link::{Ending, Error, Event, Link, Options, Receiver, Sender, Transport};
use links::{Accepting, Place, address, at_once, cut_accepted};
use rustix::process::{Resource, Rlimit, setrlimit};
use support::{PATIENCE, Process, eventually, in_time, rounds, say};

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[
        ("client", client),
        ("server", server),
        ("hoarder", hoarder),
        ("without_descriptors", without_descriptors),
        ("without_memory", without_memory),
        ("child", child),
        ("cycles", cycles),
    ]);
}

/// A message that tells who sent it, as which of its messages; now and then one that is too long for the ring.
fn message(sender: u32, number: u32) -> Vec<u8> {
    let len = if number % 61 == 60 { 20_000 } else { 8 + number as usize * 13 % 500 };
    let mut bytes: Vec<u8> = (0..len).map(|at| (number as usize * 31 + at) as u8).collect();
    bytes[..4].copy_from_slice(&sender.to_le_bytes());
    bytes[4..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Who sent it, and as which of its messages.
fn origin(bytes: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let origin = (word(0), word(4));
    assert!(bytes == message(origin.0, origin.1), "message {origin:?} is not whole");
    origin
}

const SESSION: [u8; 16] = *b"survival's links";

fn small() -> Options {
    Link::options().size(16 << 10).session(SESSION).acks(Policy::Deferred).reconnect(at_once())
}

/// What came from one sender after the other, each of which begins with 1.
#[derive(Default)]
struct Received {
    last: (u32, u32),
}

impl Received {
    fn take(&mut self, bytes: &[u8]) {
        let (sender, number) = origin(bytes);
        if sender == self.last.0 {
            assert_eq!(number, self.last.1 + 1, "of {sender}");
        } else {
            assert!(sender > self.last.0 && number == 1, "{sender}'s {number} behind {:?}", self.last);
        }
        self.last = (sender, number);
    }
}

/// Sends for ever, and says what it receives, before it acknowledges that.
fn client(args: &[&str]) {
    let [address, name] = args else { panic!("address, name") };
    talk(small().connect(address).unwrap(), name);
}

/// Listens; goes on as `client`.
fn server(args: &[&str]) {
    let [address, name] = args else { panic!("address, name") };
    let mut listener = small().listen(address).unwrap();
    let link = listener.accept().unwrap();
    thread::spawn(move || while listener.accept().is_ok() {});
    talk(link, name);
}

fn talk(link: Link, name: &str) {
    let (sender, mut receiver) = link.split();
    send_for_ever(sender, name.parse().unwrap());
    while let Ok(bytes) = receiver.recv() {
        say(origin(bytes).1);
        receiver.ack().unwrap();
    }
}

fn send_for_ever(mut sender: Sender, name: u32) {
    thread::spawn(move || (1..).try_for_each(|number| sender.send(&message(name, number)).map(drop)));
}

/// Receives for ever, and acknowledges; tells the name of each sender whose first message has come.
fn receive_for_ever(mut receiver: Receiver) -> mpsc::Receiver<u32> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut received = Received::default();
        while let Ok(bytes) = receiver.recv() {
            received.take(bytes);
            receiver.ack().unwrap();
            let (sender, number) = received.last;
            if number == 1 && tell.send(sender).is_err() {
                return;
            }
        }
    });
    told
}

/// Follows what a process says that it has received: each number once, but for the one that a process which was killed may
/// not have acknowledged.
struct Said {
    last: u32,
    is_new: bool,
}

impl Said {
    fn take(&mut self, line: &str) {
        let number: u32 = line.parse().unwrap();
        let again = self.is_new && number == self.last;
        assert!(again || number == self.last + 1, "{number} was received behind {}", self.last);
        (self.last, self.is_new) = (number, false);
    }

    /// Lets a process go on for a while, kills it, and takes what it has said until then.
    fn kill(&mut self, mut process: Process, lines: u32) {
        for _ in 0..lines {
            self.take(&process.line());
        }
        process.signal(libc::SIGKILL);
        while let Some(line) = process.try_line() {
            self.take(&line);
        }
        process.kill();
        self.is_new = true;
    }
}

/// Kills `process` and starts the next one, again and again. Each has to be heard, and nothing may be missing.
fn succeed_one_another(mut process: Process, told: &mpsc::Receiver<u32>, start: impl Fn(u32) -> Process) {
    let mut said = Said { last: 0, is_new: true };
    let rounds = rounds(150);
    for round in 0..rounds {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), round + 1, "the one that was started");
        said.kill(process, round % 40);
        process = start(round + 2);
    }
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), rounds + 1, "the last one");
    said.kill(process, 1);
    assert_eq!(told.try_recv(), Err(TryRecvError::Empty), "what came was not right");
}

#[test]
fn a_client_that_is_killed_is_succeeded_by_another_and_nothing_is_missing() {
    // The thread that accepts goes with the program.
    let address = address();
    let mut listener = small().listen(&address).unwrap();
    let start = |name: u32| Process::start("client", &[&address, &name.to_string()]);
    let process = start(1);
    let (sender, receiver) = listener.accept_timeout(PATIENCE).unwrap().split();
    thread::spawn(move || while listener.accept().is_ok() {});
    send_for_ever(sender, 0);
    let told = receive_for_ever(receiver);
    succeed_one_another(process, &told, start);
}

#[test]
fn a_server_that_is_killed_is_succeeded_by_another_and_nothing_is_missing() {
    let place = Place::new();
    let address = place.socket();
    let start = |name: u32| Process::start("server", &[&address, &name.to_string()]);
    let process = start(1);
    eventually("somebody listens", || Path::new(&address).exists());
    let client = loop {
        match small().connect(&address) {
            Ok(client) => break client,
            // Bound, and not listening yet.
            Err(Error::System { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let (sender, receiver) = client.split();
    send_for_ever(sender, 0);
    let told = receive_for_ever(receiver);
    // The socket's file is still there each time.
    succeed_one_another(process, &told, start);
    fs::remove_file(&address).unwrap();
}

/// Receives 10 messages and acknowledges 4.
fn hoarder(args: &[&str]) {
    let mut link = small().connect(args[0]).unwrap();
    for number in 1..=10 {
        assert_eq!(origin(link.recv().unwrap()), (0, number));
        if number == 4 {
            link.ack().unwrap();
        }
    }
    say("received");
    loop {
        thread::park();
    }
}

#[test]
fn what_a_client_has_not_acknowledged_goes_to_its_successor_even_if_it_came_back_before() {
    let address = address();
    let accepting = Accepting::start(small(), &address);
    let mut process = Process::start("hoarder", &[&address]);
    let mut server = accepting.link();
    for number in 1..=12 {
        server.send(&message(0, number)).unwrap();
    }
    process.expect("received");
    assert_eq!(cut_accepted(&address), 1);
    eventually("it is back", || server.metrics().connections == 2);
    process.kill();
    let mut successor = small().connect(&address).unwrap();
    for number in 5..=12 {
        assert_eq!(origin(successor.recv_timeout(PATIENCE).unwrap()), (0, number));
    }
}

#[test]
fn a_peer_that_is_stopped_holds_nobody_up_and_goes_on_where_it_was() {
    in_time("with a peer that is stopped", || {
        let place = Place::new();
        let address = place.socket();
        let mut listener = small().listen(&address).unwrap();
        let process = Process::start("client", &[&address, "1"]);
        let (mut sender, mut receiver) = listener.accept_timeout(PATIENCE).unwrap().split();
        let mut received = Received::default();
        received.take(receiver.recv_timeout(PATIENCE).unwrap());
        process.signal(libc::SIGSTOP);
        // As much as there is room for, and no more.
        let mut sent = 0;
        while sender.send_timeout(&message(0, sent + 1), Duration::from_millis(50)).is_ok() {
            sent += 1;
        }
        assert!(sent > 0);
        while let Ok(bytes) = receiver.recv_timeout(Duration::from_millis(50)) {
            received.take(bytes);
            receiver.ack().unwrap();
        }
        assert_eq!(receiver.metrics().connections, 1, "the connection is the same");
        process.signal(libc::SIGCONT);
        for _ in 0..100 {
            received.take(receiver.recv_timeout(PATIENCE).unwrap());
            receiver.ack().unwrap();
        }
        let mut process = process;
        for number in 1..=sent {
            assert_eq!(process.line(), number.to_string());
        }
    });
}

/// How many descriptors, mappings of links, and threads this process has.
fn holdings() -> (usize, usize, usize) {
    let count = |directory: &str| fs::read_dir(directory).unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|line| line.contains("conduit-up") || line.contains("conduit-down")).count();
    (count("/proc/self/fd"), mapped, count("/proc/self/task"))
}

/// Connects and closes, as often as it is told; says what it has in the end more than at first.
fn cycles(args: &[&str]) {
    let [count] = args else { panic!("count") };
    let address = address();
    let mut listener = Link::options().listen(&address).unwrap();
    let mut cycle = |round: u32| {
        let target = address.clone();
        let connecting = thread::spawn(move || {
            let transport = if round % 3 == 0 { Transport::Socket } else { Transport::SharedMemory };
            let mut client = Link::options().transport(transport).connect(&target).unwrap();
            if round % 2 == 0 {
                client.send(b"hello").unwrap();
            }
            client
        });
        let mut server = listener.accept_timeout(PATIENCE).unwrap();
        let client = connecting.join().unwrap();
        if round % 2 == 0 {
            assert_eq!(server.recv_timeout(PATIENCE).unwrap(), b"hello");
        }
        if round % 4 < 2 { drop((server, client)) } else { drop((client, server)) }
    };
    (0..10).for_each(&mut cycle);
    let before = holdings();
    (0..count.parse().unwrap()).for_each(&mut cycle);
    // A thread that has ended is in the list until the kernel has taken it out.
    let deadline = std::time::Instant::now() + PATIENCE / 2;
    // The reactor may have had a hand on one of the first at that moment.
    let is_more = |now: (usize, usize, usize)| now.0 > before.0 || now.1 > 0 || now.2 > before.2;
    while is_more(holdings()) && std::time::Instant::now() < deadline {
        thread::yield_now();
    }
    let after = holdings();
    say(if is_more(after) { format!("{after:?}, and at first {before:?}") } else { "nothing is left".into() });
}

#[test]
fn many_links_that_come_and_go_leave_no_descriptor_mapping_or_thread() {
    let mut process = Process::start("cycles", &[&rounds(10_000).to_string()]);
    process.expect("nothing is left");
}

/// Connects with one descriptor for the socket and none for the memory.
fn without_descriptors(args: &[&str]) {
    let (tell, told) = mpsc::channel();
    let options = Link::options().on_event(move |event| tell.send(event.clone()).unwrap());
    // The reactor's own are there before.
    drop(Link::options().pair().unwrap());
    let warm = Link::options().connect(args[0]).unwrap();
    drop(warm);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let mut all: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    all.pop();
    let mut link = options.connect(args[0]).unwrap();
    let Event::Transport { transport, why } = told.recv_timeout(PATIENCE).unwrap() else { panic!("it was not told") };
    assert_eq!((transport, link.metrics().transport), (Transport::Socket, Some(Transport::Socket)));
    assert!(why.unwrap().contains("descriptors"));
    link.send(b"over the socket").unwrap();
    say(String::from_utf8_lossy(link.recv().unwrap()));
}

/// Connects without room for the memory in its address space.
fn without_memory(args: &[&str]) {
    let (tell, told) = mpsc::channel();
    let options = Link::options().size(16 << 20).on_event(move |event| tell.send(event.clone()).unwrap());
    drop(Link::options().connect(args[0]).unwrap());
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let most = pages * rustix::param::page_size() as u64 + (12 << 20);
    setrlimit(Resource::As, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
    let mut link = options.connect(args[0]).unwrap();
    let Event::Transport { transport, why } = told.recv_timeout(PATIENCE).unwrap() else { panic!("it was not told") };
    assert_eq!((transport, link.metrics().transport), (Transport::Socket, Some(Transport::Socket)));
    assert!(why.unwrap().contains("mapped"));
    link.send(b"over the socket").unwrap();
    say(String::from_utf8_lossy(link.recv().unwrap()));
}

#[test]
fn without_descriptors_or_memory_a_link_goes_over_the_socket() {
    for role in ["without_descriptors", "without_memory"] {
        let place = Place::new();
        let address = place.socket();
        let mut listener = Link::options().size(16 << 20).listen(&address).unwrap();
        let mut process = Process::start(role, &[&address]);
        drop(listener.accept_timeout(PATIENCE).unwrap());
        let mut server = listener.accept_timeout(PATIENCE).unwrap();
        assert_eq!(server.recv_timeout(PATIENCE).unwrap(), b"over the socket");
        assert_eq!(server.metrics().transport, Some(Transport::Socket), "{role}");
        server.send(b"heard").unwrap();
        process.expect("heard");
    }
}

/// Echoes over what it has inherited.
fn child(_: &[&str]) {
    let mut link = Link::inherited(Link::options()).unwrap().unwrap();
    assert!(Link::inherited(Link::options()).is_none(), "taken");
    while let Ok(bytes) = link.recv() {
        let bytes = bytes.to_vec();
        link.send(&bytes).unwrap();
    }
}

#[test]
fn a_child_has_a_link_to_its_parent_by_inheritance() {
    let (expected, passed) = Link::options().pair().unwrap();
    let mut command = Process::command("child", &[]);
    let process = Process::spawn_by("child", &mut command, |command| passed.spawn(command));
    let again = command.spawn().unwrap_err();
    assert_eq!(again.raw_os_error(), Some(libc::EBADF), "it has nothing more to pass on");
    let mut link = expected.accept().unwrap();
    assert_eq!(link.metrics().transport, Some(Transport::SharedMemory));
    for number in 1..1000 {
        link.send(&message(1, number)).unwrap();
        assert_eq!(link.recv_timeout(PATIENCE).unwrap(), message(1, number));
    }
    process.kill();
    let error = link.recv_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Closed(Ending::Lost)), "{error}");
}
