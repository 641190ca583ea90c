//! Writing a message from JSON.

use super::{Format, FormatError, Kind, Number, Shape};

/// Deepest nesting of a JSON text.
const MAX_NESTING: usize = 64;

/// A JSON text, read. Numbers stay text until it is known what they are for.
#[derive(Debug)]
enum Json<'t> {
    Null,
    Bool(bool),
    Number(&'t str),
    String(String),
    Array(Vec<Json<'t>>),
    Object(Vec<(String, Json<'t>)>),
}

pub(super) fn encode(format: &Format, json: &str) -> Result<Vec<u8>, FormatError> {
    let json = Parser { text: json, at: 0 }.whole()?;
    let mut bytes = vec![0; format.size()];
    put(format, format.whole(), &json, &mut bytes, &mut String::new())?;
    Ok(bytes)
}

/// Writes a value of `shape` over `bytes`, which has its length. `path` says where that is, and is left as it was.
fn put(format: &Format, shape: Shape, json: &Json<'_>, bytes: &mut [u8], path: &mut String) -> Result<(), FormatError> {
    let here = path.len();
    match (shape, json) {
        (Shape { kind: Kind::Number(Number::Char), count: Some(count) }, Json::String(text)) => {
            if text.contains('\0') {
                return Err(wrong(path, "a text with a NUL would end there".into()));
            }
            let room = bytes.get_mut(..text.len()).ok_or_else(|| {
                wrong(path, format!("a text of at most {count} bytes is expected, not of {}", text.len()))
            })?;
            room.copy_from_slice(text.as_bytes());
            Ok(())
        }
        (Shape { kind, count: Some(count) }, Json::Array(elements)) => {
            if elements.len() != count {
                return Err(wrong(path, format!("{count} elements are expected, not {}", elements.len())));
            }
            let stride = bytes.len() / count;
            for (at, (element, bytes)) in elements.iter().zip(bytes.chunks_exact_mut(stride)).enumerate() {
                path.push_str(&format!("[{at}]"));
                put(format, Shape { kind, count: None }, element, bytes, path)?;
                path.truncate(here);
            }
            Ok(())
        }
        (Shape { kind: Kind::Struct(index), count: None }, Json::Object(fields)) => {
            let of = &format.types[index];
            for (at, (name, value)) in fields.iter().enumerate() {
                let Some(member) = of.fields.iter().find(|member| member.name == *name) else {
                    let known: Vec<_> = of.fields.iter().map(|member| member.name.as_str()).collect();
                    let reason = format!("{} has no field {name:?}: it has {}", of.name, known.join(", "));
                    return Err(wrong(path, reason));
                };
                if fields[..at].iter().any(|(other, _)| other == name) {
                    return Err(wrong(path, format!("field {name:?} is there twice")));
                }
                let size = format.size_of(member.shape).unwrap_or(0);
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                put(format, member.shape, value, &mut bytes[member.offset..member.offset + size], path)?;
                path.truncate(here);
            }
            Ok(())
        }
        (Shape { kind: Kind::Number(number), count: None }, json) => put_number(number, json, bytes, path),
        (shape, json) => {
            let expected = match shape.count {
                Some(count) => format!("an array of {count}"),
                None => "an object".into(),
            };
            Err(wrong(path, format!("{expected} is expected, not {}", describe(json))))
        }
    }
}

fn put_number(number: Number, json: &Json<'_>, bytes: &mut [u8], path: &str) -> Result<(), FormatError> {
    macro_rules! float {
        ($type:ty) => {{
            let value = match json {
                Json::Number(text) => text.parse::<$type>().ok().filter(|value| value.is_finite()),
                Json::String(text) => not_a_number(text).map(|value| value as $type),
                _ => None,
            };
            value.map(|value| bytes.copy_from_slice(&value.to_ne_bytes())).ok_or_else(|| {
                wrong(
                    path,
                    format!("a number in the range of {} is expected, not {}", stringify!($type), describe(json)),
                )
            })
        }};
    }
    macro_rules! integer {
        ($type:ty) => {{
            let value = match json {
                Json::Number(text) => text.parse::<$type>().ok(),
                _ => None,
            };
            value.map(|value| bytes.copy_from_slice(&value.to_ne_bytes())).ok_or_else(|| {
                let (least, most) = (<$type>::MIN, <$type>::MAX);
                wrong(path, format!("an integer from {least} to {most} is expected, not {}", describe(json)))
            })
        }};
    }
    match number {
        Number::Bool => match json {
            Json::Bool(value) => {
                bytes[0] = u8::from(*value);
                Ok(())
            }
            _ => Err(wrong(path, format!("true or false is expected, not {}", describe(json)))),
        },
        Number::Char | Number::U8 => integer!(u8),
        Number::I8 => integer!(i8),
        Number::U16 => integer!(u16),
        Number::I16 => integer!(i16),
        Number::U32 => integer!(u32),
        Number::I32 => integer!(i32),
        Number::U64 => integer!(u64),
        Number::I64 => integer!(i64),
        Number::F32 => float!(f32),
        Number::F64 => float!(f64),
    }
}

fn not_a_number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn describe(json: &Json<'_>) -> String {
    match json {
        Json::Null => "null".into(),
        Json::Bool(value) => value.to_string(),
        Json::Number(text) => text.chars().take(40).collect(),
        Json::String(_) => "a string".into(),
        Json::Array(_) => "an array".into(),
        Json::Object(_) => "an object".into(),
    }
}

fn wrong(path: &str, reason: String) -> FormatError {
    FormatError::Json { path: path.into(), reason }
}

/// A recursive-descent parser of RFC 8259.
struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn whole(mut self) -> Result<Json<'t>, FormatError> {
        let json = self.value(0)?;
        self.skip_space();
        if self.at == self.text.len() { Ok(json) } else { Err(self.wrong("more follows the value")) }
    }

    fn wrong(&self, reason: &str) -> FormatError {
        wrong("", format!("no JSON: {reason}, at byte {}", self.at))
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Json<'t>, FormatError> {
        if depth == MAX_NESTING {
            return Err(self.wrong("it is nested too deep"));
        }
        self.skip_space();
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.wrong("a value is expected")),
            None => Err(self.wrong("it ends too early")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'t>, FormatError> {
        self.at += 1;
        let mut fields = Vec::new();
        if self.take(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a name in quotation marks is expected"));
            }
            let name = self.string()?;
            if !self.take(b':') {
                return Err(self.wrong("`:` is expected"));
            }
            fields.push((name, self.value(depth + 1)?));
            if self.take(b'}') {
                return Ok(Json::Object(fields));
            }
            if !self.take(b',') {
                return Err(self.wrong("`,` or `}` is expected"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json<'t>, FormatError> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.take(b']') {
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Ok(Json::Array(elements));
            }
            if !self.take(b',') {
                return Err(self.wrong("`,` or `]` is expected"));
            }
        }
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self) -> Result<Json<'t>, FormatError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.text.as_bytes()[self.at - whole] == b'0') {
            return Err(self.wrong("a number has no leading zeros"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.wrong("digits are expected"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(self.wrong("digits are expected"));
            }
        }
        Ok(Json::Number(&self.text[start..self.at]))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn string(&mut self) -> Result<String, FormatError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let plain = self.rest().find(['"', '\\']).ok_or_else(|| self.wrong("a string does not end"))?;
            let piece = &self.rest()[..plain];
            if piece.bytes().any(|byte| byte < 0x20) {
                return Err(self.wrong("a string has a control character"));
            }
            text.push_str(piece);
            self.at += plain + 1;
            if self.text.as_bytes()[self.at - 1] == b'"' {
                return Ok(text);
            }
            let escape = self.peek().ok_or_else(|| self.wrong("a string does not end"))?;
            self.at += 1;
            text.push(match escape {
                b'"' | b'\\' | b'/' => char::from(escape),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unicode()?,
                _ => return Err(self.wrong("there is no such escape")),
            });
        }
    }

    fn unicode(&mut self) -> Result<char, FormatError> {
        let high = self.four_digits()?;
        let code = match high {
            0xd800..0xdc00 if self.rest().starts_with("\\u") => {
                self.at += 2;
                match self.four_digits()? {
                    low @ 0xdc00..0xe000 => 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00),
                    _ => high,
                }
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.wrong("half a surrogate pair"))
    }

    fn four_digits(&mut self) -> Result<u32, FormatError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|text| u32::from_str_radix(text, 16).ok());
        self.at += 4;
        code.ok_or_else(|| wrong("", "no JSON: four hexadecimal digits are expected after \\u".into()))
    }
}
