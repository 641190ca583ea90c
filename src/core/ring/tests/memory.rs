//! Rings over a vector, of words of either width.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;

use super::super::Ordering::Relaxed;
use super::super::{Control, FrameHeader, FrameMemory, Memory, READY, Rmw, SKIPPED, Word, WordMemory, stamp};
use super::alloc;

/// Bytes in a payload: not a whole number of words.
pub const LENGTH: usize = 20;
const ROOM: usize = 24;
/// Reader bits with a cursor.
pub const READERS: u32 = 6;

#[derive(Debug)]
struct Store<W> {
    control: Control<W>,
    headers: Vec<FrameHeader<W>>,
    timestamps: Vec<W>,
    words: Vec<Vec<W>>,
    payloads: Vec<UnsafeCell<[u8; ROOM]>>,
    members: Option<W>,
    cursors: Vec<W>,
}

/// A ring whose slots can be used as Words and as Frames, though not as both.
#[derive(Debug)]
pub struct Ring<W>(Arc<Store<W>>);

// SAFETY: the tests use a ring in one thread.
unsafe impl<W> Send for Ring<W> {}

impl<W> Clone for Ring<W> {
    fn clone(&self) -> Self {
        Ring(self.0.clone())
    }
}

/// What a ring is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub capacity: usize,
    /// The position of the first message.
    pub start: u64,
    /// The sequence of position 0.
    pub base: u64,
    pub lossless: bool,
}

impl<W: Word> Ring<W> {
    pub fn new(shape: Shape) -> Self {
        let Shape { capacity, start, base, lossless } = shape;
        let slots = capacity as u64;
        // The position of each slot in the lap before the first.
        let before = |index: u64| start.wrapping_sub(1 + (start.wrapping_sub(1 + index) & (slots - 1)));
        Ring(Arc::new(Store {
            control: Control::new(start, base),
            headers: (0..slots).map(|index| FrameHeader::new(stamp::<W>(before(index), SKIPPED))).collect(),
            timestamps: (0..slots).map(|_| W::new(0)).collect(),
            words: (0..slots).map(|_| (0..LENGTH.div_ceil(W::BYTES)).map(|_| W::new(0)).collect()).collect(),
            payloads: (0..slots).map(|_| UnsafeCell::new([0; ROOM])).collect(),
            members: lossless.then(|| W::new(0)),
            // Left behind by former readers, far ahead of everything.
            cursors: (0..READERS).map(|_| W::new(start.wrapping_add(1 << 20))).collect(),
        }))
    }

    /// Position (near to `near`) and sequence of each message that a ring of Frames holds, in no order.
    pub fn held(&self, near: u64) -> Vec<(u64, u64)> {
        let message = |header: &FrameHeader<W>| {
            let found = header.stamp.load(Relaxed);
            let ahead = W::distance(found & !3, near.wrapping_mul(4)) >> 2;
            (found & 3 == READY).then(|| (near.wrapping_add(ahead as u64), header.sequence.load(Relaxed)))
        };
        self.0.headers.iter().filter_map(message).collect()
    }
}

// SAFETY: vectors that never change their length; the capacity is a power of two by the tests' choice.
unsafe impl<W: Word> Memory for Ring<W> {
    type Word = W;
    fn capacity(&self) -> usize {
        self.0.headers.len()
    }
    fn control(&self) -> &Control<W> {
        &self.0.control
    }
    fn stamp(&self, index: usize) -> &W {
        &self.0.headers[index].stamp
    }
    fn members(&self) -> Option<&W> {
        self.0.members.as_ref()
    }
    fn cursor(&self, bit: u32) -> Option<&W> {
        self.0.cursors.get(bit as usize)
    }
}

// SAFETY: as for Memory.
unsafe impl<W: Word> WordMemory for Ring<W> {
    fn words(&self, index: usize) -> &[W] {
        &self.0.words[index]
    }
    fn timestamp(&self, index: usize) -> Option<&W> {
        Some(&self.0.timestamps[index])
    }
}

// SAFETY: as for Memory.
unsafe impl<W: Rmw> FrameMemory for Ring<W> {
    fn header(&self, index: usize) -> &FrameHeader<W> {
        &self.0.headers[index]
    }
    fn payload(&self, index: usize) -> *mut u8 {
        self.0.payloads[index].get().cast()
    }
    fn payload_len(&self) -> usize {
        LENGTH
    }
}

/// The message with number `n` of a test: its length and bytes follow from `n`, so that each message can be checked.
pub fn message(n: u64) -> Vec<u8> {
    (0..n % (LENGTH as u64 + 1)).map(|k| (n * 31 + k * 7 + 1) as u8).collect()
}

/// The same, with zeros up to the end of a slot, as Words slots hold it.
pub fn padded(n: u64) -> Vec<u8> {
    let mut bytes = message(n);
    bytes.resize(LENGTH, 0);
    bytes
}
