//! Commands of features that this program was built without.

use crate::outcome::{Failure, Result};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Record topics into MCAP files (built without the feature `tank`)
    #[cfg(not(feature = "tank"))]
    Record(Anything),
    /// Publish what was recorded (built without the feature `tank`)
    #[cfg(not(feature = "tank"))]
    Play(Anything),
    /// Look at recordings (built without the feature `tank`)
    #[cfg(not(feature = "tank"))]
    Tank(Anything),
    /// Send events to a server (built without the feature `net`)
    #[cfg(not(feature = "net"))]
    Send(Anything),
}

#[derive(clap::Args)]
pub struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

pub fn run(command: &Command) -> Result {
    let (name, feature, Anything { .. }) = match command {
        #[cfg(not(feature = "tank"))]
        Command::Record(arguments) => ("record", "tank", arguments),
        #[cfg(not(feature = "tank"))]
        Command::Play(arguments) => ("play", "tank", arguments),
        #[cfg(not(feature = "tank"))]
        Command::Tank(arguments) => ("tank", "tank", arguments),
        #[cfg(not(feature = "net"))]
        Command::Send(arguments) => ("send", "net", arguments),
    };
    Err(Failure::Usage(format!(
        "`conduit {name}` takes the feature `{feature}`: build with `--features cli,{feature}` or `full`"
    )))
}
