//! The queue from one producer to one consumer, with either end in the interrupt handler.

use conduit::spsc::{Consumer, Producer, Queue};

use crate::interrupts::{Random, exposed, preempt};
use crate::oracle::{self, Got, Message, Sent, Verdict, message};

const CAPACITY: usize = 8;
const START: usize = usize::MAX - 7;

pub fn run() {
    assert_eq!(up(Consuming::Well), Ok(()));
    assert_eq!(up(Consuming::Late), Err("the queue hardly moves"), "a consumer that looks only when all is over");
    let torn = Err("messages torn or out of order");
    assert_eq!(up(Consuming::LetGo), torn, "a consumer that lets go of a message before it reads it");
    assert_eq!(down(), Ok(()));
}

enum Consuming {
    Well,
    /// Planted faults.
    Late,
    LetGo,
}

/// The interrupt pushes, thread mode pops.
fn up(consuming: Consuming) -> Verdict {
    let queue = Queue::<Message, CAPACITY>::starting_at(START);
    let (mut sender, mut receiver) = ends(&queue);
    let inside = preempt(&mut |random| sender.send(random), |random, done| match consuming {
        Consuming::Well => exposed(|| receiver.receive(random)),
        Consuming::Late => done && receiver.receive(random),
        Consuming::LetGo => exposed(|| receiver.let_go()),
    });
    oracle::queue("spsc up", &sender.sent, &receiver.got, inside)
}

/// Thread mode pushes, the interrupt pops.
fn down() -> Verdict {
    let queue = Queue::<Message, CAPACITY>::starting_at(START);
    let (mut sender, mut receiver) = ends(&queue);
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
    (0..CAPACITY).for_each(|_| _ = receiver.pop());
    oracle::queue("spsc down", &sender.sent, &receiver.got, inside)
}

fn ends(queue: &Queue<Message, CAPACITY>) -> (Sender<'_>, Receiver<'_>) {
    let (producer, consumer) = queue.split().expect("not split yet");
    assert!(queue.split().is_none(), "a queue is split once");
    (Sender { producer, sent: Sent::default() }, Receiver { consumer, got: Got::default() })
}

struct Sender<'q> {
    producer: Producer<'q, Message, CAPACITY>,
    sent: Sent,
}

impl Sender<'_> {
    /// Pushes, by one method or another; now and then more than there can be room for.
    fn send(&mut self, random: &mut Random) {
        let Sender { producer, sent } = self;
        let messages: [Message; CAPACITY + 1] = core::array::from_fn(|k| message(sent.pushed + k as u32));
        let messages = &messages[..random.burst(CAPACITY + 1)];
        let pushed = match random.below(4) {
            0 => messages.iter().take_while(|&&message| producer.push(message).is_ok()).count(),
            1 => producer.push_batch(messages.iter().copied()),
            2 => producer.push_slice(messages),
            _ => {
                let mut grant = producer.grant(messages.len());
                let (slots, wrapped) = grant.slots();
                for (slot, message) in slots.iter_mut().chain(wrapped).zip(messages) {
                    slot.write(*message);
                }
                let granted = grant.len();
                // SAFETY: no more were granted than there are messages, so each slot was written.
                unsafe { grant.commit(granted) };
                granted
            }
        };
        sent.note(messages.len(), pushed);
    }
}

struct Receiver<'q> {
    consumer: Consumer<'q, Message, CAPACITY>,
    got: Got,
}

impl Receiver<'_> {
    /// Takes messages, by one method or another; returns whether there were any.
    fn receive(&mut self, random: &mut Random) -> bool {
        let limit = random.burst(CAPACITY);
        let Receiver { consumer, got } = self;
        match random.below(4) {
            0 => self.pop(),
            1 => consumer.pop_batch(limit, |message| got.take(&message, 0)) > 0,
            2 => {
                let mut messages = [[0; 4]; CAPACITY];
                let count = consumer.pop_slice(&mut messages[..limit]);
                messages[..count].iter().for_each(|message| got.take(message, 0));
                count > 0
            }
            _ => {
                let grant = consumer.grant(limit);
                let (messages, wrapped) = grant.messages();
                messages.iter().chain(wrapped).for_each(|message| got.take(message, 0));
                let count = grant.len();
                grant.release(count);
                count > 0
            }
        }
    }

    fn pop(&mut self) -> bool {
        self.consumer.pop().map(|message| self.got.take(&message, 0)).is_some()
    }

    /// A planted fault: gives the slot back, and only then looks at the message.
    fn let_go(&mut self) -> bool {
        let grant = self.consumer.grant(1);
        let Some(place) = grant.messages().0.first().map(core::ptr::from_ref) else { return false };
        grant.release(1);
        let expected = message(self.got.received);
        let mut got = expected;
        // Looked at for a while, so that interrupts come meanwhile.
        for _ in 0..8 {
            // SAFETY: `place` is in the queue, which lives. Volatile, as the interrupt handler may write there now.
            got = unsafe { place.read_volatile() };
            if got != expected {
                break;
            }
        }
        self.got.take(&got, 0);
        true
    }
}
