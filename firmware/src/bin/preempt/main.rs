//! The SysTick interrupt at one end, thread mode at the other, for 20 000 pre-emptions at pseudo-random instructions.
//! Counters start just below the maximum of the word.
//!
//! The emulator says nothing about memory ordering; what this shows is that whoever is stopped anywhere takes no torn
//! message, that losses are counted exactly, and that 32-bit counters wrap unnoticed. A check that can't fail shows
//! nothing: so each of them is run again with a planted fault, which must be found.
//!
//! A module for each thing that is tested; its `run` panics where something is wrong. `interrupts` calls the two ends,
//! `oracle` says what is wrong with a stream of messages.

#![no_std]
#![no_main]

#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
mod frames;
mod interrupts;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
mod mpsc;
mod oracle;
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
mod pool;
mod records;
mod rings;
mod seqlock;
mod spsc;

use cortex_m_semihosting::{debug, hprintln};

#[cortex_m_rt::entry]
fn main() -> ! {
    rings::run();
    #[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
    frames::run();
    spsc::run();
    records::run();
    seqlock::run();
    #[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
    mpsc::run();
    #[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
    pool::run();
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
