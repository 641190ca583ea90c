//! `dlq`.
#![cfg(all(feature = "cli", feature = "tank"))]

mod cli;
mod support;

use std::path::Path;

use cli::Cli;
use conduit::engine::{DeadLetter, DeadLetters, DeadReason, Event, Origin};
use conduit::frame::{Encoding, Priority};
use conduit::tank::DeadLetterStore;
use serde_json::json;
use support::Directory;

const HOUR: u64 = 3_600_000_000_000;

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Ten letters, the oldest ten hours old.
fn store(directory: &Path) -> DeadLetterStore {
    let mut store = DeadLetterStore::open(directory).unwrap();
    for at in 0..10 {
        let binary = [0, 1, 0xff, b'x'];
        let payload: &[u8] = if at == 9 { &binary } else { br#"{"item":7}"# };
        let event = Event {
            topic: if at < 6 { "orders/new" } else { "orders/gone" },
            payload,
            priority: if at % 2 == 0 { Priority::High } else { Priority::Batch },
            encoding: if at == 9 { Encoding::Raw } else { Encoding::Json },
            producer: [0xab; 16],
            sequence: (1 << 40) + at,
            timestamp: now() - (10 - at) * HOUR - 1000,
            received: now() - (10 - at) * HOUR,
            origin: Origin::Tcp("10.0.0.7:4242".parse().unwrap()),
        };
        let reason = if at < 3 { DeadReason::Rejected } else { DeadReason::Panicked };
        store.keep(&DeadLetter { event, reason, attempts: 3, detail: "no such item\x1b[31m" }).unwrap();
    }
    store.flush().unwrap();
    store
}

#[test]
fn dead_letters_are_listed_shown_and_cleared_while_they_are_written() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let path = directory.file("letters");
    let dir = path.to_str().unwrap();
    let store = store(&path);
    let dlq = |args: &[&str]| cli.run(&[&["dlq", "--dir", dir], args].concat());

    let listed = dlq(&["list"]).code(0);
    assert_eq!(listed.lines().len(), 12, "{listed:?}");
    assert!(listed.lines()[0].starts_with("ID   RECEIVED"), "{listed:?}");
    assert!(listed.lines()[1].starts_with("1-9  "), "the newest first: {listed:?}");
    assert!(
        listed.lines()[1].contains(r"orders/gone  panicked  batch     3         4 B   no such item\u{1b}[31m"),
        "{listed:?}"
    );
    assert_eq!(listed.lines()[11], "10 letters");
    assert_eq!(dlq(&["list", "-n", "2"]).code(0).lines().last(), Some(&"2 of 10 letters"));
    for (args, count) in [
        (&["--topic", "orders/n*"][..], 6),
        (&["--reason", "rejected"], 3),
        (&["--priority", "batch"], 5),
        (&["--since", "5.5h"], 5),
        (&["--reason", "rejected", "--topic", "orders/gone"], 0),
    ] {
        let found = dlq(&[&["list", "--json"], args].concat()).code(0).json();
        assert_eq!((&found["count"], found["letters"].as_array().unwrap().len()), (&json!(count), count), "{args:?}");
    }
    let summary = dlq(&["list", "--summary"]).code(0);
    assert_eq!(summary.lines().len(), 5, "{summary:?}");
    assert!(summary.lines()[1].starts_with("orders/gone  panicked  4        34 B"), "{summary:?}");
    assert_eq!(dlq(&["list", "--summary", "--json"]).code(0).json()["groups"][2]["letters"], 3);

    let shown = dlq(&["show", "1-2", "1-9"]).code(0).out;
    for line in [
        "reason     rejected",
        "origin     tcp 10.0.0.7:4242",
        "sequence   1099511627778",
        "producer   abababababababababababababababab",
        "\n{\"item\":7}\n\n",
        "00000000  00 01 ff 78 ",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(!shown.contains('\x1b'));
    let shown = dlq(&["show", "1-9", "--json"]).code(0).json();
    assert_eq!((&shown["payload_hex"], &shown["attempts"]), (&json!("0001ff78"), &json!(3)));
    assert!(dlq(&["show", "1-99"]).code(1).err.contains("there is no letter 1-99"));

    assert_eq!(dlq(&["clear", "1-2", "--json"]).code(0).json(), json!({ "cleared": 1, "files": 0, "bytes": 0 }));
    dlq(&["show", "1-2"]).code(1);
    assert_eq!(dlq(&["clear", "--reason", "rejected"]).code(0).out, "cleared 2 letters; 0 B are free\n");
    assert_eq!(dlq(&["list", "--json"]).code(0).json()["count"], 7);
    drop(store);
    assert_eq!(dlq(&["clear", "--all", "--json"]).code(0).json()["files"], 1);
    assert_eq!(dlq(&["list"]).code(0).out, "0 letters\n");
}

#[test]
fn wrong_arguments_are_told_and_no_letters_are_no_error() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let home = |variable: &str| {
        let mut command = cli.command(&["dlq", "list"]);
        command.env_remove("XDG_STATE_HOME").env_remove("CONDUIT__DEAD_LETTERS__DIR").env(variable, &directory.0);
        command.output().unwrap()
    };
    let none = home("HOME");
    assert!(none.status.success() && none.stdout == b"0 letters\n", "{none:?}");
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("/conduit/dead-letters: nothing was kept there"),
        "{none:?}"
    );
    drop(store(&directory.file("conduit/dead-letters")));
    let listed = home("XDG_STATE_HOME");
    assert!(listed.status.success() && listed.stdout.ends_with(b"\n10 letters\n"), "{listed:?}");
    // Where the daemon keeps them that has the same environment.
    let kept = directory.file("conduit/dead-letters");
    for (dir, letters) in [(kept.to_str().unwrap(), "10 letters"), ("off", "0 letters"), ("", "0 letters")] {
        let mut command = cli.command(&["dlq", "list"]);
        command.env("XDG_STATE_HOME", "/nonexistent").env("CONDUIT__DEAD_LETTERS__DIR", dir);
        let listed = command.output().unwrap();
        assert!(listed.status.success() && listed.stdout.ends_with(format!("{letters}\n").as_bytes()), "{listed:?}");
    }
    for wrong in [
        &["dlq"][..],
        &["dlq", "clear"],
        &["dlq", "clear", "--all", "--reason", "rejected"],
        &["dlq", "list", "--reason", "whatever"],
        &["dlq", "show", "7"],
        &["dlq", "show"],
    ] {
        cli.run(wrong).code(2);
    }
    cli.run(&["dlq", "list", "--dir", "/nonexistent"]).code(1);
    // What cannot be read is told, and the rest is listed.
    let file = directory.file("conduit/dead-letters/dead-letters-0000000007.mcap");
    std::fs::write(&file, b"nothing of the kind").unwrap();
    let dir = directory.file("conduit/dead-letters");
    let listed = cli.run(&["dlq", "list", "--dir", dir.to_str().unwrap()]).code(3);
    assert!(listed.err.contains("no MCAP file") && listed.out.ends_with("\n10 letters\n"), "{listed:?}");
}
