//! A stand-in for Linux' `membarrier`.

use loom::sync::atomic::{Ordering, fence};
use loom::sync::mpsc::{Receiver, Sender, channel};

/// `membarrier`, which makes another thread run a fence wherever it is between two of its instructions. That it does so
/// at this or that place is enumerated: at `place` that thread waits to be asked, runs the fence, and says so.
pub struct Membarrier {
    asks: Sender<bool>,
    done: Receiver<()>,
}

pub struct Interrupted {
    place: usize,
    asked: Receiver<bool>,
    says: Sender<()>,
}

pub fn membarrier(place: usize) -> (Membarrier, Interrupted) {
    let (asks, asked) = channel();
    let (says, done) = channel();
    (Membarrier { asks, done }, Interrupted { place, asked, says })
}

impl Membarrier {
    pub fn call(self) {
        self.asks.send(true).unwrap();
        self.done.recv().unwrap();
    }

    /// Lets the other thread go on.
    pub fn never(self) {
        self.asks.send(false).unwrap();
    }
}

impl Interrupted {
    pub fn here(&self, place: usize) {
        if place == self.place && self.asked.recv().unwrap() {
            fence(Ordering::SeqCst);
            self.says.send(()).unwrap();
        }
    }
}
