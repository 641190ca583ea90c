//! The kernel of Conduit under [loom](https://docs.rs/loom), which runs a model in every interleaving and with
//! every value that the orderings allow a load to see.
//!
//!     cargo test --manifest-path loom/Cargo.toml             # each model, in seconds
//!     CONDUIT_ROUNDS=100 cargo test ...                      # one preemption more, and some without a bound: half an hour
//!     LOOM_MAX_PREEMPTIONS=3 cargo test ...                  # another bound for all of them
//!     loom/mutants                                           # does a model fail if the code is made weaker?
//!
//! A model makes a bounded number of attempts and never waits in a loop: waiting is checked by what would have been
//! slept on. Payloads of Frames slots are cells that fail the model when two threads are in one at a time, so a claim or
//! a pin that excludes too little is found even where no wrong value is read.
//!
//! What it can't show: more than a few messages and threads, mixed sizes, and executions in which a load sees a store
//! that comes after it in the loading thread's own order ("load buffering"), which Release and Acquire on the reader's
//! cursor, for one, are there to forbid. `mutants` lists what is taken on argument for that reason.
#![allow(missing_docs, reason = "the kernel's documentation is read where it belongs")]

#[cfg(test)]
use std::time::{Duration, Instant};

#[cfg(test)]
use loom::model::Builder;

#[path = "../../src/core/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only some of the kernel is modelled")]
pub mod core;

#[cfg(test)]
mod dedup;
#[cfg(test)]
mod event;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod lock;
#[cfg(test)]
mod lossless;
#[cfg(test)]
mod membarrier;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod mpsc;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod records;
#[cfg(test)]
mod seqlock;
#[cfg(test)]
mod spsc;
#[cfg(test)]
mod takeover;
#[cfg(test)]
mod words;

/// Whether to take minutes instead of seconds.
#[cfg(test)]
fn full_size() -> bool {
    std::env::var("CONDUIT_ROUNDS").is_ok_and(|percent| percent.parse().is_ok_and(|percent: u32| percent >= 100))
}

/// Runs a model of `threads` threads, counting the one that calls, in all interleavings in which threads are preempted
/// at most twice. At full size three times, and then, with two threads, in all interleavings as far as two minutes go.
#[cfg(test)]
fn model(threads: usize, body: impl Fn() + Send + Sync + Clone + 'static) {
    if !full_size() {
        return model_within(Some(2), body);
    }
    model_within(Some(3), body.clone());
    if threads == 2 && std::env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        let began = Instant::now();
        let mut builder = builder(None);
        builder.max_duration = Some(UNBOUNDED);
        builder.check(body);
        println!(
            "{}",
            if began.elapsed() < UNBOUNDED { "in all interleavings" } else { "in two minutes' worth of them" }
        );
    }
}

/// How long a model runs without a bound.
#[cfg(test)]
const UNBOUNDED: Duration = Duration::from_secs(120);

/// Runs a model with at most this many preemptions, or what the environment asks for.
#[cfg(test)]
fn model_within(preemptions: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    builder(preemptions).check(body);
}

#[cfg(test)]
fn builder(preemptions: Option<usize>) -> Builder {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    builder
}
