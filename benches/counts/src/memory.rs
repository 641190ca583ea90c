//! Copying, so that it takes as many instructions everywhere: the C library's own functions are chosen by the processor,
//! look at addresses, and change with its version. `check` says if a counted call needs another one.

use std::arch::asm;
use std::ffi::c_void;

// SAFETY: it does what the C library's function of this name does.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut c_void, source: *const c_void, len: usize) -> *mut c_void {
    // SAFETY: the caller lends `len` bytes of both, which don't overlap; the direction flag is clear, as it is between
    // functions.
    unsafe {
        asm!(
            "rep movsq", "mov rcx, {rest}", "rep movsb", rest = in(reg) len % 8,
            inout("rcx") len / 8 => _, inout("rdi") target => _, inout("rsi") source => _,
            options(nostack, preserves_flags)
        );
    }
    target
}
