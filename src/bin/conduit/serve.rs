//! `conduit serve`: the daemon.

mod config;
mod daemon;
mod notify;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Context;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::{Out, harmless, harmless_lines, note, print_json};
use config::{Loaded, MAX_FILE, Machine, Secret, Server};

/// Take events over TCP and UDP, and publish each on its topic
///
/// Everything has a default; values come from the environment (CONDUIT__SERVER__TCP_PORT=9000), else from the file. SIGHUP has the
/// thresholds read again. SIGINT and SIGTERM end it: what was accepted is processed before, for as long as drain_timeout says.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file, in YAML [default: none; there is a default for everything]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only read the configuration, and print every value and where it comes from
    #[arg(long)]
    check: bool,
    /// What is told on standard error: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: tracing_subscriber::filter::LevelFilter,
}

pub fn run(args: &Args, context: &Context) -> Result {
    let loaded = load(args.config.as_deref(), context)?;
    let token = token(&loaded.config.server)?;
    if !args.check {
        let log = tracing_subscriber::fmt().with_max_level(args.log).with_target(false).with_ansi(false);
        log.with_writer(std::io::stderr).init();
        return daemon::serve(loaded, token.as_ref(), context, || load(args.config.as_deref(), context));
    }
    if context.json {
        print_json(&loaded.to_json())?;
    } else {
        let mut out = Out::new();
        out.bytes(loaded.to_yaml().as_bytes())?;
        out.flush()?;
    }
    Ok(Outcome::Done)
}

/// Reads the configuration from the file, this process's environment and the command line.
fn load(path: Option<&Path>, context: &Context) -> Result<Loaded> {
    let name = path.map(|path| path.display().to_string()).unwrap_or_default();
    let text = path.map(|path| read(path, &name)).transpose()?;
    let file = text.as_ref().map(|text| (name.as_str(), text.as_str()));
    let mut loaded = Loaded::new(file, std::env::vars_os(), &Machine::this())
        .map_err(|problems| Failure::Failed(harmless_lines(&problems.to_string())))?;
    if !context.domain.is_empty() {
        loaded.set_domain(&context.domain).map_err(|problem| Failure::Usage(harmless(&problem.to_string())))?;
    }
    Ok(loaded)
}

/// What clients have to know, if they have to know anything.
fn token(server: &Server) -> Result<Option<Secret>> {
    let Some(path) = &server.token_file else { return Ok(server.token.clone()) };
    let name = harmless(&path.display().to_string());
    let text = read(path, &name)?;
    let secret = Secret::new(text.strip_suffix('\n').unwrap_or(&text));
    let wrong = || Failure::Failed(format!("{name}: expected a token of {} on one line", Secret::EXPECTED));
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if mode & 0o007 != 0 {
        note(format_args!("{name}: everybody on this machine may open it; `chmod 600` it"));
    }
    secret.ok_or_else(wrong).map(Some)
}

fn read(path: &Path, name: &str) -> Result<String> {
    let mut text = Vec::new();
    // One byte more than there may be, so that it is seen.
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE as u64 + 1).read_to_end(&mut text))
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
        Failure::Failed(format!("{name}:{line}: it is no UTF-8 from byte {at} on"))
    })
}
