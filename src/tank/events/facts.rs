//! What is said of a dead letter, as JSON: an object of texts and whole numbers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use super::channels::{encoding_name, encoding_of, hex, priority_name, priority_of, producer_of};
use crate::dedup::ProducerId;
use crate::engine::{DeadLetter, DeadReason, Origin};
use crate::frame::{Encoding, Priority};

/// What there is to say of a letter but its payload and times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    pub topic: String,
    pub reason: DeadReason,
    pub priority: Priority,
    pub encoding: Encoding,
    pub producer: ProducerId,
    pub sequence: u64,
    pub origin: Origin,
    pub attempts: u32,
    pub detail: String,
}

/// Appends what there is to say of a letter.
pub(super) fn write(out: &mut String, letter: &DeadLetter<'_>) {
    let DeadLetter { event, reason, attempts, detail } = letter;
    let mut text = |key: &str, value: &str| {
        out.push(if key == "topic" { '{' } else { ',' });
        let _ = write!(out, "\"{key}\":");
        escape(out, value);
    };
    text("topic", event.topic);
    text("reason", reason.name());
    text("priority", priority_name(event.priority));
    text("encoding", encoding_name(event.encoding));
    text("producer", &hex(&event.producer));
    text("origin", &event.origin.to_string());
    text("detail", detail);
    let _ = write!(out, ",\"sequence\":{},\"attempts\":{attempts}}}", event.sequence);
}

fn escape(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl Facts {
    /// Reads what [`write`] wrote. What is said beside that is left out, as a later version may say more.
    pub fn parse(bytes: &[u8]) -> Option<Facts> {
        let fields = object(std::str::from_utf8(bytes).ok()?)?;
        let text = |key: &str| match fields.get(key)? {
            Value::Text(text) => Some(text.as_str()),
            Value::Number(_) => None,
        };
        let number = |key: &str| match fields.get(key)? {
            Value::Number(number) => Some(*number),
            Value::Text(_) => None,
        };
        let reason = text("reason")?;
        Some(Facts {
            topic: text("topic")?.into(),
            reason: DeadReason::ALL.into_iter().find(|known| known.name() == reason)?,
            priority: priority_of(text("priority")?)?,
            encoding: encoding_of(text("encoding")?)?,
            producer: producer_of(text("producer")?)?,
            sequence: number("sequence")?,
            origin: origin_of(text("origin")?)?,
            attempts: number("attempts")?.try_into().ok()?,
            detail: text("detail")?.into(),
        })
    }
}

fn origin_of(text: &str) -> Option<Origin> {
    match text.split_once(' ') {
        None => (text == "local").then_some(Origin::Local),
        Some(("tcp", peer)) => peer.parse::<SocketAddr>().ok().map(Origin::Tcp),
        Some(("udp", peer)) => peer.parse::<SocketAddr>().ok().map(Origin::Udp),
        Some(_) => None,
    }
}

enum Value {
    Text(String),
    Number(u64),
}

/// The members of an object that has no others within it.
fn object(text: &str) -> Option<BTreeMap<String, Value>> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim().strip_prefix('{')?.trim_start();
    if let Some(end) = rest.strip_prefix('}') {
        return end.is_empty().then_some(fields);
    }
    loop {
        let (key, behind) = string(rest)?;
        let value = behind.trim_start().strip_prefix(':')?.trim_start();
        let behind = if value.starts_with('"') {
            let (value, behind) = string(value)?;
            fields.insert(key, Value::Text(value));
            behind
        } else {
            let end = value.find(|c: char| !c.is_ascii_digit())?;
            fields.insert(key, Value::Number(value[..end].parse().ok()?));
            &value[end..]
        };
        let behind = behind.trim_start();
        if let Some(end) = behind.strip_prefix('}') {
            return end.is_empty().then_some(fields);
        }
        rest = behind.strip_prefix(',')?.trim_start();
    }
}

/// A string, and what is behind it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut value = String::new();
    loop {
        let end = rest.find(['"', '\\'])?;
        value.push_str(&rest[..end]);
        if let Some(behind) = rest[end..].strip_prefix('"') {
            return Some((value, behind));
        }
        let mut chars = rest[end + 1..].chars();
        match chars.next()? {
            c @ ('"' | '\\' | '/') => value.push(c),
            'n' => value.push('\n'),
            't' => value.push('\t'),
            'r' => value.push('\r'),
            'b' => value.push('\u{8}'),
            'f' => value.push('\u{c}'),
            'u' => {
                let (c, behind) = unicode(chars.as_str())?;
                value.push(c);
                rest = behind;
                continue;
            }
            _ => return None,
        }
        rest = chars.as_str();
    }
}

/// A character by one unit of UTF-16 or two, and what is behind them.
fn unicode(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| {
        let digits = text.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(text)?;
    if let Some(c) = char::from_u32(first.into()) {
        return Some((c, &text[4..]));
    }
    let second = text[4..].strip_prefix("\\u")?;
    let c = char::decode_utf16([first, unit(second)?]).next()?.ok()?;
    Some((c, &second[4..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Event;

    fn origins() -> impl Strategy<Value = Origin> {
        let peer = prop_oneof![Just("127.0.0.1:7000"), Just("[::1]:65535"), Just("[fe80::1]:1"),];
        prop_oneof![
            Just(Origin::Local),
            peer.clone().prop_map(|peer| Origin::Tcp(peer.parse().unwrap())),
            peer.prop_map(|peer| Origin::Udp(peer.parse().unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_said_of_a_letter_is_read_again(
            topic in "[a-z/]{1,40}", detail in any::<String>(), producer: [u8; 16], sequence: u64, attempts: u32,
            reason in 0..7usize, priority in 0..5u8, encoding in 0..4u8, origin in origins(),
        ) {
            let reason = DeadReason::ALL[reason];
            let priority = Priority::from_code(priority).unwrap();
            let encoding = Encoding::from_code(encoding).unwrap();
            let event = Event {
                topic: &topic, payload: b"", priority, encoding, producer, sequence, timestamp: 0, received: 0, origin,
            };
            let mut text = String::new();
            write(&mut text, &DeadLetter { event, reason, attempts, detail: &detail });
            let facts = Facts { topic, reason, priority, encoding, producer, sequence, origin, attempts, detail };
            prop_assert_eq!(Facts::parse(text.as_bytes()), Some(facts), "{}", text);
        }

        #[test]
        fn whatever_is_in_a_file_is_read_or_refused(text in any::<String>(), at in 0..200usize, byte: u8) {
            Facts::parse(text.as_bytes());
            let event = Event {
                topic: "t", payload: b"", priority: Priority::Low, encoding: Encoding::Raw, producer: [7; 16],
                sequence: 7, timestamp: 0, received: 0, origin: Origin::Local,
            };
            let mut said = String::new();
            write(&mut said, &DeadLetter { event, reason: DeadReason::Rejected, attempts: 1, detail: &text });
            let mut bytes = said.into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            Facts::parse(&bytes);
            Facts::parse(&bytes[..at]);
        }
    }

    #[test]
    fn any_json_that_says_the_same_is_read() {
        let text = r#" { "topic" : "t" , "reason":"rejected","priority":"low","encoding":"raw","more":"\ud83d\ude00\/\t",
            "producer":"000000000000000000000000000000ff","origin":"local","detail":"a\u0000\"","sequence":1, "attempts":2 } "#;
        let facts = Facts::parse(text.as_bytes()).unwrap();
        assert_eq!((facts.detail.as_str(), facts.producer[15], facts.attempts), ("a\0\"", 255, 2));
        for wrong in ["", "{}", "{", "[]", r#"{"topic":1}"#, r#"{"topic":"\ud83d"}"#, r#"{"a":"\u12"}"#, r#"{"a":}"#] {
            assert_eq!(Facts::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
