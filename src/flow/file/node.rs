//! A node and its options.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys;
use super::section::{Reader, Section, below};
use super::signal;
use crate::flow::model::{Alive, Check, Node, Policy, Ready, Restart, Stop, Then};
use crate::yaml::meant::nearest;
use crate::yaml::{self, Value};

/// How long it may take to be ready, and how long a wait waits.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Of a command that shows whether a node is alive.
const EVERY: Duration = Duration::from_secs(5);
/// See [`EVERY`].
const EXEC_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a node's name.
const MAX_NAME: usize = 64;

const POLICIES: [(&str, Policy); 3] =
    [("never", Policy::Never), ("on-failure", Policy::OnFailure), ("always", Policy::Always)];

/// What nodes of a file have that do not say otherwise.
#[derive(Clone)]
pub struct Defaults {
    pub env: Vec<(String, String)>,
    pub stop: Stop,
    pub restart: Restart,
    /// Where the file is; empty: where paths begin.
    pub directory: PathBuf,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            env: Vec::new(),
            stop: Stop { signal: libc::SIGINT, timeout: Duration::from_secs(5) },
            restart: Restart {
                policy: Policy::Never,
                backoff: (Duration::from_millis(200), Duration::from_secs(10)),
                max: 5,
                window: Duration::from_secs(60),
                then: Then::StopFlow,
            },
            directory: PathBuf::new(),
        }
    }
}

impl Defaults {
    /// Those of a file that these include.
    pub fn below(&self, reader: &mut Reader<'_>, file: &Section<'_>, directory: &Path) -> Self {
        let mut defaults = Defaults { directory: directory.into(), ..self.clone() };
        if let Some(node) = file.get("env") {
            environment(reader, node, "env", &mut defaults.env);
        }
        let Some(node) = file.get("defaults") else { return defaults };
        let Some(section) = reader.section(node, "defaults", keys::DEFAULTS) else { return defaults };
        defaults.stop = stop(reader, &section, defaults.stop);
        defaults.restart = restart(reader, &section, defaults.restart);
        defaults
    }
}

/// The name of a node, or of a flow.
pub fn name(reader: &mut Reader<'_>, node: &yaml::Node, key: &str) -> Option<String> {
    let expected = "a name of letters, digits, _, - and ., at most 64, no . or - first";
    let text = reader.word(node, key, expected)?;
    if !is_name(&text) {
        reader.wrong(node, key, expected);
        return None;
    }
    Some(text)
}

pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// A node whose program goes by the same name, or by the path that ends with it.
pub fn plain(reader: &mut Reader<'_>, node: &yaml::Node, key: &str, defaults: &Defaults) -> Option<Node> {
    let expected = "the name of a node or the path of its program; arguments go to `args`";
    let program = reader.word(node, key, expected)?;
    let name = program.rsplit('/').next().unwrap_or(&program);
    if !is_name(name) {
        reader.wrong(node, key, expected);
        return None;
    }
    let name = name.to_string();
    Some(with_defaults(name, program, defaults))
}

fn with_defaults(name: String, program: String, defaults: &Defaults) -> Node {
    Node {
        name,
        program,
        args: Vec::new(),
        env: defaults.env.clone(),
        working_dir: Some(defaults.directory.clone()).filter(|path| !path.as_os_str().is_empty()),
        ready: None,
        alive: None,
        restart: defaults.restart.clone(),
        stop: defaults.stop,
        cpu: Vec::new(),
        needs: None,
    }
}

/// A node with options; `program` is the key of its program. What is wrong with an option is as if it were not there.
pub fn full(reader: &mut Reader<'_>, section: &Section<'_>, program: &str, defaults: &Defaults) -> Option<Node> {
    let exec = section.get(program).map(|node| reader.word(node, &section.path(program), "a program"));
    let named = section.get("name").map(|node| name(reader, node, &section.path("name")));
    let (name, program) = match (named, exec) {
        (Some(name), exec) => {
            let name = name?;
            let program = exec.flatten().unwrap_or_else(|| name.clone());
            (name, program)
        }
        (None, Some(Some(program))) => {
            let name = program.rsplit('/').next().unwrap_or(&program).to_string();
            if !is_name(&name) {
                let reason = "its program's name cannot be a node's: give it a `name`; arguments go to `args`";
                reader.conflict(section.node, &section.path("name"), reason);
                return None;
            }
            (name, program)
        }
        (None, Some(None)) => return None,
        (None, None) => {
            reader.conflict(section.node, &section.path("name"), "a node has a `name`");
            return None;
        }
    };
    let mut made = with_defaults(name, program, defaults);
    if let Some(node) = section.get("args") {
        let key = section.path("args");
        made.args = reader.items(node).iter().filter_map(|node| reader.text(node, &key, "an argument")).collect();
    }
    if let Some(node) = section.get("env") {
        environment(reader, node, &section.path("env"), &mut made.env);
    }
    if let Some(node) = section.get("working_dir") {
        if let Some(path) = reader.word(node, &section.path("working_dir"), "the path of a directory") {
            made.working_dir = Some(defaults.directory.join(path));
        }
    }
    if let Some(node) = section.get("ready") {
        made.ready = ready(reader, node, &section.path("ready"), made.working_dir.as_deref());
    }
    if let Some(node) = section.get("alive") {
        made.alive = alive(reader, node, &section.path("alive"));
    }
    made.restart = restart(reader, section, made.restart);
    made.stop = stop(reader, section, made.stop);
    if let Some(node) = section.get("cpu") {
        made.cpu = cpus(reader, node, &section.path("cpu"));
    }
    if let Some(node) = section.get("needs") {
        made.needs = Some(needs(reader, node, &section.path("needs")));
    }
    Some(made)
}

/// Names of nodes. One that cannot be stays what it is, so that they keep their places: there is none of that name.
pub fn needs(reader: &mut Reader<'_>, node: &yaml::Node, key: &str) -> Vec<String> {
    let items = reader.items(node).iter();
    items.map(|node| reader.word(node, key, "the name of a node").unwrap_or_default()).collect()
}

fn environment(reader: &mut Reader<'_>, node: &yaml::Node, key: &str, env: &mut Vec<(String, String)>) {
    let Value::Map(entries) = &node.value else {
        reader.wrong(node, key, "a mapping of names to values");
        return;
    };
    for (name_node, value) in entries {
        let expected = "the name of a variable, without = in it";
        let Some(name) = reader.word(name_node, key, expected) else { continue };
        if name.contains('=') {
            reader.wrong(name_node, key, expected);
            continue;
        }
        let shown = below(key, &yaml::text::harmless(&name));
        let Some(value) = reader.text(value, &shown, "text") else { continue };
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => env.push((name, value)),
        }
    }
}

fn cpus(reader: &mut Reader<'_>, node: &yaml::Node, key: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for node in reader.items(node) {
        let Some(cpu) = reader.whole(node, key, 0..=4095) else { continue };
        if cpus.contains(&(cpu as usize)) {
            reader.conflict(node, key, format!("CPU {cpu} is there twice"));
        } else {
            cpus.push(cpu as usize);
        }
    }
    cpus
}

/// The one key of some that is there.
fn only<'n>(
    reader: &mut Reader<'_>,
    section: &Section<'n>,
    keys: &[&'static str],
) -> Option<(&'static str, &'n yaml::Node)> {
    let mut found = keys.iter().filter_map(|key| section.get(key).map(|node| (*key, node)));
    match (found.next(), found.next()) {
        (Some(one), None) => Some(one),
        (None, _) => {
            reader.conflict(section.node, &section.path, format!("one of {} is needed", keys.join(", ")));
            None
        }
        (Some(one), Some(other)) => {
            reader.conflict(other.1, &section.path, format!("there is `{}`, too: remove one", one.0));
            None
        }
    }
}

/// That keys which say more about others are not there without these.
fn belongs(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, fits: bool, to: &str) {
    if let Some(node) = section.get(key).filter(|_| !fits) {
        reader.conflict(node, &section.path(key), format!("it belongs to {to}"));
    }
}

fn ready(reader: &mut Reader<'_>, node: &yaml::Node, path: &str, directory: Option<&Path>) -> Option<Ready> {
    let section = reader.section(node, path, keys::READY)?;
    let timeout = section.get("timeout").and_then(|node| reader.time(node, &section.path("timeout")));
    let hz = section.get("hz").and_then(|node| reader.rate(node, &section.path("hz")));
    let (key, node) = only(reader, &section, keys::SIGNS)?;
    belongs(reader, &section, "hz", key == "topic", "`topic`");
    let path = section.path(key);
    let check = match key {
        "topic" => Check::Topic { topic: reader.topic(node, &path)?, hz },
        "log" => {
            let expression = reader.word(node, &path, "a regular expression")?;
            if let Err(error) = regex_lite::Regex::new(&expression) {
                reader.conflict(node, &path, format!("it is no regular expression: {error}"));
                return None;
            }
            Check::Log(expression)
        }
        "exec" => Check::Exec(reader.word(node, &path, "a command")?),
        "file" => {
            let file = reader.word(node, &path, "the path of a file")?;
            Check::File(directory.unwrap_or(Path::new("")).join(file))
        }
        _ => {
            reader.truth(node, &path)?;
            Check::Notify
        }
    };
    Some(Ready { check, timeout: timeout.unwrap_or(TIMEOUT) })
}

fn alive(reader: &mut Reader<'_>, node: &yaml::Node, path: &str) -> Option<Alive> {
    let section = reader.section(node, path, keys::ALIVE)?;
    let mut time = |key| section.get(key).map(|node| reader.time(node, &section.path(key)));
    let (within, every, timeout) = (time("within"), time("every"), time("timeout"));
    let (key, node) = only(reader, &section, &["topic", "notify", "exec"])?;
    belongs(reader, &section, "within", key != "exec", "`topic` and `notify`");
    belongs(reader, &section, "every", key == "exec", "`exec`");
    belongs(reader, &section, "timeout", key == "exec", "`exec`");
    let path = section.path(key);
    if key == "exec" {
        let command = reader.word(node, &path, "a command")?;
        let (every, timeout) = (every.flatten().unwrap_or(EVERY), timeout.flatten().unwrap_or(EXEC_TIMEOUT));
        return Some(Alive::Exec { command, every, timeout });
    }
    let topic = if key == "topic" { Some(reader.topic(node, &path)?) } else { None };
    if topic.is_none() {
        reader.truth(node, &path)?;
    }
    let Some(within) = within else {
        reader.conflict(
            section.node,
            &section.path("within"),
            "how long it may show nothing has to be said, such as 500ms",
        );
        return None;
    };
    let within = within?;
    Some(topic.map_or(Alive::Notify { within }, |topic| Alive::Topic { topic, within }))
}

fn restart(reader: &mut Reader<'_>, section: &Section<'_>, usual: Restart) -> Restart {
    let Some(node) = section.get("restart") else { return usual };
    let path = section.path("restart");
    let mut restart = Restart { policy: Policy::OnFailure, ..usual };
    if !matches!(node.value, Value::Map(_)) {
        restart.policy = reader.one_of(node, &path, &POLICIES).unwrap_or(restart.policy);
        return restart;
    }
    let Some(section) = reader.section(node, &path, keys::RESTART) else { return restart };
    if let Some(node) = section.get("policy") {
        restart.policy = reader.one_of(node, &section.path("policy"), &POLICIES).unwrap_or(restart.policy);
    }
    if let Some(node) = section.get("backoff") {
        restart.backoff = backoff(reader, node, &section.path("backoff")).unwrap_or(restart.backoff);
    }
    if let Some(node) = section.get("max") {
        restart.max = reader.whole(node, &section.path("max"), 1..=1_000_000).unwrap_or(restart.max);
    }
    if let Some(node) = section.get("window") {
        restart.window = reader.time(node, &section.path("window")).unwrap_or(restart.window);
    }
    if let Some(node) = section.get("then") {
        let words = [("stop-flow", Then::StopFlow), ("ignore", Then::Ignore)];
        restart.then = reader.one_of(node, &section.path("then"), &words).unwrap_or(restart.then);
    }
    restart
}

/// `200ms..10s`, or one time that it always is.
fn backoff(reader: &mut Reader<'_>, node: &yaml::Node, key: &str) -> Option<(Duration, Duration)> {
    let text = match &node.value {
        Value::Text(text) => text.as_str(),
        _ => "",
    };
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let times = (yaml::quantity::duration(first.trim()).ok(), yaml::quantity::duration(last.trim()).ok());
    match times {
        (Some(first), Some(last)) if first <= last => Some((first, last)),
        _ => {
            reader.wrong(node, key, "a time such as 1s, or two such as 200ms..10s, the shorter first");
            None
        }
    }
}

fn stop(reader: &mut Reader<'_>, section: &Section<'_>, usual: Stop) -> Stop {
    let Some(node) = section.get("stop") else { return usual };
    let mut stop = usual;
    let Some(section) = reader.section(node, &section.path("stop"), keys::STOP) else { return usual };
    if let Some(node) = section.get("signal") {
        let path = section.path("signal");
        if let Some(text) = reader.word(node, &path, "the name of a signal") {
            match signal::number(&text) {
                Some(number) => stop.signal = number,
                None => {
                    let names: Vec<&str> = signal::SIGNALS.iter().map(|(name, _)| *name).collect();
                    let wanted = text.to_ascii_uppercase();
                    let wanted = if wanted.starts_with("SIG") { wanted } else { format!("SIG{wanted}") };
                    let near = nearest(&wanted, names.iter().copied());
                    let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                    let found = format!("{}{meant}", node.value.describe());
                    let expected = format!("one of {}", names.join(", "));
                    reader.problem(node, &path, yaml::Fault::Wrong { expected, found });
                }
            }
        }
    }
    if let Some(node) = section.get("timeout") {
        stop.timeout = reader.time(node, &section.path("timeout")).unwrap_or(stop.timeout);
    }
    stop
}
