//! The latest value: written by the interrupt and read by thread mode, and the other way round.

use conduit::ring::Plain;
use conduit::seqlock::{ReadError, Reader, SeqLock, Writer};
use cortex_m_semihosting::hprintln;

use crate::interrupts::{PREEMPTIONS, exposed, preempt};
use crate::oracle::Verdict;

const LEN: usize = 16;
/// Long enough that most interrupts come while it is copied.
type Value = [u32; LEN];

/// Stamps are twice as much.
const START: u64 = u32::MAX as u64 / 2 - 7;

/// Value number `n`: its words, of which the first is `n`, fit no other number.
fn value(n: u32) -> Value {
    core::array::from_fn(|k| n.wrapping_mul(2 * k as u32 + 1) ^ k as u32)
}

pub fn run() {
    assert_eq!(up(false), Ok(()));
    assert_eq!(up(true), Err("the reader hardly sees anything new"), "a reader that looks only when all is over");
    assert_eq!(halves(), Err("torn values"), "a value in two halves that are read one after the other");
    assert_eq!(turns(), Err("a value older than the one before"), "values that two locks have by turns");
    assert_eq!(down(), Ok(()));
}

/// What the reader saw.
#[derive(Default, Debug)]
struct Seen {
    /// Reads that found a value, and those of them that found another one than the last.
    reads: u32,
    fresh: u32,
    torn: u32,
    older: u32,
    contended: u32,
    newest: Option<u32>,
}

impl Seen {
    fn note(&mut self, read: Result<Value, ReadError>) {
        match read {
            Ok(got) if got != value(got[0]) => self.torn += 1,
            Ok([n, ..]) => {
                self.reads += 1;
                self.fresh += u32::from(self.newest != Some(n));
                self.older += u32::from(self.newest > Some(n));
                self.newest = Some(n);
            }
            Err(ReadError::Contended) => self.contended += 1,
            Err(ReadError::Empty) => unreachable!("there is a value from the start"),
        }
    }

    /// `written` values, of which the first was 0.
    fn verdict(&self, what: &str, written: u32, inside: u32) -> Verdict {
        hprintln!("{}: written {}, {:?}, interrupts inside: {}", what, written, self, inside);
        if self.torn > 0 {
            Err("torn values")
        } else if self.older > 0 {
            Err("a value older than the one before")
        } else if self.newest != written.checked_sub(1) {
            Err("the last value is not the one that stays")
        } else if self.fresh < PREEMPTIONS / 4 {
            Err("the reader hardly sees anything new")
        } else if self.contended < PREEMPTIONS / 50 {
            // Each is an interrupt between the two looks at the stamp.
            Err("the reader was not put to the test")
        } else {
            Ok(())
        }
    }
}

/// Lets the interrupt handler `write` while `read` is called here; `late` only when all is over.
fn stream(
    what: &str,
    mut write: impl FnMut(u32, &Value) + Send,
    late: bool,
    mut read: impl FnMut() -> Result<Value, ReadError>,
) -> Verdict {
    // The first values, one for each of two locks.
    for n in 0..2 {
        write(n, &value(n));
    }
    let mut written = 2;
    let mut seen = Seen::default();
    let inside = preempt(
        &mut |random| {
            for _ in 0..random.burst(3) {
                write(written, &value(written));
                written += 1;
            }
        },
        |_, done| {
            if done || !late {
                seen.note(exposed(&mut read));
            }
            false
        },
    );
    seen.verdict(what, written, inside)
}

/// The interrupt writes, thread mode reads; in one look or several.
fn up(late: bool) -> Verdict {
    let lock = SeqLock::<Value>::starting_at(START);
    let (mut writer, reader) = ends(&lock);
    let mut patient = false;
    stream(
        "seqlock up",
        |_, value| writer.write(value),
        late,
        || {
            patient = !patient;
            if patient { reader.read() } else { reader.try_read() }
        },
    )
}

/// A planted fault: each half has a lock of its own, and nothing holds the two together.
fn halves() -> Verdict {
    let locks = [const { SeqLock::<[u32; LEN / 2]>::starting_at(START) }; 2];
    let [(mut front, first), (mut back, last)] = [ends(&locks[0]), ends(&locks[1])];
    let write = |_, value: &Value| {
        front.write(&core::array::from_fn(|k| value[k]));
        back.write(&core::array::from_fn(|k| value[LEN / 2 + k]));
    };
    stream("seqlock halves", write, false, || {
        let (first, last) = (first.read()?, last.read()?);
        Ok(core::array::from_fn(|k| if k < LEN / 2 { first[k] } else { last[k - LEN / 2] }))
    })
}

/// A planted fault: the one lock or the other has the latest value.
fn turns() -> Verdict {
    let locks = [const { SeqLock::<Value>::starting_at(START) }; 2];
    let [(mut even, evens), (mut odd, odds)] = [ends(&locks[0]), ends(&locks[1])];
    let mut second = false;
    let write = |n: u32, value: &Value| if n.is_multiple_of(2) { even.write(value) } else { odd.write(value) };
    stream("seqlock turns", write, false, || {
        second = !second;
        if second { odds.try_read() } else { evens.try_read() }
    })
}

/// Thread mode writes, the interrupt has one look.
fn down() -> Verdict {
    let lock = SeqLock::<Value>::starting_at(START);
    let (mut writer, reader) = ends(&lock);
    writer.write(&value(0));
    let mut written = 1;
    let mut seen = Seen::default();
    let inside = preempt(&mut |_| seen.note(reader.try_read()), |_, done| {
        if !done {
            exposed(|| writer.write(&value(written)));
            written += 1;
        }
        false
    });
    seen.note(reader.try_read());
    seen.verdict("seqlock down", written, inside)
}

fn ends<T: Plain>(lock: &SeqLock<T>) -> (Writer<'_, T>, Reader<'_, T>) {
    let ends = lock.split().expect("not split yet");
    assert!(lock.split().is_none(), "a lock is split once");
    ends
}
