//! The latest value: read while nobody writes, and while somebody does nothing else.

use super::super::{Context, Limit::*, Outcome, Row, Unit::*};
use super::queue::message;
use super::{alone, leak, timing};
use crate::clock::{ns, ticks};
use crate::message::Message;
use crate::stage::pin;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex};

type Value = Message<8>;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("latest value 64 B", "reads on core 0, checked; quiet, and with a writer flat out on core 1")
            .column("quiet", "a read, quiet", Time)
            .column("busy", "flat out", Time)
            .column("fresh", "a new value", Time)
            .column("write", "a write, quiet", Time)
            .column("busy_write", "flat out", Time)
            .cell("conduit", conduit)
            .cell("seqlock", seqlock)
            .cell("triple_buffer", triple_buffer)
            .cell("arc-swap, load", arc_swap)
            .cell("Mutex", mutex)
            .target("conduit", "quiet", &["seqlock"], AtMost(1.0))
            .target("conduit", "busy", &["seqlock"], AtMost(0.3)),
    ]
}

fn conduit(context: &Context) -> Outcome {
    let (mut writer, reader) = leak(conduit::seqlock::SeqLock::<[u64; 8]>::new()).split().expect("the first split");
    measure(
        context,
        move |value| writer.write(&value.0),
        move || loop {
            if let Ok(value) = reader.read() {
                return Message(value);
            }
        },
    )
}

fn seqlock(context: &Context) -> Outcome {
    let lock: &seqlock::SeqLock<Value> = leak(seqlock::SeqLock::new(message(0)));
    measure(context, |value| *lock.lock_write() = value, || lock.read())
}

/// For one reader, which reads in place.
fn triple_buffer(context: &Context) -> Outcome {
    let (mut writer, mut reader) = triple_buffer::triple_buffer::<Value>(&message(0));
    measure(context, move |value| writer.write(value), move || *reader.read())
}

/// Each write allocates.
fn arc_swap(context: &Context) -> Outcome {
    let value = arc_swap::ArcSwap::<Value>::from_pointee(message(0));
    measure(context, |new| value.store(Arc::new(new)), || **value.load())
}

fn mutex(context: &Context) -> Outcome {
    let value = Mutex::<Value>::new(message(0));
    measure(context, |new| *value.lock().expect("no panic") = new, || *value.lock().expect("no panic"))
}

fn measure(context: &Context, mut write: impl FnMut(Value) + Send, mut read: impl FnMut() -> Value) -> Outcome {
    alone(context, |context| {
        let (stage, [_, other], time) = (context.stage, context.cores, context.time() / 4);
        let (mut last, mut news) = (0, 0);
        let mut look = |_| {
            let value = read();
            value.check(value.claimed());
            news += u64::from(value.claimed() != last);
            last = value.claimed();
        };
        timing::record(stage, time, 2, &mut |number| write(message(number)), || ());
        timing::record(stage, time, 0, &mut look, || ());
        let stopped = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                pin(other);
                stage.put(0, 1);
                let (start, mut number) = (ticks(), 2);
                while !stopped.load(Relaxed) {
                    write(message(number));
                    number += 1;
                }
                stage.put(1, number - 2);
                stage.put(2, ticks() - start);
            });
            while stage.get(0) == 0 {}
            let start = ticks();
            timing::record(stage, time, 1, &mut look, || ());
            stage.put(3, ticks() - start);
            stopped.store(true, Relaxed);
        });
        stage.put(4, news);
    })?;
    // Most reads beside a writer find the value of the last one, still in a cache; a new value has to come over.
    // Where a writer is in the way, the mean tells: a reader that sleeps or yields does so now and then, and for long.
    let (quiet, busy) = (timing::each(context.stage, 0)?, timing::each(context.stage, 1)?);
    let write = timing::each(context.stage, 2)?.p50;
    let ratio = |time, count| ns(context.stage.get(time)) / context.stage.get(count) as f64;
    let (fresh, busy_write) = (ratio(3, 4), ratio(2, 1));
    Ok(vec![("quiet", quiet.p50), ("busy", busy.mean), ("fresh", fresh), ("write", write), ("busy_write", busy_write)])
}
