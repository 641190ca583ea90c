//! A disk for tests that is small, and full if need be.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs `act` with a file system in memory of so many bytes, which nobody else sees, if that is allowed. Threads that
/// `act` starts see it, too.
pub(super) fn with_small_disk(bytes: usize, act: impl FnOnce(&Path) + Send) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("conduit-small-disk-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mount = |path: &Path, kind: &str, flags, data: &str| {
        let [path, kind, data] = [path.to_str().unwrap(), kind, data].map(|text| std::ffi::CString::new(text).unwrap());
        // SAFETY: all strings end, and outlive the call.
        unsafe { libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // What is mounted by this thread is seen by this thread, and goes with it.
            // SAFETY: no memory is involved.
            let is_alone = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0
                && mount(Path::new("/"), "none", libc::MS_REC | libc::MS_PRIVATE, "") == 0
                && mount(&directory, "tmpfs", 0, &format!("size={bytes}")) == 0;
            if is_alone {
                act(&directory);
            } else {
                eprintln!("skipped: only root can mount file systems");
            }
        });
    });
    std::fs::remove_dir(&directory).unwrap();
}

/// Writes to another file until there is no room left.
pub(super) fn fill(disk: &Path) {
    let mut other = OpenOptions::new().create(true).append(true).open(disk.join("other")).unwrap();
    let full = loop {
        if let Err(error) = other.write_all(&[0; 4096]) {
            break error;
        }
    };
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
}
