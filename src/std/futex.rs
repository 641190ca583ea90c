//! Sleeping on a word of shared memory.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::{ClockId, Timespec};

/// The most words that one [`wait_any`] call can watch: the kernel's `FUTEX_WAITV_MAX`.
pub(crate) const WAIT_ANY_MAX: usize = 128;

/// A point in time on the monotonic clock, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    /// `timeout` from now; a time beyond the clock's range is the last that it can tell.
    pub(crate) fn after(timeout: Duration) -> Self {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Deadline(now().saturating_add(timeout).min(i64::MAX as u64))
    }

    /// At this reading of the clock; a time beyond its range is the last that it can tell.
    pub(crate) fn at(nanoseconds: u64) -> Self {
        Deadline(nanoseconds.min(i64::MAX as u64))
    }

    /// Whether it has passed.
    pub(crate) fn has_passed(self) -> bool {
        now() >= self.0
    }

    /// How long it is until then; nothing if it has passed.
    pub(crate) fn left(self) -> Timespec {
        Deadline(self.0.saturating_sub(now())).timespec()
    }

    /// Its reading of the clock.
    pub(crate) fn nanoseconds(self) -> u64 {
        self.0
    }

    fn timespec(self) -> Timespec {
        Timespec { tv_sec: (self.0 / 1_000_000_000) as _, tv_nsec: (self.0 % 1_000_000_000) as _ }
    }
}

/// The earlier of two deadlines, of which each may be missing.
pub(crate) fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of timestamps and deadlines.
#[inline]
pub(crate) fn now() -> u64 {
    nanoseconds(rustix::time::clock_gettime(ClockId::Monotonic))
}

/// `CLOCK_REALTIME` in nanoseconds since 1970.
pub(crate) fn real_now() -> u64 {
    nanoseconds(rustix::time::clock_gettime(ClockId::Realtime))
}

fn nanoseconds(time: Timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Sleeps while `word` equals `ticket`, at most until `deadline`. May return early: the caller looks again.
pub(crate) fn wait(word: &AtomicU32, ticket: u32, deadline: Option<Deadline>) {
    let until = deadline.map(Deadline::timespec);
    // Not private: the word is shared between processes. An absolute time, so an interrupted wait adds nothing.
    // Woken, interrupted, timed out or not asleep at all: the caller looks again in any case.
    let _ = futex::wait_bitset(word, futex::Flags::empty(), ticket, until.as_ref(), std::num::NonZeroU32::MAX);
}

/// Wakes everybody who sleeps on `word`.
#[cold]
pub(crate) fn wake_all(word: &AtomicU32) {
    // Fails only for an unmapped or misaligned word, which a reference is not.
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

/// Sleeps while every word equals its ticket, at most until `deadline`. May return early. `Err` if the kernel cannot
/// wait for several words (before Linux 5.16), or if there are more than [`WAIT_ANY_MAX`].
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], deadline: Option<Deadline>) -> Result<(), Unsupported> {
    if words.len() > WAIT_ANY_MAX || waitv_is_missing() {
        return Err(Unsupported);
    }
    let mut list = [futex::Wait::new(); WAIT_ANY_MAX];
    for (entry, (word, ticket)) in list.iter_mut().zip(words) {
        entry.val = u64::from(*ticket);
        entry.uaddr = futex::WaitPtr::new(std::ptr::from_ref(*word).cast_mut().cast());
        entry.flags = futex::WaitFlags::SIZE_U32;
    }
    let until = deadline.map(Deadline::timespec);
    match futex::waitv(&list[..words.len()], futex::WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic) {
        Err(Errno::NOSYS | Errno::PERM) => {
            WAITV_MISSING.store(true, Ordering::Relaxed);
            Err(Unsupported)
        }
        _ => Ok(()),
    }
}

/// The kernel has no `futex_waitv`, or there are too many words for it.
#[derive(Debug)]
pub(crate) struct Unsupported;

/// Set once the kernel has answered that it has no `futex_waitv`.
static WAITV_MISSING: AtomicBool = AtomicBool::new(false);

/// `CONDUIT_NO_WAITV` stands in for a kernel without the call, so that the other path can be tested and measured.
fn waitv_is_missing() -> bool {
    static FORCED: Fact = Fact::new();
    WAITV_MISSING.load(Ordering::Relaxed) || FORCED.get(|| std::env::var_os("CONDUIT_NO_WAITV").is_some())
}

/// Something about this machine that is found out once. Not a `OnceLock`, which a child would wait on for ever if it was
/// forked while another thread finds out: whoever does not know yet looks for itself.
struct Fact(AtomicU8);

impl Fact {
    const UNKNOWN: u8 = 2;

    const fn new() -> Self {
        Fact(AtomicU8::new(Self::UNKNOWN))
    }

    #[inline]
    fn get(&self, find_out: impl FnOnce() -> bool) -> bool {
        let known = self.0.load(Ordering::Relaxed);
        if known != Self::UNKNOWN {
            return known != 0;
        }
        let found = find_out();
        self.0.store(u8::from(found), Ordering::Relaxed);
        found
    }
}

/// Spins before sleeping, for as long as that tends to pay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spin {
    /// How many looks to take before sleeping: doubled when spinning found something, halved when it did not.
    limit: u32,
}

impl Spin {
    const MIN: u32 = 16;
    const MAX: u32 = 2048;
    /// Up to here about half of a sleep is what it takes to go to sleep and to be woken.
    const SHORT: Duration = Duration::from_micros(100);

    pub(crate) fn new() -> Self {
        Spin { limit: Self::MIN }
    }

    /// Spins until `ready`, for a bounded number of looks. Returns whether it became ready.
    #[inline]
    pub(crate) fn until(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        if !has_several_cpus() {
            return false;
        }
        for _ in 0..self.limit {
            if ready() {
                self.limit = (self.limit * 2).min(Self::MAX);
                return true;
            }
            std::hint::spin_loop();
        }
        self.limit = (self.limit / 2).max(Self::MIN);
        false
    }

    /// Takes note of how long a sleep took that followed a spin. After a short one a longer spin would have found what was
    /// waited for, which short spins never learn.
    pub(crate) fn slept(&mut self, time: Duration) {
        if time < Self::SHORT {
            self.limit = (self.limit * 4).min(Self::MAX);
        }
    }
}

/// On one CPU whoever spins keeps the publisher from running. The machine's CPUs, not those this process may use: a
/// process that is pinned to one spins for another.
fn has_several_cpus() -> bool {
    static SEVERAL: Fact = Fact::new();
    // SAFETY: takes an integer, touches no memory of ours.
    SEVERAL.get(|| unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) } > 1)
}

/// A barrier that the sleeper runs on behalf of every publisher, so that publishing needs none.
pub(crate) mod barrier {
    const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
    const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: takes integers only.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    /// Lets barriers of other processes reach this one. Returns whether they will. Cheap, but for the first time in a
    /// process with several threads, when the kernel waits for all of them.
    pub(crate) fn register() -> bool {
        membarrier(REGISTER_GLOBAL_EXPEDITED)
    }

    /// Runs a full fence on every CPU that runs a registered process. Returns whether it did.
    pub(crate) fn run() -> bool {
        membarrier(GLOBAL_EXPEDITED)
    }
}
