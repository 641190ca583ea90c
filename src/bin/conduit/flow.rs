//! `conduit flow`: systems of processes from one file.

mod check;
mod find;
mod run;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as _, FromArgMatches as _};

use crate::outcome::{Outcome, Result};
use crate::output::{Out, print_json};
use crate::{Context, Global};

pub use find::completer;

/// Start, watch and stop a system of processes from one file
///
/// `conduit flow NAME` is `conduit flow run NAME`, `conduit flow --list` is `conduit flow list`. A NAME is looked up as
/// NAME.flow.yaml in --dir, ., ./flows, $CONDUIT_FLOW_PATH, $XDG_CONFIG_HOME/conduit/flows and /etc/conduit/flows; with a slash or
/// an ending it is a file.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// List the flows there are
    #[arg(long)]
    list: bool,
    /// Look for flows here first
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    Run(run::Args),
    /// Say all that is wrong with a flow, and whether this machine has what it needs
    Check(FlowArgs),
    /// Print what comes after what, at startup and at shutdown
    Graph(show::GraphArgs),
    List(show::ListArgs),
    /// Print the JSON Schema of flow files, for editors
    Schema,
    /// A flow's name and the arguments of `run`
    #[command(external_subcommand)]
    Name(Vec<OsString>),
}

/// Which flow, and what it is told.
#[derive(clap::Args)]
pub struct FlowArgs {
    /// The flow's name, or its file
    #[arg(value_name = "FLOW", value_hint = clap::ValueHint::FilePath, add = completer())]
    pub flow: String,
    /// Give a variable of the flow another value
    #[arg(short = 's', long = "set", value_name = "NAME=VALUE", value_parser = find::assignment)]
    pub set: Vec<(String, String)>,
    /// Look for the flow here first
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

pub fn run(args: Args, context: &Context) -> Result {
    match args.command {
        Some(Command::Run(args)) => run::run(&args, context),
        Some(Command::Check(args)) => check::run(&args, context),
        Some(Command::Graph(args)) => show::graph(&args, context),
        Some(Command::List(args)) => show::list(args.dir.as_deref(), context),
        Some(Command::Schema) => schema(context),
        Some(Command::Name(words)) => {
            let (args, global) = named(words);
            let json = context.json || global.json;
            let domain = global.domain.unwrap_or_else(|| context.domain.clone());
            run::run(&args, &Context { json, domain })
        }
        None if args.list => show::list(args.dir.as_deref(), context),
        None => {
            let usage = crate::outcome::Failure::Usage;
            Err(usage("which flow? `conduit flow NAME` starts one, `conduit flow list` lists them".into()))
        }
    }
}

/// The arguments of `run` without the word, and those of all commands; leaves the program as clap does if they are none.
fn named(words: Vec<OsString>) -> (run::Args, Global) {
    let command = Global::augment_args(run::Args::augment_args(clap::Command::new("conduit flow")));
    let matches = command.get_matches_from(std::iter::once("conduit flow".into()).chain(words));
    let args = run::Args::from_arg_matches(&matches).and_then(|args| Ok((args, Global::from_arg_matches(&matches)?)));
    args.unwrap_or_else(|error| error.exit())
}

fn schema(context: &Context) -> Result {
    let text = conduit::flow::file::SCHEMA;
    if context.json {
        let schema = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        print_json(&schema)?;
    } else {
        let mut out = Out::new();
        out.bytes(text.as_bytes())?;
        out.flush()?;
    }
    Ok(Outcome::Done)
}
