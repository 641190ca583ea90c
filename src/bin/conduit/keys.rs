//! Single keys from a terminal, and signals that ask a command for something.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::outcome::{Failure, Result};

/// A terminal on standard input that gives each key as it is pressed, and shows none. As before once this is dropped.
pub struct Keys {
    before: Termios,
}

impl Keys {
    /// `None` if standard input is no terminal, or one that this program is not in the foreground of.
    pub fn new() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !is_in_foreground() {
            return None;
        }
        // Put into the background later on, the program is not to be stopped for having looked at the terminal.
        block(&[libc::SIGTTIN, libc::SIGTTOU]);
        let before = tcgetattr(&stdin).ok()?;
        let mut modes = before.clone();
        modes.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
        modes.special_codes[SpecialCodeIndex::VMIN] = 0;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&stdin, OptionalActions::Now, &modes).ok()?;
        Some(Keys { before })
    }

    /// The keys that were pressed. Empty if there are none, `None` if there will be no more: also once they are meant for
    /// another program.
    pub fn read(&self) -> Option<Vec<u8>> {
        let mut keys = [0; 64];
        match rustix::io::read(io::stdin(), &mut keys) {
            Ok(0) => None,
            Ok(len) => Some(keys[..len].to_vec()),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Some(Vec::new()),
            Err(_) => None,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // In the background the terminal is another program's.
        if is_in_foreground() {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
        }
    }
}

fn is_in_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Keeps signals from this thread, and those that it starts.
fn block(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a C struct of integers that `sigemptyset` fills; the calls read and write only what they are given.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

/// Signals that are read instead of ending the process.
pub struct Signals(OwnedFd);

impl Signals {
    /// Call this before there are other threads.
    pub fn new(signals: &[i32]) -> Result<Self> {
        let set = block(signals);
        // SAFETY: reads the set; the descriptor is this one's own.
        let fd = unsafe {
            match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => {
                    let error = io::Error::last_os_error();
                    return Err(Failure::Failed(format!("cannot make a descriptor of signals: {error}")));
                }
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(Signals(fd))
    }

    /// The next signal that has come, if one has.
    pub fn next(&self) -> Option<i32> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut info) {
            Ok(len) if len == info.len() => Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
            _ => None,
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
