//! The kernel of Conduit under [loom](https://docs.rs/loom), which runs a model in every interleaving and with
//! every value that the orderings allow a load to see.
//!
//!     cargo test --manifest-path loom/Cargo.toml             # each model, in seconds
//!     CONDUIT_ROUNDS=100 cargo test ...                      # models of two threads without a bound: minutes
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

#[path = "../../src/core/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only some of the kernel is modelled")]
pub mod core;

#[cfg(test)]
mod event;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod lossless;
#[cfg(test)]
mod memory;
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
/// at most twice; at full size and with two threads, in all.
#[cfg(test)]
fn model(threads: usize, body: impl Fn() + Send + Sync + 'static) {
    let preemptions = if full_size() && threads == 2 { None } else { Some(2) };
    model_within(preemptions, body);
}

/// Runs a model with at most this many preemptions, or what the environment asks for.
#[cfg(test)]
fn model_within(preemptions: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    builder.check(body);
}
