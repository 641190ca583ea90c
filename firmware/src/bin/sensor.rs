//! An example: a motion sensor on a microcontroller. Three `static`s are all that the two sides share; no `unsafe`.
//!
//! The timer interrupt stands for a sensor that has a new sample. Its handler publishes the sample, obeys commands and
//! leaves word of its state; it never waits for the main loop, which prints what it sees through the emulator.
//! `ci/test firmware` runs it, as code for a Cortex-M0 and for a Cortex-M4.

#![no_std]
#![no_main]

use core::cell::RefCell;

use conduit::ring::{ReadError, Start, WordRing, WordRingWriter};
use conduit::{seqlock, seqlock::SeqLock, spsc, spsc::Queue};
use cortex_m::interrupt::{Mutex, free};
use cortex_m::peripheral::{Peripherals, syst::SystClkSource};
use cortex_m_semihosting::{debug, hprintln};

enum Command {
    SetBias(i32),
    Stop,
}

/// Acceleration along x, y and z. Every reader gets each sample; one that is 16 behind loses some, and learns how many.
static SAMPLES: WordRing<[i32; 3], 16> = WordRing::new();
/// To the handler. If it is full, the command comes back.
static COMMANDS: Queue<Command, 4> = Queue::new();
/// How many samples were taken, and whether there will be more: only the latest value counts.
static STATE: SeqLock<[u32; 2]> = SeqLock::new();

/// The handler's ends of the three, and its bias.
struct Sensor {
    samples: WordRingWriter<'static, [i32; 3], 16>,
    commands: spsc::Consumer<'static, Command, 4>,
    state: seqlock::Writer<'static, [u32; 2]>,
    bias: i32,
}

static SENSOR: Mutex<RefCell<Option<Sensor>>> = Mutex::new(RefCell::new(None));

#[cortex_m_rt::exception]
fn SysTick() {
    free(|section| {
        let mut slot = SENSOR.borrow(section).borrow_mut();
        let Some(sensor) = slot.as_mut() else { return };
        let number = sensor.samples.publish(&[-sensor.bias, 0, 1000]);
        let command = sensor.commands.pop();
        sensor.state.write(&[number as u32 + 1, u32::from(!matches!(command, Some(Command::Stop)))]);
        match command {
            Some(Command::SetBias(bias)) => sensor.bias = bias,
            Some(Command::Stop) => *slot = None,
            None => {}
        }
    });
}

#[cortex_m_rt::entry]
fn main() -> ! {
    // Each is split once: one half for the handler, the other stays here.
    let (samples, readers) = SAMPLES.split().unwrap();
    let (mut orders, commands) = COMMANDS.split().unwrap();
    let (state, latest) = STATE.split().unwrap();
    let mut reader = readers.reader(Start::New);
    free(|section| SENSOR.borrow(section).replace(Some(Sensor { samples, commands, state, bias: 0 })));
    let mut timer = Peripherals::take().unwrap().SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(2_000);
    timer.enable_interrupt();
    timer.enable_counter();

    let (mut read, mut lost, mut last) = (0, 0, [0; 3]);
    loop {
        // Asked before the ring, so that an empty one is empty for good.
        let stopped = matches!(latest.read(), Ok([_, 0]));
        match reader.read() {
            Ok(sample) => {
                (read, lost, last) = (read + 1, lost + sample.lagged(), *sample);
                match sample.sequence() {
                    300 => assert!(orders.push(Command::SetBias(3)).is_ok()),
                    600 => cortex_m::asm::delay(1_000_000), // Busy with something else for a while.
                    900 => assert!(orders.push(Command::Stop).is_ok()),
                    number if number % 100 != 0 && sample.lagged() == 0 => continue,
                    _ => {}
                }
                hprintln!("sample {}: {:?}, lost before it {}", sample.sequence(), last, sample.lagged());
            }
            Err(ReadError::Lapped(more)) => lost += more,
            Err(_) if stopped => break,
            Err(_) => cortex_m::asm::wfi(), // Nothing new: sleep until the next interrupt.
        }
    }

    let taken = latest.read().unwrap()[0];
    hprintln!("{} samples were taken: {} read, {} lost", taken, read, lost);
    assert_eq!((read + lost, last), (u64::from(taken), [-3, 0, 1000]), "all are accounted for, and the bias is set");
    assert!(read > 800 && lost > 0, "it hardly reads, or never was late");
    debug::exit(debug::EXIT_SUCCESS);
    unreachable!("the emulator is gone");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
