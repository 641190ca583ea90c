//! Threads straight from the system, and what they count.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Thread<'b, 't> {
    body: &'b mut (dyn FnMut() + 't),
    /// How many of the threads have not begun. Relaxed on purpose: it orders nothing.
    awaited: &'b AtomicUsize,
}

/// Runs each of `bodies` in a thread of its own, from when all of them are there, and waits for them.
pub fn threads(bodies: &mut [&mut dyn FnMut()]) {
    extern "C" fn run(thread: *mut c_void) -> *mut c_void {
        // SAFETY: points to one of `threads`, which outlives the thread and is used by it alone.
        let Thread { body, awaited } = unsafe { &mut *thread.cast::<Thread>() };
        awaited.fetch_sub(1, Ordering::Relaxed);
        while awaited.load(Ordering::Relaxed) > 0 {
            let_others();
        }
        body();
        null_mut()
    }
    let awaited = AtomicUsize::new(bodies.len());
    let mut threads: Vec<_> = bodies.iter_mut().map(|body| Thread { body: &mut **body, awaited: &awaited }).collect();
    let mut ids = Vec::new();
    for thread in &mut threads {
        let mut id = 0;
        // SAFETY: `thread` is alive and untouched until the system's thread was joined below.
        let code = unsafe { libc::pthread_create(&mut id, std::ptr::null(), run, (&raw mut *thread).cast()) };
        assert_eq!(code, 0, "pthread_create");
        ids.push(id);
    }
    for id in ids {
        // SAFETY: a thread that was started above, joined once.
        assert_eq!(unsafe { libc::pthread_join(id, null_mut()) }, 0, "pthread_join");
    }
}

/// There may be fewer cores than threads.
pub fn let_others() {
    // SAFETY: always sound.
    unsafe { libc::sched_yield() };
}

/// How many messages each run carries: a tenth of a million, or what `CONDUIT_ROUNDS` asks for, in percent of a million.
pub fn rounds() -> u64 {
    let percent = std::env::var("CONDUIT_ROUNDS").map_or(10, |rounds| rounds.parse().expect("CONDUIT_ROUNDS: percent"));
    10_000 * percent
}

/// What one reader received.
#[derive(Default)]
pub struct Stream {
    pub next: u64,
    pub received: u64,
}

impl Stream {
    pub fn take<const L: usize>(&mut self, sequence: u64, lagged: u64, message: &[u64; L]) {
        assert_eq!(self.next + lagged, sequence, "each message is received, or counted as lost");
        assert!(message.iter().all(|&word| word == sequence), "message {sequence} is torn: {message:?}");
        (self.next, self.received) = (sequence + 1, self.received + 1);
    }
}

/// How long somebody has waited for another thread, and how often.
#[derive(Default)]
pub struct Patience {
    idle: u64,
    waits: u64,
}

impl Patience {
    /// Takes note of whether something was there; if not, lets others run.
    pub fn saw(&mut self, something: bool) {
        if something {
            self.idle = 0;
            return;
        }
        self.waits += u64::from(self.idle == 0);
        self.idle += 1;
        assert!(self.idle < 100_000_000, "nothing moves any more");
        let_others();
    }

    /// How often there was nothing after there had been something.
    pub fn waits(&self) -> u64 {
        self.waits
    }
}
