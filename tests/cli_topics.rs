//! `topics`, `info`, `clean`, `doctor`, completions, and what is common to all commands: usage errors, exit codes, colours.
#![cfg(feature = "cli")]

mod cli;
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cli::{Cli, Running};
use conduit::msgs::Imu;
use conduit::topic::Overflow;
use serde_json::{Value, json};

/// Topics with a live publisher each.
fn publishers(cli: &Cli, topics: &[&str]) -> Vec<conduit::Publisher<[u8]>> {
    topics.iter().map(|topic| cli.domain.bytes().open(topic).unwrap()).collect()
}

#[track_caller]
fn fits_80_columns(out: &str) {
    for line in out.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
}

#[test]
fn topics_prints_one_name_a_line() {
    let cli = Cli::new();
    let none = cli.run(&["topics"]).code(0);
    assert_eq!(none.out, "");
    assert!(none.err.contains("no topics in domain"), "{none:?}");
    let _publishers = publishers(&cli, &["sensors/imu", "sensors/left/gps", "camera"]);
    assert_eq!(cli.run(&["topics"]).code(0).lines(), ["camera", "sensors/imu", "sensors/left/gps"]);
}

#[test]
fn topics_takes_patterns_and_names_above() {
    let cli = Cli::new();
    let _publishers = publishers(&cli, &["sensors/imu", "sensors/left/gps", "sensors_old", "camera"]);
    let list = |pattern| cli.run(&["topics", pattern]).code(0).out;
    assert_eq!(list("sensors/*"), "sensors/imu\n");
    assert_eq!(list("sensors/**"), "sensors/imu\nsensors/left/gps\n");
    assert_eq!(list("sensors"), "sensors/imu\nsensors/left/gps\n");
    assert_eq!(list("camera"), "camera\n");
    assert_eq!(list("c?mera"), "camera\n");
    assert_eq!(list("nothing*"), "");
}

#[test]
fn topics_long_tells_what_each_is_like() {
    let cli = Cli::new();
    let mut imu = cli.domain.publisher::<Imu>().open("imu").unwrap();
    imu.publish(&Imu::default()).unwrap();
    let _subscriber = cli.domain.subscriber_of::<Imu>().open("imu").unwrap();
    drop(cli.domain.bytes().max_len(100).depth(3).open("old").unwrap());
    let out = cli.run(&["topics", "--long"]).code(0).out;
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["TOPIC", "TYPE", "PUBLISHER", "SUBS", "PUBLISHED", "MEMORY", "AGE"]);
    let process = std::process::id().to_string();
    assert_eq!(&lines[1][..5], ["imu", "conduit_msgs/msg/Imu", &process, "1/16", "1"]);
    assert_eq!(&lines[2][..5], ["old", "bytes", "closed", "0/16", "0"]);
    fits_80_columns(&out);
}

#[test]
fn what_is_latched_is_told() {
    let cli = Cli::new();
    cli.run(&["pub", "map", "x", "--latched"]).code(0);
    cli.run(&["pub", "plain", "x"]).code(0);
    let long = cli.run(&["topics", "--long"]).code(0);
    assert!(long.lines()[1].contains("  1, latched  ") && !long.lines()[2].contains("latched"), "{long:?}");
    fits_80_columns(&long.out);
    let topics = cli.run(&["topics", "--json"]).code(0).json()["topics"].clone();
    let info = |topic| cli.run(&["info", topic]).code(0).out;
    for (at, topic, latched) in [(0, "map", "yes: a new subscriber begins with the last message"), (1, "plain", "no")] {
        assert!(info(topic).contains(&format!("\nlatched       {latched}\n")), "{}", info(topic));
        let json = cli.run(&["info", topic, "--json"]).code(0).json();
        assert_eq!(json["geometry"]["latched"], topic == "map");
        assert_eq!(topics[at]["geometry"]["latched"], topic == "map");
    }
    let mut watch = cli.start(&["topics", "--watch", "--long"]);
    assert!(watch.line().ends_with(", 0 subscribers, latched"));
    assert!(watch.line().ends_with(", 0 subscribers"));
    let mut watch = cli.start(&["topics", "--watch", "--json"]);
    assert_eq!([watch.json_line(), watch.json_line()].map(|line| line["latched"] == true), [true, false]);
}

#[test]
fn topics_json_is_one_object() {
    let cli = Cli::new();
    let _imu = cli.domain.publisher::<Imu>().open("imu").unwrap();
    let json = cli.run(&["topics", "--json"]).code(0).json();
    let topic = &json["topics"][0];
    assert_eq!(topic["topic"], "imu");
    assert_eq!(topic["domain"], cli.domain.name());
    assert_eq!(topic["publisher"], json!({ "state": "alive", "pid": std::process::id(), "epoch": 1 }));
    assert_eq!(topic["type"]["message_encoding"], "cdr");
    assert_eq!(topic["geometry"]["max_len"], size_of::<Imu>());
    assert_eq!(cli.run(&["topics", "none", "--json"]).code(0).json(), json!({ "topics": [] }));
}

#[test]
fn stale_topics_are_those_that_nobody_uses() {
    let cli = Cli::new();
    let _alive = publishers(&cli, &["alive"]);
    drop(publishers(&cli, &["stale"]));
    let _held = {
        let _publisher = cli.domain.bytes().open("held").unwrap();
        cli.domain.subscriber().open("held").unwrap()
    };
    assert_eq!(cli.run(&["topics", "--stale"]).code(0).out, "stale\n");
}

#[test]
fn a_broken_topic_does_not_hide_the_others() {
    let cli = Cli::new();
    let _publishers = publishers(&cli, &["good"]);
    std::fs::write(cli.domain.file("bad"), "no topic").unwrap();
    let bad = "unusable: it ends after 8 bytes, within its header";
    for (args, names) in [(&["topics"][..], &["bad", "good"][..]), (&["topics", "--stale"], &["bad"])] {
        let list = cli.run(args).code(0);
        assert_eq!(list.lines(), names, "names and nothing else");
        assert!(list.err.contains("bad is no usable topic: it ends after 8 bytes"), "{list:?}");
    }
    let long = cli.run(&["topics", "--long"]).code(0);
    assert_eq!(long.lines()[1], format!("bad    {bad}"));
    assert!(long.lines()[2].starts_with("good   bytes  "), "it widens no column: {long:?}");
    let mut watch = cli.start(&["topics", "--watch"]);
    assert_eq!(watch.line(), format!("+ bad  {bad}"));
    let json = cli.run(&["topics", "--json"]).code(0).json();
    assert!(json["topics"][0]["error"].as_str().unwrap().contains("is no usable topic: it ends after 8 bytes"));
    assert!(json["topics"][1].get("error").is_none());
    let info = cli.run(&["info", "bad"]).code(1);
    assert!(info.err.contains("is no usable topic"), "{info:?}");
}

#[test]
fn watch_tells_of_topics_as_they_come_change_and_go() {
    let cli = Cli::new();
    let first = cli.domain.bytes().open("first").unwrap();
    let process = std::process::id();
    let mut text = cli.start(&["topics", "--watch"]);
    let mut json = cli.start(&["topics", "--watch", "--json"]);
    assert_eq!(text.line(), format!("+ first  publisher process {process}"));
    assert_eq!(json.json_line()["event"], "new");
    let second = cli.domain.bytes().open("second").unwrap();
    assert_eq!(text.line(), format!("+ second  publisher process {process}"));
    assert_eq!(json.json_line()["topic"], "second");
    drop(first);
    assert_eq!(text.line(), "~ first  publisher closed");
    let change = json.json_line();
    assert_eq!((&change["event"], &change["publisher"]["state"]), (&json!("changed"), &json!("closed")));
    second.remove().unwrap();
    assert_eq!(text.line(), "- second");
    assert_eq!(json.json_line()["event"], "gone");
    for running in [text, json] {
        running.signal(libc::SIGINT);
        running.end().code(0);
    }
}

#[test]
fn a_list_starts_in_under_five_milliseconds_with_hundreds_of_topics() {
    let cli = Cli::new();
    let names: Vec<String> = (0..300).map(|at| format!("t{at}")).collect();
    let _publishers: Vec<_> =
        names.iter().map(|name| cli.domain.bytes().max_len(64).depth(1).open(name).unwrap()).collect();
    let run = || {
        let start = Instant::now();
        let output = cli.command(&["topics"]).output().unwrap();
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 300);
        start.elapsed()
    };
    // The quickest: others use the machine, too.
    let time = (0..30).map(|_| run()).min().unwrap();
    let limit = if cfg!(debug_assertions) { 50 } else { 5 };
    assert!(time < Duration::from_millis(limit), "{time:?}");
}

#[test]
fn info_shows_geometry_type_publisher_and_subscribers() {
    let cli = Cli::new();
    let mut publisher = cli.domain.publisher::<Imu>().depth(20).overflow(Overflow::Reject).open("imu").unwrap();
    let mut subscriber = cli.domain.subscriber_of::<Imu>().open("imu").unwrap();
    for _ in 0..3 {
        publisher.publish(&Imu::default()).unwrap();
    }
    subscriber.recv().unwrap();
    let out = cli.run(&["info", "imu"]).code(0).out;
    let process = std::process::id().to_string();
    for part in [
        "type          conduit_msgs/msg/Imu (cdr, schema in ros2msg, ",
        "slots         frames: messages of up to 344 B, read in place",
        "20 messages in 64 slots, lossless: the publisher is refused",
        "timestamps    clock",
        "published     3 messages",
        "history       3 messages held",
        "subscribers   1 of 16",
        cli.domain.file("imu").as_str(),
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    // This process has mapped the topic, so its name can be told.
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert!(out.contains(&format!("publisher     process {process} ({})", name.trim())), "{out}");
    let row: Vec<&str> = out.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[3], row[4]), ("0", process.as_str(), "2", "0"), "place, process, lag, lost: {out}");
    assert!(!out.contains("MSG: "));
    let schema = cli.run(&["info", "imu", "--schema"]).code(0).out;
    assert!(schema.contains("MSG: geometry_msgs/Vector3\nfloat64 x\n"), "{schema}");
}

#[test]
fn info_json_has_every_figure() {
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().depth(4).open("t").unwrap();
    let _subscriber = cli.domain.subscriber().open("t").unwrap();
    publisher.publish(b"x").unwrap();
    let json = cli.run(&["info", "t", "--json", "--schema"]).code(0).json();
    assert_eq!(json["published"], 1);
    assert_eq!(json["type"]["schema"], "");
    assert_eq!(json["geometry"]["overflow"], "overwrite");
    let subscriber = &json["subscribers"][0];
    assert_eq!((&subscriber["lag"], &subscriber["pid"]), (&json!(1), &json!(std::process::id())));
    let all = cli.run(&["info", "*", "--json"]).code(0).json_lines();
    assert_eq!(all[0]["topic"], "t");
}

#[test]
fn info_of_a_full_lossless_topic_counts_all_it_holds_and_calls_refusals_by_their_name() {
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().depth(4).overflow(Overflow::Reject).open("t").unwrap();
    let _subscriber = cli.domain.subscriber().open("t").unwrap();
    let published = (0..1000).take_while(|_| publisher.publish(b"x").is_ok()).count();
    let out = cli.run(&["info", "t"]).code(0).out;
    for line in [
        format!("published     {published} messages"),
        format!("history       {published} messages held"),
        "lost          0 messages by subscribers".into(),
        "refused       1 message because a subscriber was behind".into(),
    ] {
        assert!(out.lines().any(|there| there == line), "{line:?} is not in\n{out}");
    }
}

#[test]
fn info_says_how_the_last_publisher_went() {
    let cli = Cli::new();
    drop(publishers(&cli, &["t"]));
    let out = cli.run(&["info", "t"]).code(0).out;
    assert!(out.contains(&format!("none: process {} closed the topic", std::process::id())), "{out}");
}

#[test]
fn a_topic_that_does_not_exist_is_an_error_that_helps() {
    let cli = Cli::new();
    let _publishers = publishers(&cli, &["sensors/imu", "camera"]);
    let near = cli.run(&["info", "camrea"]).code(1);
    assert!(near.err.contains("does not exist") && near.err.contains("did you mean `camera`?"), "{near:?}");
    assert!(cli.run(&["info", "imu"]).code(1).err.contains("did you mean `sensors/imu`?"));
    assert!(cli.run(&["info", "lidar"]).code(1).err.contains("`conduit topics` lists"));
    assert!(cli.run(&["info", "lid*"]).code(1).err.contains("no topic matches lid*"));
}

#[test]
fn clean_removes_what_nobody_uses_and_nothing_else() {
    let cli = Cli::new();
    let _alive = publishers(&cli, &["alive"]);
    drop(publishers(&cli, &["stale/a", "stale/b"]));
    let dry = cli.run(&["clean", "--dry-run"]).code(0);
    assert!(dry.out.starts_with("stale/a (domain ") && dry.err.contains("would remove 2 topics"), "{dry:?}");
    assert_eq!(cli.domain.files().len(), 3);
    let json = cli.run(&["clean", "--json", "--dry-run"]).code(0).json();
    assert_eq!((&json["dry_run"], json["removed"].as_array().unwrap().len()), (&json!(true), 2));
    let clean = cli.run(&["clean"]).code(0);
    assert!(clean.err.contains("removed 2 topics"), "{clean:?}");
    assert_eq!(cli.run(&["topics"]).code(0).out, "alive\n");
    let again = cli.run(&["clean", "--json"]).code(0).json();
    assert_eq!(again, json!({ "dry_run": false, "removed": [], "failed": [], "bytes": 0 }));
}

#[test]
fn clean_removes_no_more_than_it_is_told() {
    let cli = Cli::new();
    let _alive = publishers(&cli, &["stale/alive"]);
    drop(publishers(&cli, &["stale/a", "stale/b", "other", "third"]));
    assert!(cli.run(&["clean", "stale/*", "other"]).code(0).err.contains("removed 3 topics"));
    assert_eq!(cli.run(&["topics"]).code(0).lines(), ["stale/alive", "third"]);
    let used = cli.run(&["clean", "stale/alive"]).code(1);
    assert!(used.err.contains("topic stale/alive in domain") && used.err.contains("is in use"), "{used:?}");
    let wrong = cli.run(&["clean", "thrid", "third"]).code(1);
    assert!(wrong.err.contains("topic thrid does not exist"), "{wrong:?}");
    assert_eq!(cli.run(&["topics"]).code(0).lines(), ["stale/alive"], "the other one was removed");
    assert!(cli.run(&["clean", "nothing*"]).code(0).err.contains("removed 0 topics"));
}

#[test]
fn doctor_checks_and_its_exit_code_says_what_came_of_it() {
    let cli = Cli::new();
    let ended = cli.run(&["doctor", "--json"]);
    let json = ended.json();
    assert_eq!(ended.code, if json["healthy"] == true { 0 } else { 3 }, "{ended:?}");
    let checks: Vec<_> =
        json["checks"].as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
    for check in ["shared memory", "kernel", "futex_waitv", "membarrier", "open files", "clock", "stale topics"] {
        assert!(checks.contains(&check), "{check} is not in {checks:?}");
    }
    for check in json["checks"].as_array().unwrap() {
        assert_eq!(
            check["verdict"] == "ok",
            check["advice"].is_null(),
            "whatever is not as it should be has advice: {check}"
        );
    }
    let text = cli.run(&["doctor"]).code(ended.code).out;
    assert!(text.contains("shared memory") && text.contains("/dev/shm: "), "{text}");
    fits_80_columns(&text);
}

#[test]
fn doctor_warns_of_a_low_limit() {
    let cli = Cli::new();
    let mut shell = cli.command(&[]);
    shell = {
        let mut with_limit = Command::new("sh");
        with_limit.args(["-c", "ulimit -n 100; exec \"$0\" doctor --json"]).arg(shell.get_program());
        with_limit
    };
    let ended = Running::start(shell.stdin(Stdio::null())).end().code(3);
    let json = ended.json();
    let check = json["checks"].as_array().unwrap().iter().find(|check| check["check"] == "open files").unwrap();
    assert_eq!((&check["verdict"], &check["value"]), (&json!("warning"), &json!("100")));
    assert!(check["advice"].as_str().unwrap().contains("ulimit -n"));
}

#[test]
fn domains_keep_topics_apart() {
    let (one, other) = (Cli::new(), Cli::new());
    let _publishers = (publishers(&one, &["t"]), publishers(&other, &["u"]));
    assert_eq!(one.run(&["topics"]).out, "t\n");
    assert_eq!(one.run(&["topics", "--domain", other.domain.name()]).out, "u\n");
    assert_eq!(one.run(&["--domain", other.domain.name(), "topics"]).out, "u\n");
    let all = one.run(&["topics", "--all-domains"]).code(0).out;
    assert!(all.contains(&format!("t (domain {})", one.domain.name())), "{all}");
    assert!(all.contains(&format!("u (domain {})", other.domain.name())), "{all}");
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_right() {
    let cli = Cli::new();
    for (args, reason) in [
        (&["topix"][..], "unrecognized subcommand"),
        (&["echo"], "required"),
        (&["echo", "t", "-n", "0"], "0 is not in 1.."),
        (&["echo", "t", "--timeout", "5"], "of what? Write 5s or 5ms"),
        (&["echo", "t", "--timeout", "5 parsecs"], "`parsecs` is no unit of time"),
        (&["echo", "t", "--format", "xml"], "possible values: text, json, csv, hex, raw"),
        (&["echo", "t", "--field", "x", "--format", "hex"], "--field shows a decoded value"),
        (&["hz", "t", "--window", "1"], "1 is not in 2.."),
        (&["pub", "t", "x", "--rate", "fast"], "no unit of rate"),
        (&["pub", "t", "x", "--overflow", "drop"], "possible values: overwrite, block, reject"),
        (&["pub", "t", "x", "--subscribers", "65"], "65 is not in 1..=64"),
        (&["pub", "t"], "Give DATA, or -"),
        (&["pub", "a b", "x"], "is no topic name"),
        (&["echo", "a//b"], "is no topic name"),
        (&["topics", "--domain", "a/b"], "is no domain name"),
        (&["clean", "--domain", "a/b"], "is no domain name"),
        (&["pub", "t", "x", "--domain", "a/b"], "is no domain name"),
        (&["completions", "tcsh"], "possible values: bash"),
        (&["bench", "--cpus", "0,0"], "two different numbers"),
    ] {
        let ended = cli.run(args);
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
        assert!(ended.err.contains(reason), "{args:?}: {ended:?}");
        assert_eq!(ended.out, "", "{args:?}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let cli = Cli::new();
    let help = cli.run(&["--help"]).code(0);
    for command in ["demo", "topics", "info", "nodes", "echo", "pub", "hz", "clean", "doctor", "bench", "completions"] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {}", help.out);
    }
    assert!(!help.out.contains("worker") && help.err.is_empty(), "{help:?}");
    assert!(cli.run(&["--version"]).code(0).out.starts_with("conduit "));
}

#[test]
fn nothing_is_coloured_that_does_not_go_to_a_terminal() {
    let cli = Cli::new();
    let _publishers = publishers(&cli, &["t"]);
    for args in [&["topics", "--long"][..], &["info", "t"], &["doctor"], &["--help"]] {
        let ended = cli.run(args);
        assert!(!ended.out.contains('\x1b') && !ended.err.contains('\x1b'), "{ended:?}");
    }
}

#[test]
fn colours_are_for_terminals_unless_refused() {
    let cli = Cli::new();
    let _publishers = publishers(&cli, &["t"]);
    // `script` gives a program a terminal; not every machine has it.
    if Command::new("script").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return;
    }
    let on_terminal = |no_color: &str| {
        let program = cli.command(&[]).get_program().to_owned().into_string().unwrap();
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{program} info t"), "/dev/null"]).stdin(Stdio::null());
        command.env("CONDUIT_DOMAIN", cli.domain.name()).env("NO_COLOR", no_color).env("TERM", "xterm");
        Running::start(&mut command).end().out
    };
    assert!(on_terminal("").contains("\x1b["), "a terminal");
    assert!(!on_terminal("1").contains("\x1b["), "NO_COLOR");
}

/// What a shell offers for these words, the last of which is being written.
fn offered(cli: &Cli, words: &[&str]) -> Vec<String> {
    let mut command = cli.command(&["--", "conduit"]);
    command.args(words).env("CONDUIT_COMPLETE", "bash");
    command.env("_CLAP_COMPLETE_INDEX", words.len().to_string()).env("_CLAP_IFS", "\n");
    Running::start(&mut command).end().code(0).out.lines().map(Into::into).collect()
}

#[test]
fn topic_names_are_completed_as_they_are_now() {
    let cli = Cli::new();
    let other = Cli::new();
    let _publishers = (publishers(&cli, &["sensors/imu", "sensors/gps", "camera"]), publishers(&other, &["second"]));
    assert_eq!(offered(&cli, &["info", "se"]), ["sensors/gps", "sensors/imu"]);
    assert_eq!(offered(&cli, &["echo", "camera", "sensors/i"]), ["sensors/imu"]);
    for command in ["topics", "echo", "pub", "hz", "clean"] {
        assert_eq!(offered(&cli, &[command, "c"]), ["camera"], "{command}");
    }
    if cfg!(all(feature = "net", feature = "tank")) {
        for words in [&["top", "c"][..], &["top", "sensors/imu", "c"], &["dlq", "retry", "--topic", "c"]] {
            assert_eq!(offered(&cli, words), ["camera"], "{words:?}");
        }
    }
    assert_eq!(offered(&cli, &["--domain", other.domain.name(), "info", "s"]), ["second"]);
    assert!(offered(&cli, &["--domain", ""]).contains(&other.domain.name().to_string()));
    assert!(offered(&cli, &["to"]).contains(&"topics".to_string()));
    assert!(offered(&cli, &["pub", "t", "--la"]).contains(&"--latched".to_string()));
    assert!(offered(&cli, &["echo", "t", "--no"]).contains(&"--no-plot".to_string()));
    assert!(offered(&cli, &["pub", "t", "--type", "i"]).contains(&"imu".to_string()));
}

#[test]
fn fields_of_the_topics_on_the_command_line_are_completed() {
    let cli = Cli::new();
    let _publishers = (cli.domain.publisher::<Imu>().open("imu").unwrap(), publishers(&cli, &["opaque"]));
    let offered_stamps = offered(&cli, &["echo", "opaque", "imu", "--field", "header.st"]);
    assert_eq!(offered_stamps, ["header.stamp", "header.stamp.nanosec", "header.stamp.sec"]);
    let second = offered(&cli, &["echo", "imu", "-f", "header", "-f", "orientation_covariance[8"]);
    assert_eq!(second, ["orientation_covariance[8]"]);
    assert_eq!(offered(&cli, &["echo", "opaque", "--field", "s"]), [""; 0]);
}

#[test]
fn every_shell_has_a_script_and_bash_runs_it() {
    let cli = Cli::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = cli.run(&["completions", shell]).code(0).out;
        assert!(script.contains("CONDUIT_COMPLETE"), "{shell}: {script}");
        let json = cli.run(&["completions", shell, "--json"]).code(0).json();
        assert_eq!(json, json!({ "shell": shell, "script": Value::from(script) }));
    }
    let _publishers = publishers(&cli, &["camera"]);
    let ask = "source <(\"$0\" completions bash)
               COMP_WORDS=(conduit info cam) COMP_CWORD=2
               _clap_complete_conduit conduit cam info
               echo \"${COMPREPLY[*]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", ask]).arg(cli.command(&[]).get_program()).env("CONDUIT_DOMAIN", cli.domain.name());
    assert_eq!(Running::start(bash.stdin(Stdio::null())).end().code(0).out.trim(), "camera");
}
