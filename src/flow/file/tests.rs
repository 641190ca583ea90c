use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::flow::model::*;
use crate::flow::plan::{StopKind, TaskKind};

fn read_with(files: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Read, Problems> {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let overrides: Vec<_> = overrides.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut include = |path: &Path| {
        let text = files.get(path.to_str().expect("a path of these tests"));
        text.map(|text| text.to_string()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    read(Path::new("f.flow.yaml"), files["f.flow.yaml"], &mut include, &overrides)
}

#[track_caller]
fn good(text: &str) -> Read {
    read_with(&[("f.flow.yaml", text)], &[]).unwrap_or_else(|problems| panic!("{problems}"))
}

#[track_caller]
fn errors(text: &str) -> String {
    read_with(&[("f.flow.yaml", text)], &[]).expect_err(text).to_string()
}

fn nodes(read: &Read) -> Vec<&Node> {
    let tasks = read.plan.tasks.iter();
    tasks
        .filter_map(|task| if let TaskKind::Node(node) | TaskKind::Run(node) = &task.kind { Some(node) } else { None })
        .collect()
}

/// Everything that a file can say.
const FULL: &str = r#"# A robot.
version: 1
vars: { rate: 100 }
env: { RUST_LOG: info }
defaults: { stop: { signal: SIGINT, timeout: 5s }, restart: never }

startup:
  - imu_driver
  - name: camera
    exec: ./camera_node
    args: ["--rate", "${rate}"]
    env: { GAIN: "2" }
    working_dir: /opt/robot
    ready: { topic: camera, hz: 20, timeout: 5s }
    alive: { topic: camera, within: 500ms }
    restart: { policy: on-failure, backoff: 200ms..10s, max: 5, window: 1m, then: stop-flow }
    stop: { signal: TERM, timeout: 3s }
    cpu: [2, 3]
    needs: [imu_driver]
  - wait: [topic:imu, topic:camera]
    timeout: 20s
  - group: [planner, controller]
  - run: ./self_test

shutdown:
  - controller
  - wait: 100ms
  - planner
"#;

#[test]
fn a_file_with_only_names_is_a_flow() {
    let read = good("startup: [a, ./bin/b]");
    let names: Vec<_> = nodes(&read).iter().map(|node| (node.name.as_str(), node.program.as_str())).collect();
    assert_eq!(names, [("a", "a"), ("b", "./bin/b")]);
    assert_eq!((read.flow.name.as_str(), &read.flow.shutdown), ("f", &None));
    let node = nodes(&read)[0];
    assert_eq!(node.stop, Stop { signal: libc::SIGINT, timeout: Duration::from_secs(5) });
    assert_eq!((node.restart.policy, &node.working_dir, &node.ready), (Policy::Never, &None, &None));
}

#[test]
fn everything_that_a_file_can_say_is_read_as_it_stands() {
    let read = good(FULL);
    let camera = nodes(&read)[1];
    let expected = Node {
        name: "camera".into(),
        program: "./camera_node".into(),
        args: vec!["--rate".into(), "100".into()],
        env: vec![("RUST_LOG".into(), "info".into()), ("GAIN".into(), "2".into())],
        working_dir: Some("/opt/robot".into()),
        ready: Some(Ready {
            check: Check::Topic { topic: "camera".into(), hz: Some(20.0) },
            timeout: Duration::from_secs(5),
        }),
        alive: Some(Alive::Topic { topic: "camera".into(), within: Duration::from_millis(500) }),
        restart: Restart {
            policy: Policy::OnFailure,
            backoff: (Duration::from_millis(200), Duration::from_secs(10)),
            max: 5,
            window: Duration::from_secs(60),
            then: Then::StopFlow,
        },
        stop: Stop { signal: libc::SIGTERM, timeout: Duration::from_secs(3) },
        cpu: vec![2, 3],
        needs: Some(vec!["imu_driver".into()]),
    };
    assert_eq!(*camera, expected);
    let wait = Wait {
        conditions: vec![Condition::Topic("imu".into()), Condition::Topic("camera".into())],
        timeout: Duration::from_secs(20),
    };
    assert_eq!(read.flow.startup[2], Step::Wait(wait));
    assert!(matches!(&read.flow.startup[3], Step::Group(nodes) if nodes.len() == 2));
    assert!(matches!(&read.flow.startup[4], Step::Run(node) if node.name == "self_test"));
    let shutdown = [
        StopStep::Node("controller".into()),
        StopStep::Wait(Duration::from_millis(100)),
        StopStep::Node("planner".into()),
    ];
    assert_eq!(read.flow.shutdown.as_deref(), Some(&shutdown[..]));
    assert!(matches!(read.plan.stops[1].kind, StopKind::Wait(_)));
}

#[test]
fn each_sign_and_condition_is_read() {
    for (text, check) in [
        ("{ topic: a/b }", Check::Topic { topic: "a/b".into(), hz: None }),
        ("{ log: '^ready$' }", Check::Log("^ready$".into())),
        ("{ exec: test -e x }", Check::Exec("test -e x".into())),
        ("{ notify: true }", Check::Notify),
        ("{ file: sock }", Check::File("dir/sock".into())),
    ] {
        let read = good(&format!("startup: [{{ name: a, working_dir: dir, ready: {text} }}]"));
        let ready = nodes(&read)[0].ready.clone().expect(text);
        assert_eq!(ready, Ready { check, timeout: Duration::from_secs(30) });
    }
    for (text, alive) in [
        ("{ notify: true, within: 1s }", Alive::Notify { within: Duration::from_secs(1) }),
        (
            "{ exec: ping, every: 2s, timeout: 1s }",
            Alive::Exec { command: "ping".into(), every: Duration::from_secs(2), timeout: Duration::from_secs(1) },
        ),
    ] {
        let read = good(&format!("startup: [{{ name: a, alive: {text} }}]"));
        assert_eq!(nodes(&read)[0].alive, Some(alive));
    }
    let read = good("startup: [a, wait: 500ms, wait: [file:x, 'node:a=ready', 'node:a=exited']]");
    let Step::Wait(wait) = &read.flow.startup[1] else { panic!("{:?}", read.flow) };
    assert_eq!(wait.conditions, [Condition::Time(Duration::from_millis(500))]);
    let Step::Wait(wait) = &read.flow.startup[2] else { panic!("{:?}", read.flow) };
    let expected = [Condition::File("x".into()), Condition::NodeReady("a".into()), Condition::NodeExited("a".into())];
    assert_eq!((&wait.conditions[..], wait.timeout), (&expected[..], Duration::from_secs(30)));
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_what_was_meant() {
    assert_eq!(
        errors("startup:\n  - name: a\n    exce: ./a\n"),
        "f.flow.yaml:3:5: startup[0].exce: there is no such key; did you mean `exec`?"
    );
    assert_eq!(
        errors("start_up: [a]\n").lines().next(),
        Some("f.flow.yaml:1:1: start_up: there is no such key; did you mean `startup`?")
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once_each_with_its_place() {
    let found = errors(
        "startup:\n  - name: camera\n    stop: { signal: SIGTRM, timeout: 5 }\n    needs: [imo]\n    ready: { topic: a b, hz: fast }\n    restart: on-failur\n  - imu\n  - wait: [topik:a, node:camra=ready]\nshutdown: [camera, imu, imu]\n",
    );
    let lines: Vec<&str> = found.lines().collect();
    for (line, (place, part)) in lines.iter().zip([
        ("3:21", "found \"SIGTRM\"; did you mean `SIGTERM`?"),
        ("3:38", "write 5s or 5ms"),
        ("4:13", "there is no node `imo`; did you mean `imu`?"),
        ("5:21", "cannot be a topic"),
        ("5:30", "messages a second"),
        ("6:14", "did you mean `on-failure`?"),
        ("8:12", "did you mean `topic:`?"),
        ("8:21", "there is no node `camra`; did you mean `camera`?"),
        ("9:25", "`imu` is there twice"),
    ]) {
        assert!(line.starts_with(&format!("f.flow.yaml:{place}: ")) && line.contains(part), "{line}\n{part}");
    }
    assert_eq!(lines.len(), 9, "{found}");
}

#[test]
fn what_cannot_be_is_refused() {
    for (text, part) in [
        ("", "found nothing"),
        ("startup: []", "nothing to start"),
        ("startup: a", "expected a list of steps"),
        ("version: 2\nstartup: [a]", "from 1 to 1"),
        ("startup: [a, a]", "`a` is there twice"),
        ("startup: [{ exec: './x y' }]", "give it a `name`"),
        ("startup: ['./self_test --quick']", "arguments go to `args`"),
        ("startup: [{ name: -a }]", "a name of letters"),
        ("startup: [group: []]", "nothing in it"),
        ("startup: [wait: []]", "nothing in it"),
        ("startup: [wait: 0]", "500ms"),
        ("startup: [a, wait: { topic: imu }]", "without a space"),
        ("startup: [{ name: a, ready: {} }]", "one of topic, log"),
        ("startup: [{ name: a, ready: { topic: a, log: b } }]", "remove one"),
        ("startup: [{ name: a, ready: { log: '(' } }]", "no regular expression"),
        ("startup: [{ name: a, ready: { log: a, hz: 5 } }]", "belongs to `topic`"),
        ("startup: [{ name: a, alive: { topic: a } }]", "has to be said"),
        ("startup: [{ name: a, cpu: [1, 1] }]", "twice"),
        ("startup: [{ name: a, cpu: [-1] }]", "from 0 to 4095"),
        ("startup: [{ name: a, env: { 'A=B': c } }]", "without ="),
        ("startup: [{ name: a, restart: { backoff: 5s..1s } }]", "the shorter first"),
        ("startup: [{ run: a, restart: always }]", "not run always"),
        ("startup: [{ run: a, ready: { notify: true } }]", "no such key"),
        ("startup: [{ name: a, args: [1.50] }]", "in quotes"),
        ("startup: [{ name: a, args: [0x10] }]", "in quotes"),
        ("startup: [{ name: a, args: [\"${b}\"] }]", "no variable `b`"),
        ("startup: [{ name: a, args: [\"${b\"] }]", "has no `}`"),
        ("vars: { rate: 1 }\nstartup: [\"${rat}\"]", "did you mean `rate`?"),
        ("startup: [a]\nshutdown: [b]", "no node `b`"),
        ("startup: [a]\nshutdown: [{ wait: 1s, group: [a] }]", "`group` or `wait`"),
        ("startup: [wait: 'node:b=ready', b]", "none of these can begin"),
        ("startup: [a\n", "f.flow.yaml:"),
    ] {
        let found = errors(text);
        assert!(found.contains(part), "{text}: {found}");
    }
}

#[test]
fn a_circle_is_named_from_end_to_end_with_its_place() {
    let found = errors("startup:\n  - name: a\n    needs: [c]\n  - b\n  - c\n");
    assert_eq!(found, "f.flow.yaml:2:5: startup: none of these can begin: a needs c needs b needs a");
}

#[test]
fn variables_stand_for_what_they_are_told_else_for_what_the_file_says() {
    let text = "vars: { rate: 100, all: \"r=${rate}\" }\nstartup: [{ name: a, args: [\"${all}\", \"${dir:-/tmp}\", \"$${rate}\"], ready: { topic: t, hz: \"${rate}\" } }]";
    let args = |overrides: &[(&str, &str)]| {
        let read = read_with(&[("f.flow.yaml", text)], overrides).expect("it is right");
        let node = nodes(&read)[0].clone();
        (node.args, node.ready.map(|ready| ready.check))
    };
    let check = |hz| Some(Check::Topic { topic: "t".into(), hz: Some(hz) });
    assert_eq!(args(&[]), (vec!["r=100".into(), "/tmp".into(), "${rate}".into()], check(100.0)));
    let told = args(&[("rate", "50.5"), ("dir", "/x")]);
    assert_eq!(told, (vec!["r=50.5".into(), "/x".into(), "${rate}".into()], check(50.5)));
    let found = read_with(&[("f.flow.yaml", text)], &[("rat", "1")]).expect_err("no such variable").to_string();
    assert_eq!(found, "-s rat=1: there is no variable `rat` in `vars`; did you mean `rate`?");
}

#[test]
fn variables_cannot_make_more_of_a_file_than_a_file_may_be() {
    let mut text = String::from("vars:\n  v0: xxxxxxxxxxxxxxxx\n");
    for at in 1..40 {
        text += &format!("  v{at}: \"${{v{0}}}${{v{0}}}\"\n", at - 1);
    }
    let found = errors(&format!("{text}startup: [{{ name: a, args: [\"${{v39}}\"] }}]\n"));
    assert!(found.contains("more than a configuration needs"), "{found}");
}

#[test]
fn an_included_file_comes_first_and_its_paths_are_its_own() {
    let files = [
        ("f.flow.yaml", "vars: { rate: 5 }\nenv: { A: outer, B: outer }\ninclude: [sub/g.flow.yaml]\nstartup: [b]"),
        (
            "sub/g.flow.yaml",
            "vars: { rate: 1, own: 2 }\nenv: { A: inner }\nstartup: [{ name: a, args: [\"${rate}\", \"${own}\"] }, wait: file:x]",
        ),
    ];
    let read = read_with(&files, &[]).expect("it is right");
    let [a, b] = nodes(&read)[..] else { panic!("{read:?}") };
    assert_eq!((a.name.as_str(), &a.args[..]), ("a", &["5".to_string(), "2".to_string()][..]));
    assert_eq!((a.working_dir.as_deref(), b.working_dir.as_deref()), (Some(Path::new("sub")), None));
    let env = |node: &Node| node.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    assert_eq!((env(a), env(b)), (vec!["A=inner".into(), "B=outer".into()], vec!["A=outer".into(), "B=outer".into()]));
    let Step::Wait(wait) = &read.flow.startup[1] else { panic!("{read:?}") };
    assert_eq!(wait.conditions, [Condition::File("sub/x".into())]);
}

#[test]
fn problems_of_included_files_name_them_and_files_that_include_each_other_are_refused() {
    let found = |files: &[(&str, &str)]| read_with(files, &[]).expect_err("wrong").to_string();
    let include = "include: [g.yaml]\nstartup: [b]";
    let wrong = found(&[("f.flow.yaml", include), ("g.yaml", "startup: [{ name: a, exce: b }]")]);
    assert!(wrong.starts_with("g.yaml:1:22: startup[0].exce: "), "{wrong}");
    let circle = found(&[("f.flow.yaml", include), ("g.yaml", "include: [./f.flow.yaml]\nstartup: [a]")]);
    assert!(
        circle.contains("g.yaml:1:11: include: files include each other: f.flow.yaml -> g.yaml -> f.flow.yaml"),
        "{circle}"
    );
    assert!(found(&[("f.flow.yaml", include)]).contains("f.flow.yaml:1:11: include: cannot read g.yaml"));
    let shutdown = found(&[("f.flow.yaml", include), ("g.yaml", "startup: [a]\nshutdown: [a]")]);
    assert!(shutdown.contains("g.yaml:2:11: shutdown: an included file has none"), "{shutdown}");
}

#[test]
fn files_within_files_come_to_an_end() {
    let mut include = |path: &Path| {
        let number: u32 = path.to_string_lossy().trim_end_matches(".yaml").parse().unwrap_or(0);
        Ok(format!("include: [{}.yaml]\nstartup: [n{number}]", number + 1))
    };
    let found = read(Path::new("f"), "include: [0.yaml]", &mut include, &[]).expect_err("too deep").to_string();
    assert!(found.contains("within each other"), "{found}");
}

#[test]
fn the_schema_for_editors_has_the_keys_that_are_read() {
    use super::keys::*;
    let tree = crate::yaml::parse(SCHEMA).expect("JSON is YAML");
    fn get<'n>(node: &'n crate::yaml::Node, key: &str) -> Option<&'n crate::yaml::Node> {
        let crate::yaml::Value::Map(entries) = &node.value else { return None };
        entries.iter().find(|(name, _)| name.value == crate::yaml::Value::Text(key.into())).map(|(_, node)| node)
    }
    fn names(node: &crate::yaml::Node) -> Vec<String> {
        let properties = match get(node, "properties") {
            Some(properties) => properties,
            // The mapping behind a short form.
            None => {
                let Some(crate::yaml::Node { value: crate::yaml::Value::List(forms), .. }) = get(node, "oneOf") else {
                    panic!("no properties: {node:?}")
                };
                forms.iter().find_map(|form| get(form, "properties")).expect("a mapping among the forms")
            }
        };
        let crate::yaml::Value::Map(entries) = &properties.value else { panic!("{properties:?}") };
        entries.iter().map(|(name, _)| name.value.describe().trim_matches('"').to_string()).collect()
    }
    assert_eq!(names(&tree), FILE);
    assert_eq!(names(get(get(&tree, "properties").unwrap(), "defaults").unwrap()), DEFAULTS);
    let definitions = get(&tree, "$defs").expect("definitions");
    for (name, keys) in [
        ("node", NODE),
        ("run", RUN),
        ("group", GROUP),
        ("wait", WAIT),
        ("stopping", STOPPING),
        ("ready", READY),
        ("alive", ALIVE),
        ("restart", RESTART),
        ("stop", STOP),
    ] {
        assert_eq!(names(get(definitions, name).expect(name)), keys, "{name}");
    }
    assert!(signal::SIGNALS.iter().all(|(name, _)| SCHEMA.contains(name)));
}

proptest::proptest! {
    #[test]
    fn no_text_is_more_than_wrong(text in "[ \n\\-:{}\\[\\]a-c$0-9,.\"']{0,80}|(startup|wait|group|run|name|needs|shutdown|[ \n:\\-,\\[\\]{}a]){0,20}") {
        let mut include = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
        if let Err(problems) = read(Path::new("f"), &text, &mut include, &[]) {
            proptest::prop_assert!(!problems.0.is_empty());
        }
    }
}
