//! What is executed for a node.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Options;
use crate::flow::guardian::{Program, resolve};
use crate::flow::model::{Alive, Check, Node};

/// Of the flow itself, which are not its nodes'.
const OWN: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
const DOMAIN: &str = "CONDUIT_DOMAIN";

/// Whether it is to say something at `$NOTIFY_SOCKET`.
pub(super) fn notifies(node: &Node) -> bool {
    matches!(&node.ready, Some(ready) if ready.check == Check::Notify)
        || matches!(node.alive, Some(Alive::Notify { .. }))
}

/// Where its paths begin.
pub(super) fn working_dir(node: Option<&Node>, options: &Options) -> PathBuf {
    match node.and_then(|node| node.working_dir.as_ref()) {
        Some(path) => options.working_dir.join(path),
        None => options.working_dir.clone(),
    }
}

/// The domain of its topics.
pub(super) fn domain(node: Option<&Node>, options: &Options) -> String {
    let own = node.and_then(|node| node.env.iter().rev().find(|(key, _)| key == DOMAIN));
    let flows = || options.env.iter().rev().find(|(key, _)| key == DOMAIN).map(|(_, value)| value);
    match (own, &options.domain) {
        (Some((_, domain)), _) | (None, Some(domain)) => domain.clone(),
        (None, None) => flows().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}

fn env(node: Option<&Node>, options: &Options, socket: Option<&str>) -> Vec<(OsString, OsString)> {
    let mut env = options.env.clone();
    env.retain(|(key, _)| !OWN.iter().any(|own| key == own));
    let mut set = |key: &OsStr, value: OsString| {
        env.retain(|(known, _)| known != key);
        env.push((key.into(), value));
    };
    if let Some(domain) = &options.domain {
        set(DOMAIN.as_ref(), domain.into());
    }
    if let Some(socket) = socket {
        set("NOTIFY_SOCKET".as_ref(), socket.into());
        if let Some(Alive::Notify { within }) = node.and_then(|node| node.alive.as_ref()) {
            set("WATCHDOG_USEC".as_ref(), micros(*within).to_string().into());
        }
    }
    for (key, value) in node.iter().flat_map(|node| &node.env) {
        set(key.as_ref(), value.into());
    }
    env
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}

/// The node's own.
pub(super) fn program(node: &Node, options: &Options, socket: Option<&str>) -> io::Result<Program> {
    let env = env(Some(node), options, socket);
    let working_dir = working_dir(Some(node), options);
    let path = env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let file = resolve(node.program.as_ref(), path, &working_dir)?;
    let args = std::iter::once(&node.program).chain(&node.args).map(OsString::from).collect();
    Ok(Program { file, args, env, working_dir, cpus: node.cpu.clone() })
}

/// A command that looks at the node, where the node is.
pub(super) fn command(text: &str, node: Option<&Node>, options: &Options) -> Program {
    Program {
        file: Path::new("/bin/sh").into(),
        args: ["sh", "-c", text].map(OsString::from).into(),
        env: env(node, options, None),
        working_dir: working_dir(node, options),
        cpus: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::model::{Policy, Ready, Restart, Stop, Then};

    fn node() -> Node {
        Node {
            name: "node".into(),
            program: "sh".into(),
            args: vec!["-c".into()],
            env: vec![("A".into(), "1".into()), ("A".into(), "2".into())],
            working_dir: Some("inner".into()),
            ready: None,
            alive: None,
            restart: Restart {
                policy: Policy::Never,
                backoff: (Duration::ZERO, Duration::ZERO),
                max: 0,
                window: Duration::ZERO,
                then: Then::StopFlow,
            },
            stop: Stop { signal: 15, timeout: Duration::ZERO },
            cpu: vec![1],
            needs: None,
        }
    }

    fn options(env: &[(&str, &str)]) -> Options {
        let env = env.iter().map(|(key, value)| (key.into(), value.into())).collect();
        Options { domain: None, env, working_dir: "/flow".into(), ..Options::default() }
    }

    fn value<'e>(env: &'e [(OsString, OsString)], key: &str) -> Option<&'e str> {
        let mut values = env.iter().filter(|(known, _)| known == key);
        let value = values.next().map(|(_, value)| value.to_str().unwrap());
        assert_eq!(values.next(), None, "{key} is there once");
        value
    }

    #[test]
    fn a_node_gets_the_flows_environment_and_its_own_over_it() {
        let mut options = options(&[("PATH", "/bin"), ("A", "0"), ("NOTIFY_SOCKET", "flow's"), ("WATCHDOG_PID", "1")]);
        options.domain = Some("test".into());
        let mut node = node();
        node.alive = Some(Alive::Notify { within: Duration::from_millis(1500) });
        assert!(notifies(&node));
        let program = program(&node, &options, Some("@mine")).unwrap();
        assert_eq!(program.file, Path::new("/bin/sh"));
        assert_eq!(program.args, ["sh", "-c"]);
        assert_eq!(program.working_dir, Path::new("/flow/inner"));
        assert_eq!(program.cpus, [1]);
        let expected = [("A", Some("2")), ("PATH", Some("/bin")), ("NOTIFY_SOCKET", Some("@mine"))];
        for (key, expected) in expected.into_iter().chain([("WATCHDOG_USEC", Some("1500000")), (DOMAIN, Some("test"))])
        {
            assert_eq!(value(&program.env, key), expected);
        }
        assert_eq!(value(&program.env, "WATCHDOG_PID"), None);
        let command = command("true", Some(&node), &options);
        assert_eq!(command.args, ["sh", "-c", "true"]);
        assert_eq!(value(&command.env, "NOTIFY_SOCKET"), None);
        assert_eq!(value(&command.env, "WATCHDOG_USEC"), None);
        assert_eq!(value(&command.env, "A"), Some("2"));
    }

    #[test]
    fn a_nodes_topics_are_where_it_looks_for_them() {
        let mut node = node();
        let mut options = options(&[]);
        assert_eq!(domain(Some(&node), &options), "");
        options.env.push((DOMAIN.into(), "environment".into()));
        assert_eq!(domain(Some(&node), &options), "environment");
        options.domain = Some("option".into());
        assert_eq!(domain(Some(&node), &options), "option");
        node.env.push((DOMAIN.into(), "own".into()));
        assert_eq!(domain(Some(&node), &options), "own");
        assert_eq!(domain(None, &options), "option");
    }

    #[test]
    fn who_says_nothing_has_no_socket() {
        let mut node = node();
        assert!(!notifies(&node));
        node.ready = Some(Ready { check: Check::Notify, timeout: Duration::ZERO });
        assert!(notifies(&node));
    }
}
