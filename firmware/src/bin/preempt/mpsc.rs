//! The queue of many producers: thread mode and the interrupt handler both push, and either of them pops.

use conduit::mpsc::{Consumer, Producer, Queue};
use cortex_m_semihosting::hprintln;

use crate::interrupts::{PREEMPTIONS, Random, exposed, preempt};
use crate::oracle::{self, Got, Message, Sent, Verdict, message};

const CAPACITY: usize = 8;
const START: usize = usize::MAX - 7;
/// What each producer adds to its numbers.
const TAGS: [u32; 2] = [0, 1 << 31];

pub fn run() {
    assert_eq!(up(Fault::None), Ok(()));
    assert_eq!(up(Fault::Late), Err("the queue hardly moves"), "a consumer that looks only when all is over");
    let disorder = Err("messages torn or out of order");
    assert_eq!(up(Fault::Stale), disorder, "a producer that numbers a message before the last one is pushed");
    assert_eq!(down(), Ok(()));
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Late,
    Stale,
}

/// Both push, thread mode pops.
fn up(fault: Fault) -> Verdict {
    let queue = Queue::<Message, CAPACITY>::starting_at(START);
    let ([mut above, mut below], mut receiver) = ends(&queue);
    let inside = preempt(&mut |random| above.send(random, fault == Fault::Stale), |random, done| {
        if fault == Fault::Late && !done {
            return false;
        }
        exposed(|| {
            if !done {
                below.send(random, false);
            }
            receiver.receive(random)
        })
    });
    verdict("mpsc up", [above, below], receiver, inside)
}

/// Both push, the interrupt pops: while thread mode is in the middle of a push nothing behind it comes out.
fn down() -> Verdict {
    let queue = Queue::<Message, CAPACITY>::starting_at(START);
    let ([mut above, mut below], mut receiver) = ends(&queue);
    let mut held_up = 0;
    let inside = preempt(
        &mut |random| {
            // All there is; bounded, as a broken queue may never be empty.
            let _ = (0..=CAPACITY).take_while(|_| receiver.receive(random)).count();
            held_up += u32::from(!receiver.consumer.is_empty());
            above.send(random, false);
        },
        |random, done| {
            if !done {
                exposed(|| below.send(random, false));
            }
            false
        },
    );
    (0..CAPACITY).for_each(|_| _ = receiver.pop());
    hprintln!("mpsc down: {} of {} interrupts met a push that was not finished", held_up, PREEMPTIONS);
    assert!(held_up > PREEMPTIONS / 100, "no push was interrupted");
    verdict("mpsc down", [above, below], receiver, inside)
}

fn verdict(what: &str, senders: [Sender<'_>; 2], receiver: Receiver<'_>, inside: u32) -> Verdict {
    let [above, below] = &senders;
    oracle::queue(what, &above.sent, &receiver.got[0], inside)?;
    oracle::queue(what, &below.sent, &receiver.got[1], inside)
}

fn ends(queue: &Queue<Message, CAPACITY>) -> ([Sender<'_>; 2], Receiver<'_>) {
    let (producer, consumer) = queue.split().expect("not split yet");
    assert!(queue.split().is_none(), "a queue is split once");
    (TAGS.map(|tag| Sender { producer, tag, sent: Sent::default() }), Receiver { consumer, got: Default::default() })
}

struct Sender<'q> {
    producer: Producer<'q, Message, CAPACITY>,
    tag: u32,
    sent: Sent,
}

impl Sender<'_> {
    /// Pushes; now and then more than there can be room for. `stale` is a planted fault: now and then the last number again.
    fn send(&mut self, random: &mut Random, stale: bool) {
        for _ in 0..random.burst(CAPACITY + 1) {
            let number = self.sent.pushed - u32::from(stale && self.sent.pushed % 1024 == 1023);
            let pushed = self.producer.push(message(number.wrapping_add(self.tag))).is_ok();
            self.sent.note(1, pushed.into());
        }
    }
}

struct Receiver<'q> {
    consumer: Consumer<'q, Message, CAPACITY>,
    /// From each producer.
    got: [Got; 2],
}

impl Receiver<'_> {
    /// Takes messages, by one method or the other; returns whether there were any.
    fn receive(&mut self, random: &mut Random) -> bool {
        if random.below(2) == 0 {
            return self.pop();
        }
        let Receiver { consumer, got } = self;
        consumer.pop_batch(random.burst(CAPACITY), |message| take(got, &message)) > 0
    }

    fn pop(&mut self) -> bool {
        self.consumer.pop().map(|message| take(&mut self.got, &message)).is_some()
    }
}

fn take(got: &mut [Got; 2], message: &Message) {
    let producer = usize::from(message[0] >= TAGS[1]);
    got[producer].take(message, TAGS[producer]);
}
