//! What a listener promises where other sockets are, or were, at its address, and of whoever connects there.
#![cfg(feature = "std")]

mod links;
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use conduit::link::{Allow, Ending, Error, Event, Link};
use links::{Place, address, at_once, cut};
use support::{PATIENCE, Process, rounds, say};

#[test]
#[ignore = "a role that the tests of this program start"]
fn helper_process() {
    support::run_role(&[("listener", listener), ("stranger", stranger)]);
}

/// Binds a socket there and is killed.
fn listener(args: &[&str]) {
    let _listener = Link::options().listen(args[0]).unwrap();
    say("listening");
    loop {
        thread::park();
    }
}

fn left_by_the_dead(address: &str) {
    let mut process = Process::start("listener", &[address]);
    process.expect("listening");
    process.kill();
    assert!(fs::symlink_metadata(address).unwrap().file_type().is_socket());
}

#[test]
fn a_stale_socket_is_taken_over_and_a_live_one_or_another_file_is_left_alone() {
    let place = Place::new();
    let address = place.socket();
    left_by_the_dead(&address);
    let listener = Link::options().listen(&address).unwrap();
    assert_eq!(fs::symlink_metadata(&address).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Link::options().listen(&address), Err(Error::InUse { .. })));
    drop(listener);
    assert!(!Path::new(&address).exists());

    fs::write(&address, "mine").unwrap();
    assert!(matches!(Link::options().listen(&address), Err(Error::NotASocket { .. })));
    assert_eq!(fs::read(&address).unwrap(), b"mine");
    fs::remove_file(&address).unwrap();

    // One that is not a link's, and alive.
    let other = UnixListener::bind(&address).unwrap();
    assert!(matches!(Link::options().listen(&address), Err(Error::InUse { .. })));
    drop(other);
    let _listener = Link::options().listen(&address).unwrap();
}

#[test]
fn of_many_that_find_a_stale_socket_one_gets_it() {
    let place = Place::new();
    let address = place.socket();
    for _ in 0..rounds(2000) {
        // Its file stays.
        drop(UnixListener::bind(&address).unwrap());
        let start = std::sync::Barrier::new(4);
        let listening: Vec<_> = thread::scope(|threads| {
            let all: Vec<_> = (0..4)
                .map(|_| {
                    threads.spawn(|| {
                        start.wait();
                        Link::options().listen(&address)
                    })
                })
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let found = listening.iter().filter(|listener| listener.is_ok()).count();
        assert_eq!(found, 1, "{listening:?}");
        let mut listener = listening.into_iter().find_map(Result::ok).unwrap();
        let target = address.clone();
        let connecting = thread::spawn(move || Link::connect(&target).map(drop));
        let accepted = listener.accept_timeout(Duration::from_secs(3));
        connecting.join().unwrap().unwrap();
        drop(accepted.unwrap());
    }
}

#[test]
fn a_socket_that_was_swapped_is_another_peer_and_says_so() {
    let place = Place::new();
    let address = place.socket();
    let small = || Link::options().session(*b"a swapped socket").reconnect(at_once());
    let mut first = small().listen(&address).unwrap();
    let (tell, told) = mpsc::channel();
    let options = small().on_event(move |event| tell.send(event.clone()).unwrap());
    let target = address.clone();
    let connecting = thread::spawn(move || options.connect(&target).unwrap());
    let _server = first.accept_timeout(PATIENCE).unwrap();
    let mut client = connecting.join().unwrap();
    client.send(b"to whoever is there").unwrap();
    fs::rename(&address, place.0.join("aside")).unwrap();
    let mut second = small().listen(&address).unwrap();
    drop(first);
    assert!(Path::new(&address).exists(), "the second one's");
    assert_eq!(cut(&address), 1);
    let mut server = second.accept_timeout(PATIENCE).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Event::Disconnected(Ending::Lost));
    let event = told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(event, Event::Reconnected { same_peer: false, .. }), "{event:?}");
    assert_eq!(server.recv_timeout(PATIENCE).unwrap(), b"to whoever is there");
    server.send(b"from the second").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), b"from the second");
}

/// As another user: connects where it is told, and listens there.
fn stranger(args: &[&str]) {
    let [theirs, own] = args else { panic!("two addresses") };
    rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
    let refused = Link::options().allow(Allow::Anyone).connect(theirs);
    say(refused.is_err());
    let mut listener = Link::options().allow(Allow::Anyone).listen(own).unwrap();
    say("listening");
    let _ = listener.accept();
}

#[test]
fn another_users_process_is_refused_on_either_side_unless_it_is_allowed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let [theirs, own] = [address(), address()];
    let (tell, told) = mpsc::channel();
    let options = Link::options().on_event(move |event| tell.send(event.clone()).unwrap());
    let mut listener = options.listen(&theirs).unwrap();
    let accepting = thread::spawn(move || listener.accept_timeout(Duration::from_millis(500)).map(drop));
    let mut process = Process::start("stranger", &[&theirs, &own]);
    let Event::Error(error) = told.recv_timeout(PATIENCE).unwrap() else { panic!("no error") };
    assert!(error.contains("65534"), "{error}");
    process.expect("true");
    assert!(matches!(accepting.join().unwrap(), Err(Error::TimedOut)), "it was refused, and not taken in");
    process.expect("listening");
    let error = Link::connect(&own).unwrap_err();
    assert!(matches!(error, Error::PeerNotAllowed { uid: 65534, .. }), "{error}");
    Link::options().allow(Allow::Users(vec![65534])).connect(&own).unwrap();
}

#[test]
fn whoever_says_nothing_keeps_nobody_waiting() {
    let place = Place::new();
    let address = place.socket();
    let options = Link::options().handshake_timeout(Duration::from_secs(3600));
    let mut listener = options.listen(&address).unwrap();
    let mut silent: Vec<_> = (0..50).map(|_| UnixStream::connect(&address).unwrap()).collect();
    // Some say half of something, and some say nonsense.
    for (number, stream) in silent.iter_mut().enumerate() {
        let words: &[&[u8]] = &[b"", b"\x50\0\0\0", b"GET / HTTP/1.1\r\n\r\n", &[0xFF; 100]];
        stream.write_all(words[number % words.len()]).unwrap();
    }
    let target = address.clone();
    let connecting = thread::spawn(move || Link::connect(&target).unwrap());
    let mut server = listener.accept_timeout(PATIENCE).unwrap();
    let mut client = connecting.join().unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(server.recv_timeout(PATIENCE).unwrap(), b"hello");
}

#[test]
fn more_that_connect_at_a_time_than_may_wait_have_their_links_all_the_same() {
    const ALL: usize = 300;
    let address = address();
    let mut listener = Link::options().listen(&address).unwrap();
    let connecting: Vec<_> = (0..ALL)
        .map(|_| {
            let address = address.clone();
            let options = Link::options().size(4096).handshake_timeout(PATIENCE);
            thread::spawn(move || options.connect(&address).map(drop))
        })
        .collect();
    for _ in 0..ALL {
        drop(listener.accept_timeout(PATIENCE).unwrap());
    }
    for one in connecting {
        one.join().unwrap().unwrap();
    }
}
