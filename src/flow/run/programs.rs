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
pub(super) fn domain(node: Option<&Node>, options: &Options) -> Option<String> {
    let own = node.and_then(|node| node.env.iter().rev().find(|(key, _)| key == DOMAIN));
    let flows =
        options.env.iter().rev().find(|(key, _)| key == DOMAIN).map(|(_, value)| value.to_string_lossy().into_owned());
    own.map(|(_, value)| value.clone()).or_else(|| options.domain.clone()).or(flows)
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
    }
    if let Some(Alive::Notify { within }) = node.and_then(|node| node.alive.as_ref()) {
        set("WATCHDOG_USEC".as_ref(), micros(*within).to_string().into());
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
