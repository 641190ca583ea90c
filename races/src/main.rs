//! The kernel among threads, for ThreadSanitizer to watch.
//!
//! It knows what Release and Acquire order, and reports accesses to the same bytes that nothing orders. It knows nothing
//! of fences: what stands on those alone is for loom. So is the seqlock, whose value is atomic words ordered by fences: no
//! access to it is ever a race, torn or not. Nothing here but the kernel orders the threads.
//!
//! A module for each kind of thing that is raced; its `run` panics where a message is wrong, or the threads hardly meet.

mod events;
mod locks;
mod planted;
mod queues;
mod records;
mod rings;
mod threads;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("planted") {
        return planted::run();
    }
    rings::run();
    queues::run();
    records::run();
    events::run();
    locks::run();
}
