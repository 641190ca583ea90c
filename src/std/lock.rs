//! Who is alive: locks on single bytes of a file that the kernel drops when their holder dies.
//!
//! Open-file-description locks belong to the open file, not to the process: they survive an unrelated `close`, work
//! across PID namespaces, and two handles of one process exclude each other as two processes do, because each handle
//! opens the file for itself.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// The byte of the writer; readers use the byte of their bit.
pub(crate) const WRITER: u32 = 64;

/// Takes `byte` if nobody else has it. Taking a byte that this open file already has succeeds.
pub(crate) fn try_lock(file: BorrowedFd<'_>, byte: u32) -> Result<bool, Errno> {
    match fcntl(file, libc::F_OFD_SETLK, &mut request(byte, libc::F_WRLCK)) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives `byte` back.
pub(crate) fn unlock(file: BorrowedFd<'_>, byte: u32) {
    // Cannot fail for a byte of an open file, and the kernel drops the lock with the file in any case.
    let _ = fcntl(file, libc::F_OFD_SETLK, &mut request(byte, libc::F_UNLCK));
}

/// Gives all bytes back.
pub(crate) fn unlock_all(file: BorrowedFd<'_>) {
    let mut all = request(0, libc::F_UNLCK);
    // To the end of the file, wherever that is.
    all.l_len = 0;
    let _ = fcntl(file, libc::F_OFD_SETLK, &mut all);
}

/// Whether some other open file has `byte`.
pub(crate) fn is_locked(file: BorrowedFd<'_>, byte: u32) -> Result<bool, Errno> {
    let mut lock = request(byte, libc::F_WRLCK);
    fcntl(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn request(byte: u32, kind: i32) -> libc::flock64 {
    // SAFETY: a C struct of integers, for which zero is a value; the kernel wants l_pid to be 0.
    let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = i64::from(byte);
    lock.l_len = 1;
    lock
}

/// The system call itself: the C library's `fcntl` takes another struct on 32-bit targets.
fn fcntl(file: BorrowedFd<'_>, command: i32, lock: &mut libc::flock64) -> Result<(), Errno> {
    #[cfg(target_pointer_width = "64")]
    const FCNTL: libc::c_long = libc::SYS_fcntl;
    #[cfg(not(target_pointer_width = "64"))]
    const FCNTL: libc::c_long = libc::SYS_fcntl64;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads and writes the struct it is given.
    let result = unsafe { libc::syscall(FCNTL, file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    if result < 0 {
        // SAFETY: reads this thread's errno.
        return Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }));
    }
    Ok(())
}
