//! Messages that are read in place.

use conduit::ring::{FrameRing, Start};

use crate::oracle::{Message, Verdict, message};
use crate::rings::{CAPACITY, START, stream};

pub fn run() {
    assert_eq!(frames(false), Ok(()));
    assert_eq!(frames(true), Err("torn messages"), "a reader that lets go of a message before it reads it");
}

fn frames(let_go: bool) -> Verdict {
    static RINGS: [FrameRing<Message, CAPACITY, 1>; 2] = [const { FrameRing::starting_at(START) }; 2];
    let (mut writer, readers) = RINGS[usize::from(let_go)].split().expect("not split yet");
    let mut reader = readers.reader(Start::New, 1).expect("the only reader");
    let publish = |message: &Message| writer.publish(message).expect("there are more slots than pins");
    let verdict = stream("frames", publish, false, || {
        let sample = reader.read()?;
        let (sequence, lost) = (sample.sequence(), sample.lagged());
        let place = &raw const *sample;
        let held = (!let_go).then_some(sample);
        let mut got = message(0);
        // Looked at for a while, so that interrupts come while it is held.
        for _ in 0..4 {
            // SAFETY: `place` is in a static. Volatile, as without the pin the interrupt handler writes there.
            got = unsafe { place.read_volatile() };
            if got != message(sequence.wrapping_sub(START) as u32) {
                break;
            }
        }
        drop(held);
        Ok((got, sequence, lost))
    });
    assert!(let_go || writer.skips() > 0, "the writer never met a pin");
    verdict
}
