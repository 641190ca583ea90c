//! A stream from a stranger as the server reads it: at once, and cut into reads anywhere. The same events, stops and offsets come
//! out, no byte is understood that has not come, and what is lent of an event lies in the buffer.
#![no_main]

use conduit::frame::{Event, HEADER_LEN};
use conduit::net::fuzzing::{Session, Stop};
use libfuzzer_sys::fuzz_target;

const MAX_LEN: usize = 1 << 12;

/// What came out of a stream, each with the place in the stream behind it.
#[derive(PartialEq, Debug)]
enum Came {
    Event(u64, String),
    Stop(u64, Stop),
}

/// Bit by bit, as the standard defines it.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| state >> 1 ^ if state & 1 == 0 { 0 } else { 0x82F6_3B78 })
    })
}

/// Makes the checksums of headers right, which chance hardly would.
fn repair(stream: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = stream.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<HEADER_LEN>) {
        let crc = crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        let body = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        at = at.saturating_add(HEADER_LEN).saturating_add(body as usize);
    }
}

/// Reads until more has to come, or no more can; tells whether it can. The buffer begins at byte `origin` of the stream.
fn read(session: &mut Session, bytes: &[u8], at: &mut usize, origin: u64, came: &mut Vec<Came>) -> bool {
    loop {
        let before = *at;
        let buffer = bytes.as_ptr_range();
        let inside = |part: &[u8]| buffer.start <= part.as_ptr() && part.as_ptr_range().end <= buffer.end;
        let stop = session.read(bytes, at, |topic_at, event: &Event<'_>| {
            assert!(inside(event.topic) && inside(event.payload));
            assert!(topic_at >= before && bytes[topic_at..].starts_with(event.topic));
            came.push(Came::Event(origin + topic_at as u64, format!("{event:?}")));
        });
        assert!(before <= *at && *at <= bytes.len());
        assert_eq!(session.offset(), origin + *at as u64);
        match stop {
            Stop::Incomplete(need) => {
                assert!(need > bytes.len() - *at && need <= MAX_LEN, "{need} bytes");
                return true;
            }
            Stop::Frame(_) => {
                assert!(*at > before, "it would never end");
                came.push(Came::Stop(session.offset(), stop));
            }
            Stop::Fault(_) => {
                came.push(Came::Stop(session.offset(), stop));
                return false;
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    // Whether to repair it, how to cut it, and the stream.
    let Some((&[how, seed], stream)) = input.split_first_chunk() else { return };
    let mut stream = stream.to_vec();
    if how & 1 == 1 {
        repair(&mut stream);
    }

    // In a buffer of its own, so that the sanitizer sees what is behind it.
    let (mut whole, mut session) = (Vec::new(), Session::new(MAX_LEN));
    read(&mut session, &stream.clone().into_boxed_slice(), &mut 0, 0, &mut whole);
    let understood = session.offset();

    let (mut cut, mut session) = (Vec::new(), Session::new(MAX_LEN));
    let (mut state, mut rest) = (u32::from(seed) | 0x100, &stream[..]);
    let (mut buffer, mut origin, mut at) = (Vec::new(), 0, 0);
    loop {
        state = state.wrapping_mul(0x9E37_79B1).rotate_left(7);
        let most = if how & 2 == 0 { 8 } else { 80 };
        let (now, later) = rest.split_at(rest.len().min(state as usize % most));
        rest = later;
        buffer.extend_from_slice(now);
        let goes_on = read(&mut session, &buffer.clone().into_boxed_slice(), &mut at, origin, &mut cut);
        if !goes_on || rest.is_empty() {
            break;
        }
        // What was understood is given up now and then, as the server does.
        if state & 0x1000 == 0 {
            buffer.drain(..at);
            origin += at as u64;
            at = 0;
        }
    }
    assert_eq!(cut, whole);
    assert_eq!(session.offset(), understood);
});
