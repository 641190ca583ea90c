//! What the supervisor does when its guardian was killed.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Instant;

use super::census::{Census, Owner};
use super::proc::{self, Process, Token};
use super::{Error, Orphans, start, wait_for};

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Swept {
    /// How many processes were killed.
    pub killed: usize,
}

/// Ends all of the flow whose guardian was `guardian`, a zombie now.
pub(super) fn sweep(guardian: i32, token: &Token, orphans: Orphans, until: Instant) -> Result<Swept, Error> {
    let failed = |error| Error::System("look for what is left", error);
    let me = std::process::id() as i32;
    let mut census = Census::new().map_err(failed)?;
    let mut swept = Swept::default();
    let ours = |process: &Process| {
        if process.pid == me || process.pid == guardian {
            return Some(Owner::Nobody);
        }
        // Its session is the nodes' as long as they don't make their own.
        let is_ours = process.session == guardian
            || proc::cookie(process.pid, token).is_some()
            || orphans == Orphans::AdoptAll && process.parent == me && !start::is_guardian(process.pid);
        is_ours.then_some(Owner::Stray)
    };
    loop {
        let is_settled = census.kill(
            me,
            false,
            &mut swept,
            |_, process| ours(process),
            |_, owner| owner == Owner::Stray,
            |swept, _, _| swept.killed += 1,
        );
        // Those that end become children of this process, if it wanted that, and then nobody else waits for them.
        let mut waited = 0;
        for process in census.dead() {
            let is_known = census.is_marked(process) || ours(process) == Some(Owner::Stray);
            if process.parent == me && is_known {
                // SAFETY: tells nothing; a child of this process.
                waited += unsafe { libc::waitpid(process.pid, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
            }
        }
        let left = census.living().filter(|(_, owner)| *owner == Owner::Stray);
        let (count, last) = left.fold((0, None), |(count, _), (process, _)| (count + 1, Some(process.pid)));
        let Some(pid) = last else {
            // Who was waited for may have had children that were not seen as this process'.
            if is_settled && waited == 0 {
                return Ok(swept);
            }
            continue;
        };
        // SAFETY: numbers in, a descriptor out.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
        if fd >= 0 {
            // SAFETY: it is new, and nobody else's.
            let process = unsafe { OwnedFd::from_raw_fd(fd) };
            wait_for(&[process.as_fd()], until).map_err(|_| Error::Left(count))?;
        } else if Instant::now() > until {
            return Err(Error::Left(count));
        }
    }
}
