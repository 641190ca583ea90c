//! The queues between the engine's threads.

use std::ptr::NonNull;

use super::batch::Item;
use super::committer::Entry;
use super::keeper::Letter;
use crate::{lanes, mpsc, spsc};

/// Places of the realtime lane.
pub(super) const REALTIME: usize = 16_384;
/// Places of each of the other two.
pub(super) const LOWER: usize = 65_536;
/// How many events may wait for the durable log.
pub(super) const LOG: usize = 16_384;
/// How many letters may wait for the dead letter store.
pub(super) const LETTERS: usize = 1024;
/// How many events may wait for one of several workers of the lower lanes.
pub(super) const HAND: usize = 1024;

pub(super) type Lanes = lanes::Lanes<Item, REALTIME, LOWER, LOWER>;
pub(super) type Dispatcher = lanes::Dispatcher<'static, Item, REALTIME, LOWER, LOWER>;
pub(super) type Drain = lanes::Drain<'static, Item, REALTIME, LOWER, LOWER>;
pub(super) type LowerLanes = lanes::LowerLanes<'static, Item, LOWER, LOWER>;
pub(super) type Realtime = spsc::Consumer<'static, Item, REALTIME>;

/// All of them.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) lanes: Lanes,
    pub(super) log: spsc::Queue<Entry, LOG>,
    pub(super) letters: mpsc::Queue<Letter, LETTERS>,
    pub(super) hands: Box<[spsc::Queue<Item, HAND>]>,
}

/// Queues whose ends are not held to the lifetime of a borrow.
#[derive(Debug)]
pub(super) struct Storage(NonNull<Queues>);

// SAFETY: it is a box of queues, which are Send and Sync.
unsafe impl Send for Storage {}
// SAFETY: as above; it gives out shared references alone.
unsafe impl Sync for Storage {}
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Queues>();
};

impl Storage {
    /// Queues, with as many `hands`.
    ///
    /// # Safety
    ///
    /// Every end that was split from them is dropped before this is.
    pub(super) unsafe fn new(hands: usize) -> Self {
        // They are too large for the stack of some threads, on which they are made before they are moved.
        let make = move || {
            let hands = (0..hands).map(|_| spsc::Queue::new()).collect();
            Box::new(Queues { lanes: Lanes::new(), log: spsc::Queue::new(), letters: mpsc::Queue::new(), hands })
        };
        let thread = std::thread::Builder::new().stack_size(4 * size_of::<Queues>() + (1 << 20)).spawn(make);
        let queues = thread.expect("a thread for a moment").join().expect("it only allocates");
        Storage(NonNull::from(Box::leak(queues)))
    }

    pub(super) fn queues(&self) -> &'static Queues {
        // SAFETY: it was a box, and as promised to `new` nobody refers to it when it is freed.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // SAFETY: it was made from a box, and as promised to `new` nobody refers to it any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
