//! The kernel by itself, beside the crates that do the same: one process, one or more threads, no topic.

mod broadcast;
mod dedup;
mod frame;
mod hop;
mod latest;
mod mpsc;
mod pool;
mod queue;
mod round_trip;
mod spsc;
mod timing;

use super::{Context, Row};
use crate::stage::role;

pub fn rows() -> Vec<Row> {
    [
        round_trip::rows(),
        spsc::rows(),
        mpsc::rows(),
        hop::rows(),
        broadcast::rows(),
        latest::rows(),
        frame::rows(),
        pool::rows(),
        dedup::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// For as long as the participant runs.
fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

/// Runs something in a participant of its own, which may start threads.
fn alone(context: &Context, all: impl FnOnce(&Context)) -> Result<(), String> {
    context.play(vec![role(context.cores[0], || all(context))])
}
