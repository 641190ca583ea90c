//! Flows for the tests of the command line.
#![allow(dead_code)] // Each test program uses a part of it.

use std::process::Command;

use crate::cli::{Cli, Ended, Running};
use crate::support::Directory;

/// A directory with flows, to run commands in.
pub struct Flows {
    pub cli: Cli,
    pub dir: Directory,
}

impl Flows {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let cli = Cli::new();
        let dir = Directory::new(&cli.domain);
        for (name, text) in files {
            let path = dir.file(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Flows { cli, dir }
    }

    /// Nothing of whoever runs the tests is found.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cli.command(args);
        command
            .current_dir(&self.dir.0)
            .env("XDG_CONFIG_HOME", self.dir.file("config"))
            .env_remove("CONDUIT_FLOW_PATH");
        command
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ended {
        Running::start(&mut self.command(args)).end()
    }
}
