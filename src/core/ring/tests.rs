//! The rings by value: one operation after the other, checked against plain models. What happens at the same time is
//! checked in `loom/`.

extern crate alloc;
extern crate std;

mod event;
mod frames;
mod memory;
mod numbers;
mod words;

use crate::core::rounds::rounds;
