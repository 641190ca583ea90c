//! `conduit flow run`: what it prints, and how it ends.
#![cfg(all(feature = "cli", feature = "flow"))]

mod cli;
mod flows;
mod support;

use cli::Running;
use flows::Flows;

#[test]
fn a_flow_comes_up_in_order_and_goes_down_in_reverse_when_interrupted() {
    let text = "startup:\n\
                \x20 - { name: first, exec: sh, args: [-c, 'echo one; exec sleep 1000'], ready: { log: one } }\n\
                \x20 - { run: 'true' }\n\
                \x20 - { name: second, exec: sh, args: [-c, 'echo two >&2; exec sleep 1000'], ready: { log: two } }\n";
    let flows = Flows::new(&[("robot.flow.yaml", text)]);
    let mut running = Running::start(&mut flows.command(&["flow", "robot", "--json"]));
    let mut told = Vec::new();
    loop {
        let event = running.json_line();
        let is_up = event["event"] == "flow" && event["phase"] == "up";
        told.push(event);
        if is_up {
            break;
        }
    }
    let place = |event: &str, what: &str, value: &str| {
        let found = told.iter().position(|told| told["event"] == event && told[what] == value);
        found.unwrap_or_else(|| panic!("no {event} with {what} {value}: {told:?}"))
    };
    assert!(place("line", "line", "one") < place("line", "line", "two"));
    assert_eq!(told[place("line", "line", "two")]["stream"], "stderr");
    running.signal(libc::SIGINT);
    let ended = running.end().code(0);
    let stopped: Vec<&str> = ended.out.lines().filter(|line| line.contains("\"stopped\"")).collect();
    assert!(stopped[0].contains("\"second\"") && stopped[1].contains("\"first\""), "{stopped:?}");
    assert!(ended.out.trim_end().ends_with("{\"event\":\"end\",\"code\":0,\"why\":null}"), "{}", ended.out);
}

#[test]
fn what_nodes_write_stands_behind_their_names_and_what_becomes_of_them_beside_it() {
    let text = "startup:\n\
                \x20 - { name: a, exec: sh, args: [-c, 'echo hello'] }\n\
                \x20 - { name: longer, exec: sh, args: [-c, 'printf \"a\\\\033[31mb\\\\n\"'] }\n";
    let flows = Flows::new(&[("talk.flow.yaml", text)]);
    let ended = flows.run(&["flow", "run", "talk"]).code(0);
    let mut lines: Vec<&str> = ended.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2, "{ended:?}");
    assert_eq!(lines[0], "a      | hello");
    assert!(lines[1].starts_with("longer | a") && !lines[1].contains('\x1b'), "{ended:?}");
    assert!(ended.err.contains("conduit: a: ending (ended with code 0), pid "), "{ended:?}");
    assert!(ended.err.contains("conduit: talk is up\n"), "{ended:?}");
}

#[test]
fn the_exit_code_tells_how_it_ended() {
    let flows = Flows::new(&[
        ("fails.flow.yaml", "startup: [{ name: a, exec: sh, args: [-c, 'exit 7'] }]\n"),
        (
            "late.flow.yaml",
            "startup: [{ name: a, exec: sleep, args: ['1000'], ready: { file: never, timeout: 50ms } }]\n",
        ),
        (
            "deaf.flow.yaml",
            "startup:\n  - { name: a, exec: sh, args: [-c, 'trap \"\" INT TERM; echo deaf; while :; do sleep 1000; done'],\
             stop: { timeout: 50ms } }\n",
        ),
        ("wrong.flow.yaml", "startup: [{ nmae: a }]\n"),
    ]);
    let ended = flows.run(&["flow", "run", "fails"]).code(1);
    assert!(ended.err.ends_with("conduit: a failed: ended with code 7\n"), "{ended:?}");
    let ended = flows.run(&["flow", "run", "late"]).code(4);
    assert!(ended.err.ends_with("conduit: a was not ready in time\n"), "{ended:?}");
    let mut deaf = Running::start(&mut flows.command(&["flow", "run", "deaf"]));
    assert_eq!(deaf.line(), "a | deaf");
    deaf.signal(libc::SIGTERM);
    let ended = deaf.end().code(3);
    assert!(ended.err.ends_with("conduit: a had to be killed\n"), "{ended:?}");
    let ended = flows.run(&["flow", "run", "wrong"]).code(2);
    assert!(ended.err.contains("did you mean `name`?"), "{ended:?}");
}

#[test]
fn paths_of_a_flow_begin_where_its_file_is() {
    let text = "startup:\n\
                \x20 - { name: here, exec: pwd }\n\
                \x20 - { name: there, exec: ./tool, working_dir: sub }\n\
                \x20 - { wait: 'file:sub/made', timeout: 20s }\n";
    let flows = Flows::new(&[("flows/a.flow.yaml", text), ("flows/sub/tool", "#!/bin/sh\npwd\ntouch made\n")]);
    let tool = flows.dir.file("flows/sub/tool");
    std::fs::set_permissions(tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["a", "flows/a.flow.yaml"] {
        let ended = flows.run(&["flow", "run", name, "--logs", "logs"]).code(0);
        let at = std::fs::canonicalize(flows.dir.file("flows")).unwrap();
        assert!(ended.out.contains(&format!("| {}\n", at.display())), "{ended:?}");
        assert!(ended.out.contains(&format!("| {}/sub\n", at.display())), "{ended:?}");
        std::fs::remove_file(flows.dir.file("flows/sub/made")).unwrap();
    }
    assert!(flows.dir.file("logs").is_dir());
}

#[test]
fn a_flow_stops_when_nobody_reads_any_more() {
    let text = "startup: [{ name: a, exec: sh, args: [-c, 'while echo y; do :; done'] }]\n";
    let flows = Flows::new(&[("flood.flow.yaml", text)]);
    let mut command = flows.command(&["flow", "run", "flood"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
