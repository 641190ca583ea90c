extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::core::rounds::rounds;

fn priority() -> impl Strategy<Value = Priority> {
    (0..5u8).prop_map(|code| Priority::from_code(code).unwrap())
}

fn bytes(len: ::core::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), len)
}

prop_compose! {
    fn event()(
        flags in 0..8u8, sequence: u64, timestamp: u64, priority in priority(), encoding in 0..4u8,
        topic in "[a-z0-9_]{1,9}(/[a-z]{1,9}){0,3}", payload in bytes(0..200),
    ) -> (Flags, u64, u64, Priority, Encoding, Vec<u8>, Vec<u8>) {
        let encoding = Encoding::from_code(encoding).unwrap();
        (Flags(flags), sequence, timestamp, priority, encoding, topic.into_bytes(), payload)
    }
}

type Parts = (Flags, u64, u64, Priority, Encoding, Vec<u8>, Vec<u8>);

fn as_event(parts: &Parts) -> Event<'_> {
    let (flags, sequence, timestamp, priority, encoding, ref topic, ref payload) = *parts;
    Event { flags, sequence, timestamp, priority, encoding, topic, payload }
}

fn encoded(event: &Event<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 1024];
    let len = event.encode(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

/// Byte for byte, so that other languages can be held to it, and so that an accident is seen.
#[test]
fn the_layout_is_what_the_documentation_says() {
    let event = Event {
        flags: Flags::ACK_REQUESTED.and(Flags::BODY_CRC),
        sequence: 0x0102_0304_0506_0708,
        timestamp: 0x1112_1314_1516_1718,
        priority: Priority::Critical,
        encoding: Encoding::Cbor,
        topic: b"a/b",
        payload: b"xyz",
    };
    let mut expected = vec![0xC5, 0x4E, 0x10, 5, 10, 0, 0, 0];
    expected.extend([8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 4, 2, 3, 0]);
    expected.extend(crc32c(&expected).to_le_bytes());
    expected.extend(b"a/bxyz");
    expected.extend(crc32c(b"a/bxyz").to_le_bytes());
    assert_eq!(encoded(&event), expected);
}

proptest! {
    #![proptest_config(rounds(4000))]

    #[test]
    fn an_event_comes_back_as_it_was(parts in event()) {
        let event = as_event(&parts);
        let frame = encoded(&event);
        let Ok(Decoded::Frame { header, body, len }) = decode(&frame, DEFAULT_MAX_LEN) else { panic!("no frame") };
        prop_assert_eq!(len, frame.len());
        prop_assert_eq!(header.event(body), Ok(event));
        prop_assert_eq!(event.topic().unwrap().as_bytes(), event.topic);
        let mut short = vec![0; frame.len() - 1];
        prop_assert_eq!(event.encode(&mut short), Err(EncodeError::NoRoom { need: frame.len() }));
        prop_assert!(short.iter().all(|byte| *byte == 0), "nothing was written");
    }

    /// Of any topic and any room: what is written is a frame of the same event, and what is refused leaves no trace.
    #[test]
    fn what_is_encoded_is_decoded_as_it_was(
        parts in event(), topic in bytes(0..300), payload in bytes(0..300), room in 0..700usize,
    ) {
        let event = Event { topic: &topic, payload: &payload, ..as_event(&parts) };
        let mut buffer = vec![0xAA; room];
        let encoded = event.encode(&mut buffer);
        if let Ok(len) = encoded {
            let Ok(Decoded::Frame { header, body, len: used }) = decode(&buffer, MAX_LEN) else { panic!("no frame") };
            prop_assert_eq!((used, header.event(body)), (len, Ok(event)));
        } else {
            let (len, crc) = (topic.len(), 4 * usize::from(event.flags.has(Flags::BODY_CRC)));
            let need = HEADER_LEN + len + payload.len() + crc;
            let no_topic = !(1..=200).contains(&len);
            prop_assert_eq!(encoded, Err(if no_topic { EncodeError::TopicLength(len) } else { EncodeError::NoRoom { need } }));
            prop_assert!(no_topic || need > room);
            prop_assert!(buffer.iter().all(|byte| *byte == 0xAA), "nothing was written");
        }
    }

    /// However a stream is cut, the same frames come out of it, and no try is made in vain.
    #[test]
    fn a_stream_may_be_cut_anywhere(events in proptest::collection::vec(event(), 1..5), cuts in bytes(1..20)) {
        let stream: Vec<u8> = events.iter().flat_map(|parts| encoded(&as_event(parts))).collect();
        let (mut there, mut at, mut found, mut need) = (0, 0, Vec::new(), 0);
        let mut cuts = cuts.iter().cycle();
        while at < stream.len() {
            there = stream.len().min(there + usize::from(*cuts.next().unwrap()).max(1));
            while there - at >= need {
                match decode(&stream[at..there], DEFAULT_MAX_LEN).unwrap() {
                    Decoded::Frame { header, body, len } => {
                        found.push(header.event(body).unwrap());
                        at += len;
                        need = 1;
                    }
                    Decoded::Incomplete { need: more } => {
                        prop_assert!(more > there - at, "more than there is");
                        need = more;
                    }
                }
            }
        }
        prop_assert_eq!(found, events.iter().map(as_event).collect::<Vec<_>>());
    }

    #[test]
    fn one_wrong_bit_of_a_header_is_a_fault(parts in event(), bit in 0..8 * HEADER_LEN) {
        let mut frame = encoded(&as_event(&parts));
        frame[bit / 8] ^= 1 << (bit % 8);
        let fault = decode(&frame, DEFAULT_MAX_LEN).unwrap_err();
        prop_assert_eq!(fault, if bit < 16 { Fault::Magic } else { Fault::HeaderCrc });
    }

    #[test]
    fn one_wrong_bit_of_a_body_with_a_checksum_is_a_fault(parts in event(), bit: proptest::sample::Index) {
        let mut event = as_event(&parts);
        event.flags = event.flags.and(Flags::BODY_CRC);
        let mut frame = encoded(&event);
        let fault = Fault::BodyCrc { sequence: event.sequence, len: frame.len() };
        let bit = bit.index(8 * (frame.len() - HEADER_LEN));
        frame[HEADER_LEN + bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(decode(&frame, DEFAULT_MAX_LEN), Err(fault));
    }

    /// Also where the checksum is right: somebody may mean harm.
    #[test]
    fn any_bytes_are_a_frame_a_beginning_or_a_fault(mut input in bytes(0..300), sound: bool, max_len in 0..400usize) {
        if sound && input.len() >= HEADER_LEN {
            input[..2].copy_from_slice(&MAGIC);
            input[2] = input[2] & 7 | 0x10;
            (input[3], input[5], input[6], input[7], input[27]) = (input[3] & 7, 0, 0, 0, 0);
            (input[24], input[25]) = (input[24] % 5, input[25] % 4);
            let crc = crc32c(&input[..28]).to_le_bytes();
            input[28..32].copy_from_slice(&crc);
        }
        match decode(&input, max_len) {
            Ok(Decoded::Frame { header, body, len }) => {
                prop_assert!(len <= input.len() && len <= max_len && HEADER_LEN + body.len() <= len);
                prop_assert_eq!(header.event(body).is_ok(), header.kind == Kind::Event);
                let _ = (header.hello(body), header.welcome(body));
            }
            Ok(Decoded::Incomplete { need }) => prop_assert!(need > input.len() && need <= max_len.max(HEADER_LEN)),
            Err(_) => {}
        }
        let _ = legacy::decode(&input, max_len);
        prop_assert!(find(&input) <= input.len());
    }

    /// After garbage the next frame is found, and nothing before it.
    #[test]
    fn the_next_frame_is_found_behind_garbage(garbage in bytes(0..100), parts in event()) {
        let frame = encoded(&as_event(&parts));
        let input = [&garbage[..], &frame].concat();
        let mut at = find(&input);
        // What looks like the beginning of a frame at the end of the garbage needs no more bytes than follow.
        while at < garbage.len() {
            prop_assert!(decode(&input[at..], DEFAULT_MAX_LEN).is_err());
            at += 1 + find(&input[at + 1..]);
        }
        prop_assert_eq!(at, garbage.len());
    }

    #[test]
    fn an_older_frame_comes_back_as_it_was(priority in priority(), topic in "[a-z/]{1,20}", payload in bytes(0..100)) {
        let mut buffer = vec![0xAA; 200];
        let len = legacy::encode(priority, topic.as_bytes(), &payload, &mut buffer).unwrap();
        prop_assert_eq!(len, 7 + topic.len() + payload.len());
        let expected = legacy::Decoded::Frame { priority, topic: topic.as_bytes(), payload: &payload, len };
        prop_assert_eq!(legacy::decode(&buffer, 200), Ok(expected));
        for cut in 0..len {
            let Ok(legacy::Decoded::Incomplete { need }) = legacy::decode(&buffer[..cut], 200) else { panic!("{cut}") };
            prop_assert!(need > cut && need <= len.max(7));
        }
        prop_assert_eq!(legacy::encode(priority, topic.as_bytes(), &payload, &mut buffer[..len - 1]), Err(EncodeError::NoRoom { need: len }));
        prop_assert_eq!(legacy::decode(&buffer, len - 1), Err(Fault::TooLarge { len, max: len - 1 }));
    }

    #[test]
    fn greetings_come_back_as_they_were(version: u32, window: u32, producer: [u8; 16], token in bytes(0..100), last: u64) {
        let mut buffer = [0; 256];
        let hello = Hello { version, window, producer, token: &token };
        hello.encode(&mut buffer).unwrap();
        let Ok(Decoded::Frame { header, body, .. }) = decode(&buffer, 256) else { panic!("no frame") };
        prop_assert_eq!(header.hello(body), Ok(hello));
        prop_assert!(header.welcome(body).is_err() && header.event(body).is_err());
        let welcome = Welcome { session: last ^ 7, last_sequence: last, max_len: window, credit: version, version: 1, durability: Durability::Synced };
        welcome.encode(&mut buffer).unwrap();
        let Ok(Decoded::Frame { header, body, .. }) = decode(&buffer, 256) else { panic!("no frame") };
        prop_assert_eq!(header.welcome(body), Ok(welcome));
        prop_assert!(header.hello(body).is_err());
        prop_assert_eq!(header.welcome(&body[..31]), Err(Fault::Body(Kind::Welcome)));
    }
}

/// With a right checksum: what a wrong program sends.
#[test]
fn each_field_that_means_nothing_has_its_fault() {
    let with = |change: fn(&mut [u8])| {
        let mut frame = encoded(&Event { topic: b"t", payload: b"p", ..Event::default() });
        change(&mut frame);
        let crc = crc32c(&frame[..28]).to_le_bytes();
        frame[28..32].copy_from_slice(&crc);
        decode(&frame, 100).map(drop)
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|frame| frame[2] = 0x20), Err(Fault::Version(2)));
    assert_eq!(with(|frame| frame[2] = 0x16), Err(Fault::Kind(6)));
    assert_eq!(with(|frame| frame[3] = 8), Err(Fault::Flags(8)));
    assert_eq!(with(|frame| frame[24] = 5), Err(Fault::Priority(5)));
    assert_eq!(with(|frame| frame[25] = 4), Err(Fault::Encoding(4)));
    assert_eq!(with(|frame| frame[26] = 0), Err(Fault::TopicLength(0)));
    assert_eq!(with(|frame| frame[26] = 201), Err(Fault::TopicLength(201)));
    assert_eq!(with(|frame| frame[26] = 3), Err(Fault::TopicLength(3)), "longer than the body");
    assert_eq!(with(|frame| frame[2] = 0x14), Err(Fault::TopicLength(1)), "only events have topics");
    assert_eq!(with(|frame| frame[3] = 4), Err(Fault::TopicLength(1)), "no room for the checksum");
    assert_eq!(with(|frame| frame[6] = 1), Err(Fault::TooLarge { len: 32 + 2 + 65536, max: 100 }));
    let longest = |frame: &mut [u8]| frame[4..8].copy_from_slice(&[0xFF; 4]);
    assert!(matches!(with(longest), Err(Fault::TooLarge { max: 100, .. })), "also where it passes the end of memory");
    assert_eq!(decode(&[0xC5, 0x4F], 100), Err(Fault::Magic), "told of at once");
    assert_eq!(decode(&[], 100), Ok(Decoded::Incomplete { need: 32 }));
}

#[test]
fn the_first_byte_tells_the_two_frames_apart() {
    assert_eq!((Dialect::of(0), Dialect::of(0xC5)), (Some(Dialect::Legacy), Some(Dialect::Version1)));
    assert_eq!((1..=255).filter(|first| Dialect::of(*first).is_some()).count(), 1);
    let mut buffer = vec![0; 1 << 24];
    let payload = vec![0; (1 << 24) - 8];
    assert_eq!(
        legacy::encode(Priority::Low, b"topic", &payload, &mut buffer),
        Err(EncodeError::TooLarge { len: (1 << 24) + 4, max: (1 << 24) + 3 }),
        "its first byte would be 1"
    );
}

#[test]
fn no_encoder_makes_a_frame_that_its_decoder_refuses() {
    let mut buffer = vec![0; MAX_LEN + 8];
    let payload = vec![7; MAX_LEN];
    // The longest, and one byte more.
    let event = |payload| Event { topic: b"t", payload, ..Event::default() };
    let most = MAX_LEN - HEADER_LEN - 1;
    assert_eq!(event(&payload[..most]).encode(&mut buffer), Ok(MAX_LEN));
    let Ok(Decoded::Frame { header, body, .. }) = decode(&buffer, usize::MAX) else { panic!("no frame") };
    assert_eq!(header.event(body), Ok(event(&payload[..most])));
    let too_large = EncodeError::TooLarge { len: MAX_LEN + 1, max: MAX_LEN };
    assert_eq!(event(&payload[..most + 1]).encode(&mut buffer), Err(too_large));
    let header = Header { topic_len: 1, body_len: (most + 2) as u32, ..header }.encode();
    assert_eq!(decode(&header, usize::MAX), Err(Fault::TooLarge { len: MAX_LEN + 1, max: MAX_LEN }));

    let older = |topic: &[u8], payload: &[u8], buffer: &mut [u8]| legacy::encode(Priority::Low, topic, payload, buffer);
    assert_eq!(older(b"t", &payload[..MAX_LEN - 4], &mut buffer), Ok(MAX_LEN + 4));
    assert!(
        matches!(legacy::decode(&buffer, usize::MAX), Ok(legacy::Decoded::Frame { len, .. }) if len == MAX_LEN + 4)
    );
    for len in [0, 1 << 16] {
        assert_eq!(older(&payload[..len], b"", &mut buffer), Err(EncodeError::TopicLength(len)));
    }

    let hello = |token| Hello { version: 1, window: 1, producer: [1; 16], token };
    assert_eq!(hello(&payload[..1024]).encode(&mut buffer), Ok(HEADER_LEN + 24 + 1024));
    assert_eq!(hello(&payload[..1025]).encode(&mut buffer), Err(EncodeError::TokenLength(1025)));
}

/// The next frame begins where the fault says, and the producer is told which one has to come again.
#[test]
fn a_wrong_body_spoils_its_own_frame_alone() {
    let event = |sequence| Event { flags: Flags::BODY_CRC, sequence, topic: b"t", payload: b"p", ..Event::default() };
    let mut stream = [encoded(&event(7)), encoded(&event(8))].concat();
    stream[HEADER_LEN] ^= 1;
    let Err(Fault::BodyCrc { sequence: 7, len }) = decode(&stream, 100) else { panic!("of number 7") };
    let Ok(Decoded::Frame { header, body, .. }) = decode(&stream[len..], 100) else { panic!("no frame") };
    assert_eq!(header.event(body), Ok(event(8)));

    // What is no event has no number to be told of.
    let ping = Header { flags: Flags::BODY_CRC, sequence: 9, body_len: 4, ..Header::new(Kind::Ping) }.encode();
    assert_eq!(decode(&[&ping[..], &[1; 4]].concat(), 100), Err(Fault::BodyCrc { sequence: 0, len: 36 }));
}

#[test]
fn a_topic_that_is_none_is_told_of_when_it_is_asked_for() {
    let event = |topic| Event { topic, ..Event::default() }.topic();
    assert_eq!(event(b"a/b"), Ok("a/b"));
    for topic in [&b""[..], b"a//b", b"..", b"a b", "ä".as_bytes(), &[0xFF], &[b'a'; 201]] {
        assert!(matches!(event(topic), Err(Fault::Topic(_))), "{topic:?}");
    }
}
