//! Memory that is there before it is needed, for code that may not allocate.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What may be made of zeroes.
///
/// # Safety
///
/// All zeroes are a value of the type.
pub(super) unsafe trait Zeroed: Copy {}

// SAFETY: integers.
unsafe impl Zeroed for u32 {}
// SAFETY: a struct of integers.
unsafe impl Zeroed for super::proc::Process {}
// SAFETY: a struct of integers.
unsafe impl Zeroed for super::nodes::Slot {}

/// A fixed number of values, zeroes at first. Costs no memory where it was never written.
pub(super) struct Table<T: Zeroed> {
    values: NonNull<T>,
    len: usize,
}

// SAFETY: it owns its memory, as a box does.
unsafe impl<T: Zeroed + Send> Send for Table<T> {}

impl<T: Zeroed> Table<T> {
    pub(super) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, anywhere.
        let values = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        match NonNull::new(values) {
            Some(values) if values.as_ptr() != libc::MAP_FAILED => Ok(Table { values: values.cast(), len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl<T: Zeroed> Deref for Table<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: mapped, page-aligned, of values that zeroes are, and borrowed as the table is.
        unsafe { std::slice::from_raw_parts(self.values.as_ptr(), self.len) }
    }
}

impl<T: Zeroed> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for reading; nobody else has the table.
        unsafe { std::slice::from_raw_parts_mut(self.values.as_ptr(), self.len) }
    }
}

impl<T: Zeroed> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which nobody borrows any longer.
        unsafe { libc::munmap(self.values.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}
