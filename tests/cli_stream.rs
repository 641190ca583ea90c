//! `echo`, `pub` and `hz`.
#![cfg(feature = "cli")]

mod cli;
mod support;

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cli::terminal::Terminal;
use cli::{Cli, send, stop};
use conduit::msgs::{Imu, Time, Vector3};
use conduit::topic::{Overflow, Schema, SlotKind, Start, Timestamps};
use conduit::{Publisher, Subscriber};
use serde_json::{Value, json};
use support::PATIENCE;

const IMU: &str = r#"{"angular_velocity": {"z": 0.1}, "header": {"stamp": {"sec": 7}, "frame_id": "hand"}}"#;

#[test]
fn echo_waits_for_a_topic_and_misses_nothing_of_it() {
    let cli = Cli::new();
    let mut echo = cli.start(&["echo", "greetings", "-n", "2"]);
    assert!(echo.note("waiting for topic greetings").contains(cli.domain.name()));
    cli.run_with(&["pub", "greetings", "-"], "hello, world\nsecond\n").code(0);
    assert!(echo.line().starts_with("--- greetings #0  20"));
    assert_eq!(echo.line(), r#""hello, world""#);
    assert!(echo.line().starts_with("--- greetings #1  20"));
    assert_eq!(echo.line(), r#""second""#);
    echo.end().code(0);
}

#[test]
fn echo_decodes_messages_by_their_schema() {
    let cli = Cli::new();
    cli.run(&["pub", "imu", "--type", "imu", IMU]).code(0);
    let text = cli.run(&["echo", "imu", "--history", "-n1"]).code(0).out;
    assert!(text.contains("\nheader:\n  stamp:\n    sec: 7\n    nanosec: 0\n  frame_id: \"hand\"\n"), "{text}");
    assert!(text.contains("\nangular_velocity:\n  x: 0.0\n  y: 0.0\n  z: 0.1\n"), "{text}");
    let covariance = "orientation_covariance: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]";
    assert!(text.contains(covariance), "{text}");
    let json = cli.run(&["echo", "imu", "--history", "-n1", "--json"]).code(0).json();
    assert_eq!(json["data"]["angular_velocity"], json!({ "x": 0.0, "y": 0.0, "z": 0.1 }));
    assert_eq!((&json["topic"], &json["sequence"], &json["lost"]), (&json!("imu"), &json!(0), &json!(0)));
    assert_eq!(json["size"], size_of::<Imu>());
    assert!(json["time"].as_str().unwrap().ends_with('Z') && json["timestamp"].is_u64());
}

#[test]
fn cbor_is_written_from_json_and_shown_as_json() {
    let cli = Cli::new();
    let value = r#"{"name": "left", "load": [0.5, -3, null], "on": true}"#;
    cli.run(&["pub", "t", "--type", "cbor", value]).code(0);
    cli.run(&["pub", "t", value]).code(0);
    let json = cli.run(&["echo", "t", "--history", "-n2", "--json"]).code(0);
    for line in json.lines() {
        let shown: Value = serde_json::from_str(line).unwrap();
        assert_eq!(shown["data"], serde_json::from_str::<Value>(value).unwrap());
        assert!(shown["size"].as_u64().unwrap() < 40);
    }
    assert_eq!(cli.run(&["echo", "t", "--history", "-n1", "--field", "load[1]"]).code(0).out, "-3\n");
    assert!(cli.run(&["info", "t"]).code(0).out.contains("cbor"));
}

#[test]
fn echo_of_a_latched_topic_begins_with_what_it_said_last() {
    let cli = Cli::new();
    cli.run(&["pub", "map", "first", "--latched"]).code(0);
    cli.run(&["pub", "map", "second"]).code(0);
    // Longer than the topic takes, which is made anew and stays latched.
    cli.run(&["pub", "map", &"x".repeat(5000)]).code(0);
    let shown = cli.run(&["echo", "map", "-n1", "--json"]).code(0).json();
    assert_eq!((&shown["sequence"], &shown["size"]), (&json!(2), &json!(5000)));
}

#[test]
fn echo_shows_one_field() {
    let cli = Cli::new();
    cli.run(&["pub", "imu", "--type", "imu", IMU]).code(0);
    let field = |path: &str| cli.run(&["echo", "imu", "--history", "-n1", "--field", path]);
    assert_eq!(field("angular_velocity.z").code(0).out, "0.1\n");
    assert_eq!(field("orientation_covariance[8]").code(0).out, "0.0\n");
    assert!(field("header.stamp").code(0).out.ends_with("sec: 7\nnanosec: 0\n"));
    let wrong = field("angular_velocity.q").code(2);
    assert!(wrong.err.contains("geometry_msgs/Vector3 has x, y, z"), "{wrong:?}");
    let json = cli.run(&["echo", "imu", "--history", "-n1", "--field", "header.stamp.sec", "--json"]).code(0).json();
    assert_eq!(json["data"], 7);
}

#[test]
fn echo_shows_several_fields_by_their_paths() {
    let cli = Cli::new();
    cli.run(&["pub", "imu", "--type", "imu", IMU]).code(0);
    let echo = |args: &[&str]| cli.run(&[&["echo", "imu", "--history", "-n1"], args].concat());
    let scalars = ["-f", "angular_velocity.z", "--field", "header.stamp.sec"];
    assert_eq!(echo(&scalars).code(0).out, "angular_velocity.z: 0.1  header.stamp.sec: 7\n");
    let json = echo(&[&scalars[..], &["--json"]].concat()).code(0).json();
    assert_eq!(json["data"], json!({ "angular_velocity.z": 0.1, "header.stamp.sec": 7 }));
    let array = echo(&["-f", "orientation_covariance", "-f", "header.stamp.sec"]).code(0).out;
    assert_eq!(array, "orientation_covariance: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]  header.stamp.sec: 7\n");
    let nested = echo(&["-f", "header.stamp", "-f", "angular_velocity.z"]).code(0);
    assert!(nested.lines()[0].starts_with("--- imu #0  20"), "{nested:?}");
    assert_eq!(nested.lines()[1..], ["header.stamp:", "  sec: 7", "  nanosec: 0", "angular_velocity.z: 0.1"]);
    let csv = echo(&["-f", "header.stamp", "-f", "angular_velocity.z", "--format", "csv"]).code(0);
    assert_eq!(csv.lines()[0], "topic,sequence,time,lost,header.stamp.sec,header.stamp.nanosec,angular_velocity.z");
    assert!(csv.lines()[1].ends_with("Z,0,7,0,0.1"), "{csv:?}");
    let commas = echo(&["-f", "header.stamp.sec,header.stamp.nanosec"]).code(2);
    assert!(commas.err.contains("builtin_interfaces/Time has sec, nanosec"), "a path has no commas: {commas:?}");
    assert_eq!(echo(&["-f", "header.stamp.sec", "-f", "angular_velocity.q"]).code(2).out, "");
}

#[test]
fn several_fields_of_json_are_shown_by_their_paths_too() {
    let cli = Cli::new();
    cli.run(&["pub", "j", "--type", "json", r#"{"a": {"b": [1, "x"]}, "c": null}"#]).code(0);
    let echo = |args: &[&str]| cli.run(&[&["echo", "j", "--history", "-n1"], args].concat()).code(0);
    assert_eq!(echo(&["-f", "a.b", "-f", "c", "-f", "d"]).out, "a.b: [1, \"x\"]  c: null  d: null\n");
    let csv = echo(&["-f", "a.b", "-f", "c", "--format", "csv"]);
    assert!(csv.lines()[0].ends_with(",lost,a.b[0],a.b[1],c") && csv.lines()[1].ends_with(",1,x,"), "{csv:?}");
}

#[test]
fn no_escape_reaches_the_terminal_from_however_deep() {
    let cli = Cli::new();
    cli.run(&["pub", "j", "--type", "json", r#"{"a": [{"t": "\u009b2J"}]}"#]).code(0);
    let out = cli.run(&["echo", "j", "--history", "-n1", "-f", "a"]).code(0).out;
    assert_eq!(out, "[{\"t\":\"\\u{9b}2J\"}]\n");
}

/// Publishes numbers that are 100 ms apart, whenever they are published.
fn publish_x(publisher: &mut Publisher<Vector3>, values: &[f64]) {
    for &x in values {
        let at = publisher.next_sequence() * 100_000_000;
        publisher.publish_at(&Vector3 { x, ..Vector3::default() }, at).unwrap();
    }
}

fn publisher_of_x(cli: &Cli) -> Publisher<Vector3> {
    cli.domain.publisher::<Vector3>().timestamps(Timestamps::Given).open("v").unwrap()
}

#[test]
fn numbers_are_plotted_in_place_on_a_terminal_with_the_newest_at_the_right() {
    let cli = Cli::new();
    let mut publisher = publisher_of_x(&cli);
    publish_x(&mut publisher, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let mut echo = cli.start_on_terminal(&["echo", "v", "--history", "-f", "x", "-f", "y"], 40);
    // With the line of the cursor, or the plot is not all there yet.
    let lines = echo.until("all of them", |lines| lines.len() == 3 && lines[0].ends_with("▁▂▃▄▅▆▇█"));
    // The last column of the terminal stays free.
    let line = |name, value, min, blocks| format!("{name}  {value}  min {min}  max {value}  {blocks:>19}");
    assert_eq!(lines, [line("x", 8, 1, "▁▂▃▄▅▆▇█"), line("y", 0, 0, "▄▄▄▄▄▄▄▄"), String::new()]);
    publish_x(&mut publisher, &[0.0, f64::NAN, f64::INFINITY]);
    let lines = echo.until("the infinity", |lines| lines.len() == 3 && lines[0].contains("max inf"));
    assert!(lines[0].starts_with("x  inf  min   0  max inf  ") && lines[0].ends_with("▂▃▄▅▆▇██▁ █"), "{lines:#?}");
    echo.type_in("\x03");
    echo.until("what the terminal shows for Ctrl-C", |lines| lines[2] == "^C");
    send(&echo.child, libc::SIGINT);
    let ended = echo.end();
    assert_eq!((ended.code, ended.lines), (0, lines), "the cursor is left on a new line");
}

#[test]
fn a_plot_names_the_topics_if_there_are_several() {
    let cli = Cli::new();
    for (topic, message) in [("a", r#"{"x": 1}"#), ("b", r#"{"x": true}"#)] {
        cli.run(&["pub", topic, "--type", "json", message]).code(0);
    }
    let echo = cli.start_on_terminal(&["echo", "*", "--history", "-f", "x", "-n2"], 80);
    let ended = echo.end();
    assert_eq!(ended.code, 0);
    let starts = ["a x     1  min    1  max    1  ", "b x  true  min    1  max    1  "];
    assert!(ended.lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{ended:#?}");
    assert_eq!((ended.lines.len(), ended.lines[2].as_str()), (3, ""));
}

#[test]
fn a_plot_of_more_fields_than_the_terminal_has_lines_says_how_many_it_does_not_show() {
    let cli = Cli::new();
    let array: Vec<_> = (0..30).collect();
    cli.run(&["pub", "j", "--type", "json", &json!({ "a": array }).to_string()]).code(0);
    let fields: Vec<_> = array.iter().map(|at| format!("--field=a[{at}]")).collect();
    let args: Vec<_> = ["echo", "j", "--history", "-n1"].into_iter().chain(fields.iter().map(String::as_str)).collect();
    let lines = cli.start_on_terminal(&args, 80).end().lines;
    assert!(lines[0].starts_with("a[0]    0  min") && lines[21].starts_with("a[21]  21  min"), "{lines:#?}");
    assert_eq!(lines[22..], ["... 8 more", ""]);
}

#[test]
fn what_is_no_number_is_shown_as_lines_on_a_terminal_too() {
    let cli = Cli::new();
    let lines = [r#"{"a": 1, "b": [1]}"#, r#"{"b": [1]}"#, r#"{"a": "x", "b": []}"#, r#"{"a": 2, "b": {"c": 3}}"#];
    cli.run_with(&["pub", "j", "--type", "json", "-"], &lines.join("\n")).code(0);
    let on_terminal = |fields: &[&str]| {
        let args = [&["echo", "j", "--history", "-n4"], fields].concat();
        let ended = cli.start_on_terminal(&args, 80).end();
        assert_eq!(ended.code, 0);
        ended.lines
    };
    let first = on_terminal(&["-f", "a"]);
    assert!(first[0].starts_with("a  null  min    1  max    1  ") && first[0].contains('▄'), "{first:#?}");
    assert_eq!(first[1..], ["\"x\"", "2", ""], "the plot stays above what it could not show");
    assert_eq!(on_terminal(&["-f", "a", "-f", "b"])[0], "a: 1  b: [1]");
    assert_eq!(on_terminal(&["-f", "b"])[..3], ["[1]", "[1]", "[]"]);
    assert_eq!(on_terminal(&["-f", "missing"]), ["null", "null", "null", "null", ""]);
}

#[test]
fn numbers_are_lines_if_asked_for_and_where_no_cursor_moves() {
    let cli = Cli::new();
    publish_x(&mut publisher_of_x(&cli), &[1.0, 2.5]);
    let args = ["echo", "v", "--history", "-n2", "-f", "x"];
    let no_plot = cli.start_on_terminal(&[&args[..], &["--no-plot"]].concat(), 80).end();
    assert_eq!((no_plot.lines, no_plot.redrawn), (["1.0", "2.5", ""].map(String::from).to_vec(), 0));
    let dumb = Terminal::start(cli.command(&args).env("TERM", "dumb"), 80).end();
    assert_eq!(dumb.lines, ["1.0", "2.5", ""]);
    assert_eq!(cli.run(&args).code(0).out, "1.0\n2.5\n", "no terminal");
}

#[test]
fn no_color_takes_the_colours_of_a_plot_and_leaves_its_blocks() {
    let cli = Cli::new();
    publish_x(&mut publisher_of_x(&cli), &[1.0, 2.0]);
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut command = cli.command(&["echo", "v", "--history", "-f", "x"]);
        let mut echo = Terminal::start(command.env("TERM", "xterm").env("NO_COLOR", no_color), 80);
        echo.until("its blocks", |lines| lines[0].ends_with("▁█"));
        assert_eq!(echo.is_coloured(), coloured);
    }
}

#[test]
fn a_plot_takes_the_width_that_the_terminal_has_when_it_is_drawn() {
    let cli = Cli::new();
    let mut publisher = publisher_of_x(&cli);
    publish_x(&mut publisher, &[1.0]);
    let mut echo = cli.start_on_terminal(&["echo", "v", "--history", "-f", "x"], 60);
    let wide = |columns: usize| move |lines: &[String]| lines[0].chars().count() == columns - 1;
    echo.until("60 columns", wide(60));
    for columns in [40, 10, 100] {
        echo.resize(columns);
        publish_x(&mut publisher, &[1.0]);
        echo.until("the new width", wide(columns.into()));
    }
}

#[test]
fn losses_are_told_above_a_plot_while_it_goes_on_and_below_it_in_the_end() {
    let cli = Cli::new();
    let mut publisher = cli.domain.publisher::<Vector3>().depth(4).open("v").unwrap();
    publisher.publish(&Vector3::default()).unwrap();
    let mut echo = cli.start_on_terminal(&["echo", "v", "--history", "-f", "x"], 80);
    echo.until("a plot", |lines| lines[0].contains("min"));
    stop(&echo.child);
    for x in 1..=1000 {
        publisher.publish(&Vector3 { x: x.into(), ..Vector3::default() }).unwrap();
    }
    send(&echo.child, libc::SIGCONT);
    let lines = echo.until("the last message", |lines| lines.len() > 2 && lines[1].contains("max 1000"));
    assert!(lines[0].starts_with("conduit: v: lost ") && lines[1].starts_with("x  1000  "), "{lines:#?}");
    send(&echo.child, libc::SIGINT);
    let ended = echo.end();
    assert_eq!(ended.code, 3);
    assert_eq!(ended.lines[..2], lines[..2]);
    assert!(ended.lines[2].starts_with("conduit: lost "), "{ended:#?}");
}

#[test]
fn a_plot_is_drawn_twenty_times_a_second_at_most_and_shows_the_last_message() {
    let cli = Cli::new();
    let mut echo = cli.start_on_terminal(&["echo", "v", "-f", "x", "-n1000"], 80);
    echo.until("waiting", |lines| lines[0].contains("waiting for topic v"));
    let start = Instant::now();
    let lines: String = (1..=1000).map(|x| format!("{{\"x\": {x}}}\n")).collect();
    cli.run_with(&["pub", "v", "--type", "vector3", "-", "--rate", "1kHz", "--depth", "2000"], &lines).code(0);
    let ended = echo.end();
    let most = start.elapsed().as_millis() / 50 + 2;
    assert_eq!(ended.code, 0);
    assert!(ended.lines[1].starts_with("x  1000  min") && ended.lines[1].contains("max 1000"), "{ended:#?}");
    assert!((5..most).contains(&(ended.redrawn as u128)), "{} times, of {most}", ended.redrawn);
}

#[test]
fn a_plot_of_a_quiet_topic_sleeps() {
    let cli = Cli::new();
    let mut publisher = publisher_of_x(&cli);
    publish_x(&mut publisher, &[1.0]);
    let mut echo = cli.start_on_terminal(&["echo", "v", "--history", "-f", "x"], 80);
    echo.until("a plot", |lines| lines[0].contains("min"));
    let before = support::settled(echo.child.id());
    thread::sleep(support::watch_time());
    assert_eq!(support::switches_of(echo.child.id()).0, before, "it woke up for nothing");
    publish_x(&mut publisher, &[2.0]);
    echo.until("the next message", |lines| lines[0].contains("max 2"));
}

#[test]
fn echo_writes_the_other_formats() {
    let cli = Cli::new();
    cli.run(&["pub", "v", "--type", "vector3", r#"{"x": 1, "y": -0.5}"#]).code(0);
    cli.run(&["pub", "v", r#"{"z": 2}"#]).code(0);
    let echo = |format: &str| cli.run(&["echo", "v", "--history", "-n2", "--format", format]).code(0);
    let csv = echo("csv");
    let lines = csv.lines();
    assert_eq!(lines[0], "topic,sequence,time,lost,x,y,z");
    assert!(lines[1].starts_with("v,0,20") && lines[1].ends_with("Z,0,1.0,-0.5,0.0"), "{csv:?}");
    assert!(lines[2].starts_with("v,1,20") && lines[2].ends_with("Z,0,0.0,0.0,2.0"), "{csv:?}");
    let hex = echo("hex").out;
    assert!(hex.contains("00000000  00 00 00 00 00 00 f0 3f  00 00 00 00 00 00 e0 bf  |.......?........|\n"), "{hex}");
    assert_eq!(echo("json").json_lines().len(), 2);
    let raw = cli.command(&["echo", "v", "--history", "-n2", "--format", "raw"]).output().unwrap().stdout;
    let numbers: Vec<f64> = raw.chunks(8).map(|word| f64::from_ne_bytes(word.try_into().unwrap())).collect();
    assert_eq!(numbers, [1.0, -0.5, 0.0, 0.0, 0.0, 2.0]);
}

#[test]
fn json_messages_are_shown_as_what_they_are() {
    let cli = Cli::new();
    let message = r#"{"a":[1,{"b":2}],"text":"x\u001b[2J"}"#;
    cli.run(&["pub", "j", "--type", "json", message]).code(0);
    let text = cli.run(&["echo", "j", "--history", "-n1"]).code(0).out;
    assert!(text.ends_with("a:\n- 1\n- b: 2\ntext: \"x\\u001b[2J\"\n"), "no escape reaches the terminal: {text:?}");
    let json = cli.run(&["echo", "j", "--history", "-n1", "--json"]).code(0).json();
    assert_eq!(json["data"], serde_json::from_str::<Value>(message).unwrap());
    assert_eq!(cli.run(&["echo", "j", "--history", "-n1", "--field", "a[1].b"]).code(0).out, "2\n");
}

#[test]
fn bytes_that_are_text_are_shown_as_text_and_others_as_hex() {
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().open("t").unwrap();
    publisher.publish("a \"b\"\n\t°".as_bytes()).unwrap();
    publisher.publish(b"\x1b[2J").unwrap();
    let echo = |args: &[&str]| cli.run(&[&["echo", "t", "--history", "-n2"], args].concat()).code(0);
    let text = echo(&[]);
    let lines = text.lines();
    assert_eq!(lines[1], r#""a \"b\"\n\t°""#, "one line, whatever is in it");
    assert_eq!(lines[3], "00000000  1b 5b 32 4a                                       |.[2J|");
    let json = echo(&["--json"]).json_lines();
    assert_eq!((&json[0]["hex"], &json[0]["text"]), (&json!("61202262220a09c2b0"), &json!("a \"b\"\n\t°")));
    assert_eq!((&json[1]["hex"], &json[1]["text"]), (&json!("1b5b324a"), &Value::Null));
    let csv = echo(&["--format", "csv"]);
    assert!(csv.lines()[0].ends_with(",hex") && csv.lines()[2].ends_with(",1b5b324a"), "{csv:?}");
    publisher.publish("a\u{202e}b".as_bytes()).unwrap();
    let deceptive = cli.run(&["echo", "t", "--history", "-n3"]).code(0);
    assert!(deceptive.lines()[5].contains("61 e2 80 ae 62"), "what reads as something else is no text: {deceptive:?}");
}

#[test]
fn bytes_that_do_not_match_their_schema_are_shown_as_hex() {
    let cli = Cli::new();
    let schema = Schema {
        message_encoding: "cdr".into(),
        schema_encoding: "ros2msg".into(),
        name: "t/msg/T".into(),
        data: b"string text".to_vec(),
    };
    let mut publisher = cli.domain.bytes().schema(schema).open("t").unwrap();
    publisher.publish(b"abc").unwrap();
    let text = cli.run(&["echo", "t", "--history", "-n1"]).code(0).out;
    assert!(text.contains("61 62 63") && text.contains("|abc|"), "{text}");
    assert_eq!(cli.run(&["echo", "t", "--history", "-n1", "--json"]).code(0).json()["hex"], "616263");
    let field = cli.run(&["echo", "t", "--history", "-n1", "--field", "text"]).code(2);
    assert!(field.err.contains("strings differ in length"), "{field:?}");
}

#[test]
fn echo_reads_several_topics_and_those_that_come_later() {
    let cli = Cli::new();
    let mut a = cli.domain.bytes().open("s/a").unwrap();
    a.publish(b"1").unwrap();
    let mut echo = cli.start(&["echo", "s/*", "other", "--history", "--json", "-n", "4"]);
    assert_eq!((&echo.json_line()["topic"], echo.note("waiting for")), (&json!("s/a"), echo_waits(&cli)));
    let mut b = cli.domain.bytes().open("s/b").unwrap();
    b.publish(b"2").unwrap();
    assert_eq!(echo.json_line()["topic"], "s/b");
    let _not_wanted = cli.domain.bytes().open("s/deep/c").unwrap();
    let mut other = cli.domain.bytes().open("other").unwrap();
    other.publish(b"3").unwrap();
    assert_eq!(echo.json_line()["topic"], "other");
    a.publish(b"4").unwrap();
    assert_eq!(echo.json_line()["hex"], "34");
    echo.end().code(0);
}

fn echo_waits(cli: &Cli) -> String {
    format!("conduit: waiting for topic other in domain {}", cli.domain.name())
}

#[test]
fn echo_takes_no_subscribers_place() {
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().subscribers(1).open("t").unwrap();
    let _subscriber = cli.domain.subscriber().open("t").unwrap();
    publisher.publish(b"x").unwrap();
    let mut echo = cli.start(&["echo", "t", "--history"]);
    echo.line();
    assert_eq!(cli.run(&["info", "t", "--json"]).code(0).json()["subscribers"].as_array().unwrap().len(), 1);
}

#[test]
fn echo_goes_on_with_the_next_publisher_even_of_another_type() {
    let cli = Cli::new();
    let mut echo = cli.start(&["echo", "t", "--json", "-n", "3"]);
    echo.note("waiting");
    let mut first = cli.domain.publisher::<Vector3>().open("t").unwrap();
    first.publish(&Vector3 { x: 1.0, ..Vector3::default() }).unwrap();
    assert_eq!(echo.json_line()["data"]["x"], 1.0);
    drop(first);
    let mut second = cli.domain.publisher::<Time>().open("t").unwrap();
    second.publish(&Time { sec: 5, nanosec: 0 }).unwrap();
    assert_eq!(echo.json_line()["data"], json!({ "sec": 5, "nanosec": 0 }));
    second.remove().unwrap();
    let mut third = cli.domain.bytes().open("t").unwrap();
    third.publish(b"abc").unwrap();
    assert_eq!(echo.json_line()["hex"], "616263");
    echo.end().code(0);
}

#[test]
fn loss_is_reported_and_exits_with_3() {
    for kind in [SlotKind::Words, SlotKind::Frames] {
        let cli = Cli::new();
        let mut echo = cli.start(&["echo", "t", "--json", "-n", "2"]);
        echo.note("waiting");
        let mut publisher = cli.domain.publisher_of(kind, 8).depth(4).open("t").unwrap();
        publisher.publish(&[0; 8]).unwrap();
        assert_eq!(echo.json_line()["sequence"], 0);
        echo.stop();
        for number in 1..=1000u64 {
            publisher.publish(&number.to_ne_bytes()).unwrap();
        }
        echo.signal(libc::SIGCONT);
        let next = echo.json_line();
        let (sequence, lost) = (next["sequence"].as_u64().unwrap(), next["lost"].as_u64().unwrap());
        assert_eq!(sequence, lost + 1, "what is shown and what is lost is all there was: {next}");
        assert!(lost > 900, "{next}");
        echo.note(&format!("t: lost {lost} messages before {sequence}"));
        let ended = echo.end().code(3);
        assert!(ended.err.contains("lost"), "{ended:?}");
    }
}

#[test]
fn echo_gives_up_after_a_quiet_time() {
    let cli = Cli::new();
    let never = cli.run(&["echo", "t", "--timeout", "50ms"]).code(4);
    assert!(never.err.contains("timed out after 0 messages"), "{never:?}");
    cli.run(&["pub", "t", "x"]).code(0);
    let once = cli.run(&["echo", "t", "--history", "--timeout", "50ms", "-n", "5"]).code(4);
    assert!(once.out.contains("\"x\"") && once.err.contains("timed out after 1 message"), "{once:?}");
}

#[test]
fn echo_shows_no_more_than_the_rate_and_counts_nothing_as_lost() {
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().depth(500).open("t").unwrap();
    for number in 0..200u8 {
        publisher.publish(&[number]).unwrap();
    }
    // Two hours between two: of what is there, the first only.
    let ended = cli.run(&["echo", "t", "--history", "--rate", "0.0001", "--timeout", "200ms", "--json"]).code(4);
    assert_eq!(ended.json_lines().len(), 1, "{ended:?}");
    assert!(!ended.err.contains("lost"), "{ended:?}");
}

#[test]
fn csv_has_one_kind_of_columns() {
    let cli = Cli::new();
    cli.run(&["pub", "a", "--type", "vector3", "{}"]).code(0);
    let mut echo = cli.start(&["echo", "a", "b", "--history", "--format", "csv"]);
    assert_eq!(echo.line(), "topic,sequence,time,lost,x,y,z");
    echo.line();
    cli.run(&["pub", "b", "--type", "time", "{}"]).code(0);
    let ended = echo.end().code(2);
    assert!(ended.err.contains("b has other columns"), "{ended:?}");
}

#[test]
fn a_topic_that_cannot_be_read_is_an_error() {
    let cli = Cli::new();
    std::fs::write(cli.domain.file("bad"), "no topic").unwrap();
    let ended = cli.run(&["echo", "bad"]).code(1);
    assert!(ended.err.contains("is no usable topic") && ended.err.contains("could not read 1 topic"), "{ended:?}");
}

#[test]
fn what_is_published_is_what_a_program_receives() {
    let cli = Cli::new();
    cli.run(&["pub", "imu", "--type", "conduit_msgs/msg/Imu", IMU]).code(0);
    let mut imu = cli.domain.subscriber_of::<Imu>().start(Start::Oldest).open("imu").unwrap();
    let sample = imu.recv().unwrap();
    assert_eq!((sample.angular_velocity.z, sample.header.stamp.sec), (0.1, 7));
    assert!(sample.timestamp().is_some());
    cli.run(&["pub", "v", "--type", "vector3", r#"{"x": 1.5}"#]).code(0);
    let mut vector: Subscriber<Vector3> = cli.domain.subscriber_of().start(Start::Oldest).open("v").unwrap();
    assert_eq!(vector.recv().unwrap().x, 1.5);
    cli.run(&["pub", "h", "--type", "hex", "de ad BEEF"]).code(0);
    let mut hex = cli.domain.subscriber().start(Start::Oldest).open("h").unwrap();
    assert_eq!(*hex.recv().unwrap(), [0xde, 0xad, 0xbe, 0xef]);
}

#[test]
fn pub_takes_lines_numbers_and_rates() {
    let cli = Cli::new();
    let lines = cli.run_with(&["pub", "lines", "-", "--json"], "one\ntwo\n\nlast without an end").code(0).json();
    assert_eq!(lines, json!({ "topic": "lines", "published": 4, "last_sequence": 3 }));
    let mut subscriber = cli.domain.subscriber().start(Start::Oldest).open("lines").unwrap();
    let received: Vec<String> =
        (0..4).map(|_| String::from_utf8(subscriber.recv().unwrap().to_vec()).unwrap()).collect();
    assert_eq!(received, ["one", "two", "", "last without an end"]);
    let some = cli.run_with(&["pub", "lines", "-", "-n", "1"], "one\ntwo\n").code(0);
    assert!(some.err.contains("published 1 message to lines"), "{some:?}");
    let json = cli.run(&["pub", "again", "x", "-n", "5", "--rate", "500", "--json"]).code(0).json();
    assert_eq!(json["published"], 5);
    assert_eq!(cli.run_with(&["pub", "empty", "-", "--json"], "").code(0).json()["published"], 0);
}

#[test]
fn pub_goes_on_with_the_topic_as_it_is() {
    let cli = Cli::new();
    let options = cli.domain.publisher::<Vector3>().depth(40).timestamps(Timestamps::None).overflow(Overflow::Reject);
    drop(options.open("v").unwrap());
    let mut subscriber = cli.domain.subscriber_of::<Vector3>().open("v").unwrap();
    cli.run(&["pub", "v", r#"{"y": 3}"#]).code(0);
    assert_eq!(subscriber.recv().unwrap().y, 3.0);
    assert_eq!((subscriber.geometry().depth, subscriber.geometry().overflow), (40, Overflow::Reject));
    let long = "x".repeat(5000);
    cli.run(&["pub", "b", "short"]).code(0);
    cli.run(&["pub", "b", &long]).code(0);
    assert_eq!(cli.run(&["info", "b", "--json"]).code(0).json()["geometry"]["max_len"], 8192, "made anew, larger");
}

#[test]
fn pub_makes_a_topic_of_the_shape_that_is_asked_for() {
    let cli = Cli::new();
    cli.run(&["pub", "t", "x", "--depth", "40", "--overflow", "reject", "--subscribers", "3"]).code(0);
    let geometry = || cli.run(&["info", "t", "--json"]).code(0).json()["geometry"].clone();
    let first = geometry();
    assert_eq!((&first["depth"], &first["subscribers"]), (&json!(40), &json!(3)));
    assert_eq!(first["overflow"], "reject");
    cli.run(&["pub", "t", "x"]).code(0);
    assert_eq!(geometry(), first, "whoever asks for nothing takes the topic as it is");
    cli.run(&["pub", "t", "x", "--overflow", "block"]).code(0);
    assert_eq!(geometry()["overflow"], "block");
}

#[test]
fn a_latched_topic_stays_one_and_gives_later_subscribers_its_last_message() {
    let cli = Cli::new();
    cli.run(&["pub", "map", "first", "--latched"]).code(0);
    let mut early = cli.domain.subscriber().open("map").unwrap();
    assert_eq!(&*early.recv_timeout(PATIENCE).unwrap().unwrap(), b"first");
    cli.run(&["pub", "map", "second"]).code(0);
    assert_eq!(&*early.recv_timeout(PATIENCE).unwrap().unwrap(), b"second");
    assert!(early.geometry().latched, "whoever asks for nothing takes the topic as it is");
    let mut late = cli.domain.subscriber().open("map").unwrap();
    assert_eq!(&*late.recv_timeout(PATIENCE).unwrap().unwrap(), b"second");
    let mut plain = cli.domain.bytes().open("plain").unwrap();
    plain.publish(b"x").unwrap();
    assert_eq!(cli.domain.subscriber().open("plain").unwrap().try_recv().unwrap().map(|sample| sample.len()), None);
}

#[test]
fn pub_says_that_it_replaces_a_topic_by_one_of_another_type() {
    let cli = Cli::new();
    let first = cli.run(&["pub", "t", "{}", "--type", "vector3"]).code(0);
    assert!(!first.err.contains("carried"), "{first:?}");
    let same = cli.run(&["pub", "t", "{}", "--type", "vector3", "--depth", "40"]).code(0);
    assert!(!same.err.contains("carried"), "{same:?}");
    let other = cli.run(&["pub", "t", "x", "--type", "bytes"]).code(0);
    assert!(other.err.contains("carried geometry_msgs/msg/Vector3 and now carries bytes"), "{other:?}");
    let opaque_too = cli.run(&["pub", "t", "00", "--type", "hex"]).code(0);
    assert!(!opaque_too.err.contains("carried"), "{opaque_too:?}");
}

#[test]
fn pub_says_what_is_wrong_with_a_message() {
    let cli = Cli::new();
    let fails = |args: &[&str], input: &str, code: i32, reason: &str| {
        let ended = cli.run_with(&[&["pub"], args].concat(), input).code(code);
        assert!(ended.err.contains(reason), "{args:?}: {ended:?}");
    };
    fails(&["t", "{}", "--type", "lidar"], "", 2, "no type `lidar` is known: bytes, hex, json, cbor, time, ");
    fails(&["t", "{", "--type", "imu"], "", 2, "no JSON");
    fails(&["t", "{", "--type", "json"], "", 2, "the message is no JSON");
    fails(&["t", "xyz", "--type", "hex"], "", 2, "pairs of hex digits");
    fails(
        &["t", "-", "--type", "vector3"],
        "{\"x\": 1}\n{\"x\": \"much\"}\n",
        2,
        "line 2: x: a number in the range of f64",
    );
    fails(&["t", "hello"], "", 2, "topic t carries geometry_msgs/msg/Vector3: write it as JSON, or say --type bytes");
    fails(&["long", "-"], &format!("short\n{}\n", "x".repeat(5000)), 1, "line 2: a message of 5000 bytes does not fit");
    let _publisher = cli.domain.bytes().open("taken").unwrap();
    fails(&["taken", "x"], "", 1, &format!("already has a publisher (process {})", std::process::id()));
}

#[test]
fn pub_waits_for_a_subscriber_that_pauses_and_no_message_counts_as_refused() {
    let cli = Cli::new();
    drop(cli.domain.bytes().depth(4).overflow(Overflow::Block).open("t").unwrap());
    let mut subscriber = cli.domain.subscriber().open("t").unwrap();
    let publishing = cli.start(&["pub", "t", "x", "-n", "200"]);
    let figure = |name: &str| cli.run(&["info", "t", "--json"]).code(0).json()[name].as_u64().unwrap();
    support::eventually("it waits for room", || figure("blocked") > 0);
    // Long enough for several looks, if it looked now and then.
    thread::sleep(Duration::from_millis(300));
    assert_eq!((figure("blocked"), figure("rejected")), (1, 0), "it waits once");
    for sequence in 0..200 {
        assert_eq!(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().sequence(), sequence);
    }
    publishing.end().code(0);
    assert_eq!(figure("rejected"), 0);
}

#[test]
fn pub_is_refused_by_a_full_topic_that_refuses() {
    let cli = Cli::new();
    drop(cli.domain.bytes().depth(4).overflow(Overflow::Reject).open("t").unwrap());
    let mut subscriber = cli.domain.subscriber().open("t").unwrap();
    let refused = cli.run_with(&["pub", "t", "-"], &"x\n".repeat(200)).code(1);
    let mut received = 0;
    while subscriber.try_recv().unwrap().is_some() {
        received += 1;
    }
    let reason = format!("line {}: topic t (domain {}) is full", received + 1, cli.domain.name());
    assert!(received >= 4 && refused.err.contains(&reason), "{received} received, {refused:?}");
    let info = cli.run(&["info", "t", "--json"]).code(0).json();
    assert_eq!((&info["rejected"], &info["blocked"]), (&json!(1), &json!(0)), "once for the message given up");
    cli.run(&["pub", "t", "there is room again"]).code(0);
}

#[test]
fn who_may_not_sleep_on_a_topic_is_told_so() {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: needs root, to be another user");
        return;
    }
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().permissions(0o644).open("t").unwrap();
    publisher.publish(b"x").unwrap();
    for args in [&["echo", "t", "--history", "-n1"][..], &["hz", "t", "--duration", "10ms"]] {
        assert!(!cli.run(args).err.contains("20 ms"), "{args:?}: root may write it");
        let mut command = cli.command(args);
        command.uid(54321).gid(54321).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: other users may not run the program here");
                return;
            }
            output => output.unwrap(),
        };
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("t: looking every 20 ms"), "{args:?}: {said}");
    }
}

#[test]
fn hz_measures_rate_latency_and_loss() {
    let cli = Cli::new();
    let mut publisher = cli.domain.publisher::<Vector3>().depth(64).open("v").unwrap();
    let stop = AtomicBool::new(false);
    let (text, json) = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                publisher.publish(&Vector3::default()).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        let text = cli.start(&["hz", "v", "--duration", "1200ms"]);
        let json = cli.start(&["hz", "v", "--duration", "1200ms", "--json"]);
        let ended = (text.end(), json.end());
        stop.store(true, Ordering::Relaxed);
        ended
    });
    let lines = text.lines();
    assert!(lines[0].starts_with("TOPIC") && lines[0].contains("JITTER") && lines[0].ends_with("LOST"), "{text:?}");
    assert!(lines[lines.len() - 2].starts_with("total of "), "{text:?}");
    let width = lines[0].chars().count();
    let rows = lines.iter().filter(|line| line.starts_with("v "));
    assert!(width <= 80 && rows.clone().count() >= 2, "{text:?}");
    assert!(rows.clone().all(|row| row.chars().count() == width), "all end below the head: {text:?}");
    let reports = json.json_lines();
    let total = reports.last().unwrap();
    assert_eq!(json.code, if total["lost"] == 0 { 0 } else { 3 }, "{json:?}");
    assert_eq!((&total["total"], &total["topic"]), (&json!(true), &json!("v")));
    // At most one every 2 ms; how many fewer is up to the machine.
    let rate = total["rate"].as_f64().unwrap();
    assert!(rate > 0.0 && rate <= 501.0, "{total}");
    assert!((total["bytes_per_second"].as_f64().unwrap() / rate - 24.0).abs() < 0.5, "{total}");
    let period = &total["period_ns"];
    assert!(period["min"].as_f64() >= Some(2e6) && period["mean"].as_f64() <= period["max"].as_f64(), "{total}");
    assert!(total["latency_ns"]["p50"].as_u64() <= total["latency_ns"]["p99"].as_u64(), "{total}");
}

#[test]
fn hz_counts_what_it_could_not_see() {
    let cli = Cli::new();
    let mut publisher = cli.domain.bytes().depth(4).open("t").unwrap();
    let mut hz = cli.start(&["hz", "t", "--json"]);
    let mut sequence = 0u64;
    // Until it is there to be stopped.
    while hz_has_seen_nothing(&mut hz, || {
        publisher.publish(&sequence.to_ne_bytes()).unwrap();
        sequence += 1;
    }) {}
    hz.stop();
    for number in 0..1000u64 {
        publisher.publish(&number.to_ne_bytes()).unwrap();
    }
    hz.signal(libc::SIGCONT);
    while hz_has_seen_nothing(&mut hz, || assert!(publisher.publish(b"x").is_ok())) {}
    hz.signal(libc::SIGINT);
    let ended = hz.end().code(3);
    let total = ended.json_lines().pop().unwrap();
    assert!(total["lost"].as_u64().unwrap() > 900, "{total}");
    assert_eq!(total["latency_ns"]["p50"], Value::Null, "no timestamps");
}

/// Calls `each` every millisecond until there is a report; whether it says that there were no messages.
fn hz_has_seen_nothing(hz: &mut cli::Running, mut each: impl FnMut()) -> bool {
    thread::scope(|scope| {
        let report = scope.spawn(|| hz.json_line());
        while !report.is_finished() {
            each();
            thread::sleep(Duration::from_millis(1));
        }
        report.join().unwrap()["messages"] == 0
    })
}

#[test]
fn hz_without_a_message_times_out() {
    let cli = Cli::new();
    let ended = cli.run(&["hz", "none", "--duration", "50ms"]).code(4);
    assert!(ended.err.contains("waiting for topic none") && ended.err.contains("no message came"), "{ended:?}");
}
