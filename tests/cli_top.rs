//! `top`: what topics and the lanes of a daemon do now, and one line where there is no daemon.
#![cfg(all(feature = "cli", feature = "net"))]

mod cli;
mod support;
mod wire;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cli::daemon::Daemon;
use cli::{Cli, Running};
use conduit::frame::Priority;
use serde_json::Value;
use wire::{Wire, encoded, event};

/// Between what goes on.
const PACE: Duration = Duration::from_micros(500);

/// Something that goes on in a thread until it is dropped.
struct GoesOn(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl GoesOn {
    fn start(mut each: impl FnMut() + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                each();
                // The processors are the tests' beside it, too.
                std::thread::park_timeout(PACE);
            }
        });
        GoesOn(over, Some(thread))
    }
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let ended = self.1.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// Publishes five bytes at a time.
fn publishes(cli: &Cli, topic: &str) -> GoesOn {
    let mut publisher = cli.domain.bytes().open(topic).unwrap();
    GoesOn::start(move || {
        publisher.publish(b"hello").unwrap();
    })
}

/// Where nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn topic<'a>(frame: &'a Value, topic: &str) -> &'a Value {
    let topics = frame["topics"].as_array().unwrap();
    topics.iter().find(|row| row["topic"] == topic).unwrap_or(&Value::Null)
}

#[test]
fn topics_and_lanes_are_told_as_they_go() {
    let cli = Cli::new();
    let daemon = Daemon::start(&cli, &[]);
    let _publishes = publishes(&cli, "imu");
    let mut wire = Wire::introduced(daemon.tcp, *b"a test's client!");
    let mut sequence = 0;
    let _sends = GoesOn::start(move || {
        sequence += 1;
        wire.send(&encoded(&event("events/in", sequence, Priority::High, b"payload")));
        wire.until(|wire| wire.status(sequence).is_some());
        // The same again.
        wire.send(&encoded(&event("events/in", sequence, Priority::High, b"payload")));
        wire.answers.clear();
        wire.until(|wire| wire.status(sequence).is_some());
    });
    let metrics = daemon.metrics.to_string();
    let mut running = cli.start(&["top", "--json", "--interval", "100ms", "--metrics", &metrics]);
    let frame = loop {
        let frame = running.json_line();
        let is_there = topic(&frame, "events/in")["rate"].as_f64().is_some_and(|rate| rate > 0.0);
        if is_there && frame["daemon"]["lanes"][0]["latency_ns"]["p99"]["at_most"].is_u64() {
            break frame;
        }
    };
    let imu = topic(&frame, "imu");
    let (rate, bytes) = (imu["rate"].as_f64().unwrap(), imu["bytes_per_second"].as_f64().unwrap());
    assert!(rate > 0.0 && (bytes / rate - 5.0).abs() < 1e-6, "{frame}");
    assert_eq!((&imu["publisher"], &imu["subscribers"]), (&"alive".into(), &0.into()), "{frame}");
    let told = &frame["daemon"];
    for name in ["received", "accepted", "duplicate"] {
        assert!(told["per_second"][name].as_f64().unwrap() > 0.0, "{name}: {frame}");
    }
    for name in ["throttled", "dropped", "dead_lettered"] {
        assert_eq!(told["per_second"][name], 0.0, "{name}: {frame}");
    }
    let lane = &told["lanes"][0];
    assert_eq!(
        (&lane["lane"], &lane["state"], &lane["capacity"]),
        (&"realtime".into(), &"running".into(), &16384.into())
    );
    assert!(lane["rate"].as_f64().unwrap() > 0.0 && lane["late_ratio"].is_f64(), "{frame}");
    assert_eq!((&told["connections"], told["lanes"].as_array().unwrap().len()), (&1.into(), 3));
    running.signal(libc::SIGINT);
    running.end().code(0);
}

#[test]
fn who_is_behind_and_what_is_lost_is_told() {
    let cli = Cli::new();
    let publishing = publishes(&cli, "fast");
    let _slow = cli.domain.subscriber().open("fast").unwrap();
    let none = nobody();
    let mut running = cli.start(&["top", "fast", "--json", "--interval", "50ms", "--metrics", &none]);
    loop {
        let frame = running.json_line();
        let fast = topic(&frame, "fast");
        if fast["subscribers"] == 1 && fast["lag"].as_u64().unwrap() > 0 {
            break;
        }
    }
    drop(publishing);
    while topic(&running.json_line(), "fast")["publisher"] == "alive" {}
}

#[test]
fn without_a_daemon_topics_are_told_and_that_there_is_none_in_one_line() {
    let cli = Cli::new();
    let _publishes = (publishes(&cli, "sensors/imu"), publishes(&cli, "other"));
    let none = nobody();
    let told = cli.run(&["top", "--once", "--interval", "50ms", "--metrics", &none]).code(0);
    let lines = told.lines();
    let begins: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(begins, ["TOPIC", "other", "sensors/imu", "", "no"], "{told:?}");
    assert_eq!(lines[4], format!("no daemon's metrics at {none}: nobody listens"));
    assert!(lines[1].contains("Hz") && told.err.is_empty(), "{told:?}");
    let some = cli.run(&["top", "sensors/*", "-n", "3", "--interval", "50ms", "--metrics", &none, "--json"]).code(0);
    let frames = some.json_lines();
    assert_eq!(frames.len(), 3);
    for frame in frames {
        assert_eq!(
            (frame["topics"].as_array().unwrap().len(), &frame["daemon"]["error"]),
            (1, &"nobody listens".into())
        );
    }
}

#[test]
fn a_topic_that_comes_is_told_and_one_that_goes_is_not() {
    let cli = Cli::new();
    let none = nobody();
    let mut running = cli.start(&["top", "--json", "--interval", "50ms", "--metrics", &none]);
    assert_eq!(running.json_line()["topics"], Value::Array(Vec::new()));
    let publishing = publishes(&cli, "late");
    while topic(&running.json_line(), "late")["rate"].as_f64().is_none_or(|rate| rate == 0.0) {}
    drop(publishing);
    cli.run(&["clean", "late"]).code(0);
    while !topic(&running.json_line(), "late").is_null() {}
}

#[test]
fn whoever_listens_there_keeps_nothing_waiting_and_is_not_believed() {
    let cli = Cli::new();
    let _publishes = publishes(&cli, "imu");
    for (answer, reason) in [
        (None, "no answer in 1s"),
        (Some("SSH-2.0-OpenSSH_9.9\r\n"), "no answer in HTTP"),
        (Some("HTTP/1.1 404 Not Found\r\n\r\n"), "HTTP status 404"),
        (Some("HTTP/1.1 200 OK\r\n\r\n<html>"), "no metrics: line 1: no name of a metric"),
        (Some("HTTP/1.1 200 OK\r\n\r\nup 1\n# EOF\n"), "its metrics tell of no lanes"),
        (Some("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nup 1\n"), "the answer was cut"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // The first look and the one that is shown.
        let answers = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let Some(answer) = answer else {
                    kept.push(stream);
                    continue;
                };
                let mut asked = [0; 1024];
                assert!(stream.read(&mut asked).unwrap() > 0 && asked.starts_with(b"GET /metrics HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
            kept
        });
        let told = cli.run(&["top", "--once", "--json", "--interval", "50ms", "--metrics", &address]).code(0).json();
        assert_eq!(told["daemon"]["error"], reason);
        assert!(topic(&told, "imu")["rate"].as_f64().unwrap() > 0.0);
        drop(answers.join().unwrap());
    }
}

#[test]
fn on_a_terminal_it_is_drawn_in_place_and_fits() {
    let cli = Cli::new();
    let daemon = Daemon::start(&cli, &[]);
    let _publishes: Vec<_> = (0..30).map(|n| cli.domain.bytes().open(&format!("many/t{n}")).unwrap()).collect();
    let metrics = daemon.metrics.to_string();
    let terminal = cli.start_on_terminal(&["top", "-n", "3", "--interval", "50ms", "--metrics", &metrics], 40);
    let screened = terminal.end();
    assert_eq!((screened.code, screened.redrawn), (0, 2), "{screened:?}");
    let lines = screened.lines;
    assert!(lines.len() <= 24 && lines.iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
    assert!(lines[0].starts_with("TOPIC "), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("and ") && line.ends_with(" of lower rates")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("realtime ")), "{lines:#?}");
}

#[test]
fn q_ends_it() {
    // `script` gives a program a terminal; not every machine has it.
    if Command::new("script").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return;
    }
    let cli = Cli::new();
    let none = nobody();
    let program = env!("CARGO_BIN_EXE_conduit");
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{program} top --interval 50ms --metrics {none}"), "/dev/null"]);
    command.env("CONDUIT_DOMAIN", cli.domain.name()).env("TERM", "xterm").stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut keys = running.child.stdin.take().unwrap();
    while !running.line().contains("q quit") {}
    keys.write_all(b"xq").unwrap();
    running.end().code(0);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cli = Cli::new();
    for wrong in [&["--interval", "1ms"][..], &["--interval", "1"], &["-n", "0"], &["--once", "-n", "2"]] {
        cli.run(&[&["top"], wrong].concat()).code(2);
    }
    let none = nobody();
    let mut running = cli.start(&["top", "awaited", "--interval", "1h", "--metrics", &none]);
    running.note("waiting for topic awaited");
    running.signal(libc::SIGINT);
    running.end().code(130);
}
