//! `conduit flow check`, `graph`, `list`, `schema` and `run --dry-run`: what a flow's file says, without running it.
#![cfg(all(feature = "cli", feature = "flow"))]

mod cli;
mod flows;
mod support;

use cli::Running;
use flows::Flows;
use serde_json::{Value, json};

#[test]
fn check_tells_all_that_is_wrong_with_its_place_and_is_content_with_what_is_right() {
    let wrong = "startup:\n  - name: sh\n    exce: sh\n    needs: [slep]\n  - sleep\n";
    let flows = Flows::new(&[("wrong.flow.yaml", wrong), ("right.flow.yaml", "startup: [sh, sleep]\n")]);
    let right = flows.run(&["flow", "check", "right"]).code(0);
    assert_eq!(right.out, "right.flow.yaml: 2 steps, as it should be\n");
    let told = flows.run(&["flow", "check", "wrong.flow.yaml"]).code(2);
    assert_eq!(
        told.err,
        "wrong.flow.yaml:3:5: startup[0].exce: there is no such key; did you mean `exec`?\n\
         wrong.flow.yaml:4:13: startup: there is no node `slep`; did you mean `sleep`?\n\
         conduit: wrong.flow.yaml: 2 problems\n"
    );
    assert_eq!(told.out, "");
    let found = flows.run(&["flow", "check", "wrong", "--json"]).code(2).json();
    assert_eq!((&found["ok"], found["problems"].as_array().map(Vec::len)), (&json!(false), Some(2)));
    let first = &found["problems"][0];
    assert_eq!((&first["file"], &first["line"], &first["column"]), (&json!("wrong.flow.yaml"), &json!(3), &json!(5)));
    assert_eq!(flows.run(&["flow", "check", "right", "--json"]).code(0).json()["problems"], json!([]));
}

#[test]
fn check_tells_what_this_machine_has_not() {
    let text = "startup:\n  - no_such_program_anywhere\n  - name: dir\n    exec: sh\n    working_dir: nowhere\n  \
                - name: plain\n    exec: ./plain\n  - { name: cpu, exec: sh, cpu: [4095] }\n  - { name: args, exec: ./a b }\n";
    let flows = Flows::new(&[("m.flow.yaml", text), ("plain", "no program")]);
    let told = flows.run(&["flow", "check", "m"]).code(2).err;
    let lines: Vec<&str> = told.lines().collect();
    for (line, part) in lines.iter().zip([
        "m.flow.yaml:2:5: no_such_program_anywhere.exec: there is no program no_such_program_anywhere in PATH",
        "m.flow.yaml:3:5: dir.working_dir: there is no directory nowhere",
        "m.flow.yaml:6:5: plain.exec: ./plain is not executable",
        "m.flow.yaml:8:5: cpu.cpu: there is no CPU 4095",
        "m.flow.yaml:9:5: args.exec: there is no file ./a b; arguments go to `args`",
        "conduit: m.flow.yaml: 5 problems",
    ]) {
        assert!(line.contains(part), "{line}\n{part}");
    }
    assert_eq!(lines.len(), 6, "{told}");
}

#[test]
fn graph_shows_what_comes_after_what_for_people_and_for_programs_that_draw() {
    let flows = Flows::new(&[("g.flow.yaml", "startup: [a, group: [b, c]]\n")]);
    let text = flows.run(&["flow", "graph", "g"]).code(0).out;
    assert!(text.contains("b  after a\n") && text.contains("shutdown\n"), "{text}");
    let mermaid = flows.run(&["flow", "graph", "g", "--mermaid"]).code(0).out;
    assert!(mermaid.starts_with("flowchart TD\n") && mermaid.contains("t0 --> t2\n"), "{mermaid}");
    let dot = flows.run(&["flow", "graph", "g", "--dot"]).code(0).out;
    assert!(dot.starts_with("digraph \"g\" {\n") && dot.contains("t0 -> t1;\n"), "{dot}");
    let json = flows.run(&["flow", "graph", "g", "--json"]).code(0).json();
    assert_eq!(json["tasks"][2], json!({ "id": 2, "kind": "node", "task": "c", "needs": [0] }));
    assert_eq!(json["stops"][2], json!({ "stop": 0, "after": [0, 1] }));
    flows.run(&["flow", "graph", "g", "--mermaid", "--dot"]).code(2);
}

#[test]
fn list_finds_flows_by_name_in_each_place_and_the_first_of_a_name_wins() {
    let flows = Flows::new(&[
        ("here.flow.yaml", "# What is here.\n# More.\nstartup: [a]\n"),
        ("flows/below.flow.yaml", "startup: [a]\n"),
        ("flows/here.flow.yaml", "# Hidden.\nstartup: [a]\n"),
        ("path/on_path.flow.yaml", "#\n#  Found by a variable.\nstartup: [a]\n"),
        ("config/conduit/flows/mine.flow.yaml", "startup: [a]\n"),
        ("first/here.flow.yaml", "# First.\nstartup: [a]\n"),
        ("other.yaml", "startup: [a]\n"),
    ]);
    let list = |args: &[&str]| {
        let path = format!("nowhere:{}", flows.dir.file("path").display());
        let listed = Running::start(flows.command(args).env("CONDUIT_FLOW_PATH", path)).end().code(0).json();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let found = listed.as_array().unwrap().iter();
        found.map(|flow| format!("{}: {}", text(&flow["name"]), text(&flow["description"]))).collect::<Vec<_>>()
    };
    let expected = ["below: ", "here: What is here.", "mine: ", "on_path: Found by a variable."];
    assert_eq!(list(&["flow", "list", "--json"]), expected);
    assert_eq!(list(&["flow", "--list", "--json"]), expected);
    assert!(list(&["flow", "list", "--dir", "first", "--json"]).contains(&"here: First.".into()));
    let missing = flows.run(&["flow", "check", "hree"]).code(2).err;
    assert!(missing.contains("did you mean here?"), "{missing}");
}

#[test]
fn a_dry_run_tells_when_what_begins_and_a_flow_can_be_named_without_the_word_run() {
    let text =
        "vars: { pause: 2s }\nstartup: [{ name: a, ready: { notify: true, timeout: 5s } }, wait: \"${pause}\", b]\n";
    let flows = Flows::new(&[("d.flow.yaml", text)]);
    let told = flows.run(&["flow", "run", "d", "--dry-run"]).code(0).out;
    assert!(told.contains("2s        7s  b\n") && told.contains("stopped after at most 20s"), "{told}");
    assert_eq!(flows.run(&["flow", "d", "--dry-run"]).code(0).out, told);
    let json = flows.run(&["flow", "d.flow.yaml", "--dry-run", "--json", "-s", "pause=3s"]).code(0).json();
    assert_eq!((&json["up_ns"], &json["deadline_ns"]), (&json!(3_000_000_000_u64), &json!(8_000_000_000_u64)));
    let unknown = flows.run(&["flow", "d", "--dry-run", "-s", "puase=3s"]).code(2).err;
    assert!(
        unknown.contains("-s puase=3s: there is no variable `puase` in `vars`; did you mean `pause`?"),
        "{unknown}"
    );
    flows.run(&["flow"]).code(2);
    flows.run(&["flow", "d", "--dry-rum"]).code(2);
}

#[test]
fn the_schema_is_json() {
    let flows = Flows::new(&[]);
    let schema = flows.run(&["flow", "schema"]).code(0).json();
    assert!(schema["properties"]["startup"].is_object());
    assert_eq!(flows.run(&["flow", "schema", "--json"]).code(0).json(), schema);
}

#[test]
fn shells_complete_the_names_of_flows() {
    let flows = Flows::new(&[("camera.flow.yaml", "startup: [a]\n"), ("other.flow.yaml", "startup: [a]\n")]);
    let mut command = flows.command(&["--", "conduit", "flow", "check", "cam"]);
    command.env("CONDUIT_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3").env("_CLAP_IFS", "\n");
    let completed = Running::start(&mut command).end().code(0).out;
    assert!(completed.lines().any(|line| line == "camera"), "{completed}");
    assert!(!completed.contains("other"), "{completed}");
}
