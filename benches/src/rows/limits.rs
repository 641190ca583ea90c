//! What the machine itself costs: the figures that the others are made of.

use super::{Context, Outcome, Row, Unit::*};
use crate::clock::{ns, span, ticks};
use crate::stage::{futex_wake, role};
use crate::stats::summary;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::Instant;

pub fn rows() -> Vec<Row> {
    vec![
        Row::new("the machine", "single costs on one core")
            .column("p50", "p50", Time)
            .cell("locked add", |c| cost(c, 64, locked_add()))
            .cell("clock read here", |c| cost(c, 64, || black_box(ticks())))
            .cell("Instant::now", |c| cost(c, 64, Instant::now))
            .cell("null system call", |c| cost(c, 16, null_call))
            .cell("FUTEX_WAKE, nobody asleep", |c| cost(c, 16, wake_nobody()))
            .cell("memcpy 64 B", |c| cost(c, 64, copy::<64>()))
            .cell("memcpy 4 KiB", |c| cost(c, 16, copy::<4096>()))
            .cell("memcpy 64 KiB", |c| cost(c, 1, copy::<65536>()))
            .cell("memcpy 1 MiB", |c| cost(c, 1, copy::<1048576>())),
    ]
}

/// Times blocks of `times` calls.
fn cost<R>(context: &Context, times: u32, mut call: impl FnMut() -> R) -> Outcome {
    let stage = context.stage;
    let measure = || {
        let samples = stage.lane(0);
        let mut last = ticks();
        let deadline = last + span(context.time() / 4);
        for sample in samples {
            for _ in 0..times {
                black_box(call());
            }
            let now = ticks();
            *sample = now - last;
            last = now;
            if now > deadline {
                break;
            }
        }
    };
    context.play(vec![role(context.cores[0], measure)])?;
    let taken = stage.recorded(0).iter().take_while(|&&t| t > 0);
    let mut each: Vec<f64> = taken.map(|&t| ns(t) / f64::from(times)).collect();
    let times = summary(&mut each).ok_or("no block was recorded")?;
    Ok(vec![("p50", times.p50)])
}

fn locked_add() -> impl FnMut() -> u64 {
    let word = AtomicU64::new(0);
    move || word.fetch_add(1, SeqCst)
}

fn null_call() -> i64 {
    // SAFETY: no arguments, no memory.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

fn wake_nobody() -> impl FnMut() {
    let word = AtomicU32::new(0);
    move || futex_wake(&word, 1)
}

fn copy<const BYTES: usize>() -> impl FnMut() {
    let from = vec![1u8; BYTES];
    let mut to = vec![0u8; BYTES];
    move || black_box(&mut to[..]).copy_from_slice(black_box(&from[..]))
}
