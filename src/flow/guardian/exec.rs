//! From a fork of the guardian to a node's program.

use super::codec::{self, Step};
use super::sys::errno;

/// Which descriptors a new process needs.
pub(super) struct Ends {
    pub block: i32,
    pub stdout: i32,
    pub stderr: i32,
    /// Where it says what failed. It closes by itself when the program runs.
    pub pipe: i32,
}

/// A new process: as `fork`, but without what the C library does around it, which may wait for a lock that another thread had.
/// 0 in the child. Its end is told to the parent by `signal`, if that is not 0.
///
/// # Safety
///
/// If this process has other threads, the child must make only system calls and touch only memory that no other thread changes.
pub(super) unsafe fn fork(signal: i32) -> i32 {
    // SAFETY: no flags: a copy of everything, the stack included. Zeroes wherever the order of arguments differs.
    unsafe { libc::syscall(libc::SYS_clone, signal as libc::c_ulong, 0usize, 0usize, 0usize, 0usize) as i32 }
}

/// Becomes the node's program. In a process with one thread that was just forked by `guardian`.
pub(super) fn exec(guardian: i32, block: u64, ends: &Ends) -> ! {
    let (step, errno) = attempt(guardian, block, ends);
    let failure = [(step as i32).to_ne_bytes(), errno.to_ne_bytes()];
    // SAFETY: eight bytes of this array. Fails only if nobody is there to read it.
    unsafe {
        libc::write(ends.pipe, failure.as_ptr().cast(), size_of_val(&failure));
        libc::_exit(127)
    }
}

/// What `exec` wrote.
pub(super) fn read_failure(bytes: &[u8]) -> Option<(Step, i32)> {
    let (step, errno) = bytes.split_at_checked(4)?;
    let step = Step::from_number(u32::from_ne_bytes(step.try_into().ok()?))?;
    Some((step, i32::from_ne_bytes(errno.try_into().ok()?)))
}

fn attempt(guardian: i32, len: u64, ends: &Ends) -> (Step, i32) {
    // SAFETY: system calls with numbers, strings that end with a zero, arrays that end with a null, and buffers with their
    // lengths. Nothing else runs in this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        if libc::getppid() != guardian {
            // It died before it could be heard of.
            libc::_exit(127);
        }
        libc::setpgid(0, 0);
        // Standard input is the guardian's: nothing. The others are closed by `execve`.
        if libc::dup2(ends.stdout, 1) < 0 || libc::dup2(ends.stderr, 2) < 0 {
            return (Step::Output, errno());
        }
        let Ok(len) = usize::try_from(len) else { return (Step::Request, libc::E2BIG) };
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let block = libc::mmap(std::ptr::null_mut(), len, writable, libc::MAP_PRIVATE, ends.block, 0);
        if block == libc::MAP_FAILED {
            return (Step::Request, errno());
        }
        // Sealed at this length by its maker.
        let bytes = std::slice::from_raw_parts_mut(block.cast::<u8>(), len);
        let Some(linked) = codec::link(bytes, block as usize) else { return (Step::Request, libc::EINVAL) };
        let at = |offset: usize| block.cast::<u8>().wrapping_add(offset);
        if linked.cpus_len > 0 && libc::sched_setaffinity(0, linked.cpus_len, at(linked.cpus).cast()) < 0 {
            return (Step::Affinity, errno());
        }
        if libc::chdir(at(linked.working_dir).cast()) < 0 {
            return (Step::WorkingDir, errno());
        }
        // Last, so that a signal that ends it does so as it would end the program. The dispositions are the guardian's: default.
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::execve(at(linked.program).cast(), at(linked.argv).cast(), at(linked.envp).cast());
        (Step::Exec, errno())
    }
}
