//! `conduit link`: two processes and the link between them, measured.
#![cfg(feature = "cli")]

mod cli;
mod support;

use std::os::unix::net::UnixListener;

use cli::{Cli, Running};
use conduit::link::Link;
use serde_json::Value;

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn ping_measures_a_link_to_a_process_of_its_own_by_either_way() {
    let cli = Cli::new();
    for transport in ["shared-memory", "socket"] {
        for polling in [false, true] {
            let mut args = vec!["link", "ping", "--count", "50", "--size", "300", "--json", "--transport", transport];
            args.extend(polling.then_some("--poll"));
            let pinged = cli.run(&args).code(0).json();
            assert_eq!(
                (&pinged["transport"], &pinged["wanted"], &pinged["count"], &pinged["size"]),
                (&transport.into(), &transport.into(), &50.into(), &300.into())
            );
            let times = ["min_ns", "p50_ns", "p99_ns", "max_ns"].map(|key| number(&pinged, key));
            assert!(times[0] > 0.0 && times.is_sorted(), "{pinged}");
        }
    }
}

#[test]
fn bench_shows_both_ways_beside_each_other() {
    let cli = Cli::new();
    let benched =
        cli.run(&["link", "bench", "--time", "20ms", "--size", "100", "--size", "3000", "--json"]).code(0).json();
    let rows = benched.as_array().unwrap();
    let what: Vec<_> =
        rows.iter().map(|row| (number(row, "size") as u32, row["transport"].as_str().unwrap())).collect();
    assert_eq!(what, [(100, "shared-memory"), (100, "socket"), (3000, "shared-memory"), (3000, "socket")]);
    assert!(rows.iter().all(|row| number(row, "messages_per_second") > 0.0), "{benched}");
}

#[test]
fn serve_is_the_other_end_for_any_number_and_leaves_nothing_when_it_is_interrupted() {
    let cli = Cli::new();
    let socket = std::env::temp_dir().join(format!("{}-link", cli.domain.name()));
    let address = socket.to_str().unwrap();
    let mut serving = cli.start(&["link", "serve", address]);
    serving.note("listening at");
    cli.run(&["link", "ping", address, "--count", "10"]).code(0);
    cli.run(&["link", "bench", address, "--time", "10ms", "--size", "64"]).code(0);
    cli.run(&["link", "ping", address, "--count", "10", "--transport", "socket"]).code(0);
    serving.signal(libc::SIGTERM);
    serving.end().code(0);
    assert!(!socket.exists());
}

#[test]
fn serve_takes_away_no_file_that_is_not_its_own() {
    let cli = Cli::new();
    let dir = std::env::temp_dir().join(format!("{}-link-dir", cli.domain.name()));
    std::fs::create_dir(&dir).unwrap();
    let name = format!("@{}-link", cli.domain.name());
    std::fs::write(dir.join(&name), "called as the name is").unwrap();
    let serving_at = |address: &str| {
        let mut serving = Running::start(cli.command(&["link", "serve", address]).current_dir(&dir));
        serving.note("listening at");
        serving
    };
    let end = |serving: Running| {
        serving.signal(libc::SIGINT);
        serving.end().code(0);
    };
    end(serving_at(&name));
    assert!(dir.join(&name).exists());

    let serving = serving_at("socket");
    std::fs::remove_file(dir.join("socket")).unwrap();
    let another = UnixListener::bind(dir.join("socket")).unwrap();
    end(serving);
    assert!(dir.join("socket").exists());
    drop(another);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_is_too_long_for_the_ring_is_not_said_to_go_through_it() {
    let cli = Cli::new();
    let args = ["link", "bench", "--time", "10ms", "--ring", "16KiB", "--size", "7KiB", "--size", "20KiB", "--json"];
    let benched = cli.run(&args).code(0);
    let rows = benched.json();
    let ways: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["transport"].as_str().unwrap()).collect();
    assert_eq!(ways, ["shared-memory", "socket", "socket", "socket"]);
    assert!(benched.err.contains("messages of 20.5 kB went over the socket"), "{benched:?}");
}

#[test]
fn the_ring_of_ping_takes_messages_of_the_size_that_is_asked_for() {
    let cli = Cli::new();
    let pinged = cli.run(&["link", "ping", "--count", "3", "--size", "200KiB", "--json"]).code(0);
    assert_eq!((&pinged.json()["transport"], pinged.err.as_str()), (&"shared-memory".into(), ""));
}

/// A listener of the test's own, and a command that has connected to it, with its link.
fn connected(cli: &Cli, args: &[&str], task: &[u8]) -> (Running, Link) {
    let address = format!("@{}-link", cli.domain.name());
    let mut listener = Link::options().listen(&address).unwrap();
    let running = cli.start(&[&["link", args[0], &address, "--json"], &args[1..]].concat());
    let mut link = listener.accept_timeout(support::PATIENCE).unwrap();
    assert_eq!(link.recv_timeout(support::PATIENCE).unwrap(), task);
    (running, link)
}

fn echo(link: &mut Link, count: u32) {
    for _ in 0..count {
        let message = link.recv_timeout(support::PATIENCE).unwrap().to_vec();
        link.send(&message).unwrap();
    }
}

#[test]
fn an_interrupted_ping_tells_what_it_has_measured_though_nobody_answers_any_more() {
    let cli = Cli::new();
    let (asleep, polling) = (["ping", "--count", "1000000"], ["ping", "--count", "1000000", "--poll"]);
    for (args, task) in [(&asleep[..], &b"echo"[..]), (&polling[..], &b"echo, polling"[..])] {
        let (pinging, mut link) = connected(&cli, args, task);
        echo(&mut link, 200);
        // The next one shows that all answers were received, and has none.
        link.recv_timeout(support::PATIENCE).unwrap();
        pinging.signal(libc::SIGINT);
        let pinged = pinging.end().code(0).json();
        assert_eq!(pinged["count"], 100, "the first 100 are for warming up: {pinged}");
    }
}

#[test]
fn the_interval_is_between_messages_that_are_measured_and_ends_with_an_interruption() {
    let cli = Cli::new();
    let (pinging, mut link) = connected(&cli, &["ping", "--count", "3", "--interval", "1h"], b"echo");
    // Three to warm up, and the first one.
    echo(&mut link, 4);
    pinging.signal(libc::SIGINT);
    assert_eq!(pinging.end().code(0).json()["count"], 1);
}

#[test]
fn an_interrupted_bench_tells_what_was_received_by_then() {
    let cli = Cli::new();
    let (benching, mut link) = connected(&cli, &["bench", "--time", "1h", "--size", "100"], b"swallow");
    for _ in 0..1000 {
        link.recv_timeout(support::PATIENCE).unwrap();
    }
    link.ack().unwrap();
    benching.signal(libc::SIGINT);
    let benched = benching.end().code(0).json();
    let rows = benched.as_array().unwrap();
    assert_eq!(rows.len(), 1, "{benched}");
    assert_eq!((&rows[0]["messages"], &rows[0]["transport"]), (&1000.into(), &"shared-memory".into()));
}

#[test]
fn a_link_that_is_closed_before_the_answer_has_ended_well() {
    let cli = Cli::new();
    let (expected, passed) = Link::options().size(4096).pair().unwrap();
    let mut command = cli.command(&["link", "inherited"]);
    let serving = Running::start_by(&mut command, |command| passed.spawn(command));
    let mut link = expected.accept().unwrap();
    link.send(b"echo").unwrap();
    // More than there is room for answers, none of which is taken.
    for _ in 0..6 {
        link.sender().send_timeout(&[0; 1000], support::PATIENCE).unwrap();
    }
    drop(link);
    assert_eq!(serving.end().code(0).err, "");
}

#[test]
fn an_address_is_completed_as_a_path() {
    let cli = Cli::new();
    let dir = std::env::temp_dir().join(format!("{}-link-paths", cli.domain.name()));
    std::fs::create_dir(&dir).unwrap();
    let socket = dir.join("socket");
    let _listening = UnixListener::bind(&socket).unwrap();
    for command in ["ping", "bench", "serve"] {
        let mut offering = cli.command(&["--", "conduit", "link", command, dir.join("s").to_str().unwrap()]);
        offering.env("CONDUIT_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3").env("_CLAP_IFS", "\n");
        assert_eq!(Running::start(&mut offering).end().code(0).out, socket.to_str().unwrap(), "{command}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn nobody_there_and_sizes_that_cannot_be_are_told() {
    let cli = Cli::new();
    let nobody = cli.run(&["link", "ping", "@conduit-nobody-is-there"]).code(1);
    assert!(nobody.err.contains("cannot connect to @conduit-nobody-is-there"), "{nobody:?}");
    for command in ["ping", "bench"] {
        for (argument, value, range) in [
            ("--size", "0", "1 B to 16 MiB is possible"),
            ("--size", "100MiB", "1 B to 16 MiB is possible"),
            ("--ring", "100", "4 KiB to 16 MiB is possible"),
            ("--ring", "17MiB", "4 KiB to 16 MiB is possible"),
        ] {
            // Before anything is connected to.
            let refused = cli.run(&["link", command, "@conduit-nobody-is-there", argument, value]).code(2);
            assert!(refused.err.contains(range), "{refused:?}");
        }
    }
    cli.run(&["link", "serve"]).code(2);
}

#[test]
fn the_longest_message_that_may_be_asked_for_comes_back() {
    let cli = Cli::new();
    let pinged = cli.run(&["link", "ping", "--count", "1", "--size", "16MiB", "--json"]).code(0).json();
    assert_eq!((&pinged["count"], &pinged["transport"]), (&1.into(), &"socket".into()));
}

#[test]
fn ping_takes_the_ring_that_it_is_given() {
    let cli = Cli::new();
    let pinged = cli.run(&["link", "ping", "--count", "3", "--size", "3000", "--ring", "4KiB", "--json"]).code(0);
    let found = pinged.json();
    assert_eq!((&found["wanted"], &found["transport"]), (&"shared-memory".into(), &"socket".into()));
    assert!(pinged.err.contains("its ring of 4 KiB is too small"), "{pinged:?}");
}

#[test]
fn bench_tells_the_way_that_was_wanted_beside_the_one_that_was_gone() {
    let cli = Cli::new();
    let args = ["link", "bench", "--time", "10ms", "--size", "1MiB"];
    let rows = cli.run(&[&args[..], &["--json"]].concat()).code(0).json();
    let ways = |at: usize| ["wanted", "transport"].map(|key| rows[at][key].as_str().unwrap().to_owned());
    assert_eq!([ways(0), ways(1)], [["shared-memory", "socket"], ["socket", "socket"]]);
    let shown = cli.run(&args).code(0).out;
    assert!(shown.contains("wanted") && shown.contains("shared-memory"), "{shown}");
}

#[test]
fn help_says_what_has_to_be_given_and_what_is_taken_else() {
    let cli = Cli::new();
    let serve = cli.run(&["link", "serve", "--help"]).code(0).out;
    assert!(serve.contains("<ADDRESS>") && !serve.contains("[ADDRESS]"), "{serve}");
    let ping = cli.run(&["link", "ping", "--help"]).code(0).out;
    assert!(ping.contains("[default: none]") && ping.contains("--ring"), "{ping}");
    assert!(!cli.run(&["link", "--help"]).code(0).out.contains("inherited"));
}
