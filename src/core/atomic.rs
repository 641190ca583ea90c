//! The one file that names where atomics come from, and the words that rings are made of.
//!
//! Every lock-free type of the kernel takes its atomics from here, so that the model checker can put its
//! own in their place (`cfg(loom)`, set by the `loom/` crate alone).
//!
//! What is only loaded and stored is the language's on every target. What read-modify-writes change comes from [`rmw`].
//! All that is made of it stands behind one gate, as modules cannot be declared by a macro that says it once:
//! `any(target_has_atomic = "ptr", feature = "portable-atomic")`.
#![allow(unused_imports, reason = "which of them are used depends on the target")]

#[cfg(all(not(loom), target_has_atomic = "64"))]
pub use ::core::sync::atomic::AtomicU64;
#[cfg(all(not(loom), any(target_has_atomic = "ptr", feature = "portable-atomic")))]
pub use ::core::sync::atomic::compiler_fence;
#[cfg(not(loom))]
pub use ::core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// The model checker has no compiler to keep from reordering.
#[cfg(loom)]
pub fn compiler_fence(_: Ordering) {}

/// What a thread does while it waits for another one that runs.
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
#[inline(always)]
pub fn spin() {
    #[cfg(not(loom))]
    ::core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Waits until what this thread stored is there for others. It changes nothing but time: no protocol counts on it, and the
/// model checker proves them without it.
#[inline(always)]
pub fn settle() {
    #[cfg(not(loom))]
    fence(Ordering::SeqCst);
}

/// Only these types are words: the kernel counts on what they are.
pub(crate) mod sealed {
    pub trait Sealed {}
}

/// An atomic word that the two ends of a ring share.
///
/// Values travel as `u64`; a narrower word stores the low bits and loads them zero-extended, and whoever
/// reads a counter extends it again ([`Word::extend`]). Shared memory uses [`AtomicU64`] on every
/// architecture, a ring within one program the native word.
pub trait Word: sealed::Sealed + Send + Sync + Sized {
    /// Width in bits: 32 or 64.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: usize = Self::BITS as usize / 8;

    /// A word holding the low bits of `value`.
    fn new(value: u64) -> Self;
    /// Atomic load.
    fn load(&self, order: Ordering) -> u64;
    /// Atomic store of the low bits of `value`.
    fn store(&self, value: u64, order: Ordering);

    /// A Relaxed load followed by an Acquire fence. Loads of pages that are mapped read-only must be
    /// Relaxed; on x86-64 the fence costs nothing.
    #[cfg(not(conduit_races))]
    #[inline(always)]
    fn load_acquire(&self) -> u64 {
        let value = self.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        value
    }

    /// The same for ThreadSanitizer, which knows nothing of fences.
    #[cfg(conduit_races)]
    fn load_acquire(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    /// `value` cut to this word's width.
    #[inline(always)]
    fn truncate(value: u64) -> u64 {
        value & (u64::MAX >> (64 - Self::BITS))
    }

    /// The signed distance `a - b` of two counters of this width.
    #[inline(always)]
    fn distance(a: u64, b: u64) -> i64 {
        (a.wrapping_sub(b) << (64 - Self::BITS)) as i64 >> (64 - Self::BITS)
    }

    /// The 64-bit counter nearest to `near` whose low bits are `value`. Exact while the two are less than
    /// half the word's range apart.
    #[inline(always)]
    fn extend(value: u64, near: u64) -> u64 {
        near.wrapping_add(Self::distance(value, near) as u64)
    }

    /// The next `BYTES` bytes at `source` as a word in memory order.
    ///
    /// # Safety
    ///
    /// `source` must be readable for `BYTES` bytes. It need not be aligned.
    unsafe fn read_bytes(source: *const u8) -> u64;

    /// Writes a loaded word back as `BYTES` bytes in memory order.
    ///
    /// # Safety
    ///
    /// `target` must be writable for `BYTES` bytes. It need not be aligned.
    unsafe fn write_bytes(value: u64, target: *mut u8);
}

/// A [`Word`] with read-modify-write operations, where the target has them.
pub trait Rmw: Word {
    /// Atomic compare and exchange; strong.
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;
    /// Atomic or; returns the word before.
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    /// Atomic and; returns the word before.
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
    /// Atomic wrapping addition; returns the word before.
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
}

macro_rules! word {
    ($atomic:ty, $int:ident) => {
        impl crate::core::atomic::sealed::Sealed for $atomic {}
        impl Word for $atomic {
            const BITS: u32 = $int::BITS;

            #[inline(always)]
            fn new(value: u64) -> Self {
                <$atomic>::new(value as $int)
            }
            #[inline(always)]
            fn load(&self, order: Ordering) -> u64 {
                <$atomic>::load(self, order) as u64
            }
            #[inline(always)]
            fn store(&self, value: u64, order: Ordering) {
                <$atomic>::store(self, value as $int, order);
            }
            #[inline(always)]
            unsafe fn read_bytes(source: *const u8) -> u64 {
                // SAFETY: the caller lends BYTES readable bytes, and the read needs no alignment.
                unsafe { source.cast::<$int>().read_unaligned() as u64 }
            }
            #[inline(always)]
            unsafe fn write_bytes(value: u64, target: *mut u8) {
                // SAFETY: the caller lends BYTES writable bytes, and the write needs no alignment.
                unsafe { target.cast::<$int>().write_unaligned(value as $int) }
            }
        }
    };
}

#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
macro_rules! rmw {
    ($atomic:ty, $int:ident) => {
        impl Rmw for $atomic {
            #[inline(always)]
            fn compare_exchange(
                &self,
                current: u64,
                new: u64,
                success: Ordering,
                failure: Ordering,
            ) -> Result<u64, u64> {
                match <$atomic>::compare_exchange(self, current as $int, new as $int, success, failure) {
                    Ok(value) => Ok(value as u64),
                    Err(value) => Err(value as u64),
                }
            }
            #[inline(always)]
            fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
                <$atomic>::fetch_or(self, bits as $int, order) as u64
            }
            #[inline(always)]
            fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
                <$atomic>::fetch_and(self, bits as $int, order) as u64
            }
            #[inline(always)]
            fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
                <$atomic>::fetch_add(self, value as $int, order) as u64
            }
        }
    };
}

word!(AtomicU32, u32);
#[cfg(any(target_has_atomic = "ptr", feature = "portable-atomic"))]
rmw!(rmw::AtomicU32, u32);
// Never by way of a lock where the target lacks it: an interrupt handler that waits for what it interrupted waits for ever.
#[cfg(any(loom, target_has_atomic = "64"))]
word!(AtomicU64, u64);
#[cfg(any(loom, target_has_atomic = "64"))]
rmw!(AtomicU64, u64);

/// Atomics that read-modify-writes change: the language's, or where those only load and store portable-atomic's.
#[cfg(not(all(feature = "portable-atomic", not(target_has_atomic = "ptr"))))]
pub mod rmw {
    /// The same for what is not modelled.
    pub use ::core::sync::atomic::AtomicBool as UnmodelledBool;

    pub use super::{AtomicBool, AtomicU32, AtomicUsize, Native, native};
}

/// Atomics that read-modify-writes change: portable-atomic's, each of whose operations, loads and stores too, may be a
/// critical section. So nothing takes its atomics from here that makes do with loads and stores.
#[cfg(all(feature = "portable-atomic", not(target_has_atomic = "ptr")))]
pub mod rmw {
    pub use ::portable_atomic::{AtomicBool, AtomicBool as UnmodelledBool, AtomicU32, AtomicUsize};

    use super::{Ordering, Word};

    word!(AtomicU32, u32);

    pub type Native = AtomicU32;

    /// A native word, in a constant.
    pub const fn native(value: u64) -> Native {
        Native::new(value as u32)
    }
}

/// The word of rings that stay within one program: as wide as a pointer.
#[cfg(all(target_pointer_width = "64", target_has_atomic = "64"))]
pub type Native = AtomicU64;
/// The word of rings that stay within one program: as wide as a pointer.
#[cfg(not(all(target_pointer_width = "64", target_has_atomic = "64")))]
pub type Native = AtomicU32;

/// A native word, in a constant.
#[cfg(all(not(loom), target_pointer_width = "64", target_has_atomic = "64"))]
pub const fn native(value: u64) -> Native {
    Native::new(value)
}

/// A native word, in a constant.
#[cfg(all(not(loom), not(all(target_pointer_width = "64", target_has_atomic = "64"))))]
pub const fn native(value: u64) -> Native {
    Native::new(value as u32)
}

/// A native word.
#[cfg(loom)]
pub fn native(value: u64) -> Native {
    Native::new(value)
}

/// Keeps what it holds on cache lines of its own, so that two writers never contend for one line.
///
/// 64 bytes: the line of x86-64 and of most Arm cores. Part of the shared-memory layout, so it does not
/// follow the target.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct CachePadded<T>(pub T);

impl<T> ::core::ops::Deref for CachePadded<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Keeps what it holds apart even where a processor fetches cache lines in pairs, as large ones do: 128 bytes, on small
/// targets 64. For what stays within one program; not part of a layout.
#[cfg_attr(any(target_arch = "x86_64", target_arch = "aarch64"), repr(align(128)))]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), repr(align(64)))]
#[derive(Debug)]
pub(crate) struct Apart<T>(pub T);

impl<T> ::core::ops::Deref for Apart<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Asks for the cache line of `word`, to be written soon. A hint: it changes nothing but time.
#[inline(always)]
pub fn prefetch_for_write<W>(word: &W) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    // SAFETY: the instruction touches no memory and faults on no address; every x86-64 processor has it or ignores it.
    unsafe {
        ::core::arch::asm!("prefetchw [{}]", in(reg) word, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    let _ = word;
}

/// Asks for the cache line at `address`, to be read soon. A hint: it changes nothing but time.
#[inline(always)]
pub fn prefetch_for_read(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    // SAFETY: the instruction faults on no address.
    unsafe {
        ::core::arch::x86_64::_mm_prefetch::<{ ::core::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    let _ = address;
}
