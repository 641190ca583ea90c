//! What a forked child must not share with its parent: the files whose locks say who is alive.
//!
//! A child inherits the parent's open files, so its copies would keep the parent's locks after the parent died. An
//! at-fork handler closes them in the child and raises a generation, by which inherited handles know themselves.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lock;

/// How many forks lie between this process and the first. Written by the at-fork handler of a child before any other
/// code of the child runs; read by everybody.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The descriptors to close in a child.
static FILES: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

thread_local! {
    /// The lock on `FILES` from before a fork until after it, so that the child finds the list whole.
    static HELD: RefCell<Option<MutexGuard<'static, Vec<RawFd>>>> = const { RefCell::new(None) };
}

/// The generation of this process.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A value that each process has for itself. A forked child gets a new one, because the parent's may have been locked by a
/// thread that the child does not have. The parent's copy is left alone.
#[derive(Debug)]
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<(u32, T)>);

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess(AtomicPtr::new(std::ptr::null_mut()))
    }

    pub(crate) fn get(&self) -> &'static T {
        let found = self.0.load(Ordering::Acquire);
        // SAFETY: null, or a value that is never freed; this process's or one that was made before it was forked.
        if let Some((_, value)) = unsafe { found.as_ref() }.filter(|(of, _)| *of == generation()) {
            return value;
        }
        // Before the value is there: from then on no child takes it for its own.
        install();
        let new = Box::into_raw(Box::new((generation(), T::default())));
        match self.0.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it stays where it is for the life of the process.
            Ok(_) => unsafe { &(*new).1 },
            Err(other) => {
                // SAFETY: nobody else has seen the new one; the other one was made by a thread of this process.
                unsafe {
                    drop(Box::from_raw(new));
                    &(*other).1
                }
            }
        }
    }
}

/// A file that stays with the process that opened it: closed in forked children.
#[derive(Debug)]
pub(crate) struct UnsharedFile {
    /// Closed by `drop`, except in a child, where the handler has closed it already.
    file: ManuallyDrop<OwnedFd>,
    generation: u32,
}

impl UnsharedFile {
    pub(crate) fn new(file: OwnedFd) -> Self {
        install();
        files().push(file.as_raw_fd());
        UnsharedFile { file: ManuallyDrop::new(file), generation: generation() }
    }

    /// Whether this process opened it. If not, the descriptor is closed and its number may be another file's.
    #[inline(always)]
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == generation()
    }
}

impl AsFd for UnsharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for UnsharedFile {
    fn drop(&mut self) {
        if self.is_ours() {
            // Closing it is not enough while another thread is starting a process, which has a copy until it has become
            // another program.
            lock::unlock_all(self.file.as_fd());
            let mut files = files();
            let number = self.file.as_raw_fd();
            files.retain(|&file| file != number);
            // SAFETY: not used again; closed while the list is locked, so that a fork sees both or neither.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

fn files() -> MutexGuard<'static, Vec<RawFd>> {
    // Nothing panics while the list is locked; if it did, the list would still be one of open files.
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn install() {
    unsafe extern "C" {
        /// POSIX; not in the `libc` crate for Linux.
        fn pthread_atfork(
            prepare: Option<unsafe extern "C" fn()>,
            parent: Option<unsafe extern "C" fn()>,
            child: Option<unsafe extern "C" fn()>,
        ) -> libc::c_int;
    }
    // Not a `Once`, which a child would wait on for ever if it was forked in the middle. Installed twice, the handlers find
    // the second time that there is nothing left to do.
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.load(Ordering::Acquire) {
        // SAFETY: the handlers live as long as the program. Fails only without memory, which Rust aborts on.
        let result = unsafe { pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        assert_eq!(result, 0, "no memory for the fork handler");
        INSTALLED.store(true, Ordering::Release);
    }
}

unsafe extern "C" fn prepare() {
    if HELD.try_with(|held| held.borrow().is_some()).unwrap_or(false) {
        return;
    }
    let guard = files();
    // Fails only if the thread is being torn down; the child then looks whether the list happens to be free.
    let _ = HELD.try_with(|held| *held.borrow_mut() = Some(guard));
}

unsafe extern "C" fn parent() {
    let _ = HELD.try_with(|held| held.borrow_mut().take());
}

unsafe extern "C" fn child() {
    match HELD.try_with(|held| held.borrow_mut().take()) {
        Ok(Some(files)) => leave_behind(files),
        // The second time.
        Ok(None) => {}
        Err(_) => match FILES.try_lock() {
            Ok(files) => leave_behind(files),
            // Another thread of the parent had the list: nothing in it can be believed.
            Err(_) => _ = GENERATION.fetch_add(1, Ordering::Relaxed),
        },
    }
}

/// Closes the parent's files and has inherited handles know that they are.
fn leave_behind(mut files: MutexGuard<'_, Vec<RawFd>>) {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    for file in files.drain(..) {
        // SAFETY: the child's copy of a descriptor that its inherited handle will not use again.
        unsafe { libc::close(file) };
    }
}
