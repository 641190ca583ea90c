//! Interrupts at pseudo-random instructions: the same ones in each run, as the emulator counts instructions.

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use cortex_m::interrupt::{Mutex, free};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;

pub const PREEMPTIONS: u32 = 20_000;

static INTERRUPT: Mutex<RefCell<Option<Interrupt>>> = Mutex::new(RefCell::new(None));
/// Thread mode is where an interrupt counts.
static EXPOSED: AtomicBool = AtomicBool::new(false);
/// Interrupts so far in this run, and those of them that came where they count.
static TICKS: AtomicU32 = AtomicU32::new(0);
static INSIDE: AtomicU32 = AtomicU32::new(0);

/// What the interrupt handler does.
pub type Work<'w> = dyn FnMut(&mut Random) + Send + 'w;

struct Interrupt {
    timer: SYST,
    random: Random,
    /// Lent for one `preempt`.
    work: Option<&'static mut Work<'static>>,
}

/// Marsaglia's xorshift.
pub struct Random(u32);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 8) as usize % limit
    }

    /// 1, and now and then `many`.
    pub fn burst(&mut self, many: usize) -> usize {
        if self.below(8) == 0 { many } else { 1 }
    }
}

/// Has the interrupt handler call `interrupt`, `PREEMPTIONS` times, and calls `main` meanwhile, over and over: until the
/// last interrupt is over before a call that finds nothing (returns `false`). `main` is told whether it is over. Returns
/// how many interrupts came inside `exposed`.
pub fn preempt(interrupt: &mut Work<'_>, mut main: impl FnMut(&mut Random, bool) -> bool) -> u32 {
    // SAFETY: the handler has it until it is taken back below; nothing in between unwinds, as a panic ends the program.
    let work = unsafe { core::mem::transmute::<&mut Work<'_>, &'static mut Work<'static>>(interrupt) };
    TICKS.store(0, SeqCst);
    INSIDE.store(0, SeqCst);
    free(|section| {
        let mut slot = INTERRUPT.borrow(section).borrow_mut();
        let interrupt = slot.get_or_insert_with(|| {
            let timer = cortex_m::Peripherals::take().expect("taken here only").SYST;
            Interrupt { timer, random: Random(0), work: None }
        });
        interrupt.random = Random(0x2545_F491);
        interrupt.work = Some(work);
        interrupt.timer.set_clock_source(SystClkSource::Core);
        interrupt.timer.set_reload(1000);
        interrupt.timer.clear_current();
        interrupt.timer.enable_interrupt();
        interrupt.timer.enable_counter();
    });

    let mut random = Random(0x9E37_79B9);
    loop {
        // Asked before the call, so that what is not found then will never be there.
        let done = TICKS.load(SeqCst) == PREEMPTIONS;
        if !main(&mut random, done) && done {
            break;
        }
    }
    free(|section| INTERRUPT.borrow(section).borrow_mut().as_mut().and_then(|interrupt| interrupt.work.take()));
    INSIDE.load(SeqCst)
}

/// What thread mode does where it is to be interrupted.
pub fn exposed<R>(body: impl FnOnce() -> R) -> R {
    EXPOSED.store(true, SeqCst);
    let result = body();
    EXPOSED.store(false, SeqCst);
    result
}

#[cortex_m_rt::exception]
fn SysTick() {
    let ticks = TICKS.load(SeqCst) + 1;
    if ticks > PREEMPTIONS {
        return; // It was pending when the timer was stopped.
    }
    if EXPOSED.load(SeqCst) {
        INSIDE.store(INSIDE.load(SeqCst) + 1, SeqCst);
    }
    free(|section| {
        let mut interrupt = INTERRUPT.borrow(section).borrow_mut();
        let Interrupt { timer, random, work } = interrupt.as_mut().expect("it started the timer");
        work.as_mut().expect("the timer runs while there is work")(random);
        // Thread mode gets this long before the next interrupt, counted from here.
        timer.set_reload(8 + (random.next() >> 8) % 64);
        timer.clear_current();
        if ticks == PREEMPTIONS {
            timer.disable_counter();
        }
    });
    TICKS.store(ticks, SeqCst);
}
