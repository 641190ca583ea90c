//! The SysTick interrupt publishes, thread mode reads, for 20 000 pre-emptions at pseudo-random instructions. Counters
//! start just below the maximum of the word.
//!
//! The emulator says nothing about memory ordering; what this shows is that a reader that is stopped anywhere takes
//! no torn message, that losses are counted exactly, and that 32-bit counters wrap unnoticed. Two more runs have a
//! planted fault, which must be found: a check that can't fail shows nothing. Where the target has compare-and-swap, the
//! same with messages that are read in place.

#![no_std]
#![no_main]

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use conduit::ring::{
    Control, Memory, Native, ReadError, Start, WordMemory, WordReader, WordRing, WordRingWriter, WordWriter,
};
use cortex_m::interrupt::{Mutex, free};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_semihosting::{debug, hprintln};

const PREEMPTIONS: u32 = 20_000;
const CAPACITY: usize = 8;
const START: u64 = u32::MAX as u64 - 7;

type Message = [u32; 4];

static RINGS: [WordRing<Message, CAPACITY>; 2] = [const { WordRing::starting_at(START) }; 2];
static INTERRUPT: Mutex<RefCell<Option<Interrupt>>> = Mutex::new(RefCell::new(None));
/// Thread mode is inside a read.
static READING: AtomicBool = AtomicBool::new(false);
/// Interrupts so far in this run, and those of them that came inside a read.
static TICKS: AtomicU32 = AtomicU32::new(0);
static INSIDE_READ: AtomicU32 = AtomicU32::new(0);

/// Message number `n`: a function of it in each word, so that words of two messages don't fit together.
fn message(n: u32) -> Message {
    [n, !n, n.wrapping_mul(0x9E37_79B9), n ^ 0xA5A5_5A5A]
}

/// What the interrupt handler owns.
struct Interrupt {
    writer: Writer,
    timer: SYST,
    published: u32,
    random: u32,
}

enum Writer {
    Ring(WordRingWriter<'static, Message, CAPACITY>),
    SharedPayload(WordWriter<SharedPayload>),
    #[cfg(target_has_atomic = "32")]
    Frames(frames::Writer),
}

impl Interrupt {
    fn tick(&mut self) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        // Now and then more than a lap, so that a reader that was stopped finds its slot overwritten.
        for _ in 0..if self.random.is_multiple_of(8) { CAPACITY + 1 } else { 1 } {
            self.publish();
        }
        // Thread mode gets this long before the next interrupt, counted from here.
        self.timer.set_reload(8 + (self.random >> 8) % 64);
        self.timer.clear_current();
    }

    fn publish(&mut self) {
        let message = message(self.published);
        let sequence = match &mut self.writer {
            Writer::Ring(writer) => writer.publish(&message),
            Writer::SharedPayload(writer) => writer.publish(bytes(&message), 0).expect("never full"),
            #[cfg(target_has_atomic = "32")]
            Writer::Frames(writer) => writer.publish(&message).expect("there are more slots than pins"),
        };
        assert_eq!(sequence, START + u64::from(self.published));
        self.published += 1;
    }
}

#[cortex_m_rt::exception]
fn SysTick() {
    let ticks = TICKS.load(SeqCst) + 1;
    if ticks > PREEMPTIONS {
        return; // It was pending when the timer was stopped.
    }
    if READING.load(SeqCst) {
        INSIDE_READ.store(INSIDE_READ.load(SeqCst) + 1, SeqCst);
    }
    free(|section| {
        let mut interrupt = INTERRUPT.borrow(section).borrow_mut();
        let interrupt = interrupt.as_mut().expect("the timer runs while there is a writer");
        interrupt.tick();
        if ticks == PREEMPTIONS {
            interrupt.timer.disable_counter();
        }
    });
    TICKS.store(ticks, SeqCst);
}

/// What the reader saw.
#[derive(Default, Debug)]
struct Seen {
    whole: u64,
    torn: u64,
    lost: u64,
}

type Verdict = Result<(), &'static str>;

/// Lets `writer` publish from the interrupt handler while `read` (message, sequence, lost before it) is called here;
/// `late` only when the writer is done.
fn run(
    timer: SYST,
    writer: Writer,
    late: bool,
    mut read: impl FnMut() -> Result<(Message, u64, u64), ReadError>,
) -> (Interrupt, Verdict) {
    TICKS.store(0, SeqCst);
    INSIDE_READ.store(0, SeqCst);
    free(|section| {
        let mut slot = INTERRUPT.borrow(section).borrow_mut();
        let timer = &mut slot.insert(Interrupt { writer, timer, published: 0, random: 0x2545_F491 }).timer;
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(1000);
        timer.clear_current();
        timer.enable_interrupt();
        timer.enable_counter();
    });

    let mut seen = Seen::default();
    loop {
        // Asked before the read, so that an empty ring afterwards is empty for good.
        let done = TICKS.load(SeqCst) == PREEMPTIONS;
        if late && !done {
            continue;
        }
        READING.store(true, SeqCst);
        let result = read();
        READING.store(false, SeqCst);
        match result {
            Ok((got, sequence, lost)) => {
                seen.lost += lost;
                let whole = got == message(sequence.wrapping_sub(START) as u32);
                *(if whole { &mut seen.whole } else { &mut seen.torn }) += 1;
            }
            Err(ReadError::Lapped(lost)) => seen.lost += lost,
            Err(_) if done => break,
            Err(_) => {}
        }
    }
    let interrupt = free(|section| INTERRUPT.borrow(section).take()).expect("put there above");
    let inside = INSIDE_READ.load(SeqCst);
    hprintln!("published {}, {:?}, interrupts inside a read: {}", interrupt.published, seen, inside);

    let published = u64::from(interrupt.published);
    let verdict = if seen.torn > 0 {
        Err("torn messages")
    } else if seen.whole + seen.lost != published {
        Err("messages neither read nor counted as lost")
    } else if seen.whole < published / 8 {
        Err("the reader hardly moves")
    } else if seen.lost == 0 || inside < PREEMPTIONS / 4 {
        Err("the reader was not put to the test")
    } else {
        Ok(())
    };
    (interrupt, verdict)
}

fn run_ring(ring: &'static WordRing<Message, CAPACITY>, timer: SYST, late: bool) -> (Interrupt, Verdict) {
    let (writer, readers) = ring.split().expect("not split yet");
    assert!(ring.split().is_none(), "a ring is split once");
    let mut reader = readers.reader(Start::New);
    run(timer, Writer::Ring(writer), late, || {
        reader.read().map(|received| (*received, received.sequence(), received.lagged()))
    })
}

/// A planted fault: a ring in which all slots have the same payload, so that the stamps protect nothing.
#[derive(Clone, Copy)]
struct SharedPayload {
    control: &'static Control<Native>,
    stamps: &'static [Native; CAPACITY],
    payload: &'static [Native; size_of::<Message>() / size_of::<Native>()],
}

// SAFETY: all of it is statics; only the payloads overlap, on purpose, and they are atomics.
unsafe impl Memory for SharedPayload {
    type Word = Native;
    fn capacity(&self) -> usize {
        CAPACITY
    }
    fn control(&self) -> &Control<Native> {
        self.control
    }
    fn stamp(&self, index: usize) -> &Native {
        &self.stamps[index]
    }
}

// SAFETY: as above.
unsafe impl WordMemory for SharedPayload {
    fn words(&self, _: usize) -> &[Native] {
        self.payload
    }
}

fn run_shared_payload(timer: SYST) -> (Interrupt, Verdict) {
    static STAMPS: [Native; CAPACITY] = [const { Native::new(0) }; CAPACITY];
    static PAYLOAD: [Native; 4] = [const { Native::new(0) }; 4];
    let control = cortex_m::singleton!(: Control<Native> = Control::new(START, 0)).expect("called once");
    let memory = SharedPayload { control, stamps: &STAMPS, payload: &PAYLOAD };
    // SAFETY: the only writer of this memory.
    let writer = unsafe { WordWriter::new(memory) };
    let mut reader = WordReader::new(memory, Start::New);
    run(timer, Writer::SharedPayload(writer), false, || {
        let mut message = [0; 4];
        // SAFETY: the target is writable for its length.
        let meta = unsafe { reader.read_raw(message.as_mut_ptr().cast(), size_of::<Message>()) }?;
        Ok((message, meta.sequence, meta.lost))
    })
}

fn bytes(message: &Message) -> &[u8] {
    // SAFETY: as many initialised bytes as the message has.
    unsafe { core::slice::from_raw_parts(message.as_ptr().cast(), size_of::<Message>()) }
}

#[cfg(not(target_has_atomic = "32"))]
fn frames(_: SYST) {}

#[cfg(target_has_atomic = "32")]
fn frames(timer: SYST) {
    let (Interrupt { timer, writer, .. }, verdict) = frames::run(timer, false);
    assert_eq!(verdict, Ok(()));
    assert!(matches!(writer, Writer::Frames(writer) if writer.skips() > 0), "the writer never met a pin");
    let (_, verdict) = frames::run(timer, true);
    assert_eq!(verdict, Err("torn messages"), "a reader that lets go of a message before it reads it");
}

#[cfg(target_has_atomic = "32")]
mod frames {
    use super::{CAPACITY, Interrupt, Message, START, SYST, Start, Verdict, message};
    use conduit::ring::{FrameRing, FrameRingWriter};

    static RINGS: [FrameRing<Message, CAPACITY, 1>; 2] = [const { FrameRing::starting_at(START) }; 2];

    pub type Writer = FrameRingWriter<'static, Message, CAPACITY, 1>;

    pub fn run(timer: SYST, let_go: bool) -> (Interrupt, Verdict) {
        let (writer, readers) = RINGS[usize::from(let_go)].split().expect("not split yet");
        let mut reader = readers.reader(Start::New, 1).expect("the only reader");
        super::run(timer, super::Writer::Frames(writer), false, || {
            let sample = reader.read()?;
            let (sequence, lost) = (sample.sequence(), sample.lagged());
            let place = &raw const *sample;
            let held = (!let_go).then_some(sample);
            let mut got = message(0);
            // Looked at for a while, so that interrupts come while it is held.
            for _ in 0..4 {
                // SAFETY: `place` is in a static. Volatile, as without the pin the interrupt handler writes there.
                got = unsafe { place.read_volatile() };
                if got != message(sequence.wrapping_sub(START) as u32) {
                    break;
                }
            }
            drop(held);
            Ok((got, sequence, lost))
        })
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let timer = cortex_m::Peripherals::take().expect("taken once").SYST;
    let (Interrupt { timer, .. }, verdict) = run_ring(&RINGS[0], timer, false);
    assert_eq!(verdict, Ok(()));
    let (Interrupt { timer, .. }, verdict) = run_ring(&RINGS[1], timer, true);
    assert_eq!(verdict, Err("the reader hardly moves"), "a reader that looks only when the writer is done");
    let (Interrupt { timer, .. }, verdict) = run_shared_payload(timer);
    assert_eq!(verdict, Err("torn messages"), "slots that share their payload");
    frames(timer);
    hprintln!("ok");
    debug::exit(debug::EXIT_SUCCESS);
    unreachable!("the emulator is gone");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
