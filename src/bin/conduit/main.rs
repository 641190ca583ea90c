//! `conduit`: topics on the command line.
//!
//! What is asked for goes to standard output, everything else to standard error. Each command is one module with its
//! arguments and a `run`; what they share is in the others:
//!
//! | module | what it gives to commands |
//! |---|---|
//! | `outcome` | how a command ends, and the exit code for it |
//! | `output` | standard output that may be closed at any time, JSON, colours, lines drawn anew in place |
//! | `events` | sleeping until a signal, a topic, a thread or a descriptor wants attention |
//! | `follow`, `patterns` | topic arguments, and observing what they stand for |
//! | `lines` | standard input, line by line |
//! | `keys` | single keys from a terminal, and signals that ask for something |
//! | `units`, `stats`, `describe` | quantities, percentiles, what is known about a topic |

mod bench;
mod clean;
mod completions;
mod demo;
mod describe;
#[cfg(feature = "tank")]
mod dlq;
mod doctor;
mod echo;
mod events;
#[cfg(feature = "flow")]
mod flow;
mod follow;
mod hz;
mod info;
#[cfg(any(feature = "tank", feature = "net"))]
mod keys;
mod lines;
mod link;
mod nodes;
#[cfg(not(all(feature = "tank", feature = "net", feature = "flow")))]
mod off;
mod outcome;
mod output;
mod patterns;
#[cfg(feature = "tank")]
mod play;
mod publish;
#[cfg(feature = "tank")]
mod record;
#[cfg(feature = "net")]
mod send;
#[cfg(feature = "net")]
mod serve;
mod stats;
#[cfg(feature = "tank")]
mod tank;
#[cfg(feature = "net")]
mod top;
mod topics;
mod units;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use outcome::{Failure, Result};

#[derive(Parser)]
#[command(
    name = "conduit",
    version,
    about = "Messages between processes, through shared memory",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but messages were lost or the machine is not as it \
                  should be, 4 timed out, 130 interrupted with nothing done.\n\
                  Topics may be patterns: `*` stands for anything up to the next `/`, `**` for anything, `?` for one \
                  character."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// Print JSON: one object, or one a line for what goes on
    #[arg(long, global = true)]
    json: bool,
    /// The group of topics to look at [env: CONDUIT_DOMAIN]
    #[arg(long, global = true, value_name = "NAME", add = completions::domains())]
    domain: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Topics(topics::Args),
    Info(info::Args),
    Nodes(nodes::Args),
    Echo(echo::Args),
    Pub(publish::Args),
    Hz(hz::Args),
    #[cfg(feature = "net")]
    Top(top::Args),
    #[cfg(feature = "tank")]
    Record(record::Args),
    #[cfg(feature = "tank")]
    Play(play::Args),
    #[cfg(feature = "tank")]
    Tank(tank::Args),
    #[cfg(feature = "flow")]
    Flow(flow::Args),
    #[cfg(feature = "net")]
    Send(send::Args),
    #[cfg(feature = "tank")]
    Dlq(dlq::Args),
    #[cfg(not(all(feature = "tank", feature = "net", feature = "flow")))]
    #[command(flatten)]
    Off(off::Command),
    #[cfg(feature = "net")]
    Serve(serve::Args),
    Clean(clean::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Link(link::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    DemoWorker(demo::worker::Args),
    #[command(hide = true)]
    BenchWorker(bench::WorkerArgs),
}

/// What is the same for all commands.
#[derive(Clone)]
struct Context {
    json: bool,
    /// Checked by whoever opens a topic with it; empty for the default one.
    domain: String,
}

impl Context {
    fn new(global: Global) -> Result<Self> {
        let domain = match global.domain {
            Some(domain) => domain,
            None => std::env::var_os("CONDUIT_DOMAIN").unwrap_or_default().into_string().map_err(|domain| {
                Failure::Usage(format!("CONDUIT_DOMAIN={} is no domain name", domain.to_string_lossy()))
            })?,
        };
        Ok(Context { json: global.json, domain })
    }

    /// How to refer to the domain in a sentence: nothing for the default one.
    fn in_domain(&self) -> String {
        if self.domain.is_empty() { String::new() } else { format!(" in domain {}", self.domain) }
    }
}

fn main() -> ExitCode {
    completions::answer_if_asked::<Cli>();
    let cli = Cli::parse();
    let result = Context::new(cli.global).and_then(|context| match cli.command {
        Command::Demo(args) => demo::run(&args, &context),
        Command::Topics(args) => topics::run(&args, &context),
        Command::Info(args) => info::run(&args, &context),
        Command::Nodes(args) => nodes::run(&args, &context),
        Command::Echo(args) => echo::run(args, &context),
        Command::Pub(args) => publish::run(&args, &context),
        Command::Hz(args) => hz::run(&args, &context),
        #[cfg(feature = "net")]
        Command::Top(args) => top::run(&args, &context),
        #[cfg(feature = "tank")]
        Command::Record(args) => record::run(&args, &context),
        #[cfg(feature = "tank")]
        Command::Play(args) => play::run(&args, &context),
        #[cfg(feature = "tank")]
        Command::Tank(args) => tank::run(&args, &context),
        #[cfg(feature = "flow")]
        Command::Flow(args) => flow::run(args, &context),
        #[cfg(feature = "net")]
        Command::Send(args) => send::run(args, &context),
        #[cfg(feature = "tank")]
        Command::Dlq(args) => dlq::run(&args, &context),
        #[cfg(not(all(feature = "tank", feature = "net", feature = "flow")))]
        Command::Off(command) => off::run(&command),
        #[cfg(feature = "net")]
        Command::Serve(args) => serve::run(&args, &context),
        Command::Clean(args) => clean::run(&args, &context),
        Command::Doctor(args) => doctor::run(&args, &context),
        Command::Bench(args) => bench::run(&args, &context),
        Command::Link(args) => link::run(&args, &context),
        Command::Completions(args) => completions::run(&args, &context),
        Command::DemoWorker(args) => demo::worker::run(&args, &context),
        Command::BenchWorker(args) => bench::work(&args, &context),
    });
    outcome::exit_code(result)
}
