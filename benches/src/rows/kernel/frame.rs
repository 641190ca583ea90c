//! Decoding a frame with a body of 64 bytes.

use super::super::{Context, Limit::*, Outcome, Row, Unit::*};
use super::timing::cost;
use conduit::frame::{self, Decoded, Event, Flags, HEADER_LEN, MAGIC, MAX_LEN, VERSION};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

const TOPIC: &[u8] = b"imu/gyro";
const PAYLOAD: [u8; 56] = [0xA5; 56];
/// As many different frames follow each other; all of them fit into the nearest cache.
const FRAMES: usize = 64;
/// From one to the next.
const STRIDE: usize = 128;

pub fn rows() -> Vec<Row> {
    let row = Row::new(
        "frame, 64 B body",
        "decoded in place, every field checked; with the checksum of the header, or also of the body",
    )
    .column("each", "each", Time)
    .cell("conduit, header checksum", |c| wire(c, Flags::default(), None, conduit))
    .cell("conduit, both", |c| wire(c, Flags::BODY_CRC, None, conduit))
    .cell("zerocopy, neither", |c| wire(c, Flags::BODY_CRC, None, |frame| zerocopy(frame, |_| None)))
    .cell("zerocopy + crc-fast, both", |c| wire(c, Flags::BODY_CRC, None, |frame| zerocopy(frame, crc_fast)))
    .cell("zerocopy + crc32fast, both", |c| {
        wire(c, Flags::BODY_CRC, Some(crc32fast::hash), |frame| zerocopy(frame, |b| Some(crc32fast::hash(b))))
    })
    .cell("postcard, neither", postcard)
    .target("conduit, header checksum", "each", &[], AtMost(5.0));
    #[cfg(target_arch = "x86_64")]
    let row = row.cell("zerocopy + instruction, both", instruction::cell).target(
        "conduit, both",
        "each",
        &["zerocopy + instruction, both"],
        AtMost(1.0),
    );
    vec![row]
}

/// A sequence and a body, if the frame is a good one.
type Found<'a> = Option<(u64, &'a [u8])>;

/// Decodes Conduit's frames, perhaps with another checksum in place of theirs.
fn wire(
    context: &Context,
    flags: Flags,
    checksum: Option<fn(&[u8]) -> u32>,
    decode: impl Fn(&[u8]) -> Found,
) -> Outcome {
    let encode = |sequence, frame: &mut [u8]| {
        let event = Event { flags, sequence, topic: TOPIC, payload: &PAYLOAD, ..Event::default() };
        let len = event.encode(frame).expect("room");
        if let Some(checksum) = checksum {
            let (header, body) = frame[..len].split_at_mut(HEADER_LEN);
            for part in [header, body] {
                let (checked, sum) = part.split_at_mut(part.len() - 4);
                sum.copy_from_slice(&checksum(checked).to_le_bytes());
            }
        }
        len
    };
    measure(context, encode, decode)
}

fn measure(context: &Context, encode: impl Fn(u64, &mut [u8]) -> usize, decode: impl Fn(&[u8]) -> Found) -> Outcome {
    let mut frames = vec![0; FRAMES * STRIDE];
    let lens = (0..).zip(frames.chunks_mut(STRIDE)).map(|(number, frame)| encode(number, frame));
    let len = lens.max().expect("frames");
    let (frames, len) = (black_box(frames), black_box(len));
    cost(context, |number| {
        let number = number % FRAMES as u64;
        let frame = &frames[number as usize * STRIDE..][..len];
        let (sequence, body) = decode(frame).expect("a good frame");
        assert_eq!(sequence, number);
        black_box(body);
    })
}

fn conduit(frame: &[u8]) -> Found<'_> {
    match frame::decode(frame, MAX_LEN) {
        Ok(Decoded::Frame { header, body, .. }) => Some((header.sequence, body)),
        _ => None,
    }
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 2],
    version_and_kind: u8,
    flags: u8,
    body_len: U32,
    sequence: U64,
    timestamp: U64,
    priority: u8,
    encoding: u8,
    topic_len: U16,
    crc: U32,
}

/// Conduit's frame as somebody would write it with zerocopy: the same checks. `None` for a checksum: it is not looked at.
#[inline(always)]
fn zerocopy(frame: &[u8], checksum: impl Fn(&[u8]) -> Option<u32>) -> Found<'_> {
    let (header, rest) = Header::ref_from_prefix(frame).ok()?;
    let body = rest.get(..header.body_len.get() as usize)?;
    let topic_len = u32::from(header.topic_len.get());
    let known = header.magic == MAGIC
        && header.version_and_kind == VERSION << 4
        && header.flags <= 7
        && header.priority <= 4
        && header.encoding <= 3
        && (1..=255).contains(&topic_len)
        && topic_len + 4 <= header.body_len.get()
        && HEADER_LEN + body.len() <= MAX_LEN;
    let (payload, crc) = body.split_last_chunk::<4>()?;
    let is = |bytes, crc: u32| checksum(bytes).is_none_or(|sum| sum == crc);
    let good = known && is(&frame[..28], header.crc.get()) && is(payload, u32::from_le_bytes(*crc));
    good.then_some((header.sequence.get(), payload))
}

fn crc_fast(bytes: &[u8]) -> Option<u32> {
    Some(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32)
}

#[cfg(target_arch = "x86_64")]
mod instruction {
    use super::*;
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};

    pub fn cell(context: &Context) -> Outcome {
        if !is_x86_feature_detected!("sse4.2") {
            return Err("the processor has no CRC-32C instruction".into());
        }
        // SAFETY: the processor has the instruction.
        wire(context, Flags::BODY_CRC, None, |frame| unsafe { decode(frame) })
    }

    /// All of it with the instruction, so that nothing is asked or called for in between.
    #[target_feature(enable = "sse4.2")]
    fn decode(frame: &[u8]) -> Found<'_> {
        zerocopy(frame, |bytes| Some(crc(bytes)))
    }

    #[target_feature(enable = "sse4.2")]
    #[inline]
    fn crc(bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks();
        let sum = words.iter().fold(u64::from(!0u32), |sum, word| _mm_crc32_u64(sum, u64::from_le_bytes(*word)));
        !rest.iter().fold(sum as u32, |sum, byte| _mm_crc32_u8(sum, *byte))
    }
}

/// The same fields as a serializer packs them.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    kind: u8,
    flags: u8,
    sequence: u64,
    timestamp: u64,
    priority: u8,
    encoding: u8,
    #[serde(borrow)]
    body: &'a [u8],
}

fn postcard(context: &Context) -> Outcome {
    let encode = |sequence, frame: &mut [u8]| {
        let body = [TOPIC, &PAYLOAD].concat();
        let packed = Packed { kind: 0, flags: 0, sequence, timestamp: 0, priority: 2, encoding: 0, body: &body };
        ::postcard::to_slice(&packed, frame).expect("room").len()
    };
    measure(context, encode, |frame| {
        let packed: Packed = ::postcard::from_bytes(frame).ok()?;
        let known = packed.kind <= 5 && packed.flags <= 7 && packed.priority <= 4 && packed.encoding <= 3;
        known.then_some((packed.sequence, packed.body))
    })
}
