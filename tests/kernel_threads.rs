//! The kernel alone, between threads: whatever one writer and several readers do at the same time, each reader gets
//! whole messages in order, and what it received and what it was told of as lost make up all that was published.
//!
//! Nothing here waits for a time: who finds nothing lets the others run, and looks again while the writer is at work.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Passed, SyncSender, sync_channel};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread::{self, yield_now};

use conduit::ring::{
    FrameRing, FrameRingReader, FrameRingReaders, FrameRingWriter, FrameSample, ReadError, Received, Start, WordRing,
    WordRingReader, WordRingReaders, WordRingWriter, WriteError,
};

/// `full` repetitions, or the part of them that `CONDUIT_ROUNDS` asks for, in percent; 10 % unless told.
fn rounds(full: u64) -> u64 {
    let percent = std::env::var("CONDUIT_ROUNDS").map_or(10, |rounds| rounds.parse().expect("CONDUIT_ROUNDS: percent"));
    (full * percent).div_ceil(100).max(1)
}

/// Has one test run at a time: with few cores, readers and writers of several would hardly ever meet.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---------------------------------------------------------------------------------------------------------------------
// Messages

type Small = [u64; 8];
type Large = [u64; 64];

/// Message `number`: each of its words tells which message it belongs to.
fn message<const L: usize>(number: u64) -> [u64; L] {
    let mut words = [number; L];
    for (at, word) in words.iter_mut().enumerate().skip(1) {
        *word = sum(number, at);
    }
    words
}

fn sum(number: u64, at: usize) -> u64 {
    (number ^ ((at as u64) << 56)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The number of a whole message; `Err` if it is torn.
fn number<const L: usize>(message: &[u64; L]) -> Result<u64, String> {
    let number = message[0];
    match (1..L).find(|&at| message[at] != sum(number, at)) {
        Some(at) => Err(format!("message {number} is torn at word {at}")),
        None => Ok(number),
    }
}

/// A stream of numbers that look random and are the same for the same seed.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 to `below - 1`.
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % below
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What a run is, and what its readers must find

/// `count` messages, the first of which has the sequence `start`. Payloads are numbered from 0.
struct Run {
    start: u64,
    count: u64,
    /// The most messages in one batch.
    batch: u64,
    /// Whether the writer pauses at times, so that readers catch up; it goes at full speed otherwise.
    pauses: bool,
    /// How many are published, at least.
    published: AtomicU64,
    /// The writer is done, or has failed.
    done: AtomicBool,
}

impl Run {
    fn new(start: u64, count: u64, batch: u64, pauses: bool) -> Self {
        Run { start, count, batch, pauses, published: AtomicU64::new(0), done: AtomicBool::new(false) }
    }

    /// Runs of `count` messages in the middle of which no counter wraps, or the sequence does, or the stamps do, on
    /// words of any width.
    fn all(count: u64, batch: u64) -> impl Iterator<Item = Run> {
        let wraps = [u64::MAX, usize::MAX as u64 / 4, usize::MAX as u64 / 2];
        let starts = [0].into_iter().chain(wraps.map(|last| last - count / 2));
        starts.enumerate().map(move |(at, start)| Run::new(start, count, batch, at % 2 == 1))
    }

    /// The number of the message with this sequence, which counts as far as the machine's words do.
    fn number(&self, sequence: u64) -> u64 {
        sequence.wrapping_sub(self.start) as usize as u64
    }

    fn sequence(&self, number: u64) -> u64 {
        self.start.wrapping_add(number)
    }

    fn pause(&self, noise: &mut Noise) {
        if self.pauses && noise.below(32) == 0 {
            yield_now();
        }
    }
}

/// Ends a run, also when its writer panics: its readers stop waiting then.
struct Ends<'r>(&'r Run);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
    }
}

/// What one reader finds: whole messages, in order, none twice, and each loss told.
#[derive(Debug)]
struct Stream {
    /// The next message that was not reported lost, unless the reader has just joined.
    next: Option<u64>,
    /// The messages that a reader which has just joined may begin with.
    begins: (u64, u64),
    /// Reported lost before the first message.
    untold: u64,
    received: u64,
    lost: u64,
}

impl Stream {
    fn new() -> Self {
        Stream { next: Some(0), begins: (0, 0), untold: 0, received: 0, lost: 0 }
    }

    fn take<const L: usize>(
        &mut self,
        run: &Run,
        sequence: u64,
        lagged: u64,
        message: &[u64; L],
    ) -> Result<(), String> {
        let number = number(message)?;
        if run.number(sequence) != number {
            return Err(format!("message {number} came as {sequence:#x}"));
        }
        let due = self.next.unwrap_or_else(|| number.saturating_sub(lagged));
        if due.checked_add(lagged) != Some(number) {
            return Err(format!("message {number} with {lagged} reported lost, {due} was due"));
        }
        let (least, most) = self.begins;
        if self.next.is_none() && !(least..=most).contains(&due.wrapping_sub(self.untold)) {
            return Err(format!("joined between {least} and {most}, and {due} came after {} were lost", self.untold));
        }
        self.next = Some(number + 1);
        self.received += 1;
        self.lost += lagged;
        Ok(())
    }

    /// Takes in a loss that is told without a message.
    fn lose(&mut self, lost: u64) {
        match &mut self.next {
            Some(next) => *next += lost,
            None => self.untold += lost,
        }
        self.lost += lost;
    }

    fn is_over(&self, run: &Run) -> bool {
        self.next.is_some_and(|next| next >= run.count)
    }

    /// Has `join` make another reader in place of one that is gone, which begins somewhere.
    fn rejoin<R>(
        &mut self,
        run: &Run,
        noise: &mut Noise,
        capacity: u64,
        join: impl FnOnce(Start) -> Option<R>,
    ) -> Option<R> {
        let before = run.published.load(Ordering::Acquire);
        let (start, least) = match noise.below(5) {
            0 => (Start::New, before),
            1 => (Start::Latest, before.saturating_sub(1)),
            2 => (Start::Oldest, before.saturating_sub(capacity)),
            // The count goes on as if nothing had been.
            _ => match self.next {
                Some(next) => (Start::Sequence(run.sequence(next)), u64::MAX),
                None => (Start::New, before),
            },
        };
        let reader = join(start)?;
        if least != u64::MAX {
            // A batch is counted when it is over.
            let after = run.published.load(Ordering::Acquire) + run.batch;
            (self.next, self.begins, self.untold) = (None, (least, after), 0);
        }
        Some(reader)
    }

    /// Lets others run when there is no message. If the writer was done before that, nothing may be missing. Whether to
    /// go on.
    fn wait(&self, run: &Run, was_done: bool) -> bool {
        if was_done {
            // Who begins with the first new message after the last one has nothing to wait for.
            assert!(
                self.next.is_none() && self.begins.1 >= run.count,
                "{self:?}: the rest of {} is missing",
                run.count
            );
            return false;
        }
        yield_now();
        true
    }
}

/// How a reader reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// One message after the other.
    Fast,
    /// As many as there are.
    Batch,
    /// With breaks in which the writer goes on.
    Slow,
    /// Leaves after a while, and is back at once.
    Rejoins,
    /// Keeps its first message for ever, and others for a while.
    Keeps,
    /// Has another thread let go of its messages.
    Passes,
}

/// Gives the writer time to go on, by less than `most` positions; as long as that takes if they are few.
fn rest(run: &Run, noise: &mut Noise, most: u64, lag: impl Fn() -> u64) {
    let enough = noise.below(most);
    for _ in 0..1000 {
        if lag() >= enough || run.done.load(Ordering::Acquire) {
            break;
        }
        yield_now();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Words

fn write_words<const N: usize>(run: &Run, mut writer: WordRingWriter<'_, Small, N>) {
    let _ends = Ends(run);
    let mut noise = Noise::new(run.start ^ run.count);
    let mut next = 0;
    while next < run.count {
        let batch = noise.below(run.batch + 1).min(run.count - next);
        if batch < 2 {
            assert_eq!(run.number(writer.publish(&message(next))), next);
            next += 1;
        } else {
            let messages: Vec<Small> = (next..next + batch).map(message).collect();
            writer.publish_batch(&messages);
            next += batch;
        }
        run.published.store(next, Ordering::Release);
        run.pause(&mut noise);
    }
}

fn read_words<'r, const N: usize>(
    run: &Run,
    readers: WordRingReaders<'r, Small, N>,
    mut reader: WordRingReader<'r, Small, N>,
    manner: Manner,
) -> Stream {
    let mut noise = Noise::new(manner as u64);
    let mut stream = Stream::new();
    while !stream.is_over(run) {
        let was_done = run.done.load(Ordering::Acquire);
        if manner == Manner::Batch {
            let limit = 1 + noise.below(2 * N as u64);
            let take = |found: Received<Small>| {
                stream.take(run, found.sequence(), found.lagged(), &found).unwrap();
            };
            if reader.read_batch(limit as usize, take) == 0 && !stream.wait(run, was_done) {
                break;
            }
            continue;
        }
        match reader.read() {
            Ok(found) => stream.take(run, found.sequence(), found.lagged(), &found).unwrap(),
            Err(ReadError::Lapped(lost)) => stream.lose(lost),
            Err(ReadError::Empty) if stream.wait(run, was_done) => {}
            Err(ReadError::Empty) => break,
            Err(error) => panic!("{error}"),
        }
        if noise.below(4 * N as u64) == 0 {
            match manner {
                Manner::Slow => rest(run, &mut noise, 2 * N as u64, || reader.lag()),
                Manner::Rejoins => {
                    let join = |start| Some(readers.reader(start));
                    reader = stream.rejoin(run, &mut noise, N as u64, join).unwrap();
                }
                _ => {}
            }
        }
    }
    stream
}

fn stress_words<const N: usize>(run: &Run, manners: &[Manner]) {
    let ring = WordRing::<Small, N>::starting_at(run.start);
    let (writer, readers) = ring.split().unwrap();
    assert!(ring.split().is_none());
    let joined: Vec<_> = manners.iter().map(|&manner| (manner, readers.reader(Start::New))).collect();
    let begin = Barrier::new(manners.len() + 1);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (manner, reader) in joined {
            let begin = &begin;
            let thread = scope.spawn(move || {
                begin.wait();
                read_words(run, readers, reader, manner)
            });
            threads.push((manner, thread));
        }
        begin.wait();
        write_words(run, writer);
        for (manner, thread) in threads {
            let stream = thread.join().unwrap();
            if manner != Manner::Rejoins {
                assert_eq!(stream.received + stream.lost, run.count, "{manner:?} {stream:?}");
            }
        }
    });
}

#[test]
fn word_readers_get_whole_messages_in_order_and_every_loss_is_counted() {
    let _alone = alone();
    const MANNERS: [Manner; 4] = [Manner::Fast, Manner::Slow, Manner::Rejoins, Manner::Fast];
    let count = rounds(1_000_000);
    for batch in [1, 9] {
        Run::all(count, batch).for_each(|run| stress_words::<2>(&run, &MANNERS));
        Run::all(count, batch).for_each(|run| stress_words::<8>(&run, &MANNERS));
        Run::all(count, batch).for_each(|run| stress_words::<64>(&run, &MANNERS));
    }
}

/// The writer is always at work in the only slot: nothing can be read, and all of it is counted.
#[test]
fn a_ring_of_one_word_slot_counts_all_as_lost_or_received() {
    let _alone = alone();
    Run::all(rounds(2_000_000), 1).for_each(|run| stress_words::<1>(&run, &[Manner::Fast, Manner::Slow]));
}

#[test]
fn batches_of_words_tell_every_loss() {
    let _alone = alone();
    let count = rounds(2_000_000);
    for batch in [1, 30] {
        Run::all(count, batch).for_each(|run| stress_words::<2>(&run, &[Manner::Batch; 3]));
        Run::all(count, batch).for_each(|run| stress_words::<16>(&run, &[Manner::Batch; 3]));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Frames

/// Readers that exist at a time, with those that are gone but for their samples.
const READERS: usize = 12;

type Frames<const N: usize> = FrameRing<Large, N, READERS>;
type Sample<'r, const N: usize> = FrameSample<'r, Large, N, READERS>;

/// How often the writer finds no room before it is taken for stuck.
const STUCK: u64 = 100_000_000;

fn write_frames<const N: usize>(run: &Run, mut writer: FrameRingWriter<'_, Large, N, READERS>, lossless: bool) {
    let _ends = Ends(run);
    let mut noise = Noise::new(run.start ^ run.count);
    let mut refused = 0;
    let mut next = 0;
    while next < run.count {
        let batch = noise.below(run.batch + 1).min(run.count - next);
        let published = match noise.below(8) {
            _ if batch > 1 => {
                let messages: Vec<Large> = (next..next + batch).map(message).collect();
                // As many as there was room for.
                writer.publish_batch(&messages).map(|count| (run.sequence(next), count as u64))
            }
            // What is not committed is not published, and what it wrote is not seen.
            0 => writer
                .loan()
                .map(|mut loan| loan.fill(u64::MAX))
                .and_then(|()| Ok((writer.publish(&message(next))?, 1))),
            1..4 => writer.publish(&message(next)).map(|sequence| (sequence, 1)),
            _ => writer.loan().map(|mut loan| {
                *loan = message(next);
                (loan.commit(), 1)
            }),
        };
        match published {
            Ok((sequence, count)) => {
                assert_eq!(run.number(sequence), next);
                assert!((1..=batch.max(1)).contains(&count));
                next += count;
                refused = 0;
                run.published.store(next, Ordering::Release);
                run.pause(&mut noise);
            }
            Err(error) => {
                assert!(lossless || error == WriteError::AllPinned, "{error}");
                refused += 1;
                assert!(refused < STUCK, "the writer waits for ever at message {next}: {error}");
                yield_now();
            }
        }
    }
}

/// Lets go of a message that was kept; it must be the one it was.
fn let_go<const N: usize>(run: &Run, sample: Sample<'_, N>) {
    assert_eq!(number(&sample), Ok(run.number(sample.sequence())), "a message changed while it was kept");
}

fn let_go_of_all<const N: usize>(run: &Run, samples: Passed<Sample<'_, N>>) {
    for sample in samples {
        let_go(run, sample);
    }
}

/// How many messages a reader keeps at a time.
fn keeps(manner: Manner) -> u32 {
    match manner {
        Manner::Keeps => 4,
        Manner::Rejoins | Manner::Passes => 2,
        _ => 1,
    }
}

fn read_frames<'r, const N: usize>(
    run: &Run,
    readers: FrameRingReaders<'r, Large, N, READERS>,
    reader: FrameRingReader<'r, Large, N, READERS>,
    lossless: bool,
    manner: Manner,
    pass: Option<SyncSender<Sample<'r, N>>>,
) -> Stream {
    let mut noise = Noise::new(manner as u64);
    let mut stream = Stream::new();
    let mut reader = Some(reader);
    let mut kept = VecDeque::new();
    while !stream.is_over(run) {
        let was_done = run.done.load(Ordering::Acquire);
        let Some(reading) = &mut reader else {
            let join = |start| readers.reader(start, 2);
            reader = stream.rejoin(run, &mut noise, N as u64, join);
            if reader.is_none() {
                let sample = kept.pop_front().expect("all places are taken, and this reader holds none of them");
                let_go(run, sample);
            }
            continue;
        };
        if manner == Manner::Batch {
            let limit = 1 + noise.below(2 * N as u64) as usize;
            let take = |found: Received<&Large>| {
                stream.take(run, found.sequence(), found.lagged(), *found).unwrap();
                if noise.below(256) == 0 {
                    yield_now();
                    assert_eq!(number(*found), Ok(run.number(found.sequence())), "it changed while it was lent");
                }
            };
            if reading.read_batch(limit, take).unwrap() == 0 && !stream.wait(run, was_done) {
                break;
            }
            continue;
        }
        match reading.read() {
            Ok(sample) => {
                stream.take(run, sample.sequence(), sample.lagged(), &sample).unwrap();
                match manner {
                    Manner::Keeps | Manner::Rejoins => kept.push_back(sample),
                    Manner::Passes => pass.as_ref().unwrap().send(sample).unwrap(),
                    _ => drop(sample),
                }
            }
            Err(ReadError::Lapped(lost)) => stream.lose(lost),
            Err(ReadError::TooManySamples) if manner == Manner::Passes => yield_now(),
            Err(ReadError::TooManySamples) => let_go(run, kept.remove(kept.len() / 2).unwrap()),
            Err(ReadError::Empty) if stream.wait(run, was_done) => {}
            Err(ReadError::Empty) => break,
        }
        match manner {
            Manner::Slow if noise.below(4 * N as u64) == 0 => {
                // In a lossless ring, where a reader can be no further behind, half a ring.
                let most = if lossless { N as u64 / 2 } else { 2 * N as u64 };
                rest(run, &mut noise, most, || reading.lag());
            }
            Manner::Rejoins if noise.below(2 * N as u64) == 0 => reader = None,
            // The places of readers that are gone stay taken by their samples.
            Manner::Rejoins if kept.len() > 3 => let_go(run, kept.pop_front().unwrap()),
            Manner::Keeps if kept.len() > 1 && noise.below(4) == 0 => {
                let_go(run, kept.remove(1 + noise.below(kept.len() as u64 - 1) as usize).unwrap());
            }
            _ => {}
        }
    }
    kept.into_iter().for_each(|sample| let_go(run, sample));
    stream
}

fn stress_frames<const N: usize>(run: &Run, ring: &Frames<N>, lossless: bool, manners: &[Manner]) {
    let (writer, readers) = ring.split().unwrap();
    assert!(ring.split().is_none());
    let join = |&manner: &Manner| (manner, readers.reader(Start::New, keeps(manner)).unwrap());
    let joined: Vec<_> = manners.iter().map(join).collect();
    let begin = Barrier::new(manners.len() + 1);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (manner, reader) in joined {
            let begin = &begin;
            let pass = (manner == Manner::Passes).then(|| {
                let (pass, passed) = sync_channel(1);
                scope.spawn(move || let_go_of_all(run, passed));
                pass
            });
            let thread = scope.spawn(move || {
                begin.wait();
                read_frames(run, readers, reader, lossless, manner, pass)
            });
            threads.push((manner, thread));
        }
        begin.wait();
        write_frames(run, writer, lossless);
        for (manner, thread) in threads {
            let stream = thread.join().unwrap();
            if lossless {
                assert!(stream.lost == 0 || manner == Manner::Rejoins, "{manner:?} {stream:?}");
            }
            if manner != Manner::Rejoins {
                assert_eq!(stream.received + stream.lost, run.count, "{manner:?} {stream:?}");
            }
        }
    });
    // All is given back: places, and with them the slots.
    let again: Vec<_> =
        (0..READERS).map(|_| readers.reader(Start::New, 1).expect("a place was not given back")).collect();
    assert!(readers.reader(Start::New, 1).is_none());
    drop(again);
}

#[test]
fn frame_readers_get_whole_messages_in_order_and_every_loss_is_counted() {
    let _alone = alone();
    use Manner::{Fast, Passes, Rejoins, Slow};
    let count = rounds(400_000);
    Run::all(count, 1).for_each(|run| stress_frames(&run, &Frames::<2>::starting_at(run.start), false, &[Fast]));
    Run::all(count, 1).for_each(|run| stress_frames(&run, &Frames::<4>::starting_at(run.start), false, &[Fast, Slow]));
    Run::all(count, 1).for_each(|run| {
        stress_frames(&run, &Frames::<16>::starting_at(run.start), false, &[Fast, Slow, Rejoins, Passes])
    });
    Run::all(count, 1)
        .for_each(|run| stress_frames(&run, &Frames::<64>::starting_at(run.start), false, &[Slow, Rejoins, Rejoins]));
}

#[test]
fn batches_of_frames_tell_every_loss_and_nothing_lent_is_overwritten() {
    let _alone = alone();
    use Manner::{Batch, Fast, Keeps};
    let count = rounds(800_000);
    for batch in [1, 30] {
        let few = |run: Run| stress_frames(&run, &Frames::<4>::starting_at(run.start), false, &[Batch, Batch]);
        Run::all(count, batch).for_each(few);
        let many = |run: Run| stress_frames(&run, &Frames::<16>::starting_at(run.start), false, &[Batch, Keeps, Batch]);
        Run::all(count, batch).for_each(many);
        for pauses in [true, false] {
            let run = Run::new(0, count / 4, batch, pauses);
            stress_frames(&run, &Frames::<16>::lossless(), true, &[Batch, Fast, Batch]);
        }
    }
}

#[test]
fn frames_that_are_kept_never_change_and_cost_nobody_a_message() {
    let _alone = alone();
    use Manner::{Fast, Keeps, Rejoins};
    let count = rounds(1_000_000);
    Run::all(count, 1)
        .for_each(|run| stress_frames(&run, &Frames::<16>::starting_at(run.start), false, &[Keeps, Keeps, Fast]));
    Run::all(count, 1)
        .for_each(|run| stress_frames(&run, &Frames::<32>::starting_at(run.start), false, &[Keeps, Rejoins, Keeps]));
}

#[test]
fn a_lossless_ring_loses_nothing() {
    let _alone = alone();
    use Manner::{Fast, Keeps, Passes, Rejoins, Slow};
    let runs = || (0..4).map(|at| Run::new(0, rounds(40_000), 1, at % 2 == 1));
    runs().for_each(|run| stress_frames(&run, &Frames::<4>::lossless(), true, &[Fast, Fast]));
    runs().for_each(|run| stress_frames(&run, &Frames::<16>::lossless(), true, &[Fast, Slow, Keeps, Rejoins]));
    runs().for_each(|run| stress_frames(&run, &Frames::<64>::lossless(), true, &[Slow, Passes, Keeps]));
}

/// Joins and leaves until the writer is done; how often.
fn visit<const N: usize>(run: &Run, readers: FrameRingReaders<'_, Large, N, READERS>, seed: u64) -> u64 {
    let mut noise = Noise::new(seed);
    let mut visits = 0;
    while !run.done.load(Ordering::Acquire) {
        let start = [Start::New, Start::Latest, Start::Oldest][noise.below(3) as usize];
        let mut reader = readers.reader(start, 1).unwrap();
        let mut due = None;
        for _ in 0..noise.below(50) {
            match reader.read() {
                Ok(sample) => {
                    let number = number(&sample).unwrap();
                    let found = (run.number(sample.sequence()), sample.lagged());
                    assert_eq!((number, found), (due.unwrap_or(number), (number, 0)), "after joining at {start:?}");
                    due = Some(number + 1);
                }
                Err(ReadError::Empty) => yield_now(),
                Err(error) => panic!("{error} after joining at {start:?}"),
            }
        }
        visits += 1;
    }
    visits
}

/// Also where the writer waits for nobody else, and so is at full speed when somebody joins.
#[test]
fn who_joins_a_lossless_ring_loses_nothing_from_then_on() {
    let _alone = alone();
    for count in [rounds(300_000), rounds(2_000_000)] {
        let stays = count == rounds(300_000);
        let run = Run::new(0, count, 1, false);
        let ring = Frames::<8>::lossless();
        let (writer, readers) = ring.split().unwrap();
        let first = stays.then(|| readers.reader(Start::New, 1).unwrap());
        let begin = Barrier::new(3);
        thread::scope(|scope| {
            let (run, begin) = (&run, &begin);
            let stays =
                first.map(|first| scope.spawn(move || read_frames(run, readers, first, true, Manner::Fast, None)));
            let join = |seed| {
                scope.spawn(move || {
                    begin.wait();
                    visit(run, readers, seed)
                })
            };
            let visitors = [join(1), join(2)];
            begin.wait();
            write_frames(run, writer, true);
            if let Some(stays) = stays {
                let stream = stays.join().unwrap();
                assert_eq!((stream.received, stream.lost), (count, 0));
            }
            assert!(visitors.into_iter().all(|visitor| visitor.join().unwrap() > 0));
        });
    }
}

#[test]
fn the_check_for_torn_messages_finds_a_torn_one() {
    let (old, new) = (message::<8>(7), message::<8>(7 + 64));
    assert_eq!((number(&old), number(&new)), (Ok(7), Ok(71)));
    for words in 1..8 {
        let mut torn = old;
        torn[..words].copy_from_slice(&new[..words]);
        assert!(number(&torn).is_err(), "{words} words of the new one");
    }
    let run = Run::new(5, 100, 1, false);
    let after_seven = |sequence: u64, lagged: u64, number: u64| {
        let mut stream = Stream::new();
        stream.lose(7);
        stream.take(&run, 12, 0, &message::<8>(7)).unwrap();
        stream.take(&run, sequence, lagged, &message::<8>(number))
    };
    assert!(after_seven(14, 1, 9).is_ok());
    assert!(after_seven(14, 0, 9).is_err(), "a loss that nobody told");
    assert!(after_seven(14, 2, 9).is_err(), "a loss that was none");
    assert!(after_seven(13, 1, 9).is_err(), "another message's sequence");
    assert!(after_seven(12, 0, 7).is_err(), "a message that comes twice");
    assert!(after_seven(11, 0, 6).is_err(), "a message that goes back");
}
