//! Rings made of loom's atomics, a writer that dies at a chosen store, and a reader that checks the numbers.

use std::cell::Cell;
use std::sync::Arc;

use loom::cell::UnsafeCell;

use crate::core::atomic::{AtomicU64, Ordering, Rmw, Word};
use crate::core::ring::{
    Control, FrameHeader, FrameMemory, FrameReader, FrameWriter, Memory, Pin, ReadError, WordMemory, WordReader,
    WordWriter, WriteError,
};

/// What the members of a lossless ring share with its writer.
struct Members {
    present: AtomicU64,
    cursors: Vec<AtomicU64>,
}

impl Members {
    /// Nobody is a member. The cursors are what former members left: far ahead.
    fn new() -> Self {
        Members { present: AtomicU64::new(0), cursors: (0..2).map(|_| AtomicU64::new(1 << 20)).collect() }
    }
}

/// A ring of Words slots with two words each.
#[derive(Clone)]
pub struct Words(Arc<WordsInner>);

struct WordsInner {
    control: Control<AtomicU64>,
    slots: Vec<WordSlot>,
    members: Option<Members>,
}

struct WordSlot {
    stamp: AtomicU64,
    timestamp: AtomicU64,
    words: [AtomicU64; 2],
}

impl Words {
    pub fn new(capacity: usize) -> Self {
        Self::build(capacity, None)
    }

    pub fn lossless(capacity: usize) -> Self {
        Self::build(capacity, Some(Members::new()))
    }

    fn build(capacity: usize, members: Option<Members>) -> Self {
        let word = || AtomicU64::new(0);
        let slot = || WordSlot { stamp: word(), timestamp: word(), words: [word(), word()] };
        let slots = (0..capacity).map(|_| slot()).collect();
        Words(Arc::new(WordsInner { control: Control::new(0, 0), slots, members }))
    }
}

unsafe impl Memory for Words {
    type Word = AtomicU64;
    fn capacity(&self) -> usize {
        self.0.slots.len()
    }
    fn control(&self) -> &Control<AtomicU64> {
        &self.0.control
    }
    fn stamp(&self, index: usize) -> &AtomicU64 {
        &self.0.slots[index].stamp
    }
    fn members(&self) -> Option<&AtomicU64> {
        self.0.members.as_ref().map(|members| &members.present)
    }
    fn cursor(&self, bit: u32) -> Option<&AtomicU64> {
        self.0.members.as_ref()?.cursors.get(bit as usize)
    }
}

unsafe impl WordMemory for Words {
    fn words(&self, index: usize) -> &[AtomicU64] {
        &self.0.slots[index].words
    }
    fn timestamp(&self, index: usize) -> Option<&AtomicU64> {
        Some(&self.0.slots[index].timestamp)
    }
}

/// A ring of Frames slots. A payload is one cell that allows one writer or many readers at a time.
#[derive(Clone)]
pub struct Frames(Arc<FramesInner>);

struct FramesInner {
    control: Control<AtomicU64>,
    slots: Vec<FrameSlot>,
    members: Option<Members>,
}

struct FrameSlot {
    header: FrameHeader<AtomicU64>,
    payload: UnsafeCell<u64>,
    /// What an observer copies in the payload's place, as it may while somebody writes.
    shadow: AtomicU64,
}

impl Frames {
    pub fn new(capacity: usize) -> Self {
        Self::build(capacity, None)
    }

    pub fn lossless(capacity: usize) -> Self {
        Self::build(capacity, Some(Members::new()))
    }

    fn build(capacity: usize, members: Option<Members>) -> Self {
        let slot = || FrameSlot { header: FrameHeader::new(0), payload: UnsafeCell::new(0), shadow: AtomicU64::new(0) };
        let slots = (0..capacity).map(|_| slot()).collect();
        // The threads of a model take turns, and its `spawn` asks for no `Send`.
        #[allow(clippy::arc_with_non_send_sync)]
        Frames(Arc::new(FramesInner { control: Control::new(0, 0), slots, members }))
    }

    /// The payload of a slot as its writer and who pins it may see it.
    pub fn cell(&self, index: usize) -> &UnsafeCell<u64> {
        &self.0.slots[index].payload
    }

    /// The payload as an observer may see it.
    pub fn shadow(&self, index: usize) -> &AtomicU64 {
        &self.0.slots[index].shadow
    }
}

unsafe impl Memory for Frames {
    type Word = AtomicU64;
    fn capacity(&self) -> usize {
        self.0.slots.len()
    }
    fn control(&self) -> &Control<AtomicU64> {
        &self.0.control
    }
    fn stamp(&self, index: usize) -> &AtomicU64 {
        &self.header(index).stamp
    }
    fn members(&self) -> Option<&AtomicU64> {
        self.0.members.as_ref().map(|members| &members.present)
    }
    fn cursor(&self, bit: u32) -> Option<&AtomicU64> {
        self.0.members.as_ref()?.cursors.get(bit as usize)
    }
}

unsafe impl FrameMemory for Frames {
    fn header(&self, index: usize) -> &FrameHeader<AtomicU64> {
        &self.0.slots[index].header
    }
    /// The kernel hands this pointer out and never follows it; models use [`Frames::cell`].
    fn payload(&self, _: usize) -> *mut u8 {
        std::ptr::null_mut()
    }
    fn payload_len(&self) -> usize {
        8
    }
}

/// The messages of all models: `by` tells who wrote it, and the words of one message belong together.
pub fn message(by: u64, sequence: u64) -> [u8; 16] {
    let first = by * 1000 + sequence;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_ne_bytes());
    bytes[8..].copy_from_slice(&(first + 500).to_ne_bytes());
    bytes
}

/// Publishes what [`message`] gives, with a timestamp that belongs to it.
pub fn publish_words<M: WordMemory>(writer: &mut WordWriter<M>, by: u64) -> Result<u64, WriteError> {
    let sequence = writer.next_sequence();
    writer.publish(&message(by, sequence), by * 1000 + sequence)
}

/// Frames as one of their writers sees them.
pub trait Payloads: FrameMemory {
    /// `None` if the one who asks is dead and must not touch it.
    fn frames(&self) -> Option<&Frames>;
}

impl Payloads for Frames {
    fn frames(&self) -> Option<&Frames> {
        Some(self)
    }
}

/// Claims a slot and writes its payload as the only one who may.
pub fn fill_frame<M: Payloads>(writer: &mut FrameWriter<M>, by: u64) -> Result<(), WriteError> {
    let index = writer.claim()?;
    if let Some(frames) = writer.memory().frames() {
        let value = by * 1000 + writer.next_sequence();
        // SAFETY: the cell itself checks that nobody else is in it.
        frames.cell(index).with_mut(|payload| unsafe { *payload = value });
        Word::store(frames.shadow(index), value, Ordering::Relaxed);
    }
    Ok(())
}

/// Fills and publishes a frame; its timestamp belongs to it.
pub fn publish_frame<M: Payloads>(writer: &mut FrameWriter<M>, by: u64) -> Result<u64, WriteError> {
    fill_frame(writer, by)?;
    let sequence = writer.next_sequence();
    Ok(writer.commit(8, by * 1000 + sequence))
}

/// A reader of Words slots whose every answer is checked: whole messages, each once, in order, losses exact.
pub struct CheckedWords {
    pub reader: WordReader<Words>,
    /// The sequence of the next message, received or lost.
    pub next: u64,
    pub lost: u64,
    /// Who wrote the last message that was received.
    pub last_by: u64,
}

impl CheckedWords {
    pub fn new(reader: WordReader<Words>) -> Self {
        let next = reader.next_sequence();
        CheckedWords { reader, next, lost: 0, last_by: 0 }
    }

    /// One attempt; returns the sequence that was read.
    pub fn read(&mut self) -> Result<u64, ReadError> {
        let mut bytes = [0; 16];
        let result = self.reader.read(&mut bytes);
        match &result {
            Ok(meta) => {
                assert_eq!(meta.sequence, self.next + meta.lost, "a hole, a duplicate or a wrong count");
                let by = meta.timestamp / 1000;
                assert_eq!((bytes, meta.timestamp), (message(by, meta.sequence), by * 1000 + meta.sequence), "torn");
                self.next = meta.sequence + 1;
                self.lost += meta.lost;
                self.last_by = by;
            }
            Err(ReadError::Lapped(lost)) => {
                assert!(*lost > 0);
                self.next += lost;
                self.lost += lost;
            }
            Err(_) => {}
        }
        assert_eq!(self.reader.next_sequence(), self.next);
        result.map(|meta| meta.sequence)
    }

    /// Reads what is left, when nobody writes any more, up to the message before `end`.
    pub fn drain_to(&mut self, end: u64) {
        while self.read() != Err(ReadError::Empty) {}
        assert_eq!(self.next, end, "published and never told of");
    }
}

/// A reader of Frames slots whose every answer is checked.
pub struct CheckedFrames {
    pub reader: FrameReader<Frames>,
    /// The sequence of the next message, received or lost, where known.
    pub next: Option<u64>,
    pub lost: u64,
}

/// A pinned frame, read as long as it is held.
#[derive(Debug)]
pub struct Held {
    memory: Frames,
    pub index: usize,
    pub sequence: u64,
    stamped: u64,
}

impl Held {
    /// Reads the payload in place.
    pub fn check(&self) {
        // SAFETY: the cell itself checks that nobody writes to it.
        let value = self.memory.cell(self.index).with(|payload| unsafe { *payload });
        assert_eq!(value % 1000, self.sequence, "another message's payload");
        assert_eq!(value, self.stamped, "another message's timestamp");
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frames")
    }
}

impl CheckedFrames {
    pub fn new(reader: FrameReader<Frames>) -> Self {
        let next = reader.next_sequence();
        CheckedFrames { reader, next, lost: 0 }
    }

    /// One attempt to pin the next message.
    pub fn pin(&mut self) -> Result<Held, ReadError> {
        let result = self.reader.pin();
        match &result {
            Ok(pin) => {
                assert_eq!(pin.length, 8);
                self.took(pin.sequence, pin.lost);
            }
            Err(ReadError::Lapped(lost)) => {
                self.next = self.next.map(|next| next + lost);
                self.lost += lost;
            }
            Err(ReadError::TooManySamples) => panic!("a held slot was found ready"),
            Err(ReadError::Empty) => {}
        }
        assert_eq!(self.reader.next_sequence(), self.next);
        let memory = self.reader.memory().clone();
        result.map(|pin| Held { memory, index: pin.index, sequence: pin.sequence, stamped: pin.timestamp })
    }

    /// One attempt to read and let go.
    pub fn read(&mut self) -> Result<u64, ReadError> {
        let held = self.pin()?;
        held.check();
        self.reader.unpin(held.index);
        Ok(held.sequence)
    }

    /// One attempt to read the next message while it is lent, if it is there.
    pub fn lend(&mut self) -> Option<u64> {
        let memory = self.reader.memory().clone();
        let read = |pin: Pin| {
            Held { memory, index: pin.index, sequence: pin.sequence, stamped: pin.timestamp }.check();
            pin
        };
        let pin = self.reader.lend_ready(read)?;
        self.took(pin.sequence, pin.lost);
        Some(pin.sequence)
    }

    fn took(&mut self, sequence: u64, lost: u64) {
        let next = self.next.unwrap_or(sequence);
        assert_eq!(sequence, next + lost, "a hole, a duplicate or a wrong count");
        self.next = Some(sequence + 1);
        self.lost += lost;
    }

    /// Publishes one more message and reads what is left. With it comes the count of all that was lost.
    pub fn drain_after_one_more<M: Payloads>(&mut self, writer: &mut FrameWriter<M>) {
        fill_frame(writer, 9).unwrap();
        // Without the next claim, which in a ring of one would wipe it out.
        let last = writer.put(8, 9000 + writer.next_sequence());
        for _ in 0..20 {
            if self.read() == Ok(last) {
                return;
            }
        }
        panic!("message {last} was never received, only those before {:?}", self.next);
    }
}

thread_local! {
    /// How many more stores the dying writer makes. The threads of a model are coroutines of one thread, and a model
    /// has one such writer.
    static STORES_LEFT: Cell<usize> = const { Cell::new(0) };
}

/// A ring as a writer sees it that dies after some store: later ones go nowhere.
#[derive(Clone)]
pub struct Dying<M>(M);

impl<M> Dying<M> {
    /// `stores` is how many stores and read-modify-writes still happen.
    pub fn new(memory: M, stores: usize) -> Self {
        STORES_LEFT.set(stores);
        Dying(memory)
    }
}

/// Whether the dying writer is dead.
pub fn is_dead() -> bool {
    STORES_LEFT.get() == 0
}

/// A word whose writer may be dead.
#[repr(transparent)]
#[derive(Debug)]
pub struct DyingWord(AtomicU64);

fn dying_word(word: &AtomicU64) -> &DyingWord {
    // SAFETY: the one is a transparent wrapper of the other.
    unsafe { &*(&raw const *word).cast() }
}

/// Whether one more store happens.
fn spend() -> bool {
    let left = STORES_LEFT.get();
    STORES_LEFT.set(left.saturating_sub(1));
    left > 0
}

impl crate::core::atomic::sealed::Sealed for DyingWord {}

impl Word for DyingWord {
    const BITS: u32 = 64;
    fn new(value: u64) -> Self {
        DyingWord(AtomicU64::new(value))
    }
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }
    fn store(&self, value: u64, order: Ordering) {
        if spend() {
            self.0.store(value, order);
        }
    }
    unsafe fn read_bytes(source: *const u8) -> u64 {
        // SAFETY: handed on from the caller.
        unsafe { AtomicU64::read_bytes(source) }
    }
    unsafe fn write_bytes(value: u64, target: *mut u8) {
        // SAFETY: handed on from the caller.
        unsafe { AtomicU64::write_bytes(value, target) }
    }
}

impl Rmw for DyingWord {
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        if spend() {
            return self.0.compare_exchange(current, new, success, failure);
        }
        // The dead claim nothing: what they would do with it goes nowhere either.
        Err(0)
    }
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        if spend() { self.0.fetch_or(bits, order) } else { 0 }
    }
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        if spend() { self.0.fetch_and(bits, order) } else { 0 }
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        if spend() { self.0.fetch_add(value, order) } else { 0 }
    }
}

unsafe impl<M: Memory<Word = AtomicU64>> Memory for Dying<M> {
    type Word = DyingWord;
    fn capacity(&self) -> usize {
        self.0.capacity()
    }
    fn control(&self) -> &Control<DyingWord> {
        // SAFETY: the two differ by a transparent wrapper in a `repr(C)` struct.
        unsafe { &*(&raw const *self.0.control()).cast() }
    }
    fn stamp(&self, index: usize) -> &DyingWord {
        dying_word(self.0.stamp(index))
    }
    fn members(&self) -> Option<&DyingWord> {
        self.0.members().map(dying_word)
    }
    fn cursor(&self, bit: u32) -> Option<&DyingWord> {
        self.0.cursor(bit).map(dying_word)
    }
}

unsafe impl WordMemory for Dying<Words> {
    fn words(&self, index: usize) -> &[DyingWord] {
        let words = self.0.words(index);
        // SAFETY: the one is a transparent wrapper of the other.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }
    fn timestamp(&self, index: usize) -> Option<&DyingWord> {
        self.0.timestamp(index).map(dying_word)
    }
}

unsafe impl FrameMemory for Dying<Frames> {
    fn header(&self, index: usize) -> &FrameHeader<DyingWord> {
        // SAFETY: the two differ by a transparent wrapper in a `repr(C)` struct.
        unsafe { &*(&raw const *self.0.header(index)).cast() }
    }
    fn payload(&self, index: usize) -> *mut u8 {
        self.0.payload(index)
    }
    fn payload_len(&self) -> usize {
        self.0.payload_len()
    }
}

impl Payloads for Dying<Frames> {
    fn frames(&self) -> Option<&Frames> {
        (!is_dead()).then_some(&self.0)
    }
}
