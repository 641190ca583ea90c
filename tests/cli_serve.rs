//! The daemon's configuration, as the program reads it.
#![cfg(all(feature = "cli", feature = "net"))]

mod cli;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cli::{Cli, Running};

/// A directory of the test's own, and files in it.
struct Files(PathBuf);

impl Files {
    fn new(cli: &Cli) -> Self {
        let path = std::env::temp_dir().join(format!("conduit-serve-{}", cli.domain.name()));
        fs::create_dir(&path).unwrap();
        Files(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().into()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_configuration_is_printed_with_the_origin_of_each_value() {
    let cli = Cli::new();
    let files = Files::new(&cli);
    let file = files.write("c.yaml", "server:\n  tcp_port: 0\n");
    let mut command = cli.command(&["serve", "--config", &file, "--check"]);
    let ended = Running::start(command.env("CONDUIT__ACKS__POLICY", "immediate")).end().code(0);
    let line = |start: &str| ended.lines().into_iter().find(|line| line.trim_start().starts_with(start)).unwrap();
    assert!(line("tcp_port: 0 ").ends_with(&format!("# {file}:2:13")), "{ended:?}");
    assert!(line("policy: immediate ").ends_with("# CONDUIT__ACKS__POLICY"), "{ended:?}");
    assert!(line("udp_port: 9001 ").ends_with("# default"), "{ended:?}");
    assert!(line("domain: ").ends_with("# --domain or CONDUIT_DOMAIN"), "{ended:?}");
    // What it prints is a file that says the same.
    let again = files.write("again.yaml", &ended.out);
    let json = |file: &str| cli.run(&["--json", "serve", "--config", file, "--check"]).code(0).json();
    let (printed, read) = (json(&again), json(&file));
    assert_eq!(printed["config"]["server"], read["config"]["server"]);
    assert_eq!(printed["config"]["acks"]["policy"], "immediate");
    assert_eq!(read["config"]["domain"], cli.domain.name());
}

#[test]
fn a_configuration_that_is_wrong_fails_with_the_place_of_each_fault() {
    let cli = Cli::new();
    let files = Files::new(&cli);
    let file = files.write("c.yaml", "server:\n  tcp_prt: 0\n\"a\\e[31m\": 1\n");
    let ended = cli.run(&["serve", "-c", &file, "--check"]).code(1);
    assert!(ended.err.contains(&format!("{file}:2:3: server.tcp_prt: there is no such key; did you mean `tcp_port`?")));
    assert!(ended.err.contains(":3:1: a\\u{1b}[31m: there is no such key") && ended.out.is_empty(), "{ended:?}");
    let missing = files.0.join("none.yaml");
    let ended = cli.run(&["serve", "-c", missing.to_str().unwrap(), "--check"]).code(1);
    assert!(ended.err.contains("cannot read") && ended.err.contains("none.yaml"), "{ended:?}");
    let binary = files.write("binary.yaml", b"server:\n  \xff\n");
    let ended = cli.run(&["serve", "-c", &binary, "--check"]).code(1);
    assert!(ended.err.contains("binary.yaml:2: it is no UTF-8"), "{ended:?}");
    let endless = cli.run(&["serve", "-c", "/dev/zero", "--check"]).code(1);
    assert!(endless.err.contains("it is larger than 1MiB"), "{endless:?}");
}

#[test]
fn a_token_file_is_looked_into_and_its_token_not_shown() {
    let cli = Cli::new();
    let files = Files::new(&cli);
    let token = files.write("token", "open-sesame\n");
    let file = files.write("c.yaml", format!("server:\n  bind: 0.0.0.0\n  token_file: {token}\n"));
    let check = ["serve", "-c", &file, "--check"];
    let ended = cli.run(&check).code(0);
    assert!(ended.err.is_empty() && !ended.out.contains("sesame"), "{ended:?}");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(cli.run(&check).code(0).err.contains("everybody on this machine may open it"));
    files.write("token", "open sesame\n");
    let ended = cli.run(&check).code(1);
    assert!(ended.err.contains("expected a token of 8 to 256") && !ended.err.contains("sesame"), "{ended:?}");
    fs::remove_file(&token).unwrap();
    assert!(cli.run(&check).code(1).err.contains("cannot read"));
}
