//! Which types may be copied bit by bit between programs.

/// A type that is the same value in every program that maps its bytes.
///
/// Implemented for the fixed-width integers, the floats, and arrays of such types;
/// `message!` (feature `std`) implements it for the structs it declares.
///
/// # Safety
///
/// The implementer promises that the type
///
/// * is valid for **every** bit pattern (so no `bool`, `char`, enum, reference or `NonZero`),
/// * has no padding, so that each of its bytes is initialised,
/// * holds no pointer, no `usize`, and no interior mutability,
/// * has the same layout on every target (`#[repr(C)]`, fixed widths, alignment at most 8).
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

macro_rules! plain {
    ($($t:ty),*) => {
        // SAFETY: a primitive number without padding that is valid for every bit pattern.
        $(unsafe impl Plain for $t {})*
    };
}
plain!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

// SAFETY: an array has no padding between its elements and each element is plain.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
