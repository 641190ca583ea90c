//! What the compiler calls to copy, fill and compare memory: a C library has it otherwise. By instructions, as loops would be
//! made into calls of the very same functions.

use core::arch::asm;

/// # Safety
///
/// `to` is writable and `from` readable for `len` bytes, which don't overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: copies `len` bytes upwards, the direction in which the calling convention leaves it.
    unsafe { asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len => _, options(nostack)) };
    to
}

/// # Safety
///
/// `to` is writable for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: fills `len` bytes upwards.
    unsafe { asm!("rep stosb", inout("rdi") to => _, in("al") byte as u8, inout("rcx") len => _, options(nostack)) };
    to
}

/// Less than, equal to or more than 0, as `a` is compared with `b`.
///
/// # Safety
///
/// Both are readable for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: below `len`.
        let (a, b) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
///
/// Both are readable for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same is asked of the caller.
    unsafe { memcmp(a, b, len) }
}
