//! The queues, by each of their methods. Nothing is lost: who finds one full tries again.

use conduit::{mpsc, spsc};

use crate::threads::{Patience, Stream, rounds, threads};

/// Longer than a word, so that a message which nothing orders is torn, too.
type Message = [u64; 8];
const CAPACITY: usize = 8;

pub fn run() {
    one_to_one(
        "spsc",
        |producer, n| usize::from(producer.push([n; 8]).is_ok()),
        |consumer, take| consumer.pop().map(|message| take(&message)).is_some(),
    );
    one_to_one(
        "spsc, batches",
        |producer, n| producer.push_batch(few(n).map(|n| [n; 8])),
        |consumer, take| consumer.pop_batch(3, |message| take(&message)) > 0,
    );
    one_to_one(
        "spsc, slices",
        |producer, n| {
            let messages: [Message; 5] = std::array::from_fn(|k| [n + k as u64; 8]);
            producer.push_slice(&messages[..few(n).count()])
        },
        |consumer, take| {
            let mut messages = [[0; 8]; 3];
            let count = consumer.pop_slice(&mut messages);
            messages[..count].iter().for_each(take);
            count > 0
        },
    );
    one_to_one("spsc, grants", fill, drain);
    many_to_one();
}

/// Up to five numbers from `n` on.
fn few(n: u64) -> std::ops::Range<u64> {
    n..(n + 5).min(rounds())
}

type Producer<'q> = spsc::Producer<'q, Message, CAPACITY>;
type Consumer<'q> = spsc::Consumer<'q, Message, CAPACITY>;

fn fill(producer: &mut Producer<'_>, n: u64) -> usize {
    let mut grant = producer.grant(few(n).count());
    let (slots, wrapped) = grant.slots();
    for (n, slot) in (n..).zip(slots.iter_mut().chain(wrapped)) {
        slot.write([n; 8]);
    }
    let count = grant.len();
    // SAFETY: each slot was written.
    unsafe { grant.commit(count) };
    count
}

fn drain(consumer: &mut Consumer<'_>, take: &mut dyn FnMut(&Message)) -> bool {
    let grant = consumer.grant(3);
    let (messages, wrapped) = grant.messages();
    messages.iter().chain(wrapped).for_each(take);
    let count = grant.len();
    grant.release(count);
    count > 0
}

/// `push` pushes messages from number `n` on, and returns how many; `pop` hands some on, and returns whether there were any.
fn one_to_one(
    what: &str,
    push: impl Fn(&mut Producer<'_>, u64) -> usize,
    pop: impl Fn(&mut Consumer<'_>, &mut dyn FnMut(&Message)) -> bool,
) {
    let queue = spsc::Queue::starting_at(usize::MAX - 7);
    let (mut producer, mut consumer) = queue.split().expect("split once");
    let mut stream = Stream::default();
    let (mut full, mut empty) = (Patience::default(), Patience::default());
    threads(&mut [
        &mut || {
            let mut n = 0;
            while n < rounds() {
                let pushed = push(&mut producer, n);
                n += pushed as u64;
                full.saw(pushed > 0);
            }
        },
        &mut || {
            while stream.received < rounds() {
                empty.saw(pop(&mut consumer, &mut |message| stream.take(message[0], 0, message)));
            }
        },
    ]);
    assert!(consumer.is_empty(), "{what}: there is more than was pushed");
    met(what, stream.received, &full, &empty);
}

/// Two producers, of which each has its own numbers.
fn many_to_one() {
    let queue = mpsc::Queue::<Message, CAPACITY>::starting_at(usize::MAX - 7);
    let (producer, mut consumer) = queue.split().expect("split once");
    let mut streams = [Stream::default(), Stream::default()];
    let (mut full, mut empty) = ([Patience::default(), Patience::default()], Patience::default());
    let push = |who: u64, full: &mut Patience| {
        let mut n = 0;
        while n < rounds() {
            let pushed = producer.push([n, n, n, n, n, n, n, who]).is_ok();
            n += u64::from(pushed);
            full.saw(pushed);
        }
    };
    let [one, other] = &mut full;
    threads(&mut [&mut || push(0, one), &mut || push(1, other), &mut || {
        let mut take = |[n @ .., who]: Message| streams[who as usize].take(n[0], 0, &n);
        let mut left = 2 * rounds();
        while left > 0 {
            let popped = if left.is_multiple_of(2) {
                consumer.pop().map(&mut take).iter().count()
            } else {
                consumer.pop_batch(3, &mut take)
            };
            left -= popped as u64;
            empty.saw(popped > 0);
        }
    }]);
    assert!(consumer.is_empty(), "mpsc: there is more than was pushed");
    for (stream, full) in streams.iter().zip(&full) {
        met("mpsc", stream.received, full, &empty);
    }
}

/// Each end waited for the other now and then: so they ran at the same time.
pub fn met(what: &str, received: u64, full: &Patience, empty: &Patience) {
    let (full, empty) = (full.waits(), empty.waits());
    println!("{what}: {received} received; {full} times full, {empty} times empty");
    assert!(full + empty > rounds() / 1000, "{what}: the threads hardly met");
}
