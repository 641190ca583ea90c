//! One writer and two readers of each kind of ring.

use std::sync::atomic::{AtomicBool, Ordering};

use conduit::ring::{FrameRing, ReadError, Start, WordRing, WriteError};

use crate::threads::{Stream, let_others, rounds, threads};

pub fn run() {
    static OVERWRITING: FrameRing<[u64; 64], 8, 2> = FrameRing::new();
    static LOSSLESS: FrameRing<[u64; 64], 8, 2> = FrameRing::lossless();
    static LENT: FrameRing<[u64; 64], 8, 2> = FrameRing::lossless();
    words();
    frames("frames", &OVERWRITING, false);
    frames("lossless frames", &LOSSLESS, false);
    frames("lossless frames, lent", &LENT, true);
}

impl Stream {
    /// Takes note of why there was no message. `false` if there is none.
    fn missed(&mut self, error: ReadError) -> bool {
        match error {
            ReadError::Lapped(lost) => self.next += lost,
            ReadError::Empty => return false,
            ReadError::TooManySamples => panic!("no sample is held"),
        }
        true
    }
}

/// Runs a writer and two readers beside it; the readers once more when it is done.
fn race(ring: &str, mut write: impl FnMut(), mut readers: [impl FnMut(&mut Stream); 2]) {
    // Relaxed on purpose: it orders nothing.
    let done = AtomicBool::new(false);
    let mut streams = [Stream::default(), Stream::default()];
    let [one, other] = &mut readers;
    let [its, others] = &mut streams;
    let until_done = |read: &mut dyn FnMut(&mut Stream), stream: &mut Stream| {
        while !done.load(Ordering::Relaxed) {
            read(stream);
            let_others();
        }
    };
    threads(&mut [
        &mut || {
            write();
            done.store(true, Ordering::Relaxed);
        },
        &mut || until_done(one, its),
        &mut || until_done(other, others),
    ]);
    for (read, stream) in readers.iter_mut().zip(&mut streams) {
        read(stream);
        assert_eq!(stream.next, rounds(), "{ring}: all are received or counted");
        assert!(stream.received > rounds() / 1000, "{ring}: the threads hardly met: {} received", stream.received);
        println!("{ring}: {} of {} received, the rest counted as lost", stream.received, stream.next);
    }
}

fn words() {
    static RING: WordRing<[u64; 4], 8> = WordRing::new();
    let (mut writer, readers) = RING.split().expect("split once");
    let reader = || {
        let mut reader = readers.reader(Start::Oldest);
        move |stream: &mut Stream| loop {
            match reader.read() {
                Ok(message) => stream.take(message.sequence(), message.lagged(), &message),
                Err(error) if stream.missed(error) => {}
                Err(_) => break,
            }
        }
    };
    let write = || {
        for sequence in 0..rounds() {
            assert_eq!(writer.publish(&[sequence; 4]), sequence);
            if sequence % 20 == 0 {
                let_others();
            }
        }
    };
    race("words", write, [reader(), reader()]);
}

/// In place, under a pin; of a lossless ring also lent without one.
fn frames(name: &str, ring: &'static FrameRing<[u64; 64], 8, 2>, lent: bool) {
    let (mut writer, readers) = ring.split().expect("split once");
    let reader = || {
        let mut reader = readers.reader(Start::Oldest, 1).expect("room for two");
        move |stream: &mut Stream| loop {
            let read = if lent {
                reader.read_batch(8, |message| stream.take(message.sequence(), message.lagged(), &message))
            } else {
                reader.read().map(|message| stream.take(message.sequence(), message.lagged(), &message)).map(|()| 1)
            };
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if stream.missed(error) => {}
                Err(_) => break,
            }
        }
    };
    let write = || {
        for sequence in 0..rounds() {
            loop {
                match writer.publish(&[sequence; 64]) {
                    Ok(published) => break assert_eq!(published, sequence),
                    Err(WriteError::Full | WriteError::AllPinned) => let_others(),
                }
            }
            if sequence % 20 == 0 {
                let_others();
            }
        }
    };
    race(name, write, [reader(), reader()]);
}
