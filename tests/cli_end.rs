//! How commands end: on Ctrl-C, when nobody reads their output any longer, and when whoever reads it is stuck.
#![cfg(feature = "cli")]

mod cli;
mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cli::{Cli, Running, code};
use support::{PATIENCE, eventually};

/// Sends a signal and waits for the end; it must not take long. On an idle machine it takes a millisecond.
#[track_caller]
fn interrupt(running: Running, signal: i32) -> cli::Ended {
    let start = Instant::now();
    running.signal(signal);
    let ended = running.end();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}: {ended:?}", start.elapsed());
    ended
}

#[test]
fn an_interruption_with_nothing_done_exits_with_130() {
    let cli = Cli::new();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut echo = cli.start(&["echo", "t"]);
        echo.note("waiting for topic t");
        assert_eq!(interrupt(echo, signal).code(130).out, "");
        let mut hz = cli.start(&["hz", "t"]);
        hz.note("waiting for topic t");
        interrupt(hz, signal).code(130);
    }
}

#[test]
fn an_interruption_after_that_is_a_regular_end() {
    let cli = Cli::new();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut publisher = cli.domain.bytes().open("t").unwrap();
        publisher.publish(b"x").unwrap();
        let mut echo = cli.start(&["echo", "t", "--history", "--json"]);
        echo.line();
        interrupt(echo, signal).code(0);
        publisher.remove().unwrap();
    }
}

#[test]
fn an_interrupted_publisher_closes_its_topic() {
    let cli = Cli::new();
    let mut subscriber = cli.domain.subscriber();
    let publishing = cli.start(&["pub", "t", "x", "--rate", "200"]);
    subscriber = subscriber.wait(PATIENCE);
    let mut subscriber = subscriber.open("t").unwrap();
    subscriber.recv_timeout(PATIENCE).unwrap().unwrap();
    let ended = interrupt(publishing, libc::SIGINT).code(0);
    assert!(ended.err.contains("published "), "{ended:?}");
    assert_eq!(subscriber.publisher(), conduit::topic::WriterState::Closed);
}

#[test]
fn a_publisher_that_waits_for_input_or_for_room_can_be_interrupted() {
    let cli = Cli::new();
    let mut command = cli.command(&["pub", "t", "-"]);
    let mut waiting = Running::start(command.stdin(Stdio::piped()));
    let stdin = waiting.child.stdin.take();
    // Signals are blocked before anything is read, so that one that is sent now is not lost.
    eventually("it has blocked the signals", || blocks_signals(waiting.child.id()));
    interrupt(waiting, libc::SIGINT).code(130);
    drop(stdin);

    let options = cli.domain.bytes().depth(4).overflow(conduit::topic::Overflow::Block);
    drop(options.open("full").unwrap());
    let mut subscriber = cli.domain.subscriber().open("full").unwrap();
    let look = || conduit::topic::inspect(Some(cli.domain.name()), "full").unwrap();
    for (round, signal) in [(1, libc::SIGINT), (2, libc::SIGTERM)] {
        let blocked = cli.start(&["pub", "full", "x", "-n", "1000", "--json"]);
        eventually("it waits for room", || look().blocked >= round);
        let ended = interrupt(blocked, signal).code(0).json();
        assert_eq!(subscriber.publisher(), conduit::topic::WriterState::Closed);
        let mut received = 0;
        while subscriber.try_recv().unwrap().is_some() {
            received += 1;
        }
        assert_eq!(ended["published"], received, "what it tells is what it published");
    }
    // Nothing was published since the topic is full: with nothing done, that is another exit code.
    let mut publisher = cli.domain.bytes().depth(4).overflow(conduit::topic::Overflow::Block).open("full").unwrap();
    while publisher.publish_timeout(b"x", Duration::ZERO).is_ok() {}
    drop(publisher);
    let (blocked, rejected) = (look().blocked, look().rejected);
    let waiting = cli.start(&["pub", "full", "x"]);
    eventually("it waits for room", || look().blocked > blocked);
    let ended = interrupt(waiting, libc::SIGINT).code(130);
    assert_eq!((ended.err.as_str(), look().rejected), ("", rejected));
    assert_eq!(subscriber.publisher(), conduit::topic::WriterState::Closed);
}

#[test]
fn a_publisher_that_finds_room_soon_after_an_interruption_closes_its_topic() {
    let cli = Cli::new();
    drop(cli.domain.bytes().depth(4).overflow(conduit::topic::Overflow::Block).open("t").unwrap());
    let mut subscriber = cli.domain.subscriber().open("t").unwrap();
    let blocked = cli.start(&["pub", "t", "x", "-n", "1000"]);
    eventually("it waits for room", || conduit::topic::inspect(Some(cli.domain.name()), "t").unwrap().blocked > 0);
    blocked.signal(libc::SIGINT);
    // It may end before it has seen all of these, but not before some.
    while subscriber.publisher() == conduit::topic::WriterState::Alive {
        subscriber.recv_timeout(Duration::from_millis(1)).unwrap();
    }
    let ended = blocked.end().code(0);
    assert_eq!(ended.err.matches("published ").count(), 1, "{ended:?}");
    assert_eq!(subscriber.publisher(), conduit::topic::WriterState::Closed);
}

/// Whether a process blocks SIGINT.
fn blocks_signals(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (libc::SIGINT - 1)) != 0)
}

#[test]
fn a_command_ends_when_nobody_reads_its_output_even_if_nothing_more_comes() {
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().open("t").unwrap();
    publisher.publish(b"x").unwrap();
    for args in [&["echo", "t", "--history"][..], &["hz", "t", "--json"], &["topics", "--watch"]] {
        let mut child = cli.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{args:?}");
        drop(out);
        // Nothing is published meanwhile: it is the other end that it hears of.
        assert_eq!(code(child.wait().unwrap()), 0, "{args:?}");
    }
}

#[test]
fn a_command_that_writes_into_a_closed_pipe_ends_without_a_word() {
    let cli = Cli::new();
    let names: Vec<String> = (0..20).map(|at| format!("t{at}")).collect();
    let mut publishers: Vec<_> = names.iter().map(|name| cli.domain.bytes().open(name).unwrap()).collect();
    publishers.iter_mut().for_each(|publisher| drop(publisher.publish(&[1; 4096])));
    for args in [
        &["topics", "--long"][..],
        &["topics", "--json"],
        &["info", "*"],
        &["echo", "*", "--history", "-n", "20"],
        &["doctor"],
        &["completions", "bash"],
        &["clean", "--dry-run"],
        &["demo", "--duration", "500ms"],
    ] {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        let mut child = cli.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let ended = code(child.wait().unwrap());
        let expected = if args[0] == "clean" { vec![0] } else { vec![0, 3] };
        assert!(expected.contains(&ended), "{args:?}: {ended}, {said}");
        assert!(!said.contains("panicked") && !said.contains("Broken pipe"), "{args:?}: {said}");
    }
}

#[test]
fn a_command_whose_reader_is_stuck_can_still_be_interrupted() {
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().depth(200).open("t").unwrap();
    // In hex, lines that repeat the one before would be left out.
    let message: Vec<u8> = (0..4096u32).map(|at| (at * 7 / 16) as u8).collect();
    for _ in 0..200 {
        publisher.publish(&message).unwrap();
    }
    for format in ["raw", "hex", "json"] {
        let mut command = cli.command(&["echo", "t", "--history", "--format", format]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        // A pipe that nobody reads takes 64 KiB, by default.
        eventually("the pipe is full", || unread(&out) >= 60_000);
        // SAFETY: takes integers only; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
        let start = Instant::now();
        assert_eq!(code(child.wait().unwrap()), 0, "{format}: it has shown something");
        assert!(start.elapsed() < Duration::from_secs(5), "{format}: {:?}", start.elapsed());
    }
}

/// How many bytes are in a pipe.
fn unread(pipe: &impl AsRawFd) -> i32 {
    let mut count = 0;
    // SAFETY: writes an integer, for an open file.
    assert_eq!(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut count) }, 0);
    count
}
