//! What whoever started the daemon is told of it: systemd, or anybody with its protocol (a service of `Type=notify-reload`).

use std::io;
use std::time::Duration;

use sd_notify::{NotifyState, notify};

use crate::output::note;

/// Who started the daemon. If nobody wants to be told, nothing is.
pub struct Supervisor {
    watchdog: Option<Duration>,
    /// One that cannot be reached is complained of once: the daemon is there for others.
    has_failed: bool,
}

impl Supervisor {
    /// As the environment says.
    pub fn new() -> Self {
        Supervisor { watchdog: sd_notify::watchdog_enabled(), has_failed: false }
    }

    /// How often [`is_alive`](Supervisor::is_alive) has to be called: twice in the time after which the daemon is taken for
    /// dead. `None` if it never is.
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(half)
    }

    /// It serves, and this is what it is doing.
    pub fn is_ready(&mut self, status: &str) {
        let status = one_line(status);
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// It reads its configuration again. It [is ready](Supervisor::is_ready) after that.
    pub fn is_reloading(&mut self) {
        // systemd tells by the time which request this is for; with an older one it does no harm.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => self.failed(&error),
        }
    }

    /// It ends, which may take so long.
    pub fn is_stopping(&mut self, within: Duration) {
        let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(within)]);
    }

    /// It goes on.
    pub fn is_alive(&mut self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) {
        if let Err(error) = notify(states) {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.has_failed, true) {
            note(format_args!("cannot tell who started this how it is (NOTIFY_SOCKET): {error}"));
        }
    }
}

fn half(watchdog: Duration) -> Duration {
    (watchdog / 2).max(Duration::from_millis(1))
}

/// A line of the protocol ends where the text's does, and what follows would be another message.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\0'], " ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What a process of its own is run for, as the environment is a process's.
    #[test]
    #[ignore = "run by other tests in a process of its own"]
    fn tells_all() {
        let mut supervisor = Supervisor::new();
        supervisor.is_ready("serving\non 9000");
        supervisor.is_reloading();
        supervisor.is_alive();
        supervisor.is_stopping(Duration::from_secs(30));
        assert_eq!(supervisor.alive_every(), Some(Duration::from_secs(5)));
        assert!(!supervisor.has_failed);
    }

    #[test]
    #[ignore = "run by other tests in a process of its own"]
    fn goes_on_unheard() {
        let mut supervisor = Supervisor::new();
        supervisor.is_ready("");
        supervisor.is_stopping(Duration::MAX);
        assert!(supervisor.has_failed && supervisor.alive_every().is_none());
    }

    fn in_a_process_of_its_own(test: &str, environment: &[(&str, &str)]) {
        let mut command = Command::new(std::env::current_exe().expect("it runs"));
        command.args(["--ignored", "--exact", &format!("serve::notify::tests::{test}")]);
        command.env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID").envs(environment.iter().copied());
        let output = command.output().expect("it runs again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }

    #[test]
    fn a_supervisor_is_told_how_the_daemon_is() {
        let path = std::env::temp_dir().join(format!("conduit-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).expect("there is a place for sockets");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
        let name = path.to_str().expect("it is text");
        in_a_process_of_its_own("tells_all", &[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "10000000")]);
        std::fs::remove_file(&path).expect("it is there");
        let told = || {
            let mut bytes = [0; 512];
            let len = socket.recv(&mut bytes).expect("it was told");
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        assert_eq!(told(), "READY=1\nSTATUS=serving on 9000\n");
        let reloading = told();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(told(), "WATCHDOG=1\n");
        assert_eq!(told(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\n");
    }

    #[test]
    fn a_supervisor_that_is_gone_is_no_reason_to_stop() {
        in_a_process_of_its_own("goes_on_unheard", &[("NOTIFY_SOCKET", "/nonexistent/socket")]);
    }
}
