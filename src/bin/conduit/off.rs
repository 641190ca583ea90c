//! Commands of features that this program was built without.

use crate::outcome::{Failure, Result};

#[derive(clap::Subcommand)]
pub enum Command {
    #[cfg(not(feature = "tank"))]
    /// Record topics into MCAP files (built without the feature `tank`)
    Record(Anything),
    #[cfg(not(feature = "tank"))]
    /// Publish what was recorded (built without the feature `tank`)
    Play(Anything),
    #[cfg(not(feature = "tank"))]
    /// Look at recordings (built without the feature `tank`)
    Tank(Anything),
    /// Watch topics, and the lanes of a daemon (built without the feature `net`)
    #[cfg(not(feature = "net"))]
    Top(Anything),
    /// Start, watch and stop a system of processes (built without the feature `flow`)
    #[cfg(not(feature = "flow"))]
    Flow(Anything),
    /// Send events to a server (built without the feature `net`)
    #[cfg(not(feature = "net"))]
    Send(Anything),
    #[cfg(not(feature = "tank"))]
    /// Look at events that could not be processed (built without the feature `tank`)
    Dlq(Anything),
    #[cfg(not(feature = "net"))]
    /// Take events over TCP and UDP (built without the feature `net`)
    Serve(Anything),
}

#[derive(clap::Args)]
pub struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

pub fn run(command: &Command) -> Result {
    let (name, feature) = match command {
        #[cfg(not(feature = "tank"))]
        Command::Record(Anything { .. }) => ("record", "tank"),
        #[cfg(not(feature = "tank"))]
        Command::Play(Anything { .. }) => ("play", "tank"),
        #[cfg(not(feature = "tank"))]
        Command::Tank(Anything { .. }) => ("tank", "tank"),
        #[cfg(not(feature = "tank"))]
        Command::Dlq(Anything { .. }) => ("dlq", "tank"),
        #[cfg(not(feature = "net"))]
        Command::Top(Anything { .. }) => ("top", "net"),
        #[cfg(not(feature = "flow"))]
        Command::Flow(Anything { .. }) => ("flow", "flow"),
        #[cfg(not(feature = "net"))]
        Command::Send(Anything { .. }) => ("send", "net"),
        #[cfg(not(feature = "net"))]
        Command::Serve(Anything { .. }) => ("serve", "net"),
    };
    missing(name, feature)
}

/// That a command takes `features`.
pub fn missing(name: &str, features: &str) -> Result {
    let noun = if features.contains(',') { "features" } else { "feature" };
    Err(Failure::Usage(format!(
        "`conduit {name}` takes the {noun} `{features}`: build with `--features cli,{features}`"
    )))
}
