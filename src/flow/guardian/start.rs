//! The fork.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::process::{PidfdFlags, pidfd_open};

use super::census::Census;
use super::keeper::{self, Keeper, State};
use super::nodes::Nodes;
use super::proc::Token;
use super::{Guardian, Orphans, exec};
use crate::std::fork::UnsharedFile;
use crate::std::random;

/// How long the guardian may take to take a request, which it does whenever it runs at all.
const STUCK: Duration = Duration::from_secs(10);

/// Which children of this process are guardians.
static GUARDIANS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn guardians() -> MutexGuard<'static, Vec<i32>> {
    GUARDIANS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn is_guardian(pid: i32) -> bool {
    guardians().contains(&pid)
}

/// It was waited for.
pub(super) fn forget(pid: i32) {
    guardians().retain(|guardian| *guardian != pid);
}

fn token() -> io::Result<Token> {
    let digits = b"0123456789abcdef";
    Ok(random::bytes()?.map(|byte| digits[usize::from(byte % 16)]))
}

/// A copy that is none of 0, 1 and 2, which a program may have closed.
fn above_standard(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// Until dropped, no signal is handled by this thread.
struct Blocked(libc::sigset_t);

impl Blocked {
    fn new() -> Self {
        // SAFETY: sets of integers, that are filled here.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Blocked(before)
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: what was there before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

pub(super) fn start(orphans: Orphans) -> io::Result<Guardian> {
    if orphans != Orphans::Leave {
        // SAFETY: numbers.
        if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let token = token()?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&ours, Timeout::Send, Some(STUCK))?;
    // Not into other children: while any process has it, the guardian would believe that this one lives.
    let ours = UnsharedFile::new(ours);
    let theirs = above_standard(theirs.as_fd())?;
    let supervisor = above_standard(pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?.as_fd())?;
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut keeper = Keeper {
        token,
        socket: theirs.as_raw_fd(),
        supervisor: supervisor.as_raw_fd(),
        null: null.as_raw_fd(),
        nodes: Nodes::new()?,
        census: Census::new()?,
        state: State::default(),
    };
    // Locked over the fork: whoever sweeps finds it in the list as soon as it is there.
    let mut all = guardians();
    let blocked = Blocked::new();
    // SAFETY: the child does nothing but run the keeper, which keeps to what is asked for. It raises no signal when it ends.
    let pid = unsafe { exec::fork(0) };
    if pid == 0 {
        keeper::run(&mut keeper);
    }
    let error = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(error);
    }
    all.push(pid);
    drop(all);
    drop(theirs);
    // SAFETY: a new descriptor, or an error. A child that was not waited for keeps its number.
    let process = match unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as RawFd {
        fd if fd >= 0 => unsafe { OwnedFd::from_raw_fd(fd) },
        _ => {
            let error = io::Error::last_os_error();
            // It sees that nobody is there.
            drop(ours);
            // SAFETY: tells nothing.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
            forget(pid);
            return Err(error);
        }
    };
    let mut guardian = Guardian {
        socket: ours,
        process,
        pid,
        token,
        orphans,
        nodes: HashSet::new(),
        is_lost: false,
        is_waited_for: false,
    };
    let mut errno = [0; 4];
    let len =
        rustix::io::retry_on_intr(|| rustix::net::recv(&guardian.socket, errno.as_mut_slice(), RecvFlags::empty()));
    match (len.map(|(len, _)| len), i32::from_ne_bytes(errno)) {
        (Ok(4), 0) => Ok(guardian),
        (Ok(4), errno) => Err(io::Error::from_raw_os_error(errno)),
        _ => {
            guardian.is_lost = true;
            Err(io::Error::other("the guardian died as soon as it was started"))
        }
    }
}
