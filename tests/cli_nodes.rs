//! `nodes`, and what `clean` and completions know of nodes.
#![cfg(feature = "cli")]

mod cli;
mod support;

use std::time::Duration;

use cli::{Cli, Running};
use conduit::msgs::Imu;
use conduit::node::{Node, Threads};
use serde_json::json;
use support::{Process, hear, run_role, say};

#[test]
#[ignore = "a process that the other tests start"]
fn helper_process() {
    run_role(&[("balance", balance)]);
}

/// A node that says each message that it gets, and panics at the third.
fn balance(args: &[&str]) {
    let [domain, name, threads] = args else { panic!("domain, name, threads") };
    let threads = if *threads == "each" { Threads::Each } else { Threads::One };
    let mut node = Node::options().domain(domain).threads(threads).build(name).unwrap();
    let _command = node.advertise::<Imu>(&format!("{name}/command")).unwrap();
    node.subscribe::<[u8]>("imu", |message| {
        say(message.sequence());
        assert!(message.sequence() != 2, "on purpose");
    })
    .unwrap();
    node.subscribe::<[u8]>("to/come", |_| {}).unwrap();
    node.every(Duration::from_secs(20), |_| {}).unwrap();
    let stopper = node.stopper();
    std::thread::spawn(move || {
        while hear().is_some() {}
        stopper.stop();
    });
    node.run().unwrap();
}

/// Two nodes, of which one has got three messages.
fn nodes(cli: &Cli) -> [Process; 2] {
    let mut imu = cli.domain.bytes().open("imu").unwrap();
    let mut balance = Process::start("balance", &[cli.domain.name(), "balance", "one"]);
    let runs = || cli.run(&["nodes", "--json"]).code(0).json()["nodes"].as_array().unwrap().len();
    support::eventually("it runs", || runs() == 1);
    for sequence in 0..3 {
        imu.publish(b"message").unwrap();
        balance.expect(&sequence.to_string());
    }
    // It says the message before it panics.
    support::eventually("the panic is counted", || cli.run(&["nodes"]).code(0).out.trim_end().ends_with(" 1"));
    let other = Process::start("balance", &[cli.domain.name(), "arm/left", "each"]);
    support::eventually("they run", || runs() == 2);
    [balance, other]
}

#[test]
fn nodes_tells_what_each_has_and_what_became_of_it() {
    let cli = Cli::new();
    let none = cli.run(&["nodes"]).code(0);
    assert_eq!(none.out, "");
    assert!(none.err.contains("no nodes in domain"), "{none:?}");
    let processes = nodes(&cli);
    let out = cli.run(&["nodes"]).code(0).out;
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].join(" "), "NODE PROCESS UP THREADS SUBS PUBS TIMERS LOST OVERRUNS PANICS");
    let ids = processes.each_ref().map(|process| process.id().to_string());
    // The time has a unit.
    assert_eq!(
        (&lines[1][..2], &lines[1][4..]),
        (&["arm/left", &ids[1]][..], &["each", "2", "1", "1", "0", "0", "0"][..])
    );
    assert_eq!(
        (&lines[2][..2], &lines[2][4..]),
        (&["balance", &ids[0]][..], &["one", "2", "1", "1", "0", "0", "1"][..])
    );
    for line in out.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    processes.into_iter().for_each(Process::finish);
    assert_eq!(cli.run(&["nodes", "--json"]).code(0).json(), json!({ "nodes": [] }));
}

#[test]
fn nodes_of_a_name_tells_everything_about_it() {
    let cli = Cli::new();
    let processes = nodes(&cli);
    let out = cli.run(&["nodes", "balance"]).code(0).out;
    for part in
        ["process", "one for all", "panics        1", "  imu      joined   3         0     1", "  to/come  awaited  0"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    for part in ["  20.0 s  0.05 Hz  0", "  balance/command  conduit_msgs/msg/Imu  alive      0          0"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert_eq!(cli.run(&["nodes", "*"]).code(0).lines().iter().filter(|line| line.starts_with("node")).count(), 1);
    assert_eq!(cli.run(&["nodes", "**"]).code(0).lines().iter().filter(|line| line.starts_with("node")).count(), 2);
    let json = cli.run(&["nodes", "balance", "--json"]).code(0).json();
    assert_eq!((json["alive"].as_bool(), json["pid"].as_u64()), (Some(true), Some(processes[0].id().into())));
    assert_eq!(json["threads"], "one");
    let thread = &json["subscriptions"][0]["thread"];
    assert_eq!(
        json["subscriptions"][0],
        json!({ "topic": "imu", "state": "joined", "messages": 3, "lost": 0, "panics": 1, "thread": thread })
    );
    assert_eq!(json["timers"][0]["rate"], 0.05);
    assert_eq!(json["publications"][0]["publisher"], json!({ "state": "alive", "pid": processes[0].id() }));
    let error = cli.run(&["nodes", "balence"]).code(1).err;
    assert!(error.contains("node balence does not run in domain"), "{error}");
    assert!(cli.run(&["nodes", "b*x"]).code(1).err.contains("no node matches b*x"));
    assert!(cli.run(&["nodes", "a b"]).code(2).err.contains("is no node name"));
    processes.into_iter().for_each(Process::finish);
}

#[test]
fn a_killed_node_is_gone_until_it_is_cleaned() {
    let cli = Cli::new();
    let [balance, other] = nodes(&cli);
    balance.kill();
    assert!(cli.run(&["nodes"]).code(0).lines()[2].starts_with("balance   gone     -"));
    let details = cli.run(&["nodes", "balance"]).code(0).out;
    assert!(details.contains("none: process") && details.contains("joined   3"), "{details}");
    let json = cli.run(&["nodes", "balance", "--json"]).code(0).json();
    assert_eq!((&json["alive"], &json["uptime_ns"]), (&json!(false), &json!(null)));
    // Named topics are topics.
    let cleaned = cli.run(&["clean", "balance/command"]).code(0);
    assert_eq!(cleaned.lines().len(), 1, "{cleaned:?}");
    let dry = cli.run(&["clean", "--dry-run"]).code(0);
    assert!(
        dry.out.starts_with("node balance (domain") && dry.err.contains("would remove 0 topics, 1 node"),
        "{dry:?}"
    );
    let json = cli.run(&["clean", "--json"]).code(0).json();
    assert_eq!(json["removed"], json!([{ "node": "balance", "domain": cli.domain.name(), "bytes": 4096 }]));
    assert_eq!(json["failed"], json!([]));
    assert_eq!(cli.run(&["nodes"]).code(0).lines().len(), 2);
    other.finish();
}

#[test]
fn a_file_that_is_no_nodes_is_told_and_no_more() {
    let cli = Cli::new();
    let path = format!("/dev/shm/conduit-node_{}@n", cli.domain.name());
    std::fs::write(&path, "\x1b[31m is no node").unwrap();
    let out = cli.run(&["nodes"]).code(0).out;
    assert!(out.contains("n     unusable: it ends after"), "{out}");
    assert!(cli.run(&["nodes", "n"]).code(1).err.contains("is no node's file"));
    assert!(cli.run(&["nodes", "--json"]).code(0).json()["nodes"][0]["error"].is_string());
    cli.run(&["clean"]).code(0);
    assert!(!std::fs::exists(&path).unwrap());
}

#[test]
fn node_names_are_completed_as_they_are_now() {
    let cli = Cli::new();
    let processes = nodes(&cli);
    let mut command = cli.command(&["--", "conduit", "nodes", "ba"]);
    command.env("CONDUIT_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n");
    assert_eq!(Running::start(&mut command).end().code(0).out, "balance");
    processes.into_iter().for_each(Process::finish);
}
