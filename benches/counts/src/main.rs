//! Makes each hot call of the kernel some hundred times, for `check` to have its instructions counted.
//!
//! A call that is counted is a function of its own, made by [`counted!`], and has a row of its name in the table. To add one,
//! write it there, have `main` get to it, with values that the optimiser knows nothing of, and run `check --record`.

mod events;
mod memory;
mod queues;
mod records;
mod rings;
mod shared;
mod wire;

/// How often each call is made; in rounds of [`BATCH`].
const ROUNDS: u64 = 16;
/// How many messages a round sends, one by one or together.
const BATCH: usize = 64;

/// A message of 64 bytes.
type Message = [u64; 8];

/// Message number `n`, of which the optimiser knows nothing.
fn message(n: u64) -> Message {
    std::hint::black_box([n; 8])
}

/// Makes of each function one that is called, never inlined, and that `check` finds by its name.
macro_rules! counted {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)+) => {
        $(
            #[inline(never)]
            // SAFETY: no other symbol's name begins so, and no two of these functions have the same.
            #[unsafe(export_name = concat!("counted_", stringify!($name)))]
            fn $name($($arg: $type),*) $(-> $result)? $body
        )+
    };
}
use counted;

fn main() {
    queues::spsc();
    queues::mpsc();
    rings::words();
    rings::frames();
    records::run();
    shared::seqlock();
    shared::locks();
    events::pool();
    events::dedup();
    events::lanes();
    wire::frames();
    wire::acks();
}
