//! Bytes from a stranger as frames of both kinds: whole, cut in two, and behind garbage.
#![no_main]

use conduit::ack;
use conduit::frame::{self, Decoded, EncodeError, Event, Fault, Flags, legacy};
use libfuzzer_sys::fuzz_target;

const MAX_LEN: usize = 1 << 16;

/// Bit by bit, as the standard defines it.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| state >> 1 ^ if state & 1 == 0 { 0 } else { 0x82F6_3B78 })
    })
}

fuzz_target!(|input: &[u8]| {
    // The first byte says where to cut, and whether to make the first header's checksum right, which chance hardly would.
    let Some((&cut, stream)) = input.split_first() else { return };
    let mut stream = stream.to_vec();
    if let (true, Some(header)) = (cut & 1 == 1, stream.first_chunk_mut::<{ frame::HEADER_LEN }>()) {
        let crc = crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
    }
    let stream = &stream[..];
    let mut at = 0;
    while at < stream.len() {
        let rest = &stream[at..];
        match frame::decode(rest, MAX_LEN) {
            Ok(Decoded::Frame { header, body, len }) => {
                assert!(len <= rest.len() && len <= MAX_LEN);
                // A part of it is a beginning, and asks for no more than there is to it.
                let cut = usize::from(cut) % len;
                let Ok(Decoded::Incomplete { need }) = frame::decode(&rest[..cut], MAX_LEN) else { panic!("{cut}") };
                assert!(need > cut && need <= len);
                if let Ok(event) = header.event(body) {
                    let mut again = vec![0; len];
                    assert_eq!(event.encode(&mut again), Ok(len));
                    assert_eq!(again, rest[..len], "the only way to write it");
                    let _ = event.topic();
                }
                if let Ok(ranges) = ack::decode(&header, body) {
                    assert!(ranges.clone().all(|range| range.first() <= range.last()));
                }
                let _ = (header.hello(body), header.welcome(body));
                at += len;
            }
            Ok(Decoded::Incomplete { need }) => {
                assert!(need > rest.len());
                break;
            }
            Err(Fault::BodyCrc { len, .. }) => at += len,
            // On to the next that may be one.
            Err(_) => at += 1 + frame::find(&rest[1..]),
        }
    }
    if let Ok(legacy::Decoded::Frame { priority, topic, payload, len }) = legacy::decode(stream, MAX_LEN) {
        let mut again = vec![0; len];
        assert_eq!(legacy::encode(priority, topic, payload, &mut again), Ok(len));
        assert_eq!(again, stream[..len]);
    }
    // The other way about: what is encoded is decoded as it was.
    let (topic, payload) = stream.split_at(stream.len().min(cut.into()));
    let event = Event { flags: Flags::BODY_CRC, topic, payload, ..Event::default() };
    let mut buffer = vec![0; stream.len() + 36];
    match event.encode(&mut buffer) {
        Ok(len) => {
            let Ok(Decoded::Frame { header, body, .. }) = frame::decode(&buffer[..len], len) else {
                panic!("no frame")
            };
            assert_eq!(header.event(body), Ok(event));
        }
        Err(error) => assert!(error == EncodeError::TopicLength(topic.len()) && !(1..=200).contains(&topic.len())),
    }
});
