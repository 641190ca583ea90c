//! `conduit send`, against a small server.
#![cfg(all(feature = "cli", feature = "net"))]

mod cli;
mod event_server;
mod support;

use std::net::TcpListener;

use cli::{Cli, Ended};
use conduit::ack::Status;
use event_server::{Manners, Server, Taken};
use serde_json::json;

fn send(server: &Server, args: &[&str], input: &str) -> Ended {
    let addr = server.addr.to_string();
    Cli::new().run_with(&[&["send", "--to", &addr], args].concat(), input)
}

fn payloads(taken: &[Taken]) -> Vec<&str> {
    taken.iter().map(|taken| std::str::from_utf8(&taken.payload).unwrap()).collect()
}

#[test]
fn send_says_what_became_of_the_events() {
    let server = Server::start(Manners::default());
    let to = format!("at {}", server.addr);
    let one = send(&server, &["sensors/imu", "hello"], "").code(0);
    assert_eq!(one.out, format!("1 event to sensors/imu {to}: 1 accepted\n"));
    let durable = send(&server, &["sensors/imu", "hello", "--count", "1200", "--ack", "durable"], "").code(0);
    assert_eq!(durable.out, format!("1,200 events to sensors/imu {to}: 1,200 durable\n"));
    let unasked = send(&server, &["t", "x", "--ack", "none"], "").code(0);
    assert_eq!(unasked.out, format!("1 event to t {to}: 1 sent\n"));
    assert_eq!(server.taken().len(), 1202);
    assert_eq!((&server.taken()[0].topic[..], &server.taken()[0].payload[..]), ("sensors/imu", &b"hello"[..]));
}

#[test]
fn send_takes_lines_and_files() {
    let server = Server::start(Manners::default());
    send(&server, &["t", "--stdin"], "one\ntwo\nthree").code(0);
    assert_eq!(payloads(&server.taken()), ["one", "two", "three"]);
    send(&server, &["t", "--stdin", "--count", "1"], "four\nfive\n").code(0);
    let path = std::env::temp_dir().join(format!("conduit-send-{}", std::process::id()));
    std::fs::write(&path, "six\nseven\n").unwrap();
    send(&server, &["t", "--file", path.to_str().unwrap()], "").code(0);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(payloads(&server.taken())[3..], ["four", "six\nseven\n"]);
    send(&server, &["t", "--stdin"], "").code(0);
    assert_eq!(server.taken().len(), 5);
}

#[test]
fn send_ends_with_3_if_the_server_refused_something() {
    let server = Server::start(Manners { refuses_with: Status::DeadLettered, ..Manners::default() });
    let refused = send(&server, &["refused", "x", "-n", "2"], "").code(3);
    assert_eq!(refused.out, format!("2 events to refused at {}: 2 dead-lettered\n", server.addr));
    let json = send(&server, &["refused", "x", "--json"], "").code(3).json();
    assert_eq!((&json["refused"], &json["events"]), (&json!({ "dead_lettered": 1 }), &json!(1)));
}

#[test]
fn send_waits_for_a_server_that_throttles_as_long_as_it_may() {
    let server = Server::start(Manners { throttles: 60, ..Manners::default() });
    let json = send(&server, &["t", "x", "-n", "100", "--json"], "").code(0).json();
    assert_eq!(json["accepted"], 100);
    assert!(json["throttled_then_taken"].as_u64().unwrap() > 0, "{json}");
    let never = Server::start(Manners { throttles: 100, ..Manners::default() });
    let json = send(&never, &["t", "x", "--json", "--timeout", "50ms"], "").json();
    assert!(json["refused"] == json!({ "throttled": 1 }) || json["unanswered"] == 1, "{json}");
}

#[test]
fn send_goes_on_behind_what_the_server_has_of_its_producer() {
    let server = Server::start(Manners::default());
    let id = ["--producer", "000102030405060708090a0b0c0d0e0f", "--json"];
    for last in [1, 2] {
        assert_eq!(send(&server, &[&["t", "x"], &id[..]].concat(), "").code(0).json()["last_sequence"], last);
    }
    assert_eq!(server.taken()[1].producer[..3], [0, 1, 2]);
    let wrong = send(&server, &["t", "x", "--producer", "abc"], "").code(2);
    assert!(wrong.err.contains("32 hex digits"), "{wrong:?}");
}

#[test]
fn send_ends_with_1_if_no_server_takes_it() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for more in [&[][..], &["--legacy"], &["--udp"]] {
        let ended = Cli::new().run(&[&["send", "t", "x", "--to", &nobody], more].concat()).code(1);
        assert!(ended.err.starts_with("conduit: no event server at 127.0.0.1:"), "{ended:?}");
    }
    let server = Server::start(Manners { token: b"secret".into(), ..Manners::default() });
    let refused = send(&server, &["t", "x"], "").code(1);
    assert!(refused.err.contains("refuses the token, or asks for one"), "{refused:?}");
    send(&server, &["t", "x", "--token", "secret"], "").code(0);
    let silent = Server::start(Manners { greets: false, ..Manners::default() });
    send(&silent, &["t", "x", "--timeout", "100ms"], "").code(1);
}

#[test]
fn send_refuses_what_makes_no_sense() {
    let cli = Cli::new();
    for (args, reason) in [
        (&["t"][..], "what is to be sent?"),
        (&["not//good", "x"], "no topic name"),
        (&["t", "{", "--encoding", "json"], "no JSON"),
        (&["t", "x", "--udp", "--ack", "durable"], "a datagram is not answered"),
        (&["t", "x", "--legacy", "--ack", "accepted"], "the older frame is not answered"),
        (&["t", "x", "--legacy", "--producer", "00"], ""),
        (&["t", "x", "--to", "nowhere"], "HOST:PORT"),
        (&["t", "x", "--stdin"], "cannot be used with"),
    ] {
        let ended = cli.run(&[&["send"], args].concat()).code(2);
        assert!(ended.err.contains(reason), "{ended:?}");
    }
}

#[test]
fn send_speaks_datagrams_and_the_older_frame() {
    let server = Server::start(Manners::default());
    for (more, out) in [
        (&["--udp"][..], "3 sent in 1 datagram"),
        (&["--udp", "--legacy"], "3 sent in 1 datagram"),
        (&["--legacy"], "3 sent"),
    ] {
        let before = server.taken().len();
        let ended = send(&server, &[&["t", "x", "-n", "3", "--timeout", "1s"], more].concat(), "").code(0);
        assert_eq!(ended.out, format!("3 events to t at {}: {out}\n", server.addr));
        support::eventually("they are there", || server.taken().len() == before + 3);
    }
}

#[test]
fn send_writes_json_and_cbor() {
    let server = Server::start(Manners::default());
    send(&server, &["t", r#"{"a": 1}"#, "--encoding", "json"], "").code(0);
    send(&server, &["t", r#"{"a": 1}"#, "--encoding", "cbor"], "").code(0);
    let taken = server.taken();
    assert_eq!((&taken[0].payload[..], &taken[1].payload[..]), (&br#"{"a": 1}"#[..], &[0xA1, 0x61, b'a', 1][..]));
}

#[test]
fn send_can_be_interrupted() {
    let server = Server::start(Manners::default());
    let addr = server.addr.to_string();
    let running = Cli::new().start(&["send", "t", "x", "--rate", "1000", "--to", &addr, "--json"]);
    support::eventually("it sends", || server.taken().len() > 5);
    running.signal(libc::SIGINT);
    let json = running.end().code(0).json();
    assert_eq!(json["accepted"], server.taken().len() as u64);
}
