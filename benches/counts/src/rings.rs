//! Rings of messages that are copied out, and of messages that are read in place.

use conduit::ring::{FrameRing, FrameRingReader, FrameRingWriter, Start, WordRing, WordRingReader, WordRingWriter};

use crate::{BATCH, Message, ROUNDS, counted, message};

counted! {
    fn words_publish_64_bytes(writer: &mut WordRingWriter<'static, Message, 128>, message: &Message) -> u64 {
        writer.publish(message)
    }
    fn words_read_64_bytes(reader: &mut WordRingReader<'static, Message, 128>, target: &mut Message) -> bool {
        reader.read().map(|received| *target = *received).is_ok()
    }
    fn frames_publish_64_bytes(writer: &mut FrameRingWriter<'static, Message, 128, 1>, message: &Message) -> bool {
        writer.publish(message).is_ok()
    }
    fn frames_read_and_drop(reader: &mut FrameRingReader<'static, Message, 128, 1>) -> u64 {
        reader.read().map_or(0, |sample| sample[0])
    }
}

pub fn words() {
    static RING: WordRing<Message, 128> = WordRing::new();
    let (mut writer, readers) = RING.split().expect("not split yet");
    let mut reader = readers.reader(Start::New);
    let mut target = message(0);
    for _ in 0..ROUNDS {
        for n in 1..=BATCH as u64 {
            words_publish_64_bytes(&mut writer, &message(n));
        }
        for n in 1..=BATCH as u64 {
            assert!(words_read_64_bytes(&mut reader, &mut target));
            assert_eq!(target, message(n));
        }
    }
}

pub fn frames() {
    static RING: FrameRing<Message, 128, 1> = FrameRing::new();
    let (mut writer, readers) = RING.split().expect("not split yet");
    let mut reader = readers.reader(Start::New, 1).expect("the only one");
    for _ in 0..ROUNDS {
        for n in 1..=BATCH as u64 {
            assert!(frames_publish_64_bytes(&mut writer, &message(n)));
        }
        for n in 1..=BATCH as u64 {
            assert_eq!(frames_read_and_drop(&mut reader), n);
        }
    }
}
