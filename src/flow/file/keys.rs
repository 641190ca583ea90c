//! The keys of each part of a file.

/// Of the whole.
pub const FILE: &[&str] = &["version", "name", "vars", "env", "defaults", "include", "startup", "shutdown"];
/// What all nodes of a file have.
pub const DEFAULTS: &[&str] = &["stop", "restart"];
/// Of a node.
pub const NODE: &[&str] =
    &["name", "exec", "args", "env", "working_dir", "ready", "alive", "restart", "stop", "cpu", "needs"];
/// Of a program that is run once.
pub const RUN: &[&str] = &["run", "name", "args", "env", "working_dir", "restart", "stop", "cpu", "needs"];
/// Of nodes that are started at once.
pub const GROUP: &[&str] = &["group", "needs"];
/// Of a wait at startup.
pub const WAIT: &[&str] = &["wait", "timeout"];
/// Of a mapping in the shutdown.
pub const STOPPING: &[&str] = &["wait", "group"];
/// What shows that a node is ready: one of them.
pub const SIGNS: &[&str] = &["topic", "log", "exec", "notify", "file"];
/// See [`SIGNS`].
pub const READY: &[&str] = &["topic", "hz", "log", "exec", "notify", "file", "timeout"];
/// What shows that a node is alive.
pub const ALIVE: &[&str] = &["topic", "notify", "within", "exec", "every", "timeout"];
/// When a node is started again.
pub const RESTART: &[&str] = &["policy", "backoff", "max", "window", "then"];
/// How a node is stopped.
pub const STOP: &[&str] = &["signal", "timeout"];
