//! System calls as the guardian's process may make them: without allocating.

use super::codec::MESSAGE;

/// Why the last system call of this thread failed.
pub(super) fn errno() -> i32 {
    // SAFETY: this thread's own.
    unsafe { *libc::__errno_location() }
}

/// Closes a descriptor, if it is one.
pub(super) fn close(fd: i32) {
    if fd >= 0 {
        // SAFETY: the caller's own, who has no more use for it.
        unsafe { libc::close(fd) };
    }
}

/// Closes what was inherited, except 0, 1 and 2 and `kept`, which are greater.
///
/// # Safety
///
/// Nobody uses the others.
pub(super) unsafe fn close_all_but(kept: [i32; 2]) {
    let [low, high] = [kept[0].min(kept[1]) as u32, kept[0].max(kept[1]) as u32];
    for (first, last) in
        [(3, low.wrapping_sub(1)), (low.wrapping_add(1), high.wrapping_sub(1)), (high.wrapping_add(1), !0)]
    {
        if first > last {
            continue;
        }
        // SAFETY: by contract.
        unsafe {
            if libc::syscall(libc::SYS_close_range, first, last, 0) < 0 {
                // Before Linux 5.9. Descriptors are below the limit, unless it was lowered since they were opened.
                let mut limit: libc::rlimit = std::mem::zeroed();
                libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
                for fd in first..=last.min(limit.rlim_cur.min(1 << 20) as u32) {
                    libc::close(fd as i32);
                }
            }
        }
    }
}

/// Sends without waiting. Returns why it failed, as `errno`, or 0.
pub(super) fn send_message(socket: i32, bytes: &[u8]) -> i32 {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: these bytes.
    if unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) } < 0 { errno() } else { 0 }
}

/// A message and its descriptors, without waiting. `None` if there is none; 0 bytes if there will be none any more.
pub(super) fn receive(socket: i32, bytes: &mut [u8; MESSAGE + 1], fds: &mut [i32; 3]) -> Option<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // Aligned as its header is.
    let mut control = [0u64; 8];
    // SAFETY: integers and null pointers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: of a length that fits; the kernel writes no more than that and no more bytes than there is room for.
    let len = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(size_of_val(fds) as u32) as _;
        libc::recvmsg(socket, &mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC)
    };
    if len < 0 {
        return if matches!(errno(), libc::EAGAIN | libc::EINTR) { None } else { Some(0) };
    }
    // SAFETY: the kernel wrote the headers, each with its length; a descriptor is read from within.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        if !header.is_null() && (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
            let data = libc::CMSG_DATA(header).cast::<i32>();
            let bytes = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            for (at, fd) in fds.iter_mut().enumerate().take(bytes / size_of::<i32>()) {
                *fd = data.add(at).read_unaligned();
            }
        }
    }
    Some(len as usize)
}
