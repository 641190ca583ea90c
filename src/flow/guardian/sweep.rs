//! What the supervisor does when its guardian was killed.

use std::cell::Cell;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::census::{Census, Owner};
use super::proc::{self, Cookie, Process, Token};
use super::{Error, Orphans, start, wait_for};

/// How often to look again at those that are just becoming another program, a millisecond each.
const UNSURE: u32 = 50;

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
    // Whether somebody may be of the flow, but that can't be told at the moment.
    let is_unsure = Cell::new(false);
    let ours = |process: &Process| {
        if process.pid == me || process.pid == guardian {
            return Some(Owner::Nobody);
        }
        // Its session is the nodes' as long as they don't make their own.
        let cookie = proc::cookie(process.pid, token);
        // Those of the kernel have no session.
        if cookie == Cookie::NotNow && process.session != 0 && !process.is_dead() {
            is_unsure.set(true);
        }
        let is_ours = process.session == guardian
            || matches!(cookie, Cookie::Node(_))
            || orphans == Orphans::AdoptAll && process.parent == me && !start::is_guardian(process.pid);
        is_ours.then_some(Owner::Stray)
    };
    let mut unsure = 0;
    loop {
        is_unsure.set(false);
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
            if is_settled && waited == 0 && (!is_unsure.get() || unsure == UNSURE) {
                return Ok(swept);
            }
            if is_unsure.get() {
                unsure = UNSURE.min(unsure + 1);
                std::thread::sleep(Duration::from_millis(1));
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
