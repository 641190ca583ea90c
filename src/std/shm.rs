//! Named regions of memory that processes share.

use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, MemfdFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mm::{self, MapFlags, MprotectFlags, ProtFlags};

/// Where named regions live: a file system in memory.
pub(crate) const DIRECTORY: &str = "/dev/shm";

/// Memory that is mapped from a file. Unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory, owned; what may be done with it is up to the protocols above.
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file` for reading, and `writable` (page-aligned ranges within them) for writing
    /// too. With `present` its pages are made present at once, rather than each when it is first touched.
    pub(crate) fn new(
        file: BorrowedFd<'_>,
        len: usize,
        writable: &[Range<usize>],
        present: bool,
    ) -> Result<Self, Errno> {
        let flags = if present { MapFlags::SHARED | MapFlags::POPULATE } else { MapFlags::SHARED };
        // Writable from the start, its pages are gone through once, not twice.
        let is_writable = writable.contains(&(0..len));
        let protection = if is_writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this program.
        let start = unsafe { mm::mmap(std::ptr::null_mut(), len, protection, flags, file, 0)? };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        let mapping = Mapping { start, len };
        for part in writable {
            if is_writable || part.start >= part.end || part.end > len {
                continue;
            }
            // SAFETY: the range lies within the mapping, to which nobody else has a pointer yet.
            unsafe {
                let part_start = start.as_ptr().add(part.start).cast();
                mm::mprotect(part_start, part.len(), MprotectFlags::READ | MprotectFlags::WRITE)?;
                if present {
                    // Before Linux 5.14 there is no such advice, and the first touch of each page takes a fault.
                    let _ = libc::madvise(part_start.cast(), part.len(), libc::MADV_POPULATE_WRITE);
                }
            }
        }
        Ok(mapping)
    }

    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keeps the mapping in memory.
    pub(crate) fn lock_in_memory(&self) -> Result<(), Errno> {
        // SAFETY: the range is this mapping's.
        unsafe { mm::mlock(self.start.as_ptr().cast(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's, and whoever holds pointers into it holds the mapping too.
        let _ = unsafe { mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A file of `len` bytes without a name, all of its memory set aside.
pub(crate) fn create_unnamed(mode: u32, len: u64) -> Result<OwnedFd, Errno> {
    let file = fs::open(DIRECTORY, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(mode))?;
    // Whatever the umask says, the mode is what was asked for.
    fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    set_aside(&file, len)?;
    Ok(file)
}

/// A file of `len` bytes that never has a name, all of its memory set aside, to be sealed.
pub(crate) fn create_private(name: &str, len: u64) -> Result<OwnedFd, Errno> {
    let file = fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    set_aside(&file, len)?;
    Ok(file)
}

/// Makes a file that long. Memory that is not there is an error here, and never a signal later.
fn set_aside(file: &OwnedFd, len: u64) -> Result<(), Errno> {
    loop {
        match fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The path of an open file, by which it can be opened again or given a name.
pub(crate) fn proc_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// A second, independent open file for the same inode.
pub(crate) fn reopen(file: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    fs::open(proc_path(file), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Gives an unnamed file its name. `Errno::EXIST` if there is one of that name.
pub(crate) fn link(file: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    fs::linkat(fs::CWD, proc_path(file), fs::CWD, path, AtFlags::SYMLINK_FOLLOW)
}

/// How to open a named region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// Opens a named region. Never creates one and never follows a link.
pub(crate) fn open(path: &CStr, access: Access) -> Result<OwnedFd, Errno> {
    let access = match access {
        Access::Read => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    fs::open(path, flags, Mode::empty())
}

/// Has a file change its name and take the place of what is there.
pub(crate) fn rename(from: &CStr, to: &CStr) -> Result<(), Errno> {
    fs::rename(from, to)
}

/// Removes a name.
pub(crate) fn unlink(path: &CStr) -> Result<(), Errno> {
    fs::unlink(path)
}

/// What the name stands for now; `None` if there is no such name.
pub(crate) fn stat_name(path: &CStr) -> Result<Option<Stat>, Errno> {
    match fs::lstat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether two files are the same.
pub(crate) fn is_same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// Whether a file is a regular one.
pub(crate) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
