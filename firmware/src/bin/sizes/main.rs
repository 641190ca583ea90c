//! One function for each kernel operation, to be measured, and to be searched for ways to panic. No vector table, no
//! board: this is never run.
//!
//! A module for each type, whose functions stand in `operations!`.

#![no_std]
#![no_main]

/// Makes each function one of its own, and a list of them that keeps them.
macro_rules! operations {
    ($(fn $name:ident $(<$life:lifetime>)? ($($argument:ident: $of:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            fn $name $(<$life>)? ($($argument: $of),*) $(-> $result)? $body
        )*
        pub const OPERATIONS: &[*const ()] = &[$($name as *const ()),*];
    };
}

mod dedup;
mod frame;
#[cfg(target_has_atomic = "32")]
mod frames;
#[cfg(target_has_atomic = "ptr")]
mod lanes;
#[cfg(target_has_atomic = "ptr")]
mod mpsc;
#[cfg(feature = "planted")]
mod planted;
#[cfg(target_has_atomic = "ptr")]
mod pool;
mod records;
mod seqlock;
mod spsc;
mod words;

/// Where the linker begins: it keeps what is named here.
#[unsafe(no_mangle)]
extern "C" fn operations() {
    let keep = |list: &'static [*const ()]| {
        core::hint::black_box(list);
    };
    keep(words::OPERATIONS);
    keep(spsc::OPERATIONS);
    keep(seqlock::OPERATIONS);
    keep(frame::OPERATIONS);
    keep(records::OPERATIONS);
    keep(dedup::OPERATIONS);
    #[cfg(target_has_atomic = "32")]
    keep(frames::OPERATIONS);
    #[cfg(target_has_atomic = "ptr")]
    keep(mpsc::OPERATIONS);
    #[cfg(target_has_atomic = "ptr")]
    keep(pool::OPERATIONS);
    #[cfg(target_has_atomic = "ptr")]
    keep(lanes::OPERATIONS);
    #[cfg(feature = "planted")]
    keep(planted::OPERATIONS);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
