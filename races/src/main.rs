//! One writer and two readers of each kind of ring, in threads, for ThreadSanitizer to watch.
//!
//! It knows what Release and Acquire order, and reports accesses to the same bytes that nothing orders. It knows nothing
//! of fences: what stands on those alone is for loom. Nothing here but the kernel orders the threads.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use conduit::ring::{FrameRing, ReadError, Start, WordRing, WriteError};

/// Runs each of `bodies` in a thread of its own, and waits for them.
fn threads(bodies: &mut [&mut dyn FnMut()]) {
    extern "C" fn run(body: *mut c_void) -> *mut c_void {
        // SAFETY: points to one of `bodies`, which outlives the thread and is used by it alone.
        unsafe { (*body.cast::<&mut dyn FnMut()>())() };
        null_mut()
    }
    let mut ids = Vec::new();
    for body in bodies {
        let mut id = 0;
        // SAFETY: `body` is alive and untouched until the thread was joined below.
        let code = unsafe { libc::pthread_create(&mut id, std::ptr::null(), run, (&raw mut *body).cast()) };
        assert_eq!(code, 0, "pthread_create");
        ids.push(id);
    }
    for id in ids {
        // SAFETY: a thread that was started above, joined once.
        assert_eq!(unsafe { libc::pthread_join(id, null_mut()) }, 0, "pthread_join");
    }
}

/// There may be fewer cores than threads.
fn let_others() {
    // SAFETY: always sound.
    unsafe { libc::sched_yield() };
}

/// How many messages each ring carries: a tenth of a million, or what `CONDUIT_ROUNDS` asks for, in percent of a million.
fn rounds() -> u64 {
    let percent = std::env::var("CONDUIT_ROUNDS").map_or(10, |rounds| rounds.parse().expect("CONDUIT_ROUNDS: percent"));
    10_000 * percent
}

/// What one reader received.
#[derive(Default)]
struct Stream {
    next: u64,
    received: u64,
}

impl Stream {
    fn take<const L: usize>(&mut self, sequence: u64, lagged: u64, message: &[u64; L]) {
        assert_eq!(self.next + lagged, sequence, "each message is received, or counted as lost");
        assert!(message.iter().all(|&word| word == sequence), "message {sequence} is torn: {message:?}");
        (self.next, self.received) = (sequence + 1, self.received + 1);
    }

    /// Takes note of why there was no message. `false` if there is none.
    fn missed(&mut self, error: ReadError) -> bool {
        match error {
            ReadError::Lapped(lost) => self.next += lost,
            ReadError::Empty => return false,
            ReadError::TooManySamples => panic!("no sample is held"),
        }
        true
    }
}

/// Runs a writer and two readers beside it; the readers once more when it is done.
fn race(ring: &str, mut write: impl FnMut(), mut readers: [impl FnMut(&mut Stream); 2]) {
    // Relaxed on purpose: it orders nothing.
    let done = AtomicBool::new(false);
    let mut streams = [Stream::default(), Stream::default()];
    let [one, other] = &mut readers;
    let [its, others] = &mut streams;
    let until_done = |read: &mut dyn FnMut(&mut Stream), stream: &mut Stream| {
        while !done.load(Ordering::Relaxed) {
            read(stream);
            let_others();
        }
    };
    threads(&mut [
        &mut || {
            write();
            done.store(true, Ordering::Relaxed);
        },
        &mut || until_done(one, its),
        &mut || until_done(other, others),
    ]);
    for (read, stream) in readers.iter_mut().zip(&mut streams) {
        read(stream);
        assert_eq!(stream.next, rounds(), "{ring}: all are received or counted");
        assert!(stream.received > rounds() / 1000, "{ring}: the threads hardly met: {} received", stream.received);
        println!("{ring}: {} of {} received, the rest counted as lost", stream.received, stream.next);
    }
}

fn words() {
    static RING: WordRing<[u64; 4], 8> = WordRing::new();
    let (mut writer, readers) = RING.split().expect("split once");
    let reader = || {
        let mut reader = readers.reader(Start::Oldest);
        move |stream: &mut Stream| loop {
            match reader.read() {
                Ok(message) => stream.take(message.sequence(), message.lagged(), &message),
                Err(error) if stream.missed(error) => {}
                Err(_) => break,
            }
        }
    };
    let write = || {
        for sequence in 0..rounds() {
            assert_eq!(writer.publish(&[sequence; 4]), sequence);
            if sequence % 20 == 0 {
                let_others();
            }
        }
    };
    race("words", write, [reader(), reader()]);
}

/// In place, under a pin; of a lossless ring also lent without one.
fn frames(name: &str, ring: &'static FrameRing<[u64; 64], 8, 2>, lent: bool) {
    let (mut writer, readers) = ring.split().expect("split once");
    let reader = || {
        let mut reader = readers.reader(Start::Oldest, 1).expect("room for two");
        move |stream: &mut Stream| loop {
            let read = if lent {
                reader.read_batch(8, |message| stream.take(message.sequence(), message.lagged(), &message))
            } else {
                reader.read().map(|message| stream.take(message.sequence(), message.lagged(), &message)).map(|()| 1)
            };
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if stream.missed(error) => {}
                Err(_) => break,
            }
        }
    };
    let write = || {
        for sequence in 0..rounds() {
            loop {
                match writer.publish(&[sequence; 64]) {
                    Ok(published) => break assert_eq!(published, sequence),
                    Err(WriteError::Full | WriteError::AllPinned) => let_others(),
                }
            }
            if sequence % 20 == 0 {
                let_others();
            }
        }
    };
    race(name, write, [reader(), reader()]);
}

/// A message that nothing orders: a positive control.
fn planted() {
    struct Racy(UnsafeCell<u64>);
    // SAFETY: it is not. That is the point, and the program does nothing with what it reads but print it.
    unsafe impl Sync for Racy {}
    static MESSAGE: Racy = Racy(UnsafeCell::new(0));
    static READY: AtomicBool = AtomicBool::new(false);
    threads(&mut [
        &mut || {
            // SAFETY: see above.
            unsafe { *MESSAGE.0.get() = 1 };
            // Release is what is missing.
            READY.store(true, Ordering::Relaxed);
        },
        &mut || {
            while !READY.load(Ordering::Relaxed) {
                let_others();
            }
            // SAFETY: see above.
            println!("planted: {}", unsafe { *MESSAGE.0.get() });
        },
    ]);
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("planted") {
        return planted();
    }
    static OVERWRITING: FrameRing<[u64; 64], 8, 2> = FrameRing::new();
    static LOSSLESS: FrameRing<[u64; 64], 8, 2> = FrameRing::lossless();
    static LENT: FrameRing<[u64; 64], 8, 2> = FrameRing::lossless();
    words();
    frames("frames", &OVERWRITING, false);
    frames("lossless frames", &LOSSLESS, false);
    frames("lossless frames, lent", &LENT, true);
}
