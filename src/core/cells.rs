//! Memory that goes from thread to thread: messages as atomic words, which may be copied out while they are written, and
//! slots that are one thread's at a time.

#[cfg(not(loom))]
use ::core::cell::UnsafeCell;
use ::core::mem::MaybeUninit;
#[cfg(loom)]
use loom::cell::UnsafeCell;

use super::atomic::{Native, Ordering, Word};
use super::plain::Plain;

/// Room for a `T` as atomic words.
#[cfg(not(loom))]
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct WordCells<T>(UnsafeCell<MaybeUninit<WholeWords<T>>>);

/// Sized and aligned in whole words.
#[cfg(not(loom))]
#[cfg_attr(target_pointer_width = "64", repr(C, align(8)))]
#[cfg_attr(not(target_pointer_width = "64"), repr(C, align(4)))]
#[derive(Debug)]
struct WholeWords<T>(#[allow(dead_code)] T);

#[cfg(not(loom))]
impl<T: Plain> WordCells<T> {
    /// All zeros.
    pub(crate) const fn new() -> Self {
        WordCells(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    /// The words, for the use of all threads.
    #[inline(always)]
    pub(crate) fn words(&self) -> &[Native] {
        let words = size_of::<Self>() / size_of::<Native>();
        // SAFETY: that many words, aligned to one, initialised, and only touched through atomics. The cell is around all of
        // them, padding too.
        unsafe { ::core::slice::from_raw_parts(self.0.get().cast::<Native>(), words) }
    }
}

// SAFETY: only touched word by word through atomics.
#[cfg(not(loom))]
unsafe impl<T: Plain> Sync for WordCells<T> {}

/// Room for a `T` as the model checker's atomic words.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct WordCells<T>(Vec<Native>, ::core::marker::PhantomData<T>);

#[cfg(loom)]
impl<T: Plain> WordCells<T> {
    pub(crate) fn new() -> Self {
        WordCells(
            (0..size_of::<T>().div_ceil(Native::BYTES)).map(|_| Native::new(0)).collect(),
            ::core::marker::PhantomData,
        )
    }

    pub(crate) fn words(&self) -> &[Native] {
        &self.0
    }
}

/// Room for a `T` that belongs to one thread at a time: a queue says whose it is.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: who may touch it is said by the queue that it is part of; what is in it goes from thread to thread.
unsafe impl<T: Send> Sync for Slot<T> {}

#[cfg(not(loom))]
impl<T> Slot<T> {
    pub(crate) const fn new() -> Self {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Puts a value into the empty slot.
    ///
    /// # Safety
    ///
    /// The slot is the caller's, and empty.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, value: T) {
        // SAFETY: nobody else touches it, says the caller.
        unsafe { (*self.0.get()).write(value) };
    }

    /// Takes the value out of the slot.
    ///
    /// # Safety
    ///
    /// The slot is the caller's, and full.
    #[inline(always)]
    pub(crate) unsafe fn take(&self) -> T {
        // SAFETY: nobody else touches it, and it holds a value, says the caller.
        unsafe { (*self.0.get()).assume_init_read() }
    }

    /// Where the first of `slots` has its value. The values of a slice of slots stand one behind the other.
    #[inline(always)]
    pub(crate) fn values(slots: &[Self]) -> *mut MaybeUninit<T> {
        // A slot is nothing but its value.
        UnsafeCell::raw_get(slots.as_ptr().cast())
    }
}

/// As seen by the model checker: it fails if two threads are in a slot at a time.
#[cfg(loom)]
impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    pub(crate) unsafe fn put(&self, value: T) {
        // SAFETY: as without the model checker, which fails the model if it is not so.
        self.0.with_mut(|slot| unsafe { (*slot).write(value) });
    }

    pub(crate) unsafe fn take(&self) -> T {
        // SAFETY: as in `put`.
        self.0.with_mut(|slot| unsafe { (*slot).assume_init_read() })
    }
}

/// A value that belongs to whoever a lock lets in.
#[cfg(loom)]
#[allow(clippy::unsafe_removed_from_name, reason = "it has the same methods")]
pub(crate) use loom::cell::UnsafeCell as Guarded;

/// A value that belongs to whoever a lock lets in.
#[cfg(all(not(loom), any(target_has_atomic = "ptr", feature = "portable-atomic")))]
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Guarded<T>(UnsafeCell<T>);

#[cfg(all(not(loom), any(target_has_atomic = "ptr", feature = "portable-atomic")))]
impl<T> Guarded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Guarded(UnsafeCell::new(value))
    }

    /// To be read: nobody writes meanwhile.
    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// To be written: nobody else reads or writes meanwhile.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

/// `N` times the same, or as often as said, in a constant where there is no model checker.
#[cfg(not(loom))]
macro_rules! array {
    ($new:expr) => {
        array![$new; N]
    };
    ($new:expr; $count:expr) => {
        [const { $new }; $count]
    };
}
/// `N` times the same, or as often as said, in a constant where there is no model checker.
#[cfg(loom)]
macro_rules! array {
    ($new:expr $(; $count:expr)?) => {
        ::core::array::from_fn(|_| $new)
    };
}
pub(crate) use array;

/// A function that is constant where there is no model checker, whose atomics are made at run time.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$meta])*
        $vis const fn $($rest)*
        #[cfg(loom)]
        $(#[$meta])*
        $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

/// Stores `bytes` (Relaxed), no more than the words hold, and zeros behind them.
#[inline(always)]
pub(crate) fn store_bytes<W: Word>(words: &[W], bytes: &[u8]) {
    // Nothing in here can panic: interrupt handlers store records whose length is known at run time only.
    let width = W::BYTES;
    let (whole, rest) = words.split_at_checked(bytes.len() / width).unwrap_or((words, &[]));
    for (k, word) in whole.iter().enumerate() {
        // SAFETY: word k lies within `bytes`, as k < len / width.
        let value = unsafe { W::read_bytes(bytes.as_ptr().add(k * width)) };
        word.store(value, Ordering::Relaxed);
    }
    let mut tail = bytes.get(whole.len() * width..).unwrap_or(&[]);
    for word in rest {
        let mut last = [0u8; 8];
        last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
        tail = &[];
        // SAFETY: the array holds the widest word.
        word.store(unsafe { W::read_bytes(last.as_ptr()) }, Ordering::Relaxed);
    }
}

/// Loads the first `len` bytes (Relaxed), no more than the words hold.
///
/// # Safety
///
/// `target` must be writable for `len` bytes.
#[inline(always)]
pub(crate) unsafe fn load_bytes<W: Word>(words: &[W], target: *mut u8, len: usize) {
    let width = W::BYTES;
    // One check of the length here lets the loop be unrolled where `len` is a constant.
    let (whole, rest) = words[..len.div_ceil(width)].split_at(len / width);
    for (k, word) in whole.iter().enumerate() {
        // SAFETY: word k lies within the `len` bytes that the caller lends.
        unsafe { W::write_bytes(word.load(Ordering::Relaxed), target.add(k * width)) };
    }
    let done = whole.len() * width;
    if let Some(word) = rest.first() {
        let mut last = [0u8; 8];
        // SAFETY: the array holds the widest word, and the rest of `target` is shorter than a word.
        unsafe {
            W::write_bytes(word.load(Ordering::Relaxed), last.as_mut_ptr());
            ::core::ptr::copy_nonoverlapping(last.as_ptr(), target.add(done), len - done);
        }
    }
}
