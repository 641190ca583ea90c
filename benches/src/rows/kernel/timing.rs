//! What a call costs: on one thread, in bursts, and on two threads at a time.

use super::super::{Context, Outcome};
use super::alone;
use crate::clock::{ns, span, ticks};
use crate::stage::{Stage, pin};
use crate::stats::{Summary, summary};
use std::sync::Barrier;
use std::time::Duration;

/// Calls between two looks at the clock.
pub const BLOCK: u64 = 512;

/// What a call costs on one thread. Calls are numbered.
pub fn cost(context: &Context, call: impl FnMut(u64)) -> Outcome {
    burst(context, call, || ())
}

/// What a call costs, with something that is not counted between two blocks of calls.
pub fn burst(context: &Context, mut call: impl FnMut(u64), between: impl FnMut()) -> Outcome {
    alone(context, |context| record(context.stage, context.time() / 2, 0, &mut call, between))?;
    Ok(vec![("each", each(context.stage, 0)?.p50)])
}

/// What a call costs each of two threads that call at the same time. `ready` makes a thread's call from its index.
pub fn two_threads<C: FnMut(u64)>(context: &Context, ready: impl Fn(usize) -> C + Sync) -> Result<f64, String> {
    alone(context, |context| {
        let (stage, cores, time) = (context.stage, context.cores, context.time() / 2);
        let start = Barrier::new(2);
        let act = |index: usize| {
            pin(cores[index]);
            let mut call = ready(index);
            start.wait();
            record(stage, time, index, &mut call, || ());
        };
        std::thread::scope(|threads| {
            threads.spawn(|| act(1));
            act(0);
        });
    })?;
    Ok((each(context.stage, 0)?.p50 + each(context.stage, 1)?.p50) / 2.0)
}

/// Records how long each block of calls takes until the time or the lane is over. The first quarter is to warm up.
pub fn record(stage: &Stage, time: Duration, lane: usize, call: &mut impl FnMut(u64), mut between: impl FnMut()) {
    let samples = stage.lane(lane);
    let mut number = 0;
    let mut block = || {
        let start = ticks();
        for _ in 0..BLOCK {
            call(number);
            number += 1;
        }
        let taken = ticks() - start;
        between();
        taken
    };
    let start = ticks();
    let (warm, end) = (start + span(time / 4), start + span(time));
    while ticks() < warm {
        block();
    }
    for sample in samples {
        *sample = block();
        if ticks() > end {
            break;
        }
    }
}

/// What was recorded in a lane, a call.
pub fn each(stage: &Stage, lane: usize) -> Result<Summary, String> {
    let taken = stage.recorded(lane).iter().take_while(|&&t| t > 0);
    let mut times: Vec<f64> = taken.map(|&t| ns(t) / BLOCK as f64).collect();
    summary(&mut times).ok_or_else(|| "no block was recorded".into())
}
