//! The pool: the interrupt handler takes places, thread mode gives them back, and takes some as well.

use conduit::pool::{Handle, Magazine, Pool};
use conduit::spsc::{Consumer, Producer, Queue};

use crate::interrupts::{Random, exposed, preempt};
use crate::oracle::{self, Got, Message, Sent, Verdict, message};

const BLOCKS: usize = 2;
const SIZE: usize = 3;
const PLACES: usize = BLOCKS * SIZE;
/// More than there are places.
const CAPACITY: usize = 8;

type Places = Pool<Message, BLOCKS, SIZE>;

pub fn run() {
    assert_eq!(up(Fault::None), Ok(()));
    let torn = Err("messages torn or out of order");
    assert_eq!(up(Fault::LetGo), torn, "a consumer that gives a place back before it looks at what is in it");
    assert_eq!(up(Fault::Keep), Err("places are gone"), "a consumer that keeps a place for good");
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    LetGo,
    Keep,
}

fn up(fault: Fault) -> Verdict {
    let pool = Places::new();
    let queue = Queue::<Handle<'_, Message>, CAPACITY>::new();
    let (producer, consumer) = queue.split().expect("not split yet");
    let mut sender = Sender { magazine: pool.magazine(), producer, sent: Sent::default() };
    let mut receiver = Receiver { magazine: pool.magazine(), consumer, got: Got::default() };
    let inside = preempt(&mut |random| sender.send(random), |_, _| exposed(|| receiver.receive(fault)));
    let Sender { magazine, sent, .. } = sender;
    let Receiver { got, .. } = receiver;
    drop((magazine, receiver.magazine));
    oracle::queue("pool up", &sent, &got, inside)?;
    if pool.free() == pool.capacity() { Ok(()) } else { Err("places are gone") }
}

struct Sender<'p, 'q> {
    magazine: Magazine<'p, Message, BLOCKS, SIZE>,
    producer: Producer<'q, Handle<'p, Message>, CAPACITY>,
    sent: Sent,
}

impl Sender<'_, '_> {
    /// Sends what is in a place; now and then more than there can be places.
    fn send(&mut self, random: &mut Random) {
        for _ in 0..random.burst(PLACES + 1) {
            let handle = self.magazine.acquire(message(self.sent.pushed));
            self.sent.note(1, handle.is_ok().into());
            if let Ok(handle) = handle {
                assert!(self.producer.push(handle).is_ok(), "more are out than there are places");
            }
        }
    }
}

struct Receiver<'p, 'q> {
    magazine: Magazine<'p, Message, BLOCKS, SIZE>,
    consumer: Consumer<'q, Handle<'p, Message>, CAPACITY>,
    got: Got,
}

impl Receiver<'_, '_> {
    /// Looks at what is in the next place and gives it back, and in a place of its own; returns whether one came.
    fn receive(&mut self, fault: Fault) -> bool {
        let own = message(!self.got.received);
        if let Ok(handle) = self.magazine.acquire(own) {
            assert_eq!(*handle, own, "a place that two have");
        }
        let Some(handle) = self.consumer.pop() else { return false };
        let expected = message(self.got.received);
        let mut got = *handle;
        match fault {
            Fault::None => drop(handle),
            Fault::Keep if self.got.received == 0 => core::mem::forget(handle),
            Fault::Keep => drop(handle),
            Fault::LetGo => {
                let place = &raw const *handle;
                drop(handle);
                // Looked at for a while, so that interrupts come meanwhile.
                for _ in 0..8 {
                    // SAFETY: `place` is in the pool, which lives. Volatile, as the interrupt handler may write there now.
                    got = unsafe { place.read_volatile() };
                    if got != expected {
                        break;
                    }
                }
            }
        }
        self.got.take(&got, 0);
        true
    }
}
