//! `record`, `play` and `tank`.
#![cfg(all(feature = "cli", feature = "tank"))]

mod cli;
mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use cli::Cli;
use conduit::msgs::Imu;
use conduit::topic::Overflow;
use serde_json::json;
use support::{Directory, PATIENCE};

fn record(cli: &Cli, args: &[&str]) -> cli::Running {
    let mut recorder = cli.start(args);
    recorder.note("recording ");
    recorder
}

#[test]
fn what_is_recorded_is_told_checked_printed_and_played() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let (path, copy) = (directory.file("run.mcap"), directory.file("copy.mcap"));
    let (file, copy) = (path.to_str().unwrap(), copy.to_str().unwrap());
    let mut imu = cli.domain.publisher::<Imu>().overflow(Overflow::Block).open("imu").unwrap();
    let recorder =
        record(&cli, &["record", "imu", "-o", file, "--compression", "zstd:3", "--meta", "robot=r2", "--json"]);
    for at in 0..100 {
        imu.publish(&Imu { angular_velocity: [at.into(), 0.0, 0.0].into(), ..Imu::default() }).unwrap();
    }
    recorder.signal(libc::SIGINT);
    let told = recorder.end().code(0).json();
    assert_eq!(told["topics"]["imu"]["published"], 100);
    assert_eq!((&told["recorded"], &told["lost"], &told["fault"]), (&json!(100), &json!(0), &json!(null)));
    drop(imu);

    let info = cli.run(&["tank", "info", file, "--json"]).code(0).json();
    assert_eq!(
        (&info["messages"], &info["complete"], &info["compression"]),
        (&json!(100), &json!(true), &json!(["zstd"]))
    );
    assert_eq!(info["topics"][0]["type"], "conduit_msgs/msg/Imu");
    let text = cli.run(&["tank", "info", file]).code(0).out;
    assert!(text.contains("imu    conduit_msgs/msg/Imu  cdr       100"), "{text}");
    assert_eq!(
        cli.run(&["tank", "check", file]).code(0).out,
        "100 messages in 1 chunk; lost before they got there: 0\n"
    );
    let values = cli.run(&["tank", "cat", file, "--field", "angular_velocity.x"]).code(0);
    assert_eq!(values.lines().len(), 100);
    assert_eq!(values.lines()[99], "99.0");
    let several = cli.run(&["tank", "cat", file, "-f", "angular_velocity.x", "-f", "header.stamp.sec"]).code(0);
    assert!(several.lines()[99].starts_with("angular_velocity.x: 99.0  header.stamp.sec: "), "{several:?}");
    assert!(cli.run(&["tank", "cat", file, "--field", "angular_velocity.q"]).code(2).err.contains("has x, y, z"));

    assert!(cli.run(&["tank", "cat", file, "-t", "lidar"]).code(2).err.contains("nothing was recorded from lidar"));
    assert!(cli.run(&["play", file, "-t", "lidar"]).code(2).err.contains("the topics are imu"));
    let unheard = cli.run(&["play", file, "--remap", "imu:=unheard", "--wait", "10ms"]).code(4);
    assert!(unheard.err.contains("topic unheard has no subscriber"), "{unheard:?}");

    let echo = cli.start(&["echo", "again", "-n", "100", "--field", "angular_velocity.x"]);
    let play = ["play", file, "--max", "--lossless", "--remap", "imu:=again", "--wait", "30s"];
    // An observer is no subscriber: somebody has to be one.
    let mut subscriber = None;
    let played = cli.start(&play);
    subscriber.get_or_insert(cli.domain.subscriber().wait(PATIENCE).open("again").unwrap());
    let mut subscriber = subscriber.unwrap();
    for _ in 0..100 {
        assert!(subscriber.recv_timeout(PATIENCE).unwrap().is_some());
    }
    assert_eq!(played.end().code(0).out, "TOPIC  PUBLISHED\nagain  100\n");
    drop(echo);

    // As a crash leaves it: without its end.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
    let unsound = cli.run(&["tank", "check", file]).code(1);
    assert!(unsound.err.contains("is not sound"), "{unsound:?}");
    assert!(cli.run(&["tank", "info", file]).code(3).err.contains("was not finished"));
    let leftover = record(&cli, &["record", "none", "-o", directory.file("other.mcap").to_str().unwrap()]);
    leftover.signal(libc::SIGTERM);
    let ended = leftover.end().code(0);
    assert!(ended.err.contains("run.mcap has no end"), "{ended:?}");
    let unfinished = cli.run(&["play", file, "--max", "--remap", "imu:=unfinished"]).code(3);
    assert!(unfinished.err.contains("was not finished"), "{unfinished:?}");
    let read_only = Permissions::from_mode(0o400);
    std::fs::set_permissions(&path, read_only).unwrap();
    let recovered = cli.run(&["tank", "recover", file, "-o", copy, "--json"]).code(0).json();
    assert_eq!(std::fs::metadata(copy).unwrap().permissions().mode() & 0o200, 0o200);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!((&recovered["messages"], &recovered["was_complete"]), (&json!(100), &json!(false)));
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() - 40, "what is copied stays as it is");
    let several = cli.run(&["tank", "check", "/dev/null", file, copy]).code(1);
    assert!(several.err.contains("no MCAP file") && several.err.contains("2 of 3 files are not sound"), "{several:?}");
    assert!(several.lines().starts_with(&["/dev/null", file]) && several.lines().contains(&copy), "{several:?}");
    cli.run(&["tank", "check", copy]).code(0);
    cli.run(&["tank", "recover", file]).code(0);
    assert_eq!(cli.run(&["tank", "check", file, copy]).code(0).lines().len(), 4);
    cli.run(&["tank", "check", file]).code(0);
    assert!(cli.run(&["tank", "recover", file]).code(0).out.contains("is complete, and stays as it is"));
}

#[test]
fn loss_is_an_exit_code_and_wrong_arguments_are_another() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let path = directory.file("run.mcap");
    let file = path.to_str().unwrap();
    let mut topic = cli.domain.bytes().depth(2).open("t").unwrap();
    let recorder = record(&cli, &["record", "--all", "-o", file]);
    // Stopped, it cannot but lose some.
    recorder.signal(libc::SIGSTOP);
    for _ in 0..10_000 {
        topic.publish(b"x").unwrap();
    }
    recorder.signal(libc::SIGCONT);
    recorder.signal(libc::SIGINT);
    let told = recorder.end().code(3);
    assert!(told.lines()[1].starts_with("t      10,000"), "{told:?}");
    cli.run(&["tank", "info", file]).code(3);
    cli.run(&["tank", "check", file]).code(3);
    assert!(cli.run(&["record", "t", "-o", file]).code(1).err.contains("no recording is overwritten"));
    assert!(cli.run(&["record"]).code(2).err.contains("--all"));
    for wrong in [
        &["record", "--all", "t"][..],
        &["record", "t", "--compression", "zip"],
        &["record", "t", "--sync", "often"],
        &["record", "t", "--meta", "x"],
        &["record", "t", "--split-time", "1ms", "-o", "/dev/null/x"],
        &["play"],
        &["play", file, "--rate", "0"],
        &["play", file, "--remap", "a=b"],
        &["play", file, "--start", "2s", "--end", "1s"],
    ] {
        cli.run(wrong).code(2);
    }
    assert!(cli.run(&["play", "/nonexistent.mcap"]).code(1).err.contains("/nonexistent.mcap"));
    assert!(cli.run(&["tank", "info", "/dev/zero"]).code(1).err.contains("no MCAP file"));
}

#[test]
fn signals_split_a_recording_and_write_a_snapshot() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let mut topic = cli.domain.bytes().overflow(Overflow::Block).open("t").unwrap();
    let run = directory.file("run.mcap");
    let recorder = record(&cli, &["record", "t", "-o", run.to_str().unwrap(), "--json"]);
    topic.publish(b"one").unwrap();
    recorder.signal(libc::SIGUSR2);
    let second = directory.file("run_0001.mcap");
    support::eventually("there is a second file", || second.exists());
    topic.publish(b"two").unwrap();
    recorder.signal(libc::SIGINT);
    let told = recorder.end().code(0).json();
    assert_eq!(told["files"], json!([run, second]));
    assert_eq!(told["recorded"], 2);

    let crash = directory.file("crash.mcap");
    let recorder = record(&cli, &["record", "t", "-o", crash.to_str().unwrap(), "--snapshot", "1min", "--json"]);
    topic.publish(b"three").unwrap();
    let lag = || conduit::topic::inspect(Some(cli.domain.name()), "t").unwrap().subscribers[0].lag;
    support::eventually("it is taken", || lag() == 0);
    recorder.signal(libc::SIGUSR1);
    let snapshot = directory.file("crash_0000.mcap");
    support::eventually("there is a snapshot", || snapshot.exists());
    recorder.signal(libc::SIGINT);
    assert_eq!(recorder.end().code(0).json()["recorded"], 1);
}

/// As from `timeout`, which tells the program and then its group.
#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let cli = Cli::new();
    let directory = Directory::new(&cli.domain);
    let path = directory.file("run.mcap");
    let file = path.to_str().unwrap();
    let mut topic = cli.domain.bytes().open("t").unwrap();
    let recorder = record(&cli, &["record", "t", "-o", file]);
    topic.publish(b"x").unwrap();
    recorder.signal(libc::SIGINT);
    recorder.signal(libc::SIGINT);
    recorder.signal(libc::SIGTERM);
    assert!(recorder.end().code(0).out.starts_with("TOPIC"));
    cli.run(&["tank", "check", file]).code(0);
}
