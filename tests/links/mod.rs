//! What the tests of links share: addresses, ends, a listener that goes on, and connections that are cut.
#![allow(dead_code)] // Each test program uses a part of it.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use conduit::link::{Error, Link, Options, Reconnect};
use rustix::net::{Shutdown, SocketAddrAny, SocketAddrUnix, getpeername, getsockname, shutdown};

/// Longest time that anything may take that is promised to happen.
pub const SOON: Duration = Duration::from_secs(60);

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An address that nobody else has.
pub fn address() -> String {
    format!("@conduit-test-{}-{}", std::process::id(), next())
}

/// A directory for a socket, taken away in the end, when no socket must be left in it.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("conduit-link-{}-{}", std::process::id(), next()));
        fs::create_dir(&path).unwrap();
        Place(path)
    }

    pub fn socket(&self) -> String {
        self.0.join("socket").to_str().unwrap().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        fs::remove_dir_all(&self.0).unwrap();
        assert!(thread::panicking() || left.iter().all(|name| name != "socket"), "{left:?} is left behind");
    }
}

/// Two ends, the server's first.
pub fn ends(server: Options, client: Options) -> (Link, Link) {
    let address = address();
    let mut listener = server.listen(&address).unwrap();
    let connecting = thread::spawn(move || client.connect(&address).unwrap());
    let server = listener.accept_timeout(SOON).unwrap();
    (server, connecting.join().unwrap())
}

/// A message that is another one than those beside it.
pub fn message(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at) as u8).collect()
}

/// Comes back at once, as often as it takes.
pub fn at_once() -> Reconnect {
    Reconnect { attempts: 100_000, delay: Duration::from_millis(1), ..Reconnect::default() }
}

/// Accepts until it is dropped; hands on each new link.
pub struct Accepting {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub links: mpsc::Receiver<Link>,
}

impl Accepting {
    pub fn start(options: Options, address: &str) -> Self {
        let mut listener = options.listen(address).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, links) = mpsc::channel();
        let is_stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !is_stopped.load(Ordering::Relaxed) {
                match listener.accept_timeout(Duration::from_millis(20)) {
                    Ok(link) => tell.send(link).unwrap(),
                    Err(error) => assert!(matches!(error, Error::TimedOut), "{error}"),
                }
            }
        });
        Accepting { stop, thread: Some(thread), links }
    }

    pub fn link(&self) -> Link {
        self.links.recv_timeout(SOON).unwrap()
    }
}

/// Behind this nobody listens.
impl Drop for Accepting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.take().unwrap().join();
        assert!(outcome.is_ok() || thread::panicking(), "the listener has failed");
    }
}

/// Cuts the connections of this process to `address`, at the client's ends; returns how many there were.
pub fn cut(address: &str) -> usize {
    cut_if(address, |socket| getpeername(socket).ok().flatten())
}

/// As [`cut`], at the ends that a listener of this process has accepted.
pub fn cut_accepted(address: &str) -> usize {
    // What has no peer is the listener's own.
    cut_if(address, |socket| getpeername(socket).and_then(|_| getsockname(socket)).ok())
}

fn cut_if(address: &str, place: impl Fn(&OwnedFd) -> Option<SocketAddrAny>) -> usize {
    let name = match address.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        None => SocketAddrUnix::new(address),
    };
    let name = name.unwrap();
    let mut cut = 0;
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let Ok(number) = entry.unwrap().file_name().to_str().unwrap().parse::<i32>() else { continue };
        // SAFETY: of a number that is closed meanwhile, `dup` makes nothing.
        let Ok(file) = rustix::io::dup(unsafe { BorrowedFd::borrow_raw(number) }) else { continue };
        let is_it = place(&file).is_some_and(|place| SocketAddrUnix::try_from(place).is_ok_and(|place| place == name));
        cut += usize::from(is_it && shutdown(&file, Shutdown::Both).is_ok());
    }
    cut
}

/// Cuts them again and again while `body` runs; there must be some to cut.
pub fn while_cutting(address: &str, body: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let cutting = threads.spawn(|| {
            let mut cuts = 0;
            while !done.load(Ordering::Relaxed) {
                cuts += cut(address);
                thread::sleep(Duration::from_millis(2));
            }
            cuts
        });
        let start = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        done.store(true, Ordering::Relaxed);
        let cuts = cutting.join().unwrap();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(cuts > 0, "nothing was cut");
        // Whoever waits for that long at most finds what it waits for in the end, woken or not.
        assert!(start.elapsed() < SOON, "somebody was not woken");
    })
}
