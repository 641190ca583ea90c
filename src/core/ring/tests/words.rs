//! Words slots against a vector of what was published.

use alloc::{vec, vec::Vec};

use proptest::collection;
use proptest::prelude::*;

use super::super::super::atomic::{AtomicU32, AtomicU64};
use super::super::{
    Glance, Memory, Meta, Ordering, ReadError, Rmw, Start, Tries, Word, WordReader, WordWriter, WriteError,
};
use super::alloc;
use super::memory::{LENGTH, READERS, Ring, Shape, message, padded};
use super::numbers::STARTS;

/// A [`Start`] relative to the next message.
#[derive(Clone, Copy, Debug)]
enum From {
    New,
    Latest,
    Oldest,
    Number(i64),
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![Just(From::New), Just(From::Latest), Just(From::Oldest), (-40..9i64).prop_map(From::Number)]
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
    Read(usize),
    ReadMany(usize, usize),
    Leave(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let reader = || 0..READERS as usize;
    let op = prop_oneof![
        6 => Just(Op::Publish),
        2 => (0..40usize).prop_map(Op::Batch),
        1 => (0..40usize).prop_map(Op::DieInBatch),
        1 => Just(Op::Claim),
        1 => Just(Op::TakeOver),
        3 => (reader(), from()).prop_map(|(reader, from)| Op::Join(reader, from)),
        8 => reader().prop_map(Op::Read),
        3 => (reader(), 1..20usize).prop_map(|(reader, count)| Op::ReadMany(reader, count)),
        1 => reader().prop_map(Op::Leave),
    ];
    collection::vec(op, 1..80)
}

fn shape(lossless: bool) -> impl Strategy<Value = Shape> {
    (0..5u32, proptest::sample::select(&STARTS[..]), prop_oneof![Just(0), any::<u64>()])
        .prop_map(move |(log, start, base)| Shape { capacity: 1 << log, start, base, lossless })
}

/// What was published, counted from 0.
#[derive(Clone, Copy, Debug)]
struct Plain {
    shape: Shape,
    count: i64,
    /// Whether the slot of the next message is claimed, so that what it held is gone.
    claimed: bool,
}

impl Plain {
    fn holds(&self, n: i64) -> bool {
        let capacity = self.shape.capacity as i64;
        (0.max(self.count + i64::from(self.claimed) - capacity)..self.count).contains(&n)
    }

    /// The sequence of message `n`.
    fn sequence(&self, n: i64) -> u64 {
        self.shape.start.wrapping_add(self.shape.base).wrapping_add(n as u64)
    }

    fn start(&self, from: From) -> (Start, i64) {
        let last = self.count - 1;
        match from {
            From::New => (Start::New, self.count),
            From::Latest => (Start::Latest, if self.holds(last) { last } else { self.count }),
            From::Oldest => (Start::Oldest, (0..self.count).find(|&n| self.holds(n)).unwrap_or(self.count)),
            From::Number(away) => {
                let n = (self.count + away).max(0);
                (Start::Sequence(self.sequence(n)), n)
            }
        }
    }

    /// What a reader that nobody waits for gets, who wants message `n`, and where it stands then: lapped, it goes on
    /// three quarters of a ring behind the writer, and after four laps it only says how many it lost.
    fn read(&self, mut n: i64) -> (Result<(i64, u64), ReadError>, i64) {
        let capacity = self.shape.capacity as i64;
        let mut lost = 0;
        for tries in 0.. {
            if self.holds(n) {
                return (Ok((n, lost)), n + 1);
            }
            if n >= self.count || tries == 4 {
                return (Err(if lost > 0 { ReadError::Lapped(lost) } else { ReadError::Empty }), n);
            }
            let resumed = (self.count - (capacity - capacity / 4)).max(n + 1);
            lost += (resumed - n) as u64;
            n = resumed;
        }
        unreachable!()
    }
}

/// Whether two numbers are the same to words of this width.
fn same<W: Word>(a: u64, b: u64) -> bool {
    W::truncate(a) == W::truncate(b)
}

/// Reads into a target that is longer than a slot, and checks what came against the plain model.
fn read_and_check<W: Word>(reader: &mut WordReader<Ring<W>>, plain: &Plain) -> Result<(i64, u64), ReadError> {
    let before = reader.next_sequence();
    let mut target = [0xAA; LENGTH + 30];
    let Meta { sequence, timestamp, length, lost } = reader.read(&mut target)?;
    assert_eq!(sequence, before.wrapping_add(lost), "numbers without a gap but for what was lost");
    assert_eq!(reader.next_sequence(), sequence.wrapping_add(1));
    let n = W::distance(sequence, plain.sequence(0));
    assert_eq!(&target[..LENGTH], padded(n as u64), "message {n}");
    assert_eq!(length, LENGTH.next_multiple_of(W::BYTES), "a slot's length");
    assert!(target[length..].iter().all(|&byte| byte == 0xAA), "nothing is written behind a slot's length");
    assert_eq!(timestamp, W::truncate(n as u64 * 3));
    Ok((n, lost))
}

/// Reads a batch of up to `limit` messages, and says why it was not more.
fn read_batch<W: Word>(
    reader: &mut WordReader<Ring<W>>,
    limit: usize,
) -> (Vec<(Meta, [u8; LENGTH])>, Option<ReadError>) {
    let mut read = Vec::new();
    let mut tries = Tries::default();
    loop {
        let before = read.len();
        let count = reader.read_batch::<[u8; LENGTH]>(limit - before, LENGTH, |copy, meta| {
            // SAFETY: all of it was written.
            read.push((meta, unsafe { copy.assume_init() }));
        });
        assert_eq!(read.len() - before, count);
        if read.len() == limit {
            return (read, None);
        }
        if let Err(error) = reader.find_out(&mut tries) {
            return (read, Some(error));
        }
    }
}

fn put<W: Word>(writer: &mut WordWriter<Ring<W>>, n: i64) {
    writer.claim().unwrap();
    writer.put(&message(n as u64), n as u64 * 3);
}

fn a_reader_gets_each_message_once_or_learns_how_many_it_lost<W: Word>(shape: Shape, ops: &[Op]) {
    let ring = Ring::<W>::new(shape);
    let mut plain = Plain { shape, count: 0, claimed: false };
    // SAFETY: one writer at a time.
    let new_writer = || unsafe { WordWriter::new(ring.clone()) };
    let mut writer = new_writer();
    let mut readers: Vec<Option<(WordReader<Ring<W>>, i64)>> = (0..READERS).map(|_| None).collect();
    for op in ops {
        match *op {
            Op::Publish => {
                let n = plain.count as u64;
                let sequence = writer.publish(&message(n), n * 3).unwrap();
                assert!(same::<W>(sequence, plain.sequence(plain.count)));
                (plain.count, plain.claimed) = (plain.count + 1, true);
            }
            Op::Batch(count) => {
                // One timestamp for all of a batch: so one by one, as the batch does it.
                for _ in 0..count {
                    put(&mut writer, plain.count);
                    (plain.count, plain.claimed) = (plain.count + 1, false);
                }
                writer.finish();
                plain.claimed = true;
            }
            Op::DieInBatch(count) => {
                for _ in 0..count {
                    put(&mut writer, plain.count);
                    (plain.count, plain.claimed) = (plain.count + 1, false);
                }
                writer = new_writer();
            }
            Op::Claim => {
                writer.claim().unwrap();
                plain.claimed = true;
            }
            Op::TakeOver => writer = new_writer(),
            Op::Join(index, from) => {
                let (start, n) = plain.start(from);
                let reader = WordReader::new(ring.clone(), start);
                assert!(same::<W>(reader.next_sequence(), plain.sequence(n)), "{from:?}");
                if let Start::Sequence(sequence) = start {
                    assert_eq!(reader.next_sequence(), sequence, "the number that was asked for, at full width");
                }
                readers[index] = Some((reader, n));
            }
            Op::Read(index) => {
                let Some((reader, n)) = &mut readers[index] else { continue };
                let (expected, next) = plain.read(*n);
                assert_eq!(reader.is_ready(), *n < plain.count);
                assert_eq!(reader.lag(), (plain.count - *n).max(0) as u64);
                assert_eq!(reader.glance() == Glance::Ready, plain.holds(*n));
                assert!(reader.glance() != Glance::Idle || *n >= plain.count);
                assert_eq!(read_and_check(reader, &plain), expected);
                *n = next;
                assert!(expected != Err(ReadError::Empty) || reader.glance() == Glance::Idle);
            }
            Op::ReadMany(index, limit) => {
                let Some((reader, n)) = &mut readers[index] else { continue };
                let (read, end) = read_batch(reader, limit);
                for (meta, bytes) in &read {
                    let (expected, next) = plain.read(*n);
                    assert_eq!(expected, Ok((W::distance(meta.sequence, plain.sequence(0)), meta.lost)));
                    assert_eq!(bytes[..], padded(next as u64 - 1)[..LENGTH]);
                    assert_eq!(meta.timestamp, W::truncate((next - 1) as u64 * 3));
                    *n = next;
                }
                if read.len() < limit {
                    let (expected, next) = plain.read(*n);
                    assert_eq!(expected.err(), end);
                    *n = next;
                }
                assert!(same::<W>(reader.next_sequence(), plain.sequence(*n)));
            }
            Op::Leave(index) => readers[index] = None,
        }
        assert!(same::<W>(writer.next_sequence(), plain.sequence(plain.count)));
    }
}

/// A member of a lossless ring: the message it wants next, and what its shared cursor says.
struct Member<W: Rmw> {
    reader: WordReader<Ring<W>>,
    next: i64,
    shared: i64,
    stride: i64,
    /// The message from which it was promised everything.
    promised: i64,
}

fn a_member_loses_nothing_and_a_full_ring_destroys_nothing<W: Rmw>(
    shape: Shape,
    batch: usize,
    stride: usize,
    ops: &[Op],
) {
    let capacity = shape.capacity as i64;
    let ring = Ring::<W>::new(shape);
    let mut plain = Plain { shape, count: 0, claimed: false };
    // SAFETY: one writer at a time.
    let new_writer = || unsafe { WordWriter::with_gate(ring.clone(), batch) };
    let mut writer = new_writer();
    let mut members: Vec<Option<Member<W>>> = (0..READERS).map(|_| None).collect();
    let room = |members: &[Option<Member<W>>], count: i64| {
        members.iter().flatten().map(|member| member.shared + capacity - count).min().unwrap_or(i64::MAX)
    };
    for op in ops {
        let before = plain.count;
        match *op {
            Op::Publish => {
                let n = plain.count as u64;
                match writer.publish(&message(n), n * 3) {
                    Ok(sequence) => {
                        assert!(room(&members, plain.count) > 0);
                        assert!(same::<W>(sequence, plain.sequence(plain.count)));
                        plain.count += 1;
                    }
                    Err(error) => {
                        assert_eq!(error, WriteError::Full);
                        assert!(room(&members, plain.count) <= 0, "full though nobody wants the oldest message");
                        let slowest = writer.slowest_member().unwrap() as usize;
                        let least = members.iter().flatten().map(|member| member.shared).min();
                        assert_eq!(members[slowest].as_ref().map(|member| member.shared), least);
                    }
                }
            }
            Op::Batch(count) | Op::DieInBatch(count) => {
                let room = room(&members, plain.count).max(0);
                let fit = room.min(count as i64);
                if let Op::DieInBatch(_) = op {
                    for _ in 0..fit {
                        put(&mut writer, plain.count);
                        plain.count += 1;
                    }
                    writer = new_writer();
                } else {
                    let messages: Vec<_> = (before..before + count as i64).map(|n| message(n as u64)).collect();
                    let mut left = messages.iter().map(|message| &message[..]);
                    // One timestamp serves all: members look at it no further than this.
                    let (published, end) = writer.publish_batch(&mut left, before as u64 * 3);
                    assert_eq!(published as i64, fit);
                    assert_eq!(end, (fit < count as i64).then_some(WriteError::Full));
                    assert_eq!(left.len(), count - published, "a message was taken and not published");
                    plain.count += fit;
                }
            }
            Op::Claim => {
                assert_eq!(writer.claim().is_ok(), room(&members, plain.count) > 0);
            }
            Op::TakeOver => writer = new_writer(),
            Op::Join(index, from) => {
                if let Some(mut member) = members[index].take() {
                    member.reader.leave();
                }
                // What is claimed is not known here: no more than this much history is gone.
                let announced = Plain { claimed: true, ..plain };
                let (start, mut wanted) = announced.start(from);
                // SAFETY: the bit has one owner.
                let mut reader = unsafe { WordReader::join(ring.clone(), index as u32, start, stride) };
                let next = W::distance(reader.next_sequence(), plain.sequence(0));
                // Where the shared cursor stands.
                let promised = W::distance(ring.cursor(index as u32).unwrap().load(Ordering::Relaxed), shape.start);
                if matches!(from, From::Latest | From::Oldest) {
                    wanted = wanted.min(next);
                }
                assert!(promised <= wanted.max(plain.count + batch as i64 - capacity), "a promise that comes too late");
                assert!(promised >= next);
                if let From::Number(_) = from {
                    assert_eq!(next, wanted);
                } else {
                    assert_eq!(next, promised);
                }
                assert!(!reader.take_moved() || promised != wanted || matches!(from, From::Latest | From::Oldest));
                members[index] = Some(Member { reader, next, shared: promised, stride: stride as i64, promised });
            }
            Op::Read(index) | Op::ReadMany(index, _) => {
                let Some(member) = &mut members[index] else { continue };
                let (read, end) = if let Op::ReadMany(_, limit) = *op {
                    read_batch(&mut member.reader, limit)
                } else {
                    let mut bytes = [0; LENGTH];
                    match member.reader.read(&mut bytes) {
                        Ok(meta) => (vec![(meta, bytes)], None),
                        Err(error) => (Vec::new(), Some(error)),
                    }
                };
                let shared = member.shared;
                for (meta, bytes) in read {
                    let n = W::distance(meta.sequence, plain.sequence(0));
                    assert_eq!(n, member.next + meta.lost as i64);
                    // Before the promise it gets what is still there.
                    assert!(meta.lost == 0 || n <= member.promised, "a member lost a message");
                    assert_eq!(bytes[..], padded(n as u64)[..LENGTH]);
                    member.next = n + 1;
                    if member.next - member.shared >= member.stride.min(capacity) {
                        member.shared = member.next;
                    }
                }
                if let Some(error) = end {
                    if let ReadError::Lapped(lost) = error {
                        member.next += lost as i64;
                        assert!(member.next <= member.promised, "a member lost a message");
                    } else {
                        assert_eq!(error, ReadError::Empty);
                    }
                    assert!(member.next >= plain.count, "a message that is there was not found");
                    member.shared = member.shared.max(member.next);
                }
                let cursor = ring.cursor(index as u32).unwrap().load(Ordering::Relaxed);
                assert_eq!(W::distance(cursor, shape.start), member.shared);
                assert_eq!(member.reader.take_moved(), member.shared != shared);
            }
            Op::Leave(index) => {
                if let Some(mut member) = members[index].take() {
                    member.reader.leave();
                    assert!(member.reader.take_moved());
                }
            }
        }
        assert!(same::<W>(writer.next_sequence(), plain.sequence(plain.count)));
    }
    // All that was promised is still there.
    for member in members.iter_mut().flatten() {
        let mut target = [0; LENGTH];
        while let Ok(meta) = member.reader.read(&mut target) {
            let n = W::distance(meta.sequence, plain.sequence(0));
            assert!(n == member.next || (n > member.next && n <= member.promised));
            assert_eq!(target[..], padded(n as u64));
            member.next = n + 1;
        }
        assert!(member.next.max(member.promised) >= plain.count);
    }
}

proptest! {
    #![proptest_config(super::rounds(10_000))]

    #[test]
    fn a_reader_of_narrow_words_gets_each_message_once_or_learns_how_many_it_lost(shape in shape(false), ops in ops()) {
        a_reader_gets_each_message_once_or_learns_how_many_it_lost::<AtomicU32>(shape, &ops);
    }

    #[test]
    fn a_reader_of_wide_words_gets_each_message_once_or_learns_how_many_it_lost(shape in shape(false), ops in ops()) {
        a_reader_gets_each_message_once_or_learns_how_many_it_lost::<AtomicU64>(shape, &ops);
    }

    #[test]
    fn a_member_of_narrow_words_loses_nothing_and_a_full_ring_destroys_nothing(
        shape in shape(true), batch in 1..17usize, stride in 1..20usize, ops in ops(),
    ) {
        let batch = batch.min(shape.capacity);
        a_member_loses_nothing_and_a_full_ring_destroys_nothing::<AtomicU32>(shape, batch, stride, &ops);
    }

    #[test]
    fn a_member_of_wide_words_loses_nothing_and_a_full_ring_destroys_nothing(
        shape in shape(true), batch in 1..17usize, stride in 1..20usize, ops in ops(),
    ) {
        let batch = batch.min(shape.capacity);
        a_member_loses_nothing_and_a_full_ring_destroys_nothing::<AtomicU64>(shape, batch, stride, &ops);
    }
}

#[test]
fn a_reader_that_asks_for_what_was_before_the_ring_is_told_with_the_first_message() {
    let ring = Ring::<AtomicU64>::new(Shape { capacity: 64, start: 0, base: 1000, lossless: false });
    // SAFETY: the only writer.
    let mut writer = unsafe { WordWriter::new(ring.clone()) };
    let mut reader = WordReader::new(ring.clone(), Start::Sequence(900));
    let mut target = [0; LENGTH];
    assert_eq!(reader.read(&mut target), Err(ReadError::Lapped(100)));
    assert_eq!(reader.read(&mut target), Err(ReadError::Empty));
    let mut late = WordReader::new(ring, Start::Sequence(990));
    for n in 0..3 {
        writer.publish(&message(n), n * 3).unwrap();
    }
    assert_eq!(reader.read(&mut target).map(|meta| (meta.sequence, meta.lost)), Ok((1000, 0)));
    assert_eq!(late.read(&mut target).map(|meta| (meta.sequence, meta.lost)), Ok((1000, 10)));
}
