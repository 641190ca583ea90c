//! Frames slots against the list of what was published. Where a message stands is asked of the slots; what a reader is
//! told of it is not.

use alloc::vec;
use alloc::vec::Vec;

use proptest::collection;
use proptest::prelude::*;

use super::super::super::atomic::{AtomicU32, AtomicU64};
use super::super::{
    Found, FrameMemory, FrameObserver, FrameReader, FrameWriter, Glance, Memory, Ordering, Pin, ReadError, Rmw, Start,
    Tries, WriteError, find, sweep_member, sweep_pins,
};
use super::alloc;
use super::memory::{LENGTH, READERS, Ring, Shape, message};
use super::numbers::STARTS;

/// The most samples that a reader holds.
const HELD: usize = 3;

/// A [`Start`] relative to the next message.
#[derive(Clone, Copy, Debug)]
enum From {
    New,
    Latest,
    Oldest,
    Number(i64),
}

#[derive(Clone, Debug)]
enum Op {
    Publish,
    Batch(usize),
    /// A batch whose writer dies before it has told the end.
    DieInBatch(usize),
    /// A loan that is dropped.
    Claim,
    TakeOver,
    Join(usize, From),
    /// Receives, and lets go at once unless the sample is kept.
    Read(usize, bool),
    /// Receives up to so many and lets them go.
    ReadMany(usize, usize),
    /// Drops one of the samples.
    Drop(usize, usize),
    Leave(usize),
    /// Ends without letting go of anything; somebody sweeps.
    Die(usize),
    Observe,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let reader = || 0..READERS as usize;
    let from = prop_oneof![Just(From::New), Just(From::Latest), Just(From::Oldest), (-40..9i64).prop_map(From::Number)];
    let op = prop_oneof![
        6 => Just(Op::Publish),
        2 => (0..40usize).prop_map(Op::Batch),
        1 => (0..40usize).prop_map(Op::DieInBatch),
        1 => Just(Op::Claim),
        1 => Just(Op::TakeOver),
        3 => (reader(), from).prop_map(|(reader, from)| Op::Join(reader, from)),
        8 => (reader(), any::<bool>()).prop_map(|(reader, keep)| Op::Read(reader, keep)),
        2 => (reader(), 1..20usize).prop_map(|(reader, count)| Op::ReadMany(reader, count)),
        3 => (reader(), 0..HELD).prop_map(|(reader, which)| Op::Drop(reader, which)),
        1 => reader().prop_map(Op::Leave),
        1 => reader().prop_map(Op::Die),
        1 => Just(Op::Observe),
    ];
    collection::vec(op, 1..80)
}

fn shape() -> impl Strategy<Value = Shape> {
    (0..5u32, proptest::sample::select(&STARTS[..]), prop_oneof![Just(0), any::<u64>()], any::<bool>())
        .prop_map(|(log, start, base, lossless)| Shape { capacity: 1 << log, start, base, lossless })
}

/// What becomes of a message that was received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Keep,
    LetGo,
    Lend,
}

struct Reader<W: Rmw> {
    reader: FrameReader<Ring<W>>,
    /// The next message, received or lost, where that is known.
    next: Option<i64>,
    /// As a member, the first message that must come, if one that is there already; `None` once one came.
    owed: Option<i64>,
    /// As a member, the position from which nothing is lost.
    promised: Option<u64>,
    /// Whether it got there: one that asked for a number is told with its first message what was missing before.
    there: bool,
    held: Vec<(Pin, i64)>,
}

struct World<W: Rmw> {
    ring: Ring<W>,
    shape: Shape,
    /// How many were published; they are counted from 0.
    count: i64,
    writer: FrameWriter<Ring<W>>,
    readers: Vec<Option<Reader<W>>>,
}

impl<W: Rmw> World<W> {
    /// The number of the message with this sequence.
    fn number(&self, sequence: u64) -> i64 {
        W::distance(sequence, self.shape.start.wrapping_add(self.shape.base))
    }

    /// The sequence of message `n`.
    fn sequence(&self, n: i64) -> u64 {
        self.shape.start.wrapping_add(self.shape.base).wrapping_add(n as u64)
    }

    /// Position and number of each message in the ring.
    fn held(&self) -> Vec<(u64, i64)> {
        let held = self.ring.held(self.writer.position());
        held.into_iter().map(|(position, sequence)| (position, self.number(sequence))).collect()
    }

    fn holds(&self, n: i64) -> bool {
        self.held().iter().any(|&(_, other)| other == n)
    }

    fn is_pinned(&self, index: usize) -> bool {
        self.ring.header(index).pins.load(Ordering::Relaxed) != 0
    }

    fn fill(&mut self) -> Result<(), WriteError> {
        let free = (0..self.shape.capacity).any(|index| !self.is_pinned(index));
        match self.writer.claim() {
            Ok(index) => {
                assert!(!self.is_pinned(index), "the writer has a slot that is being read");
                self.writer.fill(index, &message(self.count as u64));
                Ok(())
            }
            Err(WriteError::AllPinned) => {
                assert!(!free, "there is a slot that nobody holds");
                Err(WriteError::AllPinned)
            }
            Err(WriteError::Full) => {
                let slowest = self.writer.slowest_member().expect("full, and nobody to wait for");
                let cursor = self.ring.cursor(slowest).unwrap().load(Ordering::Relaxed);
                assert!(W::distance(self.writer.position(), cursor) >= self.shape.capacity as i64);
                Err(WriteError::Full)
            }
        }
    }

    fn put(&mut self) -> Result<(), WriteError> {
        self.fill()?;
        let sequence = self.writer.put(message(self.count as u64).len(), self.count as u64 * 3);
        assert_eq!(self.number(sequence), self.count);
        self.count += 1;
        Ok(())
    }

    fn take_over(&mut self, batch: usize) {
        let skips = self.writer.skips();
        // SAFETY: the last writer is dropped and does nothing then.
        self.writer = unsafe { FrameWriter::new(self.ring.clone(), batch) };
        assert_eq!(W::truncate(skips), W::truncate(self.writer.skips()));
    }

    fn join(&mut self, bit: usize, from: From, batch: usize, stride: usize) {
        self.leave(bit);
        let held = self.held();
        let last = held.iter().map(|&(_, n)| n).max().filter(|&n| n == self.count - 1);
        let (start, wanted) = match from {
            From::New => (Start::New, self.count),
            From::Latest => (Start::Latest, last.unwrap_or(self.count)),
            From::Oldest => (Start::Oldest, held.iter().map(|&(_, n)| n).min().unwrap_or(self.count)),
            From::Number(away) => {
                let n = (self.count + away).max(0);
                (Start::Sequence(self.sequence(n)), n)
            }
        };
        // What a joiner is promised: what stands no further back than a ring, less what the writer may have announced.
        let safe = self.writer.position().wrapping_add(batch as u64).wrapping_sub(self.shape.capacity as u64);
        let owed = held.iter().filter(|&&(p, n)| n >= wanted && W::distance(p, safe) >= 0).map(|&(_, n)| n).min();
        // SAFETY: the bit was free, and no pin has it.
        let reader = unsafe { FrameReader::join(self.ring.clone(), bit as u32, start, stride) };
        let next = reader.next_sequence().map(|sequence| self.number(sequence));
        if !self.shape.lossless || matches!(from, From::Number(_)) {
            assert_eq!(next, Some(wanted), "{from:?}");
        }
        if let Start::Sequence(sequence) = start {
            assert_eq!(reader.next_sequence(), Some(sequence), "the number that was asked for, at full width");
        }
        let cursor = self.ring.cursor(bit as u32).unwrap().load(Ordering::Relaxed);
        let promised = self.shape.lossless.then_some(cursor);
        let owed = owed.filter(|_| self.shape.lossless);
        let there = !matches!(from, From::Number(_));
        self.readers[bit] = Some(Reader { reader, next, owed, promised, there, held: Vec::new() });
    }

    fn let_go(&mut self, bit: usize) {
        if let Some(reader) = &mut self.readers[bit] {
            for (pin, _) in reader.held.drain(..) {
                reader.reader.unpin(pin.index);
            }
        }
    }

    fn leave(&mut self, bit: usize) {
        self.let_go(bit);
        if let Some(mut reader) = self.readers[bit].take() {
            reader.reader.leave();
        }
    }

    fn die(&mut self, bit: usize) {
        if self.readers[bit].take().is_some() {
            // SAFETY: the owner of the bit is gone.
            unsafe {
                sweep_pins(&self.ring, bit as u32);
                sweep_member(&self.ring, bit as u32);
            }
            assert!((0..self.shape.capacity).all(|i| self.ring.header(i).pins.load(Ordering::Relaxed) >> bit & 1 == 0));
        }
    }

    /// One attempt to have the next message lent. The pin it returns is over.
    fn lend(&self, reader: &mut Reader<W>) -> Result<Pin, ReadError> {
        let mut tries = Tries::default();
        loop {
            let position = reader.reader.position();
            let kept = reader.promised.is_some_and(|promised| W::distance(position, promised) >= 0);
            let bit = reader.reader.bit();
            let lent = reader.reader.lend_ready(|pin| {
                let pinned = self.ring.header(pin.index).pins.load(Ordering::Relaxed) >> bit & 1 == 1;
                assert_eq!(pinned, !kept, "a pin that is not needed, or one that is");
                let cursor = self.ring.cursor(bit).unwrap().load(Ordering::Relaxed);
                assert!(
                    pinned || W::distance(cursor, position) <= 0,
                    "the writer was told before the message was read"
                );
                self.check_payload(&pin, self.number(pin.sequence));
                pin
            });
            match lent {
                Some(pin) => return Ok(pin),
                None => reader.reader.find_out(&mut tries)?,
            }
        }
    }

    /// One attempt to receive; returns whether there was a message.
    fn read(&mut self, bit: usize, how: How) -> bool {
        let Some(mut reader) = self.readers[bit].take() else { return false };
        let held = self.held();
        let there = |n: Option<i64>| n.is_some_and(|n| held.iter().any(|&(_, other)| other == n));
        let promised = reader.promised.is_some_and(|p| W::distance(reader.reader.position(), p) >= 0);
        let lossless = promised && reader.there;
        let position = reader.reader.position();
        let stamp = self.ring.stamp(position as usize & (self.shape.capacity - 1)).load(Ordering::Relaxed);
        let lapped = matches!(find::<W>(stamp, position), Found::Later(_));
        let glance = reader.reader.glance();
        let result = if how == How::Lend { self.lend(&mut reader) } else { reader.reader.pin() };
        assert!(glance != Glance::Idle || result == Err(ReadError::Empty));
        match &result {
            Ok(pin) => {
                let n = self.number(pin.sequence);
                assert_eq!(n, reader.next.unwrap_or(n) + pin.lost as i64, "a hole or a duplicate");
                assert!(pin.lost == 0 || lapped || !there(reader.next), "a message that is there was given up");
                assert!(pin.lost == 0 || !lossless, "a member lost a message");
                assert!(reader.owed.take().is_none_or(|owed| n <= owed), "a member lost what it was promised");
                assert_eq!((pin.length, pin.timestamp), (message(n as u64).len(), n as u64 * 3));
                assert!(reader.held.iter().all(|(other, _)| other.index != pin.index), "two samples of one slot");
                reader.there |= promised;
                reader.next = Some(n + 1);
                if how != How::Lend {
                    reader.held.push((*pin, n));
                    self.check_payload(pin, n);
                }
            }
            Err(ReadError::Empty) => {
                let missed = held.iter().any(|&(p, n)| {
                    reader.next.is_none_or(|next| n >= next) && W::distance(p, reader.reader.position()) >= 0
                });
                assert!(!missed, "a message that is there was not found");
                assert_eq!(reader.reader.glance(), Glance::Idle);
            }
            Err(ReadError::Lapped(lost)) => {
                assert!(lapped && !lossless);
                reader.next = reader.next.map(|next| next + *lost as i64);
            }
            Err(ReadError::TooManySamples) => panic!("a held slot was found ready"),
        }
        assert_eq!(reader.reader.next_sequence().map(|sequence| self.number(sequence)), reader.next);
        // Held samples stay, whatever is received and let go after them.
        if reader.held.len() > HELD || (result.is_ok() && how == How::LetGo) {
            let last = reader.held.pop().expect("a sample that was just received");
            reader.reader.unpin(last.0.index);
        }
        self.readers[bit] = Some(reader);
        result.is_ok()
    }

    fn check_payload(&self, pin: &Pin, n: i64) {
        // SAFETY: this thread is the only one, and does not write meanwhile.
        let payload = unsafe { core::slice::from_raw_parts(self.ring.payload(pin.index), pin.length) };
        assert_eq!(payload, message(n as u64), "what is held was overwritten");
    }

    fn check(&self) {
        assert_eq!(self.number(self.writer.next_sequence()), self.count);
        for (pin, n) in self.readers.iter().flatten().flat_map(|reader| &reader.held) {
            self.check_payload(pin, *n);
        }
    }
}

fn a_reader_holds_what_it_reads_and_learns_what_it_lost<W: Rmw>(shape: Shape, batch: usize, stride: usize, ops: &[Op]) {
    let ring = Ring::<W>::new(shape);
    // SAFETY: the only writer.
    let writer = unsafe { FrameWriter::new(ring.clone(), batch) };
    let readers = (0..READERS).map(|_| None).collect();
    let mut observer = (FrameObserver::new(ring.clone(), Start::New), 0);
    let mut world = World { ring, shape, count: 0, writer, readers };
    for op in ops {
        match *op {
            Op::Publish => {
                if world.fill().is_ok() {
                    let n = world.count as u64;
                    let sequence = world.writer.commit(message(n).len(), n * 3);
                    assert_eq!(world.number(sequence), world.count);
                    world.count += 1;
                }
            }
            Op::Batch(count) => {
                let _ = (0..count).try_for_each(|_| world.put());
                world.writer.finish();
            }
            Op::DieInBatch(count) => {
                let _ = (0..count).try_for_each(|_| world.put());
                world.take_over(batch);
            }
            Op::Claim => {
                let _ = world.writer.claim();
            }
            Op::TakeOver => world.take_over(batch),
            Op::Join(bit, from) => world.join(bit, from, batch, stride),
            Op::Read(bit, keep) => {
                world.read(bit, if keep { How::Keep } else { How::LetGo });
            }
            Op::ReadMany(bit, count) => {
                for _ in 0..count {
                    world.read(bit, How::Lend);
                }
            }
            Op::Drop(bit, which) => {
                if let Some(reader) = world.readers[bit].as_mut().filter(|reader| which < reader.held.len()) {
                    reader.reader.unpin(reader.held.remove(which).0.index);
                }
            }
            Op::Leave(bit) => world.leave(bit),
            Op::Die(bit) => world.die(bit),
            Op::Observe => {
                let mut copy = Vec::new();
                let (observer, next) = &mut observer;
                let result = observer.read(|index, length| {
                    // SAFETY: this thread is the only one, and does not write meanwhile.
                    copy = unsafe { core::slice::from_raw_parts(world.ring.payload(index), length) }.to_vec();
                    true
                });
                match result {
                    Ok(meta) => {
                        let n = world.number(meta.sequence);
                        assert_eq!(n, *next + meta.lost as i64);
                        assert_eq!((copy, meta.timestamp), (message(n as u64), n as u64 * 3));
                        *next = n + 1;
                    }
                    // Lapped among skips, it leaves out some that are there, and tells with its next message.
                    Err(_) => assert!(!world.holds(*next) || world.writer.skips() > 0),
                }
            }
        }
        world.check();
    }
    // With one more message comes the count of all that was lost.
    for _ in 0..2 {
        for bit in 0..READERS as usize {
            world.let_go(bit);
            while world.read(bit, How::LetGo) {}
        }
    }
    world.put().expect("nobody holds a slot, and all have been received");
    for bit in 0..READERS as usize {
        for _ in 0..5 {
            world.read(bit, How::LetGo);
        }
        if let Some(Reader { next: Some(next), .. }) = world.readers[bit] {
            assert!(next >= world.count, "published and never told of");
        }
    }
}

proptest! {
    #![proptest_config(super::rounds(10_000))]

    #[test]
    fn a_reader_of_frames_with_narrow_words_holds_what_it_reads_and_learns_what_it_lost(
        shape in shape(), batch in 1..17usize, stride in 1..20usize, ops in ops(),
    ) {
        a_reader_holds_what_it_reads_and_learns_what_it_lost::<AtomicU32>(shape, batch.min(shape.capacity), stride, &ops);
    }

    #[test]
    fn a_reader_of_frames_with_wide_words_holds_what_it_reads_and_learns_what_it_lost(
        shape in shape(), batch in 1..17usize, stride in 1..20usize, ops in ops(),
    ) {
        a_reader_holds_what_it_reads_and_learns_what_it_lost::<AtomicU64>(shape, batch.min(shape.capacity), stride, &ops);
    }
}

fn ring(capacity: usize, lossless: bool) -> Ring<AtomicU64> {
    Ring::new(Shape { capacity, start: 0, base: 0, lossless })
}

fn join(ring: &Ring<AtomicU64>, bit: u32, start: Start) -> FrameReader<Ring<AtomicU64>> {
    // SAFETY: each test gives a bit to one reader.
    unsafe { FrameReader::join(ring.clone(), bit, start, 1) }
}

fn publish(writer: &mut FrameWriter<Ring<AtomicU64>>) -> Result<u64, WriteError> {
    writer.claim()?;
    Ok(writer.commit(LENGTH, 0))
}

#[test]
fn a_batch_takes_no_message_that_it_cannot_publish_and_is_content_with_a_ring_that_it_filled() {
    let ring = ring(4, true);
    // SAFETY: the only writer.
    let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
    let _reader = join(&ring, 0, Start::New);
    let messages = [&b"a"[..], b"b", b"c", b"d", b"e"];
    assert_eq!(writer.publish_batch(&mut messages[..4].iter().copied(), 0), (4, None));
    let mut left = messages[4..].iter().copied();
    assert_eq!(writer.publish_batch(&mut left, 0), (0, Some(WriteError::Full)));
    assert_eq!(left.len(), 1);
}

#[test]
fn a_writer_that_stepped_over_held_slots_waits_for_readers_that_have_not_seen_it() {
    let ring = ring(2, true);
    // SAFETY: the only writer.
    let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
    let mut holder = join(&ring, 0, Start::New);
    let mut idle = join(&ring, 1, Start::New);
    let mut pins = Vec::new();
    for _ in 0..2 {
        publish(&mut writer).unwrap();
        pins.push(holder.pin().unwrap());
        let pin = idle.pin().unwrap();
        idle.unpin(pin.index);
    }
    assert_eq!(publish(&mut writer), Err(WriteError::AllPinned));
    assert_eq!(publish(&mut writer), Err(WriteError::Full));
    for pin in pins {
        holder.unpin(pin.index);
    }
    // Nothing to receive, and yet the writer depends on their looking: whoever sleeps has to be woken when a claim fails.
    assert_eq!(publish(&mut writer), Err(WriteError::Full));
    for reader in [&mut holder, &mut idle] {
        assert!(reader.is_ready());
        assert_eq!(reader.pin(), Err(ReadError::Empty));
        assert!(reader.take_moved());
    }
    assert_eq!(publish(&mut writer), Ok(2));
}

#[test]
fn a_length_that_no_slot_has_is_a_message_lost() {
    let ring = ring(4, false);
    // SAFETY: the only writer.
    let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
    let mut reader = join(&ring, 0, Start::New);
    publish(&mut writer).unwrap();
    publish(&mut writer).unwrap();
    ring.header(0).length.store(LENGTH as u64 + 1, Ordering::Relaxed);
    let pin = reader.pin().unwrap();
    assert_eq!((pin.sequence, pin.lost), (1, 1));
    assert_eq!(ring.header(0).pins.load(Ordering::Relaxed), 0);
}

#[test]
fn a_pin_that_is_already_there_is_refused() {
    let ring = ring(4, false);
    // SAFETY: the only writer.
    let mut writer = unsafe { FrameWriter::new(ring.clone(), 1) };
    let mut reader = join(&ring, 0, Start::New);
    publish(&mut writer).unwrap();
    ring.header(0).pins.fetch_or(1, Ordering::Relaxed);
    assert_eq!(reader.pin(), Err(ReadError::TooManySamples));
}

#[test]
#[should_panic = "without a claim"]
fn nothing_is_published_without_a_claim() {
    // SAFETY: the only writer.
    unsafe { FrameWriter::new(ring(4, false), 1) }.commit(0, 0);
}

#[test]
#[should_panic = "longer than"]
fn nothing_longer_than_a_slot_is_published() {
    // SAFETY: the only writer.
    let mut writer = unsafe { FrameWriter::new(ring(4, false), 1) };
    writer.claim().unwrap();
    writer.commit(LENGTH + 1, 0);
}
