//! What queues have in common, and how they are measured: one call after the other, as a stream, and one message at a time.

use super::super::{Context, Figures, Outcome};
use super::{alone, timing};
use crate::clock::{ns, span, ticks};
use crate::message::Message;
use crate::stage::{LANE, Stage, pin};
use crate::stats::summary;
use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::thread::yield_now;
use std::time::Duration;

/// Messages that a queue holds.
pub const DEPTH: usize = 1024;
/// Messages that a batch call moves at most.
pub const BATCH: usize = 64;
/// Messages between two looks at the clock.
const STRIDE: u64 = 1024;
/// From message to message, when they are paced.
const PACE: Duration = Duration::from_micros(2);
/// Numbers the last message of a stream.
const LAST: u64 = 1 << 63;
/// In the streams of many producers: which one made a message stands above its number.
const PRODUCER: u32 = 56;

/// A queue of messages of `N` words.
pub trait Queue<const N: usize> {
    type In: Inlet<N>;
    type Out: Outlet<N>;

    fn open() -> (Self::In, Self::Out);
}

pub trait Inlet<const N: usize>: Send + 'static {
    /// Makes a message of this number and puts it in, if there is room.
    fn push(&mut self, number: u64) -> bool;

    /// Up to [`BATCH`] messages with numbers from `number` on; returns how many there was room for.
    fn push_batch(&mut self, number: u64) -> u64 {
        let mut pushed = 0;
        while pushed < BATCH as u64 && self.push(number + pushed) {
            pushed += 1;
        }
        pushed
    }
}

pub trait Outlet<const N: usize>: Send + 'static {
    /// Takes the next message, or as many as the queue gives its consumer at a time; returns whether there was one.
    fn pop(&mut self, each: impl FnMut(&Message<N>)) -> bool;

    /// Takes messages by the queue's batch call.
    fn pop_batch(&mut self, mut each: impl FnMut(&Message<N>)) -> bool {
        let mut popped = 0;
        while popped < BATCH && self.pop(&mut each) {
            popped += 1;
        }
        popped > 0
    }
}

/// Message `number`.
#[inline(always)]
pub fn message<const N: usize>(number: u64) -> Message<N> {
    let mut message = Message([0; N]);
    message.number(number);
    message
}

/// A push and a pop on one thread.
pub fn push_pop<const N: usize, Q: Queue<N>>(context: &Context) -> Outcome {
    let (mut inlet, mut outlet) = Q::open();
    timing::cost(context, |number| {
        assert!(inlet.push(black_box(number)));
        assert!(outlet.pop(|message| message.check(number)));
    })
}

/// A push, in bursts that fill half of the queue.
pub fn push<Q: Queue<1>>(context: &Context) -> Outcome {
    const { assert!(timing::BLOCK as usize <= DEPTH / 2) };
    let (mut inlet, mut outlet) = Q::open();
    let mut expected = 0;
    timing::burst(
        context,
        |number| assert!(inlet.push(black_box(number))),
        || {
            let before = expected;
            while expected < before + timing::BLOCK {
                outlet.pop_batch(|message| {
                    message.check(expected);
                    expected += 1;
                });
            }
        },
    )
}

/// A message of a stream from core 0 to core 1, by single calls or by batch calls.
pub fn stream<const N: usize, const BATCHED: bool, Q: Queue<N>>(context: &Context) -> Outcome {
    let (mut inlet, mut outlet) = Q::open();
    alone(context, |context| {
        let (stage, [_, other], time) = (context.stage, context.cores, context.time());
        let ready = &Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(move || {
                pin(other);
                ready.wait();
                let (mut expected, mut done) = (0, false);
                while !done {
                    let each = |message: &Message<N>| {
                        done = message.claimed() == LAST;
                        if !done {
                            message.check(expected);
                            expected += 1;
                        }
                    };
                    let some = if BATCHED { outlet.pop_batch(each) } else { outlet.pop(each) };
                    if !some {
                        spin_loop();
                    }
                }
                stage.put(0, ticks());
                stage.put(1, expected);
            });
            ready.wait();
            let start = ticks();
            stage.put(2, start);
            let (mut number, until) = (0, start + span(time));
            while ticks() < until {
                let pause = number + STRIDE;
                while number < pause {
                    let pushed = if BATCHED { inlet.push_batch(number) } else { inlet.push(number).into() };
                    if pushed == 0 {
                        spin_loop();
                    }
                    number += pushed;
                }
            }
            while !inlet.push(LAST) {}
        });
    })?;
    Ok(per_message(context.stage))
}

/// A message from `P` producers on both cores to a consumer on core 1: who finds the queue full or empty gives way.
pub fn many<const P: usize, const BATCHED: bool, Q: Queue<1>>(context: &Context) -> Outcome
where
    Q::In: Clone,
{
    let (inlet, mut outlet) = Q::open();
    alone(context, |context| {
        let (stage, cores, time) = (context.stage, context.cores, context.time());
        let ready = Barrier::new(P + 1);
        std::thread::scope(|threads| {
            for producer in 0..P {
                let (mut inlet, ready) = (inlet.clone(), &ready);
                threads.spawn(move || {
                    pin(cores[producer % cores.len()]);
                    ready.wait();
                    let (mut number, until) = ((producer as u64) << PRODUCER, ticks() + span(time));
                    while ticks() < until {
                        for _ in 0..STRIDE {
                            push_in_turn(&mut inlet, number);
                            number += 1;
                        }
                    }
                    push_in_turn(&mut inlet, LAST | number);
                });
            }
            pin(cores[1]);
            ready.wait();
            stage.put(2, ticks());
            let mut expected: [u64; P] = std::array::from_fn(|producer| (producer as u64) << PRODUCER);
            let mut done = 0;
            while done < P {
                let each = |message: &Message<1>| {
                    let [number] = message.0;
                    let producer = (number & !LAST) >> PRODUCER;
                    let expected = &mut expected[producer as usize];
                    assert_eq!(number & !LAST, *expected, "the next message of producer {producer}");
                    *expected += 1;
                    done += usize::from(number & LAST != 0);
                };
                let some = if BATCHED { outlet.pop_batch(each) } else { outlet.pop(each) };
                if !some {
                    yield_now();
                }
            }
            stage.put(0, ticks());
            let numbers = expected.iter().map(|number| number & !(u64::MAX << PRODUCER));
            stage.put(1, numbers.sum());
        });
    })?;
    Ok(per_message(context.stage))
}

#[inline(always)]
fn push_in_turn(inlet: &mut impl Inlet<1>, number: u64) {
    while !inlet.push(number) {
        yield_now();
    }
}

/// Value 0 is when a stream ended, value 1 how many messages it had, value 2 when it began.
fn per_message(stage: &Stage) -> Figures {
    vec![("each", ns(stage.get(0) - stage.get(2)) / stage.get(1) as f64)]
}

/// From the moment a message is stamped on core 0 to its arrival on core 1, which polls, when one is sent each 2 µs.
pub fn hop<Q: Queue<1>>(context: &Context) -> Outcome {
    let (mut inlet, mut outlet) = Q::open();
    alone(context, |context| {
        let (stage, [_, other], time) = (context.stage, context.cores, context.time());
        let ready = &Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(move || {
                pin(other);
                let mut samples = stage.lane(0).iter_mut();
                ready.wait();
                let mut done = false;
                while !done {
                    outlet.pop(|message| {
                        let now = ticks();
                        done = message.claimed() == LAST;
                        if !done && let Some(sample) = samples.next() {
                            *sample = now.saturating_sub(message.claimed()).max(1);
                        }
                    });
                }
            });
            ready.wait();
            let pace = span(PACE);
            let mut next = ticks();
            for _ in 0..(time.as_nanos() / PACE.as_nanos()).min(LANE as u128) {
                // Where the time was stolen, nothing is caught up on.
                next = (next + pace).max(ticks());
                while ticks() < next {}
                while !inlet.push(ticks()) {}
            }
            while !inlet.push(LAST) {}
        });
    })?;
    let taken = context.stage.recorded(0).iter().take_while(|&&t| t > 0);
    let mut times: Vec<f64> = taken.map(|&t| ns(t)).collect();
    let times = summary(&mut times).ok_or("no message arrived")?;
    Ok(vec![("p50", times.p50), ("p99", times.p99)])
}
