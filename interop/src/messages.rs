//! What is published: messages with values that differ, and what those are as JSON and as CDR. The CDR is made here number by
//! number, and not taken from memory, so that it shows whether that is CDR.

use conduit::msgs::{Bool, Bytes, Header, Imu, Quaternion, Text, Time, Vector3};
use serde_json::{Value, json};

conduit::message! {
    /// Whose arrays are arrays of messages.
    pub struct Corner: "interop_msgs/msg/Corner" {
        pub x: f32,
        pub y: f32,
    }

    /// Each kind of field that there is, at each alignment.
    pub struct Kinds: "interop_msgs/msg/Kinds" {
        /// 0 or 1.
        pub is_valid: u8,
        pub pad: [u8; 1],
        pub small: i16,
        pub count: u32,
        pub bytes: [u8; 5],
        pub signed: [i8; 3],
        pub ids: [u16; 4],
        pub steps: [i32; 2],
        pub total: u64,
        pub offset: i64,
        pub ratio: f32,
        pub pair: [i16; 2],
        pub stamp: Time,
        pub corners: [Corner; 3],
        pub scale: f64,
        pub flags: [Bool; 3],
        pub name: Text<9>,
        pub data: Bytes<8>,
    }
}

/// What a field is.
pub trait Field {
    fn value(&self) -> Value;
    /// Appends it to the body of a message.
    fn cdr(&self, body: &mut Vec<u8>);
}

macro_rules! number {
    ($($t:ty => |$number:ident| $value:expr),+) => {$(
        impl Field for $t {
            fn value(&self) -> Value {
                let $number = *self;
                json!($value)
            }
            fn cdr(&self, body: &mut Vec<u8>) {
                body.resize(body.len().next_multiple_of(size_of::<$t>()), 0);
                body.extend(self.to_le_bytes());
            }
        }
    )+};
}
number!(u8 => |n| n, i8 => |n| n, u16 => |n| n, i16 => |n| n, u32 => |n| n, i32 => |n| n,
        u64 => |n| n.to_string(), i64 => |n| n.to_string(), f32 => |n| f64::from(n), f64 => |n| n);

impl<T: Field, const N: usize> Field for [T; N] {
    fn value(&self) -> Value {
        self.iter().map(Field::value).collect()
    }
    fn cdr(&self, body: &mut Vec<u8>) {
        self.iter().for_each(|element| element.cdr(body));
    }
}

impl Field for Bool {
    fn value(&self) -> Value {
        self.get().into()
    }
    fn cdr(&self, body: &mut Vec<u8>) {
        body.push(self.get().into());
    }
}

impl<const N: usize> Field for Text<N> {
    fn value(&self) -> Value {
        let mut body = Vec::new();
        self.cdr(&mut body);
        body.into()
    }
    fn cdr(&self, body: &mut Vec<u8>) {
        let end = body.len() + N;
        body.extend(self.as_bytes());
        body.resize(end, 0);
    }
}

impl<const N: usize> Field for Bytes<N> {
    fn value(&self) -> Value {
        let mut bytes = self.to_vec();
        bytes.resize(N, 0);
        json!({"len": self.len(), "bytes": bytes})
    }
    fn cdr(&self, body: &mut Vec<u8>) {
        (self.len() as u32).cdr(body);
        let end = body.len() + N;
        body.extend(&**self);
        body.resize(end, 0);
    }
}

macro_rules! message {
    ($($t:ty: $($field:ident)+;)+) => {$(
        impl Field for $t {
            fn value(&self) -> Value {
                json!({$(stringify!($field): self.$field.value()),+})
            }
            fn cdr(&self, body: &mut Vec<u8>) {
                $(self.$field.cdr(body);)+
            }
        }
    )+};
}
message! {
    Time: sec nanosec;
    Vector3: x y z;
    Quaternion: x y z w;
    Header: stamp frame_id;
    Imu: header orientation orientation_covariance angular_velocity angular_velocity_covariance linear_acceleration
        linear_acceleration_covariance;
    Corner: x y;
    Kinds: is_valid pad small count bytes signed ids steps total offset ratio pair stamp corners scale flags name data;
}

/// A message in CDR, as it is in a file.
pub fn cdr(message: &impl Field) -> Vec<u8> {
    let mut body = Vec::new();
    message.cdr(&mut body);
    [&[0, 1, 0, 0], &body[..]].concat()
}

/// Numbers that look random, and are the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The upper bits are the better ones.
        self.0 ^ self.0 >> 33
    }

    /// Large and small numbers; those that are easily taken for others, too.
    fn float(&mut self) -> f64 {
        match self.next() % 8 {
            0 => -0.0,
            1 => [f64::MAX, f64::MIN_POSITIVE, 5e-324, -1.0][self.next() as usize % 4],
            _ => (self.next() as i64 as f64) * 1e-15,
        }
    }

    fn small_float(&mut self) -> f32 {
        match self.next() % 8 {
            0 => [f32::MAX, 1e-45, -0.0][self.next() as usize % 3],
            _ => (self.next() as i32 as f32) * 1e-3,
        }
    }
}

pub fn imu(number: u64) -> Imu {
    let mut noise = Noise(number);
    let mut floats = || std::array::from_fn(|_| noise.float());
    Imu {
        header: Header {
            stamp: Time { sec: number as i32 - 100, nanosec: 999_999_999 - number as u32 },
            frame_id: Text::cut(&"größer".repeat(number as usize % 8)).0,
        },
        orientation: [1.0, 0.0, number as f64, -0.5].into(),
        orientation_covariance: floats(),
        angular_velocity: [number as f64 / 3.0, -1.0, 1e300].into(),
        angular_velocity_covariance: floats(),
        linear_acceleration: [0.0, -9.81, f64::EPSILON * number as f64].into(),
        linear_acceleration_covariance: floats(),
    }
}

pub fn kinds(number: u64) -> Kinds {
    let mut noise = Noise(!number);
    let mut message = Kinds {
        is_valid: number as u8 % 2,
        pad: [0],
        small: noise.next() as i16,
        count: noise.next() as u32,
        bytes: noise.next().to_le_bytes()[..5].try_into().expect("there are eight"),
        signed: std::array::from_fn(|_| noise.next() as i8),
        ids: std::array::from_fn(|_| noise.next() as u16),
        steps: std::array::from_fn(|_| noise.next() as i32),
        total: noise.next(),
        offset: noise.next() as i64,
        ratio: noise.small_float(),
        pair: std::array::from_fn(|_| noise.next() as i16),
        stamp: Time { sec: noise.next() as i32, nanosec: noise.next() as u32 },
        corners: std::array::from_fn(|_| Corner { x: noise.small_float(), y: noise.small_float() }),
        scale: noise.float(),
        flags: std::array::from_fn(|_| (noise.next() & 1 == 1).into()),
        name: Text::cut(&number.to_string()).0,
        data: Bytes::new(&noise.next().to_le_bytes()[..number as usize % 9]).expect("eight bytes have room"),
    };
    if number.is_multiple_of(5) {
        (message.total, message.offset, message.small, message.steps) = (u64::MAX, i64::MIN, i16::MIN, [i32::MAX; 2]);
    }
    message
}

/// Of all lengths, none included.
pub fn bytes(number: u64) -> Vec<u8> {
    let mut noise = Noise(number);
    (0..number % 200).map(|_| noise.next() as u8).collect()
}

pub fn json(number: u64) -> Vec<u8> {
    json!({"number": number, "text": "größer \u{1F980}\n".repeat(number as usize % 4)}).to_string().into_bytes()
}
