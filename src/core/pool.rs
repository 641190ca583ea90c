//! A fixed number of places for values, handed out and given back without an allocator.
//!
//! An event is put into a place once and its [`Handle`] goes from queue to queue: 16 bytes instead of the whole. Dropped
//! anywhere, by any thread, the handle drops its value and gives the place back. When there is none left, that is an answer,
//! and the value comes back with it.
//!
//! Places stand in blocks, each with one word that has a bit for each free place. A producer has a [`Magazine`]: it takes all
//! the free places of a block by one exchange and hands them out without looking at anything shared; giving back sets a bit
//! by one read-modify-write. Producers begin at different blocks, so as long as there is enough they don't meet. Nothing is ever
//! linked or retried, so there is no ABA, and every call is wait-free where the processor's exchange is.
//!
//! The price: what a magazine has taken, up to a block's worth, no other can have. Plan a block for each producer on top of
//! what is needed at a time.

use ::core::marker::PhantomData;
use ::core::mem::{ManuallyDrop, MaybeUninit};
use ::core::ops::{Deref, DerefMut};

use super::atomic::{CachePadded, Ordering, rmw::AtomicUsize};
use super::cells::{Guarded, array, const_fn};

#[cfg(all(test, not(loom)))]
mod tests;

/// Places for `BLOCKS * SIZE` values, in blocks of `SIZE`, which is at most the bits of a `usize`.
///
/// ```
/// use conduit::pool::Pool;
///
/// struct Event {
///     id: u64,
///     payload: [u8; 240],
/// }
/// static EVENTS: Pool<Event, 16, 64> = Pool::new();
///
/// let mut magazine = EVENTS.magazine(); // one for each producer
/// let Ok(mut event) = magazine.acquire(Event { id: 7, payload: [0; 240] }) else { panic!("1024 are in use") };
/// event.payload[0] = 1;
/// std::thread::spawn(move || assert_eq!(event.id, 7)).join().unwrap(); // and there it gives its place back
/// assert_eq!(EVENTS.free() + magazine.held(), EVENTS.capacity());
/// ```
#[derive(Debug)]
pub struct Pool<T, const BLOCKS: usize, const SIZE: usize> {
    /// How many magazines there were: where the next one begins. Raised by each, Relaxed: it orders nothing.
    magazines: AtomicUsize,
    blocks: [Block<T, SIZE>; BLOCKS],
}

#[derive(Debug)]
struct Block<T, const SIZE: usize> {
    /// Bit `i`: place `i` is free. Only read-modify-written: exchanged for 0 by a magazine, which then has all that were set
    /// (Acquire), and set by whoever gives a place back (Release; Relaxed if it was not used).
    free: CachePadded<AtomicUsize>,
    places: [Place<T>; SIZE],
}

#[derive(Debug)]
struct Place<T> {
    value: Guarded<MaybeUninit<T>>,
    /// The number of its bit.
    bit: u8,
}

// SAFETY: a place belongs to whoever took its bit, one at a time; what is in it goes from thread to thread.
unsafe impl<T: Send> Sync for Place<T> {}

impl<T, const SIZE: usize> Block<T, SIZE> {
    /// All free.
    const ALL: usize = {
        assert!(
            SIZE > 0 && SIZE <= usize::BITS as usize,
            "a block has at least 1 place and at most the bits of a usize"
        );
        usize::MAX >> (usize::BITS as usize - SIZE)
    };

    const_fn! {
        fn new() -> Self {
            let mut places = array![Place { value: Guarded::new(MaybeUninit::uninit()), bit: 0 }; SIZE];
            let mut bit = 0;
            while bit < SIZE {
                places[bit].bit = bit as u8;
                bit += 1;
            }
            Block { free: CachePadded(AtomicUsize::new(Self::ALL)), places }
        }
    }
}

impl<T, const BLOCKS: usize, const SIZE: usize> Pool<T, BLOCKS, SIZE> {
    const_fn! {
        /// All places free.
        pub fn new() -> Self {
            const { assert!(BLOCKS > 0, "a pool has a block") };
            Pool { magazines: AtomicUsize::new(0), blocks: array![Block::new(); BLOCKS] }
        }
    }

    /// A magazine, still empty: for one producer. There may be any number.
    pub fn magazine(&self) -> Magazine<'_, T, BLOCKS, SIZE> {
        let block = self.magazines.fetch_add(1, Ordering::Relaxed) % BLOCKS;
        Magazine { pool: self, block, held: 0 }
    }

    /// How many values there may be at a time.
    pub const fn capacity(&self) -> usize {
        BLOCKS * SIZE
    }

    /// How many places are neither in use nor in a magazine, as far as can be told while others take and give back.
    pub fn free(&self) -> usize {
        self.blocks.iter().map(|block| block.free.load(Ordering::Relaxed).count_ones() as usize).sum()
    }
}

impl<T, const BLOCKS: usize, const SIZE: usize> Default for Pool<T, BLOCKS, SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

/// A producer's own supply of places. Dropped, it gives back what it has left.
#[derive(Debug)]
pub struct Magazine<'a, T, const BLOCKS: usize, const SIZE: usize> {
    pool: &'a Pool<T, BLOCKS, SIZE>,
    /// The block that it took its places from, and looks at first for more; below `BLOCKS`.
    block: usize,
    /// Bit `i`: place `i` of that block is this magazine's. Only bits below `SIZE`.
    held: usize,
}

impl<'a, T, const BLOCKS: usize, const SIZE: usize> Magazine<'a, T, BLOCKS, SIZE> {
    /// Puts a value into a place.
    ///
    /// # Errors
    ///
    /// No place is left that this magazine can have: the value comes back.
    ///
    /// # Cost
    ///
    /// Nothing shared, but for one exchange every `SIZE` calls. A pool that is almost used up is searched: up to one load for
    /// each block.
    #[inline]
    pub fn acquire(&mut self, value: T) -> Result<Handle<'a, T>, T> {
        match self.vacant() {
            Some(vacant) => Ok(vacant.put(value)),
            None => Err(value),
        }
    }

    /// An empty place, for a value that is made in it. `None` if none is left that this magazine can have.
    #[inline]
    pub fn vacant(&mut self) -> Option<Vacant<'a, T>> {
        if self.held == 0 && !self.refill() {
            return None;
        }
        let bit = self.held.trailing_zeros() as usize;
        self.held &= self.held - 1;
        // SAFETY: `block` is below `BLOCKS`, and only bits below `SIZE` are ever set.
        let (block, place) = unsafe {
            let block = self.pool.blocks.get_unchecked(self.block);
            (block, block.places.get_unchecked(bit))
        };
        Some(Vacant { free: &block.free, place, value: PhantomData })
    }

    /// Takes what is free of a block, this magazine's before others. `false` if nothing is free.
    fn refill(&mut self) -> bool {
        for _ in 0..BLOCKS {
            // SAFETY: `block` is below `BLOCKS`.
            let free = unsafe { &self.pool.blocks.get_unchecked(self.block).free };
            // Looked at first, so that an empty block's line stays with those who give back.
            if free.load(Ordering::Relaxed) != 0 {
                // Acquire: pairs with the Release of who gave the places back, and was done with them.
                self.held = free.swap(0, Ordering::Acquire);
                if self.held != 0 {
                    return true;
                }
            }
            self.block = if self.block + 1 == BLOCKS { 0 } else { self.block + 1 };
        }
        false
    }

    /// How many places it can hand out without looking for more.
    pub const fn held(&self) -> usize {
        self.held.count_ones() as usize
    }
}

impl<T, const BLOCKS: usize, const SIZE: usize> Drop for Magazine<'_, T, BLOCKS, SIZE> {
    fn drop(&mut self) {
        if self.held != 0 {
            // Relaxed: nothing was put into these places since they were taken, and whoever takes them next still meets the
            // Release of who had them before, as the word is only ever read-modify-written.
            self.pool.blocks[self.block].free.fetch_or(self.held, Ordering::Relaxed);
        }
    }
}

/// A place without a value. Dropped, it is given back.
#[derive(Debug)]
#[must_use = "the place is given back at once if it is dropped"]
pub struct Vacant<'a, T> {
    /// The word of its block.
    free: &'a AtomicUsize,
    place: &'a Place<T>,
    /// A place is shared with whoever has it next, its value with nobody.
    value: PhantomData<&'a mut T>,
}

impl<'a, T> Vacant<'a, T> {
    /// Puts a value into it.
    #[inline]
    pub fn put(mut self, value: T) -> Handle<'a, T> {
        self.as_uninit().write(value);
        Handle { place: ManuallyDrop::new(self) }
    }

    /// The memory, to be written in place.
    #[inline]
    pub fn as_uninit(&mut self) -> &mut MaybeUninit<T> {
        // SAFETY: the place is this one's alone, and borrowed mutably.
        self.place.value.with_mut(|value| unsafe { &mut *value })
    }

    /// The place with the value that was written into it.
    ///
    /// ```
    /// # use conduit::pool::Pool;
    /// static BUFFERS: Pool<[u8; 4096], 1, 8> = Pool::new();
    ///
    /// let mut vacant = BUFFERS.magazine().vacant().expect("8 are free");
    /// vacant.as_uninit().write([7; 4096]); // or byte by byte, from wherever they come
    /// // SAFETY: it was written as a whole.
    /// let buffer = unsafe { vacant.assume_init() };
    /// assert_eq!(buffer[4095], 7);
    /// ```
    ///
    /// # Safety
    ///
    /// The value was written, as a whole.
    #[inline]
    pub unsafe fn assume_init(self) -> Handle<'a, T> {
        Handle { place: ManuallyDrop::new(self) }
    }
}

impl<T> Drop for Vacant<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire exchange of the magazine that takes the place next.
        self.free.fetch_or(1 << self.place.bit, Ordering::Release);
    }
}

/// A value in a place, and the only way to it. Dropped, it drops the value and gives the place back.
///
/// Threads share it only if they may share the value:
///
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<conduit::pool::Handle<'_, std::cell::Cell<u8>>>();
/// ```
#[must_use = "the value is dropped at once if its handle is"]
pub struct Handle<'a, T> {
    /// The place, which holds a value until the handle is dropped.
    place: ManuallyDrop<Vacant<'a, T>>,
}

impl<T> Handle<'_, T> {
    /// Takes the value out and gives the place back.
    #[inline]
    pub fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the place holds a value, which is this handle's; it is not looked at again.
        let value = unsafe { this.place.as_uninit().assume_init_read() };
        // SAFETY: taken once, as the handle itself is not dropped.
        drop(unsafe { ManuallyDrop::take(&mut this.place) });
        value
    }
}

impl<T> Deref for Handle<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the place is this handle's alone, and holds a value.
        self.place.place.value.with(|value| unsafe { (*value).assume_init_ref() })
    }
}

impl<T> DerefMut for Handle<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the place holds a value.
        unsafe { self.place.as_uninit().assume_init_mut() }
    }
}

impl<T: ::core::fmt::Debug> ::core::fmt::Debug for Handle<'_, T> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Drop for Handle<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: taken once. From here on the place is given back also when the value's destructor panics.
        let mut place = unsafe { ManuallyDrop::take(&mut self.place) };
        // SAFETY: the place holds a value, which nobody looks at again.
        unsafe { place.as_uninit().assume_init_drop() };
    }
}
