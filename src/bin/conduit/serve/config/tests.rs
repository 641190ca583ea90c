use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A machine of four CPUs.
fn machine() -> Machine {
    Machine { cpus: vec![0, 1, 2, 3], nodes: vec![0] }
}

fn load(text: &str) -> Result<Loaded, Problems> {
    Loaded::new(Some(("c.yaml", text)), [], &machine())
}

fn load_with(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    Loaded::new(Some(("c.yaml", text)), environment, &machine())
}

#[track_caller]
fn errors(text: &str) -> String {
    load(text).expect_err(text).to_string()
}

/// A configuration as it has always been written.
const KNOWN: &str = "# config.yaml
server:
  tcp_port: 9000
  udp_port: 9001
  max_connections: 10000

queues:
  realtime:
    type: spsc
    capacity: 16384
  transactional:
    type: mpsc
    capacity: 65536
  batch:
    type: mpsc
    capacity: 65536

numa:
  enabled: true
  node: 0

workers:
  count: 4
  cpu_affinity: [0, 1, 2, 3]

backpressure:
  pause_threshold: 0.6
  drain_threshold: 0.8
  drop_threshold: 0.9
  emergency_threshold: 0.95
";

#[test]
fn the_configuration_that_everybody_knows_is_read_as_it_stands() {
    let loaded = load(KNOWN).expect("it is right");
    let expected = Config {
        numa: Numa { enabled: true, node: 0 },
        workers: Workers { count: 4, cpu_affinity: vec![0, 1, 2, 3], ..Workers::default() },
        ..Config::default()
    };
    assert_eq!(loaded.config, expected, "the rest is as by default");
    let place = |line, column| Place::File { name: "c.yaml".into(), line, column };
    assert_eq!(*loaded.place("server.tcp_port"), place(3, 13));
    assert_eq!(*loaded.place("workers.cpu_affinity"), place(24, 17));
    assert_eq!(*loaded.place("server.bind"), Place::Default);
}

#[test]
fn without_a_file_everything_is_as_by_default_and_only_for_this_machine() {
    let loaded = Loaded::new(None, [], &Machine { cpus: vec![0], nodes: vec![0] }).expect("the defaults are right");
    assert_eq!(loaded, Loaded::default());
    assert!(loaded.config.server.bind.is_loopback() && loaded.config.metrics.bind.is_loopback());
    assert_eq!(loaded.config.acks.policy(), ack::Policy::Immediate);
    assert!(loaded.config.backpressure.are_sound());
    for empty in ["", "# nothing\n", "server:\nqueues:\n  batch:\n", "{}"] {
        assert_eq!(load(empty).map(|loaded| loaded.config), Ok(Config::default()), "{empty}");
    }
}

#[test]
fn whatever_is_wrong_is_told_with_its_place_what_was_expected_and_what_was_meant() {
    for (text, error) in [
        // Keys that do not exist.
        ("server:\n  tcp_prt: 1\n", "c.yaml:2:3: server.tcp_prt: there is no such key; did you mean `tcp_port`?"),
        ("\nsever: {}\n", "c.yaml:2:1: sever: there is no such key; did you mean `server`?"),
        (
            "server:\n  cpu_affinity: [1]\n",
            "c.yaml:2:3: server.cpu_affinity: there is no such key; did you mean `workers.cpu_affinity`?",
        ),
        ("zebra: 1\n", "c.yaml:1:1: zebra: there is no such key"),
        ("9: 1\n", "c.yaml:1:1: `9`: there is no such key"),
        // Values of another kind.
        (
            "server:\n  tcp_port: \"9000\"\n",
            "c.yaml:2:13: server.tcp_port: expected a whole number from 0 to 65535, or off, found \"9000\"",
        ),
        (
            "server:\n  udp_port: 65536",
            "c.yaml:2:13: server.udp_port: expected a whole number from 0 to 65535, or off, found `65536`",
        ),
        ("server:\n  window: 1.5", "c.yaml:2:11: server.window: expected a whole number from 1 to 1024, found `1.5`"),
        (
            "server:\n  bind: localhost",
            "c.yaml:2:9: server.bind: expected an IP address such as 127.0.0.1 or ::1, found \"localhost\"",
        ),
        (
            "server:\n  max_frame: 16MiB",
            "c.yaml:2:14: server.max_frame: expected a size from 1KiB to 16777215 bytes, found \"16MiB\"",
        ),
        ("drain_timeout: 30", "c.yaml:1:16: drain_timeout: expected a time from 1ms to 1h with its unit, found `30`"),
        ("acks: {age: }", "c.yaml:1:11: acks.age: expected a time from 1us to 1h with its unit, found nothing"),
        (
            "queues:\n  realtime:\n    capacity: 1000\n",
            "c.yaml:3:15: queues.realtime.capacity: expected a power of two from 16 to 16384, found `1000`",
        ),
        ("queues: {batch: {type: mpcs}}", "c.yaml:1:24: queues.batch.type: expected spsc or mpsc, found \"mpcs\""),
        ("numa:\n  enabled: yes", "c.yaml:2:12: numa.enabled: expected true or false, found \"yes\""),
        (
            "workers:\n  cpu_affinity: [1, 1]",
            "c.yaml:2:17: workers.cpu_affinity: expected a list of CPUs such as [0, 1], none of them twice, found `[1, 1]`",
        ),
        (
            "backpressure: {drop_threshold: 0.905}",
            "c.yaml:1:32: backpressure.drop_threshold: expected a fraction from 0 to 1 in hundredths, such as 0.85, found `0.905`",
        ),
        (
            "topics:\n  allow: []",
            "c.yaml:2:10: topics.allow: expected a list of topics or patterns such as [\"sensors/*\"], found `[]`",
        ),
        ("domain: a/b", "c.yaml:1:9: domain: expected up to 32 of A-Z, a-z, 0-9, _ and -, found \"a/b\""),
        ("workers: 4", "c.yaml:1:10: workers: expected count, cpu_affinity, poll, retries below it, found `4`"),
        (
            "metrics:\n  port:",
            "c.yaml:2:7: metrics.port: expected a whole number from 0 to 65535, or off, found nothing",
        ),
        ("numa:\n- node: 1", "c.yaml:2:3: numa: expected enabled, node below it, found a list"),
        // Values that do not go together.
        (
            "queues:\n  realtime:\n    type: mpsc\n",
            "c.yaml:3:11: queues.realtime.type: this lane is spsc (one dispatcher pushes to it) and cannot be mpsc",
        ),
        (
            "queues: {batch: {type: spsc}}",
            "c.yaml:1:24: queues.batch.type: this lane is mpsc (several threads push to it) and cannot be spsc",
        ),
        (
            "backpressure:\n  drain_threshold: 0.5\n",
            "c.yaml:2:20: backpressure.drain_threshold: expected it to be above backpressure.pause_threshold, which is 0.6 (by default)",
        ),
        (
            "backpressure:\n  pause_threshold: 0.8\n",
            "c.yaml:2:20: backpressure.pause_threshold: expected it to be below backpressure.drain_threshold, which is 0.8 (by default)",
        ),
        (
            "backpressure:\n  drain_threshold: 0.9\n  drop_threshold: 0.85\n",
            "c.yaml:3:19: backpressure.drop_threshold: expected it to be above backpressure.drain_threshold, which is 0.9 (c.yaml:2:20)",
        ),
        (
            "backpressure: {pause_threshold: 0.05}",
            "c.yaml:1:33: backpressure.pause_threshold: a state ends 0.05 below where it begins: expected more",
        ),
        ("metrics:\n  port: 9000", "c.yaml:2:9: metrics.port: 9000 is the port of server.tcp_port (by default), too"),
        (
            "server:\n  tcp_port: 9464",
            "c.yaml:2:13: server.tcp_port: 9464 is the port of metrics.port (by default), too",
        ),
        (
            "server:\n  bind: 0.0.0.0",
            "c.yaml:2:9: server.bind: anybody who reaches 0.0.0.0 could send: set server.token_file or server.token, or bind 127.0.0.1",
        ),
        (
            "server: {tcp_port: off, udp_port: off}",
            "c.yaml:1:35: server.udp_port: it is off, and server.tcp_port is: events need a way in",
        ),
        (
            "server: {token: abcdefgh, token_file: /t}",
            "c.yaml:1:39: server.token_file: there is a server.token (c.yaml:1:17), too: remove one",
        ),
        (
            "workers: {count: 1, cpu_affinity: [0, 1]}",
            "c.yaml:1:35: workers.cpu_affinity: workers.cpu_affinity has 2 CPUs for a workers.count of 1 (workers.count: c.yaml:1:18)",
        ),
        ("numa: {enabled: true, node: 1}", "c.yaml:1:29: numa.node: there is no node 1; the nodes are 0"),
        (
            "workers: {retries: {backoff: 2s}}",
            "c.yaml:1:30: workers.retries.backoff: backoff is more than max_backoff (workers.retries.max_backoff: by default)",
        ),
        (
            "memory: 1MiB",
            "c.yaml:1:9: memory: memory (1MiB) has no room for four frames of server.max_frame (1MiB), set by default",
        ),
        // Texts that are none.
        ("server:\n  tcp_port: 1\n  tcp_port: 2\n", "c.yaml:3:3: `tcp_port` is there twice; remove one"),
        ("a: [", "c.yaml:1:4: unclosed bracket '['"),
        ("server:\n\ttcp_port: 1", "c.yaml:2:2: tabs disallowed within this context (block indentation)"),
        ("domain: a\n---\ndomain: b\n", "c.yaml:3:1: there is another document; a configuration is one"),
        ("[1]: 2", "c.yaml:1:1: a key is a word"),
        ("domain: *nothing", "c.yaml:1:9: reference to unknown value"),
    ] {
        assert_eq!(errors(text), error, "{text}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let problems = load("server: {tcp_port: x, window: 0}\nnuma: {nod: 1}\n").expect_err("three things are wrong").0;
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["server.tcp_port", "server.window", "numa.nod"]);
}

#[test]
fn of_very_many_problems_the_first_are_told_and_the_rest_counted() {
    let text: String = (0..1000).map(|at| format!("{}{at}: 1\n", "x".repeat(200))).collect();
    let error = errors(&text);
    assert!(error.ends_with("\nand 980 more") && error.len() < 20 * 200, "{error}");
}

#[test]
fn a_file_that_is_made_to_take_long_is_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for at in 1..20 {
        let aliases = vec![format!("*a{}", at - 1); 9].join(", ");
        laughs.push_str(&format!("a{at}: &a{at} [{aliases}]\n"));
    }
    let nested: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let many: String = (0..30_000).map(|at| format!("k{at}: 1\n")).collect();
    let large = format!("# {}\n", "x".repeat(MAX_FILE));
    for text in [&laughs, &nested, &many, &large] {
        let problems = load(text).expect_err("it is too much").0;
        assert!(matches!(problems[..], [Problem { fault: Fault::Excess(_), .. }]), "{problems:?}");
    }
    for open in ["[", "{a: "] {
        assert!(errors(&open.repeat(100_000)).contains("recursion limit"), "{open}");
    }
}

#[test]
fn anchors_and_merges_of_a_usual_size_are_as_good_as_what_they_stand_for() {
    let text = "queues:\n  transactional: &lower {capacity: 128}\n  batch:\n    <<: *lower\n    target: 1s\n";
    let queues = load(text).expect("it is right").config.queues;
    assert_eq!((queues.transactional.capacity, queues.batch.capacity), (128, 128));
    assert_eq!(queues.batch.target, Duration::from_secs(1));
}

#[test]
fn the_environment_comes_before_the_file() {
    let loaded = load_with(
        "server: {tcp_port: 1000, udp_port: 1001}",
        &[
            ("CONDUIT__SERVER__TCP_PORT", "2000"),
            ("CONDUIT__WORKERS__CPU_AFFINITY", "[2]"),
            ("CONDUIT__SERVER__TOKEN", "1234567890"),
            ("CONDUIT__DEAD_LETTERS__MAX_AGE", "off"),
            ("CONDUIT__TOPICS__ALLOW", "['sensors/*', log]"),
            ("CONDUIT__QUEUES__REALTIME__CAPACITY", "64"),
            ("CONDUIT__DOMAIN", ""),
            ("CONDUIT_DOMAIN", "something else"),
            ("PATH", "/bin"),
        ],
    );
    let Loaded { config, places } = loaded.expect("it is right");
    assert_eq!((config.server.tcp_port, config.server.udp_port), (Some(2000), Some(1001)));
    assert_eq!(config.server.token.map(|token| token.reveal().to_string()).as_deref(), Some("1234567890"));
    assert_eq!((config.workers.cpu_affinity, config.dead_letters.max_age), (vec![2], None));
    assert_eq!(config.topics.allow, [Pattern::new("sensors/*"), Pattern::new("log")]);
    assert_eq!(config.queues.realtime.capacity, 64);
    assert_eq!(places["server.tcp_port"], Place::Environment { variable: "CONDUIT__SERVER__TCP_PORT".into() });
    assert_eq!(places["server.udp_port"], Place::File { name: "c.yaml".into(), line: 1, column: 36 });
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    for (variable, value, error) in [
        (
            "CONDUIT__SERVER__TCP_PRT",
            "1",
            "CONDUIT__SERVER__TCP_PRT: there is no such key; did you mean `CONDUIT__SERVER__TCP_PORT`?",
        ),
        (
            "CONDUIT__SERVER_TCP_PORT",
            "1",
            "CONDUIT__SERVER_TCP_PORT: there is no such key; did you mean `CONDUIT__SERVER__TCP_PORT`?",
        ),
        ("CONDUIT__domain", "a", "CONDUIT__domain: there is no such key; did you mean `CONDUIT__DOMAIN`?"),
        ("CONDUIT__", "a", "CONDUIT__: there is no such key"),
        (
            "CONDUIT__SERVER__TCP_PORT",
            "http",
            "CONDUIT__SERVER__TCP_PORT: server.tcp_port: expected a whole number from 0 to 65535, or off, found \"http\"",
        ),
        (
            "CONDUIT__WORKERS__CPU_AFFINITY",
            "0,1",
            "CONDUIT__WORKERS__CPU_AFFINITY: workers.cpu_affinity: expected a list of CPUs such as [0, 1], none of them twice, found \"0,1\"",
        ),
        ("CONDUIT__NUMA__ENABLED", "[", "CONDUIT__NUMA__ENABLED: numa.enabled: expected true or false, found \"[\""),
        (
            "CONDUIT__METRICS__PORT",
            "9000",
            "CONDUIT__METRICS__PORT: metrics.port: 9000 is the port of server.tcp_port (by default), too",
        ),
    ] {
        assert_eq!(load_with("", &[(variable, value)]).expect_err(variable).to_string(), error);
    }
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![0xff]);
    let error = Loaded::new(None, [("CONDUIT__DOMAIN".into(), odd)], &machine()).expect_err("it is no text");
    assert_eq!(error.to_string(), "CONDUIT__DOMAIN: domain: its value is no UTF-8");
}

#[test]
fn the_command_line_comes_before_all() {
    let mut loaded = load_with("domain: a", &[("CONDUIT__DOMAIN", "b")]).expect("it is right");
    assert_eq!(loaded.config.domain, "b");
    assert_eq!(loaded.set_domain("c"), Ok(()));
    assert_eq!(loaded.config.domain, "c");
    assert!(matches!(loaded.place("domain"), Place::CommandLine { .. }));
    let error = loaded.set_domain("a/b").expect_err("it is no domain").to_string();
    assert!(error.starts_with("--domain or CONDUIT_DOMAIN: domain: expected up to 32 of"), "{error}");
}

#[test]
fn marks_of_other_systems_editors_are_no_part_of_the_text() {
    let loaded = load("\u{feff}server:\r\n  tcp_port: 7\r\n  bind: 127.0.0.2\r\n").expect("it is right");
    assert_eq!(
        (loaded.config.server.tcp_port, loaded.place("server.bind").to_string().as_str()),
        (Some(7), "c.yaml:3:9")
    );
}

#[test]
fn a_token_is_shown_nowhere() {
    let loaded = load("server: {token: open-sesame, bind: 0.0.0.0}").expect("it is right");
    let shown = [loaded.to_yaml(), loaded.to_json().to_string(), format!("{loaded:?}")];
    let refused = ["server: {token: 'open sesame'}", "server: {token: [open-sesame]}", "server: {token: 0x6f70656e}"];
    assert!(loaded.to_yaml().contains("  token: \"***\" "), "{}", loaded.to_yaml());
    for text in shown.into_iter().chain(refused.map(errors)) {
        assert!(!text.contains("sesame") && !text.contains("1869636974"), "{text}");
    }
}

#[test]
fn json_has_every_value_and_the_places_of_those_that_are_not_as_by_default() {
    let loaded = load_with("server:\n  tcp_port: 0\n", &[("CONDUIT__MEMORY", "64MiB")]).expect("it is right");
    let json = loaded.to_json();
    assert_eq!(json["config"]["server"]["tcp_port"], 0);
    assert_eq!(json["config"]["queues"]["realtime"]["target"], "100us");
    assert_eq!(json["config"]["backpressure"]["pause_threshold"], 0.6);
    assert_eq!(
        json["places"],
        json!({
            "server.tcp_port": { "file": "c.yaml", "line": 2, "column": 13 },
            "memory": { "variable": "CONDUIT__MEMORY" },
        })
    );
}

/// For each key a value that is not as by default, and that goes with any of the others.
const OTHERS: &[(&str, &str)] = &[
    ("domain", "on"),
    ("memory", "12345678"),
    ("drain_timeout", "1500ms"),
    ("server.tcp_port", "0"),
    ("server.udp_port", "off"),
    ("server.bind", "\"::1\""),
    ("server.token_file", "\"/etc/a b: c # d\""),
    ("server.max_connections", "1"),
    ("server.idle_timeout", "90s"),
    ("server.max_frame", "2047KiB"),
    ("server.window", "1"),
    ("server.busy_poll", "50us"),
    ("server.threads", "2"),
    ("acks.policy", "deferred"),
    ("acks.events", "1"),
    ("acks.age", "1us"),
    ("topics.max", "7"),
    ("topics.depth", "1"),
    ("topics.max_len", "1"),
    ("topics.allow", "[\"a/**\", \"null\", \"*\"]"),
    ("topics.memory", "2MiB"),
    ("queues.realtime.capacity", "16"),
    ("queues.realtime.target", "1h"),
    ("queues.transactional.capacity", "1024"),
    ("queues.transactional.target", "999us"),
    ("queues.batch.capacity", "32"),
    ("queues.batch.target", "61s"),
    ("numa.enabled", "true"),
    ("numa.node", "0"),
    ("workers.count", "1"),
    ("workers.cpu_affinity", "[3]"),
    ("workers.poll", "20us"),
    ("workers.retries.attempts", "1000"),
    ("workers.retries.backoff", "1s"),
    ("workers.retries.max_backoff", "24h"),
    ("backpressure.pause_threshold", "0.57"),
    ("backpressure.drain_threshold", "0.7"),
    ("backpressure.drop_threshold", "0.91"),
    ("backpressure.emergency_threshold", "1"),
    ("durable.dir", "/var/lib/conduit"),
    ("durable.sync", "none"),
    ("durable.interval", "7ms"),
    ("durable.split_size", "1GiB"),
    ("durable.max_size", "1GiB"),
    ("durable.max_age", "24h"),
    ("dead_letters.dir", "\"true\""),
    ("dead_letters.max_size", "65537"),
    ("dead_letters.max_age", "off"),
    ("metrics.port", "off"),
    ("metrics.bind", "0.0.0.0"),
];

/// A file with some of them, nested as files are, and what the same is for the environment.
fn some_of(others: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
    let mut document = json!({});
    for (path, value) in others {
        let place = path.split('.').fold(&mut document, |section, name| &mut section[name]);
        *place = json!(format!("<{value}>"));
    }
    // JSON whose marked texts are values as they stand.
    let text = document.to_string().replace("\"<", " ").replace(">\"", " ").replace("\\\"", "\"");
    let variable = |path: &str| Key::find(path).map_or_else(String::new, Key::variable);
    (text, others.iter().map(|(path, value)| (variable(path), value.trim_matches('"').to_string())).collect())
}

#[test]
fn the_documentation_has_every_key_with_its_default() {
    let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"));
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let documented: Vec<_> = rows.map(|row| row.split('`').nth(1).zip(row.split('`').nth(3))).collect();
    let printed = Loaded::default();
    let expected: Vec<_> = KEYS.iter().map(|key| (key.path, print::scalar(&(key.show)(&printed.config)))).collect();
    let expected: Vec<_> = expected.iter().map(|(path, value)| Some((*path, value.as_str()))).collect();
    assert_eq!(documented, expected);
}

#[test]
fn every_key_can_be_set_to_something_else() {
    let fixed = ["queues.realtime.type", "queues.transactional.type", "queues.batch.type", "server.token"];
    for key in KEYS {
        let is_covered = OTHERS.iter().any(|(path, _)| *path == key.path) || fixed.contains(&key.path);
        assert!(is_covered, "{} is not tried", key.path);
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same_configuration(chosen in proptest::collection::vec(any::<bool>(), OTHERS.len())) {
        let some: Vec<_> = OTHERS.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(other, _)| *other).collect();
        let (text, variables) = some_of(&some);
        let loaded = load(&text);
        prop_assert!(loaded.is_ok(), "{} {}", text, loaded.unwrap_err());
        let loaded = loaded.unwrap();
        for (path, _) in &some {
            prop_assert!(*loaded.place(path) != Place::Default);
        }
        let again = load(&loaded.to_yaml());
        prop_assert_eq!(again.map(|again| again.config), Ok(loaded.config.clone()), "{}", loaded.to_yaml());
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let told = load_with("", &variables);
        prop_assert_eq!(told.map(|told| told.config), Ok(loaded.config.clone()));
        // And a running daemon says which of it has to wait for the next start.
        let unchanged = ["numa.node"];
        let waits: Vec<_> = some.iter().map(|(path, _)| *path)
            .filter(|path| !path.starts_with("backpressure.") && !unchanged.contains(path)).collect();
        prop_assert_eq!(Config::default().restart_needed(&loaded.config), waits);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-z0-9:,&*!|>#'\"% \n\t\\[\\]{}<~-]|server|queues|: |\n  |- ){0,60}") {
        let _ = load(&text);
        let _ = load_with("", &[("CONDUIT__TOPICS__ALLOW", &text)]);
    }

    #[test]
    fn nor_do_bytes_of_any_kind(text in any::<String>()) {
        let _ = load(&text);
        let _ = load(&format!("server: {text}"));
        let _ = load_with("", &[(&format!("CONDUIT__{text}"), &text)]);
    }
}
