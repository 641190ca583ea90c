//! The ring of records of any length, with either end in the interrupt handler.

use conduit::records::{Consumer, Producer, ReadError, Ring, WriteError};

use crate::interrupts::{Random, exposed, preempt};
use crate::oracle::{self, Got, Sent, Verdict};

/// Room for two of the longest records and a few short ones, and no multiple of what a record takes.
const WORDS: usize = 21;
const START: u64 = u32::MAX as u64 - 7;
const LONGEST: usize = 32;
/// More than there can be room for.
const MANY: usize = WORDS / 2 + 1;

pub fn run() {
    assert_eq!(up(Consuming::Well), Ok(()));
    assert_eq!(up(Consuming::Late), Err("the queue hardly moves"), "a consumer that looks only when all is over");
    let torn = Err("messages torn or out of order");
    assert_eq!(up(Consuming::LetGo), torn, "a consumer that lets go of a record before it reads it");
    assert_eq!(down(), Ok(()));
}

enum Consuming {
    Well,
    /// Planted faults.
    Late,
    LetGo,
}

/// The interrupt pushes, thread mode takes.
fn up(consuming: Consuming) -> Verdict {
    let ring = Ring::starting_at(START);
    let (mut sender, mut receiver) = ends(&ring);
    let inside = preempt(&mut |random| sender.send(random), |random, done| match consuming {
        Consuming::Well => exposed(|| receiver.receive(random)),
        Consuming::Late => done && receiver.receive(random),
        Consuming::LetGo => exposed(|| receiver.let_go()),
    });
    oracle::queue("records up", &sender.sent, &receiver.got, inside)
}

/// Thread mode pushes, the interrupt takes.
fn down() -> Verdict {
    let ring = Ring::starting_at(START);
    let (mut sender, mut receiver) = ends(&ring);
    let inside = preempt(
        &mut |random| {
            receiver.receive(random);
        },
        |random, done| {
            if !done {
                exposed(|| sender.send(random));
            }
            false
        },
    );
    (0..MANY).for_each(|_| _ = receiver.pop());
    oracle::queue("records down", &sender.sent, &receiver.got, inside)
}

fn ends(ring: &Ring<WORDS>) -> (Sender<'_>, Receiver<'_>) {
    let (producer, consumer) = ring.split().expect("not split yet");
    assert!(ring.split().is_none(), "a ring is split once");
    assert_eq!(producer.max_len(), LONGEST + 4);
    (Sender { producer, sent: Sent::default() }, Receiver { consumer, got: Got::default() })
}

/// Fills the beginning of `bytes` with record number `n`; returns its length. Both are functions of the number.
fn record(n: u32, bytes: &mut [u8]) -> usize {
    let spread = n.wrapping_mul(0x9E37_79B9);
    let len = (spread >> 16) as usize % (LONGEST + 1);
    for (k, chunk) in (0u32..).zip(bytes[..len].chunks_mut(4)) {
        chunk.copy_from_slice(&spread.wrapping_mul(2 * k + 1).to_le_bytes()[..chunk.len()]);
    }
    len
}

struct Sender<'r> {
    producer: Producer<&'r Ring<WORDS>>,
    sent: Sent,
}

impl Sender<'_> {
    /// Pushes, by one method or another; now and then more than there can be room for.
    fn send(&mut self, random: &mut Random) {
        let Sender { producer, sent } = self;
        for _ in 0..random.burst(MANY) {
            let pushed = match random.below(4) {
                0 | 1 => {
                    let mut bytes = [0; LONGEST];
                    let len = record(sent.pushed, &mut bytes);
                    producer.push(&bytes[..len])
                }
                2 => producer.grant(LONGEST).map(|mut grant| {
                    let len = record(sent.pushed, &mut grant);
                    grant.commit(len);
                }),
                _ => {
                    // Begun, and thought better of.
                    let _ = producer.grant(LONGEST / 2).map(|mut grant| grant.fill(0xEE));
                    continue;
                }
            };
            assert!(matches!(pushed, Ok(()) | Err(WriteError::Full)), "{pushed:?}");
            sent.note(1, pushed.is_ok().into());
        }
    }
}

struct Receiver<'r> {
    consumer: Consumer<&'r Ring<WORDS>>,
    got: Got,
}

impl Receiver<'_> {
    /// Takes records, by one method or another; returns whether there were any.
    fn receive(&mut self, random: &mut Random) -> bool {
        let Receiver { consumer, got } = self;
        match random.below(3) {
            0 => self.pop(),
            1 => consumer.read_batch(random.burst(MANY), |record| take(got, record)).expect("whole") > 0,
            _ => {
                let Some(record) = there(consumer.read()) else { return false };
                take(got, &record);
                record.release();
                true
            }
        }
    }

    fn pop(&mut self) -> bool {
        let mut bytes = [0; LONGEST];
        let Some(len) = there(self.consumer.pop(&mut bytes)) else { return false };
        take(&mut self.got, &bytes[..len]);
        true
    }

    /// A planted fault: gives the room back, and only then looks at the record.
    fn let_go(&mut self) -> bool {
        let Some(record) = there(self.consumer.read()) else { return false };
        let (place, len) = (record.as_ptr(), record.len());
        record.release();
        let mut got = [0; LONGEST];
        for (k, byte) in got[..len].iter_mut().enumerate() {
            // SAFETY: `place` is in the ring, which lives. Volatile, as the interrupt handler may write there now.
            *byte = unsafe { place.add(k).read_volatile() };
        }
        take(&mut self.got, &got[..len]);
        true
    }
}

/// What was found, if something was.
fn there<T>(found: Result<T, ReadError>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(ReadError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

/// `got` is to be what was pushed next.
fn take(got: &mut Got, record_got: &[u8]) {
    let mut bytes = [0; LONGEST];
    let len = record(got.received, &mut bytes);
    got.wrong += u32::from(*record_got != bytes[..len]);
    got.received += 1;
}
