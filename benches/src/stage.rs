//! The stage: forked participants, each pinned to a core, and the memory in which they meet.
//!
//! The parent stays single-threaded and never opens a transport itself, so that a fork inherits
//! nothing but what a transport's `prepare` made for it.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// How many participants may record samples, and how many each.
const LANES: usize = 6;
pub const LANE: usize = 1 << 17;

#[repr(align(128))]
#[derive(Default)]
pub struct Line<T>(pub T);

/// Lives in anonymous shared memory, zeroed; made once and reset before each cell.
#[repr(C)]
pub struct Stage {
    parties: AtomicU32,
    /// Counts up for ever: a meeting of `parties` ends at each multiple of it.
    arrived: Line<AtomicU32>,
    /// 0 until whoever measures is done; a futex for those who merely stay connected.
    stopped: Line<AtomicU32>,
    /// One writer each, to measure how far apart the cores are.
    pub lines: [Line<AtomicU64>; 2],
    values: [AtomicU64; 16],
    lanes: [Lane; LANES],
}

#[repr(align(4096))]
struct Lane(UnsafeCell<[u64; LANE]>);

// SAFETY: a lane is written by one participant, and read by the parent when that has exited.
unsafe impl Sync for Lane {}

/// A participant: what it does, and where.
pub struct Role<'a> {
    pub core: usize,
    pub act: Box<dyn FnOnce() + 'a>,
}

pub fn role<'a>(core: usize, act: impl FnOnce() + 'a) -> Role<'a> {
    Role { core, act: Box::new(act) }
}

impl Stage {
    pub fn new() -> &'static Stage {
        block_child_signal();
        let stage: *mut Stage = map_shared(size_of::<Stage>()).cast();
        // SAFETY: a fresh, zeroed, page-aligned mapping that is never unmapped; zero is a valid
        // value of each field.
        unsafe { &*stage }
    }

    /// Forks the roles, waits for all of them, and gives up on the whole cell when one of them fails
    /// or the time is over.
    pub fn play(&self, roles: Vec<Role>, limit: Duration) -> Result<(), String> {
        self.reset(roles.len());
        let cast: Vec<_> = roles.into_iter().map(fork).collect();
        join(&cast, limit)
    }

    pub fn reset(&self, parties: usize) {
        self.parties.store(parties as u32, Relaxed);
        self.arrived.0.store(0, Relaxed);
        self.stopped.0.store(0, Relaxed);
        self.lines.iter().for_each(|l| l.0.store(0, Relaxed));
        self.values.iter().for_each(|v| v.store(0, Relaxed));
    }

    /// Waits until every participant is here.
    pub fn meet(&self) {
        let parties = self.parties.load(Relaxed);
        let turn = self.arrived.0.fetch_add(1, AcqRel) / parties;
        while self.arrived.0.load(Acquire) / parties == turn {
            // SAFETY: no arguments, no memory.
            unsafe { libc::sched_yield() };
        }
    }

    pub fn stop(&self) {
        self.stopped.0.store(1, Release);
        futex_wake(&self.stopped.0, i32::MAX);
    }

    #[inline(always)]
    pub fn is_stopped(&self) -> bool {
        self.stopped.0.load(Acquire) != 0
    }

    /// Stays off the processor until [`Stage::stop`].
    pub fn sleep_until_stopped(&self) {
        while !self.is_stopped() {
            futex_wait(&self.stopped.0, 0);
        }
    }

    pub fn put(&self, at: usize, value: u64) {
        self.values[at].store(value, Release);
    }

    pub fn get(&self, at: usize) -> u64 {
        self.values[at].load(Acquire)
    }

    /// This participant's own samples, zeroed and with every page present.
    #[allow(clippy::mut_from_ref)] // one lane, one participant: see `play`'s callers
    pub fn lane(&self, lane: usize) -> &mut [u64] {
        // SAFETY: each participant takes its own lane, and the parent looks at it after they exited.
        let samples = unsafe { &mut *self.lanes[lane].0.get() };
        samples.fill(0);
        samples
    }

    /// What a participant left in its lane; for the parent.
    pub fn recorded(&self, lane: usize) -> &[u64] {
        // SAFETY: the participants are gone.
        unsafe { &*self.lanes[lane].0.get() }
    }
}

/// Runs `all` in a child that goes before whatever else the machine does, where that is allowed, and
/// returns its exit status.
pub fn ahead_of_others(all: impl FnOnce() -> u8) -> u8 {
    // SAFETY: plain system calls, in a process that has only one thread.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // What `setsid` sets apart is scheduled as one group, beside which the priorities of its processes count for
        // nothing. So both are raised.
        // SAFETY: as above.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::setsid();
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
        let _ = std::fs::write("/proc/self/autogroup", "-20");
        std::process::exit(all().into());
    }
    let mut status = 0;
    // SAFETY: `pid` is a child that has not been waited for.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) as u8 } else { 1 }
}

/// Forks a participant, which acts and exits. It dies with the parent.
pub fn fork(role: Role) -> libc::pid_t {
    // SAFETY: the parent is single-threaded, so the child may run any code.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return pid;
    }
    // SAFETY: plain system calls on this process alone.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    child_signal(libc::SIG_UNBLOCK);
    pin(role.core);
    let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(role.act));
    // SAFETY: never returns; nothing of the parent's is to be run or flushed here.
    unsafe { libc::_exit(if acted.is_ok() { 0 } else { 1 }) }
}

/// Waits for participants; when one fails, or they take too long, kills the others.
pub fn join(cast: &[libc::pid_t], limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let mut playing = cast.to_vec();
    let mut outcome = Ok(());
    while !playing.is_empty() {
        playing.retain(|&pid| match reap(pid) {
            None => true,
            Some(0) => false,
            Some(status) => {
                if outcome.is_ok() {
                    outcome = Err(format!("a participant failed (status {status:#x})"));
                }
                false
            }
        });
        if outcome.is_ok() && Instant::now() > deadline && !playing.is_empty() {
            outcome = Err(format!("not done after {limit:?}"));
        }
        if outcome.is_err() {
            playing.drain(..).for_each(kill);
        } else if !playing.is_empty() {
            await_child_signal(Duration::from_millis(200));
        }
    }
    outcome
}

/// `kill -9`, and waits until the process is gone.
pub fn kill(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `pid` is a child that has not been waited for.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &mut status, 0);
    }
}

fn reap(pid: libc::pid_t) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is valid to write to.
    match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
        0 => None,
        _ => Some(status),
    }
}

/// The first two cores this process may use, or one.
pub fn cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits; the kernel fills it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        let allowed = |&cpu: &usize| libc::CPU_ISSET(cpu, &set);
        (0..libc::CPU_SETSIZE as usize).filter(allowed).take(2).collect()
    }
}

/// Pins the calling thread to a core.
pub fn pin(core: usize) {
    allow(&[core]);
}

/// Lets the calling thread, and those that it starts from now on, use these cores.
pub fn allow(cores: &[usize]) {
    // SAFETY: as above.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &core in cores {
            libc::CPU_SET(core, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Zeroed memory that forks share, with every page present.
pub fn map_shared(bytes: usize) -> *mut u8 {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        )
    };
    assert!(at != libc::MAP_FAILED, "no memory to share");
    at.cast()
}

pub fn futex_wait(word: &AtomicU32, seen: u32) {
    // SAFETY: the word outlives the call; a null timeout waits for ever.
    unsafe {
        let forever = std::ptr::null::<libc::timespec>();
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, forever);
    }
}

pub fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

fn child_set() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        set
    }
}

fn child_signal(how: i32) {
    // SAFETY: a valid set; the old one is not wanted.
    unsafe { libc::sigprocmask(how, &child_set(), std::ptr::null_mut()) };
}

/// Blocked in the parent, so that it can sleep until a child exits without missing one.
fn block_child_signal() {
    child_signal(libc::SIG_BLOCK);
}

fn await_child_signal(limit: Duration) {
    let limit = libc::timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos() as _ };
    // SAFETY: valid set and timeout; no information is asked for.
    unsafe { libc::sigtimedwait(&child_set(), std::ptr::null_mut(), &limit) };
}
