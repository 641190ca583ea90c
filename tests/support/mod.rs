//! What the tests of topics share: private domains, helper processes, and messages that tell whether they are whole.
#![allow(dead_code)] // Each test program uses a part of it.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::pin::pin;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use conduit::topic::{self, Overflow, Payload, PublisherOptions, SlotKind, SubscriberOptions};
use conduit::{Publisher, Subscriber};

conduit::message! {
    /// Same size as the next, another name.
    pub struct Left: "test_msgs/msg/Left" {
        pub value: f64,
    }
    /// Same size as the one before, another name.
    pub struct Right: "test_msgs/msg/Right" {
        pub value: f64,
    }
}

/// Longest time that anything may take that is promised to happen. Nobody waits that long for what does happen.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Both kinds of slots.
pub const KINDS: [SlotKind; 2] = [SlotKind::Words, SlotKind::Frames];

/// Bytes of a message, where the length doesn't matter.
pub const LEN: usize = 64;

/// `full` repetitions, or the part of them that `CONDUIT_ROUNDS` asks for, in percent; 10 % unless told.
pub fn rounds(full: u32) -> u32 {
    let percent = std::env::var("CONDUIT_ROUNDS").map_or(10, |rounds| rounds.parse().expect("CONDUIT_ROUNDS: percent"));
    (full * percent).div_ceil(100).max(1)
}

/// Whether `CONDUIT_ROUNDS` asks for everything.
pub fn full_size() -> bool {
    rounds(100) >= 100
}

/// Runs `check` until it says yes; panics if it never does. For what follows from something that was waited for, but
/// not at once, such as the end of a process from a signal.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A domain that no other test uses. In the end its topics and nodes must all be free for `clean`, which must leave nothing.
pub struct Domain(String);

impl Domain {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Domain(format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// The file of a topic.
    pub fn file(&self, topic: &str) -> String {
        file_in(&self.0, topic)
    }

    pub fn bytes(&self) -> PublisherOptions<[u8]> {
        Publisher::<[u8]>::options().domain(&self.0)
    }

    pub fn publisher<T: Payload + ?Sized>(&self) -> PublisherOptions<T> {
        Publisher::<T>::options().domain(&self.0)
    }

    /// Messages of `len` bytes at most (Frames), or exactly (Words).
    pub fn publisher_of(&self, slots: SlotKind, len: usize) -> PublisherOptions<[u8]> {
        self.bytes().slots(slots).max_len(len)
    }

    pub fn subscriber(&self) -> SubscriberOptions<[u8]> {
        Subscriber::<[u8]>::options().domain(&self.0)
    }

    pub fn subscriber_of<T: Payload + ?Sized>(&self) -> SubscriberOptions<T> {
        Subscriber::<T>::options().domain(&self.0)
    }

    /// The files in `/dev/shm` that have to do with this domain.
    pub fn files(&self) -> Vec<String> {
        let names = std::fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name().into_string());
        let of_domain = format!("_{}@", self.0);
        names.flatten().filter(|name| name.contains(&of_domain)).collect()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let removed = topic::clean(Some(&self.0), false);
        let nodes = conduit::node::clean(Some(&self.0), false);
        if !std::thread::panicking() {
            for removed in removed.unwrap() {
                assert_eq!(removed.error, None, "{removed:?}");
            }
            for removed in nodes.unwrap() {
                assert_eq!(removed.error, None, "{removed:?}");
            }
            assert_eq!(self.files(), [""; 0], "somebody still has these topics");
        }
    }
}

/// The file of a topic of `domain`.
pub fn file_in(domain: &str, topic: &str) -> String {
    format!("/dev/shm/conduit_{domain}@{}", topic.replace('/', "%2F"))
}

/// A directory that goes with the test.
pub struct Directory(pub std::path::PathBuf);

impl Directory {
    pub fn new(domain: &Domain) -> Self {
        let path = std::env::temp_dir().join(format!("conduit-{}", domain.name()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// One that no disk has to wait for.
    pub fn in_memory(domain: &Domain) -> Self {
        let path = std::path::Path::new("/dev/shm").join(format!("test-{}", domain.name()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Messages

/// The shortest message that [`fill`] can make.
pub const SHORTEST: usize = 24;

/// Writes message number `sequence` over `bytes`: its number, noise, and at the end a checksum of it all.
pub fn fill(bytes: &mut [u8], sequence: u64) {
    assert!(bytes.len() >= SHORTEST);
    let mut noise = Noise::new(sequence);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&noise.next().to_le_bytes()[..chunk.len()]);
    }
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    let (body, sum) = bytes.split_last_chunk_mut::<8>().unwrap();
    *sum = checksum(body).to_le_bytes();
}

/// Message number `sequence` with `len` bytes.
pub fn message(len: usize, sequence: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, sequence);
    bytes
}

/// The number of a whole message; `Err` if it is torn.
pub fn number(bytes: &[u8]) -> Result<u64, String> {
    let Some((body, sum)) = bytes.split_last_chunk::<8>().filter(|_| bytes.len() >= SHORTEST) else {
        return Err(format!("a message of {} bytes", bytes.len()));
    };
    let number = u64::from_le_bytes(*body.first_chunk().unwrap());
    if checksum(body) != u64::from_le_bytes(*sum) {
        return Err(format!("message {number} of {} bytes is torn", bytes.len()));
    }
    Ok(number)
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = 0x9e37_79b9_7f4a_7c15 ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        sum ^= sum >> 32;
    }
    sum
}

/// Options of a topic of domain `domain` with slots of the kind that is called `kind`.
pub fn options(domain: &str, kind: &str) -> PublisherOptions<[u8]> {
    Publisher::<[u8]>::options().domain(domain).slots(kind_of(kind)).max_len(LEN)
}

/// Publishes `count` messages of the greatest length, each of which carries its number. Returns the number of the last.
pub fn publish(publisher: &mut Publisher<[u8]>, count: u64) -> u64 {
    let len = publisher.geometry().max_len as usize;
    for _ in 0..count {
        let sequence = publisher.next_sequence();
        assert_eq!(publisher.publish(&message(len, sequence)).unwrap(), sequence);
    }
    publisher.next_sequence().wrapping_sub(1)
}

/// Receives the next message, which must come and be whole.
pub fn receive(subscriber: &mut Subscriber<[u8]>, stream: &mut Stream) {
    let sample = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message");
    stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
}

/// Receives all there is; each message must be whole and every loss counted.
pub fn drain(subscriber: &mut Subscriber<[u8]>, stream: &mut Stream) {
    // Lapped again and again, a call may report a loss and no message.
    while subscriber.lag() > 0 {
        while let Some(sample) = subscriber.try_recv().unwrap() {
            stream.take(sample.sequence(), sample.lagged(), &sample).unwrap();
        }
    }
}

/// A stream of numbers that look random and are the same for the same seed.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03)
    }

    /// A seed that is another one in each run, told so that the run can be had again.
    pub fn seeded(what: &str) -> Self {
        let seed = std::env::var("CONDUIT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            time.as_nanos() as u64
        });
        eprintln!("{what}: CONDUIT_SEED={seed}");
        Noise::new(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to `below - 1`.
    pub fn below(&mut self, below: u64) -> u64 {
        (self.next() >> 16) % below
    }
}

/// Checks what one subscriber receives: whole messages, in order, none twice, and every loss counted.
#[derive(Debug, Default)]
pub struct Stream {
    /// The number of the next message that was not reported lost.
    pub expected: Option<u64>,
    pub received: u64,
    pub lost: u64,
}

impl Stream {
    /// A stream that must begin with message `first`, or report what is missing.
    pub fn from(first: u64) -> Self {
        Stream { expected: Some(first), ..Stream::default() }
    }

    /// Takes in a message whose payload was made by [`fill`] with its sequence.
    pub fn take(&mut self, sequence: u64, lagged: u64, bytes: &[u8]) -> Result<(), String> {
        let number = number(bytes)?;
        if number != sequence {
            return Err(format!("message {number} came as number {sequence}"));
        }
        self.count(sequence, lagged)
    }

    /// Takes in a message whose payload says nothing.
    pub fn count(&mut self, sequence: u64, lagged: u64) -> Result<(), String> {
        if let Some(expected) = self.expected {
            if sequence < expected {
                return Err(format!("message {sequence} after {expected} was due: again, or backwards"));
            }
            if expected + lagged != sequence {
                return Err(format!("message {sequence} with {lagged} reported lost, {expected} was due"));
            }
        }
        self.expected = Some(sequence + 1);
        self.received += 1;
        self.lost += lagged;
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Processes

const ROLE: &str = "CONDUIT_TEST_ROLE";

/// A process that runs one of this program's roles. Killed when dropped.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    role: String,
}

impl Process {
    /// Starts this test program again, as `role`.
    pub fn start(role: &str, args: &[&str]) -> Self {
        Self::spawn(role, Self::command(role, args))
    }

    /// What [`start`](Process::start) runs.
    pub fn command(role: &str, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self::arguments(&mut command, role, args);
        command
    }

    /// Started by `wrapper`, a program that takes a command line as its last arguments.
    pub fn wrapped(wrapper: &[&str], role: &str, args: &[&str]) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(std::env::current_exe().unwrap());
        Self::arguments(&mut command, role, args);
        command
    }

    /// Has `command`, which runs a test program, run one of its roles.
    pub fn arguments(command: &mut Command, role: &str, args: &[&str]) {
        command.args(["helper_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, [&[role], args].concat().join("\n"));
    }

    pub fn spawn(role: &str, mut command: Command) -> Self {
        Self::spawn_by(role, &mut command, Command::spawn)
    }

    /// Started by `spawn`, which may have more to do with it.
    pub fn spawn_by(
        role: &str,
        command: &mut Command,
        spawn: impl FnOnce(&mut Command) -> std::io::Result<Child>,
    ) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The rest is the test harness talking.
                if let Some(line) = line.strip_prefix('@') {
                    if sender.send(line.to_owned()).is_err() {
                        return;
                    }
                }
            }
        });
        Process { child, stdin, lines, role: role.into() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that the process says; `None` when it ended without one.
    pub fn try_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} is silent: {}", self.role, self.status()),
        }
    }

    /// The next line that the process says.
    pub fn line(&mut self) -> String {
        match self.try_line() {
            Some(line) => line,
            None => panic!("{} ended: {}", self.role, self.child.wait().unwrap()),
        }
    }

    /// A line that the process has said already.
    pub fn line_now(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// The next line must be this one.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line, "{}", self.role);
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap_or_else(|error| panic!("{}: {error}", self.role));
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.line()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the process was not waited for, so its number is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// `kill -9`; returns when the process is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes the process's standard input; it must end well.
    pub fn finish(mut self) {
        let status = self.end();
        assert!(status.success(), "{}: {status}", self.role);
    }

    /// Closes the process's standard input and waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end: {}", self.role, self.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Where the process hangs, for a person to read.
    fn status(&self) -> String {
        let at = format!("/proc/{}", self.child.id());
        let read = |name: &str| std::fs::read_to_string(format!("{at}/{name}")).unwrap_or_default();
        format!("{}{}", read("wchan"), read("stack"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process can be started as: a name, and what it does with its arguments.
pub type Role<'a> = (&'a str, fn(&[&str]));

/// The body of each test program's `helper_process`: runs the role that this process was started as, if any.
pub fn run_role(roles: &[Role]) {
    let Ok(line) = std::env::var(ROLE) else { return };
    // SAFETY: no memory involved. Whatever becomes of the test, its helpers go with it.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let mut words = line.split('\n');
    let wanted = words.next().unwrap();
    let (_, role) = roles.iter().find(|(name, _)| *name == wanted).unwrap_or_else(|| panic!("no role {wanted}"));
    role(&words.collect::<Vec<_>>());
    std::process::exit(0);
}

/// Says a line to the process that started this one.
pub fn say(line: impl std::fmt::Display) {
    let line = format!("\n@{line}\n");
    let mut stdout = std::io::stdout().lock();
    // Nobody listens any more: this process is about to be ended.
    let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
}

/// The next line from the process that started this one; `None` when there will be no more.
pub fn hear() -> Option<String> {
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end().into()),
    }
}

/// `words` or `frames`, for command lines.
pub fn kind_name(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Words => "words",
        SlotKind::Frames => "frames",
    }
}

pub fn kind_of(name: &str) -> SlotKind {
    KINDS.into_iter().find(|&kind| kind_name(kind) == name).unwrap_or_else(|| panic!("no kind of slots: {name}"))
}

pub fn overflow_name(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Overwrite => "overwrite",
        Overflow::Block => "block",
        Overflow::Reject => "reject",
    }
}

pub fn overflow_of(name: &str) -> Overflow {
    let all = [Overflow::Overwrite, Overflow::Block, Overflow::Reject];
    all.into_iter().find(|&mode| overflow_name(mode) == name).unwrap_or_else(|| panic!("no overflow mode: {name}"))
}

/// The number of this thread, for [`is_asleep`] and [`switches`].
pub fn thread_id() -> u64 {
    // SAFETY: no memory involved.
    unsafe { libc::syscall(libc::SYS_gettid) as u64 }
}

/// Whether a thread of this process sleeps.
pub fn is_asleep(thread: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().starts_with('S')
}

/// How long nothing may happen: 5 s at full size.
pub fn watch_time() -> Duration {
    Duration::from_millis(u64::from(rounds(5000)))
}

/// Voluntary context switches of all threads of a process, and whether all of them sleep.
pub fn switches_of(pid: u32) -> (u64, bool) {
    let mut voluntary = 0;
    let mut asleep = true;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for line in status.lines() {
            if let Some(count) = line.strip_prefix("voluntary_ctxt_switches:") {
                voluntary += count.trim().parse::<u64>().unwrap();
            }
            if let Some(state) = line.strip_prefix("State:") {
                asleep &= state.trim().starts_with('S');
            }
        }
    }
    (voluntary, asleep)
}

/// The switches of a process once all of its threads sleep and go on sleeping.
pub fn settled(pid: u32) -> u64 {
    let mut last = (0, false);
    eventually("all of its threads sleep", || {
        let now = switches_of(pid);
        let settled = now == last && now.1;
        last = now;
        if !settled {
            // The next look comes long after anything that was under way.
            thread::sleep(Duration::from_millis(20));
        }
        settled
    });
    last.0
}

/// Runs `body` in a thread; panics if it takes longer than [`PATIENCE`].
pub fn in_time<R: Send + 'static>(what: &str, body: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, result) = channel();
    let thread = std::thread::spawn(move || {
        let _ = sender.send(body());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("{what}: hangs"),
        Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Opens a topic as its publisher until the parent has enough.
pub fn hold(args: &[&str]) {
    let mut options = Publisher::<[u8]>::options();
    if !args[0].is_empty() {
        options = options.domain(args[0]);
    }
    let _publisher = options.open(args[1]).unwrap();
    say("open");
    while hear().is_some() {}
}

/// Wakes a thread that is parked.
pub struct Unpark(pub thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime there is: one task, one thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
