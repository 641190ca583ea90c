//! SIGINT and SIGTERM while a node runs.
//!
//! A handler, and no signalfd or `sigwait`: those work only if the signals are blocked in every thread of the process, which
//! is not a library's to decide. The handler stores two words and rings a bell; what follows happens in the thread that runs
//! the node.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::stop::ENDS;

const SIGNALS: [i32; 2] = [libc::SIGINT, libc::SIGTERM];

/// Who has the signals: the process whose node does, 0 if none does. What a parent's node left in a forked child counts for
/// nothing there, from the child's first instruction on, which is before any handler of the fork has run. Written by `take`
/// and by the guard's end; read by the handler.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// The first signal that came since they were taken; 0 for none. Written by the handler, and by `take`; read by the owner.
static CAME: AtomicI32 = AtomicI32::new(0);

fn this_process() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32
}

/// The right to the signals, which end the node and not the process. Gives them back when it is dropped.
#[derive(Debug)]
pub(super) struct Signals {
    /// What was done with each signal before; `None` for one that is ignored, and stays so.
    before: [Option<libc::sigaction>; 2],
}

impl Signals {
    /// `None` if another node of this process has them.
    pub(super) fn take() -> Option<Self> {
        let owner = OWNER.load(Ordering::Acquire);
        if owner == this_process() {
            return None;
        }
        OWNER.compare_exchange(owner, this_process(), Ordering::AcqRel, Ordering::Relaxed).ok()?;
        CAME.store(0, Ordering::Release);
        Some(Signals { before: SIGNALS.map(install) })
    }

    /// The signal that came, if one did.
    pub(super) fn came(&self) -> Option<i32> {
        Some(CAME.load(Ordering::Acquire)).filter(|signal| *signal != 0)
    }

    /// Does with the signals what was done before; returns the one that came until then, if one did.
    pub(super) fn give_back(self) -> Option<i32> {
        self.restore();
        self.came()
    }

    fn restore(&self) {
        for (signal, before) in SIGNALS.into_iter().zip(&self.before) {
            let Some(before) = before else { continue };
            // Unless the application has put another handler in its place meanwhile.
            if action(signal, None).sa_sigaction == handler() {
                action(signal, Some(before));
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.restore();
        OWNER.store(0, Ordering::Release);
    }
}

/// Handles the signal from now on; returns what was done with it before.
fn install(signal: i32) -> Option<libc::sigaction> {
    let before = action(signal, None);
    if before.sa_sigaction == libc::SIG_IGN {
        return None;
    }
    // SAFETY: a C struct of integers and an optional pointer, for which zero is a value.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = handler();
    // Calls of the application's that it comes into go on, on whatever stack they have for this.
    new.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the set is this function's own.
    unsafe {
        for other in SIGNALS {
            libc::sigaddset(&mut new.sa_mask, other);
        }
    }
    action(signal, Some(&new));
    Some(before)
}

fn handler() -> libc::sighandler_t {
    on_signal as extern "C" fn(i32) as libc::sighandler_t
}

/// What is done with the signal, after doing `new` from now on.
fn action(signal: i32, new: Option<&libc::sigaction>) -> libc::sigaction {
    // SAFETY: a C struct of integers and an optional pointer, for which zero is a value.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: reads and writes structs that live; the handler is `on_signal` or one that was there before. Cannot fail for
    // these signals.
    unsafe { libc::sigaction(signal, new, &mut before) };
    before
}

/// Makes no call but system calls that keep `errno`, or that end the process.
extern "C" fn on_signal(signal: i32) {
    let is_ours = OWNER.load(Ordering::Acquire) == this_process();
    if is_ours && CAME.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        // SAFETY: the address of this thread's errno, which the wake-up may change where it goes through the C library.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            ENDS.ring();
            *errno = before;
        }
        return;
    }
    // The second time, when the node does not end; in a forked child, which has no node; or so late that the node has ended
    // and what was done with the signal before is done again.
    // SAFETY: as in `action`; `raise` has the signal wait until this handler returns.
    unsafe {
        if action(signal, None).sa_sigaction == handler() {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        libc::raise(signal);
    }
}
