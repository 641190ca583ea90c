//! `conduit completions`: scripts with which a shell asks this program what may come next, live names of topics and nodes included.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use conduit::topic::decode::{self, Format};
use serde_json::json;

use crate::Context;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, print_json};

/// Names the shell that asks for completions.
const VARIABLE: &str = "CONDUIT_COMPLETE";

/// Print a script that completes commands, options and live names
///
/// bash:  echo 'source <(conduit completions bash)' >> ~/.bashrc
/// zsh:   echo 'source <(conduit completions zsh)' >> ~/.zshrc
/// fish:  conduit completions fish > ~/.config/fish/completions/conduit.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    shell: String,
}

pub fn run(args: &Args, context: &Context) -> Result {
    let unknown = || Failure::Usage(format!("no completions for {}", args.shell));
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell).ok_or_else(unknown)?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "conduit", "conduit", &this_program(), &mut script)?;
    if context.json {
        print_json(&json!({ "shell": args.shell, "script": String::from_utf8_lossy(&script) }))?;
    } else {
        let mut out = Out::new();
        out.bytes(&script)?;
        out.flush()?;
    }
    Ok(Outcome::Done)
}

/// What the shell is to call: this program as it was called, but by a path that is good in every directory.
fn this_program() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "conduit".into());
    let path = match called.to_string_lossy().contains('/') {
        true => std::env::current_exe().map_or(called, OsString::from),
        false => called,
    };
    path.to_string_lossy().into_owned()
}

/// Answers a shell's question and ends the program, if this is one.
pub fn answer_if_asked<C: CommandFactory>() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(C::command).var(VARIABLE).complete();
    }
}

/// Completes a topic.
pub fn topics() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let known = conduit::topic::list(Some(&domain())).unwrap_or_default();
        let topics = known.into_iter().map(|(_, topic)| topic).filter(|topic| topic.starts_with(current));
        topics.map(CompletionCandidate::new).collect()
    })
}

/// Completes the path of a field that a topic on the command line has.
pub fn fields() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let mut paths = BTreeSet::new();
        // Most words are no topics.
        for info in words().iter().filter_map(|word| conduit::topic::inspect(Some(&domain()), word).ok()) {
            let Ok(format) = Format::of(&info.schema) else { continue };
            // A larger one has more fields than anybody would complete.
            let Some(message) = (format.size() <= 1 << 20).then(|| vec![0; format.size()]) else { continue };
            if let Ok(value) = format.decode(&message) {
                add_paths(&value, "", &mut paths);
            }
        }
        paths.into_iter().filter(|path| path.starts_with(current)).map(CompletionCandidate::new).collect()
    })
}

/// Adds the paths of what is in a value that has this path.
fn add_paths(value: &decode::Value<'_>, path: &str, paths: &mut BTreeSet<String>) {
    /// Of an array: nobody chooses from more.
    const MOST_ELEMENTS: usize = 16;
    /// Nobody reads more, and a stranger's schema may have any number.
    const MOST_PATHS: usize = 1000;
    if paths.len() >= MOST_PATHS {
        return;
    }
    let mut add = |path: String, value| {
        add_paths(&value, &path, paths);
        paths.insert(path);
    };
    match value {
        decode::Value::Struct(of) => {
            let dot = if path.is_empty() { "" } else { "." };
            of.fields().for_each(|(name, value)| add(format!("{path}{dot}{name}"), value));
        }
        decode::Value::Array(array) => {
            array.iter().take(MOST_ELEMENTS).enumerate().for_each(|(at, value)| add(format!("{path}[{at}]"), value));
        }
        _ => {}
    }
}

/// Completes a node.
pub fn nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let nodes = conduit::node::list(Some(&domain())).unwrap_or_default();
        nodes.into_iter().map(|(_, node)| CompletionCandidate::new(node)).collect()
    })
}

/// Completes a domain.
pub fn domains() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let (topics, nodes) = (conduit::topic::list(None), conduit::node::list(None));
        let all = topics.into_iter().chain(nodes).flatten();
        let domains: BTreeSet<_> = all.map(|(domain, _)| domain).collect();
        domains.into_iter().filter(|domain| !domain.is_empty()).map(CompletionCandidate::new).collect()
    })
}

/// The command line that is being completed.
fn words() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Its domain.
fn domain() -> String {
    let words = words();
    let option = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--domain") {
        Some("") => words.get(at + 1).cloned(),
        Some(value) => value.strip_prefix('=').map(Into::into),
        None => None,
    });
    option.or_else(|| std::env::var("CONDUIT_DOMAIN").ok()).unwrap_or_default()
}
