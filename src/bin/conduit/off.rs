//! Commands of features that this program was built without.

use crate::outcome::{Failure, Result};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Record topics into MCAP files (built without the feature `tank`)
    Record(Anything),
    /// Publish what was recorded (built without the feature `tank`)
    Play(Anything),
    /// Look at recordings (built without the feature `tank`)
    Tank(Anything),
    /// Look at events that could not be processed (built without the feature `tank`)
    Dlq(Anything),
}

#[derive(clap::Args)]
pub struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

pub fn run(command: &Command) -> Result {
    let (name, Anything { .. }) = match command {
        Command::Record(arguments) => ("record", arguments),
        Command::Play(arguments) => ("play", arguments),
        Command::Tank(arguments) => ("tank", arguments),
        Command::Dlq(arguments) => ("dlq", arguments),
    };
    Err(Failure::Usage(format!(
        "`conduit {name}` takes the feature `tank`: build with `--features cli,tank` or `full`"
    )))
}
