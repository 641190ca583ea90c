//! Rings: the interrupt publishes, thread mode reads.

use conduit::ring::{Control, Memory, Native, ReadError, Start, WordMemory, WordReader, WordRing, WordWriter};
use cortex_m_semihosting::hprintln;

use crate::interrupts::{exposed, preempt};
use crate::oracle::{Message, Verdict, message, put_to_the_test};

pub const CAPACITY: usize = 8;
pub const START: u64 = u32::MAX as u64 - 7;

/// What the reader saw.
#[derive(Default, Debug)]
struct Seen {
    whole: u64,
    torn: u64,
    lost: u64,
}

pub fn run() {
    assert_eq!(words(false), Ok(()));
    assert_eq!(words(true), Err("the reader hardly moves"), "a reader that looks only when the writer is done");
    assert_eq!(shared_payload(), Err("torn messages"), "slots that share their payload");
}

/// Lets the interrupt handler `publish` (message; sequence) while `read` (message, sequence, lost before it) is called
/// here; `late` only when the writer is done.
pub fn stream(
    what: &str,
    mut publish: impl FnMut(&Message) -> u64 + Send,
    late: bool,
    mut read: impl FnMut() -> Result<(Message, u64, u64), ReadError>,
) -> Verdict {
    let mut published = 0;
    let mut seen = Seen::default();
    let inside = preempt(
        // Now and then more than a lap, so that a reader that was stopped finds its slot overwritten.
        &mut |random| {
            for _ in 0..random.burst(CAPACITY + 1) {
                assert_eq!(publish(&message(published)), START + u64::from(published));
                published += 1;
            }
        },
        |_, done| {
            if late && !done {
                return false;
            }
            match exposed(&mut read) {
                Ok((got, sequence, lost)) => {
                    seen.lost += lost;
                    let whole = got == message(sequence.wrapping_sub(START) as u32);
                    *(if whole { &mut seen.whole } else { &mut seen.torn }) += 1;
                }
                Err(ReadError::Lapped(lost)) => seen.lost += lost,
                Err(_) => return false,
            }
            true
        },
    );
    hprintln!("{}: published {}, {:?}, interrupts inside a read: {}", what, published, seen, inside);

    let published = u64::from(published);
    if seen.torn > 0 {
        Err("torn messages")
    } else if seen.whole + seen.lost != published {
        Err("messages neither read nor counted as lost")
    } else if seen.whole < published / 8 {
        Err("the reader hardly moves")
    } else if seen.lost == 0 || !put_to_the_test(inside) {
        Err("the reader was not put to the test")
    } else {
        Ok(())
    }
}

fn words(late: bool) -> Verdict {
    static RINGS: [WordRing<Message, CAPACITY>; 2] = [const { WordRing::starting_at(START) }; 2];
    let ring = &RINGS[usize::from(late)];
    let (mut writer, readers) = ring.split().expect("not split yet");
    assert!(ring.split().is_none(), "a ring is split once");
    let mut reader = readers.reader(Start::New);
    stream(
        "words",
        |message| writer.publish(message),
        late,
        || reader.read().map(|received| (*received, received.sequence(), received.lagged())),
    )
}

/// A planted fault: a ring in which all slots have the same payload, so that the stamps protect nothing.
#[derive(Clone, Copy)]
struct SharedPayload {
    control: &'static Control<Native>,
    stamps: &'static [Native; CAPACITY],
    payload: &'static [Native; size_of::<Message>() / size_of::<Native>()],
}

// SAFETY: all of it is statics; only the payloads overlap, on purpose, and they are atomics.
unsafe impl Memory for SharedPayload {
    type Word = Native;
    fn capacity(&self) -> usize {
        CAPACITY
    }
    fn control(&self) -> &Control<Native> {
        self.control
    }
    fn stamp(&self, index: usize) -> &Native {
        &self.stamps[index]
    }
}

// SAFETY: as above.
unsafe impl WordMemory for SharedPayload {
    fn words(&self, _: usize) -> &[Native] {
        self.payload
    }
}

fn shared_payload() -> Verdict {
    static STAMPS: [Native; CAPACITY] = [const { Native::new(0) }; CAPACITY];
    static PAYLOAD: [Native; 4] = [const { Native::new(0) }; 4];
    let control = cortex_m::singleton!(: Control<Native> = Control::new(START, 0)).expect("called once");
    let memory = SharedPayload { control, stamps: &STAMPS, payload: &PAYLOAD };
    // SAFETY: the only writer of this memory.
    let mut writer = unsafe { WordWriter::new(memory) };
    let mut reader = WordReader::new(memory, Start::New);
    let publish = move |message: &Message| writer.publish(bytes(message), 0).expect("never full");
    stream("words, shared", publish, false, || {
        let mut message = [0; 4];
        // SAFETY: the target is writable for its length.
        let meta = unsafe { reader.read_raw(message.as_mut_ptr().cast(), size_of::<Message>()) }?;
        Ok((message, meta.sequence, meta.lost))
    })
}

fn bytes(message: &Message) -> &[u8] {
    // SAFETY: as many initialised bytes as the message has.
    unsafe { core::slice::from_raw_parts(message.as_ptr().cast(), size_of::<Message>()) }
}
