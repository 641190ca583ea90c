//! Frames as they go over a wire, and their acknowledgements.

use std::hint::black_box;

use conduit::ack::{Batch, Policy, Range, Status};
use conduit::frame::{DEFAULT_MAX_LEN, Decoded, Event, Flags, decode};

use crate::{BATCH, ROUNDS, counted};

counted! {
    fn decode_64_bytes(input: &[u8]) -> usize {
        body_len(input)
    }
    fn decode_64_bytes_with_crc(input: &[u8]) -> usize {
        // Not the very same code as above, or the compiler would make one function of the two.
        body_len(black_box(input))
    }
    fn encode_64_bytes(event: &Event<'_>, buffer: &mut [u8]) -> usize {
        event.encode(buffer).unwrap_or(0)
    }
    fn ack_add_to_range(batch: &mut Batch<16>, answer: Range) -> bool {
        batch.add(answer, 0).is_ok()
    }
}

#[inline(always)]
fn body_len(input: &[u8]) -> usize {
    match decode(input, DEFAULT_MAX_LEN) {
        Ok(Decoded::Frame { body, .. }) => body.len(),
        _ => 0,
    }
}

pub fn frames() {
    let plain = Event { sequence: 1, topic: b"imu", payload: &[7; 61], ..Event::default() };
    let checked = Event { flags: Flags::BODY_CRC, ..plain };
    let (mut buffer, mut with_crc) = ([0; 128], [0; 128]);
    // Whether the processor has an instruction for checksums is found out here.
    let len = checked.encode(&mut with_crc).expect("it fits");
    for _ in 0..ROUNDS * BATCH as u64 {
        let used = encode_64_bytes(black_box(&plain), &mut buffer);
        assert_eq!(decode_64_bytes(black_box(&buffer[..used])), 64);
        assert_eq!(decode_64_bytes_with_crc(black_box(&with_crc[..len])), 64);
    }
}

pub fn acks() {
    let mut batch = Batch::<16>::new(Policy::default());
    for sequence in 1..=ROUNDS * BATCH as u64 {
        assert!(ack_add_to_range(&mut batch, black_box(Range::of(sequence, Status::Accepted))));
    }
}
