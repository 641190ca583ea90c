//! `conduit serve` at free ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Cli, Running};
use crate::support::PATIENCE;

/// A daemon, and where it serves.
pub struct Daemon {
    pub running: Running,
    pub tcp: SocketAddr,
    pub metrics: SocketAddr,
}

impl Daemon {
    pub fn start(cli: &Cli, environment: &[(&str, &str)]) -> Self {
        let mut command = cli.command(&["--json", "serve"]);
        for key in ["SERVER__TCP_PORT", "SERVER__UDP_PORT", "METRICS__PORT"] {
            command.env(format!("CONDUIT__{key}"), "0");
        }
        let mut running = Running::start(command.envs(environment.iter().copied()));
        let said = running.json_line();
        let address = |name: &str| said[name].as_str().unwrap().parse().unwrap();
        Daemon { tcp: address("tcp"), metrics: address("metrics"), running }
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = get(self.metrics, "/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
