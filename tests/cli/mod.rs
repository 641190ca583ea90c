//! Running the `conduit` program in a domain of the test's own.
#![allow(dead_code)] // Each test program uses a part of it.

pub mod daemon;
pub mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use serde_json::Value;

use crate::support::{Domain, PATIENCE};
use terminal::Terminal;

/// The program, in a domain.
pub struct Cli {
    pub domain: Domain,
}

/// What a run has come to.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Asserts the exit code; returns what was printed.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }

    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

impl Cli {
    pub fn new() -> Self {
        Cli { domain: Domain::new() }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conduit"));
        command.args(args).env("CONDUIT_DOMAIN", self.domain.name()).env_remove("NO_COLOR");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, "")
    }

    /// Runs a command to its end, with this input.
    #[track_caller]
    pub fn run_with(&self, args: &[&str], input: &str) -> Ended {
        let mut running = Running::start(self.command(args).stdin(Stdio::piped()));
        let mut stdin = running.child.stdin.take().unwrap();
        // A command that does not read has closed it already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        running.end()
    }

    /// Starts a command.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Starts a command on a terminal.
    pub fn start_on_terminal(&self, args: &[&str], columns: u16) -> Terminal {
        Terminal::start(self.command(args).env("TERM", "xterm"), columns)
    }
}

/// A command that goes on. Dropped, it is killed.
pub struct Running {
    pub child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    seen_out: String,
    seen_err: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self::start_by(command, Command::spawn)
    }

    /// Started by `spawn`, which may have more to do with it.
    pub fn start_by(command: &mut Command, spawn: impl FnOnce(&mut Command) -> std::io::Result<Child>) -> Self {
        let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Running { child, out, err, seen_out: String::new(), seen_err: String::new() }
    }

    /// The next line of its output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let line =
            next(&self.out).unwrap_or_else(|| panic!("the output ends after {:?}, {}", self.seen_out, self.rest()));
        self.seen_out.push_str(&line);
        line.trim_end().into()
    }

    #[track_caller]
    pub fn json_line(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits for a line on standard error with `text` in it.
    #[track_caller]
    pub fn note(&mut self, text: &str) -> String {
        loop {
            let line = next(&self.err).unwrap_or_else(|| panic!("never said {text:?}, but {:?}", self.seen_err));
            self.seen_err.push_str(&line);
            if line.contains(text) {
                return line.trim_end().into();
            }
        }
    }

    fn rest(&self) -> String {
        self.err.try_iter().collect()
    }

    pub fn signal(&self, signal: i32) {
        send(&self.child, signal);
    }

    pub fn stop(&self) {
        stop(&self.child);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        while let Some(line) = next(&self.out) {
            self.seen_out.push_str(&line);
        }
        while let Some(line) = next(&self.err) {
            self.seen_err.push_str(&line);
        }
        let code = code(self.child.wait().unwrap());
        Ended { code, out: std::mem::take(&mut self.seen_out), err: std::mem::take(&mut self.seen_err) }
    }
}

/// Sends a signal to a child that has not been waited for.
pub fn send(child: &Child, signal: i32) {
    // SAFETY: takes integers only; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// Stops it, as Ctrl-Z does, and waits until all of its threads stand still.
pub fn stop(child: &Child) {
    send(child, libc::SIGSTOP);
    let mut status = 0;
    // SAFETY: writes an integer; the child has not been waited for.
    let stopped = unsafe { libc::waitpid(child.id() as i32, &mut status, libc::WUNTRACED) };
    assert!(stopped > 0 && libc::WIFSTOPPED(status), "{status}");
}

/// The exit code, as a shell tells it.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next(lines: &Receiver<String>) -> Option<String> {
    match lines.recv_timeout(PATIENCE) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("nothing was said in {PATIENCE:?}"),
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    receive
}
