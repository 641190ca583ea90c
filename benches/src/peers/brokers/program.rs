//! A server that is a program of its own.

use super::{Job, PATIENCE};
use crate::stage::allow;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that runs until this is dropped.
pub struct Program {
    pub port: u16,
    child: Child,
}

impl Program {
    /// Starts the program with what `configuration`, which is given the port, has to be in a file, and waits until it listens.
    pub fn start(
        name: &str,
        package: &str,
        job: &Job,
        configuration: impl FnOnce(u16) -> String,
        arguments: impl FnOnce(&Path) -> Vec<String>,
    ) -> Result<Self, String> {
        let program = find(name).ok_or_else(|| format!("there is no {name}: apt install {package}"))?;
        let port = free_port().map_err(|error| format!("no free port: {error}"))?;
        let path = job.directory.join("configuration");
        let failed = |error: std::io::Error| format!("{name} could not be started: {error}");
        std::fs::write(&path, configuration(port)).map_err(failed)?;
        let log = job.directory.join("log");
        let (out, err) =
            (File::create(&log).map_err(failed)?, File::options().append(true).open(&log).map_err(failed)?);
        let cores = job.cores;
        let mut command = Command::new(program);
        command.args(arguments(&path)).current_dir(&job.directory).stdin(Stdio::null()).stdout(out).stderr(err);
        // SAFETY: system calls on this process alone, between the fork and the program.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                allow(&cores);
                Ok(())
            });
        }
        let mut server = Program { port, child: command.spawn().map_err(failed)? };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > deadline {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("it said nothing").to_string();
                return Err(format!("{name} does not listen: {last}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    pub fn process(&self) -> u64 {
        self.child.id().into()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Servers are often where only root looks for programs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A directory that is removed, with all that is in it, when this is dropped.
pub struct Directory(pub PathBuf);

impl Directory {
    /// In `CONDUIT_BENCH_DIR`, or where temporary files go.
    pub fn new(name: &str) -> Result<Self, String> {
        let parent = std::env::var_os("CONDUIT_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let path = parent.join(name);
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
