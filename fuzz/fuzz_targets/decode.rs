//! Schemas and messages from anywhere: an error, or a value that can be looked through and told.
#![no_main]

use conduit::topic::decode::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // A definition, and behind a zero byte a message.
    let (definition, message) = match input.iter().position(|&byte| byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[][..]),
    };
    let Ok(definition) = std::str::from_utf8(definition) else { return };
    let Ok(format) = Format::parse("fuzz/msg/Fuzz", definition) else { return };
    let text = String::from_utf8_lossy(message);
    let _ = format.encode(&text);
    let _ = format.field(&text).map(|field| format.decode_field(field, message).map(|value| value.to_string()));
    if format.size() <= 1 << 16 {
        let mut whole = message.to_vec();
        whole.resize(format.size(), 0x5a);
        let value = format.decode(&whole).expect("a message of the right length").to_string();
        // What is told as JSON can be read again, unless a number has no JSON.
        if let Ok(again) = format.encode(&value) {
            assert_eq!(again.len(), format.size());
        }
    }
});
