//! A window for each of a bounded number of producers.

use super::hash;
use super::window::{Seen, Window};

/// What tells one producer from all others: 128 bits that it chose, as in a HELLO frame.
pub type ProducerId = [u8; 16];

/// The [`Window`]s of up to `N` producers, found by a hash. One more takes the place of the one that was least recently
/// looked for or recorded, which is counted: what it had sent may then be taken a second time.
///
/// About 170 bytes a producer; a look-up walks a chain of 1.5 on average.
///
/// ```
/// use conduit::dedup::{Producers, Seen};
///
/// let mut producers = Producers::<64>::new(0x5EED);
/// let sensor = *b"sensor 1, boot 9";
/// assert_eq!(producers.look(&sensor, 1), Seen::New); // nothing is recorded by that
/// producers.record(&sensor, 1);
/// assert_eq!(producers.look(&sensor, 1), Seen::Duplicate);
/// assert_eq!((producers.newest(&sensor), producers.evicted()), (1, 0));
/// ```
///
/// The seed goes into the hash. Take a random one where producers are not trusted, so that none can choose ids that all end
/// in one chain.
#[derive(Debug)]
pub struct Producers<const N: usize> {
    seed: u64,
    /// How many entries are in use: the first ones.
    used: usize,
    evicted: u64,
    /// The chain of entries for each remainder of the hash.
    chains: [Link; N],
    entries: [Entry; N],
    /// Ends of the list by use.
    latest: Link,
    oldest: Link,
}

/// The number of an entry, counted from 1; 0 for none, so that an empty table is all zeros.
type Link = u32;

/// Where a link's entry stands; nowhere, if it is 0. So a look at an entry needs no way to panic.
#[inline(always)]
const fn index(link: Link) -> usize {
    (link as usize).wrapping_sub(1)
}

#[derive(Debug)]
struct Entry {
    id: ProducerId,
    window: Window,
    /// The next of the same chain.
    next: Link,
    /// Its neighbours in the list by use.
    later: Link,
    earlier: Link,
}

impl<const N: usize> Producers<N> {
    /// No producer known.
    pub const fn new(seed: u64) -> Self {
        const { assert!(N > 0 && N < Link::MAX as usize, "there is room for a producer, and less than 2^32") };
        let entries = [const { Entry { id: [0; 16], window: Window::new(), next: 0, later: 0, earlier: 0 } }; N];
        Producers { seed, used: 0, evicted: 0, chains: [0; N], entries, latest: 0, oldest: 0 }
    }

    /// Whether `producer` sent `sequence` before, and it was recorded. Sequence 0 is none, and always new.
    #[inline]
    pub fn look(&mut self, producer: &ProducerId, sequence: u64) -> Seen {
        let found = self.find(producer);
        self.touch(found);
        self.entry(found).map_or(Seen::New, |entry| entry.window.look(sequence))
    }

    /// Records `sequence`, if it is one.
    #[inline]
    pub fn record(&mut self, producer: &ProducerId, sequence: u64) {
        if sequence == 0 {
            return;
        }
        let found = match self.find(producer) {
            0 => self.add(producer),
            found => {
                self.touch(found);
                found
            }
        };
        if let Some(entry) = self.entry(found) {
            entry.window.record(sequence);
        }
    }

    /// A copy of a producer's window, empty if it has none: for whoever looks for and records many of its events in a row, and
    /// [puts it back](Producers::put) then. Counts as a look.
    pub fn window(&mut self, producer: &ProducerId) -> Window {
        let found = self.find(producer);
        self.touch(found);
        self.entry(found).map_or(Window::new(), |entry| entry.window.clone())
    }

    /// Has a producer's window be this one: what [`window`](Producers::window) returned, with more recorded in it. An empty one
    /// changes nothing.
    pub fn put(&mut self, producer: &ProducerId, window: Window) {
        if window.newest() == 0 {
            return;
        }
        let found = match self.find(producer) {
            0 => self.add(producer),
            found => {
                self.touch(found);
                found
            }
        };
        if let Some(entry) = self.entry(found) {
            entry.window = window;
        }
    }

    /// The newest sequence of a producer that was recorded; 0 if there is none: what it has to go on behind.
    pub fn newest(&self, producer: &ProducerId) -> u64 {
        self.entries.get(index(self.find(producer))).map_or(0, |entry| entry.window.newest())
    }

    /// How many producers are known.
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether none is known.
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How many producers were forgotten for the sake of others.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    #[inline(always)]
    fn entry(&mut self, link: Link) -> Option<&mut Entry> {
        self.entries.get_mut(index(link))
    }

    /// The chain that a producer is in, if it is in any: below `N`.
    #[inline(always)]
    fn chain(&self, producer: &ProducerId) -> usize {
        // Scaled down instead of divided.
        let chain = ((u128::from(hash(self.seed, producer)) * N as u128) >> 64) as usize;
        // SAFETY: less than 2^64 times `N`, divided by 2^64, is less than `N`.
        unsafe { ::core::hint::assert_unchecked(chain < N) };
        chain
    }

    /// The entry of a producer, or 0.
    fn find(&self, producer: &ProducerId) -> Link {
        let mut link = self.chains[self.chain(producer)];
        while let Some(entry) = self.entries.get(index(link)) {
            if entry.id == *producer {
                break;
            }
            link = entry.next;
        }
        link
    }

    /// An empty entry for a producer that has none.
    #[cold]
    fn add(&mut self, producer: &ProducerId) -> Link {
        let link = if self.used < N {
            self.used += 1;
            self.used as Link
        } else {
            self.evicted += 1;
            let link = self.oldest;
            self.leave_chain(link);
            self.leave_list(link);
            link
        };
        let chain = self.chain(producer);
        let next = ::core::mem::replace(&mut self.chains[chain], link);
        if let Some(entry) = self.entry(link) {
            *entry = Entry { id: *producer, window: Window::new(), next, later: 0, earlier: 0 };
        }
        self.enter_list(link);
        link
    }

    fn leave_chain(&mut self, link: Link) {
        let Some(&mut Entry { id, next, .. }) = self.entry(link) else { return };
        let chain = self.chain(&id);
        let mut at = self.chains[chain];
        if at == link {
            self.chains[chain] = next;
            return;
        }
        while let Some(entry) = self.entry(at) {
            if entry.next == link {
                entry.next = next;
                return;
            }
            at = entry.next;
        }
    }

    /// Makes an entry the latest, if it is one.
    #[inline]
    fn touch(&mut self, link: Link) {
        if link != 0 && self.latest != link {
            self.leave_list(link);
            self.enter_list(link);
        }
    }

    fn leave_list(&mut self, link: Link) {
        let Some(&mut Entry { later, earlier, .. }) = self.entry(link) else { return };
        match self.entry(later) {
            None => self.latest = earlier,
            Some(entry) => entry.earlier = earlier,
        }
        match self.entry(earlier) {
            None => self.oldest = later,
            Some(entry) => entry.later = later,
        }
    }

    fn enter_list(&mut self, link: Link) {
        let earlier = ::core::mem::replace(&mut self.latest, link);
        match self.entry(earlier) {
            None => self.oldest = link,
            Some(entry) => entry.later = link,
        }
        if let Some(entry) = self.entry(link) {
            (entry.later, entry.earlier) = (0, earlier);
        }
    }
}
