//! Compare-and-swap on a processor that has none, by portable-atomic and critical sections, as a test that runs in the
//! emulator:
//!
//!     cargo run --release --bin cas --features portable-atomic --target thumbv6m-none-eabi
//!
//! A timer interrupt pushes into a queue at any instruction of the main loop, which pushes into it as well and pops. Each
//! message must arrive once, and those of one producer in their order; permits that both give and the main loop takes must
//! add up. Another run has a planted fault: a queue that claims its slots by a load and a store must lose messages.

#![no_std]
#![no_main]

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use conduit::lock::{Flag, Semaphore};
use conduit::mpsc::{Consumer, Producer, Queue};
use cortex_m::interrupt::{Mutex, free};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_semihosting::{debug, hprintln};

const INTERRUPTS: u32 = 20_000;
/// Small, so that it is often full.
const CAPACITY: usize = 8;

/// Who pushed it, and its number within that producer.
type Message = (Who, u32);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Interrupt,
    MainLoop,
}

static QUEUE: Queue<Message, CAPACITY> = Queue::starting_at(usize::MAX - 1000);
static INTERRUPT: Mutex<RefCell<Option<Interrupt>>> = Mutex::new(RefCell::new(None));
/// A permit for each message that was pushed and not popped.
static PUSHED: Semaphore = Semaphore::new(0);
/// Set by each interrupt.
static TOLD: Flag = Flag::new();
/// The main loop is inside a push.
static PUSHING: AtomicBool = AtomicBool::new(false);
/// Interrupts so far in this run, and those of them that came inside a push.
static TICKS: AtomicU32 = AtomicU32::new(0);
static INSIDE_PUSH: AtomicU32 = AtomicU32::new(0);

/// What the interrupt handler owns.
struct Interrupt {
    producer: Ends,
    timer: SYST,
    /// How many it has pushed, and how often it found the queue full.
    pushed: u32,
    full: u32,
    random: u32,
}

/// A producer of the queue under test.
#[derive(Clone, Copy)]
enum Ends {
    Queue(Producer<'static, Message, CAPACITY>),
    Planted,
}

impl Ends {
    fn push(self, message: Message) -> bool {
        let pushed = match self {
            Ends::Queue(producer) => producer.push(message).is_ok(),
            Ends::Planted => planted::push(message),
        };
        if pushed {
            PUSHED.add(1);
        }
        pushed
    }
}

impl Interrupt {
    fn tick(&mut self) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        if self.producer.push((Who::Interrupt, self.pushed)) {
            self.pushed += 1;
        } else {
            self.full += 1;
        }
        TOLD.set();
        // The main loop gets this long before the next interrupt, counted from here.
        self.timer.set_reload(8 + (self.random >> 8) % 256);
        self.timer.clear_current();
    }
}

#[cortex_m_rt::exception]
fn SysTick() {
    let ticks = TICKS.load(SeqCst) + 1;
    if ticks > INTERRUPTS {
        return; // It was pending when the timer was stopped.
    }
    if PUSHING.load(SeqCst) {
        INSIDE_PUSH.store(INSIDE_PUSH.load(SeqCst) + 1, SeqCst);
    }
    free(|section| {
        let mut interrupt = INTERRUPT.borrow(section).borrow_mut();
        let interrupt = interrupt.as_mut().expect("the timer runs while there is a producer");
        interrupt.tick();
        if ticks == INTERRUPTS {
            interrupt.timer.disable_counter();
        }
    });
    TICKS.store(ticks, SeqCst);
}

/// Lets both push, and pops with `pop`; returns the timer, and what is wrong with what came.
fn run(timer: SYST, producer: Ends, mut pop: impl FnMut() -> Option<Message>) -> (SYST, Result<(), &'static str>) {
    TICKS.store(0, SeqCst);
    INSIDE_PUSH.store(0, SeqCst);
    while let Some(permit) = PUSHED.try_acquire() {
        permit.forget();
    }
    free(|section| {
        let mut slot = INTERRUPT.borrow(section).borrow_mut();
        let interrupt = Interrupt { producer, timer, pushed: 0, full: 0, random: 0x2545_F491 };
        let timer = &mut slot.insert(interrupt).timer;
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(1000);
        timer.clear_current();
        timer.enable_interrupt();
        timer.enable_counter();
    });

    let mut verdict = Ok(());
    let (mut pushed, mut full, mut told, mut from_interrupt, mut from_main_loop) = (0, 0, 0, 0, 0);
    for turn in 0u32.. {
        // Asked before the rest, so that nothing comes after what is popped now.
        let done = TICKS.load(SeqCst) == INTERRUPTS;
        told += u32::from(TOLD.take());
        for _ in 0..3 {
            PUSHING.store(true, SeqCst);
            let is_in = producer.push((Who::MainLoop, pushed));
            PUSHING.store(false, SeqCst);
            *(if is_in { &mut pushed } else { &mut full }) += 1;
        }
        // Not at each turn, so that the queue is full now and then.
        if !done && !turn.is_multiple_of(4) {
            continue;
        }
        while let Some(permit) = PUSHED.try_acquire() {
            permit.forget();
            match pop() {
                Some((Who::Interrupt, number)) if number == from_interrupt => from_interrupt += 1,
                Some((Who::MainLoop, number)) if number == from_main_loop => from_main_loop += 1,
                Some(_) => verdict = Err("a message that is not the next of its producer"),
                None => verdict = Err("a permit without a message"),
            }
        }
        if done || verdict.is_err() {
            break;
        }
    }
    let mut interrupt = free(|section| {
        let mut interrupt = INTERRUPT.borrow(section).take().expect("put there above");
        interrupt.timer.disable_counter();
        interrupt
    });
    let inside = INSIDE_PUSH.load(SeqCst);
    hprintln!(
        "pushed {} from the main loop (full: {}), {} from {} interrupts (full: {}), {} of them inside a push; told {} times",
        pushed,
        full,
        interrupt.pushed,
        TICKS.load(SeqCst),
        interrupt.full,
        inside,
        told
    );
    let verdict = verdict.and_then(|()| {
        if (from_interrupt, from_main_loop) != (interrupt.pushed, pushed) {
            Err("messages that did not arrive")
        } else if PUSHED.available() != 0 || PUSHED.waiting() != 0 || pop().is_some() {
            Err("permits and messages don't add up")
        } else if told == 0 || told > INTERRUPTS {
            Err("the flag was not told")
        } else if inside < INTERRUPTS / 10 || full == 0 || interrupt.full == 0 {
            Err("the queue was not put to the test")
        } else {
            Ok(())
        }
    });
    interrupt.timer.clear_current();
    (interrupt.timer, verdict)
}

/// A planted fault: a slot is claimed by a load and a store, between which an interrupt handler may claim it, too.
mod planted {
    use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::{CAPACITY, Message, Who};

    static TAIL: AtomicUsize = AtomicUsize::new(0);
    static HEAD: AtomicUsize = AtomicUsize::new(0);
    static SLOTS: [AtomicUsize; CAPACITY] = [const { AtomicUsize::new(0) }; CAPACITY];

    pub fn push((who, number): Message) -> bool {
        let tail = TAIL.load(SeqCst);
        if tail - HEAD.load(SeqCst) == CAPACITY {
            return false;
        }
        TAIL.store(tail + 1, SeqCst);
        SLOTS[tail % CAPACITY].store((number as usize) << 1 | who as usize, SeqCst);
        true
    }

    pub fn pop() -> Option<Message> {
        let head = HEAD.load(SeqCst);
        if head == TAIL.load(SeqCst) {
            return None;
        }
        let found = SLOTS[head % CAPACITY].load(SeqCst);
        HEAD.store(head + 1, SeqCst);
        let who = if found & 1 == Who::Interrupt as usize { Who::Interrupt } else { Who::MainLoop };
        Some((who, (found >> 1) as u32))
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let timer = cortex_m::Peripherals::take().expect("taken once").SYST;
    let (producer, mut consumer): (_, Consumer<_, CAPACITY>) = QUEUE.split().expect("not split yet");
    assert!(QUEUE.split().is_none(), "a queue is split once");
    let (timer, verdict) = run(timer, Ends::Queue(producer), || consumer.pop());
    assert_eq!(verdict, Ok(()));
    let (_, verdict) = run(timer, Ends::Planted, planted::pop);
    assert!(verdict.is_err(), "a queue that claims by a load and a store");
    hprintln!("planted: {}", verdict.unwrap_err());
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
