//! What is wrong with what arrived, if something is.

use cortex_m_semihosting::hprintln;

use crate::interrupts::PREEMPTIONS;

pub type Message = [u32; 4];
pub type Verdict = Result<(), &'static str>;

/// Message number `n`: a function of it in each word, so that words of two messages don't fit together.
pub fn message(n: u32) -> Message {
    [n, !n, n.wrapping_mul(0x9E37_79B9), n ^ 0xA5A5_5A5A]
}

/// Whether interrupts came where they count often enough to show something.
pub fn put_to_the_test(inside: u32) -> bool {
    inside >= PREEMPTIONS / 4
}

/// What one producer put into a queue.
#[derive(Default, Debug)]
pub struct Sent {
    pub attempts: u32,
    pub pushed: u32,
    pub refused: u32,
}

impl Sent {
    /// Of `attempts` messages, `pushed` were taken; the others are for the next attempt.
    pub fn note(&mut self, attempts: usize, pushed: usize) {
        self.attempts += attempts as u32;
        self.pushed += pushed as u32;
        self.refused += (attempts - pushed) as u32;
    }
}

/// What came out of a queue of one producer's messages.
#[derive(Default, Debug)]
pub struct Got {
    pub received: u32,
    pub wrong: u32,
}

impl Got {
    /// `got` is to be what the producer pushed next, in which `tag` was added to its number.
    pub fn take(&mut self, got: &Message, tag: u32) {
        self.wrong += u32::from(*got != message(self.received + tag));
        self.received += 1;
    }
}

/// Each message arrived whole and in order, or was refused and counted; and some did.
pub fn queue(what: &str, sent: &Sent, got: &Got, inside: u32) -> Verdict {
    hprintln!("{}: {:?}, {:?}, interrupts inside: {}", what, sent, got, inside);
    if got.wrong > 0 {
        Err("messages torn or out of order")
    } else if sent.pushed + sent.refused != sent.attempts || got.received != sent.pushed {
        Err("messages neither received nor refused")
    } else if got.received < PREEMPTIONS / 2 {
        Err("the queue hardly moves")
    } else if sent.refused == 0 || !put_to_the_test(inside) {
        Err("the queue was not put to the test")
    } else {
        Ok(())
    }
}
