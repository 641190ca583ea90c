//! `demo` and `bench`: whatever way they end, they leave nothing behind.
#![cfg(feature = "cli")]

mod cli;
mod support;

use std::process::Stdio;

use cli::{Cli, Ended, Running, code};
use serde_json::Value;
use support::eventually;

/// The topics of a demo or bench, which are named by its process.
fn left_by(kind: &str, pid: u32) -> Vec<String> {
    let of_it = format!("conduit_{kind}-{pid}@");
    let names = std::fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&of_it)).collect()
}

/// The processes that it started and that are still there.
fn children_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn ran_well(ended: &Ended) {
    // 3 where the machine stopped for longer than the topic remembers.
    assert!([0, 3].contains(&ended.code), "{ended:?}");
}

#[test]
fn the_demo_shows_figures_and_proof_and_leaves_nothing() {
    let cli = Cli::new();
    let demo = cli.start(&["demo", "--duration", "2s"]);
    let pid = demo.child.id();
    let ended = demo.end();
    ran_well(&ended);
    let words = ended.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "publishes 4096 B a thousand times a second",
        " steady ",
        "latency p50",
        "was killed with -9",
        "joined, and begins with what the topic holds",
        "What happened",
        "together exactly what was published",
        "In place, without a copy",
        "mapped read-only",
        "not a byte of it changed",
        "Verdict PASS ",
        "the place of a subscriber that was killed free again, a held message that stayed as it was",
        "no file left in /dev/shm",
        "Try next",
    ] {
        assert!(words.contains(part), "{part:?} is not in\n{}", ended.out);
    }
    assert!(!ended.out.contains('\x1b') && !ended.out.contains("FAIL"), "{}", ended.out);
    for line in ended.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    assert_eq!(left_by("demo", pid), [""; 0]);
}

#[test]
fn the_demo_in_json_adds_up() {
    let cli = Cli::new();
    let demo = cli.start(&["demo", "--duration", "2s", "--json"]);
    let pid = demo.child.id();
    let ended = demo.end();
    ran_well(&ended);
    let lines = ended.json_lines();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events.first(), Some(&"started"));
    assert_eq!(events.last(), Some(&"summary"));
    for event in ["progress", "killed", "joined"] {
        assert!(events.contains(&event), "{event} is not in {events:?}");
    }
    let summary = lines.last().unwrap();
    assert_eq!((&summary["ok"], &summary["problems"]), (&Value::from(true), &Value::from(Vec::<Value>::new())));
    let in_place = &summary["in_place"];
    assert!(in_place["of"].as_u64() > Some(100), "{summary}");
    assert_eq!(in_place["samples"], in_place["of"]);
    assert!(in_place["file"].as_str().unwrap().contains(&format!("demo-{pid}@")));
    if cfg!(feature = "tank") {
        let recording = &summary["recording"];
        assert!(recording["recorded"].as_u64() > Some(0), "{recording}");
        assert_eq!(recording["recorded"], recording["came_again"]);
        assert!(!std::env::temp_dir().join(format!("conduit-demo-{pid}.mcap")).exists());
    } else {
        assert!(summary["recording"].is_null());
    }
    let published = summary["published"].as_u64().unwrap();
    for subscriber in summary["subscribers"].as_array().unwrap() {
        if subscriber["killed"] == true {
            assert_eq!(subscriber["name"], "doomed");
            continue;
        }
        let figure = |name: &str| subscriber[name].as_u64().unwrap();
        assert_eq!(figure("last") + 1, published, "{subscriber}");
        assert_eq!(figure("received") + figure("lost"), published - figure("first"), "{subscriber}");
        assert_eq!((figure("in_place"), figure("torn")), (figure("received"), 0), "{subscriber}");
        match subscriber["name"].as_str().unwrap() {
            "steady" => assert_eq!(subscriber["kept"]["unchanged"], true),
            "late" => assert!(figure("history") > 0, "{subscriber}"),
            name => assert_eq!(name, "slow"),
        }
    }
    assert_eq!(left_by("demo", pid), [""; 0]);
}

#[test]
fn an_interrupted_demo_ends_in_order() {
    let cli = Cli::new();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut demo = cli.start(&["demo", "--duration", "1h", "--json"]);
        let pid = demo.child.id();
        assert_eq!(demo.json_line()["event"], "started");
        demo.signal(signal);
        let ended = demo.end();
        ran_well(&ended);
        assert_eq!(ended.json_lines().last().unwrap()["event"], "summary");
        assert_eq!(left_by("demo", pid), [""; 0]);
    }
}

#[test]
fn a_demo_that_is_interrupted_at_any_time_leaves_nothing() {
    let cli = Cli::new();
    for processes in 0..=4 {
        let demo = cli.start(&["demo", "--duration", "1h"]);
        let pid = demo.child.id();
        eventually("it has started processes", || children_of(pid).len() >= processes);
        let children = children_of(pid);
        demo.signal(libc::SIGINT);
        let ended = demo.end();
        // 128 and SIGINT before it had begun.
        assert!([0, 3, 130].contains(&ended.code), "{ended:?}");
        assert_eq!(left_by("demo", pid), [""; 0], "interrupted with {processes} processes");
        assert!(children.iter().all(|child| !is_alive(*child)), "interrupted with {processes} processes");
    }
}

fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn processes_of_a_demo_that_was_killed_end_and_clean_up() {
    let cli = Cli::new();
    let mut demo = cli.start(&["demo", "--duration", "1h", "--json"]);
    let pid = demo.child.id();
    let started = demo.json_line();
    let processes: Vec<u32> = started["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| process["pid"].as_u64().unwrap() as u32)
        .collect();
    assert_eq!(processes.len(), 4, "{started}");
    demo.signal(libc::SIGKILL);
    demo.child.wait().unwrap();
    eventually("its processes are gone", || processes.iter().all(|process| !is_alive(*process)));
    assert_eq!(left_by("demo", pid), [""; 0]);
}

#[test]
fn a_demo_that_nobody_reads_ends_and_leaves_nothing() {
    let cli = Cli::new();
    let mut child = cli.command(&["demo", "--duration", "1h"]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    eventually("it has started its processes", || children_of(pid).len() == 4);
    drop(child.stdout.take());
    assert_eq!(code(child.wait().unwrap()), 0);
    assert_eq!(left_by("demo", pid), [""; 0]);
}

#[test]
fn bench_prints_a_table_and_json_and_leaves_nothing() {
    let cli = Cli::new();
    let bench = cli.start(&["bench", "--rounds", "1", "--time", "5ms", "--json"]);
    let pid = bench.child.id();
    let ended = bench.end();
    if ended.code == 1 {
        assert!(ended.err.contains("two processors are needed"), "{ended:?}");
        return;
    }
    let json = ended.code(0).json();
    let results = json["results"].as_array().unwrap();
    let figure = |name: &str, figure: &str| {
        let row = results.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {json}"));
        row["figures"][figure].as_f64().unwrap_or_else(|| panic!("{name} {figure}: {json}"))
    };
    assert!(figure("64 B, both polling", "p50") > 0.0);
    assert!(figure("a cache line, both polling", "p50") > 0.0);
    assert!(figure("a futex sleeper woken", "p50") > 0.0);
    assert_eq!(figure("64 KiB", "lost"), 0.0);
    assert_eq!(figure("64 B, 4 subscribers that get all", "lost"), 0.0);
    assert!(figure("64 B, 16 subscribers that do not read", "call") > 0.0);
    assert_eq!(left_by("bench", pid), [""; 0]);

    let table = cli.run(&["bench", "fanout", "--rounds", "1", "--time", "2ms"]).code(0);
    assert!(table.out.starts_with("FAN-OUT") && table.out.contains("PUBLISH CALL"), "{table:?}");
    assert!(table.err.contains("medians of 1 round"), "{table:?}");
}

#[test]
fn an_interrupted_bench_leaves_nothing() {
    let cli = Cli::new();
    let bench: Running = cli.start(&["bench", "--time", "10s"]);
    let pid = bench.child.id();
    let is_under_way = || children_of(pid).len() == 2;
    eventually("it is under way", || is_under_way() || !is_alive(pid) || has_ended(pid));
    if !is_under_way() {
        bench.end().code(1);
        return;
    }
    bench.signal(libc::SIGINT);
    bench.end().code(130);
    assert_eq!(left_by("bench", pid), [""; 0]);
}

fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
